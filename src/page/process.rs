//! Starts and stops `paidup page`, by `tiny_http`.
//!
//! `tiny_http` 0.12 believes what it reads, has no limits and no timeouts: a client that may connect can
//! fill its threads, or end the process with one request. So it is here, in a process that holds
//! nothing: it reads the database, and no delivery waits for it. What can be noticed is answered by a
//! new start, which takes less than a second under systemd:
//!
//! - it accepts no more (the limit on threads or open files is reached): [`watch`];
//! - all of [`ANSWERS_MAX`] answers are stuck, each with a client that does not read or does not send, or
//!   one is for longer than any honest one takes: connections that wait for a thread of its own are then
//!   in a queue that nobody else can see;
//! - it aborts or runs out of memory: then the kernel ends it.

use std::collections::BTreeMap;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;
use tiny_http::Server;

use super::door::{Door, USER};
use super::site::Pages;
use super::visit::Sources;
use crate::base::log_line::{LogFields, Message};
use crate::base::secret::Secret;
use crate::config::Address;
use crate::config::page::PageConfig;
use crate::config::table::PAGE_PASSWORD;
use crate::host::clock::Now;
use crate::host::logger;
use crate::host::systemd::Systemd;
use crate::http::exchange::Http;
use crate::http::metrics::RequestCounters;
use crate::http::peer::Peer;
use crate::http::server::{StartError, Stop, reasons_to_stop};
use crate::http::{gate, listen};

/// Answers under way at the same time: more than twenty tabs ask for.
const ANSWERS_MAX: usize = 32;
/// How long a request waits for one of them to end.
const FULL_PATIENCE: Duration = Duration::from_millis(500);
/// A look ends after two seconds, and what it shows fits into the kernel's buffers.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at whether that has happened.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the answers under way may take when the process is asked to stop.
const END_PATIENCE: Duration = Duration::from_secs(3);
/// And when some of them are stuck.
const BROKEN_PATIENCE: Duration = Duration::from_millis(200);
/// `tiny_http` reads the rest of a body in one piece, into as much memory as the client says.
const BODY_MAX_BYTES: usize = 64 * 1024;
/// A connection waits for so many looks in a row: nobody accepts it.
const DEAF_LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(100);

/// What there is beside the configuration.
pub(crate) struct Options {
    /// Ends when nobody has asked for that long: systemd starts it again when somebody does.
    pub(crate) leave_after: Option<Duration>,
    pub(crate) sources: Sources,
}

/// Serves until there is a reason to stop, and returns that reason. `tell` gets one line for people.
///
/// # Errors
/// [`StartError`] when it cannot start.
pub(crate) fn run(
    config: PageConfig,
    mut systemd: Systemd,
    options: Options,
    tell: &dyn Fn(&str),
) -> Result<Stop, StartError> {
    let passed = systemd.page.take();
    let is_passed_port =
        |socket: &Socket| listen::local_address(socket).is_some() && config.password.is_none();
    if passed.as_ref().is_some_and(is_passed_port) {
        return Err(StartError::Configuration(PAGE_PASSWORD.variable.error(
            "is not set or blank, and systemd passes a port: a key made for it would be in the journal",
        )));
    }
    let manager = systemd.into_manager();
    let (stop, stops) = reasons_to_stop(&manager)?;
    let listener = match passed {
        Some(passed) => passed,
        None => listen::on("PAGE_ADDR", &config.listen, config.socket_group)?,
    };
    let (password, notice) = login(config.password, &listener)?;
    let door = Door::new(config.hosts, password.as_ref()).map_err(StartError::System)?;
    let pages = Pages::new(door, config.database, options.sources);
    let answers = Answers::start(listener, pages, stop).map_err(StartError::System)?;
    logger::write(Message::Ready, &LogFields::default());
    tell(&format!(
        "paidup {} shows the orders on {notice}",
        env!("CARGO_PKG_VERSION")
    ));
    manager.ready("Showing the orders");
    let why = wait(&stops, &answers, options.leave_after);
    manager.stopping("Finishing answers");
    logger::write(Message::Stopping, &LogFields::default());
    let patience = match why {
        Stop::Broken(_) => BROKEN_PATIENCE,
        Stop::Asked | Stop::LogLost => END_PATIENCE,
    };
    answers.wait_until(|under_way| under_way == 0, patience);
    logger::write(Message::Stopped, &LogFields::default());
    Ok(why)
}

/// The password, if there is one, and where to go. The file permission is the login of a Unix socket;
/// for a port without a password we make one.
fn login(
    password: Option<Secret>,
    listener: &Socket,
) -> Result<(Option<Secret>, String), StartError> {
    let Some(address) = listen::local_address(listener) else {
        let path = listener.local_addr().ok();
        let path = path.as_ref().and_then(|local| local.as_pathname());
        let place = path.map(|path| Address::Unix(path.to_owned()).to_string());
        return Ok((password, place.unwrap_or_default()));
    };
    if password.is_some() {
        return Ok((password, format!("http://{address}/ to the user {USER}")));
    }
    let key = gate::generate().map_err(StartError::System)?;
    let notice = format!("http://{USER}:{key}@{address}/");
    Ok((Some(Secret::new(&key)), notice))
}

