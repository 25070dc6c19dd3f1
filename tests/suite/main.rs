//! The tests that need nothing but this machine, in one binary: each module is a topic.
//!
//! Beside it are `edge`, which counts what its own process has open, `world`, which runs for as long
//! as it is told, and what needs more than this machine: `peers`, `disk` and `box`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::exit,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that fails panics, reads the clock itself, and says what it saw"
)]

#[path = "../fake_stripe/mod.rs"]
mod fake_stripe;
#[path = "../harness/mod.rs"]
mod harness;

mod admin;
mod api;
mod cases;
mod cli;
mod connect;
mod corpus;
mod data;
mod documents;
mod feed;
mod hints;
mod installed;
mod logger;
mod map;
mod neighbours;
mod notify;
mod page;
mod root;
mod service;
mod stripe_api;
mod stripe_side;
mod takings;
mod terminal;
mod trouble;
mod truth;
