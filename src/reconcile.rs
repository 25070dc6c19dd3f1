//! `paidup reconcile`: fetches from Stripe what deliveries did not bring, and passes it through the
//! very path of a delivery.
//!
//! Nothing here decides what an event means: [`Event`] reads it, [`Store::record`] joins it, and
//! joining is safe to repeat. So a run that is cut off is repeated, and a server may run beside it.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::domain::delivery::{Delivery, News, Outcome, Receipt};
use crate::domain::event::{Event, Meaning, listable_types};
use crate::domain::id::{StripeId, UnixSeconds};
use crate::domain::payment::Fact;
use crate::domain::plain;
use crate::domain::reading::Reading;
use crate::domain::stripe_error::{self, ApiError};
use crate::exit::{Exit, Failure};
use crate::sqlite::{Store, StoreError};
use crate::stripe_api::{EventsQuery, Json, ListedEvent, Page, StripeApi};

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
    /// One JSON object a line, for each event or object that was fetched.
    pub json: bool,
}

/// What a command needs from around it.
pub struct Context<'a> {
    /// Where to ask.
    pub api: &'a StripeApi,
    /// Where to store.
    pub store: &'a mut Store,
    /// How it is read, as on delivery.
    pub reading: &'a Reading,
    /// This host's clock.
    pub now: UnixSeconds,
    /// How often Stripe is asked, at least once, when it is busy or out of reach.
    pub tries: u32,
    /// Progress for a person who waits; nothing where nobody does.
    pub progress: &'a mut dyn Write,
}

