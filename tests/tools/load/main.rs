//! `agentcom-load`: loads a hub with N agents, from outside, and prints what a herd, an agent, a task, a command and a list
//! cost. It is a client like any other, and always checks that nothing is lost and every task is done exactly once.
#![allow(unreachable_pub, reason = "the parts of one program")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it reports to people")]

mod agent;
mod args;
mod fleet;
mod http;
mod hub_process;
mod phases;
mod proc_files;
mod questions;
mod report;
mod restart;
mod socket;
mod stats;
mod tasks;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getpriority_process, getrlimit, setpriority_process, setrlimit};

use crate::args::Args;
use crate::hub_process::Hub;
use crate::report::Report;
use crate::watch::Watcher;

/// How much nicer the thread of all agents but the watched ones is than the rest.
const AGENTS_NICENESS: i32 = 5;

/// A result whose error says what failed, for people.
pub type Outcome<T> = Result<T, String>;

fn main() -> ExitCode {
    let args = Args::parse();
    let mut report = Report::default();
    let outcome = load(&args, &mut report);
    if args.json {
        println!("{}", report.json());
    } else {
        print!("{}", report.table());
    }
    if let Err(why) = &outcome {
        eprintln!("failed: {why}");
    }
    if args.judge {
        for bar in report.missed() {
            eprintln!("missed: {bar}");
        }
    }
    let is_good = outcome.is_ok() && (!args.judge || report.missed().is_empty());
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn load(args: &Args, report: &mut Report) -> Outcome<()> {
    raise_file_limit(args)?;
    // One thread: on a small machine the hub needs the others.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    let hub = Hub::new(args)?;
    let watcher = Watcher::start();
    // The agents stand for other machines: what they compute must hold up neither the hub nor the measurement. On Linux,
    // this is the priority of this thread alone.
    let lower = getpriority_process(None).and_then(|now| setpriority_process(None, now + AGENTS_NICENESS));
    lower.map_err(|error| format!("the priority cannot be lowered: {error}"))?;
    let outcome = runtime.block_on(phases::run(args, &hub, &watcher, report));
    if outcome.is_err() {
        for line in hub.complaints()?.iter().take(20) {
            eprintln!("the hub's log: {line}");
        }
    }
    outcome.and(hub.stop())
}

/// Raises the limit on open files as far as the system allows, and checks that the agents fit.
fn raise_file_limit(args: &Args) -> Outcome<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    raised.map_err(|error| format!("the limit on open files cannot be raised: {error}"))?;
    let needed = u64::try_from(args.agents() + args.strangers + 200).unwrap_or(u64::MAX);
    match limit.maximum {
        Some(most) if most < needed => {
            Err(format!("{needed} open files are needed, at most {most} are allowed: raise `ulimit -Hn`"))
        }
        Some(_) | None => Ok(()),
    }
}
