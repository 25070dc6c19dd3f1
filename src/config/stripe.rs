//! Turns environment variables into what a call to Stripe's API needs, or into every mistake at
//! once. Only the commands that call Stripe ask for it: the webhook server never holds a key.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::serve::{ConfigError, Reader, text};
use super::variable::{
    PUBLIC_URL, STRIPE_API_BASE, STRIPE_API_PROXY, STRIPE_API_TIMEOUT_SECONDS, STRIPE_SECRET_KEY,
    STRIPE_SECRET_KEY_FILE, Variable,
};
use crate::base::secret::Secret;
use crate::truth::event::Mode;
use crate::truth::reading::Reading;

/// All that calls to Stripe's API need, checked.
#[derive(Debug)]
pub struct ApiSettings {
    /// A secret key (`sk_`) or a restricted one (`rk_`).
    pub key: Secret,
    /// The mode that the key belongs to.
    pub mode: Mode,
    /// How what Stripe answers is to be read; of the mode that `STRIPE_MODE` says, if it does.
    pub reading: Reading,
    /// The version that answers shall have.
    pub version: Box<str>,
    /// Scheme, host and port, without a slash at the end: https, or http on a loopback address.
    pub base: Box<str>,
    /// The proxy that calls go through. Its address may hold a password.
    pub proxy: Option<Secret>,
    /// For one call with all its retries.
    pub timeout: Duration,
}

impl ApiSettings {
    /// Checks the variables in `vars` that calls to Stripe need. `read_file` is asked for the
    /// content of `STRIPE_SECRET_KEY_FILE`, when that is set.
    ///
    /// # Errors
    /// Every mistake, in the order of [`VARIABLES`](super::variable::VARIABLES).
    pub fn parse(
        vars: &BTreeMap<String, String>,
        read_file: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<ApiSettings, Vec<ConfigError>> {
        let mut reader = Reader::new(vars);
        match settings(&mut reader, read_file) {
            Some(settings) if reader.errors.is_empty() => Ok(settings),
            Some(_) | None => Err(reader.errors),
        }
    }
}

impl ApiSettings {
    /// The settings for calls whose answers go into a database of the mode `file`; `None` while no event
    /// has settled that. What Stripe answers is of the key's mode, and test and live never mix.
    ///
    /// # Errors
    /// [`ConfigError`] when the key is of another mode than `STRIPE_MODE` or the file.
    pub fn for_database(mut self, file: Option<Mode>) -> Result<ApiSettings, ConfigError> {
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
            variable: STRIPE_SECRET_KEY.name,
            problem: format!("is a key of {} mode, {problem}", key.as_str()),
            why: "Test and live never mix: nothing was asked and nothing has changed.",
            remedy: "Take a key of the same mode (Dashboard → Developers → API keys), or name the file of \
                     the other mode in DATABASE_PATH."
                .to_owned(),
        })
    }
}

/// Where Stripe delivers to.
pub(crate) const WEBHOOK_PATH: &str = "/stripe/webhook";

/// The URL that the endpoint in the Dashboard must have; `None` when `PUBLIC_URL` is not set.
///
/// # Errors
/// [`ConfigError`] when `PUBLIC_URL` is no `https://HOST[:PORT]`.
pub fn webhook_url(vars: &BTreeMap<String, String>) -> Result<Option<String>, ConfigError> {
    let value = text(vars, &PUBLIC_URL);
    let base = value.strip_suffix('/').unwrap_or(value);
    match split(base) {
        _ if base.is_empty() => Ok(None),
        Some(("https", _)) => Ok(Some(format!("{base}{WEBHOOK_PATH}"))),
        Some(_) | None => Err(ConfigError {
            variable: PUBLIC_URL.name,
            problem: "is no https://HOST[:PORT]".to_owned(),
            why: "Stripe delivers to https only, and the endpoint cannot be found without it.",
            remedy: "Write the host that the endpoint in the Dashboard has, without a path."
                .to_owned(),
        }),
    }
}

/// Where an operator finds a key.
const FIND_KEY: &str = "Make a restricted key (it starts with rk_) in Dashboard → Developers → API \
    keys, put it in the environment file, and try again.";

/// Longest key taken, in bytes. Stripe's have about 110.
const KEY_MAX_BYTES: usize = 255;

/// Reads everything before it looks at anything, so that no mistake hides another.
pub(super) fn settings(
    reader: &mut Reader<'_>,
    read_file: &dyn Fn(&Path) -> io::Result<String>,
) -> Option<ApiSettings> {
    let version = reader.api_version();
    let key = key(reader, read_file);
    let base = base(reader);
    let proxy = proxy(reader);
    let timeout_seconds = reader.number::<u64>(
        &STRIPE_API_TIMEOUT_SECONDS,
        1..=300,
        "Whoever waits for the answer waits that long when Stripe is silent.",
    );
    let reading = reader.reading();
    let (key, mode) = key?;
    Some(ApiSettings {
        key,
        mode,
        reading: reading?,
        version: version?,
        base: base?,
        proxy: proxy?,
        timeout: Duration::from_secs(timeout_seconds?),
    })
}

