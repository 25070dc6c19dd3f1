//! What one delivery does to the tables: its event goes into the ledger, its fact to the payment that it
//! belongs to, and the orders of that payment are computed anew.

use std::collections::BTreeSet;

use log::Level;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::feed::{self, next_change};
use super::rows::{ORDER_COLUMNS, UNREADABLE};
use super::{StoreError, StoredOrder, checkout, object};
use crate::base::id::{OrderId, RequestId, StripeId, UnixSeconds};
use crate::base::log_line::Message;
use crate::truth::delivery::{Delivery, News, Outcome, Receipt};
use crate::truth::event::{Ignored, Meaning};
use crate::truth::fact::Fact;
use crate::truth::names::Belongs;
use crate::truth::order::{Flag, State, Status};
use crate::truth::payment::Payment;
use crate::truth::reading::Mode;
use crate::truth::totals::{Share, Totals};

/// One delivery inside its savepoint. `mode` is that of the file: the first event that is of one
/// settles it.
pub(super) fn record_one(
    db: &Connection,
    delivery: &Delivery,
    mode: &mut Option<Mode>,
) -> Result<Receipt, StoreError> {
    let known = ledgered(db, &delivery.event.id)?;
    let seq = known.as_ref().map(|(seq, _)| *seq);
    let event = &delivery.event;
    let of_other_mode = event
        .mode
        .is_some_and(|of| mode.is_some_and(|mode| mode != of));
    let known = known.as_ref().map(|(_, outcome)| outcome.as_str());
    match (&event.meaning, known) {
        (Meaning::Fact(_), None | Some("ignored")) if of_other_mode => {
            ignore(db, delivery, seq, Ignored::Mode)
        }
        // What was ignored once may be of use today: other settings, a newer paidup.
        (Meaning::Fact(fact), None | Some("ignored")) => {
            if mode.is_none() && !event.is_sample() {
                *mode = event.mode;
                super::settle_mode(db, event.mode)?;
            }
            apply(db, delivery, seq, fact)
        }
        (Meaning::Ignored(why), None) => ignore(db, delivery, None, *why),
        (Meaning::Fact(_) | Meaning::Ignored(_), Some(_)) => Ok(Receipt {
            outcome: Outcome::Duplicate,
            about: None,
            news: Vec::new(),
        }),
    }
}

fn ignore(
    db: &Connection,
    delivery: &Delivery,
    seq: Option<i64>,
    why: Ignored,
) -> Result<Receipt, StoreError> {
    let outcome = Outcome::Ignored(why);
    write_ledger(db, delivery, seq, outcome, None)?;
    Ok(Receipt {
        outcome,
        about: None,
        news: Vec::new(),
    })
}

/// A payment as it stands in the file.
pub(super) struct StoredPayment {
    id: i64,
    order_id: Option<i64>,
    facts: Payment,
}

/// Where a payment belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// To this order.
    Order(OrderId),
    /// That is not known yet.
    Unknown,
    /// To another shop that shares the account.
    OtherShop,
}

impl Home {
    /// What the shop asked for is binding: an order of `POST /orders` is paid by the session that was
    /// made for it, and another payment that names it is an order of its own; or it waits, while it has
    /// no session that it could be called after.
    pub(super) fn of(db: &Connection, payment: &Payment) -> Result<Home, StoreError> {
        if let Some(order) = checkout::order_of(db, payment.sessions())? {
            return Ok(Home::Order(order));
        }
        match payment.belongs() {
            Some(Belongs::Unknown) => return Ok(Home::Unknown),
            Some(Belongs::Other) => return Ok(Home::OtherShop),
            Some(Belongs::Ours) | None => {}
        }
        let name = payment.order();
        let is_of_another = match &name {
            Some(name) => !payment.is_made_here() && checkout::is_asked_for(db, name)?,
            None => false,
        };
        let name = if is_of_another {
            payment.own_name()
        } else {
            name
        };
        Ok(name.map_or(Home::Unknown, Home::Order))
    }
}

