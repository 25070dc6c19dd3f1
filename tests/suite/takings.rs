//! Which quarter of an hour money counts in: when Stripe took it, gave it back, or lost it.

use std::collections::BTreeMap;
use std::process::Command;

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
    folder: TempDir,
}

impl Shop {
    fn open() -> Shop {
        let folder = tempfile::tempdir().unwrap();
        Shop {
            store: Store::open(&folder.path().join("paidup.db")).unwrap(),
            events: 0,
            folder,
        }
    }

    /// An event made `hours` after the sale.
    fn tell(&mut self, hours: i64, kind: &str, object: &Value) {
        self.record(SALE + hours * HOUR, kind, object);
    }

    fn record(&mut self, at: i64, kind: &str, object: &Value) {
        self.events += 1;
        let event = json!({"id": format!("evt_{}", self.events), "type": kind,
            "created": at, "data": {"object": object}});
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

// ── What people are shown ───────────────────────────────────────────────────────────────────────

impl Shop {
    /// A sale of 10.00 at that time, by Stripe's clock.
    fn sell(&mut self, at: i64) {
        self.events += 1;
        let number = self.events;
        let session = json!({"id": format!("cs_{number}"), "mode": "payment", "payment_status": "paid",
            "client_reference_id": format!("ord_{number}"), "amount_total": 1000, "currency": "eur",
            "payment_intent": format!("pi_{number}")});
        self.record(at, "checkout.session.completed", &session);
    }

    /// What the program prints in that time zone.
    fn paidup(&self, zone: &str, words: &str) -> String {
        let out = Command::new(env!("CARGO_BIN_EXE_paidup"))
            .args(words.split_whitespace())
            .env_clear()
            .env("DATABASE_PATH", self.folder.path().join("paidup.db"))
            .env("TZ", zone)
            .output()
            .unwrap();
        let errors = String::from_utf8(out.stderr).unwrap();
        assert!(
            out.status.success() && errors.is_empty(),
            "{words}: {errors}"
        );
        String::from_utf8(out.stdout).unwrap()
    }

    /// Period, orders, taken, refunded, lost and kept of each row, as `--csv` has them.
    fn report(&self, zone: &str, words: &str) -> Vec<String> {
        let text = self.paidup(zone, &format!("report --csv {words}"));
        let rows = text.lines().skip(1);
        rows.map(|row| {
            let cells: Vec<&str> = row.split(',').collect();
            [&cells[0..1], &cells[3..8]].concat().join(" ")
        })
        .collect()
    }

    /// What the rows of the export add up to, by kind, in minor units.
    fn exported(&self, zone: &str, words: &str) -> BTreeMap<String, i64> {
        let text = self.paidup(zone, &format!("orders export --csv {words}"));
        let mut sums = BTreeMap::new();
        for row in text.lines().skip(1) {
            let cells: Vec<&str> = row.split(',').collect();
            *sums.entry(cells[3].to_owned()).or_default() += cells[6].parse::<i64>().unwrap();
        }
        sums
    }
}

#[test]
fn a_sale_just_before_midnight_is_of_the_right_day_month_and_year() {
    // 31 December 2026, 23:50.
    for (zone, at) in [
        ("Europe/Berlin", 1_798_757_400),
        ("Asia/Kathmandu", 1_798_740_300),
        ("America/New_York", 1_798_779_000),
    ] {
        let mut shop = Shop::open();
        shop.sell(at);
        shop.sell(at + 15 * 60);
        let [old, new] =
            ["2026-12", "2027-01"].map(|month| format!("{month} 1 10.00 0.00 0.00 10.00"));
        assert_eq!(shop.report(zone, "--by month"), [old, new], "{zone}");
        let day = ["2026-12-31 1 10.00 0.00 0.00 10.00"];
        assert_eq!(shop.report(zone, "--month 2026-12"), day, "{zone}");
        let year = shop.exported(zone, "--since 2026-01 --until 2026-12");
        assert_eq!(year["taken"], 1000, "{zone}");
        let text = shop.paidup(zone, "orders list");
        assert!(
            text.contains("2026-12-31 23:") && text.contains("2027-01-01 00:05:00"),
            "{text}"
        );
    }
}

#[test]
fn a_day_of_23_or_of_25_hours_has_them_all() {
    const HOURS: [(&str, i64, i64); 2] = [
        ("2026-03-29", 1_774_738_800, 23),
        ("2026-10-25", 1_792_879_200, 25),
    ];
    for (day, midnight, hours) in HOURS {
        let mut shop = Shop::open();
        for hour in -1..=hours {
            shop.sell(midnight + hour * HOUR);
        }
        let rows = shop.report("Europe/Berlin", &format!("--month {}", &day[..7]));
        assert_eq!(rows.len(), 3, "{rows:?}");
        let all = format!("{day} {hours} {hours}0.00 0.00 0.00 {hours}0.00");
        assert_eq!(rows[1], all);
        let sum = shop.exported("Europe/Berlin", &format!("--since {day} --until {day}"));
        assert_eq!(sum["taken"], hours * 1000);
    }
}

#[test]
fn a_month_with_late_refunds_is_the_sum_of_the_export() {
    const DAY: i64 = 24;
    let mut shop = Shop::open();
    // 24 November: a sale, of which 10.00 go back in December, 5.00 in January; and these come back.
    shop.pay(0, "ord_1", "1");
    shop.refund(20 * DAY, 20 * DAY, "re_1", 1000, "succeeded");
    shop.refund(80 * DAY, 45 * DAY, "re_2", 500, "succeeded");
    shop.refund(81 * DAY, 45 * DAY, "re_2", 500, "failed");
    // Another is lost in December, and a third is never paid.
    shop.pay(DAY, "ord_2", "2");
    let lost = json!({"id": "du_2", "status": "lost", "charge": "ch_2", "payment_intent": "pi_2",
        "amount": 2500, "currency": "eur"});
    shop.tell(21 * DAY, "charge.dispute.closed", &lost);
    let open = json!({"id": "cs_3", "mode": "payment", "payment_status": "unpaid",
        "client_reference_id": "ord_3", "amount_total": 700, "currency": "eur"});
    shop.tell(22 * DAY, "checkout.session.completed", &open);

    let months = [
        "2026-11 2 50.00 0.00 0.00 50.00",
        "2026-12 0 0.00 10.00 25.00 -35.00",
        "2027-01 0 0.00 5.00 0.00 -5.00",
        "2027-02 0 0.00 -5.00 0.00 5.00",
    ];
    assert_eq!(shop.report("Asia/Kathmandu", ""), months);
    for (month, taken, refunded, lost) in [
        ("2026-11", Some(5000), None, None),
        ("2026-12", None, Some(-1000), Some(-2500)),
        ("2027-01", None, Some(-500), None),
        ("2027-02", None, Some(500), None),
    ] {
        let sums = shop.exported(
            "Asia/Kathmandu",
            &format!("--since {month} --until {month}"),
        );
        let of = |kind: &str| sums.get(kind).copied();
        assert_eq!(
            (of("taken"), of("refunded"), of("lost")),
            (taken, refunded, lost),
            "{month}"
        );
    }
    let all = shop.exported("UTC", "");
    assert_eq!(all.values().sum::<i64>(), 1500);
    assert_eq!(all["none"], 0);
    assert_eq!(shop.exported("UTC", "--status processing").len(), 1);
}

#[test]
fn an_export_goes_on_after_each_of_its_rows_and_no_id_is_a_formula() {
    let mut shop = Shop::open();
    for (number, name) in ["ord_1", "=1+1", "a,\"b\"", "@x", "-1"].iter().enumerate() {
        shop.pay(0, name, &number.to_string());
    }
    shop.refund(30, 30, "re_1", 2500, "succeeded");
    let text = shop.paidup("UTC", "orders export");
    assert!(
        text.split("\r\n").count() == 8
            && text.contains("2026-11-24T06:00:00+00:00,'=1+1,taken,25.00,EUR,2500,refunded,"),
        "{text}"
    );
    assert!(
        text.contains(",'@x,") && text.contains(",'-1,") && text.contains(",\"a,\"\"b\"\"\","),
        "{text}"
    );
    let rows: Vec<&str> = text.split_inclusive("\r\n").collect();
    for (place, row) in rows.iter().enumerate().skip(1) {
        let cursor = row.trim_end().rsplit(',').next().unwrap();
        let rest = shop.paidup("UTC", &format!("orders export --after {cursor}"));
        let rest: Vec<&str> = rest.split_inclusive("\r\n").skip(1).collect();
        assert_eq!(rest, rows[place + 1..], "{cursor}");
    }
    // Numbers are signed, times are UTC for programs.
    let json = shop.paidup("Asia/Kathmandu", "orders export --json --name =");
    let rows: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (&rows[1]["at"], &rows[1]["amount"]),
        (&json!("2026-11-25T12:00:00Z"), &json!(-2500))
    );
}

#[test]
fn a_list_goes_on_where_it_ended_whatever_is_wanted() {
    let mut shop = Shop::open();
    // Told in another order than they were paid in.
    for number in [5, 1, 9, 3, 7, 2, 8, 4, 6, 0] {
        shop.pay(number, &format!("ord_{number}"), &number.to_string());
    }
    let refund = json!({"id": "re_5", "amount": 500, "status": "succeeded", "charge": "ch_5",
        "payment_intent": "pi_5", "created": SALE});
    shop.tell(20, "refund.created", &refund);
    let dispute = json!({"id": "du_6", "status": "needs_response", "charge": "ch_6",
        "payment_intent": "pi_6"});
    shop.tell(21, "charge.dispute.created", &dispute);
    shop.pay(22, "ord_7", "77");

    for (words, expected) in [
        ("", "9 8 7 6 5 4 3 2 1 0"),
        ("--status paid", "9 8 7 6 4 3 2 1 0"),
        ("--status partially_refunded", "5"),
        ("--flagged", "7 6"),
        ("--flagged --status refunded", ""),
        (
            "--since 2026-11-24T08:00:00Z --until 2026-11-24T11:00:00Z",
            "4 3 2",
        ),
        ("--status paid --since 2026-11-24T11:00:00Z", "9 8 7 6"),
    ] {
        let (mut found, mut place) = (Vec::new(), String::new());
        for _ in 0..20 {
            let list = shop.paidup(
                "UTC",
                format!("orders list --limit 2 {words} {place}").trim_end(),
            );
            let ids = list.lines().filter_map(|line| line.strip_prefix("ord_"));
            found.extend(ids.map(|line| line[..1].to_owned()));
            // The hint is pasted.
            let Some((_, hint)) = list.split_once("There are more: `paidup ") else {
                break;
            };
            let hint = hint.trim().trim_end_matches('`');
            place = hint[hint.find("--before").unwrap()..].to_owned();
        }
        assert_eq!(found.join(" "), expected, "{words}");
    }
    let named = shop.paidup("UTC", "orders list --name ord_3");
    assert_eq!(named.lines().count(), 2, "{named}");
    let named = shop.paidup("UTC", "orders list --name ord_ --limit 1");
    assert!(
        named.contains("\nord_0 ") && named.contains("write more of the id"),
        "{named}"
    );
    let list = shop.paidup("Asia/Kathmandu", "orders list --status partially_refunded");
    let row = "ord_5  partially_refunded  25.00 EUR, 5.00 EUR back  2026-11-24 16:45:00 +05:45";
    assert!(list.contains(row), "{list}");
}

/// However many orders there are, none of these reads or sorts them all.
#[test]
fn every_list_has_its_index() {
    let shop = Shop::open();
    let db = rusqlite::Connection::open(shop.folder.path().join("paidup.db")).unwrap();
    let plan = |sql: &str| {
        let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let rows = plan.query_map([], |row| row.get::<_, String>(3)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>().join("\n")
    };
    for (is, index) in [
        (
            "status = 'paid' AND created >= 1 AND (created, id) < (5, 1)",
            "orders_by_status",
        ),
        (
            "(flags <> '' OR dispute = 'open') AND created >= 1 AND (created, id) < (5, 1)",
            "orders_flagged",
        ),
    ] {
        let sql = format!(
            "SELECT name FROM orders INDEXED BY {index} WHERE {is} ORDER BY created DESC, id DESC LIMIT 5"
        );
        let plan = plan(&sql);
        assert!(
            plan.contains("SEARCH") && plan.contains("created<") && !plan.contains("TEMP B-TREE"),
            "{plan}"
        );
    }
}
