//! A loaded model of the built-in engine: checks requests, counts their tokens, and hands them to the
//! thread that computes.

use std::pin::Pin;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Instant;

use futures_util::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream::StreamExt;
use onebit_kernels::sampler::{Sampler, SamplerConfig};
use onebit_kernels::tokenizer::{Encode, Hold, StreamDecoder, Tokenizer};
use tokio::sync::{mpsc, oneshot};

use super::admission::Admission;
use super::answer::Answer;
use super::grammar::Grammars;
use super::scheduler::Job;
use crate::domain::{ChatEvent, ChatRequest, Input, Sampling};
use crate::engines::{EngineError, Events, Facts, Load, Session};

/// What a request gets that does not say otherwise: the values that llama.cpp settled on, good for small
/// models, which wander at temperature 1.
const TEMPERATURE: f32 = 0.8;
const TOP_K: usize = 40;
const TOP_P: f32 = 0.95;
const MIN_P: f32 = 0.05;

/// Tokens that the repetition penalties look back on when nothing is said.
const REPETITION_WINDOW: usize = 64;

/// What a request gets that says nothing at all.
pub(crate) fn usual_sampling() -> Sampling {
    Sampling {
        temperature: Some(TEMPERATURE),
        top_k: u32::try_from(TOP_K).ok(),
        top_p: Some(TOP_P),
        min_p: Some(MIN_P),
        repetition_penalty: Some(1.0),
        presence_penalty: Some(0.0),
        frequency_penalty: Some(0.0),
        ..Sampling::default()
    }
}

/// A loaded model; dropping it ends its thread.
pub(super) struct TernarySession {
    facts: Facts,
    tokenizer: Arc<Tokenizer>,
    vocabulary: usize,
    grammars: Grammars,
    admission: Arc<Admission>,
    /// `None` only while dropping.
    jobs: Option<Sender<Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl TernarySession {
    pub(super) fn new(
        facts: Facts,
        tokenizer: Arc<Tokenizer>,
        vocabulary: usize,
        admission: Arc<Admission>,
        jobs: Sender<Job>,
        thread: JoinHandle<()>,
    ) -> TernarySession {
        TernarySession {
            facts,
            grammars: Grammars::new(Arc::clone(&tokenizer), vocabulary),
            tokenizer,
            vocabulary,
            admission,
            jobs: Some(jobs),
            thread: Mutex::new(Some(thread)),
        }
    }

    fn send(&self, job: Job) -> Result<(), EngineError> {
        let jobs = self.jobs.as_ref().ok_or(EngineError::Stopped)?;
        jobs.send(job)
            .map_err(|_| EngineError::Failed("the engine's thread has ended".to_owned()))
    }

    /// The tokens of an input, however many they are.
    fn encode(&self, input: Input) -> Result<Vec<u32>, EngineError> {
        Ok(match input {
            Input::Messages(_) => return Err(EngineError::NoTemplate),
            Input::Text {
                text,
                parse_special,
            } => {
                let mut tokens = self.tokenizer.encode(
                    &text,
                    Encode {
                        add_special: true,
                        parse_special,
                    },
                );
                // A template may write the marker that the tokenizer adds as well.
                let bos = self.tokenizer.bos();
                if bos.is_some() && tokens.first().copied() == bos && tokens.get(1).copied() == bos
                {
                    tokens.remove(0);
                }
                tokens
            }
            Input::Tokens(tokens) => {
                let unknown = |id: &&u32| **id as usize >= self.vocabulary;
                if let Some(&id) = tokens.iter().find(unknown) {
                    return Err(EngineError::BadToken {
                        id,
                        vocabulary: self.vocabulary,
                    });
                }
                tokens
            }
        })
    }

    fn prompt(&self, input: Input) -> Result<Vec<u32>, EngineError> {
        let tokens = self.encode(input)?;
        if tokens.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if tokens.len() >= self.facts.context_length {
            return Err(EngineError::PromptTooLong {
                tokens: tokens.len(),
                context: self.facts.context_length,
            });
        }
        Ok(tokens)
    }
}

impl Session for TernarySession {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn load(&self) -> Load {
        Load {
            active: self.admission.active(),
            waiting: self.admission.waiting(),
        }
    }

    fn alive(&self) -> bool {
        let runs =
            |thread: &Option<JoinHandle<()>>| thread.as_ref().is_some_and(|t| !t.is_finished());
        !self.admission.over() && self.thread.lock().is_ok_and(|thread| runs(&thread))
    }