/// Joins the fact to the payments that it touches, and computes anew the orders that they are for.
fn apply(
    db: &Connection,
    delivery: &Delivery,
    seq: Option<i64>,
    fact: &Fact,
) -> Result<Receipt, StoreError> {
    let touched = payments_of(db, fact)?;
    let mut joined = Payment::default();
    for payment in &touched {
        joined.join(payment.facts.clone());
    }
    joined.learn(fact.clone());
    // What was ours once stays ours, whatever the settings say today.
    if touched.iter().any(|payment| payment.order_id.is_some()) {
        joined.keep();
    }
    let known = match touched.as_slice() {
        [payment] if payment.facts == joined => Some(payment),
        _ => None,
    };
    let home = Home::of(db, &joined)?;
    let outcome = match (known, &home) {
        (_, Home::OtherShop) => Outcome::Ignored(Ignored::OtherShop),
        (Some(_), Home::Order(_) | Home::Unknown) => Outcome::Duplicate,
        (None, Home::Order(_)) => Outcome::Applied,
        (None, Home::Unknown) => Outcome::Parked,
    };
    let seq = write_ledger(db, delivery, seq, outcome, Some(fact))?;
    if let Some(payment) = known {
        let about = payment
            .order_id
            .map(|id| order_by_id(db, id))
            .transpose()?
            .map(|order| order.about());
        return Ok(Receipt {
            outcome,
            about,
            news: Vec::new(),
        });
    }

    let step = Step { db, delivery, seq };
    let mut news = Vec::new();
    let order = match &home {
        Home::Order(name) => {
            let share = Share::of(&joined, name);
            let order = step.write_order(name, &touched, &share, &mut news)?;
            Some((order, share))
        }
        Home::Unknown | Home::OtherShop => None,
    };
    step.write_payment(
        fact,
        &touched,
        &joined,
        order.as_ref().map(|(order, share)| (order.id, share)),
        home == Home::OtherShop,
    )?;
    let order = order.map(|(order, _)| order);
    let left = touched
        .iter()
        .filter_map(|payment| payment.order_id)
        .collect::<BTreeSet<_>>();
    for id in left {
        if order.as_ref().is_none_or(|order| order.id != id) {
            step.leave_order(id, &touched, order.as_ref(), &mut news)?;
        }
    }
    if let Some(order) = &order {
        step.contest(order, &mut news)?;
    }
    Ok(Receipt {
        outcome,
        about: order.map(|order| order.about()),
        news,
    })
}

/// The writes of one delivery that tells something new.
struct Step<'a> {
    db: &'a Connection,
    delivery: &'a Delivery,
    /// Of the event in the ledger.
    seq: i64,
}

