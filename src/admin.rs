//! Health and metrics for the machine's own processes, by `tiny_http` on loopback.
//!
//! `tiny_http` 0.12 must not meet strangers, so this server refuses to listen anywhere but on
//! loopback or a Unix socket, and three of its habits are worked around here:
//!
//! - A request that is dropped with an unread body first allocates as many bytes as its
//!   `Content-Length` says, which ends the process (<https://github.com/tiny-http/tiny-http/issues/252>).
//!   No address of ours takes a body: such a request is answered and then never dropped. That leaks
//!   one connection of a local process, instead of losing every delivery in flight.
//! - Its accept thread ends at the first error, at times without a word. We see that its listener is
//!   closed, and open another on the same socket.
//! - Dropping a `Server` removes the file of its Unix socket, and does not stop its thread. So no
//!   `Server` is ever dropped: leaving the process is what ends it.
//!
//! Answers are written by hand: `tiny_http` drops a `Connection: close` of ours without a word, and
//! a connection that is kept open can keep others waiting.
//!
//! What remains is for the machine's owner to know: a local process that wants to harm us can still
//! use up our descriptors here. `ADMIN_ADDR=unix:…` in a directory of our own, or `off`, prevents it.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::Level;
use socket2::Socket;
use tiny_http::{Listener, Response, Server, StatusCode};

use crate::clock::Now;
use crate::domain::client::Peer;
use crate::domain::log_line::{ErrorCode, LogFields, Message};
use crate::http::{App, Body, Http, Reply, Request};
use crate::logger;
use crate::metrics::Metrics;
use crate::sqlite::Figures;

/// Tells whether deliveries can be taken now, or the reason why not.
pub type Readiness = dyn Fn() -> Result<(), ErrorCode> + Send + Sync;
/// Reads the figures of the database; None when that fails.
pub type ReadFigures = dyn Fn() -> Option<Figures> + Send + Sync;

/// `GET /healthz`, `GET /readyz` and `GET /metrics`.
pub struct AdminApp {
    /// What `/readyz` asks.
    pub ready: Box<Readiness>,
    /// What `/metrics` reads at each scrape.
    pub figures: Box<ReadFigures>,
    /// What `/metrics` has counted.
    pub metrics: Arc<Metrics>,
}

impl App for AdminApp {
    fn answer(&self, request: &Request<'_>, _: Now, _: &mut LogFields) -> Reply {
        if !request.is_for_this_machine() {
            return Reply::not_this_machine();
        }
        if !matches!(request.path, "/healthz" | "/readyz" | "/metrics") {
            return Reply::not_found();
        }
        if !request.is_get() {
            return Reply::method_not_allowed("GET, HEAD");
        }
        match request.path {
            "/metrics" => self.metrics(),
            "/readyz" => self.ready(),
            _ => Reply::healthy(),
        }
    }
}

impl AdminApp {
    fn ready(&self) -> Reply {
        match (self.ready)() {
            Ok(()) => Reply::healthy(),
            Err(code) => Reply {
                level: Level::Warn,
                message: Message::RequestFailed,
                ..Reply::error(503, code, code.to_string())
            },
        }
    }

    fn metrics(&self) -> Reply {
        let figures = (self.figures)();
        Reply {
            body: Body::Metrics(self.metrics.render(figures.as_ref())),
            ..Reply::healthy()
        }
    }
}

/// The running admin server.
pub struct Admin {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Admin {
    /// Serves `http` on a listening socket, which may be inherited.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the socket can be reached from another machine; otherwise
    /// what the operating system says when it has no descriptor or thread for us.
    pub fn start(listener: Socket, http: Arc<Http>) -> io::Result<Admin> {
        refuse_public(&listener)?;
        let door = Door::open(&listener)?;
        let mut admin = Admin {
            shared: Arc::new(Shared {
                listener,
                door: Mutex::new(door),
                stopping: AtomicBool::new(false),
                http,
            }),
            workers: Vec::new(),
        };
        for number in 1..=WORKERS {
            let shared = Arc::clone(&admin.shared);
            let worker = thread::Builder::new()
                .name(format!("admin-{number}"))
                .spawn(move || shared.run());
            match worker {
                Ok(worker) => admin.workers.push(worker),
                Err(error) => {
                    admin.stop();
                    return Err(error);
                }
            }
        }
        Ok(admin)
    }

