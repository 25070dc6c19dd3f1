//! The twelve invariants of an order's truth, over real SQLite files: any order of arrival, any
//! number of times, a crash in between, and the same orders come out.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use paidup::base::id::{OrderId, RequestId, UnixSeconds};
use paidup::store::{Change, Store, StoreError, StoredOrder};
use paidup::truth::delivery::{Delivery, Outcome, Receipt};
use paidup::truth::event::{Event, Ignored, Meaning};
use paidup::truth::fact::Fact;
use paidup::truth::kind::KINDS;
use paidup::truth::order::{DisputeState, Flag, State, Status};
use paidup::truth::payment::Payment;
use paidup::truth::reading::{Mode, Reading};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

// ── The stories of the documents ────────────────────────────────────────────────────────────────

#[test]
fn every_document_has_the_outcome_and_the_order_that_its_story_tells() {
    let shop = Shop::open();
    let told = |name: &str| shop.deliver(&document(name)).unwrap().outcome;

    assert_eq!(told("checkout.session.completed.paid"), Outcome::Applied);
    assert_eq!(shop.status("ord_1001"), Status::Paid);
    assert_eq!(told("payment_intent.succeeded"), Outcome::Applied);
    assert_eq!(told("charge.succeeded"), Outcome::Applied);
    assert_eq!(told("refund.created.partial"), Outcome::Applied);
    assert_eq!(told("charge.refunded.partial"), Outcome::Applied);
    assert_eq!(shop.state("ord_1001").refunded, 1000);
    assert_eq!(shop.status("ord_1001"), Status::PartiallyRefunded);
    assert_eq!(told("refund.created.pending"), Outcome::Applied);
    assert_eq!(told("charge.refunded.full"), Outcome::Applied);
    assert_eq!(shop.status("ord_1001"), Status::Refunded);
    assert_eq!(told("refund.updated.succeeded"), Outcome::Applied);
    assert_eq!(shop.status("ord_1001"), Status::Refunded);
    assert_eq!(told("refund.failed"), Outcome::Applied);
    assert_eq!(shop.status("ord_1001"), Status::PartiallyRefunded);
    assert_eq!(
        told("charge.refund.updated.failed"),
        Outcome::Duplicate,
        "the same fact"
    );
    assert_eq!(shop.state("ord_1001").refunded, 1000);

    assert_eq!(told("checkout.session.completed.unpaid"), Outcome::Applied);
    assert_eq!(shop.status("ord_1002"), Status::Processing);
    told("checkout.session.async_payment_succeeded");
    assert_eq!(shop.status("ord_1002"), Status::Paid);
    told("checkout.session.async_payment_failed");
    assert_eq!(shop.status("ord_1003"), Status::Failed);
    told("checkout.session.completed.no_payment_required");
    assert_eq!(shop.status("ord_1004"), Status::Paid);
    told("checkout.session.expired");
    assert_eq!(shop.status("ord_1005"), Status::Expired);
    told("payment_intent.payment_failed");
    assert_eq!(shop.status("ord_1006"), Status::Pending);
    told("payment_intent.canceled");
    assert_eq!(shop.status("ord_1006"), Status::Canceled);
    told("old.2020-08-27.checkout.session.completed");
    assert_eq!(shop.status("ord_0901"), Status::Paid);
    told("old.2020-08-27.charge.refunded");
    assert_eq!(shop.status("ord_0901"), Status::Refunded);

    assert_eq!(told("charge.dispute.created"), Outcome::Parked);
    assert_eq!(told("charge.dispute.closed.won"), Outcome::Parked);
    assert_eq!(
        told("unmatched.charge.refunded.cli_trigger"),
        Outcome::Parked
    );
    assert_eq!(
        told("unmatched.checkout.session.completed.cli_trigger"),
        Outcome::Applied
    );
    let session = "cs_test_a1Ii0Mc7S28nLv9FLVdydH6HfMaEaEyblGZVVdOAm0Led9Jrigr9Sc4oCh2I";
    assert_eq!(
        shop.status(session),
        Status::Paid,
        "a session that names no order is one"
    );
    assert_eq!(
        told("ignored.customer.created"),
        Outcome::Ignored(Ignored::Type)
    );
    assert_eq!(
        told("thin.v2.core.event_destination.ping"),
        Outcome::Ignored(Ignored::Thin)
    );
}

#[test]
fn the_runbooks_refund_type_refunds_all_of_a_payment() {
    let shop = Shop::open();
    shop.tell(&[
        "checkout.session.completed.paid",
        "not_a_stripe_type.payment_intent.refunded",
    ]);
    assert_eq!(shop.status("ord_1001"), Status::Refunded);
    assert_eq!(shop.state("ord_1001").refunded, 2500);
}

