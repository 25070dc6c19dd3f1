//! `paidup serve`: receives webhooks.

pub mod admin;
pub mod checkout_status;
pub mod metrics;
pub mod process;
pub mod public;
pub mod webhook;
