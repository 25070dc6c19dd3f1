//! Every command, and which of them the words on the command line mean. Words in, something to run
//! or a usage error out; nothing is read or written here.
//!
//! A new command is a file of its own, with its `Command`, and one row here.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use lexopt::{Arg, Parser};

use crate::base::near::nearest;
use crate::base::plain;
use crate::command::exit::{Exit, Failure};
use crate::command::screen::{Color, Tone, flowing, painted};
pub use crate::command::words::UsageError;
use crate::command::words::{COLOR, Command, Run, Table, Words, does};
use crate::command::{
    api, backup, check, completions, connect, db, demo, doctor, events, export, follow, gen_secret,
    gen_token, install, manual, notify, orders, page, reconcile, report, restore, rotate,
    send_test, serve, version, wrong,
};

/// By what one wants to do, in the order of the overview.
const GROUPS: Table = &[
    ("Try it", &[&demo::COMMAND, &send_test::COMMAND]),
    (
        "Set it up",
        &[
            &install::INSTALL,
            &connect::COMMAND,
            &check::COMMAND,
            &serve::COMMAND,
            &install::UNINSTALL,
        ],
    ),
    (
        "See what was paid",
        &[
            &page::COMMAND,
            &orders::LIST,
            &orders::SHOW,
            &follow::COMMAND,
            &export::COMMAND,
            &report::COMMAND,
            &events::LIST,
            &events::SHOW,
        ],
    ),
    (
        "Connect the shop",
        &[
            &api::COMMAND,
            &gen_token::COMMAND,
            &notify::NOTIFY,
            &notify::TEST,
            &notify::STATUS,
            &notify::RETRY,
            &notify::REPLAY,
            &notify::FORGET,
            &gen_secret::COMMAND,
        ],
    ),
    (
        "When something is wrong",
        &[
            &doctor::COMMAND,
            &reconcile::COMMAND,
            &rotate::ADD,
            &rotate::VERIFY,
            &rotate::FINISH,
        ],
    ),
    (
        "Keep the data",
        &[
            &backup::COMMAND,
            &restore::COMMAND,
            &db::CHECK,
            &db::INFO,
            &db::PRUNE,
        ],
    ),
    (
        "Help",
        &[
            &HELP,
            &manual::COMMAND,
            &completions::COMMAND,
            &version::COMMAND,
        ],
    ),
];

fn commands() -> impl Iterator<Item = &'static Command> {
    GROUPS
        .iter()
        .flat_map(|(_, commands)| commands.iter().copied())
}

