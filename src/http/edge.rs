//! Serves bounded requests, each under one deadline, and stops without losing any.
//!
//! A fixed number of threads limits the connections; further ones wait in the kernel's queue. All
//! threads wait in `accept()` with a timeout, so that they notice a stop. (Waking them by connecting to
//! ourselves would not do: in its own network namespace, a process cannot reach a socket that it was
//! given.) A thread serves the connection that it has accepted from its first byte to its answer.
//! Letting only one thread at a time into `accept()` would save a few idle wake-ups, but on a busy
//! machine it cost 40 % of the requests per second when measured.
//!
//! A slow client may take its time as long as a thread is free. When none is free and somebody waits in
//! the queue, a client that has sent nothing for a moment gives way at once, and one whose request is
//! incomplete a little later: holding connections open does not keep others out.
//!
//! A connection has one request. Where `Limits::silence` says so it stays after a delivery, while at
//! least half of the threads are free, so that those that stay keep nobody out. The client should close
//! it first: if it sends a request at the moment at which we do, nobody answers that.
//!
//! Every limit has a name below.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;

use crate::base::log_line::{ErrorCode, LogFields, Message};
use crate::host::clock::Now;
use crate::host::logger;
use crate::http::exchange::{Http, Reply, Request};
use crate::http::head::{self, Framing, HEADERS_MAX, Head};
use crate::http::peer::Peer;

/// The limits that an operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections served at the same time, each by a thread of its own.
    pub connections: NonZeroUsize,
    /// From the accepted connection to the last byte of the request.
    pub request_timeout: Duration,
    /// Largest body. A larger one is refused from its header, unread.
    pub body_max_bytes: usize,
    /// How long a connection stays after a delivery, for the next one. Zero: no connection stays.
    pub silence: Duration,
}

/// A running server.
pub struct Edge {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Edge {
    /// Serves `http` on a listening TCP or Unix socket, which may be inherited.
    ///
    /// # Errors
    /// A thread cannot be created, or the socket is not a listening stream socket. Nothing runs then.
    pub fn start(listener: Socket, limits: Limits, http: Arc<Http>) -> io::Result<Edge> {
        // A process before us may have set both: systemd holds the socket longer than a process lives.
        listener.set_nonblocking(false)?;
        listener.set_read_timeout(Some(ACCEPT_TIMEOUT))?;
        let mut edge = Edge {
            shared: Arc::new(Shared {
                listener,
                free: AtomicUsize::new(0),
                staying: AtomicUsize::new(0),
                is_stopping: AtomicBool::new(false),
                leave_at: OnceLock::new(),
                complained: Mutex::new(None),
                limits,
                http,
            }),
            threads: Vec::new(),
        };
        for number in 1..=limits.connections.get() {
            let shared = Arc::clone(&edge.shared);
            let thread = thread::Builder::new()
                .name(format!("edge-{number}"))
                .stack_size(STACK_BYTES)
                .spawn(move || shared.run());
            match thread {
                Ok(thread) => edge.threads.push(thread),
                Err(error) => {
                    edge.stop();
                    return Err(error);
                }
            }
        }
        Ok(edge)
    }

