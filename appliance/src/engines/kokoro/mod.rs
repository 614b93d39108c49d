//! Kokoro: text to speech, in process, by a runtime in Rust.
//!
//! A sentence is computed at a time, on the threads that all engines share out. Must not know how a text is cut.

pub mod archive;
mod graph;
mod letters;
mod phonemes;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rten::{RunOptions, ThreadPool};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::child::Children;
use super::lanes::{Abilities, Lane, Memory, Silicon, Work};
use super::{Card, Engine, EngineError, Facts, Fit, Load, Means, Session, Slot, Task};
use crate::domain::{Machine, Model, ModelFormat, Sound, SpeakRequest};
use crate::process::{Launcher, Sandbox, Spec};
use archive::STYLE;
use phonemes::Phonemes;

/// The engine itself; it holds nothing.
#[derive(Debug)]
pub struct Kokoro;

static CARD: Card = Card {
    name: "kokoro",
    tasks: &[Task::Speak],
    formats: &[ModelFormat::Kokoro],
    device: "cpu",
};

/// Its lane.
pub const LANE: Lane = Lane {
    name: "kokoro.cpu",
    silicon: Silicon::Cpu,
    works: &[Work::Speak],
    abilities: Abilities::ALL,
    slots: 1,
    context_max: usize::MAX,
    memory: Memory::Ram,
};

/// Samples in a second of what it says.
pub const RATE_HZ: u32 = 24_000;
/// Texts that may wait.
const QUEUE_MAX: usize = 16;
/// Phonemes that it can say at once; its positions are 512 with a mark at both ends.
const PHONEMES_MAX: usize = 510;
/// The voice that it speaks with where nobody asks for another: the best that was trained.
const USUAL: &str = "af_heart";
/// What the dictionary, and the numbers between the layers of a long sentence, take.
const BESIDE_BYTES: u64 = 320 << 20;
/// Where a distribution puts the program that pronounces unknown words.
const ESPEAK: &str = "/usr/bin/espeak-ng";

impl Engine for Kokoro {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn lanes(&self, _model: &Model, _means: &Means) -> Vec<Lane> {
        vec![LANE]
    }

    fn fit(&self, model: &Model, _machine: &Machine, _means: &Means) -> Fit {
        let bytes = memory_bytes(model);
        Fit::Runs {
            memory_bytes_min: bytes,
            memory_bytes: bytes,
        }
    }

    fn load<'a>(
        &'a self,
        model: &'a Model,
        slot: Slot,
    ) -> BoxFuture<'a, Result<Arc<dyn Session>, EngineError>> {
        let (path, id) = (model.path.clone(), model.id.clone());
        let facts = Facts {
            engine: CARD.name,
            context_length: 0,
            memory_bytes: memory_bytes(model),
            template: None,
        };
        let children = slot.means.children.clone();
        let threads = slot.threads.count();
        let failed = move |why: String| EngineError::LoadFailed {
            model: id.clone(),
            why,
        };
        Box::pin(async move {
            let ask = ask(children, Handle::current());
            let read = tokio::task::spawn_blocking(move || Net::read(&path, threads, ask)).await;
            let net = read
                .map_err(|panic| failed(panic.to_string()))?
                .map_err(failed)?;
            Ok(Arc::new(Speaker {
                facts,
                voices: net.names(),
                net: Arc::new(net),
                turn: Arc::new(Semaphore::new(1)),
                waiting: AtomicUsize::new(0),
            }) as Arc<dyn Session>)
        })
    }
}

fn memory_bytes(model: &Model) -> u64 {
    model.file_bytes * 2 + BESIDE_BYTES
}

/// Asks the program that the owner may have installed. It is GPL, so it is never part of this one.
fn ask(children: Option<Children>, runtime: Handle) -> phonemes::Ask {
    let program = Path::new(ESPEAK);
    let launcher = children
        .map(|children| children.launcher)
        .filter(|_| program.is_file());
    Arc::new(move |word: &str, british: bool| {
        let launcher = launcher.as_ref()?;
        runtime.block_on(pronounce(launcher, word, british))
    })
}

async fn pronounce(launcher: &Launcher, word: &str, british: bool) -> Option<String> {
    let voice = if british { "en-gb" } else { "en-us" };
    let spec = Spec::new(ESPEAK)
        .args(["-q", "--ipa", "-v", voice, "--"])
        .arg(word)
        .sandbox(Sandbox::system());
    let said = launcher
        .run(spec, 1 << 12, Duration::from_secs(2))
        .await
        .ok()?;
    let ipa = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    (said.status.success() && !ipa.is_empty()).then_some(ipa)
}

/// The graph, its voices and its dictionaries.
struct Net {
    graph: rten::Model,
    pool: Arc<ThreadPool>,
    voices: BTreeMap<String, Vec<f32>>,
    american: OnceLock<Phonemes>,
    british: OnceLock<Phonemes>,
    ask: phonemes::Ask,
    /// The hub's exports call their first input by two names.
    tokens: rten::NodeId,
    style: rten::NodeId,
    speed: rten::NodeId,
}

