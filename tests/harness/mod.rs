//! Starts the real binary on free ports with a file of its own, speaks to it over raw sockets, and
//! keeps every byte that it writes.

#[path = "receiver.rs"]
pub(crate) mod receiver;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use paidup::base::id::UnixSeconds;
use paidup::base::secret::Secret;
use paidup::host::clock::Now;
use paidup::store::Store;
use paidup::truth::order::Status;
use paidup::truth::signature::SigningSecret;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The signing secret of every service, unless a test gives another.
pub(crate) const SECRET: &str = "whsec_the_secret_of_the_tests";
/// How long anything may take before a test fails. Far more than a busy machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How a service is to be started; the same setup can be started again on the same file.
pub(crate) struct Setup {
    folder: Arc<TempDir>,
    /// Where the file is, when it is not to be in `folder`.
    database: Option<PathBuf>,
    variables: Vec<(String, String)>,
    wrapper: Vec<String>,
    log_is_unread: bool,
}

impl Setup {
    pub(crate) fn new() -> Setup {
        Setup {
            folder: Arc::new(tempfile::tempdir().unwrap()),
            database: None,
            variables: Vec::new(),
            wrapper: Vec::new(),
            log_is_unread: false,
        }
    }

    /// The same on the same file, to be changed.
    pub(crate) fn again(&self) -> Setup {
        Setup {
            folder: Arc::clone(&self.folder),
            database: self.database.clone(),
            variables: self.variables.clone(),
            wrapper: self.wrapper.clone(),
            log_is_unread: self.log_is_unread,
        }
    }

    /// The same in a folder of its own, as on another machine.
    pub(crate) fn elsewhere(mut self) -> Setup {
        self.folder = Arc::new(tempfile::tempdir().unwrap());
        self
    }

