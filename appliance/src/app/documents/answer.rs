//! Answers from documents: what is found is put before the question, and cited.

use super::{App, AppError, LibraryError, Mode, SearchRequest};
use crate::domain::{ChatRequest, Citation, Input, Message, Role, Shelf};
use crate::rag::prompt::with_passages;
use crate::rag::query::telling;

/// Passages looked at for one answer; the budget decides how many are read.
const LOOKED_AT: usize = 8;

/// A question of fewer telling words leans on the one before it ("and on Debian?").
const WORDS_ALONE: usize = 3;

impl App {
    /// Puts what the documents hold before the last question; returns what was put there.
    ///
    /// # Errors
    /// The request is no conversation, or as [`App::search`].
    pub(in super::super) async fn put_passages(
        &self,
        request: &mut ChatRequest,
        shelf: Shelf,
        context_length: usize,
    ) -> Result<Vec<Citation>, AppError> {
        let Input::Messages(messages) = &mut request.input else {
            return Err(LibraryError::NoMessages.into());
        };
        let last = messages
            .iter()
            .rposition(|message| message.role == Role::User);
        let Some(last) = last.filter(|&at| !telling(&messages[at].content).is_empty()) else {
            return Ok(Vec::new());
        };
        let query = question(messages, last);
        let search = SearchRequest {
            shelf,
            query,
            wanted: LOOKED_AT,
            mode: Mode::Hybrid,
        };
        let found = self.search(search).await?.passages;
        // The conversation and the answer need room too.
        let budget = self
            .inner
            .config
            .documents
            .context_tokens
            .min(context_length / 2);
        let (cited, texts) = self.read_out(found, budget).await?;
        let message = &mut messages[last];
        message.content = with_passages(&message.content, &cited, &texts);
        let mut documents: Vec<String> = cited.iter().map(|one| one.document.clone()).collect();
        documents.dedup();
        self.inner.store.documents().cited(documents).await?;
        Ok(cited)
    }

    /// As many passages as fit the budget, best first, then widened by their neighbours as far as room is left.
    async fn read_out(
        &self,
        found: Vec<Citation>,
        budget: usize,
    ) -> Result<(Vec<Citation>, Vec<String>), AppError> {
        let (_, count) = self.measure().await;
        let mut left = budget;
        let mut cited = Vec::new();
        for one in found {
            let needs = count(&one.text) + count(&one.headings.join(" ")) + count(&one.name);
            if needs > left {
                continue;
            }
            left -= needs;
            cited.push(Citation {
                number: cited.len() as u32 + 1,
                ..one
            });
        }
        // What counts tokens stays on this side of the waits below.
        let mut texts: Vec<String> = cited.iter().map(|one| one.text.clone()).collect();
        for (one, text) in cited.iter().zip(&mut texts) {
            let taken = |number: u32| {
                cited
                    .iter()
                    .any(|other| other.document == one.document && other.passage == number)
            };
            for (before, number) in [
                (true, one.passage.checked_sub(1)),
                (false, one.passage.checked_add(1)),
            ] {
                let Some(number) = number.filter(|&number| !taken(number)) else {
                    continue;
                };
                let Some(piece) = self.beside(one, number, before).await? else {
                    continue;
                };
                let needs = count(&piece);
                if needs <= left {
                    left -= needs;
                    *text = if before {
                        format!("{piece}\n{text}")
                    } else {
                        format!("{text}\n{piece}")
                    };
                }
            }
        }
        Ok((cited, texts))
    }

    /// The part of a neighbouring passage of the same section that the passage does not hold itself.
    async fn beside(
        &self,
        one: &Citation,
        number: u32,
        before: bool,
    ) -> Result<Option<String>, AppError> {
        let beside = self
            .inner
            .store
            .passages()
            .numbered(&one.document, number)
            .await?;
        let Some(beside) = beside.filter(|beside| beside.headings == one.headings) else {
            return Ok(None);
        };
        let length = beside.end.saturating_sub(beside.start);
        let piece: String = if before {
            beside
                .text
                .chars()
                .take(length.min(one.start.saturating_sub(beside.start)))
                .collect()
        } else {
            beside
                .text
                .chars()
                .skip(one.end.saturating_sub(beside.start))
                .collect()
        };
        Ok((!piece.trim().is_empty()).then_some(piece))
    }
}

/// What to look for: the last question, with the one before it where it is too short to stand alone.
fn question(messages: &[Message], last: usize) -> String {
    let asked = &messages[last].content;
    let words = telling(asked).len();
    let before = messages[..last]
        .iter()
        .rfind(|message| message.role == Role::User);
    match before {
        Some(before) if words < WORDS_ALONE => format!("{} {asked}", before.content),
        _ => asked.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_question_leans_on_the_one_before() {
        let messages = [
            Message::new(Role::User, "How is a printer set up?"),
            Message::new(Role::Assistant, "With CUPS."),
            Message::new(Role::User, "And on Debian?"),
        ];
        assert_eq!(
            question(&messages, 2),
            "How is a printer set up? And on Debian?"
        );
        assert_eq!(question(&messages, 0), "How is a printer set up?");
    }
}
