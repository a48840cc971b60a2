//! A TCP stream that breaks when its peer sends more than it may, or reads nothing for too long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// The longest time that a peer may leave written bytes unread.
const STALL_TIMEOUT: Duration = Duration::from_secs(20);
/// The meter's value for no limit.
const UNBOUNDED: u64 = u64::MAX;

/// The number of bytes that the peer may still send.
#[derive(Clone)]
pub(super) struct Meter(Arc<AtomicU64>);

impl Default for Meter {
    /// Returns a meter without a limit.
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(UNBOUNDED)))
    }
}

impl Meter {
    /// Sets the number of bytes that the peer may send from now on; `None` is no limit.
    pub(super) fn allow(&self, bytes: Option<u64>) {
        self.0.store(bytes.unwrap_or(UNBOUNDED), Ordering::Relaxed);
    }

    /// Takes `bytes` off the rest. Returns `false` if the rest is smaller.
    fn take(&self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(UNBOUNDED);
        let less = |left: u64| if left == UNBOUNDED { Some(left) } else { left.checked_sub(bytes) };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

/// A stream that breaks when its peer sends more than it may, or reads nothing for too long.
pub(super) struct Guarded {
    stream: TcpStream,
    meter: Meter,
    /// Runs while the peer reads nothing.
    stall: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    /// Guards a stream by this meter.
    pub(super) fn new(stream: TcpStream, meter: Meter) -> Self {
        Self { stream, meter, stall: None }
    }

    /// Waits for the first byte that arrives, and leaves it there; `None` is the end.
    pub(super) async fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        Ok((self.stream.peek(&mut byte).await? > 0).then_some(byte[0]))
    }

    /// Passes the outcome of a write on, or fails if the peer has stalled for too long.
    fn check_stall<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(STALL_TIMEOUT)));
        match stall.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if !self.meter.take(buf.filled().len() - before) {
            return Poll::Ready(Err(io::Error::other(
                "more was sent than is allowed before the handshake is over, or `identify`",
            )));
        }
        read
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.check_stall(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.check_stall(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
