//! A fresh VPS: a Debian with a real systemd, made by `box.sh`, on which paidup gets installed.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The endpoint's signing secret.
pub(crate) const SECRET: &str = "whsec_in_the_box";
/// Where the server's settings are.
pub(crate) const ENV_FILE: &str = "/etc/paidup/paidup.env";
/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// One box at a time: what is measured under load is not to be disturbed by a neighbour.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) struct Machine {
    name: &'static str,
    pid: String,
    _turn: MutexGuard<'static, ()>,
}

impl Machine {
    /// A machine that has never heard of paidup; only the bare binary is in root's home.
    pub(crate) fn fresh(name: &'static str) -> Machine {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        ask(&["up", name]);
        let machine = Machine {
            name,
            pid: ask(&["pid", name]),
            _turn: turn,
        };
        let program = machine.path("/root/paidup");
        fs::copy(env!("CARGO_BIN_EXE_paidup"), program).unwrap();
        machine
    }

    /// A machine on which paidup is installed and serves. `settings` are lines for its environment
    /// file, besides the secret.
    pub(crate) fn serving(name: &'static str, settings: &str) -> Machine {
        let machine = Machine::fresh(name);
        machine.does("/root/paidup install");
        machine.set(&format!("STRIPE_WEBHOOK_SECRET={SECRET}\n{settings}"));
        machine.does("systemctl start paidup");
        machine
    }

    /// Replaces the environment file, which keeps its mode and owner.
    pub(crate) fn set(&self, settings: &str) {
        let text = format!("DATABASE_PATH=/var/lib/paidup/paidup.db\n{settings}\n");
        fs::write(self.path(ENV_FILE), text).unwrap();
    }

    /// Adds a drop-in to `paidup.service`, as `systemctl edit` would.
    pub(crate) fn edit_unit(&self, lines: &str) {
        let path = self.path("/etc/systemd/system/paidup.service.d/test.conf");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("[Service]\n{lines}\n")).unwrap();
        self.does("systemctl daemon-reload");
    }

    /// Where the host finds a file of the machine.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root{path}", self.pid)).to_owned()
    }

    /// Runs a command line of plain words as root, whatever comes of it.
    pub(crate) fn tries(&self, line: &str) -> Output {
        let mut words = vec!["run", self.name, "timeout", "100"];
        words.extend(line.split_whitespace());
        script(&words)
    }

    /// Runs a command that must succeed, and gives what it says, on stderr as well.
    pub(crate) fn does(&self, line: &str) -> String {
        let output = self.tries(line);
        let said = said(&output);
        assert!(output.status.success(), "{line}: {}: {said}", output.status);
        said
    }

    /// Runs a line of shell as root, whatever comes of it.
    pub(crate) fn tries_in_shell(&self, line: &str) -> Output {
        script(&["run", self.name, "timeout", "100", "sh", "-c", line])
    }

    /// Runs a line of shell that must succeed, and gives its output.
    pub(crate) fn shell(&self, line: &str) -> String {
        ask(&["run", self.name, "timeout", "100", "sh", "-c", line])
    }

    /// What the journal of paidup has, with systemd's own lines about it.
    pub(crate) fn journal(&self) -> String {
        self.does("journalctl --namespace=+paidup --no-pager --no-hostname -o short-monotonic")
    }

    /// A property of `paidup.service`.
    pub(crate) fn property(&self, name: &str) -> String {
        let line = format!("systemctl show --value -p {name} paidup.service");
        self.does(&line).trim().to_owned()
    }

    /// Waits until `is_so`, which is asked ten times a second.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < PATIENCE, "{what}\n{}", self.journal());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the journal has these words: what is said reaches it a moment later.
    pub(crate) fn until_journal_has(&self, words: &str) {
        self.until(words, || self.journal().contains(words));
    }

    /// Powers off and on again.
    pub(crate) fn reboot(&mut self) {
        ask(&["reboot", self.name]);
        self.pid = ask(&["pid", self.name]);
    }

    /// A program of the host's that has the machine's network.
    pub(crate) fn command_in_its_network(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.pid, program]);
        command
    }

    /// Runs `act` on a thread of the machine's network, where 127.0.0.1 is the machine's.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let network = File::open(format!("/proc/{}/ns/net", self.pid)).unwrap();
        thread::spawn(move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            act()
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let journal =
            thread::panicking().then(|| self.tries("journalctl --namespace=* --no-pager"));
        if let Some(journal) = journal {
            let all = said(&journal);
            let lines: Vec<&str> = all.lines().collect();
            let last = lines.len().saturating_sub(60);
            eprintln!("{}", lines[last..].join("\n"));
        }
        script(&["down", self.name]);
    }
}

/// What a command said, on both its outputs.
pub(crate) fn said(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr];
    both.map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

fn ask(words: &[&str]) -> String {
    let output = script(words);
    assert!(output.status.success(), "{words:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn script(words: &[&str]) -> Output {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("box");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/box/box.sh");
    let output: io::Result<Output> = Command::new(script)
        .args(words)
        .env("BOX_CACHE", cache)
        .output();
    output.unwrap()
}
