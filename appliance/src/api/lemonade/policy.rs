//! Routing policies of version 1, as their authors write them, read into the domain's rules.

use serde_json::{Map, Value, json};

use crate::app::check_regex;
use crate::domain::policy::{Classifier, Condition, Judgement, MetadataTest, Policy, Rule};

/// Conditions inside conditions.
const DEPTH_MAX: usize = 32;

/// Reads a policy document.
///
/// # Errors
/// What is wrong with it, as a sentence's end.
pub(super) fn read(document: &Value) -> Result<Policy, String> {
    let version = document["version"].as_str();
    if version.is_some_and(|version| version != "1") {
        return Err(format!(
            "its version is {version:?}; this server reads \"1\""
        ));
    }
    let components = texts(&document["components"], "components")?;
    let routing = normalised(&document["routing"])?;
    let candidates = texts(&routing["candidates"], "routing.candidates")?;
    if candidates.is_empty() {
        return Err("routing.candidates is empty".to_owned());
    }
    let member = |name: &str, list: &[String], of: &str| match list.iter().any(|one| one == name) {
        true => Ok(()),
        false => Err(format!("`{name}` is not among {of}")),
    };
    for name in &candidates {
        member(name, &components, "components")?;
    }
    let default_model = text(&routing["default_model"], "routing.default_model")?;
    member(&default_model, &candidates, "routing.candidates")?;
    let mut classifiers = Vec::new();
    for value in list(&routing["classifiers"], "routing.classifiers")? {
        let classifier = classifier(value)?;
        member(&classifier.model, &components, "components")?;
        classifiers.push(classifier);
    }
    let mut rules = Vec::new();
    for value in list(&routing["rules"], "routing.rules")? {
        let rule = Rule {
            id: text(&value["id"], "a rule's id")?,
            when: condition(&value["match"], &classifiers, 0)?,
            route_to: text(&value["route_to"], "a rule's route_to")?,
            outputs: match &value["outputs"] {
                Value::Null => "{}".to_owned(),
                outputs @ Value::Object(_) => outputs.to_string(),
                _ => return Err("a rule's outputs is no object".to_owned()),
            },
        };
        member(&rule.route_to, &candidates, "routing.candidates")?;
        rules.push(rule);
    }
    Ok(Policy {
        candidates,
        default_model,
        classifiers,
        rules,
    })
}

/// The routing block with the short form `router` spelled out: a classifier and one rule for each candidate.
pub(super) fn normalised(routing: &Value) -> Result<Value, String> {
    let Value::Object(block) = routing else {
        return Err("routing is missing".to_owned());
    };
    let Some(router) = block.get("router") else {
        return match block.get("rules") {
            Some(_) => Ok(routing.clone()),
            None => Err("routing has neither rules nor router".to_owned()),
        };
    };
    if block.contains_key("rules") || block.contains_key("classifiers") {
        return Err("routing.router stands in place of rules and classifiers".to_owned());
    }
    if router["type"] != "llm" {
        return Err("routing.router.type must be \"llm\"".to_owned());
    }
    let candidates = texts(&routing["candidates"], "routing.candidates")?;
    let rules: Vec<Value> = candidates
        .iter()
        .enumerate()
        .map(|(i, name)| {
            json!({
                "id": format!("__route_{i}"),
                "match": { "classifier": "__router", "label": name, "min_score": 1.0 },
                "route_to": name,
            })
        })
        .collect();
    let mut block: Map<String, Value> = block.clone();
    let router = block.remove("router").unwrap_or_default();
    let classifier = json!({
        "id": "__router",
        "type": "llm",
        "model": router["model"],
        "prompt": router["prompt"],
        "labels": candidates,
    });
    block.insert("classifiers".to_owned(), json!([classifier]));
    block.insert("rules".to_owned(), rules.into());
    Ok(Value::Object(block))
}

fn text(value: &Value, what: &str) -> Result<String, String> {
    match value.as_str().filter(|text| !text.is_empty()) {
        Some(text) => Ok(text.to_owned()),
        None => Err(format!("{what} must be a text")),
    }
}

fn list<'a>(value: &'a Value, what: &str) -> Result<&'a [Value], String> {
    match value {
        Value::Null => Ok(&[]),
        Value::Array(items) => Ok(items),
        _ => Err(format!("{what} must be a list")),
    }
}

fn texts(value: &Value, what: &str) -> Result<Vec<String>, String> {
    let items = list(value, what)?.iter();
    items.map(|item| text(item, what)).collect()
}

