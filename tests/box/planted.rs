//! The service's user has put links into its folder. Whatever root runs by the documents, and whatever
//! systemd does as root, nothing of root's changes.

use crate::documented::TYPED;
use crate::load::deliver;
use crate::machine::{ENV_FILE, Machine, said};

/// A link in `/var/lib/paidup`, and what it leads to.
const PLANTED: &[(&str, &str)] = &[
    ("paidup.db", "/root/own/authorized_keys"),
    ("paidup.db", "/root/own/orders.db"),
    ("paidup.db", "/root/own/empty"),
    ("paidup.db", "/root/own/absent.db"),
    ("paidup.db.lock", "/root/own/authorized_keys"),
    ("paidup.db.lock", "/root/own/absent.lock"),
    ("paidup.db-wal", "/root/own/authorized_keys"),
    ("backup/by-hand.db.partial", "/root/own/absent.db"),
    ("backup/by-hand.db.partial", "/root/own/authorized_keys"),
    ("backup/good.db", "/root/own/orders.db"),
    ("backup", "/root/own"),
];

/// What the documents do not show as a command of ours.
const BESIDES: &[&str] = &[
    "/root/paidup install",
    "systemd-tmpfiles --create paidup.conf",
    "systemctl start paidup-backup.service",
    "systemctl start paidup-check.service",
    "systemctl restart paidup.service",
    "systemctl reload paidup.service",
    "systemctl stop paidup.socket paidup-admin.socket paidup.service",
];

#[test]
fn root_follows_no_link_of_the_services_user() {
    let machine = Machine::serving("planted", "");
    assert_eq!(deliver(&machine, "ord_1"), 200);
    machine.does(&format!(
        "paidup backup /var/lib/paidup/backup/good.db --env-file {ENV_FILE}"
    ));
    machine.does("systemctl stop paidup.socket paidup-admin.socket paidup.service");
    machine.shell(
        "mkdir -m 700 /root/pattern /root/kept && cd /root/pattern && echo key >authorized_keys &&
         : >empty && cp /var/lib/paidup/backup/good.db orders.db && cp orders.db /root/away.db &&
         cp -a /var/lib/paidup/. /root/kept",
    );
    let (mut runs, mut changed) = (0, Vec::new());
    for (name, target) in PLANTED {
        for line in commands() {
            machine.shell(&format!(
                "systemctl stop paidup.socket paidup-admin.socket paidup.service
                 rm -rf /root/own && cp -a /root/pattern /root/own &&
                 find /var/lib/paidup -mindepth 1 -delete && cp -a /root/kept/. /var/lib/paidup &&
                 cd /var/lib/paidup && setpriv --reuid=paidup --regid=paidup --clear-groups \\
                 sh -c 'rm -rf {name}; ln -s {target} {name}'"
            ));
            let output = machine.tries_in_shell(&line);
            runs += 1;
            if roots(&machine, "own") != roots(&machine, "pattern") {
                let said = said(&output);
                changed.push(format!("{line} with {name} -> {target}: {said}"));
            }
        }
    }
    eprintln!(
        "{} of {runs} commands changed what is root's",
        changed.len()
    );
    assert!(changed.is_empty(), "{}", changed.join("\n"));

    // One that has no use for what the link stands for goes on.
    machine.does("systemctl stop paidup.socket paidup-admin.socket paidup.service");
    machine.does("systemctl start paidup.service");
    assert_eq!(deliver(&machine, "ord_2"), 200);
}

/// Every command of ours that the documents show, and how systemd runs us.
fn commands() -> Vec<String> {
    let of_ours = TYPED.iter().filter(|(text, _)| {
        let is = |start: &str| text.starts_with(&format!("paidup {start}"));
        ["orders", "events", "db ", "check", "doctor", "reconcile"]
            .iter()
            .any(|it| is(it))
    });
    let mut lines: Vec<String> = of_ours.map(|(text, _)| (*text).to_owned()).collect();
    lines.extend(
        ["backup/by-hand.db", "backup/by-hand.db --force"]
            .map(|to| format!("paidup backup /var/lib/paidup/{to}")),
    );
    lines.extend([
        "paidup backup --dir /var/lib/paidup/backup --keep 1".to_owned(),
        "paidup restore /var/lib/paidup/backup/good.db".to_owned(),
        "paidup restore /root/away.db".to_owned(),
        "timeout 1 paidup serve".to_owned(),
    ]);
    for line in &mut lines {
        *line = line
            .replace("[--since 3d]", "")
            .replace("show ID", "show ord_1");
        *line = line.replace("--order ID", "--order ord_1");
        if !line.contains("--env-file") {
            *line += &format!(" --env-file {ENV_FILE}");
        }
        *line = line.replace(" FILE", &format!(" {ENV_FILE}"));
    }
    lines.extend(BESIDES.iter().map(|line| (*line).to_owned()));
    lines.sort();
    lines.dedup();
    lines
}

/// Owner, mode and content of all that is in a folder of root's.
fn roots(machine: &Machine, folder: &str) -> String {
    machine.shell(&format!(
        "cd /root/{folder} && find . -printf '%p %u:%g %m\\n' | sort && sha256sum authorized_keys orders.db empty"
    ))
}
