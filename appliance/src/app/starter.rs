//! The starter set: what a new appliance of this size is worth having beside what comes with it, fetched beside
//! everything else.
//!
//! Owns the choice (a pure function) and its way here. Nothing of it is needed for the first chat, and nothing is
//! fetched before the owner has said so, in the settings or when asked.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::catalog::{CURATED, CatalogError, Curated, Role, Source};
use super::{App, AppError, Download, DownloadState};
use crate::config::StarterKind;
use crate::domain::{Machine, Model, ModelFormat, PersonId};
use crate::fetch::FetchError;
use crate::host::Gpu;

/// Under which the owner's answer is kept among his settings.
const ANSWER_KEY: &str = "starter";
/// Bytes of a parameter in the usual four-bit files, the larger matrices among them.
const PARAMETER_BYTES: f64 = 0.75;
/// What a conversation's cache and the engine take beside the weights.
const BESIDE_BYTES: f64 = 1e9;
/// Share of main memory that one model may take where others and the desktop live in it too.
const MEMORY_SHARE: f64 = 0.5;
/// Share of a GPU's memory: its screen and the working memory take the rest.
const GPU_SHARE: f64 = 0.8;
/// Billions of parameters that a processor alone writes about as fast as one reads.
const PROCESSOR_BILLIONS: f64 = 4.0;

/// What decides about the set.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Facts {
    memory_bytes: u64,
    /// Of the largest GPU that an engine here can drive.
    gpu_bytes: Option<u64>,
    /// Whether whisper-server is here.
    listens: bool,
    /// Whether llama-server is here.
    llama_server: bool,
    /// Whether documents have an embedder.
    embeds: bool,
}

/// One model of the set, and why it would do nothing here yet.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Wanted {
    model: &'static Curated,
    blocked: Option<&'static str>,
}

/// How the whole set stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StarterState {
    /// The settings say that there is none, or that nothing may leave this machine.
    Off,
    /// The owner has not been asked yet.
    Offered,
    /// The owner does not want it.
    Dismissed,
    /// It is on its way.
    Fetching,
    /// The hub could not be reached, or a part failed; the rest goes on when asked again or at the next start.
    Stopped,
    /// Everything that works here is here.
    Complete,
}

/// How one part stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartState {
    /// Something here does this already.
    Here,
    /// It can be fetched.
    Missing,
    /// Its bytes are coming.
    Coming,
    /// It failed.
    Failed,
    /// It would do nothing here yet.
    Blocked,
}

/// One part of the set.
#[derive(Debug, Clone)]
pub struct StarterPart {
    /// The model, by the catalogue's name; what is here already may have another.
    pub model: &'static Curated,
    /// How it stands.
    pub state: PartState,
    /// What does it already, what is missing, or what failed.
    pub note: Option<String>,
    /// Bytes that are here and of the whole; 0 until the hub has told them.
    pub done_bytes: u64,
    /// As above.
    pub total_bytes: u64,
}

/// The set as it stands.
#[derive(Debug, Clone)]
pub struct Starter {
    /// The whole.
    pub state: StarterState,
    /// Why it is off or stopped.
    pub why: Option<String>,
    /// Its parts.
    pub parts: Vec<StarterPart>,
}

/// What is going on.
#[derive(Default)]
pub(super) struct Fetching(Mutex<Course>);

#[derive(Default)]
struct Course {
    running: bool,
    stopped: Option<String>,
}

