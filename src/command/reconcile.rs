//! `paidup reconcile`: fetches from Stripe what deliveries did not bring, and passes it through the
//! very path of a delivery.
//!
//! Nothing here decides what an event means: [`Event`] reads it, [`Store::record`] joins it, and
//! joining is safe to repeat. So a run that is cut off is repeated, and a server may run beside it.

use std::io::{self, IsTerminal, Write};
use std::ops::RangeInclusive;
use std::path::Path;

use serde_json::json;

use crate::base::id::{StripeId, UnixSeconds};
use crate::base::plain;
use crate::command::environment::{Environment, all_of};
use crate::command::exit::{Exit, Failure};
use crate::command::finding::{self, Finding};
use crate::command::show::counted;
use crate::command::words::{
    CliOption, Command, DRY_RUN, ENV_FILE, JSON_LINES, UsageError, Words, does,
};
use crate::host::clock::Now;
use crate::store::{Store, StoreError};
use crate::stripe::client::{EventsQuery, Page, StripeApi, TYPES_MAX};
use crate::stripe::error::StripeError;
use crate::stripe::fetch::{self, Context, PAYMENTS_MAX, deliveries, delivery, flag_of, patiently};
use crate::stripe::fetched::Fetched;
use crate::truth::delivery::{Delivery, Outcome, Receipt};
use crate::truth::event::{Event, Meaning};
use crate::truth::kind::listable;

/// What to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How far back, in seconds; Stripe has 30 days.
    pub since_seconds: i64,
    /// Only events that Stripe could not deliver to some endpoint.
    pub undelivered: bool,
    /// Not events, but the objects of this one order.
    pub order: Option<String>,
    /// Say what would be done, and store nothing.
    pub dry_run: bool,
    /// One JSON object a line, for each event or object that was fetched and each finding.
    pub json: bool,
}

/// [`Context::tries`] of a command, beside the client's own retries.
pub const TRIES: u32 = 5;

/// How far back `--since` may go: Stripe keeps events for 30 days.
const SINCE_RANGE: RangeInclusive<i64> = 60..=30 * 24 * 3600;

pub(crate) const COMMAND: Command = Command {
    name: "reconcile",
    arguments: "",
    summary: "Fetch from Stripe what deliveries did not bring",
    details: "What is missing takes the same path as a delivery: safe beside a running server, and safe to\n\
              repeat, also after a run that was cut off. Needs STRIPE_SECRET_KEY; a restricted key with\n\
              Events: Read is enough, with --order also Checkout Sessions, PaymentIntents, Charges and\n\
              Refunds, Disputes, Invoices, Reviews: Read. What Stripe refuses is told, the rest is stored.",
    options: &[
        CliOption {
            name: "since",
            value: "TIME",
            help: "how far back: 90m, 12h or 3d; 3d unless given, 30d at most",
        },
        CliOption {
            name: "undelivered",
            value: "",
            help: "only events that Stripe could not deliver",
        },
        CliOption {
            name: "order",
            value: "ID",
            help: "not events but the objects of one order, by its id or that of any of its Stripe\nobjects: also repairs what was never subscribed to",
        },
        DRY_RUN,
        JSON_LINES,
        ENV_FILE,
    ],
    exits: Exit::OF_CHECKS,
    examples: &[
        "paidup reconcile --since 3d --dry-run",
        "paidup reconcile --order ord_1001",
    ],
    run: |words| {
        let options = Options::read(words)?;
        does(move |env_file, out| run_alone(&options, env_file, out))
    },
};

impl Options {
    fn read(words: &Words) -> Result<Options, UsageError> {
        Ok(Options {
            since_seconds: since(words)?,
            undelivered: words.has("undelivered"),
            order: words.value("order").map(str::to_owned),
            dry_run: words.has("dry-run"),
            json: words.has("json"),
        })
    }
}

/// `90m`, `12h` or `3d`, in seconds.
pub(crate) fn since(words: &Words) -> Result<i64, UsageError> {
    let text = words.value("since").unwrap_or("3d");
    let unit = match text.chars().last() {
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 24 * 3600,
        Some(_) | None => 0,
    };
    let number = text.get(..text.len().saturating_sub(1)).unwrap_or_default();
    let seconds = number
        .parse::<i64>()
        .ok()
        .and_then(|number| number.checked_mul(unit));
    seconds
        .filter(|seconds| SINCE_RANGE.contains(seconds))
        .ok_or_else(|| {
            let text = plain::text(text);
            words.error(format!("--since is 1m to 30d, such as 12h, not {text:?}"))
        })
}

