//! Search: by words and by meaning, fused, without twins.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{App, AppError, LibraryError};
use crate::domain::{Citation, Shelf};
use crate::engines::Task;
use crate::rag::chunk::prefix;
use crate::rag::query::{any_of, heading, telling};
use crate::rag::rank::{FUSION_K, Ranked, diversify, fuse};

/// Passages that each list brings to the fusion.
const LIST: usize = 100;

/// Passages that the rough scan brings to the exact score.
const ROUGH: usize = 2 * LIST;

/// Most passages that one search returns.
pub const FOUND_MAX: usize = 100;

/// How much rank weighs against novelty: twins (a page and its printed copy) make way, neighbours stay.
const RELEVANCE: f32 = 0.9;

/// Ranked passages that are looked at for twins, for each that is wanted.
const CANDIDATES: usize = 3;

/// Passages that are ranked by their words where meaning is asked too: ranking one costs about a microsecond, and what
/// is in more passages than that says little. Of a library of 100,000 that is its rarest 8 %; cut to so much, the
/// questions for tuning lose 0.003 of nDCG@10.
const POSTINGS_MAX: usize = 8000;

/// Fused passages that a reranker reads: the order behind them is rarely looked at, and each costs a forward pass.
const RERANKED: usize = 30;

/// A passage that shares no word with the question and points no nearer than this has nothing to do with it: of
/// MiniLM's vectors, those of unrelated sentences.
const UNRELATED: f32 = 0.2;

/// What a place among the meanings counts for, beside one among the words: people ask in words of their own
/// (`benches/documents`: nDCG@10 0.723 at 1, 0.732 at 1.5).
const MEANING: f32 = 1.5;

/// What a place among the passages counts for whose heading is the query itself: somebody who types a heading wants
/// its section (`benches/documents`, 60 headings for tuning: nDCG@10 0.933 at 0, 0.991 at 1, 0.975 at 1.5).
const HEADING: f32 = 1.0;

/// The fused score that counts as 1: first among the words and among the meanings.
const SCORE_BEST: f32 = (1.0 + MEANING) / (FUSION_K + 1.0);

/// By what passages are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// By words and by meaning.
    #[default]
    Hybrid,
    /// By words alone.
    Words,
    /// By meaning alone.
    Vectors,
}

impl Mode {
    /// The name in requests and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Hybrid => "hybrid",
            Mode::Words => "words",
            Mode::Vectors => "vectors",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<Mode> {
        [Mode::Hybrid, Mode::Words, Mode::Vectors]
            .into_iter()
            .find(|mode| mode.as_str() == text)
    }
}

/// What to look for, and where.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    /// Whose documents, and which of them.
    pub shelf: Shelf,
    /// A question or words.
    pub query: String,
    /// Passages wanted.
    pub wanted: usize,
    /// By what.
    pub mode: Mode,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct SearchResult {
    /// Best first, numbered from 1.
    pub passages: Vec<Citation>,
    /// Turning the query into a vector.
    pub embedding: Duration,
    /// Everything else.
    pub searching: Duration,
}

impl App {
    /// Finds passages.
    ///
    /// # Errors
    /// The query has no word, a collection does not exist, or there is no embedder.
    pub async fn search(&self, request: SearchRequest) -> Result<SearchResult, AppError> {
        let words = telling(&request.query);
        if words.is_empty() {
            return Err(LibraryError::NoWords.into());
        }
        let begun = Instant::now();
        let vector = match request.mode {
            Mode::Words => None,
            _ => {
                let embedder = self.serving().await?;
                self.vectors(&embedder, vec![request.query.clone()])
                    .await?
                    .pop()
            }
        };
        let embedding = begun.elapsed();
        let begun = Instant::now();
        let passages = self.ranked(&request, words, vector).await?;
        Ok(SearchResult {
            passages,
            embedding,
            searching: begun.elapsed(),
        })
    }

    async fn ranked(
        &self,
        request: &SearchRequest,
        words: Vec<String>,
        vector: Option<Vec<f32>>,
    ) -> Result<Vec<Citation>, AppError> {
        let passages = self.inner.store.passages();
        let allowed = passages
            .allowed(&request.shelf.person, &request.shelf.only)
            .await?;
        let by_words = async {
            match request.mode {
                Mode::Vectors => Ok(Vec::new()),
                Mode::Words => {
                    passages
                        .by_words(any_of(&words), allowed.clone(), LIST)
                        .await
                }
                Mode::Hybrid => {
                    let rare = passages.rarest(words, POSTINGS_MAX).await?;
                    passages
                        .by_words(any_of(&rare), allowed.clone(), LIST)
                        .await
                }
            }
        };
        let by_heading = async {
            match heading(&request.query).filter(|_| request.mode == Mode::Hybrid) {
                None => Ok(Vec::new()),
                Some(heading) => passages.by_words(heading, allowed.clone(), LIST).await,
            }
        };
        let by_meaning = async {
            match vector {
                None => Ok(Vec::new()),
                Some(vector) => self.nearest(vector, allowed.clone()).await,
            }
        };
        let (by_words, by_heading, by_meaning) = tokio::join!(by_words, by_heading, by_meaning);
        let (by_words, by_heading, mut by_meaning) = (by_words?, by_heading?, by_meaning?);
        if request.mode == Mode::Hybrid {
            by_meaning.retain(|(id, nearness)| *nearness >= UNRELATED || by_words.contains(id));
        }
        let nearest: Vec<i64> = by_meaning.iter().map(|(id, _)| *id).collect();
        let fused = fuse(&[
            (&nearest, MEANING),
            (&by_words, 1.0),
            (&by_heading, HEADING),
        ]);
        let fused = match self.inner.config.documents.reranker.as_str() {
            model if !model.is_empty() && request.mode == Mode::Hybrid => {
                self.reranked(model, &request.query, fused).await?
            }
            _ => fused,
        };
        let chosen = self
            .without_twins(fused, request.wanted.min(FOUND_MAX))
            .await?;
        let scores: HashMap<i64, f32> = chosen
            .iter()
            .map(|ranked| (ranked.passage, ranked.score))
            .collect();
        let found = passages
            .found(chosen.into_iter().map(|ranked| ranked.passage).collect())
            .await?;
        let cite = |(at, one): (usize, crate::store::Found)| Citation {
            number: u32::try_from(at + 1).unwrap_or(u32::MAX),
            score: scores
                .get(&one.id)
                .map_or(0.0, |score| (score / SCORE_BEST).min(1.0)),
            document: one.document,
            name: one.name,
            passage: one.number,
            page: one.page,
            headings: one.headings,
            start: one.start,
            end: one.end,
            text: one.text,
        };
        Ok(found.into_iter().enumerate().map(cite).collect())
    }