impl Fetching {
    fn lock(&self) -> MutexGuard<'_, Course> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The set for a machine. Pure.
fn choose(facts: &Facts) -> Vec<Wanted> {
    let main = facts.memory_bytes as f64 * MEMORY_SHARE;
    let gpu = facts.gpu_bytes.map(|bytes| bytes as f64 * GPU_SHARE);
    let fits = |model: &&Curated| {
        let bytes = model.billions * 1e9 * PARAMETER_BYTES + BESIDE_BYTES;
        match gpu {
            Some(gpu) if bytes <= gpu => true,
            _ => bytes <= main && model.billions <= PROCESSOR_BILLIONS,
        }
    };
    let of = |role: Role| CURATED.iter().filter(move |model| model.role == role);
    let mut set = Vec::new();
    let chat = of(Role::Chat).filter(|model| model.starter).filter(fits);
    let largest = chat.max_by(|a, b| a.billions.total_cmp(&b.billions));
    set.extend(largest.map(|model| (model, None)));
    let hears = match facts.listens {
        true => None,
        false => Some("needs whisper-server; run `onebit engines build whisper.cpp`"),
    };
    set.extend(of(Role::Hear).filter(fits).map(|model| (model, hears)));
    set.extend(of(Role::Speak).filter(fits).map(|model| (model, None)));
    if !facts.embeds {
        let embeds = match facts.llama_server {
            true => None,
            false => Some("needs llama-server; run `onebit engines build llama.cpp`"),
        };
        set.extend(of(Role::Embed).map(|model| (model, embeds)));
    }
    let wanted = |(model, blocked)| Wanted { model, blocked };
    set.into_iter().map(wanted).collect()
}

/// A model that does a part's work already.
fn does(
    role: Role,
    curated: &Curated,
    models: &[Model],
    builtin: &dyn Fn(&Model) -> bool,
) -> Option<String> {
    let able = |model: &&Model| {
        model.id == curated.name
            || match role {
                Role::Chat => model.has_template && !builtin(model),
                Role::Hear => model.format == ModelFormat::Whisper,
                Role::Speak => model.format == ModelFormat::Kokoro,
                Role::Embed => false,
            }
    };
    models.iter().find(able).map(|model| model.id.clone())
}

impl App {
    /// The starter set of this machine as it stands.
    ///
    /// # Errors
    /// The store fails.
    pub async fn starter(&self) -> Result<Starter, AppError> {
        let models = self.registry().await?;
        let is_builtin = |model: &Model| self.is_builtin(model);
        let wanted = choose(&self.starter_facts().await);
        let part = |wanted: Wanted| {
            let model = wanted.model;
            let here = does(model.role, model, &models, &is_builtin);
            part(wanted, here, self.download(model.name))
        };
        let parts: Vec<StarterPart> = wanted.into_iter().map(part).collect();
        let (state, why) = self.starter_state(&parts).await?;
        Ok(Starter { state, why, parts })
    }

    async fn starter_state(
        &self,
        parts: &[StarterPart],
    ) -> Result<(StarterState, Option<String>), AppError> {
        let config = self.config();
        let off = |why: &str| Ok((StarterState::Off, Some(why.to_owned())));
        if config.fetch.offline {
            return off("fetch.offline is set: nothing leaves this machine");
        }
        if config.models.starter == StarterKind::Off {
            return off("models.starter is off");
        }
        let open = |part: &StarterPart| !matches!(part.state, PartState::Here | PartState::Blocked);
        let (running, stopped) = {
            let course = self.inner.starter.lock();
            (course.running, course.stopped.clone())
        };
        let state = match self.starter_answer().await?.as_deref() {
            _ if running => StarterState::Fetching,
            _ if !parts.iter().any(open) => StarterState::Complete,
            Some("no") => StarterState::Dismissed,
            _ if stopped.is_some() => return Ok((StarterState::Stopped, stopped)),
            _ => StarterState::Offered,
        };
        Ok((state, None))
    }

    async fn starter_facts(&self) -> Facts {
        let programs = &self.inner.means.programs;
        let Machine {
            memory_total_bytes, ..
        } = super::machine(self.inner.cores);
        let llama_server = programs.get("llama-server").is_some();
        let drives = |gpu: &&Gpu| llama_server && gpu.driver.is_some();
        let gpus = self.inner.gpus.iter().filter(drives);
        Facts {
            memory_bytes: memory_total_bytes,
            gpu_bytes: gpus.filter_map(Gpu::pool_bytes).max(),
            listens: programs.get("whisper-server").is_some(),
            llama_server,
            embeds: self.has_embedder().await,
        }
    }

    async fn starter_answer(&self) -> Result<Option<String>, AppError> {
        let all = self.store().settings().all(&PersonId::owner()).await?;
        let found = all.into_iter().find(|(key, _)| key == ANSWER_KEY);
        Ok(found.map(|(_, value)| value.trim_matches('"').to_owned()))
    }

    async fn answer_starter(&self, answer: &str) -> Result<(), AppError> {
        let value = format!("\"{answer}\"");
        let settings = self.store().settings();
        Ok(settings.set(&PersonId::owner(), ANSWER_KEY, &value).await?)
    }

