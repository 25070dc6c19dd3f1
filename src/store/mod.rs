//! The SQLite file: facts, orders and the ledger of events. The only room that speaks SQL.
//!
//! Invariants, cited by number in its modules and in tests:
//!  S1  An event id is in the ledger at most once.
//!  S2  An order, its facts and the event that changed them are in the same commit.
//!  S3  [`Store::record`] returns Ok only after that commit is synced: WAL with
//!      `synchronous=FULL`, <https://www.sqlite.org/pragma.html#pragma_synchronous>.
//!  S4  The stored order equals the order computed from the stored facts.
//!  S5  Whatever the order of arrival, two objects that name the same session belong to one payment
//!      (`object.rs` says within which months).
//!
//! Each module may use those below it:
//!
//! ```text
//! writer    joins waiting deliveries into one commit
//! upkeep    the operator's chores: check, summary, prune, retire
//! open      opens the file for use: makes it, migrates it
//! copy      backups
//! told      what `paidup notify` has told, and to whom
//! feed      what has changed, for those who poll
//! look      what `paidup page` looks at
//! read      what commands, metrics and the API ask for
//! wanted    pages of orders
//! record    commits deliveries
//! apply     what one delivery does to the tables
//! checkout  one Checkout Session for each request of the shop
//! payments, object, orders, ledger, takings    the rows of one table each, or of a few
//! sums      what a batch changes of the sums that are kept
//! connect   connects to the file, and refuses one that is not ours
//! wal       when the log is moved into the file
//! watch     whether the open files are still the ones at these names
//! lock, readers, error
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::truth::reading::Mode;

mod apply;
mod checkout;
mod connect;
mod copy;
mod error;
mod feed;
pub mod json;
mod ledger;
mod lock;
mod look;
mod object;
mod open;
mod orders;
mod payments;
mod read;
mod readers;
mod record;
mod sums;
mod takings;
mod told;
mod upkeep;
mod wal;
mod wanted;
mod watch;
pub mod writer;

pub use checkout::{Ask, Asked, Checkout};
pub use copy::CopyError;
pub use error::StoreError;
pub use feed::{Changes, Gone};
pub use ledger::StoredEvent;
pub use lock::ServeLock;
pub(crate) use lock::{TellLock, UseLock, uses_another_file};
pub use orders::{Change, StoredOrder};
pub use read::Figures;
pub(crate) use readers::{Process, readers, writer};
pub use takings::Period;
pub use told::{Destination, Told, Unheard};
pub(crate) use told::{Due, Tale};
pub(crate) use upkeep::{Chore, Retired};
pub use upkeep::{PruneBatch, Summary};
pub use wanted::{Cursor, Entry, Moved, Place, Wanted};

use connect::Schema;
use watch::Watch;

/// The number of the schema that this program writes, in the file's `user_version`.
pub const SCHEMA_VERSION: i64 = 1;
/// How long a statement waits while another process of ours writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// One open database file.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    /// The path of its log.
    log: PathBuf,
    /// Pages in the log after the last commit.
    log_pages: Arc<AtomicI32>,
    /// Whether the file holds live or test data, once that is known to be on disk.
    mode: Option<Mode>,
    /// `None` for a file that is only read.
    watch: Option<Watch>,
    /// `None` for a database that no server has opened yet, such as a backup.
    lock: Option<UseLock>,
    /// The schema that the file is to have.
    schema: &'static Schema,
}

impl Drop for Store {
    /// SQLite's last connection moves the log into the file and deletes it, by name. Files that came
    /// to these names meanwhile are not ours to delete.
    fn drop(&mut self) {
        if self.look().is_err() {
            let keep = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            let _ = self.connection.set_db_config(keep, true);
        }
    }
}

impl Store {
    /// Whether the open files are still those that the next start will find. A commit counts only
    /// then.
    fn look(&self) -> Result<(), StoreError> {
        self.watch.as_ref().map_or(Ok(()), Watch::look)
    }
}
