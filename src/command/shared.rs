//! The files of `/usr/local/share`: what a person reads, copies, or completes words with. The documents have
//! the folders of the repository, so that their links work.

use crate::command::completions::Shell;
use crate::command::manual;
use crate::command::words::Table;

/// Path, content and purpose.
pub(crate) type Shared = (&'static str, String, &'static str);

/// Folders that are ours alone.
pub(crate) const FOLDERS: [(&str, &str); 2] = [
    ("/usr/local/share/doc/paidup", "the documents"),
    ("/usr/local/share/paidup", "what is there to be copied"),
];

macro_rules! documents {
    ($($file:literal: $why:literal,)*) => {
        [$((concat!("/usr/local/share/doc/paidup/", $file), include_str!(concat!("../../", $file)), $why)),*]
    };
}

const DOCUMENTS: [(&str, &str, &str); 18] = documents! {
    "README.md": "what it is and how it is run",
    "CHANGELOG.md": "what an upgrade asks of you",
    "LICENSE": "what you may do with it",
    "docs/RUNBOOK.md": "for the night",
    "docs/RUNBOOK.fr.md": "the same in French",
    "docs/DEPLOYMENT_CHECKLIST.md": "before going live",
    "docs/SECOND_SHOP.md": "another shop on this machine",
    "docs/DATA.md": "backups, and the file itself",
    "docs/openapi.yaml": "`paidup api` and the message of `paidup notify`, for programs",
    "docs/SECURITY.md": "what is defended, and how to report a hole",
    "docs/STRIPE_WEBHOOK_RESIDUAL_RISKS.md": "what can still go wrong",
    "docs/receivers/receiver.mjs": "a receiver of `paidup notify` in Node",
    "docs/receivers/receiver.php": "the same in PHP",
    "docs/receivers/receiver.py": "the same in Python",
    "docs/receivers/ask.mjs": "asks `paidup api`, in Node",
    "docs/receivers/ask.php": "the same in PHP",
    "docs/receivers/ask.py": "the same in Python",
    "schema.sql": "the database, explained",
};

const COPIED: [(&str, &str, &str); 5] = [
    (
        "/usr/local/share/paidup/relaxed.conf",
        include_str!("../../systemd/relaxed.conf"),
        "for a container that cannot nest; unused until you copy it",
    ),
    (
        "/usr/local/share/paidup/env.example",
        include_str!("../../.env.example"),
        "every variable, explained",
    ),
    (
        "/usr/local/share/paidup/nginx.conf",
        include_str!("../../systemd/nginx.conf"),
        "for a proxy that is nginx",
    ),
    (
        "/usr/local/share/paidup/Caddyfile",
        include_str!("../../systemd/Caddyfile"),
        "for a proxy that is Caddy",
    ),
    (
        "/usr/local/share/paidup/alerts.yml",
        include_str!("../../systemd/alerts.yml"),
        "rules for Prometheus",
    ),
];

/// All of them; some are made from the table of commands.
pub(crate) fn files(table: Table) -> Vec<Shared> {
    let kept = DOCUMENTS.iter().chain(&COPIED);
    let mut files: Vec<Shared> = kept
        .map(|(path, text, why)| (*path, (*text).to_owned(), *why))
        .collect();
    files.push((
        "/usr/local/share/man/man1/paidup.1",
        manual::page(table),
        "man paidup",
    ));
    files.extend(Shell::ALL.map(|shell| {
        let (path, why) = match shell {
            Shell::Bash => (
                "/usr/local/share/bash-completion/completions/paidup",
                "bash completes words",
            ),
            Shell::Zsh => ("/usr/local/share/zsh/site-functions/_paidup", "zsh does"),
            Shell::Fish => (
                "/usr/local/share/fish/vendor_completions.d/paidup.fish",
                "fish does",
            ),
        };
        (path, shell.completions(table), why)
    }));
    files
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_document_is_installed() {
        for folder in ["docs", "docs/receivers"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
            for entry in entries.filter(|entry| entry.file_type().unwrap().is_file()) {
                // The README's pictures are not for a terminal.
                if entry.path().extension().is_some_and(|kind| kind == "png") {
                    continue;
                }
                let name = format!("/doc/paidup/{folder}/{}", entry.file_name().display());
                let is_there = DOCUMENTS.iter().any(|(path, ..)| path.ends_with(&name));
                assert!(is_there, "{name}");
            }
        }
    }
}
