//! The double of the existing hub against recorded conversations of the real one: every recorded sidecar frame is fed to
//! it at its recorded time, and what it says must be what the real hub said, connection by connection, in order. Some
//! more of its habits that no recording shows are tried over real sockets.

use std::collections::BTreeMap;

use crate::support::legacy_hub::core::{Core, Out};
use crate::support::legacy_hub::{LegacyHub, OnReturn, Options, Status, Task, Verdicts, What};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// One line of a recording.
#[derive(serde::Deserialize)]
struct Line {
    ms: u64,
    connection: u64,
    from: Option<String>,
    frame: Option<Value>,
    event: Option<Value>,
}

/// What a hub said on one connection: frames, or the close.
type Said = BTreeMap<u64, Vec<Value>>;

fn recording(text: &str) -> Vec<Line> {
    text.lines().map(|line| serde_json::from_str(line).expect("a recorded line")).collect()
}

/// What the real hub said.
fn recorded(lines: &[Line]) -> Said {
    let mut said = Said::new();
    for line in lines {
        if line.from.as_deref() == Some("hub") {
            said.entry(line.connection).or_default().extend(line.frame.clone());
        }
        // 1006 is the recording proxy's note that there was no close frame; 1000 answers the sidecar's own.
        if let Some(event) = line.event.as_ref().filter(|event| event["ev"] == "hub_close" && event["code"] == 1008) {
            said.entry(line.connection).or_default().push(json!({"closed": 1008, "reason": event["reason"]}));
        }
    }
    said
}

/// What the double says to the same sidecar at the same times. The recording says from outside what only the hub's
/// operator did: the first sight of a task (its submission), and `restart_sidecar`.
fn replayed(lines: &[Line], options: Options) -> Said {
    let mut hub = Core::new(options);
    let mut said = Said::new();
    let mut now = 0;
    for line in lines {
        while now < line.ms {
            now += 1;
            hub.tick(now);
            collect(&mut hub, &mut said);
        }
        let kind = line.frame.as_ref().and_then(|frame| frame["type"].as_str());
        match (line.from.as_deref(), kind) {
            (Some("sidecar"), _) => sidecar_said(&mut hub, line),
            (Some("hub"), Some("restart_sidecar")) => {
                let frame = line.frame.as_ref().expect("a frame");
                let agent = hub.agent_of(line.connection).expect("an identified connection");
                assert!(hub.restart(&agent, frame["reason"].as_str().expect("a reason")));
            }
            (Some("hub"), Some("task_assign")) => first_sight(&mut hub, line),
            (Some(_), _) => {}
            (None, _) => {
                let event = line.event.as_ref().and_then(|event| event["ev"].as_str());
                // In the half-open story the hub does not notice that the sidecar has left.
                if let Some("hub_close" | "CTL_drop") = event {
                    hub.closed(line.connection, now);
                }
            }
        }
        collect(&mut hub, &mut said);
    }
    said
}

fn sidecar_said(hub: &mut Core, line: &Line) {
    let frame = line.frame.as_ref().expect("a frame");
    if frame["type"] == "identify" {
        hub.register(frame["agent_id"].as_str().expect("an agent id"), "<token>");
        hub.opened(line.connection, line.ms);
    }
    hub.said(line.connection, &frame.to_string(), line.ms);
}

fn first_sight(hub: &mut Core, line: &Line) {
    let frame = line.frame.as_ref().expect("a frame");
    let id = frame["task_id"].as_str().expect("a task id");
    let description = frame["description"].as_str().expect("a description");
    let agent = hub.agent_of(line.connection).expect("an identified connection");
    if frame["generation"] == 0 {
        assert!(hub.push_untracked(&agent, Task::new(id, description), line.ms));
    } else if hub.tasks.get(id).is_none() {
        let mut task = Task::new(id, description).only_for(&agent);
        task.fields["skip_verification"] = frame["skip_verification"].clone();
        task.fields["max_verification_retries"] = frame["max_verification_retries"].clone();
        hub.submit(task, line.ms);
    }
}

