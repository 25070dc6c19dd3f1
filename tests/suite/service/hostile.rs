//! Strangers send what they like: each gets its answer, and nothing of it stays behind.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, prlimit, setrlimit};
use serde_json::json;
use socket2::SockRef;

use crate::harness::{
    Answer, PATIENCE, Resources, SECRET, Service, Setup, ask, changed, connect, delivery,
    eventually, get, paid,
};

// ── Lengths and versions ──

#[test]
fn a_declared_length_costs_nothing_until_it_comes() {
    let service = Setup::new().start();
    let before = warm(&service);
    for length in [
        "100000000000000",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "524289",
    ] {
        for expect in ["", "Expect: 100-continue\r\n"] {
            let request = webhook(&format!("{expect}Content-Length: {length}\r\n"), "");
            let answer = service.ask(request);
            assert_eq!((answer.status, answer.count), (413, 1), "{length}");
        }
    }
    service.recovers_to(before);
}

#[test]
fn three_hundred_requests_of_another_version_leak_nothing() {
    let service = Setup::new().start();
    let before = warm(&service);
    for _ in 0..300 {
        let mut stream = service.connect();
        stream.write_all(b"GET / HTTP/2.0\r\n\r\n").unwrap();
        assert_eq!(Answer::read(&mut stream).status, 505);
    }
    service.recovers_to(before);
}

