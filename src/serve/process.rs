//! Puts the parts of `paidup serve` together, waits for a reason to stop, and stops.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use log::Level;
use rustix::process::{Resource, getrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socket2::Socket;

use crate::base::log_line::{ErrorCode, LogFields, Message};
use crate::config::serve::Config;
use crate::config::{Address, ConfigError};
use crate::host::clock::Now;
use crate::host::logger;
use crate::host::systemd::{Manager, Systemd};
use crate::host::turns::Seen;
use crate::http::edge::{self, Edge, Limits};
use crate::http::exchange::Http;
use crate::http::metrics::Metrics;
use crate::serve::admin::{self, AdminApp};
use crate::serve::checkout_status::CheckoutStatus;
use crate::serve::public::Public;
use crate::serve::webhook::Webhook;
use crate::store::writer::{BATCH_MAX, WriteError, Writer};
use crate::store::{Chore, ServeLock, Store, StoreError};

/// A server that runs.
pub struct Running {
    edge: Edge,
    admin: Option<Edge>,
    public: Arc<Http>,
    writer: Arc<Writer>,
    edge_address: Option<SocketAddr>,
    admin_address: Option<SocketAddr>,
    notice: Box<str>,
    manager: Manager,
    stops: Receiver<Stop>,
    /// Held until the process ends or all of it has stopped.
    _lock: ServeLock,
}

/// Why a server stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM or SIGINT, or the program that started it.
    Asked,
    /// The database has failed; the process must end without touching it again.
    Broken(StoreError),
    /// Whoever read the log has gone or stands still, and another process gets a new reader.
    LogLost,
}

/// Why a server does not start.
#[derive(Debug)]
pub enum StartError {
    /// The database cannot be used.
    Store(StoreError),
    /// An address cannot be listened on: the variable, its value, and what the system says.
    Listen(&'static str, Address, io::Error),
    /// Another process serves this database: its lock.
    Served(PathBuf),
    /// The lock of the database cannot be taken: which file, and what the system says.
    Lock(PathBuf, io::Error),
    /// The limit of descriptors is too low for the pool: the limit, and what is needed.
    Descriptors(u64, u64),
    /// A setting cannot be used after all.
    Configuration(ConfigError),
    /// The operating system refuses threads, signals or random numbers.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Store(error) => write!(f, "{error}"),
            StartError::Listen(variable, address, error) => {
                write!(f, "{variable}: cannot listen on {address}: {error}. ")?;
                if error.kind() == io::ErrorKind::AddrInUse {
                    f.write_str("Is another paidup running? `ss -ltnp` shows who holds the port")
                } else {
                    write!(f, "Mend that, or choose another address in {variable}")
                }
            }
            StartError::Served(lock) => write!(
                f,
                "another paidup serves or restores this database ({} is locked). Two would answer for \
                 one file: stop the other one, or give this one its own DATABASE_PATH",
                lock.display()
            ),
            StartError::Lock(lock, error) => write!(
                f,
                "{} cannot be locked: {error}. Check that the folder exists and that it and the file \
                 belong to the user that paidup runs as",
                lock.display()
            ),
            StartError::Configuration(error) => write!(f, "{error}"),
            StartError::Descriptors(limit, needed) => write!(
                f,
                "HTTP_CONNECTIONS: that many need {needed} open files, and the limit is {limit}. The \
                 admin server would have none left. Raise LimitNOFILE= of the unit (`ulimit -n` in a \
                 shell), or lower HTTP_CONNECTIONS"
            ),
            StartError::System(error) => write!(
                f,
                "the system refuses what a server needs: {error}. Raise TasksMax= and LimitNOFILE= \
                 of the unit, or lower HTTP_CONNECTIONS"
            ),
        }
    }
}

impl std::error::Error for StartError {}

/// Starts all of it: when this returns, deliveries are served.
///
/// # Errors
/// [`StartError`]; then nothing runs.
pub fn start(config: &Config) -> Result<Running, StartError> {
    start_with(config, Systemd::default(), mpsc::channel())
}

/// As [`start`], on the sockets that the service manager has passed if it has, and telling it how we
/// are. SIGTERM and SIGINT are a reason to stop, and the second one ends the process at once.
///
/// # Errors
/// [`StartError`]; then nothing runs.
pub fn start_under_manager(config: &Config, systemd: Systemd) -> Result<Running, StartError> {
    let (stop, stops) = mpsc::channel();
    // Before the first connection is accepted: from then on a stop must not lose one.
    stop_on_signals(stop.clone()).map_err(StartError::System)?;
    stop_without_log(systemd.manager(), stop.clone());
    start_with(config, systemd, (stop, stops))
}

