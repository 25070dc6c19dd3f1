//! Who is told of orders that changed, and what each of them has heard.
//!
//! Nothing is queued: an order's number says whether a destination has heard of its newest state. All
//! numbers up to a destination's cursor were told, or have a row in `told` that says why not. So a
//! server writes nothing for it, and whoever was away hears how each order stands, not how it once
//! stood.
//!
//! What another process sees here is on disk. SQLite syncs the log before it shows a commit to others
//! (`walFrames` in wal.c calls `sqlite3OsSync` and then `walIndexWriteHdr`), as long as the writer has
//! `synchronous=FULL`, which all writers of orders have. Only after a crash may there be more in the log
//! than was synced; [`Store::open_to_tell`] syncs that.

use std::fs::File;
use std::io;
use std::path::Path;

use rusqlite::{OptionalExtension, Row, TransactionBehavior, ffi, params};

use super::orders::{self, NUMBERS_A_SECOND};
use super::{Change, Store, StoreError, StoredOrder};
use crate::base::id::{StripeId, UnixSeconds};
use crate::truth::reading::Mode;

/// Whom `paidup notify` tells, and how that goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// Its name.
    pub name: String,
    /// All changes up to this number were told, or are in `told`.
    pub cursor: i64,
    /// Since when it cannot be told anything; this and what follows belong together.
    pub failing_since: Option<UnixSeconds>,
    /// How often that was tried in vain.
    pub tries: u32,
    /// When it was tried last.
    pub tried: Option<UnixSeconds>,
    /// When it is to be tried next.
    pub next_try: Option<UnixSeconds>,
    /// What it asked for itself: not before then.
    pub not_before: Option<UnixSeconds>,
    /// What came of it the last time.
    pub why: Option<String>,
}

/// What a destination has heard of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The order's row.
    pub(crate) order: i64,
    /// The number of the state that it acknowledged last.
    pub version: Option<i64>,
    /// When it did.
    pub at: Option<UnixSeconds>,
    /// How often it was told of what came later in vain.
    pub tries: u32,
    /// When that was last.
    pub tried: Option<UnixSeconds>,
    /// When the order is told again; `None` when it need not be.
    pub next_try: Option<UnixSeconds>,
    /// What came of it.
    pub why: Option<String>,
}

/// An order that is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) order: i64,
    /// Where the cursor is once that is done; 0 for an order that is not told in turn.
    pub(crate) cursor: i64,
}

/// All that there is to tell of an order, of one moment.
#[derive(Debug)]
pub(crate) struct Tale {
    pub(crate) order: StoredOrder,
    pub(crate) history: Vec<Change>,
    /// The names that it had before, or that other orders had which turned out to be this one.
    pub(crate) other_names: Vec<String>,
    pub(crate) mode: Option<Mode>,
    pub(crate) told: Told,
}

/// What a destination has not heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unheard {
    /// Whom it is about.
    pub destination: Destination,
    /// Orders whose newest state it has not heard; counting ends at 100,000.
    pub waiting: i64,
    /// When the first of them changed.
    pub oldest: Option<UnixSeconds>,
    /// Those of them that it has refused.
    pub refused: i64,
}

/// Orders that are counted at most: a scrape must not take longer the longer a shop is away.
const WAITING_MAX: i64 = 100_000;

const DESTINATION_COLUMNS: &str =
    "name, cursor, failing_since, tries, tried, next_try, not_before, why";
const TOLD_COLUMNS: &str = "order_id, version, at, tries, tried, next_try, why";

impl Destination {
    fn read(row: &Row<'_>) -> rusqlite::Result<Destination> {
        Ok(Destination {
            name: row.get(0)?,
            cursor: row.get(1)?,
            failing_since: time(row, 2)?,
            tries: row.get(3)?,
            tried: time(row, 4)?,
            next_try: time(row, 5)?,
            not_before: time(row, 6)?,
            why: row.get(7)?,
        })
    }
}

impl Told {
    fn read(row: &Row<'_>) -> rusqlite::Result<Told> {
        Ok(Told {
            order: row.get(0)?,
            version: row.get(1)?,
            at: time(row, 2)?,
            tries: row.get(3)?,
            tried: time(row, 4)?,
            next_try: time(row, 5)?,
            why: row.get(6)?,
        })
    }
}

fn time(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<UnixSeconds>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(UnixSeconds))
}

fn seconds(time: Option<UnixSeconds>) -> Option<i64> {
    time.map(|time| time.0)
}

