//! What one delivery does to the tables: its event goes into the ledger, its fact to the payment that
//! it belongs to, and the orders of that payment are computed anew.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::orders::{self, StoredOrder};
use super::payments::{self, Assignment, StoredPayment};
use super::sums::Sums;
use super::{StoreError, checkout, feed, ledger, object};
use crate::base::id::{OrderId, UnixSeconds};
use crate::base::log_line::Message;
use crate::truth::delivery::{Delivery, News, Outcome, Receipt};
use crate::truth::event::{Ignored, Meaning};
use crate::truth::fact::Fact;
use crate::truth::names::Belongs;
use crate::truth::order::{Flag, State};
use crate::truth::payment::Payment;
use crate::truth::reading::Mode;
use crate::truth::totals::{Share, Totals};

/// Records one delivery. `mode` is that of the file: the first event that has one settles it. What it
/// changes of the sums is added to `sums`.
pub(super) fn record_one(
    db: &Connection,
    delivery: &Delivery,
    mode: &mut Option<Mode>,
    sums: &mut Sums,
) -> Result<Receipt, StoreError> {
    let event = &delivery.event;
    let known = ledger::find(db, &event.id)?;
    let seq = known.as_ref().map(|entry| entry.seq);
    match &event.meaning {
        // What was ignored once may be of use today: other settings, a newer paidup.
        Meaning::Fact(fact) if known.as_ref().is_none_or(|entry| entry.was_ignored) => {
            if event.mode.is_some() && mode.is_some() && event.mode != *mode {
                return ignore(db, delivery, seq, Ignored::Mode);
            }
            if mode.is_none() && !event.is_sample() {
                *mode = event.mode;
                settle_mode(db, event.mode)?;
            }
            apply(db, delivery, seq, fact, sums)
        }
        Meaning::Ignored(why) if seq.is_none() => ignore(db, delivery, None, *why),
        Meaning::Fact(_) | Meaning::Ignored(_) => Ok(receipt(Outcome::Duplicate, None)),
    }
}

/// Writes into the file whether it holds live or test data, unless that is settled.
pub(super) fn settle_mode(db: &Connection, mode: Option<Mode>) -> Result<(), StoreError> {
    if let Some(mode) = mode {
        let sql = "INSERT INTO mode (id, word) VALUES (1, ?1) ON CONFLICT DO NOTHING";
        db.prepare_cached(sql)?.execute([mode.as_str()])?;
    }
    Ok(())
}

fn ignore(
    db: &Connection,
    delivery: &Delivery,
    seq: Option<i64>,
    why: Ignored,
) -> Result<Receipt, StoreError> {
    let outcome = Outcome::Ignored(why);
    ledger::write(db, delivery, seq, outcome, None)?;
    Ok(receipt(outcome, None))
}

/// The receipt of a delivery that changed no order.
fn receipt(outcome: Outcome, order: Option<&StoredOrder>) -> Receipt {
    Receipt {
        outcome,
        about: order.map(StoredOrder::about),
        news: Vec::new(),
    }
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
    /// made for it. Another payment that names it is an order of its own, named after its session; it
    /// waits while it has none.
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

/// Joins the fact to the payments that it touches, and computes their orders anew.
fn apply(
    db: &Connection,
    delivery: &Delivery,
    seq: Option<i64>,
    fact: &Fact,
    sums: &mut Sums,
) -> Result<Receipt, StoreError> {
    let touched = payments::touched_by(db, fact)?;
    let joined = join(&touched, fact);
    let home = Home::of(db, &joined)?;
    let known = match touched.as_slice() {
        [payment] if payment.facts == joined => Some(payment),
        _ => None,
    };
    let outcome = match (known, &home) {
        (_, Home::OtherShop) => Outcome::Ignored(Ignored::OtherShop),
        (Some(_), Home::Order(_) | Home::Unknown) => Outcome::Duplicate,
        (None, Home::Order(_)) => Outcome::Applied,
        (None, Home::Unknown) => Outcome::Parked,
    };
    let seq = ledger::write(db, delivery, seq, outcome, Some(fact))?;
    if let Some(payment) = known {
        let order = payment.order_id.map(|id| orders::by_id(db, id));
        return Ok(receipt(outcome, order.transpose()?.as_ref()));
    }
    let mut writes = Writes {
        db,
        delivery,
        seq,
        touched: &touched,
        news: Vec::new(),
        sums,
    };
    let order = writes.write(fact, &joined, &home)?;
    Ok(Receipt {
        outcome,
        about: order.as_ref().map(StoredOrder::about),
        news: writes.news,
    })
}

/// All that is known of the one payment that the fact and these payments are.
fn join(touched: &[StoredPayment], fact: &Fact) -> Payment {
    let mut joined = Payment::default();
    for payment in touched {
        joined.join(payment.facts.clone());
    }
    joined.learn(fact.clone());
    // What was ours once stays ours, whatever the settings say today.
    if touched.iter().any(|payment| payment.order_id.is_some()) {
        joined.keep();
    }
    joined
}

/// The writes of one delivery that says something new.
struct Writes<'a> {
    db: &'a Connection,
    delivery: &'a Delivery,
    /// The event's place in the ledger.
    seq: i64,
    /// The payments that turned out to be one.
    touched: &'a [StoredPayment],
    /// What the log will say.
    news: Vec<News>,
    /// What changes of the sums.
    sums: &'a mut Sums,
}

