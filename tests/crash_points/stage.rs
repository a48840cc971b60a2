//! One run of one story: an agent, its sidecar with the crash points, a loop that stands in for pm2, and the judgement in
//! the end. What happens in the story stands in `stories`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::hub::Hub;
use crate::support::process::Running;
use crate::support::sidecar::Agent;

/// Ends a run that does not end well; one that does takes a second or two.
const BOUND: Duration = Duration::from_secs(30);

/// What is still on its way when the hub has everything is there by then.
const LINGER: Duration = Duration::from_millis(300);

/// What a run came to that did not end well.
#[derive(Debug)]
pub(crate) enum Bad {
    /// Something accepted or commanded never came to its end.
    Lost(String),
    /// Something was done twice.
    Doubled(String),
}

pub(crate) type Step = Result<(), Bad>;

/// The stage of one run.
pub(crate) struct Stage<'a> {
    pub(crate) hub: &'a mut Hub,
    pub(crate) agent: Agent,
    binary: &'a Path,
    crash_at: Vec<u64>,
    supervised: bool,
    sidecar: Option<Running>,
    tasks: Vec<String>,
    restarts: Vec<String>,
}

impl<'a> Stage<'a> {
    /// `name` is new to the hub. `crash_at` are the places to crash at.
    pub(crate) fn new(hub: &'a mut Hub, binary: &'a Path, name: &str, crash_at: Vec<u64>) -> Self {
        let agent = Agent::new(name, &hub.url(), &hub.register(name));
        for (key, value) in [
            ("capabilities", json!([name])),
            ("log_level", json!("info")),
            ("reconnect_min_ms", json!(10)),
            ("reconnect_max_ms", json!(50)),
            ("results_scan_ms", json!(20)),
            ("answer_timeout_ms", json!(500)),
            ("confirmation_timeout_ms", json!(2_000)),
            ("restart_intensity", json!({"max": 1_000, "window_ms": 60_000})),
        ] {
            agent.configure(key, value);
        }
        let (tasks, restarts) = (Vec::new(), Vec::new());
        Self { hub, agent, binary, crash_at, supervised: true, sidecar: None, tasks, restarts }
    }

    /// Nobody would start it again: a commanded restart replaces the process in place.
    pub(crate) fn without_supervisor(&mut self) {
        self.supervised = false;
    }

    pub(crate) fn start(&mut self) {
        let mut command = Command::new(self.binary);
        command.args(["run", "--config"]).arg(self.agent.config_file()).current_dir(self.agent.folder());
        for inherited in ["pm_id", "name", "PM2_HOME", "PM2_PROCESS_NAME", "NODE_CHANNEL_FD", "AGENTCOM_CONFIG"] {
            command.env_remove(inherited);
        }
        if self.supervised {
            let home = self.agent.pm2_double().home();
            command.envs([("pm_id", "0"), ("name", self.agent.id())]).env("PM2_HOME", home);
        }
        command.env("AGENTCOM_CRASH_LOG", self.agent.path("points.log"));
        let crash_at: Vec<_> = self.crash_at.iter().map(u64::to_string).collect();
        command.env("AGENTCOM_CRASH_AT", crash_at.join(","));
        self.sidecar = Some(Running::start(command, self.agent.folder(), "sidecar"));
    }

