//! `onboard` against the real hub: what it leaves in the folder, what it says, and that what it says to type works under
//! real pm2.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::hub::Hub;
use crate::support::pm2::Pm2;
use crate::support::process;
use crate::support::sidecar::SIDECAR;
use crate::support::tls::TlsDoor;
use crate::support::wait;
use serde_json::{Value, json};

/// An empty place for a new agent, in a folder whose name a shell would split.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("on board-").tempdir().unwrap() }
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config.json")
    }

    fn onboard(&self, hub: &str, name: &str, more: &[&str]) -> (Option<i32>, String) {
        self.onboard_at(hub, name, &self.config().display().to_string(), more)
    }

    fn onboard_at(&self, hub: &str, name: &str, config: &str, more: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(SIDECAR);
        command.args(["onboard", "--hub", hub, "--name", name, "--config", config]).args(more);
        for variable in ["AGENTCOM_CONFIG", "AGENTCOM_TOKEN", "AGENTCOM_ADMIN_TOKEN", "AGENTCOM_INVITATION"] {
            command.env_remove(variable);
        }
        let (status, text) = process::run(command, wait::BOUND);
        if let Some(token) = self.token() {
            assert!(!text.contains(&token), "the token was printed: {text}");
        }
        (status.code(), text)
    }

    fn written(&self) -> Value {
        serde_json::from_slice(&fs::read(self.config()).unwrap()).unwrap()
    }

    fn token(&self) -> Option<String> {
        let value: Value = serde_json::from_slice(&fs::read(self.config()).ok()?).ok()?;
        value["token"].as_str().map(str::to_owned)
    }

    /// What is in the folder.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn http(hub: &Hub) -> String {
    format!("http://{}", hub.address())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_it_is_told_of_the_configuration_is_written_and_checked_before_it_registers() {
    let (hub, place) = (Hub::start(), Place::new());
    let (code, text) = place.onboard(&http(&hub), "a", &["--http-listen", "127.0.0.1"]);
    assert_eq!(code, Some(2), "{text}");
    for part in ["`http_listen`", "127.0.0.1:9464", "Nothing was registered"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(place.names(), Vec::<String>::new());
    let told = ["--http-listen", "127.0.0.1:9464", "--log-level", "debug", "--log-format", "json"];
    let (code, text) = place.onboard(&http(&hub), "a", &told);
    assert_eq!(code, Some(0), "{text}");
    let written = place.written();
    assert_eq!(written["http_listen"], "127.0.0.1:9464");
    assert_eq!((&written["log_level"], &written["log_format"]), (&json!("debug"), &json!("json")));
}

#[test]
fn a_new_agent_gets_its_folder_and_a_token_that_the_hub_knows() {
    let (hub, place) = (Hub::start(), Place::new());
    let (code, text) = place.onboard(&http(&hub), "a", &["--wake-command", "true", "--capability", "review"]);
    assert_eq!(code, Some(0), "{text}");
    let token = place.token().unwrap();
    assert_eq!(
        place.written(),
        json!({
            "agent_id": "a", "token": token, "hub_url": hub.url(), "hub_api_url": http(&hub), "wake_command": "true",
            "capabilities": ["review"], "results_dir": "./results",
        })
    );
    assert_eq!((mode(&place.config()), place.names()), (0o600, vec!["config.json".to_owned(), "results".to_owned()]));
    let (status, _) = hub.call("GET", "/api/admin/agents/a/restarts", Some(&token), None);
    assert_eq!(status, 200);
}

#[test]
fn the_websocket_address_is_as_good() {
    let (hub, place) = (Hub::start(), Place::new());
    let (code, text) = place.onboard(&hub.url(), "a", &[]);
    assert_eq!(code, Some(0), "{text}");
    let written = place.written();
    assert_eq!((&written["hub_url"], &written["hub_api_url"]), (&json!(hub.url()), &json!(http(&hub))));
    assert!(text.contains("Write `wake_command` into it"), "{text}");
}

#[test]
fn what_it_says_to_type_starts_the_sidecar_under_pm2() {
    let (hub, place, pm2) = (Hub::start(), Place::new(), Pm2::start());
    let (code, text) = place.onboard(&http(&hub), "my-agent", &["--wake-command", "true"]);
    assert_eq!(code, Some(0), "{text}");
    let line = text.lines().map(str::trim).find(|line| line.starts_with("pm2 start ")).unwrap();
    pm2.typed(&format!("export ADMIN=s3cret MY_TOKEN=s3cret MODEL_API_KEY=s3cret; {line}"));
    hub.wait_agent("my-agent", |agent| agent["status"] == "idle");
    let app = pm2.app("my-agent").unwrap();
    let settings = &app["pm2_env"];
    assert!(!settings.to_string().contains("s3cret"), "pm2 keeps what the operator's shell exports: {settings}");
    assert_eq!((&settings["kill_timeout"], &settings["treekill"]), (&json!(8000), &json!(false)));
    let (status, answer) = hub.restart("my-agent", json!({"reason": "onboarded"}));
    assert_eq!(status, 200, "{answer}");
    hub.wait_restart(answer["command_id"].as_str().unwrap(), "my-agent", "back");
    assert_eq!(pm2.restarts_of("my-agent"), 1);
}

#[test]
fn what_it_says_to_type_starts_a_program_whose_path_has_a_space_too() {
    let (hub, place, pm2) = (Hub::start(), Place::new(), Pm2::start());
    let program = place.folder.path().join("agentcom-sidecar");
    process::install(Path::new(SIDECAR), &program);
    let mut onboard = Command::new(&program);
    onboard.args(["onboard", "--hub", &http(&hub), "--name", "my-agent", "--wake-command", "true", "--config"]);
    let (_, text) = process::run(
        {
            onboard.arg(place.config());
            onboard
        },
        wait::BOUND,
    );
    let line =
        text.lines().map(str::trim).find(|line| line.starts_with("pm2 start ")).unwrap_or_else(|| panic!("{text}"));
    pm2.typed(line);
    hub.wait_agent("my-agent", |agent| agent["status"] == "idle");
    let mut check = Command::new(&program);
    check.arg("check").arg("--config").arg(place.config()).env("PM2_HOME", pm2.home());
    let (_, text) = process::run(check, wait::BOUND);
    assert!(text.contains("we are \"my-agent\" (id 0, online)"), "{text}");
}

#[test]
fn a_configuration_that_is_there_is_left_alone_and_nothing_is_registered() {
    let (hub, place) = (Hub::start(), Place::new());
    fs::write(place.config(), "{}").unwrap();
    let (code, text) = place.onboard(&http(&hub), "a", &[]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("is there already") && text.contains("--force"), "{text}");
    assert_eq!(fs::read_to_string(place.config()).unwrap(), "{}");
    hub.register("a");
}

#[test]
fn a_second_run_says_that_nothing_is_left_to_do() {
    let (hub, place) = (Hub::start(), Place::new());
    place.onboard(&http(&hub), "a", &[]);
    let before = fs::read(place.config()).unwrap();
    let (code, text) = place.onboard(&http(&hub), "a", &[]);
    assert!(code == Some(78) && text.contains("this agent is onboarded, and nothing is left to do"), "{text}");
    assert_eq!(fs::read(place.config()).unwrap(), before);
}

#[test]
fn a_hub_that_says_no_leaves_no_folder_either() {
    let (hub, place) = (Hub::start(), Place::new());
    hub.register("a");
    let config = place.folder.path().join("new/deep/config.json").display().to_string();
    let (code, text) = place.onboard_at(&http(&hub), "a", &config, &[]);
    assert!(code == Some(69) && text.contains("Nothing was written"), "{code:?}: {text}");
    assert!(place.names().is_empty(), "{:?}", place.names());
}

#[test]
fn a_folder_is_no_configuration_and_nothing_is_registered_for_it() {
    let (hub, place) = (Hub::start(), Place::new());
    for config in [place.folder.path().display().to_string(), format!("{}/new/", place.folder.path().display())] {
        let (code, text) = place.onboard_at(&http(&hub), "a", &config, &["--force"]);
        assert!(code == Some(2) && text.contains("is a folder; name the file"), "{code:?}: {text}");
    }
    let (code, text) = place.onboard(&http(&hub), "a", &[]);
    assert_eq!(code, Some(0), "the name was taken: {text}");
}

#[test]
fn force_replaces_it() {
    let (hub, place) = (Hub::start(), Place::new());
    fs::write(place.config(), "{}").unwrap();
    let (code, text) = place.onboard(&http(&hub), "a", &["--force"]);
    assert_eq!((code, mode(&place.config())), (Some(0), 0o600), "{text}");
    assert_eq!(place.written()["agent_id"], "a");
}

#[test]
fn a_name_that_is_taken_is_said_with_the_ways_out_and_the_hub_s_own_token_is_one() {
    let (hub, first, place) = (Hub::start(), Place::new(), Place::new());
    // Openly, as a stranger does: the hub makes no second token beside the one that it gave then.
    assert_eq!(first.onboard(&http(&hub), "a", &[]).0, Some(0));
    let (code, text) = place.onboard(&http(&hub), "a", &[]);
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains("agentcom-hub token a --replace") && text.contains("--token-file"), "{text}");
    assert!(!place.config().exists());

    let mut command = Command::new(env!("CARGO_BIN_EXE_agentcom-hub"));
    command.args(["token", "a", "--replace", "--data"]).arg(hub.data());
    let (status, made) = process::run(command, wait::BOUND);
    assert!(status.success(), "{made}");
    let token = place.folder.path().join("token");
    fs::write(&token, made).unwrap();
    let (code, text) = place.onboard(&http(&hub), "a", &["--token-file", token.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("a has a token for"), "{text}");
}

#[test]
fn another_agent_s_token_is_not_taken() {
    let (hub, place) = (Hub::start(), Place::new());
    let (theirs, token) = (hub.register("b"), place.folder.path().join("token"));
    fs::write(&token, &theirs).unwrap();
    let (code, text) = place.onboard(&http(&hub), "a", &["--token-file", token.to_str().unwrap()]);
    assert!(code == Some(69) && text.contains("another agent's, not a's") && !text.contains(&theirs), "{text}");
    fs::write(&token, "nonsense").unwrap();
    let (code, text) = place.onboard(&http(&hub), "a", &["--token-file", token.to_str().unwrap()]);
    assert!(code == Some(69) && text.contains("it does not know it") && !place.config().exists(), "{text}");
}

/// The code of a new invitation for one agent of this name.
fn invitation(hub: &Hub, name: &str) -> String {
    let (status, made) = hub.post("/api/v1/invitations", &json!({"agent_id": name}));
    assert_eq!(status, 201, "{made}");
    made["invitation"].as_str().unwrap().to_owned()
}

#[test]
fn an_invitation_is_enough_where_registration_is_closed() {
    let (hub, place) = (Hub::start_with(&["--closed-registration"]), Place::new());
    let (code, text) = place.onboard(&http(&hub), "a", &[]);
    assert!(code == Some(69) && text.contains("--invitation") && text.contains("AGENTCOM_INVITATION"), "{text}");

    let (by_word, by_file, by_variable) = (invitation(&hub, "a"), invitation(&hub, "b"), invitation(&hub, "c"));
    let (code, text) = place.onboard(&http(&hub), "a", &["--invitation", &by_word]);
    assert_eq!((code, text.contains(&by_word)), (Some(0), false), "{text}");
    let token = place.token().unwrap();
    assert_eq!(hub.call("GET", "/api/admin/agents/a/restarts", Some(&token), None).0, 200);

    let file = place.folder.path().join("invitation");
    fs::write(&file, format!("invitation for b: {by_file}\n")).unwrap();
    let words = ["--force", "--invitation-file", file.to_str().unwrap()];
    let (code, text) = place.onboard(&http(&hub), "b", &words);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = place.onboard(&http(&hub), "bb", &words);
    assert!(code == Some(69) && text.contains("invitation_used_up") && text.contains("use another"), "{text}");

    let mut command = Command::new(SIDECAR);
    command.args(["onboard", "--hub", &http(&hub), "--name", "c", "--force", "--config"]).arg(place.config());
    command.env_remove("AGENTCOM_TOKEN").env("AGENTCOM_ADMIN_TOKEN", "wrong").env("AGENTCOM_INVITATION", &by_variable);
    let (status, text) = process::run(command, wait::BOUND);
    assert!(status.success() && !text.contains(&by_variable), "{text}");
    assert_eq!(place.written()["agent_id"], "c");
}

#[test]
fn a_hub_that_is_not_there_leaves_no_configuration() {
    let place = Place::new();
    // Bound and let go of: nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, text) = place.onboard(&format!("http://{free}"), "a", &[]);
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains(&free.to_string()) && text.contains("is the hub running, and is the port right?"), "{text}");
    assert!(!place.config().exists());
}