/// With Stripe, the database and the terminal of a command.
fn run_alone(
    options: &Options,
    env_file: Option<&Path>,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let environment = Environment::read(env_file)?;
    let settings = environment.stripe()?;
    let path = environment.database()?;
    let mut store = Store::open_existing(&path)?;
    let settings = settings
        .for_database(store.mode()?)
        .map_err(|error| all_of(&[error]))?;
    let api = StripeApi::new(&settings).map_err(|error| all_of(&[error]))?;
    let mut progress: Box<dyn Write> = if io::stderr().is_terminal() {
        Box::new(io::stderr())
    } else {
        Box::new(io::sink())
    };
    let mut context = Context {
        api: &api,
        store: &mut store,
        reading: &settings.reading,
        now: Now::read().unix,
        tries: TRIES,
        progress: &mut progress,
    };
    run(options, &mut context, out)
}

/// Does what `options` say and writes what came of it to `out`.
///
/// # Errors
/// [`Failure`] when Stripe or the database cannot be asked. What was stored before stays, and the
/// same command goes on from there.
pub fn run(
    options: &Options,
    context: &mut Context<'_>,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    match &options.order {
        Some(order) => repair(order, options, context, out),
        None => fetch_events(options, context, out),
    }
}

/// Counts of one run.
#[derive(Default)]
struct Tally {
    read: usize,
    known: usize,
    fetched: usize,
    unreadable: usize,
    changed: usize,
}

fn fetch_events(
    options: &Options,
    context: &mut Context<'_>,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let mut tally = Tally::default();
    for types in listable().chunks(TYPES_MAX) {
        fetch_types(types, options, context, &mut tally, out)?;
    }
    let _ = writeln!(context.progress);
    if !options.json {
        summary(options, &tally, out)?;
    }
    Ok(if tally.unreadable > 0 {
        Exit::Problems
    } else {
        Exit::Done
    })
}

/// Those of some types, of which one question may name at most [`TYPES_MAX`].
fn fetch_types(
    types: &[&str],
    options: &Options,
    context: &mut Context<'_>,
    tally: &mut Tally,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut last: Option<StripeId> = None;
    loop {
        let query = EventsQuery {
            types,
            created_from: Some(UnixSeconds(context.now.0 - options.since_seconds)),
            delivery_success: options.undelivered.then_some(false),
            starting_after: last.as_ref(),
        };
        let page = patiently(context, |api| api.events(&query)).map_err(Failure::Stripe)?;
        tally.read += page.data.len();
        let missing = missing(&page, context, tally)?;
        let receipts = store(options.dry_run, context.store, &missing)?;
        // What is said now takes the line of the progress.
        let _ = write!(context.progress, "\r\u{1b}[K");
        report(options, &missing, receipts, tally, out)?;
        let _ = write!(
            context.progress,
            "{} read, {} fetched ",
            counted(tally.read, "event"),
            tally.fetched
        );
        last = page.data.last().map(|event| event.id.clone());
        if !page.has_more || last.is_none() {
            return Ok(());
        }
    }
}

/// The events of a page that the ledger does not have, or only as ignored.
fn missing(
    page: &Page<Fetched>,
    context: &Context<'_>,
    tally: &mut Tally,
) -> Result<Vec<Delivery>, Failure> {
    let mut missing = Vec::new();
    for listed in &page.data {
        let Ok(event) = Event::from_json(listed.json(), context.reading) else {
            tally.unreadable += 1;
            continue;
        };
        let known = context
            .store
            .event(event.id.as_str())
            .map_err(Failure::Store)?;
        let is_known = known.is_some_and(|known| {
            known.outcome != "ignored" || matches!(event.meaning, Meaning::Ignored(_))
        });
        if is_known {
            tally.known += 1;
        } else {
            missing.push(delivery(event, listed.json(), context.now));
        }
    }
    Ok(missing)
}

