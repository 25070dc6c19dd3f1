//! The real client against the stand-in for Stripe: what is sent, what comes back, what goes wrong.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::fake_stripe::{FakeStripe, Fault, KEY, Recorded, Target};
use paidup::base::id::{IdempotencyKey, OrderId, StripeId, UnixSeconds};
use paidup::base::log_line::ErrorCode;
use paidup::config::stripe::StripeConfig;
use paidup::stripe::client::{EventsQuery, NewSession, StripeApi, TYPES_MAX};
use paidup::stripe::error::{Call, Cause, StripeError, Unreachable, Word};
use paidup::stripe::fetched::Fetched;
use paidup::truth::event::{Event, Meaning};
use paidup::truth::kind::{KINDS, listable};
use paidup::truth::money::Money;
use paidup::truth::new_order::{Item, Line};
use paidup::truth::reading::{Mode, NamePlaces, Ours, Reading};

// ── Every call ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_session_is_made_and_read_again() {
    let shop = Shop::open();
    shop.stripe.add_price("price_1Tea", 300, "eur");
    let made = shop.create("k1").unwrap();
    assert_eq!(made.text("status"), Some("open"));
    assert!(
        made.text("url")
            .unwrap()
            .starts_with("https://checkout.stripe.com/")
    );
    assert_eq!(made.id_in("payment_intent"), None);
    assert!(made.whole("expires_at").is_some());
    let object = shop.stripe.object(made.id.as_str());
    assert_eq!(object["client_reference_id"], "ord_1");
    assert_eq!(object["amount_total"], 2 * 1250 + 300);
    assert_eq!(object["metadata"]["order_id"], "ord_1");
    assert_eq!(object["metadata"]["note"], "à & b");

    shop.stripe.pay(made.id.as_str());
    let paid = shop.api.read(Call::ReadSession, &made.id).unwrap();
    assert_eq!(paid.text("status"), Some("complete"));
    assert_eq!(paid.text("payment_status"), Some("paid"));
    let intent = paid.id_in("payment_intent").unwrap();
    let intent = shop.api.read(Call::ReadIntent, &intent).unwrap();
    assert_eq!(intent.text("status"), Some("succeeded"));
    let charge = intent.id_in("latest_charge").unwrap();
    let charge = shop.api.read(Call::ReadCharge, &charge).unwrap();
    assert_eq!(charge.id_in("payment_intent"), Some(intent.id.clone()));
    assert!(charge.json().contains("\"amount_refunded\": 0"));

    let of = ("payment_intent", &intent.id);
    assert_eq!(shop.api.list(Call::ListRefunds, of).unwrap(), []);
    let refund = shop.stripe.refund(made.id.as_str(), Some(500));
    let dispute = shop.stripe.open_dispute(made.id.as_str());
    for of in [of, ("charge", &charge.id)] {
        let refunds = shop.api.list(Call::ListRefunds, of).unwrap();
        assert_eq!(refunds.len(), 1);
        assert_eq!(refunds[0].id.as_str(), refund);
        assert_eq!(refunds[0].text("status"), Some("succeeded"));
        assert_eq!(refunds[0].id_in("charge"), Some(charge.id.clone()));
        let disputes = shop.api.list(Call::ListDisputes, of).unwrap();
        assert_eq!(disputes.len(), 1);
        assert_eq!(disputes[0].id.as_str(), dispute);
    }
    for (call, id) in [(Call::ReadRefund, &refund), (Call::ReadDispute, &dispute)] {
        let id = StripeId::parse(id).unwrap();
        assert_eq!(shop.api.read(call, &id).unwrap().id, id);
    }
}

#[test]
fn an_invoice_leads_to_its_payments() {
    let shop = Shop::open();
    let session = shop.stripe.create_session("ord_1", 2500);
    let invoice = id(&shop.stripe.subscribe(&session));
    let read = shop.api.read(Call::ReadSession, &id(&session)).unwrap();
    assert_eq!(read.id_in("invoice"), Some(invoice.clone()));
    let read = shop.api.read(Call::ReadInvoice, &invoice).unwrap();
    assert_eq!(read.whole("amount_paid"), Some(2500));
    let payments = shop
        .api
        .list(Call::ListInvoicePayments, ("invoice", &invoice))
        .unwrap();
    let intent = payments[0].id_in("payment.payment_intent").unwrap();
    let read = shop.api.read(Call::ReadIntent, &intent).unwrap();
    assert_eq!(read.text("status"), Some("succeeded"));
}

#[test]
fn the_form_of_a_session_is_field_for_field_that_of_stripes_own_library() {
    let shop = Shop::open();
    shop.stripe.add_price("price_1Tea", 300, "eur");
    let expires_at = UnixSeconds(unix_now() + 3600);
    let order = order("ord_1");
    let lines = lines();
    let session = NewSession {
        metadata: &[("order_id".into(), "another".into())],
        expires_at: Some(expires_at),
        ..new_session(&order, &lines)
    };
    shop.api.create_session(&session, &key("k1")).unwrap();
    let request = &shop.stripe.requests()[0];
    let expires_at = expires_at.0.to_string();
    let expected = [
        ("mode", "payment"),
        ("line_items[0][quantity]", "2"),
        ("line_items[0][price_data][currency]", "eur"),
        ("line_items[0][price_data][unit_amount]", "1250"),
        (
            "line_items[0][price_data][product_data][name]",
            "Café & thé + 100 %",
        ),
        ("line_items[1][quantity]", "1"),
        ("line_items[1][price]", "price_1Tea"),
        ("metadata[order_id]", "ord_1"),
        ("client_reference_id", "ord_1"),
        ("payment_intent_data[metadata][order_id]", "ord_1"),
        (
            "success_url",
            "https://shop.example.com/thanks?session_id={CHECKOUT_SESSION_ID}",
        ),
        ("cancel_url", "https://shop.example.com/cart"),
        ("expires_at", &expires_at),
    ];
    let sent: Vec<(&str, &str)> = request
        .form
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(sent, expected);
    for (name, value) in [
        ("authorization", format!("Bearer {KEY}").as_str()),
        ("stripe-version", "2026-10-28.endive"),
        ("idempotency-key", "k1"),
        ("content-type", "application/x-www-form-urlencoded"),
    ] {
        assert_eq!(request.header(name), Some(value));
    }
}

