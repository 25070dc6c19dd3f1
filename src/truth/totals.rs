//! What payments add up to: each adds its share to its order, and the order's state follows from the sums.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fact::DisputeStatus;
use super::money::{Money, Movement};
use super::movement::quarter;
use super::order::{DisputeState, Flag, State, Status};
use super::payment::{Payment, Standing};
use super::refund::Refunded;
use crate::base::id::{OrderId, StripeId, UnixSeconds};

impl State {
    /// Computes the state of the order `name` that `payments` are for. Without payments it is pending.
    #[must_use]
    pub fn of<'a>(name: &OrderId, payments: impl IntoIterator<Item = &'a Payment>) -> State {
        let mut totals = Totals::default();
        let mut main: Option<Share> = None;
        let mut since = None;
        for payment in payments {
            let share = Share::of(payment, name);
            totals.add(&share);
            since = since.into_iter().chain([share.since]).min();
            main = Some(share.or_better(main));
        }
        match (main, since) {
            (Some(main), Some(since)) => State::from_totals(&totals, &main, since, false),
            (Some(_) | None, _) => State::before_payment(UnixSeconds::default(), false),
        }
    }

    /// Computes the state from what the payments add up to and the one of them that counts most.
    /// Payments that were given back count only when none was kept. `is_contested` says that a payment
    /// of another order names this one.
    #[must_use]
    pub(crate) fn from_totals(
        totals: &Totals,
        main: &Share,
        since: UnixSeconds,
        is_contested: bool,
    ) -> State {
        let money = main.money.as_ref();
        let currency = money.map(|money| money.currency.clone());
        let key = currency.clone().unwrap_or_default();
        let (counted, passed) = match main.weight {
            Weight::Kept => (Some(&totals.kept), totals.given_back.get(&key)),
            Weight::GivenBack => (Some(&totals.given_back), None),
            Weight::Unpaid(_) => (None, None),
        };
        let sums = counted.and_then(|counted| counted.get(&key));
        let sums = sums.copied().unwrap_or_default();
        let passed = passed.copied().unwrap_or_default();
        let takings = totals.kept.values().map(|sums| sums.takings).sum::<i64>();
        let other_currency = counted.is_some_and(|counted| counted.len() > 1);
        let (status, amount) = match main.weight {
            Weight::Kept | Weight::GivenBack => (paid_status(&sums), sums.taken),
            Weight::Unpaid(standing) => {
                (Status::from(standing), money.map_or(0, |money| money.minor))
            }
        };
        State {
            status,
            dispute: totals.dispute(),
            amount,
            refunded: sums.refunded,
            pending: sums.pending,
            disputed: sums.disputed.saturating_add(passed.disputed),
            lost: sums.lost,
            currency,
            flags: totals.flags(takings > 1, other_currency, is_contested),
            reference: main.reference.clone(),
            session: main.session.clone(),
            intent: main.intent.clone(),
            since,
        }
    }
}

/// How much a payment counts in its order. The least counts most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// The shop still has some of its money; or there was nothing to pay.
    Kept,
    /// It took money, and all of it was given back.
    GivenBack,
    /// It took none.
    Unpaid(Standing),
}

impl Weight {
    /// A number in the same order.
    #[must_use]
    pub(crate) fn rank(self) -> i64 {
        match self {
            Weight::Kept => 0,
            Weight::GivenBack => 1,
            Weight::Unpaid(standing) => 2 + standing as i64,
        }
    }
}

/// What one payment adds to its order.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    weight: Weight,
    /// When the first of its events was made.
    since: UnixSeconds,
    session: Option<StripeId>,
    intent: Option<StripeId>,
    lead: String,
    reference: Option<OrderId>,
    money: Option<Money>,
    sums: Sums,
    dispute: Option<DisputeStatus>,
    flags: Vec<Flag>,
    /// When it first took money, if it did.
    taken_at: Option<UnixSeconds>,
}

impl Share {
    /// What `payment` adds to the order `name`.
    #[must_use]
    pub(crate) fn of(payment: &Payment, name: &OrderId) -> Share {
        let taken = payment.taken().filter(|_| payment.is_paid());
        let money = taken.clone().or_else(|| payment.asked());
        let (weight, sums) = weigh(payment, money.as_ref());
        let wanted = payment.order().filter(|wanted| wanted != name);
        let reference = match (&wanted, payment.is_of_link()) {
            (Some(_), _) => wanted.clone(),
            (None, true) => payment.reference().cloned(),
            (None, false) => None,
        };
        Share {
            weight,
            since: payment.since.unwrap_or_default(),
            session: payment.sessions().next().cloned(),
            intent: payment.intents().next().cloned(),
            lead: lead_of(payment),
            flags: flags_of(payment, taken.as_ref(), wanted.is_some()),
            reference: reference.filter(|reference| reference != name),
            taken_at: payment.first_taken(sums.taken),
            money,
            sums,
            dispute: payment.dispute(),
        }
    }

