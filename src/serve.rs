//! Puts the parts of `paidup serve` together, waits for a reason to stop, and stops.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use log::Level;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socket2::Socket;

use crate::admin::{Admin, AdminApp};
use crate::clock::Now;
use crate::domain::config::{Address, Config};
use crate::domain::log_line::{LogFields, Message};
use crate::edge::{self, Edge, Limits};
use crate::http::Http;
use crate::logger;
use crate::metrics::Metrics;
use crate::sqlite::{Store, StoreError};
use crate::webhook::Webhook;
use crate::writer::{BATCH_MAX, Writer};

/// A server that runs.
pub struct Running {
    edge: Edge,
    admin: Option<Admin>,
    writer: Arc<Writer>,
    edge_address: Option<SocketAddr>,
    admin_address: Option<SocketAddr>,
    notice: Box<str>,
    stops: Receiver<Stop>,
    stop: Sender<Stop>,
}

/// Why a server stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM or SIGINT, or the program that started it.
    Asked,
    /// The database has failed; the process must end without touching it again.
    Broken(StoreError),
}

/// Why a server does not start.
#[derive(Debug)]
pub enum StartError {
    /// The database cannot be used.
    Store(StoreError),
    /// An address cannot be listened on: the variable, its value, and what the system says.
    Listen(&'static str, Address, io::Error),
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
                    write!(f, "Choose another address in {variable}")
                }
            }
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
    let (stop, stops) = mpsc::channel();
    let metrics = Arc::new(Metrics::new());
    let store = Store::open(&config.database).map_err(StartError::Store)?;
    let writer = Arc::new(new_writer(store, &metrics, stop.clone()));
    let webhook = Webhook::new(config, Arc::clone(&writer), Arc::clone(&metrics));
    let http = |app| Http::new(app, Arc::clone(&metrics), config.trusted_proxies.clone());

    let admin = config.admin.as_ref().map(|address| {
        let reader = Store::open_existing(&config.database).map_err(StartError::Store)?;
        let listener = listen("ADMIN_ADDR", address)?;
        let app = admin_app(&writer, reader, Arc::clone(&metrics));
        let bound = local_address(&listener);
        let http = http(Arc::new(app)).map_err(StartError::System)?;
        let admin = Admin::start(listener, Arc::new(http)).map_err(StartError::System)?;
        Ok((admin, bound))
    });
    let (admin, admin_address) = admin.transpose()?.unzip();

    let listener = listen("LISTEN_ADDR", &config.listen)?;
    let edge_address = local_address(&listener);
    let limits = Limits {
        connections: config.http_connections,
        request_timeout: config.request_timeout,
        body_max_bytes: config.body_max_bytes,
    };
    let public = http(Arc::new(webhook)).map_err(StartError::System)?;
    let edge = Edge::start(listener, limits, Arc::new(public)).map_err(StartError::System)?;
    logger::write(Level::Info, Message::Ready, &LogFields::default());
    let admin_address = admin_address.flatten();
    Ok(Running {
        edge,
        admin,
        writer,
        edge_address,
        admin_address,
        notice: notice(config, edge_address, admin_address).into(),
        stops,
        stop,
    })
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

    /// From now on SIGTERM and SIGINT are a reason to stop, and the second one ends the process
    /// at once.
    ///
    /// # Errors
    /// The operating system's, when it takes no more handlers.
    pub fn stop_on_signals(&self) -> io::Result<()> {
        let was_asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // In this order: the first signal finds the flag down and raises it.
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&was_asked))?;
            signal_hook::flag::register(signal, Arc::clone(&was_asked))?;
        }
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let stop = self.stop.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for _ in signals.forever() {
                    let _ = stop.send(Stop::Asked);
                }
            })?;
        Ok(())
    }

    /// Sleeps until there is a reason to stop.
    #[must_use]
    pub fn wait(&self) -> Stop {
        self.stops.recv().unwrap_or(Stop::Asked)
    }

    /// Serves every connection that was accepted or waits to be, then leaves. The last database
    /// connection that closes moves the log into the file; one that has failed is never closed,
    /// because that would write to it again.
    pub fn stop(self, why: &Stop) {
        logger::write(Level::Info, Message::Stopping, &LogFields::default());
        if let Stop::Broken(_) = why {
            std::mem::forget(self.writer);
        }
        self.edge.stop();
        if let Some(admin) = self.admin {
            admin.stop();
        }
        logger::write(Level::Info, Message::Stopped, &LogFields::default());
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

fn new_writer(store: Store, metrics: &Arc<Metrics>, stop: Sender<Stop>) -> Writer {
    let metrics = Arc::clone(metrics);
    let on_commit = move |deliveries| metrics.count_commit(deliveries);
    let on_broken = move |error: StoreError| {
        let error_code = Some(error.code());
        let fields = LogFields {
            error_code,
            ..LogFields::default()
        };
        logger::write(Level::Error, Message::StoreBroken, &fields);
        let _ = stop.send(Stop::Broken(error));
    };
    Writer::new(store, BATCH_MAX, on_commit, on_broken)
}

fn admin_app(writer: &Arc<Writer>, reader: Store, metrics: Arc<Metrics>) -> AdminApp {
    let writer = Arc::clone(writer);
    // A connection of its own: a scrape does not wait for a commit, nor a commit for a scrape.
    let reader = Mutex::new(reader);
    AdminApp {
        ready: Box::new(move || writer.probe(Now::read().unix).map_err(|error| error.code())),
        figures: Box::new(move || {
            let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.figures().ok()
        }),
        metrics,
    }
}

fn listen(variable: &'static str, address: &Address) -> Result<Socket, StartError> {
    let listener = match address {
        Address::Tcp(address) => edge::listen_tcp(*address),
        Address::Unix(path) => edge::listen_unix(path),
    };
    listener.map_err(|error| StartError::Listen(variable, address.clone(), error))
}

fn local_address(listener: &Socket) -> Option<SocketAddr> {
    listener.local_addr().ok()?.as_socket()
}
