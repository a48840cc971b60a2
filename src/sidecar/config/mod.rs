//! `config.json`, from raw to checked: defaults < file < environment < flags, every wrong value named with its place.
//! It reads an existing AgentCom configuration unchanged; it opens no socket, writes nothing and logs nothing.
//!
//! Source of the existing keys and of which empty values mean "absent" there: the loader of the original Node sidecar.

mod check;
mod error;
mod json_ast;
mod keys;
mod reload;
mod work;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::common::fs::regular_file::{self, Unsuitable};
use crate::common::logging::{LogFormat, LogLevel};
use crate::common::secret::Secret;

pub use error::{ConfigError, Place, Problem, Warning, WarningKind};
pub use keys::{KEYS, NUMBERS, NumberKey};
pub use reload::Merged;
pub use work::{Executor, ExecutorMode, Hooks, ShellCommands};

/// Far more than any configuration needs.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A configuration whose every value has been checked. Paths are absolute; `_ms` are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// What won over the file, to read it again by.
    pub overrides: Overrides,
    /// Who we are: 1 to 128 characters.
    pub agent_id: String,
    /// The agent's secret.
    pub token: Secret,
    /// `ws://` or `wss://`.
    pub hub_url: String,
    /// The hub's HTTP address.
    pub hub_api_url: Option<String>,
    /// The agent's repository.
    pub repo_dir: Option<PathBuf>,
    /// Who reviews the agent's work.
    pub reviewer: Option<String>,
    /// The shell line that wakes the agent.
    pub wake_command: Option<String>,
    /// What tasks the agent can do.
    pub capabilities: Vec<String>,
    /// How long after a wake the agent may take to show its `.started` file.
    pub confirmation_timeout_ms: u64,
    /// Where the agent's session leaves its files.
    pub results_dir: PathBuf,
    /// Where the log goes beside stdout.
    pub log_file: PathBuf,
    /// What is worth a line.
    pub log_level: LogLevel,
    /// A local Ollama endpoint, passed on to the hub.
    pub ollama_url: Option<String>,
    /// The journal; its folder is the state folder.
    pub queue_file: PathBuf,
    /// How long a task may hold a commanded restart up.
    pub restart_deadline_ms: u64,
    /// How long the goodbye may take.
    pub drain_deadline_ms: u64,
    /// How many commanded restarts are obeyed in how long.
    pub restart_intensity: RestartIntensity,
    /// The waits before each further try to wake the agent.
    pub wake_retry_delays_ms: Vec<u64>,
    /// How long one wake may take.
    pub wake_timeout_ms: u64,
    /// How often a live task says so.
    pub progress_interval_ms: u64,
    /// How often we ping.
    pub ping_interval_ms: u64,
    /// How long a pong may take.
    pub pong_timeout_ms: u64,
    /// The first wait before a reconnect.
    pub reconnect_min_ms: u64,
    /// The longest wait before a reconnect; never below the first.
    pub reconnect_max_ms: u64,
    /// How long a connection may take to open.
    pub connect_timeout_ms: u64,
    /// How long the hub may take to say `identified`.
    pub identify_timeout_ms: u64,
    /// How long a verdict may stay unanswered before it is said again.
    pub answer_timeout_ms: u64,
    /// How often the results folder is looked at besides its notifications.
    pub results_scan_ms: u64,
    /// The longest frame taken from the hub, bytes.
    pub max_frame_bytes: u64,
    /// Where the local HTTP listener is; nowhere by default.
    pub http_listen: Option<SocketAddr>,
    /// Whether that may be another address than this machine's own; it was checked by it.
    pub http_allow_remote: bool,
    /// How lines on stdout look.
    pub log_format: LogFormat,
    /// Who does the tasks of which routing target; `wake_command` those of all others.
    pub executors: Vec<Executor>,
    /// Whether the hub may have shell lines run here.
    pub shell_commands: ShellCommands,
    /// Commands around every task.
    pub hooks: Hooks,
    /// How often the machine's load is reported, ms; 0: never.
    pub resource_report_interval_ms: u64,
}

