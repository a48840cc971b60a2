//! `machine`: prints the machine's transitions as a table, a diagram or JSON. The machine itself enumerates them
//! (`machine::state_table`).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use serde_json::json;
use strum::IntoEnumIterator as _;

use crate::machine::state_table::{self, DRAWN, Move};
use crate::machine::{EventName, FromHubName, Phase};
use crate::sidecar::cli::out::print;
use crate::sidecar::exit_code::ExitCode;

/// The arguments of `machine`.
#[derive(Debug, Args)]
pub struct MachineArgs {
    /// The format
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// The format of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Rows of events, columns of states
    Table,
    /// The diagram of docs/states.md
    Mermaid,
    /// Every transition and every edge
    Json,
}

/// Prints the table.
pub fn machine(args: &MachineArgs) -> ExitCode {
    let moves = state_table::moves();
    let text = match args.format {
        Format::Table => as_table(&moves),
        Format::Mermaid => state_table::mermaid(&moves),
        Format::Json => as_json(&moves),
    };
    print(text.as_bytes())
}

/// Returns a table with one row per event, one per message of the hub, and one column per state but `Exiting`.
fn as_table(moves: &BTreeSet<Move>) -> String {
    let columns: Vec<Phase> = Phase::iter().filter(|phase| *phase != Phase::Exiting).collect();
    let events = EventName::iter().filter(|event| *event != EventName::HubSaid).map(|event| (event.into(), None));
    let words = FromHubName::iter().map(|said| (EventName::HubSaid.into(), Some(said.into())));
    let mut rows = vec![std::iter::once("event".to_owned()).chain(columns.iter().map(Phase::to_string)).collect()];
    for (event, said) in events.chain(words) {
        let name: &str = said.unwrap_or(event);
        let cells = columns.iter().map(|from| cell(moves, *from, event, said));
        rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
    }
    let note = "\nA cell says where the event may lead; `-` is: it stays. In Exiting nothing happens any more.\n\
                Names in snake_case are what the hub says (HubSaid).\n";
    aligned(&rows) + note
}

fn cell(moves: &BTreeSet<Move>, from: Phase, event: &str, said: Option<&str>) -> String {
    let here = moves.iter().filter(|step| (step.from, step.event, step.said) == (from, event, said));
    let names: Vec<String> =
        here.map(|step| if step.to == from { "-".to_owned() } else { step.to.to_string() }).collect();
    names.join(" ")
}

fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:<width$}  ", width = width(column));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn as_json(moves: &BTreeSet<Move>) -> String {
    let name = |phase: Phase| phase.to_string();
    let why = |from: Phase, to: Phase| DRAWN.iter().find(|edge| (edge.0, edge.1) == (from, to)).map(|edge| edge.2);
    let edges: Vec<_> = state_table::edges(moves)
        .into_iter()
        .map(|(from, to)| json!({"from": name(from), "to": name(to), "why": why(from, to)}))
        .collect();
    let moves: Vec<_> = moves
        .iter()
        .map(|step| json!({"from": name(step.from), "event": step.event, "said": step.said, "to": name(step.to)}))
        .collect();
    let states: Vec<_> = Phase::iter().map(name).collect();
    let value = json!({"states": states, "edges": edges, "moves": moves});
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_where_each_event_leads_from_each_state() {
        let step = |from, said, to| Move { from, event: EventName::HubSaid.into(), said, to };
        let cancelled = Some(FromHubName::TaskCancelled.into());
        let moves = BTreeSet::from([
            step(Phase::Idle, cancelled, Phase::Idle),
            step(Phase::Working, cancelled, Phase::Idle),
            step(Phase::RestartPending, cancelled, Phase::RestartPending),
            step(Phase::RestartPending, cancelled, Phase::Draining),
            step(Phase::Draining, cancelled, Phase::Draining),
        ]);
        let table = as_table(&moves);
        let row = |event: &str| {
            let line = table.lines().find(|line| line.split_whitespace().next() == Some(event));
            line.unwrap_or_else(|| panic!("no row for {event} in\n{table}")).split_whitespace().collect::<Vec<_>>()
        };
        assert_eq!(row("event"), ["event", "Idle", "Working", "RestartPending", "Draining"]);
        assert_eq!(row("task_cancelled"), ["task_cancelled", "-", "Idle", "-", "Draining", "-"]);
        assert_eq!(row("Confirmed"), ["Confirmed"]);
    }
}
