//! Turns the text of a variable into its value, or says what is wrong with it as the end of a
//! sentence that begins with the variable's name. No text is repeated in what is said: whatever is
//! in the wrong variable may be a secret.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use ureq::http::Uri;

use crate::base::secret::Secret;
use crate::base::webhook_key::WebhookKey;
use crate::host::zone::Zone;
use crate::truth::new_order::is_page;
use crate::truth::reading::{Mode, Ours};

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

/// Which requests the rate limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Every request, as the runbook has it.
    All,
    /// Those that fail verification, so that a burst of real events is never refused.
    Unverified,
}

/// Any text.
pub(super) fn any(text: &str) -> Result<Box<str>, String> {
    Ok(text.into())
}

/// One of a few words, in any case.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let chosen = choices
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text));
    chosen.map(|(_, choice)| *choice).ok_or_else(|| {
        let words = choices.iter().map(|(word, _)| *word);
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        format!("is not one of: {}", words.join(", "))
    })
}

/// A whole number.
pub(super) fn number<T: FromStr>(text: &str, range: RangeInclusive<u64>) -> Result<T, String> {
    let is_in_range = text.parse().is_ok_and(|number| range.contains(&number));
    let number = text.parse().ok().filter(|_| is_in_range);
    let (least, most) = (range.start(), range.end());
    number.ok_or_else(|| format!("is not a whole number from {least} to {most}"))
}

/// A whole number of seconds.
pub(super) fn seconds(text: &str, range: RangeInclusive<u64>) -> Result<Duration, String> {
    number(text, range).map(Duration::from_secs)
}

/// The path of a file, if there is one.
pub(super) fn file(text: &str) -> Result<Option<PathBuf>, String> {
    optional(text, |path| Ok(path.into()))
}

/// The path of the database.
pub(super) fn database(text: &str) -> Result<PathBuf, String> {
    if text == ":memory:" {
        return Err("is :memory:, which is lost at a restart".to_owned());
    }
    if text.contains("://") || looks_secret(text) {
        let problem = "is a URL or a secret, and would be shown and logged";
        return Err(problem.to_owned());
    }
    Ok(text.into())
}

/// A listener's address.
pub(super) fn address(text: &str) -> Result<Address, String> {
    /// Without the NUL at its end: <https://man7.org/linux/man-pages/man7/unix.7.html>.
    const PATH_MAX_BYTES: usize = 107;
    let Some(path) = text.strip_prefix("unix:") else {
        let address = text.parse().map(Address::Tcp);
        return address.map_err(|_| "is not an IP address with a port".to_owned());
    };
    if !path.starts_with('/') {
        return Err("has a path that does not begin with /".to_owned());
    }
    if path.len() > PATH_MAX_BYTES {
        return Err(format!(
            "has a path of {} bytes, more than the {PATH_MAX_BYTES} of a Unix socket",
            path.len()
        ));
    }
    Ok(Address::Unix(path.into()))
}

/// An address that only this machine can reach.
pub(super) fn loopback(text: &str) -> Result<Address, String> {
    match address(text)? {
        Address::Tcp(address) if !address.ip().to_canonical().is_loopback() => {
            Err("is an address that other machines can reach".to_owned())
        }
        address @ (Address::Tcp(_) | Address::Unix(_)) => Ok(address),
    }
}

/// As [`loopback`], or `off`.
pub(super) fn loopback_or_off(text: &str) -> Result<Option<Address>, String> {
    match text {
        "off" => Ok(None),
        text => loopback(text).map(Some),
    }
}

/// Addresses and CIDRs; an address is the network that holds it alone.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let network = |item: &str| match item.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address.to_canonical())),
        Err(_) => item.parse::<IpNet>().ok().map(|network| network.trunc()),
    };
    match text {
        "none" => Ok(Vec::new()),
        text => list(text, network, "neither an address nor a CIDR"),
    }
}

/// Sites, as a browser names them in its `Origin` header
/// (<https://www.rfc-editor.org/rfc/rfc6454#section-6.2>).
pub(super) fn origins(text: &str) -> Result<Vec<Box<str>>, String> {
    let origin = |item: &str| {
        let is_lower = !item.bytes().any(|byte| byte.is_ascii_uppercase());
        (split(item).is_some() && is_lower).then(|| item.into())
    };
    list(text, origin, "not the origin of a page")
}