fn collect(hub: &mut Core, said: &mut Said) {
    for out in hub.take_outs() {
        match out {
            Out::Say(connection, frame) => said.entry(connection).or_default().push(frame),
            Out::Close(connection, code, reason) => {
                said.entry(connection).or_default().push(json!({"closed": code, "reason": reason}));
            }
            Out::Drop(connection) => said.entry(connection).or_default().push(json!("dropped")),
        }
    }
}

/// Everything but the clock.
fn without_times(frames: &[Value]) -> Vec<Value> {
    let mut frames = frames.to_vec();
    for frame in &mut frames {
        for clock in ["timestamp", "assigned_at"] {
            if let Some(at) = frame.get_mut(clock) {
                assert!(at.is_u64(), "a time in ms: {at}");
                *at = json!(0);
            }
        }
    }
    frames
}

/// `lossy`: connections that were cut so soon after they opened that the last frame may have been lost with them.
fn same_conversation(text: &str, on_return: OnReturn, hold_ms: u64, lossy: &[u64]) {
    let lines = recording(text);
    // The recordings were made without presence pushes, through a proxy whose websocket pings keep sockets from silence.
    let options = Options { on_return, hold_ms, presence_pushes: false, silence_ms: None, ..Options::default() };
    let real = recorded(&lines);
    let ours = replayed(&lines, options);
    assert!(!real.is_empty(), "the recording has hub frames");
    for connection in real.keys().chain(ours.keys()) {
        let real = without_times(real.get(connection).map_or(&[][..], Vec::as_slice));
        let mut ours = without_times(ours.get(connection).map_or(&[][..], Vec::as_slice));
        if lossy.contains(connection) {
            ours.truncate(real.len());
        }
        assert_eq!(real, ours, "connection {connection}: left the real hub, right the double");
    }
}

macro_rules! recording {
    ($name:literal) => {
        include_str!(concat!("../transcripts/", $name, ".jsonl"))
    };
}

#[test]
fn a_task_through_wake_as_recorded() {
    same_conversation(recording!("task-through-wake"), OnReturn::AtOnce, 0, &[]);
}

#[test]
fn a_restart_while_working_as_recorded() {
    same_conversation(recording!("restart-while-working"), OnReturn::AtOnce, 0, &[]);
}

#[test]
fn a_restart_while_waking_as_recorded() {
    same_conversation(recording!("restart-while-waking"), OnReturn::AfterContinue, 1_000, &[]);
}

#[test]
fn a_restart_while_awaiting_confirmation_as_recorded() {
    same_conversation(recording!("restart-while-awaiting-confirmation"), OnReturn::AtOnce, 0, &[]);
}

#[test]
fn an_assignment_in_the_exit_window_as_recorded() {
    same_conversation(recording!("assignment-in-the-exit-window"), OnReturn::AtOnce, 0, &[]);
}

#[test]
fn a_kill_mid_task_as_recorded() {
    same_conversation(recording!("killed-mid-task-then-recovered"), OnReturn::AtOnce, 0, &[]);
}

#[test]
fn a_result_while_the_sidecar_is_down_as_recorded() {
    same_conversation(recording!("result-while-sidecar-down"), OnReturn::AtOnce, 0, &[]);
}

#[test]
fn a_link_dropped_mid_task_as_recorded() {
    same_conversation(recording!("link-dropped-mid-task"), OnReturn::AfterReassign, 1_000, &[]);
}

#[test]
fn a_flapping_link_as_recorded() {
    // 27 and 34 were cut some milliseconds after the task they asked about was theirs again.
    same_conversation(recording!("flapping-link"), OnReturn::AfterReassign, 23, &[27, 34]);
}

#[test]
fn a_half_open_old_socket_as_recorded() {
    same_conversation(recording!("half-open-old-socket"), OnReturn::AtOnce, 0, &[]);
}

#[test]
fn eleven_times_busy_then_1008_as_recorded() {
    same_conversation(recording!("busy-eleven-times-then-1008"), OnReturn::AtOnce, 0, &[]);
}

