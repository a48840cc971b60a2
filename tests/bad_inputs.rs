//! What goes wrong, row by row: each bad input is given to the real binary, which must say what is wrong, where, and what
//! to do, and end with the documented code. No message may hold the token.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use support::process;
use support::sidecar::SIDECAR;
use support::wait;
use support::web::Web;

const TOKEN: &str = "t0ken-that-nobody-may-see";

/// One bad input. In `args`, file texts and expectations `{dir}` is the row's own folder, `{web}` a web server that
/// misbehaves by the first part of its path, `{gone}` an address where nobody listens; in `args`, `%20` is a space and
/// `%00` an empty word.
struct Row {
    args: &'static str,
    /// `name` and text. A text `<dir>` makes a folder, `<link> x` a symbolic link to x.
    files: &'static [(&'static str, &'static str)],
    env: &'static [(&'static str, &'static str)],
    code: i32,
    /// What is wrong, where, and what to do.
    says: [&'static str; 3],
}

const RUN: &str = "run --config {dir}/config.json";
const GOOD: &str =
    r#"{"agent_id": "a", "token": "t0ken-that-nobody-may-see", "hub_url": "ws://{gone}/ws", "wake_command": "true"}"#;

/// `run` with this text as configuration.
macro_rules! config {
    ($text:expr, $says:expr) => {
        Row { args: RUN, files: &[("config.json", $text)], env: &[], code: 78, says: $says }
    };
}

/// `run` with these members on top of a good configuration, on line 2.
macro_rules! with {
    ($members:expr, $says:expr) => {
        config!(
            concat!(
                r#"{"agent_id": "a", "token": "t0ken-that-nobody-may-see", "hub_url": "ws://h/ws", "wake_command": "true","#,
                "\n",
                $members,
                "}"
            ),
            $says
        )
    };
}

/// The command line alone, beside a good configuration.
macro_rules! line {
    ($args:expr, $code:expr, $says:expr) => {
        Row { args: $args, files: &[("config.json", GOOD)], env: &[], code: $code, says: $says }
    };
}

static WEB: LazyLock<Web> = LazyLock::new(|| {
    Web::start(|path, _| {
        let health = r#"{"status":"ok","service":"agent_com"}"#.to_owned();
        match path.trim_start_matches('/').split_once('/').unwrap_or((path, "")) {
            ("ssh", _) => (0, "SSH-2.0-OpenSSH_9.2\r\n".into()),
            ("shop", _) => (200, "<html>Welcome to our shop</html>".into()),
            ("moved", _) => (301, String::new()),
            (_, "health") => (200, health),
            ("guarded", _) => (401, r#"{"error":"unauthorized","hint":"an admin registers agents here"}"#.into()),
            ("odd-name", _) => {
                (422, r#"{"error":"validation_failed","errors":[{"detail":"no hyphens, please"}]}"#.into())
            }
            ("broken", _) => (500, r#"{"error":"the disk is full"}"#.into()),
            ("mute", _) => (201, "{}".into()),
            _ => (404, r#"{"error":"not_found"}"#.into()),
        }
    })
});

/// An address that was free a moment ago.
static GONE: LazyLock<String> =
    LazyLock::new(|| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string());

impl Row {
    /// What is not as it should be; `None` when all is.
    fn complaint(&self) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().display().to_string();
        let filled = |text: &str| text.replace("{dir}", &dir).replace("{web}", &WEB.url()).replace("{gone}", &GONE);
        for (name, text) in self.files {
            let path = folder.path().join(name);
            match (*text, text.strip_prefix("<link> ")) {
                ("<dir>", _) => fs::create_dir_all(path).unwrap(),
                (_, Some(target)) => std::os::unix::fs::symlink(filled(target), path).unwrap(),
                (text, None) => fs::write(path, filled(text)).unwrap(),
            }
        }
        let words: Vec<String> =
            self.args.split(' ').map(|word| filled(word).replace("%20", " ").replace("%00", "")).collect();
        let mut command = Command::new(SIDECAR);
        command.args(&words).current_dir(folder.path()).env("PM2_HOME", folder.path().join("no-pm2"));
        for inherited in
            ["pm_id", "name", "PM2_PROCESS_NAME", "AGENTCOM_CONFIG", "AGENTCOM_TOKEN", "AGENTCOM_ADMIN_TOKEN"]
        {
            command.env_remove(inherited);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, filled(value))));
        let (status, text) = process::run(command, wait::BOUND);
        let missing = self.says.iter().map(|words| filled(words)).find(|words| !text.contains(words.as_str()));
        let mut wrong = Vec::new();
        wrong.extend(missing.map(|words| format!("does not say {words:?}")));
        wrong
            .extend((status.code() != Some(self.code)).then(|| format!("ended with {status}, expected {}", self.code)));
        wrong.extend(text.contains(TOKEN).then(|| "shows the token".to_owned()));
        wrong.extend(text.contains("panicked").then(|| "panicked".to_owned()));
        (!wrong.is_empty()).then(|| format!("{words:?} with {:?}: {}\n{text}", self.files, wrong.join("; ")))
    }
}

fn judge(rows: &[Row]) {
    let complaints: Vec<_> = rows.iter().filter_map(Row::complaint).collect();
    assert!(complaints.is_empty(), "{} of {} rows:\n\n{}", complaints.len(), rows.len(), complaints.join("\n"));
}

#[test]
fn files_that_are_no_configuration() {
    judge(&[
        Row {
            args: RUN,
            files: &[],
            env: &[],
            code: 78,
            says: ["cannot read the configuration", "{dir}/config.json", "write one, or name yours with --config"],
        },
        config!("<dir>", ["cannot read the configuration", "{dir}/config.json", "name another with --config"]),
        Row {
            args: "run",
            files: &[],
            env: &[("AGENTCOM_CONFIG", "{dir}/none.json")],
            code: 78,
            says: ["cannot read", "{dir}/none.json", "AGENTCOM_CONFIG"],
        },
        config!("", ["the file is empty", "{dir}/config.json:1:1", "docs/configuration.md has one to begin with"]),
        config!("[1]", ["one JSON object", "{dir}/config.json", "allowed"]),
        config!(
            "{\n  \"agent_id\": \"a\"\n  \"token\"}",
            ["not valid JSON", "{dir}/config.json:3:3", "expected `,` or `}`"]
        ),
        config!("{\"agent_id\": \"a\",}", ["not valid JSON", "{dir}/config.json:1:", "trailing"]),
    ]);
}

#[test]
fn bytes_that_are_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let said = |bytes: &[u8]| {
        let file = folder.path().join("config.json");
        fs::write(&file, bytes).unwrap();
        let mut command = Command::new(SIDECAR);
        command.args(["run", "--config"]).arg(file);
        let (status, text) = process::run(command, wait::BOUND);
        assert_eq!(status.code(), Some(78), "{text}");
        text
    };
    assert!(said(b"{\n\"agent_id\": \"\xe4\"}").contains("config.json:2: not UTF-8; save the file as UTF-8"));
    assert!(said(&vec![b' '; 2 << 20]).contains("is larger than 1048576 bytes: is it the right file?"));
}

#[test]
fn wrong_values_in_the_configuration() {
    judge(&[
        config!(
            r#"{"token": "t0ken-that-nobody-may-see", "hub_url": "ws://h/ws"}"#,
            ["`agent_id`: found no such key", "{dir}/config.json", "allowed: a text of 1 to 128"]
        ),
        config!(
            r#"{"agent_id": "a", "hub_url": "ws://h/ws"}"#,
            ["`token`: found no such key", "{dir}/config.json", "that the hub gave at registration"]
        ),
        config!(
            r#"{"agent_id": "a", "token": "t0ken-that-nobody-may-see"}"#,
            ["`hub_url`: found no such key", "{dir}/config.json", "ws://localhost:4000/ws"]
        ),
        config!(
            r#"{"agent_id": "a", "token": ["t0ken-that-nobody-may-see"], "hub_url": "ws://h/ws"}"#,
            ["`token`: found", "{dir}/config.json:1:28", "allowed: the text"]
        ),
        config!(
            r#"{"agent_id": "a", "token": " t0ken-that-nobody-may-see", "hub_url": "ws://h/ws"}"#,
            ["white space", "{dir}/config.json:1:28", "allowed: the text"]
        ),
        config!(
            r#"{"agent_id": "a", "token": "t0ken-that-nobody-may-see", "hub_url": "t0ken-that-nobody-may-see"}"#,
            ["`hub_url`: found", "{dir}/config.json:1:", "ws://localhost:4000/ws"]
        ),
        with!(
            r#""agent_id": 7"#,
            ["`agent_id`: found the number 7", "{dir}/config.json:2:13", "a text of 1 to 128 characters"]
        ),
        with!(
            r#""agent_id": "a\u0007b""#,
            ["`agent_id`: found", "{dir}/config.json:2:13", "without control characters"]
        ),
        with!(
            r#""hub_url": "https://h/ws""#,
            ["`hub_url`: found \"https://h/ws\"", "{dir}/config.json:2:12", "write wss:// instead of https://"]
        ),
        with!(
            r#""hub_url": "ftp://h""#,
            ["`hub_url`: found \"ftp://h\"", "{dir}/config.json:2:12", "wss://hub.example/ws"]
        ),
        with!(
            r#""hub_url": "ws://me:hunter2@h/ws""#,
            ["an address with credentials in it", "{dir}/config.json:2:12", "the token has a key of its own"]
        ),
        with!(
            r#""hub_url": "ws:///ws""#,
            ["`hub_url`: found", "{dir}/config.json:2:12", "allowed: a WebSocket address"]
        ),
        with!(r#""hub_api_url": "ws://h""#, ["`hub_api_url`: found", "{dir}/config.json:2:16", "http:// or https://"]),
        with!(
            r#""log_level": "loud""#,
            ["`log_level`: found \"loud\"", "{dir}/config.json:2:14", "one of debug, info"]
        ),
        with!(
            r#""capabilities": "code""#,
            ["`capabilities`: found", "{dir}/config.json:2:17", "[\"code\", \"review\"]"]
        ),
        with!(
            r#""capabilities": ["a", 1]"#,
            ["`capabilities[1]`: found the number 1", "{dir}/config.json:2:23", "a list of texts"]
        ),
        with!(
            r#""wake_command": 7"#,
            ["`wake_command`: found the number 7", "{dir}/config.json:2:17", "allowed: a text"]
        ),
        with!(
            r#""restart_intensity": 3"#,
            ["`restart_intensity`: found the number 3", "{dir}/config.json:2:22", "{\"max\": 3, \"window_ms\": 60000}"]
        ),
        with!(
            r#""restart_intensity": {"max": -1}"#,
            ["`restart_intensity.max`: found the number -1", "{dir}/config.json:2:30", "from 0 to 1000"]
        ),
        with!(
            r#""wake_retry_delays_ms": "5 s""#,
            ["`wake_retry_delays_ms`: found the text", "{dir}/config.json:2:25", "[] means no retry"]
        ),
        with!(
            r#""wake_retry_delays_ms": [2.5]"#,
            ["`wake_retry_delays_ms[0]`: found the number 2.5", "{dir}/config.json:2:26", "a whole number"]
        ),
        with!(
            r#""wake_retry_delays_ms": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]"#,
            ["found 17 delays", "{dir}/config.json:2:25", "at most 16"]
        ),
        with!(
            r#""drain_deadline_ms": "5 s""#,
            ["`drain_deadline_ms`: found the text \"5 s\"", "{dir}/config.json:2:22", "from 100 to 60000"]
        ),
        with!(
            r#""drain_deadline_ms": 50"#,
            ["`drain_deadline_ms`: found the number 50", "{dir}/config.json:2:22", "from 100 to 60000"]
        ),
        with!(
            r#""ping_interval_ms": 60000"#,
            ["`ping_interval_ms`: found the number 60000", "{dir}/config.json:2:21", "to 55000"]
        ),
        with!(
            r#""reconnect_min_ms": 5000, "reconnect_max_ms": 1000"#,
            ["`reconnect_min_ms`: found 5000", "{dir}/config.json:2:21", "at most reconnect_max_ms"]
        ),
        with!(r#""results_dir": 7"#, ["`results_dir`: found the number 7", "{dir}/config.json:2:16", "allowed: a"]),
        with!(r#""queue_file": ["q"]"#, ["`queue_file`: found", "{dir}/config.json:2:15", "allowed: a"]),
    ]);
}

#[test]
fn wrong_command_lines() {
    judge(&[
        line!("runn", 2, ["unrecognized subcommand 'runn'", "similar subcommand", "'run'"]),
        line!("run --confg x", 2, ["unexpected argument '--confg'", "--config", "Usage: agentcom-sidecar run"]),
        line!("run --config", 2, ["a value is required for '--config <FILE>'", "--config", "--help"]),
        line!("run --log-level loud", 78, ["found \"loud\"", "`--log-level`", "one of debug, info"]),
        line!("--hub-url http://h/ws", 78, ["found \"http://h/ws\"", "`--hub-url`", "write ws:// instead of http://"]),
        Row {
            args: RUN,
            files: &[("config.json", GOOD)],
            env: &[("AGENTCOM_TOKEN", " t0ken-that-nobody-may-see")],
            code: 78,
            says: ["white space", "`AGENTCOM_TOKEN`", "allowed: the text"],
        },
        line!("machine --format xml", 2, ["invalid value 'xml'", "--format <FORMAT>", "table, mermaid, json"]),
        line!("completions tcsh", 2, ["invalid value 'tcsh'", "<SHELL>", "bash, elvish, fish, powershell, zsh"]),
        line!("completions", 2, ["required arguments were not provided", "<SHELL>", "--help"]),
        line!(
            "man nothing",
            2,
            ["no command is called \"nothing\"", "agentcom-sidecar", "the commands are: run, check"]
        ),
        line!("check --json --preflight", 2, ["cannot be used with", "--preflight", "Usage: agentcom-sidecar check"]),
        line!("onboard --name a", 2, ["required arguments were not provided", "--hub <URL>", "--help"]),
        line!("onboard --hub http://h", 2, ["required arguments were not provided", "--name <NAME>", "--help"]),
        line!(
            "onboard --hub http://h --name a --token-file x --admin-token-file y",
            2,
            ["cannot be used with", "--admin-token-file", "Usage"]
        ),
    ]);
}

/// An `onboard` in an empty folder.
macro_rules! onboard {
    ($args:expr, $files:expr, $code:expr, $says:expr) => {
        Row {
            args: concat!("onboard --config {dir}/config.json ", $args),
            files: $files,
            env: &[],
            code: $code,
            says: $says,
        }
    };
}

#[test]
fn onboardings_that_cannot_be() {
    judge(&[
        onboard!("--hub hub:4000 --name a", &[], 2, ["found \"hub:4000\"", "`--hub`", "http://localhost:4000"]),
        onboard!("--hub ftp://h --name a", &[], 2, ["found \"ftp://h\"", "`--hub`", "https://hub.example"]),
        onboard!(
            "--hub http://me:hunter2@h --name a",
            &[],
            2,
            ["credentials in it", "`--hub`", "allowed: an address such as"]
        ),
        onboard!("--hub http://h?x=1 --name a", &[], 2, ["has a `?` in it", "`--hub`", "allowed: an address such as"]),
        onboard!(
            "--hub http://h --name %00",
            &[],
            2,
            ["found a text that is empty", "`--name`", "1 to 128 characters"]
        ),
        onboard!("--hub http://h --name a%20", &[], 2, ["white space around it", "`--name`", "1 to 128 characters"]),
        onboard!(
            "--hub http://h --name aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            &[],
            2,
            ["a text of 129 characters", "`--name`", "1 to 128 characters"]
        ),
        onboard!(
            "--hub http://h --name a --token-file {dir}/none",
            &[],
            2,
            ["no token in", "{dir}/none", "the last word of that file"]
        ),
        onboard!(
            "--hub http://h --name a --token-file {dir}/empty",
            &[("empty", " \n")],
            2,
            ["there is no word in it", "{dir}/empty", "the last word of that file"]
        ),
        onboard!(
            "--hub http://{gone} --name a",
            &[],
            69,
            ["cannot connect to http://{gone}", "nothing listens there", "is the hub running, and is the port right?"]
        ),
        onboard!(
            "--hub http://no-such-hub.invalid --name a",
            &[],
            69,
            ["cannot be looked up", "no-such-hub.invalid", "is it spelled right"]
        ),
        onboard!(
            "--hub {web}/shop --name a",
            &[],
            69,
            ["is no AgentCom hub", "{web}/shop/health", "check the port and path of --hub"]
        ),
        onboard!(
            "--hub {web}/moved --name a",
            &[],
            69,
            ["answered HTTP 301", "{web}/moved/health", "check the port and path of --hub"]
        ),
        onboard!(
            "--hub {web}/ssh --name a",
            &[],
            69,
            ["did not answer as a web server", "{web}/ssh", "Nothing was written"]
        ),
        onboard!(
            "--hub {web}/guarded --name a",
            &[],
            69,
            ["an admin registers agents here", "{web}/guarded", "--admin-token-file"]
        ),
        Row {
            args: "onboard --config {dir}/config.json --hub {web}/guarded --name a",
            files: &[],
            env: &[("AGENTCOM_ADMIN_TOKEN", TOKEN)],
            code: 69,
            says: ["the admin token that was given", "{web}/guarded", "use another"],
        },
        onboard!(
            "--hub {web}/odd-name --name a-b",
            &[],
            69,
            ["no hyphens, please", "{web}/odd-name", "mend that and run this again"]
        ),
        onboard!(
            "--hub {web}/broken --name a",
            &[],
            69,
            ["HTTP 500, the disk is full", "{web}/broken", "run this again"]
        ),
        onboard!("--hub {web}/mute --name a", &[], 69, ["gave no token", "{web}/mute", "is it an AgentCom hub?"]),
        onboard!(
            "--hub {web}/mute --name a --token-file {dir}/t",
            &[("t", TOKEN)],
            69,
            ["does not take the token that was given", "{web}/mute", "--token-file"]
        ),
        onboard!(
            "--hub {web}/mute --name a",
            &[("config.json", "{}")],
            78,
            ["is there already", "{dir}/config.json", "--force"]
        ),
        onboard!(
            "--hub {web}/mute --name a",
            &[("config.json", GOOD)],
            78,
            ["it is a's at ws://{gone}/ws", "{dir}/config.json", "--force"]
        ),
        onboard!(
            "--hub {web}/mute --name a",
            &[("results", "")],
            74,
            ["cannot make", "{dir}/results", "name a configuration elsewhere"]
        ),
        Row {
            args: "onboard --config {dir}/file/config.json --hub {web}/mute --name a",
            files: &[("file", "")],
            env: &[],
            code: 74,
            says: ["cannot make", "{dir}/file", "Nothing was registered"],
        },
    ]);
}

#[test]
fn state_folders_that_cannot_be_used() {
    const ELSEWHERE: &str = r#"{"agent_id": "a", "token": "t0ken-that-nobody-may-see", "hub_url": "ws://{gone}/ws", "queue_file": "file/queue.json"}"#;
    judge(&[
        Row {
            args: RUN,
            files: &[("config.json", ELSEWHERE), ("file", "")],
            env: &[],
            code: 74,
            says: ["a file stands where", "{dir}/file", "set `queue_file` elsewhere"],
        },
        Row {
            args: RUN,
            files: &[("config.json", GOOD), ("queue.json.lock", "<dir>")],
            env: &[],
            code: 74,
            says: ["a folder stands where the file should be", "{dir}/queue.json.lock", "move it away"],
        },
        Row {
            args: RUN,
            files: &[("config.json", GOOD), ("queue.json", "<dir>")],
            env: &[],
            code: 74,
            says: ["a folder stands where the file should be", "{dir}/queue.json", "move it away"],
        },
        Row {
            args: RUN,
            files: &[("config.json", GOOD), ("queue.json", "<link> {dir}/queue.json")],
            env: &[],
            code: 74,
            says: ["cannot follow the links to", "{dir}/queue.json", "make the links lead to a file"],
        },
        Row {
            args: RUN,
            files: &[("config.json", GOOD), ("queue.json", r#"{"schema": 99}"#)],
            env: &[],
            code: 74,
            says: ["schema 99 is a newer sidecar's", "{dir}/queue.json", "start that version, or move the file away"],
        },
        Row {
            args: "check --preflight",
            files: &[("config.json", GOOD), ("queue.json", r#"{"schema": 99}"#)],
            env: &[],
            code: 74,
            says: ["schema 99 is a newer sidecar's", "{dir}/queue.json", "start that version"],
        },
        Row {
            args: "check --preflight",
            files: &[("config.json", GOOD), ("queue.json", r#"{"active": 7}"#)],
            env: &[],
            code: 74,
            says: [
                "makes no sense to this version: at active",
                "{dir}/queue.json",
                "mend it, or let `run` move it aside",
            ],
        },
        Row {
            args: "check --preflight",
            files: &[("config.json", ELSEWHERE), ("file", "")],
            env: &[],
            code: 74,
            says: ["a file stands where", "{dir}/file", "set `queue_file` elsewhere"],
        },
        Row {
            args: "check --preflight",
            files: &[("config.json", r#"{"agent_id": 7}"#)],
            env: &[],
            code: 78,
            says: ["`agent_id`: found the number 7", "{dir}/config.json:1:14", "1 to 128 characters"],
        },
    ]);
}

#[test]
fn what_check_calls_a_problem() {
    const MUDDLED: &str = r#"{"agent_id": "a", "token": "t0ken-that-nobody-may-see", "hub_url": "ws://{gone}/ws", "wake_command": "no-such-agent x", "results_dir": "file"}"#;
    judge(&[
        Row {
            args: "check",
            files: &[],
            env: &[],
            code: 78,
            says: ["problem  config", "config.json", "docs/configuration.md has every key"],
        },
        line!("check", 69, ["problem  hub tcp", "ws://{gone}/ws", "start the hub, or correct `hub_url`"]),
        line!(
            "check --hub-url ws://no-such-hub.invalid/ws",
            69,
            ["problem  hub name", "no-such-hub.invalid", "correct `hub_url`"]
        ),
        Row {
            args: "check",
            files: &[("config.json", MUDDLED), ("file", "")],
            env: &[],
            code: 69,
            says: ["problem  results", "{dir}/file", "set `results_dir` elsewhere"],
        },
        Row {
            args: "check",
            files: &[("config.json", MUDDLED)],
            env: &[],
            code: 69,
            says: ["problem  wake", "no `no-such-agent` on the PATH", "install it, or write its whole path"],
        },
        Row {
            args: "check",
            files: &[("config.json", GOOD), ("queue.json", "{")],
            env: &[],
            code: 74,
            says: ["problem  journal", "{dir}/queue.json", "move it aside"],
        },
    ]);
}

#[test]
fn a_second_copy() {
    let folder = tempfile::tempdir().unwrap();
    let config: PathBuf = folder.path().join("config.json");
    fs::write(&config, GOOD.replace("{gone}", &GONE)).unwrap();
    let _lock = agentcom::shell::lock::StateLock::acquire(
        &folder.path().join("queue.json"),
        Some("the first"),
        std::time::Duration::ZERO,
    )
    .unwrap();
    let mut command = Command::new(SIDECAR);
    command.args(["run", "--config"]).arg(&config);
    let (status, text) = process::run(command, wait::BOUND);
    assert_eq!(status.code(), Some(75), "{text}");
    for words in
        ["another copy serves this agent: \"the first\"", "queue.json.lock", "stop it first (pm2 ls, pm2 stop)"]
    {
        assert!(text.contains(words), "{words:?} in {text}");
    }
}
