//! Agents: what they are made of, and the loop that works a task through.
//!
//! Owns built-in agents and tools, the rules for files, and MCP servers as a client. Knows no model, no document and
//! no request: what a run needs of them is the [`World`] that it is given.

pub mod builtin;
pub mod bundle;
mod calculator;
mod error;
pub mod files;
pub mod mcp;
pub mod relevance;
pub mod schema;
pub mod tools;
mod work;
mod world;

pub use calculator::{calculate, shown};
pub use error::AgentError;
pub use work::work;
pub use world::{Ask, Call, Chosen, Ending, Outcome, Past, Plan, Thought, Want, World};
