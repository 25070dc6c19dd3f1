//! The world, held against the cases that were collected by hand: each is a life in it, with at
//! least the events that the case has, and what the case says is right comes out of its ledgers.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::story::{Move, happen};
use crate::stripe::{BEGIN, Habits, Kind, Method, Part, WHOLE, World};
use crate::truth::{check_sanity, expected};

const FIFTH: i64 = WHOLE / 5;
const THIRD: i64 = WHOLE / 3;

#[test]
fn every_case_is_a_life_in_the_world_and_its_right_end_comes_out() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cases");
    let mut names = BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let case: Value = serde_json::from_str(&text).unwrap();
        let name = case["name"].as_str().unwrap();
        check(&case, &life(name));
        names.insert(name.to_owned());
    }
    assert_eq!(names.len(), 37, "{names:?}");
}

fn check(case: &Value, life: &[Move]) {
    let name = &case["name"];
    let habits = Habits {
        old: false,
        reference: true,
        pending_counts: true,
        release_told: true,
        failed_says_captured: true,
        steps_told: true,
        expiry_cancels: false,
        twins: false,
        pays_outside: true,
    };
    let mut world = World::new("c", habits, BEGIN);
    for step in life {
        assert!(happen(&mut world, *step), "{name}: {step:?}");
        world.now += 60;
    }
    check_sanity(&world);

    let emitted: BTreeSet<&str> = world
        .events
        .iter()
        .map(|event| event.kind.as_str())
        .collect();
    for event in case["events"].as_array().unwrap() {
        let kind = event["type"].as_str().unwrap();
        assert!(
            emitted.contains(kind),
            "{name}: {kind} is not among {emitted:?}"
        );
    }

    // In the sequence in which they began; the case may leave out the first ones.
    let right = expected(&world);
    for absent in case["absent"].as_array().into_iter().flatten() {
        assert!(!right.contains_key(absent.as_str().unwrap()), "{name}");
    }
    assert_eq!(right.is_empty(), case["orders"] == json!({}), "{name}");
    let all: Vec<_> = world
        .sales
        .iter()
        .map(|sale| (&sale.name, &right[&sale.name]))
        .collect();
    let wanted: Vec<(&String, &Value)> = case["orders"].as_object().unwrap().iter().collect();
    let begun = |wanted: &(&String, &Value)| {
        let text = case["events"].to_string();
        // An order of the shop's is named where it begins; one of Stripe's is the object itself.
        text.find(&format!("\"{}\"", wanted.0))
    };
    let mut wanted = wanted;
    wanted.sort_by_key(begun);
    assert!(all.len() >= wanted.len(), "{name}: {all:?}");
    let all = &all[all.len() - wanted.len()..];
    for ((ours, right), (theirs, wanted)) in all.iter().zip(wanted) {
        let is_same = right.status.len() == 1
            && right
                .status
                .iter()
                .all(|status| wanted["status"] == *status)
            && wanted["amount"] == right.amount
            && wanted["amountRefunded"] == right.refunded
            && wanted["dispute"] == right.dispute
            && wanted["flags"] == json!(right.flags)
            && (wanted["amountDisputed"].is_null()
                || wanted["amountDisputed"] == json!(right.disputed))
            && wanted["reference"].is_null() == right.reference.is_none();
        assert!(is_same, "{name}: {ours} is {right:?}, {theirs} is {wanted}");
        assert!(
            !right.may_be_absent || wanted["status"] == "pending",
            "{name}"
        );
    }
}