#[test]
fn a_session_carries_the_orders_id_and_the_mark_where_the_shop_looks_for_them() {
    let shop = Shop::open();
    shop.stripe.add_price("price_1Tea", 300, "eur");
    let places = "client_reference_id,metadata.order_number,metadata.order_id";
    let reading = Reading {
        names: NamePlaces::parse(places).unwrap(),
        ours: Ours::parse("metadata.shop=coffee"),
        ..Reading::default()
    };
    let (order, lines) = (order("ord_1"), lines());
    let another = |key: &str| (key.into(), "another".into());
    let session = NewSession {
        reading: &reading,
        metadata: &["note", "shop", "order_number"].map(another),
        ..new_session(&order, &lines)
    };
    shop.api.create_session(&session, &key("k1")).unwrap();
    let request = &shop.stripe.requests()[0];
    for start in ["metadata", "payment_intent_data[metadata]"] {
        for (key, value) in [
            ("order_id", "ord_1"),
            ("order_number", "ord_1"),
            ("shop", "coffee"),
        ] {
            let name = format!("{start}[{key}]");
            let values = request.form.iter().filter(|(known, _)| *known == name);
            assert!(values.map(|(_, value)| value).eq([value]), "{name}");
        }
    }
    assert_eq!(request.field("metadata[note]"), Some("another"));
    assert_eq!(request.field("client_reference_id"), Some("ord_1"));
}

#[test]
fn every_request_names_the_version_and_the_key_and_only_a_post_an_idempotency_key() {
    let shop = Shop::with(&[("STRIPE_API_VERSION", "2026-09-30.endive")]);
    for (_, call) in CALLS {
        call(&shop).ok();
    }
    let requests = shop.stripe.requests();
    assert_eq!(requests.len(), CALLS.len());
    for request in requests {
        assert_eq!(request.header("stripe-version"), Some("2026-09-30.endive"));
        assert_eq!(
            request.header("authorization"),
            Some(format!("Bearer {KEY}").as_str())
        );
        let is_post = request.method == "POST";
        assert_eq!(request.header("idempotency-key").is_some(), is_post);
    }
}

#[test]
fn a_listed_event_is_read_by_the_code_that_reads_deliveries() {
    let shop = Shop::open();
    let session = shop.stripe.create_session("ord_1", 2500);
    shop.stripe.pay(&session);
    shop.stripe.refund(&session, None);
    let page = shop.api.events(&EventsQuery::default()).unwrap();
    assert!(!page.has_more);
    let logged = shop.stripe.events();
    assert_eq!(page.data.len(), logged.len());
    for (listed, logged) in page.data.iter().zip(logged.iter().rev()) {
        assert_eq!(listed.id.as_str(), logged.id);
        let from_list = Event::from_json(
            listed.json(),
            &Reading {
                mode: Some(Mode::Test),
                ..Reading::default()
            },
        )
        .unwrap();
        let from_delivery = Event::from_json(
            &logged.text,
            &Reading {
                mode: Some(Mode::Test),
                ..Reading::default()
            },
        )
        .unwrap();
        assert_eq!(from_list, from_delivery);
        assert!(
            matches!(from_list.meaning, Meaning::Fact(_)),
            "{from_list:?}"
        );
    }
}

#[test]
fn pages_of_events_lead_through_all_of_them() {
    let shop = Shop::open();
    for number in 0..130 {
        let session = shop.stripe.create_session(&format!("ord_{number}"), 2500);
        shop.stripe.pay(&session);
    }
    let all: Vec<String> = shop
        .stripe
        .events()
        .into_iter()
        .map(|event| event.id)
        .collect();
    assert_eq!(all.len(), 390);

    let mut older: Vec<StripeId> = Vec::new();
    loop {
        let query = EventsQuery {
            starting_after: older.last(),
            ..EventsQuery::default()
        };
        let page = shop.api.events(&query).unwrap();
        older.extend(page.data.into_iter().map(|event| event.id));
        if !page.has_more {
            break;
        }
    }
    assert!(older.iter().rev().map(StripeId::as_str).eq(all.iter()));
}

#[test]
fn events_are_filtered_by_type_time_and_delivery() {
    let shop = Shop::open();
    shop.stripe
        .add_endpoint("https://shop.example.com/stripe", &["charge.succeeded"]);
    shop.stripe.move_time(-40 * DAY);
    shop.stripe.pay(&shop.stripe.create_session("ord_0", 2500));
    shop.stripe.move_time(30 * DAY);
    shop.stripe.pay(&shop.stripe.create_session("ord_1", 2500));
    shop.stripe.move_time(10 * DAY);
    shop.stripe.pay(&shop.stripe.create_session("ord_2", 2500));
    let count = |query: &EventsQuery<'_>| shop.api.events(query).unwrap().data.len();

    assert_eq!(count(&EventsQuery::default()), 6, "not older than 30 days");
    let types = ["checkout.session.completed", "charge.succeeded"];
    assert_eq!(
        count(&EventsQuery {
            types: &types,
            ..EventsQuery::default()
        }),
        4
    );
    let recent = Some(UnixSeconds(unix_now() - 60));
    assert_eq!(
        count(&EventsQuery {
            created_from: recent,
            ..EventsQuery::default()
        }),
        3
    );
    let undelivered = EventsQuery {
        delivery_success: Some(false),
        ..EventsQuery::default()
    };
    assert_eq!(count(&undelivered), 2);
    let delivered = EventsQuery {
        delivery_success: Some(true),
        ..EventsQuery::default()
    };
    assert_eq!(count(&delivered), 4);
    let found: usize = listable()
        .chunks(TYPES_MAX)
        .map(|types| {
            count(&EventsQuery {
                types,
                ..EventsQuery::default()
            })
        })
        .sum();
    assert_eq!(found, 6);
}

