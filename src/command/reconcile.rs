//! `paidup reconcile`: fetches from Stripe what deliveries did not bring, and passes it through the
//! very path of a delivery.
//!
//! Nothing here decides what an event means: [`Event`] reads it, [`Store::record`] joins it, and
//! joining is safe to repeat. So a run that is cut off is repeated, and a server may run beside it.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::base::id::{StripeId, UnixSeconds};
use crate::base::plain;
use crate::command::exit::{Exit, Failure};
use crate::command::finding::{self, Finding};
use crate::store::{Store, StoreError};
use crate::stripe::client::{EventsQuery, Fetched, Page, StripeApi, TYPES_MAX};
use crate::stripe::error::{Call, Cause, StripeError};
use crate::truth::delivery::{Delivery, News, Outcome, Receipt};
use crate::truth::event::{Event, Meaning};
use crate::truth::fact::Fact;
use crate::truth::kind::listable;
use crate::truth::order::Flag;
use crate::truth::reading::Reading;

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
/// Payments of an order that are asked for, some six calls each. A campaign, or a customer's id as the
/// name of all that it buys, has more.
const PAYMENTS_MAX: usize = 50;
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
            ending_before: None,
        };
        let page = patiently(context, |api| api.events(&query)).map_err(Failure::Stripe)?;
        tally.read += page.data.len();
        let missing = missing(&page, context, tally)?;
        let receipts = store(options.dry_run, context.store, &missing)?;
        report(options, &missing, receipts, tally, out)?;
        let _ = write!(
            context.progress,
            "\r{} events read, {} fetched ",
            tally.read, tally.fetched
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
    let walk = fetch_objects(order, context)?;
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
        writeln!(out, "{count} objects read from Stripe: {what}.")?;
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

/// The flag that the answer would have told of, and which alone may be wrong without it: nothing of
/// the money depends on it.
fn flag_of(error: &StripeError) -> Option<Flag> {
    match error.call {
        // Stripe publishes no permission by which a restricted key could list them.
        Call::ListFraudWarnings => Some(Flag::FraudWarning),
        Call::ReadReview => Some(Flag::InReview),
        Call::ReadSession
        | Call::ReadIntent
        | Call::ReadCharge
        | Call::ReadInvoice
        | Call::ReadRefund
        | Call::ReadDispute
        | Call::CreateSession
        | Call::ListEvents
        | Call::ListRefunds
        | Call::ListDisputes
        | Call::ListInvoicePayments
        | Call::ListEndpoints => None,
    }
}

/// What [`refresh`] did.
#[derive(Debug)]
pub struct Refreshed {
    /// What changed.
    pub news: Vec<News>,
    /// Why the order may still differ from what Stripe has.
    pub doubt: Option<StripeError>,
}

/// Brings one order to what Stripe says of it now, as `--order` does.
///
/// # Errors
/// [`Failure`] as [`run`].
pub fn refresh(order: &str, context: &mut Context<'_>) -> Result<Refreshed, Failure> {
    let walk = fetch_objects(order, context)?;
    let deliveries = deliveries(&walk.objects, context);
    let mut news = Vec::new();
    if context.store.would_change(&deliveries)? {
        for receipt in store(false, context.store, &deliveries)? {
            news.extend(receipt.map_err(Failure::Store)?.news);
        }
    }
    let mut refused = walk.refused.into_iter();
    let doubt = refused.find(|error| flag_of(error).is_none());
    Ok(Refreshed {
        news,
        doubt: walk.ended.or(doubt),
    })
}

fn deliveries(objects: &[Fetched], context: &Context<'_>) -> Vec<Delivery> {
    objects
        .iter()
        .filter_map(|object| fetched(object, context.now, context.reading))
        .collect()
}

/// Everything of the order that Stripe can be asked for: all that its known objects name, and what
/// Stripe lists of those.
fn fetch_objects(order: &str, context: &mut Context<'_>) -> Result<Walk, Failure> {
    let mut walk = Walk::default();
    if let Some(stored) = context.store.order(order)? {
        let payments = match context.store.few_payments(&stored, PAYMENTS_MAX)? {
            Some(payments) => payments,
            None => match context.store.payment_of(order)? {
                Some((_, payment)) => {
                    walk.is_part = true;
                    vec![payment]
                }
                None => return Err(too_many(order)),
            },
        };
        for payment in payments {
            walk.add_all(Call::ReadSession, payment.sessions());
            walk.add_all(Call::ReadInvoice, payment.invoices());
            walk.add_all(Call::ReadIntent, payment.intents());
            walk.add_all(Call::ReadCharge, payment.charges());
        }
    } else if let (Ok(id), Some(call)) = (StripeId::parse(order), call_for(order)) {
        walk.add(call, id);
    }
    walk.ended = walk.go(context).err();
    match walk.ended.as_ref().or(walk.refused.first()) {
        Some(error) if walk.objects.is_empty() => Err(Failure::Stripe(error.clone())),
        Some(_) | None => Ok(walk),
    }
}

fn too_many(order: &str) -> Failure {
    Failure::Other(format!(
        "{} has more than {PAYMENTS_MAX} payments. Give the id of a Stripe object of the one that is meant \
         (`paidup events list --order` shows them), or fetch all events: `paidup reconcile --since 30d`.",
        plain::text(order)
    ))
}

/// What reads an object of whose id only the beginning tells its kind.
fn call_for(id: &str) -> Option<Call> {
    Some(match id.split('_').next()? {
        "cs" => Call::ReadSession,
        "pi" => Call::ReadIntent,
        "ch" | "py" => Call::ReadCharge,
        "in" => Call::ReadInvoice,
        "re" | "pyr" => Call::ReadRefund,
        "du" | "dp" => Call::ReadDispute,
        _ => return None,
    })
}

/// What Stripe lists of an object that `call` has read, and by which field. What is of a charge is
/// listed by its intent, if it has one.
fn lists_of(call: Call, object: &Fetched) -> Vec<(Call, &'static str)> {
    let of_payment = |field| {
        let lists = [
            Call::ListRefunds,
            Call::ListDisputes,
            Call::ListFraudWarnings,
        ];
        lists.map(|list| (list, field)).to_vec()
    };
    match call {
        Call::ReadInvoice => vec![(Call::ListInvoicePayments, "invoice")],
        Call::ReadIntent => of_payment("payment_intent"),
        Call::ReadCharge if object.id_in("payment_intent").is_none() => of_payment("charge"),
        Call::ReadCharge
        | Call::ReadSession
        | Call::ReadRefund
        | Call::ReadDispute
        | Call::ReadReview
        | Call::CreateSession
        | Call::ListEvents
        | Call::ListRefunds
        | Call::ListDisputes
        | Call::ListFraudWarnings
        | Call::ListInvoicePayments
        | Call::ListEndpoints => Vec::new(),
    }
}

/// From object to object.
#[derive(Default)]
struct Walk {
    /// What was ever to be read, or was listed.
    seen: BTreeSet<StripeId>,
    todo: VecDeque<(Call, StripeId)>,
    /// What is to be listed, of which object, and by which field: when nothing is left to read.
    lists: VecDeque<(Call, &'static str, StripeId)>,
    objects: Vec<Fetched>,
    /// The questions that Stripe does not answer, one of each kind.
    refused: Vec<StripeError>,
    /// Stripe answers nothing any more, and what was read so far is not all.
    ended: Option<StripeError>,
    /// The order has too many payments, and only one of them was asked for.
    is_part: bool,
}

impl Walk {
    fn add(&mut self, call: Call, id: StripeId) {
        if self.seen.insert(id.clone()) {
            self.todo.push_back((call, id));
        }
    }

    fn add_all<'a>(&mut self, call: Call, ids: impl Iterator<Item = &'a StripeId>) {
        ids.for_each(|id| self.add(call, id.clone()));
    }

    /// Keeps an object, and goes on to those that it names.
    fn learn(&mut self, object: Fetched) {
        const LINKS: [(Call, &str); 8] = [
            (Call::ReadInvoice, "invoice"),
            (Call::ReadIntent, "payment_intent"),
            (Call::ReadIntent, "payment.payment_intent"),
            (Call::ReadCharge, "payment.charge"),
            (Call::ReadCharge, "latest_charge"),
            (Call::ReadCharge, "charge"),
            (Call::ReadReview, "review"),
            (Call::ReadSession, "payment_details.order_reference"),
        ];
        for (call, path) in LINKS {
            let Some(id) = object.id_in(path) else {
                continue;
            };
            // That one is the shop's text, unless Checkout or billing has written it.
            let call = if call == Call::ReadSession {
                call_for(id.as_str())
                    .filter(|call| matches!(call, Call::ReadSession | Call::ReadInvoice))
            } else {
                Some(call)
            };
            if let Some(call) = call {
                self.add(call, id);
            }
        }
        self.seen.insert(object.id.clone());
        self.objects.push(object);
    }

    /// Reads whatever is named, then lists what is of it, until nothing new is named.
    fn go(&mut self, context: &mut Context<'_>) -> Result<(), StripeError> {
        loop {
            if let Some((call, id)) = self.todo.pop_front() {
                let answer = patiently(context, |api| api.read(call, &id));
                if let Some(object) = self.taken(answer)? {
                    let lists = lists_of(call, &object).into_iter();
                    self.lists
                        .extend(lists.map(|(list, field)| (list, field, id.clone())));
                    self.learn(object);
                }
            } else if let Some((call, field, id)) = self.lists.pop_front() {
                let answer = patiently(context, |api| api.list(call, (field, &id)));
                for object in self.taken(answer)?.unwrap_or_default() {
                    self.learn(object);
                }
            } else {
                return Ok(());
            }
        }
    }

    /// What Stripe answered; `None` when it refuses this question, which is noted once for each kind.
    /// A key that it does not know, and a Stripe that is still busy or out of reach, end the walk.
    fn taken<T>(&mut self, answer: Result<T, StripeError>) -> Result<Option<T>, StripeError> {
        match answer {
            Err(error) if error.status != Some(401) && !may_pass(&error) => {
                if self.refused.iter().all(|known| known.call != error.call) {
                    self.refused.push(error);
                }
                Ok(None)
            }
            answer => answer.map(Some),
        }
    }
}

/// Asks again when Stripe is busy or out of reach.
fn patiently<T>(
    context: &mut Context<'_>,
    ask: impl Fn(&StripeApi) -> Result<T, StripeError>,
) -> Result<T, StripeError> {
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
            answer => return answer,
        }
    }
    ask(context.api)
}

