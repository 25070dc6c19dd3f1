//! What was taken: today, this month, day by day, month by month.

use std::collections::BTreeMap;
use std::ops::Range;

use super::moment::{date, month};
use super::plot::{Plot, bars};
use super::texts::{self, Lang};
use super::views::{CurrencyView, Days, Figure, FigureLine, Period as Row};
use crate::base::time::Date;
use crate::host::zone::Zone;
use crate::store::{Period, Store, StoreError};
use crate::truth::money;
use crate::truth::takings::Takings;

/// Bars on the overview.
const BARS: i64 = 30;
/// Days, and months, on the page of the money: today's, and before it.
const DAYS: i64 = 62;
const MONTHS: i64 = 24;
const DAY: i64 = 24 * 60 * 60;

/// What moved on each day, or in each month, of one currency.
type Series = BTreeMap<Date, Takings>;

/// What is summed up, and how it is told.
pub(super) struct Sums<'a> {
    pub(super) store: &'a Store,
    pub(super) zone: &'a Zone,
    pub(super) lang: Lang,
    pub(super) today: Date,
}

impl Sums<'_> {
    /// Today and this month, and the last thirty days of each currency.
    pub(super) fn overview(&self) -> Result<([Figure; 2], Vec<Days>), StoreError> {
        let first = days_before(self.today, BARS - 1);
        let month = self.today.month();
        let range = first.min(month)..self.today.next();
        let all = self.series(Period::Day, range)?;
        let t = self.lang.texts();
        let figures = [
            self.figure("today", t.today, &all, self.today),
            self.figure("month", t.this_month, &all, month),
        ];
        let days = all.iter().filter_map(|(currency, series)| {
            let has_some = series.range(first..).next().is_some();
            has_some.then(|| self.days(currency, series, first))
        });
        Ok((figures, days.collect()))
    }

    /// Each currency by day or by month, the newest first.
    pub(super) fn by(&self, by: Period) -> Result<Vec<CurrencyView>, StoreError> {
        let t = self.lang.texts();
        let range = self.range(by);
        let all = self.series(by, range.clone())?;
        let view = |currency: &str, series: &Series| {
            let dates = dates(by, &range);
            let taken: Vec<i64> = dates
                .iter()
                .map(|date| series.get(date).map_or(0, |takings| takings.taken))
                .collect();
            let code = currency.to_ascii_uppercase();
            let mut plot = bars(
                &taken,
                self.when(by, range.start),
                self.when(by, *dates.last().unwrap_or(&range.start)),
            );
            self.describe(&mut plot, currency, &format!("{}, {code}", t.taken), &taken);
            let rows = series.iter().rev();
            CurrencyView {
                currency: code,
                plot,
                rows: rows
                    .map(|(date, takings)| self.row(by, *date, takings, currency))
                    .collect(),
            }
        };
        Ok(all
            .iter()
            .map(|(currency, series)| view(currency, series))
            .collect())
    }

    /// The days that the page of the money is of.
    pub(super) fn range(&self, by: Period) -> Range<Date> {
        let first = match by {
            Period::Day => days_before(self.today, DAYS - 1),
            // The first of a month is never more than 31 days after the first of the one before.
            Period::Month => {
                (1..MONTHS).fold(self.today.month(), |month, _| days_before(month, 1).month())
            }
        };
        first..self.today.next()
    }

    fn series(
        &self,
        by: Period,
        days: Range<Date>,
    ) -> Result<BTreeMap<Box<str>, Series>, StoreError> {
        let mut all: BTreeMap<Box<str>, Series> = BTreeMap::new();
        for (date, currency, takings) in self.store.takings_by(by, days, self.zone)? {
            all.entry(currency).or_default().insert(date, takings);
        }
        Ok(all)
    }

    fn figure(
        &self,
        id: &'static str,
        title: &'static str,
        all: &BTreeMap<Box<str>, Series>,
        from: Date,
    ) -> Figure {
        let lines = all.iter().filter_map(|(currency, series)| {
            let mut sum = Takings::default();
            for (_, takings) in series.range(from..) {
                sum.add(takings);
            }
            (sum != Takings::default()).then(|| self.line(&sum, currency))
        });
        Figure {
            id,
            title,
            lines: lines.collect(),
        }
    }

    fn line(&self, sum: &Takings, currency: &str) -> FigureLine {
        let t = self.lang.texts();
        let mut under = texts::orders(sum.orders, self.lang);
        for (minor, word) in [(sum.refunded, t.back), (sum.lost, t.lost)] {
            if minor != 0 {
                let word = word.to_lowercase();
                under += &format!(" · {} {word}", self.amount(minor, currency));
            }
        }
        FigureLine {
            amount: self.amount(sum.taken, currency),
            under,
        }
    }

    fn days(&self, currency: &str, series: &Series, first: Date) -> Days {
        let t = self.lang.texts();
        let dates = dates(Period::Day, &(first..self.today.next()));
        let taken = |date: &Date| series.get(date).map_or(0, |takings| takings.taken);
        let values: Vec<i64> = dates.iter().map(taken).collect();
        let mut plot = bars(&values, date(first, self.lang), t.today.to_owned());
        self.describe(&mut plot, currency, t.thirty_days, &values);
        let with_any = dates.iter().rev().filter(|date| taken(date) != 0);
        Days {
            currency: currency.to_ascii_uppercase(),
            plot,
            rows: with_any
                .map(|day| (date(*day, self.lang), self.amount(taken(day), currency)))
                .collect(),
        }
    }

    /// Says in words what the bars show.
    fn describe(&self, plot: &mut Plot, currency: &str, title: &str, values: &[i64]) {
        let t = self.lang.texts();
        let most = values.iter().copied().max().unwrap_or_default();
        let sum = values
            .iter()
            .fold(0_i64, |sum, one| sum.saturating_add(*one));
        plot.id = format!("plot-{currency}");
        plot.title = title.to_owned();
        plot.most = self.amount(most, currency);
        plot.text = format!(
            "{} {}, {} {}",
            t.taken,
            self.amount(sum, currency),
            t.at_most,
            plot.most
        );
    }

    fn row(&self, by: Period, date: Date, sum: &Takings, currency: &str) -> Row {
        let amount = |minor| self.number(minor, currency);
        Row {
            when: self.when(by, date),
            orders: texts::number(sum.orders, self.lang),
            taken: amount(sum.taken),
            back: amount(sum.refunded),
            lost: amount(sum.lost),
            kept: amount(sum.kept()),
        }
    }

    fn when(&self, by: Period, day: Date) -> String {
        match by {
            Period::Day => date(day, self.lang),
            Period::Month => month(day, self.lang),
        }
    }

    fn amount(&self, minor: i64, currency: &str) -> String {
        texts::amount(&money::written(minor, Some(currency)), self.lang)
    }

    /// Without the currency, which the heading names; nothing for zero.
    fn number(&self, minor: i64, currency: &str) -> String {
        if minor == 0 {
            return "–".to_owned();
        }
        let written = self.amount(minor, currency);
        let number = written.split('\u{a0}').next();
        number.unwrap_or_default().to_owned()
    }
}

fn days_before(date: Date, days: i64) -> Date {
    Date::of(date.seconds() - days * DAY)
}

/// Every day or month of the range.
fn dates(by: Period, range: &Range<Date>) -> Vec<Date> {
    let next = |date: &Date| {
        let next = match by {
            Period::Day => date.next(),
            Period::Month => date.next_month(),
        };
        (next < range.end).then_some(next)
    };
    std::iter::successors(Some(range.start), next).collect()
}
