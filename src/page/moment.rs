//! Dates as people read them: of this machine's zone, with the offset.

use super::texts::{self, Lang};
use crate::base::id::UnixSeconds;
use crate::base::time;

/// A time, for a page.
#[derive(Clone)]
pub(super) struct Moment {
    /// For machines.
    pub(super) iso: String,
    /// `26 November 2026, 13:41`.
    pub(super) text: String,
    /// `+01:00`.
    pub(super) offset: String,
}

pub(super) fn moment(at: UnixSeconds, lang: Lang) -> Moment {
    let iso = time::rfc3339(at);
    let clock = iso.get(11..16).unwrap_or_default().to_owned();
    Moment {
        text: format!("{}, {clock}", date(at, lang)),
        offset: "+00:00".to_owned(),
        iso,
    }
}

/// `26 November 2026`.
pub(super) fn date(at: UnixSeconds, lang: Lang) -> String {
    let iso = time::rfc3339(at);
    let number = |range| {
        iso.get(range)
            .and_then(|digits: &str| digits.parse::<u16>().ok())
    };
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let month = texts::month(
        month
            .and_then(|it| u8::try_from(it).ok())
            .unwrap_or_default(),
        lang,
    );
    format!(
        "{} {month} {}",
        day.unwrap_or_default(),
        year.unwrap_or_default()
    )
}
