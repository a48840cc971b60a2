//! `agentcom-hub check`: a doctor. It asks the hub what any client may ask, and says what to do about what it finds. It
//! changes nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clap::Args;
use serde_json::Value;

use crate::common::cli::finding::{self, Report};
use crate::common::wall_clock::now_ms;
#[cfg(feature = "postgres")]
use crate::hub::cli::client::of_database;
use crate::hub::cli::client::{self, Client, Failure, Folder, HubArgs, Items, Place, value};
#[cfg(feature = "postgres")]
use crate::hub::cli::database::StoreArgs;
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::fields::{age, text};
use crate::hub::cli::show::output::Output;
use crate::hub::cli::store::advice;
use crate::hub::connections::admin_socket;
use crate::hub::state::store::Store;
#[cfg(feature = "postgres")]
use crate::hub::state::store::postgres::Facts;
#[cfg(feature = "postgres")]
use crate::hub::state::store::{SCHEMA, elsewhere};

/// A finding.
type Finding = finding::Finding<ExitCode>;

/// The age from which on a queued task is worth a warning, in ms.
const OLD_TASK_MS: u64 = 3_600_000;
/// The number of tasks of one status that are looked at.
const MOST_TASKS: usize = 1_000;
/// The number of names that a finding lists.
const NAMES: usize = 5;

