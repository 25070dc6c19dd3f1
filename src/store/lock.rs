//! Who may serve a database, and who has it open.
//!
//! The kernel releases a lock when the process ends, however it ends, so no lock is ever stale. The
//! files stay: removing one would let two processes lock two files of the same name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::{BUSY_TIMEOUT, StoreError};
use crate::host::files;

/// How long to wait before a lock is tried again.
const PAUSE: Duration = Duration::from_millis(10);

/// Held for as long as a process serves the database, or puts another one in its place. Commands
/// that read or write beside the server do not need it.
#[derive(Debug)]
pub struct ServeLock {
    _file: File,
}

impl ServeLock {
    /// The file that is locked: the database's name and `.lock`.
    #[must_use]
    pub fn path(database: &Path) -> PathBuf {
        files::beside(&files::real(database), ".lock")
    }

    /// Takes the lock; `None` when another process holds it.
    ///
    /// # Errors
    /// The operating system's, when the file cannot be made or locked.
    pub fn take(database: &Path) -> io::Result<Option<ServeLock>> {
        let file = make(&ServeLock::path(database))?;
        Ok(is_locked(file.try_lock())?.then_some(ServeLock { _file: file }))
    }
}

/// Held for as long as a process tells the destination of that name.
#[derive(Debug)]
pub(crate) struct TellLock {
    _file: File,
}

impl TellLock {
    /// The file that is locked: the database's name, `.notify-` and the destination's.
    #[must_use]
    pub(crate) fn path(database: &Path, destination: &str) -> PathBuf {
        files::beside(&files::real(database), &format!(".notify-{destination}"))
    }

    /// Takes the lock; `None` when another process holds it.
    ///
    /// # Errors
    /// The operating system's, when the file cannot be made or locked.
    pub(crate) fn take(database: &Path, destination: &str) -> io::Result<Option<TellLock>> {
        let file = make(&TellLock::path(database, destination))?;
        Ok(is_locked(file.try_lock())?.then_some(TellLock { _file: file }))
    }
}

/// Shared by every [`super::Store`] for as long as it has its file open, and held alone by `restore`
/// while it puts another file in that one's place.
///
/// The file is made after the database, so it also tells a database that is gone from one that
/// never was. Backups have none.
#[derive(Debug)]
pub(crate) struct UseLock {
    _file: File,
}

impl UseLock {
    /// The file that is locked: the database's name and `.in-use`.
    #[must_use]
    pub(crate) fn path(database: &Path) -> PathBuf {
        files::beside(&files::real(database), ".in-use")
    }

    /// Shares it; `None` when there is no such file.
    pub(super) fn share(database: &Path) -> Result<Option<UseLock>, StoreError> {
        match File::open(UseLock::path(database)) {
            Ok(file) => UseLock::share_of(file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(_) => Err(StoreError::CannotOpen),
        }
    }

    /// The same, for a database that has just been made.
    pub(super) fn share_new(database: &Path) -> Result<Option<UseLock>, StoreError> {
        match make(&UseLock::path(database)) {
            Ok(file) => UseLock::share_of(file).map(Some),
            // A full disk is no reason to refuse deliveries: the server's own lock keeps `restore`
            // away as well.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(None),
            Err(_) => Err(StoreError::CannotOpen),
        }
    }

    fn share_of(file: File) -> Result<UseLock, StoreError> {
        match patiently(|| file.try_lock_shared()) {
            Ok(true) => Ok(UseLock { _file: file }),
            Ok(false) => Err(StoreError::BeingRestored),
            Err(_) => Err(StoreError::CannotOpen),
        }
    }

    /// Whether a process holds it, or that cannot be known.
    pub(super) fn is_held(database: &Path) -> bool {
        match File::open(UseLock::path(database)) {
            Ok(file) => file.try_lock().is_err(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Holds it alone; `None` when others do not release it.
    ///
    /// # Errors
    /// The operating system's, when the file cannot be made or locked.
    pub(crate) fn alone(database: &Path) -> io::Result<Option<UseLock>> {
        let file = make(&UseLock::path(database))?;
        Ok(patiently(|| file.try_lock())?.then_some(UseLock { _file: file }))
    }

    /// The processes that hold it, in words: `paidup api (1234)`.
    #[must_use]
    pub(crate) fn holders(database: &Path) -> Vec<String> {
        holders(&UseLock::path(database), "FLOCK")
            .into_iter()
            .map(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                let plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
                let line: String = line.chars().filter(plain).take(80).collect();
                format!("{} ({pid})", line.trim())
            })
            .collect()
    }
}

/// A process that has another file open than the one at this path: it holds the server's lock and does
/// not use this file, or the file that it has open was deleted.
///
/// The first is looked for several times: a server that starts has its lock before it has the file,
/// and the kernel's list may lack a line while others come and go.
#[must_use]
pub(crate) fn uses_another_file(database: &Path) -> Option<u32> {
    const LOOKS: u32 = 20;
    let mut server = None;
    for look in 0..LOOKS {
        if look > 0 {
            thread::sleep(PAUSE * 5);
        }
        server = holders(&ServeLock::path(database), "FLOCK").pop();
        let has_it_open = holders(database, "POSIX");
        if server.is_none_or(|pid| has_it_open.contains(&pid)) {
            return uses_deleted(database);
        }
    }
    server
}

/// A process that has a deleted file of the database open, as far as we may see that.
fn uses_deleted(database: &Path) -> Option<u32> {
    let deleted = ["", "-wal", "-shm"]
        .map(|suffix| files::beside(&files::real(database), &format!("{suffix} (deleted)")));
    let has_it = |pid: &u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .any(|file| deleted.contains(&file))
    };
    let processes = fs::read_dir("/proc").ok()?;
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .find(has_it)
}

/// Other processes with a lock of this kind on the file, as
/// <https://man7.org/linux/man-pages/man5/proc_locks.5.html> lists them.
fn holders(path: &Path, kind: &str) -> Vec<u32> {
    let Ok(metadata) = fs::metadata(path) else {
        return Vec::new();
    };
    let inode = metadata.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let holder = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let is_kind = words.next()? == kind;
        let pid = words.nth(2)?.parse().ok()?;
        let is_file = words.next()?.rsplit(':').next()? == inode;
        (is_kind && is_file && pid != std::process::id()).then_some(pid)
    };
    let mut pids: Vec<u32> = locks.lines().filter_map(holder).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn make(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn patiently(lock: impl Fn() -> Result<(), TryLockError>) -> io::Result<bool> {
    let mut waited = Duration::ZERO;
    loop {
        let is_locked = is_locked(lock())?;
        if is_locked || waited > BUSY_TIMEOUT {
            return Ok(is_locked);
        }
        thread::sleep(PAUSE);
        waited += PAUSE;
    }
}

fn is_locked(tried: Result<(), TryLockError>) -> io::Result<bool> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
