//! Facts: what one event, or one answer of Stripe's API, tells of one Stripe object.
//!
//! Each kind of object says how two accounts of it become one: flags only go up, and of two versions the
//! greater stays. A payment is such a join of all its facts.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Serialize};

use super::money::Money;
use super::names::{Belongs, Source};
use super::reading::Mode;
use crate::base::id::{OrderId, StripeId, UnixSeconds};

/// What one event tells of one Stripe object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// When Stripe made the event, or when Stripe was asked.
    pub(crate) at: UnixSeconds,
    /// The object that the event is about.
    pub id: StripeId,
    /// When Stripe made that object or, if it does not say, the event.
    pub(crate) made: UnixSeconds,
    /// What it tells of that object.
    pub(crate) object: Object,
    /// The session that the object names, if any.
    pub(crate) session: Option<StripeId>,
    /// The intent that the object names, if any.
    pub(crate) intent: Option<StripeId>,
    /// The charge that the object names, if any.
    pub(crate) charge: Option<StripeId>,
    /// The invoice that the object names, if any.
    pub(crate) invoice: Option<StripeId>,
    /// The order ids that the object carries, and where.
    pub(crate) names: Vec<(Source, OrderId)>,
    /// The order ids that count even if a Payment Link made the session.
    pub(crate) link_names: Vec<(Source, OrderId)>,
    /// The object carried an order id of over 200 characters, which was not used.
    pub(crate) name_too_long: bool,
    /// Whether it is this shop's; `None` without `OUR_ORDERS`.
    pub(crate) belongs: Option<Belongs>,
    /// Stripe's mode that it is of; `None` if the object does not say.
    pub mode: Option<Mode>,
}

/// One version of one Stripe object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    /// <https://docs.stripe.com/api/checkout/sessions/object>
    Session(Session),
    /// <https://docs.stripe.com/api/payment_intents/object>
    Intent(Intent),
    /// <https://docs.stripe.com/api/charges/object>
    Charge(KnownCharge),
    /// <https://docs.stripe.com/api/refunds/object>
    Refund(Refund),
    /// <https://docs.stripe.com/api/disputes/object>
    Dispute(Dispute),
    /// <https://docs.stripe.com/api/invoices/object>
    Invoice(Invoice),
    /// <https://docs.stripe.com/api/invoice-payment/object>: only links an invoice with what paid it.
    InvoicePayment,
    /// <https://docs.stripe.com/api/radar/reviews/object>
    Review(Review),
    /// <https://docs.stripe.com/api/radar/early_fraud_warnings/object>
    FraudWarning,
}

impl Fact {
    /// A fact that names nothing but its own object.
    #[must_use]
    pub(crate) fn new(at: UnixSeconds, id: StripeId, object: Object) -> Fact {
        Fact {
            at,
            id,
            made: at,
            object,
            session: None,
            intent: None,
            charge: None,
            invoice: None,
            names: Vec::new(),
            link_names: Vec::new(),
            name_too_long: false,
            belongs: None,
            mode: None,
        }
    }

    /// The ids that belong to the same payment: the object's own, and those that it names.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &StripeId> {
        std::iter::once(&self.id)
            .chain(&self.session)
            .chain(&self.intent)
            .chain(&self.charge)
            .chain(&self.invoice)
    }
}

/// When something became true. The least is the best: an event tells the time itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Since {
    /// An event told it as it happened.
    Told(UnixSeconds),
    /// Stripe, asked a second later, said that it was true: it became true then or earlier.
    Found(UnixSeconds),
}

impl Since {
    pub(super) fn at(self) -> UnixSeconds {
        match self {
            Since::Told(at) | Since::Found(at) => at,
        }
    }

    /// It was true by then.
    pub(super) fn at_latest(self) -> UnixSeconds {
        match self {
            Since::Told(at) => at,
            Since::Found(at) => UnixSeconds(at.0.saturating_add(1)),
        }
    }
}

