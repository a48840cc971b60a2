//! Where a restart waits before the machine hears of it: until it is known how pm2 would treat an exit, and that the
//! next run can start. It takes milliseconds; the loop goes on meanwhile, but for what the hub says next. It decides
//! nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::operator::Asked;
use super::pm2::Pm2;
use super::preflight::Preflight;

/// How long pm2 may take to say how it would treat an exit; it takes 1 to 5 ms.
const PM2_ANSWER: Duration = Duration::from_millis(250);

/// Holds restarts.
#[derive(Debug)]
pub(super) struct Gate {
    pm2: Arc<Pm2>,
    preflight: Option<Preflight>,
    looking: Option<JoinHandle<Result<(), String>>>,
    waiting: VecDeque<Asked>,
}

/// What the look has found, and who waited for it.
#[derive(Debug)]
pub(super) struct Opened {
    /// Why the next run could not start.
    pub(super) no_return: Option<String>,
    /// The restarts that waited, in their order.
    pub(super) restarts: VecDeque<Asked>,
}

impl Gate {
    pub(super) fn new(pm2: Arc<Pm2>) -> Self {
        Self { pm2, preflight: None, looking: None, waiting: VecDeque::new() }
    }

    /// From here on the next run is tried out as well.
    pub(super) fn with_preflight(&mut self, preflight: Preflight) {
        self.preflight = Some(preflight);
    }

    /// Holds it until a look has been taken.
    pub(super) fn hold(&mut self, restart: Asked) {
        self.waiting.push_back(restart);
        if self.looking.is_none() {
            let (pm2, preflight) = (self.pm2.clone(), self.preflight.clone());
            self.looking = Some(tokio::spawn(async move {
                // Lists and late changes do not show in the environment.
                pm2.refresh(PM2_ANSWER).await;
                match preflight {
                    Some(preflight) => preflight.look().await,
                    None => Ok(()),
                }
            }));
        }
    }

    /// Whether a restart waits. What the hub says after it must then wait too: an assignment that overtook it would be taken.
    pub(super) fn is_busy(&self) -> bool {
        self.looking.is_some()
    }

    /// Waits for a look that is being taken, else for ever. Dropped in the middle, nothing is lost.
    pub(super) async fn opened(&mut self) -> Opened {
        let looked = match &mut self.looking {
            Some(looking) => looking.await,
            None => std::future::pending().await,
        };
        self.looking = None;
        let no_return = match looked {
            Ok(verdict) => verdict.err(),
            Err(error) => Some(format!("whether the next run can start was not found out: {error}")),
        };
        Opened { no_return, restarts: std::mem::take(&mut self.waiting) }
    }

    /// In the last moment: whether another program has come to stand at our path that cannot start.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn last_look(&self) -> Result<(), String> {
        match &self.preflight {
            Some(preflight) => preflight.last_look().await,
            None => Ok(()),
        }
    }

    /// Lets go of whoever waits, and of what they wait for: nobody will answer.
    pub(super) fn close(&mut self) {
        self.waiting.clear();
        if let Some(preflight) = &self.preflight {
            preflight.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Event, RestartOrder};

    fn restart(reason: &str) -> Asked {
        let reason = reason.to_owned();
        Event::RestartRequested(RestartOrder { reason, command_id: None, deadline_ms: None, force: false, by: None })
            .into()
    }

    #[tokio::test]
    async fn a_restart_that_comes_during_the_look_waits_for_it_and_keeps_its_place() {
        let mut gate = Gate::new(Arc::new(Pm2::from_env(|_| None)));
        gate.hold(restart("one"));
        gate.hold(restart("two"));
        assert!(gate.is_busy());
        let Opened { no_return, restarts } = gate.opened().await;
        assert_eq!((no_return, gate.is_busy()), (None, false));
        let expected = ["one", "two"].map(|reason| restart(reason).event);
        assert_eq!(restarts.into_iter().map(|asked| asked.event).collect::<Vec<_>>(), expected);
    }
}
