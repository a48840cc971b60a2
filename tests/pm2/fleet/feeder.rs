//! A stream of tasks, from a client of its own that a hub which is killed does not stop: what is not answered is asked
//! again, under the same key.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use super::BOUND;
use crate::support::hub::{Client, request_once};
use crate::support::wait;

/// So many are under way at a time.
const BATCH: usize = 6;

/// Submits tasks until it is stopped or dropped.
pub(super) struct Feeder {
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<String>>>,
}

impl Feeder {
    pub(super) fn start(hub: &Client) -> Self {
        let stops = Arc::new(AtomicBool::new(false));
        let stream = Stream { address: hub.address(), admin: hub.admin_token().to_owned(), stops: stops.clone() };
        Self { stops, thread: Some(std::thread::spawn(move || stream.run())) }
    }

    /// Ends the stream; the ids of its tasks, all of which are completed.
    pub(super) fn stop(mut self) -> Vec<String> {
        self.stops.store(true, Ordering::SeqCst);
        self.thread.take().expect("it is stopped once").join().expect("every task to be completed")
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Stream {
    address: SocketAddr,
    admin: String,
    stops: Arc<AtomicBool>,
}

impl Stream {
    fn run(&self) -> Vec<String> {
        let mut tasks = Vec::new();
        while !self.stops.load(Ordering::SeqCst) {
            let batch: Vec<String> = (tasks.len()..tasks.len() + BATCH).map(|number| self.submit(number)).collect();
            batch.iter().for_each(|task| self.wait_completed(task));
            tasks.extend(batch);
        }
        tasks
    }

    fn submit(&self, number: usize) -> String {
        let key = format!("task-{number}");
        let body = json!({"description": format!("task {number}")});
        let answer = || self.ask("POST", "/api/v1/tasks", Some(&key), Some(&body));
        let (status, task) = wait::until("a hub that takes a task", answer);
        assert_eq!(status, 201, "{task}");
        task["id"].as_str().unwrap_or_else(|| panic!("no id in {task}")).to_owned()
    }

    fn wait_completed(&self, task: &str) {
        let path = format!("/api/v1/tasks/{task}");
        let probe = || self.ask("GET", &path, None, None).filter(|(_, task)| task["status"] == "completed");
        wait::until_or(task, BOUND, probe, || format!("{:?}", self.ask("GET", &path, None, None)));
    }

    fn ask(&self, method: &str, path: &str, key: Option<&str>, body: Option<&Value>) -> Option<(u16, Value)> {
        request_once(self.address, method, path, Some(&self.admin), key, body).ok()
    }
}
