//! Installs what a test needs from elsewhere, once, under `target/peers`, and runs it within a time.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const INSTALL_MAX: Duration = Duration::from_secs(300);
const RUN_MAX: Duration = Duration::from_secs(60);
/// Two tests may need the same package.
static INSTALL: Mutex<()> = Mutex::new(());

/// A folder that has `node_modules` with this package of npm's.
pub(crate) fn npm(package: &str, version: &str) -> PathBuf {
    install(package, version, |folder| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"])
            .arg("--prefix")
            .arg(folder)
            .arg(format!("{package}@{version}"));
        npm
    })
}

/// A folder that, in `PYTHONPATH`, has this package of `PyPI`'s.
pub(crate) fn pypi(package: &str, version: &str) -> PathBuf {
    install(&format!("python-{package}"), version, |folder| {
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .arg("--target")
        .arg(folder)
        .arg(format!("{package}=={version}"));
        pip
    })
}

fn install(name: &str, version: &str, command: impl FnOnce(&Path) -> Command) -> PathBuf {
    let _turn = INSTALL.lock().unwrap_or_else(PoisonError::into_inner);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    let folder = root.join(format!("{name}-{version}"));
    // Written last: an installation that was cut off is begun again.
    let done = folder.join("installed");
    if !done.exists() {
        std::fs::create_dir_all(&folder).unwrap();
        let output = finish(command(&folder), "", INSTALL_MAX);
        assert!(output.status.success(), "{name} {version}: {output:?}");
        std::fs::write(done, "").unwrap();
    }
    folder
}

/// Runs a command to its end with `input` on its stdin.
pub(crate) fn run(command: Command, input: &str) -> Output {
    finish(command, input, RUN_MAX)
}

/// The same for one that does much: it has three times as long.
pub(crate) fn run_long(command: Command, input: &str) -> Output {
    finish(command, input, 3 * RUN_MAX)
}

fn finish(mut command: Command, input: &str, patience: Duration) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} is not there: {error}"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    // Its output is read all the while, so that it cannot stand still with a full pipe.
    let reader = thread::spawn(move || child.wait_with_output());
    let began = Instant::now();
    while !reader.is_finished() {
        if began.elapsed() > patience {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            panic!("{command:?} did not end");
        }
        thread::sleep(Duration::from_millis(10));
    }
    reader.join().unwrap().unwrap()
}
