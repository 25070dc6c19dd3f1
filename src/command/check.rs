//! `paidup check`: whether the server would start and work here, without starting it.

use std::fs;
use std::iter;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use crate::command::environment::{Environment, take_identity};
use crate::command::exit::{Exit, Failure};
use crate::command::finding::{self, Finding};
use crate::command::notify;
use crate::command::show::size;
use crate::command::words::{CliOption, Command, ENV_FILE, JSON_LINES, does};
use crate::config::api::ApiConfig;
use crate::config::notify::NotifyConfig;
use crate::config::serve::{self, Config};
use crate::config::{Address, ConfigError};
use crate::host::files::{self, folder_of};
use crate::http::loopback;
use crate::serve::metrics::UNNAMED;
use crate::store::{Process, Store, StoreError, StoredEvent, UseLock, readers, uses_another_file};
use crate::truth::event::{Ignored, SAMPLE_EVENT};
use crate::truth::reading::Mode;

pub(crate) const COMMAND: Command = Command {
    name: "check",
    arguments: "",
    summary: "Say whether `serve` would work here: configuration, files, database, disk",
    details: "Every mistake at once, each with its remedy. Nothing is changed and no server is needed: run it\n\
              before each restart. A running server is asked whether its proxy names its clients. When a\n\
              variable of `api` or `notify` is set, that configuration is checked as well. What the shop has not\n\
              heard is named. `systemctl reload paidup` runs it with --reload.",
    options: &[RELOAD, ENV_FILE, JSON_LINES],
    exits: Exit::OF_CHECKS,
    examples: &["paidup check --env-file /etc/paidup/paidup.env"],
    run: |words| {
        let (json, is_reload) = (words.has("json"), words.has("reload"));
        does(move |env_file, out| {
            let environment = Environment::read(env_file)?;
            let mut findings = findings(&environment, &environment.config())?;
            if is_reload {
                findings = findings
                    .into_iter()
                    .map(Finding::before_a_restart)
                    .collect();
            }
            finding::write(&findings, json, out)?;
            Ok(finding::exit(&findings))
        })
    },
};

const RELOAD: CliOption = CliOption {
    name: "reload",
    value: "",
    help: "only what would stop a start is a problem; the rest, such as a full disk, is a\nwarning",
};

/// With less free than this, the next busy day may fill the disk.
const FREE_WARNING_BYTES: u64 = 256 * 1024 * 1024;
/// With less free than this, the next hour may.
const FREE_PROBLEM_BYTES: u64 = 16 * 1024 * 1024;

/// How many of the last events are searched for those of the other mode.
const ARRIVALS: u32 = 1_000;

/// How long the running server may take to give its figures.
const FIGURES_PATIENCE: Duration = Duration::from_secs(2);

/// Everything that can be found without asking Stripe.
///
/// # Errors
/// [`Failure`] when root cannot act as the owner of the database's folder.
pub(crate) fn findings(
    environment: &Environment,
    config: &Result<Config, Vec<ConfigError>>,
) -> Result<Vec<Finding>, Failure> {
    let odd = |problem: &String| Finding::problem("environment file", problem, "", "");
    let mut findings: Vec<Finding> = environment.problems.iter().map(odd).collect();
    findings.extend(configuration(config));
    if ApiConfig::is_wanted(&environment.vars) {
        let known = config.as_ref().err().map_or(&[][..], Vec::as_slice);
        findings.extend(other_configuration("api", environment.api(), known));
    }
    if NotifyConfig::is_wanted(&environment.vars) {
        let known = config.as_ref().err().map_or(&[][..], Vec::as_slice);
        findings.extend(other_configuration("notify", environment.notify(), known));
    }
    findings.extend(secret_files(environment));
    if let Ok(path) = serve::database_path(&environment.vars) {
        take_identity(&path)?;
        findings.extend(config.iter().flat_map(sockets));
        let mode = config.as_ref().ok().and_then(|config| config.reading.mode);
        findings.extend(database(&path, mode));
    }
    findings.extend(config.as_ref().ok().and_then(proxy));
    Ok(findings)
}

/// The mistakes and oddities of the configuration, each with its remedy.
fn configuration(config: &Result<Config, Vec<ConfigError>>) -> Vec<Finding> {
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
            .map(|error| mistake(error).stopping_a_start())
            .collect(),
    }
}

/// The same for another process, without the mistakes that are `known` already.
fn other_configuration<T>(
    process: &str,
    config: Result<T, Vec<ConfigError>>,
    known: &[ConfigError],
) -> Vec<Finding> {
    match config {
        Ok(_) => vec![Finding::good(
            "configuration",
            format!("`paidup {process}` can use its variables"),
        )],
        Err(errors) => errors
            .iter()
            .filter(|error| !known.contains(error))
            .map(mistake)
            .collect(),
    }
}

