//! The commands about tokens and invitations.

pub(super) mod invite;
pub(super) mod token;
mod token_file;
mod token_list;
