//! Finds the payment that a Stripe object belongs to: the rows of `object`.
//!
//! A session's id is random, so among five million each new one would touch a page of its own. The
//! table therefore keeps sessions by month: those of one month lie together on few pages, which stay
//! in memory while they are used.
//!
//! A session is filed under the month it was created in, or under that of the object that mentions
//! it. Only an intent does, and it was created while the session was open: for a day at most, so both
//! are of the same month or of two in a row
//! (<https://docs.stripe.com/api/checkout/sessions/create#create_checkout_session-expires_at>). So
//! every fact looks at three months, and files the session under its own (S5). A fact that brings
//! nothing new need not: the first one of its object did.

use std::ops::RangeInclusive;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use sha2::{Digest, Sha256};

use super::StoreError;
use super::error::UNREADABLE;
use crate::base::id::{StripeId, UnixSeconds};
use crate::truth::fact::Fact;

/// How a session's id begins. All other ids are their own keys: a dispute names its charge months
/// later, and an id may have 255 characters (<https://docs.stripe.com/upgrades>).
const SESSION: &str = "cs_";
/// Length of a session's digest, after the two bytes of its month.
const DIGEST_BYTES: usize = 14;
const MONTH_SECONDS: i64 = 30 * 86_400;
/// The year 2134. Later dates are clamped to it, so looking through every month stays fast.
const MONTH_MAX: u16 = 2_000;

/// The keys of an object in the table, one for each month: its id; for a session month and digest.
fn keys(id: &str, months: RangeInclusive<u16>) -> impl DoubleEndedIterator<Item = Value> {
    let digest = is_session(id).then(|| Sha256::digest(id));
    let last = if digest.is_some() {
        *months.end()
    } else {
        *months.start()
    };
    (*months.start()..=last).map(move |month| match &digest {
        None => Value::Text(id.to_owned()),
        Some(digest) => {
            let digest = digest.iter().take(DIGEST_BYTES);
            Value::Blob(month.to_be_bytes().iter().chain(digest).copied().collect())
        }
    })
}

fn is_session(id: &str) -> bool {
    id.starts_with(SESSION)
}

/// The payments that the fact's objects belong to so far, those that have their order's number first:
/// hardly ever more than one.
pub(super) fn payments_of(db: &Connection, fact: &Fact) -> Result<Vec<i64>, StoreError> {
    let month = month_of(fact.made);
    let months = month.saturating_sub(1)..=month + 1;
    let ids = fact.ids().map(StripeId::as_str);
    let keys: Vec<_> = ids.flat_map(|id| keys(id, months.clone())).collect();
    // One statement for all keys takes half the time of one for each.
    let finds = vec!["SELECT payment FROM object WHERE id = ?"; keys.len()];
    let mut find = db.prepare_cached(&finds.join(" UNION ALL "))?;
    let found = find.query_map(params_from_iter(keys), |row| row.get(0))?;
    let mut payments = found.collect::<Result<Vec<i64>, _>>()?;
    payments.sort_unstable_by_key(|id| (id.is_negative(), id.unsigned_abs()));
    payments.dedup();
    Ok(payments)
}

/// Makes the fact's objects known as the payment's.
pub(super) fn insert(db: &Connection, fact: &Fact, payment: i64) -> Result<(), StoreError> {
    let mut insert = db.prepare_cached(
        "INSERT INTO object (id, payment) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
    )?;
    let month = month_of(fact.made);
    let ids = fact.ids().map(StripeId::as_str);
    for key in ids.flat_map(|id| keys(id, month..=month)) {
        insert.execute(params![key, payment])?;
    }
    Ok(())
}

/// Makes an object of the payment `from` one of `to`.
pub(super) fn update(db: &Connection, id: &StripeId, from: i64, to: i64) -> Result<(), StoreError> {
    let mut update =
        db.prepare_cached("UPDATE object SET payment = ?3 WHERE id = ?1 AND payment = ?2")?;
    for key in keys(id.as_str(), months(db, id.as_str())?) {
        update.execute(params![key, from, to])?;
    }
    Ok(())
}

/// The payment and the order of an object that is known by its id alone.
pub(super) fn of_order(db: &Connection, id: &str) -> Result<Option<(i64, i64)>, StoreError> {
    let mut find = db.prepare_cached(
        "SELECT id, order_id FROM payment
         WHERE id = (SELECT payment FROM object WHERE id = ?1) AND order_id IS NOT NULL",
    )?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let found = keys(id, months(db, id)?)
        .rev()
        .find_map(|key| find.query_row([key], read).optional().transpose());
    Ok(found.transpose()?)
}

