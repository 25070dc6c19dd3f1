//! An order as JSON: the same for `paidup orders` and for `GET /orders`.

use serde::Serialize;
use serde_json::Value;

use crate::base::id::{OrderId, StripeId};
use crate::base::time;
use crate::store::{Change, StoredOrder};
use crate::truth::order::{DisputeState, Flag, Status};

/// An order, with its story or, where `changes` is none, without it.
#[must_use]
pub fn order_json(order: &StoredOrder, changes: Option<&[Change]>) -> Value {
    serde_json::to_value(OrderJson::new(order, changes)).unwrap_or_default()
}

/// An order for programs, in the order of its fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderJson<'a> {
    order_id: &'a str,
    status: Status,
    dispute: DisputeState,
    amount: i64,
    amount_refunded: i64,
    amount_refund_pending: i64,
    amount_disputed: i64,
    amount_kept: i64,
    currency: Option<&'a str>,
    stripe_session_id: Option<&'a str>,
    stripe_payment_intent_id: Option<&'a str>,
    flags: &'a [Flag],
    reference: Option<&'a str>,
    created_at: String,
    updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<Vec<ChangeJson<'a>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangeJson<'a> {
    at: String,
    from: Option<Status>,
    to: Status,
    dispute: DisputeState,
    amount: i64,
    amount_refunded: i64,
    flags: &'a [Flag],
    event_id: &'a str,
    event_type: &'a str,
    request_id: Option<&'a str>,
}

impl<'a> OrderJson<'a> {
    pub(crate) fn new(order: &'a StoredOrder, changes: Option<&'a [Change]>) -> OrderJson<'a> {
        let state = &order.state;
        OrderJson {
            order_id: order.name.as_str(),
            status: state.status,
            dispute: state.dispute,
            amount: state.amount,
            amount_refunded: state.refunded,
            amount_refund_pending: state.pending,
            amount_disputed: state.disputed,
            amount_kept: if state.status.is_paid() {
                state.kept()
            } else {
                0
            },
            currency: state.currency.as_deref(),
            stripe_session_id: state.session.as_ref().map(StripeId::as_str),
            stripe_payment_intent_id: state.intent.as_ref().map(StripeId::as_str),
            flags: &state.flags,
            reference: state.reference.as_ref().map(OrderId::as_str),
            created_at: time::rfc3339(state.since),
            updated_at: time::rfc3339(order.updated_at),
            history: changes.map(|changes| changes.iter().map(ChangeJson::new).collect()),
        }
    }
}

impl<'a> ChangeJson<'a> {
    fn new(change: &'a Change) -> ChangeJson<'a> {
        ChangeJson {
            at: time::rfc3339(change.at),
            from: change.from,
            to: change.to,
            dispute: change.dispute,
            amount: change.amount,
            amount_refunded: change.refunded,
            flags: &change.flags,
            event_id: &change.event_id,
            event_type: &change.event_type,
            request_id: change.request_id.as_deref(),
        }
    }
}
