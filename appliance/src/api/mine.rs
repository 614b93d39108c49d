//! Whose rows a request is about: its person, for routes where everything belongs to somebody.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::failure::{Dialect, Failure};
use crate::domain::{Peer, PersonId};
use crate::error::{Failing, Kind};

/// The person who asks; a request without one is refused in the dialect's shape before its handler runs.
pub(super) struct Mine<D> {
    pub(super) person: PersonId,
    dialect: PhantomData<D>,
}

/// Nobody signed in, so nothing is theirs.
#[derive(Debug, thiserror::Error)]
#[error("sign in first")]
struct NobodySignedIn;

impl Failing for NobodySignedIn {
    fn kind(&self) -> Kind {
        Kind::Unauthorized
    }
}

impl<D: Dialect + Send, S: Sync> FromRequestParts<S> for Mine<D> {
    type Rejection = Failure<D>;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Mine<D>, Failure<D>> {
        let peer = parts.extensions.get::<Peer>();
        let person = peer.and_then(|peer| peer.person.clone());
        Ok(Mine {
            person: person.ok_or(NobodySignedIn)?,
            dialect: PhantomData,
        })
    }
}
