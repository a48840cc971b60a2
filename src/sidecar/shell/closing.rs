//! Translates the end of a connection.

use crate::machine::{Event, Jitter};
use crate::protocol::{CLOSE_SUPERSEDED, Limit, Rival, clip};
use crate::sidecar::hub_connection::{Closed, cooldown_ms};

/// The close codes of a hub that refused what it received: unsupported data, invalid data, policy violation, too big,
/// and internal error. (1002 is also sent after silence; the other codes are sent by a hub that goes away.)
const REFUSING_CLOSES: [u16; 5] = [1003, 1007, 1008, 1009, 1011];

/// The wait after [`CLOSE_SUPERSEDED`], in ms, if the hub names none: reconnecting at once would supersede the other
/// connection in turn. (Our hub names a short one: it decides between two sidecars that supersede each other.)
const SUPERSEDED_WAIT_MS: u64 = 60_000;

/// Returns the other sidecar with this identity in whose favour the hub ended the connection.
pub(crate) fn rival_named_by(closed: &Closed) -> Option<Rival> {
    Rival::named_by(closed.code?, &closed.reason)
}

/// Translates the end of a connection. `jitter` randomizes the wait before the next one.
pub(crate) fn closed_event(closed: &Closed, jitter: Jitter) -> Event {
    let retry_after_ms = match closed.code {
        Some(1008) => cooldown_ms(&closed.reason),
        Some(CLOSE_SUPERSEDED) => Some(cooldown_ms(&closed.reason).unwrap_or(SUPERSEDED_WAIT_MS)),
        Some(_) | None => None,
    };
    let refusal = closed.code.filter(|code| REFUSING_CLOSES.contains(code) && retry_after_ms.is_none());
    let refusal = refusal
        .map(|code| clip(&format!("it closed the connection with {code} {}", closed.reason.trim()), Limit::Status));
    Event::HubClosed { retry_after_ms, jitter, refusal }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{refused_reason, superseded_reason};

    #[test]
    fn only_a_close_over_what_was_read_refuses_it() {
        let refused = |code, reason: &str| {
            let end = Closed { code, reason: reason.into(), clean: true, error: None };
            let Event::HubClosed { refusal, .. } = closed_event(&end, Jitter(0)) else { panic!("not an end") };
            refusal
        };
        for code in REFUSING_CLOSES {
            assert_eq!(refused(Some(code), "no"), Some(format!("it closed the connection with {code} no")));
        }
        for code in [None, Some(1000), Some(1001), Some(1002), Some(1012), Some(CLOSE_SUPERSEDED)] {
            assert_eq!(refused(code, "no"), None, "{code:?}");
        }
        assert_eq!(refused(Some(1008), "cooldown active: retry in 29s"), None);
    }

    /// The wait that a close demands, in ms.
    fn wait_after(code: u16, reason: &str) -> Option<u64> {
        let end = Closed { code: Some(code), reason: reason.into(), clean: true, error: None };
        let Event::HubClosed { retry_after_ms, .. } = closed_event(&end, Jitter(0)) else { panic!("not an end") };
        retry_after_ms
    }

    #[test]
    fn a_cooldown_says_how_long() {
        assert_eq!(wait_after(1008, "cooldown active: retry in 29s"), Some(29_000));
    }

    #[test]
    fn a_superseded_connection_waits_for_as_long_as_the_hub_says_else_for_a_minute() {
        assert_eq!(wait_after(4001, &superseded_reason(Some("10.0.0.14:4711"), Some(1_000))), Some(1_000));
        assert_eq!(wait_after(4001, &superseded_reason(Some("[::1]:4711"), None)), Some(60_000));
        // As a hub of 0.1.0 says it.
        assert_eq!(wait_after(4001, "superseded by a newer connection"), Some(60_000));
        assert_eq!(wait_after(1008, &refused_reason("10.0.0.14:4711", 60_000)), Some(60_000));
    }
}
