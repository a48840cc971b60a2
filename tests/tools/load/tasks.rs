//! Tasks end to end: submitted over HTTP, assigned, accepted, completed, and the verdict stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::Outcome;
use crate::fleet::Fleet;
use crate::hub_process::Hub;
use crate::proc_files::cpu_seconds;
use crate::stats::{Spread, per_second};

/// The number of connections that submit.
const SUBMITTERS: usize = 64;
/// How often a task is submitted where only some events are to flow.
const TRICKLE: Duration = Duration::from_millis(2);

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Tasks {
    /// The number of agents.
    pub agents: usize,
    /// The number of tasks.
    pub tasks: usize,
    /// Tasks whose verdict was stored, for each second.
    pub per_second: f64,
    /// From the request to the acknowledged verdict.
    pub end_to_end: Spread,
    /// The share of one core that the hub had, and that this program had; 0 where unknown.
    pub hub_cores: f64,
    /// See `hub_cores`.
    pub client_cores: f64,
}

/// Submits tasks and waits until each is done; all must be done exactly once.
pub async fn run(hub: &Hub, fleet: &Arc<Fleet>, agents: usize, tasks: usize) -> Outcome<Tasks> {
    let cpu = || Ok::<_, String>((hub.pid().map_or(Ok(0.0), cpu_seconds)?, cpu_seconds(std::process::id())?));
    let (cpu_before, done_before) = (cpu()?, fleet.books().done);
    let began = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let mut submitters = JoinSet::new();
    for _ in 0..SUBMITTERS {
        let (mut client, next) = (hub.client(), Arc::clone(&next));
        submitters.spawn(async move {
            let mut submitted = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= tasks {
                    return Ok::<_, String>(submitted);
                }
                let submitted_at = Instant::now();
                submitted.push((submit(&mut client, number).await?, submitted_at));
            }
        });
    }
    let mut submitted = Vec::with_capacity(tasks);
    while let Some(some) = submitters.join_next().await {
        submitted.extend(some.map_err(|error| format!("a submitter ended: {error}"))??);
    }
    fleet.wait("all tasks to be done", || fleet.books().done - done_before >= tasks).await?;
    let took = began.elapsed();
    let cpu_after = cpu()?;
    let times = {
        let books = fleet.books();
        let time = |(id, submitted_at): &(String, Instant)| Ok(books.done_once_at(id)?.duration_since(*submitted_at));
        submitted.iter().map(time).collect::<Outcome<Vec<Duration>>>()?
    };
    Ok(Tasks {
        agents,
        tasks,
        per_second: per_second(tasks, took),
        end_to_end: Spread::of(times),
        hub_cores: (cpu_after.0 - cpu_before.0) / took.as_secs_f64(),
        client_cores: (cpu_after.1 - cpu_before.1) / took.as_secs_f64(),
    })
}

/// Submits a task every 2 ms until `stop`, waits until each is done, and returns how many there were.
pub async fn trickle(hub: &Hub, fleet: &Arc<Fleet>, stop: &AtomicBool) -> Outcome<usize> {
    let (mut client, done_before) = (hub.client(), fleet.books().done);
    let mut ticks = interval(TRICKLE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut submitted = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        submitted.push(submit(&mut client, submitted.len()).await?);
    }
    fleet.wait("the tasks to be done", || fleet.books().done - done_before >= submitted.len()).await?;
    let books = fleet.books();
    for task_id in &submitted {
        books.done_once_at(task_id)?;
    }
    Ok(submitted.len())
}

/// Checks with the hub that no task is left.
pub async fn check_none_left(hub: &Hub) -> Outcome<()> {
    let stats = hub.client().json("GET", "/api/tasks/stats", None, 200).await?;
    let open = |status: &str| stats["by_status"][status].as_u64().unwrap_or(0);
    match open("queued") + open("assigned") + stats["dead_letter"].as_u64().unwrap_or(0) {
        0 => Ok(()),
        _ => Err(format!("tasks are left: {stats}")),
    }
}

async fn submit(client: &mut crate::http::Client, number: usize) -> Outcome<String> {
    let body = json!({
        "description": format!("Look at part {number} and say what it does"),
        "needed_capabilities": ["code"],
    });
    let answer = client.json("POST", "/api/tasks", Some(&body.to_string()), 201).await?;
    answer["task_id"].as_str().map(str::to_owned).ok_or_else(|| format!("no task_id: {answer}"))
}