/// Host names as they stand in an address, in lower case.
pub(super) fn host_names(text: &str) -> Result<Vec<Box<str>>, String> {
    let is_label = |label: &str| {
        let mut bytes = label.bytes();
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let host = |item: &str| {
        let is_host = item.split('.').all(is_label);
        is_host.then(|| item.to_ascii_lowercase().into())
    };
    list(text, host, "not a host name")
}

/// Entries between commas; blank ones do not count.
fn list<T>(text: &str, parse: impl Fn(&str) -> Option<T>, what: &str) -> Result<Vec<T>, String> {
    let items = text.split(',').map(str::trim);
    let items = items.filter(|item| !item.is_empty()).zip(1..);
    let entry = |(item, number)| {
        parse(item).ok_or_else(|| format!("has an entry (number {number}) that is {what}"))
    };
    items.map(entry).collect()
}

/// `YYYY-MM-DD`, since 2024-09-30 with the name of a release: `YYYY-MM-DD.name`
/// (<https://docs.stripe.com/api/versioning>).
pub(super) fn api_version(text: &str) -> Result<Box<str>, String> {
    const NAME_MAX_BYTES: usize = 32;
    let (date, name) = text.split_once('.').unwrap_or((text, "none"));
    let date_fits = date.len() == 10
        && date.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let name_fits = (1..=NAME_MAX_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match date_fits && name_fits {
        true => Ok(text.into()),
        false => Err("is not a version of Stripe's API".to_owned()),
    }
}

/// What marks this shop's orders; `None` when all are its own.
pub(super) fn ours(text: &str) -> Result<Option<Ours>, String> {
    optional(text, |text| {
        Ours::parse(text).ok_or("is neither metadata.KEY=VALUE nor BEGINNING*")
    })
}

/// Signing secrets, separated by commas or line ends.
pub(super) fn webhook_secrets(text: &str) -> Result<Vec<Secret>, String> {
    /// Each costs one HMAC of every body. Two modes and a rotation of both make four.
    const SECRETS_MAX: usize = 16;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let secrets: Vec<&str> = lines
        .flat_map(|line| line.split(',').map(str::trim))
        .collect();
    if secrets.contains(&"") {
        return Err(
            "has an empty secret before or after a comma, so one may be missing".to_owned(),
        );
    }
    let count = secrets.len();
    for (secret, number) in secrets.iter().zip(1..) {
        if is_placeholder(secret) {
            return Err(format!(
                "has a placeholder (number {number} of {count}) where the secret belongs"
            ));
        }
        if ["sk_", "rk_", "pk_"]
            .iter()
            .any(|key| secret.starts_with(key))
        {
            return Err(format!(
                "has an API key (number {number} of {count}) where the signing secret belongs"
            ));
        }
    }
    match count {
        ..=SECRETS_MAX => Ok(secrets.into_iter().map(Secret::new).collect()),
        count => Err(format!("has {count} secrets, more than {SECRETS_MAX}")),
    }
}

/// What examples show in place of a secret: `whsec_…`, `sk_test_...`, `whsec_xxx`, `whsec_YOUR_SECRET`, or the
/// beginning alone. What follows the beginning has no `_` in a real one.
fn is_placeholder(secret: &str) -> bool {
    let starts = ["whsec_", "sk_live_", "sk_test_", "rk_live_", "rk_test_"];
    let rest = starts.iter().find_map(|start| secret.strip_prefix(start));
    let is_blank =
        rest.is_some_and(|rest| rest.bytes().all(|byte| matches!(byte, b'x' | b'X' | b'*')));
    is_blank
        || ["…", "...", "<", "your_", "YOUR_"]
            .iter()
            .any(|mark| secret.contains(mark))
}

/// A secret or restricted key, with the mode that it says:
/// <https://docs.stripe.com/keys#obtain-api-keys>.
pub(super) fn stripe_key(key: &str) -> Result<(Secret, Mode), String> {
    /// Stripe's keys have about 110.
    const KEY_MAX_BYTES: usize = 255;
    let is_plain = key.len() <= KEY_MAX_BYTES
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let kind = key.strip_prefix("sk_").or(key.strip_prefix("rk_"));
    let mode = match kind.and_then(|kind| kind.split_once('_')) {
        Some(("live", _)) => Some(Mode::Live),
        Some(("test", _)) => Some(Mode::Test),
        Some(_) | None => None,
    };
    let problem = match mode {
        _ if is_placeholder(key) => "is a placeholder where the key belongs",
        Some(mode) if is_plain => return Ok((Secret::new(key), mode)),
        Some(_) => "has a character that no key has: quotes, blanks or a second line",
        None if key.starts_with("pk_") => {
            "is a publishable key (pk_), which every page shows and which can read nothing"
        }
        None if key.starts_with("whsec_") => {
            "is a signing secret (whsec_), which verifies webhooks and opens nothing"
        }
        None => {
            "is not a secret key: it starts with none of sk_live_, sk_test_, rk_live_, rk_test_"
        }
    };
    Err(problem.to_owned())
}

/// What the shop's back end authenticates with.
pub(super) fn api_token(token: &str) -> Result<Secret, String> {
    /// `paidup gen-token` makes 64 of hexadecimal, 256 bits.
    const TOKEN_MIN_CHARS: usize = 32;
    long_enough(token, TOKEN_MIN_CHARS)
}

/// The password of the page. Ten may be tried a minute.
pub(super) fn password(password: &str) -> Result<Secret, String> {
    const PASSWORD_MIN_CHARS: usize = 16;
    long_enough(password, PASSWORD_MIN_CHARS)
}

fn long_enough(token: &str, least: usize) -> Result<Secret, String> {
    if token.chars().count() < least {
        return Err(format!("is shorter than {least} characters"));
    }
    match token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(Secret::new(token)),
        false => {
            Err("has a blank, a second line or a character that no header can carry".to_owned())
        }
    }
}

/// A page that buyers are sent to, if there is one.
pub(super) fn page(text: &str) -> Result<Option<Box<str>>, String> {
    optional(text, |url| {
        is_page(url)
            .then(|| url.into())
            .ok_or("is not the URL of a page")
    })
}

/// `https://HOST[:PORT]`, without a slash at the end.
pub(super) fn https_host(text: &str) -> Result<Option<Box<str>>, String> {
    optional(text, |text| {
        let base = without_slash(text);
        let is_https = matches!(split(base), Some(("https", _)));
        is_https
            .then(|| base.into())
            .ok_or("is not https://HOST[:PORT]")
    })
}

/// As [`https_host`], or http to this machine.
pub(super) fn api_base(text: &str) -> Result<Box<str>, String> {
    let base = without_slash(text);
    match split(base) {
        Some(("https", _)) => Ok(base.into()),
        Some(("http", host)) if is_loopback(host) => Ok(base.into()),
        Some(("http", _)) => {
            Err("is http to another machine, where the key could be read on the way".to_owned())
        }
        Some(_) | None => Err("is not https://HOST[:PORT]".to_owned()),
    }
}

/// A proxy's address, which may hold a password.
pub(super) fn proxy(text: &str) -> Result<Option<Secret>, String> {
    optional(text, |text| {
        let address = without_slash(text);
        let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        split(&format!("{scheme}://{host}"))
            .map(|_| Secret::new(address))
            .ok_or("is not http://HOST:PORT")
    })
}

/// Where messages go: https, or http to this machine. A path or a query may be a password.
pub(super) fn receiver(text: &str) -> Result<Secret, String> {
    let uri = text.parse::<Uri>().ok();
    let parts = uri
        .as_ref()
        .and_then(|uri| Some((uri.scheme_str()?, uri.authority()?, uri.host()?)));
    let problem = match parts {
        _ if text.is_empty() => "is not set or blank",
        Some((_, authority, _)) if authority.as_str().contains('@') => {
            "has a user or a password before the host"
        }
        Some(("https", ..)) => return Ok(Secret::new(text)),
        Some(("http", _, host)) if is_loopback(host) => return Ok(Secret::new(text)),
        Some(("http", ..)) => "is http to another machine, where messages could be read on the way",
        Some(_) | None => "is not https://HOST/PATH",
    };
    Err(problem.to_owned())
}

/// Secrets of Standard Webhooks, separated by commas or line ends.
pub(super) fn webhook_keys(text: &str) -> Result<Vec<WebhookKey>, String> {
    /// Each adds a signature to every message. A rotation has two.
    const KEYS_MAX: usize = 8;
    let secrets = webhook_secrets(text)?;
    if secrets.len() > KEYS_MAX {
        let count = secrets.len();
        return Err(format!("has {count} secrets, more than {KEYS_MAX}"));
    }
    let keys = secrets
        .iter()
        .map(|secret| WebhookKey::parse(secret.expose()));
    keys.collect::<Result<_, _>>()
        .map_err(|bad| bad.to_string())
}

/// A name that fits into file names and metrics.
pub(super) fn short_name(text: &str) -> Result<Box<str>, String> {
    const MAX_BYTES: usize = 32;
    let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    match text.len() <= MAX_BYTES && text.bytes().all(fits) {
        true => Ok(text.into()),
        false => Err(format!("is not 1 to {MAX_BYTES} of a-z, 0-9, - and _")),
    }
}

/// `None` for an empty text.
fn optional<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, &'static str>,
) -> Result<Option<T>, String> {
    match text {
        "" => Ok(None),
        text => parse(text).map(Some).map_err(str::to_owned),
    }
}

fn without_slash(url: &str) -> &str {
    url.strip_suffix('/').unwrap_or(url)
}

/// Scheme and host of `http[s]://HOST[:PORT]`, if `url` is that and nothing more.
fn split(url: &str) -> Option<(&str, &str)> {
    let (scheme, authority) = url.split_once("://")?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    };
    let port_fits = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|n| n > 0)
    });
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let host_fits = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(is_name_byte),
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

/// Whether `value` contains one of Stripe's signing secrets or keys.
pub(crate) fn looks_secret(value: &str) -> bool {
    const STARTS: [&str; 5] = ["whsec_", "sk_live_", "sk_test_", "rk_live_", "rk_test_"];
    STARTS.iter().any(|start| value.contains(start))
}

/// A time zone that this machine knows.
pub(super) fn zone(text: &str) -> Result<Zone, String> {
    Zone::named(text).ok_or_else(|| "is no time zone that this machine knows".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_version_is_a_date_with_or_without_a_release() {
        for good in ["2026-10-28.endive", "2025-03-31.preview", "2024-06-20"] {
            assert!(api_version(good).is_ok(), "{good}");
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
            assert!(api_version(bad).is_err(), "{bad}");
        }
    }
}
