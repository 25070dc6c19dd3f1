//! What `paidup api` takes from the environment. The webhook server never reads any of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use log::LevelFilter;

use super::checker::{Checker, ReadFile, all, check};
use super::error::ConfigError;
use super::stripe::{self, StripeConfig};
use super::table;
use super::value::Address;
use crate::base::secret::Secret;

/// All that `paidup api` was told, checked.
#[derive(Debug)]
pub struct ApiConfig {
    /// A loopback address or a Unix socket.
    pub listen: Address,
    /// The group that may connect to a Unix socket, beside our own user.
    pub socket_group: Option<u32>,
    /// What the shop's back end authenticates with, at least 32 characters.
    pub token: Secret,
    /// The SQLite file.
    pub database: PathBuf,
    /// Where buyers land after paying, unless the order says.
    pub success_url: Option<Box<str>>,
    /// Where buyers land when they go back, unless the order says.
    pub cancel_url: Option<Box<str>>,
    /// For the calls to Stripe.
    pub stripe: StripeConfig,
    /// The least severe level that is logged.
    pub log_level: LevelFilter,
}

impl ApiConfig {
    /// Whether any variable is set that only `paidup api` reads.
    pub(crate) fn is_wanted(vars: &BTreeMap<String, String>) -> bool {
        let own = [
            table::API_ADDR.variable,
            table::API_TOKEN.variable,
            table::API_TOKEN_FILE.variable,
            table::CHECKOUT_SUCCESS_URL.variable,
            table::CHECKOUT_CANCEL_URL.variable,
        ];
        own.iter().any(|variable| variable.is_set(vars))
    }

    /// Checks all of `vars`. `read_file` reads the files that the `*_FILE` variables name, and the
    /// groups for `SOCKET_GROUP`.
    ///
    /// # Errors
    /// Every mistake.
    pub fn parse(
        vars: &BTreeMap<String, String>,
        read_file: ReadFile<'_>,
    ) -> Result<ApiConfig, Vec<ConfigError>> {
        check(vars, read_file, config)
    }
}

fn config(checker: &mut Checker<'_>) -> Option<ApiConfig> {
    all!(ApiConfig {
        listen: checker.value(&table::API_ADDR),
        token: checker
            .secret(&table::API_TOKEN, &table::API_TOKEN_FILE)
            .map(|(_, token)| token),
        socket_group: checker.socket_group(),
        database: checker.database(&[(&table::API_ADDR.variable, listen.as_ref())]),
        success_url: checker.value(&table::CHECKOUT_SUCCESS_URL),
        cancel_url: checker.value(&table::CHECKOUT_CANCEL_URL),
        log_level: checker.value(&table::LOG_LEVEL),
        stripe: stripe::config(checker),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::table::VARIABLES;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn parsed(pairs: &[(&str, &str)]) -> Result<ApiConfig, Vec<ConfigError>> {
        let usual = [("API_TOKEN", TOKEN), ("STRIPE_SECRET_KEY", "sk_test_1")];
        let vars = usual.iter().chain(pairs);
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        ApiConfig::parse(&vars.map(own).collect(), &|_| Ok(format!("{TOKEN}\n")))
    }

    #[test]
    fn the_defaults_need_a_key_and_a_token() {
        let config = parsed(&[]).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:4244");
        assert_eq!(config.success_url, None);
        let from_file = parsed(&[("API_TOKEN", ""), ("API_TOKEN_FILE", "/run/token")]).unwrap();
        assert_eq!(from_file.token.expose(), TOKEN);
    }

    #[test]
    fn a_blank_token_file_is_named_and_the_remedy_is_a_new_token() {
        let vars = [
            ("API_TOKEN_FILE", "/run/token"),
            ("STRIPE_SECRET_KEY", "sk_test_1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let errors = ApiConfig::parse(&vars.into(), &|_| Ok(" \n".to_owned())).unwrap_err();
        let [error] = &errors[..] else {
            panic!("{errors:?}");
        };
        assert_eq!(error.variable, "API_TOKEN_FILE");
        assert_eq!(error.problem, "names a file that is blank");
        assert!(error.remedy.contains("gen-token"), "{error}");
    }

    #[test]
    fn every_mistake_is_told_at_once_and_no_secret_with_it() {
        let errors = parsed(&[
            ("API_ADDR", "0.0.0.0:4244"),
            ("API_TOKEN", "canary"),
            ("DATABASE_PATH", ":memory:"),
            ("CHECKOUT_SUCCESS_URL", "shop.example"),
            ("STRIPE_SECRET_KEY", "canary"),
            ("LOG_LEVEL", "loud"),
        ])
        .unwrap_err();
        let names: Vec<_> = errors.iter().map(|error| error.variable).collect();
        assert_eq!(
            names,
            [
                "API_ADDR",
                "API_TOKEN",
                "DATABASE_PATH",
                "CHECKOUT_SUCCESS_URL",
                "LOG_LEVEL",
                "STRIPE_SECRET_KEY"
            ]
        );
        assert!(
            errors
                .iter()
                .all(|error| !error.to_string().contains("canary"))
        );
        for variable in VARIABLES {
            for value in [
                "whsec_canary",
                "sk_live_canary!",
                "postgres://a:canary@b/c",
                "//canary",
            ] {
                for error in parsed(&[(variable.name, value)])
                    .err()
                    .into_iter()
                    .flatten()
                {
                    assert!(!error.to_string().contains("canary"), "{error}");
                }
            }
        }
        for token in [
            "0123456789abcdef 0123456789abcdef",
            "é123456789abcdef0123456789abcdef",
        ] {
            assert!(parsed(&[("API_TOKEN", token)]).is_err(), "{token}");
        }
    }
}
