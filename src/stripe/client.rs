//! Asks Stripe's API. The only place that calls it, and the webhook server never does.
//!
//! What is sent, field for field, is what Stripe's own libraries send for the same call, and so is
//! the rule for trying again (<https://docs.stripe.com/error-low-level>): `Stripe-Should-Retry`
//! decides; without it a conflict, a 5xx and a broken connection are tried again, and a 429 once.
//! Each attempt carries the same idempotency key, so nothing is done twice. All attempts of a call
//! together keep to one deadline.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body, Proxy};

use crate::base::id::{IdempotencyKey, OrderId, RequestId, StripeId, UnixSeconds};
use crate::base::secret::Secret;
use crate::base::time::http_date;
use crate::config::ConfigError;
use crate::config::stripe::StripeConfig;
use crate::config::table::STRIPE_API_PROXY;
use crate::host::clock::Now;
use crate::stripe::error::{Call, Cause, StripeError, Unreachable};
use crate::stripe::fetched::Fetched;
use crate::truth::new_order::{Item, Line};
use crate::truth::reading::{Ours, Place, Reading};

/// One account of Stripe's, with one key. Threads may share it.
pub struct StripeApi {
    agent: Agent,
    authorization: Secret,
    version: Box<str>,
    base: Box<str>,
    timeout: Duration,
    pause: Box<dyn Fn(Duration) + Send + Sync>,
    /// Our clock less Stripe's, at the last answer.
    skew_seconds: Mutex<Option<i64>>,
}

/// The payment page that is to be made for an order.
/// <https://docs.stripe.com/api/checkout/sessions/create>
#[derive(Clone, Debug)]
pub struct NewSession<'a> {
    /// Where events find it again: `client_reference_id` and the metadata of session and payment.
    pub order: &'a OrderId,
    /// What is bought, at least one line.
    pub lines: &'a [Line],
    /// The settings that say where the order's id is looked for, and what marks an order as ours.
    pub reading: &'a Reading,
    /// The shop's own notes; those under a key that carries the order's id are replaced by it.
    pub metadata: &'a [(Box<str>, Box<str>)],
    /// Where the buyer comes after paying.
    pub success_url: &'a str,
    /// Where the buyer comes by going back.
    pub cancel_url: Option<&'a str>,
    /// 30 minutes to 24 hours ahead; Stripe takes 24 hours when there is none.
    pub expires_at: Option<UnixSeconds>,
}

/// The webhook endpoint that is to be made; of the version that the configuration names.
#[derive(Clone, Copy, Debug)]
pub struct NewEndpoint<'a> {
    /// Where Stripe delivers to.
    pub url: &'a str,
    /// The types of the events that it delivers.
    pub enabled_events: &'a [&'a str],
    /// What the Dashboard shows beside the URL.
    pub description: &'a str,
}

/// Which events are asked for: of the last 30 days, newest first.
/// <https://docs.stripe.com/api/events/list>
#[derive(Clone, Debug, Default)]
pub struct EventsQuery<'a> {
    /// At most [`TYPES_MAX`]; none is all.
    pub types: &'a [&'a str],
    /// Made then or later.
    pub created_from: Option<UnixSeconds>,
    /// `false`: only those that some endpoint has not received yet.
    pub delivery_success: Option<bool>,
    /// Only older ones than this event.
    pub starting_after: Option<&'a StripeId>,
}

/// Types that one question for events may name.
pub const TYPES_MAX: usize = 20;

/// Part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// At most 100.
    pub data: Vec<T>,
    /// Whether there are older ones.
    pub has_more: bool,
}

impl StripeApi {
    /// Makes ready to call; nothing is sent yet.
    ///
    /// # Errors
    /// [`ConfigError`] when the address of the proxy cannot be used.
    pub fn new(settings: &StripeConfig) -> Result<StripeApi, ConfigError> {
        StripeApi::pausing_with(settings, Box::new(thread::sleep))
    }

    /// As [`StripeApi::new`]; `pause` is called between two attempts, instead of sleeping.
    ///
    /// # Errors
    /// As [`StripeApi::new`].
    pub fn pausing_with(
        settings: &StripeConfig,
        pause: Box<dyn Fn(Duration) + Send + Sync>,
    ) -> Result<StripeApi, ConfigError> {
        let proxy = settings.proxy.as_ref();
        let proxy = proxy.map(|proxy| Proxy::new(proxy.expose())).transpose();
        let wrong = || {
            STRIPE_API_PROXY
                .variable
                .error("is not the address of a proxy")
        };
        let proxy = proxy.map_err(|_| wrong())?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(settings.base.starts_with("https:"))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .user_agent(concat!("paidup/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(StripeApi {
            agent: Agent::new_with_config(config),
            authorization: Secret::new(&format!("Bearer {}", settings.key.expose())),
            version: settings.version.clone(),
            base: settings.base.clone(),
            timeout: settings.timeout,
            pause,
            skew_seconds: Mutex::new(None),
        })
    }

