//! `paidup gen-token`.

use crate::api::token;
use crate::command::exit::{Exit, Failure};
use crate::command::words::{Command, does};

pub(crate) const COMMAND: Command = Command {
    name: "gen-token",
    arguments: "",
    summary: "Make a token for API_TOKEN",
    details: "256 random bits in hexadecimal, from the operating system.",
    options: &[],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage],
    examples: &["paidup gen-token"],
    run: |_| {
        does(|_, out| {
            let token = token::generate().map_err(|error| Failure::Other(error.to_string()))?;
            writeln!(out, "{token}")?;
            Ok(Exit::Done)
        })
    },
};
