//! An example of this package, built by the cargo that runs the tests, into the folder where it builds. Cargo's own lock
//! keeps two builds apart, and one that is up to date takes a third of a second.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the example of this name with these features, beside the default ones, and says where it is.
pub(crate) fn build(name: &str, features: &str) -> PathBuf {
    // TARGET/debug or TARGET/release, beside the binaries of this test run.
    let folder = Path::new(env!("CARGO_BIN_EXE_agentcom-sidecar")).parent().expect("a folder of binaries");
    let built = folder.join("examples").join(name);
    // Of this run by `tests/tools/test.sh`, which has built it: another cargo may hold the lock for minutes.
    if std::env::var_os("EXAMPLES_ARE_BUILT").is_some() {
        return built;
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    // The profile of this test run, so that its dependencies serve; they are there, so nothing is downloaded.
    let profile = if folder.ends_with("release") { "release" } else { "test" };
    cargo.args(["build", "--quiet", "--offline", "--profile", profile, "--features", features, "--example", name]);
    cargo.arg("--target-dir").arg(folder.parent().expect("a target folder"));
    // What cargo tells a test of its package would make dependencies that ask for it build anew, here and the next time.
    for (variable, _) in std::env::vars_os() {
        let variable = variable.to_string_lossy().into_owned();
        let told =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_", "CARGO_TARGET_TMPDIR"];
        let is_told = told.iter().any(|start| variable.starts_with(start));
        if is_told || variable == "CARGO" || variable == "LD_LIBRARY_PATH" {
            cargo.env_remove(&variable);
        }
    }
    let output = cargo.output().expect("cargo can be run");
    assert!(output.status.success(), "{cargo:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    built
}
