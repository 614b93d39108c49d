//! The voice alone: how long each line of a file takes to be said, and how long it sounds.
//!
//! `cargo run --release --example speak -- MODEL LINES THREADS`, where MODEL is the file that `onebit import` made of a
//! Kokoro folder. `benches/speech` puts the appliance and onnxruntime beside it.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use onebit::domain::{Model, ModelFormat, SpeakRequest};
use onebit::engines::kokoro::{Kokoro, LANE};
use onebit::engines::{Engine, Slot};
use onebit_kernels::threads::Threads;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, lines, threads] = arguments.as_slice() else {
        return Err("speak MODEL LINES THREADS".into());
    };
    let path = PathBuf::from(model);
    let model = Model {
        id: "kokoro".to_owned(),
        name: "kokoro".to_owned(),
        format: ModelFormat::Kokoro,
        file_bytes: path.metadata()?.len(),
        path,
        sha256: String::new(),
        architecture: String::new(),
        quantisation: String::new(),
        context_length: 0,
        kv_bytes_per_position: 0,
        has_template: false,
        imported_at: 0,
    };
    let slot = Slot {
        memory_bytes_max: u64::MAX,
        lane: LANE.name,
        threads: Arc::new(Threads::new(threads.parse::<usize>()?)),
        means: Arc::default(),
    };
    let session = Kokoro.load(&model, slot).await?;
    let voice = session.voices().first().ok_or("the model has no voice")?;
    let say = |text: &str| {
        session.speak(SpeakRequest {
            text: text.to_owned(),
            voice: voice.clone(),
            speed: 1.0,
        })
    };
    say("Hello.").await?;
    for line in std::fs::read_to_string(lines)?.lines() {
        let begun = Instant::now();
        let sound = say(line).await?;
        let took = begun.elapsed().as_secs_f64();
        writeln!(std::io::stdout(), "{took:.4} {:.4}", sound.seconds())?;
    }
    Ok(())
}
