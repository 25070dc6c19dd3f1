//! The page of a command, as `paidup help` shows it.

use crate::command::screen::{Tone, flowing, painted};
use crate::command::send_test;
use crate::command::words::Command;
use crate::truth::kind::KINDS;

impl Command {
    /// `name` is this command's name, or the first of its two words.
    pub(crate) fn is_meant_by(&self, name: &str) -> bool {
        self.name == name || self.group() == Some(name)
    }

    /// The first of its two words.
    pub(crate) fn group(&self) -> Option<&'static str> {
        self.name.split_once(' ').map(|(group, _)| group)
    }

    pub(crate) fn page(&self) -> String {
        let options = if self.options.is_empty() {
            ""
        } else {
            "[OPTIONS]"
        };
        let usage = ["paidup", self.name, self.arguments, options];
        let usage: Vec<&str> = usage.into_iter().filter(|part| !part.is_empty()).collect();
        let mut page = format!("{}\n\n{}.\n", usage.join(" "), self.summary);
        if !self.details.is_empty() {
            page.push_str(&format!("{}\n", flowing(self.details)));
        }
        if !self.options.is_empty() {
            page.push_str(&head("Options"));
        }
        for option in self.options {
            let words = format!("--{} {}", option.name, option.value);
            let help = flowing(option.help).replace('\n', &format!("\n{:20}", ""));
            page.push_str(&format!("  {words:<16}  {help}\n"));
        }
        if self.name == send_test::COMMAND.name {
            page.push_str(&head("Types"));
            page.extend(KINDS.iter().map(|kind| format!("  {}\n", kind.name)));
        }
        page.push_str(&head("Exit codes"));
        let exits = self.exits.iter();
        page.extend(exits.map(|exit| format!("  {:<3} {}\n", exit.code(), exit.meaning())));
        page.push_str(&head("Examples"));
        page.extend(self.examples.iter().map(|example| format!("  {example}\n")));
        page
    }
}

fn head(text: &str) -> String {
    format!("\n{}\n", painted(text, Tone::Head))
}
