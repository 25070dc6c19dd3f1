//! What we have been told of one payment, joined so that order and repetition do not matter.
//!
//! A payment is a group of Stripe objects that point at each other: a Checkout Session, its
//! `PaymentIntent` or its invoice, the charges, the refunds, the disputes. Every event is a [`Fact`]
//! of one of them. Joining facts is a least upper bound: flags only go up, and of two versions of one
//! object the greater stays. So a duplicate, a replay or a late arrival is not a special case.
//!
//! Invariants, cited by number in tests:
//!  P1  Joining the same fact twice is joining it once.
//!  P2  The order of joining does not show.
//!  P3  A refund that failed or was canceled never counts, whichever of its events came first.
//!  P4  `0 <= refunded <= taken`.
//!  P5  Money that was held and never captured was never taken, and so never refunded.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::reading::Mode;
use crate::base::id::{OrderId, StripeId, UnixSeconds};

/// An amount with its currency.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Money {
    /// In the currency's smallest unit (cents; yen as they are). Never negative.
    #[serde(rename = "amount")]
    pub minor: i64,
    /// Lower-case ISO code, as Stripe writes it.
    pub currency: Box<str>,
}

/// What one event tells of one Stripe object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// When Stripe made the event, or when Stripe was asked.
    pub at: UnixSeconds,
    /// The object that the event is about.
    pub id: StripeId,
    /// When Stripe made that object; when the event, if it does not say.
    pub made: UnixSeconds,
    /// What it tells of that object.
    pub object: Object,
    /// The session that the object names, if any.
    pub session: Option<StripeId>,
    /// The intent that the object names, if any.
    pub intent: Option<StripeId>,
    /// The charge that the object names, if any.
    pub charge: Option<StripeId>,
    /// The invoice that the object names, if any.
    pub invoice: Option<StripeId>,
    /// The order ids that the object carries, and where.
    pub names: Vec<(Source, OrderId)>,
    /// Those of them that count even when a Payment Link made the session.
    pub link_names: Vec<(Source, OrderId)>,
    /// The object carried an order id of over 200 characters, which is not used.
    pub name_too_long: bool,
    /// Whether it is of this shop; `None` where nothing is asked about that.
    pub belongs: Option<Belongs>,
    /// Stripe's world that it is of; `None` where the object does not say.
    pub mode: Option<Mode>,
}

/// One version of one Stripe object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
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
    /// <https://docs.stripe.com/api/invoice-payment/object>: only says what belongs together.
    InvoicePayment,
    /// <https://docs.stripe.com/api/radar/reviews/object>
    Review(Review),
    /// <https://docs.stripe.com/api/radar/early_fraud_warnings/object>
    FraudWarning,
}

/// Where an object carries the shop's order id; the smallest is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Source(u8);

/// What carries an order id, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    /// `metadata` of the session.
    Session,
    /// `metadata` of the intent.
    Intent,
    /// `metadata` of the charge.
    Charge,
    /// `metadata` of the invoice.
    Invoice,
    /// `client_reference_id` of the session.
    Reference,
}

impl Source {
    /// Kinds of [`Carrier`], with room.
    const CARRIERS: u8 = 8;
    /// Greatest rank that a source can have.
    pub const RANK_MAX: u8 = u8::MAX / Source::CARRIERS - 1;

    /// The `rank`th place in which an order id is looked for, and what was found to carry it there.
    #[must_use]
    pub fn new(rank: u8, carrier: Carrier) -> Source {
        Source(rank.min(Source::RANK_MAX) * Source::CARRIERS + carrier as u8)
    }

    /// A reference may be a customer's, so it contradicts nothing.
    fn is_reference(self) -> bool {
        self.0 % Source::CARRIERS == Carrier::Reference as u8
    }
}

/// When something became so. The least is the best: what an event tells is the time itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Since {
    /// An event has told it, when it happened.
    Told(UnixSeconds),
    /// Stripe, asked a second later, said that it is so: it has been so since then or longer.
    Found(UnixSeconds),
}

impl Since {
    fn at(self) -> UnixSeconds {
        match self {
            Since::Told(at) | Since::Found(at) => at,
        }
    }
}

/// A Checkout Session: what has happened to it, when it was first known, and the total of its newest
/// version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// The buyer has finished; the money may still be on its way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<Since>,
    /// `payment_status` was `paid`, a delayed payment arrived, or nothing was to pay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paid: Option<Since>,
    /// A delayed payment did not arrive.
    #[serde(skip_serializing_if = "is_false")]
    pub async_failed: bool,
    /// Nobody paid in time.
    #[serde(skip_serializing_if = "is_false")]
    pub expired: bool,
    /// It is one of a Payment Link, whose address anyone may have written.
    #[serde(skip_serializing_if = "is_false")]
    pub of_link: bool,
    /// `paidup api` has made it for the order that it names.
    #[serde(skip_serializing_if = "is_false")]
    pub made_here: bool,
    /// What the shop asks for, and the time of the event that said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<(UnixSeconds, Money)>,
}

/// A `PaymentIntent`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Intent {
    /// How its latest attempt stands, and as of when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<(UnixSeconds, Attempt)>,
    /// The money was taken: when that was first known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<Since>,
    /// It was once on its way: a bank debit, not a card.
    #[serde(skip_serializing_if = "is_false")]
    pub delayed: bool,
    /// Nobody will pay this any more.
    #[serde(skip_serializing_if = "is_false")]
    pub canceled: bool,
    /// The shop decides what is captured, so that need not be what was asked for.
    #[serde(skip_serializing_if = "is_false")]
    pub manual: bool,
    /// When `payment_intent.refunded` said that all of it was refunded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refunded: Option<UnixSeconds>,
    /// What was taken; it only grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<Money>,
    /// What is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Money>,
}

