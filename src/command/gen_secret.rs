//! `paidup gen-secret`.

use crate::base::webhook_key::WebhookKey;
use crate::command::exit::{Exit, Failure};
use crate::command::words::{Command, does};

pub(crate) const COMMAND: Command = Command {
    name: "gen-secret",
    arguments: "",
    summary: "Make a secret for NOTIFY_SECRET",
    details: "256 random bits from the operating system, as Standard Webhooks writes them: whsec_ and base64.",
    options: &[],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage],
    examples: &["paidup gen-secret"],
    run: |_| {
        does(|_, out| {
            let secret =
                WebhookKey::generate().map_err(|error| Failure::Other(error.to_string()))?;
            writeln!(out, "{}", secret.expose())?;
            Ok(Exit::Done)
        })
    },
};
