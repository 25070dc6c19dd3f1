//! Whether what goes into a place comes out again: how the watchdog tells busy from stuck.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A place that threads go into, and whose work may take long but never for ever.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A thread is inside until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Goes in.
    pub(crate) fn begin(&self) -> Turn<'_> {
        self.begun.fetch_add(1, Relaxed);
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Relaxed);
    }
}

/// What was seen of a place when it was looked at last.
#[derive(Debug)]
pub(crate) struct Seen {
    ended: u64,
    /// Since when nobody is known to have come out although somebody was inside.
    since: Instant,
}

impl Seen {
    /// Nothing so far.
    #[must_use]
    pub(crate) fn new(now: Instant) -> Seen {
        Seen {
            ended: 0,
            since: now,
        }
    }

    /// For how long somebody has been inside `turns` while nobody has come out.
    pub(crate) fn standstill(&mut self, turns: &Turns, now: Instant) -> Duration {
        // In this order: who comes out in between counts as one who has.
        let begun = turns.begun.load(Relaxed);
        let ended = turns.ended.load(Relaxed);
        if ended >= begun || ended != self.ended {
            *self = Seen { ended, since: now };
        }
        now.saturating_duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::clock::Now;

    #[test]
    fn only_who_stays_inside_while_nobody_comes_out_is_stuck() {
        let start = Now::read().instant;
        let at = |seconds| start + Duration::from_secs(seconds);
        let turns = Turns::default();
        let mut seen = Seen::new(start);
        let mut stuck = |turns, seconds| seen.standstill(turns, at(seconds)).as_secs();
        assert_eq!(stuck(&turns, 100), 0, "idle");
        let long = turns.begin();
        assert_eq!(stuck(&turns, 110), 10);
        drop(turns.begin());
        assert_eq!(stuck(&turns, 120), 0, "another one came out");
        assert_eq!(stuck(&turns, 145), 25);
        drop(long);
        assert_eq!(stuck(&turns, 150), 0);
    }
}
