//! Writes log lines to standard output.

use std::io::Write;

use log::Level;

use crate::clock;
use crate::domain::log_line::{LogFields, Message, render};

/// Writes one line; one that cannot be written is lost.
pub fn write(level: Level, message: Message, fields: &LogFields) {
    let time = clock::unix_millis().to_string();
    let line = render(level, &time, message, fields);
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
