//! Finds the payment that a Stripe object belongs to.
//!
//! The id of a session is random, so among those of five million each new one would touch a page of
//! its own. The table `object` therefore keeps sessions by month: those of one month lie together on
//! few pages, which stay in memory while they are of use. A session's month is that in which it was
//! made or, where another object names it, in which that one was. Only an intent does, and it was made
//! while the session was open: for a day at most, so both are of one month or of two in a row
//! (<https://docs.stripe.com/api/checkout/sessions/create#create_checkout_session-expires_at>).
//!
//! Invariants, cited by number in tests:
//!  O1  Whatever the order of arrival, two objects that name a session are of one payment when their
//!      months are the same or next to each other. So every fact looks at three months, and leaves the
//!      session in its own. (One that brings nothing new need not: the first of its object did.)

use std::ops::RangeInclusive;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};

use super::StoreError;
use super::rows::UNREADABLE;
use crate::base::id::{StripeId, UnixSeconds};
use crate::truth::fact::Fact;

/// What the id of a session begins with. All others are their own keys: a dispute names its charge
/// months later, and an id may have 255 characters (<https://docs.stripe.com/upgrades>).
const SESSION: &str = "cs_";
/// Of a session's digest, beside the two bytes of its month.
const DIGEST_BYTES: usize = 14;
const MONTH_SECONDS: i64 = 30 * 86_400;
/// In 2134. What says that it is of a later one is of this one: whoever looks through all months is to
/// be done in milliseconds.
const MONTH_MAX: u16 = 2_000;

/// The key of an object in the table `object`: its id, or of a session its month and digest.
fn key(id: &str, month: u16) -> Value {
    if !is_session(id) {
        return Value::Text(id.to_owned());
    }
    let digest = Sha256::digest(id);
    let digest = digest.iter().take(DIGEST_BYTES);
    Value::Blob(month.to_be_bytes().iter().chain(digest).copied().collect())
}

fn is_session(id: &str) -> bool {
    id.starts_with(SESSION)
}

/// The payments that the fact's objects belong to so far, oldest first; hardly ever more than one.
pub(super) fn payments_of(db: &Connection, fact: &Fact) -> Result<Vec<i64>, StoreError> {
    let mut find = db.prepare_cached("SELECT payment FROM object WHERE id = ?1")?;
    let month = month_of(fact.made);
    let mut payments = Vec::new();
    for id in fact.ids().map(StripeId::as_str) {
        let months = match is_session(id) {
            true => month.saturating_sub(1)..=month + 1,
            false => month..=month,
        };
        for month in months {
            let payment = find.query_row([key(id, month)], |row| row.get::<_, i64>(0));
            payments.extend(payment.optional()?);
        }
    }
    payments.sort_unstable();
    payments.dedup();
    Ok(payments)
}

/// Makes the fact's objects known as the payment's.
pub(super) fn insert(db: &Connection, fact: &Fact, payment: i64) -> Result<(), StoreError> {
    let mut insert = db.prepare_cached(
        "INSERT INTO object (id, payment) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
    )?;
    for id in fact.ids().map(StripeId::as_str) {
        insert.execute(params![key(id, month_of(fact.made)), payment])?;
    }
    Ok(())
}

/// Makes an object of the payment `from` one of `to`.
pub(super) fn update(db: &Connection, id: &StripeId, from: i64, to: i64) -> Result<(), StoreError> {
    let mut update =
        db.prepare_cached("UPDATE object SET payment = ?3 WHERE id = ?1 AND payment = ?2")?;
    for month in months(db, id.as_str())? {
        update.execute(params![key(id.as_str(), month), from, to])?;
    }
    Ok(())
}

/// The payment and the order of an object of which nothing is known but its id.
pub(super) fn of_order(db: &Connection, id: &str) -> Result<Option<(i64, i64)>, StoreError> {
    let mut find = db.prepare_cached(
        "SELECT id, order_id FROM payment
         WHERE id = (SELECT payment FROM object WHERE id = ?1) AND order_id IS NOT NULL",
    )?;
    for month in months(db, id)?.rev() {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let found = find.query_row([key(id, month)], read).optional()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Every month that the object may be in. What is no session has the same key in all of them.
fn months(db: &Connection, id: &str) -> Result<RangeInclusive<u16>, StoreError> {
    if !is_session(id) {
        return Ok(0..=0);
    }
    let month = |sql| -> Result<Option<u16>, StoreError> {
        let read = |row: &Row<'_>| match row.get_ref(0)?.as_blob()? {
            [high, low, ..] => Ok(u16::from_be_bytes([*high, *low])),
            _ => Err(UNREADABLE),
        };
        Ok(db.prepare_cached(sql)?.query_row([], read).optional()?)
    };
    // To SQLite every blob is greater than any text.
    let first = month("SELECT id FROM object WHERE id >= x'' ORDER BY id LIMIT 1")?;
    let last = month("SELECT id FROM object WHERE id >= x'' ORDER BY id DESC LIMIT 1")?;
    Ok(first.unwrap_or(0)..=last.unwrap_or(0))
}

fn month_of(at: UnixSeconds) -> u16 {
    let month = at.0.max(0) / MONTH_SECONDS;
    u16::try_from(month).unwrap_or(MONTH_MAX).min(MONTH_MAX)
}
