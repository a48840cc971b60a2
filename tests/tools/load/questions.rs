//! The questions of an operator, each asked as one command while all agents are known: which are away and why, and why did
//! one restart. A command is a process of its own; what it takes is measured from its start to its end.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::Outcome;
use crate::agent::Agent;
use crate::hub_process::Hub;
use crate::report::Report;
use crate::stats::Spread;

/// How often each question is asked.
const TIMES: usize = 20;

/// Who asks which hub.
pub struct Asker<'a> {
    hub: &'a Hub,
    binary: &'a Path,
    token: PathBuf,
    _folder: TempDir,
}

impl<'a> Asker<'a> {
    /// Creates one who asks by this program.
    pub fn new(hub: &'a Hub, binary: &'a Path) -> Outcome<Self> {
        let folder = tempfile::tempdir().map_err(|error| format!("no folder for the token: {error}"))?;
        let token = token_file(&folder, &hub.admin)?;
        Ok(Self { hub, binary, token, _folder: folder })
    }

    /// Asks which agents are away, of which there are so many, if that is known.
    pub fn who_is_away(&self, when: &str, key: &str, away: Option<usize>, report: &mut Report) -> Outcome<()> {
        let right = |found: usize| match away.filter(|away| *away != found) {
            Some(away) => Err(format!("{found} agents are said to be away, {away} are")),
            None => Ok(()),
        };
        let name = format!("which agents are away, since when, why ({when})");
        // A line of headings, and one for each.
        let text = |text: &str| right(text.lines().count().saturating_sub(1));
        let json = |text: &str| right(json_of(text)?.as_array().map_or(0, Vec::len));
        self.ask_both(&["agents", "--away"], (&name, key), report, &text, &json)
    }

    /// Asks what became of one agent.
    pub fn what_of(&self, one: &Agent, report: &mut Report) -> Outcome<()> {
        let id = one.id.as_str();
        let names_it = |text: &str| match text.contains(id) {
            true => Ok(()),
            false => Err(format!("asked for {id}, answered of another: {text}")),
        };
        let question = ("why did one restart last night", "question_restart");
        self.ask_both(&["agent", id], question, report, &names_it, &names_it)?;
        let is_list = |text: &str| match json_of(text)?.is_array() {
            true => Ok(()),
            false => Err(format!("no list of restarts: {text}")),
        };
        let question = ("its commanded restarts since yesterday", "question_restarts");
        self.ask_both(&["restarts", "--agent", id, "--since", "24h"], question, report, &|_| Ok(()), &is_list)
    }

    /// Asks a question as people do and as programs do, and checks both answers.
    fn ask_both(
        &self,
        arguments: &[&str],
        (name, key): (&str, &str),
        report: &mut Report,
        check_text: &dyn Fn(&str) -> Outcome<()>,
        check_json: &dyn Fn(&str) -> Outcome<()>,
    ) -> Outcome<()> {
        let (text, took) = self.ask(arguments)?;
        check_text(&text)?;
        report.question(name, key, &took);
        let (json, took) = self.ask(&[arguments, &["--json"]].concat())?;
        check_json(&json)?;
        report.question(&format!("{name}, as JSON"), &format!("{key}_json"), &took);
        Ok(())
    }

    /// Runs a command as often as is needed. Returns its last answer, and how long each took.
    fn ask(&self, arguments: &[&str]) -> Outcome<(String, Spread)> {
        let mut took: Vec<Duration> = Vec::with_capacity(TIMES);
        let mut answer = Vec::new();
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
            answer = output.stdout;
        }
        let answer = String::from_utf8(answer).map_err(|error| format!("{arguments:?}: {error}"))?;
        Ok((answer, Spread::of(took)))
    }
}

fn json_of(text: &str) -> Outcome<Value> {
    serde_json::from_str(text).map_err(|error| format!("no JSON ({error}): {text}"))
}

fn token_file(folder: &TempDir, token: &str) -> Outcome<PathBuf> {
    let path = folder.path().join("token");
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(token.as_bytes()));
    written.map(|()| path.clone()).map_err(|error| format!("{}: {error}", path.display()))
}