/// Every month that the object may be filed under. Only a session's key differs by month.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::event::{Event, Meaning};
    use crate::truth::reading::Reading;

    /// The tables, with payments 1 to 3: all but the last have an order.
    fn tables() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("../../schema.sql")).unwrap();
        db.execute_batch(
            "INSERT INTO orders VALUES (7, 'o', 'paid', 'none', 1, 0, 0, 0, 0, 'eur', '', NULL, NULL,
                                        NULL, NULL, NULL, 1, 1, 1);
             INSERT INTO payment (id, order_id, other_shop, facts) VALUES (1, 7, 0, ''), (2, 7, 0, ''),
                                                                          (3, NULL, 0, '')",
        )
        .unwrap();
        db
    }

    /// Session `cs_1` and intent `pi_1`, told of in this month.
    fn fact(month: i64) -> Fact {
        let text = r#"{"id":"evt_1","type":"checkout.session.completed","created":1,"data":{"object":
            {"id":"cs_1","payment_intent":"pi_1","payment_status":"paid","amount_total":100,
             "currency":"eur"}}}"#;
        let event = Event::from_json(text, &Reading::default()).unwrap();
        let Meaning::Fact(mut fact) = event.meaning else {
            panic!("no fact");
        };
        fact.made = UnixSeconds(month.saturating_mul(MONTH_SECONDS));
        *fact
    }

    fn keys(db: &Connection) -> Vec<(Value, i64)> {
        let mut keys = db
            .prepare("SELECT id, payment FROM object ORDER BY id")
            .unwrap();
        let keys = keys.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        keys.unwrap().map(Result::unwrap).collect()
    }

    /// Files have these keys: with others, no session in them would be found again.
    #[test]
    fn a_session_has_its_month_and_digest_for_a_key_and_others_their_id() {
        let db = tables();
        insert(&db, &fact(0x0203), 1).unwrap();
        let mut session = vec![2, 3];
        session.extend(hex::decode("df49cb665346890a99e6cbda1199").unwrap());
        let expected = [
            (Value::Text("pi_1".to_owned()), 1),
            (Value::Blob(session), 1),
        ];
        assert_eq!(keys(&db), expected);
    }

    /// S5.
    #[test]
    fn a_session_is_found_from_its_month_and_from_both_next_to_it() {
        let max = i64::from(MONTH_MAX);
        for (month, found, lost) in [
            (600, vec![599, 600, 601], vec![598, 602]),
            (0, vec![-5, 0, 1], vec![2]),
            (max, vec![max - 1, max, max + 1, i64::MAX], vec![max - 2]),
            (i64::MAX, vec![max - 1, max, i64::MAX], vec![max - 2]),
        ] {
            let db = tables();
            insert(&db, &fact(month), 2).unwrap();
            db.execute("DELETE FROM object WHERE id = 'pi_1'", [])
                .unwrap();
            for from in found {
                assert_eq!(
                    payments_of(&db, &fact(from)).unwrap(),
                    [2],
                    "{month} {from}"
                );
            }
            for from in lost {
                assert_eq!(
                    payments_of(&db, &fact(from)).unwrap(),
                    [0; 0],
                    "{month} {from}"
                );
            }
        }
    }

    #[test]
    fn payments_are_found_once_each_and_oldest_first() {
        let db = tables();
        insert(&db, &fact(601), 3).unwrap();
        insert(&db, &fact(600), 2).unwrap();
        insert(&db, &fact(599), 1).unwrap();
        // The intent is the first one's for good.
        assert_eq!(payments_of(&db, &fact(600)).unwrap(), [1, 2, 3]);
        assert_eq!(payments_of(&db, &fact(602)).unwrap(), [3]);
    }

    #[test]
    fn an_object_moves_with_its_payment_in_every_month_and_no_other() {
        let db = tables();
        for (month, payment) in [(599, 1), (600, 2), (601, 1), (700, 1)] {
            insert(&db, &fact(month), payment).unwrap();
        }
        for id in fact(600).ids() {
            update(&db, id, 1, 3).unwrap();
        }
        let payments: Vec<_> = keys(&db).into_iter().map(|(_, payment)| payment).collect();
        assert_eq!(
            payments,
            [3, 3, 2, 3, 3],
            "the intent, and the session by month"
        );
    }

    #[test]
    fn the_order_of_a_session_is_that_of_its_last_month_that_has_one() {
        let db = tables();
        assert_eq!(of_order(&db, "cs_1").unwrap(), None, "an empty table");
        for (month, payment) in [(600, 1), (601, 2), (602, 3)] {
            insert(&db, &fact(month), payment).unwrap();
        }
        assert_eq!(of_order(&db, "cs_1").unwrap(), Some((2, 7)));
        assert_eq!(of_order(&db, "pi_1").unwrap(), Some((1, 7)));
        assert_eq!(of_order(&db, "cs_2").unwrap(), None);
        assert_eq!(of_order(&db, "").unwrap(), None);
    }
}
