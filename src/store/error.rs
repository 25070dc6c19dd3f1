//! Why the database could not be used, in the words of SQLite, of the log and of an operator.

use std::fmt;
use std::io;
use std::path::Path;

use rusqlite::{ErrorCode as Code, ffi};

use super::SCHEMA_VERSION;
use crate::base::log_line::ErrorCode;
use crate::host::files::is_full;
use crate::truth::reading::Mode;

/// Why the database could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// There is no such file, and it may not be made here.
    Missing,
    /// The folder or the file cannot be opened for writing.
    CannotOpen,
    /// Another process has held the write lock for longer than five seconds.
    Busy,
    /// No room: on the disk, in a quota, or within a limit on the size of files.
    Full,
    /// Reading, writing or syncing failed: SQLite's extended code. What is on disk is not known.
    Io(i32),
    /// The file is damaged.
    Corrupt,
    /// A row is not as we write them: somebody else's hand, or a newer program's.
    Unreadable,
    /// We panicked while we wrote. What was being written is undone.
    Panicked,
    /// The file is not a database of paidup's.
    NotOurs,
    /// A newer paidup has written the file: the version found.
    Newer(i64),
    /// An older paidup has written the file, and only the server brings it up to date: the version
    /// found.
    Older(i64),
    /// A paidup that was never released has written the file.
    Unreleased,
    /// The file is of this mode, and something of the other was wanted.
    OtherMode(Mode),
    /// The file was to be brought up to date, and the backup before that failed: why.
    NotBackedUp(String),
    /// There is a log (`-wal`) with events in it, and the file that it belongs to is missing or
    /// empty.
    LoneLog,
    /// The database was made here once, and the file is missing or empty.
    Vanished,
    /// There is a file, and it is empty: it is no database, and nobody says that one is to begin here.
    Empty,
    /// There is a log (`-wal`) that cannot be read where nothing may be written.
    LogNeedsWriting,
    /// The files were deleted, replaced or cut off while they were open: what was just written is in
    /// none that the next start finds.
    Replaced,
    /// Another file is being put in its place at this moment.
    BeingRestored,
    /// A look at it was not over by its deadline.
    TookLong,
    /// Anything else: SQLite's extended code.
    Other(i32),
}

impl StoreError {
    /// The process must not go on: nobody knows what the disk holds.
    #[must_use]
    pub(crate) fn is_fatal(&self) -> bool {
        match self {
            StoreError::Io(_) | StoreError::Corrupt => true,
            StoreError::Missing
            | StoreError::CannotOpen
            | StoreError::Busy
            | StoreError::Full
            | StoreError::Unreadable
            | StoreError::Panicked
            | StoreError::NotOurs
            | StoreError::Newer(_)
            | StoreError::Older(_)
            | StoreError::Unreleased
            | StoreError::OtherMode(_)
            | StoreError::NotBackedUp(_)
            | StoreError::LoneLog
            | StoreError::Vanished
            | StoreError::Empty
            | StoreError::LogNeedsWriting
            | StoreError::Replaced
            | StoreError::BeingRestored
            | StoreError::TookLong
            | StoreError::Other(_) => false,
        }
    }

    /// The code in the log.
    #[must_use]
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            StoreError::Busy | StoreError::BeingRestored => ErrorCode::StoreBusy,
            StoreError::TookLong => ErrorCode::QueryTimeout,
            StoreError::Full => ErrorCode::StoreFull,
            StoreError::Replaced => ErrorCode::StoreReplaced,
            StoreError::Panicked => ErrorCode::InternalError,
            StoreError::Missing
            | StoreError::CannotOpen
            | StoreError::Io(_)
            | StoreError::Corrupt
            | StoreError::Unreadable
            | StoreError::NotOurs
            | StoreError::Newer(_)
            | StoreError::Older(_)
            | StoreError::Unreleased
            | StoreError::OtherMode(_)
            | StoreError::NotBackedUp(_)
            | StoreError::LoneLog
            | StoreError::Vanished
            | StoreError::Empty
            | StoreError::LogNeedsWriting
            | StoreError::Other(_) => ErrorCode::StoreFailed,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().replace(PLACE, "DATABASE_PATH"))
    }
}

