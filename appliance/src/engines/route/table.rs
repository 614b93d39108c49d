//! The router's table of cases: host, request and load in, lane and reason out.

use super::super::lanes::{Abilities, Lane, Memory, Rates, Silicon, State, Work};
use super::super::ledger::Admission;
use super::*;

const LLM: &[Work] = &[Work::Chat, Work::Embed];

const VULKAN: Lane = Lane {
    name: "llama.vulkan",
    silicon: Silicon::Igpu,
    works: LLM,
    abilities: Abilities::ALL,
    slots: 4,
    context_max: 1 << 20,
    memory: Memory::Gtt,
};
const DISCRETE: Lane = Lane {
    name: "llama.rocm",
    silicon: Silicon::Dgpu,
    memory: Memory::Vram,
    ..VULKAN
};
const CPU: Lane = Lane {
    name: "llama.cpu",
    silicon: Silicon::Cpu,
    slots: 2,
    memory: Memory::Ram,
    ..VULKAN
};
const NPU: Lane = Lane {
    name: "flm.npu",
    silicon: Silicon::Npu,
    abilities: Abilities::TOOLS,
    slots: 1,
    context_max: 32_768,
    memory: Memory::Pinned,
    ..VULKAN
};
const TERNARY: Lane = Lane {
    name: "ternary.cpu",
    slots: 16,
    ..CPU
};
const REMOTE: Lane = Lane {
    name: "remote",
    silicon: Silicon::Away,
    memory: Memory::None,
    slots: 8,
    ..VULKAN
};
const WHISPER: Lane = Lane {
    name: "whisper.cpu",
    works: &[Work::Transcribe],
    abilities: Abilities::ALL,
    ..CPU
};

#[derive(Clone, Copy)]
enum Host {
    StrixHalo,
    /// A desktop with an RX 9070 XT.
    Rx9070,
    Nvidia,
    BareVm,
}

fn lanes(host: Host) -> &'static [&'static Lane] {
    match host {
        Host::StrixHalo => &[&VULKAN, &NPU, &CPU],
        Host::Rx9070 | Host::Nvidia => &[&DISCRETE, &CPU],
        Host::BareVm => &[&CPU],
    }
}

/// (name, bytes, parameters): the models of the cases.
const SMALL: (&str, f64, f64) = ("qwen3-0.6b", 0.5e9, 0.6e9);
const MIDDLE: (&str, f64, f64) = ("qwen3-4b", 2.38e9, 4e9);
const LARGE: (&str, f64, f64) = ("qwen3-8b", 8.5e9, 8e9);

struct Case {
    asks: Ask<'static>,
    host: Host,
    models: &'static [(&'static str, f64, f64)],
    now: Now,
    /// Changes to single candidates: (lane, model, change); an empty model means all.
    changes: Vec<(&'static str, &'static str, Change)>,
}

#[derive(Clone)]
enum Change {
    State(State),
    Active(usize, f64),
    Cached(usize),
    Admission(Admission),
    KnownBad,
    Evicts(f64),
    Loading(f64),
}

fn case(host: Host, model: &'static [(&'static str, f64, f64)]) -> Case {
    Case {
        asks: Ask::default(),
        host,
        models: model,
        now: Now::default(),
        changes: Vec::new(),
    }
}

fn strix(model: &'static [(&'static str, f64, f64)]) -> Case {
    case(Host::StrixHalo, model)
}

