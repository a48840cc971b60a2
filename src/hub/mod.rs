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
//! | [`websocket`] | the connection of one agent | no |
//! | `message_stream`, `upgrade` | messages over a stream, and how a connection comes to carry them | no |
//! | `outbox` | the queue between the actor and the task of one socket | no |
//! | [`http`] | the HTTP API | no |
//! | `problem` | the error answers of `/api/v1` | no |
//! | [`listener`] | serves HTTP on connections, with limits on time, bytes and numbers | no |
//! | `accept` | the thread that accepts connections, and the line in which they wait | no |
//! | [`tls`] | TLS on the hub's own port: its certificate, handshakes, and the stream that is with it or without | no |
//! | `guarded_stream` | a TCP stream with limits on what its peer sends and does not read | no |
//! | [`connection_limit`] | the limit on connections without an identified agent | no |
//! | [`metrics`] | what is counted and measured for Prometheus | no |
//! | `watched_store` | the store as the actor uses it: each commit is timed and counted | no |
//! | [`pulse`] | the actor's signs of life | no |
//! | `own_pages` | which hosts and which web pages are the hub's own | yes |
//! | `public_url` | the address at which people open the hub in a browser | yes |
//! | [`server`] | the hub's life cycle: opens the store and the port, serves, and stops | no |
//! | [`admin_socket`] | the unix socket for operator commands to a running hub | no |
//! | [`backups`] | the backups that a running hub makes | no |
//! | [`cli`] | the command line | no |
//! | [`log_budget`] | the limit on log lines of one kind | no |
//! | `not_unicode` | the warning about text that is not Unicode, within such a limit | no |
//! | [`news`] | what is told of drains and healing rules | no |
//! | [`healing_file`] | the file of the healing rules, read when it changes | no |
//! | [`event_log`] | the latest events, for readers that follow them | no |
//! | [`registration`] | who may register agents, and how often strangers may | no |
//! | [`random`] | random ids and secrets from the operating system | no |
//! | [`fd_limit`] | the limit on open files | no |

mod accept;
pub mod actor;
pub mod acts;
pub mod admin_socket;
pub mod api_error;
pub mod backups;
pub mod cli;
pub mod clock;
pub mod connection_limit;
pub mod event_log;
pub mod fd_limit;
mod fleet;
mod guarded_stream;
pub mod healing_file;
pub mod http;
pub mod hub_state;
pub mod listener;
pub mod log_budget;
mod message_stream;
pub mod metrics;
pub mod news;
mod not_unicode;
mod outbox;
pub mod own_pages;
mod problem;
mod public_url;
pub mod pulse;
pub mod random;
pub mod registration;
pub mod scheduler;
pub mod server;
pub mod state;
#[cfg(test)]
mod tests;
pub mod tls;
mod upgrade;
mod watched_store;
pub mod websocket;
