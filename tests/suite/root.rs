//! Root works in a folder that belongs to somebody else, who has put links there: whatever root runs,
//! nothing outside of the folder changes. Only root can show it.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::geteuid;
use tempfile::TempDir;

/// Anybody but root; the name is not looked at.
const OWNER: u32 = 65_534;
const SECRET: &str = "whsec_the_secret_of_the_tests";

/// What root runs, in the words of the documents.
const COMMANDS: &[&[&str]] = &[
    &["check"],
    &["orders", "list"],
    &["events", "list"],
    &["db", "check"],
    &["db", "info"],
    &["db", "prune", "--older-than", "90d"],
    &["backup", "{folder}/backup/by-hand.db"],
    &["backup", "--dir", "{folder}/backup", "--keep", "1"],
    &["restore", "{folder}/backup/good.db"],
    &["restore", "{away}/good.db"],
];

/// These do not end at once: a server until it is stopped, the others while they wait for Stripe.
const LONG_COMMANDS: &[&[&str]] = &[&["reconcile"], &["doctor"], &["api"], &["serve"]];

/// Names at which a link is put; the last is a folder on the way.
const NAMES: &[&str] = &[
    "data/paidup.db",
    "data/paidup.db-wal",
    "data/paidup.db-shm",
    "data/paidup.db-journal",
    "data/paidup.db.lock",
    "data/.paidup-check",
    "backup/by-hand.db.partial",
    "backup/by-hand.db.partial-journal",
    "backup/good.db",
    "backup",
    "data",
];

/// What it leads to, all of it root's.
const TARGETS: &[&str] = &["authorized_keys", "orders.db", "empty", "absent", "."];

#[test]
fn no_link_leads_root_out_of_the_services_folder() {
    if !is_root() {
        return;
    }
    // Most of the time is spent waiting.
    let attacks = thread::scope(|scope| {
        let commands = COMMANDS.iter().chain(LONG_COMMANDS);
        let started: Vec<_> = commands
            .map(|words| scope.spawn(|| attack(words)))
            .collect();
        let done = started.into_iter().map(|attack| attack.join().unwrap());
        done.collect::<Vec<_>>()
    });
    let runs: usize = attacks.iter().map(|(runs, _)| runs).sum();
    let changed: Vec<String> = attacks
        .into_iter()
        .flat_map(|(_, changed)| changed)
        .collect();
    eprintln!("{} of {runs} runs changed what is root's", changed.len());
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}

/// One command with each link: how often it ran, and what changed.
fn attack(words: &'static [&'static str]) -> (usize, Vec<String>) {
    let mut changed = Vec::new();
    let mut runs = 0;
    for name in NAMES {
        // Files that each of them opens, and a folder.
        let is_telling = ["data", "data/paidup.db", "data/paidup.db.lock"].contains(name);
        if LONG_COMMANDS.contains(&words) && !is_telling {
            continue;
        }
        for target in TARGETS {
            let shop = Shop::new();
            let before = snapshot(&shop.root());
            shop.plant(name, target);
            let output = shop.run(words);
            runs += 1;
            if snapshot(&shop.root()) != before {
                let said = said(&output);
                changed.push(format!("{words:?} with {name} -> {target}: {said}"));
            }
        }
    }
    (runs, changed)
}

#[test]
fn what_root_makes_there_is_the_owners() {
    if !is_root() {
        return;
    }
    let shop = Shop::new();
    for words in COMMANDS.iter().chain(LONG_COMMANDS) {
        // What a restore replaces is kept under a name with the second in it.
        thread::sleep(Duration::from_millis(if words[0] == "restore" {
            1100
        } else {
            0
        }));
        let output = shop.run(words);
        let is_well = output.status.success() || LONG_COMMANDS.contains(words);
        assert!(is_well, "{words:?}: {}", said(&output));
    }
    let here = snapshot(&shop.folder());
    assert!(
        here.iter().any(|line| line.contains("replaced-")),
        "{here:?}"
    );
    for line in here {
        assert!(line.contains(&format!(" {OWNER}:{OWNER} ")), "{line}");
    }
}

