//! When a destination and its orders are tried again. No clock, no network: times come as arguments.
//!
//! Two things can be wrong. An order can be refused: then it waits for its own next try, and the others
//! go on. Or the destination is down: it cannot be reached, is too busy, or refuses one order after the
//! other; then one order at each step is tried, until one is heard. Which of the two it is shows only
//! with another order, so each step tries one that was not tried before, and an order that was refused
//! before says nothing of the destination.

use std::fmt;

use crate::base::id::UnixSeconds;
use crate::store::{Destination, Told};

/// Pauses after the first, second, … failure, in seconds. The last one is for ever.
const STEPS: [i64; 6] = [5, 30, 2 * 60, 10 * 60, 30 * 60, 3600];
/// The longest pause: a step and a fifth, or what `Retry-After` may ask for.
const PAUSE_MAX: i64 = 3600 + 720;
/// Longest `Retry-After` that is respected, in seconds.
const RETRY_AFTER_MAX: i64 = 3600;
/// Different orders refused in a row: it is not the orders.
const REFUSED_IN_A_ROW: u32 = 3;
/// So many where it was the orders time and again.
const REFUSED_IN_A_ROW_MAX: u32 = 96;

/// What came of telling an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// 2xx.
    Heard(u16),
    /// Any other status that is about this order, and the seconds that it asks to wait.
    Refused(u16, Option<i64>),
    /// The destination itself is out of order.
    Down(Why, Option<i64>),
}

/// Why a destination cannot be told anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It says so itself: 429, 502, 503 or 504.
    Status(u16),
    /// Its name has no address.
    Name,
    /// Nobody takes the connection.
    Connect,
    /// No whole answer in time.
    Timeout,
    /// Its certificate proves nothing.
    Tls,
    /// The connection broke, or the answer is not HTTP.
    Broken,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Status(status) => return write!(f, "status {status}"),
            Why::Name => "its name has no address",
            Why::Connect => "nobody takes the connection",
            Why::Timeout => "no answer in time",
            Why::Tls => "its certificate is not trusted",
            Why::Broken => "the connection broke",
        })
    }
}

impl Reaction {
    /// What a status means.
    pub(crate) fn of(status: u16, retry_after: Option<i64>) -> Reaction {
        match status {
            200..=299 => Reaction::Heard(status),
            429 | 502..=504 => Reaction::Down(Why::Status(status), retry_after),
            _ => Reaction::Refused(status, retry_after),
        }
    }
}

/// How it goes with a destination.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) destination: Destination,
    /// How many orders were refused for the first time since one was heard.
    refused: u32,
    /// How many of them mean that the destination is down: more after each time that another order was
    /// heard then.
    refused_max: u32,
    /// What was known to be new when it was tried last.
    news: i64,
}