/// [`Context::tries`] of a command, beside the client's own retries.
pub const TRIES: u32 = 5;
/// The pause before the first repetition; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_secs(1);

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
    let types = listable_types();
    let mut tally = Tally::default();
    let mut last: Option<StripeId> = None;
    loop {
        let query = EventsQuery {
            types: &types,
            created_from: Some(UnixSeconds(context.now.0 - options.since_seconds)),
            delivery_success: options.undelivered.then_some(false),
            starting_after: last.as_ref(),
            ending_before: None,
        };
        let page = patiently(context, |api| api.events(&query))?;
        tally.read += page.data.len();
        let missing = missing(&page, context, &mut tally)?;
        let receipts = store(options.dry_run, context.store, &missing)?;
        report(options, &missing, receipts, &mut tally, out)?;
        let _ = write!(
            context.progress,
            "\r{} events read, {} fetched ",
            tally.read, tally.fetched
        );
        last = page.data.last().map(|event| event.id.clone());
        if !page.has_more || last.is_none() {
            break;
        }
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

/// The events of a page that the ledger does not have, or only as ignored.
fn missing(
    page: &Page<ListedEvent>,
    context: &Context<'_>,
    tally: &mut Tally,
) -> Result<Vec<Delivery>, Failure> {
    let mut missing = Vec::new();
    for listed in &page.data {
        let Ok(event) = Event::from_json(listed.json.text(), context.reading) else {
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
            missing.push(delivery(event, &listed.json, context.now));
        }
    }
    Ok(missing)
}

/// Fetches the session, the intent, the charges and the refunds of one order, and stores what they
/// tell if that changes the order.
fn repair(
    order: &str,
    options: &Options,
    context: &mut Context<'_>,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let objects = fetch_objects(order, context)?;
    if objects.is_empty() {
        return Err(Failure::Other(format!(
            "No order and no Stripe object that could be asked for is called {}. Give the order's id, or \
             the id of its session (cs_…) or intent (pi_…) from the Dashboard.",
            plain::text(order)
        )));
    }
    let deliveries = deliveries(&objects, context);
    let rehearsed = store(true, context.store, &deliveries)?;
    let changes = is_news(&rehearsed);
    let mut tally = Tally {
        read: objects.len(),
        ..Tally::default()
    };
    if changes {
        let receipts = if options.dry_run {
            rehearsed
        } else {
            store(false, context.store, &deliveries)?
        };
        report(options, &deliveries, receipts, &mut tally, out)?;
    }
    if !options.json {
        let count = tally.read;
        let what = match (changes, options.dry_run) {
            (false, _) => "the order is as Stripe has it",
            (true, true) => "the order would change; nothing was stored",
            (true, false) => "the order is as Stripe has it now",
        };
        writeln!(out, "{count} objects read from Stripe: {what}.")?;
    }
    Ok(Exit::Done)
}

/// Brings one order to what Stripe says of it now, as `--order` does, and returns what changed.
///
/// # Errors
/// [`Failure`] as [`run`].
pub fn refresh(order: &str, context: &mut Context<'_>) -> Result<Vec<News>, Failure> {
    let objects = fetch_objects(order, context)?;
    let deliveries = deliveries(&objects, context);
    if !is_news(&store(true, context.store, &deliveries)?) {
        return Ok(Vec::new());
    }
    let mut news = Vec::new();
    for receipt in store(false, context.store, &deliveries)? {
        news.extend(receipt.map_err(Failure::Store)?.news);
    }
    Ok(news)
}

fn deliveries(objects: &[Json], context: &Context<'_>) -> Vec<Delivery> {
    let at = stripes_now(context.api, context.now);
    objects
        .iter()
        .filter_map(|object| fetched(object, at, context.now, context.reading))
        .collect()
}

fn is_news(receipts: &[Result<Receipt, StoreError>]) -> bool {
    let mut receipts = receipts.iter().flatten();
    receipts.any(|receipt| !receipt.news.is_empty())
}

/// Everything of the order that Stripe can be asked for. Disputes cannot be asked for by payment:
/// their events can.
fn fetch_objects(order: &str, context: &mut Context<'_>) -> Result<Vec<Json>, Failure> {
    let mut sessions: Vec<StripeId> = Vec::new();
    let mut intents: Vec<StripeId> = Vec::new();
    let mut charges: Vec<StripeId> = Vec::new();
    let stored = context.store.order(order).map_err(Failure::Store)?;
    if let Some(stored) = &stored {
        for payment in context.store.payments(stored).map_err(Failure::Store)? {
            sessions.extend(payment.sessions().cloned());
            intents.extend(payment.intents().cloned());
            charges.extend(payment.charges().cloned());
        }
    } else if let Ok(id) = StripeId::parse(order) {
        match order.split('_').next() {
            Some("cs") => sessions.push(id),
            Some("pi") => intents.push(id),
            Some("ch" | "py") => charges.push(id),
            _ => {}
        }
    }
    let mut objects = Vec::new();
    for id in &sessions {
        let session = patiently(context, |api| api.session(id))?;
        add_new(&mut intents, session.payment_intent);
        objects.push(session.json);
    }
    // A charge that stands for the order by itself names its intent.
    if intents.is_empty() {
        for id in &charges {
            let charge = patiently(context, |api| api.charge(id))?;
            add_new(&mut intents, charge.payment_intent);
        }
    }
    for id in &intents {
        let intent = patiently(context, |api| api.payment_intent(id))?;
        add_new(&mut charges, intent.latest_charge);
        objects.push(intent.json);
    }
    for id in &charges {
        objects.push(patiently(context, |api| api.charge(id))?.json);
    }
    for id in &intents {
        let refunds = patiently(context, |api| api.refunds(id))?;
        objects.extend(refunds.into_iter().map(|refund| refund.json));
    }
    Ok(objects)
}

fn add_new(ids: &mut Vec<StripeId>, id: Option<StripeId>) {
    ids.extend(id.filter(|id| !ids.contains(id)));
}

/// Asks again when Stripe is busy or out of reach.
fn patiently<T>(
    context: &mut Context<'_>,
    ask: impl Fn(&StripeApi) -> Result<T, ApiError>,
) -> Result<T, Failure> {
    let mut pause = PAUSE_FIRST;
    for _ in 1..context.tries {
        match ask(context.api) {
            Err(error) if may_pass(&error) => {
                let _ = writeln!(
                    context.progress,
                    "\rStripe does not answer; asking again in {} s",
                    pause.as_secs()
                );
                thread::sleep(pause);
                pause *= 2;
            }
            Err(error) => return Err(Failure::Stripe(error)),
            Ok(answer) => return Ok(answer),
        }
    }
    ask(context.api).map_err(Failure::Stripe)
}

fn may_pass(error: &ApiError) -> bool {
    use stripe_error::Failure as Why;
    match error.failure {
        Why::RateLimited | Why::Stripe | Why::Unreachable(_) | Why::Conflict => true,
        Why::Key
        | Why::Permission(_)
        | Why::NotFound
        | Why::KeyReused
        | Why::Refused
        | Why::Redirected
        | Why::NotJson
        | Why::Unusable(_)
        | Why::TooLarge => false,
    }
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
        "created": delivery.event.created.map(crate::domain::time::rfc3339),
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
    let (verb, would) = if options.dry_run {
        ("are missing", " would")
    } else {
        ("were fetched", "")
    };
    writeln!(
        out,
        "{read} events read: {known} were known, {fetched} {verb}, {changed} of them{would} changed an order."
    )?;
    if *unreadable > 0 {
        writeln!(
            out,
            "{unreadable} could not be read: install a newer paidup and repeat this command."
        )?;
    }
    Ok(())
}

fn delivery(event: Event, json: &Json, now: UnixSeconds) -> Delivery {
    let sha256 = Sha256::digest(json.text().as_bytes()).into();
    Delivery {
        event,
        sha256,
        request_id: None,
        received: now,
    }
}

/// A fetched object in the form of an event, under an id of our own: what it is, when it was
/// fetched, and a digest of what it said, since it may say something else in the same second. None
/// when it is nothing that an order follows from.
#[must_use]
pub fn fetched(
    object: &Json,
    at: UnixSeconds,
    now: UnixSeconds,
    reading: &Reading,
) -> Option<Delivery> {
    let fact = Fact::from_object(object.text(), at, reading).ok()?;
    let mut digest = hex::encode(Sha256::digest(object.text().as_bytes()));
    digest.truncate(8);
    let id = format!("fetched_{}_{}_{digest}", fact.id.as_str(), at.0);
    let event = Event {
        id: StripeId::parse(&id).ok()?,
        kind: "paidup.fetched".into(),
        created: Some(at),
        api_version: None,
        mode: fact.mode,
        meaning: Meaning::Fact(Box::new(fact)),
    };
    Some(delivery(event, object, now))
}

/// The time by Stripe's clock, as far as its answers told.
#[must_use]
pub fn stripes_now(api: &StripeApi, now: UnixSeconds) -> UnixSeconds {
    UnixSeconds(now.0.saturating_sub(api.skew_seconds().unwrap_or(0)))
}