/// How an intent's latest attempt stands; of two that are told in the same second the greater stays.
/// <https://docs.stripe.com/payments/paymentintents/lifecycle>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attempt {
    /// Stripe, asked, says that it needs another payment method: no attempt is running.
    Idle,
    /// An attempt was declined or came back.
    Failed,
    /// It waits for its buyer: a voucher, a bank transfer, a card's second factor.
    Waiting,
    /// The money is on its way.
    Processing,
    /// The money is held for the shop, who must capture it.
    Held,
    /// The money was taken.
    Succeeded,
}

/// What is known of one charge: of its versions the greatest, and what a version does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KnownCharge {
    /// `None` for a charge of which only the id is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Charge>,
    /// When it was last heard to have failed; it may have succeeded before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<UnixSeconds>,
    /// It was once held or on its way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited: Option<Wait>,
    /// The intent that it is an attempt of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent: Option<StripeId>,
}

/// What a charge had to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// The bank.
    Bank,
    /// The shop, who must capture it.
    Capture,
}

/// A charge at one moment. The fields stand in the order in which they are compared: a charge that
/// took money took it, whatever came later; then the later event, more captured, more refunded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Charge {
    /// Only one that succeeded takes money.
    pub status: ChargeStatus,
    /// False for an authorisation, released or not.
    pub is_captured: bool,
    /// When Stripe made the event, or when Stripe was asked.
    pub at: UnixSeconds,
    /// What was captured, in minor units, if it says so: versions before 2020-08-27 do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub captured: Option<i64>,
    /// Running total of what was given back or released, in minor units.
    pub refunded: i64,
    /// What was charged or held, in minor units.
    pub amount: i64,
    /// Of all the amounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Box<str>>,
    /// Stripe was asked for it; an event of that second may be newer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_asked: bool,
}

/// How far a charge is. <https://docs.stripe.com/api/charges/object#charge_object-status>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargeStatus {
    /// On its way, or a word that we do not know.
    Pending,
    /// Declined, or come back.
    Failed,
    /// The money was taken or is held.
    Succeeded,
}

/// A refund at one moment. Of two, the one whose status is further stays; then the later event.
/// The fields stand in the order in which they are compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refund {
    /// How far it is.
    pub status: RefundStatus,
    /// When Stripe made the event that said so.
    pub at: UnixSeconds,
    /// When the refund was made.
    pub created: UnixSeconds,
    /// In minor units.
    pub amount: i64,
    /// The charge that it gives back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charge: Option<StripeId>,
    /// The intent that it gives back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent: Option<StripeId>,
    /// When Stripe was last asked for all refunds of that charge or intent: no older one is untold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<UnixSeconds>,
}

/// How far a refund is, in the order in which a later one wins.
/// <https://docs.stripe.com/refunds#failed-refunds>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    /// `pending`, `requires_action`, or a word that we do not know.
    Pending,
    /// `succeeded`; it may still fail up to 30 days later.
    Succeeded,
    /// `failed` or `canceled`: the money is back with the shop.
    Failed,
}

impl Refund {
    /// Of a failure it counts when it was first told: the charge may have been told anew since.
    fn join(&mut self, other: Refund) {
        let both_failed = self.status == RefundStatus::Failed && other.status == self.status;
        let at = self.at.min(other.at);
        let listed = self.listed.max(other.listed);
        raise(self, other);
        self.listed = listed;
        if both_failed {
            self.at = at;
        }
    }
}

impl RefundStatus {
    /// Reads Stripe's word.
    #[must_use]
    pub fn parse(text: &str) -> RefundStatus {
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
pub struct Dispute {
    /// When Stripe made the event, or when Stripe was asked.
    pub at: UnixSeconds,
    /// How far it is.
    pub status: DisputeStatus,
    /// What is contested; not always what was charged, nor in its currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    /// Of the amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Box<str>>,
}

/// How far a dispute is, in the order in which one wins over another of the same second.
/// <https://docs.stripe.com/api/disputes/object#dispute_object-status>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisputeStatus {
    /// Somebody must answer or decide: also an inquiry, an appeal, or a word that we do not know.
    Open,
    /// An inquiry that was closed or a dispute that was prevented: no money moved.
    Closed,
    /// The buyer has the money; since 2026 an appeal may follow.
    Lost,
    /// The shop has the money.
    Won,
}

impl DisputeStatus {
    /// Reads Stripe's word; `None` for one that we do not know.
    #[must_use]
    pub fn parse(text: &str) -> Option<DisputeStatus> {
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
pub struct Invoice {
    /// How far it is.
    pub status: InvoiceStatus,
    /// When Stripe made the event, or when Stripe was asked.
    pub at: UnixSeconds,
    /// What it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<Money>,
    /// What was paid of it, through Stripe or out of band.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paid: Option<Money>,
}

/// How far an invoice is, in the order in which a later one wins.
/// <https://docs.stripe.com/invoicing/overview#invoice-statuses>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceStatus {
    /// Stripe still tries to collect it, or a word that we do not know.
    Open,
    /// The shop has given up.
    Uncollectible,
    /// It was a mistake: nobody owes anything.
    Void,
    /// Paid.
    Paid,
}

/// Whether somebody must still decide if the payment is honest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Review {
    /// It waits for a human.
    Open,
    /// It was decided.
    Closed,
}

/// Whose a payment is, where several shops share one Stripe account (`OUR_ORDERS`); of two that are
/// told the greater stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Belongs {
    /// Nothing has told of it that must carry the mark.
    Unknown,
    /// What begins the sale does not carry the mark.
    Other,
    /// One of its objects carries the mark.
    Ours,
}

/// Everything known of one payment. This is what the database keeps; the rest is computed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Payment {
    /// When the first of its events was made.
    pub since: Option<UnixSeconds>,
    /// `None` for a session of which only the id is known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sessions: BTreeMap<StripeId, Option<Session>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    intents: BTreeMap<StripeId, Intent>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    charges: BTreeMap<StripeId, KnownCharge>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    refunds: BTreeMap<StripeId, Refund>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    disputes: BTreeMap<StripeId, Dispute>,
    /// `None` for an invoice of which only the id is known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    invoices: BTreeMap<StripeId, Option<Invoice>>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    invoice_payments: BTreeSet<StripeId>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    reviews: BTreeMap<StripeId, Review>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    fraud_warnings: BTreeSet<StripeId>,
    #[serde(skip_serializing_if = "Names::is_empty")]
    names: Names,
    /// Those that count even for the session of a Payment Link.
    #[serde(skip_serializing_if = "Names::is_empty")]
    link_names: Names,
    /// `None` while nothing is asked about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    belongs: Option<Belongs>,
}

