//! What somebody may have meant who wrote a command that there is not.

use crate::base::near::distance;
use crate::base::plain;
use crate::command::words::{Command, UsageError};

/// A command, and what it does.
type Hints = &'static [(&'static str, &'static str)];

/// Words of other programs and of the shop, and what does that here: a command to paste, and what it does.
const OTHERS: &[(&[&str], Hints)] = &[
    (
        &[
            "order", "list", "ls", "payment", "payments", "sale", "sales", "session", "sessions",
            "charge", "charges", "get", "show", "find", "search", "query",
        ],
        &[
            ("paidup orders list", "the orders"),
            ("paidup help orders show", "one of them, by any id"),
        ],
    ),
    (
        &["refund", "refunds", "dispute", "disputes"],
        &[(
            "paidup orders list",
            "what was given back or is disputed; refunds are made in the Stripe Dashboard",
        )],
    ),
    (
        &[
            "event",
            "webhook",
            "webhooks",
            "delivery",
            "deliveries",
            "endpoint",
            "endpoints",
        ],
        &[
            ("paidup events list", "what Stripe has sent"),
            ("paidup doctor", "what Stripe knows about the endpoint"),
        ],
    ),
    (
        &["status", "state", "health", "ping", "info", "stats"],
        &[
            ("paidup check", "whether all is well here"),
            ("systemctl status paidup.service", "whether the server runs"),
            ("paidup db info", "what the database holds"),
        ],
    ),
    (
        &["log", "logs", "journal"],
        &[
            (
                "journalctl --namespace=paidup -u paidup -o cat",
                "the server's log",
            ),
            ("paidup events list", "what Stripe has sent"),
        ],
    ),
    (
        &["tail", "watch", "stream"],
        &[("paidup orders follow", "each order as it changes")],
    ),
    (
        &["start", "run", "server", "daemon", "listen", "up"],
        &[
            ("paidup serve", "runs the server here"),
            (
                "sudo systemctl start paidup.service",
                "where paidup is installed",
            ),
        ],
    ),
    (
        &["stop", "down", "kill", "restart", "reload"],
        &[
            (
                "sudo systemctl reload-or-restart paidup.service",
                "reads the settings again and loses no delivery",
            ),
            (
                "sudo systemctl stop paidup.socket paidup-admin.socket paidup.service",
                "stops it",
            ),
        ],
    ),
    (
        &["setup", "init", "upgrade", "update", "deploy"],
        &[(
            "paidup install --dry-run",
            "each step, without taking it; to upgrade, run the new binary's `install`",
        )],
    ),
    (
        &[
            "config",
            "configure",
            "configuration",
            "env",
            "settings",
            "validate",
            "lint",
            "test-config",
        ],
        &[(
            "paidup check",
            "what is wrong in the configuration, and what to do",
        )],
    ),
    (
        &["test", "trigger", "send", "simulate", "fake"],
        &[
            (
                "paidup send-test",
                "a signed test event to the running server",
            ),
            ("paidup demo", "all of it, without one"),
        ],
    ),
    (
        &["diagnose", "debug", "troubleshoot"],
        &[("paidup doctor", "what is wrong, why it matters, what to do")],
    ),
    (
        &[
            "sync", "fetch", "pull", "replay", "resend", "retry", "catch-up",
        ],
        &[
            (
                "paidup reconcile --since 3d",
                "fetches from Stripe what deliveries did not bring",
            ),
            (
                "paidup notify retry",
                "tells the shop what it has not heard",
            ),
        ],
    ),
    (
        &["login", "auth", "account", "register", "subscribe"],
        &[(
            "paidup help connect",
            "makes the endpoint at Stripe, and stores its secret",
        )],
    ),
    (
        &["secret", "secrets", "roll", "key", "keys"],
        &[(
            "paidup help rotate",
            "puts a new signing secret beside the old one",
        )],
    ),
    (
        &["token"],
        &[("paidup gen-token", "a token for `paidup api`")],
    ),
    (
        &["dump", "export", "snapshot", "save", "csv"],
        &[
            (
                "paidup orders export",
                "every movement of money, as JSON or CSV",
            ),
            (
                "paidup help backup",
                "a verified copy while the server runs",
            ),
        ],
    ),
    (
        &["database", "vacuum", "fsck", "sqlite"],
        &[
            ("paidup db check", "whether the database is intact"),
            ("paidup db info", "what it holds"),
        ],
    ),
    (
        &["remove", "delete", "purge"],
        &[("paidup uninstall --dry-run", "each step, without taking it")],
    ),
    (
        &["tell", "hook", "callback"],
        &[(
            "paidup help notify",
            "tells the shop of each order that changed",
        )],
    ),
    (
        &["manual", "docs", "doc", "usage", "?"],
        &[("paidup help", "every command")],
    ),
    (
        &["completion", "complete", "autocomplete"],
        &[("paidup help completions", "for bash, zsh and fish")],
    ),
];

