//! The only way to log: one JSON line per record on stdout, which the service manager keeps.
//!
//! Nothing else in the process writes there. Records of other crates are dropped, because those
//! crates do not know our allow-list, and `RUST_LOG` is not read, because during an incident
//! someone will set it. A panic logs its place, never its message.
//!
//! Logging never blocks. Lines queue up and one thread writes them, so a reader that stands still, or
//! has gone, holds up that thread alone. Lines that do not fit into the queue are dropped and counted,
//! and the next line that gets out says how many. Lines about a 429 are dropped last: there should be
//! exactly one for each.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::panic::{self, PanicHookInfo};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use env_logger::{Builder, Target};
use log::LevelFilter;

use crate::base::log_line::{self, ErrorCode, LogFields, Message};
use crate::base::time;
use crate::host::clock::{self, Now};

/// Marks a record as ours.
const TARGET: &str = "paidup::host::logger";
/// Marks one that others make room for.
const TARGET_LAST_TO_GO: &str = "paidup::host::logger::last_to_go";

/// Most bytes that may wait: some twenty thousand lines, for a burst during a stall.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// About how many bytes are written at once.
const BATCH_BYTES: usize = 32 * 1024;
/// How long the first line of a burst waits for more: waking the thread for each would cost the caller
/// more than writing it.
const GATHER_PAUSE: Duration = Duration::from_millis(10);
/// Pause before a refused write is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// While lines wait, a reader may stand still for this long before the log counts as stalled.
const STALLED_AFTER: Duration = Duration::from_secs(5);
/// How long an ending process waits for its last lines to get out.
pub const END_PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks.
const LOOK_PAUSE: Duration = Duration::from_millis(1);

static QUEUE: Mutex<LogQueue> = Mutex::new(LogQueue::new());
/// The thread that writes.
static WRITER: OnceLock<Thread> = OnceLock::new();
/// Called when the reader has gone.
static ON_LOST: OnceLock<Box<dyn Fn() + Send + Sync>> = OnceLock::new();

/// Opens the log for lines of `level` and above, and makes panics write one. Later calls change
/// nothing.
///
/// # Errors
/// The operating system refuses a thread.
pub fn start(level: LevelFilter) -> io::Result<()> {
    // Not `Stdout`: a thread that waits for the reader would hold its lock, and the process could not
    // end. If stdout cannot be duplicated, there is none.
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    let sink: Box<dyn Write + Send> = match stdout {
        Ok(stdout) => Box::new(File::from(stdout)),
        Err(_) => Box::new(io::sink()),
    };
    start_into(level, sink)
}

/// As [`start`], with `sink` instead of stdout: for a program that shows the log itself.
///
/// # Errors
/// As [`start`].
pub(crate) fn start_into(level: LevelFilter, sink: Box<dyn Write + Send>) -> io::Result<()> {
    let opened = Builder::new()
        .filter_module(TARGET, level)
        // `format` below queues the line and writes nothing here.
        .target(Target::Pipe(Box::new(io::sink())))
        .format(|_, record| {
            let is_last_to_go = record.target() == TARGET_LAST_TO_GO;
            queue_up(format!("{}\n", record.args()), is_last_to_go);
            Ok(())
        })
        .try_init();
    if opened.is_err() {
        return Ok(());
    }
    let writer = thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write_out(sink))?;
    let _ = WRITER.set(writer.thread().clone());
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Writes one line.
pub fn write(message: Message, fields: &LogFields) {
    write_all(&[(message, fields)]);
}

