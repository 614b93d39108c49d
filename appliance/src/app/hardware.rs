//! This machine as clients may ask for it: its parts, what they do now, and which programs are here.

use std::path::Path;
use std::sync::Mutex;

use super::{App, AppError};
use crate::engines::build::SOURCES;
use crate::host::{self, CpuTimes, Gpu, GpuReading, Host};

/// The parts of this machine and its disk.
#[derive(Debug, Clone)]
pub struct Hardware {
    /// Processor, memory, GPUs, NPU, system.
    pub host: Host,
    /// Bytes of the disk that models lie on, and those that are free; `None` when it cannot be asked.
    pub disk: Option<(u64, u64)>,
}

/// What the machine does now; `None` where it does not tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Activity {
    /// Share of the processors that work, 0 to 100, since the last look.
    pub cpu_percent: Option<f64>,
    /// Bytes of memory in use.
    pub memory_used_bytes: Option<u64>,
    /// The first GPU.
    pub gpu: Option<GpuReading>,
}

/// A program that an engine runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramFact {
    /// Its name, such as `llama-server`.
    pub name: &'static str,
    /// What `onebit engines build` calls its sources; `None` where it cannot be built here.
    pub source: Option<&'static str>,
    /// The version that would be built.
    pub version: Option<&'static str>,
    /// Whether it is here.
    pub present: bool,
}

/// The processor's counters at the last look.
#[derive(Default)]
pub(super) struct LastLook(Mutex<Option<CpuTimes>>);

impl App {
    /// Reads the parts of this machine.
    ///
    /// # Errors
    /// The reader broke.
    pub async fn hardware(&self) -> Result<Hardware, AppError> {
        let folder = self.store().folder().to_owned();
        let read = tokio::task::spawn_blocking(move || Hardware {
            host: Host::read(Path::new("/")),
            disk: host::disk_bytes(&folder),
        });
        read.await
            .map_err(|panic| AppError::Measure(panic.to_string()))
    }

    /// Reads what this machine does.
    ///
    /// # Errors
    /// The reader broke.
    pub async fn activity(&self) -> Result<Activity, AppError> {
        let app = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let root = Path::new("/");
            let memory = host::memory_now(root);
            let times = host::cpu_times(root);
            let mut last = match app.inner.last_look.0.lock() {
                Ok(last) => last,
                Err(poisoned) => poisoned.into_inner(),
            };
            let busy = last
                .zip(times)
                .and_then(|(last, now)| now.busy_since(&last));
            *last = times.or(*last);
            let gpus: Vec<Gpu> = Host::read(root).gpus;
            Activity {
                cpu_percent: busy.or_else(|| times?.busy_since(&CpuTimes::default())),
                memory_used_bytes: memory.map(|m| m.total_bytes.saturating_sub(m.available_bytes)),
                gpu: gpus.first().map(|gpu| host::gpu_now(root, gpu)),
            }
        });
        read.await
            .map_err(|panic| AppError::Measure(panic.to_string()))
    }

    /// The programs that engines run, here or not.
    pub fn programs(&self) -> Vec<ProgramFact> {
        let fact = |name: &'static str| {
            let source = SOURCES.iter().find(|source| source.program == name);
            ProgramFact {
                name,
                source: source.map(|source| source.name),
                version: source.map(|source| source.version),
                present: self.inner.means.programs.get(name).is_some(),
            }
        };
        crate::engines::programs::NAMES
            .into_iter()
            .map(fact)
            .collect()
    }
}
