//! What the workflows call and say: scripts that exist, the steps and targets that there are, and the versions of `Cargo.toml`
//! and `package.json`. GitHub alone can tell whether they run.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::stand_in;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap()
}

/// The text of every workflow, with its name.
fn workflows() -> Vec<(String, String)> {
    let files = fs::read_dir(top().join(".github/workflows")).unwrap().map(|entry| entry.unwrap());
    let texts = files.map(|file| (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap()));
    texts.collect()
}

/// The words of a text that begin with this, without what follows a word of a shell.
fn words<'a>(text: &'a str, beginning: &str) -> BTreeSet<&'a str> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '`' | ',' | ';' | ':' | '"' | '(' | ')'));
    words.filter(|word| word.starts_with(beginning)).map(|word| word.trim_end_matches('.')).collect()
}

/// The quoted or plain items of the first list after this line.
fn items<'a>(text: &'a str, heading: &str) -> BTreeSet<&'a str> {
    let list = text.split_once(heading).unwrap_or_else(|| panic!("no {heading:?}")).1;
    let lines = list.lines().skip(1).map(str::trim);
    lines.take_while(|line| line.starts_with("- ")).map(|line| &line[2..]).collect()
}

#[test]
fn each_script_that_a_workflow_names_can_be_run() {
    let mut named = 0;
    for (name, text) in workflows() {
        for script in words(&text, ".ci/") {
            let mode = fs::metadata(top().join(script)).unwrap_or_else(|error| panic!("{name}: {script}: {error}"));
            assert_ne!(mode.permissions().mode() & 0o111, 0, "{name}: {script} is not executable");
            named += 1;
        }
    }
    assert!(named >= 4, "only {named} are named");
}

#[test]
fn each_action_is_pinned_by_its_commit() {
    for (name, text) in workflows() {
        for line in text.lines().filter(|line| line.contains("uses: ")) {
            let pinned = line.split_once('@').and_then(|(_, rest)| rest.split_once(" # v"));
            let is_commit = |hash: &str| hash.len() == 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(pinned.is_some_and(|(hash, _)| is_commit(hash)), "{name}: {line}");
        }
    }
}

#[test]
fn the_nightly_workflow_has_every_step_and_every_target_of_the_fuzzer() {
    let script = read(".ci/nightly");
    let steps = script.lines().filter_map(|line| line.strip_prefix("step '")?.split('\'').next());
    let steps: BTreeSet<&str> = steps.filter(|step| *step != "fuzz").collect();
    let workflow = read(".github/workflows/nightly.yml");
    assert_eq!(items(&workflow, "        step:"), steps);

    let list = |text: &str, before: &str, after: char| -> BTreeSet<String> {
        let list = text.split_once(before).unwrap().1.split(after).next().unwrap().replace(',', " ");
        list.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(list(&workflow, "target: [", ']'), list(&read(".ci/fuzz"), "targets=${2:-", '}'));
}

#[test]
fn the_oldest_rust_and_node_are_those_that_are_named_as_enough() {
    let workflow = read(".github/workflows/ci.yml");
    let oldest = workflow.split_once("  oldest:").unwrap().1;
    assert!(oldest.contains(&format!("container: rust:{}-bookworm", env!("CARGO_PKG_RUST_VERSION"))), "{oldest}");
    let package: serde_json::Value = serde_json::from_str(&read("package.json")).unwrap();
    let node = package["engines"]["node"].as_str().unwrap().trim_start_matches(">=").to_owned();
    assert!(oldest.contains(&format!("node-version: {node}\n")), "{oldest}");
}

#[test]
fn the_fuzzer_is_built_from_this_version() {
    let lock = read("tests/fuzz/Cargo.lock");
    let wanted = concat!("name = \"agentcom-sidecar\"\nversion = \"", env!("CARGO_PKG_VERSION"), "\"");
    assert!(lock.contains(wanted), "run .ci/fuzz 0: tests/fuzz/Cargo.lock is of another version");
}

#[test]
fn a_release_is_refused_under_the_tag_of_another_version() {
    let tools = tempfile::tempdir().unwrap();
    stand_in(tools.path(), "rustc", "echo 'host: x86_64-unknown-linux-gnu'");
    stand_in(tools.path(), "cargo", "echo 'it builds'; exit 3");
    let path = format!("{}:/usr/bin:/bin", tools.path().display());
    let mut release = Command::new("bash");
    release.arg(top().join(".ci/release")).env("PATH", path).env("RELEASE_TAG", "v0.0.1");
    let output = release.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said.contains(concat!("v0.0.1 and the version in Cargo.toml ", env!("CARGO_PKG_VERSION"))), "{said}");
    assert!(!said.contains("it builds"), "{said}");
}
