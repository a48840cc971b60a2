//! One agent: it dials, identifies, takes each task and completes it at once, and answers restart commands as its fleet is
//! told to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::Outcome;
use crate::fleet::{Fleet, lock};
use crate::socket::{Arrived, Socket};

/// The longest wait for one step of the join.
const PATIENCE: Duration = Duration::from_secs(120);
/// The pause before an agent that had to make room dials again: the shortest of a sidecar.
const REDIAL_PAUSE: Duration = Duration::from_secs(1);
/// The pause between two pings, as of the sidecar.
const PING_INTERVAL: Duration = Duration::from_secs(25);
/// The longest wait for the hub's part of a closing handshake.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// One agent of a fleet.
pub struct Agent {
    /// Its name.
    pub id: String,
    token: String,
    /// What tasks it can do.
    capability: &'static str,
    boot: AtomicU64,
    /// Whoever waits for the next restart command, and for the next pong.
    command_wanted: Mutex<Option<oneshot::Sender<Instant>>>,
    pong_wanted: Mutex<Option<oneshot::Sender<Instant>>>,
    ping: Notify,
}

/// The fields of a hub's frame that matter here.
#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    task_id: Option<String>,
    generation: Option<u64>,
    status: Option<String>,
    command_id: Option<String>,
    reason: Option<String>,
    error: Option<String>,
}

/// The restart that a run has to report when it is back.
struct Restarted {
    command_id: String,
    reason: String,
    began: Instant,
}

/// How a connection ended.
enum End {
    /// The fleet was told to leave.
    Told,
    /// The agent restarts.
    Restart(Restarted),
}

impl Agent {
    /// Creates the agent that this token is for.
    pub fn new(id: String, token: String, capability: &'static str) -> Self {
        Self {
            id,
            token,
            capability,
            boot: AtomicU64::new(1),
            command_wanted: Mutex::new(None),
            pong_wanted: Mutex::new(None),
            ping: Notify::new(),
        }
    }

    /// Returns the time at which the next restart command arrives.
    pub fn next_command(&self) -> oneshot::Receiver<Instant> {
        let (sender, receiver) = oneshot::channel();
        *lock(&self.command_wanted) = Some(sender);
        receiver
    }

    /// Sends a ping; returns the time at which the answer arrives.
    pub fn ping(&self) -> oneshot::Receiver<Instant> {
        let (sender, receiver) = oneshot::channel();
        *lock(&self.pong_wanted) = Some(sender);
        self.ping.notify_one();
        receiver
    }

    /// Dials and lives until the fleet leaves. What goes wrong is told to the fleet.
    pub async fn live(self: Arc<Self>, fleet: Arc<Fleet>) {
        let mut restarted = None;
        loop {
            match self.connection(&fleet, restarted.take()).await {
                Ok(End::Told) => return,
                Ok(End::Restart(restart)) => {
                    self.boot.fetch_add(1, Ordering::Relaxed);
                    restarted = Some(restart);
                }
                Err(why) => return fleet.failed(format!("{}: {why}", self.id)),
            }
        }
    }

    async fn connection(&self, fleet: &Fleet, restarted: Option<Restarted>) -> Outcome<End> {
        let dialed_at = Instant::now();
        let identify = self.identify(restarted);
        let joining = async {
            loop {
                if let Some(socket) = join(fleet.address, &identify).await? {
                    return Ok(socket);
                }
                fleet.redialed();
                tokio::time::sleep(REDIAL_PAUSE).await;
            }
        };
        let joined = timeout(PATIENCE, joining).await;
        let mut socket = joined.unwrap_or_else(|_| Err(format!("not identified within {PATIENCE:?}")))?;
        fleet.joined_after(dialed_at.elapsed());
        socket.send(RESOURCES).await?;
        let end = self.serve(&mut socket, fleet).await?;
        match end {
            End::Told => socket.reset_on_drop(),
            End::Restart(_) => close(&mut socket).await?,
        }
        Ok(end)
    }