/// A Checkout Session: what happened to it, when that was first known, and its newest total.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Session {
    /// The buyer has finished; the money may still be on its way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) completed: Option<Since>,
    /// `payment_status` was `paid`, a delayed payment arrived, or there was nothing to pay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) paid: Option<Since>,
    /// A delayed payment did not arrive.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) async_failed: bool,
    /// Nobody paid in time.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) expired: bool,
    /// A Payment Link made it: anyone may have written its URL, with any reference.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) of_link: bool,
    /// `paidup api` made it for the order that it names.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) made_here: bool,
    /// What the shop asks for, and the time of the event that said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total: Option<(UnixSeconds, Money)>,
}

impl Session {
    pub(super) fn join(&mut self, other: Session) {
        self.completed = least(self.completed, other.completed);
        self.paid = least(self.paid, other.paid);
        self.async_failed |= other.async_failed;
        self.expired |= other.expired;
        self.of_link |= other.of_link;
        self.made_here |= other.made_here;
        raise(&mut self.total, other.total);
    }
}

/// A `PaymentIntent`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Intent {
    /// How its latest attempt stands, and as of when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<(UnixSeconds, Attempt)>,
    /// The money was taken: when that was first known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) succeeded: Option<Since>,
    /// It was once on its way: a bank debit, not a card.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) delayed: bool,
    /// It can no longer be paid.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) canceled: bool,
    /// The shop decides how much is captured: it may be less than what was asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) manual: bool,
    /// When `payment_intent.refunded` said that all of it was refunded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refunded: Option<UnixSeconds>,
    /// What was taken; it only grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) received: Option<Money>,
    /// What is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) asked: Option<Money>,
}

/// How an intent's latest attempt stands. Of two told in the same second the greater stays.
/// <https://docs.stripe.com/payments/paymentintents/lifecycle>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Attempt {
    /// Stripe, when asked, says that it needs another payment method: no attempt is running.
    Idle,
    /// An attempt was declined or came back.
    Failed,
    /// It waits for the buyer: a voucher, a bank transfer, a card's second factor.
    Waiting,
    /// The money is on its way.
    Processing,
    /// The money is held for the shop, which must capture it.
    Held,
    /// The money was taken.
    Succeeded,
}

impl Intent {
    pub(super) fn took(&self) -> bool {
        let received = self.received.as_ref().is_some_and(|money| money.minor > 0);
        self.succeeded.is_some() || self.refunded.is_some() || received
    }

    pub(super) fn join(&mut self, other: Intent) {
        raise(&mut self.attempt, other.attempt);
        self.succeeded = least(self.succeeded, other.succeeded);
        self.delayed |= other.delayed;
        self.canceled |= other.canceled;
        self.manual |= other.manual;
        raise(&mut self.refunded, other.refunded);
        raise(&mut self.received, other.received);
        raise(&mut self.asked, other.asked);
    }
}

/// What is known of one charge: the greatest of its versions, and what no version says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct KnownCharge {
    /// `None` for a charge of which only the id is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<Charge>,
    /// When it last failed, as far as is known; it may have succeeded before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failed: Option<UnixSeconds>,
    /// When the part of a hold that was not captured was first known to be released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) released: Option<UnixSeconds>,
    /// What it once waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waited: Option<Wait>,
    /// When Stripe made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<UnixSeconds>,
    /// When it was first known to have taken the money.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) taken: Option<Since>,
    /// The intent that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) intent: Option<StripeId>,
}

/// What a charge had to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wait {
    /// The bank.
    Bank,
    /// The shop, which must capture it.
    Capture,
}

impl KnownCharge {
    pub(super) fn took(&self) -> bool {
        self.version.as_ref().is_some_and(Charge::takes)
    }

