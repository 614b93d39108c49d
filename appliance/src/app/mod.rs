//! The verbs: the list of things that a client can ask.
//!
//! [`App`] is built once and cloned into every request. It combines engines and store and knows nothing
//! of HTTP or of any dialect. Its files do not import each other, apart from this one.

mod access;
mod acme;
mod affinity;
mod agents;
mod answer;
pub mod backup;
mod bench;
mod builtin;
pub mod catalog;
mod chat;
mod choices;
mod details;
mod doctor;
pub mod documents;
mod downloads;
mod embed;
mod energy;
mod errands;
mod error;
mod facts;
mod failures;
mod files;
mod flights;
mod follow;
mod foreign;
mod hardware;
pub mod journal;
mod kernels;
mod measure;
mod mesh;
mod meter;
mod models;
mod outgrown;
mod pictures;
mod policy;
mod prompt;
mod registrations;
mod remotes;
mod routing;
mod speech;
mod starter;
mod stats;
mod tally;
mod tokens;
mod tunnel;
mod turns;
pub mod update;
mod uploads;
mod wish;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use onebit_kernels::threads::Threads;

use crate::config::{Config, bundled_engines, program_folders};
use crate::domain::Machine;
use crate::engines::child::Children;
use crate::engines::pool::Pool;
use crate::engines::probe::{self, Probed};
use crate::engines::programs::Programs;
use crate::engines::{ENGINES, Means};
use crate::fetch::{Fetch, Policy};
use crate::host::{self, Gpu, Host};
use crate::mesh::Mesh;
use crate::store::Store;
use crate::trust::Trust;

pub use access::Reach;
use affinity::{Affinity, Trail};
pub use agents::{AgentRun, BroughtAgents, Transcript};
pub use answer::Answer;
pub use bench::{BenchPlan, Line as BenchLine, Report as BenchReport, Subject, TextPerplexity};
use chat::{Begun, Journey, count_words, input_bytes};
pub use details::Details;
pub use doctor::check_up;
use documents::{Mode, SearchRequest};
pub use downloads::{Download, DownloadAction, DownloadState};
pub use embed::{EmbedInput, Embedded, shortened};
pub use errands::{Errand, ErrandState};
pub use error::AppError;
pub use files::{FileEntry, FilesError, FoundFiles, Listing, Preview, PreviewText, READABLE};
use flights::{Aboard, Flights, Pressure};
use follow::Log;
pub use hardware::{Activity, Hardware, ProgramFact};
pub use kernels::{FirstRun, KernelEntry, KernelWork, Phase};
pub use measure::Perplexity;
pub use mesh::{ForDevice, MeshStatus, NewTunnel};
use meter::{Clock, Meter, Outcome, key as rates_key};
pub use meter::{Decided, LaneNumbers, MeterNumbers, RateNumbers, Series};
use models::pack_voices;
pub use models::{ModelStatus, NewModel};
use outgrown::{has_turns, kept, leave_out, room};
pub use pictures::Drawing;
pub use policy::check_regex;
use prompt::Reader;
pub use registrations::Registered;
pub use remotes::NewRemote;
pub use routing::{Explained, Ranked};
use routing::{Pick, ask_of};
pub use speech::{
    Container, Cutter, Ear, Heard, Hearing, ListenAsk, Mouth, Piece, Recording, SpeakAsk, Speaking,
    Spoken, TEXT_BYTES_MAX, language_name, sayable,
};
pub use starter::{PartState, Starter, StarterPart, StarterState, role_name};
pub use stats::Numbers;
pub use tally::Tally;
pub use tokens::{Gap, Token};
pub use tunnel::Tunnel;
pub use turns::{RunningTurn, Turn, TurnEvent, TurnRequest, UNTITLED};
use wish::carried;
pub use wish::{RouteNote, Wish, carrying};

// What `api` needs of the layers below, so that it depends on this one alone.
pub use crate::agents::bundle::BUNDLE_BYTES_MAX;
pub use crate::engines::EngineError;
#[cfg(test)]
pub(crate) use crate::engines::Load;
pub use crate::engines::pool::ModelState;
pub use crate::engines::route::{Ask, Preset, Priority};
pub use crate::host::checks::Check;
pub use crate::mesh::{MeshStream, Verdict as MeshVerdict};
pub use crate::sound::utterances::{UtteranceEvent, UtteranceSettings, Utterances};
pub use crate::sound::{RATE_HZ as HEARING_HZ, Resampler, SoundError};
pub use crate::store::{
    BroughtMessage, Chat, ChatChange, ChatQuery, Found, NewSession, NoteKind, Numbered, Session,
    SessionChange, StoreError, StoredMessage, StoredResponse, StoredText, Watch, new_id, now_ms,
};
pub use crate::trust::{
    self, Carried, Live, Made, Progress as PairingProgress, Recognised, TrustError, pairing,
};

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The appliance; clones share it.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

