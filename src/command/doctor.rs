//! `paidup doctor`: asks Stripe what it knows about our endpoint, and says what is wrong, why it matters
//! and what to do.
//!
//! It looks for the causes behind the runbook's incidents: a signature that does not match, a rate
//! limit, a refund that is not applied. Nothing is changed, here or at Stripe, but that
//! the database keeps what was found for `paidup page`.

use std::io::Write;
use std::path::Path;

use crate::base::id::{StripeId, UnixSeconds};
use crate::command::check::{self, ServerFigures};
use crate::command::environment::{Environment, all_of};
use crate::command::exit::{Exit, Failure};
use crate::command::finding::{self, Finding};
use crate::command::show::when;
use crate::command::subscription;
use crate::command::words::{Command, ENV_FILE, JSON_LINES, does};
use crate::config::serve::Config;
use crate::config::stripe::{WEBHOOK_PATH, webhook_url};
use crate::host::clock::Now;
use crate::serve::metrics::REFUSED;
use crate::store::Store;
use crate::stripe::client::{EventsQuery, StripeApi, TYPES_MAX};
use crate::stripe::error::StripeError;
use crate::stripe::fetched::Fetched;
use crate::truth::event::release;
use crate::truth::kind::{Need, listable};
use crate::truth::reading::Mode;

pub(crate) const COMMAND: Command = Command {
    name: "doctor",
    arguments: "",
    summary: "Ask Stripe about the endpoint: what is wrong, why it matters, what to do",
    details: "Runs `check`, then looks at key, mode, endpoint (PUBLIC_URL), subscriptions, versions,\n\
              undelivered events, clock, last delivery, and what the running server has refused. Without\n\
              STRIPE_SECRET_KEY it does not ask Stripe; a restricted key with Webhook Endpoints: Read and\n\
              Events: Read is enough. Nothing is changed; `paidup page` shows what was found.",
    options: &[ENV_FILE, JSON_LINES],
    exits: Exit::OF_CHECKS,
    examples: &["paidup doctor --env-file /etc/paidup/paidup.env"],
    run: |words| {
        let json = words.has("json");
        does(move |env_file, out| run(env_file, json, out))
    },
};

/// `check`, and over it what Stripe says where the configuration can be used.
fn run(env_file: Option<&Path>, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let environment = Environment::read(env_file)?;
    let config = environment.config();
    let settings = environment.stripe_config().ok();
    let mut findings = check::findings(&environment, &config)?;
    if let Ok(config) = &config {
        let url = webhook_url(&environment.vars).unwrap_or_default();
        let store = Store::open_to_read(&config.database).ok();
        if let Some(settings) = settings {
            let api = StripeApi::new(&settings).map_err(|error| all_of(&[error]))?;
            findings.extend(examine(&Patient {
                api: &api,
                key_mode: settings.mode,
                config,
                url: url.as_deref(),
                store: store.as_ref(),
                now: Now::read().unix,
            }));
        } else {
            findings.push(Finding::warning(
                "key",
                "Stripe was not asked: there is no key that can be used",
                "Endpoint, events, versions, undelivered events and Stripe's clock could not be looked at.",
                "Set STRIPE_SECRET_KEY to a restricted key with Webhook Endpoints: Read and Events: Read",
            ));
        }
        findings.push(last_delivery(store.as_ref()));
        findings.extend(server(config));
    }
    if let Ok(config) = &config {
        keep(&findings, &config.database);
    }
    finding::write(&findings, json, out)?;
    Ok(finding::exit(&findings))
}

/// Keeps what was found for the page. Where that cannot be kept, the findings say why.
fn keep(findings: &[Finding], database: &Path) {
    let store = Store::open_existing(database);
    if let (Ok(mut store), Ok(findings)) = (store, serde_json::to_string(findings)) {
        let _ = store.note_examination(&findings, Now::read().unix);
    }
}

/// The runbook's cases.
const SIGNATURE: &str = "Webhook 400 signature";
const RATE_LIMIT: &str = "Webhook rate limit exceeded (429)";

