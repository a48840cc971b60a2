//! Real sidecars on two real hubs over one real database, while the leader dies, stands still or is cut off, and while the
//! database fails over; with tasks and a rollout under way. No task is lost or done twice, no agent restarted twice, and work
//! goes on soon.
//!
//! Each change plays the leader's death with six agents, `AGENTCOM_CLUSTER=nightly` everything with twenty.
#![allow(clippy::print_stderr, reason = "the figures")]

mod stage;

use std::time::{Duration, Instant};

use crate::support::database_proxy::Proxy;
use crate::support::postgres::Postgres;
use crate::support::process::Signal;
use stage::Stage;

/// By when the next task is at work after the leader has gone.
const WORK_AGAIN: Duration = Duration::from_secs(15);
/// Longer than a lease.
const STANDSTILL: Duration = Duration::from_secs(12);

/// How many agents take part, an even number; `None` where the story is for the night only.
fn agents(in_each_run: Option<usize>) -> Option<usize> {
    let is_night = std::env::var("AGENTCOM_CLUSTER").is_ok_and(|value| value == "nightly");
    if is_night { Some(20) } else { in_each_run }
}

#[test]
fn the_leader_is_killed() {
    let (Some(agents), Some(server)) = (agents(Some(6)), Postgres::start()) else { return };
    let mut stage = Stage::new(&server.new_database(), None, agents);
    stage.begin();
    stage.nodes[0].running.kill9();
    stage.works_within("the leader was killed", WORK_AGAIN);
    stage.end();
}

#[test]
fn the_leader_stands_still_for_longer_than_its_lease() {
    let (Some(agents), Some(server)) = (agents(None), Postgres::start()) else { return };
    let mut stage = Stage::new(&server.new_database(), None, agents);
    stage.begin();
    stage.nodes[0].running.signal(Signal::STOP);
    stage.asked = vec![1];
    stage.works_within("the leader stood still", WORK_AGAIN);
    stage.goes_on_for(STANDSTILL);
    stage.nodes[0].running.signal(Signal::CONT);
    stage.end();
    assert!(stage.nodes[0].ends.contains(&Some(76)), "it ended with {:?}", stage.nodes[0].ends);
}

#[test]
fn the_leader_is_cut_off_from_the_database() {
    let (Some(agents), Some(server)) = (agents(None), Postgres::start()) else { return };
    let (url, proxy) = (server.new_database(), Proxy::before(server.port()));
    let mut stage = Stage::new(&proxy.url(&url), Some(&url), agents);
    stage.begin();
    proxy.freeze();
    stage.works_within("the leader was cut off", WORK_AGAIN);
    proxy.thaw();
    stage.end();
    assert!(stage.nodes[0].ends.contains(&Some(76)), "it ended with {:?}", stage.nodes[0].ends);
}

#[test]
fn the_database_fails_over_to_a_synchronous_replica() {
    let (Some(agents), Some(primary)) = (agents(None), Postgres::start()) else { return };
    let url = primary.new_database();
    let replica = primary.replica();
    // (`alter system` takes no transaction, and `psql -c` makes one of two statements.)
    primary.sql("postgres", "alter system set synchronous_standby_names = '*'");
    primary.sql("postgres", "select pg_reload_conf()");
    let both = url.replacen(
        &format!(":{}/", primary.port()),
        &format!(":{},127.0.0.1:{}/", primary.port(), replica.port()),
        1,
    );
    let mut stage = Stage::new(&both, None, agents);
    stage.begin();
    let began = Instant::now();
    primary.kill_9();
    replica.promote();
    eprintln!("the replica takes writes after {} ms", began.elapsed().as_millis());
    stage.works_within("the database failed over", WORK_AGAIN + began.elapsed());
    stage.end();
}
