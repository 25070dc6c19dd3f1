//! The only place that reads a clock; everything else takes the time as an argument.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the door the clock comes in by"
)]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::base::id::UnixSeconds;

/// Both clocks, read once for a request: `instant` for intervals, `unix` for dates.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Never goes back.
    pub instant: Instant,
    /// May jump: it follows the host's idea of the date.
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
