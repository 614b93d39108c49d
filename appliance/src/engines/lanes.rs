//! Lanes: an engine on a piece of silicon, what it can do, what state it is in, how fast it was.
//!
//! Plain data and pure steps. Owns the state machine and the measured rates. Must not know requests,
//! processes or the store; [`super::route`] decides with what is here.

use std::fmt;

/// The silicon a lane computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Silicon {
    Cpu,
    /// A GPU that shares the machine's memory.
    Igpu,
    /// A GPU with its own memory.
    Dgpu,
    Npu,
    /// Another machine.
    Away,
}

impl Silicon {
    /// Its name in headers, metrics and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Igpu => "igpu",
            Self::Dgpu => "dgpu",
            Self::Npu => "npu",
            Self::Away => "away",
        }
    }

    /// Watts above idle while busy, until this machine tells its own. Measured on a Strix Halo: about
    /// 80 W with the iGPU decoding, 5 W with the NPU; the CPU figure is that box's sustained all-core
    /// budget; a discrete card is taken at 200 W. Somebody else's machine costs us nothing we can see.
    #[must_use]
    pub fn watts(self) -> f64 {
        match self {
            Self::Cpu => 60.0,
            Self::Igpu => 80.0,
            Self::Dgpu => 200.0,
            Self::Npu => 5.0,
            Self::Away => 0.0,
        }
    }

    /// The share of the memory bus a decode on it takes while it runs. Decode is bound by memory, so
    /// two lanes that want the same bus slow each other; a discrete card has its own.
    #[must_use]
    pub fn bus_share(self) -> f64 {
        match self {
            Self::Cpu => 0.5,
            Self::Igpu => 0.8,
            Self::Npu => 0.2,
            Self::Dgpu | Self::Away => 0.0,
        }
    }
}

impl fmt::Display for Silicon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a request may need beyond plain text. A set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Abilities(u16);

impl Abilities {
    pub const TOOLS: Self = Self(1);
    pub const GRAMMAR: Self = Self(2);
    pub const LOGPROBS: Self = Self(4);
    pub const VISION: Self = Self(8);
    pub const SEED: Self = Self(16);
    /// Answers held to a regular expression or a grammar, which OpenAI's wire has no word for.
    pub const PATTERN: Self = Self(32);
    /// Everything an OpenAI-compatible server of the better sort does.
    pub const ALL: Self = Self(31);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in `self` and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names in the set, for explanations.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [
            (1, "tools"),
            (2, "schemas"),
            (4, "logprobs"),
            (8, "images"),
            (16, "seed"),
            (32, "patterns"),
        ];
        all.into_iter()
            .filter(move |(bit, _)| self.0 & bit != 0)
            .map(|(_, name)| name)
    }
}

/// What is asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    Chat,
    Embed,
    Transcribe,
    Speak,
    Image,
}

/// Where a lane keeps its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Memory {
    Ram,
    /// System memory mapped for the iGPU.
    Gtt,
    Vram,
    /// System memory pinned for the NPU.
    Pinned,
    None,
}

/// One lane, as data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lane {
    /// `engine.silicon`, such as `llama.vulkan`.
    pub name: &'static str,
    pub silicon: Silicon,
    pub works: &'static [Work],
    pub abilities: Abilities,
    /// Requests it runs at once; more wait.
    pub slots: usize,
    /// Longest context it serves, in tokens.
    pub context_max: usize,
    pub memory: Memory,
}

/// Where a lane stands with one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// This machine lacks the silicon or the program, and nothing can be done about it from here.
    Absent,
    /// The program can be installed.
    Installable,
    /// Could load at once.
    Ready,
    Loading,
    /// Loaded and idle.
    Warm,
    /// Answering this many requests.
    Busy(usize),
    /// Answering its last requests; takes no more.
    Draining(usize),
    /// The breaker is open.
    Failed,
}

/// What happens to a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Found,
    CanInstall,
    Lost,
    LoadBegan,
    Loaded,
    RequestBegan,
    RequestEnded,
    DrainBegan,
    Unloaded,
    Died,
    /// The crash history says: leave it alone.
    BreakerOpened,
    /// It may be tried again.
    BreakerClosed,
}

