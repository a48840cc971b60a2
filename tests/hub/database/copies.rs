//! The same suite for both stores: what is committed is loaded; and one becomes the other.

use std::path::Path;
use std::process::Output;

use agentcom::hub::scheduler::policy::Policy;
use agentcom::hub::scheduler::restart::RestartRequest;
use agentcom::hub::scheduler::task::{Priority, Submission};
use agentcom::hub::scheduler::{Changes, Scheduler};
use agentcom::hub::state::clock_mark::ClockMark;
use agentcom::hub::state::store::{StateChanges, Store, Stored, WithoutStore};
use agentcom::protocol::{Identify, JsonFields, JsonText};

use super::{commit, held, leader, setting};
use crate::postgres::Postgres;
use crate::support::{folder, hub_command};

const NOW: u64 = 1_795_506_418_903;

/// A text that `text` and `jsonb` of PostgreSQL refuse, and what is no ASCII.
const TEXT: &str = "a\u{0}b \u{fffd} ä \\ '";

fn submission(description: &str) -> Submission {
    Submission {
        description: description.to_owned(),
        metadata: JsonText::of(&serde_json::json!({"k": TEXT})),
        priority: Priority::Normal,
        max_retries: 3,
        needed_capabilities: Vec::new(),
        extra: JsonFields::default(),
        submitted_by: "ops".to_owned(),
        submitter_since: None,
    }
}

/// Commits what a hub with an agent and a few tasks would, in several batches, one of which deletes.
fn fill(store: &Store) {
    let mut scheduler = Scheduler::load(Vec::new(), Vec::new(), Policy { keep_finished: 1, ..Policy::default() }, NOW);
    let mark = |at_ms| Some(ClockMark { at_ms, steady_ms: 7, boot: u64::MAX });
    let store_all = |scheduler: &mut Scheduler, aside: StateChanges| {
        scheduler.flush_inventory(agentcom::hub::scheduler::inventory::Flush::Last, NOW);
        store.commit(&scheduler.take_changes(), &StateChanges { clock: mark(NOW), ..aside }).unwrap();
        drop(scheduler.take_outgoing());
    };
    let identify = Identify { agent_id: "a".to_owned(), boot_id: Some("b".to_owned()), ..Identify::default() };
    scheduler.identified(1, &identify, "10.0.0.1:1", NOW);
    scheduler.submit("task-1".to_owned(), submission(TEXT), NOW);
    store_all(&mut scheduler, setting(TEXT));
    for n in 2..6 {
        scheduler.submit(format!("task-{n}"), submission("d"), NOW + n);
        store_all(&mut scheduler, StateChanges::default());
    }
    let request = RestartRequest { reason: TEXT.to_owned(), deadline_ms: None, force: false, by: "ops".to_owned() };
    scheduler.command_restart("restart-1".to_owned(), "a", request, NOW + 9);
    // Two ended tasks, of which one is kept: the other is deleted.
    scheduler.cancel("task-4", "ops", NOW + 10).unwrap();
    scheduler.cancel("task-5", "ops", NOW + 11).unwrap();
    store_all(&mut scheduler, setting("last"));
}

fn text(stored: &Stored) -> String {
    format!("{stored:#?}")
}

fn file_store(folder: &Path) -> Store {
    Store::open(folder, WithoutStore::Make).unwrap()
}

fn run(arguments: &[&str]) -> Output {
    let output = hub_command().args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output
}

