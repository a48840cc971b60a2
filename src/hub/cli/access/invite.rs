//! `agentcom-hub invite`: makes, lists and withdraws invitations.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use crate::common::duration::parse_duration;
use crate::common::http_client::percent_encoded;
use crate::common::text::on_one_line;
use crate::hub::cli::access::token_list::expiry;
use crate::hub::cli::client::{self, Client, Failure, Folder, HubArgs, value};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::fields::text;
use crate::hub::cli::show::output::{Output, fail};
use crate::hub::state::invitations::MAX_USES;
use crate::hub::state::lifetime::show_duration;
use crate::protocol::{NEW_NAME, check_new_name};

#[derive(Debug, Subcommand)]
pub(in crate::hub::cli) enum InviteAction {
    /// List all invitations: id, uses left, expiry, maker, for whom
    List {
        /// Print a JSON list
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        hub: HubArgs,
    },
    /// Withdraw an invitation. Agents that registered with it stay
    Revoke {
        /// Its id, as `invite list` shows it
        id: String,
        #[command(flatten)]
        hub: HubArgs,
    },
}

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct NewInvitation {
    /// The only agent (its agent_id) that may use it; without NAME, any agent may
    name: Option<String>,
    /// How many agents may register with it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_USES), default_value_t = 1)]
    uses: u64,
    /// How long it is valid, such as 90m, 24h or 7d
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "24h")]
    expires: u64,
    #[command(flatten)]
    hub: HubArgs,
}

/// Runs the command and returns the exit code.
pub(in crate::hub::cli) fn run(action: Option<InviteAction>, new: &NewInvitation) -> ExitCode {
    match action {
        Some(InviteAction::List { json, hub }) => client::run(&hub, Folder::MustExist, async |client| {
            let found = client.list("/api/v1/invitations", &[], None).await?;
            let lines = || found.values().map(|one| on_one_line(&line(&one)) + "\n").collect();
            Ok(Output::done(if json { found.to_json() } else { lines() }))
        }),
        Some(InviteAction::Revoke { id, hub }) => client::run(&hub, Folder::MustExist, async |client| {
            let path = format!("/api/v1/invitations/{}", percent_encoded(&id));
            client.act(Method::DELETE, &path, None, None).await.map_err(|failure| match failure.status {
                Some(404) => {
                    failure.saying(format!("there is no invitation {id}; agentcom-hub invite list shows what there is"))
                }
                Some(_) | None => failure,
            })?;
            Ok(Output::done(format!("revoked: invitation {id}\n")))
        }),
        None => {
            if let Some(Err(bad)) = new.name.as_deref().map(check_new_name) {
                return fail(ExitCode::Usage, format_args!("NAME: found {bad}; allowed: {NEW_NAME}"));
            }
            client::run(&new.hub, Folder::MustExist, async |client| make(client, new).await)
        }
    }
}

async fn make(client: &mut Client, new: &NewInvitation) -> Result<Output, Failure> {
    let mut body = json!({"uses": new.uses, "expires_in_ms": new.expires});
    if let Some(name) = &new.name {
        body["agent_id"] = json!(name);
    }
    let answer = value(&client.act(Method::POST, "/api/v1/invitations", Some(body), None).await?);
    let Some(code) = answer["invitation"].as_str() else {
        let id = text(&answer["id"]);
        let message = format!(
            "the invitation {id} was made, but the answer with its code was lost: agentcom-hub invite revoke {id}, then \
             make another"
        );
        return Err(Failure::new(ExitCode::Busy, message));
    };
    let whom = new.name.as_deref().unwrap_or("any agent");
    let (uses, valid) = (new.uses, show_duration(new.expires));
    Ok(Output::done(format!("invitation for {whom}, uses: {uses}, valid for {valid}: {code}\n")))
}

fn line(one: &Value) -> String {
    let uses = format!("{} of {} left", text(&one["uses_left"]), text(&one["uses"]));
    let whom = one["agent_id"].as_str().unwrap_or("any agent");
    let (id, expiry, maker) =
        (text(&one["id"]), expiry(&one["expires_at"]), format!("by {}", text(&one["created_by"])));
    format!("{id}  {uses:<14}  {expiry:<16}  {maker:<14}  {whom}")
}
