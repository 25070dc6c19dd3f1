//! The pages in a real browser: Debian's Chromium, and axe-core for those who do not see or use no mouse.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value, json};

use crate::harness::{Setup, changed, eventually, paid};
use crate::tools;

const PASSWORD: &str = "the-password-of-the-tests";
/// What a stranger may make of an order's id.
const HOSTILE: [&str; 2] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)> ' onmouseover='alert(2) \u{202e}gnp.\nexe",
];
/// A picture in the README weighs less.
const PICTURE_MAX_BYTES: u64 = 100 * 1024;

#[test]
fn the_pages_are_for_everybody_and_for_nobody_elses_site() {
    let setup = Setup::new().set("PAGE_PASSWORD", PASSWORD);
    tell_stories(&setup);
    let port = setup
        .again()
        .set("PAGE_ADDR", "127.0.0.1:0")
        .start_with(&["page"]);
    let path = setup.folder().join("page.sock");
    let address = format!("unix:{}", path.display());
    let open = setup
        .again()
        .set("PAGE_ADDR", &address)
        .set("PAGE_PASSWORD", "");
    let _open = open.start_with(&["page"]);
    let tunnel = Tunnel::open(setup.folder(), &path);
    let demo = Demo::start(&setup);
    let login = json!({"username": "paidup", "password": PASSWORD});
    let picture = |path: &str, file: &str, options: Value| {
        json!({"path": path, "file": picture_file(file), "options": options,
               "base": {"url": demo.url, "login": {"username": "paidup", "password": demo.key}}})
    };
    // Down to the end of a part.
    let screen =
        |height: u32| json!({"viewport": {"width": 760, "height": height}, "fullPage": false});
    let pictures = [
        picture("/", "page.png", screen(835)),
        picture("/orders/ord_1001", "order.png", screen(885)),
    ];
    let asked = json!({
        "base": format!("http://{}", port.edge),
        "login": login,
        "paths": ["/", "/orders", "/orders?attention=1", "/orders/ord_1", "/orders/ord_2", "/orders/ord_held",
                  "/orders/ord_dinar", "/money",
                  "/money?by=month", "/health", "/nothing",
                  order_path(HOSTILE[0]), order_path(HOSTILE[1])],
        "printed": "/orders/ord_1",
        "ports": [port.edge.port(), tunnel.port],
        "open": tunnel.port,
        "stranger": format!("http://stranger.example:{}/", stranger()),
        "pictures": pictures.iter().chain(&own_pictures(&port.edge.to_string(), &login)).collect::<Vec<_>>(),
    });
    let seen = look(&asked);
    for nothing in ["console", "axe", "wide", "differs", "leaks"] {
        assert_eq!(seen[nothing], json!([]), "{nothing}");
    }
    assert_eq!(seen["evil"], json!([421, 421]));
    assert_eq!(seen["printed"], 1, "the printed order");
    assert_eq!(seen["keyboard"], "skip #main");
    for file in ["page.png", "order.png"] {
        let shown = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("docs")
            .join(file);
        for picture in [shown, picture_file(file)] {
            let bytes = fs::metadata(&picture).unwrap().len();
            assert!(bytes < PICTURE_MAX_BYTES, "{}: {bytes}", picture.display());
        }
    }
}

fn order_path(id: &str) -> String {
    let bytes: Vec<String> = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("/orders/{}", bytes.concat())
}

/// Where a picture goes: those in docs/ are made anew with `PAIDUP_PICTURES=docs`.
fn picture_file(file: &str) -> PathBuf {
    let folder = std::env::var("PAIDUP_PICTURES").unwrap_or_else(|_| "target/peers".to_owned());
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(folder)
        .join(file)
}

/// With `PAIDUP_SHOTS=FOLDER`, pictures of all pages to look at.
fn own_pictures(address: &str, login: &Value) -> Vec<Value> {
    let Ok(folder) = std::env::var("PAIDUP_SHOTS") else {
        return Vec::new();
    };
    let base = json!({"url": format!("http://{address}"), "login": login});
    let mut pictures = Vec::new();
    for (name, options) in [
        ("light", json!({})),
        ("dark", json!({"colorScheme": "dark"})),
        ("small", json!({"viewport": {"width": 320, "height": 640}})),
        ("french", json!({"locale": "fr-FR"})),
    ] {
        for (page, path) in [
            ("home", "/"),
            ("orders", "/orders"),
            ("order", "/orders/ord_1"),
            ("disputed", "/orders/ord_2"),
            ("held", "/orders/ord_held"),
            ("dinar", "/orders/ord_dinar"),
            ("money", "/money"),
            ("months", "/money?by=month"),
            ("health", "/health"),
        ] {
            let file = format!("{folder}/{page}-{name}.png");
            pictures.push(json!({"path": path, "file": file, "options": options, "base": base}));
        }
    }
    pictures
}

