//! How the watchdog tells busy from stuck: whether work that begins also ends.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Counts pieces of work, each of which may take long but must end.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A piece of work, until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Begins a piece of work.
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

/// What the watchdog saw when it looked last.
#[derive(Debug)]
pub(crate) struct LastLook {
    ended: u64,
    /// Since when some work has been going on and none is known to have ended.
    since: Instant,
}

impl LastLook {
    /// Nothing was going on so far.
    #[must_use]
    pub(crate) fn new(now: Instant) -> LastLook {
        LastLook {
            ended: 0,
            since: now,
        }
    }

    /// For how long some work has been going on while none has ended.
    pub(crate) fn standstill(&mut self, turns: &Turns, now: Instant) -> Duration {
        // In this order: work that ends in between counts as ended.
        let begun = turns.begun.load(Relaxed);
        let ended = turns.ended.load(Relaxed);
        if ended >= begun || ended != self.ended {
            *self = LastLook { ended, since: now };
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
        let mut seen = LastLook::new(start);
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
