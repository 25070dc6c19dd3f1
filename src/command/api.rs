//! `paidup api`.

use std::path::Path;

use crate::api::process;
use crate::command::environment::{Environment, all_of, take_identity};
use crate::command::exit::{Exit, Failure, tell};
use crate::command::serve::{ended, no_thread, take_systemd};
use crate::command::words::{Command, ENV_FILE, does};
use crate::host::logger;
use crate::http::server::StartError;

pub(crate) const COMMAND: Command = Command {
    name: "api",
    arguments: "",
    summary: "Answer the shop's own back end: make orders, tell how they stand",
    details: "POST /orders makes an order with a Stripe Checkout Session, GET /orders/{id} tells how it stands,\n\
              GET /orders what has changed. Listens on API_ADDR, for this machine alone. Needs API_TOKEN,\n\
              STRIPE_SECRET_KEY (a restricted key with Checkout Sessions: Write is enough to make orders)\n\
              and the database of `paidup serve`.",
    options: &[ENV_FILE],
    exits: Exit::OF_PROCESSES,
    examples: &["paidup api --env-file /etc/paidup/paidup.env"],
    run: |_| does(|env_file, _| run(env_file)),
};

fn run(env_file: Option<&Path>) -> Result<Exit, Failure> {
    let environment = Environment::read(env_file)?;
    let systemd = take_systemd(&environment)?;
    let config = environment.api().map_err(|errors| all_of(&errors))?;
    take_identity(&config.database)?;
    logger::start(config.log_level).map_err(no_thread)?;
    let why = process::run(config, systemd, &|line| tell(&line)).map_err(|error| match error {
        StartError::Configuration(error) => all_of(&[error]),
        StartError::Database(_)
        | StartError::Listen(..)
        | StartError::Descriptors(..)
        | StartError::System(_) => Failure::Other(error.to_string()),
    })?;
    ended(why)
}
