//! A disk that fails at any single call, of each kind, one after the other: nothing is acknowledged
//! that is not stored, nothing stored before is lost, and somebody is told.

use std::fs;
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::OnceLock;

use paidup::base::id::UnixSeconds;
use paidup::store::Store;
use paidup::truth::delivery::Delivery;
use paidup::truth::event::Event;
use paidup::truth::reading::Reading;
use rusqlite::Connection;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::disk::{Call, Disk, Effect, Fault};
use crate::harness::{Answer, Service, Setup, paid};

#[test]
fn a_disk_that_fails_in_a_delivery_costs_no_event() {
    for fault in FAULTS {
        each_call_of_a_delivery(fault, Before::Orders);
    }
}

#[test]
fn a_disk_that_fails_in_the_first_delivery_of_all_costs_no_event() {
    for fault in FAULTS {
        each_call_of_a_delivery(fault, Before::Nothing);
    }
}

#[test]
fn a_disk_that_fails_while_the_log_is_moved_into_the_file_costs_no_event() {
    for fault in FAULTS.into_iter().filter(|fault| !fault.lasts) {
        each_call_of_a_delivery(fault, Before::LongLog);
    }
}

#[test]
fn a_disk_that_fails_in_the_first_start_of_all_is_told_and_costs_nothing() {
    for fault in FAULTS.into_iter().chain(KILLS) {
        each_call_of_a_start(fault, Before::Nothing);
    }
}

#[test]
fn a_disk_that_fails_in_a_start_is_told_and_costs_no_event() {
    for fault in FAULTS.into_iter().chain(KILLS) {
        each_call_of_a_start(fault, Before::Orders);
    }
}

#[test]
fn a_disk_that_fails_in_a_stop_costs_no_event() {
    for fault in FAULTS.into_iter().chain(KILLS) {
        each_call_of_a_stop(fault);
    }
}

#[test]
fn a_kill_at_any_call_of_a_delivery_costs_no_event() {
    for fault in KILLS {
        each_call_of_a_delivery(fault, Before::Orders);
    }
    for fault in [KILL_AT_WRITE, KILL_AT_SYNC] {
        each_call_of_a_delivery(fault, Before::LongLog);
    }
}

// ── The faults ──

const fn once(call: Call, effect: Effect) -> Fault {
    let lasts = false;
    Fault {
        call,
        effect,
        lasts,
    }
}

const fn lasting(call: Call, effect: Effect) -> Fault {
    let lasts = true;
    Fault {
        call,
        effect,
        lasts,
    }
}

const FAULTS: [Fault; 22] = [
    once(Call::Write, Effect::Broken),
    once(Call::Write, Effect::Full),
    once(Call::Write, Effect::Quota),
    once(Call::Write, Effect::TooLarge),
    once(Call::Write, Effect::Half),
    lasting(Call::Write, Effect::Broken),
    lasting(Call::Write, Effect::Full),
    lasting(Call::Write, Effect::Quota),
    lasting(Call::Write, Effect::TooLarge),
    lasting(Call::Write, Effect::Half),
    once(Call::Sync, Effect::Broken),
    once(Call::Sync, Effect::Full),
    lasting(Call::Sync, Effect::Broken),
    once(Call::SyncFolder, Effect::Broken),
    once(Call::Read, Effect::Broken),
    lasting(Call::Read, Effect::Broken),
    once(Call::Truncate, Effect::Broken),
    once(Call::Open, Effect::Broken),
    lasting(Call::Open, Effect::NoDescriptor),
    lasting(Call::Open, Effect::Full),
    once(Call::Unlink, Effect::Broken),
    once(Call::Map, Effect::Broken),
];
const KILL_AT_WRITE: Fault = once(Call::Write, Effect::Kill);
const KILL_AT_SYNC: Fault = once(Call::Sync, Effect::Kill);
const KILLS: [Fault; 5] = [
    KILL_AT_WRITE,
    once(Call::Write, Effect::HalfAndKill),
    KILL_AT_SYNC,
    once(Call::Truncate, Effect::Kill),
    once(Call::Unlink, Effect::Kill),
];

impl Fault {
    fn kills(self) -> bool {
        matches!(self.effect, Effect::Kill | Effect::HalfAndKill)
    }

    /// There is no room: nothing to end for.
    fn is_full(self) -> bool {
        let full = [Effect::Full, Effect::Quota, Effect::TooLarge];
        self.call == Call::Write && full.contains(&self.effect)
    }
}

