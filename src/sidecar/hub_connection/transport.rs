//! The byte stream under the WebSocket, where it is not TCP.

use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;

/// A byte stream to the hub.
pub use crate::common::http_client::ByteStream as Stream;

/// Opens a byte stream to the hub in place of TCP.
pub type Connector = Arc<dyn Fn() -> BoxFuture<'static, io::Result<Box<dyn Stream>>> + Send + Sync>;
