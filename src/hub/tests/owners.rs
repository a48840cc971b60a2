//! Which step leaves a name without an owner, and which only changes its tokens.

use crate::hub::fleet::has_submitted;
use crate::hub::hub_state::{HubState, Revocation, WhyWorthless};
use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::restart::{Restart, RestartPhase, RestartRequest};
use crate::hub::scheduler::task::{Priority, Submission};
use crate::hub::scheduler::tests::rig::submission;
use crate::hub::state::roles::Role;
use crate::hub::state::settings::Settings;
use crate::hub::state::tokens::{Principal, TokenSelector, Tokens};
use crate::protocol::Identify;

fn hub() -> HubState {
    HubState::new(Scheduler::default(), Tokens::default(), Settings::default(), Vec::new())
}

/// Issues a token that is made of this byte, at that time.
fn issue(hub: &mut HubState, byte: u8, at: u64) -> String {
    hub.issue_token([byte; 32], Principal::new("a", Role::Agent, at), false).unwrap()
}

fn join(hub: &mut HubState, conn: u64, token: &str) {
    let (boot_id, token) = (Some(format!("boot-{conn}")), token.to_owned());
    let identify = Identify { agent_id: "a".into(), token, boot_id, ..Identify::default() };
    hub.identify(conn, &identify, "10.0.0.1:1", conn).unwrap();
}

/// A hub with one agent on connection 1, which is commanded to restart.
fn commanded() -> (HubState, String) {
    let mut hub = hub();
    let token = issue(&mut hub, 1, 5);
    join(&mut hub, 1, &token);
    let request = RestartRequest { reason: "r".into(), deadline_ms: None, force: false, by: "ops".into() };
    hub.scheduler.command_restart("c1".into(), "a", request, 10).unwrap();
    (hub, token)
}

fn ledger(hub: &HubState) -> Vec<RestartPhase> {
    hub.scheduler.restarts().of_agent("a").into_iter().map(|restart: &Restart| restart.phase).collect()
}

/// The id of the token that was issued at this time.
fn id_of(hub: &HubState, at: u64) -> TokenSelector {
    let found = hub.tokens.valid().list().find(|token| token.created_at == at).unwrap();
    TokenSelector::One(found.id)
}

#[test]
fn a_change_of_tokens_without_a_gap_costs_nothing() {
    let (mut hub, _) = commanded();
    let second = issue(&mut hub, 2, 20);
    join(&mut hub, 2, &second);
    let old = id_of(&hub, 5);
    assert_eq!(hub.revoke("a", &old, 30).len(), 1);
    assert_eq!(ledger(&hub), [RestartPhase::Back]);
    assert!(hub.scheduler.is_connected("a"));
    assert_eq!(hub.tokens.valid().owned_since("a"), Some(5));
}

#[test]
fn a_token_in_place_of_all_others_is_the_same_owners() {
    let (mut hub, old) = commanded();
    let (new, _) = hub.replace_tokens([2; 32], Principal::new("a", Role::Agent, 20), &TokenSelector::All, 20).unwrap();
    assert_eq!(ledger(&hub), [RestartPhase::Commanded]);
    assert!(hub.tokens.valid().find(&old).is_none() && !hub.scheduler.is_connected("a"));
    assert_eq!(hub.tokens.valid().owned_since("a"), Some(5));
    join(&mut hub, 2, &new);
    assert_eq!(ledger(&hub), [RestartPhase::Back]);
}

#[test]
fn what_was_submitted_is_its_owners_however_the_clock_is_set_and_no_later_owners() {
    let mut hub = hub();
    issue(&mut hub, 1, 50);
    // The clock was set back before it submitted.
    let task = Submission { submitted_by: "a".into(), submitter_since: Some(50), ..submission(Priority::Normal) };
    hub.scheduler.submit("t".into(), task, 10);
    let is_own = |hub: &HubState| has_submitted(hub.tokens.valid(), "a", hub.scheduler.tasks().get("t").unwrap());
    assert!(is_own(&hub));
    hub.revoke("a", &TokenSelector::All, 12);
    assert!(!is_own(&hub));
    // It is set back once more: the next owner seems to have been there before.
    issue(&mut hub, 2, 3);
    assert!(!is_own(&hub));
}

#[test]
fn with_its_last_token_a_name_loses_its_owner_and_the_next_one_inherits_nothing() {
    let (mut hub, _) = commanded();
    assert_eq!(hub.revoke("a", &TokenSelector::All, 20).len(), 1);
    assert_eq!(ledger(&hub), [RestartPhase::Revoked], "an operator may still read it");
    issue(&mut hub, 2, 30);
    assert_eq!((ledger(&hub), hub.tokens.valid().owned_since("a")), (Vec::new(), Some(30)));
    issue(&mut hub, 3, 40);
    assert_eq!(hub.tokens.valid().owned_since("a"), Some(30), "a second token is the same owner's");
}

#[test]
fn to_replace_nothing_makes_a_new_owner() {
    let (mut hub, _) = commanded();
    hub.revoke("a", &TokenSelector::All, 20);
    hub.replace_tokens([2; 32], Principal::new("a", Role::Agent, 30), &TokenSelector::All, 30).unwrap();
    assert_eq!((ledger(&hub), hub.tokens.valid().owned_since("a")), (Vec::new(), Some(30)));
}

#[test]
fn who_revokes_nothing_ends_nothing() {
    let (mut hub, _) = commanded();
    hub.take_revocations();
    assert_eq!(hub.revoke("a", &TokenSelector::One("unheard-of".into()), 20).len(), 0);
    assert_eq!(hub.revoke("nobody", &TokenSelector::All, 20).len(), 0);
    assert_eq!((ledger(&hub), hub.take_revocations()), (vec![RestartPhase::Commanded], Vec::new()));
    hub.revoke("a", &TokenSelector::All, 20);
    assert_eq!(
        hub.take_revocations(),
        [Revocation { name: "a".into(), why: WhyWorthless::Revoked, tokens: 1, connections: 1 }]
    );
}

#[test]
fn a_token_of_an_older_store_is_that_of_who_always_owned_the_name() {
    let text = r#"{"name":"a","admin":false,"created_at":7}"#;
    assert_eq!(serde_json::from_str::<Principal>(text).unwrap().owned_since, 0);
}
