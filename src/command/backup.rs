//! `paidup backup`: copies the database while the server goes on.
//!
//! Invariant, cited in tests:
//!  B1  A file that has a backup's name is a whole, verified database.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::base::id::UnixSeconds;
use crate::base::time;
use crate::command::environment::{Environment, at};
use crate::command::exit::{Exit, Failure};
use crate::command::show::when;
use crate::command::words::{CliOption, Command, ENV_FILE, UsageError, Words, does};
use crate::host::clock::Now;
use crate::host::files;
use crate::store::{Chore, CopyError, Store, Summary};

pub(crate) const COMMAND: Command = Command {
    name: "backup",
    arguments: "[FILE]",
    summary: "Copy the database to one verified file while the server goes on",
    details: "The copy is the database as it is at this moment. It gets its name only once it is complete, checked\n\
              and on disk; only its owner can read it, and nothing is left beside it. A backup on the same\n\
              disk does not survive that disk: copy it elsewhere, too.\n\
              Give FILE, or --dir with --keep. Other files in the folder are left alone.",
    options: &[
        CliOption {
            name: "force",
            value: "",
            help: "replace FILE if it exists",
        },
        CliOption {
            name: "dir",
            value: "FOLDER",
            help: "write a new file paidup-TIME.db to this folder",
        },
        CliOption {
            name: "keep",
            value: "N",
            help: "then remove all but the newest N of them",
        },
        ENV_FILE,
    ],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &[
        "paidup backup before-the-sale.db",
        "paidup backup --dir /var/lib/paidup/backup --keep 14",
    ],
    run: |words| {
        let target = Target::read(words)?;
        does(move |env_file, out| {
            let database = Environment::read(env_file)?.database()?;
            backup(&database, &target, Now::read().unix, out)
        })
    },
};

/// Backups that `--dir` may keep.
const KEEP_RANGE: RangeInclusive<NonZeroUsize> = NonZeroUsize::MIN..=NonZeroUsize::MAX;
/// How the name of a backup in a folder begins and ends; between them is its time in UTC.
const NAME_START: &str = "paidup-";
const NAME_END: &str = ".db";

/// Where a backup goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One file.
    File {
        /// Its name.
        path: PathBuf,
        /// It may exist, and then is replaced once the new one is good.
        may_replace: bool,
    },
    /// A file that we name, in a folder where only the newest of them stay.
    Folder {
        /// The folder, which must exist.
        path: PathBuf,
        /// How many stay.
        keep: NonZeroUsize,
    },
}

impl Target {
    fn read(words: &Words) -> Result<Target, UsageError> {
        let Some(folder) = words.path("dir") else {
            if words.has("keep") {
                return Err(words.error("--keep goes with --dir"));
            }
            return Ok(Target::File {
                path: words.argument()?.into(),
                may_replace: words.has("force"),
            });
        };
        if words.has("force") || !words.arguments().is_empty() {
            return Err(words.error("FILE (and --force) or --dir, not both"));
        }
        if !words.has("keep") {
            return Err(words.error("--keep N is missing: how many to keep"));
        }
        Ok(Target::Folder {
            path: folder,
            keep: words.number("keep", &KEEP_RANGE, NonZeroUsize::MIN)?,
        })
    }
}

/// Copies the database while the server goes on, and says what it made.
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
    let source = Store::open_query_only(database).map_err(at(database))?;
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
            writeln!(out, "{}: removed, as --keep {keep} says", old.display())?;
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

/// What a database holds, in a line.
#[must_use]
pub(crate) fn contents(summary: &Summary) -> String {
    let orders: i64 = summary.orders.iter().map(|(_, count)| count).sum();
    let last = match summary.received {
        Some((_, last)) => format!("the last came {}", when(last)),
        None => "none yet".to_owned(),
    };
    let events = summary.events;
    format!("orders: {orders}, events in the ledger: {events} ({last})")
}

/// `paidup-20261124T054626Z.db`.
fn name_of(at: UnixSeconds) -> String {
    format!("{NAME_START}{}{NAME_END}", compact(at))
}

/// `20261124T054626Z`: a time that sorts as text and is safe in a file name.
pub(crate) fn compact(at: UnixSeconds) -> String {
    time::rfc3339(at).replace(['-', ':'], "")
}

/// Backups in a folder, newest first. What is in another's name counts by when it was written.
pub(crate) fn newest_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let written = entry.metadata().ok().filter(fs::Metadata::is_file)?.mtime();
            let stem = name.strip_suffix(NAME_END)?;
            let time = match is_our_name(OsStr::new(&name)) {
                true => stem.strip_prefix(NAME_START)?.to_owned(),
                false => compact(UnixSeconds(written)),
            };
            Some((time, entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
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

/// Removes all but the newest backups that we named. `new` stays whatever its name says: a wrong clock
/// must not make it the oldest.
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

fn no_backup(error: &CopyError) -> Failure {
    let hint = match error {
        CopyError::File(_, error) if error.kind() == io::ErrorKind::PermissionDenied => {
            " The database's owner writes it, even when root runs this: name a place \
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