#[derive(Debug, Args)]
pub(in crate::hub::cli) struct CheckArgs {
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
    #[cfg(feature = "postgres")]
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs the command and returns the exit code.
pub(in crate::hub::cli) fn run(args: &CheckArgs) -> ExitCode {
    client::run(&args.hub, Folder::MustExist, async |client| {
        let mut report = Report::default();
        #[cfg(feature = "postgres")]
        report.extend(database(&args.store, client.place()).await);
        #[cfg(feature = "postgres")]
        let new = new_node(&args.store, client.place());
        #[cfg(not(feature = "postgres"))]
        let new = None;
        match new {
            Some(finding) => report.add(finding),
            None => check(client, &mut report).await,
        }
        let shown = client.shown();
        let text = if args.json { report.to_json(("hub", &shown)) } else { report.to_text() };
        Ok(Output::done(text).ending(report.exit_code()))
    })
}

async fn check(client: &mut Client, report: &mut Report<ExitCode>) {
    if let Place::Folder(data) = client.place() {
        report.extend(folder(data));
    }
    let mut is_running = true;
    match client.get("/api/v1/me").await {
        Ok(me) => {
            let me = value(&me);
            is_running = me["via"] != "offline";
            report.extend(caller(&me));
        }
        Err(failure) => {
            let reached = failure.status.is_some();
            report.add(Finding::problem("hub", &failure.message, failure.code).then(remedy(&failure)));
            if !reached || failure.code == ExitCode::NotAllowed {
                return;
            }
        }
    }
    if is_running {
        report.extend(ready(client).await);
    }
    report.extend(store(client).await);
    report.extend(agents(client).await);
    report.extend(restarts(client).await);
    report.extend(tasks(client).await);
    report.extend(healing(client).await);
}

/// Says so, if the folder is one that a node's first start on the named database makes: there is nothing to ask yet.
#[cfg(feature = "postgres")]
fn new_node(store: &StoreArgs, place: &Place) -> Option<Finding> {
    let Place::Folder(data) = place else { return None };
    let is_named = matches!(store.database(), Ok(Some(_)));
    let is_new = elsewhere(data).is_none() && !Store::path_in(data).exists();
    (is_named && is_new).then(|| {
        let found = format!("no hub has run on {} yet", data.display());
        Finding::ok("data", found)
    })
}

/// Looks at the database that is named as the store.
#[cfg(feature = "postgres")]
async fn database(store: &StoreArgs, place: &Place) -> Vec<Finding> {
    let database = match store.database() {
        Ok(Some(database)) => database,
        Ok(None) => {
            let Place::Folder(data) = place else { return Vec::new() };
            let not_named = |place| {
                let found = format!("the store of this folder is in {place}, which was not looked at");
                Finding::warning("database", found).then("set AGENTCOM_HUB_STORE, or give --store")
            };
            return elsewhere(data).map(not_named).into_iter().collect();
        }
        Err(error) => return vec![Finding::problem("database", error.to_string(), of_database(&error))],
    };
    let facts = match database.facts().await {
        Ok(facts) => facts,
        Err(error) => {
            let todo = "start the server, or correct --store; of several hosts, one must take writes";
            return vec![Finding::problem("database", error.to_string(), of_database(&error)).then(todo)];
        }
    };
    of_facts(database.shown(), &facts)
}

/// Returns what is to be said of a server.
#[cfg(feature = "postgres")]
fn of_facts(place: &str, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let reached = format!("{place} takes writes (PostgreSQL {})", facts.version);
    findings.push(Finding::ok("database", reached));
    findings.push(match facts.schema {
        None => Finding::ok("schema", "no tables yet: the first hub makes them"),
        Some(found) if found > SCHEMA => {
            let found = format!("schema {found}, and this program knows {SCHEMA}");
            Finding::problem("schema", found, ExitCode::Unusable).then("run the newer hub that wrote it")
        }
        Some(found) => Finding::ok("schema", format!("schema {found}")),
    });
    let replicas = match facts.replicas {
        0 => "no replica streams from it now".to_owned(),
        1 => "a replica streams from it".to_owned(),
        more => format!("{more} replicas stream from it"),
    };
    findings.push(if facts.synchronous_standby_names.is_empty() {
        let found = format!("synchronous_standby_names is empty ({replicas}): a failover loses commits that were confirmed");
        Finding::warning("replication", found).then(
            "name the replicas that a commit waits for, such as synchronous_standby_names = 'ANY 1 (b, c)'; without any \
             replica there is no failover, and backups are all there is",
        )
    } else {
        Finding::ok("replication", format!("a commit waits for {} ({replicas})", facts.synchronous_standby_names))
    });
    if facts.fsync != "on" {
        let found = format!("fsync is {}: a power cut loses commits that were confirmed, or the database", facts.fsync);
        findings.push(Finding::problem("fsync", found, ExitCode::Unusable).then("set fsync = on in postgresql.conf"));
    }
    findings
}

/// Returns what to do where the hub cannot be asked.
fn remedy(failure: &Failure) -> &'static str {
    match failure.code {
        ExitCode::NotAllowed => "name the file of a valid token with --token-file (agentcom-hub token NAME --out FILE)",
        ExitCode::Unusable => "name the hub's data folder with --data, or the hub with --hub",
        ExitCode::Busy => "ask again in a moment; then look at the hub's log",
        ExitCode::Internal => "run a hub and a program of the same version",
        ExitCode::Done
        | ExitCode::No
        | ExitCode::Usage
        | ExitCode::Unread
        | ExitCode::Unavailable
        | ExitCode::NoResources
        | ExitCode::Disk
        | ExitCode::Deposed
        | ExitCode::TimedOut
        | ExitCode::Interrupted
        | ExitCode::Terminated => "start the hub, or correct --hub",
    }
}

/// Looks at the data folder's permissions: it holds every result, and its socket makes an admin.
fn folder(data: &Path) -> Vec<Finding> {
    let mode = |path: &Path| std::fs::metadata(path).ok().map(|found| found.permissions().mode() & 0o7777);
    let Some(folder_mode) = mode(data) else {
        let message = format!("there is no folder {}", data.display());
        return vec![Finding::problem("data", message, ExitCode::Unusable).then("name the hub's with --data")];
    };
    let mut findings = Vec::new();
    for path in [data.to_owned(), Store::path_in(data), admin_socket::path_in(data)] {
        if let Some(open) = mode(&path).filter(|mode| mode & 0o077 != 0) {
            let found = format!("other users may open {} (mode {open:04o})", path.display());
            findings.push(Finding::warning("data", found).then(format!("chmod go= {}", path.display())));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("data", format!("{} (mode {folder_mode:04o})", data.display())));
    }
    findings
}

