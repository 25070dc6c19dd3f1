//! Backups, restoring, refusing and pruning over real SQLite files.

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use paidup::base::id::UnixSeconds;
use paidup::command::backup::{self, Target};
use paidup::command::db;
use paidup::command::exit::{Exit, Failure};
use paidup::command::restore;
use paidup::host::files;
use paidup::store::{SCHEMA_VERSION, ServeLock, Store, StoreError, StoredOrder};
use paidup::truth::delivery::{Delivery, Outcome};
use paidup::truth::event::Event;
use paidup::truth::reading::Reading;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

const NOW: UnixSeconds = UnixSeconds(1_795_499_186);
const DAY: i64 = 24 * 60 * 60;

// ── Backup ──────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_backup_is_one_private_file_with_everything_that_was_committed() {
    let shop = Shop::with(&["1", "2"]);
    // The log has not been moved into the file yet: the backup has to read both.
    let _server = shop.store();
    shop.add("3");
    let copy = shop.path("copy.db");

    let told = shop.backup(&copy, false).unwrap();

    assert!(
        told.contains("verified, orders: 3, events in the ledger: 3"),
        "{told}"
    );
    assert_eq!(names(&copy), ["ord_3", "ord_2", "ord_1"]);
    assert_eq!(
        fs::metadata(&copy).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    let beside = [
        "copy.db-wal",
        "copy.db-shm",
        "copy.db-journal",
        "copy.db.partial",
    ];
    assert!(beside.iter().all(|name| !shop.path(name).exists()));
}

#[test]
fn a_file_that_is_there_is_replaced_only_when_asked_and_only_by_a_good_one() {
    let shop = Shop::with(&["1"]);
    let copy = shop.path("copy.db");
    shop.backup(&copy, false).unwrap();
    shop.add("2");
    let error = shop.backup(&copy, false).unwrap_err().to_string();
    assert!(
        error.contains("is there already") && error.contains("--force"),
        "{error}"
    );
    assert_eq!(names(&copy), ["ord_1"]);
    shop.backup(&copy, true).unwrap();
    assert_eq!(names(&copy), ["ord_2", "ord_1"]);

    let good = fs::read(&copy).unwrap();
    shop.damage_rows();
    let error = shop.backup(&copy, true).unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
    assert_eq!(fs::read(&copy).unwrap(), good, "the good one stays");
    assert!(!shop.path("copy.db.partial").exists());
}

#[test]
fn a_database_is_never_its_own_backup() {
    let shop = Shop::with(&["1"]);
    for force in [false, true] {
        let error = shop
            .backup(&shop.database(), force)
            .unwrap_err()
            .to_string();
        assert!(error.contains("is the database itself"), "{error}");
    }
    std::os::unix::fs::symlink(shop.database(), shop.path("link")).unwrap();
    assert!(shop.backup(&shop.path("link"), true).is_err());
    let name = shop.database().display().to_string();
    for suffix in ["-wal", "-shm", "-journal", ".lock", ".in-use"] {
        let error = shop.backup(Path::new(&format!("{name}{suffix}")), true);
        assert!(error.is_err(), "{suffix}");
    }
    let error = shop.restore(&shop.database()).unwrap_err().to_string();
    assert!(error.contains("is the database itself"), "{error}");
    assert_eq!(names(&shop.database()), ["ord_1"]);
}

#[test]
fn a_copy_that_another_process_is_writing_is_left_to_it() {
    let shop = Shop::with(&["1"]);
    let partial = fs::File::create(shop.path("copy.db.partial")).unwrap();
    partial.lock().unwrap();
    let error = shop
        .backup(&shop.path("copy.db"), false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("another process is writing"), "{error}");
    drop(partial);
    fs::write(
        shop.path("copy.db.partial"),
        "left by a process that was killed",
    )
    .unwrap();
    shop.backup(&shop.path("copy.db"), false).unwrap();
    assert_eq!(names(&shop.path("copy.db")), ["ord_1"]);
}

