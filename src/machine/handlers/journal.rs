//! Handles the outcome of a journal write.

use crate::machine::model::effect::{Effect, ToHub};
use crate::machine::model::journal::Disk;
use crate::machine::model::notice::Notice;
use crate::machine::step::Step;

impl Step<'_> {
    /// Handles a journal write that succeeded.
    pub(in crate::machine) fn persisted(&mut self) {
        match core::mem::replace(&mut self.machine.disk, Disk::Ready) {
            Disk::Writing { journal, failing } => {
                self.machine.durable = *journal;
                if failing {
                    self.order(Effect::Notify(Notice::JournalRecovered));
                    let status = self.machine.presence().into();
                    self.say_if_online(ToHub::Status { status });
                }
            }
            other @ (Disk::Ready | Disk::Failing { .. }) => self.machine.disk = other,
        }
    }

    /// Handles a journal write that failed.
    pub(in crate::machine) fn persist_failed(&mut self) {
        if let Disk::Writing { failing, .. } = self.machine.disk {
            self.machine.disk = Disk::Failing { retry_at: self.now.plus(self.policy.persist_retry_ms) };
            if !failing {
                self.order(Effect::Notify(Notice::JournalFailing));
                // Both hubs show the status, so an operator who looks there need not read this machine's log.
                let status = "unwell: the sidecar cannot write its journal (disk full or read-only?)".into();
                self.say_if_online(ToHub::Status { status });
            }
            self.refuse_unjournalled_job();
        }
    }
}
