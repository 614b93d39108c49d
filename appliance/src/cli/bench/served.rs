//! What a client of a server sees: time to the first token, tokens a second, alone and together with others; vectors
//! and speech. Measured over HTTP, so that another server's figures are got in the same way.

use std::path::Path;
use std::time::Instant;

use futures_util::future::try_join_all;
use serde_json::{Value, json};

use super::super::Failed;
use super::super::client::Client;
use super::super::serve::beside;
use crate::config::Config;
use crate::host;

/// Each figure is the median of so many, after one that is not counted.
const RUNS: usize = 3;
/// Words of the prompts that are timed, each about a token or more; as far as the model's context goes.
const PROMPTS: [usize; 3] = [16, 128, 512];
/// Tokens that are written behind each.
const WRITTEN: usize = 64;
/// Requests at once.
const AT_ONCE: [usize; 4] = [1, 2, 4, 8];
/// Words of their prompts.
const AT_ONCE_PROMPT: usize = 64;
/// Questions whose answer costs nothing: what remains is the gateway.
const PINGS: usize = 300;
/// Texts of one request for vectors, each of so many words.
const TEXTS: usize = 32;
const TEXT_WORDS: usize = 48;
/// What is said, and then listened to.
const SENTENCE: &str = "The birch canoe slid on the smooth planks. Glue the sheet to the dark blue background. \
                        It is easy to tell the depth of a well.";
/// Bytes of a WAV file's head, and of a second of 16-bit samples at the rate that Kokoro has.
const WAV_HEAD: u64 = 44;
const WAV_SECOND: f64 = 48_000.0;

/// One answer, as it was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    pub(super) prompt_tokens: f64,
    pub(super) first_s: f64,
    pub(super) tokens: f64,
    /// From the first token to the last.
    pub(super) writing_s: f64,
}

impl Seen {
    /// Tokens of the prompt a second, loading and queueing among them.
    pub(super) fn reading(&self) -> f64 {
        self.prompt_tokens / self.first_s
    }

    pub(super) fn writing(&self) -> f64 {
        (self.tokens - 1.0).max(0.0) / self.writing_s.max(1e-9)
    }
}

/// Serves the data folder beside everything else for as long as it takes, and measures.
pub(super) async fn measure(config: Config, model: &str) -> Value {
    let data = config.data_dir.clone();
    let (address, _beside) = match beside(config).await {
        Ok(server) => server,
        Err(error) => return json!({ "error": error.to_string() }),
    };
    let client = Client::at(address, &data);
    let told = |part: Result<Value, Failed>| match part {
        Ok(value) => value,
        Err(error) => json!({ "error": error.to_string() }),
    };
    eprintln!("served: a model alone");
    let alone = told(alone(&client, model).await);
    eprintln!("served: several at once");
    let at_once = told(at_once(&client, model).await);
    eprintln!("served: vectors");
    let vectors = told(vectors(&client).await);
    let together = told(together(&client, model).await);
    eprintln!("served: speech");
    let folder = data.join("run");
    let sound = folder.join("bench.wav");
    let speaking = told(speaking(&client, &sound).await);
    let hearing = match speaking["error"].is_null() {
        true => told(hearing(&client, &sound).await),
        false => json!({ "error": "there is nothing to listen to, for nothing here speaks" }),
    };
    // It may never have been made.
    let _ = std::fs::remove_file(&sound);
    json!({
        "gateway": told(gateway(&client).await),
        "alone": alone,
        "at_once": at_once,
        "vectors": vectors,
        "beside_vectors": together,
        "speaking": speaking,
        "hearing": hearing,
        "pictures": { "error": "no engine here makes pictures for a measurement" },
    })
}

/// Words that no cache has seen.
pub(super) fn fresh_words(n: usize) -> Result<String, Failed> {
    let mut text = String::new();
    while text.split(' ').count() < n {
        for pair in crate::app::new_id()?.to_string().as_bytes().chunks(3) {
            text.push_str(&String::from_utf8_lossy(pair));
            text.push(' ');
        }
    }
    let words: Vec<&str> = text.split(' ').take(n).collect();
    Ok(words.join(" "))
}

