//! How much of a payment was given back.
//!
//! The charge has a running total, the refunds have their own amounts, and either may be the one that
//! we were told of.

use super::fact::{Charge, Refund, RefundStatus};
use super::money::{Move, Movement, up_to};
use super::part::Part;
use crate::base::id::{StripeId, UnixSeconds};

/// A refund with its id.
pub(super) type Named<'a> = (&'a StripeId, &'a Refund);

/// What was given back, in minor units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refunded<'a> {
    /// All of it.
    pub(crate) all: i64,
    /// The part that is not through yet.
    pub(crate) pending: i64,
    /// When it was given back; these add up to `all`.
    pub(crate) movements: Vec<Movement<'a>>,
}

impl<'a> Refunded<'a> {
    /// What was given back of one part that took money, at most `taken`; `refunds` are its own, and
    /// `whole` is when an event said that all of it was refunded.
    pub(super) fn of(
        part: &Part<'_>,
        mut refunds: Vec<Named<'a>>,
        whole: Option<UnixSeconds>,
        taken: i64,
    ) -> Refunded<'a> {
        let captured = part.captured().unwrap_or(taken);
        // Stripe shows the part of a hold that was never captured as refunded, too: it is in the
        // total, and may have a refund of its own.
        let release = part
            .held()
            .map_or(0, |held| held.saturating_sub(captured).max(0));
        let charge = part.version.filter(|version| version.is_captured);
        if let Some(place) = release_among(&refunds, release, part.released_by()) {
            refunds.remove(place);
        }
        let live = sum(&refunds, lives);
        let pending = sum(&refunds, |refund| refund.status == RefundStatus::Pending);
        let of_charge =
            charge.map(|charge| (charge.at, charge.refunded.saturating_sub(release).max(0)));
        let told = of_charge.max(whole.map(|at| (at, captured)));
        let total = told.map_or(live, |(at, total)| by_total(at, total, charge, &refunds));
        let all = live.max(total).min(captured);
        let movement = |at, minor, object| Movement {
            at,
            way: Move::Refunded,
            minor,
            object,
        };
        let known = refunds.iter().filter(|(_, refund)| lives(refund));
        let known = known.map(|(id, refund)| movement(refund.created, refund.amount, Some(*id)));
        let rest = all.saturating_sub(live).max(0);
        let rest = told.map(|(at, _)| movement(at, rest, None));
        Refunded {
            all,
            pending: pending.min(all),
            movements: up_to(all, known.chain(rest).collect()),
        }
    }

    pub(super) fn plus(mut self, other: Refunded<'a>) -> Refunded<'a> {
        self.all = self.all.saturating_add(other.all);
        self.pending = self.pending.saturating_add(other.pending);
        self.movements.extend(other.movements);
        self
    }

    pub(super) fn within(mut self, max: i64) -> Refunded<'a> {
        if self.all > max {
            self.all = max;
            self.pending = self.pending.min(max);
            self.movements = up_to(max, self.movements);
        }
        self
    }
}

/// What was given back according to a running `total` as of `at`. A refund that failed after that is
/// still in it (`gone`); one made after it is not yet in it (`new`).
fn by_total(at: UnixSeconds, total: i64, charge: Option<&Charge>, refunds: &[Named<'_>]) -> i64 {
    // A list of refunds that is not older than the total has every refund that the total sums up. One
    // that has failed may still be in the total.
    let is_asked = charge.is_some_and(|charge| charge.is_asked);
    let is_listed = |refund: &Refund| {
        let listed = refund.listed;
        listed.is_some_and(|listed| listed > at || listed == at && is_asked)
    };
    let gone = sum(refunds, |refund| {
        let failed_since = refund.at >= at || is_listed(refund);
        !lives(refund) && failed_since && refund.created <= at
    });
    let new = sum(refunds, |refund| lives(refund) && refund.created > at);
    total.saturating_sub(gone).max(0).saturating_add(new)
}

/// It has not failed.
fn lives(refund: &Refund) -> bool {
    refund.status < RefundStatus::Failed
}

fn sum(refunds: &[Named<'_>], counts: impl Fn(&Refund) -> bool) -> i64 {
    let counted = refunds.iter().filter(|(_, refund)| counts(refund));
    counted
        .map(|(_, refund)| refund.amount)
        .fold(0, i64::saturating_add)
}

/// The place of the refund that is the release of a hold: the first of that amount that is not
/// younger than the release can be.
fn release_among(
    refunds: &[Named<'_>],
    release: i64,
    released_by: Option<UnixSeconds>,
) -> Option<usize> {
    let is_release = |refund: &Refund| {
        refund.amount == release
            && refund.status == RefundStatus::Succeeded
            && released_by.is_none_or(|at| refund.created <= at)
    };
    if release == 0 {
        return None;
    }
    let places = refunds.iter().enumerate();
    places
        .filter(|(_, (_, refund))| is_release(refund))
        .min_by_key(|(_, (_, refund))| refund.created)
        .map(|(place, _)| place)
}