#[test]
fn a_folder_keeps_the_newest_and_what_we_did_not_name() {
    let shop = Shop::with(&["1"]);
    let folder = shop.path("backups");
    fs::create_dir(&folder).unwrap();
    for other in [
        "paidup-before-the-sale.db",
        "notes.txt",
        "paidup-20200101T000000Z.db.partial",
    ] {
        fs::write(folder.join(other), "mine").unwrap();
    }
    fs::create_dir(folder.join("paidup-19990101T000000Z.db")).unwrap();
    for day in 0..5 {
        shop.backup_to_folder(&folder, 3, UnixSeconds(NOW.0 + day * DAY))
            .unwrap();
    }
    let ours = |text: &str| text.starts_with("paidup-202611") && text.ends_with("Z.db");
    let kept = listed(&folder)
        .into_iter()
        .filter(|name| ours(name))
        .collect::<Vec<_>>();
    let expected = ["26", "27", "28"].map(|day| format!("paidup-202611{day}T054626Z.db"));
    assert_eq!(kept, expected);
    assert_eq!(listed(&folder).len(), 3 + 4, "{:?}", listed(&folder));

    let wrong_clock = UnixSeconds(0);
    let told = shop.backup_to_folder(&folder, 2, wrong_clock).unwrap();
    assert!(
        folder.join("paidup-19700101T000000Z.db").exists(),
        "the new one stays: {told}"
    );
    assert!(folder.join("paidup-20261128T054626Z.db").exists());
    assert!(!folder.join("paidup-20261127T054626Z.db").exists());
}

#[test]
fn a_failed_backup_removes_no_older_one() {
    let shop = Shop::with(&["1"]);
    let folder = shop.path("backups");
    fs::create_dir(&folder).unwrap();
    for day in 0..3 {
        shop.backup_to_folder(&folder, 9, UnixSeconds(NOW.0 + day * DAY))
            .unwrap();
    }
    shop.damage_rows();
    assert!(
        shop.backup_to_folder(&folder, 1, UnixSeconds(NOW.0 + 9 * DAY))
            .is_err()
    );
    assert_eq!(listed(&folder).len(), 3);
}

// ── Restore ─────────────────────────────────────────────────────────────────────────────────────

#[test]
fn restoring_keeps_what_was_there_with_all_that_its_log_had() {
    let shop = Shop::with(&["1"]);
    let copy = shop.path("copy.db");
    shop.backup(&copy, false).unwrap();
    shop.leave_a_log("2");
    assert!(shop.path("paidup.db-wal").exists());

    let told = shop.restore(&copy).unwrap();

    assert!(told.contains("copy.db, orders: 1"), "{told}");
    assert_eq!(
        names(&shop.database()),
        ["ord_1"],
        "the old log was not applied to it"
    );
    let kept = shop.path("paidup.db.replaced-20261124T054626Z");
    assert!(told.contains(kept.to_str().unwrap()), "{told}");
    assert_eq!(names(&kept), ["ord_2", "ord_1"]);
    assert_eq!(names(&copy), ["ord_1"]);
    shop.add("3");
    assert_eq!(names(&shop.database()), ["ord_3", "ord_1"]);

    let error = shop.restore(&copy).unwrap_err().to_string();
    assert!(error.contains("in this very second"), "{error}");
    assert_eq!(names(&shop.database()), ["ord_3", "ord_1"]);
    assert_eq!(names(&kept), ["ord_2", "ord_1"]);
}

