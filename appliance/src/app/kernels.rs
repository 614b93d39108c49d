//! Kernels for the GPU: what is compiled, the child that compiles, checks and times what is not, and how far it is.
//!
//! Owns the child's life: a compiler that ends the process or hangs costs the kernel that it was at, and the next child
//! goes on with the others.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{App, AppError};
use crate::config::{CacheKind, ComputeDevice, environment};
use crate::engines::ternary::gpu;
use crate::engines::{Launcher, Spec};
use crate::process::Pipes;
use tokio::io::{AsyncBufReadExt, BufReader};

/// Children that are started for one piece of work at the most: each one that dies costs one kernel.
const CHILDREN_MAX: usize = 8;

/// Variables that tell drivers where they are and what they may do.
const DRIVER_VARIABLES: [&str; 10] = [
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "VK_DRIVER_FILES",
    "VK_ICD_FILENAMES",
    "HSA_OVERRIDE_GFX_VERSION",
    "LD_LIBRARY_PATH",
    "MESA_SHADER_CACHE_DIR",
    "XDG_CACHE_HOME",
    "HOME",
];

/// What is filed about one kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelEntry {
    /// Operation and parameters.
    pub name: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Why it was set aside, if it was.
    pub bad: Option<String>,
}

/// What a first run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Kernels are compiled and checked; the processor answers.
    Compiling,
    /// They are all there, and their parameters are timed.
    Timing,
    /// The GPU answers.
    Ready,
    /// It does not, and the processor goes on to.
    Failed,
}

impl Phase {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Compiling => "compiling",
            Self::Timing => "timing",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }
}

/// How far the first run on a GPU is.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstRun {
    /// The lane that it makes ready.
    pub lane: &'static str,
    /// The device's name.
    pub device: String,
    /// What it is at.
    pub phase: Phase,
    /// Kernels or shapes that are done in this phase, and how many there are.
    pub done: usize,
    pub total: usize,
    /// Kernels that were compiled now, not known from an earlier run.
    pub compiled: usize,
    /// The first kernel that cannot be used, with the reason; or why nothing could be done.
    pub why: Option<String>,
}

impl FirstRun {
    fn new(lane: &'static str, device: String) -> FirstRun {
        FirstRun {
            lane,
            device,
            phase: Phase::Compiling,
            done: 0,
            total: 0,
            compiled: 0,
            why: None,
        }
    }

    /// Takes one line of the child's: a word, a tab, the rest.
    fn hear(&mut self, line: &str) {
        let (word, rest) = line.split_once('\t').unwrap_or(("", line));
        let phase = match word {
            "compiling" => Phase::Compiling,
            "timing" => Phase::Timing,
            _ => {
                // While parameters are timed candidates are compiled too, and one that is bad is only left out.
                let compiling = self.phase == Phase::Compiling;
                self.compiled += usize::from(word == "compiled");
                match word {
                    "compiled" | "known" if compiling => self.done += 1,
                    "bad" if compiling => {
                        self.done += 1;
                        self.why.get_or_insert_with(|| rest.to_owned());
                    }
                    "chosen" => self.done += 1,
                    _ => {}
                }
                return;
            }
        };
        (self.phase, self.done) = (phase, 0);
        self.total = rest.parse().unwrap_or(0);
    }

    /// The child is done, or could not do it.
    fn end(&mut self, outcome: &Result<(), AppError>) {
        if let Err(error) = outcome {
            self.why = Some(error.to_string());
        }
        self.phase = if self.why.is_none() {
            Phase::Ready
        } else {
            Phase::Failed
        };
    }
}

/// The first run of this process, if there is one.
#[derive(Debug, Default)]
pub(super) struct Runs(Mutex<Option<FirstRun>>);

impl Runs {
    fn lock(&self) -> MutexGuard<'_, Option<FirstRun>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, Default)]
pub struct KernelWork {
    /// On which device; the settings' own when left out.
    pub device: Option<ComputeDevice>,
    /// Whether parameters are timed.
    pub tune: bool,
    /// Whether those are timed again that were before.
    pub anew: bool,
}

impl App {
    fn kernels_folder(&self) -> PathBuf {
        self.inner.means.kernels.clone()
    }

    /// Lists what is compiled and what was set aside.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn kernels(&self) -> Result<Vec<KernelEntry>, AppError> {
        let entries = gpu::entries(&self.kernels_folder()).map_err(failed)?;
        Ok(entries
            .into_iter()
            .map(|entry| KernelEntry {
                name: entry.name,
                bytes: entry.bytes,
                bad: entry.bad,
            })
            .collect())
    }

