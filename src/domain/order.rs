//! What an order is, computed from what is known of its payments. Nothing here is stored as truth:
//! the database keeps the result beside the facts only so that it can be read and counted.
//!
//! Invariants, cited by number in tests:
//!  O1  The state depends on the facts alone, not on the order in which they came.
//!  O2  Once there is evidence that money was taken, the status is never again `pending`,
//!      `processing`, `expired`, `canceled` or `failed`.
//!  O3  `0 <= refunded <= amount`, and the status is `refunded` if and only if they are equal and
//!      not zero.

use log::Level;
use serde::Serialize;

use super::id::{StripeId, UnixSeconds};
use super::log_line::Message;
use super::payment::{DisputeStatus, Money, Payment};

/// Where an order stands with its money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nobody has paid yet.
    Pending,
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
    pub const ALL: [Status; 8] = [
        Status::Pending,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// Two payments of this order took money that was not given back.
    DoublePayment,
    /// What was taken is not what the session asked for.
    AmountMismatch,
    /// What was taken is in another currency.
    CurrencyMismatch,
    /// A payment names two orders; the better source decided.
    NameConflict,
}

impl Flag {
    /// All of them.
    pub const ALL: [Flag; 4] = [
        Flag::DoublePayment,
        Flag::AmountMismatch,
        Flag::CurrencyMismatch,
        Flag::NameConflict,
    ];

    /// The word for it, everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Flag::DoublePayment => "double_payment",
            Flag::AmountMismatch => "amount_mismatch",
            Flag::CurrencyMismatch => "currency_mismatch",
            Flag::NameConflict => "name_conflict",
        }
    }

    /// Reads the words of a list separated by commas; words that are none are passed over.
    #[must_use]
    pub fn parse_list(text: &str) -> Vec<Flag> {
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
    /// Of both amounts; `None` while no event told.
    pub currency: Option<Box<str>>,
    /// What a human must look at.
    pub flags: Vec<Flag>,
    /// The Checkout Session of the payment that counts most: a paid one, then the first one.
    pub session: Option<StripeId>,
    /// The intent of that payment.
    pub intent: Option<StripeId>,
    /// When Stripe made the first event that told of the order.
    pub since: UnixSeconds,
}

impl State {
    /// The state of an order that the shop asked for at `since` and of whose payment nobody has told.
    #[must_use]
    pub fn before_payment(since: UnixSeconds) -> State {
        State {
            since,
            ..State::of(&[])
        }
    }

    /// Computes the state of the order that `payments` are for. Without payments it is pending.
    #[must_use]
    pub fn of(payments: &[Payment]) -> State {
        let (paid, unpaid): (Vec<&Payment>, Vec<&Payment>) =
            payments.iter().partition(|payment| payment.is_paid());
        let main = first(&paid).or_else(|| first(&unpaid));
        let money = main.and_then(money_of);
        let sums = Sums::of(&paid, money.as_ref());
        let asked = money.as_ref().map_or(0, |money| money.minor);
        let sessions = main.into_iter().flat_map(Payment::sessions);
        State {
            status: if paid.is_empty() {
                unpaid_status(payments)
            } else {
                sums.status()
            },
            dispute: dispute_of(payments),
            amount: if paid.is_empty() { asked } else { sums.taken },
            refunded: sums.refunded,
            currency: money.map(|money| money.currency),
            flags: flags_of(payments, &paid, &sums),
            session: sessions.map(|(id, _)| id).next().cloned(),
            intent: main.and_then(Payment::intent).cloned(),
            since: payments
                .iter()
                .filter_map(|payment| payment.since)
                .min()
                .unwrap_or_default(),
        }
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

/// The payment that Stripe told of first.
fn first<'a>(payments: &[&'a Payment]) -> Option<&'a Payment> {
    payments.iter().copied().min_by(|one, other| {
        let by_time = one.since.cmp(&other.since);
        by_time.then_with(|| one.ids().cmp(other.ids()))
    })
}

/// What one payment is about: what was taken, else what is asked for.
fn money_of(payment: &Payment) -> Option<Money> {
    let taken = if payment.is_paid() {
        payment.taken()
    } else {
        None
    };
    taken.or_else(|| payment.asked().cloned())
}

