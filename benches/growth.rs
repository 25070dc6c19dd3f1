//! What a long history costs: every figure that an operator feels, of the released program with an
//! empty database and with one of a million events or more, taking turns.
//!
//! `cargo bench --bench growth -- 1000000`. Five million take ten minutes and 6 GB of disk. With a FILE
//! after the number, that database is filled once, stays, and grows by what each run delivers.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, prints, and ends when something is wrong"
)]

mod load;
#[path = "load/server.rs"]
mod server;
#[path = "load/shop.rs"]
mod shop;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use load::{event, requests};
use server::{PROGRAM, Server, command, millis, on_schedule, without_pause};
use shop::{BATCH, fill, number_of_last};

const ROUNDS: usize = 5;
/// Of each throughput.
const MEASURED: Duration = Duration::from_secs(3);
const CLIENTS: usize = 32;
/// Of each rate on a fixed schedule, and the clients that keep to it.
const SCHEDULE: Duration = Duration::from_secs(2);
const SENDERS: usize = 16;
/// More than a round uses up.
const REQUESTS: usize = 60_000;
/// As many clients as the server has threads.
const CLIENTS_MAX: usize = 128;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let events = words
        .iter()
        .find_map(|word| word.parse().ok())
        .unwrap_or(20_000);
    let file = words.iter().find(|word| word.ends_with(".db"));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grown = file.map_or_else(|| folder.path().join("grown.db"), PathBuf::from);
    let mut shops = [
        Shop::open(&folder.path().join("empty.db"), 0),
        Shop::open(&grown, events),
    ];
    for _ in 0..ROUNDS {
        for shop in &mut shops {
            shop.measure();
        }
    }
    // Last, as a disk is busy for a while after a copy of gigabytes.
    for shop in &mut shops {
        shop.measure_backup();
    }
    println!(
        "program: {:.2} MiB",
        mib(fs::metadata(PROGRAM).unwrap().len())
    );
    let [empty, grown] = &shops;
    println!("{:<44} {:>10} {:>10}  ratio (range)", "", "empty", events);
    for (name, row) in &empty.figures {
        let (_, other) = grown.figures.iter().find(|(one, _)| one == name).unwrap();
        let ratios: Vec<f64> = row
            .iter()
            .zip(other)
            .map(|(one, other)| other / one)
            .collect();
        println!(
            "{name:<44} {:>10.2} {:>10.2}  {:.2} ({:.2} to {:.2})",
            median(row.clone()),
            median(other.clone()),
            median(ratios.clone()),
            ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratios.iter().copied().fold(0.0, f64::max),
        );
    }
}

/// One database, and what was measured of it, round by round.
struct Shop {
    database: PathBuf,
    /// The number of the next event.
    next: usize,
    is_empty: bool,
    /// The name of an order that is there.
    oldest: String,
    figures: Vec<(&'static str, Vec<f64>)>,
}

impl Shop {
    fn open(database: &Path, events: usize) -> Shop {
        let mut shop = Shop {
            database: database.to_owned(),
            next: events,
            is_empty: events == 0,
            oldest: "ord_100000".to_owned(),
            figures: Vec::new(),
        };
        if database.exists() {
            shop.next = number_of_last(database) + CLIENTS_MAX;
        } else if events > 0 {
            let took = fill(database, 0..events, event);
            println!(
                "{events} events stored in batches of {BATCH}: {:.0}/s",
                events as f64 / took.as_secs_f64()
            );
        }
        shop
    }

    fn measure(&mut self) {
        if self.is_empty {
            for ending in ["", "-wal", "-shm", ".in-use"] {
                let _ = fs::remove_file(format!("{}{ending}", self.database.display()));
            }
            fill(&self.database, self.next..self.next + 1, event);
            self.oldest = format!("ord_{}", 100_000 + self.next);
            self.next += 1;
        }
        let requests = requests(self.next..self.next + REQUESTS);
        let used = AtomicUsize::new(0);
        let next = || &requests[used.fetch_add(1, Relaxed)];

        let began = Instant::now();
        let server = Server::start(&self.database);
        server.deliver_patiently(next());
        self.add("exec to the first 200, ms", millis(began.elapsed()));
        self.add("memory idle, MiB", server.resident_mib());
        self.add("descriptors idle", server.descriptors() as f64);
        for rate in [100, 500, 1500] {
            let times = on_schedule(&server, SENDERS, rate, SCHEDULE, next);
            let names = match rate {
                100 => ["100/s: p50, ms", "100/s: p99, ms"],
                500 => ["500/s: p50, ms", "500/s: p99, ms"],
                _ => ["1,500/s: p50, ms", "1,500/s: p99, ms"],
            };
            self.add(names[0], millis(times[times.len() / 2]));
            self.add(names[1], millis(times[times.len() * 99 / 100]));
        }
        let times = without_pause(&server, CLIENTS, MEASURED, next);
        self.add(
            "32 clients: deliveries/s",
            times.len() as f64 / MEASURED.as_secs_f64(),
        );
        self.add("32 clients: p99, ms", millis(times[times.len() * 99 / 100]));
        without_pause(&server, CLIENTS_MAX, MEASURED / 3, next);
        self.add("memory with 128 clients, MiB", server.resident_mib());
        self.add("a look at the metrics, ms", scrape(&server));
        let oldest = self.oldest.clone();
        for (name, words, times) in [
            ("orders list, ms", &["orders", "list"][..], 5),
            ("orders show ID, ms", &["orders", "show", &oldest], 5),
            ("check, ms", &["check"], 5),
        ] {
            let took = self.command(words, times, &server);
            self.add(name, took);
        }
        drop(server);
        let began = Instant::now();
        let server = Server::start(&self.database);
        server.deliver_patiently(next());
        self.add("the same after a kill, ms", millis(began.elapsed()));
        drop(server);
        let bytes = fs::metadata(&self.database).unwrap().len();
        self.add("file, MiB", mib(bytes));
        self.next += REQUESTS;
    }

    fn measure_backup(&mut self) {
        let server = Server::start(&self.database);
        let took = self.command(&["backup", "copy.db"], 1, &server);
        self.add("backup FILE, ms", took);
        let copy = self.database.parent().unwrap().join("copy.db");
        fs::remove_file(copy).unwrap();
    }

    /// How long a command takes, as its user sees it; the median of so many times.
    fn command(&self, words: &[&str], times: usize, server: &Server) -> f64 {
        let folder = self.database.parent().unwrap();
        let run = || {
            let began = Instant::now();
            let mut command = command(&self.database, server.address);
            let output = command.args(words).current_dir(folder).output().unwrap();
            // Whether all is well with the host is not what is measured.
            let is_told = output.status.success() || words[0] == "check";
            assert!(is_told, "{words:?}: {output:?}");
            millis(began.elapsed())
        };
        median((0..times).map(|_| run()).collect())
    }

    fn add(&mut self, name: &'static str, value: f64) {
        match self.figures.iter_mut().find(|(one, _)| *one == name) {
            Some((_, values)) => values.push(value),
            None => self.figures.push((name, vec![value])),
        }
    }
}

fn scrape(server: &Server) -> f64 {
    let began = Instant::now();
    let admin = SocketAddr::new(server.address.ip(), server.address.port() - 1);
    let mut stream = TcpStream::connect(admin).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("paidup_orders"), "{answer}");
    millis(began.elapsed())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