fn mistake(error: &ConfigError) -> Finding {
    let what = format!("{} {}", error.variable, error.problem);
    Finding::problem("configuration", what, error.why, &error.remedy)
}

/// The files that hold secrets: where each is named, why it matters who reads it, and what to replace.
const SECRET_FILES: [(&str, &str, &str); 4] = [
    ("STRIPE_WEBHOOK_SECRET_FILE", FORGES, "roll the secret"),
    (
        "STRIPE_SECRET_KEY_FILE",
        "Whoever knows the key can act on the Stripe account, as far as the key may.",
        "roll the key",
    ),
    (
        "API_TOKEN_FILE",
        "Whoever knows the token can make orders and read them.",
        "make a new token (`paidup gen-token`)",
    ),
    (
        "NOTIFY_SECRET_FILE",
        "Whoever knows the secret can tell the shop that an order is paid.",
        "make a new secret (`paidup gen-secret`)",
    ),
];
const FORGES: &str = "Whoever knows the signing secret can forge payments.";

fn secret_files(environment: &Environment) -> Vec<Finding> {
    let env_file = environment.file.as_deref();
    let env_file = env_file.map(|path| (path, FORGES, "roll the secret"));
    let named = SECRET_FILES.iter().filter_map(|(variable, why, replace)| {
        let path = environment.vars.get(*variable)?.trim();
        (!path.is_empty()).then_some((Path::new(path), *why, *replace))
    });
    env_file
        .into_iter()
        .chain(named)
        .filter_map(|(path, why, replace)| secret_file(path, why, replace))
        .collect()
}

/// Only its owner may read a file that holds secrets.
fn secret_file(path: &Path, why: &str, replace: &str) -> Option<Finding> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
    let name = path.display();
    Some(if mode & 0o077 == 0 {
        Finding::good(
            "permissions",
            format!("only its owner can read {name} ({mode:04o})"),
        )
    } else {
        Finding::problem(
            "permissions",
            format!("{name} can be read by others on this machine ({mode:04o})"),
            why,
            format!("chmod 600 {name}, and {replace} if others have accounts here"),
        )
    })
}

fn sockets(config: &Config) -> Vec<Finding> {
    let admin = config.admin.as_ref().map(|address| ("ADMIN_ADDR", address));
    iter::once(("LISTEN_ADDR", &config.listen))
        .chain(admin)
        .filter_map(|(name, address)| socket(name, address))
        .collect()
}

/// A Unix socket may replace only another socket.
fn socket(variable: &str, address: &Address) -> Option<Finding> {
    let Address::Unix(path) = address else {
        return None;
    };
    let is_socket = fs::symlink_metadata(path).ok()?.file_type().is_socket();
    let name = path.display();
    (!is_socket).then(|| {
        Finding::problem(
            "configuration",
            format!("{variable}: {name} exists and is not a socket"),
            "The server does not start: all that it ever removes is a socket that nobody uses any more.",
            format!("Write another path in {variable}, or move away what is there"),
        )
        .stopping_a_start()
    })
}

/// The database: it exists or can be created, is ours, is intact as far as the server sees when it starts,
/// has the configured mode, is private, and has room to grow. A big one takes no longer than a small one.
fn database(path: &Path, configured: Option<Mode>) -> Vec<Finding> {
    let mut findings = match Store::open_existing(path) {
        Ok(store) => {
            let mut findings = contents(path, &store);
            findings.extend(mode(&store, configured));
            findings.extend(notify::findings(&store));
            findings.extend(store.overlong_log().map(|bytes| long_log(path, bytes)));
            findings
        }
        // It was created here once, and is gone.
        Err(StoreError::Missing) if UseLock::path(path).exists() => vec![
            Finding::problem(
                "database",
                StoreError::Vanished.to_string(),
                "Its orders are lost unless the file is found. The server does not start.",
                "",
            )
            .stopping_a_start(),
        ],
        Err(StoreError::Missing) => vec![missing(path)],
        Err(StoreError::Older(version)) => vec![Finding::good(
            "database",
            format!(
                "schema {version}; the server brings it up to date when it starts, after a backup"
            ),
        )],
        Err(error) => vec![
            Finding::problem(
                "database",
                error.to_string(),
                "The server does not start, or answers 503, until this is repaired.",
                "",
            )
            .stopping_a_start(),
        ],
    };
    findings.extend(uses_another_file(path).map(|pid| {
        Finding::problem(
            "server",
            format!("process {pid} has another file open than the one that is there now"),
            "The file was deleted or replaced under it. It answers 503, and what it stored last is \
             only in the file that it has open.",
            StoreError::Replaced.to_string(),
        )
    }));
    findings.extend(room(path));
    findings
}

