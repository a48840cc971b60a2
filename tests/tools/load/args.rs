//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::Outcome;

/// Loads a hub with N agents and prints what that costs, seen from outside.
#[derive(Debug, Parser)]
#[command(name = "agentcom-load", after_help = EXIT_CODES)]
pub struct Args {
    /// The number of agents
    #[arg(default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    agents: u32,
    /// The phases to run; all of them by default
    #[arg(long, value_delimiter = ',', value_name = "PHASE")]
    pub only: Vec<Phase>,
    /// How many times all agents dial in one moment
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub herds: usize,
    /// How many tasks are done, with all agents and again with a few
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    pub tasks: usize,
    /// How many agents the second round of tasks has
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub few: usize,
    /// How many idle connections a stranger holds open during the herds
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub strangers: usize,
    /// How long each latency is measured, in ms
    #[arg(long, default_value_t = 3_000, value_name = "MS")]
    pub watch_ms: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Fail where a bar is missed: a herd within 3 s, 8,000 bytes an agent, a command at its agent within 5 ms (99 of 100)
    /// while all join, an operator's question within 50 ms (19 of 20)
    #[arg(long)]
    pub judge: bool,
    /// The hub's program; by default the one that was built beside this one
    #[arg(long, value_name = "FILE")]
    hub_binary: Option<PathBuf>,
    /// An argument for `agentcom-hub serve`, such as --hub-argument=--log-level=debug; may be repeated
    #[arg(long = "hub-argument", value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub hub_arguments: Vec<String>,
    /// Where the hub's folder is made; the system's folder for temporary files by default
    #[arg(long, value_name = "DIR")]
    pub data_parent: Option<PathBuf>,
    /// Load a hub that runs already (its memory, CPU and log are then not measured)
    #[arg(long, value_name = "URL", requires = "admin_token_file")]
    pub hub: Option<String>,
    /// The file with an admin's token of that hub
    #[arg(long, value_name = "FILE", requires = "hub")]
    pub admin_token_file: Option<PathBuf>,
}

const EXIT_CODES: &str = "\
Exit codes: 0 all tasks were done once and nothing was lost, 1 otherwise, or (--judge) a bar was missed; 2 wrong arguments.";

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Phase {
    /// Join 100 at a time
    Joins,
    /// Dial all in one moment
    Herd,
    /// Latencies with all agents connected and nothing to do
    Quiet,
    /// Tasks end to end
    Tasks,
    /// `GET /api/agents` while events flow
    List,
    /// The questions of an operator, each as one command
    Questions,
    /// Restart all agents
    Restart,
}

impl Args {
    /// Returns the number of agents.
    pub fn agents(&self) -> usize {
        self.agents as usize
    }

    /// Returns whether a phase is to run.
    pub fn runs(&self, phase: Phase) -> bool {
        self.only.is_empty() || self.only.contains(&phase)
    }

    /// Returns the hub's program.
    pub fn hub_binary(&self) -> Outcome<PathBuf> {
        if let Some(given) = &self.hub_binary {
            return Ok(given.clone());
        }
        // TARGET/PROFILE/examples/agentcom-load
        let own = std::env::current_exe().map_err(|error| format!("where this program is: {error}"))?;
        let hub = own.ancestors().nth(2).map(|profile| profile.join("agentcom-hub"));
        hub.filter(|hub| hub.exists())
            .ok_or_else(|| format!("no agentcom-hub was built beside {}: give --hub-binary", own.display()))
    }
}
