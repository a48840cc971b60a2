//! A token that is revoked: who still acts with it.

use tokio_util::sync::CancellationToken;

use crate::hub::actor::{Actor, Revoked};
use crate::hub::hub_state::HubState;
use crate::hub::scheduler::Scheduler;
use crate::hub::state::roles::Role;
use crate::hub::state::settings::Settings;
use crate::hub::state::store::{Store, WithoutStore};
use crate::hub::state::tokens::{Principal, TokenSelector, Tokens};

#[tokio::test]
async fn a_request_that_waits_while_its_token_is_revoked_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut tokens = Tokens::default();
    let principal = Principal::new("a", Role::Agent, 1);
    let token = tokens.issue([7; 32], principal, true).unwrap();
    let (hash, _) = tokens.valid().find(&token).unwrap();
    let state = HubState::new(Scheduler::default(), tokens, Settings::default(), Vec::new());
    let (actor, handle) = Actor::new(state, Store::open(folder.path(), WithoutStore::Make).unwrap());
    assert!(handle.snapshot().tokens.find(&token).is_some());

    // Both wait when the actor starts, so they are applied in one step.
    let revoke = handle.ask(|state, now_ms| state.revoke("a", &TokenSelector::All, now_ms).len());
    let change = handle.ask_as(hash, |state, _| state.settings.set("k", "v"));
    let stop = CancellationToken::new();
    let observed = async {
        let answers = tokio::join!(biased; revoke, change);
        stop.cancel();
        answers
    };
    let (ended, (revoked, changed)) = tokio::join!(actor.run(stop.clone()), observed);
    ended.unwrap();
    assert_eq!((revoked, changed), (Ok(1), Ok(Err(Revoked))));
    let after = handle.snapshot();
    assert!(after.tokens.find(&token).is_none() && after.settings.is_empty());
}