fn contents(path: &Path, store: &Store) -> Vec<Finding> {
    let mut findings = Vec::new();
    // What the server reads when it starts. A full check takes minutes in a big shop, and this runs
    // before each restart.
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

/// Test and live never mix: which mode the file has, and whether events of the other one arrive.
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
        )
        .stopping_a_start(),
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
            "What is paid in that mode does not show here.",
            format!(
                "Dashboard, in {other} mode → Webhooks: remove this endpoint, or give that mode a paidup \
                 with a DATABASE_PATH of its own"
            ),
        ));
    }
    findings
}

/// Somebody has been reading for long, and may still be.
fn long_log(path: &Path, bytes: i64) -> Finding {
    let named = |reader: &Process| match &reader.program {
        Some(program) => format!("{program} (process {})", reader.pid),
        None => format!("process {}", reader.pid),
    };
    let mib = bytes / (1024 * 1024);
    let readers = readers(path);
    let (who, next) = match readers.as_deref() {
        Ok([]) => (
            "nobody reads it now".to_owned(),
            "No action needed: the next delivery cuts it".to_owned(),
        ),
        Ok(readers) => {
            let readers: Vec<String> = readers.iter().map(named).collect();
            (
                format!("read by {}", readers.join(", ")),
                "End it, unless it ends by itself, as a backup or `paidup db check` does"
                    .to_owned(),
            )
        }
        Err(_) => (
            "who reads it cannot be seen from here".to_owned(),
            format!(
                "Run `paidup check` as root outside the sandbox, or `fuser -v {}-shm`",
                path.display()
            ),
        ),
    };
    Finding::warning(
        "log",
        format!("the database's log (-wal) has {mib} MiB; {who}"),
        "It grows for as long as somebody reads an old state. When the disk has less room than the log takes, \
         deliveries are answered 503 store_full.",
        next,
    )
}

fn damaged(what: &str) -> Finding {
    Finding::problem(
        "database",
        format!("damaged: {what}"),
        "Orders may be wrong, and writing to it may damage more.",
        "Stop the server, keep the file, restore the last backup, and have Stripe resend what is \
         missing (Dashboard → Webhooks → your endpoint → resend)",
    )
    .stopping_a_start()
}

fn missing(path: &Path) -> Finding {
    let folder = folder_of(path);
    // Only trying it tells: permissions, quotas and read-only mounts all have a say.
    let probe = folder.join(".paidup-check");
    let made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&probe);
    match made.map(|_| fs::remove_file(&probe)) {
        Ok(_) => Finding::good(
            "database",
            format!(
                "{} does not exist yet; the server creates it",
                path.display()
            ),
        ),
        Err(error) => Finding::problem(
            "database",
            format!(
                "{} does not exist and cannot be created: {error}",
                path.display()
            ),
            "The server does not start without it.",
            format!(
                "Create the folder {} and give it to the user that paidup runs as, or change \
                 DATABASE_PATH",
                folder.display()
            ),
        )
        .stopping_a_start(),
    }
}

fn room(path: &Path) -> Option<Finding> {
    let free = files::free_bytes(folder_of(path)).ok()?;
    let what = format!("{} free for the database", size(free));
    let why = "On a full disk deliveries are answered 503; Stripe retries them for three days.";
    let next = "Make room on the disk that holds DATABASE_PATH";
    Some(match free {
        0..FREE_PROBLEM_BYTES => Finding::problem("disk", what, why, next),
        FREE_PROBLEM_BYTES..FREE_WARNING_BYTES => Finding::warning("disk", what, why, next),
        FREE_WARNING_BYTES.. => Finding::good("disk", what),
    })
}

/// Whether the proxy names its clients, as far as the running server has seen.
fn proxy(config: &Config) -> Option<Finding> {
    let unnamed = ServerFigures::read(config.admin.as_ref()?)?.sum(UNNAMED);
    (unnamed > 0.0).then(|| {
        Finding::warning(
            "proxy",
            format!("{unnamed} deliveries since the server started came through a trusted proxy that named no client"),
            "All its clients share one rate limit: a hundred forgeries a minute by a stranger, and Stripe's \
             deliveries are answered 429.",
            "Have it set X-Forwarded-For as systemd/nginx.conf does; if there is no proxy, set \
             TRUSTED_PROXIES=none",
        )
    })
}

/// What the running server has counted since it started.
pub(crate) struct ServerFigures(String);

impl ServerFigures {
    /// From the admin address on this machine; none when nobody answers there.
    pub(crate) fn read(address: &Address) -> Option<ServerFigures> {
        let answer = loopback::get(address, "/metrics", FIGURES_PATIENCE).ok()?;
        (answer.status == 200).then_some(ServerFigures(answer.body))
    }

    /// The sum of the series whose names begin so.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let lines = self.0.lines().filter(|line| line.starts_with(name));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}
