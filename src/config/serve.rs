//! Turns environment variables into a [`Config`], or into every mistake at once: being told of the
//! second mistake after repairing the first is a small cruelty at 3 a.m.
//!
//! No error and no warning shows a value: whatever stands in the wrong variable may be a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;

use super::stripe::split;
use super::variable::{
    self, ADMIN_ADDR, BODY_MAX_BYTES, DATABASE_PATH, HTTP_CONNECTIONS, LISTEN_ADDR, LOG_LEVEL,
    ORDER_ID_FROM, OUR_ORDERS, PUBLIC_CHECKOUT_ORIGINS, PUBLIC_CHECKOUT_STATUS,
    RATE_LIMIT_CHECKOUT_MAX, RATE_LIMIT_WEBHOOK_COUNT, RATE_LIMIT_WEBHOOK_EXEMPT,
    RATE_LIMIT_WEBHOOK_MAX, REQUEST_TIMEOUT_SECONDS, SOCKET_GROUP, STRIPE_API_VERSION, STRIPE_MODE,
    STRIPE_SECRET_KEY, STRIPE_WEBHOOK_SECRET, STRIPE_WEBHOOK_SECRET_FILE, TRUSTED_PROXIES,
    Variable, WEBHOOK_TOLERANCE_SECONDS,
};
use crate::base::secret::Secret;
use crate::truth::event::Mode;
use crate::truth::reading::{NamePlaces, Ours, Reading};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Which requests use up the tokens of the rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Every request, as the runbook has it.
    All,
    /// Those that fail verification, so that a burst of real events is never refused.
    Unverified,
}

/// Who may ask for the status of an order by its Checkout Session, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckoutStatusConfig {
    /// Origins (`https://shop.example`) whose pages may read the answer.
    pub origins: Vec<Box<str>>,
    /// Requests a minute of each client.
    pub rate_limit_max: NonZeroU32,
}

/// All that the service was told, checked.
#[derive(Debug)]
pub struct Config {
    /// The public listener.
    pub listen: Address,
    /// The Admin server's listener, a loopback address or a Unix socket; `None` when it is off.
    pub admin: Option<Address>,
    /// The group that may connect to our Unix sockets, beside our own user.
    pub socket_group: Option<u32>,
    /// The SQLite file.
    pub database: PathBuf,
    /// At least one.
    pub webhook_secrets: Vec<Secret>,
    /// Age in seconds at which a signature still counts, at least 1.
    pub tolerance_seconds: i64,
    /// The version that events are expected to have.
    pub api_version: Box<str>,
    /// How events are to be read.
    pub reading: Reading,
    /// Tokens a minute of each client.
    pub rate_limit_max: NonZeroU32,
    /// Clients that are never limited.
    pub rate_limit_exempt: Vec<IpNet>,
    /// What uses up tokens.
    pub rate_limit_count: Counted,
    /// Peers whose word about a request's origin counts.
    pub trusted_proxies: Vec<IpNet>,
    /// Threads of the public listener.
    pub http_connections: NonZeroUsize,
    /// From the first byte of a request to its last.
    pub request_timeout: Duration,
    /// Largest request body.
    pub body_max_bytes: usize,
    /// The least severe level that is logged.
    pub log_level: LevelFilter,
    /// How a success page may ask for the status of an order; `None` when it may not.
    pub checkout_status: Option<CheckoutStatusConfig>,
    /// What is allowed and yet may not be meant.
    pub warnings: Vec<ConfigWarning>,
}

/// A mistake that keeps the service from starting. Its `Display` is a message of two lines for the
/// operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable to change.
    pub variable: &'static str,
    /// What is wrong with it, as the end of a sentence that begins with its name.
    pub problem: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigError {
            variable,
            problem,
            why,
            remedy,
        } = self;
        write!(f, "{variable} {problem}. {why}\n  {remedy}")
    }
}

/// Something that is allowed and yet may not be meant. Its `Display` is a message of two lines for
/// the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigWarning {
    /// The variable to look at.
    pub variable: String,
    /// What is odd about it, as the end of a sentence that begins with its name.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}.\n  {}", self.variable, self.problem, self.remedy)
    }
}

impl Config {
    /// Checks all of `vars`. `read_file` is asked for the content of `STRIPE_WEBHOOK_SECRET_FILE`,
    /// when that is set.
    ///
    /// # Errors
    /// Every mistake, in the order of [`VARIABLES`](variable::VARIABLES).
    pub fn parse(
        vars: &BTreeMap<String, String>,
        read_file: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Config, Vec<ConfigError>> {
        let mut reader = Reader::new(vars);
        let config = reader.config(read_file);
        match config {
            Some(config) if reader.errors.is_empty() => Ok(config),
            Some(_) | None => Err(reader.errors),
        }
    }
}

/// The SQLite file alone, for commands that need nothing else.
///
/// # Errors
/// [`ConfigError`] when `DATABASE_PATH` is no file.
pub fn database_path(vars: &BTreeMap<String, String>) -> Result<PathBuf, ConfigError> {
    let path = text(vars, &DATABASE_PATH);
    let (problem, why) = if path == ":memory:" {
        (
            "is :memory:, which is no file",
            "Every order would be gone after a restart.",
        )
    } else if path.contains("://") || looks_secret(path) {
        (
            "is a URL or a secret, and no path of a file",
            "Its name would be shown and logged, and a password in it.",
        )
    } else {
        return Ok(PathBuf::from(path));
    };
    Err(ConfigError {
        variable: DATABASE_PATH.name,
        problem: problem.to_owned(),
        why,
        remedy: format!("Name a file, such as {}.", DATABASE_PATH.default),
    })
}

/// The value of `variable` without blanks around it, or its default when that leaves nothing.
pub(super) fn text<'a>(vars: &'a BTreeMap<String, String>, variable: &Variable) -> &'a str {
    let value = vars.get(variable.name).map_or("", |value| value.trim());
    if value.is_empty() {
        variable.default
    } else {
        value
    }
}

