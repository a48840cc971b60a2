//! The real `agentcom-sidecar` under another version: the same program, with the version changed wherever it stands.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::sidecar::SIDECAR;
use super::{process, wait};

/// The version of the binary under test.
pub const OLD: &str = env!("CARGO_PKG_VERSION");

/// As long as the old one, so that it fits in its place.
pub fn new_version() -> String {
    let mut version = OLD.to_owned();
    let last = version.pop().expect("a version");
    version.push(if last == '9' { '8' } else { '9' });
    version
}

/// Installs the sidecar with the new version as this program, and has it say so.
pub fn install(program: &Path) {
    let (mut bytes, old, new) = (fs::read(SIDECAR).expect("the sidecar"), OLD.as_bytes(), new_version());
    let places: Vec<usize> = (0..bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old)).collect();
    for at in places {
        bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
    }
    replace(program, &bytes);
    let mut command = Command::new(program);
    command.arg("--version");
    let (status, said) = process::run(command, wait::BOUND);
    assert!(status.success() && said.contains(&new), "{said}");
}

/// Puts another program in the place of this one, like `mv`: one that runs keeps its file.
pub fn replace(program: &Path, by: &[u8]) {
    let (written, next) = (program.with_extension("written"), program.with_extension("next"));
    fs::write(&written, by).expect("the next program");
    process::install(&written, &next);
    fs::rename(&next, program).expect("mv");
}
