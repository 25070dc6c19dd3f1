//! The log as the service manager sees it: what one process writes to its stdout.
//!
//! A process has one logger, so each test runs this binary again as a child with a stdout of its own.

use std::io::{Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use log::LevelFilter;
use paidup::base::log_line::{ErrorCode, LogFields, Message};
use paidup::host::logger;

const CHILD: &str = "PAIDUP_LOGGER_TEST_CHILD";
const CANARY: &str = "ada@example.com";

#[test]
fn lines_of_our_own_come_out_and_nothing_else_does() {
    let (mut child, stdout) = spawn();
    go_ahead(&mut child);

    let lines = json_lines(stdout);
    assert!(child.wait().unwrap().success());
    let texts: Vec<_> = lines.iter().map(|line| &line["message"]).collect();
    let limited = "Webhook rate limit exceeded (429)";
    assert_eq!(texts, ["Ready", "Order paid", limited, "Panic", "Stopped"]);

    assert_eq!(lines[0]["level"], "info");
    let time = lines[0]["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z'), "{time}");

    // Three lines went in together: the one below the level is left out.
    assert_eq!(lines[2]["level"], "warn");
    assert_eq!(lines[2]["status"], 429);
    assert_eq!(lines[1]["time"], lines[2]["time"]);

    assert_eq!(lines[3]["level"], "error");
    let place = lines[3]["errorCode"].as_str().unwrap();
    assert!(place.starts_with("tests/suite/logger.rs:"), "{place}");

    let everything = format!("{lines:?}") + &stderr_of(&mut child);
    assert!(!everything.contains(CANARY), "{everything}");
}

#[test]
fn a_closed_stdout_costs_the_lines_and_nothing_else() {
    let (mut child, stdout) = spawn();
    drop(stdout);
    go_ahead(&mut child);

    assert!(child.wait().unwrap().success());
    assert!(stderr_of(&mut child).contains("survived"));
}

/// What the child does. As an ordinary test, without its variable, it does nothing.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    eprintln!("started");
    std::io::stdin().read_exact(&mut [0]).unwrap();

    logger::start(LevelFilter::Info).unwrap();
    logger::start(LevelFilter::Debug).unwrap();
    let fields = LogFields::default();
    logger::write(Message::Ready, &fields);
    logger::write(Message::HealthServed, &fields);
    log::error!("{CANARY}");
    log::error!(target: "paidup::domain", "{CANARY}");
    let limited = LogFields {
        status: Some(429),
        error_code: Some(ErrorCode::RateLimited),
        ..LogFields::default()
    };
    logger::write_all(&[
        (Message::OrderPaid, &fields),
        (Message::HealthServed, &fields),
        (Message::RateLimited, &limited),
    ]);
    logger::write_all::<LogFields>(&[]);
    logger::write_all(&[(Message::HealthServed, &fields)]);
    let panicked = std::thread::spawn(|| panic!("{CANARY}")).join();
    assert!(panicked.is_err());
    logger::write(Message::Stopped, &fields);

    logger::flush(logger::END_PATIENCE);

    eprintln!("survived");
    // Not back to the test harness, which would want to print to that stdout.
    std::process::exit(0);
}

fn spawn() -> (Child, ChildStdout) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "logger::child", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The harness in the child has printed what it prints first when the child says this.
    let mut started = [0; 8];
    let stderr = child.stderr.as_mut().unwrap();
    stderr.read_exact(&mut started).unwrap();
    assert_eq!(&started, b"started\n");
    let stdout = child.stdout.take().unwrap();
    (child, stdout)
}

fn go_ahead(child: &mut Child) {
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
}

/// The lines that begin as one of ours does; the rest is the test harness's.
fn json_lines(mut stdout: ChildStdout) -> Vec<serde_json::Value> {
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    let ours = text.lines().filter(|line| line.starts_with('{'));
    ours.map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn stderr_of(child: &mut Child) -> String {
    let mut text = String::new();
    let stderr = child.stderr.as_mut().unwrap();
    stderr.read_to_string(&mut text).unwrap();
    text
}
