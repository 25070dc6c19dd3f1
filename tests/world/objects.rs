//! Stripe's objects as they are at a moment, and what its API answers.

use serde_json::{Value, json};

use crate::stripe::{CURRENCY, Emitted, Payment, World};

impl World {
    pub fn event_text(&self, id: &str, kind: &str, object: &Value) -> String {
        let version = if self.habits.old {
            "2020-08-27"
        } else {
            "2026-10-28.endive"
        };
        json!({
            "id": id, "object": "event", "api_version": version, "created": self.now,
            "data": {"object": object}, "livemode": false, "pending_webhooks": 1,
            "request": {"id": null, "idempotency_key": null}, "type": kind,
        })
        .to_string()
    }

    pub fn session_object(&self, payment: &Payment, old: bool) -> Option<Value> {
        let session = payment.session.as_ref()?;
        let is_complete = session.status == "complete";
        let of_payment = session.mode == "payment" && (is_complete || old);
        let intent = payment.intent.as_ref().filter(|_| of_payment);
        let invoice = payment.invoice.as_ref().filter(|_| is_complete);
        let is_setup = session.mode == "setup";
        let mut object = json!({
            "id": session.id, "object": "checkout.session", "mode": session.mode,
            "status": session.status, "payment_status": session.payment_status,
            "amount_total": (!is_setup).then_some(payment.amount),
            "currency": (!is_setup).then_some(CURRENCY),
            "client_reference_id": session.reference, "metadata": names(session.order.as_ref()),
            "payment_intent": intent.map(|intent| &intent.id),
            "invoice": invoice.map(|invoice| &invoice.id),
            "subscription": session.subscription.as_ref().filter(|_| is_complete),
            "setup_intent": is_setup.then(|| format!("seti_{}", session.id)),
            "payment_link": session.link.then_some("plink_1"),
            "livemode": false, "created": session.made,
        });
        if old {
            // It has been there since 2021.
            object.as_object_mut().map(|fields| fields.remove("status"));
        }
        Some(object)
    }

    pub fn intent_object(&self, payment: &Payment, old: bool) -> Option<Value> {
        let intent = payment.intent.as_ref()?;
        let last = payment.charges.len().checked_sub(1);
        let failed = last.is_some_and(|last| payment.charges[last].status == "failed");
        let invoice = payment.invoice.as_ref().map(|invoice| &invoice.id);
        let mut object = json!({
            "id": intent.id, "object": "payment_intent", "amount": payment.amount,
            "amount_received": intent.received, "currency": CURRENCY, "status": intent.status,
            "amount_capturable": payment.ledger.held, "metadata": names(intent.order.as_ref()),
            "created": intent.made, "livemode": false,
            "last_payment_error": failed.then(|| json!({"code": "payment_intent_payment_attempt_failed"})),
            "review": payment.review.as_ref().map(|review| &review.id),
        });
        if old {
            let charges: Vec<Value> = last
                .map(|last| self.charge_object(payment, last, old))
                .into_iter()
                .collect();
            object["charges"] = json!({"object": "list", "data": charges});
            object["invoice"] = json!(invoice);
        } else {
            object["latest_charge"] = json!(last.map(|last| &payment.charges[last].id));
        }
        if self.habits.reference {
            let session = payment.session.as_ref().map(|session| &session.id);
            object["payment_details"] =
                json!({"customer_reference": null, "order_reference": invoice.or(session)});
        }
        Some(object)
    }

    pub fn charge_object(&self, payment: &Payment, charge: usize, old: bool) -> Value {
        let charge = &payment.charges[charge];
        let intent = payment.intent.as_ref();
        let good = charge.status == "succeeded";
        let mut object = json!({
            "id": charge.id, "object": "charge", "amount": charge.amount,
            "amount_captured": charge.amount_captured, "amount_refunded": charge.amount_refunded,
            "captured": charge.captured, "currency": CURRENCY, "created": charge.made,
            "refunded": charge.amount_refunded == charge.amount && charge.amount > 0,
            "paid": good, "status": charge.status, "livemode": false,
            "payment_intent": intent.map(|intent| &intent.id),
            "metadata": names(intent.and_then(|intent| intent.order.as_ref())),
            "disputed": good && !payment.disputes.is_empty(),
            "review": payment.review.as_ref().filter(|_| good).map(|review| &review.id),
        });
        if old {
            object["invoice"] = json!(payment.invoice.as_ref().map(|invoice| &invoice.id));
        }
        object
    }

