//! The one connection to the hub, as far as the machine needs to know it. The adapter reports exactly one
//! `HubClosed` for every `Dial`; nothing is dialled before that.

use crate::machine::model::policy::Policy;
use crate::machine::model::time::Timestamp;

/// A hub that names a longer time than this is not believed: the longest cooldown of an existing hub is 5 min.
const TOLD_CAP_MS: u64 = 600_000;

/// Where the connection stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, strum::EnumDiscriminants)]
#[strum_discriminants(name(ConnectionName), derive(Hash, strum::IntoStaticStr, strum::Display))]
#[strum_discriminants(strum(serialize_all = "snake_case"), doc = "The names of the link's states.")]
pub enum Connection {
    /// None.
    Down {
        /// When to dial.
        retry_at: Timestamp,
        /// How many have failed in a row.
        attempt: u32,
        /// The hub named that time, or does not want us: not even a restart makes it earlier.
        firm: bool,
    },
    /// Being made.
    Dialing {
        /// When to give it up.
        give_up_at: Timestamp,
        /// How many have failed in a row before.
        attempt: u32,
    },
    /// Made; the hub has not said who we are.
    Identifying {
        /// When to give it up.
        give_up_at: Timestamp,
        /// How many have failed in a row before.
        attempt: u32,
    },
    /// The hub knows us.
    Online(Online),
    /// Not wanted any more; the adapter's `HubClosed` is awaited, which it sends in bounded time.
    Closing {
        /// How many have failed in a row.
        attempt: u32,
        /// The hub refused us: no use in coming back soon.
        refused: bool,
    },
}

/// A connection on which the hub knows us.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Online {
    /// Since when.
    pub since: Timestamp,
    /// How many had failed in a row before.
    pub attempt: u32,
    /// What the hub can do beyond an existing installation.
    pub features: Features,
    /// The heartbeat.
    pub heartbeat: Heartbeat,
    /// The hub dropped something for its rate: nothing is said before this.
    pub limited_until: Option<Timestamp>,
    /// What an existing hub makes of us.
    pub hub_view: HubView,
}

/// Whether an existing hub knows that we are free. It keeps what it thinks of an agent apart from the tasks, and a verdict
/// that it refuses leaves that as it was: the agent counts as at work, and gets nothing more on this connection. Another
/// `identify` on it makes the hub look again. (Hanging up would too, but it takes the task from whoever has it by then.)
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum HubView {
    /// It knows.
    #[default]
    Known,
    /// A verdict on work that was accepted on this connection was refused.
    AtWork,
    /// `identify` was said again for that, and is not answered.
    ToldAgain,
}

/// The heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Heartbeat {
    /// The next ping.
    Due {
        /// When.
        at: Timestamp,
    },
    /// A ping without an answer.
    Sent {
        /// When it was sent.
        at: Timestamp,
        /// When the link counts as dead.
        answer_by: Timestamp,
    },
}

/// What a hub said in `identified.features`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Features {
    /// It knows the restart conversation.
    pub restart_v2: bool,
    /// It understands `task_rejected`.
    pub task_rejected: bool,
    /// It understands `cordon`.
    pub cordon: bool,
}

/// One draw of the shell's dice: a share of the whole in 65,536ths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Jitter(pub u16);

impl Jitter {
    /// That share of `ms`.
    pub const fn of(self, ms: u64) -> u64 {
        // Rounded down; the product of a day in ms and 65,535 is far from the end of u64.
        ms.saturating_mul(self.0 as u64) / 65_536
    }
}

impl Connection {
    /// Where a process starts: dial at once.
    pub const fn start(now: Timestamp) -> Self {
        Self::Down { retry_at: now, attempt: 0, firm: false }
    }

    /// How many attempts have failed in a row.
    pub const fn attempt(&self) -> u32 {
        match self {
            Self::Down { attempt, .. }
            | Self::Dialing { attempt, .. }
            | Self::Identifying { attempt, .. }
            | Self::Closing { attempt, .. } => *attempt,
            Self::Online(online) => online.attempt,
        }
    }

    /// The connection, where the hub knows us.
    pub const fn online(&self) -> Option<&Online> {
        match self {
            Self::Online(online) => Some(online),
            Self::Down { .. } | Self::Dialing { .. } | Self::Identifying { .. } | Self::Closing { .. } => None,
        }
    }

    /// Whether something may be said now.
    pub const fn can_say(&self) -> bool {
        match self.online() {
            Some(online) => online.limited_until.is_none(),
            None => false,
        }
    }

    /// Where to go after the connection is gone. A hub that named a time is believed, within reason; otherwise full jitter over a cap
    /// that doubles from `reconnect_min_ms` to `reconnect_max_ms`, and starts over only after a link that held.
    pub fn after_close(&self, retry_after_ms: Option<u64>, jitter: Jitter, now: Timestamp, policy: &Policy) -> Self {
        let (failed, refused) = match self {
            Self::Online(online) if now.since(online.since) >= policy.reconnect_max_ms => (0, false),
            Self::Closing { attempt, refused, .. } => (*attempt, *refused),
            Self::Online(_) | Self::Down { .. } | Self::Dialing { .. } | Self::Identifying { .. } => {
                (self.attempt(), false)
            }
        };
        let cap = if refused { policy.reconnect_max_ms } else { policy.backoff_ms(failed) };
        let wait = match retry_after_ms {
            Some(told) => told.min(TOLD_CAP_MS).saturating_add(jitter.of(policy.reconnect_min_ms)),
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
        assert_eq!(after(31_536_000_000), Connection::Down { retry_at: now.plus(TOLD_CAP_MS), attempt: 1, firm: true });
    }

    /// How long and how firmly to stay away after `link` closes, and how many have failed then.
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
        assert_eq!((down.attempt(), away(&down, 0)), (3, (0, 4, false)));
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
            away(
                &Connection::Online(Online { since, attempt: 4, features, heartbeat, limited_until: None, hub_view }),
                0,
            )
            .1
        };
        assert_eq!((deferred(59_999), deferred(60_000)), (5, 1));
    }
}
