//! The real binary over real sockets with a real file: each module is a promise of the service.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test may fail by panicking, reads the clock itself, and says what it could not show"
)]

#[allow(dead_code, reason = "the other test targets use the rest")]
mod harness;

mod checkout_status;
mod data;
mod durability;
mod full_disk;
mod hostile;
mod long_log;
mod privacy;
mod rate_limit;
mod replaced;
mod rotation;
mod sockets;
mod stalled;
mod webhook;