    /// In which quarter of an hour an order of that state is counted, if this is the payment that counts
    /// most; `None` if the order took no money.
    #[must_use]
    pub(crate) fn counted(&self, state: &State) -> Option<UnixSeconds> {
        let took = state.status.is_paid() && state.amount > 0;
        took.then(|| quarter(self.taken_at.unwrap_or(self.since)))
    }

    /// How much it counts.
    #[must_use]
    pub(crate) fn weight(&self) -> Weight {
        self.weight
    }

    /// When Stripe made the first of its events.
    #[must_use]
    pub(crate) fn since(&self) -> UnixSeconds {
        self.since
    }

    /// The ids of its first objects, which no other payment has. They decide between two payments that
    /// count the same and began in the same second.
    #[must_use]
    pub(crate) fn lead(&self) -> &str {
        &self.lead
    }

    /// The one that counts more; of two that count the same, the one that Stripe told us of first.
    #[must_use]
    pub(crate) fn or_better(self, other: Option<Share>) -> Share {
        let key = |share: &Share| (share.weight, share.since, share.lead.clone());
        match other {
            Some(other) if key(&other) < key(&self) => other,
            Some(_) | None => self,
        }
    }
}

/// When the money of a payment moved, and in which currency. The amounts add up to those of its share.
#[must_use]
pub(crate) fn movements(payment: &Payment) -> Option<(Box<str>, Vec<Movement<'_>>)> {
    let taken = payment.taken().filter(|_| payment.is_paid());
    let money = taken.or_else(|| payment.asked());
    let (_, sums) = weigh(payment, money.as_ref());
    let money = money.filter(|_| sums.taken > 0)?;
    let movements = payment.movements(&money, sums.lost);
    Some((money.currency, movements))
}

/// Amounts that add up, in minor units of one currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Sums {
    /// Payments.
    #[serde(skip_serializing_if = "is_zero")]
    payments: i64,
    /// Payments that took money: a free one does not make a double payment.
    #[serde(skip_serializing_if = "is_zero")]
    takings: i64,
    #[serde(skip_serializing_if = "is_zero")]
    taken: i64,
    #[serde(skip_serializing_if = "is_zero")]
    refunded: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pending: i64,
    #[serde(skip_serializing_if = "is_zero")]
    disputed: i64,
    #[serde(skip_serializing_if = "is_zero")]
    lost: i64,
}

impl Sums {
    fn of(payment: &Payment, money: &Money) -> Sums {
        let Refunded { all, pending, .. } = payment.refunded(money.minor);
        let disputed = |status| payment.disputed(status, money);
        let lost = disputed(DisputeStatus::Lost);
        Sums {
            payments: 1,
            takings: i64::from(money.minor > 0),
            taken: money.minor,
            refunded: all,
            pending,
            disputed: disputed(DisputeStatus::Open)
                .saturating_add(lost)
                .min(money.minor),
            lost: lost.min(money.minor.saturating_sub(all)),
        }
    }

    fn add(&mut self, other: &Sums, times: i64) {
        let add = |sum: &mut i64, more: i64| *sum = sum.saturating_add(more.saturating_mul(times));
        add(&mut self.payments, other.payments);
        add(&mut self.takings, other.takings);
        add(&mut self.taken, other.taken);
        add(&mut self.refunded, other.refunded);
        add(&mut self.pending, other.pending);
        add(&mut self.disputed, other.disputed);
        add(&mut self.lost, other.lost);
    }
}

/// What the payments of one order add up to. A share that was added can be removed again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Totals {
    payments: i64,
    /// The unpaid ones, by [`Weight::rank`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unpaid: BTreeMap<i64, i64>,
    /// The kept ones, by currency.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    kept: BTreeMap<Box<str>, Sums>,
    /// Those that were given back, by currency.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    given_back: BTreeMap<Box<str>, Sums>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    disputes: BTreeMap<DisputeStatus, i64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    flags: BTreeMap<Flag, i64>,
}

impl Totals {
    /// How many payments they are.
    #[must_use]
    pub(crate) fn payments(&self) -> i64 {
        self.payments
    }

    /// Adds the share of one payment.
    pub(crate) fn add(&mut self, share: &Share) {
        self.count(share, 1);
    }

    /// Removes what was added.
    pub(crate) fn remove(&mut self, share: &Share) {
        self.count(share, -1);
    }

