//! The router: filter, score, pick, explain. Pure functions over plain data; no clock, no locks, no I/O.
//!
//! Owns the decision which silicon runs a request. Must not know how candidates came to be: the pool
//! gathers them and acts. Costs are in seconds, so that every weight can be read as "this is worth
//! waiting so long for".

mod explain;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod table;

use super::lanes::{Abilities, Lane, Rates, State, Work};
use super::ledger::Admission;

pub use explain::{header, refusal as refusal_text, table_text};

/// What an owner or a request prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    #[default]
    Balanced,
    Fast,
    Eco,
    Quality,
}

impl Preset {
    /// Reads `auto`, `auto:fast`, `auto:eco`, `auto:quality`; `None` for any other model name.
    #[must_use]
    pub fn from_model(name: &str) -> Option<Self> {
        Some(match name {
            "auto" => Self::Balanced,
            "auto:fast" => Self::Fast,
            "auto:eco" => Self::Eco,
            "auto:quality" => Self::Quality,
            _ => return None,
        })
    }
}

/// Who waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Priority {
    /// A person.
    #[default]
    Interactive,
    /// Nobody: summaries, titles, indexing.
    Background,
}

/// Where the machine's power comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Power {
    #[default]
    Mains,
    Battery,
    /// The owner wants no fan.
    Quiet,
}

/// A request, as far as routing cares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ask<'a> {
    pub work: Work,
    /// About how many; what is scored.
    pub prompt_tokens: usize,
    /// How many it has at least, where the number above is a guess; what must fit.
    pub prompt_tokens_min: Option<usize>,
    /// The client's limit on the answer.
    pub tokens_max: Option<usize>,
    pub abilities: Abilities,
    pub priority: Priority,
    pub preset: Preset,
    /// The lane the client insists on, by its name or its silicon's (`x-onebit-lane`).
    pub lane: Option<&'a str>,
    /// The (lane, model) this session used last.
    pub last: Option<(&'a str, &'a str)>,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self {
            work: Work::Chat,
            prompt_tokens: 64,
            prompt_tokens_min: None,
            tokens_max: None,
            abilities: Abilities::default(),
            priority: Priority::Interactive,
            preset: Preset::Balanced,
            lane: None,
            last: None,
        }
    }
}

/// Length of an answer when nobody says: the middle of chat answers; a limit below it counts instead.
pub const ANSWER_TOKENS: usize = 256;

impl Ask<'_> {
    /// Tokens the answer will probably have. Other work than chat makes none.
    #[must_use]
    pub fn answer_tokens(&self) -> usize {
        if self.work == Work::Chat {
            self.tokens_max.unwrap_or(ANSWER_TOKENS).min(ANSWER_TOKENS)
        } else {
            0
        }
    }
}

/// One artifact on one lane, with what is true at this moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate<'a> {
    pub lane: &'a Lane,
    pub state: State,
    /// The artifact's id.
    pub model: &'a str,
    pub rates: &'a Rates,
    /// Longest context of the artifact.
    pub context: usize,
    /// How good its answers are, in doublings of parameters; only differences count.
    pub quality: f64,
    /// Requests running there now.
    pub active: usize,
    /// Seconds of work already queued before this one.
    pub queue_s: f64,
    /// Seconds until a load in progress ends.
    pub loading_s: f64,
    /// Tokens of this prompt that its cache holds.
    pub cached_tokens: usize,
    pub admission: Admission,
    /// Seconds it will cost others to reload what has to go.
    pub eviction_s: f64,
    /// Why it is left alone for now: it could not load the artifact.
    pub known_bad: Option<&'a str>,
}

/// The state of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Now {
    pub power: Power,
    /// Share of the memory bus taken by decodes running now, 0 to 1.
    pub bus_busy: f64,
    /// How many of them a person waits for.
    pub people_waiting: usize,
}

/// Why a candidate is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal<'a> {
    NotAsked,
    Work(Work),
    Lacks(Abilities),
    Context { tokens: usize, max: usize },
    State(State),
    KnownBad(&'a str),
    Memory { short_bytes: u64 },
}