/// A client of the double over a real socket.
struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn connect(hub: &LegacyHub) -> Self {
        Self(tokio_tungstenite::connect_async(hub.url()).await.expect("the double takes connections").0)
    }

    async fn identified(hub: &LegacyHub, agent: &str, token: &str) -> Self {
        let mut client = Self::connect(hub).await;
        client.identify(agent, token).await;
        assert_eq!(client.frame().await["type"], "identified");
        client
    }

    async fn identify(&mut self, agent: &str, token: &str) {
        self.say(json!({"type": "identify", "agent_id": agent, "token": token, "capabilities": ["code"]})).await;
    }

    async fn say(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.expect("the socket takes a frame");
    }

    async fn message(&mut self) -> Option<Result<Message, tungstenite::Error>> {
        tokio::time::timeout(crate::support::wait::BOUND, self.0.next()).await.expect("the double to say something")
    }

    async fn frame(&mut self) -> Value {
        let message = self.message().await.expect("an open socket").expect("a message");
        serde_json::from_str(message.to_text().expect("a text")).expect("JSON")
    }

    /// Reads on until the end; the close frame's code and reason, if there was one.
    async fn closed(mut self) -> Option<(u16, String)> {
        let mut close = None;
        while let Some(Ok(message)) = self.message().await {
            if let Message::Close(frame) = message {
                close = frame.map(|frame| (u16::from(frame.code), frame.reason.to_string()));
            }
        }
        close
    }
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_the_socket_stays() {
    let hub = LegacyHub::start();
    let token = hub.register("alice");
    let mut client = Client::connect(&hub).await;
    client.identify("alice", "wrong").await;
    assert_eq!(client.frame().await, json!({"type": "error", "error": "invalid_token"}));
    client.identify("bob", &token).await;
    assert_eq!(client.frame().await, json!({"type": "error", "error": "token_agent_mismatch"}));
    client.say(json!({"type": "ping"})).await;
    assert_eq!(client.frame().await, json!({"type": "error", "error": "not_identified"}));
    client.identify("alice", &token).await;
    assert_eq!(client.frame().await["type"], "identified");
}

#[tokio::test]
async fn types_are_strict_and_lengths_are_limited() {
    let hub = LegacyHub::start();
    let token = hub.register("alice");
    let mut client = Client::identified(&hub, "alice", &token).await;
    client.say(json!({"type": "task_failed", "task_id": 7, "generation": "1", "reason": "x".repeat(2_001)})).await;
    let errors = client.frame().await["errors"].clone();
    let found: Vec<_> =
        errors.as_array().expect("errors").iter().map(|e| (e["field"].clone(), e["error"].clone())).collect();
    let expected = [("generation", "wrong_type"), ("task_id", "wrong_type"), ("reason", "too_long")];
    assert_eq!(found, expected.map(|(field, error)| (json!(field), json!(error))));
}

#[tokio::test]
async fn a_binary_frame_closes_with_1011() {
    let hub = LegacyHub::start();
    let mut client = Client::connect(&hub).await;
    client.0.send(Message::binary(vec![1, 2, 3])).await.expect("the socket takes a frame");
    assert_eq!(client.closed().await.map(|(code, _)| code), Some(1011));
}

#[tokio::test]
async fn the_sixty_first_task_frame_of_a_minute_is_dropped() {
    let hub = LegacyHub::start();
    let token = hub.register("alice");
    let mut client = Client::identified(&hub, "alice", &token).await;
    let mut answers = Vec::new();
    // Sent as fast as they go; a bucket refills one a second, so a few more than 60 pass on a slow machine.
    for _ in 0..100 {
        client.say(json!({"type": "task_accepted", "task_id": "task-x"})).await;
        answers.push(client.frame().await);
        while answers.last().is_some_and(|frame| frame["type"] == "rate_limit_warning") {
            answers.push(client.frame().await);
        }
    }
    let acks = answers.iter().filter(|frame| frame["type"] == "task_ack").count();
    let dropped = answers.iter().find(|frame| frame["type"] == "rate_limited").expect("a dropped frame");
    assert!((60..100).contains(&acks), "{acks} passed");
    assert_eq!(dropped, &json!({"type": "rate_limited", "retry_after_ms": 1000, "tier": "normal"}));
}

