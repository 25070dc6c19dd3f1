//! The command line as an operator meets it: the real binary, its words, its exit codes.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use paidup::base::id::{RequestId, UnixSeconds};
use paidup::command::sample::SamplePayment;
use paidup::config::serve::Config;
use paidup::host::clock::Now;
use paidup::http::server::Stop;
use paidup::serve::process::{self, Running};
use paidup::store::{Store, StoredOrder};
use paidup::truth::delivery::Delivery;
use paidup::truth::event::Event;
use paidup::truth::order::{DisputeState, Status};
use paidup::truth::reading::Reading;
use serde_json::Value;
use tempfile::TempDir;

use crate::hints;

const SECRET: &str = "whsec_command_line";

// ── Words and exit codes ────────────────────────────────────────────────────────────────────────

#[test]
fn help_and_version_go_to_stdout_and_end_with_0() {
    let shop = Shop::open();
    for (words, expected) in [
        ("help", "Usage: paidup COMMAND"),
        ("", "\nSee what was paid\n  page "),
        ("-v", concat!("paidup ", env!("CARGO_PKG_VERSION"))),
        ("--help", "Usage: paidup COMMAND"),
        ("help send-test", "--duplicate N"),
        ("send-test --help", "--duplicate N"),
        ("orders -h", "paidup orders show ID"),
        ("version", concat!("paidup ", env!("CARGO_PKG_VERSION"))),
    ] {
        let done = shop.run(words);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{words}");
        assert!(done.stdout.contains(expected), "{words}: {}", done.stdout);
    }
}

#[test]
fn wrong_words_go_to_stderr_and_end_with_2() {
    let shop = Shop::open();
    for (words, expected) in [
        ("bananas", "there is no command \"bananas\""),
        ("orders lst", "Did you mean `paidup orders list`?"),
        ("orders list --limit", "missing argument"),
    ] {
        let done = shop.run(words);
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{words}");
        assert!(done.stderr.contains(expected), "{words}: {}", done.stderr);
        assert!(
            done.stderr.contains("paidup help"),
            "{words}: {}",
            done.stderr
        );
    }
}

#[test]
fn a_wrong_configuration_tells_every_mistake_and_ends_with_78() {
    let mut shop = Shop::open();
    shop.vars.remove("STRIPE_WEBHOOK_SECRET");
    shop.set("HTTP_CONNECTIONS", "none");
    for words in ["serve", "send-test"] {
        let done = shop.run(words);
        assert_eq!((done.code, done.stdout.as_str()), (78, ""), "{words}");
        for variable in ["STRIPE_WEBHOOK_SECRET is not set", "HTTP_CONNECTIONS"] {
            assert!(done.stderr.contains(variable), "{words}: {}", done.stderr);
        }
    }
    let done = shop.run("serve --env-file /nowhere/paidup.env");
    assert_eq!(done.code, 78);
    assert!(
        done.stderr.contains("/nowhere/paidup.env cannot be read"),
        "{}",
        done.stderr
    );
}

#[test]
fn check_ends_with_3_when_it_finds_a_problem_and_with_0_when_not() {
    let mut shop = Shop::open();
    shop.set("LISTEN_ADDR", "127.0.0.1:0");
    shop.set("ADMIN_ADDR", "127.0.0.1:0");
    let done = shop.run("check");
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    shop.set("LISTEN_ADDR", "nowhere");
    let done = shop.run("check --json");
    assert_eq!((done.code, done.stderr.as_str()), (3, ""));
    let findings: Vec<Value> = done.json_lines();
    let is_problem = |finding: &&Value| finding["severity"] == "problem";
    let problem = findings.iter().find(is_problem).unwrap();
    assert!(
        problem["what"].as_str().unwrap().starts_with("LISTEN_ADDR"),
        "{problem}"
    );
}

