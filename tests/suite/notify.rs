//! `paidup notify` against a shop's receiver: the real binary over real sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use paidup::base::id::UnixSeconds;
use paidup::base::webhook_key::WebhookKey;
use paidup::host::clock::unix_millis;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::fake_stripe::{FakeStripe, KEY as KEY_OF_STRIPE, Target};
use crate::harness::receiver::{Receiver, Reply};
use crate::harness::{SECRET, Service, Setup, changed, document, eventually, get, paid, refunded};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW_KEY: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

fn setup(url: &str) -> Setup {
    Setup::new()
        .set("NOTIFY_URL", url)
        .set("NOTIFY_SECRET", KEY)
}

fn notify(setup: &Setup) -> Service {
    setup.start_with(&["notify"])
}

/// A server, a receiver that is content, and `notify`.
fn all_well() -> (Setup, Service, Receiver, Service) {
    let receiver = Receiver::start(|_| Reply::Status(200));
    let setup = setup(&receiver.url());
    let server = setup.start();
    let notify = notify(&setup);
    (setup, server, receiver, notify)
}

#[test]
fn an_order_is_told_within_two_seconds_signed_and_as_the_api_shows_it() {
    let receiver = Receiver::start(|_| Reply::Status(204));
    let setup = setup(&receiver.url())
        .set("NOTIFY_SECRET", &format!("{KEY},{NEW_KEY}"))
        .set("API_ADDR", "127.0.0.1:0")
        .set("API_TOKEN", "0123456789abcdef0123456789abcdef")
        .set("STRIPE_SECRET_KEY", "sk_test_of_nobody");
    let server = setup.start();
    let notify = notify(&setup);
    server.accepts(paid("a"), "applied");
    let began = Instant::now();
    eventually("it is told", || !receiver.shop.heard().is_empty());
    let heard = receiver.shop.heard().remove(0);
    assert!(
        heard.at - began < Duration::from_secs(2),
        "{:?}",
        heard.at - began
    );

    assert_eq!(heard.header("content-type"), "application/json");
    let (id, at) = (
        heard.header("webhook-id"),
        heard.header("webhook-timestamp"),
    );
    let at = UnixSeconds(at.parse().unwrap());
    let signatures =
        [KEY, NEW_KEY].map(|key| WebhookKey::parse(key).unwrap().sign(id, at, &heard.body));
    assert_eq!(heard.header("webhook-signature"), signatures.join(" "));

    let api = setup.start_with(&["api"]);
    let token = "Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n";
    let request = get("/orders/ord_a").replace("Connection", &format!("{token}Connection"));
    let order = api.ask(request).json();
    let body = heard.json();
    let stored = server.store().order("ord_a").unwrap().unwrap();
    assert_eq!(
        body,
        json!({"type": "order.changed", "timestamp": order["updatedAt"], "data": {
            "version": stored.changed, "livemode": false, "alsoKnownAs": ["cs_test_a"], "order": order,
        }})
    );
    // And nothing of it stands in the log but the order's id.
    let mut line = Value::Null;
    eventually("it is logged", || {
        let mut lines = notify.log().into_iter();
        line = lines
            .find(|line| line["orderId"] == "ord_a")
            .unwrap_or_default();
        !line.is_null()
    });
    assert_eq!(line["message"], "Shop told of an order");
    assert_eq!(line["status"], 204);
}

#[test]
fn the_events_of_one_payment_are_one_message_and_the_same_fact_again_is_none() {
    let (_, server, receiver, _notify) = all_well();
    for event in [
        "payment_intent.succeeded",
        "charge.succeeded",
        "checkout.session.completed.paid",
    ] {
        assert_eq!(server.deliver(document(event)).status, 200);
        thread::sleep(Duration::from_millis(100));
    }
    eventually("it is told", || !receiver.shop.heard().is_empty());
    server.accepts(document("checkout.session.completed.paid"), "duplicate");
    thread::sleep(Duration::from_secs(2));
    let heard = receiver.shop.heard();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0].status(), "paid");
}

