//! What `paidup notify` takes from the environment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;
use ureq::http::Uri;

use super::checker::{Checker, ReadFile, all, check};
use super::error::ConfigError;
use super::{table, value};
use crate::base::secret::Secret;
use crate::base::webhook_key::WebhookKey;

/// All that `paidup notify` was told, checked.
#[derive(Debug)]
pub struct NotifyConfig {
    /// Where messages go: https, or http on this machine. A path or a query may be a password.
    pub url: Secret,
    /// What messages are signed with, at least one.
    pub keys: Vec<WebhookKey>,
    /// What the destination is called.
    pub name: Box<str>,
    /// For one message.
    pub timeout: Duration,
    /// The SQLite file.
    pub database: PathBuf,
    /// The least severe level that is logged.
    pub log_level: LevelFilter,
}

impl NotifyConfig {
    /// Whether any variable is set that only `paidup notify` reads.
    pub(crate) fn is_wanted(vars: &BTreeMap<String, String>) -> bool {
        let own = [
            table::NOTIFY_URL.variable,
            table::NOTIFY_SECRET.variable,
            table::NOTIFY_SECRET_FILE.variable,
            table::NOTIFY_NAME.variable,
            table::NOTIFY_TIMEOUT_SECONDS.variable,
        ];
        own.iter().any(|variable| variable.is_set(vars))
    }

    /// Checks all of `vars`. `read_file` reads the files that the `*_FILE` variables name.
    ///
    /// # Errors
    /// Every mistake.
    pub fn parse(
        vars: &BTreeMap<String, String>,
        read_file: ReadFile<'_>,
    ) -> Result<NotifyConfig, Vec<ConfigError>> {
        check(vars, read_file, |checker| config(checker, read_file))
    }

    /// Scheme and host of the destination, for people.
    #[must_use]
    pub fn origin(&self) -> String {
        let uri = self.url.expose().parse::<Uri>().unwrap_or_default();
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        format!("{scheme}://{authority}")
    }
}

/// The destination's name alone, for commands that send nothing.
///
/// # Errors
/// [`ConfigError`] when it cannot be one.
pub fn destination_name(vars: &BTreeMap<String, String>) -> Result<Box<str>, ConfigError> {
    table::NOTIFY_NAME.read(vars)
}

fn config(checker: &mut Checker<'_>, read_file: ReadFile<'_>) -> Option<NotifyConfig> {
    all!(NotifyConfig {
        database: checker.database(&[]),
        log_level: checker.value(&table::LOG_LEVEL),
        url: checker.value(&table::NOTIFY_URL),
        keys: keys(checker, read_file),
        name: checker.value(&table::NOTIFY_NAME),
        timeout: checker.value(&table::NOTIFY_TIMEOUT_SECONDS),
    })
}

fn keys(checker: &mut Checker<'_>, read_file: ReadFile<'_>) -> Option<Vec<WebhookKey>> {
    let secret = checker.secret(&table::NOTIFY_SECRET, &table::NOTIFY_SECRET_FILE);
    let (variable, keys) = secret?;
    let direct = table::STRIPE_WEBHOOK_SECRET.variable.text(checker.vars);
    let file = table::STRIPE_WEBHOOK_SECRET_FILE
        .read(checker.vars)
        .ok()
        .flatten();
    let file = file
        .and_then(|path| read_file(&path).ok())
        .unwrap_or_default();
    let stripes = [direct, &file].map(|text| value::webhook_secrets(text).unwrap_or_default());
    let is_stripes = |key: &WebhookKey| {
        let mut stripes = stripes.iter().flatten();
        stripes.any(|secret| key.is(secret.expose()))
    };
    if !keys.iter().any(is_stripes) {
        return Some(keys);
    }
    checker.refuse(ConfigError {
        variable,
        why: "Whoever verifies our messages with it could forge Stripe's.",
        ..table::NOTIFY_SECRET
            .variable
            .error("is Stripe's signing secret")
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

    fn parsed(pairs: &[(&str, &str)]) -> Result<NotifyConfig, Vec<ConfigError>> {
        let usual = [
            ("NOTIFY_URL", "https://shop.example/paidup?t=1"),
            ("NOTIFY_SECRET", SECRET),
        ];
        let vars = usual.iter().chain(pairs);
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        NotifyConfig::parse(&vars.map(own).collect(), &|path| {
            let there = path == Path::new("/run/secrets");
            there
                .then(|| format!("{SECRET}\n{OTHER}\n"))
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    #[test]
    fn the_defaults_need_an_address_and_a_secret() {
        let config = parsed(&[]).unwrap();
        assert_eq!((&*config.name, config.timeout.as_secs()), ("shop", 15));
        assert_eq!(config.origin(), "https://shop.example");
        let both = parsed(&[
            ("NOTIFY_SECRET", ""),
            ("NOTIFY_SECRET_FILE", "/run/secrets"),
        ]);
        assert_eq!(both.unwrap().keys.len(), 2);
        for url in [
            "http://127.0.0.1:8000/",
            "http://[::1]/x",
            "http://localhost:1/",
        ] {
            assert!(parsed(&[("NOTIFY_URL", url)]).is_ok(), "{url}");
        }
    }

    #[test]
    fn every_mistake_is_told_at_once_and_no_secret_with_it() {
        let errors = parsed(&[
            ("NOTIFY_URL", "http://shop.example/canary"),
            ("NOTIFY_SECRET", "canary"),
            ("NOTIFY_NAME", "Canary!"),
            ("NOTIFY_TIMEOUT_SECONDS", "0"),
            ("DATABASE_PATH", ":memory:"),
            ("LOG_LEVEL", "loud"),
        ]);
        let errors = errors.unwrap_err();
        let names: Vec<_> = errors.iter().map(|error| error.variable).collect();
        let expected =
            "DATABASE_PATH LOG_LEVEL NOTIFY_URL NOTIFY_SECRET NOTIFY_NAME NOTIFY_TIMEOUT_SECONDS";
        assert_eq!(names, expected.split(' ').collect::<Vec<_>>());
        assert!(
            errors
                .iter()
                .all(|error| !error.to_string().to_lowercase().contains("canary"))
        );
    }

    #[test]
    fn an_address_is_https_and_holds_no_password() {
        for url in [
            "",
            "shop.example",
            "/paidup",
            "ftp://shop.example/",
            "https://user:canary@shop.example/",
            "https://canary@shop.example/",
            "https:///paidup",
            "http://127.0.0.1.shop.example/",
            "http://10.0.0.1/",
        ] {
            let errors = parsed(&[("NOTIFY_URL", url)]).unwrap_err();
            assert_eq!(errors[0].variable, "NOTIFY_URL", "{url}");
            assert!(!errors[0].to_string().contains("canary"));
        }
    }

    #[test]
    fn a_secret_of_stripes_is_refused_wherever_that_is() {
        for stripe in [
            ("STRIPE_WEBHOOK_SECRET", SECRET),
            ("STRIPE_WEBHOOK_SECRET_FILE", "/run/secrets"),
        ] {
            let errors = parsed(&[stripe]).unwrap_err();
            assert_eq!(errors[0].problem, "is Stripe's signing secret");
        }
        assert!(parsed(&[("STRIPE_WEBHOOK_SECRET", OTHER)]).is_ok());
    }
}
