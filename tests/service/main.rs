//! The real binary over real sockets with a real file: each module is a promise of the service.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may fail by panicking, and reads the clock itself"
)]

mod harness;

mod privacy;
mod rate_limit;
mod webhook;