#[test]
fn check_looks_at_each_file_that_holds_a_secret() {
    let mut shop = Shop::open();
    for (variable, name, words) in [
        ("STRIPE_WEBHOOK_SECRET_FILE", "secret", "forge payments"),
        ("STRIPE_SECRET_KEY_FILE", "key", "act on the Stripe account"),
        ("API_TOKEN_FILE", "token", "make orders"),
    ] {
        let path = shop.folder.path().join(name);
        std::fs::write(&path, SECRET).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        shop.set(variable, path.to_str().unwrap());
        let done = shop.run("check");
        assert_eq!(done.code, 3, "{}", done.stdout);
        for expected in [
            format!("{name} can be read by others on this machine (0640)"),
            words.to_owned(),
        ] {
            assert!(done.stdout.contains(&expected), "{}", done.stdout);
        }
    }
}

#[test]
fn check_looks_at_the_configuration_of_api_when_one_of_its_variables_is_set() {
    let mut shop = Shop::open();
    // For `reconcile` and `doctor`, which need no more than a key.
    shop.set("STRIPE_SECRET_KEY", "rk_test_1");
    assert!(!shop.run("check").stdout.contains("api"));
    // Somebody else's server may have the usual ports.
    shop.set("ADMIN_ADDR", "off");
    shop.set("API_ADDR", "0.0.0.0:4244");
    shop.set("DATABASE_PATH", ":memory:");
    let done = shop.run("check");
    assert_eq!(done.code, 3, "{}", done.stdout);
    for expected in ["API_ADDR is", "API_TOKEN is not set", "DATABASE_PATH is"] {
        assert_eq!(done.stdout.matches(expected).count(), 1, "{}", done.stdout);
    }
    shop.set("API_ADDR", "127.0.0.1:4244");
    shop.set("API_TOKEN", &"t".repeat(64));
    shop.set("DATABASE_PATH", "paidup.db");
    let done = shop.run("check");
    assert_eq!(done.code, 0, "{}", done.stdout);
    assert!(done.stdout.contains("`paidup api`"), "{}", done.stdout);
}

#[test]
fn a_command_ends_only_as_its_help_says() {
    let shop = Shop::open();
    for words in [
        "check",
        "doctor",
        "serve",
        "api",
        "orders list",
        "send-test",
    ] {
        let done = shop.run(&format!("{words} --env-file nowhere.env"));
        assert_eq!(done.code, 78, "{words}: {}", done.stderr);
        let help = shop.run(&format!("help {words}")).stdout;
        assert!(help.contains("\n  78  the configuration"), "{help}");
    }
}

#[test]
fn check_reads_an_environment_file_as_systemd_would() {
    let shop = Shop::open();
    let file = shop.folder.path().join("paidup.env");
    std::fs::write(&file, "export A=1\nSTRIPE_WEBHOOK_SECRET=\n").unwrap();
    let done = shop.run(&format!("check --env-file {}", file.display()));
    assert_eq!(done.code, 3, "{}", done.stdout);
    for expected in [
        "paidup.env: line 1: `export` is shell",
        "STRIPE_WEBHOOK_SECRET is not set or blank",
        "paidup.env can be read by others",
    ] {
        assert!(done.stdout.contains(expected), "{}", done.stdout);
    }
}

#[test]
fn serve_takes_its_variables_from_an_environment_file_and_stops_on_sigterm() {
    let shop = Shop::open();
    let file = shop.folder.path().join("paidup.env");
    let database = shop.folder.path().join("from-the-file.db");
    let text = format!(
        "STRIPE_WEBHOOK_SECRET=\"{SECRET}\"\nLISTEN_ADDR=127.0.0.1:0\nADMIN_ADDR=off\nDATABASE_PATH={}\n",
        database.display()
    );
    std::fs::write(&file, text).unwrap();
    let mut child = shop
        .command(&format!("serve --env-file {}", file.display()))
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
    let is_ready = |line: io::Result<String>| line.unwrap().contains("\"message\":\"Ready\"");
    assert!(log.any(is_ready), "it ended before it was ready");
    assert!(database.exists());
    let signal = format!("kill -TERM {}", child.id());
    assert!(
        Command::new("sh")
            .args(["-c", &signal])
            .status()
            .unwrap()
            .success()
    );
    assert!(child.wait().unwrap().success());
    assert!(log.any(|line| line.unwrap().contains("\"message\":\"Stopped\"")));
}

