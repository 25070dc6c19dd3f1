//! Dates for logs and programs: RFC 3339 in UTC; and days of the calendar.
//!
//! RFC 3339 covers the years 0 to 9999. Other years do not fail: they are written with as many digits
//! as they need.

use std::fmt;

use super::id::UnixSeconds;

/// `2026-11-24T05:46:26Z`.
#[must_use]
pub fn rfc3339(time: UnixSeconds) -> String {
    format!("{}Z", date_and_clock(time.0))
}

/// `2026-11-24T05:46:26.123Z`, from milliseconds since 1970.
#[must_use]
pub(crate) fn rfc3339_millis(unix_millis: i64) -> String {
    let seconds = date_and_clock(unix_millis.div_euclid(1000));
    format!("{seconds}.{:03}Z", unix_millis.rem_euclid(1000))
}

/// Reads `2026-11-24T05:46:26Z`, and drops a fraction of a second; `None` for any other form.
#[must_use]
pub(crate) fn parse_rfc3339(text: &str) -> Option<UnixSeconds> {
    let (seconds, fraction) = text.strip_suffix('Z')?.split_at_checked(19)?;
    let is_fraction = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if !fraction.is_empty() && !fraction.strip_prefix('.').is_some_and(is_fraction) {
        return None;
    }
    let numbers: Vec<i64> = seconds
        .split(['-', 'T', ':'])
        .map(|digits| digits.parse().ok())
        .collect::<Option<_>>()?;
    let [year, month, day, hour, minute, second] = *numbers.as_slice() else {
        return None;
    };
    let time =
        UnixSeconds(days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second);
    // A date that does not exist, such as 30 February, is written differently.
    (rfc3339(time) == format!("{seconds}Z")).then_some(time)
}

