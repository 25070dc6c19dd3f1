//! The environment variables, one row each: what it is called, what it means, and what to say when
//! its value is wrong. `.env.example` and the README show the same rows in the same order.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;

use super::error::ConfigError;
use super::value::{self, Address, Counted};
use crate::base::near::distance;
use crate::base::secret::Secret;
use crate::base::webhook_key::WebhookKey;
use crate::host::zone::Zone;
use crate::truth::reading::{Mode, NamePlaces, Ours};

/// What operators are told about a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    /// Its exact name.
    pub(crate) name: &'static str,
    /// The value when it is not set or blank; empty when there is no default.
    pub(crate) default: &'static str,
    /// What it is for, in a line.
    pub(crate) doc: &'static str,
    /// Why a wrong value matters.
    pub(crate) why: &'static str,
    /// What to do about a wrong value; `{default}` stands for the default.
    pub(crate) remedy: &'static str,
}

impl Variable {
    /// Its value without blanks around it, or the default when that leaves nothing.
    pub(super) fn text<'a>(&self, vars: &'a BTreeMap<String, String>) -> &'a str {
        match vars.get(self.name).map_or("", |value| value.trim()) {
            "" => self.default,
            value => value,
        }
    }

    /// Whether it has a value of its own.
    pub(super) fn is_set(&self, vars: &BTreeMap<String, String>) -> bool {
        vars.get(self.name)
            .is_some_and(|value| !value.trim().is_empty())
    }

    /// The mistake that `problem` names: the end of a sentence that begins with the variable's name.
    pub(crate) fn error(&self, problem: impl Into<String>) -> ConfigError {
        ConfigError {
            variable: self.name,
            problem: problem.into(),
            why: self.why,
            remedy: self.remedy.replace("{default}", self.default),
        }
    }
}

/// A variable and how its text becomes a value.
pub(crate) struct Row<T> {
    pub(crate) variable: Variable,
    /// The value, or what is wrong with the text, as the end of a sentence that begins with the
    /// variable's name. It never repeats the text, which may be a secret in the wrong place.
    pub(super) parse: fn(&str) -> Result<T, String>,
}

impl<T> Row<T> {
    /// The value that `vars` give to the variable.
    pub(super) fn read(&self, vars: &BTreeMap<String, String>) -> Result<T, ConfigError> {
        (self.parse)(self.variable.text(vars)).map_err(|problem| self.variable.error(problem))
    }
}

/// Makes a constant of each row, and the list of all.
macro_rules! rows {
    ($($name:ident: $value:ty {
        default: $default:expr,
        doc: $doc:expr,
        why: $why:expr,
        remedy: $remedy:expr,
        parse: $parse:expr,
    })*) => {
        $(pub(crate) const $name: Row<$value> = Row {
            variable: Variable {
                name: stringify!($name),
                default: $default,
                doc: $doc,
                why: $why,
                remedy: $remedy,
            },
            parse: $parse,
        };)*

        /// Every variable, in the order of `.env.example` and the README.
        pub(crate) const VARIABLES: &[Variable] = &[$($name.variable),*];
    };
}

