//! Policies decide: rules one after the other, with models asked only where a rule needs one.

use std::collections::HashMap;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use regex::RegexBuilder;
use serde_json::json;

use super::{App, AppError, EmbedInput};
use crate::domain::policy::{
    Asking, Classifier, Condition, Judgement, MetadataTest, Policy, PolicyDecision, Tested,
};
use crate::domain::{
    ChatEvent, ChatRequest, Input, Limits, Message, Overflow, Role, Sampling, Shape,
};

/// Compiled size of one expression: enough for long lists of words.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// Text that a classifier reads: the beginning of a request says what it is about.
const JUDGED_BYTES_MAX: usize = 4000;
/// Tokens of a label.
const LABEL_TOKENS_MAX: usize = 64;

/// Scores that one request's classifiers gave; each is asked once.
type Scores = HashMap<String, Option<HashMap<String, f64>>>;

impl App {
    /// Chooses a model. A classifier that fails counts as its author said, and the rules go on.
    pub async fn decide(&self, policy: &Policy, asking: &Asking) -> PolicyDecision {
        self.count_decision();
        let mut judge = Judge {
            app: self,
            policy,
            asking,
            lower: asking.text.to_lowercase(),
            scores: Scores::new(),
            trace: Vec::new(),
        };
        let mut matched = None;
        for rule in &policy.rules {
            if judge.holds(&rule.when).await {
                matched = Some(rule);
                break;
            }
        }
        PolicyDecision {
            route_to: matched
                .map_or(&policy.default_model, |rule| &rule.route_to)
                .clone(),
            matched_rule: matched.map(|rule| rule.id.clone()),
            outputs: matched.map_or_else(|| "{}".to_owned(), |rule| rule.outputs.clone()),
            trace: judge.trace,
        }
    }
}

/// Whether an expression can be used in a policy.
///
/// # Errors
/// What is wrong with it.
pub fn check_regex(source: &str) -> Result<(), String> {
    regex(source).map(|_| ())
}

fn regex(source: &str) -> Result<regex::Regex, String> {
    let built = RegexBuilder::new(source)
        .size_limit(REGEX_BYTES_MAX)
        .build();
    built.map_err(|error| {
        let text = error.to_string();
        text.lines().next_back().unwrap_or_default().to_owned()
    })
}

struct Judge<'a> {
    app: &'a App,
    policy: &'a Policy,
    asking: &'a Asking,
    lower: String,
    scores: Scores,
    trace: Vec<Tested>,
}

impl Judge<'_> {
    fn holds<'b>(&'b mut self, condition: &'b Condition) -> BoxFuture<'b, bool> {
        Box::pin(async move {
            match condition {
                Condition::All(all) => {
                    for one in all {
                        if !self.holds(one).await {
                            return false;
                        }
                    }
                    true
                }
                Condition::Any(any) => {
                    for one in any {
                        if self.holds(one).await {
                            return true;
                        }
                    }
                    false
                }
                Condition::Not(inner) => !self.holds(inner).await,
                Condition::Classifier {
                    id,
                    label,
                    min_score,
                    max_score,
                } => {
                    self.classified(id, label.as_deref(), *min_score, *max_score)
                        .await
                }
                plain => {
                    let (name, result) = self.plain(plain);
                    self.trace.push(Tested {
                        condition: name.to_owned(),
                        result,
                        score: None,
                        label: None,
                    });
                    result
                }
            }
        })
    }

    /// What needs no model.
    fn plain(&self, condition: &Condition) -> (&'static str, bool) {
        let asking = self.asking;
        let has = |word: &String| self.lower.contains(&word.to_lowercase());
        match condition {
            Condition::KeywordsAny(words) => ("keywords_any", words.iter().any(has)),
            Condition::KeywordsAll(words) => ("keywords_all", words.iter().all(has)),
            Condition::Regex(source) => {
                let found = regex(source).is_ok_and(|regex| regex.is_match(&asking.text));
                ("regex", found)
            }
            Condition::MinChars(least) => ("min_chars", asking.text.len() >= *least),
            Condition::MaxChars(most) => ("max_chars", asking.text.len() <= *most),
            Condition::HasTools(wanted) => ("has_tools", asking.has_tools == *wanted),
            Condition::HasImages(wanted) => ("has_images", asking.has_images == *wanted),
            Condition::Metadata { key, test } => {
                let entry = asking.metadata.iter().find(|(name, _)| name == key);
                let value = entry.map(|(_, value)| value);
                let result = match test {
                    MetadataTest::Equals(wanted) => value == Some(wanted),
                    MetadataTest::Any(wanted) => value.is_some_and(|value| wanted.contains(value)),
                    MetadataTest::Exists(wanted) => value.is_some() == *wanted,
                };
                ("metadata", result)
            }
            Condition::All(_)
            | Condition::Any(_)
            | Condition::Not(_)
            | Condition::Classifier { .. } => ("", false), // not plain: `holds` has taken these
        }
    }

    async fn classified(&mut self, id: &str, label: Option<&str>, min: f64, max: f64) -> bool {
        let policy = self.policy;
        let Some(classifier) = policy.classifiers.iter().find(|one| one.id == id) else {
            return false; // reading a policy has refused this
        };
        if !self.scores.contains_key(id) {
            let text = self.asking.text.as_str();
            let text = &text[..text.floor_char_boundary(JUDGED_BYTES_MAX)];
            let scores = self.app.judge(classifier, text).await;
            if let Err(error) = &scores {
                tracing::warn!(classifier = id, %error, "a policy's classifier failed");
            }
            self.scores.insert(id.to_owned(), scores.ok());
        }
        let label = label.or(classifier.default_label.as_deref());
        let label = label.or(classifier.labels.first().map(String::as_str));
        let label = label.unwrap_or_default();
        let scores = self.scores.get(id).and_then(Option::as_ref);
        let score = scores.map(|scores| scores.get(label).copied().unwrap_or(0.0));
        let result = match score {
            Some(score) => (min..=max).contains(&score),
            None => classifier.match_on_error,
        };
        self.trace.push(Tested {
            condition: format!("classifier:{id}"),
            result,
            score,
            label: Some(label.to_owned()),
        });
        result
    }
}

