//! What is true of an order, and what Stripe said of it: no socket, clock, disk or environment.
//!
//! A body whose [`signature`] holds is read to an [`event`]; what it tells is a [`fact`]; facts join to
//! a [`payment`], payments to an [`order`]. No file uses one that uses it, directly or in a ring.

pub mod delivery;
pub mod event;
pub mod fact;
pub mod kind;
pub mod money;
pub mod names;
pub mod new_order;
pub mod order;
pub mod payment;
pub mod reading;
pub mod signature;
pub mod takings;
pub(crate) mod totals;

mod field;
mod movement;
mod part;
mod raw;
mod refund;
