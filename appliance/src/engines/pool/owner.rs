//! The task that owns the sessions: hears requests one after the other, and decides through `plan`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onebit_kernels::threads::Threads;
use tokio::sync::{mpsc, oneshot};

use super::super::plan::{Loaded, Plan, Wanted, plan};
use super::super::{Engine, EngineError, Fit, Means, Session, Slot};
use super::{Command, Lease, ModelState, ReadMachine};
use crate::config::PoolConfig;
use crate::domain::{Machine, Model};

/// Requests that may wait for one model to load; each is a small value, a page sends a handful.
const WAITERS_MAX: usize = 1024;

/// A failed load is tried again after this long; sooner, its error is repeated.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How often idle models are looked for.
const IDLE_CHECK: Duration = Duration::from_secs(5);

type Waiter = oneshot::Sender<Result<Lease, EngineError>>;

enum State {
    /// Waits for room, or is being loaded.
    Loading {
        waiters: Vec<Waiter>,
        memory_bytes: u64,
    },
    Loaded {
        session: Arc<dyn Session>,
        leases: usize,
        last_used: u64,
        idle_since: Instant,
        drain: Drain,
    },
    Failed {
        error: EngineError,
        at: Instant,
    },
}

/// Whether a loaded model takes new requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drain {
    /// It does.
    No,
    /// Its room is needed: new requests wait until that is settled.
    ForRoom,
    /// It was told to leave: it goes when its last lease ends.
    Leaving,
}

struct Entry {
    model: Model,
    serial: u64,
    state: State,
}

/// The state of the task; nobody else touches it.
pub(super) struct Owner {
    /// Asked in this order.
    engines: &'static [&'static dyn Engine],
    settings: PoolConfig,
    means: Arc<Means>,
    threads: Arc<Threads>,
    machine: ReadMachine,
    commands: mpsc::WeakUnboundedSender<Command>,
    entries: HashMap<String, Entry>,
    /// Bytes of sessions that were dropped and are still being freed.
    leaving_bytes: u64,
    serial: u64,
    /// Models that wait for room, first come first served.
    wanting: Vec<String>,
    /// Requests for models that are being drained.
    postponed: Vec<(Model, Waiter)>,
}

