//! Puts the parts of `paidup serve` together, waits for a reason to stop, and stops.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use socket2::Socket;

use crate::base::log_line::{ErrorCode, LogFields, Message};
use crate::config::Address;
use crate::config::serve::Config;
use crate::host::clock::Now;
use crate::host::logger;
use crate::host::systemd::{Manager, Systemd};
use crate::host::turns::LastLook;
use crate::http::edge::{Edge, Limits};
use crate::http::exchange::{App, Http};
use crate::http::listen;
use crate::http::server::{StartError, Stop, reasons_to_stop};
use crate::serve::admin::{self, AdminApp};
use crate::serve::checkout_status::CheckoutStatus;
use crate::serve::metrics::Metrics;
use crate::serve::public::Public;
use crate::serve::webhook::Webhook;
use crate::store::writer::{BATCH_MAX, WriteError, Writer};
use crate::store::{Chore, ServeLock, Store, StoreError};

/// A running server.
pub struct Running {
    edge: Edge,
    admin: Option<Edge>,
    public: Arc<Http>,
    writer: Arc<Writer>,
    edge_address: Option<SocketAddr>,
    notice: Box<str>,
    manager: Manager,
    stops: Receiver<Stop>,
    /// Held until everything has stopped, or the process ends.
    _lock: ServeLock,
}

/// Starts everything: when this returns, deliveries are served.
///
/// # Errors
/// [`StartError`]; then nothing runs.
pub fn start(config: &Config) -> Result<Running, StartError> {
    start_with(config, Systemd::default(), mpsc::channel())
}

/// As [`start`], but on the sockets that the service manager has passed, if any, and with signs of life
/// to it. SIGTERM and SIGINT stop the server, and a second one ends the process at once.
///
/// # Errors
/// [`StartError`]; then nothing runs.
pub fn start_under_manager(config: &Config, systemd: Systemd) -> Result<Running, StartError> {
    // Before the first connection is accepted: from then on, a stop must not lose one.
    let reasons = reasons_to_stop(systemd.manager())?;
    start_with(config, systemd, reasons)
}

fn start_with(
    config: &Config,
    mut systemd: Systemd,
    (stop, stops): (Sender<Stop>, Receiver<Stop>),
) -> Result<Running, StartError> {
    check_descriptors(config.http_connections)?;
    let lock = lock(&config.database)?;
    let metrics = Arc::new(Metrics::new());
    let writer = Arc::new(open_writer(config, &metrics, stop)?);
    let admin = start_admin(config, systemd.admin.take(), &writer, &metrics)?;
    let (admin, admin_address) = admin.unzip();
    let admin_address = admin_address.flatten();
    let edge_socket = edge_socket(config, systemd.edge.take())?;
    let edge_address = listen::local_address(&edge_socket);
    let public = Arc::new(public(config, &writer, &metrics)?);
    let limits = Limits {
        connections: config.http_connections,
        request_timeout: config.request_timeout,
        body_max_bytes: config.body_max_bytes,
        silence: SILENCE,
    };
    let edge = Edge::start(edge_socket, limits, Arc::clone(&public)).map_err(StartError::System)?;
    logger::write(Message::Ready, &LogFields::default());
    Ok(Running {
        edge,
        admin,
        public,
        writer,
        edge_address,
        notice: notice(config, edge_address, admin_address).into(),
        manager: systemd.into_manager(),
        stops,
        _lock: lock,
    })
}

impl Running {
    /// Where the edge listens; none for a Unix socket.
    #[must_use]
    pub fn edge_address(&self) -> Option<SocketAddr> {
        self.edge_address
    }

    /// One line for people, because the log has no field for an address: what serves, where, and into
    /// which file.
    #[must_use]
    pub fn notice(&self) -> &str {
        &self.notice
    }

