//! The event types that tell us something, one row each. `paidup connect`, `doctor` and the help of `send-test`
//! read them here; a test compares the lists in the documents with them.

/// One type of event.
#[derive(Debug)]
pub struct Kind {
    /// Stripe's name for it.
    pub name: &'static str,
    /// The object that it tells of, as that object's `object` field says.
    pub(crate) object: &'static str,
    /// Who needs it, and what is lost without it.
    pub need: Need,
}

/// Who needs a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Every shop.
    Every {
        /// What is lost without it.
        lost: &'static str,
        /// The runbook's case that this leads to, or empty.
        case: &'static str,
    },
    /// Shops that capture payments by hand.
    ManualCapture,
    /// Shops with subscriptions or invoices.
    Invoices,
    /// Shops that ship goods: warnings, reviews, debits that come back.
    Goods,
    /// Optional: payments without a session, and cancellations.
    Useful,
    /// Not needed: other types tell the same.
    Spare,
    /// Stripe has no such type. Some runbooks name it, so it is understood.
    Unlisted,
}

impl Need {
    /// The types that are needed so.
    pub(crate) fn kinds(self) -> impl Iterator<Item = &'static Kind> {
        KINDS.iter().filter(move |kind| kind.need == self)
    }

    /// What is lost when a shop has such payments and its endpoint does not list their types.
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
#[rustfmt::skip] // one line a row
pub const KINDS: &[Kind] = &[
    every("checkout.session.completed", "checkout.session", "no order becomes paid", ""),
    every("checkout.session.async_payment_succeeded", "checkout.session", "bank debits stay processing for ever", ""),
    every("checkout.session.async_payment_failed", "checkout.session", "failed bank debits stay processing for ever", ""),
    every("checkout.session.expired", "checkout.session", "abandoned orders stay pending for ever", ""),
    every("charge.refunded", "charge", "refunded orders stay paid", REFUND),
    every("refund.created", "refund", "refunds show late or not at all", REFUND),
    every("refund.updated", "refund", "refunds that are canceled still count", REFUND),
    every("refund.failed", "refund", "an order stays refunded although the money came back", REFUND),
    every("charge.dispute.created", "dispute", "disputes are not seen", ""),
    every("charge.dispute.updated", "dispute", "disputes stay as they began", ""),
    every("charge.dispute.closed", "dispute", "disputes stay open for ever", ""),
    every("charge.dispute.funds_withdrawn", "dispute", "disputes may show late", ""),
    every("charge.dispute.funds_reinstated", "dispute", "disputes that were won may show late", ""),
    row("payment_intent.succeeded", "payment_intent", Need::Useful),
    row("payment_intent.payment_failed", "payment_intent", Need::Useful),
    row("payment_intent.canceled", "payment_intent", Need::Useful),
    row("payment_intent.processing", "payment_intent", Need::Useful),
    row("payment_intent.amount_capturable_updated", "payment_intent", Need::ManualCapture),
    row("payment_intent.refunded", "payment_intent", Need::Unlisted),
    row("charge.succeeded", "charge", Need::Spare),
    row("charge.captured", "charge", Need::ManualCapture),
    row("charge.failed", "charge", Need::Goods),
    row("charge.pending", "charge", Need::Spare),
    row("charge.updated", "charge", Need::Spare),
    row("charge.expired", "charge", Need::Spare),
    // The older name of `refund.updated`.
    row("charge.refund.updated", "refund", Need::Spare),
    row("invoice.paid", "invoice", Need::Invoices),
    row("invoice_payment.paid", "invoice_payment", Need::Invoices),
    row("invoice.payment_failed", "invoice", Need::Invoices),
    row("invoice.voided", "invoice", Need::Invoices),
    row("invoice.marked_uncollectible", "invoice", Need::Invoices),
    row("radar.early_fraud_warning.created", "radar.early_fraud_warning", Need::Goods),
    row("radar.early_fraud_warning.updated", "radar.early_fraud_warning", Need::Spare),
    row("review.opened", "review", Need::Goods),
    row("review.closed", "review", Need::Goods),
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

const fn row(name: &'static str, object: &'static str, need: Need) -> Kind {
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

/// The types that a new endpoint gets: all that tell something which no other of them tells.
#[must_use]
pub fn wanted() -> Vec<&'static str> {
    let is_wanted = |kind: &&Kind| match kind.need {
        Need::Every { .. } | Need::ManualCapture | Need::Invoices | Need::Goods | Need::Useful => {
            true
        }
        Need::Spare | Need::Unlisted => false,
    };
    KINDS
        .iter()
        .filter(is_wanted)
        .map(|kind| kind.name)
        .collect()
}

/// The types that Stripe can be asked for. It refuses a type that it does not know.
#[must_use]
pub fn listable() -> Vec<&'static str> {
    let listed = KINDS.iter().filter(|kind| kind.need != Need::Unlisted);
    listed.map(|kind| kind.name).collect()
}
