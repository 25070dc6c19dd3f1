//! Counterparts that are not ours: official libraries and tools, run on this machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may fail by panicking, and reads the clock itself"
)]

#[path = "../fake_stripe/mod.rs"]
mod fake_stripe;
#[path = "../service/harness.rs"]
#[allow(dead_code, reason = "the other test target uses the rest")]
mod harness;
mod tools;

mod alerts;
mod caddy;
mod first_payment;
mod promtool;
mod sdk_signing;
mod stripe_client;

mod vectors;
