//! `paidup api`: orders over HTTP, for the shop's own back end on this machine.
//!
//! A process of its own, and the only one that runs for long and holds the key to the Stripe account.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use log::Level;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::base::id::{IdempotencyKey, OrderId, RequestId, StripeId, UnixSeconds};
use crate::base::log_line::{ErrorCode, LogFields, LogText, Message};
use crate::base::secret::Secret;
use crate::base::time;
use crate::command::reconcile;
use crate::command::show;
use crate::config::api::ApiConfig;
use crate::host::clock::{Now, unix_millis};
use crate::host::logger;
use crate::host::systemd::Systemd;
use crate::http::edge::{Edge, Limits};
use crate::http::exchange::{App, Body, Http, Reply, Request};
use crate::http::limiter::Limiter;
use crate::http::metrics::Metrics;
use crate::serve::process::{self, StartError, Stop};
use crate::serve::webhook;
use crate::store::{Ask, Asked, Checkout, Store, StoreError, StoredOrder};
use crate::stripe::client::{Fetched, NewSession, StripeApi};
use crate::stripe::error::{Call, Cause, StripeError, Unreachable, Word};
use crate::truth::event::Meaning;
use crate::truth::names::{Belongs, MADE_HERE};
use crate::truth::new_order::{FieldError, NewOrder};
use crate::truth::order::Status;
use crate::truth::reading::Reading;

/// Requests served at the same time.
const WORKERS: usize = 16;
/// Of these, how many may wait for Stripe: the others go on answering when Stripe does not.
const CALLS_MAX: usize = 12;
/// Largest request body: 100 lines with long names and all notes are a quarter of it.
const BODY_MAX_BYTES: usize = 256 * 1024;
/// For a request to come in.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Wrong tokens a minute before 429, whoever sends them: all are on this machine, where an address is
/// chosen freely. A right one is never counted.
const FAILURES_MAX: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
/// The one client that wrong tokens are counted for.
const EVERYBODY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Longest `Idempotency-Key`, in bytes.
const KEY_MAX_BYTES: usize = 255;
/// How long a page lasts that the order sets no end to. Within Stripe's 24 hours even if our clock
/// is not Stripe's.
const PAGE_SECONDS: i64 = 23 * 3600;
/// Orders in an answer.
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 100;

/// Serves until SIGTERM or SIGINT, and tells why it stopped. `tell` gets one line for people.
///
/// # Errors
/// [`StartError`] when it cannot start.
pub fn run(
    mut config: ApiConfig,
    systemd: Systemd,
    tell: &dyn Fn(&str),
) -> Result<Stop, StartError> {
    let manager = systemd.into_manager();
    let (stop, stops) = mpsc::channel();
    process::stop_on_signals(stop.clone()).map_err(StartError::System)?;
    process::stop_without_log(&manager, stop.clone());
    let store = Store::open_existing(&config.database).map_err(StartError::Store)?;
    let file = store.mode().map_err(StartError::Store)?;
    drop(store);
    config.stripe = config
        .stripe
        .for_database(file)
        .map_err(StartError::Configuration)?;
    let listener = process::listen("API_ADDR", &config.listen, config.socket_group)?;
    let bound = process::local_address(&listener);
    let shown = bound.map_or_else(|| config.listen.to_string(), |bound| bound.to_string());
    let metrics = Arc::new(Metrics::new());
    let api = Api::new(config, Arc::clone(&metrics), stop)?;
    // Whoever is on this machine may choose the request id: it is the shop's own back end.
    let loopback = ["127.0.0.0/8", "::1/128"].map(|net| net.parse().ok());
    let trusted = loopback.into_iter().flatten().collect();
    let http = Http::new(Arc::new(api), metrics, trusted).map_err(StartError::System)?;
    let limits = Limits {
        connections: NonZeroUsize::MIN.saturating_add(WORKERS - 1),
        request_timeout: REQUEST_TIMEOUT,
        body_max_bytes: BODY_MAX_BYTES,
    };
    let edge = Edge::start(listener, limits, Arc::new(http)).map_err(StartError::System)?;
    logger::write(Level::Info, Message::Ready, &LogFields::default());
    tell(&format!(
        "paidup {} answers the shop on {shown}",
        env!("CARGO_PKG_VERSION")
    ));
    manager.ready("Answering the shop");
    let why = stops.recv().unwrap_or(Stop::Asked);
    manager.stopping("Serving what was accepted");
    logger::write(Level::Info, Message::Stopping, &LogFields::default());
    edge.stop();
    logger::write(Level::Info, Message::Stopped, &LogFields::default());
    Ok(why)
}

