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
        let mut all = Vec::new();
        self.each_of_takings(range, |quarter, currency, takings| {
            all.push((quarter, currency.into(), takings));
        })?;
        Ok(all)
    }

    fn each_of_takings(
        &self,
        range: Range<UnixSeconds>,
        mut with: impl FnMut(UnixSeconds, &str, Takings),
    ) -> Result<(), StoreError> {
        let mut read = self.connection.prepare_cached(
            "SELECT quarter, currency, orders, taken, refunded, lost FROM takings
             WHERE quarter >= ?1 AND quarter < ?2 ORDER BY quarter, currency",
        )?;
        let mut rows = read.query([range.start.0, range.end.0])?;
        while let Some(row) = rows.next()? {
            let takings = Takings {
                orders: row.get(2)?,
                taken: row.get(3)?,
                refunded: row.get(4)?,
                lost: row.get(5)?,
            };
            let currency = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            with(UnixSeconds(row.get(0)?), currency, takings);
        }
        Ok(())
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
        // Two years have 70,000 quarters: nothing is allocated for one.
        let mut sums: BTreeMap<Date, BTreeMap<Box<str>, Takings>> = BTreeMap::new();
        let range = zone.start_of(days.start)..zone.start_of(days.end);
        // Many quarters are of one day, and which day it is takes longer to tell than to add.
        let (mut date, mut its_end) = (days.start, range.start);
        self.each_of_takings(range, |quarter, currency, takings| {
            if quarter >= its_end {
                let day = zone.date(quarter);
                its_end = zone.start_of(day.next());
                date = match by {
                    Period::Day => day,
                    Period::Month => day.month(),
                };
            }
            let of_date = sums.entry(date).or_default();
            match of_date.get_mut(currency) {
                Some(sum) => sum.add(&takings),
                None => {
                    of_date.insert(currency.into(), takings);
                }
            }
        })?;
        let rows = sums.into_iter().flat_map(|(date, of_date)| {
            let rows = of_date.into_iter();
            rows.map(move |(currency, takings)| (date, currency, takings))
        });
        let moved = rows.filter(|(_, _, takings)| *takings != Takings::default());
        Ok(moved.collect())
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
