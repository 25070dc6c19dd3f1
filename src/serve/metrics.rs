//! What `paidup serve` counts beside its requests, and the text of `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use crate::base::id::UnixSeconds;
use crate::config::stripe::WEBHOOK_PATH;
use crate::host::clock::Now;
use crate::http::exchange::{HEALTH, METRICS};
use crate::http::metrics::{RequestCounters, Series, family, sample, single};
use crate::store::{Figures, Unheard};
use crate::truth::delivery::Outcome;
use crate::truth::order::Status;
use crate::truth::signature::SignatureError;

/// The counters of one process.
#[derive(Debug)]
pub struct Metrics {
    requests: Arc<RequestCounters>,
    outcomes: [AtomicU64; OUTCOMES.len()],
    reasons: [AtomicU64; REASONS.len()],
    signatures: [AtomicU64; SIGNATURES.len()],
    rate_limited: AtomicU64,
    unnamed: AtomicU64,
    last_verified_event: AtomicI64,
    last_backup: AtomicI64,
    commits: AtomicU64,
    committed_events: AtomicU64,
}

/// The path of the readiness check.
pub(super) const READY: &str = "/readyz";
/// The path of the checkout statuses, whatever their session.
pub(super) const CHECKOUT_STATUS: &str = "/checkout/{id}";
/// The paths of both servers of this process.
const ROUTES: [&str; 5] = [WEBHOOK_PATH, CHECKOUT_STATUS, HEALTH, READY, METRICS];

/// What alerts watch.
const SHOWN_AT_ONCE: [Series; 5] = [
    (WEBHOOK_PATH, "POST", 200),
    (WEBHOOK_PATH, "POST", 400),
    (WEBHOOK_PATH, "POST", 429),
    (WEBHOOK_PATH, "POST", 500),
    (WEBHOOK_PATH, "POST", 503),
];

/// [`Outcome`] in its own words.
const OUTCOMES: [&str; 4] = ["applied", "duplicate", "ignored", "parked"];

/// [`Outcome::reason`] in its own words.
const REASONS: [&str; 6] = ["type", "account", "thin", "mode", "no_sale", "other_shop"];

/// The counter of refused signatures.
pub(crate) const REFUSED: &str = "paidup_webhook_signature_refused_total";

/// [`SignatureError::reason`] in its own words.
const SIGNATURES: [&str; 4] = ["no_header", "malformed_header", "no_match", "too_old"];

/// The counter of webhooks whose client is not known.
pub(crate) const UNNAMED: &str = "paidup_webhook_unnamed_total";

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// All counters at zero.
    #[must_use]
    pub fn new() -> Metrics {
        Metrics {
            requests: Arc::new(RequestCounters::new(&ROUTES, &SHOWN_AT_ONCE)),
            outcomes: Default::default(),
            reasons: Default::default(),
            signatures: Default::default(),
            rate_limited: AtomicU64::default(),
            unnamed: AtomicU64::default(),
            last_verified_event: AtomicI64::default(),
            last_backup: AtomicI64::default(),
            commits: AtomicU64::default(),
            committed_events: AtomicU64::default(),
        }
    }

    /// What counts the requests of both servers.
    #[must_use]
    pub fn requests(&self) -> Arc<RequestCounters> {
        Arc::clone(&self.requests)
    }

    /// Counts an event that was answered 200.
    pub(super) fn count_outcome(&self, outcome: Outcome) {
        count(&OUTCOMES, outcome.as_str(), &self.outcomes);
        if let Some(reason) = outcome.reason() {
            count(&REASONS, reason, &self.reasons);
        }
    }

    /// Counts a webhook whose signature was refused.
    pub(super) fn count_refused(&self, error: &SignatureError) {
        count(&SIGNATURES, error.reason(), &self.signatures);
    }

    /// Counts a 429.
    pub(super) fn count_rate_limited(&self) {
        self.rate_limited.fetch_add(1, Relaxed);
    }

    /// Counts a webhook of a trusted proxy that named no client.
    pub(super) fn count_unnamed(&self) {
        self.unnamed.fetch_add(1, Relaxed);
    }

    /// Remembers that an event with a valid signature arrived at `now`.
    pub(super) fn event_verified(&self, now: UnixSeconds) {
        // Not the maximum: a clock that was ahead for a while would hide a silence for as long.
        self.last_verified_event.store(now.0, Relaxed);
    }

    /// Counts a commit that made `events` events durable.
    pub fn count_commit(&self, events: u64) {
        self.commits.fetch_add(1, Relaxed);
        self.committed_events.fetch_add(events, Relaxed);
    }

    /// Remembers when the last backup was made.
    pub(super) fn backup_seen(&self, at: UnixSeconds) {
        self.last_backup.store(at.0, Relaxed);
    }

    /// The text of `/metrics`; without `figures` when the database cannot be read.
    pub(super) fn render(&self, figures: Option<&Figures>) -> String {
        let mut text = self.requests.render();
        self.write_webhook(&mut text);
        self.write_store(&mut text);
        if let Some(figures) = figures {
            write_figures(&mut text, figures);
        }
        text
    }

    fn write_webhook(&self, text: &mut String) {
        let name = "paidup_webhook_events_total";
        let help = "Verified events by outcome.";
        family(text, name, "counter", help);
        for (outcome, counter) in OUTCOMES.iter().zip(&self.outcomes) {
            sample(text, name, &[("outcome", outcome)], counter.load(Relaxed));
        }
        let name = "paidup_webhook_ignored_total";
        family(text, name, "counter", "Ignored events by reason.");
        for (reason, counter) in REASONS.iter().zip(&self.reasons) {
            sample(text, name, &[("reason", reason)], counter.load(Relaxed));
        }
        family(text, REFUSED, "counter", "Refused signatures by reason.");
        for (reason, counter) in SIGNATURES.iter().zip(&self.signatures) {
            sample(text, REFUSED, &[("reason", reason)], counter.load(Relaxed));
        }
        let name = "paidup_webhook_rate_limited_total";
        let count = self.rate_limited.load(Relaxed);
        single(text, name, "counter", "Webhooks answered 429.", count);

        let help = "Webhooks of a trusted proxy that named no client.";
        let count = self.unnamed.load(Relaxed);
        single(text, UNNAMED, "counter", help, count);

        let name = "paidup_webhook_last_verified_timestamp_seconds";
        let help = "When the last event with a valid signature arrived; 0 before the first.";
        let at = self.last_verified_event.load(Relaxed);
        single(text, name, "gauge", help, at);
    }

    fn write_store(&self, text: &mut String) {
        let name = "paidup_backup_last_timestamp_seconds";
        let help = "When the last verified backup of this database was made; 0: never.";
        let at = self.last_backup.load(Relaxed);
        single(text, name, "gauge", help, at);

        let name = "paidup_store_commits_total";
        let help = "Commits of events to the database.";
        single(text, name, "counter", help, self.commits.load(Relaxed));

        let name = "paidup_store_committed_events_total";
        let help = "Events in those commits; divided by them: events per commit.";
        let count = self.committed_events.load(Relaxed);
        single(text, name, "counter", help, count);
    }
}