    /// The owner wants the set: fetches what is missing, one after the other, and goes on at the next start.
    ///
    /// # Errors
    /// Nothing may leave this machine, or the store fails.
    pub async fn fetch_starter(&self) -> Result<(), AppError> {
        self.hub()?;
        if self.config().fetch.offline {
            let host = self.config().hub.endpoint.clone();
            return Err(CatalogError::Fetch(FetchError::Offline { host }).into());
        }
        self.answer_starter("yes").await?;
        self.begin_starter();
        Ok(())
    }

    /// The owner does not want it; what is on its way stops.
    ///
    /// # Errors
    /// The store fails.
    pub async fn dismiss_starter(&self) -> Result<(), AppError> {
        self.answer_starter("no").await?;
        for part in self.starter().await?.parts {
            if part.state == PartState::Coming {
                self.control_download(part.model.name, super::DownloadAction::Pause);
            }
        }
        Ok(())
    }

    /// At the start: goes on where the owner has said yes, or begins where the settings say so.
    pub(super) async fn go_on_with_starter(&self) {
        let config = self.config();
        if config.fetch.offline || config.models.starter == StarterKind::Off {
            return;
        }
        let wanted = match self.starter_answer().await {
            Ok(Some(answer)) => answer == "yes",
            Ok(None) => config.models.starter == StarterKind::Fetch,
            Err(error) => {
                tracing::warn!(%error, "the starter set is left alone");
                return;
            }
        };
        if wanted {
            self.begin_starter();
        }
    }

    fn begin_starter(&self) {
        let mut course = self.inner.starter.lock();
        if std::mem::replace(&mut course.running, true) {
            return;
        }
        course.stopped = None;
        drop(course);
        let app = self.clone();
        tokio::spawn(async move {
            let stopped = app.fetch_parts().await.err();
            if let Some(why) = &stopped {
                // Once; the page and `onebit status` go on saying it.
                tracing::warn!(
                    why,
                    "the starter set is not complete; everything else goes on"
                );
            }
            let mut course = app.inner.starter.lock();
            course.running = false;
            course.stopped = stopped;
        });
    }

    /// Fetches part after part; says why it had to stop.
    async fn fetch_parts(&self) -> Result<(), String> {
        let words = |error: AppError| error.to_string();
        let missing: Vec<&'static Curated> = self
            .starter()
            .await
            .map_err(words)?
            .parts
            .iter()
            .filter(|part| matches!(part.state, PartState::Missing | PartState::Failed))
            .map(|part| part.model)
            .collect();
        let Some(first) = missing.first() else {
            return Ok(());
        };
        // One question tells whether the hub answers at all, before every part fails in its turn.
        let hub = self.hub().map_err(|error| error.to_string())?;
        let source = Source::parse(first.name).map_err(|error| error.to_string())?;
        match hub.list(&source).await {
            Err(CatalogError::Fetch(error)) if !matches!(error, FetchError::Status { .. }) => {
                return Err(format!("the hub cannot be reached: {error}"));
            }
            // What is wrong with one part is said at that part.
            Ok(_) | Err(_) => {}
        }
        let mut failed = Vec::new();
        for model in missing {
            // Said no meanwhile.
            if self.starter_answer().await.map_err(words)?.as_deref() == Some("no") {
                return Ok(());
            }
            let name = Some(model.name.to_owned());
            self.start_download(model.name, model.name, name)
                .map_err(words)?;
            if self.ended(model.name).await == Some(DownloadState::Failed) {
                failed.push(model.name);
            }
        }
        match failed.as_slice() {
            [] => Ok(()),
            names => Err(format!("{} could not be fetched", names.join(", "))),
        }
    }

