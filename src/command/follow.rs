//! `paidup orders follow`: each order as it changes, like `tail -f`.

use std::io::{self, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use crate::base::plain;
use crate::command::environment::Environment;
use crate::command::exit::{Exit, Failure};
use crate::command::orders::{amounts, tone};
use crate::command::screen::painted;
use crate::command::show::when;
use crate::command::words::{CliOption, Command, ENV_FILE, JSON_LINES, UsageError, Words, does};
use crate::host::clock::Now;
use crate::store::json::order_json;
use crate::store::{Changes, Store};

pub(crate) const COMMAND: Command = Command {
    name: "orders follow",
    arguments: "",
    summary: "Show each order as it changes, until its reader ends or Ctrl-C",
    details: "Begins now, or after a cursor: each line begins with one, and who is started again with the last\n\
              line's misses nothing. An order that changes twice between two looks is shown once, as it stands.\n\
              The server may be restarted meanwhile. Needs DATABASE_PATH alone.",
    options: &[
        CliOption {
            name: "cursor",
            value: "C",
            help: "go on after the line that began with it; 0 is the beginning",
        },
        JSON_LINES,
        ENV_FILE,
    ],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &[
        "paidup orders follow",
        "paidup orders follow --json --cursor 1882680512970752",
    ],
    run: |words| {
        let (cursor, json) = (cursor(words)?, words.has("json"));
        does(move |env_file, out| {
            follow(
                &Environment::read(env_file)?.store_to_read()?,
                cursor,
                json,
                out,
            )
        })
    },
};

/// How often it looks whether something has changed.
const LOOK: Duration = Duration::from_millis(200);

fn cursor(words: &Words) -> Result<Option<i64>, UsageError> {
    let Some(text) = words.value("cursor") else {
        return Ok(None);
    };
    let cursor = text.parse().ok().filter(|cursor| *cursor >= 0);
    let wrong = || words.error("--cursor is the number that an earlier line began with, or 0");
    cursor.map(Some).ok_or_else(wrong)
}

fn follow(
    store: &Store,
    cursor: Option<i64>,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let mut cursor = cursor.map_or_else(|| store.last_number(), Ok)?;
    let mut seen = None;
    loop {
        let version = Some(store.data_version()?);
        if version != seen {
            seen = version;
            cursor = catch_up(store, cursor, json, out)?;
        }
        if has_lost_its_reader() {
            return Ok(Exit::Done);
        }
    }
}

/// Shows what has changed, one at a time, so that each line has a cursor of its own.
fn catch_up(
    store: &Store,
    mut cursor: i64,
    json: bool,
    out: &mut dyn Write,
) -> Result<i64, Failure> {
    loop {
        let found = store.changes_after(cursor, 1, Now::read().unix, |_| true)?;
        let Some(found) = found else {
            return Err(Failure::Other(
                "--cursor is of a time that has not come by this machine's clock. Set the clock, or begin \
                 without a cursor."
                    .to_owned(),
            ));
        };
        cursor = found.cursor;
        if json {
            write_as_json(&found, out)?;
        } else {
            write_as_text(&found, out)?;
        }
        out.flush()?;
        if !found.has_more {
            return Ok(cursor);
        }
    }
}

fn write_as_json(found: &Changes, out: &mut dyn Write) -> Result<(), Failure> {
    let cursor = found.cursor.to_string();
    let mut lines = Vec::new();
    if found.is_reset {
        lines.push(json!({"cursor": "0", "reset": true}));
    }
    for gone in &found.gone {
        let gone = json!({"orderId": gone.name, "replacedBy": gone.became});
        lines.push(json!({"cursor": cursor, "gone": gone}));
    }
    for order in &found.orders {
        lines.push(json!({"cursor": cursor, "order": order_json(order, None)}));
    }
    for line in lines {
        writeln!(out, "{}", plain::json(&line.to_string()))?;
    }
    Ok(())
}

fn write_as_text(found: &Changes, out: &mut dyn Write) -> Result<(), Failure> {
    let cursor = found.cursor;
    if found.is_reset {
        writeln!(
            out,
            "0  the database is an older copy: everything follows again"
        )?;
    }
    for gone in &found.gone {
        let became = gone.became.as_deref().map(plain::text).unwrap_or_default();
        writeln!(out, "{cursor}  {} is now {became}", plain::text(&gone.name))?;
    }
    for order in &found.orders {
        let state = &order.state;
        let gap = 18_usize.saturating_sub(state.status.as_str().len());
        writeln!(
            out,
            "{cursor}  {}  {}{:gap$}  {}  {}",
            when(order.updated_at),
            painted(state.status.as_str(), tone(state.status)),
            "",
            plain::text(order.name.as_str()),
            amounts(state.amount, state.refunded, state.currency.as_deref())
        )?;
    }
    Ok(())
}

/// Waits for a moment, or until nobody reads standard output any more.
fn has_lost_its_reader() -> bool {
    let stdout = io::stdout();
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    let timeout = Timespec::try_from(LOOK).ok();
    let lost = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    match poll(&mut watched, timeout.as_ref()) {
        Ok(_) => watched.iter().any(|one| one.revents().intersects(lost)),
        Err(_) => false,
    }
}
