//! Whoever keeps a copy of the orders by the cursor has what `orders list` shows: after renames,
//! merges and backups restored in between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use paidup::base::id::UnixSeconds;
use paidup::command::backup::{self, Target};
use paidup::command::restore;
use paidup::store::Store;
use paidup::store::json::order_json;
use paidup::truth::delivery::Delivery;
use paidup::truth::event::Event;
use paidup::truth::reading::Reading;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A Saturday in 2026, by the shop's clock.
const NOW: i64 = 1_795_499_186;
const ROUNDS: u64 = 40;
const STEPS: usize = 60;

#[test]
fn a_copy_kept_by_the_cursor_is_what_the_list_shows_whatever_happens() {
    let mut counted = BTreeMap::new();
    for seed in 0..ROUNDS {
        let mut shop = Shop::open(seed);
        for step in 0..STEPS {
            let what = shop.something();
            *counted.entry(what).or_insert(0) += 1;
            // Not after each: a copy that is behind must catch up as well.
            if shop.chance(3) {
                shop.poll(&format!("seed {seed}, step {step}, {what}"));
            }
        }
        shop.poll(&format!("seed {seed}, end"));
        *counted.entry("gone").or_insert(0) += shop.mirror.gone;
        *counted.entry("reset").or_insert(0) += shop.mirror.resets;
    }
    eprintln!("{counted:?}");
    for what in ["event", "restart", "restore", "gone", "reset"] {
        assert!(counted.get(what).is_some_and(|count| *count > 20), "{what}");
    }
}

#[test]
fn numbers_grow_over_a_restore_and_a_clock_that_goes_back() {
    let shop = Shop::open(1);
    let number = || {
        let store = shop.store();
        let found = store.changes_after(0, 100, UnixSeconds(NOW), |_| true);
        found.unwrap().unwrap().cursor
    };
    shop.record(&session(1, Some("ord_1"), "pi_1"), NOW);
    let first = number();
    assert!((NOW << 20..1 << 53).contains(&first), "{first}");
    let backup = shop.backup();
    // Two more within the same second.
    shop.record(&session(2, Some("ord_2"), "pi_2"), NOW);
    shop.record(&session(3, Some("ord_3"), "pi_3"), NOW);
    let lost = number();
    assert_eq!(lost, first + 2);
    shop.restore(&backup, NOW);
    // The same second still, and a clock that is behind.
    for (n, at) in [(4, NOW), (5, NOW - 1000), (6, -5), (7, i64::MAX)] {
        let before = number();
        shop.record(
            &session(n, Some(&format!("ord_{n}")), &format!("pi_{n}")),
            at,
        );
        assert!(number() > before.max(lost) && number() < 1 << 53, "{n}");
    }
}

#[test]
fn a_cursor_of_what_was_undone_is_told_everything_anew_and_one_of_the_future_nothing() {
    let mut shop = Shop::open(2);
    shop.record(&session(1, Some("ord_1"), "pi_1"), NOW);
    let backup = shop.backup();
    shop.poll("before");
    let kept = shop.mirror.clone();
    shop.record(&session(2, Some("ord_2"), "pi_2"), NOW + 5);
    shop.poll("after");
    assert_eq!(shop.mirror.orders.len(), 2);
    shop.restore(&backup, NOW + 10);
    shop.record(&session(3, Some("ord_3"), "pi_3"), NOW + 20);
    shop.poll("undone");
    assert_eq!(shop.mirror.resets, 1);
    // Whoever had seen nothing of what was undone goes on.
    let ahead = std::mem::replace(&mut shop.mirror, kept);
    shop.poll("behind");
    assert_eq!(shop.mirror.resets, 0);
    assert_eq!(shop.mirror.orders, ahead.orders);

    let store = shop.store();
    let after = |cursor: i64| store.changes_after(cursor, 10, UnixSeconds(NOW + 20), |_| true);
    assert_eq!(after((NOW + 3600) << 20).unwrap(), None);
    assert_eq!(after(i64::MAX).unwrap(), None);
    let reset = after((NOW + 20) << 20 | 77).unwrap().unwrap();
    assert!(reset.is_reset && reset.orders.len() == 2);
}

/// What was undone may have been told to a shop, and only what counts as changed is told again.
#[test]
fn after_a_restore_the_first_word_of_an_order_is_a_change_even_if_it_stands_as_it_stood() {
    let shop = Shop::open(3);
    let says_nothing_new = |n: u64, at: i64| {
        let before = shop.store().last_number().unwrap();
        shop.record(&charge(n, None, "pi_1"), at);
        shop.store().last_number().unwrap() == before
    };
    let restarts = |at: i64| {
        let mut store = shop.store();
        store.begin_history(UnixSeconds(at), false).unwrap();
    };
    shop.record(&session(1, Some("ord_1"), "pi_1"), NOW);
    restarts(NOW + 10);
    assert!(says_nothing_new(1, NOW + 20), "a restart undoes nothing");
    let backup = shop.backup();
    shop.restore(&backup, NOW + 30);
    restarts(NOW + 40);
    restarts(NOW + 50);
    assert!(!says_nothing_new(2, NOW + 60));
    assert!(says_nothing_new(3, NOW + 70), "once is enough");
}

// ── The shop ────────────────────────────────────────────────────────────────────────────────────

struct Shop {
    folder: TempDir,
    mirror: Mirror,
    backups: Vec<PathBuf>,
    events: std::cell::Cell<usize>,
    now: i64,
    random: u64,
}

/// What the shop's own back end does with the answers.
#[derive(Clone, Default)]
struct Mirror {
    orders: BTreeMap<String, Value>,
    cursor: i64,
    gone: usize,
    resets: usize,
}

