//! What was measured, as a table or as JSON, and the bars that it is held against.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::proc_files::{Memory, TcpCounters, somaxconn};
use crate::stats::{Spread, ms, per_second};
use crate::tasks::Tasks;
use crate::watch::Seen;

/// The longest time that a herd may take.
const HERD_BAR: Duration = Duration::from_secs(3);
/// The most memory that an agent may cost the hub, in bytes.
const MEMORY_BAR: u64 = 8_000;
/// The longest that 99 of 100 commands may take to their agents while all others join, in ms.
const COMMAND_BAR_MS: f64 = 5.0;

/// The longest that 19 of 20 of an operator's questions may take, in ms.
const QUESTION_BAR_MS: f64 = 50.0;

/// The measured figures.
#[derive(Default)]
pub struct Report {
    rows: Vec<(String, String)>,
    json: Map<String, Value>,
    missed: Vec<String>,
}

impl Report {
    /// Adds the time that the agents took to join 100 at a time.
    pub fn joins(&mut self, agents: usize, took: Duration, joins: Spread) {
        let rate = per_second(agents, took);
        self.row("joins, 100 at a time", format!("{rate:.0} a second; each {}", joins.cell()));
        self.set("joins", json!({"per_second": rate, "each": joins}));
    }

    /// Adds one herd: how long it took, and how many agents had to dial again.
    pub fn herd(
        &mut self,
        number: usize,
        (took, redials): (Duration, usize),
        joins: Spread,
        tcp: TcpCounters,
        seen: &Seen,
    ) {
        let name = format!("herd {number}");
        self.row(&name, format!("{:.0} ms; dialed again {redials}; each {}", ms(took), joins.cell()));
        let TcpCounters { listen_overflows, listen_drops, syn_retransmits, retransmits } = tcp;
        self.row("", format!("listen queue overflows {listen_overflows}, drops {listen_drops}; packets again {retransmits}, of them SYN {syn_retransmits} (somaxconn {})", somaxconn()));
        self.seen("  meanwhile", seen);
        self.push(
            "herds",
            json!({"ms": ms(took), "dialed_again": redials, "each": joins, "tcp": tcp, "meanwhile": seen}),
        );
        if took > HERD_BAR {
            self.missed.push(format!("{name} took {:.0} ms, at most {:.0} are allowed", ms(took), ms(HERD_BAR)));
        }
        if seen.command_to_frame.p99_ms >= COMMAND_BAR_MS {
            let p99 = seen.command_to_frame.p99_ms;
            self.missed.push(format!("{name}: command to frame p99 {p99:.2} ms, less than {COMMAND_BAR_MS} is wanted"));
        }
    }

    /// Adds latencies.
    pub fn watched(&mut self, key: &str, name: &str, seen: &Seen) {
        self.seen(name, seen);
        self.set(key, json!(seen));
    }

    /// Adds what the hub's memory is at a moment, for each of its agents beyond `before`.
    pub fn memory(&mut self, key: &str, name: &str, agents: usize, before: Memory, now: Memory, is_judged: bool) {
        let each = |before: u64, now: u64| now.saturating_sub(before) / agents.max(1) as u64;
        let (rss, private) = (each(before.rss, now.rss), each(before.private, now.private));
        self.row(name, format!("{private} bytes an agent (RSS {rss}); in all {} kB", now.rss >> 10));
        self.set(key, json!({"bytes_an_agent": private, "rss_an_agent": rss, "now": now}));
        if is_judged && rss > MEMORY_BAR {
            self.missed.push(format!("{name}: {rss} bytes an agent, at most {MEMORY_BAR} are allowed"));
        }
    }

    /// Adds a round of tasks.
    pub fn tasks(&mut self, measured: &Tasks) {
        let Tasks { agents, tasks, per_second, end_to_end, hub_cores, client_cores } = measured;
        self.row(
            &format!("tasks, {agents} agents"),
            format!("{per_second:.0} a second ({tasks}); each {}", end_to_end.cell()),
        );
        self.row("", format!("cores used: hub {hub_cores:.2}, this program {client_cores:.2}"));
        self.push("tasks", json!(measured));
    }

    /// Adds the restart of all agents.
    pub fn restart(&mut self, agents: usize, took: Duration, joins: Spread, log_lines: Option<usize>) {
        let lines = log_lines.map_or("unknown".to_owned(), |lines| lines.to_string());
        self.row(
            "restart of all",
            format!("{:.0} ms for {agents}; log lines {lines}; each join {}", ms(took), joins.cell()),
        );
        self.set("restart", json!({"ms": ms(took), "agents": agents, "log_lines": log_lines, "joins": joins}));
    }

    /// Adds how long an operator's question took.
    pub fn question(&mut self, name: &str, key: &str, took: &Spread) {
        self.row(name, took.cell());
        self.set(key, json!(took));
        if took.p95_ms >= QUESTION_BAR_MS {
            self.missed.push(format!("{name}: p95 {:.1} ms, less than {QUESTION_BAR_MS} is wanted", took.p95_ms));
        }
    }

    /// Adds a figure that is shown as it is.
    pub fn plain(&mut self, key: &str, name: &str, text: String, value: impl Serialize) {
        self.row(name, text);
        self.set(key, json!(value));
    }

    /// Returns the bars that were missed.
    pub fn missed(&self) -> &[String] {
        &self.missed
    }

    /// Returns the report as a table.
    pub fn table(&self) -> String {
        let width = self.rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        self.rows.iter().map(|(name, text)| format!("{name:width$}  {text}\n")).collect()
    }

    /// Returns the report as JSON.
    pub fn json(&self) -> String {
        let mut json = self.json.clone();
        json.insert("missed".to_owned(), json!(self.missed));
        Value::Object(json).to_string()
    }

    fn seen(&mut self, name: &str, seen: &Seen) {
        let Seen { command_to_frame, ping_to_pong, list, list_bytes, closed_by_hub } = seen;
        self.row(name, format!("command to frame {}", command_to_frame.cell()));
        self.row("", format!("ping to pong {}", ping_to_pong.cell()));
        if list.count > 0 {
            self.row("", format!("GET /api/agents {}, {list_bytes} bytes", list.cell()));
        }
        if *closed_by_hub > 0 {
            self.row("", format!("the hub closed the operator's connection {closed_by_hub} times"));
        }
    }

    fn row(&mut self, name: &str, text: String) {
        self.rows.push((name.to_owned(), text));
    }

    fn set(&mut self, key: &str, value: Value) {
        self.json.insert(key.to_owned(), value);
    }

    fn push(&mut self, key: &str, value: Value) {
        if let Value::Array(list) = self.json.entry(key).or_insert_with(|| json!([])) {
            list.push(value);
        }
    }
}
