//! Some agents that are started, watched and ended together, and the books of their tasks.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Outcome;
use crate::agent::Agent;

/// The longest wait for anything that a fleet does.
const PATIENCE: Duration = Duration::from_secs(180);

/// Locks, also after a panic of another task: the program fails anyway then.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What happened to each task.
#[derive(Default)]
pub struct Books {
    /// How often each task was assigned, and how often its verdict was acknowledged as stored, with the time of the first.
    tasks: HashMap<String, (usize, usize, Option<Instant>)>,
    /// The number of tasks with a verdict.
    pub done: usize,
}

impl Books {
    /// Records an assignment.
    pub fn assigned(&mut self, task_id: &str) {
        self.tasks.entry(task_id.to_owned()).or_default().0 += 1;
    }

    /// Records that a verdict was acknowledged.
    pub fn completed(&mut self, task_id: &str) {
        let (_, completed, at) = self.tasks.entry(task_id.to_owned()).or_default();
        *completed += 1;
        at.get_or_insert_with(Instant::now);
        self.done += usize::from(*completed == 1);
    }

    /// Returns when the task was done.
    ///
    /// # Errors
    /// Says what is wrong unless it was assigned once and completed once.
    pub fn done_once_at(&self, task_id: &str) -> Outcome<Instant> {
        match self.tasks.get(task_id) {
            Some((1, 1, Some(at))) => Ok(*at),
            Some((assigned, completed, _)) => {
                Err(format!("{task_id} was assigned {assigned} times and completed {completed} times"))
            }
            None => Err(format!("{task_id} never reached an agent")),
        }
    }
}

/// The state that the agents of a fleet share.
pub struct Fleet {
    /// Where the hub listens.
    pub address: SocketAddr,
    /// Cancelled when all are to leave.
    pub leave: CancellationToken,
    /// Whether an agent restarts when it is commanded to; else it refuses.
    pub restarts_on_command: AtomicBool,
    /// Notified whenever one of the counts has changed.
    pub changed: Notify,
    joins: Mutex<Vec<Duration>>,
    joined: AtomicUsize,
    redials: AtomicUsize,
    failure: Mutex<Option<String>>,
    books: Mutex<Books>,
    tasks: TaskTracker,
}

impl Fleet {
    /// Creates a fleet without agents.
    pub fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            leave: CancellationToken::new(),
            restarts_on_command: AtomicBool::new(false),
            changed: Notify::new(),
            joins: Mutex::default(),
            joined: AtomicUsize::new(0),
            redials: AtomicUsize::new(0),
            failure: Mutex::default(),
            books: Mutex::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Lets the agents dial, all in one moment or `at_a_time`, and waits until all are identified. Returns how long that
    /// took.
    pub async fn join(self: &Arc<Self>, agents: &[Arc<Agent>], at_a_time: Option<usize>) -> Outcome<Duration> {
        let before = self.joined();
        let began = Instant::now();
        for (started, agent) in agents.iter().enumerate() {
            if let Some(at_a_time) = at_a_time {
                // Each that has joined makes room for one more.
                self.wait("agents to join", || self.joined() - before + at_a_time > started).await?;
            }
            self.tasks.spawn(Arc::clone(agent).live(Arc::clone(self)));
        }
        self.wait("all agents to join", || self.joined() - before >= agents.len()).await?;
        Ok(began.elapsed())
    }

    /// Ends all agents without a closing handshake, as when their machines lose power, and waits for that.
    pub async fn end(&self) -> Outcome<()> {
        self.check()?;
        self.leave.cancel();
        self.tasks.close();
        let ended = timeout(PATIENCE, self.tasks.wait()).await;
        ended.map_err(|_| format!("{} agents did not end within {PATIENCE:?}", self.tasks.len()))?;
        self.check()
    }

    /// Waits until `is` holds, which is looked at whenever a count has changed.
    pub async fn wait(&self, what: &str, is: impl Fn() -> bool) -> Outcome<()> {
        let waiting = async {
            loop {
                self.check()?;
                if is() {
                    return Ok(());
                }
                self.changed.notified().await;
            }
        };
        let late = |_| format!("waited {PATIENCE:?} for {what}: {} joined, {} done", self.joined(), self.books().done);
        timeout(PATIENCE, waiting).await.map_err(late)?
    }

    /// Fails if anything went wrong for an agent.
    pub fn check(&self) -> Outcome<()> {
        lock(&self.failure).clone().map_or(Ok(()), Err)
    }

    /// Returns how many joins there were.
    pub fn joined(&self) -> usize {
        self.joined.load(Ordering::Relaxed)
    }

    /// Returns how long each join took, and forgets them.
    pub fn take_joins(&self) -> Vec<Duration> {
        std::mem::take(&mut lock(&self.joins))
    }

    /// Returns the books of the tasks.
    pub fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }

    /// Records that an agent has joined, and how long after it dialed.
    pub fn joined_after(&self, took: Duration) {
        lock(&self.joins).push(took);
        self.joined.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Records that an agent had to make room for others, and dials again.
    pub fn redialed(&self) {
        self.redials.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many times that happened.
    pub fn redials(&self) -> usize {
        self.redials.load(Ordering::Relaxed)
    }

    /// Records what went wrong; only the first is kept.
    pub fn failed(&self, why: String) {
        lock(&self.failure).get_or_insert(why);
        self.changed.notify_one();
    }
}
