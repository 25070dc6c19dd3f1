//! The few lines that call paidup: its library, on a file of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use paidup::base::id::{OrderId, StripeId, UnixSeconds};
use paidup::store::{Ask, Asked, Store, StoredOrder};
use paidup::truth::delivery::Delivery;
use paidup::truth::event::{Event, Meaning};
use paidup::truth::fact::Fact;
use paidup::truth::order::Flag;
use paidup::truth::reading::{Mode, Reading};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::stripe::World;
use crate::truth::Said;

/// The database as it lies on the disk.
pub type Files = Vec<(PathBuf, Vec<u8>)>;

/// A database that can crash, be copied away and be put back.
pub struct Shop {
    folder: TempDir,
    store: Option<Store>,
}

impl Shop {
    pub fn open() -> Shop {
        // What is tested here is not the disk, and syncing a real one would only make it slow.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        let mut shop = Shop {
            folder: folder.unwrap(),
            store: None,
        };
        // A new file takes longer than a copy of one.
        std::fs::write(shop.path(), empty()).unwrap();
        shop.reopen();
        shop
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("paidup.db")
    }

    pub fn close(&mut self) {
        self.store = None;
    }

    pub fn reopen(&mut self) {
        self.store = Some(Store::open(&self.path()).unwrap());
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    /// Records a batch in one commit, as the server does.
    pub fn record(&mut self, batch: &[Delivery]) -> Result<(), String> {
        let answers = self
            .store()
            .record(batch)
            .map_err(|error| format!("{error:?}"))?;
        for answer in answers {
            answer.map_err(|error| format!("{error:?}"))?;
        }
        Ok(())
    }

    /// The shop asks for the pages that Stripe has made for it by now; again, where it did before.
    pub fn ask_for(&mut self, world: &World) {
        for (name, session) in world.asked_for() {
            let ask = Ask {
                key: name,
                order: &OrderId::parse(name).unwrap(),
                is_named: true,
                sha256: [0; 32],
                expires_at: UnixSeconds(world.now + 3600),
                request_id: None,
                now: UnixSeconds(world.now),
            };
            let asked = self.store().ask(&ask).unwrap();
            if matches!(asked, Asked::New(_)) {
                let id = StripeId::parse(session).unwrap();
                let url = "https://checkout.stripe.com/c/pay/1";
                self.store()
                    .answered(name, &id, url, ask.expires_at)
                    .unwrap();
                // What Stripe answered goes the way of what it delivers.
                let made = world.objects_of_all().into_iter();
                let made = made.filter(|object| object["id"] == *session);
                let made: Vec<Delivery> = made
                    .filter_map(|object| fetched(&object, world.now))
                    .collect();
                self.record(&made).unwrap();
            }
        }
    }

    /// What `kill -9` leaves: the file and its log as they are while they are open.
    pub fn crash(&mut self) {
        let files = self.files();
        self.store = None;
        self.put_back(&files);
    }

    /// A copy of everything.
    pub fn files(&self) -> Files {
        let of = |end: &str| PathBuf::from(format!("{}{end}", self.path().display()));
        let read = |path: PathBuf| std::fs::read(&path).ok().map(|bytes| (path, bytes));
        ["", "-wal"].into_iter().map(of).filter_map(read).collect()
    }

    pub fn put_back(&mut self, files: &[(PathBuf, Vec<u8>)]) {
        self.store = None;
        for end in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", self.path().display()));
        }
        for (path, bytes) in files {
            std::fs::write(path, bytes).unwrap();
        }
        self.reopen();
    }

    /// Orders that are not what their facts say, and takings that are not those of the orders.
    pub fn disagreements(&mut self) -> Vec<String> {
        self.store().disagreements().unwrap()
    }

    pub fn said(&mut self) -> BTreeMap<String, Said> {
        let orders = self.store().orders(None, 10_000).unwrap();
        orders
            .into_iter()
            .map(|order| (order.name.as_str().to_owned(), said(&order)))
            .collect()
    }
}

fn empty() -> &'static [u8] {
    static EMPTY: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    EMPTY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("paidup.db");
        drop(Store::open(&path).unwrap());
        std::fs::read(path).unwrap()
    })
}

fn said(order: &StoredOrder) -> Said {
    let state = &order.state;
    let flags = Flag::join_list(&state.flags);
    Said {
        status: state.status.as_str().to_owned(),
        amount: state.amount,
        refunded: state.refunded,
        pending: Some(state.pending),
        dispute: state.dispute.as_str().to_owned(),
        disputed: Some(state.disputed),
        flags: flags
            .split(',')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect(),
        reference: Some(
            state
                .reference
                .as_ref()
                .map(|name| name.as_str().to_owned()),
        ),
    }
}

fn reading() -> Reading {
    Reading {
        mode: Some(Mode::Test),
        ..Reading::default()
    }
}

/// An event as it is delivered, or listed.
pub fn delivered(text: &str) -> Delivery {
    let event = Event::from_json(text, &reading()).unwrap();
    delivery(event, text)
}

/// An object as it was at `at`, asked for; None when it is nothing that orders follow from.
pub fn fetched(object: &Value, at: i64) -> Option<Delivery> {
    let (text, at) = (object.to_string(), UnixSeconds(at));
    let fact = Fact::from_object(&text, at, &reading()).ok()?;
    let mut digest = hex::encode(Sha256::digest(text.as_bytes()));
    digest.truncate(8);
    let id = format!("fetched_{}_{}_{digest}", fact.id.as_str(), at.0);
    let event = Event {
        id: StripeId::parse(&id).unwrap(),
        kind: "paidup.fetched".into(),
        created: Some(at),
        api_version: None,
        mode: fact.mode,
        meaning: Meaning::Fact(Box::new(fact)),
    };
    Some(delivery(event, &text))
}

fn delivery(event: Event, text: &str) -> Delivery {
    Delivery {
        event,
        sha256: Sha256::digest(text.as_bytes()).into(),
        request_id: None,
        received: UnixSeconds(1_794_000_000),
    }
}
