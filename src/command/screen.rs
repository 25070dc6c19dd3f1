//! The terminal that the output goes to: its colours and its width. A pipe or a file has neither, and
//! gets every line as it is.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use rustix::termios::tcgetwinsize;

/// When to use colours: the value of `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set: <https://no-color.org/>.
    #[default]
    Auto,
    /// In a pipe as well.
    Always,
    /// Nowhere.
    Never,
}

impl Color {
    pub(crate) const WORDS: [&str; 3] = ["auto", "always", "never"];

    pub(crate) fn parse(word: &str) -> Option<Color> {
        match word {
            "auto" => Some(Color::Auto),
            "always" => Some(Color::Always),
            "never" => Some(Color::Never),
            _ => None,
        }
    }

    fn is_used(self, is_terminal: bool) -> bool {
        let is_set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let is_plain =
            || is_set("NO_COLOR").is_some() || is_set("TERM") == Some(OsString::from("dumb"));
        match self {
            Color::Auto => is_terminal && !is_plain(),
            Color::Always => true,
            Color::Never => false,
        }
    }
}

/// What a colour says. Yellow is none of them: on a white ground nobody reads it. What needs somebody is bold as
/// well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// Not settled yet.
    Open,
    /// Somebody should look.
    Warning,
    /// Somebody must act.
    Problem,
    /// Nothing to say.
    Plain,
    /// A heading.
    Head,
}

/// The terminal of standard output: set once, before a command runs.
static TERMINAL: OnceLock<Terminal> = OnceLock::new();

#[derive(Clone, Copy, Default)]
struct Terminal {
    has_colors: bool,
    width: Option<usize>,
}

