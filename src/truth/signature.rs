//! Decides whether Stripe wrote these bytes, recently.
//!
//! The scheme is <https://docs.stripe.com/webhooks#verify-manually>: `Stripe-Signature:
//! t=<unix seconds>,v1=<64 hex>[,v1=<64 hex>…]`, where each `v1` is the HMAC-SHA256 of `t`, a dot
//! and the raw body, keyed with the whole text of a signing secret, `whsec_` included.
//!
//! Where the official SDKs differ from each other, this is the strict side: everything happens on
//! bytes, `t` has one spelling, and only `v1` counts. What Stripe sends passes in all of them.

use std::fmt;

use hmac::digest::{CtOutput, Output};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::base::id::UnixSeconds;
use crate::base::log_line::ErrorCode;
use crate::base::secret::Secret;

type HmacSha256 = Hmac<Sha256>;

/// A signing secret that is ready for use: its key schedule is computed once, at start.
pub struct SigningSecret(HmacSha256);

impl SigningSecret {
    /// Prepares `secret`, every byte of it.
    ///
    /// # Panics
    /// Never: HMAC takes a key of any length (RFC 2104, section 3).
    #[must_use]
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    pub fn new(secret: &Secret) -> SigningSecret {
        let key = secret.expose().as_bytes();
        SigningSecret(HmacSha256::new_from_slice(key).expect("HMAC takes a key of any length"))
    }

    /// The value of the `Stripe-Signature` header with which Stripe would send `body` at `at`.
    #[must_use]
    pub fn sign(&self, body: &[u8], at: UnixSeconds) -> String {
        let timestamp = at.0.to_string();
        let tag = self.tag(timestamp.as_bytes(), body).into_bytes();
        format!("t={timestamp},v1={}", hex::encode(tag))
    }

    /// The signature of `body` at `timestamp`. Comparing two of these takes constant time.
    fn tag(&self, timestamp: &[u8], body: &[u8]) -> CtOutput<HmacSha256> {
        let keyed = self.0.clone();
        keyed
            .chain_update(timestamp)
            .chain_update(b".")
            .chain_update(body)
            .finalize()
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(redacted)")
    }
}

/// A body that Stripe signed. [`verify`] is its only maker, so whoever takes one cannot be handed
/// unverified bytes by mistake:
///
/// ```compile_fail
/// use paidup::truth::signature::Verified;
/// let forged = Verified { bytes: b"{}" }; // the fields are private
/// ```
#[derive(Clone, Copy)]
pub struct Verified<'a> {
    bytes: &'a [u8],
    signed_at: UnixSeconds,
}

impl<'a> Verified<'a> {
    /// The raw body, exactly as it was signed.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// When it was signed, by Stripe's clock.
    #[must_use]
    pub(crate) fn signed_at(self) -> UnixSeconds {
        self.signed_at
    }
}

impl fmt::Debug for Verified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verified({} bytes)", self.bytes.len())
    }
}

/// Why a delivery is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureError {
    /// There is no `Stripe-Signature` header. Not Stripe, or a proxy that strips headers.
    Missing,
    /// The header has no valid `t`, or no valid `v1` (a `v0` alone is a downgrade).
    /// Stripe sends no such header, so the secret is not the cause.
    Malformed,
    /// No `v1` matches the body under any of our secrets. Usual cause: the secret was rolled in the
    /// Dashboard, or belongs to another endpoint or mode.
    NoMatch,
    /// Stripe signed it, but longer ago than the tolerance. Usual cause: this host's clock, or a
    /// replay. Never a retry: Stripe signs each attempt anew.
    TooOld {
        /// How long ago it was signed, by our clock.
        age_seconds: i64,
    },
}

