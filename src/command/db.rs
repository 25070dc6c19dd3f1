//! `paidup db`: is the database intact, what does it hold, and make room in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::base::id::UnixSeconds;
use crate::base::{plain, time};
use crate::command::backup;
use crate::command::environment::{Environment, at};
use crate::command::exit::{Exit, Failure};
use crate::command::finding::{self, Finding};
use crate::command::show::{counted, size, when};
use crate::command::words::{
    CliOption, Command, ENV_FILE, JSON, JSON_LINES, UsageError, Words, does,
};
use crate::host::clock::Now;
use crate::host::files;
use crate::store::{Chore, SCHEMA_VERSION, Store, StoreError};

pub(crate) const CHECK: Command = Command {
    name: "db check",
    arguments: "",
    summary: "Check the whole database: every page, and every order against its facts",
    details: "The server may run meanwhile. Reads all of the file.",
    options: &[JSON_LINES, ENV_FILE],
    exits: Exit::OF_CHECKS,
    examples: &["paidup db check"],
    run: |words| {
        let json = words.has("json");
        does(move |env_file, out| {
            let database = Environment::read(env_file)?.database()?;
            check(&database, Now::read().unix, json, out)
        })
    },
};

pub(crate) const INFO: Command = Command {
    name: "db info",
    arguments: "",
    summary: "Say what the database holds, and when it was last backed up and checked",
    details: "The server may run meanwhile.",
    options: &[JSON, ENV_FILE],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &["paidup db info", "paidup db info --json"],
    run: |words| {
        let json = words.has("json");
        does(move |env_file, out| info(&Environment::read(env_file)?.database()?, json, out))
    },
};

pub(crate) const PRUNE: Command = Command {
    name: "db prune",
    arguments: "",
    summary: "Remove old events from the ledger",
    details: "Orders, the facts about their payments, and their stories stay. A removed event that comes again\n\
              changes nothing. The server may run meanwhile. The file does not shrink: the space is reused for\n\
              new events.",
    options: &[
        CliOption {
            name: "older-than",
            value: "DAYS",
            help: "such as 90d; at least 35d, because Stripe may send events again for 30 days",
        },
        ENV_FILE,
    ],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &["paidup db prune --older-than 90d"],
    run: |words| {
        let days = older_than(words)?;
        does(move |env_file, out| {
            let database = Environment::read(env_file)?.database()?;
            prune(&database, days, Now::read().unix, out)
        })
    },
};

/// Events younger than this stay in the ledger. Stripe retries for three days and resends by hand
/// for up to 30 (<https://docs.stripe.com/webhooks>), so what is older does not come again.
const PRUNE_DAYS_MIN: u32 = 35;
/// How long the database is left to the server between two steps of pruning.
const PRUNE_PAUSE: Duration = Duration::from_millis(20);
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// `paidup db check`: SQLite's whole check, references, and every order against its facts. The
/// server may go on meanwhile.
///
/// # Errors
/// [`Failure`] when there is no database, it cannot be read, or the output not be written. That it
/// is damaged is no error but [`Exit::Problems`].
pub fn check(
    database: &Path,
    now: UnixSeconds,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let findings = match Store::open_query_only(database).and_then(|store| look_into(&store)) {
        Ok(findings) => findings,
        Err(
            error @ (StoreError::Corrupt
            | StoreError::NotOurs
            | StoreError::Unreadable
            | StoreError::Empty
            | StoreError::LoneLog),
        ) => vec![Finding::problem("file", error.at(database), "", "")],
        Err(error) => return Err(at(database)(error)),
    };
    finding::write(&findings, json, out)?;
    let exit = finding::exit(&findings);
    if exit == Exit::Done {
        Store::note_in(database, Chore::Check, now)?;
    }
    Ok(exit)
}

/// `paidup db info`: what the database holds, and when the chores were last done.
///
/// # Errors
/// [`Failure`] when the database cannot be read or the output not be written.
pub fn info(database: &Path, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let store = Store::open_query_only(database).map_err(at(database))?;
    let summary = store.summary()?;
    let noted = |chore| match summary.schema {
        SCHEMA_VERSION => store.noted(chore),
        // An older file may not have the table.
        _ => Ok(None),
    };
    let log = fs::metadata(files::beside(database, "-wal"));
    let (first, last) = summary.received.unzip();
    let info = Info {
        path: database.display().to_string(),
        schema: summary.schema,
        database_bytes: summary.database_bytes,
        free_bytes: summary.free_bytes,
        log_bytes: log.map_or(0, |log| i64::try_from(log.len()).unwrap_or(i64::MAX)),
        orders: summary
            .orders
            .iter()
            .map(|(status, count)| (status.as_str(), *count))
            .collect(),
        parked_payments: summary.parked,
        events: summary.events,
        first_received: first,
        last_received: last,
        last_backup: noted(Chore::Backup)?,
        last_check: noted(Chore::Check)?,
        last_prune: noted(Chore::Prune)?,
    };
    if json {
        let line = serde_json::to_string(&info).map_err(io::Error::from)?;
        writeln!(out, "{line}")?;
    } else {
        info.write(&backup::contents(&summary), out)?;
    }
    Ok(Exit::Done)
}

