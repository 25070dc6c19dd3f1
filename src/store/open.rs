//! Opens the file for use: makes it, and brings an older one up to date.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, ffi};

use super::connect::{APPLICATION_ID, SCHEMA, Schema, begin, refuse_empty, share_existing};
use super::copy::{CopyError, claim};
use super::watch::{Log, Watch};
use super::{Store, StoreError, UseLock};
use crate::host::files;

/// Bytes in a page of a new file. A delivery writes a row or two into each of its pages, and the whole
/// page into the log: half of SQLite's default makes that half as much. Each level of a tree has half as
/// many entries.
const PAGE_BYTES: i64 = 2_048;
/// Every table and index, as what to read and the key of its order.
const TREES: [(&str, &str); 28] = [
    ("payment", "id"),
    (
        "payment INDEXED BY payment_by_order WHERE order_id <> id",
        "order_id",
    ),
    (
        "payment INDEXED BY payment_parked WHERE order_id IS NULL AND other_shop = 0",
        "id",
    ),
    ("object", "id"),
    ("event", "seq"),
    ("event", "id"),
    ("orders", "id"),
    ("orders", "name"),
    ("orders", "status"),
    ("orders", "changed"),
    (
        "orders INDEXED BY orders_flagged WHERE (flags <> '' OR dispute = 'open')",
        "created",
    ),
    (
        "orders INDEXED BY orders_by_reference WHERE reference IS NOT NULL",
        "reference",
    ),
    ("takings", "quarter"),
    ("checkout", "key"),
    ("checkout", "order_name"),
    (
        "checkout INDEXED BY checkout_by_session WHERE session IS NOT NULL",
        "session",
    ),
    ("change", "order_id"),
    ("gone", "changed"),
    (
        "gone INDEXED BY gone_by_became WHERE became IS NOT NULL",
        "became",
    ),
    ("history", "began"),
    ("destination", "name"),
    ("told", "order_id"),
    (
        "told INDEXED BY told_again WHERE next_try IS NOT NULL",
        "destination",
    ),
    ("tally", "status"),
    ("mode", "id"),
    ("probe", "id"),
    ("chore", "name"),
    ("examination", "id"),
];

