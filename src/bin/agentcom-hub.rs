//! The hub's main.
fn main() {}
