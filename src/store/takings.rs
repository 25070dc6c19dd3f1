//! The rows of `takings`: what was taken, given back and lost, by Stripe's time.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Store, StoreError};
use crate::base::id::UnixSeconds;
use crate::base::time::{Date, rfc3339};
use crate::host::zone::Zone;
use crate::truth::takings::{Quarters, Takings};

/// Of what takings are summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Each day of the calendar.
    Day,
    /// Each month; it goes by its first day.
    Month,
}

impl Store {
    /// What moved in each quarter of an hour that begins in `range`, by currency; the first come first.
    /// Money counts when Stripe took it, gave it back or lost it. Quarters without any are not there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn takings(
        &self,
        range: Range<UnixSeconds>,
    ) -> Result<Vec<(UnixSeconds, Box<str>, Takings)>, StoreError> {
        let mut read = self.connection.prepare_cached(
            "SELECT quarter, currency, orders, taken, refunded, lost FROM takings
             WHERE quarter >= ?1 AND quarter < ?2 ORDER BY quarter, currency",
        )?;
        let rows = read.query_map([range.start.0, range.end.0], |row| {
            let takings = Takings {
                orders: row.get(2)?,
                taken: row.get(3)?,
                refunded: row.get(4)?,
                lost: row.get(5)?,
            };
            Ok((UnixSeconds(row.get(0)?), row.get(1)?, takings))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The same by day or month of `zone`, of the days from the first to before the last of `days`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn takings_by(
        &self,
        by: Period,
        days: Range<Date>,
        zone: &Zone,
    ) -> Result<Vec<(Date, Box<str>, Takings)>, StoreError> {
        let mut sums: BTreeMap<(Date, Box<str>), Takings> = BTreeMap::new();
        let range = zone.start_of(days.start)..zone.start_of(days.end);
        // Many quarters are of one day, and which day it is takes longer to tell than to add.
        let (mut date, mut its_end) = (days.start, range.start);
        for (quarter, currency, takings) in self.takings(range)? {
            if quarter >= its_end {
                date = zone.date(quarter);
                its_end = zone.start_of(date.next());
            }
            let date = match by {
                Period::Day => date,
                Period::Month => date.month(),
            };
            sums.entry((date, currency)).or_default().add(&takings);
        }
        sums.retain(|_, takings| *takings != Takings::default());
        let rows = sums.into_iter();
        Ok(rows
            .map(|((date, currency), takings)| (date, currency, takings))
            .collect())
    }

    /// Quarters of an hour whose takings are not what `found` says, one text each.
    pub(super) fn mistaken(&self, found: Quarters) -> Result<Vec<String>, StoreError> {
        let mut differences = found;
        for (quarter, currency, kept) in
            self.takings(UnixSeconds(i64::MIN)..UnixSeconds(i64::MAX))?
        {
            differences.add(quarter, &currency, &kept.negated());
        }
        let problem = |(quarter, currency, by): (UnixSeconds, &str, &Takings)| {
            format!(
                "the takings in {currency:?} from {} lack {} orders, {} taken, {} refunded and {} lost",
                rfc3339(quarter),
                by.orders,
                by.taken,
                by.refunded,
                by.lost
            )
        };
        Ok(differences.changed().map(problem).collect())
    }
}
