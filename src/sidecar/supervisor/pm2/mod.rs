//! What is known about the supervisor pm2, and about this process under it. This module queries and translates; it
//! never restarts, stops or starts anything, and never makes pm2 start a daemon.
//!
//! The design requires the process name ([`Pm2::process_name`]), its status ([`Pm2::status`]) and its figures
//! ([`Pm2::info`]) of this module. A graceful restart, its fourth requirement, is an event for the machine and is
//! offered by the shell.
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
pub(crate) mod settings;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

pub use child_env::{injected, scrub_child_env};
pub use error::Pm2Error;
pub use identity::{NameSource, ProcessIdentity};
pub use own_process::{OwnProcess, machine_boot_id, machine_booted_at_ms, machine_uptime_ms};
pub use process_list::{Launch, ListError, Pm2Process, ProcessStatus, SHELL_EXEC, find_us, parse_dump, parse_jlist};
pub use query::{QUERY_TIMEOUT, find_pm2, query, query_jlist};
pub use restart_strategy::{RestartStrategy, WhyExec, strategy_for};
pub use rpc::read_reply;
pub use settings::SupervisorSettings;

use crate::common::wall_clock::now_ms;
use crate::machine;
use crate::protocol::Pm2Info;
use crate::sidecar::clock::Clock;

/// How long a query to pm2 may take in all before a restart proceeds without an answer.
const RESTART_METHOD_TIMEOUT: Duration = Duration::from_secs(4);

/// The status when pm2 cannot be asked.
pub const UNKNOWN: &str = "unknown";

/// The supervisor pm2, as far as it is known.
#[derive(Debug)]
pub struct Pm2 {
    identity: ProcessIdentity,
    /// pm2's name for this process, whatever `PM2_PROCESS_NAME` is: they differ if pm2 was given another name.
    listed_as: Option<String>,
    settings: SupervisorSettings,
    program: Option<PathBuf>,
    home: Option<PathBuf>,
    /// A name that only `jlist` contains.
    discovered: OnceLock<String>,
    /// This process's entry in pm2's last list.
    last_entry: Mutex<Option<Pm2Process>>,
    /// Whether pm2's channel to this process has ended.
    gone: AtomicBool,
    /// Whether pm2's last list had no process with this id.
    unlisted: AtomicBool,
    /// Whether the last query to pm2 failed.
    silent: AtomicBool,
}

impl Pm2 {
    /// Reads the environment; does not query pm2.
    pub fn from_env(env: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |key: &str| env(key).and_then(|value| value.into_string().ok());
        let identity = ProcessIdentity::from_env(text);
        Self {
            listed_as: identity.pm_id.and_then(|_| text("name")).filter(|name| !name.is_empty()),
            identity,
            settings: SupervisorSettings::from_env(text),
            program: find_pm2(&env),
            home: query::pm2_home(&env),
            discovered: OnceLock::new(),
            last_entry: Mutex::new(None),
            gone: AtomicBool::new(false),
            unlisted: AtomicBool::new(false),
            silent: AtomicBool::new(false),
        }
    }

    /// Reads this process's own environment.
    pub fn of_this_process() -> Self {
        Self::from_env(|key| std::env::var_os(key))
    }

