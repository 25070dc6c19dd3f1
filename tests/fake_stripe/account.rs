//! What the stand-in knows: objects, events and keys of one account, and what buyers and the
//! Dashboard do to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};

use super::objects::{self, set};
use super::wire::Answer;

/// How long the list of events goes back.
const EVENTS_KEPT_SECONDS: i64 = 30 * 24 * 60 * 60;

/// An event in the log.
#[derive(Clone, Debug)]
pub struct Logged {
    pub id: String,
    pub kind: String,
    pub created: i64,
    /// As it is delivered.
    pub text: String,
    pub value: Value,
    /// Whether some endpoint has not received it yet.
    pub is_pending: bool,
}

/// What an idempotency key stands for.
pub struct Kept {
    pub path: String,
    /// Sorted: the order of fields does not matter.
    pub form: Vec<(String, String)>,
    /// None while the first request runs.
    pub answer: Option<Answer>,
}

pub struct Account {
    /// The API keys that are in use.
    pub keys: BTreeSet<String>,
    /// Permissions that the key lacks.
    pub lacking: BTreeSet<String>,
    /// By id; the list has the ids in the order of their making.
    pub objects: BTreeMap<String, Value>,
    pub made: Vec<String>,
    pub events: Vec<Logged>,
    pub prices: BTreeMap<String, (i64, String)>,
    pub kept: HashMap<String, Kept>,
    /// Added to the clock's time.
    pub time_offset: i64,
    counter: u64,
}

impl Account {
    pub fn new(key: &str) -> Account {
        Account {
            keys: BTreeSet::from([key.to_owned()]),
            lacking: BTreeSet::new(),
            objects: BTreeMap::new(),
            made: Vec::new(),
            events: Vec::new(),
            prices: BTreeMap::new(),
            kept: HashMap::new(),
            time_offset: 0,
            counter: 0,
        }
    }

    pub fn now(&self) -> i64 {
        paidup::host::clock::unix_millis().div_euclid(1000) + self.time_offset
    }

    /// `evt_1Fake00000001…`, as long as Stripe's.
    pub fn new_id(&mut self, start: &str) -> String {
        self.counter += 1;
        format!("{start}Fake{:012}KHY7pQ2eZvKY", self.counter)
    }

    pub fn add(&mut self, id: &str, object: Value) {
        if self.objects.insert(id.to_owned(), object).is_none() {
            self.made.push(id.to_owned());
        }
    }

    pub fn object(&self, id: &str) -> Value {
        let object = self.objects.get(id);
        object.unwrap_or_else(|| panic!("no object {id}")).clone()
    }

    /// Objects of a kind, newest first.
    pub fn newest(&self, kind: &str) -> Vec<Value> {
        let newest_first = self.made.iter().rev().map(|id| &self.objects[id]);
        newest_first
            .filter(|object| object["object"] == kind)
            .cloned()
            .collect()
    }

    /// Events of the last 30 days, newest first.
    pub fn recent_events(&self) -> Vec<&Logged> {
        let oldest = self.now() - EVENTS_KEPT_SECONDS;
        let mut events: Vec<&Logged> = self.events.iter().rev().collect();
        events.retain(|event| event.created >= oldest);
        events.sort_by_key(|event| std::cmp::Reverse(event.created));
        events
    }

    pub fn log(&mut self, kind: &str, object: &Value, previous: Option<Value>) -> String {
        let id = self.new_id("evt_1");
        let created = self.now();
        let mut value = objects::event(&id, created, kind, object, previous);
        let endpoints = self.objects.range("we_".to_owned()..);
        let mut endpoints = endpoints.take_while(|(id, _)| id.starts_with("we_"));
        let is_pending = endpoints.any(|(_, endpoint)| {
            let events = endpoint["enabled_events"].as_array().unwrap();
            let wanted = events.iter().any(|event| event == "*" || event == kind);
            wanted && endpoint["status"] == "enabled"
        });
        value["pending_webhooks"] = json!(i32::from(is_pending));
        self.events.push(Logged {
            id: id.clone(),
            kind: kind.to_owned(),
            created,
            text: objects::written(&value),
            value,
            is_pending,
        });
        id
    }

