//! Counts what happens and tells it in Prometheus' text format 0.0.4:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//!
//! Every label has a fixed set of values, so a stranger cannot make the output grow. Counting is
//! one or a few atomic additions, without a lock.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::base::id::UnixSeconds;
use crate::host::logger;
use crate::store::Figures;
use crate::truth::delivery::Outcome;
use crate::truth::order::Status;

/// Which of our addresses a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its label, in `label` below")]
pub enum Route {
    Webhook,
    CheckoutStatus,
    Orders,
    Order,
    Health,
    Ready,
    Metrics,
    /// An address that we do not have.
    Other,
    /// Refused before its address could be read.
    Unread,
}

impl Route {
    const ALL: [Route; 9] = [
        Route::Webhook,
        Route::CheckoutStatus,
        Route::Orders,
        Route::Order,
        Route::Health,
        Route::Ready,
        Route::Metrics,
        Route::Other,
        Route::Unread,
    ];

    /// The route of a path, with or without a slash at its end; the empty one is [`Route::Unread`].
    #[must_use]
    pub fn of(path: &str) -> Route {
        if path.is_empty() {
            return Route::Unread;
        }
        if path.starts_with("/checkout/") {
            return Route::CheckoutStatus;
        }
        if path.starts_with("/orders/") {
            return Route::Order;
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let known = Route::ALL.into_iter().find(|route| route.label() == path);
        known.unwrap_or(Route::Other)
    }

    /// The value of the label `route`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Route::Webhook => "/stripe/webhook",
            Route::CheckoutStatus => "/checkout/{id}",
            Route::Orders => "/orders",
            Route::Order => "/orders/{id}",
            Route::Health => "/healthz",
            Route::Ready => "/readyz",
            Route::Metrics => "/metrics",
            Route::Other => "other",
            Route::Unread => "unread",
        }
    }
}

/// The counters of one process.
#[derive(Debug, Default)]
pub struct Metrics {
    routes: [RouteCounters; Route::ALL.len()],
    outcomes: [AtomicU64; OUTCOMES.len()],
    reasons: [AtomicU64; REASONS.len()],
    rate_limited: AtomicU64,
    unnamed: AtomicU64,
    last_verified_event: AtomicI64,
    last_backup: AtomicI64,
    commits: AtomicU64,
    committed_events: AtomicU64,
}