// ── Reading ─────────────────────────────────────────────────────────────────────────────────────

#[test]
fn reading_needs_the_database_alone() {
    let mut shop = Shop::open();
    shop.pay("ord_1");
    shop.vars.remove("STRIPE_WEBHOOK_SECRET");
    shop.set("LISTEN_ADDR", "nowhere");
    for words in [
        "orders list",
        "orders show ord_1",
        "events list",
        "events list --order ord_1",
    ] {
        let done = shop.run(words);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{words}");
        assert!(done.stdout.contains("ord_1"), "{words}: {}", done.stdout);
    }
}

#[test]
fn a_missing_database_is_named_and_not_made() {
    let mut shop = Shop::open();
    let path = shop.folder.path().join("missing.db");
    shop.set("DATABASE_PATH", path.to_str().unwrap());
    for words in [
        "orders list",
        "orders show x",
        "events list",
        "events show evt_1",
    ] {
        let done = shop.run(words);
        assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{words}");
        assert!(
            done.stderr.contains("there is no database at ")
                && done.stderr.contains("missing.db. "),
            "{}",
            done.stderr
        );
    }
    assert!(!path.exists());
    shop.set("DATABASE_PATH", ":memory:");
    assert_eq!(shop.run("orders list").code, 78);
}

#[test]
fn lists_are_one_json_object_a_line() {
    let shop = Shop::open();
    for order in ["ord_1", "ord_2", "ord_3"] {
        shop.pay(order);
    }
    let orders = shop
        .run("orders list --status paid --limit 2 --json")
        .json_lines();
    let ids: Vec<&str> = orders
        .iter()
        .map(|order| order["orderId"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["ord_3", "ord_2"]);
    assert_eq!(shop.run("orders list --status refunded --json").stdout, "");
    let events = shop.run("events list --order ord_1 --json").json_lines();
    assert_eq!(events.len(), 1);
    let id = events[0]["eventId"].as_str().unwrap();
    let event = shop
        .run(&format!("events show {id} --json"))
        .json_lines()
        .remove(0);
    assert_eq!(event, events[0]);
}

#[test]
fn what_is_not_there_ends_with_1_and_a_hint() {
    let shop = Shop::open();
    for (words, hint) in [
        ("orders show ord_0", "`paidup orders list`"),
        ("events show evt_0", "`paidup events list`"),
        ("events list --order ord_0", "`paidup orders list`"),
    ] {
        let done = shop.run(words);
        assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{words}");
        assert!(done.stderr.contains(hint), "{words}: {}", done.stderr);
    }
}

#[test]
fn an_order_id_cannot_steer_the_terminal() {
    let shop = Shop::open();
    let hostile = "a\u{1b}[2J\u{9b}31m\u{202e}\r\nb";
    shop.pay(hostile);
    let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    for words in [
        "orders list",
        "events list",
        "orders list --json",
        "events list --json",
    ] {
        let done = shop.run(words);
        assert_eq!(done.code, 0);
        assert!(!done.stdout.contains(steers), "{words}: {:?}", done.stdout);
    }
    let show = |id: &str| shop.command("orders show").arg(id).output().unwrap();
    let story = Done::from(show(hostile));
    assert!(
        story.stdout.starts_with("Order a\\u{1b}[2J"),
        "{:?}",
        story.stdout
    );
    assert!(!story.stdout.contains(steers));
    let missing = Done::from(show("\u{1b}[2J"));
    assert_eq!(missing.code, 1);
    assert!(!missing.stderr.contains(steers), "{:?}", missing.stderr);
    let order = shop.run("orders list --json").json_lines().remove(0);
    assert_eq!(order["orderId"], hostile, "JSON keeps the text");
}

#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    let shop = Shop::open();
    for number in 0..600 {
        shop.pay(&format!("ord_{number}"));
    }
    // More than a pipe holds, so that the command must meet the closed pipe.
    assert!(shop.run("orders list --json --limit 600").stdout.len() > 128 * 1024);
    let mut child = shop
        .command("orders list --json --limit 600")
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.contains("ord_599"));
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(
        (child.wait().unwrap().code(), stderr.as_str()),
        (Some(0), "")
    );
}

