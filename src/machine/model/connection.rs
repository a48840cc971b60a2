//! The connection to the hub, as far as the machine needs to know it. The caller reports exactly one `HubClosed` for
//! every `Dial`; the machine dials again only after it.

use crate::machine::model::policy::Policy;
use crate::machine::model::time::Timestamp;

/// The longest `retry_after_ms` that is taken from a hub; a longer one is shortened to this. (The longest cooldown of a
/// legacy hub is 5 min.)
const RETRY_AFTER_CAP_MS: u64 = 600_000;

/// The time in ms after `identified` from which on a connection counts as one that held. A hub that ends each connection
/// over what is sent on it does so sooner, and is dialled more slowly each time. A later end has another cause, and a
/// dial every ten seconds burdens nobody.
const HELD_MS: u64 = 10_000;

/// The time in ms within which a legacy hub has assigned the next queued task after it acknowledged a verdict. Its
/// scheduler needs some milliseconds; assigned to a connection that closes meanwhile, the task reaches nobody and is
/// reclaimed only by the acceptance timer (60 s).
const NEXT_ASSIGNMENT_MS: u64 = 200;

/// The state of the connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, strum::EnumDiscriminants)]
#[strum_discriminants(name(ConnectionName), derive(Hash, strum::IntoStaticStr, strum::Display))]
#[strum_discriminants(strum(serialize_all = "snake_case"), doc = "The names of the connection's states.")]
pub enum Connection {
    /// There is no connection.
    Down {
        /// The time of the next dial.
        retry_at: Timestamp,
        /// The number of attempts that have failed in a row.
        attempt: u32,
        /// Whether the time is fixed because the hub named it or refused the agent: not even a restart brings it
        /// forward.
        firm: bool,
    },
    /// The connection is being established.
    Dialing {
        /// The time limit.
        give_up_at: Timestamp,
        /// The number of attempts that have failed in a row before.
        attempt: u32,
    },
    /// The connection is established; the hub has not sent `identified`.
    Identifying {
        /// The time limit.
        give_up_at: Timestamp,
        /// The number of attempts that have failed in a row before.
        attempt: u32,
    },
    /// The hub has sent `identified`.
    Online(Online),
    /// The connection is not wanted any more; the caller's `HubClosed` is awaited, which it sends in bounded time.
    Closing {
        /// The number of attempts that have failed in a row.
        attempt: u32,
        /// Whether the hub refused the agent: an early dial would be refused too.
        refused: bool,
    },
}

/// A connection on which the hub has sent `identified`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Online {
    /// The time at which it became online.
    pub since: Timestamp,
    /// The number of attempts that had failed in a row before.
    pub attempt: u32,
    /// The hub's features beyond those of a legacy hub.
    pub features: Features,
    /// The state of the heartbeat.
    pub heartbeat: Heartbeat,
    /// The end of the hub's rate limit, if one is in force: nothing is sent before it.
    pub limited_until: Option<Timestamp>,
    /// A legacy hub's view of this agent.
    pub hub_view: HubView,
    /// The time until which a legacy hub may be about to assign the next task, because it acknowledged a verdict on this
    /// connection; `None` once it has assigned one.
    pub next_assignment_until: Option<Timestamp>,
}

/// A legacy hub's view of whether this agent is free. Such a hub stores the agent's state apart from the tasks, and a
/// verdict that it refuses leaves that state as it was: the agent counts as at work and is assigned nothing more on
/// this connection. Another `identify` on it makes the hub determine the state anew. (A new connection would too, but
/// the hub then reclaims the task from the agent that has it by then.)
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum HubView {
    /// The hub's view is right.
    #[default]
    Known,
    /// A verdict on work that was accepted on this connection was refused: the hub counts the agent as at work.
    AtWork,
    /// `identify` was sent again for that and is not answered.
    ToldAgain,
}

