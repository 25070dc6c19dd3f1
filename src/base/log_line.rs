//! What may be logged: six fields, and messages and codes from two fixed lists.
//!
//! The allow-list is a type. [`LogFields`] has no `String`, and no header, body or formatted text fits
//! into a line, so no careless edit can log anything personal:
//!
//! ```compile_fail
//! use paidup::base::log_line::LogFields;
//! let fields = LogFields { email: Some("ada@example.com"), ..LogFields::default() }; // no such field
//! ```
//!
//! ```compile_fail
//! use paidup::base::log_line::{LogFields, Message, render};
//! let message = format!("order of {}", "ada@example.com");
//! render("2026-11-24T05:46:26.000Z", &message, &LogFields::default()); // not a Message
//! ```

use std::fmt;

use log::Level;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::id::{OrderId, RequestId, StripeId};

/// Text that may be logged: an identifier that cannot be personal, or a short digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogText(Box<str>);

impl LogText {
    /// Longest order id that is shown as it is, in characters.
    const SHOWN_MAX_CHARS: usize = 64;

    /// An order id, or `sha256:` and 12 hex digits of its SHA-256 when it could be personal: it has
    /// an `@`, white space, a control or non-ASCII character, or is over 64 characters long.
    #[must_use]
    pub(crate) fn order(id: &OrderId) -> LogText {
        let text = id.as_str();
        let plain = |c: char| c.is_ascii_graphic() && c != '@';
        if text.len() <= Self::SHOWN_MAX_CHARS && text.chars().all(plain) {
            return LogText(text.into());
        }
        let mut digest = hex::encode(Sha256::digest(text.as_bytes()));
        digest.truncate(12);
        LogText(format!("sha256:{digest}").into())
    }
}

impl From<&StripeId> for LogText {
    fn from(id: &StripeId) -> LogText {
        LogText(id.as_str().into())
    }
}

