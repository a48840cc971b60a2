//! The layout of `src` that `docs/architecture.md` describes: which room may import which, no circle of imports, no name of
//! the former layout, and no regression file without its source file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "layout/imports.rs"]
mod imports;

use imports::Crate;

/// The rooms of each top-level module, the lowest first: a room may import those before it. A file belongs to the longest
/// room that is a prefix of its module path.
const ROOMS: &[&str] = &[
    "machine::model",
    "machine::step",
    "machine::handlers",
    "machine::timers",
    "machine",
    "common",
    "protocol",
    "codec",
    "hub::scheduler",
    "hub::state",
    "hub",
    "sidecar::exit_code",
    "sidecar::clock",
    "sidecar::proc_stat",
    "sidecar::config",
    "sidecar::hub_connection",
    "sidecar::agent",
    "sidecar::journal",
    "sidecar::oom_counter",
    "sidecar::supervisor",
    "sidecar::history",
    "sidecar::previous_run",
    "sidecar::policy",
    "sidecar::admin",
    "sidecar::shell",
    "sidecar::cli",
];

/// What each top-level module may import beside itself.
const TOP_LEVEL: &[(&str, &[&str])] = &[
    ("machine", &[]),
    ("common", &[]),
    ("protocol", &["common"]),
    ("codec", &["machine", "protocol", "common"]),
    ("hub", &["protocol", "common"]),
    // It draws the machine's states.
    ("hub::http::page", &["machine"]),
    ("sidecar", &["machine", "codec", "protocol", "common"]),
];

/// Whether `module` is `room` or lies below it.
fn lies_in(module: &str, room: &str) -> bool {
    module.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The place in [`ROOMS`] of the room that a module belongs to.
fn room_of(module: &str) -> Option<usize> {
    (0..ROOMS.len()).filter(|room| lies_in(module, ROOMS[*room])).max_by_key(|room| ROOMS[*room].len())
}

/// Whether a module may import another.
fn may_import(from: &str, to: &str) -> bool {
    let top = |module: &str| module.split("::").next().map(str::to_owned);
    // The root of the crate re-exports what it wants.
    if from.is_empty() {
        return true;
    }
    if top(from) != top(to) {
        return TOP_LEVEL
            .iter()
            .any(|(room, allowed)| lies_in(from, room) && allowed.iter().any(|room| lies_in(to, room)));
    }
    match (room_of(from), room_of(to)) {
        (Some(from_room), Some(to_room)) => to_room <= from_room || lies_in(to, from),
        // A folder that holds rooms, such as `sidecar`.
        (None, _) | (_, None) => lies_in(from, to) || lies_in(to, from),
    }
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder of the repository.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_room_imports_only_the_rooms_below_it() {
    let wrong: Vec<String> = Crate::read(top())
        .imports()
        .into_iter()
        .filter(|(from, to)| !may_import(from, to))
        .map(|(from, to)| format!("{from} imports {to}"))
        .collect();
    assert!(wrong.is_empty(), "see ROOMS and TOP_LEVEL in tests/layout.rs:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_lies_in_a_room() {
    let outside: Vec<String> = Crate::read(top())
        .modules()
        .filter(|module| !["", "sidecar"].contains(module) && room_of(module).is_none())
        .map(str::to_owned)
        .collect();
    assert!(outside.is_empty(), "name their room in ROOMS of tests/layout.rs: {outside:?}");
}

/// A module and one below it may name each other: a parent re-exports its children, which name its types. So what a child
/// imports of its parent does not count.
#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut edges: BTreeSet<(String, String)> =
        Crate::read(top()).imports().into_iter().filter(|(from, to)| !lies_in(from, to)).collect();
    // A file that imports nothing that is left, or that nothing left imports, is in no circle.
    loop {
        let from: BTreeSet<String> = edges.iter().map(|(from, _)| from.clone()).collect();
        let to: BTreeSet<String> = edges.iter().map(|(_, to)| to.clone()).collect();
        let before = edges.len();
        edges.retain(|edge| to.contains(&edge.0) && from.contains(&edge.1));
        if edges.len() == before {
            break;
        }
    }
    let edges: Vec<String> = edges.iter().map(|(from, to)| format!("{from} imports {to}")).collect();
    assert!(edges.is_empty(), "circles of imports run through these:\n{}", edges.join("\n"));
}

/// The former names: `path PATH` or `type NAME` a line. A path stands for a file and for a folder of that name.
#[test]
fn no_former_name_comes_back() {
    let source = Crate::read(top());
    let types = source.types();
    for line in include_str!("layout/old_names.txt").lines() {
        match line.split_once(' ') {
            Some(("path", path)) => {
                assert!(!top().join(path).exists(), "{path} is a former path: see docs/architecture.md")
            }
            Some(("type", name)) => {
                assert!(!types.contains(name), "{name} is a former name: see the table in docs/architecture.md");
            }
            Some(_) | None => panic!("tests/layout/old_names.txt: neither `path PATH` nor `type NAME`: {line}"),
        }
    }
}

/// proptest finds the failures of the past by the path of the source file.
#[test]
fn every_regression_file_has_its_source_file() {
    let folder = top().join("proptest-regressions");
    let regressions = files_below(&folder);
    assert!(!regressions.is_empty(), "proptest-regressions is empty");
    for file in regressions {
        let source =
            top().join("src").join(file.strip_prefix(&folder).expect("a file of that folder")).with_extension("rs");
        assert!(source.exists(), "{} has no {}: move it along", file.display(), source.display());
    }
}
