//! What this machine provides: clock, time zone, files, log, service manager.

pub mod clock;
pub mod files;
pub mod identity;
pub mod logger;
pub(crate) mod ports;
pub mod systemd;
pub mod turns;
pub mod zone;
