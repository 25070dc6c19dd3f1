//! Every delivery gets the answer, the line in the log and the order that it deserves.

use std::collections::BTreeMap;

use paidup::truth::order::Status;
use serde_json::json;

use crate::harness::{SECRET, Service, Setup, changed, document, event, paid, post, sign};

/// Every document, in an order in which Stripe might send them, and what each comes to.
const DOCUMENTS: [(&str, &str); 29] = [
    ("checkout.session.completed.paid", "applied"),
    ("payment_intent.succeeded", "applied"),
    ("charge.succeeded", "applied"),
    ("refund.created.partial", "applied"),
    ("charge.refunded.partial", "applied"),
    ("refund.created.pending", "applied"),
    ("charge.refunded.full", "applied"),
    ("refund.updated.succeeded", "applied"),
    ("refund.failed", "applied"),
    ("charge.refund.updated.failed", "duplicate"),
    ("checkout.session.completed.unpaid", "applied"),
    ("checkout.session.async_payment_succeeded", "applied"),
    ("checkout.session.async_payment_failed", "applied"),
    ("checkout.session.completed.no_payment_required", "applied"),
    ("checkout.session.expired", "applied"),
    ("payment_intent.payment_failed", "applied"),
    ("payment_intent.canceled", "applied"),
    ("charge.dispute.created", "parked"),
    ("charge.dispute.funds_withdrawn", "duplicate"),
    ("charge.dispute.closed.won", "parked"),
    ("charge.dispute.funds_reinstated", "duplicate"),
    ("charge.dispute.closed.lost", "parked"),
    ("old.2020-08-27.checkout.session.completed", "applied"),
    ("old.2020-08-27.charge.refunded", "applied"),
    ("unmatched.charge.refunded.cli_trigger", "parked"),
    (
        "unmatched.checkout.session.completed.cli_trigger",
        "applied",
    ),
    ("ignored.customer.created", "ignored"),
    ("thin.v2.core.event_destination.ping", "ignored"),
    ("not_a_stripe_type.payment_intent.refunded", "applied"),
];

/// The orders after all of them: status, amount and what of it was refunded.
const ORDERS: [(&str, Status, i64, i64); 8] = [
    // 15.00 of the refunds failed, after the runbook's event said that all was refunded.
    ("ord_1001", Status::PartiallyRefunded, 2500, 1000),
    ("ord_1002", Status::Paid, 4990, 0),
    ("ord_1003", Status::Failed, 4990, 0),
    ("ord_1004", Status::Paid, 0, 0),
    ("ord_1005", Status::Expired, 1200, 0),
    ("ord_1006", Status::Canceled, 3300, 0),
    ("ord_0901", Status::Refunded, 1500, 1500),
    (
        "cs_test_a1Ii0Mc7S28nLv9FLVdydH6HfMaEaEyblGZVVdOAm0Led9Jrigr9Sc4oCh2I",
        Status::Paid,
        3000,
        0,
    ),
];