/// `first` and, when there is one, `second` stand where a command should.
pub(crate) fn word(first: &str, second: &str, known: &[&'static Command]) -> UsageError {
    let name = [first, second].join(" ");
    let name = name.trim_end();
    // `order list` is a slip of `orders list`, although `order` alone is one of the other words.
    let names = || known.iter().map(|command| command.name);
    let slip = nearest(name, names()).filter(|_| !second.is_empty());
    let others = OTHERS.iter().find(|(words, _)| words.contains(&first));
    let of_group = || known.iter().filter(|it| it.group() == Some(first));
    let about = of_group().find_map(|command| command.group());
    let group: Vec<(String, &str)> = of_group()
        .map(|it| {
            let line = format!("paidup {} {}", it.name, it.arguments);
            (line.trim_end().to_owned(), it.summary)
        })
        .collect();
    let mut what = match (about, second) {
        (Some(group), "") => format!("a word is missing after {group:?}"),
        (Some(_) | None, _) => format!("there is no command {:?}", plain::text(name)),
    };
    if let Some(command) = slip {
        what.push_str(&meant(command));
    } else if let Some(hint) = id_of(first, second) {
        what.push_str(&meant(&hint));
    } else if !group.is_empty() {
        list(&group, &mut what);
    } else if let Some((_, hints)) = others {
        list(hints, &mut what);
    } else if let Some(command) = nearest(name, names()).or_else(|| nearest(first, names())) {
        what.push_str(&meant(command));
    } else {
        what.push('.');
    }
    UsageError::new(what, about.unwrap_or_default())
}

/// `name` is what somebody wants help on.
pub(crate) fn topic(name: &str, known: &[&'static Command]) -> UsageError {
    let names = known.iter().flat_map(|it| [Some(it.name), it.group()]);
    if let Some(near) = nearest(name, names.flatten()) {
        let (name, near) = (plain::text(name), meant(&format!("help {near}")));
        return UsageError::new(format!("there is no command {name:?}{near}"), "");
    }
    let (first, second) = name.split_once(' ').unwrap_or((name, ""));
    word(first, second, known)
}

fn meant(command: &str) -> String {
    format!(". Did you mean `paidup {command}`?")
}

fn list(hints: &[(impl AsRef<str>, &str)], what: &mut String) {
    what.push_str(". There is:");
    let widths = hints.iter().map(|(command, _)| command.as_ref().len());
    let width = widths.max().unwrap_or_default();
    for (command, does) in hints {
        let command = command.as_ref();
        what.push_str(&format!("\n  {command:<width$}  # {does}"));
    }
}

/// An id where its command should be, as in `paidup orders ord_1001` or `paidup evt_…`.
fn id_of(first: &str, second: &str) -> Option<String> {
    let is_plain = |id: &str| {
        id.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-#".contains(&byte))
    };
    let is_id = |id: &str| id.bytes().any(|byte| byte.is_ascii_digit()) && is_plain(id);
    let show = |id: &str| match id.starts_with("evt_") {
        true => format!("events show {id}"),
        false => format!("orders show {id}"),
    };
    match (first, second) {
        ("order" | "orders" | "event" | "events" | "show", id) if is_id(id) => Some(show(id)),
        (id, "") if is_id(id) && id.contains('_') => Some(show(id)),
        _ => None,
    }
}

/// The name that is only a slip or two away.
fn nearest(word: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let word = word.to_lowercase();
    let slips_max = (1 + word.chars().count() / 4).min(3);
    let near = names.map(|name| (distance(&word, name), name));
    let (slips, name) = near.min_by_key(|(slips, _)| *slips)?;
    (slips <= slips_max).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table;

    #[test]
    fn a_slip_a_group_or_an_id_leads_to_its_command() {
        for (line, expected) in [
            ("order list", "Did you mean `paidup orders list`?"),
            ("order", "paidup orders list "),
            (
                "orders",
                "missing after \"orders\". There is:\n  paidup orders list     # ",
            ),
            ("orders --list", "Read: paidup help orders"),
            ("ORDERS LIST", "Did you mean `paidup orders list`?"),
            ("payments list", "  paidup orders list  "),
            ("help order", "Did you mean `paidup help orders`?"),
            ("help orders lst", "Did you mean `paidup help orders list`?"),
            ("help login", "  paidup help connect  "),
            ("orders bananas", "  paidup orders list "),
            ("orders lst", "Did you mean `paidup orders list`?"),
            (
                "orders ord_1001",
                "Did you mean `paidup orders show ord_1001`?",
            ),
            ("event evt_1", "Did you mean `paidup events show evt_1`?"),
            ("pi_1", "Did you mean `paidup orders show pi_1`?"),
            ("docter", "Did you mean `paidup doctor`?"),
            ("rotate", "  paidup rotate add  "),
            ("orders \"ord_1;rm", "  paidup orders list "),
        ] {
            let words = line.split(' ').map(Into::into);
            let error = table::parse(words).err().unwrap().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn every_other_word_leads_to_commands_that_there_are() {
        for (words, hints) in OTHERS {
            for word in *words {
                assert!(table::help(word).is_empty(), "{word} is a command");
                let error = table::parse([word.into()]).err().unwrap().to_string();
                for (command, _) in *hints {
                    assert!(error.contains(command), "{word}: {error}");
                }
            }
            for (command, _) in *hints {
                let words = command.split(' ').skip(1).map(Into::into);
                let is_ours = command.starts_with("paidup ");
                assert!(!is_ours || table::parse(words).is_ok(), "{command}");
            }
        }
    }
}
