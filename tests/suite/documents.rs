//! No document shows a command that nobody runs (tests/box runs them), and each tells an operator to
//! subscribe to the event types that the table of them names.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use paidup::truth::kind::{KINDS, Need};
use paidup::truth::order::{Flag, Status};

#[path = "../box/documented.rs"]
mod documented;

#[test]
fn each_command_of_the_documents_is_run_by_a_test() {
    documented::compare();
}

#[test]
fn documents_list_the_event_types_that_are_needed() {
    let readme = include_str!("../../README.md");
    let rows = between(readme, "subscribe it to:", "Some runbooks name").lines();
    let checklist = include_str!("../../docs/DEPLOYMENT_CHECKLIST.md");
    let items = between(checklist, "Subscribed to:", "A destination created")
        .replace("Useful:", "- [ ] useful:");
    for (document, parts) in [
        ("README.md", rows.map(str::to_owned).collect::<Vec<_>>()),
        (
            "docs/DEPLOYMENT_CHECKLIST.md",
            items.split("- [ ]").map(str::to_owned).collect(),
        ),
    ] {
        for (need, words) in [
            (Need::ManualCapture, "with manual capture"),
            (Need::Invoices, "with subscriptions or invoices"),
            (Need::Goods, "if you ship goods"),
            (Need::Useful, "useful:"),
        ] {
            let part = parts
                .iter()
                .find(|part| part.to_lowercase().contains(words));
            assert_eq!(
                types_in(part.unwrap()),
                needed(|known| known == need),
                "{document}: {words}"
            );
        }
        let is_usual = |need| matches!(need, Need::Every { .. });
        let listed = types_in(&parts.concat());
        let conditional =
            needed(|need| !is_usual(need) && !matches!(need, Need::Spare | Need::Unlisted));
        let usual: Vec<&str> = listed
            .into_iter()
            .filter(|kind| !conditional.contains(kind))
            .collect();
        assert_eq!(usual, needed(is_usual), "{document}");
    }
}

/// Programs choose by these words, so none is added, renamed or left out unnoticed.
#[test]
fn the_openapi_file_has_the_words_that_the_code_has() {
    let file = include_str!("../../docs/openapi.yaml");
    let listed = |start: &str| {
        let (_, list) = file.split_once(start).unwrap();
        let words = between(list, "enum: [", "]").split(',').map(str::trim);
        words.map(str::to_owned).collect::<BTreeSet<String>>()
    };
    let code = include_str!("../../src/base/log_line.rs").lines();
    let code = code.filter_map(|line| {
        line.trim()
            .strip_prefix("ErrorCode::")?
            .split_once(" => \"")
    });
    let code = code.filter_map(|(_, word)| word.strip_suffix("\","));
    let code: BTreeSet<String> = code.map(str::to_owned).collect();
    assert!(code.len() > 40, "{code:?}");
    let others = [
        "Invalid signature (malformed header)",
        "Invalid signature (no header)",
        "Invalid signature (no match)",
        "Invalid signature (too old)",
        "admin_addr_not_used",
        "cross_site",
        "event_not_json",
        "event_unusable",
        "listen_addr_not_used",
        "log_stalled",
        "notify_busy",
        "notify_refused",
        "notify_timeout",
        "notify_tls",
        "notify_unreachable",
        "password_wrong",
        "query_timeout",
        "queue_full",
        "store_stopping",
    ];
    let of_api = listed("    ErrorCode:\n");
    assert_eq!(
        of_api.difference(&code).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
    // Of deliveries, the page, `notify` or the log alone.
    assert_eq!(code.difference(&of_api).collect::<Vec<_>>(), others);
    let statuses: BTreeSet<String> = Status::ALL
        .iter()
        .map(|it| it.as_str().to_owned())
        .collect();
    assert_eq!(listed("    Status:\n"), statuses);
    let flags: BTreeSet<String> = Flag::ALL.iter().map(|it| it.as_str().to_owned()).collect();
    assert_eq!(listed("    Flags:\n"), flags);
}

/// What is typed, and the key that Stripe's Dashboard gives.
#[test]
fn production_takes_at_most_eight_steps() {
    let readme = include_str!("../../README.md");
    let way = between(readme, "## Production in ten minutes", "## In an incident");
    let blocks = way.split("```sh\n").skip(1);
    let typed: Vec<&str> = blocks
        .flat_map(|block| block.split("```").next().unwrap().lines())
        .filter(|line| !line.trim().is_empty())
        .collect();
    assert!(typed.len() > 5, "{typed:#?}");
    assert!(typed.len() < 8, "{typed:#?}");
}

/// What the runbooks tell to look for is what the program says, letter by letter, and both have the same.
#[test]
fn the_runbooks_quote_what_is_printed() {
    let code = in_one_line(Path::new("src")).replace("{file}", "DATABASE_PATH");
    let quoted = |runbook: &'static str| {
        let cells = runbook
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(" | ").nth(1));
        let quoted = cells.map(|cell| cell.split('`').skip(1).step_by(2).collect::<Vec<_>>());
        quoted.collect::<Vec<_>>()
    };
    let english = quoted(include_str!("../../docs/RUNBOOK.md"));
    assert_eq!(english, quoted(include_str!("../../docs/RUNBOOK.fr.md")));
    // Of systemd and of alerts.yml; two have a mode or a kind in them.
    let of_others = [
        "Address already in use",
        "Watchdog timeout",
        "status=226/NAMESPACE",
        "status=74/IOERR",
        "status=78/CONFIG",
        "the database is of live mode, and test and live never mix",
        "PaidupShopNotTold",
        "ignored (other_shop)",
    ];
    let mut count = 0;
    for text in english.concat() {
        let is_ours = !of_others.contains(&text);
        assert!(!is_ours || code.contains(text), "{text}");
        count += usize::from(is_ours);
    }
    assert!(count > 40, "{count}");
}