impl Case {
    fn prompt(mut self, tokens: usize) -> Self {
        self.asks.prompt_tokens = tokens;
        self
    }
    fn answer(mut self, tokens: usize) -> Self {
        self.asks.tokens_max = Some(tokens);
        self
    }
    fn needs(mut self, abilities: Abilities) -> Self {
        self.asks.abilities = self.asks.abilities.and(abilities);
        self
    }
    fn background(mut self) -> Self {
        self.asks.priority = Priority::Background;
        self
    }
    fn preset(mut self, preset: Preset) -> Self {
        self.asks.preset = preset;
        self
    }
    fn lane(mut self, lane: &'static str) -> Self {
        self.asks.lane = Some(lane);
        self
    }
    fn last(mut self, lane: &'static str, model: &'static str) -> Self {
        self.asks.last = Some((lane, model));
        self
    }
    fn work(mut self, work: Work) -> Self {
        self.asks.work = work;
        self
    }
    fn power(mut self, power: Power) -> Self {
        self.now.power = power;
        self
    }
    fn people(mut self, n: usize) -> Self {
        self.now.people_waiting = n;
        self.now.bus_busy = 0.8;
        self
    }
    fn but(mut self, lane: &'static str, model: &'static str, change: Change) -> Self {
        self.changes.push((lane, model, change));
        self
    }

