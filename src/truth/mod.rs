//! What is true of an order, and what Stripe said of it: no socket, clock, disk or environment.

pub mod delivery;
pub mod event;
pub mod money;
pub mod new_order;
pub mod order;
pub mod payment;
pub mod reading;
pub mod signature;
