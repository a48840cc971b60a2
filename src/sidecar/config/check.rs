//! Makes a checked [`Config`] from the text of the file. A wrong value becomes a [`Problem`] and the reading goes on,
//! so that one run names them all. The only I/O is that `token_file` is read, and the permissions of files with secrets.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::common::secret::Secret;
use crate::protocol::{check_agent_name, check_new_name};
use crate::sidecar::config::error::{ConfigError, Place, Problem, WarningKind};
use crate::sidecar::config::json_ast::{self, Value};
use crate::sidecar::config::{Config, Executor, Loaded, Override, Overrides, RestartIntensity, bounds};

mod credentials;
mod http_listen;
mod hub_url;
mod labels;
pub(super) mod reader;
mod wake_command;
mod work;

use credentials::Token;
use reader::{Reader, not_null};

/// The values that are read before the table of keys, since other keys depend on them.
pub(super) struct First {
    pub(super) token: Secret,
    pub(super) token_file: Option<PathBuf>,
    pub(super) wake_timeout_ms: u64,
    pub(super) executors: Vec<Executor>,
    pub(super) http_allow_remote: bool,
}

/// Parses and checks the text of the file at `path`, whose top-level keys should be `known`.
///
/// # Errors
/// Returns a [`ConfigError`] that names everything that is wrong.
pub(super) fn check(
    path: &Path,
    text: &str,
    overrides: &Overrides,
    known: &'static [&'static str],
) -> Result<Loaded, ConfigError> {
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
    // The token is read before anything is reported, so that no message quotes it.
    let token = reader.token(overrides.token.as_ref());
    reader.check_keys(known);
    let config = reader.config(token, overrides);
    let Reader { problems, warnings, .. } = reader;
    match config {
        Some(config) => Ok(Loaded { config, warnings }),
        None => Err(ConfigError::Invalid { path: path.to_owned(), problems: sort_by_place(problems) }),
    }
}

/// Sorts the problems by their place in the file. Missing keys, which have none, come first.
fn sort_by_place(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| problem.place.as_ref().map(|place| (place.line, place.column)));
    problems
}

