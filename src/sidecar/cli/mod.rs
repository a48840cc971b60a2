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

/// Runs beside an AI agent under pm2: holds the connection to the hub, wakes the agent for one task at a time, and restarts
/// itself on the hub's command without losing anything.
///
/// Without a command it runs: `agentcom-sidecar --config FILE` is `agentcom-sidecar run --config FILE`.
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
    /// It serves until it is stopped or restarted by command: see docs/operating.md. Under pm2 it is what
    /// ecosystem.config.js starts.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar run --config /srv/my-agent/config.json
  pm2 start agentcom-sidecar --name my-agent --interpreter none -- run --config /srv/my-agent/config.json")]
    Run,

    /// Show the state of the running sidecar: problems first, with what to do about each
    ///
    /// Exits with 0 if it answers, whatever it says; with 69 if it does not run, and tells what its journal keeps.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar status --config /srv/my-agent/config.json
  agentcom-sidecar status --watch
  agentcom-sidecar status --json | jq -r .phase
  agentcom-sidecar status --timeout 2s > /dev/null || echo \"not there, or busy: $?\"")]
    Status(StatusArgs),

    /// Restart the sidecar once its task has ended, as the hub would
    ///
    /// With --wait it ends when the hub knows the next run. With --timeout it ends by then with 124, says what the restart
    /// waits for, and takes nothing back.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar restart --reason upgrade --wait
  agentcom-sidecar restart --wait --timeout 5m --json | jq -r .message
  agentcom-sidecar restart --force      the task goes on in its session; the next run takes it up")]
    Restart(RestartArgs),

    /// Cancel a restart that still waits for its task
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar cancel-restart --config /srv/my-agent/config.json")]
    CancelRestart(OutputArgs),

    /// Finish the task in hand and take no more, also after a restart, until `resume`
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar drain --wait && pm2 stop my-agent
  agentcom-sidecar drain --wait --timeout 30m || agentcom-sidecar resume")]
    Drain(DrainArgs),

    /// Take tasks again
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar resume")]
    Resume(OutputArgs),

    /// Have the running sidecar read its configuration again, as SIGHUP does
    ///
    /// It says what has changed, and what waits for a restart. A configuration with an error changes nothing.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar reload        the same as kill -HUP of the sidecar, and says what came of it")]
    Reload(OutputArgs),

    /// Show what this sidecar did: runs, tasks, restarts and drains, the newest first
    ///
    /// From the file that the sidecar keeps beside its journal; it need not run. A run that was killed or crashed is `lost`,
    /// and the start after it an unplanned restart. Times are UTC.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar history -n 20
  agentcom-sidecar history --json | jq '.items[] | select(.kind == \"task\" and .outcome == \"failed\")'")]
    History(HistoryArgs),

    /// Print the sidecar's own log, the oldest line first
    ///
    /// From `log_file` and its predecessors; the sidecar need not run. Text that agents and hubs wrote cannot control the
    /// terminal. Times are UTC.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar logs --follow
  agentcom-sidecar logs --level warning --since 24h
  agentcom-sidecar logs -n all --json | jq -c 'select(.task_id == \"task-7\")'")]
    Logs(LogsArgs),

    /// Check configuration, folders, hub, token and pm2
    ///
    /// One line for each thing looked at: ok, warning or problem, what was found, and what to do. It changes nothing and a
    /// running sidecar does not notice it: the token is asked about over HTTP, without an `identify`. What pm2 has stored is
    /// searched for secrets; variables are named, and no value is.
    ///
    /// It ends with 0 when there is no problem (warnings are none); else with the code that `run` would end with, where it
    /// would, else with 69.
    ///
    /// With --preflight it tells only whether this binary can run with this configuration and state: no network, no pm2,
    /// some milliseconds, one line, 0 or 74 or 78. Run it with a new binary before it replaces the old one.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar check --config /srv/my-agent/config.json
  agentcom-sidecar check --json | jq '.findings[] | select(.level != \"ok\")'
  ./agentcom-sidecar.new check --preflight --config config.json && mv agentcom-sidecar.new agentcom-sidecar")]
    Check(CheckArgs),

    /// Register a new agent at a hub and write its folder
    ///
    /// It asks the hub for a token, writes config.json (mode 0600, never over one that is there) and the results folder,
    /// and says how to start the sidecar under pm2. Nothing is started, and the token is not printed.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar onboard --hub http://localhost:4000 --name my-agent
  agentcom-sidecar onboard --hub wss://hub.example/ws --name my-agent \\
      --config /srv/my-agent/config.json --wake-command 'agentcom-sidecar session -- ./agent.sh'
  agentcom-hub token my-agent | agentcom-sidecar onboard --hub http://localhost:4000 --name my-agent --token-file -")]
    Onboard(OnboardArgs),

    /// Run an agent's session for the task that the wake command was called for
    ///
    /// The one line of a `wake_command`. It ends once the command runs, which goes on in a session of its own: it outlives
    /// this call, the sidecar and its restarts. Its end is the task's end: exit 0 completes the task with what it printed, or
    /// with the JSON object that it printed last; anything else fails it, and so does a session that is killed. Its output is
    /// passed on to the hub as it comes. A session whose task is cancelled is ended.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar session -- ./agent.sh
  In config.json:  \"wake_command\": \"agentcom-sidecar session -- claude -p \\\"$TASK_DESCRIPTION\\\"\"")]
    Session(SessionArgs),

    /// Print the states and what leads from one to the next, found by driving the shipped code
    ///
    /// Nothing is read and nothing is running: the table is that of this binary.
    #[command(after_long_help = "\
Examples:
  agentcom-sidecar machine                     every event, and where it leads from each state
  agentcom-sidecar machine --format mermaid    the diagram of docs/states.md
  agentcom-sidecar machine --format json | jq '.moves[] | select(.from == \"Draining\")'")]
    Machine(MachineArgs),

    /// Print the completions of a shell
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