#[test]
fn a_damaged_database_is_replaced_and_kept_with_its_log() {
    for damage in [0_usize, 24, 4096] {
        let shop = Shop::with(&["1"]);
        let copy = shop.path("copy.db");
        shop.backup(&copy, false).unwrap();
        shop.leave_a_log("2");
        let mut bytes = fs::read(shop.database()).unwrap();
        bytes.truncate(8192);
        bytes[damage..damage + 1000].fill(0xaa);
        fs::write(shop.database(), &bytes).unwrap();
        // With its log, the file may even be repaired: then it is retired as any other.
        shop.restore(&copy).unwrap();
        assert!(!shop.path("paidup.db-wal").exists() && !shop.path("paidup.db-shm").exists());
        assert_eq!(names(&shop.database()), ["ord_1"], "damaged at {damage}");
        let kept = shop.path("paidup.db.replaced-20261124T054626Z");
        assert!(kept.exists());
    }
}

#[test]
fn an_emptied_database_is_no_reason_to_lose_its_log() {
    let shop = Shop::with(&["1"]);
    let copy = shop.path("copy.db");
    shop.backup(&copy, false).unwrap();
    shop.leave_a_log("2");
    let log = fs::read(shop.path("paidup.db-wal")).unwrap();
    for emptied in [true, false] {
        if emptied {
            fs::write(shop.database(), "").unwrap();
        } else {
            fs::remove_file(shop.database()).unwrap();
        }
        assert_eq!(
            Store::open(&shop.database()).err(),
            Some(StoreError::LoneLog)
        );
        assert_eq!(fs::read(shop.path("paidup.db-wal")).unwrap(), log);
    }
    shop.restore(&copy).unwrap();
    assert_eq!(names(&shop.database()), ["ord_1"]);
    let kept = shop.path("paidup.db.replaced-20261124T054626Z-wal");
    assert_eq!(fs::read(kept).unwrap(), log);
}

#[test]
fn what_is_no_good_backup_is_refused_and_nothing_changes() {
    let shop = Shop::with(&["1"]);
    let whole = shop.path("whole.db");
    shop.backup(&whole, false).unwrap();
    let variant = |name: &str, change: &dyn Fn(&Path)| {
        let path = shop.path(name);
        fs::copy(&whole, &path).unwrap();
        change(&path);
        path
    };
    let sql = |sql: &'static str| {
        move |path: &Path| Connection::open(path).unwrap().execute_batch(sql).unwrap()
    };
    let bad = [
        (shop.path("none.db"), "there is no such file"),
        (
            variant("newer.db", &sql("PRAGMA user_version = 99")),
            "has schema 99",
        ),
        (
            variant("other.db", &sql("PRAGMA application_id = 1")),
            "no database of paidup's",
        ),
        (
            variant("text.db", &|path| {
                fs::write(path, "no database at all, but long enough").unwrap();
            }),
            "no database",
        ),
        (
            variant("short.db", &|path| {
                fs::write(path, &fs::read(&whole).unwrap()[..8192]).unwrap();
            }),
            "damaged",
        ),
        (
            variant(
                "orphan.db",
                &sql("PRAGMA foreign_keys = OFF; DELETE FROM orders"),
            ),
            "names a missing row",
        ),
    ];
    for (path, words) in bad {
        let before = listed(shop.folder.path());
        let error = shop.restore(&path).unwrap_err().to_string();
        assert!(
            error.contains(words) && error.contains("is as it was"),
            "{path:?}: {error}"
        );
        assert_eq!(names(&shop.database()), ["ord_1"]);
        let after = listed(shop.folder.path());
        let new = after
            .iter()
            .filter(|name| !before.contains(name))
            .collect::<Vec<_>>();
        let harmless = ["paidup.db.lock", "paidup.db-wal", "paidup.db-shm"];
        assert!(
            new.iter().all(|name| harmless.contains(&name.as_str())),
            "{new:?}"
        );
    }
}

