//! Which models leave memory so that another one fits: a pure decision.
//!
//! Reads no clock, asks no machine, touches no session; [`super::pool`] gathers the facts and does what
//! is decided here. The rule: never more leave than needed, idle ones before busy ones, the least valuable
//! first, and of equals the longest unused. A busy model is never cut off; the wanted one waits until it has
//! finished. A pinned one stays whatever comes.

/// A model that is to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Bytes that it needs at least.
    pub memory_bytes_min: u64,
    /// Bytes that it would like.
    pub memory_bytes: u64,
}

/// A model that is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The model's name, with its engine's.
    pub id: String,
    /// Bytes that it holds.
    pub memory_bytes: u64,
    /// Whether somebody uses it.
    pub busy: bool,
    /// When it was last used: any count that grows.
    pub last_used: u64,
    /// What losing it would cost; see [`super::ledger::Holder::value`].
    pub value: f64,
    /// Seconds to load it again.
    pub reload_s: f64,
    /// The owner said: keep.
    pub pinned: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Unload these (possibly none), then load with this much memory.
    Load {
        /// Idle models that leave, in this order.
        evict: Vec<String>,
        /// Bytes for the wanted model.
        memory_bytes: u64,
    },
    /// Give these no new requests and decide again when one of them is idle.
    Drain {
        /// Busy models whose room is needed.
        ids: Vec<String>,
    },
    /// It does not fit even alone.
    Refuse,
}

/// Decides how `wanted` gets its room within `budget_bytes`.
pub fn plan(wanted: Wanted, loaded: &[Loaded], budget_bytes: u64) -> Plan {
    let bytes_of = |pinned: bool| -> u64 {
        let these = loaded.iter().filter(|model| model.pinned == pinned);
        these.map(|model| model.memory_bytes).sum()
    };
    let budget_bytes = budget_bytes.saturating_sub(bytes_of(true));
    if wanted.memory_bytes_min > budget_bytes {
        return Plan::Refuse;
    }
    let free = budget_bytes.saturating_sub(bytes_of(false));
    // A smaller cache is better than sending a model away.
    if free >= wanted.memory_bytes_min {
        return Plan::Load {
            evict: Vec::new(),
            memory_bytes: wanted.memory_bytes.min(free),
        };
    }
    let mut order: Vec<&Loaded> = loaded.iter().filter(|model| !model.pinned).collect();
    order.sort_by(|a, b| {
        let by_value = || a.value.total_cmp(&b.value);
        let by_use = || a.last_used.cmp(&b.last_used);
        a.busy.cmp(&b.busy).then_with(by_value).then_with(by_use)
    });
    let (mut leaving, mut room) = (Vec::new(), free);
    for model in order {
        if room >= wanted.memory_bytes_min {
            break;
        }
        room += model.memory_bytes;
        leaving.push(model);
    }
    // One that was picked early may have become needless: give back what is not needed, newest first.
    let mut index = leaving.len();
    while index > 0 {
        index -= 1;
        if room - leaving[index].memory_bytes >= wanted.memory_bytes_min {
            room -= leaving[index].memory_bytes;
            leaving.remove(index);
        }
    }
    let busy: Vec<String> = leaving
        .iter()
        .filter(|m| m.busy)
        .map(|m| m.id.clone())
        .collect();
    if !busy.is_empty() {
        return Plan::Drain { ids: busy };
    }
    Plan::Load {
        evict: leaving.iter().map(|model| model.id.clone()).collect(),
        memory_bytes: wanted.memory_bytes.min(room),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(id: &str, memory_bytes: u64, busy: bool, last_used: u64) -> Loaded {
        Loaded {
            id: id.into(),
            memory_bytes,
            busy,
            last_used,
            value: 0.0,
            reload_s: 0.0,
            pinned: false,
        }
    }

    fn load(evict: &[&str], memory_bytes: u64) -> Plan {
        Plan::Load {
            evict: evict.iter().map(|id| (*id).to_owned()).collect(),
            memory_bytes,
        }
    }

    #[test]
    fn decisions() {
        let want = |min, like| Wanted {
            memory_bytes_min: min,
            memory_bytes: like,
        };
        let drain = |ids: &[&str]| Plan::Drain {
            ids: ids.iter().map(|s| (*s).to_owned()).collect(),
        };
        let two = [loaded("old", 40, false, 1), loaded("new", 40, false, 2)];
        let cases: Vec<(&str, Wanted, Vec<Loaded>, Plan)> = vec![
            (
                "an empty pool gives all that is liked",
                want(10, 50),
                vec![],
                load(&[], 50),
            ),
            (
                "what is free is enough",
                want(10, 50),
                two.to_vec(),
                load(&[], 20),
            ),
            (
                "the longest unused leaves",
                want(30, 30),
                two.to_vec(),
                load(&["old"], 30),
            ),
            (
                "both leave when both must",
                want(90, 200),
                two.to_vec(),
                load(&["old", "new"], 100),
            ),
            (
                "too big is refused",
                want(101, 200),
                two.to_vec(),
                Plan::Refuse,
            ),
            (
                "a busy old one stays when an idle new one is enough",
                want(50, 50),
                vec![loaded("old", 40, true, 1), loaded("new", 40, false, 2)],
                load(&["new"], 50),
            ),
            (
                "busy ones are waited for, not cut off",
                want(90, 90),
                vec![loaded("old", 40, true, 1), loaded("new", 40, false, 2)],
                drain(&["old"]),
            ),
            (
                "a small one that became needless stays",
                want(90, 90),
                vec![loaded("small", 5, false, 1), loaded("big", 90, false, 2)],
                load(&["big"], 90),
            ),
        ];
        let valuable = |mut model: Loaded| {
            model.value = 1.0;
            model
        };
        let pinned = |mut model: Loaded| {
            model.pinned = true;
            model
        };
        let cases = cases.into_iter().chain([
            (
                "what is worth more stays although it was used before",
                want(30, 30),
                vec![
                    valuable(loaded("dear", 40, false, 1)),
                    loaded("new", 40, false, 2),
                ],
                load(&["new"], 30),
            ),
            (
                "a pinned one stays",
                want(50, 50),
                vec![
                    pinned(loaded("kept", 40, false, 1)),
                    loaded("new", 40, false, 2),
                ],
                load(&["new"], 50),
            ),
            (
                "and its room is nobody's",
                want(61, 61),
                vec![pinned(loaded("kept", 40, false, 1))],
                Plan::Refuse,
            ),
        ]);
        for (name, wanted, models, expected) in cases {
            assert_eq!(plan(wanted, &models, 100), expected, "{name}");
        }
    }
}
