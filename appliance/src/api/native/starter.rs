//! The models that this machine is worth having, and how far they are.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::body::{Body, Wire};
use super::super::failure::{Failure, json as answer};
use super::super::openai::OpenAi;
use crate::app::{App, PartState, Starter, StarterPart, StarterState, role_name};

/// The set.
#[derive(Serialize, JsonSchema)]
pub(super) struct StarterView {
    state: StateView,
    /// Why it is off or stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    parts: Vec<PartView>,
}

/// How the whole set stands.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum StateView {
    /// The settings say so, or nothing may leave this machine.
    Off,
    Offered,
    Dismissed,
    Fetching,
    /// The hub could not be reached, or a part failed.
    Stopped,
    Complete,
}

/// One model of the set.
#[derive(Serialize, JsonSchema)]
struct PartView {
    /// What it does.
    role: &'static str,
    model: &'static str,
    repository: &'static str,
    licence: &'static str,
    good_for: &'static str,
    state: PartStateView,
    /// The model that does it already, what is missing, or what failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    done_bytes: u64,
    /// 0 until the hub has told it.
    total_bytes: u64,
}

/// How one part stands.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum PartStateView {
    Here,
    Missing,
    Coming,
    Failed,
    /// Its engine is not here.
    Blocked,
}

impl From<&StarterPart> for PartView {
    fn from(part: &StarterPart) -> PartView {
        PartView {
            role: role_name(part.model.role),
            model: part.model.name,
            repository: part.model.repository,
            licence: part.model.licence,
            good_for: part.model.good_for,
            state: match part.state {
                PartState::Here => PartStateView::Here,
                PartState::Missing => PartStateView::Missing,
                PartState::Coming => PartStateView::Coming,
                PartState::Failed => PartStateView::Failed,
                PartState::Blocked => PartStateView::Blocked,
            },
            note: part.note.clone(),
            done_bytes: part.done_bytes,
            total_bytes: part.total_bytes,
        }
    }
}

impl From<&Starter> for StarterView {
    fn from(starter: &Starter) -> StarterView {
        StarterView {
            state: match starter.state {
                StarterState::Off => StateView::Off,
                StarterState::Offered => StateView::Offered,
                StarterState::Dismissed => StateView::Dismissed,
                StarterState::Fetching => StateView::Fetching,
                StarterState::Stopped => StateView::Stopped,
                StarterState::Complete => StateView::Complete,
            },
            why: starter.why.clone(),
            parts: starter.parts.iter().map(PartView::from).collect(),
        }
    }
}

/// `GET /onebit/starter`
pub(in super::super) async fn show(State(app): State<App>) -> Result<Response, Failure<OpenAi>> {
    let starter = app.starter().await?;
    Ok(answer(StatusCode::OK, &StarterView::from(&starter)))
}

/// What becomes of the set.
#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct DecideBody {
    action: Action,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Action {
    /// Fetch what is missing, in the background.
    Fetch,
    /// Do not offer it again.
    Dismiss,
}

impl Wire for DecideBody {
    type Dialect = OpenAi;
}

/// `POST /onebit/starter`
pub(in super::super) async fn decide(
    State(app): State<App>,
    Body(body): Body<DecideBody>,
) -> Result<Response, Failure<OpenAi>> {
    match body.action {
        Action::Fetch => app.fetch_starter().await?,
        Action::Dismiss => app.dismiss_starter().await?,
    }
    show(State(app)).await
}