#[test]
fn a_restore_waits_for_nobody_who_has_the_database_open() {
    let shop = Shop::with(&["1"]);
    let copy = shop.path("copy.db");
    shop.backup(&copy, false).unwrap();

    let serving = ServeLock::take(&shop.database()).unwrap().unwrap();
    let error = shop.restore(&copy).unwrap_err().to_string();
    assert!(
        error.contains("systemctl stop paidup.socket paidup-admin.socket"),
        "{error}"
    );
    drop(serving);

    let shell = Connection::open(shop.database()).unwrap();
    shell
        .query_row("SELECT count(*) FROM orders", [], |_| Ok(()))
        .unwrap();
    let error = shop.restore(&copy).unwrap_err().to_string();
    assert!(
        error.contains("Another process has the database open"),
        "{error}"
    );
    drop(shell);
    shop.restore(&copy).unwrap();
}

#[test]
fn a_backup_restored_where_there_was_nothing_is_a_database() {
    let shop = Shop::with(&["1"]);
    let copy = shop.path("copy.db");
    shop.backup(&copy, false).unwrap();
    let elsewhere = Shop::empty();
    let told = elsewhere.restore(&copy).unwrap();
    assert!(!told.contains("is kept as"), "{told}");
    assert_eq!(names(&elsewhere.database()), ["ord_1"]);
}

// ── Schemas ─────────────────────────────────────────────────────────────────────────────────────

/// How an older file is migrated is tested in src/store/open.rs, with steps that only tests have.
#[test]
fn the_backup_from_before_a_migration_is_the_way_back_to_the_older_program() {
    let shop = Shop::with(&["1", "2"]);
    let backup = shop.path("paidup.db.before-schema-2");
    shop.backup(&backup, false).unwrap();
    shop.add("3");
    set(&shop.database(), "user_version", SCHEMA_VERSION + 1);
    shop.restore(&backup).unwrap();
    assert_eq!(names(&shop.database()), ["ord_2", "ord_1"], "the way back");
}

#[test]
fn a_newer_file_is_refused_and_left_as_it_is() {
    let shop = Shop::with(&["1"]);
    set(&shop.database(), "user_version", SCHEMA_VERSION + 1);
    let newer = StoreError::Newer(SCHEMA_VERSION + 1);
    is_refused(&shop, &newer);
    let words = newer.to_string();
    assert!(words.contains("Install the newer paidup again"), "{words}");
}

#[test]
fn a_file_from_before_the_first_release_is_refused_and_left_as_it_is() {
    // "paid" and "pdup", with numbers that are older, ours and newer.
    for (id, version) in [(0x7061_6964, 5), (0x7064_7570, 1), (0x7064_7570, 2)] {
        let shop = Shop::with(&["1"]);
        set(&shop.database(), "application_id", id);
        set(&shop.database(), "user_version", version);
        is_refused(&shop, &StoreError::Unreleased);
    }
    let words = StoreError::Unreleased.to_string();
    assert!(words.contains("`paidup reconcile`"), "{words}");
}

/// What the words of that refusal advise.
#[test]
fn without_a_file_from_before_the_first_release_the_server_begins_anew() {
    let shop = Shop::with(&["1"]);
    set(&shop.database(), "application_id", 0x7064_7570);
    assert_eq!(
        Store::open(&shop.database()).err(),
        Some(StoreError::Unreleased)
    );
    let words = StoreError::Unreleased.to_string();
    for suffix in ["", "-wal", "-shm", ".in-use"] {
        let _ = fs::rename(
            files::beside(&shop.database(), suffix),
            shop.path(&format!("away{suffix}")),
        );
        assert!(words.contains(suffix), "{words}");
    }
    assert!(Store::open(&shop.database()).is_ok());
}

fn is_refused(shop: &Shop, error: &StoreError) {
    let before = fs::read(shop.database()).unwrap();
    for refused in [
        Store::open(&shop.database()).err(),
        Store::open_existing(&shop.database()).err(),
        Store::open_query_only(&shop.database()).err(),
    ] {
        assert_eq!(refused.as_ref(), Some(error));
    }
    assert_eq!(fs::read(shop.database()).unwrap(), before);
}

