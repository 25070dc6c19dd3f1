//! The admin server over raw sockets: what it answers, and what would have ended `tiny_http`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test may fail by panicking, and reads the clock itself"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paidup::admin::{Admin, AdminApp};
use paidup::domain::order::Status;
use paidup::edge::{listen_tcp, listen_unix};
use paidup::http::Http;
use paidup::metrics::Metrics;
use paidup::sqlite::Figures;
use socket2::Socket;

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
fn no_declared_length_ends_the_process_or_holds_a_worker() {
    let admin = TestAdmin::start();
    let lengths = [
        "100000000000000",
        "9223372036854775808",
        "18446744073709551615",
        "5000",
    ];
    for length in lengths.iter().cycle().take(12) {
        for expect in ["", "Expect: 100-continue\r\n"] {
            let mut stream = admin.connect();
            let request = format!(
                "POST /healthz HTTP/1.1\r\nHost: localhost\r\n{expect}Content-Length: {length}\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).unwrap();
            let answer = read_answer(&mut stream);
            let (interim, answer) = answer.split_once("\r\n\r\n").unwrap();
            assert!(interim.starts_with("HTTP/1.1 102 "), "{interim}");
            assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
            assert!(answer.contains("\r\nx-request-id: "), "{answer}");
            stream.shutdown(Shutdown::Both).unwrap();
        }
    }
    assert!(admin.get("/healthz").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_dead_accept_loop_is_opened_again() {
    let admin = TestAdmin::start();
    let began = Instant::now();
    for _ in 0..3 {
        // The next call of accept() ends tiny_http's thread, as any error does.
        admin.listener.set_nonblocking(true).unwrap();
        assert!(admin.get("/healthz").starts_with("HTTP/1.1 200 "));
    }
    assert!(admin.get("/healthz").starts_with("HTTP/1.1 200 "));
    assert!(began.elapsed() < Duration::from_secs(9));
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    let listener = listen_tcp("0.0.0.0:0".parse().unwrap()).unwrap();
    let error = Admin::start(listener, test_http()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("ADMIN_ADDR"));
}

#[test]
fn a_unix_socket_is_served_whatever_the_host_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let admin = Admin::start(listen_unix(&path, None).unwrap(), test_http()).unwrap();
    for headers in ["", "Host: whatever\r\n"] {
        let mut stream = UnixStream::connect(&path).unwrap();
        let request = format!("GET /readyz HTTP/1.1\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        assert!(read_answer(&mut stream).starts_with("HTTP/1.1 200 "));
    }
    admin.stop();
    assert!(path.exists(), "the socket file may be systemd's");
}

#[test]
fn a_stop_is_not_held_up_by_waiting_workers() {
    let began = Instant::now();
    let mut admin = TestAdmin::start();
    admin.stop();
    assert!(began.elapsed() < Duration::from_millis(900));
}

// ── Helpers ──

struct TestAdmin {
    listener: Socket,
    address: SocketAddr,
    admin: Option<Admin>,
}

impl TestAdmin {
    fn start() -> TestAdmin {
        let listener = listen_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        TestAdmin {
            address: listener.local_addr().unwrap().as_socket().unwrap(),
            admin: Some(Admin::start(listener.try_clone().unwrap(), test_http()).unwrap()),
            listener,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
    }

    fn get(&self, path: &str) -> String {
        let mut stream = self.connect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        read_answer(&mut stream)
    }

    fn stop(&mut self) {
        if let Some(admin) = self.admin.take() {
            admin.stop();
        }
    }
}

impl Drop for TestAdmin {
    fn drop(&mut self) {
        self.stop();
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
    Arc::new(Http::new(Arc::new(app), metrics, Vec::new()).unwrap())
}

/// One final answer, as long as its `Content-Length` says, with the interim one before it.
fn read_answer(stream: &mut impl Read) -> String {
    let mut text = String::new();
    let mut buffer = [0; 64 * 1024];
    loop {
        let got = stream.read(&mut buffer).unwrap();
        text.push_str(std::str::from_utf8(&buffer[..got]).unwrap());
        let last = text.rfind("HTTP/1.1 ").map_or("", |start| &text[start..]);
        if let Some((head, body)) = last.split_once("\r\n\r\n")
            && let Some((_, length)) = head.split_once("Content-Length: ")
            && body.len() >= length.split("\r\n").next().unwrap().parse().unwrap()
        {
            return text;
        }
        assert!(got > 0, "cut short: {text}");
    }
}
