//! Says whether this client may proceed now, and if not, when.
//!
//! A token bucket for each client: it holds a minute's worth of tokens, every request takes one,
//! and it fills up evenly within a minute. So a client that was quiet may send a whole minute's
//! worth at once, and no client gets more than that plus the refill in any stretch of time.
//!
//! Counting is in whole numbers: a token is worth as many units as a minute has nanoseconds, and
//! each nanosecond brings one unit for each token a minute. Nothing is rounded, so nothing drifts.

use std::net::{IpAddr, Ipv6Addr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use lru::LruCache;

/// Most clients that are remembered, in about 1 MB. The one that has been quiet for longest is
/// forgotten first, and has a full bucket if it comes back.
const CLIENTS_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

/// The time in which an empty bucket fills.
const MINUTE: Duration = Duration::from_secs(60);

/// What one token is worth.
const TOKEN: u128 = MINUTE.as_nanos();

/// A client has no token left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded {
    /// When the next token arrives, in whole seconds from now, at least 1: the value of the
    /// `Retry-After` header.
    pub retry_after_seconds: u64,
}

/// The buckets of all clients.
#[derive(Debug)]
pub(crate) struct Limiter {
    per_minute: NonZeroU32,
    exempt: Vec<IpNet>,
    buckets: LruCache<IpAddr, Bucket>,
}

impl Limiter {
    /// Allows each client `per_minute` requests a minute, and those in `exempt` any number.
    #[must_use]
    pub(crate) fn new(per_minute: NonZeroU32, exempt: Vec<IpNet>) -> Limiter {
        Limiter {
            per_minute,
            exempt,
            buckets: LruCache::sparse(CLIENTS_MAX),
        }
    }

    /// Takes one token of `client`.
    ///
    /// # Errors
    /// [`Exceeded`] when it has none; asking costs it nothing, so waiting that long is enough.
    pub(crate) fn take(&mut self, client: IpAddr, now: Instant) -> Result<(), Exceeded> {
        if self.is_exempt(client) {
            return Ok(());
        }
        let rate = u128::from(self.per_minute.get());
        let full = || Bucket::full(rate, now);
        let bucket = self.buckets.get_or_insert_mut(key(client), full);
        bucket.fill(rate, now);
        bucket.take(rate)
    }

    /// Whether `client` has no token left. This takes none.
    #[must_use]
    pub(crate) fn is_exhausted(&self, client: IpAddr, now: Instant) -> bool {
        if self.is_exempt(client) {
            return false;
        }
        let rate = u128::from(self.per_minute.get());
        self.buckets.peek(&key(client)).is_some_and(|bucket| {
            let mut bucket = *bucket;
            bucket.fill(rate, now);
            bucket.take(rate).is_err()
        })
    }

    fn is_exempt(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.exempt.iter().any(|net| net.contains(&client))
    }
}

/// Who counts as one client: an IPv4 address, however it is written, or an IPv6 network of /64,
/// since a host with one IPv6 address usually has its whole network.
fn key(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
    }
}

/// What one client has left.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// In units: [`TOKEN`] of them are a token.
    credit: u128,
    /// When `credit` was computed.
    at: Instant,
}

impl Bucket {
    fn full(rate: u128, now: Instant) -> Bucket {
        Bucket {
            credit: rate * TOKEN,
            at: now,
        }
    }

