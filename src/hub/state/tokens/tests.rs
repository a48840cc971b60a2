//! Tokens as their holders and an operator meet them.

use std::collections::BTreeMap;

use super::*;

fn principal(name: &str) -> Principal {
    Principal::new(name, Role::Agent, 1)
}

fn proves<'a>(tokens: &'a Tokens, token: &str) -> Option<&'a str> {
    tokens.valid().find(token).map(|(_, principal)| principal.name.as_str())
}

#[test]
fn a_token_proves_its_name_and_no_other_token_does() {
    let mut tokens = Tokens::default();
    let token = tokens.issue([7; 32], principal("a"), true).unwrap();
    assert_eq!(token.len(), 64);
    assert_eq!(proves(&tokens, &token), Some("a"));
    assert_eq!(proves(&tokens, &token[..63]), None);
    assert_eq!(proves(&tokens, ""), None);
}

#[test]
fn the_first_registration_wins() {
    let mut tokens = Tokens::default();
    tokens.issue([7; 32], principal("a"), true).unwrap();
    assert_eq!(tokens.issue([8; 32], principal("a"), true), Err(NotIssued::NameTaken));
    assert!(tokens.issue([9; 32], principal("a"), false).is_ok());
}

#[test]
fn a_token_that_is_asked_for_again_is_there_once() {
    let mut tokens = Tokens::default();
    let first = tokens.issue([7; 32], principal("a"), false);
    assert_eq!(tokens.issued_before(&[7; 32], &principal("a")), first.ok());
    assert_eq!(tokens.issued_before(&[7; 32], &principal("b")), None);
    assert_eq!(tokens.issue([7; 32], principal("b"), false), Err(NotIssued::SecretInUse));
    assert_eq!(
        (tokens.valid().list().count(), tokens.revoke("a", &TokenSelector::All).len(), tokens.valid().holds("a")),
        (1, 1, false)
    );
}

#[test]
fn what_is_stored_is_enough_to_verify_and_is_not_the_token() {
    let mut tokens = Tokens::default();
    let token = tokens.issue([7; 32], principal("a"), true).unwrap();
    let stored = tokens.take_dirty();
    assert!(!format!("{stored:?}").contains(&token));
    assert_eq!(hex(&stored[0].0).len(), 64);
    let stored = stored.into_iter().filter_map(|(hash, principal)| Some((hash, principal?))).collect();
    assert!(proves(&Tokens::load(stored), &token) == Some("a"));
}

#[test]
fn a_revoked_token_proves_nobody_and_its_name_is_free_again() {
    let mut tokens = Tokens::default();
    let (one, other) = (tokens.issue([7; 32], principal("a"), true), tokens.issue([8; 32], principal("b"), true));
    let stored = tokens.take_dirty();
    assert_eq!(tokens.revoke("a", &TokenSelector::All).len(), 1);
    assert_eq!(tokens.take_dirty(), [(stored[0].0, None)]);
    assert_eq!(proves(&tokens, &one.unwrap()), None);
    assert_eq!(proves(&tokens, &other.unwrap()), Some("b"));
    assert!(tokens.issue([9; 32], principal("a"), true).is_ok());
    assert_eq!(tokens.revoke("nobody", &TokenSelector::All).len(), 0);
}

#[test]
fn one_of_several_tokens_is_revoked_by_its_id_and_an_admins_only_when_it_is_meant() {
    let mut tokens = Tokens::default();
    let old = tokens.issue([7; 32], principal("a"), false).unwrap();
    let new = tokens.issue([8; 32], Principal { created_at: 2, ..principal("a") }, false).unwrap();
    let admin = tokens.issue([9; 32], Principal { role: Role::Admin, ..principal("a") }, false).unwrap();
    let oldest = tokens.valid().list().find(|shown| shown.created_at == 1 && !shown.admin).unwrap();
    assert_eq!(tokens.revoke("b", &TokenSelector::One(oldest.id.clone())).len(), 0, "it is not b's");
    assert_eq!(tokens.revoke("a", &TokenSelector::One(oldest.id)).len(), 1);
    assert!(proves(&tokens, &old).is_none() && proves(&tokens, &new).is_some());
    assert_eq!(tokens.revoke("a", &TokenSelector::Agents).len(), 1);
    assert!(proves(&tokens, &new).is_none() && proves(&tokens, &admin).is_some());
}

