//! What looking costs: how long each page takes of a shop with a long history, and what deliveries feel
//! of twenty tabs that are open on it, taking turns with none.
//!
//! `cargo bench --bench page -- 5000000 FILE.db` takes five minutes; the first time ten more, and 6 GB: FILE
//! is filled once, stays, and grows by what each run delivers. The page is as nice as its
//! unit's `CPUWeight=20` makes it; `PAGE_UNDER` may name a command that starts it in a group of its own.
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

#[path = "load/cpu.rs"]
mod cpu;
mod load;
#[path = "load/server.rs"]
#[allow(dead_code, reason = "the other benchmarks use the rest")]
mod server;
#[path = "load/shop.rs"]
#[allow(dead_code, reason = "the other benchmarks use the rest")]
mod shop;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use paidup::host::clock::Now;

use cpu::cpu;
use load::{FIRST_SALE, SECONDS_BETWEEN_SALES, event, requests};
use server::{PROGRAM, Server, millis, on_schedule, without_pause};
use shop::{fill, number_of_last};

const ROUNDS: usize = 6;
/// On a fixed schedule, and the clients that keep to it.
const RATE: u32 = 300;
const SENDERS: usize = 16;
/// Of the other load: each sends as soon as it has its answer.
const CLIENTS: usize = 8;
const TABS: u32 = 20;
/// Weighs 215 of 1024: `CPUWeight=20` of the unit (sched(7)).
const NICE: &str = "7";
/// A shop to compare with.
const FEW: usize = 1_000;
/// Looks at each page.
const LOOKS: usize = 25;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let orders = words
        .iter()
        .find_map(|word| word.parse().ok())
        .unwrap_or(20_000);
    let file = words.iter().find(|word| word.ends_with(".db"));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let database = file.map_or_else(|| folder.path().join("shop.db"), PathBuf::from);
    let few = folder.path().join("few.db");
    open(&few, FEW);
    let mut next = open(&database, orders);

    let (few_times, times) = (
        time_pages(&few, folder.path()),
        time_pages(&database, folder.path()),
    );
    println!("{:<44} {FEW:>9} {orders:>9}      p99", "a look, ms");
    for ((path, few), (_, many)) in few_times.iter().zip(&times) {
        let few = few[few.len() / 2];
        let (half, most) = (many[many.len() / 2], many[many.len() * 99 / 100]);
        println!("{path:<44} {few:>9.1} {half:>9.1} {most:>8.1}");
    }
    println!("{}", too_long(&database, folder.path()));

    let server = Server::start(&database);
    server.deliver_patiently(&requests(next..next + 1)[0]);
    next += 1;
    let page = Page::start(&database, folder.path());
    for load in [Load::Schedule, Load::Clients] {
        let mut cells = Looks::ALL.map(|looks| (looks, Vec::new()));
        for round in 0..ROUNDS {
            // Whoever is first in one round is not in the next.
            for turn in 0..cells.len() {
                let (looks, measured) = &mut cells[(round + turn) % Looks::ALL.len()];
                let requests = requests(next..next + load.requests());
                let cell = Cell::measure(&server, &page, &database, load, *looks, &requests);
                next += cell.times.len();
                measured.push(cell);
            }
        }
        report(load, &cells);
    }
}

/// Fills the file if it is not there; the number of the next event.
fn open(database: &Path, orders: usize) -> usize {
    if database.exists() {
        // As many clients may have been under way.
        return number_of_last(database) + SENDERS;
    }
    // The last one is of today.
    let today = usize::try_from(Now::read().unix.0).unwrap();
    let end = (today - FIRST_SALE) / SECONDS_BETWEEN_SALES;
    let took = fill(database, end - orders..end, sale);
    println!("{orders} orders stored: {:.0} s", took.as_secs_f64());
    end
}

/// One in twenty is never paid, and one in a thousand is paid twice.
fn sale(number: usize) -> String {
    let text = event(number);
    match number % 1_000 {
        13 => text.replace(
            &format!("ord_{}", 100_000 + number),
            &format!("ord_{}", 100_000 + number - 1),
        ),
        500..550 => text
            .replace("checkout.session.completed", "checkout.session.expired")
            .replace(
                "\"payment_status\": \"paid\"",
                "\"payment_status\": \"unpaid\"",
            )
            .replace("\"status\": \"complete\"", "\"status\": \"expired\""),
        _ => text,
    }
}

