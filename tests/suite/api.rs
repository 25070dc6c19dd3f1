//! `paidup api`, the real binary over real sockets, with the stand-in for Stripe behind it and
//! `paidup serve` beside it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::fake_stripe::{FakeStripe, Fault, KEY, Target};
use crate::harness::{Answer, SECRET, Service, Setup, ask, changed, connect, eventually, paid};
use paidup::base::id::{OrderId, StripeId, UnixSeconds};
use paidup::store::{Ask, Asked};
use paidup::truth::order::Status;
use serde_json::{Value, json};

const TOKEN: &str = "canary_token_of_the_tests_0123456789abcdef";

// ── The whole life ──────────────────────────────────────────────────────────────────────────────

#[test]
fn an_order_is_made_paid_and_refunded() {
    let shop = Shop::open();
    let answer = shop.post(&coffee("ord_1"));
    assert_eq!(answer.status, 201, "{answer:?}");
    let made = answer.json();
    let session = made["stripeSessionId"].as_str().unwrap();
    assert_eq!(made["orderId"], "ord_1");
    assert_eq!(made["status"], "pending");
    assert_eq!(made["checkoutUrl"], shop.stripe.object(session)["url"]);
    assert!(made["expiresAt"].as_str().unwrap().ends_with('Z'));
    let line = shop.api.line_of(answer.request_id());
    assert_eq!(
        (&line["orderId"], &line["stripeSessionId"]),
        (&json!("ord_1"), &json!(session))
    );
    assert_eq!(line["message"], "Checkout Session made");

    let pending = shop.get("/orders/ord_1").json();
    assert_eq!(
        (&pending["status"], &pending["amount"]),
        (&json!("pending"), &json!(2500))
    );
    assert_eq!(pending["history"][0]["eventType"], "paidup.asked");
    assert_eq!(pending["history"][0]["requestId"], answer.request_id());

    shop.stripe.pay(session);
    shop.deliver();
    assert_eq!(shop.get("/orders/ord_1").json()["status"], "paid");
    assert_eq!(
        shop.get(&format!("/orders/{session}")).json()["orderId"],
        "ord_1"
    );
    shop.stripe.refund(session, None);
    shop.deliver();
    let refunded = shop.get("/orders/ord_1").json();
    assert_eq!(
        (&refunded["status"], &refunded["amountRefunded"]),
        (&json!("refunded"), &json!(2500))
    );
    assert_eq!(shop.store_problems(), [""; 0]);
}

#[test]
fn what_stripe_is_asked_for_is_what_the_shop_asked_for() {
    let shop = Shop::open();
    shop.stripe.add_price("price_1", 700, "eur");
    let answer = shop.post(&json!({"orderId": "Café & thé", "metadata": {"cart": "7"},
        "lineItems": [{"price": "price_1", "quantity": 3}],
        "successUrl": "https://shop.example/?s={CHECKOUT_SESSION_ID}", "cancelUrl": "https://shop.example/cart"}));
    assert_eq!(answer.status, 201, "{answer:?}");
    let asked = shop.stripe.take_requests();
    let field = |name: &str| asked[0].field(name).unwrap().to_owned();
    for name in [
        "client_reference_id",
        "metadata[order_id]",
        "payment_intent_data[metadata][order_id]",
    ] {
        assert_eq!(field(name), "Café & thé");
    }
    assert_eq!(field("metadata[cart]"), "7");
    assert_eq!(
        field("success_url"),
        "https://shop.example/?s={CHECKOUT_SESSION_ID}"
    );
    assert_eq!(field("cancel_url"), "https://shop.example/cart");
    assert_eq!(
        shop.get("/orders/Caf%C3%A9%20%26%20th%C3%A9").json()["amount"],
        2100
    );
    // It could be a name: the log has a digest of it.
    assert!(!String::from_utf8_lossy(&shop.api.written()).contains("Caf"));
}

#[test]
fn an_order_without_an_id_gets_one_that_sorts_by_time() {
    let shop = Shop::open();
    let made: Vec<String> = (0..3)
        .map(|_| {
            let mut order = coffee("");
            order.as_object_mut().unwrap().remove("orderId");
            shop.post(&order).json()["orderId"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert!(made[0] < made[1] && made[1] < made[2], "{made:?}");
}

// ── Once ────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn the_same_request_again_has_the_same_answer_and_another_one_a_conflict() {
    let mut shop = Shop::open();
    let first = shop.post(&coffee("ord_1"));
    let again = shop.post(&coffee("ord_1"));
    assert_eq!((first.status, again.status), (201, 200));
    assert_eq!(first.json(), again.json());
    shop.restart();
    assert_eq!(
        shop.post(&coffee("ord_1")).json(),
        first.json(),
        "after a restart"
    );
    assert_eq!(shop.stripe.objects("checkout.session").len(), 1);

    let mut other = coffee("ord_1");
    other["lineItems"][0]["quantity"] = json!(3);
    let conflict = shop.post(&other);
    assert_eq!(conflict.status, 409);
    assert_eq!(
        shop.api.line_of(conflict.request_id())["errorCode"],
        "idempotency_key_reused"
    );
    let conflict = shop.post_as("another", &coffee("ord_1"));
    assert_eq!(conflict.status, 409);
    assert_eq!(
        shop.api.line_of(conflict.request_id())["errorCode"],
        "order_exists"
    );
    assert_eq!(shop.stripe.objects("checkout.session").len(), 1);
}

#[test]
fn equal_requests_at_the_same_moment_make_one_session() {
    let shop = Shop::open();
    shop.stripe
        .fault(4, Fault::Slow(Duration::from_millis(100)));
    let answers: Vec<Answer> = thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| shop.post(&coffee("ord_1"))))
            .collect();
        asking
            .into_iter()
            .map(|asking| asking.join().unwrap())
            .collect()
    });
    let sessions: Vec<Value> = answers
        .iter()
        .filter(|answer| answer.status < 300)
        .map(|answer| answer.json()["stripeSessionId"].clone())
        .collect();
    assert!(
        !sessions.is_empty() && sessions.iter().all(|one| *one == sessions[0]),
        "{answers:?}"
    );
    assert_eq!(shop.stripe.objects("checkout.session").len(), 1);
    assert_eq!(shop.post(&coffee("ord_1")).status, 200);
}

