//! `POST /v1/moderations`: there is no model for it, which is said by name.

use super::OpenAi;
use crate::error::{Failing, Kind};

use super::super::failure::Failure;

/// Why nothing is moderated.
#[derive(Debug, thiserror::Error)]
#[error("this appliance has no moderation model; ask a chat model to judge the text")]
struct NoModerations;

impl Failing for NoModerations {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }

    fn code(&self) -> Option<&'static str> {
        Some("unsupported_route")
    }
}

pub(in super::super) async fn refuse() -> Failure<OpenAi> {
    NoModerations.into()
}