    /// The numbered places that were reached, one a line.
    pub(crate) fn points(&self) -> Vec<String> {
        let text = fs::read_to_string(self.agent.path("points.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// How often it has killed itself: every place it was to end at and has reached.
    pub(crate) fn crashes(&self) -> usize {
        let reached = self.points().len() as u64;
        self.crash_at.iter().filter(|at| **at <= reached).count()
    }

    /// Whether every crash that was ordered has come.
    pub(crate) fn has_crashed(&self) -> bool {
        self.crashes() == self.crash_at.len()
    }

    /// What pm2 does: whatever has ended is started again. An end that nobody wanted is a failure.
    fn supervise(&mut self) -> Step {
        if self.ended()? {
            self.start();
        }
        Ok(())
    }

    fn ended(&mut self) -> Result<bool, Bad> {
        let Some(status) = self.sidecar.as_mut().and_then(Running::ended) else { return Ok(false) };
        if status.signal() != Some(9) && status.code() != Some(0) {
            return Err(Bad::Lost(format!("the sidecar ended with {status}")));
        }
        self.sidecar = None;
        Ok(true)
    }

    /// Waits for it, starting the sidecar again whenever it has ended.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Step {
        let end = Instant::now() + BOUND;
        while !done(self) {
            self.supervise()?;
            if Instant::now() > end {
                return Err(Bad::Lost(format!("never: {what}")));
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        Ok(())
    }

    pub(crate) fn until_online(&mut self) -> Step {
        self.until("the agent to be online", |stage| {
            stage.hub.agent(stage.agent.id()).is_some_and(|agent| agent["fsm_state"] != "restarting")
        })
    }

    /// A task for this agent alone.
    pub(crate) fn submit(&mut self, description: &str) -> String {
        let capabilities = [self.agent.id()];
        let task = self.hub.submit_with(
            json!({"description": description, "needed_capabilities": capabilities, "max_retries": 1_000}),
        );
        self.tasks.push(task.clone());
        task
    }

    /// A task whose session has shown itself and waits to be told to finish.
    pub(crate) fn with_a_running_task(&mut self) -> Result<String, Bad> {
        let task = self.submit("run=hold");
        self.until_step(&task, "started")?;
        Ok(task)
    }

    /// Until the agent's session has taken that step, and the sidecar has had the chance to see it.
    pub(crate) fn until_step(&mut self, task: &str, step: &str) -> Step {
        self.until(&format!("the session to have {step}"), |stage| stage.agent.count(task, step) > 0)
    }

    /// Commands a restart as soon as the hub will take the command.
    pub(crate) fn command_restart(&mut self, body: &Value) -> Step {
        let mut command_id = None;
        self.until("the hub to take the restart command", |stage| {
            let (status, answer) = stage.hub.restart(stage.agent.id(), body.clone());
            command_id = answer["command_id"].as_str().map(str::to_owned);
            status == 200
        })?;
        self.restarts.extend(command_id);
        Ok(())
    }

    /// Until the sidecar has answered the last command, or has come back from it already.
    pub(crate) fn until_promised(&mut self) -> Step {
        self.until("the restart to be promised", |stage| {
            stage
                .hub
                .restarts(stage.agent.id())
                .iter()
                .all(|restart| !matches!(restart["state"].as_str(), Some("commanded" | "delivered")))
        })
    }

    /// A stop signal, as `pm2 stop` sends it, and the end that follows; nobody starts it again.
    pub(crate) fn stop(&mut self) -> Step {
        self.until_online()?;
        if let Some(sidecar) = &self.sidecar {
            sidecar.signal(crate::support::process::Signal::TERM);
        }
        let end = Instant::now() + BOUND;
        while !self.ended()? {
            if Instant::now() > end {
                return Err(Bad::Lost("it did not stop".into()));
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        Ok(())
    }

    /// The kill -9 of the story, as opposed to those of the crash points.
    pub(crate) fn kill(&mut self) -> Step {
        if !self.ended()?
            && let Some(mut sidecar) = self.sidecar.take()
        {
            sidecar.kill9();
        }
        Ok(())
    }

    /// For a place that lies after the story's end: gives the sidecar a moment to come there. Says whether it did.
    pub(crate) fn linger(&mut self) -> Result<bool, Bad> {
        let end = Instant::now() + LINGER;
        while Instant::now() < end {
            if self.ended()? {
                self.start();
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        Ok(false)
    }

    /// The end of every story: waits for what must come, then judges what must not have happened.
    pub(crate) fn must_end_well(&mut self) -> Step {
        for task in self.tasks.clone() {
            self.until(&format!("{task} to be completed"), |stage| stage.hub.task(&task)["status"] == "completed")?;
        }
        self.until("every restart to be over", |stage| {
            let restarts = stage.hub.restarts(stage.agent.id());
            restarts.iter().all(|restart| restart["state"] == "back")
                && stage.restarts.iter().all(|id| restarts.iter().any(|restart| restart["command_id"] == *id))
        })?;
        self.until("the agent to be idle, its journal empty", |stage| {
            let queue = stage.agent.queue();
            let quiet = queue.is_none_or(|queue| queue["active"].is_null() && queue["outbox"] == json!([]));
            quiet && stage.hub.agent(stage.agent.id()).is_some_and(|agent| agent["fsm_state"] == "idle")
        })?;
        self.until("nothing half written to be left behind", Self::is_tidy)?;
        self.must_be_done_once()
    }

    fn is_tidy(&self) -> bool {
        let entries = fs::read_dir(self.agent.folder()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).all(|name| !name.ends_with(".tmp"))
    }

    fn must_be_done_once(&self) -> Step {
        let mut steps: BTreeMap<(String, u64, String), u32> = BTreeMap::new();
        for run in self.agent.runs() {
            *steps.entry((run.task, run.generation, run.step)).or_default() += 1;
        }
        if let Some((what, times)) = steps.iter().find(|(_, times)| **times > 1) {
            return Err(Bad::Doubled(format!("{what:?} {times} times")));
        }
        for task in &self.tasks {
            // Whatever assignment it is under: what is under way is taken over, not begun again.
            let sessions = self.agent.count(task, "started");
            if sessions != 1 {
                return Err(Bad::Doubled(format!("{sessions} sessions for {task}")));
            }
            let task = self.hub.task(task);
            let history = task["history"].as_array().unwrap();
            let times = history.iter().filter(|entry| entry["event"] == "completed").count();
            if times != 1 {
                return Err(Bad::Doubled(format!("completed {times} times: {task}")));
            }
        }
        Ok(())
    }

    /// Everything there is to tell of a run that did not end well.
    pub(crate) fn told(&self) -> String {
        let tasks: Vec<_> = self.tasks.iter().map(|task| self.hub.task(task).to_string()).collect();
        let restarts = self.hub.restarts(self.agent.id());
        let runs = fs::read_to_string(self.agent.path("runs.log")).unwrap_or_default();
        format!(
            "points:\n{}\ntasks: {tasks:?}\nrestarts: {restarts:?}\nruns.log:\n{runs}{}",
            self.points().join("\n"),
            self.agent.story()
        )
    }
}
