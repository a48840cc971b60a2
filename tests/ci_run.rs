//! The scripts around the programs, with stand-ins for the tools, so that nothing is built: `.ci/run`, in which a step that
//! fails must fail it, the demo's build, and what the workflows call.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

#[path = "ci_run/demo.rs"]
mod demo;
#[path = "ci_run/workflows.rs"]
mod workflows;

/// Writes a shell script that stands for a tool.
fn stand_in(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    let written = path.with_extension("written");
    fs::write(&written, format!("#!/bin/sh\n{script}\n")).unwrap();
    // By a process of its own: what this one has just written may be open in the other test's child, and is not run then.
    assert!(Command::new("install").args(["-m", "755"]).args([&written, &path]).status().unwrap().success());
}

/// Runs `.ci/run` with stand-ins for the tools: `cargo` does what `cargo` says, the others succeed.
fn ci(cargo: &str) -> Output {
    let tools = tempfile::tempdir().unwrap();
    let tool = |name: &str, script: &str| stand_in(tools.path(), name, script);
    tool("cargo", cargo);
    tool("npm", r#"case "$*" in test*) echo "test result: ok. 1 passed; 0 failed;" ;; esac"#);
    for name in ["setsid", "rustup", "python3", "chromium"] {
        tool(name, "exit 0");
    }
    let path = format!("{}:/usr/bin:/bin", tools.path().display());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run");
    Command::new("bash").arg(script).env("PATH", path).env("FUZZ", "true").env("SCHEMATHESIS", "true").output().unwrap()
}

#[test]
fn a_core_that_does_not_compile_alone_fails_it() {
    let output = ci(r#"case "$*" in check*) exit 1 ;; *) echo "test result: ok. 1 passed; 0 failed;" ;; esac"#);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn it_passes_when_every_step_does() {
    let output = ci(r#"echo "test result: ok. 1 passed; 0 failed;""#);
    assert!(output.status.success(), "{output:?}");
}
