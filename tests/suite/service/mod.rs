//! The real binary over real sockets with a real file: each module is a promise of the service.

mod checkout_status;
mod data;
mod durability;
mod full_disk;
mod hostile;
mod long_log;
mod privacy;
mod rate_limit;
mod replaced;
mod rotation;
mod sockets;
mod stalled;
mod webhook;
