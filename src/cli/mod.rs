//! The sidecar's command line beyond `run`: what each command prints and the code it ends with.

#[cfg(unix)]
pub mod operate;
#[cfg(unix)]
mod show;
