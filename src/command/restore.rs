//! `paidup restore`: puts a backup in the place of the database.
//!
//! Invariants, cited in tests:
//!  B2  While a database is replaced, its name leads to the old one or to the new one, whole, and
//!      never to the new one with the old one's log (`-wal`) beside it.
//!  B3  Nothing is replaced that is not kept under another name.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::base::id::UnixSeconds;
use crate::command::backup::{self, compact, contents};
use crate::command::environment::{Environment, not_taken};
use crate::command::exit::{Exit, Failure};
use crate::command::show::when;
use crate::command::words::{Command, ENV_FILE, does};
use crate::host::clock::Now;
use crate::host::{files, identity};
use crate::store::{CopyError, Retired, ServeLock, Store, StoreError, Summary, UseLock};

pub(crate) const COMMAND: Command = Command {
    name: "restore",
    arguments: "FILE",
    summary: "Put a backup in the place of the database",
    details: "Checks FILE first; a folder stands for the newest backup in it. The server, and whatever else has\n\
              the database open, must be stopped. The previous database is kept beside the new one, as\n\
              paidup.db.replaced-TIME. FILE stays as it is.",
    options: &[ENV_FILE],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &[
        "paidup restore /var/lib/paidup/backup",
        "paidup restore /var/lib/paidup/backup/paidup-20261124T054626Z.db",
    ],
    run: |words| {
        let file = PathBuf::from(words.argument()?);
        does(move |env_file, out| {
            // While we are root: it may lie where only root can read.
            let opened = identity::within(&file, || open(&file));
            let (file, source) = opened.map_err(|error| not_taken(&file, &error))?;
            let database = Environment::read(env_file)?.database()?;
            restore(&database, &file, source, Now::read().unix, out)
        })
    },
};

/// The backup, or the newest one in the folder.
fn open(named: &Path) -> (PathBuf, Result<Store, StoreError>) {
    let newest = || backup::newest_in(named).into_iter().next();
    let file = match named.is_dir() {
        true => newest().unwrap_or_else(|| named.join("*.db")),
        false => named.to_owned(),
    };
    let source = Store::open_query_only(&file);
    (file, source)
}

/// Puts a backup in the place of the database, and keeps what was there. `source`
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
    // A link stays a link: its target is replaced. And whoever forgot to say which database sees the full
    // path of the one that was used.
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
    let source = source.map_err(|error| no_backup(database, backup, &error))?;
    let summary = stage(&source, backup, &kept)?;
    begin_history(&kept, now)?;
    let replaced = replace(database, &kept);
    if replaced.is_err() {
        let _ = fs::remove_file(&kept);
    }
    let had_one = replaced?;
    files::sync_folder_of(database).map_err(failed)?;

    if had_one {
        writeln!(out, "The previous database is kept as {}", kept.display())?;
    }
    tell(database, backup, &summary, out)?;
    Ok(Exit::Done)
}

/// Copies the backup, verified, to the name that the replaced file will have, so that the two only have
/// to swap names.
fn stage(source: &Store, backup: &Path, kept: &Path) -> Result<Summary, Failure> {
    source.copy_to(kept, false).map_err(|error| match error {
        CopyError::Exists(kept) => restored_just_now(&kept),
        error @ (CopyError::Underway(_)
        | CopyError::File(..)
        | CopyError::Store(_)
        | CopyError::Damaged(_)) => no_restore(backup, &error),
    })?;
    Ok(Store::open_query_only(kept)?.summary()?)
}

fn tell(database: &Path, backup: &Path, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    let (holds, backup) = (contents(summary), backup.display());
    let database = database.display();
    writeln!(out, "{database}: restored from {backup}, {holds}")?;
    match summary.received {
        Some((_, last)) => writeln!(
            out,
            "What Stripe sent after {} is not in it. Start the server, then `paidup reconcile --since \
             30d`. What is known already changes nothing.",
            when(last)
        ),
        None => Ok(()),
    }
}