#[test]
fn a_dispute_is_open_then_won_and_leaves_the_status() {
    let shop = Shop::open();
    let session = session("cs_9", "completed", |o| {
        o["client_reference_id"] = json!("ord_9");
        o["payment_intent"] = json!("pi_35GJLknKHY7pQ2eZvKY0cnLjziN");
        o["amount_total"] = json!(8000);
    });
    shop.deliver(&event("evt_9", 10, "checkout.session.completed", &session))
        .unwrap();
    shop.tell(&["charge.dispute.created", "charge.dispute.funds_withdrawn"]);
    assert_eq!(shop.state("ord_9").dispute, DisputeState::Open);
    shop.tell(&[
        "charge.dispute.closed.won",
        "charge.dispute.funds_reinstated",
    ]);
    assert_eq!(
        (shop.status("ord_9"), shop.state("ord_9").dispute),
        (Status::Paid, DisputeState::Won)
    );
}

// ── Identity ────────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_order_known_by_its_session_takes_its_real_name_and_its_story_along() {
    let shop = Shop::open();
    let paid = session("cs_1", "completed", |o| o["payment_intent"] = json!("pi_1"));
    shop.deliver(&event("evt_1", 10, "checkout.session.completed", &paid))
        .unwrap();
    assert_eq!(shop.status("cs_1"), Status::Paid);

    let intent = json!({"id": "pi_1", "amount": 2500, "currency": "eur",
                        "metadata": {"orderId": "real"}});
    shop.deliver(&event("evt_2", 11, "payment_intent.succeeded", &intent))
        .unwrap();

    let store = shop.store();
    let order = store.order("real").unwrap().unwrap();
    assert_eq!(
        store.order("cs_1").unwrap().as_ref(),
        Some(&order),
        "the old name finds it"
    );
    assert_eq!(store.order("pi_1").unwrap().as_ref(), Some(&order));
    assert_eq!(store.orders(None, 10).unwrap().len(), 1);
    let story = store.changes(&order).unwrap();
    assert_eq!(story.first().unwrap().event_id, "evt_1");
    assert_eq!(
        story
            .iter()
            .filter(|step| step.from != Some(step.to))
            .count(),
        1,
        "paid once"
    );
}

#[test]
fn two_names_for_one_payment_are_settled_by_rank_and_flagged() {
    let charge = json!({"id": "ch_1", "amount": 2500, "amount_refunded": 0, "captured": true,
        "currency": "eur", "payment_intent": "pi_1", "metadata": {"order_id": "aaa"}});
    let paid = session("cs_1", "completed", |o| {
        o["payment_intent"] = json!("pi_1");
        o["metadata"] = json!({"order_id": "zzz"});
        o["client_reference_id"] = json!("a customer of the shop's");
    });
    let events = [
        event("evt_1", 10, "charge.succeeded", &charge),
        event("evt_2", 11, "checkout.session.completed", &paid),
    ];
    for order in [[0, 1], [1, 0]] {
        let shop = Shop::open();
        for index in order {
            shop.deliver(&events[index]).unwrap();
        }
        assert_eq!(shop.status("zzz"), Status::Paid);
        assert_eq!(shop.state("zzz").flags, [Flag::NameConflict]);
        assert_eq!(
            shop.store().orders(None, 10).unwrap().len(),
            1,
            "there is no order aaa"
        );
    }
}

#[test]
fn a_refund_that_comes_before_its_session_is_parked_and_joined() {
    let shop = Shop::open();
    let refund = json!({"id": "re_1", "amount": 700, "status": "succeeded", "created": 20,
                        "payment_intent": "pi_1", "charge": "ch_1"});
    let receipt = shop
        .deliver(&event("evt_1", 20, "refund.created", &refund))
        .unwrap();
    assert_eq!(receipt.outcome, Outcome::Parked);
    assert_eq!(shop.store().figures().unwrap().parked, 1);
    let paid = session("cs_1", "completed", |o| {
        o["payment_intent"] = json!("pi_1");
        o["client_reference_id"] = json!("ord_1");
    });
    shop.deliver(&event("evt_2", 10, "checkout.session.completed", &paid))
        .unwrap();
    assert_eq!(shop.status("ord_1"), Status::PartiallyRefunded);
    assert_eq!(shop.store().figures().unwrap().parked, 0);
}

// ── What a human must look at ───────────────────────────────────────────────────────────────────

#[test]
fn two_paid_sessions_of_one_order_stay_paid_and_are_flagged() {
    let shop = Shop::open();
    for n in ["1", "2"] {
        let paid = session(&format!("cs_{n}"), "completed", |o| {
            o["payment_intent"] = json!(format!("pi_{n}"));
            o["client_reference_id"] = json!("ord_1");
        });
        let id = format!("evt_{n}");
        shop.deliver(&event(&id, 10, "checkout.session.completed", &paid))
            .unwrap();
    }
    let state = shop.state("ord_1");
    assert_eq!((state.status, state.amount), (Status::Paid, 5000));
    assert_eq!(state.flags, [Flag::DoublePayment]);

    let refund = json!({"id": "re_1", "amount": 2500, "status": "succeeded", "created": 20,
                        "payment_intent": "pi_2", "charge": "ch_2"});
    shop.deliver(&event("evt_3", 20, "refund.created", &refund))
        .unwrap();
    let state = shop.state("ord_1");
    assert_eq!(
        (state.status, state.amount, state.refunded),
        (Status::Paid, 2500, 0),
        "the order is what the kept payment is"
    );
    assert_eq!(state.flags, [], "one payment is kept: settled");
}

