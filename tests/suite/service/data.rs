//! Whatever a backup, a restore or a first start is doing when the process is killed, there is one good
//! database, and a server beside them keeps its promises.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use paidup::base::id::UnixSeconds;
use paidup::store::{SCHEMA_VERSION, Store, StoreError};
use paidup::truth::delivery::Delivery;
use paidup::truth::event::Event;
use paidup::truth::order::Status;
use paidup::truth::reading::Reading;
use rusqlite::Connection;

use super::durability::Load;
use crate::harness::{Setup, eventually, paid};

/// Kills of each command, spread evenly over the time that it takes.
const KILLS: u32 = 70;
/// Enough pages for several steps of a copy.
const ORDERS: usize = 2_500;

#[test]
fn a_backup_under_load_is_one_moment_of_the_original() {
    let setup = Setup::new();
    let mut service = setup.start();
    let acknowledged: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let clients = Load::start(&service, &Arc::default(), &acknowledged);
    for round in 0..5 {
        let target = clients.served() + 200;
        eventually("the clients are served", || clients.served() >= target);
        let before = acknowledged.lock().unwrap().clone();
        let served = clients.served();

        let copy = setup.folder().join(format!("copy-{round}.db"));
        let (code, said) = setup.run(&["backup", copy.to_str().unwrap()]);

        assert_eq!(code, 0, "{said}");
        assert!(clients.served() > served, "the server went on");
        // Elsewhere, with nothing of the original beside it.
        let elsewhere = Setup::new();
        let (code, said) = elsewhere.run(&["restore", copy.to_str().unwrap()]);
        assert_eq!(code, 0, "{said}");
        let (copied, original) = (elsewhere.start().store(), service.store());
        assert_eq!(copied.damage().unwrap(), [""; 0]);
        assert_eq!(copied.disagreements().unwrap(), [""; 0]);
        for name in &before {
            let order = copied.order(&format!("ord_{name}")).unwrap().unwrap();
            assert_eq!(order.state.status, Status::Paid, "{name}");
        }
        let copied = copied.orders(None, u32::MAX).unwrap();
        assert!(copied.len() >= before.len());
        // One moment: what is in it is the beginning of the original, without a gap.
        let original = original.orders(None, u32::MAX).unwrap();
        assert!(
            copied
                .iter()
                .rev()
                .eq(original.iter().rev().take(copied.len()))
        );
    }
    service.kill();
    clients.join();
}

