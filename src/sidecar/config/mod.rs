//! Reads and checks `config.json`. Flags override the environment, the environment the file, the file the defaults;
//! every wrong value is named with its place. It opens no socket, writes nothing and logs nothing.
//!
//! A configuration of the legacy sidecar is read unchanged. The source of its keys, and of the empty values that count
//! as absent in them, is the legacy sidecar's loader.
//!
//! A new key is a field of [`Config`], a row of the table in `keys.rs`, and a row in docs/configuration.md.

mod bounds;
mod check;
mod credentials;
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
use crate::protocol::Labels;

pub use bounds::NumberKey;
pub use credentials::read_token;
pub use error::{ConfigError, Place, Problem, Warning, WarningKind};
pub use keys::{KEYS, NUMBERS};
pub use reload::Merged;
pub use work::{Executor, ExecutorMode, Hooks, ShellCommands};

/// The most that is read of a configuration file, bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A checked configuration. Paths are absolute; the fields that end in `_ms` are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file that it was read from.
    pub path: PathBuf,
    /// The values that override the file, for a reload.
    pub overrides: Overrides,
    /// The agent's id on the hub, 1 to 128 characters.
    pub agent_id: String,
    /// The agent's secret; empty if `token_file` could not be read.
    pub token: Secret,
    /// The file that the token is read from, if it does not stand in the configuration or the environment. It is read
    /// again for each connection.
    pub token_file: Option<PathBuf>,
    /// The hub's WebSocket address, `ws://` or `wss://`.
    pub hub_url: String,
    /// The authorities that the hub's certificate is checked against, PEM, in place of the machine's.
    pub ca_file: Option<PathBuf>,
    /// The certificate that a hub is shown that asks for one, PEM.
    pub client_cert_file: Option<PathBuf>,
    /// Its private key, PEM.
    pub client_key_file: Option<PathBuf>,
    /// The hub's HTTP address, `http://` or `https://`.
    pub hub_api_url: Option<String>,
    /// The agent's repository.
    pub repo_dir: Option<PathBuf>,
    /// The reviewer of the agent's work.
    pub reviewer: Option<String>,
    /// The shell line that wakes the agent.
    pub wake_command: Option<String>,
    /// The kinds of tasks that the agent can do.
    pub capabilities: Vec<String>,
    /// What operators group agents by on the hub.
    pub labels: Labels,
    /// How long after a wake the agent may take to write its `.started` file, ms.
    pub confirmation_timeout_ms: u64,
    /// The folder in which the agent's session leaves its files.
    pub results_dir: PathBuf,
    /// The log file, beside stdout.
    pub log_file: PathBuf,
    /// The lowest level that is logged.
    pub log_level: LogLevel,
    /// A local Ollama endpoint, passed on to the hub.
    pub ollama_url: Option<String>,
    /// The journal. Its folder is the state folder.
    pub queue_file: PathBuf,
    /// How long a task may delay a commanded restart, ms.
    pub restart_deadline_ms: u64,
    /// How long the goodbye to the hub may take, ms.
    pub drain_deadline_ms: u64,
    /// The limit on commanded restarts.
    pub restart_intensity: RestartIntensity,
    /// The waits before each further try to wake the agent, ms.
    pub wake_retry_delays_ms: Vec<u64>,
    /// How long one wake may take, ms.
    pub wake_timeout_ms: u64,
    /// The interval of progress reports for a live task, ms.
    pub progress_interval_ms: u64,
    /// The interval of pings to the hub, ms.
    pub ping_interval_ms: u64,
    /// How long a pong may take, ms.
    pub pong_timeout_ms: u64,
    /// The first wait before a reconnect, ms.
    pub reconnect_min_ms: u64,
    /// The longest wait before a reconnect, ms; never below the first.
    pub reconnect_max_ms: u64,
    /// How long a connection may take to open, ms.
    pub connect_timeout_ms: u64,
    /// How long the hub may take to send `identified`, ms.
    pub identify_timeout_ms: u64,
    /// How long a verdict may stay unanswered before it is sent again, ms.
    pub answer_timeout_ms: u64,
    /// The interval of scans of the results folder, besides its notifications, ms.
    pub results_scan_ms: u64,
    /// The longest frame that is accepted from the hub, bytes.
    pub max_frame_bytes: u64,
    /// The address of the local HTTP listener, if there is one.
    pub http_listen: Option<SocketAddr>,
    /// Whether `http_listen` may be another than a loopback address.
    pub http_allow_remote: bool,
    /// The format of log lines on stdout.
    pub log_format: LogFormat,
    /// The executors by routing target, `default` for tasks without one; `wake_command` does all others.
    pub executors: Vec<Executor>,
    /// Whether the hub may have shell lines run on this machine.
    pub shell_commands: ShellCommands,
    /// Commands around every task.
    pub hooks: Hooks,
    /// The time limit for a task, ms, if there is one.
    pub task_timeout_ms: Option<u64>,
    /// The interval of load reports, ms; 0 means never.
    pub resource_report_interval_ms: u64,
}

