//! Which orders somebody wants to see: the same words for a list, for an export and for the page.

use crate::base::id::UnixSeconds;
use crate::base::near::nearest;
use crate::base::plain;
use crate::base::time::{self, Date};
use crate::command::words::{CliOption, UsageError, Words};
use crate::host::zone::Zone;
use crate::store::Wanted;
use crate::truth::order::Status;

pub(crate) const STATUS: CliOption = CliOption {
    name: "status",
    value: "STATUS",
    help: "only orders of this status: pending, authorized, processing, paid,\npartially_refunded, refunded, failed, canceled, expired",
};
pub(crate) const FLAGGED: CliOption = CliOption {
    name: "flagged",
    value: "",
    help: "only those that need somebody: flagged, or with an open dispute",
};
pub(crate) const SINCE: CliOption = CliOption {
    name: "since",
    value: "TIME",
    help: "from then on: 2026-11, 2026-11-24, 2026-11-24T05:46:26Z, or 12h or 3d ago",
};
pub(crate) const UNTIL: CliOption = CliOption {
    name: "until",
    value: "TIME",
    help: "until then; a day or a month to its end",
};
pub(crate) const NAME: CliOption = CliOption {
    name: "name",
    value: "TEXT",
    help: "only those whose id begins with this, by id",
};

/// A time as somebody writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    At(UnixSeconds),
    /// So many seconds ago.
    Ago(i64),
    Day(Date),
    /// The month of that first day.
    Month(Date),
}

impl Moment {
    pub(crate) fn parse(text: &str) -> Option<Moment> {
        let day = Date::parse(text).map(Moment::Day);
        let day = day.or_else(|| Date::parse(&format!("{text}-01")).map(Moment::Month));
        let at = || time::parse_rfc3339(text).map(Moment::At);
        day.or_else(at).or_else(|| ago(text).map(Moment::Ago))
    }

    fn begins(self, zone: &Zone, now: UnixSeconds) -> UnixSeconds {
        match self {
            Moment::At(at) => at,
            Moment::Ago(seconds) => UnixSeconds(now.0.saturating_sub(seconds)),
            Moment::Day(date) | Moment::Month(date) => zone.start_of(date),
        }
    }

    fn ends(self, zone: &Zone, now: UnixSeconds) -> UnixSeconds {
        match self {
            Moment::At(_) | Moment::Ago(_) => self.begins(zone, now),
            Moment::Day(date) => zone.start_of(date.next()),
            Moment::Month(date) => zone.start_of(date.next_month()),
        }
    }
}

/// `90m`, `12h` or `3d`, in seconds.
fn ago(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    let is_plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 = is_plain.then(|| number.parse().ok()).flatten()?;
    number.checked_mul(unit)
}

/// What the words want.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    status: Option<Status>,
    flagged: bool,
    since: Option<Moment>,
    until: Option<Moment>,
    name: Option<String>,
}

impl Asked {
    pub(crate) fn read(words: &Words) -> Result<Asked, UsageError> {
        Ok(Asked {
            status: status(words)?,
            flagged: words.has(FLAGGED.name),
            since: moment(words, SINCE.name)?,
            until: moment(words, UNTIL.name)?,
            name: words.value(NAME.name).map(str::to_owned),
        })
    }

    pub(crate) fn wanted(&self, zone: &Zone, now: UnixSeconds) -> Wanted {
        Wanted {
            status: self.status,
            flagged: self.flagged,
            since: self.since.map(|since| since.begins(zone, now)),
            until: self.until.map(|until| until.ends(zone, now)),
            name: self.name.clone(),
        }
    }
}

fn status(words: &Words) -> Result<Option<Status>, UsageError> {
    let Some(text) = words.value(STATUS.name) else {
        return Ok(None);
    };
    let known = || Status::ALL.iter().map(|status| status.as_str().to_owned());
    Status::parse(text).map(Some).ok_or_else(|| {
        let near = nearest(text, known());
        let all = known().collect::<Vec<_>>().join(", ");
        let text = plain::text(text);
        words.error(format!(
            "there is no status {text:?}{near} There are: {all}"
        ))
    })
}

fn moment(words: &Words, name: &str) -> Result<Option<Moment>, UsageError> {
    let Some(text) = words.value(name) else {
        return Ok(None);
    };
    Moment::parse(text).map(Some).ok_or_else(|| {
        let text = plain::text(text);
        words.error(format!(
            "--{name} is a month (2026-11), a day (2026-11-24), a time (2026-11-24T05:46:26Z), or 12h or 3d \
             for so long ago, not {text:?}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table::words_of;

    #[test]
    fn times_are_months_days_moments_and_so_long_ago() {
        let zone = Zone::named("Europe/Berlin").unwrap();
        let span = |text: &str| {
            let moment = Moment::parse(text)?;
            let now = UnixSeconds(1_795_500_000);
            let [from, to] = [moment.begins(&zone, now), moment.ends(&zone, now)];
            Some([time::rfc3339(from), time::rfc3339(to)])
        };
        for (text, from, to) in [
            ("2026-10", "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"),
            ("2026-12-31", "2026-12-30T23:00:00Z", "2026-12-31T23:00:00Z"),
            // It has 25 hours.
            ("2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            (
                "2026-11-24T05:46:26Z",
                "2026-11-24T05:46:26Z",
                "2026-11-24T05:46:26Z",
            ),
            ("3d", "2026-11-21T06:00:00Z", "2026-11-21T06:00:00Z"),
        ] {
            assert_eq!(span(text), Some([from, to].map(str::to_owned)), "{text}");
        }
        for text in [
            "",
            "d",
            "3",
            "-3d",
            "3w",
            "2026",
            "2026-13",
            "2026-02-30",
            "yesterday",
            "2026-11-24 05:46",
        ] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn words_say_which_orders() {
        let zone = Zone::default();
        let read = |line: &str| {
            let asked = Asked::read(&words_of(line));
            asked.map(|asked| asked.wanted(&zone, UnixSeconds(0)))
        };
        assert_eq!(read("orders list"), Ok(Wanted::default()));
        let some = "orders list --status=refunded --flagged --since 1970-01-02 --until 1970-01-02 --name ord_";
        let expected = Wanted {
            status: Some(Status::Refunded),
            flagged: true,
            since: Some(UnixSeconds(86_400)),
            until: Some(UnixSeconds(172_800)),
            name: Some("ord_".to_owned()),
        };
        assert_eq!(read(some), Ok(expected));
        for wrong in ["--status payd", "--since x", "--until 2026-13"] {
            assert!(read(&format!("orders list {wrong}")).is_err(), "{wrong}");
        }
    }
}