#[test]
fn killed_anywhere_and_asked_again_one_order_has_one_session() {
    const KILLS: u32 = 120;
    let mut shop = Shop::open();
    let began = Instant::now();
    assert_eq!(shop.post(&coffee("ord_warm")).status, 201);
    let whole = began.elapsed() * 2;
    let (mut before, mut without_answer) = (0, 0);
    for kill in 0..KILLS {
        let order = format!("ord_{kill}");
        let body = request("POST", "/orders", &[], &coffee(&order).to_string());
        let mut stream = connect(shop.address);
        stream.write_all(body.as_bytes()).unwrap();
        thread::sleep(whole * kill / KILLS);
        shop.api.kill();
        before += u32::from(shop.store().order(&order).unwrap().is_none());
        let known = shop.stripe.objects("checkout.session");
        let has_session = known
            .iter()
            .any(|one| one["client_reference_id"] == order.as_str());
        let mut answered = Vec::new();
        let _ = stream.read_to_end(&mut answered);
        without_answer += u32::from(has_session && answered.is_empty());
        shop.restart();
        let answer = shop.post(&coffee(&order));
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    }
    eprintln!(
        "{before} of {KILLS} before the order was stored, {without_answer} with a session and no answer"
    );
    let sessions = shop.stripe.objects("checkout.session");
    assert_eq!(sessions.len(), KILLS as usize + 1);
    assert_eq!(shop.store_problems(), [""; 0]);
}

/// The moment that chance may miss: Stripe has made the session, and its answer was lost on the way.
/// The client waits half a second before it asks again.
#[test]
fn killed_while_stripe_answers_the_session_is_found_again() {
    let mut shop = Shop::open();
    shop.stripe.fault(1, Fault::Cut);
    let mut stream = connect(shop.address);
    let body = request("POST", "/orders", &[], &coffee("ord_1").to_string());
    stream.write_all(body.as_bytes()).unwrap();
    eventually("Stripe makes the session", || {
        !shop.stripe.objects("checkout.session").is_empty()
    });
    shop.api.kill();
    assert_eq!(shop.status_of("ord_1"), Some(Status::Pending));
    shop.restart();
    let answer = shop.post(&coffee("ord_1"));
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(shop.stripe.objects("checkout.session").len(), 1);

    // Stripe's answer is lost on the way: the client asks again with the same key.
    shop.stripe.fault(1, Fault::Cut);
    assert_eq!(shop.post(&coffee("ord_2")).status, 201);
    assert_eq!(shop.stripe.objects("checkout.session").len(), 2);
}

/// Stripe keeps an idempotency key for 24 hours.
#[test]
fn a_request_that_was_never_answered_begins_anew_after_a_day_and_keeps_to_one_page() {
    let shop = Shop::open();
    let order = OrderId::parse("ord_1").unwrap();
    let ask = |key: &'static str, hours: i64| {
        let now = UnixSeconds(1_800_000_000 + hours * 3600);
        shop.store()
            .ask(&Ask {
                key,
                order: &order,
                is_named: true,
                sha256: [1; 32],
                expires_at: UnixSeconds(now.0 + 23 * 3600),
                request_id: None,
                now,
            })
            .unwrap()
    };
    let attempt = |asked: &Asked| match asked {
        Asked::New(checkout) | Asked::Known(checkout) => checkout.attempt,
        Asked::KeyReused | Asked::OrderExists => 0,
    };
    assert!(matches!(ask("A", 0), Asked::New(_)));
    assert!(
        matches!(ask("A", 22), Asked::Known(_)),
        "the same call again"
    );
    assert_eq!(attempt(&ask("B", 22)), 0, "while A may still be answered");
    let later = ask("A", 23);
    assert!(
        matches!(later, Asked::New(_)) && attempt(&later) == 2,
        "{later:?}"
    );
    // The one that is answered is the only one.
    let session = StripeId::parse("cs_test_1").unwrap();
    let expires_at = UnixSeconds(1_800_000_000 + 46 * 3600);
    let mut store = shop.store();
    store
        .answered("A", &session, "https://a", expires_at)
        .unwrap();
    let late = ask("A", 100);
    assert!(
        matches!(&late, Asked::Known(checkout) if checkout.session.is_some()),
        "{late:?}"
    );
    assert_eq!(shop.store_problems(), [""; 0]);
}

#[test]
fn an_expired_order_may_be_paid_on_a_new_page() {
    let shop = Shop::open();
    let first = shop.post(&coffee("ord_1")).json();
    shop.stripe
        .expire(first["stripeSessionId"].as_str().unwrap());
    shop.deliver();
    assert_eq!(shop.status_of("ord_1"), Some(Status::Expired));
    let second = shop.post_as("second try", &coffee("ord_1"));
    assert_eq!(second.status, 400, "a blank in a key");
    let second = shop.post_as("second-try", &coffee("ord_1"));
    assert_eq!(second.status, 201, "{second:?}");
    assert_ne!(second.json()["stripeSessionId"], first["stripeSessionId"]);
    shop.stripe
        .pay(second.json()["stripeSessionId"].as_str().unwrap());
    shop.deliver();
    assert_eq!(shop.status_of("ord_1"), Some(Status::Paid));
}

#[test]
fn an_order_whose_page_has_expired_unheard_is_free_after_a_look_at_stripe() {
    let shop = Shop::open();
    let first = shop.post(&coffee("ord_1")).json();
    shop.stripe
        .expire(first["stripeSessionId"].as_str().unwrap());
    let conflict = shop.post_as("B", &coffee("ord_1"));
    assert_eq!(conflict.status, 409);
    assert!(conflict.body.contains("?refresh=1"), "{conflict:?}");
    assert_eq!(
        shop.get("/orders/ord_1?refresh=1").json()["status"],
        "expired"
    );
    assert_eq!(shop.post_as("B", &coffee("ord_1")).status, 201);
}

