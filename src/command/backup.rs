//! `paidup backup` and `paidup restore`: copies of the database, and a copy in its place.
//!
//! Invariants, cited in tests:
//!  B1  A file that has a backup's name is a whole, verified database.
//!  B2  While a database is replaced, its name leads to the old one or to the new one, whole, and
//!      never to the new one with the old one's log (`-wal`) beside it.
//!  B3  Nothing is replaced that is not kept under another name.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::base::id::UnixSeconds;
use crate::base::time;
use crate::command::exit::{Exit, Failure};
use crate::host::files;
use crate::store::{Chore, CopyError, Retired, ServeLock, Store, StoreError, Summary, UseLock};

/// What the name of a backup in a folder begins and ends with; its time in UTC is between.
const NAME_START: &str = "paidup-";
const NAME_END: &str = ".db";

/// Where a backup goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One file.
    File {
        /// Its name.
        path: PathBuf,
        /// It may be there already, and then is replaced once the new one is good.
        may_replace: bool,
    },
    /// A file of our own naming in a folder, of which only the newest stay.
    Folder {
        /// The folder, which must be there.
        path: PathBuf,
        /// How many stay.
        keep: NonZeroUsize,
    },
}

/// `paidup backup`: copies the database while the server goes on, and says what it made.
///
/// # Errors
/// [`Failure`]; then every file is as it was, and no backup was removed.
pub fn backup(
    database: &Path,
    target: &Target,
    now: UnixSeconds,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let (path, may_replace) = match target {
        Target::File { path, may_replace } => (path.clone(), *may_replace),
        Target::Folder { path, .. } => (path.join(name_of(now)), false),
    };
    if is_of(&path, database) {
        let what = format!(
            "{} is the database itself, or a file that belongs to it. Name another one.",
            path.display()
        );
        return Err(Failure::Other(what));
    }
    let source = Store::open_query_only(database)?;
    source
        .copy_to(&path, may_replace)
        .map_err(|error| no_backup(&error))?;
    let copy = Store::open_query_only(&path)?;
    writeln!(
        out,
        "{}: verified, {}",
        path.display(),
        contents(&copy.summary()?)
    )?;
    drop(copy);
    drop(source);
    Store::note_in(database, Chore::Backup, now)?;
    if let Target::Folder { path: folder, keep } = target {
        for old in remove_old(folder, &path, *keep)? {
            writeln!(out, "{}: removed, {keep} are kept", old.display())?;
        }
    }
    Ok(Exit::Done)
}

/// Whether writing a copy there would touch the database, or what is beside it under its name.
fn is_of(path: &Path, database: &Path) -> bool {
    let database = files::real(database);
    let its = ["", "-wal", "-shm", "-journal", ".lock", ".in-use"];
    let its = its.map(|suffix| files::beside(&database, suffix));
    [path.to_owned(), files::beside(path, ".partial")]
        .iter()
        .any(|path| its.contains(&files::real(path)) || files::are_one(path, &database))
}

/// `paidup restore FILE`: puts a backup in the place of the database, and keeps what was there. `source`
/// is that backup, opened by whoever may read it.
///
/// # Errors
/// [`Failure`]; then the database is as it was.
pub fn restore(
    database: &Path,
    backup: &Path,
    source: Result<Store, StoreError>,
    now: UnixSeconds,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    if files::are_one(backup, database) {
        let what = format!(
            "{} is the database itself. Name a backup.",
            backup.display()
        );
        return Err(Failure::Other(what));
    }
    // A link stays a link: what it leads to is replaced. And whoever forgot to say which database
    // sees the whole path of the one that it was.
    let found = fs::canonicalize(database).or_else(|_| std::path::absolute(database));
    let database = found.as_deref().unwrap_or(database);
    let failed = |error| not_replaced(database, &error);
    let _lock = ServeLock::take(database)
        .map_err(failed)?
        .ok_or_else(in_use)?;
    let _alone = UseLock::alone(database)
        .map_err(failed)?
        .ok_or_else(|| in_use_by(&UseLock::holders(database)))?;
    let kept = kept_name(database, now);
    // Verified under the name that the replaced file will have: they only change names then.
    let source = source.map_err(|error| no_restore(backup, &error))?;
    source.copy_to(&kept, false).map_err(|error| match error {
        CopyError::Exists(kept) => restored_just_now(&kept),
        error @ (CopyError::Underway(_)
        | CopyError::File(..)
        | CopyError::Store(_)
        | CopyError::Damaged(_)) => no_restore(backup, &error),
    })?;
    drop(source);
    let summary = Store::open_query_only(&kept)?.summary()?;
    begin_history(&kept, now)?;
    let replaced = replace(database, &kept);
    if replaced.is_err() {
        let _ = fs::remove_file(&kept);
    }
    let had_one = replaced?;
    files::sync_folder_of(database).map_err(failed)?;

    if had_one {
        writeln!(out, "The database of before is kept as {}", kept.display())?;
    }
    writeln!(
        out,
        "{}: restored, {}",
        database.display(),
        contents(&summary)
    )?;
    if let Some((_, last)) = summary.received {
        writeln!(
            out,
            "What Stripe sent after {} is not in it. Start the server, then: paidup reconcile --since \
             30d. What is known already changes nothing.",
            time::rfc3339(last)
        )?;
    }
    Ok(Exit::Done)
}

