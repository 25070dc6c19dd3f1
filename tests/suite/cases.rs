//! Small cases of what really happens to money, each with its one right end
//! (`tests/fixtures/cases` and `more_cases`): told in every order or in 200 of them, with repetitions,
//! and asked for.

use std::collections::BTreeSet;
use std::path::Path;

use paidup::base::id::{StripeId, UnixSeconds};
use paidup::store::Store;
use paidup::store::json::order_json;
use paidup::truth::delivery::Delivery;
use paidup::truth::event::{Event, Meaning};
use paidup::truth::fact::Fact;
use paidup::truth::reading::Reading;
use serde_json::{Value, json};

/// Orders of arrival that are tried of a case with more than 120.
const SHUFFLES: u64 = 200;

#[test]
fn every_case_has_its_one_right_end_in_any_order_with_repetitions() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("paidup.db")).unwrap();
    let mut run = 0;
    let mut wrong = Vec::new();
    for (name, case) in cases() {
        let count = case["events"].as_array().unwrap().len();
        for order in orders_of_arrival(count) {
            run += 1;
            let case = renamed(&case, run);
            if let Err(problem) = tell(&mut store, &case, &order) {
                wrong.push(format!("{name} {order:?}: {problem}"));
                break;
            }
        }
    }
    assert_eq!(store.disagreements().unwrap(), Vec::<String>::new(), "S4");
    assert!(
        wrong.is_empty(),
        "{} of {run}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn two_thousand_payments_of_one_order_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("paidup.db")).unwrap();
    let session = |number: usize| {
        json!({"id": format!("evt_{number}"), "object": "event", "type": "checkout.session.completed",
               "created": 1_794_000_000 + number, "livemode": true, "data": {"object": {
                   "id": format!("cs_live_{number}"), "object": "checkout.session", "mode": "payment",
                   "status": "complete", "payment_status": "paid", "amount_total": 100, "currency": "eur",
                   "client_reference_id": "campaign", "payment_intent": format!("pi_{number}")}}})
    };
    let deliveries: Vec<Delivery> = (0..2_000)
        .map(|number| delivery(&session(number)))
        .collect();
    for batch in deliveries.chunks(100) {
        for receipt in store.record(batch).unwrap() {
            receipt.unwrap();
        }
    }
    let order = store.order("campaign").unwrap().unwrap();
    assert_eq!((order.state.amount, order.state.refunded), (200_000, 0));
    let refund = json!({"id": "evt_re", "type": "refund.created", "created": 1_795_000_000, "livemode": true,
        "data": {"object": {"id": "re_1", "object": "refund", "amount": 100, "status": "succeeded",
                            "payment_intent": "pi_7", "created": 1_795_000_000}}});
    store.record(&[delivery(&refund)]).unwrap();
    let order = store.order("campaign").unwrap().unwrap();
    assert_eq!(
        (order.state.amount, order.state.refunded),
        (199_900, 0),
        "the one that was given back in full does not count"
    );
    assert_eq!(store.disagreements().unwrap(), Vec::<String>::new(), "S4");
}

#[test]
fn a_hold_is_told_by_the_intent_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("paidup.db")).unwrap();
    let (_, mut case) = cases()
        .into_iter()
        .find(|(name, _)| name == "authorized")
        .unwrap();
    let events = case["events"].as_array_mut().unwrap();
    events.retain(|event| !event["type"].as_str().unwrap().starts_with("charge."));
    for (run, order) in orders_of_arrival(events.len()).into_iter().enumerate() {
        assert_eq!(
            tell(&mut store, &renamed(&case, run), &order),
            Ok(()),
            "{order:?}"
        );
    }
}

