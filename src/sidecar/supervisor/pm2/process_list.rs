//! Parses the output of `pm2 jlist`, one JSON array, somewhere among banners, and `dump.pm2`, which `pm2 save` writes.
//! It keeps the few fields that are needed, and each app's environment as secrets, which are checked and never shown.

use core::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::common::secret::Secret;
use crate::sidecar::supervisor::pm2::identity::ProcessIdentity;

/// How many positions that look like the start of a list are tried. Real output has one, and a few in banners.
const MAX_CANDIDATES: usize = 64;

/// The command of a shell that starts a program whose path has a space: the words after it are the program and its
/// arguments.
pub const SHELL_EXEC: &str = r#"exec "$0" "$@""#;

/// One app in pm2's list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pm2Process {
    /// Its process id; `None` when it does not run.
    pub pid: Option<u32>,
    /// pm2's id for it.
    pub pm_id: Option<u32>,
    /// Its name.
    pub name: Option<String>,
    /// Its status in pm2.
    pub status: ProcessStatus,
    /// When this run started, ms since the epoch.
    pub started_at_ms: Option<u64>,
    /// How often pm2 has restarted it.
    pub restart_time: Option<u64>,
    /// The resident set size, bytes; zero until pm2 has measured.
    pub memory_bytes: Option<u64>,
    /// The CPU use, per cent of one core.
    pub cpu_percent: Option<f64>,
    /// The version in its `package.json`.
    pub version: Option<String>,
    /// Whether pm2 restarts it after an exit.
    pub autorestart: Option<bool>,
    /// Exit codes after which it is not restarted.
    pub stop_exit_codes: Option<Vec<i64>>,
    /// The time from SIGINT to SIGKILL, ms.
    pub kill_timeout_ms: Option<u64>,
    /// How it is run.
    pub launch: Launch,
    /// The variables that pm2 passes to it, those that are texts, by name.
    pub environment: Vec<(String, Secret)>,
}

/// How pm2 runs an app.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Launch {
    /// The program or script.
    pub program: Option<PathBuf>,
    /// The folder in which it is run.
    pub cwd: Option<PathBuf>,
    /// The value of `--config` among its arguments, else of `AGENTCOM_CONFIG` in its environment.
    pub config: Option<PathBuf>,
    /// `fork_mode` or `cluster_mode`.
    pub exec_mode: Option<String>,
    /// Whether a stop also signals the processes below it.
    pub treekill: Option<bool>,
    /// The first delay of a growing series before a restart, ms.
    pub exp_backoff_restart_delay_ms: Option<u64>,
    /// How many unstable exits make pm2 give up.
    pub max_restarts: Option<u64>,
    /// Whether pm2 waits for `ready` before the status becomes online.
    pub wait_ready: Option<bool>,
    /// How long pm2 waits for `ready`, ms.
    pub listen_timeout_ms: Option<u64>,
    /// The paths whose change makes pm2 restart it: its whole folder, or the files and folders of a list.
    pub watched: Vec<PathBuf>,
}

/// An app's status in pm2 (`constants.js`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ProcessStatus {
    /// It is running.
    Online,
    /// It was stopped, or has ended and is not restarted.
    Stopped,
    /// It has been asked to stop.
    Stopping,
    /// It will be started after a delay (or never: see `docs`).
    WaitingRestart,
    /// It has been started and has not sent `ready`.
    Launching,
    /// pm2 has given up restarting it.
    Errored,
    /// It was started once, without a daemon.
    OneLaunch,
    /// An unknown status.
    Other(String),
    /// No status.
    #[default]
    Absent,
}

impl ProcessStatus {
    fn from_text(text: &str) -> Self {
        match text {
            "online" => Self::Online,
            "stopped" => Self::Stopped,
            "stopping" => Self::Stopping,
            "waiting restart" => Self::WaitingRestart,
            "launching" => Self::Launching,
            "errored" => Self::Errored,
            "one-launch-status" => Self::OneLaunch,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Returns pm2's text for the status, or `unknown`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Online => "online",
            Self::Stopped => "stopped",
            Self::Stopping => "stopping",
            Self::WaitingRestart => "waiting restart",
            Self::Launching => "launching",
            Self::Errored => "errored",
            Self::OneLaunch => "one-launch-status",
            Self::Other(other) => other,
            Self::Absent => crate::sidecar::supervisor::pm2::UNKNOWN,
        }
    }
}

impl fmt::Display for ProcessStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The reason why an output contains no list. It quotes nothing of it: the output contains secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Nothing in it looks like pm2's list.
    #[error("no process list in {bytes} bytes of output")]
    Absent {
        /// The length of the output, bytes.
        bytes: usize,
    },
    /// A list begins and then breaks off or turns into something else.
    #[error("the process list that begins at byte {at} of the output is broken")]
    Broken {
        /// The offset at which it begins, bytes.
        at: usize,
    },
}

