#![forbid(unsafe_code)]
//! The appliance: everything around the kernels.
//!
//! Reading order: `domain` (the nouns), `app` (the verbs), `api` (the wire), `engines` (who answers),
//! `store` (what stays), `process` (every child), `fetch` (the one door out). Arrows point down only:
//! `cli` and `api` → `app` → `engines` → `store`, `process`, `fetch`; `domain` and `error` are plain data
//! that all of them share.

pub mod agents;
pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod domain;
pub mod engines;
pub mod error;
pub mod fetch;
pub mod host;
pub mod mesh;
pub mod process;
pub mod rag;
pub mod sound;
pub mod store;
pub mod trust;