    /// Lets the workers finish what they have begun. The port stays open, and without an answer,
    /// until the process ends.
    pub fn stop(self) {
        self.shared.stopping.store(true, SeqCst);
        let server = self.shared.server();
        for _ in &self.workers {
            server.unblock();
        }
        for worker in self.workers {
            let _ = worker.join();
        }
    }
}

/// Threads that answer.
const WORKERS: usize = 4;
/// How often a worker without work looks whether the accept thread still lives.
const TURN: Duration = Duration::from_secs(1);
/// Longest wait for a client that does not take its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bodies up to this size were read by `tiny_http` before it gave us the request.
const READ_BY_TINY_HTTP_BYTES: usize = 1024;

struct Shared {
    /// The socket from which a new door can be opened.
    listener: Socket,
    door: Mutex<Door>,
    stopping: AtomicBool,
    http: Arc<Http>,
}

/// A `tiny_http` server and how to see that it still accepts.
struct Door {
    server: &'static Server,
    /// The accept thread owns this descriptor, and closes it when it ends.
    descriptor: PathBuf,
    /// What the descriptor is while it is open: a name such as `socket:[4711]`.
    socket: PathBuf,
}

impl Door {
    fn open(listener: &Socket) -> io::Result<Door> {
        // These live on the socket itself, which outlives a process when systemd holds it, and an
        // `accept()` that times out would end tiny_http's thread. A connection over TCP inherits
        // the write timeout.
        listener.set_nonblocking(false)?;
        listener.set_read_timeout(None)?;
        listener.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let own = listener.try_clone()?;
        let descriptor = PathBuf::from(format!("/proc/self/fd/{}", own.as_raw_fd()));
        let socket = fs::read_link(&descriptor)?;
        let listener: Listener = if own.local_addr()?.is_unix() {
            UnixListener::from(OwnedFd::from(own)).into()
        } else {
            TcpListener::from(own).into()
        };
        let server = Server::from_listener(listener, None).map_err(io::Error::other)?;
        Ok(Door {
            server: Box::leak(Box::new(server)),
            descriptor,
            socket,
        })
    }

    fn is_open(&self) -> bool {
        fs::read_link(&self.descriptor).is_ok_and(|socket| socket == self.socket)
    }
}

impl Shared {
    fn run(&self) {
        while !self.stopping.load(SeqCst) {
            // tiny_http panics where it finds no thread or descriptor: that must not cost a worker.
            let _ = catch_unwind(AssertUnwindSafe(|| self.turn()));
        }
    }

    fn turn(&self) {
        match self.server().recv_timeout(TURN) {
            Ok(Some(request)) => self.serve(request),
            Ok(None) | Err(_) => {
                if let Some(old) = self.reopen_if_closed() {
                    self.finish(old);
                }
            }
        }
    }

    fn server(&self) -> &'static Server {
        let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        door.server
    }

    /// Gives the old server if there had to be a new one.
    fn reopen_if_closed(&self) -> Option<&'static Server> {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        if door.is_open() {
            return None;
        }
        let old = mem::replace(&mut *door, Door::open(&self.listener).ok()?);
        logger::write(Level::Warn, Message::AdminReopened, &LogFields::default());
        Some(old.server)
    }

    /// Serves those whom a server had accepted before its accept thread ended.
    fn finish(&self, old: &Server) {
        loop {
            match old.recv_timeout(TURN) {
                Ok(Some(request)) => self.serve(request),
                Ok(None) => return,
                Err(_) => {} // why the thread ended, told once
            }
        }
    }

    fn serve(&self, incoming: tiny_http::Request) {
        let peer = incoming
            .remote_addr()
            .map_or(Peer::Unix, |it| Peer::tcp(*it));
        let method = incoming.method().as_str().to_owned();
        let target = incoming.url().to_owned();
        let headers = incoming.headers().to_vec();
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|header| (header.field.as_str().as_str(), header.value.as_str()))
            .collect();
        let request = self.http.request(&method, &target, &headers, peer);
        if has_unread_body(&incoming) {
            let refusal = Reply::error(413, ErrorCode::BodyTooLarge, "No body is taken here");
            self.http.refuse(&request, refusal, |answer| {
                answer_and_keep(incoming, answer);
            });
        } else {
            self.http.serve(&request, |answer| {
                let mut client = incoming.into_writer();
                let _ = client.write_all(answer).and_then(|()| client.flush());
            });
        }
    }
}

