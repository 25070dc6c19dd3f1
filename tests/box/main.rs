//! The units in a real systemd: each test is a fresh machine, and what an operator may meet on it.
//!
//! Needs root and apt-get: `cargo test --test box`. The first run takes a minute to make a Debian.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test may fail by panicking, and reads the clock itself"
)]

#[path = "../fake_stripe/mod.rs"]
mod fake_stripe;
mod load;
mod machine;
mod package;
#[path = "../harness/receiver.rs"]
#[allow(dead_code, reason = "the other test target uses the rest")]
mod receiver;

mod calls_stripe;
mod documented;
mod documents;
mod planted;
mod runbook;
mod second_shop;
mod shows;
mod tells;
#[path = "../peers/tools.rs"]
#[allow(dead_code, reason = "the other test target uses the rest")]
mod tools;
mod way_in;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use load::{EDGE, Load, deliver, send};
use machine::{Machine, said};

/// The load comes from one address, which is what nothing but a proxy does.
const NO_LIMIT: &str = "RATE_LIMIT_WEBHOOK_EXEMPT=127.0.0.0/8";

// ── Installed ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_bare_binary_makes_a_server_whose_orders_survive_a_reboot() {
    let mut machine = Machine::fresh("install");
    way_in::walk(&machine);
    let again = machine.does("/root/paidup install");
    assert!(!again.contains("write "), "{again}");
    machine.set(&format!("STRIPE_WEBHOOK_SECRET={}", machine::SECRET));
    machine.does("paidup check");
    machine.does("systemctl reload-or-restart paidup");
    machine.does("paidup send-test --order test_1");
    assert_eq!(deliver(&machine, "ord_1"), 200);
    for order in ["test_1", "ord_1"] {
        assert_eq!(order_status(&machine, order), "paid");
    }

    machine.reboot();
    assert_eq!(machine.property("ActiveState"), "active");
    assert_eq!(deliver(&machine, "ord_2"), 200);
    for order in ["test_1", "ord_1", "ord_2"] {
        assert_eq!(order_status(&machine, order), "paid");
    }
    second_shop::opens_beside_the_first(&machine);
    machine.reboot();
    machine.does("systemctl is-active paidup@coffee.service");
    assert_eq!(private_mode(&machine, "/etc/paidup/paidup.env"), 0o600);
    assert_eq!(private_mode(&machine, "/var/lib/paidup"), 0o700);
    assert_eq!(private_mode(&machine, "/var/lib/paidup/paidup.db"), 0o600);
}

#[test]
fn the_nightly_backup_runs_in_its_sandbox_and_the_metrics_know() {
    let machine = Machine::serving("backup", "");
    assert_eq!(deliver(&machine, "ord_1"), 200);
    // A file that somebody copied there is no verified backup.
    machine.does("cp /var/lib/paidup/paidup.db /var/lib/paidup/backup/copied.db");
    assert_eq!(last_backup(&machine), "0");
    machine.does("systemctl start paidup-backup.service");
    assert_ne!(last_backup(&machine), "0");
    let newest = machine.shell("ls -t /var/lib/paidup/backup/paidup-*.db | head -1");
    let restored = format!(
        "env DATABASE_PATH={} paidup orders show ord_1",
        newest.trim()
    );
    assert!(machine.does(&restored).contains("is paid"), "{restored}");
}

#[test]
fn uninstalling_keeps_the_orders_and_purging_leaves_nothing() {
    let machine = Machine::serving("uninstall", "");
    assert_eq!(deliver(&machine, "ord_1"), 200);
    machine.does("/root/paidup uninstall");
    assert!(machine.path("/var/lib/paidup/paidup.db").exists());
    machine.does("/root/paidup install");
    machine.does("systemctl start paidup");
    assert_eq!(order_status(&machine, "ord_1"), "paid");
    let kept = machine.tries_in_shell("echo no | /root/paidup uninstall --purge");
    assert!(!kept.status.success() && said(&kept).contains("Nothing was removed"));
    machine.shell("echo backup | /root/paidup uninstall --purge");
    let last = "env DATABASE_PATH=/root/paidup-last.db /root/paidup orders show ord_1";
    assert!(machine.does(last).contains("is paid"));
    let found = machine
        .does("find /etc /usr/local /var/lib /var/log /run/systemd/system -xdev -name *paidup*");
    assert_eq!(found, "");
    assert!(!machine.tries("getent passwd paidup").status.success());
}

