//! What `paidup page` takes from the environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use log::LevelFilter;

use super::checker::{Checker, ReadFile, all, check};
use super::error::ConfigError;
use super::table;
use super::value::Address;
use crate::base::secret::Secret;

/// All that `paidup page` was told, checked.
#[derive(Debug)]
pub struct PageConfig {
    /// A loopback address or a Unix socket.
    pub listen: Address,
    /// The group that may connect to a Unix socket, beside our own user.
    pub socket_group: Option<u32>,
    /// The names, in lower case, that it answers to beside those of this machine.
    pub hosts: Vec<Box<str>>,
    /// What the user `paidup` logs in with; never `None` when there are `hosts`.
    pub password: Option<Secret>,
    /// The SQLite file.
    pub database: PathBuf,
    /// The least severe level that is logged.
    pub log_level: LevelFilter,
}

impl PageConfig {
    /// Whether any variable is set that only `paidup page` reads.
    pub(crate) fn is_wanted(vars: &BTreeMap<String, String>) -> bool {
        let own = [
            table::PAGE_ADDR.variable,
            table::PAGE_HOSTS.variable,
            table::PAGE_PASSWORD.variable,
            table::PAGE_PASSWORD_FILE.variable,
        ];
        own.iter().any(|variable| {
            let value = vars.get(variable.name);
            value.is_some_and(|value| !value.trim().is_empty())
        })
    }

    /// Checks all of `vars`. `read_file` reads the file that `PAGE_PASSWORD_FILE` names, and the groups
    /// for `SOCKET_GROUP`.
    ///
    /// # Errors
    /// Every mistake.
    pub fn parse(
        vars: &BTreeMap<String, String>,
        read_file: ReadFile<'_>,
    ) -> Result<PageConfig, Vec<ConfigError>> {
        check(vars, read_file, config)
    }
}

fn config(checker: &mut Checker<'_>) -> Option<PageConfig> {
    all!(PageConfig {
        listen: checker.value(&table::PAGE_ADDR),
        socket_group: checker.socket_group(),
        hosts: checker.value(&table::PAGE_HOSTS),
        password: password(checker, hosts.as_deref().unwrap_or_default()),
        database: checker.database(&[(&table::PAGE_ADDR.variable, listen.as_ref())]),
        log_level: checker.value(&table::LOG_LEVEL),
    })
}

/// Without other names than this machine's, whoever may connect may look.
fn password(checker: &mut Checker<'_>, hosts: &[Box<str>]) -> Option<Option<Secret>> {
    let (direct, file) = (&table::PAGE_PASSWORD, &table::PAGE_PASSWORD_FILE);
    let is_set = |variable: &table::Variable| !variable.text(checker.vars).is_empty();
    if hosts.is_empty() && !is_set(&direct.variable) && !is_set(&file.variable) {
        return Some(None);
    }
    let (_, password) = checker.secret(direct, file)?;
    Some(Some(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "a-password-of-tests";

    fn parsed(pairs: &[(&str, &str)]) -> Result<PageConfig, Vec<ConfigError>> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        PageConfig::parse(&pairs.iter().map(own).collect(), &|_| {
            Ok(format!("{PASSWORD}\n"))
        })
    }

    #[test]
    fn nothing_is_needed_on_this_machine() {
        let config = parsed(&[]).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:4245");
        assert!(config.password.is_none() && config.hosts.is_empty());
    }

    #[test]
    fn whoever_serves_it_under_a_name_needs_a_password() {
        let hosts = ("PAGE_HOSTS", "Orders.example.com, shop.example");
        let errors = parsed(&[hosts]).unwrap_err();
        assert_eq!(
            errors[0].to_string(),
            "PAGE_PASSWORD is not set or blank. Whoever finds the page could read every order.\n  Make one \
             with `paidup gen-token`, and keep it in the browser's password store."
        );
        for secret in [
            ("PAGE_PASSWORD", PASSWORD),
            ("PAGE_PASSWORD_FILE", "/run/password"),
        ] {
            let config = parsed(&[hosts, secret]).unwrap();
            assert_eq!(config.password.unwrap().expose(), PASSWORD);
            assert_eq!(
                config.hosts,
                ["orders.example.com".into(), "shop.example".into()]
            );
        }
    }

    #[test]
    fn every_mistake_is_told_at_once_and_no_password_with_it() {
        let errors = parsed(&[
            ("PAGE_ADDR", "0.0.0.0:4245"),
            ("PAGE_HOSTS", "https://canary.example"),
            ("PAGE_PASSWORD", "canary"),
            ("DATABASE_PATH", ":memory:"),
            ("LOG_LEVEL", "loud"),
        ])
        .unwrap_err();
        let names: Vec<_> = errors.iter().map(|error| error.variable).collect();
        let expected = "PAGE_ADDR PAGE_HOSTS PAGE_PASSWORD DATABASE_PATH LOG_LEVEL";
        assert_eq!(names.join(" "), expected);
        assert!(errors.iter().all(|it| !it.to_string().contains("canary")));
        for hosts in ["shop.example:443", "*.example", "a b", "-a.example", "a..b"] {
            assert!(parsed(&[("PAGE_HOSTS", hosts)]).is_err(), "{hosts}");
        }
    }
}