/// The order ids that the objects of a payment carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Names {
    /// The smallest that each source gave.
    best: BTreeMap<Source, OrderId>,
    /// One source gave two.
    #[serde(skip_serializing_if = "is_false")]
    several: bool,
}

impl Fact {
    /// A fact that names nothing but its own object.
    #[must_use]
    pub fn new(at: UnixSeconds, id: StripeId, object: Object) -> Fact {
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
    pub fn ids(&self) -> impl Iterator<Item = &StripeId> {
        std::iter::once(&self.id)
            .chain(&self.session)
            .chain(&self.intent)
            .chain(&self.charge)
            .chain(&self.invoice)
    }
}

impl Payment {
    /// Joins one fact.
    pub fn learn(&mut self, fact: Fact) {
        let mut news = Payment {
            since: Some(fact.at),
            belongs: fact.belongs,
            ..Payment::default()
        };
        news.sessions.extend(fact.session.map(|id| (id, None)));
        news.invoices.extend(fact.invoice.map(|id| (id, None)));
        if let Some(charge) = fact.charge {
            news.charges.entry(charge).or_default().intent = fact.intent.clone();
        }
        for (source, name) in fact.names {
            news.names.add(source, name);
        }
        for (source, name) in fact.link_names {
            news.link_names.add(source, name);
        }
        let id = fact.id;
        match fact.object {
            Object::Session(session) => drop(news.sessions.insert(id, Some(session))),
            Object::Intent(intent) => {
                for charge in news.charges.values_mut() {
                    charge.intent = Some(id.clone());
                }
                news.intents.insert(id, intent);
            }
            Object::Charge(mut charge) => {
                charge.intent.clone_from(&fact.intent);
                news.charges.insert(id, charge);
            }
            Object::Refund(refund) => drop(news.refunds.insert(id, refund)),
            Object::Dispute(dispute) => drop(news.disputes.insert(id, dispute)),
            Object::Invoice(invoice) => drop(news.invoices.insert(id, Some(invoice))),
            Object::InvoicePayment => drop(news.invoice_payments.insert(id)),
            Object::Review(review) => drop(news.reviews.insert(id, review)),
            Object::FraudWarning => drop(news.fraud_warnings.insert(id)),
        }
        if let Some(intent) = fact.intent {
            news.intents.entry(intent).or_default();
        }
        self.join(news);
    }

    /// Joins all that is known of another group of objects, which turned out to be this payment.
    pub fn join(&mut self, other: Payment) {
        self.since = least(self.since, other.since);
        for (id, session) in other.sessions {
            let known = self.sessions.entry(id).or_default();
            if let Some(session) = session {
                known.get_or_insert_default().join(session);
            }
        }
        for (id, intent) in other.intents {
            self.intents.entry(id).or_default().join(intent);
        }
        for (id, charge) in other.charges {
            self.charges.entry(id).or_default().join(charge);
        }
        for (id, refund) in other.refunds {
            match self.refunds.entry(id) {
                Entry::Vacant(entry) => drop(entry.insert(refund)),
                Entry::Occupied(mut entry) => entry.get_mut().join(refund),
            }
        }
        raise_all(&mut self.disputes, other.disputes);
        raise_all(&mut self.invoices, other.invoices);
        raise_all(&mut self.reviews, other.reviews);
        self.invoice_payments.extend(other.invoice_payments);
        self.fraud_warnings.extend(other.fraud_warnings);
        self.names.join(other.names);
        self.link_names.join(other.link_names);
        raise(&mut self.belongs, other.belongs);
    }

    /// The order that this payment is for: the best name that it was given, else the first session
    /// that told of itself, else the first invoice. `None` while there is none of them: then its
    /// events are parked.
    ///
    /// The session of a Payment Link has names that its buyer may have written, so they count only
    /// where the shop says so.
    #[must_use]
    pub fn order(&self) -> Option<OrderId> {
        let named = self.names_that_count().best.values().next().cloned();
        named.or_else(|| self.own_name())
    }

    /// What the order is called when no name counts.
    #[must_use]
    pub fn own_name(&self) -> Option<OrderId> {
        let session = self.told_sessions().map(|(id, _)| id).next();
        let mut invoices = self.invoices.iter().filter(|(_, known)| known.is_some());
        session
            .or_else(|| invoices.next().map(|(id, _)| id))
            .map(OrderId::from)
    }

    /// What its objects say that it is for, where that is not what it is for; the buyer's own first.
    #[must_use]
    pub fn reference(&self) -> Option<&OrderId> {
        let names = &self.names.best;
        let mut by_buyer = names.iter().filter(|(source, _)| source.is_reference());
        by_buyer
            .next()
            .or_else(|| names.iter().next())
            .map(|(_, name)| name)
    }

    /// One of its sessions is of a Payment Link.
    #[must_use]
    pub fn is_of_link(&self) -> bool {
        self.told_sessions().any(|(_, session)| session.of_link)
    }

    /// Two different order ids were given for it. A reference beside them is none.
    #[must_use]
    pub fn is_named_twice(&self) -> bool {
        let names = self.names_that_count();
        let mut metadata = names
            .best
            .iter()
            .filter(|(source, _)| !source.is_reference());
        let first = metadata.next();
        names.several || metadata.any(|(_, name)| first.is_some_and(|(_, first)| first != name))
    }

    /// Whose it is, where several shops share the account; `None` where none does.
    #[must_use]
    pub fn belongs(&self) -> Option<Belongs> {
        self.belongs
    }

    /// Makes it this shop's for good.
    pub fn keep(&mut self) {
        if self.belongs.is_some() {
            self.belongs = Some(Belongs::Ours);
        }
    }