/// Arrivals in the ledger among which those are looked for, too.
const ARRIVALS: u32 = 1_000;
/// Stripe keeps events for 30 days: <https://docs.stripe.com/api/events>.
const EVENTS_SECONDS: i64 = 30 * 24 * 3600;
/// Pages of undelivered events that are counted.
const PAGES_MAX: usize = 10;
/// A younger event may still be on its way.
const ON_ITS_WAY_SECONDS: i64 = 5 * 60;
/// A clock that is off by more gets a warning; beyond the tolerance, nothing is accepted.
const SKEW_WARNING_SECONDS: i64 = 30;

/// What is examined.
struct Patient<'a> {
    /// Stripe, with the key to ask it.
    api: &'a StripeApi,
    /// The key's mode.
    key_mode: Mode,
    /// The configuration of the server.
    config: &'a Config,
    /// The URL that the endpoint should have, if `PUBLIC_URL` is set.
    url: Option<&'a str>,
    /// The database, if there is one.
    store: Option<&'a Store>,
    /// This host's clock.
    now: UnixSeconds,
}

/// Examines everything that Stripe can be asked about.
fn examine(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings = vec![mode(patient)];
    match patient.api.webhook_endpoints() {
        Ok(endpoints) => {
            findings.push(Finding::good("key", "Stripe accepts the key"));
            findings.extend(endpoint(patient, &endpoints));
            findings.push(match endpoints.is_empty() {
                true => Finding::warning(
                    "deliveries",
                    "Stripe has no endpoint in /v1/webhook_endpoints, so it lists nothing as undelivered",
                    "That is no proof that every event is here.",
                    "`paidup reconcile --since 30d` asks for the events themselves",
                ),
                false => undelivered(patient),
            });
        }
        Err(error) => {
            findings.push(no_answer("endpoint", &error));
            findings.push(undelivered(patient));
        }
    }
    findings.extend(clock(patient));
    findings
}

fn no_answer(subject: &'static str, error: &StripeError) -> Finding {
    Finding::problem(subject, error.to_string(), "This could not be checked.", "")
}

fn mode(patient: &Patient<'_>) -> Finding {
    let key = patient.key_mode.as_str();
    let file = patient.store.and_then(|store| store.mode().ok().flatten());
    let other = |name, mode: Mode| {
        Finding::problem(
            "mode",
            format!("the key is of {key} mode, {name} {}", mode.as_str()),
            "Endpoints, events and secrets of one mode say nothing about the other.",
            "Use a key of the same mode (Dashboard → Developers → API keys), or change STRIPE_MODE",
        )
    };
    match (patient.config.reading.mode, file) {
        (Some(mode), _) if mode != patient.key_mode => other("STRIPE_MODE is", mode),
        (_, Some(mode)) if mode != patient.key_mode => other("the database is of mode", mode),
        (Some(_), _) => Finding::good("mode", format!("key and STRIPE_MODE are both {key}")),
        (None, Some(_)) => Finding::good("mode", format!("key and database are both {key}")),
        (None, None) => Finding::warning(
            "mode",
            format!("the key is of {key} mode, STRIPE_MODE is not set"),
            "The first event decides the mode of the database for good.",
            format!("Set STRIPE_MODE={key}"),
        ),
    }
}

/// What the list of endpoints says of ours. Destinations with thin payloads may not be in it.
fn endpoint(patient: &Patient<'_>, endpoints: &[Fetched]) -> Vec<Finding> {
    let urls: Vec<&str> = endpoints
        .iter()
        .filter_map(|endpoint| endpoint.text("url"))
        .collect();
    let Some(url) = patient.url else {
        return vec![Finding::warning(
            "endpoint",
            format!("PUBLIC_URL is not set; Stripe has {}", listed(&urls)),
            "Without it there is no telling which endpoint is this server's.",
            "Set PUBLIC_URL=https://HOST, the host of the endpoint's URL",
        )];
    };
    let (enabled, disabled): (Vec<&Fetched>, Vec<&Fetched>) = endpoints
        .iter()
        .filter(|endpoint| endpoint.text("url") == Some(url))
        .partition(|endpoint| endpoint.text("status") == Some("enabled"));
    let mut findings = Vec::new();
    if enabled.len() > 1 {
        findings.push(Finding::problem(
            "endpoint",
            format!("{} enabled endpoints have the URL {url}", enabled.len()),
            "Every event comes several times, signed with several secrets.",
            "Dashboard → Webhooks: keep one, or put all their secrets into STRIPE_WEBHOOK_SECRET",
        ).in_runbook(SIGNATURE));
    }
    findings.push(match (enabled.is_empty(), disabled.is_empty()) {
        (false, _) => Finding::good("endpoint", format!("{url} is enabled")),
        (true, false) => Finding::problem(
            "endpoint",
            format!("{url} is disabled"),
            "Events made while it is disabled are never sent.",
            "Dashboard → Webhooks → endpoint → Enable, then `paidup reconcile --since 30d`",
        ),
        (true, true) => no_endpoint(patient, url, &urls),
    });
    if let Some(endpoint) = enabled.first().or(disabled.first()) {
        findings.extend(one_endpoint(patient, endpoint));
    }
    findings
}