impl Store {
    /// Opens the file for the server: makes it, readable by its owner only, if there is none, and
    /// brings an older one up to date after a backup of it.
    ///
    /// # Errors
    /// [`StoreError`]; a file that is not ours, newer than us or damaged is left as it is.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        Store::open_with(path, &SCHEMA)
    }

    fn open_with(path: &Path, schema: &'static Schema) -> Result<Store, StoreError> {
        let lock = UseLock::share(path)?;
        refuse_empty(path, lock.as_ref())?;
        if !path.exists() {
            match lock {
                Some(_) => return Err(StoreError::Vanished),
                None => make(&files::real(path), schema)?,
            }
        }
        let mut store = Store::connect(path, lock, schema)?;
        store.migrate(path)?;
        if store.lock.is_none() {
            store.lock = UseLock::share_new(path)?;
        }
        store.touch_every_tree()?;
        let log = Log::of(path).map_err(|_| StoreError::Io(ffi::SQLITE_IOERR_FSYNC))?;
        store.settle_log(path, &log)?;
        store.watch = Some(Watch::of(path, Some(Arc::new(log)))?);
        Ok(store)
    }

    /// Opens the file, which must be there and up to date.
    ///
    /// # Errors
    /// [`StoreError`]; a file that is not ours, of another schema or damaged is left as it is.
    pub fn open_existing(path: &Path) -> Result<Store, StoreError> {
        Store::open_existing_with(path, &SCHEMA)
    }

    fn open_existing_with(path: &Path, schema: &'static Schema) -> Result<Store, StoreError> {
        let lock = share_existing(path)?;
        let mut store = Store::connect(path, lock, schema)?;
        match store.schema_version()? {
            version if version == schema.version => {}
            older => return Err(StoreError::Older(older)),
        }
        store.watch = Some(Watch::of(path, None)?);
        Ok(store)
    }

    /// One more connection to the same file, which knows what this one knows of the log.
    ///
    /// # Errors
    /// As [`Store::open_existing`].
    pub fn open_beside(&self, path: &Path) -> Result<Store, StoreError> {
        let mut beside = Store::open_existing_with(path, self.schema)?;
        let log = self.watch.as_ref().and_then(Watch::log);
        beside.watch = Some(Watch::of(path, log)?);
        Ok(beside)
    }

    /// Brings the file up to date in one transaction. Two processes may try at once.
    fn migrate(&mut self, path: &Path) -> Result<(), StoreError> {
        let schema = self.schema;
        if self.schema_version()? == schema.version {
            return Ok(());
        }
        let transaction = begin(&mut self.connection)?;
        let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version > schema.version {
            return Err(StoreError::Newer(version));
        }
        if version < schema.version {
            // The transaction holds the write lock, so nothing comes in after the backup.
            Store::open_query_only_with(path, schema)?
                .copy_to(&backup_before(path, schema), true)
                .map_err(|error| StoreError::NotBackedUp(error.to_string()))?;
            for (step, from) in schema.steps.iter().zip(1..) {
                if from >= version {
                    transaction.execute_batch(step)?;
                }
            }
        }
        transaction.pragma_update(None, "user_version", schema.version)?;
        Ok(transaction.commit()?)
    }

    /// Reads the way down to the first and the last entry of every table and index, so that a
    /// server does not start on a file that is damaged there. Unlike SQLite's own check this takes
    /// no longer as the file grows. SQLite reports damage elsewhere when it meets it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] and others.
    pub(crate) fn touch_every_tree(&self) -> Result<(), StoreError> {
        for (tree, key) in TREES {
            for direction in ["ASC", "DESC"] {
                let sql = first_of(tree, key, direction);
                self.connection.query_row(&sql, [], |_| Ok(())).optional()?;
            }
        }
        Ok(())
    }
}

fn first_of(tree: &str, key: &str, direction: &str) -> String {
    format!("SELECT * FROM {tree} ORDER BY {key} {direction} LIMIT 1")
}

/// Makes the file. It gets its name only when it is whole and on disk, so whoever finds an empty one knows
/// that something has happened to it.
fn make(path: &Path, schema: &Schema) -> Result<(), StoreError> {
    let new = files::beside(path, ".new");
    let claim = claim(&new).map_err(|error| match error {
        CopyError::File(_, error) if files::is_full(&error) => StoreError::Full,
        CopyError::File(..) | CopyError::Exists(_) | CopyError::Damaged(_) => {
            StoreError::CannotOpen
        }
        CopyError::Underway(_) => StoreError::Busy,
        CopyError::Store(error) => error,
    })?;
    // Another process may have made it while this one waited for the claim.
    if path.exists() {
        return Ok(());
    }
    let db = Connection::open(&new)?;
    // Nobody needs this file before it has its name: it is synced once, as a whole.
    db.pragma_update(None, "page_size", PAGE_BYTES)?;
    db.pragma_update(None, "journal_mode", "OFF")?;
    db.pragma_update(None, "synchronous", "OFF")?;
    db.execute_batch(&format!("BEGIN; {}; COMMIT", schema.sql))?;
    db.pragma_update(None, "application_id", APPLICATION_ID)?;
    db.pragma_update(None, "user_version", schema.version)?;
    drop(db);
    let failed = |error: io::Error| match files::is_full(&error) {
        true => StoreError::Full,
        false => StoreError::Io(ffi::SQLITE_IOERR_FSYNC),
    };
    claim.sync_all().map_err(failed)?;
    fs::rename(&new, path).map_err(failed)?;
    files::sync_folder_of(path).map_err(failed)
}

