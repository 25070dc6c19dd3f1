//! What telling the shop costs the server: deliveries without `paidup notify`, and while it tells a receiver
//! on the same machine of ten thousand orders, taking turns; and its memory. First as many deliveries as 32
//! clients get through, which leave it little of two processors; then 500 a second, beside which it tells
//! all of them.
//!
//! `cargo bench --bench notify` takes three minutes; with a number behind `--`, so many rounds. The receiver
//! answers 204 and does nothing else. It and `notify` are as nice as the unit's `CPUWeight=20` makes it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, prints, and ends when something is wrong"
)]

mod load;
#[path = "load/server.rs"]
#[allow(dead_code, reason = "the other benchmarks use the rest")]
mod server;
#[path = "load/shop.rs"]
#[allow(dead_code, reason = "the other benchmarks use the rest")]
mod shop;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use paidup::store::Store;
use rustix::process::{Pid, nice, setpriority_process};

use load::requests;
use server::{Server, command, millis, on_schedule, without_pause};

const ORDERS: usize = 10_000;
/// Unless it is told another number.
const ROUNDS: usize = 7;
const CLIENTS: usize = 32;
const WARM_UP: Duration = Duration::from_millis(500);
/// Deliveries a second of the second part.
const RATE: u32 = 500;
/// More than a round uses up.
const REQUESTS: usize = 80_000;
/// Weighs 215 of 1024: `CPUWeight=20` of the unit (sched(7)).
const NICE: i32 = 7;

fn main() {
    let rounds = std::env::args().find_map(|word| word.parse().ok());
    let rounds: usize = rounds.unwrap_or(ROUNDS);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let shop = folder.path().join("shop.db");
    drop(Store::open(&shop).unwrap().begin_to_tell("shop").unwrap());
    shop::fill(&shop, 0..ORDERS, load::event);
    let requests = requests(ORDERS..ORDERS + REQUESTS);
    for load in [Load::WithoutPause, Load::OnSchedule] {
        let cell = |is_told| {
            let database = folder.path().join("bench.db");
            for ending in ["", "-wal", "-shm", ".in-use", ".lock", ".notify-shop"] {
                let _ = fs::remove_file(format!("{}{ending}", database.display()));
            }
            fs::copy(&shop, &database).unwrap();
            Cell::measure(&database, &requests, load, is_told)
        };
        compare(load, rounds, cell);
    }
    alone(&shop);
}

/// How deliveries come.
#[derive(Clone, Copy)]
enum Load {
    WithoutPause,
    OnSchedule,
}

impl Load {
    fn measured(self) -> Duration {
        match self {
            Load::WithoutPause => Duration::from_secs(4),
            Load::OnSchedule => Duration::from_secs(6),
        }
    }
}

/// Rounds of a cell without and one with it.
fn compare(load: Load, rounds: usize, cell: impl Fn(bool) -> Cell) {
    match load {
        Load::WithoutPause => println!("{CLIENTS} clients without pause"),
        Load::OnSchedule => println!("{RATE} deliveries a second"),
    }
    println!(
        "{:>9} {:>8} {:>8} {:>9} {:>7} {:>10} {:>11}  ratio",
        "without/s", "with/s", "p99 ms", "with, ms", "told/s", "left", "memory MiB"
    );
    let mut ratios = Vec::new();
    for round in 0..rounds {
        // Whoever is first in one round is not in the next.
        let (without, with) = if round % 2 == 0 {
            let without = cell(false);
            (without, cell(true))
        } else {
            let with = cell(true);
            (cell(false), with)
        };
        let ratio = with.per_second / without.per_second;
        println!(
            "{:>9.0} {:>8.0} {:>8.1} {:>9.1} {:>7.0} {:>10} {:>11.1}  {ratio:.2}",
            without.per_second,
            with.per_second,
            without.p99_ms,
            with.p99_ms,
            with.told_per_second,
            with.left,
            with.memory_mib,
        );
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "ratio: {:.2} ({:.2} to {:.2})",
        ratios[rounds / 2],
        ratios[0],
        ratios[rounds - 1]
    );
}

