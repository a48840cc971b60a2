//! What is moved when the machine's clock is set (or the machine was suspended), so that no wait gets shorter or longer:
//! deadlines, and the times from which on something is measured. Pure. Each record names all its fields here: a new one must
//! be placed. What tells when something happened, and a date that people gave (`complete_by`), stays as it is.

use std::sync::Arc;

use crate::common::wall_clock::move_time;
use crate::hub::scheduler::Scheduler;
use crate::hub::scheduler::healing::record::HealingRecord;
use crate::hub::scheduler::inventory::close::LastClose;
use crate::hub::scheduler::inventory::hub_drain::HubDrain;
use crate::hub::scheduler::inventory::past_restart::PastRestart;
use crate::hub::scheduler::inventory::record::{AgentRecord, Presence};
use crate::hub::scheduler::restart::{Restart, RestartPhase};
use crate::hub::scheduler::rollouts::rollout::Rollout;
use crate::hub::scheduler::rollouts::target::{Target, TargetState};
use crate::hub::scheduler::task::{Status, Task};

impl Scheduler {
    /// Records that the clock was set: it shows `now_ms`, and `ms` more than it would have. What was to happen in an hour
    /// still happens in an hour.
    pub fn clock_moved(&mut self, ms: i64, now_ms: u64) {
        self.tasks.move_by(ms, now_ms);
        self.restarts.move_by(ms);
        self.agents.move_by(ms);
        self.rivals.move_by(ms);
        self.inventory.move_by(ms);
        self.load_drains();
        self.rollouts.move_by(ms);
        move_time(&mut self.agents_return_until, ms);
        self.healing.move_by(ms);
    }
}

impl Task {
    /// Moves the time by which it is measured, if there is one.
    pub fn move_by(&mut self, ms: i64) {
        match &mut self.status {
            Status::Assigned { agent_id: _, assigned_at: _, accepted: _, carried_since: Some(since) } => {
                move_time(since, ms);
            }
            Status::Assigned { carried_since: None, .. }
            | Status::Queued
            | Status::Completed { .. }
            | Status::DeadLetter
            | Status::Cancelled => {}
        }
    }
}

impl Restart {
    /// Returns whether it is measured by any time: it is open, it may still come back, or it may be commanded again after a
    /// time.
    pub fn is_timed(&self) -> bool {
        self.phase.is_open() || self.phase == RestartPhase::Overdue || self.retry_at.is_some()
    }

    /// Moves the times by which it is measured.
    pub fn move_by(&mut self, ms: i64) {
        let Self {
            command_id: _,
            agent_id: _,
            reason: _,
            by: _,
            deadline_ms: _,
            force: _,
            force_told: _,
            seq: _,
            commanded_at: _,
            clock_moved_ms,
            overdue_at,
            phase: _,
            boot_before: _,
            count_before: _,
            left_at,
            boot_after: _,
            gap_ms: _,
            reported_gap_ms: _,
            forced: _,
            retry_at,
            steps: _,
            steps_left_out: _,
        } = self;
        *clock_moved_ms = clock_moved_ms.saturating_add(ms);
        move_time(overdue_at, ms);
        left_at.iter_mut().chain(retry_at).for_each(|at| move_time(at, ms));
    }
}

impl Rollout {
    /// Moves the times by which it is measured, but not those of its targets.
    pub fn move_by(&mut self, ms: i64) {
        let Self {
            id: _,
            seq: _,
            reason: _,
            by: _,
            selector: _,
            plan: _,
            size: _,
            created_at: _,
            clock_moved_ms,
            state: _,
            since: _,
            wave: _,
            wave_since,
            progressed_at,
            forgiven: _,
            ended_at: _,
            targets: _,
            counts: _,
        } = self;
        *clock_moved_ms = clock_moved_ms.saturating_add(ms);
        move_time(wave_since, ms);
        move_time(progressed_at, ms);
    }
}

impl Target {
    /// Moves the time for which it waits or has to stay, if there is one.
    pub fn move_by(&mut self, ms: i64) {
        match &mut self.state {
            TargetState::Waiting { why: _, until } | TargetState::Soaking { run: _, until } => move_time(until, ms),
            TargetState::Pending
            | TargetState::Restarting
            | TargetState::Succeeded
            | TargetState::Failed { .. }
            | TargetState::Skipped { .. }
            | TargetState::Cancelled => {}
        }
    }
}

impl HealingRecord {
    /// Moves the times by which cooldown and budget are measured.
    pub fn move_by(&mut self, ms: i64) {
        let Self { rule: _, agent_id: _, acted_at, command_id: _, told_at } = self;
        acted_at.iter_mut().chain(told_at).for_each(|at| move_time(at, ms));
    }
}

impl AgentRecord {
    /// Moves the times by which it is measured: since when the agent is here or away, its restarts, its drain's end.
    pub fn move_by(&mut self, ms: i64) {
        let Self {
            agent_id: _,
            first_seen,
            presence: Presence::Connected { since } | Presence::Away { since },
            last_close,
            address: _,
            about: _,
            run: _,
            capabilities: _,
            labels: _,
            operator_labels: _,
            restarts: _,
            past_restarts,
            cordoned: _,
            hub_drain,
            progress: _,
        } = self;
        move_time(since, ms);
        *first_seen = (*first_seen).min(*since);
        if let Some(LastClose { at, .. }) = last_close.as_mut().map(Arc::make_mut) {
            move_time(at, ms);
        }
        past_restarts.iter_mut().for_each(|PastRestart { at, .. }| move_time(at, ms));
        if let Some(drain) = hub_drain.as_mut().map(Arc::make_mut) {
            let HubDrain { by: _, reason: _, since: _, until, deadline, deadline_seen: _ } = drain;
            until.iter_mut().chain(deadline).for_each(|at| move_time(at, ms));
        }
    }
}
