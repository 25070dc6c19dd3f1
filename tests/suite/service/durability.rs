//! What was acknowledged is on disk, whatever ends the process, and a stop leaves nobody waiting.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use paidup::truth::order::Status;
use rusqlite::{Connection, TransactionBehavior};
use rustix::process::Signal;

use crate::harness::{Answer, PATIENCE, Service, Setup, delivery, eventually, paid};

#[test]
fn whatever_was_acknowledged_before_a_kill_is_in_the_file() {
    let setup = Setup::new();
    let acknowledged: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let next = Arc::new(AtomicUsize::new(0));
    for kill in 0..KILLS {
        let mut service = setup.start();
        let clients = Load::start(&service, &next, &acknowledged);
        // Not at the same point of a commit each time.
        let target = clients.served() + 20 + kill % 7;
        eventually("the clients are served", || clients.served() >= target);
        service.kill();
        clients.join();
    }

    let service = setup.start();
    let store = service.store();
    assert_eq!(store.damage().unwrap(), [""; 0]);
    let acknowledged = acknowledged.lock().unwrap();
    assert!(acknowledged.len() >= KILLS * 20);
    for name in acknowledged.iter() {
        let event = store.event(&format!("evt_{name}")).unwrap().unwrap();
        assert_eq!(event.outcome, "applied", "{name}");
        let order = store.order(&format!("ord_{name}")).unwrap().unwrap();
        assert_eq!(order.state.status, Status::Paid, "{name}");
    }
    let before = store.orders(None, u32::MAX).unwrap();
    for name in acknowledged.iter() {
        service.accepts(paid(name), "duplicate");
    }
    assert_eq!(store.orders(None, u32::MAX).unwrap(), before);
}

/// Made means: `connect()` had returned before the signal was sent. Such a connection is in the
/// kernel's queue or accepted, and is answered. One that is made later may be refused or reset, but
/// then nothing of it is stored.
#[test]
fn a_stop_under_load_answers_every_connection_that_was_made() {
    for round in 0..10 {
        // Fewer threads than clients: then some wait in the kernel's queue, and as the clients go on,
        // the stop takes its longest.
        let threads = if round < 2 { "2" } else { "128" };
        let setup = Setup::new().set("HTTP_CONNECTIONS", threads);
        let mut service = setup.start();
        let acknowledged: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let clients = Load::start(&service, &Arc::default(), &acknowledged);
        clients.is_promised.store(true, SeqCst);
        eventually("the clients are served", || clients.served() >= 50);
        // Two that are connected before the stop, and speak only in it.
        let mut early = [service.connect(), service.connect()];
        clients.is_promised.store(false, SeqCst);
        let began = Instant::now();
        service.signal(if round % 2 == 0 {
            Signal::TERM
        } else {
            Signal::INT
        });
        for (number, stream) in early.iter_mut().enumerate() {
            let name = format!("early{number}");
            stream.write_all(&delivery(paid(&name))).unwrap();
            assert_eq!(Answer::read(stream).status, 200);
            acknowledged.lock().unwrap().insert(name);
        }
        assert_eq!(service.wait().code(), Some(0));
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
        clients.join();

        let messages: Vec<_> = service
            .log()
            .iter()
            .map(|line| line["message"].clone())
            .collect();
        assert!(messages.contains(&"Stopping: serving what was accepted".into()));
        assert_eq!(messages.last().unwrap(), "Stopped");
        let events = setup.store().events(None, u32::MAX).unwrap();
        let stored: BTreeSet<_> = events
            .iter()
            .map(|event| event.id.replace("evt_", ""))
            .collect();
        assert_eq!(
            stored,
            *acknowledged.lock().unwrap(),
            "each that is stored was answered"
        );
    }
}