fn life(case: &str) -> Vec<Move> {
    use Method::{Card, Debit, Hold, Voucher};
    let referred = |method| Move::Sell(Kind::Referred(method), 2500, false);
    let named = |method| Move::Sell(Kind::Named(method), 2500, false);
    let pay = Move::Pay(0);
    let capture = |part| Move::Capture(0, part);
    let refund = |share| Move::Refund(0, share, "succeeded");
    let subscribe = |trial| {
        let method = Card;
        Move::Sell(Kind::Subscription { trial, method }, 1500, false)
    };
    let by_hand = |named| {
        Move::Sell(
            Kind::Invoice {
                named,
                method: Card,
            },
            2500,
            false,
        )
    };
    let alone = |method| {
        Move::Sell(
            Kind::Intent {
                named: true,
                method,
            },
            2500,
            false,
        )
    };
    let held = |more: &[Move]| [&[referred(Hold), pay], more].concat();
    let paid = |more: &[Move]| [&[referred(Card), pay], more].concat();
    match case {
        "authorized" => held(&[]),
        "captured_in_full" => held(&[capture(Part::All)]),
        "captured_in_part" | "captured_in_part_asked" => held(&[capture(Part::Most)]),
        "captured_in_part_then_refunded_in_part" => held(&[capture(Part::Most), refund(THIRD)]),
        "captured_in_part_then_refunded_in_full" => held(&[capture(Part::Most), refund(WHOLE)]),
        "captured_in_steps" => held(&[capture(Part::Step), capture(Part::All)]),
        "captured_more" => held(&[capture(Part::Tip)]),
        "refund_before_charge_refunded" => held(&[capture(Part::All), refund(FIFTH)]),
        "released" | "released_asked" => held(&[Move::Release(0, false)]),
        "debit_failed" | "debit_failed_asked" => vec![referred(Debit), pay, Move::Fail(0)],
        "debit_in_flight_asked" => vec![referred(Debit), pay],
        "debit_without_session" => vec![alone(Debit), pay],
        "declined_then_asked" => vec![alone(Card), Move::Decline(0)],
        "failed_after_paid" => vec![referred(Debit), pay, Move::Settle(0), Move::ComeBack(0)],
        "second_try_after_failed_debit" => vec![
            referred(Debit),
            pay,
            Move::Fail(0),
            Move::SellAgain(0, Debit),
            Move::Pay(1),
        ],
        "second_try_after_cancel" => vec![
            referred(Voucher),
            pay,
            Move::Cancel(0),
            Move::SellAgain(0, Debit),
            Move::Pay(1),
        ],
        "dispute_lost_in_part" => {
            paid(&[Move::Dispute(0, FIFTH, false), Move::DisputeGoesOn(0, 0, 1)])
        }
        "dispute_lost_asked" => {
            paid(&[Move::Dispute(0, WHOLE, false), Move::DisputeGoesOn(0, 0, 1)])
        }
        "dispute_won" => paid(&[Move::Dispute(0, WHOLE, false), Move::DisputeGoesOn(0, 0, 3)]),
        "fraud_warning_and_review" => paid(&[Move::Review(0), Move::Warn(0)]),
        "review_closed" => paid(&[Move::Review(0), Move::Review(0)]),
        "customer_as_reference" => vec![
            Move::Sell(Kind::Customer(Card), 2500, false),
            pay,
            Move::Sell(Kind::Customer(Card), 1500, false),
            Move::Pay(1),
            refund(WHOLE),
        ],
        "double_payment_kept" => vec![named(Card), pay, Move::SellAgain(0, Card), Move::Pay(1)],
        "double_payment_one_back" => vec![
            named(Card),
            pay,
            Move::SellAgain(0, Card),
            Move::Pay(1),
            Move::Refund(1, WHOLE, "succeeded"),
        ],
        "payment_link_metadata" => vec![
            Move::Sell(Kind::Link { own: true }, 2500, false),
            pay,
            Move::Sell(Kind::Link { own: true }, 2500, true),
            Move::Pay(1),
            Move::Refund(1, WHOLE, "succeeded"),
        ],
        "payment_link_reference" => vec![
            named(Debit),
            pay,
            Move::Sell(Kind::Link { own: false }, 100, false),
            Move::Pay(1),
        ],
        "invoice_by_hand" => vec![by_hand(true), pay],
        "invoice_voided" => vec![by_hand(false), Move::EndInvoice(0, 1)],
        "setup_session" => vec![Move::Sell(Kind::Setup, 0, false), pay],
        "subscription_first_invoice_refunded" => vec![subscribe(false), pay, refund(WHOLE)],
        "subscription_first_invoice_disputed" => {
            vec![subscribe(false), pay, Move::Dispute(0, WHOLE, false)]
        }
        "subscription_renewal" => vec![
            subscribe(false),
            pay,
            Move::Renew(0, 0),
            Move::Refund(1, THIRD, "succeeded"),
        ],
        "subscription_renewal_fails" => {
            vec![
                subscribe(false),
                pay,
                Move::Renew(0, 1),
                Move::EndInvoice(1, 0),
            ]
        }
        "subscription_with_trial" => vec![subscribe(true), pay],
        other => panic!("{other}: which life is this?"),
    }
}
