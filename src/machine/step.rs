//! One event under way: the machine as it changes, and what is ordered so far.

use alloc::vec::Vec;

use crate::machine::model::effect::{Effect, ToHub};
use crate::machine::model::machine::Machine;
use crate::machine::model::policy::Policy;
use crate::machine::model::time::Timestamp;

/// One transition under way.
pub(in crate::machine) struct Step<'a> {
    pub(in crate::machine) machine: Machine,
    pub(in crate::machine) now: Timestamp,
    pub(in crate::machine) policy: &'a Policy,
    pub(in crate::machine) effects: Vec<Effect>,
}

impl Step<'_> {
    /// Orders `effect` after those ordered so far.
    pub(in crate::machine) fn order(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Names the next question.
    pub(in crate::machine) fn next_question(&mut self) -> u32 {
        self.machine.questions = self.machine.questions.wrapping_add(1);
        self.machine.questions
    }

    /// Says something if the hub knows us on this connection; what is lost otherwise is news, not an obligation.
    pub(in crate::machine) fn say_if_online(&mut self, what: ToHub) {
        if self.machine.connection.online().is_some() {
            self.order(Effect::Send(what));
        }
    }
}