    pub fn refund_object(&self, payment: &Payment, refund: usize) -> Value {
        let refund = &payment.refunds[refund];
        json!({
            "id": refund.id, "object": "refund", "amount": refund.amount, "currency": CURRENCY,
            "charge": payment.charges[refund.charge].id, "created": refund.made, "metadata": {},
            "payment_intent": payment.intent.as_ref().map(|intent| &intent.id),
            "status": refund.status, "livemode": false,
        })
    }

    pub fn dispute_object(&self, payment: &Payment, dispute: usize) -> Value {
        let dispute = &payment.disputes[dispute];
        json!({
            "id": dispute.id, "object": "dispute", "amount": dispute.amount, "currency": CURRENCY,
            "charge": payment.charges[dispute.charge].id, "created": dispute.made, "metadata": {},
            "payment_intent": payment.intent.as_ref().map(|intent| &intent.id),
            "reason": "general", "status": dispute.status, "livemode": false,
        })
    }

    pub fn invoice_object(&self, payment: &Payment, old: bool) -> Option<Value> {
        let invoice = payment.invoice.as_ref()?;
        let is_paid = invoice.status == "paid";
        let is_outside = self.habits.pays_outside && payment.good().is_none();
        let subscription = invoice.subscription.as_ref().map(|(id, _)| id);
        let details = invoice.subscription.as_ref().map(|(id, order)| {
            json!({"type": "subscription_details",
                   "subscription_details": {"subscription": id, "metadata": names(order.as_ref())}})
        });
        let mut object = json!({
            "id": invoice.id, "object": "invoice", "status": invoice.status,
            "billing_reason": invoice.reason, "amount_due": payment.amount,
            "amount_paid": if is_paid && !is_outside { payment.amount } else { 0 }, "total": payment.amount,
            "currency": CURRENCY, "metadata": names(invoice.order.as_ref()),
            "created": invoice.made, "livemode": false,
        });
        if old {
            let by_intent = payment
                .intent
                .as_ref()
                .filter(|_| invoice.payment.is_some());
            object["payment_intent"] = json!(by_intent.map(|intent| &intent.id));
            object["charge"] = json!(payment.good().map(|charge| &payment.charges[charge].id));
            object["subscription"] = json!(subscription);
            object["paid"] = json!(is_paid);
            object["paid_out_of_band"] = json!(is_paid && payment.good().is_none());
        } else {
            object["parent"] = json!(details);
        }
        Some(object)
    }

    pub fn invoice_payment_object(&self, payment: &Payment) -> Option<Value> {
        let invoice = payment.invoice.as_ref()?;
        let is_paid = payment.good().is_some();
        let intent = payment.intent.as_ref().map(|intent| &intent.id);
        Some(json!({
            "id": invoice.payment.as_ref()?, "object": "invoice_payment", "invoice": invoice.id,
            "amount_paid": is_paid.then_some(payment.amount), "amount_requested": payment.amount,
            "currency": CURRENCY, "created": invoice.made, "is_default": true, "livemode": false,
            "status": match (is_paid, invoice.status) {
                (true, _) => "paid",
                (false, "open" | "uncollectible") => "open",
                (false, _) => "canceled",
            },
            "payment": {"type": "payment_intent", "payment_intent": intent},
        }))
    }

