//! Reads the head of an HTTP/1.1 answer from a byte stream that goes on as something else: a WebSocket, or a tunnel
//! through a proxy. It is bounded in size; the caller limits its time.

use std::io;

use httparse::{EMPTY_HEADER, Status};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest head, bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The most header lines.
const MAX_HEADERS: usize = 100;

/// The first byte of a TLS alert (RFC 8446, 5.1), which a TLS port answers to plain text.
const TLS_ALERT: u8 = 0x15;

/// The head of an answer, and what was read after it.
#[derive(Debug)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The version of HTTP, 1.0 or 1.1.
    pub version: Version,
    /// The header lines.
    pub headers: HeaderMap,
    /// The bytes after the head that came with it.
    pub rest: Vec<u8>,
}

/// The reason why no head was read.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The stream failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer closed the stream before any answer.
    #[error("it closed the connection without an answer")]
    NoAnswer,
    /// The peer closed the stream within the head.
    #[error("it closed the connection in the middle of its answer")]
    Cut,
    /// The answer is a TLS record.
    #[error("it answered in TLS")]
    Tls,
    /// The answer is no HTTP.
    #[error("its answer is no HTTP: {0}")]
    NoHttp(String),
    /// The head is longer than any that makes sense.
    #[error("the head of its answer is longer than {} bytes", MAX_HEAD_BYTES)]
    TooLong,
}

/// Reads the head of an answer.
///
/// # Errors
/// Returns a [`HeadError`].
pub async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Head, HeadError> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 2048];
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            return Err(if bytes.is_empty() { HeadError::NoAnswer } else { HeadError::Cut });
        }
        bytes.extend_from_slice(&piece[..count]);
        if bytes.first() == Some(&TLS_ALERT) {
            return Err(HeadError::Tls);
        }
        if let Some(head) = parse(&bytes)? {
            return Ok(head);
        }
        if bytes.len() > MAX_HEAD_BYTES {
            return Err(HeadError::TooLong);
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Option<Head>, HeadError> {
    let mut lines = [EMPTY_HEADER; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut lines);
    let no_http = |why: &dyn std::fmt::Display| HeadError::NoHttp(why.to_string());
    let length = match answer.parse(bytes).map_err(|error| no_http(&error))? {
        Status::Complete(length) => length,
        Status::Partial => return Ok(None),
    };
    let mut headers = HeaderMap::new();
    for line in answer.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|error| no_http(&error))?;
        headers.append(name, HeaderValue::from_bytes(line.value).map_err(|error| no_http(&error))?);
    }
    Ok(Some(Head {
        status: StatusCode::from_u16(answer.code.unwrap_or_default()).map_err(|error| no_http(&error))?,
        version: if answer.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 },
        headers,
        rest: bytes[length..].to_vec(),
    }))
}

/// Returns whether a header that is a list of tokens holds `token`, in any case and any of its lines.
pub fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let lines = headers.get_all(name);
    let tokens = lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    tokens.into_iter().any(|one| one.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::CONNECTION;

    async fn read(text: &[u8]) -> Result<Head, HeadError> {
        read_head(&mut &text[..]).await
    }

    #[tokio::test]
    async fn what_follows_the_head_is_kept() {
        let head = read(b"HTTP/1.1 101 Ok\r\nConnection: keep-alive, UPGRADE\r\n\r\n\x81\x01x").await.unwrap();
        assert_eq!(
            (head.status.as_u16(), head.version, head.rest.as_slice()),
            (101, Version::HTTP_11, &b"\x81\x01x"[..])
        );
        assert!(has_token(&head.headers, CONNECTION, "upgrade") && !has_token(&head.headers, CONNECTION, "keep"));
    }

    #[tokio::test]
    async fn what_is_no_head_is_told_by_name() {
        assert!(matches!(read(b"").await, Err(HeadError::NoAnswer)));
        assert!(matches!(read(b"HTTP/1.1 200 O").await, Err(HeadError::Cut)));
        assert!(matches!(read(b"\x15\x03\x01\x00\x02\x02\x46").await, Err(HeadError::Tls)));
        assert!(matches!(read(b"SSH-2.0-OpenSSH_9\r\n").await, Err(HeadError::NoHttp(_))));
        let endless = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; MAX_HEAD_BYTES]].concat();
        assert!(matches!(read(&endless).await, Err(HeadError::TooLong)));
    }
}