impl Writes<'_> {
    /// Writes the joined payment, the order that it is for, and those that it has left.
    fn write(
        &mut self,
        fact: &Fact,
        joined: &Payment,
        home: &Home,
    ) -> Result<Option<StoredOrder>, StoreError> {
        // What moved counts while it is an order's, whichever that is.
        let counted = self.touched.iter();
        for payment in counted.filter(|payment| payment.order_id.is_some()) {
            self.sums.quarters.count_payment(&payment.facts, -1);
        }
        let order = match home {
            Home::Order(name) => {
                let share = Share::of(joined, name);
                self.sums.quarters.count_payment(joined, 1);
                Some((self.write_order(name, &share)?, share))
            }
            Home::Unknown | Home::OtherShop => None,
        };
        let assignment = Assignment {
            order: order.as_ref().map(|(order, share)| (order.id, share)),
            is_of_other_shop: *home == Home::OtherShop,
        };
        self.write_payment(fact, joined, &assignment)?;
        let order = order.map(|(order, _)| order);
        self.leave_orders(order.as_ref())?;
        if let Some(order) = &order {
            self.contest(order)?;
        }
        Ok(order)
    }

    /// Computes the order anew, from the new `share` and what its other payments add up to. An order
    /// that had only these payments and another name takes the new name.
    fn write_order(&mut self, name: &OrderId, share: &Share) -> Result<StoredOrder, StoreError> {
        let mut before = orders::by_name(self.db, name.as_str())?;
        // What the shop has asked for is an order already.
        let is_contested = before.is_some() && is_contested(self.db, name)?;
        if before.is_none() {
            before = self.rename_order(name)?;
        }
        let mut rest = match &before {
            Some(order) => Rest::of(self.db, order, self.touched)?,
            None => Rest::default(),
        };
        let since = match (&before, &rest.main) {
            (Some(order), Some(_)) => order.state.since.min(share.since()),
            (Some(_) | None, _) => share.since(),
        };
        rest.totals.add(share);
        let main = share.clone().or_better(rest.main);
        let state = State::from_totals(&rest.totals, &main, since, is_contested);
        let counted = main.counted(&state);
        if let Some(before) = before {
            return self.update_order(before, state, &rest.totals, counted);
        }
        self.sums
            .quarters
            .count_order(counted, state.currency.as_deref(), 1);
        let order = orders::insert(self.db, name, state, counted, self.delivery.received)?;
        self.sums.count_status(None, Some(order.state.status));
        self.tell(&order, None)?;
        Ok(order)
    }

    /// Gives the first of the orders that have no other payments its real name.
    fn rename_order(&mut self, name: &OrderId) -> Result<Option<StoredOrder>, StoreError> {
        for id in self.touched.iter().filter_map(|payment| payment.order_id) {
            if payments::first_of(self.db, id, self.touched)?.is_none()
                && !checkout::is_asked_for(self.db, &orders::by_id(self.db, id)?.name)?
            {
                orders::rename(self.db, id, name)?;
                let order = orders::show_as_changed(self.db, id, self.delivery.received)?;
                self.news.push(renamed(&order));
                return Ok(Some(order));
            }
        }
        Ok(None)
    }

    /// Writes a known order's new state and totals, where they are new.
    fn update_order(
        &mut self,
        before: StoredOrder,
        state: State,
        totals: &Totals,
        counted: Option<UnixSeconds>,
    ) -> Result<StoredOrder, StoreError> {
        let totals = orders::in_json(totals)?;
        if totals != before.totals || counted != before.counted {
            orders::update_sums(self.db, before.id, totals.as_deref(), counted)?;
        }
        let currency = before.state.currency.as_deref();
        self.sums.quarters.count_order(before.counted, currency, -1);
        self.sums
            .quarters
            .count_order(counted, state.currency.as_deref(), 1);
        self.update_state(before, state)
    }

    /// Writes a known order's new state, if it is new here and everywhere, and tells of it.
    fn update_state(
        &mut self,
        before: StoredOrder,
        state: State,
    ) -> Result<StoredOrder, StoreError> {
        if before.state == state {
            return match feed::was_undone(self.db, before.changed)? {
                true => orders::show_as_changed(self.db, before.id, self.delivery.received),
                false => Ok(before),
            };
        }
        let after = StoredOrder {
            state,
            updated_at: self.delivery.received,
            ..before.clone()
        };
        let after = orders::update(self.db, after)?;
        self.sums
            .count_status(Some(before.state.status), Some(after.state.status));
        self.tell(&after, Some(&before.state))?;
        Ok(after)
    }

    /// Adds the step to the order's story and to what the log will say.
    fn tell(&mut self, order: &StoredOrder, before: Option<&State>) -> Result<(), StoreError> {
        let about = order.about();
        let news = order.state.news(before).into_iter();
        self.news.extend(news.map(|message| News {
            about: about.clone(),
            message,
        }));
        let from = before.map(|state| state.status);
        orders::insert_change(self.db, order, from, self.delivery, self.seq)
    }

    /// Stores the facts in the first of the payments that turned out to be one, and makes all the
    /// objects point there.
    fn write_payment(
        &self,
        fact: &Fact,
        joined: &Payment,
        assignment: &Assignment<'_>,
    ) -> Result<(), StoreError> {
        let first = self.touched.first().map(|payment| payment.id);
        let id = payments::write(self.db, first, joined, assignment)?;
        for absorbed in self.touched.iter().skip(1) {
            payments::absorb(self.db, absorbed, id)?;
        }
        object::insert(self.db, fact, id)
    }

    /// Computes anew the orders that the payments had, other than the one that they have now.
    fn leave_orders(&mut self, now: Option<&StoredOrder>) -> Result<(), StoreError> {
        let touched = self.touched.iter();
        let before: BTreeSet<i64> = touched.filter_map(|payment| payment.order_id).collect();
        for id in before {
            if now.is_none_or(|order| order.id != id) {
                self.leave_order(id, now)?;
            }
        }
        Ok(())
    }

    /// Computes anew an order that a payment has left. If that was its last one, and the shop has not
    /// asked for the order itself, it was only another name for `to`.
    fn leave_order(&mut self, id: i64, to: Option<&StoredOrder>) -> Result<(), StoreError> {
        let order = orders::by_id(self.db, id)?;
        let rest = Rest::of(self.db, &order, self.touched)?;
        let is_contested = is_contested(self.db, &order.name)?;
        let state = match (&rest.main, to) {
            (Some(main), _) => {
                let since = payments::since(self.db, id)?;
                State::from_totals(&rest.totals, main, since, is_contested)
            }
            (None, Some(to)) if !checkout::is_asked_for(self.db, &order.name)? => {
                let currency = order.state.currency.as_deref();
                self.sums.quarters.count_order(order.counted, currency, -1);
                orders::show_as_changed(self.db, to.id, self.delivery.received)?;
                orders::absorb(self.db, &order, to)?;
                self.sums.count_status(Some(order.state.status), None);
                self.news.push(renamed(to));
                return Ok(());
            }
            (None, Some(_) | None) => State::before_payment(order.state.since, is_contested),
        };
        let counted = rest.main.and_then(|main| main.counted(&state));
        self.update_order(order, state, &rest.totals, counted)?;
        Ok(())
    }

    /// Flags the order that `other` names, if the shop has asked for that one itself.
    fn contest(&mut self, other: &StoredOrder) -> Result<(), StoreError> {
        let Some(name) = &other.state.reference else {
            return Ok(());
        };
        if !is_contested(self.db, name)? {
            return Ok(());
        }
        let Some(order) = orders::by_name(self.db, name.as_str())? else {
            return Ok(());
        };
        let mut state = order.state.clone();
        if !state.flags.contains(&Flag::NameConflict) {
            state.flags.push(Flag::NameConflict);
            state.flags.sort_unstable();
            self.update_state(order, state)?;
        }
        Ok(())
    }
}

