//! Which quarter of an hour money counts in: when Stripe took it, gave it back, or lost it.

use std::collections::BTreeMap;

use paidup::base::id::UnixSeconds;
use paidup::store::Store;
use paidup::truth::delivery::Delivery;
use paidup::truth::event::Event;
use paidup::truth::reading::Reading;
use serde_json::{Value, json};
use tempfile::TempDir;

const HOUR: i64 = 3600;
/// 2026-11-24T06:00:00Z
const SALE: i64 = 1_795_500_000;

struct Shop {
    store: Store,
    events: usize,
    _folder: TempDir,
}

impl Shop {
    fn open() -> Shop {
        let folder = tempfile::tempdir().unwrap();
        Shop {
            store: Store::open(&folder.path().join("paidup.db")).unwrap(),
            events: 0,
            _folder: folder,
        }
    }

    /// An event made `hours` after the sale.
    fn tell(&mut self, hours: i64, kind: &str, object: &Value) {
        self.events += 1;
        let event = json!({"id": format!("evt_{}", self.events), "type": kind,
            "created": SALE + hours * HOUR, "data": {"object": object}});
        let delivery = Delivery {
            event: Event::from_json(&event.to_string(), &Reading::default()).unwrap(),
            sha256: [7; 32],
            request_id: None,
            received: UnixSeconds(SALE + 9999 * HOUR),
        };
        self.store.record(&[delivery]).unwrap().remove(0).unwrap();
        assert_eq!(self.store.disagreements().unwrap(), [""; 0]);
    }

    fn pay(&mut self, hours: i64, order: &str, number: &str) {
        let session = json!({"id": format!("cs_{number}"), "mode": "payment",
            "payment_status": "paid", "client_reference_id": order, "amount_total": 2500,
            "currency": "eur", "payment_intent": format!("pi_{number}")});
        self.tell(hours, "checkout.session.completed", &session);
    }

    fn refund(&mut self, told: i64, made: i64, id: &str, minor: i64, status: &str) {
        let refund = json!({"id": id, "amount": minor, "status": status, "charge": "ch_1",
            "payment_intent": "pi_1", "created": SALE + made * HOUR});
        self.tell(told, "refund.updated", &refund);
    }

    /// Orders, taken, refunded and lost, by hours after the sale.
    fn takings(&self) -> BTreeMap<i64, [i64; 4]> {
        let all = UnixSeconds(i64::MIN)..UnixSeconds(i64::MAX);
        let rows = self.store.takings(all).unwrap().into_iter();
        let rows = rows.map(|(quarter, currency, t)| {
            assert_eq!(&*currency, "eur");
            let hours = (quarter.0 - SALE).div_euclid(HOUR);
            (hours, [t.orders, t.taken, t.refunded, t.lost])
        });
        rows.filter(|(_, sums)| *sums != [0; 4]).collect()
    }
}

#[test]
fn money_counts_when_it_moved_whenever_it_was_told() {
    let mut shop = Shop::open();
    // The refund is told first, and made a day after the sale.
    shop.refund(24, 24, "re_1", 1000, "succeeded");
    assert_eq!(shop.takings(), BTreeMap::new(), "parked");
    shop.pay(0, "ord_1", "1");
    let expected = BTreeMap::from([(0, [1, 2500, 0, 0]), (24, [0, 0, 1000, 0])]);
    assert_eq!(shop.takings(), expected);

    // Another is told a week late. Its failure, later still, is of the hour in which it came back.
    shop.refund(30 + 7 * 24, 30, "re_2", 500, "succeeded");
    shop.refund(900, 30, "re_2", 500, "failed");
    let expected = BTreeMap::from([
        (0, [1, 2500, 0, 0]),
        (24, [0, 0, 1000, 0]),
        (30, [0, 0, 500, 0]),
        (900, [0, 0, -500, 0]),
    ]);
    assert_eq!(shop.takings(), expected);
}

#[test]
fn a_lost_dispute_counts_when_it_was_lost_and_not_when_more_is_told_of_it() {
    let mut shop = Shop::open();
    shop.pay(0, "ord_1", "1");
    let dispute = |status| {
        json!({"id": "du_1", "status": status, "charge": "ch_1", "payment_intent": "pi_1",
            "amount": 2500, "currency": "eur"})
    };
    shop.tell(5, "charge.dispute.created", &dispute("needs_response"));
    shop.tell(50, "charge.dispute.closed", &dispute("lost"));
    shop.tell(90, "charge.dispute.updated", &dispute("lost"));
    let expected = BTreeMap::from([(0, [1, 2500, 0, 0]), (50, [0, 0, 0, 2500])]);
    assert_eq!(shop.takings(), expected);
    shop.tell(99, "charge.dispute.closed", &dispute("won"));
    assert_eq!(shop.takings(), BTreeMap::from([(0, [1, 2500, 0, 0])]));
}

