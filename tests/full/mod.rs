//! Minutes of work on the real model: `tests/run --full`.

mod agents; // sixty tasks that need a tool
mod engines; // real engines behind our own routes
mod kills; // two hundred deaths while documents are read
mod parity; // the same next token as llama.cpp
mod perplexity; // the same perplexity as llama.cpp
mod speech; // what is said is heard
mod storms; // two thousand clients of every manner
mod streams; // two hundred clients at once
mod student; // onebit-mini's perplexity, as exact integer arithmetic has it
