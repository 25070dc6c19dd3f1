//! What calls to Stripe's API take from the environment. Only the commands that make such calls ask
//! for it: the webhook server never holds a key.

use std::collections::BTreeMap;
use std::time::Duration;

use super::checker::{Checker, ReadFile, all, check};
use super::error::ConfigError;
use super::table;
use crate::base::secret::Secret;
use crate::truth::reading::{Mode, Reading};

/// All that calls to Stripe's API need, checked.
#[derive(Debug)]
pub struct StripeConfig {
    /// A secret key (`sk_`) or a restricted one (`rk_`).
    pub key: Secret,
    /// The mode that the key belongs to.
    pub mode: Mode,
    /// How to read what Stripe answers; of the mode that `STRIPE_MODE` says, if it says one.
    pub reading: Reading,
    /// The API version that answers are to have.
    pub version: Box<str>,
    /// Scheme, host and port, without a slash at the end: https, or http on a loopback address.
    pub base: Box<str>,
    /// The proxy that calls go through. Its address may hold a password.
    pub proxy: Option<Secret>,
    /// For one call with all its retries.
    pub timeout: Duration,
}

impl StripeConfig {
    /// Whether there is a key, or what should be one.
    pub(crate) fn is_wanted(vars: &BTreeMap<String, String>) -> bool {
        let key = [
            table::STRIPE_SECRET_KEY.variable,
            table::STRIPE_SECRET_KEY_FILE.variable,
        ];
        key.iter().any(|variable| variable.is_set(vars))
    }

    /// Checks the variables in `vars` that calls to Stripe need. `read_file` reads the file that
    /// `STRIPE_SECRET_KEY_FILE` names.
    ///
    /// # Errors
    /// Every mistake.
    pub fn parse(
        vars: &BTreeMap<String, String>,
        read_file: ReadFile<'_>,
    ) -> Result<StripeConfig, Vec<ConfigError>> {
        check(vars, read_file, config)
    }

    /// For calls whose answers go into a database of the mode `file`; `None` while no event has
    /// settled that. What Stripe answers is of the key's mode, and test and live never mix.
    ///
    /// # Errors
    /// [`ConfigError`] when the key is of another mode than `STRIPE_MODE` or the file.
    pub fn for_database(mut self, file: Option<Mode>) -> Result<StripeConfig, ConfigError> {
        let (key, is_other) = (self.mode, |wanted: &Mode| *wanted != self.mode);
        let problem = match (self.reading.mode.filter(is_other), file.filter(is_other)) {
            (Some(mode), _) => format!("and STRIPE_MODE is {}", mode.as_str()),
            (None, Some(mode)) => format!("and the database is of {} mode", mode.as_str()),
            (None, None) => {
                self.reading.mode = Some(key);
                return Ok(self);
            }
        };
        Err(ConfigError {
            why: "Test and live never mix: Stripe was not called and nothing has changed.",
            remedy: "Use a key of the same mode (Dashboard → Developers → API keys), or name the file of \
                     the other mode in DATABASE_PATH."
                .to_owned(),
            ..table::STRIPE_SECRET_KEY
                .variable
                .error(format!("is a key of {} mode, {problem}", key.as_str()))
        })
    }
}

/// Where Stripe delivers to.
pub(crate) const WEBHOOK_PATH: &str = "/stripe/webhook";

/// The URL that the endpoint in the Dashboard must have; `None` when `PUBLIC_URL` is not set.
///
/// # Errors
/// [`ConfigError`] when `PUBLIC_URL` is not `https://HOST[:PORT]`.
pub fn webhook_url(vars: &BTreeMap<String, String>) -> Result<Option<String>, ConfigError> {
    let base = table::PUBLIC_URL.read(vars)?;
    Ok(base.map(|base| format!("{base}{WEBHOOK_PATH}")))
}

