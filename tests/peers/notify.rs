//! What `paidup notify` sends, read by the official libraries of Standard Webhooks, and by the receivers
//! that shops may copy.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::receiver::{Heard, Receiver, Reply};
use crate::harness::{Service, Setup, changed, eventually, get, paid};
use crate::{openapi, tools};

const KEYS: [&str; 2] = [
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
];
const OTHER: &str = "whsec_BBECAwQFBgcICQoLDA0ODxAREhMUFRYX";

fn notify(setup: &Setup) -> Service {
    setup.start_with(&["notify"])
}

/// A message of each kind, signed with both secrets of a rotation.
fn messages() -> Vec<Heard> {
    let receiver = Receiver::start(|_| Reply::Status(200));
    let setup = Setup::new()
        .set("NOTIFY_URL", &receiver.url())
        .set("NOTIFY_SECRET", &KEYS.join(","));
    let server = setup.start();
    let _notify = notify(&setup);
    server.accepts(paid("a"), "applied");
    server.accepts(
        changed("b", |event| {
            event["data"]["object"]["client_reference_id"] = json!("Café & thé 🫖 \"1\"");
        }),
        "applied",
    );
    assert_eq!(setup.run(&["notify", "test"]).0, 0);
    eventually("all are told", || receiver.shop.heard().len() == 3);
    receiver.shop.heard()
}

/// `verify` is given secret, headers and body, and says whether the library takes it.
fn takes_what_is_ours_alone(verify: impl Fn(&str, &Value, &str) -> bool) {
    for heard in messages() {
        let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
        let headers: serde_json::Map<String, Value> = names
            .map(|name| (name.to_owned(), json!(heard.header(name))))
            .into_iter()
            .collect();
        let changed = |name: &str, value: String| {
            let mut headers = headers.clone();
            headers.insert(name.to_owned(), json!(value));
            Value::Object(headers)
        };
        let good = Value::Object(headers.clone());
        for key in KEYS {
            assert!(verify(key, &good, &heard.body), "{heard:?}");
        }
        assert!(!verify(OTHER, &good, &heard.body), "forged");
        let stale: i64 = heard.header("webhook-timestamp").parse().unwrap();
        let stale = changed("webhook-timestamp", (stale - 600).to_string());
        assert!(!verify(KEYS[0], &stale, &heard.body), "stale");
        let renamed = changed("webhook-id", "msg_other".to_owned());
        assert!(!verify(KEYS[0], &renamed, &heard.body), "another id");
        let spaced = heard.body.replacen(':', ": ", 1);
        assert!(!verify(KEYS[0], &good, &spaced), "written in another way");
    }
}

fn exits(mut command: Command, secret: &str, headers: &Value, body: &str) -> bool {
    command
        .env("SECRET", secret)
        .env("HEADERS", headers.to_string());
    let output = tools::run(command, body);
    match output.status.code() {
        Some(0) => true,
        Some(9) => false,
        _ => panic!("{output:?}"),
    }
}

fn node(package: &'static str, version: &str) {
    let folder = tools::npm(package, version);
    let script = format!(
        "const {{ Webhook }} = require('{package}');
         const body = require('fs').readFileSync(0, 'utf8');
         const webhook = new Webhook(process.env.SECRET);
         try {{ webhook.verify(body, JSON.parse(process.env.HEADERS)); }}
         catch (error) {{ if (error.name !== 'Error' && !/Verification/.test(error.constructor.name)) throw error; process.exit(9); }}"
    );
    takes_what_is_ours_alone(|secret, headers, body| {
        let mut node = Command::new("node");
        node.args(["-e", &script]).current_dir(&folder);
        exits(node, secret, headers, body)
    });
}

fn python(package: &'static str, version: &str) {
    let folder = tools::pypi(package, version);
    let script = format!(
        "
import json, os, sys
from {package}.webhooks import Webhook, WebhookVerificationError
try:
    Webhook(os.environ['SECRET']).verify(sys.stdin.buffer.read(), json.loads(os.environ['HEADERS']))
except WebhookVerificationError:
    sys.exit(9)
"
    );
    takes_what_is_ours_alone(|secret, headers, body| {
        let mut python = Command::new("python3");
        python.args(["-c", &script]).env("PYTHONPATH", &folder);
        exits(python, secret, headers, body)
    });
}

#[test]
fn the_official_node_library_takes_what_is_ours_alone() {
    node("standardwebhooks", "1.1.1");
}

#[test]
fn the_official_python_library_takes_what_is_ours_alone() {
    python("standardwebhooks", "1.1.0");
}

#[test]
fn svix_takes_what_is_ours_alone() {
    node("svix", "2.5.0");
    python("svix", "2.9.1");
}

