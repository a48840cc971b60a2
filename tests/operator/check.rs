//! `check` and `check --preflight`: what they find, what they say to do, and that they leave everything as it was.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::support::hub::Hub;
use crate::support::legacy_hub::LegacyHub;
use crate::support::pm2::Pm2;
use crate::support::process;
use crate::support::sidecar::{Agent, SIDECAR};
use crate::support::wait;
use crate::support::web::Web;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

fn command(agent: &Agent, pm2_home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(SIDECAR);
    command.args(["check", "--config"]).arg(agent.config_file()).args(args).env("PM2_HOME", pm2_home);
    for inherited in ["pm_id", "name", "PM2_PROCESS_NAME", "NODE_CHANNEL_FD", "AGENTCOM_CONFIG", "AGENTCOM_TOKEN"] {
        command.env_remove(inherited);
    }
    command
}

/// What `check --json` found: its exit code, and its findings.
struct Found {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Found {
    /// Without a pm2.
    fn of(agent: &Agent) -> Self {
        Self::below(agent, &agent.path("no-pm2"))
    }

    fn below(agent: &Agent, pm2_home: &Path) -> Self {
        let (status, text) = process::run(command(agent, pm2_home, &["--json"]), wait::BOUND);
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(value["exit_code"].as_i64().map(|code| code as i32), status.code(), "{text}");
        let token = agent_token(agent);
        assert!(token.is_empty() || !text.contains(&token), "the token was printed: {text}");
        Self { code: status.code(), findings: value["findings"].as_array().unwrap().clone() }
    }

    /// The one finding of that check, as `level`, what was found, and what to do.
    fn one(&self, check: &str) -> (String, String, String) {
        let all = self.all(check);
        assert_eq!(all.len(), 1, "{check} in {:#?}", self.findings);
        all[0].clone()
    }

    fn all(&self, check: &str) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = self.findings.iter().filter(|finding| finding["check"] == check);
        of.map(|finding| (text(&finding["level"]), text(&finding["found"]), text(&finding["do"]))).collect()
    }

    fn levels(&self, level: &str) -> Vec<&Value> {
        self.findings.iter().filter(|finding| finding["level"] == level).collect()
    }
}

fn agent_token(agent: &Agent) -> String {
    let text = fs::read_to_string(agent.config_file()).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    value["token"].as_str().unwrap_or_default().to_owned()
}

fn well(hub: &Hub) -> Agent {
    let agent = Agent::new("a", &hub.url(), &hub.register("a"));
    agent.configure("repo_dir", Value::Null);
    agent
}

/// Where nobody listens.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn listing(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.path().display().to_string();
        files.push((name, fs::read(entry.path()).unwrap_or_default()));
    }
    files.sort();
    files
}

#[test]
fn a_sidecar_that_is_well_under_pm2_is_found_so_and_does_not_notice() {
    let (hub, pm2) = (Hub::start(), Pm2::start());
    let agent = well(&hub);
    agent.launch_under(&pm2);
    let before = hub.wait_agent("a", |seen| seen["status"] == "idle");
    let pid = pm2.wait_online("a");
    let found = Found::below(&agent, pm2.home());
    assert_eq!((found.code, found.levels("ok").len()), (Some(0), found.findings.len()), "{:#?}", found.findings);
    assert!(found.one("pm2").1.contains("we are \"a\" (id 0, online)"), "{:?}", found.one("pm2"));
    assert!(found.one("running").1.contains(&format!("process {pid}")), "{:?}", found.one("running"));
    assert!(found.one("token").1.contains("takes it as \"a\"'s"), "{:?}", found.one("token"));
    assert_eq!(hub.agent("a").unwrap()["connected_at"], before["connected_at"], "the sidecar was disturbed");
}

#[test]
fn nothing_is_left_behind() {
    let hub = Hub::start();
    let agent = well(&hub);
    let before = (listing(agent.folder()), listing(&agent.path("results")));
    assert_eq!(Found::of(&agent).code, Some(0));
    assert_eq!((listing(agent.folder()), listing(&agent.path("results"))), before);
}

#[test]
fn the_lines_say_level_check_finding_and_what_to_do() {
    let hub = Hub::start();
    let agent = well(&hub);
    agent.configure("wake_command", Value::Null);
    let (status, text) = process::run(command(&agent, &agent.path("no-pm2"), &[]), wait::BOUND);
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(
        text.contains("warning  wake         no `wake_command`: a task waits for an agent that finds it by itself\n"),
        "{text}"
    );
    assert!(text.contains("                      -> set `wake_command` to"), "{text}");
    assert!(text.contains("ok       hub tcp      connected in "), "{text}");
    assert!(text.ends_with("no problems, 2 warnings\n"), "{text}");
}