    pub fn review_object(&self, payment: &Payment) -> Option<Value> {
        let review = payment.review.as_ref()?;
        let reason = if review.open { "rule" } else { "approved" };
        Some(json!({
            "id": review.id, "object": "review", "open": review.open, "reason": reason,
            "opened_reason": "rule", "created": review.made, "livemode": false,
            "charge": payment.good().map(|charge| &payment.charges[charge].id),
            "payment_intent": payment.intent.as_ref().map(|intent| &intent.id),
        }))
    }

    pub fn warning_object(&self, payment: &Payment) -> Option<Value> {
        let id = payment.warning.as_ref()?;
        Some(json!({
            "id": id, "object": "radar.early_fraud_warning", "actionable": true,
            "fraud_type": "unauthorized_use_of_card",
            "created": payment.intent.as_ref().map(|intent| intent.made), "livemode": false,
            "charge": payment.good().map(|charge| &payment.charges[charge].id),
            "payment_intent": payment.intent.as_ref().map(|intent| &intent.id),
        }))
    }

    // ── The API, which speaks the newest version whatever the events do ─────────────────────────

    /// What is asked for while the world lives: every object as it is now, but not an intent whose
    /// names stand for something else until its session tells. Whoever reads a charge has the refunds
    /// of its payment listed: in the second in which a refund fails, the running total alone does not
    /// say whether it is still in it.
    pub fn answers(&self) -> Vec<Vec<Value>> {
        let is_sure = |payment: &&Payment| {
            payment.is_completed() || !self.is_misnamed(payment) && !payment.is_link()
        };
        let answers_of = |payment: &Payment| {
            let is_refund = |object: &Value| object["object"] == "refund";
            let objects = self.objects_of(payment).into_iter();
            let (refunds, others): (Vec<Value>, Vec<Value>) = objects.partition(is_refund);
            let answer = |object: Value| match object["object"].as_str() {
                Some("charge") => [vec![object], refunds.clone()].concat(),
                _ => vec![object],
            };
            others.into_iter().map(answer).collect::<Vec<_>>()
        };
        self.payments
            .iter()
            .filter(is_sure)
            .flat_map(answers_of)
            .collect()
    }

    /// Every object that there is.
    pub fn objects_of_all(&self) -> Vec<Value> {
        let payments = self.payments.iter();
        payments
            .flat_map(|payment| self.objects_of(payment))
            .collect()
    }

    fn objects_of(&self, payment: &Payment) -> Vec<Value> {
        let mut objects: Vec<Value> = [
            self.session_object(payment, false),
            self.invoice_object(payment, false),
            self.invoice_payment_object(payment),
            self.intent_object(payment, false),
            self.review_object(payment),
            self.warning_object(payment),
        ]
        .into_iter()
        .flatten()
        .collect();
        objects.extend((0..payment.charges.len()).map(|n| self.charge_object(payment, n, false)));
        objects.extend((0..payment.refunds.len()).map(|n| self.refund_object(payment, n)));
        objects.extend((0..payment.disputes.len()).map(|n| self.dispute_object(payment, n)));
        objects
    }
}

impl Emitted {
    /// In one line, for whoever reads a story.
    pub fn brief(&self) -> String {
        let event: Value = serde_json::from_str(&self.text).unwrap();
        format!(
            "{} {} {}",
            self.id,
            self.kind,
            brief(&event["data"]["object"])
        )
    }
}

/// What of an object matters to its order.
pub fn brief(object: &Value) -> String {
    let left_out = [
        "object",
        "livemode",
        "currency",
        "mode",
        "fraud_type",
        "reason",
    ];
    let fields = object.as_object().unwrap().iter().filter(|(name, value)| {
        let is_said = !value.is_null() && **value != json!({}) && **value != json!(false);
        is_said && !left_out.contains(&name.as_str())
    });
    let said: Vec<String> = fields
        .map(|(name, value)| format!("{name}={}", value.to_string().replace('"', "")))
        .collect();
    said.join(" ")
}

fn names(order: Option<&String>) -> Value {
    order.map_or_else(|| json!({}), |order| json!({"order_id": order}))
}