fn set(database: &Path, pragma: &str, value: i64) {
    let db = Connection::open(database).unwrap();
    db.pragma_update(None, pragma, value).unwrap();
}

// ── Damage at the start ─────────────────────────────────────────────────────────────────────────

#[test]
fn a_server_does_not_start_on_a_damaged_file_and_leaves_it_as_it_is() {
    let shop = Shop::with(&["1", "2"]);
    let whole = fs::read(shop.database()).unwrap();
    let page = 2048;
    let pages = whole.len() / page;
    let mut refused = 0;
    for number in 0..pages {
        let mut damaged = whole.clone();
        damaged[number * page..(number + 1) * page].fill(0x5a);
        fs::write(shop.database(), &damaged).unwrap();
        match Store::open(&shop.database()) {
            Err(StoreError::Corrupt | StoreError::NotOurs) => {
                refused += 1;
                assert_eq!(fs::read(shop.database()).unwrap(), damaged, "page {number}");
            }
            Err(other) => panic!("page {number}: {other}"),
            Ok(_) => {}
        }
        let mut told = Vec::new();
        let exit = db::check(&shop.database(), NOW, false, &mut told);
        assert_eq!(exit.unwrap(), Exit::Problems, "page {number}");
    }
    assert!(refused * 10 >= pages * 9, "{refused} of {pages}");
    fs::write(shop.database(), &whole[..whole.len() - page]).unwrap();
    assert_eq!(
        Store::open(&shop.database()).err(),
        Some(StoreError::Corrupt),
        "cut off"
    );
}

// ── Check, info, prune ──────────────────────────────────────────────────────────────────────────

#[test]
fn the_check_finds_an_order_that_is_not_what_its_facts_say() {
    for (harm, words) in [
        ("UPDATE orders SET refunded = 1", "1 of 2500 refunded"),
        (
            "UPDATE orders SET status = 'refunded'",
            "stored as refunded",
        ),
        (
            "UPDATE orders SET name = 'another'",
            "a payment that is for another order",
        ),
        ("UPDATE payment SET order_id = NULL", "has no payment"),
        (
            "UPDATE payment SET order_id = NULL",
            "is parked, and the facts say",
        ),
        (
            "UPDATE payment SET order_id = 99",
            "is of an order that is missing",
        ),
        (
            "UPDATE tally SET orders = 7",
            "1 orders are paid, and 7 were counted",
        ),
        (
            "PRAGMA foreign_keys = OFF; DELETE FROM orders",
            "names a missing row of orders",
        ),
    ] {
        let shop = Shop::with(&["1"]);
        assert_eq!(shop.check().0, Exit::Done);
        Connection::open(shop.database())
            .unwrap()
            .execute_batch(harm)
            .unwrap();
        let (exit, told) = shop.check();
        assert_eq!(exit, Exit::Problems, "{harm}: {told}");
        assert!(told.contains(words), "{harm}: {told}");
    }
}

#[test]
fn the_database_remembers_when_its_chores_were_done() {
    let shop = Shop::with(&["1"]);
    let info = |shop: &Shop| -> Value {
        let mut told = Vec::new();
        db::info(&shop.database(), true, &mut told).unwrap();
        serde_json::from_slice(&told).unwrap()
    };
    assert_eq!(info(&shop)["lastBackup"], Value::Null);
    shop.backup(&shop.path("copy.db"), false).unwrap();
    shop.check();
    let after = info(&shop);
    assert_eq!(after["lastBackup"], "2026-11-24T05:46:26Z");
    assert_eq!(after["lastCheck"], "2026-11-24T05:46:26Z");
    assert_eq!(after["lastPrune"], Value::Null);
    assert_eq!(after["orders"]["paid"], 1);
    assert_eq!(
        (&after["events"], &after["schema"]),
        (&json!(1), &json!(SCHEMA_VERSION))
    );
    let mut told = Vec::new();
    db::info(&shop.database(), false, &mut told).unwrap();
    let told = String::from_utf8(told).unwrap();
    assert!(
        told.contains("last backup    2026-11-24 05:46:26 +00:00"),
        "{told}"
    );
}

