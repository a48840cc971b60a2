//! The command line of `agentcom-sidecar`, one command per file. The commands that talk to a running sidecar are in
//! `operate`.

mod check;
mod history;
mod hub_client;
mod logs;
mod machine;
mod man;
mod onboard;
mod operate;
mod options;
mod out;
mod report;
mod run;
mod runtime;
mod session;
mod show;
mod uses;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::common::cli::man::ManArgs;
use crate::sidecar::cli::uses::REFERENCE;

pub use check::{CheckArgs, check};
pub use history::{HistoryArgs, history};
pub use logs::{LogsArgs, logs};
pub use machine::{MachineArgs, machine};
pub use man::{completions, man};
pub use onboard::{OnboardArgs, onboard};
pub use operate::{
    DrainArgs, OutputArgs, RestartArgs, StatusArgs, cancel_restart, drain, reload, restart, resume, status,
};
pub use options::Options;
pub use run::run;
pub use session::{SessionArgs, session};

/// Runs beside one AI agent: keeps a connection to the hub, wakes the agent for one task at a time, and restarts itself
/// on the hub's command without losing anything.
///
/// Without a command it is `agentcom-sidecar run`. A new agent begins with `onboard`.
#[derive(Debug, Parser)]
#[command(name = "agentcom-sidecar", version, after_help = REFERENCE.exit_codes(), after_long_help = REFERENCE.after_help())]
pub struct Cli {
    /// The configuration file and what overrides it.
    #[command(flatten)]
    pub options: Options,
    /// The command; `run` by default.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the sidecar (the default)
    ///
    /// It serves until it is stopped or restarted. This is what ecosystem.config.js starts under pm2.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar run --config /srv/my-agent/config.json
  pm2 start agentcom-sidecar --name my-agent --interpreter none -- run --config /srv/my-agent/config.json")]
    Run,

    /// Show the state of the running sidecar: problems first, with what to do about each
    ///
    /// Exits with 0 if the sidecar answers, whatever its state. If none runs, it shows what the journal holds and exits
    /// with 69.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar status --config /srv/my-agent/config.json
  agentcom-sidecar status --watch
  agentcom-sidecar status --json | jq -r .phase
  agentcom-sidecar status --timeout 2s > /dev/null || echo \"not running, or busy: $?\"")]
    Status(StatusArgs),

    /// Restart the sidecar once its task has ended
    ///
    /// With --wait the command returns when the hub knows the next run. If --timeout passes first, it says what the
    /// restart waits for and exits with 124; the restart stays in force.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar restart --reason upgrade --wait
  agentcom-sidecar restart --wait --timeout 5m --json | jq -r .message
  agentcom-sidecar restart --force      at once; the task goes on in its session, and the next run adopts it")]
    Restart(RestartArgs),

    /// Cancel a restart that still waits for its task
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar cancel-restart --config /srv/my-agent/config.json")]
    CancelRestart(OutputArgs),

    /// Finish the task in hand and take no new one, also after a restart, until `resume`
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar drain --wait && pm2 stop my-agent
  agentcom-sidecar drain --wait --timeout 30m || agentcom-sidecar resume")]
    Drain(DrainArgs),

    /// Take tasks again after `drain`
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar resume")]
    Resume(OutputArgs),

    /// Make the running sidecar read its configuration again, as SIGHUP does
    ///
    /// It prints what has changed and what waits for a restart. A configuration with an error changes nothing.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar reload --config /srv/my-agent/config.json")]
    Reload(OutputArgs),

    /// Show what this sidecar did: runs, tasks, restarts and drains, newest first
    ///
    /// It is read from a file beside the journal: the sidecar need not run. The start after a run that nobody wanted to
    /// end is an unplanned restart. Times are UTC.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar history -n 20
  agentcom-sidecar history --json | jq '.items[] | select(.kind == \"task\" and .outcome == \"failed\")'")]
    History(HistoryArgs),

    /// Print the sidecar's log, oldest line first
    ///
    /// It is read from `log_file` and its predecessors: the sidecar need not run. Control characters in texts of agents
    /// and hubs are escaped. Times are UTC.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar logs --follow
  agentcom-sidecar logs --level warning --since 24h
  agentcom-sidecar logs -n all --json | jq -c 'select(.task_id == \"task-7\")'")]
    Logs(LogsArgs),

    /// Check configuration, folders, hub, token and pm2
    ///
    /// Prints a line for each thing it looks at: ok, warning or problem, what was found, and what to do. It changes
    /// nothing, and a running sidecar keeps its connection. Secrets that pm2 has stored are named, without their
    /// values.
    ///
    /// Exits with 0 if there is no problem (a warning is none), with the code that `run` would exit with if it could
    /// not run, else with 69.
    ///
    /// With --preflight it checks only whether this program can run with this configuration and state, within
    /// milliseconds, without network and pm2, and exits with 0, 74 or 78. Do so with a new program before it replaces
    /// the old one.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar check --config /srv/my-agent/config.json
  agentcom-sidecar check --json | jq '.findings[] | select(.level != \"ok\")'
  ./agentcom-sidecar.new check --preflight --config config.json && mv agentcom-sidecar.new agentcom-sidecar")]
    Check(CheckArgs),

    /// Register a new agent at a hub and write its folder
    ///
    /// Gets a token from the hub, writes config.json (mode 0600) and the results folder, and prints how to start the
    /// sidecar under pm2. It starts nothing, prints no token, and replaces no configuration without --force.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar onboard --hub http://localhost:4000 --name my-agent
  agentcom-sidecar onboard --hub wss://hub.example/ws --name my-agent \\
      --config /srv/my-agent/config.json --wake-command 'agentcom-sidecar session -- ./agent.sh'
  agentcom-hub token my-agent | agentcom-sidecar onboard --hub http://localhost:4000 --name my-agent --token-file -")]
    Onboard(OnboardArgs),

    /// Run the agent's session for a task; for use in `wake_command`
    ///
    /// Returns once COMMAND runs, in a session of its own that outlives the sidecar and its restarts. Exit 0 of COMMAND
    /// completes the task with what it printed, or with the JSON object that it printed last. Any other end fails it.
    /// Output goes to the hub as it comes. If the task is cancelled, COMMAND is ended.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar session -- ./agent.sh
  In config.json:  \"wake_command\": \"agentcom-sidecar session -- claude -p \\\"$TASK_DESCRIPTION\\\"\"")]
    Session(SessionArgs),

    /// Print the sidecar's states and what leads from one to the next
    ///
    /// The table is made by running this program's own transition function; no sidecar is needed.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar machine                     every event, and where it leads from each state
  agentcom-sidecar machine --format mermaid    the diagram of docs/states.md
  agentcom-sidecar machine --format json | jq '.moves[] | select(.from == \"Draining\")'")]
    Machine(MachineArgs),

    /// Print completions for a shell
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar completions bash > /etc/bash_completion.d/agentcom-sidecar
  agentcom-sidecar completions zsh > \"${fpath[1]}/_agentcom-sidecar\"
  agentcom-sidecar completions fish > ~/.config/fish/completions/agentcom-sidecar.fish")]
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
  agentcom-sidecar man restart
  agentcom-sidecar man > /usr/local/share/man/man1/agentcom-sidecar.1
  agentcom-sidecar man --out /usr/local/share/man/man1      a page for each command, too")]
    Man(ManArgs),
}

/// Reads the command line. Ends the process where it is wrong, or asks for help or the version.
pub fn parse() -> Cli {
    let matches = REFERENCE.document(Cli::command()).get_matches();
    // The matches are those of the same tree.
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}
