//! Why a call to Stripe's API failed, and what the operator does about it.
//!
//! The error has no place for the key, nor for a text of Stripe's: its messages quote the key, the
//! account and what buyers typed. What it keeps of an answer are plain words, such as Stripe's `code`
//! (<https://docs.stripe.com/api/errors>), checked before they are kept.

use std::fmt;

use serde_json::Value;

use crate::base::id::RequestId;
use crate::base::log_line::ErrorCode;
use crate::config::looks_secret;
use crate::config::table::STRIPE_API_VERSION;

/// What Stripe was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its words, in `words` below")]
pub enum Call {
    CreateSession,
    ReadSession,
    ReadIntent,
    ReadCharge,
    ReadInvoice,
    ReadRefund,
    ReadDispute,
    ReadReview,
    ListEvents,
    ListRefunds,
    ListDisputes,
    ListFraudWarnings,
    ListInvoicePayments,
    ListEndpoints,
    CreateEndpoint,
    UpdateEndpoint,
    DeleteEndpoint,
}

impl Call {
    fn words(self) -> &'static str {
        match self {
            Call::CreateSession => "create the Checkout Session",
            Call::ReadSession => "read the Checkout Session",
            Call::ReadIntent => "read the PaymentIntent",
            Call::ReadCharge => "read the charge",
            Call::ReadInvoice => "read the invoice",
            Call::ReadRefund => "read the refund",
            Call::ReadDispute => "read the dispute",
            Call::ReadReview => "read the review",
            Call::ListEvents => "list the events",
            Call::ListRefunds => "list the refunds",
            Call::ListDisputes => "list the disputes",
            Call::ListFraudWarnings => "list the early fraud warnings",
            Call::ListInvoicePayments => "list the payments of the invoice",
            Call::ListEndpoints => "list the webhook endpoints",
            Call::CreateEndpoint => "create the webhook endpoint",
            Call::UpdateEndpoint => "change the webhook endpoint",
            Call::DeleteEndpoint => "delete the webhook endpoint",
        }
    }

    /// The path that it goes to, before the id of the object that is read.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Call::CreateSession | Call::ReadSession => "/v1/checkout/sessions",
            Call::ReadIntent => "/v1/payment_intents",
            Call::ReadCharge => "/v1/charges",
            Call::ReadInvoice => "/v1/invoices",
            Call::ReadRefund | Call::ListRefunds => "/v1/refunds",
            Call::ReadDispute | Call::ListDisputes => "/v1/disputes",
            Call::ReadReview => "/v1/reviews",
            Call::ListEvents => "/v1/events",
            Call::ListFraudWarnings => "/v1/radar/early_fraud_warnings",
            Call::ListInvoicePayments => "/v1/invoice_payments",
            Call::ListEndpoints
            | Call::CreateEndpoint
            | Call::UpdateEndpoint
            | Call::DeleteEndpoint => "/v1/webhook_endpoints",
        }
    }

    /// The permission of a restricted key that it needs: <https://docs.stripe.com/keys#limit-access>.
    #[must_use]
    pub fn permission(self) -> &'static str {
        match self {
            Call::CreateSession => "Checkout Sessions: Write",
            Call::ReadSession => "Checkout Sessions: Read",
            Call::ListEvents => "Events: Read",
            // Stripe publishes none for the warnings, which are of charges.
            Call::ListRefunds | Call::ReadRefund | Call::ReadCharge | Call::ListFraudWarnings => {
                "Charges and Refunds: Read"
            }
            Call::ReadInvoice | Call::ListInvoicePayments => "Invoices: Read",
            Call::ReadDispute | Call::ListDisputes => "Disputes: Read",
            Call::ReadReview => "Reviews: Read",
            Call::ReadIntent => "PaymentIntents: Read",
            Call::ListEndpoints => "Webhook Endpoints: Read",
            Call::CreateEndpoint | Call::UpdateEndpoint | Call::DeleteEndpoint => {
                "Webhook Endpoints: Write"
            }
        }
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// 401: Stripe does not know the key.
    Key,
    /// 403: a restricted key lacks a permission; `rak_…`, when Stripe named it.
    Permission(Option<Word>),
    /// 404: there is no such object in the key's mode and account.
    NotFound,
    /// 409: another request that excludes this one is still running.
    Conflict,
    /// The idempotency key was used before, with other content.
    KeyReused,
    /// 400, 402, 424 and the like: Stripe does not want this request, now or later.
    Refused,
    /// 429, also after a pause.
    RateLimited,
    /// 5xx, also after some pauses.
    Stripe,
    /// No whole answer came.
    Unreachable(Unreachable),
    /// 3xx, which Stripe's API never answers; it is not followed, since it would carry the key.
    Redirected,
    /// What came is not what Stripe's API writes: HTML of a proxy, for instance.
    NotJson,
    /// JSON without a field that we need; the text names it.
    Unusable(&'static str),
    /// More than we read.
    TooLarge,
}

