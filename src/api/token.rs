//! Whether a request comes from the shop's own back end: it knows `API_TOKEN`.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::base::log_line::{ErrorCode, Message};
use crate::base::secret::Secret;
use crate::host::clock::Now;
use crate::http::exchange::{Reply, Request};
use crate::http::limiter::Limiter;

/// Wrong tokens a minute before 429, whichever client sends them: all are on this machine, where a client
/// can choose its address. A right token is never counted.
const FAILURES_MAX: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
/// The one client that all wrong tokens are counted for.
const EVERYBODY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A token that nobody can guess: 256 random bits in hexadecimal.
///
/// # Errors
/// The operating system has no random numbers for us.
pub fn generate() -> io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// Lets in clients that know the token.
///
/// The comparison takes the same time however much of a token is right: it compares not the tokens
/// but their digests under a key that nobody knows.
pub(super) struct Gate {
    key: DigestKey,
    expected: Hmac<Sha256>,
    failures: Mutex<Limiter>,
}

type DigestKey = [u8; 64];

impl Gate {
    pub(super) fn new(token: &Secret) -> io::Result<Gate> {
        let mut key = [0; 64];
        getrandom::fill(&mut key)?;
        Ok(Gate {
            key,
            expected: digest(&key, token.expose()),
            failures: Mutex::new(Limiter::new(FAILURES_MAX, Vec::new())),
        })
    }

    /// Passes a request with the right token; else the answer to it.
    pub(super) fn check(&self, request: &Request<'_>, now: Now) -> Result<(), Reply> {
        let given = request.header("authorization");
        let given = given.as_deref().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then_some(token.trim())
        });
        if given.is_some_and(|given| self.is_token(given)) {
            return Ok(());
        }
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = match failures.take(EVERYBODY, now.instant) {
            Ok(()) => Reply::error(
                401,
                ErrorCode::TokenWrong,
                "Authorization: Bearer API_TOKEN is needed",
            ),
            Err(exceeded) => Reply {
                retry_after: Some(exceeded.retry_after_seconds),
                ..Reply::error(429, ErrorCode::RateLimited, "Too many wrong tokens")
            },
        };
        Err(Reply {
            message: Message::ShopRefused,
            ..refusal
        })
    }

    fn is_token(&self, given: &str) -> bool {
        let expected = self.expected.clone().finalize().into_bytes();
        digest(&self.key, given).verify(&expected).is_ok()
    }
}

fn digest(key: &DigestKey, text: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new(&(*key).into());
    mac.update(text.as_bytes());
    mac
}
