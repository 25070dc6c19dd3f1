//! Pages of orders: of which status, since when, called what. Each page is found by an index, and the
//! next begins where it ended, however many orders there are.

use std::fmt;

use rusqlite::{Connection, named_params};

use super::orders::{NUMBERS_A_SECOND, ORDER_COLUMNS};
use super::{Store, StoreError, StoredOrder, payments};
use crate::base::id::{StripeId, UnixSeconds};
use crate::truth::money::Move;
use crate::truth::order::Status;
use crate::truth::totals;

/// Which orders are wanted; by default all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only those of this status.
    pub status: Option<Status>,
    /// Only those that need somebody: flagged, or with an open dispute.
    pub flagged: bool,
    /// Only those since then.
    pub since: Option<UnixSeconds>,
    /// Only those before that.
    pub until: Option<UnixSeconds>,
    /// Only those whose name begins with this.
    pub name: Option<String>,
}

/// Where an order is in the list of orders, newest first by Stripe's time of its first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    created: UnixSeconds,
    id: i64,
}

impl Place {
    /// Reads what its `Display` wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Place> {
        let (created, id) = text.split_once('-')?;
        Some(Place {
            created: UnixSeconds(created.parse().ok()?),
            id: id.parse().ok()?,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.created.0, self.id)
    }
}

impl StoredOrder {
    /// Where it is in the list of orders.
    #[must_use]
    pub fn place(&self) -> Place {
        Place {
            created: self.state.since,
            id: self.id,
        }
    }
}

/// One movement of an order's money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, by Stripe's clock; of an order whose money has not moved, when it was first heard of.
    pub at: UnixSeconds,
    /// How it moved; `None` if it has not.
    pub way: Option<Move>,
    /// In minor units.
    pub minor: i64,
    /// Of the amount.
    pub currency: Option<Box<str>>,
    /// The charge, intent, refund or dispute that it is, if that is known.
    pub object: Option<StripeId>,
    /// Its place among all.
    pub cursor: Cursor,
}

/// An order and how its money moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// As it stands now.
    pub order: StoredOrder,
    /// The earliest first.
    pub entries: Vec<Entry>,
}

/// The place of a movement among all: the number of its order, and which of that order's it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    order: i64,
    entry: usize,
}

impl Cursor {
    /// Reads what its `Display` wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Cursor> {
        let (order, entry) = text.split_once('.')?;
        Some(Cursor {
            order: order.parse().ok()?,
            entry: entry.parse().ok()?,
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.order, self.entry)
    }
}

/// As in the index `orders_flagged`.
const IS_FLAGGED: &str = "(flags <> '' OR dispute = 'open')";
/// The orders of one page of movements have numbers in such a range. Bounds the memory, and how long one
/// moment of the database is read.
const PAGE_ORDERS: i64 = 1000;
/// A page ends with the order that goes beyond so many movements.
const PAGE_ENTRIES: usize = 10_000;
/// How far this host's clock may be behind Stripe's.
const CLOCK_SLACK: i64 = 24 * 60 * 60;