impl SignatureError {
    /// The code that the log shows.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            SignatureError::Missing => ErrorCode::SignatureMissing,
            SignatureError::Malformed => ErrorCode::SignatureMalformed,
            SignatureError::NoMatch => ErrorCode::SignatureNoMatch,
            SignatureError::TooOld { age_seconds: _ } => ErrorCode::SignatureTooOld,
        }
    }

    /// The same as a word for counters.
    #[must_use]
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            SignatureError::Missing => "no_header",
            SignatureError::Malformed => "malformed_header",
            SignatureError::NoMatch => "no_match",
            SignatureError::TooOld { age_seconds: _ } => "too_old",
        }
    }
}

/// Verifies that one of `secrets` signed `body`, at most `tolerance_seconds` before `now`.
///
/// One HMAC of the body for each secret, however many signatures the header has. A timestamp in
/// the future is accepted, as in all official SDKs. The age is looked at last: a forged header is
/// [`NoMatch`](SignatureError::NoMatch) whatever its date, so that
/// [`TooOld`](SignatureError::TooOld) always means a clock or a replay.
///
/// # Errors
/// [`SignatureError`]; answer each with 400 and say nothing of which it was.
pub fn verify<'a>(
    header: Option<&str>,
    body: &'a [u8],
    secrets: &[SigningSecret],
    now: UnixSeconds,
    tolerance_seconds: i64,
) -> Result<Verified<'a>, SignatureError> {
    let header = header.ok_or(SignatureError::Missing)?;
    let header = Header::parse(header.as_bytes()).ok_or(SignatureError::Malformed)?;
    if !secrets.iter().any(|secret| header.is_from(secret, body)) {
        return Err(SignatureError::NoMatch);
    }
    let age_seconds = now.0.saturating_sub(header.seconds);
    if age_seconds > tolerance_seconds {
        return Err(SignatureError::TooOld { age_seconds });
    }
    Ok(Verified {
        bytes: body,
        signed_at: UnixSeconds(header.seconds),
    })
}

/// The most signatures of a header that are compared. Stripe sends one for each secret that is active
/// during a roll; the bound keeps a stranger's header from growing our memory.
const SIGNATURES_MAX: usize = 32;

/// What a well-formed header says.
struct Header<'a> {
    /// `t` as it was written: these bytes are what is signed.
    timestamp: &'a [u8],
    /// `t` as a number.
    seconds: i64,
    /// Every well-formed `v1`, up to [`SIGNATURES_MAX`].
    signatures: Vec<CtOutput<HmacSha256>>,
}

impl<'a> Header<'a> {
    /// `None` unless there is exactly one `t`, well formed, and at least one well-formed `v1`.
    /// Anything else in the header is skipped: Stripe may add schemes.
    fn parse(header: &'a [u8]) -> Option<Header<'a>> {
        let mut timestamp = None;
        let mut signatures = Vec::new();
        for item in header.split(|&byte| byte == b',') {
            let item = item.trim_ascii();
            if let Some(value) = item.strip_prefix(b"t=") {
                // Which of two would be meant? The SDKs disagree, and Stripe never sends two.
                if timestamp.replace(value).is_some() {
                    return None;
                }
            } else if let Some(value) = item.strip_prefix(b"v1=")
                && signatures.len() < SIGNATURES_MAX
            {
                signatures.extend(signature(value));
            }
        }
        let timestamp = timestamp?;
        let seconds = seconds(timestamp)?;
        (!signatures.is_empty()).then_some(Header {
            timestamp,
            seconds,
            signatures,
        })
    }

    fn is_from(&self, secret: &SigningSecret, body: &[u8]) -> bool {
        let tag = secret.tag(self.timestamp, body);
        self.signatures.contains(&tag) // `==` of a `CtOutput` takes constant time
    }
}

/// 32 bytes out of exactly 64 hex digits.
fn signature(hex_digits: &[u8]) -> Option<CtOutput<HmacSha256>> {
    let mut bytes = Output::<HmacSha256>::default();
    hex::decode_to_slice(hex_digits, &mut bytes).ok()?;
    Some(bytes.into())
}

/// 1 to 12 digits without a leading zero: the year 33658 at the latest, and no overflow.
fn seconds(timestamp: &[u8]) -> Option<i64> {
    let digits = (1..=12).contains(&timestamp.len()) && timestamp.iter().all(u8::is_ascii_digit);
    if !digits || timestamp.starts_with(b"0") {
        return None;
    }
    std::str::from_utf8(timestamp).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_793_000_000);
    const BODY: &[u8] = br#"{"id":"evt_1"}"#;

