//! Why an agent does as it does, in words. All of them stand here.

/// The reasons of the API, each with its words.
pub(in crate::hub) const WHYS: &[(&str, &str)] = &[
    ("connected", "connected, and nothing is wrong with it"),
    ("never_identified", "it has a token and has never connected"),
    ("identity_conflict", "two sidecars use its identity: stop one of them"),
    ("journal_failing", "its journal cannot be written: look at its disk"),
    ("restart_overdue", "a commanded restart takes too long, and the same run is still here"),
    ("task_silent", "its task shows no sign of life"),
    ("closed_by_agent", "it closed the connection: it was stopped"),
    ("restart_announced", "it restarts, as it had announced"),
    ("restart_commanded", "it restarts, as it was commanded"),
    ("connection_lost", "the connection broke without a word: the network, a proxy, or a process that was killed"),
    ("silent", "it said nothing for too long, and the hub closed the connection"),
    ("superseded", "a newer connection of the same agent took its place"),
    ("token_revoked", "its token was revoked"),
    ("token_expired", "its token has expired"),
    ("closed_by_hub", "the hub closed the connection"),
    ("hub_restarted", "the hub was restarted, and it has not come back since"),
    ("unknown", "the reason is not known"),
];

/// Returns a reason of the API in words; `None` for one of a newer hub.
pub(super) fn why(code: &str) -> Option<&'static str> {
    WHYS.iter().find(|(known, _)| *known == code).map(|(_, words)| *words)
}