#[test]
fn pruning_removes_old_events_and_nothing_else() {
    let shop = Shop::with(&[]);
    let mut store = shop.store();
    let parked = json!({"id": "re_9", "amount": 1, "status": "succeeded", "created": 1,
                        "payment_intent": "pi_none", "charge": "ch_none"});
    let parked = event("evt_parked", "refund.created", &parked);
    let sold = (0..600).map(|n| delivery(&paid(&n.to_string()), NOW.0 - 100 * DAY + n * DAY / 6));
    let batch = std::iter::once(delivery(&parked, NOW.0 - 100 * DAY))
        .chain(sold)
        .collect::<Vec<_>>();
    for answer in store.record(&batch).unwrap() {
        answer.unwrap();
    }
    let before = all(&store);

    let told = shop.prune(50);

    assert!(told.contains("Removed 301 events"), "{told}");
    assert_eq!(all(&store), before);
    assert_eq!(store.figures().unwrap().parked, 1);
    assert_eq!(store.events(None, 1000).unwrap().len(), 300);
    assert_eq!(shop.check().0, Exit::Done);

    // What is known stays known.
    for answer in store.record(&batch).unwrap() {
        assert_eq!(answer.unwrap().outcome, Outcome::Duplicate);
    }
    assert_eq!(all(&store), before);
}

/// Stories know their events by number. Numbers are given out upwards from the last event.
#[test]
fn an_order_goes_on_after_all_of_its_events_were_pruned() {
    let shop = Shop::with(&["1", "2"]);
    let told = shop.prune_at(UnixSeconds(NOW.0 + 1000 * DAY), 35);
    assert!(
        told.contains("Removed 1 event "),
        "the last one stays: {told}"
    );
    for (number, name) in ["1", "2"].iter().enumerate() {
        let refund = json!({"id": format!("re_{name}"), "amount": 700, "status": "succeeded",
                            "created": 20, "payment_intent": format!("pi_{name}")});
        let refund = event(&format!("evt_r{name}"), "refund.created", &refund);
        let answers = shop.store().record(&[delivery(&refund, NOW.0)]).unwrap();
        assert_eq!(
            answers[0].as_ref().unwrap().outcome,
            Outcome::Applied,
            "{number}"
        );
    }
    assert_eq!(shop.check().0, Exit::Done);
}

#[test]
fn nothing_younger_than_stripes_resends_is_pruned() {
    let shop = Shop::with(&["1", "2"]);
    assert!(
        shop.prune_at(UnixSeconds(NOW.0 + 34 * DAY), 1)
            .contains("Removed 0 events")
    );
}

// ── Helpers ─────────────────────────────────────────────────────────────────────────────────────

struct Shop {
    folder: TempDir,
}

