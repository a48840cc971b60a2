//! The questions of an operator, each asked as one command while all agents are known: which are away and why, and why did
//! one restart. A command is a process of its own; what it takes is measured from its start to its end.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Outcome;
use crate::agent::Agent;
use crate::hub_process::Hub;
use crate::report::Report;
use crate::stats::Spread;

/// How often each question is asked.
const TIMES: usize = 20;

/// Asks each question of a hub that knows this agent, and of which `away` others are away, if that is known.
pub fn ask(hub: &Hub, binary: &Path, one: &Agent, away: Option<usize>, report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for the token: {error}"))?;
    let asker = Asker { hub, binary, token: token_file(&folder, &hub.admin)? };
    let (agents, took) = asker.ask(&["agents", "--away", "--json"])?;
    let found = agents.as_array().map_or(0, Vec::len);
    if let Some(away) = away.filter(|away| *away != found) {
        return Err(format!("{found} agents are said to be away, {away} are"));
    }
    report.question("which agents are away, since when, why", "question_away", &took);
    let (entry, took) = asker.ask(&["agent", one.id.as_str(), "--json"])?;
    if entry["agent_id"] != json!(one.id.as_str()) {
        return Err(format!("asked for {}, answered of another: {entry}", one.id.as_str()));
    }
    report.question("why did one restart last night", "question_restart", &took);
    let (restarts, took) = asker.ask(&["restarts", "--agent", one.id.as_str(), "--since", "24h", "--json"])?;
    if !restarts.is_array() {
        return Err(format!("no list of restarts: {restarts}"));
    }
    report.question("its commanded restarts since yesterday", "question_restarts", &took);
    Ok(())
}

struct Asker<'a> {
    hub: &'a Hub,
    binary: &'a Path,
    token: std::path::PathBuf,
}

impl Asker<'_> {
    /// Runs a command as often as is needed. Returns its last answer, and how long each took.
    fn ask(&self, arguments: &[&str]) -> Outcome<(Value, Spread)> {
        let mut took: Vec<Duration> = Vec::with_capacity(TIMES);
        let mut answer = Value::Null;
        for _ in 0..TIMES {
            let mut command = Command::new(self.binary);
            command.args(arguments).arg("--hub").arg(format!("http://{}", self.hub.address));
            let began = Instant::now();
            let output = command.arg("--token-file").arg(&self.token).output();
            took.push(began.elapsed());
            let output = output.map_err(|error| format!("{}: {error}", self.binary.display()))?;
            if !output.status.success() {
                return Err(format!("{arguments:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
            }
            answer = serde_json::from_slice(&output.stdout).map_err(|error| format!("{arguments:?}: {error}"))?;
        }
        Ok((answer, Spread::of(took)))
    }
}

fn token_file(folder: &TempDir, token: &str) -> Outcome<std::path::PathBuf> {
    let path = folder.path().join("token");
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(token.as_bytes()));
    written.map(|()| path.clone()).map_err(|error| format!("{}: {error}", path.display()))
}
