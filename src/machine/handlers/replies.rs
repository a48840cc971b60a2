//! Answers to operator commands. The machine chooses the answer; the caller maps the ticket to the request.

use alloc::vec::Vec;

use crate::machine::model::effect::Effect;
use crate::machine::model::journal::Disk;
use crate::machine::model::reply::{Answer, PendingReply, REPLIES_CAP, Ticket};
use crate::machine::step::Step;

impl Step<'_> {
    /// Answers at once. For answers that grant nothing that must survive a crash.
    pub(in crate::machine) fn reply(&mut self, to: Option<Ticket>, answer: Answer) {
        if let Some(to) = to {
            self.order(Effect::Reply { to, answer, not_on_disk: false });
        }
    }

    /// Answers once the journal holds what the answer grants, or the write has failed.
    pub(in crate::machine) fn reply_once_on_disk(&mut self, to: Option<Ticket>, answer: Answer) {
        let Some(to) = to else { return };
        if self.machine.replies.len() < REPLIES_CAP {
            self.machine.replies.push(PendingReply { to, answer });
        } else {
            self.order(Effect::Reply { to, answer, not_on_disk: true });
        }
    }

    /// Sends the waiting answers unless a journal write is in progress. Must run AFTER `flush_journal`, because the
    /// write that it orders may be the one that the answers wait for.
    pub(in crate::machine) fn flush_replies(&mut self) {
        let not_on_disk = match self.machine.disk {
            Disk::Writing { .. } => return,
            Disk::Ready => false,
            Disk::Failing { .. } => true,
        };
        self.order_replies(not_on_disk);
    }

    /// Orders every waiting answer.
    pub(in crate::machine) fn order_replies(&mut self, not_on_disk: bool) {
        let replies: Vec<PendingReply> = core::mem::take(&mut self.machine.replies);
        self.effects.extend(replies.into_iter().map(|PendingReply { to, answer }| Effect::Reply {
            to,
            answer,
            not_on_disk,
        }));
    }
}
