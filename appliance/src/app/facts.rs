//! The machine's facts as the router needs them: never waited for, and never of another time.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::App;
use crate::domain::Machine;
use crate::engines::route::Power;
use crate::host;

/// The machine's facts are read again after this long, beside the request that notices it.
const FACTS_KEPT: Duration = Duration::from_millis(500);
/// Facts older than this are of another time: the request waits for new ones, some 200 us.
const FACTS_OLD: Duration = Duration::from_secs(10);

/// The machine's facts, read now and then.
#[derive(Default)]
pub(super) struct Facts {
    known: Mutex<Option<(Instant, Machine, Power)>>,
    /// Somebody reads them anew.
    reading: AtomicBool,
}

impl Facts {
    fn lock(&self) -> MutexGuard<'_, Option<(Instant, Machine, Power)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something has changed by our own doing, such as a model that was loaded.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }
}

impl App {
    /// The machine's facts: those that are known, unless they are of another time.
    pub(super) fn facts(&self) -> (Machine, Power) {
        let facts = &self.inner.facts;
        let known = *facts.lock();
        let Some((at, machine, power)) = known.filter(|(at, ..)| at.elapsed() < FACTS_OLD) else {
            return self.read_facts();
        };
        if at.elapsed() > FACTS_KEPT && !facts.reading.swap(true, Ordering::Relaxed) {
            let app = self.clone();
            tokio::task::spawn_blocking(move || {
                app.read_facts();
                app.inner.facts.reading.store(false, Ordering::Relaxed);
            });
        }
        (machine, power)
    }

    fn read_facts(&self) -> (Machine, Power) {
        let machine = super::machine(self.inner.cores);
        let power = match host::on_battery(Path::new("/")) {
            Some(true) => Power::Battery,
            Some(false) | None => Power::Mains,
        };
        *self.inner.facts.lock() = Some((Instant::now(), machine, power));
        (machine, power)
    }
}
