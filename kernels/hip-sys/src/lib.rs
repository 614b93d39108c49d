//! Placeholder until the loader lands in the next commit.