/// Orders of every status, one paid twice, one disputed, one with a hostile name, and a payment of nobody's.
fn tell_stories(setup: &Setup) {
    let serve = setup.start();
    let now = paidup::host::clock::Now::read().unix.0;
    let of = |name: &str, ago: i64, change: &dyn Fn(&mut Value)| {
        changed(name, |event| {
            event["created"] = json!(now - ago);
            let session = &mut event["data"]["object"];
            session["created"] = json!(now - ago);
            change(session);
        })
    };
    const DAY: i64 = 24 * 60 * 60;
    for number in 0..60 {
        let name = format!("past{number}");
        let amount = 1_500 + number * 7_919 % 9_000;
        let text = of(&name, number * DAY * 5 / 6, &|session| {
            session["amount_total"] = json!(amount);
        });
        serve.accepts(text, "applied");
    }
    for (name, currency, amount) in [("yen", "jpy", 4_200), ("dinar", "kwd", 12_345)] {
        let text = of(name, DAY, &|session| {
            session["currency"] = json!(currency);
            session["amount_total"] = json!(amount);
        });
        serve.accepts(text, "applied");
    }
    for (name, kind, status) in [
        ("debit", "checkout.session.completed", "complete"),
        (
            "bounced",
            "checkout.session.async_payment_failed",
            "complete",
        ),
        ("late", "checkout.session.expired", "expired"),
    ] {
        let text = changed(name, |event| {
            event["type"] = json!(kind);
            event["created"] = json!(now - 120);
            let session = &mut event["data"]["object"];
            session["payment_status"] = json!("unpaid");
            session["status"] = json!(status);
        });
        serve.accepts(text, "applied");
    }
    for (name, kind, status, ago, outcome) in [
        (
            "held",
            "amount_capturable_updated",
            "requires_capture",
            90,
            "applied",
        ),
        ("given_up", "canceled", "canceled", 90, "applied"),
        (
            "declined",
            "payment_failed",
            "requires_payment_method",
            90,
            "applied",
        ),
        ("nobodys", "succeeded", "succeeded", 2 * DAY, "parked"),
    ] {
        let text = changed(name, |event| {
            event["type"] = json!(format!("payment_intent.{kind}"));
            event["created"] = json!(now - ago);
            event["data"]["object"] = json!({"id": format!("pi_{name}"), "object": "payment_intent",
                "amount": 4_900, "amount_received": if outcome == "parked" { 4_900 } else { 0 },
                "amount_capturable": if name == "held" { 4_900 } else { 0 }, "currency": "eur",
                "created": now - ago, "status": status, "capture_method": "manual",
                "metadata": if outcome == "parked" { json!({}) } else { json!({"order_id": format!("ord_{name}")}) }});
        });
        serve.accepts(text, outcome);
    }
    for (name, id) in [("hostile", HOSTILE[0]), ("worse", HOSTILE[1])] {
        let text = of(name, 60, &|session| {
            session["client_reference_id"] = Value::Null;
            session["metadata"] = json!({"order_id": id});
        });
        serve.accepts(text, "applied");
    }
    for name in ["1", "2"] {
        serve.accepts(paid(name), "applied");
    }
    serve.accepts(
        of("twice", 30, &|session| {
            session["client_reference_id"] = json!("ord_1");
        }),
        "applied",
    );
    let refund = json!({"id": "evt_refund", "object": "event", "type": "refund.created",
        "created": now, "livemode": false, "api_version": "2026-10-28.endive",
        "data": {"object": {"id": "re_1", "object": "refund", "amount": 500, "status": "succeeded",
            "currency": "eur", "created": now, "charge": "ch_1", "payment_intent": "pi_1"}}});
    serve.accepts(refund.to_string(), "applied");
    let whole = json!({"id": "evt_whole", "object": "event", "type": "refund.created",
        "created": now, "livemode": false, "api_version": "2026-10-28.endive",
        "data": {"object": {"id": "re_2", "object": "refund", "amount": 12_345, "status": "pending",
            "currency": "kwd", "created": now, "charge": "ch_3", "payment_intent": "pi_dinar"}}});
    serve.accepts(whole.to_string(), "applied");
    let dispute = json!({"id": "evt_dispute", "object": "event", "type": "charge.dispute.created",
        "created": now, "livemode": false, "api_version": "2026-10-28.endive",
        "data": {"object": {"id": "du_1", "object": "dispute", "amount": 2500, "currency": "eur",
            "status": "needs_response", "created": now, "charge": "ch_2", "payment_intent": "pi_2"}}});
    serve.accepts(dispute.to_string(), "applied");
}

