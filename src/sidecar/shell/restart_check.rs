//! The restart check: finds out whether the supervisor would start the next run, and whether the program at our path
//! can start. What cannot be found out in time is not reported.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::machine::{Event, RestartMethod};
use crate::sidecar::clock::Clock;
use crate::sidecar::supervisor::look_ahead::{LookAhead, NextRunFound};
use crate::sidecar::supervisor::pm2::Pm2;
use crate::sidecar::supervisor::preflight::Preflight;

/// Runs restart checks in the background and reports their results.
pub(crate) struct NextRunChecks {
    look: Arc<dyn LookAhead>,
    answers: mpsc::Sender<Event>,
    running: Option<AbortHandle>,
}

impl NextRunChecks {
    /// Creates a runner that reports to `answers` what `look` finds.
    pub(crate) fn new(look: Arc<dyn LookAhead>, answers: mpsc::Sender<Event>) -> Self {
        Self { look, answers, running: None }
    }

    /// Starts a check in the background; an earlier one is aborted.
    pub(crate) fn check(&mut self, number: u32, leaving: bool) {
        if let Some(earlier) = self.running.take() {
            earlier.abort();
        }
        let (look, answers) = (self.look.clone(), self.answers.clone());
        let running = tokio::spawn(async move {
            if let Some(NextRunFound { restart_method, cannot_start }) = look.look(leaving).await {
                // Fails only once the event loop has ended.
                let _ = answers.send(Event::NextRunChecked { number, restart_method, cannot_start }).await;
            }
        });
        self.running = Some(running.abort_handle());
    }

    /// Ends a check that is under way; its answer could not be received any more.
    pub(crate) fn close(&self) {
        self.look.close();
    }
}

/// The real restart check: asks pm2 and, with `preflight`, tries out the program at our path.
pub(crate) struct Pm2AndProgram {
    pub(crate) pm2: Arc<Pm2>,
    pub(crate) preflight: Option<Preflight>,
    pub(crate) clock: Clock,
}

impl LookAhead for Pm2AndProgram {
    fn look(&self, leaving: bool) -> BoxFuture<'_, Option<NextRunFound>> {
        Box::pin(async move {
            let can_start = async {
                match &self.preflight {
                    Some(preflight) => preflight.look(leaving).await,
                    None => Ok(()),
                }
            };
            let restart_method = async { Ok(self.pm2.query_restart_method(self.clock).await) };
            // No supervisor could start such a program, so pm2's answer is not awaited then.
            match tokio::try_join!(can_start, restart_method) {
                Ok(((), restart_method)) => Some(NextRunFound { restart_method: restart_method?, cannot_start: None }),
                Err(why) => Some(NextRunFound { restart_method: RestartMethod::InPlace, cannot_start: Some(why) }),
            }
        })
    }

    /// Ends a probe that is under way.
    fn close(&self) {
        if let Some(preflight) = &self.preflight {
            preflight.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_supervisor_nobody_starts_the_next_run() {
        let (answers, mut heard) = mpsc::channel(1);
        let pm2 = Arc::new(Pm2::from_env(|_| None));
        let look = Arc::new(Pm2AndProgram { pm2, preflight: None, clock: Clock::start(|| 0) });
        NextRunChecks::new(look, answers).check(7, false);
        let found = Event::NextRunChecked { number: 7, restart_method: RestartMethod::InPlace, cannot_start: None };
        assert_eq!(heard.recv().await, Some(found));
    }
}
