//! Stores facts and orders in one SQLite file, and is the only place that speaks SQL.
//!
//! Invariants, cited below and in tests by number:
//!  S1  An event id is in the ledger at most once.
//!  S2  An order, its facts and the event that changed them are in the same commit.
//!  S3  [`Store::record`] returns Ok only after that commit is synced: WAL with
//!      `synchronous=FULL`, <https://www.sqlite.org/pragma.html#pragma_synchronous>.
//!  S4  The stored order equals the order computed from the stored facts.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::time::Duration;

use log::Level;
use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::{
    Connection, ErrorCode as Code, OpenFlags, OptionalExtension, Row, Transaction,
    TransactionBehavior, ffi, params,
};

use crate::domain::delivery::{About, Delivery, News, Outcome, Receipt};
use crate::domain::event::Meaning;
use crate::domain::id::{OrderId, RequestId, StripeId, UnixSeconds};
use crate::domain::log_line::{ErrorCode, Message};
use crate::domain::order::{Dispute, Flag, State, Status};
use crate::domain::payment::{Fact, Payment};
use crate::files;

mod checkout;
mod copy;
mod lock;
mod upkeep;

pub use checkout::{Ask, Asked, Checkout};
pub use copy::CopyError;
pub use lock::ServeLock;
pub use upkeep::{Chore, PruneBatch, Retired, Summary};

/// The schema that this program writes.
const SCHEMA: &str = include_str!("../schema.sql");
/// Its number, in the file's `user_version`.
pub const SCHEMA_VERSION: i64 = 3;
/// What turns each older schema into the next: the first one schema 1 into 2.
const MIGRATIONS: [&str; 2] = [
    "CREATE TABLE chore (name TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID",
    "ALTER TABLE orders ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
     UPDATE orders SET changed = id;
     CREATE UNIQUE INDEX orders_by_change ON orders (changed);
     CREATE TABLE checkout (key TEXT PRIMARY KEY, order_name TEXT NOT NULL, sha256 BLOB, attempt INTEGER NOT NULL,
         made_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, session TEXT, url TEXT) WITHOUT ROWID;
     CREATE INDEX checkout_by_order ON checkout (order_name)",
];
/// "paid" in ASCII, in the file's `application_id`: tells our file from any other.
const APPLICATION_ID: i64 = 0x7061_6964;
/// How long a statement waits while another process of ours writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages in the log at which it is to be moved into the file. 1,000 is SQLite's default; more means
/// that more of them are newer forms of the same page.
const LOG_PAGES: i32 = 4_000;
/// Pages at which a commit moves it itself, because nobody else has.
const LOG_PAGES_MAX: i32 = 12_000;
/// Memory for pages, in KiB (the sign says so).
const CACHE_KIB: i64 = -16_384;
/// Orders that one question for changes reads at most, in some 20 ms.
const READ_MAX: i64 = 10_000;
/// Statements kept ready. There are fewer.
const STATEMENTS_MAX: usize = 64;

/// One open database file.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    /// Pages in the log after the last commit.
    log_pages: Arc<AtomicI32>,
}

/// Why the database could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// There is no such file, and it may not be made here.
    Missing,
    /// The folder or the file cannot be opened for writing.
    CannotOpen,
    /// Another process has held the write lock for longer than five seconds.
    Busy,
    /// No room on the disk.
    Full,
    /// Reading, writing or syncing failed: SQLite's extended code. What is on disk is not known.
    Io(i32),
    /// The file is damaged.
    Corrupt,
    /// A row is not as we write them: somebody else's hand, or a newer program's.
    Unreadable,
    /// The file is not a database of paidup's.
    NotOurs,
    /// A newer paidup has written the file: the version found.
    Newer(i64),
    /// An older paidup has written the file, and only the server brings it up to date: the version
    /// found.
    Older(i64),
    /// The file was to be brought up to date, and the backup before that failed: why.
    NotBackedUp(String),
    /// There is a log (`-wal`) with events in it, and the file that it belongs to is missing or
    /// empty.
    LoneLog,
    /// Anything else: SQLite's extended code.
    Other(i32),
}

