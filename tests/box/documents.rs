//! Every command that the documents show is run, as root on a machine where paidup is installed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::fake_stripe::{FakeStripe, Target};
use crate::load::{EDGE, send};
use crate::machine::{self, Machine};
use crate::{calls_stripe, order_status};

/// Commands that are run elsewhere, and where.
const ELSEWHERE: &[(&str, &str)] = &[
    ("cargo run --release -- demo", "`paidup demo` below"),
    ("cargo test", ".ci/run"),
    ("cargo doc --open", ".ci/run, without a browser"),
    ("cargo bench", "by hand: it takes minutes"),
    (
        "cp .env.example paidup.env && chmod 600 paidup.env",
        "`paidup install` does that",
    ),
    (
        "paidup check --env-file paidup.env",
        "tests/peers/first_payment.rs",
    ),
    (
        "paidup serve --env-file paidup.env",
        "tests/peers/first_payment.rs",
    ),
    (
        "paidup send-test --env-file paidup.env",
        "`paidup send-test` below",
    ),
    (
        "cargo install cargo-deb --locked && cargo deb",
        "tests/box/package.rs",
    ),
    (
        "sudo apt-get install ./target/debian/paidup_*.deb",
        "tests/box/package.rs",
    ),
    ("paidup serve", "paidup.service"),
    ("paidup api", "tests/box/calls_stripe.rs"),
    ("sudoedit /etc/paidup/paidup.env", "an editor"),
];

/// The others, in an order in which they make sense: as documented, and what is typed for it where
/// that is more.
const TYPED: &[(&str, &str)] = &[
    ("sudo ./paidup install", "/root/paidup install"),
    ("paidup install", "/root/paidup install --dry-run"),
    ("sudo systemctl reload-or-restart paidup.service", ""),
    ("sudo systemctl enable --now paidup-api", ""),
    ("paidup gen-token", ""),
    (
        "curl -H \"Authorization: Bearer $API_TOKEN\" http://127.0.0.1:4244/orders -d '\n  \
         {\"orderId\": \"ord_1001\", \"lineItems\": [{\"name\": \"Coffee\", \"amount\": 1250, \"currency\": \"eur\", \"quantity\": 2}]}'",
        "",
    ),
    ("paidup check", ""),
    ("paidup check --env-file FILE", ""),
    ("paidup doctor", ""),
    ("paidup doctor --env-file /etc/paidup/paidup.env", ""),
    ("paidup send-test", ""),
    (
        "paidup send-test [TYPE…]",
        "paidup send-test charge.refunded",
    ),
    ("paidup send-test --forged", ""),
    ("paidup demo", ""),
    ("paidup help [COMMAND]", "paidup help orders"),
    ("paidup orders list", ""),
    ("paidup orders show ID", ""),
    ("paidup events list", ""),
    ("paidup reconcile", ""),
    ("paidup reconcile [--since 3d]", ""),
    ("paidup reconcile --order ID", ""),
    ("paidup reconcile --undelivered", ""),
    ("paidup reconcile --since 30d", ""),
    (
        "paidup reconcile --since 3d --dry-run --env-file /etc/paidup/paidup.env",
        "",
    ),
    (
        "paidup reconcile --since 3d --env-file /etc/paidup/paidup.env",
        "",
    ),
    (
        "paidup rotate add",
        "echo whsec_after_the_roll | paidup rotate add",
    ),
    (
        "paidup rotate add --env-file /etc/paidup/paidup.env",
        "echo whsec_after_the_roll | paidup rotate add",
    ),
    ("systemctl reload paidup.service", ""),
    ("paidup rotate verify --env-file /etc/paidup/paidup.env", ""),
    ("paidup rotate finish --env-file /etc/paidup/paidup.env", ""),
    ("systemctl restart paidup.service", ""),
    ("paidup db check", ""),
    ("paidup db info", ""),
    ("paidup db prune --older-than 90d", ""),
    ("paidup backup", "paidup backup /root/one.db"),
    ("paidup backup FILE", "paidup backup /root/two.db"),
    ("paidup backup --dir /var/lib/paidup/backup --keep 14", ""),
    (
        "paidup backup /var/lib/paidup/backup/before-upgrade.db --env-file /etc/paidup/paidup.env",
        "",
    ),
    (
        "systemctl stop paidup.socket paidup-admin.socket paidup.service",
        "",
    ),
    (
        "paidup restore /tmp/paidup.db",
        "cp /root/one.db /tmp/paidup.db && paidup restore /tmp/paidup.db",
    ),
    (
        "paidup restore FILE --env-file /etc/paidup/paidup.env",
        "sleep 1; paidup restore FILE",
    ),
    (
        "paidup restore /var/lib/paidup/backup/before-upgrade.db --env-file /etc/paidup/paidup.env",
        "sleep 1; paidup restore /var/lib/paidup/backup/before-upgrade.db",
    ),
    ("systemctl start paidup.socket paidup-admin.socket", ""),
    ("systemctl start paidup", ""),
    (
        "paidup reconcile --since 30d --env-file /etc/paidup/paidup.env",
        "",
    ),
    (
        "systemctl start paidup-check.service; journalctl --namespace=paidup -u paidup-check.service -o cat -n 30",
        "",
    ),
    ("systemctl status paidup.service", ""),
    ("journalctl --namespace=paidup", ""),
    ("journalctl --namespace=paidup -o cat -n 50", ""),
    (
        "journalctl --namespace=paidup -o cat | grep ID",
        "journalctl --namespace=paidup -o cat | grep requestId",
    ),
    (
        "journalctl --namespace=paidup -o cat | grep -F REQUEST_ID",
        "journalctl --namespace=paidup -o cat | grep -F requestId",
    ),
    (
        "journalctl --namespace=paidup --since=-15min -o cat | grep -cE '\"status\":(4|5)[0-9][0-9]'",
        "",
    ),
    (
        "journalctl --namespace=paidup --since=-15min -o cat | grep -F 'Webhook rate limit exceeded (429)'",
        "",
    ),
    ("ss -ltnp", ""),
    ("timedatectl", ""),
    ("dmesg", ""),
];

