//! `status`: the state of the running sidecar, or what a stopped one left in its journal.

use std::io::{self, Write};
use std::time::Duration;

use crate::common::wall_clock::now_ms;
use crate::sidecar::admin::socket::{CallError, OfflineView};
use crate::sidecar::agent::results::kept::Folders;
use crate::sidecar::cli::operate::{Operator, StatusArgs, report_of};
use crate::sidecar::cli::report::{Report, json_line};
use crate::sidecar::cli::show;
use crate::sidecar::exit_code::ExitCode;
use crate::sidecar::journal;

/// The interval between attempts to reach a sidecar that is away.
const POLL: Duration = Duration::from_millis(100);

impl Operator {
    pub(super) fn status(&self, args: &StatusArgs) -> io::Result<ExitCode> {
        let mut out = io::stdout();
        if args.watch {
            return self.watch(args, &mut out);
        }
        let client = match args.timeout {
            Some(ms) => self.client.clone().waiting_for(Duration::from_millis(ms)),
            None => self.client.clone(),
        };
        match (client.status(), args.timeout) {
            (Ok(status), _) => {
                let text = if args.json { json_line(&status) } else { show::running(&status, now_ms()) };
                out.write_all(text.as_bytes())?;
                Ok(ExitCode::Done)
            }
            (Err(CallError::NotRunning { .. }), _) => self.print_offline(args, &mut out),
            (Err(CallError::Silent { .. }), Some(ms)) => {
                let after = show::duration(ms);
                let known = "a sidecar is there and has not answered: it is stopped, hangs, or the machine is busy";
                let message = format!("timed out after {after}: {known}; see its log (`log_file`)");
                Ok(Report::new(ExitCode::TimedOut, message).print(args.json))
            }
            (Err(error), _) => Ok(report_of(&error).print(args.json)),
        }
    }

    fn print_offline(&self, args: &StatusArgs, out: &mut impl Write) -> io::Result<ExitCode> {
        let queue_file = &self.config.queue_file;
        let offline = OfflineView::look(&Folders::of(&self.config), journal::max_bytes(self.config.max_frame_bytes));
        let text = if args.json {
            json_line(&offline)
        } else {
            show::offline(&self.config.agent_id, &queue_file.display().to_string(), &offline)
        };
        out.write_all(text.as_bytes())?;
        Ok(ExitCode::Unavailable)
    }

    /// Prints the state whenever it changes, also across restarts: a sidecar that was seen is waited for.
    fn watch(&self, args: &StatusArgs, out: &mut (impl Write + io::IsTerminal)) -> io::Result<ExitCode> {
        let redraw = out.is_terminal() && !args.json;
        let mut last = String::new();
        let mut seen = false;
        loop {
            match self.client.watch() {
                Ok(statuses) => {
                    seen = true;
                    for status in statuses {
                        let status = match status {
                            Ok(status) => status,
                            Err(error @ CallError::Unanswered(_)) => return Ok(report_of(&error).print(args.json)),
                            // The sidecar has ended or restarts: connect again.
                            Err(
                                CallError::NotRunning { .. }
                                | CallError::NotAllowed { .. }
                                | CallError::Silent { .. }
                                | CallError::Broken(_),
                            ) => break,
                        };
                        if redraw {
                            // Moves the cursor home and clears the screen.
                            write!(out, "\x1b[H\x1b[2J{}", show::running(&status, now_ms()))?;
                        } else if args.json {
                            out.write_all(json_line(&status).as_bytes())?;
                        } else {
                            print_if_changed(out, &mut last, show::running_short(&status))?;
                        }
                        out.flush()?;
                    }
                }
                Err(CallError::NotRunning { .. }) if !seen => return self.print_offline(args, out),
                Err(CallError::NotRunning { .. } | CallError::Silent { .. } | CallError::Broken(_)) => {}
                Err(error @ (CallError::NotAllowed { .. } | CallError::Unanswered(_))) => {
                    return Ok(report_of(&error).print(args.json));
                }
            }
            if !args.json {
                print_if_changed(out, &mut last, format!("{}: away", self.config.agent_id))?;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Writes the line if it differs from the last one.
fn print_if_changed(out: &mut impl Write, last: &mut String, line: String) -> io::Result<()> {
    if line != *last {
        writeln!(out, "{line}")?;
        *last = line;
    }
    Ok(())
}