/// An order's payments without some of them: what they add up to, and which counts most.
#[derive(Default)]
struct Rest {
    totals: Totals,
    main: Option<Share>,
}

impl Rest {
    fn of(
        db: &Connection,
        order: &StoredOrder,
        without: &[StoredPayment],
    ) -> Result<Rest, StoreError> {
        let Some(first) = payments::first_of(db, order.id, without)? else {
            return Ok(Rest::default());
        };
        let main = Share::of(&first, &order.name);
        let mut totals = Totals::default();
        match &order.totals {
            Some(json) => {
                totals = serde_json::from_str(json).map_err(|_| StoreError::Unreadable)?;
                let of_order = |payment: &&StoredPayment| payment.order_id == Some(order.id);
                for payment in without.iter().filter(of_order) {
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

/// Whether a payment of another order names this one, which the shop has asked for itself.
pub(super) fn is_contested(db: &Connection, name: &OrderId) -> Result<bool, StoreError> {
    // Asked first: hardly any order has a reference, so this index is next to empty.
    let sql = "SELECT 1 FROM orders WHERE reference = ?1 AND flags LIKE '%name_conflict%'";
    Ok(db.prepare_cached(sql)?.exists([name.as_str()])? && checkout::is_asked_for(db, name)?)
}

fn renamed(order: &StoredOrder) -> News {
    News {
        about: order.about(),
        message: Message::OrderRenamed,
    }
}
