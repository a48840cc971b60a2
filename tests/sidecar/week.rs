//! `docs/fleet.md`: an operator's week with a real hub and real sidecars. The document is the script: its stage directions say
//! what happens to the machines, its JSON is the file of healing rules, its commands are run, and what they print is compared
//! with what it shows.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::hub::{HUB, Hub};
use crate::support::process::Running;
use crate::support::sidecar::{Agent, SIDECAR};
use crate::support::{new_version, process, wait};

/// The pause between two looks at whether a sidecar has ended.
const POLL: Duration = Duration::from_millis(20);

/// The name of the file of healing rules.
const RULES: &str = "healing.json";

/// The program on a machine without a library that it needs.
const MISSING_LIBRARY: &[u8] = b"#!/bin/sh\necho 'libfleet.so.2: no such file' >&2; exit 127\n";

/// One machine: an agent's sidecar, and what starts it again when it ends.
pub(crate) struct Machine {
    agent: Arc<Agent>,
    has_power: Arc<AtomicBool>,
    running: Arc<Mutex<Option<Running>>>,
    supervisor: Option<JoinHandle<()>>,
}

impl Machine {
    pub(crate) fn new(hub: &Hub, name: &str, labels: &[(&str, &str)]) -> Self {
        let agent = Agent::new(name, &hub.url(), &hub.register(name));
        agent.configure("labels", labels.iter().copied().collect());
        agent.configure("reconnect_min_ms", json!(20));
        agent.configure("reconnect_max_ms", json!(200));
        agent.configure("results_scan_ms", json!(50));
        symlink(SIDECAR, agent.program()).unwrap();
        let (has_power, running) = (Arc::default(), Arc::default());
        Self { agent: Arc::new(agent), has_power, running, supervisor: None }
    }

    pub(crate) fn switch_on(&mut self, hub: &Hub) {
        self.has_power.store(true, Ordering::SeqCst);
        let (agent, has_power, slot) = (self.agent.clone(), self.has_power.clone(), self.running.clone());
        *slot.lock().unwrap() = Some(agent.start_supervised());
        self.supervisor = Some(std::thread::spawn(move || {
            while has_power.load(Ordering::SeqCst) {
                let mut running = slot.lock().unwrap();
                if running.as_mut().is_some_and(|running| running.ended().is_some()) && has_power.load(Ordering::SeqCst)
                {
                    *running = Some(agent.start_supervised());
                }
                drop(running);
                std::thread::sleep(POLL);
            }
        }));
        self.wait(hub, "healthy");
    }

    /// Lets the next run be one of this program.
    fn upgrade_to(&self, program: &Path) {
        let next = self.agent.path("next");
        symlink(program, &next).unwrap();
        std::fs::rename(next, self.agent.program()).unwrap();
    }

    fn kill(&self) {
        self.running.lock().unwrap().as_mut().unwrap().kill9();
    }

    fn lose_power(&mut self, hub: &Hub) {
        self.has_power.store(false, Ordering::SeqCst);
        self.supervisor.take().unwrap().join().unwrap();
        self.kill();
        self.wait(hub, "offline");
    }

    pub(crate) fn wait(&self, hub: &Hub, status: &str) {
        let path = format!("/api/v1/agents/{}", self.agent.id());
        wait::until_true(&format!("{} to be {status}", self.agent.id()), || hub.get(&path).1["status"] == status);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.has_power.store(false, Ordering::SeqCst);
        if let Some(supervisor) = self.supervisor.take() {
            let _ = supervisor.join();
        }
    }
}

/// The hub and its machines.
struct Stage {
    hub: Hub,
    /// The file of healing rules, and the new version.
    files: tempfile::TempDir,
    gpu_1: Machine,
    gpu_2: Machine,
    cpu_1: Machine,
}

