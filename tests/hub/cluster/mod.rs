//! More than one hub: what goes through a standby, and what becomes of it when the leader changes.

mod browsers;
mod forwarding;
mod nodes;
mod roles;
#[cfg(feature = "postgres")]
mod sidecars;
#[cfg(feature = "postgres")]
mod takeover;
