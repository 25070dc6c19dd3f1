//! Reads from a verified body the few fields we act on, and says what they tell us.
//!
//! Which events exist, what each field means and which may be missing:
//! <https://docs.stripe.com/api/events/types>. Only the fields named here are read, and all but the
//! object's own id may be missing, of another type, or an expanded object: an event of a version we
//! have never seen is read as far as it goes.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::payment::{
    Attempt, Belongs, Carrier, Charge, ChargeStatus, Dispute, DisputeStatus, Fact, Intent, Invoice,
    InvoiceStatus, KnownCharge, Money, Object, Refund, RefundStatus, Review, Session, Since,
    Source, Wait,
};
pub use super::reading::Mode;
use super::reading::{Place, Reading};
use super::signature::Verified;
use crate::base::id::{OrderId, StripeId, UnixSeconds};
use crate::base::log_line::ErrorCode;

/// One event: Stripe's message that something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `evt_…`: the same for every delivery of this event.
    pub id: StripeId,
    /// Stripe's own name for what happened, such as `charge.refunded`.
    pub kind: Box<str>,
    /// When Stripe made the event; thin events and some test tools have none that we read.
    pub created: Option<UnixSeconds>,
    /// The version that the event's shape follows, such as `2026-10-28.endive`.
    pub api_version: Option<Box<str>>,
    /// Stripe's world that it comes from, if it says so.
    pub mode: Option<Mode>,
    /// What it means to us.
    pub meaning: Meaning,
}

/// What an event means to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It tells us something of one Stripe object.
    Fact(Box<Fact>),
    /// It changes no order.
    Ignored(Ignored),
}

impl Event {
    /// `paidup send-test` or the demo made it: it proves something, and decides nothing.
    #[must_use]
    pub fn is_sample(&self) -> bool {
        self.id.as_str().starts_with(SAMPLE_EVENT)
    }
}

/// The key of metadata by which a session is known that `paidup api` has made: its value is the attempt.
pub const MADE_HERE: &str = "paidup_attempt";

/// What the ids of our own test events begin with.
pub const SAMPLE_EVENT: &str = "evt_test_";

/// Why an event changes no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// A type that says nothing of orders.
    Type,
    /// An event of a connected account; a shop is no platform.
    /// <https://docs.stripe.com/connect/webhooks>
    Account,
    /// A thin event has no object to read. The destination in the Dashboard must send snapshots.
    /// <https://docs.stripe.com/webhooks#event-overview>
    Thin,
    /// A test event where the database is of live mode, or the other way round.
    Mode,
    /// It sells nothing: a session that only saves a card, or an invoice of zero.
    NoSale,
    /// It is of another shop that shares the account: `OUR_ORDERS` says whose is ours.
    OtherShop,
}

impl Ignored {
    /// The word for it in the ledger, the answer and the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Ignored::Type => "type",
            Ignored::Account => "account",
            Ignored::Thin => "thin",
            Ignored::Mode => "mode",
            Ignored::NoSale => "no_sale",
            Ignored::OtherShop => "other_shop",
        }
    }
}

/// Why a verified body is no event that we can read. Answered 400, so that Stripe keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventError {
    /// Not JSON, not UTF-8, or nested too deep.
    NotJson,
    /// JSON, but without a usable `id`, `type` or `data.object`; the text names the field.
    Unusable(&'static str),
}

impl EventError {
    /// The code in the log.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            EventError::NotJson => ErrorCode::EventNotJson,
            EventError::Unusable(_) => ErrorCode::EventUnusable,
        }
    }
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventError::NotJson => f.write_str("not JSON"),
            EventError::Unusable(field) => write!(f, "no usable {field}"),
        }
    }
}

/// The event types that tell us something, in the order in which an endpoint should list them.
///
/// `payment_intent.refunded` is in no list of Stripe's; it is taken because runbooks name it.
/// `charge.refund.updated` is the older name of `refund.updated`.
pub const TYPES: [&str; 35] = [
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    "charge.refunded",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.canceled",
    "payment_intent.processing",
    "payment_intent.amount_capturable_updated",
    "payment_intent.refunded",
    "charge.succeeded",
    "charge.captured",
    "charge.failed",
    "charge.pending",
    "charge.updated",
    "charge.expired",
    "charge.refund.updated",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.voided",
    "invoice.marked_uncollectible",
    "invoice_payment.paid",
    "radar.early_fraud_warning.created",
    "radar.early_fraud_warning.updated",
    "review.opened",
    "review.closed",
];

/// Those of [`TYPES`] that Stripe can be asked for: it refuses a type that it does not know.
#[must_use]
pub fn listable_types() -> Vec<&'static str> {
    let mut types = TYPES.to_vec();
    types.retain(|kind| *kind != "payment_intent.refunded");
    types
}