/// Returns who the caller is to the hub, and whether the hub is of the program's version.
fn caller(me: &Value) -> Vec<Finding> {
    let via = match me["via"].as_str() {
        Some("offline") => {
            let found = "no hub runs on this data folder; what follows is what its store says";
            Finding::warning("hub", found).then("start it: agentcom-hub serve, or under its supervisor")
        }
        Some("socket") => Finding::ok("hub", "it answers at its own socket"),
        Some(_) | None => Finding::ok("hub", "it answers, and knows the token"),
    };
    let openly = if me["registered_openly"] == true { " (registered openly: only what is its own)" } else { "" };
    let role = Finding::ok("role", format!("{}: {}{openly}", text(&me["name"]), text(&me["role"])));
    let (own, hubs) = (env!("CARGO_PKG_VERSION"), text(&me["hub_version"]));
    let version = match hubs == own {
        true => Finding::ok("version", own),
        false => Finding::warning("version", format!("the hub is {hubs}, this program {own}"))
            .then("update the older of the two"),
    };
    let mut findings = vec![via, role, version];
    findings.extend(registration(me));
    findings
}

/// Returns who may register agents, where a hub runs and says so: an older one does not.
fn registration(me: &Value) -> Option<Finding> {
    let who = match me["registration"].as_str().filter(|_| me["via"] != "offline")? {
        "open" => "open: anyone who reaches the hub may register (--registration)",
        "invite" => "by invitation or by an admin",
        "closed" => "closed: only by invitation or by an admin",
        other => other,
    };
    Some(Finding::ok("registration", who))
}

/// Returns whether the hub says that it is ready. An older one says nothing of it.
async fn ready(client: &mut Client) -> Option<Finding> {
    let (status, answer) = match client.look("/ready").await {
        Ok(looked) => looked,
        Err(failure) => return Some(unknown("ready", failure)),
    };
    match status {
        404 => None,
        200 => Some(Finding::ok("ready", "it does its work")),
        _ if answer["reasons"][0]["check"] == "standby" => {
            Some(Finding::ok("ready", text(&answer["reasons"][0]["detail"])))
        }
        _ => {
            let reasons = answer["reasons"].as_array().into_iter().flatten().map(|reason| text(&reason["detail"]));
            let reasons: Vec<String> = reasons.collect();
            let found = format!("it does not do its work (HTTP {status}): {}", some(&reasons));
            Some(Finding::problem("ready", found, ExitCode::Busy).then("look at the hub's log and its disk"))
        }
    }
}

/// Returns a finding for what cannot be asked: of no importance where only the role does not allow it.
fn unknown(check: &'static str, failure: Failure) -> Finding {
    if failure.code == ExitCode::NotAllowed {
        return Finding::ok(check, "not looked at: the token's role does not allow it");
    }
    Finding::problem(check, failure.message, failure.code).then("look at the hub's log")
}

async fn store(client: &mut Client) -> Vec<Finding> {
    let unread = match client.get("/api/v1/store/unread").await {
        Ok(answer) => value(&answer)["items"].as_array().cloned().unwrap_or_default(),
        Err(failure) => return vec![unknown("store", failure)],
    };
    if unread.is_empty() {
        return vec![Finding::ok("store", "every record can be read")];
    }
    let finding = |record: &Value| {
        let [table, key, why] = ["table", "key", "why"].map(|field| text(&record[field]));
        Finding::problem("store", format!("{table}/{key} cannot be read: {why}"), ExitCode::Unread).then(advice(&table))
    };
    unread.iter().map(finding).collect()
}

async fn agents(client: &mut Client) -> Vec<Finding> {
    let all = match client.list("/api/v1/agents", &[], None).await {
        Ok(found) => found,
        Err(failure) => return vec![unknown("agents", failure)],
    };
    let all: Vec<Value> = all.values().collect();
    let of = |status: &str| -> Vec<String> {
        let those = all.iter().filter(|agent| agent["status"] == status);
        those.map(|agent| format!("{} ({})", text(&agent["agent_id"]), text(&agent["why"]))).collect()
    };
    let mut findings = vec![Finding::ok("agents", format!("{} known, {} healthy", all.len(), of("healthy").len()))];
    for (status, todo) in [
        ("degraded", "agentcom-hub agents status=degraded; agentcom-hub agent NAME says what is wrong"),
        ("offline", "agentcom-hub agents --away; start their sidecars"),
        ("stale", "where one is gone for good: agentcom-hub token revoke NAME"),
    ] {
        let those = of(status);
        if !those.is_empty() {
            findings.push(Finding::warning("agents", format!("{} {status}: {}", those.len(), some(&those))).then(todo));
        }
    }
    findings
}