fn no_endpoint(patient: &Patient<'_>, url: &str, urls: &[&str]) -> Finding {
    let host = url
        .trim_start_matches("https://")
        .trim_end_matches(WEBHOOK_PATH);
    let near: Vec<&str> = urls
        .iter()
        .copied()
        .filter(|other| other.contains(host) || other.trim_end_matches('/').ends_with(WEBHOOK_PATH))
        .collect();
    let (what, next) = if near.is_empty() {
        (
            format!("no endpoint in /v1/webhook_endpoints has the URL {url}"),
            "Dashboard → Webhooks → Add endpoint",
        )
    } else {
        (
            format!(
                "no endpoint in /v1/webhook_endpoints has the URL {url}; near it: {}",
                listed(&near)
            ),
            "Dashboard → Webhooks → endpoint: correct its URL (https, this host, no slash at the end), or \
             correct PUBLIC_URL",
        )
    };
    // A destination that was created in Workbench may be missing there, and deliver all the same.
    const WORKBENCH: &str = "A destination that was created in Workbench may be only in \
        /v2/core/event_destinations, which is not asked";
    if patient.store.and_then(delivered_at).is_some() {
        return Finding::warning(
            "endpoint",
            what,
            format!("{WORKBENCH}. Deliveries do come, so this may be one of those."),
            "Dashboard → Webhooks: compare its URL and events with docs/DEPLOYMENT_CHECKLIST.md § 2",
        );
    }
    Finding::problem(
        "endpoint",
        what,
        format!("Stripe does not deliver to this server. {WORKBENCH}."),
        next,
    )
}

fn one_endpoint(patient: &Patient<'_>, endpoint: &Fetched) -> Vec<Finding> {
    let mut findings = Vec::new();
    if endpoint.id_in("application").is_some() {
        findings.push(Finding::problem(
            "endpoint",
            "the endpoint receives the events of connected accounts",
            "They are ignored here, and this account's own events do not come.",
            "Dashboard → Webhooks: add an endpoint for your own account",
        ));
    }
    let enabled = endpoint.texts("enabled_events").unwrap_or_default();
    findings.extend(subscriptions(patient, &enabled));
    findings.push(version(patient, endpoint.text("api_version")));
    findings
}

fn subscriptions(patient: &Patient<'_>, enabled: &[&str]) -> Vec<Finding> {
    let missing = subscription::missing(enabled, |types| patient.has_seen(types));
    let mut findings = Vec::new();
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|kind| kind.name).collect();
        let mut why: Vec<String> = Vec::new();
        let mut case = "";
        for kind in &missing {
            let line = match kind.need {
                Need::Every { lost, case: one } => {
                    case = if case.is_empty() { one } else { case };
                    format!("Without {}: {lost}.", kind.name)
                }
                need @ (Need::Invoices
                | Need::ManualCapture
                | Need::Goods
                | Need::Useful
                | Need::Spare
                | Need::Unlisted) => format!("This account has {}.", need.lost()),
            };
            if !why.contains(&line) {
                why.push(line);
            }
        }
        let finding = Finding::problem(
            "subscription",
            format!("the endpoint does not have {}", names.join(", ")),
            why.join("\n"),
            "`paidup connect` adds them, or Dashboard → Webhooks → endpoint → add them; then `paidup reconcile --since 30d`",
        );
        findings.push(finding.in_runbook(case));
    }
    if findings.is_empty() {
        findings.push(Finding::good(
            "subscription",
            "the endpoint has every event that is needed",
        ));
    }
    findings.push(Finding::good(
        "subscription",
        "payment_intent.refunded is not asked for: Stripe has no such event; refunds come as charge.refunded",
    ));
    findings
}