// ── Whose money ─────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_order_is_paid_by_the_session_that_was_made_for_it_and_by_no_other() {
    let shop = Shop::open();
    let made = shop.post(&coffee("ord_1")).json();
    let own = made["stripeSessionId"].as_str().unwrap();
    let stranger = shop.stripe.create_session("ord_1", 100);
    shop.stripe.pay(&stranger);
    shop.deliver();
    let order = |id: &str| shop.get(&format!("/orders/{id}")).json();
    let seen = |order: &Value| {
        let field = |name: &str| order[name].clone();
        [
            field("orderId"),
            field("status"),
            field("amount"),
            field("flags"),
        ]
    };
    let expected = |id: &str, status: &str, amount: i64| {
        [
            json!(id),
            json!(status),
            json!(amount),
            json!(["name_conflict"]),
        ]
    };
    assert_eq!(seen(&order("ord_1")), expected("ord_1", "pending", 2500));
    assert_eq!(seen(&order(&stranger)), expected(&stranger, "paid", 100));
    let page =
        |session: &str| shop.serve.get(&format!("/checkout/{session}")).json()["status"].clone();
    assert_eq!(
        (page(own), page(&stranger)),
        (json!("pending"), json!("paid"))
    );

    // What it says that it is for finds it.
    let found = shop.get("/orders?reference=ord_1").json();
    assert_eq!(found["orders"][0]["orderId"], stranger.as_str());
    assert_eq!(found["orders"].as_array().unwrap().len(), 1);
    assert_eq!(found["orders"][0]["reference"], "ord_1");
    assert_eq!(
        shop.get("/orders?reference=ord").json()["orders"],
        json!([])
    );

    shop.stripe.refund(&stranger, None);
    shop.deliver();
    assert_eq!(order("ord_1")["status"], "pending");
    shop.stripe.pay(own);
    shop.deliver();
    assert_eq!(seen(&order("ord_1")), expected("ord_1", "paid", 2500));
    assert_eq!(
        (page(own), page(&stranger)),
        (json!("paid"), json!("refunded"))
    );
    assert_eq!(shop.store_problems(), [""; 0]);
}

#[test]
fn a_page_that_can_be_paid_never_comes_with_failed() {
    let shop = Shop::open();
    let first = shop.post(&coffee("ord_1")).json();
    let first = first["stripeSessionId"].as_str().unwrap();
    shop.stripe.pay_later(first);
    shop.stripe.fail_payment(first);
    shop.deliver();
    assert_eq!(shop.status_of("ord_1"), Some(Status::Failed));
    for status in [201, 200] {
        let answer = shop.post_as("B", &coffee("ord_1"));
        let second = answer.json();
        assert_eq!(
            (answer.status, &second["status"]),
            (status, &json!("pending"))
        );
        assert_ne!(second["stripeSessionId"], first);
        let page = |session: &str| shop.serve.get(&format!("/checkout/{session}")).json();
        assert_eq!(page(first)["status"], "failed");
        assert_eq!(
            page(second["stripeSessionId"].as_str().unwrap())["status"],
            "pending"
        );
    }
}

