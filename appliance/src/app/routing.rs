//! Which lane a request takes, and why: gathers what is true now and asks the router.
//!
//! Owns the gathering. The decision itself is [`crate::engines::route`], pure.

use std::time::Instant;

use super::{App, AppError, Decided, Pressure, Trail, kept, rates_key};
use crate::domain::model::suggestions;
use crate::domain::{ChatRequest, Input, Model, ModelFormat, Overflow, Shape, ToolChoice};
use crate::engines::lanes::{Abilities, Lane, Rates, Silicon, State, Work};
use crate::engines::ledger::Admission;
use crate::engines::plan::{Loaded, Plan, Wanted, plan};
use crate::engines::pool::{ModelState, Survey};
use crate::engines::route::{
    Ask, Candidate, Decision, Now, Preset, Refusal, header, refusal_text, route, table_text,
};
use crate::engines::{ENGINES, EngineError, Fit};
use crate::store::now_ms;

/// Seconds that a lane is put back for when its last load has failed: another one is tried first.
const FAILED_S: f64 = 30.0;
/// Seconds that it costs others to wait until a busy model has left.
const DRAIN_S: f64 = 10.0;
/// Bytes of one token, about.
const TOKEN_BYTES: usize = 4;
/// Bytes of the longest tokens: rows of spaces. Who is above a context by this measure is above it surely;
/// everybody else is counted by the engine.
const TOKEN_BYTES_MAX: usize = 128;

/// A decision, written out.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// The model that was chosen.
    pub model: String,
    /// The lane that was chosen.
    pub lane: String,
    /// Why, in a few words.
    pub reason: &'static str,
    /// The value of `x-onebit-route`.
    pub header: String,
    /// What could answer, best first.
    pub ranked: Vec<Ranked>,
    /// What could not: lane, model, why.
    pub refused: Vec<(String, String, String)>,
    /// The score table, for people.
    pub table: String,
}

