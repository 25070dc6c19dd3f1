//! Counts requests, and writes metrics in Prometheus' text format 0.0.4:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//!
//! Every label has a fixed set of values, so a stranger cannot make the output grow. Counting is
//! a few atomic additions, without a lock.

use std::fmt::{Display, Formatter, Result, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::host::logger;
use crate::http::status::STATUSES;

/// The route of a path that an app does not have.
pub const OTHER: &str = "other";
/// The route of a request that was refused before its path could be read.
const UNREAD: &str = "unread";

/// A series: route, method and status.
pub(crate) type Series = (&'static str, &'static str, u16);

/// The requests that a process has answered, by route, method and status, and how long each took.
#[derive(Debug)]
pub struct RequestCounters {
    routes: Vec<RouteCounters>,
    shown_at_once: &'static [Series],
}

#[derive(Debug)]
struct RouteCounters {
    route: &'static str,
    /// By method, then by status; the last of each is `other`.
    requests: [[AtomicU64; STATUSES.len() + 1]; METHODS.len() + 1],
    /// Each request in the one bucket it falls into; the last has no upper bound.
    buckets: [AtomicU64; BUCKETS_MICROS.len() + 1],
    micros: AtomicU64,
}

/// Methods with a label of their own; all others are counted as `other`.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Upper bounds of the histogram's buckets, in microseconds: from a memory answer to a stuck disk.
const BUCKETS_MICROS: [u64; 13] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 2_500_000,
    10_000_000,
];