#[test]
fn the_units_are_valid_and_shut_in() {
    let machine = Machine::serving("units", "STRIPE_SECRET_KEY=sk_test_box");
    let units = machine.does("find /usr/local/lib/systemd/system -maxdepth 1 -type f");
    let verified = machine.does(&format!(
        "systemd-analyze verify {}",
        units.replace('\n', " ")
    ));
    assert_eq!(verified, "");
    let services = units.lines().filter(|unit| unit.ends_with(".service"));
    for path in services {
        let unit = path.rsplit('/').next().unwrap();
        let goes_out = ["-api", "-reconcile", "-notify"];
        let goes_out = goes_out.iter().any(|one| unit.contains(one));
        let unit = &unit.replace("@.", "@box.");
        let report = machine.does(&format!("systemd-analyze security --offline=true {unit}"));
        let (_, rest) = report.rsplit_once("exposure level for").unwrap();
        let (_, score) = rest.split_once(": ").unwrap();
        let score: f64 = score.split(' ').next().unwrap().parse().unwrap();
        eprintln!("{unit}: {score}");
        assert!(score <= if goes_out { 1.1 } else { 0.3 }, "{report}");
    }
    // Nothing of the network is there but what was passed in, and yet it serves.
    let pid = machine.property("MainPID");
    let environment = machine.does(&format!("cat /proc/{pid}/environ"));
    assert!(environment.contains("DATABASE_PATH"), "{environment}");
    assert!(!environment.contains("STRIPE_SECRET_KEY"), "{environment}");
    let network = machine.does(&format!("nsenter --net --target {pid} ss -Hltn"));
    assert_eq!(network, "");
    assert_eq!(deliver(&machine, "ord_1"), 200);
}

// ── Restarted ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn thirty_restarts_under_load_lose_nothing() {
    let machine = Machine::serving("restarts", NO_LIMIT);
    restart_under_load(&machine, EDGE);
}

#[test]
fn thirty_restarts_behind_nginx_lose_nothing() {
    let machine = Machine::serving("nginx", NO_LIMIT);
    // The file as it is shipped, without TLS.
    let shipped = include_str!("../../systemd/nginx.conf").replace("443 ssl", "127.0.0.1:8080");
    let has_tls = |line: &&str| line.contains("ssl_") || line.contains("[::]");
    let plain: Vec<&str> = shipped.lines().filter(|line| !has_tls(line)).collect();
    fs::write(
        machine.path("/etc/nginx/conf.d/paidup.conf"),
        plain.join("\n"),
    )
    .unwrap();
    machine.does("systemd-run -q --unit=proxy --service-type=forking nginx");
    for (host, path, status) in [
        ("hooks.example.com", "/healthz", 200),
        ("hooks.example.com", "/metrics", 404),
        ("hooks.example.com", "/", 404),
        ("other.example.com", "/healthz", 404),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let sent = machine.inside(move || send("127.0.0.1:8080", request.as_bytes()));
        assert_eq!(sent.join().unwrap().unwrap(), status, "{host}{path}");
    }
    restart_under_load(&machine, "127.0.0.1:8080");
}

fn restart_under_load(machine: &Machine, to: &'static str) {
    let load = Load::start(machine, to, 8);
    for _ in 0..30 {
        machine.does("systemctl restart paidup");
    }
    let sum = load.stop();
    eprintln!(
        "30 restarts: {} stored, {} lost, slowest {:?}",
        sum.stored.len(),
        sum.lost.len(),
        sum.slowest
    );
    assert_eq!(sum.lost, Vec::<String>::new());
    assert!(sum.stored.len() > 300, "no load worth the name");
    assert_all_on_disk(machine, &sum.stored);
}

// ── Broken settings ─────────────────────────────────────────────────────────────────────────────

