//! Keeps the present at one fixed moment: when time passes, everything remembered moves into the past instead, so that
//! states which differ only in their dates are one state. It moves data only; the shipped code decides everything.

use std::sync::Arc;

use agentcom::machine::invariants::History;
use agentcom::machine::{
    Assignment, Cause, Connection, Delivery, Disk, Heartbeat, Job, Journal, LastLook, Machine, NextRun, Online,
    OpenRestart, Ownership, ParkedTask, Pending, PendingRestart, PersistedJob, Report, RestartCheck, RestartLedger,
    Returned, Review, Stage, State, TimeLimit, Timestamp, ToHub,
};

use super::asked::OPEN;

/// The present, for ever.
pub const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
/// An interval that no life here is long enough for.
pub const NEVER_MS: u64 = 1 << 40;
/// Nothing looks further back than this.
const PAST_MS: u64 = 500_000;

/// Whether a deadline is one that comes.
pub fn comes(at: Timestamp) -> bool {
    at.since(NOW) < NEVER_MS / 2
}

/// Moves times by `ms` into the past. With 0 it only evens out what decides nothing.
#[derive(Clone, Copy)]
pub struct Shift(pub u64);

impl Shift {
    fn time(self, at: &mut Timestamp) {
        *at = if comes(*at) { at.minus(self.0).max(NOW.minus(PAST_MS)) } else { NOW.plus(NEVER_MS) };
    }

    /// Every field is named on purpose: a new one does not compile until it is placed.
    pub fn machine(self, machine: &mut Machine) {
        let Machine {
            state,
            connection,
            outbox,
            parked,
            late_sessions: _,
            restarts,
            disk,
            durable,
            deferred,
            check,
            replies: _,
            questions,
            cordon: _,
            previous_end: _,
        } = machine;
        *questions = OPEN;
        if let Some(RestartCheck { number, deadline, first, joined }) = check {
            *number = OPEN;
            self.time(deadline);
            for PendingRestart { order: _, asked_at, to: _ } in std::iter::once(first).chain(joined) {
                self.time(asked_at);
            }
        }
        self.state(state);
        self.connection(connection);
        for pending in outbox.pending_mut() {
            self.saying(&mut pending.sent);
            // As with dials, all rests are equally long here.
            pending.losses = pending.losses.min(1);
            match &mut pending.delivery {
                Delivery::Open | Delivery::Refused | Delivery::GivenUp { write_at: None, .. } => {}
                Delivery::Resting { until: at } | Delivery::GivenUp { write_at: Some(at), .. } => self.time(at),
            }
        }
        for item in parked.items_mut() {
            self.parked(item);
        }
        self.restarts(restarts);
        match disk {
            Disk::Ready => {}
            Disk::Writing { journal, failing: _ } => self.journal(journal),
            Disk::Failing { retry_at } => self.time(retry_at),
        }
        self.journal(durable);
        if let Some(Assignment { task: _, assigned_at: _, timeout_ms: _ }) = deferred {}
    }

    pub fn journal(self, journal: &mut Journal) {
        let Journal { job, parked, late_sessions: _, outbox: _, restarts, cordoned: _, stopped: _ } = journal;
        if let Some(persisted) = job {
            self.persisted(persisted);
        }
        for item in parked {
            self.parked(item);
        }
        self.restarts(restarts);
    }

    pub fn history(self, history: &mut Arc<History>) {
        if self.0 > 0 {
            Arc::make_mut(history).shift_back(self.0);
        }
    }

    fn state(self, state: &mut State) {
        match state {
            State::Idle => {}
            State::Working { job } => self.job(job),
            State::RestartPending { job, order: _, deadline } => {
                self.job(job);
                self.time(deadline);
            }
            State::Draining { cause, deadline, step: _, left_behind } => {
                if let Cause::Restart { next_run: NextRun::Asked { number }, .. } = cause {
                    *number = OPEN;
                }
                self.time(deadline);
                if let Some(persisted) = left_behind {
                    self.persisted(persisted);
                }
            }
            State::Exiting { cause: _, left_behind } => {
                if let Some(persisted) = left_behind {
                    self.persisted(persisted);
                }
            }
        }
    }

