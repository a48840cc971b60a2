//! The commands about agents.

pub(super) mod label;
pub(super) mod list;
pub(super) mod one;
pub(in crate::hub) mod words;
