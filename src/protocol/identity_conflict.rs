//! The close frames by which a hub tells a sidecar that another one uses its identity (a copied folder, two machines):
//! the hub writes the reasons, the sidecar reads them. Both are texts for people, too.

use crate::common::text::first_bytes;

/// The close code of a connection whose place a newer connection of the same agent took.
pub const CLOSE_SUPERSEDED: u16 = 4001;

/// The close code of a connection that is refused, because another sidecar with the identity stays connected.
pub const CLOSE_REFUSED: u16 = 1008;

/// The time for which another sidecar counts as present after it was last noticed, in ms. (A sidecar that is refused
/// tries again every minute.)
pub const RECENT_CONFLICT_MS: u64 = 600_000;

const SUPERSEDED: &str = "superseded by a newer connection";
const FROM: &str = " from ";
const REFUSED: &str = "identity in use by a sidecar at ";
const RETRY: &str = ": retry in ";

/// The longest close reason, in bytes: a control frame holds 125, two of them the code (RFC 6455, 5.5).
const MAX_REASON_BYTES: usize = 123;

/// Another sidecar with the same identity, as a close frame named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// Its address, as the hub sees it; `None` if the hub did not name it.
    pub address: Option<String>,
    /// Whether the hub keeps it and refused the reader; otherwise it took the reader's place.
    pub refused: bool,
}

impl Rival {
    /// Returns the rival that a close frame with this code and reason names.
    pub fn named_by(code: u16, reason: &str) -> Option<Self> {
        let reason = reason.trim();
        let address = |rest: &str| {
            let address = rest.rsplit_once(RETRY).map_or(rest, |(address, _)| address).trim();
            (!address.is_empty()).then(|| address.to_owned())
        };
        match code {
            CLOSE_SUPERSEDED => {
                let named = reason.strip_prefix(SUPERSEDED).and_then(|rest| rest.strip_prefix(FROM));
                Some(Self { address: named.and_then(address), refused: false })
            }
            CLOSE_REFUSED => Some(Self { address: address(reason.strip_prefix(REFUSED)?), refused: true }),
            _ => None,
        }
    }
}

/// Returns the reason of a [`CLOSE_SUPERSEDED`]: the newer connection's address, if it is known, and the time after
/// which the peer may connect again. Without a time the peer waits for a minute.
pub fn superseded_reason(address: Option<&str>, retry_ms: Option<u64>) -> String {
    let from = if address.is_some() { FROM } else { "" };
    reason(&format!("{SUPERSEDED}{from}"), address.unwrap_or_default(), retry_ms)
}

/// Returns the reason of a [`CLOSE_REFUSED`]: the address of the sidecar that stays, and the time after which the peer
/// may try again.
pub fn refused_reason(address: &str, retry_ms: u64) -> String {
    reason(REFUSED, address, Some(retry_ms))
}

/// Joins the parts. An address that does not fit loses what stands in parentheses (the proxy's), then its end.
fn reason(what: &str, address: &str, retry_ms: Option<u64>) -> String {
    let retry = retry_ms.map(|ms| match ms % 1_000 {
        0 => format!("{RETRY}{}s", ms / 1_000),
        _ => format!("{RETRY}{ms}ms"),
    });
    let retry = retry.unwrap_or_default();
    let room = MAX_REASON_BYTES.saturating_sub(what.len() + retry.len());
    let address = if address.len() > room { address.split(" (").next().unwrap_or_default() } else { address };
    format!("{what}{}{retry}", first_bytes(address, room))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rival(address: Option<&str>, refused: bool) -> Option<Rival> {
        Some(Rival { address: address.map(str::to_owned), refused })
    }

    #[test]
    fn the_sidecar_reads_what_the_hub_writes() {
        for address in ["10.0.0.14:4711", "[2001:db8::1]:4711", "10.1.1.1 (through 10.0.0.2:80)"] {
            for retry_ms in [None, Some(1_000), Some(250)] {
                let reason = superseded_reason(Some(address), retry_ms);
                assert_eq!(Rival::named_by(4001, &reason), rival(Some(address), false), "{reason}");
            }
            let reason = refused_reason(address, 60_000);
            assert_eq!(Rival::named_by(1008, &reason), rival(Some(address), true), "{reason}");
        }
        assert_eq!(Rival::named_by(4001, &superseded_reason(None, Some(1_000))), rival(None, false));
    }

    #[test]
    fn the_reasons_are_those_of_the_protocol() {
        let reason = superseded_reason(Some("10.0.0.14:1"), Some(1_000));
        assert_eq!(reason, "superseded by a newer connection from 10.0.0.14:1: retry in 1s");
        assert_eq!(superseded_reason(None, None), "superseded by a newer connection");
        assert_eq!(refused_reason("10.0.0.14:1", 250), "identity in use by a sidecar at 10.0.0.14:1: retry in 250ms");
    }

    #[test]
    fn a_superseded_connection_names_a_rival_whatever_the_reason_says() {
        assert_eq!(Rival::named_by(4001, ""), rival(None, false));
        assert_eq!(Rival::named_by(4001, "another one"), rival(None, false));
    }

    #[test]
    fn another_refusal_names_none() {
        assert_eq!(Rival::named_by(1008, "cooldown active: retry in 29s"), None);
        assert_eq!(Rival::named_by(1001, &refused_reason("10.0.0.14:1", 1_000)), None);
    }

    #[test]
    fn a_long_address_costs_neither_the_time_nor_the_frame() {
        let ip = "2001:0db8:1111:2222:3333:4444:5555:6666";
        let long = format!("{ip} (through [{ip}]:65535)");
        for reason in [superseded_reason(Some(&long), Some(1_000)), refused_reason(&long, 60_000)] {
            assert!(reason.len() <= MAX_REASON_BYTES, "{reason}");
            let code = if reason.starts_with(REFUSED) { 1008 } else { 4001 };
            assert_eq!(Rival::named_by(code, &reason).unwrap().address.as_deref(), Some(ip), "{reason}");
        }
        let reason = refused_reason(&"é".repeat(200), 60_000);
        assert!(reason.len() <= MAX_REASON_BYTES && reason.ends_with(": retry in 60s"), "{reason}");
    }
}
