//! `check`: diagnoses the installation of one agent's sidecar. It changes nothing (a folder is probed with a temporary
//! file) and never sends `identify` to the hub, so a running sidecar does not notice it.

mod files;
mod http;
mod hub;
mod identity;
mod pm2;
mod running;
mod secrets;
mod stored;
mod task;
mod tls_files;
mod wake;

use clap::Args;
use tokio::runtime::Runtime;

use crate::common::cli::finding::{self, Report};
use crate::sidecar::cli::options::Options;
use crate::sidecar::cli::out::{print, print_error};
use crate::sidecar::cli::runtime;
use crate::sidecar::config::{Config, ConfigError, Loaded};
use crate::sidecar::exit_code::ExitCode;

/// A finding of `check`; a problem has the exit code that `run` would end with, or [`ExitCode::Unavailable`].
type Finding = finding::Finding<ExitCode>;

/// The arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
    /// Check only whether this program can run here: no network, no pm2, one line
    #[arg(long, conflicts_with = "json")]
    pub preflight: bool,
}

/// Checks everything, or with `--preflight` only what decides whether this binary can run here.
pub fn check(options: &Options, args: &CheckArgs) -> ExitCode {
    // Before the first folder is probed: the runtime makes writes beyond the file size limit fail.
    let runtime = match runtime::build() {
        Ok(runtime) => runtime,
        Err(why) => return print_error(&why, ExitCode::StateUnusable),
    };
    if args.preflight {
        return preflight(options);
    }
    let mut report = Report::default();
    match options.load() {
        Ok(loaded) => {
            run_checks(&loaded, &mut report, runtime);
            report.hide(&loaded.config.token);
        }
        Err(error) => {
            report.add(no_configuration(&error));
            // A token that only pm2 has makes the configuration invalid: it lacks one.
            report.extend(runtime.block_on(pm2::secrets()));
            runtime.shutdown_background();
        }
    }
    let text = if args.json {
        report.to_json(("config", &options.config_path().display().to_string()))
    } else {
        report.to_text()
    };
    let printed = print(text.as_bytes());
    if printed == ExitCode::Done { report.exit_code() } else { printed }
}

/// Checks whether this binary can run, before it replaces the old one.
fn preflight(options: &Options) -> ExitCode {
    let config = match options.load() {
        Ok(loaded) => loaded.config,
        Err(error) => return print_error(&one_line(&error.to_string()), ExitCode::Config),
    };
    let findings = [files::state_folder(&config), files::journal(&config)];
    match findings.into_iter().find(Finding::is_problem) {
        Some(problem) => print_error(&one_line(&problem.as_sentence()), problem.code()),
        None => {
            let version = env!("CARGO_PKG_VERSION");
            print(format!("agentcom-sidecar {version} can run as {:?}\n", config.agent_id).as_bytes())
        }
    }
}

fn run_checks(loaded: &Loaded, report: &mut Report<ExitCode>, runtime: Runtime) {
    let config = &loaded.config;
    report.extend(files::configuration(loaded));
    report.extend(files::overridden(config));
    report.extend(files::permissions(config));
    report.add(files::state_folder(config));
    report.add(files::journal(config));
    let (holder, finding) = files::holder(config);
    report.add(finding);
    report.add(files::results_folder(config));
    report.extend(files::repo_folder(config));
    report.add(files::log_file(config));
    report.extend(wake::commands(config));
    report.extend(tls_files::check(config));
    let status = holder.as_ref().and_then(|_| running::status(config));
    report.extend(status.as_ref().map(running::overridden).unwrap_or_default());
    report.extend(status.as_ref().and_then(|status| status.task.as_ref()).map(task::check));
    let known = status.as_ref().map(identity::Known::of_sidecar).unwrap_or_default();
    runtime.block_on(async {
        let (at_hub, kind) = hub::check(config).await;
        report.extend(kind.into_iter().flat_map(|kind| wake::never_asked(config, kind)));
        report.extend(wake::room_messages(config, kind));
        let known = match at_hub.iter().any(Finding::is_problem) {
            true => known,
            false => known.and_of_hub(config).await,
        };
        report.extend(at_hub);
        report.add(known.finding());
        report.extend(http::check(config, holder.as_ref()).await);
        report.extend(pm2::check(config, holder.as_ref()).await);
    });
    // A name lookup that hangs must not delay the answer.
    runtime.shutdown_background();
}

fn no_configuration(error: &ConfigError) -> Finding {
    let what = "all but what pm2 has stored can be looked at only once the configuration is in order: docs/configuration.md has every key";
    Finding::problem("config", error, ExitCode::Config).then(what)
}

/// Joins the lines of a message to one line, for a log.
fn one_line(text: &str) -> String {
    text.replace(":\n  ", ": ").replace("\n  ", "; ").replace('\n', "; ")
}

/// Returns the agent's id and hub, for a finding.
fn agent_label(config: &Config) -> String {
    format!("{:?} at {}", config.agent_id, config.hub_url)
}