    pub(super) fn join(&mut self, other: KnownCharge) {
        raise(&mut self.version, other.version);
        raise(&mut self.failed, other.failed);
        self.released = least(self.released, other.released);
        raise(&mut self.waited, other.waited);
        self.created = least(self.created, other.created);
        self.taken = least(self.taken, other.taken);
        self.intent = least(self.intent.take(), other.intent);
    }
}

/// A charge at one moment. The fields stand in the order in which they are compared: a charge that
/// took money took it, whatever came later; then the later event, more captured, more refunded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Charge {
    /// Only one that succeeded takes money.
    pub(crate) status: ChargeStatus,
    /// False for an authorisation, released or not.
    pub(crate) is_captured: bool,
    /// When Stripe made the event, or when Stripe was asked.
    pub(crate) at: UnixSeconds,
    /// What was captured, in minor units. API versions before 2020-08-27 do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) captured: Option<i64>,
    /// Running total of what was given back or released, in minor units.
    pub(crate) refunded: i64,
    /// What was charged or held, in minor units.
    pub(crate) amount: i64,
    /// The currency of all its amounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) currency: Option<Box<str>>,
    /// Stripe was asked for it. An event of that second may be newer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_asked: bool,
}

/// How far a charge is. <https://docs.stripe.com/api/charges/object#charge_object-status>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChargeStatus {
    /// On its way, or an unknown word.
    Pending,
    /// Declined, or come back.
    Failed,
    /// The money was taken or is held.
    Succeeded,
}

impl Charge {
    /// Money was taken with it.
    pub(super) fn takes(&self) -> bool {
        self.status == ChargeStatus::Succeeded && self.is_captured
    }

    pub(super) fn money(&self, minor: i64) -> Option<Money> {
        let currency = self.currency.clone()?;
        Some(Money { minor, currency })
    }
}

/// A refund at one moment. Of two, the one whose status is further stays; then the later event.
/// The fields stand in the order in which they are compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Refund {
    /// How far it is.
    pub(crate) status: RefundStatus,
    /// When Stripe made the event that said so.
    pub(crate) at: UnixSeconds,
    /// When the refund was made.
    pub(crate) created: UnixSeconds,
    /// In minor units.
    pub(crate) amount: i64,
    /// The charge that it gives back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) charge: Option<StripeId>,
    /// The intent that it gives back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) intent: Option<StripeId>,
    /// When Stripe was last asked for all refunds of that charge or intent: none older is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listed: Option<UnixSeconds>,
}

/// How far a refund is, in the order in which a later one wins.
/// <https://docs.stripe.com/refunds#failed-refunds>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RefundStatus {
    /// `pending`, `requires_action`, or an unknown word.
    Pending,
    /// `succeeded`; it may still fail up to 30 days later.
    Succeeded,
    /// `failed` or `canceled`: the money is back with the shop.
    Failed,
}

impl Refund {
    /// Of a failure, the version that first told it stays: the charge may have been told again since.
    pub(super) fn join(&mut self, other: Refund) {
        let both_failed = self.status == RefundStatus::Failed && other.status == self.status;
        let listed = self.listed.max(other.listed);
        match self.at.cmp(&other.at) {
            Ordering::Less if both_failed => {}
            Ordering::Greater if both_failed => *self = other,
            Ordering::Less | Ordering::Equal | Ordering::Greater => raise(self, other),
        }
        self.listed = listed;
    }
}

impl RefundStatus {
    /// Reads Stripe's word.
    #[must_use]
    pub(crate) fn parse(text: &str) -> RefundStatus {
        match text {
            "succeeded" => RefundStatus::Succeeded,
            "failed" | "canceled" => RefundStatus::Failed,
            _ => RefundStatus::Pending,
        }
    }
}

