//! No order is told a state that is not on disk: what a server has written and not synced yet is not
//! told, and what a killed one has left is synced first. And whatever the power cut leaves, nothing is
//! taken for told that was not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;
use std::time::Duration;

use paidup::store::Store;
use serde_json::Value;

use crate::disk::{Call, Disk, Effect, Fault, Step};
use crate::harness::receiver::{Receiver, Reply};
use crate::harness::{Setup, eventually, paid, refunded};
use crate::power_cut::{Chance, Files, Reached};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Orders that are paid, and later refunded.
const ORDERS: usize = 120;
/// Moments at which the power goes, each with three disks.
const CUTS: usize = 300;
/// Disks that are gone on with for real.
const GONE_ON_WITH: usize = 4;

/// Its place in `ENDINGS`.
const LOG: usize = 1;

fn setup(receiver: &Receiver) -> Setup {
    Setup::new()
        .set("ADMIN_ADDR", "off")
        .set("NOTIFY_URL", &receiver.url())
        .set("NOTIFY_SECRET", KEY)
}

#[test]
fn what_is_not_on_disk_is_not_told() {
    let receiver = Receiver::start(|_| Reply::Status(200));
    let (disk, setup) = Disk::under(setup(&receiver), true);
    let on_another_disk = setup.again().set("LD_PRELOAD", "");
    let mut server = setup.start();
    let mut notify = on_another_disk.start_with(&["notify"]);
    server.accepts(paid("a"), "applied");
    // And written: what it writes later would take the place of what is written next.
    eventually("it is told", || {
        let is_told = receiver.shop.row("ord_a") == "paid";
        is_told && server.store().unheard().unwrap()[0].waiting == 0
    });

    // Written whole, with the mark of a commit, and killed before the sync.
    disk.arm(
        Fault {
            call: Call::Sync,
            effect: Effect::Kill,
            lasts: false,
        },
        1,
    );
    assert!(server.try_to_deliver(paid("b")).is_none());
    server.wait();
    thread::sleep(Duration::from_secs(3));
    assert!(
        receiver.shop.heard_of("ord_b").is_empty(),
        "not on disk, and told"
    );

    // Whoever opens the file next finds it in the log.
    notify.kill();
    disk.heal();
    let syncs = || {
        let steps = disk.recorded();
        steps
            .iter()
            .filter(|step| matches!(step, Step::Sync(LOG)))
            .count()
    };
    let before = syncs();
    let _notify = setup.start_with(&["notify"]);
    eventually("it is told", || receiver.shop.row("ord_b") == "paid");
    assert!(syncs() > before, "told, and not synced");
}

#[test]
fn while_the_disk_is_full_nothing_more_is_told_and_then_all_of_it_once() {
    let receiver = Receiver::start(|_| Reply::Status(200));
    let (disk, full) = Disk::under(setup(&receiver), false);
    let server = full.again().set("LD_PRELOAD", "").start();
    let notify = full.start_with(&["notify"]);
    disk.arm(
        Fault {
            call: Call::Write,
            effect: Effect::Full,
            lasts: true,
        },
        1,
    );
    server.accepts(paid("a"), "applied");
    eventually("it is told", || receiver.shop.row("ord_a") == "paid");
    eventually("the log says why nothing more is", || {
        let lines = notify.log();
        let mut codes = lines.iter().map(|line| &line["errorCode"]);
        codes.any(|code| code == "store_full")
    });
    server.accepts(paid("b"), "applied");
    thread::sleep(Duration::from_secs(3));
    assert_eq!(receiver.shop.heard().len(), 1);
    disk.heal();
    eventually("the other is told", || receiver.shop.row("ord_b") == "paid");
    eventually("both are taken for told", || {
        server.store().unheard().unwrap()[0].waiting == 0
    });
    assert_eq!(receiver.shop.heard().len(), 2);
}

#[test]
fn after_a_power_cut_all_that_was_told_is_there_and_all_that_was_not_is_told() {
    let steps = recorded();
    let folder = tempfile::tempdir().unwrap();
    let mut chance = Chance(11);
    let moments: BTreeSet<usize> = (0..CUTS).map(|_| chance.below(steps.len())).collect();
    let first_message = |step: &Step| matches!(step, Step::Message(_));
    let first_message = steps.iter().position(first_message).unwrap();
    let late: Vec<_> = moments.range(first_message..).copied().collect();
    let gone_on_with: BTreeSet<usize> = (1..=GONE_ON_WITH)
        .map(|part| late[part * (late.len() - 1) / GONE_ON_WITH])
        .collect();
    let mut files = Files::default();
    let mut told = Told::default();
    for (moment, step) in steps.iter().enumerate() {
        if moments.contains(&moment) {
            for reached in [Reached::Nothing, Reached::All, Reached::Any] {
                files.leave_in(folder.path(), reached, &mut chance);
                let case = format!("{reached:?} at step {moment}");
                told.holds(&folder.path().join("paidup.db"), &case);
                if reached == Reached::Any && gone_on_with.contains(&moment) {
                    told.goes_on(&folder.path().join("paidup.db"), &case);
                }
            }
        }
        if let Step::Message(text) = step {
            told.take(text);
        }
        files.take(step);
    }
    assert!(told.messages.len() >= 2 * ORDERS, "{}", told.messages.len());
    eprintln!("{} steps, {} messages", steps.len(), told.messages.len());
}