#[test]
fn a_list_that_is_read_whole_has_every_page() {
    let shop = Shop::open();
    let session = shop.stripe.create_session("ord_1", 2500);
    shop.stripe.pay(&session);
    for _ in 0..120 {
        shop.stripe.refund(&session, Some(10));
    }
    let session = shop.api.read(Call::ReadSession, &id(&session)).unwrap();
    let intent = session.id_in("payment_intent").unwrap();
    let refunds = shop
        .api
        .list(Call::ListRefunds, ("payment_intent", &intent));
    let refunds = refunds.unwrap();
    let mut ids: Vec<&str> = refunds.iter().map(|refund| refund.id.as_str()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 120);
}

#[test]
fn endpoints_have_what_a_diagnosis_needs() {
    let shop = Shop::open();
    let first = shop
        .stripe
        .add_endpoint("https://shop.example.com/stripe", &["*"]);
    let second = shop
        .stripe
        .add_endpoint("https://shop.example.com/old", &["charge.refunded"]);
    shop.stripe.change(
        &second,
        serde_json::json!({"status": "disabled", "api_version": null, "application": "ca_1"}),
    );
    let endpoints = shop.api.webhook_endpoints().unwrap();
    assert_eq!(endpoints.len(), 2);
    let [disabled, enabled] = &endpoints[..] else {
        panic!("{endpoints:?}")
    };
    assert_eq!(enabled.id.as_str(), first);
    assert_eq!(enabled.text("url"), Some("https://shop.example.com/stripe"));
    assert_eq!(enabled.text("status"), Some("enabled"));
    assert_eq!(enabled.id_in("application"), None);
    assert_eq!(enabled.texts("enabled_events"), Some(vec!["*"]));
    assert_eq!(enabled.text("api_version"), Some("2026-10-28.endive"));
    assert!(enabled.json().contains("\"livemode\": false"));
    assert_eq!(disabled.text("status"), Some("disabled"));
    assert_eq!(disabled.id_in("application"), Some(id("ca_1")));
    assert_eq!(disabled.text("api_version"), None);
}

#[test]
fn the_date_of_any_answer_tells_how_wrong_our_clock_is() {
    let shop = Shop::open();
    assert_eq!(shop.api.skew_seconds(), None);
    shop.api.webhook_endpoints().unwrap();
    assert!(shop.api.skew_seconds().unwrap().abs() <= 2);
    shop.stripe.move_date(-600);
    shop.stripe.fault(1, Fault::Status(401));
    shop.api.webhook_endpoints().unwrap_err();
    assert!((598..=602).contains(&shop.api.skew_seconds().unwrap()));
}

// ── Idempotency ─────────────────────────────────────────────────────────────────────────────────

#[test]
fn the_same_key_and_content_make_one_session() {
    let shop = Shop::open();
    shop.stripe.add_price("price_1Tea", 300, "eur");
    let first = shop.create("k1").unwrap();
    assert_eq!(shop.create("k1").unwrap().id, first.id);
    assert_ne!(shop.create("k2").unwrap().id, first.id);
    assert_eq!(shop.stripe.objects("checkout.session").len(), 2);
}

#[test]
fn the_same_key_with_other_content_is_refused_and_said_so() {
    let shop = Shop::open();
    shop.stripe.add_price("price_1Tea", 300, "eur");
    shop.create("k1").unwrap();
    let (other, lines) = (order("ord_2"), lines());
    let error = shop
        .api
        .create_session(&new_session(&other, &lines), &key("k1"))
        .unwrap_err();
    assert_eq!(error.cause, Cause::KeyReused);
    assert_eq!(error.attempts, 1);
    assert_eq!(error.error_code(), ErrorCode::StripeConflict);
}

#[test]
fn a_session_whose_answer_was_lost_is_found_by_the_retry() {
    let shop = Shop::open();
    shop.stripe.add_price("price_1Tea", 300, "eur");
    for fault in [
        Fault::Cut,
        Fault::Drop,
        Fault::Status(503),
        Fault::Html(502),
    ] {
        shop.stripe.take_requests();
        shop.stripe.fault(1, fault.clone());
        let made = shop.create("k1").unwrap();
        assert_eq!(
            shop.stripe.objects("checkout.session").len(),
            1,
            "{fault:?}"
        );
        assert_eq!(
            made.id.as_str(),
            shop.stripe.objects("checkout.session")[0]["id"]
        );
        let requests = shop.stripe.take_requests();
        let keys: Vec<_> = requests
            .iter()
            .map(|request| request.header("idempotency-key"))
            .collect();
        assert_eq!(keys, [Some("k1"); 2], "{fault:?}");
        assert_eq!(requests[0].form, requests[1].form);
    }
}

#[test]
fn a_request_that_still_runs_is_waited_for() {
    let shop = Shop::with_real_pauses();
    shop.stripe.add_price("price_1Tea", 300, "eur");
    shop.stripe
        .fault(1, Fault::Slow(Duration::from_millis(300)));
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| shop.create("k1").unwrap());
        while shop.stripe.requests().is_empty() {
            thread::yield_now();
        }
        (shop.create("k1").unwrap(), first.join().unwrap())
    });
    assert_eq!(first.id, second.id);
    assert_eq!(shop.stripe.objects("checkout.session").len(), 1);
}