#[test]
fn a_charge_alone_counts_when_it_was_made_and_one_that_waited_when_it_took_the_money() {
    let charge = |status, captured| {
        json!({"id": "ch_1", "amount": 2500, "amount_refunded": 0, "captured": captured,
            "status": status, "currency": "eur", "created": SALE, "metadata": {"order_id": "ord_1"},
            "payment_intent": "pi_1"})
    };
    let paid = |at| BTreeMap::from([(at, [1, 2500, 0, 0])]);

    let named = json!({"id": "pi_1", "amount": 2500, "currency": "eur", "latest_charge": "ch_1",
        "metadata": {"order_id": "ord_1"}});
    let session = json!({"id": "cs_1", "mode": "payment", "payment_status": "unpaid",
        "client_reference_id": "ord_1", "amount_total": 2500, "currency": "eur",
        "payment_intent": "pi_1"});
    // All that is told of a card is an update, days after it.
    let mut shop = Shop::open();
    shop.tell(0, "checkout.session.completed", &session);
    shop.tell(70, "charge.updated", &charge("succeeded", true));
    assert_eq!(shop.takings(), paid(0));
    // It had been held, and is told to have been captured.
    shop.tell(1, "charge.updated", &charge("succeeded", false));
    assert_eq!(shop.takings(), paid(70));
    shop.tell(60, "charge.captured", &charge("succeeded", true));
    assert_eq!(shop.takings(), paid(60));
    // The intent knows to the second.
    shop.tell(59, "payment_intent.succeeded", &named);
    assert_eq!(shop.takings(), paid(59));

    let mut shop = Shop::open();
    shop.tell(0, "checkout.session.completed", &session);
    shop.tell(0, "charge.pending", &charge("pending", true));
    shop.tell(80, "charge.succeeded", &charge("succeeded", true));
    assert_eq!(shop.takings(), paid(80), "a bank debit");
}

#[test]
fn an_order_is_counted_once_whatever_its_payments_and_names_are() {
    let mut shop = Shop::open();
    shop.pay(0, "ord_1", "1");
    shop.pay(30, "ord_1", "2");
    let double = BTreeMap::from([(0, [1, 2500, 0, 0]), (30, [0, 2500, 0, 0])]);
    assert_eq!(shop.takings(), double);
    // The first is given back: the order is what the second took.
    shop.refund(40, 40, "re_1", 2500, "succeeded");
    let kept = BTreeMap::from([
        (0, [0, 2500, 0, 0]),
        (30, [1, 2500, 0, 0]),
        (40, [0, 0, 2500, 0]),
    ]);
    assert_eq!(shop.takings(), kept);

    // An order that turns out to be another, and a payment that turns out to be two.
    let mut shop = Shop::open();
    let charge = json!({"id": "ch_3", "amount": 2500, "amount_refunded": 0, "captured": true,
        "status": "succeeded", "currency": "eur", "created": SALE, "metadata": {"order_id": "a"}});
    shop.tell(0, "charge.succeeded", &charge);
    let free = json!({"id": "cs_3", "mode": "payment", "payment_status": "unpaid",
        "client_reference_id": "b", "amount_total": 2500, "currency": "eur"});
    shop.tell(0, "checkout.session.completed", &free);
    let links = json!({"id": "pi_3", "amount": 2500, "currency": "eur", "latest_charge": "ch_3",
        "metadata": {}, "payment_details": {"order_reference": "cs_3"}});
    shop.tell(0, "payment_intent.succeeded", &links);
    assert_eq!(shop.takings(), BTreeMap::from([(0, [1, 2500, 0, 0])]));
    assert_eq!(shop.store.orders(None, 9).unwrap().len(), 1);
}

#[test]
fn takings_that_are_not_what_the_orders_say_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("paidup.db");
    let mut shop = Shop::open();
    shop.store = Store::open(&path).unwrap();
    shop.pay(0, "ord_1", "1");
    drop(shop);
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute("UPDATE takings SET taken = taken - 1", [])
        .unwrap();
    drop(db);
    let found = Store::open(&path).unwrap().disagreements().unwrap();
    let expected = "the takings in \"eur\" from 2026-11-24T06:00:00Z lack 0 orders, 1 taken, 0 refunded and 0 lost";
    assert_eq!(found, [expected]);
}
