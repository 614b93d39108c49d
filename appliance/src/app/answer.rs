//! The events of one answer as they come: counted, and taken over from another lane where the first one fails
//! before its first byte.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures_util::Stream;
use futures_util::future::BoxFuture;

use super::{App, AppError, Begun, Clock, Journey, Outcome, rates_key};
use crate::domain::{ChatEvent, Finish, Model};
use crate::engines::EngineError;

/// The events of one answer; dropping it cancels the answer. It holds the model in memory.
pub struct Answer {
    /// The model that answers.
    pub model: Model,
    app: App,
    now: Begun,
    /// Where the request may still go; `None` once something of the answer has been shown.
    journey: Option<Journey>,
    moving: Option<BoxFuture<'static, (Journey, Result<Begun, AppError>)>>,
    clock: Clock,
    /// Whether it has been said that an engine has taken the request.
    queued: bool,
    /// What comes after that has been said.
    held: VecDeque<ChatEvent>,
    ended: bool,
}

impl Answer {
    pub(super) fn new(app: &App, journey: Journey, begun: Begun, arrived: Instant) -> Answer {
        let meter = app.inner.meter.lane(begun.pick.lane.name);
        Answer {
            model: begun.pick.model.clone(),
            app: app.clone(),
            now: begun,
            journey: Some(journey),
            moving: None,
            clock: Clock::new(meter, arrived),
            queued: false,
            held: VecDeque::new(),
            ended: false,
        }
    }

    /// Counts the end of the answer, and says what it took.
    fn finish(&mut self, finish: &mut Finish) {
        self.ended = true;
        let pick = &self.now.pick;
        let meter = &self.app.inner.meter;
        let key = rates_key(&pick.model);
        if let Some((begun, number)) = self.now.energy
            && let Some(watts) = self.app.inner.energy.end(begun)
            && self.app.inner.flights.last().0 == number
        {
            meter.watts(&pick.lane, key, watts);
            let time = finish.timings.prefill + finish.timings.decode;
            finish.joules = Some(watts * time.as_secs_f64());
        }
        meter.finished(&pick.lane, key, finish, self.now.beside);
        self.app.count_answer(finish);
        self.app.save_rates_soon();
    }

    /// Reads on from the lane that has taken the request over.
    fn take_over(&mut self, journey: Journey, begun: Begun) {
        let meter = self.app.inner.meter.lane(begun.pick.lane.name);
        self.clock.continue_on(meter);
        self.model = begun.pick.model.clone();
        self.now = begun;
        self.journey = Some(journey);
    }

    /// What the answer is made from, and what not, is told before its first word.
    fn hold_sources(&mut self) {
        let messages = std::mem::take(&mut self.now.left_out);
        if messages > 0 {
            self.held.push_back(ChatEvent::LeftOut { messages });
        }
        let sources = std::mem::take(&mut self.now.sources);
        if !sources.is_empty() {
            self.held.push_back(ChatEvent::Sources(sources));
        }
    }

    fn fail(&mut self) {
        self.ended = true;
        self.clock.ended(Outcome::Failed);
    }
}

impl Stream for Answer {
    type Item = Result<ChatEvent, AppError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(held) = this.held.pop_front() {
            return Poll::Ready(Some(Ok(held)));
        }
        loop {
            if let Some(moving) = &mut this.moving {
                let (journey, begun) = ready!(moving.as_mut().poll(context));
                this.moving = None;
                match begun {
                    Ok(begun) => this.take_over(journey, begun),
                    Err(error) => {
                        // Counted where it failed.
                        this.ended = true;
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let event = match ready!(this.now.events.as_mut().poll_next(context)) {
                Some(event) => event,
                None => Err(EngineError::Stopped),
            };
            match event {
                Ok(ChatEvent::Queued { .. }) if std::mem::replace(&mut this.queued, true) => {}
                Ok(ChatEvent::Queued { prompt_tokens }) => {
                    this.hold_sources();
                    return Poll::Ready(Some(Ok(ChatEvent::Queued { prompt_tokens })));
                }
                // Where it stands is no part of the answer: another lane may still take it over.
                Ok(event @ ChatEvent::Waits { .. }) => return Poll::Ready(Some(Ok(event))),
                Ok(mut event) => {
                    this.journey = None;
                    match &mut event {
                        ChatEvent::Finished(finish) => this.finish(finish),
                        _ => this.clock.piece(),
                    }
                    if std::mem::replace(&mut this.queued, true) {
                        return Poll::Ready(Some(Ok(event)));
                    }
                    // Engines in processes tell nothing before their first word.
                    this.hold_sources();
                    this.held.push_back(event);
                    let prompt_tokens = None;
                    return Poll::Ready(Some(Ok(ChatEvent::Queued { prompt_tokens })));
                }
                Err(error) => match this.journey.take() {
                    Some(journey) if journey.may_go_on(&error) => {
                        this.moving = Some(journey.retry(&this.now.pick, error));
                    }
                    _ => {
                        this.fail();
                        return Poll::Ready(Some(Err(error.into())));
                    }
                },
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.ended {
            self.clock.ended(Outcome::Cancelled);
        }
    }
}