#[tokio::test]
async fn an_assignment_not_accepted_in_time_comes_again_two_generations_on() {
    let hub = LegacyHub::start_with(Options { acceptance_ms: 50, ..Options::default() });
    let token = hub.register("alice");
    let mut client = Client::identified(&hub, "alice", &token).await;
    hub.submit("never accepted");
    assert_eq!(client.frame().await["generation"], 1);
    assert_eq!(client.frame().await["generation"], 3);
}

/// Finishes its task, closes at once or once the next task has come, and returns. Answers the generation under which the
/// next task comes then, and after how long.
async fn next_task_after_a_return(hub: &LegacyHub, waits: bool) -> (Value, std::time::Duration) {
    let token = hub.register("alice");
    let mut client = Client::identified(hub, "alice", &token).await;
    let task = hub.submit("whatever");
    assert_eq!(client.frame().await["type"], "task_assign");
    hub.submit("the next one");
    client.say(json!({"type": "task_accepted", "task_id": task})).await;
    assert_eq!(client.frame().await["status"], "accepted");
    client.say(json!({"type": "task_complete", "task_id": task, "generation": 1, "result": {}})).await;
    assert_eq!(client.frame().await["status"], "complete");
    if waits {
        assert_eq!(client.frame().await["generation"], 1);
    }
    client.0.close(None).await.expect("a close frame can be sent");
    crate::support::wait::until_true("the agent to be gone", || !hub.connected("alice"));
    let returned = std::time::Instant::now();
    let mut client = Client::identified(hub, "alice", &token).await;
    (client.frame().await["generation"].clone(), returned.elapsed())
}

#[tokio::test]
async fn a_task_assigned_to_a_connection_that_closes_waits_for_the_acceptance_timer() {
    let acceptance = std::time::Duration::from_secs(2);
    let start = || LegacyHub::start_with(Options { next_task_ms: 100, acceptance_ms: 2_000, ..Options::default() });
    let (generation, after) = next_task_after_a_return(&start(), false).await;
    assert!(generation == 3 && after >= acceptance, "{generation} after {after:?}");
    let (generation, after) = next_task_after_a_return(&start(), true).await;
    assert!(generation == 3 && after < acceptance, "{generation} after {after:?}");
}

#[tokio::test]
async fn a_silent_socket_is_closed_with_1002() {
    let hub = LegacyHub::start_with(Options { silence_ms: Some(50), ..Options::default() });
    let token = hub.register("alice");
    let client = Client::identified(&hub, "alice", &token).await;
    assert_eq!(client.closed().await.map(|(code, _)| code), Some(1002));
    assert!(!hub.connected("alice"));
}

#[tokio::test]
async fn pushes_go_to_the_older_socket_and_the_agent_is_gone_when_it_closes() {
    let hub = LegacyHub::start();
    let token = hub.register("alice");
    let mut older = Client::identified(&hub, "alice", &token).await;
    let _newer = Client::identified(&hub, "alice", &token).await;
    assert!(hub.restart("alice", "which of the two?"));
    assert_eq!(older.frame().await, json!({"type": "restart_sidecar", "reason": "which of the two?"}));
    older.0.close(None).await.expect("a close frame can be sent");
    hub.wait("the older socket's end", |log| log.iter().find(|e| matches!(e.what, What::SidecarClosed(_))).map(|_| ()));
    crate::support::wait::until_true("the agent to be gone", || !hub.connected("alice"));
    assert!(!hub.restart("alice", "nobody there"));
}