impl StoreError {
    /// The process must not go on: nobody knows what the disk holds.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            StoreError::Io(_) | StoreError::Corrupt => true,
            StoreError::Missing
            | StoreError::CannotOpen
            | StoreError::Busy
            | StoreError::Full
            | StoreError::Unreadable
            | StoreError::NotOurs
            | StoreError::Newer(_)
            | StoreError::Older(_)
            | StoreError::NotBackedUp(_)
            | StoreError::LoneLog
            | StoreError::Other(_) => false,
        }
    }

    /// The code in the log.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            StoreError::Busy => ErrorCode::StoreBusy,
            StoreError::Full => ErrorCode::StoreFull,
            StoreError::Missing
            | StoreError::CannotOpen
            | StoreError::Io(_)
            | StoreError::Corrupt
            | StoreError::Unreadable
            | StoreError::NotOurs
            | StoreError::Newer(_)
            | StoreError::Older(_)
            | StoreError::NotBackedUp(_)
            | StoreError::LoneLog
            | StoreError::Other(_) => ErrorCode::StoreFailed,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Missing => f.write_str(
                "there is no database at DATABASE_PATH. Check the path; `paidup serve` makes the \
                 file when it starts",
            ),
            StoreError::CannotOpen => f.write_str(
                "the database at DATABASE_PATH cannot be opened for writing. Check that its folder \
                 exists and belongs to the user that paidup runs as",
            ),
            StoreError::Busy => f.write_str(
                "another process holds the database's write lock. Wait for it, or end it: a backup \
                 or a sqlite3 shell with an open transaction",
            ),
            StoreError::Full => f.write_str(
                "no room on the database's disk. Deliveries are refused with 503 and Stripe retries \
                 them for up to three days. Make room; nothing else is to do",
            ),
            StoreError::Io(code) => write!(
                f,
                "the database's disk failed (SQLite error {code}). What is on disk is not known. \
                 Look at `dmesg`, then run `paidup check`",
            ),
            StoreError::Corrupt => f.write_str(
                "the database is damaged, or its disk cannot be read. It is left as it is. Stop the \
                 server, look at `dmesg`, see what `paidup db check` says, and put the last backup in \
                 its place: `paidup restore FILE`",
            ),
            StoreError::Unreadable => f.write_str(
                "a row in the database is not as paidup writes it. Nothing was changed. Undo what was \
                 done to it by hand, or restore the last backup",
            ),
            StoreError::NotOurs => f.write_str(
                "the file at DATABASE_PATH is not a database of paidup's, or its beginning is damaged. \
                 It is left alone. Check DATABASE_PATH; if it is right, `paidup restore FILE` puts the \
                 last backup in its place",
            ),
            StoreError::Newer(version) => write!(
                f,
                "the database has schema {version}, and this paidup knows up to {SCHEMA_VERSION}. \
                 Install the newer paidup again; the file is left alone",
            ),
            StoreError::Older(version) => write!(
                f,
                "the database has schema {version}, and this paidup needs {SCHEMA_VERSION}. Start the \
                 server: it makes a backup and brings the file up to date"
            ),
            StoreError::NotBackedUp(why) => write!(
                f,
                "the database must be brought up to date, and the backup before that failed: {why}. \
                 Nothing was changed. Repair that and start again"
            ),
            StoreError::LoneLog => f.write_str(
                "beside DATABASE_PATH is a log (-wal) with orders in it, and the file that it belongs \
                 to is missing or empty. A new database would destroy it, so none was made. Put the \
                 file back, or restore the last backup: `paidup restore FILE`",
            ),
            StoreError::Other(code) => write!(f, "the database refused (SQLite error {code})"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        if let rusqlite::Error::SqliteFailure(failure, _) = error {
            return from_sqlite(failure);
        }
        // A row that we cannot read is one that we did not write.
        StoreError::Unreadable
    }
}

fn from_sqlite(failure: ffi::Error) -> StoreError {
    let extended = failure.extended_code;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "SQLite's list, and it may grow"
    )]
    match failure.code {
        Code::DatabaseBusy | Code::DatabaseLocked => StoreError::Busy,
        Code::DiskFull => StoreError::Full,
        // The shared-memory file could not grow: the same lack of room in another place.
        Code::SystemIoFailure if extended == ffi::SQLITE_IOERR_SHMSIZE => StoreError::Full,
        Code::SystemIoFailure => StoreError::Io(extended),
        Code::DatabaseCorrupt => StoreError::Corrupt,
        Code::NotADatabase => StoreError::NotOurs,
        Code::CannotOpen | Code::ReadOnly | Code::PermissionDenied => StoreError::CannotOpen,
        _ => StoreError::Other(extended),
    }
}

