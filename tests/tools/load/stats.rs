//! Percentiles of measured times.

use std::time::Duration;

use serde::Serialize;

/// The spread of some measured times, in ms. All fields are 0 where nothing was measured.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Spread {
    /// The number of samples.
    pub count: usize,
    /// The median.
    pub p50_ms: f64,
    /// 95 of 100 were at most this long.
    pub p95_ms: f64,
    /// 99 of 100 were at most this long.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Spread {
    /// Returns the spread of these times.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let Some(longest) = times.last() else { return Self::default() };
        // The smallest sample that at least that share of all samples does not exceed.
        let at = |percent: usize| ms(times[(times.len() * percent).div_ceil(100).max(1) - 1]);
        Self { count: times.len(), p50_ms: at(50), p95_ms: at(95), p99_ms: at(99), max_ms: ms(*longest) }
    }

    /// Returns the spread as a cell of the table.
    pub fn cell(&self) -> String {
        let Self { count, p50_ms, p95_ms, p99_ms, max_ms } = self;
        format!("p50 {p50_ms:.2} ms, p95 {p95_ms:.2} ms, p99 {p99_ms:.2} ms, max {max_ms:.2} ms ({count})")
    }
}

/// Returns a duration in ms.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// Returns how many a second `count` in `time` are.
#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}