    /// Serves every connection that is accepted or waits to be, and returns when all are answered:
    /// in the worst case after `SILENCE_AT_STOP`, the request timeout and a handler's time.
    pub fn stop(self) {
        self.shared.is_stopping.store(true, SeqCst);
        while self.shared.staying.load(SeqCst) > 0 {
            thread::sleep(LOOK_EVERY);
        }
        let _ = self.shared.leave_at.set(Now::read().instant + DRAIN_MAX);
        // From now on, only what is already in the queue is served.
        let _ = self.shared.listener.set_nonblocking(true);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Stack of a thread. Its buffers are on the heap.
const STACK_BYTES: usize = 256 * 1024;
/// How long a thread sleeps in `accept()` before it checks whether we stop.
const ACCEPT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a stop takes connections from a queue that never empties.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Pause after `accept()` has failed, mostly for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// At most one log line about failing `accept()` calls in this time.
const COMPLAINT_EVERY: Duration = Duration::from_secs(10);
/// How long a connection may be silent when others wait for its thread. An honest client speaks at
/// once: its first bytes are on the way while its connection is accepted.
const SILENCE_MAX: Duration = Duration::from_millis(250);
/// How long a connection that stays may still be silent when we stop: longer than the idle limit of the
/// proxies in systemd/, so that they close theirs first.
const SILENCE_AT_STOP: Duration = Duration::from_secs(3);
/// How often a connection that stays checks whether we stop.
const STOP_LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a request may take to come in when others wait for its thread.
const HASTE_MAX: Duration = Duration::from_secs(1);
/// How often a thread that waits for its client checks whether others wait for the thread.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest wait for a client that does not take its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Request line and headers together.
const HEAD_MAX_BYTES: usize = 16 * 1024;
/// Least step by which a body's buffer grows; it never runs far ahead of what has arrived.
const BODY_STEP_BYTES: usize = 8 * 1024;
/// What a thread keeps of a body's buffer between requests.
const BODY_KEEP_BYTES: usize = 16 * 1024;
/// How long we go on reading from a client that may still be sending after our answer: a connection
/// reset would take the answer from it.
const LINGER_MAX: Duration = Duration::from_millis(500);
/// How much of that we read and throw away.
const LINGER_MAX_BYTES: usize = 1024 * 1024;

struct Shared {
    listener: Socket,
    /// Threads that wait for a connection.
    free: AtomicUsize,
    /// Connections that wait for another request.
    staying: AtomicUsize,
    /// From now on, no connection stays.
    is_stopping: AtomicBool,
    /// Set by a stop: when it gives up on a queue that never empties.
    leave_at: OnceLock<Instant>,
    /// When a failing `accept()` was last logged.
    complained: Mutex<Option<Instant>>,
    limits: Limits,
    http: Arc<Http>,
}

/// A thread's buffers, kept from one connection to the next.
struct Buffers {
    head: Box<[u8]>,
    body: Vec<u8>,
}

impl Shared {
    fn run(&self) {
        let mut buffers = Buffers {
            head: vec![0; HEAD_MAX_BYTES].into(),
            body: Vec::new(),
        };
        loop {
            self.free.fetch_add(1, SeqCst);
            let next = self.next_connection();
            self.free.fetch_sub(1, SeqCst);
            let Some((stream, peer)) = next else {
                return;
            };
            let mut connection = Connection::new(self, stream);
            let mut stays = true;
            while stays {
                // A handler's panic is caught where it is answered; this catches one of the edge.
                let served = catch_unwind(AssertUnwindSafe(|| {
                    self.serve(&mut connection, peer, &mut buffers)
                }));
                buffers.body.clear();
                buffers.body.shrink_to(BODY_KEEP_BYTES);
                stays = served.unwrap_or(false);
                if stays {
                    connection.stay();
                }
            }
        }
    }

    /// Whether a connection waits in the queue and no thread is free to take it.
    fn is_pressed(&self) -> bool {
        let mut queue = [PollFd::new(&self.listener, PollFlags::IN)];
        self.free.load(SeqCst) == 0 && poll(&mut queue, Some(&Timespec::default())) == Ok(1)
    }

    /// Waits for a connection. None: we stop, and the queue is empty.
    fn next_connection(&self) -> Option<(Socket, Peer)> {
        loop {
            let leave_at = self.leave_at.get();
            if leave_at.is_some_and(|leave_at| *leave_at <= Now::read().instant) {
                return None;
            }
            match self.listener.accept() {
                Ok((stream, address)) => {
                    let peer = address.as_socket().map_or(Peer::Unix, Peer::tcp);
                    return Some((stream, peer));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if leave_at.is_some() {
                        return None;
                    }
                }
                Err(error) => self.accept_failed(&error),
            }
        }
    }

    /// Whether a connection may stay.
    fn has_room_to_stay(&self) -> bool {
        let is_half_free = self.free.load(SeqCst) * 2 >= self.limits.connections.get();
        is_half_free && !self.limits.silence.is_zero() && !self.is_stopping.load(SeqCst)
    }

    /// One request, one answer. True: the connection stays.
    fn serve(&self, connection: &mut Connection<'_>, peer: Peer, buffers: &mut Buffers) -> bool {
        let unread = self.http.request("", "", &[], peer);
        let (head, rest) = match connection.read_head(&mut buffers.head) {
            Ok(Some(parts)) => parts,
            Ok(None) => return false,
            Err(refusal) => return self.refuse(connection, &unread, refusal),
        };
        let mut headers = [("", ""); HEADERS_MAX];
        let head = match Head::parse(head, &mut headers) {
            Ok(head) => head,
            Err(refusal) => return self.refuse(connection, &unread, refusal),
        };
        let mut request = self
            .http
            .request(head.method, head.target, head.headers, peer);
        let body = head
            .framing(self.limits.body_max_bytes)
            .and_then(|framing| connection.read_body(&framing, rest, &mut buffers.body));
        match body {
            Ok(all_was_read) => {
                request.body = &buffers.body;
                request.may_stay = all_was_read && head.may_stay() && self.has_room_to_stay();
                let stays = self.http.serve(&request, |answer| connection.send(answer));
                if !all_was_read {
                    connection.linger();
                }
                stays
            }
            Err(refusal) => self.refuse(connection, &request, refusal),
        }
    }

    fn refuse(
        &self,
        connection: &mut Connection<'_>,
        request: &Request<'_>,
        refusal: Reply,
    ) -> bool {
        self.http
            .refuse(request, refusal, |answer| connection.send(answer));
        connection.linger();
        false
    }

    /// A client that has left again, or a signal, is not a failure. Anything else is logged and waited
    /// out: above all a lack of descriptors or memory, which passes when a connection ends.
    fn accept_failed(&self, error: &io::Error) {
        use ErrorKind::{ConnectionAborted, Interrupted};
        if matches!(error.kind(), ConnectionAborted | Interrupted) {
            return;
        }
        if self.may_complain(Now::read().instant) {
            let fields = LogFields {
                error_code: error.raw_os_error().map(ErrorCode::System),
                ..LogFields::default()
            };
            logger::write(Message::AcceptFailed, &fields);
        }
        thread::sleep(ACCEPT_PAUSE);
    }

    fn may_complain(&self, now: Instant) -> bool {
        let mut last = self
            .complained
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.duration_since(last) >= COMPLAINT_EVERY);
        if due {
            *last = Some(now);
        }
        due
    }
}

/// The bytes up to the blank line after the headers, and those that came behind it.
type HeadAndRest<'b> = (&'b [u8], &'b [u8]);

/// An accepted connection.
struct Connection<'s> {
    shared: &'s Shared,
    stream: Socket,
    /// When it was accepted or, after a first request, the next one began.
    accepted: Instant,
    /// When its request must be complete.
    deadline: Instant,
    /// From then on it gives its thread to others that wait for one.
    gives_way: Instant,
    /// It waits for another request.
    stays: Option<Staying<'s>>,
}

/// Counts a connection that waits for another request, until this is dropped.
struct Staying<'s>(&'s AtomicUsize);