/// One completion of fresh words, streamed by the route that llama.cpp's own server has too.
pub(super) async fn once(client: &Client, model: &str, words: usize) -> Result<Seen, Failed> {
    let body = json!({
        "model": model, "prompt": fresh_words(words)?, "n_predict": WRITTEN, "temperature": 0,
        "ignore_eos": true, "cache_prompt": false, "stream": true,
    });
    let begun = Instant::now();
    let mut events = client.events("/completion", &body).await?;
    let (mut first, mut last) = (None, begun);
    loop {
        let event = events.next().await?.ok_or("the answer has no end")?;
        if event["stop"] == true {
            let number = |pointer: &str| event.pointer(pointer).and_then(Value::as_f64);
            let first = first.ok_or("the answer has no token")?;
            return Ok(Seen {
                prompt_tokens: number("/timings/prompt_n").unwrap_or(words as f64),
                first_s: first,
                tokens: number("/timings/predicted_n")
                    .or(number("/tokens_predicted"))
                    .unwrap_or(WRITTEN as f64),
                writing_s: last.duration_since(begun).as_secs_f64() - first,
            });
        }
        last = Instant::now();
        first.get_or_insert(last.duration_since(begun).as_secs_f64());
    }
}

/// The middle one.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

async fn alone(client: &Client, model: &str) -> Result<Value, Failed> {
    once(client, model, AT_ONCE_PROMPT).await?;
    let mut lines = Vec::new();
    for words in PROMPTS {
        let energy = joules();
        let mut seen = Vec::new();
        for _ in 0..RUNS {
            match once(client, model, words).await {
                Ok(one) => seen.push(one),
                // The last ones may not fit into the model's context.
                Err(error) if !lines.is_empty() => {
                    lines.push(json!({ "prompt_words": words, "error": error.to_string() }));
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if seen.len() < RUNS {
            continue;
        }
        let of = |figure: fn(&Seen) -> f64| median(seen.iter().map(figure).collect());
        let tokens: f64 = seen.iter().map(|one| one.prompt_tokens + one.tokens).sum();
        lines.push(json!({
            "prompt_tokens": of(|one| one.prompt_tokens),
            "first_token_s": of(|one| one.first_s),
            "read_tokens_per_s": of(Seen::reading),
            "write_tokens_per_s": of(Seen::writing),
            "joules_per_token": energy.zip(joules()).map(|(before, after)| (after - before) / tokens),
        }));
    }
    Ok(json!(lines))
}

async fn at_once(client: &Client, model: &str) -> Result<Value, Failed> {
    let mut lines = Vec::new();
    for requests in AT_ONCE {
        let begun = Instant::now();
        let all = (0..requests).map(|_| once(client, model, AT_ONCE_PROMPT));
        let seen = try_join_all(all).await?;
        let tokens: f64 = seen.iter().map(|one| one.tokens).sum();
        lines.push(json!({
            "requests": requests,
            "write_tokens_per_s": tokens / begun.elapsed().as_secs_f64(),
            "first_token_s": median(seen.iter().map(|one| one.first_s).collect()),
        }));
    }
    Ok(json!(lines))
}

async fn gateway(client: &Client) -> Result<Value, Failed> {
    client.get("/health").await?;
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let begun = Instant::now();
        client.get("/health").await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() as f64 * share) as usize).min(times.len() - 1)];
    Ok(json!({ "p50_ms": at(0.5), "p99_ms": at(0.99), "requests": PINGS }))
}

async fn embed(client: &Client) -> Result<(f64, u64), Failed> {
    let texts: Result<Vec<String>, Failed> = (0..TEXTS).map(|_| fresh_words(TEXT_WORDS)).collect();
    let body = json!({ "input": texts? });
    let begun = Instant::now();
    let answer = client.post("/v1/embeddings", &body).await?;
    let tokens = answer["usage"]["prompt_tokens"].as_u64().unwrap_or(0);
    Ok((begun.elapsed().as_secs_f64(), tokens))
}

async fn vectors(client: &Client) -> Result<Value, Failed> {
    embed(client).await?;
    let (mut times, mut tokens) = (Vec::new(), 0);
    for _ in 0..RUNS {
        let (took, read) = embed(client).await?;
        times.push(took);
        tokens = read;
    }
    let took = median(times);
    Ok(json!({ "texts_per_s": TEXTS as f64 / took, "tokens_per_s": tokens as f64 / took }))
}

/// What an answer loses while vectors are made.
async fn together(client: &Client, model: &str) -> Result<Value, Failed> {
    let busy = async {
        loop {
            embed(client).await?;
        }
    };
    let answers = async {
        let mut rates = Vec::new();
        for _ in 0..RUNS {
            rates.push(once(client, model, AT_ONCE_PROMPT).await?.writing());
        }
        Ok::<f64, Failed>(median(rates))
    };
    tokio::select! {
        rate = answers => Ok(json!({ "write_tokens_per_s": rate? })),
        ended = busy => ended,
    }
}

