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

use crate::base::id::UnixSeconds;
use crate::host::files;
use crate::truth::delivery::{Delivery, Receipt};
use crate::truth::order::{Dispute, Flag, Status};
use crate::truth::payment::Payment;
use crate::truth::reading::Mode;

mod apply;
mod checkout;
mod copy;
mod error;
mod feed;
mod lock;
mod object;
mod readers;
mod rows;
mod upkeep;
mod watch;
pub mod writer;

pub use checkout::{Ask, Asked, Checkout};
pub use copy::CopyError;
pub use error::StoreError;
pub use feed::{Changes, Gone};
pub use lock::{ServeLock, UseLock, uses_another_file};
pub use readers::{Reader, readers};
pub use rows::{Change, StoredEvent, StoredOrder};
pub use upkeep::{Chore, Hold, PruneBatch, Retired, Summary};

use apply::{order_by_id, order_by_name, payment_by_id, payments_for, record_one};
use error::from_sqlite;
use rows::{EVENT_COLUMNS, ORDER_COLUMNS, UNREADABLE};
use watch::{Log, Watch};

/// The schema that this program writes.
const SCHEMA: &str = include_str!("../../schema.sql");
/// Its number, in the file's `user_version`.
pub const SCHEMA_VERSION: i64 = 2;
/// What turns each older schema into the next: the first one schema 1 into 2.
const MIGRATIONS: [&str; 1] = [
    "CREATE TABLE gone (changed INTEGER PRIMARY KEY, name TEXT NOT NULL, became TEXT);
     CREATE TABLE history (began INTEGER PRIMARY KEY, after INTEGER NOT NULL);
     CREATE VIEW last_number AS SELECT max((SELECT coalesce(max(changed), 0) FROM orders),
         (SELECT coalesce(max(changed), 0) FROM gone), (SELECT coalesce(max(began), 0) FROM history)) AS number;
     CREATE TRIGGER gone_rename AFTER UPDATE OF name ON orders WHEN OLD.name <> NEW.name BEGIN
         INSERT INTO gone SELECT number + 1, OLD.name, NEW.name FROM last_number;
     END;
     CREATE TRIGGER gone_delete AFTER DELETE ON orders BEGIN
         INSERT INTO gone SELECT number + 1, OLD.name, NULL FROM last_number;
     END",
];
/// "pdup" in ASCII, in the file's `application_id`: tells our file from any other.
const APPLICATION_ID: i64 = 0x7064_7570;
/// "paid": that of files from before the first release, which are refused.
const UNRELEASED_ID: i64 = 0x7061_6964;
/// How long a statement waits while another process of ours writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages in the log at which it is to be moved into the file. 1,000 is SQLite's default; more means
/// that more of them are newer forms of the same page.
const LOG_PAGES: i32 = 4_000;
/// Pages at which a commit moves it itself, because nobody else has.
const LOG_PAGES_MAX: i32 = 12_000;
/// Bytes that the log's file keeps when it begins anew. It is longer only while somebody reads.
const LOG_BYTES_KEPT: i64 = 64 << 20;
/// Memory for pages, in KiB (the sign says so).
const CACHE_KIB: i64 = -16_384;
/// Statements kept ready. There are fewer.
const STATEMENTS_MAX: usize = 64;

