//! What this machine gives us: its clock, its files, its log, its service manager.

pub mod clock;
pub mod files;
pub mod identity;
pub mod logger;
pub mod systemd;
pub mod turns;
