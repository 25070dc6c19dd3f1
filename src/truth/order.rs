//! What an order is, computed from what is known of its payments. Nothing here is stored as truth:
//! the database keeps the result beside the facts only so that it can be read and counted.
//!
//! Invariants, cited by number in tests:
//!  O1  The state depends on the facts alone, not on the order in which they came.
//!  O2  Once there is evidence that money was taken, the status is never again `pending`,
//!      `processing`, `expired`, `canceled` or `failed`.
//!  O3  `0 <= refunded <= amount`, and the status is `refunded` if and only if they are equal and
//!      not zero.
//!  O4  Computing an order anew costs no more when it has many payments: what they add up to is
//!      kept ([`Totals`]), and a payment's old share is taken out before the new one goes in.

use std::collections::BTreeMap;

use log::Level;
use serde::{Deserialize, Serialize};

use super::fact::DisputeStatus;
use super::money::Money;
use super::payment::{Payment, Standing};
use super::refund::Refunded;
use crate::base::id::{OrderId, StripeId, UnixSeconds};
use crate::base::log_line::Message;

/// Where an order stands with its money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nobody has paid yet.
    Pending,
    /// The money is held for the shop, which must capture it. It is not taken.
    Authorized,
    /// The buyer has finished, the money is on its way (bank debits, vouchers).
    Processing,
    /// The money was taken.
    Paid,
    /// Some of it was given back.
    PartiallyRefunded,
    /// All of it was given back.
    Refunded,
    /// A delayed payment did not arrive.
    Failed,
    /// The payment was canceled or its authorisation released.
    Canceled,
    /// No session was paid in time.
    Expired,
}

impl Status {
    /// All of them, in the order of an order's life.
    pub const ALL: [Status; 9] = [
        Status::Pending,
        Status::Authorized,
        Status::Processing,
        Status::Paid,
        Status::PartiallyRefunded,
        Status::Refunded,
        Status::Failed,
        Status::Canceled,
        Status::Expired,
    ];

    /// The word for it, everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Authorized => "authorized",
            Status::Processing => "processing",
            Status::Paid => "paid",
            Status::PartiallyRefunded => "partially_refunded",
            Status::Refunded => "refunded",
            Status::Failed => "failed",
            Status::Canceled => "canceled",
            Status::Expired => "expired",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Status> {
        Status::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// Money was taken at some time.
    #[must_use]
    pub fn is_paid(self) -> bool {
        match self {
            Status::Paid | Status::PartiallyRefunded | Status::Refunded => true,
            Status::Pending
            | Status::Authorized
            | Status::Processing
            | Status::Failed
            | Status::Canceled
            | Status::Expired => false,
        }
    }
}

/// Whether the buyer's bank contests the payment. It leaves the status as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dispute {
    /// Nobody does, or an inquiry was closed without money moving.
    #[default]
    None,
    /// Somebody must answer or decide.
    Open,
    /// The shop has kept the money.
    Won,
    /// The buyer has it back.
    Lost,
}

impl Dispute {
    /// All of them.
    pub const ALL: [Dispute; 4] = [Dispute::None, Dispute::Open, Dispute::Won, Dispute::Lost];

    /// The word for it, everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Dispute::None => "none",
            Dispute::Open => "open",
            Dispute::Won => "won",
            Dispute::Lost => "lost",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Dispute> {
        Dispute::ALL
            .into_iter()
            .find(|dispute| dispute.as_str() == text)
    }
}

/// Something that a human must look at. None of them changes the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// Two payments of this order took money that was not given back.
    DoublePayment,
    /// What was taken is not what the session asked for.
    AmountMismatch,
    /// What was taken is in another currency.
    CurrencyMismatch,
    /// A payment names two orders, or one that another session was made for.
    NameConflict,
    /// The card's issuer takes the payment for a fraud: a dispute is likely.
    /// <https://docs.stripe.com/disputes/measuring#early-fraud-warnings>
    FraudWarning,
    /// Somebody must still decide whether the payment is honest.
    /// <https://docs.stripe.com/radar/reviews>
    InReview,
    /// A debit that had succeeded has come back: the money is gone.
    FailedAfterPaid,
}

