//! What the business means, with no socket, clock, disk or environment in it.

pub mod api_version;
pub mod config;
pub mod env_file;
pub mod id;
pub mod limiter;
pub mod log_line;
pub mod secret;
pub mod signature;
pub mod time;
pub mod variable;
