//! The wire: HTTP in, the one internal request out, and back. Translation only.
//!
//! The only module that knows axum. A dialect is one file or folder and imports no other dialect; every
//! route stands in [`routes`] with the scope that it needs, and every request carries a `Peer`.

mod answers;
mod anthropic;
mod assets;
mod base64;
mod body;
mod cited;
mod credentials;
mod documents;
mod failure;
mod frames;
mod gaia;
mod guard;
mod health;
mod lane;
mod lemonade;
mod llamacpp;
mod mcp;
mod metrics;
mod mine;
mod native;
mod ollama;
mod openai;
mod openapi;
mod origin;
mod outgrown;
mod routes;
mod sent;
mod server;
mod shared;
#[cfg(test)]
mod tests;
mod time;

pub use openapi::description;
pub use routes::{RouteFact, facts, router};
pub use server::{Arrival, ServeError, Server};
pub use time::now;
