//! The memory ledger: what every loaded model holds, what one more would need, who would have to go.
//!
//! Pure. On a machine whose GPU shares the memory, `MemAvailable` is the truth and the VRAM carve-out
//! is not. Nothing is ever evicted because a load failed, and never more than the newcomer needs.

use super::lanes::{Average, Memory};

/// What the machine has, in bytes, at the moment of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    pub ram_available: u64,
    /// Most that may be mapped for the iGPU.
    pub gtt_total: u64,
    pub vram_total: u64,
    /// Most that may be pinned for the NPU (memlock).
    pub pinned_total: u64,
}

/// System memory that is never promised to a model: the desktop, the page cache of what runs, us.
pub const RAM_RESERVE: u64 = 1 << 30;

/// One loaded model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Holder {
    /// The pool's own number for it.
    pub id: u64,
    pub memory: Memory,
    pub bytes: u64,
    /// Seconds to load it again.
    pub reload_s: f64,
    /// Requests expected in the next hour: the pool's decaying count.
    pub uses_per_hour: f64,
    /// The owner said: keep.
    pub pinned: bool,
    /// Answering now, or still loading.
    pub busy: bool,
}

impl Holder {
    /// What losing it would cost, in seconds of waiting an hour for each byte it holds. The least
    /// valuable goes first. A model nobody uses keeps a trace of value, so that among unused ones the
    /// large and quick to load go first.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.reload_s.max(0.01) * (self.uses_per_hour + 0.01) / self.bytes.max(1) as f64
    }
}

/// What one more model would need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    pub memory: Memory,
    pub bytes: u64,
}

/// Whether it may load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    Fits,
    /// After these have gone, least valuable first.
    After(Vec<u64>),
    /// Busy models are in the way; it will fit when they are done.
    Later {
        short_bytes: u64,
    },
    /// It can never fit here.
    Never {
        short_bytes: u64,
    },
}

/// Bytes that a model will take: weights, keys and values for `positions`, compute buffers, times what
/// earlier loads on this lane taught us.
#[must_use]
pub fn estimate(
    weight_bytes: u64,
    kv_bytes_per_position: u64,
    positions: u64,
    correction: &Correction,
) -> u64 {
    // Buffers of the graph: measured at 3 to 6 % of the weights in llama.cpp, and a floor of 64 MiB.
    let buffers = (weight_bytes / 16).max(64 << 20);
    let sum = weight_bytes
        .saturating_add(kv_bytes_per_position.saturating_mul(positions))
        .saturating_add(buffers);
    (sum as f64 * correction.factor()) as u64
}

/// How far estimates of one lane were off, learned from what its models really took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correction(Average);

impl Default for Correction {
    fn default() -> Self {
        Self(Average::seed(1.0))
    }
}

impl Correction {
    /// The factor to apply, within what one lane can plausibly be off.
    #[must_use]
    pub fn factor(&self) -> f64 {
        self.0.value.clamp(0.5, 2.0)
    }

    /// Takes what a model really took. `estimated` is the estimate that had been made.
    pub fn observe(&mut self, estimated: u64, real: u64) {
        let uncorrected = estimated as f64 / self.factor();
        self.0.observe(real as f64 / uncorrected.max(1.0));
    }
}

/// Decides whether `need` may be loaded beside `holders`, and who goes if so.
#[must_use]
pub fn admit(need: Need, holders: &[Holder], facts: &Facts) -> Admission {
    let short = shortage(need, holders, facts, |_| false);
    if short == 0 {
        return Admission::Fits;
    }
    let movable = |h: &Holder| !h.pinned && !h.busy && relieves(h.memory, need.memory);
    let mut order: Vec<&Holder> = holders.iter().filter(|h| movable(h)).collect();
    order.sort_by(|a, b| a.value().total_cmp(&b.value()).then(a.id.cmp(&b.id)));
    let mut going: Vec<&Holder> = Vec::new();
    for holder in order {
        going.push(holder);
        let short = shortage(need, holders, facts, |id| going.iter().any(|h| h.id == id));
        if short > 0 {
            continue;
        }
        // Spare whoever turned out not to be needed, the most valuable first.
        for spared in (0..going.len()).rev() {
            let rest = |id| {
                going
                    .iter()
                    .enumerate()
                    .any(|(i, h)| i != spared && h.id == id)
            };
            if shortage(need, holders, facts, rest) == 0 {
                going.remove(spared);
            }
        }
        return Admission::After(going.iter().map(|h| h.id).collect());
    }
    let left = shortage(need, holders, facts, |id| {
        holders.iter().any(|h| h.id == id && !h.pinned)
    });
    if left == 0 {
        Admission::Later { short_bytes: short }
    } else {
        Admission::Never { short_bytes: left }
    }
}

/// Whether freeing `held` helps somebody who needs `wanted`.
fn relieves(held: Memory, wanted: Memory) -> bool {
    held == wanted || (is_system(held) && is_system(wanted))
}

/// Kinds that are system memory under another name.
fn is_system(memory: Memory) -> bool {
    matches!(memory, Memory::Ram | Memory::Gtt | Memory::Pinned)
}

