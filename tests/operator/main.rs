//! The real commands and the real sidecar in the hands of an operator.

#[path = "../support/mod.rs"]
mod support;

mod another_user;
mod bad_inputs;
mod browser;
mod check;
mod check_secrets;
mod cli;
mod console;
mod hardship;
mod history;
mod logs;
mod manual;
mod observing;
mod onboard;
mod page;
mod readme;
mod scripts;
mod two_sidecars;
