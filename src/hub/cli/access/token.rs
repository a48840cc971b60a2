//! `agentcom-hub token`: makes, lists and revokes tokens.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use crate::common::duration::parse_duration;
use crate::common::http_client::percent_encoded;
use crate::hub::cli::access::token_file::{TokenFile, TokenFileError};
use crate::hub::cli::access::token_list;
use crate::hub::cli::client::{self, Client, Failure, Folder, HubArgs, Place, value};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::fields::text;
use crate::hub::cli::show::output::{Output, fail};
use crate::hub::random;
use crate::hub::state::roles::Role;
use crate::hub::state::tokens::hex;
use crate::protocol::{NEW_NAME, check_new_name};

#[derive(Debug, Subcommand)]
pub(in crate::hub::cli) enum TokenAction {
    /// List all tokens: id, first characters, role, age, last use, expiry, maker, name
    List {
        /// Print a JSON list
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        hub: HubArgs,
    },
    /// Revoke NAME's tokens at once, and close its connections
    Revoke {
        /// The agent (its agent_id) or the operator
        name: String,
        /// Only the token with this id, as `token list` shows it
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        hub: HubArgs,
    },
}

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct NewToken {
    /// The agent (its agent_id) or the operator
    #[arg(required = true)]
    name: Option<String>,
    /// May do everything: the same as --role admin
    #[arg(long, conflicts_with = "role")]
    admin: bool,
    /// What it may do: viewer (read), operator (also act on tasks and agents), admin (everything), agent (connect as the
    /// agent NAME)
    #[arg(long, value_name = "ROLE", value_parser = parse_role, default_value = "agent", hide_possible_values = true)]
    role: Role,
    /// Let it expire after this time, such as 24h, 30d or 8w; without it, it does not expire
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    expires: Option<u64>,
    /// Revoke all other tokens of NAME in the same step
    #[arg(long)]
    replace: bool,
    /// Write the token to this new file (mode 0600) instead of printing it; an existing file is not replaced
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Make the data folder and its store where there is none; an existing store stays as it is
    #[arg(long)]
    init: bool,
    #[command(flatten)]
    hub: HubArgs,
}

fn parse_role(named: &str) -> Result<Role, String> {
    named.parse().map_err(|_| format!("expected one of {}", Role::NAMES))
}

/// Runs the command and returns the exit code.
pub(in crate::hub::cli) fn run(action: Option<TokenAction>, new: NewToken) -> ExitCode {
    match action {
        Some(TokenAction::List { json, hub }) => client::run(&hub, Folder::MustExist, async |client| {
            let found = client.list("/api/v1/tokens", &[], None).await?;
            Ok(Output::done(if json { found.to_json() } else { token_list::lines(&found) }))
        }),
        Some(TokenAction::Revoke { name, id, hub }) => {
            client::run(&hub, Folder::MustExist, async |client| revoke(client, &name, id.as_deref()).await)
        }
        None => make(&new),
    }
}

async fn revoke(client: &mut Client, name: &str, id: Option<&str>) -> Result<Output, Failure> {
    let query = id.map(|id| format!("?id={}", percent_encoded(id))).unwrap_or_default();
    let path = format!("/api/v1/tokens/{}{query}", percent_encoded(name));
    let revoked = value(&client.act(Method::DELETE, &path, None, None).await?);
    if revoked["revoked"] == 0 {
        let which = id.map(|id| format!(" with id {id}")).unwrap_or_default();
        let message = format!("{name} has no token{which}; agentcom-hub token list shows what there is");
        return Err(Failure::new(ExitCode::No, message));
    }
    Ok(Output::done(format!("revoked for {name}: {}\n", text(&revoked["revoked"]))))
}

/// Makes a token. The command chooses it, so that it is known whether or not the hub's answer arrives.
fn make(new: &NewToken) -> ExitCode {
    let name = new.name.as_deref().unwrap_or_default();
    if let Err(bad) = check_new_name(name) {
        return fail(ExitCode::Usage, format_args!("NAME: found {bad}; allowed: {NEW_NAME}"));
    }
    if new.out.as_deref() == Some(Path::new("-")) {
        return fail(ExitCode::Usage, "--out takes the name of a new file; without it the token is printed");
    }
    let secret = match random::secret() {
        Ok(secret) => hex(&secret),
        Err(error) => return fail(ExitCode::Internal, error),
    };
    let role = if new.admin { Role::Admin } else { new.role };
    let mut body = json!({"agent_id": name, "role": role, "replace": new.replace, "secret": secret});
    if let Some(expires) = new.expires {
        body["expires_in_ms"] = json!(expires);
    }
    let kind = if role == Role::Agent { "token".to_owned() } else { format!("{role} token") };
    let folder = if new.init { Folder::IsMade } else { Folder::MustExist };
    client::run(&new.hub, folder, async |client| match &new.out {
        _ if new.init && matches!(client.place(), Place::Remote { .. }) => {
            Err(Failure::new(ExitCode::Usage, "--init makes a store in a folder on this machine: name it with --data"))
        }
        Some(out) => {
            make_file(client, out, &secret, body).await?;
            Ok(Output::done(format!("{kind} for {name} is in {}\n", out.display())))
        }
        None => {
            issue(client, &secret, body).await?;
            Ok(Output::done(format!("{kind} for {name}: {secret}\n")))
        }
    })
}

/// Has the hub take the token.
async fn issue(client: &mut Client, secret: &str, body: Value) -> Result<(), Failure> {
    let asked = client.act(Method::POST, "/api/v1/tokens", Some(body), None).await;
    let answer = asked.map_err(|failure| {
        let message = format!("{}. See with agentcom-hub token list", failure.message);
        if failure.unanswered { failure.saying(message) } else { failure }
    })?;
    let answer = value(&answer);
    // The answer to a repeated request is without it.
    if answer["token"].as_str().is_some_and(|token| token != secret) {
        return Err(client.unknown_answer(&"it is another token"));
    }
    Ok(())
}

/// Makes a token and writes it to a file. The file is written before the hub learns of the token, so that a failing
/// disk costs neither the new token nor those that `--replace` revokes.
async fn make_file(client: &mut Client, out: &Path, secret: &str, body: Value) -> Result<(), Failure> {
    // FILE may lie in the data dir.
    client.check_folder()?;
    let file = TokenFile::create(out, secret).map_err(|error| {
        let code = match error {
            TokenFileError::Taken(_) | TokenFileError::Create(..) => ExitCode::Unusable,
            TokenFileError::Write(..) => ExitCode::Disk,
        };
        Failure::new(code, error.to_string())
    })?;
    match issue(client, secret, body).await {
        Ok(()) => Ok(()),
        Err(failure) if failure.unanswered => {
            let then =
                format!("{} stays: its token may become valid; where it does not, remove the file", out.display());
            let message = format!("{}. {then}", failure.message);
            Err(failure.saying(message))
        }
        Err(failure) => {
            file.remove();
            Err(failure)
        }
    }
}