impl Owner {
    pub(super) fn new(
        engines: &'static [&'static dyn Engine],
        settings: PoolConfig,
        means: Arc<Means>,
        threads: Arc<Threads>,
        machine: ReadMachine,
        commands: mpsc::WeakUnboundedSender<Command>,
    ) -> Owner {
        Owner {
            engines,
            settings,
            means,
            threads,
            machine,
            commands,
            entries: HashMap::new(),
            leaving_bytes: 0,
            serial: 0,
            wanting: Vec::new(),
            postponed: Vec::new(),
        }
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let mut idle_check = tokio::time::interval(IDLE_CHECK);
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.handle(command),
                    None => return,
                },
                _ = idle_check.tick() => self.unload_idle(),
            }
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Acquire { model, reply } => self.acquire(*model, reply),
            Command::Return { id, serial } => self.returned(&id, serial),
            Command::Ready { id, serial, result } => self.ready(&id, serial, result),
            Command::Unloaded { memory_bytes } => {
                self.leaving_bytes = self.leaving_bytes.saturating_sub(memory_bytes);
                self.make_room();
            }
            Command::Unload { id, reply } => {
                // A listener that has gone away does not keep the model.
                let _ = reply.send(self.unload(&id));
            }
            Command::States { reply } => {
                let _ = reply.send(self.states());
            }
        }
    }

    fn acquire(&mut self, model: Model, reply: Waiter) {
        let id = model.id.clone();
        let serial = self.next_serial();
        let changed = |entry: &Entry| entry.model.sha256 != model.sha256;
        if self
            .entries
            .get(&id)
            .is_some_and(|entry| match &entry.state {
                State::Failed { at, .. } => at.elapsed() > RETRY_AFTER || changed(entry),
                State::Loaded {
                    session, leases, ..
                } => !session.alive() || (*leases == 0 && changed(entry)),
                State::Loading { .. } => false,
            })
        {
            self.remove(&id);
        }
        if let Some(Entry {
            state: State::Loaded { drain, .. },
            ..
        }) = self.entries.get(&id)
            && *drain != Drain::No
        {
            if self.postponed.len() < WAITERS_MAX {
                self.postponed.push((model, reply));
            } else {
                let _ = reply.send(Err(EngineError::QueueFull {
                    waiting: WAITERS_MAX,
                }));
            }
            return;
        }
        let entry = self.entries.entry(id.clone()).or_insert_with(|| {
            self.wanting.push(id.clone());
            Entry {
                model,
                serial,
                state: State::Loading {
                    waiters: Vec::new(),
                    memory_bytes: 0,
                },
            }
        });
        match &mut entry.state {
            State::Loading { waiters, .. } => {
                if waiters.len() < WAITERS_MAX {
                    waiters.push(reply);
                } else {
                    let _ = reply.send(Err(EngineError::QueueFull {
                        waiting: WAITERS_MAX,
                    }));
                }
            }
            State::Loaded { .. } => {
                self.grant(&id, reply);
                return;
            }
            State::Failed { error, .. } => {
                let _ = reply.send(Err(error.clone()));
                return;
            }
        }
        self.make_room();
    }

    /// Hands out a lease; on a dead receiver the lease drops at once and returns by message.
    fn grant(&mut self, id: &str, reply: Waiter) {
        let Some(commands) = self.commands.upgrade() else {
            return;
        };
        let now = self.next_serial();
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        if let State::Loaded {
            session,
            leases,
            last_used,
            ..
        } = &mut entry.state
        {
            *leases += 1;
            *last_used = now;
            let lease = Lease {
                session: Arc::clone(session),
                id: id.to_owned(),
                serial: entry.serial,
                commands,
            };
            let _ = reply.send(Ok(lease));
        }
    }

    fn returned(&mut self, id: &str, serial: u64) {
        let Some(entry) = self
            .entries
            .get_mut(id)
            .filter(|entry| entry.serial == serial)
        else {
            return;
        };
        let State::Loaded {
            leases,
            idle_since,
            drain,
            ..
        } = &mut entry.state
        else {
            return;
        };
        *leases -= 1;
        if *leases > 0 {
            return;
        }
        *idle_since = Instant::now();
        if *drain == Drain::Leaving {
            self.remove(id);
        }
        self.make_room();
    }

    fn ready(&mut self, id: &str, serial: u64, result: Result<Arc<dyn Session>, EngineError>) {
        let last_used = self.next_serial();
        let Some(entry) = self
            .entries
            .get_mut(id)
            .filter(|entry| entry.serial == serial)
        else {
            return;
        };
        let State::Loading { waiters, .. } = &mut entry.state else {
            return;
        };
        let waiters = std::mem::take(waiters);
        match result {
            Ok(session) => {
                tracing::info!(
                    model = id,
                    bytes = session.facts().memory_bytes,
                    "model loaded"
                );
                entry.state = State::Loaded {
                    session,
                    leases: 0,
                    last_used,
                    idle_since: Instant::now(),
                    drain: Drain::No,
                };
                for waiter in waiters {
                    self.grant(id, waiter);
                }
            }
            Err(error) => self.fail(id, waiters, error),
        }
        self.make_room();
    }

    fn fail(&mut self, id: &str, waiters: Vec<Waiter>, error: EngineError) {
        tracing::warn!(model = id, %error, "model not loaded");
        for waiter in waiters {
            let _ = waiter.send(Err(error.clone()));
        }
        if let Some(entry) = self.entries.get_mut(id) {
            entry.state = State::Failed {
                error,
                at: Instant::now(),
            };
        }
    }

    /// Gives room to the models that wait for it, in their order, as far as it goes.
    fn make_room(&mut self) {
        while let Some(id) = self.wanting.first().cloned() {
            if !self.admit(&id) {
                return;
            }
            self.wanting.retain(|other| *other != id);
        }
        self.end_drain();
    }

    /// Nobody waits for room any more: drained models answer again, and postponed requests go on.
    fn end_drain(&mut self) {
        for entry in self.entries.values_mut() {
            if let State::Loaded { drain, .. } = &mut entry.state
                && *drain == Drain::ForRoom
            {
                *drain = Drain::No;
            }
        }
        let leaving = |entries: &HashMap<String, Entry>, id: &str| {
            matches!(
                entries.get(id),
                Some(Entry {
                    state: State::Loaded {
                        drain: Drain::Leaving,
                        ..
                    },
                    ..
                })
            )
        };
        let (stay, go): (Vec<_>, Vec<_>) = self
            .postponed
            .drain(..)
            .partition(|(model, _)| leaving(&self.entries, &model.id));
        self.postponed = stay;
        for (model, reply) in go {
            self.acquire(model, reply);
        }
    }

    /// Decides about one model; `false` when it has to go on waiting.
    fn admit(&mut self, id: &str) -> bool {
        let Some(entry) = self.entries.get(id) else {
            return true;
        };
        let machine = (self.machine)();
        let (engine, wanted) = match choose(self.engines, &entry.model, &machine, &self.means) {
            Ok(choice) => choice,
            Err(error) => return self.give_up(id, error),
        };
        let budget = self.budget(&machine);
        let loaded = self.loaded();
        let held = self.loading_bytes() + self.leaving_bytes;
        match plan(wanted, &loaded, budget.saturating_sub(held)) {
            Plan::Refuse if held > 0 => false,
            Plan::Refuse => {
                let error = EngineError::TooBig {
                    model: id.to_owned(),
                    needed_bytes: wanted.memory_bytes_min,
                    budget_bytes: budget,
                };
                self.give_up(id, error)
            }
            Plan::Drain { ids } => {
                for id in ids {
                    if let Some(Entry {
                        state: State::Loaded { drain, .. },
                        ..
                    }) = self.entries.get_mut(&id)
                        && *drain == Drain::No
                    {
                        *drain = Drain::ForRoom;
                    }
                }
                false
            }
            Plan::Load { evict, .. } if !evict.is_empty() => {
                for id in evict {
                    tracing::info!(model = id, "model unloaded to make room");
                    self.remove(&id);
                }
                false // goes on when their memory is free
            }
            Plan::Load { memory_bytes, .. } => {
                self.begin(id, engine, memory_bytes);
                true
            }
        }
    }

    fn give_up(&mut self, id: &str, error: EngineError) -> bool {
        if let Some(Entry {
            state: State::Loading { waiters, .. },
            ..
        }) = self.entries.get_mut(id)
        {
            let waiters = std::mem::take(waiters);
            self.fail(id, waiters, error);
        }
        true
    }

    fn begin(&mut self, id: &str, engine: &'static dyn Engine, memory: u64) {
        let Some(commands) = self.commands.upgrade() else {
            return;
        };
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        if let State::Loading { memory_bytes, .. } = &mut entry.state {
            *memory_bytes = memory;
        }
        let slot = Slot {
            memory_bytes_max: memory,
            threads: Arc::clone(&self.threads),
            means: Arc::clone(&self.means),
        };
        let (id, serial, model) = (id.to_owned(), entry.serial, entry.model.clone());
        tokio::spawn(async move {
            let result = engine.load(&model, slot).await;
            let _ = commands.send(Command::Ready { id, serial, result });
        });
    }

    fn unload(&mut self, id: &str) -> bool {
        match self.entries.get_mut(id).map(|entry| &mut entry.state) {
            Some(State::Loaded { leases: 0, .. }) => {
                self.remove(id);
                true
            }
            Some(State::Loaded { drain, .. }) => {
                *drain = Drain::Leaving;
                true
            }
            Some(State::Failed { .. }) => {
                self.entries.remove(id);
                false
            }
            Some(State::Loading { .. }) | None => false,
        }
    }

    /// Takes a session out and frees it on a blocking thread, for its last thread has to end first.
    fn remove(&mut self, id: &str) {
        let Some(entry) = self.entries.remove(id) else {
            return;
        };
        let State::Loaded { session, .. } = entry.state else {
            return;
        };
        let memory_bytes = session.facts().memory_bytes;
        self.leaving_bytes += memory_bytes;
        let commands = self.commands.clone();
        tokio::task::spawn_blocking(move || {
            drop(session);
            if let Some(commands) = commands.upgrade() {
                let _ = commands.send(Command::Unloaded { memory_bytes });
            }
        });
    }

    fn unload_idle(&mut self) {
        if self.settings.idle_unload_s == 0 {
            return;
        }
        let limit = Duration::from_secs(self.settings.idle_unload_s);
        let idle: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, entry)| {
                matches!(&entry.state, State::Loaded { leases: 0, idle_since, .. } if idle_since.elapsed() > limit)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in idle {
            tracing::info!(model = id, "idle model unloaded");
            self.remove(&id);
        }
    }

    fn loaded(&self) -> Vec<Loaded> {
        let of = |(id, entry): (&String, &Entry)| match &entry.state {
            State::Loaded {
                session,
                leases,
                last_used,
                ..
            } => Some(Loaded {
                id: id.clone(),
                memory_bytes: session.facts().memory_bytes,
                busy: *leases > 0,
                last_used: *last_used,
            }),
            State::Loading { .. } | State::Failed { .. } => None,
        };
        self.entries.iter().filter_map(of).collect()
    }

    fn loading_bytes(&self) -> u64 {
        let of = |entry: &Entry| match entry.state {
            State::Loading { memory_bytes, .. } => memory_bytes,
            State::Loaded { .. } | State::Failed { .. } => 0,
        };
        self.entries.values().map(of).sum()
    }

    /// Bytes that all models may take together: set, or a share of what is free or already theirs.
    fn budget(&self, machine: &Machine) -> u64 {
        if self.settings.memory_bytes_max > 0 {
            return self.settings.memory_bytes_max;
        }
        let ours: u64 = self.loaded().iter().map(|model| model.memory_bytes).sum();
        let reachable = machine
            .memory_available_bytes
            .saturating_add(ours + self.leaving_bytes);
        (reachable.min(machine.memory_total_bytes) as f64 * self.settings.memory_share) as u64
    }

    fn states(&self) -> HashMap<String, ModelState> {
        let of = |entry: &Entry| match &entry.state {
            State::Loading { .. } => ModelState::Loading,
            State::Loaded { session, .. } => ModelState::Loaded {
                engine: session.facts().engine,
                memory_bytes: session.facts().memory_bytes,
                context_length: session.facts().context_length,
                load: session.load(),
            },
            State::Failed { error, .. } => ModelState::Failed {
                why: error.to_string(),
            },
        };
        self.entries
            .iter()
            .map(|(id, entry)| (id.clone(), of(entry)))
            .collect()
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

/// Asks the engines in their order; the first that fits runs the model.
fn choose(
    engines: &[&'static dyn Engine],
    model: &Model,
    machine: &Machine,
    means: &Means,
) -> Result<(&'static dyn Engine, Wanted), EngineError> {
    let mut reasons = Vec::new();
    for engine in engines {
        match engine.fit(model, machine, means) {
            Fit::Runs {
                memory_bytes_min,
                memory_bytes,
            } => {
                return Ok((
                    *engine,
                    Wanted {
                        memory_bytes_min,
                        memory_bytes,
                    },
                ));
            }
            Fit::No { why } => reasons.push(format!("{}: {why}", engine.card().name)),
        }
    }
    Err(EngineError::NoFit {
        model: model.id.clone(),
        why: reasons.join("; "),
    })
}
