//! The numbers of the appliance at one moment: the same for `/metrics`, `/stats` and the page.

use std::path::Path;
use std::time::Duration;

use super::{App, AppError, MeterNumbers, Status};
use crate::host::{self, Energy, Gpu, GpuReading};

/// Changed rates are written to the store after this long.
const SAVE_AFTER: Duration = Duration::from_secs(2);
/// And then not again for this long, while requests come and go: each write waits for the disk. A kill loses no more
/// than the rates of this time.
const SAVE_EVERY: Duration = Duration::from_secs(30);

/// Everything that can be counted.
#[derive(Debug, Clone)]
pub struct Numbers {
    /// Models, memory, queues.
    pub status: Status,
    /// What lanes did.
    pub measured: MeterNumbers,
    /// The processor's energy counters, where they may be read.
    pub energy: Vec<Energy>,
    /// GPUs with their readings.
    pub gpus: Vec<(Gpu, GpuReading)>,
    /// Bytes that this process holds in memory; `None` when the system does not tell.
    pub own_bytes: Option<u64>,
}

impl App {
    /// Counts everything.
    ///
    /// # Errors
    /// The store fails.
    pub async fn numbers(&self) -> Result<Numbers, AppError> {
        self.remember_rates().await?;
        let status = self.status().await?;
        let gpus = self.inner.gpus.clone();
        let machine = tokio::task::spawn_blocking(move || {
            let root = Path::new("/");
            let read = |gpu: Gpu| {
                let reading = host::gpu_now(root, &gpu);
                (gpu, reading)
            };
            let gpus = gpus.into_iter().map(read).collect();
            (host::energy_now(root), gpus, host::own_bytes(root))
        });
        // A reader that panics costs its readings.
        let (energy, gpus, own_bytes) = machine.await.unwrap_or_default();
        Ok(Numbers {
            status,
            measured: self.inner.meter.numbers(&self.inner.flights.by_lane()),
            energy,
            gpus,
            own_bytes,
        })
    }

    /// Takes what earlier processes measured, once.
    pub(super) async fn remember_rates(&self) -> Result<(), AppError> {
        let remembered = &self.inner.remembered;
        let read = || async {
            let rows = self.inner.store.measurements().all().await?;
            self.inner.meter.remember(rows);
            self.remember_failures().await?;
            Ok::<(), AppError>(())
        };
        remembered.get_or_try_init(read).await?;
        Ok(())
    }

    /// Writes changed rates a moment from now, together with those that change until then.
    pub(super) fn save_rates_soon(&self) {
        use std::sync::atomic::Ordering;
        if self.inner.saving.swap(true, Ordering::SeqCst) {
            return;
        }
        let app = self.clone();
        tokio::spawn(async move {
            let since = app.inner.meter.since_stored();
            let rest = since.map_or(Duration::ZERO, |since| SAVE_EVERY.saturating_sub(since));
            tokio::time::sleep(rest.max(SAVE_AFTER)).await;
            app.inner.saving.store(false, Ordering::SeqCst);
            app.save_rates().await;
        });
    }

    /// Writes changed rates now; for the end of the process.
    pub async fn save_rates(&self) {
        let rows = self.inner.meter.take_changed();
        if let Err(error) = self.inner.store.measurements().put(rows).await {
            tracing::warn!(%error, "measured rates could not be stored");
        }
        self.inner.meter.stored();
    }
}