/// Sleeps until there is a reason to stop.
fn wait(stops: &Receiver<Stop>, answers: &Answers, leave_after: Option<Duration>) -> Stop {
    let Some(leave_after) = leave_after else {
        return stops.recv().unwrap_or(Stop::Asked);
    };
    loop {
        let quiet = answers.quiet_for(Now::read().instant);
        let Some(rest) = leave_after
            .checked_sub(quiet)
            .filter(|rest| !rest.is_zero())
        else {
            return Stop::Asked;
        };
        match stops.recv_timeout(rest) {
            Ok(stop) => return stop,
            Err(RecvTimeoutError::Disconnected) => return Stop::Asked,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// The answers under way.
#[derive(Clone)]
struct Answers(Arc<Shared>);

struct Shared {
    http: Http,
    /// When each began, by its number.
    under_way: Mutex<BTreeMap<u64, Instant>>,
    last: Mutex<Instant>,
}

impl Answers {
    fn start(listener: Socket, pages: Pages, stop: Sender<Stop>) -> std::io::Result<Answers> {
        let counters = Arc::new(RequestCounters::new(&[], &[]));
        let loopback = ["127.0.0.0/8", "::1/128"].map(|net| net.parse().ok());
        let trusted = loopback.into_iter().flatten().collect();
        let answers = Answers(Arc::new(Shared {
            http: Http::new(Arc::new(pages), counters, trusted)?,
            under_way: Mutex::default(),
            last: Mutex::new(Now::read().instant),
        }));
        let watched = listener.try_clone()?;
        let server = server(listener)?;
        let (accepting, deaf) = (answers.clone(), stop.clone());
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        named("page").spawn(move || accepting.accept(server, &stop))?;
        named("watch").spawn(move || watch(&watched, &deaf))?;
        Ok(answers)
    }

    /// Each request is answered in a thread of its own: one that hangs holds up nobody else.
    fn accept(&self, server: Server, stop: &Sender<Stop>) {
        let mut number = 0;
        let ended = loop {
            let request = match self.oldest() {
                None => server.recv().map(Some),
                Some(_) => server.recv_timeout(FULL_PATIENCE),
            };
            let Ok(request) = request else {
                break "tiny_http accepts no more connections";
            };
            // Dropped, it would read the rest of its body, which may never come.
            let request = request.map(ManuallyDrop::new);
            let now = Now::read().instant;
            let is_late = |began| now.saturating_duration_since(began) > ANSWER_PATIENCE;
            if self.oldest().is_some_and(is_late) {
                break "an answer is stuck, with a client that neither reads nor leaves";
            }
            let Some(request) = request else {
                continue;
            };
            *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = now;
            if !self.wait_until(|under_way| under_way < ANSWERS_MAX, FULL_PATIENCE) {
                break "all answers are stuck, with clients that neither read nor leave";
            }
            number += 1;
            self.under_way().insert(number, now);
            if request.body_length() > Some(BODY_MAX_BYTES) {
                // It counts as stuck for ever.
                continue;
            }
            let answers = self.clone();
            let answer = move || {
                answers.answer(ManuallyDrop::into_inner(request));
                answers.under_way().remove(&number);
            };
            if thread::Builder::new().spawn(answer).is_err() {
                break "there are no more threads";
            }
        };
        // Dropped, it would remove a socket that is systemd's.
        std::mem::forget(server);
        let _ = stop.send(Stop::Broken(format!(
            "{ended}. Somebody who may connect has asked for too much at once; start `paidup page` again"
        )));
    }

    fn answer(&self, request: tiny_http::Request) {
        let peer = request
            .remote_addr()
            .map_or(Peer::Unix, |at| Peer::tcp(*at));
        let method = request.method().to_string();
        let target = request.url().to_owned();
        let headers: Vec<(String, String)> = request
            .headers()
            .iter()
            .map(|header| (header.field.to_string(), header.value.to_string()))
            .collect();
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        // It would not say that the connection ends, and keep a thread for each one that does not.
        let mut client = request.into_writer();
        let http = &self.0.http;
        http.serve(&http.request(&method, &target, &headers, peer), |bytes| {
            // Whoever has left needs no answer.
            let _ = client.write_all(bytes).and_then(|()| client.flush());
        });
    }

    /// Whether that many answers are under way before `patience` ends.
    fn wait_until(&self, is_wanted: impl Fn(usize) -> bool, patience: Duration) -> bool {
        let end = Now::read().instant + patience;
        loop {
            if is_wanted(self.under_way().len()) {
                return true;
            }
            if Now::read().instant >= end {
                return false;
            }
            thread::sleep(PAUSE);
        }
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        let under_way = self.0.under_way.lock();
        under_way.unwrap_or_else(PoisonError::into_inner)
    }

    /// When the oldest of them began.
    fn oldest(&self) -> Option<Instant> {
        self.under_way().values().next().copied()
    }

    fn quiet_for(&self, now: Instant) -> Duration {
        let last = *self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(last)
    }
}

fn server(listener: Socket) -> std::io::Result<Server> {
    // systemd, or the process before us, may have left it otherwise.
    listener.set_nonblocking(false)?;
    let server = if listen::local_address(&listener).is_some() {
        // Accepted connections inherit it.
        listener.set_tcp_nodelay(true)?;
        Server::from_listener(TcpListener::from(listener), None)
    } else {
        Server::from_listener(UnixListener::from(listener), None)
    };
    server.map_err(|error| std::io::Error::other(error.to_string()))
}

/// Notices that nobody accepts connections any more. Its thread for that ends without a word when
/// it gets no descriptor or no thread.
fn watch(listener: &Socket, stop: &Sender<Stop>) {
    let waits = |patience: Option<&Timespec>| {
        let mut sockets = [PollFd::new(listener, PollFlags::IN)];
        poll(&mut sockets, patience).is_ok_and(|ready| ready > 0)
    };
    let none = Timespec::default();
    loop {
        let mut looks = 0;
        while looks < DEAF_LOOKS && waits((looks > 0).then_some(&none)) {
            looks += 1;
            thread::sleep(LOOK);
        }
        if looks == DEAF_LOOKS {
            let why = "tiny_http accepts no connections. Start `paidup page` again";
            let _ = stop.send(Stop::Broken(why.to_owned()));
            return;
        }
    }
}
