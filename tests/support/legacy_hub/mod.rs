//! A double of the existing AgentCom hub, as strict and as odd as the original: own port, own thread, no features of
//! ours. It is checked against recorded conversations of the real one (`tests/sidecar/legacy_hub_double.rs`); it does not serve
//! the HTTP API, whose calls are methods here. One thing differs: the websocket library answers a close frame with the
//! code it was given, where the original always answers 1000.
//!
//! ```text
//! let hub = LegacyHub::start();                      // or start_with(Options { acceptance_ms: 500, ..Options::default() })
//! let token = hub.register("alice");                 // POST /api/onboard/register
//! hub.url()                                          // ws://127.0.0.1:PORT/ws
//! let task = hub.submit("start=0 run=1");            // POST /api/tasks; submit_task(Task::new(..).only_for("alice"))
//! hub.restart("alice", "why")                        // POST /api/admin/agents/alice/restart; false is 404
//! hub.push_untracked("alice", "text")                // POST /api/admin/push-task (generation 0)
//! hub.cancel(&task); hub.say("alice", json!({..})); hub.say_raw("alice", "garbage"); hub.say_binary("alice", ..)
//! hub.drop_tcp("alice"); hub.close("alice", 1001, ""); hub.freeze("alice"); hub.cut_unnoticed("alice");
//! hub.refuse_connections(true)                       // as if the hub were down, on the same port; false: up again
//! hub.crash()                                        // killed and started again: tasks stay assigned
//! hub.set(|options| options.verdicts = Verdicts::LoseAnswer)
//! hub.task(&task).unwrap().generation; hub.status("alice")
//! hub.wait_said("alice", "task_complete", 1)         // the first such frame; waits with a bound
//! hub.wait("the goodbye", |log| log.iter().find_map(..)); hub.log(); hub.said("alice", "ping")
//! ```

pub mod core;
pub mod limits;
pub mod log;
pub mod options;
mod socket;
pub mod tasks;
pub mod validation;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

pub use self::core::ConnectionId;
pub use self::log::{Entry, What};
pub use self::options::{OnReturn, Options, Refusal, Verdicts};
use self::socket::{Order, Shared};
pub use self::tasks::{Status, Task};
use super::wait;