/// A token that nobody guesses: 256 random bits in hexadecimal.
///
/// # Errors
/// The operating system has no random numbers for us.
pub fn generate_token() -> io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// `POST /orders`, `GET /orders`, `GET /orders/{id}`, and the health and metrics of this process.
struct Api {
    database: PathBuf,
    stripe: StripeApi,
    reading: Reading,
    success_url: Option<Box<str>>,
    cancel_url: Option<Box<str>>,
    token: Token,
    failures: Mutex<Limiter>,
    /// Requests that wait for Stripe.
    calls: AtomicUsize,
    metrics: Arc<Metrics>,
    /// A sender, because a failed sync ends the process: what is on disk is not known.
    stop: Mutex<Sender<Stop>>,
}

impl App for Api {
    fn answer(&self, request: &Request<'_>, now: Now, fields: &mut LogFields) -> Reply {
        if !request.is_for_this_machine() {
            return Reply::not_this_machine();
        }
        match request.path {
            "/healthz" | "/metrics" if !request.is_get() => Reply::method_not_allowed("GET, HEAD"),
            "/healthz" => Reply::healthy(),
            "/metrics" => Reply {
                body: Body::Metrics(self.metrics.render(None)),
                ..Reply::healthy()
            },
            path if path == "/orders" || path.starts_with("/orders/") => self
                .authorize(request, now)
                .and_then(|()| self.orders(request, now, fields))
                .unwrap_or_else(|refusal| refusal),
            _ => Reply::not_found(),
        }
    }
}

impl Api {
    fn new(
        config: ApiConfig,
        metrics: Arc<Metrics>,
        stop: Sender<Stop>,
    ) -> Result<Api, StartError> {
        let stripe = StripeApi::new(&config.stripe).map_err(StartError::Configuration)?;
        Ok(Api {
            database: config.database,
            stripe,
            reading: config.stripe.reading,
            success_url: config.success_url,
            cancel_url: config.cancel_url,
            token: Token::new(&config.token).map_err(StartError::System)?,
            failures: Mutex::new(Limiter::new(FAILURES_MAX, Vec::new())),
            calls: AtomicUsize::new(0),
            metrics,
            stop: Mutex::new(stop),
        })
    }