    /// Makes a payment page, or gives the one that was made with the same key and content.
    ///
    /// # Errors
    /// [`StripeError`]. After [`Cause::Unreachable`], [`Cause::Stripe`] and others that say nothing
    /// of what was done, the same call with the same key is safe for 24 hours.
    pub fn create_session(
        &self,
        session: &NewSession<'_>,
        key: &IdempotencyKey,
    ) -> Result<Fetched, StripeError> {
        let form = session.form();
        let request = StripeRequest {
            call: Call::CreateSession,
            path: Call::CreateSession.path().to_owned(),
            method: Method::Post(&form, key),
        };
        self.one(&request)
    }

    /// Makes a webhook endpoint. Its `secret` is in this answer and in no other, so `key` must be a
    /// new one for each endpoint, and the same for each attempt.
    /// <https://docs.stripe.com/api/webhook_endpoints/create>
    ///
    /// # Errors
    /// [`StripeError`]. After [`Cause::Unreachable`] and others that say nothing of what was done,
    /// there may be an endpoint whose secret nobody has.
    pub fn create_endpoint(
        &self,
        endpoint: &NewEndpoint<'_>,
        key: &IdempotencyKey,
    ) -> Result<Fetched, StripeError> {
        let call = Call::CreateEndpoint;
        let mut form = vec![pair("url", endpoint.url)];
        form.extend(enabled_events(endpoint.enabled_events));
        // It cannot be changed later.
        form.push(pair("api_version", &*self.version));
        form.push(pair("description", endpoint.description));
        self.one(&StripeRequest {
            call,
            path: call.path().to_owned(),
            method: Method::Post(&form, key),
        })
    }

    /// Gives a webhook endpoint this list of events in place of its own, and enables it.
    /// <https://docs.stripe.com/api/webhook_endpoints/update>
    ///
    /// # Errors
    /// [`StripeError`].
    pub fn update_endpoint(
        &self,
        id: &StripeId,
        events: &[&str],
        key: &IdempotencyKey,
    ) -> Result<Fetched, StripeError> {
        let call = Call::UpdateEndpoint;
        let mut form = enabled_events(events);
        form.push(pair("disabled", "false"));
        self.one(&StripeRequest {
            call,
            path: format!("{}/{}", call.path(), id.as_str()),
            method: Method::Post(&form, key),
        })
    }

    /// Deletes a webhook endpoint; one that is not there any more is as good.
    /// <https://docs.stripe.com/api/webhook_endpoints/delete>
    ///
    /// # Errors
    /// [`StripeError`].
    pub fn delete_endpoint(&self, id: &StripeId) -> Result<(), StripeError> {
        let call = Call::DeleteEndpoint;
        let deleted = self.send(&StripeRequest {
            call,
            path: format!("{}/{}", call.path(), id.as_str()),
            method: Method::Delete,
        });
        match deleted {
            Ok(_) => Ok(()),
            // An attempt before this one did it, or somebody else.
            Err(error) if error.cause == Cause::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads the object `id`: `call` says of which kind it is.
    ///
    /// # Errors
    /// [`StripeError`].
    pub fn read(&self, call: Call, id: &StripeId) -> Result<Fetched, StripeError> {
        let path = format!("{}/{}", call.path(), id.as_str());
        self.one(&get(call, path, Vec::new()))
    }

    /// Lists all objects of the kind that `call` lists and that are of the object `of`, which they
    /// have in the field `of.0`.
    ///
    /// # Errors
    /// [`StripeError`]; [`Cause::Unusable`] when the list does not end.
    pub fn list(&self, call: Call, of: (&str, &StripeId)) -> Result<Vec<Fetched>, StripeError> {
        self.all(call, &[pair(of.0, of.1.as_str())])
    }

    /// Lists up to 100 events.
    ///
    /// # Errors
    /// [`StripeError`].
    pub fn events(&self, query: &EventsQuery<'_>) -> Result<Page<Fetched>, StripeError> {
        let path = Call::ListEvents.path().to_owned();
        self.page(&get(Call::ListEvents, path, query.pairs()))
    }

    /// Lists all webhook endpoints of the account in the key's mode: each has a `url` and its
    /// `enabled_events`. <https://docs.stripe.com/api/webhook_endpoints/object>
    ///
    /// # Errors
    /// [`StripeError`]; [`Cause::Unusable`] when the list does not end.
    pub fn webhook_endpoints(&self) -> Result<Vec<Fetched>, StripeError> {
        let call = Call::ListEndpoints;
        let endpoints = self.all(call, &[])?;
        for endpoint in &endpoints {
            let unusable = |field| StripeError::new(call, Cause::Unusable(field));
            endpoint.text("url").ok_or_else(|| unusable("url"))?;
            let events = endpoint.texts("enabled_events");
            events.ok_or_else(|| unusable("enabled_events"))?;
        }
        Ok(endpoints)
    }

    /// By how many seconds our clock was ahead of Stripe's at the last answer; exact to the second
    /// and the time that the answer took. `None` before any answer that had a date.
    #[must_use]
    pub fn skew_seconds(&self) -> Option<i64> {
        *self
            .skew_seconds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for StripeApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StripeApi({})", self.base)
    }
}

/// For name, connection, proxy and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest answer read. A page of 100 events is far below 1 MiB.
const ANSWER_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Retries of one call, as in Stripe's own libraries.
const RETRIES_MAX: u32 = 2;

/// Retries after 429, which Stripe's own libraries do not retry.
const RETRIES_RATE_LIMITED_MAX: u32 = 1;

/// The pause before the first retry; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(500);

/// Items in a page: Stripe's maximum.
const PAGE_ITEMS: &str = "100";

/// Pages read of a list that is read whole: 2,000 refunds of one payment.
const PAGES_MAX: usize = 20;

/// A request, which may be sent several times.
struct StripeRequest<'a> {
    call: Call,
    path: String,
    method: Method<'a>,
}

/// What is done there, and what goes with it.
enum Method<'a> {
    /// With this query.
    Get(Vec<Pair>),
    /// With this form.
    Post(&'a [Pair], &'a IdempotencyKey),
    Delete,
}