fn version(patient: &Patient<'_>, endpoint: Option<&str>) -> Finding {
    let ours = &*patient.config.api_version;
    match endpoint {
        Some(version) if version == ours => Finding::good(
            "version",
            format!("the endpoint and STRIPE_API_VERSION are {ours}"),
        ),
        Some(version) if release(version) == release(ours) => Finding::good(
            "version",
            format!("the endpoint is {version}, STRIPE_API_VERSION {ours}: the same release"),
        ),
        Some(version) => Finding::warning(
            "version",
            format!("the endpoint is {version}, STRIPE_API_VERSION is {ours}"),
            "Events of another release are applied, and fields may have moved in them.",
            "docs/DEPLOYMENT_CHECKLIST.md § 1: set STRIPE_API_VERSION, or make a new endpoint (an \
             endpoint's version cannot be changed)",
        ),
        None => Finding::warning(
            "version",
            format!("the endpoint has the account's version; STRIPE_API_VERSION is {ours}"),
            "The shape of its events changes with the account's default.",
            "Dashboard → Developers → Overview shows the default; a new endpoint can have its own version",
        ),
    }
}

/// Events that some endpoint has not received, and how many of them we lack. A new one may still be on its
/// way.
fn undelivered(patient: &Patient<'_>) -> Finding {
    let mut events: Vec<Fetched> = Vec::new();
    for types in listable().chunks(TYPES_MAX) {
        if let Err(error) = undelivered_of(types, patient, &mut events) {
            return no_answer("deliveries", &error);
        }
    }
    let now = patient.now.0 - patient.api.skew_seconds().unwrap_or(0);
    let is_settled = |event: &Fetched| {
        let created = event.whole("created");
        created.is_none_or(|created| now - created > ON_ITS_WAY_SECONDS)
    };
    let lacks = |event: &&Fetched| {
        let known = patient.store.map(|store| store.event(event.id.as_str()));
        is_settled(event) && !matches!(known, Some(Ok(Some(_))))
    };
    let missing = events.iter().filter(lacks).count();
    match (events.len(), missing) {
        (0, _) => Finding::good("deliveries", "Stripe has delivered every event of the last 30 days"),
        (count, 0) => Finding::good(
            "deliveries",
            format!(
                "{count} events of the last 30 days are undelivered somewhere; all are here, or younger than \
                 five minutes"
            ),
        ),
        (count, missing) => Finding::problem(
            "deliveries",
            format!("{missing} of {count} undelivered events of the last 30 days are not here"),
            "Orders are not as Stripe has them.",
            "`paidup reconcile --undelivered` fetches them; then look for the cause in `journalctl --namespace=paidup -u paidup`",
        )
        .in_runbook(SIGNATURE),
    }
}

fn undelivered_of(
    types: &[&str],
    patient: &Patient<'_>,
    events: &mut Vec<Fetched>,
) -> Result<(), StripeError> {
    let mut last: Option<StripeId> = None;
    for _ in 0..PAGES_MAX {
        let page = patient.api.events(&EventsQuery {
            types,
            created_from: Some(UnixSeconds(patient.now.0 - EVENTS_SECONDS)),
            delivery_success: Some(false),
            starting_after: last.as_ref(),
        })?;
        last = page.data.last().map(|event| event.id.clone());
        events.extend(page.data);
        if !page.has_more {
            break;
        }
    }
    Ok(())
}

impl Patient<'_> {
    /// Whether there are events of these types: here, or at Stripe.
    fn has_seen(&self, types: &[&str]) -> bool {
        let here = self.store.map(subscription::seen).unwrap_or_default();
        subscription::has_seen(&here, self.api, types)
    }
}