/// Finds pm2's list in an output with banners before, after or on the same line. Never panics, whatever the bytes.
///
/// # Errors
/// [`ListError`] if there is no list, or only a broken one. An empty list, which is on a line of its own, is no error.
pub fn parse_jlist(output: &[u8]) -> Result<Vec<Pm2Process>, ListError> {
    let mut broken = None;
    let mut at = 0;
    for _ in 0..MAX_CANDIDATES {
        let Some(start) = next_list_of_objects(output, at) else { break };
        let mut values = serde_json::Deserializer::from_slice(&output[start..]).into_iter::<Vec<RawApp>>();
        match values.next() {
            Some(Ok(apps)) if apps.iter().all(RawApp::is_an_app) => {
                return Ok(apps.into_iter().map(RawApp::into_process).collect());
            }
            // JSON, but another program's: the list cannot be inside it either.
            Some(Ok(_)) => at = start + values.byte_offset().max(1),
            Some(Err(_)) | None => {
                broken.get_or_insert(start);
                at = start + 1;
            }
        }
    }
    match broken {
        Some(at) => Err(ListError::Broken { at }),
        None if has_empty_list(output) => Ok(Vec::new()),
        None => Err(ListError::Absent { bytes: output.len() }),
    }
}

/// Parses the reply of pm2's own socket, `{"args": [[...]]}` or `{"error": ...}`.
pub(super) fn parse_rpc_reply(json: &[u8]) -> Result<Vec<Pm2Process>, ListError> {
    #[derive(Deserialize)]
    struct Reply {
        args: Vec<Vec<RawApp>>,
    }
    let reply: Reply = serde_json::from_slice(json).map_err(|_| ListError::Absent { bytes: json.len() })?;
    let apps = reply.args.into_iter().next().ok_or(ListError::Absent { bytes: json.len() })?;
    Ok(apps.into_iter().map(RawApp::into_process).collect())
}

/// Parses a `dump.pm2`; its apps have no process and no id.
///
/// # Errors
/// [`ListError::Absent`] if it is something else.
pub fn parse_dump(json: &[u8]) -> Result<Vec<Pm2Process>, ListError> {
    let apps: Vec<RawEnv> = serde_json::from_slice(json).map_err(|_| ListError::Absent { bytes: json.len() })?;
    let app = |mut env: RawEnv| RawApp { name: env.name.take(), pm2_env: Some(env), ..RawApp::default() };
    Ok(apps.into_iter().map(app).map(RawApp::into_process).collect())
}

/// Returns this process's entry: by pm2's id, else by process id, else by a name that only one entry has.
pub fn find_us<'a>(list: &'a [Pm2Process], us: &ProcessIdentity) -> Option<&'a Pm2Process> {
    let by_number = || list.iter().find(|app| app.pm_id.is_some() && app.pm_id == us.pm_id);
    let by_process = || list.iter().find(|app| app.pid == Some(us.pid));
    let by_name = || {
        let mut namesakes = list.iter().filter(|app| app.name.is_some() && app.name == us.name);
        namesakes.next().filter(|_| namesakes.next().is_none())
    };
    by_number().or_else(by_process).or_else(by_name)
}

