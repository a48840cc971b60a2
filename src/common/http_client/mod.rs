//! The HTTP/1.1 client of both programs' commands: single requests to a hub over TCP, TLS or a unix socket, each on a
//! connection of its own. It follows no redirects, keeps no connection open and has no time limit: its callers do.

pub mod address;
pub mod dial;
pub mod exchange;

pub use address::{HubAddress, percent_encoded};
pub use exchange::{AskError, ByteStream, HttpRequest};
