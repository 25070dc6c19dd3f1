//! Answers those who keep a copy of the orders by asking for what has changed.
//!
//! Every change has a number, greater than all that this file gave before and never below the clock's
//! seconds shifted left. So it is also greater than all that another file gave for the same shop:
//! before an older backup was restored, or on another machine. Whoever has a cursor of that other file
//! has seen what this one does not know, and gets everything anew.

use rusqlite::{Connection, params};

use super::connect::begin;
use super::orders::{NUMBERS_A_SECOND, ORDER_COLUMNS, next_change};
use super::{Store, StoreError, StoredOrder};
use crate::base::id::UnixSeconds;

/// Entries that one question reads at most, in some 20 ms.
const READ_MAX: i64 = 10_000;

/// One page of changes, first change first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Everything is listed anew: the asker must forget its copy.
    pub is_reset: bool,
    /// Orders that no longer exist. One in `orders` under the same name came later.
    pub gone: Vec<Gone>,
    /// Those that were asked for, as they are now.
    pub orders: Vec<StoredOrder>,
    /// Where the next page begins.
    pub cursor: i64,
    /// Whether there is another page already.
    pub has_more: bool,
}

/// An order that no longer exists under its name: it got another one, or its payments turned out to
/// be for another order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Its name.
    pub name: String,
    /// The name, at that time, of the order that it became; `None` when that is not known.
    pub became: Option<String>,
}

impl Store {
    /// Remembers that from here on this may not be the file whose numbers others know: it may be an
    /// older backup, put here by whatever means. To be called before a server writes.
    ///
    /// A number between the last one given and the one that this takes can only be of a history that
    /// is not in the file. The current second counts, as there may have been changes in it.
    ///
    /// Where it is known to be a backup, `is_restored`, others may have been told what nobody tells this
    /// file again: a refund began, which has failed since. So an order counts as changed when the first
    /// event after that says something of it, even if the order stands as it stood.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::record`].
    pub fn begin_history(&mut self, now: UnixSeconds, is_restored: bool) -> Result<(), StoreError> {
        let transaction = begin(&mut self.connection)?;
        let began = next_change(&transaction, UnixSeconds(now.0.saturating_add(1)))?;
        let given: i64 = transaction.query_row(
            "SELECT max((SELECT coalesce(max(changed), 0) FROM orders),
                        (SELECT coalesce(max(changed), 0) FROM gone))",
            [],
            |row| row.get(0),
        )?;
        // If no number was given since the last beginning, this one replaces it.
        let replaced = "DELETE FROM history WHERE began > ?1 AND NOT restored";
        transaction.execute(replaced, [given])?;
        let begins = "INSERT INTO history VALUES (?1, ?2, ?3)";
        transaction.execute(begins, params![began, given, is_restored])?;
        Ok(transaction.commit()?)
    }

    /// What changed after `cursor`, first change first, at most `limit`, and only those orders that
    /// fit. Bounded in time as well: after 10,000 entries it says that there is more. `None` when the
    /// cursor lies in the future.
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
        // The orders, and what is beside them, at one moment.
        let moment = self.connection.unchecked_transaction()?;
        let Some(mut found) = begin_at(&moment, cursor, now)? else {
            return Ok(None);
        };
        // Both are read along their indexes, and merged.
        let sql = format!(
            "SELECT {ORDER_COLUMNS} FROM orders WHERE changed > ?1
             UNION ALL SELECT NULL, name, became, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, changed,
                 NULL, NULL, NULL, NULL, NULL, NULL
             FROM gone WHERE changed > ?1 ORDER BY changed LIMIT ?2"
        );
        let mut statement = moment.prepare_cached(&sql)?;
        let mut rows = statement.query(params![found.cursor, READ_MAX])?;
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

/// Whether a restore may have undone changes that came after the one with the number `changed`.
pub(super) fn was_undone(db: &Connection, changed: i64) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM history WHERE began > ?1 AND restored";
    Ok(db.prepare_cached(sql)?.exists([changed])?)
}

/// An empty page of changes, at the cursor or, where that is of an undone history, at the beginning.
fn begin_at(db: &Connection, cursor: i64, now: UnixSeconds) -> Result<Option<Changes>, StoreError> {
    let sql = "SELECT ?1 > number, EXISTS (SELECT 1 FROM history WHERE after < ?1 AND ?1 < began)
               FROM last_number";
    let (is_ahead, is_undone): (bool, bool) = db
        .prepare_cached(sql)?
        .query_row([cursor], |row| Ok((row.get(0)?, row.get(1)?)))?;
    // One second for the rounding, and one for two clocks that differ a little.
    let future = now.0.saturating_add(2).saturating_mul(NUMBERS_A_SECOND);
    if is_ahead && cursor >= future {
        return Ok(None);
    }
    let is_reset = is_ahead || is_undone;
    Ok(Some(Changes {
        is_reset,
        gone: Vec::new(),
        orders: Vec::new(),
        cursor: if is_reset { 0 } else { cursor },
        has_more: false,
    }))
}
