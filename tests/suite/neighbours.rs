//! Other programs with an SQLite of their own, and our own commands, open and close the database at
//! every stage of a server's life. Whatever was acknowledged is there after a kill.
//!
//! `PAIDUP_ROUNDS=200 cargo test --test suite neighbours` shows it for longer.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::fake_stripe::{FakeStripe, KEY};
use crate::harness::{Raise, Service, Setup, eventually, get, paid};
use paidup::host::clock::Now;
use paidup::store::Store;
use rustix::process::{Pid, Signal};

const TOKEN: &str = "canary_token_of_the_tests_0123456789abcdef";
/// Lives of a server, unless `PAIDUP_ROUNDS` says otherwise.
const ROUNDS: usize = 10;
/// Restores, in the same way.
const RESTORES: usize = 8;

#[test]
fn nobody_who_opens_and_closes_the_database_takes_what_was_acknowledged() {
    let rounds = rounds(ROUNDS);
    let (mut acknowledged, mut visits) = (0, 0);
    for round in 0..rounds {
        let mut life = Life::begin(round);
        life.stage("first start");
        let mut api = life.setup.start_with(&["api"]);
        life.stage("api beside");
        let answer = crate::harness::ask(api.edge, authorized("/orders/ord_0"));
        assert_eq!(answer.status, 200, "{answer:?}");
        life.stage("api asked");
        let copy = life.setup.folder().join("copy.db");
        let copy = copy.to_str().unwrap();
        for words in [
            vec!["backup", copy],
            vec!["db", "check"],
            vec!["db", "info"],
            vec!["db", "prune", "--older-than", "35d"],
            vec!["orders", "list"],
            vec!["reconcile", "--since", "7d"],
            vec!["check"],
        ] {
            life.command(&words);
        }
        api.kill();
        life.stage("api gone");
        life.kill_and_start();
        life.stage("restart");

        // What the backup lacks is lost by a restore, and is no longer ours to count.
        life.stop();
        life.command(&["restore", copy]);
        life.acknowledged
            .retain(|name| life.backed_up.contains(name));
        life.start();
        life.stage("restored");

        life.kill_and_start();

        acknowledged += life.next;
        visits += life.visits;
    }
    eprintln!("{rounds} lives, {acknowledged} acknowledged, {visits} visits of others, 0 lost");
}

/// `restore` again and again beside the API that the shop polls and beside what timers and operators
/// run. Nothing is corrupt, and whoever does not come to an end says why.
#[test]
fn restores_beside_everything_else_leave_a_whole_database() {
    let restores = rounds(RESTORES);
    let mut life = Life::begin(0);
    life.deliver(300);
    let copy = life.setup.folder().join("copy.db");
    let copy = copy.to_str().unwrap();
    life.command(&["backup", copy]);
    life.stop();
    let mut api = life.setup.start_with(&["api"]);
    let setup = &life.setup;
    let is_over = AtomicBool::new(false);
    let poll = || {
        let (mut good, mut refused) = (0, 0);
        while !is_over.load(SeqCst) {
            let answer = crate::harness::ask(api.edge, authorized("/orders/ord_7"));
            match answer.status {
                200 => good += 1,
                503 => {
                    assert_eq!(answer.json()["error"], "store_busy", "{answer:?}");
                    refused += 1;
                }
                other => panic!("{other}: {answer:?}"),
            }
            thread::sleep(Duration::from_millis(5));
        }
        (good, refused)
    };
    let command = |words: &[&str]| {
        let (mut good, mut refused) = (0, 0);
        while !is_over.load(SeqCst) {
            match setup.run(words) {
                (0, _) => good += 1,
                (_, said) if said.contains("being restored at this moment") => refused += 1,
                (code, said) => panic!("{words:?}: {code} {said}"),
            }
            thread::sleep(Duration::from_millis(30));
        }
        (good, refused)
    };
    let timed = setup.folder().join("timed.db");
    let timed = ["backup", "--force", timed.to_str().unwrap()];
    let (mut done, mut refused) = (0, 0);
    thread::scope(|scope| {
        let pollers = [scope.spawn(poll), scope.spawn(poll)];
        let commands = [
            &timed[..],
            &["db", "check"],
            &["orders", "list"],
            &["reconcile", "--since", "1d"],
            &["db", "prune", "--older-than", "35d"],
        ]
        .map(|words| scope.spawn(move || (words[0].to_owned(), command(words))));
        let over = Raise(&is_over);
        let mut last = 0;
        for _ in 0..restores {
            // Its file name has the second in it.
            eventually("another second", || Now::read().unix.0 != last);
            let restored = setup.run(&["restore", copy]);
            last = Now::read().unix.0;
            match restored {
                (0, _) => done += 1,
                (_, said) if said.contains("in use by paidup") => refused += 1,
                (_, said) if said.contains("in use by") => {
                    assert!(said.contains(" ("), "with its number: {said}");
                    refused += 1;
                }
                (code, said) => panic!("{code} {said}"),
            }
            let store = Store::open_query_only(&setup.database()).unwrap();
            assert_eq!(store.damage().unwrap(), [""; 0]);
            assert_eq!(store.disagreements().unwrap(), [""; 0]);
        }
        drop(over);
        for poller in pollers {
            let (good, refused) = poller.join().unwrap();
            eprintln!("api: {good} answered, {refused} told to come again");
        }
        for command in commands {
            let (name, (good, refused)) = command.join().unwrap();
            eprintln!("{name}: {good} done, {refused} told of a restore");
        }
    });
    eprintln!("{restores} restores: {done} done, {refused} refused in words, 0 corrupt");
    assert!(done > 0);
    assert!(!api.has_ended());
    life.acknowledged
        .retain(|name| life.backed_up.contains(name));
    life.start();
    life.kill_and_start();
}

