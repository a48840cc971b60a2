//! What we know of our supervisor, pm2, and of ourselves below it. It asks and translates; it never restarts, stops or
//! starts anything, and never makes pm2 start a daemon.
//!
//! What the design asked of the pm2 module: the process name ([`Pm2::process_name`]), its status ([`Pm2::status`]), its
//! figures ([`Pm2::info`]). The fourth, a graceful restart, is an event for the machine and is offered by the shell.
//!
//! Facts about pm2 here are measured on 7.0.4 and read in its source (`God.js`, `God/ForkMode.js`, `API/schema.json`).

mod child_env;
mod error;
mod identity;
mod own_process;
mod process_list;
mod query;
mod restart_strategy;
mod rpc;
mod settings;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use child_env::{injected, scrub_child_env};
pub use error::Pm2Error;
pub use identity::{NameSource, ProcessIdentity};
pub use own_process::{OwnProcess, machine_boot_id, machine_booted_at_ms};
pub use process_list::{HAND_OVER, Launch, ListError, Pm2Process, ProcessStatus, find_us, parse_dump, parse_jlist};
pub use query::{QUERY_TIMEOUT, find_pm2, query, query_jlist};
pub use restart_strategy::{RestartStrategy, WhyExec, strategy_for};
pub use rpc::read_reply;
pub use settings::SupervisorFacts;

use crate::machine;
use crate::protocol::Pm2Info;
use crate::sidecar::clock::Clock;

/// How long pm2 may take to tell, in all, before a restart goes on without its word.
const WHO_STARTS_TIMEOUT: Duration = Duration::from_secs(4);

/// Shown where pm2 cannot be asked.
pub const UNKNOWN: &str = "unknown";

/// Our supervisor, as far as it can be known.
#[derive(Debug)]
pub struct Pm2 {
    identity: ProcessIdentity,
    /// What pm2 calls us, whatever `PM2_PROCESS_NAME` says: they differ once it was told another name.
    listed_as: Option<String>,
    facts: SupervisorFacts,
    program: Option<PathBuf>,
    home: Option<PathBuf>,
    /// A name that only `jlist` knew.
    discovered: OnceLock<String>,
    /// What pm2 said of us last.
    last_said: Mutex<Option<Pm2Process>>,
    /// Its channel to us has ended.
    gone: AtomicBool,
    /// Its last list had no process with our id.
    unlisted: AtomicBool,
    /// It could not be asked the last time.
    silent: AtomicBool,
}

impl Pm2 {
    /// Reads the environment; asks no one.
    pub fn from_env(env: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |key: &str| env(key).and_then(|value| value.into_string().ok());
        let identity = ProcessIdentity::from_env(text);
        Self {
            listed_as: identity.pm_id.and_then(|_| text("name")).filter(|name| !name.is_empty()),
            identity,
            facts: SupervisorFacts::from_env(text),
            program: find_pm2(&env),
            home: query::pm2_home(&env),
            discovered: OnceLock::new(),
            last_said: Mutex::new(None),
            gone: AtomicBool::new(false),
            unlisted: AtomicBool::new(false),
            silent: AtomicBool::new(false),
        }
    }

    /// This process's own environment.
    pub fn of_this_process() -> Self {
        Self::from_env(|key| std::env::var_os(key))
    }

