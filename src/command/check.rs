//! `paidup check`: whether the server could start and work here, without starting it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use socket2::Socket;

use crate::command::finding::Finding;
use crate::config::serve::Config;
use crate::config::{Address, ConfigError};
use crate::host::files::{self, folder_of};
use crate::http::metrics::UNNAMED;
use crate::store::{Reader, Store, StoreError, StoredEvent, UseLock, readers, uses_another_file};
use crate::truth::event::{Ignored, SAMPLE_EVENT};
use crate::truth::reading::Mode;

/// With less room than this the next busy day may fill the disk.
const FREE_WARNING_BYTES: u64 = 256 * 1024 * 1024;
/// With less room than this the next hour may.
const FREE_PROBLEM_BYTES: u64 = 16 * 1024 * 1024;

/// Events among which those of the other mode are counted.
const ARRIVALS: u32 = 1_000;

/// How long the running server may take to tell its figures.
const FIGURES_TIMEOUT: Duration = Duration::from_secs(2);

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

/// A Unix socket takes the place of another one only.
#[must_use]
pub fn socket(variable: &str, address: &Address) -> Option<Finding> {
    let Address::Unix(path) = address else {
        return None;
    };
    let is_socket = fs::symlink_metadata(path).ok()?.file_type().is_socket();
    let name = path.display();
    (!is_socket).then(|| {
        Finding::problem(
            "configuration",
            format!("{variable}: {name} is there, and is no socket"),
            "The server does not start: it removes nothing but a socket that nobody uses any more.",
            format!("Write another path in {variable}, or move away what is there"),
        )
    })
}

/// The database: there or creatable, ours, not damaged as far as a start would see, of the mode that is
/// configured, private, with room to grow. Takes no longer as it grows.
#[must_use]
pub fn database(path: &Path, configured: Option<Mode>) -> Vec<Finding> {
    let mut findings = match Store::open_existing(path) {
        Ok(store) => {
            let mut findings = contents(path, &store);
            findings.extend(mode(&store, configured));
            findings.extend(store.overlong_log().map(|bytes| long_log(path, bytes)));
            findings
        }
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

/// Test and live never mix: which of them the file is of, and whether the other one delivers here.
fn mode(store: &Store, configured: Option<Mode>) -> Vec<Finding> {
    let Ok(Some(mode)) = store.mode() else {
        return Vec::new();
    };
    let mut findings = vec![match configured {
        Some(configured) if configured != mode => Finding::problem(
            "mode",
            StoreError::OtherMode(mode).to_string(),
            "The server does not start.",
            "",
        ),
        Some(_) | None => {
            Finding::good("mode", format!("the database is of {} mode", mode.as_str()))
        }
    }];
    let arrivals = store.events(None, ARRIVALS).unwrap_or_default();
    let of_other = |event: &&StoredEvent| {
        event.reason.as_deref() == Some(Ignored::Mode.as_str())
            && !event.id.starts_with(SAMPLE_EVENT)
    };
    let ignored = arrivals.iter().filter(of_other).count();
    if ignored > 0 {
        let other = match mode {
            Mode::Live => Mode::Test,
            Mode::Test => Mode::Live,
        };
        let other = other.as_str();
        findings.push(Finding::warning(
            "mode",
            format!(
                "{ignored} of the last {} events were of {other} mode, and were ignored",
                arrivals.len()
            ),
            "Whoever pays there is not seen here.",
            format!(
                "Dashboard, in {other} mode → Webhooks: remove this endpoint, or give that mode a paidup \
                 with a DATABASE_PATH of its own"
            ),
        ));
    }
    findings
}

/// Somebody reads for long, or did until now.
fn long_log(path: &Path, bytes: i64) -> Finding {
    let named = |reader: &Reader| match &reader.program {
        Some(program) => format!("{program} (process {})", reader.pid),
        None => format!("process {}", reader.pid),
    };
    let mib = bytes / (1024 * 1024);
    let readers = readers(path);
    let (who, next) = match readers.as_deref() {
        Ok([]) => (
            "nobody reads it now".to_owned(),
            "Nothing: the next delivery cuts it".to_owned(),
        ),
        Ok(readers) => {
            let readers: Vec<String> = readers.iter().map(named).collect();
            (
                format!("read by {}", readers.join(", ")),
                "End what does not end by itself, as a backup and `paidup db check` do".to_owned(),
            )
        }
        Err(_) => (
            "who reads it is not to be seen from here".to_owned(),
            format!(
                "Run `paidup check` as root outside the sandbox, or `fuser -v {}-shm`",
                path.display()
            ),
        ),
    };
    Finding::warning(
        "log",
        format!("the database's log (-wal) has {mib} MiB; {who}"),
        "It grows until nobody reads what was before. When the disk has no more room than the log has, \
         deliveries are answered 503 store_full.",
        next,
    )
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
    let free = files::free_bytes(folder_of(path)).ok()?;
    let what = format!("{} MiB free for the database", free / (1024 * 1024));
    let why = "On a full disk deliveries are answered 503; Stripe retries them for three days.";
    let next = "Make room on the disk that holds DATABASE_PATH";
    Some(match free {
        0..FREE_PROBLEM_BYTES => Finding::problem("disk", what, why, next),
        FREE_PROBLEM_BYTES..FREE_WARNING_BYTES => Finding::warning("disk", what, why, next),
        FREE_WARNING_BYTES.. => Finding::good("disk", what),
    })
}

/// Whether the proxy tells its clients apart, as far as a server that runs has seen.
#[must_use]
pub fn proxy(config: &Config) -> Option<Finding> {
    let unnamed = ServerFigures::read(config.admin.as_ref()?)?.sum(UNNAMED);
    (unnamed > 0.0).then(|| {
        Finding::warning(
            "proxy",
            format!("{unnamed} deliveries since the server started came by a trusted proxy that named no client"),
            "All its clients share one rate limit: a stranger's hundred forgeries a minute make Stripe's \
             deliveries 429.",
            "Have it set X-Forwarded-For as systemd/nginx.conf does; if there is no proxy, set \
             TRUSTED_PROXIES=none",
        )
    })
}

/// What the running server has counted since it started.
pub(crate) struct ServerFigures(String);

impl ServerFigures {
    /// From this machine's own admin address; none when nobody answers there.
    pub(crate) fn read(address: &Address) -> Option<ServerFigures> {
        let mut stream: Socket = match address {
            Address::Tcp(address) => TcpStream::connect_timeout(address, FIGURES_TIMEOUT)
                .ok()?
                .into(),
            Address::Unix(path) => UnixStream::connect(path).ok()?.into(),
        };
        stream.set_read_timeout(Some(FIGURES_TIMEOUT)).ok()?;
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.take(1024 * 1024).read_to_string(&mut answer).ok()?;
        answer
            .starts_with("HTTP/1.1 200")
            .then_some(ServerFigures(answer))
    }

    /// The sum of the series whose names begin so.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let lines = self.0.lines().filter(|line| line.starts_with(name));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}