/// One lane that could answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// The lane.
    pub lane: String,
    /// The model.
    pub model: String,
    /// Seconds to the first token.
    pub first_token_s: f64,
    /// Seconds to the end.
    pub eta_s: f64,
    /// Joules above idle.
    pub joules: f64,
    /// Whether they go by measured watts.
    pub joules_measured: bool,
    /// The cost, in weighted seconds, by cause: name and part.
    pub parts: [(&'static str, f64); 7],
}

/// One lane and model that a request may be sent to.
#[derive(Debug, Clone)]
pub(super) struct Pick {
    pub(super) lane: Lane,
    pub(super) engine: &'static str,
    pub(super) model: Model,
    pub(super) eta_s: f64,
    pub(super) joules: f64,
}

/// A request's way: where it goes, and where next should that fail.
pub(super) struct Routed {
    pub(super) picks: Vec<Pick>,
    pub(super) header: String,
}

/// What a model's name in a request stands for.
struct Meaning {
    models: Vec<Model>,
    preset: Option<Preset>,
    lane: Option<String>,
}

/// One pair of lane and model, before it is borrowed by a candidate.
struct Pair {
    lane: Lane,
    engine: &'static str,
    model: Model,
    rates: Rates,
    state: State,
    admission: Admission,
    eviction_s: f64,
    /// Why it is left alone for now.
    known_bad: Option<String>,
    pressure: Pressure,
    cached_tokens: usize,
    /// Why its engine cannot run it, or how much memory it lacks.
    trouble: Option<EngineError>,
}

impl App {
    /// Decides where a request for `name` would run: a model, a logical one, `name@lane`, or `auto` with or
    /// without a preset.
    ///
    /// # Errors
    /// The model is not known, or no lane can run it.
    pub async fn explain(&self, name: &str, ask: &Ask<'_>) -> Result<Explained, AppError> {
        self.remember_rates().await?;
        self.know_programs().await;
        let meaning = self.meaning(name).await?;
        let mut pairs = self.pairs(&meaning.models, ask.work, None).await;
        let ask = refine(ask, &meaning);
        let now = self.inner.flights.now(self.facts().1);
        forgive(&ask, &mut pairs, &now);
        let candidates: Vec<Candidate<'_>> = pairs.iter().map(candidate).collect();
        let decision = route(&ask, &candidates, &now);
        let (Some(best), Some(header)) = (decision.best(), header(&decision)) else {
            return Err(nobody(&decision, &pairs));
        };
        Ok(Explained {
            model: best.model.to_owned(),
            lane: best.lane.to_owned(),
            reason: decision.reason,
            header,
            ranked: decision.ranked.iter().map(ranked).collect(),
            refused: decision
                .refused
                .iter()
                .map(|(lane, model, why)| {
                    ((*lane).to_owned(), (*model).to_owned(), refusal_text(why))
                })
                .collect(),
            table: table_text(&decision),
        })
    }

    /// Whether a model of this name sees pictures on some lane.
    ///
    /// # Errors
    /// The model is not known, or no lane runs it at all.
    pub async fn sees(&self, name: &str) -> Result<bool, AppError> {
        let ask = Ask {
            abilities: Abilities::VISION,
            ..Ask::default()
        };
        match self.explain(name, &ask).await {
            Ok(_) => Ok(true),
            Err(AppError::NoLane(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether an engine that reads the model's file sees pictures, whatever it does now.
    pub fn may_see(&self, model: &Model) -> bool {
        ENGINES.iter().any(|engine| {
            let sees =
                |lane: &Lane| Abilities::VISION.without(lane.abilities) == Abilities::default();
            engine.card().formats.contains(&model.format)
                && engine.lanes(model, &self.inner.means).iter().any(sees)
        })
    }

    /// Decides where a request goes, with the state of this moment.
    pub(super) async fn route(
        &self,
        name: &str,
        ask: &Ask<'_>,
        trail: &Trail,
    ) -> Result<Routed, AppError> {
        self.remember_rates().await?;
        self.know_programs().await;
        let begun = Instant::now();
        let meaning = self.meaning(name).await?;
        let mut pairs = self.pairs(&meaning.models, ask.work, Some(trail)).await;
        let last = self.inner.affinity.last(trail);
        let ask = Ask {
            last: last
                .as_ref()
                .map(|(lane, model)| (lane.as_str(), model.as_str())),
            ..refine(ask, &meaning)
        };
        let now = self.inner.flights.now(self.facts().1);
        forgive(&ask, &mut pairs, &now);
        let candidates: Vec<Candidate<'_>> = pairs.iter().map(candidate).collect();
        let decision = route(&ask, &candidates, &now);
        let Some(mut header) = header(&decision) else {
            return Err(nobody(&decision, &pairs));
        };
        let picks: Vec<Pick> = decision
            .ranked
            .iter()
            .filter_map(|scored| {
                let same = |p: &&Pair| (p.lane.name, &*p.model.id) == (scored.lane, scored.model);
                let pair = pairs.iter().find(same)?;
                Some(Pick {
                    lane: pair.lane,
                    engine: pair.engine,
                    model: pair.model.clone(),
                    eta_s: scored.eta_s,
                    joules: scored.joules,
                })
            })
            .collect();
        if let Some(pick) = picks.first() {
            let ahead = self.inner.flights.pressure(&pick.lane, &pick.model.id);
            let ahead = (ahead.active + 1).saturating_sub(pick.lane.slots);
            if ahead > 0 {
                header.push_str(&format!(" queue={ahead}"));
            }
        }
        let decided = Decided {
            at: now_ms(),
            route: header.clone(),
        };
        self.inner.meter.decided(decided, begun.elapsed());
        Ok(Routed { picks, header })
    }

    /// The name by which a request is known from here on: what it stands for is decided when it is routed.
    ///
    /// # Errors
    /// [`AppError::ModelNotFound`] with names that look like it, or [`AppError::NoModels`].
    pub async fn name(&self, asked: &str) -> Result<String, AppError> {
        let meaning = self.meaning(asked).await?;
        let exact = meaning.preset.is_none() && meaning.lane.is_none();
        Ok(match meaning.models.as_slice() {
            [only] if exact => only.id.clone(),
            _ => asked.to_owned(),
        })
    }

    /// The model that would answer a plain request of this name.
    pub(super) async fn meant(&self, name: &str) -> Result<Model, AppError> {
        let mut meaning = self.meaning(name).await?;
        if meaning.models.len() > 1 {
            let chosen = self.explain(name, &Ask::default()).await?.model;
            meaning.models.retain(|model| model.id == chosen);
        }
        meaning.models.pop().ok_or(AppError::NoModels)
    }

    async fn meaning(&self, name: &str) -> Result<Meaning, AppError> {
        let mut all = self.registry().await?;
        if all.is_empty() && (name.is_empty() || Preset::from_model(name).is_some()) {
            return Err(AppError::NoModels);
        }
        let of = |models: Vec<Model>| Meaning {
            models,
            preset: None,
            lane: None,
        };
        let same = |model: &Model, name: &str| model.id.eq_ignore_ascii_case(name);
        if name.is_empty() {
            all.truncate(1);
            return Ok(of(all));
        }
        if let Some(found) = all.iter().position(|model| same(model, name)) {
            return Ok(of(vec![all.swap_remove(found)]));
        }
        if let Some(preset) = Preset::from_model(name) {
            let chats = |model: &Model| model.has_template;
            if all.iter().any(chats) {
                all.retain(chats);
            }
            return Ok(Meaning {
                preset: Some(preset),
                ..of(all)
            });
        }
        let (bare, lane) = match name.rsplit_once('@') {
            Some((bare, lane)) => (bare, Some(lane.to_owned())),
            None => (name, None),
        };
        let logical = self.inner.store.choices().logical().await?;
        let artifacts: Vec<&str> = logical
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(bare))
            .map(|(_, model)| model.as_str())
            .collect();
        let named = |model: &Model| same(model, bare) || artifacts.contains(&&*model.id);
        let models: Vec<Model> = all.iter().filter(|model| named(model)).cloned().collect();
        if models.is_empty() {
            let names = all.iter().map(|model| model.id.as_str());
            let known = names.chain(logical.iter().map(|(name, _)| name.as_str()));
            return Err(AppError::ModelNotFound {
                asked: name.to_owned(),
                suggestions: suggestions(bare, known),
            });
        }
        Ok(Meaning { lane, ..of(models) })
    }

    /// Every lane that might run one of the models, with what is known of the pair.
    async fn pairs(&self, models: &[Model], work: Work, trail: Option<&Trail>) -> Vec<Pair> {
        let (machine, _) = self.facts();
        let survey = self.inner.pool.survey(machine).await;
        let mut pairs = Vec::new();
        for model in models {
            for engine in ENGINES {
                let card = engine.card();
                if !card.formats.contains(&model.format) {
                    continue;
                }
                let lanes = engine.lanes(model, &self.inner.means);
                if lanes.is_empty() {
                    continue;
                }
                let fit = engine.fit(model, &machine, &self.inner.means);
                for lane in lanes {
                    pairs.push(self.pair(model, lane, card.name, &fit, &survey, trail, work));
                }
            }
        }
        pairs
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call, and each is a plain fact"
    )]
    fn pair(
        &self,
        model: &Model,
        lane: Lane,
        engine: &'static str,
        fit: &Fit,
        survey: &Survey,
        trail: Option<&Trail>,
        work: Work,
    ) -> Pair {
        let here = survey.places.iter().find(|(place, _)| {
            place.model == model.id && place.engine == engine && place.lane == lane.name
        });
        let mut eviction_s = 0.0;
        let mut trouble = None;
        let state = match (fit, here.map(|(_, state)| state)) {
            (Fit::No { why }, _) => {
                trouble = Some(EngineError::NoFit {
                    model: model.id.clone(),
                    why: format!("{engine}: {why}"),
                });
                State::Absent
            }
            (_, Some(ModelState::Loaded { load, .. })) if load.active > 0 => {
                State::Busy(load.active)
            }
            (_, Some(ModelState::Loaded { .. })) => State::Warm,
            (_, Some(ModelState::Loading)) => State::Loading,
            (_, Some(ModelState::Failed { .. })) => {
                eviction_s += FAILED_S;
                State::Ready
            }
            // Nothing is loaded here for a model elsewhere.
            (_, None) if lane.silicon == Silicon::Away => State::Warm,
            (_, None) => State::Ready,
        };
        let admission = match fit {
            Fit::Runs {
                memory_bytes_min,
                memory_bytes,
            } if state == State::Ready => {
                let wanted = Wanted {
                    memory_bytes_min: *memory_bytes_min,
                    memory_bytes: *memory_bytes,
                };
                let (admission, cost_s) = admit(wanted, survey);
                eviction_s += cost_s;
                admission
            }
            Fit::Runs { .. } | Fit::No { .. } => Admission::Fits,
        };
        if let (
            Admission::Never { .. },
            Fit::Runs {
                memory_bytes_min, ..
            },
        ) = (&admission, fit)
        {
            let kept = survey.loaded.iter().filter(|model| model.pinned);
            let kept: u64 = kept.map(|model| model.memory_bytes).sum();
            trouble = Some(EngineError::TooBig {
                model: model.id.clone(),
                needed_bytes: *memory_bytes_min,
                budget_bytes: survey.budget_bytes.saturating_sub(kept),
            });
        }
        let guess = || Rates::guess(lane.silicon, model.file_bytes, parameters(model));
        let is_chat = work == Work::Chat && state.is_loaded();
        Pair {
            rates: self.inner.meter.rates(&lane, rates_key(model), guess),
            pressure: self.inner.flights.pressure(&lane, &model.id),
            cached_tokens: trail.filter(|_| is_chat).map_or(0, |trail| {
                self.inner
                    .affinity
                    .cached_tokens(trail, lane.name, &model.id)
            }),
            known_bad: self
                .inner
                .failures
                .why(lane.name, rates_key(model), now_ms())
                .filter(|_| !state.is_loaded()),
            lane,
            engine,
            model: model.clone(),
            state,
            admission,
            eviction_s,
            trouble,
        }
    }
}

/// What a chat request asks of a lane.
pub(super) fn ask_of(request: &ChatRequest) -> Ask<'static> {
    let mut abilities = Abilities::default();
    if !request.tools.is_empty() && request.tool_choice != ToolChoice::None {
        abilities = abilities.and(Abilities::TOOLS);
    }
    abilities = match request.shape {
        Shape::Free => abilities,
        Shape::Json | Shape::Schema(_) => abilities.and(Abilities::GRAMMAR),
        Shape::Regex(_) | Shape::Grammar(_) => abilities.and(Abilities::PATTERN),
    };
    if request.shows_pictures() {
        abilities = abilities.and(Abilities::VISION);
    }
    if request.logprobs.is_some() {
        abilities = abilities.and(Abilities::LOGPROBS);
    }
    if request.sampling.seed.is_some() {
        abilities = abilities.and(Abilities::SEED);
    }
    let tools: usize = request
        .tools
        .iter()
        .map(|tool| tool.parameters.len() + tool.name.len())
        .sum();
    let prompt_tokens = match &request.input {
        Input::Messages(messages) => {
            let text: usize = messages.iter().map(|m| m.content.len()).sum();
            (text + tools) / TOKEN_BYTES + messages.len() * 4
        }
        Input::Text { text, .. } => text.len() / TOKEN_BYTES,
        Input::Tokens(tokens) => tokens.len(),
    };
    let prompt_tokens_min = match &request.input {
        Input::Tokens(_) => prompt_tokens,
        Input::Messages(messages) if request.overflow == Overflow::LeaveOut => {
            let bytes: usize = kept(messages).map(|message| message.content.len()).sum();
            bytes / TOKEN_BYTES_MAX
        }
        Input::Messages(_) | Input::Text { .. } => prompt_tokens * TOKEN_BYTES / TOKEN_BYTES_MAX,
    };
    Ask {
        prompt_tokens,
        prompt_tokens_min: Some(prompt_tokens_min),
        tokens_max: request.limits.tokens_max,
        abilities,
        ..Ask::default()
    }
}

/// The name of the model may say more than the request does.
fn refine<'a>(ask: &Ask<'a>, meaning: &'a Meaning) -> Ask<'a> {
    Ask {
        preset: meaning.preset.unwrap_or(ask.preset),
        lane: meaning.lane.as_deref().or(ask.lane),
        ..*ask
    }
}

/// Whether there is room, or who would have to leave; and the seconds that this costs others.
fn admit(wanted: Wanted, survey: &Survey) -> (Admission, f64) {
    match plan(wanted, &survey.loaded, survey.budget_bytes) {
        Plan::Load { evict, .. } => {
            let leaves = |model: &&Loaded| evict.contains(&model.id);
            let cost = survey
                .loaded
                .iter()
                .filter(leaves)
                .map(|m| m.reload_s)
                .sum();
            (Admission::Fits, cost)
        }
        Plan::Drain { .. } => (Admission::Fits, DRAIN_S),
        Plan::Refuse => {
            let short_bytes = wanted.memory_bytes_min.saturating_sub(survey.budget_bytes);
            (Admission::Never { short_bytes }, 0.0)
        }
    }
}

/// Why nobody answers: what an engine or the memory says weighs more than what a lane cannot do.
fn nobody(decision: &Decision<'_>, pairs: &[Pair]) -> AppError {
    let too_big = |pair: &&Pair| matches!(pair.trouble, Some(EngineError::TooBig { .. }));
    if let Some(error) = pairs.iter().find(too_big).and_then(|p| p.trouble.clone()) {
        return error.into();
    }
    let context = decision.refused.iter().find_map(|(_, _, why)| match why {
        Refusal::Context { tokens, max } => Some((*tokens, *max)),
        _ => None,
    });
    if let Some((tokens, context)) = context {
        return AppError::Engine(EngineError::PromptTooLong { tokens, context });
    }
    let absent = |why: &Refusal<'_>| matches!(why, Refusal::State(State::Absent));
    if decision.refused.iter().all(|(_, _, why)| absent(why)) {
        let whys: Vec<String> = pairs
            .iter()
            .filter_map(|pair| match &pair.trouble {
                Some(EngineError::NoFit { why, .. }) => Some(why.clone()),
                _ => None,
            })
            .collect();
        return AppError::Engine(EngineError::NoFit {
            model: pairs
                .first()
                .map_or_else(String::new, |p| p.model.id.clone()),
            why: whys.join("; "),
        });
    }
    let line = |(lane, model, why): &(&str, &str, Refusal<'_>)| {
        format!("{lane} with {model} {}", refusal_text(why))
    };
    let lines: Vec<String> = decision.refused.iter().map(line).collect();
    AppError::NoLane(lines.join("; "))
}

fn ranked(scored: &crate::engines::route::Scored<'_>) -> Ranked {
    let parts = &scored.parts;
    Ranked {
        lane: scored.lane.to_owned(),
        model: scored.model.to_owned(),
        first_token_s: scored.first_token_s,
        eta_s: scored.eta_s,
        joules: scored.joules,
        joules_measured: scored.joules_measured,
        parts: [
            ("queue", parts.queue),
            ("load", parts.load),
            ("prefill", parts.prefill),
            ("decode", parts.decode),
            ("energy", parts.energy),
            ("interference", parts.interference),
            ("quality", parts.quality),
        ],
    }
}

/// Parameters, from the file's size and its usual bits a weight; FLM's tags end in them.
fn parameters(model: &Model) -> u64 {
    if model.format == ModelFormat::Flm {
        return billions(&model.name).map_or(0, |billions| (billions * 1e9) as u64);
    }
    let bits = match model.quantisation.get(..2) {
        _ if model.format == ModelFormat::Remote => 16,
        Some("F3") => 32,
        Some("F1" | "BF") => 16,
        Some("Q8" | "I8") => 9,
        Some("Q6" | "Q5") => 6,
        Some("Q4" | "IQ") => 5,
        _ => 2,
    };
    model.file_bytes.saturating_mul(8) / bits
}

/// The number in a tag such as `qwen3:0.6b` or `gemma3:270m`.
fn billions(tag: &str) -> Option<f64> {
    let size = tag.rsplit_once(':')?.1.to_ascii_lowercase();
    let size = size.split('-').next_back()?;
    match size.strip_suffix('b') {
        Some(number) => number.parse().ok(),
        None => Some(size.strip_suffix('m')?.parse::<f64>().ok()? / 1e3),
    }
}

fn candidate(pair: &Pair) -> Candidate<'_> {
    let busy = match pair.state {
        State::Busy(active) => active,
        _ => 0,
    };
    Candidate {
        lane: &pair.lane,
        state: pair.state,
        model: &pair.model.id,
        rates: &pair.rates,
        context: match pair.model.context_length {
            0 => usize::MAX,
            length => usize::try_from(length).unwrap_or(usize::MAX),
        },
        quality: (parameters(&pair.model).max(1) as f64 / 1e8).log2(),
        active: pair.pressure.active.max(busy),
        queue_s: pair.pressure.queue_s,
        loading_s: pair.rates.load_s.value / 2.0,
        cached_tokens: pair.cached_tokens,
        admission: pair.admission.clone(),
        eviction_s: pair.eviction_s,
        known_bad: pair.known_bad.as_deref(),
    }
}

/// Where nobody else can answer, lanes that lately could not load the model are asked all the same.
fn forgive(ask: &Ask<'_>, pairs: &mut [Pair], now: &Now) {
    let left_alone = pairs.iter().any(|pair| pair.known_bad.is_some());
    if left_alone {
        let candidates: Vec<Candidate<'_>> = pairs.iter().map(candidate).collect();
        if route(ask, &candidates, now).ranked.is_empty() {
            pairs.iter_mut().for_each(|pair| pair.known_bad = None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_tell_their_size() {
        for (tag, size) in [
            ("qwen3:0.6b", Some(0.6)),
            ("gemma3:270m", Some(0.27)),
            ("qwen3-it:4b", Some(4.0)),
            ("lfm2:instruct-1.2b", Some(1.2)),
            ("whisper", None),
            ("x:large", None),
        ] {
            assert_eq!(billions(tag), size, "{tag}");
        }
    }
}
