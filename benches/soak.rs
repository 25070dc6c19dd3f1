//! Good and hostile clients at once, for minutes, at half of what the server can do: memory, threads
//! and descriptors stay as they are, and the last part of the time is served as fast as the first.
//!
//! `cargo bench --bench soak -- 10` takes ten minutes; without a number half a minute.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, prints, and ends when something is wrong"
)]

mod load;
#[path = "load/server.rs"]
mod server;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use load::requests;
use server::{Server, millis, on_schedule, without_pause};

const CLIENTS: usize = 32;
const HOSTILE: usize = 4;
/// How long capacity is measured.
const CAPACITY: Duration = Duration::from_secs(3);
/// Parts of the time, each measured for itself.
const PARTS: u32 = 10;
/// What the allocator may take more than after the first part.
const SLACK_MIB: f64 = 8.0;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let minutes = words.iter().find_map(|word| word.parse::<u64>().ok());
    let part = Duration::from_secs(minutes.map_or(30, |minutes| minutes * 60)) / PARTS;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let database = folder.path().join("paidup.db");
    let server = Server::start(&database);
    let used = AtomicUsize::new(0);
    server.deliver_patiently(&next(&used));

    let first = without_pause(&server, CLIENTS, CAPACITY, || next(&used));
    let capacity = u32::try_from(first.len()).unwrap() / CAPACITY.as_secs() as u32;
    let rate = capacity / 2;
    println!(
        "capacity {capacity}/s, load {rate}/s and {HOSTILE} hostile clients, ten times {part:?}"
    );
    println!(
        "{:>5} {:>9} {:>8} {:>8} {:>9} {:>12} {:>8}",
        "part", "good", "p50 ms", "p99 ms", "hostile", "memory MiB", "threads"
    );
    let attacks = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let mut rows = Vec::new();
    thread::scope(|scope| {
        for number in 0..HOSTILE {
            scope.spawn({
                let (server, attacks, is_over) = (&server, &attacks, &is_over);
                move || attack(server, number, attacks, is_over)
            });
        }
        for number in 1..=PARTS {
            let before = attacks.load(Relaxed);
            let times = on_schedule(&server, CLIENTS, rate, part, || next(&used));
            let row = Row::new(&server, &times);
            println!(
                "{number:>5} {:>9} {:>8.2} {:>8.2} {:>9} {:>12.1} {:>8}",
                times.len(),
                millis(row.p50),
                millis(row.p99),
                attacks.load(Relaxed) - before,
                row.memory_mib,
                row.threads
            );
            rows.push(row);
        }
        is_over.store(true, Relaxed);
    });
    thread::sleep(Duration::from_secs(1));
    let idle = server.descriptors();
    drop(server);
    judge(&rows, idle);
    let stored = stored(&database);
    assert_eq!(
        stored,
        used.load(Relaxed),
        "acknowledged and not stored, or stored twice"
    );
    println!("all {stored} deliveries that were acknowledged are stored, each once");
}

/// What the server was like in one part.
struct Row {
    p50: Duration,
    p99: Duration,
    memory_mib: f64,
    threads: usize,
}

impl Row {
    fn new(server: &Server, times: &[Duration]) -> Row {
        Row {
            p50: times[times.len() / 2],
            p99: times[times.len() * 99 / 100],
            memory_mib: server.resident_mib(),
            threads: server.status("Threads:"),
        }
    }
}

fn judge(rows: &[Row], idle_descriptors: usize) {
    let (first, last) = (&rows[0], &rows[rows.len() - 1]);
    println!(
        "last part to first: p50 {:.2}, p99 {:.2}, memory {:.2}; {idle_descriptors} descriptors when idle",
        millis(last.p50) / millis(first.p50),
        millis(last.p99) / millis(first.p99),
        last.memory_mib / first.memory_mib
    );
    assert!(
        last.memory_mib < first.memory_mib + SLACK_MIB,
        "memory grows"
    );
    assert!(last.threads <= first.threads, "threads grow");
}

/// An event that nobody has sent yet.
fn next(used: &AtomicUsize) -> Vec<u8> {
    let number = used.fetch_add(1, Relaxed);
    requests(number..number + 1).remove(0)
}

/// One kind of nuisance after another, some fifty a second.
fn attack(server: &Server, number: usize, attacks: &AtomicUsize, is_over: &AtomicBool) {
    let forged = String::from_utf8(requests(number..number + 1).remove(0)).unwrap();
    let forged = forged.replace("v1=", "v1=00");
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let kinds: [&[u8]; 8] = [
        forged.as_bytes(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not HTTP at all\r\n\r\n",
        b"POST /stripe/webhook HTTP/1.1\r\nContent-Length: 900000000000000\r\n\r\nabc",
        b"POST /stripe/webhook HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        long.as_bytes(),
        b"GET /.env HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        b"POST /stripe/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 400\r\n\r\nhalf",
        b"",
    ];
    for turn in number.. {
        if is_over.load(Relaxed) {
            return;
        }
        // What becomes of it is shown by the tests; here it only has to do no harm.
        let _ = annoy(server, kinds[turn % kinds.len()]);
        attacks.fetch_add(1, Relaxed);
        thread::sleep(Duration::from_millis(15));
    }
}

fn annoy(server: &Server, bytes: &[u8]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(server.address)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    stream.write_all(bytes)?;
    if bytes.len().is_multiple_of(2) {
        stream.shutdown(Shutdown::Write)?;
    }
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn stored(database: &Path) -> usize {
    let file = rusqlite::Connection::open(database).unwrap();
    let count = "SELECT count(*) FROM event WHERE outcome = 'applied'";
    let stored: u32 = file.query_row(count, [], |row| row.get(0)).unwrap();
    stored as usize
}