impl<'s> Staying<'s> {
    fn new(count: &'s AtomicUsize) -> Staying<'s> {
        count.fetch_add(1, SeqCst);
        Staying(count)
    }
}

impl Drop for Staying<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl<'s> Connection<'s> {
    fn new(shared: &'s Shared, stream: Socket) -> Connection<'s> {
        let accepted = Now::read().instant;
        let _ = stream.set_write_timeout(Some(WRITE_TIMEOUT));
        Connection {
            shared,
            stream,
            accepted,
            deadline: accepted + shared.limits.request_timeout,
            gives_way: accepted + SILENCE_MAX,
            stays: None,
        }
    }

    /// Waits for another request.
    fn stay(&mut self) {
        self.accepted = Now::read().instant;
        self.deadline = self.accepted + self.shared.limits.silence;
        self.gives_way = self.deadline;
        self.stays = Some(Staying::new(&self.shared.staying));
    }

    /// Reads until the head is complete. None: the client has sent nothing, so there is nothing to
    /// answer.
    fn read_head<'b>(&mut self, buffer: &'b mut [u8]) -> Result<Option<HeadAndRest<'b>>, Reply> {
        let mut filled = 0;
        loop {
            let room = buffer.get_mut(filled..).unwrap_or_default();
            if room.is_empty() {
                return Err(head::too_large());
            }
            let got = match self.read(room) {
                Ok(0) | Err(_) if filled == 0 => return Ok(None),
                Ok(0) => return Err(head::malformed("Request incomplete")),
                got => got?,
            };
            if self.stays.take().is_some() {
                self.accepted = Now::read().instant;
                self.deadline = self.accepted + self.shared.limits.request_timeout;
            }
            self.gives_way = self.accepted + HASTE_MAX;
            let end = head::find_end(buffer.get(..filled + got).unwrap_or_default(), filled)?;
            filled += got;
            if let Some(end) = end {
                let whole = buffer.get(..filled).unwrap_or_default();
                return Ok(whole.split_at_checked(end));
            }
        }
    }

