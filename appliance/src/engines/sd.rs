//! stable-diffusion.cpp's server: pictures.
//!
//! Pictures are jobs there: handed in, looked after, and taken back. Its own words tell the steps. What it is drawing it
//! does not let go of, so a picture that nobody waits for any more costs it its life, and the next one finds a new child.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::{HeaderValue, Method};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::child::{ChildSession, Door, Recipe, Seat, Shared, Ticket};
use super::lanes::{Abilities, Lane, Memory, Silicon, Work};
use super::upstream::{Endpoint, Upstream, UpstreamError};
use super::{
    Card, Engine, EngineError, Facts, Fit, Forwarded, Load, Means, PictureEvents, Session, Slot,
    Task,
};
use crate::domain::{Machine, Model, ModelFormat, PictureEvent, PictureRequest};
use crate::process::{Sandbox, Spec};

/// The engine itself; it holds nothing.
#[derive(Debug)]
pub struct Sd;

static CARD: Card = Card {
    name: "sd-server",
    tasks: &[Task::Draw],
    formats: &[ModelFormat::Diffusion],
    device: "gpu or cpu",
};

/// The lane of a build that drives a GPU; one picture at a time fills any.
pub const GPU: Lane = Lane {
    name: "sd.vulkan",
    silicon: Silicon::Igpu,
    works: &[Work::Image],
    abilities: Abilities::ALL,
    slots: 1,
    context_max: usize::MAX,
    memory: Memory::Gtt,
};

/// The lane of every other build.
pub const CPU: Lane = Lane {
    name: "sd.cpu",
    silicon: Silicon::Cpu,
    memory: Memory::Ram,
    ..GPU
};

/// Pictures that may wait.
const QUEUE_MAX: usize = 8;
/// Between two looks at a job, where no word of the server wakes us before.
const LOOK: Duration = Duration::from_millis(500);
/// Silence of a single question: the server answers them beside the drawing.
const SILENCE: Duration = Duration::from_secs(30);
/// Events between the task that looks and the one that writes to the client.
const EVENTS_AHEAD: usize = 16;
/// What the working memory takes beside the weights: the decoder of a picture of 1024 x 1024 alone takes 1.6 GB.
const BESIDE_BYTES: u64 = 2 << 30;
/// Largest answer that is passed on: a few pictures.
const FORWARDED_BYTES_MAX: usize = 256 << 20;

impl Engine for Sd {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn lanes(&self, _model: &Model, means: &Means) -> Vec<Lane> {
        let program = means.programs.get("sd-server");
        let backend = program.and_then(|program| super::build::backend_of(&program.path));
        match backend.as_deref() {
            Some("vulkan" | "rocm") => vec![GPU],
            _ => vec![CPU],
        }
    }

    fn fit(&self, model: &Model, _machine: &Machine, means: &Means) -> Fit {
        if means.programs.get("sd-server").is_none() {
            return Fit::No {
                why: "sd-server is not here; run `onebit engines build sd.cpp`".into(),
            };
        }
        let bytes = memory_bytes(model);
        Fit::Runs {
            memory_bytes_min: bytes,
            memory_bytes: bytes,
        }
    }

    fn load<'a>(
        &'a self,
        model: &'a Model,
        slot: Slot,
    ) -> BoxFuture<'a, Result<Arc<dyn Session>, EngineError>> {
        Box::pin(async move {
            let failed = |why: &str| EngineError::LoadFailed {
                model: model.id.clone(),
                why: why.into(),
            };
            let means = &slot.means;
            let program = means
                .programs
                .get("sd-server")
                .ok_or_else(|| failed("sd-server is not here"))?;
            let children = means
                .children
                .clone()
                .ok_or_else(|| failed("children are not allowed here"))?;
            let facts = Facts {
                engine: CARD.name,
                context_length: 0,
                memory_bytes: memory_bytes(model),
                template: None,
            };
            let recipe = recipe(&program.path, &model.id, &model.path, slot.threads.count());
            let child = ChildSession::start(recipe, children, facts).await?;
            Ok(Arc::new(Painter { child }) as Arc<dyn Session>)
        })
    }
}