/// As the runbook promises; the box shows that no line of a burst is missing.
#[test]
fn the_journal_keeps_14_to_30_days_also_on_a_disk_that_is_nearly_full() {
    let conf = include_str!("../../systemd/journald.conf");
    let value = |name: &str| conf.lines().find_map(|line| line.strip_prefix(name));
    let days = value("MaxRetentionSec=").and_then(|it| it.strip_suffix("day"));
    assert!((14..=30).contains(&days.unwrap().parse::<u32>().unwrap()));
    // Only whole files are deleted, and it is another day that is kept.
    assert_eq!(value("MaxFileSec="), Some("1day"));
    assert_eq!(value("SystemKeepFree="), Some("64M"));
    assert_eq!(value("RateLimitBurst="), Some("0"));
}

/// All the code of a folder, with its strings of several lines in one.
fn in_one_line(folder: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all += &in_one_line(&path);
            continue;
        }
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            match line.strip_suffix('\\') {
                Some(start) => all += start.trim_start(),
                None => all += &format!("{}\n", line.trim_start()),
            }
        }
    }
    all
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, text) = text.split_once(from).unwrap();
    text.split_once(to).unwrap().0
}

/// The event types that a text names, in the order of the table.
fn types_in(text: &str) -> Vec<&'static str> {
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let known = KINDS.iter().map(|kind| kind.name);
    known.filter(|kind| named.contains(kind)).collect()
}

fn needed(is_wanted: impl Fn(Need) -> bool) -> Vec<&'static str> {
    let wanted = KINDS.iter().filter(|kind| is_wanted(kind.need));
    wanted.map(|kind| kind.name).collect()
}

#[test]
fn documents_and_manual_page_are_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let readme = include_str!("../../README.md");
    let tarball = format!("paidup-{version}-x86_64-linux.tar.gz");
    assert!(readme.contains(&tarball), "README: {tarball}");
    let changes = include_str!("../../CHANGELOG.md");
    let newest = changes.lines().find_map(|line| line.strip_prefix("## "));
    let (newest, day) = newest.unwrap().split_once(" — ").unwrap();
    assert_eq!(newest, version, "CHANGELOG");
    let paidup = Command::new(env!("CARGO_BIN_EXE_paidup"))
        .arg("man")
        .output();
    let manual = String::from_utf8(paidup.unwrap().stdout).unwrap();
    let head = format!(".TH PAIDUP 1 \"{day}\" \"paidup {version}\" ");
    assert!(manual.contains(&head), "{head}");
}