#[test]
fn a_second_server_and_a_restore_are_refused_while_one_runs() {
    let setup = Setup::new();
    let mut service = setup.start();
    service.accepts(paid("1"), "applied");
    let copy = setup.folder().join("copy.db");
    let copy = copy.to_str().unwrap();
    assert_eq!(setup.run(&["backup", copy]).0, 0);

    let (code, said) = setup.run(&["serve"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("another paidup serves"), "{said}");
    let (code, said) = setup.run(&["restore", copy]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("A server runs on this database"), "{said}");
    for command in [["db", "check"], ["db", "info"], ["orders", "list"]] {
        assert_eq!(setup.run(&command).0, 0, "{command:?}");
    }
    assert_eq!(setup.run(&["db", "prune", "--older-than", "35d"]).0, 0);
    service.accepts(paid("2"), "applied");

    service.kill();
    let (code, said) = setup.run(&["restore", copy]);
    assert_eq!(code, 0, "a killed server holds nothing: {said}");
    let service = setup.start();
    assert_eq!(service.status_of("ord_1"), Some(Status::Paid));
    assert_eq!(service.status_of("ord_2"), None);
}

#[test]
fn a_damaged_database_is_not_served_and_the_check_says_so() {
    let setup = Setup::new();
    drop(shop(&setup.database(), "old", 10));
    let mut bytes = fs::read(setup.database()).unwrap();
    bytes[4096..8192].fill(0x5a);
    fs::write(setup.database(), &bytes).unwrap();
    let (code, said) = setup.run(&["serve"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("paidup restore FILE"), "{said}");
    let (code, said) = setup.run(&["db", "check"]);
    assert_eq!(code, 3, "{said}");
    assert_eq!(fs::read(setup.database()).unwrap(), bytes);
}

#[test]
fn a_backup_that_is_killed_leaves_the_one_of_before() {
    let setup = Setup::new();
    let mut store = shop(&setup.database(), "old", ORDERS);
    let copy = setup.folder().join("copy.db");
    let mut orders = ORDERS;
    // The copy has always one order less than the database.
    let mut one_more = || {
        store.copy_to(&copy, true).unwrap();
        add(&mut store, "more", orders, 1);
        orders += 1;
        orders
    };
    let mut orders = one_more();
    let (mut before, mut after) = (0, 0);
    let command = ["backup", copy.to_str().unwrap(), "--force"];
    kill_all_along(&setup, &command, || {
        match orders - orders_in(&copy) {
            1 => before += 1,
            0 => after += 1,
            _ => panic!("neither the old backup nor the new one"),
        }
        orders = one_more();
    });
    assert!(
        before > 0 && after > 0,
        "killed before the end {before} times, after it {after}"
    );
    assert_eq!(
        setup.run(&command).0,
        0,
        "what is left over is in nobody's way"
    );
    assert!(!setup.folder().join("copy.db.partial").exists());
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_or_the_new_database() {
    let template = Setup::new();
    let copy = template.folder().join("copy.db");
    drop(shop(&copy, "new", ORDERS));
    // The old one has orders that are in its log alone.
    let old = shop(&template.database(), "old", 300);
    let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
    let (file, wal) = (template.database(), log(&template.database()));
    let (file, wal) = (fs::read(file).unwrap(), fs::read(wal).unwrap());
    drop(old);
    assert!(!wal.is_empty());

    let setup = Setup::new();
    let database = setup.database();
    let command = ["restore", copy.to_str().unwrap()];
    let lay_out = || {
        for entry in fs::read_dir(setup.folder()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        fs::write(&database, &file).unwrap();
        fs::write(log(&database), &wal).unwrap();
    };
    lay_out();
    assert_eq!(setup.run(&command).0, 0);
    lay_out();
    let (mut before, mut after) = (0, 0);
    kill_all_along(&setup, &command, || {
        // As a server would open it.
        let store = Store::open(&database).unwrap();
        assert_eq!(store.damage().unwrap(), [""; 0]);
        assert_eq!(store.disagreements().unwrap(), [""; 0]);
        let names = store.orders(None, u32::MAX).unwrap();
        let new = names
            .iter()
            .filter(|order| order.name.as_str().starts_with("ord_new"))
            .count();
        match (new, names.len()) {
            (0, 300) => before += 1,
            (ORDERS, ORDERS) => {
                after += 1;
                let kept = fs::read_dir(setup.folder()).unwrap().find_map(|entry| {
                    let path = entry.unwrap().path();
                    let name = path.to_str().unwrap();
                    (name.contains(".replaced-") && !name.ends_with("-wal")).then_some(path)
                });
                assert_eq!(orders_in(&kept.unwrap()), 300, "kept with what its log had");
            }
            mixed => panic!("{mixed:?}"),
        }
        drop(store);
        lay_out();
    });
    assert!(
        before > 0 && after > 0,
        "killed before the change {before} times, after it {after}"
    );
}

/// A migration that is killed is tested in src/store/open.rs, with steps that only tests have.
#[test]
fn a_first_start_that_is_killed_leaves_no_database_or_a_whole_one() {
    let setup = Setup::new();
    let database = setup.database();
    let clear = || {
        for entry in fs::read_dir(setup.folder()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    };
    let began = Instant::now();
    drop(setup.start());
    let whole = began.elapsed();
    let (mut before, mut after) = (0, 0);
    for kill in 0..KILLS {
        clear();
        kill_after(&setup, &["serve"], whole * kill / KILLS);
        match Store::open_query_only(&database) {
            Err(StoreError::Missing | StoreError::NotOurs) => before += 1,
            Ok(store) => {
                assert_eq!(store.summary().unwrap().schema, SCHEMA_VERSION);
                after += 1;
            }
            Err(error) => panic!("{error}"),
        }
        drop(shop(&database, "new", 1));
        assert_eq!(orders_in(&database), 1);
    }
    assert!(
        before > 0 && after > 0,
        "killed before the change {before} times, after it {after}"
    );
}

#[test]
fn a_file_of_another_schema_is_refused_in_words_and_left_as_it_is() {
    for (pragma, value, words) in [
        (
            "user_version",
            SCHEMA_VERSION + 1,
            "Install the newer paidup again",
        ),
        ("application_id", 0x7064_7570, "before its first release"),
    ] {
        let setup = Setup::new();
        drop(shop(&setup.database(), "old", 10));
        let db = Connection::open(setup.database()).unwrap();
        db.pragma_update(None, pragma, value).unwrap();
        drop(db);
        let bytes = fs::read(setup.database()).unwrap();
        for command in [
            &["serve"][..],
            &["check"],
            &["db", "info"],
            &["db", "check"],
            &["orders", "list"],
            &["backup", "copy.db"],
        ] {
            let (code, said) = setup.run(command);
            assert_ne!(code, 0, "{command:?}: {said}");
            assert!(said.contains(words), "{command:?}: {said}");
        }
        assert_eq!(fs::read(setup.database()).unwrap(), bytes);
    }
}

// ── Helpers ──

/// Runs the command again and again, and kills it a little later each time, until it has ended
/// before that; then looks.
fn kill_all_along(setup: &Setup, command: &[&str], mut look: impl FnMut()) {
    let began = Instant::now();
    let mut child = setup.command(command).spawn().unwrap();
    child.wait().unwrap();
    let whole = began.elapsed();
    look();
    for kill in 0..KILLS {
        // A little more than the whole: the last ones come to the end.
        kill_after(setup, command, whole * kill * 5 / (KILLS * 4));
        look();
    }
}

fn kill_after(setup: &Setup, command: &[&str], delay: Duration) {
    let mut child = setup.command(command).spawn().unwrap();
    thread::sleep(delay);
    let _ = child.kill();
    child.wait().unwrap();
}

/// The orders of a database that is whole.
fn orders_in(path: &Path) -> usize {
    let store = Store::open_query_only(path).unwrap();
    assert_eq!(store.damage().unwrap(), [""; 0]);
    assert_eq!(store.disagreements().unwrap(), [""; 0]);
    let figures = store.figures().unwrap();
    let orders = figures.orders.iter().map(|(_, count)| count).sum::<i64>();
    usize::try_from(orders).unwrap()
}

fn shop(path: &Path, name: &str, orders: usize) -> Store {
    let mut store = Store::open(path).unwrap();
    add(&mut store, name, 0, orders);
    store
}

fn add(store: &mut Store, name: &str, from: usize, count: usize) {
    let batch: Vec<Delivery> = (from..from + count)
        .map(|number| Delivery {
            event: Event::from_json(&paid(&format!("{name}{number}")), &Reading::default())
                .unwrap(),
            sha256: [0; 32],
            request_id: None,
            received: UnixSeconds(1_795_499_186),
        })
        .collect();
    for answer in store.record(&batch).unwrap() {
        answer.unwrap();
    }
}
