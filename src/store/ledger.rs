//! The rows of `event`: the ledger of what Stripe has sent.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StoreError;
use crate::base::id::{RequestId, StripeId, UnixSeconds};
use crate::truth::delivery::{Delivery, Outcome};
use crate::truth::fact::Fact;

/// One event of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Order of arrival.
    pub seq: i64,
    /// `evt_…`
    pub id: String,
    /// Stripe's event type.
    pub kind: String,
    /// When Stripe created it.
    pub created: Option<UnixSeconds>,
    /// When it arrived, by this host's clock.
    pub received_at: UnixSeconds,
    /// The Stripe object that it is about.
    pub object: Option<String>,
    /// What it did when it arrived.
    pub outcome: String,
    /// Why it was ignored, if it was.
    pub reason: Option<String>,
    /// The request that brought it; `None` when we fetched it ourselves.
    pub request_id: Option<String>,
    /// SHA-256 of its body, in hex.
    pub sha256: String,
    /// The order that it belongs to, as far as is known now.
    pub order: Option<String>,
}

/// What `StoredEvent::read` expects, in this order.
pub(super) const EVENT_COLUMNS: &str =
    "seq, id, type, created, received_at, object, outcome, reason, request_id, sha256";

impl StoredEvent {
    /// Without its order, which is looked up by its object.
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

/// Where an event is in the ledger, and what it did.
pub(super) struct LedgerEntry {
    pub(super) seq: i64,
    pub(super) was_ignored: bool,
}

/// The event's entry, if it was recorded before.
pub(super) fn find(db: &Connection, id: &StripeId) -> Result<Option<LedgerEntry>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT seq, outcome = 'ignored' FROM event WHERE id = ?1")?;
    let read = |row: &Row<'_>| {
        Ok(LedgerEntry {
            seq: row.get(0)?,
            was_ignored: row.get(1)?,
        })
    };
    Ok(statement.query_row([id.as_str()], read).optional()?)
}

/// Writes the event, over the entry at `seq` if it has one, else at the end. Returns its place.
pub(super) fn write(
    db: &Connection,
    delivery: &Delivery,
    seq: Option<i64>,
    outcome: Outcome,
    fact: Option<&Fact>,
) -> Result<i64, StoreError> {
    let mut statement = db.prepare_cached(match seq {
        None => {
            "INSERT INTO event
                 (seq, id, type, created, received_at, object, outcome, reason, request_id, sha256)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
        }
        Some(_) => {
            "REPLACE INTO event
                 (seq, id, type, created, received_at, object, outcome, reason, request_id, sha256)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
        }
    })?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::event::{Event, Ignored};
    use crate::truth::reading::Reading;

    fn delivery(event: &str) -> Delivery {
        let text = format!(
            r#"{{"id":"{event}","type":"any.type","created":1,"data":{{"object":{{"id":"x_1"}}}}}}"#
        );
        Delivery {
            event: Event::from_json(&text, &Reading::default()).unwrap(),
            sha256: [0; 32],
            request_id: None,
            received: UnixSeconds(1),
        }
    }

    /// Stories know their events by place.
    #[test]
    fn an_event_that_comes_into_use_keeps_its_place() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("../../schema.sql")).unwrap();
        let ignored = Outcome::Ignored(Ignored::Type);
        for (number, event) in (1..).zip(["evt_a", "evt_b", "evt_c"]) {
            let place = write(&db, &delivery(event), None, ignored, None);
            assert_eq!(place, Ok(number));
        }
        let b = delivery("evt_b");
        let entry = find(&db, &b.event.id).unwrap().unwrap();
        assert_eq!((entry.seq, entry.was_ignored), (2, true));
        assert_eq!(write(&db, &b, Some(2), Outcome::Applied, None), Ok(2));
        let entry = find(&db, &b.event.id).unwrap().unwrap();
        assert_eq!((entry.seq, entry.was_ignored), (2, false));
        assert_eq!(write(&db, &delivery("evt_d"), None, ignored, None), Ok(4));
        let count = |sql| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT count(*) FROM event"), 4, "S1");
    }

    #[test]
    fn an_event_is_never_written_at_a_second_place() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("../../schema.sql")).unwrap();
        write(&db, &delivery("evt_a"), None, Outcome::Applied, None).unwrap();
        assert!(write(&db, &delivery("evt_a"), None, Outcome::Applied, None).is_err());
        let entry = find(&db, &delivery("evt_a").event.id).unwrap().unwrap();
        assert_eq!(entry.seq, 1, "S1");
    }
}
