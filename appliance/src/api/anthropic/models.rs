//! `GET /v1/models` and `GET /v1/models/{id}` in Anthropic's shape, for clients that send `anthropic-version`.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::body::RequestError;
use super::super::failure::{Failure, json as answer};
use super::Anthropic;
use crate::app::App;
use crate::domain::Model;

/// Anthropic's own numbers.
const PAGE: usize = 20;
const PAGE_MAX: usize = 1000;

/// Which part of the list.
#[derive(Deserialize)]
pub(in super::super) struct Part {
    limit: Option<usize>,
    after_id: Option<String>,
    before_id: Option<String>,
}

fn view(model: &Model) -> Value {
    json!({
        "type": "model",
        "id": model.id,
        "display_name": model.name,
        "created_at": rfc3339(model.imported_at),
        "max_input_tokens": model.context_length,
        "max_tokens": model.context_length,
        "capabilities": null,
        "lifecycle": "active",
        "line": null,
        "deprecated_at": null,
        "retires_at": null,
    })
}

pub(in super::super) async fn list(
    State(app): State<App>,
    query: Result<Query<Part>, QueryRejection>,
) -> Result<Response, Failure<Anthropic>> {
    let Query(part) = query.map_err(|error| RequestError::Malformed(error.body_text()))?;
    let models: Vec<Model> = app.models().await?.into_iter().map(|s| s.model).collect();
    Ok(answer(StatusCode::OK, &page(&models, &part)?))
}

/// One page of the list, after or before a model.
fn page(models: &[Model], part: &Part) -> Result<Value, RequestError> {
    let limit = part.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(RequestError::field(
            "limit",
            format!("must be between 1 and {PAGE_MAX}"),
        ));
    }
    let find = |param: &'static str, id: &str| {
        let at = models.iter().position(|model| model.id == id);
        at.ok_or_else(|| RequestError::field(param, format!("names `{id}`, which is no model")))
    };
    let (data, has_more) = match (&part.after_id, &part.before_id) {
        (None, Some(id)) => {
            let before = &models[..find("before_id", id)?];
            let start = before.len().saturating_sub(limit);
            (&before[start..], start > 0)
        }
        (after, _) => {
            let start = match after {
                Some(id) => find("after_id", id)? + 1,
                None => 0,
            };
            let end = models.len().min(start + limit);
            (&models[start..end], end < models.len())
        }
    };
    let id = |model: Option<&Model>| model.map(|model| model.id.clone());
    Ok(json!({
        "data": data.iter().map(view).collect::<Vec<_>>(),
        "has_more": has_more,
        "first_id": id(data.first()),
        "last_id": id(data.last()),
    }))
}

pub(in super::super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Failure<Anthropic>> {
    Ok(answer(StatusCode::OK, &view(&app.model(&id).await?)))
}

/// Unix milliseconds as RFC 3339 in UTC, to the second.
fn rfc3339(unix_ms: i64) -> String {
    let seconds = unix_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Howard Hinnant's civil-from-days: years begin in March, so that the leap day is the last.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z",
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ModelFormat;

    #[test]
    fn times_are_written_as_in_rfc_3339() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_999, "2000-02-29T00:00:00Z"),
            (1_732_320_061_000, "2024-11-23T00:01:01Z"),
            (4_102_444_799_000, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(unix_ms), text);
        }
    }

    #[test]
    fn pages_go_both_ways() {
        let model = |id: &str| Model {
            id: id.into(),
            name: id.into(),
            format: ModelFormat::Gguf,
            path: "x".into(),
            file_bytes: 1,
            sha256: String::new(),
            architecture: "llama".into(),
            quantisation: "Q4_1".into(),
            context_length: 8,
            kv_bytes_per_position: 1,
            has_template: true,
            imported_at: 0,
        };
        let models = ["a", "b", "c"].map(model);
        let ask = |limit, after: Option<&str>, before: Option<&str>| {
            let part = Part {
                limit,
                after_id: after.map(str::to_owned),
                before_id: before.map(str::to_owned),
            };
            page(&models, &part).map_err(|error| error.to_string())
        };
        let ids = |page: &Value| {
            let data = page["data"].as_array().unwrap();
            data.iter()
                .filter_map(|model| model["id"].as_str().map(str::to_owned))
                .collect::<String>()
        };
        let first = ask(Some(2), None, None).unwrap();
        assert_eq!(
            (ids(&first).as_str(), &first["has_more"]),
            ("ab", &json!(true))
        );
        let next = ask(Some(2), Some("b"), None).unwrap();
        assert_eq!(
            (ids(&next).as_str(), &next["has_more"]),
            ("c", &json!(false))
        );
        assert_eq!(ids(&ask(Some(1), None, Some("c")).unwrap()), "b");
        assert!(ask(Some(0), None, None).unwrap_err().contains("limit"));
        assert!(ask(None, Some("z"), None).unwrap_err().contains("`z`"));
    }
}
