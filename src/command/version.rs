//! `paidup version`.

use crate::command::exit::Exit;
use crate::command::words::{Command, does};

pub(crate) const COMMAND: Command = Command {
    name: "version",
    arguments: "",
    summary: "Print the version",
    details: "",
    options: &[],
    exits: &[Exit::Done, Exit::Usage],
    examples: &["paidup version"],
    run: |_| {
        does(|_, out| {
            writeln!(out, "paidup {}", env!("CARGO_PKG_VERSION"))?;
            Ok(Exit::Done)
        })
    },
};
