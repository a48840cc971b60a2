//! `logs`: the sidecar's own log, from its file and the predecessors, oldest first. It needs no running sidecar and changes
//! nothing.

mod follow;
mod lines;
mod shown;

use std::collections::VecDeque;
use std::io::{self, BufWriter, Stdout, Write as _};
use std::path::Path;

use clap::Args;

use crate::common::duration::parse_duration;
use crate::common::fs::regular_file::Unsuitable;
use crate::common::fs::rotating_file::{self, Part};
use crate::common::logging::{LogLevel, MAX_FILES};
use crate::common::wall_clock::{now_ms, utc};
use crate::sidecar::cli::logs::lines::Lines;
use crate::sidecar::cli::logs::shown::{Filter, Format};
use crate::sidecar::cli::options::Options;
use crate::sidecar::cli::report::{Report, exit_code_of, remark};
use crate::sidecar::exit_code::ExitCode;

/// The number of lines without `--lines` and `--since`.
const DEFAULT_LINES: usize = 100;

/// The arguments of `logs`.
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// Print the last N matching lines, or `all` [default: 100; with --since: all]
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_lines)]
    lines: Option<LineCount>,
    /// Then print each new line, across restarts and rotation, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Print the lines as the file has them: one JSON object each
    #[arg(long)]
    json: bool,
    /// Print only lines of this level and worse: debug, info, notice, warning, error
    #[arg(long, value_name = "LEVEL", value_parser = parse_level)]
    level: Option<LogLevel>,
    /// Print only lines since then: how long ago, such as 90s, 30m or 7d, or a UTC time, such as 2026-11-24T07:46
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    since: Option<Since>,
}

/// How many of the last lines are printed.
#[derive(Debug, Clone, Copy)]
enum LineCount {
    All,
    Last(usize),
}

/// The time of the first line, as the log writes times, or the beginning of such a text.
#[derive(Debug, Clone)]
struct Since(String);

fn parse_lines(text: &str) -> Result<LineCount, String> {
    if text == "all" {
        return Ok(LineCount::All);
    }
    text.parse().map(LineCount::Last).map_err(|_| "expected a number, or all".to_owned())
}

fn parse_level(name: &str) -> Result<LogLevel, String> {
    LogLevel::parse(name).ok_or_else(|| format!("expected one of {}", LogLevel::NAMES))
}

fn parse_since(text: &str) -> Result<Since, String> {
    if let Some(time) = shown::time_prefix(text) {
        return Ok(Since(time));
    }
    let ago = parse_duration(text)
        .map_err(|_| "expected how long ago (90s, 30m, 24h, 7d) or a time in UTC (2026-11-24T07:46:58)".to_owned())?;
    Ok(Since(utc(now_ms().saturating_sub(ago))))
}

/// Prints the log, and with `--follow` goes on until it is interrupted or its output is closed.
pub fn logs(options: &Options, args: &LogsArgs) -> ExitCode {
    let config = match options.load() {
        Ok(loaded) => loaded.config,
        Err(error) => return Report::new(ExitCode::Config, error.to_string()).print(args.json),
    };
    let path = &config.log_file;
    // Before the first look, so that no change is missed between the two.
    let changes = args.follow.then(|| follow::Changes::of(path));
    let parts = match rotating_file::open_all(path, MAX_FILES) {
        Ok(parts) => parts,
        Err((path, error)) => return Report::new(ExitCode::StateUnusable, unreadable(&path, &error)).print(args.json),
    };
    if parts.is_empty() {
        let missing = format!("there is no log yet: `log_file` is {}", path.display());
        if changes.is_none() {
            let message = format!("{missing}; a sidecar writes it as soon as it runs with this configuration");
            return Report::new(ExitCode::StateUnusable, message).print(args.json);
        }
        remark(&format!("{missing}; waiting for it"));
    }
    let filter = Filter { level: args.level, since: args.since.as_ref().map(|Since(time)| time.clone()) };
    let mut printer = Printer { filter, format: Format::of(args.json), out: BufWriter::new(io::stdout()) };
    let count = match (args.lines, &args.since) {
        (Some(count), _) => count,
        (None, Some(_)) => LineCount::All,
        (None, None) => LineCount::Last(DEFAULT_LINES),
    };
    exit_code_of(print_parts(parts, count, &mut printer, changes.is_some()).and_then(|last| {
        if let Some(changes) = changes {
            follow::follow(path, last, &mut printer, &changes)?;
        }
        Ok(ExitCode::Done)
    }))
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    let then = match Unsuitable::of(error) {
        Some(_) => "`log_file` keeps no lines there: look where its output goes (pm2 logs, journalctl)",
        None => "run this as the user that runs the sidecar",
    };
    format!("cannot read the log {}: {error}; {then}", path.display())
}

/// Prints what the files hold, oldest first. Returns the newest, to be followed. An unfinished line at its end is left for
/// later where it is.
fn print_parts(parts: Vec<Part>, count: LineCount, printer: &mut Printer, followed: bool) -> io::Result<Option<Lines>> {
    let mut kept = VecDeque::new();
    let mut newest = None;
    let mut parts = parts.into_iter().peekable();
    while let Some(part) = parts.next() {
        let mut lines = Lines::of(part);
        let goes_on = followed && parts.peek().is_none();
        while let Some(line) = lines.next()?.or_else(|| if goes_on { None } else { lines.rest() }) {
            let Some(shown) = printer.shown(&line) else { continue };
            match count {
                LineCount::All => printer.write(&shown)?,
                LineCount::Last(0) => {}
                LineCount::Last(most) => {
                    if kept.len() == most {
                        kept.pop_front();
                    }
                    kept.push_back(shown);
                }
            }
        }
        newest = Some(lines);
    }
    for line in kept {
        printer.write(&line)?;
    }
    printer.out.flush()?;
    Ok(newest)
}

/// Prints the lines that match.
struct Printer {
    filter: Filter,
    format: Format,
    out: BufWriter<Stdout>,
}

impl Printer {
    /// Returns the line as it is printed; `None` if it does not match.
    fn shown(&self, line: &[u8]) -> Option<String> {
        shown::show(line, &self.filter, self.format)
    }

    fn write(&mut self, shown: &str) -> io::Result<()> {
        self.out.write_all(shown.as_bytes())?;
        self.out.write_all(b"\n")
    }
}