#[test]
fn another_amount_or_currency_than_the_sessions_is_flagged_and_stays_paid() {
    for (amount, currency, flag) in [
        (2000, "eur", Flag::AmountMismatch),
        (2500, "usd", Flag::CurrencyMismatch),
    ] {
        let shop = Shop::open();
        let paid = session("cs_1", "completed", |o| {
            o["payment_intent"] = json!("pi_1");
            o["client_reference_id"] = json!("ord_1");
        });
        shop.deliver(&event("evt_1", 10, "checkout.session.completed", &paid))
            .unwrap();
        let charge = json!({"id": "ch_1", "amount": amount, "amount_refunded": 0,
            "captured": true, "currency": currency, "payment_intent": "pi_1"});
        shop.deliver(&event("evt_2", 11, "charge.succeeded", &charge))
            .unwrap();
        assert_eq!(
            (shop.status("ord_1"), shop.state("ord_1").flags),
            (Status::Paid, vec![flag])
        );
    }
}

// ── Modes, accounts and what else changes nothing (invariant 8) ─────────────────────────────────

#[test]
fn events_of_other_modes_accounts_and_types_change_no_order() {
    let shop = Shop::open();
    let mut connected: Value =
        serde_json::from_str(&document("checkout.session.completed.paid")).unwrap();
    connected["account"] = json!("acct_1");
    connected["id"] = json!("evt_connected");
    let receipt = shop.deliver(&connected.to_string()).unwrap();
    assert_eq!(receipt.outcome, Outcome::Ignored(Ignored::Account));

    let other = Event::from_json(
        &document("checkout.session.completed.paid"),
        &Reading {
            mode: Some(Mode::Live),
            ..Reading::default()
        },
    );
    assert_eq!(other.unwrap().meaning, Meaning::Ignored(Ignored::Mode));
    let same = Event::from_json(
        &document("checkout.session.completed.paid"),
        &Reading {
            mode: Some(Mode::Test),
            ..Reading::default()
        },
    );
    assert!(matches!(same.unwrap().meaning, Meaning::Fact(_)));
    assert_eq!(shop.store().orders(None, 10).unwrap(), []);
}

#[test]
fn an_event_that_was_ignored_for_its_mode_is_applied_when_it_comes_again() {
    let shop = Shop::open();
    let text = document("checkout.session.completed.paid");
    let ignored = Event::from_json(
        &text,
        &Reading {
            mode: Some(Mode::Live),
            ..Reading::default()
        },
    )
    .unwrap();
    let receipts = shop.store().record(&[delivery(ignored)]).unwrap();
    assert_eq!(
        receipts[0].as_ref().unwrap().outcome,
        Outcome::Ignored(Ignored::Mode)
    );
    assert_eq!(shop.deliver(&text).unwrap().outcome, Outcome::Applied);
    assert_eq!(shop.status("ord_1001"), Status::Paid);
    assert_eq!(shop.store().events(None, 10).unwrap().len(), 1, "S1");
}

/// S5: sessions are kept by month, and an intent may be of the month after its session.
#[test]
fn an_intent_finds_the_session_that_it_names_around_the_turn_of_a_month() {
    let name = any_session(1);
    let paid = |made: i64| {
        let object = session(&name, "paid", |object| object["created"] = json!(made));
        event(
            "evt_1",
            made.saturating_add(60),
            "checkout.session.completed",
            &object,
        )
    };
    let succeeded = |made: i64| {
        let object = json!({"id": "pi_1", "created": made, "amount": 2500, "amount_received": 2500,
            "currency": "eur", "payment_details": {"order_reference": &name}});
        event(
            "evt_2",
            made.saturating_add(30),
            "payment_intent.succeeded",
            &object,
        )
    };
    let turn = 700 * 30 * DAY;
    for (made, of_intent, is_found) in [
        (turn - 1, turn, true),
        (turn, turn - 1, true),
        (turn, turn + 30 * DAY - 1, true),
        (turn, turn + 60 * DAY, false),
        (0, i64::MAX, false),
        (i64::MIN, 0, true),
        (i64::MAX - 100, i64::MAX, true),
    ] {
        let texts = [paid(made), succeeded(of_intent)];
        for order in [[0, 1], [1, 0]] {
            let shop = Shop::open();
            for index in order {
                shop.deliver(&texts[index]).unwrap();
            }
            let store = shop.store();
            let of_session = store.order(&name).unwrap().unwrap();
            let of_intent = store.order("pi_1").unwrap();
            assert_eq!(of_intent.is_some(), is_found, "{made} {order:?}");
            assert_eq!(
                of_session.state.intent.is_some(),
                is_found,
                "{made} {order:?}"
            );
            let told = store.events(Some(&of_session), 10).unwrap();
            assert_eq!(told.len(), if is_found { 2 } else { 1 });
            let listed = store.events(None, 10).unwrap();
            let named = listed.iter().filter(|event| event.order.is_some());
            assert_eq!(named.count(), told.len());
        }
    }
}

