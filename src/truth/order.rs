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
//!      kept (`Totals`), and a payment's old share is taken out before the new one goes in.

use serde::{Deserialize, Serialize};

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

/// Whether the buyer's bank contests the payment. This does not change the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dispute {
    /// It does not, or an inquiry was closed and no money moved.
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

/// Something that a human must look at. It does not change the status.
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
    /// The card's issuer takes the payment for fraud: a dispute is likely.
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

    /// Reads words separated by commas; unknown words are skipped.
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
    /// The part of `refunded` that is still pending.
    pub pending: i64,
    /// What open and lost disputes hold, in minor units.
    pub disputed: i64,
    /// What lost disputes took of what was not refunded.
    pub lost: i64,
    /// The currency of all amounts; `None` while it is not known.
    pub currency: Option<Box<str>>,
    /// What a human must look at.
    pub flags: Vec<Flag>,
    /// What the payment says it is for, if that is not this order: a buyer may have written it.
    pub reference: Option<OrderId>,
    /// The Checkout Session of the payment that counts most.
    pub session: Option<StripeId>,
    /// The intent of that payment.
    pub intent: Option<StripeId>,
    /// When Stripe made the first event that told of the order.
    pub since: UnixSeconds,
}

impl State {
    /// The state of an order that the shop asked for at `since`, before any payment is known.
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
            flags: is_contested
                .then_some(Flag::NameConflict)
                .into_iter()
                .collect(),
            reference: None,
            session: None,
            intent: None,
            since,
        }
    }

    /// What the shop keeps: what was taken, less refunds and lost disputes.
    #[must_use]
    pub fn kept(&self) -> i64 {
        self.amount
            .saturating_sub(self.refunded)
            .saturating_sub(self.lost)
    }

    /// What the log says of the change from `before` to this state, most important first. Empty if
    /// nothing worth a line has changed.
    #[must_use]
    pub fn news(&self, before: Option<&State>) -> Vec<Message> {
        let mut news = Vec::new();
        let old = before.map(|state| (state.status, state.refunded));
        if old != Some((self.status, self.refunded)) {
            let old_status = before.map(|state| state.status);
            news.push(status_message(old_status, self.status));
        }
        let old_dispute = before.map_or(Dispute::None, |state| state.dispute);
        if old_dispute != self.dispute {
            news.push(match self.dispute {
                Dispute::Open => Message::DisputeOpened,
                Dispute::Lost => Message::DisputeLost,
                Dispute::Won => Message::DisputeWon,
                Dispute::None => Message::DisputeClosed,
            });
        }
        for flag in &self.flags {
            if !before.is_some_and(|state| state.flags.contains(flag)) {
                news.push(flag.message());
            }
        }
        news
    }
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
