//! The power goes at any moment. What was synced is there; of what was not, nothing, all or any part
//! reached the disk. Whatever was answered 200 before is in the file that the next start finds.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use paidup::store::Store;

use crate::disk::{Disk, ENDINGS, Step};
use crate::harness::{Setup, paid};

/// Enough that the log is moved into the file more than once.
const DELIVERIES: usize = 700;
/// Moments at which the power goes, each with three disks.
const CUTS: u64 = 1_000;

#[test]
fn after_a_power_cut_every_delivery_that_was_acknowledged_is_there() {
    let (disk, setup) = Disk::under(Setup::new().set("ADMIN_ADDR", "off"), true);
    let mut service = setup.start();
    for number in 0..DELIVERIES {
        service.accepts(paid(&number.to_string()), "applied");
    }
    service.kill();
    let steps = disk.recorded();
    let folder = tempfile::tempdir().unwrap();

    let mut chance = Chance(7);
    let mut moments: BTreeSet<usize> = (0..CUTS).map(|_| chance.below(steps.len())).collect();
    // The beginning has most of what happens once.
    moments.extend(0..200);
    let mut files = Files::default();
    let mut answered: Vec<String> = Vec::new();
    let mut tried = 0;
    for (moment, step) in steps.iter().enumerate() {
        if moments.contains(&moment) {
            for reached in [Reached::Nothing, Reached::All, Reached::Any] {
                files.leave_in(folder.path(), reached, &mut chance);
                holds(
                    folder.path(),
                    &answered,
                    &format!("{reached:?} at step {moment}"),
                );
                tried += 1;
            }
        }
        if let Step::Answer(answer) = step {
            answered.push(request_id(answer));
        }
        files.take(step);
    }
    assert_eq!(answered.len(), DELIVERIES);
    let moved = steps
        .iter()
        .filter(|step| matches!(step, Step::Sync(0)))
        .count();
    assert!(
        moved >= 3,
        "the log was moved into the file only {moved} times"
    );
    eprintln!(
        "{tried} disks after {} steps, {moved} syncs of the file",
        steps.len()
    );
}

/// The next start finds a whole database with all that was acknowledged.
fn holds(folder: &Path, answered: &[String], case: &str) {
    let database = folder.join("paidup.db");
    let store = Store::open(&database).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(store.damage().unwrap(), [""; 0], "{case}");
    let stored: BTreeSet<String> = store
        .events(None, u32::MAX)
        .unwrap()
        .into_iter()
        .filter_map(|event| event.request_id)
        .collect();
    let lost: Vec<_> = answered.iter().filter(|id| !stored.contains(*id)).collect();
    assert!(lost.is_empty(), "{case}: {lost:?}");
}

fn request_id(answer: &str) -> String {
    let (_, rest) = answer.split_once("x-request-id: ").unwrap();
    rest.split("\r\n").next().unwrap().to_owned()
}

/// What of the unsynced changes the disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    Nothing,
    All,
    /// Any of them, and of the last one any sectors.
    Any,
}

/// The smallest part that a disk writes whole.
const SECTOR: usize = 512;

#[derive(Clone, Default)]
struct Content {
    synced: Vec<u8>,
    since: Vec<Step>,
}

/// Files by number, and their names as the folder has them now and as it was last synced.
#[derive(Default)]
pub(crate) struct Files {
    contents: Vec<Content>,
    names: [Option<usize>; ENDINGS.len()],
    synced_names: [Option<usize>; ENDINGS.len()],
}

impl Files {
    pub(crate) fn take(&mut self, step: &Step) {
        match step {
            Step::Make(file) => {
                self.names[*file] = Some(self.contents.len());
                self.contents.push(Content::default());
            }
            Step::Unlink(file) => self.names[*file] = None,
            Step::Rename(from, to) => self.names[*to] = self.names[*from].take(),
            Step::SyncFolder => self.synced_names = self.names,
            Step::Sync(file) => {
                let content = self.content(*file);
                for change in std::mem::take(&mut content.since) {
                    apply(&mut content.synced, &change);
                }
            }
            Step::Write(file, ..) | Step::Truncate(file, _) => {
                self.content(*file).since.push(step.clone());
            }
            Step::Answer(_) | Step::Message(_) => {}
        }
    }

    fn content(&mut self, file: usize) -> &mut Content {
        &mut self.contents[self.names[file].unwrap()]
    }

    pub(crate) fn leave_in(&self, folder: &Path, reached: Reached, chance: &mut Chance) {
        for file in fs::read_dir(folder).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        let names = match reached {
            Reached::Nothing => self.synced_names,
            Reached::All => self.names,
            Reached::Any if chance.is_heads() => self.names,
            Reached::Any => self.synced_names,
        };
        for (ending, number) in ENDINGS.iter().zip(names) {
            let Some(number) = number else { continue };
            let content = &self.contents[number];
            let mut bytes = content.synced.clone();
            for change in &content.since {
                match reached {
                    Reached::Nothing => {}
                    Reached::All => apply(&mut bytes, change),
                    Reached::Any if chance.below(4) == 0 => tear(&mut bytes, change, chance),
                    Reached::Any if chance.is_heads() => apply(&mut bytes, change),
                    Reached::Any => {}
                }
            }
            fs::write(folder.join(format!("paidup.db{ending}")), bytes).unwrap();
        }
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Step) {
    match change {
        Step::Write(_, offset, written) => {
            let end = offset + written.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[*offset..end].copy_from_slice(written);
        }
        Step::Truncate(_, length) => bytes.resize(*length, 0),
        Step::Sync(_)
        | Step::Make(_)
        | Step::Unlink(_)
        | Step::Rename(..)
        | Step::SyncFolder
        | Step::Answer(_)
        | Step::Message(_) => {}
    }
}

/// Some sectors of what was written, not all.
fn tear(bytes: &mut Vec<u8>, change: &Step, chance: &mut Chance) {
    let Step::Write(file, offset, written) = change else {
        return apply(bytes, change);
    };
    for (number, sector) in written.chunks(SECTOR).enumerate() {
        if chance.is_heads() {
            let at = offset + number * SECTOR;
            apply(bytes, &Step::Write(*file, at, sector.to_vec()));
        }
    }
}

/// The same numbers at each run (<https://en.wikipedia.org/wiki/Xorshift>).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }

    fn is_heads(&mut self) -> bool {
        self.next() >> 40 & 1 == 1
    }
}