    fn job(self, job: &mut Job) {
        let Job { persisted, ownership, wake_ordered: _, progress_at, review, last_look } = job;
        if let Some(Review { number, outcome: _, deadline }) = review {
            *number = OPEN;
            self.time(deadline);
        }
        if let Some(LastLook { number, until }) = last_look {
            *number = OPEN;
            self.time(until);
        }
        self.persisted(persisted);
        match ownership {
            Ownership::Ours { accept, report } => {
                self.saying(accept);
                if let Some(Report { generation: _, again_at }) = report {
                    self.time(again_at);
                }
            }
            Ownership::Recovering { ask } => self.saying(ask),
        }
        self.time(progress_at);
    }

    fn persisted(self, persisted: &mut PersistedJob) {
        let PersistedJob { task: _, stage, woken: _, machine_boot: _, assigned_at: _, limit } = persisted;
        if let Some(TimeLimit { limit_ms: _, until, warned: _ }) = limit {
            self.time(until);
        }
        match stage {
            Stage::Accepted | Stage::Waking { .. } | Stage::Running => {}
            Stage::RetryingWake { at, attempt: _ } => self.time(at),
            Stage::AwaitingConfirmation { until } | Stage::Interrupted { until } => self.time(until),
        }
    }

    fn parked(self, item: &mut ParkedTask) {
        match item {
            ParkedTask::UnderWay(persisted) => self.persisted(persisted),
            ParkedTask::Finished { task_id: _, generation: _, result: _ } => {}
        }
    }

    fn saying(self, saying: &mut Pending) {
        match saying {
            Pending::Unsent | Pending::Answered => {}
            Pending::Sent { again_at } => self.time(again_at),
        }
    }

    /// The first and the longest wait before a reconnect are the same here, so the count of failures decides nothing.
    fn connection(self, connection: &mut Connection) {
        match connection {
            Connection::Down { retry_at: at, attempt, firm: _ }
            | Connection::Dialing { give_up_at: at, attempt }
            | Connection::Identifying { give_up_at: at, attempt } => {
                self.time(at);
                *attempt = 0;
            }
            Connection::Online(Online {
                since,
                attempt,
                features: _,
                heartbeat,
                limited_until,
                hub_view: _,
                next_assignment_until,
            }) => {
                (*since, *attempt) = (NOW, 0);
                match heartbeat {
                    Heartbeat::Due { at } => self.time(at),
                    Heartbeat::Sent { at, answer_by } => {
                        self.time(at);
                        self.time(answer_by);
                    }
                }
                if let Some(at) = limited_until {
                    self.time(at);
                }
                if let Some(at) = next_assignment_until {
                    self.time(at);
                }
                // One that is over decides nothing.
                next_assignment_until.take_if(|at| *at <= NOW);
            }
            Connection::Closing { attempt, refused: _ } => *attempt = 0,
        }
    }

    fn restarts(self, restarts: &mut RestartLedger) {
        let RestartLedger { recent, open, returned, seen: _, cancelled: _ } = restarts;
        recent.iter_mut().for_each(|at| self.time(at));
        open.iter_mut().chain(returned.iter_mut().map(|Returned { restart }| restart)).for_each(open_restart);
    }
}

/// When the drain began is for the gap that people read.
fn open_restart(open: &mut OpenRestart) {
    if let Some(at) = &mut open.leaving_at {
        *at = NOW;
    }
}

/// Dates are for people: no hub decides by them.
pub fn undated(mut said: ToHub) -> ToHub {
    match &mut said {
        ToHub::AgentRestarting { restart, .. } => open_restart(restart),
        ToHub::Identify { status: _, restarted: Some(from), previous_end: _ } => {
            open_restart(&mut from.restart);
            from.gap_ms = 0;
        }
        _ => {}
    }
    said
}
