//! Registration: the first token of an agent's name, for any client, or by an invitation.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use crate::hub::acts::{Admission, NotRegistered};
use crate::hub::api_error::ApiError;
use crate::hub::connections::listener::Origin;
use crate::hub::http::admin::not_issued_error;
use crate::hub::http::credentials::Credentials;
use crate::hub::http::entrance::Entrance;
use crate::hub::http::own_address::own_address;
use crate::hub::http::reply::{Caller, caller_of, check_name, read_body};
use crate::hub::http::request::{App, Body, Reply, Shared, created, required_text};
use crate::hub::hub_state::HubState;
use crate::hub::random;
use crate::hub::registration::Registration;
use crate::hub::state::audit::Author;
use crate::hub::state::invitations::NotInvited;
use crate::hub::state::roles::Permission;
use crate::hub::state::settings::DEFAULT_REPO;
use crate::protocol::schema::{Kind, may, must};

pub(super) async fn register(
    State(app): Shared,
    who: Credentials,
    origin: Option<Extension<Origin>>,
    entrance: Option<Extension<Arc<Entrance>>>,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let fields = [must("agent_id", Kind::Text), may("invitation", Kind::Text)];
    let body = read_body(&headers, body, &fields);
    let invitation = body.as_ref().ok().and_then(|body| body.string("invitation"));
    // Where registration is not open, a stranger learns nothing else.
    let (caller, admission) = match invitation {
        Some(code) => (None, Admission::ByInvitation(code)),
        None => admit(&app, &who)?,
    };
    let agent_id = required_text(&body?, "agent_id");
    check_name(&agent_id)?;
    if admission == Admission::Openly
        && let Err(wait_s) = app.registrations.admit(origin.and_then(|Extension(origin)| client(&origin, &headers)))
    {
        return Ok(too_many(wait_s));
    }
    let secret = random::secret()?;
    let author = caller.as_ref().map_or_else(Author::stranger, |caller| caller.author());
    let name = agent_id.clone();
    let issue = move |state: &mut HubState, now_ms| {
        let issued = state.acts(&author, now_ms).register(secret, &name, &admission);
        (issued, state.settings.all().get(DEFAULT_REPO).cloned())
    };
    let (issued, default_repo) = match caller {
        Some(caller) => app.act(&caller, issue).await?,
        None => app.actor.ask(issue).await?,
    };
    let token = issued.map_err(|why| match why {
        NotRegistered::NotIssued(why) => not_issued_error(why).with("agent_id", agent_id.as_str()),
        NotRegistered::NotInvited(why) => not_invited_error(why),
    })?;
    let own = own_address(entrance.as_ref().map_or(&app.entrance, |Extension(entrance)| entrance), &headers);
    let answer = json!({
        "agent_id": agent_id,
        "token": token,
        "hub_ws_url": own.ws,
        "hub_api_url": own.http,
        "default_repo": default_repo,
    });
    created(answer)
}

/// Returns who registers without an invitation, as far as that is known, and what lets it.
///
/// # Errors
/// Where registration is not open: 401 or 403 for who may not make tokens.
fn admit(app: &App, who: &Credentials) -> Result<(Option<Caller>, Admission), ApiError> {
    let caller = caller_of(&app.snapshot(), who);
    let what = match app.registration {
        // Nobody has to be known; who is, is named in the audit.
        Registration::Open => {
            let caller = caller.ok();
            let by_admin = caller.as_ref().is_some_and(|caller| caller.may(Permission::ManageTokens));
            return Ok((caller, if by_admin { Admission::ByAdmin } else { Admission::Openly }));
        }
        Registration::Invite if *who == Credentials::None => return Err(invitation_required()),
        Registration::Invite => "register agents without an invitation (agentcom-hub invite makes one)",
        Registration::Closed => {
            "register agents: this hub's registration is closed; an invitation lets an agent in (agentcom-hub invite)"
        }
    };
    let caller = caller?;
    caller.require(Permission::ManageTokens, what)?;
    Ok((Some(caller), Admission::ByAdmin))
}

/// Returns the address that a limit counts by; `None` where it cannot be told. A proxy on this machine adds its client's as
/// the last one, and what stands before that anybody may write.
fn client(origin: &Origin, headers: &HeaderMap) -> Option<IpAddr> {
    let peer = origin.peer().ip();
    if !peer.to_canonical().is_loopback() {
        return Some(peer);
    }
    let forwarded = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    forwarded.rsplit(',').next()?.trim().parse().ok()
}

/// Returns the 429 answer to strangers who register too many agents.
fn too_many(wait_s: u64) -> Response {
    let hint = format!(
        "too many agents register openly: try again in {wait_s} s, or ask an admin for an invitation (agentcom-hub \
         invite), which is not counted"
    );
    let mut answer = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_registrations", &hint).into_response();
    answer.headers_mut().insert(header::RETRY_AFTER, wait_s.into());
    answer
}

/// Returns the 403 error for who registers without an invitation where one is needed.
fn invitation_required() -> ApiError {
    let hint = "this hub registers agents by invitation: ask an admin for one (agentcom-hub invite, on the hub's machine) \
                and send its code as `invitation` (agentcom-sidecar onboard --invitation CODE)";
    ApiError::new(StatusCode::FORBIDDEN, "invitation_required", hint)
}

/// Converts the reason why an invitation is worth nothing to an HTTP error.
fn not_invited_error(why: NotInvited) -> ApiError {
    let hint = match why {
        NotInvited::InvitationUnknown => "no invitation has this code: see that all of it is there, or ask for another",
        NotInvited::InvitationExpired => "the invitation's time is over: ask for another (agentcom-hub invite)",
        NotInvited::InvitationUsedUp => {
            "the invitation was used before: ask for another (agentcom-hub invite --uses N)"
        }
        NotInvited::InvitationForAnother => "the invitation is for an agent of another name: register under that name",
    };
    ApiError::new(StatusCode::FORBIDDEN, why.into(), hint)
}