/// Fetches the objects of one order, and stores what they tell if that changes the order.
fn repair(
    order: &str,
    options: &Options,
    context: &mut Context<'_>,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let walk = fetch::objects(order, context)?;
    if walk.objects.is_empty() {
        return Err(Failure::Other(format!(
            "No order and no Stripe object that could be asked for is called {}. Give the order's id, or \
             the id of its session (cs_…), payment (pi_…), invoice (in_…), charge (ch_…, py_…), refund \
             (re_…) or dispute (du_…) from the Dashboard.",
            plain::text(order)
        )));
    }
    let deliveries = deliveries(&walk.objects, context);
    let changes = context.store.would_change(&deliveries)?;
    if changes {
        let receipts = store(options.dry_run, context.store, &deliveries)?;
        report(options, &deliveries, receipts, &mut Tally::default(), out)?;
    }
    let mut findings: Vec<Finding> = walk.refused.iter().map(refused).collect();
    findings.extend(walk.ended.iter().map(|error| doubt("ended", error)));
    if walk.is_part {
        findings.push(Finding::warning(
            "payments",
            format!(
                "the order has more than {PAYMENTS_MAX}, and only that of {} was asked for",
                plain::text(order)
            ),
            "The others may still differ from what Stripe has.",
            "`paidup reconcile --since 30d` fetches the events of all",
        ));
    }
    if !options.json {
        let count = walk.objects.len();
        let is_whole = findings.is_empty();
        let what = match (changes, options.dry_run, is_whole) {
            (false, _, _) if context.store.order(order)?.is_none() => "no order follows from them",
            (true, true, _) => "the order would change; nothing was stored",
            (true, false, false) => "the order has changed",
            (false, _, false) => "nothing new in them",
            (true, false, true) => "the order is as Stripe has it now",
            (false, _, true) => "the order is as Stripe has it",
        };
        let objects = counted(count, "object");
        writeln!(out, "{objects} read from Stripe: {what}.")?;
    }
    finding::write(&findings, options.json, out)?;
    Ok(match walk.ended {
        Some(_) => Exit::Failed,
        None => finding::exit(&findings),
    })
}

/// A question that Stripe does not answer, and what may be wrong without the answer.
fn refused(error: &StripeError) -> Finding {
    match flag_of(error) {
        Some(flag) => {
            let flag = flag.as_str();
            let why = format!(
                "Only the flag {flag} may still differ from what Stripe has, and events tell of it too: \
                 `paidup reconcile` fetches them."
            );
            Finding::warning("refused", error.what(), why, error.remedy())
        }
        None => doubt("refused", error),
    }
}

fn doubt(subject: &'static str, error: &StripeError) -> Finding {
    let why = "The order may still differ from what Stripe has.";
    Finding::problem(subject, error.what(), why, error.remedy())
}

fn store(
    dry_run: bool,
    store: &mut Store,
    deliveries: &[Delivery],
) -> Result<Vec<Result<Receipt, StoreError>>, Failure> {
    let stored = if dry_run {
        store.rehearse(deliveries)
    } else {
        store.record(deliveries)
    };
    stored.map_err(Failure::Store)
}

fn report(
    options: &Options,
    deliveries: &[Delivery],
    receipts: Vec<Result<Receipt, StoreError>>,
    tally: &mut Tally,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    for (delivery, receipt) in deliveries.iter().zip(receipts) {
        let receipt = receipt.map_err(Failure::Store)?;
        tally.fetched += 1;
        tally.changed += usize::from(!receipt.news.is_empty());
        if options.json {
            write_json(options, delivery, &receipt, out)?;
        } else {
            write_words(delivery, &receipt, out)?;
        }
    }
    Ok(())
}

fn write_json(
    options: &Options,
    delivery: &Delivery,
    receipt: &Receipt,
    out: &mut dyn Write,
) -> io::Result<()> {
    let line = json!({
        "eventId": delivery.event.id.as_str(),
        "eventType": delivery.event.kind,
        "createdAt": delivery.event.created.map(crate::base::time::rfc3339),
        "outcome": receipt.outcome.as_str(),
        "stored": !options.dry_run,
        "orderId": receipt.about.as_ref().map(|about| about.order.as_str()),
        "changes": receipt.news.iter().map(|news| news.message.text()).collect::<Vec<_>>(),
    });
    writeln!(out, "{}", plain::json(&line.to_string()))
}

fn write_words(delivery: &Delivery, receipt: &Receipt, out: &mut dyn Write) -> io::Result<()> {
    let event = &delivery.event;
    for news in &receipt.news {
        let order = plain::text(news.about.order.as_str());
        writeln!(
            out,
            "{order}: {} ({} {})",
            news.message.text(),
            event.kind,
            event.id.as_str()
        )?;
    }
    if receipt.outcome == Outcome::Parked {
        writeln!(
            out,
            "parked: {} {}, whose order is not known",
            event.kind,
            event.id.as_str()
        )?;
    }
    Ok(())
}

fn summary(options: &Options, tally: &Tally, out: &mut dyn Write) -> io::Result<()> {
    let Tally {
        read,
        known,
        fetched,
        unreadable,
        changed,
    } = tally;
    let (new, changes) = if options.dry_run {
        ("missing", "that would change an order")
    } else {
        ("fetched", "that changed an order")
    };
    writeln!(
        out,
        "{} read. Known before: {known}; {new}: {fetched}, of these {changes}: {changed}.",
        counted(*read, "event")
    )?;
    if *unreadable > 0 {
        writeln!(
            out,
            "Not readable: {unreadable}. Install a newer paidup and repeat this command."
        )?;
    }
    Ok(())
}
