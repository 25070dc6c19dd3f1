//! The released program as a server in a process of its own, and clients that deliver to it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
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