/// The text in that colour, or as it is where there are none.
pub(crate) fn painted(text: &str, tone: Tone) -> String {
    if text.is_empty() || !TERMINAL.get().is_some_and(|terminal| terminal.has_colors) {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Plain => return text.to_owned(),
        Tone::Good => "32",
        Tone::Open => "36",
        Tone::Warning => "1;35",
        Tone::Problem => "1;31",
        Tone::Head => "1",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// How many columns there are; nothing in a pipe.
pub(crate) fn width() -> Option<usize> {
    TERMINAL.get().and_then(|terminal| terminal.width)
}

/// Text of lines of up to 100 columns, as one line where it will be folded anew.
pub(crate) fn flowing(text: &str) -> String {
    match width() {
        Some(..100) => text.lines().map(str::trim).collect::<Vec<_>>().join(" "),
        Some(_) | None => text.to_owned(),
    }
}

/// What goes to standard error, for the terminal there.
pub(crate) fn for_stderr(text: &str) -> String {
    let stderr = io::stderr();
    let size = tcgetwinsize(&stderr).ok().filter(|_| stderr.is_terminal());
    let Some(width @ 1..) = size.map(|size| usize::from(size.ws_col)) else {
        return text.to_owned();
    };
    let lines = text.lines().map(|line| folded(&format!("{line}\n"), width));
    lines.collect::<String>()
}

/// How many columns a text takes, without the colours in it.
pub(crate) fn columns(text: &str) -> usize {
    let (mut count, mut is_code) = (0, false);
    for c in text.chars() {
        match (is_code, c) {
            (false, '\u{1b}') => is_code = true,
            (false, _) => count += 1,
            (true, 'm') => is_code = false,
            (true, _) => {}
        }
    }
    count
}

/// Standard output, which folds a line that is longer than the terminal is wide between two words.
pub struct Screen {
    /// A line that has not ended.
    line: Vec<u8>,
}

impl Screen {
    /// Looks at standard output, for everything that is written from now on.
    #[must_use]
    pub fn of_stdout(color: Color) -> Screen {
        // Not locked: while the server runs, the log writes there as well.
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let size = tcgetwinsize(&stdout).ok().filter(|_| is_terminal);
        let width = size.map(|size| usize::from(size.ws_col));
        let _ = TERMINAL.set(Terminal {
            has_colors: color.is_used(is_terminal),
            width: width.filter(|width| *width > 0),
        });
        Screen { line: Vec::new() }
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(width) = width() else {
            return io::stdout().write(bytes);
        };
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend(part);
            if part.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&self.line).into_owned();
                self.line.clear();
                io::stdout().write_all(folded(&line, width).as_bytes())?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().write_all(&self.line)?;
        self.line.clear();
        io::stdout().flush()
    }
}

/// How the lines begin that are there to be pasted: a new line in the middle would cut them in two.
const COMMANDS: [&str; 6] = [
    "paidup ",
    "sudo ",
    "systemctl ",
    "journalctl ",
    "cp ",
    "curl ",
];

/// The line in lines of that width. What follows stands below the second column, if the line has one near its
/// beginning, or below the first, behind its mark if it has one ("! "). A column is kept whole where a line has
/// room for it. Never inside of `...`, JSON or a command that stands alone.
fn folded(line: &str, width: usize) -> String {
    let text = line.trim_start();
    let indent = line.len() - text.len();
    let is_command = indent > 0 && COMMANDS.iter().any(|start| text.starts_with(start));
    if columns(line.trim_end()) <= width || text.starts_with('{') || is_command {
        return line.to_owned();
    }
    let second = text.find("  ").map(|end| {
        let start = text.split_at(end).1.trim_start();
        columns(line) - columns(start)
    });
    let mark = text.split(' ').next();
    let mark = mark.filter(|word| word.contains('!') && columns(word) == 1);
    let hang = match second {
        Some(second) if second <= width / 2 => second,
        Some(_) => indent + 2,
        None if mark.is_some() => indent + 2,
        None => indent,
    };
    let mut folded = " ".repeat(indent);
    let mut used = indent;
    let words = words(text.trim_end());
    for (place, word) in words.iter().enumerate() {
        let (gap, text) = word.split_at(word.len() - word.trim_start().len());
        let begins_column = gap.len() > 1;
        let rest = words.iter().skip(place + 1);
        let rest = rest.take_while(|word| begins_column && !word.starts_with("  "));
        let column = columns(text) + rest.map(|word| columns(word)).sum::<usize>();
        let is_for_a_line = used + gap.len() + column > width && hang + column <= width;
        if used > hang && (used + columns(word) > width || begins_column && is_for_a_line) {
            folded.push('\n');
            folded.push_str(&" ".repeat(hang));
            folded.push_str(text);
            used = hang + columns(text);
        } else {
            folded.push_str(gap);
            folded.push_str(text);
            used += columns(word);
        }
    }
    folded.push('\n');
    folded
}

/// Each with the blanks before it; what stands between two backticks is one.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut is_quoted, mut was_blank) = (0, false, true);
    for (at, c) in text.char_indices() {
        if c == '`' {
            is_quoted = !is_quoted;
        }
        let is_blank = c == ' ' && !is_quoted;
        if is_blank && !was_blank {
            words.extend(text.get(start..at));
            start = at;
        }
        was_blank = is_blank;
    }
    words.extend(text.get(start..));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_fold_between_words_below_their_column() {
        for (line, expected) in [
            ("short\n", "short\n"),
            (
                "a line without an indentation\n",
                "a line without an\nindentation\n",
            ),
            (
                "ok     database: it is as it should be\n",
                "ok     database: it\n       is as it\n       should be\n",
            ),
            (
                "    indented text stays in its column\n",
                "    indented text\n    stays in its\n    column\n",
            ),
            (
                "  a-very-long-first-column  second\n",
                "  a-very-long-first-column\n    second\n",
            ),
            (
                "run `paidup orders list --limit 9` now\n",
                "run\n`paidup orders list --limit 9`\nnow\n",
            ),
            (
                "  sudo systemctl restart paidup.service\n",
                "  sudo systemctl restart paidup.service\n",
            ),
            (
                "{\"a\": \"json of a program\"}\n",
                "{\"a\": \"json of a program\"}\n",
            ),
            (
                "\u{1b}[32mok\u{1b}[0m  it has twenty col\n",
                "\u{1b}[32mok\u{1b}[0m  it has twenty\n    col\n",
            ),
            (
                "  a  b c  42.00 EUR back\n",
                "  a  b c\n     42.00 EUR back\n",
            ),
            (
                "  \u{1b}[1;35m!\u{1b}[0m a flag and what it means\n",
                "  \u{1b}[1;35m!\u{1b}[0m a flag and what\n    it means\n",
            ),
        ] {
            assert_eq!(folded(line, 19), expected);
        }
    }

    #[test]
    fn colours_take_no_columns_and_are_chosen_by_a_word() {
        assert_eq!(columns("\u{1b}[1;31mPROBLEM\u{1b}[0m é"), 9);
        for word in Color::WORDS {
            assert!(Color::parse(word).is_some());
        }
        assert_eq!(Color::parse("yes"), None);
        assert!(Color::Always.is_used(false) && !Color::Never.is_used(true));
        assert!(!Color::Auto.is_used(false));
    }
}
