//! The shipped sidecar's main, in a build whose shell counts the places where a crash may matter (`crash-points`).

#[path = "../../src/bin/agentcom-sidecar.rs"]
mod sidecar;

fn main() -> std::process::ExitCode {
    sidecar::main()
}
