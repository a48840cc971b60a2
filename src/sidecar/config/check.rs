//! Raw values to a checked [`Config`]: every wrong value becomes a [`Problem`] and the reading goes on, so that one run
//! names them all. It does no I/O but one look at the file's permissions.

use std::net::SocketAddr;
use std::path::Path;

use crate::common::logging::{LogFormat, LogLevel};
use crate::common::secret::Secret;
use crate::protocol::Limit;
use crate::sidecar::config::error::{ConfigError, Place, Problem, WarningKind};
use crate::sidecar::config::json_ast::{self, Value};
use crate::sidecar::config::{Config, Loaded, Override, Overrides, RestartIntensity, keys};

mod http_listen;
mod hub_url;
mod reader;
mod wake_command;
mod work;

use reader::{Reader, last};

pub(super) fn check(path: &Path, text: &str, overrides: &Overrides) -> Result<Loaded, ConfigError> {
    if text.trim().is_empty() {
        let place = Place { file: path.to_owned(), line: 1, column: 1 };
        let detail = "the file is empty; docs/configuration.md has one to begin with".to_owned();
        return Err(ConfigError::Syntax { place, detail });
    }
    let root = json_ast::parse(text).map_err(|error| ConfigError::Syntax {
        place: Place { file: path.to_owned(), line: error.line, column: error.column },
        detail: error.detail,
    })?;
    let mut reader = Reader::new(path, text, &root);
    // The token comes first: nothing that is said after it quotes it.
    let token = reader.token(overrides.token.as_ref());
    reader.check_keys();
    let config = reader.config(token, overrides);
    let Reader { problems, warnings, .. } = reader;
    match config {
        Some(config) => Ok(Loaded { config, warnings }),
        None => Err(ConfigError::Invalid { path: path.to_owned(), problems: sort_by_place(problems) }),
    }
}

/// Missing keys first (they have no place), then as a reader meets them.
fn sort_by_place(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| problem.place.as_ref().map(|place| (place.line, place.column)));
    problems
}