type Pair = (String, String);

/// What Stripe makes of a failed attempt: `Stripe-Should-Retry`.
type Advice = Option<bool>;

fn get(call: Call, path: String, query: Vec<Pair>) -> StripeRequest<'static> {
    let method = Method::Get(query);
    StripeRequest { call, path, method }
}

fn enabled_events(events: &[&str]) -> Vec<Pair> {
    let numbered = events.iter().enumerate();
    numbered
        .map(|(index, event)| (format!("enabled_events[{index}]"), (*event).to_owned()))
        .collect()
}

fn pair(name: &str, value: impl Into<String>) -> Pair {
    (name.to_owned(), value.into())
}

impl NewSession<'_> {
    /// As stripe-node writes it.
    fn form(&self) -> Vec<Pair> {
        let order = self.order.as_str();
        let mut form = vec![pair("mode", "payment")];
        for (index, line) in self.lines.iter().enumerate() {
            let mut add = |name: &str, value: String| {
                form.push((format!("line_items[{index}]{name}"), value));
            };
            add("[quantity]", line.quantity.to_string());
            match &line.item {
                Item::Price(price) => add("[price]", price.as_str().to_owned()),
                Item::Named { name, amount } => {
                    add("[price_data][currency]", amount.currency.to_string());
                    add("[price_data][unit_amount]", amount.minor.to_string());
                    add("[price_data][product_data][name]", name.to_string());
                }
            }
        }
        let mut own = vec![("order_id", order)];
        let places = self.reading.names.places().iter();
        let key = places.filter_map(|(_, place)| match place {
            Place::Metadata(key) => Some(&**key),
            Place::Reference => None,
        });
        own.extend(
            key.take(1)
                .filter(|key| *key != "order_id")
                .map(|key| (key, order)),
        );
        own.extend(match &self.reading.ours {
            Some(Ours::Mark(key, value)) => Some((&**key, &**value)),
            Some(Ours::Beginning(_)) | None => None,
        });
        let is_own = |name: &str| own.iter().any(|(known, _)| *known == name);
        for (name, value) in self.metadata.iter().filter(|(name, _)| !is_own(name)) {
            form.push((format!("metadata[{name}]"), value.to_string()));
        }
        for (name, value) in &own {
            form.push((format!("metadata[{name}]"), (*value).to_owned()));
        }
        form.push(pair("client_reference_id", order));
        for (name, value) in &own {
            let name = format!("payment_intent_data[metadata][{name}]");
            form.push((name, (*value).to_owned()));
        }
        form.push(pair("success_url", self.success_url));
        form.extend(self.cancel_url.map(|url| pair("cancel_url", url)));
        form.extend(
            self.expires_at
                .map(|at| pair("expires_at", at.0.to_string())),
        );
        form
    }
}