fn look(asked: &Value) -> Value {
    let playwright = tools::npm("playwright-core", "1.64.1");
    let axe = tools::npm("axe-core", "4.14.1");
    let mut node = Command::new("node");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/page.js");
    let modules = [playwright, axe].map(|folder| folder.join("node_modules").display().to_string());
    node.arg(script).env("NODE_PATH", modules.join(":"));
    let output = tools::run_long(node, &asked.to_string());
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The demo with its orders left open to look at.
struct Demo {
    process: Child,
    url: String,
    key: String,
}

impl Demo {
    fn start(setup: &Setup) -> Demo {
        let mut command = setup.command(&["demo", "--page"]);
        command.env("TMPDIR", setup.folder()).stdout(Stdio::null());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap);
        let line = lines.find(|line| line.contains("http://")).unwrap();
        let (_, rest) = line.split_once("http://paidup:").unwrap();
        let (key, address) = rest.split_once('@').unwrap();
        Demo {
            process,
            url: format!("http://{}", address.trim_end_matches('/')),
            key: key.to_owned(),
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The README's `ssh -L` to the socket, through a server of this test's; both end when it goes out of scope.
struct Tunnel {
    processes: [Child; 2],
    port: u16,
}

impl Tunnel {
    fn open(folder: &Path, socket: &Path) -> Tunnel {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        for name in ["host_key", "user_key"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
            keygen.arg(folder.join(name));
            assert!(tools::run(keygen, "").status.success());
        }
        let (server, port) = (free_port(), free_port());
        let at = folder.display();
        let settings = write(
            "sshd_config",
            format!(
                "ListenAddress 127.0.0.1:{server}\nHostKey {at}/host_key\n\
                 AuthorizedKeysFile {at}/user_key.pub\nStrictModes no\nUsePAM no\nPidFile none\n"
            ),
        );
        if rustix::process::geteuid().is_root() {
            // Where root's sshd puts a process that is not let in yet.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let sshd = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(settings)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        await_port(server);
        let settings = write(
            "ssh_config",
            format!(
                "Host HOST\nHostName 127.0.0.1\nPort {server}\nIdentityFile {at}/user_key\n\
                 IdentitiesOnly yes\nStrictHostKeyChecking no\nLogLevel ERROR\nUserKnownHostsFile {at}/known\nBatchMode yes\n"
            ),
        );
        let readme = include_str!("../../README.md");
        let line = readme.lines().find(|line| line.contains("ssh -N -L"));
        let (pasted, _) = line.unwrap().trim().split_once('#').unwrap();
        let pasted = pasted
            .replacen("ssh ", &format!("exec ssh -F {} ", settings.display()), 1)
            .replace("4245", &port.to_string())
            .replace("/run/paidup/page.sock", &socket.display().to_string());
        let ssh = Command::new("sh").args(["-c", &pasted]).spawn().unwrap();
        let tunnel = Tunnel {
            processes: [ssh, sshd],
            port,
        };
        await_port(port);
        tunnel
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn await_port(port: u16) {
    eventually("somebody listens", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
}

/// A site of somebody else's; its port.
fn stranger() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            thread::spawn(move || {
                if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                    let text = "<!doctype html><title>x</title><body>x</body>";
                    let head =
                        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n";
                    let length = text.len();
                    let _ = write!(stream, "{head}Content-Length: {length}\r\n\r\n{text}");
                }
            });
        }
    });
    port
}
