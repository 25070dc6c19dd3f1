//! What the business means, with no socket, clock, disk or environment in it.

pub mod delivery;
pub mod event;
pub mod id;
pub mod log_line;
pub mod order;
pub mod payment;
pub mod secret;
pub mod signature;
pub mod time;
