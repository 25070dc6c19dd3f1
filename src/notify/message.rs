//! What a destination is told of an order.
//!
//! A message depends on nothing but the order and the destination, so whoever tells it again tells the
//! same under the same id, and no id stands for two contents.

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::base::id::UnixSeconds;
use crate::base::time;
use crate::base::webhook_key::WebhookKey;
use crate::store::Tale;
use crate::store::json::order_json;
use crate::truth::reading::Mode;

/// One message: what is signed and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// `webhook-id`.
    pub(crate) id: String,
    /// JSON.
    pub(crate) body: String,
}

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: String,
    data: Value,
}

impl Notice {
    /// How an order stands.
    pub(crate) fn of_order(destination: &str, tale: &Tale) -> Notice {
        let Tale { order, history, .. } = tale;
        let data = json!({
            "version": order.changed,
            "livemode": tale.mode == Some(Mode::Live),
            "alsoKnownAs": tale.other_names,
            "order": order_json(order, Some(history)),
        });
        let about = [order.name.as_str(), &order.changed.to_string()];
        Notice::new(destination, about, "order.changed", order.updated_at, data)
    }

    /// A word that changes nothing, for `paidup notify test`.
    pub(crate) fn test(destination: &str, at: UnixSeconds) -> Notice {
        let about = ["", &at.0.to_string()];
        Notice::new(destination, about, "paidup.test", at, json!({}))
    }

    fn new(
        destination: &str,
        about: [&str; 2],
        kind: &str,
        at: UnixSeconds,
        data: Value,
    ) -> Notice {
        let envelope = Envelope {
            kind,
            timestamp: time::rfc3339(at),
            data,
        };
        // Texts and numbers always have a form in JSON.
        let body = serde_json::to_string(&envelope).unwrap_or_default();
        let mut digest = Sha256::new();
        for part in [destination, about[0], about[1], &body] {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
        let mut id = hex::encode(digest.finalize());
        id.truncate(ID_DIGITS);
        Notice {
            id: format!("msg_{id}"),
            body,
        }
    }

    /// `webhook-signature`: an entry for each key, so that either of a rotation is enough.
    pub(crate) fn signatures(&self, keys: &[WebhookKey], at: UnixSeconds) -> String {
        let entries = keys.iter().map(|key| key.sign(&self.id, at, &self.body));
        entries.collect::<Vec<_>>().join(" ")
    }
}

/// Half of a SHA-256: two contents never meet there.
const ID_DIGITS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_under_the_same_id_and_nothing_else_is() {
        let at = UnixSeconds(1_793_000_000);
        let message = |destination: &str, about: [&str; 2], data: Value| {
            Notice::new(destination, about, "order.changed", at, data)
        };
        let one = message("shop", ["ord_1", "7"], json!({"version": 7}));
        assert_eq!(
            one.body,
            r#"{"type":"order.changed","timestamp":"2026-10-26T07:33:20Z","data":{"version":7}}"#
        );
        assert_eq!(one, message("shop", ["ord_1", "7"], json!({"version": 7})));
        let others = [
            message("phone", ["ord_1", "7"], json!({"version": 7})),
            message("shop", ["ord_17", ""], json!({"version": 7})),
            message("shop", ["ord_1", "8"], json!({"version": 7})),
            message("shop", ["ord_1", "7"], json!({"version": 8})),
            Notice::test("shop", at),
        ];
        let ids: std::collections::BTreeSet<_> = others.iter().map(|other| &other.id).collect();
        assert_eq!(ids.len(), others.len());
        assert!(!ids.contains(&one.id) && one.id.len() == 36);
    }
}