impl Flag {
    /// All of them.
    pub const ALL: [Flag; 7] = [
        Flag::DoublePayment,
        Flag::AmountMismatch,
        Flag::CurrencyMismatch,
        Flag::NameConflict,
        Flag::FraudWarning,
        Flag::InReview,
        Flag::FailedAfterPaid,
    ];

    /// The word for it, everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Flag::DoublePayment => "double_payment",
            Flag::AmountMismatch => "amount_mismatch",
            Flag::CurrencyMismatch => "currency_mismatch",
            Flag::NameConflict => "name_conflict",
            Flag::FraudWarning => "fraud_warning",
            Flag::InReview => "in_review",
            Flag::FailedAfterPaid => "failed_after_paid",
        }
    }

    /// Reads the words of a list separated by commas; words that are none are passed over.
    #[must_use]
    pub(crate) fn parse_list(text: &str) -> Vec<Flag> {
        let known = |word: &str| Flag::ALL.into_iter().find(|flag| flag.as_str() == word);
        text.split(',').filter_map(known).collect()
    }

    /// The words, separated by commas.
    #[must_use]
    pub fn join_list(flags: &[Flag]) -> String {
        flags
            .iter()
            .map(|flag| flag.as_str())
            .collect::<Vec<_>>()
            .join(",")
    }

    fn message(self) -> Message {
        match self {
            Flag::DoublePayment => Message::DoublePayment,
            Flag::AmountMismatch => Message::AmountMismatch,
            Flag::CurrencyMismatch => Message::CurrencyMismatch,
            Flag::NameConflict => Message::NameConflict,
            Flag::FraudWarning => Message::FraudWarning,
            Flag::InReview => Message::InReview,
            Flag::FailedAfterPaid => Message::FailedAfterPaid,
        }
    }
}

/// An order as its payments make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Where it stands with its money.
    pub status: Status,
    /// Whether the payment is contested.
    pub dispute: Dispute,
    /// What was taken, or, before that, what is asked for; in minor units.
    pub amount: i64,
    /// What was given back, in minor units.
    pub refunded: i64,
    /// The part of `refunded` that is not through yet.
    pub pending: i64,
    /// What open and lost disputes hold, in minor units.
    pub disputed: i64,
    /// What lost disputes hold of what was not given back otherwise.
    pub lost: i64,
    /// Of all the amounts; `None` while no event told.
    pub currency: Option<Box<str>>,
    /// What a human must look at.
    pub flags: Vec<Flag>,
    /// What the payment says that it is for, where that is not the order: a buyer may have written it.
    pub reference: Option<OrderId>,
    /// The Checkout Session of the payment that counts most: a kept one, then the first one.
    pub session: Option<StripeId>,
    /// The intent of that payment.
    pub intent: Option<StripeId>,
    /// When Stripe made the first event that told of the order.
    pub since: UnixSeconds,
}

/// How much a payment counts in its order: the least counts most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// It took money that the shop still has, at least in part; or nothing was to pay.
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
}

impl Share {
    /// What `payment` adds to the order `name`.
    #[must_use]
    pub(crate) fn of(payment: &Payment, name: &OrderId) -> Share {
        let is_paid = payment.is_paid();
        let taken = payment.taken().filter(|_| is_paid);
        let money = taken.clone().or_else(|| payment.asked());
        let (weight, sums) = match &money {
            _ if !is_paid => (Weight::Unpaid(payment.standing()), Sums::default()),
            Some(money) => {
                let sums = Sums::of(payment, money);
                let is_gone = money.minor > 0 && sums.refunded >= money.minor;
                let weight = if is_gone {
                    Weight::GivenBack
                } else {
                    Weight::Kept
                };
                (weight, sums)
            }
            None => (Weight::Kept, Sums::default()),
        };
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
            money,
            sums,
            dispute: payment.dispute(),
        }
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

    /// The ids of its first objects, which no other payment has: of two payments that count the same
    /// and began in the same second, the one with the lesser text counts more.
    #[must_use]
    pub(crate) fn lead(&self) -> &str {
        &self.lead
    }

    /// The one that counts more; of two that count the same, the one that Stripe told of first.
    #[must_use]
    pub(crate) fn or_better(self, other: Option<Share>) -> Share {
        let key = |share: &Share| (share.weight, share.since, share.lead.clone());
        match other {
            Some(other) if key(&other) < key(&self) => other,
            Some(_) | None => self,
        }
    }
}

