//! The environment variables: one table of rows, and what each process takes from it.
//!
//! Each file uses those above it only:
//!
//! - `env_file`: reads a systemd `EnvironmentFile`
//! - `error`: what operators are told
//! - `value`: a variable's text becomes a value
//! - `table`: one row for each variable
//! - `checker`: collects every mistake before any is reported
//! - `stripe`, `serve`, `api`, `notify`, `page`: what calls to Stripe, `paidup serve`, `paidup api`,
//!   `paidup notify` and `paidup page` need

pub mod env_file;

mod error;
pub(crate) mod table;
mod value;

mod checker;

pub mod api;
pub mod notify;
pub mod page;
pub mod serve;
pub mod stripe;

use std::collections::BTreeMap;

use crate::host::zone::Zone;

pub use error::{ConfigError, ConfigWarning};
pub(crate) use value::looks_secret;
pub use value::{Address, Counted};

/// The time zone in which people read.
pub(crate) fn zone(vars: &BTreeMap<String, String>) -> Result<Zone, ConfigError> {
    table::TZ.read(vars)
}
