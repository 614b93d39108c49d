//! A device that fails, and what becomes of the lane: a lost one starts it again, one without room leaves its model to
//! the processor, and both say so.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use onebit_kernels::gpu::cache::{BYTES_MAX, Cache as Shelf};
use onebit_kernels::gpu::decoder::{Choices, Compile, Decoder};
use onebit_kernels::gpu::source::Source;
use onebit_kernels::gpu::{
    Buffer, Driver, GpuError, Identity, Kernel, Place as Where, Recording, Step,
};
use onebit_kernels::threads::Threads;

use super::super::{CARD, LANE, Ternary, open};
use crate::config::{PoolConfig, TernaryConfig};
use crate::domain::{ChatEvent, ChatRequest, Input, Limits, Machine, Model, ModelFormat, Sampling};
use crate::engines::lanes::{Lane, Memory, Silicon};
use crate::engines::pool::{ModelState, Pool};
use crate::engines::{Card, Engine, EngineError, Fit, Means, Session, Slot};

const ON_GPU: Lane = Lane {
    name: "ternary.hip",
    silicon: Silicon::Igpu,
    memory: Memory::Gtt,
    ..LANE
};

/// How a device fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// It has no room for the model.
    NoRoom,
    /// It is lost in the pass of this number.
    LostIn(usize),
    /// Its driver has no memory left for the pass of this number.
    FullIn(usize),
}

/// A device that keeps nothing and computes nothing: all that is read from it is zero, so every token is the first of
/// the vocabulary.
struct Blank {
    identity: Identity,
    fault: Fault,
    sizes: HashMap<u32, u64>,
    next: u32,
    passes: usize,
    lost: bool,
}

impl Blank {
    fn new(fault: Fault) -> Blank {
        Blank {
            identity: Identity {
                backend: "hip",
                device: "a blank".to_owned(),
                units: 1,
                driver: String::new(),
                compiler: String::new(),
                software: false,
                shared_memory: true,
                memory_bytes: 1 << 30,
                binding_bytes_max: u64::MAX,
                fused: true,
            },
            fault,
            sizes: HashMap::new(),
            next: 0,
            passes: 0,
            lost: false,
        }
    }

    fn id(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn alive(&self) -> Result<(), GpuError> {
        if self.lost {
            return Err(GpuError::Lost { reason: "a test" });
        }
        Ok(())
    }
}

impl Driver for Blank {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn compile(&self, _: &Source) -> Result<Vec<u8>, GpuError> {
        Ok(Vec::new())
    }

    fn load(&mut self, _: &Source, _: &[u8]) -> Result<Kernel, GpuError> {
        Ok(Kernel(self.id()))
    }

    fn alloc(&mut self, bytes: u64, _: Where) -> Result<Buffer, GpuError> {
        self.alive()?;
        if self.fault == Fault::NoRoom {
            return Err(GpuError::Memory { bytes });
        }
        let id = self.id();
        self.sizes.insert(id, bytes);
        Ok(Buffer(id))
    }

    fn free(&mut self, buffer: Buffer) {
        self.sizes.remove(&buffer.0);
    }

    fn write(&mut self, buffer: Buffer, at: u64, bytes: &[u8]) -> Result<(), GpuError> {
        self.alive()?;
        assert!(at + bytes.len() as u64 <= self.sizes[&buffer.0]);
        Ok(())
    }

    fn read(&mut self, buffer: Buffer, at: u64, bytes: &mut [u8]) -> Result<(), GpuError> {
        self.alive()?;
        assert!(at + bytes.len() as u64 <= self.sizes[&buffer.0]);
        bytes.fill(0);
        Ok(())
    }

    fn record(&mut self, _: &[Step]) -> Result<Recording, GpuError> {
        Ok(Recording(self.id()))
    }

    fn replay(&mut self, _: Recording) -> Result<(), GpuError> {
        self.passes += 1;
        self.lost |= self.fault == Fault::LostIn(self.passes);
        if self.fault == Fault::FullIn(self.passes) {
            return Err(GpuError::Memory { bytes: 4096 });
        }
        self.alive()
    }

    fn sync(&mut self) -> Result<(), GpuError> {
        self.alive()
    }

    fn elapsed(&mut self) -> Option<Duration> {
        None
    }

    fn forget(&mut self, _: Recording) {}
}

/// The built-in engine with a device that fails in another way each time a model is loaded on it.
struct Failing {
    faults: Mutex<VecDeque<Fault>>,
}

impl Engine for Failing {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn lanes(&self, _: &Model, _: &Means) -> Vec<Lane> {
        vec![ON_GPU, LANE]
    }

    fn fit(&self, model: &Model, machine: &Machine, means: &Means) -> Fit {
        Ternary.fit(model, machine, means)
    }

    fn load<'a>(
        &'a self,
        model: &'a Model,
        slot: Slot,
    ) -> BoxFuture<'a, Result<Arc<dyn Session>, EngineError>> {
        Box::pin(async move {
            let session = open(model, &slot, &|weights, options| {
                let fault = self.faults.lock().unwrap().pop_front().unwrap();
                let driver = Box::new(Blank::new(fault));
                Decoder::new(driver, weights, options, &mut Compile, &Choices::new()).map(Some)
            })?;
            Ok(Arc::new(session) as Arc<dyn Session>)
        })
    }
}

