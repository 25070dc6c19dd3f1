//! Event documents as Stripe would send them, for `send-test`, `demo` and the benchmarks.
//!
//! They have the shape of API version 2026-10-28.endive with what a real event carries besides what
//! we read, a buyer's address included, so that what is done with them is what is done with real
//! ones. All are of test mode.

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
pub struct Told {
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
    pub fn usual(&self, kind: &str) -> Told {
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
        Told {
            status,
            refunded,
            refund: 1,
            age_seconds,
        }
    }

    /// A whole life: declined, paid, refunded in part, disputed, won, refund failed. The order ends
    /// paid.
    #[must_use]
    pub fn life(&self) -> Vec<(&'static str, Told)> {
        let part = |kind, status| {
            (
                kind,
                Told {
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
    pub fn event(&self, kind: &'static str, told: Told, at: UnixSeconds, number: u64) -> Document {
        let id = format!("evt_test_{number:016x}");
        let event = json!({
            "id": id,
            "object": "event",
            "api_version": self.api_version,
            "created": at.0,
            "data": {"object": self.object(kind, told, at.0)},
            "livemode": false,
            "pending_webhooks": 1,
            "request": {"id": null, "idempotency_key": null},
            "type": kind,
        });
        Document {
            id,
            kind,
            text: format!("{event:#}"),
        }
    }

    fn object(&self, kind: &str, told: Told, at: i64) -> Value {
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

    fn session(&self, name: &str, told: Told, at: i64) -> Value {
        let is_over = name == "expired";
        let intent = if is_over {
            Value::Null
        } else {
            self.id("pi", 0).into()
        };
        let buyer = json!({"address": address(), "business_name": null, "email": EMAIL,
            "individual_name": null, "name": NAME, "phone": null, "tax_exempt": "none", "tax_ids": []});
        let mut session = json!({
            "id": self.id("cs", 0),
            "object": "checkout.session",
            "adaptive_pricing": {"enabled": false},
            "amount_subtotal": self.amount,
            "amount_total": self.amount,
            "automatic_tax": {"enabled": false, "liability": null, "provider": null, "status": null},
            "branding_settings": {"background_color": "#ffffff", "border_style": "rounded",
                "button_color": "#0074d4", "display_name": "Example Shop", "font_family": "default",
                "icon": null, "logo": null},
            "cancel_url": "https://shop.example.com/cart",
            "client_reference_id": self.order,
            "collected_information": {"business_name": null, "individual_name": null,
                "shipping_details": null},
            "created": at - MINUTE,
            "currency": self.currency,
            "custom_fields": [],
            "custom_text": {"after_submit": null, "shipping_address": null, "submit": null,
                "terms_of_service_acceptance": null},
            "customer_creation": "if_required",
            "customer_details": if is_over { Value::Null } else { buyer },
            "discounts": [],
            "expires_at": at - MINUTE + DAY,
            "invoice_creation": {"enabled": false, "invoice_data": {"account_tax_ids": null,
                "custom_fields": null, "description": null, "footer": null, "issuer": null,
                "metadata": {}, "rendering_options": null}},
            "livemode": false,
            "locale": "fr",
            "managed_payments": {"enabled": false},
            "metadata": {"order_id": self.order},
            "mode": "payment",
            "payment_intent": intent,
            "payment_method_collection": "if_required",
            "payment_method_configuration_details": {"id": self.id("pmc", 0), "parent": null},
            "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
            "payment_method_types": ["card"],
            "payment_status": told.status,
            "phone_number_collection": {"enabled": false},
            "shipping_options": [],
            "status": if is_over { "expired" } else { "complete" },
            "success_url": "https://shop.example.com/thanks?session_id={CHECKOUT_SESSION_ID}",
            "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
            "ui_mode": "hosted_page",
        });
        nulls(
            &mut session,
            "after_expiration allow_promotion_codes allowed_payment_method_types \
             billing_address_collection client_secret consent consent_collection \
             currency_conversion customer customer_account customer_email integration_identifier \
             invoice origin_context payment_link permissions recovered_from \
             saved_payment_method_options setup_intent shipping_address_collection shipping_cost \
             submit_type subscription url wallet_options",
        );
        session
    }

    fn intent(&self, name: &str, at: i64) -> Value {
        let (status, received) = match name {
            "succeeded" | "refunded" => ("succeeded", self.amount),
            "canceled" => ("canceled", 0),
            _ => ("requires_payment_method", 0),
        };
        let is_canceled = name == "canceled";
        let charge = if received > 0 {
            self.id("ch", 0).into()
        } else {
            Value::Null
        };
        let declined = json!({"advice_code": "try_again_later", "code": "card_declined",
            "decline_code": "insufficient_funds", "message": "Your card has insufficient funds.",
            "doc_url": "https://docs.stripe.com/error-codes#card-declined", "type": "card_error"});
        let mut intent = json!({
            "id": self.id("pi", 0),
            "object": "payment_intent",
            "amount": self.amount,
            "amount_capturable": 0,
            "amount_details": {"shipping": {"amount": 0, "from_postal_code": null,
                "to_postal_code": null}, "tax": {"total_tax_amount": 0}, "tip": {}},
            "amount_received": received,
            "canceled_at": if is_canceled { at.into() } else { Value::Null },
            "cancellation_reason": if is_canceled { "automatic".into() } else { Value::Null },
            "capture_method": "automatic_async",
            "client_secret": format!("{}_secret_test", self.id("pi", 0)),
            "confirmation_method": "automatic",
            "created": at - MINUTE,
            "currency": self.currency,
            "last_payment_error": if name == "payment_failed" { declined } else { Value::Null },
            "latest_charge": charge,
            "livemode": false,
            "managed_payments": {"enabled": false},
            "metadata": {"order_id": self.order},
            "payment_details": {"customer_reference": null, "order_reference": self.id("cs", 0)},
            "payment_method": self.id("pm", 0),
            "payment_method_options": {"card": {"installments": null, "mandate_options": null,
                "network": null, "request_three_d_secure": "automatic"}},
            "payment_method_types": ["card"],
            "status": status,
        });
        nulls(
            &mut intent,
            "allowed_payment_method_types application application_fee_amount \
             automatic_payment_methods customer customer_account description \
             excluded_payment_method_types next_action on_behalf_of \
             payment_method_configuration_details payment_record processing receipt_email review \
             setup_future_usage shipping source statement_descriptor statement_descriptor_suffix \
             transfer_data transfer_group",
        );
        intent
    }

    fn charge(&self, told: Told, at: i64) -> Value {
        let mut charge = json!({
            "id": self.id("ch", 0),
            "object": "charge",
            "amount": self.amount,
            "amount_captured": self.amount,
            "amount_refunded": told.refunded,
            "balance_transaction": self.id("txn", 0),
            "billing_details": {"address": address(), "email": EMAIL, "name": NAME, "phone": null,
                "tax_id": null},
            "calculated_statement_descriptor": "EXAMPLE SHOP",
            "captured": true,
            "created": at - MINUTE,
            "currency": self.currency,
            "disputed": false,
            "fraud_details": {},
            "livemode": false,
            "metadata": {"order_id": self.order},
            "outcome": {"advice_code": null, "network_advice_code": null,
                "network_decline_code": null, "network_status": "approved_by_network",
                "reason": null, "risk_level": "normal", "risk_score": 33,
                "seller_message": "Payment complete.", "type": "authorized"},
            "paid": true,
            "payment_intent": self.id("pi", 0),
            "payment_method": self.id("pm", 0),
            "payment_method_details": {"card": {"amount_authorized": self.amount,
                "authorization_code": "431025", "brand": "visa", "checks": {
                    "address_line1_check": null, "address_postal_code_check": "pass",
                    "cvc_check": "pass"}, "country": "FR", "exp_month": 12, "exp_year": 2034,
                "fingerprint": "8zzwoqNMPqHF2IIj", "funding": "credit", "last4": "4242",
                "network": "visa", "network_token": {"used": false}, "three_d_secure": null,
                "wallet": null}, "type": "card"},
            "radar_options": {},
            "receipt_url": "https://pay.stripe.com/receipts/payment/test",
            "refunded": told.refunded >= self.amount,
            "status": "succeeded",
        });
        nulls(
            &mut charge,
            "application application_fee application_fee_amount customer description \
             failure_balance_transaction failure_code failure_message on_behalf_of receipt_email \
             receipt_number review shipping source source_transfer statement_descriptor \
             statement_descriptor_suffix transfer_data transfer_group",
        );
        charge
    }

    fn refund(&self, told: Told, created: i64) -> Value {
        let why = match told.status {
            "failed" => "expired_or_canceled_card".into(),
            _ => Value::Null,
        };
        let mut refund = json!({
            "id": self.id("re", told.refund),
            "object": "refund",
            "amount": told.refunded,
            "balance_transaction": self.id("txn", told.refund),
            "charge": self.id("ch", 0),
            "created": created,
            "currency": self.currency,
            "failure_reason": why,
            "destination_details": {"card": {"reference_status": "pending",
                "reference_type": "acquirer_reference_number", "type": "refund"}, "type": "card"},
            "metadata": {},
            "payment_intent": self.id("pi", 0),
            "payment_method": self.id("pm", 0),
            "reason": "requested_by_customer",
            "status": told.status,
        });
        nulls(
            &mut refund,
            "customer customer_account receipt_number source_transfer_reversal transfer_reversal",
        );
        refund
    }

    fn dispute(&self, told: Told, created: i64) -> Value {
        let mut evidence = json!({"customer_email_address": EMAIL, "customer_name": NAME,
            "enhanced_evidence": {}});
        nulls(
            &mut evidence,
            "access_activity_log billing_address cancellation_policy customer_communication \
             customer_purchase_ip customer_signature product_description receipt refund_policy \
             service_date service_documentation shipping_address shipping_carrier shipping_date \
             shipping_tracking_number uncategorized_file uncategorized_text",
        );
        json!({
            "id": self.id("du", 0),
            "object": "dispute",
            "amount": self.amount,
            "balance_transactions": [{"id": self.id("txn", 99), "object": "balance_transaction",
                "amount": -self.amount, "created": created, "currency": self.currency,
                "description": "Chargeback withdrawal", "fee": 2000, "net": -self.amount - 2000,
                "reporting_category": "dispute", "status": "pending", "type": "adjustment"}],
            "charge": self.id("ch", 0),
            "created": created,
            "currency": self.currency,
            "enhanced_eligibility_types": [],
            "evidence": evidence,
            "evidence_details": {"due_by": created + 9 * DAY, "enhanced_eligibility": {},
                "has_evidence": false, "past_due": false, "submission_count": 0},
            "is_charge_refundable": false,
            "livemode": false,
            "metadata": {},
            "payment_intent": self.id("pi", 0),
            "payment_method_details": {"card": {"brand": "visa", "case_type": "chargeback",
                "network_reason_code": "10.4"}, "type": "card"},
            "reason": "fraudulent",
            "status": told.status,
        })
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
const EMAIL: &str = "buyer@example.com";
const NAME: &str = "Jenny Rosen";

fn address() -> Value {
    json!({"city": null, "country": "FR", "line1": null, "line2": null, "postal_code": "75011",
           "state": null})
}

/// Adds the fields that Stripe sends as null, which are most of them.
fn nulls(object: &mut Value, names: &str) {
    if let Some(object) = object.as_object_mut() {
        object.extend(
            names
                .split_whitespace()
                .map(|name| (name.to_owned(), Value::Null)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, StoredOrder};
    use crate::truth::delivery::{Delivery, Outcome};
    use crate::truth::event::{Event, Meaning};
    use crate::truth::kind::Kind;
    use crate::truth::order::{Dispute, Status};
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
            ("refund.created", Status::Refunded, Dispute::None),
            ("refund.updated", Status::Refunded, Dispute::None),
            ("refund.failed", Status::Paid, Dispute::None),
            ("charge.refund.updated", Status::Paid, Dispute::None),
            ("charge.dispute.created", Status::Paid, Dispute::Open),
            ("charge.dispute.updated", Status::Paid, Dispute::Open),
            (
                "charge.dispute.funds_withdrawn",
                Status::Paid,
                Dispute::Open,
            ),
            ("charge.dispute.closed", Status::Paid, Dispute::Won),
            (
                "charge.dispute.funds_reinstated",
                Status::Paid,
                Dispute::Won,
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
            assert_eq!((state.dispute, state.flags), (Dispute::Won, vec![]));
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
        assert!(document.text.contains(EMAIL));
        let event = Event::from_json(&document.text, &Reading::default()).unwrap();
        assert!(matches!(event.meaning, Meaning::Fact(_)));
        assert_ne!(
            payment().event(kind, payment().usual(kind), NOW, 1).id,
            document.id
        );
    }
}
