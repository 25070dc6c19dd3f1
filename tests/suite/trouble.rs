//! What the commands say and do when something is wrong: to whoever reads them at 3 a.m.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::harness::{SECRET, Setup, paid, sign};

/// Anybody but root.
const OWNER: u32 = 65_534;

// ── Reading ─────────────────────────────────────────────────────────────────────────────────────

const READS: [&[&str]; 8] = [
    &["orders", "list"],
    &["orders", "show", "ord_1"],
    &["events", "list"],
    &["events", "show", "evt_1"],
    &["notify", "status"],
    &["db", "info"],
    &["check"],
    &["check", "--reload"],
];

#[test]
fn a_read_changes_nothing_in_a_backup_or_beside_a_database_at_rest() {
    let setup = shop();
    let copy = setup.folder().join("copy.db");
    let (code, said) = setup.run(&["backup", copy.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    fs::create_dir(setup.folder().join("kept")).unwrap();
    let kept = setup.folder().join("kept/copy.db");
    fs::rename(copy, &kept).unwrap();
    let of_backup = setup.again().set("DATABASE_PATH", kept.to_str().unwrap());
    let before = files_in(setup.folder());
    for words in READS {
        for setup in [&setup, &of_backup] {
            let (code, said) = setup.run(words);
            assert_eq!(code, 0, "{words:?}: {said}");
        }
        assert!(files_in(setup.folder()) == before, "{words:?}");
    }
}

#[test]
fn orders_are_read_where_nothing_may_be_written() {
    let setup = shop();
    forbid_writing(setup.folder());
    let (code, said) = setup.run(&["orders", "show", "ord_1", "--json"]);
    assert!(code == 0 && said.contains("\"status\":\"paid\""), "{said}");
    let (code, said) = setup.run(&["check", "--reload"]);
    let database = setup.database().display().to_string();
    let told = format!("PROBLEM  permissions: {database} cannot be written: Permission denied");
    assert!(code == 3 && said.contains(&told), "{said}");

    // Orders that are in the log alone.
    allow_writing(setup.folder());
    let mut service = setup.start();
    service.accepts(paid("2"), "applied");
    service.kill();
    fs::remove_file(format!("{database}-shm")).unwrap();
    forbid_writing(setup.folder());
    let (code, said) = setup.run(&["orders", "list"]);
    assert_eq!(code, 1, "{said}");
    for expected in [
        "the log (-wal) beside",
        &database,
        "copy the file and its -wal",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    allow_writing(setup.folder());
    assert!(setup.run(&["orders", "list"]).1.contains("ord_2"));
}

#[test]
fn an_empty_file_is_no_new_shop() {
    let setup = Setup::new();
    fs::write(setup.database(), "").unwrap();
    for (words, expected) in [
        (&["serve"][..], 1),
        (&["orders", "list"], 1),
        (&["db", "info"], 1),
        (&["backup", "copy.db"], 1),
        (&["check"], 3),
    ] {
        let (code, said) = setup.run(words);
        assert_eq!(code, expected, "{words:?}: {said}");
        assert!(
            said.contains("is empty: it is no database"),
            "{words:?}: {said}"
        );
        assert_eq!(fs::read(setup.database()).unwrap(), b"", "{words:?}");
    }
    fs::remove_file(setup.database()).unwrap();
    setup.start().accepts(paid("1"), "applied");
}

// ── Settings ──────────────────────────────────────────────────────────────────────────────────────────

/// Reports would be of other days than those that somebody means.
#[test]
fn a_time_zone_that_this_machine_does_not_know_is_found() {
    let said = "warning  time zone: TZ is no time zone that this machine knows";
    let (code, found) = Setup::new().set("TZ", "Europe/Belrin").run(&["check"]);
    assert!(code == 0 && found.contains(said), "{code} {found}");
    assert!(found.contains("/usr/share/zoneinfo"), "{found}");
    for good in ["Europe/Berlin", ""] {
        let (_, found) = Setup::new().set("TZ", good).run(&["check"]);
        assert!(!found.contains("time zone"), "{good}: {found}");
    }
}

/// What a start of any process refuses or ignores, `check` tells before it.
#[test]
fn check_tells_what_a_start_would_refuse_or_ignore() {
    let token = "t".repeat(40);
    for (pairs, expected) in [
        (
            &[("STRIPE_WEBHOOK_SECRET", "whsec_…")][..],
            "PROBLEM  configuration: STRIPE_WEBHOOK_SECRET has a placeholder",
        ),
        (&[("STRIPE_WEBHOOK_SECRET", "whsec_")], "has a placeholder"),
        (
            &[("STRIPE_WEBHOOK_SECRET", "whsec_YOUR_SECRET")],
            "has a placeholder",
        ),
        (
            &[("STRIPE_WEBHOOK_SECRET", "whsec_xxxx")],
            "has a placeholder",
        ),
        (
            &[("PAGE_ADDR", "unix:/etc")],
            "PAGE_ADDR: /etc exists and is not a socket",
        ),
        (
            &[
                ("PAGE_ADDR", "127.0.0.1:4256"),
                ("ADMIN_ADDR", "127.0.0.1:4256"),
            ],
            "PAGE_ADDR is 127.0.0.1:4256, which is another listener's already",
        ),
        (
            &[("TZ", "Europe/Nowhere"), ("HTTP_CONNECTIONS", "none")],
            "warning  time zone: TZ is no time zone that this machine knows",
        ),
        (
            &[("STRIPE_WEBHOOK_SECRET", "sk_live_1")],
            "PROBLEM  configuration: STRIPE_WEBHOOK_SECRET has an API key",
        ),
        (
            &[("STRIPE_SECRET_KEY", "sk_test_...")],
            "STRIPE_SECRET_KEY is a placeholder",
        ),
        (
            &[("STRIPE_SECRET_KEY", "pk_live_1")],
            "STRIPE_SECRET_KEY is a publishable key",
        ),
        (
            &[("STRIPE_SECRET_KEY", "sk_test_1"), ("STRIPE_MODE", "live")],
            "is a key of test mode, and STRIPE_MODE is live",
        ),
        (
            &[("API_TOKEN", "short"), ("STRIPE_SECRET_KEY", "sk_test_1")],
            "API_TOKEN is shorter",
        ),
        (
            &[("API_TOKEN", &token)],
            "STRIPE_SECRET_KEY is not set or blank",
        ),
        (
            &[("CHECKOUT_CANCEL_URL", "shop.example")],
            "CHECKOUT_CANCEL_URL is not the URL",
        ),
        (
            &[("PUBLIC_URL", "http://hooks.example.com")],
            "PUBLIC_URL is not https://HOST",
        ),
        (
            &[("NOTIFY_NAME", "phone")],
            "NOTIFY_URL is not set or blank",
        ),
        (
            &[("NOTIFY_URL", "shop.example")],
            "NOTIFY_URL is not https://HOST/PATH",
        ),
        (
            &[
                ("STRIPE_WEBHOOK_SECRET", ""),
                ("STRIPE_WEBHOOK_SECERT", "whsec_1"),
            ],
            "STRIPE_WEBHOOK_SECRET is not set or blank, and STRIPE_WEBHOOK_SECERT is: a slip in its name",
        ),
        (
            &[("HTTP_CONNECTIONS", "none"), ("LOGLEVEL", "info")],
            "warning  configuration: LOGLEVEL is not a variable of paidup",
        ),
        (
            &[
                ("LISTEN_ADDR", "127.0.0.1:4255"),
                ("API_ADDR", "127.0.0.1:4255"),
                ("API_TOKEN", &token),
                ("STRIPE_SECRET_KEY", "sk_test_1"),
            ],
            "API_ADDR is 127.0.0.1:4255, which is another listener's already",
        ),
    ] {
        let mut setup = Setup::new();
        for (name, value) in pairs {
            setup = setup.set(name, value);
        }
        let (code, said) = setup.run(&["check"]);
        assert!(
            code == 3 && said.contains(expected),
            "{pairs:?}: {code} {said}"
        );
        assert_eq!(said.matches(expected).count(), 1, "{said}");
    }
}

#[test]
fn check_names_another_program_that_has_the_port_and_not_our_own_server() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let setup = Setup::new().set("LISTEN_ADDR", &address);
    let (code, said) = setup.run(&["check"]);
    let pid = std::process::id();
    assert_eq!(code, 3, "{said}");
    assert!(
        said.contains("PROBLEM  configuration: LISTEN_ADDR: "),
        "{said}"
    );
    assert!(
        said.contains(&format!("(process {pid}) has the port {address}")),
        "{said}"
    );
    for (variable, more) in [
        ("PAGE_ADDR", None),
        (
            "API_ADDR",
            Some(("API_TOKEN", "0123456789abcdef0123456789abcdef")),
        ),
    ] {
        let mut setup = Setup::new()
            .set("STRIPE_SECRET_KEY", "sk_test_1")
            .set(variable, &address);
        if let Some((name, value)) = more {
            setup = setup.set(name, value);
        }
        let (code, said) = setup.run(&["check"]);
        let expected = format!("PROBLEM  configuration: {variable}: ");
        assert!(code == 3 && said.contains(&expected), "{said}");
    }
    drop(taken);
    let service = setup.start();
    assert_eq!(setup.run(&["check"]).0, 0);
    drop(service);
}

// ── What the server has seen ───────────────────────────────────────────────────────────────────────────────

#[test]
fn doctor_finds_without_a_key_what_the_server_has_refused_and_how() {
    let setup = Setup::new();
    let service = setup.start();
    let body = paid("1");
    let signed = |secret: &str, age| sign(secret, body.as_bytes(), age);
    for (count, signature) in [
        (3, Some(signed("whsec_of_nobody", 0))),
        (2, Some(signed(SECRET, 3600))),
        (1, Some("t=1,v1=".to_owned())),
        (4, None),
    ] {
        for _ in 0..count {
            let header = signature.as_deref().map(|text| ("Stripe-Signature", text));
            let answer = service.post(header.as_slice(), &body);
            assert_eq!(answer.status, 400);
            let line = service.line_of(answer.request_id());
            assert_eq!(answer.json()["errorCode"], line["errorCode"]);
        }
    }
    let doctor = setup
        .again()
        .set("ADMIN_ADDR", &service.admin().to_string());
    let (code, said) = doctor.run(&["doctor"]);
    assert_eq!(code, 0, "{said}");
    for expected in [
        "warning  key: Stripe was not asked",
        "ok       server: a server answers on",
        "3 signatures were refused since it started: Invalid signature (no match)",
        "2 signatures were refused since it started: Invalid signature (too old)",
        "1 signature was refused since it started: Invalid signature (malformed header)",
        "4 signatures were refused since it started: Invalid signature (no header)",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    // A server that has refused nothing is none to warn of.
    drop(service);
    let service = setup.start();
    let doctor = setup
        .again()
        .set("ADMIN_ADDR", &service.admin().to_string());
    assert!(!doctor.run(&["doctor"]).1.contains("refused since"));
}

// ── Restoring ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_wrong_backup_is_named_as_such_and_the_newest_ones_are_shown() {
    let setup = shop();
    let folder = setup.folder().join("backup");
    fs::create_dir(&folder).unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    let (_, said) = setup.run(&["restore", &at("typo.db")]);
    let none = format!("There is no backup in {}.", folder.display());
    assert!(
        said.contains("typo.db was not restored: there is no such file"),
        "{said}"
    );
    assert!(said.contains(&none), "{said}");

    for day in 1..=5 {
        let name = at(&format!("paidup-2026110{day}T030000Z.db"));
        assert_eq!(setup.run(&["backup", &name]).0, 0);
    }
    let before = files_in(setup.folder());
    let other = setup.folder().join("other");
    fs::write(
        &other,
        "no database at all, but long enough for a header".repeat(9),
    )
    .unwrap();
    fs::write(setup.folder().join("empty"), "").unwrap();
    for (name, expected) in [
        ("typo.db", "there is no such file"),
        ("other", "it is no database of paidup's"),
        ("empty", "it is empty"),
    ] {
        let file = setup.folder().join(name);
        let (code, said) = setup.run(&["restore", file.to_str().unwrap()]);
        assert_eq!(code, 1, "{said}");
        assert!(
            said.contains(&format!("{name} was not restored: {expected}")),
            "{said}"
        );
        assert!(!said.contains("DATABASE_PATH"), "{said}");
        let newest: Vec<&str> = said.lines().filter(|line| line.starts_with("  ")).collect();
        let expected =
            [5, 4, 3].map(|day| format!("  {}", at(&format!("paidup-2026110{day}T030000Z.db"))));
        assert_eq!(newest, expected, "{said}");
        // The hint can be pasted.
        assert_eq!(setup.run(&["db", "info"]).0, 0);
    }
    let of_database = |files: Vec<(PathBuf, Vec<u8>)>| {
        files
            .into_iter()
            .find(|(path, _)| *path == setup.database())
    };
    assert!(of_database(before) == of_database(files_in(setup.folder())));
}

#[test]
fn a_folder_stands_for_its_newest_backup() {
    let setup = shop();
    let folder = setup.folder().join("backup");
    fs::create_dir(&folder).unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    // The times in the names count, whenever the files were copied here.
    for name in ["paidup-20261102T030000Z.db", "paidup-20261101T030000Z.db"] {
        assert_eq!(setup.run(&["backup", &at(name)]).0, 0);
    }
    let (code, said) = setup.run(&["restore", folder.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains(&format!(
            "restored from {}",
            at("paidup-20261102T030000Z.db")
        )),
        "{said}"
    );
    let empty = setup.folder().join("nothing");
    fs::create_dir(&empty).unwrap();
    let (code, said) = setup.run(&["restore", empty.to_str().unwrap()]);
    assert!(
        code == 1 && said.contains("there is no such file"),
        "{said}"
    );
    assert!(said.contains("The newest backups:"), "{said}");
}

// ── What is asked for above ─────────────────────────────────────────────────────────────────────

/// With one paid order, and nobody in it.
fn shop() -> Setup {
    let setup = Setup::new();
    let mut service = setup.start();
    service.accepts(paid("1"), "applied");
    service.signal(rustix::process::Signal::TERM);
    assert!(service.wait().success());
    setup
}

/// Every name beneath the folder, with its content.
fn files_in(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_in(&path)),
            false => found.push((path.clone(), fs::read(path).unwrap())),
        }
    }
    found.sort();
    found
}

/// For root too, who works there as the owner.
fn forbid_writing(folder: &Path) {
    for path in within(folder) {
        give(&path, OWNER);
        let mode = if path.is_dir() { 0o500 } else { 0o400 };
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
}

fn allow_writing(folder: &Path) {
    for path in within(folder) {
        give(&path, 0);
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
}

fn give(path: &Path, owner: u32) {
    if geteuid().is_root() {
        chown(path, Some(owner), Some(owner)).unwrap();
    }
}

fn within(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = files.collect();
    all.push(folder.to_owned());
    all
}
