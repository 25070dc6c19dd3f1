//! What we have been told of one payment, joined so that order and repetition do not matter.
//!
//! A payment is a group of Stripe objects that point at each other: a Checkout Session, its
//! `PaymentIntent`, the charges, the refunds, the disputes. Every event is a [`Fact`] of one of them.
//! Joining facts is a least upper bound: flags only go up, and of two versions of one object the
//! greater stays. So a duplicate, a replay or a late arrival is not a special case.
//!
//! Invariants, cited by number in tests:
//!  P1  Joining the same fact twice is joining it once.
//!  P2  The order of joining does not show.
//!  P3  A refund that failed or was canceled never counts, whichever of its events came first.
//!  P4  `0 <= refunded <= taken`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::id::{OrderId, StripeId, UnixSeconds};

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
    /// When Stripe made the event.
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
    /// The order ids that the object carries, and where.
    pub names: Vec<(Source, OrderId)>,
    /// The object carried an order id of over 200 characters, which is not used.
    pub name_too_long: bool,
}

/// One version of one Stripe object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// <https://docs.stripe.com/api/checkout/sessions/object>
    Session(Session),
    /// <https://docs.stripe.com/api/payment_intents/object>
    Intent(Intent),
    /// <https://docs.stripe.com/api/charges/object>
    Charge(Charge),
    /// <https://docs.stripe.com/api/refunds/object>
    Refund(Refund),
    /// <https://docs.stripe.com/api/disputes/object>
    Dispute {
        /// How far the dispute is.
        status: DisputeStatus,
    },
}

/// Where an object carries the shop's order id, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `client_reference_id` of the session.
    SessionReference,
    /// `metadata.order_id` of the session.
    SessionMetadata,
    /// `metadata.order_id` of the intent.
    IntentMetadata,
    /// `metadata.order_id` of the charge.
    ChargeMetadata,
}

/// A Checkout Session: flags that only go up, and the total of its newest version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// The buyer has finished; the money may still be on its way.
    #[serde(skip_serializing_if = "is_false")]
    pub completed: bool,
    /// `payment_status` was `paid`, or nothing was to pay.
    #[serde(skip_serializing_if = "is_false")]
    pub paid: bool,
    /// A delayed payment arrived.
    #[serde(skip_serializing_if = "is_false")]
    pub async_succeeded: bool,
    /// A delayed payment did not arrive.
    #[serde(skip_serializing_if = "is_false")]
    pub async_failed: bool,
    /// Nobody paid in time.
    #[serde(skip_serializing_if = "is_false")]
    pub expired: bool,
    /// What the shop asks for, and the time of the event that said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<(UnixSeconds, Money)>,
}

/// A `PaymentIntent`: flags that only go up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Intent {
    /// The money was taken.
    #[serde(skip_serializing_if = "is_false")]
    pub succeeded: bool,
    /// At least one attempt was declined; the buyer may try again.
    #[serde(skip_serializing_if = "is_false")]
    pub failed: bool,
    /// Nobody will pay this any more.
    #[serde(skip_serializing_if = "is_false")]
    pub canceled: bool,
    /// When `payment_intent.refunded` said that all of it was refunded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refunded: Option<UnixSeconds>,
    /// What was taken, once it has succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<Money>,
    /// What is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Money>,
}

/// A charge at one moment. Of two, the one of the later event stays; in the same second the one
/// with more refunded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Charge {
    /// Running total of what was refunded, in minor units.
    pub refunded: i64,
    /// What was taken, in minor units; 0 while it is only authorised.
    pub captured: i64,
    /// False for an authorisation, released or not.
    pub is_captured: bool,
    /// Of both amounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Box<str>>,
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
    /// Reads Stripe's word.
    #[must_use]
    pub fn parse(text: &str) -> DisputeStatus {
        match text {
            "won" => DisputeStatus::Won,
            "lost" => DisputeStatus::Lost,
            "warning_closed" | "prevented" => DisputeStatus::Closed,
            _ => DisputeStatus::Open,
        }
    }
}

