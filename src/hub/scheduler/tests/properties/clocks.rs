//! The property that a clock that is set, or a machine that is suspended, changes no wait: two worlds in which the same
//! happens, one of them with a wall clock that leaps, also while the hub is down, are the same at every moment.

use super::*;

/// Late enough for a clock to be set back by a year.
const BEGIN: u64 = 1_795_506_418_903;

/// What a clock is set by.
fn leap() -> impl Strategy<Value = i64> {
    const HOUR_MS: i64 = 3_600_000;
    prop_oneof![
        Just(8 * HOUR_MS),
        Just(-8 * HOUR_MS),
        Just(8_760 * HOUR_MS),
        Just(-8_760 * HOUR_MS),
        Just(1),
        Just(-1),
        -9 * HOUR_MS..9 * HOUR_MS
    ]
}

impl World {
    fn at(now: u64) -> Self {
        let scheduler = Scheduler::load(Vec::new(), Vec::new(), Policy::default(), now);
        Self { scheduler, now, dates_tell_nothing: true, ..Self::new() }
    }

    /// The clock is set while the hub runs, or while it is down: then it finds what was stored.
    fn clock_is_set(&mut self, ms: i64, while_down: bool) {
        let moved = |at: u64| at.saturating_add_signed(ms);
        self.now = moved(self.now);
        for work in self.work.values_mut() {
            work.left_at = work.left_at.map(moved);
        }
        self.drained.values_mut().for_each(|until| *until = until.map(moved));
        if while_down {
            self.tasks.values_mut().for_each(|task| task.move_by(ms));
            self.restarts.values_mut().filter(|restart| restart.is_timed()).for_each(|restart| restart.move_by(ms));
            self.records.values_mut().for_each(|record| record.move_by(ms));
            self.moment = moved(self.moment);
            self.apply(&Op::HubCrash);
        } else {
            self.scheduler.clock_moved(ms, self.now);
        }
        self.store_what_must_be_and_read();
    }

    /// What each agent's record measures, counted from now.
    fn measured(&self) -> Vec<(String, bool, [Option<i64>; 3])> {
        let from_now = |at: u64| at.cast_signed() - self.now.cast_signed();
        let measured = |(agent_id, record): (&std::sync::Arc<str>, &std::sync::Arc<AgentRecord>)| {
            let close = record.last_close.as_ref().map(|close| from_now(close.at));
            let drain = record.hub_drain.as_ref().and_then(|drain| drain.due_at()).map(from_now);
            let since = Some(from_now(record.presence.since()));
            (agent_id.to_string(), record.presence.is_connected(), [since, close, drain])
        };
        self.scheduler.inventory().all().iter().map(measured).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_clock_that_leaps_changes_no_wait(
        steps in proptest::collection::vec((op(), proptest::option::weighted(0.3, (leap(), proptest::bool::weighted(0.2)))), 1..80),
    ) {
        let (mut still, mut leaps) = (World::at(BEGIN), World::at(BEGIN));
        for (op, leap) in &steps {
            // What was taken over by an original sidecar is hashed by its date.
            if matches!(op, Op::Join { speaks: Speaks::Original, .. } | Op::JoinLate { speaks: Speaks::Original, .. }) {
                continue;
            }
            for world in [&mut still, &mut leaps] {
                world.apply(op);
                world.store_and_read();
            }
            if let Some((ms, while_down)) = leap {
                if *while_down {
                    still.apply(&Op::HubCrash);
                    still.store_what_must_be_and_read();
                }
                leaps.clock_is_set(*ms, *while_down);
            }
            let due = |world: &World| world.scheduler.deadline().map(|at| at.cast_signed() - world.now.cast_signed());
            prop_assert_eq!(due(&still), due(&leaps));
            prop_assert_eq!(still.measured(), leaps.measured());
            prop_assert_eq!(still.print(), leaps.print());
            prop_assert_eq!((&still.in_hand, &still.completed, &still.generations), (&leaps.in_hand, &leaps.completed, &leaps.generations));
            prop_assert!(leaps.scheduler.tasks.assignments.index_is_right() && leaps.scheduler.restarts.index_is_right());
            prop_assert!(leaps.scheduler.drains_are_right());
            // Whatever changed is stored: a crash at this moment finds the same.
            for (id, restart) in &leaps.restarts {
                prop_assert_eq!(leaps.scheduler.restarts.get(id), Some(restart));
            }
        }
    }
}
