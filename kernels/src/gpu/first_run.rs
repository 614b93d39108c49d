//! The first run on a device: every operation of a model is compiled, checked against its definition on random data,
//! and filed; then the parameters that may be faster are timed. Drivers are known to end the process, so this runs in a
//! child; what it was working on is noted in the cache, and is set aside when it does not come back.

use super::cache::Cache;
use super::decoder::Choices;
use super::driver::{Buffer, Driver, GpuError, Kernel, Launch, Place, Step};
use super::ops::{Load, Op};
use super::source::Source;
use std::collections::BTreeSet;
use std::time::Duration;

/// Memory that timed launches rotate over: twice the largest last-level cache of current GPUs that share the machine's
/// memory (32 MB), and well above that of cards.
const ROTATE_BYTES: u64 = 96 << 20;
/// Launches of one timed recording at the least and most.
const LAUNCHES: std::ops::RangeInclusive<u64> = 4..=64;
/// Times that a recording is replayed; the fastest counts.
const REPLAYS: usize = 3;

/// What is told on the way.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// So many kernels are compiled and checked now, or known.
    Compiling(usize),
    /// Of so many shapes the fastest parameters are looked for now.
    Timing(usize),
    /// A kernel was compiled and computes what its definition does.
    Compiled(String),
    /// It was filed already.
    Known(String),
    /// It cannot be used, and why.
    Bad(String, String),
    /// What a shape runs fastest with, and how long one launch takes.
    Chosen {
        /// The operation and its shape.
        shape: String,
        /// The parameters.
        choice: String,
        /// One launch.
        time: Duration,
        /// Bytes that it reads.
        bytes: u64,
    },
}

/// Where results go.
pub struct FirstRun<'a> {
    /// The device.
    pub driver: &'a mut dyn Driver,
    /// The folder of compiled kernels.
    pub cache: &'a Cache,
    /// Hears what happens.
    pub say: &'a mut dyn FnMut(Progress),
}

impl FirstRun<'_> {
    /// Compiles and checks what is not filed yet, and says whether all can be used. Those that cannot are told of.
    ///
    /// # Errors
    /// The device is lost, or the disk refuses.
    pub fn compile(&mut self, ops: &[&dyn Op]) -> Result<bool, GpuError> {
        (self.say)(Progress::Compiling(ops.len()));
        let mut all = true;
        for op in ops {
            all &= self.ready(*op)?.is_some();
        }
        Ok(all)
    }

    /// Times the candidates of every shape that has no choice yet (all of them `anew`), and keeps the best.
    ///
    /// # Errors
    /// The device is lost, or the disk refuses.
    pub fn tune(&mut self, ops: &[&dyn Op], anew: bool) -> Result<Choices, GpuError> {
        let identity = self.driver.identity().clone();
        let mut choices = self.cache.choices(&identity);
        let (mut open, mut seen) = (Vec::new(), BTreeSet::new());
        for op in ops {
            let (shape, candidates) = (op.shape(), op.candidates(&identity));
            let known = choices.contains_key(&shape) && !anew;
            if !candidates.is_empty() && !known && seen.insert(shape.clone()) {
                open.push((shape, op, candidates));
            }
        }
        (self.say)(Progress::Timing(open.len()));
        for (shape, op, candidates) in open {
            let mut best: Option<(Duration, String)> = None;
            for candidate in &candidates {
                let Some(kernel) = self.ready(&**candidate)? else {
                    continue;
                };
                let Some(load) = candidate.load() else { break };
                let time = self.note(&candidate.source(), |run| run.time(kernel, &load))?;
                let faster = best.as_ref().is_none_or(|(fastest, _)| time < *fastest);
                if faster {
                    best = Some((time, candidate.choice()));
                }
            }
            if let (Some((time, choice)), Some(load)) = (best, op.load()) {
                (self.say)(Progress::Chosen {
                    shape: shape.clone(),
                    choice: choice.clone(),
                    time,
                    bytes: load.buffers[load.rotating],
                });
                choices.insert(shape, choice);
                self.cache.keep_choices(&identity, &choices).map_err(disk)?;
            }
        }
        Ok(choices)
    }

    /// A kernel that may be used, compiled and checked where that was not done; `None` if it is bad.
    fn ready(&mut self, op: &dyn Op) -> Result<Option<Kernel>, GpuError> {
        let source = op.source();
        let (key, name) = (source.key(self.driver.identity()), source.name());
        if let Some(code) = self.cache.get(&key) {
            (self.say)(Progress::Known(name));
            return self.driver.load(&source, &code).map(Some);
        }
        if let Some(why) = self.cache.why_bad(&key) {
            (self.say)(Progress::Bad(name, why));
            return Ok(None);
        }
        let outcome = self.note(&source, |run| {
            let code = run.driver.compile(&source)?;
            let kernel = run.driver.load(&source, &code)?;
            for seed in 0..2 {
                op.case(seed).check(run.driver, &name, kernel, false)?;
            }
            run.cache.put(&key, &name, &code).map_err(disk)?;
            Ok(kernel)
        });
        match outcome {
            Ok(kernel) => {
                (self.say)(Progress::Compiled(name));
                Ok(Some(kernel))
            }
            // The device itself is gone, or has no room: nothing is known of the kernel.
            Err(error @ (GpuError::Lost { .. } | GpuError::Memory { .. })) => Err(error),
            Err(error) => {
                let why = error.to_string();
                self.cache.set_aside(&key, &name, &why).map_err(disk)?;
                (self.say)(Progress::Bad(name, why));
                Ok(None)
            }
        }
    }

    /// Does some work on a kernel with a note of it in the cache.
    fn note<T>(
        &mut self,
        source: &Source,
        work: impl FnOnce(&mut Self) -> Result<T, GpuError>,
    ) -> Result<T, GpuError> {
        let key = source.key(self.driver.identity());
        self.cache.begin(&key, &source.name()).map_err(disk)?;
        let outcome = work(self);
        self.cache.end();
        outcome
    }

    /// One launch in a replayed recording over memory larger than the caches.
    fn time(&mut self, kernel: Kernel, load: &Load) -> Result<Duration, GpuError> {
        let mut buffers = Vec::new();
        let outcome = self.replayed(kernel, load, &mut buffers);
        for buffer in buffers {
            self.driver.free(buffer);
        }
        outcome
    }

    fn replayed(
        &mut self,
        kernel: Kernel,
        load: &Load,
        buffers: &mut Vec<Buffer>,
    ) -> Result<Duration, GpuError> {
        for bytes in &load.buffers {
            buffers.push(self.driver.alloc(*bytes, Place::Device)?);
        }
        let one = load.buffers[load.rotating];
        let copies = if self.driver.identity().software {
            1
        } else {
            (ROTATE_BYTES / one.max(1)).clamp(1, *LAUNCHES.end())
        };
        let mut rotating = vec![buffers[load.rotating]];
        while (rotating.len() as u64) < copies {
            let buffer = self.driver.alloc(one, Place::Device)?;
            buffers.push(buffer);
            rotating.push(buffer);
        }
        let launches = copies.max(*LAUNCHES.start());
        let steps: Vec<Step> = (0..launches)
            .map(|i| {
                let mut bound = buffers[..load.buffers.len()].to_vec();
                bound[load.rotating] = rotating[i as usize % rotating.len()];
                Step::Launch(Launch {
                    kernel,
                    grid: load.grid,
                    buffers: bound,
                    args: load.args.clone(),
                })
            })
            .collect();
        let recording = self.driver.record(&steps)?;
        let mut fastest = None;
        for _ in 0..REPLAYS {
            self.driver.replay(recording)?;
            self.driver.sync()?;
            if let Some(time) = self.driver.elapsed() {
                fastest = Some(fastest.map_or(time, |f: Duration| f.min(time)));
            }
        }
        self.driver.forget(recording);
        let fastest = fastest.ok_or_else(|| {
            GpuError::Unsupported("this device cannot tell how long its work takes".to_owned())
        })?;
        Ok(fastest / launches as u32)
    }
}