/// At most `max` commanded restarts in `window_ms`, as in OTP; 0 refuses all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartIntensity {
    /// How many.
    pub max: u32,
    /// In how long, ms.
    pub window_ms: u64,
}

/// A checked configuration, and what a person should know about it. The caller logs the warnings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// In the order of the file.
    pub warnings: Vec<Warning>,
}

/// Values that win over the file: the environment's, or a flag's over the environment's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `token`.
    pub token: Option<Override>,
    /// `hub_url`.
    pub hub_url: Option<Override>,
    /// `log_level`.
    pub log_level: Option<Override>,
    /// `log_format`.
    pub log_format: Option<Override>,
    /// `http_listen`.
    pub http_listen: Option<Override>,
}

/// One such value and where it came from, for the error message. Its `Debug` hides it, since it may be a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The value.
    pub value: Secret,
    /// `AGENTCOM_TOKEN`, `--log-level`, ...
    pub from: &'static str,
}

impl Overrides {
    /// The environment's overrides: `AGENTCOM_TOKEN` and `AGENTCOM_HTTP_LISTEN`. An empty variable counts as absent; one
    /// that is no text is a wrong value, never an absent one.
    pub fn from_env(env: impl Fn(&str) -> Option<OsString>) -> Self {
        let over = |name| {
            let value = env(name).filter(|value| !value.is_empty())?;
            Some(Override::new(value.to_string_lossy(), name))
        };
        Self { token: over(TOKEN_VARIABLE), http_listen: over(HTTP_LISTEN_VARIABLE), ..Self::default() }
    }

    /// `self` where it says something, else `lower`: `flags.over(environment)`.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        Self {
            token: self.token.or(lower.token),
            hub_url: self.hub_url.or(lower.hub_url),
            log_level: self.log_level.or(lower.log_level),
            log_format: self.log_format.or(lower.log_format),
            http_listen: self.http_listen.or(lower.http_listen),
        }
    }
}

impl Override {
    /// A value and where it came from.
    pub fn new(value: impl Into<String>, from: &'static str) -> Self {
        Self { value: Secret::new(value), from }
    }
}

/// The variable that names the configuration file.
pub const PATH_VARIABLE: &str = "AGENTCOM_CONFIG";
/// The variable that holds the token, so that the file need not. It is kept from the agent's environment.
pub const TOKEN_VARIABLE: &str = "AGENTCOM_TOKEN";

/// An admin's token, for `onboard`. Whoever exports it and starts the agent from the same shell hands it to the daemon too.
pub const ADMIN_TOKEN_VARIABLE: &str = "AGENTCOM_ADMIN_TOKEN";

/// The variable for `http_listen`.
pub const HTTP_LISTEN_VARIABLE: &str = "AGENTCOM_HTTP_LISTEN";

/// Which file to read: the flag, else `AGENTCOM_CONFIG`, else `config.json` in the working folder.
pub fn config_path(flag: Option<PathBuf>, env: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    flag.or_else(|| env(PATH_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("config.json"))
}

impl Config {
    /// Reads and checks the file alone.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
        Self::load_with(path, &Overrides::default())
    }

    /// Reads and checks the file; `overrides` win over it.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and everything that is wrong with it.
    pub fn load_with(path: &Path, overrides: &Overrides) -> Result<Loaded, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        // Absolute, so that a later change of the working folder moves nothing.
        let path = std::path::absolute(path).map_err(unreadable)?;
        let text = read(&path)?;
        check::check(&path, text.strip_prefix('\u{feff}').unwrap_or(&text), overrides)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let bytes = regular_file::read(path, MAX_FILE_BYTES).map_err(|error| match Unsuitable::of(&error) {
        Some(Unsuitable::TooLarge { max_bytes, .. }) => ConfigError::TooLarge { path: path.to_owned(), max_bytes },
        Some(Unsuitable::NoFile(_)) | None => unreadable(error),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
        ConfigError::NotUtf8 { path: path.to_owned(), line }
    })
}
