//! File operations in an order that survives a power cut: it leaves whole files under their final
//! names, or the files from before.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, RenameFlags};

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

/// The path with every link followed, whether the file exists yet or not. SQLite derives the names of
/// the files beside a database from this path.
#[must_use]
pub(crate) fn real(path: &Path) -> PathBuf {
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

/// Syncs the directory of `path`, so that new file names survive a power cut. Syncing a file keeps its
/// content, not its name: <https://man7.org/linux/man-pages/man2/fsync.2.html>.
///
/// # Errors
/// The operating system's.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// Device and inode: two paths with the same pair lead to one file.
///
/// # Errors
/// The operating system's.
pub(crate) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Whether both paths lead to one file.
#[must_use]
pub(crate) fn are_one(a: &Path, b: &Path) -> bool {
    match (identity(a), identity(b)) {
        (Ok(a), Ok(b)) => a == b,
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// Removes a file, if it exists.
///
/// # Errors
/// The operating system's; a missing file is not an error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Swaps the names of two files in one folder, atomically: `RENAME_EXCHANGE` of
/// <https://man7.org/linux/man-pages/man2/rename.2.html>.
///
/// # Errors
/// The operating system's; a file system that cannot do this says `InvalidInput`.
pub(crate) fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(
        CWD,
        a,
        CWD,
        b,
        RenameFlags::EXCHANGE,
    )?)
}

/// Replaces the content of a file, and keeps its owner and mode. At every moment the file has the
/// whole old content or the whole new one; only on a full disk, where no second file fits beside it, is
/// the file itself written.
///
/// # Errors
/// The operating system's; then the old content is still there.
pub(crate) fn replace(path: &Path, content: &str) -> io::Result<()> {
    // A link stays a link: its target is replaced.
    let path = fs::canonicalize(path)?;
    let staged = beside(&path, ".new");
    // A process that was killed may have left it there.
    remove(&staged)?;
    let written = write_like(&staged, &path, content).and_then(|()| fs::rename(&staged, &path));
    match written {
        Ok(()) => sync_folder_of(&path),
        Err(error) => {
            let _ = fs::remove_file(&staged);
            match is_full(&error) {
                true => overwrite(&path, content),
                false => Err(error),
            }
        }
    }
}

/// Whether the system refused for want of room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Writes over the content of a file, within the blocks that it has.
fn overwrite(path: &Path, content: &str) -> io::Result<()> {
    let before = fs::read(path)?;
    let mut file = OpenOptions::new().write(true).open(path)?;
    let mut write = |content: &[u8]| {
        file.rewind()?;
        file.write_all(content)?;
        let end = file.stream_position()?;
        file.set_len(end)?;
        file.sync_all()
    };
    write(content.as_bytes()).inspect_err(|_| {
        let _ = write(&before);
    })
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
    // A refused chown is an error: the service could no longer read its own file.
    if (is.uid(), is.gid()) != (wanted.uid(), wanted.gid()) {
        chown(path, Some(wanted.uid()), Some(wanted.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(wanted.mode() & 0o7777))?;
    file.sync_all()
}

/// Whether this process may write the file, or to the folder.
///
/// # Errors
/// The operating system's, when it may not.
pub(crate) fn may_write(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::accessat(
        CWD,
        path,
        Access::WRITE_OK,
        AtFlags::EACCESS,
    )?)
}

/// Where a database does not belong: what that is, and what it does.
///
/// The numbers are those of <https://man7.org/linux/man-pages/man2/statfs.2.html>.
#[must_use]
pub(crate) fn unfit_disk(folder: &Path) -> Option<(&'static str, Unfit)> {
    let kind = u64::try_from(rustix::fs::statfs(folder).ok()?.f_type).ok()?;
    let known = UNFIT.iter().find(|(number, ..)| *number == kind);
    known.map(|(_, name, unfit)| (*name, *unfit))
}

/// Why a file system is no place for a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is gone after a restart of the machine.
    InMemory,
    /// It is gone with its container.
    Layer,
    /// Locks and shared memory, which SQLite needs, are not those of one machine.
    Network,
}

const UNFIT: [(u64, &str, Unfit); 14] = [
    (0x0102_1994, "tmpfs", Unfit::InMemory),
    (0x8584_58f6, "ramfs", Unfit::InMemory),
    (0x794c_7630, "overlay", Unfit::Layer),
    (0x6969, "NFS", Unfit::Network),
    (0x517b, "SMB", Unfit::Network),
    (0xff53_4d42, "CIFS", Unfit::Network),
    (0xfe53_4d42, "SMB", Unfit::Network),
    (0x00c3_6400, "Ceph", Unfit::Network),
    (0x0102_1997, "9p", Unfit::Network),
    (0x5346_414f, "AFS", Unfit::Network),
    (0x0bd0_0bd0, "Lustre", Unfit::Network),
    (0x0116_1970, "GFS2", Unfit::Network),
    (0x7461_636f, "OCFS2", Unfit::Network),
    (0x6573_5546, "FUSE", Unfit::Network),
];

/// Bytes that an unprivileged process may still write to the folder's file system.
///
/// # Errors
/// The operating system's.
pub(crate) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