impl State {
    /// The state after `event`, or `None` when the event makes no sense here (a bug in the caller).
    #[must_use]
    pub fn after(self, event: Event) -> Option<Self> {
        use Event as E;
        Some(match (self, event) {
            (_, E::Lost) => Self::Absent,
            (_, E::BreakerOpened) => Self::Failed,
            (Self::Absent | Self::Installable | Self::Ready, E::Found) => Self::Ready,
            (Self::Absent, E::CanInstall) => Self::Installable,
            (Self::Ready, E::LoadBegan) => Self::Loading,
            (Self::Loading, E::Loaded) => Self::Warm,
            (Self::Warm, E::RequestBegan) => Self::Busy(1),
            (Self::Busy(n), E::RequestBegan) => Self::Busy(n + 1),
            (Self::Busy(1), E::RequestEnded) => Self::Warm,
            (Self::Busy(n), E::RequestEnded) => Self::Busy(n - 1),
            (Self::Warm, E::DrainBegan) => Self::Draining(0),
            (Self::Busy(n), E::DrainBegan) => Self::Draining(n),
            (Self::Draining(n), E::RequestEnded) if n > 0 => Self::Draining(n - 1),
            (Self::Warm | Self::Draining(0), E::Unloaded) => Self::Ready,
            (Self::Loading | Self::Warm | Self::Busy(_) | Self::Draining(_), E::Died) => {
                Self::Ready
            }
            (Self::Failed, E::BreakerClosed) => Self::Ready,
            _ => return None,
        })
    }

    /// Whether a request may be sent there at all.
    #[must_use]
    pub fn takes_requests(self) -> bool {
        matches!(
            self,
            Self::Ready | Self::Loading | Self::Warm | Self::Busy(_)
        )
    }

    /// Whether the weights are there.
    #[must_use]
    pub fn is_loaded(self) -> bool {
        matches!(self, Self::Warm | Self::Busy(_))
    }
}

/// An average that forgets. A seed counts as one observation, so the first measurement already halves it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Average {
    pub value: f64,
    /// Observations so far.
    pub count: u32,
}

impl Average {
    /// How much a new value weighs at least, once there are many: the last ten or so decide, so that a
    /// new driver or a busy neighbour shows within a few requests.
    pub const WEIGHT_MIN: f64 = 0.2;

    /// A first guess.
    #[must_use]
    pub const fn seed(value: f64) -> Self {
        Self { value, count: 1 }
    }

    /// Whether anything was ever measured.
    #[must_use]
    pub const fn is_measured(&self) -> bool {
        self.count > 1
    }

    /// Takes one measurement. Values that no machine can produce are left out.
    pub fn observe(&mut self, value: f64) {
        if value.is_finite() && value > 0.0 {
            let weight = (1.0 / f64::from(self.count + 1)).max(Self::WEIGHT_MIN);
            self.value += weight * (value - self.value);
            self.count = self.count.saturating_add(1);
        }
    }
}

/// Prompt lengths that are measured apart: prefill is far from linear at both ends.
const PREFILL_BOUNDS: [usize; 3] = [128, 1024, 8192];

/// The names that averages are stored by, in the order of [`Rates::each`].
pub const RATES: [&str; 8] = [
    "prefill_128",
    "prefill_1024",
    "prefill_8192",
    "prefill_more",
    "decode",
    "load",
    "overhead",
    "watts",
];

/// What one lane does with one model, measured, or seeded until it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Tokens a second by prompt length, bounds 128, 1024 and 8192.
    pub prefill_tps: [Average; 4],
    pub decode_tps: Average,
    pub load_s: Average,
    /// Fixed time before the first token, whatever the prompt.
    pub overhead_s: Average,
    /// Watts above idle while it works on this model.
    pub watts: Average,
}

impl Rates {
    /// The same prefill rate at all lengths, the silicon's usual watts.
    #[must_use]
    pub fn new(
        prefill_tps: f64,
        decode_tps: f64,
        load_s: f64,
        overhead_s: f64,
        silicon: Silicon,
    ) -> Self {
        Self {
            prefill_tps: [Average::seed(prefill_tps); 4],
            decode_tps: Average::seed(decode_tps),
            load_s: Average::seed(load_s),
            overhead_s: Average::seed(overhead_s),
            watts: Average::seed(silicon.watts().max(f64::MIN_POSITIVE)),
        }
    }

