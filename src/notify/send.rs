//! Sends one message and says what came of it.

use std::fmt;
use std::io::Read;

use ureq::Agent;

use super::course::{Reaction, Why};
use super::message::Notice;
use crate::base::id::UnixSeconds;
use crate::base::secret::Secret;
use crate::base::time::http_date;
use crate::base::webhook_key::WebhookKey;
use crate::config::notify::NotifyConfig;
use crate::stripe::client;
use crate::stripe::error::{Cause, Unreachable};

/// Most that is read of an answer, and only so that its connection can be used again.
const ANSWER_MAX_BYTES: u64 = 4 * 1024;
/// How long what follows an answer's head is waited for: the head has said all that counts.
const BODY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// How long a connection is kept for the next message: receivers close those that idle for longer.
const IDLE_MAX: std::time::Duration = std::time::Duration::from_secs(1);

/// The way to a destination. No redirect is followed: what it is told is for it alone.
pub(crate) struct Sender {
    agent: Agent,
    /// It may hold a password.
    url: Secret,
    keys: Vec<WebhookKey>,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl Sender {
    /// Nothing is sent yet.
    pub(crate) fn new(config: &NotifyConfig) -> Sender {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(config.url.expose().starts_with("https:"))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_global(Some(config.timeout))
            .timeout_recv_body(Some(BODY_TIMEOUT))
            .max_idle_age(IDLE_MAX)
            .user_agent(concat!("paidup/", env!("CARGO_PKG_VERSION")))
            .build();
        Sender {
            agent: Agent::new_with_config(agent),
            url: Secret::new(config.url.expose()),
            keys: config.keys.clone(),
        }
    }

    /// Sends `message`, signed at `now`.
    pub(crate) fn send(&self, message: &Notice, now: UnixSeconds) -> Reaction {
        let answer = self
            .agent
            .post(self.url.expose())
            .header("Content-Type", "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", now.0.to_string())
            .header("webhook-signature", message.signatures(&self.keys, now))
            .send(message.body.as_bytes());
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Reaction::Down(why(&error), None),
        };
        let retry_after = answer.headers().get("retry-after");
        let retry_after = retry_after.and_then(|value| seconds(value.to_str().ok()?, now));
        let status = answer.status().as_u16();
        // One that is longer is left, and its connection with it.
        if answer
            .body()
            .content_length()
            .is_none_or(|bytes| bytes <= ANSWER_MAX_BYTES)
        {
            let mut body = answer.body_mut().as_reader().take(ANSWER_MAX_BYTES);
            let _ = std::io::copy(&mut body, &mut std::io::sink());
        }
        Reaction::of(status, retry_after)
    }
}

/// `Retry-After`: seconds, or a date.
fn seconds(text: &str, now: UnixSeconds) -> Option<i64> {
    let date = || Some(http_date(text)?.0.saturating_sub(now.0));
    text.parse().ok().or_else(date)
}

fn why(error: &ureq::Error) -> Why {
    match client::cause(error) {
        Cause::Unreachable(Unreachable::Name) => Why::Name,
        Cause::Unreachable(Unreachable::Connect) => Why::Connect,
        Cause::Unreachable(Unreachable::Timeout) => Why::Timeout,
        Cause::Unreachable(Unreachable::Tls) => Why::Tls,
        Cause::Unreachable(Unreachable::Proxy | Unreachable::Broken)
        | Cause::Key
        | Cause::Permission(_)
        | Cause::NotFound
        | Cause::Conflict
        | Cause::KeyReused
        | Cause::Refused
        | Cause::RateLimited
        | Cause::Stripe
        | Cause::Redirected
        | Cause::NotJson
        | Cause::Unusable(_)
        | Cause::TooLarge => Why::Broken,
    }
}
