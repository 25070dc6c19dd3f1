//! Whether the files that SQLite has open are still those that the next start will find.
//!
//! SQLite keeps writing to a file whose name is gone, and syncs it. What is acknowledged then would be
//! in no file when the process ends. So a commit counts only if the names still lead to our files
//! after it.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, ffi};

use super::StoreError;
use crate::host::files;

/// How a log begins, but for the last bit: <https://www.sqlite.org/fileformat2.html#walformat>.
const LOG_MAGIC: u32 = 0x377f_0682;
const HEADER_BYTES: usize = 32;
/// Before each page in the log.
const FRAME_HEADER_BYTES: u64 = 24;
/// Where in that the log's salt is.
const FRAME_SALT_AT: u64 = 8;
/// How often the header is read: another process may be writing it at this very moment.
const READS: usize = 3;

/// What the header of a log says: magic number, format, page size, checkpoints, two salts, two sums.
type LogHeader = [u32; HEADER_BYTES / 4];

/// The files of an open database.
#[derive(Debug)]
pub(super) struct Watch {
    /// The database, its log and the log's index.
    files: [Named; 3],
    database_bytes: Cell<u64>,
    log: Option<Arc<Log>>,
}

impl Watch {
    /// To be called once SQLite has all three open.
    pub(super) fn of(database: &Path, log: Option<Arc<Log>>) -> Result<Watch, StoreError> {
        let real = files::real(database);
        Ok(Watch {
            files: [
                Named::of(database.to_owned())?,
                Named::of(files::beside(&real, "-wal"))?,
                Named::of(files::beside(&real, "-shm"))?,
            ],
            database_bytes: Cell::new(0),
            log,
        })
    }

    /// Shared by the server and the connection that moves its log.
    pub(super) fn log(&self) -> Option<Arc<Log>> {
        self.log.clone()
    }

    /// To be called after a commit and before it is acknowledged.
    pub(super) fn look(&self) -> Result<(), StoreError> {
        for file in &self.files {
            file.bytes()?;
        }
        if let Some(log) = &self.log {
            log.look(false)?;
        }
        Ok(())
    }

    /// To be called in a transaction that holds the write lock, before anything is written: nobody
    /// else changes the files then, so whatever is missing was cut off.
    pub(super) fn look_closely(&self, transaction: &Connection) -> Result<(), StoreError> {
        let [database, ..] = &self.files;
        let bytes = database.bytes()?;
        let is_same_log = match &self.log {
            Some(log) => log.look(true)?,
            None => false,
        };
        // A `VACUUM` shortens the file as well, but whatever follows it is in a new log.
        let is_shorter = bytes < self.database_bytes.get();
        if bytes == 0 || (is_shorter && is_same_log && bytes < bytes_wanted(transaction)?) {
            return Err(StoreError::Replaced);
        }
        self.database_bytes.set(bytes);
        Ok(())
    }
}

/// A name, and the device and inode that it led to.
#[derive(Debug)]
struct Named {
    path: PathBuf,
    identity: (u64, u64),
}

impl Named {
    fn of(path: PathBuf) -> Result<Named, StoreError> {
        let identity = files::identity(&path).map_err(|_| StoreError::Replaced)?;
        Ok(Named { path, identity })
    }

    /// The length of the file, if the name still leads there.
    fn bytes(&self) -> Result<u64, StoreError> {
        let found = fs::metadata(&self.path).map_err(|_| StoreError::Replaced)?;
        if (found.dev(), found.ino()) != self.identity {
            return Err(StoreError::Replaced);
        }
        Ok(found.len())
    }
}

fn bytes_wanted(transaction: &Connection) -> Result<u64, StoreError> {
    let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let bytes: i64 = transaction.query_row(sql, [], |row| row.get(0))?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// The server's own view of the log.
///
/// SQLite locks the database and the index, and never the log, so a descriptor of our own does no
/// harm. Only SQLite opens the other two: closing any descriptor of a file drops all locks of the
/// process on it (<https://www.sqlite.org/howtocorrupt.html>).
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    seen: Mutex<LogState>,
}

/// What the log was when it was last looked at.
#[derive(Clone, Copy, Debug, Default)]
struct LogState {
    salt: [u32; 2],
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

