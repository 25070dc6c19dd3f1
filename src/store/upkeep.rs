//! The operator's chores: check, summary, pruning, and retiring a file.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::apply::{Home, is_contested};
use super::connect::{begin, is_ours, refuse_empty};
use super::error::UNREADABLE;
use super::orders::{ORDER_COLUMNS, in_json};
use super::payments::{payments_of_order, read_facts};
use super::{Store, StoreError, StoredOrder, checkout};
use crate::base::id::UnixSeconds;
use crate::truth::order::{Flag, State, Status};
use crate::truth::takings::Quarters;
use crate::truth::totals::{Share, Totals};

/// Problems reported at most. Nobody reads more.
const PROBLEMS_MAX: usize = 100;
/// Events examined in one transaction. Bounds how long the server's next commit waits.
const PRUNE_EVENTS: u32 = 256;
/// How long to wait for other processes to close the file.
const RETIRE_TIMEOUT: Duration = Duration::from_secs(1);

/// A chore whose last success the database remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chore {
    /// A backup was made and verified.
    Backup,
    /// The whole file was checked and found good.
    Check,
    /// Old events were removed from the ledger.
    Prune,
}

impl Chore {
    fn as_str(self) -> &'static str {
        match self {
            Chore::Backup => "backup",
            Chore::Check => "check",
            Chore::Prune => "prune",
        }
    }
}

/// What the database holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its schema.
    pub schema: i64,
    /// Size of the file, without its log.
    pub database_bytes: i64,
    /// Of these, what is free for new rows after pruning.
    pub free_bytes: i64,
    /// How many orders have each status.
    pub orders: Vec<(Status, i64)>,
    /// Payments whose order is not known yet.
    pub parked: i64,
    /// Events in the ledger.
    pub events: i64,
    /// When the first and the last of them arrived, by this host's clock.
    pub received: Option<(UnixSeconds, UnixSeconds)>,
}

/// What one step of pruning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneBatch {
    /// Events that were removed.
    pub removed: u64,
    /// Where the next step begins; `None` at the end.
    pub next: Option<i64>,
}

/// What became of a file that is to be replaced.
#[derive(Debug)]
pub(crate) enum Retired {
    /// It holds everything, no other file belongs to it, and nobody has it open, nor can open it
    /// while this is kept.
    Whole(#[expect(dead_code, reason = "held until it is dropped")] Hold),
    /// It is too damaged for that: the files beside it still belong to it.
    Damaged,
}

/// SQLite's exclusive lock on a file. It keeps other programs away, which do not know our locks.
#[derive(Debug)]
pub(crate) struct Hold {
    _connection: Connection,
}

impl Store {
    /// What SQLite's integrity check and its foreign key check find: one text a problem, at most 100
    /// of each.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot even be read.
    pub fn damage(&self) -> Result<Vec<String>, StoreError> {
        let sql = format!("PRAGMA integrity_check({PROBLEMS_MAX})");
        let mut statement = self.connection.prepare(&sql)?;
        let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
        let mut problems = lines.collect::<Result<Vec<_>, _>>()?;
        problems.retain(|line| line != "ok");

        let mut statement = self.connection.prepare("PRAGMA foreign_key_check")?;
        let rows = statement.query_map([], |row| {
            let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
            Ok(format!("a row of {table} names a missing row of {parent}"))
        })?;
        for row in rows.take(PROBLEMS_MAX) {
            problems.push(row?);
        }
        Ok(problems)
    }

    /// Orders that are not what the stored facts say (S4), one text each, at most 100.
    ///
    /// # Errors
    /// [`StoreError`]; an older file must be brought up to date first.
    pub fn disagreements(&self) -> Result<Vec<String>, StoreError> {
        let schema = self.schema_version()?;
        if schema != self.schema.version {
            return Err(StoreError::Older(schema));
        }
        // All at one moment, or what is written meanwhile would look like a disagreement.
        let moment = self.connection.unchecked_transaction()?;
        let mut problems = Vec::new();
        let sql = format!("SELECT {ORDER_COLUMNS} FROM orders ORDER BY id");
        let mut statement = moment.prepare(&sql)?;
        let mut rows = statement.query([])?;
        let mut quarters = Quarters::default();
        while let Some(row) = rows.next()?
            && problems.len() < PROBLEMS_MAX
        {
            let order = StoredOrder::read(row)?;
            problems.extend(disagreement(&moment, &order, &mut quarters)?);
        }
        problems.extend(payments_astray(&moment)?);
        problems.extend(miscounted(&moment)?);
        if problems.is_empty() {
            let mistaken = self.mistaken(quarters)?.into_iter();
            problems.extend(mistaken.take(PROBLEMS_MAX));
        }
        Ok(problems)
    }