/// The release name of an API version: `endive` of `2026-10-28.endive`; all of an older one.
#[must_use]
pub fn release(version: &str) -> &str {
    version.split_once('.').map_or(version, |(_, name)| name)
}

impl Event {
    /// Reads a verified body as the shop's settings say.
    ///
    /// # Errors
    /// [`EventError`] when the body is not JSON, or has no usable `id`, `type` or `data.object`.
    pub fn parse(body: &Verified<'_>, reading: &Reading) -> Result<Event, EventError> {
        // serde_json does not look into the texts that it skips, so UTF-8 is checked here.
        let text = std::str::from_utf8(body.bytes()).map_err(|_| EventError::NotJson)?;
        Event::from_json(text, reading)
    }

    /// Reads one event document of which the caller knows that it is Stripe's: one that Stripe's
    /// API answered with.
    ///
    /// # Errors
    /// As [`Event::parse`].
    pub fn from_json(text: &str, reading: &Reading) -> Result<Event, EventError> {
        let raw: RawEvent<'_> = serde_json::from_str(text).map_err(|error| {
            match error.classify() {
                // JSON, but an array, a number or the like.
                serde_json::error::Category::Data => EventError::Unusable("event"),
                serde_json::error::Category::Io
                | serde_json::error::Category::Syntax
                | serde_json::error::Category::Eof => EventError::NotJson,
            }
        })?;
        let id = raw.id.id().ok_or(EventError::Unusable("id"))?;
        let kind = raw
            .kind
            .text()
            .filter(|kind| !kind.is_empty() && kind.len() <= KIND_MAX_BYTES);
        let kind = kind.ok_or(EventError::Unusable("type"))?;
        let created = raw.created.whole().map(UnixSeconds);
        Ok(Event {
            meaning: raw.meaning(kind, created, reading)?,
            mode: raw.livemode.mode(),
            id,
            kind: kind.into(),
            created,
            api_version: raw.api_version.text().map(Into::into),
        })
    }
}

impl Fact {
    /// Reads one object that Stripe's API answered with at the time `at`: what an event made then
    /// would have told.
    ///
    /// # Errors
    /// [`EventError`] when it is not JSON, or no object that tells of orders.
    pub fn from_object(text: &str, at: UnixSeconds, reading: &Reading) -> Result<Fact, EventError> {
        let raw: Raw<'_> = serde_json::from_str(text).map_err(|_| EventError::NotJson)?;
        let object = raw.object.text().ok_or(EventError::Unusable("object"))?;
        if raw.sells_nothing(object) {
            return Err(EventError::Unusable("sale"));
        }
        raw.fact(
            object,
            raw.status.text().unwrap_or_default(),
            &Told {
                at,
                asked: true,
                reading,
            },
        )
    }
}

/// When and how something was told.
struct Told<'a> {
    /// When Stripe made the event, or when Stripe was asked.
    at: UnixSeconds,
    /// Stripe was asked: what is true now was true before.
    asked: bool,
    reading: &'a Reading,
}

impl Told<'_> {
    /// When something that is true has become so, as far as is known.
    fn since(&self) -> Since {
        if self.asked {
            Since::Found(UnixSeconds(self.at.0.saturating_sub(1)))
        } else {
            Since::Told(self.at)
        }
    }
}

/// Longest event type kept, in bytes. Stripe's longest has about 70.
const KIND_MAX_BYTES: usize = 255;

/// Largest amount taken, in minor units: no sum of a payment's amounts can overflow.
const AMOUNT_MAX: i64 = 1_000_000_000_000_000;

/// An event as far as we read it: one pass, no intermediate tree. Any field may have any type.
#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(borrow, default)]
    id: Field<'a>,
    #[serde(borrow, default)]
    object: Field<'a>,
    #[serde(borrow, default, rename = "type")]
    kind: Field<'a>,
    #[serde(borrow, default)]
    api_version: Field<'a>,
    #[serde(borrow, default)]
    created: Field<'a>,
    #[serde(borrow, default)]
    livemode: Field<'a>,
    #[serde(borrow, default)]
    account: Field<'a>,
    #[serde(borrow)]
    data: Option<RawData<'a>>,
}

#[derive(Deserialize)]
struct RawData<'a> {
    #[serde(borrow)]
    object: Option<Raw<'a>>,
}

