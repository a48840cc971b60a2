//! Who may register agents, and how often strangers may. It knows no tokens and no routes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::hub::state::bucket::{Bucket, Rate};

/// Who may register agents.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantNames,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Registration {
    /// Anyone who reaches the hub, for a name that has no token.
    Open,
    /// Who has an invitation, and admins; who has none is told how to get one.
    Invite,
    /// The same, and who has no invitation is told nothing.
    Closed,
}

impl Registration {
    /// The names, for messages.
    pub const NAMES: &'static str = "open, invite or closed";

    /// Returns what counts where nothing is said, and whether that will change: a hub that only this machine reaches is open.
    pub const fn by_default(listens_on: IpAddr) -> (Self, Changes) {
        (Self::Open, if listens_on.is_loopback() { Changes::No } else { Changes::InTheNextVersion })
    }
}

/// Whether what counts by default will be something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// It stays.
    No,
    /// The next version takes [`Registration::Invite`].
    InTheNextVersion,
}

/// How often strangers may register, all together.
const TOGETHER: Rate = Rate { at_once: 2_000, pause_ms: 1_000 };
/// How often one address may.
const EACH: Rate = Rate { at_once: 500, pause_ms: 10_000 };
/// The number of addresses that are told apart. Where there are more, only the limit on all together holds for the others.
const ADDRESSES: usize = 4_096;

/// The limit on open registrations. Who has an invitation or an admin's token is not counted.
#[derive(Debug)]
pub struct RegistrationLimit {
    since: Instant,
    buckets: Mutex<Buckets>,
}

impl Default for RegistrationLimit {
    fn default() -> Self {
        Self { since: Instant::now(), buckets: Mutex::new(Buckets::new()) }
    }
}

impl RegistrationLimit {
    /// Counts one from this address, if it can be told.
    ///
    /// # Errors
    /// Returns the time after which another is taken, in s, where there were too many.
    pub fn admit(&self, from: Option<IpAddr>) -> Result<(), u64> {
        let now_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.admit(from, now_ms).map_err(|wait_ms| wait_ms.div_ceil(1_000))
    }
}

/// What is left of the limits.
#[derive(Debug)]
struct Buckets {
    together: Bucket,
    by_address: HashMap<IpAddr, Bucket>,
}

impl Buckets {
    fn new() -> Self {
        Self { together: Bucket::new(TOGETHER, 0), by_address: HashMap::new() }
    }

    fn admit(&mut self, from: Option<IpAddr>, now_ms: u64) -> Result<(), u64> {
        if let Some(from) = from.map(network_of) {
            if self.by_address.len() >= ADDRESSES && !self.by_address.contains_key(&from) {
                self.by_address.retain(|_, bucket| !bucket.is_full(now_ms));
            }
            if self.by_address.len() < ADDRESSES || self.by_address.contains_key(&from) {
                self.by_address.entry(from).or_insert(Bucket::new(EACH, now_ms)).take(now_ms)?;
            }
        }
        self.together.take(now_ms)
    }
}

/// Returns what one client cannot choose freely: its address, of IPv6 the network (/64) that it is in.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn one_address_does_not_use_up_what_is_for_all() {
        let mut buckets = Buckets::new();
        let admitted = |buckets: &mut Buckets, from| (0..3_000).filter(|_| buckets.admit(from, 0).is_ok()).count();
        assert_eq!(admitted(&mut buckets, address("192.0.2.1")), 500);
        assert_eq!(admitted(&mut buckets, address("::ffff:192.0.2.1")), 0, "it is the same");
        assert_eq!(admitted(&mut buckets, address("2001:db8::1")), 500);
        assert_eq!(admitted(&mut buckets, address("2001:db8::ffff:1")), 0, "it is of the same network");
        assert_eq!(admitted(&mut buckets, None), 1_000);
        assert_eq!(buckets.admit(address("192.0.2.9"), 0), Err(1_000));
        assert_eq!((buckets.admit(address("192.0.2.1"), 9_000), buckets.admit(None, 9_000)), (Err(1_000), Ok(())));
        assert_eq!(buckets.admit(address("192.0.2.1"), 10_000), Ok(()));
    }

    #[test]
    fn however_many_addresses_come_a_bounded_number_is_remembered() {
        let mut buckets = Buckets::new();
        for n in 0..3 * ADDRESSES {
            let from = IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
            _ = buckets.admit(Some(from), n as u64);
        }
        assert_eq!(buckets.by_address.len(), ADDRESSES);
        // Those that have rested make room.
        assert!(buckets.admit(address("192.0.2.1"), 3_600_000).is_ok());
        assert_eq!(buckets.by_address.len(), 1);
    }

    #[test]
    fn a_hub_that_others_reach_is_told_that_its_default_changes() {
        let by_default = |address: &str| Registration::by_default(address.parse().unwrap()).1;
        assert_eq!([by_default("127.0.0.1"), by_default("127.8.0.1"), by_default("::1")], [Changes::No; 3]);
        assert_eq!([by_default("0.0.0.0"), by_default("::"), by_default("192.0.2.1")], [Changes::InTheNextVersion; 3]);
    }
}
