//! The supervisor and the program at the sidecar's path, as a seed has them: the next run is started or not, can start or
//! not, and is found out of at once, late, or never.

use futures_util::future::BoxFuture;
use std::time::Duration;

use agentcom::machine::RestartMethod;
use agentcom::sidecar::supervisor::look_ahead::{LookAhead, NextRunFound};
use tokio::time::sleep;

use crate::shared::{Fault, Shared, World, lock};

pub struct Supervisor(pub World);

impl Shared {
    /// After how many ms what is found.
    fn next_run(&mut self) -> (u64, Option<NextRunFound>) {
        let mut found = Some(NextRunFound { restart_method: RestartMethod::Supervisor, cannot_start: None });
        let mut ms = self.rng.between(1, 40);
        if !self.calm {
            match self.rng.between(0, 12) {
                0 | 1 => {
                    self.counts.fault(Fault::LateNextRun);
                    ms = self.rng.between(100, 7_000);
                }
                2 => {
                    self.counts.fault(Fault::UnknownNextRun);
                    found = None;
                }
                3 | 4 => {
                    self.counts.fault(Fault::BadNextRun);
                    found = Some(NextRunFound { restart_method: RestartMethod::InPlace, cannot_start: None });
                }
                5 => {
                    self.counts.fault(Fault::BadNextRun);
                    let cannot_start = Some("it is no program".to_owned());
                    found = Some(NextRunFound { restart_method: RestartMethod::Supervisor, cannot_start });
                }
                _ => {}
            }
        }
        self.note(&format!("what follows is found out after {ms} ms: {found:?}"));
        (ms, found)
    }
}

impl LookAhead for Supervisor {
    fn look(&self, _leaving: bool) -> BoxFuture<'_, Option<NextRunFound>> {
        let (ms, found) = lock(&self.0).next_run();
        Box::pin(async move {
            sleep(Duration::from_millis(ms)).await;
            found
        })
    }

    fn close(&self) {}
}
