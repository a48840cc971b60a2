//! Handles the hub's messages, one match arm for each.

use alloc::string::{String, ToString};

use crate::machine::model::connection::{Connection, Features, Heartbeat, HubView, Online};
use crate::machine::model::cordon::Cordon;
use crate::machine::model::effect::{CloseCode, Effect, ToHub};
use crate::machine::model::event::FromHub;
use crate::machine::model::job::{Ownership, Pending, Report};
use crate::machine::model::journal::PreviousEnd;
use crate::machine::model::machine::Assignment;
use crate::machine::model::notice::{Notice, RejectReason};
use crate::machine::model::state::State;
use crate::machine::step::Step;

/// The longest rate-limit time in ms that is taken from a hub; a longer one is shortened to this.
const RATE_LIMIT_CAP_MS: u64 = 60_000;

impl Step<'_> {
    /// Handles a message from the hub by the connection's state.
    pub(in crate::machine) fn hub_message(&mut self, message: FromHub) {
        self.note_sign_of_life();
        match (&self.machine.connection, message) {
            (Connection::Identifying { attempt, .. }, FromHub::Identified { features }) => {
                let attempt = *attempt;
                self.identified(features, attempt);
            }
            (Connection::Identifying { attempt, .. }, FromHub::IdentifyRefused { error }) => {
                let attempt = *attempt;
                self.order(Effect::Notify(Notice::IdentifyRefused { error }));
                self.close_connection(CloseCode::Unusable, attempt, true);
            }
            (Connection::Online(_), message) => self.on_hub_message(message),
            // An answer to a verdict counts even during the closing handshake.
            (Connection::Closing { .. }, FromHub::VerdictAcknowledged { task_id }) => {
                self.verdict_acknowledged(&task_id)
            }
            (Connection::Closing { .. }, FromHub::VerdictRefused { complete, why, of }) => {
                self.verdict_refused(complete, why, of.as_ref())
            }
            (Connection::Closing { .. }, FromHub::RefusedInOtherWords { complete, error, of }) => {
                self.refused_in_other_words(complete, error, of.as_ref());
            }
            (
                Connection::Down { .. }
                | Connection::Dialing { .. }
                | Connection::Identifying { .. }
                | Connection::Closing { .. },
                FromHub::Identified { .. }
                | FromHub::IdentifyRefused { .. }
                | FromHub::Assigned { .. }
                | FromHub::AssignedInvalid { .. }
                | FromHub::AcceptAcknowledged { .. }
                | FromHub::VerdictAcknowledged { .. }
                | FromHub::VerdictRefused { .. }
                | FromHub::TaskContinue { .. }
                | FromHub::TaskReassigned { .. }
                | FromHub::TaskCancelled { .. }
                | FromHub::ReportAnswered { .. }
                | FromHub::ReportNotUnderstood
                | FromHub::RestartCommanded(_)
                | FromHub::RateLimited { .. }
                | FromHub::Forgotten
                | FromHub::SignOfLife
                | FromHub::RefusedInOtherWords { .. },
            ) => {}
        }
    }

    /// Handles a message on a connection that is online.
    fn on_hub_message(&mut self, message: FromHub) {
        match message {
            // A repeated `identified` changes nothing but the hub's view.
            FromHub::Identified { .. } => self.change_hub_view(HubView::ToldAgain, HubView::Known),
            FromHub::SignOfLife => {}
            FromHub::IdentifyRefused { error } => {
                self.order(Effect::Notify(Notice::IdentifyRefused { error }));
                let attempt = self.machine.connection.attempt(self.now);
                self.close_connection(CloseCode::Unusable, attempt, true);
            }
            FromHub::Assigned { task, assigned_at, timeout_ms } => {
                self.machine.connection.assignment_came();
                self.assigned(Assignment { task, assigned_at, timeout_ms });
            }
            FromHub::AssignedInvalid { task_id, generation, why } => self.assigned_invalid(task_id, generation, why),
            FromHub::AcceptAcknowledged { task_id } => self.accept_acknowledged(&task_id),
            FromHub::VerdictAcknowledged { task_id } => self.verdict_acknowledged(&task_id),
            FromHub::VerdictRefused { complete, why, of } => self.verdict_refused(complete, why, of.as_ref()),
            FromHub::TaskContinue { task_id, generation } => self.task_continue(&task_id, generation),
            FromHub::TaskReassigned { task_id, generation } => self.task_reassigned(&task_id, generation),
            FromHub::TaskCancelled { task_id } => self.task_cancelled(&task_id),
            FromHub::ReportAnswered { task_id, go_on } => self.report_answered(&task_id, go_on),
            FromHub::ReportNotUnderstood => self.report_not_understood(),
            FromHub::RestartCommanded(order) => self.restart_commanded(order, None),
            FromHub::RateLimited { retry_after_ms } => self.rate_limited(retry_after_ms),
            FromHub::Forgotten => self.forgotten(),
            FromHub::RefusedInOtherWords { complete, error, of } => {
                self.refused_in_other_words(complete, error, of.as_ref());
            }
        }
    }

    /// Closes a connection that a legacy hub has forgotten. Such a hub knows one connection of an agent. When an older
    /// one ends that it took for the present one, it reports that on this connection, and its tasks and commands do not
    /// arrive any more: only a new connection helps. A sidecar that is leaving needs neither, and answers still arrive.
    fn forgotten(&mut self) {
        match &self.machine.state {
            State::Idle | State::Working { .. } | State::RestartPending { .. } => {
                let attempt = self.machine.connection.attempt(self.now);
                self.close_connection(CloseCode::Unusable, attempt, false);
            }
            State::Draining { .. } | State::Exiting { .. } => {}
        }
    }

    /// Counts any message from the hub as the pong.
    fn note_sign_of_life(&mut self) {
        let interval = self.policy.ping_interval_ms;
        if let Connection::Online(online) = &mut self.machine.connection
            && let Heartbeat::Sent { at, .. } = online.heartbeat
        {
            online.heartbeat = Heartbeat::Due { at: at.plus(interval).max(self.now.plus(1)) };
        }
    }

    fn identified(&mut self, features: Features, attempt: u32) {
        let now = self.now;
        self.machine.connection = Connection::Online(Online {
            since: now,
            attempt,
            features,
            heartbeat: Heartbeat::Due { at: now.plus(self.policy.ping_interval_ms) },
            limited_until: None,
            hub_view: HubView::Known,
            next_assignment_until: None,
        });
        let returned = self.returned_from();
        self.machine.restarts.returned = None;
        // The hub knows this run now, and compares later connections with it.
        self.machine.previous_end = PreviousEnd::Unknown;
        self.order(Effect::Notify(Notice::Connected { returned }));
        if self.machine.cordon.is_on() {
            self.machine.cordon = Cordon::On;
            self.report_cordon();
        }
        self.report_parked_work(features);
        let progress_at = now.plus(self.policy.progress_interval_ms);
        if let Some(job) = self.machine.state.job_mut() {
            job.progress_at = progress_at;
            match &mut job.ownership {
                Ownership::Recovering { ask } => *ask = Pending::Unsent,
                Ownership::Ours { report, .. } => {
                    *report = Some(Report { generation: job.persisted.task.generation, again_at: now });
                }
            }
        }
    }

    /// Reports parked work to a hub that says what has become of the tasks: it may have assigned one again on a
    /// connection that broke, or one may have ended meanwhile.
    fn report_parked_work(&mut self, features: Features) {
        if !features.task_reassign {
            return;
        }
        for item in self.machine.parked.items() {
            self.effects.push(Effect::Send(ToHub::ParkedReport { task_id: item.task_id().clone() }));
        }
    }

    fn assigned_invalid(&mut self, task_id: String, generation: u64, why: String) {
        self.order(Effect::Notify(Notice::AssignmentRefused { task_id: task_id.clone(), why: RejectReason::Invalid }));
        if self.machine.connection.online().is_some_and(|online| online.features.task_rejected) {
            self.order(Effect::Send(ToHub::TaskRejected { task_id, generation, reason: RejectReason::Invalid }));
        } else if !self.machine.outbox.awaits_answer_to_failure() {
            self.order(Effect::Send(ToHub::TaskFailed { task_id, generation, reason: why }));
        }
    }

    fn accept_acknowledged(&mut self, task_id: &str) {
        if let Some(job) = self.machine.state.job_mut()
            && job.persisted.task.id.as_str() == task_id
            && let Ownership::Ours { accept: accept @ Pending::Sent { .. }, .. } = &mut job.ownership
        {
            *accept = Pending::Answered;
        }
    }

    fn verdict_acknowledged(&mut self, task_id: &str) {
        if self.machine.outbox.answered(task_id).is_some() {
            self.change_hub_view(HubView::AtWork, HubView::Known);
            self.machine.connection.expect_assignment(self.now);
        }
    }

    /// Changes a legacy hub's view of this agent to `to` if it is `from`.
    pub(in crate::machine) fn change_hub_view(&mut self, from: HubView, to: HubView) {
        if let Connection::Online(online) = &mut self.machine.connection
            && online.hub_view == from
        {
            online.hub_view = to;
        }
    }

    fn rate_limited(&mut self, retry_after_ms: u64) {
        let until = self.now.plus(retry_after_ms.clamp(1, RATE_LIMIT_CAP_MS));
        let Connection::Online(online) = &mut self.machine.connection else { return };
        online.limited_until = Some(until);
        if online.hub_view == HubView::ToldAgain {
            online.hub_view = HubView::AtWork;
        }
        // The hub does not name the message that it dropped: every one without an answer is sent again.
        if let Some(head) = self.machine.outbox.head_mut() {
            head.sent.postpone(until);
        }
        if let Some(job) = self.machine.state.job_mut() {
            match &mut job.ownership {
                Ownership::Recovering { ask } => ask.postpone(until),
                Ownership::Ours { accept, report } => {
                    accept.postpone(until);
                    if let Some(report) = report {
                        report.again_at = until;
                    }
                }
            }
        }
    }

    /// Refuses an assignment by `task_rejected` if the hub knows it. A legacy hub does not: without an answer it
    /// reclaims the task, while a frame of an unknown type would count as a violation.
    pub(in crate::machine) fn refuse(&mut self, task: &crate::machine::Task, reason: RejectReason) {
        self.order(Effect::Notify(Notice::AssignmentRefused { task_id: task.id.to_string(), why: reason }));
        if let Some(online) = self.machine.connection.online().filter(|online| online.features.task_rejected) {
            let reason = match reason {
                RejectReason::Draining if !online.features.cordon => RejectReason::Busy,
                RejectReason::Draining | RejectReason::Busy | RejectReason::Restarting | RejectReason::Invalid => {
                    reason
                }
            };
            let (task_id, generation) = (task.id.to_string(), task.generation);
            self.order(Effect::Send(ToHub::TaskRejected { task_id, generation, reason }));
        }
    }

    /// Forgets the task left behind if it is `task_id`. Returns whether it was.
    pub(in crate::machine) fn forget_left_behind(&mut self, task_id: &str) -> bool {
        match &mut self.machine.state {
            State::Draining { left_behind, .. } | State::Exiting { left_behind, .. } => {
                left_behind.take_if(|persisted| persisted.task.id.as_str() == task_id).is_some()
            }
            State::Idle | State::Working { .. } | State::RestartPending { .. } => false,
        }
    }
}