fn count(known: &[&str], label: &str, counters: &[AtomicU64]) {
    let place = known.iter().position(|known| *known == label);
    if let Some(counter) = place.and_then(|place| counters.get(place)) {
        counter.fetch_add(1, Relaxed);
    }
}

fn write_figures(text: &mut String, figures: &Figures) {
    let name = "paidup_orders";
    family(text, name, "gauge", "Orders by status.");
    for status in Status::ALL {
        let known = figures.orders.iter().find(|(one, _)| *one == status);
        let count = known.map_or(0, |(_, count)| *count);
        sample(text, name, &[("status", status.as_str())], count);
    }
    let help = "Payments whose order is not known yet.";
    single(
        text,
        "paidup_parked_payments",
        "gauge",
        help,
        figures.parked,
    );

    let name = "paidup_database_size_bytes";
    let help = "Size of the database file, without its write-ahead log.";
    single(text, name, "gauge", help, figures.database_bytes);

    let name = "paidup_database_log_size_bytes";
    let help = "Size of the database's write-ahead log; it grows while a reader stays for long.";
    single(text, name, "gauge", help, figures.log_bytes);
    write_unheard(text, &figures.unheard);
}

fn write_unheard(text: &mut String, unheard: &[Unheard]) {
    let name = "paidup_notify_waiting_orders";
    let help = "Orders whose newest state the destination has not heard, counted up to 100000.";
    family(text, name, "gauge", help);
    for one in unheard {
        let destination = [("destination", one.destination.name.as_str())];
        sample(text, name, &destination, one.waiting);
    }
    let name = "paidup_notify_oldest_seconds";
    let help = "For how long the first of them has waited; 0 when none does.";
    family(text, name, "gauge", help);
    let now = Now::read().unix.0;
    for one in unheard {
        let destination = [("destination", one.destination.name.as_str())];
        let waited = |oldest: UnixSeconds| now.saturating_sub(oldest.0).max(0);
        sample(text, name, &destination, one.oldest.map_or(0, waited));
    }
}

#[cfg(test)]
mod tests {
    use crate::truth::event::Ignored;

    use super::*;

    #[test]
    fn every_outcome_is_counted() {
        let metrics = Metrics::new();
        metrics.count_outcome(Outcome::Applied);
        metrics.count_outcome(Outcome::Duplicate);
        metrics.count_outcome(Outcome::Parked);
        metrics.count_outcome(Outcome::Ignored(Ignored::OtherShop));
        let text = metrics.render(None);
        for reason in REASONS {
            let count = i32::from(reason == "other_shop");
            let line = format!("paidup_webhook_ignored_total{{reason=\"{reason}\"}} {count}\n");
            assert!(text.contains(&line), "{text}");
        }
        for outcome in OUTCOMES {
            let line = format!("paidup_webhook_events_total{{outcome=\"{outcome}\"}} 1\n");
            assert!(text.contains(&line), "{text}");
        }
    }

    #[test]
    fn events_per_commit_can_be_computed() {
        let metrics = Metrics::new();
        metrics.count_commit(3);
        metrics.count_commit(1);
        metrics.event_verified(UnixSeconds(7));
        metrics.event_verified(UnixSeconds(5));
        let text = metrics.render(Some(&Figures::default()));
        assert!(text.contains("\npaidup_store_commits_total 2\n"));
        assert!(text.contains("\npaidup_store_committed_events_total 4\n"));
        assert!(text.contains("\npaidup_webhook_last_verified_timestamp_seconds 5\n"));
    }
}
