//! Stripe's API as its client.

pub mod client;
pub mod error;
pub mod fetch;
pub mod fetched;