    /// Tells the service manager that we are ready, then sleeps until there is a reason to stop.
    /// Meanwhile the manager gets signs of life.
    #[must_use]
    pub fn wait(&self) -> Stop {
        self.manager.ready(TAKING_DELIVERIES);
        let Some(patience) = self.manager.patience() else {
            return self.stops.recv().unwrap_or(Stop::Asked);
        };
        let now = Now::read().instant;
        let mut seen = [LastLook::new(now), LastLook::new(now)];
        loop {
            // Twice within the time after which the manager takes us for dead.
            match self.stops.recv_timeout(patience / 2) {
                Ok(stop) => return stop,
                Err(RecvTimeoutError::Disconnected) => return Stop::Asked,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if logger::stalled_for().is_some_and(|stall| stall > patience * LOG_PATIENCES) {
                return Stop::LogLost;
            }
            if let Err(stop) = self.show_life(&mut seen) {
                return stop;
            }
        }
    }

    /// A sign of life says that this thread runs, and that work on the database and on requests ends.
    /// It does not say that all is well: no restart frees a full disk, or ends the program that holds
    /// the write lock. The status says how the database is.
    ///
    /// An idle database gets a write. If the disk does not answer, this thread hangs as well, and the
    /// manager ends the process.
    fn show_life(&self, [at_store, at_work]: &mut [LastLook; 2]) -> Result<(), Stop> {
        let store = self.writer.look(Now::read().unix);
        if let Err(WriteError::Store(error)) = &store
            && error.is_fatal()
        {
            return Err(Stop::Broken(error.to_string()));
        }
        let now = Now::read().instant;
        let at_store = at_store.standstill(self.writer.turns(), now);
        let at_work = at_work.standstill(self.public.turns(), now);
        if at_store.max(at_work) < HUNG_AFTER {
            self.manager.alive(&status(store));
        }
        Ok(())
    }

    /// Serves every connection that was accepted or waits to be, then stops. Closing the last database
    /// connection moves the write-ahead log into the file; a database that has failed is never closed,
    /// because that would write to it again.
    pub fn stop(self, why: &Stop) {
        logger::write(Message::Stopping, &LogFields::default());
        match why {
            Stop::Broken(_) => std::mem::forget(self.writer),
            Stop::Asked | Stop::LogLost => {}
        }
        self.manager.stopping("Serving what was accepted");
        self.edge.stop();
        if let Some(admin) = self.admin {
            admin.stop();
        }
        logger::write(Message::Stopped, &LogFields::default());
    }
}

/// How long a connection stays after a delivery. Longer than the proxies that people use keep an idle one,
/// Caddy for two minutes and nginx for one, so that they close it and not we.
const SILENCE: Duration = Duration::from_secs(150);
/// Descriptors beside the pool's: files, listeners, signals, and connections of the admin server.
const SPARE_DESCRIPTORS: u64 = 64;

/// A thread that waits in `accept()` has its descriptor reserved, so a pool that is too large takes all
/// of them from the start, and leaves none for the admin server and for signals.
fn check_descriptors(connections: NonZeroUsize) -> Result<(), StartError> {
    let connections = u64::try_from(connections.get()).unwrap_or(u64::MAX);
    let needed = connections.saturating_add(SPARE_DESCRIPTORS);
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < needed => Err(StartError::Descriptors(limit, needed)),
        _ => Ok(()),
    }
}

fn lock(database: &Path) -> Result<ServeLock, StartError> {
    let lock = ServeLock::path(database);
    let lock = lock.display();
    let refused = match ServeLock::take(database) {
        Ok(Some(lock)) => return Ok(lock),
        Ok(None) => format!(
            "another paidup serves or restores this database ({lock} is locked). Two would answer for \
             one file: stop the other one, or give this one its own DATABASE_PATH"
        ),
        Err(error) => format!(
            "{lock} cannot be locked: {error}. Check that the folder exists and that it and the file \
             belong to the user that paidup runs as"
        ),
    };
    Err(StartError::Database(refused))
}

fn open_writer(
    config: &Config,
    metrics: &Arc<Metrics>,
    stop: Sender<Stop>,
) -> Result<Writer, StartError> {
    let mut store = Store::open(&config.database).map_err(StartError::database)?;
    if let Some(mode) = config.reading.mode {
        store.settle_mode(mode).map_err(StartError::database)?;
    }
    match store.begin_history(Now::read().unix, false) {
        Err(error) if error.is_fatal() => return Err(StartError::database(error)),
        // On a full or busy database this is skipped: the numbers of changes follow the clock anyway.
        Ok(()) | Err(_) => {}
    }
    let mover = store.open_beside(&config.database);
    let mover = mover.map_err(StartError::database)?;
    let metrics = Arc::clone(metrics);
    let on_commit = move |deliveries| metrics.count_commit(deliveries);
    let on_broken = move |error| broken(&error, &stop);
    Ok(Writer::new(store, mover, BATCH_MAX, on_commit, on_broken))
}

fn broken(error: &StoreError, stop: &Sender<Stop>) {
    let fields = LogFields {
        error_code: Some(error.code()),
        ..LogFields::default()
    };
    if error.is_fatal() {
        logger::write(Message::StoreBroken, &fields);
        let _ = stop.send(Stop::Broken(error.to_string()));
    } else {
        logger::write(Message::StoreReplaced, &fields);
    }
}

/// A connection of its own for reading: a scrape or a page does not wait for a commit, nor a commit for
/// it.
fn reader(config: &Config) -> Result<Store, StartError> {
    Store::open_existing(&config.database).map_err(StartError::database)
}

