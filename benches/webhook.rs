//! Deliveries per second over a real socket into a real file, for one commit per delivery and for
//! group commit: the very same server, the same events, taking turns.
//!
//! `cargo bench` measures (about two minutes), `cargo bench -- --quick` only shows that all works.
//! `cargo bench -- --clients 1,8` measures only with so many clients.
//! `cargo bench -- --against PROGRAM` adds this benchmark as it was built from another commit, or
//! any program that takes the same arguments and keeps the same promises as [`serve`].
//!
//! The clients are threads, one connection per request, each waiting for its answer before it
//! sends the next delivery. Every event is new and signed beforehand. Nothing is pinned to a core.
//! After each cell the database must hold exactly what was acknowledged. `200 only` is a server
//! that reads the same requests and does nothing: how far the clients themselves can go.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, prints, and ends when something is wrong"
)]

#[path = "load/cpu.rs"]
mod cpu;
mod load;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use paidup::config::serve::Config;
use paidup::host::logger;
use paidup::http::edge::{Edge, Limits};
use paidup::http::exchange::Http;
use paidup::http::listen;
use paidup::serve::metrics::Metrics;
use paidup::serve::public::Public;
use paidup::serve::webhook::Webhook;
use paidup::store::Store;
use paidup::store::writer::{BATCH_MAX, Writer};

use cpu::cpu;
use load::{SECRET, requests};

/// More than any cell uses up.
const EVENTS: usize = 40_000;
fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", batch_max, database] => serve(batch_max.parse().unwrap(), database),
        ["serve-200"] => serve_200(),
        words => measure(words),
    }
}

// ── The plan ────────────────────────────────────────────────────────────────────────────────────

struct Plan {
    clients: &'static [usize],
    rounds: usize,
    warm_up: Duration,
    measured: Duration,
    events: usize,
}

const FULL: Plan = Plan {
    clients: &[1, 8, 32, 64],
    rounds: 5,
    warm_up: Duration::from_millis(300),
    measured: Duration::from_millis(1_200),
    events: EVENTS,
};

const QUICK: Plan = Plan {
    clients: &[1, 32],
    rounds: 1,
    warm_up: Duration::from_millis(100),
    measured: Duration::from_millis(300),
    events: EVENTS / 4,
};

/// One kind of server, and what was measured of it, round by round.
struct Contender {
    name: String,
    program: PathBuf,
    batch_max: Option<usize>,
    cells: Vec<Cell>,
}

/// One kind of server with one number of clients for one short time.
#[derive(Clone, Copy)]
struct Cell {
    per_second: f64,
    p50: Duration,
    p99: Duration,
    /// Of the server's processor time, for one delivery.
    cpu_micros: f64,
    per_commit: f64,
}

fn measure(words: &[&str]) {
    let plan = if words.contains(&"--quick") {
        QUICK
    } else {
        FULL
    };
    let clients = match words.windows(2).find(|pair| pair[0] == "--clients") {
        Some(pair) => pair[1].split(',').map(|it| it.parse().unwrap()).collect(),
        None => plan.clients.to_vec(),
    };
    let this = std::env::current_exe().unwrap();
    let contender = |name: &str, program: &Path, batch_max| Contender {
        name: name.to_owned(),
        program: program.to_owned(),
        batch_max,
        cells: Vec::new(),
    };
    let mut contenders = vec![
        contender("one commit each", &this, Some(1)),
        contender("group commit", &this, Some(BATCH_MAX)),
    ];
    for pair in words.windows(2).filter(|pair| pair[0] == "--against") {
        contenders.push(contender(pair[1], Path::new(pair[1]), Some(BATCH_MAX)));
    }
    contenders.push(contender("200 only", &this, None));

    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    println!(
        "one flush of 4 KiB on this disk: {:?}",
        flush_time(folder.path())
    );
    let requests: Arc<[Vec<u8>]> = requests(0..plan.events).into();
    println!(
        "{:>7}  {:<16} {:>7} {:>8} {:>8} {:>7} {:>7}  ratio to one commit each",
        "clients", "server", "/s", "p50 ms", "p99 ms", "CPU µs", "/commit"
    );
    for clients in &clients {
        for round in 0..plan.rounds {
            // Whoever is first in one round is not in the next.
            let count = contenders.len();
            for turn in 0..count {
                let contender = &mut contenders[(turn + round) % count];
                let database = folder.path().join("bench.db");
                let cell = run(contender, &database, *clients, &plan, &requests);
                contender.cells.push(cell);
            }
        }
        print_rows(*clients, &contenders);
        for contender in &mut contenders {
            contender.cells.clear();
        }
    }
}