#[test]
fn a_reload_with_broken_settings_is_refused_while_the_old_process_serves() {
    let machine = Machine::serving("reload", NO_LIMIT);
    let pid = machine.property("MainPID");
    let load = Load::start(&machine, EDGE, 4);
    for broken in [
        "STRIPE_WEBHOOK_SECRET=",
        "STRIPE_WEBHOOK_SECRET=whsec_x\nRATE_LIMIT_WEBHOOK_MAX=ten",
    ] {
        machine.set(broken);
        let refused = machine.tries("systemctl reload paidup");
        assert!(!refused.status.success(), "{}", said(&refused));
    }
    fs::remove_file(machine.path(machine::ENV_FILE)).unwrap();
    assert!(!machine.tries("systemctl reload paidup").status.success());
    assert_eq!(machine.property("MainPID"), pid, "the old process goes on");
    machine.until_journal_has("RATE_LIMIT_WEBHOOK_MAX is ");

    machine.set(&format!(
        "STRIPE_WEBHOOK_SECRET=whsec_new,{}\n{NO_LIMIT}",
        machine::SECRET
    ));
    machine.does("systemctl reload paidup");
    assert_ne!(
        machine.property("MainPID"),
        pid,
        "a new process has started"
    );
    let sum = load.stop();
    assert_eq!(sum.lost, Vec::<String>::new());
    assert_all_on_disk(&machine, &sum.stored);
}

#[test]
fn a_restart_with_broken_settings_says_so_and_deliveries_wait_for_the_repair() {
    let machine = Machine::serving("repair", NO_LIMIT);
    machine.set("STRIPE_WEBHOOK_SECRET=");
    assert!(!machine.tries("systemctl restart paidup").status.success());
    let load = Load::start(&machine, EDGE, 4);
    machine.until("tries again each second", || {
        machine.property("NRestarts").parse::<u32>().unwrap() >= 3
    });
    // Between two tries systemd shows the status of none.
    machine.until("each try ends with 78", || {
        machine.property("ExecMainStatus") == "78"
    });
    machine.until_journal_has("STRIPE_WEBHOOK_SECRET is not set or blank");
    machine.until_journal_has("status=78/CONFIG");
    machine.set(&format!(
        "STRIPE_WEBHOOK_SECRET={}\n{NO_LIMIT}",
        machine::SECRET
    ));
    machine.until("serves again", || {
        machine.property("ActiveState") == "active"
    });
    let sum = load.stop();
    assert_eq!(sum.lost, Vec::<String>::new());
    assert!(sum.slowest > Duration::from_secs(1), "nobody had to wait");
    assert_all_on_disk(&machine, &sum.stored);
}