#[tokio::test]
async fn a_dropped_link_takes_the_task_back_at_once() {
    let hub = LegacyHub::start();
    let token = hub.register("alice");
    let mut client = Client::identified(&hub, "alice", &token).await;
    let task = hub.submit("whatever");
    assert_eq!(client.frame().await["type"], "task_assign");
    hub.drop_tcp("alice");
    assert_eq!(client.closed().await, None, "no close frame");
    assert_eq!(hub.task(&task).map(|task| (task.status, task.generation)), Some((Status::Queued, 2)));
}

#[tokio::test]
async fn a_frozen_link_answers_nothing_and_the_hub_does_not_notice() {
    let hub = LegacyHub::start();
    let token = hub.register("alice");
    let mut client = Client::identified(&hub, "alice", &token).await;
    hub.freeze("alice");
    client.say(json!({"type": "ping"})).await;
    let task = hub.submit("into the void");
    assert_eq!(hub.task(&task).map(|task| task.status), Some(Status::Assigned));
    let window = std::time::Duration::from_millis(300);
    assert!(tokio::time::timeout(window, client.0.next()).await.is_err(), "nothing passes");
    assert!(hub.connected("alice"));
}

#[tokio::test]
async fn a_lost_answer_leaves_the_verdict_taken() {
    let hub = LegacyHub::start_with(Options { verdicts: Verdicts::LoseAnswer, ..Options::default() });
    let token = hub.register("alice");
    let mut client = Client::identified(&hub, "alice", &token).await;
    let task = hub.submit("whatever");
    client.frame().await;
    let verdict = json!({"type": "task_complete", "task_id": task, "generation": 1, "result": {}});
    client.say(verdict.clone()).await;
    hub.wait_task(&task, Status::Completed);
    hub.set(|options| options.verdicts = Verdicts::Answer);
    client.say(verdict).await;
    assert_eq!(client.frame().await, json!({"type": "error", "error": "task_complete_failed: invalid_state"}));
}

#[tokio::test]
async fn a_verdict_without_an_acceptance_leaves_the_agent_taken_for_busy() {
    let hub = LegacyHub::start_with(Options { acceptance_ms: 200, ..Options::default() });
    let token = hub.register("alice");
    let mut client = Client::identified(&hub, "alice", &token).await;
    let task = hub.submit("whatever");
    assert_eq!(client.frame().await["type"], "task_assign");
    client.say(json!({"type": "task_complete", "task_id": task, "generation": 1, "result": {}})).await;
    assert_eq!(client.frame().await["status"], "complete");
    hub.submit("waits for more than the acceptance timer: for the next event");
    let window = std::time::Duration::from_millis(600);
    assert!(tokio::time::timeout(window, client.0.next()).await.is_err(), "nothing is handed out");
    hub.submit("an event");
    assert_eq!(client.frame().await["type"], "task_assign");
}

#[tokio::test]
async fn a_refused_verdict_leaves_the_agent_taken_for_busy_until_it_identifies_again() {
    let hub = LegacyHub::start();
    let token = hub.register("alice");
    let mut client = Client::identified(&hub, "alice", &token).await;
    let pushed = hub.push_untracked("alice", "not in the queue");
    assert_eq!(client.frame().await["type"], "task_assign");
    client.say(json!({"type": "task_accepted", "task_id": pushed})).await;
    assert_eq!(client.frame().await["status"], "accepted");
    client.say(json!({"type": "task_complete", "task_id": pushed, "generation": 0, "result": {}})).await;
    assert_eq!(client.frame().await["error"], "task_complete_failed: not_found");
    let task = hub.submit("waits");
    assert_eq!(hub.task(&task).map(|task| task.status), Some(Status::Queued));
    client.identify("alice", &token).await;
    assert_eq!(client.frame().await["type"], "identified");
    assert_eq!(client.frame().await["task_id"], json!(task));
}