impl EventsQuery<'_> {
    fn pairs(&self) -> Vec<Pair> {
        let mut pairs = vec![pair("limit", PAGE_ITEMS)];
        for (index, kind) in self.types.iter().enumerate() {
            pairs.push((format!("types[{index}]"), (*kind).to_owned()));
        }
        let from = self.created_from.map(|from| from.0.to_string());
        pairs.extend(from.map(|from| pair("created[gte]", from)));
        let success = self.delivery_success.map(|success| success.to_string());
        pairs.extend(success.map(|success| pair("delivery_success", success)));
        pairs.extend(
            self.starting_after
                .map(|id| pair("starting_after", id.as_str())),
        );
        pairs
    }
}

/// What Stripe answered, and as of when.
struct Answered {
    text: String,
    at: UnixSeconds,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    #[serde(default)]
    has_more: bool,
}

impl StripeApi {
    fn one(&self, request: &StripeRequest<'_>) -> Result<Fetched, StripeError> {
        let told = self.send(request)?;
        let unusable = |field| StripeError::new(request.call, Cause::Unusable(field));
        Fetched::read(&told.text, told.at).map_err(unusable)
    }

    fn page(&self, request: &StripeRequest<'_>) -> Result<Page<Fetched>, StripeError> {
        let unusable = |field| StripeError::new(request.call, Cause::Unusable(field));
        let told = self.send(request)?;
        let list: List<'_> = serde_json::from_str(&told.text).map_err(|_| unusable("data"))?;
        let items = list.data.iter();
        let items = items.map(|item| Fetched::read(item.get(), told.at));
        Ok(Page {
            data: items.collect::<Result<_, _>>().map_err(unusable)?,
            has_more: list.has_more,
        })
    }

    fn all(&self, call: Call, filter: &[Pair]) -> Result<Vec<Fetched>, StripeError> {
        let mut all: Vec<Fetched> = Vec::new();
        for _ in 0..PAGES_MAX {
            let mut query = filter.to_vec();
            query.push(pair("limit", PAGE_ITEMS));
            let last = all
                .last()
                .map(|last| pair("starting_after", last.id.as_str()));
            query.extend(last);
            let page = self.page(&get(call, call.path().to_owned(), query))?;
            all.extend(page.data);
            if !page.has_more {
                return Ok(all);
            }
        }
        Err(StripeError::new(call, Cause::Unusable("has_more")))
    }

    /// Sends `request`, again where that may help, and returns the JSON of the answer.
    fn send(&self, request: &StripeRequest<'_>) -> Result<Answered, StripeError> {
        let deadline = Now::read().instant + self.timeout;
        let mut retries = 0;
        loop {
            let (mut error, advice) = match self.attempt(request, left_until(deadline)) {
                Ok(told) => return Ok(told),
                Err(failed) => failed,
            };
            error.attempts = retries + 1;
            let pause = pause_before_retry(retries);
            if retries >= retries_max(&error, advice) || pause >= left_until(deadline) {
                return Err(error);
            }
            (self.pause)(pause);
            retries += 1;
        }
    }

    fn attempt(
        &self,
        request: &StripeRequest<'_>,
        timeout: Duration,
    ) -> Result<Answered, (StripeError, Advice)> {
        let failed = |cause| (StripeError::new(request.call, cause), None);
        let mut response = self
            .transmit(request, timeout)
            .map_err(|error| failed(cause(&error)))?;
        let at = self.note_time(response.headers());
        let status = response.status().as_u16();
        let advice = advice(response.headers());
        let request_id = header(response.headers(), "request-id");
        let request_id = request_id.and_then(|id| RequestId::parse(id).ok());
        let tell = |error: StripeError| {
            let request_id = request_id.clone();
            let status = Some(status);
            (
                StripeError {
                    status,
                    request_id,
                    ..error
                },
                advice,
            )
        };
        let body = response
            .body_mut()
            .with_config()
            .limit(ANSWER_MAX_BYTES)
            .read_to_vec()
            .map_err(|error| tell(StripeError::new(request.call, cause(&error))))?;
        if !response.status().is_success() {
            return Err(tell(StripeError::answered(request.call, status, &body)));
        }
        let is_json = |text: &String| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        let text = String::from_utf8(body).ok().filter(is_json);
        let text = text.ok_or_else(|| tell(StripeError::new(request.call, Cause::NotJson)))?;
        Ok(Answered { text, at })
    }

