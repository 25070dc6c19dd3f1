//! The disk fails at every single call, and the power goes at any moment. `cargo test --test disk`, two
//! minutes: a library that stands between SQLite and the kernel is preloaded into the real program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "a test may fail by panicking, reads the clock itself, and says what it tried"
)]

#[path = "../harness/mod.rs"]
#[allow(dead_code, reason = "the other test targets use the rest")]
mod harness;

mod disk;
mod faults;
mod power_cut;
mod told;
