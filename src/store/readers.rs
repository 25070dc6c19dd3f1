//! Which processes read or write a database now, of whatever program.
//!
//! A reader holds a lock on one of five bytes of the `-shm` file while it reads, a writer on another one
//! (<https://www.sqlite.org/walformat.html#wal_locks>), and the kernel lists all locks with their
//! processes in `/proc/locks`. The file itself is not opened: closing it again would drop the locks
//! that this process has on it.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::base::plain;
use crate::host::files;

/// The bytes, as text in `/proc/locks`.
const READ_LOCKS: [&str; 5] = ["123", "124", "125", "126", "127"];
const WRITE_LOCK: [&str; 1] = ["120"];
/// A busy server reads or writes at most of these looks, but not at all of them.
const LOOKS: usize = 4;
const PAUSE: Duration = Duration::from_millis(25);

/// A process of any program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    /// Its number; 0 or less when it runs in another container.
    pub pid: i32,
    /// Its program, as far as this user may see it.
    pub program: Option<String>,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.program {
            Some(program) => write!(f, "{program} (process {})", self.pid),
            None => write!(f, "process {}", self.pid),
        }
    }
}

/// The other processes that keep reading the database.
///
/// # Errors
/// The locks cannot be seen from here, as in a sandbox.
pub(crate) fn readers(database: &Path) -> io::Result<Vec<Process>> {
    holders(database, &READ_LOCKS)
}

/// The process that keeps others from writing, if one does.
pub(crate) fn writer(database: &Path) -> Option<Process> {
    holders(database, &WRITE_LOCK).ok()?.pop()
}

fn holders(database: &Path, bytes: &[&str]) -> io::Result<Vec<Process>> {
    let shared = fs::metadata(files::beside(database, "-shm"))?;
    let device = shared.dev();
    let file = format!(
        "{:02x}:{:02x}:{}",
        rustix::fs::major(device),
        rustix::fs::minor(device),
        shared.ino()
    );
    let mut pids = pids_on(&file, bytes, &fs::read_to_string("/proc/locks")?);
    for _ in 1..LOOKS {
        if pids.is_empty() {
            break;
        }
        thread::sleep(PAUSE);
        let now = pids_on(&file, bytes, &fs::read_to_string("/proc/locks")?);
        pids.retain(|pid| now.contains(pid));
    }
    let named = |pid| {
        let program = fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        let program = program.map(|program| plain::text(program.trim_end()));
        Process { pid, program }
    };
    Ok(pids.into_iter().map(named).collect())
}

/// From lines such as `1: POSIX  ADVISORY  READ 2311 fe:01:1234567 124 124`.
fn pids_on(file: &str, bytes: &[&str], locks: &str) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let mut pids: Vec<i32> = locks
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(4);
            let pid = words.next()?.parse().ok()?;
            let is_on_it = words.next()? == file && bytes.contains(&words.next()?);
            (is_on_it && pid != own).then_some(pid)
        })
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_told_by_its_lock_on_the_shared_file() {
        let locks = "1: POSIX  ADVISORY  READ 2311 fe:01:77 124 124\n\
                     2: POSIX  ADVISORY  WRITE 2312 fe:01:77 120 120\n\
                     3: POSIX  ADVISORY  READ 2313 fe:01:78 124 124\n\
                     4: FLOCK  ADVISORY  WRITE 2314 fe:01:77 0 EOF\n\
                     5: POSIX  ADVISORY  READ 2311 fe:01:77 127 127\n\
                     5: -> POSIX  ADVISORY  READ 2315 fe:01:77 127 127\n\
                     6: POSIX  ADVISORY  READ 0 fe:01:77 126 126\n\
                     not a line of ours\n";
        assert_eq!(pids_on("fe:01:77", &READ_LOCKS, locks), [0, 2311]);
        assert_eq!(pids_on("fe:01:77", &WRITE_LOCK, locks), [2312]);
    }
}
