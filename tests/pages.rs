//! The pages of the documentation: their links lead somewhere, their contents name their headings, and the figures of
//! `docs/verification.md` are those of the code. `UPDATE_FIGURES=1 cargo test --test pages` writes the figures.

// A file that cannot be read fails the test, which is what it should do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The pages that begin with contents: a list of links to all of their headings.
const WITH_CONTENTS: &[&str] = &[
    "docs/protocol.md",
    "docs/states.md",
    "docs/architecture.md",
    "docs/glossary.md",
    "docs/mutants.md",
    "docs/verification.md",
    "CONTRIBUTING.md",
];

const VERIFICATION: &str = "docs/verification.md";

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn entries(folder: &str) -> Vec<PathBuf> {
    fs::read_dir(top().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The pages of the repository: those at its top and those of `docs`.
fn pages() -> Vec<PathBuf> {
    let all = entries("").into_iter().chain(entries("docs"));
    let mut pages: Vec<PathBuf> = all.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    pages.sort();
    pages
}

/// The lines outside of blocks of code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// The anchor that a heading gets: lower case, spaces as hyphens, and without punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
    kept.replace(' ', "-")
}

fn headings(page: &str) -> Vec<&str> {
    let is_heading = |line: &&str| line.starts_with('#') && line.trim_start_matches('#').starts_with(' ');
    prose(page).filter(is_heading).map(|line| line.trim_start_matches('#').trim()).collect()
}

/// The targets of the links of a page, those in code left out.
fn links(page: &str) -> Vec<String> {
    let without_code = |line: &str| line.split('`').step_by(2).collect::<Vec<_>>().join("x");
    let targets = |line: &str| -> Vec<String> {
        without_code(line).split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
    };
    prose(page).flat_map(targets).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let (mut broken, mut seen) = (Vec::new(), 0);
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        for link in links(&page).into_iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            seen += 1;
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let goal = if file.is_empty() { path.clone() } else { path.with_file_name("").join(file) };
            let leads = match (goal.exists(), heading) {
                (false, _) => false,
                (true, "") => true,
                (true, heading) => {
                    let there = fs::read_to_string(&goal).unwrap();
                    headings(&there).into_iter().any(|one| anchor(one) == heading)
                }
            };
            if !leads {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "these links lead nowhere:\n{}", broken.join("\n"));
    assert!(seen > 100, "{seen}");
}

#[test]
fn contents_name_every_heading() {
    for path in WITH_CONTENTS {
        let page = text_of(path);
        let wanted: Vec<String> = prose(&page)
            .filter_map(|line| line.strip_prefix("## "))
            .map(|heading| format!("- [{heading}](#{})", anchor(heading)))
            .collect();
        let before = page.split("\n## ").next().unwrap();
        let contents: Vec<&str> = before.lines().filter(|line| line.starts_with("- [")).collect();
        assert_eq!(contents, wanted, "the contents of {path}");
    }
}

#[test]
fn the_changelog_has_this_version() {
    let version = format!("## [{}] - ", env!("CARGO_PKG_VERSION"));
    assert!(text_of("CHANGELOG.md").lines().any(|line| line.starts_with(&version)), "CHANGELOG.md lacks {version:?}");
}

#[test]
fn every_folder_of_the_code_is_among_the_rooms() {
    let page = text_of("docs/architecture.md");
    let rooms: BTreeSet<&str> = page.split('`').filter(|word| word.starts_with("src/")).collect();
    for part in ["src", "src/machine", "src/sidecar", "src/hub"] {
        for folder in entries(part).into_iter().filter(|path| path.is_dir()) {
            let name = folder.strip_prefix(top()).unwrap().to_str().unwrap();
            let is_parent = ["src/sidecar", "src/hub", "src/bin"].contains(&name);
            let is_named = rooms.contains(name) || name.ends_with("/tests") || name.ends_with("/invariants");
            assert!(is_parent || is_named, "docs/architecture.md, \"Rooms\", lacks {name}");
        }
    }
}

/// The number that stands in `file` right after `before`.
fn number_in(file: &str, before: &str) -> u64 {
    let text = text_of(file);
    let (_, after) = text.split_once(before).unwrap_or_else(|| panic!("{file} has no {before:?}"));
    let digits: String = after.chars().take_while(|c| c.is_ascii_digit() || *c == '_').filter(|c| *c != '_').collect();
    digits.parse().unwrap_or_else(|_| panic!("{file} has no number after {before:?}"))
}

fn count(items: impl IntoIterator<Item = impl Sized>) -> u64 {
    items.into_iter().count() as u64
}

/// How many explorations there are with such a name, and the states that they have together, as the model check pins them.
fn explorations(wanted: impl Fn(&str) -> bool) -> (u64, u64) {
    let pins = text_of("tests/model/states.txt");
    let pins = pins.lines().map(|line| line.split_once(' ').unwrap()).filter(|(_, name)| wanted(name));
    pins.fold((0, 0), |(number, states), (more, _)| (number + 1, states + more.parse::<u64>().unwrap()))
}

/// The number of fuzzed targets that are tried where none is named.
fn fuzzed() -> u64 {
    let script = text_of(".ci/fuzz");
    let targets = script.split_once("targets=${2:-").unwrap().1.split_once('}').unwrap().0;
    count(targets.split_whitespace())
}

/// Each figure of `docs/verification.md` with its number in the code.
fn figures() -> Vec<(&'static str, u64)> {
    let scopes = text_of("tests/model/scopes.rs");
    let (ci, nightly) = scopes.split_once("pub const NIGHTLY").unwrap();
    let is_in = |part: &str, name: &str| part.contains(&format!("\"{name}\""));
    let small = explorations(|name| is_in(ci, name));
    let large = explorations(|name| is_in(nightly, name));
    let rollouts = explorations(|name| name.starts_with("rollout: "));
    let clusters = explorations(|name| name.starts_with("cluster: "));
    let grouped = small.0 + large.0 + rollouts.0 + clusters.0;
    assert_eq!(grouped, explorations(|_| true).0, "an exploration of no group");
    let properties = text_of("src/machine/invariants/property.rs");
    let is_numbered =
        |line: &&str| line.trim().strip_prefix("/// ").is_some_and(|text| text.starts_with(char::is_numeric));
    let patches =
        entries("tests/mistakes").into_iter().filter(|path| path.extension().is_some_and(|end| end == "patch"));
    vec![
        ("properties of the machine", count(properties.lines().filter(is_numbered))),
        ("random lives in each check of them", number_in("src/machine/tests/properties.rs", "const TRACES: u32 = ")),
        ("stories", count(entries("tests/scenarios"))),
        ("lives from which liveness is checked", number_in("tests/liveness.rs", "cases: ")),
        ("explorations of sidecar and hub", small.0),
        ("states of sidecar and hub", small.1),
        ("explorations of a rollout", rollouts.0),
        ("states of a rollout", rollouts.1),
        ("explorations of two hubs over one database", clusters.0),
        ("states of two hubs over one database", clusters.1),
        ("larger explorations (nightly)", large.0),
        ("states in the larger ones", large.1),
        ("mistakes that are caught", count(patches)),
        ("simulated lives", number_in("tests/simulated.rs", "const SEEDS_IN_CI: u64 = ")),
        (
            "stories at whose crash points the sidecar is killed",
            number_in("tests/crash_points/stories.rs", "const STORIES: [Story; "),
        ),
        ("crash points in them, at least", number_in("tests/crash_points.rs", "const PLACES_AT_LEAST: u64 = ")),
        ("random kills at our hub", number_in("tests/sidecar/kills.rs", "const KILLS_AT_OUR_HUB: u64 = ")),
        ("random kills at a legacy hub", number_in("tests/sidecar/kills.rs", "const KILLS_AT_A_LEGACY_HUB: u64 = ")),
        ("random lives of the hub's scheduler", number_in("src/hub/scheduler/tests/properties.rs", "{ cases: ")),
        ("random lives of rollouts", number_in("src/hub/scheduler/rollouts/tests/properties.rs", "{ cases: ")),
        ("fuzzed targets", fuzzed()),
    ]
}

/// The number as people read it: 4,475,318.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let place = |(index, digit): (usize, char)| {
        if index > 0 && (digits.len() - index).is_multiple_of(3) { format!(",{digit}") } else { format!("{digit}") }
    };
    digits.chars().enumerate().map(place).collect()
}

#[test]
fn the_figures_are_those_of_the_code() {
    let page = text_of(VERIFICATION);
    let (before, rest) = page.split_once("| figure | number |\n|---|---|\n").unwrap();
    let (written, after) = rest.split_once("\n\n").unwrap();
    let row = |(name, number)| format!("| {name} | {} |", grouped(number));
    let real = figures().into_iter().map(row).collect::<Vec<_>>().join("\n");
    if std::env::var_os("UPDATE_FIGURES").is_some_and(|value| value == "1") {
        let page = format!("{before}| figure | number |\n|---|---|\n{real}\n\n{after}");
        fs::write(top().join(VERIFICATION), page).unwrap();
    } else {
        assert_eq!(
            written, real,
            "`UPDATE_FIGURES=1 cargo test --test pages` writes these figures into {VERIFICATION}"
        );
    }
}
