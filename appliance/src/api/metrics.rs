//! `GET /metrics`: the appliance's numbers in Prometheus' text format.
//!
//! Names begin with `onebit_`, times are seconds, sizes bytes. What the machine does not tell is left out.

use std::fmt::{Display, Write};

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::failure::Failure;
use super::openai::OpenAi;
use crate::app::{App, LaneNumbers, Numbers, Series, VERSION};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Failure<OpenAi>> {
    let text = text(&app.numbers().await?);
    let kind = HeaderValue::from_static(CONTENT_TYPE);
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// The text as it grows. Writing into it cannot fail.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP onebit_{name} {help}");
        let _ = writeln!(self.0, "# TYPE onebit_{name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = writeln!(self.0, "onebit_{name}{} {value}", braces(labels));
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.value(name, &[], value);
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        lanes: &[LaneNumbers],
        of: impl Fn(&LaneNumbers) -> &Series,
    ) {
        self.head(name, "histogram", help);
        for lane in lanes {
            let series = of(lane);
            let mut sum = 0;
            for (bound, count) in series.bounds.iter().zip(&series.counts) {
                sum += count;
                let bound = bound.to_string();
                let labels = [("lane", lane.lane), ("le", &*bound)];
                self.value(&format!("{name}_bucket"), &labels, sum);
            }
            let labels = [("lane", lane.lane), ("le", "+Inf")];
            self.value(&format!("{name}_bucket"), &labels, series.count());
            let labels = [("lane", lane.lane)];
            self.value(&format!("{name}_sum"), &labels, series.sum);
            self.value(&format!("{name}_count"), &labels, series.count());
        }
    }
}

fn braces(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escape = |text: &str| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        text.replace('\n', "\\n")
    };
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

fn text(numbers: &Numbers) -> String {
    let mut page = Page::default();
    machine(&mut page, numbers);
    lanes(&mut page, &numbers.measured.lanes);
    let measured = &numbers.measured;
    page.one(
        "routing_decisions_total",
        "counter",
        "Requests routed.",
        measured.decided,
    );
    page.one(
        "routing_moved_total",
        "counter",
        "Requests that went on elsewhere before their first byte.",
        measured.moved,
    );
    page.head(
        "rate",
        "gauge",
        "What a lane does with a model, measured: tokens a second, seconds, watts.",
    );
    for pair in &measured.rates {
        for (rate, value, _) in &pair.rates {
            let labels = [
                ("lane", pair.lane.as_str()),
                ("model", pair.model.as_str()),
                ("rate", *rate),
            ];
            page.value("rate", &labels, value);
        }
    }
    page.0
}

fn machine(page: &mut Page, numbers: &Numbers) {
    let status = &numbers.status;
    page.head("info", "gauge", "The program.");
    page.value("info", &[("version", VERSION)], 1);
    page.one(
        "uptime_seconds",
        "gauge",
        "Time since start.",
        status.uptime.as_secs_f64(),
    );
    page.one(
        "memory_total_bytes",
        "gauge",
        "The machine's memory.",
        status.machine.memory_total_bytes,
    );
    page.one(
        "memory_available_bytes",
        "gauge",
        "Memory that can be had without swapping.",
        status.machine.memory_available_bytes,
    );
    page.one(
        "models_memory_bytes",
        "gauge",
        "Memory that loaded models hold.",
        status.models_bytes,
    );
    if let Some(bytes) = numbers.own_bytes {
        page.one(
            "resident_memory_bytes",
            "gauge",
            "Memory that the appliance itself holds.",
            bytes,
        );
    }
    page.one(
        "requests_active",
        "gauge",
        "Answers being made.",
        status.active,
    );
    page.one(
        "requests_waiting",
        "gauge",
        "Requests that wait.",
        status.waiting,
    );
    page.head(
        "model_memory_bytes",
        "gauge",
        "Memory that one model holds.",
    );
    for model in &status.models {
        if let Some((bytes, _)) = model.held() {
            page.value("model_memory_bytes", &[("model", &model.model.id)], bytes);
        }
    }
    page.head(
        "energy_joules_total",
        "counter",
        "The processor's own energy counters, where they may be read.",
    );
    for energy in &numbers.energy {
        page.value(
            "energy_joules_total",
            &[("part", &energy.part)],
            energy.joules,
        );
    }
    page.head("gpu_watts", "gauge", "A GPU's power, where it tells.");
    for (gpu, now) in &numbers.gpus {
        let name = gpu.name.as_deref().unwrap_or("gpu");
        if let Some(watts) = now.power_watts {
            page.value("gpu_watts", &[("gpu", name)], watts);
        }
    }
    page.head("gpu_busy_ratio", "gauge", "A GPU's load, where it tells.");
    for (gpu, now) in &numbers.gpus {
        let name = gpu.name.as_deref().unwrap_or("gpu");
        if let Some(percent) = now.busy_percent {
            let share = f64::from(percent) / 100.0;
            page.value("gpu_busy_ratio", &[("gpu", name)], share);
        }
    }
}