    /// One variable more, or another value for one.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Setup {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A command that runs the one appended to it in its own place, such as `unshare --mount`.
    pub(crate) fn under(mut self, wrapper: &[&str]) -> Setup {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Nobody reads the log until [`Service::read_log`].
    pub(crate) fn without_reader(mut self) -> Setup {
        self.log_is_unread = true;
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn database(&self) -> PathBuf {
        let usual = || self.folder().join("paidup.db");
        self.database.clone().unwrap_or_else(usual)
    }

    pub(crate) fn store(&self) -> Store {
        Store::open_existing(&self.database()).unwrap()
    }

    /// The command with these words, in the environment of the service.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_paidup").to_owned();
        let wrapper = self.wrapper.iter().cloned();
        let mut all = wrapper.chain([program]).collect::<Vec<_>>().into_iter();
        let mut command = Command::new(all.next().unwrap());
        command
            .args(all)
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LISTEN_ADDR", "127.0.0.1:0")
            .env("ADMIN_ADDR", "127.0.0.1:0")
            .env("DATABASE_PATH", self.database())
            .env("STRIPE_WEBHOOK_SECRET", SECRET)
            .env("RATE_LIMIT_WEBHOOK_MAX", "1000000")
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs one command to its end: its exit code, and all that it said.
    pub(crate) fn run(&self, words: &[&str]) -> (i32, String) {
        let output = self.command(words).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(said).unwrap(),
        )
    }

    /// Starts the process and waits until it serves.
    pub(crate) fn start(&self) -> Service {
        self.start_with(&["serve"])
    }

    /// The same with other words.
    pub(crate) fn start_with(&self, words: &[&str]) -> Service {
        let mut service = self.launch(words);
        let started = service.read_addresses();
        started.unwrap_or_else(|ended| panic!("{ended:?} {}", service.words()));
        service
    }

    /// The same for one that may not come so far: then how it ended, and what it said.
    pub(crate) fn try_to_start(&self) -> Result<Service, (ExitStatus, String)> {
        let mut service = self.launch(&["serve"]);
        match service.read_addresses() {
            Ok(()) => Ok(service),
            Err(status) => {
                service.wait();
                Err((status, service.words()))
            }
        }
    }

    fn launch(&self, words: &[&str]) -> Service {
        let mut child = self.command(words).spawn().unwrap();
        let (log, unread) = match self.log_is_unread {
            true => (None, child.stdout.take()),
            false => (child.stdout.take(), None),
        };
        let stdout = log.map_or_else(Drain::idle, Drain::start);
        let stderr = Drain::start(child.stderr.take().unwrap());
        Service {
            child,
            _folder: Arc::clone(&self.folder),
            database: self.database(),
            edge: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: None,
            unread,
            stdout,
            stderr,
        }
    }
}

/// A running process. It is killed when it goes out of scope.
pub(crate) struct Service {
    child: Child,
    /// Deleted when neither the setup nor a service needs it any more.
    _folder: Arc<TempDir>,
    database: PathBuf,
    pub(crate) edge: SocketAddr,
    admin: Option<SocketAddr>,
    unread: Option<ChildStdout>,
    stdout: Drain,
    stderr: Drain,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    /// From the line for people on stderr: `paidup 0.1.0 serves on A, admin on B, database C`, or of
    /// `paidup api` and `paidup page` the address at its end. Or how the process ended instead.
    fn read_addresses(&mut self) -> Result<(), ExitStatus> {
        let mut line = String::new();
        let mut ended = None;
        eventually("the service starts", || {
            ended = self.child.try_wait().unwrap();
            let text = self.stderr.text();
            let notices = [
                " serves on ",
                " the shop on ",
                " of changed orders",
                " the orders on ",
            ];
            let is_notice = |line: &&str| notices.iter().any(|notice| line.contains(notice));
            let notice = text.lines().find(is_notice);
            line = notice.unwrap_or_default().to_owned();
            ended.is_some() || text.ends_with('\n') && !line.is_empty()
        });
        if let Some(status) = ended {
            return Err(status);
        }
        if line.ends_with(" of changed orders") {
            return Ok(());
        }
        if let Some((_, address)) = line.split_once(" the orders on ") {
            let port = address
                .rsplit(['/', '@'])
                .find_map(|part| part.parse().ok());
            self.edge = port.unwrap_or(self.edge);
            return Ok(());
        }
        if let Some((_, address)) = line.split_once(" the shop on ") {
            self.edge = address.parse().unwrap();
            return Ok(());
        }
        let after = |word: &str| {
            let (_, rest) = line.split_once(word).unwrap();
            rest.split(',').next().unwrap()
        };
        let admin = after("admin ").strip_prefix("on ");
        self.admin = admin.map(|admin| admin.parse().unwrap());
        self.edge = after(" serves on ").parse().unwrap();
        Ok(())
    }