#[test]
fn a_refund_that_fails_is_told() {
    let (_, server, receiver, _notify) = all_well();
    server.deliver(document("checkout.session.completed.paid"));
    server.deliver(document("refund.created.pending"));
    eventually("it is refunded", || {
        let heard = receiver.shop.heard();
        heard
            .last()
            .is_some_and(|heard| heard.status() == "partially_refunded")
    });
    server.deliver(document("refund.failed"));
    eventually("it is paid again", || {
        receiver.shop.heard().last().unwrap().status() == "paid"
    });
    let heard = receiver.shop.heard();
    assert!(heard[heard.len() - 2].version() < heard[heard.len() - 1].version());
}

#[test]
fn a_receiver_that_is_away_for_ten_seconds_hears_every_orders_last_state() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let setup = setup(&format!("http://{address}/paidup"));
    let server = setup.start();
    let notify = notify(&setup);
    let began = Instant::now();
    for order in 0..20 {
        server.accepts(paid(&order.to_string()), "applied");
    }
    thread::sleep(Duration::from_secs(3));
    for order in 0..10 {
        assert_eq!(server.deliver(refunded(&order.to_string())).status, 200);
    }
    let metrics = server.admin_get("/metrics").body;
    assert!(
        metrics.contains("paidup_notify_waiting_orders{destination=\"shop\"} 20\n"),
        "{metrics}"
    );
    let oldest = metrics
        .lines()
        .find(|line| line.starts_with("paidup_notify_oldest_seconds{"));
    let oldest: i64 = oldest.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!((2..60).contains(&oldest), "{metrics}");
    let (code, said) = setup.run(&["notify", "status"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("20 orders not heard") && said.contains("nobody takes the connection"),
        "{said}"
    );
    thread::sleep(Duration::from_secs(10).saturating_sub(began.elapsed()));

    let listener = TcpListener::bind(address).unwrap();
    let receiver = Receiver::on(listener, Arc::default(), |_| Reply::Status(200));
    assert_eq!(setup.run(&["notify", "retry"]).0, 0);
    let returned = Instant::now();
    eventually("all are told", || {
        receiver.shop.rows.lock().unwrap().len() == 40
    });
    assert!(
        returned.elapsed() < Duration::from_secs(5),
        "{:?}",
        returned.elapsed()
    );
    for order in 0..20 {
        let expected = if order < 10 { "refunded" } else { "paid" };
        assert_eq!(receiver.shop.row(&format!("ord_{order}")), expected);
        assert_eq!(
            receiver.shop.heard_of(&format!("ord_{order}")).len(),
            1,
            "no state of before"
        );
    }
    eventually("the metrics say so", || {
        let metrics = server.admin_get("/metrics").body;
        metrics.contains("paidup_notify_waiting_orders{destination=\"shop\"} 0\n")
            && metrics.contains("paidup_notify_oldest_seconds{destination=\"shop\"} 0\n")
    });
    let messages: BTreeSet<String> = notify
        .log()
        .iter()
        .map(|line| line["message"].to_string())
        .collect();
    for message in [
        "Shop cannot be told: paidup tries on",
        "Shop can be told again",
    ] {
        assert!(messages.contains(&format!("{message:?}")), "{messages:?}");
    }
    assert_eq!(
        setup.run(&["notify", "status"]).1,
        "shop: has heard everything\n"
    );
}

#[test]
fn killed_at_any_step_it_loses_nothing_and_repeats_under_the_same_id() {
    let receiver = Receiver::start(|_| {
        thread::sleep(Duration::from_millis(30));
        Reply::Status(200)
    });
    let setup = setup(&receiver.url());
    let mut server = setup.start();
    let mut running = notify(&setup);
    for order in 0..60 {
        server.accepts(paid(&order.to_string()), "applied");
        if order % 20 == 15 {
            server.kill();
            server = setup.start();
        }
        if order % 10 == 9 {
            // In its first second, within a message, between two writes.
            thread::sleep(Duration::from_millis(300 * (order / 10)));
            running.kill();
            running = notify(&setup);
        }
    }
    eventually("all are told", || {
        receiver.shop.rows.lock().unwrap().len() == 120
    });
    let rows = receiver.shop.rows.lock().unwrap().clone();
    for stored in server.store().orders(None, 100).unwrap() {
        let state = (stored.changed, stored.state.status.as_str().to_owned());
        assert_eq!(rows[stored.name.as_str()], state);
    }
    no_id_stands_for_two_contents(&receiver);
}

