//! `onebit chat`: through the running appliance where there is one, else in this process.

use std::io::{IsTerminal, Read, Write};

use clap::Args;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::Failed;
use super::client::Client;
use crate::app::App;
use crate::config::Config;
use crate::domain::{
    ChatEvent, ChatRequest, Input, Limits, Message, Overflow, Role, Sampling, Stats,
};

#[derive(Args)]
pub(super) struct ChatArgs {
    /// The model's name; the default model when left out.
    model: Option<String>,
    /// The question; a conversation when left out.
    prompt: Option<String>,
    /// Instructions that frame the conversation.
    #[arg(long)]
    system: Option<String>,
    /// Tokens of one answer at most.
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// 0 always takes the likeliest token.
    #[arg(long)]
    temperature: Option<f32>,
    /// Makes a sampled answer repeatable.
    #[arg(long)]
    seed: Option<u64>,
}

/// Who answers.
enum Speaker {
    Here(Box<App>),
    There(Client),
}

/// A finished answer.
struct Answered {
    text: String,
    stats: Option<Stats>,
    finish_reason: String,
}

pub(super) async fn run(config: Config, args: ChatArgs, json: bool) -> Result<(), Failed> {
    let speaker = match Client::find(&config.data_dir).await {
        Some(client) => Speaker::There(client),
        None => Speaker::Here(Box::new(App::open(config)?)),
    };
    let (model, prompt) = speaker
        .choose(args.model.as_deref(), args.prompt.as_deref())
        .await?;
    let mut messages: Vec<Message> = args
        .system
        .iter()
        .map(|text| Message::new(Role::System, text.as_str()))
        .collect();
    let prompt = match prompt {
        None if !std::io::stdin().is_terminal() => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            Some(text)
        }
        prompt => prompt,
    };
    if let Some(prompt) = prompt {
        messages.push(Message::new(Role::User, prompt));
        let answered = speaker.answer(&model, &messages, &args, !json).await?;
        if json {
            println!("{}", view(&model, &answered));
        } else {
            report(&answered);
        }
        return Ok(());
    }
    eprintln!("{model} — /clear starts anew, /exit or Ctrl-D leaves, Ctrl-C stops an answer");
    loop {
        let Some(line) = read_line().await? else {
            return Ok(());
        };
        match line.trim() {
            "" => continue,
            "/exit" | "/quit" => return Ok(()),
            "/clear" => {
                messages.retain(|message| message.role == Role::System);
                continue;
            }
            question => messages.push(Message::new(Role::User, question)),
        }
        match speaker.answer(&model, &messages, &args, true).await {
            Ok(answered) => {
                report(&answered);
                messages.push(Message::new(Role::Assistant, answered.text));
            }
            Err(error) => {
                eprintln!("onebit: {error}");
                messages.pop();
            }
        }
    }
}

impl Speaker {
    /// Tells a model from a question when only one word was given, and names the default model.
    async fn choose(
        &self,
        first: Option<&str>,
        second: Option<&str>,
    ) -> Result<(String, Option<String>), Failed> {
        let looks_like_a_question = |text: &str| text.contains(char::is_whitespace);
        let (name, prompt) = match (first, second) {
            (Some(text), None) if looks_like_a_question(text) => ("", Some(text.to_owned())),
            (first, second) => (first.unwrap_or_default(), second.map(str::to_owned)),
        };
        let model = match self {
            Speaker::Here(app) => app.model(name).await?.id,
            Speaker::There(client) if name.is_empty() => {
                let models = client.get("/v1/models").await?;
                let first = models["data"][0]["id"].as_str();
                first
                    .ok_or("no model has been imported yet; run `onebit import FILE.gguf`")?
                    .to_owned()
            }
            Speaker::There(client) => {
                let model = client.get(&format!("/v1/models/{name}")).await?;
                model["id"].as_str().unwrap_or(name).to_owned()
            }
        };
        Ok((model, prompt))
    }

    async fn answer(
        &self,
        model: &str,
        messages: &[Message],
        args: &ChatArgs,
        show: bool,
    ) -> Result<Answered, Failed> {
        match self {
            Speaker::Here(app) => here(app, model, messages, args, show).await,
            Speaker::There(client) => there(client, model, messages, args, show).await,
        }
    }
}

