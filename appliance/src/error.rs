//! Every way in which a request can fail, as a client may branch on it.
//!
//! Each module has its own error enum with data in the variants, and each of them is a [`Failing`].
//! Statuses and the dialects' error shapes are made from that alone, in `api`.

/// The kinds of failure. Introduce a new one only when a client should act differently on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is wrong and will be wrong again.
    BadRequest,
    /// Who asks is not known.
    Unauthorized,
    /// Who asks is known and may not.
    Forbidden,
    /// The thing named does not exist.
    NotFound,
    /// The thing exists already or is in use.
    Conflict,
    /// We understand and do not do it.
    Unsupported,
    /// The request is larger than a limit of ours.
    TooLarge,
    /// Come back later.
    Overloaded,
    /// The model or its engine cannot run now.
    EngineDown,
    /// Our fault; the log has the reason.
    Internal,
}

/// What an error tells a client beside its text.
pub trait Failing: std::error::Error {
    /// The kind, from which the status follows.
    fn kind(&self) -> Kind;

    /// A stable word for programs, such as `model_not_found`.
    fn code(&self) -> Option<&'static str> {
        None
    }

    /// The field of the request that is to blame.
    fn param(&self) -> Option<&str> {
        None
    }

    /// Seconds after which trying again makes sense.
    fn retry_after_s(&self) -> Option<u32> {
        None
    }
}
