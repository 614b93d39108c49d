//! A report as a list of figures: as Markdown, and one beside another.

use serde_json::Value;

/// One figure of a report.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) unit: &'static str,
}

/// The figures of a report, in its order.
pub(super) fn figures(report: &Value) -> Vec<Figure> {
    let mut all = Vec::new();
    let mut put = |name: String, value: &Value, unit: &'static str| {
        if let Some(value) = value.as_f64() {
            all.push(Figure { name, value, unit });
        }
    };
    for part in list(&report["processor"]) {
        for line in list(&part["report"]["lines"]) {
            let [name, kind, what] = ["name", "kind", "what"].map(|key| text(&line[key]));
            // A kernel's speed is part of its description, and differs each time.
            let what = what.split(',').next().unwrap_or_default();
            let name = format!("{name} ({kind}), {what}");
            put(name.clone(), &line["tokens_per_s"], "tokens/s");
            put(format!("{name}, read"), &line["gb_per_s"], "GB/s");
            put(
                format!("{name}, memory beside it"),
                &line["bandwidth_gb_per_s"],
                "GB/s",
            );
            for text_of in list(&line["perplexities"]) {
                let of = text(&text_of["text"]);
                put(
                    format!("{name}, perplexity of {of}"),
                    &text_of["perplexity"],
                    "",
                );
            }
        }
    }
    let served = &report["served"];
    put(
        "an empty question, p50".into(),
        &served["gateway"]["p50_ms"],
        "ms",
    );
    put(
        "an empty question, p99".into(),
        &served["gateway"]["p99_ms"],
        "ms",
    );
    for (at, line) in list(&served["alone"]).enumerate() {
        // The number of tokens differs a little each time, as the words do.
        let name = ["a short prompt", "a long prompt", "a very long prompt"];
        let name = name.get(at).copied().unwrap_or("a prompt");
        put(format!("{name}, tokens"), &line["prompt_tokens"], "");
        put(format!("{name}, first token"), &line["first_token_s"], "s");
        put(
            format!("{name}, reading"),
            &line["read_tokens_per_s"],
            "tokens/s",
        );
        put(
            format!("{name}, writing"),
            &line["write_tokens_per_s"],
            "tokens/s",
        );
        put(
            format!("{name}, energy"),
            &line["joules_per_token"],
            "J/token",
        );
    }
    for line in list(&served["at_once"]) {
        let name = format!("{} at once", line["requests"]);
        put(
            format!("{name}, writing"),
            &line["write_tokens_per_s"],
            "tokens/s",
        );
        put(format!("{name}, first token"), &line["first_token_s"], "s");
    }
    put(
        "vectors".into(),
        &served["vectors"]["texts_per_s"],
        "texts/s",
    );
    put(
        "writing beside vectors".into(),
        &served["beside_vectors"]["write_tokens_per_s"],
        "tokens/s",
    );
    put(
        "speaking".into(),
        &served["speaking"]["times_faster_than_it_lasts"],
        "times real time",
    );
    put(
        "listening".into(),
        &served["hearing"]["times_faster_than_it_lasts"],
        "times real time",
    );
    let gpu = &report["gpu"];
    for (name, value) in gpu["model"].as_object().into_iter().flatten() {
        put(format!("gpu, {name}"), value, "");
    }
    all
}

/// What could not be measured: the part and why.
pub(super) fn gaps(report: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut look = |name: &str, value: &Value| {
        if let Some(why) = value["error"].as_str() {
            all.push((name.to_owned(), why.to_owned()));
        }
    };
    for part in list(&report["processor"]) {
        look(&format!("processor, {}", text(&part["what"])), part);
    }
    look("served", &report["served"]);
    for (name, value) in report["served"].as_object().into_iter().flatten() {
        look(&name.replace('_', " "), value);
    }
    look("gpu", &report["gpu"]);
    look("gpu, model", &report["gpu"]["model"]);
    all
}

