//! Handles the connection's opening, loss and deadlines.

use crate::machine::model::connection::{Connection, Heartbeat};
use crate::machine::model::effect::{CloseCode, Effect, ToHub};
use crate::machine::model::state::{DrainStep, State};
use crate::machine::step::Step;

impl Step<'_> {
    /// Sends `identify` on the new connection.
    pub(in crate::machine) fn hub_opened(&mut self) {
        if let Connection::Dialing { attempt, .. } = self.machine.connection {
            let give_up_at = self.now.plus(self.policy.identify_timeout_ms);
            self.machine.connection = Connection::Identifying { give_up_at, attempt };
            let identify = self.identify_message();
            self.order(Effect::Send(identify));
        }
    }

    /// Handles the connection's deadlines: the handshake limits, the rate limit, a legacy hub's next assignment,
    /// the ping and the pong.
    pub(in crate::machine) fn connection_deadline(&mut self) {
        let now = self.now;
        match &mut self.machine.connection {
            Connection::Dialing { give_up_at, attempt } | Connection::Identifying { give_up_at, attempt }
                if *give_up_at <= now =>
            {
                let attempt = *attempt;
                self.close_connection(CloseCode::Unusable, attempt, false);
            }
            Connection::Online(online) => {
                if online.limited_until.is_some_and(|until| until <= now) {
                    online.limited_until = None;
                }
                online.next_assignment_until.take_if(|until| *until <= now);
                match online.heartbeat {
                    Heartbeat::Due { at } if at <= now => {
                        online.heartbeat =
                            Heartbeat::Sent { at: now, answer_by: now.plus(self.policy.pong_timeout_ms) };
                        self.order(Effect::Send(ToHub::Ping));
                    }
                    Heartbeat::Sent { answer_by, .. } if answer_by <= now => {
                        let attempt = online.failed_attempts(now);
                        self.close_connection(CloseCode::Unusable, attempt, false);
                    }
                    Heartbeat::Due { .. } | Heartbeat::Sent { .. } => {}
                }
            }
            Connection::Down { .. }
            | Connection::Dialing { .. }
            | Connection::Identifying { .. }
            | Connection::Closing { .. } => {}
        }
    }

    /// Starts the closing handshake; the caller answers with `HubClosed`.
    pub(in crate::machine) fn close_connection(&mut self, code: CloseCode, attempt: u32, refused: bool) {
        self.machine.connection = Connection::Closing { attempt, refused };
        self.order(Effect::CloseLink(code));
    }

    /// Handles the loss of the connection: a message sent on it without an answer is not known to have arrived.
    pub(in crate::machine) fn connection_lost(&mut self) {
        self.machine.outbox.connection_lost(self.now, self.policy);
        self.machine.deferred = None;
        if let Some(job) = self.machine.state.job_mut() {
            job.connection_lost();
        }
        if let State::Draining { step, .. } = &self.machine.state {
            match step {
                DrainStep::Closing => self.finish_drain(),
                DrainStep::Flushing => self.hasten_redial(),
                DrainStep::Checking => {}
            }
        }
    }
}