    /// One of its sessions was made by `paidup api` for the order that it names.
    #[must_use]
    pub fn is_made_here(&self) -> bool {
        self.told_sessions().any(|(_, session)| session.made_here)
    }

    fn names_that_count(&self) -> &Names {
        if self.is_of_link() {
            &self.link_names
        } else {
            &self.names
        }
    }

    /// The ids of all its objects.
    pub fn ids(&self) -> impl Iterator<Item = &StripeId> {
        self.sessions
            .keys()
            .chain(self.intents.keys())
            .chain(self.charges.keys())
            .chain(self.refunds.keys())
            .chain(self.disputes.keys())
            .chain(self.invoices.keys())
            .chain(&self.invoice_payments)
            .chain(self.reviews.keys())
            .chain(&self.fraud_warnings)
    }

    /// Its Checkout Sessions, hardly ever more than one; also those that are only named by another
    /// object.
    pub fn sessions(&self) -> impl Iterator<Item = &StripeId> {
        self.sessions.keys()
    }

    /// Its intents: hardly ever more than one, but an invoice may be paid in parts.
    pub fn intents(&self) -> impl Iterator<Item = &StripeId> {
        self.intents.keys()
    }

    /// The ids of its charges; each attempt to take the money is one.
    pub fn charges(&self) -> impl Iterator<Item = &StripeId> {
        self.charges.keys()
    }

    /// Its invoices, hardly ever more than one.
    pub fn invoices(&self) -> impl Iterator<Item = &StripeId> {
        self.invoices.keys()
    }

    /// Money was taken, or nothing was to pay.
    #[must_use]
    pub fn is_paid(&self) -> bool {
        self.told_sessions()
            .any(|(_, session)| session.paid.is_some())
            || self.intents.values().any(Intent::took)
            || self.charges.values().any(KnownCharge::took)
            || self.paid_invoices().next().is_some()
            || self
                .disputes
                .values()
                .any(|dispute| dispute.amount != Some(0))
            || self
                .refunds
                .values()
                .any(|refund| self.proves_payment(refund))
    }

    /// A refund proves that money was taken, unless what is known of its charge or its intent says that
    /// the money was only held, or never came: then it is the release of the hold.
    fn proves_payment(&self, refund: &Refund) -> bool {
        let of_hold = |charge: &KnownCharge| {
            charge
                .version
                .as_ref()
                .is_some_and(|version| match version.status {
                    ChargeStatus::Succeeded => !version.is_captured,
                    ChargeStatus::Failed => true,
                    ChargeStatus::Pending => false,
                })
        };
        let released = |intent: &Intent| {
            intent.canceled
                || intent
                    .attempt
                    .is_some_and(|(_, attempt)| attempt == Attempt::Held)
        };
        let charge = refund.charge.as_ref().and_then(|id| self.charges.get(id));
        let intent = refund.intent.as_ref();
        let intent = intent.or_else(|| charge?.intent.as_ref());
        let intent = intent.and_then(|id| self.intents.get(id));
        !charge.is_some_and(of_hold) && !intent.is_some_and(released)
    }

    /// Where the payment stands while no money was taken.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let completed = self.completed();
        if self.has_failed(completed) {
            Standing::Failed
        } else if self.is_canceled() {
            Standing::Canceled
        } else if self.is_held() {
            Standing::Authorized
        } else if completed.is_some() || self.is_on_its_way() {
            Standing::Processing
        } else if !self.sessions.is_empty() && self.sessions.values().all(has_expired) {
            Standing::Expired
        } else {
            Standing::Pending
        }
    }

    /// Somebody has warned that the payment is a fraud.
    #[must_use]
    pub fn has_fraud_warning(&self) -> bool {
        !self.fraud_warnings.is_empty()
    }

    /// Somebody must still decide whether the payment is honest.
    #[must_use]
    pub fn is_in_review(&self) -> bool {
        self.reviews.values().any(|review| *review == Review::Open)
    }

    /// A debit that had succeeded came back.
    #[must_use]
    pub fn has_failed_after_payment(&self) -> bool {
        let parts = self.parts();
        // Of several parts, a session does not say which of them was paid.
        let paid = self.told_sessions().filter_map(|(_, session)| session.paid);
        let paid = paid.min().filter(|_| parts.len() == 1);
        parts.iter().any(|part| part.has_come_back(paid))
    }

    /// The shop decides what is captured, so that need not be what the session asked for.
    #[must_use]
    pub fn is_captured_by_hand(&self) -> bool {
        let by_hand = |intent: &Intent| {
            let differs = match (&intent.asked, &intent.received) {
                (Some(asked), Some(received)) => asked != received,
                (Some(_) | None, _) => false,
            };
            intent.manual || differs
        };
        self.intents.values().any(by_hand)
            || self
                .charges
                .values()
                .any(|charge| charge.waited == Some(Wait::Capture))
    }

    /// What the session asked for.
    #[must_use]
    pub fn session_total(&self) -> Option<&Money> {
        let totals = self
            .told_sessions()
            .filter_map(|(_, session)| session.total.as_ref());
        totals.max().map(|(_, total)| total)
    }

    /// What the shop asks for: the session's total, else the intent's, the invoice's or the charge's.
    #[must_use]
    pub fn asked(&self) -> Option<Money> {
        let of_intents = || {
            self.intents
                .values()
                .filter_map(|intent| intent.asked.as_ref())
                .max()
        };
        let of_invoices = || {
            let invoices = self.invoices.values().flatten();
            invoices.filter_map(|invoice| invoice.due.as_ref()).max()
        };
        let of_charges = || {
            let versions = self
                .charges
                .values()
                .filter_map(|charge| charge.version.as_ref());
            versions
                .filter_map(|version| version.money(version.amount))
                .max()
        };
        let asked = self
            .session_total()
            .or_else(of_invoices)
            .or_else(of_intents);
        asked.cloned().or_else(of_charges)
    }

