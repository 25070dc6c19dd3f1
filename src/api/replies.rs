//! The answers to what cannot be done.

use serde_json::json;

use crate::base::id::RequestId;
use crate::base::log_line::{ErrorCode, LogFields, Message};
use crate::http::exchange::Reply;
use crate::stripe::error::{Cause, StripeError, Unreachable, Word};
use crate::truth::new_order::FieldError;

/// The answer to what Stripe did not do: the only table of its statuses.
pub(super) fn of_stripe(error: &StripeError, fields: &LogFields) -> Reply {
    let code = error.error_code();
    match &error.cause {
        Cause::Refused | Cause::NotFound => refused(error, fields),
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

fn refused(error: &StripeError, fields: &LogFields) -> Reply {
    let word = |word: &Option<Word>| word.as_ref().map(|word| word.as_str().to_owned());
    let body = json!({
        "error": "Stripe refused the order",
        "errorCode": error.error_code().to_string(),
        "requestId": fields.request_id.as_ref().map(RequestId::as_str),
        "type": word(&error.kind),
        "code": word(&error.code),
        "param": word(&error.param),
    });
    Reply {
        error_code: Some(error.error_code()),
        ..Reply::json(422, Message::ShopRefused, body.to_string())
    }
}

pub(super) fn failed(status: u16, code: ErrorCode) -> Reply {
    Reply {
        message: Message::RequestFailed,
        ..Reply::error(status, code, code.to_string())
    }
}

/// Every mistake with the path of its field.
pub(super) fn invalid(errors: &[FieldError], fields: &LogFields) -> Reply {
    let body = json!({
        "error": "Invalid order request",
        "errorCode": ErrorCode::FieldInvalid.to_string(),
        "requestId": fields.request_id.as_ref().map(RequestId::as_str),
        "errors": errors,
    });
    Reply {
        error_code: Some(ErrorCode::FieldInvalid),
        ..Reply::json(400, Message::RequestRefused, body.to_string())
    }
}