/// The state of the heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Heartbeat {
    /// The next ping is due at `at`.
    Due {
        /// The time of the next ping.
        at: Timestamp,
    },
    /// A ping was sent and is not answered.
    Sent {
        /// The time at which it was sent.
        at: Timestamp,
        /// The time limit for the pong; after it the connection counts as dead.
        answer_by: Timestamp,
    },
}

/// The features that a hub names in `identified.features`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Features {
    /// Whether the hub knows the restart frames.
    pub restart_v2: bool,
    /// Whether the hub knows `task_rejected`.
    pub task_rejected: bool,
    /// Whether the hub knows `cordon`.
    pub cordon: bool,
    /// Whether the hub says whenever it reclaims a task, by a `task_reassign` that names the generation.
    pub task_reassign: bool,
}

/// A random fraction in units of 1/65,536, drawn by the caller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Jitter(pub u16);

impl Jitter {
    /// Returns this fraction of `ms`.
    pub const fn of(self, ms: u64) -> u64 {
        // Rounded down; the product of a day in ms and 65,535 is far below `u64::MAX`.
        ms.saturating_mul(self.0 as u64) / 65_536
    }
}

impl Online {
    /// Returns the number of attempts that have failed in a row by `now`: none once the connection has held.
    pub const fn failed_attempts(&self, now: Timestamp) -> u32 {
        if now.since(self.since) >= HELD_MS { 0 } else { self.attempt }
    }

    /// Returns whether the connection is better kept for the moment: a legacy hub may be about to assign the next task
    /// on it.
    pub fn awaits_assignment(&self, now: Timestamp) -> bool {
        self.next_assignment_until.is_some_and(|until| until > now)
    }
}

impl Connection {
    /// Returns the initial state of a process: the first dial is due at once.
    pub const fn start(now: Timestamp) -> Self {
        Self::Down { retry_at: now, attempt: 0, firm: false }
    }

    /// Returns the number of attempts that have failed in a row by `now`.
    pub const fn attempt(&self, now: Timestamp) -> u32 {
        match self {
            Self::Down { attempt, .. }
            | Self::Dialing { attempt, .. }
            | Self::Identifying { attempt, .. }
            | Self::Closing { attempt, .. } => *attempt,
            Self::Online(online) => online.failed_attempts(now),
        }
    }

    /// Returns the connection if it is online.
    pub const fn online(&self) -> Option<&Online> {
        match self {
            Self::Online(online) => Some(online),
            Self::Down { .. } | Self::Dialing { .. } | Self::Identifying { .. } | Self::Closing { .. } => None,
        }
    }

    /// Returns whether the connection is online with a legacy hub.
    pub fn is_legacy_hub(&self) -> bool {
        self.online().is_some_and(|online| !online.features.restart_v2)
    }

    /// Returns whether the connection is online with a hub that reads the generation in `task_accepted`.
    pub fn names_generations(&self) -> bool {
        self.online().is_some_and(|online| online.features.task_reassign)
    }

    /// Notes that a verdict was acknowledged: a legacy hub assigns the next task now.
    pub(in crate::machine) fn expect_assignment(&mut self, now: Timestamp) {
        if let Self::Online(online) = self
            && !online.features.restart_v2
        {
            online.next_assignment_until = Some(now.plus(NEXT_ASSIGNMENT_MS));
        }
    }

    /// Notes that the hub has assigned a task.
    pub(in crate::machine) fn assignment_came(&mut self) {
        if let Self::Online(online) = self {
            online.next_assignment_until = None;
        }
    }

    /// Returns whether a message may be sent now.
    pub const fn can_send(&self) -> bool {
        match self.online() {
            Some(online) => online.limited_until.is_none(),
            None => false,
        }
    }

