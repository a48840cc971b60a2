//! A sidecar that restarts on command and loses nothing, and the hub at its other end.
//!
//! ```no_run
//! use agentcom::sidecar::config::Config;
//! use agentcom::sidecar::shell::start;
//! use agentcom::{Pm2, RestartHandle};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let pm2 = Pm2::of_this_process();
//!     println!("{:?} is {}", pm2.process_name(), pm2.status().await?);
//!
//!     let config = Config::load("config.json".as_ref())?.config;
//!     let started = start(config, pm2, None)?;
//!     let handle: RestartHandle = started.sidecar().restart_handle();
//!     tokio::spawn(async move { handle.graceful_restart("a new model").await });
//!     println!("the sidecar ends: {}", started.run().await);
//!     Ok(())
//! }
//! ```
//!
//! **The story.** A hub assigns tasks to agents. Beside each agent, under pm2, runs a sidecar that takes one task at a time,
//! wakes the agent for it and reports the result. On `restart_sidecar` the sidecar finishes its task, waits until the hub
//! has acknowledged the verdict, sends `agent_restarting`, closes the connection by handshake and exits 0, and pm2 starts it
//! again.
//!
//! **The law.** Everything that happens goes through one pure function, [`machine::transition`]; everything that is done
//! is an effect that it returned. Nothing is promised before the disk holds it.
//!
//! **The map.**
//!
//! | module | purpose | imports |
//! |---|---|---|
//! | [`machine`] | the sidecar's decisions, under `no_std`, and the properties that must hold | nothing |
//! | `common` | files, sockets, texts, the log, signals, secrets | nothing |
//! | `protocol` | the frames of both sides, their limits and the schema check | `common` |
//! | `codec` | between the frames and [`machine`]'s events and messages | all above |
//! | `sidecar` | the event loop and its adapters, the configuration, the command line | all but `hub` |
//! | `hub` | the scheduler (pure), the store, WebSocket, HTTP, the command line | `protocol`, `common` |
//!
//! `docs/architecture.md` has the rooms below these and the walk of a restart frame; `docs/glossary.md` the words.
//!
//! **Features.** `sidecar` and `hub` (both by default) build one program each; `page` (by default) adds the page to the hub. Without them only [`machine`] is built.
#![cfg_attr(all(not(feature = "frames"), not(test)), no_std)]

extern crate alloc;

#[cfg(all(feature = "host", not(unix)))]
compile_error!("agentcom runs on Unix alone: it needs local sockets, process groups and exec");

#[cfg(feature = "codec")]
pub mod codec;
#[cfg(feature = "frames")]
pub mod common;
#[cfg(feature = "scheduler")]
pub mod hub;
pub mod machine;
#[cfg(feature = "frames")]
pub mod protocol;
#[cfg(feature = "sidecar")]
pub mod sidecar;

#[cfg(feature = "sidecar")]
pub use sidecar::admin::restart_handle::RestartHandle;
#[cfg(feature = "sidecar")]
pub use sidecar::supervisor::pm2::Pm2;
