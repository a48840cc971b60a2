//! The hub's admin socket: a unix socket in the data dir, over which `agentcom-hub token` and `invite` make, list and
//! revoke the tokens and invitations of a running hub, `agentcom-hub audit` reads its audit, and `agentcom-hub store check`
//! asks which records it could not read. Every process that may open the socket (its owner's: mode 0600) may have any
//! token; it serves nothing else.
//!
//! One line of JSON each way: `{"op":"token","name":"ops","admin":true}` -> `{"token":"..."}`,
//! `{"op":"list"}` -> `{"tokens":[...]}`, `{"op":"revoke","name":"a"}` -> `{"revoked":1}`, `{"op":"check_store"}` ->
//! `{"unread":[...]}`; or `{"error":"..."}`.

mod messages;

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::getuid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::common::private_socket;
use crate::hub::actor::{Handle, now_ms};
use crate::hub::acts::NewToken;
pub use crate::hub::admin_socket::messages::{Request, Response};
use crate::hub::hub_state::{HubState, Snapshot};
use crate::hub::random;
use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::policy::Policy;
use crate::hub::state::audit::{Author, Via};
use crate::hub::state::invitations::{Invitation, InvitationRequest, Invitations};
use crate::hub::state::roles::Role;
use crate::hub::state::settings::Settings;
use crate::hub::state::store::{AuditReader, Store, StoreError};
use crate::hub::state::tokens::{NotIssued, SECRET_BYTES, TokenSelector, Tokens};

/// The maximum size of a request, in bytes.
const MAX_REQUEST_BYTES: u64 = 4_096;
/// The size from which on a page of the audit ends early, in bytes.
const PAGE_BYTES: usize = 1 << 20;
/// How long each side waits for the other.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a command waits while the store is locked but no hub answers: a hub may be starting or stopping.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

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
pub async fn serve(listener: UnixListener, actor: Handle, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let actor = actor.clone();
                tokio::spawn(async move {
                    if let Ok(Err(error)) = tokio::time::timeout(TIMEOUT, answer(stream, actor)).await {
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

async fn answer(stream: UnixStream, actor: Handle) -> std::io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(MAX_REQUEST_BYTES)).read_line(&mut line).await?;
    let response = match serde_json::from_str::<Request>(&line) {
        Ok(request) => respond(&actor, request, Author::on_this_machine(uid, Via::Socket)).await,
        Err(error) => Response::error(format!("not a request: {error}")),
    };
    let mut text = serde_json::to_string(&response)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await
}

async fn respond(actor: &Handle, request: Request, author: Author) -> Response {
    let (snapshot, audit, wanted) = (actor.snapshot(), actor.audit(), request.clone());
    // The audit is on the disk.
    match tokio::task::spawn_blocking(move || read_only(&snapshot, &audit, &wanted)).await {
        Ok(Some(response)) => return response,
        Ok(None) => {}
        Err(error) => return Response::error(error.to_string()),
    }
    match random::secret() {
        Ok(secret) => actor
            .ask(move |state, now_ms| apply(state, request, secret, &author, now_ms))
            .await
            .unwrap_or_else(|_| Response::error("the hub is stopping")),
        Err(error) => Response::error(error.to_string()),
    }
}

/// Answers a request that changes nothing; `None` for any other.
fn read_only(snapshot: &Snapshot, audit: &AuditReader, request: &Request) -> Option<Response> {
    let none = Response::default();
    Some(match request {
        Request::List => Response { tokens: Some(snapshot.tokens.list().collect()), ..none },
        Request::ListInvitations => {
            Response { invitations: Some(snapshot.invitations.values().map(Invitation::summary).collect()), ..none }
        }
        Request::Audit { filter, before, limit } => match audit.page(filter, *before, *limit, PAGE_BYTES) {
            Ok(page) => Response { audit: Some(page), ..none },
            Err(error) => Response::error(error.to_string()),
        },
        Request::CheckStore => match audit.unread() {
            Ok(unread) => Response { unread: Some(snapshot.unread.iter().cloned().chain(unread).collect()), ..none },
            Err(error) => Response::error(error.to_string()),
        },
        Request::Token { .. } | Request::Revoke { .. } | Request::Invite { .. } | Request::RevokeInvitation { .. } => {
            return None;
        }
    })
}

/// Applies a request that changes something. `new_secret` holds random bytes for a new token or invitation, used if the
/// caller sent none.
fn apply(
    state: &mut HubState,
    request: Request,
    new_secret: [u8; SECRET_BYTES],
    author: &Author,
    now_ms: u64,
) -> Response {
    let acts = state.acts(author, now_ms);
    match request {
        Request::Token { name, admin, role, expires_in_ms, replace, secret } => {
            let role = role.unwrap_or(if admin { Role::Admin } else { Role::Agent });
            let (secret, new) = (secret.unwrap_or(new_secret), NewToken { name, role, expires_in_ms });
            let issued = match replace {
                true => acts.replace_tokens(secret, &new, &TokenSelector::All),
                false => acts.issue_token(secret, &new),
            };
            match issued {
                Ok(token) => Response { token: Some(token), role: Some(role), ..Response::default() },
                Err(NotIssued::NameTaken) => Response::error("the name is taken"),
                Err(NotIssued::Full) => Response::error("there are too many tokens: revoke some"),
            }
        }
        Request::Revoke { name, id } => {
            let which = id.map_or(TokenSelector::All, TokenSelector::One);
            Response { revoked: Some(acts.revoke_tokens(&name, &which)), ..Response::default() }
        }
        Request::Invite { name, uses, expires_in_ms } => {
            match acts.make_invitation(new_secret, InvitationRequest { agent_id: name, uses, expires_in_ms }) {
                Ok((code, made)) => {
                    Response { invitation: Some(code), invitations: Some(vec![made]), ..Response::default() }
                }
                Err(_) => Response::error("there are too many invitations: revoke some"),
            }
        }
        Request::RevokeInvitation { id } => {
            Response { revoked: Some(usize::from(acts.revoke_invitation(&id))), ..Response::default() }
        }
        // These change nothing: `read_only` has answered them.
        Request::List | Request::ListInvitations | Request::Audit { .. } | Request::CheckStore => Response::default(),
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
        if let Some(response) = send_to_running_hub(data_dir, request).map_err(TokenError::Unanswered)? {
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
fn send_to_running_hub(data_dir: &Path, request: &Request) -> std::io::Result<Option<Response>> {
    let Ok(mut stream) = private_socket::connect(&path_in(data_dir)) else { return Ok(None) };
    stream.set_read_timeout(Some(TIMEOUT))?;
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
    let scheduler = Scheduler::load_to_edit(stored.tasks, stored.restarts, Policy::keeping_all(), now)
        .with_agents(stored.agents, None);
    let state = HubState::new(scheduler, Tokens::load(stored.tokens), Settings::default(), stored.unread);
    let mut state = state.with_invitations(Invitations::load(stored.invitations));
    if let Some(response) = read_only(&state.snapshot(), &store.audit(), &request) {
        return Ok(response);
    }
    let author = Author::on_this_machine(getuid().as_raw(), Via::Offline);
    let response = apply(&mut state, request, secret, &author, now);
    let aside = state.take_aside();
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
