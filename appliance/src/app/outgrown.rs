//! Conversations that outgrow their context: the oldest turns are left out, where the request agrees.
//!
//! A turn is a question with all that follows it. Instructions stay, and so does the last turn. More is left out than
//! must be, in steps, so that the next questions find the same beginning in the model's cache.

use std::sync::Arc;

use super::{App, AppError, Reader, count_words, input_bytes};
use crate::domain::{ChatRequest, Input, Message, Overflow, Role};
use crate::engines::pool::Lease;
use crate::engines::{EngineError, Task};

/// Tokens kept free for an answer of no given length.
const ANSWER_TOKENS: usize = 512;
/// The largest share of a context that is kept free for the answer, and the step in which turns are left out.
const SHARE: usize = 4;

/// Tokens that a prompt may have so that its answer finds room.
pub(super) fn room(context: usize, tokens_max: Option<usize>) -> usize {
    let answer = tokens_max.unwrap_or(ANSWER_TOKENS).min(context / SHARE);
    context.saturating_sub(answer + 1)
}

/// The messages that are read in any case: instructions and the last turn.
pub(super) fn kept(messages: &[Message]) -> impl Iterator<Item = &Message> {
    let last = turns(messages).last().copied().unwrap_or(0);
    let stays =
        move |(at, message): &(usize, &Message)| *at >= last || message.role == Role::System;
    messages
        .iter()
        .enumerate()
        .filter(stays)
        .map(|(_, message)| message)
}

/// Leaves turns out of a conversation that has `tokens` and may have `limit`; returns how many messages went. 0 when
/// only its last turn is left.
pub(super) fn leave_out(
    messages: &mut Vec<Message>,
    tokens: usize,
    limit: usize,
    context: usize,
) -> usize {
    let starts = turns(messages);
    let Some(&last) = starts.get(1..).and_then(<[usize]>::last) else {
        return 0;
    };
    let step = (context / SHARE).max(1);
    let excess = tokens.saturating_sub(limit).max(1).next_multiple_of(step);
    let bytes: usize = messages.iter().map(weight).sum();
    // Tokens are spread over the bytes about evenly; who asks counts again afterwards.
    let surplus = bytes.saturating_mul(excess) / tokens.max(1);
    let mut gone = 0;
    let mut cut = last;
    for (at, message) in messages.iter().enumerate() {
        if at > 0 && gone >= surplus && starts[1..].contains(&at) {
            cut = at;
            break;
        }
        if message.role != Role::System {
            gone += weight(message);
        }
    }
    let before = messages.len();
    let mut at = 0;
    messages.retain(|message| {
        at += 1;
        at > cut || message.role == Role::System
    });
    before - messages.len()
}

/// Whether anything can be left out.
pub(super) fn has_turns(messages: &[Message]) -> bool {
    turns(messages).len() > 1
}

/// Where turns begin.
fn turns(messages: &[Message]) -> Vec<usize> {
    let asked = |at: &usize| {
        let before = at.checked_sub(1).map(|before| messages[before].role);
        messages[*at].role == Role::User && before != Some(Role::User)
    };
    (0..messages.len()).filter(asked).collect()
}

/// Bytes of a message, with some for its marks.
fn weight(message: &Message) -> usize {
    let calls = message.calls.iter();
    let calls: usize = calls
        .map(|call| call.name.len() + call.arguments.len())
        .sum();
    message.content.len() + calls + 16
}

impl App {
    /// Writes a conversation as [`Self::put_in_words`] does, without its oldest turns where it is too long and the
    /// request agrees; returns how many messages were left out. Engines that write conversations themselves say
    /// afterwards that one is too long.
    pub(super) async fn put_in_words_that_fit(
        &self,
        request: &mut ChatRequest,
        lease: &Arc<Lease>,
    ) -> Result<(Option<Reader>, usize), AppError> {
        let mut messages = match &request.input {
            Input::Messages(messages)
                if request.overflow == Overflow::LeaveOut && lease.facts().template.is_some() =>
            {
                messages.clone()
            }
            _ => return Ok((self.put_in_words(request, lease)?, 0)),
        };
        let context = lease.facts().context_length;
        let limit = room(context, request.limits.tokens_max);
        let mut left_out = 0;
        loop {
            let reader = self.put_in_words(request, lease)?;
            // A token has a byte at least.
            if input_bytes(&request.input) <= limit {
                return Ok((reader, left_out));
            }
            let tokens = match count_words(request.input.clone(), lease).await {
                Err(AppError::Engine(EngineError::Unsupported(Task::Count))) => {
                    return Ok((reader, left_out));
                }
                counted => counted?,
            };
            if tokens <= limit {
                return Ok((reader, left_out));
            }
            match leave_out(&mut messages, tokens, limit, context) {
                0 => return Ok((reader, left_out)),
                gone => left_out += gone,
            }
            request.input = Input::Messages(messages.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(turns: usize) -> Vec<Message> {
        let mut messages = vec![Message::new(Role::System, "brief")];
        for turn in 0..turns {
            messages.push(Message::new(Role::User, format!("{turn:<84}")));
            messages.push(Message::new(Role::Assistant, format!("{turn:<84}")));
        }
        messages.push(Message::new(Role::User, "and now?"));
        messages
    }

    fn first(messages: &[Message]) -> &str {
        messages[1].content.trim()
    }

    #[test]
    fn whole_turns_go_and_instructions_stay() {
        let mut messages = chat(10);
        // Two bytes a token and two hundred a turn: a step of 100 tokens is a turn and a little more.
        let gone = leave_out(&mut messages, 1000, 999, 400);
        assert_eq!(gone % 2, 0);
        assert_eq!(messages[0].role, Role::System);
        assert_eq!((gone, first(&messages)), (4, "2"));
        assert_eq!(messages.last().unwrap().content, "and now?");
    }

    #[test]
    fn the_cut_stays_while_a_conversation_grows() {
        let cut = |turns: usize| {
            let mut messages = chat(turns);
            let tokens = messages.iter().map(weight).sum();
            leave_out(&mut messages, tokens, 2000, 2400);
            first(&messages).to_owned()
        };
        assert_eq!(cut(10), "3");
        assert_eq!((cut(11), cut(12)), ("3".into(), "3".into()));
        assert_eq!(cut(13), "6");
    }

    #[test]
    fn the_last_turn_is_never_left_out() {
        let mut messages = chat(3);
        assert_eq!(leave_out(&mut messages, 1_000_000, 10, 20), 6);
        assert_eq!(messages.len(), 2);
        assert_eq!(leave_out(&mut messages, 1_000_000, 10, 20), 0);
        let whole = chat(3);
        let kept: Vec<_> = kept(&whole)
            .map(|message| message.content.as_str())
            .collect();
        assert_eq!(kept, ["brief", "and now?"]);
    }

    #[test]
    fn an_answer_finds_room() {
        assert_eq!(room(8192, None), 8192 - 513);
        assert_eq!(room(8192, Some(100)), 8192 - 101);
        assert_eq!(room(1000, Some(100_000)), 749);
    }
}