impl RawEvent<'_> {
    /// Decides what the event means: who it is not for first, then what it tells.
    fn meaning(
        &self,
        kind: &str,
        created: Option<UnixSeconds>,
        reading: &Reading,
    ) -> Result<Meaning, EventError> {
        if self.object.text() == Some("v2.core.event") {
            return Ok(Meaning::Ignored(Ignored::Thin));
        }
        let object = self.data.as_ref().and_then(|data| data.object.as_ref());
        let object = object.ok_or(EventError::Unusable("data.object"))?;
        if !self.account.is_null() {
            return Ok(Meaning::Ignored(Ignored::Account));
        }
        if reading
            .mode
            .is_some_and(|mode| self.livemode.mode() != Some(mode))
        {
            return Ok(Meaning::Ignored(Ignored::Mode));
        }
        if !TYPES.contains(&kind) {
            return Ok(Meaning::Ignored(Ignored::Type));
        }
        let (about, news) = split_kind(kind);
        if object.sells_nothing(about) {
            return Ok(Meaning::Ignored(Ignored::NoSale));
        }
        let at = created.ok_or(EventError::Unusable("created"))?;
        let mut fact = object.fact(
            about,
            news,
            &Told {
                at,
                asked: false,
                reading,
            },
        )?;
        fact.mode = self.livemode.mode();
        Ok(Meaning::Fact(Box::new(fact)))
    }
}

/// The object that a type of event is about, as its `object` calls it, and what happened to it.
fn split_kind(kind: &str) -> (&'static str, &str) {
    const PREFIXES: [(&str, &str); 10] = [
        ("checkout.session.", "checkout.session"),
        ("payment_intent.", "payment_intent"),
        ("charge.dispute.", "dispute"),
        ("charge.refund.", "refund"),
        ("charge.", "charge"),
        ("refund.", "refund"),
        ("invoice.", "invoice"),
        ("invoice_payment.", "invoice_payment"),
        ("radar.early_fraud_warning.", "radar.early_fraud_warning"),
        ("review.", "review"),
    ];
    let mut found = PREFIXES
        .into_iter()
        .filter_map(|(prefix, object)| kind.strip_prefix(prefix).map(|news| (object, news)));
    found.next().unwrap_or(("", kind))
}

/// The fields of all the objects that we read, together.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw<'a> {
    #[serde(borrow)]
    id: Field<'a>,
    #[serde(borrow)]
    object: Field<'a>,
    #[serde(borrow)]
    mode: Field<'a>,
    #[serde(borrow)]
    payment_status: Field<'a>,
    #[serde(borrow)]
    status: Field<'a>,
    #[serde(borrow)]
    client_reference_id: Field<'a>,
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    payment_details: Field<'a>,
    #[serde(borrow)]
    payment_link: Field<'a>,
    #[serde(borrow)]
    invoice: Field<'a>,
    /// Of an invoice payment: what it was paid with.
    #[serde(borrow)]
    payment: Field<'a>,
    #[serde(borrow)]
    capture_method: Field<'a>,
    #[serde(borrow)]
    livemode: Field<'a>,
    #[serde(borrow)]
    paid: Field<'a>,
    #[serde(borrow)]
    open: Field<'a>,
    #[serde(borrow)]
    amount_due: Field<'a>,
    #[serde(borrow)]
    amount_paid: Field<'a>,
    #[serde(borrow)]
    payment_intent: Field<'a>,
    #[serde(borrow)]
    charge: Field<'a>,
    #[serde(borrow)]
    latest_charge: Field<'a>,
    #[serde(borrow)]
    currency: Field<'a>,
    #[serde(borrow)]
    amount: Field<'a>,
    #[serde(borrow)]
    amount_total: Field<'a>,
    #[serde(borrow)]
    amount_received: Field<'a>,
    #[serde(borrow)]
    amount_captured: Field<'a>,
    #[serde(borrow)]
    amount_refunded: Field<'a>,
    #[serde(borrow)]
    captured: Field<'a>,
    #[serde(borrow)]
    created: Field<'a>,
}