/// Amounts that add up, in minor units of one currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Sums {
    /// Payments.
    #[serde(skip_serializing_if = "is_zero")]
    payments: i64,
    /// Those that took money: a free one is no payment too many.
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
        let Refunded { all, pending } = payment.refunded(money.minor);
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

/// What the payments of one order add up to. A share that was added can be taken out again.
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

    /// Takes out what was added.
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
    fn dispute(&self) -> Dispute {
        let any = |status| self.disputes.contains_key(&status);
        if any(DisputeStatus::Open) {
            Dispute::Open
        } else if any(DisputeStatus::Lost) {
            Dispute::Lost
        } else if any(DisputeStatus::Won) {
            Dispute::Won
        } else {
            Dispute::None
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

impl State {
    /// The state of an order that the shop asked for at `since` and of whose payment nobody has told.
    #[must_use]
    pub(crate) fn before_payment(since: UnixSeconds, is_contested: bool) -> State {
        State {
            status: Status::Pending,
            dispute: Dispute::None,
            amount: 0,
            refunded: 0,
            pending: 0,
            disputed: 0,
            lost: 0,
            currency: None,
            flags: Totals::default().flags(false, false, is_contested),
            reference: None,
            session: None,
            intent: None,
            since,
        }
    }

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
        let currency = main.money.as_ref().map(|money| money.currency.clone());
        let key = currency.clone().unwrap_or_default();
        let (counted, passed) = match main.weight {
            Weight::Kept => (Some(&totals.kept), totals.given_back.get(&key)),
            Weight::GivenBack => (Some(&totals.given_back), None),
            Weight::Unpaid(_) => (None, None),
        };
        let sums = counted
            .and_then(|counted| counted.get(&key))
            .copied()
            .unwrap_or_default();
        let passed = passed.copied().unwrap_or_default();
        let takings = totals.kept.values().map(|sums| sums.takings).sum::<i64>();
        let other_currency = counted.is_some_and(|counted| counted.len() > 1);
        let (status, amount) = match main.weight {
            Weight::Kept | Weight::GivenBack => (paid_status(&sums), sums.taken),
            Weight::Unpaid(standing) => (
                Status::from(standing),
                main.money.as_ref().map_or(0, |money| money.minor),
            ),
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

    /// What the shop has of it: what was taken, less what was given back and what disputes were lost.
    #[must_use]
    pub fn kept(&self) -> i64 {
        self.amount
            .saturating_sub(self.refunded)
            .saturating_sub(self.lost)
    }

    /// What the log says of the step from `before` to this state, most important first. Empty
    /// when nothing that it would tell has changed.
    #[must_use]
    pub fn news(&self, before: Option<&State>) -> Vec<(Level, Message)> {
        let mut news = Vec::new();
        let old = before.map(|state| (state.status, state.refunded));
        if old != Some((self.status, self.refunded)) {
            let old_status = before.map(|state| state.status);
            news.push((Level::Info, status_message(old_status, self.status)));
        }
        let old_dispute = before.map_or(Dispute::None, |state| state.dispute);
        if old_dispute != self.dispute {
            news.push(match self.dispute {
                Dispute::Open => (Level::Warn, Message::DisputeOpened),
                Dispute::Lost => (Level::Warn, Message::DisputeLost),
                Dispute::Won => (Level::Info, Message::DisputeWon),
                Dispute::None => (Level::Info, Message::DisputeClosed),
            });
        }
        for flag in &self.flags {
            if !before.is_some_and(|state| state.flags.contains(flag)) {
                news.push((Level::Warn, flag.message()));
            }
        }
        news
    }
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

/// What is to be looked at in one payment, of which `taken` was taken.
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

fn status_message(before: Option<Status>, after: Status) -> Message {
    match after {
        Status::Paid if before.is_some_and(Status::is_paid) => Message::OrderRefundReversed,
        Status::Paid => Message::OrderPaid,
        Status::Pending => Message::OrderPending,
        Status::Authorized => Message::OrderAuthorized,
        Status::Processing => Message::OrderProcessing,
        Status::PartiallyRefunded => Message::OrderPartiallyRefunded,
        Status::Refunded => Message::OrderRefunded,
        Status::Failed => Message::OrderFailed,
        Status::Canceled => Message::OrderCanceled,
        Status::Expired => Message::OrderExpired,
    }
}