    async fn serve(&self, socket: &mut Socket, fleet: &Fleet) -> Outcome<End> {
        let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + PING_INTERVAL, PING_INTERVAL);
        loop {
            let arrived = tokio::select! {
                () = fleet.leave.cancelled() => return Ok(End::Told),
                () = self.ping.notified() => {
                    socket.send(PING).await?;
                    continue;
                }
                _ = beat.tick() => {
                    socket.send(PING).await?;
                    continue;
                }
                arrived = socket.next() => arrived?,
            };
            match arrived {
                Arrived::Text(text) => {
                    if let Some(restart) = self.frame_received(socket, fleet, &text).await? {
                        return Ok(End::Restart(restart));
                    }
                }
                Arrived::Close(code, reason) => return Err(format!("the hub closed the connection: {code} {reason}")),
                Arrived::End => return Err("the connection ended".to_owned()),
            }
        }
    }

    async fn frame_received(&self, socket: &mut Socket, fleet: &Fleet, text: &str) -> Outcome<Option<Restarted>> {
        let arrived_at = Instant::now();
        let frame = read(text)?;
        match (frame.kind.as_str(), frame.task_id, frame.command_id) {
            ("task_assign", Some(task_id), _) => {
                fleet.books().assigned(&task_id);
                let generation = frame.generation.ok_or_else(|| format!("no generation: {text}"))?;
                let accepted = json!({
                    "type": "task_accepted", "task_id": task_id, "generation": generation, "protocol_version": 1,
                });
                socket.send(&accepted.to_string()).await?;
                let complete = json!({
                    "type": "task_complete", "task_id": task_id, "generation": generation, "protocol_version": 1,
                    "result": {"status": "success", "output": "done"},
                });
                socket.send(&complete.to_string()).await?;
                Ok(None)
            }
            ("task_ack", Some(task_id), _) => {
                if frame.status.as_deref() == Some("complete") {
                    fleet.books().completed(&task_id);
                    fleet.changed.notify_one();
                }
                Ok(None)
            }
            ("restart_sidecar", _, Some(command_id)) => {
                if let Some(waiting) = lock(&self.command_wanted).take() {
                    // Whoever waited may have given up.
                    let _ = waiting.send(arrived_at);
                }
                self.answer_restart(socket, fleet, command_id, frame.reason.unwrap_or_default()).await
            }
            ("pong", _, _) => {
                if let Some(waiting) = lock(&self.pong_wanted).take() {
                    let _ = waiting.send(arrived_at);
                }
                Ok(None)
            }
            ("error", _, _) => Err(format!("the hub answered {}: {text}", frame.error.unwrap_or_default())),
            ("task_cancelled" | "task_reassign", Some(task_id), _) => {
                Err(format!("the hub took {task_id} back: {text}"))
            }
            _ => Ok(None),
        }
    }

    async fn answer_restart(
        &self,
        socket: &mut Socket,
        fleet: &Fleet,
        command_id: String,
        reason: String,
    ) -> Outcome<Option<Restarted>> {
        let restarts = fleet.restarts_on_command.load(Ordering::Relaxed);
        let outcome = if restarts { "accepted" } else { "refused" };
        let ack = json!({"type": "restart_ack", "command_id": command_id, "outcome": outcome, "protocol_version": 1});
        socket.send(&ack.to_string()).await?;
        if !restarts {
            return Ok(None);
        }
        let leaving = json!({
            "type": "agent_restarting", "reason": reason, "command_id": command_id, "forced": false,
            "expected_back_ms": 5_000, "protocol_version": 1,
        });
        socket.send(&leaving.to_string()).await?;
        Ok(Some(Restarted { command_id, reason, began: Instant::now() }))
    }

    /// Returns the `identify` frame, as large as a sidecar's under pm2.
    fn identify(&self, restarted: Option<Restarted>) -> String {
        let boot = self.boot.load(Ordering::Relaxed);
        let mut frame = json!({
            "type": "identify", "agent_id": self.id, "token": self.token, "name": self.id, "status": "idle",
            "capabilities": [self.capability], "client_type": "sidecar", "protocol_version": 1, "version": "0.1.0",
            "boot_id": format!("b7f1c0de-0000-4000-8000-{boot:012}"),
            "features": ["task_reassign"],
            "pm2_info": {
                "name": self.id, "status": "online", "uptime_ms": 547, "restart_count": boot,
                "memory_bytes": 7_340_032,
            },
        });
        if let Some(Restarted { command_id, reason, began }) = restarted {
            let gap_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            frame["restarted"] = json!({"command_id": command_id, "reason": reason, "forced": false, "gap_ms": gap_ms});
        }
        frame.to_string()
    }
}

const PING: &str = r#"{"type":"ping","protocol_version":1}"#;
const RESOURCES: &str = r#"{"type":"resource_report","protocol_version":1,"agent_id":"agent","cpu_percent":12.5,"ram_used_bytes":8123456789,"ram_total_bytes":16777216000,"vram_used_bytes":null,"vram_total_bytes":null,"timestamp":1764547200000}"#;

/// Dials and identifies; `None` if the hub ended the connection first, as it does to make room for others.
async fn join(address: SocketAddr, identify: &str) -> Outcome<Option<Socket>> {
    let Some(mut socket) = Socket::open(address).await? else { return Ok(None) };
    socket.send(identify).await?;
    match socket.next().await? {
        Arrived::Text(text) if read(&text)?.kind == "identified" => Ok(Some(socket)),
        Arrived::Text(text) => Err(format!("not identified: {text}")),
        Arrived::Close(1_013, _) | Arrived::End => Ok(None),
        Arrived::Close(code, reason) => Err(format!("closed before it identified: {code} {reason}")),
    }
}

fn read(text: &str) -> Outcome<Frame> {
    serde_json::from_str(text).map_err(|error| format!("not a frame of a hub ({error}): {text}"))
}

/// Closes by handshake. The hub ends the connection, so that no port of ours waits for late packets.
async fn close(socket: &mut Socket) -> Outcome<()> {
    socket.send_close().await?;
    let ending = async {
        while !matches!(socket.next().await?, Arrived::End) {}
        Ok(())
    };
    timeout(CLOSE_PATIENCE, ending).await.unwrap_or_else(|_| Err("the hub did not end the connection".to_owned()))
}
