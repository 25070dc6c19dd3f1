//! What those are told who keep a copy of the orders by asking for what has changed.
//!
//! Every change has a number. A number is greater than all that this file has given before, and
//! never below the clock's seconds shifted left: so it is also greater than all that another file
//! gave for the same shop, before an older backup was restored or on another machine. Whoever has a
//! cursor of that other file has seen what this one does not know, and is told everything anew.

use rusqlite::{Connection, TransactionBehavior, params};

use super::rows::ORDER_COLUMNS;
use super::{Store, StoreError, StoredOrder};
use crate::base::id::{OrderId, UnixSeconds};

/// Numbers in a second. With 32 bits of seconds they stay below 2^53, which JavaScript needs.
const NUMBERS_A_SECOND: i64 = 1 << 20;
/// Entries that one question for changes reads at most, in some 20 ms.
const READ_MAX: i64 = 10_000;

/// Part of the changes, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Everything is told anew: what the asker has kept so far is to be forgotten.
    pub is_reset: bool,
    /// Orders that are no more. What is in `orders` under the same name came later.
    pub gone: Vec<Gone>,
    /// Those that were wanted, as they are now.
    pub orders: Vec<StoredOrder>,
    /// Where to go on.
    pub cursor: i64,
    /// Whether there is more to read already.
    pub has_more: bool,
}

/// An order that is no more under its name: it got another one, or its payments turned out to be
/// for another order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// What it was called.
    pub name: String,
    /// The order that it became, as it was called then; `None` when that was not told.
    pub became: Option<String>,
}

/// The number of a change at `at`: greater than all before, and not below the clock.
///
/// After more than a million changes in one second, or while the clock goes back, the numbers run
/// ahead of the clock. A clock that is before 1970 or after 2106 does not count.
pub(super) fn next_change(db: &Connection, at: UnixSeconds) -> Result<i64, StoreError> {
    let seconds = u32::try_from(at.0).unwrap_or_default();
    let clock = i64::from(seconds) * NUMBERS_A_SECOND;
    let mut next = db.prepare_cached("SELECT max(?1, number + 1) FROM last_number")?;
    Ok(next.query_row([clock], |row| row.get(0))?)
}

/// Says of an order that has just gone what has become of it.
pub(super) fn became(db: &Connection, gone: &OrderId, order: &OrderId) -> Result<(), StoreError> {
    let sql = "UPDATE gone SET became = ?2 WHERE changed = (SELECT max(changed) FROM gone)
               AND name = ?1";
    db.prepare_cached(sql)?
        .execute(params![gone.as_str(), order.as_str()])?;
    Ok(())
}

impl Store {
    /// Remembers that from here on this file may be another than the one whose numbers are known
    /// outside: an older backup, put here by whatever means. To be called before a server writes.
    ///
    /// A number that is greater than the last one given, and less than the one that this takes, can
    /// only be of a history that is not in the file. The second that is running is counted in, as
    /// there may have been changes in it.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::record`].
    pub fn begin_history(&mut self, now: UnixSeconds) -> Result<(), StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let began = next_change(&transaction, UnixSeconds(now.0.saturating_add(1)))?;
        let given: i64 = transaction.query_row(
            "SELECT max((SELECT coalesce(max(changed), 0) FROM orders),
                        (SELECT coalesce(max(changed), 0) FROM gone))",
            [],
            |row| row.get(0),
        )?;
        // Where nothing was given since the last beginning, this one takes its place.
        transaction.execute("DELETE FROM history WHERE began > ?1", [given])?;
        transaction.execute("INSERT INTO history VALUES (?1, ?2)", [began, given])?;
        Ok(transaction.commit()?)
    }

    /// What changed after `cursor`, first change first, at most `limit`, and only those orders that
    /// fit. Bounded in time as well: after 10,000 entries it says that there is more. `None` when the
    /// cursor is of a time that has not come.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn changes_after(
        &self,
        cursor: i64,
        limit: usize,
        now: UnixSeconds,
        fits: impl Fn(&StoredOrder) -> bool,
    ) -> Result<Option<Changes>, StoreError> {
        // The orders and what is beside them, of one moment.
        let moment = self.connection.unchecked_transaction()?;
        let sql =
            "SELECT ?1 > number, EXISTS (SELECT 1 FROM history WHERE after < ?1 AND ?1 < began)
                   FROM last_number";
        let (is_ahead, is_lost): (bool, bool) = moment
            .prepare_cached(sql)?
            .query_row([cursor], |row| Ok((row.get(0)?, row.get(1)?)))?;
        // A second for two clocks that are not quite one.
        let future = now.0.saturating_add(2).saturating_mul(NUMBERS_A_SECOND);
        if is_ahead && cursor >= future {
            return Ok(None);
        }
        let is_reset = is_ahead || is_lost;
        let cursor = if is_reset { 0 } else { cursor };
        let mut found = Changes {
            is_reset,
            gone: Vec::new(),
            orders: Vec::new(),
            cursor,
            has_more: false,
        };
        // Both are read along their indexes, and merged.
        let sql = format!(
            "SELECT {ORDER_COLUMNS} FROM orders WHERE changed > ?1
             UNION ALL SELECT NULL, name, became, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, changed,
                 NULL, NULL, NULL, NULL, NULL
             FROM gone WHERE changed > ?1 ORDER BY changed LIMIT ?2"
        );
        let mut statement = moment.prepare_cached(&sql)?;
        let mut rows = statement.query(params![cursor, READ_MAX])?;
        let mut read = 0;
        while let Some(row) = rows.next()? {
            read += 1;
            if found.orders.len() + found.gone.len() == limit {
                found.has_more = true;
                return Ok(Some(found));
            }
            found.cursor = row.get("changed")?;
            if row.get::<_, Option<i64>>("id")?.is_none() {
                found.gone.push(Gone {
                    name: row.get("name")?,
                    became: row.get("status")?,
                });
                continue;
            }
            let order = StoredOrder::read(row)?;
            if fits(&order) {
                found.orders.push(order);
            }
        }
        found.has_more = read == READ_MAX;
        Ok(Some(found))
    }
}
