//! The rows of `orders`, of `change` (their stories) and of `gone` (names that are no more).

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StoreError;
use super::error::UNREADABLE;
use crate::base::id::{OrderId, RequestId, StripeId, UnixSeconds};
use crate::truth::delivery::{About, Delivery};
use crate::truth::order::{DisputeState, Flag, State, Status};
use crate::truth::totals::Totals;

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
    /// The number of its last change: greater than that of every earlier change.
    pub changed: i64,
    /// What its payments add up to, as JSON; `None` with one payment or without any.
    pub(super) totals: Option<String>,
    /// The quarter of an hour in whose takings it is counted; `None` while it has taken no money.
    pub(super) counted: Option<UnixSeconds>,
}

/// One step of an order's story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, by this host's clock.
    pub at: UnixSeconds,
    /// `None` when the order was first heard of.
    pub from: Option<Status>,
    /// The status after the change, as are the next four.
    pub to: Status,
    /// See [`State::dispute`].
    pub dispute: DisputeState,
    /// See [`State::amount`].
    pub amount: i64,
    /// See [`State::refunded`].
    pub refunded: i64,
    /// See [`State::flags`].
    pub flags: Vec<Flag>,
    /// The event that caused it.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// The request that brought it; `None` when we fetched it ourselves.
    pub request_id: Option<String>,
}

/// Change numbers in one second. With 32 bits of seconds they stay below 2^53, which JavaScript needs.
pub(super) const NUMBERS_A_SECOND: i64 = 1 << 20;

/// What `StoredOrder::read` expects, in this order.
pub(super) const ORDER_COLUMNS: &str =
    "id, name, status, dispute, amount, refunded, currency, flags,
     session, intent, created, updated_at, changed, pending, disputed, lost, reference, totals, counted";

/// What `Change::read` expects, in this order.
pub(super) const CHANGE_COLUMNS: &str = "at, from_status, to_status, dispute, amount, refunded, flags, \
     event_id, event_type, request_id";

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
                dispute: DisputeState::parse(row.get_ref(3)?.as_str()?).ok_or(UNREADABLE)?,
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
            counted: row.get::<_, Option<i64>>(18)?.map(UnixSeconds),
        })
    }

    pub(super) fn about(&self) -> About {
        About {
            order: self.name.clone(),
            session: self.state.session.clone(),
        }
    }
}

impl Change {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Change> {
        let from = row.get::<_, Option<String>>(1)?;
        let from = from.map(|from| Status::parse(&from).ok_or(UNREADABLE));
        Ok(Change {
            at: UnixSeconds(row.get(0)?),
            from: from.transpose()?,
            to: Status::parse(row.get_ref(2)?.as_str()?).ok_or(UNREADABLE)?,
            dispute: DisputeState::parse(row.get_ref(3)?.as_str()?).ok_or(UNREADABLE)?,
            amount: row.get(4)?,
            refunded: row.get(5)?,
            flags: Flag::parse_list(row.get_ref(6)?.as_str()?),
            event_id: row.get(7)?,
            event_type: row.get(8)?,
            request_id: row.get(9)?,
        })
    }
}

pub(super) fn by_name(db: &Connection, name: &str) -> Result<Option<StoredOrder>, StoreError> {
    let sql = format!("SELECT {ORDER_COLUMNS} FROM orders WHERE name = ?1");
    let mut find = db.prepare_cached(&sql)?;
    Ok(find.query_row([name], StoredOrder::read).optional()?)
}

pub(super) fn by_id(db: &Connection, id: i64) -> Result<StoredOrder, StoreError> {
    let sql = format!("SELECT {ORDER_COLUMNS} FROM orders WHERE id = ?1");
    let mut find = db.prepare_cached(&sql)?;
    Ok(find.query_row([id], StoredOrder::read)?)
}

/// The number of a change at `at`: greater than every earlier one, and not below the clock.
///
/// After more than a million changes in one second, or while the clock goes back, the numbers run
/// ahead of the clock. A clock before 1970 or after 2106 is ignored.
pub(super) fn next_change(db: &Connection, at: UnixSeconds) -> Result<i64, StoreError> {
    let seconds = u32::try_from(at.0).unwrap_or_default();
    let clock = i64::from(seconds) * NUMBERS_A_SECOND;
    let mut next = db.prepare_cached("SELECT max(?1, number + 1) FROM last_number")?;
    Ok(next.query_row([clock], |row| row.get(0))?)
}

pub(super) fn insert(
    db: &Connection,
    name: &OrderId,
    state: State,
    counted: Option<UnixSeconds>,
    updated_at: UnixSeconds,
) -> Result<StoredOrder, StoreError> {
    let mut statement = db.prepare_cached(
        "INSERT INTO orders (name, status, dispute, amount, refunded, currency, flags, session,
                             intent, created, updated_at, changed, pending, disputed, lost, reference,
                             counted)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
    )?;
    let changed = next_change(db, updated_at)?;
    let id = statement.insert(params![
        name.as_str(),
        state.status.as_str(),
        state.dispute.as_str(),
        state.amount,
        state.refunded,
        state.currency,
        Flag::join_list(&state.flags),
        state.session.as_ref().map(StripeId::as_str),
        state.intent.as_ref().map(StripeId::as_str),
        state.since.0,
        updated_at.0,
        changed,
        state.pending,
        state.disputed,
        state.lost,
        state.reference.as_ref().map(OrderId::as_str),
        counted.map(|at| at.0),
    ])?;
    Ok(StoredOrder {
        id,
        name: name.clone(),
        totals: None,
        counted,
        state,
        updated_at,
        changed,
    })
}

