//! One HTTP/1.1 connection that is kept open between requests. It knows no route of the hub.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Outcome;

/// The longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client with one connection, which is opened when it is first needed.
pub struct Client {
    address: SocketAddr,
    authorization: String,
    stream: Option<TcpStream>,
    /// How many times the hub had closed the connection when the next request was to be sent.
    pub closed_by_hub: usize,
}

/// The reason why a request got no answer.
enum Failed {
    /// The connection ended before a byte of the answer came.
    Closed(String),
    /// Something else.
    Other(String),
}

impl Client {
    /// Creates a client of the hub at this address.
    pub fn new(address: SocketAddr, token: &str) -> Self {
        Self { address, authorization: format!("Authorization: Bearer {token}\r\n"), stream: None, closed_by_hub: 0 }
    }

    /// Sends a request and returns the status and the body's bytes. A connection that the hub has closed in the meantime
    /// is opened anew, once.
    pub async fn call(&mut self, method: &str, path: &str, body: Option<&str>) -> Outcome<(u16, Vec<u8>)> {
        let body = body.unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            self.authorization,
            body.len()
        );
        let reused = self.stream.is_some();
        let answer = match self.try_call(&request).await {
            Err(Failed::Closed(_)) if reused => {
                self.closed_by_hub += 1;
                self.try_call(&request).await
            }
            other => other,
        };
        answer.map_err(|why| {
            let (Failed::Closed(why) | Failed::Other(why)) = why;
            format!("{method} {path}: {why}")
        })
    }

    /// Sends a request whose answer must have this status, and returns its JSON body.
    pub async fn json(&mut self, method: &str, path: &str, body: Option<&str>, expected: u16) -> Outcome<Value> {
        let (status, body) = self.call(method, path, body).await?;
        let text = String::from_utf8_lossy(&body);
        if status != expected {
            return Err(format!("{method} {path} was answered {status}, not {expected}: {text}"));
        }
        serde_json::from_slice(&body).map_err(|error| format!("{method} {path}: not JSON ({error}): {text}"))
    }

    async fn try_call(&mut self, request: &str) -> Result<(u16, Vec<u8>), Failed> {
        let answered = timeout(PATIENCE, self.exchange(request)).await;
        let answered = answered.unwrap_or_else(|_| Err(Failed::Other(format!("no answer within {PATIENCE:?}"))));
        if answered.is_err() {
            self.stream = None;
        }
        answered
    }

    async fn exchange(&mut self, request: &str) -> Result<(u16, Vec<u8>), Failed> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(self.address).await;
                let stream = stream.map_err(|error| Failed::Other(format!("cannot connect: {error}")))?;
                let _ = stream.set_nodelay(true);
                none.insert(stream)
            }
        };
        let closed = |error: std::io::Error| Failed::Closed(format!("the connection broke: {error}"));
        stream.write_all(request.as_bytes()).await.map_err(closed)?;
        let mut answer = Vec::with_capacity(1_024);
        loop {
            let read = stream.read_buf(&mut answer).await.map_err(closed)?;
            if read == 0 {
                let why = format!("the hub closed the connection after {} bytes of the answer", answer.len());
                return Err(if answer.is_empty() { Failed::Closed(why) } else { Failed::Other(why) });
            }
            if let Some((status, body_at, length)) = read_head(&answer).map_err(Failed::Other)? {
                match length {
                    Some(length) if answer.len() >= body_at + length => return Ok((status, answer.split_off(body_at))),
                    // Parsed once, when it may be the end.
                    None if answer.ends_with(b"\r\n0\r\n\r\n") => {
                        return join_chunks(&answer[body_at..]).map(|body| (status, body)).map_err(Failed::Other);
                    }
                    Some(_) | None => {}
                }
            }
        }
    }
}

/// Returns the status, the place of the body and its length (`None`: it comes in chunks), once the whole head is there.
fn read_head(answer: &[u8]) -> Outcome<Option<(u16, usize, Option<usize>)>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let odd = || format!("not an answer that this client can read: {head}");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(odd)?;
    if head.lines().any(|line| line == "transfer-encoding: chunked") {
        return Ok(Some((status, end + 4, None)));
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse().ok()).ok_or_else(odd)?;
    Ok(Some((status, end + 4, Some(length))))
}

/// Returns the body that these chunks are.
fn join_chunks(mut chunks: &[u8]) -> Outcome<Vec<u8>> {
    let mut body = Vec::with_capacity(chunks.len());
    loop {
        let line = chunks.windows(2).position(|two| two == b"\r\n").ok_or("a chunk without a size")?;
        let size = std::str::from_utf8(&chunks[..line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.ok_or("a chunk's size is no number")?;
        if size == 0 {
            return Ok(body);
        }
        let chunk = chunks.get(line + 2..line + 2 + size).ok_or("a chunk that is cut off")?;
        body.extend_from_slice(chunk);
        chunks = chunks.get(line + 4 + size..).ok_or("a chunk that is cut off")?;
    }
}
