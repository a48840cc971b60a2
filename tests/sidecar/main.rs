//! The real sidecar beside an agent, at the double of the existing hub or at our own, and what may happen to either.

#[path = "../support/mod.rs"]
mod support;

mod absences;
mod calls;
mod check;
#[cfg(feature = "postgres")]
mod cluster;
mod crash;
mod depth;
mod dialing;
mod disk_faults;
mod encodings;
mod existing_hub;
mod healing;
mod hooks;
mod kills;
mod late;
mod legacy_hub_double;
mod link;
mod over_tls;
mod process;
mod refused;
mod restart;
mod restored_hub;
mod runs;
mod runs_our_hub;
mod sessions;
mod signals;
mod sizes;
mod systemd;
mod systemd_unit;
mod taken_away;
mod taken_back;
mod tasks;
mod unread;
mod upgrade;
mod week;