    /// The passages that mean most nearly the same, each with its cosine.
    async fn nearest(
        &self,
        vector: Vec<f32>,
        allowed: Option<Vec<i64>>,
    ) -> Result<Vec<(i64, f32)>, AppError> {
        let (app, query) = (self.clone(), vector.clone());
        let scan = tokio::task::spawn_blocking(move || {
            app.inner
                .library
                .index
                .nearest(&query, allowed.as_deref(), ROUGH, &app.inner.threads)
        });
        let rough = scan
            .await
            .map_err(|panic| LibraryError::Broken(panic.to_string()))?;
        let exact = self.inner.store.passages().vectors_of(rough).await?;
        let mut scored: Vec<(i64, f32)> = exact
            .iter()
            .map(|(id, other)| (*id, cosine(&vector, other)))
            .collect();
        scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        scored.truncate(LIST);
        Ok(scored)
    }

    /// The first of `fused` in the order of a model that reads question and passage together; the others behind them.
    async fn reranked(
        &self,
        model: &str,
        query: &str,
        mut fused: Vec<Ranked>,
    ) -> Result<Vec<Ranked>, AppError> {
        let rest = fused.split_off(fused.len().min(RERANKED));
        let ids = fused.iter().map(|ranked| ranked.passage).collect();
        let found = self.inner.store.passages().found(ids).await?;
        let texts = found
            .iter()
            .map(|one| format!("{}{}", prefix(&one.headings), one.text))
            .collect();
        let failed = |error: &dyn std::fmt::Display| LibraryError::Reranker(error.to_string());
        let (_, lease) = self
            .load_for(model, Task::Rank)
            .await
            .map_err(|error| failed(&error))?;
        let scores = lease.rank(query.to_owned(), texts).await;
        let scores = scores.map_err(|error| failed(&error))?;
        let judged = found.iter().map(|one| one.id).zip(scores).collect();
        Ok(rejudged(judged, rest))
    }

    async fn without_twins(
        &self,
        fused: Vec<Ranked>,
        wanted: usize,
    ) -> Result<Vec<Ranked>, AppError> {
        let near = &fused[..fused.len().min(wanted * CANDIDATES)];
        let ids = near.iter().map(|ranked| ranked.passage).collect();
        let vectors = Arc::new(self.inner.store.passages().vectors_of(ids).await?);
        Ok(diversify(near, wanted, RELEVANCE, |a, b| {
            match (vectors.get(&a), vectors.get(&b)) {
                (Some(a), Some(b)) => cosine(a, b).max(0.0),
                _ => 0.0,
            }
        }))
    }
}

/// Judged passages, best first, and behind them those that nobody judged, in their own order.
fn rejudged(mut judged: Vec<(i64, f32)>, rest: Vec<Ranked>) -> Vec<Ranked> {
    judged.sort_by(|a, b| b.1.total_cmp(&a.1));
    // Models answer with likelihoods or with their logarithms; both become a share of the best score.
    let share = |score: f32| SCORE_BEST / (1.0 + (-score).exp());
    let mut ranked: Vec<Ranked> = judged
        .into_iter()
        .map(|(passage, score)| Ranked {
            passage,
            score: share(score),
        })
        .collect();
    let (least, first) = (
        ranked.last().map_or(SCORE_BEST, |last| last.score),
        rest.first().map_or(1.0, |first| first.score),
    );
    ranked.extend(rest.into_iter().map(|one| Ranked {
        score: one.score / first * least,
        ..one
    }));
    ranked
}

/// Of vectors of length one.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_back() {
        for mode in [Mode::Hybrid, Mode::Words, Mode::Vectors] {
            assert_eq!(Mode::parse(mode.as_str()), Some(mode));
        }
        assert_eq!(Mode::parse("magic"), None);
    }

    #[test]
    fn what_was_judged_stands_before_what_was_not() {
        let rest = vec![
            Ranked {
                passage: 7,
                score: 0.1,
            },
            Ranked {
                passage: 8,
                score: 0.05,
            },
        ];
        let ranked = rejudged(vec![(1, -3.0), (2, 4.0), (3, 0.0)], rest);
        let order: Vec<i64> = ranked.iter().map(|one| one.passage).collect();
        assert_eq!(order, [2, 3, 1, 7, 8]);
        assert!(ranked.is_sorted_by(|a, b| a.score >= b.score));
    }
}
