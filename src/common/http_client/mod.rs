//! The HTTP/1.1 client of both programs' commands: single requests to a hub over TCP, TLS or a unix socket, each on a
//! connection of its own; and the parts of it that the sidecar opens its WebSocket with. It follows no redirects, keeps no
//! connection open and has no time limit of its own: its callers do.

pub mod address;
pub mod addresses;
pub mod dial;
pub mod exchange;
pub mod head;
pub mod proxy;
pub mod route;
pub mod tls;
pub mod tls_advice;

pub use address::{HubAddress, percent_encoded};
pub use exchange::{AskError, HttpRequest};
pub use route::ByteStream;