/// Where the backup of an older file goes before it is brought up to date.
fn backup_before(database: &Path, schema: &Schema) -> PathBuf {
    files::beside(database, &format!(".before-schema-{}", schema.version))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::thread;

    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::*;
    use crate::base::id::UnixSeconds;
    use crate::host::clock::Now;
    use crate::truth::delivery::Delivery;
    use crate::truth::event::Event;
    use crate::truth::reading::Reading;

    /// A later program: it writes schema 3, and has a step from each schema before.
    static LATER: Schema = Schema {
        version: 3,
        sql: concat!(
            include_str!("../../schema.sql"),
            "CREATE TABLE later (id INTEGER PRIMARY KEY, note TEXT);"
        ),
        steps: &[
            "CREATE TABLE later (id INTEGER PRIMARY KEY)",
            "ALTER TABLE later ADD COLUMN note TEXT",
        ],
    };
    /// The program between the two.
    static MIDDLE: Schema = Schema {
        version: 2,
        sql: "",
        steps: &["CREATE TABLE later (id INTEGER PRIMARY KEY)"],
    };
    /// Names the database for the process that is to be killed.
    const DATABASE: &str = "PAIDUP_TEST_MIGRATED_DATABASE";
    /// The test that is also that other process.
    const MIGRATES: &str =
        "store::open::tests::a_migration_that_is_killed_leaves_the_old_or_the_new_schema";
    /// Enough pages for several steps of a copy.
    const ORDERS: usize = 2_500;
    /// Kills, spread evenly over the time that a migration takes and as long again.
    const KILLS: u32 = 50;

    struct Shop {
        folder: TempDir,
    }

    impl Shop {
        /// As this program writes it.
        fn of(orders: usize) -> Shop {
            let shop = Shop {
                folder: tempfile::tempdir().unwrap(),
            };
            let mut store = Store::open(&shop.database()).unwrap();
            let batch: Vec<_> = (0..orders).map(paid).collect();
            for answer in store.record(&batch).unwrap() {
                answer.unwrap();
            }
            shop
        }

        fn database(&self) -> PathBuf {
            self.folder.path().join("paidup.db")
        }

        fn version(&self) -> i64 {
            version(&self.database())
        }
    }

    fn paid(number: usize) -> Delivery {
        let text = format!(
            r#"{{"id":"evt_{number}","type":"checkout.session.completed","created":1,"data":{{"object":
                {{"id":"cs_{number}","payment_status":"paid","amount_total":100,"currency":"eur"}}}}}}"#
        );
        Delivery {
            event: Event::from_json(&text, &Reading::default()).unwrap(),
            sha256: [0; 32],
            request_id: None,
            received: UnixSeconds(1),
        }
    }

    fn version(path: &Path) -> i64 {
        let db = Connection::open(path).unwrap();
        db.query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap()
    }

    /// The orders of a file that is whole.
    fn orders_in(path: &Path, schema: &'static Schema) -> usize {
        let store = Store::open_query_only_with(path, schema).unwrap();
        assert_eq!(store.damage().unwrap(), [""; 0]);
        match store.disagreements() {
            Ok(problems) => assert_eq!(problems, [""; 0]),
            Err(error) => assert_eq!(error, StoreError::Older(1)),
        }
        store.orders(None, u32::MAX).unwrap().len()
    }

    /// Every column of every table, as SQLite understands the schema.
    fn columns(path: &Path) -> Vec<String> {
        let db = Connection::open(path).unwrap();
        let sql = "SELECT s.type || ' ' || s.name || ' ' || coalesce(c.name || ' ' || c.type || c.\"notnull\" || c.pk, '')
                   FROM sqlite_schema s LEFT JOIN pragma_table_info(s.name) c ORDER BY 1";
        let mut statement = db.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    #[test]
    fn each_older_schema_has_a_step() {
        for schema in [&SCHEMA, &MIDDLE, &LATER] {
            let steps = i64::try_from(schema.steps.len()).unwrap();
            assert_eq!(schema.version, 1 + steps);
        }
    }

    #[test]
    fn who_comes_second_makes_no_backup_of_what_the_first_brought_up_to_date() {
        let shop = Shop::of(1);
        let path = shop.database();
        let mut first = Connection::open(&path).unwrap();
        let first = begin(&mut first).unwrap();
        let second = thread::spawn({
            let path = path.clone();
            move || drop(Store::open_with(&path, &LATER).unwrap())
        });
        // Until it has seen the old schema, and waits for its turn.
        thread::sleep(std::time::Duration::from_millis(200));
        for step in LATER.steps {
            first.execute_batch(step).unwrap();
        }
        first.pragma_update(None, "user_version", 3).unwrap();
        first.commit().unwrap();
        second.join().unwrap();
        assert_eq!(shop.version(), 3);
        assert!(!backup_before(&path, &LATER).exists());
    }

    #[test]
    fn an_older_file_is_brought_up_to_date_by_the_server_after_a_backup() {
        let shop = Shop::of(2);
        let path = shop.database();
        assert_eq!(
            Store::open_existing_with(&path, &LATER).err(),
            Some(StoreError::Older(1))
        );
        let copy = shop.folder.path().join("by-hand.db");
        let older = Store::open_query_only_with(&path, &LATER).unwrap();
        older.copy_to(&copy, false).unwrap();
        drop(older);
        assert_eq!(version(&copy), 1, "a backup is what it is a copy of");
        assert_eq!(shop.version(), 1);

        drop(Store::open_with(&path, &LATER).unwrap());

        assert_eq!(shop.version(), 3);
        assert_eq!(orders_in(&path, &LATER), 2);
        let backup = backup_before(&path, &LATER);
        assert!(backup.ends_with("paidup.db.before-schema-3"));
        assert_eq!(version(&backup), 1);
        assert_eq!(orders_in(&backup, &SCHEMA), 2, "the way back");
        let new = shop.folder.path().join("new.db");
        drop(Store::open_with(&new, &LATER).unwrap());
        assert_eq!(columns(&path), columns(&new));
        let mut store = Store::open_existing_with(&path, &LATER).unwrap();
        let mut beside = store.open_beside(&path).unwrap();
        store.record(&[paid(3)]).unwrap();
        beside.record(&[paid(4)]).unwrap();
        assert_eq!(orders_in(&path, &LATER), 4);
    }

    /// A step that was taken is not taken again.
    #[test]
    fn a_file_is_brought_from_each_schema_to_the_next() {
        let shop = Shop::of(1);
        for schema in [&SCHEMA, &MIDDLE, &MIDDLE, &LATER, &LATER] {
            let store = Store::open_with(&shop.database(), schema);
            assert_eq!(store.unwrap().schema_version(), Ok(schema.version));
        }
        assert_eq!(version(&backup_before(&shop.database(), &LATER)), 2);
        let new = shop.folder.path().join("new.db");
        drop(Store::open_with(&new, &LATER).unwrap());
        assert_eq!(columns(&shop.database()), columns(&new));
    }

    #[test]
    fn without_its_backup_nothing_is_migrated() {
        let shop = Shop::of(1);
        let backup = backup_before(&shop.database(), &LATER);
        // A folder in its place: the backup cannot be written.
        fs::create_dir(files::beside(&backup, ".partial")).unwrap();
        let error = Store::open_with(&shop.database(), &LATER).err().unwrap();
        assert!(matches!(error, StoreError::NotBackedUp(_)), "{error}");
        assert_eq!(shop.version(), 1);
        assert_eq!(orders_in(&shop.database(), &SCHEMA), 1);
    }

    #[test]
    fn a_step_that_fails_leaves_the_file_as_it_was() {
        static FAULTY: Schema = Schema {
            version: 3,
            sql: "",
            steps: &["CREATE TABLE later (id INTEGER PRIMARY KEY)", "no SQL"],
        };
        let shop = Shop::of(1);
        assert!(Store::open_with(&shop.database(), &FAULTY).is_err());
        assert_eq!(shop.version(), 1);
        assert_eq!(columns(&shop.database()), columns(&Shop::of(0).database()));
    }

    #[test]
    fn a_newer_file_is_refused_also_when_it_became_newer_just_now() {
        let shop = Shop::of(1);
        let mut late = Store::open(&shop.database()).unwrap();
        drop(Store::open_with(&shop.database(), &LATER).unwrap());
        let newer = Some(StoreError::Newer(3));
        assert_eq!(late.migrate(&shop.database()).err(), newer);
        assert_eq!(Store::open(&shop.database()).err(), newer);
        assert_eq!(Store::open_existing(&shop.database()).err(), newer);
        assert_eq!(Store::open_query_only(&shop.database()).err(), newer);
        assert_eq!(shop.version(), 3);
    }

    #[test]
    fn a_migration_that_is_killed_leaves_the_old_or_the_new_schema() {
        if let Some(path) = std::env::var_os(DATABASE) {
            drop(Store::open_with(Path::new(&path), &LATER).unwrap());
            return;
        }
        let template = Shop::of(ORDERS);
        Connection::open(template.database())
            .unwrap()
            .pragma_update(None, "journal_mode", "DELETE")
            .unwrap();
        let old = fs::read(template.database()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("paidup.db");
        let lay_out = || {
            for entry in fs::read_dir(folder.path()).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
            fs::write(&path, &old).unwrap();
        };
        lay_out();
        let began = Now::read().instant;
        assert!(migrating(&path).wait().unwrap().success());
        let whole = began.elapsed();
        assert_eq!(version(&path), 3, "the process does migrate");
        let (mut before, mut after) = (0, 0);
        for kill in 0..KILLS {
            lay_out();
            let mut child = migrating(&path);
            // Beside other tests it may take longer than it just did.
            thread::sleep(whole * kill * 2 / KILLS);
            let _ = child.kill();
            child.wait().unwrap();
            match Store::open_query_only_with(&path, &LATER)
                .unwrap()
                .schema_version()
            {
                Ok(1) => before += 1,
                version => {
                    assert_eq!(version, Ok(3));
                    assert_eq!(orders_in(&backup_before(&path, &LATER), &LATER), ORDERS);
                    after += 1;
                }
            }
            assert_eq!(orders_in(&path, &LATER), ORDERS);
            drop(Store::open_with(&path, &LATER).unwrap());
            assert_eq!(orders_in(&path, &LATER), ORDERS);
        }
        assert!(
            before > 0 && after > 0,
            "killed before the change {before} times, after it {after}"
        );
    }

    /// This test program, which does nothing but migrate.
    fn migrating(path: &Path) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", MIGRATES])
            .env(DATABASE, path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    }

    /// By the pages that SQLite says it will read.
    #[test]
    fn every_table_and_index_is_looked_at() {
        let shop = Shop::of(1);
        let db = Connection::open(shop.database()).unwrap();
        let sorted = |mut pages: Vec<i64>| {
            pages.sort_unstable();
            pages.dedup();
            pages
        };
        let mut looked_at = Vec::new();
        for (tree, key) in TREES {
            let sql = format!("EXPLAIN {}", first_of(tree, key, "ASC"));
            let mut steps = db.prepare(&sql).unwrap();
            let read = |row: &rusqlite::Row<'_>| Ok((row.get("opcode")?, row.get("p2")?));
            let steps = steps.query_map([], read).unwrap();
            let steps: Vec<(String, i64)> = steps.map(Result::unwrap).collect();
            looked_at.extend(
                steps
                    .into_iter()
                    .filter(|(code, _)| code == "OpenRead")
                    .map(|(_, page)| page),
            );
        }
        let mut trees = db
            .prepare("SELECT rootpage FROM sqlite_schema WHERE rootpage > 0")
            .unwrap();
        let trees = trees.query_map([], |row| row.get(0)).unwrap();
        assert_eq!(
            sorted(looked_at),
            sorted(trees.map(Result::unwrap).collect())
        );
    }
}
