//! Keeps the promise of `POST /orders`: one request of the shop makes one order with one Checkout
//! Session, however often it is sent and wherever it is cut off.
//!
//! The request is written before Stripe is called, with the number of the attempt that Stripe's
//! idempotency key is made from. Whoever repeats the request finds that row and calls Stripe with the
//! same key, so Stripe answers with the same session.
//!
//! Nobody can pay a session whose URL was never returned, so a new attempt may ignore it; it expires
//! by itself. An attempt is new when Stripe has forgotten the key, after 24 hours, or has failed in a
//! way that it would repeat.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::connect::begin;
use super::error::UNREADABLE;
use super::sums::Sums;
use super::{Store, StoreError, ledger, orders};
use crate::base::id::{OrderId, RequestId, StripeId, UnixSeconds};
use crate::truth::delivery::{Delivery, Outcome};
use crate::truth::event::{Event, Ignored, Meaning};
use crate::truth::order::{State, Status};

/// What a shop asks for.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The shop's `Idempotency-Key`, or the order's id.
    pub key: &'a str,
    /// The order to be paid.
    pub order: &'a OrderId,
    /// Whether the shop named it. An order that it did not name is known by its key alone.
    pub is_named: bool,
    /// Digest of what is asked for: the same key with something else is a mistake.
    pub sha256: [u8; 32],
    /// When the payment page expires.
    pub expires_at: UnixSeconds,
    /// The request.
    pub request_id: Option<RequestId>,
    /// This host's clock.
    pub now: UnixSeconds,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is on disk now; Stripe has not been asked yet.
    New(Checkout),
    /// It was on disk already, from an earlier request.
    Known(Checkout),
    /// The key belongs to another request.
    KeyReused,
    /// The order has a session already, or is being given one under another key.
    OrderExists,
}

/// A payment page, asked for or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    /// The order.
    pub order: OrderId,
    /// Counts the order's sessions from 1, made or not: part of Stripe's idempotency key.
    pub attempt: i64,
    /// When the page expires.
    pub expires_at: UnixSeconds,
    /// The session and its page, once Stripe has answered.
    pub session: Option<(StripeId, String)>,
}

/// Stripe keeps an idempotency key for at least 24 hours; from here on we no longer rely on it.
const KEY_SECONDS: i64 = 23 * 3600;

/// What `Checkout::read` expects, in this order.
const COLUMNS: &str = "order_name, attempt, expires_at, session, url";

impl Checkout {
    fn read(row: &Row<'_>) -> rusqlite::Result<Checkout> {
        let session: Option<String> = row.get(3)?;
        let session = session.map(|id| StripeId::parse(&id)).transpose();
        let url: Option<String> = row.get(4)?;
        Ok(Checkout {
            order: OrderId::stored(row.get(0)?),
            attempt: row.get(1)?,
            expires_at: UnixSeconds(row.get(2)?),
            session: session.map_err(|_| UNREADABLE)?.zip(url),
        })
    }
}

impl Store {
    /// Writes what is asked for, with a pending order, or finds what was asked for before.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::record`].
    pub fn ask(&mut self, ask: &Ask<'_>) -> Result<Asked, StoreError> {
        let transaction = begin(&mut self.connection)?;
        let asked = match known(&transaction, ask)? {
            Some(known) if !known.is_for(ask) => Asked::KeyReused,
            Some(known) => again(&transaction, ask, known)?,
            None if is_taken(&transaction, ask, ask.order)? => Asked::OrderExists,
            None => Asked::New(first(&transaction, ask)?),
        };
        transaction.commit()?;
        self.look()?;
        Ok(asked)
    }

