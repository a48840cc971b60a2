//! The sidecar's main.
fn main() {}
