//! Commits deliveries, and proves that the disk takes writes.

use std::slice;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::apply::{record_one, settle_mode};
use super::connect::begin;
use super::sums::Sums;
use super::{BUSY_TIMEOUT, Store, StoreError};
use crate::base::id::UnixSeconds;
use crate::truth::delivery::{Delivery, Receipt};
use crate::truth::reading::Mode;

/// What each delivery of a batch comes back with.
pub(super) type Answers = Vec<Result<Receipt, StoreError>>;

impl Store {
    /// Records a batch in one commit. Each delivery stands alone: one that fails is undone alone,
    /// and its answer is an error.
    ///
    /// # Errors
    /// When the commit itself fails, nothing of the batch is stored; a delivery that is alone in its
    /// batch fails with it. After an error that is fatal the process must end.
    pub fn record(&mut self, batch: &[Delivery]) -> Result<Answers, StoreError> {
        self.keep_room_for_log()?;
        let (transaction, answers) = self.record_uncommitted(batch)?;
        transaction.commit()?;
        self.look()?;
        self.move_long_log()?;
        Ok(answers)
    }

    /// What [`Store::record`] would answer now. Nothing is stored.
    ///
    /// # Errors
    /// As [`Store::record`].
    pub(crate) fn rehearse(&mut self, batch: &[Delivery]) -> Result<Answers, StoreError> {
        let (transaction, answers) = self.record_uncommitted(batch)?;
        transaction.rollback()?;
        Ok(answers)
    }

    /// Whether [`Store::record`] would change an order now, be it only its amount. Nothing is stored.
    ///
    /// # Errors
    /// As [`Store::record`].
    pub(crate) fn would_change(&mut self, batch: &[Delivery]) -> Result<bool, StoreError> {
        let last = |db: &Connection| -> Result<i64, StoreError> {
            let mut last = db.prepare_cached("SELECT number FROM last_number")?;
            Ok(last.query_row([], |row| row.get(0))?)
        };
        let before = last(&self.connection)?;
        let (transaction, answers) = self.record_uncommitted(batch)?;
        answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        let after = last(&transaction)?;
        transaction.rollback()?;
        Ok(after > before)
    }

    pub(super) fn record_uncommitted(
        &mut self,
        batch: &[Delivery],
    ) -> Result<(Transaction<'_>, Answers), StoreError> {
        let mut transaction = begin(&mut self.connection)?;
        // Once settled it never changes. What this batch settles counts when it is committed.
        if self.mode.is_none() {
            self.mode = read_mode(&transaction)?;
        }
        let mut mode = self.mode;
        if let Some(watch) = &self.watch {
            watch.look_closely(&transaction)?;
        }
        // Many of a batch have the same status, and are in the same quarter of an hour.
        let mut sums = Sums::default();
        let answers = match batch {
            // One delivery alone needs no savepoint: when it fails, the transaction is undone.
            [delivery] => {
                vec![Ok(record_one(
                    &transaction,
                    delivery,
                    &mut mode,
                    &mut sums,
                )?)]
            }
            batch => record_each(&mut transaction, batch, mode, &mut sums)?,
        };
        sums.write(&transaction)?;
        Ok((transaction, answers))
    }

    /// Writes and syncs one row, to prove that the disk takes writes.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::record`].
    pub(crate) fn probe(&mut self, now: UnixSeconds) -> Result<(), StoreError> {
        self.keep_room_for_log()?;
        let transaction = begin(&mut self.connection)?;
        if let Some(watch) = &self.watch {
            watch.look_closely(&transaction)?;
        }
        transaction
            .prepare_cached("UPDATE probe SET at = ?1, room = randomblob(16384) WHERE id = 1")?
            .execute([now.0])?;
        transaction.commit()?;
        self.look()?;
        self.move_long_log()
    }

    /// As [`Store::probe`], without waiting for another process's lock.
    ///
    /// # Errors
    /// As [`Store::probe`]; [`StoreError::Busy`] while another process writes.
    pub(crate) fn probe_at_once(&mut self, now: UnixSeconds) -> Result<(), StoreError> {
        self.connection.busy_timeout(Duration::ZERO)?;
        let probed = self.probe(now);
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        probed
    }

    /// Whether the file holds live or test data; `None` while no event has settled it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn mode(&self) -> Result<Option<Mode>, StoreError> {
        read_mode(&self.connection)
    }

    /// Makes the file one of `wanted`, unless it is of the other mode already: test and live never mix.
    ///
    /// # Errors
    /// [`StoreError::OtherMode`], and others.
    pub fn settle_mode(&mut self, wanted: Mode) -> Result<(), StoreError> {
        let transaction = begin(&mut self.connection)?;
        match read_mode(&transaction)? {
            Some(mode) if mode != wanted => return Err(StoreError::OtherMode(mode)),
            Some(_) => {}
            None => settle_mode(&transaction, Some(wanted))?,
        }
        Ok(transaction.commit()?)
    }
}

/// All deliveries in one savepoint, or, when one of them fails, each in a savepoint of its own. A
/// savepoint copies each page before it is changed, and hardly any delivery fails.
fn record_each(
    transaction: &mut Transaction<'_>,
    batch: &[Delivery],
    mut mode: Option<Mode>,
    sums: &mut Sums,
) -> Result<Answers, StoreError> {
    if let Ok(receipts) = record_part(transaction, batch, &mut mode, sums)? {
        return Ok(receipts.into_iter().map(Ok).collect());
    }
    let mut answers = Vec::with_capacity(batch.len());
    for delivery in batch {
        let part = slice::from_ref(delivery);
        match record_part(transaction, part, &mut mode, sums)? {
            Ok(receipts) => answers.extend(receipts.into_iter().map(Ok)),
            Err(error) => answers.push(Err(error)),
        }
    }
    Ok(answers)
}

/// Deliveries in a savepoint, of which none or all are recorded. An error that ends the transaction is
/// the outer one.
fn record_part(
    transaction: &mut Transaction<'_>,
    part: &[Delivery],
    mode: &mut Option<Mode>,
    sums: &mut Sums,
) -> Result<Result<Vec<Receipt>, StoreError>, StoreError> {
    let savepoint = transaction.savepoint()?;
    let mut settled = *mode;
    let mut its_sums = Sums::default();
    let record = |delivery| record_one(&savepoint, delivery, &mut settled, &mut its_sums);
    let recorded: Result<Vec<_>, StoreError> = part.iter().map(record).collect();
    match &recorded {
        Ok(_) => {
            *mode = settled;
            sums.join(its_sums);
            savepoint.commit()?;
        }
        // Some errors end the whole transaction, and with it the savepoint.
        Err(error) if error.is_fatal() || savepoint.is_autocommit() => return Err(error.clone()),
        Err(_) => savepoint.finish()?,
    }
    Ok(recorded)
}

fn read_mode(db: &Connection) -> Result<Option<Mode>, StoreError> {
    let mut read = db.prepare_cached("SELECT word FROM mode")?;
    let word = read
        .query_row([], |row| row.get::<_, String>(0))
        .optional()?;
    Ok(word.and_then(|word| Mode::parse(&word)))
}
