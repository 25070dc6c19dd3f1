//! Dates as people read them: of the machine's zone, with the offset.

use super::texts::{self, Lang};
use crate::base::id::UnixSeconds;
use crate::base::time::Date;
use crate::host::zone::Zone;

/// A time, for a page.
pub(super) struct Moment {
    /// For machines.
    pub(super) iso: String,
    /// `26 November 2026, 13:41`.
    pub(super) text: String,
    /// `+01:00`.
    pub(super) offset: String,
}

/// To the minute.
pub(super) fn minute(at: UnixSeconds, zone: &Zone, lang: Lang) -> Moment {
    moment(at, zone, lang, "HH:MM".len())
}

/// To the second.
pub(super) fn second(at: UnixSeconds, zone: &Zone, lang: Lang) -> Moment {
    moment(at, zone, lang, "HH:MM:SS".len())
}

fn moment(at: UnixSeconds, zone: &Zone, lang: Lang, precision: usize) -> Moment {
    let written = zone.written(at);
    let mut words = written.split(' ').map(str::to_owned);
    let mut word = || words.next().unwrap_or_default();
    let (day, clock, offset) = (word(), word(), word());
    let iso = format!("{day}T{clock}{offset}");
    let clock: String = clock.chars().take(precision).collect();
    Moment {
        iso,
        text: format!("{}, {clock}", date(zone.date(at), lang)),
        offset,
    }
}

/// `26 November 2026`.
pub(super) fn date(date: Date, lang: Lang) -> String {
    let (year, month, day) = parts(date);
    format!("{day} {} {year}", texts::month(month, lang))
}

/// `November 2026`.
pub(super) fn month(date: Date, lang: Lang) -> String {
    let (year, month, _) = parts(date);
    format!("{} {year}", texts::month(month, lang))
}

/// Year, month and day.
fn parts(date: Date) -> (String, usize, usize) {
    let written = date.to_string();
    let mut parts = written.rsplitn(3, '-');
    let mut number = || parts.next().and_then(|text| text.parse().ok());
    let (day, month): (Option<usize>, Option<usize>) = (number(), number());
    let year = parts.next().unwrap_or_default().to_owned();
    (year, month.unwrap_or_default(), day.unwrap_or_default())
}
