//! How a command ends.

use std::fmt;
use std::io;

use crate::base::log_line::ErrorCode;
use crate::store::StoreError;
use crate::stripe::error::StripeError;

/// The exit codes, the same for every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// It could not be done, or did not go as expected.
    Failed,
    /// The words make no command.
    Usage,
    /// It was done, and what it looked at has problems.
    Problems,
    /// The log is lost, and another process gets a new one: `EX_IOERR`.
    LogLost,
    /// The configuration is wrong: `EX_CONFIG` of
    /// <https://man.freebsd.org/cgi/man.cgi?query=sysexits>. systemd tries again all the same.
    Configuration,
}

impl Exit {
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
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Failed => "failed, or not as expected",
            Exit::Usage => "wrong words or options",
            Exit::Problems => "done, and problems were found",
            Exit::LogLost => "the log is lost; started again it has a new one",
            Exit::Configuration => "the configuration is wrong",
        }
    }
}

/// Why a command did not come to its end. Its `Display` is for the operator.
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
    /// The server has no log any more, and is to be started again.
    LogLost,
    /// Anything else: what happened and what to do.
    Other(String),
}

impl Failure {
    /// The code in the log, where there is one.
    #[must_use]
    pub fn error_code(&self) -> Option<ErrorCode> {
        match self {
            Failure::Store(error) => Some(error.code()),
            Failure::Stripe(error) => Some(error.error_code()),
            Failure::Output(_)
            | Failure::LogLost
            | Failure::Configuration(_)
            | Failure::Other(_) => None,
        }
    }

    /// The exit code that goes with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            // Whoever reads the output (`| head -1`) has what it wanted.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Failure::Output(_) | Failure::Store(_) | Failure::Stripe(_) | Failure::Other(_) => {
                Exit::Failed
            }
            Failure::LogLost => Exit::LogLost,
            Failure::Configuration(_) => Exit::Configuration,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Output(error) => write!(f, "the output cannot be written: {error}"),
            Failure::Store(error) => write!(f, "{error}"),
            Failure::Stripe(error) => write!(f, "{error}"),
            Failure::LogLost => f.write_str(
                "the log cannot be written: whoever read it has gone, or has stood still for minutes. This \
                 process leaves, so that the next one gets a new log. If that comes again, look at \
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

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store(error)
    }
}
