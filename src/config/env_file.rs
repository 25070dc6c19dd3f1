//! Reads a systemd `EnvironmentFile` as systemd does, and reports what systemd ignores silently.
//!
//! The rules are those of
//! <https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#EnvironmentFile=>,
//! in detail those of `parse_env_file_internal` in
//! <https://github.com/systemd/systemd/blob/main/src/basic/env-file.c>. systemd accepts almost
//! anything silently: a line without `=`, an unclosed quote that swallows the rest of the file,
//! `export NAME=…`. Each of these is a [`Problem`] here. No problem shows a value, or any text that
//! may be one.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// Something in the file that systemd accepts or ignores silently, and that the operator surely did
/// not mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line it begins on, from 1.
    pub line: usize,
    /// What it is.
    pub kind: ProblemKind,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// There is no `=`, so the line is ignored.
    NoAssignment,
    /// The text before `=` is not a valid name, so the assignment is ignored.
    BadName,
    /// `export NAME=…` is shell. The name would be `export NAME`, so the assignment is ignored.
    Export,
    /// A quote is never closed: the value runs to the end of the file.
    UnclosedQuote {
        /// The variable that gets that value.
        name: String,
    },
    /// A quote is closed only on a later line, perhaps by one that was meant to open another value:
    /// the lines between are part of this one.
    QuoteOverLines {
        /// The variable that gets that value.
        name: String,
    },
    /// The variable is already set further up. The last one counts.
    SetAgain {
        /// The variable.
        name: String,
    },
    /// ` #` after a value is part of the value: a comment needs a line of its own.
    CommentInValue {
        /// The variable that gets that value.
        name: String,
    },
    /// A comment ends with a backslash: before version 254, systemd reads the next line as part of
    /// the comment.
    ContinuedComment,
    /// A NUL byte: systemd refuses the whole file and the service does not start.
    Nul,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.kind {
            ProblemKind::NoAssignment => {
                f.write_str("no `=`, so systemd ignores it. Write NAME=value, or put # before it")
            }
            ProblemKind::BadName => f.write_str(
                "no valid name before `=`, so systemd ignores it. \
                 A name has letters, digits and _, and does not begin with a digit",
            ),
            ProblemKind::Export => {
                f.write_str("`export` is shell, so systemd ignores the line. Remove the word")
            }
            ProblemKind::UnclosedQuote { name } => write!(
                f,
                "the quote in {name} is not closed, so its value runs to the end of the file. \
                 Close it"
            ),
            ProblemKind::QuoteOverLines { name } => write!(
                f,
                "the quote in {name} is closed only on a later line, so the lines between are part \
                 of its value. Close it on its own line"
            ),
            ProblemKind::SetAgain { name } => write!(
                f,
                "{name} is already set further up, and this one counts. Remove one"
            ),
            ProblemKind::CommentInValue { name } => write!(
                f,
                "the `#` is part of the value of {name}. Put the comment on a line of its own"
            ),
            ProblemKind::ContinuedComment => f.write_str(
                "the comment ends with a backslash, so systemd before 254 ignores the next line \
                 too. Remove the backslash",
            ),
            ProblemKind::Nul => f.write_str(
                "a NUL byte, so systemd refuses the file and the service does not start. Remove it",
            ),
        }
    }
}

/// The variables that systemd would set, and everything that looks unintended, by line.
///
/// systemd refuses a file that is not UTF-8 as a whole, so the caller does.
#[must_use]
pub fn parse(text: &str) -> (BTreeMap<String, String>, Vec<Problem>) {
    if let Some((before, _)) = text.split_once('\0') {
        let line = before.matches('\n').count() + 1;
        let kind = ProblemKind::Nul;
        return (BTreeMap::new(), vec![Problem { line, kind }]);
    }
    let mut parser = Parser::default();
    for c in text.chars() {
        parser.take(c);
        parser.previous = Some(c);
        parser.lines_before += usize::from(c == '\n');
    }
    parser.end();
    parser.problems.sort_by_key(|problem| problem.line);
    (parser.vars, parser.problems)
}