impl Reader<'_> {
    /// Reads every key. Returns `None` if any value is wrong.
    fn config(&mut self, token: Option<Token>, overrides: &Overrides) -> Option<Config> {
        let wake_timeout_ms = self.number(bounds::WAKE_TIMEOUT);
        let Token { secret, file } = token.unwrap_or_else(|| Token { secret: Secret::new(""), file: None });
        let first = First {
            token: secret,
            token_file: file,
            wake_timeout_ms,
            executors: self.executors(wake_timeout_ms),
            http_allow_remote: self.boolean("http_allow_remote"),
        };
        let config = self.every_key(overrides, first);
        self.check_reconnect_order(&config);
        self.check_client_pair();
        self.check_permissions(config.token_file.as_deref(), config.client_key_file.as_deref());
        self.problems.is_empty().then_some(config)
    }

    pub(super) fn agent_id(&mut self, key: &'static str) -> String {
        let allowed = "a text of 1 to 128 characters without control characters";
        let Some((node, id)) = self.required_text(key, allowed) else { return String::new() };
        if check_agent_name(&id).is_err() {
            self.wrong(Some(node), key, allowed);
        } else if check_new_name(&id).is_err() {
            // An agent may have been registered so once, and must not stop for it.
            self.warn(Some(node.at), WarningKind::HiddenInName { name: id.clone() });
        }
        id
    }

    pub(super) fn hub_url(&mut self, key: &'static str, over: Option<&Override>) -> String {
        let (node, key, url) = match over {
            Some(over) => (None, over.from, over.value.expose().to_owned()),
            None => match self.required_text(key, hub_url::ALLOWED) {
                Some((node, url)) => (Some(node), key, url),
                None => return String::new(),
            },
        };
        if let Err(wrong) = hub_url::check(&url) {
            self.report(node.map(|node| node.at), key, wrong.found, &wrong.allowed);
        }
        url
    }

    pub(super) fn http_url(&mut self, key: &'static str) -> Option<String> {
        let url = self.optional_text(key)?;
        let lower = url.to_ascii_lowercase();
        if !lower.starts_with("http://") && !lower.starts_with("https://") {
            self.wrong(self.find(key), key, "an address that starts with http:// or https://");
        }
        Some(url)
    }

    pub(super) fn wake_command(&mut self, key: &'static str) -> Option<String> {
        let Some(command) = self.optional_text(key) else {
            // With executors, a task of a target without one is reported when it comes.
            if self.present("executors").is_none() {
                self.warn(None, WarningKind::NoWakeCommand);
            }
            return None;
        };
        self.warn_single_quoted(self.find(key).map(|node| node.at), key, &command);
        Some(command)
    }

    pub(super) fn capabilities(&mut self, key: &'static str) -> Vec<String> {
        let allowed = "a list of texts: [\"code\", \"review\"]";
        let Some(node) = self.present_legacy(key) else { return Vec::new() };
        let Value::List(items) = &node.value else {
            self.wrong(Some(node), key, allowed);
            return Vec::new();
        };
        let mut capabilities = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match &item.value {
                Value::Text(text) => capabilities.push(text.clone()),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Object(_) => {
                    self.wrong(Some(item), &format!("{key}[{index}]"), allowed);
                }
            }
        }
        capabilities
    }

    /// Reads one of the names that `parse` takes.
    pub(super) fn name<T: Default>(
        &mut self,
        key: &'static str,
        over: Option<&Override>,
        parse: fn(&str) -> Option<T>,
        names: &str,
    ) -> T {
        let Some((node, key, name)) = self.text_or(over, key) else { return T::default() };
        parse(&name).unwrap_or_else(|| {
            self.report(node, key, format!("\"{name}\""), &format!("one of {names}"));
            T::default()
        })
    }

    pub(super) fn http_listen(
        &mut self,
        key: &'static str,
        over: Option<&Override>,
        remote: bool,
    ) -> Option<SocketAddr> {
        let (node, key, text) = self.text_or(over, key)?;
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

    /// Returns the text of the override, else of the file, with its position in the file and its name for messages.
    fn text_or(&mut self, over: Option<&Override>, key: &'static str) -> Option<(Option<usize>, &'static str, String)> {
        match over {
            Some(over) => Some((None, over.from, over.value.expose().to_owned())),
            None => {
                let text = self.optional_text(key)?;
                Some((self.find(key).map(|node| node.at), key, text))
            }
        }
    }

    pub(super) fn restart_intensity(&mut self, key: &'static str) -> RestartIntensity {
        let mut read = RestartIntensity {
            max: u32::try_from(bounds::INTENSITY_MAX.default).unwrap_or(u32::MAX),
            window_ms: bounds::INTENSITY_WINDOW.default,
        };
        let allowed = "an object such as {\"max\": 3, \"window_ms\": 60000}";
        let Some(members) = self.object(key, allowed) else { return read };
        if let Some(max) = not_null(members, "max") {
            // The bound of 1,000 fits u32.
            read.max = u32::try_from(self.whole_number(max, bounds::INTENSITY_MAX)).unwrap_or(u32::MAX);
        }
        if let Some(window) = not_null(members, "window_ms") {
            read.window_ms = self.whole_number(window, bounds::INTENSITY_WINDOW);
        }
        read
    }

    pub(super) fn wake_retry_delays(&mut self, key: &'static str) -> Vec<u64> {
        let Some(node) = self.present(key) else { return bounds::WAKE_RETRY_DEFAULTS.to_vec() };
        match &node.value {
            Value::List(items) if items.len() <= bounds::WAKE_RETRIES_MAX => {
                let mut delays = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let key = format!("{key}[{index}]");
                    delays.push(self.whole_number_named(item, &key, bounds::WAKE_RETRY_DELAY));
                }
                delays
            }
            Value::List(items) => {
                let allowed = format!("at most {} of them", bounds::WAKE_RETRIES_MAX);
                self.report(Some(node.at), key, format!("{} delays", items.len()), &allowed);
                Vec::new()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Object(_) => {
                self.wrong(Some(node), key, "a list such as [5000, 15000, 30000]; [] means no retry");
                Vec::new()
            }
        }
    }

    /// Reports a first wait above the longest.
    fn check_reconnect_order(&mut self, config: &Config) {
        let (min, max) = (config.reconnect_min_ms, config.reconnect_max_ms);
        if min > max {
            let node = self.find("reconnect_min_ms").or_else(|| self.find("reconnect_max_ms"));
            let allowed = format!("at most reconnect_max_ms, which is {max}");
            self.report(node.map(|node| node.at), "reconnect_min_ms", min.to_string(), &allowed);
        }
    }
}
