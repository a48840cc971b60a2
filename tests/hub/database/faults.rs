//! What an operator or a failing server does to the sessions of a leader: what was answered stays, and nobody leads beside it.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use agentcom::hub::cluster::leadership::lead;
use agentcom::hub::state::store::DatabaseError;
use agentcom::hub::state::store::postgres::Database;

use super::{END_LEASE, candidate, commit, held, leader, setting};
use crate::postgres::Postgres;
use crate::support::PATIENCE;

/// The sessions of hubs on the database of an address.
const SESSIONS: &str = "from pg_stat_activity where application_name = 'agentcom-hub' and datname = current_database()";

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_cancelled_while_it_waited_for_a_replica_is_not_taken_for_done() {
    let Some(server) = Postgres::start() else { return };
    let url = server.new_database();
    let store = leader(&url, "a").await;
    let wait_for = |names: &str| {
        server.sql("postgres", &format!("alter system set synchronous_standby_names = '{names}'"));
        server.sql("postgres", "select pg_reload_conf()");
    };
    commit(&store, &setting("before")).unwrap();
    wait_for("none_such");
    let committing = tokio::task::spawn_blocking(move || {
        let done = commit(&store, &setting("meanwhile"));
        (store, done)
    });
    let waiting = format!("select count(*) {SESSIONS} and wait_event = 'SyncRep'");
    let is_waiting = || server.sql_at(&url, &waiting) != "0";
    until("the commit waits for the replica", is_waiting);
    // The server answers that it is done, with a warning.
    server.sql_at(&url, &format!("select pg_cancel_backend(pid) {SESSIONS} and wait_event = 'SyncRep'"));
    until("what confirms it waits as well", is_waiting);
    assert!(!committing.is_finished(), "it was taken for done");
    wait_for("");
    let (store, done) = committing.await.unwrap();
    assert_eq!(done, Ok(true));
    assert_eq!(held(&store).0.as_deref(), Some("meanwhile"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_sessions_are_ended_again_and_again_leads_on() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.new_database();
    let store = leader(&url, "a").await;
    let waiting = tokio::spawn({
        let url = url.clone();
        async move { leader(&url, "b").await }
    });
    let (begun, mut told) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(5) {
        server.sql_at(&url, &format!("select pg_terminate_backend(pid) {SESSIONS}"));
        told += 1;
        assert_eq!(commit(&store, &setting(&format!("{told}"))), Ok(true));
    }
    assert!(!waiting.is_finished(), "another one took over");
    assert_eq!(held(&store).1.len(), told);
    assert_eq!(server.sql_at(&url, "select epoch from agentcom.leader"), "1");
    waiting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_a_newer_hub_are_refused_by_one_that_stands_by_too() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.new_database();
    let old = leader(&url, "a").await;
    let waiting = tokio::spawn({
        let database = Database::parse(&url).unwrap();
        async move { lead(&database, candidate("b")).await.map(drop) }
    });
    let standing = format!("select count(*) {SESSIONS} and query like '%agentcom.leader l%'");
    until("the other one looks", || server.sql_at(&url, &standing) != "0");
    server.sql_at(&url, "update agentcom.record set record = '\\x6300000000000000' where key = 'schema'");
    server.sql_at(&url, END_LEASE);
    let refused = waiting.await.unwrap().unwrap_err();
    assert!(matches!(refused, DatabaseError::Newer { found: 99, .. }), "{refused}");
    drop(old);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_says_nothing_does_not_keep_the_next_one_from_being_tried() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.new_database();
    // Its connections are taken by the system, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}/", silent.local_addr().unwrap().port(), server.port());
    let both = url.replacen(&format!("127.0.0.1:{}/", server.port()), &hosts, 1);
    let database = Database::parse(&both).unwrap();
    database.connect().await.unwrap();
    // The one that answered is asked first from now on.
    let begun = Instant::now();
    database.connect().await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_full_ends_the_lease_and_loses_nothing() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.new_database();
    let store = leader(&url, "a").await;
    commit(&store, &setting("before")).unwrap();
    // What a server without room says (53100).
    server.sql_at(
        &url,
        "create function agentcom.full() returns trigger language plpgsql as \
         $$begin raise exception 'No space left on device' using errcode = '53100'; end$$; \
         create trigger full_disk before update on agentcom.leader for each statement execute function agentcom.full()",
    );
    let refused = commit(&store, &setting("meanwhile")).unwrap_err();
    assert!(
        matches!(&refused, DatabaseError::LeaseEnded { detail, .. } if detail.contains("No space left")),
        "{refused}"
    );
    server.sql_at(&url, "drop trigger full_disk on agentcom.leader");
    let new = leader(&url, "b").await;
    assert_eq!(held(&new), (Some("before".to_owned()), vec!["before".to_owned()]));
}
