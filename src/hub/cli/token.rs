//! `agentcom-hub token`: arguments and output. The requests themselves go through `admin_socket`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::hub::actor::now_ms;
use crate::hub::admin_socket::{self, Request, Response, TokenError};
use crate::hub::cli::output::{fail, print};
use crate::hub::cli::request::{DataArgs, exit_code_of, make_data_dir, request_or_fail};
use crate::hub::cli::token_file::{TokenFile, TokenFileError};
use crate::hub::random;
use crate::hub::state::lifetime::{parse_duration, show_duration};
use crate::hub::state::roles::Role;
use crate::hub::state::tokens::{SECRET_BYTES, TokenSummary, hex};
use crate::protocol::check_agent_name;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenAction {
    /// List all tokens: id, first characters, role, age, last use, expiry, maker, name
    List {
        /// Print a JSON list
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Revoke NAME's tokens at once, and close its connections
    Revoke {
        /// The agent (its agent_id) or the operator
        name: String,
        /// Only the token with this id, as `token list` shows it
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        data: DataArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewToken {
    /// The agent (its agent_id) or the operator
    #[arg(required = true)]
    name: Option<String>,
    /// May do everything: the same as --role admin
    #[arg(long, conflicts_with = "role")]
    admin: bool,
    /// What it may do: viewer (read), operator (also act on tasks and agents), admin (everything), agent (be the agent
    /// NAME)
    #[arg(long, value_name = "ROLE", value_parser = parse_role, default_value = "agent", hide_possible_values = true)]
    role: Role,
    /// Make it worth nothing after this time, such as 24h, 30d or 8w; without it, it does not expire
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    expires: Option<u64>,
    /// Revoke all other tokens of NAME in the same step
    #[arg(long)]
    replace: bool,
    /// Write the token to this new file (mode 0600) instead of printing it; never over a file that is there
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
}

fn parse_role(named: &str) -> Result<Role, String> {
    named.parse().map_err(|_| format!("expected one of {}", Role::NAMES))
}

/// Runs the command and returns the exit code.
pub(crate) fn run(action: Option<TokenAction>, new: NewToken) -> ExitCode {
    match action {
        Some(TokenAction::List { json, data }) => {
            request_and_print(&data, &Request::List, |answer| format_tokens(&answer.tokens.unwrap_or_default(), json))
        }
        Some(TokenAction::Revoke { name, id, data }) => {
            let request = Request::Revoke { name: name.clone(), id: id.clone() };
            let which = id.map(|id| format!(" with id {id}")).unwrap_or_default();
            match request_or_fail(&data, &request) {
                Ok(Response { revoked: Some(0), .. }) => {
                    fail(1, &format!("{name} has no token{which}; agentcom-hub token list shows what there is"))
                }
                Ok(answer) => print(&format!("revoked for {name}: {}\n", answer.revoked.unwrap_or_default())),
                Err(code) => code,
            }
        }
        None => make_token(new),
    }
}

fn make_token(new: NewToken) -> ExitCode {
    let NewToken { name, admin, role, expires, replace, out, data } = new;
    let name = name.unwrap_or_default();
    if check_agent_name(&name).is_err() {
        return fail(2, "NAME must have 1 to 128 characters, at least one visible, none of them control characters");
    }
    let role = if admin { Role::Admin } else { role };
    let kind = if role == Role::Agent { "token".to_owned() } else { format!("{role} token") };
    let request = |secret| Request::Token {
        name: name.clone(),
        admin: role == Role::Admin,
        role: Some(role),
        expires_in_ms: expires,
        replace,
        secret,
    };
    let is_new = role_is_new(role) || expires.is_some();
    if let Some(out) = out {
        return make_token_file(&out, &data, (&name, &kind), is_new, |secret| request(Some(secret)));
    }
    match request_or_fail(&data, &request(None)) {
        Ok(answer) if is_new && answer.role != Some(role) => fail(70, OLDER_HUB),
        Ok(answer) => print(&format!("{kind} for {name}: {}\n", answer.token.unwrap_or_default())),
        Err(code) => code,
    }
}

/// The error where the running hub does not know what it was asked for.
const OLDER_HUB: &str = "the running hub is older than this program and made a token of its own, which nobody has seen: \
                         restart the hub, `agentcom-hub token list` and `token revoke --id` the newest, then try again";

/// Returns whether an older hub would make a token of another role.
const fn role_is_new(role: Role) -> bool {
    match role {
        Role::Viewer | Role::Operator => true,
        Role::Admin | Role::Agent => false,
    }
}

/// Makes a token and writes it to a file. The file is written before the hub learns of the token, so that a failing
/// disk costs neither the new token nor those that `--replace` revokes.
fn make_token_file(
    out: &Path,
    data: &DataArgs,
    (name, kind): (&str, &str),
    is_new: bool,
    request: impl FnOnce([u8; SECRET_BYTES]) -> Request,
) -> ExitCode {
    if out == Path::new("-") {
        return fail(2, "--out takes the name of a new file; without it the token is printed");
    }
    let secret = match random::secret() {
        Ok(secret) => secret,
        Err(error) => return fail(70, &error.to_string()),
    };
    // FILE may lie in the data dir.
    if let Err(code) = make_data_dir(data) {
        return code;
    }
    let token = hex(&secret);
    let file = match TokenFile::create(out, &token) {
        Ok(file) => file,
        Err(error) => return fail(file_exit_code(&error), &error.to_string()),
    };
    match admin_socket::request(&data.dir, &request(secret)) {
        Err(error @ TokenError::Unanswered(_)) => {
            file.keep();
            let then =
                format!("{} stays: its token may become valid; where it does not, remove the file", out.display());
            fail(exit_code_of(&error), &format!("{error}. {then}"))
        }
        Ok(answer) if answer.token.as_ref() == Some(&token) && (!is_new || answer.role.is_some()) => {
            file.keep();
            print(&format!("{kind} for {name} is in {}\n", out.display()))
        }
        Ok(_) => fail(70, OLDER_HUB),
        Err(error) => fail(exit_code_of(&error), &error.to_string()),
    }
}

const fn file_exit_code(error: &TokenFileError) -> u8 {
    match error {
        TokenFileError::Taken(_) | TokenFileError::Create(..) => 78,
        TokenFileError::Write(..) => 74,
    }
}

fn format_tokens(tokens: &[TokenSummary], json: bool) -> String {
    if json {
        // Strings and numbers only: this cannot fail.
        return serde_json::to_string(tokens).unwrap_or_default() + "\n";
    }
    let now = now_ms();
    tokens.iter().map(|token| format_token(token, now)).collect()
}

fn format_token(token: &TokenSummary, now: u64) -> String {
    let role = token.role.unwrap_or(if token.admin { Role::Admin } else { Role::Agent }).to_string();
    let prefix = token.prefix.as_deref().unwrap_or("-");
    let age = show_duration(now.saturating_sub(token.created_at));
    let used = match token.last_used_at {
        Some(at) => format!("used {} ago", show_duration(now.saturating_sub(at))),
        None => "no use noted".to_owned(),
    };
    let expiry = match token.expires_at {
        Some(at) if at <= now => "has expired".to_owned(),
        Some(at) => format!("expires in {}", show_duration(at - now)),
        None => "does not expire".to_owned(),
    };
    let maker = token.created_by.as_deref().map(|maker| format!("by {maker}")).unwrap_or_default();
    let (id, name) = (&token.id, &token.agent_id);
    format!("{id}  {prefix:<6}  {role:<8}  {age:>6} old  {used:<14}  {expiry:<16}  {maker:<12}  {name}\n")
}

/// Sends the request and prints what `render` makes of the answer.
pub(super) fn request_and_print(
    data: &DataArgs,
    request: &Request,
    render: impl FnOnce(Response) -> String,
) -> ExitCode {
    match request_or_fail(data, request) {
        Ok(answer) => print(&render(answer)),
        Err(code) => code,
    }
}