#[test]
fn what_is_not_http_is_refused() {
    let service = Setup::new().start();
    let before = warm(&service);
    for (bytes, status) in [
        (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /\n\n", 400),
        (b"\r\n\r\n", 400),
        (b"\0\0\0\0", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        ("GET /é HTTP/1.1\r\nHost: x\r\n\r\n".as_bytes(), 400),
        (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505),
    ] {
        let mut stream = service.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = Answer::read(&mut stream);
        assert_eq!((answer.status, answer.count), (status, 1), "{bytes:?}");
        assert_eq!(service.line_of(answer.request_id())["status"], status);
    }
    service.recovers_to(before);
}

// ── Slow ──

#[test]
fn slow_heads_and_missing_bodies_on_every_connection_end_and_a_good_client_is_served() {
    let service = few_connections();
    let before = warm(&service);
    let body = paid("slow");
    let whole = delivery(&body);
    let half = &whole[..whole.len() - 10];
    for start in [&b"POST /stripe/webhook HTTP/1.1\r\nHost: x\r\n"[..], half] {
        let mut slow: Vec<_> = (0..CONNECTIONS).map(|_| service.connect()).collect();
        for stream in &mut slow {
            stream.write_all(start).unwrap();
        }
        let began = Instant::now();
        service.deliver(paid("good")).json();
        assert!(began.elapsed() < TIMEOUT * 4, "{:?}", began.elapsed());
        for stream in &mut slow {
            assert_eq!(Answer::read(stream).status, 408);
        }
    }
    assert_eq!(service.status_of("ord_slow"), None);
    service.recovers_to(before);
}

#[test]
fn dripping_does_not_extend_the_time() {
    let service = few_connections();
    let before = warm(&service);
    for start in [
        "GET / HTTP/1.1\r\nX: ",
        &webhook("Content-Length: 500000\r\n", ""),
    ] {
        let mut stream = service.connect();
        let mut reader = stream.try_clone().unwrap();
        let answer = thread::spawn(move || Answer::read(&mut reader));
        let began = Instant::now();
        stream.write_all(start.as_bytes()).unwrap();
        while !answer.is_finished() && began.elapsed() < PATIENCE {
            let _ = stream.write_all(b"x");
            thread::sleep(Duration::from_millis(50));
        }
        assert!(began.elapsed() < TIMEOUT * 4, "{:?}", began.elapsed());
        assert_eq!(answer.join().unwrap().status, 408);
    }
    service.recovers_to(before);
}

// ── Two ways to read it ──

#[test]
fn a_request_that_is_framed_in_two_ways_is_one_refusal() {
    let service = Setup::new().start();
    let before = warm(&service);
    let smuggled = String::from_utf8(delivery(paid("smuggled"))).unwrap();
    for (headers, status) in [
        ("Transfer-Encoding: chunked\r\n", 411),
        ("Transfer-Encoding: identity\r\n", 411),
        ("transfer-encoding: xchunked\r\n", 411),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding : chunked\r\n", 400),
        ("Content-Length: 5\r\n Transfer-Encoding: chunked\r\n", 400),
        ("Content-Length: 0\r\nContent-Length: 5\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", 400),
        ("Content-Length: +5\r\n", 400),
        ("Content-Length: -5\r\n", 400),
        ("Content-Length: 5, 5\r\n", 400),
        ("Content-Length: 0x5\r\n", 400),
        ("Content-Length: abc\r\n", 400),
        ("Content-Length: \r\n", 400),
        ("X: a\nContent-Length: 0\r\n", 400),
        ("X: a\rContent-Length: 0\r\n", 400),
        ("X: a\0b\r\nContent-Length: 0\r\n", 400),
        ("Host: y\r\nContent-Length: 0\r\n", 400),
        ("", 411),
    ] {
        let answer = service.ask(webhook(headers, &format!("0\r\n\r\n{smuggled}")));
        assert_eq!((answer.status, answer.count), (status, 1), "{headers:?}");
    }
    // Well framed, and another behind it on the same connection: that one is never read.
    let first = String::from_utf8(delivery(paid("first"))).unwrap();
    let answer = service.ask(format!("{first}{smuggled}"));
    assert_eq!((answer.status, answer.count), (200, 1));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(service.status_of("ord_first").is_some());
    assert_eq!(service.status_of("ord_smuggled"), None);
    service.recovers_to(before);
}

// ── Large ──

#[test]
fn a_header_without_end_is_cut_off_early() {
    let service = Setup::new().start();
    let before = warm(&service);
    for start in [
        "GET /",
        "GET / HTTP/1.1\r\nX: ",
        "GET / HTTP/1.1\r\nA: b\r\n",
    ] {
        let piece = if start.ends_with("\r\n") {
            "A: b\r\n"
        } else {
            "xxxxxx"
        };
        let sent = flood(service.edge, start, piece, 501_000_000);
        assert!(sent < 64_000_000, "{sent} bytes were taken after {start:?}");
    }
    let peak = service.resources().resident_kib;
    assert!(peak < before.resident_kib + 32 * 1024, "{peak} KiB");
    service.recovers_to(before);
}

#[test]
fn pipelined_requests_without_end_are_one_answer() {
    let service = Setup::new().start();
    let before = warm(&service);
    let sent = flood(service.edge, "", &get("/healthz"), 501_000_000);
    assert!(sent < 64_000_000, "{sent} bytes were taken");
    service.recovers_to(before);
}

#[test]
fn a_body_of_the_largest_size_on_every_connection_is_not_kept() {
    let service = Setup::new().set("HTTP_CONNECTIONS", "32").start();
    let before = warm(&service);
    let mut request = webhook("Content-Length: 524288\r\n", "").into_bytes();
    request.resize(request.len() + 524_287, b'x');
    let mut streams: Vec<_> = (0..32).map(|_| service.connect()).collect();
    for stream in &mut streams {
        stream.write_all(&request).unwrap();
    }
    for stream in &mut streams {
        stream.write_all(b"x").unwrap();
        assert_eq!(Answer::read(stream).status, 400);
    }
    service.recovers_to(before);
}

// ── Many ──

#[test]
fn five_hundred_resets_leak_nothing() {
    let service = Setup::new().start();
    let before = warm(&service);
    let starts = [
        delivery(paid("reset")),
        b"GET /healthz HTTP/1.1\r\n".to_vec(),
        webhook("Content-Length: 100000\r\n", "{").into_bytes(),
        Vec::new(),
    ];
    for start in starts.iter().cycle().take(500) {
        let mut stream = service.connect();
        let _ = stream.write_all(start);
        reset(stream);
    }
    service.recovers_to(before);
    assert!(!service.log().iter().any(|line| line["message"] == "Panic"));
}

#[test]
fn thousands_of_silent_connections_wait_and_a_good_client_is_served() {
    let service = Setup::new().set("REQUEST_TIMEOUT_SECONDS", "1").start();
    let before = warm(&service);
    let mut own = getrlimit(Resource::Nofile);
    own.current = own.maximum;
    setrlimit(Resource::Nofile, own).unwrap();
    let own = own.current.unwrap_or(u64::MAX);
    // What the other tests of this process may use stays free.
    let count = usize::try_from(own.saturating_sub(500).min(10_000)).unwrap();
    let mut silent = Vec::with_capacity(count);
    let began = Instant::now();
    while silent.len() < count && began.elapsed() < Duration::from_secs(8) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        // The kernel's queue is full at some time: then the next one waits for the server.
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&service.edge.into());
        silent.push(socket);
    }
    assert!(silent.len() >= count.min(2_000), "{}", silent.len());
    let during = service.resources();
    assert!(during.threads <= before.threads, "{during:?}");
    assert!(during.descriptors <= before.descriptors + 130, "{during:?}");
    drop(silent);
    service.recovers_to(before);
}