#[test]
fn every_command_of_the_documents_does_what_it_says() {
    let documented = documented();
    let known = TYPED
        .iter()
        .chain(ELSEWHERE)
        .map(|(text, _)| (*text).to_owned());
    let known: BTreeSet<String> = known.collect();
    let unknown: Vec<_> = documented.difference(&known).collect();
    assert!(unknown.is_empty(), "nobody runs {unknown:#?}");
    let gone: Vec<_> = known.difference(&documented).collect();
    assert!(gone.is_empty(), "no document shows {gone:#?}");

    let machine = Machine::serving("documents", "");
    let stripe = machine.inside(FakeStripe::start).join().unwrap();
    stripe.add_endpoint("https://shop.example.com/stripe/webhook", &["*"]);
    let settings = calls_stripe::settings(&stripe.base());
    let public = "PUBLIC_URL=https://shop.example.com";
    machine.set(&format!(
        "STRIPE_WEBHOOK_SECRET={}\n{settings}\n{public}",
        machine::SECRET
    ));
    machine.does("systemctl restart paidup.service");
    let stripe = pay(&machine, stripe);
    // More than a minute's worth: the last of them are 429.
    let forged = b"POST /stripe/webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
    let burst = machine.inside(move || {
        (0..120)
            .filter(|_| send(EDGE, forged).unwrap() == 429)
            .count()
    });
    assert!(burst.join().unwrap() > 0);
    machine.does("systemctl restart paidup.service");

    for (text, typed) in TYPED {
        run(&machine, text, typed);
    }
    assert_eq!(order_status(&machine, "ord_1"), "paid");
    drop(stripe);
    eprintln!("{} commands, {} elsewhere", TYPED.len(), ELSEWHERE.len());
}

