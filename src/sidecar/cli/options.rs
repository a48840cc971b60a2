//! The options that every command takes: the configuration file, and the values that override it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::sidecar::config::{Config, ConfigError, Loaded, Override, Overrides, config_path};

/// The heading of these options in a command's help, apart from the command's own.
const HEADING: &str = "Configuration";

/// The configuration file and what overrides it.
#[derive(Debug, Args, Clone, Default)]
pub struct Options {
    /// The configuration file [default: config.json in the working folder; env: AGENTCOM_CONFIG]
    #[arg(long, value_name = "FILE", global = true, help_heading = HEADING)]
    pub config: Option<PathBuf>,
    /// Replaces `log_level`: trace, debug, info, notice, warning, error
    #[arg(long, value_name = "LEVEL", global = true, help_heading = HEADING)]
    pub log_level: Option<String>,
    /// Replaces `log_format`: auto, json, text
    #[arg(long, value_name = "FORMAT", global = true, help_heading = HEADING)]
    pub log_format: Option<String>,
    /// Replaces `http_listen` [env: AGENTCOM_HTTP_LISTEN]
    #[arg(long, value_name = "ADDRESS", global = true, help_heading = HEADING)]
    pub http_listen: Option<String>,
    /// Replaces `hub_url`
    #[arg(long, value_name = "URL", global = true, help_heading = HEADING)]
    pub hub_url: Option<String>,
}

impl Options {
    /// Returns the path of the configuration file.
    pub fn config_path(&self) -> PathBuf {
        config_path(self.config.clone(), env)
    }

    /// Reads and checks the configuration as `run` does.
    ///
    /// # Errors
    /// Returns a [`ConfigError`] that names everything that is wrong.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let flags = Overrides {
            log_level: self.log_level.as_deref().map(|level| Override::new(level, "--log-level")),
            log_format: self.log_format.as_deref().map(|format| Override::new(format, "--log-format")),
            http_listen: self.http_listen.as_deref().map(|address| Override::new(address, "--http-listen")),
            hub_url: self.hub_url.as_deref().map(|url| Override::new(url, "--hub-url")),
            ..Overrides::default()
        };
        Config::load_with(&self.config_path(), &flags.over(Overrides::from_env(env)))
    }
}

fn env(key: &str) -> Option<OsString> {
    std::env::var_os(key)
}