impl Step<'_> {
    /// Computes the order anew, from the new `share` and what the payments that it had besides
    /// `touched` add up to. An order that had only these payments and another name takes the new name.
    fn write_order(
        &self,
        name: &OrderId,
        touched: &[StoredPayment],
        share: &Share,
        news: &mut Vec<News>,
    ) -> Result<StoredOrder, StoreError> {
        let mut before = order_by_name(self.db, name.as_str())?;
        if before.is_none() {
            before = self.rename_order(name, touched, news)?;
        }
        let mut rest = match &before {
            Some(order) => Rest::of(self.db, order, touched)?,
            None => Rest::default(),
        };
        let since = match (&before, &rest.main) {
            (Some(order), Some(_)) => order.state.since.min(share.since()),
            (Some(_) | None, _) => share.since(),
        };
        rest.totals.add(share);
        let main = share.clone().or_better(rest.main);
        let is_contested = is_contested(self.db, name)?;
        let state = State::from_totals(&rest.totals, &main, since, is_contested);
        match before {
            None => {
                let order = insert_order(self.db, name, state, self.delivery.received)?;
                self.tell(&order, None, news)?;
                Ok(order)
            }
            Some(before) => self.update_order(before, state, &rest.totals, news),
        }
    }

    /// Gives the first of the orders that have no payments but `touched` its real name.
    fn rename_order(
        &self,
        name: &OrderId,
        touched: &[StoredPayment],
        news: &mut Vec<News>,
    ) -> Result<Option<StoredOrder>, StoreError> {
        for id in touched.iter().filter_map(|payment| payment.order_id) {
            if first_payment(self.db, id, touched)?.is_none()
                && !checkout::is_asked_for(self.db, &order_by_id(self.db, id)?.name)?
            {
                let sql = "UPDATE orders SET name = ?2 WHERE id = ?1";
                self.db
                    .prepare_cached(sql)?
                    .execute(params![id, name.as_str()])?;
                let order = self.show_as_changed(id)?;
                news.push(renamed(&order));
                return Ok(Some(order));
            }
        }
        Ok(None)
    }

    /// Writes a known order's new state, if it is new, and what its payments add up to.
    fn update_order(
        &self,
        before: StoredOrder,
        state: State,
        totals: &Totals,
        news: &mut Vec<News>,
    ) -> Result<StoredOrder, StoreError> {
        let totals = in_json(totals)?;
        if totals != before.totals {
            let sql = "UPDATE orders SET totals = ?2 WHERE id = ?1";
            self.db
                .prepare_cached(sql)?
                .execute(params![before.id, totals])?;
        }
        self.update_state(before, state, news)
    }

    /// Writes a known order's new state, if it is new, and tells of it.
    fn update_state(
        &self,
        before: StoredOrder,
        state: State,
        news: &mut Vec<News>,
    ) -> Result<StoredOrder, StoreError> {
        if before.state == state {
            return Ok(before);
        }
        let after = StoredOrder {
            state,
            updated_at: self.delivery.received,
            ..before.clone()
        };
        let after = update_order(self.db, after)?;
        self.tell(&after, Some(&before.state), news)?;
        Ok(after)
    }

    /// Whoever polls for changes is to see this order again.
    fn show_as_changed(&self, id: i64) -> Result<StoredOrder, StoreError> {
        let at = self.delivery.received;
        let changed = next_change(self.db, at)?;
        self.db
            .prepare_cached("UPDATE orders SET updated_at = ?2, changed = ?3 WHERE id = ?1")?
            .execute(params![id, at.0, changed])?;
        order_by_id(self.db, id)
    }

    /// Adds the step to the order's story and to what the log will say.
    fn tell(
        &self,
        order: &StoredOrder,
        before: Option<&State>,
        news: &mut Vec<News>,
    ) -> Result<(), StoreError> {
        let about = order.about();
        let told = order.state.news(before);
        news.extend(told.into_iter().map(|(level, message)| News {
            about: about.clone(),
            level,
            message,
        }));
        insert_change(
            self.db,
            order,
            before.map(|state| state.status),
            self.delivery,
            self.seq,
        )
    }

    /// Stores the facts in the first of the payments that turned out to be one, and makes all the
    /// objects point there.
    fn write_payment(
        &self,
        fact: &Fact,
        touched: &[StoredPayment],
        joined: &Payment,
        order: Option<(i64, &Share)>,
        is_of_other_shop: bool,
    ) -> Result<(), StoreError> {
        let facts = serde_json::to_string(joined).map_err(|_| StoreError::Unreadable)?;
        let share = order.map(|(_, share)| share);
        let row = params![
            touched.first().map(|payment| payment.id),
            order.map(|(id, _)| id),
            share.map(|share| share.weight().rank()),
            share.map(|share| share.since().0),
            share.map(Share::lead),
            is_of_other_shop,
            facts
        ];
        let id = match touched.first() {
            Some(payment) => {
                let sql = "UPDATE payment SET order_id = ?2, weight = ?3, since = ?4, lead = ?5,
                                              other_shop = ?6, facts = ?7 WHERE id = ?1";
                self.db.prepare_cached(sql)?.execute(row)?;
                payment.id
            }
            None => {
                let sql =
                    "INSERT INTO payment (id, order_id, weight, since, lead, other_shop, facts)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
                self.db.prepare_cached(sql)?.insert(row)?
            }
        };
        for absorbed in touched.iter().skip(1) {
            for object in absorbed.facts.ids() {
                object::update(self.db, object, absorbed.id, id)?;
            }
            self.db
                .prepare_cached("DELETE FROM payment WHERE id = ?1")?
                .execute([absorbed.id])?;
        }
        object::insert(self.db, fact, id)
    }

    /// Computes anew an order that a payment has left. If it was the last one, and the shop has not
    /// asked for the order itself, it was only another name for `to`, which takes its story.
    fn leave_order(
        &self,
        id: i64,
        touched: &[StoredPayment],
        to: Option<&StoredOrder>,
        news: &mut Vec<News>,
    ) -> Result<(), StoreError> {
        let order = order_by_id(self.db, id)?;
        let rest = Rest::of(self.db, &order, touched)?;
        if let Some(main) = rest.main {
            let sql = "SELECT min(since) FROM payment WHERE order_id = ?1";
            let since: i64 = self
                .db
                .prepare_cached(sql)?
                .query_row([id], |row| row.get(0))?;
            let is_contested = is_contested(self.db, &order.name)?;
            let state = State::from_totals(&rest.totals, &main, UnixSeconds(since), is_contested);
            self.update_order(order, state, &rest.totals, news)?;
            return Ok(());
        }
        let is_asked_for = checkout::is_asked_for(self.db, &order.name)?;
        let Some(to) = to.filter(|_| !is_asked_for) else {
            let state =
                State::before_payment(order.state.since, is_contested(self.db, &order.name)?);
            self.update_order(order, state, &rest.totals, news)?;
            return Ok(());
        };
        self.show_as_changed(to.id)?;
        // An event that changed both orders keeps the change of the one that stays.
        let sql = "UPDATE OR IGNORE change SET order_id = ?2 WHERE order_id = ?1";
        self.db.prepare_cached(sql)?.execute([id, to.id])?;
        self.db
            .prepare_cached("DELETE FROM change WHERE order_id = ?1")?
            .execute([id])?;
        self.db
            .prepare_cached("DELETE FROM orders WHERE id = ?1")?
            .execute([id])?;
        feed::became(self.db, &order.name, &to.name)?;
        news.push(renamed(to));
        Ok(())
    }

    /// Flags the order that `other` names, and that the shop has asked for itself.
    fn contest(&self, other: &StoredOrder, news: &mut Vec<News>) -> Result<(), StoreError> {
        let Some(name) = &other.state.reference else {
            return Ok(());
        };
        if !is_contested(self.db, name)? {
            return Ok(());
        }
        let Some(order) = order_by_name(self.db, name.as_str())? else {
            return Ok(());
        };
        let mut state = order.state.clone();
        if !state.flags.contains(&Flag::NameConflict) {
            state.flags.push(Flag::NameConflict);
            state.flags.sort_unstable();
            self.update_state(order, state, news)?;
        }
        Ok(())
    }
}