fn memory_bytes(model: &Model) -> u64 {
    model.file_bytes + BESIDE_BYTES
}

/// A loaded model.
struct Painter {
    child: ChildSession,
}

impl Session for Painter {
    fn facts(&self) -> &Facts {
        self.child.facts()
    }

    fn load(&self) -> Load {
        Session::load(&self.child)
    }

    fn alive(&self) -> bool {
        self.child.alive()
    }

    fn draw(&self, request: PictureRequest) -> Result<PictureEvents, EngineError> {
        let shared = Arc::clone(&self.child.shared);
        let ticket = shared.enter()?;
        let (events, receiver) = mpsc::channel(EVENTS_AHEAD);
        tokio::spawn(async move {
            tokio::select! {
                // The client went away: dropping the job tells the server.
                () = events.closed() => {}
                outcome = paint(&shared, &request, ticket, &events) => {
                    if let Err(error) = outcome {
                        // Nobody is left to be told when this fails.
                        let _ = events.send(Err(error)).await;
                    }
                }
            }
        });
        Ok(Box::pin(stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|event| (event, receiver))
        })))
    }

    fn forward(
        &self,
        path: String,
        body: Option<Bytes>,
    ) -> BoxFuture<'_, Result<Forwarded, EngineError>> {
        Box::pin(async move {
            let shared = &self.child.shared;
            let ticket = shared.enter()?;
            let _working = shared.work(ticket).await?;
            let patience = shared.children.patience.answer * FORWARD_PATIENCE;
            let method = if body.is_some() {
                Method::POST
            } else {
                Method::GET
            };
            let body = body.unwrap_or_default();
            let attempt = |upstream: Upstream| {
                let (method, path, body) = (method.clone(), path.clone(), body.clone());
                async move {
                    let json = HeaderValue::from_static("application/json");
                    let sent = upstream.send(method, &path, Some(json), body, patience);
                    let mut answer = sent.await?;
                    let bytes = answer.bytes(patience).await?;
                    if bytes.len() > FORWARDED_BYTES_MAX {
                        return Err(UpstreamError::Broken {
                            why: "the answer is far too long".into(),
                        });
                    }
                    Ok(Forwarded {
                        status: answer.status.as_u16(),
                        body: bytes.into(),
                    })
                }
            };
            shared.attempts(attempt, || false).await
        })
    }
}

/// How often the usual patience: a large picture on a processor takes a quarter of an hour, and a server that hangs is
/// noticed by its processor time long before.
const FORWARD_PATIENCE: u32 = 40;

type Events = mpsc::Sender<Result<PictureEvent, EngineError>>;

async fn paint(
    shared: &Arc<Shared>,
    request: &PictureRequest,
    ticket: Ticket,
    events: &Events,
) -> Result<(), EngineError> {
    let _working = shared.work(ticket).await?;
    let body = &body(request);
    let begun = &AtomicBool::new(false);
    let attempt =
        |upstream: Upstream| async move { job(shared, upstream, body, begun, events).await };
    // A picture that was begun is not begun again behind the client's back: it takes minutes.
    let pictures = shared
        .attempts(attempt, || begun.load(Ordering::Relaxed))
        .await?;
    // A listener that has gone away hears nothing.
    let _ = events.send(Ok(PictureEvent::Finished(pictures))).await;
    Ok(())
}

/// A job in the server's hands. Dropping it before it is done takes it back.
struct Job {
    shared: Arc<Shared>,
    upstream: Upstream,
    id: String,
    done: bool,
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let (shared, upstream) = (Arc::clone(&self.shared), self.upstream.clone());
        let path = format!("/sdcpp/v1/jobs/{}/cancel", self.id);
        tokio::spawn(async move {
            let answer = upstream.json(&path, &json!({}), SILENCE).await;
            // It waits no longer, or it is being drawn, which only the end of the child stops.
            if answer.is_err() {
                shared.abandon();
            }
        });
    }
}

