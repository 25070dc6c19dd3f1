//! Identifiers that were checked when they were made, and seconds since 1970.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Whole seconds since 1970-01-01T00:00:00Z, as in Stripe's `created`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(pub i64);

/// Why a text is not a valid identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadId {
    /// It is empty or blank.
    Empty,
    /// It is longer than this kind of identifier may be.
    TooLong,
    /// It has a character that this kind of identifier may not have.
    BadCharacter,
}

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadId::Empty => "it is empty",
            BadId::TooLong => "it is too long",
            BadId::BadCharacter => "it has a character that is not allowed",
        })
    }
}

/// The id of a Stripe object or event: 1 to 255 of `[A-Za-z0-9_-]`.
///
/// The prefix (`evt_`, `cs_`, `pi_` …) is not looked at: Stripe has several for one kind of
/// object (`ch_` and `py_`, `du_` and `dp_`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Box<str>", into = "Box<str>")]
pub struct StripeId(Box<str>);

impl StripeId {
    /// Longest id that Stripe announces, in bytes:
    /// <https://docs.stripe.com/upgrades#what-changes-does-stripe-consider-to-be-backwards-compatible>.
    pub(crate) const MAX_BYTES: usize = 255;

    /// Checks `text`.
    ///
    /// # Errors
    /// [`BadId`] when it is not 1 to 255 of `[A-Za-z0-9_-]`.
    pub fn parse(text: &str) -> Result<StripeId, BadId> {
        plain(text, 1, Self::MAX_BYTES).map(|text| StripeId(text.into()))
    }

    /// The id as Stripe wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<Box<str>> for StripeId {
    type Error = BadId;

    fn try_from(text: Box<str>) -> Result<StripeId, BadId> {
        StripeId::parse(&text)
    }
}

impl From<StripeId> for Box<str> {
    fn from(id: StripeId) -> Box<str> {
        id.0
    }
}

/// The id of an order: the shop's own, which is any text of 1 to 200 characters that is not blank,
/// or, until an event names that, the id of the order's Checkout Session.
///
/// It comes from outside and is kept as it is, so it may be an email address or worse: it gets into
/// the log only through [`LogText`](super::log_line::LogText).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Box<str>", into = "Box<str>")]
pub struct OrderId(Box<str>);

impl OrderId {
    /// Longest order id, in characters: that of Stripe's `client_reference_id`.
    pub(crate) const MAX_CHARS: usize = 200;

    /// Checks `text`.
    ///
    /// # Errors
    /// [`BadId`] when it is blank or has more than 200 characters.
    pub fn parse(text: &str) -> Result<OrderId, BadId> {
        if text.trim().is_empty() {
            return Err(BadId::Empty);
        }
        if text.chars().count() > Self::MAX_CHARS {
            return Err(BadId::TooLong);
        }
        Ok(OrderId(text.into()))
    }

    /// An id from the database, which was checked before it was stored.
    #[must_use]
    pub fn stored(text: String) -> OrderId {
        OrderId(text.into())
    }

    /// The order id as the shop wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&StripeId> for OrderId {
    fn from(session: &StripeId) -> OrderId {
        OrderId(session.0.clone())
    }
}

impl TryFrom<Box<str>> for OrderId {
    type Error = BadId;

    fn try_from(text: Box<str>) -> Result<OrderId, BadId> {
        OrderId::parse(&text)
    }
}

impl From<OrderId> for Box<str> {
    fn from(id: OrderId) -> Box<str> {
        id.0
    }
}

