//! Tells a success page the status of its Checkout Session's payment.
//!
//! A buyer who comes back from Stripe's page has the session's id in the URL, and nobody can guess it:
//! the id is the permission to read one word, and this never says more. A page of another site may
//! read the answer only if its origin is listed
//! (<https://developer.mozilla.org/docs/Web/HTTP/Guides/CORS>).

use std::sync::{Mutex, PoisonError};

use crate::base::id::StripeId;
use crate::base::log_line::{ErrorCode, LogFields, LogText, Message};
use crate::config::serve::CheckoutStatusConfig;
use crate::host::clock::Now;
use crate::http::exchange::{Reply, Request};
use crate::http::limiter::Limiter;
use crate::store::Store;
use crate::truth::order::State;

/// `GET /checkout/{cs_…}`.
pub struct CheckoutStatus {
    origins: Vec<Box<str>>,
    limiter: Mutex<Limiter>,
    reader: Mutex<Store>,
}

impl CheckoutStatus {
    /// Reads from `reader`, a connection of its own: a page does not wait for a commit.
    #[must_use]
    pub(super) fn new(config: &CheckoutStatusConfig, reader: Store) -> CheckoutStatus {
        CheckoutStatus {
            origins: config.origins.clone(),
            limiter: Mutex::new(Limiter::new(config.rate_limit_max, Vec::new())),
            reader: Mutex::new(reader),
        }
    }

    /// `{"status":"paid"}`: the status of the session's own payment, in the words of `paidup orders
    /// show --json`. It is not the order's status: that may have been paid on another page. 404 until
    /// an event has named the session.
    #[must_use]
    pub(super) fn answer(
        &self,
        id: &str,
        request: &Request<'_>,
        now: Now,
        fields: &mut LogFields,
    ) -> Reply {
        let origin = request.header("origin").map(Box::from);
        Reply {
            allow_origin: origin.filter(|origin| self.origins.contains(origin)),
            ..self.look_up(id, request, now, fields)
        }
    }

    fn look_up(&self, id: &str, request: &Request<'_>, now: Now, fields: &mut LogFields) -> Reply {
        if !request.is_get() {
            return Reply::method_not_allowed("GET, HEAD");
        }
        let taken = {
            let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
            limiter.take(request.client, now.instant)
        };
        if let Err(exceeded) = taken {
            return Reply {
                retry_after: Some(exceeded.retry_after_seconds),
                ..Reply::error(429, ErrorCode::RateLimited, "Too many requests")
            };
        }
        let session = id.starts_with("cs_").then(|| StripeId::parse(id));
        let Some(Ok(session)) = session else {
            return Reply::not_found();
        };
        fields.stripe_session_id = Some(LogText::from(&session));
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        match reader.payment_of(session.as_str()) {
            Ok(Some((order, payment))) => {
                let state = State::of(&order.name, [&payment]);
                let body = format!(r#"{{"status":"{}"}}"#, state.status.as_str());
                Reply::json(200, Message::RequestServed, body)
            }
            Ok(None) => Reply::not_found(),
            Err(error) => Reply {
                message: Message::RequestFailed,
                retry_after: Some(1),
                ..Reply::error(503, error.code(), "The database cannot be read")
            },
        }
    }
}