    /// Waits until a pull has ended or was stopped.
    async fn ended(&self, name: &str) -> Option<DownloadState> {
        let mut bell = self.download_bell();
        loop {
            bell.borrow_and_update();
            match self.download(name).map(|download| download.state) {
                Some(DownloadState::Downloading) => {}
                ended => return ended,
            }
            // The bell lives as long as the appliance.
            if bell.changed().await.is_err() {
                return None;
            }
        }
    }
}

fn part(wanted: Wanted, here: Option<String>, download: Option<Download>) -> StarterPart {
    let (done_bytes, total_bytes) = download.as_ref().map_or((0, 0), |download| {
        (download.done_bytes, download.total_bytes)
    });
    let coming = download.as_ref().map(|download| download.state);
    let (state, note) = match (here, coming) {
        (Some(model), _) => (PartState::Here, Some(model)),
        (None, Some(DownloadState::Downloading)) => (PartState::Coming, None),
        (None, Some(DownloadState::Failed)) => (
            PartState::Failed,
            download.and_then(|download| download.error),
        ),
        (None, _) => match wanted.blocked {
            Some(why) => (PartState::Blocked, Some(why.to_owned())),
            None => (PartState::Missing, None),
        },
    };
    StarterPart {
        model: wanted.model,
        state,
        note,
        done_bytes,
        total_bytes,
    }
}

/// What a role is called in listings.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Chat => "chat",
        Role::Embed => "embeddings",
        Role::Hear => "hearing",
        Role::Speak => "speaking",
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::curated;
    use super::*;

    fn names(gib: u64, change: impl FnOnce(&mut Facts)) -> Vec<(&'static str, bool)> {
        let mut facts = Facts {
            memory_bytes: gib << 30,
            gpu_bytes: None,
            listens: true,
            llama_server: true,
            embeds: true,
        };
        change(&mut facts);
        let set = choose(&facts);
        set.iter()
            .map(|wanted| (wanted.model.name, wanted.blocked.is_some()))
            .collect()
    }

    #[test]
    fn the_set_grows_with_the_machine() {
        let chat = |gib, gpu: Option<u64>| {
            let set = names(gib, |facts| facts.gpu_bytes = gpu.map(|gib| gib << 30));
            set.first().map(|(name, _)| *name)
        };
        assert_eq!(chat(4, None), Some("qwen3-0.6b"));
        assert_eq!(chat(6, None), Some("qwen3-1.7b"));
        assert_eq!(chat(16, None), Some("qwen3-4b"));
        assert_eq!(
            chat(256, None),
            Some("qwen3-4b"),
            "a processor alone is slow"
        );
        assert_eq!(chat(32, Some(16)), Some("qwen3-8b"));
        assert_eq!(
            chat(128, Some(96)),
            Some("qwen3-8b"),
            "the largest that we list"
        );
        assert_eq!(
            chat(32, Some(2)),
            Some("qwen3-4b"),
            "too small a GPU is none"
        );
        // A machine that has no room for a better one than what comes with the program gets none.
        assert!(
            names(2, |_| ())
                .iter()
                .all(|(name, _)| !name.starts_with("qwen"))
        );
    }

    #[test]
    fn what_has_no_engine_is_shown_with_the_reason() {
        let all = names(16, |_| ());
        assert_eq!(
            all,
            [
                ("qwen3-4b", false),
                ("whisper-base", false),
                ("kokoro", false)
            ]
        );
        let bare = names(16, |facts| {
            (facts.listens, facts.llama_server, facts.embeds) = (false, false, false);
        });
        let blocked: Vec<_> = bare.iter().filter(|(_, blocked)| *blocked).collect();
        assert_eq!(
            blocked,
            [&("whisper-base", true), &("nomic-embed-text", true)]
        );
    }

    #[test]
    fn a_part_says_how_it_stands() {
        let wanted = Wanted {
            model: curated("qwen3-4b").unwrap(),
            blocked: None,
        };
        let download = |state| Download {
            model: "qwen3-4b".into(),
            imported: None,
            checkpoint: String::new(),
            state,
            total_bytes: 10,
            done_bytes: 4,
            resumed_bytes: 0,
            error: Some("it broke".into()),
            code: None,
        };
        let of = |here: Option<&str>, state: Option<DownloadState>| {
            let part = part(wanted, here.map(str::to_owned), state.map(download));
            (part.state, part.note)
        };
        assert_eq!(of(None, None), (PartState::Missing, None));
        assert_eq!(of(Some("m"), None), (PartState::Here, Some("m".into())));
        assert_eq!(
            of(None, Some(DownloadState::Downloading)),
            (PartState::Coming, None)
        );
        let failed = of(None, Some(DownloadState::Failed));
        assert_eq!(failed, (PartState::Failed, Some("it broke".into())));
        assert_eq!(of(None, Some(DownloadState::Paused)).0, PartState::Missing);
        let whisper = Wanted {
            model: curated("whisper-base").unwrap(),
            blocked: Some("why"),
        };
        assert_eq!(super::part(whisper, None, None).state, PartState::Blocked);
    }
}
