//! Deliveries as Stripe sends them, for the benchmarks.

use std::ops::Range;

use paidup::base::secret::Secret;
use paidup::host::clock::Now;
use paidup::truth::signature::SigningSecret;
use sha2::{Digest, Sha256};

/// The endpoint's signing secret.
pub(crate) const SECRET: &str = "whsec_bench0123456789abcdefghijklmnop";

pub(crate) const FIRST_SALE: usize = 1_600_000_000;
pub(crate) const SECONDS_BETWEEN_SALES: usize = 30;

const TEMPLATE: &str =
    include_str!("../../tests/fixtures/events/checkout.session.completed.paid.json");

/// Whole requests of one event each, all different where Stripe's would be.
pub(crate) fn requests(numbers: Range<usize>) -> Vec<Vec<u8>> {
    let secret = SigningSecret::new(&Secret::new(SECRET));
    let now = Now::read().unix;
    let request = |number| {
        let body = event(number);
        let signature = secret.sign(body.as_bytes(), now);
        let length = body.len();
        format!(
            "POST /stripe/webhook HTTP/1.1\r\nHost: shop.example.com\r\n\
             User-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\nAccept: */*; q=0.5\r\n\
             Cache-Control: no-cache\r\nConnection: close\r\n\
             Content-Type: application/json; charset=utf-8\r\n\
             Stripe-Signature: {signature}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    };
    numbers.map(request).collect()
}

/// A paid Checkout Session of a shop that sells a million times a year. As with Stripe's, the ids of
/// event and intent begin with the time, and that of the session is random.
pub(crate) fn event(number: usize) -> String {
    const BASE: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let digits = |bytes: &[u8]| -> String {
        bytes
            .iter()
            .map(|byte| char::from(BASE[usize::from(*byte) % 62]))
            .collect()
    };
    let time = [62 * 62 * 62, 62 * 62, 62, 1].map(|place| (number / 8 / place % 62) as u8);
    let time = format!("3SQ{}KHY7pQ2eZvKY", digits(&time));
    let random = |kind: u8, length: usize| {
        let half = |half: u8| {
            Sha256::new()
                .chain_update([kind, half])
                .chain_update(number.to_le_bytes())
                .finalize()
        };
        digits(&[half(0), half(1)].concat()[..length])
    };
    let made = FIRST_SALE + SECONDS_BETWEEN_SALES * number;
    TEMPLATE
        .replace("1793000095", &(made + 95).to_string())
        .replace("1793000000", &made.to_string())
        .replace(
            "evt_1j0WIj3KHY7pQ2eZvKY9LEnEDln",
            &format!("evt_{time}{}", random(0, 8)),
        )
        .replace(
            "pi_3D93AHdKHY7pQ2eZvKY0MdCCkvP",
            &format!("pi_{time}{}", random(1, 8)),
        )
        .replace(
            "cs_test_a1Vfh9zdScdPorvijC9J111Ffi6NawbFygFa7lRY43gOv62pltuXbkWpAtvp",
            &format!("cs_test_a1{}", random(2, 58)),
        )
        .replace("ord_1001", &format!("ord_{}", 100_000 + number))
}
