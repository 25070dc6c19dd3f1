//! How a command ends, and what the operator is told.

use std::fmt::{self, Display};
use std::io::{self, Write};
use std::sync::mpsc;
use std::thread;

use crate::command::screen::for_stderr;
use crate::host::logger;
use crate::store::StoreError;
use crate::stripe::error::StripeError;
use crate::stripe::fetch::FetchError;

/// The exit codes, the same for every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// It failed, or did not go as expected.
    Failed,
    /// The command line is wrong.
    Usage,
    /// It was done, and found problems.
    Problems,
    /// The log is lost; the next process gets a new one: `EX_IOERR`.
    LogLost,
    /// The configuration is wrong: `EX_CONFIG` of
    /// <https://man.freebsd.org/cgi/man.cgi?query=sysexits>. systemd restarts the server all the same.
    Configuration,
}

impl Exit {
    /// How the processes end that run until they are stopped.
    pub(crate) const OF_PROCESSES: &[Exit] = &[
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::LogLost,
        Exit::Configuration,
    ];
    /// How the commands end that look for problems.
    pub(crate) const OF_CHECKS: &[Exit] = &[
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::Problems,
        Exit::Configuration,
    ];

    /// The number that the shell sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Problems => 3,
            Exit::LogLost => 74,
            Exit::Configuration => 78,
        }
    }

    /// What it means, in a few words.
    #[must_use]
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Failed => "failed, or not as expected",
            Exit::Usage => "the command line is wrong",
            Exit::Problems => "done, and problems were found",
            Exit::LogLost => "the log is lost; a restart opens a new one",
            Exit::Configuration => "the configuration is wrong",
        }
    }
}

/// Why a command did not finish. Its `Display` is for the operator.
#[derive(Debug)]
pub enum Failure {
    /// The output could not be written.
    Output(io::Error),
    /// The database could not be used.
    Store(StoreError),
    /// The configuration is wrong: what, why and what to do.
    Configuration(String),
    /// Stripe could not be asked.
    Stripe(StripeError),
    /// The server has lost its log, and must be restarted.
    LogLost,
    /// Anything else: what happened and what to do.
    Other(String),
}

impl Failure {
    /// The exit code that goes with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            // The reader of the output (`| head -1`) has all it wanted.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Failure::Output(_) | Failure::Store(_) | Failure::Stripe(_) | Failure::Other(_) => {
                Exit::Failed
            }
            Failure::LogLost => Exit::LogLost,
            Failure::Configuration(_) => Exit::Configuration,
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Output(error) => write!(f, "the output cannot be written: {error}"),
            Failure::Store(error) => write!(f, "{error}"),
            Failure::Stripe(error) => write!(f, "{error}"),
            Failure::LogLost => f.write_str(
                "the log cannot be written: its reader has gone, or has not read for minutes. This process exits so \
                 that the next one gets a new log. If it happens again, look at \
                 `systemctl status systemd-journald@paidup.service`",
            ),
            Failure::Configuration(text) | Failure::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Failure {
        match error {
            FetchError::Store(error) => Failure::Store(error),
            FetchError::Stripe(error) => Failure::Stripe(error),
            FetchError::TooManyPayments(_) => Failure::Other(error.to_string()),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store(error)
    }
}

/// Tells the operator on stderr. When that is closed, or nobody reads it, the command goes on all the same.
pub fn tell(text: &dyn Display) {
    let text = for_stderr(&format!("{text}\n"));
    let (told, is_told) = mpsc::channel();
    let write = move || {
        let _ = io::stderr().write_all(text.as_bytes());
        let _ = told.send(());
    };
    if thread::Builder::new().spawn(write).is_ok() {
        let _ = is_told.recv_timeout(logger::END_PATIENCE);
    }
}