/// A dispute at one moment. Of two, the one of the later event stays, then the one that is further.
/// The fields stand in the order in which they are compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Dispute {
    /// When Stripe made the event, or when Stripe was asked.
    pub(crate) at: UnixSeconds,
    /// How far it is.
    pub(crate) status: DisputeStatus,
    /// What is contested. It may differ from what was charged, in amount and in currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<i64>,
    /// The currency of the amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) currency: Option<Box<str>>,
    /// When it was first known to be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lost: Option<UnixSeconds>,
}

impl Dispute {
    /// What is told of it later does not change when it was lost.
    pub(super) fn join(&mut self, other: Dispute) {
        let lost = least(self.lost, other.lost);
        raise(self, other);
        self.lost = lost;
    }

    /// How much it holds of what was taken. One with an unknown amount or another currency holds all of
    /// it: what is kept must not contain what was lost.
    pub(super) fn holds(&self, taken: &Money) -> i64 {
        match (self.amount, &self.currency) {
            (Some(amount), Some(currency)) if *currency == taken.currency => amount,
            (Some(_) | None, _) => taken.minor,
        }
    }
}

/// How far a dispute is, in the order in which one wins over another of the same second.
/// <https://docs.stripe.com/api/disputes/object#dispute_object-status>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DisputeStatus {
    /// Somebody must answer or decide: also an inquiry, an appeal, or an unknown word.
    Open,
    /// An inquiry that was closed or a dispute that was prevented: no money moved.
    Closed,
    /// The buyer has the money; since 2026 an appeal may follow.
    Lost,
    /// The shop has the money.
    Won,
}

impl DisputeStatus {
    /// Reads Stripe's word; `None` for an unknown one.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<DisputeStatus> {
        Some(match text {
            "won" => DisputeStatus::Won,
            "lost" => DisputeStatus::Lost,
            "warning_closed" | "prevented" => DisputeStatus::Closed,
            "warning_needs_response"
            | "warning_under_review"
            | "needs_response"
            | "under_review"
            | "appeal_needs_response"
            | "appeal_under_review" => DisputeStatus::Open,
            _ => return None,
        })
    }
}

/// An invoice at one moment. Of two, the one whose status is further stays; then the later event.
/// The fields stand in the order in which they are compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Invoice {
    /// How far it is.
    pub(crate) status: InvoiceStatus,
    /// When Stripe made the event, or when Stripe was asked.
    pub(crate) at: UnixSeconds,
    /// What it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) due: Option<Money>,
    /// What was paid of it, through Stripe or outside of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) paid: Option<Money>,
    /// When it was first known to be paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) paid_at: Option<UnixSeconds>,
}

impl Invoice {
    /// What is told of it later does not change when it was paid.
    pub(super) fn join(&mut self, other: Invoice) {
        let paid_at = least(self.paid_at, other.paid_at);
        raise(self, other);
        self.paid_at = paid_at;
    }
}

/// How far an invoice is, in the order in which a later one wins.
/// <https://docs.stripe.com/invoicing/overview#invoice-statuses>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InvoiceStatus {
    /// Stripe still tries to collect it, or an unknown word.
    Open,
    /// The shop has given up.
    Uncollectible,
    /// It was a mistake: nobody owes anything.
    Void,
    /// Paid.
    Paid,
}

/// Whether somebody must still decide if a payment is honest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Review {
    /// It waits for a human.
    Open,
    /// Somebody decided.
    Closed,
}

/// Keeps the greater of the two.
pub(super) fn raise<T: Ord>(known: &mut T, other: T) {
    if other > *known {
        *known = other;
    }
}

/// Keeps the greater of the two for each id.
pub(super) fn raise_all<T: Ord>(known: &mut BTreeMap<StripeId, T>, other: BTreeMap<StripeId, T>) {
    for (id, value) in other {
        match known.entry(id) {
            Entry::Vacant(entry) => drop(entry.insert(value)),
            Entry::Occupied(mut entry) => raise(entry.get_mut(), value),
        }
    }
}

/// The lesser of the two that are known.
pub(super) fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    a.into_iter().chain(b).min()
}
