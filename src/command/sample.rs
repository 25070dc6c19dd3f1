//! Event documents as Stripe would send them, for `send-test`, `demo` and the benchmarks.
//!
//! They have the shape of API version 2026-10-28.endive and carry everything a real event does, a
//! buyer's address included, so processing them costs the same. All are of test mode.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::base::id::UnixSeconds;

/// One payment of one order, and the ids of its Stripe objects. They follow from the order id, so
/// events that are made at different times belong together; only event ids differ.
#[derive(Clone, Debug)]
pub struct SamplePayment {
    order: String,
    /// In minor units.
    amount: i64,
    currency: String,
    api_version: String,
}

/// What a document tells where its type leaves it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Details {
    /// `payment_status` of a session, `status` of a refund or dispute.
    pub status: &'static str,
    /// Amount of a refund, or running total of a charge, in minor units.
    pub refunded: i64,
    /// Which refund of the payment, from 1.
    pub refund: u8,
    /// How long before the event its refund or dispute was made.
    pub age_seconds: i64,
}

/// One event, ready to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// `evt_test_…`
    pub id: String,
    /// Its type.
    pub kind: &'static str,
    /// JSON, indented by two blanks as Stripe does.
    pub text: String,
}

impl SamplePayment {
    /// A payment of `amount` minor units for the order `order`.
    #[must_use]
    pub fn new(order: &str, amount: i64, currency: &str, api_version: &str) -> SamplePayment {
        SamplePayment {
            order: order.to_owned(),
            amount,
            currency: currency.to_owned(),
            api_version: api_version.to_owned(),
        }
    }

    /// What an event of type `kind` usually tells: all is paid, all is refunded, disputes are won.
    #[must_use]
    pub fn usual(&self, kind: &str) -> Details {
        let (status, age_seconds) = match kind {
            "checkout.session.completed" | "checkout.session.async_payment_succeeded" => {
                ("paid", 0)
            }
            "refund.created" => ("succeeded", 0),
            "refund.updated" => ("succeeded", DAY),
            // A refund that fails does so days after it was made.
            "refund.failed" | "charge.refund.updated" => ("failed", DAY),
            "charge.dispute.created" | "charge.dispute.funds_withdrawn" => ("needs_response", 0),
            "charge.dispute.updated" => ("under_review", DAY),
            "charge.dispute.closed" | "charge.dispute.funds_reinstated" => ("won", DAY),
            _ => ("unpaid", 0),
        };
        let refunded = if kind == "charge.succeeded" {
            0
        } else {
            self.amount
        };
        Details {
            status,
            refunded,
            refund: 1,
            age_seconds,
        }
    }

    /// A whole life: declined, paid, refunded in part, disputed, won, refund failed. The order ends
    /// paid.
    #[must_use]
    pub(crate) fn life(&self) -> Vec<(&'static str, Details)> {
        let part = |kind, status| {
            (
                kind,
                Details {
                    refunded: self.amount / 2,
                    status,
                    ..self.usual(kind)
                },
            )
        };
        let usual = |kind| (kind, self.usual(kind));
        vec![
            usual("payment_intent.payment_failed"),
            usual("checkout.session.completed"),
            usual("payment_intent.succeeded"),
            usual("charge.succeeded"),
            part("refund.created", "pending"),
            part("charge.refunded", ""),
            part("refund.updated", "succeeded"),
            usual("charge.dispute.created"),
            usual("charge.dispute.funds_withdrawn"),
            usual("charge.dispute.updated"),
            usual("charge.dispute.closed"),
            usual("charge.dispute.funds_reinstated"),
            part("refund.failed", "failed"),
        ]
    }

    /// The event of type `kind` that tells `told`, made at `at`. Another `number`, another event.
    #[must_use]
    pub fn event(
        &self,
        kind: &'static str,
        told: Details,
        at: UnixSeconds,
        number: u64,
    ) -> Document {
        let id = format!("evt_test_{number:016x}");
        let event = self.filled(
            include_str!("sample/event.json"),
            &[
                ("id", json!(id)),
                ("api_version", json!(self.api_version)),
                ("at", json!(at.0)),
                ("object", self.object(kind, told, at.0)),
                ("type", json!(kind)),
            ],
        );
        Document {
            id,
            kind,
            text: format!("{event:#}"),
        }
    }

    fn object(&self, kind: &str, told: Details, at: i64) -> Value {
        if let Some(name) = kind.strip_prefix("checkout.session.") {
            self.session(name, told, at)
        } else if let Some(name) = kind.strip_prefix("payment_intent.") {
            self.intent(name, at)
        } else if kind.starts_with("charge.dispute.") {
            self.dispute(told, at - told.age_seconds)
        } else if kind.starts_with("refund.") || kind.starts_with("charge.refund.") {
            self.refund(told, at - told.age_seconds)
        } else {
            self.charge(told, at)
        }
    }

