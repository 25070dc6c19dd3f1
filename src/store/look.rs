//! What `paidup page` looks at. A reader who takes long would keep the log from being cut, and so each
//! look ends by its deadline.

use std::path::Path;
use std::time::Instant;

use rusqlite::{OptionalExtension, params};
use serde_json::Value;

use super::orders::ORDER_COLUMNS;
use super::{Store, StoreError, StoredOrder, Wanted};
use crate::base::id::UnixSeconds;
use crate::host::clock::Now;
use crate::truth::order::Status;

/// How many steps SQLite takes between two looks at the clock: well below a millisecond.
const STEPS: i32 = 10_000;
/// Parked payments that are counted at most.
const PARKED_MAX: i64 = 1_000;
/// Payments whose order is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parked {
    /// Counting ends at 1,000.
    pub(crate) payments: i64,
    /// Stripe's time of the oldest.
    pub(crate) since: UnixSeconds,
}

impl Store {
    /// Opens the file, which must be there and up to date, to look at it until `deadline`. No statement
    /// can change it.
    ///
    /// # Errors
    /// As [`Store::open_existing`]; afterwards [`StoreError::TookLong`] when it is past the deadline.
    pub(crate) fn open_to_look(path: &Path, deadline: Instant) -> Result<Store, StoreError> {
        let mut store = Store::open_query_only(path)?;
        let is_late = move || Now::read().instant >= deadline;
        store.connection.progress_handler(STEPS, Some(is_late))?;
        let version = store.schema_version()?;
        if version != store.schema.version {
            return Err(StoreError::Older(version));
        }
        Ok(store)
    }

    /// Everything that `look` reads is of one moment.
    pub(crate) fn at_one_moment<T>(
        &self,
        look: impl FnOnce(&Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let moment = self.connection.unchecked_transaction()?;
        let seen = look(self)?;
        drop(moment);
        Ok(seen)
    }

    /// At most `limit` orders whose names begin so, by name, behind the name `after`. Only those of `status`
    /// or that need somebody, if that is wanted: then it also reads those in between.
    pub(crate) fn named(
        &self,
        wanted: &Wanted,
        after: &str,
        limit: u32,
    ) -> Result<Vec<StoredOrder>, StoreError> {
        let begins = wanted.name.as_deref().unwrap_or_default();
        // One bound, or SQLite may begin at the lower one.
        let (from, is_behind) = match after {
            "" => (begins, ">="),
            after => (after, ">"),
        };
        // The sign keeps SQLite from the index of the statuses, which is not by name.
        let sql = format!(
            "SELECT {ORDER_COLUMNS} FROM orders WHERE name {is_behind} ?1 AND name < ?2
             AND (?3 IS NULL OR +status = ?3) AND (NOT ?4 OR flags <> '' OR dispute = 'open')
             ORDER BY name LIMIT ?5"
        );
        // No text begins with the last of all characters, which stands for nothing.
        let end = format!("{begins}{}", char::MAX);
        let status = wanted.status.map(Status::as_str);
        let mut read = self.connection.prepare_cached(&sql)?;
        let which = params![from, end, status, wanted.flagged, limit];
        let rows = read.query_map(which, StoredOrder::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The payments without an order that Stripe told of before `since`, if there are any.
    pub(crate) fn parked(&self, since: UnixSeconds) -> Result<Option<Parked>, StoreError> {
        let sql = "SELECT count(*), min(since) FROM
                       (SELECT since FROM payment INDEXED BY payment_parked
                        WHERE order_id IS NULL AND other_shop = 0 AND since < ?1 ORDER BY id LIMIT ?2)";
        let mut read = self.connection.prepare_cached(sql)?;
        let parked = read.query_row(params![since.0, PARKED_MAX], |row| {
            let since: Option<i64> = row.get(1)?;
            Ok(since.map(|since| (row.get(0), UnixSeconds(since))))
        })?;
        let parked = parked.map(|(payments, since)| {
            Ok::<_, StoreError>(Parked {
                payments: payments?,
                since,
            })
        });
        parked.transpose()
    }

    /// When `paidup doctor` ran last, and what it found.
    pub(crate) fn examination(&self) -> Result<Option<(UnixSeconds, Vec<Value>)>, StoreError> {
        let sql = "SELECT at, findings FROM examination";
        let mut read = self.connection.prepare_cached(sql)?;
        let found = read
            .query_row([], |row| Ok((UnixSeconds(row.get(0)?), row.get(1)?)))
            .optional()?;
        let parsed = found.map(|(at, text): (_, String)| {
            let findings = serde_json::from_str(&text).map_err(|_| StoreError::Unreadable)?;
            Ok((at, findings))
        });
        parsed.transpose()
    }

    /// When the last event came in, by this host's clock.
    pub(crate) fn last_event_at(&self) -> Result<Option<UnixSeconds>, StoreError> {
        let sql = "SELECT received_at FROM event ORDER BY seq DESC LIMIT 1";
        let mut read = self.connection.prepare_cached(sql)?;
        let at = read.query_row([], |row| row.get(0)).optional()?;
        Ok(at.map(UnixSeconds))
    }
}
