//! What is loaded, what it is worth, and how much room there is: the pool's side of a plan.

use std::collections::HashMap;

use super::super::lanes::Memory;
use super::super::ledger::Holder;
use super::super::plan::Loaded;
use super::entry::{Entry, State, name_of};
use super::owner::Owner;
use super::{ModelState, Place, Survey};
use crate::domain::Machine;

impl Owner {
    pub(super) fn loaded(&self) -> Vec<Loaded> {
        let of = |(at, entry): (&Place, &Entry)| match &entry.state {
            State::Loaded {
                session,
                leases,
                last_used,
                loaded_in,
                uses,
                ..
            } => {
                let holder = Holder {
                    id: entry.serial,
                    memory: Memory::Ram,
                    bytes: session.facts().memory_bytes,
                    reload_s: loaded_in.as_secs_f64(),
                    uses_per_hour: uses.now(),
                    pinned: self.is_pinned(&at.model),
                    busy: *leases > 0,
                };
                Some(Loaded {
                    id: name_of(at),
                    memory_bytes: holder.bytes,
                    busy: holder.busy,
                    last_used: *last_used,
                    value: holder.value(),
                    reload_s: holder.reload_s,
                    pinned: holder.pinned,
                })
            }
            State::Loading { .. } | State::Failed { .. } => None,
        };
        self.entries.iter().filter_map(of).collect()
    }

    pub(super) fn loading_bytes(&self) -> u64 {
        let of = |entry: &Entry| match entry.state {
            State::Loading { memory_bytes, .. } => memory_bytes,
            State::Loaded { .. } | State::Failed { .. } => 0,
        };
        self.entries.values().map(of).sum()
    }

    /// Bytes that all models may take together: set, or a share of what is free or already theirs.
    pub(super) fn budget(&self, machine: &Machine) -> u64 {
        if self.settings.memory_bytes_max > 0 {
            return self.settings.memory_bytes_max;
        }
        let ours: u64 = self.loaded().iter().map(|model| model.memory_bytes).sum();
        let reachable = machine
            .memory_available_bytes
            .saturating_add(ours + self.leaving_bytes);
        (reachable.min(machine.memory_total_bytes) as f64 * self.settings.memory_share) as u64
    }

    /// What each model is doing, wherever it does most.
    pub(super) fn states(&self) -> HashMap<String, ModelState> {
        let rank = |state: &ModelState| match state {
            ModelState::Loaded { .. } => 2,
            ModelState::Loading => 1,
            ModelState::Failed { .. } => 0,
        };
        let mut states: HashMap<String, ModelState> = HashMap::new();
        for (at, entry) in &self.entries {
            let state = entry.view(self.idle_limit(&at.model));
            match states.get(&at.model) {
                Some(known) if rank(known) >= rank(&state) => {}
                _ => {
                    states.insert(at.model.clone(), state);
                }
            }
        }
        states
    }

    pub(super) fn survey(&self, machine: &Machine) -> Survey {
        let budget = self.budget(machine);
        let places = self.entries.iter();
        Survey {
            places: places
                .map(|(at, entry)| (at.clone(), entry.view(self.idle_limit(&at.model))))
                .collect(),
            loaded: self.loaded(),
            budget_bytes: budget.saturating_sub(self.loading_bytes() + self.leaving_bytes),
        }
    }
}