/// As sandbox.conf says, with every command that needs the secret.
#[test]
fn the_secret_may_be_a_credential() {
    let machine = Machine::serving("credential", "");
    machine.set("STRIPE_WEBHOOK_SECRET_FILE=/etc/paidup/webhook_secret");
    fs::write(machine.path("/etc/paidup/webhook_secret"), machine::SECRET).unwrap();
    machine.does("systemd-tmpfiles --create paidup.conf");
    assert_eq!(private_mode(&machine, "/etc/paidup/webhook_secret"), 0o600);
    let shipped = include_str!("../../systemd/sandbox.conf");
    let lines = shipped.lines().filter_map(|line| line.strip_prefix("#   "));
    let lines = lines.collect::<Vec<_>>().join("\n");
    for unit in ["paidup.service.d", "paidup-check.service.d"] {
        let path = machine.path(&format!("/etc/systemd/system/{unit}/credential.conf"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("[Service]\n{lines}\n")).unwrap();
    }
    machine.does("systemctl daemon-reload");
    machine.does("systemctl reload paidup");
    assert_eq!(deliver(&machine, "ord_1"), 200);
    let pid = machine.property("MainPID");
    let environment = machine.does(&format!("cat /proc/{pid}/environ"));
    assert!(!environment.contains(machine::SECRET));

    let settings = format!("--env-file {}", machine::ENV_FILE);
    for command in ["check", "doctor", "send-test", "rotate verify"] {
        machine.does(&format!("paidup {command} {settings}"));
    }
    machine.shell(&format!(
        "echo whsec_after_the_roll | paidup rotate add {settings}"
    ));
    machine.does("systemctl reload paidup");
    let verified = machine.does(&format!("paidup rotate verify {settings}"));
    assert!(verified.contains("secret 2 of 2: accepted"), "{verified}");
    machine.does(&format!("paidup rotate finish {settings}"));
    let kept = fs::read_to_string(machine.path("/etc/paidup/webhook_secret")).unwrap();
    assert_eq!(kept, "whsec_after_the_roll\n");
}

/// A container that may not nest: the sandbox of a unit fails there, for which a folder that is missing
/// stands here.
#[test]
fn a_machine_that_cannot_shut_a_unit_in_is_told_and_can_do_without() {
    let machine = Machine::serving("nesting", "");
    let runbook = include_str!("../../docs/RUNBOOK.md");
    let first = runbook
        .lines()
        .find(|line| line.starts_with("began="))
        .unwrap();
    assert!(machine.shell(first).contains("ok       configuration: "));
    let broken = machine.path("/etc/systemd/system/paidup-check.service.d/test.conf");
    fs::create_dir_all(broken.parent().unwrap()).unwrap();
    fs::write(&broken, "[Service]\nBindPaths=/does/not/exist\n").unwrap();
    machine.does("systemctl daemon-reload");
    std::thread::sleep(Duration::from_secs(1));
    let said = said(&machine.tries_in_shell(first));
    assert!(
        said.contains("226/NAMESPACE") && !said.contains("ok       "),
        "{said}"
    );
    let refused = machine.tries("/root/paidup install");
    let told = machine::said(&refused);
    assert!(
        !refused.status.success() && told.contains("(226/NAMESPACE)"),
        "{told}"
    );
    fs::remove_file(&broken).unwrap();

    let (_, remedy) = told.split_once("`for ").unwrap();
    let (remedy, _) = remedy.split_once('`').unwrap();
    assert!(runbook.contains(&format!("`for {remedy}`")));
    machine.shell(&format!("for {remedy}"));
    machine.does("systemctl restart paidup.service");
    assert_eq!(deliver(&machine, "ord_1"), 200);
    let pid = machine.property("MainPID");
    for kind in ["mnt", "net", "user", "ipc", "uts", "pid"] {
        let of = |pid: &str| machine.does(&format!("readlink /proc/{pid}/ns/{kind}"));
        assert_eq!(of(&pid), of("1"), "{kind}");
    }
    machine.until("its log is in the main journal", || {
        machine
            .does("journalctl -u paidup -o cat")
            .contains("Webhook applied")
    });
    machine.does("systemctl reload paidup");
    assert_eq!(deliver(&machine, "ord_2"), 200);
}

// ── Failures ────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_killed_server_is_back_within_seconds_with_all_that_it_answered() {
    let machine = Machine::serving("killed", NO_LIMIT);
    let load = Load::start(&machine, EDGE, 8);
    for kills in 1..=3_u32 {
        machine.does("systemctl kill --signal=KILL paidup");
        machine.until("back", || {
            let restarts: u32 = machine.property("NRestarts").parse().unwrap();
            restarts >= kills && machine.property("ActiveState") == "active"
        });
    }
    let sum = load.stop();
    eprintln!(
        "3 kills: {} stored, {} lost",
        sum.stored.len(),
        sum.lost.len()
    );
    assert!(
        sum.lost.len() <= 3 * 8,
        "only what was in flight is lost: {:?}",
        sum.lost
    );
    assert_all_on_disk(&machine, &sum.stored);
    machine.until_journal_has("code=killed, status=9/KILL");
}

#[test]
fn a_server_that_stands_still_is_restarted_by_the_watchdog() {
    let machine = Machine::serving("still", NO_LIMIT);
    machine.edit_unit("WatchdogSec=3s");
    machine.does("systemctl restart paidup");
    // An idle server proves every second that it can write, and is left alone.
    let calm = Instant::now();
    machine.until("idle for two of the watchdog's turns", || {
        calm.elapsed() > Duration::from_secs(7)
    });
    assert_eq!(machine.property("NRestarts"), "0");

    machine.does("systemctl kill --signal=STOP paidup");
    until_restarted(&machine);
    assert_eq!(deliver(&machine, "ord_1"), 200);
    machine.until_journal_has("Watchdog timeout");
}

#[test]
fn a_writer_whose_disk_hangs_is_restarted_by_the_watchdog() {
    let machine = Machine::serving("hang", NO_LIMIT);
    let library = machine.path("/usr/local/lib/hang.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/box/hang.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-D_GNU_SOURCE", "-o"]);
    assert!(
        compiler
            .arg(library)
            .arg(source)
            .status()
            .unwrap()
            .success()
    );
    machine.edit_unit(
        "WatchdogSec=2s\nTimeoutAbortSec=2s\nEnvironment=LD_PRELOAD=/usr/local/lib/hang.so",
    );
    machine.does("systemctl restart paidup");
    assert_eq!(deliver(&machine, "ord_1"), 200);
    let hangs = machine.path("/run/paidup-disk-hangs");
    fs::write(&hangs, "").unwrap();
    machine.until_journal_has("Watchdog timeout");
    fs::remove_file(&hangs).unwrap();
    until_restarted(&machine);
    assert_eq!(deliver(&machine, "ord_2"), 200);
    assert_eq!(order_status(&machine, "ord_2"), "paid");
}

