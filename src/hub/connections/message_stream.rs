//! WebSocket messages (RFC 6455) over a byte stream, as a server. It holds no buffer while nothing is under way: a hub has
//! thousands of connections, nearly all of them silent at any moment, and what one large message needs is given back after
//! it. It answers nothing by itself.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// The first byte's flag of a message's last frame, and the flags that no extension of ours uses.
const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
/// The second byte's flag of a masked frame, which every frame of a client is.
const MASKED: u8 = 0x80;
/// The largest payload of a ping, a pong and a close frame, in bytes.
const MAX_CONTROL_BYTES: usize = 125;

/// How much is read at once, in bytes.
const READ_BYTES: usize = 8 << 10;

/// Messages over a stream.
#[derive(Debug)]
pub(super) struct MessageStream<S> {
    stream: S,
    /// What has arrived of the next frame.
    arrived: Vec<u8>,
    /// The parts of a message that comes in several frames, and whether it is text; `None` between messages.
    parts: Option<(bool, Vec<u8>)>,
    max_message_bytes: usize,
}

/// A message of the peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A text.
    Text(String),
    /// Bytes. Their content does not matter here.
    Binary,
    /// A ping, which wants a pong with the same payload.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// The closing handshake, which wants a close frame in answer. Nothing that follows counts.
    Close {
        /// The peer's code, if it gives one.
        code: Option<u16>,
        /// Its reason.
        reason: String,
    },
}

/// The reason why no more messages can be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// The message is longer than is allowed.
    #[error("a message is too long")]
    TooLong,
    /// The text is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// The peer does not keep to the protocol.
    #[error("{0}")]
    Protocol(&'static str),
}

/// One frame's head.
struct Head {
    is_final: bool,
    opcode: u8,
    /// The place of the payload, after the mask.
    payload_at: usize,
    length: usize,
    mask: [u8; 4],
}

impl<S: AsyncRead + AsyncWrite + Unpin> MessageStream<S> {
    /// Creates the messages of a stream of which `arrived` has been read already.
    pub(super) fn new(stream: S, arrived: &[u8], max_message_bytes: usize) -> Self {
        Self { stream, arrived: arrived.to_vec(), parts: None, max_message_bytes }
    }

