//! `paidup man`: the manual page, made from the table.

use crate::command::exit::Exit;
use crate::command::send_test;
use crate::command::words::{COLOR, Command, Table, does};
use crate::truth::kind::KINDS;

pub(crate) const COMMAND: Command = Command {
    name: "man",
    arguments: "",
    summary: "Print the manual page, for man(1)",
    details: "`paidup install` and the package put it where man looks; `paidup man | man -l -` shows it.",
    options: &[],
    exits: &[Exit::Done, Exit::Usage],
    examples: &["paidup man"],
    run: |words| {
        let table = words.table;
        does(move |_, out| {
            out.write_all(page(table).as_bytes())?;
            Ok(Exit::Done)
        })
    },
};

/// When this version was made, as the changelog has it.
const RELEASED: &str = "2026-11-26";

/// In man(7), which every man reads.
pub(crate) fn page(table: Table) -> String {
    let mut page = format!(
        ".\\\" made by `paidup man`\n.TH PAIDUP 1 \"{RELEASED}\" \"paidup {}\" \"User Commands\"\n.SH NAME\npaidup \\- receives \
         Stripe webhooks and keeps every order truthful in one SQLite file\n.SH SYNOPSIS\n.B paidup\n.I COMMAND\n\
         .RI [ OPTIONS ]\n.SH DESCRIPTION\npaidup receives Stripe webhooks, proves that Stripe sent them, and keeps \
         every order in one SQLite file truthful.\nThe configuration is the environment. Reading orders and events \
         needs DATABASE_PATH alone.\n",
        env!("CARGO_PKG_VERSION")
    );
    for (wish, commands) in table {
        page.push_str(&format!(".SH {}\n", escaped(&wish.to_uppercase())));
        for command in *commands {
            add(command, &mut page);
        }
    }
    page.push_str(&format!(
        ".SH OPTIONS OF EVERY COMMAND\n.TP\n\\fB\\-\\-{}\\fR \\fI{}\\fR\n{}\n.SH FILES\n\
         .TP\n/etc/paidup/paidup.env\nthe settings of the installed server\n\
         .TP\n/var/lib/paidup/paidup.db\nits orders\n\
         .TP\n/usr/share/doc/paidup, /usr/local/share/doc/paidup\nthe runbook and the other documents\n\
         .SH SEE ALSO\n.BR journalctl (1),\n.BR systemctl (1)\n",
        COLOR.name,
        COLOR.value,
        escaped(COLOR.help)
    ));
    page
}

fn add(command: &Command, page: &mut String) {
    page.push_str(&format!(
        ".SS \"paidup {} {}\"\n{}.\n",
        escaped(command.name),
        escaped(command.arguments),
        escaped(command.summary)
    ));
    if !command.details.is_empty() {
        page.push_str(&format!("{}\n", escaped(command.details)));
    }
    for option in command.options {
        page.push_str(&format!(
            ".TP\n\\fB\\-\\-{}\\fR \\fI{}\\fR\n{}\n",
            escaped(option.name),
            option.value,
            escaped(option.help)
        ));
    }
    if command.name == send_test::COMMAND.name {
        let types: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        page.push_str(&format!(".PP\nTypes: {}\n", escaped(&types.join(", "))));
    }
    page.push_str(".PP\nExit codes: ");
    let exits = command.exits.iter();
    let exits: Vec<String> = exits
        .map(|exit| format!("{} {}", exit.code(), exit.meaning()))
        .collect();
    page.push_str(&escaped(&exits.join("; ")));
    page.push_str("\n.PP\n.nf\n");
    for example in command.examples {
        page.push_str(&format!("{}\n", escaped(example)));
    }
    page.push_str(".fi\n");
}

/// Text in which nothing is a request: no line begins with a dot or a quote, and a hyphen is one to paste.
fn escaped(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.trim_start().replace('\\', "\\e").replace('-', "\\-");
        match line.starts_with(['.', '\'']) {
            true => format!("\\&{line}"),
            false => line,
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}