impl Shop {
    fn open(seed: u64) -> Shop {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(&folder.path().join("paidup.db")).unwrap());
        Shop {
            folder,
            mirror: Mirror::default(),
            backups: Vec::new(),
            events: std::cell::Cell::new(0),
            now: NOW,
            random: seed * 2 + 1,
        }
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("paidup.db")
    }

    fn store(&self) -> Store {
        Store::open_existing(&self.database()).unwrap()
    }

    /// One in `of`, by a small generator: the same seed, the same life.
    fn chance(&mut self, of: u64) -> bool {
        self.pick(of) == 0
    }

    fn pick(&mut self, of: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % of
    }

    /// Events of a world small enough to collide, backups, older ones restored, restarts. Several
    /// happen in the same second.
    fn something(&mut self) -> &'static str {
        self.now += i64::from(self.chance(2));
        match self.pick(20) {
            0 => {
                let backup = self.backup();
                self.backups.push(backup);
                "backup"
            }
            1 if !self.backups.is_empty() => {
                let count = u64::try_from(self.backups.len()).unwrap();
                let backup = usize::try_from(self.pick(count)).unwrap();
                let backup = self.backups[backup].clone();
                // Its own file of what was there is named after the second.
                self.now += 1;
                self.restore(&backup, self.now);
                "restore"
            }
            2 => {
                self.store()
                    .begin_history(UnixSeconds(self.now), false)
                    .unwrap();
                "restart"
            }
            _ => {
                let names = [
                    Some("ord_0"),
                    Some("ord_1"),
                    Some("ord_2"),
                    None,
                    None,
                    None,
                ];
                let name = names[usize::try_from(self.pick(6)).unwrap()];
                let (object, link) = (self.pick(5), self.pick(4));
                let event = match self.pick(3) {
                    0 => session(object, name, &format!("pi_{link}")),
                    1 => intent(object, name, &format!("ch_{link}")),
                    _ => charge(object, name, &format!("pi_{link}")),
                };
                self.record(&event, self.now);
                "event"
            }
        }
    }

    fn record(&self, (kind, object): &(&str, Value), at: i64) {
        let number = self.events.replace(self.events.get() + 1);
        let event = json!({"id": format!("evt_{number}"), "object": "event", "created": number,
            "type": kind, "livemode": false, "api_version": "2026-10-28.endive",
            "data": {"object": object}});
        let delivery = Delivery {
            event: Event::from_json(&event.to_string(), &Reading::default()).unwrap(),
            sha256: [0; 32],
            request_id: None,
            received: UnixSeconds(at),
        };
        self.store().record(&[delivery]).unwrap()[0]
            .as_ref()
            .unwrap();
    }

    fn backup(&self) -> PathBuf {
        let path = self
            .folder
            .path()
            .join(format!("copy-{}.db", self.backups.len()));
        let target = Target::File {
            path: path.clone(),
            may_replace: true,
        };
        backup::backup(
            &self.database(),
            &target,
            UnixSeconds(self.now),
            &mut Vec::new(),
        )
        .unwrap();
        path
    }

    fn restore(&self, from: &Path, at: i64) {
        restore::restore(
            &self.database(),
            from,
            Store::open_query_only(from),
            UnixSeconds(at),
            &mut Vec::new(),
        )
        .unwrap();
    }

    /// Reads to the end, and compares.
    fn poll(&mut self, case: &str) {
        let store = self.store();
        self.mirror.poll(&store, self.now);
        let listed = store.orders(None, 1000).unwrap();
        let listed: BTreeMap<String, Value> = listed
            .iter()
            .map(|order| (order.name.as_str().to_owned(), order_json(order, None)))
            .collect();
        assert_eq!(self.mirror.orders, listed, "{case}");
    }
}

impl Mirror {
    fn poll(&mut self, store: &Store, now: i64) {
        loop {
            let page = store.changes_after(self.cursor, 3, UnixSeconds(now), |_| true);
            let page = page.unwrap().unwrap();
            if page.is_reset {
                self.orders.clear();
                self.resets += 1;
            }
            for gone in &page.gone {
                self.orders.remove(&gone.name);
                self.gone += 1;
            }
            for order in &page.orders {
                let name = order.name.as_str().to_owned();
                self.orders.insert(name, order_json(order, None));
            }
            self.cursor = page.cursor;
            if !page.has_more {
                return;
            }
        }
    }
}

fn session(id: u64, order: Option<&str>, intent: &str) -> (&'static str, Value) {
    let object = json!({"id": format!("cs_{id}"), "object": "checkout.session", "mode": "payment",
        "payment_status": "paid", "amount_total": 2500, "currency": "eur",
        "client_reference_id": order, "metadata": {}, "payment_intent": intent});
    ("checkout.session.completed", object)
}

fn intent(id: u64, order: Option<&str>, charge: &str) -> (&'static str, Value) {
    let object = json!({"id": format!("pi_{id}"), "object": "payment_intent", "amount": 2500,
        "amount_received": 2500, "currency": "eur", "metadata": {"order_id": order},
        "latest_charge": charge});
    ("payment_intent.succeeded", object)
}

fn charge(id: u64, order: Option<&str>, intent: &str) -> (&'static str, Value) {
    let object = json!({"id": format!("ch_{id}"), "object": "charge", "amount": 2500,
        "amount_captured": 2500, "amount_refunded": 0, "captured": true, "currency": "eur",
        "payment_intent": intent, "metadata": {"order_id": order}});
    ("charge.succeeded", object)
}