async fn speaking(client: &Client, file: &Path) -> Result<Value, Failed> {
    let body = json!({ "model": "", "input": SENTENCE, "response_format": "wav" });
    client.save("/v1/audio/speech", &body, file).await?;
    let (mut times, mut seconds) = (Vec::new(), 0.0);
    for _ in 0..RUNS {
        let begun = Instant::now();
        let bytes = client.save("/v1/audio/speech", &body, file).await?;
        times.push(begun.elapsed().as_secs_f64());
        seconds = bytes.saturating_sub(WAV_HEAD) as f64 / WAV_SECOND;
    }
    Ok(json!({ "sound_s": seconds, "times_faster_than_it_lasts": seconds / median(times) }))
}

async fn hearing(client: &Client, file: &Path) -> Result<Value, Failed> {
    let seconds = file.metadata()?.len().saturating_sub(WAV_HEAD) as f64 / WAV_SECOND;
    let fields = [
        ("model", String::new()),
        ("response_format", "json".to_owned()),
    ];
    let listen = || client.form("/v1/audio/transcriptions", &fields, file);
    let heard = listen().await?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        listen().await?;
        times.push(begun.elapsed().as_secs_f64());
    }
    Ok(json!({
        "sound_s": seconds,
        "times_faster_than_it_lasts": seconds / median(times),
        "heard": heard["text"],
        "said": SENTENCE,
    }))
}

/// What the processor's packages have taken, where this user may read it.
fn joules() -> Option<f64> {
    let parts = host::energy_now(Path::new("/"));
    (!parts.is_empty()).then(|| parts.iter().map(|part| part.joules).sum())
}

/// Us and another server in alternation, each on the same prompts.
pub(super) async fn versus(config: Config, model: &str, address: &str) -> Result<Value, Failed> {
    let (host, port) = address
        .strip_prefix("http://")
        .and_then(|rest| rest.trim_end_matches('/').rsplit_once(':'))
        .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
        .ok_or_else(|| format!("`{address}` is no address; write http://HOST:PORT"))?;
    let mut found = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| format!("cannot find {host}: {error}"))?;
    let theirs = found.next().ok_or_else(|| format!("cannot find {host}"))?;
    let data = config.data_dir.clone();
    let (ours, _beside) = beside(config).await?;
    // Our key is for us alone.
    let servers = [
        Client::at(ours, &data),
        Client::at(theirs, Path::new("/nonexistent")),
    ];
    for (server, whose) in servers.iter().zip(["onebit", address]) {
        once(server, model, AT_ONCE_PROMPT)
            .await
            .map_err(|error| format!("{whose}: {error}"))?;
    }
    let mut lines = Vec::new();
    for words in PROMPTS {
        let mut seen: [Vec<Seen>; 2] = Default::default();
        for _ in 0..RUNS {
            for (server, seen) in servers.iter().zip(&mut seen) {
                match once(server, model, words).await {
                    Ok(one) => seen.push(one),
                    // The last prompt may not fit into the model's context.
                    Err(_) if !lines.is_empty() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        if seen.iter().any(|seen| seen.len() < RUNS) {
            continue;
        }
        let of =
            |who: usize, figure: fn(&Seen) -> f64| median(seen[who].iter().map(figure).collect());
        let both = |figure: fn(&Seen) -> f64| json!([of(0, figure), of(1, figure)]);
        lines.push(json!({
            "prompt_tokens": of(0, |one| one.prompt_tokens),
            "first_token_s": both(|one| one.first_s),
            "read_tokens_per_s": both(Seen::reading),
            "write_tokens_per_s": both(Seen::writing),
        }));
    }
    Ok(json!({ "model": model, "us_and": address, "lines": lines }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_fresh_and_of_the_number_that_is_asked_for() {
        let (a, b) = (fresh_words(100).unwrap(), fresh_words(100).unwrap());
        assert_eq!(a.split(' ').filter(|word| !word.is_empty()).count(), 100);
        assert_ne!(a, b);
    }

    #[test]
    fn rates_are_of_their_own_part() {
        let seen = Seen {
            prompt_tokens: 100.0,
            first_s: 0.5,
            tokens: 65.0,
            writing_s: 2.0,
        };
        assert_eq!((seen.reading(), seen.writing()), (200.0, 32.0));
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
