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

use super::fact::{
    Attempt, Dispute, DisputeStatus, Fact, Intent, Invoice, InvoiceStatus, KnownCharge, Object,
    Refund, Review, Session, Since, Wait, least, raise, raise_all,
};
use super::money::Money;
use super::names::{Belongs, Names};
use super::part::Part;
use super::refund::{Named, Refunded};
use crate::base::id::{OrderId, StripeId, UnixSeconds};

/// Everything known of one payment. The database keeps this; the rest is computed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Payment {
    /// When the first of its events was made.
    pub(crate) since: Option<UnixSeconds>,
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
    /// The names that count even for the session of a Payment Link.
    #[serde(skip_serializing_if = "Names::is_empty")]
    link_names: Names,
    /// `None` without `OUR_ORDERS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    belongs: Option<Belongs>,
}

/// Where a payment stands that took no money, best first. An order stands where its best payment does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
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

    /// Joins another group of objects, which turned out to be of this payment.
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
        for (id, dispute) in other.disputes {
            match self.disputes.entry(id) {
                Entry::Vacant(entry) => drop(entry.insert(dispute)),
                Entry::Occupied(mut entry) => entry.get_mut().join(dispute),
            }
        }
        for (id, invoice) in other.invoices {
            let known = self.invoices.entry(id).or_default();
            match (known, invoice) {
                (Some(known), Some(invoice)) => known.join(invoice),
                (known @ None, invoice) => *known = invoice,
                (Some(_), None) => {}
            }
        }
        raise_all(&mut self.reviews, other.reviews);
        self.invoice_payments.extend(other.invoice_payments);
        self.fraud_warnings.extend(other.fraud_warnings);
        self.names.join(other.names);
        self.link_names.join(other.link_names);
        raise(&mut self.belongs, other.belongs);
    }

    /// The order that this payment is for: its best name, else its first session that is known, else its
    /// first invoice. `None` if it has none of them: then its events are parked.
    ///
    /// The buyer may have written the names of a Payment Link's session, so they count only if the shop
    /// says so.
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

    /// A name that its objects carry, whether it counts or not; the buyer's own reference first.
    #[must_use]
    pub(crate) fn reference(&self) -> Option<&OrderId> {
        let names = &self.names.best;
        let mut by_buyer = names.iter().filter(|(source, _)| source.is_reference());
        by_buyer
            .next()
            .or_else(|| names.iter().next())
            .map(|(_, name)| name)
    }

    /// A Payment Link made one of its sessions.
    #[must_use]
    pub(crate) fn is_of_link(&self) -> bool {
        self.told_sessions().any(|(_, session)| session.of_link)
    }

    /// It was given two different order ids. A reference does not count as one.
    #[must_use]
    pub(crate) fn is_named_twice(&self) -> bool {
        let names = self.names_that_count();
        let mut metadata = names
            .best
            .iter()
            .filter(|(source, _)| !source.is_reference());
        let first = metadata.next();
        names.several || metadata.any(|(_, name)| first.is_some_and(|(_, first)| first != name))
    }

    /// Whose it is; `None` without `OUR_ORDERS`.
    #[must_use]
    pub(crate) fn belongs(&self) -> Option<Belongs> {
        self.belongs
    }

    /// Makes it this shop's for good.
    pub(crate) fn keep(&mut self) {
        if self.belongs.is_some() {
            self.belongs = Some(Belongs::Ours);
        }
    }

    /// `paidup api` made one of its sessions, for the order that it names.
    #[must_use]
    pub(crate) fn is_made_here(&self) -> bool {
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
    pub(crate) fn ids(&self) -> impl Iterator<Item = &StripeId> {
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

    /// Its Checkout Sessions, rarely more than one; also one that only another object names.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &StripeId> {
        self.sessions.keys()
    }

    /// Its intents, rarely more than one; but an invoice may be paid in parts.
    pub(crate) fn intents(&self) -> impl Iterator<Item = &StripeId> {
        self.intents.keys()
    }

    /// The ids of its charges; each attempt to take the money is one.
    pub(crate) fn charges(&self) -> impl Iterator<Item = &StripeId> {
        self.charges.keys()
    }

    /// Its invoices, rarely more than one.
    pub(crate) fn invoices(&self) -> impl Iterator<Item = &StripeId> {
        self.invoices.keys()
    }

    /// Money was taken, or there was nothing to pay.
    #[must_use]
    pub(crate) fn is_paid(&self) -> bool {
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

    /// A refund proves that money was taken, unless its charge or intent says that it was not: it was only
    /// held, and the refund is the release; or it never came, and the refund waited for it in vain.
    fn proves_payment(&self, refund: &Refund) -> bool {
        let released = |intent: &Intent| {
            intent.canceled
                || intent
                    .attempt
                    .is_some_and(|(_, attempt)| attempt == Attempt::Held)
        };
        let charge = refund.charge.as_ref().and_then(|id| self.charges.get(id));
        let took_none = charge
            .and_then(|charge| charge.version.as_ref())
            .is_some_and(|version| !version.takes());
        let intent = refund.intent.as_ref();
        let intent = intent.or_else(|| charge?.intent.as_ref());
        let intent = intent.and_then(|id| self.intents.get(id));
        !took_none && !intent.is_some_and(released)
    }

    /// Where the payment stands while no money was taken.
    #[must_use]
    pub(crate) fn standing(&self) -> Standing {
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
    pub(crate) fn has_fraud_warning(&self) -> bool {
        !self.fraud_warnings.is_empty()
    }

    /// Somebody must still decide whether the payment is honest.
    #[must_use]
    pub(crate) fn is_in_review(&self) -> bool {
        self.reviews.values().any(|review| *review == Review::Open)
    }

    /// A debit that had succeeded came back.
    #[must_use]
    pub(crate) fn has_failed_after_payment(&self) -> bool {
        let parts = self.parts();
        // Of several parts, a session does not say which of them was paid.
        let paid = self.session_paid().filter(|_| parts.len() == 1);
        parts.iter().any(|part| part.has_come_back(paid))
    }

    /// The shop decides how much is captured: it may be less than what the session asked for.
    #[must_use]
    pub(crate) fn is_captured_by_hand(&self) -> bool {
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
    pub(crate) fn session_total(&self) -> Option<&Money> {
        let totals = self
            .told_sessions()
            .filter_map(|(_, session)| session.total.as_ref());
        totals.max().map(|(_, total)| total)
    }

    /// What the shop asks for: the session's total, else the intent's, the invoice's or the charge's.
    #[must_use]
    pub(crate) fn asked(&self) -> Option<Money> {
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

    /// What was taken, if a charge, an intent or an invoice says so.
    #[must_use]
    pub(crate) fn taken(&self) -> Option<Money> {
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
    pub(crate) fn refunded(&self, taken: i64) -> Refunded<'_> {
        let takings = self.takings();
        let is_only = takings.len() == 1;
        let whole = self.intents.values().filter_map(|intent| intent.refunded);
        let whole = whole.max();
        let mut sum = Refunded::default();
        let mut counted = 0;
        for taking in &takings {
            let is_own = |(_, refund): &Named<'_>| self.is_of(refund, taking, is_only);
            let own: Vec<_> = self.refunds.iter().filter(is_own).collect();
            counted += own.len();
            sum = sum.plus(Refunded::of(taking, own, whole, taken));
        }
        if takings.is_empty() || counted < self.refunds.len() {
            let is_other = |(_, refund): &Named<'_>| {
                let mut takings = takings.iter();
                !takings.any(|taking| self.is_of(refund, taking, is_only))
            };
            let others = self.refunds.iter().filter(is_other).collect();
            sum = sum.plus(Refunded::of(&Part::default(), others, whole, taken));
        }
        sum.within(taken)
    }

    /// The state of its disputes together: an open one counts first, then a lost one, then a won one.
    #[must_use]
    pub(crate) fn dispute(&self) -> Option<DisputeStatus> {
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

    /// How much of what was taken the disputes of that status hold.
    #[must_use]
    pub(crate) fn disputed(&self, wanted: DisputeStatus, taken: &Money) -> i64 {
        let disputes = self
            .disputes
            .values()
            .filter(|dispute| dispute.status == wanted);
        let held = disputes.map(|dispute| dispute.holds(taken));
        held.fold(0, i64::saturating_add).min(taken.minor)
    }

    pub(super) fn refunds(&self) -> impl Iterator<Item = Named<'_>> {
        self.refunds.iter()
    }

    pub(super) fn disputes(&self) -> impl Iterator<Item = (&StripeId, &Dispute)> {
        self.disputes.iter()
    }

    /// When a session was first known to be paid.
    pub(super) fn session_paid(&self) -> Option<Since> {
        let sessions = self.told_sessions();
        sessions.filter_map(|(_, session)| session.paid).min()
    }

    /// When an invoice was first known to be paid.
    pub(super) fn invoice_paid_at(&self) -> Option<UnixSeconds> {
        let invoices = self.paid_invoices();
        invoices.filter_map(|invoice| invoice.paid_at).min()
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

    /// When the buyer finished, as far as is known.
    fn completed(&self) -> Option<UnixSeconds> {
        self.told_sessions()
            .filter_map(|(_, session)| session.completed)
            .min()
            .map(Since::at)
    }

    /// How the best of its parts stands. What failed before it was canceled has failed.
    fn attempt(&self) -> Option<(UnixSeconds, Attempt)> {
        let parts = self.parts();
        // Of what is over, only that its last attempt failed; a hold came after those that did.
        let counts = |part: &Part<'_>, attempt| {
            !part.is_over() || attempt <= Attempt::Failed && !part.was_held()
        };
        let attempts = parts.iter().filter_map(|part| {
            let attempt = part.attempt();
            attempt.filter(|(_, attempt)| counts(part, *attempt))
        });
        attempts.max_by_key(|(at, attempt)| (*attempt, *at))
    }

    /// A delayed payment did not arrive, or the shop has given up its invoice.
    ///
    /// A declined card is not a failure: the buyer may try again, and while an invoice is open, Stripe
    /// does. It is a failure if the buyer had finished or the money was on its way.
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

    /// The parts that took money.
    pub(super) fn takings(&self) -> Vec<Part<'_>> {
        let mut parts = self.parts();
        parts.retain(Part::took);
        parts
    }

    /// Whether a refund is of that taking: it names its charge or intent, or it names neither and there
    /// is no other taking.
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
}

fn has_expired(session: &Option<Session>) -> bool {
    session.as_ref().is_some_and(|session| session.expired)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::fact::{Charge, ChargeStatus, RefundStatus};

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
    fn of_a_failed_refund_the_version_that_first_told_it_stays() {
        let failed = |at, amount| refund("re_1", at, 7, amount, RefundStatus::Failed);
        let told = [failed(8, 1000), failed(10, 1000), failed(9, 500)];
        let all = [
            charge(8, 1000),
            told[0].clone(),
            told[1].clone(),
            told[2].clone(),
        ];
        assert_eq!(refunded(&all), 0, "P2: in any order");
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
