//! `onebit starter`: the models that this machine is worth having beside what comes with the program.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Client;
use super::{Failed, size};
use crate::config::Config;

#[derive(Subcommand)]
pub(super) enum StarterCommand {
    /// Fetch what is missing, in the background of the running appliance.
    Fetch,
    /// Do not offer it again.
    Dismiss,
}

pub(super) async fn run(
    config: Config,
    command: Option<StarterCommand>,
    json: bool,
) -> Result<(), Failed> {
    let client = Client::find(&config.data_dir).await.ok_or_else(|| {
        format!(
            "no appliance serves {}; start one with `onebit serve`",
            config.data_dir.display()
        )
    })?;
    let path = "/onebit/starter";
    let set = match command {
        None => client.get(path).await?,
        Some(StarterCommand::Fetch) => client.post(path, &json!({ "action": "fetch" })).await?,
        Some(StarterCommand::Dismiss) => client.post(path, &json!({ "action": "dismiss" })).await?,
    };
    if json {
        println!("{set}");
        return Ok(());
    }
    for part in parts(&set) {
        let text = |key: &str| part[key].as_str().unwrap_or_default();
        println!(
            "{:<11} {:<18} {:<11} {}; {}",
            text("role"),
            text("model"),
            text("licence"),
            text("good_for"),
            stands(part)
        );
    }
    if let Some(line) = line(&set) {
        println!("{line}");
    }
    Ok(())
}

fn parts(set: &Value) -> impl Iterator<Item = &Value> {
    set["parts"].as_array().into_iter().flatten()
}

/// How one part stands.
fn stands(part: &Value) -> String {
    let text = |key: &str| part[key].as_str().unwrap_or_default();
    let number = |key: &str| part[key].as_u64().unwrap_or(0);
    let (done, total) = (number("done_bytes"), number("total_bytes"));
    match (text("state"), text("note")) {
        ("here", model) if model == text("model") => "is here".to_owned(),
        ("here", model) => format!("is here: {model}"),
        ("coming", _) if total > 0 => {
            format!("{} % of {}", done * 100 / total, size(total))
        }
        ("coming", _) => "is coming".to_owned(),
        (state, "") => format!("is {state}"),
        ("failed", why) => format!("failed: {why}"),
        (_, why) => why.to_owned(),
    }
}

/// The set in one line for `onebit status`; `None` where there is nothing to say.
pub(super) fn line(set: &Value) -> Option<String> {
    let of = |state: &str| -> Vec<String> {
        let found = parts(set).filter(|part| part["state"] == state);
        found
            .map(|part| match state {
                "coming" => format!("{} {}", part["model"].as_str().unwrap_or("?"), stands(part)),
                _ => part["model"].as_str().unwrap_or("?").to_owned(),
            })
            .collect()
    };
    let list = |state: &str| of(state).join(", ");
    match set["state"].as_str()? {
        "offered" => Some(format!(
            "{} suit this machine: `onebit starter fetch`, or `onebit starter dismiss`",
            list("missing")
        )),
        "fetching" => Some(match list("coming") {
            coming if coming.is_empty() => "asking the hub".to_owned(),
            coming => coming,
        }),
        "stopped" => Some(format!(
            "{}; `onebit starter fetch` goes on",
            set["why"].as_str().unwrap_or("it stopped")
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_how_it_stands() {
        let part = |model: &str, state: &str| json!({"model": model, "state": state, "done_bytes": 5, "total_bytes": 20});
        let set = |state: &str| json!({"state": state, "why": "the hub cannot be reached: x", "parts": [part("a", "missing"), part("b", "coming"), part("c", "here")]});
        assert!(line(&set("offered")).unwrap().starts_with("a suit"));
        assert_eq!(line(&set("fetching")).unwrap(), "b 25 % of 20 B");
        assert!(line(&set("stopped")).unwrap().contains("cannot be reached"));
        for state in ["off", "dismissed", "complete"] {
            assert_eq!(line(&set(state)), None);
        }
    }
}
