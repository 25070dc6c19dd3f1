//! Reads the few fields that we act on from a verified body, and says what they tell us.
//!
//! Which events exist, what each field means and which may be missing:
//! <https://docs.stripe.com/api/events/types>. How its object is read: `raw.rs`.

use std::fmt;

use serde::Deserialize;

use super::fact::Fact;
use super::field::Field;
use super::kind::Kind;
use super::raw::{Origin, Raw, Unusable};
use super::reading::{Mode, Reading};
use super::signature::Verified;
use crate::base::id::{StripeId, UnixSeconds};
use crate::base::log_line::ErrorCode;

/// One event: Stripe's message that something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `evt_…`: the same for every delivery of this event.
    pub id: StripeId,
    /// Stripe's own name for what happened, such as `charge.refunded`.
    pub kind: Box<str>,
    /// When Stripe made the event; thin events and some test tools do not say.
    pub created: Option<UnixSeconds>,
    /// The version that the event's shape follows, such as `2026-10-28.endive`.
    pub api_version: Option<Box<str>>,
    /// Stripe's mode that it comes from, if it says so.
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
    /// `paidup send-test` or the demo made it.
    #[must_use]
    pub(crate) fn is_sample(&self) -> bool {
        self.id.as_str().starts_with(SAMPLE_EVENT)
    }
}

/// The prefix of the ids of our own test events.
pub(crate) const SAMPLE_EVENT: &str = "evt_test_";

/// Why an event changes no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// A type that says nothing of orders.
    Type,
    /// An event of a connected account; a shop is not a platform.
    /// <https://docs.stripe.com/connect/webhooks>
    Account,
    /// A thin event has no object to read. The destination in the Dashboard must send snapshots.
    /// <https://docs.stripe.com/webhooks#event-overview>
    Thin,
    /// A test event while the database is of live mode, or the other way round.
    Mode,
    /// Nothing to pay: a session that only saves a card, or an invoice of zero.
    NoSale,
    /// It is another shop's that shares the account: `OUR_ORDERS` says which orders are ours.
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

/// Why we cannot read a verified body. It is answered 400, so that Stripe sends it again.
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

    /// Reads an event that the caller knows to be Stripe's: Stripe's API answered with it.
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
    /// Reads an object that Stripe's API answered with at the time `at`: it tells what an event made then
    /// would tell.
    ///
    /// # Errors
    /// [`EventError`] when it is not JSON, or not an object that tells of orders.
    pub fn from_object(text: &str, at: UnixSeconds, reading: &Reading) -> Result<Fact, EventError> {
        let raw: Raw<'_> = serde_json::from_str(text).map_err(|_| EventError::NotJson)?;
        let object = raw.object.text().ok_or(EventError::Unusable("object"))?;
        if raw.sells_nothing(object) {
            return Err(EventError::Unusable("sale"));
        }
        let origin = Origin {
            at,
            is_asked: true,
            reading,
        };
        let news = raw.status.text().unwrap_or_default();
        Ok(raw.fact(object, news, &origin)?)
    }
}

impl From<Unusable> for EventError {
    fn from(Unusable(field): Unusable) -> EventError {
        EventError::Unusable(field)
    }
}

/// The longest event type that is taken, in bytes. Stripe's longest has about 70.
const KIND_MAX_BYTES: usize = 255;

/// An event as far as we read it: one pass, no intermediate tree. Any field may have any type.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct RawEvent<'a> {
    #[serde(default)]
    id: Field<'a>,
    #[serde(default)]
    object: Field<'a>,
    #[serde(default, rename = "type")]
    kind: Field<'a>,
    #[serde(default)]
    api_version: Field<'a>,
    #[serde(default)]
    created: Field<'a>,
    #[serde(default)]
    livemode: Field<'a>,
    #[serde(default)]
    account: Field<'a>,
    data: Option<RawData<'a>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct RawData<'a> {
    object: Option<Raw<'a>>,
}

impl RawEvent<'_> {
    /// Decides what the event means: first whether it is for us, then what it tells.
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
        let Some(kind) = Kind::find(kind) else {
            return Ok(Meaning::Ignored(Ignored::Type));
        };
        if object.sells_nothing(kind.object) {
            return Ok(Meaning::Ignored(Ignored::NoSale));
        }
        let origin = Origin {
            at: created.ok_or(EventError::Unusable("created"))?,
            is_asked: false,
            reading,
        };
        let mut fact = object.fact(kind.object, kind.news(), &origin)?;
        fact.mode = self.livemode.mode();
        Ok(Meaning::Fact(Box::new(fact)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::OrderId;
    use crate::truth::fact::{Object, Session, Since};
    use crate::truth::names::{Carrier, Source};
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
                    payment.refunded(5).all,
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