    /// An event that somebody else has written, with nobody waiting for it.
    pub fn add_event(&mut self, text: &str) {
        let value: Value = serde_json::from_str(text).unwrap();
        self.events.push(Logged {
            id: value["id"].as_str().unwrap().to_owned(),
            kind: value["type"].as_str().unwrap().to_owned(),
            created: value["created"].as_i64().unwrap(),
            text: text.to_owned(),
            value,
            is_pending: false,
        });
    }

    /// Changes an object and logs it.
    fn change(&mut self, kind: &str, id: &str, fields: Value) {
        let (object, _) = self.changed(id, fields);
        self.log(kind, &object, None);
    }

    /// Changes an object and logs it, with the fields that it had before.
    fn update(&mut self, kinds: &[&str], id: &str, fields: Value) {
        let (object, previous) = self.changed(id, fields);
        for kind in kinds {
            self.log(kind, &object, Some(previous.clone()));
        }
    }

    /// The object as it is now, and the fields that changed as they were before.
    fn changed(&mut self, id: &str, fields: Value) -> (Value, Value) {
        let mut object = self.object(id);
        let mut previous = json!({});
        for name in fields.as_object().unwrap().keys() {
            previous[name] = object[name].clone();
        }
        set(&mut object, fields);
        self.objects.insert(id.to_owned(), object.clone());
        (object, previous)
    }

    // ── What buyers do ──────────────────────────────────────────────────────────────────────────

    /// The buyer pays at once.
    pub fn pay(&mut self, session: &str) {
        if self.object(session)["amount_total"] == 0 {
            let fields = json!({"status": "complete", "payment_status": "no_payment_required"});
            self.complete(session, fields);
            return;
        }
        let intent = self.start_payment(session, "succeeded");
        self.take_money(&intent);
        self.complete(
            session,
            json!({"payment_intent": intent, "payment_status": "paid"}),
        );
    }

    /// The buyer orders the money to be sent; it comes later, or not. Its charge is pending, and
    /// says that it is captured all the same.
    pub fn pay_later(&mut self, session: &str) {
        let intent = self.start_payment(session, "processing");
        let fields = json!({"status": "pending", "paid": false});
        let charge = self.new_charge(&intent, "py_3", fields);
        let fields = json!({"latest_charge": charge});
        self.change("payment_intent.processing", &intent, fields);
        self.change("charge.pending", &charge, json!({}));
        self.complete(
            session,
            json!({"payment_intent": intent, "payment_status": "unpaid"}),
        );
    }

    /// The money of [`Account::pay_later`] comes.
    pub fn settle(&mut self, session: &str) {
        let intent = self.intent_of(session);
        let charge = self.charge_of(session);
        let fields = json!({"status": "succeeded", "paid": true});
        self.change("charge.succeeded", &charge, fields);
        let amount = self.object(&intent)["amount"].clone();
        let fields = json!({"status": "succeeded", "amount_received": amount});
        self.change("payment_intent.succeeded", &intent, fields);
        let kind = "checkout.session.async_payment_succeeded";
        self.change(kind, session, json!({"payment_status": "paid"}));
    }

    /// The money of [`Account::pay_later`] does not come.
    pub fn fail_payment(&mut self, session: &str) {
        self.fail_charge(session);
        let kind = "checkout.session.async_payment_failed";
        self.change(kind, session, json!({"payment_status": "unpaid"}));
    }

    /// The money of [`Account::pay_later`] had come, and the buyer's bank takes it back.
    pub fn come_back(&mut self, session: &str) {
        self.fail_charge(session);
    }

    fn fail_charge(&mut self, session: &str) {
        let (intent, charge) = (self.intent_of(session), self.charge_of(session));
        let fields = json!({"status": "failed", "paid": false});
        self.change("charge.failed", &charge, fields);
        let fields = json!({
            "status": "requires_payment_method", "amount_received": 0,
            "last_payment_error": objects::decline(),
        });
        self.change("payment_intent.payment_failed", &intent, fields);
    }

    /// The buyer pays, and the money is held until the shop captures it.
    pub fn hold(&mut self, session: &str) {
        let intent = self.start_payment(session, "requires_capture");
        let fields = json!({"captured": false, "amount_captured": 0});
        let charge = self.new_charge(&intent, "ch_3", fields);
        self.change("charge.succeeded", &charge, json!({}));
        let fields = json!({
            "latest_charge": charge, "capture_method": "manual",
            "amount_capturable": self.object(&intent)["amount"],
        });
        self.change("payment_intent.amount_capturable_updated", &intent, fields);
        self.complete(
            session,
            json!({"payment_intent": intent, "payment_status": "unpaid"}),
        );
    }

