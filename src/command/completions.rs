//! `paidup completions`: what a shell needs to complete the words of every command, made from the table.

use crate::base::plain;
use crate::command::exit::Exit;
use crate::command::screen::Color;
use crate::command::words::{COLOR, CliOption, Command, Table, does};
use crate::truth::kind::KINDS;
use crate::truth::order::Status;

pub(crate) const COMMAND: Command = Command {
    name: "completions",
    arguments: "SHELL",
    summary: "Print the completions for bash, zsh or fish",
    details: "`paidup install` and the package put them where the shells look. Elsewhere, save what it prints as\n\
              ~/.local/share/bash-completion/completions/paidup, as _paidup in a folder of zsh's $fpath, or as\n\
              ~/.config/fish/completions/paidup.fish.",
    options: &[],
    exits: &[Exit::Done, Exit::Usage],
    examples: &["paidup completions bash"],
    run: |words| {
        let name = words.argument()?;
        let shell = Shell::ALL.into_iter().find(|shell| shell.name() == name);
        let shell = shell.ok_or_else(|| {
            let name = plain::text(&name);
            words.error(format!("SHELL is bash, zsh or fish, not {name:?}"))
        })?;
        let table = words.table;
        does(move |_, out| {
            out.write_all(shell.completions(table).as_bytes())?;
            Ok(Exit::Done)
        })
    },
};

/// One that we know how to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    pub(crate) const ALL: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

    fn name(self) -> &'static str {
        match self {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        }
    }

    pub(crate) fn completions(self, table: Table) -> String {
        match self {
            Shell::Bash => bash(table),
            Shell::Zsh => zsh(table),
            Shell::Fish => fish(table),
        }
    }
}

/// What can stand for a value or an argument of that name.
enum Values {
    Files,
    Folders,
    Words(Vec<&'static str>),
    Unknown,
}

fn values(name: &str) -> Values {
    match name.trim_matches(['[', ']', '.']) {
        "FILE" => Values::Files,
        "DIR" => Values::Folders,
        "STATUS" => Values::Words(Status::ALL.iter().map(|status| status.as_str()).collect()),
        "TYPE" => Values::Words(KINDS.iter().map(|kind| kind.name).collect()),
        "SHELL" => Values::Words(Shell::ALL.map(Shell::name).to_vec()),
        "WHEN" => Values::Words(Color::WORDS.to_vec()),
        _ => Values::Unknown,
    }
}

fn commands(table: Table) -> impl Iterator<Item = &'static Command> {
    table
        .iter()
        .flat_map(|(_, commands)| commands.iter().copied())
}

fn options(command: &'static Command) -> impl Iterator<Item = &'static CliOption> {
    command.options.iter().chain([&COLOR])
}

/// The words that can stand first, or behind `group`, each once, with what they are for.
fn next_words(table: Table, group: Option<&str>) -> Vec<(&'static str, &'static str)> {
    let mut words: Vec<(&str, &str)> = Vec::new();
    for command in commands(table) {
        let (first, second) = command.name.split_once(' ').unwrap_or((command.name, ""));
        let (word, is_first) = match group {
            None => (first, true),
            Some(group) if group == first && !second.is_empty() => (second, false),
            Some(_) => continue,
        };
        let summary = match second.is_empty() || !is_first {
            true => command.summary,
            false => "several commands",
        };
        if !words.iter().any(|(known, _)| *known == word) {
            words.push((word, summary));
        }
    }
    words
}

fn groups(table: Table) -> Vec<&'static str> {
    let mut groups: Vec<&str> = commands(table).filter_map(Command::group).collect();
    groups.dedup();
    groups
}

fn names(words: &[(&'static str, &'static str)]) -> String {
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    names.join(" ")
}

const BASH_START: &str = r#"# bash completion for paidup: made by `paidup completions bash`
_paidup() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    local name=${COMP_WORDS[1]} words="" files=""
    if [ "$COMP_CWORD" -ge 2 ]; then
        case "$name ${COMP_WORDS[2]}" in
"#;

/// Answers by words that begin as the last one does.
const BASH_END: &str = r#"    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    case $files in
        files) compopt -o filenames; COMPREPLY+=($(compgen -f -- "$cur")) ;;
        folders) compopt -o filenames; COMPREPLY+=($(compgen -d -- "$cur")) ;;
    esac
}
complete -F _paidup paidup
"#;

fn bash(table: Table) -> String {
    let mut text = BASH_START.to_owned();
    let words = |values: &Values| match values {
        Values::Files => "files=files".to_owned(),
        Values::Folders => "files=folders".to_owned(),
        Values::Words(words) => format!("words=\"{}\"", words.join(" ")),
        Values::Unknown => ":".to_owned(),
    };
    for command in commands(table).filter(|command| command.name.contains(' ')) {
        text.push_str(&format!(
            "            \"{0}\") name=\"{0}\" ;;\n",
            command.name
        ));
    }
    text.push_str("        esac\n    fi\n    case \"$name $prev\" in\n");
    for command in commands(table) {
        for option in options(command).filter(|option| !option.value.is_empty()) {
            let then = words(&values(option.value));
            let name = command.name;
            text.push_str(&format!(
                "        \"{name} --{}\") {then} ;;\n",
                option.name
            ));
        }
    }
    let first = names(&next_words(table, None));
    text.push_str(&format!(
        "        *)\n            case $COMP_CWORD:$name in\n                1:*) words=\"{first}\" ;;\n"
    ));
    // `notify` is a command and the first word of others.
    for group in groups(table) {
        let next = names(&next_words(table, Some(group)));
        text.push_str(&format!("                2:{group}) words=\"{next}\" ;;\n"));
    }
    text.push_str("            esac\n            case $name in\n");
    for command in commands(table) {
        let options: Vec<String> = options(command)
            .map(|option| format!("--{}", option.name))
            .collect();
        let (name, options) = (command.name, options.join(" "));
        let argument = match values(command.arguments) {
            Values::Unknown => String::new(),
            known @ (Values::Files | Values::Folders) => format!("; {}", words(&known)),
            Values::Words(words) => format!("; words+=\" {}\"", words.join(" ")),
        };
        text.push_str(&format!(
            "                \"{name}\") words+=\" {options} --help\"{argument} ;;\n"
        ));
    }
    text.push_str("            esac ;;\n    esac\n");
    text + BASH_END
}

