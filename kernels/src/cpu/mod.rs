//! The CPU kernels: each file holds one operation's scalar definition, its vector variants and the property
//! that ties them together. Knows nothing of layers, tokens or files.

pub mod ternary;
