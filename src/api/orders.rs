//! The addresses of `paidup api`, and the orders that it shows.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::Sender;

use serde_json::{Value, json};

use crate::api::query::{Query, decoded};
use crate::api::replies::{failed, invalid};
use crate::api::token;
use crate::base::id::UnixSeconds;
use crate::base::log_line::{LogFields, LogText, Message};
use crate::base::time;
use crate::config::api::ApiConfig;
use crate::host::clock::Now;
use crate::host::logger;
use crate::http::exchange::{App, HEALTH, METRICS, Reply, Request};
use crate::http::gate::Gate;
use crate::http::metrics::{OTHER, RequestCounters, Series};
use crate::http::server::{StartError, Stop};
use crate::store::json::order_json;
use crate::store::{Store, StoreError, StoredOrder};
use crate::stripe::client::StripeApi;
use crate::stripe::fetch;
use crate::truth::delivery::log_lines;
use crate::truth::new_order::FieldError;
use crate::truth::order::Status;
use crate::truth::reading::Reading;

/// Requests that may wait for Stripe at the same time: the others are still answered when Stripe does
/// not answer.
pub(super) const CALLS_MAX: usize = 12;

const ORDERS: &str = "/orders";
/// How requests for one order are counted, whatever its id.
const ORDER: &str = "/orders/{id}";

/// What counts the requests of this process.
pub(super) fn counters() -> RequestCounters {
    const CREATED: [Series; 6] = [
        (ORDERS, "POST", 200),
        (ORDERS, "POST", 201),
        (ORDERS, "POST", 422),
        (ORDERS, "POST", 502),
        (ORDERS, "POST", 503),
        (ORDERS, "POST", 504),
    ];
    RequestCounters::new(&[ORDERS, ORDER, HEALTH, METRICS], &CREATED)
}

/// `POST /orders`, `GET /orders`, `GET /orders/{id}`, and the health and metrics of this process.
pub(super) struct Api {
    database: PathBuf,
    pub(super) stripe: StripeApi,
    pub(super) reading: Reading,
    pub(super) success_url: Option<Box<str>>,
    pub(super) cancel_url: Option<Box<str>>,
    gate: Gate,
    /// Requests that wait for Stripe.
    calls: AtomicUsize,
    counters: Arc<RequestCounters>,
    stop: Sender<Stop>,
}

enum Route<'a> {
    Orders,
    Order(&'a str),
    Health,
    Metrics,
    Other,
}

impl Route<'_> {
    fn of(path: &str) -> Route<'_> {
        match path {
            ORDERS => Route::Orders,
            HEALTH => Route::Health,
            METRICS => Route::Metrics,
            path => path
                .strip_prefix("/orders/")
                .map_or(Route::Other, Route::Order),
        }
    }
}

impl App for Api {
    fn route(&self, path: &str) -> &'static str {
        match Route::of(path) {
            Route::Orders => ORDERS,
            Route::Order(_) => ORDER,
            Route::Health => HEALTH,
            Route::Metrics => METRICS,
            Route::Other => OTHER,
        }
    }

    fn answer(&self, request: &Request<'_>, now: Now, fields: &mut LogFields) -> Reply {
        if !request.is_for_this_machine() {
            return Reply::not_this_machine();
        }
        self.try_answer(request, now, fields)
            .unwrap_or_else(|refusal| refusal)
    }
}

impl Api {
    pub(super) fn new(
        config: ApiConfig,
        counters: Arc<RequestCounters>,
        stop: Sender<Stop>,
    ) -> Result<Api, StartError> {
        let stripe = StripeApi::new(&config.stripe).map_err(StartError::Configuration)?;
        Ok(Api {
            database: config.database,
            stripe,
            reading: config.stripe.reading,
            success_url: config.success_url,
            cancel_url: config.cancel_url,
            gate: Gate::new(&config.token).map_err(StartError::System)?,
            calls: AtomicUsize::new(0),
            counters,
            stop,
        })
    }

    fn try_answer(
        &self,
        request: &Request<'_>,
        now: Now,
        fields: &mut LogFields,
    ) -> Result<Reply, Reply> {
        let route = Route::of(request.path);
        if let Route::Orders | Route::Order(_) = route {
            token::check(&self.gate, request, now)?;
        }
        match (route, request.method) {
            (Route::Orders, "POST") => self.create(request, now, fields),
            (Route::Orders, "GET" | "HEAD") => self.list(request, now, fields),
            (Route::Orders, _) => Err(Reply::method_not_allowed("GET, HEAD, POST")),
            (Route::Order(id), "GET" | "HEAD") => self.show(id, request, now, fields),
            (Route::Health, "GET" | "HEAD") => Ok(Reply::healthy()),
            (Route::Metrics, "GET" | "HEAD") => Ok(Reply::metrics(self.counters.render())),
            (Route::Order(_) | Route::Health | Route::Metrics, _) => {
                Err(Reply::method_not_allowed("GET, HEAD"))
            }
            (Route::Other, _) => Err(Reply::not_found()),
        }
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
        let id = decoded(id).ok_or_else(Reply::not_found)?;
        let mut store = self.store()?;
        let find = |store: &Store| self.stored(store.order(&id))?.ok_or_else(Reply::not_found);
        let mut order = find(&store)?;
        let mut is_stale = false;
        if let Some("1" | "true") = query.get("refresh") {
            is_stale = !self.refresh(&id, &mut store, now, fields);
            order = find(&store)?;
        }
        fields.order_id = Some(LogText::order(&order.name));
        let changes = self.stored(store.changes(&order))?;
        let mut body = order_json(&order, Some(&changes));
        if let (true, Value::Object(body)) = (is_stale, &mut body) {
            body.insert("stale".to_owned(), Value::Bool(true));
        }
        Ok(served(&body))
    }

