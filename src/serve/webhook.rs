//! Takes one delivery from its bytes to its answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::base::id::UnixSeconds;
use crate::base::log_line::{ErrorCode, LogFields, LogText, Message};
use crate::config::Counted;
use crate::config::serve::Config;
use crate::host::clock::Now;
use crate::host::logger;
use crate::http::exchange::{Reply, Request};
use crate::http::limiter::{Exceeded, Limiter};
use crate::serve::metrics::Metrics;
use crate::store::writer::{WriteError, Writer};
use crate::truth::delivery::{Delivery, Outcome, Receipt, log_lines};
use crate::truth::event::{Event, EventError, Ignored, Meaning, release};
use crate::truth::fact::{Fact, Object};
use crate::truth::reading::Reading;
use crate::truth::signature::{self, SignatureError, SigningSecret, Verified};

/// Most API versions that are warned of. One account uses far fewer.
const VERSIONS_MAX: usize = 16;

/// Between two warnings of a wrong clock.
const MINUTE: Duration = Duration::from_secs(60);

/// Between two warnings of a proxy that names nobody.
const HOUR: Duration = Duration::from_secs(3600);

/// What answers Stripe.
pub struct Webhook {
    secrets: Vec<SigningSecret>,
    tolerance_seconds: i64,
    reading: Reading,
    api_version: Box<str>,
    counted: Counted,
    limiter: Mutex<Limiter>,
    /// When only requests that fail verification are counted, those of clients without tokens are
    /// verified here, one at a time: a flood of forgeries costs one core at most, and a real event
    /// among them is not refused.
    slow_lane: Mutex<()>,
    versions: Mutex<Vec<Box<str>>>,
    clock_warned: Mutex<Option<Instant>>,
    unnamed_warned: Mutex<Option<Instant>>,
    writer: Arc<Writer>,
    metrics: Arc<Metrics>,
}

/// Why a delivery is not acknowledged. Each one asks Stripe to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refusal {
    /// This client has used up its requests.
    RateLimited(Exceeded),
    /// Nothing proves that Stripe has just sent it.
    Signature(SignatureError),
    /// Stripe sent it, and we cannot read it.
    Event(EventError),
    /// We could not store it.
    NotStored(WriteError),
}

impl Webhook {
    /// Verifies with the secrets of `config` and stores through `writer`.
    #[must_use]
    pub fn new(config: &Config, writer: Arc<Writer>, metrics: Arc<Metrics>) -> Webhook {
        Webhook {
            secrets: config
                .webhook_secrets
                .iter()
                .map(SigningSecret::new)
                .collect(),
            tolerance_seconds: config.tolerance_seconds,
            reading: config.reading.clone(),
            api_version: config.api_version.clone(),
            counted: config.rate_limit_count,
            limiter: Mutex::new(Limiter::new(
                config.rate_limit_max,
                config.rate_limit_exempt.clone(),
            )),
            slow_lane: Mutex::default(),
            versions: Mutex::default(),
            clock_warned: Mutex::default(),
            unnamed_warned: Mutex::default(),
            writer,
            metrics,
        }
    }

    /// Answers a `POST` from Stripe.
    pub(super) fn answer(&self, request: &Request<'_>, now: Now, fields: &mut LogFields) -> Reply {
        match self.handle(request, now, fields) {
            Ok(receipt) => accepted(receipt.outcome),
            Err(refusal) => {
                match &refusal {
                    Refusal::RateLimited(_) => self.metrics.count_rate_limited(),
                    Refusal::Signature(error) => self.metrics.count_refused(error),
                    Refusal::Event(_) | Refusal::NotStored(_) => {}
                }
                refused(&refusal)
            }
        }
    }

    /// The story of a delivery: a client that asks too often is turned away, a request that Stripe did
    /// not sign is refused, what an event tells is stored, and only what is on disk is acknowledged.
    ///
    /// # Errors
    /// [`Refusal`]; then nothing was stored.
    fn handle(
        &self,
        request: &Request<'_>,
        now: Now,
        fields: &mut LogFields,
    ) -> Result<Receipt, Refusal> {
        self.look_at_client(request, now);
        let verified = self.verify(request, now)?;
        let event = Event::parse(&verified, &self.reading).map_err(Refusal::Event)?;
        describe(&event, fields);
        self.look_at_version(&event, fields);
        let delivery = Delivery {
            event,
            sha256: Sha256::digest(verified.bytes()).into(),
            request_id: fields.request_id.clone(),
            received: now.unix,
        };
        let receipt = self.writer.record(delivery).map_err(Refusal::NotStored)?;
        self.tell(&receipt, fields);
        Ok(receipt)
    }