/// Writes the order's new state, and returns it with the number of this change.
pub(super) fn update(db: &Connection, order: StoredOrder) -> Result<StoredOrder, StoreError> {
    let mut statement = db.prepare_cached(
        "UPDATE orders SET status = ?2, dispute = ?3, amount = ?4, refunded = ?5, currency = ?6,
                           flags = ?7, session = ?8, intent = ?9, created = ?10, updated_at = ?11,
                           changed = ?12, pending = ?13, disputed = ?14, lost = ?15, reference = ?16
         WHERE id = ?1",
    )?;
    let changed = next_change(db, order.updated_at)?;
    let state = &order.state;
    statement.execute(params![
        order.id,
        state.status.as_str(),
        state.dispute.as_str(),
        state.amount,
        state.refunded,
        state.currency,
        Flag::join_list(&state.flags),
        state.session.as_ref().map(StripeId::as_str),
        state.intent.as_ref().map(StripeId::as_str),
        state.since.0,
        order.updated_at.0,
        changed,
        state.pending,
        state.disputed,
        state.lost,
        state.reference.as_ref().map(OrderId::as_str),
    ])?;
    Ok(StoredOrder { changed, ..order })
}

/// Writes what an order's payments add up to, and where it is counted.
pub(super) fn update_sums(
    db: &Connection,
    id: i64,
    totals: Option<&str>,
    counted: Option<UnixSeconds>,
) -> Result<(), StoreError> {
    let mut update =
        db.prepare_cached("UPDATE orders SET totals = ?2, counted = ?3 WHERE id = ?1")?;
    update.execute(params![id, totals, counted.map(|at| at.0)])?;
    Ok(())
}

/// Totals as the table has them: an order with one payment needs none.
pub(super) fn in_json(totals: &Totals) -> Result<Option<String>, StoreError> {
    if totals.payments() < 2 {
        return Ok(None);
    }
    let json = serde_json::to_string(totals).map_err(|_| StoreError::Unreadable)?;
    Ok(Some(json))
}

/// Gives the order another name.
pub(super) fn rename(db: &Connection, id: i64, name: &OrderId) -> Result<(), StoreError> {
    let mut rename = db.prepare_cached("UPDATE orders SET name = ?2 WHERE id = ?1")?;
    rename.execute(params![id, name.as_str()])?;
    Ok(())
}

/// Marks the order as changed, so that whoever polls for changes sees it again.
pub(super) fn show_as_changed(
    db: &Connection,
    id: i64,
    at: UnixSeconds,
) -> Result<StoredOrder, StoreError> {
    let changed = next_change(db, at)?;
    db.prepare_cached("UPDATE orders SET updated_at = ?2, changed = ?3 WHERE id = ?1")?
        .execute(params![id, at.0, changed])?;
    by_id(db, id)
}

/// Removes an order that was only another name for `to`, which takes its story.
pub(super) fn absorb(
    db: &Connection,
    order: &StoredOrder,
    to: &StoredOrder,
) -> Result<(), StoreError> {
    // An event that changed both orders keeps its change of the one that stays.
    db.prepare_cached("UPDATE OR IGNORE change SET order_id = ?2 WHERE order_id = ?1")?
        .execute([order.id, to.id])?;
    db.prepare_cached("DELETE FROM change WHERE order_id = ?1")?
        .execute([order.id])?;
    db.prepare_cached("DELETE FROM orders WHERE id = ?1")?
        .execute([order.id])?;
    // A trigger has just written the row of `gone`, without what the order became.
    let sql = "UPDATE gone SET became = ?2 WHERE changed = (SELECT max(changed) FROM gone)
               AND name = ?1";
    db.prepare_cached(sql)?
        .execute(params![order.name.as_str(), to.name.as_str()])?;
    Ok(())
}

/// Adds a step to the order's story.
pub(super) fn insert_change(
    db: &Connection,
    order: &StoredOrder,
    from: Option<Status>,
    delivery: &Delivery,
    seq: i64,
) -> Result<(), StoreError> {
    let mut statement = db.prepare_cached(
        "INSERT INTO change (order_id, seq, at, from_status, to_status, dispute, amount, refunded,
                             flags, event_id, event_type, request_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    statement.execute(params![
        order.id,
        seq,
        delivery.received.0,
        from.map(Status::as_str),
        order.state.status.as_str(),
        order.state.dispute.as_str(),
        order.state.amount,
        order.state.refunded,
        Flag::join_list(&order.state.flags),
        delivery.event.id.as_str(),
        delivery.event.kind,
        delivery.request_id.as_ref().map(RequestId::as_str),
    ])?;
    Ok(())
}
