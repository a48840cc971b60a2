//! The agent's side without processes and files: wake commands that take their time or fail, sessions that live on when
//! the sidecar dies, and results that appear at times which the seed decides.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentcom::machine::{ResultFile, WakeOutcome};
use agentcom::sidecar::agent::results::outcome::ResultContent;
use agentcom::sidecar::agent::results::{MadeOf, ResultsConfig, ResultsEvent};
use agentcom::sidecar::agent::side::{AgentSide, Results, Wakes};
use agentcom::sidecar::agent::wake::{RunnerConfig, WakeEvent, WakeOrder};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::shared::{World, lock};

pub struct Agent(pub World);

impl AgentSide for Agent {
    fn wakes(&self, config: RunnerConfig, events: mpsc::Sender<WakeEvent>) -> Arc<dyn Wakes> {
        Arc::new(Sessions { world: self.0.clone(), events, scratch_dir: config.scratch_dir })
    }

    fn results(&self, _: ResultsConfig, events: mpsc::Sender<ResultsEvent>) -> Box<dyn Results> {
        let folder = Folder { world: self.0.clone(), looked: Arc::default(), events };
        tokio::spawn(folder.clone().patrol());
        Box::new(folder)
    }
}

struct Sessions {
    world: World,
    events: mpsc::Sender<WakeEvent>,
    scratch_dir: PathBuf,
}

impl Wakes for Sessions {
    fn start(&self, order: WakeOrder) {
        let WakeOrder { task_id, generation, attempt, .. } = order;
        let (wake_ms, fails) = {
            let mut shared = lock(&self.world);
            shared.note(&format!("wake for {task_id}.{generation}.{attempt}"));
            shared.woken(&task_id, generation);
            let (now, wake_ms, fails) = (shared.now, shared.rng.between(10, 300), shared.rng.one_in(8));
            let shown = now + wake_ms + shared.rng.between(0, 800);
            let done = shown + shared.rng.between(20, 4_000);
            if !fails {
                shared.started.entry(task_id.clone()).or_insert(shown);
                shared.results.entry(task_id.clone()).or_insert(done);
            }
            (wake_ms, fails)
        };
        let (world, events) = (self.world.clone(), self.events.clone());
        tokio::spawn(async move {
            sleep(Duration::from_millis(wake_ms)).await;
            let outcome = if fails { WakeOutcome::Failed { error: "exit 1".into() } } else { WakeOutcome::Succeeded };
            let event = WakeEvent { task_id: task_id.clone(), generation, attempt, outcome };
            if events.send(event).await.is_ok() && fails {
                lock(&world).wake_failed(&task_id, generation);
            }
        });
    }

    fn answer(&self, event: WakeEvent) {
        let events = self.events.clone();
        tokio::spawn(async move {
            // A sidecar that is gone wants no event.
            let _ = events.send(event).await;
        });
    }

    fn scratch_dir(&self) -> &Path {
        &self.scratch_dir
    }

    fn clean_up(&self, _: &str) {}
}

#[derive(Default)]
struct Looked {
    watched: Vec<String>,
    started: BTreeSet<String>,
    done: BTreeSet<String>,
}

#[derive(Clone)]
struct Folder {
    world: World,
    looked: Arc<Mutex<Looked>>,
    events: mpsc::Sender<ResultsEvent>,
}

impl Folder {
    fn find(&self) -> Vec<ResultsEvent> {
        let shared = lock(&self.world);
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for task_id in looked.watched.clone() {
            let there = |at: Option<&u64>| at.is_some_and(|at| *at <= shared.now);
            if there(shared.started.get(&task_id)) && looked.started.insert(task_id.clone()) {
                found.push(ResultsEvent::Started { task_id: task_id.clone() });
            }
            if there(shared.results.get(&task_id)) && looked.done.insert(task_id.clone()) {
                let result = agentcom::protocol::JsonText::of(&json!({"status": "success"}));
                found.push(ResultsEvent::Result { task_id, content: ResultContent::Success { result } });
            }
        }
        found
    }

    async fn report(&self, more: Option<ResultsEvent>) -> Result<(), mpsc::error::SendError<ResultsEvent>> {
        for event in self.find().into_iter().chain(more) {
            self.events.send(event).await?;
        }
        Ok(())
    }

    async fn patrol(self) {
        while self.report(None).await.is_ok() {
            sleep(Duration::from_millis(70)).await;
        }
    }
}

impl Results for Folder {
    fn watch(&self, tasks: Vec<String>) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.started.retain(|task| tasks.contains(task));
        looked.done.retain(|task| tasks.contains(task));
        looked.watched = tasks;
    }

    fn look(&self, number: u32) {
        let folder = self.clone();
        tokio::spawn(async move {
            // A sidecar that is gone wants no answer.
            let _ = folder.report(Some(ResultsEvent::Looked { number })).await;
        });
    }

    fn clean_up(&self, task_id: &str, _: ResultFile, _: MadeOf<'_>) -> Vec<(PathBuf, io::Error)> {
        let mut shared = lock(&self.world);
        shared.started.remove(task_id);
        shared.results.remove(task_id);
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.started.remove(task_id);
        looked.done.remove(task_id);
        Vec::new()
    }

    fn remove_started(&self, task_id: &str) -> Result<bool, (PathBuf, io::Error)> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.started.remove(task_id);
        Ok(lock(&self.world).started.remove(task_id).is_some())
    }
}
