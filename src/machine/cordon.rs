//! An operator's `drain` and `resume`: the task in hand is finished and no new one taken until further notice. It says
//! nothing about restarts, which go on as ever.

use super::effect::{CloseCode, Effect, Notice, ToHub};
use super::link::Link;
use super::reply::{Answer, Ticket};
use super::state::State;
use super::transition::Step;

/// Whether new tasks are taken. The journal keeps whether it is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Cordon {
    /// They are.
    #[default]
    Off,
    /// None are.
    On,
    /// None are, and the hub's end of the link is left alone: it knows no refusal, and would hand out a task a minute.
    Away,
}

impl Cordon {
    /// Whether new tasks are refused.
    pub const fn is_on(self) -> bool {
        match self {
            Self::Off => false,
            Self::On | Self::Away => true,
        }
    }
}

impl Step<'_> {
    pub(super) fn cordon_requested(&mut self, on: bool, to: Option<Ticket>) {
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
            self.refuse_held_new_work();
        } else {
            self.machine.cordon = Cordon::Off;
            if let Link::Down { retry_at, firm: false, .. } = &mut self.machine.link {
                *retry_at = (*retry_at).min(self.now);
            }
        }
        self.tell_cordon();
    }

    /// What a hub is told of it: in its own word where it has one, else in words for people.
    pub(super) fn tell_cordon(&mut self) {
        let on = self.machine.cordon.is_on();
        let Some(online) = self.machine.link.online() else { return };
        if online.features.cordon {
            self.order(Effect::Send(ToHub::Cordon { on }));
        }
        match self.machine.state {
            State::Idle | State::Working { .. } | State::RestartPending { .. } => {
                let status = self.machine.presence().into();
                self.order(Effect::Send(ToHub::Status { status }));
            }
            // There presence shows the leaving.
            State::Draining { .. } | State::Exiting { .. } => {}
        }
    }

    /// With nothing to do and nothing to say, a hub that cannot be told is left.
    pub(super) fn settle_cordon(&mut self) {
        let idle = matches!(self.machine.state, State::Idle) && self.machine.outbox.is_empty();
        let deaf = self.machine.link.online().is_some_and(|online| !online.features.task_rejected);
        if self.machine.cordon == Cordon::On && idle && deaf {
            self.machine.cordon = Cordon::Away;
            let attempt = self.machine.link.attempt();
            self.close_link(CloseCode::Cordoned, attempt, false);
        }
    }
}
