//! The reader of every server: one bounded request per connection under one deadline, and a stop that
//! loses none.
//!
//! A fixed number of threads is the limit on connections; who comes beyond it waits in the kernel's
//! queue. All threads wait in `accept()`, with a timeout, so that a stop is noticed without a
//! connection to ourselves (in a network namespace of its own a process cannot reach the socket that
//! it was given). A thread that has accepted serves that connection from its first byte to its
//! answer and comes back. Letting only one thread at a time into `accept()` would save their few
//! idle wake-ups, but on a busy machine it was measured to cost 40 % of the requests per second.
//!
//! A slow client may take its time as long as there is a free thread. When there is none and somebody
//! waits in the queue, whoever has said nothing for a moment gives way at once, and whoever has not
//! said all of it a little later: holding connections open does not keep others out.
//!
//! Reading is strict, because whatever is read in two ways can be smuggled past a proxy: what is
//! not exactly one HTTP/1.0 or 1.1 request with one plain length is refused. Every limit has a name
//! below.

use std::fs::Permissions;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::base::log_line::{ErrorCode, LogFields, Message};
use crate::host::clock::Now;
use crate::host::logger;
use crate::http::client::Peer;
use crate::http::exchange::{Http, Reply, Request};

/// The limits that an operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections served at the same time, each by a thread of its own.
    pub connections: NonZeroUsize,
    /// From the accepted connection to the last byte of the request.
    pub request_timeout: Duration,
    /// Largest body. A larger one is refused from its header, unread.
    pub body_max_bytes: usize,
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
    /// A thread cannot be created, or the socket is no listening stream socket. Nothing runs then.
    pub fn start(listener: Socket, limits: Limits, http: Arc<Http>) -> io::Result<Edge> {
        // Both live on the socket itself, which outlives a process when systemd holds it.
        listener.set_nonblocking(false)?;
        listener.set_read_timeout(Some(ACCEPT_TIMEOUT))?;
        let mut edge = Edge {
            shared: Arc::new(Shared {
                listener,
                free: AtomicUsize::new(0),
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
    /// in the worst case after the request timeout and a handler's time.
    pub fn stop(self) {
        let _ = self.shared.leave_at.set(Now::read().instant + DRAIN_MAX);
        // From now on only who is in the queue already is served; nobody is waited for.
        let _ = self.shared.listener.set_nonblocking(true);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Listens on a TCP address; port 0 is any free one.
///
/// # Errors
/// What the operating system says: in use, no permission, no such address.
pub fn listen_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Listens on a Unix socket, in place of one that a dead process has left there. Only our own user may
/// connect, and whoever is in `group`.
///
/// # Errors
/// What the operating system says; [`ErrorKind::AddrInUse`] when a living process listens there.
pub fn listen_unix(path: &Path, group: Option<u32>) -> io::Result<Socket> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The file gets this mode as it is made: there is no moment at which more may connect.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    if let Err(error) = socket.bind(&address) {
        if error.kind() != ErrorKind::AddrInUse {
            return Err(error);
        }
        refuse_what_is_not_dead(path, &address)?;
        std::fs::remove_file(path)?;
        socket.bind(&address)?;
    }
    if let Some(group) = group {
        give_to_group(path, group)?;
    }
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Nothing is ever removed but a socket at which nobody listens. A file refuses connections as well.
fn refuse_what_is_not_dead(path: &Path, address: &SockAddr) -> io::Result<()> {
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        let what = "what is there is no socket, and stays as it is";
        return Err(io::Error::new(ErrorKind::AlreadyExists, what));
    }
    match Socket::new(Domain::UNIX, Type::STREAM, None)?.connect(address) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Ok(()) | Err(_) => Err(Errno::ADDRINUSE.into()),
    }
}

/// By a handle, because a name could lead elsewhere by now.
fn give_to_group(path: &Path, group: u32) -> io::Result<()> {
    let failed = |error: io::Error| {
        let what = format!(
            "its group cannot be that of SOCKET_GROUP: {error}; the user that paidup runs as must be in it"
        );
        io::Error::new(error.kind(), what)
    };
    let handle = rustix::fs::open(
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let name = format!("/proc/self/fd/{}", handle.as_raw_fd());
    if !std::fs::metadata(&name)?.file_type().is_socket() {
        return Err(Errno::ADDRINUSE.into());
    }
    chown(&name, None, Some(group)).map_err(failed)?;
    std::fs::set_permissions(&name, Permissions::from_mode(0o660))
}

/// Connections that may wait in the kernel for a free thread.
const BACKLOG: i32 = 1024;
/// Stack of a thread. Its buffers are on the heap.
const STACK_BYTES: usize = 256 * 1024;
/// How long a thread sleeps in `accept()` before it looks whether we stop.
const ACCEPT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a stop takes connections from a queue that never gets empty.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Rest after `accept()` has failed, mostly for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// At most one log line about failing `accept()` calls in this time.
const COMPLAINT_EVERY: Duration = Duration::from_secs(10);
/// How long a connection may be silent when others wait for its thread. One that means it speaks at
/// once: its first bytes are on the way while the connection is accepted.
const SILENCE_MAX: Duration = Duration::from_millis(250);
/// How long a request may take to come in when others wait for its thread.
const HASTE_MAX: Duration = Duration::from_secs(1);
/// How often a thread that waits for its client looks whether others wait for the thread.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest wait for a client that does not take its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Request line and headers together.
const HEAD_MAX_BYTES: usize = 16 * 1024;
/// Headers of one request.
const HEADERS_MAX: usize = 64;
/// The target: path and query.
const TARGET_MAX_BYTES: usize = 2 * 1024;
/// Least step by which a body's buffer grows; it never runs far ahead of what has arrived.
const BODY_STEP_BYTES: usize = 8 * 1024;
/// What a thread keeps of a body's buffer between requests.
const BODY_KEEP_BYTES: usize = 16 * 1024;
/// How long a client that may still be sending is listened to after its answer, so that a
/// connection reset does not take the answer from it.
const LINGER_MAX: Duration = Duration::from_millis(500);
/// How much of what such a client sends is thrown away.
const LINGER_MAX_BYTES: usize = 1024 * 1024;

struct Shared {
    listener: Socket,
    /// Threads that wait for a connection.
    free: AtomicUsize,
    /// Set by a stop: when it gives up on a queue that never gets empty.
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
            // A handler's panic is caught where it is answered; this is for one of our own.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                self.serve(&mut connection, peer, &mut buffers);
            }));
            buffers.body.clear();
            buffers.body.shrink_to(BODY_KEEP_BYTES);
        }
    }

    /// Whether somebody is in the queue and no thread is free to take them.
    fn is_pressed(&self) -> bool {
        let mut queue = [PollFd::new(&self.listener, PollFlags::IN)];
        self.free.load(SeqCst) == 0 && poll(&mut queue, Some(&Timespec::default())) == Ok(1)
    }

    /// Waits for a connection. None: we stop, and nobody is in the queue.
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

    /// One connection: one request, one answer.
    fn serve(&self, connection: &mut Connection<'_>, peer: Peer, buffers: &mut Buffers) {
        let unread = self.http.request("", "", &[], peer);
        let (head, rest) = match connection.read_head(&mut buffers.head) {
            Ok(Some(parts)) => parts,
            Ok(None) => return,
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
            .check(self.limits.body_max_bytes)
            .and_then(|framing| connection.read_body(&framing, rest, &mut buffers.body));
        match body {
            Ok(all_was_read) => {
                request.body = &buffers.body;
                self.http.serve(&request, |answer| connection.send(answer));
                if !all_was_read {
                    connection.linger();
                }
            }
            Err(refusal) => self.refuse(connection, &request, refusal),
        }
    }

    fn refuse(&self, connection: &mut Connection<'_>, request: &Request<'_>, refusal: Reply) {
        self.http
            .refuse(request, refusal, |answer| connection.send(answer));
        connection.linger();
    }

    /// A client that has gone again, or a signal, is nothing. Anything else is logged and waited
    /// out: above all the want of descriptors or memory, which ends when a connection does.
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
    accepted: Instant,
    /// When its request must be whole.
    deadline: Instant,
    /// From when on it gives its thread to others who wait for one.
    gives_way: Instant,
}