#[test]
fn one_order_that_is_always_refused_does_not_hold_up_99_others() {
    let receiver = Receiver::start(|heard| match heard.order() == "ord_3" {
        true => Reply::Status(500),
        false => Reply::Status(200),
    });
    let setup = setup(&receiver.url());
    let server = setup.start();
    let _notify = notify(&setup);
    for order in 0..100 {
        server.accepts(paid(&order.to_string()), "applied");
    }
    eventually("99 are told", || {
        receiver.shop.rows.lock().unwrap().len() == 198
    });
    eventually("it is tried again", || {
        receiver.shop.heard_of("ord_3").len() == 2
    });
    let heard = receiver.shop.heard_of("ord_3");
    let pause = heard[1].at - heard[0].at;
    // 5 s, give or take a fifth, by a clock of whole seconds.
    assert!((3..8).contains(&pause.as_secs()), "{pause:?}");
    assert_eq!(heard[0].header("webhook-id"), heard[1].header("webhook-id"));
    let (_, said) = setup.run(&["notify", "status"]);
    assert!(
        said.contains("1 order not heard") && said.contains("ord_3: status 500"),
        "{said}"
    );
    let (_, said) = setup.run(&["check"]);
    assert!(
        said.contains("warning  notify: shop: 1 order not heard"),
        "{said}"
    );
    let (_, said) = setup.run(&["orders", "show", "ord_3"]);
    assert!(
        said.contains("shop has not heard of it: status 500"),
        "{said}"
    );
    let (_, said) = setup.run(&["orders", "show", "ord_4"]);
    assert!(said.contains("shop heard of it as it stands"), "{said}");
    let (_, said) = setup.run(&["orders", "show", "ord_3", "--json"]);
    let told: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(told["told"][0]["destination"], "shop");
    assert_eq!(told["told"][0]["isCurrent"], false);
    assert_eq!(told["told"][0]["why"], "status 500");
}

#[test]
fn a_request_that_is_executed_late_does_not_win_over_a_newer_one() {
    let receiver = Receiver::start(|heard| match heard.status() == "paid" {
        true => Reply::Late(Duration::from_secs(9)),
        false => Reply::Status(200),
    });
    let setup = setup(&receiver.url()).set("NOTIFY_TIMEOUT_SECONDS", "1");
    let server = setup.start();
    let _notify = notify(&setup);
    server.accepts(paid("a"), "applied");
    eventually("the first request hangs", || {
        !receiver.shop.heard().is_empty()
    });
    server.accepts(refunded("a"), "applied");
    eventually("the newer is heard", || {
        receiver.shop.row("ord_a") == "refunded"
    });
    // Until the first one is executed.
    thread::sleep(Duration::from_secs(10));
    assert_eq!(receiver.shop.row("ord_a"), "refunded");
}

#[test]
fn an_order_that_takes_its_real_name_is_one_order_at_the_shop() {
    let (_, server, receiver, _notify) = all_well();
    server.accepts(
        changed("a", |event| {
            event["data"]["object"]["client_reference_id"] = Value::Null;
        }),
        "applied",
    );
    eventually("it is told", || receiver.shop.row("cs_test_a") == "paid");
    let mut charge: Value = serde_json::from_str(&refunded("a")).unwrap();
    charge["data"]["object"]["metadata"] = json!({"order_id": "ord_a"});
    server.accepts(charge.to_string(), "applied");
    eventually("it is told", || receiver.shop.row("ord_a") == "refunded");
    assert_eq!(receiver.shop.row("cs_test_a"), "is ord_a");
}

#[test]
fn after_an_older_backup_and_reconcile_the_shop_has_every_order_as_we_have_it() {
    the_shop_equals_us_after_a_restore(Setup::again, true);
}

#[test]
fn and_so_it_has_when_the_backup_goes_on_on_another_machine() {
    the_shop_equals_us_after_a_restore(|setup| setup.again().elsewhere(), false);
}