#[test]
fn a_backup_where_only_root_may_write_is_refused_with_the_way_out() {
    if !is_root() {
        return;
    }
    let shop = Shop::new();
    let before = snapshot(&shop.root());
    let output = shop.run(&["backup", "{root}/by-hand.db"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("Permission denied") && said.contains("copy it from there"),
        "{said}"
    );
    assert_eq!(snapshot(&shop.root()), before);
}

#[test]
fn a_rotation_follows_no_link_of_the_services() {
    if !is_root() {
        return;
    }
    let shop = Shop::new();
    let secret_file = shop.folder().join("secret");
    // Root's own, with what a rotation would take for secrets.
    let victim = shop.root().join("other_secret");
    fs::write(&victim, "whsec_of_another_service\n").unwrap();
    let env_file = shop.root().join("paidup.env");
    fs::write(
        &env_file,
        format!("STRIPE_WEBHOOK_SECRET_FILE={}\n", secret_file.display()),
    )
    .unwrap();
    let before = snapshot(&shop.root());
    let add = || {
        let mut command = shop.command(&["rotate", "add", "--env-file", "{root}/paidup.env"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let input = b"whsec_after_the_roll\n";
        // A rotation that is refused before it reads closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    };
    symlink(&victim, &secret_file).unwrap();
    let refused = add();
    assert!(!refused.status.success(), "{}", said(&refused));
    assert_eq!(snapshot(&shop.root()), before);

    fs::remove_file(&secret_file).unwrap();
    fs::write(&secret_file, format!("{SECRET}\n")).unwrap();
    fs::set_permissions(&secret_file, Permissions::from_mode(0o600)).unwrap();
    chown(&secret_file, Some(OWNER), Some(OWNER)).unwrap();
    let added = add();
    assert!(added.status.success(), "{}", said(&added));
    let text = fs::read_to_string(&secret_file).unwrap();
    assert_eq!(text, format!("{SECRET}\nwhsec_after_the_roll\n"));
    assert_eq!(fs::metadata(&secret_file).unwrap().uid(), OWNER);
    assert_eq!(snapshot(&shop.root()), before);
}

/// A folder of the service's user, and beside it one of root's.
struct Shop(TempDir);

impl Shop {
    fn new() -> Shop {
        let folder = tempfile::tempdir().unwrap();
        // Everybody may pass, as through /var/lib.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let shop = Shop(folder);
        for folder in [
            shop.root(),
            shop.away(),
            shop.folder().join("data"),
            shop.folder().join("backup"),
        ] {
            fs::create_dir_all(&folder).unwrap();
            fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        }
        let good = shop.away().join("good.db");
        drop(paidup::store::Store::open(&good).unwrap());
        fs::write(shop.root().join("authorized_keys"), "ssh-ed25519 root's\n").unwrap();
        fs::write(shop.root().join("empty"), "").unwrap();
        fs::copy(&good, shop.root().join("orders.db")).unwrap();
        for copy in ["data/paidup.db", "backup/good.db"] {
            fs::copy(&good, shop.folder().join(copy)).unwrap();
        }
        shop.give_to_owner();
        shop
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("paidup")
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    /// Where root has brought a backup from elsewhere.
    fn away(&self) -> PathBuf {
        self.0.path().join("away")
    }

    /// Puts a link to what is root's in the place of a file or folder.
    fn plant(&self, name: &str, target: &str) {
        let path = self.folder().join(name);
        let _ = fs::remove_file(&path);
        let _ = fs::remove_dir_all(&path);
        symlink(self.root().join(target), &path).unwrap();
        lchown(&path, Some(OWNER), Some(OWNER)).unwrap();
    }

    fn give_to_owner(&self) {
        for folder in ["", "data", "backup"] {
            let folder = self.folder().join(folder);
            chown(&folder, Some(OWNER), Some(OWNER)).unwrap();
            for entry in fs::read_dir(folder).unwrap() {
                lchown(entry.unwrap().path(), Some(OWNER), Some(OWNER)).unwrap();
            }
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let (folder, root, away) = (self.folder(), self.root(), self.away());
        let placed = |word: &&str| {
            word.replace("{folder}", folder.to_str().unwrap())
                .replace("{root}", root.to_str().unwrap())
                .replace("{away}", away.to_str().unwrap())
        };
        // A server that starts is asked to stop; the others end by themselves, on a busy machine late.
        let seconds = if LONG_COMMANDS.contains(&words) {
            "0.5"
        } else {
            "20"
        };
        let mut command = Command::new("timeout");
        command
            .arg(seconds)
            .arg(program())
            .args(words.iter().map(placed))
            .env_clear()
            .env("LISTEN_ADDR", "127.0.0.1:0")
            .env("ADMIN_ADDR", "127.0.0.1:0")
            .env("API_ADDR", "127.0.0.1:0")
            .env("API_TOKEN", "0123456789abcdef0123456789abcdef")
            .env("STRIPE_SECRET_KEY", "sk_test_1")
            // Nobody answers there.
            .env("STRIPE_API_BASE", "http://127.0.0.1:9")
            .env("STRIPE_API_TIMEOUT_SECONDS", "1")
            .env("DATABASE_PATH", folder.join("data/paidup.db"))
            .env("STRIPE_WEBHOOK_SECRET", SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if words[0] == "rotate" {
            command.env_remove("STRIPE_WEBHOOK_SECRET");
        }
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }
}

/// Every name beneath a folder with its owner, mode and content.
fn snapshot(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is = fs::symlink_metadata(&path).unwrap();
        let content = if is.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        let name = path.display();
        let (uid, gid, mode) = (is.uid(), is.gid(), is.mode());
        let hash = content.iter().fold(0_u64, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(u64::from(*byte) + 1)
        });
        found.push(format!(
            "{name} {uid}:{gid} {mode:o} {} {hash}",
            content.len()
        ));
        if is.is_dir() {
            found.extend(snapshot(&path));
        }
    }
    found.sort();
    found
}

fn said(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr];
    both.map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

fn program() -> String {
    std::env::var("ROOT_TEST_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_paidup").to_owned())
}

fn is_root() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        eprintln!("not shown here: only root can act as another user");
    }
    is_root
}
