//! What the clocks at the last commit mean for a hub that starts: whatever is stored and measured is moved, once and in one
//! commit, to the clock as it is now.

use std::sync::Arc;

use crate::hub::scheduler::Changes;
use crate::hub::scheduler::healing::record::HealingRecord;
use crate::hub::scheduler::rollouts::target::Target;
use crate::hub::state::clock_mark::ClockMark;
use crate::hub::state::store::{StateChanges, Store, StoreError, Stored};

impl Store {
    /// Reads everything but the audit, as [`Self::load`] does, for a hub that starts at this moment: if the machine's clock
    /// was set while no hub ran, what is measured is moved as far, and stored so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn load_at(&self, now: ClockMark) -> Result<Stored, StoreError> {
        let mut stored = self.load()?;
        let ms = stored.moved_ms(now);
        if ms != 0 {
            tracing::warn!(
                ms,
                "the machine's clock was set since the last change was stored: all stored deadlines are moved by so many ms"
            );
            stored.move_by(ms);
            stored.clock = Some(now);
            self.store_moved(&stored)?;
        }
        Ok(stored)
    }

    fn store_moved(&self, stored: &Stored) -> Result<(), StoreError> {
        let tasks = stored.tasks.iter().filter(|task| !task.status.is_final());
        let answers = stored.answers.iter().map(|answer| (answer.stored_key(), Some(Arc::new(answer.clone()))));
        let changes = Changes {
            tasks: tasks.map(|task| (task.id.clone(), Some(task))).collect(),
            restarts: stored.restarts.iter().map(|it| (it.command_id.clone(), Some(it))).collect(),
            rollouts: stored.rollouts.iter().map(|it| (it.id.as_ref().to_owned(), Some(it))).collect(),
            targets: stored.targets.iter().map(|it| (Target::key(&it.rollout_id, it.number), Some(it))).collect(),
            healing: stored.healing.iter().map(|it| (HealingRecord::key(&it.rule, &it.agent_id), Some(it))).collect(),
            agents: stored.agents.iter().map(|it| (it.agent_id.as_ref().to_owned(), Some(it))).collect(),
            moment: Some(stored.moment),
        };
        let unclaimed = stored.tokens.iter().filter(|(_, principal)| principal.is_unclaimed());
        let aside = StateChanges {
            tokens: unclaimed.map(|(hash, principal)| (*hash, Some(principal.clone()))).collect(),
            answers: answers.collect(),
            clock: stored.clock,
            ..StateChanges::default()
        };
        self.commit(&changes, &aside).map(drop)
    }
}

impl Stored {
    /// Returns how far the clock was set since the last commit, in ms.
    fn moved_ms(&self, now: ClockMark) -> i64 {
        // A hub that kept no clocks still noted until when it ran.
        let last = self.clock.unwrap_or(ClockMark { at_ms: self.moment, steady_ms: 0, boot: 0 });
        last.moved_ms(now)
    }

    /// Moves what is measured `ms` later, or earlier if that is negative.
    fn move_by(&mut self, ms: i64) {
        let Self {
            tasks,
            restarts,
            rollouts,
            targets,
            healing,
            agents,
            moment,
            clock: _,
            tokens,
            invitations: _,
            settings: _,
            answers,
            unread: _,
        } = self;
        tasks.iter_mut().for_each(|task| task.move_by(ms));
        restarts.iter_mut().filter(|restart| restart.is_timed()).for_each(|restart| restart.move_by(ms));
        rollouts.iter_mut().for_each(|rollout| rollout.move_by(ms));
        targets.iter_mut().for_each(|target| target.move_by(ms));
        healing.iter_mut().for_each(|record| record.move_by(ms));
        agents.iter_mut().for_each(|agent| agent.move_by(ms));
        tokens.iter_mut().for_each(|(_, principal)| principal.move_by(ms));
        answers.iter_mut().for_each(|answer| answer.move_by(ms));
        *moment = moment.saturating_add_signed(ms);
    }
}