    /// Returns this process's identity, from the environment.
    pub fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }

    /// Returns pm2's settings for this process, as far as the environment shows. Lists are not in the environment: see
    /// [`SupervisorSettings::refined_by`].
    pub fn settings(&self) -> &SupervisorSettings {
        &self.settings
    }

    /// Returns pm2's present settings: the environment, corrected by pm2's last list and by the present parent process.
    /// When pm2 dies, its children get another parent, and no process reacts to their exits.
    pub fn current_settings(&self) -> SupervisorSettings {
        let last_entry = self.last_entry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut settings = self.settings.clone().with_current_parent();
        settings.pm2_gone |= self.gone.load(Ordering::Relaxed);
        settings.unlisted = settings.under_pm2 && self.unlisted.load(Ordering::Relaxed);
        settings.silent = settings.under_pm2 && self.silent.load(Ordering::Relaxed);
        last_entry.as_ref().map_or(settings.clone(), |us| settings.refined_by(us))
    }

    /// Returns how the next run would be started after an exit now, according to pm2's own list: over its socket in
    /// some milliseconds, else by `pm2 jlist -s`. If this process is not listed or the query fails, no supervisor
    /// starts the next run. Returns `None` if pm2 lives and did not answer within 4 s.
    pub(crate) async fn query_restart_method(&self, clock: Clock) -> Option<machine::RestartMethod> {
        if self.current_settings().could_be_restarted_by_pm2() {
            // Shorter than the callers' limits: a check, or the drain by default.
            let list = tokio::time::timeout(RESTART_METHOD_TIMEOUT, self.list()).await;
            match list.unwrap_or(Err(Pm2Error::TimedOut(RESTART_METHOD_TIMEOUT))) {
                Ok(list) => drop(self.record_entry(&list)),
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

    /// Returns how the next run would be started at `now_ms` (since the epoch), as far as it is known, and why no
    /// supervisor would start it.
    pub(crate) fn restart_method_at(&self, now_ms: u64) -> (machine::RestartMethod, Option<WhyExec>) {
        match strategy_for(&self.current_settings(), now_ms) {
            RestartStrategy::SupervisorRestarts => (machine::RestartMethod::Supervisor, None),
            RestartStrategy::ExecInPlace(why) => (machine::RestartMethod::InPlace, Some(why)),
        }
    }

    /// Returns pm2's list, and records whether pm2 can be queried.
    async fn list(&self) -> Result<Vec<Pm2Process>, Pm2Error> {
        let home = self.home.as_deref().ok_or(Pm2Error::NoDaemon)?;
        let list = query(self.program.as_deref(), home, QUERY_TIMEOUT).await;
        if !matches!(list, Err(Pm2Error::TimedOut(_))) {
            self.silent.store(list.is_err(), Ordering::Relaxed);
        }
        list
    }

    /// Records that pm2's channel to this process has ended, which only happens when the daemon ends.
    pub(crate) fn mark_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Returns this process's entry, and records it, or that pm2 does not list this process. An entry with this id but
    /// another pid is not about this process.
    fn record_entry<'a>(&self, list: &'a [Pm2Process]) -> Option<&'a Pm2Process> {
        let us = find_us(list, &self.identity);
        let ours = us.filter(|us| us.pid == Some(self.identity.pid));
        if let Some(ours) = ours {
            *self.last_entry.lock().unwrap_or_else(PoisonError::into_inner) = Some(ours.clone());
        }
        // Under a wrapper, or if pm2 has died, it is expected.
        let is_news = !self.unlisted.swap(ours.is_none(), Ordering::Relaxed) && ours.is_none();
        let settings = self.current_settings();
        if is_news && settings.under_pm2 && !settings.pm2_gone && settings.parent_is_pm2 != Some(false) {
            tracing::warn!(
                pid = self.identity.pid,
                "pm2 does not list this process: it can neither stop nor show it, and would not start it again; a \
                 commanded restart replaces it in place. To end it: kill its pid"
            );
        }
        us
    }

    /// Returns pm2's name for this process, as far as it is known. [`Pm2::info`] and [`Pm2::status`] may discover it.
    pub fn process_name(&self) -> Option<&str> {
        self.identity.name.as_deref().or_else(|| self.discovered.get().map(String::as_str))
    }

    /// Returns the name of this process in pm2's list, for operators.
    pub fn listed_as(&self) -> Option<&str> {
        self.listed_as.as_deref().or_else(|| self.process_name())
    }

    /// Queries this process's entry in pm2's list: over pm2's socket in some milliseconds, else by `pm2 jlist -s` in
    /// 0.2 to 0.5 s (given up after 5 s).
    ///
    /// # Errors
    /// [`Pm2Error`] says why there is none; nothing depends on it.
    pub async fn ask(&self) -> Result<Pm2Process, Pm2Error> {
        let list = self.list().await?;
        let us = self.record_entry(&list).ok_or(Pm2Error::NotListed)?.clone();
        if self.process_name().is_none()
            && let Some(name) = &us.name
        {
            // Losing the race means that another query stored the same name.
            let _ = self.discovered.set(name.clone());
        }
        Ok(us)
    }

    /// Returns pm2's folder, if the environment names it.
    pub fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// Returns the path of the `pm2` program, if one is found.
    pub fn program(&self) -> Option<&Path> {
        self.program.as_deref()
    }

    /// Queries this process's status in pm2.
    ///
    /// # Errors
    /// [`Pm2Error`] if pm2 cannot be queried; show [`UNKNOWN`] then.
    pub async fn status(&self) -> Result<ProcessStatus, Pm2Error> {
        Ok(self.ask().await?.status)
    }

    /// Returns `identify.pm2_info` as pm2 reports it; if pm2 cannot be queried, this process's own figures and the
    /// status `unknown`.
    pub async fn info(&self) -> Pm2Info {
        match self.ask().await {
            Ok(us) => self.info_from(&us),
            Err(_) => Pm2Info { status: Some(UNKNOWN.to_owned()), ..self.immediate_info() },
        }
    }

    /// Returns `identify.pm2_info` from one entry of pm2's list, completed by this process's own figures: pm2 shows
    /// zeros until it has measured.
    pub fn info_from(&self, us: &Pm2Process) -> Pm2Info {
        let own = self.immediate_info();
        let uptime = us.started_at_ms.and_then(|at| now_ms().checked_sub(at));
        Pm2Info {
            name: us.name.clone().or(own.name),
            status: Some(us.status.as_str().to_owned()),
            uptime_ms: uptime.or(own.uptime_ms),
            restart_count: us.restart_time.or(own.restart_count),
            memory_bytes: us.memory_bytes.filter(|bytes| *bytes > 0).or(own.memory_bytes),
        }
    }

    /// Returns `identify.pm2_info` without a query: from the environment and `/proc`, in well under a millisecond.
    /// Under pm2 the status is `online`, which is what pm2 shows for a process that it has started and that still runs;
    /// if pm2 waits for `ready`, it is `launching`.
    pub fn immediate_info(&self) -> Pm2Info {
        let own = OwnProcess::read();
        let status = match (self.identity.pm_id, self.settings.wait_ready) {
            (None, _) => UNKNOWN,
            (Some(_), true) => "launching",
            (Some(_), false) => "online",
        };
        Pm2Info {
            name: self.process_name().map(str::to_owned),
            status: Some(status.to_owned()),
            uptime_ms: own.uptime_ms,
            restart_count: self.settings.restart_time,
            memory_bytes: own.memory_bytes,
        }
    }
}
