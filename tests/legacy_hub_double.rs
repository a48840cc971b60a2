//! The double of the existing hub against recorded conversations of the real one: every recorded sidecar frame is fed to
//! it at its recorded time, and what it says must be what the real hub said, connection by connection, in order. Some
//! more of its habits that no recording shows are tried over real sockets.

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::legacy_hub::core::{Core, Out};
use support::legacy_hub::{OnReturn, Options, Task};

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
            (None, _) => match line.event.as_ref().and_then(|event| event["ev"].as_str()) {
                // In the half-open story the hub does not notice that the sidecar has left.
                Some("hub_close" | "CTL_drop") => hub.closed(line.connection, now),
                Some(_) | None => {}
            },
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
    let options =
        Options { on_return, hold_ms, presence_pushes: false, silence_ms: None, ..Options::default() };
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
        include_str!(concat!("transcripts/", $name, ".jsonl"))
    };
}

#[test]
fn a_task_through_wake_as_recorded() {
    same_conversation(recording!("task-through-wake"), OnReturn::AssignFirst, 0, &[]);
}

#[test]
fn a_restart_while_working_as_recorded() {
    same_conversation(recording!("restart-while-working"), OnReturn::AssignFirst, 0, &[]);
}

#[test]
fn a_restart_while_waking_as_recorded() {
    same_conversation(recording!("restart-while-waking"), OnReturn::ContinueFirst, 1_000, &[]);
}

#[test]
fn a_restart_while_awaiting_confirmation_as_recorded() {
    same_conversation(recording!("restart-while-awaiting-confirmation"), OnReturn::AssignFirst, 0, &[]);
}

#[test]
fn an_assignment_in_the_exit_window_as_recorded() {
    same_conversation(recording!("assignment-in-the-exit-window"), OnReturn::AssignFirst, 0, &[]);
}

#[test]
fn a_kill_mid_task_as_recorded() {
    same_conversation(recording!("killed-mid-task-then-recovered"), OnReturn::AssignFirst, 0, &[]);
}

#[test]
fn a_result_while_the_sidecar_is_down_as_recorded() {
    same_conversation(recording!("result-while-sidecar-down"), OnReturn::AssignFirst, 0, &[]);
}

#[test]
fn a_link_dropped_mid_task_as_recorded() {
    same_conversation(recording!("link-dropped-mid-task"), OnReturn::ReassignFirst, 1_000, &[]);
}

#[test]
fn a_flapping_link_as_recorded() {
    // 27 and 34 were cut some milliseconds after the task they asked about was theirs again.
    same_conversation(recording!("flapping-link"), OnReturn::ReassignFirst, 23, &[27, 34]);
}

#[test]
fn a_half_open_old_socket_as_recorded() {
    same_conversation(recording!("half-open-old-socket"), OnReturn::AssignFirst, 0, &[]);
}

#[test]
fn eleven_times_busy_then_1008_as_recorded() {
    same_conversation(recording!("busy-eleven-times-then-1008"), OnReturn::AssignFirst, 0, &[]);
}