#[test]
fn a_restore_says_who_has_the_database_open() {
    let mut life = Life::begin(0);
    life.deliver(1);
    let copy = life.setup.folder().join("copy.db");
    let copy = copy.to_str().unwrap();
    life.command(&["backup", copy]);
    life.stop();
    let store = life.setup.store();
    let (code, said) = life.setup.run(&["restore", copy]);
    assert_eq!(code, 1, "{said}");
    let me = format!("({})", std::process::id());
    assert!(said.contains(&me), "{said}");
    assert!(said.contains("systemctl stop paidup.socket"), "{said}");
    drop(store);
    assert_eq!(life.setup.run(&["restore", copy]).0, 0);
}

// ── Helpers ──

fn rounds(usual: usize) -> usize {
    std::env::var("PAIDUP_ROUNDS").map_or(usual, |rounds| rounds.parse().unwrap())
}

fn authorized(path: &str) -> String {
    get(path).replace("Host:", &format!("Authorization: Bearer {TOKEN}\r\nHost:"))
}

/// One database from its first start on, and all that was acknowledged.
struct Life {
    setup: Setup,
    service: Option<Service>,
    round: usize,
    next: usize,
    acknowledged: BTreeSet<String>,
    backed_up: BTreeSet<String>,
    visits: usize,
    _stripe: FakeStripe,
}

impl Life {
    fn begin(round: usize) -> Life {
        let stripe = FakeStripe::start();
        let setup = Setup::new()
            .set("STRIPE_SECRET_KEY", KEY)
            .set("STRIPE_API_BASE", &stripe.base())
            .set("API_ADDR", "127.0.0.1:0")
            .set("API_TOKEN", TOKEN);
        let mut life = Life {
            setup,
            service: None,
            round,
            next: 0,
            acknowledged: BTreeSet::new(),
            backed_up: BTreeSet::new(),
            visits: 0,
            _stripe: stripe,
        };
        life.start();
        life
    }

    fn start(&mut self) {
        self.service = Some(self.setup.start());
        self.holds_its_locks("started");
    }

    fn stop(&mut self) {
        let service = self.service.as_mut().unwrap();
        service.signal(Signal::TERM);
        service.wait();
        self.service = None;
    }

    /// Deliveries, a visit, and deliveries after it.
    fn stage(&mut self, name: &str) {
        self.deliver(3);
        self.visit(name);
        self.deliver(5);
    }

    fn deliver(&mut self, count: usize) {
        let service = self.service.as_ref().unwrap();
        for _ in 0..count {
            let name = self.next.to_string();
            service.accepts(paid(&name), "applied");
            self.acknowledged.insert(name);
            self.next += 1;
        }
    }

    /// Each stage is visited by another program in another round.
    fn visit(&mut self, stage: &str) {
        let database = self.setup.database();
        let database = database.to_str().unwrap();
        let python = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute('SELECT count(*) FROM orders').fetchone()
db.close()";
        let read = "SELECT count(*) FROM orders";
        let mut visitor = match (self.round + self.visits) % 3 {
            0 => Command::new("sqlite3"),
            1 => Command::new("python3"),
            _ => self.setup.command(&["orders", "list", "--limit", "1"]),
        };
        match (self.round + self.visits) % 3 {
            0 => visitor.args([database, read]),
            1 => visitor.args(["-c", python, database]),
            _ => &mut visitor,
        };
        let output = visitor.output().unwrap();
        assert!(output.status.success(), "{stage}: {output:?}");
        self.visits += 1;
        self.holds_its_locks(stage);
    }

    fn command(&mut self, words: &[&str]) {
        let (code, said) = self.setup.run(words);
        assert_eq!(code, 0, "{words:?}: {said}");
        if words[0] == "backup" {
            self.backed_up = self.acknowledged.clone();
        }
        if self.service.is_some() {
            self.holds_its_locks(words[0]);
            self.stage(words[0]);
        }
    }

    fn kill_and_start(&mut self) {
        self.service.as_mut().unwrap().kill();
        self.start();
        let store = self.setup.store();
        assert_eq!(store.damage().unwrap(), [""; 0]);
        assert_eq!(store.disagreements().unwrap(), [""; 0]);
        let lost: Vec<_> = self
            .acknowledged
            .iter()
            .filter(|name| store.order(&format!("ord_{name}")).unwrap().is_none())
            .collect();
        assert!(lost.is_empty(), "lost in round {}: {lost:?}", self.round);
    }

    /// The kernel's list has the locks by which SQLite knows that the file is in use, and the log is
    /// where it was.
    fn holds_its_locks(&self, stage: &str) {
        let pid = self.service.as_ref().unwrap().pid();
        for suffix in ["", "-shm"] {
            let file = beside(&self.setup.database(), suffix);
            // Looked at again: the kernel's list may lack a line while others come and go, and a
            // lock that is lost never comes back.
            eventually(&format!("{stage}: {} is locked", file.display()), || {
                is_locked_by(&file, pid)
            });
        }
        assert!(beside(&self.setup.database(), "-wal").exists(), "{stage}");
    }
}

fn is_locked_by(file: &Path, pid: Pid) -> bool {
    let inode = format!(":{}", fs::metadata(file).unwrap().ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    locks.lines().any(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        words[1] == "POSIX" && words[4] == pid.to_string() && words[5].ends_with(&inode)
    })
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}
