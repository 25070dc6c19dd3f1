//! The secret of Standard Webhooks, and what it signs.
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::fmt;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::id::UnixSeconds;
use super::secret::Secret;

/// What a secret begins with. Stripe's begin so as well.
const PREFIX: &str = "whsec_";
/// Bytes of a key, as the specification has it.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Bytes of a key that is made here.
const NEW_KEY_BYTES: usize = 32;

/// One secret: `whsec_` and the base64 of 24 to 64 bytes. It prints nothing of itself.
#[derive(Clone)]
pub struct WebhookKey(Hmac<Sha256>);

/// Why a text is not such a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKey {
    /// It does not begin with `whsec_`.
    Prefix,
    /// What follows is not base64.
    Base64,
    /// It is shorter or longer than the specification allows.
    Length,
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadKey::Prefix => "does not begin with whsec_",
            BadKey::Base64 => "is not base64 after whsec_",
            BadKey::Length => "does not stand for 24 to 64 bytes",
        })
    }
}

impl fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookKey(redacted)")
    }
}

impl WebhookKey {
    /// Reads a secret.
    ///
    /// # Errors
    /// [`BadKey`] when it is none.
    pub fn parse(secret: &str) -> Result<WebhookKey, BadKey> {
        let text = secret.strip_prefix(PREFIX).ok_or(BadKey::Prefix)?;
        let bytes = STANDARD.decode(text).map_err(|_| BadKey::Base64)?;
        if !KEY_BYTES.contains(&bytes.len()) {
            return Err(BadKey::Length);
        }
        let key = Hmac::new_from_slice(&bytes);
        key.map(WebhookKey).map_err(|_| BadKey::Length)
    }

    /// Whether it is that of `secret`.
    #[must_use]
    pub fn is(&self, secret: &str) -> bool {
        let signed = |key: &WebhookKey| key.sign("", UnixSeconds(0), "");
        WebhookKey::parse(secret).is_ok_and(|other| signed(&other) == signed(self))
    }

    /// A new secret from the operating system's random numbers.
    ///
    /// # Errors
    /// It has none for us.
    pub fn generate() -> io::Result<Secret> {
        let mut bytes = [0; NEW_KEY_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Secret::new(&format!("{PREFIX}{}", STANDARD.encode(bytes))))
    }

    /// One entry of the header `webhook-signature`.
    #[must_use]
    pub fn sign(&self, id: &str, at: UnixSeconds, body: &str) -> String {
        let mut mac = self.0.clone();
        for part in [id, ".", &at.0.to_string(), ".", body] {
            mac.update(part.as_bytes());
        }
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_specification() {
        // The example of the official libraries.
        let key = WebhookKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        assert_eq!(
            key.sign(id, UnixSeconds(1_614_265_330), "{\"test\": 2432232314}"),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_secret_is_24_to_64_bytes_in_base64() {
        let secret = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (text, expected) in [
            (secret(23), Some(BadKey::Length)),
            (secret(24), None),
            (secret(64), None),
            (secret(65), Some(BadKey::Length)),
            ("sk_live_1".to_owned(), Some(BadKey::Prefix)),
            ("whsec_é".to_owned(), Some(BadKey::Base64)),
            ("whsec_".to_owned(), Some(BadKey::Length)),
            (format!("{}=", secret(24)), Some(BadKey::Base64)),
        ] {
            assert_eq!(WebhookKey::parse(&text).err(), expected, "{text}");
        }
        let made = WebhookKey::generate().unwrap();
        let key = WebhookKey::parse(made.expose()).unwrap();
        assert_eq!(format!("{key:?}"), "WebhookKey(redacted)");
        assert_ne!(made.expose(), WebhookKey::generate().unwrap().expose());
    }
}
