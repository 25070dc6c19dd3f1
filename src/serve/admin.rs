//! Health and metrics for this machine's own processes. The admin server has its own threads, so it and
//! the edge do not wait for each other's clients.

use std::io::{self, ErrorKind};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use crate::base::log_line::{ErrorCode, LogFields, Message};
use crate::host::clock::Now;
use crate::http::edge::{Edge, Limits};
use crate::http::exchange::{App, HEALTH, Http, METRICS, Reply, Request};
use crate::http::metrics::OTHER;
use crate::serve::metrics::{Metrics, READY};
use crate::store::Figures;

/// Whether deliveries can be stored now, or why not.
pub(crate) type Readiness = dyn Fn() -> Result<(), ErrorCode> + Send + Sync;
/// Reads the figures of the database; none when that fails.
pub(crate) type ReadFigures = dyn Fn() -> Option<Figures> + Send + Sync;

/// `GET /healthz`, `GET /readyz` and `GET /metrics`.
pub struct AdminApp {
    /// What `/readyz` asks.
    pub ready: Box<Readiness>,
    /// What `/metrics` reads at each scrape.
    pub figures: Box<ReadFigures>,
    /// What `/metrics` has counted.
    pub metrics: Arc<Metrics>,
}

impl App for AdminApp {
    fn route(&self, path: &str) -> &'static str {
        let mut known = [HEALTH, READY, METRICS].into_iter();
        known.find(|known| *known == path).unwrap_or(OTHER)
    }

    fn answer(&self, request: &Request<'_>, _: Now, _: &mut LogFields) -> Reply {
        if !request.is_for_this_machine() {
            return Reply::not_this_machine();
        }
        match request.path {
            HEALTH | READY | METRICS if !request.is_get() => Reply::method_not_allowed("GET, HEAD"),
            HEALTH => Reply::healthy(),
            READY => self.ready(),
            METRICS => self.metrics(),
            _ => Reply::not_found(),
        }
    }
}

impl AdminApp {
    fn ready(&self) -> Reply {
        match (self.ready)() {
            Ok(()) => Reply::healthy(),
            Err(code) => Reply {
                message: Message::NotReady,
                ..Reply::error(503, code, code.to_string())
            },
        }
    }

    fn metrics(&self) -> Reply {
        let figures = (self.figures)();
        Reply::metrics(self.metrics.render(figures.as_ref()))
    }
}

/// None of its addresses takes a body, and every client is on this machine.
const LIMITS: Limits = Limits {
    connections: NonZeroUsize::MIN.saturating_add(15),
    request_timeout: Duration::from_secs(5),
    body_max_bytes: 0,
    silence: Duration::ZERO,
};

/// Serves `http` on a listening socket, which may be inherited.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] when the socket can be reached from another machine; otherwise those
/// of [`Edge::start`].
pub fn start(listener: Socket, http: Arc<Http>) -> io::Result<Edge> {
    refuse_public(&listener)?;
    Edge::start(listener, LIMITS, http)
}

fn refuse_public(listener: &Socket) -> io::Result<()> {
    let address = listener.local_addr()?;
    let local = match address.as_socket() {
        Some(address) => address.ip().to_canonical().is_loopback(),
        None => address.is_unix(),
    };
    if local {
        return Ok(());
    }
    let text = "ADMIN_ADDR can be reached from other machines, which must not see our figures: \
                set it to a loopback address (127.0.0.1:4243), to unix:/path, or to off";
    Err(io::Error::new(ErrorKind::InvalidInput, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::peer::Peer;

    fn status(method: &str, path: &str, host: Option<&str>, ready: Result<(), ErrorCode>) -> u16 {
        let metrics = Arc::new(Metrics::new());
        let app = AdminApp {
            ready: Box::new(move || ready),
            figures: Box::new(|| None),
            metrics: Arc::clone(&metrics),
        };
        let peer = Peer::Address("127.0.0.1".parse().unwrap());
        let headers: Vec<_> = host.iter().map(|host| ("Host", *host)).collect();
        let http = Http::new(Arc::new(app), metrics.requests(), Vec::new()).unwrap();
        let mut answer = Vec::new();
        http.serve(&http.request(method, path, &headers, peer), |bytes| {
            answer.extend_from_slice(bytes);
        });
        String::from_utf8(answer).unwrap()[9..12].parse().unwrap()
    }

    #[test]
    fn only_a_host_of_this_machine_is_served() {
        for host in [
            "localhost",
            "LOCALHOST:4243",
            "127.0.0.1:1",
            "127.8.8.8",
            "[::1]:4243",
        ] {
            assert_eq!(status("GET", "/healthz", Some(host), Ok(())), 200, "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "localhost.evil:1",
            "127.0.0.1, evil",
        ] {
            assert_eq!(status("GET", "/healthz", Some(host), Ok(())), 421, "{host}");
        }
        assert_eq!(status("GET", "/healthz", None, Ok(())), 421);
    }

    #[test]
    fn each_address_answers_get_only() {
        let status = |method, path| status(method, path, Some("localhost"), Ok(()));
        assert_eq!(status("HEAD", "/metrics"), 200);
        assert_eq!(status("POST", "/metrics"), 405);
        assert_eq!(status("GET", "/stripe/webhook"), 404);
    }

    #[test]
    fn a_store_that_cannot_write_is_not_ready() {
        let full = Err(ErrorCode::StoreFull);
        assert_eq!(status("GET", "/readyz", Some("localhost"), Ok(())), 200);
        assert_eq!(status("GET", "/readyz", Some("localhost"), full), 503);
        assert_eq!(status("GET", "/healthz", Some("localhost"), full), 200);
    }
}
