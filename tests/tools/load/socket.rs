//! The smallest WebSocket client that a hub can be loaded with: text frames, pings and a close frame. It holds no buffer
//! while nothing arrives.

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::Outcome;

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// The bytes that are read at once.
const READ_BYTES: usize = 4 << 10;

/// One connection.
pub struct Socket {
    stream: TcpStream,
    /// What has arrived and is not taken yet; no allocation while that is nothing.
    arrived: Vec<u8>,
}

/// What arrived.
pub enum Arrived {
    /// A text message.
    Text(String),
    /// A close frame, with its code and reason.
    Close(u16, String),
    /// The end of the connection.
    End,
}

impl Socket {
    /// Connects and asks for a WebSocket; returns once the hub has agreed, or `None` if it ended the connection instead.
    pub async fn open(address: SocketAddr) -> Outcome<Option<Self>> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("cannot connect: {error}"))?;
        let _ = stream.set_nodelay(true);
        let mut socket = Self { stream, arrived: Vec::new() };
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        socket.write(request.as_bytes()).await?;
        loop {
            if let Some(end) = socket.arrived.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = socket.take(end + 4);
                let is_agreed = head.starts_with(b"HTTP/1.1 101");
                return if is_agreed { Ok(Some(socket)) } else { Err(String::from_utf8_lossy(&head).into_owned()) };
            }
            // Reset or ended: both are the end.
            if socket.fill().await.unwrap_or(0) == 0 {
                return Ok(None);
            }
        }
    }

    /// Sends a text frame.
    pub async fn send(&mut self, text: &str) -> Outcome<()> {
        self.send_frame(TEXT, text.as_bytes()).await
    }

    /// Sends a close frame.
    pub async fn send_close(&mut self) -> Outcome<()> {
        self.send_frame(CLOSE, &1_000u16.to_be_bytes()).await
    }

    /// Waits for what arrives next. Can be cancelled without loss.
    pub async fn next(&mut self) -> Outcome<Arrived> {
        loop {
            match self.take_frame()? {
                Some((TEXT, payload)) => {
                    let text = String::from_utf8(payload).map_err(|error| format!("not UTF-8: {error}"))?;
                    return Ok(Arrived::Text(text));
                }
                Some((CLOSE, payload)) => {
                    let code = payload.first_chunk().map_or(1_005, |code| u16::from_be_bytes(*code));
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                    return Ok(Arrived::Close(code, reason));
                }
                Some((PING, payload)) => self.send_frame(PONG, &payload).await?,
                Some((PONG, _)) => {}
                Some((opcode, _)) => return Err(format!("a frame with the opcode {opcode}")),
                // Reset or ended: both are the end.
                None => {
                    if self.fill().await.unwrap_or(0) == 0 {
                        return Ok(Arrived::End);
                    }
                }
            }
        }
    }

    /// Lets the connection be reset when it is dropped, so that no port waits for late packets.
    pub fn reset_on_drop(&self) {
        let _ = self.stream.set_zero_linger();
    }

    async fn send_frame(&mut self, opcode: u8, payload: &[u8]) -> Outcome<()> {
        let mut frame = Vec::with_capacity(payload.len() + 14);
        frame.push(0x80 | opcode);
        let length = payload.len();
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ 0..=125), _) => frame.push(0x80 | short),
            (_, Ok(middle)) => {
                frame.push(0x80 | 126);
                frame.extend(middle.to_be_bytes());
            }
            (_, Err(_)) => return Err(format!("a frame of {length} bytes is more than this client sends")),
        }
        // A mask of zeros leaves the payload as it is.
        frame.extend([0; 4]);
        frame.extend(payload);
        self.write(&frame).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.stream.write_all(bytes).await.map_err(|error| format!("cannot write: {error}"))
    }

    /// Waits until more bytes have arrived and returns how many; 0 is the end.
    async fn fill(&mut self) -> io::Result<usize> {
        loop {
            self.stream.readable().await?;
            match self.try_fill() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    fn try_fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; READ_BYTES];
        let read = self.stream.try_read(&mut buffer)?;
        self.arrived.extend(&buffer[..read]);
        Ok(read)
    }

    /// Takes the next whole frame, if it is there: its opcode and payload.
    fn take_frame(&mut self) -> Outcome<Option<(u8, Vec<u8>)>> {
        let &[first, second, ..] = self.arrived.as_slice() else { return Ok(None) };
        if first & 0xf0 != 0x80 || second & 0x80 != 0 {
            return Err(format!("a frame that no hub sends begins with {first:#x} {second:#x}"));
        }
        let (head, length) = match second {
            126 => match self.arrived.get(2..4) {
                Some(length) => (4, length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))),
                None => return Ok(None),
            },
            127 => match self.arrived.get(2..10) {
                Some(length) => (10, length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))),
                None => return Ok(None),
            },
            short => (2, usize::from(short)),
        };
        if self.arrived.len() < head + length {
            return Ok(None);
        }
        let mut frame = self.take(head + length);
        Ok(Some((first & 0xf, frame.split_off(head))))
    }

    /// Takes the first bytes of what has arrived.
    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let rest = self.arrived.split_off(bytes);
        std::mem::replace(&mut self.arrived, rest)
    }
}