/// Writes several lines with the same time, and no other thread's line between them.
#[expect(
    clippy::disallowed_macros,
    reason = "log lines are written here and nowhere else"
)]
pub fn write_all<F: Borrow<LogFields>>(lines: &[(Message, F)]) {
    let shown = || {
        let shown = |(message, _): &&(Message, F)| message.level() <= log::max_level();
        lines.iter().filter(shown)
    };
    let Some(most_severe) = shown().map(|(message, _)| message.level()).min() else {
        return;
    };
    let time = time::rfc3339_millis(clock::unix_millis());
    let rendered: Vec<String> = shown()
        .map(|(message, fields)| log_line::render(&time, *message, fields.borrow()))
        .collect();
    let is_a_429 = |(message, _): &(Message, F)| *message == Message::RateLimited;
    let target = match lines.iter().any(is_a_429) {
        true => TARGET_LAST_TO_GO,
        false => TARGET,
    };
    log::log!(target: target, most_severe, "{}", rendered.join("\n"));
}

/// Waits until every line is out, but no longer than `patience`, nor for a reader that has gone.
pub fn flush(patience: Duration) {
    let start = Now::read().instant;
    loop {
        let queue = lock();
        if queue.waits_since.is_none() || queue.is_lost || start.elapsed() >= patience {
            return;
        }
        drop(queue);
        thread::sleep(LOOK_PAUSE);
    }
}

/// For how long the reader has stood still, if that is longer than a busy one would.
#[must_use]
pub(crate) fn stalled_for() -> Option<Duration> {
    let stall = lock().waits_since?.elapsed();
    (stall >= STALLED_AFTER).then_some(stall)
}

/// Lines that were dropped so far.
#[must_use]
pub(crate) fn dropped() -> u64 {
    lock().dropped
}

/// Calls `tell` when the reader has gone: only another process can get a new one. Later calls change
/// nothing.
pub(crate) fn when_lost(tell: impl Fn() + Send + Sync + 'static) {
    let _ = ON_LOST.set(Box::new(tell));
    if lock().is_lost {
        tell_lost();
    }
}

/// A record, and whether others make room for it.
struct Entry {
    text: String,
    is_last_to_go: bool,
}

/// What waits for the thread that writes.
struct LogQueue {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Since when lines have been waiting without progress.
    waits_since: Option<Instant>,
    dropped: u64,
    /// How many of those a line has reported.
    told: u64,
    /// The last write failed because the reader has gone.
    is_lost: bool,
}

impl LogQueue {
    const fn new() -> LogQueue {
        LogQueue {
            entries: VecDeque::new(),
            bytes: 0,
            waits_since: None,
            dropped: 0,
            told: 0,
            is_lost: false,
        }
    }

    fn push(&mut self, entry: Entry, now: Instant) {
        self.waits_since.get_or_insert(now);
        while entry.is_last_to_go && self.bytes + entry.text.len() > QUEUE_BYTES {
            let newest_other = self.entries.iter().rposition(|it| !it.is_last_to_go);
            match newest_other.and_then(|index| self.entries.remove(index)) {
                Some(other) => {
                    self.bytes -= other.text.len();
                    self.drop(&other);
                }
                None => break,
            }
        }
        if self.bytes + entry.text.len() > QUEUE_BYTES {
            return self.drop(&entry);
        }
        self.bytes += entry.text.len();
        self.entries.push_back(entry);
    }

    fn drop(&mut self, entry: &Entry) {
        let lines = entry.text.lines().count();
        self.dropped += u64::try_from(lines).unwrap_or(u64::MAX);
    }

    /// Fills `batch` with the next lines, if there are any; one about dropped lines comes first. The
    /// call says that the batch before is out.
    fn take(&mut self, batch: &mut Vec<u8>, now: Instant) {
        batch.clear();
        if self.dropped > self.told {
            batch.extend_from_slice(dropped_line(self.dropped - self.told).as_bytes());
            self.told = self.dropped;
        }
        while batch.len() < BATCH_BYTES
            && let Some(entry) = self.entries.pop_front()
        {
            self.bytes -= entry.text.len();
            batch.extend_from_slice(entry.text.as_bytes());
        }
        self.waits_since = (!batch.is_empty()).then_some(now);
    }
}

/// It is written whatever the level, because it stands for a hole in the log.
fn dropped_line(count: u64) -> String {
    let fields = LogFields {
        error_code: Some(ErrorCode::LinesDropped(count)),
        ..LogFields::default()
    };
    let time = time::rfc3339_millis(clock::unix_millis());
    log_line::render(&time, Message::LinesDropped, &fields) + "\n"
}

