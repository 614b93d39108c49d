//! A day's mixed load of a small team on a Strix Halo, with rates measured on such a box, against the two simple rules.
//!
//! Rates: llama.cpp Vulkan and FastFlowLM as published for that machine (prefill and decode tokens a
//! second; the 0.6B's iGPU rate lies between a 270M's 440 and a 1B's 195). Watts: 80 with the iGPU
//! busy, 5 with the NPU. All three policies get the same jobs, models loaded on both lanes, and the
//! same queue: people before background, first come first served.

use super::super::lanes::{Abilities, Lane, Memory, Rates, Silicon, State, Work};
use super::super::ledger::Admission;
use super::*;

const WORKS: &[Work] = &[Work::Chat];
const IGPU: Lane = Lane {
    name: "llama.vulkan",
    silicon: Silicon::Igpu,
    works: WORKS,
    abilities: Abilities::ALL,
    slots: 1,
    context_max: 32_768,
    memory: Memory::Gtt,
};
const NPU: Lane = Lane {
    name: "flm.npu",
    silicon: Silicon::Npu,
    memory: Memory::Pinned,
    ..IGPU
};

/// (name, iGPU prefill, iGPU decode, NPU prefill, NPU decode), tokens a second.
const MODELS: [(&str, f64, f64, f64, f64); 4] = [
    ("0.6b", 8000.0, 250.0, 53.8, 93.0),
    ("1.7b", 4834.0, 165.0, 38.5, 42.0),
    ("4b", 1962.0, 74.0, 22.6, 19.0),
    ("8b", 1116.0, 24.0, 14.7, 11.0),
];

/// (jobs a day, model, person waits, prompt tokens, answer tokens, jobs that arrive together).
type Class = (usize, usize, bool, (u64, u64), (u64, u64), usize);
const CLASSES: [Class; 6] = [
    // Chats with the general model.
    (1800, 2, true, (150, 1200), (80, 300), 1),
    // Quick questions.
    (1800, 1, true, (40, 200), (40, 150), 1),
    // Long answers of the large model.
    (400, 3, true, (100, 800), (300, 600), 1),
    // Titles, routing and tool selection.
    (2400, 0, false, (30, 80), (60, 150), 1),
    // Notes and summaries.
    (600, 2, false, (40, 100), (150, 300), 1),
    // Enrichment of freshly added documents.
    (600, 1, false, (50, 100), (60, 100), 60),
];

const DAY_S: f64 = 86_400.0;

#[derive(Clone, Copy)]
struct Job {
    at: f64,
    model: usize,
    person: bool,
    prompt: usize,
    answer: usize,
}

/// A small linear congruential generator: the same day every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1u64 << 31) as f64
    }

    fn between(&mut self, (low, high): (u64, u64)) -> usize {
        (low as f64 + self.roll() * (high - low) as f64) as usize
    }
}

fn day() -> Vec<Job> {
    let mut dice = Dice(7);
    let mut jobs = Vec::new();
    for (count, model, person, prompt, answer, together) in CLASSES {
        for _ in 0..count / together {
            // People come between eight and twenty o'clock, most at noon; background at any time.
            let hours = if person {
                8.0 + 6.0 * (dice.roll() + dice.roll())
            } else {
                24.0 * dice.roll()
            };
            for _ in 0..together {
                jobs.push(Job {
                    at: hours * 3600.0,
                    model,
                    person,
                    prompt: dice.between(prompt),
                    answer: dice.between(answer),
                });
            }
        }
    }
    jobs.sort_by(|a, b| a.at.total_cmp(&b.at));
    jobs
}

struct Server {
    lane: &'static Lane,
    rates: Vec<Rates>,
    queue: Vec<Job>,
    free_at: f64,
    joules: f64,
    jobs: usize,
    busy_s: f64,
}

impl Server {
    fn new(lane: &'static Lane) -> Self {
        let rates = MODELS.map(|(_, igpu_pf, igpu_dec, npu_pf, npu_dec)| {
            let (pf, dec) = if lane.silicon == Silicon::Igpu {
                (igpu_pf, igpu_dec)
            } else {
                (npu_pf, npu_dec)
            };
            Rates::new(pf, dec, 3.0, 0.0, lane.silicon)
        });
        Self {
            lane,
            rates: rates.to_vec(),
            queue: Vec::new(),
            free_at: 0.0,
            joules: 0.0,
            jobs: 0,
            busy_s: 0.0,
        }
    }

    fn service_s(&self, job: &Job) -> f64 {
        self.rates[job.model].prefill_s(job.prompt) + self.rates[job.model].decode_s(job.answer)
    }

    /// Seconds of work that would be done before `job`.
    fn ahead_s(&self, job: &Job) -> f64 {
        let before = self.queue.iter().filter(|q| q.person || !job.person);
        (self.free_at - job.at).max(0.0) + before.map(|q| self.service_s(q)).sum::<f64>()
    }

