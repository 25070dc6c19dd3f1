//! The rows of `payment`: the facts that orders are computed from.
//!
//! Nearly every order has one payment, known by the order from its first event on. That one has the
//! order's number, so no index is needed to find it. All others have negative numbers.

use rusqlite::{Connection, Row, params};

use super::error::UNREADABLE;
use super::{StoreError, object};
use crate::base::id::UnixSeconds;
use crate::truth::fact::Fact;
use crate::truth::payment::Payment;
use crate::truth::totals::Share;

/// A payment as it stands in the file.
pub(super) struct StoredPayment {
    pub(super) id: i64,
    pub(super) order_id: Option<i64>,
    pub(super) facts: Payment,
}

/// What a payment is assigned to, as its row has it.
pub(super) struct Assignment<'a> {
    /// The order, and what the payment counts in it.
    pub(super) order: Option<(i64, &'a Share)>,
    pub(super) is_of_other_shop: bool,
}

/// All payments of the order ?1, as a table.
macro_rules! payments_of_order {
    () => {
        "(SELECT * FROM payment WHERE id = ?1 AND order_id = ?1
          UNION ALL SELECT * FROM payment WHERE order_id = ?1 AND order_id <> id)"
    };
}
pub(super) use payments_of_order;

/// The payments that the fact's objects belong to so far: see [`object::payments_of`].
pub(super) fn touched_by(db: &Connection, fact: &Fact) -> Result<Vec<StoredPayment>, StoreError> {
    let mut find = db.prepare_cached("SELECT order_id, facts FROM payment WHERE id = ?1")?;
    let payment = |id| {
        find.query_row([id], |row| {
            Ok(StoredPayment {
                id,
                order_id: row.get(0)?,
                facts: read_facts(row, 1)?,
            })
        })
    };
    let ids = object::payments_of(db, fact)?.into_iter();
    Ok(ids.map(payment).collect::<Result<_, _>>()?)
}

/// The payment that counts most in an order, other than those in `without`.
pub(super) fn first_of(
    db: &Connection,
    order_id: i64,
    without: &[StoredPayment],
) -> Result<Option<Payment>, StoreError> {
    let sql = concat!(
        "SELECT id, facts FROM ",
        payments_of_order!(),
        " ORDER BY weight, since, lead"
    );
    let mut find = db.prepare_cached(sql)?;
    let mut rows = find.query([order_id])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        if without.iter().all(|payment| payment.id != id) {
            return Ok(Some(read_facts(row, 1)?));
        }
    }
    Ok(None)
}

/// When the first event of any payment of the order was created.
pub(super) fn since(db: &Connection, order_id: i64) -> Result<UnixSeconds, StoreError> {
    let sql = concat!("SELECT min(since) FROM ", payments_of_order!());
    let mut find = db.prepare_cached(sql)?;
    Ok(find.query_row([order_id], |row| row.get(0).map(UnixSeconds))?)
}

/// The facts of all payments of an order.
pub(super) fn of_order(db: &Connection, order_id: i64) -> Result<Vec<Payment>, StoreError> {
    let mut find = db.prepare_cached(concat!("SELECT facts FROM ", payments_of_order!()))?;
    let payments = find.query_map([order_id], |row| read_facts(row, 0))?;
    Ok(payments.collect::<Result<_, _>>()?)
}

/// Shows the facts of each payment of an order, one at a time: there may be thousands.
pub(super) fn each_of(
    db: &Connection,
    order_id: i64,
    mut show: impl FnMut(&Payment),
) -> Result<(), StoreError> {
    let mut find = db.prepare_cached(concat!("SELECT facts FROM ", payments_of_order!()))?;
    let mut rows = find.query([order_id])?;
    while let Some(row) = rows.next()? {
        show(&read_facts(row, 0)?);
    }
    Ok(())
}

/// The facts of one payment.
pub(super) fn by_id(db: &Connection, id: i64) -> Result<Payment, StoreError> {
    let mut find = db.prepare_cached("SELECT facts FROM payment WHERE id = ?1")?;
    Ok(find.query_row([id], |row| read_facts(row, 0))?)
}

pub(super) fn read_facts(row: &Row<'_>, index: usize) -> rusqlite::Result<Payment> {
    serde_json::from_str(row.get_ref(index)?.as_str()?).map_err(|_| UNREADABLE)
}

/// Writes the facts over the payment `id` if there is one, else as a new one. Returns its id.
pub(super) fn write(
    db: &Connection,
    id: Option<i64>,
    facts: &Payment,
    to: &Assignment<'_>,
) -> Result<i64, StoreError> {
    let share = to.order.map(|(_, share)| share);
    let since = share.map(Share::since).or(facts.since);
    let facts = serde_json::to_string(facts).map_err(|_| StoreError::Unreadable)?;
    let row = params![
        id,
        to.order.map(|(order, _)| order),
        share.map(|share| share.weight().rank()),
        since.map(|since| since.0),
        share.map(Share::lead),
        to.is_of_other_shop,
        facts
    ];
    let Some(id) = id else {
        // The number of the order may be taken: by the payment of another order, since merged into this
        // one or gone, that had it before.
        let sql = "INSERT INTO payment (id, order_id, weight, since, lead, other_shop, facts)
                   VALUES (CASE WHEN ?2 IS NULL OR EXISTS (SELECT 1 FROM payment WHERE id = ?2)
                                THEN (SELECT min(0, coalesce(min(id), 0)) - 1 FROM payment) ELSE ?2 END,
                           ?2, ?3, ?4, ?5, ?6, ?7)";
        return Ok(db.prepare_cached(sql)?.insert(row)?);
    };
    let sql = "UPDATE payment SET order_id = ?2, weight = ?3, since = ?4, lead = ?5,
                                  other_shop = ?6, facts = ?7 WHERE id = ?1";
    db.prepare_cached(sql)?.execute(row)?;
    Ok(id)
}

/// `absorbed` turned out to be part of the payment `into`: its objects now point there.
pub(super) fn absorb(
    db: &Connection,
    absorbed: &StoredPayment,
    into: i64,
) -> Result<(), StoreError> {
    for object in absorbed.facts.ids() {
        object::update(db, object, absorbed.id, into)?;
    }
    let mut delete = db.prepare_cached("DELETE FROM payment WHERE id = ?1")?;
    delete.execute([absorbed.id])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::OrderId;

    #[test]
    fn the_first_payment_of_an_order_has_its_number_and_no_other_a_positive_one() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("../../schema.sql")).unwrap();
        let share = Share::of(&Payment::default(), &OrderId::stored("ord_1".to_owned()));
        let new = |order: Option<i64>| {
            let to = Assignment {
                order: order.map(|order| (order, &share)),
                is_of_other_shop: false,
            };
            write(&db, None, &Payment::default(), &to).unwrap()
        };
        let given: Vec<i64> = [Some(7), None, Some(7), None, Some(5)].map(new).into();
        assert_eq!(given, [7, -1, -2, -3, 5]);
        // Payment 5 turns out to be another one of order 7; then another order gets its number.
        let to = Assignment {
            order: Some((7, &share)),
            is_of_other_shop: false,
        };
        write(&db, Some(5), &Payment::default(), &to).unwrap();
        assert_eq!(new(Some(5)), -4);
        let all = |order| of_order(&db, order).unwrap().len();
        assert_eq!((all(7), all(5), all(1)), (3, 1, 0));
    }
}
