//! `onebit pair`: the code for a phone as a picture, then the question whether the device that came is yours.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::Failed;
use super::client::Client;
use crate::config::Config;

/// Between two looks at whether a device has come: at once for a person.
const LOOK: Duration = Duration::from_millis(500);

/// The question is worth nothing when the appliance has given the device up.
const ANSWER_MAX: Duration = Duration::from_secs(110);

#[derive(Args)]
pub(super) struct PairArgs {
    /// What the device may do: infer, chat, or owner (everything, over https only).
    #[arg(long, default_value = "chat", value_parser = ["infer", "chat", "owner"])]
    scope: String,
    /// Whose device it is, by identifier; yours when not given.
    #[arg(long)]
    person: Option<String>,
    /// Allow the device that waits and shows these digits.
    #[arg(long, value_name = "DIGITS")]
    approve: Option<String>,
    /// Refuse whatever waits.
    #[arg(long, conflicts_with = "approve")]
    refuse: bool,
}

pub(super) async fn run(config: Config, args: PairArgs, json: bool) -> Result<(), Failed> {
    let client = Client::find(&config.data_dir).await.ok_or_else(|| {
        format!(
            "no appliance serves {}; start one with `onebit serve`",
            config.data_dir.display()
        )
    })?;
    if let Some(digits) = &args.approve {
        return approve(&client, digits, json).await;
    }
    if args.refuse {
        return refuse_all(&client, json).await;
    }
    let body = json!({ "scope": args.scope, "person": args.person });
    let opened = client.post("/onebit/pairing", &body).await?;
    if json {
        println!("{opened}");
        return Ok(());
    }
    show(&opened)?;
    wait(&client, opened["id"].as_str().unwrap_or_default()).await
}

fn show(opened: &Value) -> Result<(), Failed> {
    let text = |key: &str| opened[key].as_str().unwrap_or_default();
    if opened["reachable"] == false {
        return Err("this appliance listens to this machine only; start it with --listen 0.0.0.0:8000 --listen 0.0.0.0:8443".into());
    }
    let link = text("link");
    if std::io::stdout().is_terminal() {
        println!("{}", crate::app::trust::qr::terminal(link)?);
    } else {
        println!("{link}");
    }
    println!(
        "Scan this with the phone's camera, or open {} and type",
        text("page")
    );
    println!();
    println!("    {}", text("code"));
    println!();
    println!(
        "The code ends after two minutes or one use. Nothing is let in before you allow it here."
    );
    Ok(())
}

async fn find(client: &Client, id: &str) -> Result<Option<Value>, Failed> {
    let all = client.get("/onebit/pairing").await?;
    let all = all["pairings"].as_array().cloned().unwrap_or_default();
    Ok(all.into_iter().find(|pairing| pairing["id"] == id))
}

async fn wait(client: &Client, id: &str) -> Result<(), Failed> {
    let mut asked = false;
    loop {
        let pairing = find(client, id).await?.ok_or("the pairing is gone")?;
        match pairing["state"].as_str().unwrap_or_default() {
            "open" => {}
            "waiting" if !asked => {
                asked = true;
                let text = |key: &str| pairing[key].as_str().unwrap_or_default();
                println!(
                    "\"{}\" at {} wants in. Its screen shows",
                    text("name"),
                    text("address")
                );
                println!("\n    {}\n", text("digits"));
                if !std::io::stdin().is_terminal() {
                    println!(
                        "Allow it with: onebit pair --approve \"{}\"",
                        text("digits")
                    );
                    continue;
                }
                print!("Does yours show the same? Allow it? [y/N] ");
                std::io::stdout().flush()?;
                let typed = tokio::task::spawn_blocking(|| {
                    let mut line = String::new();
                    std::io::stdin().read_line(&mut line).map(|_| line)
                });
                let typed = tokio::time::timeout(ANSWER_MAX, typed).await;
                let allow =
                    matches!(typed, Ok(Ok(Ok(line))) if line.trim().eq_ignore_ascii_case("y"));
                let body = json!({ "allow": allow, "digits": text("digits") });
                client.post(&format!("/onebit/pairing/{id}"), &body).await?;
            }
            "waiting" | "allowed" => {}
            "done" => {
                println!(
                    "The device is in. `onebit devices` lists it, `onebit devices rm` ends it."
                );
                return Ok(());
            }
            "refused" => return Err("the device was refused".into()),
            "void" => return Err("somebody typed five wrong codes; run `onebit pair` again".into()),
            _ => return Err("nobody came in time; run `onebit pair` again".into()),
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn waiting(client: &Client) -> Result<Vec<Value>, Failed> {
    let all = client.get("/onebit/pairing").await?;
    let all = all["pairings"].as_array().cloned().unwrap_or_default();
    Ok(all
        .into_iter()
        .filter(|p| p["state"] == "waiting")
        .collect())
}

async fn approve(client: &Client, digits: &str, json: bool) -> Result<(), Failed> {
    let plain = |text: &str| {
        text.chars()
            .filter(char::is_ascii_digit)
            .collect::<String>()
    };
    let waiting = waiting(client).await?;
    if waiting.is_empty() {
        return Err("no device waits".into());
    }
    let fitting = waiting
        .iter()
        .find(|p| plain(p["digits"].as_str().unwrap_or_default()) == plain(digits))
        .ok_or("no waiting device shows these digits; look at its screen again, or refuse it with `onebit pair --refuse`")?;
    let id = fitting["id"].as_str().unwrap_or_default();
    let body = json!({ "allow": true, "digits": digits });
    let answer = client.post(&format!("/onebit/pairing/{id}"), &body).await?;
    match json {
        true => println!("{answer}"),
        false => println!(
            "{} is allowed",
            fitting["name"].as_str().unwrap_or_default()
        ),
    }
    Ok(())
}

async fn refuse_all(client: &Client, json: bool) -> Result<(), Failed> {
    let waiting = waiting(client).await?;
    for pairing in &waiting {
        let id = pairing["id"].as_str().unwrap_or_default();
        client
            .post(&format!("/onebit/pairing/{id}"), &json!({ "allow": false }))
            .await?;
    }
    match json {
        true => println!("{}", json!({ "refused": waiting.len() })),
        false => println!("{} refused", waiting.len()),
    }
    Ok(())
}
