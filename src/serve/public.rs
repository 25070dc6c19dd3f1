//! What strangers can ask for: the routes of the edge.

use crate::base::log_line::{LogFields, Message};
use crate::host::clock::Now;
use crate::http::exchange::{App, HEALTH, Reply, Request};
use crate::http::metrics::OTHER;
use crate::serve::checkout_status::CheckoutStatus;
use crate::serve::webhook::Webhook;

use crate::config::stripe::WEBHOOK_PATH;
use crate::serve::metrics::CHECKOUT_STATUS;

/// `POST /stripe/webhook`, `GET /healthz`, and `GET /checkout/{id}` where it is switched on.
pub struct Public {
    /// What answers Stripe.
    pub webhook: Webhook,
    /// What answers a success page; none unless `PUBLIC_CHECKOUT_STATUS` says so.
    pub checkout_status: Option<CheckoutStatus>,
}

impl App for Public {
    fn route(&self, path: &str) -> &'static str {
        match Route::of(path) {
            Route::Webhook => WEBHOOK_PATH,
            Route::Health => HEALTH,
            Route::CheckoutStatus(_) => CHECKOUT_STATUS,
            Route::Other => OTHER,
        }
    }

    /// Whoever counts the log's lines about deliveries counts what the metrics count.
    fn refused(&self, request: &Request<'_>) -> Message {
        match Route::of(request.path) {
            Route::Webhook if request.method == "POST" => Message::WebhookRefused,
            Route::Webhook | Route::Health | Route::CheckoutStatus(_) | Route::Other => {
                Message::RequestRefused
            }
        }
    }

    fn answer(&self, request: &Request<'_>, now: Now, fields: &mut LogFields) -> Reply {
        match (Route::of(request.path), &self.checkout_status) {
            (Route::Webhook, _) if request.method == "POST" => {
                self.webhook.answer(request, now, fields)
            }
            (Route::Webhook, _) => Reply::method_not_allowed("POST"),
            (Route::Health, _) if request.is_get() => Reply::healthy(),
            (Route::Health, _) => Reply::method_not_allowed("GET, HEAD"),
            (Route::CheckoutStatus(id), Some(status)) => status.answer(id, request, now, fields),
            (Route::CheckoutStatus(_), None) | (Route::Other, _) => Reply::not_found(),
        }
    }
}

enum Route<'a> {
    Webhook,
    Health,
    CheckoutStatus(&'a str),
    Other,
}

impl Route<'_> {
    fn of(path: &str) -> Route<'_> {
        match path {
            HEALTH => Route::Health,
            path if path.strip_suffix('/').unwrap_or(path) == WEBHOOK_PATH => Route::Webhook,
            path => path
                .strip_prefix("/checkout/")
                .map_or(Route::Other, Route::CheckoutStatus),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_webhook_may_end_in_one_slash() {
        for (path, is_webhook) in [
            ("/stripe/webhook", true),
            ("/stripe/webhook/", true),
            ("/stripe/webhook//", false),
            ("/stripe", false),
            ("/", false),
        ] {
            let route = Route::of(path);
            assert_eq!(matches!(route, Route::Webhook), is_webhook, "{path}");
        }
    }
}