impl Store {
    /// Opens the file for the server: makes it, readable by its owner only, if there is none, and
    /// brings an older one up to date after a backup of it.
    ///
    /// # Errors
    /// [`StoreError`]; a file that is not ours, newer than us or damaged is left as it is.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        refuse_lone_log(path)?;
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match made {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                return Err(StoreError::Full);
            }
            Err(_) => return Err(StoreError::CannotOpen),
        }
        let mut store = Store::connect(path)?;
        store.migrate(path)?;
        store.touch_every_tree()?;
        store.settle_log(path)?;
        Ok(store)
    }

    /// Opens the file, which must be there and up to date.
    ///
    /// # Errors
    /// [`StoreError`]; a file that is not ours, of another schema or damaged is left as it is.
    pub fn open_existing(path: &Path) -> Result<Store, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing);
        }
        refuse_lone_log(path)?;
        let mut store = Store::connect(path)?;
        match store.schema_version()? {
            SCHEMA_VERSION => {}
            0 => store.migrate(path)?,
            older => return Err(StoreError::Older(older)),
        }
        Ok(store)
    }

    /// Opens a file of any schema up to ours, to copy or to look at it. Nothing in it is changed.
    ///
    /// It is opened for writing all the same, where that is allowed: what a killed process left half
    /// done, SQLite finishes or undoes when it is opened next, and cannot do so read-only
    /// (<https://www.sqlite.org/wal.html#read_only_databases>).
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_read_only(path: &Path) -> Result<Store, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing);
        }
        refuse_lone_log(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "query_only", true)?;
        let log_pages = Arc::default();
        let store = Store {
            connection,
            log_pages,
        };
        store.refuse_what_is_not_ours()?;
        if store.schema_version()? == 0 {
            return Err(StoreError::NotOurs);
        }
        Ok(store)
    }

    fn connect(path: &Path) -> Result<Store, StoreError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        let log_pages = Arc::new(AtomicI32::new(0));
        let counted = Arc::clone(&log_pages);
        // In place of SQLite's own hook, which moves the log into the file and, when that fails,
        // goes on without a word.
        connection.wal_hook(Some(move |_: &mut Wal, pages| {
            counted.store(pages, Relaxed);
            Ok(())
        }))?;
        let store = Store {
            connection,
            log_pages,
        };
        store.refuse_what_is_not_ours()?;
        store
            .connection
            .pragma_update(None, "journal_mode", "WAL")?;
        store
            .connection
            .pragma_update(None, "synchronous", "FULL")?;
        store.connection.pragma_update(None, "foreign_keys", true)?;
        store
            .connection
            .pragma_update(None, "cache_size", CACHE_KIB)?;
        store
            .connection
            .pragma_update(None, "temp_store", "MEMORY")?;
        Ok(store)
    }

    /// Records a batch in one commit. Each delivery stands alone: one that fails is undone alone,
    /// and its answer is an error.
    ///
    /// # Errors
    /// When the commit itself fails, nothing of the batch is stored. After an error that
    /// [`StoreError::is_fatal`] the process must end.
    pub fn record(
        &mut self,
        batch: &[Delivery],
    ) -> Result<Vec<Result<Receipt, StoreError>>, StoreError> {
        let (transaction, answers) = self.record_uncommitted(batch)?;
        transaction.commit()?;
        self.move_long_log()?;
        Ok(answers)
    }

    /// What [`Store::record`] would answer now. Nothing is stored.
    ///
    /// # Errors
    /// As [`Store::record`].
    pub fn rehearse(
        &mut self,
        batch: &[Delivery],
    ) -> Result<Vec<Result<Receipt, StoreError>>, StoreError> {
        let (transaction, answers) = self.record_uncommitted(batch)?;
        transaction.rollback()?;
        Ok(answers)
    }

    fn record_uncommitted(
        &mut self,
        batch: &[Delivery],
    ) -> Result<(Transaction<'_>, Vec<Result<Receipt, StoreError>>), StoreError> {
        let mut transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut answers = Vec::with_capacity(batch.len());
        for delivery in batch {
            let savepoint = transaction.savepoint()?;
            let answer = record_one(&savepoint, delivery);
            match &answer {
                Ok(_) => savepoint.commit()?,
                // Some errors end the whole transaction, and with it the savepoint.
                Err(error) if error.is_fatal() || savepoint.is_autocommit() => {
                    return Err(error.clone());
                }
                Err(_) => savepoint.finish()?,
            }
            answers.push(answer);
        }
        Ok((transaction, answers))
    }

    /// The facts of the payments that an order has.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn payments(&self, order: &StoredOrder) -> Result<Vec<Payment>, StoreError> {
        payments_for(&self.connection, order.id, &[])
    }

    /// Writes and syncs one row, to prove that the disk takes writes.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::record`].
    pub fn probe(&mut self, now: UnixSeconds) -> Result<(), StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction
            .prepare_cached("UPDATE probe SET at = ?1 WHERE id = 1")?
            .execute([now.0])?;
        transaction.commit()?;
        self.move_long_log()
    }

    /// Figures for the metrics; none of them takes longer as the history grows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn figures(&self) -> Result<Figures, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT status, orders FROM tally")?;
        let rows = statement.query_map([], |row| {
            let status = Status::parse(row.get_ref(0)?.as_str()?).ok_or(UNREADABLE)?;
            Ok((status, row.get(1)?))
        })?;
        let number = |sql| {
            self.connection
                .prepare_cached(sql)?
                .query_row([], |row| row.get(0))
        };
        Ok(Figures {
            orders: rows.collect::<Result<_, _>>()?,
            parked: number("SELECT count(*) FROM payment WHERE order_id IS NULL")?,
            database_bytes: number(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
            )?,
        })
    }

    /// The order of that name; else the one that the session, intent, charge, refund or dispute of
    /// that id belongs to.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn order(&self, name: &str) -> Result<Option<StoredOrder>, StoreError> {
        let sql = format!(
            "SELECT {ORDER_COLUMNS} FROM orders WHERE name = ?1
             UNION ALL
             SELECT {ORDER_COLUMNS} FROM orders WHERE id =
                 (SELECT order_id FROM payment WHERE id = (SELECT payment FROM object WHERE id = ?1))
             LIMIT 1"
        );
        Ok(self
            .connection
            .prepare_cached(&sql)?
            .query_row([name], StoredOrder::read)
            .optional()?)
    }

    /// The status of the order that a Checkout Session belongs to; none while that is not known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn status_of_session(&self, session: &StripeId) -> Result<Option<Status>, StoreError> {
        let sql = "SELECT status FROM orders
                   JOIN payment ON payment.order_id = orders.id
                   JOIN object ON object.payment = payment.id
                   WHERE object.id = ?1";
        let read = |row: &Row<'_>| Status::parse(row.get_ref(0)?.as_str()?).ok_or(UNREADABLE);
        Ok(self
            .connection
            .prepare_cached(sql)?
            .query_row([session.as_str()], read)
            .optional()?)
    }

    /// Orders, newest first, at most `limit`; only those of `status` if one is given.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn orders(
        &self,
        status: Option<Status>,
        limit: u32,
    ) -> Result<Vec<StoredOrder>, StoreError> {
        let wanted = if status.is_some() {
            "WHERE status = ?2"
        } else {
            "WHERE ?2 IS NULL"
        };
        let sql = format!("SELECT {ORDER_COLUMNS} FROM orders {wanted} ORDER BY id DESC LIMIT ?1");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(
            params![limit, status.map(Status::as_str)],
            StoredOrder::read,
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Orders that changed after `cursor`, first change first, at most `limit` and only those that
    /// fit. Bounded in time as well: after 10,000 orders it says that there is more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn orders_changed(
        &self,
        cursor: i64,
        limit: usize,
        fits: impl Fn(&StoredOrder) -> bool,
    ) -> Result<ChangedOrders, StoreError> {
        let sql = format!(
            "SELECT {ORDER_COLUMNS} FROM orders WHERE changed > ?1 ORDER BY changed LIMIT ?2"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([cursor, READ_MAX], StoredOrder::read)?;
        let mut found = ChangedOrders {
            orders: Vec::new(),
            cursor,
            has_more: false,
        };
        let mut read = 0;
        for order in rows {
            let order = order?;
            read += 1;
            if found.orders.len() == limit {
                found.has_more = true;
                return Ok(found);
            }
            found.cursor = order.changed;
            if fits(&order) {
                found.orders.push(order);
            }
        }
        found.has_more = read == READ_MAX;
        Ok(found)
    }

    /// The story of one order, first change first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn changes(&self, order: &StoredOrder) -> Result<Vec<Change>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT at, from_status, to_status, dispute, amount, refunded, flags,
                    event_id, event_type, request_id
             FROM change WHERE order_id = ?1 ORDER BY seq",
        )?;
        let rows = statement.query_map([order.id], |row| {
            let from = row.get::<_, Option<String>>(1)?;
            Ok(Change {
                at: UnixSeconds(row.get(0)?),
                from: from
                    .map(|from| Status::parse(&from).ok_or(UNREADABLE))
                    .transpose()?,
                to: Status::parse(row.get_ref(2)?.as_str()?).ok_or(UNREADABLE)?,
                dispute: Dispute::parse(row.get_ref(3)?.as_str()?).ok_or(UNREADABLE)?,
                amount: row.get(4)?,
                refunded: row.get(5)?,
                flags: Flag::parse_list(row.get_ref(6)?.as_str()?),
                event_id: row.get(7)?,
                event_type: row.get(8)?,
                request_id: row.get(9)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Events, newest arrival first, at most `limit`; only those about the objects of one order if
    /// `order` is given.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn events(
        &self,
        order: Option<&StoredOrder>,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let Some(order) = order else {
            let sql = format!("SELECT {EVENT_COLUMNS} ORDER BY e.seq DESC LIMIT ?1");
            let mut statement = self.connection.prepare_cached(&sql)?;
            let rows = statement.query_map([limit], StoredEvent::read)?;
            return Ok(rows.collect::<Result<_, _>>()?);
        };
        let sql = format!("SELECT {EVENT_COLUMNS} WHERE o.id = ?2 ORDER BY e.seq DESC LIMIT ?1");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([i64::from(limit), order.id], StoredEvent::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// One event of the ledger.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn event(&self, id: &str) -> Result<Option<StoredEvent>, StoreError> {
        let sql = format!("SELECT {EVENT_COLUMNS} WHERE e.id = ?1");
        Ok(self
            .connection
            .prepare_cached(&sql)?
            .query_row([id], StoredEvent::read)
            .optional()?)
    }

    /// Refuses a file that another program or a newer paidup has written, before anything in it
    /// is touched.
    fn refuse_what_is_not_ours(&self) -> Result<(), StoreError> {
        let version = self.schema_version()?;
        let is_ours = self.pragma("application_id")? == APPLICATION_ID;
        if !is_ours && !is_empty(&self.connection)? {
            return Err(StoreError::NotOurs);
        }
        if version > SCHEMA_VERSION {
            return Err(StoreError::Newer(version));
        }
        Ok(())
    }

    /// Brings the file to [`SCHEMA_VERSION`] in one transaction. Two processes may try at once.
    fn migrate(&mut self, path: &Path) -> Result<(), StoreError> {
        if self.schema_version()? == SCHEMA_VERSION {
            return Ok(());
        }
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version == 0 {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        } else {
            // The transaction holds the write lock, so nothing comes in after the backup.
            Store::open_read_only(path)?
                .copy_to(&backup_before_migration(path), true)
                .map_err(|error| StoreError::NotBackedUp(error.to_string()))?;
            for (step, from) in MIGRATIONS.iter().zip(1..) {
                if from >= version {
                    transaction.execute_batch(step)?;
                }
            }
        }
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        Ok(transaction.commit()?)
    }

    /// Reads the way down to the first and the last entry of every table and index, so that a
    /// server does not start on a file that is damaged there. Unlike SQLite's own check this takes
    /// no longer as the file grows; damage elsewhere is reported by SQLite when it is met.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] and others.
    pub fn touch_every_tree(&self) -> Result<(), StoreError> {
        const TREES: [(&str, &str); 14] = [
            ("payment", "id"),
            (
                "payment INDEXED BY payment_by_order WHERE order_id IS NOT NULL",
                "order_id",
            ),
            (
                "payment INDEXED BY payment_parked WHERE order_id IS NULL",
                "id",
            ),
            ("object", "id"),
            ("event", "seq"),
            ("event", "id"),
            ("orders", "id"),
            ("orders", "name"),
            ("orders", "status"),
            ("orders", "changed"),
            ("checkout", "key"),
            ("checkout", "order_name"),
            ("change", "order_id"),
            ("tally", "status"),
        ];
        for (tree, key) in TREES {
            for direction in ["ASC", "DESC"] {
                let sql = format!("SELECT * FROM {tree} ORDER BY {key} {direction} LIMIT 1");
                self.connection.query_row(&sql, [], |_| Ok(())).optional()?;
            }
        }
        Ok(())
    }

    /// Moves the log into the file when nobody else has. To be called after each commit.
    fn move_long_log(&self) -> Result<(), StoreError> {
        if self.log_pages.load(Relaxed) < LOG_PAGES_MAX {
            return Ok(());
        }
        self.move_log()
    }

    /// Whether the log has become so long that it is time to [`Store::move_log`].
    #[must_use]
    pub fn has_long_log(&self) -> bool {
        self.log_pages.load(Relaxed) >= LOG_PAGES
    }

    /// Moves the log into the file. Other connections go on writing meanwhile, and what they add
    /// stays in the log; it begins anew with the first commit that finds all of it moved.
    ///
    /// # Errors
    /// [`StoreError`]. That it must wait, for room or for a reader, is none.
    pub fn move_log(&self) -> Result<(), StoreError> {
        let mut moving = self.connection.prepare_cached("PRAGMA wal_checkpoint")?;
        Ok(unless_it_may_wait(moving.query_row([], |_| Ok(())))?)
    }

    /// Puts what is in the log into the file, and syncs all of it and the names of the files.
    ///
    /// What a killed process has left there was perhaps never synced, and after a sync that failed
    /// the kernel shows what never reached the disk. Both would be told to Stripe as stored already
    /// when it sends them again, and be lost with the next power cut.
    fn settle_log(&self, path: &Path) -> Result<(), StoreError> {
        // What another process still reads cannot be moved, and that is nothing to wait for.
        self.connection.busy_timeout(Duration::ZERO)?;
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let moved = self.connection.query_row(sql, [], |_| Ok(()));
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        unless_it_may_wait(moved)?;
        File::open(files::beside(path, "-wal"))
            .and_then(|log| log.sync_all())
            .and_then(|()| files::sync_folder_of(path))
            .map_err(|_| StoreError::Io(ffi::SQLITE_IOERR_FSYNC))
    }

    fn schema_version(&self) -> Result<i64, StoreError> {
        self.pragma("user_version")
    }

    fn pragma(&self, name: &str) -> Result<i64, StoreError> {
        Ok(self
            .connection
            .query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?)
    }
}

/// Where the server puts the backup of an older file before it brings it up to date.
#[must_use]
pub fn backup_before_migration(database: &Path) -> PathBuf {
    files::beside(database, &format!(".before-schema-{SCHEMA_VERSION}"))
}

/// Without room for the file, or while another process uses it, the log is moved later.
fn unless_it_may_wait(moved: rusqlite::Result<()>) -> rusqlite::Result<()> {
    match moved {
        Err(rusqlite::Error::SqliteFailure(failure, _))
            if matches!(from_sqlite(failure), StoreError::Busy | StoreError::Full) =>
        {
            Ok(())
        }
        moved => moved,
    }
}

/// Whether nothing was ever made in the file. It may have a page all the same: a process that was
/// killed while the file was new has left one.
fn is_empty(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row(
        "SELECT application_id = 0 AND user_version = 0 AND NOT EXISTS (SELECT * FROM sqlite_schema)
         FROM pragma_application_id, pragma_user_version",
        [],
        |row| row.get(0),
    )
}

/// SQLite deletes the log of a file that is empty, and with it what was acknowledged.
fn refuse_lone_log(path: &Path) -> Result<(), StoreError> {
    let bytes = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    if bytes(path) == 0 && bytes(&files::beside(path, "-wal")) > 0 {
        return Err(StoreError::LoneLog);
    }
    Ok(())
}

/// What the metrics tell of the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many orders have each status.
    pub orders: Vec<(Status, i64)>,
    /// Payments whose order is not known yet.
    pub parked: i64,
    /// Size of the file, without its log.
    pub database_bytes: i64,
}

/// An order as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOrder {
    id: i64,
    /// The shop's order id, or the session's id.
    pub name: OrderId,
    /// What its payments make of it.
    pub state: State,
    /// When it last changed, by this host's clock.
    pub updated_at: UnixSeconds,
    /// Greater than that of every order that changed before it.
    pub changed: i64,
}

/// Part of the orders, in the order of their last changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedOrders {
    /// Those that were wanted.
    pub orders: Vec<StoredOrder>,
    /// Where to go on.
    pub cursor: i64,
    /// Whether there is more to read already.
    pub has_more: bool,
}

/// One step of an order's story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, by this host's clock.
    pub at: UnixSeconds,
    /// `None` when the order was first heard of.
    pub from: Option<Status>,
    /// The status after it; this and the next four.
    pub to: Status,
    /// See [`State::dispute`].
    pub dispute: Dispute,
    /// See [`State::amount`].
    pub amount: i64,
    /// See [`State::refunded`].
    pub refunded: i64,
    /// See [`State::flags`].
    pub flags: Vec<Flag>,
    /// The event that told.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// The request that brought it; none when we fetched it ourselves.
    pub request_id: Option<String>,
}

