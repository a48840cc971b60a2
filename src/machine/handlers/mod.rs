//! The event handlers: one file for each kind of event, each a part of [`transition`](super::transition()).

mod connection;
mod cordon;
mod drain;
mod flush;
mod hub_message;
mod journal;
pub(super) mod last_look;
mod late_session;
mod news;
mod replies;
mod restart;
mod result_hook;
mod task;
mod verdict_refusal;
mod wake;