/// What a candidate would cost, in weighted seconds, by cause.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Parts {
    pub queue: f64,
    pub load: f64,
    pub prefill: f64,
    pub decode: f64,
    pub energy: f64,
    pub interference: f64,
    pub quality: f64,
}

impl Parts {
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.queue
            + self.load
            + self.prefill
            + self.decode
            + self.energy
            + self.interference
            + self.quality
    }
}

/// A candidate that could do it.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored<'a> {
    pub lane: &'a str,
    pub model: &'a str,
    pub first_token_s: f64,
    pub eta_s: f64,
    pub joules: f64,
    /// Whether they go by watts that this machine has told, or by what such silicon usually takes.
    pub joules_measured: bool,
    pub parts: Parts,
    /// Who has to go first.
    pub evict: &'a [u64],
}

/// The whole answer: who, in which order, and why not the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<'a> {
    /// Best first. A lane that fails before the first byte is followed by the next one.
    pub ranked: Vec<Scored<'a>>,
    pub refused: Vec<(&'a str, &'a str, Refusal<'a>)>,
    pub reason: &'static str,
}

impl<'a> Decision<'a> {
    /// The choice.
    #[must_use]
    pub fn best(&self) -> Option<&Scored<'a>> {
        self.ranked.first()
    }
}

/// What each thing is worth, in seconds of the asker's time.
#[derive(Debug, Clone, Copy)]
struct Weights {
    latency: f64,
    /// Per joule.
    energy: f64,
    /// Per second that somebody else waits longer.
    interference: f64,
    /// Per doubling of parameters.
    quality: f64,
}

/// How much each answer beside it slows an answer on the same lane.
pub const BESIDE: f64 = 0.35;

/// A session stays where it is unless moving saves this share of the cost ...
const STAY_SHARE: f64 = 0.25;
/// ... and at least this many seconds: below, nobody notices, but the prefix cache is lost.
const STAY_S: f64 = 0.5;

impl Weights {
    fn of(preset: Preset, priority: Priority, power: Power) -> Self {
        // 100 J are a second: the iGPU's 80 W then nearly double the price of its time, and the NPU wins
        // exactly where it does not keep anybody waiting much longer.
        let mut weights = match preset {
            Preset::Balanced => Self {
                latency: 1.0,
                energy: 0.01,
                interference: 0.5,
                quality: 2.0,
            },
            Preset::Fast => Self {
                latency: 1.0,
                energy: 0.0,
                interference: 0.2,
                quality: 0.5,
            },
            Preset::Eco => Self {
                latency: 0.2,
                energy: 0.05,
                interference: 0.5,
                quality: 1.0,
            },
            Preset::Quality => Self {
                latency: 0.3,
                energy: 0.002,
                interference: 0.3,
                quality: 60.0,
            },
        };
        if priority == Priority::Background {
            // Nobody waits, but somebody else may: time is cheap, joules and getting in the way are not.
            weights.latency *= 0.05;
            weights.interference *= 6.0;
            weights.quality *= 0.4;
        }
        match power {
            Power::Mains => {}
            Power::Battery => weights.energy = (weights.energy * 10.0).max(0.02),
            Power::Quiet => weights.energy = (weights.energy * 4.0).max(0.01),
        }
        weights
    }
}

/// Decides. `candidates` are all pairs of lane and artifact that the request's model name stands for.
#[must_use]
pub fn route<'a>(ask: &Ask<'_>, candidates: &'a [Candidate<'a>], now: &Now) -> Decision<'a> {
    let weights = Weights::of(ask.preset, ask.priority, now.power);
    let best_quality = candidates
        .iter()
        .map(|c| c.quality)
        .fold(f64::NEG_INFINITY, f64::max);
    let mut ranked = Vec::with_capacity(candidates.len());
    let mut refused = Vec::new();
    for candidate in candidates {
        match refusal(ask, candidate) {
            Some(why) => refused.push((candidate.lane.name, candidate.model, why)),
            None => ranked.push(score(ask, candidate, now, &weights, best_quality)),
        }
    }
    ranked.sort_by(|a, b| a.parts.sum().total_cmp(&b.parts.sum()));
    let stayed = stay(ask, &mut ranked);
    let reason = explain::reason(&ranked, candidates, stayed);
    Decision {
        ranked,
        refused,
        reason,
    }
}

