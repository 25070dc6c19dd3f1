//! What may ever be logged: six fields, and messages and codes from two lists.
//!
//! The allow-list is a type. There is no `String` in [`LogFields`] and no way to put a header, a
//! body or a formatted text into a line, so nothing personal can slip in by a careless edit:
//!
//! ```compile_fail
//! use paidup::base::log_line::LogFields;
//! let fields = LogFields { email: Some("ada@example.com"), ..LogFields::default() }; // no such field
//! ```
//!
//! ```compile_fail
//! use paidup::base::log_line::{LogFields, Message, render};
//! let message = format!("order of {}", "ada@example.com");
//! render(log::Level::Info, "2026-11-24T05:46:26.000Z", &message, &LogFields::default()); // not a Message
//! ```

use std::fmt;

use log::Level;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::id::{OrderId, RequestId, StripeId};

/// Text that may stand in the log: an identifier that cannot be personal, or a short digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogText(Box<str>);

impl LogText {
    /// Longest order id that is shown as it is, in characters.
    const SHOWN_MAX_CHARS: usize = 64;

    /// An order id, or `sha256:` and 12 hex digits of its SHA-256 when it could be personal: it has
    /// an `@`, white space, a control or non-ASCII character, or is over 64 characters long.
    #[must_use]
    pub fn order(id: &OrderId) -> LogText {
        let text = id.as_str();
        let plain = |c: char| c.is_ascii_graphic() && c != '@';
        if text.len() <= Self::SHOWN_MAX_CHARS && text.chars().all(plain) {
            return LogText(text.into());
        }
        let mut digest = hex::encode(Sha256::digest(text.as_bytes()));
        digest.truncate(12);
        LogText(format!("sha256:{digest}").into())
    }

    /// The text as the log shows it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&StripeId> for LogText {
    fn from(id: &StripeId) -> LogText {
        LogText(id.as_str().into())
    }
}

/// The fields of a log line: these six, ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogFields {
    /// Ties the line to the answer's `x-request-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// The order that the line is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<LogText>,
    /// The Checkout Session that the line is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stripe_session_id: Option<LogText>,
    /// The event that the line is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stripe_event_id: Option<LogText>,
    /// The HTTP status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why something was refused or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<ErrorCode>,
}

/// What happened, in fixed words. Alerts match these texts, so changing one is a breaking change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its text, in `text` below")]
pub enum Message {
    // The process
    Ready,
    Stopping,
    Stopped,
    AddressNotUsed,
    StoreBroken,
    StoreReplaced,
    AcceptFailed,
    LinesDropped,
    Panicked,
    // A request
    RequestServed,
    RequestRefused,
    RequestFailed,
    // A delivery
    WebhookApplied,
    WebhookDuplicate,
    WebhookIgnored,
    WebhookParked,
    ThinEventIgnored,
    OtherModeIgnored,
    NoSaleIgnored,
    OtherShopIgnored,
    AccountEventIgnored,
    SignatureFailed,
    RateLimited,
    EventUnreadable,
    StoreUnavailable,
    ApiVersionDiffers,
    ClockBehind,
    ProxyNamesNobody,
    OrderIdTooLong,
    // A request of the shop
    CheckoutMade,
    NotRefreshed,
    // An order
    OrderPending,
    OrderAuthorized,
    OrderProcessing,
    OrderPaid,
    OrderPartiallyRefunded,
    OrderRefunded,
    OrderRefundReversed,
    OrderFailed,
    OrderCanceled,
    OrderExpired,
    OrderRenamed,
    DisputeOpened,
    DisputeWon,
    DisputeLost,
    DisputeClosed,
    DoublePayment,
    AmountMismatch,
    CurrencyMismatch,
    NameConflict,
    FraudWarning,
    InReview,
    FailedAfterPaid,
}