    /// What was taken, as far as a charge, an intent or an invoice says so.
    #[must_use]
    pub fn taken(&self) -> Option<Money> {
        let takings = self
            .takings()
            .into_iter()
            .filter_map(|taking| taking.money());
        let sum = takings.reduce(|sum, money| Money {
            minor: sum.minor.saturating_add(money.minor),
            currency: sum.currency.min(money.currency),
        });
        let invoiced = self
            .paid_invoices()
            .filter_map(|invoice| invoice.paid.clone())
            .max();
        match (sum, invoiced) {
            (Some(sum), Some(invoiced)) if sum.currency == invoiced.currency => {
                Some(sum.max(invoiced))
            }
            (sum, invoiced) => sum.or(invoiced),
        }
    }

    /// What was given back of at most `taken`, in minor units.
    #[must_use]
    pub fn refunded(&self, taken: i64) -> Refunded {
        let takings = self.takings();
        let mut sum = Refunded::default();
        let mut counted = 0;
        for taking in &takings {
            let of_taking = |refund: &&Refund| self.is_of(refund, taking, takings.len() == 1);
            let refunds: Vec<_> = self.refunds.values().filter(of_taking).collect();
            counted += refunds.len();
            sum = sum.plus(self.refunded_of(taking, &refunds, taken));
        }
        if counted < self.refunds.len() {
            let is_other = |refund: &&Refund| {
                !takings
                    .iter()
                    .any(|taking| self.is_of(refund, taking, takings.len() == 1))
            };
            let others: Vec<_> = self.refunds.values().filter(is_other).collect();
            sum = sum.plus(self.refunded_of(&Part::default(), &others, taken));
        } else if takings.is_empty() {
            sum = self.refunded_of(&Part::default(), &[], taken);
        }
        sum.within(taken)
    }

    /// The disputes' joint state: one that is open wins, then one that is lost, then one that is won.
    #[must_use]
    pub fn dispute(&self) -> Option<DisputeStatus> {
        let statuses = || self.disputes.values().map(|dispute| dispute.status);
        [
            DisputeStatus::Open,
            DisputeStatus::Lost,
            DisputeStatus::Won,
            DisputeStatus::Closed,
        ]
        .into_iter()
        .find(|wanted| statuses().any(|status| status == *wanted))
    }

    /// What the disputes of that status hold of what was taken. One whose amount is not known or in
    /// another currency holds all of it: what is kept must not contain what was lost.
    #[must_use]
    pub fn disputed(&self, wanted: DisputeStatus, taken: &Money) -> i64 {
        let disputes = self
            .disputes
            .values()
            .filter(|dispute| dispute.status == wanted);
        let held = disputes.map(|dispute| match (dispute.amount, &dispute.currency) {
            (Some(amount), Some(currency)) if *currency == taken.currency => amount,
            (Some(_) | None, _) => taken.minor,
        });
        held.fold(0, i64::saturating_add).min(taken.minor)
    }

    fn told_sessions(&self) -> impl Iterator<Item = (&StripeId, &Session)> {
        let told = self.sessions.iter();
        told.filter_map(|(id, session)| Some((id, session.as_ref()?)))
    }

    fn paid_invoices(&self) -> impl Iterator<Item = &Invoice> {
        let invoices = self.invoices.values().flatten();
        invoices.filter(|invoice| invoice.status == InvoiceStatus::Paid)
    }

    fn invoice(&self) -> Option<InvoiceStatus> {
        self.invoices
            .values()
            .flatten()
            .map(|invoice| invoice.status)
            .max()
    }

    /// When the buyer had finished, as far as is known.
    fn completed(&self) -> Option<UnixSeconds> {
        self.told_sessions()
            .filter_map(|(_, session)| session.completed)
            .min()
            .map(Since::at)
    }

    /// How the best of its parts stands. What has failed before it was canceled has failed.
    fn attempt(&self) -> Option<(UnixSeconds, Attempt)> {
        let parts = self.parts();
        let counts = |part: &Part<'_>, attempt| !part.is_over() || attempt <= Attempt::Failed;
        let attempts = parts.iter().filter_map(|part| {
            let attempt = part.attempt();
            attempt.filter(|(_, attempt)| counts(part, *attempt))
        });
        attempts.max_by_key(|(at, attempt)| (*attempt, *at))
    }

    /// A delayed payment did not arrive, or the shop has given up its invoice.
    ///
    /// A card that is declined is none: the buyer may try again, and while an invoice is open, Stripe
    /// does. What tells them apart is that the buyer had finished, or that the money was on its way.
    fn has_failed(&self, completed: Option<UnixSeconds>) -> bool {
        let came_back = match self.attempt() {
            Some((at, Attempt::Idle | Attempt::Failed)) => match completed {
                Some(completed) => at > completed,
                None => self.told_sessions().next().is_none() && self.was_on_its_way(),
            },
            Some((
                _,
                Attempt::Waiting | Attempt::Processing | Attempt::Held | Attempt::Succeeded,
            ))
            | None => false,
        };
        match self.invoice() {
            Some(InvoiceStatus::Uncollectible) => !self.is_on_its_way(),
            Some(InvoiceStatus::Void) => false,
            Some(InvoiceStatus::Open) if completed.is_none() => false,
            Some(InvoiceStatus::Open | InvoiceStatus::Paid) | None => {
                came_back
                    || self
                        .told_sessions()
                        .any(|(_, session)| session.async_failed)
            }
        }
    }

    /// The invoice was voided, or every part of it is over.
    fn is_canceled(&self) -> bool {
        let mut parts = self.parts();
        parts.retain(|part| part.intent.is_some() || part.tried().next().is_some());
        let is_over = !parts.is_empty() && parts.iter().all(Part::is_over);
        is_over || self.invoice() == Some(InvoiceStatus::Void)
    }

    /// The money is held for the shop.
    fn is_held(&self) -> bool {
        let parts = self.parts();
        parts.iter().any(|part| !part.is_over() && part.is_held())
    }

    fn is_on_its_way(&self) -> bool {
        self.attempt()
            .is_some_and(|(_, attempt)| attempt == Attempt::Processing)
    }