/// The limit of `max` commanded restarts within `window_ms`, as in OTP. A `max` of 0 refuses all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartIntensity {
    /// The number of restarts.
    pub max: u32,
    /// The length of the window, ms.
    pub window_ms: u64,
}

/// A checked configuration with its warnings, which the caller logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The warnings; those about keys come first, in the order of the file.
    pub warnings: Vec<Warning>,
}

/// Values of the environment and of flags, which override the file.
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

/// A value with its source, for error messages. Its `Debug` hides the value, since it may be a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The value.
    pub value: Secret,
    /// The source: `AGENTCOM_TOKEN`, `--log-level`, ...
    pub from: &'static str,
}

impl Overrides {
    /// Returns the overrides of the environment: `AGENTCOM_TOKEN` and `AGENTCOM_HTTP_LISTEN`. An empty variable counts
    /// as absent; one that is not UTF-8 is a wrong value.
    pub fn from_env(env: impl Fn(&str) -> Option<OsString>) -> Self {
        let over = |name| {
            let value = env(name).filter(|value| !value.is_empty())?;
            Some(Override::new(value.to_string_lossy(), name))
        };
        Self { token: over(TOKEN_VARIABLE), http_listen: over(HTTP_LISTEN_VARIABLE), ..Self::default() }
    }

    /// Returns the values of `self`, and those of `lower` where `self` has none: `flags.over(environment)`.
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

impl Overrides {
    /// Returns the keys of the file that are overridden and decide about the connection, each with the source of its
    /// value.
    pub fn of_connection(&self) -> Vec<(&'static str, &'static str)> {
        let keys = [("hub_url", &self.hub_url), ("token", &self.token)];
        keys.into_iter().filter_map(|(key, over)| Some((key, over.as_ref()?.from))).collect()
    }
}

impl Override {
    /// Creates an override of `value` from the source `from`.
    pub fn new(value: impl Into<String>, from: &'static str) -> Self {
        Self { value: Secret::new(value), from }
    }
}

/// The environment variable that names the configuration file.
pub const PATH_VARIABLE: &str = "AGENTCOM_CONFIG";
/// The environment variable that holds the token in place of the file. It is removed from the agent's environment.
pub const TOKEN_VARIABLE: &str = "AGENTCOM_TOKEN";

/// The environment variable of an admin's token, for `onboard`. If it is exported in the shell that starts the agent,
/// the daemon inherits it.
pub const ADMIN_TOKEN_VARIABLE: &str = "AGENTCOM_ADMIN_TOKEN";

/// The environment variable of an invitation's code, for `onboard`.
pub const INVITATION_VARIABLE: &str = "AGENTCOM_INVITATION";

/// The environment variable for `http_listen`.
pub const HTTP_LISTEN_VARIABLE: &str = "AGENTCOM_HTTP_LISTEN";

/// Returns the path of the configuration file: the flag, else `AGENTCOM_CONFIG`, else `config.json` in the working
/// folder.
pub fn config_path(flag: Option<PathBuf>, env: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    flag.or_else(|| env(PATH_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("config.json"))
}

impl Config {
    /// Reads and checks the file, without overrides.
    ///
    /// # Errors
    /// Returns a [`ConfigError`] that names the file and everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
        Self::load_with(path, &Overrides::default())
    }

    /// Reads and checks the file; `overrides` replace its values.
    ///
    /// # Errors
    /// Returns a [`ConfigError`] that names the file and everything that is wrong with it.
    pub fn load_with(path: &Path, overrides: &Overrides) -> Result<Loaded, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        // An absolute path keeps its meaning when the working folder changes.
        let path = std::path::absolute(path).map_err(unreadable)?;
        let text = read(&path)?;
        check::check(&path, text.strip_prefix('\u{feff}').unwrap_or(&text), overrides, KEYS)
    }

    /// Checks a text that is to be written to the file at `path`.
    ///
    /// # Errors
    /// Returns a [`ConfigError`] that names everything that is wrong with it.
    pub(crate) fn check_text(path: &Path, text: &str) -> Result<(), ConfigError> {
        check::check(path, text, &Overrides::default(), KEYS).map(drop)
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
