//! paidup receives Stripe webhooks, proves that Stripe sent them, and keeps every order in one
//! SQLite file truthful.
//!
//! To understand it, read in this sequence: [`domain::order`] and [`domain::payment`] (what is true
//! of an order), [`domain::signature`] and [`domain::event`] (what Stripe said), [`webhook`] (the
//! story of a delivery), [`writer`] and [`sqlite`] (how it gets onto the disk), [`edge`] and
//! [`http`] (how it came in).
//!
//! Who may use whom; arrows point down only:
//!
//! ```text
//! 4  main, cli, serve, api, check, install, backup, db, rotate, doctor, reconcile,
//!    show, send_test, demo                  lexopt, ureq
//! 3  admin → edge → http                    std sockets, httparse, socket2, rustix
//! 2  public → webhook → writer → sqlite     std threads
//!    public → checkout_status → sqlite
//! 1  sqlite  logger  clock  systemd  files  rusqlite, env_logger, listenfd, rustix
//!    turns
//!    stripe_api                             ureq
//! 0  domain/*                               no I/O, no clock, no environment, no threads
//! ```
//!
//! Each crate that does I/O is named in one file, so replacing it changes one file; ureq alone is in
//! two, since what `send_test` calls is not Stripe.

#![forbid(unsafe_code)]

pub mod admin;
pub mod api;
pub mod backup;
pub mod check;
pub mod checkout_status;
pub mod cli;
pub mod clock;
pub mod db;
pub mod demo;
pub mod doctor;
pub mod domain;
pub mod edge;
pub mod exit;
pub mod files;
pub mod finding;
pub mod http;
pub mod identity;
pub mod install;
pub mod logger;
pub mod metrics;
pub mod public;
pub mod reconcile;
pub mod rotate;
pub mod sample;
pub mod send_test;
pub mod serve;
pub mod show;
pub mod sqlite;
pub mod stripe_api;
pub mod systemd;
pub mod turns;
pub mod webhook;
pub mod writer;
