//! A disk that fails as a test wants it: `disk.c`, preloaded into the process, stands between SQLite
//! and the kernel. It counts the calls on the database's files and lets one of them fail.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::Setup;

/// Kinds of calls, the same numbers as in `disk.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Write = 1,
    Sync,
    SyncFolder,
    Read,
    Truncate,
    Open,
    Unlink,
    Map,
}

/// What happens at the call that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// EIO: the disk is broken.
    Broken = 5,
    /// EMFILE: no descriptor is left.
    NoDescriptor = 24,
    /// EFBIG: a limit on the size of files is reached.
    TooLarge = 27,
    /// ENOSPC: the disk is full.
    Full = 28,
    /// EDQUOT: a quota is used up.
    Quota = 122,
    /// Half of it is written; if the fault lasts, the disk is full from there on.
    Half = 1000,
    /// The process is killed before the call.
    Kill = 1001,
    /// The process is killed when half of it is written.
    HalfAndKill = 1002,
}

/// Which calls fail, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) call: Call,
    pub(crate) effect: Effect,
    /// All calls of the kind from there on, not one alone.
    pub(crate) lasts: bool,
}

/// Something that happened to a file, which is named by its place in [`ENDINGS`], or to a client.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write(usize, usize, Vec<u8>),
    Truncate(usize, usize),
    Sync(usize),
    Make(usize),
    Unlink(usize),
    Rename(usize, usize),
    SyncFolder,
    /// About to be sent.
    Answer(String),
    /// A part of a message to the shop, about to be sent.
    Message(String),
}

/// What follows the database's name.
pub(crate) const ENDINGS: [&str; 4] = ["", "-wal", "-journal", ".new"];

// The numbers of `disk.c`.
const FOLDER: usize = 5;
const WRITE: usize = 1;
const SYNC: usize = 2;
const TRUNCATE: usize = 5;
const MADE: usize = 6;
const UNLINK: usize = 7;
const ANSWER: usize = 21;
const RENAME: usize = 22;
const MESSAGE: usize = 23;

/// The disk of one setup.
pub(crate) struct Disk {
    control: File,
    record: Option<PathBuf>,
}

impl Disk {
    /// Puts a disk under the service. `record` says whether it writes down what happens to it.
    pub(crate) fn under(setup: Setup, record: bool) -> (Disk, Setup) {
        let folder = fs::canonicalize(setup.folder()).unwrap();
        let path = folder.join("disk");
        fs::write(&path, [0; WORDS * 4]).unwrap();
        let control = File::options().read(true).write(true).open(&path).unwrap();
        let record = record.then(|| folder.join("record"));
        let mut setup = setup
            .set("LD_PRELOAD", library().to_str().unwrap())
            .set("DISK", path.to_str().unwrap())
            .set("DATABASE_PATH", folder.join("paidup.db").to_str().unwrap());
        if let Some(record) = &record {
            setup = setup.set("DISK_RECORD", record.to_str().unwrap());
        }
        (Disk { control, record }, setup)
    }

    /// The call number `at` from now on, the first one being 1, meets the fault.
    pub(crate) fn arm(&self, fault: Fault, at: u32) {
        let words = [
            fault.call as u32,
            fault.effect as u32,
            at,
            u32::from(fault.lasts),
            0,
        ];
        self.write(words);
    }

    /// All is well again. Returns how many calls of the kind there were since it was armed.
    pub(crate) fn heal(&self) -> u32 {
        let mut seen = [0; 4];
        self.control.read_exact_at(&mut seen, 16).unwrap();
        self.write([0; WORDS]);
        u32::from_ne_bytes(seen)
    }

    /// What happened to the files so far, in its order.
    pub(crate) fn recorded(&self) -> Vec<Step> {
        let bytes = fs::read(self.record.as_ref().unwrap()).unwrap();
        let mut rest = bytes.as_slice();
        let mut steps = Vec::new();
        while let Some((head, after)) = rest.split_at_checked(32) {
            let number = |place: usize| {
                u64::from_ne_bytes(head[place * 8..place * 8 + 8].try_into().unwrap()) as usize
            };
            let (what, file, offset, length) = (number(0), number(1), number(2), number(3));
            let has_bytes = matches!(what, WRITE | ANSWER | MESSAGE);
            let (bytes, after) = after.split_at(if has_bytes { length } else { 0 });
            steps.push(match what {
                WRITE => Step::Write(file, offset, bytes.to_vec()),
                SYNC if file == FOLDER => Step::SyncFolder,
                SYNC => Step::Sync(file),
                TRUNCATE => Step::Truncate(file, offset),
                MADE => Step::Make(file),
                UNLINK => Step::Unlink(file),
                RENAME => Step::Rename(file, offset),
                ANSWER => Step::Answer(String::from_utf8(bytes.to_vec()).unwrap()),
                MESSAGE => Step::Message(String::from_utf8(bytes.to_vec()).unwrap()),
                _ => panic!("a step of kind {what}"),
            });
            rest = after;
        }
        steps
    }

    fn write(&self, words: [u32; WORDS]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.control.write_all_at(&bytes, 0).unwrap();
    }
}

/// Numbers that are shared with the library.
const WORDS: usize = 5;

/// Compiled once, by the compiler that SQLite needs as well.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("disk.so");
        let new = library.with_extension(std::process::id().to_string());
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/disk/disk.c");
        let output = Command::new("cc")
            .args([
                "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o",
            ])
            .args([&new, Path::new(source)])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        fs::rename(new, &library).unwrap();
        library
    })
}