fn queue_up(text: String, is_last_to_go: bool) {
    let entry = Entry {
        text,
        is_last_to_go,
    };
    lock().push(entry, Now::read().instant);
    if let Some(writer) = WRITER.get() {
        writer.unpark();
    }
}

/// The thread that writes. No error ends it.
fn write_out(mut sink: Box<dyn Write + Send>) {
    let mut batch = Vec::new();
    loop {
        lock().take(&mut batch, Now::read().instant);
        if batch.is_empty() {
            thread::park();
            thread::sleep(GATHER_PAUSE);
        } else {
            write_batch(&mut sink, &batch);
        }
    }
}

/// Tries until everything is out: an error is another way for a reader to stand still, and most errors
/// pass, as a full disk does.
fn write_batch(sink: &mut dyn Write, mut rest: &[u8]) {
    while !rest.is_empty() {
        match sink.write(rest) {
            Ok(count @ 1..) => {
                rest = rest.get(count..).unwrap_or_default();
                let mut queue = lock();
                queue.waits_since = Some(Now::read().instant);
                queue.is_lost = false;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            refused => {
                let is_lost = refused.is_err_and(|error| is_lost(&error));
                if is_lost && !std::mem::replace(&mut lock().is_lost, true) {
                    tell_lost();
                }
                thread::sleep(RETRY_PAUSE);
            }
        }
    }
}

/// Whether nobody reads any more.
fn is_lost(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionRefused | ConnectionReset | NotConnected
    )
}

fn tell_lost() {
    if let Some(tell) = ON_LOST.get() {
        tell();
    }
}

fn lock() -> MutexGuard<'static, LogQueue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
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
    write(Message::Panicked, &fields);
    // A panic of the main thread ends the process.
    if thread::current().name() == Some("main") {
        flush(END_PATIENCE);
    }
}

/// `file`, for as long as the process lives. It is leaked once, and there are only as many as the
/// program has source files.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &mut LogQueue, text: &str, is_last_to_go: bool) {
        let entry = Entry {
            text: text.to_owned(),
            is_last_to_go,
        };
        queue.push(entry, Now::read().instant);
    }

    fn taken(queue: &mut LogQueue) -> String {
        let mut batch = Vec::new();
        queue.take(&mut batch, Now::read().instant);
        String::from_utf8(batch).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_one_line_says_how_many() {
        let mut queue = LogQueue::new();
        let line = "x".repeat(QUEUE_BYTES / 4 - 1) + "\n";
        for _ in 0..6 {
            push(&mut queue, &line, false);
        }
        push(&mut queue, &format!("a\nb\n{line}"), false);
        assert_eq!((queue.bytes, queue.dropped), (QUEUE_BYTES, 5));
        let first = taken(&mut queue);
        assert!(first.contains(r#""errorCode":"lines_dropped_5""#));
        for _ in 0..3 {
            assert_eq!(taken(&mut queue), line);
            assert!(queue.waits_since.is_some());
        }
        assert_eq!(taken(&mut queue), "");
        assert_eq!((queue.bytes, queue.waits_since), (0, None));
    }

    #[test]
    fn a_429s_line_goes_when_nothing_but_its_like_is_left() {
        let mut queue = LogQueue::new();
        let line = |mark: &str| mark.repeat(QUEUE_BYTES / 4 - 1) + "\n";
        for mark in ["a", "b", "c", "d"] {
            push(&mut queue, &line(mark), mark == "b");
        }
        for mark in ["1", "2", "3", "4"] {
            push(&mut queue, &line(mark), true);
        }
        push(&mut queue, &line("e"), false);
        let left: Vec<_> = queue.entries.iter().map(|it| &it.text[..1]).collect();
        assert_eq!(left, ["b", "1", "2", "3"]);
        assert_eq!((queue.bytes, queue.dropped), (QUEUE_BYTES, 5));
    }
}