fn key(
    reader: &mut Reader<'_>,
    read_file: &dyn Fn(&Path) -> io::Result<String>,
) -> Option<(Secret, Mode)> {
    let (variable, content) = reader.secret_text(
        &STRIPE_SECRET_KEY,
        &STRIPE_SECRET_KEY_FILE,
        "Without a key, Stripe answers nothing.",
        FIND_KEY,
        read_file,
    )?;
    let key = content.trim();
    let problem = match mode_of(key) {
        Some(mode) if is_plain(key) => return Some((Secret::new(key), mode)),
        _ if key.is_empty() => "names a file that is blank",
        _ if key.starts_with("pk_") => {
            "is a publishable key (pk_), which pages show to everybody and which can read nothing"
        }
        _ if key.starts_with("whsec_") => {
            "is a signing secret (whsec_), which proves webhooks and opens nothing"
        }
        Some(_) => "has a character that no key has: quotes, blanks or a second line",
        None => "is no secret key: it starts with none of sk_live_, sk_test_, rk_live_, rk_test_",
    };
    reader.refuse(
        variable,
        problem.to_owned(),
        "Stripe would refuse every call with 401.",
        FIND_KEY.to_owned(),
    )
}

/// The mode that stands in a key: <https://docs.stripe.com/keys#obtain-api-keys>.
fn mode_of(key: &str) -> Option<Mode> {
    let kind = key.strip_prefix("sk_").or(key.strip_prefix("rk_"))?;
    if kind.starts_with("live_") {
        Some(Mode::Live)
    } else if kind.starts_with("test_") {
        Some(Mode::Test)
    } else {
        None
    }
}

fn is_plain(key: &str) -> bool {
    key.len() <= KEY_MAX_BYTES
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn base(reader: &mut Reader<'_>) -> Option<Box<str>> {
    let value = text(reader.vars, &STRIPE_API_BASE);
    let base = value.strip_suffix('/').unwrap_or(value);
    let problem = match split(base) {
        Some(("https", _)) => return Some(base.into()),
        Some(("http", host)) if is_loopback(host) => return Some(base.into()),
        Some(("http", _)) => "is http to another machine, where the key could be overheard",
        Some(_) | None => "is no https://HOST[:PORT]",
    };
    reader.refuse(
        &STRIPE_API_BASE,
        problem.to_owned(),
        "Every call carries the key to the account.",
        format!(
            "Remove it for {}; only a stand-in on this machine may be http, such as \
             http://127.0.0.1:12111.",
            STRIPE_API_BASE.default
        ),
    )
}

fn proxy(reader: &mut Reader<'_>) -> Option<Option<Secret>> {
    const VARIABLE: &Variable = &STRIPE_API_PROXY;
    let value = text(reader.vars, VARIABLE);
    if value.is_empty() {
        return Some(None);
    }
    let address = value.strip_suffix('/').unwrap_or(value);
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if split(&format!("{scheme}://{host}")).is_some() {
        return Some(Some(Secret::new(address)));
    }
    reader.refuse(
        VARIABLE,
        "is no http://HOST:PORT".to_owned(),
        "Every call to Stripe goes through it.",
        "Write its address, http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, or remove it."
            .to_owned(),
    )
}

/// Scheme and host of `http[s]://HOST[:PORT]`, if `url` is that and nothing more.
pub(super) fn split(url: &str) -> Option<(&str, &str)> {
    let (scheme, authority) = url.split_once("://")?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    };
    let port_fits = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|n| n > 0)
    });
    let host_fits = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
        }
    };
    (matches!(scheme, "http" | "https") && port_fits && host_fits).then_some((scheme, host))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::variable::{CALLING_STRIPE, VARIABLES};

    const CANARY: &str = "canary4eC39HqLyjWDarjtT1zdp7dc";

    /// With a good key beside `pairs`.
    fn parsed(pairs: &[(&str, &str)]) -> Result<ApiSettings, Vec<ConfigError>> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut vars: BTreeMap<String, String> = pairs.iter().map(own).collect();
        if !vars.contains_key("STRIPE_SECRET_KEY_FILE") {
            vars.entry("STRIPE_SECRET_KEY".to_owned())
                .or_insert("sk_test_1".to_owned());
        }
        ApiSettings::parse(&vars, &|path| match path.to_str() {
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
    fn the_endpoints_url_is_that_of_an_https_host() {
        let url = |value: &str| {
            webhook_url(&BTreeMap::from([(
                "PUBLIC_URL".to_owned(),
                value.to_owned(),
            )]))
        };
        assert_eq!(url(""), Ok(None));
        let endpoint = Ok(Some("https://shop.example.com/stripe/webhook".to_owned()));
        assert_eq!(url("https://shop.example.com"), endpoint);
        assert_eq!(url("https://shop.example.com/"), endpoint);
        for bad in [
            "http://shop.example.com",
            "shop.example.com",
            "https://shop.example.com/a",
        ] {
            assert_eq!(url(bad).unwrap_err().variable, "PUBLIC_URL", "{bad}");
        }
    }

    #[test]
    fn every_mistake_is_told_at_once_and_none_shows_a_secret() {
        let secret = format!("sk_live_{CANARY}!");
        let wrong: Vec<(&str, &str)> = CALLING_STRIPE
            .iter()
            .filter(|it| it.name.starts_with("STRIPE_") && it.name != "STRIPE_SECRET_KEY_FILE")
            .map(|variable| (variable.name, secret.as_str()))
            .collect();
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
