//! The real `agentcom-hub`, with a port and a data folder of its own, and a client for its HTTP API. It carries requests
//! and reads answers; it does not know what they should say.
//!
//! ```text
//! let mut hub = Hub::start();                   // agentcom-hub serve --listen 127.0.0.1:0 --data DIR, and an admin token
//! let token = hub.register("alice");            // POST /api/onboard/register
//! hub.url()                                     // ws://127.0.0.1:PORT/ws
//! let task = hub.submit("start=0 run=1");       // POST /api/tasks; submit_with(json!({..})) for more fields
//! hub.wait_task(&task, "completed"); hub.task(&task)["generation"]
//! hub.restart("alice", json!({"reason": "why", "deadline_ms": 500}))   // (200, {"command_id": ..})
//! hub.restarts("alice"); hub.wait_restart(&command_id, "alice", "back")
//! hub.wait_agent("alice", |agent| agent["status"] == "idle");  hub.agent("alice")
//! hub.kill9(); hub.start_again();               // same port, same data
//! hub.get("/health"); hub.post("/api/..", &json!({})); hub.call("GET", "/..", Some("token"), None)
//! ```

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::process::{self, Running};
use super::wait;

/// The binary under test.
pub const HUB: &str = env!("CARGO_BIN_EXE_agentcom-hub");

/// A running hub; its HTTP API is [`Client`]'s.
pub struct Hub {
    data: tempfile::TempDir,
    client: Client,
    arguments: Vec<String>,
    running: Running,
}

/// The HTTP API of the hub at an address, whoever runs it.
pub struct Client {
    address: SocketAddr,
    admin: String,
}

impl Hub {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more on the command line: `start_with(&["--max-losses", "50"])`.
    pub fn start_with(arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let data = tempfile::Builder::new().prefix("hub-").tempdir().expect("a folder for the hub");
        let (running, address) = serve(data.path(), "127.0.0.1:0", &arguments);
        let admin = new_token(data.path(), "tester", true);
        Self { data, client: Client::new(address, admin), arguments, running }
    }

    /// `agentcom-hub token NAME [--admin] --data DIR`: the last word it prints.
    pub fn token(&self, name: &str, admin: bool) -> String {
        new_token(self.data.path(), name, admin)
    }

    /// The folder of its store.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub fn kill9(&mut self) {
        self.running.kill9();
    }

    /// After a kill: on the same port, with the same data.
    pub fn start_again(&mut self) {
        self.running.kill9();
        (self.running, self.client.address) =
            serve(self.data.path(), &self.client.address.to_string(), &self.arguments);
    }

    /// The same, with this on the command line from now on.
    pub fn start_again_with(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.start_again();
    }

    pub fn output(&self) -> String {
        self.running.output()
    }
}

impl std::ops::Deref for Hub {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.running.output());
        }
    }
}

/// Makes a token for the hub whose folder that is, running or not.
pub fn new_token(data: &Path, name: &str, admin: bool) -> String {
    let mut command = Command::new(HUB);
    command.args(["token", name]).args(admin.then_some("--admin")).arg("--data").arg(data);
    let (status, text) = process::run(command, wait::BOUND);
    assert!(status.success(), "agentcom-hub token {name} ended with {status}:\n{text}");
    text.split_whitespace().last().unwrap_or_else(|| panic!("agentcom-hub token printed nothing")).to_owned()
}

impl Client {
    pub fn new(address: SocketAddr, admin: String) -> Self {
        Self { address, admin }
    }

    /// What `hub_url` in a sidecar's config should say.
    pub fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn admin_token(&self) -> &str {
        &self.admin
    }

    /// Registers the agent; answers its token.
    pub fn register(&self, agent: &str) -> String {
        let (status, body) = self.post("/api/onboard/register", &json!({"agent_id": agent}));
        assert_eq!(status, 201, "{body}");
        body["token"].as_str().unwrap_or_else(|| panic!("no token in {body}")).to_owned()
    }

    /// Submits a task; answers its id.
    pub fn submit(&self, description: &str) -> String {
        self.submit_with(json!({"description": description}))
    }

    pub fn submit_with(&self, body: Value) -> String {
        let (status, body) = self.post("/api/tasks", &body);
        assert_eq!(status, 201, "{body}");
        body["task_id"].as_str().unwrap_or_else(|| panic!("no task_id in {body}")).to_owned()
    }