    /// Returns the state after the connection has closed. The hub's `retry_after_ms` is kept, up to a limit; otherwise
    /// the wait is full jitter under an upper bound that doubles from `reconnect_min_ms` to `reconnect_max_ms`, and
    /// that starts over after a connection that held for `HELD_MS`.
    pub fn after_close(&self, retry_after_ms: Option<u64>, jitter: Jitter, now: Timestamp, policy: &Policy) -> Self {
        let failed = self.attempt(now);
        let refused = match self {
            Self::Closing { refused, .. } => *refused,
            Self::Online(_) | Self::Down { .. } | Self::Dialing { .. } | Self::Identifying { .. } => false,
        };
        let cap = if refused { policy.reconnect_max_ms } else { policy.backoff_ms(failed) };
        let wait = match retry_after_ms {
            Some(named_ms) => named_ms.min(RETRY_AFTER_CAP_MS).saturating_add(jitter.of(policy.reconnect_min_ms)),
            None if refused => cap / 2 + jitter.of(cap / 2),
            None => jitter.of(cap),
        };
        let firm = refused || retry_after_ms.is_some();
        Self::Down { retry_at: now.plus(wait), attempt: failed.saturating_add(1), firm }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_that_names_a_year_does_not_keep_us_away_for_one() {
        let (now, policy) = (Timestamp::from_millis(1_000_000), Policy::default());
        let identifying = Connection::Identifying { give_up_at: now, attempt: 0 };
        let after = |told| identifying.after_close(Some(told), Jitter(0), now, &policy);
        assert_eq!(after(29_000), Connection::Down { retry_at: now.plus(29_000), attempt: 1, firm: true });
        assert_eq!(
            after(31_536_000_000),
            Connection::Down { retry_at: now.plus(RETRY_AFTER_CAP_MS), attempt: 1, firm: true }
        );
    }

    /// Returns the wait in ms after `connection` closes, the number of failed attempts then, and whether the time is
    /// fixed.
    fn away(connection: &Connection, draw: u16) -> (u64, u32, bool) {
        let (now, policy) = (Timestamp::from_millis(1_000_000), Policy::default());
        let Connection::Down { retry_at, attempt, firm } = connection.after_close(None, Jitter(draw), now, &policy)
        else {
            panic!("not down")
        };
        (retry_at.since(now), attempt, firm)
    }

    #[test]
    fn the_wait_doubles_up_to_its_cap() {
        let draw = 1 << 15;
        let failed = |attempt| away(&Connection::Dialing { give_up_at: Timestamp::default(), attempt }, draw);
        assert_eq!(failed(0), (500, 1, false));
        assert_eq!(failed(1), (1_000, 2, false));
        assert_eq!(failed(5), (16_000, 6, false));
        assert_eq!(failed(6), (30_000, 7, false));
        assert_eq!(failed(u32::MAX), (30_000, u32::MAX, false));
    }

    #[test]
    fn a_link_that_is_down_counts_like_one_that_failed() {
        let down = Connection::Down { retry_at: Timestamp::default(), attempt: 3, firm: true };
        assert_eq!((down.attempt(Timestamp::default()), away(&down, 0)), (3, (0, 4, false)));
    }

    #[test]
    fn a_hub_that_refused_us_is_left_alone_for_long() {
        let closing = |refused| Connection::Closing { attempt: 0, refused };
        assert_eq!(away(&closing(true), 0), (30_000, 1, true));
        assert_eq!(away(&closing(true), 1 << 15), (45_000, 1, true));
        assert_eq!(away(&closing(false), 1 << 15), (500, 1, false));
    }

    #[test]
    fn only_a_link_that_held_starts_the_count_over() {
        let deferred = |ms: u64| {
            let since = Timestamp::from_millis(1_000_000 - ms);
            let (heartbeat, features) = (Heartbeat::Due { at: since }, Features::default());
            let hub_view = HubView::Known;
            let (limited_until, next_assignment_until) = (None, None);
            let online =
                Online { since, attempt: 4, features, heartbeat, limited_until, hub_view, next_assignment_until };
            away(&Connection::Online(online), 0).1
        };
        assert_eq!((deferred(9_999), deferred(10_000)), (5, 1));
    }
}
