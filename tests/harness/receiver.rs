//! A shop's receiver of `paidup notify`, over real sockets: it answers as it is told and keeps what it
//! hears.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What a receiver does with a message.
#[derive(Clone)]
pub(crate) enum Reply {
    Status(u16),
    /// Exactly these bytes, and the connection is closed.
    Bytes(Vec<u8>),
    /// Waits, then stores it all the same, and answers nothing.
    Late(Duration),
    /// Exactly these bytes, and then again and again what follows, as long as somebody reads.
    Endless(Vec<u8>, Vec<u8>, Duration),
}

#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) at: Instant,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Heard {
    pub(crate) fn header(&self, name: &str) -> &str {
        let lines = self.head.lines();
        let mut fields = lines.filter_map(|line| line.split_once(": "));
        fields
            .find(|(one, _)| one.eq_ignore_ascii_case(name))
            .unwrap()
            .1
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn order(&self) -> String {
        let order = &self.json()["data"]["order"]["orderId"];
        order.as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn status(&self) -> String {
        self.json()["data"]["order"]["status"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(crate) fn version(&self) -> i64 {
        self.json()["data"]["version"].as_i64().unwrap()
    }
}

type Behave = dyn Fn(&Heard) -> Reply + Send + Sync;

/// The shop's receiver: keeps all that it is told, and rows as the README says that it should.
#[derive(Default)]
pub(crate) struct Shop {
    heard: Mutex<Vec<Heard>>,
    /// Order, its version and its status; an earlier name has the order's new one.
    pub(crate) rows: Mutex<BTreeMap<String, (i64, String)>>,
    pub(crate) connections: AtomicUsize,
    pub(crate) bytes_written: AtomicUsize,
}

impl Shop {
    fn store(&self, heard: &Heard) {
        let body = heard.json();
        let data = &body["data"];
        if body["type"] != "order.changed" {
            return;
        }
        let mut rows = self.rows.lock().unwrap();
        let mut upsert = |name: &str, status: String| {
            let row = rows.entry(name.to_owned()).or_default();
            if row.0 < heard.version() {
                *row = (heard.version(), status);
            }
        };
        for name in data["alsoKnownAs"].as_array().unwrap() {
            upsert(name.as_str().unwrap(), format!("is {}", heard.order()));
        }
        upsert(&heard.order(), heard.status());
    }

    pub(crate) fn row(&self, order: &str) -> String {
        let rows = self.rows.lock().unwrap();
        rows.get(order).map(|row| row.1.clone()).unwrap_or_default()
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    pub(crate) fn heard_of(&self, order: &str) -> Vec<Heard> {
        let mut heard = self.heard();
        heard.retain(|heard| heard.order() == order);
        heard
    }
}

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    pub(crate) shop: Arc<Shop>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.is_over.store(true, SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Receiver {
    pub(crate) fn start(behave: impl Fn(&Heard) -> Reply + Send + Sync + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Receiver::on(listener, Arc::default(), behave)
    }

    pub(crate) fn on(
        listener: TcpListener,
        shop: Arc<Shop>,
        behave: impl Fn(&Heard) -> Reply + Send + Sync + 'static,
    ) -> Receiver {
        let is_over = Arc::new(AtomicBool::new(false));
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let behave: Arc<Behave> = Arc::new(behave);
        let (over, kept) = (Arc::clone(&is_over), Arc::clone(&shop));
        let thread = thread::spawn(move || {
            while !over.load(SeqCst) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                };
                kept.connections.fetch_add(1, SeqCst);
                let (over, shop) = (Arc::clone(&over), Arc::clone(&kept));
                let behave = Arc::clone(&behave);
                thread::spawn(move || serve(stream, &shop, &*behave, &over));
            }
        });
        Receiver {
            address,
            shop,
            is_over,
            thread: Some(thread),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/paidup", self.address)
    }
}

fn serve(mut stream: TcpStream, shop: &Shop, behave: &Behave, over: &AtomicBool) {
    stream.set_nonblocking(false).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    while let Some(heard) = read(&mut stream) {
        let reply = behave(&heard);
        shop.heard.lock().unwrap().push(heard.clone());
        match reply {
            Reply::Status(status) => {
                if (200..300).contains(&status) {
                    shop.store(&heard);
                }
                let location = "Location: http://169.254.169.254/latest/meta-data\r\n";
                let answer =
                    format!("HTTP/1.1 {status} X\r\n{location}Content-Length: 2\r\n\r\nok");
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            Reply::Bytes(bytes) => {
                let _ = stream.write_all(&bytes);
                return;
            }
            Reply::Late(pause) => {
                thread::sleep(pause);
                shop.store(&heard);
                return;
            }
            Reply::Endless(head, chunk, pause) => {
                let _ = stream.write_all(&head);
                while !over.load(SeqCst) && stream.write_all(&chunk).is_ok() {
                    shop.bytes_written.fetch_add(chunk.len(), SeqCst);
                    thread::sleep(pause);
                }
                return;
            }
        }
    }
}

fn read(stream: &mut TcpStream) -> Option<Heard> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(Heard {
                    at: Instant::now(),
                    head: head.to_owned(),
                    body: body.to_owned(),
                });
            }
        }
        match stream.read(&mut buffer) {
            Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
            Ok(0) | Err(_) => return None,
        }
    }
}
