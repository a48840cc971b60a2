//! The operator commands `drain` and `resume`: after `drain` the task in hand is finished and no new one is taken until
//! `resume`. Restarts are not affected.

use crate::machine::model::connection::Connection;
use crate::machine::model::cordon::Cordon;
use crate::machine::model::effect::{CloseCode, Effect, ToHub};
use crate::machine::model::notice::Notice;
use crate::machine::model::reply::{Answer, Ticket};
use crate::machine::model::state::State;
use crate::machine::step::Step;

impl Step<'_> {
    /// Handles `drain` (`on`) or `resume`.
    pub(in crate::machine) fn cordon_requested(&mut self, on: bool, to: Option<Ticket>) {
        let after = self.machine.state.job().map(|job| job.task().id.clone());
        let (done, already) = match on {
            true => (Answer::Drains { after }, Answer::DrainsAlready),
            false => (Answer::Resumed, Answer::TakesTasks),
        };
        if self.machine.cordon.is_on() == on {
            return self.reply_once_on_disk(to, already);
        }
        self.reply_once_on_disk(to, done);
        self.order(Effect::Notify(Notice::Cordoned { on }));
        if on {
            self.machine.cordon = Cordon::On;
            self.refuse_deferred_new_work();
        } else {
            self.machine.cordon = Cordon::Off;
            if let Connection::Down { retry_at, firm: false, .. } = &mut self.machine.connection {
                *retry_at = (*retry_at).min(self.now);
            }
        }
        self.report_cordon();
    }

    /// Reports the cordon to the hub: by a `cordon` frame if the hub knows it, and by the status text.
    pub(in crate::machine) fn report_cordon(&mut self) {
        let on = self.machine.cordon.is_on();
        let Some(online) = self.machine.connection.online() else { return };
        if online.features.cordon {
            self.order(Effect::Send(ToHub::Cordon { on }));
        }
        match self.machine.state {
            State::Idle | State::Working { .. } | State::RestartPending { .. } => {
                let status = self.machine.presence().into();
                self.order(Effect::Send(ToHub::Status { status }));
            }
            // In these states the status shows that the sidecar is leaving.
            State::Draining { .. } | State::Exiting { .. } => {}
        }
    }

    /// Closes an idle connection to a hub that does not know `task_rejected`: nothing would keep that hub from
    /// assigning tasks.
    pub(in crate::machine) fn flush_cordon(&mut self) {
        let idle = matches!(self.machine.state, State::Idle) && self.machine.outbox.is_empty();
        let may_close = self
            .machine
            .connection
            .online()
            .is_some_and(|online| !online.features.task_rejected && !online.awaits_assignment(self.now));
        if self.machine.cordon == Cordon::On && idle && may_close {
            self.machine.cordon = Cordon::Away;
            let attempt = self.machine.connection.attempt(self.now);
            self.close_connection(CloseCode::Cordoned, attempt, false);
        }
    }
}