#[test]
fn a_parameter_that_stripe_refuses_is_named() {
    let shop = Shop::open();
    let order = order("ord_1");
    let lines = [Line {
        item: Item::Price(id("price_none")),
        quantity: 1,
    }];
    let error = shop
        .api
        .create_session(&new_session(&order, &lines), &key("k1"))
        .unwrap_err();
    assert_eq!(error.cause, Cause::Refused);
    assert_eq!(
        error.code.as_ref().map(Word::as_str),
        Some("resource_missing")
    );
    assert_eq!(
        error.param.as_ref().map(Word::as_str),
        Some("line_items[0][price]")
    );
    assert!(error.request_id.is_some());
}

// ── Everything that goes wrong, from every call ─────────────────────────────────────────────────

#[test]
fn every_error_of_every_call_is_typed_has_its_remedy_and_shows_nothing_of_stripes() {
    let status = Fault::Status;
    let cases: [(Fault, Cause, u32, &str); 17] = [
        (status(400), Cause::Refused, 1, "error-codes"),
        (status(401), Cause::Key, 1, "STRIPE_SECRET_KEY"),
        (status(402), Cause::Refused, 1, "error-codes"),
        (status(403), Cause::Permission(None), 1, "tick "),
        (status(404), Cause::NotFound, 1, "mode"),
        (status(409), Cause::Conflict, 3, "safe to repeat"),
        (status(424), Cause::Refused, 1, "error-codes"),
        (status(429), Cause::RateLimited, 2, "in a minute"),
        (status(500), Cause::Stripe, 3, "status.stripe.com"),
        (status(503), Cause::Stripe, 3, "status.stripe.com"),
        (Fault::Html(200), Cause::NotJson, 1, "STRIPE_API_PROXY"),
        (Fault::Html(403), Cause::NotJson, 1, "STRIPE_API_PROXY"),
        (Fault::Html(502), Cause::NotJson, 3, "STRIPE_API_PROXY"),
        (Fault::Cut, BROKEN, 3, "firewall"),
        (Fault::Drop, BROKEN, 3, "firewall"),
        (
            Fault::Redirect("/v1/x".to_owned()),
            Cause::Redirected,
            1,
            "STRIPE_API_BASE",
        ),
        (
            Fault::Text("[7]".to_owned()),
            Cause::Unusable("object"),
            1,
            "STRIPE_API_VERSION",
        ),
    ];
    let shop = Shop::open();
    for (call, make) in CALLS {
        for (fault, cause, attempts, remedy) in &cases {
            shop.stripe.take_requests();
            shop.stripe.fault(9, fault.clone());
            let error = make(&shop).unwrap_err();
            shop.stripe.heal();
            let context = format!("{call:?} {fault:?} {error:?}");
            assert_eq!(error.call, call, "{context}");
            match (&error.cause, cause) {
                (Cause::Permission(Some(name)), Cause::Permission(None)) => {
                    assert!(name.as_str().starts_with("rak_"), "{context}");
                }
                // A list has other fields that may be unusable.
                (Cause::Unusable(_), Cause::Unusable(_)) => {}
                (got, expected) => assert_eq!(got, expected, "{context}"),
            }
            let sent = shop.stripe.take_requests();
            assert_eq!(u32::try_from(sent.len()).unwrap(), *attempts, "{context}");
            assert!(same(&sent), "{context}");
            if !matches!(fault, Fault::Text(_)) {
                assert_eq!(error.attempts, *attempts, "{context}");
            }
            let message = error.to_string();
            assert_eq!(message.lines().count(), 2, "{message}");
            assert!(message.ends_with('.'), "{message}");
            assert!(error.remedy().contains(remedy), "{message}");
            for text in [message, format!("{error:?}")] {
                assert!(!text.contains("Canary"), "{text}");
                assert!(!text.contains("acct_"), "{text}");
            }
        }
    }
}

#[test]
fn the_permission_that_a_restricted_key_lacks_is_named_for_each_call() {
    let shop = Shop::open();
    for (call, name, words) in [
        (
            Call::CreateSession,
            "rak_checkout_session_write",
            "Checkout Sessions: Write",
        ),
        (
            Call::ReadSession,
            "rak_checkout_session_read",
            "Checkout Sessions: Read",
        ),
        (Call::ListEvents, "rak_event_read", "Events: Read"),
        (
            Call::ListRefunds,
            "rak_charge_read",
            "Charges and Refunds: Read",
        ),
        (
            Call::ReadIntent,
            "rak_payment_intent_read",
            "PaymentIntents: Read",
        ),
        (
            Call::ReadCharge,
            "rak_charge_read",
            "Charges and Refunds: Read",
        ),
        (
            Call::ListEndpoints,
            "rak_webhook_read",
            "Webhook Endpoints: Read",
        ),
    ] {
        shop.stripe.take_permission(name);
        let (_, make) = CALLS.into_iter().find(|(known, _)| *known == call).unwrap();
        let error = make(&shop).unwrap_err();
        assert!(error.what().contains(name), "{error}");
        assert!(error.remedy().contains(words), "{error}");
    }
}

#[test]
fn an_answer_that_begins_and_never_ends_is_bounded() {
    let shop = Shop::open();
    let text = format!("{{\"id\":\"{}\"}}", "x".repeat(5 * 1024 * 1024));
    for (_, make) in CALLS {
        shop.stripe.take_requests();
        shop.stripe.fault(1, Fault::Text(text.clone()));
        let error = make(&shop).unwrap_err();
        assert_eq!(error.cause, Cause::TooLarge);
        assert_eq!(shop.stripe.requests().len(), 1);
    }
}