/// A running double. Dropping it closes every connection and its port.
pub struct LegacyHub {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LegacyHub {
    /// With the existing hub's own figures.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    pub fn start_with(options: Options) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port on the loopback");
        listener.set_nonblocking(true).expect("a nonblocking listener");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Mutex::new(Shared::new(options)));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("legacy-hub".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime for the double").block_on(socket::serve(listener, theirs, stopped));
            })
            .expect("a thread for the double");
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// What `hub_url` in a sidecar's config should say.
    pub fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    /// A token for the agent.
    pub fn register(&self, agent: &str) -> String {
        let token = format!("token-of-{agent}-{}", next_number());
        self.with(|shared| shared.core.register(agent, &token));
        token
    }

    /// A task for any able agent; answers its id.
    pub fn submit(&self, description: &str) -> String {
        self.submit_task(Task::new(&new_task_id(), description))
    }

    pub fn submit_task(&self, task: Task) -> String {
        let id = task.id.clone();
        self.with(|shared| shared.core.submit(task, now_ms()));
        id
    }

    /// An assignment past the queue, generation 0; answers its id.
    pub fn push_untracked(&self, agent: &str, description: &str) -> String {
        let task = Task::new(&new_task_id(), description);
        let id = task.id.clone();
        let pushed = self.with(|shared| shared.core.push_untracked(agent, task, now_ms()));
        assert!(pushed, "nobody to push a task to: {agent} is not registered");
        id
    }

    /// Commands a restart; false when the agent is not connected.
    pub fn restart(&self, agent: &str, reason: &str) -> bool {
        self.with(|shared| shared.core.restart(agent, reason))
    }

    pub fn cancel(&self, task: &str) {
        self.with(|shared| shared.core.cancel(task, now_ms()));
    }

    /// Says any frame on the agent's registered connection.
    pub fn say(&self, agent: &str, frame: Value) {
        self.order(agent, |shared, connection| shared.say(connection, frame));
    }

    /// Says any text, JSON or not.
    pub fn say_raw(&self, agent: &str, text: &str) {
        self.order(agent, |shared, connection| {
            shared.order(connection, Order::Text(text.into()), What::Raw(text.into()))
        });
    }

    pub fn say_binary(&self, agent: &str, bytes: &[u8]) {
        let what = What::Raw(format!("{} binary bytes", bytes.len()));
        self.order(agent, |shared, connection| shared.order(connection, Order::Binary(bytes.to_vec()), what));
    }

    /// Ends the connection by a close frame; the hub knows at once.
    pub fn close(&self, agent: &str, code: u16, reason: &str) {
        self.order(agent, |shared, connection| {
            shared.order(connection, Order::Close(code, reason.into()), What::HubClosed(code, reason.into()));
            shared.core.closed(connection, now_ms());
        });
    }

    /// Ends the connection without a close frame, as a proxy or a cable does; both sides notice.
    pub fn drop_tcp(&self, agent: &str) {
        self.order(agent, |shared, connection| {
            shared.order(connection, Order::Drop, What::HubDropped);
            shared.core.closed(connection, now_ms());
        });
    }

    /// The connection stays up and nothing passes any more, either way; neither side notices.
    pub fn freeze(&self, agent: &str) {
        self.order(agent, |shared, connection| shared.freeze(connection));
    }

    /// The sidecar's connection ends and the hub does not notice: its pushes go to the dead socket, until its own
    /// silence timer finds out.
    pub fn cut_unnoticed(&self, agent: &str) {
        self.order(agent, |shared, connection| {
            shared.freeze(connection);
            shared.order(connection, Order::Drop, What::HubDropped);
        });
    }

    /// True: ends every connection and takes no new ones, as if the hub's process were gone. False: serves again.
    pub fn refuse_connections(&self, refuse: bool) {
        self.with(|shared| {
            shared.refusing = refuse;
            if refuse {
                shared.drop_all();
            }
        });
    }

    /// The hub's process is killed and started again: unlike after a lost link, everybody's task stays assigned.
    pub fn crash(&self) {
        self.with(Shared::crash);
    }

    /// Turns the knobs of a running hub.
    pub fn set(&self, change: impl FnOnce(&mut Options)) {
        self.with(|shared| change(&mut shared.core.options));
    }

    /// The task as the hub has it now.
    pub fn task(&self, id: &str) -> Option<Task> {
        self.with(|shared| shared.core.tasks.get(id).cloned())
    }

    /// Waits until the task stands so.
    pub fn wait_task(&self, id: &str, status: Status) -> Task {
        let probe = || self.task(id).filter(|task| task.status == status);
        wait::until_or(&format!("task {id} to be {status:?}"), wait::BOUND, probe, || {
            format!("{:?}\n{}", self.task(id), self.story())
        })
    }

    /// The status presence shows for the agent.
    pub fn status(&self, agent: &str) -> Option<String> {
        self.with(|shared| shared.core.presence_status(agent))
    }

    /// Whether the hub would hand the agent a task.
    pub fn is_idle(&self, agent: &str) -> bool {
        self.with(|shared| shared.core.is_idle(agent))
    }

    /// Whether a restart command would find the agent.
    pub fn connected(&self, agent: &str) -> bool {
        self.with(|shared| shared.core.registered(agent).is_some())
    }

    pub fn log(&self) -> Vec<Entry> {
        self.with(|shared| shared.log.clone())
    }

    /// The log as text, for the message of a failing test.
    pub fn story(&self) -> String {
        log::story(&self.log())
    }

    /// All frames of that type that the agent has said, with their times.
    pub fn said(&self, agent: &str, kind: &str) -> Vec<(u64, Value)> {
        let theirs = self.log().into_iter().filter(|entry| entry.agent.as_deref() == Some(agent));
        theirs.filter_map(|entry| Some((entry.at_ms, entry.said(kind)?.clone()))).collect()
    }

    /// Waits for the agent's `count`-th frame of that type.
    pub fn wait_said(&self, agent: &str, kind: &str, count: usize) -> Value {
        let what = format!("{agent} to say {kind} ({count}x)");
        let probe = || self.said(agent, kind).into_iter().nth(count - 1);
        wait::until_or(&what, wait::BOUND, probe, || self.story()).1
    }

    /// Waits until `find` finds something in the log.
    pub fn wait<T>(&self, what: &str, mut find: impl FnMut(&[Entry]) -> Option<T>) -> T {
        wait::until_or(what, wait::BOUND, || find(&self.log()), || self.story())
    }

    /// [`LegacyHub::wait`] with a bound of its own.
    pub fn wait_within<T>(&self, what: &str, bound: Duration, mut find: impl FnMut(&[Entry]) -> Option<T>) -> T {
        wait::until_or(what, bound, || find(&self.log()), || self.story())
    }

    fn order(&self, agent: &str, act: impl FnOnce(&mut Shared, ConnectionId)) {
        self.with(|shared| match shared.core.registered(agent) {
            Some(connection) => act(shared, connection),
            None => panic!("{agent} is not connected to the double\n{}", log::story(&shared.log)),
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Shared) -> T) -> T {
        let mut shared = self.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let answer = act(&mut shared);
        shared.flush();
        answer
    }
}

impl Drop for LegacyHub {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn next_number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn new_task_id() -> String {
    format!("task-{:016x}", (u64::from(std::process::id()) << 32) | next_number())
}

/// The wall clock.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