#[test]
fn the_names_in_json_have_one_casing_and_times_one_form() {
    let shop = Shop::open();
    shop.pay("ord_1");
    let event = shop.run("events list --json").json_lines().remove(0);
    let event = event["eventId"].as_str().unwrap().to_owned();
    for words in [
        "orders list --json".to_owned(),
        "orders show ord_1 --json".to_owned(),
        "events list --json".to_owned(),
        format!("events show {event} --json"),
        "db info --json".to_owned(),
        "db check --json".to_owned(),
        "check --json".to_owned(),
        "notify status --json".to_owned(),
    ] {
        for line in shop.run(&words).json_lines() {
            assert_json(&line, &words);
        }
    }
    for words in ["orders list", "orders show ord_1", "events list", "db info"] {
        let text = shop.run(words).stdout;
        assert!(text.contains("2026-11-18 11:06:40"), "{words}: {text}");
        assert!(!text.contains("2026-11-18T"), "{words}: {text}");
    }
}

/// Names are `likeThis`, and what looks like a time is RFC 3339.
fn assert_json(value: &Value, words: &str) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let is_camel = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
                // The names in it are statuses.
                let is_counts = name == "orders" && value.is_object();
                assert!(is_camel, "{words}: {name}");
                if !is_counts {
                    assert_json(value, words);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| assert_json(value, words)),
        Value::String(text) if text.starts_with("2026-") => {
            assert!(text.len() == 20 && text.ends_with('Z'), "{words}: {text}");
        }
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

#[test]
fn hints_fit_what_was_asked() {
    let shop = Shop::open();
    let none = shop.run("orders list").stdout;
    assert!(none.contains("`paidup send-test`"), "{none}");
    shop.pay("ord 1");
    let refunded = shop.run("orders list --status refunded").stdout;
    let expected =
        "There is no refunded order. `paidup orders list` shows those of every status.\n";
    assert_eq!(refunded, expected);
    let event = shop.run("events list --json").json_lines().remove(0);
    let event = event["eventId"].as_str().unwrap().to_owned();
    let said = |words: &str, id: &str| {
        let output = shop.command(words).arg(id).output().unwrap();
        let done = Done::from(output);
        assert_eq!(done.code, 1);
        done.stderr
    };
    let order = said("events show", "ord 1");
    assert!(order.contains("`paidup orders show 'ord 1'`"), "{order}");
    let shown = said("orders show", &event);
    assert!(
        shown.contains(&format!("`paidup events show {event}`")),
        "{shown}"
    );
}

// ── send-test ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn send_test_makes_a_paid_test_order_and_names_it() {
    let server = Server::start(&[]);
    let done = server.send("");
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (0, ""),
        "{}",
        done.stdout
    );
    let order = server.shop.orders().remove(0);
    assert_eq!(
        (order.state.status, order.state.amount),
        (Status::Paid, 2500)
    );
    assert!(order.name.as_str().starts_with("test_"));
    let hint = format!("paidup orders show {}", order.name.as_str());
    assert!(done.stdout.contains(&hint), "{}", done.stdout);
    assert!(done.stdout.contains("200 applied") && done.stdout.contains("  request "));
    server.send("");
    assert_eq!(
        server.shop.orders().len(),
        2,
        "each run has an order of its own"
    );
}

