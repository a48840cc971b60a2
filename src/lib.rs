//! A sidecar that restarts on command and loses nothing, and the hub at its other end.
#![cfg_attr(not(feature = "shell"), no_std)]

extern crate alloc;

#[cfg(feature = "shell")]
pub mod config;
#[cfg(feature = "shell")]
pub mod hub;
pub mod machine;
#[cfg(feature = "shell")]
pub mod shell;
#[cfg(feature = "shell")]
pub mod wire;