    fn session(&self, name: &str, told: Details, at: i64) -> Value {
        let is_over = name == "expired";
        let status = if is_over { "expired" } else { "complete" };
        let mut session = self.filled(
            include_str!("sample/session.json"),
            &[
                ("created", json!(at - MINUTE)),
                ("expires_at", json!(at - MINUTE + DAY)),
                ("payment_status", json!(told.status)),
                ("status", json!(status)),
            ],
        );
        if is_over {
            clear(&mut session, &["customer_details", "payment_intent"]);
        }
        session
    }

    fn intent(&self, name: &str, at: i64) -> Value {
        let (status, received) = match name {
            "succeeded" | "refunded" => ("succeeded", self.amount),
            "canceled" => ("canceled", 0),
            _ => ("requires_payment_method", 0),
        };
        let mut intent = self.filled(
            include_str!("sample/intent.json"),
            &[
                ("amount_received", json!(received)),
                ("canceled_at", json!(at)),
                (
                    "client_secret",
                    json!(format!("{}_secret_test", self.id("pi", 0))),
                ),
                ("created", json!(at - MINUTE)),
                ("status", json!(status)),
            ],
        );
        if name != "canceled" {
            clear(&mut intent, &["canceled_at", "cancellation_reason"]);
        }
        if name != "payment_failed" {
            clear(&mut intent, &["last_payment_error"]);
        }
        if received == 0 {
            clear(&mut intent, &["latest_charge"]);
        }
        intent
    }

    fn charge(&self, told: Details, at: i64) -> Value {
        self.filled(
            include_str!("sample/charge.json"),
            &[
                ("amount_refunded", json!(told.refunded)),
                ("created", json!(at - MINUTE)),
                ("refunded", json!(told.refunded >= self.amount)),
            ],
        )
    }

    fn refund(&self, told: Details, created: i64) -> Value {
        let mut refund = self.filled(
            include_str!("sample/refund.json"),
            &[
                ("amount_refunded", json!(told.refunded)),
                ("created", json!(created)),
                ("re", json!(self.id("re", told.refund))),
                ("status", json!(told.status)),
                ("txn", json!(self.id("txn", told.refund))),
            ],
        );
        if told.status != "failed" {
            clear(&mut refund, &["failure_reason"]);
        }
        refund
    }

    fn dispute(&self, told: Details, created: i64) -> Value {
        const TRANSACTION: u8 = 99;
        self.filled(
            include_str!("sample/dispute.json"),
            &[
                ("created", json!(created)),
                ("due_by", json!(created + 9 * DAY)),
                ("minus_amount", json!(-self.amount)),
                ("minus_amount_and_fee", json!(-self.amount - 2000)),
                ("status", json!(told.status)),
                ("txn", json!(self.id("txn", TRANSACTION))),
            ],
        )
    }

    /// The template with a value in the place of each text `$NAME`: one of `values`, what is true of
    /// the whole payment, or else the id of the payment's object whose prefix that is.
    fn filled(&self, template: &str, values: &[(&str, Value)]) -> Value {
        let value = |name: &str| match values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => value.clone(),
            None => match name {
                "order" => json!(self.order),
                "amount" => json!(self.amount),
                "currency" => json!(self.currency),
                prefix => json!(self.id(prefix, 0)),
            },
        };
        let mut object = serde_json::from_str(template).unwrap_or_default();
        fill(&mut object, &value);
        object
    }

    /// The id of the payment's object of that kind: always the same for one order.
    fn id(&self, prefix: &str, number: u8) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{prefix} {number} {}", self.order));
        let mut digits = hex::encode(hash.finalize());
        digits.truncate(24);
        format!("{prefix}_test_{digits}")
    }
}

const MINUTE: i64 = 60;
const DAY: i64 = 24 * 60 * MINUTE;