    /// What the database holds. Takes longer as the ledger grows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn summary(&self) -> Result<Summary, StoreError> {
        let figures = self.figures()?;
        let number = |sql| self.connection.query_row(sql, [], |row| row.get(0));
        let received = self.connection.query_row(
            "SELECT min(received_at), max(received_at) FROM event",
            [],
            |row| Ok(row.get::<_, Option<i64>>(0)?.zip(row.get(1)?)),
        )?;
        Ok(Summary {
            schema: self.schema_version()?,
            database_bytes: figures.database_bytes,
            free_bytes: number(
                "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size",
            )?,
            orders: figures.orders,
            parked: figures.parked,
            events: number("SELECT count(*) FROM event")?,
            received: received.map(|(from, to)| (UnixSeconds(from), UnixSeconds(to))),
        })
    }

    /// Remembers in the file at `database` that a chore has succeeded. An older file is left alone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn note_in(
        database: &Path,
        chore: Chore,
        at: UnixSeconds,
    ) -> Result<(), StoreError> {
        match Store::open_existing(database) {
            Ok(mut store) => store.note(chore, at),
            Err(StoreError::Older(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Remembers that a chore has succeeded.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn note(&mut self, chore: Chore, at: UnixSeconds) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO chore VALUES (?1, ?2) ON CONFLICT DO UPDATE SET at = excluded.at",
            params![chore.as_str(), at.0],
        )?;
        Ok(())
    }

    /// Keeps what `paidup doctor` has found, as a JSON array, in place of what it found before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn note_examination(
        &mut self,
        findings: &str,
        at: UnixSeconds,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO examination VALUES (1, ?1, ?2)
             ON CONFLICT DO UPDATE SET at = excluded.at, findings = excluded.findings",
            params![at.0, findings],
        )?;
        Ok(())
    }

    /// When a chore last succeeded.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn noted(&self, chore: Chore) -> Result<Option<UnixSeconds>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT at FROM chore WHERE name = ?1")?;
        Ok(statement
            .query_row([chore.as_str()], |row| row.get(0))
            .optional()?
            .map(UnixSeconds))
    }

    /// Removes events that arrived before `before` from the next few hundred places of the ledger
    /// after `from`. Their facts, orders and stories stay.
    ///
    /// The last event always stays: the next one takes the number after it, and stories know their
    /// events by number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn prune(&mut self, from: i64, before: UnixSeconds) -> Result<PruneBatch, StoreError> {
        let transaction = begin(&mut self.connection)?;
        let last: Option<i64> = transaction.query_row(
            "SELECT max(seq) FROM
                 (SELECT seq FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2)",
            params![from, PRUNE_EVENTS],
            |row| row.get(0),
        )?;
        let Some(last) = last else {
            return Ok(PruneBatch::default());
        };
        let removed = transaction.execute(
            "DELETE FROM event WHERE seq > ?1 AND seq <= ?2 AND received_at < ?3
                 AND seq < (SELECT max(seq) FROM event)",
            params![from, last, before.0],
        )?;
        transaction.commit()?;
        self.move_long_log()?;
        Ok(PruneBatch {
            removed: u64::try_from(removed).unwrap_or(u64::MAX),
            next: Some(last),
        })
    }

    /// Makes the database at `path` one file that nobody has open, so that it can be moved away: its
    /// log is moved into it and removed. SQLite allows that only to the sole user of a file, so this
    /// also tells whether any other process still has it open.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while another process has it open, [`StoreError::NotOurs`] when it is
    /// another program's database.
    pub(crate) fn retire(path: &Path) -> Result<Retired, StoreError> {
        if refuse_empty(path, None).is_err() {
            return Ok(Retired::Damaged);
        }
        match leave_wal(path) {
            Ok(hold) => Ok(Retired::Whole(hold)),
            Err(rusqlite::Error::SqliteFailure(failure, _))
                if matches!(
                    failure.code,
                    rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase
                ) =>
            {
                Ok(Retired::Damaged)
            }
            Err(rusqlite::Error::InvalidQuery) => Err(StoreError::NotOurs),
            Err(error) => Err(error.into()),
        }
    }
}