/// A value with the time of the event that it came with; of two, the later stays.
type Dated<T> = (UnixSeconds, T);

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
    /// `None` for a charge of which only the id is known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    charges: BTreeMap<StripeId, Option<Dated<Charge>>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    refunds: BTreeMap<StripeId, Refund>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    disputes: BTreeMap<StripeId, Dated<DisputeStatus>>,
    /// The smallest name that each source gave.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    names: BTreeMap<Source, OrderId>,
    /// One source gave two names.
    #[serde(skip_serializing_if = "is_false")]
    renamed: bool,
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
            names: Vec::new(),
            name_too_long: false,
        }
    }

    /// The ids that belong to the same payment: the object's own, and those that it names.
    pub fn ids(&self) -> impl Iterator<Item = &StripeId> {
        std::iter::once(&self.id)
            .chain(&self.session)
            .chain(&self.intent)
            .chain(&self.charge)
    }
}

impl Payment {
    /// Joins one fact.
    pub fn learn(&mut self, fact: Fact) {
        let Fact {
            at,
            id,
            made: _,
            object,
            session,
            intent,
            charge,
            names,
            name_too_long: _,
        } = fact;
        let mut news = Payment {
            since: Some(at),
            ..Payment::default()
        };
        news.sessions.extend(session.map(|id| (id, None)));
        news.intents
            .extend(intent.map(|id| (id, Intent::default())));
        news.charges.extend(charge.map(|id| (id, None)));
        for (source, name) in names {
            news.claim(source, name);
        }
        match object {
            Object::Session(session) => drop(news.sessions.insert(id, Some(session))),
            Object::Intent(intent) => drop(news.intents.insert(id, intent)),
            Object::Charge(charge) => drop(news.charges.insert(id, Some((at, charge)))),
            Object::Refund(refund) => drop(news.refunds.insert(id, refund)),
            Object::Dispute { status } => drop(news.disputes.insert(id, (at, status))),
        }
        self.join(news);
    }

