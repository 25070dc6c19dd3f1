//! The log (`-wal`) grows while somebody reads, and is short again when nobody does.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::harness::{Service, Setup, paid};

/// What the log is cut to, and a little more.
const SHORT: u64 = 66 << 20;
/// What a reader makes of it here.
const LONG: u64 = 160 << 20;

#[test]
fn a_reader_under_load_leaves_no_long_log_behind() {
    let setup = Setup::new();
    let service = setup.start();
    let log = setup.folder().join("paidup.db-wal");
    service.accepts(paid("first"), "applied");
    let reader = read_on(&setup.database());
    let (with_reader, longest) = load(&service, || bytes(&log) > LONG);
    let grown = bytes(&log);
    let metrics = service.admin_get("/metrics").body;
    let metric = format!("\npaidup_database_log_size_bytes {grown}\n");
    assert!(metrics.contains(&metric), "{metrics}");
    let (_, said) = setup.run(&["check"]);
    let me = "MiB; read by ";
    let pid = format!("(process {})", std::process::id());
    assert!(said.contains(me) && said.contains(&pid), "{said}");
    drop(reader);
    let left = Instant::now();
    let (after, after_longest) = load(&service, || bytes(&log) < SHORT);
    eprintln!(
        "{with_reader} deliveries beside a reader, the slowest {longest:?}; a log of {grown} bytes was {} \
         {:?} after it left, over {after} deliveries, the slowest {after_longest:?}",
        bytes(&log),
        left.elapsed(),
    );
    assert!(grown > LONG);
    let (_, said) = setup.run(&["check"]);
    assert!(!said.contains("-wal"), "{said}");
}

/// Deliveries from all sides until it holds: how many, and how long the slowest took.
fn load(service: &Service, holds: impl Fn() -> bool) -> (usize, Duration) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let began = NUMBER.load(SeqCst);
    let slowest = thread::scope(|scope| {
        let clients: Vec<_> = (0..12)
            .map(|_| {
                scope.spawn(|| {
                    let mut slowest = Duration::ZERO;
                    while !is_over.load(SeqCst) {
                        let name = NUMBER.fetch_add(1, SeqCst).to_string();
                        let sent = Instant::now();
                        assert_eq!(service.deliver(paid(&name)).status, 200);
                        slowest = slowest.max(sent.elapsed());
                    }
                    slowest
                })
            })
            .collect();
        let until = Instant::now() + Duration::from_secs(60);
        while !holds() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        is_over.store(true, SeqCst);
        assert!(holds(), "not within a minute");
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .max()
    });
    (NUMBER.load(SeqCst) - began, slowest.unwrap())
}

fn bytes(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

/// Another program that began to read and does not end.
fn read_on(database: &Path) -> Connection {
    let connection = Connection::open(database).unwrap();
    let sql = "BEGIN; SELECT count(*) FROM orders";
    connection.execute_batch(sql).unwrap();
    connection
}