fn start_with(
    config: &Config,
    mut systemd: Systemd,
    (stop, stops): (Sender<Stop>, Receiver<Stop>),
) -> Result<Running, StartError> {
    check_descriptors(config.http_connections)?;
    let metrics = Arc::new(Metrics::new());
    let lock = lock(&config.database)?;
    let mut store = Store::open(&config.database).map_err(StartError::Store)?;
    if let Some(mode) = config.reading.mode {
        store.settle_mode(mode).map_err(StartError::Store)?;
    }
    begin_history(&mut store)?;
    let mover = store.open_beside(&config.database);
    let mover = mover.map_err(StartError::Store)?;
    let writer = Arc::new(new_writer(store, mover, &metrics, stop));
    let webhook = Webhook::new(config, Arc::clone(&writer), Arc::clone(&metrics));
    let http = |app| Http::new(app, Arc::clone(&metrics), config.trusted_proxies.clone());

    let passed = systemd.admin.take();
    if passed.is_some() && config.admin.is_none() {
        say_not_used(ErrorCode::AdminAddrNotUsed);
    }
    let admin = config.admin.as_ref().map(|address| {
        let reader = Store::open_existing(&config.database).map_err(StartError::Store)?;
        let not_used = ErrorCode::AdminAddrNotUsed;
        let listener = listener("ADMIN_ADDR", address, config.socket_group, passed, not_used)?;
        let app = admin_app(&writer, reader, Arc::clone(&metrics));
        let bound = local_address(&listener);
        let http = http(Arc::new(app)).map_err(StartError::System)?;
        let admin = admin::start(listener, Arc::new(http)).map_err(StartError::System)?;
        Ok((admin, bound))
    });
    let (admin, admin_address) = admin.transpose()?.unzip();

    let passed = systemd.edge.take();
    let not_used = ErrorCode::ListenAddrNotUsed;
    let group = config.socket_group;
    let listener = listener("LISTEN_ADDR", &config.listen, group, passed, not_used)?;
    let edge_address = local_address(&listener);
    let limits = Limits {
        connections: config.http_connections,
        request_timeout: config.request_timeout,
        body_max_bytes: config.body_max_bytes,
    };
    let status = config.checkout_status.as_ref().map(|status| {
        let reader = Store::open_existing(&config.database).map_err(StartError::Store)?;
        Ok(CheckoutStatus::new(status, reader))
    });
    let public = Public {
        webhook,
        checkout_status: status.transpose()?,
    };
    let public = Arc::new(http(Arc::new(public)).map_err(StartError::System)?);
    let edge = Edge::start(listener, limits, Arc::clone(&public)).map_err(StartError::System)?;
    logger::write(Level::Info, Message::Ready, &LogFields::default());
    let admin_address = admin_address.flatten();
    Ok(Running {
        edge,
        admin,
        public,
        writer,
        edge_address,
        admin_address,
        notice: notice(config, edge_address, admin_address).into(),
        manager: systemd.into_manager(),
        stops,
        _lock: lock,
    })
}

