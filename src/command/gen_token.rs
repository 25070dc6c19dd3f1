//! `paidup gen-token`.

use crate::command::exit::{Exit, Failure};
use crate::command::words::{Command, does};
use crate::http::gate;

pub(crate) const COMMAND: Command = Command {
    name: "gen-token",
    arguments: "",
    summary: "Make a token for API_TOKEN, or a password for PAGE_PASSWORD",
    details: "256 random bits in hexadecimal, from the operating system.",
    options: &[],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage],
    examples: &["paidup gen-token"],
    run: |_| {
        does(|_, out| {
            let token = gate::generate().map_err(|error| Failure::Other(error.to_string()))?;
            writeln!(out, "{token}")?;
            Ok(Exit::Done)
        })
    },
};