    fn was_on_its_way(&self) -> bool {
        self.intents.values().any(|intent| intent.delayed)
            || self
                .charges
                .values()
                .any(|charge| charge.waited == Some(Wait::Bank))
    }

    /// Each intent with its charges, and each charge without one.
    fn parts(&self) -> Vec<Part<'_>> {
        let only_intent = match self.intents.len() {
            1 => self.intents.keys().next(),
            _ => None,
        };
        let mut parts: BTreeMap<(Option<&StripeId>, Option<&StripeId>), Part<'_>> = BTreeMap::new();
        for (id, intent) in &self.intents {
            let part = parts.entry((Some(id), None)).or_default();
            part.intent = Some((id, intent));
        }
        for (id, charge) in &self.charges {
            let intent = charge.intent.as_ref().or(only_intent);
            let key = match intent {
                Some(intent) => (Some(intent), None),
                None => (None, Some(id)),
            };
            parts.entry(key).or_default().learn(id, charge);
        }
        parts.into_values().collect()
    }

    /// Those that took money.
    fn takings(&self) -> Vec<Part<'_>> {
        let mut parts = self.parts();
        parts.retain(Part::took);
        parts
    }

    /// Whether a refund is of that taking: it names its charge or its intent, or neither and there is
    /// no other.
    fn is_of(&self, refund: &Refund, taking: &Part<'_>, is_only: bool) -> bool {
        let intent_of = |id| {
            self.charges
                .get(id)
                .and_then(|charge| charge.intent.as_ref())
        };
        let intent = refund.intent.as_ref();
        let intent = intent.or_else(|| intent_of(refund.charge.as_ref()?));
        match (&refund.charge, intent) {
            (Some(charge), _) if taking.charge == Some(charge) => true,
            (_, Some(intent)) => taking.intent.is_some_and(|(id, _)| id == intent) || is_only,
            (Some(_) | None, None) => is_only,
        }
    }

    /// What was given back of one taking.
    ///
    /// The charge has a running total, the refunds have their own amounts, and either may be the one
    /// that we were told of. A refund that failed after the running total was taken is still in it
    /// (`gone`); one made after it is not yet in it (`new`). Stripe shows the part of a hold that was
    /// never captured as refunded, too (`release`): it is in the total, and may have a refund of its
    /// own.
    fn refunded_of(&self, taking: &Part<'_>, refunds: &[&Refund], taken: i64) -> Refunded {
        let captured = taking.captured().unwrap_or(taken);
        let release = taking
            .held()
            .map_or(0, |held| held.saturating_sub(captured).max(0));
        let version = taking.version.filter(|version| version.is_captured);
        let snapshot =
            version.map(|version| (version.at, version.refunded.saturating_sub(release).max(0)));
        // `payment_intent.refunded` says that all of it is refunded, as of its own time.
        let whole = self
            .intents
            .values()
            .filter_map(|intent| intent.refunded)
            .max();
        let snapshot = snapshot.max(whole.map(|at| (at, captured)));
        let as_of = version.map(|version| version.at);
        let released = release_among(refunds, release, as_of);
        let refunds = || {
            refunds
                .iter()
                .filter(|refund| !released.is_some_and(|one| std::ptr::eq(one, **refund)))
        };
        let sum = |wanted: &dyn Fn(&Refund) -> bool| {
            let wanted = refunds().filter(|refund| wanted(refund));
            wanted
                .map(|refund| refund.amount)
                .fold(0, i64::saturating_add)
        };
        let lives = |refund: &Refund| refund.status < RefundStatus::Failed;
        let live = sum(&lives);
        let pending = sum(&|refund| refund.status == RefundStatus::Pending);
        let Some((as_of, total)) = snapshot else {
            return Refunded { all: live, pending }.within(captured);
        };
        // A list that is not older than the total has all that it may sum up: what failed need not be
        // taken out of it yet.
        let is_asked = version.is_some_and(|version| version.is_asked);
        let is_listed = |refund: &Refund| {
            let listed = refund.listed;
            listed.is_some_and(|at| at > as_of || at == as_of && is_asked)
        };
        let is_gone = |refund: &Refund| refund.at >= as_of || is_listed(refund);
        let gone = sum(&|refund| !lives(refund) && is_gone(refund) && refund.created <= as_of);
        let new = sum(&|refund| lives(refund) && refund.created > as_of);
        let told = total.saturating_sub(gone).max(0).saturating_add(new);
        Refunded {
            all: live.max(told),
            pending,
        }
        .within(captured)
    }
}

/// Where a payment stands that took no money, best first: an order is what the best of its payments is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The money is held for the shop, which must capture it.
    Authorized,
    /// The buyer has finished, the money is on its way.
    Processing,
    /// The buyer may still pay.
    Pending,
    /// A delayed payment did not arrive, or an invoice was given up.
    Failed,
    /// It was canceled, the hold released, the invoice voided.
    Canceled,
    /// The session ended before anybody paid.
    Expired,
}

/// What was given back, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refunded {
    /// All of it.
    pub all: i64,
    /// The part that is not through yet.
    pub pending: i64,
}

impl Refunded {
    fn plus(self, other: Refunded) -> Refunded {
        Refunded {
            all: self.all.saturating_add(other.all),
            pending: self.pending.saturating_add(other.pending),
        }
    }

    fn within(self, max: i64) -> Refunded {
        let all = self.all.min(max);
        Refunded {
            all,
            pending: self.pending.min(all),
        }
    }
}

/// An intent with its charges, of which at most one takes the money, or such a charge alone.
#[derive(Default)]
struct Part<'a> {
    intent: Option<(&'a StripeId, &'a Intent)>,
    charges: Vec<&'a KnownCharge>,
    /// The one that took or holds the money.
    charge: Option<&'a StripeId>,
    version: Option<&'a Charge>,
}