/// The paid payments of one order, added up in the order's currency.
struct Sums {
    taken: i64,
    refunded: i64,
    /// Payments whose money the shop still has, at least in part.
    kept: usize,
    other_currency: bool,
}

impl Sums {
    fn of(paid: &[&Payment], main: Option<&Money>) -> Sums {
        let mut sums = Sums {
            taken: 0,
            refunded: 0,
            kept: 0,
            other_currency: false,
        };
        for payment in paid {
            let Some(money) = money_of(payment) else {
                continue;
            };
            let refunded = payment.refunded(money.minor);
            if refunded < money.minor {
                sums.kept += 1;
            }
            if main.is_some_and(|main| main.currency == money.currency) {
                sums.taken = sums.taken.saturating_add(money.minor);
                sums.refunded = sums.refunded.saturating_add(refunded);
            } else {
                sums.other_currency = true;
            }
        }
        sums
    }

    fn status(&self) -> Status {
        match self.refunded {
            0 => Status::Paid,
            all if all >= self.taken => Status::Refunded,
            _ => Status::PartiallyRefunded,
        }
    }
}

fn unpaid_status(payments: &[Payment]) -> Status {
    let mut sessions = payments.iter().flat_map(Payment::sessions).peekable();
    if payments.iter().any(Payment::has_failed) {
        Status::Failed
    } else if payments.iter().any(Payment::is_canceled) {
        Status::Canceled
    } else if payments.iter().any(Payment::is_completed) {
        Status::Processing
    } else if sessions.peek().is_some()
        && sessions.all(|(_, session)| session.is_some_and(|session| session.expired))
    {
        Status::Expired
    } else {
        Status::Pending
    }
}

/// Any open dispute is open; else any lost one is lost; else any won one is won.
fn dispute_of(payments: &[Payment]) -> Dispute {
    let mut joint = Dispute::None;
    for status in payments.iter().filter_map(Payment::dispute) {
        joint = match (status, joint) {
            (DisputeStatus::Open, _) | (_, Dispute::Open) => Dispute::Open,
            (DisputeStatus::Lost, _) | (_, Dispute::Lost) => Dispute::Lost,
            (DisputeStatus::Won, _) | (_, Dispute::Won) => Dispute::Won,
            (DisputeStatus::Closed, Dispute::None) => Dispute::None,
        };
    }
    joint
}

fn flags_of(payments: &[Payment], paid: &[&Payment], sums: &Sums) -> Vec<Flag> {
    // What the session asked for against what was taken, where both are known.
    let pairs = || {
        paid.iter().filter_map(|payment| {
            let taken = payment.taken()?;
            let totals = payment
                .sessions()
                .filter_map(|(_, session)| session?.total.as_ref());
            Some((totals.map(|(_, total)| total).max()?, taken))
        })
    };
    let other_currency = pairs().any(|(asked, taken)| asked.currency != taken.currency);
    let other_amount = pairs()
        .any(|(asked, taken)| asked.currency == taken.currency && asked.minor != taken.minor);
    let raised = [
        (Flag::DoublePayment, sums.kept > 1),
        (Flag::AmountMismatch, other_amount),
        (
            Flag::CurrencyMismatch,
            other_currency || sums.other_currency,
        ),
        (
            Flag::NameConflict,
            payments.iter().any(Payment::is_named_twice),
        ),
    ];
    raised
        .into_iter()
        .filter(|(_, is_raised)| *is_raised)
        .map(|(flag, _)| flag)
        .collect()
}

fn status_message(before: Option<Status>, after: Status) -> Message {
    match after {
        Status::Paid if before.is_some_and(Status::is_paid) => Message::OrderRefundReversed,
        Status::Paid => Message::OrderPaid,
        Status::Pending => Message::OrderPending,
        Status::Processing => Message::OrderProcessing,
        Status::PartiallyRefunded => Message::OrderPartiallyRefunded,
        Status::Refunded => Message::OrderRefunded,
        Status::Failed => Message::OrderFailed,
        Status::Canceled => Message::OrderCanceled,
        Status::Expired => Message::OrderExpired,
    }
}
