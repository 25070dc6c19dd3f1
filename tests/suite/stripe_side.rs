//! `paidup doctor` and `paidup reconcile`, the real binary, against the stand-in for Stripe.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use crate::fake_stripe::{FakeStripe, Fault, KEY};
use crate::hints;
use paidup::base::id::{RequestId, UnixSeconds};
use paidup::config::serve::Config;
use paidup::http::server::Stop;
use paidup::serve::process;
use paidup::store::Store;
use paidup::truth::delivery::Delivery;
use paidup::truth::event::Event;
use paidup::truth::kind::KINDS;
use paidup::truth::order::{Flag, State, Status};
use paidup::truth::reading::{Mode, Reading};
use serde_json::{Value, json};
use tempfile::TempDir;

const URL: &str = "https://shop.example.com/stripe/webhook";

// ── Reconcile ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_week_of_lost_deliveries_is_restored_and_a_second_run_changes_nothing() {
    let shop = Shop::open();
    busy_week(&shop.stripe, 1_000);
    assert!(
        shop.stripe.events().len() >= 5_000,
        "{}",
        shop.stripe.events().len()
    );

    // A run that is cut off in the middle, by a kill.
    let mut child = shop
        .command(&["reconcile", "--since", "7d"])
        .spawn()
        .unwrap();
    while shop.store().events(None, 1).unwrap().is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let part = shop.orders().len();
    assert!(
        part < live(&shop.stripe).len(),
        "the kill came too late to show anything"
    );

    let output = shop.run(&["reconcile", "--since", "7d"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(shop.orders(), live(&shop.stripe));

    let before = shop.file();
    let again = shop.run(&["reconcile", "--since", "7d"]);
    assert!(
        text(&again).contains("fetched: 0, of these that changed an order: 0."),
        "{}",
        text(&again)
    );
    assert_eq!(shop.file(), before, "a second run changes nothing");
}

#[test]
fn a_dry_run_says_what_is_missing_and_stores_nothing() {
    let shop = Shop::open();
    let session = shop.stripe.create_session("ord_1", 2500);
    shop.stripe.pay(&session);
    let output = shop.run(&["reconcile", "--dry-run", "--json"]);
    let lines: Vec<Value> = text(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let changes: Vec<&Value> = lines
        .iter()
        .filter(|line| line["outcome"] == "applied")
        .collect();
    assert!(!changes.is_empty());
    assert!(
        lines.iter().all(|line| line["stored"] == json!(false)),
        "{lines:?}"
    );
    assert_eq!(shop.orders(), BTreeMap::new());
}

#[test]
fn only_what_stripe_could_not_deliver_is_fetched_when_asked_for() {
    let shop = Shop::open();
    shop.stripe.add_endpoint(URL, &["*"]);
    let session = shop.stripe.create_session("ord_1", 100);
    shop.stripe.pay(&session);
    shop.stripe.deliver_all(&accepting()).unwrap();
    let session = shop.stripe.create_session("ord_2", 100);
    shop.stripe.pay(&session);
    shop.run(&["reconcile", "--undelivered"]);
    assert_eq!(shop.orders().keys().collect::<Vec<_>>(), ["ord_2"]);
}

#[test]
fn a_refund_that_was_never_subscribed_is_named_and_repaired() {
    let shop = Shop::open();
    let session = shop.stripe.create_session("ord_1", 2500);
    shop.stripe.pay(&session);
    let types: Vec<&str> = KINDS
        .iter()
        .map(|kind| kind.name)
        .filter(|kind| !kind.contains("refund"))
        .collect();
    shop.stripe.add_endpoint(URL, &types);
    shop.run(&["reconcile"]);
    let refund = shop.stripe.refund(&session, None);
    assert_eq!(shop.orders()["ord_1"].status, Status::Paid);

    let doctor = shop.run(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(3), "{}", text(&doctor));
    for kind in [
        "charge.refunded",
        "refund.created",
        "refund.updated",
        "refund.failed",
    ] {
        let said = text(&doctor);
        let found = said
            .lines()
            .filter(|line| line.starts_with("PROBLEM  subscription: "));
        let [one] = &found.collect::<Vec<_>>()[..] else {
            panic!("{said}");
        };
        assert!(one.contains(kind), "{one}");
    }
    assert!(text(&doctor).contains("Runbook: Refund not applied"));

    let repair = shop.run(&["reconcile", "--order", "ord_1"]);
    assert_eq!(repair.status.code(), Some(0), "{}", text(&repair));
    assert!(
        text(&repair).contains("ord_1: Order refunded"),
        "{}",
        text(&repair)
    );
    assert_eq!(shop.orders()["ord_1"].status, Status::Refunded);
    let before = shop.file();
    assert!(text(&shop.run(&["reconcile", "--order", &session])).contains("is as Stripe has it."));
    assert_eq!(shop.file(), before);

    shop.stripe.fail_refund(&refund);
    shop.run(&["reconcile", "--order", "ord_1"]);
    assert_eq!(
        shop.orders()["ord_1"].status,
        Status::Paid,
        "a failed refund does not count"
    );
}

#[test]
fn an_order_that_we_never_heard_of_is_repaired_from_its_session() {
    let shop = Shop::open();
    let session = shop.stripe.create_session("ord_1", 2500);
    shop.stripe.pay(&session);
    shop.stripe.refund(&session, Some(1000));
    let output = shop.run(&["reconcile", "--order", &session]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let state = &shop.orders()["ord_1"];
    assert_eq!(
        (state.status, state.refunded),
        (Status::PartiallyRefunded, 1000)
    );
    let unknown = shop.run(&["reconcile", "--order", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        text(&unknown).contains("Give the order's id"),
        "{}",
        text(&unknown)
    );
}

/// Session, invoice, its payment, intent, charge, refund and dispute: one leads to the other, from
/// whichever of them is known.
#[test]
fn a_subscription_is_repaired_from_any_of_its_objects() {
    let stripe = FakeStripe::start();
    let session = stripe.create_session("ord_1", 2500);
    let invoice = stripe.subscribe(&session);
    let refund = stripe.refund(&session, Some(1000));
    let dispute = stripe.open_dispute(&session);
    let of = |kind: &str| stripe.objects(kind)[0]["id"].as_str().unwrap().to_owned();
    let (intent, charge) = (of("payment_intent"), of("charge"));
    for (from, name) in [
        (&session, "ord_1"),
        (&invoice, &*invoice),
        (&intent, &*invoice),
        (&charge, &*invoice),
        (&refund, &*invoice),
        (&dispute, &*invoice),
    ] {
        let shop = Shop::of(FakeStripe::start());
        for kind in [
            "checkout.session",
            "invoice",
            "invoice_payment",
            "payment_intent",
            "charge",
            "refund",
            "dispute",
        ] {
            stripe
                .objects(kind)
                .into_iter()
                .rev()
                .for_each(|one| shop.stripe.put(one));
        }
        let output = shop.run(&["reconcile", "--order", from]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let orders = shop.orders();
        // Nothing that an invoice has leads up to its session.
        let state = &orders
            .get(name)
            .unwrap_or_else(|| panic!("{from}: {orders:?}"));
        assert_eq!(
            (state.status, state.amount),
            (Status::PartiallyRefunded, 2500),
            "{from}"
        );
        assert_eq!((state.refunded, state.disputed), (1000, 2500), "{from}");
    }
}

#[test]
fn a_dispute_a_capture_and_a_debit_in_flight_are_as_stripe_has_them() {
    let shop = Shop::open();
    let [disputed, held, debit, released] =
        ["ord_1", "ord_2", "ord_3", "ord_4"].map(|order| shop.stripe.create_session(order, 2500));
    shop.stripe.pay(&disputed);
    let dispute = shop.stripe.open_dispute(&disputed);
    shop.stripe.hold(&held);
    shop.stripe.pay_later(&debit);
    shop.stripe.hold(&released);
    shop.stripe.release(&released);
    let repair = || {
        for session in [&disputed, &held, &debit, &released] {
            let output = shop.run(&["reconcile", "--order", session]);
            assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        }
        let orders = shop.orders();
        let state = |state: &State| (state.status, state.refunded, state.lost);
        ["ord_1", "ord_2", "ord_3", "ord_4"].map(|order| state(&orders[order]))
    };
    let expected = [
        (Status::Paid, 0, 0),
        (Status::Authorized, 0, 0),
        (Status::Processing, 0, 0),
        (Status::Canceled, 0, 0),
    ];
    assert_eq!(repair(), expected);
    shop.stripe.close_dispute(&dispute, false);
    shop.stripe.capture(&held, Some(1000));
    shop.stripe.settle(&debit);
    let expected = [
        (Status::Paid, 0, 2500),
        (Status::Paid, 0, 0),
        (Status::Paid, 0, 0),
        (Status::Canceled, 0, 0),
    ];
    assert_eq!(repair(), expected);
}

/// As older integrations make them.
#[test]
fn a_charge_without_an_intent_leads_to_its_refunds_and_disputes() {
    let shop = Shop::open();
    let own = json!({"payment_intent": null, "charge": "ch_1"});
    let session = shop.stripe.create_session("ord_1", 2500);
    shop.stripe.pay(&session);
    shop.stripe.refund(&session, Some(700));
    shop.stripe.open_dispute(&session);
    for (kind, id) in [("charge", "ch_1"), ("refund", "re_1"), ("dispute", "du_1")] {
        let mut object = shop.stripe.objects(kind)[0].clone();
        for (name, value) in own.as_object().unwrap() {
            object[name] = value.clone();
        }
        object["id"] = json!(id);
        object["metadata"] = json!({"order_id": "ord_c"});
        shop.stripe.put(object);
    }
    for _ in 0..2 {
        let output = shop.run(&["reconcile", "--order", "du_1"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let state = &shop.orders()["ord_c"];
        assert_eq!(
            (state.amount, state.refunded, state.disputed),
            (2500, 700, 2500)
        );
    }
}

#[test]
fn of_an_order_with_many_payments_one_is_asked_for() {
    let shop = Shop::open();
    let sessions: Vec<String> = (0..51)
        .map(|_| {
            let session = shop.stripe.create_session("campaign", 100);
            shop.stripe.pay(&session);
            session
        })
        .collect();
    shop.run(&["reconcile"]);
    assert_eq!(shop.orders()["campaign"].amount, 5100);
    shop.stripe.take_requests();
    let by_name = shop.run(&["reconcile", "--order", "campaign"]);
    assert_eq!(by_name.status.code(), Some(1));
    assert!(
        text(&by_name).contains("more than 50 payments"),
        "{}",
        text(&by_name)
    );
    assert_eq!(shop.stripe.take_requests().len(), 0);

    shop.stripe.refund(&sessions[7], None);
    let by_session = text(&shop.run(&["reconcile", "--order", &sessions[7]]));
    assert!(by_session.contains("only that of cs_"), "{by_session}");
    assert!(!by_session.contains("as Stripe has it"), "{by_session}");
    assert!(shop.stripe.take_requests().len() < 10);
    assert_eq!(shop.orders()["campaign"].amount, 5000, "{by_session}");
}

#[test]
fn a_key_of_another_mode_than_the_database_is_a_finding() {
    let shop = Shop::open();
    shop.stripe.add_endpoint(URL, &["*"]);
    shop.store().settle_mode(Mode::Live).unwrap();
    let output = shop
        .command(&["doctor"])
        .env("STRIPE_MODE", "")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let words = "PROBLEM  mode: the key is of test mode, the database is of mode live";
    assert!(text(&output).contains(words), "{}", text(&output));
}

#[test]
fn warnings_and_reviews_are_asked_for() {
    let shop = Shop::open();
    let session = shop.stripe.create_session("ord_1", 2500);
    shop.stripe.pay(&session);
    let review = shop.stripe.open_review(&session);
    shop.stripe.warn_of_fraud(&session);
    let flags = || {
        shop.run(&["reconcile", "--order", &session]);
        shop.orders()["ord_1"].flags.clone()
    };
    assert_eq!(flags(), [Flag::FraudWarning, Flag::InReview]);
    shop.stripe.close_review(&review);
    assert_eq!(flags(), [Flag::FraudWarning]);
}

/// A key's permissions, a parameter that Stripe does not take, or a proxy that knows no such path.
fn refusals() -> [Fault; 4] {
    [
        Fault::Status(400),
        Fault::Status(403),
        Fault::Status(404),
        Fault::Html(404),
    ]
}

#[test]
fn a_list_that_stripe_refuses_is_told_and_what_was_read_is_stored() {
    for fault in refusals() {
        for (path, words) in [
            ("/v1/refunds", "Cannot list the refunds: "),
            ("/v1/disputes", "Cannot list the disputes: "),
        ] {
            let shop = Shop::open();
            let session = shop.stripe.create_session("ord_1", 2500);
            shop.stripe.pay(&session);
            shop.stripe
                .fault_of(&format!("GET {path}"), 9, fault.clone());
            let json = shop.run(&["reconcile", "--order", &session, "--dry-run", "--json"]);
            assert_eq!(json.status.code(), Some(3), "{}", text(&json));
            let told = refused(&json);
            assert_eq!(told.len(), 1, "{}", text(&json));
            assert_eq!(told[0]["severity"], "problem");
            assert!(
                told[0]["what"].as_str().unwrap().contains(words),
                "{told:?}"
            );
            assert_ne!(told[0]["next"], "");

            let output = shop.run(&["reconcile", "--order", &session]);
            let said = text(&output);
            assert_eq!(output.status.code(), Some(3), "{fault:?} {path}: {said}");
            assert!(
                said.contains(words) && said.contains("the order has changed."),
                "{said}"
            );
            assert!(
                said.contains("may still differ from what Stripe has"),
                "{said}"
            );
            assert!(!said.contains("as Stripe has it"), "{said}");
            assert_eq!(shop.orders()["ord_1"].status, Status::Paid);
        }
    }
}

#[test]
fn a_flag_that_stripe_does_not_tell_of_is_told_and_no_problem() {
    for fault in refusals() {
        for (call, flag) in [
            ("GET /v1/radar/early_fraud_warnings", "fraud_warning"),
            ("GET /v1/reviews/{id}", "in_review"),
        ] {
            let shop = Shop::open();
            let session = shop.stripe.create_session("ord_1", 2500);
            shop.stripe.pay(&session);
            shop.stripe.open_review(&session);
            shop.stripe.fault_of(call, 9, fault.clone());
            let words = format!("Only the flag {flag} may still differ");
            for more in [&[][..], &["--json"]] {
                let output = shop.run(&[&["reconcile", "--order", &session], more].concat());
                let said = text(&output);
                assert_eq!(output.status.code(), Some(0), "{fault:?} {call}: {said}");
                assert!(
                    said.contains(&words) && !said.contains("as Stripe has it"),
                    "{said}"
                );
                assert_eq!(refused(&output).len(), more.len(), "{said}");
            }
            assert_eq!(shop.orders()["ord_1"].status, Status::Paid);
        }
    }
}

/// A key that is rolled in the middle, or a proxy that forgets us.
#[test]
fn a_401_ends_it_and_what_was_read_before_is_stored() {
    let shop = Shop::open();
    let session = shop.stripe.create_session("ord_1", 2500);
    shop.stripe.pay(&session);
    shop.stripe.take_requests();
    shop.stripe
        .fault_of("GET /v1/refunds", 9, Fault::Status(401));
    let output = shop.run(&["reconcile", "--order", &session]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("PROBLEM  ended: Cannot list the refunds"),
        "{said}"
    );
    assert!(
        said.contains("may still differ") && said.contains("STRIPE_SECRET_KEY"),
        "{said}"
    );
    assert!(!said.contains("as Stripe has it"), "{said}");
    assert_eq!(shop.orders()["ord_1"].status, Status::Paid);
    let asked = shop.stripe.take_requests();
    let asked: Vec<String> = asked
        .iter()
        .map(crate::fake_stripe::Recorded::call)
        .collect();
    let read = [
        "GET /v1/checkout/sessions/{id}",
        "GET /v1/payment_intents/{id}",
        "GET /v1/charges/{id}",
        "GET /v1/refunds",
    ];
    assert_eq!(
        asked, read,
        "the objects come first, and the end is the end"
    );
    let output = shop.run(&["reconcile", "--order", &session, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains(r#""subject":"ended""#),
        "{}",
        text(&output)
    );
}

/// The lines of `--json` that tell what Stripe did not.
fn refused(output: &Output) -> Vec<Value> {
    let lines = text(output);
    let lines = lines
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines
        .filter(|line: &Value| line["subject"] == "refused")
        .collect()
}

#[test]
fn what_the_key_may_not_read_is_told_and_the_rest_is_stored() {
    for (permission, tick) in [
        ("rak_dispute_read", "tick Disputes: Read."),
        ("rak_charge_read", "tick Charges and Refunds: Read."),
    ] {
        let shop = Shop::open();
        let session = shop.stripe.create_session("ord_1", 2500);
        shop.stripe.pay(&session);
        shop.stripe.take_permission(permission);
        for words in ["the order has changed.", "nothing new in them."] {
            let output = shop.run(&["reconcile", "--order", &session]);
            assert_eq!(output.status.code(), Some(3), "{}", text(&output));
            let said = text(&output);
            assert!(said.contains(words) && said.contains(tick), "{said}");
            assert!(
                said.contains("may still differ") && !said.contains("as Stripe has it"),
                "{said}"
            );
        }
        assert_eq!(shop.orders()["ord_1"].status, Status::Paid);
    }
}

#[test]
fn a_busy_stripe_is_asked_again() {
    let shop = Shop::open();
    let session = shop.stripe.create_session("ord_1", 2500);
    shop.stripe.pay(&session);
    shop.stripe.fault(3, Fault::Status(500));
    let output = shop.run(&["reconcile"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(shop.orders()["ord_1"].status, Status::Paid);
}

#[test]
fn each_error_ends_with_its_remedy_and_without_the_key() {
    for (fault, words) in [
        (Fault::Status(401), "STRIPE_SECRET_KEY"),
        (Fault::Status(403), "rak_"),
        (Fault::Html(200), "not Stripe's JSON"),
        (
            Fault::Redirect("http://127.0.0.1:1/".to_owned()),
            "redirect",
        ),
    ] {
        let shop = Shop::open();
        shop.stripe.fault(50, fault.clone());
        for words_of in [
            &["reconcile"][..],
            &["doctor"],
            &["reconcile", "--order", "cs_test_1"],
        ] {
            let output = shop.run(words_of);
            let code = if words_of[0] == "doctor" { 3 } else { 1 };
            assert_eq!(
                output.status.code(),
                Some(code),
                "{fault:?} {}",
                text(&output)
            );
            assert!(
                text(&output).contains(words),
                "{fault:?} {words_of:?}: {}",
                text(&output)
            );
            assert!(
                !text(&output).contains("Canary"),
                "the key: {}",
                text(&output)
            );
        }
        assert_eq!(shop.orders(), BTreeMap::new());
    }
}

// ── Doctor ──────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_healthy_endpoint_has_no_problems() {
    let shop = Shop::open();
    shop.stripe.add_endpoint(URL, &["*"]);
    let output = shop.run(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    for line in text(&output).lines() {
        let finding: Value = serde_json::from_str(line).unwrap();
        assert_ne!(finding["severity"], "problem", "{finding}");
    }
    // A key that only systemd may read, and gives to the service as a credential.
    std::fs::write(shop.folder.path().join("stripe_key"), KEY).unwrap();
    let mut doctor = shop.command(&["doctor"]);
    doctor
        .env_remove("STRIPE_SECRET_KEY")
        .env("STRIPE_SECRET_KEY_FILE", "/nowhere/stripe_key");
    let without = doctor.output().unwrap();
    assert!(text(&without).contains("STRIPE_SECRET_KEY_FILE names a file that cannot be read"));
    let with = doctor.env("CREDENTIALS_DIRECTORY", shop.folder.path());
    let with = with.output().unwrap();
    assert!(with.status.success(), "{}", text(&with));
    assert!(text(&with).contains("ok       key: Stripe accepts the key"));
}

#[test]
fn what_is_wrong_with_an_endpoint_is_named() {
    for (url, fields, words) in [
        (
            "https://shop.example.com/stripe/webhook/",
            json!({}),
            "near it: https://shop.example.com/stripe/webhook/",
        ),
        (
            "https://other.example.com/stripe/webhook",
            json!({}),
            "near it: https://other.example.com",
        ),
        (URL, json!({"status": "disabled"}), "is disabled"),
        (
            URL,
            json!({"api_version": "2020-08-27"}),
            "the endpoint is 2020-08-27",
        ),
        (
            URL,
            json!({"api_version": null}),
            "the endpoint has the account's version",
        ),
        (
            URL,
            json!({"enabled_events": ["charge.refunded"]}),
            "does not have checkout.session.completed",
        ),
    ] {
        let shop = Shop::open();
        let id = shop.stripe.add_endpoint(url, &["*"]);
        shop.stripe.change(&id, fields);
        assert!(text(&shop.run(&["doctor"])).contains(words), "{words}");
    }
    let shop = Shop::open();
    shop.stripe.add_endpoint(URL, &["*"]);
    shop.stripe.add_endpoint(URL, &["*"]);
    assert!(text(&shop.run(&["doctor"])).contains("2 enabled endpoints have the URL"));
}

#[test]
fn undelivered_events_and_a_wrong_clock_are_named() {
    let shop = Shop::open();
    shop.stripe.add_endpoint(URL, &["*"]);
    shop.stripe.move_time(-10 * 60);
    let session = shop.stripe.create_session("ord_1", 2500);
    shop.stripe.pay(&session);
    shop.stripe.move_time(10 * 60);
    let session = shop.stripe.create_session("ord_2", 2500);
    shop.stripe.pay(&session);
    shop.stripe.move_date(-1000);
    let words = text(&shop.run(&["doctor"]));
    assert!(words.contains("s ahead of Stripe's"), "{words}");
    assert!(words.contains("Runbook: Webhook 400 signature"), "{words}");
    shop.stripe.move_date(1000);
    let words = text(&shop.run(&["doctor"]));
    let missing = "3 of 6 undelivered events of the last 30 days are not here";
    assert!(
        words.contains(missing),
        "what has just come is not missing: {words}"
    );
}

#[test]
fn events_that_have_just_come_are_not_missing() {
    let shop = Shop::open();
    shop.stripe.add_endpoint(URL, &["*"]);
    let session = shop.stripe.create_session("ord_1", 2500);
    shop.stripe.pay(&session);
    let output = shop.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("3 events of the last 30 days are undelivered somewhere"));
}

#[test]
fn invoice_and_capture_events_are_asked_for_where_there_are_such() {
    let usual: Vec<&str> = KINDS
        .iter()
        .map(|kind| kind.name)
        .filter(|kind| !kind.starts_with("invoice") && !kind.contains("captur"))
        .collect();
    let shop = Shop::open();
    shop.stripe.add_endpoint(URL, &usual);
    let session = shop.stripe.create_session("ord_1", 2500);
    shop.stripe.pay(&session);
    let output = shop.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));

    let session = shop.stripe.create_session("ord_2", 2500);
    shop.stripe.subscribe(&session);
    let output = shop.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    let line = "PROBLEM  subscription: the endpoint does not have invoice.paid, invoice_payment.paid, \
                invoice.payment_failed, invoice.voided, invoice.marked_uncollectible\n";
    assert!(text(&output).contains(line), "{}", text(&output));
    assert!(!text(&output).contains("charge.captured"));

    let session = shop.stripe.create_session("ord_3", 2500);
    shop.stripe.hold(&session);
    let line = ", payment_intent.amount_capturable_updated, charge.captured\n";
    assert!(text(&shop.run(&["doctor"])).contains(line));
}

#[test]
fn an_endpoint_that_is_not_in_the_list_may_be_one_of_workbench() {
    let shop = Shop::open();
    let output = shop.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output).contains("/v2/core/event_destinations"));
    // Nothing is undelivered where nothing is delivered to.
    let told = "warning  deliveries: Stripe has no endpoint";
    assert!(text(&output).contains(told), "{}", text(&output));
    assert!(!text(&output).contains("has delivered every event"));
    let event = r#"{"id":"evt_1","type":"customer.created","created":5,"livemode":false,
        "data":{"object":{"id":"cus_1"}}}"#;
    let delivery = Delivery {
        event: Event::from_json(event, &Reading::default()).unwrap(),
        sha256: [0; 32],
        request_id: RequestId::parse("request-1").ok(),
        received: UnixSeconds(5),
    };
    shop.store().record(&[delivery]).unwrap();
    let output = shop.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(
        text(&output).contains("Deliveries do come"),
        "{}",
        text(&output)
    );
}

#[test]
fn doctor_asks_a_server_whose_admin_address_is_a_unix_socket() {
    let shop = Shop::open();
    shop.stripe.add_endpoint(URL, &["*"]);
    let address = format!("unix:{}", shop.folder.path().join("admin.sock").display());
    let asked = |address: &str| {
        let mut doctor = shop.command(&["doctor"]);
        text(&doctor.env("ADMIN_ADDR", address).output().unwrap())
    };
    let nobody = format!("no server answers on ADMIN_ADDR {address}");
    assert!(asked(&address).contains(&nobody));
    let vars = [
        ("DATABASE_PATH", shop.path().to_str().unwrap()),
        ("STRIPE_WEBHOOK_SECRET", "whsec_1"),
        ("LISTEN_ADDR", "127.0.0.1:0"),
        ("ADMIN_ADDR", &address),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let no_file = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let config = Config::parse(&vars.into(), &no_file).unwrap();
    let server = process::start(&config).unwrap();
    let edge = server.edge_address().unwrap();
    let mut forgery = TcpStream::connect(edge).unwrap();
    let request = "POST /stripe/webhook HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";
    forgery.write_all(request.as_bytes()).unwrap();
    assert!(forgery.read(&mut [0; 64]).unwrap() > 0);
    let words = asked(&address);
    server.stop(&Stop::Asked);
    assert!(
        words.contains(&format!("a server answers on {address}")),
        "{words}"
    );
    let refused = "1 signature was refused since it started: Invalid signature (no header)";
    assert!(words.contains(refused), "{words}");
}

// ── The shop ────────────────────────────────────────────────────────────────────────────────────

/// A database, and an account of the stand-in.
struct Shop {
    stripe: FakeStripe,
    folder: TempDir,
}

impl Shop {
    fn open() -> Shop {
        Shop::of(FakeStripe::start())
    }

    fn of(stripe: FakeStripe) -> Shop {
        let shop = Shop {
            stripe,
            folder: tempfile::tempdir().unwrap(),
        };
        drop(Store::open(&shop.path()).unwrap());
        shop
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("paidup.db")
    }

    fn store(&self) -> Store {
        Store::open_existing(&self.path()).unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paidup"));
        command
            .args(words)
            .env_clear()
            .env("DATABASE_PATH", self.path())
            .env("STRIPE_WEBHOOK_SECRET", "whsec_1")
            .env("STRIPE_SECRET_KEY", KEY)
            .env("STRIPE_API_BASE", self.stripe.base())
            .env("STRIPE_MODE", "test")
            .env("ADMIN_ADDR", "off")
            .env("PUBLIC_URL", "https://shop.example.com")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn orders(&self) -> BTreeMap<String, State> {
        orders_of(&self.store())
    }

    /// Everything that the database holds, as text.
    fn file(&self) -> String {
        let db = rusqlite::Connection::open(self.path()).unwrap();
        let mut all = String::new();
        for table in ["event", "object", "payment", "orders", "change"] {
            let mut rows = db.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let columns = rows.column_count();
            let mut rows = rows.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                for column in 0..columns {
                    all.push_str(&format!("{:?}|", row.get_ref(column).unwrap()));
                }
                all.push('\n');
            }
        }
        all
    }
}

fn orders_of(store: &Store) -> BTreeMap<String, State> {
    let orders = store.orders(None, 100_000).unwrap();
    orders
        .into_iter()
        .map(|order| (order.name.as_str().to_owned(), order.state))
        .collect()
}

/// The orders that live deliveries of all events would have given.
fn live(stripe: &FakeStripe) -> BTreeMap<String, State> {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("live.db")).unwrap();
    let batch: Vec<Delivery> = stripe
        .events()
        .iter()
        .map(|event| Delivery {
            event: Event::from_json(&event.text, &Reading::default()).unwrap(),
            sha256: [0; 32],
            request_id: None,
            received: UnixSeconds(1),
        })
        .collect();
    for answer in store.record(&batch).unwrap() {
        answer.unwrap();
    }
    orders_of(&store)
}

/// Orders of every kind, some five events each.
fn busy_week(stripe: &FakeStripe, orders: usize) {
    for number in 0..orders {
        let session = stripe.create_session(&format!("ord_{number}"), 2500);
        match number % 5 {
            0 => {
                stripe.pay(&session);
                stripe.refund(&session, Some(1000));
            }
            1 => {
                stripe.pay(&session);
                let refund = stripe.refund_pending(&session, None);
                stripe.fail_refund(&refund);
            }
            2 => {
                stripe.pay_later(&session);
                stripe.settle(&session);
                stripe.refund(&session, None);
            }
            3 => {
                stripe.pay(&session);
                let dispute = stripe.open_dispute(&session);
                stripe.close_dispute(&dispute, number % 2 == 0);
            }
            _ => {
                stripe.pay(&session);
                let refund = stripe.refund_pending(&session, Some(500));
                stripe.complete_refund(&refund);
            }
        }
    }
}

/// A server that answers 200 to the next twenty deliveries.
fn accepting() -> crate::fake_stripe::Target {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().take(20) {
            let mut stream = stream.unwrap();
            read_request(&mut stream);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        }
    });
    let (path, secret) = ("/".to_owned(), "whsec_1".to_owned());
    crate::fake_stripe::Target {
        address,
        path,
        secret,
    }
}

fn read_request(stream: &mut TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    let both = String::from_utf8(both).unwrap();
    hints::paste(&both);
    both
}