/// Everything that lives as long as the process.
struct Inner {
    config: Config,
    store: Store,
    pool: Pool,
    means: Means,
    templates: prompt::Templates,
    details: details::DetailsShelf,
    vocabularies: tokens::Vocabularies,
    downloads: downloads::Downloads,
    starter: starter::Fetching,
    registrations: registrations::Registrations,
    last_look: hardware::LastLook,
    tallies: tally::Tallies,
    turns: turns::Turns,
    runs: agents::Runs,
    errands: errands::Errands,
    tunnel: tunnel::LastTunnel,
    library: documents::Library,
    /// Computing threads, shared by engines and the library.
    threads: Arc<Threads>,
    affinity: Affinity,
    flights: Flights,
    meter: Meter,
    energy: energy::Energy,
    failures: failures::Failures,
    facts: facts::Facts,
    /// Set once the engines' programs have said what they are.
    probed: tokio::sync::OnceCell<()>,
    /// Set once the store's rates have been read.
    remembered: tokio::sync::OnceCell<()>,
    /// Whether changed rates are about to be written.
    saving: AtomicBool,
    gpus: Vec<Gpu>,
    trust: Trust,
    mesh: Mesh,
    tailnet: mesh::KnownTailnet,
    reach: access::Addresses,
    /// How far the GPU's kernels are; `None` where there is no GPU.
    first_run: kernels::Runs,
    /// Set once the shipped model has been looked for.
    builtin: tokio::sync::OnceCell<()>,
    started: Instant,
    cores: usize,
}

/// How the appliance is doing.
#[derive(Debug, Clone)]
pub struct Status {
    /// Time since start.
    pub uptime: Duration,
    /// This machine, now.
    pub machine: Machine,
    /// Models that are loaded or being loaded.
    pub models: Vec<ModelStatus>,
    /// Bytes that they hold.
    pub models_bytes: u64,
    /// Answers that are being made.
    pub active: usize,
    /// Requests that wait.
    pub waiting: usize,
}

/// Gathers what engines work with: programs, a launcher for children, the way out.
fn means(config: &Config) -> Result<Means, AppError> {
    let engines = config.data_dir.join("engines");
    let programs = Programs::find(&engines, &bundled_engines(), &program_folders());
    let folder = config.data_dir.join("run");
    let children = Children::new(folder.clone()).map_err(|source| AppError::File {
        what: "cannot make",
        path: folder,
        source,
    })?;
    Ok(Means {
        ternary: config.ternary.clone(),
        kernels: config.data_dir.join("kernels"),
        programs,
        probed: Probed::default(),
        remotes: config.data_dir.join("remotes"),
        children: Some(children),
        fetch: Some(Fetch::new(Policy {
            offline: config.fetch.offline,
            private_hosts: config.fetch.private_hosts.clone(),
        })),
    })
}