/// Reads the `Date` of an HTTP answer, `Sun, 06 Nov 1994 08:49:37 GMT`; `None` for any other form. <https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7>
#[must_use]
pub(crate) fn http_date(text: &str) -> Option<UnixSeconds> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let number = |text: &str, most: i64| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<i64>().ok().filter(|_| digits);
        number.filter(|number| (0..=most).contains(number))
    };
    let (_, date) = text.split_once(", ")?;
    let mut words = date.strip_suffix(" GMT")?.split(' ');
    let day = number(words.next()?, 31)?;
    let name = words.next()?;
    let month = (1..).zip(MONTHS).find(|(_, month)| *month == name)?.0;
    let year = number(words.next()?, 9999)?;
    let mut clock = words.next()?.splitn(3, ':');
    let hour = number(clock.next()?, 23)?;
    let minute = number(clock.next()?, 59)?;
    let second = number(clock.next()?, 60)?;
    let days = days_from_civil(year, month, day);
    let all_read = words.next().is_none();
    all_read.then_some(UnixSeconds(days * DAY + hour * 3600 + minute * 60 + second))
}

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl Date {
    /// Before all that anybody has paid.
    pub(crate) const FIRST: Date = Date {
        year: 1970,
        month: 1,
        day: 1,
    };
    /// After it.
    pub(crate) const LAST: Date = Date {
        year: 9999,
        month: 1,
        day: 1,
    };

    /// The day of that many seconds after 1970 began, in whatever zone that was.
    #[must_use]
    pub(crate) fn of(seconds: i64) -> Date {
        let (year, month, day) = civil_from_days(seconds.div_euclid(DAY));
        Date { year, month, day }
    }

    /// The inverse of [`Date::of`]: its first second.
    #[must_use]
    pub(crate) fn seconds(self) -> i64 {
        days_from_civil(self.year, self.month, self.day) * DAY
    }

    /// Reads `2026-11-24`; `None` for any other form, and for a day that does not exist.
    #[must_use]
    pub fn parse(text: &str) -> Option<Date> {
        parse_rfc3339(&format!("{text}T00:00:00Z")).map(|midnight| Date::of(midnight.0))
    }

    /// The day after it.
    #[must_use]
    pub fn next(self) -> Date {
        Date::of(self.seconds() + DAY)
    }

    /// The first day of its month.
    #[must_use]
    pub fn month(self) -> Date {
        Date { day: 1, ..self }
    }

    /// The first day of the month after it.
    #[must_use]
    pub fn next_month(self) -> Date {
        match self.month {
            12 => Date {
                year: self.year + 1,
                month: 1,
                day: 1,
            },
            month => Date {
                month: month + 1,
                day: 1,
                ..self
            },
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

const DAY: i64 = 24 * 60 * 60;
const DAYS_TO_1970_FROM_MARCH_OF_YEAR_0: i64 = 719_468;
const DAYS_IN_400_YEARS: i64 = 146_097;

fn date_and_clock(unix_seconds: i64) -> String {
    let (year, month, day) = civil_from_days(unix_seconds.div_euclid(DAY));
    let second = unix_seconds.rem_euclid(DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// The algorithm and its proof: <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>.
/// Its years begin in March, so that the leap day is the last day of one.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_1970_FROM_MARCH_OF_YEAR_0;
    let era = days.div_euclid(DAYS_IN_400_YEARS);
    let day_of_era = days.rem_euclid(DAYS_IN_400_YEARS);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_since_march + 2) / 5 + 1;
    let month = (months_since_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// The inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let months_since_march = (month + 9) % 12;
    let day_of_year = (153 * months_since_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_IN_400_YEARS + day_of_era - DAYS_TO_1970_FROM_MARCH_OF_YEAR_0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nothing_else() {
        for seconds in [0, 951_782_400, 1_793_000_000, 253_402_300_799] {
            let time = UnixSeconds(seconds);
            assert_eq!(parse_rfc3339(&rfc3339(time)), Some(time));
        }
        let half = parse_rfc3339("1970-01-01T00:00:01.500Z");
        assert_eq!(half, Some(UnixSeconds(1)));
        for bad in [
            "",
            "Z",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-02-30T00:00:00Z",
            "1970-01-01 00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:00.xZ",
            "1970-01-01T00:00:00+00:00",
            "1970-+1-01T00:00:00Z",
            "é970-01-01T00:00:00Z",
            "9999999999999999999-01-01T00:00Z",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn known_dates_are_written_as_gnu_date_writes_them() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_772_323_200, "2026-03-01T00:00:00Z"),
            (1_793_000_000, "2026-10-26T07:33:20Z"),
            (2_147_483_648, "2038-01-19T03:14:08Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (-2_203_891_200, "1900-03-01T00:00:00Z"),
            (-62_167_219_200, "0000-01-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(UnixSeconds(seconds)), expected);
        }
    }

    #[test]
    fn milliseconds_are_three_digits_before_1970_as_well() {
        assert_eq!(rfc3339_millis(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339_millis(1007), "1970-01-01T00:00:01.007Z");
        assert_eq!(rfc3339_millis(-1), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn every_day_of_400_years_is_the_day_after_the_one_before() {
        let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let mut expected = (1970, 1, 1);
        for day in 0..=146_097 {
            assert_eq!(civil_from_days(day), expected);
            assert_eq!(days_from_civil(expected.0, expected.1, expected.2), day);
            let (year, month, day) = expected;
            let length = match month {
                2 => 28 + i64::from(leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (month, day) if day == length => (year, month + 1, 1),
                (month, day) => (year, month, day + 1),
            };
        }
        assert_eq!(expected, (2370, 1, 2));
    }

    #[test]
    fn the_date_of_an_answer_is_read() {
        for (text, seconds) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Mon, 26 Oct 2026 07:33:20 GMT", 1_793_000_000),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ] {
            assert_eq!(http_date(text), Some(UnixSeconds(seconds)));
        }
        for bad in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 x GMT",
        ] {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_number_of_seconds_overflows() {
        for extreme in [i64::MIN, i64::MAX] {
            assert!(rfc3339(UnixSeconds(extreme)).ends_with('Z'));
            assert!(rfc3339_millis(extreme).ends_with('Z'));
        }
    }
}
