//! What comes in: ports and sockets, the limits on strangers, TLS, and the connection of one agent. It decides nothing about
//! tasks or agents.
//!
//! | part | what it is |
//! |---|---|
//! | [`listener`] | serves HTTP on connections, with limits on time, bytes and numbers |
//! | [`accept`] | the thread that accepts connections, and the line in which they wait |
//! | [`connection_limit`] | the limit on connections without an identified agent |
//! | [`tls`] | TLS on the hub's own port: its certificate, handshakes, and the stream that is with it or without |
//! | `guarded_stream` | a TCP stream with limits on what its peer sends and does not read |
//! | [`websocket`] | the connection of one agent |
//! | `message_stream`, [`upgrade`] | messages over a stream, and how a connection comes to carry them |
//! | [`outbox`] | the queue between the actor and the task of one socket |
//! | [`admin_socket`] | the unix socket for operator commands to a running hub |
//! | [`routes`] | the routes that they all serve at the moment |
//! | [`break_off`] | requests whose connection breaks in place of an answer |
//! | [`fd_limit`] | the limit on open files |

pub mod accept;
pub mod admin_socket;
pub(in crate::hub) mod break_off;
pub mod connection_limit;
pub mod fd_limit;
mod guarded_stream;
pub mod listener;
mod message_stream;
pub mod outbox;
pub mod routes;
pub mod tls;
pub mod upgrade;
pub mod websocket;