    /// Forgets everything compiled and measured; returns how many files that were.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn clear_kernels(&self) -> Result<usize, AppError> {
        gpu::clear(&self.kernels_folder()).map_err(failed)
    }

    /// Compiles, checks and times the kernels of a model (the default one when `name` is empty) in children; `say` hears
    /// each line of theirs: a word, a tab, a kernel.
    ///
    /// # Errors
    /// No such model or device, or children that keep dying.
    pub async fn compile_kernels(
        &self,
        name: &str,
        work: KernelWork,
        mut say: impl FnMut(&str),
    ) -> Result<(), AppError> {
        let device = work.device.unwrap_or(self.config().ternary.device);
        // Without a device there is nothing to start a child for.
        let Some(found) = gpu::device(device).map_err(failed)? else {
            return Err(failed("ternary.device is \"cpu\""));
        };
        let model = self.model(name).await?.path;
        let launcher = Launcher::of_this_program();
        for _ in 0..CHILDREN_MAX {
            let mut spec = self.child("work", &model, device);
            if work.tune {
                spec = spec.arg("--tune");
            }
            if work.anew {
                spec = spec.arg("--anew");
            }
            let why = match self.watch(&launcher, spec, &mut say).await? {
                None => {
                    // What could not be loaded there may be now.
                    return self.forget_failures_of(gpu::lane(&found).name).await;
                }
                Some(why) => why,
            };
            match gpu::set_aside(&self.kernels_folder(), &why).map_err(failed)? {
                Some(name) => say(&format!("bad\t{name}: {why}")),
                None => return Err(failed(why)),
            }
        }
        Err(failed(
            "too many kernels end or hang their process; update the gpu's driver",
        ))
    }

    /// A child of this program that does one of `onebit kernels`' hidden verbs.
    fn child(&self, verb: &str, model: &Path, device: ComputeDevice) -> Spec {
        let mut spec = Spec::new("/proc/self/exe")
            .args(["kernels", verb])
            .arg(model)
            .args(["--device", word(device)])
            .args(["--cache-kind", kind(self.config().ternary.cache_kind)])
            .arg("--data")
            .arg(&self.config().data_dir);
        for name in DRIVER_VARIABLES {
            if let Some(value) = environment(name) {
                spec = spec.env(name, value);
            }
        }
        spec.pipes = Pipes::Talk;
        spec
    }

    /// Measures a model on the GPU in a child; returns figures by name.
    ///
    /// # Errors
    /// No such model or device, or a child that fails.
    pub async fn gpu_figures(
        &self,
        name: &str,
        device: ComputeDevice,
    ) -> Result<Vec<(String, f64)>, AppError> {
        let model = self.model(name).await?.path;
        let mut figures = Vec::new();
        let mut say = |line: &str| {
            if let Some((name, value)) = line.split_once('\t')
                && name != gpu::AT
                && let Ok(value) = value.parse()
            {
                figures.push((name.to_owned(), value));
            }
        };
        let spec = self.child("figures", &model, device);
        let launcher = Launcher::of_this_program();
        match self.watch(&launcher, spec, &mut say).await? {
            None => Ok(figures),
            Some(why) => Err(failed(why)),
        }
    }

    /// How far the first run on this machine's GPU is; `None` where there is none, or none is wanted.
    pub fn first_run_state(&self) -> Option<FirstRun> {
        self.inner.first_run.lock().clone()
    }

    /// Compiles and times the default model's kernels where there is a GPU, while others chat; for the process that
    /// serves, once, at its start. Until then the processor answers.
    pub async fn first_run(&self) {
        let lane = match gpu::device(self.config().ternary.device) {
            Ok(Some(device)) if !device.software => {
                let lane = gpu::lane(&device).name;
                tracing::info!(
                    device = device.device,
                    lane,
                    "a gpu is here; its kernels are made ready"
                );
                *self.inner.first_run.lock() = Some(FirstRun::new(lane, device.device));
                lane
            }
            // No GPU, or none wanted: `doctor` tells why.
            _ => return,
        };
        let work = KernelWork {
            tune: true,
            ..KernelWork::default()
        };
        let note = |change: &dyn Fn(&mut FirstRun)| {
            if let Some(run) = self.inner.first_run.lock().as_mut() {
                change(run);
            }
        };
        let outcome = self
            .compile_kernels("", work, |line| {
                note(&|run| run.hear(line));
                let (word, rest) = line.split_once('\t').unwrap_or(("", line));
                match word {
                    "compiling" => tracing::info!(kernels = rest, lane, "compiling and checking"),
                    "timing" => tracing::info!(
                        shapes = rest,
                        lane,
                        "the gpu can answer; looking for its fastest parameters"
                    ),
                    "bad" => tracing::warn!(kernel = rest, "a gpu kernel was set aside"),
                    "chosen" => {
                        tracing::info!(kernel = rest, "the fastest parameters of a gpu kernel")
                    }
                    _ => tracing::debug!(kernel = rest, word, "gpu kernel"),
                }
            })
            .await;
        note(&|run| run.end(&outcome));
        let Some(run) = self.first_run_state() else {
            return;
        };
        match run.why {
            None => {
                tracing::info!(compiled = run.compiled, lane, "the gpu's kernels are ready");
                // What was loaded on the processor meanwhile moves at its next request.
                if run.compiled > 0
                    && let Ok(model) = self.model("").await
                {
                    self.inner.pool.unload(&model.id).await;
                }
            }
            Some(why) => {
                tracing::warn!(why, lane, "the gpu has no kernels; the processor answers");
            }
        }
    }

    /// Follows one child; `None` when it did its work, else why it did not.
    async fn watch(
        &self,
        launcher: &Launcher,
        spec: Spec,
        say: &mut impl FnMut(&str),
    ) -> Result<Option<String>, AppError> {
        let mut child = launcher.spawn(spec).await.map_err(failed)?;
        let Some(talk) = child.talk() else {
            return Err(failed("the child has no stdout"));
        };
        let mut lines = BufReader::new(talk.stdout).lines();
        loop {
            match tokio::time::timeout(gpu::STALL, lines.next_line()).await {
                Ok(Ok(Some(line))) => say(&line),
                Ok(_) => break,
                Err(_) => {
                    child.kill().await;
                    let seconds = gpu::STALL.as_secs();
                    return Ok(Some(format!(
                        "its compiler or driver took more than {seconds} s"
                    )));
                }
            }
        }
        let exit = child.wait().await;
        if exit.is_some_and(|exit| exit.status.success()) {
            return Ok(None);
        }
        let said = child.log().last_line();
        let status = exit.map_or_else(|| "it is gone".to_owned(), |exit| exit.status.to_string());
        Ok(Some(if said.is_empty() {
            format!("its compiler or driver ended the process ({status})")
        } else {
            said.trim_start_matches("onebit: ").to_owned()
        }))
    }
}