#[test]
fn a_first_signal_waits_for_a_slow_request_and_a_second_does_not() {
    for signals in [[Signal::TERM, Signal::TERM], [Signal::INT, Signal::TERM]] {
        let mut service = Setup::new().set("REQUEST_TIMEOUT_SECONDS", "60").start();
        let mut slow = service.connect();
        slow.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
        // The connection behind it is served, so this one has been accepted.
        assert_eq!(service.get("/healthz").status, 200);
        service.signal(signals[0]);
        eventually("it stops", || {
            let stopping = "Stopping: serving what was accepted";
            service.log().iter().any(|line| line["message"] == stopping)
        });
        // The idle threads leave, and the slow request keeps the process.
        eventually("only who serves is left", || {
            service.resources().threads < 32
        });
        assert!(!service.has_ended());
        let began = Instant::now();
        service.signal(signals[1]);
        assert_eq!(service.wait().code(), Some(1));
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_stop_waits_for_a_request_that_is_under_way() {
    let mut service = Setup::new().start();
    let request = delivery(paid("1"));
    let (start, end) = request.split_at(request.len() - 1);
    let mut slow = service.connect();
    slow.write_all(start).unwrap();
    assert_eq!(service.get("/healthz").status, 200);
    service.signal(Signal::TERM);
    eventually("only who serves is left", || {
        service.resources().threads < 32
    });
    slow.write_all(end).unwrap();
    assert_eq!(Answer::read(&mut slow).status, 200);
    assert_eq!(service.wait().code(), Some(0));
    assert_eq!(service.status_of("ord_1"), Some(Status::Paid));
}

#[test]
fn another_writer_delays_a_delivery_and_then_it_is_stored() {
    let setup = Setup::new();
    let service = setup.start();
    let mut other = Connection::open(setup.database()).unwrap();
    let lock = other
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .unwrap();
    let began = Instant::now();
    let edge = service.edge;
    let waiting = thread::spawn(move || crate::harness::ask(edge, delivery(paid("1"))));
    while began.elapsed() < Duration::from_millis(300) {
        assert!(!waiting.is_finished(), "it waits for the lock");
        thread::sleep(Duration::from_millis(10));
    }
    drop(lock);
    assert_eq!(waiting.join().unwrap().status, 200);
    assert_eq!(service.status_of("ord_1"), Some(Status::Paid));
}

#[test]
fn a_writer_that_does_not_let_go_is_a_503_and_nothing_is_lost() {
    let setup = Setup::new();
    let service = setup.start();
    let mut other = Connection::open(setup.database()).unwrap();
    let lock = other
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .unwrap();
    let answer = service.deliver(paid("1"));
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let line = service.line_of(answer.request_id());
    assert_eq!(line["message"], "Webhook not stored: Stripe will retry");
    assert_eq!(line["errorCode"], "store_busy");
    let ready = service.admin_get("/readyz");
    assert_eq!(
        (ready.status, ready.json()["error"].as_str()),
        (503, Some("store_busy"))
    );
    assert_eq!(service.get("/healthz").status, 200, "the process lives");
    // As the runbook has it: `paidup check` names whom to end.
    let (code, said) = setup.run(&["check"]);
    let named = format!("(process {}) holds its write lock", std::process::id());
    assert!(code == 3 && said.contains(&named), "{said}");
    assert_eq!(setup.run(&["check", "--reload"]).0, 0);
    drop(lock);
    assert!(!setup.run(&["check"]).1.contains("write lock"));
    service.accepts(paid("1"), "applied");
    assert_eq!(service.admin_get("/readyz").status, 200);
}

#[test]
fn a_reader_with_an_open_transaction_disturbs_nobody() {
    let setup = Setup::new();
    let service = setup.start();
    service.accepts(paid("0"), "applied");
    let mut other = Connection::open(setup.database()).unwrap();
    let reading = other.transaction().unwrap();
    let orders = || -> i64 {
        let count = "SELECT count(*) FROM orders";
        reading.query_row(count, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(orders(), 1);
    let began = Instant::now();
    for number in 1..50 {
        service.accepts(paid(&number.to_string()), "applied");
    }
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "no busy timeout in it"
    );
    assert_eq!(orders(), 1, "it still sees what it saw");
    drop(reading);
    assert_eq!(service.store().orders(None, 100).unwrap().len(), 50);
}

#[test]
fn one_delivery_sent_by_many_at_once_is_applied_once() {
    let service = Setup::new().start();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let deliver = || {
            let answer = service.deliver(paid("1"));
            answer.json()["outcome"].as_str().unwrap().to_owned()
        };
        let clients: Vec<_> = (0..16).map(|_| scope.spawn(deliver)).collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    let applied = outcomes.iter().filter(|outcome| *outcome == "applied");
    assert_eq!(applied.count(), 1, "{outcomes:?}");
    assert!(
        outcomes
            .iter()
            .all(|outcome| ["applied", "duplicate"].contains(&outcome.as_str()))
    );
}

#[test]
fn a_closed_log_costs_no_delivery() {
    let service = Setup::new()
        .under(&["sh", "-c", "exec \"$0\" \"$@\" >&-"])
        .start();
    service.accepts(paid("1"), "applied");
    assert_eq!(service.status_of("ord_1"), Some(Status::Paid));
    assert_eq!(service.get("/healthz").status, 200);
}

// ── Helpers ──

const KILLS: usize = 25;
const CLIENTS: usize = 8;

/// Clients that deliver one event after another, each on a connection of its own, until the server
/// is gone.
pub(crate) struct Load {
    threads: Vec<JoinHandle<()>>,
    served: Arc<AtomicUsize>,
    /// Whether a connection that is made now must be answered.
    is_promised: Arc<AtomicBool>,
}

impl Load {
    pub(crate) fn start(
        service: &Service,
        next: &Arc<AtomicUsize>,
        acknowledged: &Arc<Mutex<BTreeSet<String>>>,
    ) -> Load {
        let served = Arc::new(AtomicUsize::new(0));
        let is_promised = Arc::new(AtomicBool::new(false));
        let threads = (0..CLIENTS).map(|_| {
            let client = Client {
                edge: service.edge,
                next: Arc::clone(next),
                acknowledged: Arc::clone(acknowledged),
                served: Arc::clone(&served),
                is_promised: Arc::clone(&is_promised),
            };
            thread::spawn(move || client.run())
        });
        Load {
            threads: threads.collect(),
            served,
            is_promised,
        }
    }

    pub(crate) fn served(&self) -> usize {
        self.served.load(SeqCst)
    }

    pub(crate) fn join(self) {
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

struct Client {
    edge: SocketAddr,
    next: Arc<AtomicUsize>,
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    served: Arc<AtomicUsize>,
    is_promised: Arc<AtomicBool>,
}

impl Client {
    fn run(&self) {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let name = self.next.fetch_add(1, SeqCst).to_string();
            let Some(answer) = self.try_to_deliver(&name) else {
                return;
            };
            assert_eq!(answer.status, 200, "{answer:?}");
            self.acknowledged.lock().unwrap().insert(name);
            self.served.fetch_add(1, SeqCst);
        }
    }

    /// `None` when the server is gone.
    fn try_to_deliver(&self, name: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect(self.edge).ok()?;
        let is_promised = self.is_promised.load(SeqCst);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = Vec::new();
        let asked = stream.write_all(&delivery(paid(name)));
        let read = asked.and_then(|()| stream.read_to_end(&mut bytes));
        let answer = read.ok().and_then(|_| Answer::parse(&bytes));
        assert!(answer.is_some() || !is_promised, "{bytes:?}");
        answer
    }
}