    /// A guess from the model's size, for a pair never measured. Fitted to figures from a Strix Halo:
    /// the iGPU decodes at about 170 GB/s and reads prompts at 8,200 tokens a second per 1e9 parameters;
    /// the NPU made 93, 42, 19 and 11 tokens a second with 0.6, 1.7, 4 and 8e9 parameters.
    #[must_use]
    pub fn guess(silicon: Silicon, weight_bytes: u64, parameters: u64) -> Self {
        let gigabytes = (weight_bytes as f64 / 1e9).max(0.05);
        let billions = (parameters as f64 / 1e9).max(0.05);
        let (prefill, decode, load_gbps, overhead) = match silicon {
            Silicon::Igpu => (8200.0 / billions, 170.0 / gigabytes, 2.0, 0.02),
            Silicon::Dgpu => (40_000.0 / billions, 450.0 / gigabytes, 2.5, 0.02),
            Silicon::Cpu => (250.0 / billions, 45.0 / gigabytes, 3.0, 0.01),
            Silicon::Npu => (
                55.0 / billions.powf(0.4),
                60.0 / billions.powf(0.83),
                0.8,
                0.4,
            ),
            Silicon::Away => (2000.0 / billions, 60.0 / gigabytes, 1e9, 0.1),
        };
        // A tiny model is bound by launches, not by bytes.
        Self::new(
            prefill.min(20_000.0),
            decode.min(550.0),
            0.3 + gigabytes / load_gbps,
            overhead,
            silicon,
        )
    }

