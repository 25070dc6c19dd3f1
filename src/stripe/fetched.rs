//! What Stripe answers when it is asked for an object.

use std::fmt;

use serde_json::{Map, Value};

use crate::base::id::{StripeId, UnixSeconds};

/// An object as Stripe answered it when it was asked.
#[derive(Clone, PartialEq)]
pub struct Fetched {
    /// Its id.
    pub id: StripeId,
    /// As of when it says so, by Stripe's clock.
    pub at: UnixSeconds,
    json: Box<str>,
    fields: Map<String, Value>,
}

impl Fetched {
    /// The error is the name of the field without which it is of no use.
    pub(super) fn read(json: &str, at: UnixSeconds) -> Result<Fetched, &'static str> {
        let fields: Map<String, Value> = serde_json::from_str(json).map_err(|_| "object")?;
        let id = fields.get("id").and_then(id_of).ok_or("id")?;
        let json = json.into();
        Ok(Fetched {
            id,
            at,
            json,
            fields,
        })
    }

    /// All of it, byte for byte. It may hold what buyers typed: whoever calls this must not print it.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The text of a field.
    #[must_use]
    pub fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field)?.as_str()
    }

    /// The texts of a list.
    #[must_use]
    pub fn texts(&self, field: &str) -> Option<Vec<&str>> {
        let texts = self.fields.get(field)?.as_array()?.iter();
        Some(texts.filter_map(Value::as_str).collect())
    }

    /// The whole number of a field.
    #[must_use]
    pub fn whole(&self, field: &str) -> Option<i64> {
        self.fields.get(field)?.as_i64()
    }

    /// The id in a field, or in a field of a field (`payment.payment_intent`), written as text or as
    /// the object that it stands for.
    #[must_use]
    pub fn id_in(&self, path: &str) -> Option<StripeId> {
        let mut names = path.split('.');
        let first = self.fields.get(names.next()?)?;
        id_of(names.try_fold(first, |value, name| value.get(name))?)
    }
}

fn id_of(value: &Value) -> Option<StripeId> {
    let text = value.as_str().or(value.get("id").and_then(Value::as_str))?;
    StripeId::parse(text).ok()
}

/// Of what it holds only the id may be shown.
impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetched({})", self.id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_prints_nothing_of_what_it_holds() {
        let json = "{\"id\":\"cs_1\",\"email\":\"ada@example.com\"}";
        let object = Fetched::read(json, UnixSeconds(1)).ok();
        assert_eq!(format!("{object:?}"), "Some(Fetched(cs_1))");
    }
}
