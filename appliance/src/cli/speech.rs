//! `onebit transcribe` and `onebit speak`.
//!
//! They speak to the running appliance; where none runs, they start one for as long as the command takes.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::client::Client;
use super::{Failed, serve, size};
use crate::config::Config;

#[derive(Args)]
pub(super) struct TranscribeArgs {
    /// The recording: wav, mp3, flac, ogg, opus, m4a, webm.
    file: PathBuf,
    /// The model; the first one that listens without it.
    #[arg(long, default_value = "")]
    model: String,
    /// The language spoken, such as `en`; found out without it.
    #[arg(long)]
    language: Option<String>,
    /// Write it down in English, whatever is spoken.
    #[arg(long)]
    translate: bool,
    /// How names are spelled, or what was said before.
    #[arg(long)]
    prompt: Option<String>,
    /// Plain text or subtitles.
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Srt,
    Vtt,
}

#[derive(Args)]
pub(super) struct SpeakArgs {
    /// The text; `-`, or nothing, reads it from the input.
    #[arg(default_value = "-")]
    text: String,
    /// The sound file to write, of the kind that its name ends in: wav, or with ffmpeg mp3, opus, flac.
    #[arg(short, long, value_name = "FILE", default_value = "speech.wav")]
    output: PathBuf,
    /// The voice; `--voice list` shows them.
    #[arg(long)]
    voice: Option<String>,
    /// 1 is the usual speed.
    #[arg(long, default_value_t = 1.0)]
    speed: f32,
    /// The model; the first one that speaks without it.
    #[arg(long, default_value = "")]
    model: String,
}

/// The running appliance, or one that runs as long as the second value lives.
macro_rules! appliance {
    ($config:expr) => {
        match Client::find(&$config.data_dir).await {
            Some(client) => (client, None),
            None => {
                let data = $config.data_dir.clone();
                let (address, held) = serve::beside($config).await?;
                (Client::at(address, &data), Some(held))
            }
        }
    };
}

pub(super) async fn transcribe(
    config: Config,
    args: TranscribeArgs,
    json: bool,
) -> Result<(), Failed> {
    let (client, _held) = appliance!(config);
    let mut fields = vec![
        ("model", args.model),
        ("response_format", "verbose_json".to_owned()),
    ];
    fields.extend(args.language.map(|language| ("language", language)));
    fields.extend(args.prompt.map(|prompt| ("prompt", prompt)));
    let path = if args.translate {
        "/v1/audio/translations"
    } else {
        "/v1/audio/transcriptions"
    };
    let heard = client.form(path, &fields, &args.file).await?;
    if json {
        println!("{heard}");
        return Ok(());
    }
    match args.format {
        Form::Text => println!("{}", heard["text"].as_str().unwrap_or_default()),
        form => print!("{}", subtitles(&heard, form)),
    }
    Ok(())
}

fn subtitles(heard: &Value, form: Form) -> String {
    let mark = if form == Form::Srt { ',' } else { '.' };
    let clock = |seconds: &Value| {
        let ms = (seconds.as_f64().unwrap_or(0.0) * 1000.0).round() as u64;
        let (s, m, h) = (ms / 1000 % 60, ms / 60_000 % 60, ms / 3_600_000);
        format!("{h:02}:{m:02}:{s:02}{mark}{:03}", ms % 1000)
    };
    let mut text = String::new();
    if form == Form::Vtt {
        text.push_str("WEBVTT\n\n");
    }
    for (i, segment) in heard["segments"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        if form == Form::Srt {
            text.push_str(&format!("{}\n", i + 1));
        }
        let said = segment["text"].as_str().unwrap_or_default().trim();
        let (start, end) = (clock(&segment["start"]), clock(&segment["end"]));
        text.push_str(&format!("{start} --> {end}\n{said}\n\n"));
    }
    text
}

pub(super) async fn speak(config: Config, args: SpeakArgs, json: bool) -> Result<(), Failed> {
    let (client, _held) = appliance!(config);
    if args.voice.as_deref() == Some("list") {
        let voices = client.get("/v1/audio/voices").await?;
        if json {
            println!("{voices}");
        } else {
            for voice in voices["data"].as_array().into_iter().flatten() {
                let word = |name: &str| voice[name].as_str().unwrap_or_default();
                println!("{:<16} {}", word("id"), word("language"));
            }
        }
        return Ok(());
    }
    let text = if args.text == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        text
    } else {
        args.text
    };
    let extension = args
        .output
        .extension()
        .and_then(|extension| extension.to_str());
    let form = extension.unwrap_or("wav").to_ascii_lowercase();
    let mut body =
        json!({ "model": args.model, "input": text, "speed": args.speed, "response_format": form });
    if let Some(voice) = args.voice {
        body["voice"] = voice.into();
    }
    let bytes = client.save("/v1/audio/speech", &body, &args.output).await?;
    if form == "wav" {
        settle(&args.output, bytes)?;
    }
    if json {
        println!("{}", json!({ "file": args.output, "bytes": bytes }));
    } else {
        println!("{} ({})", args.output.display(), size(bytes));
    }
    Ok(())
}

/// A stream's WAV head leaves its length open; that of a file is known.
fn settle(path: &std::path::Path, bytes: u64) -> std::io::Result<()> {
    let mut file = std::fs::File::options().write(true).open(path)?;
    for (at, beside) in [(4, 8), (40, 44)] {
        let length = u32::try_from(bytes.saturating_sub(beside)).unwrap_or(u32::MAX);
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&length.to_le_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subtitles_are_numbered_and_timed() {
        let heard = json!({ "segments": [{ "start": 1.5, "end": 62.25, "text": " Hello." }] });
        assert_eq!(
            subtitles(&heard, Form::Srt),
            "1\n00:00:01,500 --> 00:01:02,250\nHello.\n\n"
        );
        assert_eq!(
            subtitles(&heard, Form::Vtt),
            "WEBVTT\n\n00:00:01.500 --> 00:01:02.250\nHello.\n\n"
        );
    }
}
