//! What lanes really did: rates for the router, kept in the store, and histograms for whoever watches.
//!
//! Owns the counting. Every finished request changes the rates at once; the store follows a moment later.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::{Finish, Model};
use crate::engines::lanes::{Average, Lane, RATES as KNOWN_RATES, Rates};
use crate::engines::route::BESIDE;
use crate::store::Measured;

/// Bounds of waiting times, in seconds.
const SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];
/// Bounds of the time between two pieces of an answer, in seconds: 2 ms are 500 tokens a second.
const BETWEEN: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0,
];
/// Bounds of the tokens of an answer.
const TOKENS: &[f64] = &[1.0, 8.0, 32.0, 128.0, 512.0, 2048.0, 8192.0, 32_768.0];
/// Decisions kept for the page's "why this silicon".
const DECISIONS: usize = 32;

/// Counts of values below bounds.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: the last holds what is above all of them.
    counts: Box<[AtomicU64]>,
    /// In millionths.
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    pub(super) fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum
            .fetch_add((value.max(0.0) * 1e6) as u64, Ordering::Relaxed);
    }

    fn series(&self) -> Series {
        let counts = self.counts.iter().map(|n| n.load(Ordering::Relaxed));
        Series {
            bounds: self.bounds,
            counts: counts.collect(),
            sum: self.sum.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Upper bounds, ascending.
    pub bounds: &'static [f64],
    /// Values up to each bound and above the one before; the last holds those above all.
    pub counts: Vec<u64>,
    /// Of all values.
    pub sum: f64,
}

impl Series {
    /// How many values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// A bound that this share of the values keeps within; `None` without values or above all bounds.
    pub fn within(&self, share: f64) -> Option<f64> {
        let wanted = (self.count() as f64 * share).ceil();
        let mut sum = 0.0;
        let reached = |count: &u64| {
            sum += *count as f64;
            sum >= wanted
        };
        let bucket = self.counts.iter().position(reached)?;
        (wanted > 0.0)
            .then(|| self.bounds.get(bucket).copied())
            .flatten()
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    Failed,
    /// The client went away.
    Cancelled,
    /// It failed before its first byte and went on elsewhere.
    Moved,
}

/// The names of outcomes, in their order.
pub(super) const OUTCOMES: [&str; 4] = ["answered", "failed", "cancelled", "moved"];

/// The counters of one lane.
#[derive(Debug)]
pub(super) struct LaneMeter {
    pub(super) queue: Histogram,
    pub(super) load: Histogram,
    pub(super) first_token: Histogram,
    pub(super) between: Histogram,
    tokens: Histogram,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    made_tokens: AtomicU64,
    /// In millijoules, by the lane's watts.
    energy: AtomicU64,
    outcomes: [AtomicU64; 4],
}

impl LaneMeter {
    fn new() -> Self {
        Self {
            queue: Histogram::new(SECONDS),
            load: Histogram::new(SECONDS),
            first_token: Histogram::new(SECONDS),
            between: Histogram::new(BETWEEN),
            tokens: Histogram::new(TOKENS),
            prompt_tokens: AtomicU64::new(0),
            cached_tokens: AtomicU64::new(0),
            made_tokens: AtomicU64::new(0),
            energy: AtomicU64::new(0),
            outcomes: Default::default(),
        }
    }

    pub(super) fn ended(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// One lane at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneNumbers {
    /// The lane's name.
    pub lane: &'static str,
    /// Requests there now.
    pub active: usize,
    /// From arrival to the first forward pass, seconds.
    pub queue: Series,
    /// Loading, seconds.
    pub load: Series,
    /// From arrival to the first piece, seconds.
    pub first_token: Series,
    /// Between two pieces, seconds.
    pub between: Series,
    /// Tokens of an answer.
    pub tokens: Series,
    /// Prompt tokens, those from the cache among them.
    pub prompt_tokens: u64,
    /// Prompt tokens from the cache.
    pub cached_tokens: u64,
    /// Tokens made.
    pub made_tokens: u64,
    /// Joules above idle, by the lane's watts.
    pub joules: f64,
    /// Requests by how they ended: name and count.
    pub outcomes: [(&'static str, u64); 4],
}

/// What is known of one lane with one model.
#[derive(Debug, Clone, PartialEq)]
pub struct RateNumbers {
    /// The lane's name.
    pub lane: String,
    /// The file's hash, or the model's name where there is no file.
    pub model: String,
    /// Name, average and observations; a rate that was never measured is left out.
    pub rates: Vec<(&'static str, f64, u32)>,
}

/// A decision that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Unix milliseconds.
    pub at: i64,
    /// As `x-onebit-route` says it.
    pub route: String,
}

type Pair = (&'static str, String);

/// All measurements of this process, on top of what the store had.
#[derive(Default)]
pub(super) struct Meter {
    rates: Mutex<RateTable>,
    lanes: Mutex<BTreeMap<&'static str, Arc<LaneMeter>>>,
    decisions: Mutex<VecDeque<Decided>>,
    decided: AtomicU64,
    moved: AtomicU64,
    routing: RoutingTime,
}

#[derive(Default)]
struct RateTable {
    /// From the store, until somebody needs them: they have no lane of this build's yet.
    stored: HashMap<(String, String), Vec<(String, Average)>>,
    known: HashMap<Pair, Rates>,
    changed: HashSet<Pair>,
    /// Pairs that are being written.
    leaving: usize,
    /// When the store was last written.
    stored_at: Option<Instant>,
}

#[derive(Default)]
struct RoutingTime {
    nanoseconds: AtomicU64,
    slowest: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What measurements of a model are kept under: copies of one file share them.
pub(super) fn key(model: &Model) -> &str {
    match model.sha256.as_str() {
        "" => &model.id,
        hash => hash,
    }
}

impl Meter {
    /// Takes what an earlier process measured.
    pub(super) fn remember(&self, rows: Vec<Measured>) {
        let mut table = lock(&self.rates);
        for row in rows {
            let average = Average {
                value: row.value,
                count: row.count,
            };
            let pair = (row.lane, row.model);
            table
                .stored
                .entry(pair)
                .or_default()
                .push((row.rate, average));
        }
    }

    /// The rates of a pair: measured, stored, or `guess`.
    pub(super) fn rates(&self, lane: &Lane, model: &str, guess: impl FnOnce() -> Rates) -> Rates {
        let mut table = lock(&self.rates);
        let pair = (lane.name, model.to_owned());
        if let Some(known) = table.known.get(&pair) {
            return *known;
        }
        let mut rates = guess();
        let stored = (lane.name.to_owned(), pair.1.clone());
        for (name, average) in table.stored.remove(&stored).unwrap_or_default() {
            rates.put(&name, average);
        }
        table.known.insert(pair, rates);
        rates
    }

    fn change(&self, lane: &Lane, model: &str, change: impl FnOnce(&mut Rates)) {
        let mut table = lock(&self.rates);
        let pair = (lane.name, model.to_owned());
        if let Some(rates) = table.known.get_mut(&pair) {
            change(rates);
            table.changed.insert(pair);
        }
    }

    /// A model was loaded.
    pub(super) fn loaded(&self, lane: &Lane, model: &str, took: Duration) {
        self.lane(lane.name).load.observe(took.as_secs_f64());
        self.change(lane, model, |rates| {
            rates.load_s.observe(took.as_secs_f64())
        });
    }

    /// What an answer took above idle, as the machine's own counter tells.
    pub(super) fn watts(&self, lane: &Lane, model: &str, watts: f64) {
        self.change(lane, model, |rates| rates.watts.observe(watts));
    }

    /// A request ended as it should. `beside` requests ran there with it and slowed it.
    pub(super) fn finished(&self, lane: &Lane, model: &str, finish: &Finish, beside: usize) {
        let (usage, timings) = (&finish.usage, &finish.timings);
        let read = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
        let (prefill_s, decode_s) = (timings.prefill.as_secs_f64(), timings.decode.as_secs_f64());
        let alone_s = decode_s / (1.0 + BESIDE * beside as f64);
        let mut watts = 0.0;
        self.change(lane, model, |rates| {
            rates.observe(read, prefill_s, usage.completion_tokens, alone_s);
            watts = rates.watts.value;
        });
        let meter = self.lane(lane.name);
        meter.queue.observe(timings.queued.as_secs_f64());
        meter.tokens.observe(usage.completion_tokens as f64);
        let add = |to: &AtomicU64, n: usize| to.fetch_add(n as u64, Ordering::Relaxed);
        add(&meter.prompt_tokens, usage.prompt_tokens);
        add(&meter.cached_tokens, usage.cached_tokens);
        add(&meter.made_tokens, usage.completion_tokens);
        let joules = watts * (prefill_s + alone_s);
        add(&meter.energy, (joules * 1e3) as usize);
        meter.ended(Outcome::Answered);
    }

    /// The counters of a lane.
    pub(super) fn lane(&self, lane: &'static str) -> Arc<LaneMeter> {
        let mut lanes = lock(&self.lanes);
        let meter = lanes
            .entry(lane)
            .or_insert_with(|| Arc::new(LaneMeter::new()));
        Arc::clone(meter)
    }

    /// A request was routed, in so much time.
    pub(super) fn decided(&self, decided: Decided, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.decided.fetch_add(1, Ordering::Relaxed);
        self.routing
            .nanoseconds
            .fetch_add(nanoseconds, Ordering::Relaxed);
        self.routing
            .slowest
            .fetch_max(nanoseconds, Ordering::Relaxed);
        let mut decisions = lock(&self.decisions);
        decisions.truncate(DECISIONS - 1);
        decisions.push_front(decided);
    }

    /// A request went on elsewhere.
    pub(super) fn moved(&self, from: &'static str) {
        self.moved.fetch_add(1, Ordering::Relaxed);
        self.lane(from).ended(Outcome::Moved);
    }

    /// What has changed since the last call, for the store.
    pub(super) fn take_changed(&self) -> Vec<Measured> {
        let mut table = lock(&self.rates);
        let changed = std::mem::take(&mut table.changed);
        table.leaving += changed.len();
        let rows = changed.into_iter().filter_map(|pair| {
            let rates = table.known.get(&pair)?;
            // Guesses are not kept: a later version guesses better.
            let measured = rates.each().into_iter().filter(|(_, a)| a.count > 1);
            let row = |(rate, average): (&str, Average)| Measured {
                lane: pair.0.to_owned(),
                model: pair.1.clone(),
                rate: rate.to_owned(),
                value: average.value,
                count: average.count,
            };
            Some(measured.map(row).collect::<Vec<_>>())
        });
        rows.flatten().collect()
    }

    /// What was taken is written, or lost.
    pub(super) fn stored(&self) {
        let mut table = lock(&self.rates);
        table.leaving = 0;
        table.stored_at = Some(Instant::now());
    }

    /// Time since the store was written; `None` before the first time.
    pub(super) fn since_stored(&self) -> Option<Duration> {
        lock(&self.rates).stored_at.map(|at| at.elapsed())
    }

    /// Everything, for listings. `active` counts the requests on each lane.
    pub(super) fn numbers(&self, active: &HashMap<&'static str, usize>) -> MeterNumbers {
        let lanes = lock(&self.lanes);
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let lane = |(name, meter): (&&'static str, &Arc<LaneMeter>)| LaneNumbers {
            lane: name,
            active: active.get(name).copied().unwrap_or_default(),
            queue: meter.queue.series(),
            load: meter.load.series(),
            first_token: meter.first_token.series(),
            between: meter.between.series(),
            tokens: meter.tokens.series(),
            prompt_tokens: load(&meter.prompt_tokens),
            cached_tokens: load(&meter.cached_tokens),
            made_tokens: load(&meter.made_tokens),
            joules: load(&meter.energy) as f64 / 1e3,
            outcomes: std::array::from_fn(|i| (OUTCOMES[i], load(&meter.outcomes[i]))),
        };
        let table = lock(&self.rates);
        let measured = table.known.iter().filter_map(|((lane, model), rates)| {
            let rates: Vec<_> = rates
                .each()
                .into_iter()
                .filter(|(_, average)| average.count > 1)
                .map(|(name, average)| (name, average.value, average.count - 1))
                .collect();
            (!rates.is_empty()).then(|| RateNumbers {
                lane: (*lane).to_owned(),
                model: model.clone(),
                rates,
            })
        });
        // What earlier processes measured and this one has not needed yet.
        let stored = table.stored.iter().map(|((lane, model), averages)| {
            let name = |name: &str| KNOWN_RATES.into_iter().find(|known| *known == name);
            let rates = averages.iter().filter_map(|(rate, average)| {
                Some((name(rate)?, average.value, average.count.saturating_sub(1)))
            });
            RateNumbers {
                lane: lane.clone(),
                model: model.clone(),
                rates: rates.collect(),
            }
        });
        let mut rates: Vec<RateNumbers> = measured.chain(stored).collect();
        rates.sort_by(|a, b| (&a.lane, &a.model).cmp(&(&b.lane, &b.model)));
        let decided = load(&self.decided);
        MeterNumbers {
            lanes: lanes.iter().map(lane).collect(),
            rates,
            unsaved: table.changed.len() + table.leaving,
            decided,
            moved: load(&self.moved),
            routing_mean: Duration::from_nanos(
                load(&self.routing.nanoseconds)
                    .checked_div(decided)
                    .unwrap_or(0),
            ),
            routing_slowest: Duration::from_nanos(load(&self.routing.slowest)),
            decisions: lock(&self.decisions).iter().cloned().collect(),
        }
    }
}

/// What was measured, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct MeterNumbers {
    /// Every lane that has had a request.
    pub lanes: Vec<LaneNumbers>,
    /// Every pair that was measured.
    pub rates: Vec<RateNumbers>,
    /// Pairs that have changed since the store was written.
    pub unsaved: usize,
    /// Requests routed.
    pub decided: u64,
    /// Requests that went on elsewhere before their first byte.
    pub moved: u64,
    /// Time of one decision.
    pub routing_mean: Duration,
    /// Time of the slowest.
    pub routing_slowest: Duration,
    /// The last decisions, newest first.
    pub decisions: Vec<Decided>,
}

/// The times of one answer as it is read.
pub(super) struct Clock {
    meter: Arc<LaneMeter>,
    arrived: Instant,
    last: Option<Instant>,
}

impl Clock {
    pub(super) fn new(meter: Arc<LaneMeter>, arrived: Instant) -> Clock {
        Clock {
            meter,
            arrived,
            last: None,
        }
    }

    /// A piece has come.
    pub(super) fn piece(&mut self) {
        let now = Instant::now();
        match self.last {
            None => self
                .meter
                .first_token
                .observe((now - self.arrived).as_secs_f64()),
            Some(last) => self.meter.between.observe((now - last).as_secs_f64()),
        }
        self.last = Some(now);
    }

    /// The pieces come from another lane.
    pub(super) fn continue_on(&mut self, meter: Arc<LaneMeter>) {
        self.meter = meter;
    }

    pub(super) fn ended(&self, outcome: Outcome) {
        self.meter.ended(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{FinishReason, Timings, Usage};
    use crate::engines::flm;
    use crate::engines::lanes::Silicon;

    fn finish(prompt: usize, made: usize, decode_ms: u64) -> Finish {
        Finish {
            reason: FinishReason::Stop,
            stop: None,
            joules: None,
            usage: Usage {
                prompt_tokens: prompt,
                cached_tokens: 0,
                completion_tokens: made,
                ..Usage::default()
            },
            timings: Timings {
                queued: Duration::from_millis(20),
                prefill: Duration::from_millis(500),
                decode: Duration::from_millis(decode_ms),
            },
        }
    }

    #[test]
    fn guesses_give_way_to_measurements_which_outlive_the_process() {
        let guess = || Rates::guess(Silicon::Npu, 500_000_000, 600_000_000);
        let meter = Meter::default();
        let seeded = meter.rates(&flm::LANE, "m", guess).decode_tps.value;
        for _ in 0..20 {
            meter.finished(&flm::LANE, "m", &finish(64, 100, 10_000), 0);
        }
        let measured = meter.rates(&flm::LANE, "m", guess).decode_tps.value;
        assert!(
            seeded > 50.0 && (measured - 10.0).abs() < 1.0,
            "{seeded} {measured}"
        );
        let rows = meter.take_changed();
        assert!(
            rows.iter()
                .any(|row| row.rate == "decode" && row.count > 10)
        );
        assert!(!rows.iter().any(|row| row.rate == "load"), "never measured");
        assert!(meter.take_changed().is_empty());
        let later = Meter::default();
        later.remember(rows);
        assert_eq!(
            later.rates(&flm::LANE, "m", guess).decode_tps.value,
            measured
        );
        let numbers = meter.numbers(&HashMap::from([(flm::LANE.name, 3)]));
        let lane = &numbers.lanes[0];
        assert_eq!(
            (lane.active, lane.made_tokens, lane.outcomes[0].1),
            (3, 2000, 20)
        );
        assert_eq!(lane.queue.within(0.99), Some(0.025));
        assert!(lane.joules > 0.0);
    }

    #[test]
    fn histograms_count_up_to_their_bounds() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 9.0] {
            histogram.observe(value);
        }
        let series = histogram.series();
        assert_eq!(
            (series.counts.as_slice(), series.sum),
            (&[2, 1, 1][..], 12.0)
        );
        assert_eq!(
            (series.within(0.5), series.within(0.75), series.within(1.0)),
            (Some(1.0), Some(2.0), None)
        );
    }

    #[test]
    fn who_is_slowed_by_others_is_not_slow() {
        let guess = || Rates::new(100.0, 1.0, 1.0, 0.0, Silicon::Npu);
        let meter = Meter::default();
        meter.rates(&flm::LANE, "m", guess);
        for _ in 0..30 {
            meter.finished(&flm::LANE, "m", &finish(64, 100, 13_500), 1);
        }
        let decode = meter.rates(&flm::LANE, "m", guess).decode_tps.value;
        assert!((decode - 10.0).abs() < 0.1, "{decode}");
    }
}