    /// Writes what Stripe has answered, and returns the answer for every repetition.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::record`].
    pub fn answered(
        &mut self,
        key: &str,
        session: &StripeId,
        url: &str,
        expires_at: UnixSeconds,
    ) -> Result<Checkout, StoreError> {
        let transaction = begin(&mut self.connection)?;
        transaction
            .prepare_cached(
                "UPDATE checkout SET session = ?2, url = ?3, expires_at = ?4
                 WHERE key = ?1 AND session IS NULL",
            )?
            .execute(params![key, session.as_str(), url, expires_at.0])?;
        let sql = format!("SELECT {COLUMNS} FROM checkout WHERE key = ?1");
        let checkout = transaction
            .prepare_cached(&sql)?
            .query_row([key], Checkout::read)?;
        transaction.commit()?;
        self.look()?;
        Ok(checkout)
    }

    /// Stripe has refused it, and keeps nothing of a request that it refuses: the key is free again.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::record`].
    pub(crate) fn refused(&mut self, key: &str) -> Result<(), StoreError> {
        let sql = "UPDATE checkout SET sha256 = NULL WHERE key = ?1 AND session IS NULL";
        self.connection.prepare_cached(sql)?.execute([key])?;
        Ok(())
    }

    /// Stripe has failed, and would repeat that answer under the same key: the next request uses
    /// another.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::record`].
    pub(crate) fn failed(&mut self, key: &str, attempt: i64) -> Result<(), StoreError> {
        let sql = "UPDATE checkout SET attempt = (SELECT max(attempt) + 1 FROM checkout AS any
                                          WHERE any.order_name = checkout.order_name)
                   WHERE key = ?1 AND attempt = ?2 AND session IS NULL";
        self.connection
            .prepare_cached(sql)?
            .execute(params![key, attempt])?;
        Ok(())
    }
}

/// Whether the shop has asked for this order: then it exists whatever its payments say.
pub(super) fn is_asked_for(db: &Connection, order: &OrderId) -> Result<bool, StoreError> {
    Ok(db
        .prepare_cached("SELECT 1 FROM checkout WHERE order_name = ?1")?
        .exists([order.as_str()])?)
}

/// The order that one of these sessions was made for, if the shop has asked for one.
pub(super) fn order_of<'a>(
    db: &Connection,
    mut sessions: impl Iterator<Item = &'a StripeId>,
) -> Result<Option<OrderId>, StoreError> {
    let mut find = db.prepare_cached("SELECT order_name FROM checkout WHERE session = ?1")?;
    let order = sessions.find_map(|session| {
        let found = find.query_row([session.as_str()], |row| row.get(0));
        found.optional().transpose()
    });
    Ok(order.transpose()?.map(OrderId::stored))
}

/// The request that a key belongs to.
struct Known {
    /// None once Stripe has refused it.
    sha256: Option<[u8; 32]>,
    made_at: UnixSeconds,
    checkout: Checkout,
}

impl Known {
    fn is_for(&self, ask: &Ask<'_>) -> bool {
        match self.sha256 {
            Some(sha256) => sha256 == ask.sha256,
            None => !ask.is_named || self.checkout.order == *ask.order,
        }
    }
}

fn known(db: &Connection, ask: &Ask<'_>) -> Result<Option<Known>, StoreError> {
    let sql = format!("SELECT {COLUMNS}, sha256, made_at FROM checkout WHERE key = ?1");
    let read = |row: &Row<'_>| {
        Ok(Known {
            checkout: Checkout::read(row)?,
            sha256: row.get(5)?,
            made_at: UnixSeconds(row.get(6)?),
        })
    };
    Ok(db
        .prepare_cached(&sql)?
        .query_row([ask.key], read)
        .optional()?)
}