impl App {
    /// Opens the store and starts the pool; loads no model. Must run inside the runtime.
    ///
    /// # Errors
    /// The data directory cannot be used.
    pub fn open(config: Config) -> Result<App, AppError> {
        let store = Store::open(&config.data_dir)?;
        let host = Host::read(Path::new("/"));
        let cores = physical_cores(&host);
        let threads = match config.ternary.threads {
            0 => cores,
            set => set,
        };
        let threads = Arc::new(Threads::new(threads));
        let means = means(&config)?;
        let pool = Pool::start(
            ENGINES,
            config.pool.clone(),
            means.clone(),
            Arc::clone(&threads),
            Arc::new(move || machine(cores)),
        );
        let inner = Inner {
            trust: Trust::new(store.clone(), config.trust.clone()),
            mesh: mesh::open(&store, &config.mesh, config.fetch.offline),
            tailnet: mesh::KnownTailnet::default(),
            reach: access::Addresses::default(),
            config,
            store,
            pool,
            means,
            templates: prompt::Templates::default(),
            details: details::DetailsShelf::default(),
            vocabularies: tokens::Vocabularies::default(),
            downloads: downloads::Downloads::default(),
            starter: starter::Fetching::default(),
            registrations: registrations::Registrations::default(),
            last_look: hardware::LastLook::default(),
            tallies: tally::Tallies::default(),
            turns: turns::Turns::default(),
            runs: agents::Runs::default(),
            errands: errands::Errands::default(),
            tunnel: tunnel::LastTunnel::default(),
            library: documents::Library::new(),
            threads,
            affinity: Affinity::default(),
            flights: Flights::default(),
            meter: Meter::default(),
            energy: energy::Energy::new(),
            failures: failures::Failures::default(),
            facts: facts::Facts::default(),
            probed: tokio::sync::OnceCell::new(),
            remembered: tokio::sync::OnceCell::new(),
            saving: AtomicBool::new(false),
            gpus: host.gpus,
            first_run: kernels::Runs::default(),
            builtin: tokio::sync::OnceCell::new(),
            started: Instant::now(),
            cores,
        };
        Ok(App {
            inner: Arc::new(inner),
        })
    }

    /// Settles what the last run left unfinished and loads what is to stay loaded; for the process that serves, once, at its start.
    ///
    /// # Errors
    /// The store fails.
    pub async fn recover(&self) -> Result<(), AppError> {
        if let Err(error) = crate::process::allow_many_files() {
            tracing::warn!(%error, "the limit of open files stays low; many clients at once may be refused");
        }
        let cut = self.inner.store.chats().close_interrupted().await?;
        if cut > 0 {
            tracing::info!(
                answers = cut,
                "answers that the last run left unfinished were marked"
            );
        }
        // Answers are given meanwhile: it is another program's time.
        let app = self.clone();
        tokio::spawn(async move {
            if let Err(error) = app.find_flm_models().await {
                tracing::warn!(%error, "models of FastFlowLM are not listed");
            }
            app.know_programs().await;
            if let Err(error) = app.load_pinned().await {
                tracing::warn!(%error, "pinned models are not loaded");
            }
            app.go_on_with_starter().await;
        });
        Ok(())
    }

    /// Asks the engines' programs what they are, once; lanes depend on it.
    async fn know_programs(&self) {
        let inner = &self.inner;
        let ask = || async {
            let Some(children) = &inner.means.children else {
                return;
            };
            let integrated = inner.gpus.iter().all(|gpu| gpu.integrated == Some(true));
            let engines = inner.config.data_dir.join("engines");
            let programs = &inner.means.programs;
            let found = probe::probe(programs, &engines, &children.launcher, integrated).await;
            for (program, why) in &found.bad {
                tracing::warn!(program, why, "an engine is left alone");
            }
            inner.means.probed.set(found);
        };
        inner.probed.get_or_init(ask).await;
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Chats, models and settings as rows; verbs that only read or write rows need no wrapper.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Tells how the appliance is doing.
    ///
    /// # Errors
    /// The store fails.
    pub async fn status(&self) -> Result<Status, AppError> {
        let mut models = self.models().await?;
        models.retain(|status| status.state.is_some());
        let (mut models_bytes, mut active, mut waiting) = (0, 0, 0);
        for status in &models {
            if let Some((bytes, load)) = status.held() {
                models_bytes += bytes;
                active += load.active;
                waiting += load.waiting;
            }
        }
        Ok(Status {
            uptime: self.inner.started.elapsed(),
            machine: machine(self.inner.cores),
            models,
            models_bytes,
            active,
            waiting,
        })
    }
}

/// Cores of which each has its own vector units; logical ones where the system tells no topology.
fn physical_cores(host: &Host) -> usize {
    let logical = std::thread::available_parallelism().map_or(1, usize::from);
    host.cpu
        .cores
        .map_or(logical, |physical| physical.min(logical))
        .max(1)
}

/// This machine now. Memory that the system does not tell counts as none: models are then refused until the
/// owner sets `pool.memory_bytes_max`.
fn machine(cores: usize) -> Machine {
    let memory = host::memory_now(Path::new("/"));
    Machine {
        cores,
        memory_total_bytes: memory.map_or(0, |memory| memory.total_bytes),
        memory_available_bytes: memory.map_or(0, |memory| memory.available_bytes),
    }
}
