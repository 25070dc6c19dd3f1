//! The event types that tell us something, one row each. Help pages, `paidup doctor` and the lists in the
//! documents come from here or are compared with it.

/// One type of event.
#[derive(Debug)]
pub struct Kind {
    /// Stripe's name for it.
    pub name: &'static str,
    /// What it tells of, as that object's own `object` calls it.
    pub(crate) object: &'static str,
    /// Whose endpoint must list it, and what is lost without it.
    pub need: Need,
}

/// Whose endpoint must list a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Every shop's.
    Every {
        /// What is lost without it.
        lost: &'static str,
        /// The runbook's case that this is behind, or empty.
        case: &'static str,
    },
    /// Those that capture payments by hand.
    ManualCapture,
    /// Those with subscriptions or invoices.
    Invoices,
    /// Those that ship goods should: warnings, reviews, debits that come back.
    Goods,
    /// Nobody's: it tells of payments without a session, and of cancellations.
    Useful,
    /// Nobody's: other types tell the same.
    Spare,
    /// It is in no list of Stripe's: it is taken because runbooks name it.
    Unlisted,
}

impl Need {
    /// The types that are needed like that.
    pub(crate) fn kinds(self) -> impl Iterator<Item = &'static Kind> {
        KINDS.iter().filter(move |kind| kind.need == self)
    }

    /// What is lost where such payments are and their types are not listed.
    #[must_use]
    pub(crate) fn lost(self) -> &'static str {
        match self {
            Need::Every { lost, .. } => lost,
            Need::ManualCapture => {
                "payments that are captured by hand: what is held or captured shows late or not at all"
            }
            Need::Invoices => {
                "subscriptions and invoices: payments and refunds of them show late or not at all"
            }
            Need::Goods | Need::Useful | Need::Spare | Need::Unlisted => "",
        }
    }
}

/// The runbook's case of a refund that does not show.
pub(crate) const REFUND: &str = "Refund not applied";

/// All of them, in the order in which an endpoint should list them.
pub const KINDS: &[Kind] = &[
    every(
        "checkout.session.completed",
        "checkout.session",
        "no order becomes paid",
        "",
    ),
    every(
        "checkout.session.async_payment_succeeded",
        "checkout.session",
        "bank debits stay processing for ever",
        "",
    ),
    every(
        "checkout.session.async_payment_failed",
        "checkout.session",
        "failed bank debits stay processing for ever",
        "",
    ),
    every(
        "checkout.session.expired",
        "checkout.session",
        "abandoned orders stay pending for ever",
        "",
    ),
    every(
        "charge.refunded",
        "charge",
        "refunded orders stay paid",
        REFUND,
    ),
    every(
        "refund.created",
        "refund",
        "refunds show late or not at all",
        REFUND,
    ),
    every(
        "refund.updated",
        "refund",
        "refunds that are canceled still count",
        REFUND,
    ),
    every(
        "refund.failed",
        "refund",
        "an order stays refunded although the money came back",
        REFUND,
    ),
    every(
        "charge.dispute.created",
        "dispute",
        "disputes are not seen",
        "",
    ),
    every(
        "charge.dispute.updated",
        "dispute",
        "disputes stay as they began",
        "",
    ),
    every(
        "charge.dispute.closed",
        "dispute",
        "disputes stay open for ever",
        "",
    ),
    every(
        "charge.dispute.funds_withdrawn",
        "dispute",
        "disputes may show late",
        "",
    ),
    every(
        "charge.dispute.funds_reinstated",
        "dispute",
        "disputes that were won may show late",
        "",
    ),
    some("payment_intent.succeeded", "payment_intent", Need::Useful),
    some(
        "payment_intent.payment_failed",
        "payment_intent",
        Need::Useful,
    ),
    some("payment_intent.canceled", "payment_intent", Need::Useful),
    some("payment_intent.processing", "payment_intent", Need::Useful),
    some(
        "payment_intent.amount_capturable_updated",
        "payment_intent",
        Need::ManualCapture,
    ),
    some("payment_intent.refunded", "payment_intent", Need::Unlisted),
    some("charge.succeeded", "charge", Need::Spare),
    some("charge.captured", "charge", Need::ManualCapture),
    some("charge.failed", "charge", Need::Goods),
    some("charge.pending", "charge", Need::Spare),
    some("charge.updated", "charge", Need::Spare),
    some("charge.expired", "charge", Need::Spare),
    // The older name of `refund.updated`.
    some("charge.refund.updated", "refund", Need::Spare),
    some("invoice.paid", "invoice", Need::Invoices),
    some("invoice_payment.paid", "invoice_payment", Need::Invoices),
    some("invoice.payment_failed", "invoice", Need::Invoices),
    some("invoice.voided", "invoice", Need::Invoices),
    some("invoice.marked_uncollectible", "invoice", Need::Invoices),
    some(
        "radar.early_fraud_warning.created",
        "radar.early_fraud_warning",
        Need::Goods,
    ),
    some(
        "radar.early_fraud_warning.updated",
        "radar.early_fraud_warning",
        Need::Spare,
    ),
    some("review.opened", "review", Need::Goods),
    some("review.closed", "review", Need::Goods),
];

const fn every(
    name: &'static str,
    object: &'static str,
    lost: &'static str,
    case: &'static str,
) -> Kind {
    let need = Need::Every { lost, case };
    Kind { name, object, need }
}

const fn some(name: &'static str, object: &'static str, need: Need) -> Kind {
    Kind { name, object, need }
}

impl Kind {
    /// The type of that name.
    #[must_use]
    pub(crate) fn find(name: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// What happened to the object: the last word of the name.
    pub(super) fn news(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or_default()
    }
}

/// The names of those that Stripe can be asked for: it refuses a type that it does not know.
#[must_use]
pub fn listable() -> Vec<&'static str> {
    let listed = KINDS.iter().filter(|kind| kind.need != Need::Unlisted);
    listed.map(|kind| kind.name).collect()
}
