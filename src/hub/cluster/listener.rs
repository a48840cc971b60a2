//! The leader's port for the other nodes: the hub's own routes, for requests that bring the secret of the epoch. Only there a
//! request says for whom it is passed on. What such a client may do is decided as at the hub's own port, and it counts
//! towards the limit on connections as long as it has shown no token.

use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::{Extension, Router};
use subtle::ConstantTimeEq as _;

use crate::common::secret::Secret;
use crate::common::steady_clock::now_ms;
use crate::hub::api_error::ApiError;
use crate::hub::cluster::forwarded::{AUTHENTICATED, Client, EPOCH, FORWARDED, Forwarded, SECRET, strip};
use crate::hub::connections::listener::Origin;
use crate::hub::http::credentials::LocalUser;
use crate::hub::http::entrance::Entrance;
use crate::hub::log_budget::{LogBudget, log_within};
use crate::hub::problem::or_problem;
use crate::hub::random::{self, NoRandomBytes};
use crate::hub::state::audit::Via;
use crate::hub::state::tokens::hex;

static BUDGET: Mutex<LogBudget> = Mutex::new(LogBudget::new());

/// Returns a new secret.
///
/// # Errors
/// [`NoRandomBytes`].
pub fn new_secret() -> Result<Secret, NoRandomBytes> {
    Ok(Secret::new(hex(&random::secret()?)))
}

/// Who is let in.
struct Gate {
    epoch: HeaderValue,
    secret: Secret,
}

/// Returns the routes of the port while this node leads: those of the hub, for the nodes that know the secret.
pub fn leading(hub: Router, epoch: u64, secret: Secret) -> Router {
    let gate = Arc::new(Gate { epoch: epoch.into(), secret });
    hub.layer(middleware::from_fn_with_state(gate, admit))
}

/// Returns the routes of the port while this node does not lead.
pub fn closed() -> Router {
    Router::new().fallback(|uri: Uri| async move { or_problem(&uri, Refusal::NotLeading.into()) })
}

async fn admit(
    State(gate): State<Arc<Gate>>,
    Extension(origin): Extension<Origin>,
    mut request: Request,
    next: Next,
) -> Response {
    let admitted = gate.read(request.headers());
    strip(request.headers_mut());
    let (client, entrance) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            let (peer, message) = (origin.peer(), "a request at the port for the other nodes was refused");
            log_within(&BUDGET, message, now_ms(), || tracing::warn!(%peer, %refusal, "{message}"));
            return or_problem(request.uri(), refusal.into());
        }
    };
    let extensions = request.extensions_mut();
    extensions.insert(Arc::new(entrance));
    match client {
        Client::Peer(address) => _ = extensions.insert(origin.on_behalf_of(address)),
        Client::Local(uid) => {
            // Whoever may open the node's own socket: it is not counted, and has the time that it has there.
            origin.authenticated();
            origin.take_time();
            extensions.remove::<Origin>();
            extensions.insert(LocalUser { uid, via: Via::Socket });
        }
    }
    let mut answer = next.run(request).await;
    let headers = answer.headers_mut();
    strip(headers);
    headers.insert(EPOCH, gate.epoch.clone());
    if !origin.counts() {
        headers.insert(AUTHENTICATED, HeaderValue::from_static("1"));
    }
    answer
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, thiserror::Error)]
enum Refusal {
    #[error("this node does not lead at present")]
    NotLeading,
    #[error("it does not bring the secret of the present leader")]
    NoSecret,
    #[error("it does not say for whom it is: run the same version on all nodes of the cluster")]
    NotUnderstood,
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let hint = format!("this port is for the other nodes of the cluster ({refusal}): ask at a node's own address");
        Self::new(StatusCode::FORBIDDEN, "not_a_node", &hint)
    }
}

impl Gate {
    /// Returns for whom a node passes a request on, and where it came in.
    ///
    /// # Errors
    /// It is no node that knows the secret, or says nothing that this version understands.
    fn read(&self, headers: &HeaderMap) -> Result<(Client, Entrance), Refusal> {
        let said = headers.get(SECRET).map_or(&[][..], HeaderValue::as_bytes);
        if !bool::from(said.ct_eq(self.secret.expose().as_bytes())) {
            return Err(Refusal::NoSecret);
        }
        let forwarded = headers.get(FORWARDED).and_then(Forwarded::read).ok_or(Refusal::NotUnderstood)?;
        Ok((forwarded.client, forwarded.entrance().ok_or(Refusal::NotUnderstood)?))
    }
}