fn pay(machine: &Machine, stripe: FakeStripe) -> FakeStripe {
    let target = Target {
        address: EDGE.parse().unwrap(),
        path: "/stripe/webhook".to_owned(),
        secret: machine::SECRET.to_owned(),
    };
    let paid = machine.inside(move || {
        let session = stripe.create_session("ord_1", 2500);
        stripe.pay(&session);
        assert!(
            stripe
                .deliver_all(&target)
                .unwrap()
                .iter()
                .all(|status| *status == 200)
        );
        stripe
    });
    paid.join().unwrap()
}

fn run(machine: &Machine, text: &str, typed: &str) {
    let typed = if typed.is_empty() { text } else { typed };
    let mut line = typed
        .strip_prefix("sudo ")
        .unwrap_or(typed)
        .replace("[--since 3d]", "--since 3d");
    // Every command of the runbook, it says, reads the server's settings.
    let reads_settings = line.split(' ').any(|word| word == "paidup")
        && !line.contains("--env-file")
        && !["gen-token", "demo", "help", "install", "systemctl"]
            .iter()
            .any(|word| line.contains(word));
    if reads_settings {
        line += " --env-file FILE";
    }
    line = line
        .replace("show ID", "show ord_1")
        .replace("--order ID", "--order ord_1");
    line = line
        .replace("restore FILE", "restore /root/two.db")
        .replace("FILE", machine::ENV_FILE);
    let output = if line.starts_with("curl") {
        let mut shell = machine.command_in_its_network("sh");
        shell.args(["-c", &line.replace("curl", "curl --fail-with-body -sS")]);
        shell
            .env("API_TOKEN", calls_stripe::TOKEN)
            .output()
            .unwrap()
    } else {
        machine.tries_in_shell(&line)
    };
    let code = output.status.code().unwrap();
    // The doctor's job is to find something, such as events that nobody delivered.
    let is_well = code == 0 || text.starts_with("paidup doctor") && code == 3;
    assert!(is_well, "{line}\nexit {code}\n{}", machine::said(&output));
}

/// What stands in blocks of shell, line by line, and between backquotes if it is a command. The
/// README's first payment is run as it is by tests/peers/first_payment.rs.
fn documented() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = vec![fs::read_to_string(root.join("README.md")).unwrap()];
    for document in fs::read_dir(root.join("docs")).unwrap() {
        texts.push(fs::read_to_string(document.unwrap().path()).unwrap());
    }
    let (before, rest) = texts[0]
        .split_once("## Take a payment in ten minutes\n")
        .unwrap();
    let (_, after) = rest.split_once("\n## ").unwrap();
    texts[0] = format!("{before}{after}");

    let mut found = BTreeSet::new();
    for text in texts {
        for (index, part) in text.split("```").enumerate() {
            match part.strip_prefix("sh\n") {
                Some(block) if index % 2 == 1 => found.extend(lines(block)),
                Some(_) | None if index % 2 == 0 => found.extend(inline(part)),
                Some(_) | None => {}
            }
        }
    }
    found
}

/// A line goes on while a quote is open.
fn lines(block: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in block.lines() {
        let line = line.split("   #").next().unwrap();
        match found.last_mut() {
            Some(last) if is_open => *last += &format!("\n  {}", line.trim()),
            Some(_) | None => found.push(line.trim().to_owned()),
        }
        is_open ^= line.matches('\'').count() % 2 == 1;
    }
    found.retain(|line| !line.is_empty());
    found
}

fn inline(text: &str) -> Vec<String> {
    const PROGRAMS: [&str; 10] = [
        "paidup",
        "sudo",
        "systemctl",
        "journalctl",
        "curl",
        "ss",
        "timedatectl",
        "dmesg",
        "cp",
        "cargo",
    ];
    let code = text.split('`').skip(1).step_by(2);
    let words = code.map(|code| code.split_whitespace().collect::<Vec<_>>().join(" "));
    let is_command = |code: &String| {
        let first = code.split(' ').next().unwrap();
        PROGRAMS.contains(&first)
            && (code.contains(' ') || matches!(first, "timedatectl" | "dmesg"))
    };
    words.filter(is_command).collect()
}