fn clock(patient: &Patient<'_>) -> Option<Finding> {
    let skew = patient.api.skew_seconds()?;
    let what = format!(
        "this host's clock is {} s {} Stripe's",
        skew.abs(),
        ahead(skew)
    );
    let next = "`timedatectl` says whether the clock is synchronised; switch NTP on";
    Some(if skew > patient.config.tolerance_seconds {
        let why = "Every delivery is refused as too old.";
        Finding::problem("clock", what, why, next).in_runbook(SIGNATURE)
    } else if skew.abs() > SKEW_WARNING_SECONDS {
        let why = "Beyond WEBHOOK_TOLERANCE_SECONDS every delivery is refused as too old.";
        Finding::warning("clock", what, why, next).in_runbook(SIGNATURE)
    } else {
        Finding::good("clock", "this host's clock agrees with Stripe's")
    })
}

fn ahead(skew: i64) -> &'static str {
    if skew < 0 { "behind" } else { "ahead of" }
}

/// When the last verified delivery came.
fn delivered_at(store: &Store) -> Option<UnixSeconds> {
    let events = store.events(None, ARRIVALS).ok()?;
    let mut delivered = events.iter().filter(|event| event.request_id.is_some());
    delivered.next().map(|event| event.received_at)
}

fn last_delivery(store: Option<&Store>) -> Finding {
    match store.and_then(delivered_at) {
        Some(at) => Finding::good(
            "secret",
            format!("the last verified delivery came at {}", when(at)),
        ),
        None => Finding::warning(
            "secret",
            "no delivery has been verified here yet",
            "Stripe's API does not show the signing secret: only a delivery proves that it is the right one.",
            "Dashboard → Webhooks → endpoint → Send test webhook, and `paidup events list`",
        )
        .in_runbook(SIGNATURE),
    }
}

/// What the running server has counted since it started.
fn server(config: &Config) -> Vec<Finding> {
    let Some(address) = &config.admin else {
        return Vec::new();
    };
    let Some(figures) = ServerFigures::read(address) else {
        return vec![Finding::warning(
            "server",
            format!("no server answers on ADMIN_ADDR {address}"),
            "While it is down Stripe retries, for three days.",
            "`systemctl status paidup.service`, or `paidup serve`",
        )];
    };
    let limited = figures.sum("paidup_webhook_rate_limited_total");
    let mut findings = vec![Finding::good(
        "server",
        format!("a server answers on {address}"),
    )];
    if limited > 0.0 {
        findings.push(Finding::warning(
            "server",
            format!("{limited} deliveries were answered 429 since it started"),
            "Stripe counts them as failed and retries, perhaps an hour later.",
            "If the burst is Stripe's: RATE_LIMIT_WEBHOOK_COUNT=unverified, or RATE_LIMIT_WEBHOOK_EXEMPT",
        ).in_runbook(RATE_LIMIT));
    }
    for (reason, why, next) in REFUSALS {
        let count = figures.sum(&format!("{REFUSED}{{reason=\"{reason}\"}}"));
        if count > 0.0 {
            let kind = reason.replace('_', " ");
            let were = match count {
                1.0 => "signature was",
                _ => "signatures were",
            };
            let what =
                format!("{count} {were} refused since it started: Invalid signature ({kind})");
            findings.push(Finding::warning("server", what, why, next).in_runbook(SIGNATURE));
        }
    }
    findings
}

/// The runbook's cases of refused signatures: what each means, and what to do.
const REFUSALS: [(&str, &str, &str); 4] = [
    (
        "no_match",
        "Each is a forgery, or STRIPE_WEBHOOK_SECRET is no longer the endpoint's.",
        "Compare it with Dashboard → Webhooks → endpoint → Signing secret; `paidup rotate add` adds another one",
    ),
    (
        "too_old",
        "Stripe signed them, but longer ago than WEBHOOK_TOLERANCE_SECONDS: this host's clock is ahead, or it is a \
         replay.",
        "`timedatectl` says whether the clock is synchronised; then Stripe's retries are accepted",
    ),
    (
        "no_header",
        "The sender is not Stripe, or a proxy drops the header Stripe-Signature.",
        "Compare the proxy with systemd/nginx.conf or systemd/Caddyfile",
    ),
    (
        "malformed_header",
        "The sender is not Stripe, or a proxy changes the header Stripe-Signature.",
        "Compare the proxy with systemd/nginx.conf or systemd/Caddyfile",
    ),
];

fn listed(urls: &[&str]) -> String {
    if urls.is_empty() {
        "no endpoint".to_owned()
    } else {
        urls.join(", ")
    }
}
