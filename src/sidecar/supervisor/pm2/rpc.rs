//! Requests the process list of a running pm2 over its own socket: a millisecond and no process, where `pm2 jlist`
//! takes 0.2 to 0.5 s. The protocol is undocumented, though unchanged from pm2 3.5 to 7.0; anything unexpected is an
//! error, and the caller falls back to `jlist`.
//!
//! The frames are AMP: a byte `version << 4 | arguments`, then each argument as a `u32` length, big-endian, and that
//! many bytes, which begin with a letter for their kind (`j:` JSON, `s:` text).

use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::sidecar::supervisor::pm2::error::{MAX_OUTPUT_BYTES, Pm2Error};
use crate::sidecar::supervisor::pm2::process_list::{ListError, Pm2Process, parse_rpc_reply};

const REQUEST: &str = r#"j:{"type":"call","method":"getMonitorData","args":[{}]}"#;
/// Any text that identifies the call; the reply repeats it.
const CALL_ID: &str = "s:agentcom:0";
const AMP_VERSION: u8 = 1;

/// Requests the list from the daemon of `home`. Has no timeout of its own.
pub(super) async fn query_rpc(home: &Path) -> Result<Vec<Pm2Process>, Pm2Error> {
    let socket = tokio::net::UnixStream::connect(home.join("rpc.sock")).await;
    let mut socket = socket.map_err(|_| Pm2Error::NoDaemon)?;
    socket.write_all(&frame(&[REQUEST, CALL_ID])).await.map_err(Pm2Error::Rpc)?;
    read_reply(&mut socket).await
}

/// Reads the daemon's reply.
///
/// # Errors
/// [`Pm2Error::Rpc`] if the reply breaks off or is no frame, [`Pm2Error::Garbage`] if the frame contains no list.
pub async fn read_reply(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<Pm2Process>, Pm2Error> {
    let reply = first_argument(stream).await.map_err(Pm2Error::Rpc)?;
    let nothing = || Pm2Error::Garbage(ListError::Absent { bytes: reply.len() });
    parse_rpc_reply(reply.strip_prefix(b"j:").ok_or_else(nothing)?).map_err(Pm2Error::Garbage)
}

fn frame(arguments: &[&str]) -> Vec<u8> {
    // Neither cast truncates: the count and the lengths are constant and small.
    let mut bytes = vec![AMP_VERSION << 4 | arguments.len() as u8];
    for argument in arguments {
        bytes.extend_from_slice(&(argument.len() as u32).to_be_bytes());
        bytes.extend_from_slice(argument.as_bytes());
    }
    bytes
}

async fn first_argument(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let invalid = |what: String| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    let head = stream.read_u8().await?;
    if head >> 4 != AMP_VERSION || head & 0x0f == 0 {
        return Err(invalid(format!("an answer that begins with {head:#04x}, expected version 1 with arguments")));
    }
    let length = u64::from(stream.read_u32().await?);
    if length > MAX_OUTPUT_BYTES {
        return Err(invalid(format!("an answer of {length} bytes, expected at most {MAX_OUTPUT_BYTES}")));
    }
    let mut bytes = Vec::new();
    stream.take(length).read_to_end(&mut bytes).await?;
    if (bytes.len() as u64) < length {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_is_read_back() {
        let bytes = frame(&["j:{}", "s:x"]);
        assert_eq!(bytes[..5], [0x12, 0, 0, 0, 4]);
        assert_eq!(first_argument(&mut bytes.as_slice()).await.unwrap(), b"j:{}");
    }

    #[tokio::test]
    async fn answers_that_break_off_or_are_none_are_errors() {
        for bytes in [&b""[..], b"\x12", b"\x12\0\0\0\x09j:{", b"HTTP/1.1 400", b"\x10", b"\x12\xff\xff\xff\xff"] {
            assert!(first_argument(&mut &*bytes).await.is_err(), "{bytes:?}");
        }
    }
}