/// A shop's life, whose second part the backup does not have.
fn the_shop_equals_us_after_a_restore(place: impl Fn(&Setup) -> Setup, is_told_at_once: bool) {
    let mut life = Life::new();
    let stripe = Arc::clone(&life.stripe);
    let order = |name: &str| stripe.create_session(name, 2500);
    let (server, running) = life.begins();
    let ids = ["kept", "refunded", "failed", "disputed"].map(order);
    let [_, refunded, failed, disputed] = &ids;
    ids.iter().for_each(|session| stripe.pay(session));
    for name in ["named", "merged"] {
        stripe.put_event(&of_today(&changed(name, |event| {
            event["data"]["object"]["client_reference_id"] = Value::Null;
        })));
    }
    stripe.put_event(&of_today(&charge("merged", "alone", false)));
    life.delivers(&server);
    life.is_told();
    stripe.pay(&order("told_later"));
    life.delivers(&server);
    let backup = life.backup();

    stripe.refund(refunded, Some(1000));
    stripe.refund(refunded, None);
    let refund = stripe.refund_pending(failed, None);
    let dispute = stripe.open_dispute(disputed);
    stripe.pay(&order("new"));
    stripe.refund(&order_paid(&stripe, "new_and_refunded"), None);
    for name in ["named", "merged"] {
        stripe.put_event(&of_today(&charge(name, "joined", true)));
    }
    life.delivers(&server);
    life.is_told();
    for (order, status) in [
        ("refunded", "refunded"),
        ("failed", "refunded"),
        ("new_and_refunded", "refunded"),
        ("ord_named", "refunded"),
        ("cs_test_merged", "is ord_merged"),
    ] {
        assert_eq!(life.receiver.shop.row(order), status, "{order}");
    }
    ends([server, running]);
    // What nobody is there to hear.
    stripe.fail_refund(&refund);
    stripe.close_dispute(&dispute, true);
    stripe.pay(&order("missed"));
    life.delivered = stripe.events().len();

    let elsewhere = place(&life.setup);
    let _its_folder = std::mem::replace(&mut life.setup, elsewhere);
    life.succeeds(&["restore", backup.to_str().unwrap()]);
    let server = life.setup.start();
    let mut running = is_told_at_once.then(|| notify(&life.setup));
    life.succeeds(&["reconcile", "--since", "30d"]);
    running.get_or_insert_with(|| notify(&life.setup));
    stripe.refund(&order_paid(&stripe, "afterwards"), Some(1));
    life.delivers(&server);
    life.is_told();
    assert_eq!(life.the_shop_equals_us(), 11);
    assert_eq!(life.receiver.shop.row("failed"), "paid");
    assert_eq!(life.receiver.shop.row("cs_test_named"), "is ord_named");
}

#[test]
fn what_stripe_no_longer_lists_after_a_restore_is_told_once_it_is_asked_for() {
    let mut life = Life::new();
    let stripe = Arc::clone(&life.stripe);
    let (server, running) = life.begins();
    let session = order_paid(&stripe, "failed");
    life.delivers(&server);
    life.is_told();
    let backup = life.backup();
    let refund = stripe.refund_pending(&session, None);
    life.delivers(&server);
    life.is_told();
    assert_eq!(life.receiver.shop.row("failed"), "refunded");
    ends([server, running]);
    stripe.fail_refund(&refund);
    stripe.move_time(31 * 24 * 3600);
    life.succeeds(&["restore", backup.to_str().unwrap()]);
    let _running = life.begins();
    let said = life.succeeds(&["reconcile", "--since", "30d"]);
    assert!(said.starts_with("0 events read."), "{said}");
    thread::sleep(Duration::from_secs(2));
    life.is_told();
    assert_eq!(life.receiver.shop.row("failed"), "refunded");
    life.succeeds(&["reconcile", "--order", "failed"]);
    life.is_told();
    assert_eq!(life.the_shop_equals_us(), 1);
    assert_eq!(life.receiver.shop.row("failed"), "paid");
}

/// Stripe, paidup and a shop that is told.
struct Life {
    stripe: Arc<FakeStripe>,
    receiver: Receiver,
    setup: Setup,
    /// So many of Stripe's events.
    delivered: usize,
}

