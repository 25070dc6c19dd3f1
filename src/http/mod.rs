//! How a request comes in and an answer goes out: one strict reader for every server.

pub mod edge;
pub mod exchange;
pub(crate) mod gate;
pub mod head;
pub(crate) mod limiter;
pub mod listen;
pub(crate) mod loopback;
pub mod metrics;
pub mod peer;
pub mod server;
mod status;