    fn count(&mut self, share: &Share, times: i64) {
        self.payments += times;
        let currency = share.money.as_ref().map(|money| money.currency.clone());
        let by_currency = match share.weight {
            Weight::Kept => Some(&mut self.kept),
            Weight::GivenBack => Some(&mut self.given_back),
            Weight::Unpaid(_) => {
                count(&mut self.unpaid, share.weight.rank(), times);
                None
            }
        };
        if let Some(by_currency) = by_currency {
            let key = currency.unwrap_or_default();
            let sums = by_currency.entry(key.clone()).or_default();
            sums.add(&share.sums, times);
            if *sums == Sums::default() {
                by_currency.remove(&key);
            }
        }
        if let Some(dispute) = share.dispute {
            count(&mut self.disputes, dispute, times);
        }
        for flag in &share.flags {
            count(&mut self.flags, *flag, times);
        }
    }

    /// Any open dispute is open; else any lost one is lost; else any won one is won.
    fn dispute(&self) -> DisputeState {
        let any = |status| self.disputes.contains_key(&status);
        if any(DisputeStatus::Open) {
            DisputeState::Open
        } else if any(DisputeStatus::Lost) {
            DisputeState::Lost
        } else if any(DisputeStatus::Won) {
            DisputeState::Won
        } else {
            DisputeState::None
        }
    }

    fn flags(&self, is_double: bool, other_currency: bool, is_contested: bool) -> Vec<Flag> {
        let raised = |flag: &Flag| {
            self.flags.contains_key(flag)
                || match flag {
                    Flag::DoublePayment => is_double,
                    Flag::CurrencyMismatch => other_currency,
                    Flag::NameConflict => is_contested,
                    Flag::AmountMismatch
                    | Flag::FraudWarning
                    | Flag::InReview
                    | Flag::FailedAfterPaid => false,
                }
        };
        Flag::ALL.into_iter().filter(raised).collect()
    }
}

fn count<K: Ord + Copy>(counts: &mut BTreeMap<K, i64>, key: K, times: i64) {
    let counted = counts.entry(key).or_default();
    *counted += times;
    if *counted == 0 {
        counts.remove(&key);
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl From<Standing> for Status {
    fn from(standing: Standing) -> Status {
        match standing {
            Standing::Authorized => Status::Authorized,
            Standing::Processing => Status::Processing,
            Standing::Pending => Status::Pending,
            Standing::Failed => Status::Failed,
            Standing::Canceled => Status::Canceled,
            Standing::Expired => Status::Expired,
        }
    }
}

/// How much a payment counts that took or asks for `money`, and what it adds.
fn weigh(payment: &Payment, money: Option<&Money>) -> (Weight, Sums) {
    if !payment.is_paid() {
        return (Weight::Unpaid(payment.standing()), Sums::default());
    }
    let Some(money) = money else {
        return (Weight::Kept, Sums::default());
    };
    let sums = Sums::of(payment, money);
    let is_gone = money.minor > 0 && sums.refunded >= money.minor;
    let weight = match is_gone {
        true => Weight::GivenBack,
        false => Weight::Kept,
    };
    (weight, sums)
}

fn paid_status(sums: &Sums) -> Status {
    match sums.refunded {
        0 => Status::Paid,
        all if all >= sums.taken => Status::Refunded,
        _ => Status::PartiallyRefunded,
    }
}

fn lead_of(payment: &Payment) -> String {
    let first = [
        payment.sessions().next(),
        payment.intents().next(),
        payment.charges().next(),
    ];
    let first: Vec<&str> = first.into_iter().flatten().map(StripeId::as_str).collect();
    first.join(" ")
}

/// What a human must look at in one payment, of which `taken` was taken.
fn flags_of(payment: &Payment, taken: Option<&Money>, is_of_other: bool) -> Vec<Flag> {
    // What the session asked for against what was taken, where both are known.
    let pair = payment.session_total().zip(taken);
    let is_other = |differs: fn(&Money, &Money) -> bool| {
        pair.is_some_and(|(asked, taken)| differs(asked, taken)) && !payment.is_captured_by_hand()
    };
    let raised = |flag: &Flag| match flag {
        Flag::DoublePayment => false,
        Flag::AmountMismatch => {
            is_other(|asked, taken| asked.currency == taken.currency && asked.minor != taken.minor)
        }
        Flag::CurrencyMismatch => {
            pair.is_some_and(|(asked, taken)| asked.currency != taken.currency)
        }
        Flag::NameConflict => is_of_other || payment.is_named_twice(),
        Flag::FraudWarning => payment.has_fraud_warning(),
        Flag::InReview => payment.is_in_review(),
        Flag::FailedAfterPaid => payment.is_paid() && payment.has_failed_after_payment(),
    };
    Flag::ALL.into_iter().filter(raised).collect()
}
