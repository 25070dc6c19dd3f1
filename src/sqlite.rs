//! Stores facts and orders in one SQLite file, and is the only place that speaks SQL.
//!
//! Invariants, cited by number in its modules and in tests:
//!  S1  An event id is in the ledger at most once.
//!  S2  An order, its facts and the event that changed them are in the same commit.
//!  S3  [`Store::record`] returns Ok only after that commit is synced: WAL with
//!      `synchronous=FULL`, <https://www.sqlite.org/pragma.html#pragma_synchronous>.
//!  S4  The stored order equals the order computed from the stored facts.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, ffi, params,
};

use crate::domain::delivery::{Delivery, Receipt};
use crate::domain::id::UnixSeconds;
use crate::domain::order::{Dispute, Flag, Status};
use crate::domain::payment::Payment;
use crate::files;

mod apply;
mod checkout;
mod copy;
mod error;
mod lock;
mod object;
mod rows;
mod upkeep;
mod watch;

pub use checkout::{Ask, Asked, Checkout};
pub use copy::CopyError;
pub use error::StoreError;
pub use lock::{ServeLock, UseLock, uses_another_file};
pub use rows::{Change, ChangedOrders, StoredEvent, StoredOrder};
pub use upkeep::{Chore, Hold, PruneBatch, Retired, Summary};

use apply::{order_by_id, order_by_name, payments_for, record_one};
use error::from_sqlite;
use object::add_object_key;
use rows::{EVENT_COLUMNS, ORDER_COLUMNS, UNREADABLE};
use watch::{Log, Watch};

/// The schema that this program writes.
const SCHEMA: &str = include_str!("../schema.sql");
/// Its number, in the file's `user_version`.
pub const SCHEMA_VERSION: i64 = 5;
/// What turns each older schema into the next: the first one schema 1 into 2.
const MIGRATIONS: [&str; 4] = [
    "CREATE TABLE chore (name TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID",
    "ALTER TABLE orders ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
     UPDATE orders SET changed = id;
     CREATE UNIQUE INDEX orders_by_change ON orders (changed);
     CREATE TABLE checkout (key TEXT PRIMARY KEY, order_name TEXT NOT NULL, sha256 BLOB, attempt INTEGER NOT NULL,
         made_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, session TEXT, url TEXT) WITHOUT ROWID;
     CREATE INDEX checkout_by_order ON checkout (order_name)",
    // Schema 4 had other keys in `object`, which the next step makes anew from the facts.
    "",
    "CREATE TABLE keyed (id BLOB PRIMARY KEY, payment INTEGER NOT NULL REFERENCES payment (id)) WITHOUT ROWID;
     INSERT OR IGNORE INTO keyed
         SELECT object_key(object.key, coalesce(json_extract(facts, '$.since'), 0)), payment.id
         FROM payment, json_each(facts) AS kind, json_each(kind.value) AS object
         WHERE kind.key IN ('sessions', 'intents', 'charges', 'refunds', 'disputes');
     DROP TABLE object;
     ALTER TABLE keyed RENAME TO object",
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
    /// None of a copy, which is only read.
    watch: Option<Watch>,
    /// None of a database that no server of this or a later version has opened, such as a backup.
    lock: Option<UseLock>,
}

impl Drop for Store {
    /// The last connection that closes moves the log into the file and deletes it, by name. Files that
    /// came to these names meanwhile are not ours to delete.
    fn drop(&mut self) {
        if self.look().is_err() {
            let left = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            let _ = self.connection.set_db_config(left, true);
        }
    }
}