impl<'a> Part<'a> {
    fn learn(&mut self, id: &'a StripeId, charge: &'a KnownCharge) {
        self.charges.push(charge);
        let version = charge.version.as_ref();
        let rank = |version: Option<&'a Charge>| version.map(|version| (version.takes(), version));
        if self.charge.is_none() || rank(version) > rank(self.version) {
            self.charge = Some(id);
            self.version = version;
        }
    }

    fn took(&self) -> bool {
        self.intent.is_some_and(|(_, intent)| intent.took())
            || self.version.is_some_and(Charge::takes)
    }

    /// The charges that did not fail.
    fn tried(&self) -> impl Iterator<Item = &Charge> {
        let versions = self
            .charges
            .iter()
            .filter_map(|charge| charge.version.as_ref());
        versions.filter(|version| version.status != ChargeStatus::Failed)
    }

    /// Nobody will pay it any more: its intent was canceled, or all its charges were holds that were
    /// released.
    fn is_over(&self) -> bool {
        let is_released = |version: &Charge| !version.is_captured && version.refunded > 0;
        self.intent.is_some_and(|(_, intent)| intent.canceled)
            || self.tried().next().is_some() && self.tried().all(is_released)
    }

    /// How its latest attempt stands. A charge that is pending or has failed is one, too.
    fn attempt(&self) -> Option<(UnixSeconds, Attempt)> {
        let of_charge = |charge: &&KnownCharge| {
            let version = charge.version.as_ref();
            let pending = version.filter(|version| version.status == ChargeStatus::Pending);
            let pending = pending.map(|version| (version.at, Attempt::Processing));
            pending.max(charge.failed.map(|at| (at, Attempt::Failed)))
        };
        let of_intent = self.intent.and_then(|(_, intent)| intent.attempt);
        of_intent.max(self.charges.iter().filter_map(of_charge).max())
    }

    /// The money is held for the shop.
    fn is_held(&self) -> bool {
        let holds = |version: &Charge| {
            version.status == ChargeStatus::Succeeded
                && !version.is_captured
                && version.refunded == 0
        };
        let is_latest = matches!(self.attempt(), Some((_, Attempt::Held)));
        is_latest || self.tried().any(holds)
    }

    /// A debit that had succeeded, at `paid` if its session says so, came back.
    fn has_come_back(&self, paid: Option<Since>) -> bool {
        let intent = self.intent.map(|(_, intent)| intent);
        let taken = least(paid, intent.and_then(|intent| intent.succeeded));
        let later = |at: UnixSeconds| taken.is_some_and(|taken| at > taken.at());
        let one_took = self.charges.iter().any(|charge| charge.took());
        // While another charge took the money, this one was declined before.
        let by_charge = |charge: &&KnownCharge| {
            let failed = charge.failed;
            failed.is_some_and(|at| charge.took() || !one_took && later(at))
        };
        let by_intent = |intent: &Intent| match intent.attempt {
            Some((at, Attempt::Idle | Attempt::Failed)) => later(at),
            Some((
                _,
                Attempt::Waiting | Attempt::Processing | Attempt::Held | Attempt::Succeeded,
            ))
            | None => false,
        };
        self.charges.iter().any(by_charge) || intent.is_some_and(by_intent)
    }

    fn captured(&self) -> Option<i64> {
        let received = self.intent.and_then(|(_, intent)| intent.received.as_ref());
        let received = received.map(|money| money.minor);
        match self.version.filter(|version| version.takes()) {
            Some(version) => match version.captured {
                // What is captured later is heard of by the intent first.
                Some(captured) => Some(captured.max(received.unwrap_or(0))),
                None => received.or(Some(version.amount)),
            },
            None => received,
        }
    }

    fn held(&self) -> Option<i64> {
        let asked = self.intent.and_then(|(_, intent)| intent.asked.as_ref());
        let held = self.version.map(|version| version.amount);
        held.or_else(|| asked.map(|asked| asked.minor))
    }

    fn money(&self) -> Option<Money> {
        let received = self.intent.and_then(|(_, intent)| intent.received.as_ref());
        let of_charge = || self.version?.currency.clone();
        let currency = received
            .map(|money| money.currency.clone())
            .or_else(of_charge)?;
        let minor = self.captured()?;
        Some(Money { minor, currency })
    }
}

/// The refund that is the release of a hold: the first of that amount that is not younger than the
/// capture.
fn release_among<'a>(
    refunds: &[&'a Refund],
    release: i64,
    captured_by: Option<UnixSeconds>,
) -> Option<&'a Refund> {
    let is_release = |refund: &&&Refund| {
        refund.amount == release
            && refund.status == RefundStatus::Succeeded
            && captured_by.is_none_or(|at| refund.created <= at)
    };
    if release == 0 {
        return None;
    }
    refunds
        .iter()
        .filter(is_release)
        .min_by_key(|refund| refund.created)
        .copied()
}

fn has_expired(session: &Option<Session>) -> bool {
    session.as_ref().is_some_and(|session| session.expired)
}

impl Session {
    fn join(&mut self, other: Session) {
        self.completed = least(self.completed, other.completed);
        self.paid = least(self.paid, other.paid);
        self.async_failed |= other.async_failed;
        self.expired |= other.expired;
        self.of_link |= other.of_link;
        self.made_here |= other.made_here;
        raise(&mut self.total, other.total);
    }
}

impl Intent {
    fn took(&self) -> bool {
        let received = self.received.as_ref().is_some_and(|money| money.minor > 0);
        self.succeeded.is_some() || self.refunded.is_some() || received
    }

