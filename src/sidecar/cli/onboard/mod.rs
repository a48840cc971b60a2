//! `onboard`: registers an agent at a hub and writes the folder that its sidecar runs in. It starts nothing, and it
//! never prints the token.
//!
//! The order of the steps lets a failure leave nothing half done but what the error names: (1) the arguments are
//! checked, (2) the folder is created and probed, (3) the address is checked to be a hub's, (4) the hub gives or
//! accepts a token, (5) the configuration is written atomically.

mod error;
mod folder;
mod next;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use error::OnboardError;
use serde_json::{Value, json};

use crate::common::fs::{atomic_file, regular_file};
use crate::common::http_client::HubAddress;
use crate::common::http_client::route::Transport;
use crate::common::secret::Secret;
use crate::protocol::check_new_name;
use crate::sidecar::cli::hub_client::{Question, ask};
use crate::sidecar::cli::options::Options;
use crate::sidecar::cli::out::{print, print_error};
use crate::sidecar::cli::runtime;
use crate::sidecar::config::{ADMIN_TOKEN_VARIABLE, Config, INVITATION_VARIABLE};
use crate::sidecar::exit_code::ExitCode;

/// The time limit of each request to the hub.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// The most that is read of a token file, bytes; no token is longer.
const MAX_TOKEN_FILE_BYTES: u64 = 64 * 1024;

/// The arguments of `onboard`.
#[derive(Debug, Args)]
pub struct OnboardArgs {
    /// The hub's address, HTTP or WebSocket
    #[arg(long, value_name = "URL")]
    pub hub: String,
    /// The agent's name at the hub, 1 to 128 characters
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// The shell line that wakes the agent; without it, set `wake_command` later, or the agent has to find its tasks itself
    #[arg(long, value_name = "LINE")]
    pub wake_command: Option<String>,
    /// What tasks the agent can do; may be given several times
    #[arg(long = "capability", value_name = "WORD", default_value = "code")]
    pub capabilities: Vec<String>,
    /// The agent has a token already: do not register, and take the last word of this file (- is stdin)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Where registration is not open: a file whose last word is an admin's token [env, the token
    /// itself: AGENTCOM_ADMIN_TOKEN]
    #[arg(long, value_name = "FILE", conflicts_with = "token_file")]
    pub admin_token_file: Option<PathBuf>,
    /// Where registration is not open: the code of an invitation (`agentcom-hub invite`), which other users may see in
    /// `ps` [env: AGENTCOM_INVITATION]
    #[arg(long, value_name = "CODE", conflicts_with_all = ["token_file", "admin_token_file"])]
    pub invitation: Option<String>,
    /// Where registration is not open: a file whose last word is the code of an invitation (- is stdin)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["token_file", "admin_token_file", "invitation"])]
    pub invitation_file: Option<PathBuf>,
    /// Replace an existing configuration
    #[arg(long)]
    pub force: bool,
}

/// Registers the agent and writes its folder.
pub fn onboard(options: &Options, args: &OnboardArgs) -> ExitCode {
    let runtime = match runtime::build() {
        Ok(runtime) => runtime,
        Err(why) => return print_error(&why, ExitCode::StateUnusable),
    };
    let outcome = runtime.block_on(register(options, args));
    // A name lookup that hangs must not delay the exit.
    runtime.shutdown_background();
    match outcome {
        Ok(text) => print(text.as_bytes()),
        Err(error) => print_error(&error, error.exit_code()),
    }
}

async fn register(options: &Options, args: &OnboardArgs) -> Result<String, OnboardError> {
    // 1. The arguments.
    check_new_name(&args.name).map_err(OnboardError::Name)?;
    let hub = HubAddress::parse(&args.hub).map_err(OnboardError::Address)?;
    let named = options.config_path();
    let config = std::path::absolute(&named).map_err(|source| OnboardError::Folder {
        path: named.clone(),
        doing: "find",
        source,
    })?;
    if config.is_dir() || config.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(OnboardError::NotAFile(config));
    }
    if !args.force && config.symlink_metadata().is_ok() {
        return Err(OnboardError::there_already(&config, &args.name, &hub));
    }
    let as_if = config_text((options, args), &hub, &Secret::new("the-token-to-be"));
    Config::check_text(&config, &as_if).map_err(OnboardError::Arguments)?;
    let given = args.token_file.as_deref().map(read_token).transpose()?;
    let credential = match given {
        Some(_) => None,
        None => read_credential(args)?,
    };
    // 2. The folder: a token that cannot be stored is not requested.
    let folders = folder::prepare(&config)?;
    // 3. The hub.
    check_is_hub(&hub).await?;
    // 4. The token.
    let registered = given.is_none();
    let token = match given {
        Some(token) => verify_token(&hub, &args.name, token).await?,
        None => request_token(&hub, &args.name, credential.as_ref()).await?,
    };
    // 5. The configuration.
    let written = atomic_file::write_atomic(&config, config_text((options, args), &hub, &token).as_bytes());
    written.map_err(|error| OnboardError::NotKept { name: args.name.clone(), registered, error })?;
    let loaded = Config::load(&config).map_err(OnboardError::Unusable)?;
    Ok(next::text(&loaded, &folders.keep(), &hub, registered))
}

/// Reads a token, the last word of the file, so that the output of `agentcom-hub token NAME` can be piped in.
fn read_token(file: &Path) -> Result<Secret, OnboardError> {
    let unreadable = |source| OnboardError::TokenFile { path: file.to_owned(), source };
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().take(MAX_TOKEN_FILE_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    } else {
        let bytes = regular_file::read(file, MAX_TOKEN_FILE_BYTES).map_err(unreadable)?;
        text = String::from_utf8(bytes).map_err(|_| unreadable(std::io::Error::other("it is not UTF-8")))?;
    }
    let last = text.split_whitespace().last();
    last.map(Secret::new).ok_or_else(|| unreadable(std::io::Error::other("there is no word in it")))
}

