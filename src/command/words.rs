//! What a command is, and the words that were given to it.

use std::fmt;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::base::near::nearest;
use crate::base::plain;
use crate::command::exit::{Exit, Failure};

/// One command: its words, its help, and what it does.
pub(crate) struct Command {
    /// One word, or two with a blank between.
    pub(crate) name: &'static str,
    /// What follows the name besides options; empty when nothing may.
    pub(crate) arguments: &'static str,
    /// One line for the overview.
    pub(crate) summary: &'static str,
    /// What else to know.
    pub(crate) details: &'static str,
    pub(crate) options: &'static [CliOption],
    pub(crate) exits: &'static [Exit],
    pub(crate) examples: &'static [&'static str],
    /// Reads all of the words, and only then has something to run: a usage error comes before
    /// anything has happened.
    pub(crate) run: fn(&Words) -> Result<Run, UsageError>,
}

/// Every command, by what one wants to do.
pub(crate) type Table = &'static [(&'static str, &'static [&'static Command])];

/// What a command does. It gets the file of `--env-file`, and the output.
pub(crate) type Run = Box<dyn FnOnce(Option<&Path>, &mut dyn Write) -> Result<Exit, Failure>>;

/// The end of each command's `run`.
pub(crate) fn does(
    run: impl FnOnce(Option<&Path>, &mut dyn Write) -> Result<Exit, Failure> + 'static,
) -> Result<Run, UsageError> {
    Ok(Box::new(run))
}

/// One option of a command.
pub(crate) struct CliOption {
    pub(crate) name: &'static str,
    /// The name of its value; empty when it takes none.
    pub(crate) value: &'static str,
    pub(crate) help: &'static str,
}

pub(crate) const ENV_FILE: CliOption = CliOption {
    name: "env-file",
    value: "FILE",
    help: "read variables from a systemd EnvironmentFile as well; they override the\nenvironment's own, as under systemd",
};
pub(crate) const JSON: CliOption = CliOption {
    name: "json",
    value: "",
    help: "JSON for programs",
};
pub(crate) const JSON_LINES: CliOption = CliOption {
    name: "json",
    value: "",
    help: "JSON for programs, one object a line",
};
/// Of every command, so no command lists it.
pub(crate) const COLOR: CliOption = CliOption {
    name: "color",
    value: "WHEN",
    help: "colours: auto, always or never; NO_COLOR=1 means never",
};
pub(crate) const DRY_RUN: CliOption = CliOption {
    name: "dry-run",
    value: "",
    help: "show each step without taking it",
};
pub(crate) const LIMIT: CliOption = CliOption {
    name: "limit",
    value: "N",
    help: "at most this many, newest first; 50 unless given",
};
const LIMIT_RANGE: RangeInclusive<u32> = 1..=1_000_000;
const LIMIT_DEFAULT: u32 = 50;

/// The words that follow a command's name, taken apart.
pub(crate) struct Words {
    pub(crate) command: &'static Command,
    /// For the commands that are about commands.
    pub(crate) table: Table,
    arguments: Vec<String>,
    options: Vec<(&'static str, String)>,
}

impl Words {
    pub(crate) fn of(command: &'static Command, table: Table) -> Words {
        Words {
            command,
            table,
            arguments: Vec::new(),
            options: Vec::new(),
        }
    }

    pub(crate) fn add_argument(&mut self, word: String) {
        self.arguments.push(word);
    }

    pub(crate) fn add_option(
        &mut self,
        name: &'static str,
        value: String,
    ) -> Result<(), UsageError> {
        if self.has(name) {
            return Err(self.error(format!("--{name} is given twice")));
        }
        self.options.push((name, value));
        Ok(())
    }

    /// Refuses arguments where the command takes none, and gives what is to be run.
    pub(crate) fn understood(&self) -> Result<Run, UsageError> {
        match self.arguments.first() {
            Some(word) if self.command.arguments.is_empty() => {
                Err(self.error(format!("takes no {:?}", plain::text(word))))
            }
            Some(_) | None => (self.command.run)(self),
        }
    }

    pub(crate) fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// The argument of a command that takes exactly one.
    pub(crate) fn argument(&self) -> Result<String, UsageError> {
        let name = self.command.arguments.trim_matches(['[', ']']);
        match self.arguments.as_slice() {
            [word] => Ok(word.clone()),
            [] => Err(self.error(format!("{name} is missing"))),
            [_, ..] => Err(self.error(format!(
                "takes one {name}; put quotes around one that has blanks"
            ))),
        }
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let option = self.options.iter().find(|(known, _)| *known == name);
        option.map(|(_, value)| value.as_str())
    }

    /// The options and their values, as they were given.
    pub(crate) fn options(&self) -> &[(&'static str, String)] {
        &self.options
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.value(name).map(PathBuf::from)
    }

    pub(crate) fn number<N>(
        &self,
        name: &str,
        range: &RangeInclusive<N>,
        default: N,
    ) -> Result<N, UsageError>
    where
        N: FromStr + PartialOrd + fmt::Display,
    {
        let Some(text) = self.value(name) else {
            return Ok(default);
        };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            let text = plain::text(text);
            self.error(format!(
                "--{name} is a number from {from} to {to}, not {text:?}"
            ))
        })
    }

    /// The value of [`LIMIT`].
    pub(crate) fn limit(&self) -> Result<u32, UsageError> {
        self.number("limit", &LIMIT_RANGE, LIMIT_DEFAULT)
    }

    pub(crate) fn error(&self, what: impl fmt::Display) -> UsageError {
        UsageError {
            what: format!("paidup {}: {what}", self.command.name),
            about: self.command.name,
        }
    }

    pub(crate) fn unknown_option(&self, word: &str) -> UsageError {
        let known = self.command.options.iter().chain([&COLOR]);
        let near = nearest(word, known.map(|option| format!("--{}", option.name)));
        let word = plain::text(word);
        let has_settings = self
            .command
            .options
            .iter()
            .any(|it| it.name == ENV_FILE.name);
        let more = match near.as_str() {
            "." if has_settings => " Settings, such as LISTEN_ADDR, are environment variables.",
            _ => "",
        };
        self.error(format!("there is no option {word}{near}{more}"))
    }
}

/// Why the words make no command. Its `Display` says where to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError {
    what: String,
    /// The command that it is about, or nothing.
    about: &'static str,
}

impl UsageError {
    /// One about no command, or about a group of them.
    pub(crate) fn new(what: impl fmt::Display, about: &'static str) -> UsageError {
        UsageError {
            what: format!("paidup: {what}"),
            about,
        }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blank = if self.about.is_empty() { "" } else { " " };
        write!(f, "{}\nRead: paidup help{blank}{}", self.what, self.about)
    }
}

impl std::error::Error for UsageError {}
