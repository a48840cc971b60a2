use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::sidecar::admin::pm2_channel::{actions, metrics};
use crate::sidecar::admin::status::Status;

/// A status with these texts and this number wherever there is one.
fn status(texts: &[String], number: u64) -> Status {
    let mut next = texts.iter().cycle().cloned();
    let mut text = || next.next().unwrap();
    let value = json!({
        "agent_id": text(), "version": text(), "phase": text(), "why": text(), "draining": number.is_multiple_of(2),
        "process": {"pid": 7, "boot_id": text(), "uptime_ms": number, "memory_bytes": number, "config": text(),
                    "results_dir": text()},
        "task": {"task_id": text(), "generation": number, "stage": text(), "waits_for": text(), "recovering": false,
                 "age_ms": number, "assigned_at_ms": number},
        "leaving": {"kind": text(), "reason": text(), "command_id": text(), "by": text(), "deadline_in_ms": number},
        "next": {"wait": text(), "in_ms": number},
        "hub": {"url": text(), "link": text(), "detail": text(), "online_for_ms": number, "latency_ms": number,
                "reconnects": number, "features": [text()]},
        "journal": {"file": text(), "writable": true, "shelf": [text()],
                    "outbox": [{"task_id": text(), "generation": number, "verdict": text()}]},
        "supervisor": {"kind": text(), "name": text(), "pm_id": 0, "restart_count": number, "kill_timeout_ms": number,
                       "restart_by": text(), "because": text()},
        "restarts": [{"reason": text(), "command_id": text(), "forced": true, "left_at_ms": number, "gap_ms": number}],
        "counts": {"taken": number, "completed": number, "failed": number, "refused": number, "wakes": number,
                   "failed_writes": number},
    });
    serde_json::from_value(value).unwrap()
}

/// Everything that is ever said of this status, and about this action.
fn messages(status: &Status, name: &str, message: &str) -> Vec<Message> {
    let answer = CommandResult::refused(message);
    let reply = |returned| Message::Axm(Axm::Reply { action_name: name.to_owned(), returned });
    let mut messages = metrics::everything(status);
    messages.extend(actions::announcements());
    messages.extend([
        Message::Ready,
        reply(Returned::CommandResult(answer)),
        reply(Returned::Status(Box::new(status.clone()))),
    ]);
    messages
}

/// What pm2 would make of the bytes: `JSON.parse` of each line, and then a look at its properties.
fn survives(bytes: &[u8]) -> bool {
    let text = core::str::from_utf8(bytes).unwrap();
    let lines: Vec<&str> = text.strip_suffix('\n').unwrap().split('\n').collect();
    lines.len() == 1 && serde_json::from_str::<Value>(lines[0]).is_ok_and(|value| value == "ready" || value.is_object())
}

/// Any text, and those that have broken lines before.
fn text() -> impl Strategy<Value = String> {
    let odd = ["\n", "\r\n", "\0", "null", "\"", "\\", "\u{2028}", "NaN", "{}", "\u{1b}[2J", "\u{feff}", "}\nnull\n{"];
    prop_oneof![
        any::<String>(),
        proptest::sample::select(odd.to_vec()).prop_map(str::to_owned),
        ("\\PC{0,3}", 0..70_000_usize).prop_map(|(piece, times)| piece.repeat(times)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn nothing_from_outside_makes_a_bad_line(
        texts in proptest::collection::vec(text(), 1..6), number: u64, name in text(), message in text(),
    ) {
        for message in messages(&status(&texts, number), &name, &message) {
            match ChannelLine::of(&message) {
                Ok(line) => prop_assert!(survives(&line.into_bytes())),
                // Held back whole: only what has its size from outside.
                Err(BadLine::TooLong { .. }) => prop_assert!(matches!(message, Message::Axm(Axm::Reply { .. })), "too long"),
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
    }

    #[test]
    fn what_would_end_pm2_is_no_line(text in text()) {
        if check(&text).is_ok() {
            let line = text + "\n";
            prop_assert!(survives(line.as_bytes()), "a bad line passed");
        }
    }
}

#[test]
fn only_known_shapes_pass() {
    let bad = [
        "",
        "null",
        "1",
        "[]",
        "{}",
        "ready",
        "\"shutdown\"",
        "\"ready\" ",
        "{\"type\":\"axm:monitor\"}",
        "{\"type\":\"error\",\"data\":{}}",
        "{\"type\":\"axm:monitor\",\"data\":null}",
        "{\"type\":\"axm:monitor\",\"data\":{},\"cmd\":\"NODE_x\"}",
        "{\"type\":\"axm:reply\",\"data\":{}",
        "{\"type\":\"axm:option:configuration\",\"data\":{\"pid\":1}}",
        "{\"type\":\"axm:monitor\",\n\"data\":{}}",
    ];
    for text in bad {
        assert!(check(text).is_err(), "{text}");
    }
    assert_eq!(check("{\"type\":\"axm:monitor\",\"data\":{}}"), Ok(()));
}

#[test]
fn the_lines_are_the_ones_that_pm2_knows() {
    let line = |message| String::from_utf8(ChannelLine::of(&message).unwrap().into_bytes()).unwrap();
    assert_eq!(line(Message::Ready), "\"ready\"\n");
    let action = actions::announcements().next().unwrap();
    assert_eq!(
        line(action),
        "{\"type\":\"axm:action\",\"data\":{\"action_name\":\"status\",\"action_type\":\"custom\",\"arity\":0}}\n"
    );
    let reply =
        Axm::Reply { action_name: "drain".into(), returned: Returned::CommandResult(CommandResult::refused("no")) };
    assert_eq!(
        line(Message::Axm(reply)),
        "{\"type\":\"axm:reply\",\"data\":{\"action_name\":\"drain\",\"return\":{\"ok\":false,\"message\":\"no\"}}}\n"
    );
}