rows! {
    LISTEN_ADDR: Address {
        default: "127.0.0.1:4242",
        doc: "Where webhooks arrive: ADDRESS:PORT or unix:/PATH.",
        why: "No webhook could arrive.",
        remedy: "Set an IP address and a port, such as {default}, or unix:/PATH.",
        parse: value::address,
    }

    ADMIN_ADDR: Option<Address> {
        default: "127.0.0.1:4243",
        doc: "Health and metrics, for this machine only: loopback ADDRESS:PORT, unix:/PATH or off.",
        why: "Health and metrics are for this machine alone: they show how the shop is doing.",
        remedy: "Set a loopback address and a port of its own, such as {default}, or unix:/PATH, or off.",
        parse: value::loopback_or_off,
    }

    SOCKET_GROUP: Box<str> {
        default: "",
        doc: "The proxy's group, name or number: it may connect to our Unix sockets. Not set: only our own user may.",
        why: "Only our own user could connect to the Unix sockets.",
        remedy: "Set the proxy's group, such as www-data, or remove the variable.",
        parse: value::any,
    }

    DATABASE_PATH: PathBuf {
        default: "paidup.db",
        doc: "The SQLite file; four more (-wal, -shm, .lock, .in-use) appear beside it.",
        why: "Every order is kept in this file.",
        remedy: "Set the path of a file, such as {default}.",
        parse: value::database,
    }

    STRIPE_WEBHOOK_SECRET: Vec<Secret> {
        default: "",
        doc: "Signing secret of the endpoint (whsec_...); several, separated by commas, during a rotation.",
        why: "Every webhook would be refused with 400.",
        remedy: FIND_SECRET,
        parse: value::webhook_secrets,
    }

    STRIPE_WEBHOOK_SECRET_FILE: Option<PathBuf> {
        default: "",
        doc: "Instead of STRIPE_WEBHOOK_SECRET: a file with the secrets, such as a systemd credential.",
        why: STRIPE_WEBHOOK_SECRET.variable.why,
        remedy: READABLE_FILE,
        parse: value::file,
    }

    WEBHOOK_TOLERANCE_SECONDS: i64 {
        default: "300",
        doc: "Oldest signature that is accepted, in seconds, 1 to 86400.",
        why: "It keeps old deliveries from being replayed. 0 is refused, since some Stripe \
            libraries take it for no limit; beyond a day it protects nothing.",
        remedy: IN_RANGE,
        parse: |text| value::number(text, 1..=86_400),
    }

    STRIPE_API_VERSION: Box<str> {
        default: "2026-10-28.endive",
        doc: "API version of the endpoint in the Stripe Dashboard; check it after each Stripe upgrade.",
        why: "Events of a release that we cannot read would go unnoticed.",
        remedy: "Copy the API version from Dashboard → Webhooks → your endpoint, such as {default}.",
        parse: value::api_version,
    }

    STRIPE_MODE: Option<Mode> {
        default: "",
        doc: "live or test: events of the other mode change nothing. Not set: the first event decides.",
        why: "Test events could change live orders.",
        remedy: ONE_WORD,
        parse: |text| {
            let modes = [("", None), ("live", Some(Mode::Live)), ("test", Some(Mode::Test))];
            value::choice(text, &modes)
        },
    }

    ORDER_ID_FROM: NamePlaces {
        default: NamePlaces::DEFAULT,
        doc: "Where Stripe's objects carry the order id, best first: metadata.KEY or client_reference_id.",
        why: "Nobody could tell which order a payment is for.",
        remedy: "Set places such as {default}.",
        parse: |text| NamePlaces::parse(text).map_err(|problem| problem.to_string()),
    }

    OUR_ORDERS: Option<Ours> {
        default: "",
        doc: "In a Stripe account that shops share, what marks our orders: metadata.KEY=VALUE, or BEGINNING* of the id.",
        why: "Another shop's payments could pay this shop's orders, or none would count.",
        remedy: "Set metadata.KEY=VALUE, such as metadata.shop=coffee, or how the order ids begin, such as CF-*.",
        parse: value::ours,
    }

    RATE_LIMIT_WEBHOOK_MAX: NonZeroU32 {
        default: "100",
        doc: "Requests per minute and client address before 429.",
        why: "With none per minute, every webhook would be answered 429.",
        remedy: IN_RANGE,
        parse: |text| value::number(text, 1..=1_000_000),
    }

    RATE_LIMIT_WEBHOOK_EXEMPT: Vec<IpNet> {
        default: "",
        doc: "Addresses and CIDRs that are never limited (https://stripe.com/files/ips/ips_webhooks.txt).",
        why: "Stripe's own requests could be answered 429, or a stranger's never.",
        remedy: NETWORKS,
        parse: value::networks,
    }

    RATE_LIMIT_WEBHOOK_COUNT: Counted {
        default: "all",
        doc: "all, or unverified: only requests that Stripe did not sign count.",
        why: "It decides which requests are answered 429.",
        remedy: ONE_WORD,
        parse: |text| value::choice(text, &[("all", Counted::All), ("unverified", Counted::Unverified)]),
    }

    TRUSTED_PROXIES: Vec<IpNet> {
        default: "127.0.0.0/8,::1/128",
        doc: "Proxies whose X-Forwarded-For and X-Request-Id are believed: addresses and CIDRs, or none.",
        why: "Strangers could claim any address, or the proxy would be limited like one client.",
        remedy: NETWORKS,
        parse: value::networks,
    }

    HTTP_CONNECTIONS: NonZeroUsize {
        default: "128",
        doc: "Requests served at the same time, 1 to 4096; each has a thread.",
        why: "Each is a thread; with none, nothing is served.",
        remedy: IN_RANGE,
        parse: |text| value::number(text, 1..=4096),
    }

    REQUEST_TIMEOUT_SECONDS: Duration {
        default: "10",
        doc: "Seconds for a client to send its whole request, 1 to 300; one second while others wait for its thread.",
        why: "A client that sends nothing holds a thread for that long.",
        remedy: IN_RANGE,
        parse: |text| value::seconds(text, 1..=300),
    }

    BODY_MAX_BYTES: usize {
        default: "524288",
        doc: "Largest request body, 1024 to 16777216.",
        why: "A smaller limit refuses real events with 413; a larger one lets strangers fill the memory.",
        remedy: IN_RANGE,
        parse: |text| value::number(text, 1024..=16 * 1024 * 1024),
    }

    LOG_LEVEL: LevelFilter {
        default: "info",
        doc: "error, warn, info or debug.",
        why: "Lines that alerts look for could be missing.",
        remedy: ONE_WORD,
        parse: |text| {
            use LevelFilter::{Debug, Error, Info, Warn};
            let levels = [("error", Error), ("warn", Warn), ("info", Info), ("debug", Debug)];
            value::choice(text, &levels)
        },
    }

    PUBLIC_CHECKOUT_STATUS: bool {
        default: "off",
        doc: "on: the public listener tells an order's status to whoever knows the id of its Checkout Session.",
        why: "It decides what strangers may ask.",
        remedy: ONE_WORD,
        parse: |text| value::choice(text, &[("off", false), ("on", true)]),
    }

    PUBLIC_CHECKOUT_ORIGINS: Vec<Box<str>> {
        default: "",
        doc: "Sites whose pages may read that status: https://HOST, separated by commas.",
        why: "Browsers compare it letter by letter, and pages of that site could read nothing.",
        remedy: "Set scheme and host in lower case, and the port if the address has one, such as \
            https://shop.example,http://localhost:8000; no path, no slash at the end, no *.",
        parse: value::origins,
    }

    RATE_LIMIT_CHECKOUT_MAX: NonZeroU32 {
        default: "100",
        doc: "Requests for that status per minute and client address before 429.",
        why: "With none per minute, every success page would be answered 429.",
        remedy: IN_RANGE,
        parse: |text| value::number(text, 1..=1_000_000),
    }

    PUBLIC_URL: Option<Box<str>> {
        default: "",
        doc: "This host as the internet reaches it, https://HOST; doctor looks for its endpoint at Stripe.",
        why: "Stripe delivers to https only, and the endpoint cannot be found without it.",
        remedy: "Set the host that the endpoint in the Dashboard has, without a path.",
        parse: value::https_host,
    }

    STRIPE_SECRET_KEY: (Secret, Mode) {
        default: "",
        doc: "Secret key (sk_...) or, better, restricted key (rk_...) of the account.",
        why: "Stripe answers 401 to every call without a valid key.",
        remedy: FIND_KEY,
        parse: value::stripe_key,
    }

    STRIPE_SECRET_KEY_FILE: Option<PathBuf> {
        default: "",
        doc: "Instead of STRIPE_SECRET_KEY: a file with the key, such as a systemd credential.",
        why: STRIPE_SECRET_KEY.variable.why,
        remedy: READABLE_FILE,
        parse: value::file,
    }

    STRIPE_API_BASE: Box<str> {
        default: "https://api.stripe.com",
        doc: "Where Stripe's API is: https, or http on this machine for a stand-in.",
        why: "Every call carries the key to the account.",
        remedy: "Remove it to use {default}; only a stand-in on this machine may be http, such as \
            http://127.0.0.1:12111.",
        parse: value::api_base,
    }

    STRIPE_API_PROXY: Option<Secret> {
        default: "",
        doc: "Proxy for these calls, http://[USER:PASSWORD@]HOST:PORT; HTTPS_PROXY is ignored.",
        why: "Every call to Stripe goes through it.",
        remedy: "Set http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, or remove it.",
        parse: value::proxy,
    }

    STRIPE_API_TIMEOUT_SECONDS: Duration {
        default: "20",
        doc: "Seconds for one call with all its retries, 1 to 300.",
        why: "A caller waits that long when Stripe does not answer.",
        remedy: IN_RANGE,
        parse: |text| value::seconds(text, 1..=300),
    }

    API_ADDR: Address {
        default: "127.0.0.1:4244",
        doc: "Where `paidup api` listens, for this machine only: loopback ADDRESS:PORT or unix:/PATH.",
        why: "It can create payments in the shop's Stripe account, so it is for this machine alone.",
        remedy: "Set a loopback address and a port of its own, such as {default}, or unix:/PATH.",
        parse: value::loopback,
    }

    API_TOKEN: Secret {
        default: "",
        doc: "Token that the shop's back end sends with each request there; `paidup gen-token` makes one.",
        why: "Whoever knows it may create orders; without one, anybody on this machine could.",
        remedy: "Make one with `paidup gen-token`, and give it to the shop's back end as well.",
        parse: value::api_token,
    }

    API_TOKEN_FILE: Option<PathBuf> {
        default: "",
        doc: "Instead of API_TOKEN: a file with the token, such as a systemd credential.",
        why: API_TOKEN.variable.why,
        remedy: READABLE_FILE,
        parse: value::file,
    }

    CHECKOUT_SUCCESS_URL: Option<Box<str>> {
        default: "",
        doc: "Where buyers land after paying, unless the order says; may contain {CHECKOUT_SESSION_ID}.",
        why: "Buyers are sent there.",
        remedy: PAGE_URL,
        parse: value::page,
    }

    CHECKOUT_CANCEL_URL: Option<Box<str>> {
        default: "",
        doc: "Where buyers land when they go back, unless the order says.",
        why: "Buyers are sent there.",
        remedy: PAGE_URL,
        parse: value::page,
    }

    NOTIFY_URL: Secret {
        default: "",
        doc: "Where `paidup notify` tells of each order that changed: https, or http on this machine.",
        why: "Every message goes there.",
        remedy: "Set the URL of the shop's receiver, such as https://shop.example/paidup; http is for this \
            machine only, such as http://127.0.0.1:8000/paidup.",
        parse: value::receiver,
    }

    NOTIFY_SECRET: Vec<WebhookKey> {
        default: "",
        doc: "Secret that it signs with (`paidup gen-secret` makes one); several, separated by commas, during a rotation.",
        why: "Without it the shop cannot tell our messages from anybody's.",
        remedy: "Make one with `paidup gen-secret`, and give it to the shop's receiver as well.",
        parse: value::webhook_keys,
    }

    NOTIFY_SECRET_FILE: Option<PathBuf> {
        default: "",
        doc: "Instead of NOTIFY_SECRET: a file with the secrets, such as a systemd credential.",
        why: NOTIFY_SECRET.variable.why,
        remedy: READABLE_FILE,
        parse: value::file,
    }

    NOTIFY_NAME: Box<str> {
        default: "shop",
        doc: "Name of that destination; another one has another name and a process of its own.",
        why: "Metrics, a lock file and what was told so far are kept under it.",
        remedy: "Set a short name, such as {default}.",
        parse: value::short_name,
    }

    NOTIFY_TIMEOUT_SECONDS: Duration {
        default: "15",
        doc: "Seconds for its answer, 1 to 60.",
        why: "One message is sent at a time: a silent receiver holds up all others for that long.",
        remedy: IN_RANGE,
        parse: |text| value::seconds(text, 1..=60),
    }

    PAGE_ADDR: Address {
        default: "127.0.0.1:4245",
        doc: "Where `paidup page` shows the orders, for this machine only: loopback ADDRESS:PORT or unix:/PATH.",
        why: "It shows every order, so it is for this machine alone; a proxy or ssh brings others to it.",
        remedy: "Set a loopback address and a port of its own, such as {default}, or unix:/PATH.",
        parse: value::loopback,
    }

    PAGE_HOSTS: Vec<Box<str>> {
        default: "",
        doc: "Names that a proxy serves that page under, separated by commas; PAGE_PASSWORD is needed then.",
        why: "The page answers only to names that it knows, so that no other site can read it through a browser.",
        remedy: "Set host names without scheme, port or path, such as orders.example.com.",
        parse: value::host_names,
    }

    PAGE_PASSWORD: Secret {
        default: "",
        doc: "Password of the user paidup on that page, at least 16 characters; `paidup gen-token` makes one.",
        why: "Whoever finds the page could read every order.",
        remedy: "Make one with `paidup gen-token`, and keep it in the browser's password store.",
        parse: value::password,
    }

    PAGE_PASSWORD_FILE: Option<PathBuf> {
        default: "",
        doc: "Instead of PAGE_PASSWORD: a file with the password, such as a systemd credential.",
        why: PAGE_PASSWORD.variable.why,
        remedy: READABLE_FILE,
        parse: value::file,
    }

    TZ: Zone {
        default: "",
        doc: "Time zone of what people read, such as Europe/Berlin. Not set: this machine's (/etc/localtime).",
        why: "Times are shown in UTC, and days and months of `paidup report` are those of UTC.",
        remedy: "Set a name of /usr/share/zoneinfo (on Debian of the package tzdata), or remove the variable.",
        parse: value::zone,
    }
}

