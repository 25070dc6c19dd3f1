//! Whether a client knows a secret: a token or a password.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::base::secret::Secret;
use crate::host::clock::Now;
use crate::http::limiter::{Exceeded, Limiter};

/// Wrong ones a minute, whichever client sends them: on one machine a client can choose its address. A
/// right one is never counted.
const FAILURES_MAX: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
/// The one client that all wrong ones are counted for.
const EVERYBODY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A secret that nobody can guess: 256 random bits in hexadecimal.
///
/// # Errors
/// The operating system has no random numbers for us.
pub(crate) fn generate() -> io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// Lets in clients that know the secret.
///
/// The comparison takes the same time however much of one is right: it compares not the secrets but
/// their digests under a key that nobody knows.
pub(crate) struct Gate {
    key: DigestKey,
    expected: Hmac<Sha256>,
    failures: Mutex<Limiter>,
}

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shut {
    /// It gave a wrong secret, or none.
    Wrong,
    /// Too many did so within a minute.
    TooMany(Exceeded),
}

type DigestKey = [u8; 64];

impl Gate {
    pub(crate) fn new(secret: &Secret) -> io::Result<Gate> {
        let mut key = [0; 64];
        getrandom::fill(&mut key)?;
        Ok(Gate {
            key,
            expected: digest(&key, secret.expose()),
            failures: Mutex::new(Limiter::new(FAILURES_MAX, Vec::new())),
        })
    }

    /// Lets in a client that gave the right secret.
    pub(crate) fn check(&self, given: Option<&str>, now: Now) -> Result<(), Shut> {
        if given.is_some_and(|given| self.is_right(given)) {
            return Ok(());
        }
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.take(EVERYBODY, now.instant) {
            Ok(()) => Err(Shut::Wrong),
            Err(exceeded) => Err(Shut::TooMany(exceeded)),
        }
    }

    fn is_right(&self, given: &str) -> bool {
        let expected = self.expected.clone().finalize().into_bytes();
        digest(&self.key, given).verify(&expected).is_ok()
    }
}

fn digest(key: &DigestKey, text: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new(&(*key).into());
    mac.update(text.as_bytes());
    mac
}