    fn advance(&mut self, now: f64, done: &mut Vec<(bool, f64)>) {
        while self.free_at <= now && !self.queue.is_empty() {
            let next = self.queue.iter().position(|j| j.person).unwrap_or(0);
            let job = self.queue.remove(next);
            let service = self.service_s(&job);
            self.free_at = self.free_at.max(job.at) + service;
            self.joules += service * self.rates[job.model].watts.value;
            self.busy_s += service;
            self.jobs += 1;
            done.push((job.person, self.free_at - job.at));
        }
    }
}

struct Outcome {
    name: &'static str,
    person_mean_s: f64,
    person_p95_s: f64,
    background_mean_s: f64,
    kilojoules: f64,
    npu_share: f64,
}

fn simulate(name: &'static str, choose: impl Fn(&Job, &[Server; 2]) -> usize) -> Outcome {
    let mut servers = [Server::new(&IGPU), Server::new(&NPU)];
    let mut done = Vec::new();
    let jobs = day();
    for job in &jobs {
        for server in &mut servers {
            server.advance(job.at, &mut done);
        }
        let choice = choose(job, &servers);
        servers[choice].queue.push(*job);
    }
    for server in &mut servers {
        server.advance(f64::INFINITY, &mut done);
    }
    assert_eq!(done.len(), jobs.len(), "every job is answered");
    let mut people: Vec<f64> = done.iter().filter(|d| d.0).map(|d| d.1).collect();
    let background: Vec<f64> = done.iter().filter(|d| !d.0).map(|d| d.1).collect();
    people.sort_by(f64::total_cmp);
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    Outcome {
        name,
        person_mean_s: mean(&people),
        person_p95_s: people[people.len() * 95 / 100],
        background_mean_s: mean(&background),
        kilojoules: servers.iter().map(|s| s.joules).sum::<f64>() / 1e3,
        npu_share: servers[1].jobs as f64 / jobs.len() as f64,
    }
}

fn routed(preset: Preset) -> impl Fn(&Job, &[Server; 2]) -> usize {
    move |job, servers| {
        let candidates: Vec<Candidate<'_>> = servers
            .iter()
            .map(|server| {
                let busy = server.free_at > job.at;
                Candidate {
                    lane: server.lane,
                    state: if busy { State::Busy(1) } else { State::Warm },
                    model: MODELS[job.model].0,
                    rates: &server.rates[job.model],
                    context: 32_768,
                    quality: 0.0,
                    active: usize::from(busy),
                    queue_s: server.ahead_s(job),
                    loading_s: 0.0,
                    cached_tokens: 0,
                    admission: Admission::Fits,
                    eviction_s: 0.0,
                    known_bad: None,
                }
            })
            .collect();
        let igpu_busy = servers[0].free_at > job.at;
        let waiting = servers[0].queue.iter().filter(|q| q.person).count() + usize::from(igpu_busy);
        let now = Now {
            power: Power::Mains,
            bus_busy: if igpu_busy { 0.8 } else { 0.0 },
            people_waiting: waiting,
        };
        let priority = if job.person {
            Priority::Interactive
        } else {
            Priority::Background
        };
        let ask = Ask {
            prompt_tokens: job.prompt,
            tokens_max: Some(job.answer),
            preset,
            priority,
            ..Ask::default()
        };
        let decision = route(&ask, &candidates, &now);
        usize::from(decision.best().unwrap().lane == NPU.name)
    }
}

#[test]
fn a_day_on_a_strix_halo() {
    let igpu = simulate("always iGPU", |_, _| 0);
    let npu = simulate("always NPU", |_, _| 1);
    let auto = simulate("auto", routed(Preset::Balanced));
    let fast = simulate("auto:fast", routed(Preset::Fast));
    let eco = simulate("auto:eco", routed(Preset::Eco));
    println!(
        "{} jobs in {} h; energy above idle",
        day().len(),
        DAY_S / 3600.0
    );
    println!(
        "{:<12} {:>12} {:>12} {:>16} {:>10} {:>10}",
        "policy", "person mean", "person p95", "background mean", "energy kJ", "on NPU"
    );
    for o in [&igpu, &npu, &auto, &fast, &eco] {
        println!(
            "{:<12} {:>10.2} s {:>10.2} s {:>14.2} s {:>10.0} {:>8.0} %",
            o.name,
            o.person_mean_s,
            o.person_p95_s,
            o.background_mean_s,
            o.kilojoules,
            o.npu_share * 100.0
        );
    }
    for simple in [&igpu, &npu] {
        assert!(
            auto.person_mean_s < simple.person_mean_s * 0.95,
            "people wait longer than with {}",
            simple.name
        );
        assert!(
            auto.person_p95_s < simple.person_p95_s * 0.95,
            "the slowest wait longer than with {}",
            simple.name
        );
    }
    assert!(auto.kilojoules < igpu.kilojoules * 0.85, "no energy saved");
    assert!(eco.kilojoules < auto.kilojoules && eco.person_mean_s < npu.person_mean_s);
    assert!(fast.person_mean_s <= auto.person_mean_s * 1.05);
}