impl Metrics {
    /// All counters at zero.
    #[must_use]
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// Counts a request that was answered `took` after it had been read.
    pub fn count_request(&self, route: Route, method: &str, status: u16, took: Duration) {
        let Some(counters) = self.routes.get(route as usize) else {
            return;
        };
        let method = position(&METHODS, &method);
        let status = position(&STATUSES, &status);
        if let Some(counter) = counters
            .requests
            .get(method)
            .and_then(|row| row.get(status))
        {
            counter.fetch_add(1, Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(counter) = counters.buckets.get(bucket) {
            counter.fetch_add(1, Relaxed);
        }
        counters.micros.fetch_add(micros, Relaxed);
    }

    /// Counts an event that was answered 200.
    pub fn count_outcome(&self, outcome: Outcome) {
        let reason = outcome.reason();
        let reason = reason.and_then(|reason| self.reasons.get(position(&REASONS, &reason)));
        let outcome = self.outcomes.get(position(&OUTCOMES, &outcome.as_str()));
        for counter in outcome.into_iter().chain(reason) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Counts a 429.
    pub fn count_rate_limited(&self) {
        self.rate_limited.fetch_add(1, Relaxed);
    }

    /// Counts a webhook of a trusted proxy that named no client.
    pub fn count_unnamed(&self) {
        self.unnamed.fetch_add(1, Relaxed);
    }

    /// Remembers that an event with a good signature arrived at `now`.
    pub fn event_verified(&self, now: UnixSeconds) {
        // Not the greatest: a clock that was ahead for a while would hide a silence for as long.
        self.last_verified_event.store(now.0, Relaxed);
    }

    /// Counts a commit that made `events` events durable.
    pub fn count_commit(&self, events: u64) {
        self.commits.fetch_add(1, Relaxed);
        self.committed_events.fetch_add(events, Relaxed);
    }

    /// Remembers when the last backup was made.
    pub fn backup_seen(&self, at: UnixSeconds) {
        self.last_backup.store(at.0, Relaxed);
    }

    /// Everything in Prometheus' text format; without `figures` when the database cannot be read.
    #[must_use]
    pub fn render(&self, figures: Option<&Figures>) -> String {
        let mut text = String::with_capacity(TEXT_BYTES);
        // Writing to a String cannot fail.
        let _ = self.write(&mut text, figures);
        text
    }

    fn write(&self, text: &mut String, figures: Option<&Figures>) -> fmt::Result {
        head(
            text,
            "paidup_build_info",
            "gauge",
            "Version of paidup; always 1.",
        )?;
        writeln!(text, "paidup_build_info{{version=\"{VERSION}\"}} 1")?;
        self.write_requests(text)?;
        self.write_durations(text)?;
        self.write_webhook(text)?;
        match figures {
            Some(figures) => write_figures(text, figures),
            None => Ok(()),
        }
    }

    fn write_requests(&self, text: &mut String) -> fmt::Result {
        let name = "paidup_http_requests_total";
        head(text, name, "counter", "Answered requests.")?;
        for (route, counters) in Route::ALL.iter().zip(&self.routes) {
            for (method, row) in METHODS.iter().chain(&["other"]).zip(&counters.requests) {
                for (status, counter) in STATUSES.iter().chain(&[0]).zip(row) {
                    let count = counter.load(Relaxed);
                    let expected = *route == Route::Webhook
                        && *method == "POST"
                        && WEBHOOK_STATUSES.contains(status);
                    if count > 0 || expected {
                        write!(
                            text,
                            "{name}{{route=\"{}\",method=\"{method}\",",
                            route.label()
                        )?;
                        match status {
                            0 => writeln!(text, "status=\"other\"}} {count}")?,
                            status => writeln!(text, "status=\"{status}\"}} {count}")?,
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn write_durations(&self, text: &mut String) -> fmt::Result {
        let name = "paidup_http_request_duration_seconds";
        let help = "Time from the whole request read to its answer written.";
        head(text, name, "histogram", help)?;
        for (route, counters) in Route::ALL.iter().zip(&self.routes) {
            let route = route.label();
            let mut sum = 0;
            for (bound, bucket) in BUCKETS_MICROS.iter().zip(&counters.buckets) {
                sum += bucket.load(Relaxed);
                let bound = Seconds(*bound);
                writeln!(
                    text,
                    "{name}_bucket{{route=\"{route}\",le=\"{bound}\"}} {sum}"
                )?;
            }
            sum += counters
                .buckets
                .last()
                .map_or(0, |bucket| bucket.load(Relaxed));
            let total = Seconds(counters.micros.load(Relaxed));
            writeln!(text, "{name}_bucket{{route=\"{route}\",le=\"+Inf\"}} {sum}")?;
            writeln!(text, "{name}_sum{{route=\"{route}\"}} {total}")?;
            writeln!(text, "{name}_count{{route=\"{route}\"}} {sum}")?;
        }
        Ok(())
    }

    fn write_webhook(&self, text: &mut String) -> fmt::Result {
        let name = "paidup_webhook_events_total";
        head(
            text,
            name,
            "counter",
            "Verified events by what became of them.",
        )?;
        for (outcome, counter) in OUTCOMES.iter().zip(&self.outcomes) {
            writeln!(
                text,
                "{name}{{outcome=\"{outcome}\"}} {}",
                counter.load(Relaxed)
            )?;
        }
        let name = "paidup_webhook_ignored_total";
        head(text, name, "counter", "Ignored events by the reason.")?;
        for (reason, counter) in REASONS.iter().zip(&self.reasons) {
            writeln!(
                text,
                "{name}{{reason=\"{reason}\"}} {}",
                counter.load(Relaxed)
            )?;
        }
        let name = "paidup_webhook_rate_limited_total";
        head(text, name, "counter", "Webhooks answered 429.")?;
        writeln!(text, "{name} {}", self.rate_limited.load(Relaxed))?;

        let help = "Webhooks of a trusted proxy that named no client.";
        head(text, UNNAMED, "counter", help)?;
        writeln!(text, "{UNNAMED} {}", self.unnamed.load(Relaxed))?;

        let name = "paidup_webhook_last_verified_timestamp_seconds";
        let help = "When the last event with a good signature arrived; 0 before the first.";
        head(text, name, "gauge", help)?;
        writeln!(text, "{name} {}", self.last_verified_event.load(Relaxed))?;

        let name = "paidup_backup_last_timestamp_seconds";
        let help = "When `paidup backup` last made a verified copy of this database; 0: never.";
        head(text, name, "gauge", help)?;
        writeln!(text, "{name} {}", self.last_backup.load(Relaxed))?;

        let name = "paidup_store_commits_total";
        head(text, name, "counter", "Commits of events to the database.")?;
        writeln!(text, "{name} {}", self.commits.load(Relaxed))?;

        let name = "paidup_store_committed_events_total";
        let help = "Events in those commits; divided by them: events per commit.";
        head(text, name, "counter", help)?;
        writeln!(text, "{name} {}", self.committed_events.load(Relaxed))?;

        let name = "paidup_log_dropped_lines_total";
        let help = "Log lines dropped because whoever reads the log stood still.";
        head(text, name, "counter", help)?;
        writeln!(text, "{name} {}", logger::dropped())
    }
}

/// The counter of webhooks whose client is not known.
pub const UNNAMED: &str = "paidup_webhook_unnamed_total";

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Room for a usual answer, in bytes.
const TEXT_BYTES: usize = 16 * 1024;

/// Methods with a label of their own; all others are counted as `other`.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Statuses with a label of their own; all others are counted as `other`.
const STATUSES: [u16; 15] = [
    200, 400, 404, 405, 408, 409, 411, 413, 417, 421, 429, 431, 500, 503, 505,
];

/// [`Outcome`] in its own words.
const OUTCOMES: [&str; 4] = ["applied", "duplicate", "ignored", "parked"];

/// [`Outcome::reason`] in its own words.
const REASONS: [&str; 6] = ["type", "account", "thin", "mode", "no_sale", "other_shop"];

/// Shown from the start: a rate cannot see a counter's first step if it begins with that step.
const WEBHOOK_STATUSES: [u16; 5] = [200, 400, 429, 500, 503];

/// Upper bounds of the histogram's buckets, in microseconds: from a memory answer to a stuck disk.
const BUCKETS_MICROS: [u64; 13] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 2_500_000,
    10_000_000,
];

#[derive(Debug, Default)]
struct RouteCounters {
    /// By method, then by status; the last of each is `other`.
    requests: [[AtomicU64; STATUSES.len() + 1]; METHODS.len() + 1],
    /// Each request in the one bucket it falls into; the last has no upper bound.
    buckets: [AtomicU64; BUCKETS_MICROS.len() + 1],
    micros: AtomicU64,
}

/// Microseconds, shown as seconds without a rounding error.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Where `value` stands in `known`, or one behind its end.
fn position<T: PartialEq>(known: &[T], value: &T) -> usize {
    known
        .iter()
        .position(|one| one == value)
        .unwrap_or(known.len())
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn write_figures(text: &mut String, figures: &Figures) -> fmt::Result {
    head(text, "paidup_orders", "gauge", "Orders by status.")?;
    for status in Status::ALL {
        let known = figures.orders.iter().find(|(one, _)| *one == status);
        let (status, count) = (status.as_str(), known.map_or(0, |(_, count)| *count));
        writeln!(text, "paidup_orders{{status=\"{status}\"}} {count}")?;
    }
    let help = "Payments whose order is not known yet.";
    head(text, "paidup_parked_payments", "gauge", help)?;
    writeln!(text, "paidup_parked_payments {}", figures.parked)?;
    let help = "Size of the database file, without its write-ahead log.";
    head(text, "paidup_database_size_bytes", "gauge", help)?;
    writeln!(
        text,
        "paidup_database_size_bytes {}",
        figures.database_bytes
    )?;
    let help = "Size of the database's write-ahead log; long while somebody reads for long.";
    head(text, "paidup_database_log_size_bytes", "gauge", help)?;
    writeln!(text, "paidup_database_log_size_bytes {}", figures.log_bytes)
}

#[cfg(test)]
mod tests {
    use crate::truth::event::Ignored;

    use super::*;

    #[test]
    fn every_label_has_its_own_place() {
        for (index, route) in Route::ALL.iter().enumerate() {
            assert_eq!(*route as usize, index);
        }
        assert!(BUCKETS_MICROS.is_sorted());
        assert_eq!(Route::of("/stripe/webhook/"), Route::Webhook);
        assert_eq!(Route::of("/stripe/webhook//"), Route::Other);
        assert_eq!(Route::of("/"), Route::Other);
        assert_eq!(Route::of(""), Route::Unread);
    }

    #[test]
    fn a_request_is_counted_once_by_route_method_and_status() {
        let metrics = Metrics::new();
        metrics.count_request(Route::Webhook, "POST", 200, Duration::from_micros(300));
        metrics.count_request(Route::Webhook, "POST", 200, Duration::from_secs(60));
        metrics.count_request(Route::Other, "EVIL\"} 1", 299, Duration::ZERO);
        let text = metrics.render(None);
        for line in [
            r#"paidup_http_requests_total{route="/stripe/webhook",method="POST",status="200"} 2"#,
            r#"paidup_http_requests_total{route="other",method="other",status="other"} 1"#,
            r#"paidup_http_request_duration_seconds_bucket{route="/stripe/webhook",le="0.00025"} 0"#,
            r#"paidup_http_request_duration_seconds_bucket{route="/stripe/webhook",le="0.0005"} 1"#,
            r#"paidup_http_request_duration_seconds_bucket{route="/stripe/webhook",le="10"} 1"#,
            r#"paidup_http_request_duration_seconds_bucket{route="/stripe/webhook",le="+Inf"} 2"#,
            r#"paidup_http_request_duration_seconds_sum{route="/stripe/webhook"} 60.0003"#,
            r#"paidup_http_request_duration_seconds_count{route="/stripe/webhook"} 2"#,
        ] {
            assert!(
                text.lines().any(|one| one == line),
                "{line}\nnot in\n{text}"
            );
        }
        assert!(!text.contains("EVIL"));
    }

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