impl Life {
    fn new() -> Life {
        let receiver = Receiver::start(|_| Reply::Status(200));
        let stripe = Arc::new(FakeStripe::start());
        let setup = setup(&receiver.url())
            .set("STRIPE_SECRET_KEY", KEY_OF_STRIPE)
            .set("STRIPE_API_BASE", &stripe.base());
        Life {
            stripe,
            receiver,
            setup,
            delivered: 0,
        }
    }

    fn begins(&self) -> (Service, Service) {
        (self.setup.start(), notify(&self.setup))
    }

    fn succeeds(&self, words: &[&str]) -> String {
        let (code, said) = self.setup.run(words);
        assert_eq!(code, 0, "{said}");
        said
    }

    fn backup(&self) -> PathBuf {
        let backup = self.setup.folder().join("backup.db");
        self.succeeds(&["backup", backup.to_str().unwrap()]);
        backup
    }

    /// What is new at Stripe.
    fn delivers(&mut self, server: &Service) {
        let target = Target {
            address: server.edge,
            path: "/stripe/webhook".to_owned(),
            secret: SECRET.to_owned(),
        };
        for event in self.stripe.events().iter().skip(self.delivered) {
            assert_eq!(self.stripe.deliver(&event.id, &target).unwrap(), 200);
            self.delivered += 1;
        }
    }

    fn is_told(&self) {
        let all = "shop: has heard everything\n";
        let status = || self.setup.run(&["notify", "status"]).1;
        eventually("all is told", || status() == all);
    }

    /// Order by order, as JSON. How many there are.
    fn the_shop_equals_us(&self) -> usize {
        let (theirs, ours) = (orders_at(&self.receiver), our_orders(&self.setup));
        assert!(theirs.keys().eq(ours.keys()), "{:?}", theirs.keys());
        for (name, order) in &ours {
            assert_eq!(theirs[name], *order);
        }
        no_id_stands_for_two_contents(&self.receiver);
        ours.len()
    }
}

fn ends(processes: [Service; 2]) {
    for mut process in processes {
        process.signal(Signal::TERM);
        assert!(process.wait().success());
    }
}

fn order_paid(stripe: &FakeStripe, name: &str) -> String {
    let session = stripe.create_session(name, 900);
    stripe.pay(&session);
    session
}

/// A refunded charge that names its order, with its payment or without.
fn charge(name: &str, id: &str, has_intent: bool) -> String {
    let mut charge: Value = serde_json::from_str(&refunded(name)).unwrap();
    charge["id"] = json!(format!("evt_{name}_{id}"));
    charge["data"]["object"]["metadata"] = json!({"order_id": format!("ord_{name}")});
    if !has_intent {
        charge["data"]["object"]["payment_intent"] = Value::Null;
    }
    charge.to_string()
}

/// An event that Stripe still lists.
fn of_today(event: &str) -> String {
    let mut event: Value = serde_json::from_str(event).unwrap();
    event["created"] = json!(unix_millis().div_euclid(1000));
    event.to_string()
}

/// What a shop has that stores as the README says: each order's JSON.
fn orders_at(receiver: &Receiver) -> BTreeMap<String, Value> {
    let mut rows: BTreeMap<String, (i64, Option<Value>)> = BTreeMap::new();
    for heard in receiver.shop.heard() {
        let (version, data) = (heard.version(), &heard.json()["data"]);
        let mut upsert = |name: &Value, order: Option<Value>| {
            let row = rows.entry(name.as_str().unwrap().to_owned()).or_default();
            if row.0 < version {
                *row = (version, order);
            }
        };
        for name in data["alsoKnownAs"].as_array().unwrap() {
            upsert(name, None);
        }
        upsert(&data["order"]["orderId"], Some(data["order"].clone()));
    }
    let orders = rows.into_iter();
    orders
        .filter_map(|(name, (_, order))| Some((name, order?)))
        .collect()
}

