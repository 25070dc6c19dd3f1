//! `paidup check`: whether the server would start and work here, without starting it.

use std::fs;
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
use crate::config::page::PageConfig;
use crate::config::serve::{self, Config, look_alikes};
use crate::config::stripe::{StripeConfig, webhook_url};
use crate::config::{self, Address, ConfigError, ConfigWarning, Counted};
use crate::host::files::{self, Unfit, folder_of};
use crate::host::{ports, systemd};
use crate::http::loopback;
use crate::serve::metrics::UNNAMED;
use crate::store::{
    Process, Store, StoreError, StoredEvent, UseLock, readers, uses_another_file, writer,
};
use crate::truth::event::{Ignored, SAMPLE_EVENT};
use crate::truth::reading::Mode;

pub(crate) const COMMAND: Command = Command {
    name: "check",
    arguments: "",
    summary: "Say whether `serve` would work here: configuration, files, database, disk",
    details: "Every mistake at once, each with its remedy. Nothing is changed and no server is needed: run it\n\
              before each restart. A running server is asked whether its proxy names its clients. When a\n\
              variable of `api`, `notify` or `page` is set, that configuration is checked as well. What the shop\n\
              has not heard is named. `systemctl reload paidup` runs it with --reload.",
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
    let in_file = |problem: &String| Finding::problem("environment file", problem, "", "");
    let mut findings: Vec<Finding> = environment.problems.iter().map(in_file).collect();
    findings.extend(configuration(config, is_installed(environment)));
    findings.extend(other_processes(environment, config));
    findings.extend(zone(environment));
    findings.extend(
        config
            .iter()
            .filter(|_| is_installed(environment))
            .flat_map(better_limit),
    );
    findings.extend(secret_files(environment));
    if let Ok(path) = serve::database_path(&environment.vars) {
        take_identity(&path)?;
        let listeners = listeners(environment, config);
        findings.extend(listeners.iter().filter_map(socket));
        findings.extend(taken_ports(&listeners));
        findings.extend(
            config
                .iter()
                .flat_map(|config| overridden(environment, config)),
        );
        let mode = config.as_ref().ok().and_then(|config| config.reading.mode);
        findings.extend(database(&path, mode));
    }
    findings.extend(config.as_ref().ok().and_then(proxy));
    Ok(findings)
}

