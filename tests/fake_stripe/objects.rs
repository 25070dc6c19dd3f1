//! Stripe's objects, made from the documents that the tests of events read as well.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Value, json};

pub const API_VERSION: &str = "2026-10-28.endive";

/// Sets fields of an object: `set(&mut object, json!({"status": "paid"}))`.
pub fn set(object: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else {
        panic!("fields are an object");
    };
    for (name, value) in fields {
        object[name] = value;
    }
}

/// A Checkout Session that nobody has paid yet.
pub fn session() -> Value {
    object_of(include_str!(
        "../fixtures/events/checkout.session.completed.paid.json"
    ))
}

pub fn intent() -> Value {
    object_of(include_str!(
        "../fixtures/events/payment_intent.succeeded.json"
    ))
}

/// A decline, as `last_payment_error` tells it.
pub fn decline() -> Value {
    let failed = object_of(include_str!(
        "../fixtures/events/payment_intent.payment_failed.json"
    ));
    failed["last_payment_error"].clone()
}

pub fn charge() -> Value {
    object_of(include_str!("../fixtures/events/charge.succeeded.json"))
}

pub fn refund() -> Value {
    object_of(include_str!(
        "../fixtures/events/refund.created.partial.json"
    ))
}

pub fn dispute() -> Value {
    object_of(include_str!(
        "../fixtures/events/charge.dispute.created.json"
    ))
}

pub fn event(id: &str, created: i64, kind: &str, object: &Value, previous: Option<Value>) -> Value {
    let mut event = json!({
        "id": id,
        "object": "event",
        "api_version": API_VERSION,
        "created": created,
        "data": {"object": object},
        "livemode": false,
        "pending_webhooks": 1,
        "request": {"id": null, "idempotency_key": null},
        "type": kind,
    });
    if let Some(previous) = previous {
        event["data"]["previous_attributes"] = previous;
    }
    event
}

pub fn endpoint(id: &str, url: &str, enabled_events: &[&str], created: i64) -> Value {
    json!({
        "id": id,
        "object": "webhook_endpoint",
        "api_version": API_VERSION,
        "application": null,
        "created": created,
        "description": null,
        "enabled_events": enabled_events,
        "livemode": false,
        "metadata": {},
        "status": "enabled",
        "url": url,
    })
}

/// As Stripe writes JSON: indented by two spaces, `id` and `object` first.
pub fn written(value: &Value) -> String {
    serde_json::to_string_pretty(&Written(value)).unwrap()
}

struct Written<'a>(&'a Value);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                let first = ["id", "object"];
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                let leading = first.iter().filter_map(|name| fields.get_key_value(*name));
                let rest = fields
                    .iter()
                    .filter(|(name, _)| !first.contains(&name.as_str()));
                for (name, value) in leading.chain(rest) {
                    map.serialize_entry(name, &Written(value))?;
                }
                map.end()
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Written)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.0.serialize(serializer)
            }
        }
    }
}

fn object_of(event: &str) -> Value {
    let event: Value = serde_json::from_str(event).unwrap();
    event["data"]["object"].clone()
}