fn disk(error: std::io::Error) -> GpuError {
    GpuError::Call {
        call: "the folder of compiled kernels",
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::ternary::Layout;
    use crate::gpu::cache::BYTES_MAX;
    use crate::gpu::ops::gemv::Gemv;
    use crate::gpu::ops::tests::software;
    use crate::gpu::ops::{Case, Same};

    /// The small product with a definition of its own: one that no kernel fulfils.
    #[derive(Debug)]
    struct Impossible(Gemv);

    impl Op for Impossible {
        fn source(&self) -> Source {
            Source {
                op: "impossible",
                ..self.0.source()
            }
        }

        fn case(&self, seed: u64) -> Case {
            let mut case = self.0.case(seed);
            case.wanted[0] = (4, Same::Bits, vec![7; 8]);
            case
        }
    }

    #[test]
    fn the_first_run_compiles_checks_and_chooses_and_the_second_knows() {
        let Some(mut driver) = software() else { return };
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), BYTES_MAX).unwrap();
        let good = Gemv::new(Layout::B5, 96, 64, false, 1);
        let wrong = Impossible(Gemv::new(Layout::P2, 96, 64, false, 1));
        let mut runs = Vec::new();
        for _ in 0..2 {
            let mut told = Vec::new();
            let mut run = FirstRun {
                driver: &mut driver,
                cache: &cache,
                say: &mut |progress| told.push(progress),
            };
            assert!(!run.compile(&[&good, &wrong]).unwrap());
            let choices = run.tune(&[&good], false).unwrap();
            assert_eq!(choices.len(), 1, "{choices:?}");
            runs.push(told);
        }
        let bad = |told: &[Progress]| {
            told.iter().any(|p| {
                matches!(p, Progress::Bad(name, why)
                if name.starts_with("impossible") && why.contains("other numbers"))
            })
        };
        assert!(bad(&runs[0]) && bad(&runs[1]), "{runs:?}");
        let compiled = |told: &[Progress]| {
            told.iter()
                .filter(|p| matches!(p, Progress::Compiled(_)))
                .count()
        };
        // Four candidates, of which one is the kernel itself.
        assert_eq!((compiled(&runs[0]), compiled(&runs[1])), (4, 0), "{runs:?}");
        assert!(runs[0].iter().any(|p| matches!(p, Progress::Chosen { .. })));
        assert!(!runs[1].iter().any(|p| matches!(p, Progress::Chosen { .. })));
    }
}
