//! `docs/states.md` says what the code says: its diagram, its properties and the rows of its tables; and the files that the
//! documents name are there. It does not judge the prose.

// A file that cannot be read fails the test, which is what it should do.
#![allow(clippy::unwrap_used)]

mod scenario;

use std::collections::BTreeSet;

use agentcom::machine::invariants::Property;
use agentcom::machine::{EventName, FromHubName, Phase, StageName, Wait, state_table};
use agentcom::protocol::{HubFrame, SidecarFrame};
use strum::{IntoEnumIterator, VariantNames};

use scenario::story;

const DOC: &str = include_str!("../docs/states.md");
const PROPERTIES: &str = include_str!("../src/machine/invariants/property.rs");

type Edges = BTreeSet<(String, String)>;

fn edge(from: &str, to: &str) -> (String, String) {
    (from.trim().to_owned(), to.trim().to_owned())
}

/// The arrows between states in the diagram.
fn drawn() -> Edges {
    let arrows = DOC.lines().filter_map(|line| line.trim().split_once(" --> "));
    let named = arrows.map(|(from, rest)| edge(from, rest.split(':').next().unwrap_or(rest)));
    named.filter(|(from, to)| from != "[*]" && to != "[*]").collect()
}

/// The edges of the list below it: `Draining` is passed on the way.
fn passed_through() -> Edges {
    let items = DOC.lines().filter_map(|line| line.strip_prefix("- `")?.strip_suffix('`'));
    items.filter_map(|item| item.split_once("` -> `")).map(|(from, to)| edge(from, to)).collect()
}

fn in_code() -> Edges {
    state_table::edges(&state_table::moves()).into_iter().map(|(from, to)| edge(from.into(), to.into())).collect()
}

fn in_the_stories() -> Edges {
    let mut edges = Edges::new();
    for path in story::files().unwrap() {
        let seen = story::play(&std::fs::read_to_string(path).unwrap()).seen.edges;
        edges.extend(seen.into_iter().filter(|(from, to)| from != to).map(|(from, to)| edge(from.into(), to.into())));
    }
    edges
}

/// The drawing itself.
fn diagram(page: &str) -> Option<&str> {
    page.split("```mermaid\n").nth(1)?.split("```").next()
}

#[test]
fn the_readme_shows_the_same_diagram() {
    let readme = include_str!("../README.md");
    assert!(diagram(DOC).is_some());
    assert_eq!(diagram(readme), diagram(DOC));
}

#[test]
fn the_diagram_is_the_one_that_the_code_draws() {
    assert_eq!(diagram(DOC), Some(state_table::mermaid(&state_table::moves()).as_str()));
}

#[test]
fn the_diagram_and_the_list_below_it_are_the_edges_of_the_code() {
    let written: Edges = drawn().union(&passed_through()).cloned().collect();
    assert_eq!(written, in_code());
}

#[test]
fn nothing_is_both_drawn_and_passed_through() {
    assert_eq!(drawn().intersection(&passed_through()).count(), 0);
}

#[test]
fn the_stories_walk_every_edge_and_no_other() {
    assert_eq!(in_the_stories(), in_code());
}

/// The number and the text of each property are those of its doc comment, the name is the code's.
#[test]
fn the_properties_are_those_of_the_code() {
    let texts: Vec<(&str, &str)> = PROPERTIES
        .lines()
        .filter_map(|line| line.trim().strip_prefix("/// ")?.split_once(". "))
        .filter(|(number, _)| number.parse::<u8>().is_ok())
        .collect();
    assert_eq!(texts.len(), Property::iter().count(), "a doc comment without its number: {texts:?}");
    for ((number, text), property) in texts.into_iter().zip(Property::iter()) {
        assert_eq!(number, (property as u8 + 1).to_string(), "the number of {property}");
        let line = format!("{number}. `{property}`: {text}");
        assert!(DOC.lines().any(|written| written == line), "docs/states.md lacks the line {line:?}");
    }
}

/// The names at the beginning of the rows of the table with this heading.
fn rows(heading: &str) -> Vec<String> {
    let table = DOC.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    rows.filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect()
}

fn names<T: IntoEnumIterator + Into<&'static str>>() -> Vec<String> {
    T::iter().map(|name| name.into().to_owned()).collect()
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[test]
fn every_state_has_a_row() {
    assert_eq!(rows("| state |"), names::<Phase>());
}

#[test]
fn every_event_has_a_row() {
    assert_eq!(sorted(rows("| event |")), sorted(names::<EventName>()));
}

#[test]
fn everything_a_hub_says_has_a_row() {
    assert_eq!(rows("| the hub says |"), names::<FromHubName>());
}

#[test]
fn every_stage_has_a_row() {
    assert_eq!(rows("| stage |"), names::<StageName>());
}

#[test]
fn every_wait_has_a_row() {
    assert_eq!(rows("| wait |"), names::<Wait>());
}

#[test]
fn every_frame_is_in_the_protocol() {
    let page = include_str!("../docs/protocol.md");
    for frame in SidecarFrame::VARIANTS.iter().chain(HubFrame::VARIANTS) {
        let is_named = [format!("`{frame}`"), format!("`{frame} {{")].iter().any(|name| page.contains(name));
        assert!(is_named, "docs/protocol.md lacks the frame {frame}");
    }
}

/// The files of this repository that a text names in code or as the goal of a link, patterns left out.
fn files_named(page: &str) -> Vec<String> {
    let words = page.split(['`', '(', ')', ' ', '\n', ',', ';', '#']);
    let folders = ["tests/", "src/", "docs/", ".ci/"];
    let named =
        words.map(|word| word.trim_start_matches("../")).filter(|word| folders.iter().any(|f| word.starts_with(f)));
    let plain = |word: &&str| word.chars().all(|c| c.is_alphanumeric() || "/_-.@".contains(c));
    named.filter(plain).map(|word| word.trim_end_matches('.').to_owned()).collect()
}

#[test]
fn every_file_that_a_document_names_is_there() {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(top.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut seen = 0;
    for page in docs.filter(|path| path.extension().is_some_and(|end| end == "md")).chain([top.join("README.md")]) {
        for file in files_named(&std::fs::read_to_string(&page).unwrap()) {
            assert!(top.join(&file).exists(), "{} names {file}, which is not there", page.display());
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}