fn print_rows(clients: usize, contenders: &[Contender]) {
    let base = &contenders[0].cells;
    for contender in contenders {
        let of = |value: fn(&Cell) -> f64| median(contender.cells.iter().map(value).collect());
        let ratios: Vec<f64> = contender
            .cells
            .iter()
            .zip(base)
            .map(|(cell, base)| cell.per_second / base.per_second)
            .collect();
        println!(
            "{clients:>7}  {:<16} {:>7.0} {:>8.2} {:>8.2} {:>7.0} {:>7.1}  {:.2} ({:.2} to {:.2})",
            contender.name.rsplit('/').next().unwrap_or_default(),
            of(|cell| cell.per_second),
            of(|cell| cell.p50.as_secs_f64() * 1e3),
            of(|cell| cell.p99.as_secs_f64() * 1e3),
            of(|cell| cell.cpu_micros),
            of(|cell| cell.per_commit),
            median(ratios.clone()),
            ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratios.iter().copied().fold(0.0, f64::max),
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Half of all flushes of a page that was written over take no longer.
fn flush_time(folder: &Path) -> Duration {
    let mut file = File::create(folder.join("flush")).unwrap();
    let mut times = [Duration::ZERO; 101];
    for time in &mut times {
        let began = Instant::now();
        file.rewind().unwrap();
        file.write_all(&[1; 4096]).unwrap();
        file.sync_data().unwrap();
        *time = began.elapsed();
    }
    times.sort();
    times[times.len() / 2]
}

// ── The clients ─────────────────────────────────────────────────────────────────────────────────

/// What one client saw: how long after the start each answer came, and how long it took.
type Answers = Vec<(Duration, Duration)>;

/// A fresh database, a fresh server, and all clients at once.
fn run(
    contender: &Contender,
    database: &Path,
    clients: usize,
    plan: &Plan,
    requests: &Arc<[Vec<u8>]>,
) -> Cell {
    for ending in ["", "-wal", "-shm", ".in-use"] {
        let _ = fs::remove_file(format!("{}{ending}", database.display()));
    }
    let server = Server::start(contender, database);
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let end = plan.warm_up + plan.measured;
    let start_client = |_| {
        let (address, next, requests) = (server.address, Arc::clone(&next), Arc::clone(requests));
        // What stores nothing may be asked the same thing again.
        let repeats = contender.batch_max.is_none();
        thread::spawn(move || client(address, &next, &requests, repeats, began, end))
    };
    let clients: Vec<JoinHandle<Answers>> = (0..clients).map(start_client).collect();
    thread::sleep(plan.warm_up);
    let cpu_before = cpu(&server.process);
    thread::sleep(plan.measured);
    let cpu = cpu(&server.process) - cpu_before;
    let answers: Vec<_> = clients
        .into_iter()
        .flat_map(|one| one.join().unwrap())
        .collect();
    let per_commit = server.stop();
    if contender.batch_max.is_some() {
        assert_eq!(
            stored(database),
            answers.len(),
            "acknowledged and not stored, or stored twice"
        );
    }

    let mut times: Vec<Duration> = answers
        .iter()
        .filter(|(at, _)| (plan.warm_up..end).contains(at))
        .map(|(_, took)| *took)
        .collect();
    times.sort();
    assert!(!times.is_empty(), "no answer in time");
    Cell {
        per_second: times.len() as f64 / plan.measured.as_secs_f64(),
        p50: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
        cpu_micros: cpu.as_secs_f64() * 1e6 / times.len() as f64,
        per_commit,
    }
}

/// Delivers until the end, one connection after the other.
fn client(
    address: SocketAddr,
    next: &AtomicUsize,
    requests: &[Vec<u8>],
    repeats: bool,
    began: Instant,
    end: Duration,
) -> Answers {
    let mut answers = Vec::with_capacity(requests.len() / 8);
    let mut answer = Vec::with_capacity(1_024);
    while began.elapsed() < end {
        let number = next.fetch_add(1, Relaxed);
        let number = if repeats {
            number % requests.len()
        } else {
            number
        };
        let request = requests
            .get(number)
            .expect("a machine this fast needs more EVENTS");
        let sent = began.elapsed();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        answer.clear();
        stream.read_to_end(&mut answer).unwrap();
        let came = began.elapsed();
        let text = String::from_utf8_lossy(&answer);
        let is_good = text.starts_with("HTTP/1.1 200 ") && text.contains("applied");
        assert!(is_good, "unexpected answer: {text}");
        answers.push((came, came - sent));
    }
    answers
}

/// How many events, each of them once, are in the file; and as many orders.
fn stored(database: &Path) -> usize {
    let file = rusqlite::Connection::open(database).unwrap();
    let count = |sql| file.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap();
    let events = count("SELECT count(DISTINCT id) FROM event");
    assert_eq!(
        events,
        count("SELECT count(*) FROM orders WHERE status = 'paid'")
    );
    events as usize
}

// ── The servers ─────────────────────────────────────────────────────────────────────────────────

/// A server in a process of its own.
struct Server {
    process: Child,
    address: SocketAddr,
    words: BufReader<ChildStderr>,
    log: JoinHandle<()>,
}

impl Server {
    fn start(contender: &Contender, database: &Path) -> Server {
        let mut command = Command::new(&contender.program);
        match contender.batch_max {
            Some(batch_max) => command
                .arg("serve")
                .arg(batch_max.to_string())
                .arg(database),
            None => command.arg("serve-200"),
        };
        let pipe = Stdio::piped;
        let command = command.stdin(pipe()).stdout(pipe()).stderr(pipe());
        let mut process = command.spawn().unwrap();
        let mut log = process.stdout.take().unwrap();
        let log = thread::spawn(move || {
            io::copy(&mut log, &mut io::sink()).unwrap();
        });
        let mut words = BufReader::new(process.stderr.take().unwrap());
        let mut address = String::new();
        words.read_line(&mut address).unwrap();
        let address = address.trim().parse().unwrap_or_else(|_| {
            let mut rest = String::new();
            let _ = words.read_to_string(&mut rest);
            panic!("no server: {address}{rest}")
        });
        Server {
            process,
            address,
            words,
            log,
        }
    }

    /// Ends it as SIGTERM would, and returns its events per commit.
    fn stop(mut self) -> f64 {
        drop(self.process.stdin.take());
        let mut words = String::new();
        self.words.read_to_string(&mut words).unwrap();
        assert!(self.process.wait().unwrap().success(), "{words}");
        self.log.join().unwrap();
        words.trim().parse().unwrap_or(f64::NAN)
    }
}

/// The product's server, at most `batch_max` deliveries a commit. Tells its address on stderr,
/// stops when stdin ends, and tells how many deliveries a commit had.
fn serve(batch_max: usize, database: &str) {
    let vars = [
        ("STRIPE_WEBHOOK_SECRET", SECRET),
        ("DATABASE_PATH", database),
        ("RATE_LIMIT_WEBHOOK_EXEMPT", "127.0.0.0/8"),
        ("WEBHOOK_TOLERANCE_SECONDS", "3600"),
    ];
    let vars: BTreeMap<String, String> = vars
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let config = Config::parse(&vars, &|path: &Path| fs::read_to_string(path)).unwrap();
    logger::start(config.log_level).unwrap();

    let commits = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let counted = Arc::clone(&commits);
    let metrics = Arc::new(Metrics::new());
    let counting = Arc::clone(&metrics);
    let on_commit = move |deliveries| {
        counting.count_commit(deliveries);
        counted.0.fetch_add(1, Relaxed);
        counted.1.fetch_add(deliveries, Relaxed);
    };
    let store = Store::open(&config.database).unwrap();
    let mover = store.open_beside(&config.database).unwrap();
    let writer = Writer::new(store, mover, batch_max, on_commit, |error| {
        panic!("{error}")
    });
    let public = Public {
        webhook: Webhook::new(&config, Arc::new(writer), Arc::clone(&metrics)),
        checkout_status: None,
    };
    let http = Http::new(
        Arc::new(public),
        metrics.requests(),
        config.trusted_proxies.clone(),
    )
    .unwrap();
    let listener = listen::tcp(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let limits = Limits {
        connections: config.http_connections,
        request_timeout: config.request_timeout,
        body_max_bytes: config.body_max_bytes,
        silence: Duration::ZERO,
    };
    let edge = Edge::start(listener, limits, Arc::new(http)).unwrap();
    eprintln!("{address}");
    let _ = io::stdin().read_to_end(&mut Vec::new());
    edge.stop();
    eprintln!(
        "{}",
        commits.1.load(Relaxed) as f64 / commits.0.load(Relaxed) as f64
    );
}

/// Reads a request to its end and says 200 without having done anything.
fn serve_200() {
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    for _ in 0..64 {
        let listener = Arc::clone(&listener);
        thread::spawn(move || {
            let mut buffer = [0; 8 * 1024];
            while let Ok((mut stream, _)) = listener.accept() {
                let mut filled = 0;
                while !buffer[..filled].ends_with(b"}\n") && !buffer[..filled].ends_with(b"\n}") {
                    filled += stream.read(&mut buffer[filled..]).unwrap();
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\napplied");
            }
        });
    }
    eprintln!("{}", listener.local_addr().unwrap());
    let _ = io::stdin().read_to_end(&mut Vec::new());
}
