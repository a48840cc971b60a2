//! The hub's command line: `serve` runs a hub, every other command is a client of one. It holds no logic of the hub.

mod access;
pub(in crate::hub) mod agents;
mod audit;
mod backup;
mod check;
mod client;
#[cfg(feature = "postgres")]
mod database;
mod drains;
mod events;
mod exit_code;
mod healing;
mod man;
mod restarts;
pub(in crate::hub) mod rollouts;
mod serve;
mod show;
mod store;
mod tasks;
mod uses;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::common::cli::man::ManArgs;
use crate::common::signals::release;
use crate::hub::cli::access::invite::{self, InviteAction, NewInvitation};
use crate::hub::cli::access::token::{self, NewToken, TokenAction};
use crate::hub::cli::agents::label::{self, LabelArgs};
use crate::hub::cli::agents::list::{self as agents_list, AgentsArgs};
use crate::hub::cli::agents::one::{self as agent, AgentArgs};
use crate::hub::cli::audit::AuditArgs;
use crate::hub::cli::backup::{BackupArgs, RestoreArgs};
use crate::hub::cli::check::CheckArgs;
use crate::hub::cli::drains::command::{self as drain, DrainArgs, ResumeArgs};
use crate::hub::cli::events::EventsArgs;
use crate::hub::cli::healing::{HealingAction, StatusArgs};
use crate::hub::cli::restarts::command::{self as restart, RestartArgs};
use crate::hub::cli::restarts::list::{self as restarts_list, RestartsArgs};
use crate::hub::cli::rollouts::command::{self as rollout, RolloutAction};
use crate::hub::cli::serve::ServeArgs;
use crate::hub::cli::store::StoreAction;
use crate::hub::cli::tasks::change::{self, Change, ChangeArgs};
use crate::hub::cli::tasks::list::{self as tasks_list, TasksArgs};
use crate::hub::cli::tasks::one::{self as task, TaskArgs};
use crate::hub::cli::tasks::submit::{self, SubmitArgs};
use crate::hub::cli::uses::REFERENCE;

/// The hub of agentcom sidecars: assigns tasks, commands restarts, and records how each went.
///
/// Every command but `serve` is a client of a hub: of the one whose data folder --data names (whether or not it runs), or of
/// the one at the address that --hub names, with a token.
#[derive(Debug, Parser)]
#[command(name = "agentcom-hub", version, after_help = REFERENCE.exit_codes(), after_long_help = REFERENCE.after_help())]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the hub until SIGINT or SIGTERM
    Serve(ServeArgs),
    /// List all known agents: the status of each, since when, and why
    #[command(after_long_help = "\
Examples:
  agentcom-hub agents --away                         which are away, since when, and why
  agentcom-hub agents label.pool=gpu,status=degraded
  agentcom-hub agents --json | jq -r '.[] | select(.restarts.unplanned > 3) | .agent_id'")]
    Agents(AgentsArgs),
    /// Show everything about one agent: its status and why, its task, its restarts, its labels
    Agent(AgentArgs),
    /// List tasks, by priority and order of submission
    Tasks(TasksArgs),
    /// Show one task and its history, or follow it until it has ended
    #[command(after_long_help = "\
Examples:
  agentcom-hub task task-0123456789abcdef --follow --timeout 2h")]
    Task(TaskArgs),
    /// Submit a task, and print its id
    #[command(after_long_help = "\
Examples:
  agentcom-hub submit 'Update the changelog' --capability code --priority high
  agentcom-hub submit 'Nightly build' --metadata @build.json --idempotency-key nightly-2026-11-30 --follow")]
    Submit(SubmitArgs),
    /// Cancel a task that has not ended
    Cancel(ChangeArgs),
    /// Queue a dead letter again, with all its retries
    Retry(ChangeArgs),
    /// Restart agents; each one finishes its task first
    #[command(after_long_help = "\
Examples:
  agentcom-hub restart my-agent --reason upgrade --wait
  agentcom-hub restart label.pool=gpu --dry-run
  agentcom-hub restart all --deadline 10m --wait --timeout 1h && echo all are back")]
    Restart(RestartArgs),
    /// List the commanded restarts, newest first: agent, state, who commanded it, and why
    #[command(after_long_help = "\
Examples:
  agentcom-hub restarts --agent my-agent --since 24h     why did it restart last night?
  agentcom-hub restarts --state overdue")]
    Restarts(RestartsArgs),
    /// Restart many agents, a few at a time: start, watch, stop and continue rollouts
    #[command(after_long_help = "\
Examples:
  agentcom-hub rollout start label.pool=gpu --canary 1 --dry-run
  agentcom-hub rollout start label.pool=gpu --canary 1 --max-unavailable 5% --reason 'driver 7' --watch
  agentcom-hub rollout status                            all rollouts, with the state of each and why")]
    Rollout {
        #[command(subcommand)]
        action: RolloutAction,
    },
    /// Give agents no new task; the tasks that they hold go on
    #[command(after_long_help = "\
