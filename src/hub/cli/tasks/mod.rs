//! The commands about tasks.

pub(super) mod change;
mod follow;
pub(super) mod list;
pub(super) mod one;
mod parts;
pub(super) mod submit;
