//! `paidup notify`: tells the shop how an order stands whenever that has changed.
//!
//! - `message`: what is told, and how it is signed
//! - `course`: when a destination and its orders are tried again, without clock or network
//! - `teller`: tells what is due
//! - `send`: one request
//! - `process`: the process around it

pub(crate) mod course;
pub(crate) mod message;
pub mod process;
pub(crate) mod send;
pub(crate) mod teller;
