//! What others can do to a server by standing still: whoever reads its log, and whoever holds the
//! database.

use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Service, Setup, eventually, get, paid, post};

/// Far more than a pipe holds.
const MANY: usize = 600;
const LIMITED: &str = "Webhook rate limit exceeded (429)";

// ── The log ─────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_log_that_nobody_reads_costs_lines_and_nothing_else() {
    let setup = Setup::new()
        .set("RATE_LIMIT_WEBHOOK_MAX", "5")
        .set("RATE_LIMIT_WEBHOOK_COUNT", "unverified")
        .without_reader();
    let mut service = setup.start();
    for number in 0..MANY {
        service.accepts(paid(&format!("s{number}")), "applied");
    }
    let forged = post("/stripe/webhook", &[], b"{}");
    let limited = || {
        let statuses = (0..50).map(|_| service.ask(&forged).status);
        statuses.filter(|status| *status == 429).count()
    };
    let mut refused = limited();
    fill_the_queue(&service);
    // The queue is full of other lines, and these find room.
    refused += limited();
    assert_eq!(refused, 95);
    eventually("the operator can see it", || says_stalled(&service));
    assert_eq!(service.get("/healthz").status, 200);
    service.accepts(paid("last"), "applied");

    service.read_log();
    eventually("ready again", || service.admin_get("/readyz").status == 200);
    let dropped = metric(&service, "paidup_log_dropped_lines_total");
    assert!(dropped > 50, "{dropped}");
    service.accepts(paid("after"), "applied");
    let mut log = Vec::new();
    eventually("it flows", || {
        log = service.log();
        log.last().is_some_and(|it| it["orderId"] == "ord_after")
    });
    assert_eq!(told(&log), dropped, "a line says how many are missing");
    let count = |text: &str| log.iter().filter(|line| line["message"] == text).count();
    assert_eq!(count(LIMITED), refused, "exactly one line for each 429");
    assert_eq!(
        count("Order paid"),
        MANY + 1,
        "what came before it was full, and after"
    );
    service.signal(Signal::TERM);
    assert!(service.wait().success());
}

#[test]
fn a_server_ends_when_it_is_asked_to_though_nobody_reads_its_log() {
    let mut service = Setup::new().without_reader().start();
    for number in 0..MANY {
        service.accepts(paid(&format!("e{number}")), "applied");
    }
    let asked = Instant::now();
    service.signal(Signal::TERM);
    assert!(service.wait().success());
    assert!(asked.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_the_log_still_holds_at_an_orderly_end_comes_out() {
    let mut service = Setup::new().without_reader().start();
    for number in 0..MANY {
        service.accepts(paid(&format!("f{number}")), "applied");
    }
    service.signal(Signal::TERM);
    service.read_log();
    assert!(service.wait().success());
    let log = service.log();
    let count = |text: &str| log.iter().filter(|line| line["message"] == text).count();
    assert_eq!(count("Webhook applied"), MANY);
    assert_eq!(log.last().unwrap()["message"], "Stopped");
}

#[test]
fn who_loses_the_log_leaves_when_a_manager_starts_it_again() {
    let manager = Manager::new();
    let mut service = manager
        .watches(Setup::new().without_reader(), "30000000")
        .start();
    service.accepts(paid("l1"), "applied");
    service.lose_log();
    service.accepts(paid("l2"), "applied");
    assert_eq!(service.wait().code(), Some(74));
    assert!(service.words().contains("systemd-journald@paidup.service"));
    assert!(service.status_of("ord_l2").is_some());
}

#[test]
fn who_loses_the_log_goes_on_when_nobody_would_start_it_again() {
    let mut service = Setup::new().without_reader().start();
    service.lose_log();
    for number in 0..10 {
        service.accepts(paid(&format!("n{number}")), "applied");
    }
    eventually("the operator can see it", || says_stalled(&service));
    service.signal(Signal::TERM);
    assert!(service.wait().success());
}

#[test]
fn a_log_that_stands_still_for_ten_of_the_watchdogs_turns_is_given_up() {
    let manager = Manager::new();
    let mut service = manager
        .watches(Setup::new().without_reader(), "2000000")
        .start();
    for number in 0..200 {
        service.accepts(paid(&format!("g{number}")), "applied");
    }
    let (gaps, status) = manager.listen(Duration::from_secs(9));
    assert!(gaps.iter().all(|gap| *gap < 2.0), "{gaps:?}");
    assert!(status.contains("nobody reads the log"), "{status}");
    assert_eq!(service.wait().code(), Some(74));
}

fn says_stalled(service: &Service) -> bool {
    let answer = service.admin_get("/readyz");
    answer.status == 503 && answer.json()["error"] == "log_stalled"
}

/// Asks for nothing until lines are dropped.
fn fill_the_queue(service: &Service) {
    let (is_full, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_full.load(SeqCst) && asked.fetch_add(1, SeqCst) < 60_000 {
                    assert_eq!(service.ask(get("/nothing")).status, 404);
                }
            });
        }
        eventually("the queue is full", || {
            metric(service, "paidup_log_dropped_lines_total") > 0
        });
        is_full.store(true, SeqCst);
    });
}

