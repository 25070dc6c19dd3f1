//! The sums that are kept beside the orders, `tally` and `takings`: what a batch changes of them is
//! gathered, and written once.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::StoreError;
use crate::truth::order::Status;
use crate::truth::takings::Quarters;

/// What changes of the sums.
#[derive(Default)]
pub(super) struct Sums {
    /// What was taken, given back and lost.
    pub(super) quarters: Quarters,
    /// How many orders more have each status, or fewer.
    statuses: BTreeMap<Status, i64>,
}

impl Sums {
    /// An order has now the status `to`, or is gone; before, it had `from`, or was not there.
    pub(super) fn count_status(&mut self, from: Option<Status>, to: Option<Status>) {
        for (status, more) in [(from, -1), (to, 1)] {
            if let Some(status) = status {
                *self.statuses.entry(status).or_default() += more;
            }
        }
    }

    /// Adds what another changes.
    pub(super) fn join(&mut self, other: Sums) {
        self.quarters.join(other.quarters);
        for (status, more) in other.statuses {
            *self.statuses.entry(status).or_default() += more;
        }
    }

    /// Writes what is gathered.
    pub(super) fn write(&self, db: &Connection) -> Result<(), StoreError> {
        let mut count = db.prepare_cached(
            "INSERT INTO tally VALUES (?1, ?2) ON CONFLICT DO UPDATE SET orders = orders + ?2",
        )?;
        for (status, more) in self.statuses.iter().filter(|(_, more)| **more != 0) {
            count.execute(params![status.as_str(), more])?;
        }
        let mut add = db.prepare_cached(
            "INSERT INTO takings (quarter, currency, orders, taken, refunded, lost)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET orders = orders + excluded.orders, taken = taken + excluded.taken,
                 refunded = refunded + excluded.refunded, lost = lost + excluded.lost",
        )?;
        for (quarter, currency, by) in self.quarters.changed() {
            add.execute(params![
                quarter.0,
                currency,
                by.orders,
                by.taken,
                by.refunded,
                by.lost
            ])?;
        }
        Ok(())
    }
}
