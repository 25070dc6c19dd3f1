//! Stripe: signed deliveries, each on a connection of its own.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use paidup::base::secret::Secret;
use paidup::command::sample::SamplePayment;
use paidup::host::clock::Now;
use paidup::truth::signature::SigningSecret;

use crate::machine::{Machine, PATIENCE, SECRET};

/// Where paidup listens.
pub(crate) const EDGE: &str = "127.0.0.1:4242";

/// One delivery: its event's id, and the bytes on the wire.
pub(crate) struct Delivery {
    pub(crate) event: String,
    bytes: Vec<u8>,
}

/// A delivery that says that `order` is paid; each is another event. Stripe signs it with each of
/// `secrets`.
pub(crate) fn delivery(order: &str, secrets: &[&str]) -> Delivery {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    let payment = SamplePayment::new(order, 2500, "eur", "2026-10-28.endive");
    let kind = "checkout.session.completed";
    let now = Now::read().unix;
    let document = payment.event(kind, payment.usual(kind), now, number);
    let body = document.text.into_bytes();
    let mut signature = format!("t={}", now.0);
    for secret in secrets {
        let alone = SigningSecret::new(&Secret::new(secret)).sign(&body, now);
        signature.extend(alone.split_once(',').map(|(_, tag)| format!(",{tag}")));
    }
    let mut bytes = format!(
        "POST /stripe/webhook HTTP/1.1\r\nHost: hooks.example.com\r\nContent-Type: application/json\r\n\
         Connection: close\r\nStripe-Signature: {signature}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(&body);
    Delivery {
        event: document.id,
        bytes,
    }
}

/// Sends bytes on a new connection and reads the answer: its status.
pub(crate) fn send(to: &str, bytes: &[u8]) -> io::Result<u16> {
    let answer = ask(to, bytes)?;
    let status = answer.get(9..12).and_then(|text| text.parse().ok());
    status.ok_or(io::ErrorKind::UnexpectedEof.into())
}

/// Sends bytes on a new connection and reads the whole answer.
pub(crate) fn ask(to: &str, bytes: &[u8]) -> io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(bytes)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Sends one delivery from inside the machine: its status.
pub(crate) fn deliver(machine: &Machine, order: &str) -> u16 {
    let delivery = delivery(order, &[SECRET]);
    let sent = machine.inside(move || send(EDGE, &delivery.bytes));
    sent.join().unwrap().unwrap()
}

/// Clients that send without a pause until they are stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    secrets: Arc<Mutex<Vec<&'static str>>>,
    clients: Vec<JoinHandle<Sum>>,
}

/// What came of a load.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    /// Events that were answered 200.
    pub(crate) stored: Vec<String>,
    /// Whatever else happened: refused, reset, closed without an answer, another status.
    pub(crate) lost: Vec<String>,
    /// The longest wait for an answer.
    pub(crate) slowest: Duration,
}

impl Load {
    pub(crate) fn start(machine: &Machine, to: &'static str, clients: u64) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let secrets = Arc::new(Mutex::new(vec![SECRET]));
        let start_client = |client| {
            let (stop, secrets) = (Arc::clone(&stop), Arc::clone(&secrets));
            machine.inside(move || run_client(to, client, &stop, &secrets))
        };
        Load {
            clients: (0..clients).map(start_client).collect(),
            stop,
            secrets,
        }
    }

    /// From now on Stripe signs with these.
    pub(crate) fn sign_with(&self, secrets: &[&'static str]) {
        *self.secrets.lock().unwrap() = secrets.to_vec();
    }

    pub(crate) fn stop(self) -> Sum {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Sum::default();
        for client in self.clients {
            let sum = client.join().unwrap();
            all.stored.extend(sum.stored);
            all.lost.extend(sum.lost);
            all.slowest = all.slowest.max(sum.slowest);
        }
        all
    }
}

fn run_client(to: &str, client: u64, stop: &AtomicBool, secrets: &Mutex<Vec<&'static str>>) -> Sum {
    let mut sum = Sum::default();
    while !stop.load(Ordering::SeqCst) {
        let secrets = secrets.lock().unwrap().clone();
        let delivery = delivery(&format!("load_{client}_{}", sum.stored.len()), &secrets);
        let start = Instant::now();
        match send(to, &delivery.bytes) {
            Ok(200) => sum.stored.push(delivery.event),
            Ok(status) => sum.lost.push(format!("answered {status}")),
            Err(error) => sum.lost.push(error.to_string()),
        }
        sum.slowest = sum.slowest.max(start.elapsed());
    }
    sum
}