#[test]
fn a_token_that_the_hub_does_not_know_is_a_problem() {
    let hub = Hub::start();
    let agent = Agent::new("a", &hub.url(), "not-a-token-of-this-hub");
    let found = Found::of(&agent);
    let (level, said, todo) = found.one("token");
    assert_eq!((found.code, level.as_str()), (Some(69), "problem"));
    assert!(said.contains("does not know it") && todo.contains("agentcom-hub token a"), "{said}; {todo}");
}

#[test]
fn another_agent_s_token_is_a_problem() {
    let hub = Hub::start();
    let agent = Agent::new("a", &hub.url(), &hub.register("b"));
    let (level, said, _) = Found::of(&agent).one("token");
    assert!(level == "problem" && said.contains("another agent's, not \"a\"'s"), "{said}");
}

#[test]
fn an_existing_hub_is_asked_for_a_task_that_cannot_exist() {
    let hub = LegacyHub::start();
    let api = Web::start(|path, head| match path {
        "/api/tasks/task-of-no-agentcom-sidecar-check" if head.contains("Bearer good-token") => {
            (404, r#"{"error":"task_not_found","task_id":"x"}"#.into())
        }
        "/api/tasks/task-of-no-agentcom-sidecar-check" => (401, r#"{"error":"unauthorized"}"#.into()),
        _ => (404, r#"{"error":"not_found"}"#.into()),
    });
    let agent = Agent::new("a", &hub.url(), "good-token");
    agent.configure("hub_api_url", json!(api.url()));
    let (level, said, _) = Found::of(&agent).one("token");
    assert!(level == "ok" && said.contains("does not tell whose it is"), "{said}");
    agent.configure("token", json!("bad-token"));
    let (level, said, _) = Found::of(&agent).one("token");
    assert!(level == "problem" && said.contains("does not know it"), "{said}");
}

#[test]
fn a_hub_that_repeats_the_token_does_not_get_it_printed() {
    let hub = LegacyHub::start();
    let api = Web::start(|_, head| {
        let token =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("authorization:").map(str::to_owned));
        (500, json!({"error": format!("no use for {}", token.unwrap_or_default())}).to_string())
    });
    let agent = Agent::new("a", &hub.url(), "a-token-nobody-may-see");
    agent.configure("hub_api_url", json!(api.url()));
    let (level, said, _) = Found::of(&agent).one("token");
    assert!(level == "warning" && said.contains("<redacted>"), "{said}");
}

#[test]
fn each_step_to_the_hub_is_told_apart() {
    let hub = Hub::start();
    let agent = well(&hub);
    let failing = |url: String| {
        agent.configure("hub_url", json!(url));
        let found = Found::of(&agent);
        assert_eq!((found.code, found.levels("problem").len()), (Some(69), 1), "{url}: {:#?}", found.findings);
        found.levels("problem")[0]["check"].as_str().unwrap().to_owned()
    };
    assert_eq!(failing("ws://no-such-hub.invalid/ws".into()), "hub name");
    assert_eq!(failing(format!("ws://127.0.0.1:{}/ws", free_port())), "hub tcp");
    assert_eq!(failing(format!("wss://{}/ws", hub.address())), "hub tls");
    assert_eq!(failing(format!("ws://{}/nothing", hub.address())), "hub ws");
}

#[test]
fn two_entries_for_one_agent_are_a_problem() {
    let (hub, pm2) = (Hub::start(), Pm2::start());
    let agent = well(&hub);
    pm2.launch(agent.app());
    pm2.wait_online("a");
    let mut second = agent.app();
    second["name"] = json!("b");
    pm2.launch(second);
    let found = Found::below(&agent, pm2.home());
    let (level, said, todo) = found.one("pm2");
    assert_eq!((found.code, level.as_str()), (Some(69), "problem"));
    assert!(
        said.contains("\"a\" (id 0") && said.contains("\"b\" (id 1") && todo.contains("pm2 delete"),
        "{said}; {todo}"
    );
}

#[test]
fn settings_of_pm2_that_do_not_fit_are_named_with_what_to_write() {
    let (hub, pm2) = (Hub::start(), Pm2::start());
    let agent = well(&hub);
    let mut app = agent.app();
    app["kill_timeout"] = json!(1600);
    app["autorestart"] = json!(false);
    app["treekill"] = json!(true);
    app["wait_ready"] = json!(true);
    pm2.launch(app);
    pm2.wait_online("a");
    let found = Found::below(&agent, pm2.home());
    let settings = found.all("pm2 settings");
    let says = |word: &str| {
        settings.iter().any(|(level, said, todo)| level == "warning" && (said.contains(word) && !todo.is_empty()))
    };
    assert!(says("`kill_timeout: 1600`") && says("`autorestart: false`") && says("`treekill`"), "{settings:?}");
    assert!(says("`wait_ready`: without a hub it is launching for 2000 ms"), "{settings:?}");
    assert_eq!((found.code, settings.len()), (Some(0), 4), "{settings:?}");
}

/// By pm2's list; that it then restarts for ever is pm2's doing.
#[test]
fn a_watch_over_the_agents_own_folder_is_named() {
    let (hub, pm2) = (Hub::start(), Pm2::start());
    let agent = well(&hub);
    let mut app = agent.app();
    let found_with = |watch: Value, app: &mut Value| {
        app["watch"] = watch;
        pm2.launch(app.clone());
        let found = wait::until("pm2 to list it", || {
            let found = Found::below(&agent, pm2.home());
            (!found.all("pm2 settings").is_empty()).then_some(found)
        });
        pm2.command(&["delete", "a"]);
        found.all("pm2 settings")
    };
    let whole = found_with(json!(true), &mut app);
    assert!(whole.iter().any(|(level, said, _)| level == "warning" && said.contains("`watch`")), "{whole:?}");
    let other = found_with(json!(["config.json"]), &mut app);
    assert!(other.iter().all(|(level, said, _)| level == "ok" && !said.contains("`watch`")), "{other:?}");
}

#[test]
fn a_journal_of_another_version_or_of_nobody_is_a_problem_and_left_as_it_is() {
    let hub = Hub::start();
    let agent = well(&hub);
    for (text, word) in [("{\"schema\": 99, \"active\": null}", "schema 99"), ("{\"active\": 7}", "makes no sense")] {
        fs::write(agent.path("queue.json"), text).unwrap();
        fs::set_permissions(agent.path("queue.json"), fs::Permissions::from_mode(0o600)).unwrap();
        let found = Found::of(&agent);
        let (level, said, _) = found.one("journal");
        assert_eq!((found.code, level.as_str()), (Some(74), "problem"), "{said}");
        assert!(said.contains(word), "{said}");
        assert_eq!(fs::read_to_string(agent.path("queue.json")).unwrap(), text);
    }
}

#[test]
fn folders_that_cannot_be_used_are_problems() {
    let hub = Hub::start();
    let agent = well(&hub);
    fs::write(agent.path("file"), "").unwrap();
    agent.configure("results_dir", json!("./file"));
    let found = Found::of(&agent);
    assert_eq!((found.code, found.one("results").0.as_str()), (Some(69), "problem"));
    fs::write(agent.path("queue.wake"), "").unwrap();
    let found = Found::of(&agent);
    let (level, said, todo) = found.one("state");
    assert!(level == "problem" && said.contains("no agent can be woken"), "{said}");
    assert!(todo.contains("move it away"), "{todo}");
    agent.configure("queue_file", json!("./file/state/queue.json"));
    let found = Found::of(&agent);
    assert_eq!((found.code, found.one("state").0.as_str()), (Some(74), "problem"));
}

#[test]
fn a_full_disk_is_a_problem() {
    let (hub, disk) = (Hub::start(), crate::support::disk::Disk::new());
    let agent = well(&hub);
    agent.configure("queue_file", json!(disk.path().join("queue.json")));
    disk.fill();
    let found = Found::of(&agent);
    let (level, said, todo) = found.one("state");
    assert_eq!((found.code, level.as_str()), (Some(74), "problem"));
    assert!(todo.contains("free some space"), "{said}; {todo}");
}

#[test]
fn a_configuration_that_others_can_read_is_a_warning_with_the_cure() {
    let hub = Hub::start();
    let agent = well(&hub);
    fs::set_permissions(agent.config_file(), fs::Permissions::from_mode(0o644)).unwrap();
    let found = Found::of(&agent);
    let (level, said, todo) = found.one("permissions");
    assert_eq!((found.code, level.as_str()), (Some(0), "warning"));
    assert!(said.contains("644") && todo.starts_with("chmod 600 '"), "{said}; {todo}");
}

#[test]
fn a_wake_command_that_is_not_there_is_a_problem() {
    let hub = Hub::start();
    let agent = well(&hub);
    let look = |line: &str| {
        agent.configure("wake_command", json!(line));
        Found::of(&agent).one("wake")
    };
    let (level, said, _) = look("no-such-agent --task \"${TASK_ID}\"");
    assert!(level == "problem" && said.contains("no `no-such-agent` on the PATH"), "{said}");
    let (level, said, _) = look("./wake.sh");
    assert!(level == "problem" && said.contains("there is no"), "{said}");
    fs::write(agent.path("wake.sh"), "#!/bin/sh\n").unwrap();
    let (level, _, todo) = look("./wake.sh");
    assert!(level == "problem" && todo.contains("chmod +x"), "{todo}");
    fs::set_permissions(agent.path("wake.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(look("./wake.sh").0, "ok");
}

#[test]
fn a_script_that_the_kernel_would_not_run_is_a_problem() {
    let hub = Hub::start();
    let agent = well(&hub);
    agent.configure("wake_command", json!("./wake.sh"));
    for (text, word, cure) in [
        ("#!/nowhere/sh\ntrue\n", "names /nowhere/sh, which is not there", "correct that line"),
        ("#!/bin/sh\r\ntrue\r\n", "end as on Windows", "sed -i 's/\\r$//' '"),
    ] {
        fs::write(agent.path("wake.sh"), text).unwrap();
        fs::set_permissions(agent.path("wake.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        let (level, said, todo) = Found::of(&agent).one("wake");
        assert!(level == "problem" && said.contains(word) && todo.contains(cure), "{said}; {todo}");
    }
}

#[test]
fn executors_and_hooks_that_are_not_there_are_problems() {
    let hub = Hub::start();
    let agent = well(&hub);
    agent.configure("executors", json!({"claude": {"command": "./gone --now", "mode": "run"}}));
    agent.configure("hooks", json!({"on_task_start": "no-such-hook start"}));
    let found = Found::of(&agent);
    let (level, said, todo) = found.one("executor");
    assert!(level == "problem" && said.contains("`executors.claude`: there is no"), "{said}; {todo}");
    let (level, said, todo) = found.one("routing");
    assert!(level == "warning" && said.contains("`executors.claude` is never asked"), "{said}; {todo}");
    let (level, said, _) = found.one("hook");
    assert!(level == "problem" && said.contains("`hooks.on_task_start`: no `no-such-hook`"), "{said}");
}

#[test]
fn a_repository_that_is_not_there_is_a_problem_where_something_runs_in_it() {
    let hub = Hub::start();
    let agent = well(&hub);
    agent.configure("repo_dir", json!("./gone"));
    assert_eq!(Found::of(&agent).one("repo").0, "warning");
    agent.configure("shell_commands", json!({"enabled": true}));
    assert_eq!(Found::of(&agent).one("repo").0, "problem");
}

#[test]
fn a_repository_in_which_nothing_runs_is_a_warning() {
    let hub = Hub::start();
    let agent = well(&hub);
    agent.configure("repo_dir", json!("."));
    let (level, said, todo) = Found::of(&agent).one("repo");
    assert!(level == "warning" && said.contains("nothing runs in it") && todo.contains("`hooks`"), "{said}; {todo}");
    agent.configure("hooks", json!({"on_task_result": "true"}));
    assert_eq!(Found::of(&agent).one("repo").0, "ok");
}

#[test]
fn a_log_that_cannot_be_written_is_a_warning() {
    let hub = Hub::start();
    let agent = well(&hub);
    fs::create_dir(agent.path("folder")).unwrap();
    for file in ["./folder", "./config.json/x.log"] {
        agent.configure("log_file", json!(file));
        let found = Found::of(&agent);
        let (level, said, _) = found.one("log");
        assert!(found.code == Some(0) && level == "warning" && said.contains("`log_file`"), "{said}");
    }
}

#[test]
fn a_port_that_somebody_else_has_is_a_problem_also_while_the_sidecar_runs() {
    let hub = Hub::start();
    let agent = well(&hub);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = json!(listener.local_addr().unwrap().to_string());
    agent.configure("http_listen", address.clone());
    let (level, said, todo) = Found::of(&agent).one("http");
    assert!(
        level == "problem" && said.contains("cannot be opened") && todo.contains("no other process uses"),
        "{said}; {todo}"
    );
    drop(listener);
    assert_eq!(Found::of(&agent).one("http").0, "ok");
    let other = Agent::new("b", &hub.url(), &hub.register("b"));
    other.configure("http_listen", address);
    let _first = other.start();
    hub.wait_agent("b", |seen| seen["status"] == "idle");
    wait::until_true("the listener", || Found::of(&other).one("http").1.contains("the running sidecar answers"));
    let _second = agent.start();
    hub.wait_agent("a", |seen| seen["status"] == "idle");
    let (level, said, _) = Found::of(&agent).one("http");
    assert!(level == "problem" && said.contains("another program answers"), "{said}");
}

#[test]
fn a_folder_that_everybody_may_write_is_a_warning_with_the_cure() {
    let hub = Hub::start();
    let agent = well(&hub);
    fs::set_permissions(agent.folder(), fs::Permissions::from_mode(0o777)).unwrap();
    let all = Found::of(&agent).all("permissions");
    let (level, said, todo) = &all[1];
    assert!(level == "warning" && said.contains("can replace config.json") && todo.starts_with("chmod o-w"), "{all:?}");
}

#[test]
fn a_folder_in_the_journal_s_place_is_told_as_what_it_is() {
    let hub = Hub::start();
    let agent = well(&hub);
    fs::create_dir(agent.path("queue.json")).unwrap();
    let found = Found::of(&agent);
    let (level, said, todo) = found.one("journal");
    assert!(level == "problem" && todo.contains("move it away"), "{said}; {todo}");
    assert_eq!(found.one("permissions").0, "ok");
}

fn preflight(agent: &Agent) -> (Option<i32>, String) {
    let (status, text) = process::run(command(agent, &agent.path("no-pm2"), &["--preflight"]), wait::BOUND);
    assert_eq!(text.lines().count(), 1, "{text}");
    (status.code(), text)
}

#[test]
fn preflight_asks_nobody() {
    // Nobody answers there for minutes (RFC 5737).
    let agent = Agent::new("a", "ws://192.0.2.1:4000/ws", "token");
    let begun = Instant::now();
    let (code, text) = preflight(&agent);
    assert!(code == Some(0) && text.contains("can run as \"a\""), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
}

#[test]
fn preflight_passes_while_the_sidecar_runs() {
    let hub = Hub::start();
    let agent = well(&hub);
    let mut sidecar = agent.start();
    hub.wait_agent("a", |seen| seen["status"] == "idle");
    let (code, text) = preflight(&agent);
    assert!(code == Some(0) && sidecar.ended().is_none(), "{text}");
}

#[test]
fn preflight_ends_as_run_would() {
    let agent = Agent::new("a", "ws://192.0.2.1:4000/ws", "token");
    fs::write(agent.path("queue.json"), "{\"schema\": 99, \"active\": null}").unwrap();
    assert_eq!(preflight(&agent).0, Some(74));
    assert_eq!(agent.start().wait_exit().code(), Some(74));
    agent.configure("drain_deadline_ms", json!("soon"));
    let (code, text) = preflight(&agent);
    assert!(code == Some(78) && text.contains("`drain_deadline_ms`: found the text \"soon\""), "{text}");
    assert_eq!(agent.start().wait_exit().code(), Some(78));
}

#[test]
fn the_files_for_tls_are_looked_at_before_a_dial_needs_them() {
    let hub = Hub::start();
    let agent = well(&hub);
    let (day, now) = (Duration::from_secs(24 * 3_600), SystemTime::now());
    let made = |days: u32| {
        let mut params = CertificateParams::new(["alice".to_owned()]).unwrap();
        params.not_after = (now + day * days).into();
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let (ca, (soon, key)) = (agent.path("ca.pem"), made(12));
    fs::write(agent.path("cert.pem"), soon).unwrap();
    fs::write(agent.path("key.pem"), key).unwrap();
    for (name, file) in [("ca_file", "./ca.pem"), ("client_cert_file", "./cert.pem"), ("client_key_file", "./key.pem")]
    {
        agent.configure(name, json!(file));
    }
    let told = || Found::of(&agent).all("tls files");
    let is = |found: &(String, String, String), level: &str, words: &str| {
        assert!(found.0 == level && found.1.contains(words), "{level}, {words:?} in {found:?}");
    };
    let missing = told();
    is(&missing[0], "problem", "cannot be read");
    is(&missing[1], "warning", "cert.pem expires at ");
    is(&missing[2], "warning", "is without TLS");
    fs::write(&ca, "no PEM").unwrap();
    is(&told()[0], "problem", "ca.pem holds no certificate in PEM");
    fs::write(&ca, made(400).0).unwrap();
    fs::write(agent.path("key.pem"), made(400).1).unwrap();
    let mixed = told();
    is(&mixed[0], "ok", "good for 30 days");
    is(&mixed[1], "problem", "is not the key of `client_cert_file`");
}