    /// Brings the order up to date from Stripe. False when Stripe did not answer everything.
    fn refresh(&self, id: &str, store: &mut Store, now: Now, fields: &LogFields) -> bool {
        let Some(_call) = self.call() else {
            return false;
        };
        let mut context = fetch::Context {
            api: &self.stripe,
            store,
            reading: &self.reading,
            now: now.unix,
            tries: 1,
            progress: &mut io::sink(),
        };
        let error_code = match fetch::refresh(id, &mut context) {
            Ok(refreshed) => {
                logger::write_all(&log_lines(&refreshed.news, fields));
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
        logger::write(Message::NotRefreshed, &fields);
        false
    }

    fn list(&self, request: &Request<'_>, now: Now, fields: &LogFields) -> Result<Reply, Reply> {
        let mut pairs = request.query.unwrap_or_default().split('&');
        if pairs.any(|pair| pair.starts_with("reference=")) {
            return self.list_for(request, fields);
        }
        let wrong = |error: FieldError| invalid(&[error], fields);
        let filter = Filter::parse(request).map_err(wrong)?;
        let fits = |order: &StoredOrder| filter.fits(order);
        let store = self.store()?;
        let found = store.changes_after(filter.cursor, filter.limit, now.unix, fits);
        let found = self.stored(found)?.ok_or_else(|| wrong(future_cursor()))?;
        let orders = found.orders.iter().map(|order| order_json(order, None));
        let gone = found
            .gone
            .iter()
            .map(|gone| json!({"orderId": gone.name, "replacedBy": gone.became}));
        Ok(served(&json!({
            "orders": orders.collect::<Vec<_>>(),
            "gone": gone.collect::<Vec<_>>(),
            "reset": found.is_reset,
            "cursor": found.cursor.to_string(),
            "hasMore": found.has_more,
        })))
    }

    /// The orders that say that they are for `reference` and have another id.
    fn list_for(&self, request: &Request<'_>, fields: &LogFields) -> Result<Reply, Reply> {
        let wrong = |error: FieldError| invalid(&[error], fields);
        let query = Query::parse(request, &["reference", "limit"]).map_err(wrong)?;
        let limit = query.limit().map_err(wrong)?;
        let store = self.store()?;
        let reference = query.get("reference").unwrap_or_default();
        let orders = self.stored(store.orders_for(reference, limit + 1))?;
        let shown = orders
            .iter()
            .take(limit)
            .map(|order| order_json(order, None));
        Ok(served(&json!({
            "orders": shown.collect::<Vec<_>>(),
            "hasMore": orders.len() > limit,
        })))
    }

    /// A connection of this request's own, so that none waits for another.
    ///
    /// Since the start, an event may have settled that the file is not of the key's mode.
    pub(super) fn store(&self) -> Result<Store, Reply> {
        let store = self.stored(Store::open_existing(&self.database))?;
        match self.stored(store.mode())? {
            Some(mode) if self.reading.mode != Some(mode) => {
                Err(self.not_stored(&StoreError::OtherMode(mode)))
            }
            Some(_) | None => Ok(store),
        }
    }

    /// The database's result, or the answer to its failure.
    pub(super) fn stored<T>(&self, result: Result<T, StoreError>) -> Result<T, Reply> {
        result.map_err(|error| self.not_stored(&error))
    }

    /// The answer. A failed sync also ends this process, because what is on disk is not known; so does
    /// a key that turns out to be of the other mode.
    pub(super) fn not_stored(&self, error: &StoreError) -> Reply {
        if error.is_fatal() || matches!(error, StoreError::OtherMode(_)) {
            let _ = self.stop.send(Stop::Broken(error.to_string()));
        }
        Reply {
            retry_after: Some(1),
            ..failed(503, error.code())
        }
    }

    /// Permission to wait for Stripe; none when too many requests do.
    pub(super) fn call(&self) -> Option<CallGuard<'_>> {
        let more = |calls: usize| (calls < CALLS_MAX).then_some(calls + 1);
        self.calls.fetch_update(SeqCst, SeqCst, more).ok()?;
        Some(CallGuard(&self.calls))
    }
}

pub(super) struct CallGuard<'a>(&'a AtomicUsize);

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Which orders `GET /orders` is to list.
struct Filter {
    status: Option<Status>,
    since: Option<UnixSeconds>,
    limit: usize,
    cursor: i64,
}

impl Filter {
    fn parse(request: &Request<'_>) -> Result<Filter, FieldError> {
        let query = Query::parse(request, &["status", "updatedSince", "limit", "cursor"])?;
        let since = "must be a time such as 2026-11-24T18:00:00Z, or seconds since 1970";
        let cursor = "must be the cursor of an earlier answer";
        Ok(Filter {
            status: query.read("status", "must be a status such as paid", Status::parse)?,
            since: query.read("updatedSince", since, |text| {
                let seconds = text.parse().ok().map(UnixSeconds);
                seconds.or_else(|| time::parse_rfc3339(text))
            })?,
            limit: query.limit()?,
            cursor: query
                .read("cursor", cursor, |text| {
                    text.parse().ok().filter(|cursor| *cursor >= 0)
                })?
                .unwrap_or(0),
        })
    }

    fn fits(&self, order: &StoredOrder) -> bool {
        self.status
            .is_none_or(|status| order.state.status == status)
            && self.since.is_none_or(|since| order.updated_at >= since)
    }
}

fn future_cursor() -> FieldError {
    FieldError {
        field: "cursor".to_owned(),
        message: "is from the future by this machine's clock. Set the clock, or discard what was read so \
                  far and start without a cursor"
            .to_owned(),
    }
}

fn served(body: &Value) -> Reply {
    Reply::json(200, Message::RequestServed, body.to_string())
}
