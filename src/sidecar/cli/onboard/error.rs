//! The errors of `onboard`. Each says what happened, where, and what to do next. None quotes a token.

use std::io;
use std::path::{Path, PathBuf};

use crate::common::fs::atomic_file::DurableError;
use crate::common::fs::regular_file::Unsuitable;
use crate::common::http_client::{AskError, HubAddress};
use crate::protocol::{BadAgentName, NEW_NAME};
use crate::sidecar::config::{ADMIN_TOKEN_VARIABLE, Config, ConfigError, INVITATION_VARIABLE};
use crate::sidecar::exit_code::ExitCode;

/// The reason why an agent was not onboarded.
#[derive(Debug, thiserror::Error)]
pub(super) enum OnboardError {
    /// `--name` is not a valid agent id.
    #[error("`--name`: found {0}; allowed: {NEW_NAME}")]
    Name(BadAgentName),
    /// `--hub` is not an address of a hub.
    #[error("`--hub`: {0}")]
    Address(String),
    /// What is to be written would be no configuration.
    #[error("with these arguments, what is to be written could not be used: {0}. Nothing was registered or written")]
    Arguments(ConfigError),
    /// A token file cannot be read, or is empty.
    #[error("{}", token_file_message(.path, .source))]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The error of the read.
        source: io::Error,
    },
    /// The configuration file exists already.
    #[error("{} is there already. {what}. Nothing was registered or changed", .path.display())]
    ThereAlready {
        /// The file.
        path: PathBuf,
        /// The agent and hub that it is for, and what to do.
        what: String,
    },
    /// `--config` names a folder.
    #[error(
        "--config: {} is a folder; name the file to write in it, such as {}. Nothing was registered or written",
        .0.display(),
        .0.join("config.json").display()
    )]
    NotAFile(PathBuf),
    /// A folder cannot be created or written.
    #[error(
        "cannot {doing} {}: {source}; {}name a configuration elsewhere with --config. Nothing was registered",
        .path.display(),
        permission_advice(.source)
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The verb for what failed: `find`, `make`, `write to`.
        doing: &'static str,
        /// The error of the system.
        source: io::Error,
    },
    /// The hub cannot be reached.
    #[error("{0} (nothing was written)")]
    Unreachable(AskError),
    /// The port speaks TLS, and the address says otherwise.
    #[error("the port of {hub} speaks TLS: write https:// into --hub. Nothing was written")]
    SpeaksTls {
        /// The address.
        hub: String,
    },
    /// The server at the address is not a hub.
    #[error(
        "{hub} is no AgentCom hub: {hub}/health answered HTTP {status} and does not call itself one; check the port and \
         path of --hub. Nothing was written"
    )]
    NotAHub {
        /// The address.
        hub: String,
        /// The HTTP status of its answer.
        status: u16,
    },
    /// The hub has an agent of this name already.
    #[error(
        "{hub} has an agent called {name:?} already, and gives each name's token once. Choose another --name; or, if \
         {name:?} is this agent (an onboarding that was interrupted after it had registered leaves it so): with its \
         token in a file, run this again with --token-file FILE; without, make it another on the hub's \
         machine: agentcom-hub token {name} --replace (--token-file - reads what that prints). Nothing was written"
    )]
    Taken {
        /// The agent's name.
        name: String,
        /// The hub's address.
        hub: String,
    },
    /// The hub does not let this client register agents.
    #[error("{}", not_allowed_message(.hub, .why, *.given))]
    NotAllowed {
        /// The hub's address.
        hub: String,
        /// The hub's error text.
        why: String,
        /// What was sent to be let in: `admin token` or `invitation`.
        given: Option<&'static str>,
    },
    /// The hub refused the registration.
    #[error("{hub} did not register the agent ({why}); mend that and run this again. Nothing was written")]
    Refused {
        /// The hub's address.
        hub: String,
        /// The hub's error text.
        why: String,
    },
    /// The hub registered the agent and returned no token.
    #[error("{hub} registered the agent and gave no token: is it an AgentCom hub? Nothing was written")]
    NoToken {
        /// The hub's address.
        hub: String,
    },
    /// The hub does not accept the given token as this agent's.
    #[error(
        "{hub} does not take the token that was given: {why}. Put the right one into --token-file, or leave that out to \
         register. Nothing was written"
    )]
    BadToken {
        /// The hub's address.
        hub: String,
        /// The reason.
        why: String,
    },
    /// There is a token, and the configuration could not be written.
    #[error("{}", not_kept_message(.name, *.registered, .error))]
    NotKept {
        /// The agent's name.
        name: String,
        /// Whether the agent was registered just now.
        registered: bool,
        /// The error of the write.
        error: DurableError,
    },
    /// The written configuration is not valid, for example because of the token that the hub gave.
    #[error("what was written cannot be used: {0}")]
    Unusable(ConfigError),
}

