//! paidup receives Stripe webhooks, proves that Stripe sent them, and keeps every order in one
//! SQLite file truthful.
//!
//! To understand it, read in this sequence: [`truth::fact`], [`truth::payment`] and [`truth::order`]
//! (what is true of an order), [`truth::signature`] and [`truth::event`] (what Stripe said),
//! [`serve::webhook`] (the story of a delivery), [`store::writer`] and [`store`] (how it gets onto the
//! disk), [`http::edge`] and [`http::exchange`] (how it came in).
//!
//! Each room may use those on the lines below its own:
//!
//! ```text
//! command                    what can be asked for on the command line
//! api, serve, notify, page   answers the shop; receives from Stripe; tells the shop; shows people    ureq; tiny_http, askama
//! stripe                     Stripe's API as its client                                              ureq
//! http, store                how requests come in; the SQLite file, all SQL                          httparse, socket2; rusqlite
//! config                     the environment variables                                               ureq
//! host, truth                this machine; what is true of an order, no I/O                          rustix, listenfd, env_logger, tz-rs
//! base                       words that every room uses                                              base64
//! ```

#![forbid(unsafe_code)]

pub mod api;
pub mod base;
pub mod command;
pub mod config;
pub mod host;
pub mod http;
pub mod notify;
pub mod page;
pub mod serve;
pub mod store;
pub mod stripe;
pub mod truth;