/// One event of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Order of arrival.
    pub seq: i64,
    /// `evt_…`
    pub id: String,
    /// Stripe's name for what happened.
    pub kind: String,
    /// When Stripe made it.
    pub created: Option<UnixSeconds>,
    /// When it came, by this host's clock.
    pub received_at: UnixSeconds,
    /// The object that it is about.
    pub object: Option<String>,
    /// What it did when it came.
    pub outcome: String,
    /// Why it was ignored, if it was.
    pub reason: Option<String>,
    /// The request that brought it; none when we fetched it ourselves.
    pub request_id: Option<String>,
    /// SHA-256 of its body, in hex.
    pub sha256: String,
    /// The order that it belongs to, as far as is known now.
    pub order: Option<String>,
}

/// What `StoredOrder::read` expects, in this order.
const ORDER_COLUMNS: &str = "id, name, status, dispute, amount, refunded, currency, flags,
     session, intent, created, updated_at, changed";

/// What `StoredEvent::read` expects, in this order, with the tables it comes from.
const EVENT_COLUMNS: &str = "e.seq, e.id, e.type, e.created, e.received_at, e.object, e.outcome,
     e.reason, e.request_id, e.sha256, o.name
     FROM event e LEFT JOIN object b ON b.id = e.object LEFT JOIN payment p ON p.id = b.payment
     LEFT JOIN orders o ON o.id = p.order_id";

