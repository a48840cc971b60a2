//! The hub: the other end of many sidecars. It assigns tasks, commands restarts, and records how each went. It runs no
//! task itself and passes no messages between agents.
//!
//! | part | what it is | pure |
//! |---|---|---|
//! | [`scheduler`] | all decisions about tasks, agents and restarts: events in, changes and frames out | yes |
//! | [`state`] | what outlives the process: the store, tokens, settings, the audit | no |
//! | [`clock`] | the hub's time, which follows the wall clock and lengthens no wait | no |
//! | [`acts`] | what agents and operators do, each act with its entry in the audit | yes |
//! | [`hub_state`] | the state in memory, and the copies of it that readers get | yes |
//! | `fleet` | all agents that the hub knows, also those that have only a token | yes |
//! | [`actor`] | the owner of the state: applies events, stores the changes, and only then sends frames | no |
//! | [`connections`] | what comes in: ports and sockets, TLS, limits, and the connection of one agent | no |
//! | [`http`] | the HTTP API | no |
//! | `problem` | the error answers of `/api/v1` | no |
//! | [`metrics`] | what is counted and measured for Prometheus | no |
//! | [`server`] | the hub's life cycle: opens the store and the port, serves, and stops | no |
//! | [`backups`] | the backups that a running hub makes | no |
//! | [`cli`] | the command line | no |
//! | [`log_budget`] | the limit on log lines of one kind | no |
//! | `not_unicode` | the warning about text that is not Unicode, within such a limit | no |
//! | [`news`] | what is told of drains and healing rules | no |
//! | [`healing_file`] | the file of the healing rules, read when it changes | no |
//! | [`registration`] | who may register agents, and how often strangers may | no |
//! | [`random`] | random ids and secrets from the operating system | no |

pub mod actor;
pub mod acts;
pub mod api_error;
pub mod backups;
pub mod cli;
pub mod clock;
pub mod connections;
mod fleet;
pub mod healing_file;
pub mod http;
pub mod hub_state;
pub mod log_budget;
pub mod metrics;
pub mod news;
mod not_unicode;
mod problem;
pub mod random;
pub mod registration;
pub mod scheduler;
pub mod server;
pub mod state;
#[cfg(test)]
mod tests;
