//! What every proxy snippet of ours must do, whichever proxy it is for.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::harness::{Answer, SECRET, Service, ask, delivery, event, get, paid, post, sign};

/// Connections that one address holds open, each with half a head.
const HELD: usize = 1_600;
/// Longer than this Stripe does not wait.
const STRIPES_PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn passes_on_what_is_paidups_and_nothing_else(service: &Service, proxy: SocketAddr) {
    // The signature holds only for the body byte for byte.
    let whole = delivery(paid("1"));
    let answer = ask(proxy, to("hooks.example.com", &whole));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(service.status_of("ord_1").is_some());
    let whole = String::from_utf8(whole).unwrap();
    let slash = whole.replace("/stripe/webhook ", "/stripe/webhook/ ");
    let answer = ask(proxy, to("hooks.example.com", slash.as_bytes()));
    assert_eq!(answer.json()["outcome"], "duplicate", "{answer:?}");
    for (host, path, status) in [
        ("hooks.example.com", "/healthz", 200),
        ("hooks.example.com", "/metrics", 404),
        ("hooks.example.com", "/stripe", 404),
        ("hooks.example.com", "/stripe/webhook/x", 404),
        ("hooks.example.com", "/", 404),
        ("other.example.com", "/healthz", 404),
    ] {
        let answer = ask(proxy, to(host, get(path).as_bytes()));
        assert_eq!(answer.status, status, "{host}{path}");
    }
}

/// A delivery in chunks, as no server of Stripe's sends it.
pub(crate) fn chunked() -> Vec<u8> {
    let body = paid("chunked");
    format!(
        "POST /stripe/webhook HTTP/1.1\r\nHost: hooks.example.com\r\nConnection: close\r\n\
         Stripe-Signature: {}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        sign(SECRET, body.as_bytes(), 0),
        body.len()
    )
    .into_bytes()
}

/// One address opens half a head again as soon as one ends, and meanwhile Stripe delivers.
pub(crate) fn half_heads_of_one_address_starve_nobody(proxy: SocketAddr) {
    let mut own = getrlimit(Resource::Nofile);
    own.current = own.maximum;
    setrlimit(Resource::Nofile, own).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let attack = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || hold(proxy, &stop))
    };
    thread::sleep(Duration::from_secs(2));
    let mut served = 0;
    let mut slowest = Duration::ZERO;
    for number in 0..20 {
        let began = Instant::now();
        let status = deliver(proxy, &paid(&format!("good{number}")));
        slowest = slowest.max(began.elapsed());
        served += usize::from(status == Some(200));
        thread::sleep(Duration::from_millis(200));
    }
    stop.store(true, SeqCst);
    let opened = attack.join().unwrap();
    eprintln!("behind half heads ({opened} opened): {served} of 20 served, slowest {slowest:?}");
    assert_eq!(served, 20);
}

/// Keeps [`HELD`] connections open until told to stop: how many it has opened.
fn hold(proxy: SocketAddr, stop: &AtomicBool) -> usize {
    let mut held: Vec<TcpStream> = Vec::new();
    let mut opened = 0;
    while !stop.load(SeqCst) {
        held.retain(|stream| {
            let mut byte = [0; 1];
            let got = stream.peek(&mut byte);
            got.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        });
        while held.len() < HELD && !stop.load(SeqCst) {
            let wait = Duration::from_millis(200);
            let Ok(mut stream) = TcpStream::connect_timeout(&proxy, wait) else {
                break;
            };
            let _ = stream.write_all(b"POST /stripe/webhook HTTP/1.1\r\nHost: hooks.ex");
            stream.set_nonblocking(true).unwrap();
            held.push(stream);
            opened += 1;
        }
        thread::sleep(Duration::from_millis(20));
    }
    opened
}

fn deliver(proxy: SocketAddr, body: &str) -> Option<u16> {
    let mut stream = TcpStream::connect_timeout(&proxy, STRIPES_PATIENCE).ok()?;
    stream.set_read_timeout(Some(STRIPES_PATIENCE)).ok()?;
    stream
        .write_all(&to("hooks.example.com", &delivery(body)))
        .ok()?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut bytes).ok()?;
    Answer::parse(&bytes).map(|answer| answer.status)
}

/// `header` is where the proxy in front of ours names its client, after what that client has claimed.
pub(crate) fn a_strangers_forgeries_are_the_strangers(
    proxy: SocketAddr,
    header: &str,
    claimed: &str,
) {
    let stranger = format!("{claimed}203.0.113.66");
    let stripe = format!("{claimed}203.0.113.7");
    let forged: Vec<u16> = (0..20)
        .map(|_| status_of(proxy, header, &stranger, "t=1,v1=00"))
        .collect();
    assert_eq!(forged[..5], [400; 5]);
    assert_eq!(forged[5..], [429; 15]);
    let signature = sign(SECRET, event("1").as_bytes(), 0);
    for _ in 0..5 {
        assert_eq!(status_of(proxy, header, &stripe, &signature), 200);
    }
}

/// Whatever they claim, they are one client.
pub(crate) fn who_is_not_cloudflares_is_not_believed(proxy: SocketAddr, header: &str) {
    let statuses: Vec<u16> = (0..8)
        .map(|number| status_of(proxy, header, &format!("203.0.113.{number}"), "t=1,v1=00"))
        .collect();
    assert_eq!(statuses, [400, 400, 400, 400, 400, 429, 429, 429]);
}

fn status_of(proxy: SocketAddr, header: &str, client: &str, signature: &str) -> u16 {
    let headers = [(header, client), ("Stripe-Signature", signature)];
    let request = post("/stripe/webhook", &headers, event("1").as_bytes());
    ask(proxy, to("hooks.example.com", &request)).status
}

/// The same request to another host, as the last on its connection.
pub(crate) fn to(host: &str, request: &[u8]) -> Vec<u8> {
    let end = request.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&request[..end]).unwrap();
    let head = head.replace(
        "Host: localhost",
        &format!("Host: {host}\r\nConnection: close"),
    );
    [head.as_bytes(), &request[end..]].concat()
}

/// A proxy cannot be asked for whatever port is free.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
