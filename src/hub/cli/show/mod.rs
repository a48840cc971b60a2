//! What the commands print, and the fields of the API as texts.

pub(super) mod fields;
pub(super) mod output;
pub(super) mod page;