impl Store {
    /// Wanted orders, at most `limit`: the newest first, those after `before`. By name, if the beginning
    /// of one is given. `since` and `until` are of Stripe's time of an order's first event.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn wanted(
        &self,
        wanted: &Wanted,
        before: Option<Place>,
        limit: u32,
    ) -> Result<Vec<StoredOrder>, StoreError> {
        let until = Place {
            created: wanted.until.unwrap_or(UnixSeconds(i64::MAX)),
            id: i64::MIN,
        };
        let before =
            before.filter(|before| (before.created, before.id) < (until.created, until.id));
        let before = before.unwrap_or(until);
        let names = wanted.names();
        let sql = wanted.sql();
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(
            named_params! {
                ":limit": limit,
                ":since": wanted.since.map_or(i64::MIN, |since| since.0),
                ":created": before.created.0,
                ":id": before.id,
                ":status": wanted.status.map(Status::as_str),
                ":from": names.as_ref().map(|(from, _)| from),
                ":to": names.as_ref().map(|(_, to)| to),
            },
            StoredOrder::read,
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The movements of the wanted orders' money, of which `since` and `until` are. The orders come in
    /// the order in which paidup heard of them, from the entry after `after`; with the cursor that goes on
    /// there, unless that was all. Of an order that moved nothing, one entry says so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn movements(
        &self,
        wanted: &Wanted,
        after: Cursor,
    ) -> Result<(Vec<Moved>, Option<Cursor>), StoreError> {
        // An order and its payments at one moment.
        let moment = self.connection.unchecked_transaction()?;
        let last = after.order.saturating_add(PAGE_ORDERS);
        // What moved since then has changed its order since then; but where there are several payments,
        // only one of them may count in it.
        let mut find = moment.prepare_cached(&format!(
            "SELECT {ORDER_COLUMNS} FROM orders WHERE id >= :first AND id <= :last
             AND (changed >= :changed OR totals IS NOT NULL) AND {MATCHES}
             AND (:flagged = 0 OR {IS_FLAGGED}) ORDER BY id"
        ))?;
        let names = wanted.names();
        let since = wanted.since.map_or(i64::MIN, |since| since.0);
        let mut rows = find.query(named_params! {
            ":first": after.order,
            ":last": last,
            ":changed": since.saturating_sub(CLOCK_SLACK).saturating_mul(NUMBERS_A_SECOND),
            ":status": wanted.status.map(Status::as_str),
            ":from": names.as_ref().map(|(from, _)| from),
            ":to": names.as_ref().map(|(_, to)| to),
            ":flagged": wanted.flagged,
        })?;
        let (mut found, mut entries) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let order = StoredOrder::read(row)?;
            let mut of_order = entries_of(&moment, &order)?;
            of_order.retain(|entry| entry.cursor > after && wanted.is_in_time(entry.at));
            entries += of_order.len();
            let next = Cursor {
                order: order.id + 1,
                entry: 0,
            };
            if !of_order.is_empty() {
                found.push(Moved {
                    order,
                    entries: of_order,
                });
            }
            if entries > PAGE_ENTRIES {
                return Ok((found, Some(next)));
            }
        }
        let mut next = moment.prepare_cached("SELECT min(id) FROM orders WHERE id > ?1")?;
        let next: Option<i64> = next.query_row([last], |row| row.get(0))?;
        Ok((found, next.map(|order| Cursor { order, entry: 0 })))
    }
}

impl Wanted {
    /// Where the names begin and end that begin so. No text begins with the last of all characters, which
    /// stands for nothing.
    fn names(&self) -> Option<(String, String)> {
        let name = self.name.as_ref()?;
        Some((name.clone(), format!("{name}{}", char::MAX)))
    }

    fn is_in_time(&self, at: UnixSeconds) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }

    /// By the index that finds the fewest. Those of all statuses are those of each: each has its newest
    /// ones at an end of the index.
    fn sql(&self) -> String {
        let select = |from: &str, is: &str, by: &str| {
            format!(
                "SELECT {ORDER_COLUMNS} FROM orders {from} WHERE {is} AND {MATCHES} AND created >= :since
                 AND (created, id) < (:created, :id) ORDER BY {by} LIMIT :limit"
            )
        };
        const NEWEST: &str = "created DESC, id DESC";
        if self.flagged {
            return select("INDEXED BY orders_flagged", IS_FLAGGED, NEWEST);
        }
        if self.name.is_some() {
            return select("", "name >= :from AND name < :to", "name");
        }
        let by_status = |status: &str| {
            let is = format!("status = {status}");
            select("INDEXED BY orders_by_status", &is, NEWEST)
        };
        if self.status.is_some() {
            return by_status(":status");
        }
        let each = Status::ALL.map(|status| {
            let of_status = by_status(&format!("'{}'", status.as_str()));
            format!("SELECT * FROM ({of_status})")
        });
        let each = each.join(" UNION ALL ");
        format!("{each} ORDER BY {NEWEST} LIMIT :limit")
    }
}

/// What is wanted besides a time and a flag.
const MATCHES: &str = "(:status IS NULL OR status = :status)
    AND (:from IS NULL OR name >= :from AND name < :to)";

fn entries_of(db: &Connection, order: &StoredOrder) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::new();
    payments::each_of(db, order.id, |payment| {
        let Some((currency, movements)) = totals::movements(payment) else {
            return;
        };
        entries.extend(movements.into_iter().map(|movement| Entry {
            at: movement.at,
            way: Some(movement.way),
            minor: movement.minor,
            currency: Some(currency.clone()),
            object: movement.object.cloned(),
            cursor: Cursor::default(),
        }));
    })?;
    entries.sort_by(|a, b| (a.at, a.way, &a.object).cmp(&(b.at, b.way, &b.object)));
    if entries.is_empty() {
        entries.push(Entry {
            at: order.state.since,
            way: None,
            minor: 0,
            currency: order.state.currency.clone(),
            object: None,
            cursor: Cursor::default(),
        });
    }
    for (entry, number) in entries.iter_mut().zip(1..) {
        entry.cursor = Cursor {
            order: order.id,
            entry: number,
        };
    }
    Ok(entries)
}
