//! The Debian package: installed, upgraded, removed, purged. It puts in place what `paidup install`
//! does, under `/usr` instead of `/usr/local`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::load::{EDGE, Load, deliver};
use crate::machine::{ENV_FILE, Machine, SECRET, said};
use crate::way_in;
use crate::{NO_LIMIT, assert_all_on_disk, order_status, private_mode};

#[test]
fn a_package_installs_upgrades_removes_and_purges() {
    let mut machine = Machine::fresh("package");
    build(&machine, "0.1.0-1");
    build(&machine, "0.1.1-1");
    let installed = machine.does("dpkg -i /root/paidup_0.1.0-1_amd64.deb");
    assert!(installed.contains("sudoedit /etc/paidup/paidup.env"));
    assert_eq!(private_mode(&machine, ENV_FILE), 0o600);
    assert_eq!(private_mode(&machine, "/var/lib/paidup"), 0o700);
    let first_settings = fs::read_to_string(machine.path(ENV_FILE)).unwrap();
    let score = machine.does("systemd-analyze security --offline=true paidup.service");
    assert!(
        score.contains("exposure level for paidup.service: 0.2"),
        "{score}"
    );
    let refused = machine.tries("/root/paidup install");
    assert!(!refused.status.success());
    assert!(
        said(&refused).contains("Debian package"),
        "{}",
        said(&refused)
    );

    machine.set(&format!(
        "# mine\nSTRIPE_WEBHOOK_SECRET={SECRET}\n{NO_LIMIT}"
    ));
    let settings = fs::read_to_string(machine.path(ENV_FILE)).unwrap();
    machine.does("systemctl reload-or-restart paidup");
    assert_eq!(deliver(&machine, "ord_1"), 200);

    // An upgrade under load: nothing is lost, and what the operator switched off stays off.
    machine.does("systemctl disable --now paidup-backup.timer");
    let pid = machine.property("MainPID");
    let load = Load::start(&machine, EDGE, 4);
    machine.does("dpkg -i /root/paidup_0.1.1-1_amd64.deb");
    machine.until("the new program runs", || {
        machine.property("MainPID") != pid && machine.property("ActiveState") == "active"
    });
    let sum = load.stop();
    assert_eq!(sum.lost, Vec::<String>::new());
    assert!(sum.stored.len() > 20, "no load worth the name");
    assert_all_on_disk(&machine, &sum.stored);
    assert_eq!(not_enabled(&machine), ["paidup-backup.timer disabled"]);
    let version = machine.does("dpkg-query -W -f ${Version} paidup");
    assert_eq!(version, "0.1.1-1");
    assert_eq!(
        fs::read_to_string(machine.path(ENV_FILE)).unwrap(),
        settings
    );
    assert_eq!(deliver(&machine, "ord_2"), 200);
    // An upgrade with settings that the new program refuses leaves the old process alone.
    let pid = machine.property("MainPID");
    machine.set("STRIPE_WEBHOOK_SECRET=");
    let upgraded = machine.does("dpkg -i /root/paidup_0.1.1-1_amd64.deb");
    assert!(
        upgraded.contains("The old version still runs"),
        "{upgraded}"
    );
    assert_eq!(machine.property("MainPID"), pid);
    fs::write(machine.path(ENV_FILE), &settings).unwrap();

    machine.does("dpkg -r paidup");
    assert_eq!(machine.property("LoadState"), "not-found");
    assert!(machine.path("/var/lib/paidup/paidup.db").exists());
    machine.does("dpkg -i /root/paidup_0.1.1-1_amd64.deb");
    assert_eq!(
        fs::read_to_string(machine.path(ENV_FILE)).unwrap(),
        settings
    );
    // Whatever was removed and came back is a server again, with its backups, also after a reboot.
    assert_eq!(not_enabled(&machine), Vec::<String>::new());
    machine.does("systemctl is-active paidup-backup.timer");
    machine.reboot();
    assert_eq!(deliver(&machine, "ord_3"), 200);
    for order in ["ord_1", "ord_2", "ord_3"] {
        assert_eq!(order_status(&machine, order), "paid");
    }

    machine.does("dpkg -P paidup");
    assert_nothing_is_left(&machine);
    // Into the image of a machine, where no systemd runs: enabled all the same, and as gone after.
    let unbooted = "mount -t tmpfs tmpfs /run && dpkg -i /root/paidup_0.1.0-1_amd64.deb \
                    && systemctl is-enabled paidup.socket && dpkg -P paidup";
    machine.shell(&format!("unshare --mount sh -c '{unbooted}'"));
    assert_nothing_is_left(&machine);

    // The two do not mix: what lies under /usr/local would win for ever.
    let by_binary = machine.does("/root/paidup install");
    assert_eq!(
        fs::read_to_string(machine.path(ENV_FILE)).unwrap(),
        first_settings,
        "both begin with the same settings"
    );
    let local = installed_files(&by_binary, "/usr/local/");
    let refused = machine.tries("dpkg -i /root/paidup_0.1.1-1_amd64.deb");
    assert!(!refused.status.success());
    assert!(said(&refused).contains("/usr/local/bin/paidup uninstall"));
    machine.does("/usr/local/bin/paidup uninstall");
    way_in::walk_from_package(&machine, "/root/paidup_0.1.1-1_amd64.deb");
    let packaged = machine.does("dpkg -L paidup");
    for path in local {
        let path = path.replace("zsh/site-functions", "zsh/vendor-completions");
        let path = path.replace("man1/paidup.1", "man1/paidup.1.gz");
        let path = format!("/usr/{path}");
        assert!(packaged.lines().any(|line| line == path), "{path}");
    }
    let maintainer = machine.does("dpkg-query -W -f ${Maintainer} paidup");
    assert!(!maintainer.contains("localhost"), "{maintainer}");
    // A machine of this size leaves out manual pages when it unpacks.
    let manual = machine.shell(
        "dpkg-deb --fsys-tarfile /root/paidup_0.1.1-1_amd64.deb \
         | tar xO ./usr/share/man/man1/paidup.1.gz | zcat",
    );
    assert!(manual.contains(".SS \"paidup orders show ID\""), "{manual}");
    let completions = machine.shell(COMPLETES);
    assert_eq!(completions.trim(), "list show");
}