/// Why no whole answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The host's name was not found.
    Name,
    /// The connection was refused.
    Connect,
    /// No encrypted connection to a server that proves its name.
    Tls,
    /// The proxy did not connect us.
    Proxy,
    /// Nothing, or not all, came in time.
    Timeout,
    /// The connection broke.
    Broken,
}

/// A word of Stripe's that is safe to show: 1 to 100 of `[A-Za-z0-9_.[]-]`, and no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(Box<str>);

impl Word {
    fn parse(text: &str) -> Option<Word> {
        const MAX_BYTES: usize = 100;
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.[]-".contains(&byte);
        let fits = (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(known);
        (fits && !looks_secret(text)).then(|| Word(text.into()))
    }

    /// The word as Stripe wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A call that failed. Its `Display` is a message of two lines for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripeError {
    /// What was asked.
    pub call: Call,
    /// Why it failed.
    pub cause: Cause,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Stripe's `type`, such as `invalid_request_error`.
    pub kind: Option<Word>,
    /// Stripe's `code`, such as `resource_missing`.
    pub code: Option<Word>,
    /// The parameter that Stripe complains of, such as `line_items[0][price]`.
    pub param: Option<Word>,
    /// Stripe's own name for the request: Dashboard → Developers → Logs finds it.
    pub request_id: Option<RequestId>,
    /// How often Stripe was asked, at least once.
    pub attempts: u32,
}

impl StripeError {
    /// The first attempt at `call` failed before an answer was there.
    #[must_use]
    pub fn new(call: Call, cause: Cause) -> StripeError {
        StripeError {
            call,
            cause,
            status: None,
            kind: None,
            code: None,
            param: None,
            request_id: None,
            attempts: 1,
        }
    }

    /// Stripe, or something in between, answered `call` with `status`, which is no success, and
    /// `body`.
    #[must_use]
    pub fn answered(call: Call, status: u16, body: &[u8]) -> StripeError {
        let body: Option<Value> = serde_json::from_slice(body).ok();
        let error = body.as_ref().and_then(|body| body.get("error"));
        let text = |name| error.and_then(|error| error.get(name)?.as_str());
        let cause = match status {
            300..=399 => Cause::Redirected,
            _ if !error.is_some_and(Value::is_object) => Cause::NotJson,
            _ if is_key_reused(text("type"), status) => Cause::KeyReused,
            401 => Cause::Key,
            403 => Cause::Permission(text("message").and_then(permission)),
            404 => Cause::NotFound,
            409 => Cause::Conflict,
            429 => Cause::RateLimited,
            500.. => Cause::Stripe,
            _ => Cause::Refused,
        };
        StripeError {
            status: Some(status),
            kind: text("type").and_then(Word::parse),
            code: text("code").and_then(Word::parse),
            param: text("param").and_then(Word::parse),
            ..StripeError::new(call, cause)
        }
    }

    /// What happened, as a sentence without its dot.
    #[must_use]
    pub fn what(&self) -> String {
        let reason = match &self.cause {
            Cause::Key => "Stripe does not know the key".to_owned(),
            Cause::Permission(Some(name)) => {
                format!("the key lacks the permission {}", name.as_str())
            }
            Cause::Permission(None) => "the key lacks a permission".to_owned(),
            Cause::NotFound => "Stripe has no such object for this key".to_owned(),
            Cause::Conflict => "the same is being done by another request".to_owned(),
            Cause::KeyReused => "its idempotency key was used for something else".to_owned(),
            Cause::Refused => "Stripe refused the request".to_owned(),
            Cause::RateLimited => "Stripe has too many requests from this account".to_owned(),
            Cause::Stripe => "Stripe failed".to_owned(),
            Cause::Unreachable(why) => why.words().to_owned(),
            Cause::Redirected => "the answer is a redirect, which Stripe never sends".to_owned(),
            Cause::NotJson => "the answer is not Stripe's JSON".to_owned(),
            Cause::Unusable(field) => format!("the answer has no usable {field}"),
            Cause::TooLarge => "the answer is too large".to_owned(),
        };
        format!(
            "Cannot {}: {reason}{}",
            self.call.words(),
            self.particulars()
        )
    }