/// Cursors of the changes that the restore has undone are known as such from here on, whoever
/// writes first. To an older file the server does it, when it has brought it up to date.
fn begin_history(database: &Path, now: UnixSeconds) -> Result<(), StoreError> {
    match Store::open_existing(database) {
        Ok(mut store) => store.begin_history(now),
        Err(StoreError::Older(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What a database holds, in a line.
#[must_use]
pub fn contents(summary: &Summary) -> String {
    let orders: i64 = summary.orders.iter().map(|(_, count)| count).sum();
    let last = match summary.received {
        Some((_, last)) => format!("the last came {}", time::rfc3339(last)),
        None => "none yet".to_owned(),
    };
    let events = summary.events;
    format!("orders: {orders}, events in the ledger: {events} ({last})")
}

/// Gives the database's name to the file at `staged`, and that file's name to the database. Says
/// whether there was one.
fn replace(database: &Path, staged: &Path) -> Result<bool, Failure> {
    let failed = |error| not_replaced(database, &error);
    if !database.exists() {
        let moved = move_logs(database, staged).map_err(failed)?;
        return match fs::rename(staged, database) {
            Ok(()) => Ok(false),
            Err(error) => {
                move_back(&moved);
                Err(failed(error))
            }
        };
    }
    let retired = Store::retire(database).map_err(not_retired)?;
    let moved = match &retired {
        Retired::Whole(_) => Vec::new(),
        // Its log may hold what somebody can still read, and it must not stay here (B2).
        Retired::Damaged => move_logs(database, staged).map_err(failed)?,
    };
    files::exchange(staged, database).map_err(|error| {
        move_back(&moved);
        failed(error)
    })?;
    drop(retired);
    Ok(true)
}

/// Moves what SQLite keeps beside one database beside another, and returns from where to where.
fn move_logs(from: &Path, to: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    // The index of a log (`-shm`) is made anew whenever it is missing.
    files::remove(&files::beside(from, "-shm"))?;
    let mut moved = Vec::new();
    for suffix in ["-wal", "-journal"] {
        let (from, to) = (files::beside(from, suffix), files::beside(to, suffix));
        match fs::rename(&from, &to) {
            Ok(()) => moved.push((from, to)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                move_back(&moved);
                return Err(error);
            }
        }
    }
    files::sync_folder_of(from)?;
    Ok(moved)
}

fn move_back(moved: &[(PathBuf, PathBuf)]) {
    for (from, to) in moved {
        let _ = fs::rename(to, from);
    }
}

/// `paidup-20261124T054626Z.db`.
fn name_of(at: UnixSeconds) -> String {
    format!("{NAME_START}{}{NAME_END}", compact(at))
}

/// `20261124T054626Z`: a time that sorts as text and is no trouble in a file name.
fn compact(at: UnixSeconds) -> String {
    time::rfc3339(at).replace(['-', ':'], "")
}

fn is_our_name(name: &OsStr) -> bool {
    let stamp = name
        .to_str()
        .and_then(|name| name.strip_prefix(NAME_START)?.strip_suffix(NAME_END));
    let digit = |wanted: char, c: char| match wanted {
        '0' => c.is_ascii_digit(),
        _ => c == wanted,
    };
    let like = "00000000T000000Z";
    stamp.is_some_and(|stamp| {
        stamp.len() == like.len() && like.chars().zip(stamp.chars()).all(|(w, c)| digit(w, c))
    })
}

/// Removes all but the newest backups of our own naming. `new` stays whatever its name says: a
/// clock that was wrong must not make it the oldest.
fn remove_old(folder: &Path, new: &Path, keep: NonZeroUsize) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: io::Error| {
        let folder = folder.display();
        let what =
            format!("The new backup is good. Old ones in {folder} could not be removed: {error}.");
        Failure::Other(what)
    };
    let mut others = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_ours =
            is_our_name(&entry.file_name()) && Some(&*entry.file_name()) != new.file_name();
        if is_ours && entry.file_type().map_err(failed)?.is_file() {
            others.push(entry.path());
        }
    }
    others.sort();
    others.truncate((others.len() + 1).saturating_sub(keep.get()));
    for old in &others {
        fs::remove_file(old).map_err(failed)?;
    }
    files::sync_folder_of(new).map_err(failed)?;
    Ok(others)
}

fn kept_name(database: &Path, at: UnixSeconds) -> PathBuf {
    files::beside(database, &format!(".replaced-{}", compact(at)))
}

fn restored_just_now(kept: &Path) -> Failure {
    let kept = kept.display();
    Failure::Other(format!(
        "{kept} is from a restore in this very second. Nothing was done: run it again."
    ))
}

fn no_backup(error: &CopyError) -> Failure {
    let hint = match error {
        CopyError::File(_, error) if error.kind() == io::ErrorKind::PermissionDenied => {
            " The user that the database belongs to writes it, also when root runs this: name a place \
             where that user may write, such as a folder beside the database, and copy it from there."
        }
        CopyError::Exists(_)
        | CopyError::Underway(_)
        | CopyError::File(..)
        | CopyError::Store(_)
        | CopyError::Damaged(_) => "",
    };
    Failure::Other(format!("No backup was made: {error}.{hint}"))
}

fn no_restore(backup: &Path, error: &dyn std::fmt::Display) -> Failure {
    let backup = backup.display();
    Failure::Other(format!(
        "{backup} was not restored: {error}.\nThe database is as it was."
    ))
}

/// Stops the server, what would start it again, and all else of ours that has the database open.
const STOP_ALL: &str = "systemctl stop paidup.socket paidup-admin.socket paidup.service \
                        paidup-api.service paidup-backup.timer paidup-reconcile.timer";

fn in_use() -> Failure {
    Failure::Other(format!(
        "A server runs on this database. Restoring under it would lose what it writes. Stop it, and \
         what would start it again: {STOP_ALL}"
    ))
}

fn in_use_by(holders: &[String]) -> Failure {
    let holders = match holders {
        [] => "another process".to_owned(),
        holders => holders.join(", "),
    };
    Failure::Other(format!(
        "The database is in use by {holders}. Restoring under it would lose what it writes. Wait until \
         it has ended, or stop it: {STOP_ALL}\nThe database is as it was."
    ))
}

fn not_retired(error: StoreError) -> Failure {
    match error {
        StoreError::Busy => Failure::Other(
            "Another process has the database open: another command, a sqlite3 shell, Litestream. \
             Stop it; `fuser` with the database's path names it. The database is as it was."
                .to_owned(),
        ),
        StoreError::Missing
        | StoreError::CannotOpen
        | StoreError::Full
        | StoreError::Io(_)
        | StoreError::Corrupt
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
        | StoreError::Replaced
        | StoreError::BeingRestored
        | StoreError::Other(_) => Failure::Store(error),
    }
}

fn not_replaced(database: &Path, error: &io::Error) -> Failure {
    let hint = if error.kind() == io::ErrorKind::InvalidInput {
        " This file system cannot exchange two files: move the database away with all that is \
         beside it (-wal, -shm), and restore again."
    } else {
        ""
    };
    let database = database.display();
    Failure::Other(format!(
        "{database}: {error}. The database is as it was.{hint}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_give_are_ours() {
        let name = name_of(UnixSeconds(1_795_499_186));
        assert_eq!(name, "paidup-20261124T054626Z.db");
        assert!(is_our_name(OsStr::new(&name)));
        for other in [
            "paidup.db",
            "paidup-.db",
            "paidup-20261124T054626Z.db.partial",
            "paidup-20261124T054626Z.db-wal",
            "paidup-2026-11-24.db",
            "paidup-20261124T05462xZ.db",
            "my-paidup-20261124T054626Z.db",
            "paidup-before-the-sale.db",
        ] {
            assert!(!is_our_name(OsStr::new(other)), "{other}");
        }
    }
}