fn may_pass(error: &StripeError) -> bool {
    match error.cause {
        Cause::RateLimited | Cause::Stripe | Cause::Unreachable(_) | Cause::Conflict => true,
        Cause::Key
        | Cause::Permission(_)
        | Cause::NotFound
        | Cause::KeyReused
        | Cause::Refused
        | Cause::Redirected
        | Cause::NotJson
        | Cause::Unusable(_)
        | Cause::TooLarge => false,
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
        "created": delivery.event.created.map(crate::base::time::rfc3339),
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

fn delivery(event: Event, json: &str, now: UnixSeconds) -> Delivery {
    let sha256 = Sha256::digest(json.as_bytes()).into();
    Delivery {
        event,
        sha256,
        request_id: None,
        received: now,
    }
}

/// A fetched object in the form of an event, under an id of our own: what it is, when it was
/// fetched, and a digest of what it said, since it may say something else in the same second. None
/// when it is nothing that an order follows from, or of the other mode.
#[must_use]
pub fn fetched(object: &Fetched, now: UnixSeconds, reading: &Reading) -> Option<Delivery> {
    let fact = Fact::from_object(object.json(), object.at, reading).ok()?;
    if reading.mode.is_some() && fact.mode.is_some() && fact.mode != reading.mode {
        return None;
    }
    let mut digest = hex::encode(Sha256::digest(object.json().as_bytes()));
    digest.truncate(8);
    let id = format!("fetched_{}_{}_{digest}", fact.id.as_str(), object.at.0);
    let event = Event {
        id: StripeId::parse(&id).ok()?,
        kind: "paidup.fetched".into(),
        created: Some(object.at),
        api_version: None,
        mode: fact.mode,
        meaning: Meaning::Fact(Box::new(fact)),
    };
    Some(delivery(event, object.json(), now))
}
