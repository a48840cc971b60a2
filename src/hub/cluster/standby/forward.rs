//! Passes one request on to the leader, and its answer back. Each goes over a connection of its own.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use futures_util::stream::{self, Stream};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::common::http_client::{ByteStream, exchange};
use crate::common::steady_clock::now_ms;
use crate::hub::cluster::forwarded::{AUTHENTICATED, Client, EPOCH, FORWARDED, Forwarded, SECRET};
use crate::hub::cluster::standby::answers::unavailable;
use crate::hub::cluster::standby::{Forwarding, NoLeader, Standby, headers, tunnel};
use crate::hub::connections::break_off::break_off;
use crate::hub::connections::listener::Origin;
use crate::hub::http::credentials::LocalUser;
use crate::hub::http::reply::MAX_BODY_BYTES;
use crate::hub::http::takes_its_time;
use crate::hub::log_budget::{LogBudget, log_within};

/// How long a connection to the leader may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

static BUDGET: Mutex<LogBudget> = Mutex::new(LogBudget::new());

/// Why a request has no answer of the leader.
enum NotAnswered {
    /// It was not passed on.
    NotAsked(NoLeader),
    /// It was, and may have been carried out.
    Broken,
}

/// Passes a request on.
pub(super) async fn forward(State(standby): State<Arc<Standby>>, request: Request) -> Response {
    let uri = request.uri().clone();
    match standby.pass_on(request).await {
        Ok(answer) => answer,
        Err(NotAnswered::NotAsked(why)) => unavailable(&uri, &why),
        Err(NotAnswered::Broken) => break_off(),
    }
}

impl Standby {
    async fn pass_on(&self, request: Request) -> Result<Response, NotAnswered> {
        let forwarding = self.forwarding().map_err(NotAnswered::NotAsked)?;
        let Forwarding { leader, ended } = &forwarding;
        let unreachable = || NotAnswered::NotAsked(NoLeader::Unreachable(leader.epoch));
        let (mut head, body) = request.into_parts();
        let origin: Option<Origin> = head.extensions.remove();
        let client = match (&origin, head.extensions.remove::<LocalUser>()) {
            (Some(origin), _) => Client::Peer(origin.peer()),
            (None, Some(user)) => Client::Local(user.uid),
            // Nobody else comes in.
            (None, None) => return Err(unreachable()),
        };
        let upgrade: Option<OnUpgrade> = head.extensions.remove();
        head.extensions.clear();
        headers::to_leader(&mut head.headers);
        self.introduce(&mut head.headers, client, &forwarding).ok_or_else(unreachable)?;
        if let Some(origin) = origin.as_ref().filter(|_| takes_its_time(&head.uri)) {
            origin.take_time();
        }
        let request = Request::from_parts(head, limited(body));
        let stream = self.connect(&forwarding).await.map_err(NotAnswered::NotAsked)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| unreachable())?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // An error in it fails the request, or its answer's body, as well.
            let _ = connection.with_upgrades().await;
        }));
        let answer = tokio::select! {
            biased;
            () = ended.cancelled() => return Err(NotAnswered::Broken),
            answer = sender.send_request(request) => answer.map_err(|_| NotAnswered::Broken)?,
        };
        let is_leaders = answer.headers().get(EPOCH) == Some(&HeaderValue::from(leader.epoch));
        // The server in front of the leader's routes gives it up; they may have begun with it.
        if !is_leaders && answer.status() == StatusCode::REQUEST_TIMEOUT {
            return Err(NotAnswered::Broken);
        }
        // What else answers there has done nothing.
        if !is_leaders {
            let (url, status) = (&leader.url, answer.status().as_u16());
            let message = "what answers at the leader's address is not the leader that this node knows";
            log_within(&BUDGET, message, now_ms(), || tracing::warn!(url, status, "{message}"));
            return Err(unreachable());
        }
        self.hand_back(answer, connection, origin, upgrade, ended).ok_or(NotAnswered::Broken)
    }

    /// Says who asks, where, and that a node passes it on.
    fn introduce(&self, headers: &mut HeaderMap, client: Client, forwarding: &Forwarding) -> Option<()> {
        let mut secret = HeaderValue::try_from(&forwarding.leader.secret).ok()?;
        secret.set_sensitive(true);
        headers.insert(SECRET, secret);
        headers.insert(FORWARDED, Forwarded::new(client, &self.entrance).header()?);
        Some(())
    }

    async fn connect(&self, Forwarding { leader, ended }: &Forwarding) -> Result<Box<dyn ByteStream>, NoLeader> {
        let connecting = exchange::connect(&leader.url, Instant::now() + CONNECT_TIMEOUT, &self.transport);
        let connected = tokio::select! {
            () = ended.cancelled() => return Err(NoLeader::Unknown),
            connected = timeout(CONNECT_TIMEOUT, connecting) => connected,
        };
        let why = match connected {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()),
        };
        let (url, message) = (&leader.url, "the leader cannot be reached from this node");
        log_within(&BUDGET, message, now_ms(), || tracing::warn!(url, why, "{message}"));
        Err(NoLeader::Unreachable(leader.epoch))
    }

    /// Returns the leader's answer as one for the client; `None` if it cannot be given.
    fn hand_back(
        &self,
        mut answer: hyper::Response<Incoming>,
        connection: AbortOnDropHandle<()>,
        origin: Option<Origin>,
        upgrade: Option<OnUpgrade>,
        ended: &CancellationToken,
    ) -> Option<Response> {
        let (status, is_authenticated) = (answer.status(), answer.headers().contains_key(AUTHENTICATED));
        headers::to_client(status, answer.headers_mut());
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let (client, leader) = (upgrade?, hyper::upgrade::on(&mut answer));
            // From here on it counts at the leader, until an agent has identified.
            origin?.authenticated();
            let ended = ended.clone();
            self.tunnels.spawn(async move {
                let leader = leader.await;
                drop(connection);
                if let Ok(leader) = leader {
                    tunnel::run(client, leader, ended).await;
                }
            });
            let (head, _) = answer.into_parts();
            return Some(Response::from_parts(head, Body::empty()));
        }
        if let Some(origin) = origin.filter(|_| is_authenticated) {
            origin.authenticated();
        }
        let (head, body) = answer.into_parts();
        let body = match body.is_end_stream() {
            true => Body::empty(),
            false => Body::from_stream(while_led(body, connection, ended.clone())),
        };
        Some(Response::from_parts(head, body))
    }
}

/// Returns what a body brings. It breaks off when the leadership has ended, so that no part is taken for the whole.
fn while_led(
    body: Incoming,
    connection: AbortOnDropHandle<()>,
    ended: CancellationToken,
) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold((body, connection, ended), |(mut body, connection, ended)| async move {
        let part = tokio::select! {
            biased;
            () = ended.cancelled() => Err(io::Error::other("the leadership has ended")),
            frame = body.frame() => match frame? {
                Ok(frame) => Ok(frame.into_data().unwrap_or_default()),
                Err(error) => Err(io::Error::other(error)),
            },
        };
        Some((part, (body, connection, ended)))
    })
}

/// Returns a body of which no more is read than the leader takes: it answers 413 then, which more bytes could cut off.
fn limited(body: Body) -> Body {
    if body.is_end_stream() {
        return body;
    }
    Body::from_stream(stream::unfold((body, 0), |(mut body, length)| async move {
        if length > MAX_BODY_BYTES {
            return std::future::pending().await;
        }
        let part = body.frame().await?.map(|frame| frame.into_data().unwrap_or_default());
        let length = length + part.as_ref().map_or(0, Bytes::len);
        Some((part, (body, length)))
    }))
}
