//! The database's files are deleted, replaced or cut off under a server with load: nobody is answered
//! 200 for what the next start does not find.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use paidup::store::Store;
use rustix::process::Signal;

use crate::harness::{Raise, Service, Setup, eventually, paid};

const CLIENTS: usize = 4;

type Case = (&'static str, fn(&Setup));

#[test]
fn nothing_is_acknowledged_into_files_that_are_gone() {
    // All of it; each alone; the folder; another file in the place of each.
    let cases: [Case; 8] = [
        ("all deleted", |setup| {
            for suffix in ["", "-wal", "-shm", ".lock", ".in-use"] {
                fs::remove_file(beside(setup, suffix)).unwrap();
            }
        }),
        ("database deleted", |setup| {
            fs::remove_file(setup.database()).unwrap();
        }),
        ("log deleted", |setup| {
            fs::remove_file(beside(setup, "-wal")).unwrap();
        }),
        ("index deleted", |setup| {
            fs::remove_file(beside(setup, "-shm")).unwrap();
        }),
        ("moved away", |setup| {
            fs::rename(setup.database(), setup.folder().join("away.db")).unwrap();
        }),
        ("replaced by a copy", |setup| {
            fs::rename(setup.folder().join("copy.db"), setup.database()).unwrap();
        }),
        ("log replaced", |setup| {
            let new = setup.folder().join("new");
            fs::write(&new, "").unwrap();
            fs::rename(new, beside(setup, "-wal")).unwrap();
        }),
        ("restored over by hand", |setup| {
            for suffix in ["", "-wal", "-shm"] {
                fs::remove_file(beside(setup, suffix)).unwrap();
            }
            fs::copy(setup.folder().join("copy.db"), setup.database()).unwrap();
        }),
    ];
    for (case, harm) in cases {
        let after = harm_under_load(case, harm);
        assert_eq!(after.taken.len(), 0, "{case}: {:?}", after.taken);
        let (code, said) = after.setup.run(&["check"]);
        assert_eq!(code, 3, "{case}: {said}");
        assert!(said.contains("has another file open"), "{case}: {said}");
        let mut service = after.service;
        let words = "Database files were deleted or replaced";
        let told = service.words().matches(words).count();
        assert!((1..=2).contains(&told), "{case}: told {told} times");
        let found = names_beside(&after.setup);
        service.signal(Signal::TERM);
        assert_eq!(service.wait().code(), Some(0), "{case}");
        assert_eq!(
            names_beside(&after.setup),
            found,
            "{case}: what is there now is not ours to delete"
        );
    }
}

#[test]
fn nothing_is_acknowledged_behind_what_was_cut_off() {
    let cut = |path: PathBuf, bytes: u64| {
        let file = File::options().write(true).open(path).unwrap();
        let whole = file.metadata().unwrap().len();
        file.set_len(bytes.min(whole / 2)).unwrap();
    };
    for round in 0..5 {
        for (suffix, bytes) in [("-wal", 0), ("-wal", u64::MAX), ("", 0), ("", u64::MAX)] {
            let case = format!("{round}: {suffix} cut to {bytes}");
            // Half of a log that was just begun anew may be more than what counts of it.
            let mut after = harm_under_load(&case, |setup| cut(beside(setup, suffix), bytes));
            after.service.kill();
            if let Ok(store) = Store::open(&after.setup.database()) {
                let is_lost =
                    |name: &&String| !matches!(store.order(&format!("ord_{name}")), Ok(Some(_)));
                let lost: Vec<_> = after.taken.iter().filter(is_lost).collect();
                assert!(lost.is_empty(), "{case}: {lost:?} of {}", after.taken.len());
            } else {
                assert_eq!(after.taken.len(), 0, "{case}");
            }
        }
    }
}

#[test]
fn a_cut_off_index_ends_the_process_and_loses_nothing() {
    let setup = Setup::new();
    let mut service = setup.start();
    for number in 0..50 {
        service.accepts(paid(&number.to_string()), "applied");
    }
    let index = File::options()
        .write(true)
        .open(beside(&setup, "-shm"))
        .unwrap();
    index.set_len(0).unwrap();
    let _ = service.try_to_deliver(paid("51"));
    assert_eq!(service.wait().signal(), Some(Signal::BUS.as_raw()));
    let service = setup.start();
    let orders = service.store().orders(None, 100).unwrap();
    assert!(orders.len() >= 50, "{}", orders.len());
}

#[test]
fn files_that_come_back_are_written_again() {
    let setup = Setup::new();
    let service = setup.start();
    service.accepts(paid("1"), "applied");
    let away = setup.folder().join("away");
    fs::rename(setup.database(), &away).unwrap();
    let refused = service.deliver(paid("2"));
    assert_eq!(refused.status, 503);
    let line = service.line_of(refused.request_id());
    assert_eq!(line["errorCode"], "store_replaced");
    let ready = service.admin_get("/readyz");
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["error"], "store_replaced");
    let (code, said) = setup.run(&["check"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("has another file open"), "{said}");
    fs::rename(&away, setup.database()).unwrap();
    service.accepts(paid("2"), "applied");
    assert_eq!(service.admin_get("/readyz").status, 200);
    assert_eq!(setup.run(&["check"]).0, 0);
}

#[test]
fn a_database_that_was_here_and_is_gone_is_not_made_anew_without_a_word() {
    let setup = Setup::new();
    let mut service = setup.start();
    service.accepts(paid("1"), "applied");
    let copy = setup.folder().join("copy.db");
    assert_eq!(setup.run(&["backup", copy.to_str().unwrap()]).0, 0);
    service.signal(Signal::TERM);
    service.wait();
    for is_emptied in [false, true] {
        if is_emptied {
            File::create(setup.database()).unwrap();
        } else {
            fs::remove_file(setup.database()).unwrap();
        }
        let (_, said) = setup.try_to_start().err().unwrap();
        assert!(said.contains("is gone"), "{said}");
        let (code, said) = setup.run(&["check"]);
        assert!(is_emptied || code == 3, "{said}");
        assert_eq!(setup.run(&["restore", copy.to_str().unwrap()]).0, 0);
        let mut service = setup.start();
        assert!(service.status_of("ord_1").is_some());
        service.signal(Signal::TERM);
        service.wait();
    }
    fs::remove_file(setup.database()).unwrap();
    fs::remove_file(beside(&setup, ".in-use")).unwrap();
    assert!(setup.start().status_of("ord_1").is_none(), "a new one");
}

#[test]
fn a_vacuum_and_an_emptied_log_are_no_harm() {
    let setup = Setup::new();
    let service = setup.start();
    let other = rusqlite::Connection::open(setup.database()).unwrap();
    for round in 0..3 {
        for number in 0..40 {
            service.accepts(paid(&format!("{round}_{number}")), "applied");
        }
        let sql = "PRAGMA wal_checkpoint(TRUNCATE); CREATE TABLE room AS
            WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT hex(zeroblob(500)) FROM n;
            PRAGMA wal_checkpoint(TRUNCATE)";
        other.execute_batch(sql).unwrap();
        service.accepts(paid(&format!("{round}_large")), "applied");
        let before = fs::metadata(setup.database()).unwrap().len();
        other
            .execute_batch("DROP TABLE room; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")
            .unwrap();
        assert!(fs::metadata(setup.database()).unwrap().len() < before);
        service.accepts(paid(&format!("{round}_small")), "applied");
    }
    assert_eq!(service.admin_get("/readyz").status, 200);
}

#[test]
fn a_link_to_the_database_is_as_good_as_its_name() {
    let mut setup = Setup::new();
    let real = setup.folder().join("data");
    fs::create_dir(&real).unwrap();
    let name = setup.folder().join("link.db");
    std::os::unix::fs::symlink(real.join("paidup.db"), &name).unwrap();
    setup = setup.set("DATABASE_PATH", name.to_str().unwrap());
    let mut service = setup.start();
    service.accepts(paid("1"), "applied");
    assert!(real.join("paidup.db-wal").exists());
    let mode = fs::metadata(&name).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let real = real.join("paidup.db");
    let other = Setup::new().set("DATABASE_PATH", real.to_str().unwrap());
    let (_, said) = other.try_to_start().err().unwrap();
    assert!(said.contains("another paidup serves"), "{said}");
    service.kill();
    setup.start().accepts(paid("1"), "duplicate");
}

// ── Helpers ──

struct After {
    setup: Setup,
    service: Service,
    /// Asked for after the harm was done, and answered 200.
    taken: BTreeSet<String>,
}

/// A server under load whose files come to harm: it says so, and goes on without taking anything; or
/// it has ended.
fn harm_under_load(case: &str, harm: impl Fn(&Setup)) -> After {
    let setup = Setup::new();
    let mut service = setup.start();
    service.accepts(paid("first"), "applied");
    let copy = setup.folder().join("copy.db");
    assert_eq!(setup.run(&["backup", copy.to_str().unwrap()]).0, 0);
    let (is_done, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let (next, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let client = || {
        let mut taken = BTreeSet::new();
        while !is_over.load(SeqCst) {
            let is_after = is_done.load(SeqCst);
            let name = next.fetch_add(1, SeqCst).to_string();
            let Some(answer) = service.try_to_deliver(paid(&name)) else {
                break;
            };
            match answer.status {
                200 if is_after => drop(taken.insert(name)),
                200 => {}
                503 => drop(refused.fetch_add(1, SeqCst)),
                other => panic!("{case}: {other}"),
            }
        }
        taken
    };
    let taken = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let over = Raise(&is_over);
        eventually("there is load", || next.load(SeqCst) > 60);
        harm(&setup);
        is_done.store(true, SeqCst);
        let began = Instant::now();
        let target = next.load(SeqCst) + 40;
        while next.load(SeqCst) < target && began.elapsed() < Duration::from_secs(3) {
            thread::sleep(Duration::from_millis(5));
        }
        drop(over);
        let taken = clients.into_iter().map(|client| client.join().unwrap());
        taken.flatten().collect()
    });
    if !service.has_ended() && refused.load(SeqCst) > 0 {
        let ready = service.admin_get("/readyz");
        assert_eq!(ready.status, 503, "{case}: {ready:?}");
    }
    After {
        setup,
        service,
        taken,
    }
}

fn beside(setup: &Setup, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", setup.database().display()))
}

fn names_beside(setup: &Setup) -> BTreeSet<PathBuf> {
    let folder: &Path = setup.folder();
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}