/// Only sessions are: a charge is disputed months later, and Stripe may make its id longer.
#[test]
fn a_dispute_finds_its_charge_after_months_whatever_the_length_of_its_id() {
    let charge = format!("ch_{:0100}", 1);
    let object = json!({"id": &charge, "created": 0, "amount": 2500, "amount_captured": 2500,
        "captured": true, "currency": "eur", "metadata": {"order_id": "ord_1"}});
    let succeeded = event("evt_1", 30, "charge.succeeded", &object);
    let object = json!({"id": "du_1", "created": 300 * DAY, "amount": 2500, "charge": &charge,
        "status": "needs_response"});
    let disputed = event("evt_2", 300 * DAY, "charge.dispute.created", &object);
    let shop = Shop::open();
    shop.deliver(&succeeded).unwrap();
    shop.deliver(&disputed).unwrap();
    assert_eq!(shop.state("ord_1").dispute, DisputeState::Open);
}

/// A refund may wait for its charge (`pending_reason` is `charge_pending`): it does not prove that the
/// money came. <https://docs.stripe.com/changelog/basil/2025-04-30/refund-pending-reason>
#[test]
fn a_refund_of_a_debit_in_flight_makes_no_order_paid() {
    let charge = |status: &str| {
        json!({"id": "ch_1", "object": "charge", "amount": 1500, "amount_captured": 1500,
            "amount_refunded": 0, "captured": true, "status": status, "currency": "eur",
            "payment_intent": "pi_1", "metadata": {"order_id": "ord_1"}})
    };
    let refund = |status: &str| {
        json!({"id": "re_1", "object": "refund", "amount": 1500, "status": status, "created": 1,
            "charge": "ch_1", "payment_intent": "pi_1"})
    };
    let texts = [
        event("evt_1", 0, "charge.pending", &charge("pending")),
        event("evt_2", 1, "refund.created", &refund("pending")),
        event("evt_3", 2, "charge.failed", &charge("failed")),
        event("evt_4", 2, "refund.failed", &refund("failed")),
    ];
    permute(&mut vec![0, 1, 2, 3], 0, &mut |order| {
        let shop = Shop::open();
        for index in order {
            shop.deliver(&texts[*index]).unwrap();
            if let Some(known) = shop.store().order("ord_1").unwrap() {
                assert!(!known.state.status.is_paid(), "{order:?}: {known:?}");
            }
        }
        assert_eq!(shop.status("ord_1"), Status::Failed, "{order:?}");
    });
}

// ── Every permutation, every repetition ─────────────────────────────────────────────────────────

/// Invariants 1, 2, 6 and 7: 5,040 orders of seven events, each with its own ids, in one file.
#[test]
fn every_permutation_of_an_orders_life_ends_the_same() {
    let names = [
        "checkout.session.completed.paid",
        "charge.succeeded",
        "refund.created.partial",
        "charge.refunded.partial",
        "refund.created.pending",
        "charge.refunded.full",
        "refund.failed",
    ];
    let documents: Vec<String> = names.map(document).into();
    let shop = Shop::open();
    let mut store = shop.store();
    let mut runs = 0;
    permute(&mut (0..names.len()).collect::<Vec<_>>(), 0, &mut |order| {
        let copy = |index: usize| renamed(&documents[index], runs);
        let again = copy(order[runs % names.len()]);
        let texts = order.iter().map(|index| copy(*index)).chain([again]);
        let batch: Vec<Delivery> = texts.map(|text| delivery(read(&text))).collect();
        for answer in store.record(&batch).unwrap() {
            answer.unwrap();
        }
        let state = store
            .order(&format!("ord_1001-{runs}"))
            .unwrap()
            .unwrap()
            .state;
        let end = (state.status, state.amount, state.refunded, state.flags);
        assert_eq!(
            end,
            (Status::PartiallyRefunded, 2500, 1000, vec![]),
            "{order:?}"
        );
        runs += 1;
    });
    assert_eq!(runs, 5_040);
    let orders = store.figures().unwrap().orders;
    assert_eq!(
        orders.iter().map(|(_, count)| count).sum::<i64>(),
        5_040,
        "invariant 9"
    );
}

