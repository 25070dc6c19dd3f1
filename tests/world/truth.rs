//! What is right, read off the ledgers of the world: money that was really held, taken, given back
//! and lost. No rule of paidup's is used.

use std::collections::{BTreeMap, BTreeSet};

use crate::stripe::{Payment, Standing, World};

/// What must be said of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Any of them. More than one only where what was told does not tell one from the other, and
    /// while a page is open that nobody has told of.
    pub status: BTreeSet<&'static str>,
    /// Nothing that names it may have been told.
    pub may_be_absent: bool,
    /// Nothing that tells the amount may have been told.
    pub is_untold: bool,
    pub amount: i64,
    pub refunded: i64,
    /// Of that, on its way.
    pub pending: Option<i64>,
    pub dispute: &'static str,
    /// None where an open inquiry holds nothing yet, or only a payment that does not count is
    /// disputed.
    pub disputed: Option<i64>,
    pub flags: BTreeSet<&'static str>,
    /// Flags that may be there: what they need may not have been told.
    pub perhaps: BTreeSet<&'static str>,
    pub reference: Option<String>,
}

/// What paidup says of an order; None where this paidup does not say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub status: String,
    pub amount: i64,
    pub refunded: i64,
    pub pending: Option<i64>,
    pub dispute: String,
    pub disputed: Option<i64>,
    pub flags: BTreeSet<String>,
    pub reference: Option<Option<String>>,
}

/// Every order that there must be.
pub fn expected(world: &World) -> BTreeMap<String, Expected> {
    let mut orders = BTreeMap::new();
    for (number, sale) in world.sales.iter().enumerate() {
        let of_sale = world.payments.iter().filter(|p| p.sale == Some(number));
        let payments: Vec<&Payment> = of_sale.collect();
        let is_told = |payment: &&&Payment| payment.told;
        let mut one = of_money(&payments, sale.asked);
        // Where no event tells of a refund, nothing says that it is on its way.
        one.pending = one.pending.filter(|_| !world.habits.old);
        one.reference.clone_from(&sale.reference);
        one.is_untold = payments.iter().filter(is_told).count() == 0;
        one.may_be_absent = one.is_untold && !sale.is_asked_for;
        let strangers = world.payments.iter().filter(|stranger| {
            let of = stranger.sale.map(|sale| &world.sales[sale]);
            let is_stranger = stranger.sale == Some(number) && sale.stands_for.is_some();
            is_stranger || of.is_some_and(|of| of.stands_for == Some(number))
        });
        for stranger in strangers {
            let flags = if stranger.told {
                &mut one.flags
            } else {
                &mut one.perhaps
            };
            flags.insert("name_conflict");
        }
        for payment in &payments {
            let is_open = payment.review.as_ref().is_some_and(|review| review.open);
            one.flags.extend(is_open.then_some("in_review"));
            one.flags
                .extend(payment.warning.is_some().then_some("fraud_warning"));
            one.flags
                .extend(payment.ledger.came_back.then_some("failed_after_paid"));
        }
        if sale.conflict {
            let is_whole = |p: &&Payment| p.is_completed() && p.good().is_some();
            let is_whole = payments.iter().any(is_whole);
            let flags = if is_whole {
                &mut one.flags
            } else {
                &mut one.perhaps
            };
            flags.insert("name_conflict");
        }
        orders.insert(sale.name.clone(), one);
    }
    orders
}

fn of_money(payments: &[&Payment], asked: i64) -> Expected {
    let paid: Vec<&&Payment> = payments
        .iter()
        .filter(|p| p.standing == Standing::Paid)
        .collect();
    let is_kept = |p: &&&&Payment| p.ledger.took == 0 || p.ledger.given < p.ledger.took;
    let kept: Vec<&&Payment> = paid.iter().filter(is_kept).copied().collect();
    let counted = if kept.is_empty() { &paid } else { &kept };
    let sum = |money: fn(&Payment) -> i64| counted.iter().map(|p| money(p)).sum::<i64>();
    let (took, given) = (sum(|p| p.ledger.took), sum(|p| p.ledger.given));
    let status = if paid.is_empty() {
        unpaid(payments)
    } else if given == 0 {
        BTreeSet::from(["paid"])
    } else if given < took {
        BTreeSet::from(["partially_refunded"])
    } else {
        BTreeSet::from(["refunded"])
    };
    let mut flags = BTreeSet::new();
    flags.extend((kept.len() > 1).then_some("double_payment"));
    let is_all = counted.len() == paid.len();
    let (dispute, disputed) = disputes(payments);
    Expected {
        status,
        may_be_absent: false,
        is_untold: false,
        amount: if paid.is_empty() { asked } else { took },
        refunded: given,
        pending: is_all.then(|| sum(|p| p.ledger.pending)),
        dispute,
        disputed: disputed.filter(|_| is_all),
        flags,
        perhaps: BTreeSet::new(),
        reference: None,
    }
}