    fn authorize(&self, request: &Request<'_>, now: Now) -> Result<(), Reply> {
        let given = request.header("authorization");
        let given = given.as_deref().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then_some(token.trim())
        });
        if given.is_some_and(|given| self.token.is(given)) {
            return Ok(());
        }
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        Err(match failures.take(EVERYBODY, now.instant) {
            Ok(()) => Reply {
                level: Level::Warn,
                ..Reply::error(
                    401,
                    ErrorCode::TokenWrong,
                    "Authorization: Bearer API_TOKEN is needed",
                )
            },
            Err(exceeded) => Reply {
                level: Level::Warn,
                retry_after: Some(exceeded.retry_after_seconds),
                ..Reply::error(429, ErrorCode::RateLimited, "Too many wrong tokens")
            },
        })
    }

    fn orders(
        &self,
        request: &Request<'_>,
        now: Now,
        fields: &mut LogFields,
    ) -> Result<Reply, Reply> {
        let id = request.path.strip_prefix("/orders/");
        let mut pairs = request.query.unwrap_or_default().split('&');
        let has_reference = pairs.any(|pair| pair.starts_with("reference="));
        match (id, request.method) {
            (None, "POST") => self.make(request, now, fields),
            (None, "GET" | "HEAD") if has_reference => self.list_for(request, fields),
            (None, "GET" | "HEAD") => self.list(request, now, fields),
            (None, _) => Err(Reply::method_not_allowed("GET, HEAD, POST")),
            (Some(id), "GET" | "HEAD") => self.show(id, request, now, fields),
            (Some(_), _) => Err(Reply::method_not_allowed("GET, HEAD")),
        }
    }

    /// The story of `POST /orders`: what is wanted is written, then Stripe is asked for a page, what
    /// Stripe answers is written, and then the shop is told. Wherever that is cut off, the same
    /// request goes on from there.
    fn make(
        &self,
        request: &Request<'_>,
        now: Now,
        fields: &mut LogFields,
    ) -> Result<Reply, Reply> {
        let wanted = NewOrder::parse(request.body).map_err(|errors| invalid(&errors, fields))?;
        let success_url = wanted.success_url.as_ref().or(self.success_url.as_ref());
        let Some(success_url) = success_url else {
            return Err(invalid(&[no_success_url()], fields));
        };
        let order = match &wanted.order {
            Some(order) => order.clone(),
            None => new_order_id().map_err(|_| failed(500, ErrorCode::InternalError))?,
        };
        fields.order_id = Some(LogText::order(&order));
        let key = key_of(request, &order).map_err(|error| invalid(&[error], fields))?;
        let mut store = self.store()?;
        let ask = Ask {
            key: &key,
            order: &order,
            is_named: wanted.order.is_some(),
            sha256: digest(&wanted),
            expires_at: wanted
                .expires_at
                .unwrap_or(UnixSeconds(now.unix.0 + PAGE_SECONDS)),
            request_id: fields.request_id.clone(),
            now: now.unix,
        };
        let checkout = match self.stored(store.ask(&ask))? {
            Asked::New(checkout) => {
                if let Err(error) = wanted.check_expiry(now.unix) {
                    self.stored(store.refused(&key))?;
                    return Err(invalid(&[error], fields));
                }
                checkout
            }
            Asked::Known(checkout) => checkout,
            Asked::KeyReused => {
                return Err(conflict(
                    ErrorCode::IdempotencyKeyReused,
                    "This Idempotency-Key was used for another order",
                ));
            }
            Asked::OrderExists => {
                return Err(conflict(
                    ErrorCode::OrderExists,
                    "This order has a Checkout Session already: GET /orders/{id}?refresh=1 asks Stripe what became of it",
                ));
            }
        };
        fields.order_id = Some(LogText::order(&checkout.order));
        if checkout.session.is_some() {
            return self.made(200, &store, &checkout, fields);
        }

        let mut metadata = wanted.metadata.clone();
        metadata.push((MADE_HERE.into(), checkout.attempt.to_string().into()));
        let session = NewSession {
            order: &checkout.order,
            lines: &wanted.lines,
            reading: &self.reading,
            metadata: &metadata,
            success_url,
            cancel_url: wanted.cancel_url.as_deref().or(self.cancel_url.as_deref()),
            expires_at: Some(checkout.expires_at),
        };
        let (session, url) = self
            .create_session(&session, checkout.attempt)
            .map_err(|error| {
                self.without_session(error, &mut store, &key, checkout.attempt, fields)
            })?;
        self.record(&mut store, &session, now, fields)?;
        let expires_at = session.whole("expires_at").map(UnixSeconds);
        let expires_at = expires_at.unwrap_or(checkout.expires_at);
        let checkout = self.stored(store.answered(&key, &session.id, &url, expires_at))?;
        self.made(201, &store, &checkout, fields)
    }

    fn create_session(
        &self,
        session: &NewSession<'_>,
        attempt: i64,
    ) -> Result<(Fetched, Box<str>), NoSession> {
        let _call = self.call().ok_or(NoSession::Busy)?;
        let key = IdempotencyKey::of_attempt(session.order, attempt);
        let session = self
            .stripe
            .create_session(session, &key)
            .map_err(NoSession::Stripe)?;
        let unusable = || StripeError::new(Call::CreateSession, Cause::Unusable("url"));
        let url = session.text("url").map(Into::into);
        let url = url.ok_or_else(|| NoSession::Stripe(unusable()))?;
        Ok((session, url))
    }

    /// What the shop is told, and what is remembered for when it asks again.
    fn without_session(
        &self,
        error: NoSession,
        store: &mut Store,
        key: &str,
        attempt: i64,
        fields: &LogFields,
    ) -> Reply {
        let error = match error {
            NoSession::Busy => {
                return Reply {
                    retry_after: Some(1),
                    ..failed(503, ErrorCode::StripeBusy)
                };
            }
            NoSession::Stripe(error) => error,
        };
        let remembered = match error.cause {
            Cause::Refused | Cause::NotFound => store.refused(key),
            Cause::Stripe | Cause::KeyReused => store.failed(key, attempt),
            // Nothing was done, or it is not known what was: the same call answers that.
            Cause::Key
            | Cause::Permission(_)
            | Cause::Conflict
            | Cause::RateLimited
            | Cause::Unreachable(_)
            | Cause::Redirected
            | Cause::NotJson
            | Cause::Unusable(_)
            | Cause::TooLarge => Ok(()),
        };
        match remembered {
            Ok(()) => of_stripe(&error, fields),
            Err(error) => self.not_stored(error),
        }
    }

    /// What Stripe answered goes the way of what Stripe delivers.
    fn record(
        &self,
        store: &mut Store,
        session: &Fetched,
        now: Now,
        fields: &LogFields,
    ) -> Result<(), Reply> {
        let Some(mut delivery) = reconcile::fetched(session, now.unix, &self.reading) else {
            return Ok(());
        };
        // What was made here is ours, whatever OUR_ORDERS looks at.
        if let Meaning::Fact(fact) = &mut delivery.event.meaning {
            fact.belongs = fact.belongs.map(|_| Belongs::Ours);
        }
        for receipt in self.stored(store.record(&[delivery]))? {
            webhook::log_news(&self.stored(receipt)?.news, fields);
        }
        Ok(())
    }

    fn made(
        &self,
        status: u16,
        store: &Store,
        checkout: &Checkout,
        fields: &mut LogFields,
    ) -> Result<Reply, Reply> {
        let order = self.stored(store.order(checkout.order.as_str()))?;
        let (session, url) = match &checkout.session {
            Some((session, url)) => (Some(session), Some(url)),
            None => (None, None),
        };
        fields.stripe_session_id = session.map(LogText::from);
        let body = json!({
            "orderId": checkout.order.as_str(),
            "status": order.map_or(Status::Pending, |order| order.state.status),
            "stripeSessionId": session.map(StripeId::as_str),
            "checkoutUrl": url,
            "expiresAt": time::rfc3339(checkout.expires_at),
        });
        let message = match status {
            201 => Message::CheckoutMade,
            _ => Message::RequestServed,
        };
        Ok(Reply::json(status, message, body.to_string()))
    }

    fn show(
        &self,
        id: &str,
        request: &Request<'_>,
        now: Now,
        fields: &mut LogFields,
    ) -> Result<Reply, Reply> {
        let query =
            Query::parse(request, &["refresh"]).map_err(|error| invalid(&[error], fields))?;
        let name = decoded(id).ok_or_else(Reply::not_found)?;
        let mut store = self.store()?;
        let find = |store: &Store| {
            self.stored(store.order(&name))?
                .ok_or_else(Reply::not_found)
        };
        let mut order = find(&store)?;
        let mut is_stale = false;
        if let Some("1" | "true") = query.get("refresh") {
            is_stale = !self.refresh(&name, &mut store, now, fields);
            order = find(&store)?;
        }
        fields.order_id = Some(LogText::order(&order.name));
        let changes = self.stored(store.changes(&order))?;
        let mut body = show::order_json(&order, Some(&changes));
        if let (true, Value::Object(body)) = (is_stale, &mut body) {
            body.insert("stale".to_owned(), Value::Bool(true));
        }
        Ok(Reply::json(200, Message::RequestServed, body.to_string()))
    }

    /// Asks Stripe how the order stands, and tells whether Stripe has told all of it.
    fn refresh(&self, name: &str, store: &mut Store, now: Now, fields: &LogFields) -> bool {
        let Some(_call) = self.call() else {
            return false;
        };
        let mut context = reconcile::Context {
            api: &self.stripe,
            store,
            reading: &self.reading,
            now: now.unix,
            tries: 1,
            progress: &mut io::sink(),
        };
        let error_code = match reconcile::refresh(name, &mut context) {
            Ok(refreshed) => {
                webhook::log_news(&refreshed.news, fields);
                let Some(doubt) = refreshed.doubt else {
                    return true;
                };
                Some(doubt.error_code())
            }
            Err(error) => error.error_code(),
        };
        let fields = LogFields {
            error_code,
            ..fields.clone()
        };
        logger::write(Level::Warn, Message::NotRefreshed, &fields);
        false
    }

    /// The orders that say that they are for `reference` and do not bear its name.
    fn list_for(&self, request: &Request<'_>, fields: &LogFields) -> Result<Reply, Reply> {
        let wrong = |error: FieldError| invalid(&[error], fields);
        let query = Query::parse(request, &["reference", "limit"]).map_err(wrong)?;
        let limit = query.limit().map_err(wrong)?;
        let store = self.store()?;
        let reference = query.get("reference").unwrap_or_default();
        let orders = self.stored(store.orders_for(reference, limit + 1))?;
        let shown = orders.iter().take(limit);
        let body = json!({
            "orders": shown.map(|order| show::order_json(order, None)).collect::<Vec<_>>(),
            "hasMore": orders.len() > limit,
        });
        Ok(Reply::json(200, Message::RequestServed, body.to_string()))
    }

    fn list(&self, request: &Request<'_>, now: Now, fields: &LogFields) -> Result<Reply, Reply> {
        let known = ["status", "updatedSince", "limit", "cursor"];
        let wrong = |error: FieldError| invalid(&[error], fields);
        let query = Query::parse(request, &known).map_err(wrong)?;
        let status = query.read("status", "must be a status such as paid", Status::parse);
        let status = status.map_err(wrong)?;
        let since = "must be a time such as 2026-11-24T18:00:00Z, or seconds since 1970";
        let since = query.read("updatedSince", since, |text| {
            let seconds = text.parse().ok().map(UnixSeconds);
            seconds.or_else(|| time::parse_rfc3339(text))
        });
        let since = since.map_err(wrong)?;
        let limit = query.limit().map_err(wrong)?;
        let cursor = query.read(
            "cursor",
            "must be the cursor of an earlier answer",
            |text| text.parse().ok().filter(|cursor| *cursor >= 0),
        );
        let cursor = cursor.map_err(wrong)?.unwrap_or(0);
        let fits = |order: &StoredOrder| {
            status.is_none_or(|status| order.state.status == status)
                && since.is_none_or(|since| order.updated_at >= since)
        };
        let found = self.store()?.changes_after(cursor, limit, now.unix, fits);
        let Some(found) = self.stored(found)? else {
            return Err(wrong(FieldError {
                field: "cursor".to_owned(),
                message:
                    "is of a time that has not come by this machine's clock. Set the clock, or \
                          forget what was read so far and begin without a cursor"
                        .to_owned(),
            }));
        };
        let orders = found
            .orders
            .iter()
            .map(|order| show::order_json(order, None));
        let gone = found
            .gone
            .iter()
            .map(|gone| json!({"orderId": gone.name, "replacedBy": gone.became}));
        let body = json!({
            "orders": orders.collect::<Vec<_>>(),
            "gone": gone.collect::<Vec<_>>(),
            "reset": found.is_reset,
            "cursor": found.cursor.to_string(),
            "hasMore": found.has_more,
        });
        Ok(Reply::json(200, Message::RequestServed, body.to_string()))
    }

    /// A connection of this request's own, so that none waits for another.
    ///
    /// An event may have settled since the start that the file is not of the key's mode.
    fn store(&self) -> Result<Store, Reply> {
        let store = self.stored(Store::open_existing(&self.database))?;
        match self.stored(store.mode())? {
            Some(mode) if self.reading.mode != Some(mode) => {
                Err(self.not_stored(StoreError::OtherMode(mode)))
            }
            Some(_) | None => Ok(store),
        }
    }

    /// What the database did, or the answer when it did not.
    fn stored<T>(&self, result: Result<T, StoreError>) -> Result<T, Reply> {
        result.map_err(|error| self.not_stored(error))
    }

    /// The answer; and after a failed sync, the end of this process as of the webhook server, or when
    /// its key turns out to be of the other mode.
    fn not_stored(&self, error: StoreError) -> Reply {
        let code = error.code();
        if error.is_fatal() || matches!(error, StoreError::OtherMode(_)) {
            let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = stop.send(Stop::Broken(error));
        }
        Reply {
            retry_after: Some(1),
            ..failed(503, code)
        }
    }

    /// Leave to wait for Stripe, if not too many do.
    fn call(&self) -> Option<CallGuard<'_>> {
        let more = |calls: usize| (calls < CALLS_MAX).then_some(calls + 1);
        self.calls.fetch_update(SeqCst, SeqCst, more).ok()?;
        Some(CallGuard(&self.calls))
    }
}

