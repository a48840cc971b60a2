//! `agentcom-hub invite`: arguments and output. The requests themselves go through `admin_socket`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::hub::actor::now_ms;
use crate::hub::admin_socket::{Request, Response};
use crate::hub::cli::output::{fail, print};
use crate::hub::cli::request::{DataArgs, request_or_fail};
use crate::hub::cli::token::request_and_print;
use crate::hub::state::invitations::{InvitationSummary, MAX_USES};
use crate::hub::state::lifetime::{parse_duration, show_duration};
use crate::protocol::check_agent_name;

#[derive(Debug, Subcommand)]
pub(crate) enum InviteAction {
    /// List all invitations: id, uses left, expiry, maker, for whom
    List {
        /// Print a JSON list
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Withdraw an invitation. Agents that registered with it stay
    Revoke {
        /// Its id, as `invite list` shows it
        id: String,
        #[command(flatten)]
        data: DataArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewInvitation {
    /// The only agent (its agent_id) that may use it; without a name, any agent may
    name: Option<String>,
    /// How many agents may register with it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_USES), default_value_t = 1)]
    uses: u64,
    /// How long it is valid, such as 90m, 24h or 7d
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "24h")]
    expires: u64,
    #[command(flatten)]
    data: DataArgs,
}

/// Runs the command and returns the exit code.
pub(crate) fn run(action: Option<InviteAction>, new: NewInvitation) -> ExitCode {
    match action {
        Some(InviteAction::List { json, data }) => request_and_print(&data, &Request::ListInvitations, |answer| {
            format_invitations(&answer.invitations.unwrap_or_default(), json)
        }),
        Some(InviteAction::Revoke { id, data }) => {
            match request_or_fail(&data, &Request::RevokeInvitation { id: id.clone() }) {
                Ok(Response { revoked: Some(0), .. }) => {
                    fail(1, &format!("there is no invitation {id}; agentcom-hub invite list shows what there is"))
                }
                Ok(_) => print(&format!("revoked: invitation {id}\n")),
                Err(code) => code,
            }
        }
        None => make_invitation(new),
    }
}

fn make_invitation(new: NewInvitation) -> ExitCode {
    let NewInvitation { name, uses, expires, data } = new;
    if name.as_deref().is_some_and(|name| check_agent_name(name).is_err()) {
        return fail(2, "NAME must have 1 to 128 characters, at least one visible, none of them control characters");
    }
    let whom = name.clone().unwrap_or_else(|| "any agent".to_owned());
    request_and_print(&data, &Request::Invite { name, uses, expires_in_ms: expires }, |answer| {
        let code = answer.invitation.unwrap_or_default();
        format!("invitation for {whom}, uses: {uses}, valid for {}: {code}\n", show_duration(expires))
    })
}

fn format_invitations(invitations: &[InvitationSummary], json: bool) -> String {
    if json {
        // Strings and numbers only: this cannot fail.
        return serde_json::to_string(invitations).unwrap_or_default() + "\n";
    }
    let now = now_ms();
    let line = |one: &InvitationSummary| {
        let expiry = match one.expires_at.checked_sub(now).filter(|left| *left > 0) {
            Some(left) => format!("expires in {}", show_duration(left)),
            None => "has expired".to_owned(),
        };
        let uses = format!("{} of {} left", one.uses_left, one.uses);
        let whom = one.agent_id.as_deref().unwrap_or("any agent");
        let maker = format!("by {}", one.created_by);
        format!("{}  {uses:<14}  {expiry:<16}  {maker:<14}  {whom}\n", one.id)
    };
    invitations.iter().map(line).collect()
}