    fn transmit(
        &self,
        request: &StripeRequest<'_>,
        timeout: Duration,
    ) -> Result<Response<Body>, ureq::Error> {
        let url = format!("{}{}", self.base, request.path);
        // ureq takes a timeout of zero for one that has passed already, and so do we.
        let timeout = Some(timeout);
        let key = self.authorization.expose();
        match &request.method {
            Method::Get(query) => {
                let query = query.iter().map(|(name, value)| (name, value));
                let get = self.agent.get(url).query_pairs(query);
                get.header("Authorization", key)
                    .header("Stripe-Version", &*self.version)
                    .config()
                    .timeout_global(timeout)
                    .build()
                    .call()
            }
            Method::Post(form, idempotency_key) => {
                let form = form
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()));
                let post = self.agent.post(url);
                post.header("Authorization", key)
                    .header("Stripe-Version", &*self.version)
                    .header("Idempotency-Key", idempotency_key.as_str())
                    .config()
                    .timeout_global(timeout)
                    .build()
                    .send_form(form)
            }
            Method::Delete => self
                .agent
                .delete(url)
                .header("Authorization", key)
                .header("Stripe-Version", &*self.version)
                .config()
                .timeout_global(timeout)
                .build()
                .call(),
        }
    }

    /// When Stripe answered, by its own clock as far as its answers tell.
    fn note_time(&self, headers: &HeaderMap) -> UnixSeconds {
        let ours = Now::read().unix;
        let mut skew = self
            .skew_seconds
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match header(headers, "date").and_then(http_date) {
            Some(theirs) => {
                *skew = Some(ours.0 - theirs.0);
                theirs
            }
            None => UnixSeconds(ours.0.saturating_sub(skew.unwrap_or(0))),
        }
    }
}

fn left_until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Now::read().instant)
}

/// How often a call that failed so may be tried again.
fn retries_max(error: &StripeError, advice: Advice) -> u32 {
    let is_unreachable = matches!(error.cause, Cause::Unreachable(_));
    match (advice, error.status) {
        (Some(true), _) => RETRIES_MAX,
        (Some(false), _) => 0,
        (None, _) if is_unreachable => RETRIES_MAX,
        (None, Some(409 | 500..)) if error.cause != Cause::TooLarge => RETRIES_MAX,
        (None, Some(429)) => RETRIES_RATE_LIMITED_MAX,
        (None, _) => 0,
    }
}

/// Half to all of 0.5 s, doubled with each retry, and never less than 0.5 s: as stripe-node does.
/// Callers that failed together do not come back together.
fn pause_before_retry(retries: u32) -> Duration {
    let longest = PAUSE_FIRST * 2_u32.pow(retries.min(RETRIES_MAX));
    let random = getrandom::u32().unwrap_or(u32::MAX);
    let share = 0.5 * (1.0 + f64::from(random) / f64::from(u32::MAX));
    longest.mul_f64(share).max(PAUSE_FIRST)
}

fn advice(headers: &HeaderMap) -> Advice {
    match header(headers, "stripe-should-retry") {
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) | None => None,
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's list grows; whatever it adds, no whole answer came"
)]
pub(crate) fn cause(error: &ureq::Error) -> Cause {
    use ureq::Error;
    Cause::Unreachable(match error {
        Error::BodyExceedsLimit(_) | Error::LargeResponseHeader(..) => return Cause::TooLarge,
        Error::HostNotFound => Unreachable::Name,
        Error::Timeout(_) => Unreachable::Timeout,
        Error::Tls(_) | Error::Rustls(_) | Error::Pem(_) | Error::TlsRequired => Unreachable::Tls,
        Error::ConnectProxyFailed(_) | Error::InvalidProxyUrl => Unreachable::Proxy,
        Error::Io(error) if is_of_name(error) => Unreachable::Name,
        Error::Io(error) => match error.kind() {
            io::ErrorKind::TimedOut => Unreachable::Timeout,
            io::ErrorKind::ConnectionRefused => Unreachable::Connect,
            // What rustls says of a server that it does not trust.
            io::ErrorKind::InvalidData => Unreachable::Tls,
            _ => Unreachable::Broken,
        },
        _ => Unreachable::Broken,
    })
}

/// The standard library has no kind for it, only a text.
fn is_of_name(error: &io::Error) -> bool {
    error.to_string().starts_with("failed to lookup address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_never_fall_below_half_a_second() {
        for (retries, most) in [(0, 500), (1, 1000), (2, 2000), (9, 2000)] {
            for _ in 0..200 {
                let pause = pause_before_retry(retries);
                let (least, most) = (most / 2, Duration::from_millis(most));
                assert!(pause >= PAUSE_FIRST && pause <= most, "{pause:?}");
                assert!(pause >= Duration::from_millis(least));
            }
        }
    }
}