pub(super) fn config(checker: &mut Checker<'_>) -> Option<StripeConfig> {
    let key = checker.secret(&table::STRIPE_SECRET_KEY, &table::STRIPE_SECRET_KEY_FILE);
    let (secret, its_mode) = key.map(|(_, key)| key).unzip();
    all!(StripeConfig {
        key: secret,
        mode: its_mode,
        base: checker.value(&table::STRIPE_API_BASE),
        proxy: checker.value(&table::STRIPE_API_PROXY),
        timeout: checker.value(&table::STRIPE_API_TIMEOUT_SECONDS),
        version: checker.value(&table::STRIPE_API_VERSION),
        reading: checker.reading(),
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::config::table::VARIABLES;

    const CANARY: &str = "canary4eC39HqLyjWDarjtT1zdp7dc";

    /// With a good key beside `pairs`.
    fn parsed(pairs: &[(&str, &str)]) -> Result<StripeConfig, Vec<ConfigError>> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut vars: BTreeMap<String, String> = pairs.iter().map(own).collect();
        if !vars.contains_key("STRIPE_SECRET_KEY_FILE") {
            vars.entry("STRIPE_SECRET_KEY".to_owned())
                .or_insert("sk_test_1".to_owned());
        }
        StripeConfig::parse(&vars, &|path| match path.to_str() {
            Some("/run/key") => Ok(" rk_live_2 \n".to_owned()),
            Some("/run/two") => Ok("rk_live_2\nrk_live_3\n".to_owned()),
            Some("/run/blank") => Ok("\n".to_owned()),
            Some(_) | None => Err(io::ErrorKind::NotFound.into()),
        })
    }

    /// The one mistake of settings that have just one.
    fn mistake(pairs: &[(&str, &str)]) -> ConfigError {
        let errors = parsed(pairs).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors.into_iter().next().unwrap()
    }

    #[test]
    fn only_a_key_is_needed_and_the_rest_has_the_documented_defaults() {
        let settings = parsed(&[]).unwrap();
        assert_eq!(settings.key.expose(), "sk_test_1");
        assert_eq!(settings.mode, Mode::Test);
        assert_eq!(&*settings.version, "2026-10-28.endive");
        assert_eq!(&*settings.base, "https://api.stripe.com");
        assert!(settings.proxy.is_none());
        assert_eq!(settings.timeout, Duration::from_secs(20));
        let blank: Vec<(&str, &str)> = VARIABLES
            .iter()
            .filter(|variable| variable.name != "STRIPE_SECRET_KEY")
            .map(|variable| (variable.name, " "))
            .collect();
        assert_eq!(
            parsed(&[&blank[..], &[("STRIPE_SECRET_KEY", "sk_test_1")]].concat())
                .unwrap()
                .timeout,
            Duration::from_secs(20)
        );
    }

    #[test]
    fn every_variable_is_read() {
        let settings = parsed(&[
            ("STRIPE_SECRET_KEY_FILE", "/run/key"),
            ("STRIPE_API_VERSION", "2026-09-30.endive"),
            ("STRIPE_API_BASE", "http://127.0.0.1:12111/"),
            (
                "STRIPE_API_PROXY",
                "http://shop:pass@proxy.example.com:3128",
            ),
            ("STRIPE_API_TIMEOUT_SECONDS", "300"),
        ])
        .unwrap();
        assert_eq!(settings.key.expose(), "rk_live_2");
        assert_eq!(settings.mode, Mode::Live);
        assert_eq!(&*settings.version, "2026-09-30.endive");
        assert_eq!(&*settings.base, "http://127.0.0.1:12111");
        assert_eq!(
            settings.proxy.unwrap().expose(),
            "http://shop:pass@proxy.example.com:3128"
        );
        assert_eq!(settings.timeout, Duration::from_secs(300));
    }

    #[test]
    fn a_key_of_another_kind_is_refused_with_the_reason() {
        for (value, reason) in [
            ("", "not set or blank"),
            (" \t", "not set or blank"),
            ("pk_live_1", "publishable key (pk_)"),
            ("pk_test_1", "publishable key (pk_)"),
            ("whsec_1", "signing secret (whsec_)"),
            ("sk_org_1", "starts with none of"),
            ("\"sk_test_1\"", "starts with none of"),
            ("sk_test_1\"", "a character that no key has"),
            ("sk_test_1 sk_test_2", "a character that no key has"),
            ("sk_live_é", "a character that no key has"),
            ("secret", "starts with none of"),
        ] {
            let error = mistake(&[("STRIPE_SECRET_KEY", value)]);
            assert_eq!(error.variable, "STRIPE_SECRET_KEY");
            assert!(error.problem.contains(reason), "{error}");
            assert!(error.remedy.contains("API keys"), "{error}");
        }
        for (path, reason) in [
            ("/run/two", "a second line"),
            ("/run/blank", "is blank"),
            ("/nowhere", "cannot be read"),
        ] {
            let error = mistake(&[("STRIPE_SECRET_KEY_FILE", path)]);
            assert_eq!(error.variable, "STRIPE_SECRET_KEY_FILE");
            assert!(error.problem.contains(reason), "{error}");
        }
        let both = [
            ("STRIPE_SECRET_KEY", "sk_test_1"),
            ("STRIPE_SECRET_KEY_FILE", "/run/key"),
        ];
        assert_eq!(
            mistake(&both).problem,
            "is set, and so is STRIPE_SECRET_KEY"
        );
    }

    #[test]
    fn the_key_travels_only_encrypted_or_on_this_machine() {
        for good in [
            "https://api.stripe.com",
            "https://api.stripe.com:443/",
            "http://127.0.0.1:1",
            "http://127.9.9.9",
            "http://[::1]:12111",
            "http://localhost:12111",
            "https://[2001:db8::1]",
        ] {
            assert!(parsed(&[("STRIPE_API_BASE", good)]).is_ok(), "{good}");
        }
        for bad in [
            "http://api.stripe.com",
            "http://192.0.2.1:80",
            "http://127.0.0.1.example.com",
            "http://127.0.0.1@example.com",
            "http://localhost.example.com",
            "https://",
            "https://api.stripe.com/v1",
            "https://api.stripe.com?x",
            "https://user@api.stripe.com",
            "https://api.stripe.com:0",
            "https://api.stripe.com:65536",
            "https://api.stripe.com:",
            "https://[::1",
            "ftp://api.stripe.com",
            "api.stripe.com",
        ] {
            let error = mistake(&[("STRIPE_API_BASE", bad)]);
            assert_eq!(error.variable, "STRIPE_API_BASE", "{bad}");
        }
    }

    #[test]
    fn the_endpoint_is_expected_at_the_public_host_over_https() {
        let url = |value: &str| {
            let vars = BTreeMap::from([("PUBLIC_URL".to_owned(), value.to_owned())]);
            webhook_url(&vars)
        };
        assert_eq!(url(" ").unwrap(), None);
        for good in ["https://shop.example.com", "https://shop.example.com/"] {
            let expected = "https://shop.example.com/stripe/webhook";
            assert_eq!(url(good).unwrap().as_deref(), Some(expected));
        }
        for bad in [
            "http://shop.example.com",
            "shop.example.com",
            "https://shop.example.com/path",
            "https://",
        ] {
            assert_eq!(url(bad).unwrap_err().variable, "PUBLIC_URL", "{bad}");
        }
    }

    #[test]
    fn a_proxy_is_an_address_and_is_never_shown() {
        for good in [
            "http://proxy:3128",
            "https://proxy.example.com",
            "http://u:p@10.0.0.1:8080/",
        ] {
            assert!(parsed(&[("STRIPE_API_PROXY", good)]).is_ok(), "{good}");
        }
        for bad in [
            "proxy:3128",
            "socks5://proxy:1080",
            "http://",
            "http://u:p@",
            "http://u:p@proxy/path",
        ] {
            let error = mistake(&[("STRIPE_API_PROXY", bad)]);
            assert_eq!(error.variable, "STRIPE_API_PROXY", "{bad}");
            assert!(!error.to_string().contains("u:p"), "{error}");
        }
    }

    #[test]
    fn every_mistake_is_told_at_once_and_none_shows_a_secret() {
        let secret = format!("sk_live_{CANARY}!");
        let wrong = [
            "STRIPE_SECRET_KEY",
            "STRIPE_API_BASE",
            "STRIPE_API_PROXY",
            "STRIPE_API_TIMEOUT_SECONDS",
            "STRIPE_API_VERSION",
        ]
        .map(|name| (name, secret.as_str()));
        let errors = parsed(&wrong).unwrap_err();
        let named: Vec<&str> = errors.iter().map(|error| error.variable).collect();
        let expected: Vec<&str> = wrong.iter().map(|(name, _)| *name).collect();
        assert_eq!(named, expected);
        for error in errors {
            let message = error.to_string();
            assert_eq!(message.lines().count(), 2, "{message}");
            assert!(message.ends_with('.'), "{message}");
            assert!(!message.contains(CANARY), "{message}");
        }
        let settings = parsed(&[
            ("STRIPE_SECRET_KEY", &format!("rk_test_{CANARY}")),
            ("STRIPE_API_PROXY", &format!("http://u:{CANARY}@proxy:1")),
        ]);
        assert!(!format!("{settings:?}").contains(CANARY));
    }
}