    /// What the operator does next, as sentences.
    #[must_use]
    pub fn remedy(&self) -> String {
        const STATUS_PAGE: &str =
            "Try again later; https://status.stripe.com tells whether others wait as well.";
        match &self.cause {
            Cause::Key => "Copy a key that is in use from Dashboard → Developers → API keys to \
                 STRIPE_SECRET_KEY or its file: this one was rolled, has expired, or is cut off."
                .to_owned(),
            Cause::Permission(_) => format!(
                "Dashboard → Developers → API keys → the restricted key → Edit: tick {}.",
                self.call.permission()
            ),
            Cause::NotFound => "Compare the account and the mode (live or test) of \
                 STRIPE_SECRET_KEY with those in which the object was made."
                .to_owned(),
            Cause::Conflict => "Try again in a few seconds; it is safe to repeat.".to_owned(),
            Cause::KeyReused => {
                "Send the first content again, or ask for the new one under another key.".to_owned()
            }
            Cause::Refused => "Look the code up at https://docs.stripe.com/error-codes, and the \
                 request in Dashboard → Developers → Logs."
                .to_owned(),
            Cause::RateLimited => "Try again in a minute, and look in Dashboard → Developers → \
                 Logs for what else uses the account."
                .to_owned(),
            Cause::Stripe => STATUS_PAGE.to_owned(),
            Cause::Unreachable(why) => why.remedy().to_owned(),
            Cause::Redirected | Cause::NotJson => {
                "Something else than Stripe may have answered: check STRIPE_API_BASE, \
                 STRIPE_API_PROXY and the network; then see https://status.stripe.com."
                    .to_owned()
            }
            Cause::Unusable(_) => format!(
                "Set STRIPE_API_VERSION to {}, the version that paidup was written for.",
                STRIPE_API_VERSION.variable.default
            ),
            Cause::TooLarge => "Check that STRIPE_API_BASE is Stripe.".to_owned(),
        }
    }

    /// The code in the log.
    #[must_use]
    pub fn error_code(&self) -> ErrorCode {
        match &self.cause {
            Cause::Key => ErrorCode::StripeKeyRefused,
            Cause::Permission(_) => ErrorCode::StripePermission,
            Cause::NotFound => ErrorCode::StripeNotFound,
            Cause::Conflict | Cause::KeyReused => ErrorCode::StripeConflict,
            Cause::Refused => ErrorCode::StripeRefused,
            Cause::RateLimited => ErrorCode::StripeRateLimited,
            Cause::Stripe => ErrorCode::StripeFailed,
            Cause::Unreachable(Unreachable::Timeout) => ErrorCode::StripeTimeout,
            Cause::Unreachable(_) => ErrorCode::StripeUnreachable,
            Cause::Redirected | Cause::NotJson | Cause::Unusable(_) | Cause::TooLarge => {
                ErrorCode::StripeUnreadable
            }
        }
    }

    /// What is known beyond the reason, in brackets, for whoever looks closer.
    fn particulars(&self) -> String {
        let word = |name: &str, word: &Option<Word>| {
            let word = word.as_ref().map(Word::as_str)?;
            Some(format!("{name} {word}"))
        };
        let known = [
            self.status.map(|status| format!("status {status}")),
            word("type", &self.kind),
            word("code", &self.code),
            word("param", &self.param),
            self.request_id
                .as_ref()
                .map(|id| format!("request {}", id.as_str())),
            (self.attempts > 1).then(|| format!("{} attempts", self.attempts)),
        ];
        let known: Vec<String> = known.into_iter().flatten().collect();
        if known.is_empty() {
            return String::new();
        }
        format!(" ({})", known.join(", "))
    }
}

impl fmt::Display for StripeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.\n  {}", self.what(), self.remedy())
    }
}

impl std::error::Error for StripeError {}

impl Unreachable {
    fn words(self) -> &'static str {
        match self {
            Unreachable::Name => "the name of Stripe's host was not found",
            Unreachable::Connect => "the connection was refused",
            Unreachable::Tls => "no trustworthy encrypted connection",
            Unreachable::Proxy => "the proxy did not connect to Stripe",
            Unreachable::Timeout => "no whole answer in time",
            Unreachable::Broken => "the connection broke",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Unreachable::Name => {
                "Check STRIPE_API_BASE and this machine's DNS: `getent hosts api.stripe.com`."
            }
            Unreachable::Connect | Unreachable::Broken => {
                "Check the firewall, STRIPE_API_BASE and STRIPE_API_PROXY; then see \
                 https://status.stripe.com."
            }
            Unreachable::Tls => {
                "Check this machine's clock, and whether a proxy on the way opens encrypted \
                 connections."
            }
            Unreachable::Proxy => {
                "Check STRIPE_API_PROXY, its password, and whether it allows api.stripe.com:443."
            }
            Unreachable::Timeout => {
                "Try again: whatever was done is not done twice. If it stays so, check the \
                 network, STRIPE_API_TIMEOUT_SECONDS and https://status.stripe.com."
            }
        }
    }
}