/// One server for a few seconds.
struct Cell {
    per_second: f64,
    p99_ms: f64,
    told_per_second: f64,
    /// Those of the ten thousand that were not told by then.
    left: usize,
    memory_mib: f64,
}

impl Cell {
    fn measure(database: &Path, requests: &[Vec<u8>], load: Load, is_told: bool) -> Cell {
        let used = AtomicUsize::new(0);
        let next = || &requests[used.fetch_add(1, Relaxed)];
        let server = Server::start(database);
        server.deliver_patiently(next());
        without_pause(&server, CLIENTS, WARM_UP, next);
        let notify = is_told.then(|| Notify::start(database, &server));
        let told = || notify.as_ref().map_or(0, Notify::heard);
        let (began, before) = (Instant::now(), told());
        let times = match load {
            Load::WithoutPause => without_pause(&server, CLIENTS, load.measured(), next),
            Load::OnSchedule => on_schedule(&server, CLIENTS, RATE, load.measured(), next),
        };
        let took = began.elapsed().as_secs_f64();
        let all_told = told();
        assert!(
            !is_told || all_told > before,
            "it was not at work meanwhile"
        );
        Cell {
            per_second: times.len() as f64 / took,
            p99_ms: millis(times[times.len() * 99 / 100]),
            told_per_second: (all_told - before) as f64 / took,
            left: ORDERS.saturating_sub(all_told),
            memory_mib: notify.as_ref().map_or(0.0, Notify::memory_mib),
        }
    }
}

/// With nothing else to do.
fn alone(shop: &Path) {
    let server = Server::start(shop);
    let notify = Notify::start(shop, &server);
    let (began, before) = (Instant::now(), notify.heard());
    while notify.heard() < ORDERS {
        assert!(began.elapsed() < Duration::from_secs(60), "it is slow");
        thread::sleep(Duration::from_millis(5));
    }
    let per_second = (ORDERS - before) as f64 / began.elapsed().as_secs_f64();
    println!(
        "alone: {per_second:.0} orders told a second, memory {:.1} MiB",
        notify.memory_mib()
    );
}

/// `paidup notify` and its receiver, ended when they go out of scope.
struct Notify {
    process: Child,
    heard: Arc<AtomicUsize>,
}

impl Notify {
    /// Returns once it tells.
    fn start(database: &Path, server: &Server) -> Notify {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let heard = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&heard);
        thread::spawn(move || receive(&listener, &counter));
        let process = command(database, server.address)
            .arg("notify")
            .env("NOTIFY_URL", url)
            .env("NOTIFY_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        setpriority_process(Some(Pid::from_child(&process)), NICE).unwrap();
        let notify = Notify { process, heard };
        let began = Instant::now();
        while notify.heard() == 0 {
            assert!(began.elapsed() < Duration::from_secs(30), "nothing is told");
            thread::sleep(Duration::from_millis(1));
        }
        notify
    }

    fn heard(&self) -> usize {
        self.heard.load(Relaxed)
    }

    /// The most that it has held.
    fn memory_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib: f64 = line
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        kib / 1024.0
    }
}

impl Drop for Notify {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads a message to its end and says 204, one connection at a time, as `notify` sends them.
fn receive(listener: &TcpListener, heard: &AtomicUsize) {
    // Of this thread alone.
    nice(NICE).unwrap();
    while let Ok((stream, _)) = listener.accept() {
        let mut stream = BufReader::new(stream);
        while let Some(length) = length_of_body(&mut stream) {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            heard.fetch_add(1, Relaxed);
            let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
            if stream.get_mut().write_all(answer).is_err() {
                break;
            }
        }
    }
}

/// Of the next request, whose head is read; `None` when the connection has ended.
fn length_of_body(stream: &mut impl BufRead) -> Option<usize> {
    let mut length = 0;
    let mut line = String::new();
    while stream.read_line(&mut line).ok()? > 2 {
        if let Some((name, value)) = line.trim().split_once(": ")
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.parse().unwrap();
        }
        line.clear();
    }
    (length > 0).then_some(length)
}
