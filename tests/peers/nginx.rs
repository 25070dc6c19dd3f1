//! The nginx snippet as it is shipped, run by the nginx of Debian.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{Setup, ask, connect, eventually, post};
use crate::proxy::{self, to};

const SHIPPED: &str = include_str!("../../systemd/nginx.conf");

#[test]
fn it_passes_on_what_is_paidups_and_nothing_else() {
    let service = Setup::new().start();
    let nginx = Nginx::start(SHIPPED, service.edge);
    proxy::passes_on_what_is_paidups_and_nothing_else(&service, nginx.address);
    // It has read the whole body, and says how long it is.
    assert_eq!(ask(nginx.address, proxy::chunked()).status, 200);
    assert!(service.status_of("ord_chunked").is_some());
}

#[test]
fn half_a_head_ends_early_whatever_the_default_site_is() {
    let service = Setup::new().start();
    // Another site is the default on this machine, as the comment allows.
    let others = SHIPPED.replace("    ssl_reject_handshake on;\n", "");
    let nginx = Nginx::start(&others, service.edge);
    let began = Instant::now();
    for start in [
        "",
        "GET / HT",
        "GET / HTTP/1.1\r\nHost: hooks.example.com\r\n",
    ] {
        let mut stream = connect(nginx.address);
        stream.write_all(start.as_bytes()).unwrap();
        let ended = stream.read(&mut [0; 1024]);
        assert!(
            ended.is_ok() || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
        );
    }
    let took = began.elapsed();
    eprintln!("three half heads, one after the other: {took:?}");
    assert!(took < Duration::from_secs(25), "{took:?}");
}

#[test]
fn half_heads_of_one_address_starve_nobody() {
    let service = Setup::new().start();
    let nginx = Nginx::start(SHIPPED, service.edge);
    proxy::half_heads_of_one_address_starve_nobody(nginx.address);
}

#[test]
fn behind_cloudflare_a_strangers_forgeries_are_the_strangers() {
    let service = Setup::new().set("RATE_LIMIT_WEBHOOK_MAX", "5").start();
    let nginx = Nginx::start(&cloudflare("127.0.0.0/8"), service.edge);
    proxy::a_strangers_forgeries_are_the_strangers(nginx.address, "CF-Connecting-IP", "");
    // Whoever is not Cloudflare's is not believed.
    let service = Setup::new().set("RATE_LIMIT_WEBHOOK_MAX", "5").start();
    let nginx = Nginx::start(&cloudflare("192.0.2.0/24"), service.edge);
    proxy::who_is_not_cloudflares_is_not_believed(nginx.address, "CF-Connecting-IP");
}

#[test]
fn a_network_is_one_client_and_what_nginx_refuses_is_no_429() {
    let service = Setup::new().start();
    let nginx = Nginx::start(&cloudflare("127.0.0.0/8"), service.edge);
    let request = |client: &str| {
        let headers = [("CF-Connecting-IP", client)];
        to(
            "hooks.example.com",
            &post("/stripe/webhook", &headers, b"slow"),
        )
    };
    let mut held = Vec::new();
    for number in 0..64 {
        let mut stream = connect(nginx.address);
        let request = request(&format!("2001:db8:0:1:{number:x}::1"));
        stream.write_all(&request[..request.len() - 1]).unwrap();
        held.push(stream);
    }
    // nginx counts a request when its head is whole.
    eventually("the network has its share", || {
        ask(nginx.address, request("2001:db8:0:1:ffff::1")).status == 503
    });
    for other in ["2001:db8:0:2::1", "203.0.113.7"] {
        assert_eq!(ask(nginx.address, request(other)).status, 400, "{other}");
    }
    assert!(!SHIPPED.contains(" 429;"), "each 429 is paidup's");
}

/// The snippet with what it says of Cloudflare, whose only network is this one.
fn cloudflare(network: &str) -> String {
    let mut file = SHIPPED.replace("    #real_ip_header", "    real_ip_header");
    let first = "    #set_real_ip_from 173.245.48.0/20;";
    assert_eq!(file.matches(first).count(), 1);
    file = file.replace(first, &format!("    set_real_ip_from {network};"));
    assert_ne!(file, SHIPPED);
    file
}

struct Nginx {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Nginx {
    /// A snippet without TLS, on a free port of 127.0.0.1, with one process, and what the snippet says
    /// of the file around it.
    fn start(snippet: &str, upstream: SocketAddr) -> Nginx {
        let folder = tempfile::tempdir().unwrap();
        let address = proxy::free_address();
        std::fs::write(
            folder.path().join("paidup.conf"),
            local(snippet, address, upstream),
        )
        .unwrap();
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, around(snippet, folder.path())).unwrap();
        let child = Command::new("nginx")
            .args(["-e", "stderr", "-p"])
            .arg(folder.path())
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("nginx is not there: {error}"));
        let nginx = Nginx {
            child,
            address,
            _folder: folder,
        };
        eventually("nginx listens", || TcpStream::connect(address).is_ok());
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Not killed: its workers would live on.
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        );
        let _ = self.child.wait();
    }
}

fn around(snippet: &str, folder: &Path) -> String {
    let said: Vec<&str> = snippet
        .lines()
        .filter_map(|line| line.strip_prefix("#   "))
        .collect();
    let is_root = rustix::process::geteuid().is_root();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {}/{name};\n", folder.display()))
        .collect();
    format!(
        "daemon off;\nworker_processes 1;\n{}pid {folder}/pid;\n{}\nhttp {{\naccess_log off;\n\
         {temporary}include {folder}/paidup.conf;\n}}\n",
        if is_root { "user root;\n" } else { "" },
        if said.is_empty() {
            "events { worker_connections 768; }".to_owned()
        } else {
            said.join("\n")
        },
        folder = folder.display(),
    )
}

fn local(snippet: &str, address: SocketAddr, upstream: SocketAddr) -> String {
    let has_tls = |line: &&str| line.contains("ssl_") || line.contains("[::]");
    let plain: Vec<&str> = snippet.lines().filter(|line| !has_tls(line)).collect();
    plain
        .join("\n")
        .replace("443 ssl", &address.to_string())
        .replace("127.0.0.1:4242", &upstream.to_string())
}