    /// Takes `amount` of what [`Account::hold`] holds, or all. Stripe lets go of the rest, calls that
    /// refunded and keeps a Refund of it.
    pub fn capture(&mut self, session: &str, amount: Option<i64>) {
        let (intent, charge) = (self.intent_of(session), self.charge_of(session));
        let held = self.object(&charge)["amount"].as_i64().unwrap();
        let taken = amount.unwrap_or(held);
        let total = held.max(taken);
        let fields = json!({
            "amount": total, "captured": true, "amount_captured": taken,
            "amount_refunded": total - taken,
        });
        self.change("charge.captured", &charge, fields);
        let fields = json!({
            "status": "succeeded", "amount_received": taken, "amount_capturable": 0,
        });
        self.change("payment_intent.succeeded", &intent, fields);
        self.changed(session, json!({"payment_status": "paid"}));
        if total > taken {
            self.new_refund(&charge, total - taken, "succeeded");
        }
    }

    /// Lets go of all that [`Account::hold`] holds.
    pub fn release(&mut self, session: &str) {
        let (intent, charge) = (self.intent_of(session), self.charge_of(session));
        let fields = json!({"status": "canceled", "amount_capturable": 0});
        self.change("payment_intent.canceled", &intent, fields);
        let amount = self.object(&charge)["amount"].clone();
        let fields = json!({"amount_refunded": amount, "refunded": true});
        self.change("charge.refunded", &charge, fields);
        let refund = self.new_refund(&charge, amount.as_i64().unwrap(), "succeeded");
        self.change("refund.created", &refund, json!({}));
    }

    /// The buyer subscribes and pays the first invoice at once; returns its id.
    pub fn subscribe(&mut self, session: &str) -> String {
        let subscription = self.new_id("sub_1");
        let (invoice, intent) = self.bill(session, &subscription, "subscription_create");
        self.take_money(&intent);
        self.paid_invoice(&invoice, &intent);
        let fields = json!({
            "mode": "subscription", "payment_status": "paid", "payment_intent": null,
            "invoice": invoice, "subscription": subscription,
        });
        self.complete(session, fields);
        invoice
    }

    /// The next month of [`Account::subscribe`], paid or refused; returns the invoice's id.
    pub fn renew(&mut self, session: &str, is_paid: bool) -> String {
        let subscription = self.object(session)["subscription"].clone();
        let subscription = subscription.as_str().unwrap();
        let (invoice, intent) = self.bill(session, subscription, "subscription_cycle");
        if is_paid {
            self.take_money(&intent);
            self.paid_invoice(&invoice, &intent);
        } else {
            let fields = json!({
                "status": "requires_payment_method", "last_payment_error": objects::decline(),
            });
            self.change("payment_intent.payment_failed", &intent, fields);
            self.change("invoice.payment_failed", &invoice, json!({}));
        }
        invoice
    }

    /// An invoice of what the session asks for, with its intent and the payment between them.
    fn bill(&mut self, session: &str, subscription: &str, reason: &str) -> (String, String) {
        let session = self.object(session);
        let [invoice, payment] = ["in_1", "inpay_1"].map(|start| self.new_id(start));
        let intent = self.start_payment(session["id"].as_str().unwrap(), "requires_payment_method");
        let mut bill = self.object(&intent);
        bill["metadata"] = json!({});
        bill["payment_details"]["order_reference"] = json!(invoice);
        self.objects.insert(intent.clone(), bill);
        let (amount, now) = (&session["amount_total"], self.now());
        let object = json!({
            "id": invoice, "object": "invoice", "status": "open", "billing_reason": reason,
            "amount_due": amount, "amount_paid": 0, "currency": session["currency"],
            "created": now, "livemode": false, "metadata": {},
            "parent": {"type": "subscription_details", "subscription_details": {
                "subscription": subscription, "metadata": session["metadata"],
            }},
        });
        self.add(&invoice, object);
        let object = json!({
            "id": payment, "object": "invoice_payment", "invoice": invoice, "status": "open",
            "amount_paid": null, "amount_requested": amount, "currency": session["currency"],
            "created": now, "is_default": true, "livemode": false,
            "payment": {"type": "payment_intent", "payment_intent": intent},
        });
        self.add(&payment, object);
        (invoice, intent)
    }

