//! Copies a database that is in use. The copy gets its name only when it is whole and on disk.

use std::ffi::c_int;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::{Store, StoreError};
use crate::host::files;

/// Pages copied before a pause, which leaves the disk to the server.
const STEP_PAGES: c_int = 512;
const PAUSE: Duration = Duration::from_millis(2);
/// How often the file to write is claimed again after somebody renamed it meanwhile.
const CLAIMS_MAX: u32 = 8;

/// Why there is no copy. There is no half of one either.
#[derive(Debug)]
pub enum CopyError {
    /// A file of that name is there, and may not be replaced.
    Exists(PathBuf),
    /// Another process is writing a copy of that name.
    Underway(PathBuf),
    /// A file or folder failed: which, and what the system says.
    File(PathBuf, io::Error),
    /// The database could not be read, or its copy not be written.
    Store(StoreError),
    /// The copy is not whole, so neither is the database: what SQLite's check says.
    Damaged(Vec<String>),
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyError::Exists(path) => write!(
                f,
                "{} is there already and stays as it is. Choose another name, or --force to replace \
                 it",
                path.display()
            ),
            CopyError::Underway(path) => write!(
                f,
                "another process is writing {} at this moment. Wait for it",
                path.display()
            ),
            CopyError::File(path, error) => write!(f, "{}: {error}", path.display()),
            CopyError::Store(StoreError::Full) => {
                f.write_str("no room on the disk for the copy. Make room there")
            }
            CopyError::Store(error) => write!(f, "{error}"),
            CopyError::Damaged(problems) => write!(
                f,
                "the database is damaged ({}), so the copy was not kept. Run `paidup db check`, and \
                 restore an older backup",
                problems.join("; ")
            ),
        }
    }
}

impl std::error::Error for CopyError {}

impl From<StoreError> for CopyError {
    fn from(error: StoreError) -> CopyError {
        CopyError::Store(error)
    }
}

impl From<rusqlite::Error> for CopyError {
    fn from(error: rusqlite::Error) -> CopyError {
        CopyError::Store(error.into())
    }
}

impl Store {
    /// Copies the database as it is at this moment to the file `to`, readable by its owner only,
    /// with no log beside it. Whoever writes meanwhile goes on.
    ///
    /// # Errors
    /// [`CopyError`]; then `to` is as it was before.
    pub fn copy_to(&self, to: &Path, may_replace: bool) -> Result<(), CopyError> {
        let is_free = |path: &Path| may_replace || fs::symlink_metadata(path).is_err();
        if !is_free(to) {
            return Err(CopyError::Exists(to.to_owned()));
        }
        let partial = files::beside(to, ".partial");
        let claim = claim(&partial)?;
        let named = self.write_copy(&partial, &claim).and_then(|()| {
            let failed = |error| CopyError::File(to.to_owned(), error);
            claim.sync_all().map_err(failed)?;
            if !is_free(to) {
                return Err(CopyError::Exists(to.to_owned()));
            }
            fs::rename(&partial, to).map_err(failed)?;
            files::sync_folder_of(to).map_err(failed)
        });
        if named.is_err() {
            let _ = fs::remove_file(&partial);
        }
        named
    }

    fn write_copy(&self, partial: &Path, claim: &File) -> Result<(), CopyError> {
        copy_pages(&self.connection, partial, claim)?;
        let copy = Store::open_query_only_with(partial, self.schema)?;
        let problems = copy.damage()?;
        if !problems.is_empty() {
            return Err(CopyError::Damaged(problems));
        }
        if copy.schema_version()? != self.schema_version()? {
            return Err(CopyError::Store(StoreError::Unreadable));
        }
        Ok(())
    }
}

/// The pages of one snapshot, in steps.
///
/// Without the transaction, a copy would begin again whenever another process writes
/// (<https://www.sqlite.org/c3ref/backup_finish.html>), and would never end under load. With it,
/// SQLite shows this connection the same moment until the end, and in WAL mode a reader delays no
/// writer (<https://www.sqlite.org/wal.html#concurrency>).
///
/// Each step but the last is synced here, and the last by the caller: one sync of the whole at the
/// end made the server's own sync wait for 80 ms.
fn copy_pages(source: &Connection, partial: &Path, claim: &File) -> Result<(), CopyError> {
    let snapshot = source.unchecked_transaction()?;
    snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let mut target = Connection::open(partial)?;
    // Nobody needs this file before it is renamed, so SQLite syncs nothing: we do, step by step.
    target.pragma_update(None, "journal_mode", "OFF")?;
    target.pragma_update(None, "synchronous", "OFF")?;
    let backup = Backup::new(&snapshot, &mut target)?;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the list may grow, and whatever is new is no progress"
    )]
    loop {
        match backup.step(STEP_PAGES)? {
            StepResult::Done => break,
            StepResult::More => {
                let failed = |error| CopyError::File(partial.to_owned(), error);
                claim.sync_data().map_err(failed)?;
                thread::sleep(PAUSE);
            }
            _ => return Err(CopyError::Store(StoreError::Busy)),
        }
    }
    drop(backup);
    // One file, with nothing beside it: a backup must survive being moved by hand.
    Ok(target.pragma_update(None, "journal_mode", "DELETE")?)
}

/// Makes or empties the file, and keeps other processes from doing the same.
///
/// SQLite's own locks are lost when any handle of this process to the file is closed, so the
/// returned one has to outlive every connection to it: <https://www.sqlite.org/howtocorrupt.html>.
pub(super) fn claim(partial: &Path) -> Result<File, CopyError> {
    let failed = |error| CopyError::File(partial.to_owned(), error);
    for _ in 0..CLAIMS_MAX {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(partial)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(CopyError::Underway(partial.to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Whoever held the lock may have given the file its final name a moment ago. Then it is
        // no longer ours to empty.
        let ours = file.metadata().map_err(failed)?;
        let named = fs::symlink_metadata(partial);
        if named.is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())) {
            // A killed process may have left SQLite's own files beside it.
            for suffix in ["-wal", "-shm", "-journal"] {
                files::remove(&files::beside(partial, suffix)).map_err(failed)?;
            }
            file.set_len(0).map_err(failed)?;
            file.set_permissions(Permissions::from_mode(0o600))
                .map_err(failed)?;
            return Ok(file);
        }
    }
    Err(CopyError::Underway(partial.to_owned()))
}