/// Ties an answer's `x-request-id` to its log lines: 8 to 64 of `[A-Za-z0-9_-]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// Checks an id that came from outside or from the generator.
    ///
    /// # Errors
    /// [`BadId`] when it is not 8 to 64 of `[A-Za-z0-9_-]`.
    pub fn parse(text: &str) -> Result<RequestId, BadId> {
        plain(text, 8, 64).map(|text| RequestId(text.into()))
    }

    /// The id of a process's `number`th request; `process` is the process's random number.
    #[must_use]
    pub(crate) fn numbered(process: u64, number: u64) -> RequestId {
        RequestId(format!("{process:016x}-{number:08x}").into())
    }

    /// The id as it appears in the header and in the log.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Makes Stripe do a thing once, however often it is asked: 1 to 255 of `[A-Za-z0-9_-]`.
/// <https://docs.stripe.com/api/idempotent_requests>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(Box<str>);

impl IdempotencyKey {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`BadId`] when it is not 1 to 255 of `[A-Za-z0-9_-]`.
    pub fn parse(text: &str) -> Result<IdempotencyKey, BadId> {
        plain(text, 1, 255).map(|text| IdempotencyKey(text.into()))
    }

    /// The key of the `attempt`th session of an order, which is always the same. An order id may be
    /// any text, hence the digest.
    #[must_use]
    pub(crate) fn of_attempt(order: &OrderId, attempt: i64) -> IdempotencyKey {
        let digest = hex::encode(Sha256::digest(order.as_str().as_bytes()));
        IdempotencyKey(format!("paidup-{digest}-{attempt}").into())
    }

    /// The key as it appears in the header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `text` if it is `min..=max` bytes of `[A-Za-z0-9_-]`.
fn plain(text: &str, min: usize, max: usize) -> Result<&str, BadId> {
    if text.is_empty() {
        return Err(BadId::Empty);
    }
    if text.len() > max {
        return Err(BadId::TooLong);
    }
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if text.len() < min || !text.bytes().all(known) {
        return Err(BadId::BadCharacter);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stripe_id_is_plain_text_of_any_prefix() {
        assert!(StripeId::parse("py_3FZlFTDKHY7pQ2eZvKY0gy2jQJ0").is_ok());
        assert_eq!(StripeId::parse(""), Err(BadId::Empty));
        assert_eq!(StripeId::parse(&"a".repeat(256)), Err(BadId::TooLong));
        for bad in ["ada@example.com", "evt 1", "evt_\n", "évt_1"] {
            assert_eq!(StripeId::parse(bad), Err(BadId::BadCharacter), "{bad}");
        }
    }

    #[test]
    fn an_order_id_is_any_text_up_to_200_characters() {
        assert!(OrderId::parse("ada@example.com").is_ok());
        assert!(OrderId::parse(&"é".repeat(200)).is_ok());
        assert_eq!(OrderId::parse(&"é".repeat(201)), Err(BadId::TooLong));
        assert_eq!(OrderId::parse(" \t"), Err(BadId::Empty));
    }

    #[test]
    fn each_attempt_at_each_order_has_a_plain_key_of_its_own() {
        let key = |order: &str, attempt| {
            IdempotencyKey::of_attempt(&OrderId::parse(order).unwrap(), attempt)
        };
        let keys = [
            key("é ada@example.com", 1),
            key("é ada@example.com", 2),
            key("ord_1", 1),
        ];
        for one in &keys {
            assert_eq!(IdempotencyKey::parse(one.as_str()).as_ref(), Ok(one));
        }
        assert!(keys[0] != keys[1] && keys[0] != keys[2]);
        assert_eq!(key("ord_1", 1), keys[2]);
    }

    #[test]
    fn a_request_id_is_8_to_64_plain_characters() {
        assert!(RequestId::parse("req-0001").is_ok());
        assert!(RequestId::parse("req-001").is_err());
        assert!(RequestId::parse(&"r".repeat(65)).is_err());
        assert!(RequestId::parse("evil\r\nheader: 1").is_err());
        for id in [
            RequestId::numbered(0, 0),
            RequestId::numbered(u64::MAX, u64::MAX),
        ] {
            assert_eq!(RequestId::parse(id.as_str()), Ok(id));
        }
    }
}
