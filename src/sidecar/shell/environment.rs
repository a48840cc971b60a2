//! What the daemon stands on besides its configuration: dice, the wall clock, threads for blocking work, the way to the
//! hub, and the agent's side. The real one is [`Outside::real`]; a simulation gives another. It decides nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::machine::Comeback;
use crate::sidecar::agent::results::{ResultsConfig, ResultsEvent, ResultsWatcher};
use crate::sidecar::agent::wake::{RunnerConfig, WakeEvent, WakeOrder, WakeRunner};

/// A future behind a pointer.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A byte stream to the hub.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Opens a byte stream to the hub in place of TCP.
pub type Connector = Arc<dyn Fn() -> Boxed<'static, io::Result<Box<dyn Stream>>> + Send + Sync>;

/// Fills a buffer with random bytes; false when there are none.
pub type Dice = Arc<dyn Fn(&mut [u8]) -> bool + Send + Sync>;

/// What runs wake commands; see [`WakeRunner`].
pub trait Wakes: Send + Sync {
    /// Starts the command; it ends in exactly one event.
    fn start(&self, order: WakeOrder);
    /// Reports an outcome for which nothing had to be run.
    fn answer(&self, event: WakeEvent);
    /// Where tasks' files of passage are kept.
    fn scratch_dir(&self) -> &Path;
    /// Removes what was handed over for this task in files.
    fn clean_up(&self, task_id: &str);
}

/// What finds the agent's files; see [`ResultsWatcher`].
pub trait Results: Send + Sync {
    /// Watches exactly these tasks from now on.
    fn watch(&self, tasks: Vec<String>);
    /// Looks now, and reports what is there, then [`ResultsEvent::Looked`] with this number.
    fn look(&self, number: u32);
    /// Removes a task's files; returns what could not be removed and why.
    fn clean_up(&self, task_id: &str) -> Vec<(PathBuf, io::Error)>;
    /// Removes a task's sign alone; returns whether there was one.
    ///
    /// # Errors
    /// It cannot be removed.
    fn drop_sign(&self, task_id: &str) -> Result<bool, (PathBuf, io::Error)>;
}

impl Wakes for WakeRunner {
    fn start(&self, order: WakeOrder) {
        Self::start(self, order);
    }

    fn answer(&self, event: WakeEvent) {
        Self::answer(self, event);
    }

    fn scratch_dir(&self) -> &Path {
        Self::scratch_dir(self)
    }

    fn clean_up(&self, task_id: &str) {
        Self::clean_up(self, task_id);
    }
}

impl Results for ResultsWatcher {
    fn watch(&self, tasks: Vec<String>) {
        Self::watch(self, tasks);
    }

    fn look(&self, number: u32) {
        Self::look(self, number);
    }

    fn clean_up(&self, task_id: &str) -> Vec<(PathBuf, io::Error)> {
        Self::clean_up(self, task_id)
    }

    fn drop_sign(&self, task_id: &str) -> Result<bool, (PathBuf, io::Error)> {
        Self::drop_sign(self, task_id)
    }
}

/// What was found of the run after this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who would start it.
    pub comeback: Comeback,
    /// Why its program cannot start, where it cannot.
    pub no_return: Option<String>,
}

/// Finds out what would follow this process.
pub trait LookAhead: Send + Sync {
    /// What is found; `None` where nothing could be found out in time. `leaving`: only another program than the one that runs
    /// is tried out.
    fn look(&self, leaving: bool) -> Boxed<'_, Option<Found>>;
    /// Nothing is looked for any more.
    fn close(&self);
}

/// Makes the agent's side, inside the runtime, when the sidecar starts.
pub trait AgentSide {
    /// What runs wake commands and reports to `events`.
    fn wakes(&self, config: RunnerConfig, events: mpsc::Sender<WakeEvent>) -> Arc<dyn Wakes>;
    /// What finds the agent's files and reports to `events`.
    fn results(&self, config: ResultsConfig, events: mpsc::Sender<ResultsEvent>) -> Box<dyn Results>;
}

struct RealAgent;

impl AgentSide for RealAgent {
    fn wakes(&self, config: RunnerConfig, events: mpsc::Sender<WakeEvent>) -> Arc<dyn Wakes> {
        Arc::new(WakeRunner::new(config, events))
    }

    fn results(&self, config: ResultsConfig, events: mpsc::Sender<ResultsEvent>) -> Box<dyn Results> {
        Box::new(ResultsWatcher::new(config, events))
    }
}

/// What the daemon stands on.
pub struct Outside {
    /// Random bytes.
    pub dice: Dice,
    /// The wall clock, asked once; ms since the epoch.
    pub now_ms: fn() -> u64,
    /// Whether the journal is written on a thread for blocking work, so that a slow disk does not stop the link.
    pub threads: bool,
    /// The way to the hub, where it is not TCP.
    pub connector: Option<Connector>,
    /// Whether there is a machine around it: signals, pm2's channel, the operators' socket, commands run as tasks.
    pub on_a_machine: bool,
    /// The agent's side.
    pub agent: Box<dyn AgentSide>,
    /// What finds out what would follow, where it is not pm2 and the program at our path.
    pub look_ahead: Option<Arc<dyn LookAhead>>,
}

impl Outside {
    /// The world.
    pub fn real() -> Self {
        Self {
            dice: Arc::new(|bytes| getrandom::fill(bytes).is_ok()),
            now_ms: || {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
            },
            threads: true,
            connector: None,
            on_a_machine: true,
            agent: Box::new(RealAgent),
            look_ahead: None,
        }
    }
}
