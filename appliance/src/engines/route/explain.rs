//! The router's decision in words: one for the header, a table for people.

use std::fmt::Write;

use super::{Candidate, Decision, Parts, Refusal, Scored};

/// The word for what made the difference between the first and the second.
pub(super) fn reason(
    ranked: &[Scored<'_>],
    candidates: &[Candidate<'_>],
    stayed: bool,
) -> &'static str {
    let [first, rest @ ..] = ranked else {
        return "nobody can";
    };
    if stayed {
        return "session stays";
    }
    let Some(second) = rest.first() else {
        return "only choice";
    };
    let (a, b): (&Parts, &Parts) = (&first.parts, &second.parts);
    let cached = candidates
        .iter()
        .any(|c| (c.lane.name, c.model) == (first.lane, first.model) && c.cached_tokens > 0);
    let gains = [
        (b.queue - a.queue, "shorter queue"),
        (b.load - a.load, "already loaded"),
        (
            b.prefill - a.prefill,
            if cached {
                "has the prefix"
            } else {
                "reads faster"
            },
        ),
        (b.decode - a.decode, "writes faster"),
        (b.energy - a.energy, "less energy"),
        (b.interference - a.interference, "in nobody's way"),
        (b.quality - a.quality, "better model"),
    ];
    gains
        .iter()
        .filter(|(gain, _)| *gain > 0.0)
        .max_by(|x, y| x.0.total_cmp(&y.0))
        .map_or("as good as the next", |(_, word)| word)
}

/// The value of `x-onebit-route`. ASCII, one line.
#[must_use]
pub fn header(decision: &Decision<'_>) -> Option<String> {
    let best = decision.best()?;
    let mut text = format!(
        "lane={} model={} reason={} eta_ms={:.0} joules={:.0}",
        best.lane,
        best.model,
        decision.reason.replace([' ', '\''], "-"),
        best.eta_s * 1e3,
        best.joules
    );
    if let Some(other) = decision.ranked.get(1) {
        // Writing to a string cannot fail.
        let _ = write!(text, " alt={}:{:.0}", other.lane, other.eta_s * 1e3);
    }
    Some(text)
}

/// The score table, for `onebit route` and `/v1/route/explain`.
#[must_use]
pub fn table_text(decision: &Decision<'_>) -> String {
    let mut text = format!(
        "{:<16} {:<22} {:>8} {:>8} {:>8} {:>8}  {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}\n",
        "lane",
        "model",
        "first s",
        "total s",
        "joules",
        "cost",
        "queue",
        "load",
        "read",
        "write",
        "energy",
        "others",
        "model"
    );
    for s in &decision.ranked {
        let p = &s.parts;
        let _ = writeln!(
            text,
            "{:<16} {:<22} {:>8.2} {:>8.2} {:>8} {:>8.2}  {:>6.2} {:>6.2} {:>6.2} {:>6.2} {:>6.2} {:>6.2} {:>6.2}",
            s.lane,
            s.model,
            s.first_token_s,
            s.eta_s,
            format!(
                "{}{:.1}",
                if s.joules_measured { "" } else { "~" },
                s.joules
            ),
            p.sum(),
            p.queue,
            p.load,
            p.prefill,
            p.decode,
            p.energy,
            p.interference,
            p.quality
        );
    }
    for (lane, model, why) in &decision.refused {
        let _ = writeln!(text, "{lane:<16} {model:<22} no: {}", refusal(why));
    }
    let _ = writeln!(text, "why: {}", decision.reason);
    if decision.ranked.iter().any(|s| !s.joules_measured) {
        let _ = writeln!(
            text,
            "~: by what such silicon usually takes; this machine has not told"
        );
    }
    text
}

/// Why a candidate is out, as the end of a sentence that begins with its lane.
#[must_use]
pub fn refusal(why: &Refusal<'_>) -> String {
    match why {
        Refusal::NotAsked => "another lane was asked for".into(),
        Refusal::Work(work) => format!("does not do {work:?}").to_lowercase(),
        Refusal::Lacks(abilities) => format!(
            "has no {}",
            abilities.names().collect::<Vec<_>>().join(", ")
        ),
        Refusal::Context { max, .. } => format!("its context is {max} tokens"),
        Refusal::State(state) => format!("is {state:?}").to_lowercase(),
        Refusal::KnownBad(why) => (*why).to_owned(),
        Refusal::Memory { short_bytes } => {
            format!("{:.1} GB of memory are missing", *short_bytes as f64 / 1e9)
        }
    }
}
