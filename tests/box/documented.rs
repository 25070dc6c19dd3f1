//! The commands that the documents show, and what is typed for each.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Commands that are run elsewhere, and where.
pub(crate) const ELSEWHERE: &[(&str, &str)] = &[
    ("cargo run --release -- demo", "`paidup demo` below"),
    ("cargo test", ".ci/run"),
    ("cargo test --test suite corpus", "`cargo test`"),
    ("cargo test --test disk", ".ci/run"),
    ("cargo install cargo-fuzz", "by hand"),
    ("cargo doc --open", ".ci/run, without a browser"),
    ("cargo bench", "by hand: it takes minutes"),
    (
        "cargo bench -- --against benches/express/server.js",
        "by hand",
    ),
    ("npm install --prefix benches/express", "by hand"),
    ("cargo bench --bench growth -- 5000000", "by hand"),
    ("cargo bench --bench page -- 5000000 FILE.db", "by hand"),
    ("cargo bench --bench notify", "by hand"),
    ("cargo bench --bench soak -- 10", "by hand"),
    (
        "cargo deny --config .ci/deny.toml check",
        ".ci/run, without the list of weaknesses, which is on the net",
    ),
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
        "cargo install cargo-deb --locked && .ci/deb",
        "tests/box/package.rs",
    ),
    (
        "sha256sum -c --ignore-missing SHA256SUMS",
        "tests/box/way_in.rs",
    ),
    (
        "tar xf paidup-0.1.0-x86_64-linux.tar.gz && cd paidup-0.1.0-x86_64-linux",
        "tests/box/way_in.rs",
    ),
    ("cargo build --release", "by hand: it takes minutes"),
    (
        "sudo apt-get install ./target/debian/paidup_*.deb",
        "tests/box/package.rs",
    ),
    ("paidup serve", "paidup.service"),
    ("paidup api", "tests/box/calls_stripe.rs"),
    ("paidup page", "tests/suite/page.rs"),
    ("paidup demo --page", "tests/peers/page.rs"),
    (
        "ssh -N -L 4245:/run/paidup/page.sock HOST",
        "tests/peers/page.rs",
    ),
    ("systemctl status paidup-page", "tests/box/shows.rs"),
    ("paidup notify", "tests/suite/notify.rs"),
    (
        "paidup notify --env-file paidup.env",
        "tests/suite/notify.rs",
    ),
    (
        "npm install standardwebhooks node-sqlite3-wasm && node receiver.mjs",
        "tests/peers/notify.rs",
    ),
    (
        "php -S 127.0.0.1:8000 receiver.php",
        "tests/peers/notify.rs",
    ),
    (
        "python3 -m venv venv && venv/bin/pip install standardwebhooks && venv/bin/python receiver.py",
        "tests/peers/notify.rs",
    ),
    ("paidup notify test", "tests/suite/notify.rs"),
    (
        "sudo paidup notify test --env-file /etc/paidup/paidup.env",
        "tests/suite/notify.rs",
    ),
    ("paidup notify retry", "tests/suite/notify.rs"),
    ("paidup notify replay --since 3d", "tests/suite/notify.rs"),
    ("paidup notify replay --all", "tests/suite/notify.rs"),
    ("paidup notify forget NAME", "tests/suite/notify.rs"),
    ("paidup notify forget phone", "tests/suite/notify.rs"),
    ("paidup orders follow", "tests/suite/notify.rs"),
    ("paidup orders follow --json", "tests/suite/notify.rs"),
    (
        "sudo systemctl enable --now paidup-notify",
        "tests/box/tells.rs",
    ),
    (
        "systemctl disable --now paidup-notify@phone",
        "tests/box/tells.rs",
    ),
    (
        "systemctl enable --now paidup-notify@phone",
        "tests/box/tells.rs",
    ),
    (
        "systemctl start paidup-notify.service",
        "tests/box/tells.rs",
    ),
    ("sudoedit /etc/paidup/paidup.env", "an editor"),
    (
        "git clone URL_OF_THIS_PAGE paidup && cd paidup",
        "by whoever reads this",
    ),
    (
        "sudo ./paidup install --host hooks.example.com",
        "tests/box/way_in.rs",
    ),
    ("paidup install --host HOST", "tests/box/way_in.rs"),
    ("sudo apt-get install caddy", "tests/box/way_in.rs"),
    (
        "sudo cp /etc/paidup/proxy/Caddyfile-2.6 /etc/caddy/Caddyfile && sudo systemctl reload caddy",
        "tests/box/way_in.rs",
    ),
    ("sudo paidup connect", "tests/box/way_in.rs"),
    (
        "sudo paidup connect --env-file /etc/paidup/shop-coffee.env",
        "tests/box/second_shop.rs",
    ),
    (
        "sudo systemctl enable --now paidup@coffee.socket paidup-admin@coffee.socket paidup@coffee.service paidup-backup@coffee.timer",
        "tests/box/second_shop.rs",
    ),
    (
        "sudo paidup send-test --env-file /etc/paidup/shop-coffee.env",
        "tests/box/second_shop.rs",
    ),
    (
        "sudo runuser -u paidup -- mkdir /var/lib/paidup-coffee/backup",
        "tests/box/second_shop.rs",
    ),
    (
        "sudo systemctl enable --now paidup-page@coffee.socket",
        "tests/box/second_shop.rs",
    ),
    (
        "sudo systemctl enable --now paidup-shop-notify@coffee.service",
        "tests/box/second_shop.rs",
    ),
    (
        "systemctl stop 'paidup*@coffee.*'",
        "tests/box/second_shop.rs",
    ),
    (
        "systemctl reload paidup@coffee.service",
        "tests/box/second_shop.rs",
    ),
    (
        "journalctl --namespace=paidup -u paidup@coffee.service",
        "tests/box/second_shop.rs",
    ),
    ("paidup uninstall", "tests/box/main.rs"),
    ("paidup uninstall --purge", "tests/box/main.rs"),
];