/// `paidup db prune`: removes events that came more than `days` (at least 35) ago from the ledger, in
/// small steps beside the server. Orders, their facts and their stories stay, and so do parked payments.
///
/// A removed event that comes again is joined to facts that include it already, so it changes nothing.
///
/// # Errors
/// [`Failure`] when the database refuses. What was removed before that stays removed.
pub fn prune(
    database: &Path,
    days: u32,
    now: UnixSeconds,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let mut store = Store::open_existing(database).map_err(at(database))?;
    let days = i64::from(days.max(PRUNE_DAYS_MIN));
    let before = UnixSeconds(now.0.saturating_sub(days * DAY_SECONDS));
    let (mut removed, mut from) = (0_u64, 0);
    loop {
        let batch = store.prune(from, before)?;
        removed += batch.removed;
        match batch.next {
            Some(next) => from = next,
            None => break,
        }
        if batch.removed > 0 {
            thread::sleep(PRUNE_PAUSE);
        }
    }
    store.note(Chore::Prune, now)?;
    let free = bytes(store.summary()?.free_bytes);
    let removed = counted(usize::try_from(removed).unwrap_or(usize::MAX), "event");
    writeln!(
        out,
        "Removed {removed} from before {}. Orders and their stories are as they were.",
        when(before)
    )?;
    writeln!(
        out,
        "{free} of the file is free for new ones; the file does not shrink."
    )?;
    Ok(Exit::Done)
}

fn older_than(words: &Words) -> Result<u32, UsageError> {
    let text = words.value("older-than").unwrap_or_default();
    let days = parse_days(text).filter(|days| *days >= PRUNE_DAYS_MIN);
    days.ok_or_else(|| {
        let text = plain::text(text);
        words.error(format!(
            "--older-than is a number of days such as 90d, at least {PRUNE_DAYS_MIN}d, not {text:?}"
        ))
    })
}

/// `90d` is 90 days.
fn parse_days(text: &str) -> Option<u32> {
    let digits = text.strip_suffix('d')?;
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| digits.parse().ok()).flatten()
}

fn look_into(store: &Store) -> Result<Vec<Finding>, StoreError> {
    const RESTORE: &str = "Stop the server and put the last good backup in its place: \
        `paidup restore FILE`. Then `paidup reconcile --since 30d`";
    let damage = store.damage()?;
    if !damage.is_empty() {
        let why = "Orders may be wrong, and writing to it may damage more.";
        let problem = |what| Finding::problem("file", what, why, RESTORE);
        return Ok(damage.into_iter().map(problem).collect());
    }
    let whole = "whole: every page, index and reference";
    let mut findings = vec![Finding::good("file", whole)];
    let why = "Whoever asks about this order gets an answer that Stripe did not give.";
    let problem = |what| Finding::problem("orders", what, why, RESTORE);
    match store.disagreements() {
        Ok(problems) => findings.extend(problems.into_iter().map(problem)),
        Err(StoreError::Older(schema)) => {
            let text = format!(
                "not compared: schema {schema} is brought up to date when the server starts"
            );
            findings.push(Finding::good("orders", text));
        }
        Err(error) => return Err(error),
    }
    if findings.len() == 1 {
        let orders: i64 = store.figures()?.orders.iter().map(|(_, count)| count).sum();
        findings.push(Finding::good(
            "orders",
            format!("{orders}, each as its facts say"),
        ));
    }
    Ok(findings)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    path: String,
    schema: i64,
    database_bytes: i64,
    free_bytes: i64,
    log_bytes: i64,
    orders: BTreeMap<&'static str, i64>,
    parked_payments: i64,
    events: i64,
    #[serde(serialize_with = "rfc3339")]
    first_received: Option<UnixSeconds>,
    #[serde(serialize_with = "rfc3339")]
    last_received: Option<UnixSeconds>,
    #[serde(serialize_with = "rfc3339")]
    last_backup: Option<UnixSeconds>,
    #[serde(serialize_with = "rfc3339")]
    last_check: Option<UnixSeconds>,
    #[serde(serialize_with = "rfc3339")]
    last_prune: Option<UnixSeconds>,
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn rfc3339<S: Serializer>(at: &Option<UnixSeconds>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(time::rfc3339).serialize(serializer)
}

impl Info {
    fn write(&self, contents: &str, out: &mut dyn Write) -> io::Result<()> {
        let [size, free, log] = [self.database_bytes, self.free_bytes, self.log_bytes].map(bytes);
        writeln!(out, "{}", self.path)?;
        writeln!(out, "  schema         {} of {SCHEMA_VERSION}", self.schema)?;
        writeln!(out, "  size           {size}, {free} of it free; log {log}")?;
        writeln!(out, "  holds          {contents}")?;
        for (status, count) in self.orders.iter().filter(|(_, count)| **count > 0) {
            writeln!(out, "    {status:<20} {count}")?;
        }
        writeln!(
            out,
            "    {:<20} {}",
            "parked payments", self.parked_payments
        )?;
        for (label, at) in [
            ("first event", self.first_received),
            ("last event", self.last_received),
            ("last backup", self.last_backup),
            ("last check", self.last_check),
            ("last pruning", self.last_prune),
        ] {
            let at = at.map_or_else(|| "never".to_owned(), when);
            writeln!(out, "  {label:<14} {at}")?;
        }
        Ok(())
    }
}

fn bytes(count: i64) -> String {
    size(u64::try_from(count).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_a_number_and_a_d() {
        for (text, days) in [
            ("90d", Some(90)),
            ("0d", Some(0)),
            ("90", None),
            ("d", None),
            ("-1d", None),
            ("+1d", None),
            ("9999999999d", None),
            ("90days", None),
        ] {
            assert_eq!(parse_days(text), days, "{text}");
        }
    }
}