/// The admin server and its address; none when it is off.
fn start_admin(
    config: &Config,
    passed: Option<Socket>,
    writer: &Arc<Writer>,
    metrics: &Arc<Metrics>,
) -> Result<Option<(Edge, Option<SocketAddr>)>, StartError> {
    let Some(address) = &config.admin else {
        if passed.is_some() {
            say_not_used(ErrorCode::AdminAddrNotUsed);
        }
        return Ok(None);
    };
    let app = admin_app(writer, reader(config)?, Arc::clone(metrics));
    let listener = match passed {
        Some(passed) => passed_at(passed, address, ErrorCode::AdminAddrNotUsed),
        None => listen::on("ADMIN_ADDR", address, config.socket_group)?,
    };
    let bound = listen::local_address(&listener);
    let http = http(Arc::new(app), config, metrics)?;
    let admin = admin::start(listener, Arc::new(http)).map_err(StartError::System)?;
    Ok(Some((admin, bound)))
}

fn edge_socket(config: &Config, passed: Option<Socket>) -> Result<Socket, StartError> {
    match passed {
        Some(passed) => Ok(passed_at(
            passed,
            &config.listen,
            ErrorCode::ListenAddrNotUsed,
        )),
        None => listen::on("LISTEN_ADDR", &config.listen, config.socket_group),
    }
}

fn public(
    config: &Config,
    writer: &Arc<Writer>,
    metrics: &Arc<Metrics>,
) -> Result<Http, StartError> {
    let checkout_status = match &config.checkout_status {
        Some(status) => Some(CheckoutStatus::new(status, reader(config)?)),
        None => None,
    };
    let public = Public {
        webhook: Webhook::new(config, Arc::clone(writer), Arc::clone(metrics)),
        checkout_status,
    };
    http(Arc::new(public), config, metrics)
}

fn http(app: Arc<dyn App>, config: &Config, metrics: &Metrics) -> Result<Http, StartError> {
    Http::new(app, metrics.requests(), config.trusted_proxies.clone()).map_err(StartError::System)
}

fn admin_app(writer: &Arc<Writer>, reader: Store, metrics: Arc<Metrics>) -> AdminApp {
    let writer = Arc::clone(writer);
    let reader = Mutex::new(reader);
    let seen = Arc::clone(&metrics);
    AdminApp {
        ready: Box::new(move || {
            let probed = writer.probe(Now::read().unix);
            probed.map_err(|error| error.code())?;
            logger::stalled_for().map_or(Ok(()), |_| Err(ErrorCode::LogStalled))
        }),
        figures: Box::new(move || {
            let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(Some(at)) = reader.noted(Chore::Backup) {
                seen.backup_seen(at);
            }
            reader.figures().ok()
        }),
        metrics,
    }
}

/// The socket that was passed. It is used wherever it is bound.
fn passed_at(passed: Socket, address: &Address, not_used: ErrorCode) -> Socket {
    if !listen::is_at(&passed, address) {
        say_not_used(not_used);
    }
    passed
}

/// Deliveries are taken all the same: the proxy knows the socket, not the variable. But `paidup
/// send-test` uses the variable.
fn say_not_used(error_code: ErrorCode) {
    let fields = LogFields {
        error_code: Some(error_code),
        ..LogFields::default()
    };
    logger::write(Message::AddressNotUsed, &fields);
}

/// With the addresses that the system chose, where it was free to choose a port.
fn notice(config: &Config, edge: Option<SocketAddr>, admin: Option<SocketAddr>) -> String {
    let shown = |address: &Address, bound: Option<SocketAddr>| match bound {
        Some(bound) => bound.to_string(),
        None => address.to_string(),
    };
    format!(
        "paidup {} serves on {}, admin {}, database {}",
        env!("CARGO_PKG_VERSION"),
        shown(&config.listen, edge),
        config.admin.as_ref().map_or_else(
            || "off".to_owned(),
            |address| format!("on {}", shown(address, admin))
        ),
        config.database.display()
    )
}

/// What `systemctl status` shows when all is well.
const TAKING_DELIVERIES: &str = "Taking deliveries";
/// Work hangs when for so long none of it has ended. Waiting for another process's lock takes at most a
/// quarter of this.
const HUNG_AFTER: Duration = Duration::from_secs(20);
/// A log that has stood still for this many watchdog timeouts is given up: a new process gets a new
/// one. With `WatchdogSec=30s` that is five minutes; journald's own watchdog takes three.
const LOG_PATIENCES: u32 = 10;

/// What `systemctl status` shows.
fn status(store: Result<(), WriteError>) -> String {
    match store {
        Ok(()) if logger::stalled_for().is_some() => format!(
            "Taking deliveries, but nobody reads the log: {} lines dropped",
            logger::dropped()
        ),
        Ok(()) => TAKING_DELIVERIES.to_owned(),
        Err(WriteError::Store(StoreError::Busy)) => {
            "Another process holds the database: deliveries wait 5 s, then are answered 503"
                .to_owned()
        }
        Err(
            error @ (WriteError::Store(_)
            | WriteError::QueueFull
            | WriteError::Stuck
            | WriteError::Broken),
        ) => format!("Deliveries are answered 503: {}", error.code()),
    }
}
