//! Root acts on a path as the path's owner.
//!
//! A folder's owner may plant links in it under the names of our files, and root would follow them
//! elsewhere: it would give a lock to another owner, or replace a key file by a backup. As the
//! folder's owner, root can do no more than that user could, and the kernel enforces it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::thread;

use rustix::process::geteuid;
use rustix::thread::{Gid, Uid, set_thread_gid, set_thread_groups, set_thread_uid};

/// As many links as the kernel follows: <https://man7.org/linux/man-pages/man7/path_resolution.7.html>.
const LINKS_MAX: usize = 40;

/// Switches this thread, and all that it starts, from root to the owner of `path`, for good. Changes
/// nothing for users other than root, or where only root can write.
///
/// # Errors
/// The operating system's; then do nothing there.
pub fn take(path: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let Some((uid, gid)) = owner_of(path)? else {
        return Ok(());
    };
    // In this order: after the last call, the first ones would not be allowed.
    set_thread_groups(&[])?;
    set_thread_gid(Gid::from_raw(gid))?;
    Ok(set_thread_uid(Uid::from_raw(uid))?)
}

/// Runs `act` as the owner of `path`, on a thread of its own. The calling thread stays root.
///
/// # Errors
/// As [`take`]; then `act` was not run.
pub fn within<T: Send>(path: &Path, act: impl FnOnce() -> T + Send) -> io::Result<T> {
    if !geteuid().is_root() {
        return Ok(act());
    }
    thread::scope(|scope| {
        let acting = scope.spawn(|| take(path).map(|()| act()));
        let panicked = |_| Err(io::Error::other("a thread panicked"));
        acting.join().unwrap_or_else(panicked)
    })
}

/// User and group of the first folder or link on the way to `path` that does not belong to root: that
/// user decides where the rest of the path leads. None when all of them belong to root.
fn owner_of(path: &Path) -> io::Result<Option<(u32, u32)>> {
    let mut at = PathBuf::from("/");
    let mut ahead = parts(&std::path::absolute(path)?);
    let mut links = 0;
    loop {
        let found = match fs::symlink_metadata(&at) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let decides = found.is_dir() || found.is_symlink();
        if decides && found.uid() != 0 && is_somebody(found.uid()) {
            return Ok(Some((found.uid(), found.gid())));
        }
        if found.is_symlink() {
            links += 1;
            if links > LINKS_MAX {
                return Err(rustix::io::Errno::LOOP.into());
            }
            let target = fs::read_link(&at)?;
            at.pop();
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for part in parts(&target).into_iter().rev() {
                ahead.push_front(part);
            }
        }
        match ahead.pop_front() {
            Some(part) if part == ".." => {
                at.pop();
            }
            Some(part) => at.push(part),
            None => return Ok(None),
        }
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part).collect()
}

/// In a user namespace, all owners from outside it look like one user that nobody can be:
/// <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
fn is_somebody(uid: u32) -> bool {
    let Ok(map) = fs::read_to_string("/proc/self/uid_map") else {
        return true;
    };
    map.lines().any(|line| {
        let numbers: Vec<u32> = line.split_whitespace().flat_map(str::parse).collect();
        matches!(numbers[..], [first, _, count] if uid.checked_sub(first).is_some_and(|it| it < count))
    })
}