/// A value in a row that we did not write.
const UNREADABLE: rusqlite::Error = rusqlite::Error::InvalidQuery;

impl StoredOrder {
    fn read(row: &Row<'_>) -> rusqlite::Result<StoredOrder> {
        let text = |index| row.get::<_, Option<String>>(index);
        let stripe_id = |index| {
            let id = text(index)?.map(|text| StripeId::parse(&text));
            id.transpose().map_err(|_| UNREADABLE)
        };
        Ok(StoredOrder {
            id: row.get(0)?,
            name: OrderId::stored(row.get(1)?),
            state: State {
                status: Status::parse(row.get_ref(2)?.as_str()?).ok_or(UNREADABLE)?,
                dispute: Dispute::parse(row.get_ref(3)?.as_str()?).ok_or(UNREADABLE)?,
                amount: row.get(4)?,
                refunded: row.get(5)?,
                currency: text(6)?.map(Into::into),
                flags: Flag::parse_list(row.get_ref(7)?.as_str()?),
                session: stripe_id(8)?,
                intent: stripe_id(9)?,
                since: UnixSeconds(row.get(10)?),
            },
            updated_at: UnixSeconds(row.get(11)?),
            changed: row.get(12)?,
        })
    }

    fn about(&self) -> About {
        About {
            order: self.name.clone(),
            session: self.state.session.clone(),
        }
    }
}