// ── What is tried ──

/// What is in the file before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    /// Orders, the last of them in the log that a killed process has left.
    Orders,
    /// The same, and a log so long that the next commit moves it into the file.
    LongLog,
}

/// Without an admin server, because a stop waits for it: it looks up once a second.
fn setup() -> Setup {
    let setup = Setup::new().set("ADMIN_ADDR", "off");
    setup.set("HTTP_CONNECTIONS", "2")
}

/// Lets the first call fail, then the second, until a delivery needs no more calls.
fn each_call_of_a_delivery(fault: Fault, before: Before) {
    let mut calls = 0;
    while one_delivery(fault, calls + 1, before) {
        calls += 1;
    }
    eprintln!("{calls:>3} calls of a delivery, {before:?}, {fault:?}");
}

/// Whether the delivery came as far as to the call number `at`.
fn one_delivery(fault: Fault, at: u32, before: Before) -> bool {
    let case = format!("{fault:?} at {at} of a delivery on {before:?}");
    let (disk, setup) = Disk::under(setup(), false);
    before.put_into(&setup);
    let mut service = setup.start();
    if before == Before::LongLog {
        lengthen_log(&setup);
    }
    disk.arm(fault, at);
    let answer = service.try_to_deliver(paid("new"));
    let was_met = disk.heal() >= at;
    let is_acknowledged = match &answer {
        Some(answer) if answer.status == 200 => true,
        Some(answer) => {
            assert!(was_met, "{case}: {answer:?}");
            is_refused_with_a_reason(answer, &mut service, &case);
            false
        }
        None => {
            assert!(was_met && fault.kills(), "{case}");
            false
        }
    };
    if was_met && fault.kills() {
        assert_eq!(service.wait().signal(), Some(9), "{case}");
    } else if !service.has_ended() {
        // What is done after the commit may fail when the answer is on its way.
        let next = service.try_to_deliver(paid("next"));
        if next.is_none_or(|next| next.status != 200) {
            assert!(was_met && is_acknowledged, "{case}");
            ends_with_a_reason(&mut service, &case);
        }
    }
    if was_met && fault.call == Call::Sync && !fault.kills() {
        assert!(service.has_ended(), "{case}");
        // A long log is moved, with syncs of its own, when the commit is on disk already.
        assert!(!is_acknowledged || before == Before::LongLog, "{case}");
    }
    if fault.is_full() {
        assert!(!service.has_ended(), "{case}");
        service.accepts(paid("after"), "applied");
    }
    service.kill();
    recovers(&setup, before, is_acknowledged, &case);
    was_met
}

fn is_refused_with_a_reason(answer: &Answer, service: &mut Service, case: &str) {
    assert_eq!(answer.status, 503, "{case}");
    let line = service.line_of(answer.request_id());
    assert_eq!(line["message"], "Webhook not stored: Stripe will retry");
    if line["errorCode"] == "store_full" {
        assert!(!service.has_ended(), "{case}");
        return;
    }
    assert_eq!(line["errorCode"], "store_failed", "{case}");
    ends_with_a_reason(service, case);
}

fn ends_with_a_reason(service: &mut Service, case: &str) {
    assert_eq!(service.wait().code(), Some(1), "{case}");
    let told = "Database failed: stopping, because what is on disk is not known";
    let log = service.log();
    assert!(log.iter().any(|line| line["message"] == told), "{case}");
    is_told(&service.words(), case);
}

/// The operator learns what to do.
fn is_told(words: &str, case: &str) {
    let remedies = ["DATABASE_PATH", "`dmesg`", "Make room"];
    let is_told = remedies.iter().any(|remedy| words.contains(remedy));
    assert!(is_told, "{case}: {words}");
}

fn each_call_of_a_start(fault: Fault, before: Before) {
    let mut calls = 0;
    loop {
        let case = format!("{fault:?} at {} of a start on {before:?}", calls + 1);
        let (disk, setup) = Disk::under(setup().set("ADMIN_ADDR", "127.0.0.1:0"), false);
        before.put_into(&setup);
        disk.arm(fault, calls + 1);
        let started = setup.try_to_start();
        let was_met = disk.heal() > calls;
        let is_started = started.is_ok();
        match started {
            Ok(_) if !was_met => break,
            Ok(mut service) => {
                service.accepts(paid("new"), "applied");
                service.kill();
            }
            Err((status, words)) if status.code() == Some(1) => {
                is_told(&words, &case);
            }
            Err((status, _)) => assert_eq!(status.signal(), Some(9), "{case}"),
        }
        recovers(&setup, before, is_started, &case);
        calls += 1;
    }
    eprintln!("{calls:>3} calls of a start, {before:?}, {fault:?}");
}