#[tokio::test]
async fn a_push_that_is_on_its_way_arrives_whoever_identifies_meanwhile() {
    let options = Options { on_return: OnReturn::AfterContinue, hold_ms: 200, ..Options::default() };
    let hub = LegacyHub::start_with(options);
    let token = hub.register("alice");
    let mut client = Client::identified(&hub, "alice", &token).await;
    let task = hub.submit("whatever");
    assert_eq!(client.frame().await["type"], "task_assign");
    hub.drop_tcp("alice");
    assert_eq!(client.closed().await, None);
    let mut client = Client::identified(&hub, "alice", &token).await;
    assert_eq!(hub.task(&task).map(|task| (task.status, task.generation)), Some((Status::Assigned, 3)));
    client.identify("alice", &token).await;
    assert_eq!(client.frame().await["type"], "identified");
    assert_eq!(client.frame().await["generation"], 3);
}

#[tokio::test]
async fn a_task_that_is_overdue_is_taken_back_and_nobody_is_told() {
    let hub = LegacyHub::start();
    let token = hub.register("alice");
    let mut client = Client::identified(&hub, "alice", &token).await;
    let soon = crate::support::legacy_hub::now_ms() + 200;
    let task = hub.submit_task(Task::new("overdue", "whatever").complete_by(soon));
    assert_eq!(client.frame().await["type"], "task_assign");
    client.say(json!({"type": "task_accepted", "task_id": task})).await;
    assert_eq!(client.frame().await["status"], "accepted");
    assert_eq!(hub.wait_task(&task, Status::Queued).generation, 2);
    client.say(json!({"type": "task_complete", "task_id": task, "generation": 1, "result": {}})).await;
    assert_eq!(client.frame().await["error"], "task_complete_failed: invalid_state");
    assert_eq!(hub.task(&task).map(|task| task.status), Some(Status::Queued));
}

#[tokio::test]
async fn a_cancelled_task_is_forgotten() {
    let hub = LegacyHub::start();
    let token = hub.register("alice");
    let mut client = Client::identified(&hub, "alice", &token).await;
    let task = hub.submit("whatever");
    assert_eq!(client.frame().await["type"], "task_assign");
    hub.cancel(&task);
    assert_eq!(client.frame().await["type"], "task_cancelled");
    client.say(json!({"type": "task_complete", "task_id": task, "generation": 1, "result": {}})).await;
    assert_eq!(client.frame().await["error"], "task_complete_failed: not_found");
}

#[tokio::test]
async fn a_crash_leaves_tasks_with_whoever_has_them() {
    let hub = LegacyHub::start();
    let token = hub.register("alice");
    let mut client = Client::identified(&hub, "alice", &token).await;
    let task = hub.submit("whatever");
    assert_eq!(client.frame().await["type"], "task_assign");
    hub.crash();
    assert_eq!(client.closed().await, None, "no close frame");
    let mut client = Client::identified(&hub, "alice", &token).await;
    client.say(json!({"type": "task_recovering", "task_id": task})).await;
    assert_eq!(client.frame().await, json!({"type": "task_continue", "task_id": task, "generation": 1}));
}

#[tokio::test]
async fn a_report_whose_summary_is_no_object_costs_the_connection_after_the_verdict_was_taken() {
    let hub = LegacyHub::start();
    let token = hub.register("alice");
    let mut client = Client::identified(&hub, "alice", &token).await;
    let task = hub.submit("whatever");
    assert_eq!(client.frame().await["type"], "task_assign");
    let report = json!({"status": "pass", "summary": "all well"});
    let verdict =
        json!({"type": "task_complete", "task_id": task, "generation": 1, "result": {}, "verification_report": report});
    client.say(verdict).await;
    assert_eq!(client.closed().await.map(|(code, _)| code), Some(1011));
    assert_eq!(hub.task(&task).map(|task| task.status), Some(Status::Completed));
}

#[tokio::test]
async fn a_hub_that_is_down_takes_no_connection_and_is_back_on_the_same_port() {
    let hub = LegacyHub::start();
    let token = hub.register("alice");
    let client = Client::identified(&hub, "alice", &token).await;
    hub.refuse_connections(true);
    assert_eq!(client.closed().await, None, "no close frame");
    assert!(tokio_tungstenite::connect_async(hub.url()).await.is_err());
    hub.refuse_connections(false);
    Client::identified(&hub, "alice", &token).await;
}
