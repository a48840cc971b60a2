//! What the HTTP listeners of both programs share: the bounds on a request's head, and which failed accepts are the peer's.

use std::io;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;

/// Returns a connection's settings: a request's head must arrive within `head_timeout` and have at most `max_head_bytes`.
pub(crate) fn connection(head_timeout: Duration, max_head_bytes: usize) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head_timeout).max_buf_size(max_head_bytes);
    builder
}

/// Returns whether only the connection that was to be accepted is broken: the listener can go on at once.
pub(crate) fn is_peer_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    [ConnectionAborted, ConnectionRefused, ConnectionReset].contains(&error.kind())
}