    pub fn task(&self, id: &str) -> Value {
        let (status, body) = self.get(&format!("/api/tasks/{id}"));
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Waits until the task has that status.
    pub fn wait_task(&self, id: &str, status: &str) -> Value {
        let probe = || Some(self.task(id)).filter(|task| task["status"] == status);
        wait::until_or(&format!("task {id} to be {status}"), wait::BOUND, probe, || self.task(id).to_string())
    }

    /// Commands a restart; the answer's status and body.
    pub fn restart(&self, agent: &str, body: Value) -> (u16, Value) {
        self.post(&format!("/api/admin/agents/{agent}/restart"), &body)
    }

    /// The agent's restart ledger.
    pub fn restarts(&self, agent: &str) -> Vec<Value> {
        let (status, body) = self.get(&format!("/api/admin/agents/{agent}/restarts"));
        assert_eq!(status, 200, "{body}");
        body["restarts"].as_array().unwrap_or_else(|| panic!("no list of restarts in {body}")).clone()
    }

    /// Waits until the command has come to that state.
    pub fn wait_restart(&self, command_id: &str, agent: &str, state: &str) -> Value {
        let find = || self.restarts(agent).into_iter().find(|entry| entry["command_id"] == command_id);
        let probe = || find().filter(|entry| entry["state"] == state);
        wait::until_or(&format!("restart {command_id} to be {state}"), wait::BOUND, probe, || {
            format!("{:?}", self.restarts(agent))
        })
    }

    /// The agent as `/api/agents` lists it, if it does.
    pub fn agent(&self, id: &str) -> Option<Value> {
        let (status, body) = self.get("/api/agents");
        assert_eq!(status, 200, "{body}");
        body["agents"].as_array()?.iter().find(|agent| agent["agent_id"] == id).cloned()
    }

    pub fn wait_agent(&self, id: &str, mut is: impl FnMut(&Value) -> bool) -> Value {
        let probe = || self.agent(id).filter(|agent| is(agent));
        wait::until_or(&format!("agent {id}"), wait::BOUND, probe, || format!("{:?}", self.agent(id)))
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, Some(&self.admin), None)
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call("POST", path, Some(&self.admin), Some(body))
    }

    /// Any request; the answer's status and JSON body (Null where it has none).
    pub fn call(&self, method: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> (u16, Value) {
        let answer = request(self.address, method, path, token, body);
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }
}

/// Starts the binary and waits for `/health`.
fn serve(data: &Path, listen: &str, arguments: &[String]) -> (Running, SocketAddr) {
    // Of this start, not of an earlier one.
    let _ = std::fs::remove_file(data.join("hub.out"));
    let _ = std::fs::remove_file(data.join("hub.err"));
    let mut command = Command::new(HUB);
    command.args(["serve", "--listen", listen, "--data"]).arg(data).args(arguments);
    let mut running = Running::start(command, data, "hub");
    let probe = || {
        let gone = running.ended();
        assert!(gone.is_none(), "agentcom-hub ended with {gone:?}\n{}", running.output());
        let address = announced(&running.output())?;
        request(address, "GET", "/health", None, None).ok().map(|_| address)
    };
    let address = wait::until("agentcom-hub to listen", probe);
    (running, address)
}

/// The address in the hub's own words: the first `127.0.0.1:PORT` with a real port that it prints or logs.
pub fn announced(output: &str) -> Option<SocketAddr> {
    output.match_indices("127.0.0.1:").find_map(|(at, _)| {
        let rest = &output[at..];
        let end = rest.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ':'))).unwrap_or(rest.len());
        rest[..end].trim_end_matches(['.', ':']).parse().ok().filter(|address: &SocketAddr| address.port() != 0)
    })
}

/// HTTP/1.1 in its smallest form: one request a connection, JSON in and out.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> std::io::Result<(u16, Value)> {
    request_once(address, method, path, token, None, body)
}

/// [`request`] with an `Idempotency-Key`, to be sent again where its answer is lost.
pub fn request_once(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    key: Option<&str>,
    body: Option<&Value>,
) -> std::io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let key = key.map(|key| format!("Idempotency-Key: {key}\r\n")).unwrap_or_default();
    let body = body.map(Value::to_string).unwrap_or_default();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{authorization}{key}\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let odd = || std::io::Error::other(format!("not an HTTP answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(odd)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(odd)?;
    Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}
