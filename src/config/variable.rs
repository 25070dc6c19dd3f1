//! The environment variables that the service reads: one table for the code, `.env.example` and the
//! README.

use crate::truth::reading::NamePlaces;

/// An environment variable that the service reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its exact name.
    pub name: &'static str,
    /// What counts when it is not set or blank; empty when there is no default.
    pub default: &'static str,
    /// What it is for, in a line.
    pub doc: &'static str,
}

/// Every variable, in the order of `.env.example` and the README.
pub const VARIABLES: &[Variable] = &[
    LISTEN_ADDR,
    ADMIN_ADDR,
    SOCKET_GROUP,
    DATABASE_PATH,
    STRIPE_WEBHOOK_SECRET,
    STRIPE_WEBHOOK_SECRET_FILE,
    WEBHOOK_TOLERANCE_SECONDS,
    STRIPE_API_VERSION,
    STRIPE_MODE,
    ORDER_ID_FROM,
    OUR_ORDERS,
    RATE_LIMIT_WEBHOOK_MAX,
    RATE_LIMIT_WEBHOOK_EXEMPT,
    RATE_LIMIT_WEBHOOK_COUNT,
    TRUSTED_PROXIES,
    HTTP_CONNECTIONS,
    REQUEST_TIMEOUT_SECONDS,
    BODY_MAX_BYTES,
    LOG_LEVEL,
    PUBLIC_CHECKOUT_STATUS,
    PUBLIC_CHECKOUT_ORIGINS,
    RATE_LIMIT_CHECKOUT_MAX,
    PUBLIC_URL,
    STRIPE_SECRET_KEY,
    STRIPE_SECRET_KEY_FILE,
    STRIPE_API_BASE,
    STRIPE_API_PROXY,
    STRIPE_API_TIMEOUT_SECONDS,
    API_ADDR,
    API_TOKEN,
    API_TOKEN_FILE,
    CHECKOUT_SUCCESS_URL,
    CHECKOUT_CANCEL_URL,
];

/// Those of [`VARIABLES`] that only the commands which call Stripe read; `serve` never does.
pub const CALLING_STRIPE: &[Variable] = &[
    PUBLIC_URL,
    STRIPE_SECRET_KEY,
    STRIPE_SECRET_KEY_FILE,
    STRIPE_API_BASE,
    STRIPE_API_PROXY,
    STRIPE_API_TIMEOUT_SECONDS,
    API_ADDR,
    API_TOKEN,
    API_TOKEN_FILE,
    CHECKOUT_SUCCESS_URL,
    CHECKOUT_CANCEL_URL,
];