/// The best of what is known; a page that nobody has told of may be left out.
fn unpaid(payments: &[&Payment]) -> BTreeSet<&'static str> {
    let best = |payments: &mut dyn Iterator<Item = &&Payment>| {
        payments.map(|p| p.standing).min().map(Standing::word)
    };
    let mut words = BTreeSet::new();
    words.extend(best(&mut payments.iter()));
    words.extend(best(&mut payments.iter().filter(|p| p.told)));
    words.extend(payments.iter().flat_map(|payment| &payment.vague));
    let is_untold = payments.iter().all(|payment| !payment.told);
    words.extend(is_untold.then_some("pending"));
    words
}

fn disputes(payments: &[&Payment]) -> (&'static str, Option<i64>) {
    let all = || payments.iter().flat_map(|payment| &payment.disputes);
    let mut holds = 0;
    let mut is_sure = true;
    let (mut open, mut lost, mut won) = (false, false, false);
    for dispute in all() {
        match dispute.status {
            "won" => won = true,
            "lost" => {
                lost = true;
                holds += dispute.amount;
            }
            "warning_closed" | "prevented" => {}
            inquiry if inquiry.starts_with("warning") => {
                open = true;
                is_sure = false;
            }
            _ => {
                open = true;
                holds += dispute.amount;
            }
        }
    }
    let word = match (open, lost, won) {
        (true, _, _) => "open",
        (false, true, _) => "lost",
        (false, false, true) => "won",
        (false, false, false) => "none",
    };
    (word, is_sure.then_some(holds))
}

/// What is wrong with what was said, one line each.
pub fn differences(
    expected: &BTreeMap<String, Expected>,
    said: &BTreeMap<String, Said>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, right) in expected {
        match said.get(name) {
            None if right.may_be_absent => {}
            None => wrong.push(format!(
                "{name}: no such order; right is {:?}",
                right.status
            )),
            Some(said) => differ(name, right, said, &mut wrong),
        }
    }
    for (name, said) in said {
        if !expected.contains_key(name) {
            wrong.push(format!(
                "{name}: there is no such order in the world: {said:?}"
            ));
        }
    }
    wrong
}

fn differ(name: &str, right: &Expected, said: &Said, wrong: &mut Vec<String>) {
    let mut check = |what: &str, is_right: bool, right: String, said: String| {
        if !is_right {
            wrong.push(format!("{name}: {what} is {said}, right is {right}"));
        }
    };
    let status = said.status.as_str();
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
    check(
        "status",
        right.status.contains(status),
        text(&right.status),
        text(&status),
    );
    // A page that nobody has told of has not said what it asks for.
    let amount = said.amount == right.amount || right.is_untold && said.amount == 0;
    check("amount", amount, text(&right.amount), text(&said.amount));
    check(
        "refunded",
        said.refunded == right.refunded,
        text(&right.refunded),
        text(&said.refunded),
    );
    check(
        "dispute",
        said.dispute == right.dispute,
        text(&right.dispute),
        text(&said.dispute),
    );
    let same =
        |one: Option<i64>, other: Option<i64>| one.is_none() || other.is_none() || one == other;
    check(
        "pending",
        same(right.pending, said.pending),
        text(&right.pending),
        text(&said.pending),
    );
    check(
        "disputed",
        same(right.disputed, said.disputed),
        text(&right.disputed),
        text(&said.disputed),
    );
    let flags: BTreeSet<&str> = said.flags.iter().map(String::as_str).collect();
    let surplus: BTreeSet<&str> = &flags - &right.flags;
    let is_right = right.flags.is_subset(&flags) && surplus.is_subset(&right.perhaps);
    check("flags", is_right, text(&right.flags), text(&flags));
    if let Some(reference) = &said.reference {
        check(
            "reference",
            *reference == right.reference,
            text(&right.reference),
            text(reference),
        );
    }
}

/// What can never be, whatever happens: the world itself is sane.
pub fn check_sanity(world: &World) {
    for payment in &world.payments {
        let money = payment.ledger;
        let is_sane = 0 <= money.pending
            && money.pending <= money.given
            && money.given <= money.took
            && money.held >= 0
            && money.took <= payment.amount + payment.amount / 5
            && (money.took == 0 || payment.standing == Standing::Paid);
        assert!(is_sane, "{payment:#?}");
        for charge in &payment.charges {
            let of_charge = charge.amount_refunded <= charge.amount
                && charge.amount_captured <= charge.amount
                && charge.amount_refunded >= 0;
            assert!(of_charge, "{payment:#?}");
        }
    }
    let is_sorted = world.events.is_sorted_by_key(|event| event.created);
    assert!(is_sorted, "time runs backwards");
}
