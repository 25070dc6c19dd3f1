//! When the money of a payment moved, by Stripe's time.

use super::fact::{DisputeStatus, Refund, RefundStatus, Since, least};
use super::money::{Money, Move, Movement, up_to};
use super::part::Part;
use super::payment::Payment;
use crate::base::id::{StripeId, UnixSeconds};

/// The quarter of an hour in which that time is, by its first second.
#[must_use]
pub(crate) fn quarter(at: UnixSeconds) -> UnixSeconds {
    UnixSeconds(at.0.saturating_sub(at.0.rem_euclid(QUARTER_SECONDS)))
}

/// A quarter of an hour.
pub(crate) const QUARTER_SECONDS: i64 = 15 * 60;

impl Payment {
    /// When what was `taken` was taken, given back and lost. A refund that failed has moved twice: when
    /// it was made, and when it came back.
    #[must_use]
    pub(super) fn movements(&self, taken: &Money, lost: i64) -> Vec<Movement<'_>> {
        let mut movements = self.takings_of(taken.minor);
        movements.extend(self.refunded(taken.minor).movements);
        let failed = self.refunds().filter(has_failed);
        movements.extend(failed.flat_map(|(id, refund)| {
            let moved = move |at, minor| Movement {
                at,
                way: Move::Refunded,
                minor,
                object: Some(id),
            };
            let returned = refund.at.max(refund.created);
            [
                moved(refund.created, refund.amount),
                moved(returned, -refund.amount),
            ]
        }));
        movements.extend(self.losses_of(taken, lost));
        movements
    }

    /// When the first of the `total` that it took was taken; `None` if that is nothing.
    #[must_use]
    pub(super) fn first_taken(&self, total: i64) -> Option<UnixSeconds> {
        let first = self.takings_of(total).into_iter().next();
        first.map(|movement| movement.at)
    }

    /// When the `total` that it took was taken, first come first.
    fn takings_of(&self, total: i64) -> Vec<Movement<'_>> {
        let parts = self.takings();
        // Of several parts, a session does not say which of them was paid.
        let session = self.session_paid();
        let of_part = session.filter(|_| parts.len() == 1);
        let since = self.since.unwrap_or_default();
        let moved = |at, minor, object| Movement {
            at,
            way: Move::Taken,
            minor,
            object,
        };
        let of_parts = parts.iter().map(|part| {
            let at = taken_at(part, of_part).unwrap_or(since);
            let minor = part.money().map_or(0, |money| money.minor);
            moved(at, minor, part.charge.or(part.intent.map(|(id, _)| id)))
        });
        let mut movements: Vec<_> = of_parts.collect();
        // What no part explains: the amount is known from its session or invoice alone.
        let first = movements.iter().map(|movement| movement.at).min();
        let told = session.map(Since::at).or_else(|| self.invoice_paid_at());
        let known = movements.iter().map(|movement| movement.minor);
        let rest = total.saturating_sub(known.fold(0, i64::saturating_add));
        let rest = moved(
            first.or(told).unwrap_or(since),
            rest,
            self.sessions().next(),
        );
        movements.push(rest);
        up_to(total, movements)
    }

    /// When the `total` was lost that its disputes took.
    fn losses_of(&self, taken: &Money, total: i64) -> Vec<Movement<'_>> {
        let disputes = self.disputes();
        let lost = disputes.filter(|(_, dispute)| dispute.status == DisputeStatus::Lost);
        let movements = lost.map(|(id, dispute)| Movement {
            at: dispute.lost.unwrap_or(dispute.at),
            way: Move::Lost,
            minor: dispute.holds(taken),
            object: Some(id),
        });
        up_to(total, movements.collect())
    }
}

fn has_failed((_, refund): &(&StripeId, &Refund)) -> bool {
    refund.status == RefundStatus::Failed
}

/// When a part took its money, as far as that is known: `session` is when its session was paid.
fn taken_at(part: &Part<'_>, session: Option<Since>) -> Option<UnixSeconds> {
    let intent = part.intent.and_then(|(_, intent)| intent.succeeded);
    match least(session, intent) {
        Some(Since::Told(at)) => Some(at),
        found => part.charged_at().or(found.map(Since::at)),
    }
}