/// All orders as `GET /orders/ID` has them.
fn our_orders(setup: &Setup) -> BTreeMap<String, Value> {
    let json = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let (_, listed) = setup.run(&["orders", "list", "--json"]);
    let of = |line: &str| {
        let name = json(line)["orderId"].as_str().unwrap().to_owned();
        let mut order = json(&setup.run(&["orders", "show", &name, "--json"]).1);
        order.as_object_mut().unwrap().remove("told");
        (name, order)
    };
    listed.lines().map(of).collect()
}

fn no_id_stands_for_two_contents(receiver: &Receiver) {
    let (mut by_id, mut by_version) = (BTreeMap::new(), BTreeMap::new());
    for heard in receiver.shop.heard() {
        let id = heard.header("webhook-id").to_owned();
        let version = (heard.order(), heard.version());
        for known in [
            by_id.entry(id).or_insert_with(|| heard.body.clone()),
            by_version
                .entry(version)
                .or_insert_with(|| heard.body.clone()),
        ] {
            assert_eq!(*known, heard.body);
        }
    }
}

#[test]
fn a_hostile_receiver_costs_little_and_leads_nowhere() {
    let gibibyte = b"HTTP/1.1 200 X\r\nContent-Length: 1073741824\r\n\r\n".to_vec();
    let chunked = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let mut chunk = b"10000\r\n".to_vec();
    chunk.extend(vec![b'x'; 0x10000]);
    chunk.extend(b"\r\n");
    let none = Duration::ZERO;
    let slow = Duration::from_secs(1);
    // What it does, whether that counts as heard, and what the log says otherwise.
    let cases = [
        (Reply::Endless(gibibyte, vec![b'x'; 65536], none), ""),
        (Reply::Endless(chunked.clone(), chunk, none), ""),
        (Reply::Endless(chunked, b"1\r\nx\r\n".to_vec(), slow), ""),
        (
            Reply::Endless(b"HTTP/1.1 200 X\r\nx: ".to_vec(), b"x".to_vec(), slow),
            "notify_timeout",
        ),
        (
            Reply::Endless(b"HTTP/1.1 200 X\r\nx: ".to_vec(), vec![b'x'; 65536], none),
            "notify_unreachable",
        ),
        (Reply::Status(302), "notify_refused"),
        (Reply::Status(307), "notify_refused"),
        (
            Reply::Bytes(b"SSH-2.0-x\r\n".to_vec()),
            "notify_unreachable",
        ),
    ];
    for (reply, error) in cases {
        let receiver = Receiver::start(move |_| reply.clone());
        let setup = setup(&receiver.url()).set("NOTIFY_TIMEOUT_SECONDS", "2");
        let server = setup.start();
        let notify = notify(&setup);
        let before = notify.resources().resident_kib;
        server.accepts(paid("a"), "applied");
        let mut line = Value::Null;
        eventually("it says what came of it", || {
            line = notify
                .log()
                .into_iter()
                .find(|line| line["orderId"] == "ord_a")
                .unwrap_or_default();
            !line.is_null()
        });
        assert_eq!(
            line["errorCode"].as_str().unwrap_or_default(),
            error,
            "{line}"
        );
        thread::sleep(Duration::from_millis(500));
        assert_eq!(
            receiver.shop.connections.load(SeqCst),
            1,
            "no second request"
        );
        let written = receiver.shop.bytes_written.load(SeqCst);
        assert!(written < 64 << 20, "{written} bytes were taken");
        assert!(notify.resources().resident_kib < before + 4096);
    }
}