async fn job(
    shared: &Arc<Shared>,
    upstream: Upstream,
    body: &Value,
    begun: &AtomicBool,
    events: &Events,
) -> Result<Vec<String>, UpstreamError> {
    let log = shared.log();
    let mut seen = log.as_ref().map_or(0, |log| log.count());
    let mut words = log.as_ref().map(|log| log.follow());
    let answer = upstream.json("/sdcpp/v1/img_gen", body, SILENCE).await?;
    let id = answer["id"]
        .as_str()
        .ok_or_else(|| UpstreamError::Garbage {
            why: "the job has no id".into(),
        })?;
    let path = format!("/sdcpp/v1/jobs/{id}");
    let mut job = Job {
        shared: Arc::clone(shared),
        upstream: upstream.clone(),
        id: id.to_owned(),
        done: false,
    };
    let mut told = None;
    loop {
        let mut answer = upstream.get(&path, SILENCE).await?;
        let bytes = answer.bytes(SILENCE).await?;
        let state: Value =
            serde_json::from_slice(&bytes).map_err(|error| UpstreamError::Garbage {
                why: error.to_string(),
            })?;
        // It answers, so it is alive, also while a GPU does the work.
        shared.moved();
        let event = match state["status"].as_str() {
            Some("queued") => {
                let ahead = state["queue_position"]
                    .as_u64()
                    .unwrap_or(1)
                    .saturating_sub(1);
                Some(PictureEvent::Queued(
                    usize::try_from(ahead).unwrap_or(usize::MAX),
                ))
            }
            Some("generating") => {
                begun.store(true, Ordering::Relaxed);
                let lines = log.as_ref().map(|log| log.after(seen)).unwrap_or_default();
                let step = lines.iter().rev().find_map(|line| step(&line.text));
                seen = lines.last().map_or(seen, |line| line.number);
                step
            }
            Some("completed") => {
                job.done = true;
                let list = state["result"]["images"].as_array();
                let picture = |image: &Value| image["b64_json"].as_str().map(str::to_owned);
                let pictures: Vec<String> =
                    list.into_iter().flatten().filter_map(picture).collect();
                return match pictures.is_empty() {
                    false => Ok(pictures),
                    true => Err(refused("the engine drew nothing")),
                };
            }
            status => {
                job.done = true;
                let message = state["error"]["message"].as_str();
                let why = message.or(status).unwrap_or("no reason given");
                return Err(refused(why));
            }
        };
        if let Some(event) = event.filter(|event| told.as_ref() != Some(event)) {
            told = Some(event.clone());
            if events.send(Ok(event)).await.is_err() {
                return Err(refused("nobody waits for it"));
            }
        }
        let word = async {
            if let Some(words) = &mut words
                && words.changed().await.is_ok()
            {
                return;
            }
            // Its log has ended, which the next look will explain.
            std::future::pending::<()>().await;
        };
        // The end of a step is told at once; nothing else is worth a look more often than this.
        let _ = tokio::time::timeout(LOOK, word).await;
    }
}

/// What is wrong with the picture itself is wrong at the next try as well.
fn refused(message: &str) -> UpstreamError {
    UpstreamError::Refused {
        status: 422,
        message: message.to_owned(),
    }
}

/// The step in a line of progress, such as `  |=====>     | 3/20 - 1.23s/it`. Loading weights has bytes a second.
fn step(line: &str) -> Option<PictureEvent> {
    if !line.ends_with("s/it") && !line.ends_with("it/s") {
        return None;
    }
    let (done, rest) = line.rsplit_once('|')?.1.trim().split_once('/')?;
    let of = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(PictureEvent::Step {
        done: done.trim().parse().ok()?,
        of: of.parse().ok()?,
    })
}

