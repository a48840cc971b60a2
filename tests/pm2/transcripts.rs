//! The transcripts in `docs/pm2.md` are what a real pm2 prints, evened out where two runs differ.
//! `UPDATE_TRANSCRIPTS=1 cargo test --test pm2 transcripts` writes down what came out.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;

use crate::support::ground::{ALICE, Ground};
use crate::support::wait;

/// The parts of `pm2 show` that are the sidecar's words.
const OURS: [&str; 3] = ["Module alice infos", "Actions available", "Code metrics value"];

/// Texts of one run, and what stands for them.
struct Evened(Vec<(String, String)>);

impl Evened {
    fn of(ground: &Ground) -> Self {
        let text = |path: &Path| path.to_str().expect("a readable path").to_owned();
        Self(vec![
            (text(ground.agent.folder()), "/home/me/alice".into()),
            (ground.hub.address().to_string(), "127.0.0.1:4000".into()),
        ])
    }

    fn also(&mut self, text: &str, stands: &str) {
        self.0.push((text.to_owned(), stands.to_owned()));
    }

    fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }
}

/// One table row by row: `│ a │ b │`.
fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('│')?.strip_suffix('│')?;
    Some(inner.split('│').map(|cell| cell.trim().to_owned()).collect())
}

/// What differs from run to run in a row of figures.
fn even_out_figure(mut row: Vec<String>) -> Vec<String> {
    let known = [("Task age", "12 s"), ("Last gap", "31 ms"), ("Hub latency", "1 ms")];
    for (name, figure) in known {
        if row[0] == name && row.get(1).is_some_and(|value| value.ends_with(&figure[figure.len() - 2..])) {
            figure.clone_into(&mut row[1]);
        }
    }
    row
}

/// pm2's frame around the rows, as wide as they are.
fn draw(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let length = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let widths: Vec<usize> = (0..columns).map(|n| rows.iter().map(|row| length(row, n)).max().unwrap_or(0)).collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let dashes: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}", dashes.join(middle))
    };
    let line = |row: &Vec<String>| {
        let padded = |(n, width): (usize, &usize)| format!(" {:width$} ", row.get(n).map_or("", String::as_str));
        format!("│{}│", widths.iter().enumerate().map(padded).collect::<Vec<_>>().join("│"))
    };
    let mut drawn = vec![rule("┌", "┬", "┐")];
    drawn.extend(rows.iter().map(line));
    drawn.push(rule("└", "┴", "┘"));
    drawn
}

/// The sidecar's parts of what `pm2 show` has printed.
fn ours(printed: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let (mut shown, mut rows) = (false, Vec::new());
    for line in printed.lines().chain([""]) {
        match cells(line) {
            Some(row) => rows.push(even_out_figure(row)),
            None if line.trim_start().starts_with(['┌', '├']) => {}
            None => {
                if shown && !rows.is_empty() {
                    out.extend(draw(&rows));
                }
                rows.clear();
                if line.trim_start().starts_with('└') {
                    continue;
                }
                let title = OURS.iter().find(|title| line.contains(**title));
                shown = title.is_some() || (shown && line.trim_start().starts_with("Trigger via"));
                if shown {
                    out.push(line.trim().to_owned());
                }
            }
        }
    }
    out.join("\n")
}

/// The rows of `└` end a table; the title of the next follows. Everything else of pm2's is not ours to show.
fn show(ground: &Ground, evened: &Evened) -> String {
    let printed = ground.pm2.printed(&["show", ALICE]);
    format!("$ pm2 show alice\n{}", ours(&evened.apply(&printed)))
}

fn trigger(ground: &Ground, evened: &Evened, words: &[&str]) -> String {
    let args: Vec<&str> = ["trigger", ALICE].iter().chain(words).copied().collect();
    let printed = evened.apply(&ground.pm2.printed(&args));
    let answer = printed.lines().find(|line| line.starts_with("[alice:")).unwrap_or_else(|| panic!("{printed}"));
    // The whole status is long.
    let answer = answer.split_once(",\"process\":").map_or(answer.to_owned(), |(start, _)| format!("{start}, ...}}"));
    let quoted = |word: &&str| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() };
    format!("$ pm2 trigger alice {}\n{answer}", words.iter().map(quoted).collect::<Vec<_>>().join(" "))
}

fn document() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pm2.md")
}

/// The text with another transcript of that name in it.
fn with_transcript(text: &str, name: &str, transcript: &str) -> String {
    let mark = format!("<!-- transcript: {name} -->\n```\n");
    let (before, rest) = text.split_once(&mark).unwrap_or_else(|| panic!("docs/pm2.md has no {mark:?}"));
    let end = rest.find("```\n").expect("its end");
    format!("{before}{mark}{transcript}\n{}", &rest[end..])
}

#[test]
fn the_document_shows_what_pm2_prints() {
    let ground = Ground::launched();
    let command = ground.command(serde_json::json!({"reason": "upgrade"}));
    ground.wait_back(&command);
    let task = ground.start_task("start=0 run=hold");
    let mut evened = Evened::of(&ground);
    evened.also(&task, "task-8f3ad1");
    let figure = |name: &str| {
        let app = ground.pm2.app(ALICE).unwrap_or_default();
        app["pm2_env"]["axm_monitor"][name]["value"].clone()
    };
    wait::until_true("the task to show as running", || figure("Task") == format!("{task} (running)"));
    wait::until_true("the restart to show", || figure("Last restart") == "upgrade" && figure("Last gap").is_u64());
    wait::until_true("the hub to show", || figure("Hub") == "online");
    let shown = show(&ground, &evened);
    let asked: [&[&str]; 7] = [
        &["status"],
        &["restart", "new model"],
        &["cancel-restart"],
        &["drain"],
        &["resume"],
        &["resume"],
        &["restart", "{\"forced\": true}"],
    ];
    let triggered: Vec<String> = asked.iter().map(|words| trigger(&ground, &evened, words)).collect();
    ground.finish(&task);

    let text = fs::read_to_string(document()).expect("docs/pm2.md");
    let as_printed = with_transcript(&text, "show", &shown);
    let as_printed = with_transcript(&as_printed, "trigger", &triggered.join("\n"));
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some_and(|value| value == "1") {
        fs::write(document(), as_printed).expect("docs/pm2.md can be written");
    } else {
        assert_eq!(text, as_printed, "docs/pm2.md is not what pm2 prints; UPDATE_TRANSCRIPTS=1 writes it anew");
    }
}