#[test]
fn a_thousand_connections_held_open_delay_no_delivery() {
    let service = Setup::new().start();
    let before = warm(&service);
    for (start, limit) in [
        ("", 6),
        ("P", 20),
        (&*webhook("Content-Length: 9\r\n", "half"), 20),
    ] {
        let held: Vec<_> = (0..1000)
            .map(|_| {
                let mut stream = service.connect();
                stream.write_all(start.as_bytes()).unwrap();
                stream
            })
            .collect();
        let began = Instant::now();
        service.accepts(
            paid("1"),
            if start.is_empty() {
                "applied"
            } else {
                "duplicate"
            },
        );
        // For each of them ten seconds, 128 at a time, are over a minute.
        let took = began.elapsed();
        eprintln!("behind 1,000 x {start:?}: {took:?}");
        assert!(took < Duration::from_secs(limit), "{start:?}: {took:?}");
        drop(held);
    }
    service.recovers_to(before);
}

#[test]
fn who_speaks_late_is_served_when_nobody_waits() {
    let service = Setup::new().set("HTTP_CONNECTIONS", "1").start();
    let mut late = service.connect();
    let whole = delivery(paid("late"));
    for piece in whole.chunks(whole.len() / 2 + 1) {
        thread::sleep(Duration::from_millis(1500));
        late.write_all(piece).unwrap();
    }
    assert_eq!(Answer::read(&mut late).status, 200);
    // The only thread is theirs until another one waits for it.
    let mut silent = service.connect();
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(service.deliver(paid("other")).status, 200);
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0);
}

// ── Descriptors ──

#[test]
fn without_descriptors_it_waits_and_comes_back() {
    let service = Setup::new().set("REQUEST_TIMEOUT_SECONDS", "5").start();
    let before = warm(&service);
    limit_descriptors(&service, before.descriptors + 4);
    let mut held: Vec<_> = (0..20).map(|_| service.connect()).collect();
    eventually("the want of descriptors is logged", || {
        let lines = service.log();
        lines.iter().any(|line| line["errorCode"] == "os_error_24")
    });
    let lines = service.log();
    let told = lines
        .iter()
        .filter(|line| line["message"] == "Cannot accept connections");
    assert!(told.count() <= 2, "told once by each server, not in a loop");
    for stream in &mut held {
        stream.write_all(get("/healthz").as_bytes()).unwrap();
        assert_eq!(Answer::read(stream).status, 200, "nobody is lost");
    }
    service.recovers_to(before);
}

#[test]
fn a_pool_that_would_take_all_descriptors_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args([
            "-c",
            "ulimit -n 100; exec \"$0\" serve",
            env!("CARGO_BIN_EXE_paidup"),
        ])
        .env("LISTEN_ADDR", "127.0.0.1:0")
        .env("ADMIN_ADDR", "off")
        .env("DATABASE_PATH", folder.path().join("paidup.db"))
        .env("STRIPE_WEBHOOK_SECRET", SECRET)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("need 192 open files, and the limit is 100"),
        "{told}"
    );
    assert!(
        told.contains("LimitNOFILE=") && told.contains("HTTP_CONNECTIONS"),
        "{told}"
    );
}

#[test]
fn the_admin_server_comes_back_after_a_want_of_descriptors() {
    for spare in [6, 7] {
        let service = Setup::new().set("HTTP_CONNECTIONS", "2").start();
        let before = warm(&service);
        limit_descriptors(&service, before.descriptors + spare);
        let held: Vec<_> = (0..20).map(|_| connect(service.admin())).collect();
        settled(&service);
        assert_eq!(service.deliver(paid("during")).status, 200);
        drop(held);
        assert_eq!(service.admin_get("/readyz").status, 200);
        assert_eq!(service.deliver(paid("after")).status, 200);
    }
}

// ── The admin server ──

