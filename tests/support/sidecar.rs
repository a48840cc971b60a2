//! One agent's folder, with everything a sidecar needs, and the real `agentcom-sidecar` in it. It starts, kills and
//! reads; what a test expects of the sidecar stands in the test.
//!
//! ```text
//! let agent = Agent::new("alice", &hub.url(), &token);      // folder, config.json (0600), agent.sh as wake command
//! agent.configure("restart_deadline_ms", json!(2000));      // before a start: any key of config.json; Null removes it
//! let mut sidecar = agent.start();                          // agentcom-sidecar run --config FILE
//! let mut sidecar = agent.start_supervised();               // believes that pm2 restarts it; start_with(&[("K", "v")])
//! sidecar.pid(); sidecar.kill9(); sidecar.signal(Signal::TERM); sidecar.wait_exit(); sidecar.output()
//! agent.status(); agent.operate(&["restart", "--wait"])    // over the local socket: (exit code, what was printed)
//! agent.launch_under(&pm2);                                 // by ecosystem.config.js, named like the agent
//! pm2.launch(agent.app());                                  // the same as an object, to add to or to change
//! agent.runs()                                              // [Run { task, generation, step: "woken"|"started"|"finished" }]
//! agent.wait_run(&task, "started"); agent.go("run", &task)  // for descriptions like "run=hold": see agent.sh
//! agent.log_lines(); agent.wait_log("drained", |line| ..)   // the sidecar's JSON log, log_file and stdout alike
//! agent.queue()                                             // queue.json, if there is one
//! ```

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::pm2::Pm2;
use super::pm2_double::Pm2Double;
use super::process::{self, Running};
use super::wait;

/// The binary under test.
pub const SIDECAR: &str = env!("CARGO_BIN_EXE_agentcom-sidecar");

/// A folder for one agent; gone with the value, and its sessions end with the folder.
pub struct Agent {
    folder: tempfile::TempDir,
    id: String,
    pm2: OnceLock<Pm2Double>,
}

/// One line of `runs.log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub task: String,
    pub generation: u64,
    pub step: String,
}