impl<'s> Connection<'s> {
    fn new(shared: &'s Shared, stream: Socket) -> Connection<'s> {
        let accepted = Now::read().instant;
        Connection {
            shared,
            stream,
            accepted,
            deadline: accepted + shared.limits.request_timeout,
            gives_way: accepted + SILENCE_MAX,
        }
    }

    /// Reads until the head is whole. None: the client has never said a word, so there is nothing
    /// to answer.
    fn read_head<'b>(&mut self, buffer: &'b mut [u8]) -> Result<Option<HeadAndRest<'b>>, Reply> {
        let mut filled = 0;
        loop {
            let room = buffer.get_mut(filled..).unwrap_or_default();
            if room.is_empty() {
                return Err(head_too_large());
            }
            let got = match self.read(room) {
                Ok(0) | Err(_) if filled == 0 => return Ok(None),
                Ok(0) => return Err(malformed("Request incomplete")),
                got => got?,
            };
            self.gives_way = self.accepted + HASTE_MAX;
            let end = find_head_end(buffer.get(..filled + got).unwrap_or_default(), filled)?;
            filled += got;
            if let Some(end) = end {
                let whole = buffer.get(..filled).unwrap_or_default();
                return Ok(whole.split_at_checked(end));
            }
        }
    }

    /// Reads the body, of which `rest` has come already. False: the client has sent even more.
    fn read_body(&self, framing: &Framing, rest: &[u8], body: &mut Vec<u8>) -> Result<bool, Reply> {
        let length = framing.length;
        body.extend_from_slice(rest.get(..=length).unwrap_or(rest));
        if framing.continue_expected && body.len() < length {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        while body.len() < length {
            let filled = body.len();
            // One byte beyond the end is room enough to see that the client sends on.
            let step = (length - filled).min(filled.max(BODY_STEP_BYTES)) + 1;
            body.resize(filled + step, 0);
            let got = self.read(body.get_mut(filled..).unwrap_or_default())?;
            body.truncate(filled + got);
            if got == 0 {
                return Err(malformed("Request incomplete"));
            }
        }
        let all_was_read = body.len() == length;
        body.truncate(length);
        Ok(all_was_read)
    }

    /// One read within what is left of the time, which dripping does not extend. A lost connection
    /// is its end.
    fn read(&self, buffer: &mut [u8]) -> Result<usize, Reply> {
        loop {
            let now = Now::read().instant;
            let wait = self.deadline.duration_since(now).min(LOOK_EVERY);
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

    /// Writes in one call what fits into the socket's buffer, as our answers do. A client that has
    /// gone does not get its answer, and nothing else follows from that.
    fn send(&self, bytes: &[u8]) {
        let _ = self.stream.set_write_timeout(Some(WRITE_TIMEOUT));
        let _ = (&self.stream).write_all(bytes);
    }

    /// Says that nothing more will come from us, and lets the client finish its sentence.
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

/// What [`read_request_head`] read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// As it was sent.
    pub method: String,
    /// Path and query, not decoded.
    pub target: String,
    /// Names as they were sent, values without the blanks around them.
    pub headers: Vec<(String, String)>,
    /// How long the head is, its blank line included.
    pub bytes: usize,
    /// How long the body after it is.
    pub body_bytes: usize,
}

/// Reads the head that `bytes` begin with, as the edge does for a connection; `None` while it has
/// not ended.
///
/// # Errors
/// The answer to a head that is malformed, too large, or could be understood in two ways.
pub fn read_request_head(
    bytes: &[u8],
    body_max_bytes: usize,
) -> Result<Option<RequestHead>, Reply> {
    let Some(end) = find_head_end(bytes, 0)? else {
        return Ok(None);
    };
    let mut headers = [("", ""); HEADERS_MAX];
    let head = Head::parse(bytes.get(..end).unwrap_or_default(), &mut headers)?;
    let framing = head.check(body_max_bytes)?;
    let owned = |(name, value): &(&str, &str)| (String::from(*name), String::from(*value));
    Ok(Some(RequestHead {
        method: head.method.to_owned(),
        target: head.target.to_owned(),
        headers: head.headers.iter().map(owned).collect(),
        bytes: end,
        body_bytes: framing.length,
    }))
}

/// Where the head ends, if it does, in `bytes`, of which those from `from` on are new.
///
/// A byte that no head may have is refused as it comes: a bare CR or LF, a blank line at the start,
/// NUL and other control characters, 8-bit characters. What is left is ASCII.
fn find_head_end(bytes: &[u8], from: usize) -> Result<Option<usize>, Reply> {
    for end in from..bytes.len() {
        match bytes.get(..=end).unwrap_or_default() {
            [b'\r'] => return Err(malformed("Blank line before the request")),
            [.., b'\r', b'\n', b'\r', b'\n'] => return Ok(Some(end + 1)),
            [.., b'\r', b'\n'] => {}
            [.., b'\r', _] | [.., b'\n'] => return Err(malformed("Bad line end")),
            [.., b'\r' | b'\t' | b' '..=b'~'] => {}
            _ => return Err(malformed("Bad character in the head")),
        }
    }
    Ok(None)
}

/// The parsed head of a request.
struct Head<'a> {
    method: &'a str,
    target: &'a str,
    /// 0 or 1, as in HTTP/1.0 and HTTP/1.1.
    minor_version: u8,
    headers: &'a [(&'a str, &'a str)],
}

/// How the body comes.
struct Framing {
    length: usize,
    continue_expected: bool,
}

impl<'a> Head<'a> {
    /// Parses a head whose bytes [`find_head_end`] has let through.
    fn parse(
        bytes: &'a [u8],
        headers: &'a mut [(&'a str, &'a str); HEADERS_MAX],
    ) -> Result<Head<'a>, Reply> {
        let mut parsed = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut parsed);
        match request.parse(bytes) {
            Ok(_) => {}
            Err(httparse::Error::TooManyHeaders) => return Err(head_too_large()),
            Err(httparse::Error::Version) => return Err(bad_version(bytes)),
            Err(_) => return Err(malformed("Bad request line or header")),
        }
        let (Some(method), Some(target), Some(minor_version)) =
            (request.method, request.path, request.version)
        else {
            return Err(malformed("Bad request line"));
        };
        if !method
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        {
            return Err(malformed("Bad method"));
        }
        if !target.starts_with('/') || target.contains('#') || target.len() > TARGET_MAX_BYTES {
            return Err(malformed("Bad target"));
        }
        let count = request.headers.len();
        for (slot, header) in headers.iter_mut().zip(&*request.headers) {
            let Ok(value) = std::str::from_utf8(header.value) else {
                return Err(malformed("Bad header value"));
            };
            *slot = (header.name, value);
        }
        Ok(Head {
            method,
            target,
            minor_version,
            headers: headers.get(..count).unwrap_or_default(),
        })
    }

    /// Decides how long the body is, or refuses a head that can be understood in two ways.
    fn check(&self, body_max_bytes: usize) -> Result<Framing, Reply> {
        let hosts = self.values("host").count();
        if hosts > 1 || (hosts == 0 && self.minor_version == 1) {
            return Err(malformed("Host is due exactly once"));
        }
        let mut lengths = self.values("content-length");
        let coded = self.values("transfer-encoding").next().is_some();
        let length = match (lengths.next(), lengths.next(), coded) {
            (Some(length), None, false) => parse_length(length, body_max_bytes)?,
            (Some(_), _, _) => return Err(malformed("More than one length")),
            (None, _, true) => return Err(length_required()),
            (None, _, false) if matches!(self.method, "POST" | "PUT" | "PATCH") => {
                return Err(length_required());
            }
            (None, _, false) => 0,
        };
        Ok(Framing {
            length,
            continue_expected: self.continue_expected()?,
        })
    }

    /// Whether the client waits for a word before it sends its body. HTTP/1.0 has no such word.
    fn continue_expected(&self) -> Result<bool, Reply> {
        let mut expected = false;
        for value in self.values("expect") {
            if !value.eq_ignore_ascii_case("100-continue") {
                let text = "Expectation failed";
                return Err(Reply::error(417, ErrorCode::ExpectationFailed, text));
            }
            expected = self.minor_version == 1;
        }
        Ok(expected)
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(one, _)| one.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }
}

/// Digits only: no sign, no list, no blank.
fn parse_length(text: &str, body_max_bytes: usize) -> Result<usize, Reply> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed("Bad length"));
    }
    // Digits that fit no number are a length over every limit.
    match text.parse() {
        Ok(length) if length <= body_max_bytes => Ok(length),
        _ => Err(Reply::error(413, ErrorCode::BodyTooLarge, "Body too large")),
    }
}

/// 505 for another version of HTTP in the right place, 400 for anything else.
fn bad_version(head: &[u8]) -> Reply {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ').skip(2);
    match (words.next(), words.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']), None) => {
            let text = "HTTP version not supported";
            Reply::error(505, ErrorCode::VersionNotSupported, text)
        }
        _ => malformed("Bad request line"),
    }
}

fn malformed(text: &'static str) -> Reply {
    Reply::error(400, ErrorCode::RequestMalformed, text)
}

fn timed_out() -> Reply {
    Reply::error(408, ErrorCode::RequestTimeout, "Request timeout")
}

fn length_required() -> Reply {
    Reply::error(411, ErrorCode::LengthRequired, "Length required")
}

fn head_too_large() -> Reply {
    Reply::error(431, ErrorCode::HeadTooLarge, "Request head too large")
}