#[test]
fn an_object_without_an_id_is_unusable() {
    let shop = Shop::open();
    for (text, field) in [
        ("{}", "id"),
        ("{\"id\":\"a b\"}", "id"),
        ("{\"id\":7}", "id"),
    ] {
        shop.stripe.fault(1, Fault::Text(text.to_owned()));
        let error = shop.api.read(Call::ReadSession, &id("cs_1")).unwrap_err();
        assert_eq!(error.cause, Cause::Unusable(field), "{text}");
    }
    for text in [
        "{}",
        "{\"data\":[7]}",
        "{\"data\":[{}]}",
        "{\"data\":7}",
        "{\"data\":[{\"id\":\"we_1\",\"url\":\"https://a\"}]}",
        "{\"data\":[{\"id\":\"we_1\",\"enabled_events\":[]}]}",
    ] {
        shop.stripe.fault(1, Fault::Text(text.to_owned()));
        let error = shop.api.webhook_endpoints().unwrap_err();
        assert!(matches!(error.cause, Cause::Unusable(_)), "{text}");
    }
}

#[test]
fn a_list_that_does_not_end_is_given_up() {
    let shop = Shop::open();
    let text = r#"{"data":[{"id":"re_1"}],"has_more":true}"#;
    shop.stripe.fault(1000, Fault::Text(text.to_owned()));
    let error = refunds(&shop).unwrap_err();
    assert_eq!(error.cause, Cause::Unusable("has_more"));
    assert_eq!(shop.stripe.requests().len(), 20);
}

// ── Trying again ────────────────────────────────────────────────────────────────────────────────

#[test]
fn stripes_advice_decides_whether_to_try_again() {
    let shop = Shop::open();
    for (status, advice, requests) in [
        (400, true, 3),
        (429, true, 3),
        (429, false, 1),
        (409, false, 1),
        (500, false, 1),
        (500, true, 3),
        (404, true, 3),
    ] {
        shop.stripe.take_requests();
        shop.stripe.fault(9, Fault::Advised(status, advice));
        shop.create("k1").unwrap_err();
        shop.stripe.heal();
        assert_eq!(
            shop.stripe.take_requests().len(),
            requests,
            "{status} {advice}"
        );
    }
    shop.stripe.fault(1, Fault::KeptFailure);
    shop.create("k2").unwrap_err();
    assert_eq!(shop.stripe.take_requests().len(), 1);
    let replayed = shop.create("k2").unwrap_err();
    assert_eq!(
        replayed.status,
        Some(500),
        "what failed inside stays so under its key"
    );
}

#[test]
fn pauses_are_half_a_second_and_then_up_to_twice_as_long() {
    let shop = Shop::open();
    shop.stripe.fault(2, Fault::Status(500));
    shop.api.webhook_endpoints().unwrap();
    let pauses = shop.pauses.lock().unwrap().clone();
    assert_eq!(pauses.len(), 2);
    let half = Duration::from_millis(500);
    assert_eq!(pauses[0], half);
    assert!(pauses[1] >= half && pauses[1] <= 2 * half, "{pauses:?}");
}

#[test]
fn all_attempts_together_keep_to_the_deadline() {
    let shop = Shop::with_real_pauses();
    for fault in [
        Fault::Hang,
        Fault::Slow(Duration::from_millis(3900)),
        Fault::Status(500),
    ] {
        shop.stripe.fault(9, fault.clone());
        let begun = Instant::now();
        let error = shop.api.webhook_endpoints();
        let took = begun.elapsed();
        shop.stripe.heal();
        // Two attempts of a second each are more than this.
        assert!(
            took < Duration::from_millis(1900),
            "{fault:?} took {took:?}"
        );
        let error = error.unwrap_err();
        assert!(error.attempts <= 2, "{error:?}");
        if !matches!(fault, Fault::Status(_)) {
            assert_eq!(error.cause, Cause::Unreachable(Unreachable::Timeout));
            assert_eq!(error.error_code(), ErrorCode::StripeTimeout);
        }
    }
}

#[test]
fn a_body_that_trickles_keeps_to_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let api = api(
        &format!("http://{address}"),
        &[("STRIPE_API_TIMEOUT_SECONDS", "1")],
    );
    let trickling = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{")
            .unwrap();
        while stream.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let begun = Instant::now();
    let error = api.webhook_endpoints().unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(error.cause, Cause::Unreachable(Unreachable::Timeout));
    trickling.join().unwrap();
}

// ── The way there ───────────────────────────────────────────────────────────────────────────────

#[test]
fn nobody_at_the_address_is_unreachable() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = api(&format!("http://{free}"), &[])
        .webhook_endpoints()
        .unwrap_err();
    assert_eq!(error.cause, Cause::Unreachable(Unreachable::Connect));
    assert_eq!(error.attempts, 3);
    // No name has a part of 64 letters, so nobody is asked for it.
    let error = api(&format!("https://{}", "a".repeat(64)), &[])
        .webhook_endpoints()
        .unwrap_err();
    assert_eq!(error.cause, Cause::Unreachable(Unreachable::Name));
}

#[test]
fn a_server_without_encryption_is_not_spoken_to_under_https() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap());
    let heard = thread::spawn(move || {
        let mut heard = Vec::new();
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut part = [0; 4096];
            let length = stream.read(&mut part).unwrap();
            heard.extend_from_slice(&part[..length]);
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .unwrap();
        }
        heard
    });
    let error = api(&base, &[]).webhook_endpoints().unwrap_err();
    assert_eq!(error.cause, Cause::Unreachable(Unreachable::Tls));
    let heard = heard.join().unwrap();
    assert!(!String::from_utf8_lossy(&heard).contains("Canary"));
}

