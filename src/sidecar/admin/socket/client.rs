//! The client of the local socket, for the command line.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common::private_socket;
use crate::sidecar::admin::commands::CommandResult;
use crate::sidecar::admin::socket::listener;
use crate::sidecar::admin::socket::messages::{SocketReply, SocketRequest, to_line};
use crate::sidecar::admin::status::Status;

/// The usual time limit for an answer; the sidecar itself waits at most 10 s for its event loop.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A client of the sidecar that serves a state folder.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
}

/// An error of a request on the local socket.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No process listens on the socket.
    #[error("no sidecar answers at {}", socket.display())]
    NotRunning {
        /// The socket's path.
        socket: PathBuf,
    },
    /// The socket belongs to another user.
    #[error("{} is another user's: run this as the user that runs the sidecar", socket.display())]
    NotAllowed {
        /// The socket's path.
        socket: PathBuf,
    },
    /// The sidecar accepted the connection but did not answer in time.
    #[error("the sidecar has said nothing for {} s: it is stopped, or hangs; see its log (`log_file`)", after.as_secs())]
    Silent {
        /// The time limit.
        after: Duration,
    },
    /// The sidecar refused the request; its reason.
    #[error("the sidecar did not do it: {0}")]
    Unanswered(String),
    /// The connection broke off; the sidecar may be about to end.
    #[error("the sidecar's answer broke off: {0}; ask again")]
    Broken(#[source] io::Error),
}

impl Client {
    /// Creates a client of the sidecar whose journal is `queue_file`.
    ///
    /// # Errors
    /// The journal's path cannot be resolved (a loop of symbolic links).
    pub fn for_queue_file(queue_file: &Path) -> io::Result<Self> {
        Ok(Self { socket: listener::path_of(queue_file)?, timeout: TIMEOUT })
    }

    /// Returns the client with another time limit for an answer.
    #[must_use]
    pub fn waiting_for(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Returns the time limit for an answer.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns the socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the sidecar's state.
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

    /// Returns the sidecar's state now, at every change, and at least once a second, until the sidecar ends.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn watch(&self) -> Result<impl Iterator<Item = Result<Status, CallError>>, CallError> {
        self.call(&SocketRequest::Watch {})
    }

    /// Sends a command and returns its outcome.
    ///
    /// # Errors
    /// [`CallError`]. A refused command is not an error but an outcome.
    pub fn ask(&self, request: &SocketRequest) -> Result<CommandResult, CallError> {
        match self.call(request)?.reply() {
            Some(Ok(SocketReply::Answer(answer))) => Ok(answer),
            Some(Ok(reply @ SocketReply::Status(_))) => Err(unexpected_reply(&reply)),
            Some(Ok(SocketReply::Error(why))) => Err(CallError::Unanswered(why)),
            Some(Err(error)) => Err(error),
            None => Err(CallError::Broken(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    fn call(&self, request: &SocketRequest) -> Result<Replies, CallError> {
        let mut stream = private_socket::connect(&self.socket).map_err(|error| self.connect_error(error))?;
        stream.set_read_timeout(Some(self.timeout)).map_err(CallError::Broken)?;
        stream.set_write_timeout(Some(self.timeout)).map_err(CallError::Broken)?;
        match stream.write_all(&to_line(request)) {
            // A refused client's request is not read, but the reason was sent and can be read.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(CallError::Broken(error)),
            Ok(()) | Err(_) => {}
        }
        Ok(Replies { lines: BufReader::new(stream), timeout: self.timeout })
    }

    fn connect_error(&self, error: io::Error) -> CallError {
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

fn unexpected_reply(reply: &SocketReply) -> CallError {
    CallError::Broken(io::Error::new(io::ErrorKind::InvalidData, format!("this was no answer: {reply:?}")))
}

/// The reply lines of a connection.
struct Replies {
    lines: BufReader<UnixStream>,
    timeout: Duration,
}

impl Replies {
    fn reply(&mut self) -> Option<Result<SocketReply, CallError>> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).map_err(|error| CallError::Broken(error.into()))),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Some(Err(CallError::Silent { after: self.timeout }))
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
            Ok(reply @ SocketReply::Answer(_)) => Err(unexpected_reply(&reply)),
            Ok(SocketReply::Error(why)) => Err(CallError::Unanswered(why)),
            Err(error) => Err(error),
        })
    }
}
