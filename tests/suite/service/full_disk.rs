//! A disk without room refuses, loses nothing, and is nothing to restart for.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use paidup::store::Store;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use tempfile::TempDir;

use crate::harness::{SECRET, Service, Setup, changed, eventually, paid};

#[test]
fn a_full_disk_is_a_503_and_recovers_when_there_is_room() {
    let Some(disk) = SmallDisk::mount("size=2m") else {
        // Needs root or user namespaces; `.ci/run` tells whether they are there.
        eprintln!("not shown here: this user may not mount a file system");
        return;
    };
    let service = &disk.service;
    let mut acknowledged = Vec::new();
    for number in 0..20 {
        let name = number.to_string();
        service.accepts(paid(&name), "applied");
        acknowledged.push(name);
    }
    disk.fill();

    let mut refused = Vec::new();
    for number in 100.. {
        let name = number.to_string();
        let answer = service.deliver(large(&name));
        match answer.status {
            200 => acknowledged.push(name),
            503 => {
                assert_eq!(answer.header("retry-after"), Some("1"));
                let line = service.line_of(answer.request_id());
                assert_eq!(line["errorCode"], "store_full");
                assert_eq!(line["message"], "Webhook not stored: Stripe will retry");
                refused.push(name);
            }
            other => panic!("{other}"),
        }
        if refused.len() == 10 {
            break;
        }
    }
    let ready = service.admin_get("/readyz");
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["error"], "store_full");
    assert_eq!(
        service.get("/healthz").status,
        200,
        "nothing to restart for"
    );
    assert_eq!(service.admin_get("/metrics").status, 200);
    let (_copy, store) = disk.store();
    for name in &acknowledged {
        assert!(
            store.event(&format!("evt_{name}")).unwrap().is_some(),
            "{name}"
        );
    }
    for name in &refused {
        assert!(
            store.event(&format!("evt_{name}")).unwrap().is_none(),
            "{name}"
        );
    }

    disk.make_room();
    for name in &refused {
        service.accepts(large(name), "applied");
    }
    assert_eq!(service.admin_get("/readyz").status, 200);
    let (_copy, store) = disk.store();
    for name in acknowledged.iter().chain(&refused) {
        assert!(
            store.event(&format!("evt_{name}")).unwrap().is_some(),
            "{name}"
        );
    }
    assert_eq!(store.damage().unwrap(), [""; 0]);
}

/// The disk with the settings on it, too.
#[test]
fn a_full_disk_blocks_no_rotation() {
    let Some(disk) = SmallDisk::mount("size=2m") else {
        eprintln!("not shown here: this user may not mount a file system");
        return;
    };
    let settings = disk.setup.folder().join("paidup.env");
    let settings = settings.to_str().unwrap();
    let file = disk.folder.join("paidup.env");
    let text = format!("# Kept.\nSTRIPE_WEBHOOK_SECRET={SECRET}\nLOG_LEVEL=info\n");
    std::fs::write(&file, &text).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let new = disk.folder.join("new-secret");
    std::fs::write(&new, "whsec_after_the_roll\n").unwrap();
    disk.fill();
    let (code, said) = disk.run(&["check", "--env-file", settings]);
    assert!(
        code == 3 && said.contains("PROBLEM  disk: 0 bytes free"),
        "{said}"
    );
    // Which is what this one is.
    assert!(
        said.contains("is on tmpfs\n         It is memory"),
        "{said}"
    );
    let reload = ["check", "--reload", "--env-file", settings];
    let (code, said) = disk.run(&reload);
    assert!(
        code == 0 && said.contains("warning  disk: 0 bytes free"),
        "{said}"
    );

    let from = disk.setup.folder().join("new-secret");
    let from = from.to_str().unwrap();
    let (code, said) = disk.run(&["rotate", "add", "--from", from, "--env-file", settings]);
    assert_eq!(code, 0, "{said}");
    let changed = text.replace(SECRET, &format!("{SECRET},whsec_after_the_roll"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), changed);
    assert_eq!(disk.run(&reload).0, 0);
    // More than the file's block holds: it is as it was.
    std::fs::write(&new, format!("whsec_{}\n", "a".repeat(200))).unwrap();
    let long = format!("# {}\n{changed}", "a".repeat(3900));
    disk.make_room();
    std::fs::write(&file, &long).unwrap();
    disk.fill();
    let (code, said) = disk.run(&["rotate", "add", "--from", from, "--env-file", settings]);
    assert!(
        code == 1 && said.contains("was left as it is: No space left"),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), long);
}

