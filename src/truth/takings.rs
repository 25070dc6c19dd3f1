//! What was taken, given back and lost, by Stripe's time.
//!
//! It is summed up by the quarter of an hour: each time zone's days begin with one. What a payment adds
//! follows from its facts alone, so when they change, what it added before is taken out and what it
//! adds now goes in.

use std::collections::BTreeMap;

use super::money::Move;
use super::movement::quarter;
use super::payment::Payment;
use super::totals::movements;
use crate::base::id::UnixSeconds;

/// What moved in some time, in minor units of one currency. Differences may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takings {
    /// Orders whose money was taken.
    pub orders: i64,
    /// What was taken for them and others.
    pub taken: i64,
    /// What was given back, whenever it was taken; less than nothing when more refunds came back.
    pub refunded: i64,
    /// What disputes took that the shop has lost.
    pub lost: i64,
}

impl Takings {
    /// What the shop keeps of it.
    #[must_use]
    pub fn kept(&self) -> i64 {
        self.taken
            .saturating_sub(self.refunded)
            .saturating_sub(self.lost)
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Takings) {
        self.orders = self.orders.saturating_add(other.orders);
        self.taken = self.taken.saturating_add(other.taken);
        self.refunded = self.refunded.saturating_add(other.refunded);
        self.lost = self.lost.saturating_add(other.lost);
    }

    /// The same, taken out instead of put in.
    #[must_use]
    pub(crate) fn negated(self) -> Takings {
        Takings {
            orders: -self.orders,
            taken: -self.taken,
            refunded: -self.refunded,
            lost: -self.lost,
        }
    }

    fn moved(&mut self, way: Move, minor: i64) {
        let sum = match way {
            Move::Taken => &mut self.taken,
            Move::Refunded => &mut self.refunded,
            Move::Lost => &mut self.lost,
        };
        *sum = sum.saturating_add(minor);
    }
}

/// Takings, or their differences, by quarter of an hour and currency.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Quarters(BTreeMap<(UnixSeconds, Box<str>), Takings>);

impl Quarters {
    /// Adds what a payment moves, `times` times: -1 takes it out.
    pub(crate) fn count_payment(&mut self, payment: &Payment, times: i64) {
        let Some((currency, movements)) = movements(payment) else {
            return;
        };
        for movement in movements {
            self.of(movement.at, &currency)
                .moved(movement.way, movement.minor.saturating_mul(times));
        }
    }

    /// Adds an order that is counted at that time, `times` times.
    pub(crate) fn count_order(
        &mut self,
        counted: Option<UnixSeconds>,
        currency: Option<&str>,
        times: i64,
    ) {
        if let Some((at, currency)) = counted.zip(currency) {
            self.of(at, currency).orders += times;
        }
    }

    /// Adds the differences of another.
    pub(crate) fn join(&mut self, other: Quarters) {
        for ((quarter, currency), takings) in other.0 {
            self.of(quarter, &currency).add(&takings);
        }
    }

    /// Adds one row.
    pub(crate) fn add(&mut self, quarter: UnixSeconds, currency: &str, takings: &Takings) {
        self.of(quarter, currency).add(takings);
    }

    /// All that is not zero.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (UnixSeconds, &str, &Takings)> {
        let changed = self.0.iter();
        changed
            .filter(|(_, takings)| **takings != Takings::default())
            .map(|((quarter, currency), takings)| (*quarter, &**currency, takings))
    }

    fn of(&mut self, at: UnixSeconds, currency: &str) -> &mut Takings {
        self.0.entry((quarter(at), currency.into())).or_default()
    }
}
