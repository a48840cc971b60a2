//! The whole system as a finite model around the shipped code: the sidecar's transition function and journal, the hub's
//! scheduler and folds, links that break, a supervisor, the agent's session, a disk, and time. It re-models none of them but
//! an existing installation's hub; what it leaves out stands in `docs/verification.md`.
//!
//! - [`world`], [`action`], [`system`]: states, what can happen, and what it leads to.
//! - [`process`], [`connection`], [`hub`]: the sidecar's process, its connections, the other end.
//! - [`rebase`]: time that stands still while everything moves into the past.
//! - [`scope`], [`scopes`]: how much may go wrong.
//! - [`rollout`]: a model of its own, of the hub and a fleet.
//! - [`cluster`]: another one, of two hubs over one database.
//! - [`facts`], [`violation`]: what must have happened, and what must not.
//! - [`graph`], [`story`]: whether the good end stays in reach; a path as a story.

// Each test binary compiles all of this and uses a part of it.
#![allow(dead_code, unreachable_pub, clippy::expect_used)]
// It picks out what it looks for; what must not be forgotten (time, frames, deaths) is matched in full all the same.
#![allow(clippy::wildcard_enum_match_arm)]

pub mod action;
pub mod asked;
pub mod cluster;
mod connection;
pub mod facts;
pub mod graph;
mod hub;
mod hub_legacy;
mod hub_ours;
mod process;
mod rebase;
pub mod rollout;
pub mod scope;
pub mod scopes;
pub mod story;
pub mod system;
pub mod violation;
pub mod world;