/// The job as the server reads it; what the request leaves open is left out.
fn body(request: &PictureRequest) -> Value {
    let mut body = json!({
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "batch_count": request.count,
        "seed": request.seed.unwrap_or(-1),
        "embed_image_metadata": false,
        "output_format": request.format.as_str(),
    });
    if let Some((width, height)) = request.size {
        (body["width"], body["height"]) = (json!(width), json!(height));
    }
    if let Some(steps) = request.steps {
        body["sample_params"]["sample_steps"] = json!(steps);
    }
    if let Some(guidance) = request.guidance {
        body["sample_params"]["guidance"]["txt_cfg"] = json!(guidance);
    }
    for (name, picture) in [("init_image", &request.from), ("mask_image", &request.mask)] {
        if let Some(picture) = picture {
            body[name] = json!(picture);
        }
    }
    if let Some(strength) = request.strength {
        body["strength"] = json!(strength);
    }
    body
}

/// How to start and treat it.
#[must_use]
pub fn recipe(program: &Path, id: &str, model: &Path, threads: usize) -> Recipe {
    let (program, model) = (program.to_owned(), model.to_owned());
    Recipe {
        model: id.to_owned(),
        model_inside: id.to_owned(),
        door: Door::Port,
        ready_path: "/v1/models",
        slots: 1,
        queue_max: QUEUE_MAX,
        tokens_min: 0,
        command: Box::new(move |seat| command(&program, &model, threads, seat)),
    }
}

fn command(program: &Path, model: &Path, threads: usize, seat: &Seat) -> Spec {
    let mut spec = Spec::new(program)
        .arg("--model")
        .arg(model)
        .args(["--threads".to_owned(), threads.to_string()]);
    if let Endpoint::Port(address) = &seat.endpoint {
        spec = spec.args([
            "--listen-ip".to_owned(),
            address.ip().to_string(),
            "--listen-port".to_owned(),
            address.port().to_string(),
        ]);
    }
    let mut sandbox = Sandbox::system().reading(model).writing("/tmp");
    sandbox.read.extend(program.parent().map(Path::to_owned));
    spec = spec.sandbox(sandbox);
    // It ends between two steps of a picture, and a step of a large one takes seconds.
    spec.grace = Duration::from_secs(10);
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line() {
        let seat = Seat {
            endpoint: Endpoint::Port(([127, 0, 0, 1], 5000).into()),
            secret: "abc".into(),
        };
        let (program, model) = (Path::new("/opt/sd-server"), Path::new("/m/sd.gguf"));
        let spec = command(program, model, 4, &seat);
        assert_eq!(
            spec.args,
            [
                "--model",
                "/m/sd.gguf",
                "--threads",
                "4",
                "--listen-ip",
                "127.0.0.1",
                "--listen-port",
                "5000"
            ]
        );
    }

    #[test]
    fn steps_are_read_and_loading_is_none() {
        let of = |done, of| Some(PictureEvent::Step { done, of });
        assert_eq!(step("  |=======>            | 3/20 - 1.23s/it"), of(3, 20));
        assert_eq!(step("\u{1b}[K  |==>| 20/20 - 4.10it/s"), of(20, 20));
        assert_eq!(step("  |==>   | 120/1131 - 1.20GB/s"), None);
        assert_eq!(step("[INFO ] listening on: 127.0.0.1:80"), None);
    }

    #[test]
    fn what_is_left_open_is_left_out() {
        let request = PictureRequest {
            prompt: "a lighthouse".into(),
            count: 1,
            ..PictureRequest::default()
        };
        let plain = body(&request);
        assert_eq!((&plain["seed"], plain.get("width")), (&json!(-1), None));
        let request = PictureRequest {
            size: Some((512, 768)),
            steps: Some(8),
            guidance: Some(1.5),
            from: Some("aGk=".into()),
            strength: Some(0.5),
            ..request
        };
        let full = body(&request);
        assert_eq!(
            (&full["height"], &full["init_image"]),
            (&json!(768), &json!("aGk="))
        );
        assert_eq!(
            full["sample_params"],
            json!({"sample_steps": 8, "guidance": {"txt_cfg": 1.5}})
        );
    }
}
