//! Who may serve a database: one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::files;

/// Held for as long as a process serves the database, or puts another one in its place. Commands
/// that read or write beside the server do not need it.
///
/// The kernel lets go of it when the process ends, however it ends, so there is no stale lock. The
/// file stays: removing it would let two processes lock two files of one name.
#[derive(Debug)]
pub struct ServeLock {
    _file: File,
}

impl ServeLock {
    /// The file that is locked: the database's name and `.lock`.
    #[must_use]
    pub fn path(database: &Path) -> PathBuf {
        files::beside(database, ".lock")
    }

    /// Takes the lock; `None` when another process holds it.
    ///
    /// # Errors
    /// The operating system's, when the file cannot be made or locked.
    pub fn take(database: &Path) -> io::Result<Option<ServeLock>> {
        let path = ServeLock::path(database);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(ServeLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}