#[test]
fn hundreds_of_local_clients_leave_nothing_behind_in_the_admin_server() {
    let service = Setup::new().start();
    let before = warm(&service);
    let post = |length: &str| {
        format!("POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
    };
    for start in [
        String::new(),
        "GET / HTTP/2.0\r\n\r\n".to_owned(),
        post("5000"),
        post("100000000000000"),
        post("18446744073709551616"),
    ] {
        // None of them ever closes.
        let held: Vec<_> = (0..390)
            .map(|_| {
                let mut stream = connect(service.admin());
                stream.write_all(start.as_bytes()).unwrap();
                stream
            })
            .collect();
        let began = Instant::now();
        assert_eq!(service.admin_get("/readyz").status, 200);
        assert_eq!(service.admin_get("/metrics").status, 200);
        assert_eq!(service.deliver(paid("1")).status, 200);
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        service.recovers_to(before);
        drop(held);
    }
}

#[test]
fn the_admin_server_refuses_who_calls_it_by_another_name() {
    let service = Setup::new().start();
    let admin = |host: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        ask(service.admin(), request).status
    };
    for (host, status) in [
        ("Host: evil.example\r\n", 421),
        ("Host: evil.example:4243\r\n", 421),
        ("Host: 127.0.0.1.evil.example\r\n", 421),
        ("Host: 10.0.0.1\r\n", 421),
        ("Host: localhost\r\nHost: evil.example\r\n", 400),
        ("", 400),
    ] {
        assert_eq!(admin(host), status, "{host:?}");
    }
    for host in [
        "Host: localhost\r\n",
        "Host: 127.0.0.1:4243\r\n",
        "Host: [::1]:4243\r\n",
    ] {
        assert_eq!(admin(host), 200, "{host:?}");
    }
    assert_eq!(service.admin_get("/stripe/webhook").status, 404);
}

#[test]
fn a_flood_at_the_edge_does_not_starve_the_admin_server() {
    let service = few_connections();
    let held: Vec<_> = (0..200).map(|_| service.connect()).collect();
    for path in ["/healthz", "/readyz", "/metrics"] {
        let began = Instant::now();
        assert_eq!(service.admin_get(path).status, 200);
        assert!(began.elapsed() < Duration::from_secs(2), "{path}");
    }
    drop(held);
}

#[test]
fn a_handler_is_never_left_alone_with_json_that_is_deep_or_odd() {
    let service = Setup::new().start();
    let before = warm(&service);
    let deep = |open: &str, close: &str, times: usize| {
        format!("{}{}", open.repeat(times), close.repeat(times))
    };
    let mut bodies = vec![
        deep("[", "]", 100_000),
        deep("{\"a\":", "}", 50_000),
        format!(
            "{{\"id\":\"evt_1\",\"type\":\"x\",\"data\":{{\"object\":{}}}}}",
            deep("[", "]", 100)
        ),
        format!("[{}]", "9".repeat(400_000)),
        format!("\"{}\"", "\\u0000".repeat(80_000)),
    ];
    for amount in [
        json!(-1),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e300),
        json!("1"),
    ] {
        bodies.push(changed("odd", |event| {
            event["data"]["object"]["amount_total"] = amount;
        }));
    }
    for body in bodies {
        let status = service.deliver(&body).status;
        assert!([200, 400].contains(&status), "{status}");
    }
    service.recovers_to(before);
    assert!(!service.log().iter().any(|line| line["message"] == "Panic"));
}

// ── Helpers ──

const CONNECTIONS: usize = 4;
const TIMEOUT: Duration = Duration::from_secs(1);

/// A pool that is easily filled.
fn few_connections() -> Service {
    Setup::new()
        .set("HTTP_CONNECTIONS", "4")
        .set("REQUEST_TIMEOUT_SECONDS", "1")
        .start()
}

/// What the service holds after it has served each kind of request once.
fn warm(service: &Service) -> Resources {
    assert_eq!(service.deliver(paid("warm")).status, 200);
    assert_eq!(service.admin_get("/metrics").status, 200);
    assert_eq!(service.admin_get("/readyz").status, 200);
    settled(service)
}

/// What the service holds when that does not change any more.
fn settled(service: &Service) -> Resources {
    eventually("nothing is under way", || {
        let now = service.resources();
        thread::sleep(Duration::from_millis(50));
        let then = service.resources();
        (now.threads, now.descriptors) == (then.threads, then.descriptors)
    });
    service.resources()
}

fn webhook(headers: &str, body: &str) -> String {
    format!("POST /stripe/webhook HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}")
}

/// Sends `piece` again and again until the server has had enough: how many bytes it got rid of.
fn flood(address: SocketAddr, start: &str, piece: &str, limit: usize) -> usize {
    let mut stream = connect(address);
    let pieces = piece.repeat(64 * 1024 / piece.len());
    let mut sent = 0;
    let mut next = stream.write_all(start.as_bytes());
    while next.is_ok() && sent < limit {
        next = stream.write_all(pieces.as_bytes());
        sent += pieces.len();
    }
    sent
}

/// Closes so that the other end sees a reset and not an end.
fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
}

fn limit_descriptors(service: &Service, count: usize) {
    let limit = Rlimit {
        current: u64::try_from(count).ok(),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    prlimit(Some(service.pid()), Resource::Nofile, limit).unwrap();
}