#[test]
fn a_port_that_is_taken_is_named_in_the_journal() {
    let machine = Machine::fresh("port");
    machine.does("/root/paidup install");
    machine.set(&format!("STRIPE_WEBHOOK_SECRET={}", machine::SECRET));
    let taken = machine
        .inside(|| TcpListener::bind(EDGE).unwrap())
        .join()
        .unwrap();
    assert!(!machine.tries("systemctl start paidup").status.success());
    // Of the whole journal: a process that systemd forks says it, and whether the journal still finds
    // that process under the unit's name is a race (`journalctl -u paidup.socket` may miss the line).
    let named = "Failed to create listening socket (127.0.0.1:4242): Address already in use";
    machine.until(named, || {
        machine.does("journalctl --no-pager").contains(named)
    });
    drop(taken);
    machine.does("systemctl start paidup");
    assert_eq!(deliver(&machine, "ord_1"), 200);
}

#[test]
fn a_socket_that_nobody_expects_is_refused_by_name() {
    let machine = Machine::serving("socket", "");
    let path = machine.path("/etc/systemd/system/paidup-extra.socket");
    let unit =
        "[Socket]\nListenStream=127.0.0.1:4244\nFileDescriptorName=extra\nService=paidup.service\n";
    fs::write(path, unit).unwrap();
    machine.does("systemctl daemon-reload");
    machine.does("systemctl stop paidup.service paidup.socket paidup-admin.socket");
    machine.does("systemctl start paidup-extra.socket");
    assert!(!machine.tries("systemctl start paidup").status.success());
    machine.until_journal_has("systemd passes a socket that is named `extra`");
}

#[test]
fn an_address_that_is_not_the_sockets_is_told_and_the_socket_serves() {
    let machine = Machine::serving("address", "LISTEN_ADDR=127.0.0.1:9999\nADMIN_ADDR=off");
    assert_eq!(deliver(&machine, "ord_1"), 200);
    machine.until_journal_has("listen_addr_not_used");
    machine.until_journal_has("admin_addr_not_used");
}

// ── Logs ────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn every_429_of_a_burst_is_in_the_journal() {
    let machine = Machine::serving("journal", "");
    let senders = (0..4_u64).map(|sender| {
        machine.inside(move || {
            let request =
                b"POST /stripe/webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
            let statuses = (0..2_550 + sender).map(|_| send(EDGE, request).unwrap());
            statuses.filter(|status| *status == 429).count()
        })
    });
    let senders: Vec<_> = senders.collect();
    let refused: usize = senders.into_iter().map(|it| it.join().unwrap()).sum();
    assert!(refused >= 10_000, "{refused}");
    let logged = || {
        let all = machine.does("journalctl --namespace=paidup --no-pager -o cat");
        let lines = all
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let exact = |line: &Value| line["message"] == "Webhook rate limit exceeded (429)";
        let ids = lines
            .filter(exact)
            .map(|line| line["requestId"].to_string());
        ids.collect::<BTreeSet<String>>().len()
    };
    machine.until("every line", || logged() == refused);
    eprintln!("{refused} answered 429, {} in the journal", logged());
    // The lines that alerts.yml gives to those who have no Prometheus.
    for (rule, expected) in [
        ("PaidupRateLimited", refused),
        ("PaidupWebhookErrors", 10_206),
    ] {
        let rules = include_str!("../../systemd/alerts.yml");
        let (before, _) = rules.split_once(&format!("- alert: {rule}")).unwrap();
        let line = before
            .lines()
            .rev()
            .nth(1)
            .unwrap()
            .trim()
            .trim_start_matches("# ");
        machine.until(line, || {
            let found = machine.shell(line);
            let count = found.trim().parse();
            count.unwrap_or_else(|_| found.lines().count()) == expected
        });
    }
}

