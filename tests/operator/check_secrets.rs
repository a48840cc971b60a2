//! Secrets in pm2's hands: what `ecosystem.config.js` keeps from it, and what `check` says of those that it has. No value is
//! ever told.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::support::hub::Hub;
use crate::support::pm2::Pm2;
use crate::support::sidecar::{Agent, SIDECAR};
use crate::support::{process, wait};

const HEX: &str = "5eC4e70123456789abcdef0123456789abcdef0123456789abcdef0123456789";

/// Variables, and whether each is a secret.
const VARIABLES: [(&str, &str, bool); 43] = [
    ("ADMIN", HEX, true),
    ("AGENTCOM_TOKEN", "t", true),
    ("AGENTCOM_ADMIN_TOKEN", "t", true),
    ("HUB_ADMIN", "t", true),
    ("GITHUB_TOKEN", "t", true),
    ("github_token2", "t", true),
    ("npm_config_authToken", "t", true),
    ("OPENAI_API_KEY", "t", true),
    ("APIKEY", "t", true),
    ("DEPLOY_KEYS", "t", true),
    ("AWS_ACCESS_KEY_ID", "t", true),
    ("AWS_SECRET_ACCESS_KEY", "t", true),
    ("SECRET", "t", true),
    ("RAILS_SECRETS_JSON", "t", true),
    ("PGPASSWORD", "t", true),
    ("MYSQL_PWD", "t", true),
    ("DB_PASS", "t", true),
    ("SSHPASS", "t", true),
    ("GPG_PASSPHRASE", "t", true),
    ("AZURE_CREDENTIALS", "t", true),
    ("PROXY_AUTH", "t", true),
    ("X_JWT", "t", true),
    ("SESSION_COOKIE", "t", true),
    ("X", HEX, true),
    ("HEADER", "Authorization: Bearer 5ec4e70123456789abcdef0123456789abcdef0123456789abcdef0123456789", true),
    ("DATABASE", "postgres://me:s3cret@db/x", true),
    ("SECOND_URL", "http://a/ https://:p@b", true),
    ("EMPTY_TOKEN", "", false),
    ("PATH", "/bin:/usr/bin", false),
    ("PWD", "/", false),
    ("OLDPWD", "/", false),
    ("LANG", "C", false),
    ("SSH_AUTH_SOCK", "/tmp/agent", false),
    ("GIT_ASKPASS", "/bin/ask", false),
    ("AGENTCOM_ADMIN_TOKEN_FILE", "/f", false),
    ("SSL_KEY_PATH", "/f", false),
    ("MAX_OUTPUT_TOKENS", "64000", false),
    ("TOKENIZERS_PARALLELISM", "true", false),
    ("KEYBOARD", "de", false),
    ("ADMINISTRATOR", "x", false),
    ("DIGEST", "sha256:5ec4e70123456789abcdef0123456789abcdef0123456789abcdef0123456789", false),
    ("URL", "https://user@host:8443/a:b@c", false),
    ("AGENTCOM_NAME", "a", false),
];

struct Said {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Said {
    /// What `check` finds, with these variables of its own.
    fn of(config: &Path, pm2_home: &Path) -> Self {
        let mut command = Command::new(SIDECAR);
        command.args(["check", "--json", "--config"]).arg(config).env("PM2_HOME", pm2_home);
        for inherited in ["pm_id", "name", "PM2_PROCESS_NAME", "AGENTCOM_CONFIG", "AGENTCOM_TOKEN"] {
            command.env_remove(inherited);
        }
        let (status, text) = process::run(command, wait::BOUND);
        assert!(!text.to_lowercase().contains("5ec4e7") && !text.contains("s3cret"), "a secret was told: {text}");
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        Self { code: status.code(), findings: value["findings"].as_array().unwrap().clone() }
    }

    fn secrets(&self) -> Vec<&Value> {
        self.findings.iter().filter(|finding| finding["check"] == "pm2 secrets").collect()
    }
}

fn text<'a>(finding: &'a Value, key: &str) -> &'a str {
    finding[key].as_str().unwrap_or_default()
}