impl Raw<'_> {
    /// Nobody is to pay for it: a session that only saves a card, an invoice that asks for nothing.
    fn sells_nothing(&self, object: &str) -> bool {
        match object {
            "checkout.session" => self.mode.text() == Some("setup"),
            "invoice" => {
                self.amount_due.whole() == Some(0) && self.amount_paid.whole().unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// What is told of this `object`, to which `news` happened: the end of the type of an event, or
    /// the object's own status where Stripe was asked.
    fn fact(&self, object: &str, news: &str, told: &Told<'_>) -> Result<Fact, EventError> {
        let id = self.id.id().ok_or(EventError::Unusable("data.object.id"))?;
        let mut fact = Fact::new(told.at, id, Object::InvoicePayment);
        fact.made = self.created.whole().map_or(told.at, UnixSeconds);
        fact.mode = self.livemode.mode();
        fact.intent = self.payment_intent.id();
        fact.charge = self.charge.id();
        fact.invoice = self.invoice.id();
        match object {
            "checkout.session" => {
                fact.object = Object::Session(self.session(news, told)?);
                self.name(&mut fact, Carrier::Session, told.reading);
            }
            "payment_intent" => {
                fact.object = Object::Intent(self.intent(news, told)?);
                fact.intent = None;
                fact.charge = self.latest_charge.id();
                self.name(&mut fact, Carrier::Intent, told.reading);
                // Checkout puts its session's id there, and billing its invoice's. Stripe does not
                // promise it, so a shop's own text may stand there as well: the one place where a
                // prefix is looked at.
                let details = self.payment_details.inner();
                let reference = details.and_then(|inner| inner.order_reference.id());
                let of = |prefix| {
                    reference
                        .clone()
                        .filter(|id| id.as_str().starts_with(prefix))
                };
                fact.session = of("cs_");
                fact.invoice = fact.invoice.or_else(|| of("in_"));
            }
            "charge" => {
                fact.object = Object::Charge(self.charge(news, told)?);
                fact.charge = None;
                self.name(&mut fact, Carrier::Charge, told.reading);
            }
            "refund" => fact.object = Object::Refund(self.refund(news, told)?),
            "dispute" => fact.object = Object::Dispute(self.dispute(news, told.at)?),
            "invoice" => {
                fact.object = Object::Invoice(self.invoice(news, told.at)?);
                fact.invoice = None;
                self.name(&mut fact, Carrier::Invoice, told.reading);
            }
            "invoice_payment" => {
                let payment = self.payment.inner();
                fact.intent = payment.and_then(|payment| payment.payment_intent.id());
                fact.charge = payment.and_then(|payment| payment.charge.id());
            }
            "review" => fact.object = Object::Review(self.review(news)),
            "radar.early_fraud_warning" => fact.object = Object::FraudWarning,
            _ => return Err(EventError::Unusable("object")),
        }
        Ok(fact)
    }

    fn session(&self, news: &str, told: &Told<'_>) -> Result<Session, EventError> {
        let status = self.payment_status.text();
        let is_complete = news == "completed" || news == "complete";
        // Nothing to pay is paid, but not before the buyer has finished.
        let is_free = is_complete && status == Some("no_payment_required");
        let is_paid = is_free || status == Some("paid") || news == "async_payment_succeeded";
        Ok(Session {
            completed: is_complete.then(|| told.since()),
            paid: is_paid.then(|| told.since()),
            async_failed: news == "async_payment_failed",
            expired: news == "expired",
            of_link: !self.payment_link.is_null(),
            made_here: self.metadata.get(MADE_HERE).is_some(),
            total: self
                .money(&self.amount_total, "data.object.amount_total")?
                .map(|total| (told.at, total)),
        })
    }

    fn intent(&self, news: &str, told: &Told<'_>) -> Result<Intent, EventError> {
        let attempt = match news {
            "succeeded" => Some(Attempt::Succeeded),
            "payment_failed" => Some(Attempt::Failed),
            "processing" => Some(Attempt::Processing),
            "amount_capturable_updated" | "requires_capture" => Some(Attempt::Held),
            "requires_payment_method" if told.asked => Some(Attempt::Idle),
            _ if told.asked && news.starts_with("requires_") => Some(Attempt::Waiting),
            _ => None,
        };
        let has_succeeded = attempt == Some(Attempt::Succeeded);
        let received = self.money(&self.amount_received, "data.object.amount_received")?;
        let asked = self.money(&self.amount, "data.object.amount")?;
        Ok(Intent {
            attempt: attempt.map(|attempt| (told.at, attempt)),
            succeeded: has_succeeded.then(|| told.since()),
            delayed: attempt == Some(Attempt::Processing),
            canceled: news == "canceled",
            manual: self.capture_method.text() == Some("manual") || attempt == Some(Attempt::Held),
            refunded: (news == "refunded").then_some(told.at),
            // A capture in steps is received before the intent has succeeded.
            received: match received {
                Some(received) if received.minor > 0 => Some(received),
                Some(_) | None if has_succeeded => asked.clone(),
                Some(_) | None => None,
            },
            asked,
        })
    }

    fn charge(&self, news: &str, told: &Told<'_>) -> Result<KnownCharge, EventError> {
        let amount = self.required(&self.amount, "data.object.amount")?;
        let has_expired = news == "expired";
        let is_captured = self.captured.flag() != Some(false) && !has_expired;
        let captured = self.amount(&self.amount_captured, "data.object.amount_captured")?;
        let refunded = self.amount(&self.amount_refunded, "data.object.amount_refunded")?;
        // A hold that expires is released, whether its object shows that already or not.
        let refunded = if has_expired { Some(amount) } else { refunded };
        // The oldest versions have no status: `paid` says it there.
        let status = match (self.status.text(), news, self.paid.flag()) {
            (Some("succeeded"), _, _) => ChargeStatus::Succeeded,
            (Some("failed"), _, _) | (None, "failed", _) => ChargeStatus::Failed,
            (Some(_), _, _) | (None, "pending", _) => ChargeStatus::Pending,
            (None, _, Some(false)) => ChargeStatus::Failed,
            (None, _, Some(true) | None) => ChargeStatus::Succeeded,
        };
        // When a charge failed that Stripe was asked for, is not known: at the earliest when it was made.
        let failed = if told.asked {
            self.created.whole().map_or(told.at, UnixSeconds)
        } else {
            told.at
        };
        Ok(KnownCharge {
            version: Some(Charge {
                status,
                at: told.at,
                is_captured,
                captured: captured.filter(|_| is_captured),
                refunded: refunded.unwrap_or(0),
                amount,
                currency: self.currency(),
                is_asked: told.asked,
            }),
            failed: (status == ChargeStatus::Failed).then_some(failed),
            waited: match status {
                ChargeStatus::Pending => Some(Wait::Bank),
                ChargeStatus::Succeeded if !is_captured => Some(Wait::Capture),
                ChargeStatus::Succeeded | ChargeStatus::Failed => None,
            },
            intent: None,
        })
    }

    fn refund(&self, news: &str, told: &Told<'_>) -> Result<Refund, EventError> {
        let status = match (self.status.text(), news) {
            (Some(status), _) => RefundStatus::parse(status),
            (None, "failed") => RefundStatus::Failed,
            (None, _) => RefundStatus::Pending,
        };
        let at = told.at;
        Ok(Refund {
            status,
            at,
            created: self.created.whole().map_or(at, UnixSeconds),
            amount: self.required(&self.amount, "data.object.amount")?,
            charge: self.charge.id(),
            intent: self.payment_intent.id(),
            listed: told.asked.then_some(at),
        })
    }

    fn dispute(&self, news: &str, at: UnixSeconds) -> Result<Dispute, EventError> {
        // A word of a later version must not keep a dispute open that is closed.
        let unknown = match news {
            "closed" => DisputeStatus::Closed,
            _ => DisputeStatus::Open,
        };
        Ok(Dispute {
            at,
            status: self
                .status
                .text()
                .and_then(DisputeStatus::parse)
                .unwrap_or(unknown),
            amount: self.amount(&self.amount, "data.object.amount")?,
            currency: self.currency(),
        })
    }

    fn invoice(&self, news: &str, at: UnixSeconds) -> Result<Invoice, EventError> {
        let status = match (self.status.text(), news) {
            (_, "paid") | (Some("paid"), _) => InvoiceStatus::Paid,
            (_, "voided") | (Some("void"), _) => InvoiceStatus::Void,
            (_, "marked_uncollectible") | (Some("uncollectible"), _) => {
                InvoiceStatus::Uncollectible
            }
            (Some(_) | None, _) => InvoiceStatus::Open,
        };
        let due = self.money(&self.amount_due, "data.object.amount_due")?;
        let paid = self.money(&self.amount_paid, "data.object.amount_paid")?;
        // What was paid outside of Stripe need not be in `amount_paid`.
        let paid = match paid {
            Some(paid) if paid.minor == 0 => due.clone(),
            paid => paid,
        };
        Ok(Invoice {
            status,
            at,
            due,
            paid: paid.filter(|_| status == InvoiceStatus::Paid),
        })
    }

    fn review(&self, news: &str) -> Review {
        match (self.open.flag(), news) {
            (Some(false), _) | (None, "closed") => Review::Closed,
            (Some(true) | None, _) => Review::Open,
        }
    }

    /// The names that this object gives its order, and whether it is of this shop.
    fn name(&self, fact: &mut Fact, carrier: Carrier, reading: &Reading) {
        let found_in = |places: &[(u8, Place)]| {
            let mut names: Vec<(Source, OrderId)> = Vec::new();
            let mut is_too_long = false;
            for (rank, place) in places {
                let (source, text) = match place {
                    Place::Metadata(key) => (Source::new(*rank, carrier), self.metadata.get(key)),
                    Place::Reference if carrier == Carrier::Session => (
                        Source::new(*rank, Carrier::Reference),
                        self.client_reference_id.text(),
                    ),
                    Place::Reference => continue,
                };
                // A blank one says nothing; one that is too long is not used, and the log says so.
                match text
                    .filter(|text| !text.trim().is_empty())
                    .map(OrderId::parse)
                {
                    Some(Ok(name)) if names.iter().all(|(known, _)| *known != source) => {
                        names.push((source, name));
                    }
                    Some(Err(_)) => is_too_long = true,
                    Some(Ok(_)) | None => {}
                }
            }
            (names, is_too_long)
        };
        (fact.names, fact.name_too_long) = found_in(reading.names.places());
        (fact.link_names, _) = found_in(reading.names.link_places());
        let Some(ours) = &reading.ours else { return };
        let metadata = |key: &str| self.metadata.get(key);
        let is_ours = ours.is_marked(&metadata, fact.names.iter().map(|(_, name)| name));
        // What begins a sale must carry the mark; an intent or a charge may have got none.
        let must = matches!(carrier, Carrier::Session | Carrier::Invoice);
        fact.belongs = Some(match (is_ours, must) {
            (true, _) => Belongs::Ours,
            (false, true) => Belongs::Other,
            (false, false) => Belongs::Unknown,
        });
    }

    fn currency(&self) -> Option<Box<str>> {
        let text = self.currency.text()?;
        let plain =
            (3..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        plain.then(|| text.to_ascii_lowercase().into())
    }

    fn money(&self, field: &Field<'_>, name: &'static str) -> Result<Option<Money>, EventError> {
        let minor = self.amount(field, name)?;
        Ok(minor
            .zip(self.currency())
            .map(|(minor, currency)| Money { minor, currency }))
    }

    fn required(&self, field: &Field<'_>, name: &'static str) -> Result<i64, EventError> {
        self.amount(field, name)?.ok_or(EventError::Unusable(name))
    }

    /// An amount in minor units, `None` when the field is missing or null.
    fn amount(&self, field: &Field<'_>, name: &'static str) -> Result<Option<i64>, EventError> {
        match field.whole() {
            Some(minor) if (0..=AMOUNT_MAX).contains(&minor) => Ok(Some(minor)),
            None if field.is_null() => Ok(None),
            Some(_) | None => Err(EventError::Unusable(name)),
        }
    }
}

/// A value of any type, of which we keep what we can use.
#[derive(Default)]
enum Field<'a> {
    /// Missing or null.
    #[default]
    Null,
    Flag(bool),
    Whole(i64),
    Text(Cow<'a, str>),
    Object(Box<Inner<'a>>),
    /// A list, a fraction, a number beyond `i64`.
    Other,
}

/// What we look for inside an object: the id of an expanded one, the session or invoice in
/// `payment_details`, what an invoice was paid with.
#[derive(Default)]
struct Inner<'a> {
    id: Field<'a>,
    order_reference: Field<'a>,
    payment_intent: Field<'a>,
    charge: Field<'a>,
}

/// The shop's own texts on an object; of values that are no text only their keys.
/// <https://docs.stripe.com/metadata>
#[derive(Default)]
struct Metadata<'a>(Vec<(Cow<'a, str>, Field<'a>)>);

impl Metadata<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(known, _)| known == key);
        found.find_map(|(_, value)| value.text())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Metadata<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Metadata<'a>, D::Error> {
        deserializer.deserialize_any(MetadataVisitor)
    }
}

