//! `paidup api`.

use std::path::Path;

use crate::api::process;
use crate::command::environment::Environment;
use crate::command::exit::{Exit, Failure, tell};
use crate::command::serve::{begin, ended, not_started};
use crate::command::words::{Command, ENV_FILE, does};

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
    let (config, systemd) = begin(env_file, Environment::api, |it| {
        (&it.database, it.log_level)
    })?;
    let why = process::run(config, systemd, &|line| tell(&line)).map_err(not_started)?;
    ended(why)
}