    // ── Requests ──

    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin.unwrap()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.edge)
    }

    /// Sends exactly these bytes on a connection of their own, and reads until the other end closes.
    pub(crate) fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        ask(self.edge, request)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask(get(path))
    }

    pub(crate) fn admin_get(&self, path: &str) -> Answer {
        ask(self.admin(), get(path))
    }

    /// Posts a body as it is, with these headers.
    pub(crate) fn post(&self, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        self.ask(post("/stripe/webhook", headers, body.as_ref()))
    }

    /// Delivers a body as Stripe does.
    pub(crate) fn deliver(&self, body: impl AsRef<[u8]>) -> Answer {
        self.ask(delivery(body))
    }

    /// The same, when the service may be gone before it answers.
    pub(crate) fn try_to_deliver(&self, body: impl AsRef<[u8]>) -> Option<Answer> {
        let mut stream = TcpStream::connect(self.edge).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&delivery(body)).ok()?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).ok()?;
        Answer::parse(&bytes)
    }

    /// That this body is taken now, with this outcome.
    pub(crate) fn accepts(&self, body: impl AsRef<[u8]>, outcome: &str) -> Answer {
        let answer = self.deliver(body);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["outcome"], outcome, "{answer:?}");
        answer
    }

    // ── What it stored and what it wrote ──

    pub(crate) fn store(&self) -> Store {
        Store::open_existing(&self.database).unwrap()
    }

    pub(crate) fn database(&self) -> &Path {
        &self.database
    }

    pub(crate) fn status_of(&self, order: &str) -> Option<Status> {
        let order = self.store().order(order).unwrap();
        order.map(|order| order.state.status)
    }

    /// The log so far. Each line must be whole and JSON.
    pub(crate) fn log(&self) -> Vec<Value> {
        let text = self.stdout.text();
        let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        whole.lines().map(parse).collect()
    }

    /// From now on the log is read.
    pub(crate) fn read_log(&mut self) {
        self.stdout = Drain::start(self.unread.take().unwrap());
    }

    /// The reader of the log goes for good.
    pub(crate) fn lose_log(&mut self) {
        drop(self.unread.take().unwrap());
    }

    /// The lines about a request. The last one, which has the status, comes after its answer.
    pub(crate) fn lines_of(&self, request: &str) -> Vec<Value> {
        let mut lines = Vec::new();
        eventually("the request is logged", || {
            lines = self.log();
            lines.retain(|line| line["requestId"] == request);
            lines.iter().any(|line| line["status"].is_u64())
        });
        lines
    }

    /// The last of them.
    pub(crate) fn line_of(&self, request: &str) -> Value {
        self.lines_of(request).pop().unwrap()
    }

    /// The same as text.
    pub(crate) fn words(&self) -> String {
        String::from_utf8(self.written()).unwrap()
    }

    /// All that it has written, log and words for people.
    pub(crate) fn written(&self) -> Vec<u8> {
        [self.stdout.bytes(), self.stderr.bytes()].concat()
    }

    // ── The process ──

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it ends, and until all that it wrote has been read.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the process ends", || {
            self.child.try_wait().unwrap().is_some()
        });
        self.stdout.finish();
        self.stderr.finish();
        self.child.wait().unwrap()
    }

    pub(crate) fn resources(&self) -> Resources {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = std::fs::read_to_string(process.join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Resources {
            threads: field("Threads:"),
            descriptors: std::fs::read_dir(process.join("fd")).unwrap().count(),
            resident_kib: field("VmRSS:"),
        }
    }

    /// What its descriptors lead to.
    fn open_files(&self) -> Vec<PathBuf> {
        let pid = self.pid().as_raw_nonzero();
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let to =
            |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_link(entry.ok()?.path()).ok();
        entries.filter_map(to).collect()
    }

    /// That threads, descriptors and memory come back to what they were, and a good client is
    /// served.
    pub(crate) fn recovers_to(&self, before: Resources) {
        let mut now = self.resources();
        let began = Instant::now();
        while now.threads > before.threads
            || now.descriptors > before.descriptors
            || now.resident_kib > before.resident_kib + RESIDENT_SLACK_KIB
        {
            assert!(
                began.elapsed() < PATIENCE,
                "{before:?} became {now:?}: {:?}",
                self.open_files()
            );
            thread::sleep(PAUSE);
            now = self.resources();
        }
        assert_eq!(self.get("/healthz").status, 200);
        assert_eq!(self.deliver(event("ignored")).status, 200);
    }
}

/// What the allocator may keep for itself.
const RESIDENT_SLACK_KIB: usize = 24 * 1024;
/// Between two looks at something that is awaited.
const PAUSE: Duration = Duration::from_millis(5);

/// What a process holds of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resources {
    pub(crate) threads: usize,
    pub(crate) descriptors: usize,
    pub(crate) resident_kib: usize,
}

/// A thread that reads a pipe to its end, so that the writer never waits.
struct Drain {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Drain {
    fn idle() -> Drain {
        Drain {
            bytes: Arc::default(),
            thread: None,
        }
    }