/// Most secrets: each costs one HMAC of every body. Two modes and a rotation of both make four.
const SECRETS_MAX: usize = 16;

/// What follows the database's name in the names of the files that belong to it.
const DATABASE_SUFFIXES: [&str; 5] = ["", "-wal", "-shm", "-journal", ".lock"];

/// Longest path of a Unix socket, in bytes, without the NUL at its end:
/// <https://man7.org/linux/man-pages/man7/unix.7.html>.
const SOCKET_PATH_MAX_BYTES: usize = 107;

/// Where an operator finds a signing secret.
const FIND_SECRET: &str = "Copy the signing secret (it starts with whsec_) from Dashboard → \
    Webhooks → your endpoint → Signing secret, put it in the environment file, and restart.";

/// Reads one variable after the other and collects what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) vars: &'a BTreeMap<String, String>,
    pub(super) errors: Vec<ConfigError>,
    warnings: Vec<ConfigWarning>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(vars: &'a BTreeMap<String, String>) -> Reader<'a> {
        Reader {
            vars,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Reads everything before it looks at anything, so that no mistake hides another.
    fn config(&mut self, read_file: &dyn Fn(&Path) -> io::Result<String>) -> Option<Config> {
        let listen = self.listen();
        let admin = self.admin(listen.as_ref());
        let socket_group = self.socket_group(read_file);
        let database = self.database(&[
            (&LISTEN_ADDR, listen.as_ref()),
            (&ADMIN_ADDR, admin.as_ref().and_then(Option::as_ref)),
        ]);
        let webhook_secrets = self.secrets(read_file);
        let tolerance_seconds = self.number::<i64>(
            &WEBHOOK_TOLERANCE_SECONDS,
            1..=86_400,
            "It keeps old deliveries from being replayed. 0 is refused, since some Stripe \
             libraries take it for no limit; beyond a day it protects nothing.",
        );
        let api_version = self.api_version();
        let reading = self.reading();
        let rate_limit_max = self.number::<u32>(
            &RATE_LIMIT_WEBHOOK_MAX,
            1..=1_000_000,
            "With none a minute, every webhook would be answered 429.",
        );
        let rate_limit_exempt = self.networks(&RATE_LIMIT_WEBHOOK_EXEMPT);
        let rate_limit_count = self.choice(
            &RATE_LIMIT_WEBHOOK_COUNT,
            &[("all", Counted::All), ("unverified", Counted::Unverified)],
            "Which requests are answered 429 would be a guess.",
        );
        let trusted_proxies = self.networks(&TRUSTED_PROXIES);
        let http_connections = self.number::<usize>(
            &HTTP_CONNECTIONS,
            1..=4096,
            "Each is a thread; with none, nothing is served.",
        );
        let request_timeout = self.number::<u64>(
            &REQUEST_TIMEOUT_SECONDS,
            1..=300,
            "A client that sends nothing holds a thread for that long.",
        );
        let body_max_bytes = self.number::<usize>(
            &BODY_MAX_BYTES,
            1024..=16 * 1024 * 1024,
            "A smaller limit refuses real events with 413, a larger one lets strangers fill \
             the memory.",
        );
        let log_level = self.log_level();
        let checkout_status = self.checkout_status();
        self.look_alikes();
        self.unneeded_key();
        Some(Config {
            listen: listen?,
            admin: admin?,
            socket_group: socket_group?,
            database: database?,
            webhook_secrets: webhook_secrets?,
            tolerance_seconds: tolerance_seconds?,
            api_version: api_version?,
            reading: reading?,
            rate_limit_max: NonZeroU32::new(rate_limit_max?)?,
            rate_limit_exempt: rate_limit_exempt?,
            rate_limit_count: rate_limit_count?,
            trusted_proxies: trusted_proxies?,
            http_connections: NonZeroUsize::new(http_connections?)?,
            request_timeout: Duration::from_secs(request_timeout?),
            body_max_bytes: body_max_bytes?,
            log_level: log_level?,
            checkout_status: checkout_status?,
            warnings: std::mem::take(&mut self.warnings),
        })
    }

    fn listen(&mut self) -> Option<Address> {
        let value = text(self.vars, &LISTEN_ADDR);
        match address(value) {
            Ok(address) => Some(address),
            Err(problem) => self.refuse(
                &LISTEN_ADDR,
                problem,
                "No webhook could come in.",
                format!(
                    "Write an IP address and a port, such as {}, or unix:/PATH.",
                    LISTEN_ADDR.default
                ),
            ),
        }
    }

    fn admin(&mut self, listen: Option<&Address>) -> Option<Option<Address>> {
        let value = text(self.vars, &ADMIN_ADDR);
        if value == "off" {
            return Some(None);
        }
        let problem = match loopback(value) {
            Err(problem) => problem,
            Ok(Address::Tcp(address)) if address.port() == 0 => {
                return Some(Some(Address::Tcp(address)));
            }
            Ok(address) if Some(&address) == listen => "is the same as LISTEN_ADDR".to_owned(),
            Ok(address) => return Some(Some(address)),
        };
        self.refuse(
            &ADMIN_ADDR,
            problem,
            "Health and metrics are for this machine alone: they tell how the shop is doing.",
            format!(
                "Write a loopback address and a port of its own, such as {}, or unix:/PATH, or off.",
                ADMIN_ADDR.default
            ),
        )
    }

    /// The SQLite file, which none of these addresses may name: the socket would be in its place.
    pub(super) fn database(
        &mut self,
        addresses: &[(&Variable, Option<&Address>)],
    ) -> Option<PathBuf> {
        let database = database_path(self.vars).map_err(|error| self.errors.push(error));
        let database = database.ok()?;
        // A relative path is looked for where we were started, a socket's never is.
        let whole = std::path::absolute(&database).unwrap_or_else(|_| database.clone());
        let files: Vec<PathBuf> = DATABASE_SUFFIXES
            .iter()
            .map(|suffix| PathBuf::from(format!("{}{suffix}", whole.display())))
            .collect();
        for (variable, address) in addresses {
            if let Some(Address::Unix(path)) = address
                && files.contains(path)
            {
                self.refuse::<()>(
                    variable,
                    "is the path of the database, or of a file that belongs to it".to_owned(),
                    "A socket and the orders cannot have one name.",
                    "Write a path of its own, such as unix:/run/paidup/webhook.sock.".to_owned(),
                );
            }
        }
        Some(database)
    }

    /// The number of the group, which may be given by its name.
    pub(super) fn socket_group(
        &mut self,
        read_file: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Option<Option<u32>> {
        let value = text(self.vars, &SOCKET_GROUP);
        if value.is_empty() {
            return Some(None);
        }
        let group = value.parse().ok().or_else(|| {
            let groups = read_file(Path::new("/etc/group")).ok()?;
            groups.lines().find_map(|line| {
                let mut fields = line.split(':');
                let number = (fields.next() == Some(value)).then(|| fields.nth(1))?;
                number?.parse().ok()
            })
        });
        if group.is_some() {
            return Some(group);
        }
        self.refuse(
            &SOCKET_GROUP,
            "is no group in /etc/group, and no number of one".to_owned(),
            "Nobody but our own user could connect to the Unix sockets.",
            "Write the group of the proxy, such as www-data, or remove the variable.".to_owned(),
        )
    }

    fn secrets(&mut self, read_file: &dyn Fn(&Path) -> io::Result<String>) -> Option<Vec<Secret>> {
        let (variable, content) = self.secret_text(
            &STRIPE_WEBHOOK_SECRET,
            &STRIPE_WEBHOOK_SECRET_FILE,
            "Every webhook would be refused with 400.",
            FIND_SECRET,
            read_file,
        )?;
        self.secrets_in(variable, &content)
    }

    /// What stands in `direct` or in the file that `file` names, and which of the two it was.
    pub(super) fn secret_text(
        &mut self,
        direct: &'static Variable,
        file: &'static Variable,
        why: &'static str,
        remedy: &str,
        read_file: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Option<(&'static Variable, String)> {
        let value = text(self.vars, direct);
        let path = text(self.vars, file);
        if path.is_empty() && value.is_empty() {
            let problem = "is not set or blank".to_owned();
            return self.refuse(direct, problem, why, remedy.to_owned());
        }
        if path.is_empty() {
            return Some((direct, value.to_owned()));
        }
        if !value.is_empty() {
            return self.refuse(
                file,
                format!("is set, and so is {}", direct.name),
                "A rotation would change one of them, perhaps the one that does not count.",
                "Remove one of the two from the environment file.".to_owned(),
            );
        }
        match read_file(Path::new(path)) {
            Ok(content) => Some((file, content)),
            Err(error) => self.refuse(
                file,
                format!("names a file that cannot be read: {error}"),
                why,
                "Give the path of a file that the service's user can read.".to_owned(),
            ),
        }
    }

    /// The secrets in `content`, separated by commas or line ends.
    fn secrets_in(&mut self, variable: &Variable, content: &str) -> Option<Vec<Secret>> {
        let lines = content.lines().filter(|line| !line.trim().is_empty());
        let secrets: Vec<&str> = lines
            .flat_map(|line| line.split(',').map(str::trim))
            .collect();
        let count = secrets.len();
        let problem = if count == 0 {
            "names a file that is blank".to_owned()
        } else if secrets.contains(&"") {
            "has an empty secret before or after a comma".to_owned()
        } else if count > SECRETS_MAX {
            format!("has {count} secrets, more than {SECRETS_MAX}")
        } else {
            for (secret, number) in secrets.iter().zip(1..) {
                self.judge_secret(variable, secret, number, count);
            }
            return Some(secrets.into_iter().map(Secret::new).collect());
        };
        self.refuse(
            variable,
            problem,
            "A secret is missing, or one is not meant, and webhooks would be refused with 400.",
            FIND_SECRET.to_owned(),
        )
    }

    fn judge_secret(&mut self, variable: &Variable, secret: &str, number: usize, count: usize) {
        if !secret.starts_with("whsec_") {
            self.warn(
                variable.name,
                format!(
                    "has a secret (number {number} of {count}) that does not start with whsec_"
                ),
                "An API key (sk_, rk_, pk_) or a secret with its quotes verifies nothing. \
                 Compare it with Dashboard → Webhooks → your endpoint → Signing secret.",
            );
        }
    }

    /// How events are to be read, whoever reads them.
    pub(super) fn reading(&mut self) -> Option<Reading> {
        let mode = self.choice(
            &STRIPE_MODE,
            &[
                ("", None),
                ("live", Some(Mode::Live)),
                ("test", Some(Mode::Test)),
            ],
            "Test events could change live orders.",
        );
        let names = match NamePlaces::parse(text(self.vars, &ORDER_ID_FROM)) {
            Ok(names) => Some(names),
            Err(problem) => self.refuse(
                &ORDER_ID_FROM,
                problem.to_string(),
                "Payments could not be told which order they are for.",
                format!("Write places such as {}.", ORDER_ID_FROM.default),
            ),
        };
        let value = text(self.vars, &OUR_ORDERS);
        let ours = match Ours::parse(value) {
            None if value.is_empty() => Some(None),
            Some(ours) => Some(Some(ours)),
            None => self.refuse(
                &OUR_ORDERS,
                "says of no order that it is ours".to_owned(),
                "Another shop's payments could pay this shop's orders, or none would count.",
                "Write metadata.KEY=VALUE, such as metadata.shop=coffee, or how the order ids begin, such \
                 as CF-*."
                    .to_owned(),
            ),
        };
        Some(Reading {
            mode: mode?,
            names: names?,
            ours: ours?,
        })
    }

    pub(super) fn api_version(&mut self) -> Option<Box<str>> {
        let value = text(self.vars, &STRIPE_API_VERSION);
        if is_api_version(value) {
            return Some(value.into());
        }
        self.refuse(
            &STRIPE_API_VERSION,
            "is no version of Stripe's API".to_owned(),
            "Events of another release could not be told from those that fit.",
            format!(
                "Copy the API version of Dashboard → Webhooks → your endpoint, such as {}.",
                STRIPE_API_VERSION.default
            ),
        )
    }

    pub(super) fn log_level(&mut self) -> Option<LevelFilter> {
        self.choice(
            &LOG_LEVEL,
            &[
                ("error", LevelFilter::Error),
                ("warn", LevelFilter::Warn),
                ("info", LevelFilter::Info),
                ("debug", LevelFilter::Debug),
            ],
            "Lines that alerts look for could be missing.",
        )
    }

    fn checkout_status(&mut self) -> Option<Option<CheckoutStatusConfig>> {
        let is_on = self.choice(
            &PUBLIC_CHECKOUT_STATUS,
            &[("off", false), ("on", true)],
            "What strangers may ask would be a guess.",
        );
        let origins = self.origins();
        let rate_limit_max = self.number::<u32>(
            &RATE_LIMIT_CHECKOUT_MAX,
            1..=1_000_000,
            "With none a minute, every success page would be answered 429.",
        );
        let config = CheckoutStatusConfig {
            origins: origins?,
            rate_limit_max: NonZeroU32::new(rate_limit_max?)?,
        };
        let is_on = is_on?;
        if !is_on && !config.origins.is_empty() {
            self.warn(
                PUBLIC_CHECKOUT_ORIGINS.name,
                "is set, and PUBLIC_CHECKOUT_STATUS is off".to_owned(),
                "Set PUBLIC_CHECKOUT_STATUS=on if pages of these sites are to read the status.",
            );
        }
        Some(is_on.then_some(config))
    }

    fn origins(&mut self) -> Option<Vec<Box<str>>> {
        let value = text(self.vars, &PUBLIC_CHECKOUT_ORIGINS);
        let items = value.split(',').map(str::trim);
        let origins: Vec<&str> = items.filter(|item| !item.is_empty()).collect();
        if let Some(bad) = origins.iter().position(|origin| !is_origin(origin)) {
            return self.refuse(
                &PUBLIC_CHECKOUT_ORIGINS,
                format!("has an entry (number {}) that is no origin of a page", bad + 1),
                "The browser compares it letter by letter, and pages of that site would read nothing.",
                "Write scheme and host in small letters, and the port if the address has one, such \
                 as https://shop.example,http://localhost:8000; no path, no slash at the end, no *."
                    .to_owned(),
            );
        }
        Some(origins.into_iter().map(Box::from).collect())
    }

    pub(super) fn number<T: TryFrom<u64>>(
        &mut self,
        variable: &Variable,
        range: RangeInclusive<u64>,
        why: &'static str,
    ) -> Option<T> {
        let value = text(self.vars, variable);
        let number = value.parse().ok().filter(|number| range.contains(number));
        if let Some(number) = number.and_then(|number| T::try_from(number).ok()) {
            return Some(number);
        }
        let (least, most) = (range.start(), range.end());
        self.refuse(
            variable,
            format!("is no whole number from {least} to {most}"),
            why,
            format!("Write such a number; the default is {}.", variable.default),
        )
    }

    fn choice<T: Copy>(
        &mut self,
        variable: &Variable,
        choices: &[(&str, T)],
        why: &'static str,
    ) -> Option<T> {
        let value = text(self.vars, variable);
        let chosen = choices
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(value));
        if let Some((_, choice)) = chosen {
            return Some(*choice);
        }
        let words: Vec<&str> = choices
            .iter()
            .map(|(word, _)| *word)
            .filter(|word| !word.is_empty())
            .collect();
        let words = words.join(", ");
        self.refuse(
            variable,
            format!("is none of: {words}"),
            why,
            "Write one of these words, or remove the variable for the default.".to_owned(),
        )
    }

    /// Blank means none here, not the default: it is the plainest way to trust nobody.
    fn networks(&mut self, variable: &Variable) -> Option<Vec<IpNet>> {
        let set = self.vars.get(variable.name).map(|value| value.trim());
        let value = set.unwrap_or(variable.default);
        if value == "none" {
            return Some(Vec::new());
        }
        let items = value
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        let networks: Vec<Option<IpNet>> = items.map(network).collect();
        if let Some(bad) = networks.iter().position(Option::is_none) {
            return self.refuse(
                variable,
                format!("has an entry (number {}) that is no address and no CIDR", bad + 1),
                "Whose word or whose requests are treated apart would be a guess.",
                "Write IP addresses and CIDRs separated by commas, such as 10.0.0.0/8,::1, or none."
                    .to_owned(),
            );
        }
        let networks: Vec<IpNet> = networks.into_iter().flatten().collect();
        if networks.iter().any(|network| network.prefix_len() == 0) {
            self.warn(
                variable.name,
                "has a network that holds every address".to_owned(),
                "Anybody can claim any address, or is never limited. Name the machines you mean.",
            );
        }
        Some(networks)
    }

    /// Warns of each variable that is none of ours and nearly is.
    fn look_alikes(&mut self) {
        for name in self.vars.keys() {
            if let Some(meant) = variable::nearly(name) {
                self.warnings.push(ConfigWarning {
                    variable: name.clone(),
                    problem: "is not a variable of paidup and has no effect".to_owned(),
                    remedy: format!("If {} is meant, correct the name.", meant.name),
                });
            }
        }
    }

    /// Warns of a key to the whole account in a process that faces the internet without need.
    fn unneeded_key(&mut self) {
        if !text(self.vars, &STRIPE_SECRET_KEY).is_empty() {
            self.warn(
                STRIPE_SECRET_KEY.name,
                "is set, and the webhook server does not read it".to_owned(),
                "paidup's units keep it from the server. Without them, move it to an environment file that only \
                 the commands which call Stripe are given.",
            );
        }
    }

    fn warn(&mut self, variable: &str, problem: String, remedy: &str) {
        self.warnings.push(ConfigWarning {
            variable: variable.to_owned(),
            problem,
            remedy: remedy.to_owned(),
        });
    }

    pub(super) fn refuse<T>(
        &mut self,
        variable: &Variable,
        problem: String,
        why: &'static str,
        remedy: String,
    ) -> Option<T> {
        self.errors.push(ConfigError {
            variable: variable.name,
            problem,
            why,
            remedy,
        });
        None
    }
}

/// A listener's address, or what is wrong with it.
fn address(value: &str) -> Result<Address, String> {
    let Some(path) = value.strip_prefix("unix:") else {
        return value
            .parse()
            .map(Address::Tcp)
            .map_err(|_| "is no IP address with a port".to_owned());
    };
    if !path.starts_with('/') {
        return Err("has a path that does not begin with /".to_owned());
    }
    if path.len() > SOCKET_PATH_MAX_BYTES {
        return Err(format!(
            "has a path of {} bytes, more than the {SOCKET_PATH_MAX_BYTES} of a Unix socket",
            path.len()
        ));
    }
    Ok(Address::Unix(PathBuf::from(path)))
}

/// An address that only this machine can reach, or what is wrong with it.
pub(super) fn loopback(value: &str) -> Result<Address, String> {
    match address(value)? {
        Address::Tcp(address) if !address.ip().to_canonical().is_loopback() => {
            Err("is an address that other machines can reach".to_owned())
        }
        address @ (Address::Tcp(_) | Address::Unix(_)) => Ok(address),
    }
}

/// An address counts as the network that holds it alone.
fn network(item: &str) -> Option<IpNet> {
    if let Ok(address) = item.parse::<IpAddr>() {
        return Some(IpNet::from(address.to_canonical()));
    }
    item.parse::<IpNet>().ok().map(|network| network.trunc())
}

/// Whether a browser may name a site so in its `Origin` header
/// (<https://www.rfc-editor.org/rfc/rfc6454#section-6.2>).
fn is_origin(text: &str) -> bool {
    split(text).is_some() && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// `YYYY-MM-DD`, since 2024-09-30 with the name of a release: `YYYY-MM-DD.name`
/// (<https://docs.stripe.com/api/versioning>).
fn is_api_version(text: &str) -> bool {
    const NAME_MAX_BYTES: usize = 32;
    let (date, name) = text.split_once('.').unwrap_or((text, "none"));
    let date_fits = date.len() == 10
        && date.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let name_fits = (1..=NAME_MAX_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    date_fits && name_fits
}

/// Whether a signing secret or a key of Stripe's stands in `value`.
pub(crate) fn looks_secret(value: &str) -> bool {
    const STARTS: [&str; 5] = ["whsec_", "sk_live_", "sk_test_", "rk_live_", "rk_test_"];
    STARTS.iter().any(|start| value.contains(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::env_file;
    use crate::config::variable::{CALLING_STRIPE, VARIABLES};

    const CANARY: &str = "canary_4eC39HqLyjWDarjtT1zdp7dc";

    fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    }

    fn no_file(_: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    /// With a good secret beside `pairs`.
    fn parsed(pairs: &[(&str, &str)]) -> Result<Config, Vec<ConfigError>> {
        let mut vars = vars(pairs);
        vars.entry("STRIPE_WEBHOOK_SECRET".to_owned())
            .or_insert("whsec_1".to_owned());
        Config::parse(&vars, &no_file)
    }

    fn secrets_of(config: &Config) -> Vec<&str> {
        config.webhook_secrets.iter().map(Secret::expose).collect()
    }

    fn file_config(content: &'static str) -> Result<Config, Vec<ConfigError>> {
        let vars = vars(&[("STRIPE_WEBHOOK_SECRET_FILE", "/run/credentials/whsec")]);
        Config::parse(&vars, &|path| {
            assert_eq!(path, Path::new("/run/credentials/whsec"));
            Ok(content.to_owned())
        })
    }

    /// The one mistake of a configuration that has just one.
    fn mistake(result: Result<Config, Vec<ConfigError>>) -> ConfigError {
        let errors = result.unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors.into_iter().next().unwrap()
    }

    #[test]
    fn only_a_secret_is_needed_and_the_rest_has_the_documented_defaults() {
        let config = parsed(&[]).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:4242");
        assert_eq!(config.admin.unwrap().to_string(), "127.0.0.1:4243");
        assert_eq!(config.database, Path::new("paidup.db"));
        assert_eq!(config.tolerance_seconds, 300);
        assert_eq!(&*config.api_version, "2026-10-28.endive");
        assert_eq!(config.reading.mode, None);
        assert_eq!(config.rate_limit_max.get(), 100);
        assert_eq!(config.rate_limit_exempt, []);
        assert_eq!(config.rate_limit_count, Counted::All);
        let proxies: Vec<String> = config
            .trusted_proxies
            .iter()
            .map(IpNet::to_string)
            .collect();
        assert_eq!(proxies, ["127.0.0.0/8", "::1/128"]);
        assert_eq!(config.http_connections.get(), 128);
        assert_eq!(config.request_timeout, Duration::from_secs(10));
        assert_eq!(config.body_max_bytes, 524_288);
        assert_eq!(config.log_level, LevelFilter::Info);
        assert_eq!(config.warnings, []);
    }

    #[test]
    fn every_variable_is_read() {
        let config = parsed(&[
            ("LISTEN_ADDR", "unix:/run/paidup/http.sock"),
            ("ADMIN_ADDR", "[::1]:9000"),
            ("DATABASE_PATH", "/var/lib/paidup/paidup.db"),
            ("STRIPE_WEBHOOK_SECRET", " whsec_new , whsec_old "),
            ("WEBHOOK_TOLERANCE_SECONDS", "600"),
            ("STRIPE_API_VERSION", "2020-08-27"),
            ("STRIPE_MODE", "live"),
            ("RATE_LIMIT_WEBHOOK_MAX", "1"),
            (
                "RATE_LIMIT_WEBHOOK_EXEMPT",
                "3.18.12.63, 10.1.2.3/8,::ffff:3.69.109.8",
            ),
            ("RATE_LIMIT_WEBHOOK_COUNT", "unverified"),
            ("TRUSTED_PROXIES", "none"),
            ("HTTP_CONNECTIONS", "4096"),
            ("REQUEST_TIMEOUT_SECONDS", "300"),
            ("BODY_MAX_BYTES", "1024"),
            ("LOG_LEVEL", "DEBUG"),
        ])
        .unwrap();
        assert_eq!(config.listen.to_string(), "unix:/run/paidup/http.sock");
        assert_eq!(config.admin.as_ref().unwrap().to_string(), "[::1]:9000");
        assert_eq!(config.database, Path::new("/var/lib/paidup/paidup.db"));
        assert_eq!(secrets_of(&config), ["whsec_new", "whsec_old"]);
        assert_eq!(config.tolerance_seconds, 600);
        assert_eq!(&*config.api_version, "2020-08-27");
        assert_eq!(config.reading.mode, Some(Mode::Live));
        assert_eq!(config.rate_limit_max.get(), 1);
        let exempt: Vec<String> = config
            .rate_limit_exempt
            .iter()
            .map(IpNet::to_string)
            .collect();
        assert_eq!(exempt, ["3.18.12.63/32", "10.0.0.0/8", "3.69.109.8/32"]);
        assert_eq!(config.rate_limit_count, Counted::Unverified);
        assert_eq!(config.trusted_proxies, []);
        assert_eq!(config.http_connections.get(), 4096);
        assert_eq!(config.request_timeout, Duration::from_secs(300));
        assert_eq!(config.body_max_bytes, 1024);
        assert_eq!(config.log_level, LevelFilter::Debug);
        assert_eq!(config.warnings, []);
    }

    #[test]
    fn a_blank_variable_counts_as_not_set_and_a_blank_list_as_empty() {
        let blank: Vec<(&str, &str)> = VARIABLES
            .iter()
            .filter(|variable| variable.name != "STRIPE_WEBHOOK_SECRET")
            .map(|variable| (variable.name, " "))
            .collect();
        let config = parsed(&blank).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:4242");
        assert_eq!(config.reading.mode, None);
        assert_eq!(config.trusted_proxies, []);
    }

    #[test]
    fn every_mistake_is_told_at_once_in_a_short_message() {
        let wrong: Vec<(&str, &str)> = VARIABLES
            .iter()
            .filter(|variable| !CALLING_STRIPE.contains(variable))
            .map(|variable| match variable.name {
                "DATABASE_PATH" => (variable.name, ":memory:"),
                "STRIPE_WEBHOOK_SECRET" => (variable.name, ","),
                "STRIPE_WEBHOOK_SECRET_FILE" => (variable.name, ""),
                other => (other, "nonsense"),
            })
            .collect();
        let errors = Config::parse(&vars(&wrong), &no_file).unwrap_err();
        let named: Vec<&str> = errors.iter().map(|error| error.variable).collect();
        let expected: Vec<&str> = wrong
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| *name != "STRIPE_WEBHOOK_SECRET_FILE")
            .collect();
        assert_eq!(named, expected);
        for error in errors {
            let message = error.to_string();
            assert!(message.starts_with(error.variable), "{message}");
            assert_eq!(message.lines().count(), 2, "{message}");
            assert!(message.ends_with('.'), "{message}");
        }
    }

    #[test]
    fn a_missing_secret_says_where_to_find_it() {
        for value in ["", "  ", "\n"] {
            let error = mistake(parsed(&[("STRIPE_WEBHOOK_SECRET", value)]));
            assert_eq!(
                error.to_string(),
                "STRIPE_WEBHOOK_SECRET is not set or blank. Every webhook would be refused with \
                 400.\n  Copy the signing secret (it starts with whsec_) from Dashboard → Webhooks \
                 → your endpoint → Signing secret, put it in the environment file, and restart."
            );
        }
        assert_eq!(Config::parse(&vars(&[]), &no_file).unwrap_err().len(), 1);
    }

    #[test]
    fn an_empty_secret_among_others_is_refused() {
        for value in [
            "whsec_1,",
            ",whsec_1",
            "whsec_1,,whsec_2",
            ",",
            "whsec_1, ,whsec_2",
        ] {
            let error = mistake(parsed(&[("STRIPE_WEBHOOK_SECRET", value)]));
            assert!(error.problem.contains("empty secret"), "{error}");
        }
        let many = vec!["whsec_1"; 17].join(",");
        let error = mistake(parsed(&[("STRIPE_WEBHOOK_SECRET", &many)]));
        assert_eq!(error.problem, "has 17 secrets, more than 16");
    }

    #[test]
    fn a_secret_file_has_one_secret_a_line_or_separated_by_commas() {
        for content in [
            "whsec_1,whsec_2",
            "whsec_1\nwhsec_2\n",
            "\n whsec_1 \r\n\r\nwhsec_2\r\n",
        ] {
            let config = file_config(content).unwrap();
            assert_eq!(secrets_of(&config), ["whsec_1", "whsec_2"]);
        }
    }

    #[test]
    fn a_secret_file_that_is_blank_or_unreadable_is_named() {
        let error = mistake(file_config(" \n\n"));
        assert_eq!(error.variable, "STRIPE_WEBHOOK_SECRET_FILE");
        assert_eq!(error.problem, "names a file that is blank");

        let vars = vars(&[("STRIPE_WEBHOOK_SECRET_FILE", "/nowhere/whsec")]);
        let error = mistake(Config::parse(&vars, &no_file));
        assert_eq!(
            error.problem,
            "names a file that cannot be read: entity not found"
        );
    }

    #[test]
    fn a_secret_and_a_secret_file_together_are_a_mistake() {
        let error = mistake(parsed(&[("STRIPE_WEBHOOK_SECRET_FILE", "/run/whsec")]));
        assert_eq!(error.variable, "STRIPE_WEBHOOK_SECRET_FILE");
        assert_eq!(error.problem, "is set, and so is STRIPE_WEBHOOK_SECRET");
    }

    #[test]
    fn a_secret_of_an_odd_shape_is_a_warning() {
        let config = parsed(&[("STRIPE_WEBHOOK_SECRET", "whsec_1,\"whsec_2\",whsec_1")]).unwrap();
        assert_eq!(config.webhook_secrets.len(), 3);
        let [warning] = &config.warnings[..] else {
            panic!("{:?}", config.warnings);
        };
        assert_eq!(
            warning.problem,
            "has a secret (number 2 of 3) that does not start with whsec_"
        );
        assert_eq!(warning.to_string().lines().count(), 2);
    }

    #[test]
    fn no_message_shows_a_secret_even_in_the_wrong_variable() {
        let secrets = format!("{CANARY},whsec_{CANARY},");
        let misplaced = [
            format!("whsec_{CANARY}"),
            format!("sk_live_{CANARY}"),
            format!("postgres://shop:{CANARY}@db.example.com/shop"),
            format!("http://{CANARY}@proxy:3128"),
            format!("//{CANARY}"),
            CANARY.to_owned(),
        ];
        let mut printed = String::new();
        for value in &misplaced {
            for variable in VARIABLES {
                // Any other text is a path.
                if variable.name == "DATABASE_PATH"
                    && !value.contains("://")
                    && !looks_secret(value)
                {
                    continue;
                }
                let result = parsed(&[(variable.name, value)]);
                printed.push_str(&format!("{result:?}"));
                for error in result.err().into_iter().flatten() {
                    printed.push_str(&error.to_string());
                }
            }
        }
        for value in [CANARY, &secrets] {
            printed.push_str(&format!(
                "{:?}",
                parsed(&[("STRIPE_WEBHOOK_SECRET", value)])
            ));
        }
        assert!(!printed.contains("canary"), "{printed}");
    }

    #[test]
    fn the_admin_server_is_for_this_machine_alone() {
        for reachable in [
            "0.0.0.0:4243",
            "[::]:4243",
            "192.0.2.1:4243",
            "[::ffff:192.0.2.1]:1",
        ] {
            let error = mistake(parsed(&[("ADMIN_ADDR", reachable)]));
            assert!(error.problem.contains("other machines"), "{error}");
        }
        for local in [
            "127.0.0.1:0",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "unix:/a",
        ] {
            assert!(parsed(&[("ADMIN_ADDR", local)]).unwrap().admin.is_some());
        }
        assert_eq!(parsed(&[("ADMIN_ADDR", "off")]).unwrap().admin, None);
        let error = mistake(parsed(&[("ADMIN_ADDR", "127.0.0.1:4242")]));
        assert_eq!(error.problem, "is the same as LISTEN_ADDR");
        let both_free = [
            ("ADMIN_ADDR", "127.0.0.1:0"),
            ("LISTEN_ADDR", "127.0.0.1:0"),
        ];
        assert!(parsed(&both_free).is_ok());
    }

    #[test]
    fn a_listener_is_an_address_with_a_port_or_an_absolute_path() {
        let long = format!("unix:/{}", "a".repeat(107));
        for bad in [
            "localhost:4242",
            "127.0.0.1",
            ":4242",
            "4242",
            "unix:",
            "unix:run/x",
            &long,
        ] {
            let error = mistake(parsed(&[("LISTEN_ADDR", bad)]));
            assert_eq!(error.variable, "LISTEN_ADDR", "{bad}");
        }
        let longest = &long[..long.len() - 1];
        assert!(parsed(&[("LISTEN_ADDR", longest)]).is_ok());
    }

    #[test]
    fn no_socket_has_the_name_of_the_database_or_of_its_files() {
        let here = std::env::current_dir().unwrap();
        for database in ["paidup.db", "/srv/shop/./paidup.db"] {
            let whole = here.join(database);
            for suffix in ["", "-wal", "-shm", "-journal", ".lock"] {
                let address = format!("unix:{}{suffix}", whole.display());
                for name in ["LISTEN_ADDR", "ADMIN_ADDR"] {
                    let pairs = [("DATABASE_PATH", database), (name, address.as_str())];
                    assert_eq!(mistake(parsed(&pairs)).variable, name, "{address}");
                }
            }
            let beside = format!("unix:{}.sock", whole.display());
            assert!(parsed(&[("DATABASE_PATH", database), ("LISTEN_ADDR", &beside)]).is_ok());
        }
    }

    #[test]
    fn the_group_of_sockets_is_a_number_or_a_name_that_is_there() {
        let group = |value: &str| {
            let vars = vars(&[
                ("STRIPE_WEBHOOK_SECRET", "whsec_1"),
                ("SOCKET_GROUP", value),
            ]);
            Config::parse(&vars, &|path| {
                assert_eq!(path, Path::new("/etc/group"));
                Ok("root:x:0:\nwww-data:x:33:shop,paidup\nodd\n".to_owned())
            })
        };
        for (value, number) in [
            ("", None),
            ("www-data", Some(33)),
            (" 33 ", Some(33)),
            ("0", Some(0)),
        ] {
            assert_eq!(group(value).unwrap().socket_group, number, "{value}");
        }
        for bad in ["www", "odd", "x", "-1", "4294967296"] {
            assert_eq!(mistake(group(bad)).variable, "SOCKET_GROUP", "{bad}");
        }
    }

    #[test]
    fn numbers_keep_to_their_bounds() {
        for (name, least, most) in [
            ("WEBHOOK_TOLERANCE_SECONDS", 1, 86_400),
            ("RATE_LIMIT_WEBHOOK_MAX", 1, 1_000_000),
            ("HTTP_CONNECTIONS", 1, 4096),
            ("REQUEST_TIMEOUT_SECONDS", 1, 300),
            ("BODY_MAX_BYTES", 1024, 16 * 1024 * 1024),
        ] {
            for good in [least, most] {
                assert!(
                    parsed(&[(name, &good.to_string())]).is_ok(),
                    "{name} {good}"
                );
            }
            for bad in [0, least - 1, most + 1, -1, i64::MAX] {
                let error = mistake(parsed(&[(name, &bad.to_string())]));
                assert_eq!(error.variable, name);
            }
            for bad in [
                "1e3",
                "1_000",
                "2000.0",
                "0x800",
                "2000 s",
                "99999999999999999999",
            ] {
                let error = mistake(parsed(&[(name, bad)]));
                assert_eq!(error.variable, name);
            }
        }
    }

    #[test]
    fn an_api_version_is_a_date_with_or_without_a_release() {
        for good in ["2026-10-28.endive", "2025-03-31.preview", "2024-06-20"] {
            assert!(is_api_version(good), "{good}");
        }
        let long = format!("2026-10-28.{}", "a".repeat(33));
        for bad in [
            "",
            "endive",
            "2026-10-28.",
            "2026-10-28.a.b",
            "2026-10-28 ",
            "26-10-28",
            "2026/10/28",
            "2026-10-281",
            "v2026-10-28",
            "2026-10-28.ada@x",
            "2026-é-28",
            &long,
        ] {
            assert!(!is_api_version(bad), "{bad}");
        }
    }

    #[test]
    fn networks_are_addresses_and_cidrs() {
        for name in ["TRUSTED_PROXIES", "RATE_LIMIT_WEBHOOK_EXEMPT"] {
            for bad in [
                "localhost",
                "10.0.0.0/33",
                "10.0.0",
                "10.0.0.1:80",
                "10.0.0.1;10.0.0.2",
            ] {
                let error = mistake(parsed(&[(name, bad)]));
                assert_eq!(error.variable, name, "{bad}");
            }
            for wide in ["0.0.0.0/0", "10.0.0.0/8,::/0"] {
                let config = parsed(&[(name, wide)]).unwrap();
                assert_eq!(config.warnings.len(), 1, "{wide}");
            }
        }
    }

    #[test]
    fn a_name_that_is_nearly_right_is_a_warning() {
        let config = parsed(&[("STRIPE_WEBHOOK_SECRETS", CANARY), ("PATH", "/bin")]).unwrap();
        let shown: Vec<String> = config
            .warnings
            .iter()
            .map(ConfigWarning::to_string)
            .collect();
        assert_eq!(
            shown,
            [
                "STRIPE_WEBHOOK_SECRETS is not a variable of paidup and has no effect.\n  \
              If STRIPE_WEBHOOK_SECRET is meant, correct the name."
            ]
        );
    }

    #[test]
    fn a_key_that_the_webhook_server_does_not_need_is_a_warning() {
        let config = parsed(&[("STRIPE_SECRET_KEY", "sk_test_1")]).unwrap();
        let [warning] = &config.warnings[..] else {
            panic!("{:?}", config.warnings);
        };
        assert_eq!(
            warning.to_string(),
            "STRIPE_SECRET_KEY is set, and the webhook server does not read it.\n  paidup's units keep \
             it from the server. Without them, move it to an environment file that only the commands \
             which call Stripe are given."
        );
        let file = [("STRIPE_SECRET_KEY_FILE", "/run/credentials/key")];
        assert_eq!(parsed(&file).unwrap().warnings, []);
    }

    #[test]
    fn a_database_in_memory_is_refused() {
        let error = mistake(parsed(&[("DATABASE_PATH", ":memory:")]));
        assert_eq!(error.variable, "DATABASE_PATH");
        let path = database_path(&vars(&[("DATABASE_PATH", "/srv/orders.db")])).unwrap();
        assert_eq!(path, Path::new("/srv/orders.db"));
    }

    #[test]
    fn the_example_file_is_an_environment_file_as_it_is_and_with_every_line_in_use() {
        let example = include_str!("../../.env.example");
        let (as_it_is, problems) = env_file::parse(example);
        assert_eq!((as_it_is.len(), problems), (0, vec![]));

        let in_use: String = example
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
                Some(_) | None => format!("{line}\n"),
            })
            .collect();
        let (mut vars, problems) = env_file::parse(&in_use);
        assert_eq!((vars.len(), problems), (VARIABLES.len(), vec![]));
        vars.insert("STRIPE_WEBHOOK_SECRET".to_owned(), "whsec_1".to_owned());
        assert!(Config::parse(&vars, &no_file).is_ok());
    }
}