    /// Waits for the next message; `None` is the end of the connection. Can be cancelled without loss.
    ///
    /// # Errors
    /// [`ReadError`]; nothing can be read after it.
    pub(super) async fn recv(&mut self) -> Result<Option<Message>, ReadError> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Some(message));
            }
            if poll_fn(|cx| self.poll_fill(cx)).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Writes a text; `Err` means that the connection is of no use any more.
    pub(super) async fn send_text(&mut self, text: &str, timeout: Duration) -> io::Result<()> {
        self.write(TEXT, &[text.as_bytes()], timeout).await
    }

    /// Writes the answer to a ping.
    pub(super) async fn send_pong(&mut self, payload: &[u8], timeout: Duration) -> io::Result<()> {
        self.write(PONG, &[payload], timeout).await
    }

    /// Writes a close frame. A reason that is too long for one is cut.
    pub(super) async fn send_close(&mut self, code: u16, reason: &str, timeout: Duration) -> io::Result<()> {
        let mut end = reason.len().min(MAX_CONTROL_BYTES - 2);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        self.write(CLOSE, &[&code.to_be_bytes(), &reason.as_bytes()[..end]], timeout).await
    }

    /// Ends the stream, in TLS too: its peer sees an end and not a break. One that does not read is not waited for.
    pub(super) async fn end(&mut self) {
        let _ = poll_fn(|cx| Poll::Ready(Pin::new(&mut self.stream).poll_shutdown(cx))).await;
    }

    async fn write(&mut self, opcode: u8, payload: &[&[u8]], timeout: Duration) -> io::Result<()> {
        let length = payload.iter().map(|part| part.len()).sum::<usize>();
        let mut frame = Vec::with_capacity(length + 10);
        frame.push(FINAL | opcode);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ 0..=125), _) => frame.push(short),
            (_, Ok(middle)) => {
                frame.push(126);
                frame.extend(middle.to_be_bytes());
            }
            (_, Err(_)) => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        for part in payload {
            frame.extend_from_slice(part);
        }
        let stream = &mut self.stream;
        // TLS may hold back what the kernel does not take, until it is flushed.
        let mut writing = pin!(async {
            stream.write_all(&frame).await?;
            stream.flush().await
        });
        // The kernel takes nearly every frame at once; only then a timer is needed.
        if let Poll::Ready(written) = poll_fn(|cx| Poll::Ready(writing.as_mut().poll(cx))).await {
            return written;
        }
        let timed = Box::pin(tokio::time::timeout(timeout, writing));
        timed.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads what has arrived and returns how many bytes it was; 0 is the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // On the stack, and given up with each return: an idle connection has none.
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut read = ReadBuf::uninit(&mut space);
        match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
            Poll::Ready(Ok(())) => {
                self.arrived.extend_from_slice(read.filled());
                Poll::Ready(Ok(read.filled().len()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Takes the next message, if all of it has arrived.
    fn take_message(&mut self) -> Result<Option<Message>, ReadError> {
        loop {
            let Some(head) = self.read_head()? else { return Ok(None) };
            let end = head.payload_at + head.length;
            if self.arrived.len() < end {
                self.arrived.reserve_exact(end - self.arrived.len());
                return Ok(None);
            }
            // The rest gets an allocation of its own size, and none if there is no rest.
            let rest = self.arrived[end..].to_vec();
            let mut payload = std::mem::replace(&mut self.arrived, rest);
            payload.truncate(end);
            payload.drain(..head.payload_at);
            unmask(&mut payload, head.mask);
            match (head.opcode, self.parts.take()) {
                (PING, parts) => {
                    self.parts = parts;
                    return Ok(Some(Message::Ping(payload)));
                }
                (PONG, parts) => {
                    self.parts = parts;
                    return Ok(Some(Message::Pong));
                }
                (CLOSE, _) => return Ok(Some(closing(&payload))),
                (TEXT | BINARY, None) if head.is_final => return finish(head.opcode == TEXT, payload).map(Some),
                (TEXT | BINARY, None) => self.parts = Some((head.opcode == TEXT, payload)),
                (CONTINUATION, Some((is_text, mut parts))) => {
                    parts.append(&mut payload);
                    if head.is_final {
                        return finish(is_text, parts).map(Some);
                    }
                    self.parts = Some((is_text, parts));
                }
                (_, _) => return Err(ReadError::Protocol("a frame that cannot come here")),
            }
        }
    }

    /// Reads the next frame's head, if all of it has arrived.
    fn read_head(&self) -> Result<Option<Head>, ReadError> {
        let &[first, second, ..] = self.arrived.as_slice() else { return Ok(None) };
        let (is_final, opcode) = (first & FINAL != 0, first & 0x0f);
        if first & RESERVED != 0 {
            return Err(ReadError::Protocol("a frame with reserved flags"));
        }
        if second & MASKED == 0 {
            return Err(ReadError::Protocol("a frame that is not masked"));
        }
        let length_bytes = match second & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(long) = self.arrived.get(2..2 + length_bytes) else { return Ok(None) };
        let length = match long {
            [] => u64::from(second & !MASKED),
            long => long.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let length = usize::try_from(length).map_err(|_| ReadError::TooLong)?;
        if opcode & 0x08 != 0 && (length > MAX_CONTROL_BYTES || !is_final) {
            return Err(ReadError::Protocol("a control frame that is too long or in parts"));
        }
        let so_far = self.parts.as_ref().map_or(0, |(_, parts)| parts.len());
        if length > self.max_message_bytes.saturating_sub(so_far) {
            return Err(ReadError::TooLong);
        }
        let Some(mask) = self.arrived.get(2 + length_bytes..).and_then(<[u8]>::first_chunk) else { return Ok(None) };
        Ok(Some(Head { is_final, opcode, payload_at: 6 + length_bytes, length, mask: *mask }))
    }
}

fn finish(is_text: bool, payload: Vec<u8>) -> Result<Message, ReadError> {
    if !is_text {
        return Ok(Message::Binary);
    }
    String::from_utf8(payload).map(Message::Text).map_err(|_| ReadError::NotUtf8)
}

/// Reads the payload of a close frame.
fn closing(payload: &[u8]) -> Message {
    match payload.split_first_chunk::<2>() {
        Some((code, reason)) => Message::Close {
            code: Some(u16::from_be_bytes(*code)),
            reason: String::from_utf8_lossy(reason).into_owned(),
        },
        None => Message::Close { code: None, reason: String::new() },
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let (wide, word) = payload.as_chunks_mut::<4>();
    for four in wide {
        *four = (u32::from_ne_bytes(*four) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in word.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests;
