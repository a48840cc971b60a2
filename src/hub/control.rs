//! The hub's private door: a unix socket in the data dir, over which `agentcom-hub token` asks a running hub for a token.
//! Whoever may open the socket (its owner: mode 0600) may have any token; it serves nothing else.
//!
//! One line of JSON each way: `{"op":"token","name":"ops","admin":true}` -> `{"token":"..."}` or `{"error":"..."}`.

use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::auth::{Principal, Tokens};
use super::core::{Handle, now_ms};
use super::desk::Changes;
use super::entropy;
use super::store::{Store, StoreError};

/// The longest request, bytes.
const MAX_REQUEST_BYTES: u64 = 4_096;
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long `token` waits while the store is taken but no hub answers: one that is just starting or stopping.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    op: String,
    name: String,
    #[serde(default)]
    admin: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Response {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Where the socket is.
pub fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join("hub.sock")
}

/// Opens the door. Call it only while holding the store: then no other hub can be behind a socket that is already there.
///
/// # Errors
/// Anything that keeps a socket from being there, for instance a path of more than 107 bytes.
pub fn bind(data_dir: &Path) -> std::io::Result<UnixListener> {
    // Bound under another name, closed to others, then put in place: nobody ever finds it open.
    let hidden = data_dir.join(".hub.sock");
    match std::fs::remove_file(&hidden) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&hidden)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&hidden, path_in(data_dir))?;
    Ok(listener)
}

/// Answers at the door until `stop`.
pub async fn serve(listener: UnixListener, core: Handle, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let core = core.clone();
                tokio::spawn(async move {
                    if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, answer(stream, core)).await {
                        tracing::debug!(%error, "a caller at the control socket left early");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket could not take a caller; trying again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, core: Handle) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(MAX_REQUEST_BYTES)).read_line(&mut line).await?;
    let response = match serde_json::from_str::<Request>(&line) {
        Ok(request) if request.op == "token" => match issue(&core, request).await {
            Ok(token) => Response { token: Some(token), ..Response::default() },
            Err(error) => Response { error: Some(error), ..Response::default() },
        },
        Ok(request) => Response { error: Some(format!("unknown op {:?}", request.op)), ..Response::default() },
        Err(error) => Response { error: Some(format!("not a request: {error}")), ..Response::default() },
    };
    let mut text = serde_json::to_string(&response)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await
}

async fn issue(core: &Handle, request: Request) -> Result<String, String> {
    let secret = entropy::secret().map_err(|error| error.to_string())?;
    let Request { name, admin, op: _ } = request;
    let asked =
        core.ask(move |state, created_at| state.tokens.issue(secret, Principal { name, admin, created_at }, false));
    asked.await.map_err(|_| "the hub is stopping".to_owned())?.map_err(|_| "the name is taken".to_owned())
}

/// Why there is no token.
#[derive(Debug)]
pub enum TokenError {
    /// The running hub said so.
    Refused(String),
    /// Something holds the store, but no hub answers.
    Busy(StoreError),
    /// The store cannot be used.
    Store(StoreError),
    /// There is no randomness.
    NoEntropy(entropy::NoEntropy),
}

impl std::fmt::Display for TokenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "the running hub gave no token: {why}"),
            Self::Busy(error) => write!(f, "no hub answers at the control socket, but {error}"),
            Self::Store(error) => error.fmt(f),
            Self::NoEntropy(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TokenError {}

/// A new token for the name: from the hub that runs on this data dir, or else from its store.
///
/// # Errors
/// [`TokenError`].
pub fn obtain(data_dir: &Path, name: &str, admin: bool) -> Result<String, TokenError> {
    let begun = Instant::now();
    loop {
        if let Ok(response) = ask_running(data_dir, name, admin) {
            let why = response.error.unwrap_or_else(|| "it said nothing".to_owned());
            return response.token.ok_or(TokenError::Refused(why));
        }
        match Store::open(data_dir) {
            Ok(store) => return issue_offline(&store, name, admin),
            Err(error @ StoreError::Locked(_)) if begun.elapsed() > LOCK_PATIENCE => {
                return Err(TokenError::Busy(error));
            }
            // A hub that is starting has the store a moment before it has the socket.
            Err(StoreError::Locked(_)) => std::thread::sleep(Duration::from_millis(25)),
            Err(error @ (StoreError::Newer { .. } | StoreError::Record { .. } | StoreError::File { .. })) => {
                return Err(TokenError::Store(error));
            }
        }
    }
}

fn ask_running(data_dir: &Path, name: &str, admin: bool) -> std::io::Result<Response> {
    let mut stream = std::os::unix::net::UnixStream::connect(path_in(data_dir))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = Request { op: "token".to_owned(), name: name.to_owned(), admin };
    let mut text = serde_json::to_string(&request)?;
    text.push('\n');
    stream.write_all(text.as_bytes())?;
    let mut line = String::new();
    std::io::BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn issue_offline(store: &Store, name: &str, admin: bool) -> Result<String, TokenError> {
    let secret = entropy::secret().map_err(TokenError::NoEntropy)?;
    let stored = store.load().map_err(TokenError::Store)?;
    let mut tokens = Tokens::load(stored.tokens);
    let principal = Principal { name: name.to_owned(), admin, created_at: now_ms() };
    let token = tokens.issue(secret, principal, false);
    let token = token.map_err(|_| TokenError::Refused("the name is taken".to_owned()))?;
    store.commit(&Changes::default(), &tokens.take_dirty()).map_err(TokenError::Store)?;
    Ok(token)
}
