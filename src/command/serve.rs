//! `paidup serve`.

use std::io::{self, IsTerminal};
use std::path::Path;

use log::LevelFilter;

use crate::command::environment::{Environment, all_of, take_identity};
use crate::command::exit::{Exit, Failure, tell};
use crate::command::words::{Command, ENV_FILE, does};
use crate::config::ConfigError;
use crate::host::logger;
use crate::host::systemd::Systemd;
use crate::http::server::{StartError, Stop};
use crate::serve::process;

pub(crate) const COMMAND: Command = Command {
    name: "serve",
    arguments: "",
    summary: "Receive webhooks until SIGTERM or SIGINT",
    details: "Listens on LISTEN_ADDR for Stripe and on ADMIN_ADDR for this machine (health, metrics), keeps\n\
              orders in DATABASE_PATH, and logs one JSON line a request on stdout.",
    options: &[ENV_FILE],
    exits: Exit::OF_PROCESSES,
    examples: &["STRIPE_WEBHOOK_SECRET=whsec_... paidup serve"],
    run: |_| does(|env_file, _| run(env_file)),
};

fn run(env_file: Option<&Path>) -> Result<Exit, Failure> {
    let read = |environment: &Environment| {
        for problem in &environment.problems {
            tell(&format!("warning: {problem}"));
        }
        let config = environment.config()?;
        for warning in &config.warnings {
            tell(&format!("warning: {warning}"));
        }
        Ok(config)
    };
    let (config, systemd) = begin(env_file, read, |it| (&it.database, it.log_level))?;
    let running = process::start_under_manager(&config, systemd).map_err(not_started)?;
    tell(&running.notice());
    if io::stderr().is_terminal() {
        tell(&hint(env_file));
    }
    let why = running.wait();
    running.stop(&why);
    ended(why)
}

/// How every process begins that runs until it is stopped: its settings, its user, its log. `about` says
/// where the database is and what is logged.
pub(crate) fn begin<C>(
    env_file: Option<&Path>,
    read: impl FnOnce(&Environment) -> Result<C, Vec<ConfigError>>,
    about: fn(&C) -> (&Path, LevelFilter),
) -> Result<(C, Systemd), Failure> {
    let environment = Environment::read(env_file)?;
    // What the service manager gave us. First of all: there must not be another thread yet.
    let systemd =
        Systemd::take(&environment.vars).map_err(|error| Failure::Other(error.to_string()))?;
    let config = read(&environment).map_err(|errors| all_of(&errors))?;
    let (database, log_level) = about(&config);
    take_identity(database)?;
    logger::start(log_level).map_err(|error| not_started(StartError::System(error)))?;
    Ok((config, systemd))
}

/// For who has just typed it: what this is, and what to do next.
fn hint(env_file: Option<&Path>) -> String {
    let (file, here) = match env_file {
        Some(file) => (format!(" --env-file {}", file.display()), ""),
        None => (String::new(), " with the same variables"),
    };
    format!(
        "It waits for Stripe's webhooks and logs one JSON line a request here, until Ctrl-C.\n\
         Next, in another terminal{here}: `paidup send-test{file}` sends a signed order, \
         `paidup orders list{file}` shows it."
    )
}

/// How the process ends that could not start.
pub(crate) fn not_started(error: StartError) -> Failure {
    match error {
        StartError::Configuration(error) => all_of(&[error]),
        StartError::Database(_)
        | StartError::Listen(..)
        | StartError::Descriptors(..)
        | StartError::System(_) => Failure::Other(error.to_string()),
    }
}

/// How the process ends that was stopped for that reason.
pub(crate) fn ended(why: Stop) -> Result<Exit, Failure> {
    match why {
        Stop::Asked => Ok(Exit::Done),
        Stop::Broken(error) => Err(Failure::Other(error)),
        Stop::LogLost => Err(Failure::LogLost),
    }
}