    fn secret(text: &str) -> SigningSecret {
        SigningSecret::new(&Secret::new(text))
    }

    /// The `v1` of `signed`, computed the long way round.
    fn v1_of(key: &str, signed: &[u8]) -> String {
        let mac = <HmacSha256 as KeyInit>::new_from_slice(key.as_bytes()).unwrap();
        hex::encode(mac.chain_update(signed).finalize().into_bytes())
    }

    /// The `v1` with which Stripe would sign [`BODY`] at a `t` written like that.
    fn v1_at(timestamp: &str) -> String {
        v1_of("whsec_1", &[timestamp.as_bytes(), b".", BODY].concat())
    }

    fn judged(header: &str) -> Result<(), SignatureError> {
        judged_at(header, NOW)
    }

    fn judged_at(header: &str, now: UnixSeconds) -> Result<(), SignatureError> {
        verify(Some(header), BODY, &[secret("whsec_1")], now, 300).map(|verified| {
            assert_eq!(verified.bytes(), BODY);
        })
    }

    #[test]
    fn the_public_vectors_hold() {
        let text = include_str!("../../tests/fixtures/signature_vectors.json");
        let document: Value = serde_json::from_str(text).unwrap();
        let vectors = document["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 10);
        for vector in vectors {
            let result = verify(
                vector["header"].as_str(),
                vector["body"].as_str().unwrap().as_bytes(),
                &[secret(vector["secret"].as_str().unwrap())],
                UnixSeconds(vector["now"].as_i64().unwrap()),
                vector["tolerance"].as_i64().unwrap(),
            );
            let expected = match vector["reason"].as_str() {
                None => Ok(()),
                Some("no_header") => Err(SignatureError::Missing),
                Some("bad_header" | "no_v1") => Err(SignatureError::Malformed),
                Some("no_match") => Err(SignatureError::NoMatch),
                Some("too_old") => Err(SignatureError::TooOld { age_seconds: 301 }),
                Some(other) => panic!("{other}"),
            };
            assert_eq!(result.map(|_| ()), expected, "{}", vector["name"]);
            for verdict in [&vector["expect"], &vector["recommend"]] {
                assert_eq!(verdict == "accept", expected.is_ok(), "{}", vector["name"]);
            }
        }
    }

    #[test]
    fn what_we_sign_we_accept() {
        let header = secret("whsec_1").sign(BODY, NOW);
        assert_eq!(header, format!("t=1793000000,v1={}", v1_at("1793000000")));
        assert_eq!(judged(&header), Ok(()));
        assert_eq!(
            judged(&secret("whsec_2").sign(BODY, NOW)),
            Err(SignatureError::NoMatch)
        );
    }

    #[test]
    fn a_key_longer_than_a_block_is_hashed_first() {
        let tag = v1_of(
            &"a".repeat(131),
            b"Test Using Larger Than Block-Size Key - Hash Key First",
        );
        // As case 6 of RFC 4231, but with a key that is text; the value is OpenSSL's.
        assert_eq!(
            tag,
            "d021303c2f34bf3ae541b4ec9c672691694c6f71c5c0c55781545a66115b14a7"
        );
        let long = "a".repeat(131);
        let header = secret(&long).sign(BODY, NOW);
        assert!(verify(Some(&header), BODY, &[secret(&long)], NOW, 300).is_ok());
    }

    #[test]
    fn a_timestamp_has_one_spelling() {
        for refused in [
            "NaN",
            "9223372036854775807",
            "9223372036854775808",
            "99999999999999999999999999",
            "01793000000",
            "0",
            "+1793000000",
            "-1793000000",
            "1793000000000",
            "1793000000abc",
            "1793000000.0",
            "1_793_000_000",
            " 1793000000",
            "\t1793000000",
            "1793000000=",
            "0x6ADF1340",
            "1e9",
            "１７９３０００００",
            "",
        ] {
            let header = format!("t={refused},v1={}", v1_at(refused));
            assert_eq!(judged(&header), Err(SignatureError::Malformed), "{header}");
        }
    }

    #[test]
    fn a_second_timestamp_is_refused_equal_or_not() {
        for (first, second) in [
            ("1793000000", "1793000000"),
            ("1793000000", "1793000001"),
            ("1793000001", "1793000000"),
            ("1793000000", ""),
            ("junk", "1793000000"),
        ] {
            for signed in [first, second] {
                let header = format!("t={first},t={second},v1={}", v1_at(signed));
                assert_eq!(judged(&header), Err(SignatureError::Malformed), "{header}");
            }
        }
    }

    #[test]
    fn harmless_company_of_a_good_signature_is_skipped() {
        let v1 = v1_at("1793000000");
        let upper = v1.to_uppercase();
        for accepted in [
            format!("t=1793000000,v1={v1}"),
            format!("v1={v1},t=1793000000"),
            format!("t=1793000000,v1={upper}"),
            format!("t=1793000000,v1={v1},"),
            format!(",,t=1793000000,,v1={v1}"),
            format!("t=1793000000, v1={v1}"),
            format!(" t=1793000000 ,\tv1={v1} "),
            format!("t=1793000000,junk,v1={v1}"),
            format!("t=1793000000,t,v1={v1}"),
            format!("t=1793000000,v1,v1={v1}"),
            format!("t=1793000000,v1=,v1={v1}"),
            format!("t=1793000000,v1=é,v1={v1}"),
            format!("t=1793000000,v1={v1},v1="),
            format!("t=1793000000,v1={v1},v0={v1},v2=x,=,=x"),
            format!("t=1793000000,v1={v1},v1={}", "0".repeat(64)),
        ] {
            assert_eq!(judged(&accepted), Ok(()), "{accepted}");
        }
    }

    #[test]
    fn what_is_not_a_v1_of_64_hex_digits_is_no_signature() {
        let v1 = v1_at("1793000000");
        for refused in [
            String::new(),
            "t=1793000000".to_owned(),
            format!("v1={v1}"),
            format!("t=1793000000,v0={v1}"),
            format!("t=1793000000,v10={v1}"),
            format!("t=1793000000,V1={v1}"),
            format!("t=1793000000,v1={v1}=junk"),
            format!("t=1793000000,v1={v1}0"),
            format!("t=1793000000,v1={}", &v1[..62]),
            format!("t=1793000000,v1=0x{}", &v1[2..]),
            format!("t=1793000000,v1= {v1}"),
            format!("t=1793000000;v1={v1}"),
            "t=1793000000,v1=".to_owned(),
            "t=1793000000,v1".to_owned(),
            format!("t=1793000000,v1={}", "é".repeat(32)),
            format!("t=1793000000,v1={}", "é".repeat(64)),
            format!("t=1793000000,v1=\0{}", &v1[1..]),
        ] {
            assert_eq!(
                judged(&refused),
                Err(SignatureError::Malformed),
                "{refused}"
            );
        }
    }

    #[test]
    fn only_too_old_is_refused_never_the_future() {
        let header = secret("whsec_1").sign(BODY, NOW);
        for (later, expected) in [
            (0, Ok(())),
            (300, Ok(())),
            (301, Err(SignatureError::TooOld { age_seconds: 301 })),
            (-1, Ok(())),
            (-1_793_000_000, Ok(())),
        ] {
            let now = UnixSeconds(NOW.0 + later);
            assert_eq!(judged_at(&header, now), expected, "{later}");
        }
    }

    #[test]
    fn no_clock_and_no_timestamp_overflows() {
        for timestamp in ["1", "999999999999"] {
            let header = format!("t={timestamp},v1={}", v1_at(timestamp));
            for now in [i64::MIN, 0, i64::MAX] {
                let result = judged_at(&header, UnixSeconds(now));
                assert_eq!(result.is_ok(), now <= 0, "{timestamp} {now}");
            }
        }
    }

    #[test]
    fn a_forged_stale_header_is_no_match() {
        let header = format!("t=1,v1={}", "0".repeat(64));
        assert_eq!(judged(&header), Err(SignatureError::NoMatch));
        let genuine = format!("t=1,v1={}", v1_at("1"));
        let age_seconds = NOW.0 - 1;
        assert_eq!(
            judged(&genuine),
            Err(SignatureError::TooOld { age_seconds })
        );
    }

    #[test]
    fn any_signature_may_match_any_secret_in_any_place() {
        let both = [secret("whsec_old"), secret("whsec_1")];
        let v1 = v1_at("1793000000");
        let other = "ab".repeat(32);
        for header in [
            format!("t=1793000000,v1={v1},v1={other}"),
            format!("t=1793000000,v1={other},v1={v1}"),
        ] {
            assert!(verify(Some(&header), BODY, &both, NOW, 300).is_ok());
            assert!(verify(Some(&header), BODY, &both[1..], NOW, 300).is_ok());
            let old = verify(Some(&header), BODY, &both[..1], NOW, 300);
            assert!(matches!(old, Err(SignatureError::NoMatch)));
            let none = verify(Some(&header), BODY, &[], NOW, 300);
            assert!(matches!(none, Err(SignatureError::NoMatch)));
        }
    }

    #[test]
    fn the_number_of_signatures_looked_at_is_bounded() {
        let v1 = v1_at("1793000000");
        let decoys = format!(",v1={}", "0".repeat(64));
        let header = |before: usize| format!("t=1793000000{},v1={v1}", decoys.repeat(before));
        assert_eq!(judged(&header(SIGNATURES_MAX - 1)), Ok(()));
        assert_eq!(
            judged(&header(SIGNATURES_MAX)),
            Err(SignatureError::NoMatch)
        );
        let junk = ",v1=junk".repeat(SIGNATURES_MAX);
        let after_junk = format!("t=1793000000{junk},v1={v1}");
        assert_eq!(judged(&after_junk), Ok(()), "only well-formed ones count");
    }

    #[test]
    fn the_raw_bytes_are_signed_and_no_text_made_of_them() {
        let secrets = [secret("whsec_1")];
        let raw: [&[u8]; 4] = [b"", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"{}\r\n\0"];
        for body in raw {
            let header = secrets[0].sign(body, NOW);
            let verified = verify(Some(&header), body, &secrets, NOW, 300).unwrap();
            assert_eq!(verified.bytes(), body);
        }
        for (sent, signed) in [
            (&b"\xff{}"[..], "\u{fffd}{}".as_bytes()),
            (b"\xef\xbb\xbf{}", b"{}"),
            (b"{}\n", b"{}"),
        ] {
            let header = secrets[0].sign(signed, NOW);
            let result = verify(Some(&header), sent, &secrets, NOW, 300);
            assert!(matches!(result, Err(SignatureError::NoMatch)));
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let secret = secret("whsec_1");
        let header = secret.sign(BODY, NOW);
        let secrets = [secret];
        let verified = verify(Some(&header), BODY, &secrets, NOW, 300);
        let printed = format!("{secrets:?} {verified:?}");
        assert_eq!(printed, "[SigningSecret(redacted)] Ok(Verified(14 bytes))");
    }
}