/// The mistakes and oddities of the configuration, each with its remedy.
fn configuration(config: &Result<Config, Vec<ConfigError>>, is_installed: bool) -> Vec<Finding> {
    match config {
        Ok(config) => {
            // The units keep the key from the server.
            let is_standing =
                |warning: &&ConfigWarning| is_installed && warning.variable == "STRIPE_SECRET_KEY";
            let warnings = config
                .warnings
                .iter()
                .filter(|warning| !is_standing(warning));
            let mut findings: Vec<Finding> = warnings.map(odd).collect();
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

/// The same for the other processes and commands, where any of their variables is set.
fn other_processes(
    environment: &Environment,
    config: &Result<Config, Vec<ConfigError>>,
) -> Vec<Finding> {
    let vars = &environment.vars;
    let mut known = config.as_ref().err().cloned().unwrap_or_default();
    let mut findings = Vec::new();
    let mut look = |who: &str, result: Result<(), Vec<ConfigError>>| match result {
        Ok(()) => findings.push(Finding::good(
            "configuration",
            format!("{who} can use its variables"),
        )),
        Err(errors) => {
            let new = errors.into_iter().filter(|error| !known.contains(error));
            let new: Vec<ConfigError> = new.collect();
            findings.extend(new.iter().map(mistake));
            known.extend(new);
        }
    };
    if ApiConfig::is_wanted(vars) {
        look("`paidup api`", environment.api().map(drop));
    }
    if StripeConfig::is_wanted(vars) {
        let settings = environment.stripe_config();
        let settings = settings.and_then(|it| it.for_database(None).map_err(|error| vec![error]));
        look("a command that calls Stripe", settings.map(drop));
    }
    if NotifyConfig::is_wanted(vars) {
        look("`paidup notify`", environment.notify().map(drop));
    }
    if PageConfig::is_wanted(vars) {
        look("`paidup page`", environment.page().map(drop));
    }
    if let Err(error) = webhook_url(vars) {
        look("", Err(vec![error]));
    }
    // Said with the rest when there is no mistake.
    if config.is_err() {
        findings.extend(look_alikes(vars).iter().map(odd));
    }
    findings
}

/// Nothing fails without the zone that was meant; people only read other times than they think.
pub(crate) fn zone(environment: &Environment) -> Option<Finding> {
    let error = config::zone(&environment.vars).err()?;
    let what = format!("{} {}", error.variable, error.problem);
    let finding = Finding::warning("time zone", what, error.why, &error.remedy);
    Some(finding)
}

fn odd(warning: &ConfigWarning) -> Finding {
    let what = format!("{} {}", warning.variable, warning.problem);
    Finding::warning("configuration", what, "", &warning.remedy)
}

fn mistake(error: &ConfigError) -> Finding {
    let what = format!("{} {}", error.variable, error.problem);
    Finding::problem("configuration", what, error.why, &error.remedy)
}

/// The files that hold secrets: where each is named, why it matters who reads it, and what to replace.
const SECRET_FILES: [(&str, &str, &str); 5] = [
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
    (
        "PAGE_PASSWORD_FILE",
        "Whoever knows the password can read every order.",
        "make a new password (`paidup gen-token`)",
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

/// Where the processes listen that are set up, with the variable that says so.
fn listeners(
    environment: &Environment,
    config: &Result<Config, Vec<ConfigError>>,
) -> Vec<(&'static str, Address)> {
    let vars = &environment.vars;
    let server = config.as_ref().ok();
    let api = ApiConfig::is_wanted(vars).then(|| environment.api().ok());
    let page = PageConfig::is_wanted(vars).then(|| environment.page().ok());
    [
        ("LISTEN_ADDR", server.map(|config| config.listen.clone())),
        ("ADMIN_ADDR", server.and_then(|config| config.admin.clone())),
        ("API_ADDR", api.flatten().map(|api| api.listen)),
        ("PAGE_ADDR", page.flatten().map(|page| page.listen)),
    ]
    .into_iter()
    .filter_map(|(variable, address)| Some((variable, address?)))
    .collect()
}

/// A Unix socket may replace only another socket.
fn socket((variable, address): &(&'static str, Address)) -> Option<Finding> {
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

/// Whether another program has a port that we are to listen on.
fn taken_ports(listeners: &[(&'static str, Address)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = Vec::new();
    for (variable, address) in listeners {
        let Address::Tcp(address) = address else {
            continue;
        };
        if address.port() != 0 && seen.contains(&address) {
            let what = format!("{variable} is {address}, which is another listener's already");
            let next = format!("Give {variable} a port of its own");
            findings.push(Finding::problem(
                "configuration",
                what,
                "Only one of them starts.",
                next,
            ));
        }
        seen.push(address);
        findings.extend(ports::other_holder(*address).map(|program| {
            let what = format!("{variable}: {program} has the port {address}");
            let why = "The server, or systemd's socket, does not start while it does.";
            let next = format!(
                "End that program, or set another port in {variable} and in the socket's unit"
            );
            Finding::problem("configuration", what, why, next)
        }));
    }
    findings
}

/// What the installed sockets listen on counts, whatever the settings say.
fn overridden(environment: &Environment, config: &Config) -> Vec<Finding> {
    if !is_installed(environment) {
        return Vec::new();
    }
    let admin = config
        .admin
        .as_ref()
        .map_or("off".to_owned(), Address::to_string);
    let mut wanted = vec![
        ("LISTEN_ADDR", "paidup.socket", config.listen.to_string()),
        ("ADMIN_ADDR", "paidup-admin.socket", admin),
    ];
    // Whoever did not set it knows the socket's address from the README.
    if let (Some(_), Ok(page)) = (environment.vars.get("PAGE_ADDR"), environment.page()) {
        wanted.push(("PAGE_ADDR", "paidup-page.socket", page.listen.to_string()));
    }
    let other = |(variable, unit, wanted): (&str, &str, String)| {
        let listens = systemd::listens_on(unit)?;
        let is_same = wanted.trim_start_matches("unix:") == listens;
        (!is_same).then(|| {
            Finding::warning(
                "configuration",
                format!("{variable} is {wanted}, and {unit} listens on {listens}, which counts"),
                "systemd hands its socket to the server, which listens on nothing else.",
                format!(
                    "Set {variable} to the same, or change the unit: `sudo systemctl edit {unit}`"
                ),
            )
        })
    };
    wanted.into_iter().filter_map(other).collect()
}

fn is_installed(environment: &Environment) -> bool {
    environment.file.as_deref() == Some(Path::new(INSTALLED))
}

/// The settings of the units.
const INSTALLED: &str = "/etc/paidup/paidup.env";

/// The default answers a burst of Stripe's own with 429 as well. That is allowed, since Stripe retries.
fn better_limit(config: &Config) -> Option<Finding> {
    let counts_stripe =
        config.rate_limit_count == Counted::All && config.rate_limit_exempt.is_empty();
    let max = config.rate_limit_max;
    counts_stripe.then(|| {
        Finding::good(
            "rate limit",
            format!(
                "{max} requests a minute from one address, Stripe's own too: sixty refunds at once may get 429, and come \
                 again. Better: RATE_LIMIT_WEBHOOK_COUNT=unverified counts only what Stripe did not sign"
            ),
        )
    })
}

/// The database: it exists or can be created, is ours, is intact as far as the server sees when it starts,
/// has the configured mode, is private, and has room to grow. A big one takes no longer than a small one.
fn database(path: &Path, configured: Option<Mode>) -> Vec<Finding> {
    let mut findings = match Store::open_to_read(path) {
        Ok(store) => {
            return stored(path, &store, configured);
        }
        // It was created here once, and is gone.
        Err(StoreError::Missing) if UseLock::path(path).exists() => vec![
            Finding::problem(
                "database",
                StoreError::Vanished.at(path),
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
    findings.extend(around(path));
    findings
}

/// What is found in a database that opens, and around it.
pub(crate) fn stored(path: &Path, store: &Store, configured: Option<Mode>) -> Vec<Finding> {
    let mut findings = contents(path, store);
    findings.extend([path, folder_of(path)].into_iter().find_map(unwritable));
    findings.extend(mode(store, configured));
    findings.extend(notify::findings(store));
    findings.extend(writer(path).as_ref().map(busy));
    findings.extend(store.overlong_log().map(|bytes| long_log(path, bytes)));
    findings.extend(around(path));
    findings
}

/// Whether the server has this file open, and whether the disk has room for it.
fn around(path: &Path) -> Vec<Finding> {
    let other = uses_another_file(path).map(|pid| {
        Finding::problem(
            "server",
            format!("process {pid} has another file open than the one that is there now"),
            "The file was deleted or replaced under it. It answers 503, and what it stored last is \
             only in the file that it has open.",
            StoreError::Replaced.at(path),
        )
    });
    let found = other.into_iter().chain(room(path));
    found.chain(unfit_disk(path)).collect()
}

/// Reading works without the permission to write; the server does not.
fn unwritable(path: &Path) -> Option<Finding> {
    let refused = files::may_write(path).err()?;
    Some(
        Finding::problem(
            "permissions",
            format!("{} cannot be written: {refused}", path.display()),
            "The server does not start without that.",
            "Give the file and its folder to the user that paidup runs as, and mount their disk for writing",
        )
        .stopping_a_start(),
    )
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

/// Somebody has been writing for longer than any delivery takes.
fn busy(writer: &Process) -> Finding {
    Finding::problem(
        "database",
        format!("{writer} holds its write lock"),
        "Deliveries wait 5 s and are then answered 503 store_busy; Stripe resends them.",
        format!("End it, unless it ends by itself: `kill {}`", writer.pid),
    )
}

/// Somebody has been reading for long, and may still be.
fn long_log(path: &Path, bytes: i64) -> Finding {
    let mib = bytes / (1024 * 1024);
    let readers = readers(path);
    let (who, next) = match readers.as_deref() {
        Ok([]) => (
            "nobody reads it now".to_owned(),
            "No action needed: the next delivery cuts it".to_owned(),
        ),
        Ok(readers) => {
            let readers: Vec<String> = readers.iter().map(Process::to_string).collect();
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
    let next = format!("Make room on the disk that holds {}", path.display());
    Some(match free {
        0..FREE_PROBLEM_BYTES => Finding::problem("disk", what, why, next),
        FREE_PROBLEM_BYTES..FREE_WARNING_BYTES => Finding::warning("disk", what, why, next),
        FREE_WARNING_BYTES.. => Finding::good("disk", what),
    })
}

fn unfit_disk(path: &Path) -> Option<Finding> {
    let folder = folder_of(path);
    let (name, unfit) = files::unfit_disk(folder)?;
    let why = match unfit {
        Unfit::InMemory => "It is memory: all orders are gone when the machine restarts.",
        Unfit::Layer => "It is a container's own layer: all orders are gone with the container.",
        Unfit::Network => {
            "Over a network, or through a program, SQLite's locks and its shared memory may not hold: orders may be \
             lost or damaged (https://www.sqlite.org/wal.html)."
        }
    };
    Some(Finding::warning(
        "disk",
        format!("{} is on {name}", folder.display()),
        why,
        "Put the database on a disk of this machine, ext4 or xfs: in a container, on a volume; then set DATABASE_PATH",
    ))
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
