//! The hub: the other end of many sidecars. It hands out tasks, commands restarts, and knows how each went; it runs no
//! task itself and pushes no chatter between agents.
//!
//! | part | what | pure |
//! |---|---|---|
//! | [`task`], [`tasks`], [`verdicts`], [`assignments`], [`lost`], [`queue`](mod@queue), [`kept`] | the queue: lanes, generations, retries, dead letters, deadlines | yes |
//! | [`restart`], [`restarts`] | the ledger of commanded restarts | yes |
//! | [`agents`], [`line`] | who is here, and who is idle | yes |
//! | [`scheduler`] (with `hears`, `original` and `shows`) | the decisions: events in, changes and frames out | yes |
//! | [`digest`] | what decides the desk's future, as one hash | yes |
//! | [`actor`] | the one owner: applies, stores, and only then says | no |
//! | [`store`], [`auth`], [`settings`], [`control`] | what survives; tokens; the private door | no |
//! | [`socket`], [`http`] (with `http_tasks`, `http_admin` and `elsewhere`), [`validate`] (with `shapes`), [`reply`] | the two ways in | no |
//! | [`web`] (with `room`) | the door: bounds on time, bytes and numbers | no |
//! | [`serve`], [`cli`] (with `token_cli`, `token_file` and `store_cli`), [`limits`] | the life of the process | no |

pub mod actor;
pub mod admin_socket;
pub mod cli;
pub mod connection_limit;
pub mod fd_limit;
pub mod http;
pub mod listener;
pub mod random;
pub mod scheduler;
pub mod server;
pub mod state;
#[cfg(test)]
mod tests;
pub mod websocket;