/// What several rows say to do.
const IN_RANGE: &str = "Set a number in that range; the default is {default}.";
const ONE_WORD: &str = "Set one of these words, or remove the variable for the default.";
const NETWORKS: &str =
    "Set IP addresses and CIDRs separated by commas, such as 10.0.0.0/8,::1, or none.";
const READABLE_FILE: &str = "Set the path of a file that the service's user can read.";
const PAGE_URL: &str =
    "Set https://HOST/PATH; {CHECKOUT_SESSION_ID} in it becomes the session's id.";
const FIND_SECRET: &str = "Copy the signing secret (it starts with whsec_) from Dashboard → \
    Webhooks → your endpoint → Signing secret, put it in the environment file, and restart.";
const FIND_KEY: &str = "Make a restricted key (it starts with rk_) in Dashboard → Developers → API \
    keys, put it in the environment file, and try again.";

/// The variable that is meant when `name` is none of ours but nearly is.
pub(super) fn nearly(name: &str) -> Option<&'static Variable> {
    // The last one is systemd's.
    let known = |variable: &Variable| variable.name == name || name == "NOTIFY_SOCKET";
    if VARIABLES.iter().any(known) {
        return None;
    }
    let upper = name.to_ascii_uppercase();
    VARIABLES
        .iter()
        .find(|variable| is_alike(&upper, variable.name))
}