/// One open database file.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    /// The file of its log.
    log: PathBuf,
    /// Pages in the log after the last commit.
    log_pages: Arc<AtomicI32>,
    /// Stripe's world that the file is of, once that is known to be on disk.
    mode: Option<Mode>,
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
            Err(error) if error::is_full(&error) => return Err(StoreError::Full),
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
        let store = Store {
            connection,
            log: files::beside(path, "-wal"),
            log_pages,
            mode: None,
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
        let store = Store {
            connection,
            log: files::beside(path, "-wal"),
            log_pages,
            mode: None,
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
        store
            .connection
            .pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
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
        self.keep_room_for_log()?;
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

    /// Whether [`Store::record`] would change an order now, be it only its amount. Nothing is stored.
    ///
    /// # Errors
    /// As [`Store::record`].
    pub fn would_change(&mut self, batch: &[Delivery]) -> Result<bool, StoreError> {
        let last = |db: &Connection| -> Result<i64, StoreError> {
            let mut last = db.prepare_cached("SELECT number FROM last_number")?;
            Ok(last.query_row([], |row| row.get(0))?)
        };
        let before = last(&self.connection)?;
        let (transaction, answers) = self.record_uncommitted(batch)?;
        answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        let after = last(&transaction)?;
        transaction.rollback()?;
        Ok(after > before)
    }

    fn record_uncommitted(
        &mut self,
        batch: &[Delivery],
    ) -> Result<(Transaction<'_>, Vec<Result<Receipt, StoreError>>), StoreError> {
        let mut transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Once settled it never changes. What this batch settles counts when it is committed.
        if self.mode.is_none() {
            self.mode = read_mode(&transaction)?;
        }
        let mut mode = self.mode;
        if let Some(watch) = &self.watch {
            watch.look_closely(&transaction)?;
        }
        // One alone needs no savepoint, which copies each page before it is changed: its failure is
        // that of the batch.
        if let [delivery] = batch {
            let answer = record_one(&transaction, delivery, &mut mode)?;
            return Ok((transaction, vec![Ok(answer)]));
        }
        let mut answers = Vec::with_capacity(batch.len());
        for delivery in batch {
            let savepoint = transaction.savepoint()?;
            let mut settled = mode;
            let answer = record_one(&savepoint, delivery, &mut settled);
            match &answer {
                Ok(_) => {
                    mode = settled;
                    savepoint.commit()?;
                }
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
        payments_for(&self.connection, order.id)
    }

    /// The same of an order that has at most `most`; `None` when it has more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn few_payments(
        &self,
        order: &StoredOrder,
        most: usize,
    ) -> Result<Option<Vec<Payment>>, StoreError> {
        let sql = "SELECT count(*) FROM (SELECT 1 FROM payment WHERE order_id = ?1 LIMIT ?2)";
        let most = i64::try_from(most).unwrap_or(i64::MAX - 1);
        let mut count = self.connection.prepare_cached(sql)?;
        let count: i64 = count.query_row([order.id, most + 1], |row| row.get(0))?;
        (count <= most).then(|| self.payments(order)).transpose()
    }

    /// Writes and syncs one row, to prove that the disk takes writes.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::record`].
    pub fn probe(&mut self, now: UnixSeconds) -> Result<(), StoreError> {
        self.keep_room_for_log()?;
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

    /// Stripe's world that the file is of; `None` while no event has settled it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn mode(&self) -> Result<Option<Mode>, StoreError> {
        read_mode(&self.connection)
    }

    /// Makes the file one of `wanted`, unless it is of the other mode already: test and live never mix.
    ///
    /// # Errors
    /// [`StoreError::OtherMode`], and others.
    pub fn settle_mode(&mut self, wanted: Mode) -> Result<(), StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        match read_mode(&transaction)? {
            Some(mode) if mode != wanted => return Err(StoreError::OtherMode(mode)),
            Some(_) => {}
            None => settle_mode(&transaction, Some(wanted))?,
        }
        Ok(transaction.commit()?)
    }

    /// As [`Store::probe`], without waiting for another process's lock.
    ///
    /// # Errors
    /// As [`Store::probe`]; [`StoreError::Busy`] while another process writes.
    pub fn probe_at_once(&mut self, now: UnixSeconds) -> Result<(), StoreError> {
        self.connection.busy_timeout(Duration::ZERO)?;
        let probed = self.probe(now);
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        probed
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
            parked: number(
                "SELECT count(*) FROM payment WHERE order_id IS NULL AND other_shop = 0",
            )?,
            database_bytes: number(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
            )?,
            log_bytes: self.log_bytes(),
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
        let order = object::of_order(&self.connection, object)?;
        order
            .map(|(_, id)| order_by_id(&self.connection, id))
            .transpose()
    }

    /// The payment that the Stripe object of that id belongs to, with its order; none while that is not
    /// known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn payment_of(&self, object: &str) -> Result<Option<(StoredOrder, Payment)>, StoreError> {
        let Some((payment, order)) = object::of_order(&self.connection, object)? else {
            return Ok(None);
        };
        let order = order_by_id(&self.connection, order)?;
        Ok(Some((order, payment_by_id(&self.connection, payment)?)))
    }

    /// Orders that say that they are for `reference` and do not bear its name, newest first, at most
    /// `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn orders_for(
        &self,
        reference: &str,
        limit: usize,
    ) -> Result<Vec<StoredOrder>, StoreError> {
        let sql = format!(
            "SELECT {ORDER_COLUMNS} FROM orders WHERE reference = ?2 ORDER BY id DESC LIMIT ?1"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![limit, reference], StoredOrder::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
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
        let id = self.pragma("application_id")?;
        if id == UNRELEASED_ID {
            return Err(StoreError::Unreleased);
        }
        let is_ours = id == APPLICATION_ID;
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
        const TREES: [(&str, &str); 18] = [
            ("payment", "id"),
            (
                "payment INDEXED BY payment_by_order WHERE order_id IS NOT NULL",
                "order_id",
            ),
            (
                "payment INDEXED BY payment_parked WHERE order_id IS NULL AND other_shop = 0",
                "id",
            ),
            ("object", "id"),
            ("event", "seq"),
            ("event", "id"),
            ("orders", "id"),
            ("orders", "name"),
            ("orders", "status"),
            ("orders", "changed"),
            (
                "orders INDEXED BY orders_by_reference WHERE reference IS NOT NULL",
                "reference",
            ),
            ("checkout", "key"),
            ("checkout", "order_name"),
            (
                "checkout INDEXED BY checkout_by_session WHERE session IS NOT NULL",
                "session",
            ),
            ("change", "order_id"),
            ("gone", "changed"),
            ("history", "began"),
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

    /// Moves the log into the file when nobody else has, and cuts it when somebody has read for long.
    /// To be called after each commit.
    fn move_long_log(&self) -> Result<(), StoreError> {
        if self.log_pages.load(Relaxed) < LOG_PAGES_MAX {
            return Ok(());
        }
        self.move_log()?;
        match self.overlong_log() {
            Some(_) => self.cut_log(),
            None => Ok(()),
        }
    }

    /// As long as somebody reads what was before, the log only grows. To move it into the file when
    /// that is over takes up to as much room as it has: before more is written, that much is free.
    /// Without it, a disk that the log has filled would be full for good.
    fn keep_room_for_log(&self) -> Result<(), StoreError> {
        if self.log_pages.load(Relaxed) < LOG_PAGES_MAX || self.has_room_for_log() {
            return Ok(());
        }
        self.cut_log()?;
        match self.has_room_for_log() {
            true => Ok(()),
            false => Err(StoreError::Full),
        }
    }

    fn has_room_for_log(&self) -> bool {
        files::free_bytes(files::folder_of(&self.log))
            .is_ok_and(|free| i64::try_from(free).map_or(true, |free| free >= self.log_bytes()))
    }

    /// How long the log's file is, if that is longer than it is left when nobody reads.
    #[must_use]
    pub fn overlong_log(&self) -> Option<i64> {
        Some(self.log_bytes()).filter(|bytes| *bytes > LOG_BYTES_KEPT)
    }

    /// How long the log's file is, with what of it is no longer needed.
    fn log_bytes(&self) -> i64 {
        let bytes = fs::metadata(&self.log).map_or(0, |metadata| metadata.len());
        i64::try_from(bytes).unwrap_or(i64::MAX)
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
        self.cut_log()?;
        log.sync()
            .and_then(|()| files::sync_folder_of(path))
            .map_err(|_| StoreError::Io(ffi::SQLITE_IOERR_FSYNC))
    }

    /// Moves all of the log into the file and makes it empty, unless somebody reads or writes.
    fn cut_log(&self) -> Result<(), StoreError> {
        // What another process still reads cannot be moved, and that is nothing to wait for.
        self.connection.busy_timeout(Duration::ZERO)?;
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let cut = self.connection.query_row(sql, [], |_| Ok(()));
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(unless_it_may_wait(cut)?)
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

fn read_mode(db: &Connection) -> Result<Option<Mode>, StoreError> {
    let mut read = db.prepare_cached("SELECT word FROM mode")?;
    let word = read
        .query_row([], |row| row.get::<_, String>(0))
        .optional()?;
    Ok(word.and_then(|word| Mode::parse(&word)))
}

fn settle_mode(db: &Connection, mode: Option<Mode>) -> Result<(), StoreError> {
    if let Some(mode) = mode {
        let sql = "INSERT INTO mode (id, word) VALUES (1, ?1) ON CONFLICT DO NOTHING";
        db.prepare_cached(sql)?.execute([mode.as_str()])?;
    }
    Ok(())
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
    /// Size of its log.
    pub log_bytes: i64,
}