fn saved(pm2_home: &Path, name: &str, apps: &Value, mode: u32) {
    fs::write(pm2_home.join(name), apps.to_string()).unwrap();
    fs::set_permissions(pm2_home.join(name), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_ecosystem_file_and_check_call_the_same_variables_secrets() {
    let secret: Vec<&str> = VARIABLES.iter().filter(|(.., secret)| *secret).map(|(name, ..)| *name).collect();

    let mut node = Command::new("node");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("ecosystem.config.js");
    node.args(["-e", "require(process.argv[1]); console.log(JSON.stringify(process.env))"]).arg(&file);
    let path = std::env::var("PATH").unwrap();
    node.env_clear().envs(VARIABLES.iter().map(|(name, value, _)| (name, value))).env("PATH", path);
    let output = node.output().unwrap();
    let left: Map<String, Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let kept_out: Vec<&str> =
        VARIABLES.iter().map(|(name, ..)| *name).filter(|name| !left.contains_key(*name)).collect();
    assert_eq!(kept_out, secret);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(secret.iter().all(|name| told.contains(name)) && !told.contains("s3cret"), "{told}");

    let agent = Agent::new("a", "ws://127.0.0.1:1/ws", "t0ken");
    let environment: Map<_, _> = VARIABLES.iter().map(|(name, value, _)| ((*name).to_owned(), json!(value))).collect();
    let apps = json!([{"name": "a", "pm_exec_path": "/opt/agentcom-sidecar", "env": environment}]);
    saved(agent.folder(), "dump.pm2", &apps, 0o644);
    let said = Said::of(&agent.config_file(), agent.folder());
    let found = text(said.secrets()[0], "found").to_owned();
    let (_, list) = found.split_once("secrets: ").unwrap();
    let mut named: Vec<&str> = list.trim_end_matches(" of \"a\"").split(", ").collect();
    let mut secret = secret;
    named.sort_unstable();
    secret.sort_unstable();
    assert_eq!(named, secret, "{found}");
}

#[test]
fn check_names_what_pm2_hands_on_and_has_saved_and_how_to_mend_it() {
    let (hub, pm2) = (Hub::start(), Pm2::start());
    let token = hub.register("a");
    let agent = Agent::new("a", &hub.url(), &token);
    agent.configure("repo_dir", Value::Null);
    let mut app = agent.app();
    app["env"]["ADMIN"] = json!(HEX);
    app["env"]["AGENTCOM_TOKEN"] = json!(token);
    app["env"]["MODEL_KEY"] = json!("s3cret");
    pm2.launch(app);
    pm2.wait_online("a");
    pm2.command(&["save"]);
    pm2.command(&["save"]);
    let said = Said::of(&agent.config_file(), pm2.home());
    let secrets = said.secrets();
    assert_eq!((said.code, secrets.len()), (Some(0), 3), "{secrets:#?}");
    let [handed, dump, backup] = [secrets[0], secrets[1], secrets[2]];
    assert!(secrets.iter().all(|finding| finding["level"] == "warning"), "{secrets:#?}");
    assert!(
        text(handed, "found")
            .contains("\"a\" what looks like a secret, and saves it: ADMIN, AGENTCOM_TOKEN, MODEL_KEY"),
        "{handed}"
    );
    let todo = text(handed, "do");
    assert!(
        todo.contains("config.json (mode 0600)")
            && todo.contains("pm2 delete a && env -u ADMIN -u AGENTCOM_TOKEN -u MODEL_KEY AGENTCOM_CONFIG="),
        "{todo}"
    );
    assert!(!handed.to_string().contains(&token) && !dump.to_string().contains(&token));
    for (finding, name) in [(dump, "dump.pm2"), (backup, "dump.pm2.bak")] {
        let path = pm2.home().join(name).display().to_string();
        let found = text(finding, "found");
        assert!(found.starts_with(&format!("{path} (mode 644, others can read it)")), "{found}");
        assert!(found.contains("ADMIN, AGENTCOM_TOKEN, MODEL_KEY of \"a\""), "{found}");
        assert!(text(finding, "do").starts_with(&format!("chmod 600 {path};")), "{finding}");
    }

    // As it says, in a shell that still has them.
    let line = todo.rsplit_once("; ").unwrap().1;
    let bin = agent.path("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("pm2.written"), "#!/bin/sh\nexec \"$AGENTCOM_TEST_PM2\" -s \"$@\"\n").unwrap();
    process::install(&bin.join("pm2.written"), &bin.join("pm2"));
    let programs = Path::new(SIDECAR).parent().unwrap().display().to_string();
    pm2.typed(&format!(
        "set -e; cd '{}'; export PATH='{}':\"$PATH\" AGENTCOM_BIN_DIR='{programs}' AGENTCOM_LOG_DIR='{}'
         export ADMIN={HEX} AGENTCOM_TOKEN={token} MODEL_KEY=s3cret; {line}",
        env!("CARGO_MANIFEST_DIR"),
        bin.display(),
        agent.folder().display()
    ));
    pm2.wait_online("a");
    let said = Said::of(&agent.config_file(), pm2.home());
    let secrets = said.secrets();
    assert_eq!((secrets.len(), text(secrets[0], "level")), (1, "ok"), "{secrets:#?}");
}

#[test]
fn the_daemon_s_own_environment_is_looked_into() {
    let (agent, pm2) = (Agent::new("a", "ws://127.0.0.1:1/ws", "t0ken"), Pm2::start());
    let apps = agent.path("apps.json");
    fs::write(&apps, json!({"apps": [{"name": "web", "script": "/bin/sleep", "args": "600"}]}).to_string()).unwrap();
    pm2.launch_file(&apps, &[("ADMIN", HEX), ("WEB_TOKEN", "s3cret")], None);
    let pid = fs::read_to_string(pm2.home().join("pm2.pid")).unwrap();
    let said = Said::of(&agent.config_file(), pm2.home());
    let [web, daemon] = said.secrets()[..] else { panic!("{:#?}", said.findings) };
    assert!(text(web, "do").starts_with("pm2 delete web, start it as before behind `env -u ADMIN`"), "{web}");
    assert_eq!(
        text(daemon, "found"),
        format!("pm2's daemon (process {pid}) was started with ADMIN in its environment")
    );
    assert!(text(daemon, "do").contains("env -u ADMIN pm2 update"), "{daemon}");
}

#[test]
fn a_configuration_whose_token_only_pm2_has_is_told_where_it_lies() {
    let agent = Agent::new("a", "ws://127.0.0.1:1/ws", "t0ken");
    agent.configure("token", Value::Null);
    let environment = json!({"AGENTCOM_TOKEN": "s3cret"});
    let apps = json!([{"name": "a", "pm_exec_path": "/opt/agentcom-sidecar", "env": environment}]);
    saved(agent.folder(), "dump.pm2", &apps, 0o600);
    let said = Said::of(&agent.config_file(), agent.folder());
    let secrets = said.secrets();
    assert_eq!((said.code, secrets.len()), (Some(78), 1), "{:#?}", said.findings);
    let found = text(secrets[0], "found");
    assert!(found.contains("(mode 600, its user's alone)") && found.contains("AGENTCOM_TOKEN of \"a\""), "{found}");
    assert!(text(secrets[0], "do").starts_with("no pm2 runs: start the apps anew"), "{}", secrets[0]);
}

#[test]
fn other_apps_secrets_are_not_ours_to_tell_but_our_tokens_in_them_are() {
    let agent = Agent::new("a", "ws://127.0.0.1:1/ws", "s3cret-of-the-agent");
    let environment = |variable: &str, value: &str| json!([{"name": "web", "pm_exec_path": "/srv/web.js", "env": {variable: value, "DB_PASSWORD": "s3cret"}}]);
    for (variable, value, named) in [
        ("SESSION_SECRET", HEX, false),
        ("WHATEVER", "Bearer s3cret-of-the-agent", true),
        ("ADMIN", HEX, true),
        ("ADMIN", "me@example.org", false),
        ("AGENTCOM_ADMIN_TOKEN", "s3cret", true),
    ] {
        saved(agent.folder(), "dump.pm2.bak", &environment(variable, value), 0o600);
        let said = Said::of(&agent.config_file(), agent.folder());
        let found: Vec<&str> = said.secrets().iter().map(|finding| text(finding, "found")).collect();
        let wanted = format!("{variable} of \"web\"");
        assert_eq!(found.iter().any(|found| found.ends_with(&wanted)), named, "{variable}: {found:?}");
        assert_eq!(found.len(), usize::from(named), "{variable}: {found:?}");
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let agent = Agent::new("a", "ws://127.0.0.1:1/ws", "t0ken");
    fs::write(agent.path("dump.pm2"), "{\"ADMIN\": \"s3cret").unwrap();
    fs::create_dir(agent.path("dump.pm2.bak")).unwrap();
    let said = Said::of(&agent.config_file(), agent.folder());
    let found: Vec<&str> = said.secrets().iter().map(|finding| text(finding, "found")).collect();
    assert!(found.len() == 2 && found.iter().all(|found| found.contains("cannot be told")), "{found:?}");
}