    /// The chosen `lane model` and the reason.
    fn decide(&self, extra: &[&'static Lane]) -> (String, &'static str) {
        let pairs: Vec<(&Lane, &str, Rates, f64)> = lanes(self.host)
            .iter()
            .chain(extra)
            .flat_map(|lane| {
                self.models.iter().map(|(name, bytes, parameters)| {
                    let rates = Rates::guess(lane.silicon, *bytes as u64, *parameters as u64);
                    (*lane, *name, rates, (parameters / 1e8).log2())
                })
            })
            .collect();
        let candidates: Vec<Candidate<'_>> = pairs
            .iter()
            .map(|(lane, model, rates, quality)| {
                let mut candidate = Candidate {
                    lane,
                    state: State::Warm,
                    model,
                    rates,
                    context: 40_960,
                    quality: *quality,
                    active: 0,
                    queue_s: 0.0,
                    loading_s: 0.0,
                    cached_tokens: 0,
                    admission: Admission::Fits,
                    eviction_s: 0.0,
                    known_bad: None,
                };
                for (at, of, change) in &self.changes {
                    if *at == lane.name && (of.is_empty() || of == model) {
                        match change.clone() {
                            Change::State(state) => candidate.state = state,
                            Change::Active(n, s) => (candidate.active, candidate.queue_s) = (n, s),
                            Change::Cached(n) => candidate.cached_tokens = n,
                            Change::Admission(admission) => candidate.admission = admission,
                            Change::KnownBad => candidate.known_bad = Some("device lost on load"),
                            Change::Evicts(s) => candidate.eviction_s = s,
                            Change::Loading(s) => {
                                (candidate.state, candidate.loading_s) = (State::Loading, s)
                            }
                        }
                    }
                }
                candidate
            })
            .collect();
        let decision = route(&self.asks, &candidates, &self.now);
        let choice = decision
            .best()
            .map_or("-".to_owned(), |s| format!("{} {}", s.lane, s.model));
        (choice, decision.reason)
    }
}

const EVERY: &[(&str, f64, f64)] = &[SMALL, MIDDLE, LARGE];
const ONE_SMALL: &[(&str, f64, f64)] = &[SMALL];
const ONE_MIDDLE: &[(&str, f64, f64)] = &[MIDDLE];
const ONE_LARGE: &[(&str, f64, f64)] = &[LARGE];

#[rustfmt::skip]
fn cases() -> Vec<(&'static str, Case, &'static str)> {
    use Host::{BareVm, Nvidia, Rx9070};
    use Preset::{Eco, Fast, Quality};
    let failed = || Change::State(State::Failed);
    let ready = || Change::State(State::Ready);
    let never = || {
        Change::Admission(Admission::Never {
            short_bytes: 3_000_000_000,
        })
    };
    vec![
        // Strix Halo, one model, nobody else.
        ("a person asks a 4B something", strix(ONE_MIDDLE), "llama.vulkan qwen3-4b | writes faster"),
        ("a person asks an 8B something", strix(ONE_LARGE), "llama.vulkan qwen3-8b | writes faster"),
        ("a person asks a 0.6B something", strix(ONE_SMALL), "llama.vulkan qwen3-0.6b | writes faster"),
        ("a long prompt", strix(ONE_MIDDLE).prompt(6000), "llama.vulkan qwen3-4b | reads faster"),
        ("a very short answer", strix(ONE_SMALL).prompt(20).answer(8), "llama.vulkan qwen3-0.6b | writes faster"),
        ("fast", strix(ONE_MIDDLE).preset(Fast), "llama.vulkan qwen3-4b | writes faster"),
        ("eco, short prompt", strix(ONE_MIDDLE).preset(Eco), "flm.npu qwen3-4b | less energy"),
        ("eco, small model", strix(ONE_SMALL).preset(Eco), "flm.npu qwen3-0.6b | less energy"),
        ("eco, long prompt: the NPU would burn more", strix(ONE_MIDDLE).preset(Eco).prompt(6000), "llama.vulkan qwen3-4b | reads faster"),
        ("quality with one model is about speed", strix(ONE_MIDDLE).preset(Quality), "llama.vulkan qwen3-4b | writes faster"),
        ("battery", strix(ONE_SMALL).power(Power::Battery), "flm.npu qwen3-0.6b | less energy"),
        ("battery, long prompt", strix(ONE_MIDDLE).power(Power::Battery).prompt(6000), "llama.vulkan qwen3-4b | reads faster"),
        ("battery, fast", strix(ONE_MIDDLE).power(Power::Battery).preset(Fast), "llama.vulkan qwen3-4b | writes faster"),
        ("quiet", strix(ONE_SMALL).power(Power::Quiet), "llama.vulkan qwen3-0.6b | writes faster"),
        // Nobody waits.
        ("a title in the background: done before the NPU has begun", strix(ONE_SMALL).background().prompt(60).answer(20), "llama.vulkan qwen3-0.6b | reads faster"),
        ("a 4B summary in the background", strix(ONE_MIDDLE).background().prompt(100), "flm.npu qwen3-4b | less energy"),
        ("background, long prompt, nobody there", strix(ONE_MIDDLE).background().prompt(3000), "llama.vulkan qwen3-4b | reads faster"),
        ("background while people wait for the iGPU", strix(ONE_SMALL).background().people(2).prompt(200), "flm.npu qwen3-0.6b | in nobody's way"),
        ("background, NPU failed", strix(ONE_SMALL).background().but("flm.npu", "", failed()), "llama.vulkan qwen3-0.6b | less energy"),
        ("background, fast", strix(ONE_MIDDLE).background().preset(Fast).prompt(100), "llama.vulkan qwen3-4b | writes faster"),
        // What a lane cannot do.
        ("a grammar", strix(ONE_SMALL).preset(Eco).needs(Abilities::GRAMMAR), "llama.vulkan qwen3-0.6b | less energy"),
        ("log probabilities", strix(ONE_SMALL).preset(Eco).needs(Abilities::LOGPROBS), "llama.vulkan qwen3-0.6b | less energy"),
        ("an image", strix(ONE_SMALL).background().needs(Abilities::VISION), "llama.vulkan qwen3-0.6b | less energy"),
        ("tools, which the NPU can", strix(ONE_SMALL).preset(Eco).needs(Abilities::TOOLS), "flm.npu qwen3-0.6b | less energy"),
        ("tools with a strict schema", strix(ONE_SMALL).preset(Eco).needs(Abilities::TOOLS.and(Abilities::GRAMMAR)), "llama.vulkan qwen3-0.6b | less energy"),
        ("longer than the NPU's context", strix(ONE_SMALL).preset(Eco).prompt(35_000), "llama.vulkan qwen3-0.6b | less energy"),
        ("longer than everybody's context", strix(ONE_SMALL).prompt(50_000), "- | nobody can"),
        ("transcription without whisper", strix(ONE_SMALL).work(Work::Transcribe), "- | nobody can"),
        ("embedding", strix(ONE_SMALL).work(Work::Embed).prompt(300), "llama.vulkan qwen3-0.6b | reads faster"),
        // An explicit lane.
        ("the NPU by name", strix(ONE_LARGE).lane("flm.npu"), "flm.npu qwen3-8b | only choice"),
        ("the CPU by name", strix(ONE_LARGE).lane("llama.cpu"), "llama.cpu qwen3-8b | only choice"),
        ("a lane that failed, by name", strix(ONE_LARGE).lane("flm.npu").but("flm.npu", "", failed()), "- | nobody can"),
        ("a lane that is not there, by name", strix(ONE_LARGE).lane("llama.cuda"), "- | nobody can"),
        // Load on the machine.
        ("the iGPU has one more: it shares", strix(ONE_MIDDLE).but("llama.vulkan", "", Change::Active(1, 3.0)), "llama.vulkan qwen3-4b | writes faster"),
        ("the iGPU is full for a moment", strix(ONE_MIDDLE).but("llama.vulkan", "", Change::Active(4, 2.0)), "llama.vulkan qwen3-4b | writes faster"),
        ("the iGPU is full for long: spill a short job", strix(ONE_SMALL).answer(64).but("llama.vulkan", "", Change::Active(4, 30.0)), "llama.cpu qwen3-0.6b | reads faster"),
        ("both are full: the shorter queue", strix(ONE_SMALL).but("llama.vulkan", "", Change::Active(4, 9.0)).but("flm.npu", "", Change::Active(1, 40.0)).but("llama.cpu", "", failed()), "llama.vulkan qwen3-0.6b | shorter queue"),
        ("the NPU runs one: eco does not queue for ever", strix(ONE_SMALL).preset(Eco).but("flm.npu", "", Change::Active(1, 60.0)), "llama.vulkan qwen3-0.6b | less energy"),
        ("the NPU runs one that is nearly done", strix(ONE_MIDDLE).preset(Eco).but("flm.npu", "", Change::Active(1, 1.0)), "flm.npu qwen3-4b | less energy"),
        // Loaded or not.
        ("only the NPU has it loaded", strix(ONE_SMALL).answer(32).prompt(20).but("llama.vulkan", "", ready()).but("llama.cpu", "", ready()), "flm.npu qwen3-0.6b | already loaded"),
        ("a large one is loaded on the CPU only", strix(ONE_LARGE).answer(4).prompt(8).but("llama.vulkan", "", ready()).but("flm.npu", "", ready()), "llama.cpu qwen3-8b | already loaded"),
        ("loading, nearly there", strix(ONE_MIDDLE).but("llama.vulkan", "", Change::Loading(0.2)), "llama.vulkan qwen3-4b | writes faster"),
        ("nothing is loaded", strix(ONE_MIDDLE).but("llama.vulkan", "", ready()).but("flm.npu", "", ready()).but("llama.cpu", "", ready()), "llama.vulkan qwen3-4b | writes faster"),
        ("eco does not load a second copy for one short answer", strix(ONE_LARGE).preset(Eco).answer(16).but("flm.npu", "", ready()), "llama.vulkan qwen3-8b | already loaded"),
        // Memory.
        ("the iGPU has no room", strix(ONE_LARGE).but("llama.vulkan", "", ready()).but("llama.vulkan", "", never()), "flm.npu qwen3-8b | less energy"),
        ("no room anywhere", strix(ONE_LARGE).but("llama.vulkan", "", ready()).but("llama.vulkan", "", never()).but("flm.npu", "", ready()).but("flm.npu", "", never()).but("llama.cpu", "", ready()).but("llama.cpu", "", never()), "- | nobody can"),
        ("no room, but it is loaded already", strix(ONE_MIDDLE).but("llama.vulkan", "", never()), "llama.vulkan qwen3-4b | writes faster"),
        ("loading would throw out something dear", strix(ONE_SMALL).answer(64).but("llama.vulkan", "", ready()).but("llama.vulkan", "", Change::Evicts(40.0)), "llama.cpu qwen3-0.6b | reads faster"),
        // Health.
        ("the iGPU's breaker is open", strix(ONE_SMALL).but("llama.vulkan", "", failed()), "flm.npu qwen3-0.6b | less energy"),
        ("a build that is known to be bad", strix(ONE_MIDDLE).but("llama.vulkan", "", Change::KnownBad), "flm.npu qwen3-4b | less energy"),
        ("iGPU and NPU are gone", strix(ONE_MIDDLE).but("llama.vulkan", "", failed()).but("flm.npu", "", Change::State(State::Absent)), "llama.cpu qwen3-4b | only choice"),
        ("the NPU drains", strix(ONE_SMALL).preset(Eco).but("flm.npu", "", Change::State(State::Draining(1))), "llama.vulkan qwen3-0.6b | less energy"),
        ("all are installable only", strix(ONE_SMALL).but("llama.vulkan", "", Change::State(State::Installable)).but("flm.npu", "", Change::State(State::Installable)).but("llama.cpu", "", Change::State(State::Installable)), "- | nobody can"),
        // Sessions.
        ("a session stays for a small difference", strix(ONE_SMALL).last("flm.npu", "qwen3-0.6b").prompt(4).answer(4), "flm.npu qwen3-0.6b | session stays"),
        ("a session leaves a lane that failed", strix(ONE_SMALL).last("flm.npu", "qwen3-0.6b").but("flm.npu", "", failed()), "llama.vulkan qwen3-0.6b | writes faster"),
        ("a session leaves for a large difference", strix(ONE_LARGE).last("llama.cpu", "qwen3-8b"), "llama.vulkan qwen3-8b | writes faster"),
        ("a session on a model that is no candidate any more", strix(ONE_SMALL).last("flm.npu", "gone"), "llama.vulkan qwen3-0.6b | writes faster"),
        ("the CPU holds the long prefix", strix(ONE_SMALL).prompt(20_000).answer(8).but("llama.cpu", "", Change::Cached(19_990)), "llama.cpu qwen3-0.6b | has the prefix"),
        ("the NPU holds the prefix, eco", strix(ONE_MIDDLE).preset(Eco).prompt(6000).but("flm.npu", "", Change::Cached(5950)), "flm.npu qwen3-4b | less energy"),
        // Which model, when the client leaves it open.
        ("auto", strix(EVERY), "llama.vulkan qwen3-4b | better model"),
        ("auto:fast", strix(EVERY).preset(Fast), "llama.vulkan qwen3-0.6b | writes faster"),
        ("auto:eco", strix(EVERY).preset(Eco), "flm.npu qwen3-0.6b | less energy"),
        ("auto:quality", strix(EVERY).preset(Quality), "llama.vulkan qwen3-8b | writes faster"),
        ("auto:quality, the large one has no room", strix(EVERY).preset(Quality).but("llama.vulkan", "qwen3-8b", ready()).but("llama.vulkan", "qwen3-8b", never()), "flm.npu qwen3-8b | writes faster"),
        ("auto in the background", strix(EVERY).background(), "flm.npu qwen3-4b | less energy"),
        ("auto on battery", strix(EVERY).power(Power::Battery), "flm.npu qwen3-0.6b | less energy"),
        // Other machines.
        ("a Radeon card", case(Rx9070, ONE_LARGE), "llama.rocm qwen3-8b | writes faster"),
        ("a Radeon card, eco", case(Rx9070, ONE_LARGE).preset(Eco), "llama.rocm qwen3-8b | less energy"),
        ("a Radeon card, auto", case(Rx9070, EVERY), "llama.rocm qwen3-4b | better model"),
        ("a card without room", case(Rx9070, ONE_LARGE).but("llama.rocm", "", ready()).but("llama.rocm", "", never()), "llama.cpu qwen3-8b | only choice"),
        ("an NVIDIA card, auto:fast", case(Nvidia, EVERY).preset(Fast), "llama.rocm qwen3-4b | better model"),
        ("an NVIDIA card in the background", case(Nvidia, ONE_SMALL).background(), "llama.rocm qwen3-0.6b | less energy"),
        ("an NVIDIA card that is busy for long", case(Nvidia, ONE_SMALL).answer(16).but("llama.rocm", "", Change::Active(4, 20.0)), "llama.cpu qwen3-0.6b | shorter queue"),
        ("a bare VM", case(BareVm, ONE_SMALL), "llama.cpu qwen3-0.6b | only choice"),
        ("a bare VM, auto", case(BareVm, EVERY), "llama.cpu qwen3-0.6b | writes faster"),
        ("a bare VM, auto:quality", case(BareVm, EVERY).preset(Quality), "llama.cpu qwen3-8b | better model"),
        ("a bare VM, too long", case(BareVm, ONE_SMALL).prompt(41_000), "- | nobody can"),
    ]
}

#[test]
fn the_table() {
    let cases = cases();
    assert!(cases.len() >= 60, "{}", cases.len());
    let mut wrong = Vec::new();
    for (name, case, wanted) in &cases {
        let (choice, reason) = case.decide(&[]);
        let got = format!("{choice} | {reason}");
        println!("{name:<60} {got}");
        if got != *wanted {
            wrong.push(format!("{name}: wanted {wanted:?}, got {got:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn further_lanes_join_without_a_word() {
    let (choice, _) = strix(ONE_SMALL).work(Work::Transcribe).decide(&[&WHISPER]);
    assert_eq!(choice, "whisper.cpu qwen3-0.6b");
    let (choice, _) = case(Host::BareVm, ONE_LARGE).decide(&[&REMOTE]);
    assert_eq!(choice, "remote qwen3-8b");
    let (choice, _) = case(Host::BareVm, ONE_SMALL)
        .lane("ternary.cpu")
        .decide(&[&TERNARY]);
    assert_eq!(choice, "ternary.cpu qwen3-0.6b");
}

#[test]
fn presets_are_read_from_model_names() {
    assert_eq!(Preset::from_model("auto:eco"), Some(Preset::Eco));
    assert_eq!(Preset::from_model("automatic"), None);
}

#[test]
fn a_decision_is_explained() {
    let rates = Rates::guess(Silicon::Igpu, 1 << 30, 1 << 30);
    let candidate = |lane, state| Candidate {
        lane,
        state,
        model: "m",
        rates: &rates,
        context: 4096,
        quality: 0.0,
        active: 0,
        queue_s: 0.0,
        loading_s: 0.0,
        cached_tokens: 0,
        admission: Admission::After(vec![7]),
        eviction_s: 0.0,
        known_bad: None,
    };
    let candidates = [
        candidate(&VULKAN, State::Warm),
        candidate(&NPU, State::Failed),
        candidate(&CPU, State::Warm),
    ];
    let decision = route(&Ask::default(), &candidates, &Now::default());
    assert_eq!(decision.best().unwrap().evict, [7]);
    let header = header(&decision).unwrap();
    assert!(
        header.starts_with("lane=llama.") && header.is_ascii() && header.contains(" alt="),
        "{header}"
    );
    let table = table_text(&decision);
    assert!(
        table.contains("flm.npu") && table.contains("no: is failed"),
        "{table}"
    );
}

/// A decision must cost less than 100 us; here it takes a few, even unoptimised.
#[test]
fn a_decision_is_cheap() {
    let case = strix(EVERY).people(1);
    let begun = std::time::Instant::now();
    let rounds = 200;
    for _ in 0..rounds {
        std::hint::black_box(case.decide(&[&TERNARY, &REMOTE, &WHISPER]));
    }
    let each = begun.elapsed() / rounds;
    println!("one decision over 18 candidates, with gathering them: {each:?}");
    assert!(each < std::time::Duration::from_micros(400), "{each:?}");
}
