//! `paidup api`: answers the shop's own back end.

pub mod process;
