//! The parts of a payment: each intent with its charges, and each charge without an intent.

use super::fact::{Attempt, Charge, ChargeStatus, Intent, KnownCharge, Since, least};
use super::money::Money;
use crate::base::id::{StripeId, UnixSeconds};

/// An intent with its charges, of which at most one takes the money, or such a charge alone.
#[derive(Default)]
pub(super) struct Part<'a> {
    pub(super) intent: Option<(&'a StripeId, &'a Intent)>,
    charges: Vec<&'a KnownCharge>,
    /// The one that took or holds the money.
    pub(super) charge: Option<&'a StripeId>,
    pub(super) version: Option<&'a Charge>,
}

impl<'a> Part<'a> {
    pub(super) fn learn(&mut self, id: &'a StripeId, charge: &'a KnownCharge) {
        self.charges.push(charge);
        let version = charge.version.as_ref();
        let rank = |version: Option<&'a Charge>| version.map(|version| (version.takes(), version));
        if self.charge.is_none() || rank(version) > rank(self.version) {
            self.charge = Some(id);
            self.version = version;
        }
    }

    pub(super) fn took(&self) -> bool {
        self.intent.is_some_and(|(_, intent)| intent.took())
            || self.version.is_some_and(Charge::takes)
    }

    /// The charges that did not fail.
    pub(super) fn tried(&self) -> impl Iterator<Item = &Charge> {
        let versions = self
            .charges
            .iter()
            .filter_map(|charge| charge.version.as_ref());
        versions.filter(|version| version.status != ChargeStatus::Failed)
    }

    /// It can no longer be paid: its intent was canceled, or all its charges were holds that were
    /// released.
    pub(super) fn is_over(&self) -> bool {
        let is_released = |version: &Charge| !version.is_captured && version.refunded > 0;
        self.intent.is_some_and(|(_, intent)| intent.canceled)
            || self.tried().next().is_some() && self.tried().all(is_released)
    }

    /// One of its charges was held, and never captured.
    pub(super) fn was_held(&self) -> bool {
        let mut tried = self.tried();
        tried.any(|version| version.status == ChargeStatus::Succeeded && !version.is_captured)
    }

    /// How its latest attempt stands. A charge that is pending or has failed is an attempt, too.
    pub(super) fn attempt(&self) -> Option<(UnixSeconds, Attempt)> {
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
    pub(super) fn is_held(&self) -> bool {
        let holds = |version: &Charge| {
            version.status == ChargeStatus::Succeeded
                && !version.is_captured
                && version.refunded == 0
        };
        let is_latest = matches!(self.attempt(), Some((_, Attempt::Held)));
        is_latest || self.tried().any(holds)
    }

    /// A debit that had succeeded (at `paid`, if its session says so) came back.
    pub(super) fn has_come_back(&self, paid: Option<Since>) -> bool {
        let intent = self.intent.map(|(_, intent)| intent);
        let taken = least(paid, intent.and_then(|intent| intent.succeeded));
        let later = |at: UnixSeconds| taken.is_some_and(|taken| at > taken.at());
        let one_took = self.charges.iter().any(|charge| charge.took());
        // If another charge took the money, this one was declined before it.
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

    /// When the charge took the money, as far as charges say. One that had to wait is older than that.
    pub(super) fn charged_at(&self) -> Option<UnixSeconds> {
        let charge = self.charges.iter().find(|charge| charge.took())?;
        let waited = self
            .intent
            .is_some_and(|(_, intent)| intent.manual || intent.delayed);
        let created = charge
            .created
            .filter(|_| !waited && charge.waited.is_none());
        created.or(charge.taken.map(Since::at))
    }

    pub(super) fn captured(&self) -> Option<i64> {
        let received = self.intent.and_then(|(_, intent)| intent.received.as_ref());
        let received = received.map(|money| money.minor);
        match self.version.filter(|version| version.takes()) {
            Some(version) => match version.captured {
                // The intent is the first to tell of a later capture.
                Some(captured) => Some(captured.max(received.unwrap_or(0))),
                None => received.or(Some(version.amount)),
            },
            None => received,
        }
    }

    /// When the part of a hold that was not captured was released, at the latest.
    pub(super) fn released_by(&self) -> Option<UnixSeconds> {
        let of_intent = self.intent.and_then(|(_, intent)| intent.succeeded);
        let of_charges = self.charges.iter().filter_map(|charge| charge.released);
        let first_known = least(of_intent.map(Since::at_latest), of_charges.min());
        first_known.or_else(|| Some(self.version?.at))
    }

    pub(super) fn held(&self) -> Option<i64> {
        let asked = self.intent.and_then(|(_, intent)| intent.asked.as_ref());
        let held = self.version.map(|version| version.amount);
        held.or_else(|| asked.map(|asked| asked.minor))
    }

    pub(super) fn money(&self) -> Option<Money> {
        let received = self.intent.and_then(|(_, intent)| intent.received.as_ref());
        let of_charge = || self.version?.currency.clone();
        let currency = received
            .map(|money| money.currency.clone())
            .or_else(of_charge)?;
        let minor = self.captured()?;
        Some(Money { minor, currency })
    }
}
