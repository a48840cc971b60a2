//! A hub whose machine's clock is wrong, and is set: while it runs, and while it is down.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::hub::actor::{Actor, Handle};
use crate::hub::clock::SimulatedMachine;
use crate::hub::hub_state::HubState;
use crate::hub::scheduler::drains::DrainRequest;
use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::restart::RestartRequest;
use crate::hub::scheduler::task::{Priority, Submission};
use crate::hub::scheduler::tests::rig::submission;
use crate::hub::state::clock_mark::ClockMark;
use crate::hub::state::store::{Store, WithoutStore};
use crate::protocol::{Identify, JsonFields, JsonText};

const NOW: u64 = 1_795_506_418_903;
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// A hub over this store, on this machine.
struct Hub {
    handle: Handle,
    actor: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

impl Hub {
    /// Starts it as `serve` does, on a machine that says this of its boot.
    fn start(store: Store, machine: &Arc<SimulatedMachine>, boot: u64) -> Self {
        let clock = machine.clock();
        let stored = store.load_at(ClockMark { boot, ..clock.mark() }).unwrap();
        let (actor, handle) = Actor::new(HubState::load(stored, Policy::default(), clock), store);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let actor = tokio::spawn(async move { actor.run(stopped).await.unwrap() });
        Self { handle, actor, stop }
    }

    async fn end(self) {
        self.stop.cancel();
        self.actor.await.unwrap();
    }

    async fn join(&self, conn: u64, agent_id: &str) {
        let identify = Identify { agent_id: agent_id.into(), boot_id: Some("b".into()), ..Identify::default() };
        let joined =
            move |state: &mut HubState, now: u64| state.scheduler.identified(conn, &identify, "10.0.0.1:1", now);
        assert!(self.handle.ask(joined).await.unwrap().is_none());
    }

    async fn submit(&self, task_id: &'static str, complete_by: Option<u64>) {
        let extra = complete_by.map(|at| ("complete_by", JsonText::of(&at)));
        let task = Submission { extra: JsonFields::from_iter(extra), ..submission(Priority::Normal) };
        self.handle.ask(move |state, now| state.scheduler.submit(task_id.into(), task, now)).await.unwrap();
    }

    async fn status(&self, task_id: &'static str) -> (&'static str, Option<String>, u64) {
        let told = move |state: &mut HubState, _: u64| {
            let task = state.scheduler.tasks().get(task_id).unwrap();
            (task.status.name(), task.holder().map(str::to_owned), task.created_at)
        };
        self.handle.ask(told).await.unwrap()
    }

