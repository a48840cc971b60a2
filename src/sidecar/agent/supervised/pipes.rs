//! Reads a command's output. It waits for the command itself, and for no other process that holds its pipes.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout};

use crate::sidecar::agent::supervised::output::Stream;

/// How long the pipes may stay open and silent after the command's end. A daemon that the command left behind may hold
/// them open forever.
const SILENCE_LIMIT: Duration = Duration::from_millis(100);
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// The read ends of the command's stdout and stderr.
pub(super) struct Pipes {
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
    out_bytes: Vec<u8>,
    err_bytes: Vec<u8>,
}

impl Pipes {
    pub(super) fn of(child: &mut Child) -> Self {
        let buffer = || vec![0; 64 * 1024];
        Self { out: child.stdout.take(), err: child.stderr.take(), out_bytes: buffer(), err_bytes: buffer() }
    }

    pub(super) fn are_open(&self) -> bool {
        self.out.is_some() || self.err.is_some()
    }

    /// Reads once, from whichever pipe has data.
    pub(super) async fn read(&mut self, out: &mut Stream, err: &mut Stream) {
        let Self { out: from_out, err: from_err, out_bytes, err_bytes } = self;
        let (is_stdout, read, to) = tokio::select! {
            read = read_from(from_out, out_bytes) => (true, read, out),
            read = read_from(from_err, err_bytes) => (false, read, err),
        };
        let bytes = if is_stdout { &self.out_bytes } else { &self.err_bytes };
        match read {
            Some(read) => to.push(&bytes[..read]),
            None if is_stdout => self.out = None,
            None => self.err = None,
        }
    }

    /// Reads what is left in the pipes, without waiting for other processes that hold them open.
    pub(super) async fn drain(&mut self, out: &mut Stream, err: &mut Stream) {
        let deadline = Instant::now() + DRAIN_LIMIT;
        while self.are_open() && Instant::now() < deadline {
            if tokio::time::timeout(SILENCE_LIMIT, self.read(out, err)).await.is_err() {
                return;
            }
        }
    }
}

/// Returns how many bytes were read; none at the end. A closed pipe is forever pending.
async fn read_from(pipe: &mut Option<impl AsyncRead + Unpin>, bytes: &mut [u8]) -> Option<usize> {
    match pipe {
        Some(pipe) => pipe.read(bytes).await.ok().filter(|read| *read > 0),
        None => std::future::pending().await,
    }
}