    /// Every average under the name that it is stored by.
    #[must_use]
    pub fn each(&self) -> [(&'static str, Average); 8] {
        let [a, b, c, d] = self.prefill_tps;
        let (decode, load) = (self.decode_tps, self.load_s);
        let all = [a, b, c, d, decode, load, self.overhead_s, self.watts];
        std::array::from_fn(|i| (RATES[i], all[i]))
    }

    /// Puts a stored average back; names that a later version wrote are left out.
    pub fn put(&mut self, name: &str, average: Average) {
        let [a, b, c, d] = &mut self.prefill_tps;
        let (decode, load) = (&mut self.decode_tps, &mut self.load_s);
        let (overhead, watts) = (&mut self.overhead_s, &mut self.watts);
        let all = [a, b, c, d, decode, load, overhead, watts];
        for (known, place) in RATES.into_iter().zip(all) {
            if known == name {
                *place = average;
            }
        }
    }

    fn prefill(&self, tokens: usize) -> &Average {
        &self.prefill_tps[PREFILL_BOUNDS
            .iter()
            .filter(|&&bound| tokens > bound)
            .count()]
    }

    /// Seconds to read `tokens` of prompt.
    #[must_use]
    pub fn prefill_s(&self, tokens: usize) -> f64 {
        self.overhead_s.value + tokens as f64 / self.prefill(tokens).value
    }

    /// Seconds to make `tokens`.
    #[must_use]
    pub fn decode_s(&self, tokens: usize) -> f64 {
        tokens as f64 / self.decode_tps.value
    }

    /// Takes what one finished request measured. Too few tokens say nothing about a rate.
    pub fn observe(
        &mut self,
        prompt_tokens: usize,
        prefill_s: f64,
        made_tokens: usize,
        decode_s: f64,
    ) {
        if prompt_tokens >= 32 {
            let rate =
                prompt_tokens as f64 / (prefill_s - self.overhead_s.value).max(prefill_s * 0.2);
            let bucket = PREFILL_BOUNDS
                .iter()
                .filter(|&&bound| prompt_tokens > bound)
                .count();
            self.prefill_tps[bucket].observe(rate);
        } else {
            self.overhead_s.observe(prefill_s);
        }
        if made_tokens >= 8 {
            self.decode_tps.observe(made_tokens as f64 / decode_s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_come_back_by_name() {
        let mut measured = Rates::guess(Silicon::Cpu, 1 << 30, 1 << 30);
        measured.observe(500, 2.0, 100, 4.0);
        measured.load_s.observe(3.0);
        let mut back = Rates::guess(Silicon::Npu, 1, 1);
        for (name, average) in measured.each() {
            back.put(name, average);
        }
        back.put("of another version", Average::seed(1.0));
        assert_eq!(back, measured);
    }

    #[test]
    fn the_life_of_a_lane() {
        use Event as E;
        let life = [
            (E::CanInstall, State::Installable),
            (E::Found, State::Ready),
            (E::LoadBegan, State::Loading),
            (E::Loaded, State::Warm),
            (E::RequestBegan, State::Busy(1)),
            (E::RequestBegan, State::Busy(2)),
            (E::RequestEnded, State::Busy(1)),
            (E::DrainBegan, State::Draining(1)),
            (E::RequestEnded, State::Draining(0)),
            (E::Unloaded, State::Ready),
            (E::LoadBegan, State::Loading),
            (E::Died, State::Ready),
            (E::BreakerOpened, State::Failed),
            (E::BreakerClosed, State::Ready),
            (E::Lost, State::Absent),
        ];
        let mut state = State::Absent;
        for (event, wanted) in life {
            let next = state.after(event);
            assert_eq!(next, Some(wanted), "{state:?} {event:?}");
            state = wanted;
        }
    }

    #[test]
    fn senseless_events_are_refused() {
        use Event as E;
        for (state, event) in [
            (State::Absent, E::LoadBegan),
            (State::Ready, E::RequestBegan),
            (State::Loading, E::RequestBegan),
            (State::Warm, E::RequestEnded),
            (State::Busy(1), E::Unloaded),
            (State::Draining(0), E::RequestBegan),
            (State::Draining(0), E::RequestEnded),
            (State::Failed, E::LoadBegan),
        ] {
            assert_eq!(state.after(event), None, "{state:?} {event:?}");
        }
    }

    #[test]
    fn measurements_replace_guesses_quickly_and_nonsense_never() {
        let mut average = Average::seed(100.0);
        for nonsense in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            average.observe(nonsense);
        }
        assert_eq!(average, Average::seed(100.0));
        average.observe(50.0);
        assert_eq!(average.value, 75.0);
        for _ in 0..20 {
            average.observe(50.0);
        }
        assert!((average.value - 50.0).abs() < 0.5, "{average:?}");
    }

    #[test]
    fn prompts_are_measured_by_length() {
        let mut rates = Rates::new(1000.0, 50.0, 1.0, 0.1, Silicon::Igpu);
        rates.observe(2000, 1.1, 100, 4.0);
        assert_eq!(rates.prefill_tps[2].value, 1500.0);
        assert_eq!(rates.prefill_tps[0].value, 1000.0);
        assert_eq!(rates.decode_tps.value, 37.5);
        rates.observe(5, 0.3, 2, 0.1);
        assert_eq!(
            (rates.overhead_s.value, rates.decode_tps.value),
            (0.2, 37.5)
        );
    }

    #[test]
    fn guesses_are_near_what_was_measured() {
        let near = |guess: f64, measured: f64| {
            assert!(
                (guess / measured - 1.0).abs() < 0.35,
                "guess {guess:.1}, measured {measured}"
            );
        };
        for (billions, measured) in [(0.6, 93.0), (1.7, 42.0), (4.0, 19.0), (8.0, 11.0)] {
            let parameters = (billions * 1e9) as u64;
            near(
                Rates::guess(Silicon::Npu, parameters / 2, parameters)
                    .decode_tps
                    .value,
                measured,
            );
        }
        for (bytes, billions, measured) in
            [(2.38e9, 4.0, 74.0), (8.5e9, 8.0, 24.0), (0.8e9, 1.2, 195.0)]
        {
            near(
                Rates::guess(Silicon::Igpu, bytes as u64, (billions * 1e9) as u64)
                    .decode_tps
                    .value,
                measured,
            );
        }
        for (billions, measured) in [(1.7, 4834.0), (4.0, 1962.0), (8.0, 1116.0)] {
            near(
                Rates::guess(Silicon::Igpu, 1 << 30, (billions * 1e9) as u64).prefill_tps[1].value,
                measured,
            );
        }
    }
}