#[test]
fn send_test_sends_the_types_order_amount_and_currency_that_it_is_told() {
    let server = Server::start(&[]);
    let order = "--order test_1 --amount 1999 --currency jpy";
    assert_eq!(
        server
            .send(&format!("checkout.session.completed {order}"))
            .code,
        0
    );
    let done = server.send(&format!("refund.created {order}"));
    assert!(
        done.stdout.contains("200 applied"),
        "joined to the first call's: {}",
        done.stdout
    );
    let state = server.shop.order("test_1").state;
    assert_eq!(
        (state.status, state.amount, state.refunded),
        (Status::Refunded, 1999, 1999)
    );
    assert_eq!(state.currency.as_deref(), Some("jpy"));
    let parked = server.send("refund.created --order test_2");
    assert_eq!(parked.code, 0);
    assert!(
        parked.stdout.contains("parked: kept until"),
        "{}",
        parked.stdout
    );
}

#[test]
fn send_test_repeats_and_shuffles_a_whole_life() {
    let server = Server::start(&[]);
    let done = server.send("--all --shuffle --duplicate 2 --order test_1");
    assert_eq!(done.code, 0, "{}", done.stdout);
    let rows = done
        .stdout
        .lines()
        .filter(|line| line.contains("  evt_test_"))
        .count();
    assert_eq!(rows, 26);
    let state = server.shop.order("test_1").state;
    assert_eq!(
        (state.status, state.dispute, state.refunded),
        (Status::Paid, DisputeState::Won, 0)
    );
    let events = server.shop.store().events(None, 100).unwrap();
    assert_eq!(events.len(), 13, "each event is in the ledger once");
}

#[test]
fn send_test_expects_forged_and_stale_events_to_be_refused() {
    let server = Server::start(&[]);
    for option in ["--forged", "--stale"] {
        let done = server.send(option);
        assert_eq!(done.code, 0, "{}", done.stdout);
        assert!(
            done.stdout.contains("400 Invalid signature"),
            "{}",
            done.stdout
        );
        assert!(
            done.stdout.contains("refused, as it must be"),
            "{}",
            done.stdout
        );
    }
    assert_eq!(server.shop.orders(), []);
}

#[test]
fn send_test_says_what_another_secret_a_wrong_path_and_a_full_bucket_mean() {
    let mut server = Server::start(&[("RATE_LIMIT_WEBHOOK_MAX", "2")]);
    server.shop.set("STRIPE_WEBHOOK_SECRET", "whsec_rolled");
    let done = server.send("");
    assert_eq!(done.code, 1);
    assert!(
        done.stdout.contains("another STRIPE_WEBHOOK_SECRET"),
        "{}",
        done.stdout
    );
    let log = "journalctl --namespace=paidup -u paidup";
    assert!(done.stdout.contains(log), "{}", done.stdout);
    assert!(!done.stdout.contains("whsec_"), "{}", done.stdout);

    let url = server.url.replace("/webhook", "/elsewhere");
    let done = server.shop.run(&format!("send-test --url {url}"));
    assert_eq!(done.code, 1);
    assert!(
        done.stdout.contains("The path is /stripe/webhook"),
        "{}",
        done.stdout
    );

    server.shop.set("STRIPE_WEBHOOK_SECRET", SECRET);
    let done = server.send("--duplicate 3");
    assert_eq!(done.code, 1);
    assert!(
        done.stdout.contains("RATE_LIMIT_WEBHOOK_EXEMPT"),
        "{}",
        done.stdout
    );
}

#[test]
fn send_test_explains_that_a_live_server_ignores_it() {
    let server = Server::start(&[("STRIPE_MODE", "live")]);
    let done = server.send("");
    assert_eq!(done.code, 0);
    assert!(
        done.stdout.contains("200 ignored (mode)"),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout.contains("the secret are right"),
        "{}",
        done.stdout
    );
    assert_eq!(server.shop.orders(), []);
}

