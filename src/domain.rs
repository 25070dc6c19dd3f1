//! What the business means, with no socket, clock, disk or environment in it.

pub mod client;
pub mod id;
pub mod log_line;
pub mod secret;
