//! The property that what the sidecar takes it reads again, and a hub too: assignments and results, through the journal
//! and back, and on as frames. (That what commands print and hooks answer makes such results is shown beside them.)

use std::cell::Cell;

use proptest::prelude::*;

use crate::codec::{Identity, decode_frame, encode_frame};
use crate::common::logging::Redactor;
use crate::common::secret::Secret;
use crate::machine::{Event, FromHub, Journal, Outcome, ParkedTask, PersistedJob, Stage, Task, TaskId, ToHub, Verdict};
use crate::protocol::schema::{Incoming, read_frame};
use crate::protocol::tests::any_text;
use crate::protocol::{Document, JsonError, JsonFields, Labels, MAX_RESULT_DEPTH, Pm2Info};
use crate::sidecar::agent::results::ResultsEvent;
use crate::sidecar::agent::results::outcome::ResultContent;
use crate::sidecar::agent::supervised::RunRequest;
use crate::sidecar::journal::{Boot, Found, from_bytes, to_bytes};
use crate::sidecar::shell::adapter_events::results_event;

fn reads_back(journal: &Journal) {
    let bytes = to_bytes(journal, &JsonFields::default());
    match from_bytes(&bytes, Boot { id: "b", since_ms: None }).unwrap() {
        Found::Journal { journal: read, other, unread, replaced } => {
            assert_eq!((&*read, other.is_empty(), unread.len(), replaced), (journal, true, 0, 0));
        }
        Found::Newer { schema } => panic!("schema {schema}"),
    }
}

/// Whatever is said is a frame that our hub takes.
fn is_taken(what: ToHub) {
    let who = Identity {
        agent_id: "a".into(),
        token: Secret::new("t"),
        capabilities: vec!["[[[".into()],
        labels: Labels::new(),
        ollama_url: None,
        boot_id: "b".into(),
        previous: None,
        expected_back_ms: 1,
        silence_bound_ms: 2,
    };
    let text = encode_frame(what, &who, Pm2Info::default).to_text();
    assert!(matches!(read_frame(&text).0, Incoming::Frame(_)), "{text}");
}

fn id() -> TaskId {
    TaskId::new("t").unwrap()
}

/// In hand, parked, and asked about.
fn a_task_is_kept(task: &Task) {
    let persisted = PersistedJob {
        task: task.clone(),
        stage: Stage::Running,
        woken: Some(1),
        machine_boot: "b".into(),
        assigned_at: None,
        limit: None,
    };
    let parked = vec![ParkedTask::UnderWay(persisted.clone())];
    reads_back(&Journal { job: Some(persisted), parked, ..Journal::default() });
    is_taken(ToHub::TaskRecovering { task: task.clone(), last_status: "working" });
}

/// In the outbox, parked, and said.
fn a_result_is_kept(content: ResultContent) -> bool {
    let found = ResultsEvent::Result { task_id: "t".into(), content };
    let event = results_event(found, &Redactor::new(&[Secret::new("t0ken")]));
    let Event::ResultFound { outcome, .. } = event else { panic!("{event:?}") };
    let verdict = Verdict {
        task_id: id(),
        generation: 1,
        outcome: outcome.clone(),
        accept_first: false,
        no_session_came: false,
        result_read: false,
        refusals: 0,
    };
    reads_back(&Journal { outbox: vec![verdict], ..Journal::default() });
    match outcome {
        Outcome::Completed { result } => {
            let parked = vec![ParkedTask::Finished { task_id: id(), generation: 1, result: result.clone() }];
            reads_back(&Journal { parked, ..Journal::default() });
            is_taken(ToHub::TaskComplete { task_id: id(), generation: 1, result });
            true
        }
        Outcome::Failed { reason } => {
            is_taken(ToHub::TaskFailed { task_id: "t".into(), generation: 1, reason });
            false
        }
    }
}

fn result_text() -> impl Strategy<Value = String> {
    (any_text::value(), prop::sample::select(&["deep", "reason", "verification_report"][..]), any::<bool>()).prop_map(
        |(value, field, good)| {
            let status = if good { "success" } else { "failed" };
            format!(r#"{{"status":"{status}","{field}":{value}}}"#)
        },
    )
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn an_assignment_is_read_back_from_the_journal_and_asked_about_in_a_frame_that_a_hub_takes() {
    let field =
        prop::sample::select(&["metadata", "description", "verification_steps", "routing_decision", "novel"][..]);
    proptest!(config(500), |(field in field, value in any_text::value())| {
        let text = format!(r#"{{"type":"task_assign","{field}":{value},"task_id":"t","generation":2}}"#);
        let heard = decode_frame(&text, "alice");
        let FromHub::Assigned { task, .. } = heard else { panic!("lost: {heard:?} of {text}") };
        a_task_is_kept(&task);
    });
}

#[test]
fn a_result_is_read_back_from_the_journal_and_said_in_a_frame_that_a_hub_takes() {
    let completed = Cell::new(0);
    proptest!(config(500), |(text in result_text())| {
        let content = match Document::check(text.as_bytes(), MAX_RESULT_DEPTH) {
            Ok(document) => ResultContent::of(document.to_text()),
            Err(JsonError::Refused(refusal)) => ResultContent::refused("t.json", &refusal),
            Err(other @ (JsonError::NotJson(_) | JsonError::NotAnObject)) => panic!("{other:?}"),
        };
        completed.set(completed.get() + usize::from(a_result_is_kept(content)));
    });
    assert!(completed.get() > 50, "too few are taken to show anything: {}", completed.get());
}

#[test]
fn an_order_to_run_a_command_is_read_as_it_was_given() {
    proptest!(config(200), |(command in any_text::value(), secret in ".{0,20}")| {
        let order = RunRequest {
            task_id: "t".into(),
            generation: u64::MAX,
            command: RunRequest::shell(&command),
            cwd: "/".into(),
            timeout_ms: Some(1),
            results_dir: "/r".into(),
            scratch_dir: "/s".into(),
            machine_boot: "b".into(),
            secrets: vec![secret],
        };
        let text = serde_json::to_vec(&order).unwrap();
        prop_assert_eq!(serde_json::from_slice::<RunRequest>(&text).unwrap(), order);
    });
}