#[test]
fn a_redirect_is_not_followed() {
    let (shop, other) = (Shop::open(), FakeStripe::start());
    for (_, make) in CALLS {
        let place = format!("{}/v1/events", other.base());
        shop.stripe.fault(1, Fault::Redirect(place));
        assert_eq!(make(&shop).unwrap_err().cause, Cause::Redirected);
    }
    assert_eq!(other.requests().len(), 0);
}

#[test]
fn a_proxy_is_used_when_it_is_set_and_names_itself_when_it_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap();
    let asked = thread::spawn(move || {
        let mut asked = Vec::new();
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            asked.push(String::from_utf8(head).unwrap());
            stream
                .write_all(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        }
        asked
    });
    let address = format!("http://shop:pw@{proxy}");
    let api = api(
        "https://api.stripe.invalid",
        &[("STRIPE_API_PROXY", &address)],
    );
    let error = api.webhook_endpoints().unwrap_err();
    assert_eq!(error.cause, Cause::Unreachable(Unreachable::Proxy));
    assert!(error.remedy().contains("STRIPE_API_PROXY"));
    for head in asked.join().unwrap() {
        assert!(
            head.starts_with("CONNECT api.stripe.invalid:443 "),
            "{head}"
        );
        assert!(!head.contains(KEY), "{head}");
    }
}

/// Runs itself again with the proxy variables set: they are read from the process's environment,
/// which one test must not change for the others.
#[test]
fn the_proxy_variables_of_the_environment_do_not_count() {
    const INNER: &str = "PAIDUP_TEST_BASE";
    if let Some(base) = std::env::var_os(INNER) {
        api(base.to_str().unwrap(), &[])
            .webhook_endpoints()
            .unwrap();
        return;
    }
    let stripe = FakeStripe::start();
    let nowhere = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let proxy = format!("http://{nowhere}");
    let mut inner = std::process::Command::new(std::env::current_exe().unwrap());
    inner.args([
        "--exact",
        "stripe_api::the_proxy_variables_of_the_environment_do_not_count",
    ]);
    inner.env(INNER, stripe.base());
    for name in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ] {
        inner.env(name, &proxy);
    }
    inner.env_remove("NO_PROXY").env_remove("no_proxy");
    assert!(inner.output().unwrap().status.success());
    assert_eq!(stripe.requests().len(), 1);
}

#[test]
fn nothing_prints_the_key() {
    let shop = Shop::open();
    let error = shop
        .api
        .read(Call::ReadSession, &id("cs_none"))
        .unwrap_err();
    assert_eq!(error.cause, Cause::NotFound);
    let made = shop.stripe.create_session("ord_1", 2500);
    shop.stripe.pay(&made);
    let session = shop.api.read(Call::ReadSession, &id(&made)).unwrap();
    assert!(session.json().contains("buyer@example.com"));
    let printed = format!("{:?} {error:?} {error} {session:?}", shop.api);
    assert!(!printed.contains("Canary"), "{printed}");
    assert!(!printed.contains("buyer@example.com"), "{printed}");
}

// ── The stand-in itself ─────────────────────────────────────────────────────────────────────────

#[test]
fn the_stand_in_tells_every_story_in_events_that_we_can_read() {
    let stripe = FakeStripe::start();
    let paid = stripe.create_session("ord_1", 2500);
    stripe.pay(&paid);
    stripe.refund(&paid, Some(1000));
    let pending = stripe.refund_pending(&paid, Some(500));
    stripe.complete_refund(&pending);
    let failing = stripe.refund_pending(&paid, None);
    stripe.fail_refund(&failing);
    let dispute = stripe.open_dispute(&paid);
    stripe.close_dispute(&dispute, true);
    let later = stripe.create_session("ord_2", 2500);
    stripe.pay_later(&later);
    stripe.settle(&later);
    let never = stripe.create_session("ord_3", 2500);
    stripe.pay_later(&never);
    stripe.fail_payment(&never);
    stripe.expire(&stripe.create_session("ord_4", 2500));
    stripe.pay(&stripe.create_session("ord_5", 0));
    let held = stripe.create_session("ord_6", 2500);
    stripe.hold(&held);
    stripe.capture(&held, Some(1500));
    let released = stripe.create_session("ord_7", 2500);
    stripe.hold(&released);
    stripe.release(&released);
    let subscribed = stripe.create_session("ord_8", 1500);
    stripe.subscribe(&subscribed);
    stripe.renew(&subscribed, false);
    let review = stripe.open_review(&subscribed);
    stripe.close_review(&review);
    stripe.warn_of_fraud(&subscribed);
    stripe.come_back(&later);

    let events = stripe.events();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "charge.succeeded",
            "payment_intent.succeeded",
            "checkout.session.completed",
            "charge.refunded",
            "refund.created",
            "charge.refunded",
            "refund.created",
            "refund.updated",
            "charge.refund.updated",
            "charge.refunded",
            "refund.created",
            "refund.failed",
            "refund.updated",
            "charge.refund.updated",
            "charge.dispute.created",
            "charge.dispute.funds_withdrawn",
            "charge.dispute.closed",
            "charge.dispute.funds_reinstated",
            "payment_intent.processing",
            "charge.pending",
            "checkout.session.completed",
            "charge.succeeded",
            "payment_intent.succeeded",
            "checkout.session.async_payment_succeeded",
            "payment_intent.processing",
            "charge.pending",
            "checkout.session.completed",
            "charge.failed",
            "payment_intent.payment_failed",
            "checkout.session.async_payment_failed",
            "checkout.session.expired",
            "checkout.session.completed",
            "charge.succeeded",
            "payment_intent.amount_capturable_updated",
            "checkout.session.completed",
            "charge.captured",
            "payment_intent.succeeded",
            "charge.succeeded",
            "payment_intent.amount_capturable_updated",
            "checkout.session.completed",
            "payment_intent.canceled",
            "charge.refunded",
            "refund.created",
            "charge.succeeded",
            "payment_intent.succeeded",
            "invoice.paid",
            "invoice_payment.paid",
            "checkout.session.completed",
            "payment_intent.payment_failed",
            "invoice.payment_failed",
            "review.opened",
            "review.closed",
            "radar.early_fraud_warning.created",
            "charge.failed",
            "payment_intent.payment_failed",
        ]
    );
    for event in &events {
        assert!(
            event.text.starts_with("{\n  \"id\": \"evt_1"),
            "{}",
            event.text
        );
        let read = Event::from_json(
            &event.text,
            &Reading {
                mode: Some(Mode::Test),
                ..Reading::default()
            },
        )
        .unwrap();
        assert_eq!(read.api_version.as_deref(), Some("2026-10-28.endive"));
        let is_read = matches!(read.meaning, Meaning::Fact(_));
        let is_known = KINDS.iter().any(|kind| kind.name == &*event.kind);
        assert_eq!(is_read, is_known, "{}", event.kind);
    }
    let again = stripe.repeat_event(&events[0].id);
    let repeated = stripe.events().pop().unwrap();
    assert_eq!(repeated.id, again);
    assert_eq!(
        repeated.value["data"]["object"],
        events[0].value["data"]["object"]
    );
}

