//! The stand-in for Stripe and our client, held against Stripe's own libraries and command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use paidup::base::id::{IdempotencyKey, OrderId, StripeId, UnixSeconds};
use paidup::config::stripe::StripeConfig;
use paidup::stripe::client::{EventsQuery, NewEndpoint, NewSession, StripeApi};
use paidup::stripe::error::Call;
use paidup::truth::money::Money;
use paidup::truth::new_order::{Item, Line};
use paidup::truth::reading::Reading;
use serde_json::{Value, json};

use crate::fake_stripe::{FakeStripe, Fault, KEY, Recorded};
use crate::tools;

#[test]
fn our_requests_are_those_of_stripes_own_libraries_field_for_field() {
    let expires_at = now() + 3600;
    let [node, python, ours] = [(); 3].map(|()| Shop::open());
    let node_learned = ask(node_js, &node.stripe, "calls", node.input(expires_at));
    let python_learned = ask(python_py, &python.stripe, "calls", python.input(expires_at));
    ours.call_everything(expires_at);

    let comparable = |shop: &Shop| -> Vec<Comparable> {
        shop.stripe.requests().iter().map(Comparable::of).collect()
    };
    let (node_sent, python_sent) = (comparable(&node), comparable(&python));
    assert_eq!(node_sent.len(), 11);
    assert_eq!(comparable(&ours), node_sent);
    assert_eq!(python_sent, node_sent);

    assert_eq!(node_learned, python_learned);
    assert_eq!(node_learned["session"][1], "open");
    assert_eq!(node_learned["session"][2], 2800);
    assert_eq!(node_learned["session"][0], node_learned["session"][3]);
    assert_eq!(node_learned["payment"][1], "succeeded");
    assert_eq!(node_learned["payment"][3], 500);
    assert_eq!(
        node_learned["endpoint"],
        json!(["https://shop.example.com/stripe", "enabled"])
    );
    // The secret is told once.
    assert_eq!(
        node_learned["made"],
        json!([
            "whsec_",
            "2026-10-28.endive",
            ["checkout.session.completed", "charge.refunded"],
            null,
            ["*"],
            "enabled",
            true
        ])
    );
    let lengths: Vec<usize> = node_learned["lists"]
        .as_array()
        .unwrap()
        .iter()
        .map(|list| list.as_array().unwrap().len())
        .collect();
    assert_eq!(lengths, [2, 2, 1, 1]);
}

/// A subscription's first invoice, part of it given back, contested, under review and warned of;
/// beside it a hold of which a part was captured.
#[test]
fn stripes_own_libraries_find_all_that_belongs_to_a_payment() {
    let stripe = FakeStripe::start();
    let session = stripe.create_session("ord_1", 1500);
    let invoice = stripe.subscribe(&session);
    let renewal = stripe.renew(&session, false);
    let refund = stripe.refund(&session, Some(500));
    let dispute = stripe.open_dispute(&session);
    let review = stripe.open_review(&session);
    let warning = stripe.warn_of_fraud(&session);
    let held = stripe.create_session("ord_2", 2500);
    stripe.hold(&held);
    stripe.capture(&held, Some(1500));
    let newest = |kind: &str| stripe.objects(kind)[0].clone();
    let (charge, hold) = (stripe.objects("charge")[1].clone(), newest("charge"));
    let intent = &charge["payment_intent"];
    let of_invoice = |invoice: &str| {
        let mut payments = stripe.objects("invoice_payment").into_iter();
        payments
            .find(|payment| payment["invoice"] == invoice)
            .unwrap()["id"]
            .clone()
    };
    let input = json!({
        "invoice": invoice, "intent": intent, "charge": charge["id"], "review": review,
        "open_invoice": renewal, "held": hold["id"],
    });
    for run in [node_js, python_py] {
        let learned = ask(run, &stripe, "objects", input.clone());
        let expected = json!({
            "lists": [[of_invoice(&invoice)], [dispute], [dispute], [refund], [charge["id"]],
                      [warning], [of_invoice(&renewal)], [newest("refund")["id"]]],
            "payment": intent,
            "invoice": ["paid", 1500, 1500, "subscription_create",
                        stripe.object(&session)["subscription"]],
            "charge": ["succeeded", true, 1500, 500],
            "held": ["succeeded", true, 1500, 1000],
            "review": [true, "rule", intent],
            "nobody": ["resource_missing", "charge"],
        });
        assert_eq!(learned, expected);
    }
}

