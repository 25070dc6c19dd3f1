//! The map at the top of src/lib.rs is true of the code: which rooms there are, and that arrows point
//! down only, between rooms and between the files of a room.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The files that a file uses, both as `room::file`.
type Arrows = BTreeMap<String, BTreeSet<String>>;

#[test]
fn every_room_is_on_the_map_and_uses_only_those_below_it() {
    let map = lines_of_the_map();
    let known: BTreeSet<_> = map.concat().into_iter().collect();
    let folders: BTreeSet<_> = folders().into_iter().collect();
    assert_eq!(known, folders, "rooms of the map, and folders of src");

    let line = |file: &str| {
        map.iter()
            .position(|rooms| rooms.iter().any(|room| room == room_of(file)))
    };
    let is_wrong = |from: &str, to: &str| line(to) <= line(from) && room_of(to) != room_of(from);
    let wrong: Vec<_> = arrows()
        .into_iter()
        .flat_map(|(from, all)| all.into_iter().map(move |to| (from.clone(), to)))
        .filter(|(from, to)| is_wrong(from, to))
        .map(|(from, to)| format!("{from} must not use {to}"))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_two_files_of_a_room_use_each_other() {
    let arrows = arrows();
    let mut circles = Vec::new();
    for first in arrows.keys() {
        find_circles(&arrows, &mut vec![first.clone()], &mut circles);
    }
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

/// Follows the arrows from the end of `path`, and notes each way back to its beginning, which is the
/// first of the circle by name.
fn find_circles(arrows: &Arrows, path: &mut Vec<String>, circles: &mut Vec<String>) {
    let end = &path[path.len() - 1];
    for next in arrows.get(end).into_iter().flatten() {
        if *next == path[0] {
            circles.push(path.join(" uses "));
        } else if *next > path[0] && room_of(next) == room_of(&path[0]) && !path.contains(next) {
            path.push(next.clone());
            find_circles(arrows, path, circles);
            path.pop();
        }
    }
}

/// The rooms of each line of the map, from the top: what stands before two blanks.
fn lines_of_the_map() -> Vec<Vec<String>> {
    let text = fs::read_to_string(src().join("lib.rs")).unwrap();
    let map = text.split("```").nth(1).unwrap();
    let lines = map.lines().filter_map(|line| line.strip_prefix("//! "));
    let rooms = lines.filter_map(|line| line.split("  ").next().filter(|it| !it.is_empty()));
    rooms
        .map(|rooms| rooms.split(", ").map(str::to_owned).collect())
        .collect()
}

fn folders() -> Vec<String> {
    let entries = fs::read_dir(src()).unwrap().map(Result::unwrap);
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    folders
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

fn arrows() -> Arrows {
    let mut arrows = Arrows::new();
    for file in folders().iter().flat_map(|room| files(&src().join(room))) {
        let text = fs::read_to_string(&file).unwrap();
        let module: Vec<String> = file
            .strip_prefix(src())
            .unwrap()
            .with_extension("")
            .iter()
            .map(|part| part.to_str().unwrap().to_owned())
            .collect();
        let from = module[..2].join("::");
        for used in modules_in(&text, &module) {
            // What is in a room's own mod.rs is the whole room's.
            if used != from && !used.ends_with("::mod") {
                arrows.entry(from.clone()).or_default().insert(used);
            }
        }
    }
    let count: usize = arrows.values().map(BTreeSet::len).sum();
    assert!(count > 100, "{arrows:?}");
    arrows
}

/// Every module that the code outside tests names, as `room::file`.
fn modules_in(text: &str, module: &[String]) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim);
    let code: String = lines
        .take_while(|line| *line != "#[cfg(test)]")
        .filter(|line| !line.starts_with("//"))
        .collect();
    let parent = module[..module.len() - 1].join("::");
    let by_root = code.match_indices("crate::").map(|(at, word)| {
        let named = expand(&code[at + word.len()..]);
        (named, String::new())
    });
    let by_parent = code.match_indices("super::").map(|(at, word)| {
        let named = expand(&code[at + word.len()..]);
        (named, format!("{parent}::"))
    });
    let paths = by_root
        .chain(by_parent)
        .flat_map(|(named, before)| named.into_iter().map(move |path| before.clone() + &path));
    paths.map(|path| file_of(&path)).collect()
}

/// `store::rows::Change` is of `store::rows`, and `store::Store` of `store::mod`.
fn file_of(path: &str) -> String {
    let mut parts = path.split("::");
    let room = parts.next().unwrap();
    let is_module = |part: &&str| {
        src().join(room).join(format!("{part}.rs")).exists() || src().join(room).join(part).is_dir()
    };
    let file = parts.next().filter(is_module).unwrap_or("mod");
    format!("{room}::{file}")
}

/// The paths that a `use` names: of `a::{b, c::d}` these are `a::b` and `a::c::d`.
fn expand(text: &str) -> Vec<String> {
    if let Some(list) = text.strip_prefix('{') {
        let mut depth = 1;
        let is_end = |c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0
        };
        let list = &list[..list.find(is_end).unwrap()];
        return top_level_items(list)
            .iter()
            .flat_map(|item| expand(item))
            .collect();
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    match rest.strip_prefix("::") {
        Some(rest) => expand(rest)
            .iter()
            .map(|path| format!("{word}::{path}"))
            .collect(),
        None => vec![word.to_owned()],
    }
}

fn top_level_items(list: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut depth = 0;
    for c in list.chars().filter(|c| !c.is_whitespace()) {
        depth += i32::from(c == '{') - i32::from(c == '}');
        match items.last_mut() {
            Some(item) if c != ',' || depth > 0 => item.push(c),
            Some(_) | None => items.push(String::new()),
        }
    }
    items
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let found = entries.flat_map(|path| {
        if path.is_dir() {
            files(&path)
        } else {
            vec![path]
        }
    });
    found
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

fn room_of(file: &str) -> &str {
    file.split("::").next().unwrap()
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}
