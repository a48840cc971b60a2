//! `agentcom-hub audit`: arguments and output. The requests themselves go through `admin_socket`.

use std::process::ExitCode;

use clap::Args;

use crate::common::text::on_one_line;
use crate::hub::actor::now_ms;
use crate::hub::admin_socket::Request;
use crate::hub::cli::output::{fail, print};
use crate::hub::cli::request::{DataArgs, request_or_fail};
use crate::hub::state::audit::{Action, Filter, Numbered, Page};
use crate::hub::state::lifetime::{parse_duration, show_duration};
use crate::hub::state::store::Store;

/// The number of entries that one request asks for.
const PAGE_ITEMS: usize = 1_000;

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Only what this agent or operator did (its name, or uid:N for commands on the hub's machine)
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Only acts of this kind, such as restart_commanded or token_revoked
    #[arg(long, value_name = "ACTION", value_parser = parse_action)]
    action: Option<Action>,
    /// Only what was done to this agent, task, invitation or setting
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Only what was done within this time, such as 90m, 24h or 7d
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    since: Option<u64>,
    /// At most so many entries
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), default_value_t = 1_000)]
    limit: u64,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
}

fn parse_action(named: &str) -> Result<Action, String> {
    let known = || <Action as strum::VariantNames>::VARIANTS.join(", ");
    named.parse().map_err(|_| format!("expected one of {}", known()))
}

/// Runs the command and returns the exit code.
pub(crate) fn run(args: &AuditArgs) -> ExitCode {
    let path = Store::path_in(&args.data.dir);
    if !path.exists() {
        return fail(78, &format!("there is no store at {}: name the hub's data dir with --data", path.display()));
    }
    let now = now_ms();
    let filter = Filter {
        who: args.who.clone(),
        action: args.action,
        target: args.target.clone(),
        since: args.since.map(|since| now.saturating_sub(since)),
    };
    let mut left = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut before = None;
    loop {
        let request = Request::Audit { filter: filter.clone(), before, limit: left.min(PAGE_ITEMS) };
        let Page { items, next_cursor } = match request_or_fail(&args.data, &request) {
            Ok(answer) => answer.audit.unwrap_or_default(),
            Err(code) => return code,
        };
        let text: String = items.iter().map(|one| if args.json { as_json(one) } else { as_text(one, now) }).collect();
        let printed = print(&text);
        left = left.saturating_sub(items.len());
        before = next_cursor;
        if before.is_none() || left == 0 || printed != ExitCode::SUCCESS {
            return printed;
        }
    }
}

fn as_json(one: &Numbered) -> String {
    // Strings and numbers only: this cannot fail.
    serde_json::to_string(one).unwrap_or_default() + "\n"
}

fn as_text(one: &Numbered, now: u64) -> String {
    let Numbered { seq, entry } = one;
    let ago = format!("{} ago", show_duration(now.saturating_sub(entry.at_ms)));
    let author = &entry.author;
    let role = author.role.map(|role| format!(" ({role})")).unwrap_or_default();
    let mut text =
        format!("{seq:>6}  {ago:>9}  {}{role} by {}: {} {}", author.who, author.via, entry.action, entry.target);
    let parts = [
        entry.count.map(|count| format!("count {count}")),
        entry.old.as_ref().map(|old| format!("was {old}")),
        entry.new.as_ref().map(|new| format!("now {new}")),
        entry.reason.as_ref().map(|reason| format!("because {reason}")),
    ];
    for part in parts.into_iter().flatten() {
        text.push_str("; ");
        text.push_str(&part);
    }
    on_one_line(&text) + "\n"
}