Examples:
  agentcom-hub drain my-agent --reason 'new disk' --until 2h
  agentcom-hub drain label.site=berlin --deadline 30m --wait && echo no task is left in Berlin")]
    Drain(DrainArgs),
    /// Let agents that were drained from the hub take tasks again
    Resume(ResumeArgs),
    /// Show what the healing rules found and did, or check a file of rules
    #[command(
        args_conflicts_with_subcommands = true,
        after_long_help = "\
Examples:
  agentcom-hub healing
  agentcom-hub healing check rules.json && cp rules.json /etc/agentcom-hub/healing.json"
    )]
    Healing {
        #[command(subcommand)]
        action: Option<HealingAction>,
        #[command(flatten)]
        status: StatusArgs,
    },
    /// Print events as they happen: of tasks, restarts, rollouts, agents, drains and healing rules
    Events(EventsArgs),
    /// Set or remove labels of agents
    #[command(after_long_help = "\
Examples:
  agentcom-hub label my-agent pool=gpu canary-       sets one, removes another")]
    Label(LabelArgs),
    /// Make a token for NAME: printed as the last word on stdout, or written to a file; or list or revoke tokens
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Token {
        #[command(subcommand)]
        action: Option<TokenAction>,
        #[command(flatten)]
        new: NewToken,
    },
    /// Make an invitation, with which a new agent may register: its code is the last word on stdout; or list or revoke
    /// invitations
    #[command(args_conflicts_with_subcommands = true)]
    Invite {
        #[command(subcommand)]
        action: Option<InviteAction>,
        #[command(flatten)]
        new: NewInvitation,
    },
    /// Print the audit, newest first: who did what to what, and why
    Audit(AuditArgs),
    /// Check the hub's store
    Store {
        #[command(subcommand)]
        action: StoreAction,
    },
    /// Copy everything that a hub stores into a file; the hub may run meanwhile
    #[command(after_long_help = "\
Examples:
  agentcom-hub backup --out /var/backups/hub.redb --force
  agentcom-hub backup --out hub.redb --hub https://hub.example --token-file admin-token")]
    Backup(BackupArgs),
    /// Replace the store of a data folder that no hub uses by a backup; the old store is kept under another name
    Restore(RestoreArgs),
    /// Check a hub: find what is wrong with it, and say what to do
    ///
    /// It changes nothing. It exits with 0 if it finds no problem (a warning is none), else with the code of the first problem.
    Check(CheckArgs),
    /// Print the completion script for a shell
    #[command(after_long_help = "\
Examples:
  agentcom-hub completions bash > /etc/bash_completion.d/agentcom-hub
  agentcom-hub completions fish > ~/.config/fish/completions/agentcom-hub.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Show the manual: all of it, or one command's page
    ///
    /// In a terminal `man` shows it, or PAGER or `less` as plain text where `man` is not installed. Into a pipe or a file it is
    /// written as troff source, which `man -l` reads and packages hold.
    #[command(after_long_help = "\
Examples:
  agentcom-hub man token list
  agentcom-hub man > /usr/local/share/man/man1/agentcom-hub.1
  agentcom-hub man --out /usr/local/share/man/man1      a page for each command, too")]
    Man(ManArgs),
}

/// Reads the command line. Ends the process where it is wrong, or asks for help or the version.
pub fn parse() -> Cli {
    let matches = REFERENCE.document(Cli::command()).get_matches();
    // The matches are those of the same tree.
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Runs the command and returns the exit code.
pub fn run(cli: Cli) -> ExitCode {
    if !matches!(cli.command, Command::Serve(_)) {
        release();
    }
    let code = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Agents(args) => agents_list::run(&args),
        Command::Agent(args) => agent::run(&args),
        Command::Tasks(args) => tasks_list::run(&args),
        Command::Task(args) => task::run(&args),
        Command::Submit(args) => submit::run(&args),
        Command::Cancel(args) => change::run(&args, Change::Cancel),
        Command::Retry(args) => change::run(&args, Change::Retry),
        Command::Restart(args) => restart::run(&args),
        Command::Restarts(args) => restarts_list::run(&args),
        Command::Rollout { action } => rollout::run(action),
        Command::Drain(args) => drain::drain(&args),
        Command::Resume(args) => drain::resume(&args),
        Command::Healing { action, status } => healing::run(action, status),
        Command::Events(args) => events::run(&args),
        Command::Label(args) => label::run(&args),
        Command::Token { action, new } => token::run(action, new),
        Command::Invite { action, new } => invite::run(action, &new),
        Command::Audit(args) => audit::run(&args),
        Command::Store { action } => store::run(&action),
        Command::Backup(args) => backup::run_backup(&args),
        Command::Restore(args) => backup::run_restore(&args),
        Command::Check(args) => check::run(&args),
        Command::Completions { shell } => man::completions(shell),
        Command::Man(args) => man::man(&args),
    };
    code.into()
}