impl StoredEvent {
    fn read(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
        Ok(StoredEvent {
            seq: row.get(0)?,
            id: row.get(1)?,
            kind: row.get(2)?,
            created: row.get::<_, Option<i64>>(3)?.map(UnixSeconds),
            received_at: UnixSeconds(row.get(4)?),
            object: row.get(5)?,
            outcome: row.get(6)?,
            reason: row.get(7)?,
            request_id: row.get(8)?,
            sha256: hex::encode(row.get_ref(9)?.as_blob()?),
            order: row.get(10)?,
        })
    }
}

/// One delivery inside its savepoint.
fn record_one(db: &Connection, delivery: &Delivery) -> Result<Receipt, StoreError> {
    let known = ledger_outcome(db, &delivery.event.id)?;
    match (&delivery.event.meaning, known.as_deref()) {
        // What was ignored once may be of use today: another STRIPE_MODE, a newer paidup.
        (Meaning::Fact(fact), None | Some("ignored")) => apply(db, delivery, fact),
        (Meaning::Ignored(why), None) => {
            let outcome = Outcome::Ignored(*why);
            write_ledger(db, delivery, outcome, None)?;
            Ok(Receipt {
                outcome,
                about: None,
                news: Vec::new(),
            })
        }
        (Meaning::Fact(_) | Meaning::Ignored(_), Some(_)) => Ok(Receipt {
            outcome: Outcome::Duplicate,
            about: None,
            news: Vec::new(),
        }),
    }
}

/// A payment as it stands in the file.
struct StoredPayment {
    id: i64,
    order_id: Option<i64>,
    facts: Payment,
}

/// Joins the fact to the payments that it touches, and computes anew the orders that they are for.
fn apply(db: &Connection, delivery: &Delivery, fact: &Fact) -> Result<Receipt, StoreError> {
    let touched = payments_of(db, fact)?;
    let mut joined = Payment::default();
    for payment in &touched {
        joined.join(payment.facts.clone());
    }
    joined.learn(fact.clone());
    let is_news = !matches!(touched.as_slice(), [one] if one.facts == joined);
    let name = joined.order();
    let outcome = match (is_news, &name) {
        (false, _) => Outcome::Duplicate,
        (true, Some(_)) => Outcome::Applied,
        (true, None) => Outcome::Parked,
    };
    let seq = write_ledger(db, delivery, outcome, Some(fact))?;
    if !is_news {
        let order = touched.first().and_then(|payment| payment.order_id);
        let about = order
            .map(|id| order_by_id(db, id))
            .transpose()?
            .map(|order| order.about());
        return Ok(Receipt {
            outcome,
            about,
            news: Vec::new(),
        });
    }

    let step = Step { db, delivery, seq };
    let mut news = Vec::new();
    let order = name
        .map(|name| step.write_order(&name, &touched, &joined, &mut news))
        .transpose()?;
    step.write_payment(&touched, &joined, order.as_ref().map(|order| order.id))?;
    let left = touched
        .iter()
        .filter_map(|payment| payment.order_id)
        .collect::<BTreeSet<_>>();
    for id in left {
        if let Some(order) = order.as_ref().filter(|order| order.id != id) {
            step.leave_order(id, order, &mut news)?;
        }
    }
    Ok(Receipt {
        outcome,
        about: order.map(|order| order.about()),
        news,
    })
}

/// The writes of one delivery that tells something new.
struct Step<'a> {
    db: &'a Connection,
    delivery: &'a Delivery,
    /// Of the event in the ledger.
    seq: i64,
}

