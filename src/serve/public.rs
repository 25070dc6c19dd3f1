//! What strangers can ask for: the routes of the edge.

use crate::base::log_line::LogFields;
use crate::host::clock::Now;
use crate::http::exchange::{App, Reply, Request};
use crate::serve::checkout_status::CheckoutStatus;
use crate::serve::webhook::Webhook;

/// `POST /stripe/webhook`, `GET /healthz`, and `GET /checkout/{id}` where it is switched on.
pub struct Public {
    /// What answers Stripe.
    pub webhook: Webhook,
    /// What answers a success page; none unless `PUBLIC_CHECKOUT_STATUS` says so.
    pub checkout_status: Option<CheckoutStatus>,
}

impl App for Public {
    fn answer(&self, request: &Request<'_>, now: Now, fields: &mut LogFields) -> Reply {
        match request.path {
            "/stripe/webhook" | "/stripe/webhook/" if request.method == "POST" => {
                self.webhook.answer(request, now, fields)
            }
            "/stripe/webhook" | "/stripe/webhook/" => Reply::method_not_allowed("POST"),
            "/healthz" if request.is_get() => Reply::healthy(),
            "/healthz" => Reply::method_not_allowed("GET, HEAD"),
            path => {
                let id = path.strip_prefix("/checkout/");
                match self.checkout_status.as_ref().zip(id) {
                    Some((status, id)) => status.answer(id, request, now, fields),
                    None => Reply::not_found(),
                }
            }
        }
    }
}
