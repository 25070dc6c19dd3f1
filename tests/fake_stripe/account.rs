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
        paidup::clock::unix_millis().div_euclid(1000) + self.time_offset
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

    /// The buyer orders the money to be sent; it comes later, or not.
    pub fn pay_later(&mut self, session: &str) {
        let intent = self.start_payment(session, "processing");
        self.complete(
            session,
            json!({"payment_intent": intent, "payment_status": "unpaid"}),
        );
    }

    /// The money of [`Account::pay_later`] comes.
    pub fn settle(&mut self, session: &str) {
        let intent = self.intent_of(session);
        self.take_money(&intent);
        let kind = "checkout.session.async_payment_succeeded";
        self.change(kind, session, json!({"payment_status": "paid"}));
    }

    /// The money of [`Account::pay_later`] does not come.
    pub fn fail_payment(&mut self, session: &str) {
        let intent = self.intent_of(session);
        let fields = json!({
            "status": "requires_payment_method", "amount_received": 0,
            "latest_charge": null, "last_payment_error": objects::decline(),
        });
        self.change("payment_intent.payment_failed", &intent, fields);
        let kind = "checkout.session.async_payment_failed";
        self.change(kind, session, json!({"payment_status": "unpaid"}));
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
        let intent = self.object(intent_id);
        let id = self.new_id("ch_3");
        let mut charge = objects::charge();
        set(
            &mut charge,
            json!({
                "id": id, "amount": intent["amount"], "amount_captured": intent["amount"],
                "created": self.now(), "currency": intent["currency"],
                "metadata": intent["metadata"], "payment_intent": intent_id,
            }),
        );
        self.add(&id, charge.clone());
        self.log("charge.succeeded", &charge, None);
        let fields = json!({
            "status": "succeeded", "amount_received": intent["amount"], "latest_charge": id,
        });
        self.change("payment_intent.succeeded", intent_id, fields);
    }

    // ── What the Dashboard does ─────────────────────────────────────────────────────────────────

    /// Gives back `amount`, or what is left, and returns the refund's id.
    pub fn refund(&mut self, session: &str, amount: Option<i64>, status: &str) -> String {
        let charge_id = self.charge_of(session);
        let charge = self.object(&charge_id);
        let number = |name: &str| charge[name].as_i64().unwrap();
        let left = number("amount_captured") - number("amount_refunded");
        let amount = amount.unwrap_or(left);
        assert!((1..=left).contains(&amount), "{amount} of {left}");
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
        self.add(&id, refund.clone());
        let refunded = number("amount_refunded") + amount;
        let fields = json!({
            "amount_refunded": refunded, "refunded": refunded == number("amount"),
        });
        self.update(&["charge.refunded"], &charge_id, fields);
        self.log("refund.created", &refund, None);
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

    fn intent_of(&self, session: &str) -> String {
        let session = self.object(session);
        session["payment_intent"].as_str().unwrap().to_owned()
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
    }
    object
}
