//! The public door over raw sockets: what it answers, what it refuses, and what it survives.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may fail by panicking, and reads the clock itself"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use paidup::base::log_line::{LogFields, Message};
use paidup::host::clock::Now;
use paidup::http::edge::{Edge, Limits};
use paidup::http::exchange::{App, Http, Reply, Request};
use paidup::http::listen;
use paidup::http::metrics::{OTHER, RequestCounters};
use socket2::{SockRef, Socket};

// ── What is one request and what is not ──

#[test]
fn a_plain_request_is_answered_once_and_the_connection_is_closed() {
    let _guard = together();
    let edge = TestEdge::start(2);
    for request in [
        "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /healthz HTTP/1.0\r\n\r\n",
        "HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
        "GET /healthz?a=b HTTP/1.1\r\nhOsT: x\r\nEmpty:\r\nTab: a\tb\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        let answer = edge.ask(request);
        assert_eq!(answer.status, 200, "{request}");
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[test]
fn a_request_that_could_be_read_in_two_ways_is_refused() {
    let _guard = together();
    let edge = TestEdge::start(4);
    let post = |headers: &str| format!("POST /echo HTTP/1.1\r\nHost: x\r\n{headers}\r\nabcde");
    let many = |count: usize| "A: b\r\n".repeat(count);
    for (status, request) in [
        // lengths
        (200, post("Content-Length: 5\r\n")),
        (200, post("Content-Length: 0005\r\n")),
        (411, post("")),
        (400, post("Content-Length: +5\r\n")),
        (400, post("Content-Length: -5\r\n")),
        (400, post("Content-Length: abc\r\n")),
        (400, post("Content-Length: 0x5\r\n")),
        (400, post("Content-Length: 5, 5\r\n")),
        (400, post("Content-Length:\r\n")),
        (400, post("Content-Length: 5\r\nContent-Length: 5\r\n")),
        (400, post("Content-Length: 5\r\ncontent-length: 6\r\n")),
        (413, post("Content-Length: 524289\r\n")),
        (413, post("Content-Length: 100000000000000\r\n")),
        (413, post("Content-Length: 18446744073709551616\r\n")),
        (413, post("Content-Length: 99999999999999999999999999\r\n")),
        // transfer codings
        (411, post("Transfer-Encoding: chunked\r\n")),
        (411, post("Transfer-Encoding: identity\r\n")),
        (411, post("transfer-encoding: xchunked\r\n")),
        (
            400,
            post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ),
        (
            400,
            post("Content-Length: 5\r\n Transfer-Encoding: chunked\r\n"),
        ),
        (
            400,
            post("Content-Length: 5\r\nTransfer-Encoding : chunked\r\n"),
        ),
        // expectations
        (417, post("Content-Length: 5\r\nExpect: a-miracle\r\n")),
        // hosts
        (400, "GET / HTTP/1.1\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into()),
        // request lines
        (404, "GET / HTTP/1.1\r\nHost: x\r\n\r\n".into()),
        (400, "get / HTTP/1.1\r\nHost: x\r\n\r\n".into()),
        (400, "GET / extra HTTP/1.1\r\nHost: x\r\n\r\n".into()),
        (400, "GET / HTTP/1.1 extra\r\nHost: x\r\n\r\n".into()),
        (400, "GET  / HTTP/1.1\r\nHost: x\r\n\r\n".into()),
        (400, "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n".into()),
        (400, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".into()),
        (400, "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n".into()),
        (400, "GET /#a HTTP/1.1\r\nHost: x\r\n\r\n".into()),
        (400, "GET /\r\n\r\n".into()),
        (400, "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n".into()),
        (
            400,
            format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(2048)),
        ),
        (
            404,
            format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(2047)),
        ),
        (
            431,
            format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(20_000)),
        ),
        // versions
        (505, "GET / HTTP/2.0\r\n\r\n".into()),
        (505, "GET / HTTP/1.2\r\nHost: x\r\n\r\n".into()),
        (505, "GET / HTTP/0.9\r\nHost: x\r\n\r\n".into()),
        (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
        (400, "GET / HTTP/2\r\nHost: x\r\n\r\n".into()),
        (400, "GET / SPDY/1.1\r\nHost: x\r\n\r\n".into()),
        // headers
        (
            404,
            format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", many(63)),
        ),
        (
            431,
            format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", many(64)),
        ),
        (
            431,
            format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(16 * 1024)),
        ),
        (400, "GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: x\r\n: no name\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n".into()),
        (
            400,
            "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n".into(),
        ),
        (400, "GET / HTTP/1.1\r\n Host: x\r\n\r\n".into()),
        (
            400,
            "GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n".into(),
        ),
        (
            400,
            "GET / HTTP/1.1\r\nHost: x\r\nA: b\rC: d\r\n\r\n".into(),
        ),
        (400, "GET / HTTP/1.1\r\nHost: x\r\nA: b\0\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: x\r\nA: é\r\n\r\n".into()),
        (400, "GET /é HTTP/1.1\r\nHost: x\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\nHost: x\n\n".into()),
        (400, "\u{16}\u{3}\u{1} TLS here".into()),
    ] {
        let answer = edge.ask(&request);
        let shown = request.get(..120).unwrap_or(&request);
        assert_eq!(answer.status, status, "{shown:?} got {answer:?}");
        assert!(answer.has_request_id(), "{shown:?} got {answer:?}");
        assert_eq!(answer.count, 1, "{shown:?} got {answer:?}");
    }
}

#[test]
fn a_second_request_on_the_connection_is_not_answered() {
    let _guard = together();
    let edge = TestEdge::start(2);
    let one = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok";
    let answer = edge.ask(&format!("{one}GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_eq!((answer.status, answer.count), (200, 1));
    assert_eq!(answer.body, r#"{"bytes":2,"sum":218}"#);
}

#[test]
fn every_way_in_leads_to_an_answer_with_its_own_request_id() {
    let _guard = together();
    let edge = TestEdge::start(2);
    let ids: Vec<String> = [
        "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        "nonsense\r\n\r\n",
    ]
    .iter()
    .map(|request| edge.ask(request).header("x-request-id").unwrap().to_owned())
    .collect();
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_trusted_proxy_chooses_the_request_id_even_of_a_refusal() {
    let _guard = together();
    let edge = TestEdge::start(2);
    let ask = |length: &str| {
        edge.ask(&format!(
            "POST /echo HTTP/1.1\r\nHost: x\r\nX-Request-Id: proxy-0001\r\nContent-Length: {length}\r\n\r\n"
        ))
    };
    assert_eq!(ask("0").header("x-request-id"), Some("proxy-0001"));
    let refused = ask("9999999");
    assert_eq!(refused.header("x-request-id"), Some("proxy-0001"));
    assert_eq!(
        refused.body,
        r#"{"error":"Body too large","errorCode":"body_too_large","requestId":"proxy-0001"}"#
    );
}

// ── Bodies ──

#[test]
fn a_body_of_the_largest_size_arrives_whole_and_in_pieces() {
    let _guard = together();
    let edge = TestEdge::start(2);
    let body: Vec<u8> = (0..524_288_u32)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect();
    let mut stream = edge.connect();
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    for piece in body.chunks(100_000) {
        stream.write_all(piece).unwrap();
    }
    let sum: u64 = body.iter().copied().map(u64::from).sum();
    let answer = Answer::read(&mut stream);
    assert_eq!(answer.body, format!(r#"{{"bytes":524288,"sum":{sum}}}"#));
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on_only_if_its_body_is_welcome() {
    let _guard = together();
    let edge = TestEdge::start(2);
    let head = |length: usize| {
        format!(
            "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut stream = edge.connect();
    stream.write_all(head(2).as_bytes()).unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").unwrap();
    assert_eq!(Answer::read(&mut stream).status, 200);

    assert_eq!(edge.ask(&head(524_289)).status, 413);
}

#[test]
fn an_answer_is_not_lost_to_a_client_that_goes_on_sending() {
    let _guard = together();
    let edge = TestEdge::start(2);
    let mut stream = edge.connect();
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 700000\r\n\r\n")
        .unwrap();
    stream.write_all(&vec![b'x'; 700_000]).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 413);
}

#[test]
fn a_cut_request_is_a_bad_one_and_a_silent_connection_is_none() {
    let _guard = together();
    let edge = TestEdge::start(2);
    for cut in [
        "G",
        "GET / HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
    ] {
        let mut stream = edge.connect();
        stream.write_all(cut.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(Answer::read(&mut stream).status, 400, "{cut:?}");
    }
    let before = edge.counters.render();
    let mut stream = edge.connect();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream), "");
    assert_eq!(edge.counters.render(), before);
}

// ── Clients that are slow, many or malicious ──

#[test]
fn slow_clients_hold_their_threads_until_the_deadline_and_not_longer() {
    let _guard = together();
    let edge = TestEdge::with(listen::tcp(LOCALHOST).unwrap(), 4, REQUEST_TIMEOUT);
    let began = Instant::now();
    let slow = [
        "GET / HT",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
    ];
    let mut held: Vec<TcpStream> = (0..4_usize)
        .map(|number| {
            let mut stream = edge.connect();
            stream.write_all(slow[number % 2].as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(
        edge.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status,
        200
    );
    assert!(began.elapsed() < REQUEST_TIMEOUT * 3);
    for stream in &mut held {
        assert_eq!(Answer::read(stream).status, 408);
    }
}

#[test]
fn dripping_does_not_extend_the_deadline() {
    let _guard = together();
    let edge = TestEdge::with(listen::tcp(LOCALHOST).unwrap(), 1, REQUEST_TIMEOUT);
    let mut stream = edge.connect();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let began = Instant::now();
    let mut answer = String::new();
    while answer.is_empty() && began.elapsed() < REQUEST_TIMEOUT * 4 {
        let _ = stream.write_all(b"a");
        let mut buffer = [0; 1024];
        if let Ok(got) = stream.read(&mut buffer) {
            answer.push_str(std::str::from_utf8(&buffer[..got]).unwrap());
        }
    }
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(began.elapsed() < REQUEST_TIMEOUT * 2);
}

#[test]
fn floods_and_resets_leave_no_thread_descriptor_or_memory_behind() {
    let _guard = alone();
    let edge = TestEdge::start(8);
    eventually("all threads run", || Resources::now().edge_threads == 8);
    let before = Resources::now();

    for _ in 0..300 {
        assert_eq!(edge.ask("GET / HTTP/2.0\r\n\r\n").status, 505);
    }
    for number in 0..300 {
        let mut stream = edge.connect();
        let request: &[u8] = match number % 3 {
            0 => b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            1 => b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
            _ => b"GET /hea",
        };
        stream.write_all(request).unwrap();
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
    flood(&edge, "GET / HTTP/1.1\r\nHost: x\r\nA: ", 64 * 1024 * 1024);
    flood(
        &edge,
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000000\r\n\r\n",
        64 * 1024 * 1024,
    );
    let mut stream = edge.connect();
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000000\r\n\r\n")
        .unwrap();
    assert_eq!(Answer::read(&mut stream).status, 413);
    drop(stream);

    assert_eq!(
        edge.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status,
        200
    );
    eventually("threads and sockets are as before", || {
        let now = Resources::now();
        now.edge_threads == 8 && now.sockets == before.sockets
    });
    let grown = Resources::now()
        .resident_kib
        .saturating_sub(before.resident_kib);
    assert!(grown < 8 * 1024, "{grown} KiB more than before");
}

#[test]
fn large_bodies_in_every_thread_are_not_kept() {
    let _guard = alone();
    let edge = TestEdge::start(128);
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 524288\r\n\r\n";
    let mut almost_all = head.as_bytes().to_vec();
    almost_all.resize(head.len() + 524_287, b'x');
    let before = Resources::now();
    let mut streams: Vec<TcpStream> = (0..128).map(|_| edge.connect()).collect();
    for stream in &mut streams {
        stream.write_all(&almost_all).unwrap();
    }
    for stream in &mut streams {
        stream.write_all(b"x").unwrap();
        assert_eq!(Answer::read(stream).status, 404);
    }
    drop(streams);
    // 64 MiB if the bodies were kept; what is left is what the allocator keeps for itself. A thread
    // gives its body back after the answer, and on a busy machine some take a while to get there.
    eventually("the memory of large bodies is given back", || {
        let now = Resources::now().resident_kib;
        now.saturating_sub(before.resident_kib) < 32 * 1024
    });
}

#[test]
fn a_panic_is_a_500_and_the_pool_stays_whole() {
    let _guard = together();
    let edge = TestEdge::start(2);
    for _ in 0..10 {
        let answer = edge.ask("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(answer.status, 500);
        assert!(answer.has_request_id() && !answer.body.contains("canary"));
    }
    assert_eq!(
        edge.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status,
        200
    );
}

// ── Clients' addresses ──

#[test]
fn a_client_behind_a_trusted_proxy_or_a_unix_socket_has_its_own_address() {
    let _guard = together();
    let edge = TestEdge::start(2);
    let request = "GET /client HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n";
    assert_eq!(edge.ask(request).body, r#""203.0.113.7""#);

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.sock");
    drop(listen::unix(&path, None).unwrap()); // what a killed process leaves behind
    let edge = TestEdge::on(listen::unix(&path, None).unwrap(), 2);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream).body, r#""203.0.113.7""#);
    let error = listen::unix(&path, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    drop(edge);
}

// ── Connections that stay ──

fn delivery(header: &str, body: &str) -> String {
    let length = body.len();
    format!("POST /echo HTTP/1.1\r\nHost: x\r\n{header}Content-Length: {length}\r\n\r\n{body}")
}

/// The next answer to `request` on the connection.
fn next(stream: &mut TcpStream, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).unwrap();
    Answer::next(stream)
}

/// A connection that the server lets stay, once its threads have begun.
fn let_stay(edge: &TestEdge) -> TcpStream {
    let mut stays = None;
    eventually("a connection stays", || {
        let mut stream = edge.connect();
        let is_last = next(&mut stream, &delivery("", "ok")).is_last();
        stays = (!is_last).then_some(stream);
        stays.is_some()
    });
    stays.unwrap()
}

#[test]
fn a_connection_stays_after_a_delivery_and_after_nothing_else() {
    let _guard = together();
    let edge = TestEdge::staying(listen::tcp(LOCALHOST).unwrap(), 16, PATIENCE);
    let mut stream = let_stay(&edge);
    for body in ["ok", "", "a longer body than the first one"] {
        let answer = next(&mut stream, &delivery("Connection: keep-alive\r\n", body));
        assert_eq!((answer.status, answer.is_last()), (200, false));
        let length = format!(r#"{{"bytes":{},"#, body.len());
        assert!(answer.body.starts_with(&length), "{}", answer.body);
    }
    for last in [
        delivery("Connection: close\r\n", "ok"),
        delivery("Connection: keep-alive, Upgrade\r\n", "ok"),
        delivery("", "ok").replace("HTTP/1.1", "HTTP/1.0"),
        delivery("", "ok").replace("/echo", "/nothing"),
        delivery("Transfer-Encoding: chunked\r\n", "ok"),
        delivery("", "ok") + "G",
        "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "nonsense\r\n\r\n".to_owned(),
    ] {
        let mut stream = let_stay(&edge);
        let answer = next(&mut stream, &last);
        assert!(answer.is_last(), "{last}");
        assert_eq!(read_all(&mut stream), "", "{last}");
    }
}

#[test]
fn connections_that_stay_leave_half_of_the_threads_and_do_not_stay_for_ever() {
    let _guard = together();
    let edge = TestEdge::staying(listen::tcp(LOCALHOST).unwrap(), 4, REQUEST_TIMEOUT);
    let mut staying = Vec::new();
    eventually("two of four stay", || {
        staying.clear();
        let stays = |_| {
            staying.push(edge.connect());
            !next(staying.last_mut().unwrap(), &delivery("", "ok")).is_last()
        };
        (0..4).map(stays).eq([true, true, false, false])
    });
    for stream in &mut staying {
        assert_eq!(read_all(stream), "");
    }
}

#[test]
fn a_stop_still_answers_on_the_connections_that_stay() {
    let _guard = together();
    let mut edge = TestEdge::staying(listen::tcp(LOCALHOST).unwrap(), 16, PATIENCE);
    let mut streams = [let_stay(&edge), let_stay(&edge)];
    let stopper = thread::spawn(move || edge.stop());
    thread::sleep(Duration::from_millis(300));
    for stream in &mut streams {
        let answer = next(stream, &delivery("", "ok"));
        assert_eq!((answer.status, answer.is_last()), (200, true));
    }
    stopper.join().unwrap();
}

// ── Stopping ──

#[test]
fn restarts_under_load_lose_no_request() {
    let _guard = together();
    let listener = listen::tcp(LOCALHOST).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (done, served) = (Arc::clone(&done), Arc::clone(&served));
            thread::spawn(move || {
                while !done.load(SeqCst) {
                    let mut stream = TcpStream::connect(address).unwrap();
                    let mut is_last = false;
                    while !is_last && !done.load(SeqCst) {
                        let answer = next(&mut stream, &delivery("", "ok"));
                        assert_eq!(answer.status, 200);
                        is_last = answer.is_last();
                        served.fetch_add(1, SeqCst);
                    }
                }
            })
        })
        .collect();
    // The socket outlives each server, as one that systemd holds outlives each process.
    for _ in 0..10 {
        let mut edge = TestEdge::staying(listener.try_clone().unwrap(), 12, PATIENCE);
        let target = served.load(SeqCst) + 50;
        eventually("the clients are served", || served.load(SeqCst) >= target);
        let began = Instant::now();
        edge.stop();
        assert!(began.elapsed() < Duration::from_secs(3));
    }
    done.store(true, SeqCst);
    let edge = TestEdge::staying(listener, 12, PATIENCE);
    for client in clients {
        client.join().unwrap();
    }
    drop(edge);
}

#[test]
fn a_stop_serves_whoever_has_connected_even_if_it_speaks_later() {
    let _guard = together();
    let mut edge = TestEdge::start(1);
    // One in the only thread, two in the queue behind it.
    let mut streams: Vec<TcpStream> = (0..3).map(|_| edge.connect()).collect();
    let stopper = thread::spawn(move || edge.stop());
    for stream in &mut streams {
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        assert_eq!(Answer::read(stream).status, 200);
    }
    stopper.join().unwrap();
}

#[test]
fn an_idle_server_stops_within_a_second() {
    let _guard = together();
    let mut edge = TestEdge::start(128);
    let began = Instant::now();
    edge.stop();
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
}

// ── Helpers ──

const LOCALHOST: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// Of most tests: long enough to play no part, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of those tests that wait for it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Tests that count threads and memory hold this alone; all others share it.
static MACHINE: RwLock<()> = RwLock::new(());

fn together() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

struct TestApp;

impl App for TestApp {
    fn route(&self, _: &str) -> &'static str {
        OTHER
    }

    fn answer(&self, request: &Request<'_>, _: Now, _: &mut LogFields) -> Reply {
        let json = |json: String| Reply::json(200, Message::RequestServed, json);
        match request.path {
            "/healthz" => Reply::healthy(),
            "/client" => json(format!("\"{}\"", request.client)),
            "/panic" => panic!("canary@example.com"),
            "/echo" => {
                let sum: u64 = request.body.iter().copied().map(u64::from).sum();
                json(format!(r#"{{"bytes":{},"sum":{sum}}}"#, request.body.len()))
            }
            _ => Reply::not_found(),
        }
    }
}

struct TestEdge {
    address: Option<SocketAddr>,
    edge: Option<Edge>,
    counters: Arc<RequestCounters>,
}

impl TestEdge {
    fn start(connections: usize) -> TestEdge {
        TestEdge::on(listen::tcp(LOCALHOST).unwrap(), connections)
    }

    fn on(listener: Socket, connections: usize) -> TestEdge {
        TestEdge::with(listener, connections, PATIENCE)
    }

    fn with(listener: Socket, connections: usize, request_timeout: Duration) -> TestEdge {
        TestEdge::limited(listener, connections, request_timeout, Duration::ZERO)
    }

    /// Connections stay, silent for so long at most.
    fn staying(listener: Socket, connections: usize, silence: Duration) -> TestEdge {
        TestEdge::limited(listener, connections, PATIENCE, silence)
    }

    fn limited(
        listener: Socket,
        connections: usize,
        request_timeout: Duration,
        silence: Duration,
    ) -> TestEdge {
        let counters = Arc::new(RequestCounters::new(&[], &[]));
        let proxies = vec!["127.0.0.0/8".parse().unwrap()];
        let http = Http::new(Arc::new(TestApp), Arc::clone(&counters), proxies).unwrap();
        let limits = Limits {
            connections: NonZeroUsize::new(connections).unwrap(),
            request_timeout,
            body_max_bytes: 524_288,
            silence,
        };
        TestEdge {
            address: listener.local_addr().unwrap().as_socket(),
            edge: Some(Edge::start(listener, limits, Arc::new(http)).unwrap()),
            counters,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address.unwrap()).unwrap();
        let patience = Some(PATIENCE * 2);
        stream.set_read_timeout(patience).unwrap();
        stream.set_write_timeout(patience).unwrap();
        stream
    }

    /// Sends `request` on a connection of its own, and reads until the other end closes.
    fn ask(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(&mut stream)
    }

    fn stop(&mut self) {
        if let Some(edge) = self.edge.take() {
            edge.stop();
        }
    }
}

impl Drop for TestEdge {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    /// How many answers came on the connection.
    count: usize,
}

impl Answer {
    fn read(stream: &mut impl Read) -> Answer {
        Answer::parse(&read_all(stream))
    }

    /// One answer on a connection that may stay.
    fn next(stream: &mut impl Read) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let mut answer = Answer::parse(std::str::from_utf8(&head).unwrap());
        let length: u64 = answer.header("content-length").unwrap().parse().unwrap();
        stream
            .take(length)
            .read_to_string(&mut answer.body)
            .unwrap();
        answer
    }

    /// The server says that it reads no further request.
    fn is_last(&self) -> bool {
        self.header("connection") == Some("close")
    }

    fn parse(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().get(9..12).unwrap_or("0");
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Answer {
            status: status.parse().unwrap(),
            headers: lines.map(header).collect(),
            body: body.to_owned(),
            count: text.matches("HTTP/1.1 ").count(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(one, _)| one == name);
        found.map(|(_, value)| value.as_str())
    }

    /// In the header, and in the body of an error.
    fn has_request_id(&self) -> bool {
        self.header("x-request-id")
            .is_some_and(|id| self.status == 200 || self.body.contains(id))
    }
}

/// Everything up to the end of the connection, which must come and must not be a reset.
fn read_all(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Sends `start` and then up to `limit` bytes more, until the server has had enough.
fn flood(edge: &TestEdge, start: &str, limit: usize) {
    let mut stream = edge.connect();
    stream.write_all(start.as_bytes()).unwrap();
    let piece = vec![b'x'; 64 * 1024];
    let mut sent = 0;
    while sent < limit && stream.write_all(&piece).is_ok() {
        sent += piece.len();
    }
    assert!(sent < limit, "all of it was taken");
}

fn eventually(claim: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not so: {claim}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What this process holds of the machine.
#[derive(Debug)]
struct Resources {
    edge_threads: usize,
    sockets: usize,
    resident_kib: u64,
}

impl Resources {
    fn now() -> Resources {
        let entries = |path: &str| std::fs::read_dir(path).unwrap().flatten();
        let is_edge = |task: &std::fs::DirEntry| {
            let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            let number = name.trim().strip_prefix("edge-");
            number.is_some_and(|number| number.parse::<u8>().is_ok())
        };
        let is_socket = |descriptor: &std::fs::DirEntry| {
            std::fs::read_link(descriptor.path())
                .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        };
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        Resources {
            edge_threads: entries("/proc/self/task").filter(is_edge).count(),
            sockets: entries("/proc/self/fd").filter(is_socket).count(),
            resident_kib: resident.split_whitespace().nth(1).unwrap().parse().unwrap(),
        }
    }
}
