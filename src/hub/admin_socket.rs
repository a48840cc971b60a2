//! The hub's admin socket: a unix socket in the data dir, over which `agentcom-hub token` makes, lists and revokes the
//! tokens of a running hub, `agentcom-hub store check` asks which records it could not read, and `agentcom-hub backup` lets
//! it copy its store. Every process that may open the socket (its owner's: mode 0600) may have any token; it serves nothing
//! else.
//!
//! One line of JSON each way: `{"op":"token","name":"ops","admin":true}` -> `{"token":"..."}`,
//! `{"op":"list"}` -> `{"tokens":[...]}`, `{"op":"revoke","name":"a"}` -> `{"revoked":1}`, `{"op":"check_store"}` ->
//! `{"unread":[...]}`, `{"op":"backup","out":"/mnt/hub.redb","force":false}` -> `{"backup":{...}}`; or `{"error":"..."}`.

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::common::private_socket;
use crate::hub::actor::{Handle, now_ms};
use crate::hub::backups::{Backups, Failure};
use crate::hub::hub_state::{HubState, Snapshot};
use crate::hub::random;
use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::policy::Policy;
use crate::hub::state::backup::Contents;
use crate::hub::state::settings::Settings;
use crate::hub::state::store::{StateChanges, Store, StoreError, UnreadRecord};
use crate::hub::state::tokens::{NotIssued, Principal, SECRET_BYTES, TokenSelector, TokenSummary, Tokens};

/// The maximum size of a request, in bytes.
const MAX_REQUEST_BYTES: u64 = 4_096;
/// How long each side waits for the other.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a command waits while the store is locked but no hub answers: a hub may be starting or stopping.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// A request of an operator command.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Make a new token.
    Token {
        /// The name of the agent or the operator.
        name: String,
        /// Whether the token may do everything.
        #[serde(default)]
        admin: bool,
        /// Whether all other tokens of the name are revoked.
        #[serde(default)]
        replace: bool,
        /// The token's random bytes, if the caller generated and stored them before asking; else the hub generates
        /// them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<[u8; SECRET_BYTES]>,
    },
    /// List all tokens.
    List,
    /// Revoke all tokens of a name, or the one with this id.
    Revoke {
        /// The name of the agent or the operator.
        name: String,
        /// The token's id, as in the list.
        #[serde(default)]
        id: Option<String>,
    },
    /// List the records of the store that cannot be read.
    CheckStore,
    /// Copy the store to a file.
    Backup {
        /// The file's absolute path.
        out: PathBuf,
        /// Whether a file that is there is replaced.
        #[serde(default)]
        force: bool,
    },
}

/// The response: the result of the request, or an error.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Response {
    /// The new token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// All tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Vec<TokenSummary>>,
    /// The number of tokens revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<usize>,
    /// The records of the store that cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<Vec<UnreadRecord>>,
    /// What the backup holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Contents>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The exit code that goes with the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
}

impl Response {
    fn error(error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), ..Self::default() }
    }

    /// Returns why there is no result.
    pub(crate) fn failure(self) -> Failure {
        let unknown = "it answered nothing; this hub is older than this program: restart it";
        (self.exit_code.unwrap_or(70), self.error.unwrap_or_else(|| unknown.to_owned()))
    }
}

/// Returns the socket's path.
pub fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join("hub.sock")
}

/// Binds the socket. Call it only while holding the store's lock: then no other hub can be behind an existing socket.
///
/// # Errors
/// The socket cannot be created.
pub fn bind(data_dir: &Path) -> std::io::Result<UnixListener> {
    let path = path_in(data_dir);
    // The data folder is the hub's own: a file or a link at this name is replaced. A folder is an error below.
    let _ = std::fs::remove_file(&path);
    let listener = private_socket::bind(&path)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Answers requests until `stop`.
pub async fn serve(listener: UnixListener, actor: Handle, backups: Backups, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (actor, backups) = (actor.clone(), backups.clone());
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, actor, backups).await {
                        tracing::debug!(%error, "a caller at the admin socket left early");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin socket could not take a caller; trying again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, actor: Handle, backups: Backups) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = BufReader::new(read.take(MAX_REQUEST_BYTES));
    timeout(TIMEOUT, read.read_line(&mut line)).await??;
    let response = match serde_json::from_str::<Request>(&line) {
        // As long as it takes.
        Ok(Request::Backup { out, force }) => match backups.make(out, force).await {
            Ok(contents) => Response { backup: Some(contents), ..Response::default() },
            Err((code, why)) => Response { exit_code: Some(code), ..Response::error(why) },
        },
        Ok(request) => match (read_only(&actor.snapshot(), &request), random::secret()) {
            (Some(response), _) => response,
            (None, Ok(secret)) => {
                let change = actor.ask(move |state, now_ms| apply(state, request, secret, now_ms));
                timeout(TIMEOUT, change).await?.unwrap_or_else(|_| Response::error("the hub is stopping"))
            }
            (None, Err(error)) => Response::error(error.to_string()),
        },
        Err(error) => Response::error(format!("not a request: {error}")),
    };
    let mut text = serde_json::to_string(&response)?;
    text.push('\n');
    timeout(TIMEOUT, write.write_all(text.as_bytes())).await?
}