impl Step<'_> {
    /// Computes the order anew, from `joined` and the payments that it had besides `touched`. An
    /// order that had only these payments and another name takes the new name.
    fn write_order(
        &self,
        name: &OrderId,
        touched: &[StoredPayment],
        joined: &Payment,
        news: &mut Vec<News>,
    ) -> Result<StoredOrder, StoreError> {
        let mut before = order_by_name(self.db, name)?;
        if before.is_none() {
            before = self.rename_order(name, touched, news)?;
        }
        let mut payments = match &before {
            Some(order) => payments_for(self.db, order.id, touched)?,
            None => Vec::new(),
        };
        payments.push(joined.clone());
        let state = State::of(&payments);
        let updated_at = self.delivery.received;
        match before {
            None => {
                let order = insert_order(self.db, name, state, updated_at)?;
                self.tell(&order, None, news)?;
                Ok(order)
            }
            Some(before) => self.update_order(before, state, news),
        }
    }

    /// Gives the first of the orders that have no payments but `touched` its real name.
    fn rename_order(
        &self,
        name: &OrderId,
        touched: &[StoredPayment],
        news: &mut Vec<News>,
    ) -> Result<Option<StoredOrder>, StoreError> {
        for id in touched.iter().filter_map(|payment| payment.order_id) {
            if payments_for(self.db, id, touched)?.is_empty()
                && !checkout::is_asked_for(self.db, &order_by_id(self.db, id)?.name)?
            {
                let sql = "UPDATE orders SET name = ?2 WHERE id = ?1";
                self.db
                    .prepare_cached(sql)?
                    .execute(params![id, name.as_str()])?;
                let order = self.show_as_changed(id)?;
                news.push(renamed(&order));
                return Ok(Some(order));
            }
        }
        Ok(None)
    }

    /// Writes a known order's new state, if it is new.
    fn update_order(
        &self,
        before: StoredOrder,
        state: State,
        news: &mut Vec<News>,
    ) -> Result<StoredOrder, StoreError> {
        if before.state == state {
            return Ok(before);
        }
        let after = StoredOrder {
            state,
            updated_at: self.delivery.received,
            ..before.clone()
        };
        let after = update_order(self.db, after)?;
        self.tell(&after, Some(&before.state), news)?;
        Ok(after)
    }

    /// Whoever polls for changes is to see this order again.
    fn show_as_changed(&self, id: i64) -> Result<StoredOrder, StoreError> {
        let sql =
            "UPDATE orders SET updated_at = ?2, changed = (SELECT max(changed) + 1 FROM orders)
                   WHERE id = ?1";
        self.db
            .prepare_cached(sql)?
            .execute(params![id, self.delivery.received.0])?;
        order_by_id(self.db, id)
    }

    /// Adds the step to the order's story and to what the log will say.
    fn tell(
        &self,
        order: &StoredOrder,
        before: Option<&State>,
        news: &mut Vec<News>,
    ) -> Result<(), StoreError> {
        let about = order.about();
        let told = order.state.news(before);
        news.extend(told.into_iter().map(|(level, message)| News {
            about: about.clone(),
            level,
            message,
        }));
        insert_change(
            self.db,
            order,
            before.map(|state| state.status),
            self.delivery,
            self.seq,
        )
    }

    /// Stores the facts in the first of the payments that turned out to be one, and makes all the
    /// objects point there.
    fn write_payment(
        &self,
        touched: &[StoredPayment],
        joined: &Payment,
        order_id: Option<i64>,
    ) -> Result<(), StoreError> {
        let facts = serde_json::to_string(joined).map_err(|_| StoreError::Unreadable)?;
        let id = match touched.first() {
            Some(payment) => {
                let sql = "UPDATE payment SET order_id = ?2, facts = ?3 WHERE id = ?1";
                self.db
                    .prepare_cached(sql)?
                    .execute(params![payment.id, order_id, facts])?;
                payment.id
            }
            None => {
                let sql = "INSERT INTO payment (order_id, facts) VALUES (?1, ?2)";
                self.db
                    .prepare_cached(sql)?
                    .insert(params![order_id, facts])?
            }
        };
        let known = touched
            .first()
            .map(|payment| payment.facts.ids().collect::<BTreeSet<_>>());
        let mut point = self.db.prepare_cached(
            "INSERT INTO object (id, payment) VALUES (?1, ?2)
             ON CONFLICT (id) DO UPDATE SET payment = excluded.payment",
        )?;
        for object in joined
            .ids()
            .filter(|id| known.as_ref().is_none_or(|known| !known.contains(id)))
        {
            point.execute(params![object.as_str(), id])?;
        }
        for absorbed in touched.iter().skip(1) {
            self.db
                .prepare_cached("DELETE FROM payment WHERE id = ?1")?
                .execute([absorbed.id])?;
        }
        Ok(())
    }

    /// Computes anew an order that a payment has left for `to`. If it was the last one, and the shop
    /// has not asked for the order itself, it was only another name for `to`, which takes its story.
    fn leave_order(
        &self,
        id: i64,
        to: &StoredOrder,
        news: &mut Vec<News>,
    ) -> Result<(), StoreError> {
        let payments = payments_for(self.db, id, &[])?;
        let order = order_by_id(self.db, id)?;
        if !payments.is_empty() || checkout::is_asked_for(self.db, &order.name)? {
            let state = if payments.is_empty() {
                State::before_payment(order.state.since)
            } else {
                State::of(&payments)
            };
            self.update_order(order, state, news)?;
            return Ok(());
        }
        // Before the other goes, so that the greatest number of a change never falls.
        self.show_as_changed(to.id)?;
        // An event that changed both orders keeps the change of the one that stays.
        let sql = "UPDATE OR IGNORE change SET order_id = ?2 WHERE order_id = ?1";
        self.db.prepare_cached(sql)?.execute([id, to.id])?;
        self.db
            .prepare_cached("DELETE FROM change WHERE order_id = ?1")?
            .execute([id])?;
        self.db
            .prepare_cached("DELETE FROM orders WHERE id = ?1")?
            .execute([id])?;
        news.push(renamed(to));
        Ok(())
    }
}

fn renamed(order: &StoredOrder) -> News {
    News {
        about: order.about(),
        level: Level::Info,
        message: Message::OrderRenamed,
    }
}

fn ledger_outcome(db: &Connection, id: &StripeId) -> Result<Option<String>, StoreError> {
    let mut statement = db.prepare_cached("SELECT outcome FROM event WHERE id = ?1")?;
    Ok(statement
        .query_row([id.as_str()], |row| row.get(0))
        .optional()?)
}

/// Writes the event's row, over one that was ignored, and returns its place.
fn write_ledger(
    db: &Connection,
    delivery: &Delivery,
    outcome: Outcome,
    fact: Option<&Fact>,
) -> Result<i64, StoreError> {
    let mut statement = db.prepare_cached(
        "INSERT INTO event (id, type, created, received_at, object, outcome, reason, request_id, sha256)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (id) DO UPDATE SET received_at = excluded.received_at,
             object = excluded.object, outcome = excluded.outcome, reason = excluded.reason,
             request_id = excluded.request_id, sha256 = excluded.sha256",
    )?;
    let event = &delivery.event;
    statement.execute(params![
        event.id.as_str(),
        event.kind,
        event.created.map(|created| created.0),
        delivery.received.0,
        fact.map(|fact| fact.id.as_str()),
        outcome.as_str(),
        outcome.reason(),
        delivery.request_id.as_ref().map(RequestId::as_str),
        delivery.sha256,
    ])?;
    // Asked for rather than RETURNING, for which SQLite opens a temporary table each time.
    let mut seq = db.prepare_cached("SELECT seq FROM event WHERE id = ?1")?;
    Ok(seq.query_row([event.id.as_str()], |row| row.get(0))?)
}

