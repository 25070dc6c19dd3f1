//! `paidup notify`: tells the shop how an order stands whenever that has changed.
//!
//! [`message`] is what is told, [`course`] when and whether, [`teller`] does it, [`process`] lives.

pub(crate) mod course;
pub(crate) mod message;
pub mod process;
pub(crate) mod send;
pub(crate) mod teller;
