//! Registration: the first token of an agent's name, for any client, or by an invitation.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::hub::acts::NotRegistered;
use crate::hub::api_error::ApiError;
use crate::hub::http::admin::not_issued_error;
use crate::hub::http::credentials::Credentials;
use crate::hub::http::own_address::own_address;
use crate::hub::http::reply::{caller_of, check_name, read_body};
use crate::hub::http::request::{Body, Reply, Shared, created, required_text};
use crate::hub::hub_state::HubState;
use crate::hub::random;
use crate::hub::state::audit::Author;
use crate::hub::state::invitations::NotInvited;
use crate::hub::state::roles::Permission;
use crate::hub::state::settings::DEFAULT_REPO;
use crate::protocol::schema::{Kind, may, must};

pub(super) async fn register(State(app): Shared, who: Credentials, headers: HeaderMap, body: Body) -> Reply {
    let fields = [must("agent_id", Kind::Text), may("invitation", Kind::Text)];
    let closed = "register agents: this hub was started with --closed-registration; an invitation lets an agent in";
    let body = read_body(&headers, body, &fields);
    let invitation = body.as_ref().ok().and_then(|body| body.string("invitation"));
    // Where registration is closed, a stranger learns nothing else.
    let caller = match (&invitation, app.closed) {
        (None, true) => {
            let caller = caller_of(&app.snapshot(), &who)?;
            caller.require(Permission::ManageTokens, closed)?;
            Some(caller)
        }
        // Nobody has to be known; who is, is named in the audit.
        (None, false) => caller_of(&app.snapshot(), &who).ok(),
        (Some(_), _) => None,
    };
    let agent_id = required_text(&body?, "agent_id");
    check_name(&agent_id)?;
    let secret = random::secret()?;
    let author = caller.as_ref().map_or_else(Author::stranger, |caller| caller.author());
    let name = agent_id.clone();
    let issue = move |state: &mut HubState, now_ms| {
        let issued = state.acts(&author, now_ms).register(secret, &name, invitation.as_deref());
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
    let own = own_address(&app, &headers);
    let answer = json!({
        "agent_id": agent_id,
        "token": token,
        "hub_ws_url": own.ws,
        "hub_api_url": own.http,
        "default_repo": default_repo,
    });
    created(answer)
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
