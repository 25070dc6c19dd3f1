//! How a request comes in and an answer goes out: one strict reader for every server of ours.

pub mod client;
pub mod edge;
pub mod exchange;
pub mod limiter;
pub(crate) mod loopback;
pub mod metrics;
