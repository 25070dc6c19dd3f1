//! paidup receives Stripe webhooks, proves that Stripe sent them, and keeps every order in one
//! SQLite file truthful.

#![forbid(unsafe_code)]

pub mod admin;
pub mod check;
pub mod clock;
pub mod domain;
pub mod edge;
pub mod finding;
pub mod http;
pub mod logger;
pub mod metrics;
pub mod serve;
pub mod sqlite;
pub mod webhook;
pub mod writer;
