//! The only place that reads a clock; everything else takes the time as an argument.
#![expect(
    clippy::disallowed_methods,
    reason = "the clock is read here and nowhere else"
)]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::base::id::UnixSeconds;

/// Both clocks, read once for a request: `instant` for intervals, `unix` for dates.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Never goes back.
    pub instant: Instant,
    /// May jump when the host's clock is set.
    pub unix: UnixSeconds,
}

impl Now {
    /// Reads both clocks.
    #[must_use]
    pub fn read() -> Now {
        Now {
            instant: Instant::now(),
            unix: UnixSeconds(unix_millis().div_euclid(1000)),
        }
    }
}

/// Milliseconds since 1970, negative before it.
#[must_use]
pub fn unix_millis() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}