/// A report for people.
pub(super) fn markdown(report: &Value) -> String {
    let machine = &report["machine"];
    let gib = |value: &Value| value.as_f64().unwrap_or(0.0) / f64::from(1 << 30);
    let mut out = format!(
        "# How this machine does\n\n{}, {} threads, {:.1} GiB of memory, Linux {}; onebit {}, {}{}.\n",
        text(&machine["processor"]),
        machine["threads"],
        gib(&machine["memory_bytes"]),
        text(&machine["kernel"]),
        text(&report["onebit"]),
        text(&report["date"]),
        match text(&report["note"]) {
            "" => String::new(),
            note => format!(", {note}"),
        },
    );
    for gpu in list(&machine["gpus"]) {
        let name = gpu["name"].as_str().unwrap_or("a GPU without a name");
        out += &format!(
            "\nGPU: {name}, {}, {:.1} GiB.\n",
            text(&gpu["driver"]),
            gib(&gpu["memory_bytes"])
        );
    }
    if let Some(npu) = machine["npu"].as_object() {
        let said = |key: &str| npu.get(key).map(text).unwrap_or_default();
        out += &format!(
            "\nNPU: {}, firmware {}, {}.\n",
            said("generation"),
            said("firmware"),
            said("driver")
        );
    }
    out += "\nEach figure is the median of three after one that is not counted; models are measured alone, without a prompt cache.\n";
    out += "\n| | | |\n| --- | ---: | --- |\n";
    for figure in figures(report) {
        out += &format!(
            "| {} | {} | {} |\n",
            figure.name,
            number(figure.value),
            figure.unit
        );
    }
    let gaps = gaps(report);
    if !gaps.is_empty() {
        out += "\nNot measured:\n\n";
        for (part, why) in gaps {
            out += &format!("- {part}: {why}\n");
        }
    }
    out
}

/// Two reports beside each other; what only one has stands in neither.
pub(super) fn compare(a: &Value, b: &Value, names: [&str; 2]) -> String {
    let others = figures(b);
    let mut out = format!(
        "| | {} | {} | ratio | |\n| --- | ---: | ---: | ---: | --- |\n",
        names[0], names[1]
    );
    for figure in figures(a) {
        if let Some(other) = others.iter().find(|other| other.name == figure.name) {
            out += &format!(
                "| {} | {} | {} | {:.2} | {} |\n",
                figure.name,
                number(figure.value),
                number(other.value),
                other.value / figure.value,
                figure.unit
            );
        }
    }
    out
}

/// Us beside another server, as [`super::served::versus`] measured it.
pub(super) fn versus(measured: &Value) -> String {
    let mut out = format!(
        "| {} | onebit | {} | ratio | |\n| --- | ---: | ---: | ---: | --- |\n",
        text(&measured["model"]),
        text(&measured["us_and"])
    );
    for line in list(&measured["lines"]) {
        let tokens = line["prompt_tokens"].as_f64().unwrap_or(0.0);
        for (key, name, unit) in [
            ("first_token_s", "first token", "s"),
            ("read_tokens_per_s", "reading", "tokens/s"),
            ("write_tokens_per_s", "writing", "tokens/s"),
        ] {
            let of = |who: usize| line[key][who].as_f64().unwrap_or(f64::NAN);
            out += &format!(
                "| {tokens:.0} tokens, {name} | {} | {} | {:.2} | {unit} |\n",
                number(of(0)),
                number(of(1)),
                of(0) / of(1)
            );
        }
    }
    out
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(rate: f64) -> Value {
        json!({
            "onebit": "1.0", "date": "2026-11-25", "note": "abc123",
            "machine": {"processor": "a processor", "threads": 2, "memory_bytes": 8_589_934_592_u64, "kernel": "6.1", "gpus": []},
            "processor": [
                {"what": "decode", "report": {"lines": [{"name": "m", "kind": "t5", "what": "decode", "tokens_per_s": rate, "gb_per_s": 5.0, "bandwidth_gb_per_s": 20.0, "perplexities": []}]}},
                {"what": "prefill", "error": "no memory"},
            ],
            "served": {"gateway": {"p50_ms": 0.2, "p99_ms": 0.9}, "at_once": [{"requests": 4, "write_tokens_per_s": 90.0, "first_token_s": 0.5}], "speaking": {"error": "no model"}},
            "gpu": {"error": "there is none"},
        })
    }

    #[test]
    fn a_report_is_read_by_people() {
        let text = markdown(&report(123.4));
        for part in [
            "a processor, 2 threads, 8.0 GiB",
            "2026-11-25, abc123",
            "| m (t5), decode | 123 | tokens/s |",
            "| 4 at once, writing | 90.0 | tokens/s |",
            "- processor, prefill: no memory",
            "- speaking: no model",
            "- gpu: there is none",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn two_reports_stand_beside_each_other() {
        let text = compare(&report(100.0), &report(150.0), ["old", "new"]);
        assert!(
            text.contains("| m (t5), decode | 100 | 150 | 1.50 | tokens/s |"),
            "{text}"
        );
        assert!(
            text.contains("| an empty question, p50 | 0.2000 | 0.2000 | 1.00 | ms |"),
            "{text}"
        );
        let measured = json!({"model": "m", "us_and": "http://x:1", "lines": [{"prompt_tokens": 20.4, "first_token_s": [0.1, 0.2], "read_tokens_per_s": [200.0, 100.0], "write_tokens_per_s": [30.0, 20.0]}]});
        assert!(
            versus(&measured).contains("| 20 tokens, writing | 30.0 | 20.0 | 1.50 | tokens/s |")
        );
    }
}