#[test]
fn a_certificate_that_proves_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = (folder.path().join("key"), folder.path().join("certificate"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=other.example",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut tls = Command::new("openssl")
        .args([
            "s_server",
            "-quiet",
            "-accept",
            &format!("127.0.0.1:{port}"),
            "-key",
        ])
        .arg(&key)
        .arg("-cert")
        .arg(&certificate)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("openssl listens", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let plain = Receiver::start(|_| Reply::Status(200));
    for (port, name) in [(port, "another host's"), (plain.address.port(), "none")] {
        let setup = setup(&format!("https://127.0.0.1:{port}/paidup"));
        let (code, said) = setup.run(&["notify", "test"]);
        assert_eq!(code, 1, "{name}: {said}");
        assert!(
            said.contains("did not take a signed message"),
            "{name}: {said}"
        );
    }
    assert!(plain.shop.heard().is_empty());
    tls.kill().unwrap();
    tls.wait().unwrap();
}

#[test]
fn a_stop_waits_for_the_message_under_way_and_it_is_not_told_again() {
    let receiver = Receiver::start(|_| {
        thread::sleep(Duration::from_secs(1));
        Reply::Status(200)
    });
    let setup = setup(&receiver.url());
    let server = setup.start();
    let mut running = notify(&setup);
    server.accepts(paid("a"), "applied");
    eventually("the message is under way", || {
        receiver.shop.connections.load(SeqCst) == 1
    });
    running.signal(Signal::TERM);
    assert!(running.wait().success());
    assert_eq!(receiver.shop.heard().len(), 1);
    let _again = notify(&setup);
    thread::sleep(Duration::from_secs(2));
    assert_eq!(receiver.shop.heard().len(), 1);
}

#[test]
fn a_name_is_told_by_one_process_and_another_name_by_another() {
    let (setup, server, receiver, _notify) = all_well();
    let (code, said) = setup.run(&["notify"]);
    assert_eq!(code, 1);
    assert!(said.contains("its own NOTIFY_NAME"), "{said}");
    let phone = Receiver::start(|_| Reply::Status(200));
    let other = setup
        .again()
        .set("NOTIFY_NAME", "phone")
        .set("NOTIFY_URL", &phone.url());
    let _phone = notify(&other);
    server.accepts(paid("a"), "applied");
    eventually("both are told", || {
        receiver.shop.row("ord_a") == "paid" && phone.shop.row("ord_a") == "paid"
    });
    let ids = [&receiver, &phone]
        .map(|receiver| receiver.shop.heard()[0].header("webhook-id").to_owned());
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_destination_that_is_no_longer_wanted_is_forgotten_once_its_process_has_ended() {
    let (setup, server, receiver, _notify) = all_well();
    let other = setup
        .again()
        .set("NOTIFY_NAME", "phone")
        .set("NOTIFY_URL", "http://127.0.0.1:9/");
    let mut phone = notify(&other);
    server.accepts(paid("a"), "applied");
    let status = || setup.run(&["notify", "status"]).1;
    eventually("one has heard, the other has not", || {
        status().contains("; failing since") && receiver.shop.row("ord_a") == "paid"
    });
    let forget = ["notify", "forget", "phone"];
    let (code, said) = setup.run(&forget);
    assert!(code == 1 && said.contains("is being told now"), "{said}");
    phone.signal(Signal::TERM);
    assert!(phone.wait().success());
    assert!(status().contains("phone: 1 order not heard"));
    assert!(setup.run(&["check"]).1.contains("notify forget phone"));
    let waiting = || server.admin_get("/metrics").body.contains(r#"="phone"}"#);
    assert!(waiting());
    let (code, said) = setup.run(&forget);
    assert_eq!(code, 0, "{said}");
    eventually("the metrics name it no more", || !waiting());
    assert_eq!(status(), "shop: has heard everything\n");
    assert_eq!(setup.run(&forget).0, 1, "it is unknown by now");
    assert_eq!(setup.run(&forget[..2]).0, 2);
    // Under its name, another one begins with what changes from then on.
    let receiver = Receiver::start(|_| Reply::Status(200));
    let other = other.again().set("NOTIFY_URL", &receiver.url());
    let _phone = notify(&other);
    server.accepts(paid("b"), "applied");
    eventually("it is told", || receiver.shop.row("ord_b") == "paid");
    assert_eq!(receiver.shop.row("ord_a"), "");
}

#[test]
fn what_was_before_the_first_start_is_told_when_somebody_asks() {
    let receiver = Receiver::start(|_| Reply::Status(200));
    let setup = setup(&receiver.url());
    let server = setup.start();
    server.accepts(paid("old"), "applied");
    let (code, said) = setup.run(&["notify", "replay", "--all"]);
    assert!(
        code == 1 && said.contains("There is no destination \"shop\" yet"),
        "{said}"
    );
    let _notify = notify(&setup);
    server.accepts(paid("new"), "applied");
    eventually("the new one is told", || {
        receiver.shop.row("ord_new") == "paid"
    });
    assert_eq!(receiver.shop.row("ord_old"), "");
    for (words, count) in [
        (["--order", "ord_old"].as_slice(), 2),
        (&["--order", "cs_test_new"], 3),
        (&["--since", "1h"], 5),
        (&["--all"], 7),
    ] {
        let words = [&["notify", "replay"], words].concat();
        let (code, said) = setup.run(&words);
        assert_eq!(code, 0, "{said}");
        eventually("it is told again", || receiver.shop.heard().len() == count);
    }
    let ids: BTreeSet<_> = receiver
        .shop
        .heard()
        .iter()
        .map(|heard| heard.header("webhook-id").to_owned())
        .collect();
    assert_eq!(ids.len(), 2, "the same state has the same id");
    assert_eq!(setup.run(&["notify", "replay"]).0, 2);
    assert_eq!(
        setup.run(&["notify", "replay", "--all", "--order", "x"]).0,
        2
    );
    assert_eq!(setup.run(&["notify", "replay", "--order", "nobody"]).0, 1);
}

#[test]
fn a_test_message_is_signed_and_about_no_order() {
    let receiver = Receiver::start(|_| Reply::Status(204));
    let setup = setup(&receiver.url());
    let (code, said) = setup.run(&["notify", "test"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("took a signed message: 204"), "{said}");
    let heard = receiver.shop.heard().remove(0);
    assert_eq!(
        (&heard.json()["type"], &heard.json()["data"]),
        (&json!("paidup.test"), &json!({}))
    );
    let (code, said) = setup
        .again()
        .set("NOTIFY_SECRET", "whsec_the_secret_of_the_tests")
        .run(&["notify", "test"]);
    assert_eq!(code, 78, "{said}");
    let (code, secret) = setup.run(&["gen-secret"]);
    assert!(code == 0 && WebhookKey::parse(secret.trim()).is_ok());
}

#[test]
fn orders_are_followed_with_a_cursor_in_each_line() {
    let setup = Setup::new();
    let mut server = setup.start();
    server.accepts(paid("old"), "applied");
    let follow = |words: &[&str]| {
        let words = [&["orders", "follow"], words].concat();
        let mut child = setup.command(&words).spawn().unwrap();
        let lines = Arc::new(Mutex::new(String::new()));
        let (kept, mut pipe) = (Arc::clone(&lines), child.stdout.take().unwrap());
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = pipe.read(&mut buffer) {
                kept.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&buffer[..read]));
                if kept.lock().unwrap().contains("ord_last") {
                    return; // And the pipe is closed.
                }
            }
        });
        (child, lines, reader)
    };
    let (mut text, said, _) = follow(&[]);
    let (mut json, lines, _) = follow(&["--json", "--cursor", "0"]);
    eventually("the old one is shown", || {
        lines.lock().unwrap().lines().count() == 1
    });
    thread::sleep(Duration::from_millis(500));
    server.accepts(paid("a"), "applied");
    eventually("it is shown", || {
        said.lock()
            .unwrap()
            .contains("paid                ord_a  25.00 EUR\n")
    });
    server.kill();
    let server = setup.start();
    server.accepts(refunded("a"), "applied");
    eventually("it is shown", || said.lock().unwrap().contains("refunded"));
    assert!(!said.lock().unwrap().contains("ord_old"), "it begins now");
    eventually("three lines", || lines.lock().unwrap().lines().count() == 3);
    let all: Vec<Value> = lines
        .lock()
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(all[2]["order"]["status"], "refunded");
    let cursor = all[1]["cursor"].as_str().unwrap();
    let (mut rest, after, _) = follow(&["--json", "--cursor", cursor]);
    eventually("only what follows", || {
        after.lock().unwrap().lines().count() == 1
    });
    assert_eq!(
        after.lock().unwrap().trim(),
        lines.lock().unwrap().lines().last().unwrap()
    );
    server.accepts(paid("last"), "applied");
    for child in [&mut text, &mut json, &mut rest] {
        let mut code = None;
        eventually("it ends with its reader", || {
            code = child.try_wait().unwrap();
            code.is_some()
        });
        assert_eq!(code.unwrap().code(), Some(0));
    }
}
