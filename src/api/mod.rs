//! `paidup api`: answers the shop's back end.

mod create;
mod orders;
pub mod process;
mod query;
mod replies;
mod token;