struct CallGuard<'a>(&'a AtomicUsize);

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

type TokenKey = [u8; 64];

/// Compares in a time that says nothing of how much was right: not the tokens are compared, but what
/// a key that nobody knows makes of them.
struct Token {
    key: TokenKey,
    expected: Hmac<Sha256>,
}

impl Token {
    fn new(token: &Secret) -> io::Result<Token> {
        let mut key = [0; 64];
        getrandom::fill(&mut key)?;
        let expected = Token::keyed(&key, token.expose());
        Ok(Token { key, expected })
    }

    fn is(&self, given: &str) -> bool {
        let expected = self.expected.clone().finalize().into_bytes();
        Token::keyed(&self.key, given).verify(&expected).is_ok()
    }

    fn keyed(key: &TokenKey, text: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new(&(*key).into());
        mac.update(text.as_bytes());
        mac
    }
}

/// Why there is no session.
enum NoSession {
    Busy,
    Stripe(StripeError),
}

/// The answer to what Stripe did not do: the only table of its statuses.
fn of_stripe(error: &StripeError, fields: &LogFields) -> Reply {
    let code = error.error_code();
    match &error.cause {
        Cause::Refused | Cause::NotFound => {
            let word = |word: &Option<Word>| word.as_ref().map(|word| word.as_str().to_owned());
            let body = json!({
                "error": "Stripe refused the order",
                "requestId": fields.request_id.as_ref().map(RequestId::as_str),
                "type": word(&error.kind),
                "code": word(&error.code),
                "param": word(&error.param),
            });
            Reply {
                error_code: Some(code),
                level: Level::Warn,
                ..Reply::json(422, Message::RequestRefused, body.to_string())
            }
        }
        Cause::Conflict | Cause::KeyReused | Cause::RateLimited => Reply {
            retry_after: Some(2),
            ..failed(503, code)
        },
        Cause::Unreachable(Unreachable::Timeout) => failed(504, code),
        Cause::Key
        | Cause::Permission(_)
        | Cause::Stripe
        | Cause::Unreachable(_)
        | Cause::Redirected
        | Cause::NotJson
        | Cause::Unusable(_)
        | Cause::TooLarge => failed(502, code),
    }
}