/// Every endpoint of an account gets every event of it.
#[test]
fn another_shop_of_the_account_neither_pays_nor_refunds_nor_disputes_our_order() {
    for (ours, is_reversed) in [
        ("metadata.shop=coffee", false),
        ("metadata.shop=coffee", true),
        ("CF-*", false),
        ("CF-*", true),
    ] {
        let shop = Shop::with(&[("OUR_ORDERS", ours)]);
        let made = shop.post(&coffee("1002")).json();
        let own = made["stripeSessionId"].as_str().unwrap();
        let foreign = shop.stripe.create_session("1002", 900);
        shop.stripe.pay(&foreign);
        shop.stripe.refund(&foreign, Some(300));
        shop.stripe.open_dispute(&foreign);
        let abandoned = shop.stripe.create_session("1002", 900);
        shop.stripe.expire(&abandoned);
        let mut events = shop.stripe.events();
        if is_reversed {
            events.reverse();
        }
        for event in &events {
            assert_eq!(shop.stripe.deliver(&event.id, &shop.target()).unwrap(), 200);
        }
        let order = shop.get("/orders/1002").json();
        let money =
            ["status", "amount", "amountRefunded", "amountDisputed"].map(|name| &order[name]);
        assert_eq!(
            money,
            [&json!("pending"), &json!(2500), &json!(0), &json!(0)],
            "{ours}"
        );
        assert_eq!(order["flags"], json!([]), "{ours}");
        assert_eq!(
            shop.get("/orders").json()["orders"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        // Its events are known for what they are, once its session has told whose it is.
        let (_, listed) = shop.setup.run(&["events", "list"]);
        assert!(listed.contains("other_shop"), "{listed}");
        let metrics = shop.serve.admin_get("/metrics").body;
        let count = "paidup_webhook_ignored_total{reason=\"other_shop\"} ";
        let count = metrics.lines().find_map(|line| line.strip_prefix(count));
        assert!(count.unwrap().parse::<u32>().unwrap() > 0, "{metrics}");
        let parked = metrics
            .lines()
            .find(|line| line.starts_with("paidup_parked_payments"));
        assert!(
            parked.is_some_and(|line| line.ends_with(" 0")),
            "{parked:?}"
        );

        shop.stripe.pay(own);
        shop.deliver();
        let order = shop.get("/orders/1002").json();
        assert_eq!(
            (&order["status"], &order["amount"]),
            (&json!("paid"), &json!(2500))
        );
        assert_eq!(order["flags"], json!([]), "{ours}");
        assert_eq!(shop.store_problems(), [""; 0]);
    }
}

// ── Test and live ───────────────────────────────────────────────────────────────────────────────

const LIVE_KEY: &str = "sk_live_51FakeCanaryFakeCanaryFakeCanaryFakeCanaryFakeCanary";

/// A paid session of live mode.
fn live(name: &str) -> String {
    changed(name, |event| event["livemode"] = json!(true))
}

#[test]
fn the_first_event_settles_the_mode_and_the_other_one_changes_nothing() {
    let setup = Setup::new();
    let serve = setup.start();
    serve.accepts(live("1"), "applied");
    serve.accepts(paid("2"), "ignored");
    drop(serve);
    let serve = setup.start();
    serve.accepts(paid("3"), "ignored");
    serve.accepts(live("4"), "applied");
    assert_eq!(
        (serve.status_of("ord_2"), serve.status_of("ord_3")),
        (None, None)
    );
    let (code, said) = setup.run(&["check"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the database is of live mode"), "{said}");
    assert!(
        said.contains("2 of the last 4 events were of test mode"),
        "{said}"
    );
    drop(serve);

    let test = setup.set("STRIPE_MODE", "test");
    let Err((status, said)) = test.try_to_start() else {
        panic!("it serves a file of the other mode")
    };
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("the database is of live mode"), "{said}");
    let (code, said) = test.run(&["check"]);
    assert!(
        code == 3 && said.contains("PROBLEM  mode: the database is of live"),
        "{said}"
    );
}

#[test]
fn the_configured_mode_is_settled_before_any_event() {
    let setup = Setup::new().set("STRIPE_MODE", "live");
    let serve = setup.start();
    serve.accepts(paid("1"), "ignored");
    drop(serve);
    // Without the variable it stays as it is.
    let serve = setup.set("STRIPE_MODE", "").start();
    serve.accepts(paid("2"), "ignored");
    serve.accepts(live("3"), "applied");
    assert_eq!(
        (serve.status_of("ord_1"), serve.status_of("ord_2")),
        (None, None)
    );
}

#[test]
fn a_test_event_of_ours_proves_the_way_to_a_live_shop_and_makes_no_order() {
    let setup = Setup::new();
    let serve = setup.start();
    let url = format!("http://{}/stripe/webhook", serve.edge);
    let send = || setup.run(&["send-test", "--order", "ord_t", "--url", &url]);
    let (code, said) = send();
    assert!(
        code == 0 && said.contains("applied"),
        "nothing is settled yet: {said}"
    );
    serve.accepts(live("1"), "applied");
    let (code, said) = setup.run(&["send-test", "--order", "ord_u", "--url", &url]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("ignored (mode): the shop is live"), "{said}");
    assert_eq!(serve.status_of("ord_u"), None);
}

#[test]
fn a_key_of_the_other_mode_is_refused_by_name() {
    let shop = Shop::open();
    assert_eq!(shop.post(&coffee("ord_1")).status, 201);
    shop.deliver();
    let session = shop.stripe.create_session("ord_2", 2500);
    shop.stripe.pay(&session);
    shop.deliver();
    let file = || shop.setup.run(&["orders", "list", "--json"]).1;
    let before = file();
    let asked = shop.stripe.take_requests().len();
    assert!(asked > 0);
    for words in [
        &["api"][..],
        &["reconcile"],
        &["reconcile", "--order", "ord_2"],
        &["reconcile", "--undelivered"],
    ] {
        for (mode, why) in [
            ("", "the database is of test mode"),
            ("test", "STRIPE_MODE is test"),
        ] {
            // One that is not refused would serve for ever.
            let bounded = shop.setup.again().under(&["timeout", "20"]);
            let mut command = bounded.command(words);
            command
                .env("STRIPE_SECRET_KEY", LIVE_KEY)
                .env("STRIPE_MODE", mode);
            let output = command.output().unwrap();
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert_eq!(output.status.code(), Some(78), "{words:?} {said}");
            assert!(
                said.contains("STRIPE_SECRET_KEY is a key of live mode, and "),
                "{said}"
            );
            assert!(said.contains(why), "{said}");
        }
    }
    assert_eq!(shop.stripe.requests().len(), 0, "Stripe is not even asked");
    assert_eq!(file(), before);
}

/// The file was of no mode when the process started.
#[test]
fn a_key_that_turns_out_to_be_of_the_other_mode_is_not_used_any_more() {
    let mut shop = Shop::open();
    shop.serve.accepts(live("1"), "applied");
    for refused in [
        shop.get("/orders/ord_1?refresh=1"),
        shop.post(&coffee("ord_2")),
    ] {
        assert!(matches!(refused.status, 0 | 503), "{refused:?}");
    }
    assert_eq!(shop.stripe.requests().len(), 0);
    let status = shop.api.wait();
    assert_eq!(status.code(), Some(1));
    assert!(shop.api.words().contains("the database is of live mode"));
    assert_eq!(shop.serve.status_of("ord_1"), Some(Status::Paid));
}

// ── Where the order's id stands ─────────────────────────────────────────────────────────────────

#[test]
fn the_order_id_is_looked_for_where_the_shop_says() {
    let named = |order: &str, change: &dyn Fn(&mut Value)| {
        changed(order, |event| {
            let session = &mut event["data"]["object"];
            session["client_reference_id"] = json!("customer_7");
            session["metadata"] = json!({"order_id": "by_id", "order_number": "by_number"});
            change(session);
        })
    };
    let all = |_: &mut Value| {};
    let only_reference = |session: &mut Value| session["metadata"] = json!({});
    let of_link = |session: &mut Value| session["payment_link"] = json!("plink_1");
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(&str, Change<'_>, &str); 9] = [
        ("", &all, "by_id"),
        ("", &only_reference, "customer_7"),
        ("", &of_link, "cs_test_1"),
        (
            "metadata.order_number,client_reference_id",
            &all,
            "by_number",
        ),
        (
            "metadata.order_number,client_reference_id",
            &only_reference,
            "customer_7",
        ),
        ("metadata.order_number", &only_reference, "cs_test_1"),
        ("client_reference_id,metadata.order_id", &all, "customer_7"),
        (
            "metadata.order_id,payment_link.client_reference_id",
            &of_link,
            "customer_7",
        ),
        (
            "metadata.order_id,payment_link.metadata.order_number",
            &of_link,
            "by_number",
        ),
    ];
    for (places, change, order) in cases {
        let serve = Setup::new().set("ORDER_ID_FROM", places).start();
        serve.accepts(named("1", change), "applied");
        assert_eq!(
            serve.status_of(order),
            Some(Status::Paid),
            "{places} {order}"
        );
    }
}

#[test]
fn what_a_link_says_that_it_is_for_finds_it() {
    let shop = Shop::open();
    let of_link = |name: &str| {
        changed(name, |event| {
            event["data"]["object"]["payment_link"] = json!("plink_1");
            event["data"]["object"]["client_reference_id"] = json!("tea for two");
        })
    };
    shop.serve.accepts(of_link("1"), "applied");
    let (code, said) = shop.setup.run(&["orders", "show", "tea for two"]);
    assert!(
        code == 0 && said.contains("Order cs_test_1 is paid"),
        "{said}"
    );
    shop.serve.accepts(of_link("2"), "applied");
    let (code, said) = shop.setup.run(&["orders", "show", "tea for two"]);
    assert!(
        code == 0 && said.contains("cs_test_1") && said.contains("cs_test_2"),
        "{said}"
    );
    let (code, said) = shop.setup.run(&["orders", "show", "tea for two", "--json"]);
    assert!(code == 0 && said.lines().count() == 2, "{said}");
    let found = shop.get("/orders?reference=tea%20for%20two&limit=1").json();
    assert_eq!(
        (&found["orders"][0]["orderId"], &found["hasMore"]),
        (&json!("cs_test_2"), &json!(true))
    );
    let (code, _) = shop.setup.run(&["orders", "show", "tea for three"]);
    assert_eq!(code, 1);
}

// ── Mistakes and failures ───────────────────────────────────────────────────────────────────────

#[test]
fn mistakes_are_told_with_their_paths_and_nothing_is_stored() {
    let shop = Shop::open();
    let answer =
        shop.post(&json!({"orderId": "ord_1", "lineItems": [{"name": "", "quantity": 0}]}));
    assert_eq!(answer.status, 400);
    let body = answer.json();
    assert_eq!(body["requestId"], answer.request_id());
    let fields: Vec<&str> = body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["field"].as_str().unwrap())
        .collect();
    assert_eq!(
        fields,
        [
            "lineItems[0].quantity",
            "lineItems[0].name",
            "lineItems[0].amount",
            "lineItems[0].currency"
        ]
    );
    for path in [
        "/orders?limit=0",
        "/orders?status=payed",
        "/orders?updatedSince=soon",
        "/orders?page=2",
        "/orders?cursor=-1",
    ] {
        let answer = shop.get(path);
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.json()["requestId"], answer.request_id(), "{path}");
    }
    assert_eq!(shop.status_of("ord_1"), None);
    assert_eq!(shop.get("/orders/ord_1").status, 404);
    assert_eq!(shop.get("/orders/%ff").status, 404);
    assert_eq!(shop.ask("DELETE", "/orders/ord_1", &[], "").status, 405);
    assert!(shop.stripe.requests().is_empty());
}

#[test]
fn what_stripe_refuses_is_422_and_the_key_is_free_again() {
    let shop = Shop::open();
    let unknown =
        json!({"orderId": "ord_1", "lineItems": [{"price": "price_none", "quantity": 1}]});
    let answer = shop.post(&unknown);
    assert_eq!(answer.status, 422, "{answer:?}");
    assert_eq!(answer.json()["code"], "resource_missing");
    assert_eq!(shop.status_of("ord_1"), Some(Status::Pending));
    assert_eq!(
        shop.post(&coffee("ord_1")).status,
        201,
        "mended, under the same key"
    );
    assert_eq!(shop.store_problems(), [""; 0]);

    let late = json!({"orderId": "ord_2", "lineItems": coffee("")["lineItems"], "expiresAt": 5});
    assert_eq!(shop.post(&late).status, 400);
    assert_eq!(shop.post(&coffee("ord_2")).status, 201);

    let mut nameless = unknown.clone();
    nameless.as_object_mut().unwrap().remove("orderId");
    assert_eq!(shop.post_as("C", &nameless).status, 422);
    nameless["lineItems"] = coffee("")["lineItems"].clone();
    let made = shop.post_as("C", &nameless);
    assert_eq!(made.status, 201, "mended, under the same key: {made:?}");
    assert_eq!(shop.post_as("C", &nameless).json(), made.json());
    assert_eq!(shop.store_problems(), [""; 0]);
}

#[test]
fn a_key_that_was_refused_is_not_a_way_to_a_second_session() {
    let shop = Shop::open();
    let unknown =
        json!({"orderId": "ord_1", "lineItems": [{"price": "price_none", "quantity": 1}]});
    assert_eq!(shop.post_as("A", &unknown).status, 422);
    assert_eq!(shop.post_as("B", &coffee("ord_1")).status, 201);
    let mut other = coffee("ord_1");
    other["lineItems"][0]["quantity"] = json!(3);
    for _ in 0..2 {
        let refused = shop.post_as("A", &other);
        assert_eq!(refused.status, 409, "{refused:?}");
    }
    assert_eq!(shop.stripe.objects("checkout.session").len(), 1);
}

#[test]
fn every_failure_of_stripes_is_told_and_the_order_is_made_when_it_is_over() {
    let shop = Shop::open();
    let failures = [
        (Fault::Status(401), 502, "stripe_key_refused"),
        (Fault::Status(403), 502, "stripe_permission"),
        (Fault::Status(409), 503, "stripe_conflict"),
        (Fault::Status(429), 503, "stripe_rate_limited"),
        (Fault::Status(500), 502, "stripe_failed"),
        (Fault::KeptFailure, 502, "stripe_failed"),
        (Fault::Status(503), 502, "stripe_failed"),
        (Fault::Status(424), 422, "stripe_refused"),
        (Fault::Html(502), 502, "stripe_unreadable"),
        (Fault::Text("{}".to_owned()), 502, "stripe_unreadable"),
        (
            Fault::Redirect("https://example.com/".to_owned()),
            502,
            "stripe_unreadable",
        ),
        (Fault::Drop, 502, "stripe_unreachable"),
        (Fault::Cut, 502, "stripe_unreachable"),
        (Fault::Hang, 504, "stripe_timeout"),
    ];
    for (number, (fault, status, code)) in failures.into_iter().enumerate() {
        let order = format!("ord_{number}");
        shop.stripe.fault(20, fault.clone());
        let answer = shop.post(&coffee(&order));
        assert_eq!(answer.status, status, "{fault:?} {answer:?}");
        assert_eq!(
            shop.api.line_of(answer.request_id())["errorCode"],
            code,
            "{fault:?}"
        );
        assert_eq!(shop.status_of(&order), Some(Status::Pending), "{fault:?}");
        shop.stripe.heal();
        let repaired = shop.post(&coffee(&order));
        assert!(
            matches!(repaired.status, 200 | 201),
            "{fault:?} {repaired:?}"
        );

        shop.stripe.fault(20, fault.clone());
        let stale = shop.get(&format!("/orders/{order}?refresh=1"));
        assert_eq!(
            (stale.status, &stale.json()["stale"]),
            (200, &json!(true)),
            "{fault:?}"
        );
        assert_eq!(stale.json()["status"], "pending");
        shop.stripe.heal();
    }
    let orders = shop.stripe.objects("checkout.session");
    assert_eq!(orders.len(), 14, "one session each");
    let written = String::from_utf8(shop.api.written()).unwrap();
    for secret in [KEY, TOKEN, "canary"] {
        assert!(!written.contains(secret), "{written}");
    }
}

#[test]
fn the_metrics_tell_a_made_order_from_an_outage() {
    let shop = Shop::open();
    assert_eq!(shop.post(&coffee("ord_1")).status, 201);
    let unknown = json!({"lineItems": [{"price": "price_none", "quantity": 1}]});
    assert_eq!(shop.post_as("A", &unknown).status, 422);
    for (fault, status) in [(Fault::Status(500), 502), (Fault::Hang, 504)] {
        shop.stripe.fault(20, fault);
        assert_eq!(shop.post(&coffee("ord_2")).status, status);
        shop.stripe.heal();
    }
    let stranger = "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask(shop.address, stranger).status, 401);
    // A request is counted after its answer.
    eventually("each is counted as itself", || {
        let metrics = shop.get("/metrics").body;
        [201, 401, 422, 502, 504].iter().all(|status| {
            let labels = format!(r#"{{route="/orders",method="POST",status="{status}"}}"#);
            metrics.contains(&format!("\npaidup_http_requests_total{labels} 1\n"))
        })
    });
    let metrics = shop.get("/metrics").body;
    assert!(!metrics.contains("webhook"), "those of serve: {metrics}");
    assert!(!metrics.contains(r#"status="other""#), "{metrics}");
}

#[test]
fn a_refresh_asks_stripe_when_the_webhook_is_late() {
    let shop = Shop::open();
    let made = shop.post(&coffee("ord_1")).json();
    shop.stripe.pay(made["stripeSessionId"].as_str().unwrap());
    assert_eq!(shop.get("/orders/ord_1").json()["status"], "pending");
    let fresh = shop.get("/orders/ord_1?refresh=1").json();
    assert_eq!(
        (&fresh["status"], fresh.get("stale")),
        (&json!("paid"), None)
    );
    // The events come after all, and tell nothing new.
    shop.deliver();
    assert_eq!(shop.get("/orders/ord_1").json()["status"], "paid");
}

#[test]
fn a_refresh_that_was_not_told_everything_says_so_and_keeps_what_it_was_told() {
    for (status, code) in [
        (400, "stripe_refused"),
        (401, "stripe_key_refused"),
        (403, "stripe_permission"),
        (500, "stripe_failed"),
    ] {
        let shop = Shop::open();
        let made = shop.post(&coffee("ord_1")).json();
        shop.stripe.pay(made["stripeSessionId"].as_str().unwrap());
        shop.stripe
            .fault_of("GET /v1/disputes", 9, Fault::Status(status));
        let answer = shop.get("/orders/ord_1?refresh=1");
        let order = answer.json();
        assert_eq!(
            (&order["status"], &order["stale"]),
            (&json!("paid"), &json!(true)),
            "{status}"
        );
        let lines = shop.api.lines_of(answer.request_id());
        let codes = lines.iter().map(|line| line["errorCode"].as_str());
        assert!(codes.flatten().eq([code]), "{lines:?}");
    }
}

/// All workers that may wait for Stripe do.
#[test]
fn a_stripe_that_hangs_stops_neither_webhooks_nor_reads() {
    let shop = Shop::open();
    let latency = || {
        let took: Vec<Duration> = (0..40)
            .map(|_| {
                let began = Instant::now();
                assert_eq!(shop.serve.get("/healthz").status, 200);
                let name = format!("w{}", began.elapsed().as_nanos());
                assert_eq!(shop.serve.deliver(paid(&name)).status, 200);
                began.elapsed()
            })
            .collect();
        let mut sorted = took;
        sorted.sort();
        sorted[sorted.len() / 2]
    };
    assert_eq!(shop.post(&coffee("ord_0")).status, 201);
    let before = latency();
    shop.stripe.fault(100, Fault::Hang);
    thread::scope(|scope| {
        let hung: Vec<_> = (1..=12)
            .map(|n| {
                scope.spawn({
                    let shop = &shop;
                    move || shop.post(&coffee(&format!("ord_{n}")))
                })
            })
            .collect();
        eventually("twelve calls hang", || shop.stripe.requests().len() >= 13);
        let began = Instant::now();
        let turned_away = shop.post(&coffee("ord_13"));
        assert_eq!(turned_away.status, 503, "{turned_away:?}");
        assert!(turned_away.header("retry-after").is_some());
        assert_eq!(shop.get("/orders/ord_0").status, 200);
        assert_eq!(shop.get("/orders/ord_0?refresh=1").json()["stale"], true);
        assert!(
            began.elapsed() < Duration::from_millis(1900),
            "nobody waits for Stripe"
        );
        let during = latency();
        eprintln!("a delivery took {before:?} before and {during:?} while Stripe hung");
        assert!(
            during < before * 10 + Duration::from_millis(20),
            "{before:?} {during:?}"
        );
        for hung in hung {
            assert_eq!(hung.join().unwrap().status, 504);
        }
    });
    shop.stripe.heal();
    for n in 1..=13 {
        assert_eq!(shop.post(&coffee(&format!("ord_{n}"))).status, 201);
    }
}

// ── Polling ─────────────────────────────────────────────────────────────────────────────────────

#[test]
fn polling_sees_every_change_in_a_stable_order() {
    let shop = Shop::open();
    for n in 0..7 {
        assert_eq!(shop.post(&coffee(&format!("ord_{n}"))).status, 201);
    }
    let mut seen = Vec::new();
    let mut cursor = "0".to_owned();
    let poll = |cursor: &mut String, seen: &mut Vec<String>| loop {
        let page = shop.get(&format!("/orders?limit=3&cursor={cursor}")).json();
        *cursor = page["cursor"].as_str().unwrap().to_owned();
        for order in page["orders"].as_array().unwrap() {
            seen.push(format!(
                "{} {}",
                order["orderId"].as_str().unwrap(),
                order["status"].as_str().unwrap()
            ));
        }
        if page["hasMore"] == false {
            break;
        }
    };
    poll(&mut cursor, &mut seen);
    assert_eq!(
        seen,
        (0..7)
            .map(|n| format!("ord_{n} pending"))
            .collect::<Vec<_>>()
    );
    seen.clear();
    poll(&mut cursor, &mut seen);
    assert_eq!(seen, [""; 0]);

    // A change while the pages are read comes at the end, and nothing is left out.
    let third = shop.post(&coffee("ord_3")).json();
    shop.stripe.pay(third["stripeSessionId"].as_str().unwrap());
    shop.deliver();
    shop.serve.accepts(paid("9"), "applied");
    poll(&mut cursor, &mut seen);
    assert_eq!(seen, ["ord_3 paid", "ord_9 paid"]);

    let paid = shop.get("/orders?status=paid").json();
    assert_eq!(paid["orders"].as_array().unwrap().len(), 2);
    let none = shop.get("/orders?updatedSince=2100-01-01T00:00:00Z").json();
    assert_eq!(
        (&none["orders"], &none["hasMore"]),
        (&json!([]), &json!(false))
    );
    let all = shop.get("/orders?updatedSince=5").json();
    assert_eq!(all["orders"].as_array().unwrap().len(), 8);
}

/// The shop's own copy, over a rename, a restored backup and deliveries that Stripe sends again.
#[test]
fn a_copy_of_the_orders_is_right_after_a_rename_and_a_restore() {
    let mut shop = Shop::open();
    let mut copy = Copy::default();
    let backup = shop.setup.folder().join("copy.db");
    let backup = backup.to_str().unwrap();
    shop.serve.accepts(paid("1"), "applied");
    assert_eq!(shop.setup.run(&["backup", backup]).0, 0);
    // Known by its session until its intent tells the name.
    let nameless = |event: &mut Value| event["data"]["object"]["client_reference_id"] = Value::Null;
    shop.serve.accepts(changed("2", nameless), "applied");
    copy.poll(&shop);
    assert!(copy.orders.contains_key("cs_test_2"));
    let intent = json!({"id": "evt_named", "object": "event", "type": "payment_intent.succeeded",
        "created": 1_792_999_991, "livemode": false, "data": {"object": {"id": "pi_2",
        "object": "payment_intent", "amount": 2500, "amount_received": 2500, "currency": "eur",
        "metadata": {"order_id": "ord_2"}}}});
    shop.serve.accepts(intent.to_string(), "applied");
    let page = copy.poll(&shop);
    assert_eq!(
        page["gone"],
        json!([{"orderId": "cs_test_2", "replacedBy": "ord_2"}])
    );
    assert_eq!(copy.names(), ["ord_1", "ord_2"]);

    shop.api.kill();
    shop.serve.kill();
    let (code, said) = shop.setup.run(&["restore", backup]);
    assert_eq!(code, 0, "{said}");
    shop.serve = shop.setup.start();
    shop.restart();
    let page = copy.poll(&shop);
    assert_eq!((&page["reset"], copy.resets), (&json!(true), 1));
    assert_eq!(copy.names(), ["ord_1"], "as the list has it");
    shop.serve.accepts(paid("3"), "applied");
    shop.serve.accepts(paid("2"), "applied");
    copy.poll(&shop);
    assert_eq!(
        (copy.names(), copy.resets),
        (vec!["ord_1", "ord_2", "ord_3"], 1)
    );

    let never = shop.get("/orders?cursor=9007199254740991");
    assert_eq!(never.status, 400);
    assert_eq!(never.json()["errors"][0]["field"], "cursor");
    assert!(never.body.contains("is from the future"), "{never:?}");
    assert_eq!(
        shop.api.line_of(never.request_id())["errorCode"],
        "field_invalid"
    );
}

/// What a back end keeps: README.md says how.
#[derive(Default)]
struct Copy {
    orders: BTreeMap<String, Value>,
    cursor: Option<String>,
    resets: usize,
}

impl Copy {
    /// Reads to the end, compares with `orders list`, and returns the first page.
    fn poll(&mut self, shop: &Shop) -> Value {
        let mut first = None;
        loop {
            let cursor = self.cursor.as_deref().unwrap_or("0");
            let page = shop.get(&format!("/orders?cursor={cursor}")).json();
            if page["reset"] == true {
                self.orders.clear();
                self.resets += 1;
            }
            for gone in page["gone"].as_array().unwrap() {
                self.orders.remove(gone["orderId"].as_str().unwrap());
            }
            for order in page["orders"].as_array().unwrap() {
                let name = order["orderId"].as_str().unwrap().to_owned();
                self.orders.insert(name, order.clone());
            }
            self.cursor = Some(page["cursor"].as_str().unwrap().to_owned());
            let more = page["hasMore"] == true;
            let first = first.get_or_insert(page).clone();
            if !more {
                let (code, listed) = shop.setup.run(&["orders", "list", "--json"]);
                assert_eq!(code, 0, "{listed}");
                let mut listed: Vec<Value> = listed
                    .lines()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect();
                listed.sort_by_key(|order| order["orderId"].as_str().unwrap().to_owned());
                assert_eq!(self.orders.values().cloned().collect::<Vec<_>>(), listed);
                return first;
            }
        }
    }

    fn names(&self) -> Vec<&str> {
        self.orders.keys().map(String::as_str).collect()
    }
}

// ── The door ────────────────────────────────────────────────────────────────────────────────────

#[test]
fn nothing_is_told_without_the_token() {
    let shop = Shop::open();
    assert_eq!(shop.post(&coffee("ord_1")).status, 201);
    let wrong = format!("{TOKEN}x");
    let headers = [
        String::new(),
        "Authorization: Bearer\r\n".to_owned(),
        format!("Authorization: Bearer {wrong}\r\n"),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("Authorization: {TOKEN}\r\n"),
    ];
    for header in &headers {
        let request = format!("GET /orders/ord_1 HTTP/1.1\r\nHost: localhost\r\n{header}\r\n");
        let answer = ask(shop.address, request);
        assert_eq!(answer.status, 401, "{header}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let statuses: Vec<u16> = (0..8)
        .map(|_| {
            ask(
                shop.address,
                "GET /orders HTTP/1.1\r\nHost: localhost\r\n\r\n",
            )
            .status
        })
        .collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429, 429]);
    for number in 0..8 {
        let other = format!("X-Forwarded-For: 203.0.113.{number}\r\n");
        let request = format!("GET /orders HTTP/1.1\r\nHost: localhost\r\n{other}\r\n");
        assert_eq!(ask(shop.address, request).status, 429, "{other}");
    }
    assert_eq!(
        shop.get("/orders/ord_1").status,
        200,
        "a right token is not counted"
    );
    let rebound = format!(
        "GET /orders HTTP/1.1\r\nHost: evil.example\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    assert_eq!(ask(shop.address, rebound).status, 421);
    for path in ["/healthz", "/metrics"] {
        let answer = ask(
            shop.address,
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        );
        assert_eq!(answer.status, 200);
    }
}

#[test]
fn hostile_requests_leave_it_serving() {
    let shop = Shop::open();
    let head = "POST /orders HTTP/1.1\r\nHost: localhost\r\n";
    let auth = format!("Authorization: Bearer {TOKEN}\r\n");
    for (rest, status) in [
        ("Content-Length: 100000000000000\r\n\r\nabc", 413),
        ("Content-Length: 18446744073709551615\r\n\r\n", 413),
        ("\r\n", 411),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        ("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
    ] {
        let answer = ask(shop.address, format!("{head}{auth}{rest}"));
        assert_eq!(answer.status, status, "{rest}");
    }
    let silent: Vec<TcpStream> = (0..15)
        .map(|_| {
            let mut stream = connect(shop.address);
            stream
                .write_all(format!("{head}{auth}Content-Length: 500\r\n\r\n").as_bytes())
                .unwrap();
            stream
        })
        .collect();
    assert_eq!(shop.get("/orders").status, 200);
    drop(silent);
    assert_eq!(shop.post(&coffee("ord_1")).status, 201);
}

#[test]
fn it_does_not_start_without_its_settings_and_says_all_of_them() {
    let setup = Setup::new();
    let (code, said) = setup.run(&["api"]);
    assert_eq!(code, 78);
    assert!(
        said.contains("API_TOKEN is not set") && said.contains("paidup gen-token"),
        "{said}"
    );
    assert!(said.contains("STRIPE_SECRET_KEY is not set"), "{said}");
    let (code, token) = setup.run(&["gen-token"]);
    assert_eq!((code, token.trim().len()), (0, 64));
    let open = setup
        .set("API_TOKEN", &token)
        .set("STRIPE_SECRET_KEY", KEY)
        .set("API_ADDR", "0.0.0.0:0");
    let (code, said) = open.run(&["api"]);
    assert!(
        code == 78 && said.contains("other machines can reach"),
        "{said}"
    );
    let (code, said) = open.set("API_ADDR", "127.0.0.1:0").run(&["api"]);
    assert!(code == 1 && said.contains("no database"), "{said}");
}

#[test]
fn silent_connections_do_not_hold_the_api() {
    let shop = Shop::open();
    let held: Vec<_> = (0..64).map(|_| connect(shop.address)).collect();
    let began = Instant::now();
    assert_eq!(shop.get("/orders").status, 200);
    // For each of them ten seconds, 16 at a time, are forty.
    let took = began.elapsed();
    eprintln!("behind 64 silent connections: {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop(held);
}

// ── The shop ────────────────────────────────────────────────────────────────────────────────────

struct Shop {
    stripe: FakeStripe,
    setup: Setup,
    serve: Service,
    api: Service,
    address: SocketAddr,
}

impl Shop {
    fn open() -> Shop {
        Shop::with(&[])
    }

    fn with(variables: &[(&str, &str)]) -> Shop {
        let stripe = FakeStripe::start();
        let mut setup = Setup::new()
            .set("PUBLIC_CHECKOUT_STATUS", "on")
            .set("API_ADDR", "127.0.0.1:0")
            .set("API_TOKEN", TOKEN)
            .set("STRIPE_SECRET_KEY", KEY)
            .set("STRIPE_API_BASE", &stripe.base())
            .set("STRIPE_API_TIMEOUT_SECONDS", "2")
            .set("CHECKOUT_SUCCESS_URL", "https://shop.example/thanks");
        for (name, value) in variables {
            setup = setup.set(name, value);
        }
        let serve = setup.start();
        let api = setup.start_with(&["api"]);
        let address = api.edge;
        Shop {
            stripe,
            setup,
            serve,
            api,
            address,
        }
    }

    fn restart(&mut self) {
        self.api = self.setup.start_with(&["api"]);
        self.address = self.api.edge;
    }

    fn post(&self, order: &Value) -> Answer {
        self.ask("POST", "/orders", &[], &order.to_string())
    }

    fn post_as(&self, key: &str, order: &Value) -> Answer {
        self.ask(
            "POST",
            "/orders",
            &[("Idempotency-Key", key)],
            &order.to_string(),
        )
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        ask(self.address, request(method, path, headers, body))
    }

    fn target(&self) -> Target {
        Target {
            address: self.serve.edge,
            path: "/stripe/webhook".to_owned(),
            secret: SECRET.to_owned(),
        }
    }

    fn deliver(&self) {
        let statuses = self.stripe.deliver_all(&self.target()).unwrap();
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    }

    fn store(&self) -> paidup::store::Store {
        self.setup.store()
    }

    fn status_of(&self, order: &str) -> Option<Status> {
        self.serve.status_of(order)
    }

    fn store_problems(&self) -> Vec<String> {
        [
            self.store().damage().unwrap(),
            self.store().disagreements().unwrap(),
        ]
        .concat()
    }
}

fn coffee(order: &str) -> Value {
    json!({"orderId": order,
        "lineItems": [{"name": "Coffee", "amount": 1250, "currency": "eur", "quantity": 2}]})
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