impl Course {
    /// Where it was left; `quiet` is the last change that can be told now.
    pub(crate) fn new(destination: Destination, quiet: i64) -> Course {
        Course {
            destination,
            refused: 0,
            refused_max: REFUSED_IN_A_ROW,
            news: quiet,
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.destination.failing_since.is_some()
    }

    /// Whether it is down because it refuses one order after the other.
    pub(crate) fn is_refusing(&self) -> bool {
        self.is_down() && self.refused > 0
    }

    /// Whether a destination that is down may be tried now. Something new to tell begins the steps anew,
    /// so that it is heard within seconds of the destination's return however long that was away; but
    /// what the destination asked for itself counts.
    pub(crate) fn may_try(&mut self, quiet: i64, now: UnixSeconds) -> bool {
        if is_due(self.destination.next_try, now) {
            return true;
        }
        let since = now.0 - self.destination.tried.map_or(0, |tried| tried.0);
        let rested = !(0..STEPS[0]).contains(&since);
        let is_allowed = is_due(self.destination.not_before, now);
        if quiet > self.news && rested && is_allowed {
            self.destination.tries = 0;
            return true;
        }
        false
    }

    /// What an answer to the state `version` of an order changes, and what is to be written of the order.
    pub(crate) fn take(
        &mut self,
        (version, told): (i64, &Told),
        answer: Reaction,
        (quiet, now): (i64, UnixSeconds),
        dice: u32,
    ) -> Told {
        let was_down = self.is_down();
        let is_first = told.tries == 0;
        let (why, retry_after, is_down) = match answer {
            Reaction::Heard(_) => return self.heard(version, told, now),
            Reaction::Refused(status, retry_after) => {
                self.refused += u32::from(was_down || is_first);
                let is_down = self.refused >= self.refused_max;
                (Why::Status(status), retry_after, is_down)
            }
            Reaction::Down(why, retry_after) => {
                self.refused = 0;
                (why, retry_after, true)
            }
        };
        let is_down = was_down || (is_first && is_down);
        if is_down {
            self.fail(why, retry_after, (quiet, now), dice);
        }
        // While nothing is heard, that says little of this one.
        let tries = match is_down {
            true => told.tries.max(1),
            false => told.tries.saturating_add(1),
        };
        Told {
            tries,
            tried: Some(now),
            next_try: Some(after(now, tries, retry_after, dice)),
            why: Some(why.to_string()),
            ..told.clone()
        }
    }

    fn heard(&mut self, version: i64, told: &Told, now: UnixSeconds) -> Told {
        if self.is_refusing() {
            self.refused_max = (self.refused_max * 2).min(REFUSED_IN_A_ROW_MAX);
        }
        self.refused = 0;
        self.destination = Destination {
            name: std::mem::take(&mut self.destination.name),
            cursor: self.destination.cursor,
            ..Destination::default()
        };
        Told {
            order: told.order,
            version: Some(version),
            at: Some(now),
            ..Told::default()
        }
    }

    fn fail(
        &mut self,
        why: Why,
        retry_after: Option<i64>,
        (quiet, now): (i64, UnixSeconds),
        dice: u32,
    ) {
        let destination = &mut self.destination;
        destination.failing_since.get_or_insert(now);
        destination.tries = destination.tries.saturating_add(1);
        destination.tried = Some(now);
        destination.next_try = Some(after(now, destination.tries, retry_after, dice));
        destination.not_before = retry_after.map(|seconds| plus(now, wish(seconds)));
        destination.why = Some(why.to_string());
        self.news = quiet;
    }
}

/// A time has come when it is not after the first of these. One that is further away than any pause, which
/// is after the second, was set by another clock.
pub(crate) fn due_times(now: UnixSeconds) -> (i64, i64) {
    (now.0, now.0.saturating_add(PAUSE_MAX))
}

fn is_due(time: Option<UnixSeconds>, now: UnixSeconds) -> bool {
    let (until, beyond) = due_times(now);
    time.is_none_or(|time| time.0 <= until || time.0 > beyond)
}

/// When it is time after so many tries; `dice` is any number.
fn after(now: UnixSeconds, tries: u32, retry_after: Option<i64>, dice: u32) -> UnixSeconds {
    let index = usize::try_from(tries.saturating_sub(1)).unwrap_or(usize::MAX);
    let [.., last] = STEPS;
    let step = STEPS.get(index).copied().unwrap_or(last);
    let percent = 80 + i64::from(dice % 41);
    let pause = (step * percent / 100).max(retry_after.map_or(0, wish));
    plus(now, pause)
}

fn wish(retry_after: i64) -> i64 {
    retry_after.clamp(0, RETRY_AFTER_MAX)
}

fn plus(now: UnixSeconds, seconds: i64) -> UnixSeconds {
    UnixSeconds(now.0.saturating_add(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixSeconds = UnixSeconds(1_793_000_000);

    fn course() -> Course {
        Course::new(Destination::default(), 0)
    }

    /// What comes of telling an order for the first time.
    fn takes(course: &mut Course, answer: Reaction, (quiet, now): (i64, UnixSeconds)) -> Told {
        course.take((1, &Told::default()), answer, (quiet, now), 20)
    }

    fn at(seconds: i64) -> UnixSeconds {
        UnixSeconds(START.0 + seconds)
    }

    #[test]
    fn pauses_are_those_of_the_table_give_or_take_a_fifth() {
        let steps = [5, 30, 120, 600, 1800, 3600, 3600, 3600];
        for (tries, step) in (1..).zip(steps) {
            for dice in 0..200 {
                let pause = after(START, tries, None, dice).0 - START.0;
                assert!((step * 8 / 10..=step * 12 / 10).contains(&pause), "{pause}");
            }
        }
        assert_eq!(after(START, u32::MAX, None, 40), at(PAUSE_MAX));
        assert_eq!(after(START, 1, Some(600), 0), at(600));
        assert_eq!(after(START, 1, Some(86_400), 0), at(3600));
        assert_eq!(after(START, 1, Some(-1), 0), at(4));
    }

    #[test]
    fn statuses_are_about_the_order_or_about_the_destination() {
        for status in [200, 204, 299] {
            assert_eq!(Reaction::of(status, None), Reaction::Heard(status));
        }
        for status in [301, 302, 400, 401, 404, 410, 500, 501, 505] {
            assert_eq!(Reaction::of(status, None), Reaction::Refused(status, None));
        }
        for status in [429, 502, 503, 504] {
            let down = Reaction::Down(Why::Status(status), Some(1));
            assert_eq!(Reaction::of(status, Some(1)), down);
        }
    }

    #[test]
    fn an_order_that_was_refused_before_never_stops_the_others() {
        for answer in [
            Reaction::Refused(500, None),
            Reaction::Down(Why::Timeout, None),
            Reaction::Down(Why::Status(502), None),
        ] {
            let mut course = course();
            let mut told = Told {
                tries: 1,
                ..Told::default()
            };
            for now in 0..10 {
                told = course.take((1, &told), answer, (0, at(now)), 20);
                assert!(!course.is_down());
            }
            assert_eq!((told.tries, told.next_try), (11, Some(at(9 + 3600))));
            assert!(told.why.is_some());
        }
    }

    #[test]
    fn three_different_ones_in_a_row_are_the_destination_and_one_that_is_heard_ends_it() {
        let mut course = course();
        let refused = Reaction::Refused(500, None);
        for _ in [1, 2] {
            takes(&mut course, refused, (9, START));
            assert!(!course.is_down());
        }
        takes(&mut course, refused, (9, START));
        assert!(course.is_refusing());
        assert!(!course.may_try(9, at(4)) && course.may_try(9, at(5)));
        // A probe that is refused says nothing of its order.
        let told = Told {
            tries: 1,
            ..Told::default()
        };
        let told = course.take((4, &told), refused, (9, at(5)), 20);
        assert_eq!((told.tries, told.next_try), (1, Some(at(10))));
        assert_eq!(course.destination.next_try, Some(at(35)));
        let told = course.take((4, &told), Reaction::Heard(200), (9, at(35)), 20);
        assert_eq!(
            (told.version, told.at, told.next_try),
            (Some(4), Some(at(35)), None)
        );
        assert!(!course.is_down());
    }

    /// How many different ones in a row it takes.
    fn refused_until_down(course: &mut Course) -> u32 {
        let refused = Reaction::Refused(500, None);
        for count in 1..1_000 {
            takes(course, refused, (9, START));
            if course.is_down() {
                return count;
            }
        }
        0
    }

    #[test]
    fn where_it_was_the_orders_it_takes_more_of_them_until_it_is_the_destination_again() {
        let mut course = course();
        for count in [3, 6, 12, 24, 48, 96, 96] {
            assert_eq!(refused_until_down(&mut course), count);
            takes(&mut course, Reaction::Heard(200), (9, START));
        }
        // What cannot be reached at all is another matter.
        let mut course = Course::new(Destination::default(), 0);
        takes(&mut course, Reaction::Down(Why::Connect, None), (9, START));
        takes(&mut course, Reaction::Heard(200), (9, START));
        assert_eq!(refused_until_down(&mut course), 3);
    }

    #[test]
    fn something_new_begins_the_steps_anew_but_not_against_the_destinations_own_wish() {
        let mut course = course();
        let down = Reaction::Down(Why::Connect, None);
        let mut now = START;
        for _ in 0..9 {
            takes(&mut course, down, (10, now));
            now = course.destination.next_try.unwrap();
        }
        let tried = course.destination.tried.unwrap();
        let soon = UnixSeconds(tried.0 + 60);
        assert!(!course.may_try(10, soon), "nothing is new");
        assert!(!course.may_try(11, UnixSeconds(tried.0 + 4)), "too soon");
        assert!(course.may_try(11, soon));
        takes(&mut course, down, (11, soon));
        assert_eq!(course.destination.next_try, Some(UnixSeconds(soon.0 + 5)));
        let busy = Reaction::Down(Why::Status(429), Some(900));
        takes(&mut course, busy, (11, soon));
        assert!(!course.may_try(12, UnixSeconds(soon.0 + 899)));
        assert!(course.may_try(12, UnixSeconds(soon.0 + 900)));
    }

    #[test]
    fn a_time_that_another_clock_has_set_is_not_waited_for() {
        let mut course = course();
        takes(&mut course, Reaction::Down(Why::Tls, None), (0, at(86_400)));
        assert!(course.may_try(0, START));
    }

    /// Ten days without an answer, with a new order each day.
    #[test]
    fn in_ten_days_it_is_tried_at_every_step_and_at_least_hourly() {
        let mut course = course();
        let (mut probes, mut last, mut gap) = (0, 0, 0);
        for second in 0..10 * 86_400 {
            let quiet = second / 86_400;
            if !course.is_down() || course.may_try(quiet, at(second)) {
                let down = Reaction::Down(Why::Timeout, None);
                course.take((1, &Told::default()), down, (quiet, at(second)), 17);
                gap = gap.max(second - last);
                (probes, last) = (probes + 1, second);
            }
        }
        assert!(gap <= PAUSE_MAX, "{gap}");
        assert!((10 * 24..10 * 31).contains(&probes), "{probes}");
        assert_eq!(course.destination.failing_since, Some(START));
    }
}