impl Stage {
    fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join(RULES), "{\"rules\": []}").unwrap();
        let hub = Hub::start_with(&["--healing", files.path().join(RULES).to_str().unwrap()]);
        std::fs::set_permissions(hub.data(), Permissions::from_mode(0o700)).unwrap();
        let machine = |name: &str, pool: &str| Machine::new(&hub, name, &[("pool", pool), ("site", "berlin")]);
        let (gpu_1, gpu_2, cpu_1) = (machine("gpu-1", "gpu"), machine("gpu-2", "gpu"), machine("cpu-1", "cpu"));
        hub.register("cpu-2");
        Self { hub, files, gpu_1, gpu_2, cpu_1 }
    }

    /// Does what a stage direction says.
    fn direct(&mut self, direction: &str) {
        match direction {
            "four machines are set up" => {
                for machine in [&mut self.gpu_1, &mut self.gpu_2, &mut self.cpu_1] {
                    machine.switch_on(&self.hub);
                }
            }
            "gpu-2 loses its power" => self.gpu_2.lose_power(&self.hub),
            "a task is submitted for gpu-2" => {
                self.hub.submit_with(json!({"description": "render the trailer", "assign_to": "gpu-2"}));
            }
            "gpu-2 has its power again" => {
                self.gpu_2.switch_on(&self.hub);
                let done = || self.hub.get("/api/tasks?status=completed").1["count"] == 1;
                wait::until_true("the task that waited to be done", done);
            }
            "cpu-1 is killed in the night" => self.crash_cpu_1(1),
            "cpu-1 is killed again" => self.crash_cpu_1(2),
            "a new version is on each machine, and a library is missing on gpu-1" => {
                new_version::install(&self.new_version());
                self.gpu_2.upgrade_to(&self.new_version());
                self.cpu_1.upgrade_to(&self.new_version());
                new_version::replace(&self.gpu_1.agent.program(), MISSING_LIBRARY);
            }
            "the library is on gpu-1" => self.gpu_1.upgrade_to(&self.new_version()),
            "a task fails for good" => {
                let body = json!({"description": "fail", "assign_to": "cpu-1", "max_retries": 1});
                let task = self.hub.submit_with(body);
                self.hub.wait_task(&task, "dead_letter");
            }
            other => panic!("docs/fleet.md: no such stage direction: {other:?}"),
        }
    }

    fn new_version(&self) -> PathBuf {
        self.files.path().join("agentcom-sidecar")
    }

    fn crash_cpu_1(&self, times: u64) {
        self.cpu_1.kill();
        let unplanned = || self.hub.get("/api/v1/agents/cpu-1").1["restarts"]["unplanned"] == times;
        wait::until_true("cpu-1 to be back", unplanned);
        self.cpu_1.wait(&self.hub, "healthy");
    }

    /// Writes the file of healing rules, and waits until each has looked at the fleet.
    fn heal_by(&self, rules: &str) {
        let status = || self.hub.get("/api/v1/healing").1;
        let (file, before) = (self.files.path().join(RULES), status()["loaded_at"].clone());
        let new = file.with_extension("new");
        std::fs::write(&new, rules).unwrap();
        std::fs::rename(new, file).unwrap();
        let looked = |now: &Value| now["loaded_at"] != before && now["looked_at"].as_u64() >= now["loaded_at"].as_u64();
        wait::until_or("the rules", wait::BOUND, || Some(status()).filter(looked), || status().to_string());
    }

    /// The line with the id of the newest rollout, where it names one.
    fn with_id(&self, line: &str) -> String {
        let Some((before, after)) = line.split_once(" rollout-") else { return line.to_owned() };
        let rest = after.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        let newest = self.hub.get("/api/v1/rollouts?limit=1").1["items"][0]["rollout_id"].clone();
        format!("{before} {}{rest}", newest.as_str().unwrap())
    }

    /// Runs one line of the document, and returns what it prints.
    fn type_in(&self, line: &str) -> String {
        let words = words(line);
        assert_eq!(words[0], "agentcom-hub", "docs/fleet.md: {line}");
        let mut command = Command::new(HUB);
        command.args(&words[1..]).env("AGENTCOM_HUB_DATA", self.hub.data()).env_remove("COLUMNS");
        let (status, printed) = process::run(command, wait::BOUND);
        let is_token = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let word =
            |word: &str| if is_token(word.trim()) { word.replace(word.trim(), "TOKEN") } else { word.to_owned() };
        let printed: String = printed.split_inclusive([' ', '\n']).map(word).collect();
        let mut printed = printed.replace(self.hub.data().to_str().unwrap(), "/var/lib/agentcom-hub");
        printed = printed.replace(self.files.path().to_str().unwrap(), "/etc/agentcom");
        for machine in [&self.gpu_1, &self.gpu_2, &self.cpu_1] {
            printed = printed.replace(machine.agent.folder().to_str().unwrap(), "/srv/agent");
        }
        match status.code() {
            Some(0) => printed,
            code => format!("{printed}(exit code {})\n", code.unwrap()),
        }
    }
}

