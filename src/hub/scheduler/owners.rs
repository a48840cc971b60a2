//! Names that change hands: pure. A name has one owner from its first token until the step that leaves it without any;
//! which step that is, the owner of the tokens knows.
//!
//! | what is kept under the name | when its owner leaves | when its next owner comes |
//! |---|---|---|
//! | the task that it holds | reclaimed | |
//! | queued tasks that only it may do | dead letters, for their submitters to see | |
//! | an open restart | ends as `revoked` | forgotten |
//! | restarts that have ended | readable | forgotten |
//! | the last loss, rivals, the newest connection | forgotten | |
//! | the target of a rollout that it is | skipped as `removed` | |
//! | what healing rules did to it | forgotten | |
//! | the record in the inventory, with its labels and its drain | forgotten | |

use crate::hub::scheduler::Scheduler;

impl Scheduler {
    /// Ends what is open under the name of an agent that has no token, and so no connection, any more.
    pub fn owner_left(&mut self, agent_id: &str, now_ms: u64) {
        self.expel_absent(agent_id, now_ms);
        for task_id in self.tasks.queued_for(agent_id) {
            let reason = format!("only {agent_id} may do it, and the last token of that name was revoked");
            self.tasks.give_up(&task_id, &reason, now_ms);
        }
        self.restarts.revoked(agent_id, now_ms);
        self.tasks.lost_assignments.forget(agent_id);
        self.rivals.forget(agent_id);
        self.agents.forget(agent_id);
        self.forget_drain(agent_id);
        self.forget_healing(agent_id);
        self.inventory.forget(agent_id);
        self.touched.push(agent_id.to_owned());
        self.dispatch(now_ms);
    }

    /// Forgets what is left of the owner before, when a name that had no token gets one.
    pub fn owner_came(&mut self, agent_id: &str) {
        self.restarts.forget(agent_id);
    }
}
