//! `paidup help`: the overview, and the page of each command.

use crate::command::exit::Exit;
use crate::command::send_test;
use crate::command::table::{COMMANDS, no_command};
use crate::command::words::{Command, does};
use crate::truth::event::TYPES;

pub(crate) const COMMAND: Command = Command {
    name: "help",
    arguments: "[COMMAND]",
    summary: "Print this, or the options and examples of one command",
    details: "",
    options: &[],
    exits: &[Exit::Done, Exit::Usage],
    examples: &["paidup help send-test"],
    run: |words| {
        let name = words.arguments().join(" ");
        let help = help(&name);
        if help.is_empty() {
            return Err(no_command(&name));
        }
        does(move |_, out| {
            out.write_all(help.as_bytes())?;
            Ok(Exit::Done)
        })
    },
};

/// The help on the command of that name, on all that begin with that word, or, when it is empty, on
/// everything. Empty when there is no such command.
#[must_use]
pub fn help(name: &str) -> String {
    if name.is_empty() {
        return overview();
    }
    let meant = COMMANDS.iter().filter(|command| command.is_meant_by(name));
    let pages: Vec<String> = meant.map(|command| command.page()).collect();
    pages.join("\n")
}

fn overview() -> String {
    let mut text = "paidup receives Stripe webhooks, proves that Stripe sent them, and keeps every order in one\n\
                    SQLite file truthful.\n\nUsage: paidup COMMAND [OPTIONS]\n\n"
        .to_owned();
    for command in COMMANDS {
        text.push_str(&format!("  {:<12} {}\n", command.name, command.summary));
    }
    text.push_str(
        "\nThe configuration is the environment; .env.example explains each variable. Reading orders and\n\
         events needs DATABASE_PATH alone. `paidup help COMMAND` has options, exit codes and examples.\n",
    );
    text
}

impl Command {
    /// `name` is this command's name, or the first of its two words.
    pub(crate) fn is_meant_by(&self, name: &str) -> bool {
        self.name == name || self.group() == Some(name)
    }

    /// The first of its two words.
    pub(crate) fn group(&self) -> Option<&'static str> {
        self.name.split_once(' ').map(|(group, _)| group)
    }

    fn page(&self) -> String {
        let options = if self.options.is_empty() {
            ""
        } else {
            "[OPTIONS]"
        };
        let usage = ["paidup", self.name, self.arguments, options];
        let usage: Vec<&str> = usage.into_iter().filter(|part| !part.is_empty()).collect();
        let mut page = format!("{}\n\n{}.\n", usage.join(" "), self.summary);
        if !self.details.is_empty() {
            page.push_str(&format!("{}\n", self.details));
        }
        if !self.options.is_empty() {
            page.push_str("\nOptions\n");
        }
        for option in self.options {
            let words = format!("--{} {}", option.name, option.value);
            let help = option.help.replace('\n', &format!("\n{:20}", ""));
            page.push_str(&format!("  {words:<16}  {help}\n"));
        }
        if self.name == send_test::COMMAND.name {
            page.push_str("\nTypes\n");
            page.extend(TYPES.iter().map(|kind| format!("  {kind}\n")));
        }
        page.push_str("\nExit codes\n");
        let exits = self.exits.iter();
        page.extend(exits.map(|exit| format!("  {:<3} {}\n", exit.code(), exit.meaning())));
        page.push_str("\nExamples\n");
        page.extend(self.examples.iter().map(|example| format!("  {example}\n")));
        page
    }
}