/// The words of a command line; double quotes hold one together.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for next in line.chars() {
        match next {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    words
}

/// What a watcher tells of on the way, as far as it was there in time to see it.
const ON_THE_WAY: [&str; 5] =
    [": is told to restart", ": is back after ", ": restarted, ", ": running; ", ": the canary is under way; "];

/// The line without how many targets are through, which a watcher says where an event tells it of a target before a look does.
fn without_count(line: &str) -> &str {
    match line.rsplit_once(" (") {
        Some((rest, count)) if count.ends_with(" are through)") => rest,
        _ => line,
    }
}

/// The text without what watchers of a rollout tell on the way; the rest of each in one order.
fn settled(text: &str) -> String {
    let (mut settled, mut watched) = (String::new(), None::<Vec<&str>>);
    for line in text.lines() {
        if let Some(mut lines) = watched.take_if(|_| line.starts_with("$ ") || line == "```") {
            lines.sort_unstable();
            lines.iter().for_each(|line| settled += &format!("{line}\n"));
        }
        match &mut watched {
            Some(_) if ON_THE_WAY.iter().any(|part| line.contains(part)) => {}
            Some(lines) => lines.push(without_count(line)),
            None => settled += &format!("{line}\n"),
        }
        if line.starts_with("$ ") && (line.contains("rollout watch") || line.contains("--watch")) {
            watched = Some(Vec::new());
        }
    }
    settled
}

/// The text without what differs from run to run: numbers, ids, and the width of what holds them.
pub(crate) fn form(text: &str) -> String {
    let word = |word: &str| {
        let is_id = |part: &str| part.len() >= 8 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let parts: Vec<String> = word
            .split_inclusive(|c: char| !c.is_ascii_alphanumeric())
            .map(|part| {
                let bare = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                let rest = &part[bare.len()..];
                let digits = bare.bytes().filter(u8::is_ascii_digit).count();
                match () {
                    () if is_id(bare) => format!("#{rest}"),
                    // A restart takes as long as the machine is busy.
                    () if bare == "ms" => format!("s{rest}"),
                    () if digits > 0 => format!("0{}{rest}", bare.trim_matches(|c: char| c.is_ascii_digit())),
                    () => part.to_owned(),
                }
            })
            .collect();
        parts.concat()
    };
    settled(text).lines().map(|line| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ") + "\n").collect()
}

#[test]
fn the_week_of_docs_fleet_is_as_it_says() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/fleet.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let mut stage = Stage::new();
    let mut played = String::new();
    let (mut in_block, mut rules) = (false, None);
    for line in document.lines() {
        if line == "```json" {
            rules = Some(String::new());
        } else if let Some(text) = rules.take() {
            match line {
                "```" => stage.heal_by(&text),
                more => rules = Some(text + more + "\n"),
            }
        } else if line.starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            match line.strip_prefix("$ ") {
                Some(typed) => {
                    let typed = stage.with_id(typed);
                    played += &format!("$ {typed}\n{}", stage.type_in(&typed));
                }
                None => continue,
            }
            continue;
        } else if let Some(direction) = line.strip_prefix("<!-- stage: ").and_then(|rest| rest.strip_suffix(" -->")) {
            stage.direct(direction);
        }
        played += &format!("{line}\n");
    }
    if std::env::var_os("UPDATE_WEEK").is_some() {
        std::fs::write(&path, played).unwrap();
        return;
    }
    assert_eq!(form(&document), form(&played), "the whole of what came of it:\n{played}");
}