/// From here on, cursors of changes that the restore has undone are recognised, whoever writes first. In
/// an older file the server does this once it has migrated it.
fn begin_history(database: &Path, now: UnixSeconds) -> Result<(), StoreError> {
    match Store::open_existing(database) {
        Ok(mut store) => store.begin_history(now, true),
        Err(StoreError::Older(_)) => Ok(()),
        Err(error) => Err(error),
    }
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

fn kept_name(database: &Path, at: UnixSeconds) -> PathBuf {
    files::beside(database, &format!(".replaced-{}", compact(at)))
}

fn restored_just_now(kept: &Path) -> Failure {
    let kept = kept.display();
    Failure::Other(format!(
        "{kept} is from a restore within this very second. Nothing was done: run it again."
    ))
}

/// What is wrong with FILE, and which backups there are.
fn no_backup(database: &Path, backup: &Path, error: &StoreError) -> Failure {
    let other;
    let what = match error {
        StoreError::Missing => "there is no such file",
        StoreError::CannotOpen => "it cannot be opened, or is no file",
        StoreError::NotOurs => "it is no database of paidup's, or its beginning is damaged",
        StoreError::Corrupt => "it is damaged, or its disk cannot be read",
        StoreError::Empty | StoreError::Vanished | StoreError::LoneLog => "it is empty",
        StoreError::Busy
        | StoreError::Full
        | StoreError::Io(_)
        | StoreError::Unreadable
        | StoreError::Panicked
        | StoreError::Newer(_)
        | StoreError::Older(_)
        | StoreError::Unreleased
        | StoreError::OtherMode(_)
        | StoreError::NotBackedUp(_)
        | StoreError::LogNeedsWriting
        | StoreError::Replaced
        | StoreError::BeingRestored
        | StoreError::TookLong
        | StoreError::Other(_) => {
            other = error.at(backup);
            &other
        }
    };
    let usual = files::folder_of(database).join("backup");
    let known = [&*usual, files::folder_of(backup)].map(backup::newest_in);
    let known = known.into_iter().find(|found| !found.is_empty());
    let known = known.unwrap_or_default();
    let shown = known.iter().filter(|file| **file != *database);
    let shown: Vec<String> = shown
        .take(BACKUPS_SHOWN)
        .map(|file| format!("\n  {}", file.display()))
        .collect();
    let known = match shown.is_empty() {
        true => format!("There is no backup in {}.", usual.display()),
        false => format!("The newest backups:{}", shown.concat()),
    };
    Failure::Other(format!("{}\n{known}", not_restored(backup, &what)))
}

/// More are for `ls`.
const BACKUPS_SHOWN: usize = 3;

fn no_restore(backup: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Other(not_restored(backup, error))
}

fn not_restored(backup: &Path, error: &dyn std::fmt::Display) -> String {
    let backup = backup.display();
    format!("{backup} was not restored: {error}.\nThe database is as it was.")
}

/// Stops the server, what would start it again, and everything else of ours that opens the database.
const STOP_ALL: &str = "systemctl stop paidup.socket paidup-admin.socket paidup.service \
                        paidup-api.service 'paidup-notify*' paidup-backup.timer paidup-reconcile.timer";

fn in_use() -> Failure {
    Failure::Other(format!(
        "A server runs on this database. Restoring under it would lose what it writes. Stop it, and \
         what would start it again: `{STOP_ALL}`"
    ))
}

fn in_use_by(holders: &[String]) -> Failure {
    let holders = match holders {
        [] => "another process".to_owned(),
        holders => holders.join(", "),
    };
    Failure::Other(format!(
        "The database is in use by {holders}. Restoring under it would lose what it writes. Wait until \
         it has ended, or stop it: `{STOP_ALL}`\nThe database is as it was."
    ))
}

fn not_retired(error: StoreError) -> Failure {
    if error != StoreError::Busy {
        return Failure::Store(error);
    }
    Failure::Other(
        "Another process has the database open: another command, a sqlite3 shell, Litestream. \
         Stop it; `fuser` with the database's path names it. The database is as it was."
            .to_owned(),
    )
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
