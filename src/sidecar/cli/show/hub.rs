//! Formats what is known of the hub and the way to it: the row, what is wrong, and what overrides the configuration.

use crate::common::cli::quoted::quoted;
use crate::common::text::count_of;
use crate::sidecar::admin::status::Status;
use crate::sidecar::cli::show::duration;

/// Returns the row about the hub.
pub(super) fn row(status: &Status) -> String {
    let hub = &status.hub;
    if let Some(dialing) = &hub.dialing {
        let since = duration(dialing.for_ms);
        return format!("{} for {since}, {}; {}", dialing.what, count_of(hub.reconnects, "reconnect"), hub.url);
    }
    let proxy = hub.proxy.as_ref().map(|proxy| format!(", through the proxy {proxy}")).unwrap_or_default();
    let since = hub.online_for_ms.map(|ms| format!(" for {}", duration(ms))).unwrap_or_default();
    // While the hub is away the last latency is out of date.
    let latency = hub.latency_ms.filter(|_| hub.online_for_ms.is_some());
    let latency = latency.map(|ms| format!(", answers in {}", duration(ms))).unwrap_or_default();
    format!("{}{since}{latency}{proxy}, {}; {}", hub.link, count_of(hub.reconnects, "reconnect"), hub.url)
}

/// Returns whether there is no connection, and a reason is known.
pub(super) fn is_away(status: &Status) -> bool {
    // Also while the next attempt is under way: the last one's failure is what is known.
    status.hub.link == "down" || (status.hub.link != "online" && status.hub.trouble.is_some())
}

/// Returns why there is no connection to the hub, and what to do.
pub(super) fn trouble(status: &Status) -> (String, String) {
    let hub = &status.hub;
    let why = hub.trouble.as_deref();
    if hub.refused {
        let problem = format!("the hub does not let us in ({}): {}", why.unwrap_or_default(), hub.detail);
        (problem, token_remedy(status))
    } else {
        let age = hub.trouble_age_ms.map(|ms| format!(", the last {} ago", duration(ms))).unwrap_or_default();
        let then = why.map_or_else(|| format!("does it run at {}?", hub.url), str::to_owned);
        let url = override_of(status, "hub_url").map(|remedy| format!("; {remedy}")).unwrap_or_default();
        (format!("the hub is away: {}{age}", hub.detail), then + &url)
    }
}

/// Returns where the right token belongs.
fn token_remedy(status: &Status) -> String {
    let another = format!("agentcom-hub token {} --replace makes another", status.agent_id);
    match (override_of(status, "token"), &status.hub.token_file) {
        (Some(remedy), _) => {
            format!("{remedy}; this agent's own token belongs into {} ({another})", status.process.config)
        }
        (None, Some(file)) => {
            format!("put this agent's own token into {file} ({another}); it is read again for each dial")
        }
        (None, None) => format!(
            "put this agent's own token into {} ({another}), then agentcom-sidecar restart",
            status.process.config
        ),
    }
}

/// Returns what overrides a key of the configuration, and how to take it out; `None` if the file's value counts.
pub(in crate::sidecar::cli) fn override_of(status: &Status, key: &str) -> Option<String> {
    let by = &status.hub.overridden.iter().find(|one| one.key == key)?.by;
    let Status { supervisor, process, .. } = status;
    let kind = if by.starts_with("--") { "flag" } else { "environment variable" };
    let remedy = if supervisor.kind == "pm2" {
        let name = supervisor.name.as_deref().map_or_else(|| "NAME".to_owned(), quoted);
        let start = match kind {
            "flag" => format!("and start it without {by}"),
            _ => format!("and start it from a shell without it (env -u {by} pm2 start ...)"),
        };
        format!("pm2 keeps it: pm2 delete {name}, {start}, pm2 save")
    } else {
        format!("start the sidecar without {by}")
    };
    Some(format!("the {kind} {by} overrides `{key}` in {}: {remedy}", process.config))
}

/// Returns the keys that are overridden, each with what overrides it.
pub(super) fn overridden(status: &Status) -> String {
    let keys: Vec<_> = status.hub.overridden.iter().map(|one| format!("`{}` by {}", one.key, one.by)).collect();
    keys.join(", ")
}
