//! TLS on the hub's own port: its certificate, the handshake of each connection, and the stream that HTTP and WebSockets
//! go over, with TLS or without.

pub mod certificate;
pub mod handshake;
pub(super) mod stream;
