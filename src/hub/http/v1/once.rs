//! Acts for callers of `/api/v1`, once for each `Idempotency-Key`.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::hub::http::reply::{Caller, Proof};
use crate::hub::http::request::App;
use crate::hub::hub_state::HubState;
use crate::hub::problem::Problem;
use crate::hub::state::idempotency::{KeptAnswer, MAX_KEY_CHARS, RequestKey, Sender};
use crate::hub::state::tokens::hex;
use crate::protocol::JsonText;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header of an answer that is the same as an earlier one.
const REPLAYED: &str = "idempotency-replayed";

/// What a request asks for, as far as two requests with one key must agree.
pub(super) struct Asked {
    key: Option<String>,
    /// The SHA-256 of method, path and body, in hex.
    digest: String,
}

impl Asked {
    /// Reads the key of a request.
    ///
    /// # Errors
    /// 422 if it is empty, longer than 128 characters, or has characters other than visible ASCII.
    pub(super) fn of(method: &str, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Result<Self, Problem> {
        let digest = Sha256::new().chain_update(method).chain_update(" ").chain_update(uri.path()).chain_update("\n");
        let digest = hex(&digest.chain_update(body).finalize());
        let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(Self { key: None, digest }) };
        match key.to_str().ok().filter(|key| (1..=MAX_KEY_CHARS).contains(&key.len()) && !key.contains([' ', '\t'])) {
            Some(key) => Ok(Self { key: Some(key.to_owned()), digest }),
            None => {
                let detail = format!("expected 1 to {MAX_KEY_CHARS} visible ASCII characters, such as a UUID");
                Err(Problem::invalid_field("Idempotency-Key", "invalid", &detail))
            }
        }
    }
}

/// Runs `work` on the state for a caller, and answers with its result once everything that it changed is on disk. A request
/// with the key of an earlier one that was carried out is answered as that one was, and nothing is done.
///
/// # Errors
/// Those of `work`, which must have changed nothing; 401 if the token was revoked meanwhile; 409 if the key belongs to
/// another request.
pub(super) async fn act_once<T: Serialize>(
    app: &App,
    caller: &Caller,
    asked: Asked,
    status: StatusCode,
    work: impl FnOnce(&mut HubState, u64) -> Result<T, Problem> + Send + 'static,
) -> Result<Response, Problem> {
    let work = move |state: &mut HubState, now_ms| {
        let body = JsonText::of(&work(state, now_ms)?);
        Ok((body.clone(), body))
    };
    act_and_keep(app, caller, asked, status, work).await
}

/// Does as [`act_once`] for an answer with a secret in it, of which only what `public` returns is kept: a request that is
/// repeated is answered with that.
///
/// # Errors
/// Those of [`act_once`].
pub(super) async fn act_once_secretly<T: Serialize>(
    app: &App,
    caller: &Caller,
    asked: Asked,
    status: StatusCode,
    public: impl FnOnce(&T) -> T + Send + 'static,
    work: impl FnOnce(&mut HubState, u64) -> Result<T, Problem> + Send + 'static,
) -> Result<Response, Problem> {
    let work = move |state: &mut HubState, now_ms| {
        let answer = work(state, now_ms)?;
        Ok((JsonText::of(&answer), JsonText::of(&public(&answer))))
    };
    act_and_keep(app, caller, asked, status, work).await
}

/// Acts once. `work` returns what is answered, and what is kept for a request that is repeated.
async fn act_and_keep(
    app: &App,
    caller: &Caller,
    asked: Asked,
    status: StatusCode,
    work: impl FnOnce(&mut HubState, u64) -> Result<(JsonText, JsonText), Problem> + Send + 'static,
) -> Result<Response, Problem> {
    let (name, proof) = (caller.name.clone(), caller.proof);
    let acted = app.act(caller, move |state, now_ms| {
        let Asked { key, digest } = asked;
        let owned_since = match proof {
            Proof::Token(_) => state.tokens.valid().owned_since(&name).unwrap_or_default(),
            Proof::Local(_) => 0,
        };
        let key = key.map(|key| RequestKey { sender: Sender { name, owned_since }, key });
        if let Some(kept) = key.as_ref().and_then(|key| state.answers.find(key, now_ms)) {
            return if kept.request == digest { Ok((kept.status, kept.body.clone(), true)) } else { Err(reused()) };
        }
        let (body, kept) = work(state, now_ms)?;
        let status = status.as_u16();
        if let Some(RequestKey { sender, key }) = key {
            state.answers.keep(KeptAnswer { sender, key, request: digest, status, body: kept, at_ms: now_ms });
        }
        Ok((status, body, false))
    });
    let (status, body, replayed) = acted.await??;
    Ok(respond(status, &body, replayed))
}

fn respond(status: u16, body: &JsonText, replayed: bool) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

fn reused() -> Problem {
    let detail = "this Idempotency-Key was used for another request: use a new one for each act";
    Problem::new(StatusCode::CONFLICT, "idempotency_key_reused", detail)
}