#[test]
fn send_test_finds_the_server_by_listen_addr_and_says_when_it_is_not_there() {
    let mut server = Server::start(&[]);
    let address = server.running.as_ref().unwrap().edge_address().unwrap();
    server
        .shop
        .set("LISTEN_ADDR", &format!("0.0.0.0:{}", address.port()));
    assert_eq!(server.shop.run("send-test").code, 0);

    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    server
        .shop
        .set("LISTEN_ADDR", &free.local_addr().unwrap().to_string());
    drop(free);
    let done = server.shop.run("send-test");
    assert_eq!(done.code, 1);
    assert!(
        done.stdout.contains("Is `paidup serve` running"),
        "{}",
        done.stdout
    );

    server.shop.set("LISTEN_ADDR", "unix:/run/paidup/edge.sock");
    let done = server.shop.run("send-test");
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("--url https://"), "{}", done.stderr);
}

#[test]
fn send_test_reaches_a_server_on_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("edge.sock").display());
    let mut server = Server::start(&[("LISTEN_ADDR", &address)]);
    server.shop.set("LISTEN_ADDR", &address);
    let done = server.shop.run("send-test --order test_1");
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("200 applied"), "{}", done.stdout);
    assert!(done.stdout.contains(&address), "{}", done.stdout);
    assert_eq!(server.shop.run("orders show test_1").code, 0);
}

// ── demo ────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn the_demo_needs_nothing_and_leaves_nothing_behind_within_five_seconds() {
    let temporary = tempfile::tempdir().unwrap();
    let started = Now::read().instant;
    let output = Command::new(env!("CARGO_BIN_EXE_paidup"))
        .arg("demo")
        .env_clear()
        .env("TMPDIR", temporary.path())
        .current_dir(temporary.path())
        .output()
        .unwrap();
    let took = started.elapsed();
    let done = Done::from(output);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (0, ""),
        "{}",
        done.stdout
    );
    assert!(took.as_secs() < 5, "{took:?}");
    assert!(done.stdout.lines().count() <= 60, "{}", done.stdout);
    for expected in [
        "200 duplicate",
        "400 Invalid signature",
        "200 parked",
        "Order ord_1001 is partially_refunded",
        "25.00 EUR taken, 10.00 EUR given back, 15.00 EUR kept",
        "4200 JPY taken, 1200 JPY given back, 3000 JPY kept",
        "\"message\":\"Order paid\"",
        "\"errorCode\":\"Invalid signature (no match)\"",
    ] {
        assert!(
            done.stdout.contains(expected),
            "{expected}: {}",
            done.stdout
        );
    }
    for forbidden in ["whsec_", "EXPECTED", "example.com", "\u{1b}"] {
        assert!(
            !done.stdout.contains(forbidden),
            "{forbidden}: {}",
            done.stdout
        );
    }
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn a_demo_that_is_stopped_leaves_nothing_behind() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        let temporary = tempfile::tempdir().unwrap();
        let mut demo = Command::new(env!("CARGO_BIN_EXE_paidup"))
            .arg("demo")
            .env_clear()
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(demo.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert!(line.starts_with("A real server on"), "{line}");
        let stop = Command::new("kill")
            .args([signal, &demo.id().to_string()])
            .status();
        assert!(stop.unwrap().success());
        let _ = out.read_to_string(&mut line);
        assert!(demo.wait().unwrap().code().is_some(), "{signal} ended it");
        assert_eq!(
            std::fs::read_dir(temporary.path()).unwrap().count(),
            0,
            "{signal}"
        );
    }
}

// ── The shop, its server and its commands ───────────────────────────────────────────────────────

/// A database, and the environment of the commands that are run.
struct Shop {
    folder: TempDir,
    vars: BTreeMap<String, String>,
}

