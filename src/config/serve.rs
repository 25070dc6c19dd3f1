//! What `paidup serve` takes from the environment.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;

use super::checker::{Checker, ReadFile, all, check};
use super::error::{ConfigError, ConfigWarning};
use super::table::{self, Row};
use super::value::{Address, Counted};
use crate::base::secret::Secret;
use crate::truth::reading::Reading;

/// Who may ask for the status of an order by its Checkout Session, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckoutStatusConfig {
    /// Origins (`https://shop.example`) whose pages may read the answer.
    pub origins: Vec<Box<str>>,
    /// Requests per minute of each client.
    pub rate_limit_max: NonZeroU32,
}

/// All that the server was told, checked.
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
    /// Oldest signature that is accepted, in seconds, at least 1.
    pub tolerance_seconds: i64,
    /// The API version that events are expected to have.
    pub api_version: Box<str>,
    /// How events are to be read.
    pub reading: Reading,
    /// Requests per minute of each client.
    pub rate_limit_max: NonZeroU32,
    /// Clients that are never limited.
    pub rate_limit_exempt: Vec<IpNet>,
    /// Which requests the limit counts.
    pub rate_limit_count: Counted,
    /// Peers that are believed about where a request comes from.
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
    /// What is allowed but may not be meant.
    pub warnings: Vec<ConfigWarning>,
}

impl Config {
    /// Checks all of `vars`. `read_file` reads the file that `STRIPE_WEBHOOK_SECRET_FILE` names, and
    /// the groups for `SOCKET_GROUP`.
    ///
    /// # Errors
    /// Every mistake.
    pub fn parse(
        vars: &BTreeMap<String, String>,
        read_file: ReadFile<'_>,
    ) -> Result<Config, Vec<ConfigError>> {
        check(vars, read_file, config)
    }
}

/// The SQLite file alone, for commands that need nothing else.
///
/// # Errors
/// [`ConfigError`] when `DATABASE_PATH` is not the path of a file.
pub fn database_path(vars: &BTreeMap<String, String>) -> Result<PathBuf, ConfigError> {
    table::DATABASE_PATH.read(vars)
}

fn config(checker: &mut Checker<'_>) -> Option<Config> {
    all!(Config {
        listen: checker.value(&table::LISTEN_ADDR),
        admin: admin(checker, listen.as_ref()),
        socket_group: checker.socket_group(),
        database: checker.database(&[
            (&table::LISTEN_ADDR.variable, listen.as_ref()),
            (
                &table::ADMIN_ADDR.variable,
                admin.as_ref().and_then(Option::as_ref)
            ),
        ]),
        webhook_secrets: webhook_secrets(checker),
        tolerance_seconds: checker.value(&table::WEBHOOK_TOLERANCE_SECONDS),
        api_version: checker.value(&table::STRIPE_API_VERSION),
        reading: checker.reading(),
        rate_limit_max: checker.value(&table::RATE_LIMIT_WEBHOOK_MAX),
        rate_limit_exempt: networks(checker, &table::RATE_LIMIT_WEBHOOK_EXEMPT),
        rate_limit_count: checker.value(&table::RATE_LIMIT_WEBHOOK_COUNT),
        trusted_proxies: networks(checker, &table::TRUSTED_PROXIES),
        http_connections: checker.value(&table::HTTP_CONNECTIONS),
        request_timeout: checker.value(&table::REQUEST_TIMEOUT_SECONDS),
        body_max_bytes: checker.value(&table::BODY_MAX_BYTES),
        log_level: checker.value(&table::LOG_LEVEL),
        checkout_status: checkout_status(checker),
        warnings: Some(warnings(checker)),
    })
}

fn admin(checker: &mut Checker<'_>, listen: Option<&Address>) -> Option<Option<Address>> {
    match checker.value(&table::ADMIN_ADDR)? {
        // The system chooses a free port for each.
        Some(Address::Tcp(address)) if address.port() == 0 => Some(Some(Address::Tcp(address))),
        Some(address) if Some(&address) == listen => checker.refuse(
            table::ADMIN_ADDR
                .variable
                .error("is the same as LISTEN_ADDR"),
        ),
        admin => Some(admin),
    }
}

