//! Makes text from outside safe to show in a terminal.
//!
//! An order id is any text, and an answer may come from any server. Written raw, it could move the
//! cursor, change the title or reverse the reading direction, and so mislead an operator.

use std::ops::RangeInclusive;

/// The text, with every character that controls a terminal or is invisible in one as `\u{…}`.
#[must_use]
pub(crate) fn text(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            plain.extend(c.escape_unicode());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// The text as one word of a shell's command line.
#[must_use]
pub(crate) fn word(word: &str) -> String {
    let word = text(word);
    let is_plain = |c: char| c.is_alphanumeric() || "_-./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// Rendered JSON, with the characters that JSON itself allows (DEL, C1 controls, invisible ones)
/// written as `\uXXXX`. A compact document has them only inside its strings.
#[must_use]
pub fn json(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for c in json.chars() {
        if steers(c) {
            // Beyond U+FFFF, JSON needs two.
            for unit in c.encode_utf16(&mut [0; 2]) {
                plain.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Control characters, and those that a terminal does not show: line and paragraph separators, format
/// characters (Cf) and default-ignorable code points, reserved ones included:
/// <https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt>.
fn steers(c: char) -> bool {
    c.is_control() || UNSEEN.iter().any(|range| range.contains(&c))
}

const UNSEEN: [RangeInclusive<char>; 25] = [
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_spelled_out() {
        assert_eq!(text("ord_1001 Ünï #7"), "ord_1001 Ünï #7");
        assert_eq!(text("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(text("\u{9b}31m\r\n\u{7f}"), "\\u{9b}31m\\u{d}\\u{a}\\u{7f}");
        assert_eq!(text("a\u{202e}b"), "a\\u{202e}b");
        for unseen in
            "\u{e0041}\u{180e}\u{fff9}\u{fffa}\u{fffb}\u{3164}\u{115f}\u{fe0f}\u{1d173}\u{e01ef}"
                .chars()
        {
            let hex = u32::from(unseen);
            assert_eq!(
                text(&format!("ord{unseen}_1")),
                format!("ord\\u{{{hex:x}}}_1")
            );
        }
        // Names of the world stay as they are, with the marks that belong to their letters.
        let seen = "e\u{301} हिन्दी ภาษา 한국어 日本 عربي 🛒";
        assert_eq!(text(seen), seen);
    }

    #[test]
    fn json_stays_the_same_document() {
        let id = "a\u{1b}\u{7f}\u{9b}\u{202e}\u{3164}\u{e0041}é\"\\";
        let plain = json(&serde_json::Value::from(id).to_string());
        assert!(!plain.chars().any(steers), "{plain}");
        assert_eq!(serde_json::from_str::<String>(&plain).unwrap(), id);
    }
}