/// The others, in an order in which they make sense: as documented, and what is typed for it where
/// that is more.
pub(crate) const TYPED: &[(&str, &str)] = &[
    ("sudo ./paidup install", "/root/paidup install"),
    ("paidup install", "/root/paidup install --dry-run"),
    ("sudo systemctl reload-or-restart paidup.service", ""),
    ("sudo systemctl enable --now paidup-api", ""),
    ("paidup gen-token", ""),
    ("paidup gen-secret", ""),
    ("paidup notify status", ""),
    (
        "curl -H \"Authorization: Bearer $API_TOKEN\" http://127.0.0.1:4244/orders -d '\n  \
         {\"orderId\": \"ord_1001\", \"lineItems\": [{\"name\": \"Coffee\", \"amount\": 1250, \"currency\": \"eur\", \"quantity\": 2}]}'",
        "",
    ),
    ("paidup check", ""),
    ("paidup check --env-file FILE", ""),
    ("paidup connect", ""),
    ("paidup connect --dry-run", ""),
    ("paidup connect --roll", "paidup connect --roll --yes"),
    ("sudo paidup send-test", ""),
    ("paidup doctor", ""),
    ("paidup doctor --env-file /etc/paidup/paidup.env", ""),
    ("paidup send-test", ""),
    (
        "paidup send-test [TYPE…]",
        "paidup send-test charge.refunded",
    ),
    ("paidup send-test --forged", ""),
    ("paidup help rotate", ""),
    ("paidup version", ""),
    ("paidup man", ""),
    ("paidup demo", ""),
    ("paidup help [COMMAND]", "paidup help orders"),
    ("paidup orders list", ""),
    ("paidup orders show ID", ""),
    ("paidup orders list --flagged", ""),
    ("paidup report", ""),
    (
        "paidup orders export --csv --since 2026-11 --until 2026-11 > november.csv",
        "paidup orders export --csv --since 2026-11 --until 2026-11",
    ),
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
    (
        "paidup backup",
        "paidup backup /var/lib/paidup/backup/one.db",
    ),
    (
        "paidup backup FILE",
        "paidup backup /var/lib/paidup/backup/two.db",
    ),
    ("paidup backup --dir /var/lib/paidup/backup --keep 14", ""),
    (
        "paidup backup /var/lib/paidup/backup/before-upgrade.db --env-file /etc/paidup/paidup.env",
        "",
    ),
    (
        "systemctl stop paidup.socket paidup-admin.socket paidup.service paidup-api.service 'paidup-notify*' paidup-backup.timer paidup-reconcile.timer",
        "",
    ),
    (
        "paidup restore /tmp/paidup.db",
        "cp /var/lib/paidup/backup/one.db /tmp/paidup.db && paidup restore /tmp/paidup.db",
    ),
    (
        "paidup restore FILE --env-file /etc/paidup/paidup.env",
        "sleep 1; cp /var/lib/paidup/backup/two.db /root && paidup restore FILE",
    ),
    (
        "paidup restore /var/lib/paidup/backup --env-file /etc/paidup/paidup.env",
        "sleep 1; paidup restore /var/lib/paidup/backup",
    ),
    (
        "systemctl start paidup.socket paidup-admin.socket paidup-backup.timer",
        "",
    ),
    ("systemctl start paidup-api.service", ""),
    ("systemctl start paidup-reconcile.timer", ""),
    ("systemctl start paidup", ""),
    (
        "paidup reconcile --since 30d --env-file /etc/paidup/paidup.env",
        "",
    ),
    (
        "began=@$(date +%s); systemctl start paidup-check.service; journalctl --namespace=+paidup -u paidup-check.service -o cat --since=$began",
        "",
    ),
    ("systemctl status paidup.service", ""),
    ("systemctl status systemd-journald@paidup.service", ""),
    ("systemctl restart systemd-journald@paidup.service", ""),
    ("journalctl --namespace=paidup", ""),
    ("journalctl --namespace=paidup -o cat -n 50", ""),
    (
        "journalctl --namespace=paidup -o cat --cursor-file=/var/tmp/paidup.cursor",
        "",
    ),
    ("journalctl -u paidup", ""),
    (
        "journalctl --namespace=paidup -o cat | grep ID",
        "journalctl --namespace=paidup -o cat | grep requestId",
    ),
    (
        "journalctl --namespace=paidup -o cat | grep -F REQUEST_ID",
        "journalctl --namespace=paidup -o cat | grep -F requestId",
    ),
    (
        "journalctl --namespace=paidup --since=-15min -o cat -g '\"message\":\"(Stripe w|W)ebhook.*\"status\":[45]' | wc -l",
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

/// That each command of the documents is run, and that no other is.
pub(crate) fn compare() {
    let documented = documented();
    let known = TYPED
        .iter()
        .chain(ELSEWHERE)
        .map(|(text, _)| (*text).to_owned());
    let known: BTreeSet<String> = known.collect();
    let unknown: Vec<_> = documented.difference(&known).collect();
    assert!(
        unknown.is_empty(),
        "nobody runs {unknown:#?}: tests/box/documented.rs"
    );
    let gone: Vec<_> = known.difference(&documented).collect();
    assert!(gone.is_empty(), "no document shows {gone:#?}");
}

/// What stands in blocks of shell, line by line, and between backquotes if it is a command. The
/// README's first payment is run as it is by `tests/peers/first_payment.rs`.
pub(crate) fn documented() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = vec![fs::read_to_string(root.join("README.md")).unwrap()];
    for document in fs::read_dir(root.join("docs")).unwrap() {
        let path = document.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "md") {
            texts.push(fs::read_to_string(path).unwrap());
        }
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
