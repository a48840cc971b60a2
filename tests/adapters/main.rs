//! The shell's adapters, each alone: real sockets, real commands, real files.

mod config_load;
mod hub_link;
mod hub_link_handshake;
mod hub_link_tls;
mod results;
mod runner;
mod slow_hub;
mod unread;
