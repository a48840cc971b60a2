//! The working state of one transition: the machine as it changes, and the effects ordered so far.

use alloc::vec::Vec;

use crate::machine::model::effect::{Effect, ToHub};
use crate::machine::model::machine::Machine;
use crate::machine::model::policy::Policy;
use crate::machine::model::time::Timestamp;

/// A transition in progress.
pub(in crate::machine) struct Step<'a> {
    pub(in crate::machine) machine: Machine,
    pub(in crate::machine) now: Timestamp,
    pub(in crate::machine) policy: &'a Policy,
    pub(in crate::machine) effects: Vec<Effect>,
}

impl Step<'_> {
    /// Appends `effect` to the ordered effects.
    pub(in crate::machine) fn order(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Returns the number of the next question.
    pub(in crate::machine) fn next_question(&mut self) -> u32 {
        self.machine.questions = self.machine.questions.wrapping_add(1);
        self.machine.questions
    }

    /// Sends `what` if the connection is online; otherwise drops it. Only for messages that may be lost.
    pub(in crate::machine) fn say_if_online(&mut self, what: ToHub) {
        if self.machine.connection.online().is_some() {
            self.order(Effect::Send(what));
        }
    }
}