impl StoreError {
    /// The same for whoever knows which file it is.
    #[must_use]
    pub(crate) fn at(&self, database: &Path) -> String {
        self.words().replace(PLACE, &database.display().to_string())
    }

    fn words(&self) -> String {
        match self {
            StoreError::Missing => MISSING,
            StoreError::CannotOpen => CANNOT_OPEN,
            StoreError::Busy => BUSY,
            StoreError::Full => FULL,
            StoreError::Io(code) => {
                return format!("the database's disk failed (SQLite error {code}). {AFTER_IO}");
            }
            StoreError::Corrupt => CORRUPT,
            StoreError::Unreadable => UNREADABLE_ROW,
            StoreError::Panicked => PANICKED,
            StoreError::NotOurs => NOT_OURS,
            StoreError::Newer(version) => return newer(*version),
            StoreError::Older(version) => return older(*version),
            StoreError::Unreleased => UNRELEASED,
            StoreError::OtherMode(mode) => return other_mode(*mode),
            StoreError::NotBackedUp(why) => return not_backed_up(why),
            StoreError::LoneLog => LONE_LOG,
            StoreError::Vanished => VANISHED,
            StoreError::Empty => EMPTY,
            StoreError::LogNeedsWriting => LOG_NEEDS_WRITING,
            StoreError::Replaced => REPLACED,
            StoreError::BeingRestored => BEING_RESTORED,
            StoreError::TookLong => TOOK_LONG,
            StoreError::Other(code) => {
                return format!("the database refused (SQLite error {code})");
            }
        }
        .to_owned()
    }
}

/// Stands for the file.
const PLACE: &str = "{file}";
const MISSING: &str = "there is no database at {file}. Check the path; `paidup serve` makes \
    the file when it starts";
const CANNOT_OPEN: &str = "the database at {file} cannot be opened for writing. Check that \
    its folder exists and belongs to the user that paidup runs as";
const BUSY: &str = "another process holds the database's write lock. Wait for it, or end it: a \
    backup or a sqlite3 shell with an open transaction";
const FULL: &str = "no room for the database: its disk is full, or a quota or a limit on the size of \
    files is reached. Deliveries are refused with 503 and Stripe retries them for up to three days. \
    Make room or raise the limit; no other action is needed";
const AFTER_IO: &str = "What is on disk is not known. Look at `dmesg`, then run `paidup check`";
const CORRUPT: &str = "the database is damaged, or its disk cannot be read. It is left as it is. Stop \
    the server, look at `dmesg`, see what `paidup db check` says, and put the last backup in its \
    place: `paidup restore FILE`";
const UNREADABLE_ROW: &str = "a row in the database is not as paidup writes it. Nothing was changed. \
    Undo what was done to it by hand, or restore the last backup";
const PANICKED: &str = "paidup has a defect and failed while it wrote. Nothing of that is stored; \
    Stripe retries for up to three days. The log line \"Panic\" names the place: upgrade paidup, or \
    report that line";
const NOT_OURS: &str = "the file at {file} is not a database of paidup's, or its beginning is \
    damaged. It is left alone. Check DATABASE_PATH; if it is right, `paidup restore FILE` puts the \
    last backup in its place";
const UNRELEASED: &str = "the database was written by a paidup from before its first release, and \
    this one cannot read it. It is left alone. Stop paidup, move the file away with its -wal, -shm \
    and .in-use, start the server, and run `paidup reconcile`: Stripe keeps events for 30 days";
const LONE_LOG: &str = "beside {file} is a log (-wal) with orders in it, and the file that it \
    belongs to is missing or empty. A new database would destroy it, so none was made. Put the file \
    back, or restore the last backup: `paidup restore FILE`";
const VANISHED: &str = "the database that was made at {file} is gone: its lock file (.in-use) \
    is there, and the file is missing or empty. A new one would answer 200 and know none of the old \
    orders, so none was made. Put the file back with all that was beside it, or restore the last \
    backup: `paidup restore FILE`. To begin anew without the old orders, delete the .in-use file";