impl Reader<'_> {
    /// Every value, defaults where one is wrong; `None` if any is.
    fn config(&mut self, token: Option<Secret>, overrides: &Overrides) -> Option<Config> {
        let agent_id = self.agent_id();
        let hub_url = self.hub_url(overrides.hub_url.as_ref());
        let wake_timeout_ms = self.number(keys::WAKE_TIMEOUT);
        let executors = self.executors(wake_timeout_ms);
        let http_allow_remote = self.boolean("http_allow_remote");
        let config = Config {
            path: self.path.to_owned(),
            overrides: overrides.clone(),
            agent_id: agent_id.unwrap_or_default(),
            token: token.unwrap_or_else(|| Secret::new("")),
            hub_url: hub_url.unwrap_or_default(),
            hub_api_url: self.http_url("hub_api_url"),
            repo_dir: self.folder("repo_dir"),
            reviewer: self.optional_text("reviewer"),
            wake_command: self.wake_command(),
            capabilities: self.capabilities(),
            confirmation_timeout_ms: self.legacy_number(keys::CONFIRMATION_TIMEOUT),
            results_dir: self.path_or("results_dir", "./results"),
            log_file: self.path_or("log_file", "./sidecar.log"),
            log_level: self.log_level(overrides.log_level.as_ref()),
            ollama_url: self.optional_text("ollama_url"),
            queue_file: self.path_or("queue_file", "./queue.json"),
            restart_deadline_ms: self.number(keys::RESTART_DEADLINE),
            drain_deadline_ms: self.number(keys::DRAIN_DEADLINE),
            restart_intensity: self.restart_intensity(),
            wake_retry_delays_ms: self.wake_retry_delays(),
            wake_timeout_ms,
            progress_interval_ms: self.number(keys::PROGRESS_INTERVAL),
            ping_interval_ms: self.number(keys::PING_INTERVAL),
            pong_timeout_ms: self.number(keys::PONG_TIMEOUT),
            reconnect_min_ms: self.number(keys::RECONNECT_MIN),
            reconnect_max_ms: self.number(keys::RECONNECT_MAX),
            connect_timeout_ms: self.number(keys::CONNECT_TIMEOUT),
            identify_timeout_ms: self.number(keys::IDENTIFY_TIMEOUT),
            answer_timeout_ms: self.number(keys::ANSWER_TIMEOUT),
            results_scan_ms: self.number(keys::RESULTS_SCAN),
            max_frame_bytes: self.number(keys::MAX_FRAME),
            http_listen: self.http_listen(overrides.http_listen.as_ref(), http_allow_remote),
            http_allow_remote,
            log_format: self.log_format(overrides.log_format.as_ref()),
            executors,
            shell_commands: self.shell_commands(),
            hooks: self.hooks(),
            resource_report_interval_ms: self.resource_report_interval(),
        };
        self.reconnect_order(&config);
        self.permissions();
        self.problems.is_empty().then_some(config)
    }

    fn agent_id(&mut self) -> Option<String> {
        let allowed = "a text of 1 to 128 characters without control characters";
        let (node, id) = self.required_text("agent_id", allowed)?;
        let length = id.chars().count();
        if length > Limit::AgentId.chars() || id.chars().any(char::is_control) || id.trim().is_empty() {
            self.wrong(Some(node), "agent_id", allowed);
            return None;
        }
        Some(id)
    }

    fn token(&mut self, over: Option<&Override>) -> Option<Secret> {
        const ALLOWED: &str = "the text that the hub gave at registration (1 to 256 characters, no white space around)";
        let (node, key, secret) = match over {
            Some(over) => (None, over.from, over.value.clone()),
            None => {
                let (node, text) = self.required_text("token", ALLOWED)?;
                (Some(node), "token", Secret::new(text))
            }
        };
        let text = secret.expose();
        let length = text.chars().count();
        let problem = if length > Limit::Status.chars() {
            Some(format!("a text of {length} characters"))
        } else if text.trim() != text || text.chars().any(char::is_control) || text.is_empty() {
            Some("a text with white space or control characters around or in it".to_owned())
        } else if text.contains(char::REPLACEMENT_CHARACTER) {
            Some("bytes that are no UTF-8 text".to_owned())
        } else {
            None
        };
        self.redact(text);
        // As it is written in the file, escapes and all.
        node.into_iter().for_each(|node| self.redact(node.raw.trim_matches('"')));
        match problem {
            None => Some(secret),
            Some(found) => {
                self.report(node.map(|node| node.at), key, found, ALLOWED);
                None
            }
        }
    }

    fn hub_url(&mut self, over: Option<&Override>) -> Option<String> {
        let (node, key, url) = match over {
            Some(over) => (None, over.from, over.value.expose().to_owned()),
            None => {
                let (node, url) = self.required_text("hub_url", hub_url::ALLOWED)?;
                (Some(node), "hub_url", url)
            }
        };
        match hub_url::check(&url) {
            Ok(()) => Some(url),
            Err(wrong) => {
                self.report(node.map(|node| node.at), key, wrong.found, &wrong.allowed);
                None
            }
        }
    }

    fn http_url(&mut self, key: &'static str) -> Option<String> {
        let url = self.optional_text(key)?;
        let lower = url.to_ascii_lowercase();
        if !lower.starts_with("http://") && !lower.starts_with("https://") {
            self.wrong(self.find(key), key, "an address that starts with http:// or https://");
        }
        Some(url)
    }

    fn wake_command(&mut self) -> Option<String> {
        let Some(command) = self.optional_text("wake_command") else {
            // Where executors do the work, a target without one is said when such a task comes.
            if self.present("executors").is_none() {
                self.warn(None, WarningKind::NoWakeCommand);
            }
            return None;
        };
        let at = self.find("wake_command").map(|node| node.at);
        for variable in wake_command::single_quoted(&command) {
            self.warn(at, WarningKind::SingleQuoted { key: "wake_command".into(), variable });
        }
        Some(command)
    }

    fn capabilities(&mut self) -> Vec<String> {
        let allowed = "a list of texts: [\"code\", \"review\"]";
        let Some(node) = self.present_legacy("capabilities") else { return Vec::new() };
        let Value::List(items) = &node.value else {
            self.wrong(Some(node), "capabilities", allowed);
            return Vec::new();
        };
        let mut capabilities = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match &item.value {
                Value::Text(text) => capabilities.push(text.clone()),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Object(_) => {
                    self.wrong(Some(item), &format!("capabilities[{index}]"), allowed);
                }
            }
        }
        capabilities
    }

    fn log_level(&mut self, over: Option<&Override>) -> LogLevel {
        let Some((node, key, name)) = self.text_or(over, "log_level") else { return LogLevel::default() };
        LogLevel::parse(&name).unwrap_or_else(|| {
            let allowed = format!("one of {}", LogLevel::NAMES);
            self.report(node, key, format!("\"{name}\""), &allowed);
            LogLevel::default()
        })
    }

    fn log_format(&mut self, over: Option<&Override>) -> LogFormat {
        let Some((node, key, name)) = self.text_or(over, "log_format") else { return LogFormat::default() };
        LogFormat::parse(&name).unwrap_or_else(|| {
            let allowed = format!("one of {}", LogFormat::NAMES);
            self.report(node, key, format!("\"{name}\""), &allowed);
            LogFormat::default()
        })
    }

    fn http_listen(&mut self, over: Option<&Override>, remote: bool) -> Option<SocketAddr> {
        let (node, key, text) = self.text_or(over, "http_listen")?;
        let address = http_listen::parse(&text);
        match address {
            None => self.report(node, key, format!("\"{text}\""), http_listen::ALLOWED),
            Some(address) if !remote && !address.ip().is_loopback() => {
                self.report(node, key, format!("\"{text}\""), http_listen::LOOPBACK_ONLY);
            }
            Some(_) => {}
        }
        address
    }

    /// The override's text, or the file's, with where it stands and what it is called.
    fn text_or(&mut self, over: Option<&Override>, key: &'static str) -> Option<(Option<usize>, &'static str, String)> {
        match over {
            Some(over) => Some((None, over.from, over.value.expose().to_owned())),
            None => {
                let text = self.optional_text(key)?;
                Some((self.find(key).map(|node| node.at), key, text))
            }
        }
    }

    fn boolean(&mut self, key: &'static str) -> bool {
        let Some(node) = self.present(key) else { return false };
        match node.value {
            Value::Bool(yes) => yes,
            Value::Null | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Object(_) => {
                self.wrong(Some(node), key, "true or false");
                false
            }
        }
    }

    fn restart_intensity(&mut self) -> RestartIntensity {
        let mut read = RestartIntensity {
            max: u32::try_from(keys::INTENSITY_MAX.default).unwrap_or(u32::MAX),
            window_ms: keys::INTENSITY_WINDOW.default,
        };
        let allowed = "an object such as {\"max\": 3, \"window_ms\": 60000}";
        let Some(members) = self.object("restart_intensity", allowed) else { return read };
        if let Some(max) = last(members, "max").filter(|node| !matches!(node.value, Value::Null)) {
            // The bound of 1,000 keeps it inside u32.
            read.max = u32::try_from(self.whole_number(max, keys::INTENSITY_MAX)).unwrap_or(u32::MAX);
        }
        if let Some(window) = last(members, "window_ms").filter(|node| !matches!(node.value, Value::Null)) {
            read.window_ms = self.whole_number(window, keys::INTENSITY_WINDOW);
        }
        read
    }

    fn wake_retry_delays(&mut self) -> Vec<u64> {
        let Some(node) = self.present("wake_retry_delays_ms") else { return keys::WAKE_RETRY_DEFAULTS.to_vec() };
        match &node.value {
            Value::List(items) if items.len() <= keys::WAKE_RETRIES_MAX => {
                let mut delays = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let key = format!("wake_retry_delays_ms[{index}]");
                    delays.push(self.whole_number_named(item, &key, keys::WAKE_RETRY_DELAY));
                }
                delays
            }
            Value::List(items) => {
                let allowed = format!("at most {} of them", keys::WAKE_RETRIES_MAX);
                self.report(Some(node.at), "wake_retry_delays_ms", format!("{} delays", items.len()), &allowed);
                Vec::new()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Object(_) => {
                self.wrong(
                    Some(node),
                    "wake_retry_delays_ms",
                    "a list such as [5000, 15000, 30000]; [] means no retry",
                );
                Vec::new()
            }
        }
    }

    fn reconnect_order(&mut self, config: &Config) {
        let (min, max) = (config.reconnect_min_ms, config.reconnect_max_ms);
        if min > max {
            let node = self.find("reconnect_min_ms").or_else(|| self.find("reconnect_max_ms"));
            let allowed = format!("at most reconnect_max_ms, which is {max}");
            self.report(node.map(|node| node.at), "reconnect_min_ms", min.to_string(), &allowed);
        }
    }

    #[cfg(unix)]
    fn permissions(&mut self) {
        use std::os::unix::fs::PermissionsExt;
        // A token from the environment leaves nothing in the file to protect.
        if self.present_legacy("token").is_none() {
            return;
        }
        let Ok(metadata) = std::fs::metadata(self.path) else { return };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            self.warn(None, WarningKind::ReadableByOthers { path: self.path.to_owned(), mode });
        }
    }

    #[cfg(not(unix))]
    fn permissions(&mut self) {}
}
