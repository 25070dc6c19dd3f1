//! What every server process shares: why it does not start, why it stops, and who asks it to.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::{Address, ConfigError};
use crate::host::logger;
use crate::host::systemd::Manager;

/// Why a server does not start. Its `Display` is for the operator.
#[derive(Debug)]
pub enum StartError {
    /// The database cannot be served: why, and what to do.
    Database(String),
    /// An address cannot be listened on: the variable, its value, and what the system says.
    Listen(&'static str, Address, io::Error),
    /// The limit on open files is too low for the pool: the limit, and what is needed.
    Descriptors(u64, u64),
    /// A variable turns out to be wrong once the database is open.
    Configuration(ConfigError),
    /// The operating system refuses threads, signals or random numbers.
    System(io::Error),
}

impl StartError {
    /// The database cannot be served, says its `error`.
    pub(crate) fn database(error: impl fmt::Display) -> StartError {
        StartError::Database(error.to_string())
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Database(text) => f.write_str(text),
            StartError::Listen(variable, address, error) => {
                write!(f, "{variable}: cannot listen on {address}: {error}. ")?;
                if error.kind() == io::ErrorKind::AddrInUse {
                    f.write_str("Is another paidup running? `ss -ltnp` shows who holds the port")
                } else {
                    write!(f, "Fix that, or choose another address in {variable}")
                }
            }
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

/// Why a server stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM or SIGINT, or the program that started it.
    Asked,
    /// The database has failed: why, and what to do. The process must end without touching it again.
    Broken(String),
    /// Nobody reads the log any more. Only another process gets a new reader.
    LogLost,
}

/// Where reasons to stop go and come from. A signal is one, and the loss of the log.
pub(crate) fn reasons_to_stop(
    manager: &Manager,
) -> Result<(Sender<Stop>, Receiver<Stop>), StartError> {
    let (stop, stops) = mpsc::channel();
    stop_on_signals(stop.clone()).map_err(StartError::System)?;
    stop_without_log(manager, stop.clone());
    Ok((stop, stops))
}

/// Sends [`Stop::Asked`] at the first SIGTERM or SIGINT. The second one ends the process at once.
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

/// Sends [`Stop::LogLost`] when the log's reader has gone. Not without a service manager: only that
/// starts us again, with a new log.
pub(crate) fn stop_without_log(manager: &Manager, stop: Sender<Stop>) {
    if manager.is_there() {
        logger::when_lost(move || {
            let _ = stop.send(Stop::LogLost);
        });
    }
}
