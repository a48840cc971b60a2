//! The hub: the other end of many sidecars. It hands out tasks, commands restarts, and knows how each went; it runs no
//! task itself and pushes no chatter between agents.
//!
//! | part | what | pure |
//! |---|---|---|
//! | [`task`], [`tasks`], [`verdicts`], [`holders`], [`lost`], [`queue`](mod@queue), [`kept`] | the queue: lanes, generations, retries, dead letters, deadlines | yes |
//! | [`restart`], [`restarts`] | the ledger of commanded restarts | yes |
//! | [`agents`], [`line`] | who is here, and who is idle | yes |
//! | [`desk`] (with `hears`, `original` and `shows`) | the decisions: events in, changes and frames out | yes |
//! | [`digest`] | what decides the desk's future, as one hash | yes |
//! | [`core`] | the one owner: applies, stores, and only then says | no |
//! | [`store`], [`auth`], [`settings`], [`control`] | what survives; tokens; the private door | no |
//! | [`socket`], [`http`] (with `http_tasks`, `http_admin` and `elsewhere`), [`validate`] (with `shapes`), [`reply`] | the two ways in | no |
//! | [`web`] (with `room`) | the door: bounds on time, bytes and numbers | no |
//! | [`serve`], [`cli`] (with `token_cli`, `token_file` and `store_cli`), [`limits`] | the life of the process | no |

pub mod agents;
pub mod auth;
pub mod cli;
pub mod control;
pub mod core;
pub mod desk;
#[cfg(test)]
mod desk_rig;
pub mod digest;
mod elsewhere;
pub mod entropy;
mod hears;
pub mod holders;
pub mod http;
mod http_admin;
mod http_agents;
mod http_tasks;
pub mod kept;
pub mod limits;
pub mod line;
pub mod lost;
mod original;
pub mod policy;
pub mod queue;
#[cfg(test)]
mod read_again_tests;
pub mod reply;
pub mod restart;
pub mod restarts;
pub mod room;
pub mod serve;
pub mod settings;
mod shows;
pub mod socket;
pub mod store;
mod store_cli;
pub mod task;
pub mod tasks;
mod token_cli;
mod token_file;
pub mod verdicts;
pub mod web;
