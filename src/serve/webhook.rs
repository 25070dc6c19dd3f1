//! Takes one delivery from its bytes to a receipt or a refusal.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::Level;
use sha2::{Digest, Sha256};

use crate::base::id::UnixSeconds;
use crate::base::log_line::{ErrorCode, LogFields, LogText, Message};
use crate::config::Counted;
use crate::config::serve::Config;
use crate::host::clock::Now;
use crate::host::logger;
use crate::http::exchange::{Reply, Request};
use crate::http::limiter::{Exceeded, Limiter};
use crate::http::metrics::Metrics;
use crate::store::writer::{WriteError, Writer};
use crate::truth::delivery::{Delivery, News, Outcome, Receipt};
use crate::truth::event::{Event, EventError, Ignored, Meaning, release};
use crate::truth::fact::{Fact, Object};
use crate::truth::reading::Reading;
use crate::truth::signature::{self, SignatureError, SigningSecret, Verified};

/// API versions warned of. Stripe has far fewer in use for one account; beyond, we are silent.
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
    /// Where clients that are out of tokens are verified, one at a time, when only what fails
    /// verification is counted: a flood of forgeries costs one core at most, and a true event
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
pub enum Refusal {
    /// This client has had its share of requests.
    RateLimited(Exceeded),
    /// It is not proven that Stripe sent this, just now.
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

    /// Answers a `POST` of Stripe's.
    pub fn answer(&self, request: &Request<'_>, now: Now, fields: &mut LogFields) -> Reply {
        match self.handle(request, now, fields) {
            Ok(receipt) => accepted(receipt.outcome),
            Err(refusal) => {
                if let Refusal::RateLimited(_) = refusal {
                    self.metrics.count_rate_limited();
                }
                refused(&refusal)
            }
        }
    }

    /// The story of a webhook: who asks too often is sent away, what Stripe did not sign is
    /// refused, what it tells is stored, and only what is on disk is acknowledged.
    ///
    /// # Errors
    /// [`Refusal`]; then nothing was stored.
    pub fn handle(
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

    /// Proves that Stripe signed the body, and counts the request where it counts.
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

    /// Warns, once a minute, when Stripe signs in what is far in the future here. Such a delivery is
    /// taken all the same; but a clock that is behind also takes replays for new.
    fn look_at_clock(&self, signed_at: UnixSeconds, now: Now) {
        if signed_at.0.saturating_sub(now.unix.0) <= self.tolerance_seconds {
            return;
        }
        warn_once_a(MINUTE, &self.clock_warned, now, Message::ClockBehind);
    }

    /// Warns, once an hour, of a proxy whose clients cannot be told apart: a stranger's forgeries
    /// use up the rate limit of Stripe.
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
            logger::write(Level::Warn, Message::ApiVersionDiffers, fields);
        }
    }

    /// Counts what was done, and logs what it did to orders.
    fn tell(&self, receipt: &Receipt, fields: &mut LogFields) {
        self.metrics.count_outcome(receipt.outcome);
        log_news(&receipt.news, fields);
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
        logger::write(Level::Warn, message, &LogFields::default());
    }
}

/// Logs what was done to orders, each line with the fields of the request beside the order's.
pub fn log_news(news: &[News], fields: &LogFields) {
    let lines: Vec<(Level, Message, LogFields)> = news
        .iter()
        .map(|news| {
            let about = LogFields {
                order_id: Some(news.about.log_text()),
                stripe_session_id: news.about.session.as_ref().map(LogText::from),
                ..fields.clone()
            };
            (news.level, news.message, about)
        })
        .collect();
    let lines: Vec<_> = lines
        .iter()
        .map(|(level, text, about)| (*level, *text, about))
        .collect();
    logger::write_all(&lines);
}

/// The answer to a delivery that is on disk.
fn accepted(outcome: Outcome) -> Reply {
    let (level, message) = match outcome {
        Outcome::Applied => (Level::Info, Message::WebhookApplied),
        Outcome::Duplicate => (Level::Info, Message::WebhookDuplicate),
        Outcome::Parked => (Level::Info, Message::WebhookParked),
        Outcome::Ignored(Ignored::Type) => (Level::Info, Message::WebhookIgnored),
        Outcome::Ignored(Ignored::NoSale) => (Level::Info, Message::NoSaleIgnored),
        Outcome::Ignored(Ignored::OtherShop) => (Level::Info, Message::OtherShopIgnored),
        Outcome::Ignored(Ignored::Account) => (Level::Warn, Message::AccountEventIgnored),
        Outcome::Ignored(Ignored::Mode) => (Level::Warn, Message::OtherModeIgnored),
        // Otherwise the owner of a wrongly made destination sees green deliveries and no change.
        Outcome::Ignored(Ignored::Thin) => (Level::Warn, Message::ThinEventIgnored),
    };
    let body = match outcome.reason() {
        Some(reason) => format!(r#"{{"received":true,"outcome":"ignored","reason":"{reason}"}}"#),
        None => format!(r#"{{"received":true,"outcome":"{}"}}"#, outcome.as_str()),
    };
    Reply {
        level,
        ..Reply::json(200, message, body)
    }
}

/// The answer to a delivery that Stripe is to send again: the only table of its statuses.
fn refused(refusal: &Refusal) -> Reply {
    let (status, level, message, code, text) = match refusal {
        Refusal::RateLimited(_) => (
            429,
            Level::Warn,
            Message::RateLimited,
            ErrorCode::RateLimited,
            "Too many requests",
        ),
        Refusal::Signature(error) => (
            400,
            Level::Warn,
            Message::SignatureFailed,
            error.code(),
            "Invalid signature",
        ),
        Refusal::Event(error) => (
            400,
            Level::Error,
            Message::EventUnreadable,
            error.code(),
            "Invalid event",
        ),
        Refusal::NotStored(error) => (
            503,
            Level::Error,
            Message::StoreUnavailable,
            error.code(),
            "Not stored",
        ),
    };
    let retry_after = match refusal {
        Refusal::RateLimited(exceeded) => Some(exceeded.retry_after_seconds),
        Refusal::NotStored(_) => Some(1),
        Refusal::Signature(_) | Refusal::Event(_) => None,
    };
    Reply {
        level,
        message,
        retry_after,
        ..Reply::error(status, code, text)
    }
}

/// Puts into the log line what the event says of itself.
fn describe(event: &Event, fields: &mut LogFields) {
    fields.stripe_event_id = Some(LogText::from(&event.id));
    let Meaning::Fact(fact) = &event.meaning else {
        return;
    };
    fields.stripe_session_id = session_of(fact);
    if fact.name_too_long {
        logger::write(Level::Warn, Message::OrderIdTooLong, fields);
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
