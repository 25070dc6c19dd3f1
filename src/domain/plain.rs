//! Text from outside, made fit for a terminal.
//!
//! An order id is any text, and an answer may come from any server. Written raw, it could move the
//! cursor, change the title or turn the reading direction, and so show an operator another story.

/// The text, with everything that steers a terminal or hides in one written as `\u{…}`.
#[must_use]
pub fn text(text: &str) -> String {
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

/// Rendered JSON, with what JSON itself lets pass (DEL, the C1 controls, bidirectional marks)
/// written as `\uXXXX`. A compact document has such characters only inside its texts.
#[must_use]
pub fn json(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for c in json.chars() {
        if steers(c) {
            plain.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Controls, line and paragraph separators, zero-width and bidirectional marks. All of them are
/// below U+10000, so four hex digits are enough in JSON.
fn steers(c: char) -> bool {
    let marks = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}');
    c.is_control() || marks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_spelled_out() {
        assert_eq!(text("ord_1001 Ünï #7"), "ord_1001 Ünï #7");
        assert_eq!(text("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(text("\u{9b}31m\r\n\u{7f}"), "\\u{9b}31m\\u{d}\\u{a}\\u{7f}");
        assert_eq!(text("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn json_stays_the_same_document() {
        let id = "a\u{1b}\u{7f}\u{9b}\u{202e}é\"\\";
        let plain = json(&serde_json::Value::from(id).to_string());
        assert!(!plain.chars().any(steers), "{plain}");
        assert_eq!(serde_json::from_str::<String>(&plain).unwrap(), id);
    }
}