// ── The pages ──

/// `paidup page` on a socket, killed when it goes out of scope.
struct Page {
    process: Child,
    socket: PathBuf,
}

impl Page {
    fn start(database: &Path, folder: &Path) -> Page {
        let socket = folder.join("page.sock");
        let _ = fs::remove_file(&socket);
        // Such as `systemd-run --quiet --scope -p CPUWeight=20`.
        let words = std::env::var("PAGE_UNDER").unwrap_or_else(|_| format!("nice -n {NICE}"));
        let mut words = words.split_whitespace();
        let process = Command::new(words.next().unwrap())
            .args(words)
            .arg(PROGRAM)
            .arg("page")
            .env_clear()
            .env("DATABASE_PATH", database)
            .env("PAGE_ADDR", format!("unix:{}", socket.display()))
            .env("TZ", "Europe/Paris")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "no page");
            thread::sleep(Duration::from_millis(1));
        }
        Page { process, socket }
    }

    /// Asks as a browser does; the whole answer, which ends the connection.
    fn look(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 64 * 1024];
        loop {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the page has left");
            answer.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&answer);
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && let Some((_, length)) = head.split_once("Content-Length: ")
                && body.len() >= length.lines().next().unwrap().parse().unwrap()
            {
                return text.into_owned();
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How long each page takes, by its address, in order of size.
fn time_pages(database: &Path, folder: &Path) -> Vec<(String, Vec<f64>)> {
    let name = format!("ord_{}", 100_000 + number_of_last(database));
    let begins = &name[..name.len() - 3];
    let page = Page::start(database, folder);
    let one = format!("/orders/{name}");
    let named = format!("/orders?begins={begins}");
    let some = format!("/orders?begins={begins}&status=expired");
    let paths = [
        "/",
        "/orders",
        "/orders?status=expired",
        "/orders?status=authorized",
        "/orders?attention=1",
        &named,
        &some,
        &one,
        "/money",
        "/money?by=month",
        "/money.csv?by=month",
        "/health",
    ];
    let time = |path: &&str| {
        let mut times: Vec<f64> = (0..LOOKS)
            .map(|_| {
                let began = Instant::now();
                let answer = page.look(path);
                assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
                millis(began.elapsed())
            })
            .collect();
        times.sort_by(f64::total_cmp);
        ((*path).to_owned(), times)
    };
    paths.iter().map(time).collect()
}

/// What comes of a search through all orders for what none of them is.
fn too_long(database: &Path, folder: &Path) -> String {
    let page = Page::start(database, folder);
    let path = "/orders?begins=ord&status=authorized";
    let began = Instant::now();
    let answer = page.look(path);
    let took = millis(began.elapsed());
    let status = answer.lines().next().unwrap_or_default();
    let text = answer.split("<p>").skip(1).take(2);
    let text: Vec<&str> = text.filter_map(|rest| rest.split("</p>").next()).collect();
    format!("{path}: {took:.0} ms, {status}: {}", text.join(" "))
}

// ── Beside deliveries ──

/// How deliveries come.
#[derive(Clone, Copy)]
enum Load {
    Schedule,
    Clients,
}

impl Load {
    /// How long it takes in each round.
    fn measured(self) -> Duration {
        match self {
            Load::Schedule => Duration::from_secs(5),
            Load::Clients => Duration::from_secs(3),
        }
    }

    /// More than it uses up meanwhile.
    fn requests(self) -> usize {
        match self {
            Load::Schedule => 2_000,
            Load::Clients => 20_000,
        }
    }
}

/// How often each of the tabs is loaded again.
#[derive(Clone, Copy)]
enum Looks {
    None,
    /// The same once more: what differs is noise.
    NoneAgain,
    EachTenSeconds,
    EachSecond,
}

impl Looks {
    const ALL: [Looks; 4] = [
        Looks::None,
        Looks::NoneAgain,
        Looks::EachTenSeconds,
        Looks::EachSecond,
    ];

    fn name(self) -> &'static str {
        match self {
            Looks::None => "none",
            Looks::NoneAgain => "none again",
            Looks::EachTenSeconds => "each 10 s",
            Looks::EachSecond => "each second",
        }
    }

    fn every(self) -> Option<Duration> {
        match self {
            Looks::None | Looks::NoneAgain => None,
            Looks::EachTenSeconds => Some(Duration::from_secs(10)),
            Looks::EachSecond => Some(Duration::from_secs(1)),
        }
    }
}