#[test]
fn stripes_own_libraries_page_through_every_event_in_both_directions() {
    let stripe = FakeStripe::start();
    for number in 0..90 {
        stripe.pay(&stripe.create_session(&format!("ord_{number}"), 2500));
    }
    let ids: Vec<String> = stripe.events().into_iter().map(|event| event.id).collect();
    let newest_first: Vec<&String> = ids.iter().rev().collect();
    for run in [node_js, python_py] {
        let learned = ask(run, &stripe, "pages", json!({"oldest": ids[0]}));
        assert_eq!(learned["older"], json!(newest_first));
        assert_eq!(learned["newer"], json!(ids[1..]));
    }
}

#[test]
fn each_failure_is_the_error_that_stripes_own_libraries_have_for_it() {
    let faults = [
        (
            Fault::Status(400),
            "StripeInvalidRequestError",
            "InvalidRequestError",
        ),
        (
            Fault::Status(401),
            "StripeAuthenticationError",
            "AuthenticationError",
        ),
        (Fault::Status(402), "StripeCardError", "CardError"),
        (
            Fault::Status(403),
            "StripePermissionError",
            "PermissionError",
        ),
        (
            Fault::Status(404),
            "StripeInvalidRequestError",
            "InvalidRequestError",
        ),
        (Fault::Status(429), "StripeRateLimitError", "RateLimitError"),
        (Fault::Status(500), "StripeAPIError", "APIError"),
        (Fault::Html(502), "StripeAPIError", "APIError"),
        (Fault::Text("{}".to_owned()), "none", "none"),
    ];
    let (of_node, of_python): (Vec<&str>, Vec<&str>) = faults
        .iter()
        .map(|(_, node, python)| (*node, *python))
        .unzip();
    let runs: [(Run, Vec<&str>); 2] = [(node_js, of_node), (python_py, of_python)];
    for (run, expected) in runs {
        let stripe = FakeStripe::start();
        for (fault, _, _) in &faults {
            stripe.fault(1, fault.clone());
        }
        let learned = ask(run, &stripe, "failures", json!({"count": faults.len()}));
        assert_eq!(learned, json!(expected));
    }
    let runs: [(Run, &str, &str); 2] = [
        (
            node_js,
            "StripeIdempotencyError",
            "StripeInvalidRequestError",
        ),
        (python_py, "IdempotencyError", "InvalidRequestError"),
    ];
    for (run, refused, invalid) in runs {
        let shop = Shop::open();
        let learned = ask(run, &shop.stripe, "key_reused", json!({}));
        let unknown = json!([invalid, "parameter_unknown", "payment_method_types"]);
        assert_eq!(
            learned,
            json!({"same": true, "refused": refused, "unknown": unknown})
        );
    }
}