/// Whether someone who wrote `name` may have meant `known`: at most one letter in five differs, or
/// one of the two begins with the other.
fn is_alike(name: &str, known: &str) -> bool {
    const SHARED_MIN_BYTES: usize = 10;
    // Anything longer is not a slip and may be a secret, and the name is shown.
    const MORE_MAX_BYTES: usize = 10;
    let more = name.strip_prefix(known);
    let shared = more.is_some_and(|more| more.len() <= MORE_MAX_BYTES) || known.starts_with(name);
    (shared && name.len() >= SHARED_MIN_BYTES) || distance(name, known) <= known.len() / 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_nearly_right_is_recognised() {
        for (wrong, right) in [
            ("STRIPE_WEBHOOK_SECRETS", "STRIPE_WEBHOOK_SECRET"),
            ("STRIPE_WEBHOOK_SECERT", "STRIPE_WEBHOOK_SECRET"),
            ("STRIPE_WEBHOOK", "STRIPE_WEBHOOK_SECRET"),
            ("RATE_LIMIT_WEBHOOK", "RATE_LIMIT_WEBHOOK_MAX"),
            ("RATE_LIMIT_WEBHOOK_MAXIMUM", "RATE_LIMIT_WEBHOOK_MAX"),
            ("LISTEN_ADDRESS", "LISTEN_ADDR"),
            ("listen_addr", "LISTEN_ADDR"),
            ("LOGLEVEL", "LOG_LEVEL"),
            ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ] {
            assert_eq!(nearly(wrong).map(|v| v.name), Some(right), "{wrong}");
        }
        let others = "STRIPE_WEBHOOK_SECRET_whsec_canary4eC39Hq PATH HOME LANG LISTEN_FDS LISTEN_PID LISTEN_FDNAMES NOTIFY_SOCKET RUST_LOG \
                      STRIPE_SECRET_KEY DATABASE_URL HTTP_PROXY S LISTEN_ADDR";
        for other in others.split(' ').chain([""]) {
            assert_eq!(nearly(other), None, "{other}");
        }
    }

    #[test]
    fn every_row_says_why_it_matters_and_what_to_do() {
        for variable in VARIABLES {
            let message = variable.error("is wrong").to_string();
            let (problem, remedy) = message.split_once("\n  ").unwrap();
            let why = problem.split_once(" is wrong. ").unwrap().1;
            for sentence in [variable.doc, why, remedy] {
                assert!(
                    sentence.ends_with('.') && !sentence.contains('\n'),
                    "{message}"
                );
                assert!(
                    !sentence.contains("{default}") && !sentence.contains("as ,"),
                    "{message}"
                );
                assert!(!sentence.contains("  "), "{message}");
            }
        }
    }

    #[test]
    fn the_example_file_has_every_variable_with_its_line_and_its_default() {
        let example = include_str!("../../.env.example");
        let mut previous = "";
        let mut found = Vec::new();
        for line in example.lines() {
            let assignment = line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
            if let Some((name, default)) = assignment.and_then(|rest| rest.split_once('=')) {
                let doc = previous.strip_prefix("# ").unwrap();
                found.push((name, default, doc));
            }
            previous = line;
        }
        let rows = VARIABLES.iter().map(|row| (row.name, row.default, row.doc));
        assert_eq!(found, rows.collect::<Vec<_>>());
    }

    #[test]
    fn the_readme_has_every_variable_with_its_default_and_no_other() {
        let readme = include_str!("../../README.md");
        let row = |variable: &Variable| {
            let Variable {
                name, default, doc, ..
            } = variable;
            let default = if default.is_empty() {
                String::new()
            } else {
                format!("`{default}`")
            };
            format!("| `{name}` | {default} | {doc} |\n")
        };
        let table: String = VARIABLES.iter().map(row).collect();
        assert!(
            readme.contains(&format!("|---|---|---|\n{table}\n")),
            "it should be:\n{table}"
        );
    }
}
