//! The only way to log: one JSON line a record on stdout, which the service manager keeps.
//!
//! Nothing else in the process writes there. Records of other crates are dropped, because those
//! crates do not know our allow-list, and `RUST_LOG` is not read, because during an incident
//! someone will set it. A panic says where it was and nothing of what it said.
//!
//! A stdout that is closed or full costs the line, never the request: `env_logger` drops the error.

use std::io::Write;
use std::panic::{self, PanicHookInfo};
use std::sync::{Mutex, PoisonError};

use env_logger::{Builder, Target};
use log::{Level, LevelFilter};

use crate::clock;
use crate::domain::log_line::{self, ErrorCode, LogFields, Message};
use crate::domain::time;

/// What marks a record as ours.
const TARGET: &str = "paidup::logger";

/// Opens the log for lines of `level` and above, and makes panics write one. Later calls change
/// nothing.
pub fn start(level: LevelFilter) {
    open(level, Target::Stdout);
}

/// As [`start`], with `sink` in the place of stdout: for a program that shows what the log says.
pub fn start_into(level: LevelFilter, sink: Box<dyn Write + Send>) {
    open(level, Target::Pipe(sink));
}

fn open(level: LevelFilter, target: Target) {
    let opened = Builder::new()
        .filter_module(TARGET, level)
        .target(target)
        .format(|line, record| writeln!(line, "{}", record.args()))
        .try_init();
    if opened.is_ok() {
        panic::set_hook(Box::new(log_panic));
    }
}

/// Writes one line.
pub fn write(level: Level, message: Message, fields: &LogFields) {
    write_all(&[(level, message, fields)]);
}

/// Writes several lines with one call of the operating system and one time, so that no other
/// thread's line comes between.
#[expect(
    clippy::disallowed_macros,
    reason = "this is the door that log lines leave by"
)]
pub fn write_all(lines: &[(Level, Message, &LogFields)]) {
    let shown = |level: &Level| *level <= log::max_level();
    let Some(most_severe) = lines.iter().map(|(level, ..)| *level).filter(shown).min() else {
        return;
    };
    let time = time::rfc3339_millis(clock::unix_millis());
    let rendered: Vec<String> = lines
        .iter()
        .filter(|(level, ..)| shown(level))
        .map(|(level, message, fields)| log_line::render(*level, &time, *message, fields))
        .collect();
    log::log!(target: TARGET, most_severe, "{}", rendered.join("\n"));
}

/// A panic's message may hold data, so only its place is logged.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let error_code = panic
        .location()
        .map(|place| ErrorCode::At(lasting(place.file()), place.line()));
    let fields = LogFields {
        error_code,
        ..LogFields::default()
    };
    write(Level::Error, Message::Panicked, &fields);
}

/// `file` for as long as the process lives. Only the files that the program was built from can
/// panic, and each is kept once, so this cannot grow without end.
fn lasting(file: &str) -> &'static str {
    static FILES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = files.iter().find(|known| **known == file) {
        return known;
    }
    let kept: &'static str = Box::leak(file.into());
    files.push(kept);
    kept
}
