//! The handshake of one connection, which any stranger can begin: bounded in time, in bytes, and in what it takes from agents.
//! The caller counts the connection, and ends it for another.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

use crate::hub::connections::guarded_stream::{Guarded, Meter};
use crate::hub::connections::tls::certificate::Certificate;
use crate::hub::connections::tls::stream::Stream;

/// The most that a peer may send before the handshake is over, in bytes. A greeting has less than 2 KiB; with a client's last
/// word comes what follows it at once, up to a record of 16 KiB and a part of the next.
const MAX_BYTES: u64 = 64 << 10;
/// How long the connection of a peer that speaks no TLS is kept for it to read the answer, and how much it may still send.
const LINGER: Duration = Duration::from_millis(500);
const MAX_LINGER_BYTES: u64 = 1 << 20;
/// The answer to HTTP without TLS. (`HTTPS port` is what sidecars know it by, as from nginx.)
const PLAIN: &str = "this port speaks TLS: use https:// (wss:// for a sidecar's hub_url). A plain HTTP request was sent to an HTTPS port.\n";

/// The handshakes of a port.
#[derive(Clone)]
pub struct Handshakes {
    certificate: Arc<Certificate>,
    /// Who computes. What a greeting costs, a signature, is some 100 times what any frame does; so at most half of the
    /// workers do it at any moment, and no frame of an agent waits behind a herd of them.
    workers: Arc<Semaphore>,
}

impl Handshakes {
    /// Creates them with this certificate.
    pub(in crate::hub) fn new(certificate: Arc<Certificate>) -> Self {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        Self { certificate, workers: Arc::new(Semaphore::new((workers / 2).max(1))) }
    }

    /// Speaks TLS on a stream, whose meter this is; `None` where that is not to be, or not within the limit. HTTP without TLS
    /// is answered with what to do.
    pub(in crate::hub::connections) async fn secure(
        &self,
        stream: Guarded,
        meter: &Meter,
        peer: SocketAddr,
        limit: Duration,
    ) -> Option<Stream> {
        // Anybody can cause these lines.
        match timeout(limit, self.accept(stream, meter)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
        }
        None
    }

    async fn accept(&self, mut stream: Guarded, meter: &Meter) -> io::Result<Stream> {
        match stream.first_byte().await? {
            // A request's method; no record of TLS begins like this.
            Some(b'A'..=b'Z') => {
                // Boxed, since a handshake must not be as large as this.
                Box::pin(answer_plain(&mut stream)).await?;
                return Err(io::Error::other("plain HTTP; told to use https://"));
            }
            Some(_) => {}
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        meter.allow(Some(MAX_BYTES));
        let greeted = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let finishing = {
            // The semaphore is never closed.
            let _turn = self.workers.acquire().await;
            greeted.into_stream(self.certificate.config())
        };
        let stream = finishing.await?;
        meter.allow(None);
        Ok(Stream::Tls(Box::new(stream)))
    }
}

async fn answer_plain(stream: &mut Guarded) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{PLAIN}",
        PLAIN.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // What is not read when the connection closes would take the answer with it.
    let mut rest = stream.take(MAX_LINGER_BYTES);
    let reading = async { while rest.read(&mut [0; 4096]).await.is_ok_and(|bytes| bytes > 0) {} };
    // A peer that goes on sending has had its time.
    let _ = timeout(LINGER, reading).await;
    Ok(())
}
