//! What `/proc` says of a process and of the machine's TCP.

use std::fs;

use serde::Serialize;

use crate::Outcome;

/// The memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Memory {
    /// The resident set size.
    pub rss: u64,
    /// The pages that only this process has.
    pub private: u64,
}

/// The kernel's counters of what went wrong with TCP, for the whole machine (or container).
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct TcpCounters {
    /// Connections that found the listen queue full.
    pub listen_overflows: u64,
    /// Connections that a listener dropped for any reason.
    pub listen_drops: u64,
    /// SYN and SYN-ACK packets that were sent again.
    pub syn_retransmits: u64,
    /// Segments that were sent again, SYNs included.
    pub retransmits: u64,
}

impl TcpCounters {
    /// Reads the counters.
    pub fn read() -> Outcome<Self> {
        let (netstat, snmp) = (read("/proc/net/netstat")?, read("/proc/net/snmp")?);
        Ok(Self {
            listen_overflows: counter(&netstat, "TcpExt:", "ListenOverflows"),
            listen_drops: counter(&netstat, "TcpExt:", "ListenDrops"),
            syn_retransmits: counter(&netstat, "TcpExt:", "TCPSynRetrans"),
            retransmits: counter(&snmp, "Tcp:", "RetransSegs"),
        })
    }

    /// Returns what was counted since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            listen_overflows: self.listen_overflows - earlier.listen_overflows,
            listen_drops: self.listen_drops - earlier.listen_drops,
            syn_retransmits: self.syn_retransmits - earlier.syn_retransmits,
            retransmits: self.retransmits - earlier.retransmits,
        }
    }
}

/// Returns one counter of a file that has a line of names and a line of values for each group; 0 where it has none.
fn counter(text: &str, group: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(found, _)| *found == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

/// Reads the memory of a process.
pub fn memory(pid: u32) -> Outcome<Memory> {
    let text = read(&format!("/proc/{pid}/smaps_rollup"))?;
    let kib = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Ok(Memory { rss: kib("Rss") << 10, private: (kib("Private_Clean") + kib("Private_Dirty")) << 10 })
}

/// Reads the CPU time that a process has used (user and system), in seconds.
pub fn cpu_seconds(pid: u32) -> Outcome<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = read(&path)?;
    // The name in parentheses may hold anything; the fields after it are numbers.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    match (ticks(11), ticks(12)) {
        // A tick of /proc is 1/100 s on every Linux that this runs on.
        (Some(user), Some(system)) => Ok((user + system) / 100.0),
        (_, _) => Err(format!("{path} has no CPU times: {text}")),
    }
}

/// Reads the largest number of connections that the kernel queues for a listener; 0 where it does not say.
pub fn somaxconn() -> u64 {
    read("/proc/sys/net/core/somaxconn").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn read(path: &str) -> Outcome<String> {
    fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))
}