impl Shop {
    fn open() -> Shop {
        let folder = tempfile::tempdir().unwrap();
        let mut shop = Shop {
            folder,
            vars: BTreeMap::new(),
        };
        shop.set("DATABASE_PATH", shop.database().to_str().unwrap());
        shop.set("STRIPE_WEBHOOK_SECRET", SECRET);
        shop.store();
        shop
    }

    fn set(&mut self, name: &str, value: &str) {
        self.vars.insert(name.to_owned(), value.to_owned());
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("paidup.db")
    }

    fn store(&self) -> Store {
        Store::open(&self.database()).unwrap()
    }

    fn orders(&self) -> Vec<StoredOrder> {
        self.store().orders(None, 100).unwrap()
    }

    fn order(&self, name: &str) -> StoredOrder {
        self.store()
            .order(name)
            .unwrap()
            .unwrap_or_else(|| panic!("no order {name}"))
    }

    /// Records a paid session, without a server.
    fn pay(&self, order: &str) {
        let payment = SamplePayment::new(order, 2500, "eur", "2026-10-28.endive");
        let kind = "checkout.session.completed";
        let at = UnixSeconds(1_795_000_000);
        let mut store = self.store();
        let number = store
            .events(None, 1)
            .unwrap()
            .first()
            .map_or(0, |event| event.seq);
        let number = u64::try_from(number).unwrap();
        let document = payment.event(kind, payment.usual(kind), at, number);
        let delivery = Delivery {
            event: Event::from_json(&document.text, &Reading::default()).unwrap(),
            sha256: [7; 32],
            request_id: RequestId::parse("request-1").ok(),
            received: at,
        };
        store.record(&[delivery]).unwrap().remove(0).unwrap();
    }

    /// The binary with these words, this environment and nothing else.
    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paidup"));
        command
            .args(words.split_whitespace())
            .env_clear()
            .envs(&self.vars)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, words: &str) -> Done {
        Done::from(self.command(words).output().unwrap())
    }
}

/// What a command left.
struct Done {
    code: i32,
    stdout: String,
    stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Done {
        let done = Done {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        hints::paste(&format!("{}{}", done.stdout, done.stderr));
        done
    }
}

impl Done {
    fn json_lines(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// A server in this process, on a free port.
struct Server {
    shop: Shop,
    running: Option<Running>,
    url: String,
}

impl Server {
    fn start(more: &[(&str, &str)]) -> Server {
        let shop = Shop::open();
        let mut vars = shop.vars.clone();
        let ports = [
            ("LISTEN_ADDR", "127.0.0.1:0"),
            ("ADMIN_ADDR", "off"),
            ("HTTP_CONNECTIONS", "4"),
        ];
        for (name, value) in ports.iter().chain(more) {
            vars.insert((*name).to_owned(), (*value).to_owned());
        }
        let no_file = |_: &Path| Err(io::ErrorKind::NotFound.into());
        let running = process::start(&Config::parse(&vars, &no_file).unwrap()).unwrap();
        let address = running.edge_address().map(|address| address.to_string());
        let url = format!("http://{}/stripe/webhook", address.unwrap_or_default());
        Server {
            shop,
            running: Some(running),
            url,
        }
    }

    fn send(&self, options: &str) -> Done {
        self.shop
            .run(&format!("send-test --url {} {options}", self.url))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop(&Stop::Asked);
        }
    }
}

// ── Installing ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn folders_are_the_same_whatever_the_umask_of_who_installs() {
    for umask in ["000", "022", "077"] {
        let root = tempfile::tempdir().unwrap();
        let line = "umask \"$1\"; \"$2\" install --root \"$3\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", line, "sh", umask, env!("CARGO_BIN_EXE_paidup")]);
        let output = shell.arg(root.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut folders = vec![root.path().join("usr"), root.path().join("etc")];
        while let Some(folder) = folders.pop() {
            let mode = std::fs::metadata(&folder).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o755, "umask {umask}: {}", folder.display());
            let entries = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            folders.extend(entries.filter(|path| path.is_dir()));
        }
    }
}