/// Delivers the events of a case in this order, some of them again, asks for what is to be asked, and
/// compares.
fn tell(store: &mut Store, case: &Value, order: &[usize]) -> Result<(), String> {
    let events = case["events"].as_array().unwrap();
    let again = order.iter().filter(|index| **index % 2 == 0);
    for index in order.iter().chain(again) {
        let receipts = store.record(&[delivery(&events[*index])]).unwrap();
        receipts.into_iter().next().unwrap().unwrap();
    }
    let stripe = &case["stripe"];
    for list in ["objects", "refunds", "disputes", "invoice_payments"] {
        for object in stripe[list].as_array().into_iter().flatten() {
            let receipts = store.record(&[fetched(object)]).unwrap();
            receipts.into_iter().next().unwrap().unwrap();
        }
    }
    for (name, wanted) in case["orders"].as_object().unwrap() {
        let Some(found) = store.order(name).unwrap() else {
            return Err(format!("there is no order {name}"));
        };
        let found = order_json(&found, None);
        for (field, wanted) in wanted.as_object().unwrap() {
            if found[field] != *wanted {
                return Err(format!("{name}: {field} is {}, not {wanted}", found[field]));
            }
        }
        if found["orderId"] != *name {
            return Err(format!("{name} is called {}", found["orderId"]));
        }
    }
    for name in case["absent"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap();
        if store.order(name).unwrap().is_some() {
            return Err(format!("there is an order {name}"));
        }
    }
    Ok(())
}

fn cases() -> Vec<(String, Value)> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let files = ["cases", "more_cases"]
        .into_iter()
        .flat_map(|folder| std::fs::read_dir(fixtures.join(folder)).unwrap());
    let mut cases: Vec<(String, Value)> = files
        .map(|entry| {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let case: Value = serde_json::from_str(&text).unwrap();
            (case["name"].as_str().unwrap().to_owned(), case)
        })
        .collect();
    cases.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(cases.len() >= 44, "{}", cases.len());
    cases
}

fn delivery(event: &Value) -> Delivery {
    let event = Event::from_json(&event.to_string(), &Reading::default()).unwrap();
    Delivery {
        event,
        sha256: [7; 32],
        request_id: None,
        received: UnixSeconds(1_800_000_000),
    }
}

fn fetched(object: &Value) -> Delivery {
    let at = UnixSeconds(1_799_000_000);
    let fact = Fact::from_object(&object.to_string(), at, &Reading::default()).unwrap();
    let id = format!("fetched_{}", fact.id.as_str());
    Delivery {
        event: Event {
            id: StripeId::parse(&id).unwrap(),
            kind: "paidup.fetched".into(),
            created: Some(at),
            api_version: None,
            mode: fact.mode,
            meaning: Meaning::Fact(Box::new(fact)),
        },
        sha256: [7; 32],
        request_id: None,
        received: UnixSeconds(1_800_000_000),
    }
}

/// The case with ids and order names of its own, so that all runs fit into one file.
fn renamed(case: &Value, run: usize) -> Value {
    let mut names = BTreeSet::new();
    for (name, wanted) in case["orders"].as_object().unwrap() {
        names.insert(name.clone());
        names.extend(wanted["reference"].as_str().map(str::to_owned));
    }
    let absent = case["absent"].as_array().into_iter().flatten();
    names.extend(absent.map(|name| name.as_str().unwrap().to_owned()));
    let rename = |text: &str| {
        if text.contains("pub") || text.starts_with("evt_") || names.contains(text) {
            format!("{text}x{run}")
        } else {
            text.to_owned()
        }
    };
    each_text(case, &rename)
}

fn each_text(value: &Value, change: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(values) => values
            .iter()
            .map(|value| each_text(value, change))
            .collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (change(name), each_text(value, change)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Every order of so many events, or 200 of them.
fn orders_of_arrival(count: usize) -> Vec<Vec<usize>> {
    if count <= 5 {
        let mut orders = vec![Vec::new()];
        for next in 0..count {
            let longer = |order: &Vec<usize>| {
                let order = order.clone();
                (0..=order.len()).map(move |place| {
                    let mut order = order.clone();
                    order.insert(place, next);
                    order
                })
            };
            orders = orders.iter().flat_map(longer).collect();
        }
        return orders;
    }
    let mut seed: u64 = 1;
    let shuffled = |_| {
        let mut order: Vec<usize> = (0..count).collect();
        for index in (1..count).rev() {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            order.swap(index, usize::try_from(seed >> 33).unwrap() % (index + 1));
        }
        order
    };
    (0..SHUFFLES).map(shuffled).collect()
}
