//! Documents to passages, passages to an answer's context. Pure: knows neither store nor engine nor network.

pub mod child;
pub mod chunk;
pub mod extract;
pub mod prompt;
pub mod query;
pub mod rank;
mod wire;