/// Returns the first names of a list.
fn some(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMES)].join(", ");
    if names.len() > NAMES { format!("{shown}, ...") } else { shown }
}

async fn restarts(client: &mut Client) -> Vec<Finding> {
    let overdue = [("state", Some("overdue".to_owned()))];
    // An agent that has come back since is no longer in this state.
    match client.list("/api/v1/restarts", &overdue, None).await {
        Ok(found) if found.raw.is_empty() => vec![Finding::ok("restarts", "none is overdue")],
        Ok(found) => {
            let those: Vec<String> = found.values().map(|restart| text(&restart["agent_id"])).collect();
            let found = format!("{} overdue: {}", those.len(), some(&those));
            vec![
                Finding::warning("restarts", found)
                    .then("agentcom-hub restarts --state overdue; look at those agents' machines"),
            ]
        }
        Err(failure) => vec![unknown("restarts", failure)],
    }
}

async fn tasks(client: &mut Client) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut of = async |status: &str| {
        client.list("/api/v1/tasks", &[("status", Some(status.to_owned()))], Some(MOST_TASKS)).await
    };
    match of("dead_letter").await {
        Ok(dead) if dead.raw.is_empty() => findings.push(Finding::ok("tasks", "there are no dead letters")),
        Ok(dead) => findings.push(
            Finding::warning("tasks", format!("dead letters: {}", count(&dead)))
                .then("agentcom-hub tasks --status dead_letter; agentcom-hub retry ID, or cancel ID"),
        ),
        Err(failure) => return vec![unknown("tasks", failure)],
    }
    match of("queued").await {
        Ok(queued) => {
            let oldest = queued.values().min_by_key(|task| task["created_at"].as_u64().unwrap_or(u64::MAX));
            findings.extend(oldest.map(|task| waiting(&task, &count(&queued))));
        }
        Err(failure) => findings.push(unknown("tasks", failure)),
    }
    findings
}

/// Returns a finding about the healing rules of a hub that has a file of them. An older one knows none.
async fn healing(client: &mut Client) -> Option<Finding> {
    let (status, healing) = match client.look("/api/v1/healing").await {
        Ok(looked) => looked,
        Err(failure) => return Some(unknown("healing", failure)),
    };
    if status != 200 || healing["file"].is_null() {
        return None;
    }
    if healing["last_error"].is_object() {
        let found = format!("the file cannot be used: {}", text(&healing["last_error"]["detail"]));
        return Some(
            Finding::warning("healing", found)
                .then("correct it (agentcom-hub healing check FILE); the hub reads it again"),
        );
    }
    let rules = healing["rules"].as_array().map_or(&[][..], Vec::as_slice);
    let acting = rules.iter().filter(|rule| rule["rule"]["act"] == true).count();
    let off: Vec<String> =
        rules.iter().filter(|rule| rule["off"] == true).map(|rule| text(&rule["rule"]["name"])).collect();
    let found = format!("{} rules, {acting} of them act", rules.len());
    Some(match off.is_empty() {
        true => Finding::ok("healing", found),
        false => Finding::warning("healing", format!("too many agents match, so these do nothing: {}", some(&off)))
            .then("agentcom-hub healing shows what they have in common"),
    })
}

fn count(found: &Items) -> String {
    format!("{}{}", found.raw.len(), if found.more { " or more" } else { "" })
}

/// Returns the finding of the task that waits the longest.
fn waiting(task: &Value, queued: &str) -> Finding {
    let created = task["created_at"].as_u64().unwrap_or_default();
    let found = format!("{queued} queued, the oldest ({}) for {}", text(&task["id"]), age(created));
    if now_ms().saturating_sub(created) < OLD_TASK_MS {
        return Finding::ok("tasks", found);
    }
    Finding::warning("tasks", found).then(format!("agentcom-hub task {} says what it waits for", text(&task["id"])))
}