impl App {
    /// Each label's score for a text, from 0 to 1.
    async fn judge(
        &self,
        classifier: &Classifier,
        text: &str,
    ) -> Result<HashMap<String, f64>, AppError> {
        match &classifier.by {
            Judgement::Likeness(phrases) => self.likeness(&classifier.model, phrases, text).await,
            Judgement::Words(prompt) => self.word(classifier, prompt, text).await,
        }
    }

    /// The likest of each label's phrases.
    async fn likeness(
        &self,
        model: &str,
        phrases: &[(String, Vec<String>)],
        text: &str,
    ) -> Result<HashMap<String, f64>, AppError> {
        let all = phrases.iter().flat_map(|(_, phrases)| phrases.iter());
        let inputs = std::iter::once(text).chain(all.map(String::as_str));
        let inputs = inputs
            .map(|text| EmbedInput::Text(text.to_owned()))
            .collect();
        let made = self.embed(model, inputs, Overflow::LeaveOut).await?;
        let mut vectors = made.vectors.into_iter();
        let asked = vectors.next().unwrap_or_default();
        let mut scores = HashMap::new();
        for (label, phrases) in phrases {
            let best = vectors
                .by_ref()
                .take(phrases.len())
                .map(|vector| cosine(&asked, &vector))
                .fold(0.0, f64::max);
            scores.insert(label.clone(), best);
        }
        Ok(scores)
    }

    /// Lets a model name one label, and nothing else.
    async fn word(
        &self,
        classifier: &Classifier,
        prompt: &str,
        text: &str,
    ) -> Result<HashMap<String, f64>, AppError> {
        let labels = &classifier.labels;
        let task = format!(
            "{prompt}\nAnswer with JSON: {{\"label\": ...}}, where the label is one of {}.\n\nThe request:\n{text}",
            labels.join(", ")
        );
        let schema = json!({
            "type": "object",
            "properties": { "label": { "enum": labels } },
            "required": ["label"],
            "additionalProperties": false,
        });
        let request = ChatRequest {
            sampling: Sampling {
                temperature: Some(0.0),
                ..Sampling::default()
            },
            limits: Limits {
                tokens_max: Some(LABEL_TOKENS_MAX),
                ..Limits::default()
            },
            shape: Shape::Schema(schema.to_string()),
            thinking: Some(false),
            ..ChatRequest::new(
                classifier.model.as_str(),
                Input::Messages(vec![Message::new(Role::User, task)]),
            )
        };
        let mut answer = self.chat(request).await?;
        let mut said = String::new();
        while let Some(event) = answer.next().await {
            if let ChatEvent::Piece(piece) = event? {
                said.push_str(&piece.text);
            }
        }
        let told: Option<serde_json::Value> = serde_json::from_str(&said).ok();
        let label = told.as_ref().and_then(|told| told["label"].as_str());
        let label = label.ok_or_else(|| AppError::NoLabel(classifier.model.clone()))?;
        Ok(HashMap::from([(label.to_owned(), 1.0)]))
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(x, y)| f64::from(*x) * f64::from(*y))
            .sum()
    };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 {
        dot(a, b) / lengths
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likeness_is_of_directions() {
        assert!((cosine(&[1.0, 0.0], &[2.0, 0.0]) - 1.0).abs() < 1e-9);
        assert!(cosine(&[1.0, 0.0], &[0.0, 3.0]).abs() < 1e-9);
        assert_eq!(cosine(&[0.0], &[1.0]), 0.0);
    }

    #[test]
    fn expressions_are_checked_and_bounded() {
        assert!(check_regex(r"\b(def|fn)\b").is_ok());
        assert!(check_regex("(").is_err());
        assert!(check_regex("(a{1000}){1000}").is_err());
    }
}
