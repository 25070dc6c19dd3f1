//! `paidup orders export`: every movement of money, for the bookkeeper.

use std::io::Write;

use serde::Serialize;

use crate::base::id::StripeId;
use crate::base::time;
use crate::command::csv;
use crate::command::environment::Environment;
use crate::command::exit::{Exit, Failure};
use crate::command::show::write_json;
use crate::command::wanted::{self, Asked};
use crate::command::words::{CliOption, Command, ENV_FILE, JSON_LINES, UsageError, Words, does};
use crate::host::clock::Now;
use crate::host::zone::Zone;
use crate::store::{Cursor, Entry, Store, StoredOrder, Wanted};
use crate::truth::money::{self, Move};
use crate::truth::order::Flag;

pub(crate) const CSV: CliOption = CliOption {
    name: "csv",
    value: "",
    help: "comma-separated values for a spreadsheet",
};

pub(crate) const COMMAND: Command = Command {
    name: "orders export",
    arguments: "",
    summary: "Write every movement of money, for the bookkeeper",
    details: "One row for what was taken, for each refund and for each lost dispute, with its time by Stripe, in\n\
              the order in which paidup heard of the orders. What goes back is negative: the amounts of a month\n\
              add up to what `paidup report` says was kept. A refund that failed has two rows. An order whose\n\
              money has not moved has one of kind none, with the time of its first event. --since and --until\n\
              are of a row's time, so a late refund is in the month in which it was made. Begins again after\n\
              the cursor at the end of a row. Needs DATABASE_PATH alone; the server may run meanwhile.",
    options: &[
        CSV,
        wanted::SINCE,
        wanted::UNTIL,
        wanted::STATUS,
        wanted::FLAGGED,
        wanted::NAME,
        CliOption {
            name: "after",
            value: "CURSOR",
            help: "go on after the row that ended with it",
        },
        JSON_LINES,
        ENV_FILE,
    ],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &["paidup orders export --csv --since 2026-11 --until 2026-11"],
    run: |words| {
        let (asked, after, json) = (Asked::read(words)?, after(words)?, words.has("json"));
        if json && words.has(CSV.name) {
            return Err(words.error("either --csv or --json"));
        }
        does(move |env_file, out| {
            let environment = Environment::read(env_file)?;
            let zone = environment.zone();
            let wanted = asked.wanted(&zone, Now::read().unix);
            let form = if json { Form::Json } else { Form::Csv(zone) };
            export(&environment.store_to_read()?, &wanted, after, &form, out)
        })
    },
};

fn after(words: &Words) -> Result<Cursor, UsageError> {
    let Some(text) = words.value("after") else {
        return Ok(Cursor::default());
    };
    let wrong = || words.error("--after is the cursor at the end of a row, such as 17.1");
    Cursor::parse(text).ok_or_else(wrong)
}

enum Form {
    Csv(Zone),
    Json,
}

/// In pages: while a slow reader makes it wait, the database is not held.
fn export(
    store: &Store,
    wanted: &Wanted,
    mut after: Cursor,
    form: &Form,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    if let Form::Csv(_) = form {
        csv::write_row(&HEADINGS, out)?;
    }
    loop {
        let (orders, next) = store.movements(wanted, after)?;
        for moved in &orders {
            for entry in &moved.entries {
                match form {
                    Form::Csv(zone) => write_entry(&moved.order, entry, zone, out)?,
                    Form::Json => write_json(&EntryJson::new(&moved.order, entry), out)?,
                }
            }
        }
        let Some(next) = next else {
            return Ok(Exit::Done);
        };
        after = next;
    }
}

const HEADINGS: [&str; 13] = [
    "date",
    "time",
    "orderId",
    "kind",
    "amount",
    "currency",
    "amountMinor",
    "status",
    "flags",
    "stripeObjectId",
    "stripeSessionId",
    "stripePaymentIntentId",
    "cursor",
];

fn write_entry(
    order: &StoredOrder,
    entry: &Entry,
    zone: &Zone,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let state = &order.state;
    let minor = signed(entry);
    let currency = entry.currency.as_deref().unwrap_or_default();
    let row = [
        zone.date(entry.at).to_string(),
        zone.rfc3339(entry.at),
        csv::text(order.name.as_str()),
        kind(entry).to_owned(),
        money::decimal(minor, currency),
        currency.to_ascii_uppercase(),
        minor.to_string(),
        state.status.as_str().to_owned(),
        Flag::join_list(&state.flags).replace(',', " "),
        csv::text(entry.object.as_ref().map_or("", |id| id.as_str())),
        csv::text(state.session.as_ref().map_or("", |id| id.as_str())),
        csv::text(state.intent.as_ref().map_or("", |id| id.as_str())),
        entry.cursor.to_string(),
    ];
    csv::write_row(&row.each_ref().map(String::as_str), out)?;
    Ok(())
}

fn kind(entry: &Entry) -> &'static str {
    entry.way.map_or("none", Move::as_str)
}

/// What the movement adds to what the shop keeps.
fn signed(entry: &Entry) -> i64 {
    match entry.way {
        Some(Move::Refunded | Move::Lost) => -entry.minor,
        Some(Move::Taken) | None => entry.minor,
    }
}

/// A row for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryJson<'a> {
    at: String,
    order_id: &'a str,
    kind: &'static str,
    amount: i64,
    currency: Option<&'a str>,
    status: &'static str,
    flags: Vec<&'static str>,
    stripe_object_id: Option<&'a str>,
    stripe_session_id: Option<&'a str>,
    stripe_payment_intent_id: Option<&'a str>,
    cursor: String,
}

impl<'a> EntryJson<'a> {
    fn new(order: &'a StoredOrder, entry: &'a Entry) -> EntryJson<'a> {
        let state = &order.state;
        EntryJson {
            at: time::rfc3339(entry.at),
            order_id: order.name.as_str(),
            kind: kind(entry),
            amount: signed(entry),
            currency: entry.currency.as_deref(),
            status: state.status.as_str(),
            flags: state.flags.iter().map(|flag| flag.as_str()).collect(),
            stripe_object_id: entry.object.as_ref().map(StripeId::as_str),
            stripe_session_id: state.session.as_ref().map(StripeId::as_str),
            stripe_payment_intent_id: state.intent.as_ref().map(StripeId::as_str),
            cursor: entry.cursor.to_string(),
        }
    }
}