impl Shop {
    fn empty() -> Shop {
        Shop {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn with(paid: &[&str]) -> Shop {
        let shop = Shop::empty();
        drop(Store::open(&shop.database()).unwrap());
        for name in paid {
            shop.add(name);
        }
        shop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn database(&self) -> PathBuf {
        self.path("paidup.db")
    }

    fn store(&self) -> Store {
        Store::open_existing(&self.database()).unwrap()
    }

    fn add(&self, name: &str) {
        let answers = self
            .store()
            .record(&[delivery(&paid(name), NOW.0)])
            .unwrap();
        answers[0].as_ref().unwrap();
    }

    /// One more order, which is in the log alone, as after a kill.
    fn leave_a_log(&self, name: &str) {
        let mut store = self.store();
        store.record(&[delivery(&paid(name), NOW.0)]).unwrap();
        let files = ["paidup.db", "paidup.db-wal"].map(|name| self.path(name));
        let contents = files.clone().map(|file| fs::read(file).unwrap());
        drop(store);
        for (file, content) in files.iter().zip(contents) {
            fs::write(file, content).unwrap();
        }
    }

    /// An index that does not fit its table any more: found by the check alone.
    fn damage_rows(&self) {
        let sql = "PRAGMA writable_schema = ON;
                   UPDATE sqlite_schema SET sql = replace(sql, 'order_id IS NULL', 'order_id IS NOT NULL')
                   WHERE name = 'payment_parked'";
        Connection::open(self.database())
            .unwrap()
            .execute_batch(sql)
            .unwrap();
    }

    fn backup(&self, to: &Path, may_replace: bool) -> Result<String, Failure> {
        let target = Target::File {
            path: to.to_owned(),
            may_replace,
        };
        said(|out| backup::backup(&self.database(), &target, NOW, out))
    }

    fn backup_to_folder(
        &self,
        folder: &Path,
        keep: usize,
        now: UnixSeconds,
    ) -> Result<String, Failure> {
        let keep = NonZeroUsize::new(keep).unwrap();
        let target = Target::Folder {
            path: folder.to_owned(),
            keep,
        };
        said(|out| backup::backup(&self.database(), &target, now, out))
    }

    fn restore(&self, from: &Path) -> Result<String, Failure> {
        said(|out| {
            restore::restore(
                &self.database(),
                from,
                Store::open_query_only(from),
                NOW,
                out,
            )
        })
    }

    fn check(&self) -> (Exit, String) {
        let mut told = Vec::new();
        let exit = db::check(&self.database(), NOW, false, &mut told).unwrap();
        (exit, String::from_utf8(told).unwrap())
    }

    fn prune(&self, days: u32) -> String {
        self.prune_at(NOW, days)
    }

    fn prune_at(&self, now: UnixSeconds, days: u32) -> String {
        said(|out| db::prune(&self.database(), days, now, out)).unwrap()
    }
}

fn said(
    command: impl FnOnce(&mut dyn std::io::Write) -> Result<Exit, Failure>,
) -> Result<String, Failure> {
    let mut told = Vec::new();
    assert_eq!(command(&mut told)?, Exit::Done);
    Ok(String::from_utf8(told).unwrap())
}

fn names(database: &Path) -> Vec<String> {
    let store = Store::open_query_only(database).unwrap();
    assert_eq!(store.damage().unwrap(), [""; 0]);
    assert_eq!(store.disagreements().unwrap(), [""; 0]);
    let sql = "SELECT name FROM orders ORDER BY id DESC";
    let db = Connection::open(database).unwrap();
    let mut statement = db.prepare(sql).unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

fn all(store: &Store) -> Vec<(StoredOrder, usize)> {
    let orders = store.orders(None, u32::MAX).unwrap();
    let story = |order: &StoredOrder| store.changes(order).unwrap().len();
    orders
        .into_iter()
        .map(|order| (order.clone(), story(&order)))
        .collect()
}

fn listed(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect::<Vec<_>>();
    names.sort();
    names
}

fn paid(name: &str) -> String {
    let session = json!({"id": format!("cs_{name}"), "mode": "payment", "payment_status": "paid",
        "amount_total": 2500, "currency": "eur", "client_reference_id": format!("ord_{name}"),
        "metadata": {}, "payment_intent": format!("pi_{name}")});
    event(
        &format!("evt_{name}"),
        "checkout.session.completed",
        &session,
    )
}

fn event(id: &str, kind: &str, object: &Value) -> String {
    json!({"id": id, "object": "event", "created": 10, "type": kind, "livemode": false,
           "api_version": "2026-10-28.endive", "data": {"object": object}})
    .to_string()
}

fn delivery(text: &str, received: i64) -> Delivery {
    Delivery {
        event: Event::from_json(text, &Reading::default()).unwrap(),
        sha256: [0; 32],
        request_id: None,
        received: UnixSeconds(received),
    }
}