#[test]
fn a_journal_that_dies_comes_back_and_without_it_nobody_goes_on_unheard() {
    let machine = Machine::serving("nojournal", NO_LIMIT);
    let kill = "systemctl kill --kill-who=main --signal=KILL systemd-journald@paidup.service";
    let heard = |order: &str| {
        assert_eq!(deliver(&machine, order), 200);
        machine.until(order, || {
            let lines = machine.does("journalctl --namespace=paidup --no-pager -o cat");
            lines.contains(&format!("\"orderId\":\"{order}\""))
        });
    };
    heard("ord_1");
    for order in ["ord_2", "ord_3", "ord_4"] {
        machine.does(kill);
        heard(order);
    }
    assert_eq!(machine.property("NRestarts"), "0");

    // What Debian alone does: the journal stays dead, and whoever writes to it has lost it.
    let folder = "/usr/local/lib/systemd/system/systemd-journald@paidup.service.d";
    machine.does(&format!("rm {folder}/10-paidup.conf"));
    machine.does("systemctl daemon-reload");
    machine.does(kill);
    machine.until("the journal is dead", || {
        let journal = "systemctl is-active systemd-journald@paidup.service";
        !machine.tries(journal).status.success()
    });
    assert_eq!(deliver(&machine, "ord_5"), 200);
    until_restarted(&machine);
    machine.until_journal_has("status=74/IOERR");
    heard("ord_6");
    assert_eq!(order_status(&machine, "ord_5"), "paid");
}

#[test]
fn a_journal_that_stands_still_holds_nobody_up() {
    let machine = Machine::serving("stalled", NO_LIMIT);
    machine.edit_unit("WatchdogSec=4s");
    machine.does("systemctl restart paidup");
    let journal = "systemd-journald@paidup.service";
    machine.does(&format!("systemctl kill --signal=STOP {journal}"));
    let load = Load::start(&machine, EDGE, 16);
    let ready = b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n";
    machine.until("not ready", || {
        let answer = machine.inside(move || load::ask("127.0.0.1:4243", ready));
        let answer = answer.join().unwrap().unwrap();
        answer.contains("503") && answer.contains("log_stalled")
    });
    machine.until("and the status says why", || {
        machine
            .property("StatusText")
            .contains("nobody reads the log")
    });
    let sum = load.stop();
    assert_eq!(sum.lost, Vec::<String>::new());
    machine.does(&format!("systemctl kill --signal=CONT {journal}"));
    machine.until("each of them is in the journal", || {
        let lines = machine.does("journalctl --namespace=paidup --no-pager -o cat");
        let applied = lines.matches("\"message\":\"Webhook applied\"").count();
        let dropped = lines.matches("\"errorCode\":\"lines_dropped_").count();
        applied == sum.stored.len() || dropped > 0
    });
    assert_eq!(machine.property("NRestarts"), "0");
    assert_all_on_disk(&machine, &sum.stored);
}

// ── What is asked for above ─────────────────────────────────────────────────────────────────────

/// What a process had accepted goes with it when it is killed, and Stripe retries; so whoever wants
/// an answer asks the next process.
pub(crate) fn until_restarted(machine: &Machine) {
    machine.until("restarted", || {
        machine.property("NRestarts") != "0" && machine.property("ActiveState") == "active"
    });
}

/// When the last backup was, as the metrics have it.
fn last_backup(machine: &Machine) -> String {
    let request = b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n";
    let metrics = machine.inside(move || load::ask("127.0.0.1:4243", request));
    let metrics = metrics.join().unwrap().unwrap();
    let gauge = "\npaidup_backup_last_timestamp_seconds ";
    let (_, value) = metrics.split_once(gauge).unwrap();
    value.lines().next().unwrap().to_owned()
}

pub(crate) fn order_status(machine: &Machine, order: &str) -> String {
    let shown = machine.does(&format!(
        "paidup orders show {order} --json --env-file {}",
        machine::ENV_FILE
    ));
    let order: Value = serde_json::from_str(&shown).unwrap();
    order["status"].as_str().unwrap().to_owned()
}

/// Every event that was answered 200 is in the database, in a new process.
pub(crate) fn assert_all_on_disk(machine: &Machine, stored: &[String]) {
    let listed = machine.does(&format!(
        "paidup events list --limit 1000000 --json --env-file {}",
        machine::ENV_FILE
    ));
    let id = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["eventId"].as_str().unwrap().to_owned()
    };
    let on_disk: BTreeSet<String> = listed.lines().map(id).collect();
    let missing: Vec<_> = stored.iter().filter(|id| !on_disk.contains(*id)).collect();
    assert!(
        missing.is_empty(),
        "answered 200, and not there: {missing:?}"
    );
}

fn private_mode(machine: &Machine, path: &str) -> u32 {
    let mode = machine.does(&format!("stat -c %a {path}"));
    u32::from_str_radix(mode.trim(), 8).unwrap()
}