/// What bash offers behind `paidup events`, from the file of the package.
const COMPLETES: &str = "bash -c '. /usr/share/bash-completion/completions/paidup
    COMP_WORDS=(paidup events \"\") COMP_CWORD=2; _paidup; echo ${COMPREPLY[*]}'";

fn assert_nothing_is_left(machine: &Machine) {
    let found = machine.does("find /etc /usr /var -xdev -name *paidup*");
    assert_eq!(found, "");
    assert!(!machine.tries("getent passwd paidup").status.success());
}

/// Those of the units of every installation that do not start with the machine.
fn not_enabled(machine: &Machine) -> Vec<String> {
    let units = [
        "paidup.socket",
        "paidup-admin.socket",
        "paidup.service",
        "paidup-backup.timer",
    ];
    let state = |unit: &str| said(&machine.tries(&format!("systemctl is-enabled {unit}")));
    let lines = units.map(|unit| format!("{unit} {}", state(unit).trim()));
    let is_off = |line: &String| !line.ends_with(" enabled");
    lines.into_iter().filter(is_off).collect()
}

/// The names under `folder` that `paidup install` says it writes.
fn installed_files<'a>(told: &'a str, folder: &str) -> Vec<&'a str> {
    let written = told
        .lines()
        .filter_map(|line| line.strip_prefix("write   "));
    let paths = written.filter_map(|rest| rest.split(' ').next()?.strip_prefix(folder));
    let paths: Vec<&str> = paths.collect();
    assert!(paths.len() > 10, "{told}");
    paths
}

/// A package of the program under test, in root's home.
fn build(machine: &Machine, version: &str) {
    // As if `cargo build --release` had made it, which takes minutes.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deb");
    fs::create_dir_all(target.join("release")).unwrap();
    fs::copy(machine.path("/root/paidup"), target.join("release/paidup")).unwrap();
    let built = Command::new(".ci/deb")
        .args(["--no-build", "--fast", "--deb-version", version, "--output"])
        .arg(machine.path("/root"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", target)
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "cargo install cargo-deb: {}",
        said(&built)
    );
}