/// Whether dropping `request` would make `tiny_http` allocate what its `Content-Length` says.
fn has_unread_body(request: &tiny_http::Request) -> bool {
    let waits = request.headers().iter().any(|it| it.field.equiv("Expect"));
    let read = if waits { 0 } else { READ_BY_TINY_HTTP_BYTES };
    request.body_length().is_some_and(|length| length > read)
}

/// Answers without dropping the request or its connection, ever.
///
/// Only `upgrade` gives the connection away undropped. It sends a head of its own, so it gets an
/// interim one (1xx), which a client skips on its way to ours.
fn answer_and_keep(request: tiny_http::Request, answer: &[u8]) {
    let interim = Response::new_empty(StatusCode(102));
    let mut client = request.upgrade("none", interim);
    let _ = client.write_all(answer).and_then(|()| client.flush());
    mem::forget(client);
}

fn refuse_public(listener: &Socket) -> io::Result<()> {
    let address = listener.local_addr()?;
    let local = match address.as_socket() {
        Some(address) => address.ip().to_canonical().is_loopback(),
        None => address.is_unix(),
    };
    if local {
        return Ok(());
    }
    let text = "ADMIN_ADDR can be reached from other machines, and its server must not be: \
                set it to a loopback address (127.0.0.1:4243), to unix:/path, or to off";
    Err(io::Error::new(ErrorKind::InvalidInput, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &str, path: &str, host: Option<&str>, ready: Result<(), ErrorCode>) -> u16 {
        let app = AdminApp {
            ready: Box::new(move || ready),
            figures: Box::new(|| None),
            metrics: Arc::new(Metrics::new()),
        };
        let peer = Peer::Address("127.0.0.1".parse().unwrap());
        let headers: Vec<_> = host.iter().map(|host| ("Host", *host)).collect();
        let http = Http::new(Arc::new(app), Arc::new(Metrics::new()), Vec::new()).unwrap();
        let mut answer = Vec::new();
        http.serve(&http.request(method, path, &headers, peer), |bytes| {
            answer.extend_from_slice(bytes);
        });
        String::from_utf8(answer).unwrap()[9..12].parse().unwrap()
    }

    #[test]
    fn only_a_host_of_this_machine_is_served() {
        for host in [
            "localhost",
            "LOCALHOST:4243",
            "127.0.0.1:1",
            "127.8.8.8",
            "[::1]:4243",
        ] {
            assert_eq!(status("GET", "/healthz", Some(host), Ok(())), 200, "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "localhost.evil:1",
            "127.0.0.1, evil",
        ] {
            assert_eq!(status("GET", "/healthz", Some(host), Ok(())), 421, "{host}");
        }
        assert_eq!(status("GET", "/healthz", None, Ok(())), 421);
    }

    #[test]
    fn each_address_answers_get_only() {
        let status = |method, path| status(method, path, Some("localhost"), Ok(()));
        assert_eq!(status("HEAD", "/metrics"), 200);
        assert_eq!(status("POST", "/metrics"), 405);
        assert_eq!(status("GET", "/stripe/webhook"), 404);
    }

    #[test]
    fn a_store_that_cannot_write_is_not_ready() {
        let full = Err(ErrorCode::StoreFull);
        assert_eq!(status("GET", "/readyz", Some("localhost"), Ok(())), 200);
        assert_eq!(status("GET", "/readyz", Some("localhost"), full), 503);
        assert_eq!(status("GET", "/healthz", Some("localhost"), full), 200);
    }
}