impl Store {
    /// Opens the file for whoever tells of it. What it writes itself need not survive a power cut, as
    /// then it tells the same again; what it reads must be on disk.
    ///
    /// # Errors
    /// As [`Store::open_existing`].
    pub fn open_to_tell(path: &Path) -> Result<Store, StoreError> {
        let store = Store::open_existing(path)?;
        store
            .connection
            .pragma_update(None, "synchronous", "NORMAL")?;
        // A first read: what a killed process left in the log is found now or never.
        store.last_number()?;
        match File::open(&store.log).and_then(|log| log.sync_all()) {
            Ok(()) => Ok(store),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(store),
            Err(_) => Err(StoreError::Io(ffi::SQLITE_IOERR_FSYNC)),
        }
    }

    /// Changes whenever another connection has committed; an error when the file is another by now
    /// (<https://www.sqlite.org/pragma.html#pragma_data_version>).
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn data_version(&self) -> Result<i64, StoreError> {
        self.look()?;
        let mut read = self.connection.prepare_cached("PRAGMA data_version")?;
        Ok(read.query_row([], |row| row.get(0))?)
    }

    /// The number of the last change.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn last_number(&self) -> Result<i64, StoreError> {
        let sql = "SELECT number FROM last_number";
        let mut read = self.connection.prepare_cached(sql)?;
        Ok(read.query_row([], |row| row.get(0))?)
    }

    /// The destination of that name, which from its first start hears of what changes from then on.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::record`].
    pub fn begin_to_tell(&mut self, name: &str) -> Result<Destination, StoreError> {
        if let Some(known) = self.destination(name)? {
            return Ok(known);
        }
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(
            "INSERT INTO destination (name, cursor, tries) SELECT ?1, number, 0 FROM last_number
             WHERE true ON CONFLICT DO NOTHING",
            [name],
        )?;
        transaction.commit()?;
        self.look()?;
        self.destination(name)?.ok_or(StoreError::Unreadable)
    }

    /// The destination of that name, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn destination(&self, name: &str) -> Result<Option<Destination>, StoreError> {
        let sql = format!("SELECT {DESTINATION_COLUMNS} FROM destination WHERE name = ?1");
        let mut read = self.connection.prepare_cached(&sql)?;
        Ok(read.query_row([name], Destination::read).optional()?)
    }

    /// Orders that changed behind the cursor and not after `quiet`, first change first.
    pub(crate) fn due_by_change(
        &self,
        cursor: i64,
        quiet: i64,
        limit: u32,
    ) -> Result<Vec<Due>, StoreError> {
        let sql = "SELECT id, changed FROM orders WHERE changed > ?1 AND changed <= ?2
                   ORDER BY changed LIMIT ?3";
        let mut read = self.connection.prepare_cached(sql)?;
        let rows = read.query_map(params![cursor, quiet, limit], Due::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Orders before the cursor that were refused, or are to be told again for another reason, and whose
    /// time has come: it is not after `until`, or after `beyond`, as another clock has set it. Those that
    /// have waited longest first.
    pub(crate) fn due_again(
        &self,
        destination: &Destination,
        (until, beyond): (i64, i64),
        limit: u32,
    ) -> Result<Vec<Due>, StoreError> {
        let sql = "SELECT id, 0 FROM told JOIN orders ON id = order_id
                   WHERE destination = ?1 AND changed <= ?2 AND (next_try <= ?3 OR next_try > ?4)
                   ORDER BY next_try LIMIT ?5";
        let mut read = self.connection.prepare_cached(sql)?;
        let Destination { name, cursor, .. } = destination;
        let rows = read.query_map(params![name, cursor, until, beyond, limit], Due::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// One of the next orders to tell that it has not refused yet, by chance.
    pub(crate) fn any_due(
        &self,
        destination: &Destination,
        quiet: i64,
    ) -> Result<Option<Due>, StoreError> {
        let sql = "SELECT id, 0 FROM (
                       SELECT id FROM orders WHERE changed > ?2 AND changed <= ?3 AND NOT EXISTS (
                           SELECT 1 FROM told WHERE order_id = id AND destination = ?1 AND tries > 0)
                       ORDER BY changed LIMIT 1000)
                   ORDER BY random() LIMIT 1";
        let mut read = self.connection.prepare_cached(sql)?;
        let Destination { name, cursor, .. } = destination;
        let due = read.query_row(params![name, cursor, quiet], Due::read);
        Ok(due.optional()?)
    }

    /// What there is to tell `destination` of an order; `None` when there is no such order any more.
    pub(crate) fn tale(&self, order: i64, destination: &str) -> Result<Option<Tale>, StoreError> {
        let moment = self.connection.unchecked_transaction()?;
        let is_there = "SELECT 1 FROM orders WHERE id = ?1";
        if !moment.prepare_cached(is_there)?.exists([order])? {
            return Ok(None);
        }
        let order = orders::by_id(&moment, order)?;
        Ok(Some(Tale {
            history: self.changes(&order)?,
            other_names: self.other_names(&order)?,
            mode: self.mode()?,
            told: self.told(order.id, destination)?,
            order,
        }))
    }

    /// What an order was called before, be it only by us: its session's id is such a name. A name that is
    /// another order's today is none.
    fn other_names(&self, order: &StoredOrder) -> Result<Vec<String>, StoreError> {
        let sql = "WITH RECURSIVE other (name) AS (
                       SELECT ?2 WHERE ?2 IS NOT NULL
                       UNION SELECT name FROM gone WHERE became = ?1
                       UNION SELECT gone.name FROM gone JOIN other ON gone.became = other.name)
                   SELECT name FROM other WHERE name <> ?1
                       AND NOT EXISTS (SELECT 1 FROM orders WHERE orders.name = other.name)
                   ORDER BY name";
        let session = order.state.session.as_ref().map(StripeId::as_str);
        let mut read = self.connection.prepare_cached(sql)?;
        let names = read.query_map(params![order.name.as_str(), session], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    fn told(&self, order: i64, destination: &str) -> Result<Told, StoreError> {
        let sql =
            format!("SELECT {TOLD_COLUMNS} FROM told WHERE order_id = ?1 AND destination = ?2");
        let mut read = self.connection.prepare_cached(&sql)?;
        let told = read.query_row(params![order, destination], Told::read);
        Ok(told.optional()?.unwrap_or(Told {
            order,
            ..Told::default()
        }))
    }

    /// What each destination has heard of an order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn told_of(&self, order: &StoredOrder) -> Result<Vec<(Destination, Told)>, StoreError> {
        let with_told = |destination: Destination| {
            let told = self.told(order.id, &destination.name)?;
            Ok((destination, told))
        };
        self.destinations()?.into_iter().map(with_told).collect()
    }

    fn destinations(&self) -> Result<Vec<Destination>, StoreError> {
        let sql = format!("SELECT {DESTINATION_COLUMNS} FROM destination ORDER BY name");
        let mut read = self.connection.prepare_cached(&sql)?;
        let rows = read.query_map([], Destination::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Writes what a destination has heard, and how it goes with it, in one commit. `before` is what was
    /// known of it when this began: where somebody has changed that meanwhile, that counts.
    pub(crate) fn write_told(
        &mut self,
        before: &Destination,
        after: &Destination,
        told: &[Told],
    ) -> Result<(), StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for one in told {
            // An order that is no more has taken its row along.
            let sql = "INSERT INTO told
                           (order_id, version, at, tries, tried, next_try, why, destination)
                       SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8
                       WHERE EXISTS (SELECT 1 FROM orders WHERE id = ?1)
                       ON CONFLICT DO UPDATE SET version = excluded.version, at = excluded.at,
                           tries = excluded.tries, tried = excluded.tried,
                           next_try = excluded.next_try, why = excluded.why";
            transaction.prepare_cached(sql)?.execute(params![
                one.order,
                one.version,
                seconds(one.at),
                one.tries,
                seconds(one.tried),
                seconds(one.next_try),
                one.why,
                after.name,
            ])?;
        }
        let sql = "UPDATE destination SET cursor = ?4, failing_since = ?5, tries = ?6, tried = ?7,
                       next_try = ?8, not_before = ?9, why = ?10
                   WHERE name = ?1 AND cursor = ?2 AND next_try IS ?3";
        transaction.prepare_cached(sql)?.execute(params![
            after.name,
            before.cursor,
            seconds(before.next_try),
            after.cursor,
            seconds(after.failing_since),
            after.tries,
            seconds(after.tried),
            seconds(after.next_try),
            seconds(after.not_before),
            after.why,
        ])?;
        transaction.commit()?;
        self.look()?;
        self.move_long_log()
    }

    /// Everything that waits is due at once.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::record`].
    pub fn tell_at_once(&mut self, destination: &str, now: UnixSeconds) -> Result<(), StoreError> {
        self.change_telling(
            "UPDATE told SET next_try = ?2 WHERE destination = ?1 AND next_try > ?2",
            "UPDATE destination SET next_try = ?2, not_before = NULL
             WHERE name = ?1 AND next_try IS NOT NULL",
            params![destination, now.0],
        )
    }

    /// What has changed since then is told again, whether it was heard or not; all of it with
    /// `None`.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::record`].
    pub fn tell_again_since(
        &mut self,
        destination: &str,
        since: Option<UnixSeconds>,
    ) -> Result<(), StoreError> {
        let since = since.map_or(0, |since| since.0.max(0).saturating_mul(NUMBERS_A_SECOND));
        let sql = "UPDATE destination SET cursor = min(cursor, ?2) WHERE name = ?1";
        self.change_telling("", sql, params![destination, since])
    }

    /// One order is told again.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::record`].
    pub fn tell_again(
        &mut self,
        destination: &str,
        order: &StoredOrder,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO told (order_id, destination, tries, next_try) VALUES (?3, ?1, 0, ?2)
                   ON CONFLICT DO UPDATE SET next_try = excluded.next_try";
        self.change_telling("", sql, params![destination, now.0, order.id])
    }

    /// Removes a destination and all that it has heard: some of it at a time, as the server writes too.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::record`].
    pub fn forget(&mut self, destination: &str) -> Result<(), StoreError> {
        loop {
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let sql = "DELETE FROM told WHERE destination = ?1 AND order_id IN
                           (SELECT order_id FROM told WHERE destination = ?1 LIMIT 10000)";
            let removed = transaction.execute(sql, [destination])?;
            if removed == 0 {
                transaction.execute("DELETE FROM destination WHERE name = ?1", [destination])?;
            }
            transaction.commit()?;
            self.look()?;
            self.move_long_log()?;
            if removed == 0 {
                return Ok(());
            }
        }
    }

    fn change_telling(
        &mut self,
        first: &str,
        then: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<(), StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for sql in [first, then].into_iter().filter(|sql| !sql.is_empty()) {
            transaction.execute(sql, values)?;
        }
        transaction.commit()?;
        self.look()
    }

    /// What each destination has not heard.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn unheard(&self) -> Result<Vec<Unheard>, StoreError> {
        let unheard_by = |destination| self.unheard_by(destination);
        self.destinations()?.into_iter().map(unheard_by).collect()
    }

    fn unheard_by(&self, destination: Destination) -> Result<Unheard, StoreError> {
        let sql = "WITH
                told_again AS (SELECT updated_at, tries FROM told JOIN orders ON id = order_id
                    WHERE destination = ?1 AND next_try IS NOT NULL AND changed <= ?2 LIMIT ?3),
                changed_first AS (SELECT updated_at FROM orders WHERE changed > ?2 ORDER BY changed LIMIT 1)
            SELECT (SELECT count(*) FROM (SELECT 1 FROM orders WHERE changed > ?2 LIMIT ?3))
                    + (SELECT count(*) FROM told_again),
                (SELECT min(updated_at) FROM (SELECT updated_at FROM changed_first
                    UNION ALL SELECT updated_at FROM told_again)),
                (SELECT count(*) FROM told_again WHERE tries > 0)";
        let mut read = self.connection.prepare_cached(sql)?;
        let (waiting, oldest, refused) = read.query_row(
            params![destination.name, destination.cursor, WAITING_MAX],
            |row| Ok((row.get(0)?, time(row, 1)?, row.get(2)?)),
        )?;
        Ok(Unheard {
            destination,
            waiting,
            oldest,
            refused,
        })
    }

    /// Orders that a destination has refused, those that have waited longest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn refused_by(
        &self,
        destination: &str,
        limit: u32,
    ) -> Result<Vec<(StoredOrder, Told)>, StoreError> {
        let sql = format!(
            "SELECT {TOLD_COLUMNS} FROM told WHERE destination = ?1 AND next_try IS NOT NULL AND tries > 0
             ORDER BY next_try LIMIT ?2"
        );
        let mut read = self.connection.prepare_cached(&sql)?;
        let told = read
            .query_map(params![destination, limit], Told::read)?
            .collect::<Result<Vec<_>, _>>()?;
        let with_order = |told: Told| Ok((orders::by_id(&self.connection, told.order)?, told));
        told.into_iter().map(with_order).collect()
    }
}

impl Due {
    fn read(row: &Row<'_>) -> rusqlite::Result<Due> {
        Ok(Due {
            order: row.get(0)?,
            cursor: row.get(1)?,
        })
    }
}