#[test]
fn we_try_again_where_stripes_own_libraries_do() {
    let faults: [(Fault, u32); 10] = [
        (Fault::Status(400), 1),
        (Fault::Status(404), 1),
        (Fault::Status(409), 3),
        (Fault::Status(500), 3),
        (Fault::Html(502), 3),
        (Fault::Html(200), 1),
        (Fault::Drop, 3),
        (Fault::Advised(400, true), 3),
        (Fault::Advised(409, false), 1),
        (Fault::Advised(500, false), 1),
    ];
    // A library that tries more or less often than planned meets the fault of another call.
    let planned = || {
        let stripe = FakeStripe::start();
        for (fault, requests) in &faults {
            stripe.fault(*requests, fault.clone());
        }
        stripe
    };
    let expected: Vec<u32> = faults.iter().map(|(_, requests)| *requests).collect();
    for run in [node_js, python_py] {
        let stripe = planned();
        ask(
            run,
            &stripe,
            "failures",
            json!({"count": faults.len(), "retries": 2}),
        );
        // The scripts number their calls by the limit.
        let mut sent: BTreeMap<usize, u32> = BTreeMap::new();
        for request in stripe.requests() {
            let number = request.field("limit").unwrap().parse().unwrap();
            *sent.entry(number).or_default() += 1;
        }
        assert_eq!(sent.into_values().collect::<Vec<u32>>(), expected);
    }
    let stripe = planned();
    let api = our_client(&stripe);
    let query = EventsQuery::default();
    let sent = faults.map(|_| api.events(&query).unwrap_err().attempts);
    assert_eq!(sent[..], expected);
}

#[test]
fn stripes_own_command_line_reads_the_events() {
    let stripe = FakeStripe::start();
    let session = stripe.create_session("ord_1", 2500);
    stripe.pay(&session);
    let list = command_line(&stripe, "/v1/events");
    let ids: Vec<&Value> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["id"])
        .collect();
    let logged = stripe.events();
    let expected: Vec<&String> = logged.iter().rev().map(|event| &event.id).collect();
    assert_eq!(json!(ids), json!(expected));

    let object = command_line(&stripe, &format!("/v1/checkout/sessions/{session}"));
    assert_eq!(object["payment_status"], "paid");
}

type Run = fn(&str) -> String;

fn node_js(input: &str) -> String {
    let packages = tools::npm("stripe", "23.1.0").join("node_modules");
    let mut node = Command::new("node");
    node.arg(here("stripe_client.js"))
        .env("NODE_PATH", packages);
    text_of(node, input)
}

fn python_py(input: &str) -> String {
    let packages = tools::pypi("stripe", "16.1.0");
    let mut python = Command::new("python3");
    python
        .arg(here("stripe_client.py"))
        .env("PYTHONPATH", packages);
    text_of(python, input)
}

fn command_line(stripe: &FakeStripe, path: &str) -> Value {
    let folder = tools::npm("@stripe/cli", "1.52.0");
    let mut cli = Command::new(folder.join("node_modules/.bin/stripe"));
    cli.args(["get", path, "--api-base", &stripe.base(), "--api-key", KEY])
        .env("STRIPE_CLI_TELEMETRY_OPTOUT", "1")
        .env("XDG_CONFIG_HOME", folder.join("config"));
    serde_json::from_str(&text_of(cli, "")).unwrap()
}