impl Message {
    /// The exact text.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Message::Ready => "Ready",
            Message::Stopping => "Stopping: serving what was accepted",
            Message::Stopped => "Stopped",
            Message::AddressNotUsed => {
                "Address not used: the service manager passes sockets, and they count"
            }
            Message::StoreReplaced => {
                "Database files were deleted or replaced: nothing is stored. Stop, paidup restore, start"
            }
            Message::StoreBroken => {
                "Database failed: stopping, because what is on disk is not known"
            }
            Message::AcceptFailed => "Cannot accept connections",
            Message::LinesDropped => "Log lines dropped: whoever reads the log stood still",
            Message::Panicked => "Panic",
            Message::RequestServed => "Request served",
            Message::RequestRefused => "Request refused",
            Message::RequestFailed => "Request failed",
            Message::WebhookApplied => "Webhook applied",
            Message::WebhookDuplicate => "Webhook duplicate",
            Message::WebhookIgnored => "Webhook ignored",
            Message::WebhookParked => "Webhook parked: its order is not known yet",
            Message::ThinEventIgnored => "Webhook ignored: thin event (thin_event_ignored)",
            Message::OtherModeIgnored => "Webhook ignored: other mode than STRIPE_MODE",
            Message::NoSaleIgnored => "Webhook ignored: it sells nothing",
            Message::OtherShopIgnored => "Webhook ignored: another shop's, says OUR_ORDERS",
            Message::AccountEventIgnored => "Webhook ignored: event of a connected account",
            Message::SignatureFailed => "Stripe webhook signature verification failed",
            Message::RateLimited => "Webhook rate limit exceeded (429)",
            Message::EventUnreadable => "Stripe webhook event could not be read",
            Message::StoreUnavailable => "Webhook not stored: Stripe will retry",
            Message::ApiVersionDiffers => "Event has another API release than STRIPE_API_VERSION",
            Message::ClockBehind => "Clock is behind Stripe's: check timedatectl",
            Message::ProxyNamesNobody => {
                "Proxy names no client: all share one rate limit, so set X-Forwarded-For there"
            }
            Message::OrderIdTooLong => "Order id over 200 characters is not used",
            Message::CheckoutMade => "Checkout Session made",
            Message::NotRefreshed => "Order not refreshed: Stripe cannot be asked",
            Message::OrderPending => "Order pending",
            Message::OrderAuthorized => "Order authorized",
            Message::OrderProcessing => "Order processing",
            Message::OrderPaid => "Order paid",
            Message::OrderPartiallyRefunded => "Order partially refunded",
            Message::OrderRefunded => "Order refunded",
            Message::OrderRefundReversed => "Order refund failed: paid again",
            Message::OrderFailed => "Order payment failed",
            Message::OrderCanceled => "Order canceled",
            Message::OrderExpired => "Order expired",
            Message::OrderRenamed => "Order took its real name",
            Message::DisputeOpened => "Order dispute opened",
            Message::DisputeWon => "Order dispute won",
            Message::DisputeLost => "Order dispute lost",
            Message::DisputeClosed => "Order dispute closed",
            Message::DoublePayment => "Order paid twice",
            Message::AmountMismatch => "Order paid with another amount",
            Message::CurrencyMismatch => "Order paid in another currency",
            Message::NameConflict => "Payment names two orders",
            Message::FraudWarning => "Order has a fraud warning",
            Message::InReview => "Order payment is in review",
            Message::FailedAfterPaid => "Order payment failed after it was paid",
        }
    }
}