/// In quotes of zsh and fish.
fn quoted(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn zsh(table: Table) -> String {
    let mut text = "#compdef paidup\n# made by `paidup completions zsh`\n_paidup() {\n    local -a words_here\n    \
                    local name=${words[2]}\n    case \"${words[2]} ${words[3]}\" in\n"
        .to_owned();
    let action = |name: &str| match values(name) {
        Values::Files => "_files".to_owned(),
        Values::Folders => "_files -/".to_owned(),
        Values::Words(words) => format!("({})", words.join(" ")),
        Values::Unknown => String::new(),
    };
    // A colon separates a word from what it is for.
    let described = |words: &[(&str, &str)]| {
        let lines = words
            .iter()
            .map(|(word, what)| quoted(&format!("{word}:{what}")));
        lines.collect::<Vec<_>>().join(" ")
    };
    for command in commands(table).filter(|command| command.name.contains(' ')) {
        text.push_str(&format!("        '{0}') name='{0}' ;;\n", command.name));
    }
    let first = described(&next_words(table, None));
    text.push_str(&format!(
        "    esac\n    if (( CURRENT == 2 )); then\n        words_here=({first})\n        \
         _describe command words_here\n        return\n    fi\n"
    ));
    for group in groups(table) {
        let next = described(&next_words(table, Some(group)));
        text.push_str(&format!(
            "    if (( CURRENT == 3 )) && [[ ${{words[2]}} == {group} ]]; then\n        words_here=({next})\n        \
             _describe command words_here\n    fi\n"
        ));
    }
    text.push_str("    case $name in\n");
    for command in commands(table) {
        // The words of the name are before the options.
        let skip = if command.name.contains(' ') { "2" } else { "1" };
        text.push_str(&format!(
            "        '{}')\n            shift {skip} words; (( CURRENT -= {skip} ))\n            _arguments",
            command.name
        ));
        for option in options(command) {
            let help = option.help.replace(['[', ']'], "").replace(':', "\\:");
            let value = match option.value {
                "" => String::new(),
                value => format!(":{value}:{}", action(value)),
            };
            text.push_str(&format!(
                " \\\n                {}",
                quoted(&format!("--{}[{help}]{value}", option.name))
            ));
        }
        if !matches!(values(command.arguments), Values::Unknown) {
            let line = format!(
                "*:{}:{}",
                command.arguments.trim_matches(['[', ']', '.', '…']),
                action(command.arguments)
            );
            text.push_str(&format!(" \\\n                {}", quoted(&line)));
        }
        text.push_str(" ;;\n");
    }
    text + "    esac\n}\nif [ \"$funcstack[1]\" = _paidup ]; then _paidup \"$@\"; else compdef _paidup paidup; fi\n"
}

fn fish(table: Table) -> String {
    let mut text = "# made by `paidup completions fish`\ncomplete -c paidup -f\n".to_owned();
    for (word, what) in next_words(table, None) {
        text.push_str(&format!(
            "complete -c paidup -n __fish_use_subcommand -a {word} -d {}\n",
            quoted(what)
        ));
    }
    for group in groups(table) {
        let next = next_words(table, Some(group));
        let all = names(&next);
        for (word, what) in &next {
            text.push_str(&format!(
                "complete -c paidup -n '__fish_seen_subcommand_from {group}; and not __fish_seen_subcommand_from \
                 {all}' -a {word} -d {}\n",
                quoted(what)
            ));
        }
    }
    for command in commands(table) {
        let condition = match command.name.split_once(' ') {
            Some((first, second)) => format!(
                "'__fish_seen_subcommand_from {first}; and __fish_seen_subcommand_from {second}'"
            ),
            None => format!("'__fish_seen_subcommand_from {}'", command.name),
        };
        let takes = |name: &str| match values(name) {
            Values::Files => "-F".to_owned(),
            Values::Folders => "-x -a '(__fish_complete_directories)'".to_owned(),
            Values::Words(words) => format!("-x -a '{}'", words.join(" ")),
            Values::Unknown => "-x".to_owned(),
        };
        for option in options(command) {
            let value = match option.value {
                "" => String::new(),
                value if matches!(values(value), Values::Files) => "-r -F ".to_owned(),
                value => format!("{} ", takes(value)),
            };
            text.push_str(&format!(
                "complete -c paidup -n {condition} -l {} {value}-d {}\n",
                option.name,
                quoted(option.help)
            ));
        }
        if !matches!(values(command.arguments), Values::Unknown) {
            let argument = takes(command.arguments);
            text.push_str(&format!(
                "complete -c paidup -n {condition} {}\n",
                argument.trim_start_matches("-x ")
            ));
        }
    }
    text
}
