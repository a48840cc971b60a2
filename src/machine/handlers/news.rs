//! Optional news for the hub: output of a run and load figures. The caller keeps the content and offers it; the machine
//! decides whether it is passed on.

use crate::machine::model::effect::Effect;
use crate::machine::model::news::News;
use crate::machine::step::Step;

impl Step<'_> {
    /// Passes news on while the connection is online: output of the task in hand unless its ownership is in question,
    /// and load figures unless the sidecar is leaving. Everything else is dropped.
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