#[test]
fn what_is_committed_to_a_file_is_loaded() {
    let folder = folder();
    let store = file_store(folder.path());
    fill(&store);
    let stored = store.load().unwrap();
    assert_eq!((stored.tasks.len(), stored.restarts.len(), stored.agents.len()), (4, 1, 1));
    assert_eq!(stored.clock, Some(ClockMark { at_ms: NOW, steady_ms: 7, boot: u64::MAX }));
    assert_eq!(held(&store), (Some("last".to_owned()), vec!["last".to_owned(), TEXT.to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_to_a_database_is_loaded_as_from_a_file() {
    let Some(server) = Postgres::shared() else { return };
    let folder = folder();
    let (file, database) = (file_store(folder.path()), leader(&server.new_database(), "a").await);
    fill(&file);
    fill(&database);
    assert_eq!(text(&database.load().unwrap()), text(&file.load().unwrap()));
    assert_eq!(held(&database), held(&file));
    assert!(database.bytes() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_becomes_a_database_and_a_file_again() {
    let Some(server) = Postgres::shared() else { return };
    let (first, nodes, last) = (folder(), folder(), folder());
    fill(&file_store(first.path()));
    let (url, backup) = (server.new_database(), nodes.path().join("backup.redb"));
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (data, out) = (path(nodes.path()), path(&backup));
    run(&["backup", "--data", &path(first.path()), "--out", &out]);
    run(&["restore", &out, "--store", &url, "--data", &data]);
    let database = leader(&url, "a").await;
    assert_eq!(text(&database.load().unwrap()), text(&file_store(first.path()).load().unwrap()));
    commit(&database, &setting("in the database")).unwrap();

    // A restore in place of a leader is refused; a backup beside it is not.
    let refused = hub_command().args(["restore", &out, "--store", &url, "--data", &data]).output().unwrap();
    assert_eq!(refused.status.code(), Some(76), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the hub of a leads"), "{refused:?}");
    run(&["backup", "--store", &url, "--out", &out, "--force"]);
    run(&["restore", &out, "--data", &path(last.path())]);
    let file = file_store(last.path());
    assert_eq!(text(&database.load().unwrap()), text(&file.load().unwrap()));
    assert_eq!(held(&database), held(&file));
    file.commit(&Changes::default(), &setting("in the file")).unwrap();
    assert_eq!(held(&file).1.len(), 4);

    // What a restore replaces is kept.
    drop((database, file));
    let begun = std::time::Instant::now();
    let restored = loop {
        let restored = hub_command().args(["restore", &out, "--store", &url, "--data", &data]).output().unwrap();
        if restored.status.success() {
            break String::from_utf8_lossy(&restored.stdout).into_owned();
        }
        assert!(begun.elapsed() < crate::support::PATIENCE, "{restored:?}");
    };
    assert!(restored.contains("hub.postgres.before-restore-"), "{restored}");
}

/// On a machine where the variable names what all nodes share, a file is restored into a folder as ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_of_a_database_only_where_the_command_says_so() {
    let Some(server) = Postgres::shared() else { return };
    let (url, first, fresh) = (server.new_database(), folder(), folder());
    fill(&file_store(first.path()));
    let [out, copy, data, new] =
        [first.path().join("out"), first.path().join("copy"), first.path().to_owned(), fresh.path().join("data")]
            .map(|path| path.to_str().unwrap().to_owned());
    let run = |variable: &str, arguments: &[&str]| {
        let output = hub_command().args(arguments).env("AGENTCOM_HUB_STORE", variable).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let done = (Some(0), String::new());
    assert_eq!(run(&url, &["backup", "--data", &data, "--out", &out]), done);
    assert_eq!(run(&url, &["restore", &out, "--data", &new]), done);
    assert!(Store::path_in(new.as_ref()).exists());
    assert_eq!(server.sql_at(&url, "select to_regclass('agentcom.leader') is null"), "t", "it was touched");
    assert_eq!(run(&url, &["restore", &out, "--data", &new, "--store"]), done);
    assert_eq!(run(&url, &["backup", "--out", &copy, "--store"]), done);
    assert!(server.sql_at(&url, "select count(*) from agentcom.audit") != "0");
    let (code, said) = run("", &["backup", "--out", &copy, "--force", "--store"]);
    assert!(code == Some(2) && said.contains("takes it from AGENTCOM_HUB_STORE, which is not set"), "{said}");
}