fn failed(status: u16, code: ErrorCode) -> Reply {
    Reply {
        level: Level::Error,
        message: Message::RequestFailed,
        ..Reply::error(status, code, code.to_string())
    }
}

fn conflict(code: ErrorCode, text: &'static str) -> Reply {
    Reply::error(409, code, text)
}

/// Every mistake with the path of its field.
fn invalid(errors: &[FieldError], fields: &LogFields) -> Reply {
    let body = json!({
        "error": "Invalid order request",
        "requestId": fields.request_id.as_ref().map(RequestId::as_str),
        "errors": errors,
    });
    Reply {
        error_code: Some(ErrorCode::FieldInvalid),
        ..Reply::json(400, Message::RequestRefused, body.to_string())
    }
}

fn no_success_url() -> FieldError {
    FieldError {
        field: "successUrl".to_owned(),
        message: "is needed, because CHECKOUT_SUCCESS_URL is not set".to_owned(),
    }
}

/// The shop's `Idempotency-Key`; without one the order's id is it.
fn key_of(request: &Request<'_>, order: &OrderId) -> Result<String, FieldError> {
    let Some(key) = request.header("idempotency-key") else {
        return Ok(order.as_str().to_owned());
    };
    let fits = |key: &str| {
        (1..=KEY_MAX_BYTES).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if fits(&key) {
        return Ok(key.into_owned());
    }
    Err(FieldError {
        field: "Idempotency-Key".to_owned(),
        message: "must be 1 to 255 visible ASCII characters".to_owned(),
    })
}

/// An id that sorts by time: the milliseconds since 1970, then 64 random bits.
fn new_order_id() -> Result<OrderId, getrandom::Error> {
    let millis = unix_millis();
    let random = getrandom::u64()?;
    Ok(OrderId::stored(format!("ord_{millis:012x}{random:016x}")))
}

/// Of the meaning, not of the bytes: a back end may write its JSON in another order tomorrow.
fn digest(wanted: &NewOrder) -> [u8; 32] {
    // A value that was just read from JSON can be written as JSON.
    let json = serde_json::to_vec(wanted).unwrap_or_default();
    Sha256::digest(json).into()
}

fn decoded(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}

/// What followed the `?`.
struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    fn parse(request: &Request<'a>, known: &[&str]) -> Result<Query<'a>, FieldError> {
        let pairs = request.query.unwrap_or_default().split('&');
        let mut query = Vec::new();
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = decoded(name).zip(decoded(value)).unwrap_or_default();
            if !known.contains(&name.as_ref()) {
                return Err(FieldError {
                    field: name.into_owned(),
                    message: format!("is not known here; known are {}", known.join(", ")),
                });
            }
            query.push((name, value));
        }
        Ok(Query(query))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(one, _)| one == name);
        values.next().map(|(_, value)| value.as_ref())
    }

    fn limit(&self) -> Result<usize, FieldError> {
        let limit = self.read("limit", "must be a whole number from 1 to 100", |text| {
            let limit = text.parse().ok();
            limit.filter(|limit| (1..=LIMIT_MAX).contains(limit))
        });
        Ok(limit?.unwrap_or(LIMIT_DEFAULT))
    }

    fn read<T>(
        &self,
        name: &str,
        message: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, FieldError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match parse(text) {
            Some(value) => Ok(Some(value)),
            None => Err(FieldError {
                field: name.to_owned(),
                message: message.to_owned(),
            }),
        }
    }
}