/// The payments of an order without some of them: what they add up to, and which counts most.
#[derive(Default)]
struct Rest {
    totals: Totals,
    main: Option<Share>,
}

impl Rest {
    fn of(
        db: &Connection,
        order: &StoredOrder,
        touched: &[StoredPayment],
    ) -> Result<Rest, StoreError> {
        let Some(first) = first_payment(db, order.id, touched)? else {
            return Ok(Rest::default());
        };
        let main = Share::of(&first, &order.name);
        let mut totals = Totals::default();
        match &order.totals {
            Some(json) => {
                totals = serde_json::from_str(json).map_err(|_| StoreError::Unreadable)?;
                for payment in touched
                    .iter()
                    .filter(|payment| payment.order_id == Some(order.id))
                {
                    totals.remove(&Share::of(&payment.facts, &order.name));
                }
            }
            None => totals.add(&main),
        }
        Ok(Rest {
            totals,
            main: Some(main),
        })
    }
}

/// As it stands in the table: an order with one payment needs no totals.
pub(super) fn in_json(totals: &Totals) -> Result<Option<String>, StoreError> {
    if totals.payments() < 2 {
        return Ok(None);
    }
    let json = serde_json::to_string(totals).map_err(|_| StoreError::Unreadable)?;
    Ok(Some(json))
}

/// Whether a payment of another order names this one, which the shop has asked for itself.
pub(super) fn is_contested(db: &Connection, name: &OrderId) -> Result<bool, StoreError> {
    // Asked first, because hardly any order has a reference, and so this index is next to empty.
    let sql = "SELECT 1 FROM orders WHERE reference = ?1 AND flags LIKE '%name_conflict%'";
    Ok(db.prepare_cached(sql)?.exists([name.as_str()])? && checkout::is_asked_for(db, name)?)
}

fn renamed(order: &StoredOrder) -> News {
    News {
        about: order.about(),
        level: Level::Info,
        message: Message::OrderRenamed,
    }
}

/// The event's place in the ledger, and what it did.
fn ledgered(db: &Connection, id: &StripeId) -> Result<Option<(i64, String)>, StoreError> {
    let mut statement = db.prepare_cached("SELECT seq, outcome FROM event WHERE id = ?1")?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    Ok(statement.query_row([id.as_str()], read).optional()?)
}