fn leave_wal(path: &Path) -> rusqlite::Result<Hold> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(RETIRE_TIMEOUT)?;
    if !is_ours(&connection)? {
        return Err(UNREADABLE);
    }
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    connection.execute_batch("BEGIN EXCLUSIVE")?;
    Ok(Hold {
        _connection: connection,
    })
}

/// What is wrong with an order that is not what its payments make of it. What they moved is added to
/// `quarters`.
fn disagreement(
    db: &Connection,
    order: &StoredOrder,
    quarters: &mut Quarters,
) -> Result<Option<String>, StoreError> {
    let name = order.name.as_str();
    let mut statement = db.prepare_cached(concat!("SELECT facts FROM ", payments_of_order!()))?;
    let mut rows = statement.query([order.id])?;
    let mut totals = Totals::default();
    let mut main: Option<Share> = None;
    let mut since = UnixSeconds(i64::MAX);
    while let Some(row) = rows.next()? {
        let payment = read_facts(row, 0)?;
        if Home::of(db, &payment)? != Home::Order(order.name.clone()) {
            return Ok(Some(format!(
                "order {name:?} has a payment that is for another order"
            )));
        }
        let share = Share::of(&payment, &order.name);
        quarters.count_payment(&payment, 1);
        totals.add(&share);
        since = since.min(share.since());
        main = Some(share.or_better(main));
    }
    let is_contested = is_contested(db, &order.name)?;
    let state = match &main {
        Some(main) => State::from_totals(&totals, main, since, is_contested),
        // The shop has asked for the order, and nobody has told of a payment.
        None if checkout::is_asked_for(db, &order.name)? => {
            State::before_payment(order.state.since, is_contested)
        }
        None => return Ok(Some(format!("order {name:?} has no payment"))),
    };
    let counted = main.and_then(|main| main.counted(&state));
    quarters.count_order(counted, state.currency.as_deref(), 1);
    if counted != order.counted {
        return Ok(Some(format!(
            "order {name:?} is counted in the takings of another time than its payments say"
        )));
    }
    if in_json(&totals)? != order.totals {
        return Ok(Some(format!(
            "order {name:?} has payments that do not add up to its totals"
        )));
    }
    Ok((state != order.state).then(|| {
        let (stored, computed) = (in_words(&order.state), in_words(&state));
        format!("order {name:?} is stored as {stored}, and the facts say {computed}")
    }))
}

fn in_words(state: &State) -> String {
    format!(
        "{}, dispute {} of {} ({} lost), {} of {} refunded ({} pending), flags [{}], created {}",
        state.status.as_str(),
        state.dispute.as_str(),
        state.disputed,
        state.lost,
        state.refunded,
        state.amount,
        state.pending,
        Flag::join_list(&state.flags),
        state.since.0
    )
}

/// Payments of no order: of one that is missing, or parked and the facts name one.
fn payments_astray(db: &Connection) -> Result<Vec<String>, StoreError> {
    let mut statement = db.prepare(
        "SELECT id, facts, order_id FROM payment WHERE order_id IS NULL AND other_shop = 0
         UNION ALL SELECT id, facts, order_id FROM payment WHERE order_id NOT IN (SELECT id FROM orders)",
    )?;
    let mut rows = statement.query([])?;
    let mut problems = Vec::new();
    while let Some(row) = rows.next()?
        && problems.len() < PROBLEMS_MAX
    {
        let id: i64 = row.get(0)?;
        if row.get::<_, Option<i64>>(2)?.is_some() {
            problems.push(format!("payment {id} is of an order that is missing"));
        } else if let Home::Order(name) = Home::of(db, &read_facts(row, 1)?)? {
            let name = name.as_str();
            problems.push(format!(
                "payment {id} is parked, and the facts say order {name:?}"
            ));
        }
    }
    Ok(problems)
}

/// Statuses whose orders, counted now, are not as many as were counted while they changed.
fn miscounted(db: &Connection) -> Result<Vec<String>, StoreError> {
    let mut statement = db.prepare(
        "SELECT status, sum(kept), sum(found) FROM
             (SELECT status, orders AS kept, 0 AS found FROM tally
              UNION ALL SELECT status, 0, count(*) FROM orders GROUP BY status)
         GROUP BY status HAVING sum(kept) <> sum(found)",
    )?;
    let rows = statement.query_map([], |row| {
        let (status, kept, found): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(format!(
            "{found} orders are {status}, and {kept} were counted"
        ))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