/// Bytes missing for `need` once the holders named by `gone` have left.
fn shortage(need: Need, holders: &[Holder], facts: &Facts, gone: impl Fn(u64) -> bool) -> u64 {
    let held = |kind: Memory| {
        holders
            .iter()
            .filter(|h| h.memory == kind && !gone(h.id))
            .map(|h| h.bytes)
            .sum::<u64>()
    };
    // MemAvailable already lacks what the holders hold, so what leaves is added back.
    let freed: u64 = holders
        .iter()
        .filter(|h| is_system(h.memory) && gone(h.id))
        .map(|h| h.bytes)
        .sum();
    let system = || {
        (need.bytes.saturating_add(RAM_RESERVE))
            .saturating_sub(facts.ram_available.saturating_add(freed))
    };
    let within =
        |kind: Memory, total: u64| held(kind).saturating_add(need.bytes).saturating_sub(total);
    match need.memory {
        Memory::None => 0,
        Memory::Ram => system(),
        Memory::Gtt => system().max(within(Memory::Gtt, facts.gtt_total)),
        Memory::Pinned => system().max(within(Memory::Pinned, facts.pinned_total)),
        Memory::Vram => within(Memory::Vram, facts.vram_total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn holder(id: u64, memory: Memory, gib: u64, uses_per_hour: f64) -> Holder {
        Holder {
            id,
            memory,
            bytes: gib * GIB,
            reload_s: 2.0,
            uses_per_hour,
            pinned: false,
            busy: false,
        }
    }

    fn strix(available_gib: u64) -> Facts {
        Facts {
            ram_available: available_gib * GIB,
            gtt_total: 96 * GIB,
            vram_total: GIB,
            pinned_total: 64 * GIB,
        }
    }

    fn gtt(gib: u64) -> Need {
        Need {
            memory: Memory::Gtt,
            bytes: gib * GIB,
        }
    }

    #[test]
    fn an_apu_is_measured_by_what_is_available_not_by_its_carve_out() {
        assert_eq!(admit(gtt(60), &[], &strix(100)), Admission::Fits);
        assert!(matches!(
            admit(gtt(60), &[], &strix(40)),
            Admission::Never { .. }
        ));
        assert!(
            matches!(admit(gtt(97), &[], &strix(120)), Admission::Never { .. }),
            "beyond the GTT limit"
        );
    }

    #[test]
    fn the_least_valuable_goes_and_nobody_else() {
        let holders = [
            holder(1, Memory::Gtt, 10, 9.0),
            holder(2, Memory::Gtt, 10, 0.0),
            holder(3, Memory::Ram, 10, 1.0),
        ];
        assert_eq!(
            admit(gtt(12), &holders, &strix(5)),
            Admission::After(vec![2])
        );
        assert_eq!(
            admit(gtt(22), &holders, &strix(5)),
            Admission::After(vec![2, 3]),
            "RAM and GTT are one memory"
        );
    }

    #[test]
    fn a_small_worthless_model_is_spared_when_it_does_not_help() {
        let holders = [
            holder(1, Memory::Gtt, 1, 0.0),
            holder(2, Memory::Gtt, 20, 5.0),
        ];
        let mut holders = holders;
        holders[0].reload_s = 0.01;
        assert_eq!(
            admit(gtt(20), &holders, &strix(2)),
            Admission::After(vec![2])
        );
    }

    #[test]
    fn pinned_and_busy_models_stay() {
        let mut holders = [
            holder(1, Memory::Gtt, 10, 0.0),
            holder(2, Memory::Gtt, 10, 0.0),
        ];
        holders[0].pinned = true;
        holders[1].busy = true;
        assert!(matches!(
            admit(gtt(8), &holders, &strix(2)),
            Admission::Later { .. }
        ));
        holders[1].pinned = true;
        assert!(matches!(
            admit(gtt(8), &holders, &strix(2)),
            Admission::Never { .. }
        ));
    }

    #[test]
    fn vram_is_its_own_world() {
        let facts = Facts {
            ram_available: 2 * GIB,
            gtt_total: 8 * GIB,
            vram_total: 16 * GIB,
            pinned_total: 0,
        };
        let need = Need {
            memory: Memory::Vram,
            bytes: 12 * GIB,
        };
        assert_eq!(
            admit(need, &[holder(1, Memory::Ram, 30, 0.0)], &facts),
            Admission::Fits
        );
        assert_eq!(
            admit(
                need,
                &[
                    holder(1, Memory::Vram, 10, 0.0),
                    holder(2, Memory::Ram, 30, 0.0)
                ],
                &facts
            ),
            Admission::After(vec![1])
        );
        assert_eq!(
            admit(
                Need {
                    memory: Memory::None,
                    bytes: u64::MAX
                },
                &[],
                &facts
            ),
            Admission::Fits
        );
    }

    #[test]
    fn there_is_no_mass_eviction() {
        let holders: Vec<Holder> = (0..13)
            .map(|id| holder(id, Memory::Gtt, 4, id as f64))
            .collect();
        for need in 1..=40 {
            if let Admission::After(going) = admit(gtt(need), &holders, &strix(8)) {
                let freed = going.len() as u64 * 4;
                assert!(freed < need + 1 - 7 + 4, "{need} GiB evicted {going:?}");
            }
        }
    }

    #[test]
    fn estimates_learn() {
        let mut correction = Correction::default();
        let first = estimate(4 * GIB, 100_000, 8192, &correction);
        assert!(first > 4 * GIB + 100_000 * 8192);
        for _ in 0..20 {
            let estimated = estimate(4 * GIB, 100_000, 8192, &correction);
            correction.observe(estimated, first / 10 * 12);
        }
        assert!((correction.factor() - 1.2).abs() < 0.02, "{correction:?}");
    }
}
