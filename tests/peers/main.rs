//! Counterparts that are not ours: official libraries and tools, run on this machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test may fail by panicking, reads the clock itself, and says what it counted"
)]

#[path = "../fake_stripe/mod.rs"]
mod fake_stripe;
#[path = "../harness/mod.rs"]
#[allow(dead_code, reason = "the other test target uses the rest")]
mod harness;
mod tools;

mod alerts;
mod caddy;
mod first_payment;
mod nginx;
mod notify;
mod openapi;
mod page;
mod promtool;
mod proxy;
mod sdk_signing;
mod shells;
mod stripe_client;

mod vectors;