fn webhook_secrets(checker: &mut Checker<'_>) -> Option<Vec<Secret>> {
    let (variable, secrets) = checker.secret(
        &table::STRIPE_WEBHOOK_SECRET,
        &table::STRIPE_WEBHOOK_SECRET_FILE,
    )?;
    let count = secrets.len();
    for (secret, number) in secrets.iter().zip(1..) {
        if !secret.expose().starts_with("whsec_") {
            checker.warn(
                variable,
                format!(
                    "has a secret (number {number} of {count}) that does not start with whsec_"
                ),
                "A secret in quotes, or half of one, verifies nothing. Compare it with \
                 Dashboard → Webhooks → your endpoint → Signing secret.",
            );
        }
    }
    Some(secrets)
}

/// Blank means none here, not the default: it is the plainest way to trust nobody.
fn networks(checker: &mut Checker<'_>, row: &Row<Vec<IpNet>>) -> Option<Vec<IpNet>> {
    let name = row.variable.name;
    if checker
        .vars
        .get(name)
        .is_some_and(|text| text.trim().is_empty())
    {
        return Some(Vec::new());
    }
    let networks = checker.value(row)?;
    if networks.iter().any(|network| network.prefix_len() == 0) {
        checker.warn(
            name,
            "has a network that holds every address",
            "Anybody could claim any address, or is never limited. Name the machines you mean.",
        );
    }
    Some(networks)
}

fn checkout_status(checker: &mut Checker<'_>) -> Option<Option<CheckoutStatusConfig>> {
    let is_on = checker.value(&table::PUBLIC_CHECKOUT_STATUS);
    let config = all!(CheckoutStatusConfig {
        origins: checker.value(&table::PUBLIC_CHECKOUT_ORIGINS),
        rate_limit_max: checker.value(&table::RATE_LIMIT_CHECKOUT_MAX),
    });
    let (is_on, config) = (is_on?, config?);
    if !is_on && !config.origins.is_empty() {
        checker.warn(
            table::PUBLIC_CHECKOUT_ORIGINS.variable.name,
            "is set, and PUBLIC_CHECKOUT_STATUS is off",
            "Set PUBLIC_CHECKOUT_STATUS=on to let pages of these sites read the status.",
        );
    }
    Some(is_on.then_some(config))
}

/// All warnings, with those of the environment as a whole.
fn warnings(checker: &mut Checker<'_>) -> Vec<ConfigWarning> {
    checker.warnings.extend(look_alikes(checker.vars));
    unneeded_key(checker);
    std::mem::take(&mut checker.warnings)
}

/// Warns of each variable that is not ours but nearly is.
pub(crate) fn look_alikes(vars: &BTreeMap<String, String>) -> Vec<ConfigWarning> {
    let look_alike = |name: &String| {
        let meant = table::nearly(name)?.name;
        Some(ConfigWarning {
            variable: name.clone(),
            problem: "is not a variable of paidup and has no effect".to_owned(),
            remedy: format!("If {meant} is meant, correct the name."),
        })
    };
    vars.keys().filter_map(look_alike).collect()
}

/// Warns of a key to the whole account in a process that faces the internet and does not need it.
fn unneeded_key(checker: &mut Checker<'_>) {
    let key = &table::STRIPE_SECRET_KEY.variable;
    if !key.text(checker.vars).is_empty() {
        checker.warn(
            key.name,
            "is set, and the webhook server does not read it",
            "paidup's units keep it from the server. Without them, move it to an environment file that only \
             the commands which call Stripe are given.",
        );
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;
    use crate::config::env_file;
    use crate::config::looks_secret;
    use crate::config::table::VARIABLES;
    use crate::truth::reading::Mode;

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
            // The server reads none of those from here on.
            .take_while(|variable| variable.name != "PUBLIC_URL")
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
        assert!(error.remedy.contains("Signing secret"), "{error}");

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
