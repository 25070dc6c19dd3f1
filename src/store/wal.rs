//! When the log (`-wal`) is moved into the file: SQLite calls it a checkpoint.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rusqlite::ffi;

use super::error::from_sqlite;
use super::watch::Log;
use super::{BUSY_TIMEOUT, Store, StoreError};
use crate::host::files;

/// Pages in the log from which on it is moved. 1,000 is SQLite's default; with more, more of them
/// are newer copies of the same page.
const LOG_PAGES: i32 = 4_000;
/// Pages from which on a commit moves it itself, because nobody else has.
const LOG_PAGES_MAX: i32 = 12_000;
/// Bytes that the log's file keeps when it begins anew. It is longer only while somebody reads.
pub(super) const LOG_BYTES_KEPT: i64 = 64 << 20;

impl Store {
    /// Whether the log has become so long that it is time to [`Store::move_log`].
    pub(super) fn has_long_log(&self) -> bool {
        self.log_pages.load(Relaxed) >= LOG_PAGES
    }

    /// Moves the log into the file. Other connections go on writing meanwhile, and what they add
    /// stays in the log; it begins anew with the first commit that finds all of it moved.
    ///
    /// # Errors
    /// [`StoreError`]. Having to wait, for room or for a reader, is not an error.
    pub(super) fn move_log(&self) -> Result<(), StoreError> {
        // A log that was cut off must not get into the file.
        self.look()?;
        let mut moving = self.connection.prepare_cached("PRAGMA wal_checkpoint")?;
        Ok(unless_it_may_wait(moving.query_row([], |_| Ok(())))?)
    }

    /// Moves the log into the file when nobody else has, and cuts it when somebody has read for long.
    /// To be called after each commit.
    pub(super) fn move_long_log(&self) -> Result<(), StoreError> {
        if self.log_pages.load(Relaxed) < LOG_PAGES_MAX {
            return Ok(());
        }
        self.move_log()?;
        match self.overlong_log() {
            Some(_) => self.cut_log(),
            None => Ok(()),
        }
    }

    /// While somebody reads an older state, the log only grows. Moving it into the file after that
    /// takes up to as much room as the log has, so that much must be free before more is written.
    /// Without it, a disk that the log has filled would be full for good.
    pub(super) fn keep_room_for_log(&self) -> Result<(), StoreError> {
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

    /// The length of the log's file, if it is longer than it is left when nobody reads.
    #[must_use]
    pub(crate) fn overlong_log(&self) -> Option<i64> {
        Some(self.log_bytes()).filter(|bytes| *bytes > LOG_BYTES_KEPT)
    }

    /// The length of the log's file, including what is no longer needed.
    pub(super) fn log_bytes(&self) -> i64 {
        let bytes = fs::metadata(&self.log).map_or(0, |metadata| metadata.len());
        i64::try_from(bytes).unwrap_or(i64::MAX)
    }

    /// Moves the log into the file, and syncs what is left of it and the names of the files.
    ///
    /// What a killed process left in the log was perhaps never synced, and after a failed sync the
    /// kernel shows what never reached the disk. If Stripe resent such events we would answer
    /// "already stored", and the next power cut would lose them.
    pub(super) fn settle_log(&self, path: &Path, log: &Log) -> Result<(), StoreError> {
        self.cut_log()?;
        log.sync()
            .and_then(|()| files::sync_folder_of(path))
            .map_err(|_| StoreError::Io(ffi::SQLITE_IOERR_FSYNC))
    }

    /// Moves all of the log into the file and empties it, unless somebody reads or writes.
    fn cut_log(&self) -> Result<(), StoreError> {
        // What another process still reads cannot be moved, and waiting for it would not help.
        self.connection.busy_timeout(Duration::ZERO)?;
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let cut = self.connection.query_row(sql, [], |_| Ok(()));
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(unless_it_may_wait(cut)?)
    }
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
