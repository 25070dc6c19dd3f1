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

use super::id::{OrderId, StripeId, UnixSeconds};
use super::log_line::ErrorCode;
use super::payment::{
    Charge, DisputeStatus, Fact, Intent, Money, Object, Refund, RefundStatus, Session, Source,
};
use super::signature::Verified;

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
    /// A test event where `STRIPE_MODE=live`, or a live one where it is `test`.
    Mode,
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
        }
    }
}

/// Stripe's two worlds. <https://docs.stripe.com/keys#test-live-modes>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Real money.
    Live,
    /// Test cards; sandboxes are of this mode too.
    Test,
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
pub const TYPES: [&str; 19] = [
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
    "payment_intent.refunded",
    "charge.succeeded",
    "charge.refund.updated",
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
    /// Reads a verified body. With `mode`, events of the other mode are ignored.
    ///
    /// # Errors
    /// [`EventError`] when the body is not JSON, or has no usable `id`, `type` or `data.object`.
    pub fn parse(body: &Verified<'_>, mode: Option<Mode>) -> Result<Event, EventError> {
        // serde_json does not look into the texts that it skips, so UTF-8 is checked here.
        let text = std::str::from_utf8(body.bytes()).map_err(|_| EventError::NotJson)?;
        Event::from_json(text, mode)
    }

    /// Reads one event document of which the caller knows that it is Stripe's: one that Stripe's
    /// API answered with.
    ///
    /// # Errors
    /// As [`Event::parse`].
    pub fn from_json(text: &str, mode: Option<Mode>) -> Result<Event, EventError> {
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
            meaning: raw.meaning(kind, created, mode)?,
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
    pub fn from_object(text: &str, at: UnixSeconds) -> Result<Fact, EventError> {
        let raw: Raw<'_> = serde_json::from_str(text).map_err(|_| EventError::NotJson)?;
        let kind = match (raw.object.text(), raw.status.text()) {
            (Some("checkout.session"), Some("complete")) => "checkout.session.completed",
            (Some("checkout.session"), Some("expired")) => "checkout.session.expired",
            (Some("checkout.session"), _) => "checkout.session.open",
            (Some("payment_intent"), Some("succeeded")) => "payment_intent.succeeded",
            (Some("payment_intent"), Some("canceled")) => "payment_intent.canceled",
            (Some("payment_intent"), _) => "payment_intent.open",
            (Some("charge"), _) => "charge.succeeded",
            (Some("refund"), _) => "refund.updated",
            (Some("dispute"), _) => "charge.dispute.updated",
            _ => return Err(EventError::Unusable("object")),
        };
        raw.fact(kind, at)
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
        mode: Option<Mode>,
    ) -> Result<Meaning, EventError> {
        if self.object.text() == Some("v2.core.event") {
            return Ok(Meaning::Ignored(Ignored::Thin));
        }
        let object = self.data.as_ref().and_then(|data| data.object.as_ref());
        let object = object.ok_or(EventError::Unusable("data.object"))?;
        if !self.account.is_null() {
            return Ok(Meaning::Ignored(Ignored::Account));
        }
        let other = match mode {
            Some(Mode::Live) => self.livemode.flag() != Some(true),
            Some(Mode::Test) => self.livemode.flag() != Some(false),
            None => false,
        };
        if other {
            return Ok(Meaning::Ignored(Ignored::Mode));
        }
        if !TYPES.contains(&kind) {
            return Ok(Meaning::Ignored(Ignored::Type));
        }
        let at = created.ok_or(EventError::Unusable("created"))?;
        object
            .fact(kind, at)
            .map(|fact| Meaning::Fact(Box::new(fact)))
    }
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
    metadata: Field<'a>,
    #[serde(borrow)]
    payment_details: Field<'a>,
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
    /// What an event of type `kind`, made at `at`, tells of this object.
    fn fact(&self, kind: &str, at: UnixSeconds) -> Result<Fact, EventError> {
        let id = self.id.id().ok_or(EventError::Unusable("data.object.id"))?;
        let mut fact = Fact::new(at, id, Object::Session(Session::default()));
        fact.made = self.created.whole().map_or(at, UnixSeconds);
        if let Some(name) = kind.strip_prefix("checkout.session.") {
            fact.object = Object::Session(self.session(name, at)?);
            self.claim(
                &mut fact,
                Source::SessionReference,
                self.client_reference_id.text(),
            );
            self.claim(&mut fact, Source::SessionMetadata, self.order_id());
            fact.intent = self.payment_intent.id();
        } else if let Some(name) = kind.strip_prefix("payment_intent.") {
            fact.object = Object::Intent(self.intent(name, at)?);
            self.claim(&mut fact, Source::IntentMetadata, self.order_id());
            // Checkout puts its session's id there. Stripe does not promise it, so a shop's own text
            // may stand there as well: the one place where a prefix is looked at.
            let reference = self
                .payment_details
                .inner()
                .and_then(|inner| inner.order_reference.id());
            fact.session = reference.filter(|id| id.as_str().starts_with("cs_"));
            fact.charge = self.latest_charge.id();
        } else if kind.starts_with("charge.dispute.") {
            let status = self
                .status
                .text()
                .map_or(DisputeStatus::Open, DisputeStatus::parse);
            fact.object = Object::Dispute { status };
            fact.intent = self.payment_intent.id();
            fact.charge = self.charge.id();
        } else if kind.starts_with("refund.") || kind.starts_with("charge.refund.") {
            fact.object = Object::Refund(self.refund(kind, at)?);
            fact.intent = self.payment_intent.id();
            fact.charge = self.charge.id();
        } else {
            fact.object = Object::Charge(self.charge()?);
            self.claim(&mut fact, Source::ChargeMetadata, self.order_id());
            fact.intent = self.payment_intent.id();
        }
        Ok(fact)
    }

    fn session(&self, name: &str, at: UnixSeconds) -> Result<Session, EventError> {
        let free = self.payment_status.text() == Some("no_payment_required")
            && self.mode.text() == Some("payment");
        Ok(Session {
            completed: name == "completed",
            paid: free || self.payment_status.text() == Some("paid"),
            async_succeeded: name == "async_payment_succeeded",
            async_failed: name == "async_payment_failed",
            expired: name == "expired",
            total: self
                .money(&self.amount_total, "data.object.amount_total")?
                .map(|m| (at, m)),
        })
    }

    fn intent(&self, name: &str, at: UnixSeconds) -> Result<Intent, EventError> {
        let succeeded = name == "succeeded";
        let received = self.money(&self.amount_received, "data.object.amount_received")?;
        let asked = self.money(&self.amount, "data.object.amount")?;
        Ok(Intent {
            succeeded,
            failed: name == "payment_failed",
            canceled: name == "canceled",
            refunded: (name == "refunded").then_some(at),
            received: if succeeded {
                received.or(asked.clone())
            } else {
                None
            },
            asked,
        })
    }

    fn charge(&self) -> Result<Charge, EventError> {
        let amount = self.required(&self.amount, "data.object.amount")?;
        let captured = self.captured.flag() != Some(false);
        let taken = self.amount(&self.amount_captured, "data.object.amount_captured")?;
        let refunded = self.amount(&self.amount_refunded, "data.object.amount_refunded")?;
        Ok(Charge {
            refunded: refunded.unwrap_or(0),
            captured: if captured { taken.unwrap_or(amount) } else { 0 },
            is_captured: captured,
            currency: self.currency(),
        })
    }

    fn refund(&self, kind: &str, at: UnixSeconds) -> Result<Refund, EventError> {
        let status = match (self.status.text(), kind) {
            (Some(status), _) => RefundStatus::parse(status),
            (None, "refund.failed") => RefundStatus::Failed,
            (None, _) => RefundStatus::Pending,
        };
        Ok(Refund {
            status,
            at,
            created: self.created.whole().map_or(at, UnixSeconds),
            amount: self.required(&self.amount, "data.object.amount")?,
            charge: self.charge.id(),
        })
    }

    /// `metadata.order_id`, else `metadata.orderId`.
    fn order_id(&self) -> Option<&str> {
        let inner = self.metadata.inner()?;
        let snake = inner.order_id.text().filter(|text| !text.trim().is_empty());
        snake.or(inner.order_id_camel.text())
    }

    /// Adds what `text` says of the order's name. A blank one says nothing; one that is too long
    /// is not used, and the log says so.
    fn claim(&self, fact: &mut Fact, source: Source, text: Option<&str>) {
        match text
            .filter(|text| !text.trim().is_empty())
            .map(OrderId::parse)
        {
            Some(Ok(name)) => fact.names.push((source, name)),
            Some(Err(_)) => fact.name_too_long = true,
            None => {}
        }
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

/// What we look for inside an object: the id of an expanded one, our keys in `metadata`, the
/// session in `payment_details`.
#[derive(Default)]
struct Inner<'a> {
    id: Field<'a>,
    order_id: Field<'a>,
    order_id_camel: Field<'a>,
    order_reference: Field<'a>,
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
                "order_id" => inner.order_id = map.next_value()?,
                "orderId" => inner.order_id_camel = map.next_value()?,
                "order_reference" => inner.order_reference = map.next_value()?,
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

    fn read(text: &str) -> Result<Event, EventError> {
        Event::from_json(text, None)
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
            completed: true,
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
    fn nothing_to_pay_is_paid_in_payment_mode_only() {
        for (mode, paid) in [("payment", true), ("setup", false), ("subscription", false)] {
            let object = format!(
                r#"{{"id":"cs_1","mode":"{mode}","payment_status":"no_payment_required"}}"#
            );
            let fact = fact("checkout.session.completed", &object);
            assert!(matches!(fact.object, Object::Session(session) if session.paid == paid));
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
        let names = [(Source::SessionMetadata, OrderId::parse("ord_1").unwrap())];
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
            assert_eq!(
                Fact::from_object(object, at).unwrap(),
                fact(kind, object),
                "{kind}"
            );
        }
        let other = Fact::from_object(r#"{"id":"cus_1","object":"customer"}"#, at);
        assert_eq!(other.unwrap_err(), EventError::Unusable("object"));
    }
}
