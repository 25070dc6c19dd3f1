//! Fetches from Stripe everything about one order: what `paidup reconcile --order` and
//! `GET /orders/{id}?refresh=1` share.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io::Write;
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::base::id::{StripeId, UnixSeconds};
use crate::base::log_line::ErrorCode;
use crate::base::plain;
use crate::store::{Store, StoreError};
use crate::stripe::client::StripeApi;
use crate::stripe::error::{Call, Cause, StripeError};
use crate::stripe::fetched::Fetched;
use crate::truth::delivery::{Delivery, News};
use crate::truth::event::{Event, Meaning};
use crate::truth::fact::Fact;
use crate::truth::order::Flag;
use crate::truth::reading::Reading;

/// Most payments of an order that are fetched, at some six calls each. An "order" that is a campaign,
/// or a customer's id, has more.
pub(crate) const PAYMENTS_MAX: usize = 50;
/// The pause before the first repetition; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// What fetching needs from around it.
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

/// Why nothing was fetched. Its `Display` is for the operator.
#[derive(Debug)]
pub(crate) enum FetchError {
    /// The database could not be used.
    Store(StoreError),
    /// Stripe could not be asked.
    Stripe(StripeError),
    /// The order of this id has more than [`PAYMENTS_MAX`] payments.
    TooManyPayments(String),
}

impl FetchError {
    /// The code in the log, where there is one.
    pub(crate) fn error_code(&self) -> Option<ErrorCode> {
        match self {
            FetchError::Store(error) => Some(error.code()),
            FetchError::Stripe(error) => Some(error.error_code()),
            FetchError::TooManyPayments(_) => None,
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Store(error) => write!(f, "{error}"),
            FetchError::Stripe(error) => write!(f, "{error}"),
            FetchError::TooManyPayments(order) => write!(
                f,
                "{} has more than {PAYMENTS_MAX} payments. Give the id of a Stripe object of the one that is \
                 meant (`paidup events list --order {}` shows them), or fetch all events: `paidup reconcile \
                 --since 30d`.",
                plain::text(order),
                plain::word(order)
            ),
        }
    }
}

impl std::error::Error for FetchError {}

impl From<StoreError> for FetchError {
    fn from(error: StoreError) -> FetchError {
        FetchError::Store(error)
    }
}

/// What [`refresh`] did.
#[derive(Debug)]
pub(crate) struct Refreshed {
    /// What changed.
    pub(crate) news: Vec<News>,
    /// Why the order may still differ from what Stripe has.
    pub(crate) doubt: Option<StripeError>,
}

/// Brings one order to what Stripe says of it now, as `--order` does.
///
/// # Errors
/// [`FetchError`] when Stripe or the database cannot be asked.
pub(crate) fn refresh(order: &str, context: &mut Context<'_>) -> Result<Refreshed, FetchError> {
    let walk = objects(order, context)?;
    let deliveries = deliveries(&walk.objects, context);
    let mut news = Vec::new();
    if context.store.would_change(&deliveries)? {
        for receipt in context.store.record(&deliveries)? {
            news.extend(receipt?.news);
        }
    }
    let mut refused = walk.refused.into_iter();
    let doubt = refused.find(|error| flag_of(error).is_none());
    Ok(Refreshed {
        news,
        doubt: walk.ended.or(doubt),
    })
}

/// Fetches everything of the order: the objects that are known, those that they name, and those that
/// Stripe lists for them.
pub(crate) fn objects(order: &str, context: &mut Context<'_>) -> Result<Walk, FetchError> {
    let mut walk = known(order, context.store)?;
    walk.ended = walk.go(context).err();
    match walk.ended.as_ref().or(walk.refused.first()) {
        Some(error) if walk.objects.is_empty() => Err(FetchError::Stripe(error.clone())),
        Some(_) | None => Ok(walk),
    }
}

/// Where to begin: the objects that are known of the order, or the one whose id `order` is.
fn known(order: &str, store: &Store) -> Result<Walk, FetchError> {
    let mut walk = Walk::default();
    if let Some(stored) = store.order(order)? {
        let payments = match store.few_payments(&stored, PAYMENTS_MAX)? {
            Some(payments) => payments,
            None => match store.payment_of(order)? {
                Some((_, payment)) => {
                    walk.is_part = true;
                    vec![payment]
                }
                None => return Err(FetchError::TooManyPayments(order.to_owned())),
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
    Ok(walk)
}

/// The call that reads an object, by the prefix of its id.
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
        | Call::ListEndpoints
        | Call::CreateEndpoint
        | Call::UpdateEndpoint
        | Call::DeleteEndpoint => Vec::new(),
    }
}

/// From object to object.
#[derive(Default)]
pub(crate) struct Walk {
    /// What was ever to be read, or was listed.
    seen: BTreeSet<StripeId>,
    todo: VecDeque<(Call, StripeId)>,
    /// Lists to fetch once nothing is left to read: the call, the field to list by, and the object.
    lists: VecDeque<(Call, &'static str, StripeId)>,
    pub(crate) objects: Vec<Fetched>,
    /// The questions that Stripe does not answer, one of each kind.
    pub(crate) refused: Vec<StripeError>,
    /// Stripe answers nothing any more, and what was read so far is not all.
    pub(crate) ended: Option<StripeError>,
    /// The order has too many payments, and only one of them was asked for.
    pub(crate) is_part: bool,
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
pub(crate) fn patiently<T>(
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

/// The flag that depends on the answer, if only that does: nothing about the money would change.
pub(crate) fn flag_of(error: &StripeError) -> Option<Flag> {
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
        | Call::ListEndpoints
        | Call::CreateEndpoint
        | Call::UpdateEndpoint
        | Call::DeleteEndpoint => None,
    }
}

pub(crate) fn deliveries(objects: &[Fetched], context: &Context<'_>) -> Vec<Delivery> {
    objects
        .iter()
        .filter_map(|object| fetched(object, context.now, context.reading))
        .collect()
}

pub(crate) fn delivery(event: Event, json: &str, now: UnixSeconds) -> Delivery {
    let sha256 = Sha256::digest(json.as_bytes()).into();
    Delivery {
        event,
        sha256,
        request_id: None,
        received: now,
    }
}

/// A fetched object as an event, under an id of our own: the object's id, the time, and a digest of its
/// content, which may change within a second. None when the object says nothing about orders, or is of
/// the other mode.
pub(crate) fn fetched(object: &Fetched, now: UnixSeconds, reading: &Reading) -> Option<Delivery> {
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
