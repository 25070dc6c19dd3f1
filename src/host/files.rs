//! What the file system must do for us, in an order that survives a power cut: whole files under
//! their final names, or the files of before.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

/// The folder that a file is in.
#[must_use]
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    }
}

/// `paidup.db` and `-wal` make `paidup.db-wal`.
#[must_use]
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// The path with every link followed, whether the file is there yet or not. SQLite names what it
/// keeps beside a database after this one.
#[must_use]
pub fn real(path: &Path) -> PathBuf {
    // As many as the kernel follows.
    const LINKS_MAX: u32 = 40;
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(to) => path = folder_of(&path).join(to),
            Err(_) => break,
        }
    }
    match (fs::canonicalize(folder_of(&path)), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        (Err(_), _) | (_, None) => path,
    }
}

/// Makes the names in the folder of `path` last. Syncing a file alone keeps what is in it, not that
/// it is called so: <https://man7.org/linux/man-pages/man2/fsync.2.html>.
///
/// # Errors
/// The operating system's.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// Which file the name leads to: two names with one answer lead to one file.
///
/// # Errors
/// The operating system's.
pub fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Whether both names lead to one file.
#[must_use]
pub(crate) fn are_one(a: &Path, b: &Path) -> bool {
    match (identity(a), identity(b)) {
        (Ok(a), Ok(b)) => a == b,
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// Removes a file that may be there.
///
/// # Errors
/// The operating system's; that there is none is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Lets two files of one folder change their names, with no moment at which one of them has none:
/// `RENAME_EXCHANGE` of <https://man7.org/linux/man-pages/man2/rename.2.html>.
///
/// # Errors
/// The operating system's; a file system that cannot do this says `InvalidInput`.
pub fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(
        CWD,
        a,
        CWD,
        b,
        RenameFlags::EXCHANGE,
    )?)
}

/// Puts `content` in place of what is in the file, with the same owner and mode. At every moment
/// the name leads to the whole old content or the whole new one.
///
/// # Errors
/// The operating system's; then the old content is still there.
pub fn replace(path: &Path, content: &str) -> io::Result<()> {
    // A link stays a link: what it leads to is replaced.
    let path = fs::canonicalize(path)?;
    let staged = beside(&path, ".new");
    // Left there by a process that was killed.
    remove(&staged)?;
    let written = write_like(&staged, &path, content).and_then(|()| fs::rename(&staged, &path));
    if written.is_err() {
        let _ = fs::remove_file(&staged);
    }
    written?;
    sync_folder_of(&path)
}

/// Writes and syncs a new file, private until it has the owner and mode of `model`.
fn write_like(path: &Path, model: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content.as_bytes())?;
    let (is, wanted) = (file.metadata()?, fs::metadata(model)?);
    // Not being allowed is an error here: the service could not read its own file any more.
    if (is.uid(), is.gid()) != (wanted.uid(), wanted.gid()) {
        chown(path, Some(wanted.uid()), Some(wanted.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(wanted.mode() & 0o7777))?;
    file.sync_all()
}

/// Bytes that a process without privileges may still write to the folder's file system.
///
/// # Errors
/// The operating system's.
pub(crate) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