#[test]
fn the_stand_in_delivers_signed_events_in_any_order_and_number() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target {
        address: listener.local_addr().unwrap(),
        path: "/webhooks/stripe".to_owned(),
        secret: "whsec_test".to_owned(),
    };
    let receiving = thread::spawn(move || {
        let mut bodies = Vec::new();
        for status in [200, 503, 200] {
            let (mut stream, _) = listener.accept().unwrap();
            let request = read_delivery(&mut stream);
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").unwrap();
            bodies.push(request);
        }
        bodies
    });
    let stripe = FakeStripe::start();
    stripe.add_endpoint("https://shop.example.com/webhooks/stripe", &["*"]);
    stripe.pay(&stripe.create_session("ord_1", 2500));
    let ids: Vec<String> = stripe.events().into_iter().map(|event| event.id).collect();
    for (id, status) in [(&ids[2], 200), (&ids[0], 503), (&ids[2], 200)] {
        assert_eq!(stripe.deliver(id, &target).unwrap(), status);
    }
    let pending: Vec<bool> = stripe
        .events()
        .iter()
        .map(|event| event.is_pending)
        .collect();
    assert_eq!(pending, [true, true, false]);
    let secret = paidup::base::secret::Secret::new("whsec_test");
    let secrets = [paidup::truth::signature::SigningSecret::new(&secret)];
    for (head, body) in receiving.join().unwrap() {
        let signature = head
            .lines()
            .find_map(|line| line.strip_prefix("Stripe-Signature: "));
        let now = UnixSeconds(unix_now());
        let verified =
            paidup::truth::signature::verify(signature, body.as_bytes(), &secrets, now, 300);
        assert!(verified.is_ok());
    }
}

#[test]
fn the_stand_in_refuses_what_stripe_refuses() {
    let shop = Shop::open();
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .new_agent();
    let post = |version: &str, form: &[(&str, &str)]| {
        let mut answer = agent
            .post(format!("{}/v1/checkout/sessions", shop.stripe.base()))
            .header("Authorization", format!("Bearer {KEY}"))
            .header("Stripe-Version", version)
            .send_form(form.iter().copied())
            .unwrap();
        let status = answer.status().as_u16();
        let body: serde_json::Value =
            serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        (
            status,
            body["error"]["code"].clone(),
            body["error"]["param"].clone(),
        )
    };
    let good = [
        ("mode", "payment"),
        ("success_url", "https://shop.example.com"),
        ("line_items[0][quantity]", "1"),
        ("line_items[0][price_data][currency]", "eur"),
        ("line_items[0][price_data][unit_amount]", "100"),
        ("line_items[0][price_data][product_data][name]", "Tea"),
    ];
    let endive = "2026-10-28.endive";
    assert_eq!(post(endive, &good).0, 200);
    let extra = |name, value| [&good[..], &[(name, value)]].concat();
    let old = extra("payment_method_types[0]", "card");
    let unknown = (
        400,
        "parameter_unknown".into(),
        "payment_method_types".into(),
    );
    assert_eq!(post(endive, &old), unknown);
    assert_eq!(post("2026-08-26.dahlia", &old).0, 200);
    for (name, value) in [
        ("line_items[0][amount]", "1"),
        ("payment_intent_data[foo]", "1"),
        ("foo", "1"),
    ] {
        assert_eq!(
            post(endive, &extra(name, value)),
            (400, "parameter_unknown".into(), name.into())
        );
    }
    assert_eq!(post(endive, &extra("expires_at", "1")).0, 400);
    for left_out in ["mode", "success_url", "line_items[0][quantity]"] {
        let rest: Vec<_> = good
            .iter()
            .copied()
            .filter(|(name, _)| *name != left_out)
            .collect();
        assert_eq!(post(endive, &rest).0, 400, "{left_out}");
    }
    let small: Vec<_> = good
        .iter()
        .map(|&(name, value)| (name, if value == "100" { "49" } else { value }))
        .collect();
    assert_eq!(post(endive, &small).1, "amount_too_small");

    shop.stripe.roll_key("sk_test_another");
    let error = shop.api.webhook_endpoints().unwrap_err();
    assert_eq!(error.cause, Cause::Key);
}

// ── Help ────────────────────────────────────────────────────────────────────────────────────────

const DAY: i64 = 24 * 60 * 60;
const BROKEN: Cause = Cause::Unreachable(Unreachable::Broken);

type Make = fn(&Shop) -> Result<(), StripeError>;

