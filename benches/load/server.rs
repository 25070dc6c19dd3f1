//! The released program as a server in a process of its own, and clients that deliver to it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::load::SECRET;

/// The program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_paidup");

/// The program in the environment of such a server.
pub(crate) fn command(database: &Path, address: SocketAddr) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .env_clear()
        .env("DATABASE_PATH", database)
        .env("LISTEN_ADDR", address.to_string())
        .env(
            "ADMIN_ADDR",
            SocketAddr::new(address.ip(), address.port() - 1).to_string(),
        )
        .env("STRIPE_WEBHOOK_SECRET", SECRET)
        .env("RATE_LIMIT_WEBHOOK_EXEMPT", "127.0.0.0/8")
        .env("WEBHOOK_TOLERANCE_SECONDS", "3600")
        .stdin(Stdio::null());
    command
}

/// A server, killed when it goes out of scope.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(database: &Path) -> Server {
        let address = free_pair();
        let process = command(database, address)
            .arg("serve")
            .stdout(File::create("/dev/null").unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Server { process, address }
    }

    /// From a process that may not listen yet.
    pub(crate) fn deliver_patiently(&self, request: &[u8]) {
        let began = Instant::now();
        while self.try_to_deliver(request).is_none() {
            assert!(began.elapsed() < Duration::from_secs(60), "no answer");
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// `None` when the connection failed. Any answer but 200 ends the benchmark.
    pub(crate) fn try_to_deliver(&self, request: &[u8]) -> Option<()> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.write_all(request).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        Some(())
    }

    /// Memory that it holds.
    pub(crate) fn resident_mib(&self) -> f64 {
        let kib = u32::try_from(self.status("VmRSS:")).unwrap();
        f64::from(kib) / 1024.0
    }

    /// A number of what the kernel knows of the process.
    pub(crate) fn status(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Its open files and sockets.
    pub(crate) fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.process.id());
        fs::read_dir(folder).unwrap().count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How long each delivery takes while every client sends its `next` one as soon as it has its answer.
pub(crate) fn without_pause<R: AsRef<[u8]>>(
    server: &Server,
    clients: usize,
    measured: Duration,
    next: impl Fn() -> R + Sync,
) -> Vec<Duration> {
    let end = Instant::now() + measured;
    all_at_once(clients, || {
        let mut times = Vec::new();
        while Instant::now() < end {
            let request = next();
            let began = Instant::now();
            server.try_to_deliver(request.as_ref()).unwrap();
            times.push(began.elapsed());
        }
        times
    })
}

/// How long each delivery takes when `rate` a second are due, at even distances; counted from the
/// moment at which it was due, whoever was late.
pub(crate) fn on_schedule<R: AsRef<[u8]>>(
    server: &Server,
    clients: usize,
    rate: u32,
    measured: Duration,
    next: impl Fn() -> R + Sync,
) -> Vec<Duration> {
    let start = Instant::now() + Duration::from_millis(20);
    let turn = AtomicU32::new(0);
    all_at_once(clients, || {
        let mut times = Vec::new();
        loop {
            let due = Duration::from_secs(1) * turn.fetch_add(1, Relaxed) / rate;
            if due >= measured {
                return times;
            }
            let request = next();
            let moment = start + due;
            thread::sleep(moment.saturating_duration_since(Instant::now()));
            server.try_to_deliver(request.as_ref()).unwrap();
            times.push(moment.elapsed());
        }
    })
}

/// What all clients measured, in order of size.
fn all_at_once(clients: usize, client: impl Fn() -> Vec<Duration> + Sync) -> Vec<Duration> {
    let mut times: Vec<Duration> = thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(&client)).collect();
        let clients = clients.into_iter();
        clients.flat_map(|one| one.join().unwrap()).collect()
    });
    times.sort();
    times
}

/// Two ports, one below the other, that nobody has now.
fn free_pair() -> SocketAddr {
    loop {
        let edge = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let admin = SocketAddr::new(edge.ip(), edge.port() - 1);
        if TcpListener::bind(admin).is_ok() {
            return edge;
        }
    }
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