/// A 409 of this type is a request that still runs, and the same key may be tried again.
fn is_key_reused(kind: Option<&str>, status: u16) -> bool {
    kind == Some("idempotency_error") && status != 409
}

/// The `rak_…` in the text of a 403, which quotes the key and the account as well.
fn permission(message: &str) -> Option<Word> {
    let start = message.find("rak_")?;
    let text = message.get(start..)?;
    let end = text.find(|c: char| !c.is_ascii_lowercase() && c != '_');
    Word::parse(text.get(..end.unwrap_or(text.len()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "rk_live_51CanaryCanaryCanary";

    fn error(status: u16, body: &str) -> StripeError {
        StripeError::answered(Call::ListEvents, status, body.as_bytes())
    }

    #[test]
    fn each_status_has_its_failure() {
        let body = r#"{"error":{"type":"invalid_request_error","message":"No"}}"#;
        for (status, cause) in [
            (400, Cause::Refused),
            (401, Cause::Key),
            (402, Cause::Refused),
            (403, Cause::Permission(None)),
            (404, Cause::NotFound),
            (409, Cause::Conflict),
            (424, Cause::Refused),
            (429, Cause::RateLimited),
            (500, Cause::Stripe),
            (503, Cause::Stripe),
            (302, Cause::Redirected),
        ] {
            assert_eq!(error(status, body).cause, cause, "{status}");
        }
        let reused = r#"{"error":{"type":"idempotency_error"}}"#;
        assert_eq!(error(400, reused).cause, Cause::KeyReused);
        assert_eq!(error(409, reused).cause, Cause::Conflict);
    }

    #[test]
    fn what_is_not_stripes_json_is_told_apart() {
        for body in ["<html>", "", "[]", "{}", r#"{"error":"x"}"#, "\u{feff}{}"] {
            for status in [400, 403, 502] {
                assert_eq!(error(status, body).cause, Cause::NotJson, "{body}");
            }
        }
    }

    #[test]
    fn only_the_name_of_the_permission_is_taken_from_a_message() {
        let body = format!(
            r#"{{"error":{{"type":"invalid_request_error","message":"The provided key '{KEY}' does not have the required permissions for this endpoint on account 'acct_1'. Having the 'rak_event_read' permission would allow this request to continue."}}}}"#
        );
        let error = error(403, &body);
        assert_eq!(
            error.to_string(),
            "Cannot list the events: the key lacks the permission rak_event_read (status 403, type \
             invalid_request_error).\n  Dashboard → Developers → API keys → the restricted key → \
             Edit: tick Events: Read."
        );
        assert!(!format!("{error:?}").contains("Canary"), "{error:?}");
        assert!(!format!("{error:?}").contains("acct_1"), "{error:?}");
        for (message, word) in [
            ("rak_event_read", Some("rak_event_read")),
            ("'rak_charge_read' rak_other", Some("rak_charge_read")),
            ("rak_a\u{e9}", Some("rak_a")),
            ("no name", None),
        ] {
            assert_eq!(permission(message).as_ref().map(Word::as_str), word);
        }
        assert!(permission(&format!("rak_{}", "a".repeat(200))).is_none());
    }

    #[test]
    fn a_field_of_an_answer_that_could_hold_a_secret_or_a_text_is_dropped() {
        for bad in [KEY, "ada@example.com", "two words", "", &"a".repeat(101)] {
            let body = format!(
                r#"{{"error":{{"type":"{bad}","code":"{bad}","param":"{bad}","message":"{bad}"}}}}"#
            );
            let error = error(400, &body);
            assert_eq!(
                (&error.kind, &error.code, &error.param),
                (&None, &None, &None)
            );
        }
        let body = r#"{"error":{"type":"card_error","code":7,"param":"line_items[0][price]"}}"#;
        let error = error(402, body);
        assert_eq!(error.kind.unwrap().as_str(), "card_error");
        assert_eq!(error.param.unwrap().as_str(), "line_items[0][price]");
        assert_eq!(error.code, None);
    }
}
