//! What the business means, with no socket, clock, disk or environment in it.

pub mod api_config;
pub mod client;
pub mod config;
pub mod delivery;
pub mod env_file;
pub mod event;
pub mod id;
pub mod limiter;
pub mod log_line;
pub mod money;
pub mod new_order;
pub mod order;
pub mod payment;
pub mod plain;
pub mod reading;
pub mod secret;
pub mod signature;
pub mod stripe_config;
pub mod stripe_error;
pub mod time;
pub mod variable;