    /// Joins all that is known of another group of objects, which turned out to be this payment.
    pub fn join(&mut self, other: Payment) {
        self.since = earlier(self.since, other.since);
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
            raise(self.charges.entry(id).or_default(), charge);
        }
        for (id, refund) in other.refunds {
            let known = self.refunds.entry(id).or_insert_with(|| refund.clone());
            raise(known, refund);
        }
        for (id, dispute) in other.disputes {
            raise(self.disputes.entry(id).or_insert(dispute), dispute);
        }
        for (source, name) in other.names {
            self.claim(source, name);
        }
        self.renamed |= other.renamed;
    }

    /// The order that this payment is for: the best name that it was given, else the first session
    /// that told of itself. `None` while there is neither: then its events are parked.
    #[must_use]
    pub fn order(&self) -> Option<OrderId> {
        let named = self.names.values().next().cloned();
        let mut sessions = self
            .sessions
            .iter()
            .filter(|(_, session)| session.is_some());
        named.or_else(|| sessions.next().map(|(id, _)| OrderId::from(id)))
    }

    /// Two different order ids were given for it.
    #[must_use]
    pub fn is_named_twice(&self) -> bool {
        let first = self.names.values().next();
        self.renamed || self.names.values().any(|name| Some(name) != first)
    }

    /// The ids of all its objects.
    pub fn ids(&self) -> impl Iterator<Item = &StripeId> {
        self.sessions
            .keys()
            .chain(self.intents.keys())
            .chain(self.charges.keys())
            .chain(self.refunds.keys())
            .chain(self.disputes.keys())
    }

    /// Its Checkout Sessions, hardly ever more than one; `None` for one that is only named by another
    /// object.
    pub fn sessions(&self) -> impl Iterator<Item = (&StripeId, Option<&Session>)> {
        self.sessions
            .iter()
            .map(|(id, session)| (id, session.as_ref()))
    }

    /// The ids of its charges; each attempt to take the money is one.
    pub fn charges(&self) -> impl Iterator<Item = &StripeId> {
        self.charges.keys()
    }

    /// Its intent; the first by id, should there be several.
    #[must_use]
    pub fn intent(&self) -> Option<&StripeId> {
        self.intents.keys().next()
    }

    /// Money was taken, or nothing was to pay: what a refund or a dispute proves as well.
    #[must_use]
    pub fn is_paid(&self) -> bool {
        self.sessions
            .values()
            .flatten()
            .any(|session| session.paid || session.async_succeeded)
            || self
                .intents
                .values()
                .any(|intent| intent.succeeded || intent.refunded.is_some())
            || self.captured_charges().next().is_some()
            || !self.refunds.is_empty()
            || !self.disputes.is_empty()
    }

    /// A delayed payment did not arrive.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.sessions
            .values()
            .flatten()
            .any(|session| session.async_failed)
    }

    /// The intent was canceled, or all its charges were authorisations that have been released.
    #[must_use]
    pub fn is_canceled(&self) -> bool {
        let mut charges = self.charges.values().flatten().peekable();
        self.intents.values().any(|intent| intent.canceled)
            || charges.peek().is_some()
                && charges.all(|(_, charge)| !charge.is_captured && charge.refunded > 0)
    }

    /// The buyer has finished.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.sessions
            .values()
            .flatten()
            .any(|session| session.completed)
    }

    /// What the shop asks for.
    #[must_use]
    pub fn asked(&self) -> Option<&Money> {
        let sessions = self
            .sessions
            .values()
            .flatten()
            .filter_map(|session| session.total.as_ref());
        sessions.map(|(_, total)| total).max().or_else(|| {
            self.intents
                .values()
                .filter_map(|intent| intent.asked.as_ref())
                .max()
        })
    }

    /// What was taken, as far as a charge or an intent says so.
    #[must_use]
    pub fn taken(&self) -> Option<Money> {
        let charged = self.captured_charges().filter_map(|(_, _, charge)| {
            Some(Money {
                minor: charge.captured,
                currency: charge.currency.clone()?,
            })
        });
        let charged = charged.reduce(|sum, charge| Money {
            minor: sum.minor.saturating_add(charge.minor),
            currency: sum.currency.min(charge.currency),
        });
        charged.or_else(|| {
            self.intents
                .values()
                .filter_map(|intent| intent.received.as_ref())
                .max()
                .cloned()
        })
    }

    /// What was given back of at most `taken`, in minor units.
    #[must_use]
    pub fn refunded(&self, taken: i64) -> i64 {
        let only = self.only_charge();
        let mut groups: BTreeMap<Option<&StripeId>, Vec<&Refund>> = BTreeMap::new();
        for (id, _, _) in self.captured_charges() {
            groups.entry(Some(id)).or_default();
        }
        for refund in self.refunds.values() {
            let charge = refund.charge.as_ref().or(only);
            groups.entry(charge).or_default().push(refund);
        }
        if groups.is_empty() {
            groups.insert(None, Vec::new());
        }
        let refunded = groups
            .into_iter()
            .map(|(id, refunds)| self.refunded_of(id, &refunds, taken));
        refunded.fold(0, i64::saturating_add).min(taken)
    }

    /// The disputes' joint state: one that is open wins, then one that is lost, then one that is won.
    #[must_use]
    pub fn dispute(&self) -> Option<DisputeStatus> {
        let statuses = || self.disputes.values().map(|(_, status)| *status);
        [
            DisputeStatus::Open,
            DisputeStatus::Lost,
            DisputeStatus::Won,
            DisputeStatus::Closed,
        ]
        .into_iter()
        .find(|wanted| statuses().any(|status| status == *wanted))
    }

    /// What was given back of one charge, in minor units. `id` is `None` for refunds whose charge is
    /// not known.
    ///
    /// The charge has a running total, the refunds have their own amounts, and either may be the one
    /// that we were told of. A refund that failed after the running total was taken is still in it
    /// (`gone`); one made after it is not yet in it (`new`).
    fn refunded_of(&self, id: Option<&StripeId>, refunds: &[&Refund], taken: i64) -> i64 {
        let charge = id
            .and_then(|id| self.charges.get(id))
            .and_then(Option::as_ref);
        let captured = charge.map_or(taken, |(_, charge)| charge.captured);
        let snapshot = charge.map(|(at, charge)| (*at, charge.refunded));
        // `payment_intent.refunded` says that all of it is refunded, as of its own time.
        let whole = self
            .intents
            .values()
            .filter_map(|intent| intent.refunded)
            .max();
        let snapshot = snapshot.max(whole.map(|at| (at, captured)));
        let sum = |wanted: &dyn Fn(&Refund) -> bool| {
            let wanted = refunds.iter().filter(|refund| wanted(refund));
            wanted
                .map(|refund| refund.amount)
                .fold(0, i64::saturating_add)
        };
        let lives = |refund: &Refund| refund.status < RefundStatus::Failed;
        let live = sum(&lives);
        let Some((as_of, total)) = snapshot else {
            return live.min(captured);
        };
        let gone = sum(&|refund| !lives(refund) && refund.at >= as_of && refund.created <= as_of);
        let new = sum(&|refund| lives(refund) && refund.created > as_of);
        let told = total.saturating_sub(gone).max(0).saturating_add(new);
        live.max(told).min(captured)
    }

    /// The charges that took money.
    fn captured_charges(&self) -> impl Iterator<Item = (&StripeId, UnixSeconds, &Charge)> {
        self.charges.iter().filter_map(|(id, charge)| {
            let (at, charge) = charge.as_ref()?;
            charge.is_captured.then_some((id, *at, charge))
        })
    }

    /// The charge that a refund without one is of, when there is no doubt.
    fn only_charge(&self) -> Option<&StripeId> {
        let mut charges = self.captured_charges();
        let (id, _, _) = charges.next()?;
        charges.next().is_none().then_some(id)
    }

    fn claim(&mut self, source: Source, name: OrderId) {
        let known = self.names.entry(source).or_insert_with(|| name.clone());
        if *known != name {
            self.renamed = true;
            if name < *known {
                *known = name;
            }
        }
    }
}

