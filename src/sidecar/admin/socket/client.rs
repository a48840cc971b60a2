//! The other end of the local socket, for a command line: one question, one answer, and how it failed. It prints nothing
//! and starts nothing.

use core::fmt;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sidecar::admin::commands::CommandResult;
use crate::sidecar::admin::socket::listener;
use crate::sidecar::admin::socket::messages::{SocketReply, SocketRequest};
use crate::sidecar::admin::status::Status;

/// How long an answer may take; the sidecar itself gives up on its loop after 10 s.
const PATIENCE: Duration = Duration::from_secs(15);

/// Asks the sidecar that serves a state folder.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum CallError {
    /// Nobody is behind the socket.
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket is another user's.
    NotAllowed {
        /// The socket.
        socket: PathBuf,
    },
    /// It takes callers in and says nothing.
    Silent,
    /// It did not understand, or would not say.
    Unanswered(String),
    /// The conversation broke off; the sidecar may be leaving.
    Broken(io::Error),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning { socket } => write!(f, "no sidecar answers at {}", socket.display()),
            Self::NotAllowed { socket } => {
                write!(f, "{} is another user's: run this as the user that runs the sidecar", socket.display())
            }
            Self::Silent => write!(
                f,
                "the sidecar has said nothing for {} s: it is stopped, or hangs; see its log (`log_file`)",
                PATIENCE.as_secs()
            ),
            Self::Unanswered(why) => write!(f, "the sidecar did not do it: {why}"),
            Self::Broken(error) => write!(f, "the sidecar's answer broke off: {error}; ask again"),
        }
    }
}

impl core::error::Error for CallError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::NotRunning { .. } | Self::NotAllowed { .. } | Self::Silent | Self::Unanswered(_) => None,
            Self::Broken(error) => Some(error),
        }
    }
}

impl Client {
    /// For the sidecar whose journal that is.
    ///
    /// # Errors
    /// The journal's path leads nowhere (a loop of symbolic links).
    pub fn for_queue_file(queue_file: &Path) -> io::Result<Self> {
        Ok(Self { socket: listener::path_of(queue_file)? })
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The sidecar as it stands.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn status(&self) -> Result<Status, CallError> {
        match self.call(&SocketRequest::Status {})?.next() {
            Some(Ok(status)) => Ok(status),
            Some(Err(error)) => Err(error),
            None => Err(CallError::Broken(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// The sidecar as it stands, and again whenever that changes and once a second, until it goes.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn watch(&self) -> Result<impl Iterator<Item = Result<Status, CallError>>, CallError> {
        self.call(&SocketRequest::Watch {})
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// [`CallError`]. A refusal is none: it is an answer.
    pub fn ask(&self, request: &SocketRequest) -> Result<CommandResult, CallError> {
        match self.call(request)?.reply() {
            Some(Ok(SocketReply::CommandResult(answer))) => Ok(answer),
            Some(Ok(reply @ SocketReply::Status(_))) => Err(odd(&reply)),
            Some(Ok(SocketReply::Error(why))) => Err(CallError::Unanswered(why)),
            Some(Err(error)) => Err(error),
            None => Err(CallError::Broken(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    fn call(&self, request: &SocketRequest) -> Result<Replies, CallError> {
        let mut stream = listener::connect(&self.socket).map_err(|error| self.not_connected(error))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(CallError::Broken)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(CallError::Broken)?;
        // Texts only: nothing here can fail to serialize.
        let mut line = serde_json::to_vec(request).unwrap_or_default();
        line.push(b'\n');
        match stream.write_all(&line) {
            // A caller that is turned away is not heard, and told why: that is there to be read.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(CallError::Broken(error)),
            Ok(()) | Err(_) => {}
        }
        Ok(Replies(BufReader::new(stream)))
    }

    fn not_connected(&self, error: io::Error) -> CallError {
        let socket = self.socket.clone();
        if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
            CallError::NotRunning { socket }
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            CallError::NotAllowed { socket }
        } else {
            CallError::Broken(error)
        }
    }
}

fn odd(reply: &SocketReply) -> CallError {
    CallError::Broken(io::Error::new(io::ErrorKind::InvalidData, format!("this was no answer: {reply:?}")))
}

/// The lines that come back.
struct Replies(BufReader<UnixStream>);

impl Replies {
    fn reply(&mut self) -> Option<Result<SocketReply, CallError>> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).map_err(|error| CallError::Broken(error.into()))),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Some(Err(CallError::Silent))
            }
            Err(error) => Some(Err(CallError::Broken(error))),
        }
    }
}

impl Iterator for Replies {
    type Item = Result<Status, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.reply()? {
            Ok(SocketReply::Status(status)) => Ok(*status),
            Ok(reply @ SocketReply::CommandResult(_)) => Err(odd(&reply)),
            Ok(SocketReply::Error(why)) => Err(CallError::Unanswered(why)),
            Err(error) => Err(error),
        })
    }
}