const DAY: i64 = 24 * 60 * 60;

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    /// Invariants 1, 2, 3, 4, 5, 9 and 11 over random events of a small, tangled world.
    #[test]
    fn any_order_any_number_of_times_with_a_crash_in_between_gives_the_same_orders(
        events in prop::collection::vec(any_event(), 1..14),
        seed in any::<u64>(),
        cut in 0usize..14,
    ) {
        let texts: Vec<String> = events.iter().enumerate().map(|(n, e)| e.text(n)).collect();
        let one = Shop::open();
        let mut proofs = Proofs { refunds_prove: true, ..Proofs::default() };
        for text in &texts {
            let receipt = one.deliver(text).unwrap();
            proofs.learn(text, receipt.outcome);
            proofs.check(&one);
        }
        let mut shuffled = texts.clone();
        shuffled.extend(texts.iter().take(3).cloned());
        // The same facts under other event ids, too.
        shuffled.extend(events.iter().enumerate().skip(2).take(2).map(|(n, e)| e.text(n + 100)));
        shuffle(&mut shuffled, seed);
        let two = Shop::open();
        let (before, after) = shuffled.split_at(cut.min(shuffled.len()));
        two.deliver_together(before);
        two.crash();
        two.deliver_together(after);

        prop_assert_eq!(one.orders(), two.orders());
        for shop in [&one, &two] {
            shop.check_stored_against_computed();
            for (name, state) in shop.orders() {
                prop_assert!(0 <= state.refunded && state.refunded <= state.amount || !state.status.is_paid());
                let all = state.refunded == state.amount && state.amount > 0;
                prop_assert_eq!(state.status == Status::Refunded, all && state.status.is_paid(), "{}", name);
            }
        }
        // An event that was pruned and comes again changes nothing: neither order nor story.
        two.prune_all();
        let before = two.orders_and_stories();
        shuffle(&mut shuffled, seed ^ 1);
        two.deliver_together(&shuffled);
        prop_assert_eq!(two.orders_and_stories(), before);
        proofs.check_stories(&one);
    }
}

// ── The shop and its events ─────────────────────────────────────────────────────────────────────

/// A database file of its own.
struct Shop {
    folder: TempDir,
    open: RefCell<Option<Store>>,
}

impl Shop {
    fn open() -> Shop {
        // What is tested here is not the disk, and syncing a real one would only make it slow.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        Shop {
            folder: folder.unwrap(),
            open: RefCell::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("paidup.db")
    }