impl Net {
    fn read(path: &Path, threads: usize, ask: phonemes::Ask) -> Result<Net, String> {
        let contents = archive::read(path)?;
        let bytes = graph::padded(&contents.graph)?;
        drop(contents.graph);
        let graph = rten::Model::load(bytes).map_err(|error| error.to_string())?;
        let input = |names: &[&str]| {
            let found = names.iter().find_map(|name| graph.find_node(name));
            found.ok_or_else(|| format!("the graph has no input {}", names.join(" or ")))
        };
        let net = Net {
            tokens: input(&["tokens", "input_ids"])?,
            style: input(&["style"])?,
            speed: input(&["speed"])?,
            graph,
            pool: Arc::new(ThreadPool::with_num_threads(threads.max(1))),
            voices: contents.voices,
            american: OnceLock::new(),
            british: OnceLock::new(),
            ask,
        };
        // The dictionary takes a fifth of a second, which whoever listens would wait for.
        net.phonemes(false);
        Ok(net)
    }

    fn phonemes(&self, british: bool) -> &Phonemes {
        let place = if british {
            &self.british
        } else {
            &self.american
        };
        place.get_or_init(|| Phonemes::new(british, self.ask.clone()))
    }

    /// The voices that speak English, the usual one first: there are no phonemes for other languages here.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .voices
            .keys()
            .filter(|name| is_english(name))
            .cloned()
            .collect();
        names.sort_by_key(|name| name != USUAL);
        names
    }

    fn say(&self, request: &SpeakRequest) -> Result<Sound, EngineError> {
        let failed = EngineError::Failed;
        let rows = self
            .voices
            .get(&request.voice)
            .ok_or_else(|| failed(format!("there is no voice {}", request.voice)))?;
        let phonemes = self.phonemes(request.voice.starts_with('b'));
        let said = phonemes.of(&request.text).map_err(failed)?;
        let mut ids = phonemes::ids(&said);
        let mut sound = Sound {
            samples: Vec::new(),
            rate_hz: RATE_HZ,
        };
        // Whoever cuts texts keeps pieces far below this; a row of signs may still be longer.
        while !ids.is_empty() {
            let rest = ids.split_off(ids.len().min(PHONEMES_MAX));
            sound
                .samples
                .extend(self.compute(&ids, rows, request.speed).map_err(failed)?);
            ids = rest;
        }
        Ok(sound)
    }

    fn compute(&self, ids: &[i32], rows: &[f32], speed: f32) -> Result<Vec<f32>, String> {
        let row = (ids.len() - 1).min(rows.len() / STYLE - 1);
        let style = rows[row * STYLE..(row + 1) * STYLE].to_vec();
        let tokens: Vec<i32> = [&[0], ids, &[0]].concat();
        let inputs = vec![
            (
                self.tokens,
                NdTensor::from_data([1, tokens.len()], tokens).into(),
            ),
            (self.style, NdTensor::from_data([1, STYLE], style).into()),
            (self.speed, NdTensor::from_data([1], vec![speed]).into()),
        ];
        let options = RunOptions::default().with_thread_pool(Some(self.pool.clone()));
        let outputs = self
            .graph
            .run(inputs, self.graph.output_ids(), Some(options))
            .map_err(|error| error.to_string())?;
        let wave = outputs
            .into_iter()
            .next()
            .ok_or("the graph gives nothing")?;
        let wave: rten_tensor::Tensor<f32> =
            wave.try_into().map_err(|_| "the graph gives no sound")?;
        Ok(wave.to_vec())
    }
}

/// `a` is American, `b` British; the others' names begin with their own languages.
fn is_english(voice: &str) -> bool {
    voice.starts_with(['a', 'b'])
}

/// The voices of a model that lies in a file, the usual one first; none when it is no such model.
#[must_use]
pub fn voices(path: &Path) -> Vec<String> {
    let mut names = archive::voices(path).unwrap_or_default();
    names.retain(|name| is_english(name));
    names.sort_by_key(|name| name != USUAL);
    names
}

/// A loaded model.
struct Speaker {
    facts: Facts,
    voices: Vec<String>,
    net: Arc<Net>,
    turn: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Leaves the queue when it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Session for Speaker {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn load(&self) -> Load {
        Load {
            active: 1 - self.turn.available_permits().min(1),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    fn speak(&self, request: SpeakRequest) -> BoxFuture<'_, Result<Sound, EngineError>> {
        Box::pin(async move {
            let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
            let ticket = Waiting(&self.waiting);
            if waiting >= QUEUE_MAX {
                return Err(EngineError::QueueFull { waiting });
            }
            let turn = self.turn.clone().acquire_owned().await;
            let turn = turn.map_err(|_| EngineError::Stopped)?;
            drop(ticket);
            let net = self.net.clone();
            let said = tokio::task::spawn_blocking(move || {
                // Nobody may be waiting any more, but the threads are taken until the sentence is done.
                let _turn = turn;
                net.say(&request)
            });
            said.await
                .map_err(|panic| EngineError::Failed(panic.to_string()))?
        })
    }

    fn voices(&self) -> &[String] {
        &self.voices
    }
}