fn classifier(value: &Value) -> Result<Classifier, String> {
    let id = text(&value["id"], "a classifier's id")?;
    let what = format!("the classifier `{id}`");
    let mut labels = texts(&value["labels"], &what)?;
    let by = match value["type"].as_str() {
        Some("semantic_similarity") => {
            let phrases = value["reference_phrases"].as_object();
            let phrases = phrases.ok_or_else(|| format!("{what} has no reference_phrases"))?;
            let read = phrases
                .iter()
                .map(|(label, list)| Ok((label.clone(), texts(list, &what)?)));
            let phrases: Vec<(String, Vec<String>)> = read.collect::<Result<_, String>>()?;
            labels = phrases.iter().map(|(label, _)| label.clone()).collect();
            Judgement::Likeness(phrases)
        }
        Some("classifier" | "llm") => {
            let asked = value["prompt"]
                .as_str()
                .unwrap_or("Say which label fits the request.");
            Judgement::Words(asked.to_owned())
        }
        other => {
            return Err(format!(
                "{what} has the type {other:?}, which does not exist"
            ));
        }
    };
    if labels.is_empty() {
        return Err(format!("{what} has no labels"));
    }
    let match_on_error = match value["on_error"].as_str() {
        None | Some("match_false") => false,
        Some("match_true") => true,
        Some(other) => {
            return Err(format!(
                "{what} has `{other}` for on_error, which does not exist"
            ));
        }
    };
    Ok(Classifier {
        model: text(&value["model"], &format!("{what}'s model"))?,
        default_label: value["default_label"].as_str().map(str::to_owned),
        id,
        by,
        labels,
        match_on_error,
    })
}

/// Several keys in one object are all to hold.
fn condition(value: &Value, known: &[Classifier], depth: usize) -> Result<Condition, String> {
    let object = value.as_object().filter(|object| !object.is_empty());
    let object = object.ok_or("a match must be an object with a condition")?;
    if depth > DEPTH_MAX {
        return Err(format!("conditions are more than {DEPTH_MAX} deep"));
    }
    let mut all = Vec::new();
    for (name, value) in object {
        let several = || -> Result<Vec<Condition>, String> {
            let items = list(value, name)?.iter();
            items
                .map(|item| condition(item, known, depth + 1))
                .collect()
        };
        let size = || value.as_u64().and_then(|n| usize::try_from(n).ok());
        let size = || size().ok_or_else(|| format!("{name} must be a whole number"));
        let yes = || {
            value
                .as_bool()
                .ok_or_else(|| format!("{name} must be true or false"))
        };
        all.push(match name.as_str() {
            "any" => Condition::Any(several()?),
            "all" => Condition::All(several()?),
            "not" => Condition::Not(Box::new(condition(value, known, depth + 1)?)),
            "keywords_any" => Condition::KeywordsAny(texts(value, name)?),
            "keywords_all" => Condition::KeywordsAll(texts(value, name)?),
            "regex" => {
                let source = text(value, name)?;
                check_regex(&source)
                    .map_err(|why| format!("the regex `{source}` cannot be read: {why}"))?;
                Condition::Regex(source)
            }
            "min_chars" => Condition::MinChars(size()?),
            "max_chars" => Condition::MaxChars(size()?),
            "has_tools" => Condition::HasTools(yes()?),
            "has_images" => Condition::HasImages(yes()?),
            "metadata" => metadata(value)?,
            "classifier" => band(object, known)?,
            // They belong to `classifier`.
            "label" | "min_score" | "max_score" if object.contains_key("classifier") => continue,
            other => return Err(format!("there is no condition `{other}`")),
        });
    }
    Ok(match all.len() {
        1 => all.remove(0),
        _ => Condition::All(all),
    })
}

fn metadata(value: &Value) -> Result<Condition, String> {
    let key = text(&value["key"], "a metadata condition's key")?;
    let test = match (&value["equals"], &value["any"], &value["exists"]) {
        (Value::String(text), Value::Null, Value::Null) => MetadataTest::Equals(text.clone()),
        (Value::Null, any @ Value::Array(_), Value::Null) => MetadataTest::Any(texts(any, "any")?),
        (Value::Null, Value::Null, Value::Bool(yes)) => MetadataTest::Exists(*yes),
        _ => {
            return Err(format!(
                "the metadata condition on `{key}` needs one of equals, any, exists"
            ));
        }
    };
    Ok(Condition::Metadata { key, test })
}

