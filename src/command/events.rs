//! `paidup events`: lists what Stripe has sent, and tells what came of one event.

use std::io::{self, Write};

use serde::Serialize;

use crate::base::{plain, time};
use crate::command::environment::Environment;
use crate::command::exit::{Exit, Failure};
use crate::command::orders::no_order;
use crate::command::show::{cut, pasted, when, write_has_more, write_json, write_table};
use crate::command::words::{CliOption, Command, ENV_FILE, JSON, JSON_LINES, LIMIT, does};
use crate::store::{Store, StoredEvent};

pub(crate) const LIST: Command = Command {
    name: "events list",
    arguments: "",
    summary: "List the events that Stripe has sent",
    details: "Needs DATABASE_PATH alone; the server may run meanwhile.",
    options: &[
        CliOption {
            name: "order",
            value: "ID",
            help: "only events of this order",
        },
        LIMIT,
        JSON_LINES,
        ENV_FILE,
    ],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &["paidup events list --order ord_1001"],
    run: |words| {
        let order = words.value("order").map(str::to_owned);
        let (limit, json) = (words.limit()?, words.has("json"));
        does(move |env_file, out| {
            let store = Environment::read(env_file)?.store_to_read()?;
            list(&store, order.as_deref(), limit, json, out)
        })
    },
};

pub(crate) const SHOW: Command = Command {
    name: "events show",
    arguments: "ID",
    summary: "Tell what came of one event",
    details: "ID is the event's id (evt_...), as in the log and in the Dashboard.",
    options: &[JSON, ENV_FILE],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &["paidup events show evt_1j0WIj3KHY7pQ2eZvKY9LEnEDln"],
    run: |words| {
        let (id, json) = (words.argument()?, words.has("json"));
        does(move |env_file, out| {
            show(
                &Environment::read(env_file)?.store_to_read()?,
                &id,
                json,
                out,
            )
        })
    },
};

/// Newest arrival first, at most `limit`; only those of the order `of`.
///
/// # Errors
/// [`Failure`] when the database cannot be read, has no such order, or the output cannot be written.
pub(crate) fn list(
    store: &Store,
    of: Option<&str>,
    limit: u32,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let order = match of {
        Some(id) => match store.order(id)? {
            Some(order) => Some(order),
            None => return Err(no_order(id, store)?),
        },
        None => None,
    };
    let mut events = store.events(order.as_ref(), limit.saturating_add(1))?;
    let has_more = cut(&mut events, limit);
    if json {
        for event in &events {
            write_json(&EventJson::new(event), out)?;
        }
        return Ok(Exit::Done);
    }
    let rows = events.iter().map(|event| {
        [
            when(event.received_at),
            plain::text(&event.kind),
            outcome_words(event),
            event.order.as_deref().map(plain::text).unwrap_or_default(),
            event.id.clone(),
        ]
    });
    write_table(
        ["RECEIVED", "TYPE", "OUTCOME", "ORDER", "EVENT"],
        rows.collect(),
        out,
    )?;
    match (events.is_empty(), order) {
        (true, None) => writeln!(
            out,
            "No event has come yet. `paidup send-test` sends one for a test."
        )?,
        (true, Some(_)) => writeln!(
            out,
            "None of its events is in the ledger. Were old ones removed? `paidup help db prune`"
        )?,
        (false, _) => {}
    }
    write_has_more(has_more, out)?;
    Ok(Exit::Done)
}

/// # Errors
/// [`Failure`] when the database cannot be read, has no such event, or the output cannot be written.
pub(crate) fn show(
    store: &Store,
    id: &str,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let Some(event) = store.event(id)? else {
        if store.order(id)?.is_some() {
            let id = pasted(id);
            return Err(Failure::Other(format!(
                "{id} is an order or belongs to one, and is no event: `paidup orders show {id}` tells its story, \
                 `paidup events list --order {id}` its events."
            )));
        }
        return Err(Failure::Other(format!(
            "There is no event {:?}. Either it never arrived or it was refused: look for 400, 429 and 503 in \
             Dashboard → Webhooks → your endpoint, and in the log.\n`paidup events list` shows what arrived.",
            plain::text(id)
        )));
    };
    if json {
        write_json(&EventJson::new(&event), out)?;
    } else {
        write_event(&event, out)?;
    }
    Ok(Exit::Done)
}

fn write_event(event: &StoredEvent, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "Event {} is {}",
        plain::text(&event.id),
        plain::text(&event.kind)
    )?;
    let order = event.order.as_deref().map(plain::text);
    let created = event.created.map(|at| format!("{}, by Stripe", when(at)));
    for (label, value) in [
        ("about", event.object.as_deref().map(plain::text)),
        ("order", order),
        ("created", created),
        ("received", Some(when(event.received_at))),
        ("request", event.request_id.as_deref().map(plain::text)),
        ("sha256", Some(event.sha256.clone())),
    ] {
        if let Some(value) = value {
            writeln!(out, "  {label:<8} {value}")?;
        }
    }
    writeln!(
        out,
        "  {}: {}",
        outcome_words(event),
        outcome_meaning(event)
    )
}

fn outcome_words(event: &StoredEvent) -> String {
    match &event.reason {
        Some(reason) => format!("{} ({})", plain::text(&event.outcome), plain::text(reason)),
        None => plain::text(&event.outcome),
    }
}

/// What came of an event. The words are those of `Outcome` and `Ignored`, as the ledger has them.
fn outcome_meaning(event: &StoredEvent) -> &'static str {
    match (event.outcome.as_str(), event.reason.as_deref()) {
        ("applied", _) => "it told something new about the order.",
        ("duplicate", _) => {
            "another event had said the same before, so nothing changed. Stripe does that."
        }
        ("parked", _) if event.order.is_some() => {
            "its order was not known when it came; it has been joined since."
        }
        ("parked", _) => {
            "its order is not known yet. It is joined when an event names both: check that \
             checkout.session.completed is subscribed to and carries client_reference_id."
        }
        ("ignored", Some("account")) => {
            "it belongs to a connected account, and paidup serves one shop, not a platform."
        }
        ("ignored", Some("thin")) => {
            "it is a thin event, without an object. The destination must send snapshots: \
             Dashboard → Webhooks → your endpoint."
        }
        ("ignored", Some("mode")) => "it is not of the database's mode.",
        ("ignored", Some("no_sale")) => {
            "it sells nothing: a session that only saves a card, or an invoice of zero."
        }
        ("ignored", Some("other_shop")) => {
            "it belongs to another shop on the same account: OUR_ORDERS says which orders are ours."
        }
        ("ignored", _) => "events of this type say nothing about orders.",
        _ => "a newer paidup knows what this means.",
    }
}

/// An event for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventJson<'a> {
    event_id: &'a str,
    event_type: &'a str,
    created_at: Option<String>,
    received_at: String,
    object_id: Option<&'a str>,
    order_id: Option<&'a str>,
    outcome: &'a str,
    reason: Option<&'a str>,
    request_id: Option<&'a str>,
    sha256: &'a str,
}

impl<'a> EventJson<'a> {
    fn new(event: &'a StoredEvent) -> EventJson<'a> {
        EventJson {
            event_id: &event.id,
            event_type: &event.kind,
            created_at: event.created.map(time::rfc3339),
            received_at: time::rfc3339(event.received_at),
            object_id: event.object.as_deref(),
            order_id: event.order.as_deref(),
            outcome: &event.outcome,
            reason: event.reason.as_deref(),
            request_id: event.request_id.as_deref(),
            sha256: &event.sha256,
        }
    }
}
