//! Keeps web pages out that are not the hub's own, before any route is asked. A page of another origin shows itself by its
//! `Origin`. A page whose name was made to lead to this machine (DNS rebinding) is of the same origin for its browser, and
//! shows itself by its `Host`: a name that is none of the hub's. Clients that are no browsers send no `Origin`, and a token.

pub mod own_pages;
pub(in crate::hub) mod public_url;

use std::borrow::Cow;
use std::sync::Mutex;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::common::http_host::{Authority, WebOrigin};
use crate::common::steady_clock::now_ms;
use crate::common::text::{first_chars, on_one_line};
use crate::hub::api_error::ApiError;
use crate::hub::connections::listener::Origin;
use crate::hub::http::browsers::own_pages::{Host, OwnPages};
use crate::hub::http::credentials::Credentials;
use crate::hub::http::reply::{Caller, Proof, caller_of};
use crate::hub::http::request::Shared;
use crate::hub::log_budget::{LogBudget, log_within};
use crate::hub::problem::or_problem;

/// The longest host or origin that an error quotes, in characters.
const MAX_QUOTED: usize = 100;

static BUDGET: Mutex<LogBudget> = Mutex::new(LogBudget::new());

/// Refuses the requests of foreign pages, and hosts that are not the hub's.
pub(super) async fn refuse_foreign(
    State(app): Shared,
    who: Credentials,
    over_tcp: Option<Extension<Origin>>,
    request: Request,
    next: Next,
) -> Response {
    let own = &app.entrance_of(request.extensions()).own_pages;
    let has_token = || matches!(caller_of(&app.snapshot(), &who), Ok(Caller { proof: Proof::Token(_), .. }));
    match check(own, over_tcp.is_some(), &request, has_token) {
        Ok(()) => next.run(request).await,
        Err(refusal) => or_problem(request.uri(), refusal),
    }
}

/// Checks the request's host and the page that it comes from, where these hosts and pages are the hub's own; `has_token` says
/// whether it brings a valid token. Whoever is at the hub's own socket is on this machine, and names any host.
///
/// # Errors
/// 400 if there is not one host, 421 if the host is not the hub's, 403 if the page is not.
pub(in crate::hub) fn check(
    own: &OwnPages,
    over_tcp: bool,
    request: &Request,
    has_token: impl FnOnce() -> bool,
) -> Result<(), ApiError> {
    let host = host_of(request)?;
    let origins = texts(request, &header::ORIGIN);
    let checks_host = own.checks_host && over_tcp;
    if checks_host && !own.has_host(&host) {
        // A page has neither: its browser names it whenever it opens a WebSocket, and it has no token.
        if !origins.is_empty() || !(opens_websocket(request) || has_token()) {
            return Err(unknown_host(&host, own.public_url.is_some()));
        }
    }
    if origins.is_empty() {
        return Ok(());
    }
    let text = origins.join(", ");
    match WebOrigin::parse(&text) {
        Some(origin) if own.has_page(&origin, &host, checks_host) => Ok(()),
        Some(_) | None => Err(foreign_origin(&text)),
    }
}

/// Returns whether the request is for an agent's WebSocket, with a header that no page can send by itself.
fn opens_websocket(request: &Request) -> bool {
    request.uri().path() == "/ws" && request.headers().contains_key(header::UPGRADE)
}

/// Returns the host that the request names: in its target, or its `Host` header. (RFC 9112, 3.2)
///
/// # Errors
/// 400 if it names several, or none where it must.
fn host_of(request: &Request) -> Result<Host, ApiError> {
    let target = request.uri().authority().map(|authority| authority.as_str());
    let hosts = texts(request, &header::HOST);
    let text = match (hosts.as_slice(), target) {
        ([], None) if request.version() < Version::HTTP_11 => return Ok(Host::Absent),
        ([], None) => return Err(invalid_host("this HTTP/1.1 request has no `Host`")),
        ([], Some(target)) => target,
        ([host], None) => host,
        ([host], Some(target)) if host.eq_ignore_ascii_case(target) => host,
        ([_], Some(_)) => return Err(invalid_host("the request's target and its `Host` differ")),
        ([_, _, ..], _) => return Err(invalid_host("this request has several `Host` headers")),
    };
    Ok(match Authority::parse(text) {
        Some(named) => Host::Named(named),
        None if text.is_empty() => Host::Absent,
        None => Host::Unreadable(text.to_owned()),
    })
}

/// Returns all values of a header. What is not UTF-8 in them becomes U+FFFD, which is in no host.
fn texts<'request>(request: &'request Request, name: &HeaderName) -> Vec<Cow<'request, str>> {
    request.headers().get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect()
}

fn invalid_host(found: &str) -> ApiError {
    let hint = format!("{found}: send one, with the host and the port of the hub's address");
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_host", &hint)
}

fn unknown_host(host: &Host, has_public_url: bool) -> ApiError {
    let found = match host {
        Host::Absent => "no host".to_owned(),
        Host::Named(Authority { host, .. }) => quoted(&host.to_string()),
        Host::Unreadable(text) => quoted(text),
    };
    let name = if has_public_url { "another one than that of --public-url" } else { "no name that this hub was told" };
    let hint = format!(
        "the request's host is {found}, {name}: a web page could have made it lead here. Ask with a valid token, or by an \
         IP address or localhost; if people or a proxy reach the hub by this name, start it with --public-url \
         https://NAME (AGENTCOM_HUB_PUBLIC_URL)"
    );
    log(&found, "a request by a host that is not the hub's was refused: if it is its name, give --public-url");
    ApiError::new(StatusCode::MISDIRECTED_REQUEST, "unknown_host", &hint)
}

fn foreign_origin(origin: &str) -> ApiError {
    let found = quoted(origin);
    let hint = format!(
        "a page of {found} may not use this hub: only those of its own address may. If that is where people open it, \
         through a proxy, start it with --public-url and this address (AGENTCOM_HUB_PUBLIC_URL); a program that is no web \
         page sends no `Origin`"
    );
    log(&found, "a request of a foreign web page was refused");
    ApiError::new(StatusCode::FORBIDDEN, "foreign_origin", &hint)
}

/// Logs a refusal, within the budget of all connections: a page in some browser must not fill the log.
fn log(found: &str, message: &'static str) {
    log_within(&BUDGET, message, now_ms(), || tracing::warn!(found, "{message}"));
}

fn quoted(text: &str) -> String {
    format!("`{}`", on_one_line(first_chars(text, MAX_QUOTED)))
}