#[test]
fn registration_cannot_fill_the_disk() {
    let mut tokens = Tokens::default();
    for n in 0..MAX_TOKENS {
        let mut secret = [0; SECRET_BYTES];
        secret[..8].copy_from_slice(&n.to_le_bytes());
        tokens.issue(secret, principal(&format!("a{n}")), true).unwrap();
    }
    assert_eq!(tokens.issue([9; 32], principal("one more"), true), Err(NotIssued::Full));
}

fn openly(name: &str, created_at: u64) -> Principal {
    Principal { created_at, registered_openly: true, ..principal(name) }
}

#[test]
fn strangers_have_a_room_of_their_own_and_the_oldest_that_was_never_used_makes_room() {
    let mut tokens = Tokens::default();
    for n in 0..MAX_OPEN_TOKENS {
        let mut secret = [0; SECRET_BYTES];
        secret[..8].copy_from_slice(&n.to_le_bytes());
        let token = tokens.issue(secret, openly(&format!("a{n}"), n as u64), true).unwrap();
        if n == 0 {
            tokens.note_use(&hash_of(&token), 7);
        }
    }
    assert_eq!(tokens.issue([9; 32], openly("late", 9), true), Err(NotIssued::FullOfStrangers));
    assert_eq!(tokens.makes_room().as_deref(), Some("a1"), "a0 is used");
    assert!(tokens.issue([9; 32], principal("of an admin"), true).is_ok());
    tokens.revoke("a1", &TokenSelector::All);
    assert_eq!(tokens.makes_room(), None);
    assert!(tokens.issue([8; 32], openly("late", 9), true).is_ok());
}

#[test]
fn a_clock_that_is_set_neither_drops_what_nobody_has_used_yet_nor_keeps_it_longer() {
    for ms in [10 * UNCLAIMED_LIFE_MS.cast_signed(), -5] {
        let mut tokens = Tokens::default();
        let used = tokens.issue([6; 32], openly("used", 1), true).unwrap();
        tokens.note_use(&hash_of(&used), 7);
        let token = tokens.issue([7; 32], openly("a", 20), true).unwrap();
        tokens.take_dirty();
        tokens.move_by(ms);
        let due = 20_u64.saturating_add_signed(ms) + UNCLAIMED_LIFE_MS;
        let moved: Vec<_> = tokens.take_dirty().into_iter().map(|(hash, it)| (hash, it.unwrap())).collect();
        assert_eq!(moved.iter().map(|(_, it)| (&*it.name, it.created_at)).collect::<Vec<_>>(), [("a", 20)]);
        for mut tokens in [tokens, Tokens::load(moved)] {
            assert_eq!(tokens.next_expiry(), Some(due), "{ms}");
            assert_eq!((tokens.overdue_unclaimed(9, due - 1).len(), tokens.overdue_unclaimed(9, due).len()), (0, 1));
            tokens.note_use(&hash_of(&token), due);
            assert_eq!(tokens.next_expiry(), None, "it is claimed");
        }
    }
}

