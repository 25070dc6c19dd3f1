//! `POST /orders`: makes an order and the Checkout Session that it is paid on.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::api::orders::Api;
use crate::api::replies::{failed, invalid, of_stripe};
use crate::base::id::{IdempotencyKey, OrderId, StripeId, UnixSeconds};
use crate::base::log_line::{ErrorCode, LogFields, LogText, Message};
use crate::base::time;
use crate::host::clock::{Now, unix_millis};
use crate::host::logger;
use crate::http::exchange::{Reply, Request};
use crate::store::{Ask, Asked, Checkout, Store};
use crate::stripe::client::NewSession;
use crate::stripe::error::{Call, Cause, StripeError};
use crate::stripe::fetch::fetched;
use crate::stripe::fetched::Fetched;
use crate::truth::delivery::log_lines;
use crate::truth::event::Meaning;
use crate::truth::names::{Belongs, MADE_HERE};
use crate::truth::new_order::{FieldError, NewOrder};
use crate::truth::order::Status;

/// Longest `Idempotency-Key`, in bytes.
const KEY_MAX_BYTES: usize = 255;
/// How long a page lasts if the order sets no end. This stays within Stripe's 24 hours even if our clock
/// differs from Stripe's.
const PAGE_SECONDS: i64 = 23 * 3600;

/// Why there is no session.
enum NoSession {
    /// Too many requests wait for Stripe.
    Busy,
    /// Stripe did not make one.
    Stripe(StripeError),
}

impl Api {
    /// The story of `POST /orders`: the order is stored, Stripe is asked for a page, Stripe's answer is
    /// stored, and the shop gets its answer. Wherever this is cut off, the same request goes on from
    /// there.
    pub(super) fn create(
        &self,
        request: &Request<'_>,
        now: Now,
        fields: &mut LogFields,
    ) -> Result<Reply, Reply> {
        let wanted = NewOrder::parse(request.body).map_err(|errors| invalid(&errors, fields))?;
        let success_url = wanted
            .success_url
            .as_deref()
            .or(self.success_url.as_deref());
        let success_url = success_url.ok_or_else(|| invalid(&[no_success_url()], fields))?;
        let order = match &wanted.order {
            Some(order) => order.clone(),
            None => new_order_id().map_err(|_| failed(500, ErrorCode::InternalError))?,
        };
        fields.order_id = Some(LogText::order(&order));
        let key = key_of(request, &order).map_err(|error| invalid(&[error], fields))?;
        let mut store = self.store()?;
        let checkout = self.ask(&wanted, &order, &key, &mut store, now, fields)?;
        fields.order_id = Some(LogText::order(&checkout.order));
        if checkout.session.is_some() {
            return self.created(200, &store, &checkout, fields);
        }

        let (session, url) = self
            .create_session(&wanted, success_url, &checkout)
            .map_err(|error| {
                self.without_session(error, &mut store, &key, checkout.attempt, fields)
            })?;
        self.record(&mut store, &session, now, fields)?;
        let expires_at = session.whole("expires_at").map(UnixSeconds);
        let expires_at = expires_at.unwrap_or(checkout.expires_at);
        let checkout = self.stored(store.answered(&key, &session.id, &url, expires_at))?;
        self.created(201, &store, &checkout, fields)
    }

    /// Stores the order, or finds what the same key has asked for before.
    fn ask(
        &self,
        wanted: &NewOrder,
        order: &OrderId,
        key: &str,
        store: &mut Store,
        now: Now,
        fields: &LogFields,
    ) -> Result<Checkout, Reply> {
        let page_ends = UnixSeconds(now.unix.0 + PAGE_SECONDS);
        let ask = Ask {
            key,
            order,
            is_named: wanted.order.is_some(),
            sha256: digest(wanted),
            expires_at: wanted.expires_at.unwrap_or(page_ends),
            request_id: fields.request_id.clone(),
            now: now.unix,
        };
        match self.stored(store.ask(&ask))? {
            Asked::New(checkout) => match wanted.check_expiry(now.unix) {
                Ok(()) => Ok(checkout),
                Err(error) => {
                    self.stored(store.refused(key))?;
                    Err(invalid(&[error], fields))
                }
            },
            Asked::Known(checkout) => Ok(checkout),
            Asked::KeyReused => Err(Reply::error(
                409,
                ErrorCode::IdempotencyKeyReused,
                "This Idempotency-Key was used for another order",
            )),
            Asked::OrderExists => Err(Reply::error(
                409,
                ErrorCode::OrderExists,
                "This order has a Checkout Session already: GET /orders/{id}?refresh=1 asks Stripe what became of it",
            )),
        }
    }

    fn create_session(
        &self,
        wanted: &NewOrder,
        success_url: &str,
        checkout: &Checkout,
    ) -> Result<(Fetched, Box<str>), NoSession> {
        let _call = self.call().ok_or(NoSession::Busy)?;
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
        let key = IdempotencyKey::of_attempt(&checkout.order, checkout.attempt);
        let session = self.stripe.create_session(&session, &key);
        let session = session.map_err(NoSession::Stripe)?;
        let unusable = || StripeError::new(Call::CreateSession, Cause::Unusable("url"));
        let url = session.text("url").map(Into::into);
        let url = url.ok_or_else(|| NoSession::Stripe(unusable()))?;
        Ok((session, url))
    }

    /// Remembers the failure for the shop's next try, and answers.
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
            Err(error) => self.not_stored(&error),
        }
    }

    /// Stores what Stripe answered as if Stripe had delivered it.
    fn record(
        &self,
        store: &mut Store,
        session: &Fetched,
        now: Now,
        fields: &LogFields,
    ) -> Result<(), Reply> {
        let Some(mut delivery) = fetched(session, now.unix, &self.reading) else {
            return Ok(());
        };
        // What was made here is ours, whatever OUR_ORDERS looks at.
        if let Meaning::Fact(fact) = &mut delivery.event.meaning {
            fact.belongs = fact.belongs.map(|_| Belongs::Ours);
        }
        for receipt in self.stored(store.record(&[delivery]))? {
            logger::write_all(&log_lines(&self.stored(receipt)?.news, fields));
        }
        Ok(())
    }

    fn created(
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
}

fn no_success_url() -> FieldError {
    FieldError {
        field: "successUrl".to_owned(),
        message: "is needed, because CHECKOUT_SUCCESS_URL is not set".to_owned(),
    }
}

/// The shop's `Idempotency-Key`; without one, the order's id.
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

/// A digest of the meaning, not of the bytes: a back end may order its JSON differently tomorrow.
fn digest(wanted: &NewOrder) -> [u8; 32] {
    // A value that was just read from JSON can be written as JSON.
    let json = serde_json::to_vec(wanted).unwrap_or_default();
    Sha256::digest(json).into()
}