/// Why something was refused or failed. Stable: operators and alerts search for these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its text, in `Display` below")]
pub enum ErrorCode {
    SignatureMissing,
    SignatureMalformed,
    SignatureNoMatch,
    SignatureTooOld,
    RateLimited,
    EventNotJson,
    EventUnusable,
    StoreBusy,
    StoreFull,
    StoreReplaced,
    StoreFailed,
    StoreStopping,
    QueueFull,
    RequestMalformed,
    RequestTimeout,
    LengthRequired,
    BodyTooLarge,
    HeadTooLarge,
    VersionNotSupported,
    ExpectationFailed,
    InternalError,
    NotFound,
    MethodNotAllowed,
    HostNotLocal,
    TokenWrong,
    FieldInvalid,
    IdempotencyKeyReused,
    OrderExists,
    ListenAddrNotUsed,
    AdminAddrNotUsed,
    StripeKeyRefused,
    StripePermission,
    StripeNotFound,
    StripeConflict,
    StripeRefused,
    StripeRateLimited,
    StripeFailed,
    StripeUnreachable,
    StripeTimeout,
    StripeUnreadable,
    StripeBusy,
    LogStalled,
    /// How many log lines were dropped.
    LinesDropped(u64),
    /// A failed `accept()` or another call of the operating system: its number.
    System(i32),
    /// Where a panic came from: file and line, nothing else.
    At(&'static str, u32),
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorCode::SignatureMissing => "Invalid signature (no header)",
            ErrorCode::SignatureMalformed => "Invalid signature (malformed header)",
            ErrorCode::SignatureNoMatch => "Invalid signature (no match)",
            ErrorCode::SignatureTooOld => "Invalid signature (too old)",
            ErrorCode::RateLimited => "rate_limited",
            ErrorCode::EventNotJson => "event_not_json",
            ErrorCode::EventUnusable => "event_unusable",
            ErrorCode::StoreBusy => "store_busy",
            ErrorCode::StoreFull => "store_full",
            ErrorCode::StoreReplaced => "store_replaced",
            ErrorCode::StoreFailed => "store_failed",
            ErrorCode::StoreStopping => "store_stopping",
            ErrorCode::QueueFull => "queue_full",
            ErrorCode::RequestMalformed => "request_malformed",
            ErrorCode::RequestTimeout => "request_timeout",
            ErrorCode::LengthRequired => "length_required",
            ErrorCode::BodyTooLarge => "body_too_large",
            ErrorCode::HeadTooLarge => "head_too_large",
            ErrorCode::VersionNotSupported => "version_not_supported",
            ErrorCode::ExpectationFailed => "expectation_failed",
            ErrorCode::InternalError => "internal_error",
            ErrorCode::NotFound => "not_found",
            ErrorCode::MethodNotAllowed => "method_not_allowed",
            ErrorCode::HostNotLocal => "host_not_local",
            ErrorCode::TokenWrong => "token_wrong",
            ErrorCode::FieldInvalid => "field_invalid",
            ErrorCode::IdempotencyKeyReused => "idempotency_key_reused",
            ErrorCode::OrderExists => "order_exists",
            ErrorCode::ListenAddrNotUsed => "listen_addr_not_used",
            ErrorCode::AdminAddrNotUsed => "admin_addr_not_used",
            ErrorCode::StripeKeyRefused => "stripe_key_refused",
            ErrorCode::StripePermission => "stripe_permission",
            ErrorCode::StripeNotFound => "stripe_not_found",
            ErrorCode::StripeConflict => "stripe_conflict",
            ErrorCode::StripeRefused => "stripe_refused",
            ErrorCode::StripeRateLimited => "stripe_rate_limited",
            ErrorCode::StripeFailed => "stripe_failed",
            ErrorCode::StripeUnreachable => "stripe_unreachable",
            ErrorCode::StripeTimeout => "stripe_timeout",
            ErrorCode::StripeUnreadable => "stripe_unreadable",
            ErrorCode::StripeBusy => "stripe_busy",
            ErrorCode::LogStalled => "log_stalled",
            ErrorCode::LinesDropped(count) => return write!(f, "lines_dropped_{count}"),
            ErrorCode::System(number) => return write!(f, "os_error_{number}"),
            ErrorCode::At(file, line) => return write!(f, "{file}:{line}"),
        })
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A line as it is written: envelope first, then the fields that are known.
#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    level: &'a str,
    message: &'a str,
    #[serde(flatten)]
    fields: &'a LogFields,
}

/// One line of JSON, without its end. `time` is RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn render(level: Level, time: &str, message: Message, fields: &LogFields) -> String {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let message = message.text();
    let line = Line {
        time,
        level,
        message,
        fields,
    };
    // Texts and a number always have a form in JSON.
    serde_json::to_string(&line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_id_that_could_be_personal_is_a_digest() {
        let shown = |text: &str| LogText::order(&OrderId::parse(text).unwrap()).0;
        assert_eq!(&*shown("ord_1001"), "ord_1001");
        assert_eq!(&*shown("2026/11#7"), "2026/11#7");
        let long = "a".repeat(65);
        for personal in ["ada@example.com", "Ada Lovelace", "añada", "a\u{7}b", &long] {
            let text = shown(personal);
            assert!(text.starts_with("sha256:") && text.len() == 19, "{text}");
        }
    }

    #[test]
    fn a_line_is_json_with_the_envelope_and_only_known_fields() {
        let fields = LogFields {
            request_id: Some(RequestId::parse("req-0001").unwrap()),
            status: Some(429),
            error_code: Some(ErrorCode::RateLimited),
            ..LogFields::default()
        };
        let line = render(
            Level::Warn,
            "2026-11-24T05:46:26.000Z",
            Message::RateLimited,
            &fields,
        );
        assert_eq!(
            line,
            r#"{"time":"2026-11-24T05:46:26.000Z","level":"warn","message":"Webhook rate limit exceeded (429)","requestId":"req-0001","status":429,"errorCode":"rate_limited"}"#
        );
    }

    #[test]
    fn the_words_that_operators_search_for_are_pinned() {
        assert_eq!(
            Message::RateLimited.text(),
            "Webhook rate limit exceeded (429)"
        );
        assert_eq!(
            Message::SignatureFailed.text(),
            "Stripe webhook signature verification failed"
        );
        for (code, text) in [
            (ErrorCode::SignatureMissing, "Invalid signature (no header)"),
            (
                ErrorCode::SignatureMalformed,
                "Invalid signature (malformed header)",
            ),
            (ErrorCode::SignatureNoMatch, "Invalid signature (no match)"),
            (ErrorCode::SignatureTooOld, "Invalid signature (too old)"),
        ] {
            assert_eq!(code.to_string(), text);
        }
    }
}