#[test]
fn every_document_has_its_status_its_outcome_and_its_order() {
    let service = Setup::new().start();
    let mut answers = BTreeMap::new();
    for (name, outcome) in DOCUMENTS {
        let answer = service.accepts(document(name), outcome);
        let line = service.line_of(answer.request_id());
        assert_eq!(
            (&line["status"], &line["errorCode"]),
            (&json!(200), &json!(null))
        );
        answers.insert(name, answer);
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/events");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), answers.len());

    let store = service.store();
    for (name, status, amount, refunded) in ORDERS {
        let state = store.order(name).unwrap().unwrap().state;
        let found = (state.status, state.amount, state.refunded);
        assert_eq!(found, (status, amount, refunded), "{name}");
    }
    assert_eq!(store.orders(None, 100).unwrap().len(), ORDERS.len());
    for (name, outcome) in DOCUMENTS {
        let id: serde_json::Value = serde_json::from_str(&document(name)).unwrap();
        let stored = store.event(id["id"].as_str().unwrap()).unwrap().unwrap();
        assert_eq!(stored.outcome, outcome, "{name}");
        assert_eq!(
            stored.request_id.as_deref(),
            Some(answers[name].request_id())
        );
    }
}

#[test]
fn a_delivery_that_comes_again_is_a_duplicate_and_changes_nothing() {
    let service = Setup::new().start();
    for (name, _) in DOCUMENTS {
        service.deliver(document(name));
    }
    let before = service.store().orders(None, 100).unwrap();
    for (name, outcome) in DOCUMENTS {
        let again = service.deliver(document(name));
        let due = if outcome == "ignored" {
            "ignored"
        } else {
            "duplicate"
        };
        assert_eq!(again.status, 200);
        assert!(
            [due, "duplicate"].contains(&again.json()["outcome"].as_str().unwrap()),
            "{name}"
        );
    }
    assert_eq!(service.store().orders(None, 100).unwrap(), before);
}

#[test]
fn each_bad_signature_is_a_400_that_says_which() {
    let service = Setup::new().start();
    let body = paid("1");
    let good = sign(SECRET, body.as_bytes(), 0);
    let twice = format!("{good},{good}");
    let v0 = good.replace("v1=", "v0=");
    let other = sign("whsec_another", body.as_bytes(), 0);
    let of_another_body = sign(SECRET, b"{}", 0);
    let stale = sign(SECRET, body.as_bytes(), 302);
    for (header, code) in [
        (None, "Invalid signature (no header)"),
        (Some(""), "Invalid signature (malformed header)"),
        (Some("t=1,v1=abc"), "Invalid signature (malformed header)"),
        (Some(v0.as_str()), "Invalid signature (malformed header)"),
        (Some(&twice), "Invalid signature (malformed header)"),
        (Some(&other), "Invalid signature (no match)"),
        (Some(&of_another_body), "Invalid signature (no match)"),
        (Some(&stale), "Invalid signature (too old)"),
    ] {
        let header = header.map(|header| ("Stripe-Signature", header));
        let answer = service.post(header.as_slice(), &body);
        let id = answer.request_id();
        assert_eq!(answer.status, 400, "{code}");
        assert_eq!(
            answer.json(),
            json!({"error": "Invalid signature", "errorCode": code, "requestId": id})
        );
        let line = service.line_of(id);
        assert_eq!(
            line["message"],
            "Stripe webhook signature verification failed"
        );
        assert_eq!(line["errorCode"], code);
        assert_eq!(
            (&line["level"], &line["status"]),
            (&json!("warn"), &json!(400))
        );
        assert_eq!(service.lines_of(id).len(), 1);
    }
    assert_eq!(service.status_of("ord_1"), None, "nothing was stored");
}

#[test]
fn a_body_that_is_signed_but_no_event_is_a_400() {
    let service = Setup::new().start();
    let event = paid("1");
    let with_bom = format!("\u{feff}{event}");
    let deep = "[".repeat(20_000);
    for (body, code) in [
        (&b""[..], "event_not_json"),
        (b"hello", "event_not_json"),
        (with_bom.as_bytes(), "event_not_json"),
        (b"{\"id\":\"evt_\xff\"}", "event_not_json"),
        (deep.as_bytes(), "event_not_json"),
        (&event.as_bytes()[..event.len() - 1], "event_not_json"),
        (b"[]", "event_unusable"),
        (b"{}", "event_unusable"),
        (br#"{"id":7,"type":"charge.refunded"}"#, "event_unusable"),
        (
            br#"{"id":"evt_1","type":"charge.refunded","data":{}}"#,
            "event_unusable",
        ),
    ] {
        let answer = service.deliver(body);
        let shown = String::from_utf8_lossy(body);
        let shown = shown.get(..40).unwrap_or(&shown);
        assert_eq!(answer.status, 400, "{shown}");
        let id = answer.request_id();
        assert_eq!(
            answer.json(),
            json!({"error": "Invalid event", "errorCode": code, "requestId": id})
        );
        assert_eq!(service.line_of(id)["errorCode"], code, "{shown}");
    }
}

#[test]
fn other_paths_and_methods_are_refused_and_never_redirected() {
    let service = Setup::new().start();
    let webhook = "/stripe/webhook";
    for (method, path, status, allow) in [
        ("GET", webhook, 405, Some("POST")),
        ("HEAD", webhook, 405, Some("POST")),
        ("PUT", webhook, 405, Some("POST")),
        ("DELETE", "/stripe/webhook/", 405, Some("POST")),
        ("POST", "/healthz", 405, Some("GET, HEAD")),
        ("GET", "/healthz", 200, None),
        ("GET", "/healthz?probe=1", 200, None),
        ("POST", "/", 404, None),
        ("POST", "/stripe", 404, None),
        ("POST", "/stripe/webhook//", 404, None),
        ("POST", "//stripe/webhook", 404, None),
        ("POST", "/Stripe/Webhook", 404, None),
        ("POST", "/stripe/%77ebhook", 404, None),
        ("POST", "/stripe/webhook/../webhook", 404, None),
        ("GET", "/metrics", 404, None),
        ("GET", "/readyz", 404, None),
    ] {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        let answer = service.ask(request);
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
        assert_eq!(answer.header("location"), None);
        if method == "HEAD" {
            assert_eq!(answer.body, "");
        } else {
            assert_eq!(answer.header("content-type"), Some("application/json"));
            answer.json();
        }
        assert!(answer.header("x-request-id").is_some());
    }
}

#[test]
fn a_trailing_slash_or_a_query_makes_no_difference() {
    let service = Setup::new().start();
    for (path, name) in [("/stripe/webhook/", "a"), ("/stripe/webhook?v=2", "b")] {
        let body = paid(name);
        let signature = sign(SECRET, body.as_bytes(), 0);
        let answer = service.ask(post(
            path,
            &[("Stripe-Signature", &signature)],
            body.as_bytes(),
        ));
        assert_eq!(
            (answer.status, answer.header("location")),
            (200, None),
            "{path}"
        );
        assert_eq!(
            service.status_of(&format!("ord_{name}")),
            Some(Status::Paid)
        );
    }
}

#[test]
fn in_a_rotation_each_of_the_secrets_signs() {
    let service = Setup::new()
        .set("STRIPE_WEBHOOK_SECRET", "whsec_new,whsec_old")
        .start();
    let post = |body: &str, signature: &str| {
        service
            .post(&[("Stripe-Signature", signature)], body)
            .status
    };
    let body = paid("1");
    let [new, old, wrong] =
        ["whsec_new", "whsec_old", "whsec_wrong"].map(|secret| sign(secret, body.as_bytes(), 0));
    assert_eq!(post(&body, &wrong), 400);
    assert_eq!(post(&body, &new), 200);
    assert_eq!(post(&body, &old), 200);
    // Stripe signs with every secret that is active; one of them is enough.
    let (_, v1) = old.split_once(',').unwrap();
    assert_eq!(post(&body, &format!("{wrong},{v1}")), 200);
}

#[test]
fn an_event_of_the_other_mode_is_taken_and_changes_nothing() {
    let service = Setup::new().set("STRIPE_MODE", "live").start();
    let answer = service.accepts(paid("1"), "ignored");
    assert_eq!(answer.json()["reason"], "mode");
    let line = service.line_of(answer.request_id());
    assert_eq!(
        line["message"],
        "Webhook ignored: other mode than STRIPE_MODE"
    );
    assert_eq!(service.status_of("ord_1"), None);
    service.accepts(
        changed("2", |event| event["livemode"] = json!(true)),
        "applied",
    );
    assert_eq!(service.status_of("ord_2"), Some(Status::Paid));
}

#[test]
fn an_event_of_a_connected_account_is_taken_and_changes_nothing() {
    let service = Setup::new().start();
    let of_another = changed("1", |event| event["account"] = json!("acct_1"));
    let answer = service.accepts(of_another, "ignored");
    assert_eq!(answer.json()["reason"], "account");
    assert_eq!(service.status_of("ord_1"), None);
}

#[test]
fn another_api_release_is_applied_and_warned_of_once() {
    let service = Setup::new().start();
    let versions = [
        "2026-09-30.endive",
        "2020-08-27",
        "2026-08-26.dahlia",
        "2020-08-27",
    ];
    let mut last = None;
    for (number, version) in versions.iter().enumerate() {
        let body = changed(&number.to_string(), |event| {
            event["api_version"] = json!(version);
        });
        last = Some(service.accepts(body, "applied"));
    }
    service.line_of(last.unwrap().request_id());
    let mut warnings = service.log();
    warnings
        .retain(|line| line["message"] == "Event has another API release than STRIPE_API_VERSION");
    let warned: Vec<_> = warnings.iter().map(|line| &line["stripeEventId"]).collect();
    assert_eq!(warned, ["evt_1", "evt_2"]);
}

#[test]
fn an_incoming_request_id_is_one_and_the_same_in_header_log_and_story() {
    let service: Service = Setup::new().start();
    let body = paid("1");
    let signature = sign(SECRET, body.as_bytes(), 0);
    let headers = [
        ("Stripe-Signature", signature.as_str()),
        ("X-Request-Id", "proxy-00000001"),
    ];
    assert_eq!(service.post(&headers, &body).request_id(), "proxy-00000001");
    let line = service.line_of("proxy-00000001");
    assert_eq!(line["orderId"], "ord_1");
    assert_eq!(line["stripeEventId"], "evt_1");
    assert_eq!(line["stripeSessionId"], "cs_test_1");
    let messages: Vec<_> = service.lines_of("proxy-00000001");
    let messages: Vec<_> = messages.iter().map(|line| &line["message"]).collect();
    assert_eq!(messages, ["Order paid", "Webhook applied"]);
    let store = service.store();
    let story = store
        .changes(&store.order("ord_1").unwrap().unwrap())
        .unwrap();
    assert_eq!(story[0].request_id.as_deref(), Some("proxy-00000001"));
}

#[test]
fn the_runbooks_test_payment_is_paid_and_then_refunded() {
    let service = Setup::new().start();
    service.accepts(document("checkout.session.completed.paid"), "applied");
    assert_eq!(service.status_of("ord_1001"), Some(Status::Paid));
    let refund = document("not_a_stripe_type.payment_intent.refunded");
    let answer = service.accepts(refund, "applied");
    assert_eq!(service.status_of("ord_1001"), Some(Status::Refunded));
    let messages: Vec<_> = service.lines_of(answer.request_id());
    assert_eq!(messages[0]["message"], "Order refunded");
}

#[test]
fn a_parked_refund_is_joined_by_its_session() {
    let service = Setup::new().start();
    let refund = changed("refund", |event| {
        event["type"] = json!("refund.created");
        event["data"]["object"] = json!({"id": "re_1", "object": "refund", "amount": 2500,
            "status": "succeeded", "created": 1_792_999_995, "currency": "eur",
            "charge": "ch_1", "payment_intent": "pi_1"});
    });
    service.accepts(refund, "parked");
    service.accepts(paid("1"), "applied");
    assert_eq!(service.status_of("ord_1"), Some(Status::Refunded));
    service.accepts(event("other"), "ignored");
}