    /// Proves that Stripe signed the body, and counts the request against the rate limit.
    fn verify<'a>(&self, request: &Request<'a>, now: Now) -> Result<Verified<'a>, Refusal> {
        let header = request.header("stripe-signature");
        let check = || {
            let header = header.as_deref();
            signature::verify(
                header,
                request.body,
                &self.secrets,
                now.unix,
                self.tolerance_seconds,
            )
        };
        let take = || lock(&self.limiter).take(request.client, now.instant);
        let verified = match self.counted {
            Counted::All => {
                take().map_err(Refusal::RateLimited)?;
                check().map_err(Refusal::Signature)?
            }
            Counted::Unverified => {
                let is_exhausted = lock(&self.limiter).is_exhausted(request.client, now.instant);
                let _turn = is_exhausted.then(|| lock(&self.slow_lane));
                check().map_err(|error| match take() {
                    Ok(()) => Refusal::Signature(error),
                    Err(exceeded) => Refusal::RateLimited(exceeded),
                })?
            }
        };
        self.metrics.event_verified(now.unix);
        self.look_at_clock(verified.signed_at(), now);
        Ok(verified)
    }

    /// Warns, once a minute, when Stripe's signature is from far in the future by our clock. Such a
    /// delivery is taken all the same; but with a clock that is behind, old replays look new.
    fn look_at_clock(&self, signed_at: UnixSeconds, now: Now) {
        if signed_at.0.saturating_sub(now.unix.0) <= self.tolerance_seconds {
            return;
        }
        warn_once_a(MINUTE, &self.clock_warned, now, Message::ClockBehind);
    }

    /// Warns, once an hour, of a proxy whose clients cannot be told apart: a stranger's forgeries use
    /// up Stripe's rate limit.
    fn look_at_client(&self, request: &Request<'_>, now: Now) {
        if request.client_is_unnamed {
            self.metrics.count_unnamed();
            warn_once_a(HOUR, &self.unnamed_warned, now, Message::ProxyNamesNobody);
        }
    }

    /// Warns, once for each version, of events in the shape of another release.
    fn look_at_version(&self, event: &Event, fields: &LogFields) {
        let Some(version) = &event.api_version else {
            return;
        };
        if release(version) == release(&self.api_version) {
            return;
        }
        let mut seen = lock(&self.versions);
        if seen.len() < VERSIONS_MAX && !seen.contains(version) {
            seen.push(version.clone());
            logger::write(Message::ApiVersionDiffers, fields);
        }
    }

    /// Counts the outcome, and logs what it changed in orders.
    fn tell(&self, receipt: &Receipt, fields: &mut LogFields) {
        self.metrics.count_outcome(receipt.outcome);
        logger::write_all(&log_lines(&receipt.news, fields));
        if let Some(about) = &receipt.about {
            fields.order_id = Some(about.log_text());
            fields.stripe_session_id = about.session.as_ref().map(LogText::from);
        }
    }
}

fn warn_once_a(time: Duration, warned: &Mutex<Option<Instant>>, now: Now, message: Message) {
    let mut warned = lock(warned);
    let is_due = |last: Instant| now.instant.saturating_duration_since(last) >= time;
    if warned.is_none_or(is_due) {
        *warned = Some(now.instant);
        logger::write(message, &LogFields::default());
    }
}

/// The answer to a delivery that is on disk.
fn accepted(outcome: Outcome) -> Reply {
    let message = match outcome {
        Outcome::Applied => Message::WebhookApplied,
        Outcome::Duplicate => Message::WebhookDuplicate,
        Outcome::Parked => Message::WebhookParked,
        Outcome::Ignored(Ignored::Type) => Message::WebhookIgnored,
        Outcome::Ignored(Ignored::NoSale) => Message::NoSaleIgnored,
        Outcome::Ignored(Ignored::OtherShop) => Message::OtherShopIgnored,
        Outcome::Ignored(Ignored::Account) => Message::AccountEventIgnored,
        Outcome::Ignored(Ignored::Mode) => Message::OtherModeIgnored,
        // Otherwise the owner of a misconfigured destination sees green deliveries and no change.
        Outcome::Ignored(Ignored::Thin) => Message::ThinEventIgnored,
    };
    let body = match outcome.reason() {
        Some(reason) => format!(r#"{{"received":true,"outcome":"ignored","reason":"{reason}"}}"#),
        None => format!(r#"{{"received":true,"outcome":"{}"}}"#, outcome.as_str()),
    };
    Reply::json(200, message, body)
}

/// The answer to a delivery that Stripe should send again: the only table of its statuses.
fn refused(refusal: &Refusal) -> Reply {
    let (status, message, code, text) = match refusal {
        Refusal::RateLimited(_) => (
            429,
            Message::RateLimited,
            ErrorCode::RateLimited,
            "Too many requests",
        ),
        Refusal::Signature(error) => (
            400,
            Message::SignatureFailed,
            error.code(),
            "Invalid signature",
        ),
        Refusal::Event(error) => (400, Message::EventUnreadable, error.code(), "Invalid event"),
        Refusal::NotStored(error) => (503, Message::StoreUnavailable, error.code(), "Not stored"),
    };
    let retry_after = match refusal {
        Refusal::RateLimited(exceeded) => Some(exceeded.retry_after_seconds),
        Refusal::NotStored(_) => Some(1),
        Refusal::Signature(_) | Refusal::Event(_) => None,
    };
    Reply {
        message,
        retry_after,
        ..Reply::error(status, code, text)
    }
}

/// Puts the event's own ids into the log line.
fn describe(event: &Event, fields: &mut LogFields) {
    fields.stripe_event_id = Some(LogText::from(&event.id));
    let Meaning::Fact(fact) = &event.meaning else {
        return;
    };
    fields.stripe_session_id = session_of(fact);
    if fact.name_too_long {
        logger::write(Message::OrderIdTooLong, fields);
    }
}

fn session_of(fact: &Fact) -> Option<LogText> {
    match &fact.object {
        Object::Session(_) => Some(LogText::from(&fact.id)),
        Object::Intent(_)
        | Object::Charge(_)
        | Object::Refund(_)
        | Object::Dispute(_)
        | Object::Invoice(_)
        | Object::InvoicePayment
        | Object::Review(_)
        | Object::FraudWarning => fact.session.as_ref().map(LogText::from),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