fn failed(error: impl std::fmt::Display) -> AppError {
    AppError::Kernels(error.to_string())
}

/// A device as it is written in settings and on command lines.
fn word(device: ComputeDevice) -> &'static str {
    match device {
        ComputeDevice::Auto => "auto",
        ComputeDevice::Cpu => "cpu",
        ComputeDevice::Hip => "hip",
        ComputeDevice::Cuda => "cuda",
        ComputeDevice::Vulkan => "vulkan",
        ComputeDevice::Software => "software",
    }
}

fn kind(kind: CacheKind) -> &'static str {
    match kind {
        CacheKind::F16 => "f16",
        CacheKind::Int8 => "int8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[&str]) -> FirstRun {
        let mut run = FirstRun::new("ternary.hip", "Radeon".to_owned());
        lines.iter().for_each(|line| run.hear(line));
        run
    }

    #[test]
    fn a_first_run_counts_what_is_done_in_each_phase() {
        let run = after(&[
            "compiling\t3",
            "compiled\tgemv p2",
            "known\trope",
            "compiled\thead",
        ]);
        assert_eq!((run.phase, run.done, run.total), (Phase::Compiling, 3, 3));
        let mut run = after(&[
            "compiling\t1",
            "compiled\tgemv p2",
            "timing\t2",
            "bad\tgemv p2, 8 rows: slow compiler",
            "compiled\tgemv p2, 4 rows",
            "chosen\tgemv p2: 4 rows",
        ]);
        assert_eq!((run.phase, run.done, run.total), (Phase::Timing, 1, 2));
        assert_eq!(run.compiled, 2);
        run.end(&Ok(()));
        assert_eq!((run.phase, run.why), (Phase::Ready, None));
    }

    #[test]
    fn a_kernel_that_cannot_be_used_or_a_child_that_fails_is_told() {
        let mut run = after(&[
            "compiling\t2",
            "bad\trope: other numbers",
            "known\thead",
            "timing\t0",
        ]);
        run.end(&Ok(()));
        assert_eq!(run.phase, Phase::Failed);
        assert_eq!(run.why.as_deref(), Some("rope: other numbers"));
        let mut run = after(&["compiling\t2"]);
        run.end(&Err(failed("no gpu")));
        assert_eq!(run.phase, Phase::Failed);
        assert!(run.why.unwrap().contains("no gpu"));
    }
}
