//! How the existing hub keeps noisy agents away: ten violations in a minute cost the connection and a cooldown, and token
//! buckets drop frames that come too fast. Both count by agent and by a clock that is handed in; neither sends anything.

use std::collections::HashMap;

const MINUTE_MS: u64 = 60_000;
const VIOLATIONS_A_MINUTE: u32 = 10;

/// Counted per connection.
#[derive(Default)]
pub struct Violations {
    count: u32,
    since_ms: Option<u64>,
}

impl Violations {
    /// Counts one; true when it was one too many.
    pub fn one_more(&mut self, now_ms: u64) -> bool {
        match self.since_ms {
            Some(since) if now_ms.saturating_sub(since) <= MINUTE_MS => self.count += 1,
            Some(_) | None => (self.count, self.since_ms) = (1, Some(now_ms)),
        }
        self.count >= VIOLATIONS_A_MINUTE
    }
}

/// Counted per agent, for as long as the hub runs.
#[derive(Default)]
pub struct Cooldowns {
    by_agent: HashMap<String, (usize, u64)>,
}

impl Cooldowns {
    pub fn thrown_out(&mut self, agent: &str, now_ms: u64) {
        let entry = self.by_agent.entry(agent.to_owned()).or_insert((0, now_ms));
        *entry = (entry.0 + 1, now_ms);
    }

    /// Whole seconds still to wait, by the hub's own rounding; `steps_ms` are the cooldowns of the first, second and
    /// every later time.
    pub fn remaining_s(&self, agent: &str, steps_ms: [u64; 3], now_ms: u64) -> Option<u64> {
        let (times, last) = self.by_agent.get(agent)?;
        let cooldown = steps_ms[(*times).clamp(1, 3) - 1];
        let elapsed = now_ms.saturating_sub(*last);
        (elapsed < cooldown).then(|| (cooldown - elapsed) / 1000 + 1)
    }
}

/// A tier of the rate limiter.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    Light,
    Normal,
    Heavy,
}

impl Tier {
    pub fn of(kind: &str) -> Self {
        match kind {
            "ping" | "list_agents" | "list_channels" | "status" | "channel_history" => Self::Light,
            "identify" => Self::Heavy,
            _ => Self::Normal,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Normal => "normal",
            Self::Heavy => "heavy",
        }
    }

    /// Frames a minute.
    pub fn capacity(self) -> u64 {
        match self {
            Self::Light => 120,
            Self::Normal => 60,
            Self::Heavy => 10,
        }
    }
}

/// What the limiter says to one frame.
pub enum Pass {
    Yes,
    Warned { remaining: u64 },
    Dropped { retry_after_ms: u64 },
}

/// Token buckets, refilled as time passes; in thousandths of a frame.
#[derive(Default)]
pub struct Buckets {
    levels: HashMap<(String, Tier), (u64, u64)>,
    dropped_since: HashMap<String, u64>,
}

impl Buckets {
    pub fn take(&mut self, agent: &str, tier: Tier, now_ms: u64) -> Pass {
        let full = tier.capacity() * 1000;
        let (level, last) = self.levels.entry((agent.to_owned(), tier)).or_insert((full, now_ms));
        let refill = now_ms.saturating_sub(*last) * full / MINUTE_MS;
        *level = full.min(*level + refill);
        *last = now_ms;
        if *level < 1000 {
            let wait_ms = ((1000 - *level) * MINUTE_MS).div_ceil(full);
            let retry_after_ms = wait_ms.div_ceil(1000) * 1000;
            let since = self.dropped_since.entry(agent.to_owned()).or_insert(now_ms);
            if now_ms.saturating_sub(*since) > MINUTE_MS {
                *since = now_ms;
            }
            return Pass::Dropped { retry_after_ms };
        }
        *level -= 1000;
        if *level < full / 5 { Pass::Warned { remaining: *level / 1000 } } else { Pass::Yes }
    }

    /// For a minute from the first dropped frame an agent is given no tasks.
    pub fn in_disgrace(&self, agent: &str, now_ms: u64) -> bool {
        self.dropped_since.get(agent).is_some_and(|since| now_ms.saturating_sub(*since) <= MINUTE_MS)
    }
}
