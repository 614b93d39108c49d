//! Documents to passages, passages to an answer's context. Pure: knows neither store nor engine nor network.

pub mod chunk;
pub mod extract;
pub mod rank;
