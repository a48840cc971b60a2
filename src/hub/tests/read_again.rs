//! The property that what the hub takes it reads again, and a sidecar too: bodies and frames, through the store and back,
//! and on as frames.

use std::cell::RefCell;

use axum::body::Bytes;
use axum::http::HeaderMap;
use proptest::prelude::*;

use crate::hub::http::credentials::{Credentials, LocalUser};
use crate::hub::http::reply::{caller_of, read_body};
use crate::hub::http::tasks::{TASK_FIELDS, parse_submission};
use crate::hub::hub_state::Snapshot;
use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::restart::RestartRequest;
use crate::hub::scheduler::task::Task;
use crate::hub::scheduler::{Outgoing, Scheduler};
use crate::hub::state::audit::Via;
use crate::hub::state::store::{StateChanges, Store, WithoutStore};
use crate::protocol::schema::{Incoming, read_frame};
use crate::protocol::tests::any_text;
use crate::protocol::{Document, HubFrame, Identify, MAX_JSON_DEPTH, SidecarFrame};

/// A scheduler whose changes go through a store.
struct Stored {
    store: Store,
    _folder: tempfile::TempDir,
}

impl Stored {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: Store::open(folder.path(), WithoutStore::Make).unwrap(), _folder: folder }
    }

    /// Stores what changed; what is read back is what the scheduler has.
    fn reads_back(&self, scheduler: &mut Scheduler) {
        let changes = scheduler.take_changes();
        let tasks: Vec<Task> = changes.tasks.iter().filter_map(|(_, task)| task.cloned()).collect();
        let restarts: Vec<_> = changes.restarts.iter().filter_map(|(_, restart)| restart.cloned()).collect();
        self.store.commit(&changes, &StateChanges::default()).unwrap();
        let stored = self.store.load().unwrap();
        assert_eq!(stored.unread, []);
        for task in tasks {
            assert_eq!(stored.tasks.iter().find(|stored| stored.id == task.id), Some(&task));
        }
        for restart in restarts {
            assert_eq!(stored.restarts.iter().find(|stored| stored.command_id == restart.command_id), Some(&restart));
        }
    }
}

/// Every frame that is said is one that a sidecar takes.
fn said_is_taken(scheduler: &mut Scheduler) {
    for say in scheduler.take_outgoing() {
        if let Outgoing::Frame { text, .. } = say {
            // Beside the frames that it has a use for are those of the original hub.
            if text != r#"{"type":"status_updated"}"# {
                HubFrame::parse(&text).unwrap();
            }
            Document::check(text.as_bytes(), MAX_JSON_DEPTH).unwrap();
        }
    }
}

fn body() -> impl Strategy<Value = String> {
    let object = || any_text::object("a");
    (any_text::value(), object(), any_text::value(), object()).prop_map(|(any, metadata, hint, step)| {
        // A field that is not taken is left out of some, so that the others have their turn.
        let fields = [
            format!(r#","metadata":{metadata}"#),
            format!(r#","file_hints":[{{"a":{hint}}}]"#),
            format!(r#","verification_steps":[{step}]"#),
            format!(r#","unknown":{any}"#),
        ];
        let some = fields.iter().filter(|field| field.len() % 3 != 0).map(String::as_str).collect::<String>();
        format!(r#"{{"description":"d"{some}}}"#)
    })
}

fn frame() -> impl Strategy<Value = String> {
    const KINDS: &[&str] = &[
        r#""type":"task_complete","task_id":"t","generation":1,"result":"#,
        r#""type":"task_complete","task_id":"t","generation":1,"result":{"status":"success"},"verification_report":"#,
        r#""type":"task_complete","task_id":"t","generation":1,"tokens_used":"#,
        r#""type":"task_progress","task_id":"t","execution_event":"#,
        r#""type":"task_failed","task_id":"t","generation":1,"reason":"r","x":"#,
        r#""type":"task_recovering","task_id":"t","metadata":"#,
        r#""type":"resource_report","cpu_percent":1,"x":"#,
        r#""type":"restart_ack","command_id":"c","outcome":"accepted","x":"#,
        r#""type":"agent_restarting","reason":"r","x":"#,
        r#""type":"status","status":"s","x":"#,
    ];
    let value = prop_oneof![any_text::object("a"), any_text::value()];
    (prop::sample::select(KINDS).prop_map(str::to_owned), value).prop_map(|(kind, value)| format!("{{{kind}{value}}}"))
}

#[test]
fn what_a_body_or_a_frame_says_is_read_back_from_the_store_and_taken_by_a_sidecar() {
    let stored = Stored::new();
    let taken = RefCell::new((0, 0));
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    let ops = Credentials::Local(LocalUser { uid: 0, via: Via::Socket });
    let ops = caller_of(&Snapshot::default(), &ops).unwrap();
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(body in body(), frames in prop::collection::vec(frame(), 1..4), capability in any_text::value())| {
        let read = read_body(&headers, Ok(Bytes::from(body)), TASK_FIELDS);
        let mut scheduler = Scheduler::load(Vec::new(), Vec::new(), Policy::default(), 0);
        if let Ok(submission) = read.and_then(|body| parse_submission(body, &ops)) {
            taken.borrow_mut().0 += 1;
            scheduler.submit("t".into(), submission, 1);
            stored.reads_back(&mut scheduler);
        }
        let identify = format!(r#"{{"type":"identify","agent_id":"a","token":"t","capabilities":["code",{capability}]}}"#);
        let identify = match read_frame(&identify).0 {
            Incoming::Frame(SidecarFrame::Identify(identify)) => *identify,
            Incoming::Frame(_) | Incoming::Ignored | Incoming::NotJson | Incoming::Invalid { .. } => {
                Identify { agent_id: "a".into(), ..Identify::default() }
            }
        };
        scheduler.identified(1, &identify, "10.0.0.1:1", 2);
        let request = RestartRequest { reason: "r".into(), deadline_ms: None, force: false, by: "ops".into() };
        scheduler.command_restart("c".into(), "a", request, 3);
        stored.reads_back(&mut scheduler);
        said_is_taken(&mut scheduler);
        for text in frames {
            if let Incoming::Frame(frame) = read_frame(&text).0 {
                taken.borrow_mut().1 += 1;
                scheduler.frame_received(1, frame, 4);
                stored.reads_back(&mut scheduler);
                said_is_taken(&mut scheduler);
            }
        }
    });
    let (bodies, frames) = taken.into_inner();
    assert!(bodies > 20 && frames > 40, "too few are taken to show anything: {bodies} and {frames}");
}