/// A few seconds of a load.
struct Cell {
    /// Of the deliveries, in order of size.
    times: Vec<Duration>,
    looks: usize,
    look_cpu: Duration,
    /// The longest that the log has been.
    log: u64,
}

impl Cell {
    fn measure(
        server: &Server,
        page: &Page,
        database: &Path,
        load: Load,
        looks: Looks,
        requests: &[Vec<u8>],
    ) -> Cell {
        let used = AtomicUsize::new(0);
        let next = || &requests[used.fetch_add(1, Relaxed)];
        let is_over = AtomicBool::new(false);
        let cpu_before = cpu(&page.process);
        let (times, (looks, log)) = thread::scope(|scope| {
            let watched = scope.spawn(|| tabs(page, database, looks.every(), &is_over));
            let times = match load {
                Load::Schedule => on_schedule(server, SENDERS, RATE, load.measured(), next),
                Load::Clients => without_pause(server, CLIENTS, load.measured(), next),
            };
            is_over.store(true, Relaxed);
            (times, watched.join().unwrap())
        });
        Cell {
            times,
            looks,
            look_cpu: cpu(&page.process) - cpu_before,
            log,
        }
    }

    fn at(&self, percent: usize) -> f64 {
        millis(self.times[self.times.len() * percent / 100])
    }
}

/// Loads all tabs again and again, each in its turn; how many looks that were, and how long the log has been
/// meanwhile.
fn tabs(
    page: &Page,
    database: &Path,
    every: Option<Duration>,
    is_over: &AtomicBool,
) -> (usize, u64) {
    let log = PathBuf::from(format!("{}-wal", database.display()));
    let paths = ["/", "/orders", "/money", "/", "/orders?attention=1"];
    let pause = every.unwrap_or(Duration::from_secs(1)) / TABS;
    let began = Instant::now();
    let (mut looks, mut longest) = (0, 0);
    for turn in 1.. {
        while began.elapsed() < pause * turn {
            if is_over.load(Relaxed) {
                return (looks, longest);
            }
            thread::sleep(Duration::from_millis(5));
        }
        longest = longest.max(fs::metadata(&log).unwrap().len());
        if every.is_some() {
            let answer = page.look(paths[looks % paths.len()]);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            looks += 1;
        }
    }
    (looks, longest)
}

fn report(load: Load, cells: &[(Looks, Vec<Cell>)]) {
    let what = match load {
        Load::Schedule => format!("{RATE} deliveries a second"),
        Load::Clients => format!("{CLIENTS} clients"),
    };
    println!(
        "\n{:<26} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8}  p50, p99: ratio in a round (range)",
        what, "per s", "p50 ms", "p99 ms", "look/s", "CPU ms", "log MB"
    );
    let without = &cells[0].1;
    for (looks, cells) in cells {
        let seconds = load.measured().as_secs_f64() * cells.len() as f64;
        let mut all: Vec<Duration> = cells.iter().flat_map(|cell| cell.times.clone()).collect();
        all.sort();
        let looked: usize = cells.iter().map(|cell| cell.looks).sum();
        let cpu: Duration = cells.iter().map(|cell| cell.look_cpu).sum();
        let log = cells.iter().map(|cell| cell.log).max().unwrap();
        let ratio = |percent| {
            let pairs = cells.iter().zip(without);
            let mut ratios: Vec<f64> = pairs
                .map(|(with, without)| with.at(percent) / without.at(percent))
                .collect();
            ratios.sort_by(f64::total_cmp);
            let (half, last) = (ratios[ratios.len() / 2], ratios[ratios.len() - 1]);
            format!("{half:.2} ({:.2} to {last:.2})", ratios[0])
        };
        println!(
            "{:<26} {:>8.0} {:>8.2} {:>8.2} {:>8.1} {:>9.1} {:>8.1}  {}, {}",
            looks.name(),
            all.len() as f64 / seconds,
            millis(all[all.len() / 2]),
            millis(all[all.len() * 99 / 100]),
            looked as f64 / seconds,
            millis(cpu) / looked.max(1) as f64,
            log as f64 / 1e6,
            ratio(50),
            ratio(99),
        );
    }
}
