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
    change_numbers(&mut bytes, old, *new.as_bytes().last().expect("a version"));
    replace(program, &bytes);
    let mut command = Command::new(program);
    command.arg("--version");
    let (status, said) = process::run(command, wait::BOUND);
    assert!(status.success() && said.contains(&new), "{said}");
}

/// Changes the last byte of a version of five bytes where optimized code has it as two numbers: on x86-64,
/// `mov byte [reg+4], last` beside `mov dword [reg], first`.
fn change_numbers(bytes: &mut [u8], old: &[u8], last: u8) {
    let [first @ .., old_last] = old else { return };
    let places: Vec<usize> = (8..bytes.len() - 16).filter(|at| bytes[*at..].starts_with(first)).collect();
    for at in places {
        for byte in at - 8..at + 12 {
            if let [0xc6, 0x40..=0x47, 4, found] = &mut bytes[byte..byte + 4]
                && *found == *old_last
            {
                *found = last;
            }
        }
    }
}

/// Puts another program in the place of this one, like `mv`: one that runs keeps its file.
pub fn replace(program: &Path, by: &[u8]) {
    let (written, next) = (program.with_extension("written"), program.with_extension("next"));
    fs::write(&written, by).expect("the next program");
    process::install(&written, &next);
    fs::rename(&next, program).expect("mv");
}