    fn paid_invoice(&mut self, invoice: &str, intent: &str) {
        let amount = self.object(intent)["amount"].clone();
        let fields = json!({"status": "paid", "amount_paid": amount});
        self.change("invoice.paid", invoice, fields);
        let payments = self.newest("invoice_payment");
        let payment = payments
            .iter()
            .find(|payment| payment["invoice"] == invoice);
        let payment = payment.unwrap()["id"].as_str().unwrap().to_owned();
        let fields = json!({"status": "paid", "amount_paid": amount});
        self.change("invoice_payment.paid", &payment, fields);
    }

    pub fn expire(&mut self, session: &str) {
        let fields = json!({"status": "expired", "url": null});
        self.change("checkout.session.expired", session, fields);
    }

    fn complete(&mut self, session: &str, mut fields: Value) {
        let template = objects::session();
        set(
            &mut fields,
            json!({
                "status": "complete", "url": null,
                "customer_details": template["customer_details"],
            }),
        );
        self.change("checkout.session.completed", session, fields);
    }

    fn start_payment(&mut self, session: &str, status: &str) -> String {
        let session = self.object(session);
        let id = self.new_id("pi_3");
        let mut intent = objects::intent();
        set(
            &mut intent,
            json!({
                "id": id, "amount": session["amount_total"], "amount_received": 0,
                "client_secret": format!("{id}_secret_fake"), "created": self.now(),
                "currency": session["currency"], "latest_charge": null, "status": status,
                "metadata": session["fake_intent_metadata"],
            }),
        );
        intent["payment_details"]["order_reference"] = session["id"].clone();
        self.add(&id, intent);
        id
    }

    fn take_money(&mut self, intent_id: &str) {
        let charge = self.new_charge(intent_id, "ch_3", json!({}));
        self.change("charge.succeeded", &charge, json!({}));
        let amount = self.object(intent_id)["amount"].clone();
        let fields = json!({
            "status": "succeeded", "amount_received": amount, "latest_charge": charge,
        });
        self.change("payment_intent.succeeded", intent_id, fields);
    }

    /// An attempt to take an intent's money: it succeeds, unless `fields` say otherwise.
    fn new_charge(&mut self, intent_id: &str, start: &str, fields: Value) -> String {
        let intent = self.object(intent_id);
        let id = self.new_id(start);
        let mut charge = objects::charge();
        set(
            &mut charge,
            json!({
                "id": id, "amount": intent["amount"], "amount_captured": intent["amount"],
                "created": self.now(), "currency": intent["currency"],
                "metadata": intent["metadata"], "payment_intent": intent_id,
            }),
        );
        set(&mut charge, fields);
        self.add(&id, charge);
        id
    }

    // ── What the Dashboard does ─────────────────────────────────────────────────────────────────

    /// Gives back `amount`, or what is left, and returns the refund's id.
    pub fn refund(&mut self, session: &str, amount: Option<i64>, status: &str) -> String {
        let charge_id = self.charge_of(session);
        let charge = self.object(&charge_id);
        let number = |name: &str| charge[name].as_i64().unwrap();
        let left = number("amount") - number("amount_refunded");
        let amount = amount.unwrap_or(left);
        assert!((1..=left).contains(&amount), "{amount} of {left}");
        let id = self.new_refund(&charge_id, amount, status);
        let refunded = number("amount_refunded") + amount;
        let fields = json!({
            "amount_refunded": refunded, "refunded": refunded == number("amount"),
        });
        self.update(&["charge.refunded"], &charge_id, fields);
        self.change("refund.created", &id, json!({}));
        id
    }

    fn new_refund(&mut self, charge_id: &str, amount: i64, status: &str) -> String {
        let charge = self.object(charge_id);
        let id = self.new_id("re_3");
        let mut refund = objects::refund();
        set(
            &mut refund,
            json!({
                "id": id, "amount": amount, "charge": charge_id, "created": self.now(),
                "currency": charge["currency"], "payment_intent": charge["payment_intent"],
                "status": status,
            }),
        );
        self.add(&id, refund);
        id
    }

    /// A pending refund has reached the buyer.
    pub fn complete_refund(&mut self, refund: &str) {
        let kinds = ["refund.updated", "charge.refund.updated"];
        self.update(&kinds, refund, json!({"status": "succeeded"}));
    }