    fn store(&self) -> RefMut<'_, Store> {
        let open = || Store::open(&self.path()).unwrap();
        RefMut::map(self.open.borrow_mut(), |store| {
            store.get_or_insert_with(open)
        })
    }

    fn deliver(&self, text: &str) -> Result<Receipt, StoreError> {
        self.store()
            .record(&[delivery(read(text))])
            .unwrap()
            .remove(0)
    }

    fn deliver_together(&self, texts: &[String]) {
        let batch: Vec<Delivery> = texts.iter().map(|text| delivery(read(text))).collect();
        for answer in self.store().record(&batch).unwrap() {
            answer.unwrap();
        }
    }

    /// Removes every event from the ledger but the last, which always stays.
    fn prune_all(&self) {
        let batch = self.store().prune(0, UnixSeconds(i64::MAX)).unwrap();
        let left = self.store().events(None, u32::MAX).unwrap().len();
        assert!(left <= 1, "{left} left after {batch:?}");
    }

    fn orders_and_stories(&self) -> Vec<(StoredOrder, Vec<Change>)> {
        let store = self.store();
        let orders = store.orders(None, u32::MAX).unwrap();
        let story = |order: &StoredOrder| store.changes(order).unwrap();
        let told = orders
            .into_iter()
            .map(|order| (order.clone(), story(&order)));
        told.collect()
    }

    fn tell(&self, names: &[&str]) {
        for name in names {
            self.deliver(&document(name)).unwrap();
        }
    }

    /// What `kill -9` leaves: the file and its log as they are while they are open.
    fn crash(&self) {
        let copies = ["", "-wal"].map(|end| {
            let path = PathBuf::from(format!("{}{end}", self.path().display()));
            std::fs::read(&path).ok().map(|bytes| (path, bytes))
        });
        self.open.borrow_mut().take();
        for (path, bytes) in copies.into_iter().flatten() {
            std::fs::write(path, bytes).unwrap();
        }
    }

    fn state(&self, name: &str) -> State {
        self.store()
            .order(name)
            .unwrap()
            .unwrap_or_else(|| panic!("no order {name}"))
            .state
    }

    fn status(&self, name: &str) -> Status {
        self.state(name).status
    }

    fn orders(&self) -> BTreeMap<String, State> {
        let orders = self.store().orders(None, 1000).unwrap();
        orders
            .into_iter()
            .map(|order| (order.name.as_str().to_owned(), order.state))
            .collect()
    }

    /// S4: the orders computed from the stored facts are the stored orders.
    fn check_stored_against_computed(&self) {
        let db = rusqlite::Connection::open(self.path()).unwrap();
        let mut rows = db
            .prepare("SELECT o.name, p.facts FROM payment p JOIN orders o ON o.id = p.order_id")
            .unwrap();
        let mut payments: BTreeMap<String, Vec<Payment>> = BTreeMap::new();
        let rows = rows
            .query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))
            .unwrap();
        for row in rows {
            let (name, facts) = row.unwrap();
            payments
                .entry(name)
                .or_default()
                .push(serde_json::from_str(&facts).unwrap());
        }
        let computed: BTreeMap<_, _> = payments
            .into_iter()
            .map(|(name, payments)| {
                let order = OrderId::parse(&name).unwrap();
                (name, State::of(&order, &payments))
            })
            .collect();
        assert_eq!(computed, self.orders());
        self.check_takings();
        let tally: i64 = self
            .store()
            .figures()
            .unwrap()
            .orders
            .iter()
            .map(|(_, n)| n)
            .sum();
        assert_eq!(
            tally,
            i64::try_from(computed.len()).unwrap(),
            "the tally counts the orders"
        );
    }

    /// The takings are those of the payments, and keep what the orders keep.
    fn check_takings(&self) {
        let store = self.store();
        assert_eq!(store.disagreements().unwrap(), [""; 0]);
        let orders = store.orders(None, 1000).unwrap();
        let mixed = |order: &StoredOrder| order.state.flags.contains(&Flag::CurrencyMismatch);
        // An order counts only the payments of one currency.
        if orders.iter().any(mixed) {
            return;
        }
        let mut kept: BTreeMap<Box<str>, (i64, i64)> = BTreeMap::new();
        for (_, currency, takings) in store
            .takings(UnixSeconds(i64::MIN)..UnixSeconds(i64::MAX))
            .unwrap()
        {
            let kept = kept.entry(currency).or_default();
            *kept = (kept.0 + takings.orders, kept.1 + takings.kept());
        }
        let took = |order: &&StoredOrder| order.state.status.is_paid() && order.state.amount > 0;
        for order in orders.iter().filter(took) {
            let kept = kept
                .entry(order.state.currency.clone().unwrap())
                .or_default();
            *kept = (kept.0 - 1, kept.1 - order.state.kept());
        }
        kept.retain(|_, kept| *kept != (0, 0));
        assert_eq!(kept, BTreeMap::new());
    }
}

/// The evidence that money was taken: which objects said so, and which events told it.
#[derive(Default)]
struct Proofs {
    objects: BTreeSet<String>,
    /// Each with its object.
    events: BTreeMap<String, String>,
    /// A refund is evidence only while nothing is told of a charge or an intent: then it may be the
    /// release of a hold, or have waited in vain for money that never came.
    refunds: BTreeSet<String>,
    refunds_prove: bool,
    /// Sessions that an intent of quite another time names: such an id is of two payments (S5).
    ambiguous: BTreeSet<String>,
}

impl Proofs {
    fn learn(&mut self, text: &str, outcome: Outcome) {
        if matches!(outcome, Outcome::Ignored(_)) {
            return;
        }
        let event: Value = serde_json::from_str(text).unwrap();
        let object = &event["data"]["object"];
        let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
        match object["object"].as_str().unwrap() {
            "refund" => drop(self.refunds.insert(id(object))),
            "charge" | "payment_intent" => self.refunds_prove = false,
            _ => {}
        }
        if let Some(session) = object["payment_details"]["order_reference"].as_str() {
            let of_session = (0..3).find(|number| any_session(*number) == session);
            let made = i64::from(of_session.unwrap()) * 30 * DAY;
            if (object["created"].as_i64().unwrap() - made).abs() >= 60 * DAY {
                self.ambiguous.insert(session.to_owned());
            }
        }
        if tells_of_money(&event) {
            self.objects.insert(id(object));
            self.events.insert(id(&event), id(object));
        }
    }

    /// Invariant 4: an order is paid as long as one of its objects said so, whatever came later.
    fn check(&self, shop: &Shop) {
        let refunds = self.refunds.iter().filter(|_| self.refunds_prove);
        for id in (&self.objects - &self.ambiguous).iter().chain(refunds) {
            if let Some(order) = shop.store().order(id).unwrap() {
                assert!(order.state.status.is_paid(), "{id}: {order:#?}");
            }
        }
    }

