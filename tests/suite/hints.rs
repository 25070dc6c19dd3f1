//! Every hint that a command prints can be pasted as it stands: the tests of commands give what they saw
//! to [`paste`], which runs each command in it in a shop of its own. Those that no test meets are taken
//! from the source.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::fake_stripe::{FakeStripe, KEY};
use crate::harness::receiver::{Receiver, Reply};
use crate::harness::{SECRET, Setup, paid};

/// Those that were pasted already, by any test of this process.
static PASTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Runs whatever commands a person would copy from `said`.
pub(crate) fn paste(said: &str) {
    for hint in hints(said) {
        let mut pasted = PASTED.lock().unwrap_or_else(PoisonError::into_inner);
        if pasted.insert(hint.trim_start_matches("sudo ").to_owned()) {
            drop(pasted);
            check(&hint);
        }
    }
}

/// The commands in a text for people: between backquotes, after "Read: ", or on an indented line.
fn hints(said: &str) -> Vec<String> {
    let quoted = said
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let lines = said.lines().filter_map(|line| {
        let line = line.strip_prefix("Read: ").or(line.strip_prefix("  "))?;
        line.split("   #").next()
    });
    let lines = lines.flat_map(|line| line.split(" && ")).map(str::trim);
    let is_command = |hint: &&str| {
        let first = hint.trim_start_matches("sudo ").split(' ').next();
        let programs = [
            "paidup",
            "systemctl",
            "journalctl",
            "timedatectl",
            "getent",
            "fuser",
            "chmod",
        ];
        programs.contains(&first.unwrap()) && hint.contains(' ')
    };
    // A table of the help has two blanks between its columns.
    // Its examples are for other machines: that they are commands is shown in command/table.rs.
    let is_help = said.contains("Exit codes");
    let is_line = |line: &&str| is_command(line) && !line.contains("  ") && !is_help;
    let all = quoted.filter(is_command).chain(lines.filter(is_line));
    all.map(str::to_owned).collect()
}

fn check(hint: &str) {
    let line = hint.trim_start_matches("sudo ");
    let (line, _reader) = line.split_once(" | ").unwrap_or((line, ""));
    match line.split_once(' ').unwrap() {
        ("paidup", words) => run(hint, words),
        ("systemctl", words) => of_systemd(hint, words),
        ("journalctl", words) => {
            for word in words.split(' ').filter(|word| word.starts_with("--")) {
                assert_eq!(word, "--namespace=paidup", "{hint}");
            }
            assert!(
                words.starts_with("--namespace=paidup"),
                "the log is there: {hint}"
            );
        }
        _ => {}
    }
}

/// A verb of systemctl, and units that are ours.
fn of_systemd(hint: &str, words: &str) {
    let mut words = words.split(' ').map(|word| word.trim_matches('\''));
    let verb = words.next().unwrap();
    let verbs = [
        "status",
        "start",
        "stop",
        "restart",
        "reload",
        "reload-or-restart",
        "enable",
        "cat",
        "edit",
        "revert",
        "disable",
        "list-units",
    ];
    assert!(verbs.contains(&verb), "{hint}");
    for unit in words.filter(|word| !word.starts_with("--")) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
        let is_ours = |name: &str| folder.join(name).exists();
        let is_known = is_ours(unit)
            || is_ours(&format!("{unit}.service"))
            || [
                "paidup-notify*",
                "paidup*.socket",
                "UNIT",
                "caddy",
                "nginx",
                "systemd-journald@paidup.service",
            ]
            .contains(&unit);
        assert!(is_known, "{unit}: {hint}");
    }
}

