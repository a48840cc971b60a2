//! A sidecar that restarts on command and loses nothing, and the hub at its other end.
//!
//! **The story.** A hub hands tasks to agents. Beside each agent, under pm2, runs a sidecar that takes one task at a time,
//! wakes the agent for it and reports the result. When the hub says `restart_sidecar`, the sidecar finishes its task, sees
//! the verdict answered, says `agent_restarting`, closes the connection by handshake, exits 0, and pm2 brings it back.
//!
//! **The law.** Everything that happens goes through one pure function, [`machine::transition`]; everything that is done
//! is an effect that it returned. Nothing is promised before the disk holds it.
//!
//! **The map.**
//!
//! | module | what it is | what it is not |
//! |---|---|---|
//! | [`machine`] | the sidecar's decisions, under `no_std`; the properties that must hold, in code | I/O, clocks, dice |
//! | `shell` | the loop that feeds the machine and carries its effects out, one adapter a file | decisions |
//! | `wire` | the frames that both programs share | sockets |
//! | `config` | `config.json`, raw to checked | |
//! | `regular_file` | reading files that others may have put there | writing |
//! | `cli` | the sidecar's commands, one a file | what they do to a running sidecar |
//! | `hub` | the other end: task queue and restart ledger as pure folds, sockets, HTTP, store | |
//!
//! **As a library.** `shell::pm2::Pm2` knows the process's pm2 name, status and figures; `shell::start` makes a sidecar
//! of a checked configuration; `shell::Sidecar::restart_handle` gives a handle whose `graceful_restart` asks it to restart
//! as a hub's command would. Without the default feature `shell` only [`machine`] is built.
#![cfg_attr(all(not(feature = "shell"), not(test)), no_std)]

extern crate alloc;

#[cfg(feature = "shell")]
pub mod common;
#[cfg(feature = "shell")]
pub mod hub;
pub mod machine;
#[cfg(feature = "shell")]
pub mod protocol;
#[cfg(feature = "shell")]
pub mod sidecar;