fn show_piece(text: &str, show: bool) -> Result<(), Failed> {
    if show && !text.is_empty() {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

async fn here(
    app: &App,
    model: &str,
    messages: &[Message],
    args: &ChatArgs,
    show: bool,
) -> Result<Answered, Failed> {
    let request = ChatRequest {
        sampling: Sampling {
            temperature: args.temperature,
            seed: args.seed,
            ..Sampling::default()
        },
        limits: Limits {
            tokens_max: args.max_tokens,
            ..Limits::default()
        },
        overflow: Overflow::LeaveOut,
        ..ChatRequest::new(model, Input::Messages(messages.to_vec()))
    };
    let mut answer = app.chat(request).await?;
    let mut answered = Answered {
        text: String::new(),
        stats: None,
        finish_reason: "cancelled".to_owned(),
    };
    loop {
        let event = tokio::select! {
            event = answer.next() => event,
            _ = tokio::signal::ctrl_c() => None,
        };
        match event {
            None => return Ok(answered),
            Some(event) => match event? {
                ChatEvent::Queued { .. }
                | ChatEvent::Waits { .. }
                | ChatEvent::Sources(_)
                | ChatEvent::Reasoning(_)
                | ChatEvent::CallBegins { .. }
                | ChatEvent::CallArguments { .. } => {}
                ChatEvent::LeftOut { messages } => eprintln!(
                    "[the conversation is longer than the model's context; {messages} messages were left out]"
                ),
                ChatEvent::Piece(piece) => {
                    show_piece(&piece.text, show)?;
                    answered.text.push_str(&piece.text);
                }
                ChatEvent::Finished(finish) => {
                    answered.stats = Some(Stats::from(&finish));
                    answered.finish_reason = finish.reason.as_str().to_owned();
                }
            },
        }
    }
}

async fn there(
    client: &Client,
    model: &str,
    messages: &[Message],
    args: &ChatArgs,
    show: bool,
) -> Result<Answered, Failed> {
    let messages: Vec<Value> = messages
        .iter()
        .map(|m| json!({ "role": m.role.as_str(), "content": m.content }))
        .collect();
    let body = json!({
        "model": model, "messages": messages, "stream": true,
        "temperature": args.temperature, "seed": args.seed, "max_tokens": args.max_tokens,
        "truncation": "auto",
    });
    let mut events = client.events("/v1/chat/completions", &body).await?;
    let mut answered = Answered {
        text: String::new(),
        stats: None,
        finish_reason: "cancelled".to_owned(),
    };
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(event) = event else {
            return Ok(answered);
        };
        if let Some(notice) = event["notice"]["text"].as_str() {
            eprintln!("[{notice}]");
        }
        let choice = &event["choices"][0];
        if let Some(text) = choice["delta"]["content"].as_str() {
            show_piece(text, show)?;
            answered.text.push_str(text);
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            answered.finish_reason = reason.to_owned();
            answered.stats = stats(&event["timings"]);
        }
    }
}

fn stats(timings: &Value) -> Option<Stats> {
    let count = |key: &str| timings[key].as_u64().and_then(|n| usize::try_from(n).ok());
    let cached_tokens = count("cache_n")?;
    Some(Stats {
        joules: None,
        thought_ms: None,
        prompt_tokens: count("prompt_n")? + cached_tokens,
        cached_tokens: Some(cached_tokens),
        completion_tokens: count("predicted_n")?,
        ttft_ms: timings["queued_ms"].as_f64()? + timings["prompt_ms"].as_f64()?,
        prefill_tps: timings["prompt_per_second"].as_f64(),
        decode_tps: timings["predicted_per_second"].as_f64(),
    })
}

fn view(model: &str, answered: &Answered) -> Value {
    let stats = answered.stats.as_ref().map(|stats| {
        json!({
            "prompt_tokens": stats.prompt_tokens,
            "cached_tokens": stats.cached_tokens,
            "completion_tokens": stats.completion_tokens,
            "ttft_ms": stats.ttft_ms,
            "prefill_tps": stats.prefill_tps,
            "decode_tps": stats.decode_tps,
        })
    });
    json!({ "model": model, "content": answered.text, "finish_reason": answered.finish_reason, "stats": stats })
}

fn report(answered: &Answered) {
    println!();
    let Some(stats) = &answered.stats else { return };
    let rate =
        |rate: Option<f64>| rate.map_or_else(|| "–".to_owned(), |rate| format!("{rate:.1} tok/s"));
    eprintln!(
        "[prefill {} tokens ({} cached) {}, decode {} tokens {}, first token {:.0} ms]",
        stats.prompt_tokens,
        stats.cached_tokens.unwrap_or(0),
        rate(stats.prefill_tps),
        stats.completion_tokens,
        rate(stats.decode_tps),
        stats.ttft_ms,
    );
}

async fn read_line() -> Result<Option<String>, Failed> {
    eprint!("> ");
    tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        let n = std::io::stdin().read_line(&mut line)?;
        Ok((n > 0).then_some(line))
    })
    .await?
}