    /// Reads the body, of which `rest` has already arrived. False: the client has sent more than that.
    fn read_body(
        &mut self,
        framing: &Framing,
        rest: &[u8],
        body: &mut Vec<u8>,
    ) -> Result<bool, Reply> {
        let length = framing.length;
        body.extend_from_slice(rest.get(..=length).unwrap_or(rest));
        if framing.continue_expected && body.len() < length {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        while body.len() < length {
            let filled = body.len();
            // One byte beyond the end is enough to see that the client sends more.
            let step = (length - filled).min(filled.max(BODY_STEP_BYTES)) + 1;
            body.resize(filled + step, 0);
            let got = self.read(body.get_mut(filled..).unwrap_or_default())?;
            body.truncate(filled + got);
            if got == 0 {
                return Err(head::malformed("Request incomplete"));
            }
        }
        let all_was_read = body.len() == length;
        body.truncate(length);
        Ok(all_was_read)
    }

    /// One read within the time that is left, which dripping does not extend. A lost connection reads
    /// as its end.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Reply> {
        loop {
            let now = Now::read().instant;
            if self.stays.is_some() && self.shared.is_stopping.load(SeqCst) {
                self.deadline = self.deadline.min(self.accepted + SILENCE_AT_STOP);
            }
            let look_every = match self.stays {
                Some(_) => STOP_LOOK_EVERY,
                None => LOOK_EVERY,
            };
            let wait = self.deadline.duration_since(now).min(look_every);
            if wait.is_zero()
                || (self.gives_way <= now && self.shared.is_pressed())
                || self.stream.set_read_timeout(Some(wait)).is_err()
            {
                return Err(timed_out());
            }
            match (&self.stream).read(buffer) {
                Ok(got) => return Ok(got),
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(_) => return Ok(0),
            }
        }
    }

    /// Writes an answer, which fits into the socket's buffer. A client that has gone does not get it,
    /// and nothing else follows from that.
    fn send(&self, bytes: &[u8]) {
        let _ = (&self.stream).write_all(bytes);
    }

    /// Ends our side of the connection, and lets the client finish sending.
    fn linger(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        let now = Now::read().instant;
        self.deadline = now + LINGER_MAX;
        self.gives_way = now + LOOK_EVERY;
        let mut thrown_away = 0;
        let mut buffer = [0; BODY_STEP_BYTES];
        while thrown_away < LINGER_MAX_BYTES
            && let Ok(got @ 1..) = self.read(&mut buffer)
        {
            thrown_away += got;
        }
    }
}

fn timed_out() -> Reply {
    Reply::error(408, ErrorCode::RequestTimeout, "Request timeout")
}
