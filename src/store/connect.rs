//! Connects to the file, and refuses one that is not ours before anything in it is touched.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::wal::LOG_BYTES_KEPT;
use super::{BUSY_TIMEOUT, SCHEMA_VERSION, Store, StoreError, UseLock};
use crate::host::files;

/// A schema, and the way to it from older ones.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) version: i64,
    /// What makes it in an empty file.
    pub(super) sql: &'static str,
    /// What turns each older schema into the next: the first one schema 1 into 2.
    pub(super) steps: &'static [&'static str],
}

/// The schema that this program writes.
pub(super) static SCHEMA: Schema = Schema {
    version: SCHEMA_VERSION,
    sql: include_str!("../../schema.sql"),
    steps: &[],
};

/// "pdu1" in ASCII, in the file's `application_id`: tells our file from any other.
pub(super) const APPLICATION_ID: i64 = 0x7064_7531;
/// "paid" and "pdup": those of files from before the first release. Their schemas had numbers of
/// their own, so a number alone would not tell them from ours.
const UNRELEASED_IDS: [i64; 2] = [0x7061_6964, 0x7064_7570];
/// Memory for pages, in KiB (the sign says so).
const CACHE_KIB: i64 = -16_384;
/// Statements kept ready. There are fewer.
const STATEMENTS_MAX: usize = 64;

impl Store {
    /// Opens a file of any schema up to ours, to copy it or to look at it. No statement can change it.
    ///
    /// The connection may write all the same: SQLite finishes or undoes what a killed process left
    /// half done when it opens the file, and cannot do so read-only
    /// (<https://www.sqlite.org/wal.html#read_only_databases>).
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_query_only(path: &Path) -> Result<Store, StoreError> {
        Store::open_query_only_with(path, &SCHEMA)
    }

    pub(super) fn open_query_only_with(
        path: &Path,
        schema: &'static Schema,
    ) -> Result<Store, StoreError> {
        let lock = share_existing(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // The last connection empties the log into the file and deletes it. That is for whoever has
        // written it; an empty one comes and goes with this connection.
        let keep = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        connection.set_db_config(keep, has_log(path))?;
        connection.pragma_update(None, "query_only", true)?;
        Store::of(connection, path, Arc::default(), lock, schema)
    }

    /// Opens a file of our schema to read it, also where nothing may be written. No statement can change
    /// it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_to_read(path: &Path) -> Result<Store, StoreError> {
        let store = match Store::open_query_only(path) {
            Err(StoreError::CannotOpen) => Store::open_frozen(path)?,
            opened => opened?,
        };
        match store.schema_version()? {
            SCHEMA_VERSION => Ok(store),
            older => Err(StoreError::Older(older)),
        }
    }

    /// Opens a file that nobody has open and that has no log, without the files beside it that SQLite
    /// makes for everybody else (<https://www.sqlite.org/wal.html#read_only_databases>).
    fn open_frozen(path: &Path) -> Result<Store, StoreError> {
        if has_log(path) || UseLock::is_held(path) {
            return Err(StoreError::LogNeedsWriting);
        }
        let lock = share_existing(path)?;
        let name = path.as_os_str().as_encoded_bytes();
        let name = percent_encode(name, NON_ALPHANUMERIC);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(format!("file:{name}?immutable=1"), flags)?;
        Store::of(connection, path, Arc::default(), lock, &SCHEMA)
    }

    pub(super) fn connect(
        path: &Path,
        lock: Option<UseLock>,
        schema: &'static Schema,
    ) -> Result<Store, StoreError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        let log_pages = Arc::new(AtomicI32::new(0));
        let counted = Arc::clone(&log_pages);
        // In place of SQLite's own hook, which moves the log into the file and says nothing when that
        // fails.
        connection.wal_hook(Some(move |_: &mut Wal, pages| {
            counted.store(pages, Relaxed);
            Ok(())
        }))?;
        let store = Store::of(connection, path, log_pages, lock, schema)?;
        let db = &store.connection;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "foreign_keys", true)?;
        db.pragma_update(None, "cache_size", CACHE_KIB)?;
        db.pragma_update(None, "temp_store", "MEMORY")?;
        db.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
        Ok(store)
    }

    fn of(
        connection: Connection,
        path: &Path,
        log_pages: Arc<AtomicI32>,
        lock: Option<UseLock>,
        schema: &'static Schema,
    ) -> Result<Store, StoreError> {
        let store = Store {
            connection,
            log: files::beside(path, "-wal"),
            log_pages,
            mode: None,
            watch: None,
            lock,
            schema,
        };
        store.refuse_what_is_not_ours()?;
        Ok(store)
    }

    /// Refuses a file that another program or a newer paidup has written, before anything in it
    /// is touched.
    fn refuse_what_is_not_ours(&self) -> Result<(), StoreError> {
        let version = self.schema_version()?;
        if UNRELEASED_IDS.contains(&self.pragma("application_id")?) {
            return Err(StoreError::Unreleased);
        }
        if !is_ours(&self.connection)? {
            return Err(StoreError::NotOurs);
        }
        if version > self.schema.version {
            return Err(StoreError::Newer(version));
        }
        Ok(())
    }

    pub(super) fn schema_version(&self) -> Result<i64, StoreError> {
        self.pragma("user_version")
    }

    fn pragma(&self, name: &str) -> Result<i64, StoreError> {
        let sql = format!("PRAGMA {name}");
        Ok(self.connection.query_row(&sql, [], |row| row.get(0))?)
    }
}

/// A transaction that has the write lock from its beginning.
pub(super) fn begin(db: &mut Connection) -> Result<Transaction<'_>, StoreError> {
    Ok(db.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

/// Shares the lock of a file that must be there.
pub(super) fn share_existing(path: &Path) -> Result<Option<UseLock>, StoreError> {
    let lock = UseLock::share(path)?;
    refuse_empty(path, lock.as_ref())?;
    match path.exists() {
        true => Ok(lock),
        false => Err(StoreError::Missing),
    }
}

/// Whether the file is of this program.
pub(super) fn is_ours(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row(
        "SELECT application_id = ?1 FROM pragma_application_id",
        [APPLICATION_ID],
        |row| row.get(0),
    )
}

/// A file is whole when it gets its name, so an empty one has lost what it held, or never held anything.
pub(super) fn refuse_empty(path: &Path, lock: Option<&UseLock>) -> Result<(), StoreError> {
    refuse_lone_log(path)?;
    match fs::metadata(path) {
        Ok(found) if found.len() == 0 && found.is_file() => Err(match lock {
            Some(_) => StoreError::Vanished,
            None => StoreError::Empty,
        }),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// SQLite deletes the log of an empty file, and with it what was acknowledged.
fn refuse_lone_log(path: &Path) -> Result<(), StoreError> {
    let is_empty = fs::metadata(path).map_or(0, |found| found.len()) == 0;
    match is_empty && has_log(path) {
        true => Err(StoreError::LoneLog),
        false => Ok(()),
    }
}

fn has_log(path: &Path) -> bool {
    let log = fs::metadata(files::beside(&files::real(path), "-wal"));
    log.is_ok_and(|log| log.len() > 0)
}