fn each_call_of_a_stop(fault: Fault) {
    let mut calls = 0;
    loop {
        let case = format!("{fault:?} at {} of a stop", calls + 1);
        let (disk, setup) = Disk::under(setup(), false);
        Before::Orders.put_into(&setup);
        let mut service = setup.start();
        service.accepts(paid("new"), "applied");
        disk.arm(fault, calls + 1);
        service.signal(Signal::TERM);
        let status = service.wait();
        let was_killed = status.signal() == Some(9);
        assert!(status.success() || was_killed && fault.kills(), "{case}");
        if disk.heal() <= calls {
            break;
        }
        recovers(&setup, Before::Orders, true, &case);
        calls += 1;
    }
    eprintln!("{calls:>3} calls of a stop, {fault:?}");
}

/// The next start finds a whole file with all that was there before, with the new event if that was
/// acknowledged, and with all of the new event or nothing of it. The event may come again.
fn recovers(setup: &Setup, before: Before, is_acknowledged: bool, case: &str) {
    let service = setup.start();
    let store = service.store();
    assert_eq!(store.damage().unwrap(), [""; 0], "{case}");
    assert_eq!(store.disagreements().unwrap(), [""; 0], "{case}");
    let before_it = Connection::open(setup.database()).unwrap().query_row(
        "SELECT count(*) FROM event WHERE id GLOB 'evt_[0-9]*'",
        [],
        |row| row.get::<_, u32>(0),
    );
    assert_eq!(before_it.unwrap(), before.orders(), "{case}");
    let is_stored = store.event("evt_new").unwrap().is_some();
    assert!(is_stored || !is_acknowledged, "{case}");
    assert_eq!(
        store.order("ord_new").unwrap().is_some(),
        is_stored,
        "{case}"
    );
    service.accepts(paid("new"), if is_stored { "duplicate" } else { "applied" });
}

// ── What was before ──

/// So many that a delivery reads pages that the start has not.
const ORDERS: u32 = 500;
/// Of them in the log.
const IN_LOG: u32 = 3;
/// The log is moved into the file when it has grown to so many pages.
const LONG_LOG_PAGES: usize = 4_000;

impl Before {
    fn orders(self) -> u32 {
        if self == Before::Nothing { 0 } else { ORDERS }
    }

    /// Files as a killed process leaves them.
    fn put_into(self, setup: &Setup) {
        static FOLDER: OnceLock<TempDir> = OnceLock::new();
        if self != Before::Nothing {
            copy_files(FOLDER.get_or_init(make).path(), setup.folder());
        }
    }
}

fn make() -> TempDir {
    let setup = Setup::new();
    let record = |store: &mut Store, numbers: Range<u32>| {
        let batch: Vec<_> = numbers
            .map(|number| delivered(&number.to_string()))
            .collect();
        assert!(store.record(&batch).unwrap().iter().all(Result::is_ok));
    };
    // Closing the file moves the log into it.
    record(
        &mut Store::open(&setup.database()).unwrap(),
        0..ORDERS - IN_LOG,
    );
    let mut store = setup.store();
    for number in ORDERS - IN_LOG..ORDERS {
        record(&mut store, number..number + 1);
    }
    let made = tempfile::tempdir().unwrap();
    copy_files(setup.folder(), made.path());
    made
}

/// Another process writes beside the server, and leaves the moving of the log to it.
fn lengthen_log(setup: &Setup) {
    let writer = Connection::open(setup.database()).unwrap();
    let settings = "PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = OFF";
    writer.execute_batch(settings).unwrap();
    let mut update = writer.prepare("UPDATE probe SET at = at + 1").unwrap();
    for _ in 0..LONG_LOG_PAGES {
        update.execute([]).unwrap();
    }
}

fn copy_files(from: &Path, to: &Path) {
    for file in ["paidup.db", "paidup.db-wal"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

fn delivered(name: &str) -> Delivery {
    Delivery {
        event: Event::from_json(&paid(name), &Reading::default()).unwrap(),
        sha256: [0; 32],
        request_id: None,
        received: UnixSeconds(1),
    }
}
