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
//! | [`cluster`] | more than one hub on one database: who leads, and what the others do meanwhile | no |
//! | [`connections`] | what comes in: ports and sockets, TLS, limits, and the connection of one agent | no |
//! | [`http`] | the HTTP API | no |
//! | `problem` | the error answers of `/api/v1` | no |
//! | [`metrics`] | what is counted and measured for Prometheus | no |
//! | [`options`] | what a hub can be told, and why one ends | yes |
//! | `port` | a port that is bound, and what is served there | no |
//! | [`server`] | the hub's life cycle: opens the store and the port, serves, and stops | no |
//! | [`backups`] | the backups that a running hub makes | no |
//! | [`cli`] | the command line | no |
//! | [`log_budget`] | the limit on log lines of one kind | no |
//! | `not_unicode` | the warning about text that is not Unicode, within such a limit | no |
//! | [`news`] | what is told of drains and healing rules | no |
//! | [`healing_file`] | the file of the healing rules, read when it changes | no |
//! | [`registration`] | who may register agents, and how often strangers may | no |
//! | [`random`] | random ids and secrets from the operating system | no |

#[cfg(feature = "hub")]
pub mod actor;
#[cfg(feature = "hub")]
pub mod acts;
#[cfg(feature = "hub")]
pub mod api_error;
#[cfg(feature = "hub")]
pub mod backups;
#[cfg(feature = "hub")]
pub mod cli;
#[cfg(feature = "hub")]
pub mod clock;
#[cfg(feature = "hub")]
pub mod cluster;
#[cfg(feature = "hub")]
pub mod connections;
#[cfg(feature = "hub")]
mod fleet;
#[cfg(feature = "hub")]
pub mod healing_file;
#[cfg(feature = "hub")]
pub mod http;
#[cfg(feature = "hub")]
pub mod hub_state;
#[cfg(feature = "hub")]
pub mod log_budget;
#[cfg(feature = "hub")]
pub mod metrics;
#[cfg(feature = "hub")]
pub mod news;
#[cfg(feature = "hub")]
mod not_unicode;
#[cfg(feature = "hub")]
pub mod options;
#[cfg(feature = "hub")]
mod port;
#[cfg(feature = "hub")]
mod problem;
#[cfg(feature = "hub")]
pub mod random;
#[cfg(feature = "hub")]
pub mod registration;
pub mod scheduler;
#[cfg(feature = "hub")]
pub mod server;
#[cfg(feature = "hub")]
pub mod state;
#[cfg(feature = "hub")]
#[cfg(test)]
mod tests;