fn band(object: &Map<String, Value>, known: &[Classifier]) -> Result<Condition, String> {
    let id = text(&object["classifier"], "classifier")?;
    let Some(classifier) = known.iter().find(|one| one.id == id) else {
        return Err(format!("there is no classifier `{id}`"));
    };
    let label = object
        .get("label")
        .and_then(Value::as_str)
        .map(str::to_owned);
    if let Some(label) = label
        .as_ref()
        .filter(|label| !classifier.labels.contains(label))
    {
        return Err(format!("the classifier `{id}` has no label `{label}`"));
    }
    let score = |name: &str| object.get(name).and_then(Value::as_f64);
    let (min, max) = (score("min_score"), score("max_score"));
    Ok(Condition::Classifier {
        id,
        label,
        min_score: min.unwrap_or(if max.is_some() { 0.0 } else { 0.5 }),
        max_score: max.unwrap_or(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(routing: Value) -> Value {
        json!({
            "version": "1", "recipe": "collection.router", "components": ["a", "b", "e"],
            "routing": routing,
        })
    }

    fn rules(rules: Value) -> Result<Policy, String> {
        read(&document(json!({
            "candidates": ["a", "b"], "default_model": "a", "rules": rules,
            "classifiers": [
                {"id": "topic", "type": "semantic_similarity", "model": "e", "reference_phrases": {"code": ["fix it"]}},
                {"id": "risk", "type": "llm", "model": "a", "prompt": "?", "labels": ["SAFE", "RISKY"]},
            ],
        })))
    }

    #[test]
    fn conditions_are_read() {
        let policy = rules(json!([
            {"id": "1", "match": {"keywords_any": ["x"], "min_chars": 3}, "route_to": "b", "outputs": {"why": 1}},
            {"id": "2", "match": {"not": {"any": [{"has_tools": true}, {"regex": "^a"}]}}, "route_to": "b"},
            {"id": "3", "match": {"metadata": {"key": "k", "any": ["v"]}}, "route_to": "a"},
            {"id": "4", "match": {"classifier": "risk", "label": "RISKY", "max_score": 0.2}, "route_to": "a"},
            {"id": "5", "match": {"classifier": "topic", "min_score": 0.6}, "route_to": "b"},
        ]))
        .unwrap();
        assert_eq!(policy.rules[0].outputs, r#"{"why":1}"#);
        assert!(matches!(&policy.rules[0].when, Condition::All(all) if all.len() == 2));
        let band = Condition::Classifier {
            id: "risk".into(),
            label: Some("RISKY".into()),
            min_score: 0.0,
            max_score: 0.2,
        };
        assert_eq!(policy.rules[3].when, band);
    }

    #[test]
    fn what_does_not_hold_together_is_named() {
        for (match_, route_to, word) in [
            (json!({"keywords": ["x"]}), "b", "keywords"),
            (json!({}), "b", "match"),
            (json!({"regex": "("}), "b", "regex"),
            (json!({"min_chars": -1}), "b", "min_chars"),
            (json!({"classifier": "none"}), "b", "none"),
            (
                json!({"classifier": "risk", "label": "MAYBE"}),
                "b",
                "MAYBE",
            ),
            (json!({"metadata": {"key": "k"}}), "b", "equals"),
            (json!({"min_chars": 1}), "c", "`c`"),
        ] {
            let error =
                rules(json!([{"id": "1", "match": match_, "route_to": route_to}])).unwrap_err();
            assert!(error.contains(word), "{match_}: {error}");
        }
        let mut deep = json!({"min_chars": 1});
        for _ in 0..40 {
            deep = json!({ "not": deep });
        }
        let deep = json!([{"id": "1", "match": deep, "route_to": "b"}]);
        assert!(rules(deep).unwrap_err().contains("deep"));
        let stranger = document(json!({"candidates": ["z"], "default_model": "z", "rules": []}));
        assert!(read(&stranger).unwrap_err().contains("`z`"));
    }

    #[test]
    fn the_short_form_is_spelled_out() {
        let routing = json!({
            "candidates": ["a", "b"], "default_model": "a",
            "router": {"type": "llm", "model": "a", "prompt": "Pick."},
        });
        let long = normalised(&routing).unwrap();
        assert!(long.get("router").is_none());
        assert_eq!(long["classifiers"][0]["labels"], json!(["a", "b"]));
        assert_eq!(long["rules"][1]["id"], "__route_1");
        assert_eq!(read(&document(routing)).unwrap().rules.len(), 2);
    }
}