    fn chat(&self, request: ChatRequest) -> Result<Events, EngineError> {
        let arrived = Instant::now();
        let permit = self.admission.enter()?;
        let tokens = self.prompt(request.input)?;
        let prompt_len = tokens.len();
        let room = self.facts.context_length - prompt_len;
        let wanted = request.limits.tokens_max.unwrap_or(room).min(room);
        if let Some(&(id, _)) = request
            .sampling
            .logit_bias
            .iter()
            .find(|(id, _)| *id as usize >= self.vocabulary)
        {
            return Err(EngineError::BadToken {
                id,
                vocabulary: self.vocabulary,
            });
        }
        let mut sampler = Sampler::new(sampler_config(&request.sampling, request.logprobs)?);
        sampler.observe(&tokens);
        let guide = self.grammars.guide(&request.shape)?;
        let (events, receiver) = mpsc::unbounded_channel();
        let answer = Answer {
            prompt_len,
            len_max: prompt_len + wanted,
            tokens,
            cached_len: 0,
            fed: 0,
            sequence: None,
            ignore_end: request.limits.ignore_end,
            logprobs: request.logprobs.is_some(),
            sampler,
            guide,
            decoder: StreamDecoder::new(),
            hold: Hold::new(request.limits.stop),
            stopped: None,
            events,
            permit,
            arrived,
            started: None,
            first_token: None,
            ahead: None,
            pending_tokens: 0,
            pending: Vec::new(),
        };
        // The receiver is in our hands, so this cannot fail.
        let _ = answer.events.send(Ok(ChatEvent::Queued {
            prompt_tokens: Some(prompt_len),
        }));
        self.send(Job::Answer(Box::new(answer)))?;
        Ok(AnswerStream {
            events: receiver,
            ended: false,
        }
        .boxed())
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        Ok(self.tokenizer.encode(
            text,
            Encode {
                add_special: true,
                parse_special: false,
            },
        ))
    }

    fn count(&self, input: Input) -> Result<usize, EngineError> {
        Ok(self.encode(input)?.len())
    }

    fn score(&self, tokens: Vec<u32>) -> BoxFuture<'_, Result<Vec<f32>, EngineError>> {
        Box::pin(async move {
            let tokens = self.prompt(Input::Tokens(tokens))?;
            let (reply, answer) = oneshot::channel();
            self.send(Job::Score { tokens, reply })?;
            answer.await.map_err(|_| EngineError::Stopped)?
        })
    }
}

impl Drop for TernarySession {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the engine's thread panicked");
        }
    }
}

/// Turns what the client said into what the sampler takes.
fn sampler_config(
    sampling: &Sampling,
    logprobs: Option<usize>,
) -> Result<SamplerConfig, EngineError> {
    let seed = match sampling.seed {
        Some(seed) => seed,
        None => random_seed()?,
    };
    Ok(SamplerConfig {
        temperature: sampling.temperature.unwrap_or(TEMPERATURE),
        top_k: sampling.top_k.map_or(TOP_K, |k| k as usize),
        top_p: sampling.top_p.unwrap_or(TOP_P),
        min_p: sampling.min_p.unwrap_or(MIN_P),
        repetition_penalty: sampling.repetition_penalty.unwrap_or(1.0),
        repetition_window: sampling.repetition_window.unwrap_or(REPETITION_WINDOW),
        presence_penalty: sampling.presence_penalty.unwrap_or(0.0),
        frequency_penalty: sampling.frequency_penalty.unwrap_or(0.0),
        seed,
        logit_bias: sampling.logit_bias.clone(),
        logprobs: logprobs.unwrap_or(0),
    })
}

fn random_seed() -> Result<u64, EngineError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| EngineError::Failed(format!("no random numbers: {error}")))?;
    Ok(u64::from_le_bytes(bytes))
}

/// The events of one answer. Dropping it closes the channel, and the scheduler lets the answer go before
/// its next pass.
struct AnswerStream {
    events: mpsc::UnboundedReceiver<Result<ChatEvent, EngineError>>,
    ended: bool,
}

impl Stream for AnswerStream {
    type Item = Result<ChatEvent, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = match self.events.poll_recv(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(event)) => event,
            // The thread has ended without a word: it panicked.
            Poll::Ready(None) => Err(EngineError::Failed(
                "the engine's thread has ended".to_owned(),
            )),
        };
        self.ended = matches!(event, Ok(ChatEvent::Finished(_)) | Err(_));
        Poll::Ready(Some(event))
    }
}