    fn start(mut pipe: impl Read + Send + 'static) -> Drain {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 64 * 1024];
            while let Ok(got @ 1..) = pipe.read(&mut buffer) {
                let mut bytes = into.lock().unwrap_or_else(PoisonError::into_inner);
                bytes.extend_from_slice(&buffer[..got]);
            }
        });
        Drain {
            bytes,
            thread: Some(thread),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.clone()
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }

    fn finish(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

// ── HTTP ──

/// One answer, read to the end of its connection.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// How many answers came on the connection.
    pub(crate) count: usize,
}

impl Answer {
    /// `None` when the connection ended without a word.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Answer> {
        let text = std::str::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().strip_prefix("HTTP/1.1 ").unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Some(Answer {
            status: status[..3].parse().unwrap(),
            headers: lines.map(header).collect(),
            body: body.to_owned(),
            count: text.matches("HTTP/1.1 ").count(),
        })
    }

    pub(crate) fn read(stream: &mut impl Read) -> Answer {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes).unwrap_or_else(|| panic!("no answer: {bytes:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(one, _)| one == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn request_id(&self) -> &str {
        self.header("x-request-id").unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut stream = connect(address);
    stream.write_all(request.as_ref()).unwrap();
    Answer::read(&mut stream)
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!(
        "Connection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [request.as_bytes(), body].concat()
}

/// A request as Stripe sends it.
pub(crate) fn delivery(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let headers = [
        ("Content-Type", "application/json; charset=utf-8"),
        (
            "User-Agent",
            "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        ),
        ("Stripe-Signature", &sign(SECRET, body, 0)),
    ];
    post("/stripe/webhook", &headers, body)
}

/// The `Stripe-Signature` of `body`, made `age` seconds ago.
pub(crate) fn sign(secret: &str, body: &[u8], age: i64) -> String {
    let at = UnixSeconds(Now::read().unix.0 - age);
    SigningSecret::new(&Secret::new(secret)).sign(body, at)
}

// ── Events ──

/// One of the documents in tests/fixtures/events.
pub(crate) fn document(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/events");
    let mut text = String::new();
    let mut file = File::open(format!("{folder}/{name}.json")).unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// An event that pays the order `ord_{name}`.
pub(crate) fn paid(name: &str) -> String {
    changed(name, |_| {})
}

/// The same with some of it changed.
pub(crate) fn changed(name: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut event = json!({
        "id": format!("evt_{name}"), "object": "event", "type": "checkout.session.completed",
        "api_version": "2026-10-28.endive", "created": 1_792_999_990, "livemode": false,
        "data": {"object": {
            "id": format!("cs_test_{name}"), "object": "checkout.session", "mode": "payment",
            "status": "complete", "payment_status": "paid", "client_reference_id": format!("ord_{name}"),
            "payment_intent": format!("pi_{name}"), "amount_total": 2500, "currency": "eur",
        }},
    });
    change(&mut event);
    event.to_string()
}

/// An event that refunds all of what paid it.
pub(crate) fn refunded(name: &str) -> String {
    json!({
        "id": format!("evt_refund_{name}"), "object": "event", "type": "charge.refunded",
        "api_version": "2026-10-28.endive", "created": 1_792_999_999, "livemode": false,
        "data": {"object": {
            "id": format!("ch_{name}"), "object": "charge", "payment_intent": format!("pi_{name}"),
            "amount": 2500, "amount_captured": 2500, "amount_refunded": 2500, "currency": "eur",
            "captured": true, "paid": true, "refunded": true, "status": "succeeded",
        }},
    })
    .to_string()
}

/// An event that tells nothing of orders.
pub(crate) fn event(name: &str) -> String {
    changed(name, |event| event["type"] = json!("customer.created"))
}

// ── Waiting ──

/// Raises the flag when it goes out of scope, so that threads which go on until then end even when
/// a test fails.
pub(crate) struct Raise<'a>(pub(crate) &'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Looks again and again until it holds, for as long as [`PATIENCE`].
pub(crate) fn eventually(claim: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not so: {claim}");
        thread::sleep(PAUSE);
    }
}