impl Agent {
    /// `hub_url` is the websocket's.
    pub fn new(id: &str, hub_url: &str, token: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("agent-").tempdir().expect("a folder for the agent");
        let agent = Self { folder, id: id.to_owned(), pm2: OnceLock::new() };
        fs::create_dir(agent.path("results")).expect("a results folder");
        fs::write(agent.path("agent.sh"), include_str!("agent.sh")).expect("the wake script");
        let http = hub_url.replacen("ws", "http", 1).replace("/ws", "");
        let wake = format!(
            "sh '{}' '{}' \"${{TASK_ID}}\" \"${{TASK_DESCRIPTION}}\"",
            agent.path("agent.sh").display(),
            agent.folder().display()
        );
        agent.write_config(&json!({
            "agent_id": id, "token": token, "hub_url": hub_url, "hub_api_url": http, "repo_dir": agent.folder(),
            "reviewer": "nobody", "wake_command": wake, "capabilities": ["code"], "confirmation_timeout_ms": 30_000,
            "results_dir": "./results", "log_file": "./sidecar.log", "log_level": "debug",
            // Stories count frames; the one about this has its own.
            "resource_report_interval_ms": 0,
        }));
        agent
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub fn config_file(&self) -> PathBuf {
        self.path("config.json")
    }

    /// Where a program of its own may stand, which is then started instead of the binary under test.
    pub fn program(&self) -> PathBuf {
        self.path("agentcom-sidecar")
    }

    /// Sets a key of `config.json` for the next start.
    pub fn configure(&self, key: &str, value: Value) {
        let text = fs::read_to_string(self.config_file()).expect("config.json");
        let mut config: Value = serde_json::from_str(&text).expect("config.json is JSON");
        if value.is_null() {
            config.as_object_mut().expect("an object").remove(key);
        } else {
            config[key] = value;
        }
        self.write_config(&config);
    }

    fn write_config(&self, config: &Value) {
        // Written anew, so that the mode holds: it has a token in it.
        let _ = fs::remove_file(self.config_file());
        let mut options = fs::File::options();
        let file = options.write(true).create_new(true).mode(0o600).open(self.config_file()).expect("config.json");
        serde_json::to_writer_pretty(file, config).expect("config.json can be written");
    }

    /// Starts the real binary, its output in `sidecar.out` and `sidecar.err` (appended to, start after start).
    pub fn start(&self) -> Running {
        self.start_with(&[])
    }

    /// Starts it as pm2 would, so that a commanded restart is an exit with 0; the test stands in for pm2.
    pub fn start_supervised(&self) -> Running {
        let home = self.pm2_double().home().to_str().expect("a readable path");
        self.start_with(&[("pm_id", "0"), ("name", &self.id), ("PM2_HOME", home)])
    }

    /// What answers for pm2 to a sidecar that was started as pm2 would.
    pub fn pm2_double(&self) -> &Pm2Double {
        self.pm2.get_or_init(|| Pm2Double::in_home(self.path("pm2-home")))
    }

    /// Starts it with these variables on top.
    pub fn start_with(&self, variables: &[(&str, &str)]) -> Running {
        let own = self.program();
        let mut command = Command::new(if own.exists() { own.as_path() } else { Path::new(SIDECAR) });
        command.args(["run", "--config"]).arg(self.config_file()).current_dir(self.folder());
        // Whatever supervises the test run does not supervise this.
        for inherited in ["pm_id", "name", "PM2_HOME", "PM2_PROCESS_NAME", "NODE_CHANNEL_FD", "AGENTCOM_CONFIG"] {
            command.env_remove(inherited);
        }
        command.envs(variables.iter().copied());
        Running::start(command, self.folder(), "sidecar")
    }

    /// Runs an operator's command to its end: `agentcom-sidecar ARGS --config FILE`; its exit code and what it printed.
    pub fn operate(&self, args: &[&str]) -> (i32, String) {
        let (status, text) = process::run(self.operator(args), wait::BOUND);
        (status.code().unwrap_or_else(|| panic!("{args:?} ended with {status}:\n{text}")), text)
    }

    /// The command alone, to be started by the test.
    pub fn operator(&self, args: &[&str]) -> Command {
        let mut command = Command::new(SIDECAR);
        command.args(args).arg("--config").arg(self.config_file()).current_dir(self.folder());
        command.env_remove("AGENTCOM_CONFIG");
        command
    }

    /// The running sidecar's state, as `status --json` prints it.
    pub fn status(&self) -> Value {
        let (code, text) = self.operate(&["status", "--json"]);
        assert_eq!(code, 0, "{text}\n{}", self.story());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Where its local socket is.
    pub fn socket(&self) -> PathBuf {
        self.path("queue.json.sock")
    }

    /// Starts the real binary under pm2 by the real `ecosystem.config.js`, named like the agent.
    pub fn launch_under(&self, pm2: &Pm2) {
        let text = |path: &Path| path.to_str().expect("a readable path").to_owned();
        let (bin, logs) = (text(Path::new(SIDECAR).parent().expect("a folder")), text(self.folder()));
        let config = text(&self.config_file());
        let variables = [
            ("AGENTCOM_BIN_DIR", bin.as_str()),
            ("AGENTCOM_LOG_DIR", &logs),
            ("AGENTCOM_CONFIG", &config),
            ("AGENTCOM_NAME", &self.id),
        ];
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("ecosystem.config.js");
        pm2.launch_file(&file, &variables, Some(&self.id));
    }

    /// The same as an app for [`Pm2::launch`], for stories that change what pm2 is told.
    pub fn app(&self) -> Value {
        json!({
            "name": self.id, "script": SIDECAR, "args": ["run", "--config", self.config_file()], "cwd": self.folder(),
            "interpreter": "none", "exec_mode": "fork", "autorestart": true, "exp_backoff_restart_delay": 2,
            "max_restarts": 100_000, "vizion": false, "treekill": false, "kill_timeout": 8000, "merge_logs": true,
            "out_file": self.path(&format!("{}.out.log", self.id)),
            "error_file": self.path(&format!("{}.err.log", self.id)),
            "env": {"PM2_PROCESS_NAME": self.id},
        })
    }

    /// What the agent has done so far.
    pub fn runs(&self) -> Vec<Run> {
        let text = fs::read_to_string(self.path("runs.log")).unwrap_or_default();
        let run = |line: &str| {
            let mut words = line.split(' ');
            let (task, generation, step) = (words.next()?, words.next()?, words.next()?);
            Some(Run { task: task.to_owned(), generation: generation.parse().ok()?, step: step.to_owned() })
        };
        // A last line without its end is still being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| run(line).unwrap_or_else(|| panic!("runs.log has a line {line:?}"))).collect()
    }

    /// How often the task has taken that step, under whichever generation.
    pub fn count(&self, task: &str, step: &str) -> usize {
        self.runs().iter().filter(|run| run.task == task && run.step == step).count()
    }

    pub fn wait_run(&self, task: &str, step: &str) -> Run {
        let probe = || self.runs().into_iter().find(|run| run.task == task && run.step == step);
        wait::until_or(&format!("the agent to have {step} {task}"), wait::BOUND, probe, || self.story())
    }

    /// Lets a `hold` go on: `point` is `wake`, `start` or `run`.
    pub fn go(&self, point: &str, task: &str) {
        fs::write(self.path(&format!("go.{point}.{task}")), "").expect("the agent's folder can be written");
    }

    /// `queue.json`, if there is one and it can be read.
    /// Whether its journal holds a task.
    pub fn works(&self) -> bool {
        self.queue().is_some_and(|queue| !queue["active"].is_null())
    }

    pub fn queue(&self) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.path("queue.json")).ok()?).ok()
    }

    /// Every line of the sidecar's JSON log, start after start; from `log_file`, or stdout where there is none.
    pub fn log_lines(&self) -> Vec<Value> {
        let text =
            fs::read_to_string(self.path("sidecar.log")).or_else(|_| fs::read_to_string(self.path("sidecar.out")));
        text.unwrap_or_default().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until `find` finds something in the log.
    pub fn wait_log<T>(&self, what: &str, mut find: impl FnMut(&Value) -> Option<T>) -> T {
        let probe = || self.log_lines().iter().find_map(&mut find);
        wait::until_or(&format!("the log to say: {what}"), wait::BOUND, probe, || self.story())
    }

    /// Everything that the folder tells, for the message of a failing test.
    pub fn story(&self) -> String {
        let entries = fs::read_dir(self.folder()).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        // What goes to stdout is in the log file too.
        names.retain(|name| !name.ends_with(".out.log"));
        names.retain(|name| name == "queue.json" || [".log", ".err"].iter().any(|end| name.ends_with(end)));
        let told = names.iter().map(|name| {
            let text = fs::read_to_string(self.path(name)).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            format!("== {name}\n{}", lines[lines.len().saturating_sub(80)..].join("\n"))
        });
        told.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.story());
        }
    }
}
