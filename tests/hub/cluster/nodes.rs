//! Nodes in this process, whose roles the test decides.
#![allow(unreachable_pub, reason = "the parts of one test binary")]
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::fs::File;
use std::sync::mpsc;
use std::time::Instant;

use agentcom::hub::cluster::node::{self, Advertised, Joined};
use agentcom::hub::cluster::{Leader, Role};
use agentcom::hub::options::{Membership, Options, ServeError};
use agentcom::hub::scheduler::policy::Policy;
use agentcom::hub::state::store::{Store, WithoutStore, take_for_database};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::{Hub, PATIENCE, folder, free_address, token, try_request};

/// A node.
pub struct Node {
    /// How it is asked; once it has led, with an admin's token.
    pub hub: Hub,
    pub dir: TempDir,
    /// Stands for the database: where nothing of the node's own folder is.
    _store: TempDir,
    /// Says in the folder that the store is elsewhere, as a node of a database does.
    taken: Option<File>,
    pub cluster: Advertised,
    role: watch::Sender<Role>,
    stop: CancellationToken,
    runtime: Option<Runtime>,
    ended: mpsc::Receiver<Result<(), ServeError>>,
}

/// The options of a node on this folder.
pub fn options(dir: &TempDir) -> Options {
    Options {
        listen: free_address(),
        data_dir: dir.path().to_owned(),
        absent: WithoutStore::MakeFirst,
        policy: Policy::default(),
        registration: None,
        public_metrics: false,
        public_url: None,
        healing: None,
        tls: None,
        #[cfg(feature = "postgres")]
        shared: None,
    }
}

impl Node {
    /// Starts a node that knows of no leader.
    pub fn start() -> Self {
        Self::with(|_, _| {})
    }

    /// The same with other options.
    pub fn with(change: impl FnOnce(&mut Options, &mut Membership)) -> Self {
        let dir = folder();
        let mut options = options(&dir);
        let mut membership = Membership { listen: "127.0.0.1:0".to_owned(), url: None, ca_file: None };
        change(&mut options, &mut membership);
        let address = options.listen.clone();
        let taken = take_for_database(dir.path(), "a test").unwrap();
        let store_dir = folder();
        let store_path = store_dir.path().to_owned();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (role, follows) = watch::channel(Role::Standby(None));
        let ((tell, advertised), (end, ended)) = (mpsc::channel(), mpsc::channel());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        runtime.spawn(async move {
            let join = move |advertised| {
                tell.send(advertised).unwrap();
                let mut role = follows.clone();
                let store = async move {
                    // Where the test has let go of it, the node ends.
                    _ = role.wait_for(|role| matches!(role, Role::Leading { .. })).await;
                    Store::open(&store_path, WithoutStore::MakeFirst).map_err(ServeError::Store)
                };
                Joined { role: follows, store }
            };
            _ = end.send(node::serve(options, membership, join, stopped).await);
        });
        let Ok(cluster) = advertised.recv_timeout(PATIENCE) else {
            panic!("the node did not start: {:?}", ended.try_recv());
        };
        let hub = Hub::at(address, String::new());
        Self { hub, dir, _store: store_dir, taken: Some(taken), cluster, role, stop, runtime: Some(runtime), ended }
    }

    /// Makes it the leader, and waits until it is.
    pub async fn lead(&mut self, epoch: u64) {
        self.role.send_replace(Role::Leading { epoch });
        self.health_until("it leads", |health| health["role"] == "leader" && health["epoch"] == epoch).await;
        self.hub.admin = token(self.dir.path(), "ops", true);
    }

    /// Makes it a standby of this leader.
    pub fn follow(&mut self, leader: &Self, epoch: u64) {
        self.follow_to(&leader.cluster.url, leader.cluster.secret.expose(), epoch);
        self.hub.admin.clone_from(&leader.hub.admin);
    }

    /// Makes it a standby of what is there.
    pub fn follow_to(&mut self, url: &str, secret: &str, epoch: u64) {
        let leader = Leader { epoch, url: url.to_owned(), secret: secret.to_owned() };
        self.role.send_replace(Role::Standby(Some(leader)));
    }

    /// Makes it a standby that knows of no leader.
    pub fn lose_sight(&mut self) {
        self.role.send_replace(Role::Standby(None));
    }

    pub async fn health(&self) -> Value {
        self.hub.request("GET", "/health", None, Value::Null).await.1
    }

    /// Waits until it answers that there is no leader. One that has just crashed may still take a connection, and break it.
    pub async fn without_leader(&self) {
        let begun = Instant::now();
        loop {
            let asked = try_request(&self.hub.address, "GET", "/api/agents", "", &Value::Null).await;
            if let Some((503, answer)) = &asked {
                assert_eq!(answer["error"], "no_leader", "{answer}");
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "never without a leader: {asked:?}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    async fn health_until(&self, what: &str, done: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        loop {
            let health = self.health().await;
            if done(&health) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "never: {what}: {health}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Ends it as a crash does: nothing is said, and every connection breaks.
    pub fn crash(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Tells it to stop, and waits for its end.
    pub fn stop(mut self) {
        self.end();
    }

    /// The same; its folder stays until the value goes, and another process may take it.
    pub fn end(&mut self) {
        self.stop.cancel();
        self.ended.recv_timeout(PATIENCE).expect("the node did not stop").unwrap();
        self.crash();
        self.taken = None;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The actor has a thread of its own.
        self.stop.cancel();
        self.crash();
    }
}

/// A leader, and a standby that passes on to it.
pub async fn pair() -> (Node, Node) {
    pair_with(|_, _| {}, |_, _| {}).await
}

/// The same with other options.
pub async fn pair_with(
    leader: impl FnOnce(&mut Options, &mut Membership),
    standby: impl FnOnce(&mut Options, &mut Membership),
) -> (Node, Node) {
    let (mut leader, mut standby) = (Node::with(leader), Node::with(standby));
    leader.lead(7).await;
    standby.follow(&leader, 7);
    (leader, standby)
}

/// Sends this and returns everything that comes, also where the connection breaks instead of ending.
pub async fn say(address: &str, text: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        read_all(&mut stream).await
    };
    timeout(PATIENCE, exchange).await.unwrap_or_else(|_| panic!("no end after {text}"))
}

/// Everything that comes from now on.
pub async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // Reset or ended, it is over.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

/// Reads until this has come, and returns everything.
pub async fn read_until(stream: &mut TcpStream, words: &str) -> String {
    let reading = async {
        let mut read = String::new();
        while !read.contains(words) {
            let mut part = [0; 4096];
            let length = stream.read(&mut part).await.unwrap();
            assert!(length > 0, "it ended before {words:?}: {read}");
            read.push_str(&String::from_utf8_lossy(&part[..length]));
        }
        read
    };
    timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("{words:?} did not come"))
}

/// The head of a request with these lines.
pub fn request(line: &str, head: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: localhost\r\n{head}\r\n")
}