/// Each call once; what it asks for need not exist.
const CALLS: [(Call, Make); 14] = [
    (Call::CreateSession, |shop| shop.create("k1").map(drop)),
    (Call::ReadSession, |shop| read(shop, Call::ReadSession)),
    (Call::ReadIntent, |shop| read(shop, Call::ReadIntent)),
    (Call::ReadCharge, |shop| read(shop, Call::ReadCharge)),
    (Call::ReadInvoice, |shop| read(shop, Call::ReadInvoice)),
    (Call::ReadRefund, |shop| read(shop, Call::ReadRefund)),
    (Call::ReadDispute, |shop| read(shop, Call::ReadDispute)),
    (Call::ReadReview, |shop| read(shop, Call::ReadReview)),
    (Call::ListEvents, |shop| {
        shop.api.events(&EventsQuery::default()).map(drop)
    }),
    (Call::ListRefunds, |shop| refunds(shop).map(drop)),
    (Call::ListDisputes, |shop| {
        let of = ("payment_intent", &id("pi_1"));
        shop.api.list(Call::ListDisputes, of).map(drop)
    }),
    (Call::ListFraudWarnings, |shop| {
        let of = ("payment_intent", &id("pi_1"));
        shop.api.list(Call::ListFraudWarnings, of).map(drop)
    }),
    (Call::ListInvoicePayments, |shop| {
        let of = ("invoice", &id("in_1"));
        shop.api.list(Call::ListInvoicePayments, of).map(drop)
    }),
    (Call::ListEndpoints, |shop| {
        shop.api.webhook_endpoints().map(drop)
    }),
];

fn read(shop: &Shop, call: Call) -> Result<(), StripeError> {
    shop.api.read(call, &id("any_1")).map(drop)
}

fn refunds(shop: &Shop) -> Result<Vec<Fetched>, StripeError> {
    let of = ("payment_intent", &id("pi_1"));
    shop.api.list(Call::ListRefunds, of)
}

/// A client and its Stripe.
struct Shop {
    stripe: FakeStripe,
    api: StripeApi,
    pauses: Arc<Mutex<Vec<Duration>>>,
}

impl Shop {
    fn open() -> Shop {
        Shop::with(&[])
    }

    /// Pauses take no time, and are noted.
    fn with(variables: &[(&str, &str)]) -> Shop {
        let stripe = FakeStripe::start();
        let pauses = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&pauses);
        let pause = move |pause| noted.lock().unwrap().push(pause);
        let settings = settings(&stripe.base(), variables);
        let api = StripeApi::pausing_with(&settings, Box::new(pause)).unwrap();
        Shop {
            stripe,
            api,
            pauses,
        }
    }

    fn with_real_pauses() -> Shop {
        let stripe = FakeStripe::start();
        let settings = settings(&stripe.base(), &[("STRIPE_API_TIMEOUT_SECONDS", "1")]);
        let api = StripeApi::new(&settings).unwrap();
        Shop {
            stripe,
            api,
            pauses: Arc::default(),
        }
    }

    fn create(&self, idempotency_key: &str) -> Result<Fetched, StripeError> {
        let (order, lines) = (order("ord_1"), lines());
        self.api
            .create_session(&new_session(&order, &lines), &key(idempotency_key))
    }
}

fn settings(base: &str, variables: &[(&str, &str)]) -> StripeConfig {
    let fixed = [("STRIPE_SECRET_KEY", KEY), ("STRIPE_API_BASE", base)];
    let vars: BTreeMap<String, String> = fixed
        .iter()
        .chain(variables)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    StripeConfig::parse(&vars, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap()
}

/// With pauses that take no time.
fn api(base: &str, variables: &[(&str, &str)]) -> StripeApi {
    StripeApi::pausing_with(&settings(base, variables), Box::new(|_| {})).unwrap()
}

fn order(text: &str) -> OrderId {
    OrderId::parse(text).unwrap()
}

fn id(text: &str) -> StripeId {
    StripeId::parse(text).unwrap()
}

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::parse(text).unwrap()
}

fn lines() -> [Line; 2] {
    let amount = Money {
        minor: 1250,
        currency: "eur".into(),
    };
    let name = "Café & thé + 100 %".into();
    [
        Line {
            item: Item::Named { name, amount },
            quantity: 2,
        },
        Line {
            item: Item::Price(id("price_1Tea")),
            quantity: 1,
        },
    ]
}

fn new_session<'a>(order: &'a OrderId, lines: &'a [Line]) -> NewSession<'a> {
    static NOTE: std::sync::LazyLock<[(Box<str>, Box<str>); 1]> =
        std::sync::LazyLock::new(|| [("note".into(), "à & b".into())]);
    static READING: std::sync::LazyLock<Reading> = std::sync::LazyLock::new(Reading::default);
    NewSession {
        order,
        lines,
        reading: &READING,
        metadata: &*NOTE,
        success_url: "https://shop.example.com/thanks?session_id={CHECKOUT_SESSION_ID}",
        cancel_url: Some("https://shop.example.com/cart"),
        expires_at: None,
    }
}

fn same(requests: &[Recorded]) -> bool {
    let key = |request: &Recorded| request.header("idempotency-key").map(str::to_owned);
    requests.windows(2).all(|two| {
        (key(&two[0]), &two[0].path, &two[0].form) == (key(&two[1]), &two[1].path, &two[1].form)
    })
}

fn unix_now() -> i64 {
    paidup::host::clock::unix_millis().div_euclid(1000)
}

fn read_delivery(stream: &mut std::net::TcpStream) -> (String, String) {
    let mut text = String::new();
    let mut part = [0; 4096];
    loop {
        let length = stream.read(&mut part).unwrap();
        text.push_str(std::str::from_utf8(&part[..length]).unwrap());
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() == length.unwrap().parse::<usize>().unwrap() {
                return (head.to_owned(), body.to_owned());
            }
        }
    }
}
