//! `paidup api`: answers the shop's own back end.

mod create;
mod orders;
pub mod process;
mod query;
mod replies;
pub mod token;
