//! Where a conversation was answered, so that it goes on there and finds its beginning in the cache.
//!
//! Owns hashes of prompts' beginnings, never their words. Forgets the oldest first.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use crate::domain::{ChatRequest, Input};

/// Beginnings kept in each of two generations; at some 40 bytes each both are a few hundred kilobytes.
const GENERATION: usize = 4096;
/// Text without messages is cut into beginnings of this many bytes.
const TEXT_STEP: usize = 512;
/// Bytes of one token, about.
const TOKEN_BYTES: usize = 4;

/// The beginnings of one prompt: a hash and the bytes it covers, the shortest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Trail {
    /// The conversation.
    session: u64,
    beginnings: Vec<(u64, usize)>,
}

impl Trail {
    /// The trail of a request. `session` names its conversation where the client does.
    pub(super) fn of(request: &ChatRequest, session: Option<&str>) -> Trail {
        let mut hasher = DefaultHasher::new();
        request.model.hash(&mut hasher);
        let mut bytes = 0;
        let mut beginnings = Vec::new();
        match &request.input {
            Input::Messages(messages) => {
                for message in messages {
                    (message.role.as_str(), &message.content).hash(&mut hasher);
                    bytes += message.content.len() + 8;
                    beginnings.push((hasher.finish(), bytes));
                }
            }
            Input::Text { text, .. } => {
                for piece in text.as_bytes().chunks_exact(TEXT_STEP) {
                    piece.hash(&mut hasher);
                    bytes += piece.len();
                    beginnings.push((hasher.finish(), bytes));
                }
            }
            Input::Tokens(tokens) => {
                for piece in tokens.chunks_exact(TEXT_STEP / TOKEN_BYTES) {
                    piece.hash(&mut hasher);
                    bytes += piece.len() * TOKEN_BYTES;
                    beginnings.push((hasher.finish(), bytes));
                }
            }
        }
        // Instructions and the first question tell conversations apart.
        let first = beginnings.iter().take(2).next_back();
        let mut hasher = DefaultHasher::new();
        match session {
            Some(named) => named.hash(&mut hasher),
            None => first.map_or(0, |(hash, _)| *hash).hash(&mut hasher),
        }
        Trail {
            session: hasher.finish(),
            beginnings,
        }
    }
}

/// What was answered where. `lane` and `model` make a place.
#[derive(Default)]
pub(super) struct Affinity(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    young: Generation,
    old: Generation,
}

#[derive(Default)]
struct Generation {
    beginnings: HashMap<(u64, u64), ()>,
    sessions: HashMap<u64, (String, String)>,
}

fn place(lane: &str, model: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (lane, model).hash(&mut hasher);
    hasher.finish()
}

impl Affinity {
    /// A request went to a place.
    pub(super) fn landed(&self, trail: &Trail, lane: &str, model: &str) {
        let place = place(lane, model);
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (hash, _) in &trail.beginnings {
            memory.young.beginnings.insert((place, *hash), ());
        }
        let last = (lane.to_owned(), model.to_owned());
        memory.young.sessions.insert(trail.session, last);
        if memory.young.beginnings.len() > GENERATION || memory.young.sessions.len() > GENERATION {
            memory.old = std::mem::take(&mut memory.young);
        }
    }

    /// Where the conversation was last: (lane, model).
    pub(super) fn last(&self, trail: &Trail) -> Option<(String, String)> {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let find = |generation: &Generation| generation.sessions.get(&trail.session).cloned();
        find(&memory.young).or_else(|| find(&memory.old))
    }

    /// Tokens of the prompt that a place has read before, about.
    pub(super) fn cached_tokens(&self, trail: &Trail, lane: &str, model: &str) -> usize {
        let place = place(lane, model);
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |(hash, _): &&(u64, usize)| {
            let key = (place, *hash);
            memory.young.beginnings.contains_key(&key) || memory.old.beginnings.contains_key(&key)
        };
        let longest = trail.beginnings.iter().rev().find(known);
        longest.map_or(0, |(_, bytes)| bytes / TOKEN_BYTES)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.young.beginnings.len() + memory.old.beginnings.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Message, Role};

    fn talk(messages: &[&str]) -> ChatRequest {
        let messages = messages.iter().map(|m| Message::new(Role::User, *m));
        ChatRequest::new("m", Input::Messages(messages.collect()))
    }

    #[test]
    fn a_conversation_is_known_where_it_was() {
        let affinity = Affinity::default();
        let first = Trail::of(&talk(&["be brief", "hello there"]), None);
        assert_eq!(affinity.last(&first), None);
        affinity.landed(&first, "a", "m");
        let next = Trail::of(&talk(&["be brief", "hello there", "hi", "and then?"]), None);
        assert_eq!(affinity.last(&next), Some(("a".into(), "m".into())));
        assert_eq!(
            affinity.cached_tokens(&next, "a", "m"),
            (8 + 8 + 11 + 8) / 4
        );
        assert_eq!(affinity.cached_tokens(&next, "b", "m"), 0);
        let other = Trail::of(&talk(&["be brief", "something else"]), None);
        assert_eq!(affinity.last(&other), None);
        assert_eq!(
            affinity.cached_tokens(&other, "a", "m"),
            4,
            "the instructions"
        );
        let named = Trail::of(&talk(&["x"]), Some("s"));
        affinity.landed(&named, "b", "m");
        let later = Trail::of(&talk(&["y"]), Some("s"));
        assert_eq!(affinity.last(&later), Some(("b".into(), "m".into())));
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let affinity = Affinity::default();
        for n in 0..GENERATION * 3 {
            let text = n.to_string();
            affinity.landed(&Trail::of(&talk(&[&text]), None), "a", "m");
        }
        assert!(affinity.len() <= 2 * (GENERATION + 1));
    }
}