/// What a server and a `notify` do to the disk while one of them is killed now and then.
fn recorded() -> Vec<Step> {
    let receiver = Receiver::start(|_| Reply::Status(200));
    let (disk, setup) = Disk::under(setup(&receiver), true);
    let mut server = setup.start();
    let mut notify = setup.start_with(&["notify"]);
    for number in 0..ORDERS {
        server.accepts(paid(&number.to_string()), "applied");
        thread::sleep(Duration::from_millis(15));
        if number % 40 == 20 {
            notify.kill();
            notify = setup.start_with(&["notify"]);
        }
    }
    eventually("all are paid", || receiver.shop.row("ord_119") == "paid");
    server.kill();
    server = setup.start();
    for number in 0..ORDERS {
        server.accepts(refunded(&number.to_string()), "applied");
    }
    eventually("all are refunded", || {
        (0..ORDERS).all(|number| receiver.shop.row(&format!("ord_{number}")) == "refunded")
    });
    notify.kill();
    server.kill();
    disk.recorded()
}

/// What was told until the power went.
#[derive(Default)]
struct Told {
    head: String,
    /// By order and version: the message's id and its body.
    messages: BTreeMap<(String, i64), (String, String)>,
}

impl Told {
    /// A part of what is sent: a head, or the body that belongs to it.
    fn take(&mut self, part: &str) {
        if part.starts_with("POST ") {
            part.clone_into(&mut self.head);
            return;
        }
        let id = self
            .head
            .lines()
            .find_map(|line| line.strip_prefix("webhook-id: "));
        self.add(id.unwrap().to_owned(), part.to_owned(), "told");
    }

    /// The same state has the same id, whoever tells it and when.
    fn add(&mut self, id: String, body: String, case: &str) {
        let data = &serde_json::from_str::<Value>(&body).unwrap()["data"];
        let order = data["order"]["orderId"].as_str().unwrap().to_owned();
        let version = data["version"].as_i64().unwrap();
        let message = (id, body);
        let known = self.messages.entry((order, version));
        assert_eq!(known.or_insert_with(|| message.clone()), &message, "{case}");
    }

    /// What was told is there, and what is taken for told was.
    fn holds(&self, database: &Path, case: &str) {
        let store = Store::open(database).unwrap_or_else(|error| panic!("{case}: {error}"));
        for ((order, version), (_, body)) in &self.messages {
            let stored = store.order(order).unwrap();
            let stored = stored.unwrap_or_else(|| panic!("{case}: {order} is not there"));
            assert!(stored.changed >= *version, "{case}: {order} was newer");
            let status = format!("\"status\":\"{}\"", stored.state.status.as_str());
            assert!(
                stored.changed > *version || body.contains(&status),
                "{case}: {order} was {body}"
            );
        }
        for order in store.orders(None, u32::MAX).unwrap() {
            for (destination, told) in store.told_of(&order).unwrap() {
                let state = (order.name.as_str().to_owned(), order.changed);
                let waits = order.changed > destination.cursor || told.next_try.is_some();
                assert!(
                    waits || self.messages.contains_key(&state),
                    "{case}: {state:?} was never told"
                );
            }
        }
    }

    /// The real program tells the rest.
    fn goes_on(&self, database: &Path, case: &str) {
        let receiver = Receiver::start(|_| Reply::Status(200));
        let setup = setup(&receiver).set("DATABASE_PATH", database.to_str().unwrap());
        let mut notify = setup.start_with(&["notify"]);
        let store = Store::open(database).unwrap();
        eventually("all is told", || store.unheard().unwrap()[0].waiting == 0);
        notify.kill();
        let mut after = Told {
            head: String::new(),
            messages: self.messages.clone(),
        };
        for heard in receiver.shop.heard() {
            after.add(heard.header("webhook-id").to_owned(), heard.body, case);
        }
        for order in store.orders(None, u32::MAX).unwrap() {
            let state = (order.name.as_str().to_owned(), order.changed);
            assert!(after.messages.contains_key(&state), "{case}: {state:?}");
        }
    }
}
