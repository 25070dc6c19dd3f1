//! Rows for spreadsheets: RFC 4180, and no text from outside becomes a formula.

use std::io::{self, Write};

use crate::base::plain;

/// Writes one row.
pub(crate) fn write_row(cells: &[&str], out: &mut dyn Write) -> io::Result<()> {
    let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
    write!(out, "{}\r\n", cells.join(","))
}

/// Text from outside: what a spreadsheet would take for a formula begins with an apostrophe.
/// <https://owasp.org/www-community/attacks/CSV_Injection>
pub(crate) fn text(text: &str) -> String {
    const BEGINNINGS: &[char] = &['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];
    // Some skip what is blank.
    let is_formula = text.trim_start().starts_with(BEGINNINGS) || text.starts_with(BEGINNINGS);
    let apostrophe = if is_formula { "'" } else { "" };
    format!("{apostrophe}{}", plain::text(text))
}

fn quoted(cell: &str) -> String {
    let is_plain = !cell.contains(['"', ',', '\r', '\n']) && cell.trim() == cell;
    match is_plain {
        true => cell.to_owned(),
        false => format!("\"{}\"", cell.replace('"', "\"\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_meant() {
        let written = |cells: &[&str]| {
            let mut out = Vec::new();
            write_row(cells, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(&["a", "", "b c"]), "a,,b c\r\n");
        assert_eq!(
            written(&["a,b", "say \"x\"", " a"]),
            "\"a,b\",\"say \"\"x\"\"\",\" a\"\r\n"
        );
        assert_eq!(written(&["a\r\nb"]), "\"a\r\nb\"\r\n");
    }

    #[test]
    fn no_text_is_a_formula() {
        for (from_outside, expected) in [
            ("ord_1", "ord_1"),
            ("a=b-c", "a=b-c"),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-2", "'-2"),
            ("@SUM(A1)", "'@SUM(A1)"),
            (" =1", "' =1"),
            ("\t=1", "'\\u{9}=1"),
            ("\r=1", "'\\u{d}=1"),
            ("＝1", "'＝1"),
        ] {
            assert_eq!(text(from_outside), expected);
        }
    }
}
