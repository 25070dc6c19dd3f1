//! Turns environment variables into what `paidup api` needs, or into every mistake at once. The
//! webhook server never reads any of it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use log::LevelFilter;

use super::serve::{Address, ConfigError, Reader, loopback, text};
use super::stripe::{self, ApiSettings};
use super::variable::{
    API_ADDR, API_TOKEN, API_TOKEN_FILE, CHECKOUT_CANCEL_URL, CHECKOUT_SUCCESS_URL, Variable,
};
use crate::base::secret::Secret;
use crate::truth::new_order::is_page;

/// All that `paidup api` was told, checked.
#[derive(Debug)]
pub struct ApiConfig {
    /// A loopback address or a Unix socket.
    pub listen: Address,
    /// The group that may connect to a Unix socket, beside our own user.
    pub socket_group: Option<u32>,
    /// What the shop's back end proves itself with, at least 32 characters.
    pub token: Secret,
    /// The SQLite file.
    pub database: PathBuf,
    /// Where buyers come after paying, unless the order says.
    pub success_url: Option<Box<str>>,
    /// Where buyers come by going back, unless the order says.
    pub cancel_url: Option<Box<str>>,
    /// For the calls to Stripe.
    pub stripe: ApiSettings,
    /// The least severe level that is logged.
    pub log_level: LevelFilter,
}

/// Shortest token, in characters: `paidup gen-token` makes 64 of hexadecimal, 256 bits.
const TOKEN_MIN_CHARS: usize = 32;

impl ApiConfig {
    /// Whether any variable is set that only `paidup api` reads.
    pub(crate) fn is_wanted(vars: &BTreeMap<String, String>) -> bool {
        let own = [
            API_ADDR,
            API_TOKEN,
            API_TOKEN_FILE,
            CHECKOUT_SUCCESS_URL,
            CHECKOUT_CANCEL_URL,
        ];
        own.iter().any(|variable| {
            let value = vars.get(variable.name);
            value.is_some_and(|value| !value.trim().is_empty())
        })
    }

    /// Checks all of `vars`. `read_file` is asked for the content of the `*_FILE` variables.
    ///
    /// # Errors
    /// Every mistake.
    pub fn parse(
        vars: &BTreeMap<String, String>,
        read_file: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<ApiConfig, Vec<ConfigError>> {
        let mut reader = Reader::new(vars);
        let config = config(&mut reader, read_file);
        match config {
            Some(config) if reader.errors.is_empty() => Ok(config),
            Some(_) | None => Err(reader.errors),
        }
    }
}

/// Reads everything before it looks at anything, so that no mistake hides another.
fn config(
    reader: &mut Reader<'_>,
    read_file: &dyn Fn(&Path) -> io::Result<String>,
) -> Option<ApiConfig> {
    let listen = listen(reader);
    let token = token(reader, read_file);
    let socket_group = reader.socket_group(read_file);
    let database = reader.database(&[(&API_ADDR, listen.as_ref())]);
    let success_url = page(reader, &CHECKOUT_SUCCESS_URL);
    let cancel_url = page(reader, &CHECKOUT_CANCEL_URL);
    let log_level = reader.log_level();
    let stripe = stripe::settings(reader, read_file);
    Some(ApiConfig {
        listen: listen?,
        socket_group: socket_group?,
        token: token?,
        database: database?,
        success_url: success_url?,
        cancel_url: cancel_url?,
        stripe: stripe?,
        log_level: log_level?,
    })
}

fn listen(reader: &mut Reader<'_>) -> Option<Address> {
    match loopback(text(reader.vars, &API_ADDR)) {
        Ok(address) => Some(address),
        Err(problem) => reader.refuse(
            &API_ADDR,
            problem,
            "It answers for the account's key, to this machine alone.",
            format!(
                "Write a loopback address and a port of its own, such as {}, or unix:/PATH.",
                API_ADDR.default
            ),
        ),
    }
}

fn token(
    reader: &mut Reader<'_>,
    read_file: &dyn Fn(&Path) -> io::Result<String>,
) -> Option<Secret> {
    const WHY: &str =
        "Whoever knows it may make orders, and without it anybody on this machine could.";
    const REMEDY: &str =
        "Make one with `paidup gen-token`, and give it to the shop's back end as well.";
    let (variable, content) =
        reader.secret_text(&API_TOKEN, &API_TOKEN_FILE, WHY, REMEDY, read_file)?;
    let token = content.trim();
    let problem = if token.chars().count() < TOKEN_MIN_CHARS {
        "is shorter than 32 characters"
    } else if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(Secret::new(token));
    } else {
        "has a blank, a second line or a character that no header carries"
    };
    reader.refuse(variable, problem.to_owned(), WHY, REMEDY.to_owned())
}

fn page(reader: &mut Reader<'_>, variable: &Variable) -> Option<Option<Box<str>>> {
    let url = text(reader.vars, variable);
    if url.is_empty() {
        return Some(None);
    }
    if is_page(url) {
        return Some(Some(url.into()));
    }
    reader.refuse(
        variable,
        "is no address of a page".to_owned(),
        "Buyers are sent there.",
        "Write https://HOST/PATH; {CHECKOUT_SESSION_ID} in it becomes the session's id.".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for token in [
            "0123456789abcdef 0123456789abcdef",
            "é123456789abcdef0123456789abcdef",
        ] {
            assert!(parsed(&[("API_TOKEN", token)]).is_err(), "{token}");
        }
    }
}