fn refusal<'a>(ask: &Ask<'_>, candidate: &Candidate<'a>) -> Option<Refusal<'a>> {
    let lane = candidate.lane;
    let is_named = |wanted: &str| wanted == lane.name || wanted == lane.silicon.as_str();
    if ask.lane.is_some_and(|wanted| !is_named(wanted)) {
        return Some(Refusal::NotAsked);
    }
    if !lane.works.contains(&ask.work) {
        return Some(Refusal::Work(ask.work));
    }
    let missing = ask.abilities.without(lane.abilities);
    if !missing.is_empty() {
        return Some(Refusal::Lacks(missing));
    }
    let context = candidate.context.min(lane.context_max);
    // A prompt without room for even one token of answer fits nowhere; a limit is cut, as engines do.
    let tokens = ask.prompt_tokens_min.unwrap_or(ask.prompt_tokens);
    if ask.work == Work::Chat && tokens >= context {
        return Some(Refusal::Context {
            tokens,
            max: context,
        });
    }
    if !candidate.state.takes_requests() {
        return Some(Refusal::State(candidate.state));
    }
    if let Some(why) = candidate.known_bad {
        return Some(Refusal::KnownBad(why));
    }
    match candidate.admission {
        Admission::Never { short_bytes } | Admission::Later { short_bytes }
            if !candidate.state.is_loaded() =>
        {
            Some(Refusal::Memory { short_bytes })
        }
        _ => None,
    }
}

fn score<'a>(
    ask: &Ask<'_>,
    candidate: &'a Candidate<'a>,
    now: &Now,
    weights: &Weights,
    best_quality: f64,
) -> Scored<'a> {
    let lane = candidate.lane;
    let rates = candidate.rates;
    let queue = if candidate.active >= lane.slots {
        candidate.queue_s
    } else {
        0.0
    };
    let load = match candidate.state {
        State::Ready => rates.load_s.value,
        State::Loading => candidate.loading_s,
        _ => 0.0,
    };
    // Requests beside us share the lane; decodes elsewhere share the memory bus, which hurts both sides
    // only as far as together they want more than there is.
    let beside = candidate.active.min(lane.slots.saturating_sub(1)) as f64;
    let crowding = if now.bus_busy > 0.0 {
        (now.bus_busy + lane.silicon.bus_share() - 1.0).max(0.0)
    } else {
        0.0
    };
    let slowed = 1.0 + BESIDE * beside + crowding;
    let new_tokens = ask.prompt_tokens.saturating_sub(candidate.cached_tokens);
    let prefill = rates.prefill_s(new_tokens);
    let decode = rates.decode_s(ask.answer_tokens()) * slowed;
    let work_s = prefill + decode;
    let joules = (work_s + load) * rates.watts.value;
    let others_s = now.people_waiting as f64 * work_s * crowding + candidate.eviction_s;
    let parts = Parts {
        queue: queue * weights.latency,
        load: load * weights.latency,
        prefill: prefill * weights.latency,
        decode: decode * weights.latency,
        energy: joules * weights.energy,
        interference: others_s * weights.interference,
        quality: (best_quality - candidate.quality).max(0.0) * weights.quality,
    };
    let first_token_s = queue + load + prefill;
    let evict: &[u64] = if let Admission::After(ids) = &candidate.admission {
        ids
    } else {
        &[]
    };
    Scored {
        lane: lane.name,
        model: candidate.model,
        first_token_s,
        eta_s: first_token_s + decode,
        joules,
        joules_measured: rates.watts.is_measured(),
        parts,
        evict,
    }
}

/// Keeps a session where it was unless moving clearly pays. Returns whether it changed the order.
fn stay(ask: &Ask<'_>, ranked: &mut [Scored<'_>]) -> bool {
    let Some(place) = ask
        .last
        .and_then(|last| ranked.iter().position(|s| (s.lane, s.model) == last))
    else {
        return false;
    };
    let (here, best) = (ranked[place].parts.sum(), ranked[0].parts.sum());
    let saved = here - best;
    let stays = place > 0 && (saved < STAY_S || saved < here * STAY_SHARE);
    if stays {
        ranked[..=place].rotate_right(1);
    }
    stays
}
