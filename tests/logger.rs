//! The log as the service manager sees it: what one process writes to its stdout.
//!
//! A process has one logger, so each test runs this binary again as a child whose stdout is a
//! datagram socket, where every call of `write` is one message.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::exit,
    clippy::disallowed_macros,
    reason = "a test fails by panicking, and plays another crate that logs by the usual macros"
)]

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use log::{Level, LevelFilter};
use paidup::domain::log_line::{ErrorCode, LogFields, Message};
use paidup::logger;

const CHILD: &str = "PAIDUP_LOGGER_TEST_CHILD";
const CANARY: &str = "ada@example.com";

#[test]
fn lines_of_our_own_come_out_and_nothing_else_does() {
    let (mut child, stdout) = spawn();
    go_ahead(&mut child);

    let writes = json_writes(&stdout, 4);
    assert!(child.wait().unwrap().success());
    let parsed: Vec<Vec<serde_json::Value>> = writes
        .iter()
        .map(|text| {
            let lines = text.strip_suffix('\n').unwrap().split('\n');
            lines.map(|l| serde_json::from_str(l).unwrap()).collect()
        })
        .collect();

    assert_eq!(parsed[0].len(), 1);
    assert_eq!(parsed[0][0]["message"], "Ready");
    assert_eq!(parsed[0][0]["level"], "info");
    let time = parsed[0][0]["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z'), "{time}");

    // Three lines went in together: the one below the level is left out, the others are one write.
    assert_eq!(parsed[1].len(), 2);
    assert_eq!(parsed[1][0]["message"], "Order paid");
    assert_eq!(parsed[1][1]["level"], "warn");
    assert_eq!(parsed[1][1]["status"], 429);
    assert_eq!(parsed[1][0]["time"], parsed[1][1]["time"]);

    assert_eq!(parsed[2][0]["message"], "Panic");
    assert_eq!(parsed[2][0]["level"], "error");
    let place = parsed[2][0]["errorCode"].as_str().unwrap();
    assert!(place.starts_with("tests/logger.rs:"), "{place}");

    assert_eq!(parsed[3][0]["message"], "Stopped");
    let everything = writes.concat() + &stderr_of(&mut child);
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

    logger::start(LevelFilter::Info);
    logger::start(LevelFilter::Debug);
    let fields = LogFields::default();
    logger::write(Level::Info, Message::Ready, &fields);
    logger::write(Level::Debug, Message::RequestServed, &fields);
    log::error!("{CANARY}");
    log::error!(target: "paidup::domain", "{CANARY}");
    let limited = LogFields {
        status: Some(429),
        error_code: Some(ErrorCode::RateLimited),
        ..LogFields::default()
    };
    logger::write_all(&[
        (Level::Info, Message::OrderPaid, &fields),
        (Level::Debug, Message::RequestServed, &fields),
        (Level::Warn, Message::RateLimited, &limited),
    ]);
    logger::write_all(&[]);
    logger::write_all(&[(Level::Debug, Message::RequestServed, &fields)]);
    let panicked = std::thread::spawn(|| panic!("{CANARY}")).join();
    assert!(panicked.is_err());
    logger::write(Level::Info, Message::Stopped, &fields);

    eprintln!("survived");
    // Not back to the test harness, which would want to print to that stdout.
    std::process::exit(0);
}

fn spawn() -> (Child, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(OwnedFd::from(theirs))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The harness in the child has printed what it prints first when the child says this.
    let mut started = [0; 8];
    let stderr = child.stderr.as_mut().unwrap();
    stderr.read_exact(&mut started).unwrap();
    assert_eq!(&started, b"started\n");
    (child, ours)
}

fn go_ahead(child: &mut Child) {
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
}

/// The first `count` writes that begin as a log line does; the rest is the test harness's.
fn json_writes(stdout: &UnixDatagram, count: usize) -> Vec<String> {
    let mut writes = Vec::new();
    while writes.len() < count {
        let mut buffer = [0; 4096];
        let length = stdout.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        if text.starts_with('{') {
            writes.push(text.to_owned());
        }
    }
    writes
}

fn stderr_of(child: &mut Child) -> String {
    let mut text = String::new();
    let stderr = child.stderr.as_mut().unwrap();
    stderr.read_to_string(&mut text).unwrap();
    text
}
