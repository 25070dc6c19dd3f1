//! The admin server over raw sockets: what it answers, and to whom.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use paidup::http::edge::Edge;
use paidup::http::exchange::Http;
use paidup::http::listen;
use paidup::serve::admin::{self, AdminApp};
use paidup::serve::metrics::Metrics;
use paidup::store::Figures;
use paidup::truth::order::Status;

#[test]
fn health_readiness_and_metrics_are_served_and_the_connection_is_closed() {
    let admin = TestAdmin::start();
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = admin.get(path);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert!(answer.contains("\r\nx-request-id: "), "{answer}");
    }
    let metrics = admin.get("/metrics");
    assert!(metrics.contains("\r\nContent-Type: text/plain; version=0.0.4\r\n"));
    assert!(metrics.contains("\npaidup_orders{status=\"paid\"} 3\n"));
}

#[test]
fn no_body_is_taken() {
    let admin = TestAdmin::start();
    for (length, status) in [
        ("0", 405),
        ("1", 413),
        ("5000", 413),
        ("18446744073709551616", 413),
    ] {
        for expect in ["", "Expect: 100-continue\r\n"] {
            let answer = admin.ask(&format!(
                "POST /healthz HTTP/1.1\r\nHost: localhost\r\n{expect}Content-Length: {length}\r\n\r\n"
            ));
            let expected = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&expected), "{length}: {answer}");
            assert!(answer.contains("\r\nx-request-id: "), "{answer}");
        }
    }
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    let listener = listen::tcp("0.0.0.0:0".parse().unwrap()).unwrap();
    let error = admin::start(listener, test_http()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("ADMIN_ADDR"));
}

#[test]
fn a_unix_socket_is_served_whatever_the_host_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let admin = admin::start(listen::unix(&path, None).unwrap(), test_http()).unwrap();
    for request in [
        "GET /readyz HTTP/1.0\r\n\r\n",
        "GET /readyz HTTP/1.1\r\nHost: whatever\r\n\r\n",
    ] {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        assert!(read_all(&mut stream).starts_with("HTTP/1.1 200 "));
    }
    admin.stop();
    assert!(path.exists(), "the socket file may be systemd's");
}

// ── Helpers ──

struct TestAdmin {
    address: SocketAddr,
    admin: Option<Edge>,
}

impl TestAdmin {
    fn start() -> TestAdmin {
        let listener = listen::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        TestAdmin {
            address: listener.local_addr().unwrap().as_socket().unwrap(),
            admin: Some(admin::start(listener, test_http()).unwrap()),
        }
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        read_all(&mut stream)
    }
}

impl Drop for TestAdmin {
    fn drop(&mut self) {
        if let Some(admin) = self.admin.take() {
            admin.stop();
        }
    }
}

fn test_http() -> Arc<Http> {
    let metrics = Arc::new(Metrics::new());
    let figures = Figures {
        orders: vec![(Status::Paid, 3)],
        ..Figures::default()
    };
    let app = AdminApp {
        ready: Box::new(|| Ok(())),
        figures: Box::new(move || Some(figures.clone())),
        metrics: Arc::clone(&metrics),
    };
    Arc::new(Http::new(Arc::new(app), metrics.requests(), Vec::new()).unwrap())
}

fn read_all(stream: &mut impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
