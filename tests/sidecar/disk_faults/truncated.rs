//! `queue.json` cut off at every byte, as a disk may leave it that lies about fsync.

use std::fs;

use agentcom::common::fs::atomic_file::{ReadOutcome, read_or_quarantine};
use agentcom::machine::{
    Journal, LateSession, OpenRestart, Outcome, ParkedTask, PersistedJob, RestartLedger, Stage as JobStage, Task,
    TaskId, Timestamp, Verdict,
};
use agentcom::sidecar::journal;
use agentcom::sidecar::journal::{Boot, Found};
use serde_json::json;

use crate::support::hub::Hub;
use crate::support::sidecar::Agent;

const BOOT: Boot<'static> = Boot { id: "this-boot", since_ms: None };

fn persisted(id: &str) -> PersistedJob {
    let payload = json!({"task_id": id, "generation": 3, "description": "wörk", "metadata": {"k": [1, null]}});
    PersistedJob {
        task: Task { id: TaskId::new(id).unwrap(), generation: 3, payload: payload.to_string().into() },
        stage: JobStage::Running,
        woken: Some(3),
        machine_boot: "this-boot".into(),
        assigned_at: Some(42),
        limit: None,
    }
}

/// One with something in every part.
fn journal() -> Journal {
    let id = |id| TaskId::new(id).unwrap();
    Journal {
        stopped: true,
        job: Some(persisted("t-1")),
        parked: vec![
            ParkedTask::UnderWay(persisted("t-2")),
            ParkedTask::Finished { task_id: id("t-3"), generation: 1, result: r#"{"status":"success"}"#.into() },
        ],
        late_sessions: vec![LateSession { task_id: id("t-5"), machine_boot: "this-boot".into() }],
        outbox: vec![Verdict {
            task_id: id("t-4"),
            generation: 9,
            outcome: Outcome::failed("no"),
            accept_first: false,
            no_session_came: true,
            result_read: false,
            refusals: 0,
        }],
        restarts: RestartLedger {
            recent: vec![Timestamp::from_millis(5)],
            open: Some(OpenRestart {
                command_id: Some("c1".into()),
                reason: "r".into(),
                forced: true,
                leaving_at: None,
            }),
            returned: None,
            seen: vec!["c1".into()],
            cancelled: vec![],
        },
        cordoned: true,
    }
}

#[test]
fn at_any_byte_it_is_moved_aside_whole() {
    let whole = journal::to_bytes(&journal(), &agentcom::protocol::JsonFields::default());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queue.json");
    // Without its last newline it is the whole journal still.
    for length in 0..whole.len() - 1 {
        fs::write(&file, &whole[..length]).unwrap();
        match read_or_quarantine(&file, 1 << 20, |bytes| journal::from_bytes(bytes, BOOT)).unwrap() {
            ReadOutcome::Quarantined { moved_to, why } => {
                assert!(!why.is_empty());
                assert!(!file.exists(), "cut at {length}: it still stands there");
                assert_eq!(fs::read(&moved_to).unwrap(), whole[..length], "cut at {length}");
                fs::remove_file(moved_to).unwrap();
            }
            ReadOutcome::Missing => panic!("cut at {length}: read as if there were none"),
            ReadOutcome::Parsed(found) => panic!("cut at {length}: read as {found:?}"),
        }
    }
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let found = read_or_quarantine(&file, 1 << 20, |bytes| journal::from_bytes(bytes, BOOT)).unwrap();
    assert!(matches!(found, ReadOutcome::Parsed(Found::Journal { journal: found, .. }) if *found == journal()));
}

/// The real binary, with a task under way, at twelve places spread over its journal.
#[test]
fn the_sidecar_says_so_keeps_the_file_and_the_task_is_done() {
    const CUTS: usize = 12;
    let hub = Hub::start();
    let agent = Agent::new("alice", &hub.url(), &hub.register("alice"));
    agent.configure("reconnect_min_ms", json!(10));
    agent.configure("results_scan_ms", json!(20));
    agent.configure("confirmation_timeout_ms", json!(5_000));
    for cut in 0..CUTS {
        let mut sidecar = agent.start();
        let task = hub.submit("run=hold");
        agent.wait_run(&task, "started");
        sidecar.kill9();
        let whole = fs::read(agent.path("queue.json")).unwrap();
        let torn = &whole[..(whole.len() - 2) * cut / (CUTS - 1)];
        fs::write(agent.path("queue.json"), torn).unwrap();
        agent.go("run", &task);
        agent.wait_run(&task, "finished");
        let before = quarantined(&agent).len();
        let mut sidecar = agent.start();
        let moved_to = agent.wait_log("the journal was moved aside", |line| {
            let moved_to = line["moved_to"].as_str()?;
            let new = quarantined(&agent).len() > before && line["level"] == "ERROR" && !line["why"].is_null();
            (new && fs::read(moved_to).ok()? == torn).then(|| moved_to.to_owned())
        });
        assert!(moved_to.contains("queue.json.corrupt-"), "{moved_to}");
        let done = hub.wait_task(&task, "completed");
        let completed =
            done["history"].as_array().unwrap().iter().filter(|entry| entry["event"] == "completed").count();
        assert_eq!(completed, 1, "cut {cut}: {done}");
        sidecar.kill9();
    }
    assert_eq!(quarantined(&agent).len(), CUTS);
}

fn quarantined(agent: &Agent) -> Vec<String> {
    let entries = fs::read_dir(agent.folder()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(".corrupt-")).collect()
}