/// Whoever reads for long makes the log grow. It leaves the room that moving it takes: once the reader
/// is gone, nobody has to make any.
#[test]
fn a_log_that_cannot_be_moved_does_not_fill_the_disk_for_good() {
    let Some(disk) = SmallDisk::mount("size=140m") else {
        eprintln!("not shown here: this user may not mount a file system");
        return;
    };
    disk.service.accepts(paid("first"), "applied");
    let mut reader = disk.read_on();
    let is_full = AtomicBool::new(false);
    let acknowledged: Vec<String> = thread::scope(|scope| {
        let clients: Vec<_> = (0..12)
            .map(|client| {
                let (disk, is_full) = (&disk, &is_full);
                scope.spawn(move || {
                    let mut acknowledged = Vec::new();
                    for number in 0.. {
                        let name = format!("{client}-{number}");
                        let answer = disk.service.deliver(large(&name));
                        if answer.status != 200 {
                            let line = disk.service.line_of(answer.request_id());
                            assert_eq!(line["errorCode"], "store_full");
                            is_full.store(true, SeqCst);
                        }
                        if is_full.load(SeqCst) {
                            break;
                        }
                        acknowledged.push(name);
                    }
                    acknowledged
                })
            })
            .collect();
        let joined = clients.into_iter().map(|client| client.join().unwrap());
        joined.flatten().collect()
    });
    let log = std::fs::metadata(disk.folder.join("paidup.db-wal"));
    let log = log.unwrap().len();
    eprintln!(
        "{} deliveries until there was no room for a log of {log} bytes",
        acknowledged.len()
    );
    assert!(log > 50 << 20);
    assert_eq!(
        disk.service.admin_get("/readyz").json()["error"],
        "store_full"
    );

    drop(reader.stdin.take());
    reader.wait().unwrap();
    disk.service.accepts(large("next"), "applied");
    let log = std::fs::metadata(disk.folder.join("paidup.db-wal"));
    assert!(log.unwrap().len() < 1 << 20);
    let (_copy, store) = disk.store();
    for name in &acknowledged {
        assert!(
            store.event(&format!("evt_{name}")).unwrap().is_some(),
            "{name}"
        );
    }
}

/// Without `ulimit` nobody has such a limit, but a panel or a container may set one. The kernel's
/// own answer to it is a signal that would end the process.
#[test]
fn a_limit_on_the_size_of_files_is_a_503_and_recovers_when_it_is_raised() {
    let setup = Setup::new();
    let service = setup.start();
    let mut acknowledged = Vec::new();
    for number in 0..20 {
        let name = number.to_string();
        service.accepts(paid(&name), "applied");
        acknowledged.push(name);
    }
    let log = std::fs::metadata(setup.folder().join("paidup.db-wal"))
        .unwrap()
        .len();
    let limit = |bytes| {
        let limit = Rlimit {
            current: bytes,
            maximum: getrlimit(Resource::Fsize).maximum,
        };
        prlimit(Some(service.pid()), Resource::Fsize, limit).unwrap()
    };
    let before = limit(Some(log + 50_000));
    let mut refused = Vec::new();
    for number in 100.. {
        let name = number.to_string();
        let answer = service.deliver(paid(&name));
        if answer.status == 200 {
            acknowledged.push(name);
            continue;
        }
        assert_eq!(answer.status, 503);
        let line = service.line_of(answer.request_id());
        assert_eq!(line["errorCode"], "store_full");
        refused.push(name);
        if refused.len() == 10 {
            break;
        }
    }
    // The probe's own write is smaller than a delivery's, and would find room for a while.
    limit(Some(log));
    assert_eq!(service.admin_get("/readyz").json()["error"], "store_full");
    // A command beside it is told the same, and is not killed.
    let limited = Setup::new().under(&["sh", "-c", "ulimit -f 40; exec \"$0\" \"$@\""]);
    let (code, said) = limited.run(&["serve"]);
    assert!(
        code == 1 && said.contains("limit on the size of files"),
        "{code}: {said}"
    );

    limit(before.current);
    for name in refused {
        service.accepts(paid(&name), "applied");
        acknowledged.push(name);
    }
    assert_eq!(service.admin_get("/readyz").status, 200);
    let store = service.store();
    assert_eq!(store.damage().unwrap(), [""; 0]);
    for name in &acknowledged {
        assert!(
            store.event(&format!("evt_{name}")).unwrap().is_some(),
            "{name}"
        );
    }
}

