//! What is read from the tables.

use rusqlite::Row;

use crate::base::id::{OrderId, StripeId, UnixSeconds};
use crate::truth::delivery::About;
use crate::truth::order::{Dispute, Flag, State, Status};

/// An order as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOrder {
    pub(super) id: i64,
    /// The shop's order id, or the session's id.
    pub name: OrderId,
    /// What its payments make of it.
    pub state: State,
    /// When it last changed, by this host's clock.
    pub updated_at: UnixSeconds,
    /// The number of its last change: greater than that of every change before.
    pub changed: i64,
    /// What its payments add up to, as JSON; none with one payment or without any.
    pub(super) totals: Option<String>,
}

/// One step of an order's story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, by this host's clock.
    pub at: UnixSeconds,
    /// `None` when the order was first heard of.
    pub from: Option<Status>,
    /// The status after it; this and the next four.
    pub to: Status,
    /// See [`State::dispute`].
    pub dispute: Dispute,
    /// See [`State::amount`].
    pub amount: i64,
    /// See [`State::refunded`].
    pub refunded: i64,
    /// See [`State::flags`].
    pub flags: Vec<Flag>,
    /// The event that told.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// The request that brought it; none when we fetched it ourselves.
    pub request_id: Option<String>,
}

/// One event of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Order of arrival.
    pub seq: i64,
    /// `evt_…`
    pub id: String,
    /// Stripe's name for what happened.
    pub kind: String,
    /// When Stripe made it.
    pub created: Option<UnixSeconds>,
    /// When it came, by this host's clock.
    pub received_at: UnixSeconds,
    /// The object that it is about.
    pub object: Option<String>,
    /// What it did when it came.
    pub outcome: String,
    /// Why it was ignored, if it was.
    pub reason: Option<String>,
    /// The request that brought it; none when we fetched it ourselves.
    pub request_id: Option<String>,
    /// SHA-256 of its body, in hex.
    pub sha256: String,
    /// The order that it belongs to, as far as is known now.
    pub order: Option<String>,
}

/// What `StoredOrder::read` expects, in this order.
pub(super) const ORDER_COLUMNS: &str =
    "id, name, status, dispute, amount, refunded, currency, flags,
     session, intent, created, updated_at, changed, pending, disputed, lost, reference, totals";

/// What `StoredEvent::read` expects, in this order.
pub(super) const EVENT_COLUMNS: &str =
    "seq, id, type, created, received_at, object, outcome, reason, request_id, sha256";

/// A value in a row that we did not write.
pub(super) const UNREADABLE: rusqlite::Error = rusqlite::Error::InvalidQuery;

impl StoredOrder {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<StoredOrder> {
        let text = |index| row.get::<_, Option<String>>(index);
        let stripe_id = |index| {
            let id = text(index)?.map(|text| StripeId::parse(&text));
            id.transpose().map_err(|_| UNREADABLE)
        };
        Ok(StoredOrder {
            id: row.get(0)?,
            name: OrderId::stored(row.get(1)?),
            state: State {
                status: Status::parse(row.get_ref(2)?.as_str()?).ok_or(UNREADABLE)?,
                dispute: Dispute::parse(row.get_ref(3)?.as_str()?).ok_or(UNREADABLE)?,
                amount: row.get(4)?,
                refunded: row.get(5)?,
                currency: text(6)?.map(Into::into),
                flags: Flag::parse_list(row.get_ref(7)?.as_str()?),
                session: stripe_id(8)?,
                intent: stripe_id(9)?,
                since: UnixSeconds(row.get(10)?),
                pending: row.get(13)?,
                disputed: row.get(14)?,
                lost: row.get(15)?,
                reference: text(16)?.map(OrderId::stored),
            },
            updated_at: UnixSeconds(row.get(11)?),
            changed: row.get(12)?,
            totals: row.get(17)?,
        })
    }

    pub(super) fn about(&self) -> About {
        About {
            order: self.name.clone(),
            session: self.state.session.clone(),
        }
    }
}

impl StoredEvent {
    /// Without its order, which is found by its object.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
        Ok(StoredEvent {
            seq: row.get(0)?,
            id: row.get(1)?,
            kind: row.get(2)?,
            created: row.get::<_, Option<i64>>(3)?.map(UnixSeconds),
            received_at: UnixSeconds(row.get(4)?),
            object: row.get(5)?,
            outcome: row.get(6)?,
            reason: row.get(7)?,
            request_id: row.get(8)?,
            sha256: hex::encode(row.get_ref(9)?.as_blob()?),
            order: None,
        })
    }
}