impl Session {
    fn join(&mut self, other: Session) {
        self.completed |= other.completed;
        self.paid |= other.paid;
        self.async_succeeded |= other.async_succeeded;
        self.async_failed |= other.async_failed;
        self.expired |= other.expired;
        raise(&mut self.total, other.total);
    }
}

impl Intent {
    fn join(&mut self, other: Intent) {
        self.succeeded |= other.succeeded;
        self.failed |= other.failed;
        self.canceled |= other.canceled;
        raise(&mut self.refunded, other.refunded);
        raise(&mut self.received, other.received);
        raise(&mut self.asked, other.asked);
    }
}

/// Keeps the greater of the two.
fn raise<T: Ord>(known: &mut T, other: T) {
    if other > *known {
        *known = other;
    }
}

/// The earlier of the two that are known.
fn earlier(a: Option<UnixSeconds>, b: Option<UnixSeconds>) -> Option<UnixSeconds> {
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
        let charge = Charge {
            refunded,
            captured: 2500,
            is_captured: true,
            currency: Some("eur".into()),
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
        payment.refunded(2500)
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
    fn no_sum_leaves_its_bounds() {
        use RefundStatus::{Failed, Succeeded};
        let too_much = [charge(10, 9000), refund("re_1", 11, 11, 9000, Succeeded)];
        assert_eq!(refunded(&too_much), 2500, "P4");
        let too_little = [charge(10, 100), refund("re_1", 11, 9, 9000, Failed)];
        assert_eq!(refunded(&too_little), 0, "P4");
    }
}
