//! A real hub process, raw HTTP, and raw WebSocket peers. Every wait is bounded; nothing sleeps for a fixed time.
#![allow(unreachable_pub, reason = "the parts of one test binary")]
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// The longest that anything may take here, on a slow and busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn hub_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentcom-hub"));
    for name in [
        "LISTEN",
        "DATA",
        "LOG_LEVEL",
        "URL",
        "TOKEN_FILE",
        "CA_FILE",
        "HEALING",
        "TLS_CERT",
        "TLS_KEY",
        "REGISTRATION",
        "NO_INIT",
        "PUBLIC_URL",
        "STORE",
        "CLUSTER_LISTEN",
        "CLUSTER_URL",
        "CLUSTER_CA_FILE",
    ] {
        command.env_remove(format!("AGENTCOM_HUB_{name}"));
    }
    command.env_remove("COLUMNS");
    command
}

/// A hub in its own process. Dropping it kills it.
pub struct Hub {
    child: Option<Child>,
    pub address: String,
    pub admin: String,
}

impl Hub {
    /// Starts a hub on the folder and makes an admin token through the running hub.
    pub fn start(dir: &TempDir, flags: &[&str]) -> Self {
        Self::start_by(hub_command(), dir, flags)
    }

    /// The same by a command of the test's own, which ends up as the hub.
    pub fn start_by(command: Command, dir: &TempDir, flags: &[&str]) -> Self {
        Self::spawn(command, dir, flags, Stdio::inherit(), |stdout| {
            // Reads to the end, so that the hub never waits for us.
            std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(drop));
        })
    }

    /// The same with what it logs from then on.
    pub fn start_heard(dir: &TempDir, flags: &[&str]) -> (Self, mpsc::Receiver<Value>) {
        let (sender, lines) = mpsc::channel();
        let hub = Self::spawn(hub_command(), dir, flags, Stdio::inherit(), |stdout| {
            let told = move |line: String| _ = sender.send(serde_json::from_str(&line).unwrap());
            std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(told));
        });
        (hub, lines)
    }

    /// The same, but from then on nobody reads what it says, on stdout or stderr: both are closed.
    pub fn start_and_leave(dir: &TempDir) -> Self {
        let mut hub = Self::spawn(hub_command(), dir, &[], Stdio::piped(), drop);
        drop(hub.process().stderr.take());
        hub
    }

    /// Starts a node of a cluster that another one leads. It has no token.
    pub fn start_standby(dir: &TempDir, flags: &[&str]) -> Self {
        let (child, address, stdout) = Self::listening(hub_command(), dir, flags, Stdio::inherit(), "standing by");
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(drop));
        Self { child: Some(child), address, admin: String::new() }
    }

    fn spawn(
        command: Command,
        dir: &TempDir,
        flags: &[&str],
        stderr: Stdio,
        rest: impl FnOnce(BufReader<ChildStdout>),
    ) -> Self {
        let (child, address, stdout) = Self::listening(command, dir, flags, stderr, "listening");
        rest(stdout);
        let admin = token(dir.path(), "ops", true);
        Self { child: Some(child), address, admin }
    }

    /// Starts a hub and waits until it says that it is as far as this.
    fn listening(
        mut command: Command,
        dir: &TempDir,
        flags: &[&str],
        stderr: Stdio,
        message: &'static str,
    ) -> (Child, String, BufReader<ChildStdout>) {
        let listen: &[&str] = if flags.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        let mut child = command
            .arg("serve")
            .args(listen)
            .arg("--data")
            .arg(dir.path())
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || sender.send(first_address(stdout, message)));
        let (address, stdout) = receiver.recv_timeout(PATIENCE).expect("the hub never listened");
        (child, address, stdout)
    }

    /// A hub that runs elsewhere.
    pub fn at(address: String, admin: String) -> Self {
        Self { child: None, address, admin }
    }

    fn process(&mut self) -> &mut Child {
        self.child.as_mut().expect("a hub in its own process")
    }

    pub fn kill_9(mut self) {
        self.process().kill().unwrap();
        self.process().wait().unwrap();
    }

    /// Sends the signal.
    pub fn send(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Sends the signal and waits for the end: its exit code and how long it took.
    pub fn signal(&mut self, name: &str) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        self.send(name);
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.process().try_wait().unwrap() {
                return (status.code(), begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the hub did not end on {name}");
    }

    /// Waits for its end, which must come: the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.process().try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the hub did not end");
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a hub in its own process").id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.process().try_wait().unwrap().is_some()
    }

    /// One request as an admin.
    pub async fn admin(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.request(method, path, Some(&self.admin), body).await
    }

    /// One JSON request; a `null` body is none.
    pub async fn request(&self, method: &str, path: &str, token: Option<&str>, body: Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut head = "content-type: application/json\r\n".to_owned();
        if let Some(token) = token {
            head.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        self.raw(method, path, &head, body.as_bytes()).await
    }

    /// One request with these header lines. The answer must be JSON.
    pub async fn raw(&self, method: &str, path: &str, head: &str, body: &[u8]) -> (u16, Value) {
        let host = if head.to_ascii_lowercase().contains("host:") { "" } else { "host: localhost\r\n" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{host}connection: close\r\ncontent-length: {}\r\n{head}\r\n",
            body.len()
        );
        let exchange = async {
            let mut stream = TcpStream::connect(&self.address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            // A hub that refuses a large body may close before it has read all of it.
            let _ = stream.write_all(body).await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            String::from_utf8(answer).unwrap()
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await.expect("no answer over HTTP");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("not HTTP: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { joined(body) } else { body.to_owned() };
        let body = serde_json::from_str(&body).unwrap_or_else(|e| panic!("not JSON ({e}): {answer}"));
        (status, body)
    }

    /// The token of an agent that an admin registers.
    pub async fn register(&self, agent_id: &str) -> String {
        self.register_by(agent_id, Some(&self.admin)).await
    }

    /// The token of an agent that registers by itself, as at the legacy hub.
    pub async fn register_openly(&self, agent_id: &str) -> String {
        self.register_by(agent_id, None).await
    }

    async fn register_by(&self, agent_id: &str, admin: Option<&str>) -> String {
        let (status, body) = self.request("POST", "/api/onboard/register", admin, json!({"agent_id": agent_id})).await;
        assert_eq!(status, 201, "{body}");
        body["token"].as_str().unwrap().to_owned()
    }

    pub async fn submit(&self, task: Value) -> String {
        let (status, body) = self.admin("POST", "/api/tasks", task).await;
        assert_eq!(status, 201, "{body}");
        body["task_id"].as_str().unwrap().to_owned()
    }

    pub async fn task(&self, task_id: &str) -> Value {
        let (status, body) = self.admin("GET", &format!("/api/tasks/{task_id}"), Value::Null).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Waits until the task is as `done` wants it.
    pub async fn task_until(&self, task_id: &str, done: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let task = self.task(task_id).await;
            if done(&task) {
                return task;
            }
            assert!(begun.elapsed() < PATIENCE, "the task stayed {task}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn agent(&self, agent_id: &str) -> Option<Value> {
        let (_, body) = self.request("GET", "/api/agents", None, Value::Null).await;
        body["agents"].as_array().unwrap().iter().find(|agent| agent["agent_id"] == agent_id).cloned()
    }

    pub async fn restart(&self, agent_id: &str, body: Value) -> Value {
        let (status, body) = self.admin("POST", &format!("/api/admin/agents/{agent_id}/restart"), body).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The agent's newest restart.
    pub async fn newest_restart(&self, agent_id: &str) -> Value {
        let (status, body) = self.admin("GET", &format!("/api/admin/agents/{agent_id}/restarts"), Value::Null).await;
        assert_eq!(status, 200, "{body}");
        body["restarts"][0].clone()
    }

    /// Waits until the agent's newest restart is in this state.
    pub async fn restart_until(&self, agent_id: &str, state: &str) -> Value {
        let begun = Instant::now();
        loop {
            let restart = self.newest_restart(agent_id).await;
            if restart["state"] == state {
                return restart;
            }
            assert!(begun.elapsed() < PATIENCE, "never {state}: {restart}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// One JSON request to a hub that may end meanwhile: `None` if no whole answer came.
pub async fn try_request(address: &str, method: &str, path: &str, token: &str, body: &Value) -> Option<(u16, Value)> {
    let body = body.to_string();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         authorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8(answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).ok()?))
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("no answer over HTTP")
}

/// Reads the log up to the line with this message, which says where the hub listens.
fn first_address(mut stdout: BufReader<ChildStdout>, message: &str) -> (String, BufReader<ChildStdout>) {
    loop {
        let mut line = String::new();
        assert!(stdout.read_line(&mut line).unwrap() > 0, "the hub ended before it listened");
        let line: Value = serde_json::from_str(&line).expect("a log line that is not JSON");
        if line["message"] == message {
            return (line["address"].as_str().unwrap().to_owned(), stdout);
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An address of this machine that nobody listens on.
pub fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

pub fn run_token(dir: &Path, name: &str, admin: bool) -> Output {
    let mut command = hub_command();
    command.args(["token", name, "--data"]).arg(dir);
    if admin {
        command.arg("--admin");
    }
    command.output().unwrap()
}

pub fn token(dir: &Path, name: &str, admin: bool) -> String {
    printed_token(&run_token(dir, name, admin))
}

/// A token of a folder that no hub may have run on yet.
pub fn first_token(dir: &Path, name: &str) -> String {
    printed_token(&hub_command().args(["token", name, "--init", "--data"]).arg(dir).output().unwrap())
}

fn printed_token(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).split_whitespace().last().unwrap().to_owned()
}

/// One end of a WebSocket that says exactly what it is told.
pub struct Peer {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What came over the socket.
#[derive(Debug, PartialEq)]
pub enum Got {
    Frame(Value),
    Close(u16, String),
    End,
}

impl Peer {
    pub async fn connect(hub: &Hub) -> Self {
        let url = format!("ws://{}/ws", hub.address);
        let connecting = tokio_tungstenite::connect_async(url);
        let (socket, _) = tokio::time::timeout(PATIENCE, connecting).await.expect("no socket in time").unwrap();
        Self { socket }
    }

    /// A peer on a socket that the test opened.
    pub fn on(socket: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Self {
        Self { socket }
    }

    /// Connects and identifies; `more` is merged into the identify frame.
    pub async fn join(hub: &Hub, agent_id: &str, token: &str, more: Value) -> Self {
        Self::connect(hub).await.identified(agent_id, token, more).await
    }

    /// The same on a socket that is open.
    pub async fn identified(mut self, agent_id: &str, token: &str, more: Value) -> Self {
        let peer = &mut self;
        peer.say(identify(agent_id, token, more)).await;
        let identified = peer.expect("identified").await;
        assert_eq!(identified["agent_id"], agent_id);
        assert_eq!(identified["features"], json!(["restart.v2", "task_rejected", "cordon", "task_reassign"]));
        self
    }

    pub async fn say(&mut self, frame: Value) {
        self.say_text(&frame.to_string()).await;
    }

    pub async fn say_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Says more than the hub reads: the end may come while we still write.
    pub async fn say_too_much(&mut self, text: String) {
        let _ = self.socket.send(Message::text(text)).await;
    }

    pub async fn say_binary(&mut self, bytes: &'static [u8]) {
        self.socket.send(Message::binary(bytes)).await.unwrap();
    }

    pub async fn next(&mut self) -> Got {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("nothing came in time");
            match next {
                Some(Ok(Message::Text(text))) => return Got::Frame(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Got::Close(frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Binary(_) | Message::Frame(_) | Message::Close(None))) | Some(Err(_)) | None => {
                    return Got::End;
                }
            }
        }
    }

    /// The text of the next frame, which must be of this type.
    pub async fn text_of(&mut self, kind: &str) -> String {
        let next = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("nothing came in time");
        let Some(Ok(Message::Text(text))) = next else { panic!("expected {kind}, got {next:?}") };
        assert!(text.contains(&format!("\"type\":\"{kind}\"")), "{text}");
        text.to_string()
    }

    /// The next frame, which must be of this type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        match self.next().await {
            Got::Frame(frame) if frame["type"] == kind => frame,
            other @ (Got::Frame(_) | Got::Close(..) | Got::End) => panic!("expected {kind}, got {other:?}"),
        }
    }

    /// The next thing, which must be a close frame with this code.
    pub async fn expect_close(&mut self, code: u16) -> String {
        match self.next().await {
            Got::Close(found, reason) if found == code => reason,
            other @ (Got::Frame(_) | Got::Close(..) | Got::End) => panic!("expected close {code}, got {other:?}"),
        }
    }

    /// Everything that the hub had to say until now: the answer to `status` comes after all of it.
    pub async fn drain(&mut self) -> Vec<Value> {
        self.say(json!({"type": "status", "status": "looking"})).await;
        let mut seen = Vec::new();
        loop {
            match self.next().await {
                Got::Frame(frame) if frame["type"] == "status_updated" => return seen,
                Got::Frame(frame) => seen.push(frame),
                end @ (Got::Close(..) | Got::End) => panic!("ended while draining: {end:?}"),
            }
        }
    }

    pub async fn accept(&mut self, task_id: &str) {
        self.say(json!({"type": "task_accepted", "task_id": task_id, "protocol_version": 1})).await;
        assert_eq!(self.expect("task_ack").await["status"], "accepted");
    }

    pub async fn complete(&mut self, task_id: &str, generation: u64) -> Value {
        let result = json!({"status": "success", "output": "done"});
        self.say(json!({"type": "task_complete", "task_id": task_id, "generation": generation, "result": result}))
            .await;
        match self.next().await {
            Got::Frame(frame) => frame,
            end @ (Got::Close(..) | Got::End) => panic!("no answer to a verdict: {end:?}"),
        }
    }

    /// Closes by handshake.
    pub async fn close(mut self) {
        self.socket.close(None).await.unwrap();
        while !matches!(self.next().await, Got::Close(..) | Got::End) {}
    }
}

pub fn identify(agent_id: &str, token: &str, more: Value) -> Value {
    let mut frame = json!({
        "type": "identify", "agent_id": agent_id, "token": token, "name": agent_id, "status": "idle",
        "capabilities": ["code"], "client_type": "sidecar", "protocol_version": 1,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        frame[key] = value.clone();
    }
    frame
}

/// What an original Node sidecar tells of itself.
pub fn node(restart_count: u64) -> Value {
    json!({"pm2_info": {
        "name": "s", "status": "online", "uptime_ms": 547, "restart_count": restart_count, "memory_bytes": 58_941_440u64,
    }})
}

/// What our sidecar tells of itself.
pub fn run(boot_id: &str) -> Value {
    json!({"boot_id": boot_id, "version": "0.1.0"})
}

pub fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The names of a restart's steps, oldest first.
pub fn step_names(restart: &Value) -> Vec<&str> {
    restart["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect()
}

/// The chunks of a body, which must end with an empty one.
fn joined(mut chunked: &str) -> String {
    let mut body = String::new();
    loop {
        let (length, rest) = chunked.split_once("\r\n").expect("a chunk's length");
        let length = usize::from_str_radix(length, 16).expect("a number");
        if length == 0 {
            assert_eq!(rest, "\r\n", "the end");
            return body;
        }
        body.push_str(&rest[..length]);
        chunked = rest[length..].strip_prefix("\r\n").expect("the end of a chunk");
    }
}