    /// Invariants 4 and 11: in a story no step leads from paid to unpaid after a step that told of money,
    /// unless the payment that it told of left for the order that it really belongs to.
    fn check_stories(&self, shop: &Shop) {
        let store = shop.store();
        for order in store.orders(None, 1000).unwrap() {
            let story = store.changes(&order).unwrap();
            // Two orders that turned out to be one tell both their stories.
            if story.iter().filter(|step| step.from.is_none()).count() > 1 {
                continue;
            }
            let is_told = |step: &&Change| {
                let object = self.events.get(&step.event_id);
                let of = object.and_then(|object| store.order(object).unwrap());
                of.is_some_and(|of| of.name == order.name)
            };
            let mut since_told = story.iter().skip_while(|step| !is_told(step));
            assert!(since_told.all(|step| step.to.is_paid()), "{story:#?}");
        }
    }
}

/// What it says is that money was taken. A refund says so only if nothing else says that none was.
fn tells_of_money(event: &Value) -> bool {
    let object = &event["data"]["object"];
    let kind = event["type"].as_str().unwrap();
    // Of what was asked for, the status says what an event's type says.
    let news = match kind {
        FETCHED => object["status"].as_str().unwrap_or_default(),
        _ => kind.rsplit('.').next().unwrap(),
    };
    match object["object"].as_str().unwrap() {
        "checkout.session" => match object["payment_status"].as_str().unwrap() {
            "paid" => true,
            "no_payment_required" => {
                ["completed", "complete", "async_payment_succeeded"].contains(&news)
            }
            _ => news == "async_payment_succeeded",
        },
        "payment_intent" => {
            ["succeeded", "refunded"].contains(&news) || object["amount_received"] != 0
        }
        "charge" => {
            object["status"] == "succeeded" && object["captured"] == true && news != "expired"
        }
        "invoice" => news == "paid" || object["status"] == "paid",
        "dispute" => true,
        _ => false,
    }
}

fn delivery(event: Event) -> Delivery {
    Delivery {
        event,
        sha256: [7; 32],
        request_id: RequestId::parse("req-0001").ok(),
        received: UnixSeconds(1_795_000_000),
    }
}

fn read(text: &str) -> Event {
    let event = Event::from_json(text, &Reading::default()).unwrap();
    if &*event.kind != FETCHED {
        return event;
    }
    let value: Value = serde_json::from_str(text).unwrap();
    let object = value["data"]["object"].to_string();
    let fact = Fact::from_object(&object, event.created.unwrap(), &Reading::default());
    let meaning = fact.map_or(Meaning::Ignored(Ignored::NoSale), |fact| {
        Meaning::Fact(Box::new(fact))
    });
    Event { meaning, ..event }
}

/// An object that Stripe was asked for, in the form of an event.
const FETCHED: &str = "paidup.fetched";

fn document(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/events");
    std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap()
}

/// The document with ids of its own.
fn renamed(text: &str, run: usize) -> String {
    let mut value: Value = serde_json::from_str(text).unwrap();
    rename(&mut value, run);
    value.to_string()
}