pub(crate) const LISTEN_ADDR: Variable = Variable {
    name: "LISTEN_ADDR",
    default: "127.0.0.1:4242",
    doc: "Where webhooks come in: ADDRESS:PORT or unix:/PATH.",
};
pub(crate) const ADMIN_ADDR: Variable = Variable {
    name: "ADMIN_ADDR",
    default: "127.0.0.1:4243",
    doc: "Health and metrics, for this machine alone: loopback ADDRESS:PORT, unix:/PATH or off.",
};
pub(crate) const SOCKET_GROUP: Variable = Variable {
    name: "SOCKET_GROUP",
    default: "",
    doc: "The proxy's group, name or number: it may connect to our Unix sockets. Not set: only our own user may.",
};
pub(crate) const DATABASE_PATH: Variable = Variable {
    name: "DATABASE_PATH",
    default: "paidup.db",
    doc: "The SQLite file; four more (-wal, -shm, .lock, .in-use) appear beside it.",
};
pub(crate) const STRIPE_WEBHOOK_SECRET: Variable = Variable {
    name: "STRIPE_WEBHOOK_SECRET",
    default: "",
    doc: "Signing secret of the endpoint (whsec_...); several, separated by commas, in a rotation.",
};
pub(crate) const STRIPE_WEBHOOK_SECRET_FILE: Variable = Variable {
    name: "STRIPE_WEBHOOK_SECRET_FILE",
    default: "",
    doc: "Instead of STRIPE_WEBHOOK_SECRET: a file with the secrets, such as a systemd credential.",
};
pub(crate) const WEBHOOK_TOLERANCE_SECONDS: Variable = Variable {
    name: "WEBHOOK_TOLERANCE_SECONDS",
    default: "300",
    doc: "Age at which a signature still counts, 1 to 86400.",
};
pub(crate) const STRIPE_API_VERSION: Variable = Variable {
    name: "STRIPE_API_VERSION",
    default: "2026-10-28.endive",
    doc: "API version of the endpoint in the Stripe Dashboard; check it after each Stripe upgrade.",
};
pub(crate) const STRIPE_MODE: Variable = Variable {
    name: "STRIPE_MODE",
    default: "",
    doc: "live or test: events of the other mode change nothing. Not set: the first event decides.",
};
pub(crate) const ORDER_ID_FROM: Variable = Variable {
    name: "ORDER_ID_FROM",
    default: NamePlaces::DEFAULT,
    doc: "Where Stripe's objects carry the order id, best first: metadata.KEY or client_reference_id.",
};
pub(crate) const OUR_ORDERS: Variable = Variable {
    name: "OUR_ORDERS",
    default: "",
    doc: "In an account that shops share, what marks our orders: metadata.KEY=VALUE, or BEGINNING* of the id.",
};
pub(crate) const RATE_LIMIT_WEBHOOK_MAX: Variable = Variable {
    name: "RATE_LIMIT_WEBHOOK_MAX",
    default: "100",
    doc: "Requests a minute and client address before 429.",
};
pub(crate) const RATE_LIMIT_WEBHOOK_EXEMPT: Variable = Variable {
    name: "RATE_LIMIT_WEBHOOK_EXEMPT",
    default: "",
    doc: "Addresses and CIDRs that are never limited (https://stripe.com/files/ips/ips_webhooks.txt).",
};
pub(crate) const RATE_LIMIT_WEBHOOK_COUNT: Variable = Variable {
    name: "RATE_LIMIT_WEBHOOK_COUNT",
    default: "all",
    doc: "all, or unverified: only requests that Stripe did not sign count.",
};
pub(crate) const TRUSTED_PROXIES: Variable = Variable {
    name: "TRUSTED_PROXIES",
    default: "127.0.0.0/8,::1/128",
    doc: "Proxies whose X-Forwarded-For and X-Request-Id count: addresses and CIDRs, or none.",
};
pub(crate) const HTTP_CONNECTIONS: Variable = Variable {
    name: "HTTP_CONNECTIONS",
    default: "128",
    doc: "Requests served at the same time, 1 to 4096; each has a thread.",
};
pub(crate) const REQUEST_TIMEOUT_SECONDS: Variable = Variable {
    name: "REQUEST_TIMEOUT_SECONDS",
    default: "10",
    doc: "Time for a client to send its whole request, 1 to 300; a second when others wait for its thread.",
};
pub(crate) const BODY_MAX_BYTES: Variable = Variable {
    name: "BODY_MAX_BYTES",
    default: "524288",
    doc: "Largest request body, 1024 to 16777216.",
};
pub(crate) const LOG_LEVEL: Variable = Variable {
    name: "LOG_LEVEL",
    default: "info",
    doc: "error, warn, info or debug.",
};
pub(crate) const PUBLIC_CHECKOUT_STATUS: Variable = Variable {
    name: "PUBLIC_CHECKOUT_STATUS",
    default: "off",
    doc: "on: the public listener tells the status of an order to who knows its Checkout Session's id.",
};
pub(crate) const PUBLIC_CHECKOUT_ORIGINS: Variable = Variable {
    name: "PUBLIC_CHECKOUT_ORIGINS",
    default: "",
    doc: "Sites whose pages may read that status: https://HOST, separated by commas.",
};
pub(crate) const RATE_LIMIT_CHECKOUT_MAX: Variable = Variable {
    name: "RATE_LIMIT_CHECKOUT_MAX",
    default: "100",
    doc: "Requests a minute and client address for that status before 429.",
};
pub(crate) const PUBLIC_URL: Variable = Variable {
    name: "PUBLIC_URL",
    default: "",
    doc: "Where the world reaches this host, https://HOST; doctor looks for its endpoint at Stripe.",
};
pub(crate) const STRIPE_SECRET_KEY: Variable = Variable {
    name: "STRIPE_SECRET_KEY",
    default: "",
    doc: "Secret key (sk_...) or, better, restricted key (rk_...) of the account.",
};
pub(crate) const STRIPE_SECRET_KEY_FILE: Variable = Variable {
    name: "STRIPE_SECRET_KEY_FILE",
    default: "",
    doc: "Instead of STRIPE_SECRET_KEY: a file with the key, such as a systemd credential.",
};
pub(crate) const STRIPE_API_BASE: Variable = Variable {
    name: "STRIPE_API_BASE",
    default: "https://api.stripe.com",
    doc: "Where Stripe's API is: https, or http on this machine for a stand-in.",
};
pub(crate) const STRIPE_API_PROXY: Variable = Variable {
    name: "STRIPE_API_PROXY",
    default: "",
    doc: "Proxy for these calls, http://[USER:PASSWORD@]HOST:PORT; HTTPS_PROXY does not count.",
};
pub(crate) const STRIPE_API_TIMEOUT_SECONDS: Variable = Variable {
    name: "STRIPE_API_TIMEOUT_SECONDS",
    default: "20",
    doc: "Time for one call with all its retries, 1 to 300.",
};