    /// Who the environment says we are.
    pub fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }

    /// How pm2 was told to treat us, as far as the environment shows. Lists do not show there: see
    /// [`SupervisorFacts::refined_by`].
    pub fn facts(&self) -> &SupervisorFacts {
        &self.facts
    }

    /// How pm2 would treat us now: the environment, corrected by what pm2 said last and by who our parent is by now. A pm2
    /// that has died leaves its children to another parent, and nobody answers their exits.
    pub fn current_facts(&self) -> SupervisorFacts {
        let said = self.last_said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut facts = self.facts.clone().still_below_our_parent();
        facts.pm2_gone |= self.gone.load(Ordering::Relaxed);
        facts.unlisted = facts.under_pm2 && self.unlisted.load(Ordering::Relaxed);
        facts.silent = facts.under_pm2 && self.silent.load(Ordering::Relaxed);
        said.as_ref().map_or(facts.clone(), |us| facts.refined_by(us))
    }

    /// Who would start the next run after an exit now, by pm2's own list: over its socket in some milliseconds, else by
    /// `pm2 jlist -s`. Not listed, or not to be asked, means nobody. `None`: pm2 lives and did not answer within 4 s.
    pub(crate) async fn who_starts_the_next_run(&self, clock: Clock) -> Option<machine::RestartMethod> {
        if self.current_facts().could_be_restarted_by_pm2() {
            // Less than what waits for the answer: a check, or the drain by default.
            let list = tokio::time::timeout(WHO_STARTS_TIMEOUT, self.list()).await;
            match list.unwrap_or(Err(Pm2Error::TimedOut(WHO_STARTS_TIMEOUT))) {
                Ok(list) => drop(self.find_in(&list)),
                Err(error @ Pm2Error::TimedOut(_)) => {
                    tracing::warn!(%error, "whether pm2 would start the next run is not known");
                    return None;
                }
                Err(error) => tracing::warn!(%error, "pm2 cannot be asked whether it would start the next run"),
            }
        }
        let (restart_method, why_not) = self.restart_method_at(clock.now().as_millis());
        if let Some(why) = why_not {
            tracing::info!(%why, "pm2 would not start the next run: a restart replaces this process in place");
        }
        Some(restart_method)
    }

    /// Who would start the next run at `now_ms` (since the epoch), as far as it is known, and why nobody would.
    pub(crate) fn restart_method_at(&self, now_ms: u64) -> (machine::RestartMethod, Option<WhyExec>) {
        match strategy_for(&self.current_facts(), now_ms) {
            RestartStrategy::SupervisorRestarts => (machine::RestartMethod::Supervisor, None),
            RestartStrategy::ExecInPlace(why) => (machine::RestartMethod::InPlace, Some(why)),
        }
    }

    /// pm2's list, and whether it can be asked at all.
    async fn list(&self) -> Result<Vec<Pm2Process>, Pm2Error> {
        let home = self.home.as_deref().ok_or(Pm2Error::NoDaemon)?;
        let list = query(self.program.as_deref(), home, QUERY_TIMEOUT).await;
        if !matches!(list, Err(Pm2Error::TimedOut(_))) {
            self.silent.store(list.is_err(), Ordering::Relaxed);
        }
        list
    }

    /// Its channel to us has ended, and only the end of the daemon does that.
    pub(crate) fn note_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Our entry, and what follows from it: how pm2 treats us, or that it does not know this process. An entry of our
    /// number with another process in it is not about us.
    fn find_in<'a>(&self, list: &'a [Pm2Process]) -> Option<&'a Pm2Process> {
        let us = find_us(list, &self.identity);
        let ours = us.filter(|us| us.pid == Some(self.identity.pid));
        if let Some(ours) = ours {
            *self.last_said.lock().unwrap_or_else(PoisonError::into_inner) = Some(ours.clone());
        }
        // Below a wrapper, or of a pm2 that has died, it is no news.
        let is_news = !self.unlisted.swap(ours.is_none(), Ordering::Relaxed) && ours.is_none();
        let facts = self.current_facts();
        if is_news && facts.under_pm2 && !facts.pm2_gone && facts.parent_is_pm2 != Some(false) {
            tracing::warn!(
                pid = self.identity.pid,
                "pm2 does not list this process: it can neither stop nor show it, and would not start it again; a \
                 commanded restart replaces it in place. To end it: kill its pid"
            );
        }
        us
    }

    /// pm2's name for us, as far as it is known by now. [`Pm2::info`] and [`Pm2::status`] may discover it.
    pub fn process_name(&self) -> Option<&str> {
        self.identity.name.as_deref().or_else(|| self.discovered.get().map(String::as_str))
    }

    /// The name by which an operator finds us in pm2's list.
    pub fn listed_as(&self) -> Option<&str> {
        self.listed_as.as_deref().or_else(|| self.process_name())
    }

    /// Our entry in pm2's list: over pm2's socket in some milliseconds, else by `pm2 jlist -s` in 0.2 to 0.5 s (given up
    /// after 5 s).
    ///
    /// # Errors
    /// [`Pm2Error`] says why there is none; nothing depends on it.
    pub async fn ask(&self) -> Result<Pm2Process, Pm2Error> {
        let list = self.list().await?;
        let us = self.find_in(&list).ok_or(Pm2Error::NotListed)?.clone();
        if self.process_name().is_none()
            && let Some(name) = &us.name
        {
            // Losing the race means that someone else stored the same answer.
            let _ = self.discovered.set(name.clone());
        }
        Ok(us)
    }

    /// pm2's folder, where the environment tells.
    pub fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// The `pm2` program, where one is found.
    pub fn program(&self) -> Option<&Path> {
        self.program.as_deref()
    }

    /// What pm2 says our status is.
    ///
    /// # Errors
    /// [`Pm2Error`] where pm2 cannot be asked; show [`UNKNOWN`] then.
    pub async fn status(&self) -> Result<ProcessStatus, Pm2Error> {
        Ok(self.ask().await?.status)
    }

    /// `identify.pm2_info` as pm2 sees it; where pm2 cannot be asked, what we know ourselves and the status `unknown`.
    pub async fn info(&self) -> Pm2Info {
        match self.ask().await {
            Ok(us) => self.info_from(&us),
            Err(_) => Pm2Info { status: Some(UNKNOWN.to_owned()), ..self.immediate_info() },
        }
    }

    /// `identify.pm2_info` from one entry of pm2's list, completed by what we know ourselves: pm2 shows zeros until it
    /// has measured.
    pub fn info_from(&self, us: &Pm2Process) -> Pm2Info {
        let own = self.immediate_info();
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let uptime = us.started_at_ms.and_then(|at| u64::try_from(now_ms).ok()?.checked_sub(at));
        Pm2Info {
            name: us.name.clone().or(own.name),
            status: Some(us.status.as_str().to_owned()),
            uptime_ms: uptime.or(own.uptime_ms),
            restart_count: us.restart_time.or(own.restart_count),
            memory_bytes: us.memory_bytes.filter(|bytes| *bytes > 0).or(own.memory_bytes),
        }
    }

    /// `identify.pm2_info` without asking anyone: the environment and `/proc`, well under a millisecond. Under pm2 the
    /// status is `online`, which is what pm2 says of a process that it has started and that still runs; where pm2 waits
    /// for `ready`, it is `launching`.
    pub fn immediate_info(&self) -> Pm2Info {
        let own = OwnProcess::read();
        let status = match (self.identity.pm_id, self.facts.wait_ready) {
            (None, _) => UNKNOWN,
            (Some(_), true) => "launching",
            (Some(_), false) => "online",
        };
        Pm2Info {
            name: self.process_name().map(str::to_owned),
            status: Some(status.to_owned()),
            uptime_ms: own.uptime_ms,
            restart_count: self.facts.restart_time,
            memory_bytes: own.memory_bytes,
        }
    }
}