/// Without room or its turn it is left out: the numbers of changes follow the clock all the same.
fn begin_history(store: &mut Store) -> Result<(), StartError> {
    match store.begin_history(Now::read().unix) {
        Err(error) if error.is_fatal() => Err(StartError::Store(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Running {
    /// Where the edge listens; none for a Unix socket.
    #[must_use]
    pub fn edge_address(&self) -> Option<SocketAddr> {
        self.edge_address
    }

    /// Where the admin server listens; none when it is off or on a Unix socket.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// One line for people, because the log has no place for an address: who serves, where, and
    /// into which file.
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
        let mut seen = [Seen::new(now), Seen::new(now)];
        loop {
            // Twice in the time after which we are taken for dead.
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

    /// A sign of life says that this thread runs, and that whoever uses the database or answers a
    /// request comes out of it again; not that all is well: no restart gives a full disk room, or
    /// ends the program that holds the write lock. The status says how the database is.
    ///
    /// An idle database is written to. A disk that does not answer holds this thread up as well, and
    /// then the manager ends the process.
    fn show_life(&self, [at_store, at_work]: &mut [Seen; 2]) -> Result<(), Stop> {
        let store = self.writer.look(Now::read().unix);
        if let Err(WriteError::Store(error)) = &store
            && error.is_fatal()
        {
            return Err(Stop::Broken(error.clone()));
        }
        let now = Now::read().instant;
        let at_store = at_store.standstill(self.writer.turns(), now);
        let at_work = at_work.standstill(self.public.turns(), now);
        if at_store.max(at_work) < HUNG_AFTER {
            self.manager.alive(&status(store));
        }
        Ok(())
    }

    /// Serves every connection that was accepted or waits to be, then leaves. The last database
    /// connection that closes moves the log into the file; one that has failed is never closed,
    /// because that would write to it again.
    pub fn stop(self, why: &Stop) {
        logger::write(Level::Info, Message::Stopping, &LogFields::default());
        match why {
            Stop::Broken(_) => std::mem::forget(self.writer),
            Stop::Asked | Stop::LogLost => {}
        }
        self.manager.stopping("Serving what was accepted");
        self.edge.stop();
        if let Some(admin) = self.admin {
            admin.stop();
        }
        logger::write(Level::Info, Message::Stopped, &LogFields::default());
    }
}

/// Descriptors beside the pool's: files, listeners, signals, and connections of the admin server.
const SPARE_DESCRIPTORS: u64 = 64;

/// A thread that waits in `accept()` has its descriptor reserved, so a pool that is too large takes
/// all of them from the start, and leaves none to the admin server and to signals.
fn check_descriptors(connections: NonZeroUsize) -> Result<(), StartError> {
    let connections = u64::try_from(connections.get()).unwrap_or(u64::MAX);
    let needed = connections.saturating_add(SPARE_DESCRIPTORS);
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < needed => Err(StartError::Descriptors(limit, needed)),
        _ => Ok(()),
    }
}

/// The addresses are those that the system gave, where a port was left to it.
fn notice(config: &Config, edge: Option<SocketAddr>, admin: Option<SocketAddr>) -> String {
    let shown = |address: &Address, bound: Option<SocketAddr>| match bound {
        Some(bound) => bound.to_string(),
        None => address.to_string(),
    };
    format!(
        "paidup {} serves on {}, admin on {}, database {}",
        env!("CARGO_PKG_VERSION"),
        shown(&config.listen, edge),
        config
            .admin
            .as_ref()
            .map_or_else(|| "off".to_owned(), |address| shown(address, admin)),
        config.database.display()
    )
}

/// What `systemctl status` shows when all is well.
const TAKING_DELIVERIES: &str = "Taking deliveries";
/// Whoever is inside for so long, while nobody comes out, hangs. A lock of another process's is
/// waited for a quarter of it.
const HUNG_AFTER: Duration = Duration::from_secs(20);
/// A log that has stood still for so many of the manager's patiences is given up: a new process has
/// a new one. With `WatchdogSec=30s` that is five minutes, and journald's own watchdog has three.
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

/// Only a manager starts us again, and gives the next process another log.
pub(crate) fn stop_without_log(manager: &Manager, stop: Sender<Stop>) {
    if manager.is_there() {
        logger::when_lost(move || {
            let _ = stop.send(Stop::LogLost);
        });
    }
}

pub(crate) fn stop_on_signals(stop: Sender<Stop>) -> io::Result<()> {
    let was_asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal finds the flag down and raises it.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&was_asked))?;
        signal_hook::flag::register(signal, Arc::clone(&was_asked))?;
    }
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let watch = move || {
        for _ in signals.forever() {
            let _ = stop.send(Stop::Asked);
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(watch)?;
    Ok(())
}

fn new_writer(store: Store, mover: Store, metrics: &Arc<Metrics>, stop: Sender<Stop>) -> Writer {
    let metrics = Arc::clone(metrics);
    let on_commit = move |deliveries| metrics.count_commit(deliveries);
    let on_broken = move |error: StoreError| {
        let error_code = Some(error.code());
        let fields = LogFields {
            error_code,
            ..LogFields::default()
        };
        if error.is_fatal() {
            logger::write(Level::Error, Message::StoreBroken, &fields);
            let _ = stop.send(Stop::Broken(error));
        } else {
            logger::write(Level::Error, Message::StoreReplaced, &fields);
        }
    };
    Writer::new(store, mover, BATCH_MAX, on_commit, on_broken)
}

fn admin_app(writer: &Arc<Writer>, reader: Store, metrics: Arc<Metrics>) -> AdminApp {
    let writer = Arc::clone(writer);
    // A connection of its own: a scrape does not wait for a commit, nor a commit for a scrape.
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

fn lock(database: &Path) -> Result<ServeLock, StartError> {
    match ServeLock::take(database) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(StartError::Served(ServeLock::path(database))),
        Err(error) => Err(StartError::Lock(ServeLock::path(database), error)),
    }
}

/// The socket that was passed, or else a new one at `address`.
fn listener(
    variable: &'static str,
    address: &Address,
    group: Option<u32>,
    passed: Option<Socket>,
    not_used: ErrorCode,
) -> Result<Socket, StartError> {
    let Some(passed) = passed else {
        return listen(variable, address, group);
    };
    if !is_at(&passed, address) {
        say_not_used(not_used);
    }
    Ok(passed)
}

/// A new socket at `address`, which `variable` has set.
pub(crate) fn listen(
    variable: &'static str,
    address: &Address,
    group: Option<u32>,
) -> Result<Socket, StartError> {
    let listener = match address {
        Address::Tcp(address) => edge::listen_tcp(*address),
        Address::Unix(path) => edge::listen_unix(path, group),
    };
    listener.map_err(|error| StartError::Listen(variable, address.clone(), error))
}

/// Deliveries are taken all the same: the proxy knows the socket, not the variable. But
/// `paidup send-test` looks where the variable says.
fn say_not_used(error_code: ErrorCode) {
    let fields = LogFields {
        error_code: Some(error_code),
        ..LogFields::default()
    };
    logger::write(Level::Warn, Message::AddressNotUsed, &fields);
}

fn is_at(socket: &Socket, address: &Address) -> bool {
    socket.local_addr().is_ok_and(|local| match address {
        Address::Tcp(address) => local.as_socket() == Some(*address),
        Address::Unix(path) => local.as_pathname() == Some(path),
    })
}

pub(crate) fn local_address(listener: &Socket) -> Option<SocketAddr> {
    listener.local_addr().ok()?.as_socket()
}