/// The file with a new value for a variable that it sets, and every other byte as it was. `value`
/// must be plain: letters, digits and what has no meaning to systemd or a shell.
///
/// `None` when systemd would not read it like that, such as when the old value has several lines.
#[must_use]
pub fn with_value(text: &str, name: &str, value: &str) -> Option<String> {
    let (mut wanted, known) = parse(text);
    if wanted.get(name).is_some_and(|present| present == value) {
        return Some(text.to_owned());
    }
    wanted.insert(name.to_owned(), value.to_owned());
    // The last assignment counts. What looks like one may be part of another value or a comment, so
    // each is tried and judged by its result.
    assignments(text, name).into_iter().rev().find_map(|place| {
        let (before, after) = (text.get(..place.start)?, text.get(place.end..)?);
        let changed = format!("{before}{value}{after}");
        let (vars, problems) = parse(&changed);
        let is_meant = vars == wanted && problems.iter().all(|problem| known.contains(problem));
        is_meant.then_some(changed)
    })
}

/// The text with this value for a variable, set or not: in place of its present value; else on its line
/// of the example (`#NAME=`); else on a line at the end. Every other byte stays. `None` when nobody can
/// tell where it belongs.
#[must_use]
pub fn with_variable(text: &str, name: &str, value: &str) -> Option<String> {
    let (mut wanted, known) = parse(text);
    if wanted.contains_key(name) {
        return with_value(text, name, value);
    }
    wanted.insert(name.to_owned(), value.to_owned());
    let (example, line) = (format!("#{name}="), format!("{name}={value}"));
    let on_its_line = || {
        let mut before = 0;
        let place = text.split_inclusive('\n').find_map(|one| {
            let start = before;
            before += one.len();
            let is_it = one.starts_with(&example);
            is_it.then(|| start..start + one.trim_end_matches(is_line_end).len())
        })?;
        let (before, after) = (text.get(..place.start)?, text.get(place.end..)?);
        Some(format!("{before}{line}{after}"))
    };
    let end = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let candidates = [on_its_line(), Some(format!("{text}{end}{line}\n"))];
    candidates.into_iter().flatten().find(|changed| {
        let (vars, problems) = parse(changed);
        vars == wanted && problems.iter().all(|problem| known.contains(problem))
    })
}

/// Where the values are on the lines that look like `NAME=value`.
fn assignments(text: &str, name: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let after_name = line.trim_start_matches(is_blank).strip_prefix(name);
        let value =
            after_name.and_then(|rest| rest.trim_start_matches([' ', '\t']).strip_prefix('='));
        if let Some(value) = value {
            let ending = value.len() - value.trim_end_matches(is_line_end).len();
            let end = start + line.len();
            places.push(end - value.len()..end - ending);
        }
        start += line.len();
    }
    places
}

/// systemd's own states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ParserState {
    #[default]
    BeforeName,
    Name,
    /// After `=`, and again after a closing quote.
    BeforeValue,
    Value,
    ValueEscape,
    SingleQuoted,
    DoubleQuoted,
    DoubleQuotedEscape,
    Comment,
    CommentEscape,
}