fn model() -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/models/onebit-mini.gguf");
    Model {
        id: "onebit-mini".into(),
        name: "onebit-mini".into(),
        format: ModelFormat::Gguf,
        file_bytes: std::fs::metadata(&path).unwrap().len(),
        sha256: String::new(),
        architecture: "bitnet".into(),
        quantisation: "t5".into(),
        context_length: 2048,
        // 30 layers, keys and values of 3 heads of 64 in 16 bits.
        kv_bytes_per_position: 30 * 2 * 3 * 64 * 2,
        has_template: true,
        imported_at: 0,
        path,
    }
}

/// A folder that says that kernels are compiled.
fn kernels() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let shelf = Shelf::open(&path, BYTES_MAX).unwrap();
    shelf.put("key", "a kernel", b"code").unwrap();
    (folder, path)
}

const MACHINE: Machine = Machine {
    cores: 1,
    memory_total_bytes: 4 << 30,
    memory_available_bytes: 4 << 30,
};

fn pool(faults: &[Fault], kernels: PathBuf) -> Pool {
    let engine: &'static Failing = Box::leak(Box::new(Failing {
        faults: Mutex::new(faults.iter().copied().collect()),
    }));
    let engines: &'static [&'static dyn Engine] = Box::leak(Box::new([engine as &dyn Engine]));
    let means = Means {
        ternary: TernaryConfig {
            cache_positions: 2048,
            ..TernaryConfig::default()
        },
        kernels,
        ..Means::default()
    };
    let settings = PoolConfig {
        memory_bytes_max: 1 << 30,
        ..PoolConfig::default()
    };
    let threads = Arc::new(Threads::new(1));
    Pool::start(engines, settings, means, threads, Arc::new(|| MACHINE))
}

/// The tokens of an answer, or why there is none.
async fn ask(pool: &Pool) -> Result<usize, EngineError> {
    const TOKENS: usize = 4;
    let lease = pool.session(&model()).await?;
    let request = ChatRequest {
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        limits: Limits {
            tokens_max: Some(TOKENS),
            ignore_end: true,
            ..Limits::default()
        },
        ..ChatRequest::new(
            "",
            Input::Text {
                text: "A colour:".into(),
                parse_special: false,
            },
        )
    };
    let mut events = lease.chat(request)?;
    while let Some(event) = events.next().await {
        if let ChatEvent::Finished(finish) = event? {
            return Ok(finish.usage.completion_tokens);
        }
    }
    panic!("the stream ended without a word");
}

/// The lanes that hold the model, and those that could not load it with their reasons.
async fn lanes(pool: &Pool) -> (Vec<&'static str>, Vec<String>) {
    let (mut loaded, mut failed) = (Vec::new(), Vec::new());
    for (place, state) in pool.survey(MACHINE).await.places {
        match state {
            ModelState::Loaded { .. } => loaded.push(place.lane),
            ModelState::Failed { why } => failed.push(format!("{}: {why}", place.lane)),
            ModelState::Loading => panic!("{} is being loaded", place.lane),
        }
    }
    (loaded, failed)
}

#[tokio::test]
async fn a_lost_device_ends_its_answers_with_the_reason_and_the_lane_starts_again() {
    let (_folder, kernels) = kernels();
    let pool = pool(&[Fault::LostIn(3), Fault::LostIn(1), Fault::None], kernels);
    for _ in 0..2 {
        let error = ask(&pool).await.unwrap_err().to_string();
        assert!(
            error.contains("the gpu was lost") && error.contains("loaded again"),
            "{error}"
        );
    }
    assert_eq!(ask(&pool).await.unwrap(), 4);
    assert_eq!(lanes(&pool).await, (vec!["ternary.hip"], vec![]));
}

#[tokio::test]
async fn a_device_without_room_leaves_the_model_to_the_processor_and_says_why() {
    let (_folder, kernels) = kernels();
    let pool = pool(&[Fault::NoRoom], kernels);
    assert_eq!(ask(&pool).await.unwrap(), 4);
    let (loaded, failed) = lanes(&pool).await;
    assert_eq!(loaded, ["ternary.cpu"]);
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(
        failed[0].starts_with("ternary.hip: ")
            && failed[0].contains("the gpu has no room for")
            && failed[0].contains("unload a model"),
        "{failed:?}"
    );
}

#[tokio::test]
async fn a_device_that_fills_up_at_work_is_left_too() {
    let (_folder, kernels) = kernels();
    let pool = pool(&[Fault::FullIn(2), Fault::NoRoom], kernels);
    let error = ask(&pool).await.unwrap_err().to_string();
    assert!(error.contains("no room for 4096 more bytes"), "{error}");
    assert_eq!(ask(&pool).await.unwrap(), 4);
    assert_eq!(lanes(&pool).await.0, ["ternary.cpu"]);
}

/// Where the settings decide and no lane is named, the first answer is the processor's already.
#[tokio::test]
async fn a_device_that_nobody_named_is_no_failure() {
    let (_folder, kernels) = kernels();
    let slot = Slot {
        memory_bytes_max: 1 << 30,
        lane: "",
        threads: Arc::new(Threads::new(1)),
        means: Arc::new(Means {
            kernels,
            ..Means::default()
        }),
    };
    let session = open(&model(), &slot, &|_, _| {
        Err(GpuError::Memory { bytes: 1 << 40 })
    });
    assert!(session.unwrap().alive());
}