/// A row that needs more room than most.
fn large(name: &str) -> String {
    changed(name, |event| {
        event["data"]["object"]["client_reference_id"] =
            format!("{name}{}", "é".repeat(190)).into();
    })
}

/// A file system of its own in memory, which no other process sees and which goes with the service.
struct SmallDisk {
    service: Service,
    /// The same folder, as this process can reach it.
    folder: PathBuf,
    setup: Setup,
}

impl SmallDisk {
    /// `None` when this user may not mount.
    fn mount(size: &str) -> Option<SmallDisk> {
        let root = ["unshare", "--mount"];
        let user = ["unshare", "--user", "--map-root-user", "--mount"];
        let unshare = [&root[..], &user[..]].into_iter().find(|words| {
            let mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", "/tmp"];
            let tried = Command::new(words[0])
                .args(&words[1..])
                .args(mount)
                .output();
            tried.is_ok_and(|output| output.status.success())
        })?;
        let setup = Setup::new();
        let script = format!(
            "mount -t tmpfs -o {size} tmpfs '{}' && exec \"$0\" \"$@\"",
            setup.folder().display()
        );
        let words: Vec<_> = unshare
            .iter()
            .copied()
            .chain(["sh", "-c", &script])
            .collect();
        let setup = setup.under(&words);
        let service = setup.start();
        let root = PathBuf::from(format!("/proc/{}/root", service.pid().as_raw_nonzero()));
        let folder = root.join(setup.folder().strip_prefix("/").unwrap());
        eventually("the small disk is there", || {
            folder.join("paidup.db").exists()
        });
        Some(SmallDisk {
            service,
            folder,
            setup,
        })
    }

    /// A command where the service sees the disk.
    fn run(&self, words: &[&str]) -> (i32, String) {
        let enter = self.enter();
        let enter: Vec<&str> = enter.iter().map(String::as_str).collect();
        self.setup.again().under(&enter).run(words)
    }

    /// What runs a program there.
    fn enter(&self) -> Vec<String> {
        let pid = self.service.pid().as_raw_nonzero().to_string();
        let mut words = vec!["nsenter", "--target", &pid, "--mount"];
        if !rustix::process::geteuid().is_root() {
            words.extend(["--user", "--preserve-credentials"]);
        }
        words.into_iter().map(str::to_owned).collect()
    }

    /// Another program that reads and goes on reading until its stdin ends.
    fn read_on(&self) -> Child {
        let enter = self.enter();
        const READ: &str = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
             db.execute('BEGIN'); db.execute('SELECT count(*) FROM orders').fetchone()\n\
             print('reading', flush=True); sys.stdin.read()";
        let mut reader = Command::new(&enter[0])
            .args(&enter[1..])
            .args(["python3", "-c", READ])
            .arg(self.setup.database())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(reader.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap() == "reading"));
        reader
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    fn fill(&self) {
        let too_much = vec![0_u8; 4 * 1024 * 1024];
        let written = std::fs::write(self.filler(), too_much);
        assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    /// What is on the disk while nobody writes. A copy, because SQLite follows the link that
    /// `/proc/PID/root` is, and would look in this process's own file system.
    fn store(&self) -> (TempDir, Store) {
        let copy = tempfile::tempdir().unwrap();
        for name in ["paidup.db", "paidup.db-wal"] {
            std::fs::copy(self.folder.join(name), copy.path().join(name)).unwrap();
        }
        let store = Store::open_existing(&copy.path().join("paidup.db")).unwrap();
        (copy, store)
    }
}
