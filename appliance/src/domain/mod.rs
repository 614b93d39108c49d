//! Plain data that every layer shares. No serde, no I/O, no clock: wire formats belong to `api`,
//! rows to `store`, so that neither can leak into the other.

pub mod agent;
pub mod chat;
pub mod credential;
pub mod document;
pub mod id;
pub mod library;
pub mod machine;
pub mod model;
pub mod peer;
pub mod picture;
pub mod policy;
pub mod speech;

pub use agent::{
    Agent, AgentTool, Approval, Danger, Decision, Finding, FoundFile, McpServer, Note, Run,
    RunEvent, RunLimits, RunRequest, RunStatus, ServerReach, ServerStatus,
};
pub use chat::{
    ChatEvent, ChatRequest, Finish, FinishReason, Input, Limits, Message, Overflow, Piece, Role,
    Sampling, Shape, Stats, Timings, TokenLogprob, Tool, ToolCall, ToolChoice, Usage,
};
pub use credential::{AuditRow, Credential, CredentialKind, Person};
pub use id::Id;
pub use library::{Citation, Collection, Document, Shelf};
pub use machine::Machine;
pub use model::{Model, ModelFormat};
pub use peer::{Peer, PersonId, Scope, Transport};
pub use picture::{PictureEvent, PictureFormat, PictureRequest};
pub use speech::{ListenRequest, Segment, Sound, SpeakRequest, Transcript, Word};