/// Answers a request that changes nothing; `None` for any other.
fn read_only(snapshot: &Snapshot, request: &Request) -> Option<Response> {
    match request {
        Request::List => Some(Response { tokens: Some(snapshot.tokens.list().collect()), ..Response::default() }),
        Request::CheckStore => Some(Response { unread: Some(snapshot.unread.to_vec()), ..Response::default() }),
        Request::Token { .. } | Request::Revoke { .. } | Request::Backup { .. } => None,
    }
}

/// Applies the request. `new_secret` holds random bytes for a new token, used if the caller sent none.
fn apply(state: &mut HubState, request: Request, new_secret: [u8; SECRET_BYTES], now_ms: u64) -> Response {
    match request {
        Request::Token { name, admin, replace, secret } => {
            let (secret, principal) = (secret.unwrap_or(new_secret), Principal::new(&name, admin, now_ms));
            let issued = match replace {
                true => state.replace_tokens(secret, principal, &TokenSelector::All, now_ms),
                false => state.issue_token(secret, principal, false),
            };
            match issued {
                Ok(token) => Response { token: Some(token), ..Response::default() },
                Err(NotIssued::NameTaken) => Response::error("the name is taken"),
                Err(NotIssued::Full) => Response::error("there are too many tokens: revoke some"),
            }
        }
        Request::Revoke { name, id } => {
            let which = id.map_or(TokenSelector::All, TokenSelector::One);
            Response { revoked: Some(state.revoke(&name, &which, now_ms)), ..Response::default() }
        }
        Request::Backup { .. } => Response::error("a backup is no change of the state: this is a bug"),
        Request::List | Request::CheckStore => read_only(&state.snapshot(), &request).unwrap_or_default(),
    }
}

/// The reason why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The hub refused the request.
    #[error("the hub said no: {0}")]
    Refused(String),
    /// Another process holds the store's lock, but no hub answers.
    #[error("no hub answers at the admin socket, but {0}")]
    Busy(StoreError),
    /// The hub received the request and did not answer: it may still carry it out.
    #[error("the hub was told and did not answer ({0}): it may do it yet. See with agentcom-hub token list")]
    Unanswered(std::io::Error),
    /// The store cannot be used.
    #[error("{0}")]
    Store(StoreError),
    /// The operating system gave no random bytes.
    #[error("{0}")]
    NoRandomBytes(random::NoRandomBytes),
}

/// Sends the request to the hub that runs on this data dir, or applies it to the store if none runs.
///
/// # Errors
/// [`TokenError`].
pub fn request(data_dir: &Path, request: &Request) -> Result<Response, TokenError> {
    let started_at = Instant::now();
    let response = loop {
        if let Some(response) = send_to_running_hub(data_dir, request, TIMEOUT).map_err(TokenError::Unanswered)? {
            break response;
        }
        match Store::open(data_dir) {
            Ok(store) => break apply_offline(&store, request.clone())?,
            Err(error @ StoreError::Locked(_)) if started_at.elapsed() > LOCK_TIMEOUT => {
                return Err(TokenError::Busy(error));
            }
            // A starting hub locks the store a moment before it binds the socket.
            Err(StoreError::Locked(_)) => std::thread::sleep(Duration::from_millis(25)),
            Err(
                error @ (StoreError::Newer { .. }
                | StoreError::NoFile { .. }
                | StoreError::Record { .. }
                | StoreError::File { .. }),
            ) => {
                return Err(TokenError::Store(error));
            }
        }
    };
    match response.error {
        Some(why) => Err(TokenError::Refused(why)),
        None => Ok(response),
    }
}

/// Sends the request to the running hub, once: a repeated request would be carried out twice. Returns `None` if no hub
/// runs.
pub(crate) fn send_to_running_hub(
    data_dir: &Path,
    request: &Request,
    patience: Duration,
) -> std::io::Result<Option<Response>> {
    let Ok(mut stream) = private_socket::connect(&path_in(data_dir)) else { return Ok(None) };
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut text = serde_json::to_string(request)?;
    text.push('\n');
    stream.write_all(text.as_bytes())?;
    let mut line = String::new();
    std::io::BufReader::new(stream).read_line(&mut line)?;
    if line.is_empty() {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(serde_json::from_str(&line)?))
}

fn apply_offline(store: &Store, request: Request) -> Result<Response, TokenError> {
    let secret = random::secret().map_err(TokenError::NoRandomBytes)?;
    let stored = store.load().map_err(TokenError::Store)?;
    let now = now_ms();
    let scheduler = Scheduler::load_to_edit(stored.tasks, stored.restarts, Policy::keeping_all(), now);
    let mut state = HubState::new(scheduler, Tokens::load(stored.tokens), Settings::default(), stored.unread);
    let response = apply(&mut state, request, secret, now);
    let aside = StateChanges { tokens: state.tokens.take_dirty(), ..StateChanges::default() };
    store.commit(&state.scheduler.take_changes(), &aside).map_err(TokenError::Store)?;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_stands_at_the_sockets_name_is_replaced() {
        let data = tempfile::tempdir().unwrap();
        let path = path_in(data.path());
        std::fs::write(&path, "left here").unwrap();
        drop(bind(data.path()).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        let _listener = bind(data.path()).unwrap();
        private_socket::connect(&path).unwrap();
    }
}