/// The same request again. Where Stripe no longer knows what became of the first, a new attempt
/// begins.
fn again(db: &Connection, ask: &Ask<'_>, known: Known) -> Result<Asked, StoreError> {
    let checkout = known.checkout;
    let age = ask.now.0.saturating_sub(known.made_at.0);
    let is_refused = known.sha256.is_none();
    if checkout.session.is_some() || (age < KEY_SECONDS && !is_refused) {
        return Ok(Asked::Known(checkout));
    }
    if is_taken(db, ask, &checkout.order)? {
        return Ok(Asked::OrderExists);
    }
    let checkout = Checkout {
        attempt: next_attempt(db, &checkout.order)?,
        expires_at: ask.expires_at,
        ..checkout
    };
    db.prepare_cached(
        "UPDATE checkout SET sha256 = ?2, attempt = ?3, made_at = ?4, expires_at = ?5 WHERE key = ?1",
    )?
    .execute(params![
        ask.key,
        ask.sha256,
        checkout.attempt,
        ask.now.0,
        checkout.expires_at.0
    ])?;
    Ok(Asked::New(checkout))
}

/// Whether the order cannot have a new session: a second one could be paid as well.
fn is_taken(db: &Connection, ask: &Ask<'_>, order: &OrderId) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM checkout
               WHERE order_name = ?1 AND key <> ?2 AND session IS NULL AND sha256 IS NOT NULL
                 AND expires_at > ?3";
    let is_being_made =
        db.prepare_cached(sql)?
            .exists(params![order.as_str(), ask.key, ask.now.0])?;
    let was_asked_for = is_asked_for(db, order)?;
    let order = orders::by_name(db, order.as_str())?;
    Ok(is_being_made
        || order.is_some_and(|order| match order.state.status {
            // An order that was paid elsewhere cannot be asked for here: late money would have none.
            Status::Expired | Status::Canceled | Status::Failed => !was_asked_for,
            // Free while Stripe has refused it, or nobody has begun to pay.
            Status::Pending => order.state.session.is_some() || order.state.intent.is_some(),
            Status::Authorized
            | Status::Processing
            | Status::Paid
            | Status::PartiallyRefunded
            | Status::Refunded => true,
        }))
}

fn first(db: &Connection, ask: &Ask<'_>) -> Result<Checkout, StoreError> {
    let checkout = Checkout {
        order: ask.order.clone(),
        attempt: next_attempt(db, ask.order)?,
        expires_at: ask.expires_at,
        session: None,
    };
    db.prepare_cached(
        "INSERT INTO checkout (key, order_name, sha256, attempt, made_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        ask.key,
        ask.order.as_str(),
        ask.sha256,
        checkout.attempt,
        ask.now.0,
        ask.expires_at.0
    ])?;
    if orders::by_name(db, ask.order.as_str())?.is_none() {
        begin_order(db, ask)?;
    }
    Ok(checkout)
}

/// Greater than under any key: two sessions of an order must never share Stripe's key.
fn next_attempt(db: &Connection, order: &OrderId) -> Result<i64, StoreError> {
    let sql = "SELECT coalesce(max(attempt), 0) + 1 FROM checkout WHERE order_name = ?1";
    Ok(db
        .prepare_cached(sql)?
        .query_row([order.as_str()], |row| row.get(0))?)
}

/// An order without a payment yet, and the first line of its story.
fn begin_order(db: &Connection, ask: &Ask<'_>) -> Result<(), StoreError> {
    let order = orders::insert(
        db,
        ask.order,
        State::before_payment(ask.now, false),
        None,
        ask.now,
    )?;
    let mut sums = Sums::default();
    sums.count_status(None, Some(order.state.status));
    sums.write(db)?;
    let mut digest = hex::encode(ask.sha256);
    digest.truncate(16);
    let id = format!("asked_{digest}_{}", order.changed);
    let delivery = Delivery {
        event: Event {
            id: StripeId::parse(&id).map_err(|_| StoreError::Unreadable)?,
            kind: "paidup.asked".into(),
            created: Some(ask.now),
            api_version: None,
            mode: None,
            meaning: Meaning::Ignored(Ignored::Type),
        },
        sha256: ask.sha256,
        request_id: ask.request_id.clone(),
        received: ask.now,
    };
    let seq = ledger::write(db, &delivery, None, Outcome::Applied, None)?;
    orders::insert_change(db, &order, None, &delivery, seq)
}
