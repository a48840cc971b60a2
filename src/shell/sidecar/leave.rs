//! The way out, once the machine has ordered the exit: the peers hear the last words, and a restart looks once more at what
//! it leaves the agent to.

use super::{Ending, Sidecar};
use crate::machine::{Cause, State};
use crate::shell::hub_link::LinkWhat;
use crate::shell::status::Status;

impl Sidecar {
    /// The last words may still be on their way when the deadline has come: they get a moment, not more.
    pub(super) async fn end(&mut self, ending: Ending) -> Ending {
        const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(150);
        if matches!(self.machine.link, crate::machine::Link::Closing { .. }) {
            let closed = async {
                while let Some(event) = self.inbox.link.recv().await {
                    if let LinkWhat::Closed(_) = event.what {
                        return;
                    }
                }
            };
            if tokio::time::timeout(LAST_WORDS, closed).await.is_err() {
                tracing::debug!("left without the peer's close frame");
            }
        }
        let ending = self.look_behind(ending).await;
        self.take_leave_of_pm2().await;
        ending
    }

    /// A restart was promised while its program could start; by now another one may stand there. Then the one that runs
    /// goes on: an old agent is better than none. A stop is not held up for it.
    async fn look_behind(&mut self, ending: Ending) -> Ending {
        let restarts =
            matches!(&self.machine.state, State::Exiting { cause: Cause::Restart { signalled: false, .. }, .. });
        if !restarts {
            return ending;
        }
        let mut stop_wanted = self.stop_wanted.clone();
        tokio::select! {
            looked = self.gate.last_look() => match looked {
                Ok(()) => ending,
                Err(why) => {
                    tracing::error!(why, "the program was replaced by one that cannot start: going on with the old one");
                    Ending::InPlaceAsIs
                }
            },
            Ok(_) = stop_wanted.wait_for(|wanted| *wanted) => Ending::Exit,
        }
    }

    /// What was asked and not heard is answered, and pm2 told what to show of us. A pm2 that does not read gets nothing
    /// more: the channel is then left to nobody, since half a line may be in it.
    async fn take_leave_of_pm2(&mut self) {
        const LAST_ANSWERS: std::time::Duration = std::time::Duration::from_millis(250);
        self.inbox.control.close();
        while self.inbox.control.try_recv().is_ok() {}
        self.gate.close();
        self.looked_at.clear();
        let status = Status::of(&self.show.borrow(), &self.adapters.pm2);
        self.adapters.voice.say_last_words(&status);
        let between_lines = self.adapters.voice.finish(LAST_ANSWERS).await;
        #[cfg(unix)]
        if !between_lines {
            tracing::warn!("pm2 does not read its channel: a program that replaces this one goes without it");
            crate::shell::inherited_fd::abandon();
        }
    }
}