#[test]
fn no_token_is_asked_for_that_could_not_be_kept() {
    let (hub, place) = (Hub::start(), Place::new());
    fs::write(place.folder.path().join("results"), "a file").unwrap();
    let (code, text) = place.onboard(&http(&hub), "a", &[]);
    assert!(code == Some(74) && text.contains("results") && text.contains("Nothing was registered"), "{text}");
    hub.register("a");
}

#[test]
fn a_hub_behind_tls_is_onboarded_at_and_checked_when_its_certificate_is_trusted() {
    let (hub, place) = (Hub::start(), Place::new());
    let door = TlsDoor::before(hub.address());
    let (code, text) = place.onboard(&door.url(), "a", &[]);
    assert!(code == Some(69) && text.contains("unknown issuer"), "{text}");

    let trusted = place.folder.path().join("ca.pem");
    fs::write(&trusted, door.pem()).unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(SIDECAR);
        command.args(args).arg("--config").arg(place.config()).env("SSL_CERT_FILE", &trusted);
        command.env("PM2_HOME", place.folder.path()).env_remove("AGENTCOM_CONFIG").env_remove("AGENTCOM_TOKEN");
        process::run(command, wait::BOUND)
    };
    let (status, text) = run(&["onboard", "--hub", &door.url(), "--name", "a", "--wake-command", "true"]);
    assert!(status.success(), "{text}");
    assert_eq!(place.written()["hub_url"], format!("{}/ws", door.url().replace("https", "wss")));
    let (status, text) = run(&["check"]);
    assert!(status.success() && text.contains("hub tls      its certificate is trusted on this machine"), "{text}");
    assert!(text.contains("takes it as \"a\"'s"), "{text}");
}

#[test]
fn the_hub_s_own_command_can_be_piped_in() {
    let (hub, place) = (Hub::start(), Place::new());
    let token = hub.token("a", false);
    let mut shell = Command::new("sh");
    let line = "echo \"token for a: $TOKEN\" | \"$0\" onboard --hub \"$1\" --name a --config \"$2\" --token-file -";
    shell.args(["-c", line, SIDECAR, &http(&hub)]).arg(place.config()).env("TOKEN", &token);
    let (status, text) = process::run(shell, wait::BOUND);
    assert!(status.success() && !text.contains(&token), "{text}");
    assert_eq!(place.token(), Some(token));
}
