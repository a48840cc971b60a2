//! A day of 100,000 agents in minutes: the shipped hub's decisions and the shipped sidecar's machine in virtual time (see
//! `tests/simulated/day/mod.rs`). `npm run day`, `npm run day -- 20000 --seed 7`; it exits 1 where something does not hold.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints figures")]
#![allow(unreachable_pub)]

#[path = "../simulated/day/mod.rs"]
mod day;
#[path = "../simulated/rng.rs"]
mod rng;

use std::process::ExitCode;

use clap::Parser;
use day::{About, Options};

/// Plays a day of a fleet, and says what it came to.
#[derive(Parser)]
struct Args {
    /// The number of agents.
    #[arg(default_value_t = 100_000)]
    agents: u32,
    /// One seed is one day.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// An hour instead of a day, with as many faults.
    #[arg(long)]
    hour: bool,
    /// Tell everything about this agent or task as it happens: `agent:7`, `task:12`.
    #[arg(long, value_parser = about)]
    tell: Option<About>,
    /// Wake the sidecars for each heartbeat, also where it changes nothing: hours.
    #[arg(long)]
    all_heartbeats: bool,
    /// The most memory that it may take, in MB.
    #[arg(long)]
    most_mb: Option<u64>,
}

fn about(text: &str) -> Result<About, String> {
    let expected = || format!("expected agent:NUMBER or task:NUMBER, got {text:?}");
    let (kind, number) = text.split_once(':').ok_or_else(expected)?;
    let number = number.parse().map_err(|_| expected())?;
    match kind {
        "agent" => Ok(About::Agent(number)),
        "task" => Ok(About::Task(number)),
        _ => Err(expected()),
    }
}

fn main() -> ExitCode {
    let Args { agents, seed, hour, tell, all_heartbeats, most_mb } = Args::parse();
    let options = if hour { Options::hour(agents, seed) } else { Options::day(agents, seed) };
    let outcome = day::play(Options { tell, all_heartbeats, ..options });
    println!("{}", outcome.figures);
    if let Some(failure) = outcome.failure {
        eprintln!("\n{failure}");
        return ExitCode::FAILURE;
    }
    if most_mb.is_some_and(|most| outcome.figures.peak_mb() > most) {
        eprintln!("\nit took {} MB", outcome.figures.peak_mb());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