fn rename(value: &mut Value, run: usize) {
    match value {
        Value::String(text) => {
            let known = ["evt_", "cs_", "pi_", "ch_", "re_", "ord_"];
            if known.iter().any(|prefix| text.starts_with(prefix)) {
                text.push_str(&format!("-{run}"));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rename(value, run)),
        Value::Object(values) => values.values_mut().for_each(|value| rename(value, run)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn event(id: &str, created: i64, kind: &str, object: &Value) -> String {
    json!({"id": id, "object": "event", "created": created, "type": kind, "livemode": false,
           "api_version": "2026-10-28.endive", "data": {"object": object}})
    .to_string()
}

/// A paid session of 25.00 EUR, then changed.
fn session(id: &str, _kind: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut object = json!({"id": id, "object": "checkout.session", "mode": "payment",
        "payment_status": "paid", "amount_total": 2500, "currency": "eur",
        "client_reference_id": null, "metadata": {}, "payment_intent": null});
    change(&mut object);
    object
}

fn permute(items: &mut Vec<usize>, from: usize, visit: &mut dyn FnMut(&[usize])) {
    if from == items.len() {
        return visit(items);
    }
    for index in from..items.len() {
        items.swap(from, index);
        permute(items, from + 1, visit);
        items.swap(from, index);
    }
}

/// Fisher and Yates with a small generator: the same seed, the same order.
fn shuffle(items: &mut [String], mut seed: u64) {
    for index in (1..items.len()).rev() {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        items.swap(index, usize::try_from(seed >> 33).unwrap() % (index + 1));
    }
}

/// A random event: what it is about and what it says, from a world small enough to collide.
#[derive(Clone, Debug)]
struct AnyEvent {
    kind: usize,
    object: u8,
    link: u8,
    other: u8,
    name: u8,
    amount: i64,
    created: i64,
    word: usize,
    /// Stripe was asked for the object: no event tells of it.
    is_fetched: bool,
}

fn any_event() -> impl Strategy<Value = AnyEvent> {
    let kinds = 0..KINDS.len();
    let small = (kinds, 0u8..3, 0u8..4, 0u8..4);
    let rest = (
        0u8..6,
        0i64..4,
        0i64..6,
        0usize..8,
        prop::bool::weighted(0.3),
    );
    (small, rest).prop_map(
        |((kind, object, link, other), (name, amount, created, word, is_fetched))| AnyEvent {
            kind,
            object,
            link,
            other,
            name,
            amount: amount * 500,
            created,
            word,
            is_fetched,
        },
    )
}

/// As long as Stripe's. A session is kept by the month in which it was made.
fn any_session(number: u8) -> String {
    format!("cs_test_{number:058}")
}

impl AnyEvent {
    fn text(&self, number: usize) -> String {
        let kind = KINDS[self.kind].name;
        let intent = if self.link < 3 {
            json!(format!("pi_{}", self.link))
        } else {
            Value::Null
        };
        let charge = if self.other < 3 {
            json!(format!("ch_{}", self.other))
        } else {
            Value::Null
        };
        let name = if self.name < 3 {
            json!(format!("ord_{}", self.name))
        } else {
            Value::Null
        };
        let id = self.object;
        let currency = if self.word == 7 { "usd" } else { "eur" };
        let object = if kind.starts_with("checkout") {
            let status = ["paid", "unpaid", "no_payment_required", "odd"][self.word % 4];
            // The third session is of a Payment Link, and any may have an invoice instead.
            let progress = ["complete", "open", "expired"][self.word % 3];
            json!({"id": any_session(id), "object": "checkout.session", "status": progress, "created": i64::from(id) * 30 * DAY,
                   "mode": "payment", "payment_status": status,
                   "payment_link": if id == 2 { json!("plink_1") } else { Value::Null },
                   "invoice": if self.word > 5 { json!(format!("in_{id}")) } else { Value::Null },
                   "client_reference_id": name, "payment_intent": intent,
                   "amount_total": self.amount, "currency": currency})
        } else if kind.starts_with("payment_intent") {
            // Of the same month as a session that it may name, of the one before or after, or of none.
            let progress = [
                "requires_payment_method",
                "requires_action",
                "requires_capture",
                "processing",
                "succeeded",
                "canceled",
            ][self.word % 6];
            json!({"id": format!("pi_{id}"), "object": "payment_intent", "status": progress, "created": i64::from(id) * 50 * DAY, "amount": self.amount, "amount_received": self.amount,
                   "currency": currency, "metadata": {"order_id": name}, "latest_charge": charge,
                   "payment_details": {"order_reference": if self.link < 3 { json!(any_session(self.link)) } else { Value::Null }}})
        } else if kind.starts_with("invoice_payment") {
            json!({"id": format!("inpay_{id}"), "object": "invoice_payment", "invoice": format!("in_{}", self.link % 3),
                   "payment": {"type": "payment_intent", "payment_intent": intent, "charge": charge}})
        } else if kind.starts_with("invoice") {
            let invoices = ["open", "paid", "void", "uncollectible"];
            json!({"id": format!("in_{id}"), "object": "invoice", "amount_due": self.amount, "amount_paid": self.amount,
                   "status": invoices[self.word % 4],
                   "currency": currency, "metadata": {"order_id": name}, "payment_intent": intent})
        } else if kind.starts_with("review") || kind.starts_with("radar") {
            json!({"id": format!("prv_{id}"), "object": "review", "open": self.word.is_multiple_of(2), "charge": charge,
                   "payment_intent": intent})
        } else if kind.contains("dispute") {
            let words = [
                "won",
                "lost",
                "needs_response",
                "warning_closed",
                "prevented",
                "appeal_under_review",
                "under_review",
                "odd",
            ];
            json!({"id": format!("du_{id}"), "object": "dispute", "amount": self.amount + 1, "status": words[self.word],
                   "charge": charge, "payment_intent": intent})
        } else if kind.contains("refund.") || kind.starts_with("refund") {
            let words = ["pending", "succeeded", "failed", "canceled"];
            json!({"id": format!("re_{id}"), "object": "refund", "amount": self.amount, "status": words[self.word % 4],
                   "created": self.created - 1, "charge": charge, "payment_intent": intent})
        } else {
            let captured = [1500, 1000, 0][self.word % 3];
            let charges = ["succeeded", "succeeded", "pending", "failed"];
            json!({"id": format!("ch_{id}"), "object": "charge", "amount": 1500, "amount_captured": captured,
                   "amount_refunded": self.amount, "captured": captured > 0,
                   "status": charges[self.word % 4],
                   "currency": currency, "payment_intent": intent, "metadata": {"order_id": name}})
        };
        if self.is_fetched {
            let id = object["id"].as_str().unwrap();
            return event(
                &format!("fetched_{id}_{number}"),
                self.created,
                FETCHED,
                &object,
            );
        }
        event(&format!("evt_{number}"), self.created, kind, &object)
    }
}