fn fill(at: &mut Value, value: &impl Fn(&str) -> Value) {
    match at {
        Value::String(text) => {
            if let Some(name) = text.strip_prefix('$') {
                *at = value(name);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, value)),
        Value::Object(fields) => fields.values_mut().for_each(|field| fill(field, value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Makes those fields null.
fn clear(object: &mut Value, names: &[&str]) {
    for name in names {
        if let Some(field) = object.get_mut(name) {
            *field = Value::Null;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, StoredOrder};
    use crate::truth::delivery::{Delivery, Outcome};
    use crate::truth::event::{Event, Meaning};
    use crate::truth::kind::Kind;
    use crate::truth::order::{DisputeState, Status};
    use crate::truth::reading::Reading;

    const NOW: UnixSeconds = UnixSeconds(1_795_000_000);

    fn payment() -> SamplePayment {
        SamplePayment::new("test_1", 2500, "eur", "2026-10-28.endive")
    }

    /// What becomes of an order of which these events are told.
    fn told(documents: &[Document]) -> (Vec<Outcome>, Option<StoredOrder>) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("paidup.db")).unwrap();
        let outcomes = documents.iter().map(|document| {
            let event = Event::from_json(&document.text, &Reading::default()).unwrap();
            let delivery = Delivery {
                event,
                sha256: [7; 32],
                request_id: None,
                received: NOW,
            };
            let receipt = store.record(&[delivery]).unwrap().remove(0).unwrap();
            receipt.outcome
        });
        (outcomes.collect(), store.order("test_1").unwrap())
    }

    #[test]
    fn every_type_makes_of_an_order_what_its_name_claims() {
        for (kind, status) in [
            ("checkout.session.completed", Some(Status::Paid)),
            (
                "checkout.session.async_payment_succeeded",
                Some(Status::Paid),
            ),
            (
                "checkout.session.async_payment_failed",
                Some(Status::Failed),
            ),
            ("checkout.session.expired", Some(Status::Expired)),
            ("charge.refunded", Some(Status::Refunded)),
            ("payment_intent.succeeded", Some(Status::Paid)),
            ("payment_intent.payment_failed", Some(Status::Pending)),
            ("payment_intent.canceled", Some(Status::Canceled)),
            ("payment_intent.refunded", Some(Status::Refunded)),
            ("charge.succeeded", Some(Status::Paid)),
            // A refund or a dispute does not name the order.
            ("refund.created", None),
            ("refund.updated", None),
            ("refund.failed", None),
            ("charge.refund.updated", None),
            ("charge.dispute.created", None),
            ("charge.dispute.updated", None),
            ("charge.dispute.closed", None),
            ("charge.dispute.funds_withdrawn", None),
            ("charge.dispute.funds_reinstated", None),
        ] {
            assert!(Kind::find(kind).is_some());
            let document = payment().event(kind, payment().usual(kind), NOW, 1);
            let (outcomes, order) = told(&[document]);
            assert_eq!(order.map(|order| order.state.status), status, "{kind}");
            let expected = if status.is_some() {
                Outcome::Applied
            } else {
                Outcome::Parked
            };
            assert_eq!(outcomes, [expected], "{kind}");
        }
    }

    #[test]
    fn refunds_and_disputes_join_the_order_that_the_session_names() {
        for (kind, status, dispute) in [
            ("refund.created", Status::Refunded, DisputeState::None),
            ("refund.updated", Status::Refunded, DisputeState::None),
            ("refund.failed", Status::Paid, DisputeState::None),
            ("charge.refund.updated", Status::Paid, DisputeState::None),
            ("charge.dispute.created", Status::Paid, DisputeState::Open),
            ("charge.dispute.updated", Status::Paid, DisputeState::Open),
            (
                "charge.dispute.funds_withdrawn",
                Status::Paid,
                DisputeState::Open,
            ),
            ("charge.dispute.closed", Status::Paid, DisputeState::Won),
            (
                "charge.dispute.funds_reinstated",
                Status::Paid,
                DisputeState::Won,
            ),
        ] {
            let paid = "checkout.session.completed";
            let paid = payment().event(paid, payment().usual(paid), NOW, 1);
            let other = payment().event(kind, payment().usual(kind), NOW, 2);
            let (_, order) = told(&[paid, other]);
            let state = order.unwrap().state;
            assert_eq!((state.status, state.dispute), (status, dispute), "{kind}");
        }
    }

    #[test]
    fn a_life_ends_paid_in_either_direction() {
        let life = payment().life();
        let documents = life.iter().zip(1..);
        let mut documents: Vec<Document> = documents
            .map(|((kind, told), number)| payment().event(kind, *told, NOW, number))
            .collect();
        for _ in 0..2 {
            let (outcomes, order) = told(&documents);
            let state = order.unwrap().state;
            assert_eq!(
                (state.status, state.amount, state.refunded),
                (Status::Paid, 2500, 0)
            );
            assert_eq!((state.dispute, state.flags), (DisputeState::Won, vec![]));
            let ignored = |outcome: &Outcome| matches!(outcome, Outcome::Ignored(_));
            assert!(!outcomes.iter().any(ignored), "{outcomes:?}");
            documents.reverse();
        }
    }

    #[test]
    fn a_document_has_the_size_the_indent_and_the_personal_data_of_a_real_one() {
        let kind = "checkout.session.completed";
        let document = payment().event(kind, payment().usual(kind), NOW, 255);
        assert_eq!(document.id, "evt_test_00000000000000ff");
        assert!(
            document.text.starts_with("{\n  \"api_version\""),
            "{}",
            document.text
        );
        assert!(
            (3_500..4_500).contains(&document.text.len()),
            "{}",
            document.text.len()
        );
        assert!(document.text.contains("buyer@example.com"));
        let event = Event::from_json(&document.text, &Reading::default()).unwrap();
        assert!(matches!(event.meaning, Meaning::Fact(_)));
        assert_ne!(
            payment().event(kind, payment().usual(kind), NOW, 1).id,
            document.id
        );
    }
}