/// Returns the offset of the next `[` that is followed by `{`: a banner's `[PM2]` is not tried.
fn next_list_of_objects(output: &[u8], from: usize) -> Option<usize> {
    let rest = output.get(from..)?;
    let opens = |index: usize| rest[index + 1..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    rest.iter().enumerate().find(|(index, byte)| **byte == b'[' && opens(*index)).map(|(index, _)| from + index)
}

fn has_empty_list(output: &[u8]) -> bool {
    output.split(|byte| *byte == b'\n').any(|line| line.trim_ascii() == b"[]")
}

/// An app as it is in the list. Scalars are read as any JSON value: their types have varied. Everything else is skipped
/// while parsing.
#[derive(Default, Deserialize)]
struct RawApp {
    #[serde(default)]
    pid: Value,
    #[serde(default)]
    pm_id: Value,
    #[serde(default)]
    name: Value,
    pm2_env: Option<RawEnv>,
    monit: Option<RawMonit>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawEnv {
    name: Value,
    pm_id: Value,
    status: Value,
    pm_uptime: Value,
    restart_time: Value,
    version: Value,
    autorestart: Value,
    stop_exit_codes: Value,
    kill_timeout: Value,
    pm_exec_path: Value,
    pm_cwd: Value,
    args: Value,
    exec_mode: Value,
    treekill: Value,
    exp_backoff_restart_delay: Value,
    max_restarts: Value,
    wait_ready: Value,
    listen_timeout: Value,
    watch: Value,
    ignore_watch: Value,
    #[serde(rename = "AGENTCOM_CONFIG")]
    config_variable: Value,
    env: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawMonit {
    memory: Value,
    cpu: Value,
}

impl RawApp {
    fn is_an_app(&self) -> bool {
        self.pm2_env.is_some() && (!self.pm_id.is_null() || !self.name.is_null())
    }

    fn into_process(self) -> Pm2Process {
        let env = self.pm2_env.unwrap_or_default();
        let monit = self.monit.unwrap_or_default();
        Pm2Process {
            pid: as_u32(&self.pid).filter(|pid| *pid != 0),
            pm_id: as_u32(&self.pm_id).or_else(|| as_u32(&env.pm_id)),
            name: self.name.as_str().map(str::to_owned),
            status: env.status.as_str().map(ProcessStatus::from_text).unwrap_or_default(),
            started_at_ms: to_u64(&env.pm_uptime),
            restart_time: to_u64(&env.restart_time),
            memory_bytes: to_u64(&monit.memory),
            cpu_percent: monit.cpu.as_f64(),
            version: env.version.as_str().filter(|version| *version != "N/A").map(str::to_owned),
            autorestart: to_bool(&env.autorestart),
            stop_exit_codes: exit_codes(&env.stop_exit_codes),
            kill_timeout_ms: to_u64(&env.kill_timeout),
            launch: Launch {
                program: program(&env.pm_exec_path, &env.args),
                cwd: path(&env.pm_cwd),
                config: config_argument(&env.args).or_else(|| path(&env.config_variable)),
                exec_mode: env.exec_mode.as_str().map(str::to_owned),
                treekill: to_bool(&env.treekill),
                exp_backoff_restart_delay_ms: to_u64(&env.exp_backoff_restart_delay),
                max_restarts: to_u64(&env.max_restarts),
                wait_ready: to_bool(&env.wait_ready),
                listen_timeout_ms: to_u64(&env.listen_timeout),
                watched: watched(&env),
            },
            environment: texts(env.env),
        }
    }
}

/// Returns the fields of an object that are texts.
fn texts(object: Value) -> Vec<(String, Secret)> {
    let Value::Object(fields) = object else { return Vec::new() };
    let text = |(name, value)| match value {
        Value::String(text) => Some((name, Secret::new(text))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    };
    fields.into_iter().filter_map(text).collect()
}

fn path(value: &Value) -> Option<PathBuf> {
    value.as_str().filter(|text| !text.is_empty()).map(PathBuf::from)
}

/// Returns the program that runs: the script, or the program that a shell replaces itself with. ecosystem.config.js and
/// `onboard` start one this way if its path has a space.
fn program(script: &Value, args: &Value) -> Option<PathBuf> {
    let mut words = args.as_array().into_iter().flatten().filter_map(Value::as_str);
    let hands_over = words.next() == Some("-c") && words.next() == Some(SHELL_EXEC);
    hands_over.then(|| words.next().map(PathBuf::from)).flatten().or_else(|| path(script))
}

/// Returns the value of `--config`. The arguments are a list of texts, or one text that pm2 splits at spaces.
fn config_argument(args: &Value) -> Option<PathBuf> {
    let words = args.as_str().into_iter().flat_map(str::split_whitespace);
    let mut words = words.chain(args.as_array().into_iter().flatten().filter_map(Value::as_str));
    loop {
        match words.next()?.split_once("--config") {
            Some(("", "")) => return words.next().map(PathBuf::from),
            Some(("", rest)) if rest.starts_with('=') => return Some(PathBuf::from(&rest[1..])),
            Some(_) | None => {}
        }
    }
}

/// Returns the watched paths. `watch` is a boolean, or a list of paths below the folder. With `ignore_watch`, what is
/// watched is not known.
fn watched(env: &RawEnv) -> Vec<PathBuf> {
    let Some(folder) = path(&env.pm_cwd) else { return Vec::new() };
    if !matches!(env.ignore_watch, Value::Null) {
        return Vec::new();
    }
    match &env.watch {
        Value::Array(paths) => paths.iter().filter_map(path).map(|path| folder.join(path)).collect(),
        watch if to_bool(watch) == Some(true) => vec![folder],
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => Vec::new(),
    }
}

fn as_u32(value: &Value) -> Option<u32> {
    to_u64(value).and_then(|number| u32::try_from(number).ok())
}

fn to_u64(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn to_bool(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| value.as_str()?.parse().ok())
}

/// Returns the exit codes: one code or a list of them, as numbers or as texts; pm2 accepts all four.
fn exit_codes(value: &Value) -> Option<Vec<i64>> {
    let one = |value: &Value| value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
    match value {
        Value::Null => None,
        Value::Array(items) => Some(items.iter().filter_map(one).collect()),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            Some(one(value).into_iter().collect())
        }
    }
}

#[cfg(test)]
mod tests;
