//! A token that expires: who still acts with it, and what becomes of its name. And acts, which enter themselves into the
//! audit.

use crate::hub::acts::{Admission, NewToken, NotRegistered};
use crate::hub::hub_state::{HubState, IdentifyRefused, Revocation, WhyWorthless};
use crate::hub::scheduler::{Outgoing, Scheduler};
use crate::hub::state::audit::{Action, Author};
use crate::hub::state::invitations::{InvitationRequest, NotInvited};
use crate::hub::state::roles::Role;
use crate::hub::state::settings::Settings;
use crate::hub::state::tokens::{NotIssued, TokenSelector, Tokens};
use crate::protocol::Identify;

fn hub() -> HubState {
    HubState::new(Scheduler::default(), Tokens::default(), Settings::default(), Vec::new())
}

/// Issues an agent's token that is made of this byte and is valid for so long from 0 on.
fn issue(hub: &mut HubState, byte: u8, expires_in_ms: Option<u64>) -> String {
    let new = NewToken { expires_in_ms, ..NewToken::of_agent("a") };
    hub.acts(&Author::stranger(), 0).issue_token([byte; 32], &new).unwrap()
}

fn join(hub: &mut HubState, conn: u64, token: &str, now_ms: u64) -> Result<(), IdentifyRefused> {
    let (boot_id, token) = (Some(format!("boot-{conn}")), token.to_owned());
    let identify = Identify { agent_id: "a".into(), token, boot_id, ..Identify::default() };
    hub.identify(conn, &identify, "10.0.0.1:1", now_ms).map(drop)
}

fn closed(hub: &mut HubState) -> Vec<(u64, String)> {
    let close = |outgoing| match outgoing {
        Outgoing::Close { conn, reason, .. } => Some((conn, reason)),
        Outgoing::Frame { .. } => None,
    };
    hub.take_outgoing().into_iter().filter_map(close).collect()
}

#[test]
fn at_its_time_a_tokens_connections_are_closed_and_no_others() {
    let mut hub = hub();
    let token = issue(&mut hub, 1, Some(100));
    join(&mut hub, 1, &token, 10).unwrap();
    assert_eq!(hub.deadline(), Some(100));
    hub.tick(99);
    assert!(closed(&mut hub).is_empty() && hub.scheduler.is_connected("a"));
    hub.tick(100);
    assert_eq!(closed(&mut hub), [(1, "the token has expired".to_owned())]);
    assert_eq!(
        hub.take_revocations(),
        [Revocation { name: "a".into(), why: WhyWorthless::Expired, tokens: 1, connections: 1 }]
    );
    assert_eq!((hub.scheduler.is_connected("a"), hub.deadline()), (false, None));
    assert_eq!(join(&mut hub, 2, &token, 100), Err(IdentifyRefused::InvalidToken));
    assert_eq!(hub.tokens.valid().owned_since("a"), Some(0), "the owner is the same");

    let other = issue(&mut hub, 2, None);
    issue(&mut hub, 3, Some(200));
    join(&mut hub, 3, &other, 150).unwrap();
    hub.tick(200);
    assert!(closed(&mut hub).is_empty() && hub.scheduler.is_connected("a"));
}

#[test]
fn a_token_that_expires_before_the_deadline_is_seen_lets_nobody_in() {
    let mut hub = hub();
    let token = issue(&mut hub, 1, Some(100));
    assert_eq!(join(&mut hub, 1, &token, 100), Err(IdentifyRefused::InvalidToken));
    let (hash, _) = hub.tokens.valid().find(&token).unwrap();
    assert!(hub.tokens.valid().is_valid(&hash, 99) && !hub.tokens.valid().is_valid(&hash, 100));
}

#[test]
fn a_persons_token_does_not_identify() {
    for (role, expected) in [
        (Role::Viewer, Err(IdentifyRefused::TokenAgentMismatch)),
        (Role::Operator, Err(IdentifyRefused::TokenAgentMismatch)),
        (Role::Admin, Ok(())),
        (Role::Agent, Ok(())),
    ] {
        let mut hub = hub();
        let new = NewToken { role, ..NewToken::of_agent("a") };
        let token = hub.acts(&Author::stranger(), 0).issue_token([1; 32], &new).unwrap();
        assert_eq!(join(&mut hub, 1, &token, 1), expected, "{role}");
    }
}

#[test]
fn who_redeems_an_invitation_gets_a_token_in_the_same_step_or_keeps_the_invitation() {
    let mut hub = hub();
    let author = Author::stranger();
    let request = InvitationRequest { agent_id: None, uses: 1, expires_in_ms: 100 };
    let (code, made) = hub.acts(&author, 0).make_invitation([9; 32], request).unwrap();
    issue(&mut hub, 1, None);
    hub.take_aside();
    let by_invitation = Admission::ByInvitation(code);
    let taken = hub.acts(&author, 1).register([2; 32], "a", &by_invitation);
    assert_eq!(taken, Err(NotRegistered::NotIssued(NotIssued::NameTaken)));
    assert!(hub.take_aside().is_empty());
    hub.acts(&author, 1).register([2; 32], "b", &by_invitation).unwrap();
    let aside = hub.take_aside();
    let done: Vec<_> = aside.audit.iter().map(|entry| (entry.action, entry.author.who.as_str())).collect();
    let who = format!("invitation:{}", made.id);
    assert_eq!(done, [(Action::AgentRegistered, who.as_str()), (Action::InvitationRedeemed, who.as_str())]);
    assert_eq!((aside.tokens.len(), aside.invitations.len()), (1, 1));
    let again = hub.acts(&author, 1).register([3; 32], "c", &by_invitation);
    assert_eq!(again, Err(NotRegistered::NotInvited(NotInvited::InvitationUsedUp)));
    assert!(hub.take_aside().is_empty());
}

#[test]
fn an_act_that_changes_nothing_is_not_recorded() {
    let mut hub = hub();
    let author = Author::stranger();
    assert_eq!(hub.acts(&author, 0).revoke_tokens("a", &TokenSelector::All), 0);
    assert!(!hub.acts(&author, 0).revoke_invitation("none"));
    assert!(hub.acts(&author, 0).cancel_task("none").is_err() && hub.acts(&author, 0).retry_task("none").is_err());
    assert!(hub.take_aside().is_empty());
}
