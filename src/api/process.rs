//! Starts and stops `paidup api`: orders over HTTP, for the shop's back end on this machine.
//!
//! It is a process of its own, and the only one that runs for long and holds the key to the Stripe
//! account.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::api::orders::{Api, counters};
use crate::base::log_line::{LogFields, Message};
use crate::config::api::ApiConfig;
use crate::host::logger;
use crate::host::systemd::Systemd;
use crate::http::edge::{Edge, Limits};
use crate::http::exchange::Http;
use crate::http::listen;
use crate::http::server::{StartError, Stop, reasons_to_stop};
use crate::store::Store;

/// Requests served at the same time. Most of them, but never all, may wait for Stripe:
/// [`CALLS_MAX`](crate::api::orders::CALLS_MAX).
const WORKERS: usize = 16;
/// Largest request body: an order of 100 lines with long names and all metadata is a quarter of it.
const BODY_MAX_BYTES: usize = 256 * 1024;
/// How long a request may take to come in.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until there is a reason to stop, and returns that reason. `tell` gets one line for people.
///
/// # Errors
/// [`StartError`] when it cannot start.
pub fn run(
    mut config: ApiConfig,
    systemd: Systemd,
    tell: &dyn Fn(&str),
) -> Result<Stop, StartError> {
    let manager = systemd.into_manager();
    let (stop, stops) = reasons_to_stop(&manager)?;
    let store = Store::open_existing(&config.database).map_err(StartError::database)?;
    let file = store.mode().map_err(StartError::database)?;
    drop(store);
    config.stripe = config
        .stripe
        .for_database(file)
        .map_err(StartError::Configuration)?;
    let listener = listen::on("API_ADDR", &config.listen, config.socket_group)?;
    let bound = listen::local_address(&listener);
    let shown = bound.map_or_else(|| config.listen.to_string(), |bound| bound.to_string());
    let counters = Arc::new(counters());
    let api = Api::new(config, Arc::clone(&counters), stop)?;
    // A client on this machine may choose the request id: it is the shop's back end.
    let loopback = ["127.0.0.0/8", "::1/128"].map(|net| net.parse().ok());
    let trusted = loopback.into_iter().flatten().collect();
    let http = Http::new(Arc::new(api), counters, trusted).map_err(StartError::System)?;
    let limits = Limits {
        connections: NonZeroUsize::MIN.saturating_add(WORKERS - 1),
        request_timeout: REQUEST_TIMEOUT,
        body_max_bytes: BODY_MAX_BYTES,
        silence: Duration::ZERO,
    };
    let edge = Edge::start(listener, limits, Arc::new(http)).map_err(StartError::System)?;
    logger::write(Message::Ready, &LogFields::default());
    tell(&format!(
        "paidup {} answers the shop on {shown}",
        env!("CARGO_PKG_VERSION")
    ));
    manager.ready("Answering the shop");
    let why = stops.recv().unwrap_or(Stop::Asked);
    manager.stopping("Serving what was accepted");
    logger::write(Message::Stopping, &LogFields::default());
    edge.stop();
    logger::write(Message::Stopped, &LogFields::default());
    Ok(why)
}
