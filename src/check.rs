//! `paidup check`: whether the server could start and work here, without starting it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::domain::config::{Config, ConfigError};
use crate::files::folder_of;
use crate::finding::Finding;
use crate::sqlite::{Store, StoreError, UseLock, uses_another_file};

/// With less room than this the next busy day may fill the disk.
const FREE_WARNING_BYTES: u64 = 256 * 1024 * 1024;
/// With less room than this the next hour may.
const FREE_PROBLEM_BYTES: u64 = 16 * 1024 * 1024;

/// What the configuration's mistakes and oddities are, each with its remedy.
#[must_use]
pub fn configuration(config: &Result<Config, Vec<ConfigError>>) -> Vec<Finding> {
    match config {
        Ok(config) => {
            let mut findings: Vec<Finding> = config
                .warnings
                .iter()
                .map(|warning| {
                    let what = format!("{} {}", warning.variable, warning.problem);
                    Finding::warning("configuration", what, "", &warning.remedy)
                })
                .collect();
            if findings.is_empty() {
                let count = config.webhook_secrets.len();
                let secrets = if count == 1 { "secret" } else { "secrets" };
                let what = format!("every variable is usable; {count} signing {secrets}");
                findings.push(Finding::good("configuration", what));
            }
            findings
        }
        Err(errors) => errors
            .iter()
            .map(|error| {
                let what = format!("{} {}", error.variable, error.problem);
                Finding::problem("configuration", what, error.why, &error.remedy)
            })
            .collect(),
    }
}

/// A file that holds secrets must be its owner's alone.
#[must_use]
pub fn secret_file(path: &Path) -> Option<Finding> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
    let name = path.display();
    Some(if mode & 0o077 == 0 {
        Finding::good(
            "permissions",
            format!("{name} is for its owner only ({mode:04o})"),
        )
    } else {
        Finding::problem(
            "permissions",
            format!("{name} can be read by others on this machine ({mode:04o})"),
            "Whoever knows the signing secret can forge payments.",
            format!("chmod 600 {name}, and roll the secret if others have accounts here"),
        )
    })
}

/// The database: there or creatable, ours, not damaged as far as a start would see, private, with
/// room to grow. Takes no longer as it grows.
#[must_use]
pub fn database(path: &Path) -> Vec<Finding> {
    let mut findings = match Store::open_existing(path) {
        Ok(store) => contents(path, &store),
        // Made here once, and gone.
        Err(StoreError::Missing) if UseLock::path(path).exists() => vec![Finding::problem(
            "database",
            StoreError::Vanished.to_string(),
            "Its orders are lost, unless it is found. The server does not start.",
            "",
        )],
        Err(StoreError::Missing) => vec![missing(path)],
        Err(StoreError::Older(version)) => vec![Finding::good(
            "database",
            format!(
                "schema {version}; the server brings it up to date when it starts, after a backup"
            ),
        )],
        Err(error) => vec![Finding::problem(
            "database",
            error.to_string(),
            "The server does not start, or answers 503, until this is repaired.",
            "",
        )],
    };
    findings.extend(uses_another_file(path).map(|pid| {
        Finding::problem(
            "server",
            format!("process {pid} has another file open than is there now"),
            "The file was deleted or replaced under it. It answers 503, and what it stored last is \
             only in what it has open.",
            StoreError::Replaced.to_string(),
        )
    }));
    findings.extend(room(path));
    findings
}

fn contents(path: &Path, store: &Store) -> Vec<Finding> {
    let mut findings = Vec::new();
    // What the server looks at when it starts. A whole check takes minutes in a big shop, and this
    // stands before each restart.
    match store.touch_every_tree() {
        Ok(()) => {
            let name = path.display();
            let what = format!("{name} opens; `paidup db check` reads all of it");
            findings.push(Finding::good("database", what));
        }
        Err(error) => findings.push(damaged(&error.to_string())),
    }
    if let Ok(metadata) = fs::metadata(path)
        && metadata.permissions().mode() & 0o077 != 0
    {
        findings.push(Finding::warning(
            "permissions",
            format!("{} can be read by others on this machine", path.display()),
            "It holds order ids and amounts.",
            format!("chmod 600 {0} {0}-wal {0}-shm", path.display()),
        ));
    }
    findings
}

fn damaged(what: &str) -> Finding {
    Finding::problem(
        "database",
        format!("damaged: {what}"),
        "Orders may be wrong, and writing to it may damage more.",
        "Stop the server, keep the file, restore the last backup, and let Stripe send again what is \
         missing (Dashboard → Webhooks → your endpoint → resend)",
    )
}

fn missing(path: &Path) -> Finding {
    let folder = folder_of(path);
    // Asking the file system is the only answer that counts: permissions, quotas and read-only
    // mounts all take part.
    let probe = folder.join(".paidup-check");
    let made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&probe);
    match made.map(|_| fs::remove_file(&probe)) {
        Ok(_) => Finding::good(
            "database",
            format!("{} does not exist yet; the server makes it", path.display()),
        ),
        Err(error) => Finding::problem(
            "database",
            format!(
                "{} does not exist and cannot be made: {error}",
                path.display()
            ),
            "The server does not start without it.",
            format!(
                "Make the folder {} and give it to the user that paidup runs as, or change \
                 DATABASE_PATH",
                folder.display()
            ),
        ),
    }
}

fn room(path: &Path) -> Option<Finding> {
    let free = free_bytes(folder_of(path)).ok()?;
    let what = format!("{} MiB free for the database", free / (1024 * 1024));
    let why = "On a full disk deliveries are answered 503; Stripe retries them for three days.";
    let next = "Make room on the disk that holds DATABASE_PATH";
    Some(match free {
        0..FREE_PROBLEM_BYTES => Finding::problem("disk", what, why, next),
        FREE_PROBLEM_BYTES..FREE_WARNING_BYTES => Finding::warning("disk", what, why, next),
        FREE_WARNING_BYTES.. => Finding::good("disk", what),
    })
}

/// Bytes that a process without privileges may still write to the folder's file system.
fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
