//! The paths that the legacy hub serves and this hub does not, with the reason and the alternative for the 404 answer.

/// Path prefixes, each with its explanation or alternative; the first match counts.
const NOT_OFFERED: &[(&str, &str)] = &[
    ("/api/message", MESSAGES),
    ("/api/mailbox", MESSAGES),
    ("/api/channels", MESSAGES),
    ("/api/threads", MESSAGES),
    ("/api/room", "there are no rooms: submit a task, with `assign_to` for one agent"),
    ("/api/goals", "goals are not kept: submit tasks; goal_id rides along and filters GET /api/tasks"),
    ("/api/hub", "this hub plans nothing by itself: there is nothing to pause"),
    ("/api/webhooks", "webhooks are not taken"),
    ("/api/config/webhook-secret", "webhooks are not taken"),
    ("/api/config", "see agentcom-hub serve --help for what can be set; default-repo is here"),
    ("/api/admin/llm-registry", "tasks are not routed to models: the agent's wake_command does the work"),
    (
        "/api/admin/repo-registry",
        "repositories are not kept: name `repo` in the task; /api/config/default-repo is here",
    ),
    ("/api/admin/repo-scanner", "repositories are not scanned"),
    ("/api/admin/rate-limits", "there are no rate limits: put a proxy before the hub"),
    ("/api/admin/backup", BACKUP),
    ("/api/admin/restore", BACKUP),
    ("/api/admin/compact", BACKUP),
    ("/api/admin/dets-health", BACKUP),
    ("/api/admin/reset", "restart the process: it keeps everything"),
    ("/api/admin/log-level", "start the hub with --log-level"),
    ("/api/agents/", "GET /api/agents shows the state of every agent"),
    ("/api/dashboard", DASHBOARD),
    #[cfg(not(feature = "page"))]
    ("/dashboard", "this hub was built without its page (cargo feature `page`)"),
    ("/ws/dashboard", DASHBOARD),
    ("/sw.js", DASHBOARD),
    ("/api/analytics", DASHBOARD),
    ("/api/metrics", DASHBOARD),
    ("/api/alerts", DASHBOARD),
    ("/api/schemas", "the frames are in docs/protocol.md, the routes in docs/hub.md"),
];

const MESSAGES: &str = "agents do not talk to each other here";
const BACKUP: &str = "GET /api/v1/backup, and agentcom-hub restore on the hub's machine; nothing needs compaction";
const DASHBOARD: &str = "the page is at /dashboard, what it shows in /api/v1; GET /metrics is for Prometheus (a Grafana dashboard: docs/ops), /health, /ready and /api/tasks/stats say how it is";

/// Returns the alternative to a path that only the legacy hub serves, or `None` for any other path.
pub(crate) fn alternative_to(path: &str) -> Option<&'static str> {
    if path.starts_with("/api/tasks/") && path.ends_with("/classify") {
        return Some("tasks are not classified: name `complexity_tier` when you submit one");
    }
    NOT_OFFERED.iter().find(|(prefix, _)| path.starts_with(prefix)).map(|(_, instead)| *instead)
}