struct MetadataVisitor;

/// What is no object has no texts.
impl<'de> Visitor<'de> for MetadataVisitor {
    type Value = Metadata<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Metadata<'de>, E> {
        Ok(Metadata::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Metadata<'de>, E> {
        Ok(Metadata::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Metadata<'de>, E> {
        Ok(Metadata::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Metadata<'de>, E> {
        Ok(Metadata::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Metadata<'de>, E> {
        Ok(Metadata::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Metadata<'de>, E> {
        Ok(Metadata::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Metadata<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Metadata::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Metadata(entries))
    }
}

impl<'a> Field<'a> {
    fn is_null(&self) -> bool {
        matches!(self, Field::Null)
    }

    fn flag(&self) -> Option<bool> {
        if let Field::Flag(flag) = self {
            Some(*flag)
        } else {
            None
        }
    }

    fn mode(&self) -> Option<Mode> {
        self.flag()
            .map(|is_live| if is_live { Mode::Live } else { Mode::Test })
    }

    fn whole(&self) -> Option<i64> {
        if let Field::Whole(number) = self {
            Some(*number)
        } else {
            None
        }
    }

    fn text(&self) -> Option<&str> {
        if let Field::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }

    fn inner(&self) -> Option<&Inner<'a>> {
        if let Field::Object(inner) = self {
            Some(inner)
        } else {
            None
        }
    }

    /// An id, written as text or as the object that it stands for.
    fn id(&self) -> Option<StripeId> {
        let text = self
            .text()
            .or_else(|| self.inner().and_then(|inner| inner.id.text()))?;
        StripeId::parse(text).ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Field<'a>, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Field<'de>, E> {
        Ok(Field::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Field<'de>, E> {
        Ok(Field::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Field<'de>, E> {
        Ok(Field::Whole(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Field<'de>, E> {
        Ok(i64::try_from(number).map_or(Field::Other, Field::Whole))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field<'de>, E> {
        Ok(Field::Other)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Field<'de>, E> {
        Ok(Field::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Field<'de>, E> {
        Ok(Field::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field<'de>, A::Error> {
        let mut inner = Box::new(Inner::default());
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "id" => inner.id = map.next_value()?,
                "order_reference" => inner.order_reference = map.next_value()?,
                "payment_intent" => inner.payment_intent = map.next_value()?,
                "charge" => inner.charge = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Field::Object(inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::payment::{Payment, Standing};

    fn read(text: &str) -> Result<Event, EventError> {
        Event::from_json(text, &Reading::default())
    }

    /// An event of `kind` about `object`.
    fn about(kind: &str, object: &str) -> Result<Event, EventError> {
        read(&format!(
            r#"{{"id":"evt_1","type":"{kind}","created":10,"data":{{"object":{object}}}}}"#
        ))
    }

    fn fact(kind: &str, object: &str) -> Fact {
        match about(kind, object).unwrap().meaning {
            Meaning::Fact(fact) => *fact,
            Meaning::Ignored(why) => panic!("ignored: {why:?}"),
        }
    }

    #[test]
    fn what_is_no_event_says_which_field_is_missing() {
        assert_eq!(read("").unwrap_err(), EventError::NotJson);
        assert_eq!(read("\u{feff}{}").unwrap_err(), EventError::NotJson);
        assert_eq!(read(&"[".repeat(20_000)).unwrap_err(), EventError::NotJson);
        assert_eq!(read("42").unwrap_err(), EventError::Unusable("event"));
        assert_eq!(read("{}").unwrap_err(), EventError::Unusable("id"));
        assert_eq!(
            read(r#"{"id":"e v"}"#).unwrap_err(),
            EventError::Unusable("id")
        );
        assert_eq!(
            read(r#"{"id":"evt_1"}"#).unwrap_err(),
            EventError::Unusable("type")
        );
        let no_object = r#"{"id":"evt_1","type":"charge.refunded","data":{}}"#;
        assert_eq!(
            read(no_object).unwrap_err(),
            EventError::Unusable("data.object")
        );
        let no_id = about("charge.refunded", r#"{"amount":1}"#);
        assert_eq!(no_id.unwrap_err(), EventError::Unusable("data.object.id"));
        for amount in ["-1", "1.5", "\"1\"", "99999999999999999999", "null"] {
            let event = about(
                "charge.refunded",
                &format!(r#"{{"id":"ch_1","amount":{amount}}}"#),
            );
            assert_eq!(
                event.unwrap_err(),
                EventError::Unusable("data.object.amount")
            );
        }
    }

    #[test]
    fn fields_of_other_types_are_read_as_if_they_were_not_there() {
        let fact = fact(
            "checkout.session.completed",
            r#"{"id":"cs_1","payment_intent":["pi_1"],"metadata":"text","client_reference_id":7,
                "payment_status":{"a":1},"amount_total":null,"currency":false,"mode":null}"#,
        );
        assert_eq!((fact.intent, fact.names), (None, vec![]));
        let session = Session {
            completed: Some(Since::Told(UnixSeconds(10))),
            ..Session::default()
        };
        assert_eq!(fact.object, Object::Session(session));
    }

    #[test]
    fn an_expanded_object_stands_for_its_id() {
        let fact = fact(
            "refund.created",
            r#"{"id":"re_1","amount":5,"charge":{"id":"ch_1","object":"charge","amount":9},
                "payment_intent":{"metadata":{"id":"no"},"id":"pi_1"}}"#,
        );
        assert_eq!(fact.charge.unwrap().as_str(), "ch_1");
        assert_eq!(fact.intent.unwrap().as_str(), "pi_1");
    }

    #[test]
    fn nothing_to_pay_is_paid_and_a_card_that_is_saved_is_no_sale() {
        let setup = r#"{"id":"cs_1","mode":"setup","payment_status":"no_payment_required"}"#;
        let ignored = about("checkout.session.completed", setup).unwrap().meaning;
        assert_eq!(ignored, Meaning::Ignored(Ignored::NoSale));
        for (mode, paid) in [("payment", true), ("subscription", true)] {
            let object = format!(
                r#"{{"id":"cs_1","mode":"{mode}","payment_status":"no_payment_required"}}"#
            );
            let fact = fact("checkout.session.completed", &object);
            assert!(
                matches!(fact.object, Object::Session(session) if session.paid.is_some() == paid)
            );
        }
    }

    #[test]
    fn order_ids_are_taken_from_three_places_and_blank_or_endless_ones_are_not() {
        let long = "x".repeat(201);
        let fact = fact(
            "checkout.session.completed",
            &format!(
                r#"{{"id":"cs_1","client_reference_id":"{long}","metadata":{{"order_id":" ","orderId":"ord_1"}}}}"#
            ),
        );
        assert!(fact.name_too_long);
        let names = [(
            Source::new(0, Carrier::Session),
            OrderId::parse("ord_1").unwrap(),
        )];
        assert_eq!(fact.names, names);
    }

    #[test]
    fn only_a_session_is_taken_from_an_intents_order_reference() {
        for (reference, session) in [("cs_1", Some("cs_1")), ("order 7", None), ("ord_7", None)] {
            let object =
                format!(r#"{{"id":"pi_1","payment_details":{{"order_reference":"{reference}"}}}}"#);
            let fact = fact("payment_intent.succeeded", &object);
            assert_eq!(fact.session.as_ref().map(StripeId::as_str), session);
        }
    }

    #[test]
    fn the_time_that_an_event_tells_is_better_than_the_second_in_which_stripe_was_asked() {
        let session = r#"{"id":"cs_1","object":"checkout.session","status":"complete",
            "payment_status":"unpaid","payment_intent":"pi_1"}"#;
        let idle = r#"{"id":"pi_1","object":"payment_intent","status":"requires_payment_method"}"#;
        let asked =
            |object| Fact::from_object(object, UnixSeconds(10), &Reading::default()).unwrap();
        let told = fact("checkout.session.completed", session);
        let standing = |facts: &[Fact]| {
            let mut payment = Payment::default();
            facts.iter().for_each(|fact| payment.learn(fact.clone()));
            payment.standing()
        };
        let (session, idle) = (asked(session), asked(idle));
        assert_eq!(
            standing(&[session.clone(), idle.clone()]),
            Standing::Failed,
            "asked together: the buyer had finished, and no attempt runs"
        );
        for facts in [[&told, &session, &idle], [&idle, &session, &told]] {
            let facts = facts.map(Fact::clone);
            assert_eq!(
                standing(&facts),
                Standing::Processing,
                "the buyer finished in that second, and the intent may have been asked for before"
            );
        }
    }

    #[test]
    fn a_fetched_object_tells_what_its_event_would_have_told() {
        let at = UnixSeconds(10);
        for (kind, object) in [
            (
                "checkout.session.completed",
                r#"{"id":"cs_1","object":"checkout.session","status":"complete","payment_status":"unpaid"}"#,
            ),
            (
                "checkout.session.expired",
                r#"{"id":"cs_1","object":"checkout.session","status":"expired"}"#,
            ),
            (
                "payment_intent.succeeded",
                r#"{"id":"pi_1","object":"payment_intent","status":"succeeded","amount":5,"currency":"eur"}"#,
            ),
            (
                "payment_intent.canceled",
                r#"{"id":"pi_1","object":"payment_intent","status":"canceled"}"#,
            ),
            (
                "charge.refunded",
                r#"{"id":"ch_1","object":"charge","amount":5,"amount_refunded":5}"#,
            ),
            (
                "refund.failed",
                r#"{"id":"re_1","object":"refund","amount":5,"status":"failed"}"#,
            ),
            (
                "charge.dispute.closed",
                r#"{"id":"du_1","object":"dispute","status":"lost"}"#,
            ),
        ] {
            // Stripe was asked a moment after it became so.
            let asked = UnixSeconds(at.0 + 1);
            let mut told = fact(kind, object);
            let fetched = Fact::from_object(object, asked, &Reading::default()).unwrap();
            let payment = |fact: Fact| {
                let mut payment = Payment::default();
                payment.learn(fact);
                (
                    payment.is_paid(),
                    payment.standing(),
                    payment.refunded(5),
                    payment.dispute(),
                )
            };
            (told.at, told.made) = (asked, asked);
            assert_eq!(
                fetched.ids().collect::<Vec<_>>(),
                told.ids().collect::<Vec<_>>()
            );
            assert_eq!(payment(fetched), payment(told), "{kind}");
        }
        let other = Fact::from_object(
            r#"{"id":"cus_1","object":"customer"}"#,
            at,
            &Reading::default(),
        );
        assert_eq!(other.unwrap_err(), EventError::Unusable("object"));
    }
}
