//! News for the hub that is no obligation: output of a run, figures of the machine's load. The shell holds the content and
//! offers it; whether it is passed on follows from where the machine stands.

use crate::machine::model::effect::Effect;
use crate::machine::model::news::News;
use crate::machine::step::Step;

impl Step<'_> {
    /// Passes news on while the hub knows us: output of the task in hand while nobody doubts that it is ours, figures while
    /// the sidecar is not on its way out. Everything else is dropped.
    pub(in crate::machine) fn news_offered(&mut self, news: News) {
        let wanted = match &news {
            News::Output { task_id } => {
                self.machine.state.job().is_some_and(|job| job.task().id == *task_id && !job.is_in_question())
            }
            News::Resources => !self.machine.state.is_leaving(),
        };
        if wanted && self.machine.connection.online().is_some() {
            self.order(Effect::PassOn(news));
        }
    }
}
