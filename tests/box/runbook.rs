//! The procedures of docs/RUNBOOK.md, with the very commands that it shows, and its incidents: what
//! systemd does, what the journal says and what the runbook says agree.

use std::fs;

use crate::load::{EDGE, Load, deliver};
use crate::machine::{self, Machine};
use crate::{NO_LIMIT, assert_all_on_disk, order_status};

const RUNBOOK: &str = include_str!("../../docs/RUNBOOK.md");
const NEW_SECRET: &str = "whsec_after_the_roll";

// ── Procedures ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_secret_is_rotated_under_load_and_no_valid_delivery_is_refused() {
    let machine = Machine::serving("rotation", NO_LIMIT);
    let [add, restart, test, finish] = commands("## Rotate or revoke the signing secret");
    let (load, old) = (
        Load::start(&machine, EDGE, 4),
        Load::start(&machine, EDGE, 2),
    );
    assert_eq!(deliver(&machine, "ord_before"), 200);
    // The secret is rolled in the Dashboard: the old one lives on for some hours.
    load.sign_with(&[NEW_SECRET, machine::SECRET]);
    machine.shell(&format!("printf '%s\\n' {NEW_SECRET} | {add}"));
    let pid = machine.property("MainPID");
    machine.shell(&restart);
    until_another_serves(&machine, &pid);
    let new = Load::start(&machine, EDGE, 2);
    new.sign_with(&[NEW_SECRET]);
    let said = machine.shell(&test);
    eprintln!("{said}");
    // The old one has expired.
    load.sign_with(&[NEW_SECRET]);
    let mut sums = vec![old.stop()];
    let pid = machine.property("MainPID");
    machine.shell(&finish);
    until_another_serves(&machine, &pid);

    sums.extend([load.stop(), new.stop()]);
    for (sum, who) in sums
        .iter()
        .zip(["the old one", "both, then the new one", "the new one"])
    {
        eprintln!(
            "signed with {who}: {} stored, {} lost",
            sum.stored.len(),
            sum.lost.len()
        );
        assert_eq!(sum.lost, Vec::<String>::new());
        assert!(sum.stored.len() > 50);
        assert_all_on_disk(&machine, &sum.stored);
    }
    let refused = "Stripe webhook signature verification failed";
    // `rotate verify` asks whether a signature by nobody is refused.
    let lines = machine.journal();
    let lines = lines.lines().filter(|line| line.contains(refused)).count();
    assert!(lines <= 1, "{lines}");
    assert_eq!(
        deliver(&machine, "ord_after"),
        400,
        "the old secret opens nothing"
    );
}

// ── Incidents ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_full_disk_refuses_with_503_and_recovers_by_itself() {
    let machine = Machine::serving("full", NO_LIMIT);
    machine.does("systemctl stop paidup.service");
    machine.shell(
        "mount -t tmpfs -o size=8M,mode=0700,uid=$(id -u paidup),gid=$(id -g paidup) tmpfs /var/lib/paidup",
    );
    machine.does("systemctl start paidup.service");
    assert_eq!(deliver(&machine, "ord_1"), 200);
    assert!(
        !machine
            .tries("dd if=/dev/zero of=/var/lib/paidup/filler bs=4k")
            .status
            .success()
    );
    machine.until("no room is left in the log either", || {
        deliver(&machine, "ord_2") == 503
    });
    assert_eq!(machine.property("ActiveState"), "active");
    assert_eq!(machine.property("NRestarts"), "0");
    machine.until("the journal has it", || {
        let journal = machine.journal();
        says(&journal, "Webhook not stored: Stripe will retry") && says(&journal, "store_full")
    });
    machine.does("rm /var/lib/paidup/filler");
    assert_eq!(deliver(&machine, "ord_3"), 200);
    for order in ["ord_1", "ord_3"] {
        assert_eq!(order_status(&machine, order), "paid");
    }
}

#[test]
fn a_damaged_database_is_left_as_it_is_until_it_is_restored() {
    let machine = Machine::serving("damaged", NO_LIMIT);
    assert_eq!(deliver(&machine, "ord_1"), 200);
    let [backup] = commands("## Backup");
    machine.shell(&backup);
    machine.does("systemctl stop paidup.service");
    let database = machine.path("/var/lib/paidup/paidup.db");
    let mut damaged = fs::read(&database).unwrap();
    damaged[4096..3 * 4096].fill(0x5a);
    fs::write(&database, &damaged).unwrap();
    assert!(
        !machine
            .tries("systemctl start paidup.service")
            .status
            .success()
    );
    machine.until("it says so at each try", || {
        let journal = machine.journal();
        let said = "the database is damaged, or its disk cannot be read. It is left as it is";
        says(&journal, said) && journal.matches(said).count() >= 2
    });
    assert_eq!(fs::read(&database).unwrap(), damaged);

    let [restore] = commands("## Restore");
    for line in restore.lines().filter(|line| !line.contains("reconcile")) {
        machine.shell(line);
    }
    assert_eq!(deliver(&machine, "ord_2"), 200);
    for order in ["ord_1", "ord_2"] {
        assert_eq!(order_status(&machine, order), "paid");
    }
}

/// The other incidents are shown in main.rs; here, that the runbook has the words.
#[test]
fn the_runbook_has_the_words_of_every_incident() {
    for words in [
        "status=78/CONFIG",
        "Address already in use",
        "Watchdog timeout",
        "Webhook rate limit exceeded (429)",
        "Stripe webhook signature verification failed",
    ] {
        assert!(RUNBOOK.contains(words), "{words}");
    }
}

// ── What is asked for above ─────────────────────────────────────────────────────────────────────

/// Both the journal and the runbook.
fn says(journal: &str, words: &str) -> bool {
    assert!(
        RUNBOOK.contains(words),
        "the runbook does not know: {words}"
    );
    journal.contains(words)
}

/// The blocks of commands in a section of the runbook.
fn commands<const COUNT: usize>(heading: &str) -> [String; COUNT] {
    let (_, rest) = RUNBOOK.split_once(&format!("\n{heading}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1);
    let blocks = blocks.map(|block| {
        let (block, _) = block.split_once("```").unwrap();
        let lines: Vec<&str> = block
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        lines.join("\n")
    });
    blocks.collect::<Vec<_>>().try_into().unwrap()
}

fn until_another_serves(machine: &Machine, pid: &str) {
    machine.until("another process serves", || {
        let is = |name: &str| machine.property(name);
        is("ActiveState") == "active" && is("MainPID") != *pid && is("MainPID") != "0"
    });
}