    fn join(&mut self, other: Intent) {
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

impl KnownCharge {
    fn took(&self) -> bool {
        self.version.as_ref().is_some_and(Charge::takes)
    }

    fn join(&mut self, other: KnownCharge) {
        raise(&mut self.version, other.version);
        raise(&mut self.failed, other.failed);
        raise(&mut self.waited, other.waited);
        self.intent = least(self.intent.take(), other.intent);
    }
}

impl Charge {
    /// Money was taken with it.
    fn takes(&self) -> bool {
        self.status == ChargeStatus::Succeeded && self.is_captured
    }

    fn money(&self, minor: i64) -> Option<Money> {
        let currency = self.currency.clone()?;
        Some(Money { minor, currency })
    }
}

impl Names {
    fn is_empty(&self) -> bool {
        self.best.is_empty()
    }

    fn add(&mut self, source: Source, name: OrderId) {
        let known = self.best.entry(source).or_insert_with(|| name.clone());
        if *known != name {
            self.several = true;
            if name < *known {
                *known = name;
            }
        }
    }

    fn join(&mut self, other: Names) {
        for (source, name) in other.best {
            self.add(source, name);
        }
        self.several |= other.several;
    }
}

/// Keeps the greater of the two.
fn raise<T: Ord>(known: &mut T, other: T) {
    if other > *known {
        *known = other;
    }
}

/// Keeps the greater of the two for each id.
fn raise_all<T: Ord>(known: &mut BTreeMap<StripeId, T>, other: BTreeMap<StripeId, T>) {
    for (id, value) in other {
        match known.entry(id) {
            Entry::Vacant(entry) => drop(entry.insert(value)),
            Entry::Occupied(mut entry) => raise(entry.get_mut(), value),
        }
    }
}

/// The lesser of the two that are known.
fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    a.into_iter().chain(b).min()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> StripeId {
        StripeId::parse(text).unwrap()
    }

    fn charge(at: i64, refunded: i64) -> Fact {
        let version = Charge {
            status: ChargeStatus::Succeeded,
            at: UnixSeconds(at),
            is_captured: true,
            captured: Some(2500),
            refunded,
            amount: 2500,
            currency: Some("eur".into()),
            is_asked: false,
        };
        let charge = KnownCharge {
            version: Some(version),
            ..KnownCharge::default()
        };
        Fact::new(UnixSeconds(at), id("ch_1"), Object::Charge(charge))
    }

    fn refund(name: &str, at: i64, created: i64, amount: i64, status: RefundStatus) -> Fact {
        let refund = Refund {
            status,
            at: UnixSeconds(at),
            created: UnixSeconds(created),
            amount,
            charge: Some(id("ch_1")),
            intent: None,
            listed: None,
        };
        Fact::new(UnixSeconds(at), id(name), Object::Refund(refund))
    }

    /// What is refunded of 25.00, after these facts in this order and in the reverse one.
    fn refunded(facts: &[Fact]) -> i64 {
        let learn = |facts: &mut dyn Iterator<Item = &Fact>| {
            let mut payment = Payment::default();
            facts.for_each(|fact| payment.learn(fact.clone()));
            payment
        };
        let payment = learn(&mut facts.iter());
        assert_eq!(payment, learn(&mut facts.iter().rev()), "P2");
        payment.refunded(2500).all
    }

    #[test]
    fn the_running_total_and_the_refunds_are_two_views_of_one_sum() {
        use RefundStatus::{Failed, Pending, Succeeded};
        let total = [charge(10, 1000)];
        assert_eq!(refunded(&total), 1000, "only the total is known");
        let single = [refund("re_1", 10, 10, 1000, Succeeded)];
        assert_eq!(refunded(&single), 1000, "only the refund is known");
        let both = [charge(10, 1000), refund("re_1", 10, 10, 1000, Succeeded)];
        assert_eq!(refunded(&both), 1000, "the same sum, not twice");
        let newer = [charge(10, 1000), refund("re_2", 11, 11, 500, Pending)];
        assert_eq!(refunded(&newer), 1500, "made after the total was taken");
        let missed = [charge(10, 0), refund("re_1", 10, 10, 700, Succeeded)];
        assert_eq!(
            refunded(&missed),
            700,
            "made in the second in which the total was taken"
        );
        let failed = [charge(10, 1000), refund("re_1", 10, 9, 1000, Failed)];
        assert_eq!(
            refunded(&failed),
            0,
            "failed in the second in which the total was taken"
        );
        let before = [charge(10, 1000), refund("re_1", 8, 7, 500, Failed)];
        assert_eq!(refunded(&before), 1000, "failed before the total was taken");
        let late = [charge(10, 1000), refund("re_2", 12, 11, 500, Failed)];
        assert_eq!(
            refunded(&late),
            1000,
            "made and failed after the total was taken"
        );
    }

    #[test]
    fn a_failed_refund_that_is_listed_is_not_in_a_total_that_is_not_newer() {
        let failed = || refund("re_1", 8, 7, 500, RefundStatus::Failed);
        let listed_at = |at: i64| {
            let mut fact = refund("re_1", at, 7, 500, RefundStatus::Failed);
            if let Object::Refund(refund) = &mut fact.object {
                refund.listed = Some(UnixSeconds(at));
            }
            fact
        };
        let asked_at = |at: i64| {
            let mut fact = charge(at, 500);
            if let Object::Charge(KnownCharge {
                version: Some(version),
                ..
            }) = &mut fact.object
            {
                version.is_asked = true;
            }
            fact
        };
        let unlisted = [failed(), asked_at(10)];
        assert_eq!(
            refunded(&unlisted),
            500,
            "of another refund, as far as is known"
        );
        for listed in [10, 11] {
            let both = [failed(), listed_at(listed), asked_at(10)];
            assert_eq!(
                refunded(&both),
                0,
                "the list has no other: listed at {listed}"
            );
        }
        let told = [failed(), listed_at(10), charge(10, 500)];
        assert_eq!(
            refunded(&told),
            500,
            "an event of that second may be newer than the list"
        );
        let newer = [failed(), listed_at(10), asked_at(11)];
        assert_eq!(refunded(&newer), 500, "made after the list");
    }

    #[test]
    fn no_sum_leaves_its_bounds() {
        use RefundStatus::{Failed, Succeeded};
        let too_much = [charge(10, 9000), refund("re_1", 11, 11, 9000, Succeeded)];
        assert_eq!(refunded(&too_much), 2500, "P4");
        let too_little = [charge(10, 100), refund("re_1", 11, 9, 9000, Failed)];
        assert_eq!(refunded(&too_little), 0, "P4");
    }
}
