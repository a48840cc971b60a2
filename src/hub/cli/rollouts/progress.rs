//! What a watched rollout looks like: a bar that is drawn anew on a terminal, else a line for each thing that happens.

use crate::common::cli::table::cut;
use crate::common::cli::terminal::{self, EMPTY_LINE};
use crate::common::text::on_one_line;
use crate::common::wall_clock::now_ms;
use crate::hub::cli::client::Failure;
use crate::hub::cli::rollouts::records::RolloutRecord;
use crate::hub::cli::rollouts::words;
use crate::hub::cli::show::output::{note, print};

/// The width of the bar, in characters.
const WIDTH: usize = 20;
/// The least that is left of it on a narrow terminal.
const LEAST_WIDTH: usize = 5;

/// Where a watched rollout is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Screen {
    /// A terminal, with the bar in its last line.
    Terminal,
    /// Lines of text.
    Text,
    /// Lines of JSON.
    Json,
}

/// Shows a watched rollout.
#[derive(Debug)]
pub(super) struct Progress {
    screen: Screen,
    /// Whether the bar is in the last line.
    is_drawn: bool,
}

impl Progress {
    /// Creates what fits stdout.
    pub(super) fn new(json: bool) -> Self {
        let screen = match (json, terminal::is_terminal()) {
            (true, _) => Screen::Json,
            (false, true) => Screen::Terminal,
            (false, false) => Screen::Text,
        };
        Self { screen, is_drawn: false }
    }

    /// Tells one thing that happened, which is `json` for programs. `is_minor` is what a person with a bar need not see.
    pub(super) fn tell(&mut self, json: &str, line: &str, is_minor: bool) -> Result<(), Failure> {
        match self.screen {
            Screen::Json => write(&format!("{json}\n")),
            Screen::Terminal if is_minor => Ok(()),
            Screen::Terminal | Screen::Text => self.line(line),
        }
    }

    /// Tells something about the hub, beside what is for programs.
    pub(super) fn aside(&mut self, line: &str) -> Result<(), Failure> {
        match self.screen {
            Screen::Json => {
                note(line);
                Ok(())
            }
            Screen::Terminal | Screen::Text => self.line(line),
        }
    }

    /// Draws the bar anew, if there is one.
    pub(super) fn draw(&mut self, rollout: &RolloutRecord) -> Result<(), Failure> {
        match self.screen {
            Screen::Json | Screen::Text => Ok(()),
            Screen::Terminal => {
                // A character in the last column may wrap.
                let columns = terminal::columns().map(|columns| columns.saturating_sub(1));
                let line = on_one_line(&bar(rollout, now_ms(), columns));
                let line = columns.map_or_else(|| line.clone(), |columns| cut(&line, columns));
                self.is_drawn = true;
                write(&format!("{EMPTY_LINE}{line}"))
            }
        }
    }

    fn line(&mut self, line: &str) -> Result<(), Failure> {
        let before = if std::mem::take(&mut self.is_drawn) { EMPTY_LINE } else { "" };
        write(&format!("{before}{}\n", on_one_line(line)))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_drawn {
            // What follows gets a line of its own.
            let _ = print(b"\n");
        }
    }
}

fn write(text: &str) -> Result<(), Failure> {
    print(text.as_bytes()).map_err(Failure::silent)
}

/// Returns the bar: the wave, how many targets are through, how they are, and for how long the rollout has gone on. It gets
/// shorter where there are too few columns for all of that.
fn bar(rollout: &RolloutRecord, now_ms: u64, columns: Option<usize>) -> String {
    let whole = bar_of(rollout, now_ms, WIDTH);
    let excess = columns.map_or(0, |columns| whole.chars().count().saturating_sub(columns));
    if excess == 0 { whole } else { bar_of(rollout, now_ms, WIDTH.saturating_sub(excess).max(LEAST_WIDTH)) }
}

fn bar_of(rollout: &RolloutRecord, now_ms: u64, width: usize) -> String {
    let (through, size) = (rollout.through(), rollout.size.max(1));
    let filled = width as u64 * u64::from(through) / u64::from(size);
    let cells: String = (0..width as u64).map(|cell| if cell < filled { '#' } else { '-' }).collect();
    let seconds = rollout.ended_at.unwrap_or(now_ms).saturating_sub(rollout.created_at) / 1_000;
    let elapsed = format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let (wave, counts) = (rollout.wave_name(), words::counts(&rollout.counts));
    format!("{wave} [{cells}] {through}/{}: {counts}, {elapsed}", rollout.size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::cli::rollouts::records::tests::record;

    #[test]
    fn the_bar_tells_wave_targets_and_time() {
        let rollout = record("running", serde_json::json!({"created_at": 1_000, "size": 4}));
        let expected = "wave 2 of 2 [##########----------] 2/4: 0 succeeded, 1 in flight, 1 failed, 0 skipped, 1:01:01";
        assert_eq!(bar(&rollout, 3_662_000, None), expected);
        assert_eq!(bar(&rollout, 3_662_000, Some(expected.len())), expected);
    }

    #[test]
    fn where_there_is_little_room_the_bar_is_short_and_not_the_rest() {
        let rollout = record("running", serde_json::json!({"created_at": 1_000, "size": 4}));
        let expected = "wave 2 of 2 [###---] 2/4: 0 succeeded, 1 in flight, 1 failed, 0 skipped, 1:01:01";
        assert_eq!(bar(&rollout, 3_662_000, Some(expected.len())), expected);
        assert!(bar(&rollout, 3_662_000, Some(9)).starts_with("wave 2 of 2 [##---] 2/4: "));
    }
}