    /// Adds the refill since the last time. A `now` before that, from a thread that read the clock and
    /// then waited, adds nothing and takes nothing back.
    fn fill(&mut self, rate: u128, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).min(MINUTE);
        self.credit = (self.credit + elapsed.as_nanos() * rate).min(rate * TOKEN);
        self.at = self.at.max(now);
    }

    fn take(&mut self, rate: u128) -> Result<(), Exceeded> {
        if let Some(rest) = self.credit.checked_sub(TOKEN) {
            self.credit = rest;
            return Ok(());
        }
        let nanoseconds = (TOKEN - self.credit).div_ceil(rate);
        let seconds = nanoseconds.div_ceil(Duration::from_secs(1).as_nanos());
        // Never over 60: an empty bucket of one token a minute is the slowest.
        let retry_after_seconds = u64::try_from(seconds).unwrap_or(MINUTE.as_secs());
        Err(Exceeded {
            retry_after_seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::clock::Now;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

    fn limiter(per_minute: u32) -> Limiter {
        exempting(per_minute, &[])
    }

    fn exempting(per_minute: u32, exempt: &[&str]) -> Limiter {
        let exempt = exempt.iter().map(|net| net.parse().unwrap()).collect();
        Limiter::new(NonZeroU32::new(per_minute).unwrap(), exempt)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn taken(limiter: &mut Limiter, client: IpAddr, now: Instant, tries: usize) -> usize {
        let takes = (0..tries).map(|_| limiter.take(client, now));
        takes.filter(Result::is_ok).count()
    }

    #[test]
    fn a_quiet_client_has_a_minutes_worth_at_once_and_no_more() {
        let now = Now::read().instant;
        let mut limiter = limiter(100);
        assert_eq!(taken(&mut limiter, CLIENT, now, 250), 100);
        assert_eq!(taken(&mut limiter, ip("203.0.113.8"), now, 250), 100);
        let an_hour_later = now + Duration::from_secs(3600);
        assert_eq!(taken(&mut limiter, CLIENT, an_hour_later, 250), 100);
    }

    #[test]
    fn the_refill_is_exact_to_the_nanosecond() {
        for per_minute in [1, 7, 60, 100, 999, u32::MAX] {
            let start = Now::read().instant;
            let mut limiter = limiter(per_minute);
            // Empty the bucket without four billion calls.
            limiter.take(CLIENT, start).unwrap();
            limiter.buckets.get_mut(&CLIENT).unwrap().credit = 0;
            for token in 1..=100_u128 {
                let due = (token * TOKEN).div_ceil(u128::from(per_minute));
                let due = start + Duration::from_nanos(u64::try_from(due).unwrap());
                let too_early = due - Duration::from_nanos(1);
                assert!(limiter.take(CLIENT, too_early).is_err(), "{per_minute}");
                assert!(limiter.take(CLIENT, due).is_ok(), "{per_minute}");
            }
        }
    }

    #[test]
    fn retry_after_is_true_and_at_least_a_second() {
        for per_minute in [1, 7, 59, 60, 61, 100, 5000] {
            let now = Now::read().instant;
            let mut limiter = limiter(per_minute);
            while limiter.take(CLIENT, now).is_ok() {}
            let Exceeded {
                retry_after_seconds,
            } = limiter.take(CLIENT, now).unwrap_err();
            assert_eq!(
                retry_after_seconds,
                u64::from(60_u32.div_ceil(per_minute)).max(1)
            );
            let then = now + Duration::from_secs(retry_after_seconds);
            if retry_after_seconds > 1 {
                let before = then - Duration::from_secs(1);
                assert!(limiter.is_exhausted(CLIENT, before), "{per_minute}");
            }
            assert!(!limiter.is_exhausted(CLIENT, then), "{per_minute}");
            assert!(limiter.take(CLIENT, then).is_ok(), "{per_minute}");
        }
    }

    #[test]
    fn asking_takes_nothing_and_remembers_nobody() {
        let now = Now::read().instant;
        let mut limiter = limiter(1);
        assert!(!limiter.is_exhausted(CLIENT, now));
        assert_eq!(limiter.buckets.len(), 0);
        assert!(limiter.take(CLIENT, now).is_ok());
        assert!(limiter.is_exhausted(CLIENT, now));
        assert!(limiter.take(CLIENT, now).is_err());
    }

    #[test]
    fn exempt_clients_are_never_limited() {
        let now = Now::read().instant;
        let mut limiter = exempting(1, &["3.18.12.63/32", "2001:db8:1::/48"]);
        for exempt in ["3.18.12.63", "::ffff:3.18.12.63", "2001:db8:1:2::3"] {
            assert_eq!(taken(&mut limiter, ip(exempt), now, 50), 50, "{exempt}");
            assert!(!limiter.is_exhausted(ip(exempt), now));
        }
        assert_eq!(limiter.buckets.len(), 0);
        for other in ["3.18.12.64", "2001:db8:2::3"] {
            assert_eq!(taken(&mut limiter, ip(other), now, 50), 1, "{other}");
        }
    }

    #[test]
    fn an_ipv6_network_of_64_bits_is_one_client() {
        let now = Now::read().instant;
        let mut limiter = limiter(10);
        assert_eq!(taken(&mut limiter, ip("2001:db8::1"), now, 6), 6);
        assert_eq!(taken(&mut limiter, ip("2001:db8::ffff:1"), now, 6), 4);
        assert_eq!(taken(&mut limiter, ip("2001:db8:0:1::1"), now, 20), 10);
    }

    #[test]
    fn an_ipv4_address_is_one_client_however_it_is_written() {
        let now = Now::read().instant;
        let mut limiter = limiter(10);
        assert_eq!(taken(&mut limiter, ip("203.0.113.7"), now, 6), 6);
        assert_eq!(taken(&mut limiter, ip("::ffff:203.0.113.7"), now, 6), 4);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_away() {
        let now = Now::read().instant + Duration::from_secs(600);
        let mut limiter = limiter(60);
        assert_eq!(taken(&mut limiter, CLIENT, now, 100), 60);
        let earlier = now - Duration::from_secs(300);
        assert_eq!(taken(&mut limiter, CLIENT, earlier, 100), 0);
        assert_eq!(taken(&mut limiter, CLIENT, now, 100), 0);
        let later = now + Duration::from_secs(1);
        assert_eq!(taken(&mut limiter, CLIENT, later, 100), 1);
    }

    #[test]
    fn memory_is_bounded_and_the_longest_quiet_is_forgotten() {
        let now = Now::read().instant;
        let mut limiter = limiter(1);
        assert!(limiter.take(CLIENT, now).is_ok());
        for n in 0..20_000_u32 {
            let stranger = IpAddr::V4(std::net::Ipv4Addr::from_bits(n));
            assert!(limiter.take(stranger, now).is_ok());
            // Whoever keeps coming is remembered.
            assert!(limiter.take(CLIENT, now).is_err());
        }
        assert_eq!(limiter.buckets.len(), CLIENTS_MAX.get());
        assert!(limiter.take(ip("0.0.0.0"), now).is_ok(), "forgotten");
        assert!(limiter.take(ip("0.0.78.31"), now).is_err(), "remembered");
    }

    proptest! {
        /// In both directions: what is allowed fits every window, and what is refused would not.
        #[test]
        fn no_window_has_more_than_the_limit_and_its_refill(
            per_minute in 1_u32..20,
            pauses_ms in prop::collection::vec(prop_oneof![Just(0_u64), 0..200_u64, 0..20_000_u64], 1..120),
        ) {
            let rate = u128::from(per_minute);
            let start = Now::read().instant;
            let mut limiter = limiter(per_minute);
            let mut now = Duration::ZERO;
            let mut allowed: Vec<Duration> = Vec::new();
            for pause in pauses_ms {
                now += Duration::from_millis(pause);
                let result = limiter.take(CLIENT, start + now);
                allowed.push(now);
                let fits = (0..allowed.len()).all(|first| {
                    let count = (allowed.len() - first) as u128;
                    count * TOKEN <= rate * TOKEN + rate * (now - allowed[first]).as_nanos()
                });
                prop_assert_eq!(result.is_ok(), fits);
                if result.is_err() {
                    allowed.pop();
                }
            }
        }
    }
}