/// A program of ours that shops may copy, in a folder of its own with its database.
struct Copied {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Drop for Copied {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn source(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/receivers");
    folder.join(name)
}

/// Started as the README says, on a free port, where `install` has put what it says to install.
fn receiver(name: &str, packages: &[&str], install: impl FnOnce(&Path)) -> Copied {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(source(name), folder.path().join(name)).unwrap();
    install(folder.path());
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let readme = include_str!("../../README.md").lines();
    let mut lines = readme.map(|line| line.split("   #").next().unwrap().trim());
    let line = lines.find(|line| line.ends_with(&format!(" {name}")));
    let line = line.unwrap();
    for package in packages {
        assert!(line.contains(&format!(" {package} ")), "{line}");
    }
    let last = line.rsplit(" && ").next().unwrap();
    let own_port = format!("exec {}", last.replace("8000", &port.to_string()));
    let mut command = Command::new("sh");
    command
        .args(["-c", &own_port])
        .current_dir(folder.path())
        .env("NOTIFY_SECRET", KEYS[0])
        .env("PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn().unwrap();
    eventually("it listens", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    Copied {
        child,
        folder,
        port,
    }
}

/// Orders, their status and what they became, as the sqlite3 program reads them in a copy: a driver that
/// locks in another way would take it for a crash.
fn rows(folder: &Path) -> String {
    let copy = folder.join("copy.db");
    if fs::copy(folder.join("shop.db"), &copy).is_err() {
        return String::new();
    }
    let mut sqlite = Command::new("sqlite3");
    let sql = "SELECT id, json_extract(body, '$.status'), became FROM orders ORDER BY id";
    sqlite.arg(&copy).arg(sql);
    let output = tools::run(sqlite, "");
    String::from_utf8(output.stdout).unwrap()
}

/// A rename, a refund, and a message that comes too late.
fn keeps_the_newest(copied: &Copied) {
    let setup = Setup::new()
        .set("NOTIFY_URL", &format!("http://127.0.0.1:{}", copied.port))
        .set("NOTIFY_SECRET", KEYS[0]);
    let server = setup.start();
    let _notify = notify(&setup);
    let rows = || rows(copied.folder.path());
    assert_eq!(setup.run(&["notify", "test"]).0, 0);
    let (code, said) = setup
        .again()
        .set("NOTIFY_SECRET", OTHER)
        .run(&["notify", "test"]);
    assert!(code == 1 && said.contains("status 400"), "{said}");
    let unnamed = changed("a", |event| {
        event["data"]["object"]["client_reference_id"] = Value::Null;
    });
    server.accepts(unnamed, "applied");
    eventually("it is stored", || rows() == "cs_test_a|paid|\n");
    server.accepts(refunded("a"), "applied");
    let all = "cs_test_a||ord_a\nord_a|refunded|\n";
    eventually("it is one order", || rows() == all);
    // The first message again, late: a replay of an old state is what a hung request is.
    let mut sqlite = Command::new("sqlite3");
    let sql = "UPDATE orders SET version = version + 1000, body = '{\"status\":\"newer\"}' WHERE id = 'ord_a'";
    sqlite.arg(copied.folder.path().join("shop.db")).arg(sql);
    assert!(tools::run(sqlite, "").status.success());
    assert_eq!(setup.run(&["notify", "replay", "--all"]).0, 0);
    server.accepts(paid("b"), "applied");
    eventually("the last is stored", || rows().contains("ord_b|paid|"));
    assert!(rows().contains("ord_a|newer|"), "{}", rows());
}

fn refunded(name: &str) -> String {
    json!({
        "id": format!("evt_refund_{name}"), "object": "event", "type": "charge.refunded",
        "api_version": "2026-10-28.endive", "created": 1_792_999_999, "livemode": false,
        "data": {"object": {
            "id": format!("ch_{name}"), "object": "charge", "payment_intent": format!("pi_{name}"),
            "amount": 2500, "amount_captured": 2500, "amount_refunded": 2500, "currency": "eur",
            "captured": true, "paid": true, "refunded": true, "status": "succeeded",
            "metadata": {"order_id": format!("ord_{name}")},
        }},
    })
    .to_string()
}

/// The folder with both packages, as `npm install` in the shop's own would make it.
fn node_modules(into: &Path) {
    let modules = into.join("node_modules");
    fs::create_dir_all(&modules).unwrap();
    for (package, version) in [
        ("standardwebhooks", "1.1.1"),
        ("node-sqlite3-wasm", "0.8.60"),
    ] {
        let installed = tools::npm(package, version).join("node_modules");
        for entry in fs::read_dir(installed).unwrap() {
            let entry = entry.unwrap();
            let _ = std::os::unix::fs::symlink(entry.path(), modules.join(entry.file_name()));
        }
    }
}

#[test]
fn the_node_receiver_keeps_the_newest() {
    let packages = ["standardwebhooks", "node-sqlite3-wasm"];
    keeps_the_newest(&receiver("receiver.mjs", &packages, node_modules));
}

#[test]
fn the_python_receiver_keeps_the_newest() {
    let packages = ["standardwebhooks"];
    keeps_the_newest(&receiver("receiver.py", &packages, |folder| {
        let library = tools::pypi(packages[0], "1.1.0");
        let python = folder.join("venv/bin/python");
        fs::create_dir_all(python.parent().unwrap()).unwrap();
        let ours = format!(
            "#!/bin/sh\nPYTHONPATH={} exec python3 \"$@\"\n",
            library.display()
        );
        fs::write(&python, ours).unwrap();
        fs::set_permissions(&python, PermissionsExt::from_mode(0o755)).unwrap();
    }));
}

#[test]
fn the_php_receiver_keeps_the_newest() {
    keeps_the_newest(&receiver("receiver.php", &[], |_| {}));
}

/// Those that ask, each in the shop's folder.
struct Askers(Vec<(&'static str, tempfile::TempDir)>);

impl Askers {
    fn new() -> Askers {
        let packages = tools::npm("node-sqlite3-wasm", "0.8.60");
        let all = ["ask.py", "ask.php", "ask.mjs"].map(|name| {
            let folder = tempfile::tempdir().unwrap();
            fs::copy(source(name), folder.path().join(name)).unwrap();
            let modules = folder.path().join("node_modules");
            std::os::unix::fs::symlink(packages.join("node_modules"), modules).unwrap();
            (name, folder)
        });
        Askers(all.into())
    }

    /// Once; then each has these rows.
    fn ask(&self, api: SocketAddr, expected: &str) {
        for (name, folder) in &self.0 {
            let program = match name.rsplit('.').next().unwrap() {
                "py" => "python3",
                "php" => "php",
                _ => "node",
            };
            let mut command = Command::new(program);
            command
                .arg(name)
                .current_dir(folder.path())
                .env("API_TOKEN", TOKEN)
                .env("PAIDUP_API", format!("http://{api}"));
            let output = tools::run(command, "");
            assert!(output.status.success(), "{name}: {output:?}");
            assert_eq!(rows(folder.path()), expected, "{name}");
        }
    }
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn who_asks_keeps_a_copy_as_well_and_asks_what_is_documented() {
    let setup = Setup::new()
        .set("API_ADDR", "127.0.0.1:0")
        .set("API_TOKEN", TOKEN)
        .set("STRIPE_SECRET_KEY", "sk_test_of_nobody");
    let server = setup.start();
    let api = setup.start_with(&["api"]);
    let askers = Askers::new();
    let ask = |expected: &str| askers.ask(api.edge, expected);
    let unnamed = changed("a", |event| {
        event["data"]["object"]["client_reference_id"] = Value::Null;
    });
    server.accepts(unnamed, "applied");
    ask("cs_test_a|paid|\n");
    server.accepts(refunded("a"), "applied");
    ask("cs_test_a||ord_a\nord_a|refunded|\n");
    ask("cs_test_a||ord_a\nord_a|refunded|\n");

    // In two pages, from somebody who writes down what is asked.
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let request = get("/orders").replace("Connection", &format!("{token}Connection"));
    let mut page = api.ask(request).json();
    page["reset"] = json!(true);
    let answer = |page: &Value| json!({"kind": "answer", "method": "GET", "route": "/orders", "status": 200, "body": page.to_string()});
    let mut lines = vec![answer(&page).to_string()];
    let recorder = Receiver::start(move |heard| {
        let mut page = page.clone();
        page["hasMore"] = json!(!heard.head.contains("cursor="));
        let page = page.to_string();
        let head = format!(
            "HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            page.len()
        );
        Reply::Bytes((head + &page).into())
    });
    Askers::new().ask(recorder.address, "cs_test_a||ord_a\nord_a|refunded|\n");
    let asked = recorder.shop.heard();
    assert_eq!(asked.len(), 2 * askers.0.len(), "{asked:?}");
    for heard in asked {
        assert_eq!(heard.header("authorization"), format!("Bearer {TOKEN}"));
        let mut words = heard.head.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let question = json!({"kind": "question", "method": method, "target": target});
        lines.push(question.to_string());
    }
    let undocumented = |lines: &[String]| -> Vec<Value> {
        let verdict = openapi::validate(&lines.join("\n"));
        let problems = verdict["problems"].as_array().unwrap().iter();
        let is_known = |problem: &&Value| problem.as_str().unwrap().ends_with("was never seen");
        problems.filter(|one| !is_known(one)).cloned().collect()
    };
    assert_eq!(undocumented(&lines), [""; 0]);
    let odd =
        |target: &str| json!({"kind": "question", "method": "GET", "target": target}).to_string();
    let odd = ["/order", "/orders?limit=101", "/orders?page=2"].map(odd);
    assert_eq!(undocumented(&odd).len(), odd.len());
}
