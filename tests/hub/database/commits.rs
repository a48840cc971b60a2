//! Commits to a database: who may, and what happens where it is not known whether one was done.

use std::time::{Duration, Instant};

use agentcom::hub::scheduler::Changes;
use agentcom::hub::state::store::{DatabaseError, StateChanges};

use super::{END_LEASE, commit, held, leader, setting};
use crate::database_proxy::{Proxy, Way};
use crate::postgres::Postgres;

#[tokio::test(flavor = "multi_thread")]
async fn one_who_was_deposed_changes_nothing_and_says_nothing() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.new_database();
    let old = leader(&url, "a").await;
    commit(&old, &setting("by a")).unwrap();
    server.sql_at(&url, END_LEASE);
    let new = leader(&url, "b").await;
    assert_eq!(held(&new), (Some("by a".to_owned()), vec!["by a".to_owned()]));
    commit(&new, &setting("by b")).unwrap();

    // It may believe in its lease, but not against the database: neither a change nor a word.
    let speaks = StateChanges { speaks: true, ..StateChanges::default() };
    let refused = commit(&old, &speaks).unwrap_err();
    assert!(matches!(&refused, DatabaseError::Deposed { epoch: 2, node } if node == "b"), "{refused}");
    assert!(!old.may_speak());
    assert_eq!(commit(&old, &setting("by a again")).unwrap_err(), refused);
    assert_eq!(old.lost().await, refused);
    assert_eq!(held(&new), (Some("by b".to_owned()), vec!["by b".to_owned(), "by a".to_owned()]));
    assert!(commit(&new, &setting("by b again")).unwrap() && new.may_speak());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_finds_out_too_that_another_one_leads() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.new_database();
    let old = leader(&url, "a").await;
    server.sql_at(&url, END_LEASE);
    let _new = leader(&url, "b").await;
    let why = tokio::time::timeout(Duration::from_secs(30), old.lost()).await.expect("it renews every two seconds");
    assert!(matches!(why, DatabaseError::Deposed { epoch: 2, .. }), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_over_from_one_who_lives_and_at_once_from_one_that_has_closed_its_store() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.new_database();
    let old = leader(&url, "a").await;
    let waiting = tokio::spawn({
        let url = url.clone();
        async move { leader(&url, "b").await }
    });
    // More than a lease, in which the old one says nothing.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(12) {
        assert!(!waiting.is_finished(), "it took over from one who lives");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    commit(&old, &setting("v")).unwrap();
    let ended = Instant::now();
    drop(old);
    let new = waiting.await.unwrap();
    // It looks each second; a session that is gone without a word would take until a renewal is overdue.
    assert!(ended.elapsed() < Duration::from_secs(3), "{:?}", ended.elapsed());
    assert_eq!(held(&new).0.as_deref(), Some("v"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_connection_breaks_is_done_once_wherever_it_breaks() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.new_database();
    let proxy = Proxy::before(server.port());
    let store = leader(&proxy.url(&url), "a").await;
    let ways = [Way::ToServer, Way::ToClient];
    let cuts = ways.into_iter().flat_map(|way| [0, 1, 7, 40, 200, 900, 1_400].map(|bytes| (way, bytes)));
    let (mut told, mut was_cut) = (Vec::new(), 0);
    for (n, (way, bytes)) in cuts.enumerate() {
        let value = format!("{n}");
        told.insert(0, value.clone());
        proxy.cut_after(way, bytes);
        // The first changes something, the second only speaks.
        let aside = StateChanges { speaks: true, ..StateChanges::default() };
        assert!(commit(&store, &setting(&value)).unwrap(), "{way:?} {bytes}");
        assert!(!store.commit(&Changes::default(), &aside).unwrap(), "{way:?} {bytes}");
        was_cut = proxy.cuts();
        assert_eq!(held(&store), (Some(value), told.clone()), "{way:?} {bytes}");
    }
    assert!(was_cut >= 8, "only {was_cut} of them were cut");
    // Two for each, and the one with which the term began.
    let number = server.sql_at(&url, "select commit_no from agentcom.leader");
    assert_eq!(number, format!("{}", 2 * told.len() + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_says_nothing_ends_the_lease_in_its_time() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.new_database();
    let proxy = Proxy::before(server.port());
    let store = leader(&proxy.url(&url), "a").await;
    commit(&store, &setting("before")).unwrap();
    let begun = Instant::now();
    proxy.freeze();
    let refused = commit(&store, &setting("meanwhile")).unwrap_err();
    assert!(matches!(refused, DatabaseError::LeaseEnded { .. }), "{refused}");
    assert!(!store.may_speak() && begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // The session is there and says nothing: the time decides.
    let new = leader(&url, "b").await;
    assert_eq!(held(&new), (Some("before".to_owned()), vec!["before".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_lost_a_confirmed_commit_is_noticed() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.new_database();
    let store = leader(&url, "a").await;
    commit(&store, &setting("1")).unwrap();
    commit(&store, &setting("2")).unwrap();
    // What a failover to a replica that lags behind does.
    server.sql_at(&url, "update agentcom.leader set commit_no = commit_no - 1");
    let refused = commit(&store, &setting("3")).unwrap_err();
    assert!(matches!(refused, DatabaseError::WentBack { found: 2, expected: 3, .. }), "{refused}");
    assert!(!store.may_speak());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_to_a_replica_is_survived() {
    let Some(server) = Postgres::start() else { return };
    let url = server.new_database();
    let replica = server.replica();
    let database = url.rsplit('/').next().unwrap();
    let both = format!("postgres://agentcom@127.0.0.1:{},127.0.0.1:{}/{database}", server.port(), replica.port());
    let old = leader(&both, "a").await;
    commit(&old, &setting("before")).unwrap();
    server.wait_for(&replica);
    server.kill_9();
    replica.promote();
    // Whoever is first: the old leader, which goes on, or the other one.
    let went_on = commit(&old, &setting("after"));
    let new = match went_on {
        Ok(_) => old,
        Err(error) => {
            assert!(error.ends_leadership(), "{error}");
            let new = leader(&both, "b").await;
            commit(&new, &setting("after")).unwrap();
            new
        }
    };
    assert_eq!(held(&new), (Some("after".to_owned()), vec!["after".to_owned(), "before".to_owned()]));
}
