//! The model.
mod action;
pub mod facts;
mod hub;
mod hub_legacy;
mod hub_ours;
mod link;
mod process;
mod rebase;
pub mod scope;
pub mod story;
pub mod system;
mod violation;
mod world;