impl RequestCounters {
    /// All counters at zero. `shown_at_once` are the series that are written before their first
    /// request: a rate cannot see a counter's first step if the counter begins with that step.
    #[must_use]
    pub fn new(routes: &[&'static str], shown_at_once: &'static [Series]) -> RequestCounters {
        let routes = routes.iter().copied().chain([OTHER, UNREAD]);
        let counters = |route| RouteCounters {
            route,
            requests: Default::default(),
            buckets: Default::default(),
            micros: AtomicU64::default(),
        };
        RequestCounters {
            routes: routes.map(counters).collect(),
            shown_at_once,
        }
    }

    /// Counts a request that was answered `took` after it had been read. `route` is none when its
    /// path could not be read.
    pub(super) fn count(
        &self,
        route: Option<&'static str>,
        method: &str,
        status: u16,
        took: Duration,
    ) {
        let find = |route| self.routes.iter().find(|counters| counters.route == route);
        let route = route.unwrap_or(UNREAD);
        let Some(counters) = find(route).or_else(|| find(OTHER)) else {
            return;
        };
        let method = position(&METHODS, |known| *known == method);
        let status = position(&STATUSES, |(known, _)| *known == status);
        let row = counters.requests.get(method);
        if let Some(counter) = row.and_then(|row| row.get(status)) {
            counter.fetch_add(1, Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(counter) = counters.buckets.get(bucket) {
            counter.fetch_add(1, Relaxed);
        }
        counters.micros.fetch_add(micros, Relaxed);
    }

    /// The metrics that every server has, in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(TEXT_BYTES);
        let name = "paidup_build_info";
        family(&mut text, name, "gauge", "Version of paidup; always 1.");
        let version = env!("CARGO_PKG_VERSION");
        sample(&mut text, name, &[("version", version)], 1);
        self.write_requests(&mut text);
        self.write_durations(&mut text);
        let name = "paidup_log_dropped_lines_total";
        let help = "Log lines dropped because the log's reader stood still.";
        single(&mut text, name, "counter", help, logger::dropped());
        text
    }

    fn write_requests(&self, text: &mut String) {
        let name = "paidup_http_requests_total";
        family(text, name, "counter", "Answered requests.");
        for counters in &self.routes {
            let route = counters.route;
            for (method, row) in METHODS.iter().chain(&[OTHER]).zip(&counters.requests) {
                let statuses = STATUSES.iter().map(|(status, _)| Some(*status));
                for (status, counter) in statuses.chain([None]).zip(row) {
                    let count = counter.load(Relaxed);
                    let is_shown = status.is_some_and(|status| {
                        self.shown_at_once.contains(&(route, method, status))
                    });
                    if count > 0 || is_shown {
                        let status = status.map_or(OTHER.to_owned(), |status| status.to_string());
                        let labels = [("route", route), ("method", method), ("status", &status)];
                        sample(text, name, &labels, count);
                    }
                }
            }
        }
    }

    fn write_durations(&self, text: &mut String) {
        let name = "paidup_http_request_duration_seconds";
        let help = "Time from the whole request read to its answer written.";
        family(text, name, "histogram", help);
        let [bucket, sum, count] = ["bucket", "sum", "count"].map(|part| format!("{name}_{part}"));
        for counters in &self.routes {
            let route = ("route", counters.route);
            let bounds = BUCKETS_MICROS
                .iter()
                .map(|bound| Seconds(*bound).to_string());
            let mut requests = 0;
            for (bound, counter) in bounds.chain(["+Inf".to_owned()]).zip(&counters.buckets) {
                requests += counter.load(Relaxed);
                sample(text, &bucket, &[route, ("le", &bound)], requests);
            }
            sample(text, &sum, &[route], Seconds(counters.micros.load(Relaxed)));
            sample(text, &count, &[route], requests);
        }
    }
}

/// Room for a usual answer, in bytes.
const TEXT_BYTES: usize = 16 * 1024;

/// Begins a metric: its name, its type and its help.
pub(crate) fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Writes one value of a metric. The labels' values are ours, so none needs escaping.
pub(crate) fn sample(text: &mut String, name: &str, labels: &[(&str, &str)], value: impl Display) {
    text.push_str(name);
    for (index, (label, is)) in labels.iter().enumerate() {
        let before = if index == 0 { '{' } else { ',' };
        let _ = write!(text, "{before}{label}=\"{is}\"");
    }
    let end = if labels.is_empty() { "" } else { "}" };
    let _ = writeln!(text, "{end} {value}");
}

/// Writes a metric that has one value.
pub(crate) fn single(text: &mut String, name: &str, kind: &str, help: &str, value: impl Display) {
    family(text, name, kind, help);
    sample(text, name, &[], value);
}

/// Microseconds, shown as seconds without a rounding error.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let text = format!("{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// The index of the first one that fits, or one past the end.
fn position<T>(known: &[T], fits: impl Fn(&T) -> bool) -> usize {
    known.iter().position(fits).unwrap_or(known.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_has(counters: &RequestCounters, lines: &[&str]) {
        let text = counters.render();
        for line in lines {
            let is_there = text.lines().any(|one| one == *line);
            assert!(is_there, "{line}\nnot in\n{text}");
        }
    }

    #[test]
    fn a_request_is_counted_once_by_route_method_and_status() {
        let counters = RequestCounters::new(&["/a"], &[]);
        let micros = Duration::from_micros;
        assert!(BUCKETS_MICROS.is_sorted());
        counters.count(Some("/a"), "POST", 200, micros(300));
        counters.count(Some("/a"), "POST", 200, Duration::from_secs(60));
        counters.count(Some("EVIL\"} 1"), "EVIL\"} 1", 299, Duration::ZERO);
        counters.count(None, "", 400, Duration::ZERO);
        assert_has(
            &counters,
            &[
                r#"paidup_http_requests_total{route="/a",method="POST",status="200"} 2"#,
                r#"paidup_http_requests_total{route="other",method="other",status="other"} 1"#,
                r#"paidup_http_requests_total{route="unread",method="other",status="400"} 1"#,
                r#"paidup_http_request_duration_seconds_bucket{route="/a",le="0.00025"} 0"#,
                r#"paidup_http_request_duration_seconds_bucket{route="/a",le="0.0005"} 1"#,
                r#"paidup_http_request_duration_seconds_bucket{route="/a",le="10"} 1"#,
                r#"paidup_http_request_duration_seconds_bucket{route="/a",le="+Inf"} 2"#,
                r#"paidup_http_request_duration_seconds_sum{route="/a"} 60.0003"#,
                r#"paidup_http_request_duration_seconds_count{route="/a"} 2"#,
            ],
        );
        assert!(!counters.render().contains("EVIL"));
    }

    #[test]
    fn every_status_that_we_answer_is_counted_as_itself() {
        let counters = RequestCounters::new(&["/a"], &[]);
        for status in [200, 201, 400, 401, 404, 422, 429, 500, 502, 503, 504] {
            counters.count(Some("/a"), "POST", status, Duration::ZERO);
            let labels = format!(r#"{{route="/a",method="POST",status="{status}"}}"#);
            assert_has(
                &counters,
                &[&format!("paidup_http_requests_total{labels} 1")],
            );
        }
        assert!(!counters.render().contains(r#"status="other""#));
    }

    #[test]
    fn a_series_that_alerts_wait_for_is_there_before_its_first_request() {
        let counters = RequestCounters::new(&["/a"], &[("/a", "POST", 503)]);
        let line = r#"paidup_http_requests_total{route="/a",method="POST",status="503"} 0"#;
        assert_has(&counters, &[line]);
    }
}
