//! What every room uses: ids, time, secrets, text that is safe to show, log lines.

pub(crate) mod finding;
pub mod id;
pub mod log_line;
pub(crate) mod near;
pub mod plain;
pub mod secret;
pub mod time;
pub mod webhook_key;