impl Store {
    /// Opens the file for the server: makes it, readable by its owner only, if there is none, and
    /// brings an older one up to date after a backup of it.
    ///
    /// # Errors
    /// [`StoreError`]; a file that is not ours, newer than us or damaged is left as it is.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let lock = UseLock::share(path)?;
        refuse_lone_log(path)?;
        // The name is there when the file is.
        if lock.is_some() && fs::metadata(path).map_or(0, |found| found.len()) == 0 {
            return Err(StoreError::Vanished);
        }
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(files::real(path));
        match made {
            // Closed before SQLite opens it. Later, that would drop the locks of this process.
            Ok(made) => drop(made),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                return Err(StoreError::Full);
            }
            Err(_) => return Err(StoreError::CannotOpen),
        }
        let mut store = Store::connect(path, lock)?;
        store.migrate(path)?;
        if store.lock.is_none() {
            store.lock = UseLock::share_new(path)?;
        }
        store.touch_every_tree()?;
        let failed = |_| StoreError::Io(ffi::SQLITE_IOERR_FSYNC);
        let log = Log::of(path).map_err(failed)?;
        store.settle_log(path, &log)?;
        store.watch = Some(Watch::of(path, Some(Arc::new(log)))?);
        Ok(store)
    }

    /// Opens the file, which must be there and up to date.
    ///
    /// # Errors
    /// [`StoreError`]; a file that is not ours, of another schema or damaged is left as it is.
    pub fn open_existing(path: &Path) -> Result<Store, StoreError> {
        let lock = UseLock::share(path)?;
        if !path.exists() {
            return Err(StoreError::Missing);
        }
        refuse_lone_log(path)?;
        let mut store = Store::connect(path, lock)?;
        match store.schema_version()? {
            SCHEMA_VERSION => {}
            0 => store.migrate(path)?,
            older => return Err(StoreError::Older(older)),
        }
        store.watch = Some(Watch::of(path, None)?);
        Ok(store)
    }

    /// One more connection to the same file, which knows what this one knows of the log.
    ///
    /// # Errors
    /// As [`Store::open_existing`].
    pub fn open_beside(&self, path: &Path) -> Result<Store, StoreError> {
        let mut beside = Store::open_existing(path)?;
        let log = self.watch.as_ref().and_then(Watch::log);
        beside.watch = Some(Watch::of(path, log)?);
        Ok(beside)
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
        let lock = UseLock::share(path)?;
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
        add_object_key(&connection)?;
        let store = Store {
            connection,
            log_pages,
            watch: None,
            lock,
        };
        store.refuse_what_is_not_ours()?;
        if store.schema_version()? == 0 {
            return Err(StoreError::NotOurs);
        }
        Ok(store)
    }

    fn connect(path: &Path, lock: Option<UseLock>) -> Result<Store, StoreError> {
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
        add_object_key(&connection)?;
        let store = Store {
            connection,
            log_pages,
            watch: None,
            lock,
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
        self.look()?;
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
        if let Some(watch) = &self.watch {
            watch.look_closely(&transaction)?;
        }
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
        if let Some(watch) = &self.watch {
            watch.look_closely(&transaction)?;
        }
        transaction
            .prepare_cached("UPDATE probe SET at = ?1 WHERE id = 1")?
            .execute([now.0])?;
        transaction.commit()?;
        self.look()?;
        self.move_long_log()
    }

    /// Whether the files that are open are still those that the next start will find. What was
    /// committed counts only then.
    fn look(&self) -> Result<(), StoreError> {
        self.watch.as_ref().map_or(Ok(()), Watch::look)
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
        match order_by_name(&self.connection, name)? {
            Some(order) => Ok(Some(order)),
            None => self.order_of(name),
        }
    }

    /// The order that the Stripe object of that id belongs to; none while that is not known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn order_of(&self, object: &str) -> Result<Option<StoredOrder>, StoreError> {
        let order = object::order_of(&self.connection, object)?;
        order
            .map(|id| order_by_id(&self.connection, id))
            .transpose()
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
        let mut events = match order {
            None => {
                let sql = format!("SELECT {EVENT_COLUMNS} FROM event ORDER BY seq DESC LIMIT ?1");
                let mut statement = self.connection.prepare_cached(&sql)?;
                let rows = statement.query_map([limit], StoredEvent::read)?;
                rows.collect::<Result<Vec<_>, _>>()?
            }
            Some(order) => {
                let payments = self.payments(order)?;
                let ids: Vec<_> = payments.iter().flat_map(Payment::ids).collect();
                let ids = serde_json::to_string(&ids).map_err(|_| StoreError::Unreadable)?;
                let sql = format!(
                    "SELECT {EVENT_COLUMNS} FROM event WHERE object IN (SELECT value FROM json_each(?2))
                     ORDER BY seq DESC LIMIT ?1"
                );
                let mut statement = self.connection.prepare_cached(&sql)?;
                let rows = statement.query_map(params![limit, ids], StoredEvent::read)?;
                rows.collect::<Result<Vec<_>, _>>()?
            }
        };
        for event in &mut events {
            event.order = self.order_name(event)?;
        }
        Ok(events)
    }

    /// One event of the ledger.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn event(&self, id: &str) -> Result<Option<StoredEvent>, StoreError> {
        let sql = format!("SELECT {EVENT_COLUMNS} FROM event WHERE id = ?1");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let Some(mut event) = statement.query_row([id], StoredEvent::read).optional()? else {
            return Ok(None);
        };
        event.order = self.order_name(&event)?;
        Ok(Some(event))
    }

    /// Of the order that the event's object belongs to.
    fn order_name(&self, event: &StoredEvent) -> Result<Option<String>, StoreError> {
        let Some(object) = &event.object else {
            return Ok(None);
        };
        let order = self.order_of(object)?;
        Ok(order.map(|order| order.name.as_str().to_owned()))
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
        // What was cut off the log must not get into the file.
        self.look()?;
        let mut moving = self.connection.prepare_cached("PRAGMA wal_checkpoint")?;
        Ok(unless_it_may_wait(moving.query_row([], |_| Ok(())))?)
    }

    /// Puts what is in the log into the file, and syncs all of it and the names of the files.
    ///
    /// What a killed process has left there was perhaps never synced, and after a sync that failed
    /// the kernel shows what never reached the disk. Both would be told to Stripe as stored already
    /// when it sends them again, and be lost with the next power cut.
    fn settle_log(&self, path: &Path, log: &Log) -> Result<(), StoreError> {
        // What another process still reads cannot be moved, and that is nothing to wait for.
        self.connection.busy_timeout(Duration::ZERO)?;
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let moved = self.connection.query_row(sql, [], |_| Ok(()));
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        unless_it_may_wait(moved)?;
        log.sync()
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
