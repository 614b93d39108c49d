//! Requests on their way: what runs where now, how long it will take, and who may go before whom.
//!
//! Owns the present. The router reads from it how full a lane is; background work waits in it until its lane has
//! a free place and nobody else wants it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};

use crate::engines::lanes::{Lane, Silicon};
use crate::engines::route::{Now, Power, Priority};
use crate::engines::{EngineError, Load};

/// Background requests that wait at a time; each is a task and its prompt.
const BACKGROUND_MAX: usize = 512;
/// After this long even background work gets its place in the queue.
const BACKGROUND_WAIT: Duration = Duration::from_secs(120);
/// Sessions are asked again after this long, should a place be freed by something that is no request.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The share of its estimate that a late request is still expected to take.
const LATE_SHARE: f64 = 0.1;

/// One request that has been sent to a lane.
struct Flight {
    lane: &'static str,
    silicon: Silicon,
    model: String,
    begun: Instant,
    eta_s: f64,
    person: bool,
}

impl Flight {
    fn left_s(&self) -> f64 {
        (self.eta_s - self.begun.elapsed().as_secs_f64()).max(self.eta_s * LATE_SHARE)
    }
}

#[derive(Default)]
struct Table {
    flights: HashMap<u64, Flight>,
    serial: u64,
}

/// All requests on their way; clones share them.
#[derive(Clone)]
pub(super) struct Flights(Arc<Shared>);

struct Shared {
    /// A std mutex: held for a look or a change, never across an await.
    table: Mutex<Table>,
    ended: Notify,
    waiting: Semaphore,
    /// One background request at a time looks for its place.
    gate: tokio::sync::Mutex<()>,
}

impl Default for Flights {
    fn default() -> Self {
        Self(Arc::new(Shared {
            table: Mutex::default(),
            ended: Notify::new(),
            waiting: Semaphore::new(BACKGROUND_MAX),
            gate: tokio::sync::Mutex::default(),
        }))
    }
}

/// A request's entry; dropping it ends it.
pub(super) struct Aboard {
    flights: Flights,
    id: u64,
}

impl Drop for Aboard {
    fn drop(&mut self) {
        self.flights.lock().flights.remove(&self.id);
        self.flights.0.ended.notify_waiters();
    }
}

/// How full one lane is with one model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Pressure {
    /// Requests there.
    pub(super) active: usize,
    /// Seconds of work before a new one.
    pub(super) queue_s: f64,
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a request.
    pub(super) fn begin(&self, lane: &Lane, model: &str, eta_s: f64, priority: Priority) -> Aboard {
        let flight = Flight {
            lane: lane.name,
            silicon: lane.silicon,
            model: model.to_owned(),
            begun: Instant::now(),
            eta_s,
            person: priority == Priority::Interactive,
        };
        let mut table = self.lock();
        table.serial += 1;
        let id = table.serial;
        table.flights.insert(id, flight);
        Aboard {
            flights: self.clone(),
            id,
        }
    }

    /// The number of the last request, and whether it is alone.
    pub(super) fn last(&self) -> (u64, bool) {
        let table = self.lock();
        (table.serial, table.flights.len() == 1)
    }

    /// How full a lane is. The NPU runs one thing at a time, whatever the model.
    pub(super) fn pressure(&self, lane: &Lane, model: &str) -> Pressure {
        let table = self.lock();
        let here = |flight: &&Flight| {
            flight.lane == lane.name && (lane.silicon == Silicon::Npu || flight.model == model)
        };
        let mut pressure = Pressure::default();
        for flight in table.flights.values().filter(here) {
            pressure.active += 1;
            pressure.queue_s += flight.left_s();
        }
        pressure.queue_s /= lane.slots.max(1) as f64;
        pressure
    }

    /// Requests on each lane.
    pub(super) fn by_lane(&self) -> HashMap<&'static str, usize> {
        let mut counts = HashMap::new();
        for flight in self.lock().flights.values() {
            *counts.entry(flight.lane).or_insert(0) += 1;
        }
        counts
    }

    /// The state of the machine, as far as requests make it.
    pub(super) fn now(&self, power: Power) -> Now {
        let table = self.lock();
        let mut bus_busy = 0.0;
        let mut seen: Vec<&'static str> = Vec::new();
        for flight in table.flights.values() {
            if !seen.contains(&flight.lane) {
                seen.push(flight.lane);
                bus_busy += flight.silicon.bus_share();
            }
        }
        Now {
            power,
            bus_busy: f64::min(bus_busy, 1.0),
            people_waiting: table.flights.values().filter(|f| f.person).count(),
        }
    }

    /// Waits until background work may enter a session's queue, and keeps other background work out until the
    /// returned value is dropped.
    pub(super) async fn turn(
        &self,
        slots: usize,
        load: impl Fn() -> Load,
    ) -> Result<tokio::sync::MutexGuard<'_, ()>, EngineError> {
        let full = |_| EngineError::QueueFull {
            waiting: BACKGROUND_MAX,
        };
        let _place = self.0.waiting.try_acquire().map_err(full)?;
        let begun = Instant::now();
        loop {
            let ended = self.0.ended.notified();
            {
                let gate = self.0.gate.lock().await;
                let load = load();
                let free = load.waiting == 0 && load.active < slots;
                if free || begun.elapsed() > BACKGROUND_WAIT {
                    return Ok(gate);
                }
            }
            // Either way it looks again.
            let _ = tokio::time::timeout(LOOK_AGAIN, ended).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::flm;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_lane_is_as_full_as_its_requests() {
        let flights = Flights::default();
        assert_eq!(flights.pressure(&flm::LANE, "a"), Pressure::default());
        let one = flights.begin(&flm::LANE, "a", 10.0, Priority::Interactive);
        let two = flights.begin(&flm::LANE, "b", 5.0, Priority::Background);
        let pressure = flights.pressure(&flm::LANE, "a");
        assert_eq!(pressure.active, 2, "the NPU is one");
        assert!((14.0..=15.0).contains(&pressure.queue_s), "{pressure:?}");
        let now = flights.now(Power::Mains);
        assert_eq!(now.people_waiting, 1);
        assert!((now.bus_busy - Silicon::Npu.bus_share()).abs() < 1e-9);
        drop((one, two));
        assert_eq!(flights.pressure(&flm::LANE, "a").active, 0);
    }

    #[tokio::test]
    async fn background_work_waits_for_a_free_place() {
        let flights = Flights::default();
        let active = Arc::new(AtomicUsize::new(1));
        let load = {
            let active = Arc::clone(&active);
            move || Load {
                active: active.load(Ordering::SeqCst),
                waiting: 0,
            }
        };
        let busy = flights.begin(&flm::LANE, "a", 1.0, Priority::Interactive);
        let waiting = tokio::spawn({
            let flights = flights.clone();
            async move { flights.turn(1, load).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        active.store(0, Ordering::SeqCst);
        drop(busy);
        waiting.await.unwrap().unwrap();
    }
}
