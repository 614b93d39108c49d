//! Which lane a request would take, and why: gathers what is true now and asks the router.
//!
//! Owns the gathering. The decision itself is [`crate::engines::route`], pure.

use super::{App, AppError};
use crate::domain::{Machine, Model, ModelFormat};
use crate::engines::lanes::{Lane, Rates, Silicon, State};
use crate::engines::ledger::Admission;
use crate::engines::pool::ModelState;
use crate::engines::route::{Ask, Candidate, Now, Preset, header, route, table_text};
use crate::engines::{ENGINES, Fit, flm, llama_server, remote, ternary};

/// A decision, written out.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// The model that was chosen.
    pub model: String,
    /// The lane that was chosen.
    pub lane: String,
    /// The value of `x-onebit-route`.
    pub header: String,
    /// The score table, for people.
    pub table: String,
}

/// One pair of lane and model, before it is borrowed by a candidate.
struct Pair {
    lane: Lane,
    model: Model,
    rates: Rates,
    state: State,
    admission: Admission,
}

impl App {
    /// Decides where a request for `name` (a model, or `auto` with or without a preset) would run.
    ///
    /// # Errors
    /// The model is not known, or no lane can run it.
    pub async fn explain(&self, name: &str, ask: &Ask<'_>) -> Result<Explained, AppError> {
        let preset = Preset::from_model(name);
        let models = match preset {
            None => vec![self.model(name).await?],
            Some(_) => self
                .models()
                .await?
                .into_iter()
                .filter(|s| s.model.has_template)
                .map(|s| s.model)
                .collect(),
        };
        if models.is_empty() {
            return Err(AppError::NoModels);
        }
        let ask = Ask {
            preset: preset.unwrap_or(ask.preset),
            ..*ask
        };
        let machine = super::machine(self.inner.cores);
        let states = self.inner.pool.states().await;
        let pairs: Vec<Pair> = models
            .iter()
            .flat_map(|model| self.pairs(model, &machine, states.get(&model.id)))
            .collect();
        let candidates: Vec<Candidate<'_>> = pairs.iter().map(candidate).collect();
        let decision = route(&ask, &candidates, &Now::default());
        let table = table_text(&decision);
        let (Some(best), Some(header)) = (decision.best(), header(&decision)) else {
            return Err(AppError::NoLane(table));
        };
        Ok(Explained {
            model: best.model.to_owned(),
            lane: best.lane.to_owned(),
            header,
            table,
        })
    }

    /// Every lane that might run a model, with what is known of the pair.
    fn pairs(&self, model: &Model, machine: &Machine, state: Option<&ModelState>) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for engine in ENGINES {
            let card = engine.card();
            if !card.formats.contains(&model.format) {
                continue;
            }
            let lanes = self.lanes_of(card.name, model);
            let Some(&first) = lanes.first() else {
                continue;
            };
            let fit = engine.fit(model, machine, &self.inner.means);
            let admission = match &fit {
                Fit::Runs {
                    memory_bytes_min, ..
                } if *memory_bytes_min > machine.memory_available_bytes => Admission::Never {
                    short_bytes: memory_bytes_min - machine.memory_available_bytes,
                },
                _ => Admission::Fits,
            };
            for lane in lanes {
                // What is loaded is loaded on the first.
                let state = state.filter(|_| lane.name == first.name);
                let state = match (&fit, state) {
                    (Fit::No { .. }, _) => State::Absent,
                    (_, Some(ModelState::Loaded { engine, load, .. })) if *engine == card.name => {
                        if load.active > 0 {
                            State::Busy(load.active)
                        } else {
                            State::Warm
                        }
                    }
                    (_, Some(ModelState::Loading)) => State::Loading,
                    _ => State::Ready,
                };
                let rates = Rates::guess(lane.silicon, model.file_bytes, parameters(model));
                pairs.push(Pair {
                    lane,
                    model: model.clone(),
                    rates,
                    state,
                    admission: admission.clone(),
                });
            }
        }
        pairs
    }

    /// The lanes of an engine here, the one that it loads models on first.
    fn lanes_of(&self, engine: &str, model: &Model) -> Vec<Lane> {
        match engine {
            "ternary" => ternary::gpu::lanes(&self.inner.means, model),
            // Which silicon its build drives is known once it has said so; the CPU is what every build can do.
            "llama-server" => vec![llama_server::LANES[2]],
            "flm" => vec![flm::LANE],
            "remote" => vec![remote::LANE],
            _ => Vec::new(),
        }
    }
}

/// Parameters, from the file's size and its usual bits a weight.
fn parameters(model: &Model) -> u64 {
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

fn candidate(pair: &Pair) -> Candidate<'_> {
    let active = if let State::Busy(n) = pair.state {
        n
    } else {
        0
    };
    let away = pair.lane.silicon == Silicon::Away;
    Candidate {
        lane: &pair.lane,
        state: if away { State::Warm } else { pair.state },
        model: &pair.model.id,
        rates: &pair.rates,
        context: usize::try_from(pair.model.context_length).unwrap_or(usize::MAX),
        quality: (parameters(&pair.model).max(1) as f64 / 1e8).log2(),
        active,
        queue_s: 0.0,
        loading_s: pair.rates.load_s.value / 2.0,
        cached_tokens: 0,
        admission: pair.admission.clone(),
        eviction_s: 0.0,
        known_bad: None,
    }
}