const EMPTY: &str = "the file at {file} is empty: it is no database, and no new one either, because a new \
    one would answer 200 and know none of the old orders. If there were orders, restore the last backup: \
    `paidup restore FILE`. To begin anew, delete the file; check DATABASE_PATH";
const LOG_NEEDS_WRITING: &str = "the latest orders are in the log (-wal) beside {file}, and SQLite reads it \
    only where it may write. Run this as the owner of the folder, or copy the file and its -wal to a folder \
    of your own, and name the copy in DATABASE_PATH";
const REPLACED: &str = "the database's files ({file}, -wal, -shm) were deleted, moved, \
    replaced or cut off while they were open. What is written now would be lost, so nothing is \
    acknowledged. Move the same files back; or stop the server, `paidup restore FILE` with the last \
    backup, start it, and `paidup reconcile --since 30d`";
const TOOK_LONG: &str = "this took too long and was ended, so that it holds up no delivery. Ask for less: one \
    filter instead of two, or more of the name's beginning";
const BEING_RESTORED: &str =
    "the database is being restored at this moment. Try again when that is done";

fn newer(version: i64) -> String {
    format!(
        "the database has schema {version}, and this paidup knows up to {SCHEMA_VERSION}. Install the \
         newer paidup again; the file is left alone"
    )
}

fn older(version: i64) -> String {
    format!(
        "the database has schema {version}, and this paidup needs {SCHEMA_VERSION}. Start the server: \
         it makes a backup and brings the file up to date"
    )
}

fn other_mode(mode: Mode) -> String {
    format!(
        "the database is of {} mode, and test and live never mix. Set STRIPE_MODE and \
         STRIPE_SECRET_KEY to {0} mode, or name another file in DATABASE_PATH",
        mode.as_str()
    )
}

fn not_backed_up(why: &str) -> String {
    format!(
        "the database must be brought up to date, and the backup before that failed: {why}. Nothing \
         was changed. Repair that and start again"
    )
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

/// A value in a row that we did not write.
pub(super) const UNREADABLE: rusqlite::Error = rusqlite::Error::InvalidQuery;

/// A file of the database could not be written or, for `-shm`, made longer. A failed sync is none
/// of these: after that, nobody knows what is on disk.
fn is_write(extended: i32) -> bool {
    matches!(
        extended,
        ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE
    )
}

/// SQLite knows ENOSPC alone, and of other refusals for want of room it keeps the number to itself where
/// safe Rust cannot ask. But it sets this thread's `errno` by the write that failed, and undoing a
/// transaction makes no call that fails; tests/disk lets every single write of a delivery fail to show
/// it. Were it lost after all, the error would be the fatal one: nothing is committed either way.
pub(super) fn from_sqlite(failure: ffi::Error) -> StoreError {
    let extended = failure.extended_code;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "SQLite's list, and it may grow"
    )]
    match failure.code {
        Code::DatabaseBusy | Code::DatabaseLocked => StoreError::Busy,
        Code::DiskFull => StoreError::Full,
        Code::OperationInterrupted => StoreError::TookLong,
        Code::SystemIoFailure if is_write(extended) && is_full(&io::Error::last_os_error()) => {
            StoreError::Full
        }
        Code::SystemIoFailure => StoreError::Io(extended),
        Code::DatabaseCorrupt => StoreError::Corrupt,
        Code::NotADatabase => StoreError::NotOurs,
        Code::CannotOpen | Code::ReadOnly | Code::PermissionDenied => StoreError::CannotOpen,
        _ => StoreError::Other(extended),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn no_room_is_told_by_the_systems_number() {
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
            assert!(is_full(&errno.into()), "{errno:?}");
        }
        for errno in [
            Errno::IO,
            Errno::ROFS,
            Errno::MFILE,
            Errno::ACCESS,
            Errno::NXIO,
        ] {
            assert!(!is_full(&errno.into()), "{errno:?}");
        }
    }
}