impl OnboardError {
    /// Returns [`Self::ThereAlready`] with what can be told of the file at `path`.
    pub(super) fn there_already(path: &Path, name: &str, hub: &HubAddress) -> Self {
        let file = path.display();
        let what = match Config::load(path) {
            Ok(loaded) if loaded.config.agent_id == name && loaded.config.hub_url == hub.ws => format!(
                "It is {name}'s at this hub: this agent is onboarded, and nothing is left to do. \
                 agentcom-sidecar check --config '{file}' tells whether all is well"
            ),
            Ok(loaded) => format!(
                "It is {}'s at {}: name another file with --config, or replace it with --force",
                loaded.config.agent_id, loaded.config.hub_url
            ),
            Err(_) => "It is not in order (agentcom-sidecar check tells why): mend it, name another file with \
                       --config, or replace it with --force"
                .to_owned(),
        };
        Self::ThereAlready { path: path.to_owned(), what }
    }

    /// Returns the exit code of `onboard` for this error.
    pub(super) const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Name(_) | Self::Address(_) | Self::Arguments(_) | Self::NotAFile(_) | Self::TokenFile { .. } => {
                ExitCode::Usage
            }
            Self::ThereAlready { .. } | Self::Unusable(_) => ExitCode::Config,
            Self::Folder { .. } | Self::NotKept { .. } => ExitCode::StateUnusable,
            Self::Unreachable(_)
            | Self::SpeaksTls { .. }
            | Self::NotAHub { .. }
            | Self::Taken { .. }
            | Self::NotAllowed { .. }
            | Self::Refused { .. }
            | Self::NoToken { .. }
            | Self::BadToken { .. } => ExitCode::Unavailable,
        }
    }
}

/// Returns the advice to change permissions, where they are what is in the way.
fn permission_advice(source: &io::Error) -> &'static str {
    if source.kind() == io::ErrorKind::PermissionDenied {
        "give the user that runs this write permission there, or "
    } else {
        ""
    }
}

fn token_file_message(path: &Path, source: &io::Error) -> String {
    let stdin = match Unsuitable::of(source) {
        Some(Unsuitable::NoFile(_)) => " (`--token-file -` reads it from stdin, a pipe too)",
        Some(Unsuitable::TooLarge { .. }) | None => "",
    };
    format!("no token in {}: {source}; the token is the last word of that file{stdin}", path.display())
}

fn not_allowed_message(hub: &str, why: &str, given: Option<&str>) -> String {
    match given {
        Some(what) => format!(
            "{hub} does not let the {what} that was given register agents ({why}): use another. Nothing was written"
        ),
        None => format!(
            "{hub} does not let everybody register agents ({why}): give the code of an invitation with --invitation or \
             {INVITATION_VARIABLE}, or name the file of a token that may with --admin-token-file, or put it into \
             {ADMIN_TOKEN_VARIABLE}. Nothing was written"
        ),
    }
}

fn not_kept_message(name: &str, registered: bool, error: &DurableError) -> String {
    if registered {
        format!(
            "{error}. The hub has registered {name:?} and its token is lost: mend that, make it another on the \
             hub's machine with agentcom-hub token {name} --replace, and run this again with --token-file"
        )
    } else {
        format!("{error}. Mend that and run this again")
    }
}