#[test]
fn what_was_registered_openly_and_never_used_is_overdue_after_a_week_also_when_it_is_read_again() {
    let mut tokens = Tokens::default();
    let used = tokens.issue([6; 32], openly("used", 1), true).unwrap();
    tokens.issue([7; 32], openly("b", 3), true).unwrap();
    tokens.issue([8; 32], openly("a", 2), true).unwrap();
    tokens.issue([9; 32], principal("of an admin"), true).unwrap();
    tokens.note_use(&hash_of(&used), 7);
    // The first use is stored with what was done with it.
    let stored: BTreeMap<_, _> = tokens.take_dirty().into_iter().map(|(hash, it)| (hash, it.unwrap())).collect();
    assert_eq!((stored[&hash_of(&used)].last_used_at, tokens.take_used(9)), (Some(7), Vec::new()));
    for mut tokens in [tokens, Tokens::load(stored.into_iter().collect())] {
        assert_eq!(tokens.next_expiry(), Some(2 + UNCLAIMED_LIFE_MS));
        assert_eq!(tokens.overdue_unclaimed(9, 1 + UNCLAIMED_LIFE_MS), Vec::<String>::new());
        assert_eq!(tokens.overdue_unclaimed(1, 3 + UNCLAIMED_LIFE_MS), ["a"]);
        assert_eq!(tokens.overdue_unclaimed(9, u64::MAX), ["a", "b"]);
        let valid = tokens.valid();
        assert_eq!((valid.held_openly("a"), valid.held_openly("used")), (Some(false), Some(true)));
        assert_eq!(valid.held_openly("of an admin"), None);
        assert_eq!(valid.agents_after(None).collect::<Vec<_>>(), ["of an admin", "used"]);
        assert!(!valid.expects("a") && valid.expects("used"));
        tokens.revoke("a", &TokenSelector::All);
        tokens.revoke("b", &TokenSelector::All);
        assert_eq!(tokens.next_expiry(), None);
    }
}

#[test]
fn a_token_is_told_apart_by_its_first_characters() {
    let mut tokens = Tokens::default();
    let token = tokens.issue([0xab; 32], principal("a"), true).unwrap();
    let shown = tokens.valid().list().next().unwrap();
    assert_eq!(shown.prefix.as_deref(), Some("ababab"));
    assert!(token.starts_with("ababab"));
}

#[test]
fn an_expired_token_still_holds_its_name() {
    let mut tokens = Tokens::default();
    tokens.issue([7; 32], Principal { expires_at: Some(10), ..principal("a") }, true).unwrap();
    tokens.issue([8; 32], Principal { expires_at: Some(20), ..principal("b") }, true).unwrap();
    assert_eq!((tokens.next_expiry(), tokens.take_expired(9).len()), (Some(10), 0));
    let expired = tokens.take_expired(10);
    assert_eq!((expired.len(), expired[0].0.as_str(), tokens.next_expiry()), (1, "a", Some(20)));
    assert!(!tokens.valid().holds_valid("a", 10) && tokens.valid().holds_valid("a", 9) && tokens.valid().holds("a"));
    assert_eq!(tokens.issue([9; 32], principal("a"), true), Err(NotIssued::NameTaken));
    assert_eq!((tokens.revoke("b", &TokenSelector::All).len(), tokens.next_expiry()), (1, None));
}

#[test]
fn a_use_is_stored_once_and_later() {
    let mut tokens = Tokens::default();
    let token = tokens.issue([7; 32], principal("a"), true).unwrap();
    tokens.take_dirty();
    let (hash, _) = tokens.valid().find(&token).unwrap();
    let before = tokens.valid().clone();
    tokens.note_use(&hash, 10);
    tokens.note_use(&hash, 11);
    assert_eq!((before.get(&hash).unwrap().last_used_at, tokens.take_dirty()), (None, Vec::new()));
    let used = tokens.take_used(9);
    assert_eq!((used.len(), used[0].1.as_ref().unwrap().last_used_at, tokens.take_used(9)), (1, Some(10), Vec::new()));
    tokens.note_use(&hash, 12);
    tokens.revoke("a", &TokenSelector::All);
    tokens.note_use(&hash, 9_000_000);
    assert_eq!(tokens.take_used(9), []);
}