    /// Says whether it is still the log of the last look. A log is emptied, or begins anew with
    /// another salt; else it only grows.
    ///
    /// SQLite writes at the place that it remembers. So one that was cut off has a hole, zeros where
    /// the header or a frame began, and nothing behind that is ever read again.
    fn look(&self, is_closely: bool) -> Result<bool, StoreError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the salt: if that is still the same then, nobody has emptied the file meanwhile.
        let end = self.file.metadata().map_err(failed)?.len();
        let is_cut = self.is_cut(*seen, end)?;
        let Some(header) = self.header()? else {
            // A checkpoint may empty it, and a full disk may leave less than a header.
            return Ok(false);
        };
        let [_, _, page, _, salt @ .., _, _] = header;
        let is_same = seen.salt == salt;
        if !is_whole(&header) || (is_same && is_cut) {
            return Err(StoreError::Replaced);
        }
        // Without the write lock, another process may be beginning the log anew and shortening it: then
        // its length waits for the next close look.
        if is_closely || is_same {
            *seen = LogState { salt, page, end };
        }
        Ok(is_same)
    }

    /// The numbers of the header; `None` when the file is shorter.
    fn header(&self) -> Result<Option<LogHeader>, StoreError> {
        let mut header = [0; HEADER_BYTES];
        for _ in 0..READS {
            if self.read(&mut header, 0)? < HEADER_BYTES {
                return Ok(None);
            }
            if is_whole(&words(&header)) {
                break;
            }
        }
        Ok(Some(words(&header)))
    }

    /// Whether the frame that was the last in the file is no longer there. What a full disk has left
    /// of a frame does not count, and a frame never has the salt zero.
    fn is_cut(&self, seen: LogState, end: u64) -> Result<bool, StoreError> {
        let frame = FRAME_HEADER_BYTES + u64::from(seen.page);
        let header = HEADER_BYTES as u64;
        let frames = seen.end.saturating_sub(header) / frame;
        let Some(before) = frames.checked_sub(1) else {
            return Ok(false);
        };
        let last = header + before * frame;
        let mut salt = [0; 8];
        self.read(&mut salt, last + FRAME_SALT_AT)?;
        Ok(end < last + frame || salt == [0; 8])
    }

    /// How many bytes were read; fewer than asked for where the file ends before.
    fn read(&self, into: &mut [u8], at: u64) -> Result<usize, StoreError> {
        let mut read = 0;
        while let Some(rest) = into.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, at + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(read)
    }
}

/// The header's numbers, each of four bytes, the most significant first.
fn words(header: &[u8; HEADER_BYTES]) -> LogHeader {
    let mut words = [0; HEADER_BYTES / 4];
    for (word, bytes) in words.iter_mut().zip(header.as_chunks().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    words
}

/// Whether the header is one, and its last two numbers are the checksum of the others
/// (<https://www.sqlite.org/fileformat2.html#checksum_algorithm>).
fn is_whole(header: &LogHeader) -> bool {
    let [numbers @ .., one, two] = header;
    let [magic, ..] = numbers;
    let in_order = |number: u32| match magic & 1 {
        0 => number.swap_bytes(),
        _ => number,
    };
    let mut sum = (0_u32, 0_u32);
    for [even, odd] in numbers.as_chunks().0 {
        sum.0 = sum.0.wrapping_add(in_order(*even)).wrapping_add(sum.1);
        sum.1 = sum.1.wrapping_add(in_order(*odd)).wrapping_add(sum.0);
    }
    magic & !1 == LOG_MAGIC && sum == (*one, *two)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::UnixSeconds;
    use crate::store::Store;

    /// A database with some commits in its log.
    fn store() -> (tempfile::TempDir, PathBuf, Store) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("paidup.db");
        let mut store = Store::open(&path).unwrap();
        for second in 1..=5 {
            store.probe(UnixSeconds(second)).unwrap();
        }
        let log = files::beside(&path, "-wal");
        (folder, log, store)
    }

    /// Wherever it is cut: what is written behind the hole, the next start would not find.
    #[test]
    fn a_log_that_was_cut_off_is_told_before_the_next_write_is_acknowledged() {
        let frame = FRAME_HEADER_BYTES + 2048;
        let (_folder, log, _store) = store();
        let last = fs::metadata(log).unwrap().len() - frame;
        let into_the_last = [0, 8, 23, 24, 25, 2071].map(|bytes| last + bytes);
        for cut in (0..=40).chain(into_the_last) {
            let (_folder, log, mut store) = store();
            let log = File::options().write(true).open(log).unwrap();
            assert_eq!(log.metadata().unwrap().len(), last + frame);
            log.set_len(cut).unwrap();
            let met = store.probe(UnixSeconds(9));
            assert_eq!(met, Err(StoreError::Replaced), "cut to {cut}");
            assert_eq!(
                store.probe(UnixSeconds(9)),
                Err(StoreError::Replaced),
                "and stays told: {cut}"
            );
        }
    }

    /// What others may do: empty it, begin it anew, write to it.
    #[test]
    fn a_log_that_was_moved_into_the_file_is_as_good_as_before() {
        let (_folder, log, mut store) = store();
        let path = PathBuf::from(log.to_str().unwrap().trim_end_matches("-wal"));
        let mut other = Store::open_existing(&path).unwrap();
        for round in 0..20 {
            let other_db = Connection::open(&path).unwrap();
            for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
                let sql = format!("PRAGMA wal_checkpoint({mode})");
                other_db.query_row(&sql, [], |_| Ok(())).unwrap();
                assert_eq!(store.look(), Ok(()), "{round} {mode}");
                assert_eq!(store.probe(UnixSeconds(round)), Ok(()), "{round} {mode}");
                assert_eq!(other.probe(UnixSeconds(round)), Ok(()), "{round} {mode}");
                assert_eq!(store.probe(UnixSeconds(round)), Ok(()), "{round} {mode}");
            }
        }
    }
}
