//! The real commands and the real sidecar in the hands of an operator.

#[path = "../support/mod.rs"]
mod support;

mod another_user;
mod bad_inputs;
mod check;
mod check_secrets;
mod cli;
mod console;
mod hardship;
mod observing;
mod onboard;
mod readme;
mod two_sidecars;
