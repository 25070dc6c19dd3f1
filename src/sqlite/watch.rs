//! Whether the files that SQLite has open are still those that the next start will find.
//!
//! SQLite goes on writing to a file whose name is gone, and syncs it. What was acknowledged then would
//! be in no file when the process ends. So a commit counts when the names lead to our files after it.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, ffi};

use super::StoreError;
use crate::files;

/// What a log begins with, but for its last bit: <https://www.sqlite.org/fileformat2.html#walformat>.
const LOG_MAGIC: u32 = 0x377f_0682;

/// The files of an open database.
#[derive(Debug)]
pub(super) struct Watch {
    /// The database, its log and the log's index: their names, and which files they are.
    files: [(PathBuf, (u64, u64)); 3],
    database_bytes: Cell<u64>,
    log: Option<Arc<Log>>,
}

impl Watch {
    /// To be called once SQLite has all three open.
    pub(super) fn of(database: &Path, log: Option<Arc<Log>>) -> Result<Watch, StoreError> {
        let real = files::real(database);
        let of = |path: PathBuf| {
            let identity = files::identity(&path).map_err(|_| StoreError::Replaced)?;
            Ok::<_, StoreError>((path, identity))
        };
        Ok(Watch {
            files: [
                of(database.to_owned())?,
                of(files::beside(&real, "-wal"))?,
                of(files::beside(&real, "-shm"))?,
            ],
            database_bytes: Cell::new(0),
            log,
        })
    }

    /// What the server and the connection that moves its log have in common.
    pub(super) fn log(&self) -> Option<Arc<Log>> {
        self.log.clone()
    }

    /// To be asked after a commit and before anything is acknowledged.
    pub(super) fn look(&self) -> Result<(), StoreError> {
        self.look_at_names()?;
        if let Some(log) = &self.log {
            log.look(false)?;
        }
        Ok(())
    }

    /// To be asked in a transaction that holds the write lock, before anything is written: nobody
    /// else changes the files then, so what they lack, somebody has cut off.
    pub(super) fn look_closely(&self, transaction: &Connection) -> Result<(), StoreError> {
        let bytes = self.look_at_names()?;
        let is_same_log = match &self.log {
            Some(log) => log.look(true)?,
            None => false,
        };
        // A `VACUUM` shortens the file as well, and what is written after it is in a new log.
        let is_shorter = bytes < self.database_bytes.get();
        if bytes == 0 || (is_shorter && is_same_log && bytes < bytes_wanted(transaction)?) {
            return Err(StoreError::Replaced);
        }
        self.database_bytes.set(bytes);
        Ok(())
    }

    /// The length of the database's file.
    fn look_at_names(&self) -> Result<u64, StoreError> {
        let mut bytes = None;
        for (path, identity) in &self.files {
            let found = fs::metadata(path).map_err(|_| StoreError::Replaced)?;
            if (found.dev(), found.ino()) != *identity {
                return Err(StoreError::Replaced);
            }
            bytes.get_or_insert(found.len());
        }
        Ok(bytes.unwrap_or(0))
    }
}

fn bytes_wanted(transaction: &Connection) -> Result<u64, StoreError> {
    let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let bytes: i64 = transaction.query_row(sql, [], |row| row.get(0))?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// The server's own view of the log.
///
/// SQLite has locks on the database and on the index, and none on the log, so a descriptor of our own
/// takes nothing from it. The other two are never opened but by SQLite: closing any descriptor of a
/// file drops all locks of the process on it (<https://www.sqlite.org/howtocorrupt.html>).
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    seen: Mutex<Seen>,
}

/// What the log was when it was last looked at closely.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    salt: u64,
    page: u32,
    /// Its length.
    end: u64,
}

fn failed(_: io::Error) -> StoreError {
    StoreError::Io(ffi::SQLITE_IOERR_READ)
}

impl Log {
    pub(super) fn of(database: &Path) -> io::Result<Log> {
        Ok(Log {
            file: File::open(files::beside(&files::real(database), "-wal"))?,
            seen: Mutex::default(),
        })
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// A log is emptied, or begins anew with another salt; else it only grows. SQLite writes at the
    /// place that it remembers, so one that was cut off has a hole: zeros where a frame began, and
    /// nothing behind it is ever read again. Says whether it is the log of the last close look.
    fn look(&self, is_closely: bool) -> Result<bool, StoreError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the salt: if that is still the same then, nobody has emptied the file meanwhile.
        let is_cut = self.is_cut(*seen)?;
        let Some(magic) = self.read(0)? else {
            // A checkpoint may empty it.
            return Ok(false);
        };
        let page = self.read(8)?.map_or(0, u32::from_be_bytes);
        let salt = self.read(16)?.map_or(0, u64::from_be_bytes);
        let is_same = seen.salt == salt;
        if u32::from_be_bytes(magic) & !1 != LOG_MAGIC || (is_same && is_cut) {
            return Err(StoreError::Replaced);
        }
        if is_closely {
            let end = self.file.metadata().map_err(failed)?.len();
            *seen = Seen { salt, page, end };
        }
        Ok(is_same)
    }

    /// Whether the frame that was the last in the file is no longer there. What a full disk has left
    /// of a frame is none, and a frame never has the salt zero.
    fn is_cut(&self, seen: Seen) -> Result<bool, StoreError> {
        const HEADER_BYTES: u64 = 32;
        const FRAME_HEADER_BYTES: u64 = 24;
        let frame = u64::from(seen.page) + FRAME_HEADER_BYTES;
        let frames = seen.end.saturating_sub(HEADER_BYTES) / frame;
        let Some(before) = frames.checked_sub(1) else {
            return Ok(false);
        };
        let begin = HEADER_BYTES + before * frame;
        let last = self.read::<1>(begin + frame - 1)?;
        let salt = self.read::<8>(begin + 8)?;
        Ok(last.is_none() || salt.is_none_or(|salt| salt == [0; 8]))
    }

    /// None when the file ends before.
    fn read<const BYTES: usize>(&self, at: u64) -> Result<Option<[u8; BYTES]>, StoreError> {
        let mut read = [0; BYTES];
        match self.file.read_exact_at(&mut read, at) {
            Ok(()) => Ok(Some(read)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}
