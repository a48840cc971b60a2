//! The bytes of a WebSocket, between a client and the leader. It holds no buffer while nothing is under way: there are
//! thousands, nearly all of them silent at any moment. It reads no message, and has no time limit: the leader's break it.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::ready;
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, split};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::common::http_client::ByteStream;
use crate::hub::connections::upgrade::taken_over;

/// How much is read at once, in bytes.
const READ_BYTES: usize = 8 << 10;
/// How long one side may go on once the other has said its last.
const LINGER: Duration = Duration::from_secs(10);

/// Passes bytes on, both ways, until one side ends or breaks, or the leadership has ended.
pub(super) async fn run(client: OnUpgrade, leader: Upgraded, ended: CancellationToken) {
    let passing = async {
        let (client, from_client) = taken_over(client).await?;
        // Anything else was never dialled.
        let parts = leader.downcast::<TokioIo<Box<dyn ByteStream>>>().ok()?;
        let (leader, from_leader) = (parts.io.into_inner(), parts.read_buf);
        let (client_reads, client_writes) = split(client);
        let (leader_reads, leader_writes) = split(leader);
        let up = pass(&from_client, client_reads, leader_writes);
        let down = pass(&from_leader, leader_reads, client_writes);
        tokio::pin!(up, down);
        // A side that broke ends both; one that ended leaves the other a moment for its last words.
        tokio::select! {
            done = &mut up => if done.is_ok() { timeout(LINGER, down).await.ok()?.ok()? },
            done = &mut down => if done.is_ok() { timeout(LINGER, up).await.ok()?.ok()? },
        }
        Some(())
    };
    tokio::select! {
        _ = passing => {}
        () = ended.cancelled() => {}
    }
}

/// Passes on what was read ahead and then everything that comes, to the end.
async fn pass(ahead: &[u8], mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    if !ahead.is_empty() {
        to.write_all(ahead).await?;
        to.flush().await?;
    }
    loop {
        let part = read(&mut from).await?;
        if part.is_empty() {
            return to.shutdown().await;
        }
        to.write_all(&part).await?;
        to.flush().await?;
    }
}

/// Returns what comes next, in a buffer of its size; empty at the end.
async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    poll_fn(|cx| {
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut part = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *from).poll_read(cx, &mut part))?;
        Ok(part.filled().to_vec()).into()
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn everything_arrives_in_order_and_the_end_with_it() {
        let ((mut sender, from), (to, mut receiver)) = (duplex(64), duplex(64));
        let passing = tokio::spawn(async move { pass(b"ahead, ", from, to).await });
        let sent: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let expected = [b"ahead, ", sent.as_slice()].concat();
        tokio::spawn(async move {
            sender.write_all(&sent).await.unwrap();
        });
        let mut received = Vec::new();
        receiver.read_to_end(&mut received).await.unwrap();
        assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
        passing.await.unwrap().unwrap();
    }
}