    /// The buyer's bank does not take the money back.
    pub fn fail_refund(&mut self, refund: &str) {
        let fields = json!({
            "status": "failed", "failure_reason": "expired_or_canceled_card",
            "failure_balance_transaction": self.new_id("txn_1"),
        });
        let (object, previous) = self.changed(refund, fields);
        // No event tells of that.
        let charge = self.object(object["charge"].as_str().unwrap());
        let number = |object: &Value, name: &str| object[name].as_i64().unwrap();
        let left = number(&charge, "amount_refunded") - number(&object, "amount");
        let fields = json!({"amount_refunded": left, "refunded": false});
        self.changed(charge["id"].as_str().unwrap(), fields);
        self.log("refund.failed", &object, None);
        self.log("refund.updated", &object, Some(previous.clone()));
        self.log("charge.refund.updated", &object, Some(previous));
    }

    /// The buyer's bank asks for all of the money; returns the dispute's id.
    pub fn open_dispute(&mut self, session: &str) -> String {
        let charge_id = self.charge_of(session);
        let charge = self.object(&charge_id);
        let id = self.new_id("du_1");
        let mut dispute = objects::dispute();
        set(
            &mut dispute,
            json!({
                "id": id, "amount": charge["amount"], "charge": charge_id,
                "created": self.now(), "currency": charge["currency"],
                "payment_intent": charge["payment_intent"], "status": "needs_response",
            }),
        );
        self.add(&id, dispute.clone());
        self.log("charge.dispute.created", &dispute, None);
        self.log("charge.dispute.funds_withdrawn", &dispute, None);
        id
    }

    pub fn close_dispute(&mut self, dispute: &str, is_won: bool) {
        let status = if is_won { "won" } else { "lost" };
        self.update(
            &["charge.dispute.closed"],
            dispute,
            json!({"status": status}),
        );
        if is_won {
            let dispute = self.object(dispute);
            self.log("charge.dispute.funds_reinstated", &dispute, None);
        }
    }

    /// A rule of the Dashboard wants a human to look at the payment; returns the review's id.
    pub fn open_review(&mut self, session: &str) -> String {
        let (intent, charge) = (self.intent_of(session), self.charge_of(session));
        let id = self.new_id("prv_1");
        let review = json!({
            "id": id, "object": "review", "open": true, "reason": "rule", "opened_reason": "rule",
            "charge": charge, "payment_intent": intent, "created": self.now(), "livemode": false,
        });
        self.add(&id, review);
        for object in [&intent, &charge] {
            self.changed(object, json!({"review": id}));
        }
        self.change("review.opened", &id, json!({}));
        id
    }

    pub fn close_review(&mut self, review: &str) {
        let fields = json!({"open": false, "reason": "approved"});
        self.change("review.closed", review, fields);
    }

    /// The issuer of the card says that it was stolen; returns the warning's id.
    pub fn warn_of_fraud(&mut self, session: &str) -> String {
        let id = self.new_id("issfr_1");
        let warning = json!({
            "id": id, "object": "radar.early_fraud_warning", "actionable": true,
            "charge": self.charge_of(session), "payment_intent": self.intent_of(session),
            "fraud_type": "unauthorized_use_of_card", "created": self.now(), "livemode": false,
        });
        self.add(&id, warning);
        self.change("radar.early_fraud_warning.created", &id, json!({}));
        id
    }

    /// The intent of a session, or of its invoice.
    fn intent_of(&self, session: &str) -> String {
        let session = self.object(session);
        if let Some(intent) = session["payment_intent"].as_str() {
            return intent.to_owned();
        }
        let payments = self.newest("invoice_payment");
        let payment = payments
            .iter()
            .find(|payment| payment["invoice"] == session["invoice"]);
        let payment = &payment.unwrap()["payment"];
        payment["payment_intent"].as_str().unwrap().to_owned()
    }

    fn charge_of(&self, session: &str) -> String {
        let intent = self.object(&self.intent_of(session));
        intent["latest_charge"].as_str().unwrap().to_owned()
    }
}

/// Without what the stand-in notes for itself.
pub fn public(object: &Value) -> Value {
    let mut object = object.clone();
    if let Value::Object(fields) = &mut object {
        fields.remove("fake_intent_metadata");
        fields.remove("fake_secret");
    }
    object
}