/// The payments that the fact's objects belong to so far, oldest first; hardly ever more than one.
fn payments_of(db: &Connection, fact: &Fact) -> Result<Vec<StoredPayment>, StoreError> {
    let mut ids = BTreeSet::new();
    let mut find = db.prepare_cached("SELECT payment FROM object WHERE id = ?1")?;
    for object in fact.ids() {
        ids.extend(
            find.query_row([object.as_str()], |row| row.get::<_, i64>(0))
                .optional()?,
        );
    }
    let mut read = db.prepare_cached("SELECT order_id, facts FROM payment WHERE id = ?1")?;
    let payment = |id| {
        read.query_row([id], |row| {
            Ok(StoredPayment {
                id,
                order_id: row.get(0)?,
                facts: read_facts(row, 1)?,
            })
        })
    };
    Ok(ids.into_iter().map(payment).collect::<Result<_, _>>()?)
}

/// The facts of an order's payments, without those that are named.
fn payments_for(
    db: &Connection,
    order_id: i64,
    without: &[StoredPayment],
) -> Result<Vec<Payment>, StoreError> {
    let mut read = db.prepare_cached("SELECT id, facts FROM payment WHERE order_id = ?1")?;
    let mut rows = read.query([order_id])?;
    let mut payments = Vec::new();
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        if without.iter().all(|payment| payment.id != id) {
            payments.push(read_facts(row, 1)?);
        }
    }
    Ok(payments)
}

fn read_facts(row: &Row<'_>, index: usize) -> rusqlite::Result<Payment> {
    serde_json::from_str(row.get_ref(index)?.as_str()?).map_err(|_| UNREADABLE)
}

fn order_by_name(db: &Connection, name: &OrderId) -> Result<Option<StoredOrder>, StoreError> {
    let sql = format!("SELECT {ORDER_COLUMNS} FROM orders WHERE name = ?1");
    Ok(db
        .prepare_cached(&sql)?
        .query_row([name.as_str()], StoredOrder::read)
        .optional()?)
}

fn order_by_id(db: &Connection, id: i64) -> Result<StoredOrder, StoreError> {
    let sql = format!("SELECT {ORDER_COLUMNS} FROM orders WHERE id = ?1");
    Ok(db
        .prepare_cached(&sql)?
        .query_row([id], StoredOrder::read)?)
}

fn insert_order(
    db: &Connection,
    name: &OrderId,
    state: State,
    updated_at: UnixSeconds,
) -> Result<StoredOrder, StoreError> {
    let mut statement = db.prepare_cached(
        "INSERT INTO orders (name, status, dispute, amount, refunded, currency, flags, session,
                             intent, created, updated_at, changed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    let changed = next_change(db)?;
    let id = statement.insert(params![
        name.as_str(),
        state.status.as_str(),
        state.dispute.as_str(),
        state.amount,
        state.refunded,
        state.currency,
        Flag::join_list(&state.flags),
        state.session.as_ref().map(StripeId::as_str),
        state.intent.as_ref().map(StripeId::as_str),
        state.since.0,
        updated_at.0,
        changed,
    ])?;
    Ok(StoredOrder {
        id,
        name: name.clone(),
        state,
        updated_at,
        changed,
    })
}

/// The order with the number of this change.
fn update_order(db: &Connection, order: StoredOrder) -> Result<StoredOrder, StoreError> {
    let mut statement = db.prepare_cached(
        "UPDATE orders SET status = ?2, dispute = ?3, amount = ?4, refunded = ?5, currency = ?6,
                           flags = ?7, session = ?8, intent = ?9, created = ?10, updated_at = ?11,
                           changed = ?12
         WHERE id = ?1",
    )?;
    let changed = next_change(db)?;
    let state = &order.state;
    statement.execute(params![
        order.id,
        state.status.as_str(),
        state.dispute.as_str(),
        state.amount,
        state.refunded,
        state.currency,
        Flag::join_list(&state.flags),
        state.session.as_ref().map(StripeId::as_str),
        state.intent.as_ref().map(StripeId::as_str),
        state.since.0,
        order.updated_at.0,
        changed,
    ])?;
    Ok(StoredOrder { changed, ..order })
}

/// One more than that of the order that has changed last.
fn next_change(db: &Connection) -> Result<i64, StoreError> {
    let mut next = db.prepare_cached("SELECT coalesce(max(changed), 0) + 1 FROM orders")?;
    Ok(next.query_row([], |row| row.get(0))?)
}

fn insert_change(
    db: &Connection,
    order: &StoredOrder,
    from: Option<Status>,
    delivery: &Delivery,
    seq: i64,
) -> Result<(), StoreError> {
    let mut statement = db.prepare_cached(
        "INSERT INTO change (order_id, seq, at, from_status, to_status, dispute, amount, refunded,
                             flags, event_id, event_type, request_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    statement.execute(params![
        order.id,
        seq,
        delivery.received.0,
        from.map(Status::as_str),
        order.state.status.as_str(),
        order.state.dispute.as_str(),
        order.state.amount,
        order.state.refunded,
        Flag::join_list(&order.state.flags),
        delivery.event.id.as_str(),
        delivery.event.kind,
        delivery.request_id.as_ref().map(RequestId::as_str),
    ])?;
    Ok(())
}