fn lanes(page: &mut Page, lanes: &[LaneNumbers]) {
    page.head("lane_requests_active", "gauge", "Requests on a lane now.");
    for lane in lanes {
        page.value("lane_requests_active", &[("lane", lane.lane)], lane.active);
    }
    page.head(
        "requests_total",
        "counter",
        "Requests by lane and by how they ended.",
    );
    for lane in lanes {
        for (outcome, count) in &lane.outcomes {
            let labels = [("lane", lane.lane), ("outcome", *outcome)];
            page.value("requests_total", &labels, count);
        }
    }
    let counters = [
        (
            "prompt_tokens_total",
            "Prompt tokens, cached ones included.",
        ),
        ("cached_tokens_total", "Prompt tokens that the cache held."),
        ("made_tokens_total", "Tokens made."),
    ];
    for (name, help) in counters {
        page.head(name, "counter", help);
        for lane in lanes {
            let count = match name {
                "prompt_tokens_total" => lane.prompt_tokens,
                "cached_tokens_total" => lane.cached_tokens,
                _ => lane.made_tokens,
            };
            page.value(name, &[("lane", lane.lane)], count);
        }
    }
    page.head(
        "lane_joules_total",
        "counter",
        "Energy above idle, by the lane's watts.",
    );
    for lane in lanes {
        page.value("lane_joules_total", &[("lane", lane.lane)], lane.joules);
    }
    page.histogram(
        "queue_seconds",
        "From arrival to the first forward pass.",
        lanes,
        |lane| &lane.queue,
    );
    page.histogram("load_seconds", "Loading a model.", lanes, |lane| &lane.load);
    page.histogram(
        "first_token_seconds",
        "From arrival to the first piece of the answer.",
        lanes,
        |lane| &lane.first_token,
    );
    page.histogram(
        "between_tokens_seconds",
        "Between two pieces of an answer.",
        lanes,
        |lane| &lane.between,
    );
    page.histogram("answer_tokens", "Tokens of an answer.", lanes, |lane| {
        &lane.tokens
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_buckets_add_up() {
        assert_eq!(braces(&[]), "");
        assert_eq!(braces(&[("a", "x\"y\\\n")]), r#"{a="x\"y\\\n"}"#);
        let series = Series {
            bounds: &[0.5, 1.0],
            counts: vec![2, 1, 1],
            sum: 4.5,
        };
        let none = Series {
            bounds: &[],
            counts: vec![0],
            sum: 0.0,
        };
        let lane = LaneNumbers {
            lane: "x",
            active: 0,
            queue: series,
            load: none.clone(),
            first_token: none.clone(),
            between: none.clone(),
            tokens: none,
            prompt_tokens: 0,
            cached_tokens: 0,
            made_tokens: 0,
            joules: 0.0,
            outcomes: [("answered", 0); 4],
        };
        let mut page = Page::default();
        page.histogram("q", "Queue.", &[lane], |lane| &lane.queue);
        let lines: Vec<&str> = page.0.lines().collect();
        assert_eq!(
            lines,
            [
                "# HELP onebit_q Queue.",
                "# TYPE onebit_q histogram",
                "onebit_q_bucket{lane=\"x\",le=\"0.5\"} 2",
                "onebit_q_bucket{lane=\"x\",le=\"1\"} 3",
                "onebit_q_bucket{lane=\"x\",le=\"+Inf\"} 4",
                "onebit_q_sum{lane=\"x\"} 4.5",
                "onebit_q_count{lane=\"x\"} 4",
            ]
        );
    }
}