/// The fields of a log line: these six and no others.
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
#[expect(
    missing_docs,
    reason = "each variant is its level and text, in `row` below"
)]
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
    /// A look at the health or the metrics.
    HealthServed,
    RequestRefused,
    RequestFailed,
    /// `/readyz` says no.
    NotReady,
    // A delivery
    WebhookApplied,
    WebhookDuplicate,
    WebhookIgnored,
    WebhookParked,
    /// Not a delivery as HTTP has it: too large, too slow, without a length.
    WebhookRefused,
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
    /// The shop's back end is refused: somebody should look at its token or its order.
    ShopRefused,
    // What the shop is told
    OrderTold,
    OrderNotTold,
    DestinationDown,
    DestinationUp,
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
    pub(crate) fn text(self) -> &'static str {
        self.row().1
    }

    /// How much it matters.
    pub(crate) fn level(self) -> Level {
        self.row().0
    }

    fn row(self) -> (Level, &'static str) {
        use Level::{Debug, Error, Info, Warn};
        match self {
            Message::Ready => (Info, "Ready"),
            Message::Stopping => (Info, "Stopping: serving what was accepted"),
            Message::Stopped => (Info, "Stopped"),
            Message::AddressNotUsed => (
                Warn,
                "Address not used: the service manager passes sockets, and they count",
            ),
            Message::StoreBroken => (
                Error,
                "Database failed: stopping, because what is on disk is not known",
            ),
            Message::StoreReplaced => (
                Error,
                "Database files were deleted or replaced: nothing is stored. Stop, paidup restore, start",
            ),
            Message::AcceptFailed => (Error, "Cannot accept connections"),
            Message::LinesDropped => (
                Error,
                "Log lines dropped: whoever reads the log stood still",
            ),
            Message::Panicked => (Error, "Panic"),
            Message::RequestServed => (Info, "Request served"),
            Message::HealthServed => (Debug, "Request served"),
            Message::RequestRefused => (Info, "Request refused"),
            Message::RequestFailed => (Error, "Request failed"),
            Message::NotReady => (Warn, "Request failed"),
            Message::WebhookApplied => (Info, "Webhook applied"),
            Message::WebhookDuplicate => (Info, "Webhook duplicate"),
            Message::WebhookIgnored => (Info, "Webhook ignored"),
            Message::WebhookParked => (Info, "Webhook parked: its order is not known yet"),
            Message::WebhookRefused => (Warn, "Webhook refused"),
            Message::ThinEventIgnored => (Warn, "Webhook ignored: thin event (thin_event_ignored)"),
            Message::OtherModeIgnored => (Warn, "Webhook ignored: other mode than STRIPE_MODE"),
            Message::NoSaleIgnored => (Info, "Webhook ignored: it sells nothing"),
            Message::OtherShopIgnored => (Info, "Webhook ignored: another shop's, says OUR_ORDERS"),
            Message::AccountEventIgnored => (Warn, "Webhook ignored: event of a connected account"),
            Message::SignatureFailed => (Warn, "Stripe webhook signature verification failed"),
            Message::RateLimited => (Warn, "Webhook rate limit exceeded (429)"),
            Message::EventUnreadable => (Error, "Stripe webhook event could not be read"),
            Message::StoreUnavailable => (Error, "Webhook not stored: Stripe will retry"),
            Message::ApiVersionDiffers => (
                Warn,
                "Event has another API release than STRIPE_API_VERSION",
            ),
            Message::ClockBehind => (Warn, "Clock is behind Stripe's: check timedatectl"),
            Message::ProxyNamesNobody => (
                Warn,
                "Proxy names no client: all share one rate limit, so set X-Forwarded-For there",
            ),
            Message::OrderIdTooLong => (Warn, "Order id over 200 characters is not used"),
            Message::CheckoutMade => (Info, "Checkout Session made"),
            Message::NotRefreshed => (Warn, "Order not refreshed: Stripe cannot be asked"),
            Message::ShopRefused => (Warn, "Request refused"),
            Message::OrderTold => (Info, "Shop told of an order"),
            Message::OrderNotTold => (Warn, "Shop not told of an order: paidup tries again"),
            Message::DestinationDown => (Error, "Shop cannot be told: paidup tries on"),
            Message::DestinationUp => (Info, "Shop can be told again"),
            Message::OrderPending => (Info, "Order pending"),
            Message::OrderAuthorized => (Info, "Order authorized"),
            Message::OrderProcessing => (Info, "Order processing"),
            Message::OrderPaid => (Info, "Order paid"),
            Message::OrderPartiallyRefunded => (Info, "Order partially refunded"),
            Message::OrderRefunded => (Info, "Order refunded"),
            Message::OrderRefundReversed => (Info, "Order refund failed: paid again"),
            Message::OrderFailed => (Info, "Order payment failed"),
            Message::OrderCanceled => (Info, "Order canceled"),
            Message::OrderExpired => (Info, "Order expired"),
            Message::OrderRenamed => (Info, "Order took its real name"),
            Message::DisputeOpened => (Warn, "Order dispute opened"),
            Message::DisputeWon => (Info, "Order dispute won"),
            Message::DisputeLost => (Warn, "Order dispute lost"),
            Message::DisputeClosed => (Info, "Order dispute closed"),
            Message::DoublePayment => (Warn, "Order paid twice"),
            Message::AmountMismatch => (Warn, "Order paid with another amount"),
            Message::CurrencyMismatch => (Warn, "Order paid in another currency"),
            Message::NameConflict => (Warn, "Payment names two orders"),
            Message::FraudWarning => (Warn, "Order has a fraud warning"),
            Message::InReview => (Warn, "Order payment is in review"),
            Message::FailedAfterPaid => (Warn, "Order payment failed after it was paid"),
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
    QueryTimeout,
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
    CrossSite,
    TokenWrong,
    PasswordWrong,
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
    NotifyRefused,
    NotifyBusy,
    NotifyUnreachable,
    NotifyTimeout,
    NotifyTls,
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
            ErrorCode::QueryTimeout => "query_timeout",
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
            ErrorCode::CrossSite => "cross_site",
            ErrorCode::TokenWrong => "token_wrong",
            ErrorCode::PasswordWrong => "password_wrong",
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
            ErrorCode::NotifyRefused => "notify_refused",
            ErrorCode::NotifyBusy => "notify_busy",
            ErrorCode::NotifyUnreachable => "notify_unreachable",
            ErrorCode::NotifyTimeout => "notify_timeout",
            ErrorCode::NotifyTls => "notify_tls",
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
struct LogLine<'a> {
    time: &'a str,
    level: &'a str,
    message: &'a str,
    #[serde(flatten)]
    fields: &'a LogFields,
}

/// One line of JSON, without its end. `time` is RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn render(time: &str, message: Message, fields: &LogFields) -> String {
    let level = match message.level() {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let line = LogLine {
        time,
        level,
        message: message.text(),
        fields,
    };
    // Strings and a number can always be written as JSON.
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
        let line = render("2026-11-24T05:46:26.000Z", Message::RateLimited, &fields);
        assert_eq!(
            line,
            r#"{"time":"2026-11-24T05:46:26.000Z","level":"warn","message":"Webhook rate limit exceeded (429)","requestId":"req-0001","status":429,"errorCode":"rate_limited"}"#
        );
    }

    /// Alerts match these texts and levels. A change here is a breaking change, and belongs in the
    /// changelog.
    #[test]
    fn every_message_has_its_level_and_its_text() {
        let pinned = [
            (Message::Ready, "info", "Ready"),
            (
                Message::Stopping,
                "info",
                "Stopping: serving what was accepted",
            ),
            (Message::Stopped, "info", "Stopped"),
            (
                Message::AddressNotUsed,
                "warn",
                "Address not used: the service manager passes sockets, and they count",
            ),
            (
                Message::StoreBroken,
                "error",
                "Database failed: stopping, because what is on disk is not known",
            ),
            (
                Message::StoreReplaced,
                "error",
                "Database files were deleted or replaced: nothing is stored. Stop, paidup restore, start",
            ),
            (Message::AcceptFailed, "error", "Cannot accept connections"),
            (
                Message::LinesDropped,
                "error",
                "Log lines dropped: whoever reads the log stood still",
            ),
            (Message::Panicked, "error", "Panic"),
            (Message::RequestServed, "info", "Request served"),
            (Message::HealthServed, "debug", "Request served"),
            (Message::RequestRefused, "info", "Request refused"),
            (Message::RequestFailed, "error", "Request failed"),
            (Message::NotReady, "warn", "Request failed"),
            (Message::WebhookApplied, "info", "Webhook applied"),
            (Message::WebhookDuplicate, "info", "Webhook duplicate"),
            (Message::WebhookIgnored, "info", "Webhook ignored"),
            (
                Message::WebhookParked,
                "info",
                "Webhook parked: its order is not known yet",
            ),
            (Message::WebhookRefused, "warn", "Webhook refused"),
            (
                Message::ThinEventIgnored,
                "warn",
                "Webhook ignored: thin event (thin_event_ignored)",
            ),
            (
                Message::OtherModeIgnored,
                "warn",
                "Webhook ignored: other mode than STRIPE_MODE",
            ),
            (
                Message::NoSaleIgnored,
                "info",
                "Webhook ignored: it sells nothing",
            ),
            (
                Message::OtherShopIgnored,
                "info",
                "Webhook ignored: another shop's, says OUR_ORDERS",
            ),
            (
                Message::AccountEventIgnored,
                "warn",
                "Webhook ignored: event of a connected account",
            ),
            (
                Message::SignatureFailed,
                "warn",
                "Stripe webhook signature verification failed",
            ),
            (
                Message::RateLimited,
                "warn",
                "Webhook rate limit exceeded (429)",
            ),
            (
                Message::EventUnreadable,
                "error",
                "Stripe webhook event could not be read",
            ),
            (
                Message::StoreUnavailable,
                "error",
                "Webhook not stored: Stripe will retry",
            ),
            (
                Message::ApiVersionDiffers,
                "warn",
                "Event has another API release than STRIPE_API_VERSION",
            ),
            (
                Message::ClockBehind,
                "warn",
                "Clock is behind Stripe's: check timedatectl",
            ),
            (
                Message::ProxyNamesNobody,
                "warn",
                "Proxy names no client: all share one rate limit, so set X-Forwarded-For there",
            ),
            (
                Message::OrderIdTooLong,
                "warn",
                "Order id over 200 characters is not used",
            ),
            (Message::CheckoutMade, "info", "Checkout Session made"),
            (
                Message::NotRefreshed,
                "warn",
                "Order not refreshed: Stripe cannot be asked",
            ),
            (Message::ShopRefused, "warn", "Request refused"),
            (Message::OrderTold, "info", "Shop told of an order"),
            (
                Message::OrderNotTold,
                "warn",
                "Shop not told of an order: paidup tries again",
            ),
            (
                Message::DestinationDown,
                "error",
                "Shop cannot be told: paidup tries on",
            ),
            (Message::DestinationUp, "info", "Shop can be told again"),
            (Message::OrderPending, "info", "Order pending"),
            (Message::OrderAuthorized, "info", "Order authorized"),
            (Message::OrderProcessing, "info", "Order processing"),
            (Message::OrderPaid, "info", "Order paid"),
            (
                Message::OrderPartiallyRefunded,
                "info",
                "Order partially refunded",
            ),
            (Message::OrderRefunded, "info", "Order refunded"),
            (
                Message::OrderRefundReversed,
                "info",
                "Order refund failed: paid again",
            ),
            (Message::OrderFailed, "info", "Order payment failed"),
            (Message::OrderCanceled, "info", "Order canceled"),
            (Message::OrderExpired, "info", "Order expired"),
            (Message::OrderRenamed, "info", "Order took its real name"),
            (Message::DisputeOpened, "warn", "Order dispute opened"),
            (Message::DisputeWon, "info", "Order dispute won"),
            (Message::DisputeLost, "warn", "Order dispute lost"),
            (Message::DisputeClosed, "info", "Order dispute closed"),
            (Message::DoublePayment, "warn", "Order paid twice"),
            (
                Message::AmountMismatch,
                "warn",
                "Order paid with another amount",
            ),
            (
                Message::CurrencyMismatch,
                "warn",
                "Order paid in another currency",
            ),
            (Message::NameConflict, "warn", "Payment names two orders"),
            (Message::FraudWarning, "warn", "Order has a fraud warning"),
            (Message::InReview, "warn", "Order payment is in review"),
            (
                Message::FailedAfterPaid,
                "warn",
                "Order payment failed after it was paid",
            ),
        ];
        for (place, (message, level, text)) in pinned.into_iter().enumerate() {
            assert_eq!(message as usize, place, "each once, in the enum's order");
            let line = render("2026-11-24T05:46:26.000Z", message, &LogFields::default());
            let expected = format!(
                r#"{{"time":"2026-11-24T05:46:26.000Z","level":"{level}","message":"{text}"}}"#
            );
            assert_eq!(line, expected);
        }
        assert_eq!(pinned.len(), Message::FailedAfterPaid as usize + 1, "all");
    }

    #[test]
    fn the_codes_that_operators_search_for_are_pinned() {
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