/// Writes the event's row, at the place of one that was ignored or at the end, and returns its place.
pub(super) fn write_ledger(
    db: &Connection,
    delivery: &Delivery,
    seq: Option<i64>,
    outcome: Outcome,
    fact: Option<&Fact>,
) -> Result<i64, StoreError> {
    let mut statement = db.prepare_cached(
        "INSERT OR REPLACE INTO event
             (seq, id, type, created, received_at, object, outcome, reason, request_id, sha256)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    let event = &delivery.event;
    Ok(statement.insert(params![
        seq,
        event.id.as_str(),
        event.kind,
        event.created.map(|created| created.0),
        delivery.received.0,
        fact.map(|fact| fact.id.as_str()),
        outcome.as_str(),
        outcome.reason(),
        delivery.request_id.as_ref().map(RequestId::as_str),
        delivery.sha256,
    ])?)
}

/// The payments that the fact's objects belong to so far, oldest first.
fn payments_of(db: &Connection, fact: &Fact) -> Result<Vec<StoredPayment>, StoreError> {
    let mut read = db.prepare_cached("SELECT order_id, facts FROM payment WHERE id = ?1")?;
    let payment = |id| {
        read.query_row([id], |row| {
            Ok(StoredPayment {
                id,
                order_id: row.get(0)?,
                facts: read_facts(row, 1)?,
            })
        })
    };
    let ids = object::payments_of(db, fact)?.into_iter();
    Ok(ids.map(payment).collect::<Result<_, _>>()?)
}

/// The payment that counts most in an order, without those that are named.
fn first_payment(
    db: &Connection,
    order_id: i64,
    without: &[StoredPayment],
) -> Result<Option<Payment>, StoreError> {
    let mut read = db.prepare_cached(
        "SELECT id, facts FROM payment WHERE order_id = ?1 ORDER BY weight, since, lead",
    )?;
    let mut rows = read.query([order_id])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        if without.iter().all(|payment| payment.id != id) {
            return Ok(Some(read_facts(row, 1)?));
        }
    }
    Ok(None)
}

/// The facts of all payments of an order.
pub(super) fn payments_for(db: &Connection, order_id: i64) -> Result<Vec<Payment>, StoreError> {
    let mut read = db.prepare_cached("SELECT facts FROM payment WHERE order_id = ?1")?;
    let payments = read.query_map([order_id], |row| read_facts(row, 0))?;
    Ok(payments.collect::<Result<_, _>>()?)
}

/// The facts of one payment.
pub(super) fn payment_by_id(db: &Connection, id: i64) -> Result<Payment, StoreError> {
    let mut read = db.prepare_cached("SELECT facts FROM payment WHERE id = ?1")?;
    Ok(read.query_row([id], |row| read_facts(row, 0))?)
}

pub(super) fn read_facts(row: &Row<'_>, index: usize) -> rusqlite::Result<Payment> {
    serde_json::from_str(row.get_ref(index)?.as_str()?).map_err(|_| UNREADABLE)
}

pub(super) fn order_by_name(
    db: &Connection,
    name: &str,
) -> Result<Option<StoredOrder>, StoreError> {
    let sql = format!("SELECT {ORDER_COLUMNS} FROM orders WHERE name = ?1");
    Ok(db
        .prepare_cached(&sql)?
        .query_row([name], StoredOrder::read)
        .optional()?)
}

pub(super) fn order_by_id(db: &Connection, id: i64) -> Result<StoredOrder, StoreError> {
    let sql = format!("SELECT {ORDER_COLUMNS} FROM orders WHERE id = ?1");
    Ok(db
        .prepare_cached(&sql)?
        .query_row([id], StoredOrder::read)?)
}

pub(super) fn insert_order(
    db: &Connection,
    name: &OrderId,
    state: State,
    updated_at: UnixSeconds,
) -> Result<StoredOrder, StoreError> {
    let mut statement = db.prepare_cached(
        "INSERT INTO orders (name, status, dispute, amount, refunded, currency, flags, session,
                             intent, created, updated_at, changed, pending, disputed, lost, reference)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
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
    ])?;
    Ok(StoredOrder {
        id,
        name: name.clone(),
        totals: None,
        state,
        updated_at,
        changed,
    })
}

/// The order with the number of this change.
fn update_order(db: &Connection, order: StoredOrder) -> Result<StoredOrder, StoreError> {
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