/// `paidup help`: here, because it is about the table.
const HELP: Command = Command {
    name: "help",
    arguments: "[COMMAND]",
    summary: "Print this, or the options and examples of one command",
    details: "",
    options: &[],
    exits: &[Exit::Done, Exit::Usage],
    examples: &["paidup help send-test"],
    run: |words| {
        let name = words.arguments().join(" ");
        if help(&name).is_empty() {
            return Err(wrong::topic(&name, &commands().collect::<Vec<_>>()));
        }
        does(move |_, out| {
            out.write_all(help(&name).as_bytes())?;
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
    let meant = commands().filter(|command| command.is_meant_by(name));
    let pages: Vec<String> = meant.map(Command::page).collect();
    pages.join("\n")
}

fn overview() -> String {
    let what = flowing(
        "paidup receives Stripe webhooks, proves that Stripe sent them, and keeps every order in one\n\
         SQLite file truthful.",
    );
    let mut text = format!("{what}\n\nUsage: paidup COMMAND [OPTIONS]\n");
    for (wish, commands) in GROUPS {
        text.push_str(&format!("\n{}\n", painted(wish, Tone::Head)));
        for command in *commands {
            text.push_str(&format!("  {:<13}  {}\n", command.name, command.summary));
        }
    }
    let more = flowing(
        "The configuration is the environment; .env.example explains each variable. Reading orders and\n\
         events needs DATABASE_PATH alone. `paidup help COMMAND` has options, exit codes and examples.",
    );
    let (name, value, does) = (COLOR.name, COLOR.value, COLOR.help);
    text + &format!("\n{more}\n--{name} {value}, with every command: {does}.\n")
}

/// What the words ask for.
pub struct Invocation {
    /// The command's name.
    pub command: &'static str,
    /// When its output has colours.
    pub color: Color,
    run: Run,
    /// The systemd `EnvironmentFile` whose variables override those of the environment.
    env_file: Option<PathBuf>,
}

impl Invocation {
    /// Does it, and writes what came of it to `out`.
    ///
    /// # Errors
    /// [`Failure`] when it could not be done.
    pub fn run(self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let done = (self.run)(self.env_file.as_deref(), out);
        out.flush()?;
        done
    }
}

/// Reads the words that follow the program's name.
///
/// # Errors
/// [`UsageError`] when they make no command.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Invocation, UsageError> {
    let (color, words) = take_color(words.into_iter().collect())?;
    let words = all_words(&mut Parser::from_args(words))?;
    Ok(Invocation {
        command: words.command.name,
        color,
        run: words.understood()?,
        env_file: words.path("env-file"),
    })
}

/// Takes [`COLOR`] out, which may stand anywhere before `--`.
fn take_color(mut words: Vec<OsString>) -> Result<(Color, Vec<OsString>), UsageError> {
    let option = format!("--{}", COLOR.name);
    let is_color = |word: &OsString| match word.to_str() {
        Some(word) => word
            .strip_prefix(&option)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('=')),
        None => false,
    };
    let end = words
        .iter()
        .position(|word| word == "--")
        .unwrap_or(words.len());
    let Some(at) = words.iter().take(end).position(is_color) else {
        return Ok((Color::default(), words));
    };
    let word = words.remove(at).to_string_lossy().into_owned();
    let value = match word.split_once('=') {
        Some((_, value)) => value.to_owned(),
        None if at < words.len() => words.remove(at).to_string_lossy().into_owned(),
        None => String::new(),
    };
    let color = Color::parse(&value).ok_or_else(|| {
        let (all, value) = (Color::WORDS.join(", "), plain::text(&value));
        UsageError::new(format!("{option} is one of {all}, not {value:?}"), "")
    })?;
    Ok((color, words))
}

fn all_words(parser: &mut Parser) -> Result<Words, UsageError> {
    let command = match command_of(parser)? {
        Start::Command(command) => command,
        Start::Done(words) => return Ok(words),
    };
    let mut words = Words::of(command, GROUPS);
    loop {
        let wrong = |error: lexopt::Error| {
            Words::of(command, GROUPS).error(plain::text(&error.to_string()))
        };
        match parser.next().map_err(wrong)? {
            None => return Ok(words),
            Some(Arg::Short('h') | Arg::Long("help")) => {
                return Ok(help_on(command.name));
            }
            Some(Arg::Value(word)) => words.add_argument(text(word, &words)?),
            Some(Arg::Short(letter)) => return Err(words.unknown_option(&format!("-{letter}"))),
            Some(Arg::Long(name)) => {
                let option = command.options.iter().find(|option| option.name == name);
                let option = option.ok_or_else(|| words.unknown_option(&format!("--{name}")))?;
                let value = match option.value {
                    "" => String::new(),
                    _ => text(parser.value().map_err(wrong)?, &words)?,
                };
                words.add_option(option.name, value)?;
            }
        }
    }
}

/// What the first words come to.
enum Start {
    /// A command, whose words follow.
    Command(&'static Command),
    /// `--help` or `--version`: what follows does not matter.
    Done(Words),
}

fn command_of(parser: &mut Parser) -> Result<Start, UsageError> {
    let general = |what: &str| UsageError::new(what, "");
    let first = match parser.next() {
        Ok(Some(Arg::Value(word))) => word.to_string_lossy().into_owned(),
        Ok(Some(Arg::Short('h') | Arg::Long("help"))) => return Ok(Start::Done(help_on(""))),
        Ok(Some(Arg::Short('v' | 'V') | Arg::Long("version"))) => {
            return Ok(Start::Done(Words::of(&version::COMMAND, GROUPS)));
        }
        Ok(Some(Arg::Long(name))) => {
            let name = format!("--{name}");
            let near = nearest(
                &name,
                ["--help", "--version"].map(str::to_owned).into_iter(),
            );
            let name = plain::text(&name);
            return Err(general(&match near.as_str() {
                "." => format!("an option stands after its command, {name} too"),
                _ => format!("there is no option {name}{near}"),
            }));
        }
        Ok(Some(Arg::Short(_))) => {
            return Err(general("an option stands after its command"));
        }
        Ok(None) => return Ok(Start::Done(help_on(""))),
        Err(error) => return Err(general(&plain::text(&error.to_string()))),
    };
    // One that is also the first word of others, as `notify` is of `notify status`.
    if let Some(command) = commands().find(|command| command.name == first) {
        let mut ahead = parser.clone();
        if let Ok(Some(Arg::Value(word))) = ahead.next() {
            let name = format!("{first} {}", word.to_string_lossy());
            if let Some(longer) = commands().find(|command| command.name == name) {
                *parser = ahead;
                return Ok(Start::Command(longer));
            }
        }
        return Ok(Start::Command(command));
    }
    let Some(group) =
        commands().find_map(|command| command.group().filter(|group| *group == first))
    else {
        let second = match parser.next() {
            Ok(Some(Arg::Value(word))) => word.to_string_lossy().into_owned(),
            Ok(Some(Arg::Short(_) | Arg::Long(_)) | None) | Err(_) => String::new(),
        };
        return Err(wrong::word(
            &first,
            &second,
            &commands().collect::<Vec<_>>(),
        ));
    };
    match parser.next() {
        Ok(Some(Arg::Value(word))) => {
            let second = word.to_string_lossy().into_owned();
            let name = format!("{first} {second}");
            let command = commands().find(|command| command.name == name);
            command
                .map(Start::Command)
                .ok_or_else(|| wrong::word(&first, &second, &commands().collect::<Vec<_>>()))
        }
        Ok(Some(Arg::Short('h') | Arg::Long("help"))) => Ok(Start::Done(help_on(&first))),
        Ok(Some(Arg::Short(_) | Arg::Long(_)) | None) | Err(_) => {
            Err(wrong::word(group, "", &commands().collect::<Vec<_>>()))
        }
    }
}

/// Asks for help on a command, on a group or, when the name is empty, on everything.
fn help_on(name: &str) -> Words {
    let mut words = Words::of(&HELP, GROUPS);
    words.add_argument(name.to_owned());
    words
}

fn text(word: OsString, words: &Words) -> Result<String, UsageError> {
    word.into_string().map_err(|word| {
        let word = plain::text(&word.to_string_lossy());
        words.error(format!("{word:?} is not UTF-8"))
    })
}

/// The words of a line, for tests of what a command reads of them.
#[cfg(test)]
pub(crate) fn words_of(line: &str) -> Words {
    let words = line.split_whitespace().map(OsString::from);
    all_words(&mut Parser::from_args(words)).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation, UsageError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn command(line: &str) -> &'static str {
        parsed(line).unwrap().command
    }

    fn wrong(line: &str) -> String {
        parsed(line).err().unwrap().to_string()
    }

    #[test]
    fn words_become_commands() {
        for (line, expected) in [
            ("serve", "serve"),
            ("check --json", "check"),
            ("orders list", "orders list"),
            ("orders show --json -- -1", "orders show"),
            ("events list --order ord_1", "events list"),
            ("events show evt_1", "events show"),
            ("demo", "demo"),
            ("uninstall --purge --dry-run --root /mnt", "uninstall"),
            ("version", "version"),
            ("--version", "version"),
            ("-V", "version"),
            ("-v", "version"),
            ("", "help"),
            ("--color never orders list", "orders list"),
            ("orders list --color=always", "orders list"),
        ] {
            assert_eq!(command(line), expected, "{line}");
        }
        let with_file = parsed("serve --env-file /etc/paidup.env").unwrap();
        assert_eq!(with_file.env_file, Some("/etc/paidup.env".into()));
        assert!(words_of("check --json").has("json"));
        assert!(!words_of("check").has("json"));
        let color = |line: &str| parsed(line).unwrap().color;
        assert_eq!(color("check --color always --json"), Color::Always);
        assert_eq!(color("--color=never"), Color::Never);
        assert_eq!(color("orders show -- --color"), Color::Auto);
        assert!(wrong("check --color blue").contains("auto, always, never, not \"blue\""));
    }

    #[test]
    fn a_usage_error_names_the_nearest_word_and_where_to_read_on() {
        for (line, what, read) in [
            (
                "serv",
                "there is no command \"serv\". Did you mean `paidup serve`?",
                "paidup help",
            ),
            (
                "order list",
                "\"order list\". Did you mean `paidup orders list`?",
                "paidup help",
            ),
            (
                "orders lst",
                "\"orders lst\". Did you mean `paidup orders list`?",
                "paidup help orders",
            ),
            (
                "bananas",
                "there is no command \"bananas\".\n",
                "paidup help",
            ),
            (
                "help sendtest",
                "Did you mean `paidup help send-test`?",
                "paidup help",
            ),
            ("orders", "  paidup orders list  ", "paidup help orders"),
            (
                "--json orders list",
                "an option stands after its command",
                "paidup help",
            ),
            (
                "--verison",
                "no option --verison. Did you mean --version?",
                "paidup help",
            ),
            (
                "serve --port 80",
                "no option --port. Settings, such as LISTEN_ADDR, are",
                "paidup help serve",
            ),
            (
                "orders list --jsn",
                "--jsn. Did you mean --json?",
                "paidup help orders list",
            ),
            (
                "orders list -j",
                "there is no option -j",
                "paidup help orders list",
            ),
            (
                "orders list --limit",
                "missing argument for option '--limit'",
                "help orders list",
            ),
            (
                "orders list --limit 0",
                "a number from 1 to 1000000, not \"0\"",
                "help orders list",
            ),
            ("orders list --limit -5", "not \"-5\"", "help orders list"),
            (
                "orders list --json --json",
                "--json is given twice",
                "help orders list",
            ),
            (
                "orders list --json=yes",
                "unexpected argument for option '--json'",
                "help orders list",
            ),
            (
                "orders list --status payed",
                "Did you mean paid?",
                "help orders list",
            ),
            (
                "orders list ord_1",
                "takes no \"ord_1\"",
                "help orders list",
            ),
            ("orders show", "ID is missing", "help orders show"),
            (
                "orders show two words",
                "takes one ID; put quotes",
                "help orders show",
            ),
            (
                "send-test charge.refund",
                "Did you mean charge.refunded?",
                "help send-test",
            ),
            ("send-test --amount 2.50", "not \"2.50\"", "help send-test"),
            (
                "send-test --currency euro",
                "three letters",
                "help send-test",
            ),
            (
                "send-test --all charge.refunded",
                "leave out either",
                "help send-test",
            ),
            ("send-test --forged --stale", "not both", "help send-test"),
            (
                "send-test --duplicate 101",
                "from 1 to 100",
                "help send-test",
            ),
        ] {
            let error = wrong(line);
            assert!(
                error.contains(what) && error.ends_with(read),
                "{line}: {error}"
            );
        }
    }

    #[test]
    fn hostile_words_are_not_echoed_raw() {
        for line in [
            "\u{1b}[2J",
            "orders list --\u{1b}[2J",
            "orders list --limit \u{1b}[2J",
        ] {
            assert!(!wrong(line).contains('\u{1b}'), "{line:?}");
        }
    }

    #[test]
    fn every_command_has_a_page_that_names_its_options_exit_codes_and_examples() {
        for asked in commands() {
            let page = help(asked.name);
            assert!(help("").contains(asked.summary));
            for option in asked.options {
                assert!(page.contains(&format!("--{}", option.name)), "{page}");
            }
            assert!(page.contains("Exit codes\n  0   done\n"), "{page}");
            for line in page.lines().chain(help("").lines()) {
                assert!(line.chars().count() <= 100, "{line}");
            }
            for line in [
                format!("help {}", asked.name),
                format!("{} --help", asked.name),
            ] {
                assert_eq!(output(&line), page, "{line}");
            }
            for example in asked.examples {
                let line = example.split_once("paidup ").unwrap().1;
                assert!(parsed(line).is_ok(), "{example}");
            }
        }
        assert_eq!(output("orders --help"), help("orders"));
        assert!(
            help("orders").contains("paidup orders list") && help("orders").contains("show ID")
        );
    }

    /// What help prints.
    fn output(line: &str) -> String {
        let asked = parsed(line).unwrap();
        assert_eq!(asked.command, "help", "{line}");
        let mut out = Vec::new();
        asked.run(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }
}
