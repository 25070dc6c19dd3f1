//! Whether a request comes from the shop's own back end: it knows `API_TOKEN`.

use crate::base::log_line::{ErrorCode, Message};
use crate::host::clock::Now;
use crate::http::exchange::{Reply, Request};
use crate::http::gate::{Gate, Shut};

/// Passes a request with the right token; else the answer to it.
pub(super) fn check(gate: &Gate, request: &Request<'_>, now: Now) -> Result<(), Reply> {
    let given = request.header("authorization");
    let given = given.as_deref().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
    });
    let refusal = match gate.check(given, now) {
        Ok(()) => return Ok(()),
        Err(Shut::Wrong) => Reply::error(
            401,
            ErrorCode::TokenWrong,
            "Authorization: Bearer API_TOKEN is needed",
        ),
        Err(Shut::TooMany(exceeded)) => Reply {
            retry_after: Some(exceeded.retry_after_seconds),
            ..Reply::error(429, ErrorCode::RateLimited, "Too many wrong tokens")
        },
    };
    Err(Reply {
        message: Message::ShopRefused,
        ..refusal
    })
}
