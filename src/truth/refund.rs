//! How much of a payment was given back.
//!
//! The charge has a running total, the refunds have their own amounts, and either may be the one that
//! we were told of.

use super::fact::{Charge, Refund, RefundStatus};
use super::part::Part;
use crate::base::id::UnixSeconds;

/// What was given back, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refunded {
    /// All of it.
    pub(crate) all: i64,
    /// The part that is not through yet.
    pub(crate) pending: i64,
}

impl Refunded {
    /// What was given back of one part that took money, at most `taken`; `refunds` are its own, and
    /// `whole` is when an event said that all of it was refunded.
    pub(super) fn of(
        part: &Part<'_>,
        mut refunds: Vec<&Refund>,
        whole: Option<UnixSeconds>,
        taken: i64,
    ) -> Refunded {
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
        let told = told.map_or(live, |(at, total)| by_total(at, total, charge, &refunds));
        let all = live.max(told);
        Refunded { all, pending }.within(captured)
    }

    pub(super) fn plus(self, other: Refunded) -> Refunded {
        Refunded {
            all: self.all.saturating_add(other.all),
            pending: self.pending.saturating_add(other.pending),
        }
    }

    pub(super) fn within(self, max: i64) -> Refunded {
        let all = self.all.min(max);
        Refunded {
            all,
            pending: self.pending.min(all),
        }
    }
}

/// What was given back according to a running `total` as of `at`. A refund that failed after that is
/// still in it (`gone`); one made after it is not yet in it (`new`).
fn by_total(at: UnixSeconds, total: i64, charge: Option<&Charge>, refunds: &[&Refund]) -> i64 {
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

fn sum(refunds: &[&Refund], counts: impl Fn(&Refund) -> bool) -> i64 {
    let counted = refunds.iter().filter(|refund| counts(refund));
    counted
        .map(|refund| refund.amount)
        .fold(0, i64::saturating_add)
}

/// The place of the refund that is the release of a hold: the first of that amount that is not
/// younger than the release can be.
fn release_among(
    refunds: &[&Refund],
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
        .filter(|(_, refund)| is_release(refund))
        .min_by_key(|(_, refund)| refund.created)
        .map(|(place, _)| place)
}
