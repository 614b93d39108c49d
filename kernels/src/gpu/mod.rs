//! The same operations on a GPU: kernel texts, the drivers that run them, and a decoder that keeps a whole model on
//! the device.
//!
//! Every operation is one file of text a backend (`op.wgsl`, `op.hip`) with its scalar definition beside it in
//! `op.rs`. A [`Driver`] compiles, loads, records and replays; it knows nothing of models. Nothing here starts a
//! process or chooses a device on its own; [`first_run`] is what a child process does.

pub mod cache;
pub mod decoder;
mod driver;
pub mod first_run;
pub mod hip;
pub mod ops;
mod pack;
pub mod source;
pub mod stream;
pub mod vulkan;

pub use driver::{Buffer, Driver, GpuError, Identity, Kernel, Launch, Place, Recording, Step};
