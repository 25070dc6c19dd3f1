//! paidup receives Stripe webhooks, proves that Stripe sent them, and keeps every order in one
//! SQLite file truthful.
//!
//! To understand it, read in this sequence: [`truth::order`] and [`truth::payment`] (what is true of
//! an order), [`truth::signature`] and [`truth::event`] (what Stripe said), [`serve::webhook`] (the
//! story of a delivery), [`store::writer`] and [`store`] (how it gets onto the disk), [`http::edge`]
//! and [`http::exchange`] (how it came in).
//!
//! Each room may use those below it, and none above:
//!
//! ```text
//! command   what can be asked for on the command line
//! api       `paidup api`: answers the shop's own back end
//! serve     `paidup serve`: receives webhooks
//! stripe    Stripe's API as its client                    ureq
//! http      one strict reader for every server of ours    httparse, socket2
//! store     the SQLite file, and all SQL                  rusqlite
//! config    the environment variables
//! truth     what is true of an order: no I/O
//! host      clock, files, log, service manager            rustix, listenfd, env_logger
//! base      words that every room uses
//! ```

#![forbid(unsafe_code)]

pub mod api;
pub mod base;
pub mod command;
pub mod config;
pub mod host;
pub mod http;
pub mod serve;
pub mod store;
pub mod stripe;
pub mod truth;