    async fn now(&self) -> u64 {
        self.handle.ask(|_, now| now).await.unwrap()
    }
}

#[tokio::test]
async fn a_hub_that_began_eight_hours_slow_is_right_once_the_clock_is() {
    let folder = tempfile::tempdir().unwrap();
    let machine = SimulatedMachine::at(NOW - 8 * HOUR_MS);
    let hub =
        Hub::start(Store::open(folder.path(), WithoutStore::MakeFirst).unwrap(), &machine, ClockMark::this_boot());
    hub.join(1, "a").await;
    hub.join(2, "b").await;
    // Due in an hour by the right clock.
    hub.submit("soon", Some(NOW + HOUR_MS)).await;
    hub.submit("any", None).await;
    let request = RestartRequest { reason: "r".into(), deadline_ms: Some(HOUR_MS), force: false, by: "ops".into() };
    let order = move |state: &mut HubState, now: u64| {
        state.scheduler.command_restart("c".into(), "b", request, now);
        state.scheduler.restarts().get("c").map(|restart| restart.overdue_at - now)
    };
    let left = hub.handle.ask(order).await.unwrap();

    machine.set(NOW);
    assert_eq!(hub.now().await, NOW);
    let after = |state: &mut HubState, now: u64| state.scheduler.restarts().get("c").map(|it| it.overdue_at - now);
    assert_eq!(hub.handle.ask(after).await.unwrap(), left, "the restart has the time that it had");
    for task_id in ["soon", "any"] {
        assert_eq!(hub.status(task_id).await.0, "assigned", "nobody lost a task by it");
    }
    hub.submit("later", None).await;
    assert_eq!(hub.status("later").await.2, NOW, "created_at is that of the right clock");
    assert_eq!(hub.handle.snapshot().view.connected_count(), 2);

    // The date comes, though the machine was suspended until then: nothing else does.
    machine.set(NOW + HOUR_MS);
    assert_eq!(hub.now().await, NOW + HOUR_MS);
    let reclaims = |state: &mut HubState, now: u64| {
        state.tick(now);
        (
            state.scheduler.tasks().get("soon").map(|it| it.generation),
            state.scheduler.restarts().open_for("b").is_some(),
        )
    };
    assert_eq!(hub.handle.ask(reclaims).await.unwrap(), (Some(2), true), "taken back as overdue");
    assert_eq!(hub.status("any").await.0, "assigned");
    hub.end().await;
}

#[tokio::test]
async fn a_date_that_a_fast_clock_had_passed_counts_again_once_the_clock_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let machine = SimulatedMachine::at(NOW + 8 * HOUR_MS);
    let hub =
        Hub::start(Store::open(folder.path(), WithoutStore::MakeFirst).unwrap(), &machine, ClockMark::this_boot());
    hub.join(1, "a").await;
    hub.submit("t", Some(NOW + HOUR_MS)).await;
    assert_eq!(hub.status("t").await.0, "assigned", "late already: it is not taken back for that");
    machine.set(NOW);
    let due = |state: &mut HubState, now: u64| {
        state.tick(now);
        (state.scheduler.tasks().get("t").map(|it| it.generation), state.scheduler.deadline().map(|at| at > now))
    };
    assert_eq!(hub.handle.ask(due).await.unwrap(), (Some(1), Some(true)));
    machine.set(NOW + HOUR_MS);
    assert_eq!(hub.handle.ask(due).await.unwrap(), (Some(2), Some(true)));
    hub.end().await;
}

#[tokio::test]
async fn a_clock_that_is_set_while_the_hub_is_down_shortens_no_stored_wait_and_lengthens_none() {
    // What the clock shows when the hub is back ten minutes later, whether the machine was rebooted meanwhile, and what is
    // left then of a drain for an hour.
    let later = NOW + 10 * MINUTE_MS;
    for (shows, reboots, left) in [
        (later, false, Some(50 * MINUTE_MS)),
        (later + 8 * HOUR_MS, false, Some(50 * MINUTE_MS)),
        (later - 8 * HOUR_MS, false, Some(50 * MINUTE_MS)),
        (0, false, None),
        (u64::MAX, false, Some(50 * MINUTE_MS)),
        (later, true, Some(50 * MINUTE_MS)),
        (later - 8 * HOUR_MS, true, Some(HOUR_MS)),
        (0, true, Some(HOUR_MS)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let machine = SimulatedMachine::at(NOW);
        let hub =
            Hub::start(Store::open(folder.path(), WithoutStore::MakeFirst).unwrap(), &machine, ClockMark::this_boot());
        hub.join(1, "a").await;
        hub.submit("t", None).await;
        let drain = |state: &mut HubState, now: u64| {
            let until = Some(now + HOUR_MS);
            state.scheduler.drain("a", DrainRequest { by: "ops".into(), reason: None, until, deadline: None }, now);
        };
        hub.handle.ask(drain).await.unwrap();
        hub.end().await;
        machine.pass(10 * MINUTE_MS);
        machine.set(shows);
        for _ in 0..2 {
            let boot = ClockMark::this_boot() ^ u64::from(reboots);
            let hub = Hub::start(Store::open(folder.path(), WithoutStore::MakeFirst).unwrap(), &machine, boot);
            let drained = |state: &mut HubState, now: u64| {
                let drain = state.scheduler.inventory().get("a").and_then(|record| record.hub_drain.clone());
                drain.and_then(|drain| Some(drain.until? - now))
            };
            let found = hub.handle.ask(drained).await.unwrap();
            // Times before the epoch cannot be told.
            let left = left.or(found);
            assert_eq!(found, left, "{shows} {reboots}");
            assert!(found.is_some_and(|left| left <= HOUR_MS), "{shows} {reboots}: {found:?}");
            assert_eq!(hub.status("t").await.0, "assigned", "{shows} {reboots}");
            hub.end().await;
        }
    }
}