/// As on a machine where paidup is installed and serves, and Stripe can be reached.
fn run(hint: &str, words: &str) {
    let stripe = FakeStripe::start();
    stripe.add_endpoint("https://shop.example.com/stripe/webhook", &["*"]);
    let shop = Receiver::start(|_| Reply::Status(200));
    let first = Setup::new();
    let file = first.folder().join("paidup.env");
    let setup = first
        .set("STRIPE_SECRET_KEY", KEY)
        .set("STRIPE_API_BASE", &stripe.base())
        .set("API_TOKEN", "0123456789abcdef0123456789abcdef")
        .set("API_ADDR", "127.0.0.1:0")
        .set("PAGE_ADDR", "127.0.0.1:0")
        .set("CHECKOUT_SUCCESS_URL", "https://shop.example.com/thanks")
        .set("PUBLIC_URL", "https://shop.example.com")
        .set("NOTIFY_URL", &shop.url())
        .set("NOTIFY_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let service = setup.start();
    service.accepts(paid("1"), "applied");
    let setup = setup.set("LISTEN_ADDR", &service.edge.to_string());
    let admin = service.admin().to_string();
    let setup = setup.set("ADMIN_ADDR", &admin);
    let database = setup.database();
    fs::write(
        &file,
        format!(
            "DATABASE_PATH={}\nLISTEN_ADDR={}\nSTRIPE_WEBHOOK_SECRET={SECRET}\n",
            database.display(),
            service.edge
        ),
    )
    .unwrap();
    let name = |text: &str| text.replace("/etc/paidup/paidup.env", file.to_str().unwrap());
    let words = name(words);
    let backup = setup.folder().join("backup.db");
    if words.starts_with("restore") {
        assert_eq!(setup.run(&["backup", backup.to_str().unwrap()]).0, 0);
        drop(service);
    }
    if words.starts_with("notify ") {
        // It knows its destination once it has run.
        let once = setup.again().under(&["timeout", "--preserve-status", "1"]);
        once.run(&["notify"]);
    }
    let is_of_events = words.starts_with("events");
    let mut before = String::new();
    let mut words: Vec<String> = words_of(&words)
        .into_iter()
        .map(|word| {
            let follows = std::mem::replace(&mut before, word.clone());
            match word.as_str() {
                "FILE" => backup.display().to_string(),
                "COMMAND" => "check".to_owned(),
                "HOST" => "hooks.example.com".to_owned(),
                // What the test that saw the hint has, and this shop has not.
                _ if follows == "show" && is_of_events => "evt_1".to_owned(),
                _ if follows == "--order" || follows == "show" => "ord_1".to_owned(),
                _ => word,
            }
        })
        .collect();
    // Of the test that saw it, as well.
    if let Some(place) = words.iter().position(|word| word == "--env-file") {
        words.drain(place..=place + 1);
    }
    if ["rotate", "connect"].contains(&&*words[0]) {
        words.extend(["--env-file".to_owned(), file.display().to_string()]);
    }
    words.retain(|word| word != "--restart");
    if ["connect", "install", "uninstall"].contains(&&*words[0]) {
        words.retain(|word| word != "--dry-run");
        words.push("--dry-run".to_owned());
    }
    // Those that go on are asked to stop.
    let bounded = setup.again().under(&["timeout", "--preserve-status", "60"]);
    let is_endless = [
        "serve",
        "api",
        "page",
        "notify",
        "orders follow",
        "demo --page",
    ]
    .contains(&&*words.join(" "));
    let bounded = if is_endless {
        setup.under(&["timeout", "--preserve-status", "1"])
    } else {
        bounded
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut command = bounded.command(&words);
    let input = std::process::Stdio::piped();
    let mut child = command.stdin(input).spawn().unwrap();
    // Who does not read it closes it.
    let _ = child
        .stdin
        .take()
        .unwrap()
        .write_all(b"whsec_after_the_roll\n");
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let code = output.status.code();
    // A doctor may find something, and who goes on is ended by a signal.
    let is_well = matches!(code, Some(0 | 3)) || is_endless && code != Some(2) && code != Some(78);
    assert!(
        is_well,
        "the hint `{hint}`, pasted, ends with {code:?}:\n{told}"
    );
}

/// As a shell takes them apart.
fn words_of(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in line.chars() {
        match c {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

#[test]
fn hints_are_found_and_one_that_does_not_work_is_noticed() {
    let said = "Next: `sudo paidup doctor`, then `systemctl reload paidup`.\nRead: paidup help orders\n  sudo paidup \
                check && sudo systemctl reload paidup\n  paidup orders list  what there is\n`paidup` alone\n";
    let expected = [
        "sudo paidup doctor",
        "systemctl reload paidup",
        "paidup help orders",
        "sudo paidup check",
        "sudo systemctl reload paidup",
    ];
    assert_eq!(hints(said), expected);
    paste(said);
    for wrong in [
        "`paidup orders shw ID`",
        "`systemctl reload padup`",
        "`paidup rotate now`",
    ] {
        let noticed = std::panic::catch_unwind(|| paste(wrong));
        assert!(noticed.is_err(), "{wrong}");
    }
}

/// In what the source prints: its texts, with what is filled in left out.
#[test]
fn hints_that_no_test_meets_work_too() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut seen = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let mut text = texts(&fs::read_to_string(&path).unwrap());
                // What other words mean here: each text that is a command is printed as one.
                if path.ends_with("command/wrong.rs") {
                    text = text.replace('"', "`");
                }
                seen.extend(hints(&text));
            }
        }
    }
    // What was meant, and what there is: src/command/wrong.rs.
    seen.retain(|hint| !hint.starts_with("paidup {"));
    assert!(seen.len() > 80, "{seen:#?}");
    assert!(seen.contains("sudo paidup check"), "lines of a text");
    let hints: Vec<String> = seen
        .iter()
        .map(|hint| format!("`{}`", filled(hint)))
        .collect();
    let fails = |hint: &&String| std::panic::catch_unwind(|| paste(hint)).is_err();
    let failed: Vec<&String> = std::thread::scope(|threads| {
        let parts = hints.chunks(hints.len() / 4 + 1);
        let tried: Vec<_> = parts
            .map(|part| threads.spawn(move || part.iter().filter(fails).collect::<Vec<_>>()))
            .collect();
        tried
            .into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect()
    });
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A source file without its comments and tests, each text on one line.
fn texts(source: &str) -> String {
    let (code, _tests) = source
        .split_once("#[cfg(test)]\nmod ")
        .unwrap_or((source, ""));
    let mut text = String::new();
    for line in code.lines() {
        let goes_on = !text.is_empty() && !text.ends_with('\n');
        let line = if goes_on { line.trim_start() } else { line };
        match line.strip_suffix('\\') {
            _ if line.trim_start().starts_with("//") => {}
            Some(more) => text.push_str(more),
            None => text.push_str(&format!("{}\n", line.trim_end_matches(['"', ',']))),
        }
    }
    text
}

/// Of a hint with `{name}` in it: an option behind a word is left out, and a word of its own is an id.
fn filled(hint: &str) -> String {
    let words = hint.split(' ').map(|word| match word.split_once('{') {
        Some(("", "name}")) => "shop",
        Some(("", _)) if hint.contains("systemctl") => "paidup.service",
        Some(("", _)) => "ord_1",
        Some((word, _)) => word,
        None => word,
    });
    words.collect::<Vec<_>>().join(" ")
}