/// What lets an agent register where not every client may.
enum Credential {
    /// An admin's token.
    Admin(Secret),
    /// The code of an invitation.
    Invitation(Secret),
}

impl Credential {
    const fn name(&self) -> &'static str {
        match self {
            Self::Admin(_) => "admin token",
            Self::Invitation(_) => "invitation",
        }
    }
}

/// Reads what the arguments give, else what the environment does.
fn read_credential(args: &OnboardArgs) -> Result<Option<Credential>, OnboardError> {
    if let Some(code) = &args.invitation {
        return Ok(Some(Credential::Invitation(Secret::new(code.trim()))));
    }
    if let Some(file) = &args.invitation_file {
        return Ok(Some(Credential::Invitation(read_token(file)?)));
    }
    if let Some(file) = &args.admin_token_file {
        return Ok(Some(Credential::Admin(read_token(file)?)));
    }
    if let Some(code) = read_variable(INVITATION_VARIABLE)? {
        return Ok(Some(Credential::Invitation(code)));
    }
    Ok(read_variable(ADMIN_TOKEN_VARIABLE)?.map(Credential::Admin))
}

/// Reads a secret of the environment, if it is there.
fn read_variable(name: &str) -> Result<Option<Secret>, OnboardError> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    let no_text = |_| OnboardError::TokenFile { path: name.into(), source: std::io::Error::other("it is not UTF-8") };
    value.map(|value| value.into_string().map(Secret::new).map_err(no_text)).transpose()
}

async fn check_is_hub(hub: &HubAddress) -> Result<(), OnboardError> {
    let (timeout, transport) = (ASK_TIMEOUT, &Transport::default());
    let question = Question { base: &hub.http, path: "/health", token: None, body: None, timeout, transport };
    let answer = ask(question).await.map_err(OnboardError::Unreachable)?;
    // The legacy hub and AgentCom's Rust hub both answer this.
    if answer.status == 200 && answer.body["service"] == "agent_com" {
        return Ok(());
    }
    if answer.status == 421 && answer.body["error"] == "unknown_host" {
        // A hub that does not go by this name. It takes a valid token all the same; who has none is told what to do next.
        return Ok(());
    }
    if answer.speaks_of_tls {
        return Err(OnboardError::SpeaksTls { hub: hub.http.clone() });
    }
    Err(OnboardError::NotAHub { hub: hub.http.clone(), status: answer.status })
}

async fn request_token(hub: &HubAddress, name: &str, credential: Option<&Credential>) -> Result<Secret, OnboardError> {
    let (admin, body) = match credential {
        Some(Credential::Admin(token)) => (Some(token), json!({"agent_id": name})),
        Some(Credential::Invitation(code)) => (None, json!({"agent_id": name, "invitation": code.expose()})),
        None => (None, json!({"agent_id": name})),
    };
    let question = Question {
        base: &hub.http,
        path: "/api/onboard/register",
        token: admin,
        body: Some(body),
        timeout: ASK_TIMEOUT,
        transport: &Transport::default(),
    };
    let answer = ask(question).await.map_err(OnboardError::Unreachable)?;
    match answer.status {
        200 | 201 => match answer.body["token"].as_str().filter(|token| !token.is_empty()) {
            Some(token) => Ok(Secret::new(token)),
            None => Err(OnboardError::NoToken { hub: hub.http.clone() }),
        },
        409 => Err(OnboardError::Taken { name: name.to_owned(), hub: hub.http.clone() }),
        401 | 403 => {
            let given = credential.map(Credential::name);
            Err(OnboardError::NotAllowed { hub: hub.http.clone(), why: answer.error_text(), given })
        }
        _ => Err(OnboardError::Refused { hub: hub.http.clone(), why: answer.error_text() }),
    }
}

/// Returns the given token if the hub accepts it as this agent's.
async fn verify_token(hub: &HubAddress, name: &str, token: Secret) -> Result<Secret, OnboardError> {
    use crate::sidecar::cli::hub_client::token::{TokenStatus, token_status};
    let status = token_status(&hub.http, name, &token, ASK_TIMEOUT, &Transport::default()).await;
    let why = match status.map_err(OnboardError::Unreachable)? {
        TokenStatus::Ours | TokenStatus::Known => return Ok(token),
        TokenStatus::Anothers => format!("it is another agent's, not {name}'s"),
        TokenStatus::Unknown => "it does not know it".to_owned(),
        TokenStatus::Unclear { why } => why,
    };
    Err(OnboardError::BadToken { hub: hub.http.clone(), why })
}

/// Returns the text of the new configuration: the keys that the legacy onboarding writes, without those for one agent
/// program only.
fn config_text((options, args): (&Options, &OnboardArgs), hub: &HubAddress, token: &Secret) -> String {
    let mut config = json!({
        "agent_id": args.name,
        "token": token.expose(),
        "hub_url": hub.ws,
        "hub_api_url": hub.http,
        "capabilities": args.capabilities,
        "results_dir": "./results",
    });
    if let Some(line) = &args.wake_command {
        config["wake_command"] = Value::from(line.as_str());
    }
    // Given as flags, these would count for this command alone, which has no use for them.
    let Options { config: _, log_level, log_format, http_listen, hub_url } = options;
    let given =
        [("log_level", log_level), ("log_format", log_format), ("http_listen", http_listen), ("hub_url", hub_url)];
    for (key, value) in given {
        if let Some(value) = value {
            config[key] = Value::from(value.as_str());
        }
    }
    format!("{config:#}\n")
}