fn text_of(command: Command, input: &str) -> String {
    let output = tools::run(command, input);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn here(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/peers")
        .join(script)
}

/// What `run` learns from the stand-in in a task of the scripts.
fn ask(run: Run, stripe: &FakeStripe, task: &str, mut input: Value) -> Value {
    input["task"] = json!(task);
    input["base"] = json!(stripe.base());
    input["key"] = json!(KEY);
    serde_json::from_str(&run(&input.to_string())).unwrap()
}

/// What must be the same in a request, whoever sends it.
#[derive(Debug, PartialEq, Eq)]
struct Comparable {
    call: String,
    form: BTreeMap<String, String>,
    authorization: Option<String>,
    version: Option<String>,
    idempotency_key: Option<String>,
    /// Of a POST; a GET has no content, though stripe-node names a type for it.
    content_type: Option<String>,
}

impl Comparable {
    fn of(request: &Recorded) -> Comparable {
        let header = |name: &str| request.header(name).map(str::to_owned);
        let form: BTreeMap<String, String> = request.form.iter().cloned().collect();
        assert_eq!(form.len(), request.form.len(), "a field came twice");
        Comparable {
            call: format!("{} {}", request.method, request.path),
            form,
            authorization: header("authorization"),
            version: header("stripe-version"),
            idempotency_key: header("idempotency-key"),
            content_type: header("content-type").filter(|_| request.method == "POST"),
        }
    }
}

/// A stand-in with a history. Its ids are the same each time.
struct Shop {
    stripe: FakeStripe,
    intent: String,
    charge: String,
    event: String,
}

impl Shop {
    fn open() -> Shop {
        let stripe = FakeStripe::start();
        stripe.add_price("price_1Tea", 300, "eur");
        stripe.add_endpoint("https://shop.example.com/stripe", &["*"]);
        let session = stripe.create_session("ord_0", 2500);
        stripe.pay(&session);
        stripe.refund(&session, Some(500));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let intent = text(&stripe.object(&session)["payment_intent"]);
        let charge = text(&stripe.object(&intent)["latest_charge"]);
        let event = stripe.events()[2].id.clone();
        Shop {
            stripe,
            intent,
            charge,
            event,
        }
    }

    fn input(&self, expires_at: i64) -> Value {
        json!({
            "expires_at": expires_at, "created_from": CREATED_FROM,
            "event": self.event, "intent": self.intent, "charge": self.charge,
        })
    }

    /// What the scripts do in `calls`, by our client.
    fn call_everything(&self, expires_at: i64) {
        let api = our_client(&self.stripe);
        let id = |text: &str| StripeId::parse(text).unwrap();
        let amount = Money {
            minor: 1250,
            currency: "eur".into(),
        };
        let name = "Café & thé + 100 %".into();
        let lines = [
            Line {
                item: Item::Named { name, amount },
                quantity: 2,
            },
            Line {
                item: Item::Price(id("price_1Tea")),
                quantity: 1,
            },
        ];
        let session = NewSession {
            order: &OrderId::parse("ord_1").unwrap(),
            lines: &lines,
            reading: &Reading::default(),
            metadata: &[("note".into(), "à & b".into())],
            success_url: "https://shop.example.com/thanks?session_id={CHECKOUT_SESSION_ID}",
            cancel_url: Some("https://shop.example.com/cart"),
            expires_at: Some(UnixSeconds(expires_at)),
        };
        let key = IdempotencyKey::parse("k1").unwrap();
        let made = api.create_session(&session, &key).unwrap();
        api.read(Call::ReadSession, &made.id).unwrap();
        let event = id(&self.event);
        let filtered = EventsQuery {
            types: &["checkout.session.completed", "charge.succeeded"],
            created_from: Some(UnixSeconds(CREATED_FROM)),
            delivery_success: Some(false),
            ..EventsQuery::default()
        };
        let older = EventsQuery {
            starting_after: Some(&event),
            ..EventsQuery::default()
        };
        for query in [filtered, older] {
            api.events(&query).unwrap();
        }
        let intent = id(&self.intent);
        let of = ("payment_intent", &intent);
        api.list(Call::ListRefunds, of).unwrap();
        api.read(Call::ReadIntent, &intent).unwrap();
        api.read(Call::ReadCharge, &id(&self.charge)).unwrap();
        api.webhook_endpoints().unwrap();
        let endpoint = NewEndpoint {
            url: "https://shop.example.com/stripe/webhook",
            enabled_events: &["checkout.session.completed", "charge.refunded"],
            description: "à & b",
        };
        let key = |text: &str| IdempotencyKey::parse(text).unwrap();
        let made = api.create_endpoint(&endpoint, &key("k2")).unwrap();
        api.update_endpoint(&made.id, &["*"], &key("k3")).unwrap();
        api.delete_endpoint(&made.id).unwrap();
    }
}

const CREATED_FROM: i64 = 1_790_000_000;

fn our_client(stripe: &FakeStripe) -> StripeApi {
    let vars = [
        ("STRIPE_SECRET_KEY", KEY),
        ("STRIPE_API_BASE", &stripe.base()),
    ];
    let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let no_file = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let settings = StripeConfig::parse(&BTreeMap::from(vars), &no_file).unwrap();
    StripeApi::pausing_with(&settings, Box::new(|_: Duration| {})).unwrap()
}

fn now() -> i64 {
    paidup::host::clock::unix_millis().div_euclid(1000)
}