fn metric(service: &Service, name: &str) -> u64 {
    let text = service.admin_get("/metrics").body;
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap().parse().unwrap()
}

/// How many lines the log says are missing.
fn told(log: &[Value]) -> u64 {
    let text = "Log lines dropped: whoever reads the log stood still";
    let lines = log.iter().filter(|line| line["message"] == text);
    let count = lines.map(|line| {
        let code = line["errorCode"].as_str().unwrap();
        let count = code.strip_prefix("lines_dropped_").unwrap();
        count.parse::<u64>().unwrap()
    });
    count.sum()
}

// ── The database ────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_watchdog_hears_every_beat_while_another_program_holds_the_write_lock() {
    let manager = Manager::new();
    let service = manager.watches(Setup::new(), "3000000").start();
    service.accepts(paid("w1"), "applied");
    let other = rusqlite::Connection::open(service.database()).unwrap();
    // Long enough that a delivery is refused, and that each beat of the old kind came late.
    for is_asked in [false, true] {
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let is_over = AtomicBool::new(!is_asked);
        thread::scope(|scope| {
            for sender in 0..4 {
                let (service, is_over) = (&service, &is_over);
                scope.spawn(move || {
                    let mut number = 0;
                    while !is_over.load(SeqCst) {
                        number += 1;
                        let status = service.deliver(paid(&format!("w{sender}_{number}"))).status;
                        assert!(status == 503 || status == 200, "{status}");
                    }
                });
            }
            let (gaps, status) = manager.listen(Duration::from_secs(9));
            assert!(gaps.iter().all(|gap| *gap < 3.0), "{gaps:?}");
            assert!(status.contains("Another process holds"), "{status}");
            assert_eq!(service.admin_get("/readyz").status, 503);
            is_over.store(true, SeqCst);
            other.execute_batch("COMMIT").unwrap();
        });
    }
    eventually("the status is well again", || {
        let (_, status) = manager.listen(Duration::from_secs(2));
        status == "Taking deliveries"
    });
    assert_eq!(service.admin_get("/readyz").status, 200);
}

/// The service manager, as far as it hears.
struct Manager {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        Manager { socket, folder }
    }

    fn watches(&self, setup: Setup, patience_micros: &str) -> Setup {
        let path = self.folder.path().join("notify");
        setup
            .set("NOTIFY_SOCKET", path.to_str().unwrap())
            .set("WATCHDOG_USEC", patience_micros)
    }

    /// Listens for so long: the seconds between signs of life, and the last status.
    fn listen(&self, time: Duration) -> (Vec<f64>, String) {
        let pause = Duration::from_millis(20);
        self.socket.set_read_timeout(Some(pause)).unwrap();
        let mut buffer = [0; 1000];
        let mut status = String::new();
        // What has waited since the last time is old.
        while self.socket.recv(&mut buffer).is_ok() {}
        let began = Instant::now();
        let (mut last, mut gaps) = (began, Vec::new());
        while began.elapsed() < time {
            if let Ok(length) = self.socket.recv(&mut buffer) {
                let text = std::str::from_utf8(&buffer[..length]).unwrap();
                if let Some(rest) = text.strip_prefix("WATCHDOG=1\nSTATUS=") {
                    rest.clone_into(&mut status);
                    gaps.push(last.elapsed().as_secs_f64());
                    last = Instant::now();
                }
            }
        }
        gaps.push(last.elapsed().as_secs_f64());
        (gaps, status)
    }
}
