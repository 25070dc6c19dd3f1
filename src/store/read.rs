//! What commands, the metrics and the API ask for. Nothing here writes.

use rusqlite::{OptionalExtension, params};

use super::error::UNREADABLE;
use super::ledger::EVENT_COLUMNS;
use super::orders::{self, CHANGE_COLUMNS, ORDER_COLUMNS};
use super::payments::payments_of_order;
use super::{
    Change, Store, StoreError, StoredEvent, StoredOrder, Unheard, Wanted, object, payments,
};
use crate::truth::order::Status;
use crate::truth::payment::Payment;

/// What the metrics say of the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many orders have each status.
    pub orders: Vec<(Status, i64)>,
    /// Payments whose order is not known yet.
    pub parked: i64,
    /// Size of the file, without its log.
    pub database_bytes: i64,
    /// Size of its log.
    pub log_bytes: i64,
    /// What each destination of `paidup notify` has not heard.
    pub unheard: Vec<Unheard>,
}

impl Store {
    /// Figures for the metrics. None of them takes longer as the history grows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn figures(&self) -> Result<Figures, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT status, orders FROM tally")?;
        let rows = statement.query_map([], |row| {
            let status = Status::parse(row.get_ref(0)?.as_str()?).ok_or(UNREADABLE)?;
            Ok((status, row.get(1)?))
        })?;
        let number = |sql| {
            self.connection
                .prepare_cached(sql)?
                .query_row([], |row| row.get(0))
        };
        Ok(Figures {
            orders: rows.collect::<Result<_, _>>()?,
            parked: number(
                "SELECT count(*) FROM payment WHERE order_id IS NULL AND other_shop = 0",
            )?,
            database_bytes: number(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
            )?,
            log_bytes: self.log_bytes(),
            unheard: self.unheard()?,
        })
    }

    /// The order of that name; else the one that the session, intent, charge, refund or dispute of
    /// that id belongs to.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn order(&self, name: &str) -> Result<Option<StoredOrder>, StoreError> {
        match orders::by_name(&self.connection, name)? {
            Some(order) => Ok(Some(order)),
            None => self.order_of(name),
        }
    }

    /// The order that the Stripe object of that id belongs to; `None` while that is not known.
    fn order_of(&self, object: &str) -> Result<Option<StoredOrder>, StoreError> {
        let order = object::of_order(&self.connection, object)?;
        order
            .map(|(_, id)| orders::by_id(&self.connection, id))
            .transpose()
    }

    /// The payment that the Stripe object of that id belongs to, with its order; `None` while that is
    /// not known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn payment_of(
        &self,
        object: &str,
    ) -> Result<Option<(StoredOrder, Payment)>, StoreError> {
        let Some((payment, order)) = object::of_order(&self.connection, object)? else {
            return Ok(None);
        };
        let order = orders::by_id(&self.connection, order)?;
        Ok(Some((order, payments::by_id(&self.connection, payment)?)))
    }

    /// Orders that name `reference` as what they are for and have another name, newest first, at most
    /// `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn orders_for(
        &self,
        reference: &str,
        limit: usize,
    ) -> Result<Vec<StoredOrder>, StoreError> {
        let sql = format!(
            "SELECT {ORDER_COLUMNS} FROM orders WHERE reference = ?2 ORDER BY id DESC LIMIT ?1"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![limit, reference], StoredOrder::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The newest orders, at most `limit`; only those of `status` if one is given.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn orders(
        &self,
        status: Option<Status>,
        limit: u32,
    ) -> Result<Vec<StoredOrder>, StoreError> {
        let wanted = Wanted {
            status,
            ..Wanted::default()
        };
        self.wanted(&wanted, None, limit)
    }

    /// The story of one order, first change first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn changes(&self, order: &StoredOrder) -> Result<Vec<Change>, StoreError> {
        let sql = format!("SELECT {CHANGE_COLUMNS} FROM change WHERE order_id = ?1 ORDER BY seq");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([order.id], Change::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The facts of an order's payments; `None` when it has more than `most`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn few_payments(
        &self,
        order: &StoredOrder,
        most: usize,
    ) -> Result<Option<Vec<Payment>>, StoreError> {
        let sql = concat!(
            "SELECT count(*) FROM (SELECT 1 FROM ",
            payments_of_order!(),
            " LIMIT ?2)"
        );
        let most = i64::try_from(most).unwrap_or(i64::MAX - 1);
        let mut count = self.connection.prepare_cached(sql)?;
        let count: i64 = count.query_row([order.id, most + 1], |row| row.get(0))?;
        (count <= most)
            .then(|| payments::of_order(&self.connection, order.id))
            .transpose()
    }

    /// Events, last arrival first, at most `limit`; only those about the objects of `order` if one is
    /// given.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn events(
        &self,
        order: Option<&StoredOrder>,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let wanted = if order.is_some() {
            "WHERE object IN (SELECT value FROM json_each(?2))"
        } else {
            "WHERE ?2 IS NULL"
        };
        let objects = order.map(|order| self.objects_of(order)).transpose()?;
        let sql = format!("SELECT {EVENT_COLUMNS} FROM event {wanted} ORDER BY seq DESC LIMIT ?1");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params![limit, objects], StoredEvent::read)?;
        rows.map(|event| self.with_order(event?)).collect()
    }

    /// One event of the ledger.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn event(&self, id: &str) -> Result<Option<StoredEvent>, StoreError> {
        let sql = format!("SELECT {EVENT_COLUMNS} FROM event WHERE id = ?1");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let event = statement.query_row([id], StoredEvent::read).optional()?;
        event.map(|event| self.with_order(event)).transpose()
    }

    /// The ids of the order's Stripe objects, as JSON.
    fn objects_of(&self, order: &StoredOrder) -> Result<String, StoreError> {
        let payments = payments::of_order(&self.connection, order.id)?;
        let ids: Vec<_> = payments.iter().flat_map(Payment::ids).collect();
        serde_json::to_string(&ids).map_err(|_| StoreError::Unreadable)
    }

    /// The event with the order that its object belongs to.
    fn with_order(&self, mut event: StoredEvent) -> Result<StoredEvent, StoreError> {
        if let Some(object) = &event.object {
            let order = self.order_of(object)?;
            event.order = order.map(|order| order.name.as_str().to_owned());
        }
        Ok(event)
    }
}