pub(crate) const API_ADDR: Variable = Variable {
    name: "API_ADDR",
    default: "127.0.0.1:4244",
    doc: "Where `paidup api` listens, for this machine alone: loopback ADDRESS:PORT or unix:/PATH.",
};
pub(crate) const API_TOKEN: Variable = Variable {
    name: "API_TOKEN",
    default: "",
    doc: "What the shop's back end proves itself with there; `paidup gen-token` makes one.",
};
pub(crate) const API_TOKEN_FILE: Variable = Variable {
    name: "API_TOKEN_FILE",
    default: "",
    doc: "Instead of API_TOKEN: a file with the token, such as a systemd credential.",
};
pub(crate) const CHECKOUT_SUCCESS_URL: Variable = Variable {
    name: "CHECKOUT_SUCCESS_URL",
    default: "",
    doc: "Where buyers come after paying, unless the order says; may hold {CHECKOUT_SESSION_ID}.",
};
pub(crate) const CHECKOUT_CANCEL_URL: Variable = Variable {
    name: "CHECKOUT_CANCEL_URL",
    default: "",
    doc: "Where buyers come by going back, unless the order says.",
};

/// The variable that is meant when `name` is none of ours but nearly is.
#[must_use]
pub fn nearly(name: &str) -> Option<&'static Variable> {
    if VARIABLES.iter().any(|variable| variable.name == name) {
        return None;
    }
    let upper = name.to_ascii_uppercase();
    VARIABLES
        .iter()
        .find(|variable| is_alike(&upper, variable.name))
}

/// Whether someone who wrote `name` may have meant `known`: one letter in five differs at most, or
/// one of the two is the beginning of the other.
fn is_alike(name: &str, known: &str) -> bool {
    const SHARED_MIN_BYTES: usize = 10;
    // More than that is no slip of the pen, and may be a secret: the name is shown.
    const MORE_MAX_BYTES: usize = 10;
    let more = name.strip_prefix(known);
    let shared = more.is_some_and(|more| more.len() <= MORE_MAX_BYTES) || known.starts_with(name);
    (shared && name.len() >= SHARED_MIN_BYTES) || edit_distance(name, known) <= known.len() / 5
}

/// How many bytes have to be inserted, removed or replaced to turn `a` into `b` (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (1..=b.len()).collect();
    for (index, from) in a.bytes().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        for (to, cell) in b.bytes().zip(&mut row) {
            let replaced = diagonal + usize::from(from != to);
            diagonal = *cell;
            left = replaced.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(a.len())
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
    fn the_edit_distance_is_levenshteins() {
        for (a, b, distance) in [
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("flaw", "lawn", 2),
        ] {
            assert_eq!(edit_distance(a, b), distance);
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
                found.push(Variable { name, default, doc });
            }
            previous = line;
        }
        assert_eq!(found, VARIABLES);
    }

    #[test]
    fn the_readme_has_every_variable_with_its_default_and_no_other() {
        let readme = include_str!("../../README.md");
        let row = |variable: &Variable| {
            let Variable { name, default, doc } = variable;
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
