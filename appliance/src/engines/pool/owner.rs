//! The task that owns the sessions: hears requests one after the other, and decides through `plan`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onebit_kernels::threads::Threads;
use tokio::sync::mpsc;

use super::super::plan::{Plan, Wanted, plan};
use super::super::{Engine, EngineError, Fit, Means, Session, Slot, Task};
use super::entry::{Drain, Entry, State, Uses, Waiter, name_of};
use super::{Command, Lease, Place, ReadMachine, Stay};
use crate::config::PoolConfig;
use crate::domain::{Machine, Model};

/// Requests that may wait for one model to load; each is a small value, a page sends a handful.
const WAITERS_MAX: usize = 1024;

/// A failed load is tried again after this long; sooner, its error is repeated.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How often idle models are looked for: clients give their time in seconds.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// The state of the task; nobody else touches it.
pub(super) struct Owner {
    /// Asked in this order.
    pub(super) engines: &'static [&'static dyn Engine],
    pub(super) settings: PoolConfig,
    pub(super) means: Arc<Means>,
    pub(super) threads: Arc<Threads>,
    pub(super) machine: ReadMachine,
    pub(super) commands: mpsc::WeakUnboundedSender<Command>,
    pub(super) entries: HashMap<Place, Entry>,
    /// Models that do not stay as the settings say.
    pub(super) stays: HashMap<String, (Model, Stay)>,
    /// Bytes of sessions that were dropped and are still being freed.
    pub(super) leaving_bytes: u64,
    pub(super) serial: u64,
    /// Models that wait for room, first come first served.
    pub(super) wanting: Vec<Place>,
    /// Requests for models that are being drained.
    pub(super) postponed: Vec<(Model, Place, Waiter)>,
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
            stays: HashMap::new(),
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
                _ = idle_check.tick() => {
                    self.unload_idle();
                    self.restore_pinned();
                }
            }
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Acquire {
                model,
                on,
                task,
                reply,
            } => match self.place(&model, on, Some(task)) {
                Ok(place) => self.acquire(*model, place, reply),
                Err(error) => self.cannot(*model, error, reply),
            },
            Command::Return { place, serial } => self.returned(&place, serial),
            Command::Ready {
                place,
                serial,
                took,
                result,
            } => self.ready(&place, serial, took, result),
            Command::Unloaded { memory_bytes } => {
                self.leaving_bytes = self.leaving_bytes.saturating_sub(memory_bytes);
                self.make_room();
            }
            Command::Unload { id, reply } => {
                // A listener that has gone away does not keep the model.
                let _ = reply.send(self.unload(&id));
            }
            Command::Stay { model, stay } => self.stay(*model, stay),
            Command::States { reply } => {
                let _ = reply.send(self.states());
            }
            Command::Survey { machine, reply } => {
                let _ = reply.send(self.survey(&machine));
            }
        }
    }

    /// Where a request for a model goes: to the lane that was named, to where the model is already, or to the first
    /// lane that runs it and has not just failed to.
    pub(super) fn place(
        &self,
        model: &Model,
        on: Option<(&'static str, &'static str)>,
        task: Option<Task>,
    ) -> Result<Place, EngineError> {
        if let Some((engine, lane)) = on {
            let model = model.id.clone();
            return Ok(Place {
                model,
                engine,
                lane,
            });
        }
        let places = places(self.engines, task, model, &(self.machine)(), &self.means)?;
        let state = |at: &&Place| self.entries.get(*at).map(|entry| &entry.state);
        let held = |at: &&Place| match state(at) {
            Some(State::Loading { .. }) => true,
            Some(State::Loaded { session, .. }) => session.alive(),
            Some(State::Failed { .. }) | None => false,
        };
        let sound = |at: &&Place| !matches!(state(at), Some(State::Failed { .. }));
        let mut chosen = places.iter().find(held);
        chosen = chosen.or_else(|| places.iter().find(sound));
        let nowhere = || EngineError::NoFit {
            model: model.id.clone(),
            why: "no engine has a lane for it".into(),
        };
        chosen.or(places.first()).cloned().ok_or_else(nowhere)
    }

    /// No engine runs the model: said to the one who asked, and kept for listings.
    pub(super) fn cannot(&mut self, model: Model, error: EngineError, reply: Waiter) {
        let place = Place {
            model: model.id.clone(),
            engine: "",
            lane: "",
        };
        let entry = Entry {
            model,
            serial: self.next_serial(),
            state: State::Failed {
                error: error.clone(),
                at: Instant::now(),
            },
        };
        self.entries.insert(place, entry);
        let _ = reply.send(Err(error));
    }

    pub(super) fn acquire(&mut self, model: Model, id: Place, reply: Waiter) {
        let nowhere = Place {
            model: model.id.clone(),
            engine: "",
            lane: "",
        };
        self.entries.remove(&nowhere);
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
                self.postponed.push((model, id, reply));
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
                self.grant(&id, reply, None);
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
    fn grant(&mut self, id: &Place, reply: Waiter, loaded_in: Option<Duration>) {
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
            uses,
            ..
        } = &mut entry.state
        {
            *leases += 1;
            *last_used = now;
            uses.one_more();
            let lease = Lease {
                session: Arc::clone(session),
                place: id.clone(),
                serial: entry.serial,
                loaded_in,
                commands,
            };
            let _ = reply.send(Ok(lease));
        }
    }

    fn returned(&mut self, id: &Place, serial: u64) {
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

    fn ready(
        &mut self,
        id: &Place,
        serial: u64,
        took: Duration,
        result: Result<Arc<dyn Session>, EngineError>,
    ) {
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
                    model = id.model,
                    engine = id.engine,
                    lane = id.lane,
                    ms = took.as_millis() as u64,
                    bytes = session.facts().memory_bytes,
                    "model loaded"
                );
                entry.state = State::Loaded {
                    session,
                    leases: 0,
                    last_used,
                    idle_since: Instant::now(),
                    drain: Drain::No,
                    loaded_in: took,
                    uses: Uses::new(),
                };
                let mut caused = Some(took);
                for waiter in waiters {
                    self.grant(id, waiter, caused.take());
                }
            }
            Err(error) => self.fail(id, waiters, error),
        }
        self.make_room();
    }

    fn fail(&mut self, id: &Place, waiters: Vec<Waiter>, error: EngineError) {
        tracing::warn!(model = id.model, engine = id.engine, lane = id.lane, %error, "model not loaded");
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
        let leaving = |entries: &HashMap<Place, Entry>, id: &Place| {
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
            .partition(|(_, place, _)| leaving(&self.entries, place));
        self.postponed = stay;
        for (model, place, reply) in go {
            self.acquire(model, place, reply);
        }
    }

    /// Decides about one model; `false` when it has to go on waiting.
    fn admit(&mut self, id: &Place) -> bool {
        let Some(entry) = self.entries.get(id) else {
            return true;
        };
        let machine = (self.machine)();
        let no = |why: String| EngineError::NoFit {
            model: id.model.clone(),
            why,
        };
        let named = |engine: &&&'static dyn Engine| engine.card().name == id.engine;
        let Some(&engine) = self.engines.iter().find(named) else {
            return self.give_up(id, no(format!("there is no engine `{}`", id.engine)));
        };
        let wanted = match engine.fit(&entry.model, &machine, &self.means) {
            Fit::Runs {
                memory_bytes_min,
                memory_bytes,
            } => Wanted {
                memory_bytes_min,
                memory_bytes,
            },
            Fit::No { why } => return self.give_up(id, no(format!("{}: {why}", id.engine))),
        };
        let budget = self.budget(&machine);
        let loaded = self.loaded();
        let held = self.loading_bytes() + self.leaving_bytes;
        match plan(wanted, &loaded, budget.saturating_sub(held)) {
            Plan::Refuse if held > 0 => false,
            Plan::Refuse => {
                let kept = loaded.iter().filter(|model| model.pinned);
                let kept: u64 = kept.map(|model| model.memory_bytes).sum();
                let error = EngineError::TooBig {
                    model: id.model.clone(),
                    needed_bytes: wanted.memory_bytes_min,
                    budget_bytes: budget.saturating_sub(kept),
                };
                self.give_up(id, error)
            }
            Plan::Drain { ids } => {
                for (at, entry) in &mut self.entries {
                    if let State::Loaded { drain, .. } = &mut entry.state
                        && ids.contains(&name_of(at))
                        && *drain == Drain::No
                    {
                        *drain = Drain::ForRoom;
                    }
                }
                false
            }
            Plan::Load { evict, .. } if !evict.is_empty() => {
                let leaving: Vec<Place> = self
                    .entries
                    .keys()
                    .filter(|at| evict.contains(&name_of(at)))
                    .cloned()
                    .collect();
                for id in leaving {
                    tracing::info!(model = id.model, "model unloaded to make room");
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

    fn give_up(&mut self, id: &Place, error: EngineError) -> bool {
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

    fn begin(&mut self, id: &Place, engine: &'static dyn Engine, memory: u64) {
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
            lane: id.lane,
            threads: Arc::clone(&self.threads),
            means: Arc::clone(&self.means),
        };
        let (place, serial, model) = (id.clone(), entry.serial, entry.model.clone());
        tokio::spawn(async move {
            let begun = Instant::now();
            let result = engine.load(&model, slot).await;
            let _ = commands.send(Command::Ready {
                place,
                serial,
                took: begun.elapsed(),
                result,
            });
        });
    }

    /// Unloads a model wherever it is.
    fn unload(&mut self, id: &str) -> bool {
        let places: Vec<Place> = self
            .entries
            .keys()
            .filter(|place| place.model == id)
            .cloned()
            .collect();
        let mut unloaded = false;
        for place in places {
            unloaded |= self.unload_from(&place);
        }
        unloaded
    }

    fn unload_from(&mut self, id: &Place) -> bool {
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
    pub(super) fn remove(&mut self, id: &Place) {
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

    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

/// Asks the engines in their order; those that fit run the model, each on its lanes in their order.
fn places(
    engines: &[&'static dyn Engine],
    task: Option<Task>,
    model: &Model,
    machine: &Machine,
    means: &Means,
) -> Result<Vec<Place>, EngineError> {
    let (mut places, mut reasons) = (Vec::new(), Vec::new());
    for engine in engines {
        let name = engine.card().name;
        if task.is_some_and(|task| !engine.card().tasks.contains(&task)) {
            continue;
        }
        match engine.fit(model, machine, means) {
            Fit::Runs { .. } => {
                let lanes = engine.lanes(model, means);
                let names = lanes.iter().map(|lane| lane.name);
                let alone = lanes.is_empty().then_some("");
                places.extend(names.chain(alone).map(|lane| Place {
                    model: model.id.clone(),
                    engine: name,
                    lane,
                }));
            }
            Fit::No { why } => reasons.push(format!("{name}: {why}")),
        }
    }
    if !places.is_empty() {
        return Ok(places);
    }
    Err(EngineError::NoFit {
        model: model.id.clone(),
        why: reasons.join("; "),
    })
}
