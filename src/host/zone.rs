//! The machine's time zone, in which people read. What programs read is in UTC.

use tz::TimeZone;

use crate::base::id::UnixSeconds;
use crate::base::time::{self, Date};

/// A time zone with its summer times, as the machine knows it.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    /// `None` is UTC.
    rules: Option<TimeZone>,
}

impl Zone {
    /// The zone that `TZ` names, such as `Europe/Berlin`; with an empty one the machine's own, and UTC if
    /// it has none. `None` if the machine knows no such zone.
    #[must_use]
    pub fn named(name: &str) -> Option<Zone> {
        let rules = match name {
            "" => TimeZone::local().ok(),
            name => Some(TimeZone::from_posix_tz(name).ok()?),
        };
        Some(Zone { rules })
    }

    /// How many seconds its clocks are ahead of UTC at that time.
    #[must_use]
    pub fn offset(&self, at: UnixSeconds) -> i64 {
        let rules = self.rules.as_ref();
        let kind = rules.and_then(|rules| rules.find_local_time_type(at.0).ok());
        kind.map_or(0, |kind| i64::from(kind.ut_offset()))
    }

    /// `2026-11-24 06:46:26 +01:00`, for people.
    #[must_use]
    pub fn written(&self, at: UnixSeconds) -> String {
        let (local, offset) = self.split(at);
        format!("{} {offset}", local.replace('T', " "))
    }

    /// `2026-11-24T06:46:26+01:00`.
    #[must_use]
    pub fn rfc3339(&self, at: UnixSeconds) -> String {
        let (local, offset) = self.split(at);
        format!("{local}{offset}")
    }

    fn split(&self, at: UnixSeconds) -> (String, String) {
        let offset = self.offset(at);
        let local = time::rfc3339(UnixSeconds(at.0.saturating_add(offset)));
        let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
        let offset = format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60);
        (local.trim_end_matches('Z').to_owned(), offset)
    }

    /// The date that its calendars show at that time.
    #[must_use]
    pub fn date(&self, at: UnixSeconds) -> Date {
        Date::of(at.0.saturating_add(self.offset(at)))
    }

    /// When that day begins. Where the clocks skip its midnight, with the second after.
    #[must_use]
    pub fn start_of(&self, date: Date) -> UnixSeconds {
        const DAY: i64 = 24 * 60 * 60;
        let midnight = date.seconds();
        // No zone is further from UTC than a day, and none changes twice in three.
        let offset_at = |at: i64| self.offset(UnixSeconds(at));
        let (before, after) = (offset_at(midnight - DAY), offset_at(midnight + DAY));
        let is_midnight = |offset: &i64| offset_at(midnight - offset) == *offset;
        let offsets = [before.max(after), before.min(after)];
        let offset = offsets.into_iter().find(is_midnight).unwrap_or(before);
        UnixSeconds(midnight - offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Zone {
        Zone::named(name).unwrap()
    }

    #[test]
    fn times_are_written_with_the_offset_that_holds_then() {
        for (name, seconds, expected) in [
            ("UTC", 1_795_500_000, "2026-11-24 06:00:00 +00:00"),
            (
                "Asia/Kathmandu",
                1_795_500_000,
                "2026-11-24 11:45:00 +05:45",
            ),
            (
                "America/St_Johns",
                1_795_500_000,
                "2026-11-24 02:30:00 -03:30",
            ),
            // The hour from two to three is there twice.
            ("Europe/Berlin", 1_792_889_999, "2026-10-25 02:59:59 +02:00"),
            ("Europe/Berlin", 1_792_890_000, "2026-10-25 02:00:00 +01:00"),
            // Far beyond the transitions that the file lists.
            ("Europe/Berlin", 4_118_000_000, "2100-06-30 02:53:20 +02:00"),
            (
                "CET-1CEST,M3.5.0,M10.5.0/3",
                1_795_500_000,
                "2026-11-24 07:00:00 +01:00",
            ),
        ] {
            assert_eq!(zone(name).written(UnixSeconds(seconds)), expected, "{name}");
        }
        for extreme in [i64::MIN, i64::MAX] {
            assert!(
                zone("Europe/Berlin")
                    .written(UnixSeconds(extreme))
                    .contains(':')
            );
        }
    }

    #[test]
    fn a_day_begins_where_its_date_begins() {
        let zones = [
            "UTC",
            "Europe/Berlin",
            "Asia/Kathmandu",
            "America/Santiago",
            "Asia/Beirut",
            "Pacific/Apia",
            "Pacific/Kiritimati",
            "America/Havana",
            "Africa/Cairo",
            "Australia/Lord_Howe",
        ];
        for name in zones {
            let zone = zone(name);
            let mut date = Date::parse("2026-01-01").unwrap();
            for _ in 0..400 {
                let start = zone.start_of(date);
                assert_eq!(zone.date(start), date, "{name}");
                assert!(zone.date(UnixSeconds(start.0 - 1)) < date, "{name} {date}");
                assert_eq!(
                    start.0 % 900,
                    0,
                    "{name} {date}: a quarter of an hour begins"
                );
                date = date.next();
            }
        }
    }

    #[test]
    fn an_unknown_zone_is_none() {
        for name in [
            "Europe/Pariss",
            "nonsense",
            "/etc/passwd",
            "../../etc/passwd",
            ":/dev/null",
        ] {
            assert!(Zone::named(name).is_none(), "{name}");
        }
        assert!(Zone::named("").is_some());
    }
}