#[derive(Default)]
struct Parser {
    state: ParserState,
    lines_before: usize,
    previous: Option<char>,
    /// The lines on which the current name and the current quote begin.
    name_line: usize,
    quote_line: usize,
    name: String,
    value: String,
    /// How much of `value` stays. What follows are blanks, which are dropped if nothing comes after
    /// them.
    kept_bytes: usize,
    vars: BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl Parser {
    fn take(&mut self, c: char) {
        match self.state {
            ParserState::BeforeName => self.before_name(c),
            ParserState::Name => self.name(c),
            ParserState::BeforeValue => self.before_value(c),
            ParserState::Value => self.value(c),
            ParserState::ValueEscape => {
                if !is_line_end(c) {
                    self.keep(c);
                }
                self.state = ParserState::Value;
            }
            ParserState::SingleQuoted if c == '\'' => self.close_quote(),
            ParserState::SingleQuoted => self.keep(c),
            ParserState::DoubleQuoted if c == '"' => self.close_quote(),
            ParserState::DoubleQuoted if c == '\\' => self.state = ParserState::DoubleQuotedEscape,
            ParserState::DoubleQuoted => self.keep(c),
            ParserState::DoubleQuotedEscape => self.double_quoted_escape(c),
            ParserState::Comment if c == '\\' => self.state = ParserState::CommentEscape,
            ParserState::Comment if is_line_end(c) => self.state = ParserState::BeforeName,
            ParserState::Comment => {}
            ParserState::CommentEscape if is_line_end(c) => {
                self.problem(self.lines_before, ProblemKind::ContinuedComment);
                self.state = ParserState::BeforeName;
            }
            ParserState::CommentEscape => self.state = ParserState::Comment,
        }
    }

    fn before_name(&mut self, c: char) {
        if c == '#' || c == ';' {
            self.state = ParserState::Comment;
        } else if !is_blank(c) {
            self.name_line = self.lines_before;
            self.name.push(c);
            self.state = ParserState::Name;
        }
    }

    fn name(&mut self, c: char) {
        if is_line_end(c) {
            self.no_assignment();
        } else if c == '=' {
            self.state = ParserState::BeforeValue;
        } else {
            self.name.push(c);
        }
    }

    fn before_value(&mut self, c: char) {
        if is_line_end(c) {
            self.assign();
        } else if c == '\'' || c == '"' {
            self.quote_line = self.lines_before;
            self.state = match c {
                '"' => ParserState::DoubleQuoted,
                _ => ParserState::SingleQuoted,
            };
        } else if c == '\\' {
            self.state = ParserState::ValueEscape;
        } else if !is_blank(c) {
            self.state = ParserState::Value;
            self.value(c);
        }
    }

    fn value(&mut self, c: char) {
        if is_line_end(c) {
            self.assign();
        } else if c == '\\' {
            self.kept_bytes = self.value.len();
            self.state = ParserState::ValueEscape;
        } else if is_blank(c) {
            self.value.push(c);
        } else {
            if c == '#' && self.previous.is_some_and(is_blank) {
                let name = self.trimmed_name();
                self.problem(self.lines_before, ProblemKind::CommentInValue { name });
            }
            self.keep(c);
        }
    }

    fn double_quoted_escape(&mut self, c: char) {
        if matches!(c, '"' | '\\' | '`' | '$') {
            self.keep(c);
        } else if c != '\n' {
            self.keep('\\');
            self.keep(c);
        }
        self.state = ParserState::DoubleQuoted;
    }

    fn close_quote(&mut self) {
        // A backslash before the line end leaves no line end in the value: the operator meant that.
        if self.quote_line != self.lines_before && self.value.contains('\n') {
            let name = self.trimmed_name();
            self.problem(self.quote_line, ProblemKind::QuoteOverLines { name });
        }
        self.state = ParserState::BeforeValue;
    }

    fn keep(&mut self, c: char) {
        self.value.push(c);
        self.kept_bytes = self.value.len();
    }

    /// The end of the file ends a value like the end of a line.
    fn end(&mut self) {
        match self.state {
            ParserState::BeforeName | ParserState::Comment | ParserState::CommentEscape => {}
            ParserState::Name => self.no_assignment(),
            ParserState::BeforeValue | ParserState::Value | ParserState::ValueEscape => {
                self.assign();
            }
            ParserState::SingleQuoted
            | ParserState::DoubleQuoted
            | ParserState::DoubleQuotedEscape => {
                let name = self.trimmed_name();
                self.problem(self.quote_line, ProblemKind::UnclosedQuote { name });
                self.assign();
            }
        }
    }

    fn no_assignment(&mut self) {
        // systemd reads a `=` that begins a line as the first character of a name.
        let kind = match self.name.starts_with('=') {
            true => ProblemKind::BadName,
            false => ProblemKind::NoAssignment,
        };
        self.problem(self.name_line, kind);
        self.name.clear();
        self.state = ParserState::BeforeName;
    }

    fn assign(&mut self) {
        let name = self.trimmed_name();
        self.value.truncate(self.kept_bytes);
        let value = std::mem::take(&mut self.value);
        if is_name(&name) {
            if self.vars.insert(name.clone(), value).is_some() {
                self.problem(self.name_line, ProblemKind::SetAgain { name });
            }
        } else if name.starts_with("export") && name.contains(is_blank) {
            self.problem(self.name_line, ProblemKind::Export);
        } else {
            self.problem(self.name_line, ProblemKind::BadName);
        }
        self.name.clear();
        self.kept_bytes = 0;
        self.state = ParserState::BeforeName;
    }

    fn trimmed_name(&self) -> String {
        self.name.trim_end_matches(is_blank).to_owned()
    }

    fn problem(&mut self, lines_before: usize, kind: ProblemKind) {
        let line = lines_before + 1;
        self.problems.push(Problem { line, kind });
    }
}

fn is_line_end(c: char) -> bool {
    c == '\n' || c == '\r'
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t' || is_line_end(c)
}

fn is_name(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Input and result, each result seen with `load_env_file` and `strv_env_clean` of systemd 252
    /// (the continued comment alone follows 254 and later).
    const SEEN: &[(&str, &[(&str, &str)])] = &[
        ("A=1\n", &[("A", "1")]),
        ("A=1", &[("A", "1")]),
        ("A=", &[("A", "")]),
        ("A=\nB=\"\" \n", &[("A", ""), ("B", "")]),
        (" A = b \n\tB=2", &[("A", "b"), ("B", "2")]),
        ("A=b \t \r\nB=2\r\n", &[("A", "b"), ("B", "2")]),
        ("A=1\rB=2", &[("A", "1"), ("B", "2")]),
        ("A=a\tb c\n", &[("A", "a\tb c")]),
        ("A=x#y\n", &[("A", "x#y")]),
        ("A=#x\n", &[("A", "#x")]),
        ("A=1 # c\n", &[("A", "1 # c")]),
        ("A=x=y\n", &[("A", "x=y")]),
        ("A=$B ${C} `d`\n", &[("A", "$B ${C} `d`")]),
        ("A=é\n", &[("A", "é")]),
        ("# c\nA=1", &[("A", "1")]),
        ("; c\nA=1", &[("A", "1")]),
        (" # c\nA=1", &[("A", "1")]),
        ("#c\\x\nA=1", &[("A", "1")]),
        ("A\nB=1", &[("B", "1")]),
        ("A\\\n=1\nB=1", &[("B", "1")]),
        ("1A=1\nB=1", &[("B", "1")]),
        ("a-b=1\nB=1", &[("B", "1")]),
        ("A.B=1\nB=1", &[("B", "1")]),
        ("_a1=1", &[("_a1", "1")]),
        ("É=1\nB=1", &[("B", "1")]),
        ("=x\nB=1", &[("B", "1")]),
        ("export A=1\nB=2", &[("B", "2")]),
        ("A\t B=1\nB=1", &[("B", "1")]),
        ("\u{feff}A=1\nB=2", &[("B", "2")]),
        ("A=1\nA=2\n", &[("A", "2")]),
        ("A=\"x\"y\n", &[("A", "xy")]),
        ("A=\"x\" \"y\"\n", &[("A", "xy")]),
        ("A='x' \"y\"z 'w'\n", &[("A", "xyz 'w'")]),
        ("A=\"x\" # y\n", &[("A", "x# y")]),
        ("A=x'y z'\n", &[("A", "x'y z'")]),
        ("A=x \"y\"\n", &[("A", "x \"y\"")]),
        ("A='it'\\''s'\n", &[("A", "it''s'")]),
        ("A=\" x \"  \n", &[("A", " x ")]),
        ("A=''\n", &[("A", "")]),
        ("A='a\nb'\nB=2", &[("A", "a\nb"), ("B", "2")]),
        ("A='\\n\\'\n", &[("A", "\\n\\")]),
        ("A=\"\\$\\`\\\"\\\\\\n\\'\"\n", &[("A", "$`\"\\\\n\\'")]),
        ("A=\"a\\\nb\"", &[("A", "ab")]),
        ("A=\"a\\\r\nb\"\n", &[("A", "a\\\r\nb")]),
        ("A=\"x\\\\\"\nB=1", &[("A", "x\\"), ("B", "1")]),
        ("A=a\\ \n", &[("A", "a ")]),
        ("A=a\\", &[("A", "a")]),
        ("A=\\x\\\\\\\"\n", &[("A", "x\\\"")]),
        ("A= \\ x\n", &[("A", " x")]),
        ("A=a b\\  \n", &[("A", "a b ")]),
        ("A=x\\\ny\n", &[("A", "xy")]),
        ("A=x \\\n  y\n", &[("A", "x   y")]),
        ("A=x \\\n\nB=1", &[("A", "x "), ("B", "1")]),
        ("A=\\\nB=1\n", &[("A", "B=1")]),
        ("A=x\\\r\nB=1\n", &[("A", "x"), ("B", "1")]),
        ("A=\"x\"\\\ny\n", &[("A", "xy")]),
        ("A='x'\\\n  y\n", &[("A", "x  y")]),
        ("A= \"x\" \\\n \"y\"\n", &[("A", "x \"y\"")]),
        ("A=x\\\n#c\n", &[("A", "x#c")]),
        ("\\\nA=1", &[("A", "1")]),
        ("A=\"unclosed\nB=2\n", &[("A", "unclosed\nB=2\n")]),
        ("A='x\n", &[("A", "x\n")]),
        ("A=\"x\\", &[("A", "x")]),
        ("A=\"x\nB=\"1\"\nC=1\n", &[("A", "x\nB=1\""), ("C", "1")]),
        ("", &[]),
        ("# c \\\nA=1\n", &[("A", "1")]),
    ];

    #[test]
    fn every_value_is_what_systemd_makes_of_it() {
        for (text, expected) in SEEN {
            let (vars, _) = parse(text);
            let vars: Vec<(&str, &str)> = vars
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .collect();
            assert_eq!(vars, *expected, "{text:?}");
        }
    }

    #[test]
    fn what_systemd_takes_in_silence_is_told_with_its_line() {
        let name = || "A".to_owned();
        for (text, line, kind) in [
            ("\n\nwhsec_1\nB=1\n", 3, ProblemKind::NoAssignment),
            ("B=1\nA", 2, ProblemKind::NoAssignment),
            ("B=1\n1A=1\n", 2, ProblemKind::BadName),
            ("=1", 1, ProblemKind::BadName),
            ("\u{feff}A=1\n", 1, ProblemKind::BadName),
            ("B=1\r\nexport A=1\r\n", 2, ProblemKind::Export),
            (
                "\nA=\"x\nB=1\n",
                2,
                ProblemKind::UnclosedQuote { name: name() },
            ),
            (
                "\nA='x\nB=1\n",
                2,
                ProblemKind::UnclosedQuote { name: name() },
            ),
            ("A=\"x\\", 1, ProblemKind::UnclosedQuote { name: name() }),
            (
                "A=\"x\nB=\"1\"\n",
                1,
                ProblemKind::QuoteOverLines { name: name() },
            ),
            ("A='x\n'", 1, ProblemKind::QuoteOverLines { name: name() }),
            ("A=1\nB=1\nA=2\n", 3, ProblemKind::SetAgain { name: name() }),
            (
                "A=1 # one\n",
                1,
                ProblemKind::CommentInValue { name: name() },
            ),
            (
                "A = \"1\" # one",
                1,
                ProblemKind::CommentInValue { name: name() },
            ),
            ("B=1\n# c \\\nA=1\n", 2, ProblemKind::ContinuedComment),
            ("B=1\nA=\0", 2, ProblemKind::Nul),
        ] {
            let (_, problems) = parse(text);
            assert_eq!(problems, [Problem { line, kind }], "{text:?}");
        }
    }

    #[test]
    fn an_ordinary_file_has_no_problem() {
        let text = "# paidup\n; also a comment\n\nA=1\nB=\"two words\"\nC='it is #3'\nD=\n\
                    E=x#y\nF=a \\\n  b\nG=\"a\\\nb\"\n";
        let (vars, problems) = parse(text);
        assert_eq!(problems, []);
        assert_eq!(vars.len(), 7);
    }

    #[test]
    fn a_problem_shows_no_value_and_names_the_line() {
        let text = "whsec_canary\nexport whsec_canary=1\nwhsec-canary=1\nA=\"whsec_canary\nB=\n";
        let (_, problems) = parse(text);
        assert_eq!(problems.len(), 4);
        for (problem, line) in problems.iter().zip(1..) {
            let shown = problem.to_string();
            assert!(shown.starts_with(&format!("line {line}: ")), "{shown}");
            assert!(!shown.contains("canary"), "{shown}");
        }
    }

    #[test]
    fn a_file_without_a_nul_is_read_whatever_it_holds() {
        let pieces = ["A", "=", "\"", "'", "\\", "\n", "\r", " ", "#", "é"];
        for n in 0..100_000_usize {
            let text: String = (0..5)
                .map(|digit| pieces[n / pieces.len().pow(digit) % pieces.len()])
                .collect();
            let (vars, _) = parse(&text);
            assert!(vars.keys().all(|name| is_name(name)), "{text:?}");
        }
    }

    #[test]
    fn a_variable_is_set_where_it_belongs_and_every_other_byte_stays() {
        for (text, expected) in [
            ("S=a\nT=1\n", "S=x\nT=1\n"),
            ("# S\n#S=\nT=1\n", "# S\nS=x\nT=1\n"),
            ("#S=old\r\nT=1\r\n", "S=x\r\nT=1\r\n"),
            ("#SS=\nT=1", "#SS=\nT=1\nS=x\n"),
            ("", "S=x\n"),
            // The line is inside of a value.
            ("T=\"\n#S=\n\"\n", "T=\"\n#S=\n\"\nS=x\n"),
        ] {
            let changed = with_variable(text, "S", "x");
            assert_eq!(changed.as_deref(), Some(expected), "{text:?}");
        }
        // An open quote, and a line that goes on, would swallow it.
        for text in ["T=\"1\n", "T=1 \\"] {
            assert_eq!(with_variable(text, "S", "x"), None, "{text:?}");
        }
    }

    #[test]
    fn a_value_is_changed_and_every_other_byte_stays() {
        let changed = |text: &str| with_value(text, "S", "a,b");
        for (text, expected) in [
            ("S=a", "S=a,b"),
            ("# S=x\nS=a\nT=1\n", "# S=x\nS=a,b\nT=1\n"),
            ("#S=\n S =  a  \r\nT='x'\n\n", "#S=\n S =a,b\r\nT='x'\n\n"),
            ("S=\"a\"\n", "S=a,b\n"),
            ("S=1\nS=2\n# end", "S=1\nS=a,b\n# end"),
            ("SS=1\nS=a\nS_FILE=2\n", "SS=1\nS=a,b\nS_FILE=2\n"),
            (
                "S=a\nT=\"\nS=not this\n\"\n",
                "S=a,b\nT=\"\nS=not this\n\"\n",
            ),
            ("S=a\nT=1 \\\nS=not this\n", "S=a,b\nT=1 \\\nS=not this\n"),
            ("no assignment\nS=a\n", "no assignment\nS=a,b\n"),
        ] {
            assert_eq!(changed(text).as_deref(), Some(expected), "{text:?}");
        }
        for text in [
            "",
            "T=1\n",
            "#S=a\n",
            "S=a \\\nmore\n",
            "S=\"a\nb\"\n",
            "export S=a\n",
            "T=\0\nS=a\n",
        ] {
            assert_eq!(changed(text), None, "{text:?}");
        }
    }
}
