//! The real sidecar seen over HTTP, told to read its configuration again, and its log in a terminal.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::support::process::{Running, Signal};
use crate::support::scene::Scene;
use crate::support::{prometheus, wait};
use agentcom::sidecar::config::{KEYS, NUMBERS};
use serde_json::{Value, json};

/// Where the newest run says that it listens.
fn address(scene: &Scene) -> SocketAddr {
    let lines = || {
        let lines = scene.agent.log_lines().into_iter();
        lines.filter(|line| line["message"] == "the local HTTP listener is open").collect::<Vec<_>>()
    };
    let probe = || lines().last().and_then(|line| line["address"].as_str()?.parse().ok());
    wait::until_or("the HTTP listener", wait::BOUND, probe, || scene.agent.story())
}

/// A sidecar with an HTTP listener on a port of its own.
fn listening() -> (Scene, Running, SocketAddr) {
    let scene = Scene::new();
    scene.agent.configure("http_listen", json!("127.0.0.1:0"));
    let sidecar = scene.start();
    let address = address(&scene);
    (scene, sidecar, address)
}

/// One request, as it stands; status and body.
fn send(address: SocketAddr, request: &str) -> (u16, String) {
    try_send(address, request).unwrap()
}

fn try_send(address: SocketAddr, request: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(wait::BOUND))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other(format!("no answer: {answer:?}")))?;
    Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
}

/// Waits until the sidecar answers there. (A socket that this process has closed may be held a moment longer, by a child of
/// another test that is about to become another program: it accepts, and answers nothing.)
fn wait_for_answers(address: SocketAddr) {
    let live =
        || try_send(address, "GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").is_ok_and(|(status, _)| status == 200);
    wait::until_true("the listener", live);
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"))
}

fn figure(address: SocketAddr, name: &str, label: Option<(&str, &str)>) -> f64 {
    let (status, text) = get(address, "/metrics");
    assert_eq!(status, 200);
    let families = prometheus::parse(&text).unwrap();
    let samples = &families.get(name).unwrap_or_else(|| panic!("no {name} in\n{text}")).samples;
    let sample = samples.iter().find(|sample| label.is_none_or(|(key, value)| sample.label(key) == Some(value)));
    sample.unwrap_or_else(|| panic!("no sample {label:?} of {name} in\n{text}")).value
}

#[test]
fn prometheus_reads_what_happens() {
    let (scene, _sidecar, address) = listening();
    scene.agent.configure("ping_interval_ms", json!(100));
    assert_eq!(scene.agent.operate(&["reload"]).0, 0);
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    let phase = |name| figure(address, "agentcom_sidecar_phase", Some(("phase", name)));
    wait::until_true("the phase", || phase("Working") == 1.0 && phase("Idle") == 0.0);
    assert_eq!(figure(address, "agentcom_sidecar_task_in_hand", None), 1.0);
    wait::until_true("some age", || figure(address, "agentcom_sidecar_task_age_seconds", None) > 0.0);
    scene.agent.go("run", &task);
    scene.done_once(&task);
    let completed = || figure(address, "agentcom_sidecar_tasks_total", Some(("verdict", "completed")));
    wait::until_true("the verdict", || completed() == 1.0);
    assert_eq!(figure(address, "agentcom_sidecar_hub_up", None), 1.0);
    assert!(figure(address, "process_resident_memory_bytes", None) > 1e6);
    assert!(figure(address, "process_start_time_seconds", None) > 1e9);
}

#[test]
fn ready_says_why_not_and_live_says_that_it_lives() {
    let (scene, _sidecar, address) = listening();
    assert_eq!(get(address, "/ready"), (200, "ready\n".into()));
    assert_eq!(scene.agent.operate(&["drain"]).0, 0);
    let (status, why) = get(address, "/ready");
    // A hub that cannot be told is left as well.
    assert_eq!((status, why.contains("draining: an operator")), (503, true), "{why}");
    assert_eq!(get(address, "/live"), (200, "live\n".into()));
    assert_eq!(scene.agent.operate(&["resume"]).0, 0);
    wait::until_true("ready again", || get(address, "/ready").0 == 200);
}

#[test]
fn state_is_the_document_of_status() {
    let (scene, sidecar, address) = listening();
    let (status, text) = get(address, "/state");
    let state: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &state["process"]["pid"]), (200, &json!(sidecar.pid())));
    let told = scene.agent.status();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&state), keys(&told));
    let token = std::fs::read_to_string(scene.agent.config_file()).unwrap();
    let token = serde_json::from_str::<Value>(&token).unwrap()["token"].as_str().unwrap().to_owned();
    assert!(!text.contains(&token));
}

#[test]
fn what_it_does_not_serve_it_refuses() {
    let (_scene, _sidecar, address) = listening();
    assert_eq!(get(address, "/").0, 404);
    assert_eq!(send(address, "GET /state HTTP/1.1\r\nHost: page.example\r\n\r\n").0, 403);
    assert_eq!(get(address, "/metrics/").0, 404);
    let post = "POST /state HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(send(address, post).0, 405);
    assert_eq!(send(address, "HEAD /live HTTP/1.1\r\nHost: localhost\r\n\r\n"), (200, String::new()));
    assert_eq!(send(address, "rubbish\r\n\r\n").0, 400);
    let long = format!("GET /live HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(60_000));
    // Refused, or cut off in the middle of it.
    let mut stream = TcpStream::connect(address).unwrap();
    let _ = stream.write_all(long.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(get(address, "/live").0, 200);
}

#[test]
fn a_caller_who_never_finishes_is_left_and_holds_nobody_up() {
    let (scene, _sidecar, address) = listening();
    let mut slow: Vec<_> = (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
    slow.iter_mut().for_each(|stream| stream.write_all(b"GET /live HT").unwrap());
    assert_eq!(get(address, "/live").0, 200);
    let task = scene.hub.submit("");
    scene.done_once(&task);
    for mut stream in slow {
        stream.set_read_timeout(Some(wait::BOUND)).unwrap();
        let mut rest = Vec::new();
        // The end, in whatever form; not the test's own patience.
        let ended = stream.read_to_end(&mut rest);
        assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    }
}

#[test]
fn a_port_that_is_taken_is_a_warning_and_taken_once_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let scene = Scene::new();
    scene.agent.configure("http_listen", json!(address));
    let _sidecar = scene.start();
    scene.agent.wait_log("the warning", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("`http_listen` is taken")).then_some(())
    });
    let task = scene.hub.submit("");
    scene.done_once(&task);
    drop(taken);
    wait_for_answers(address);
}

#[test]
fn it_listens_on_the_same_port_after_a_restart_and_tells_the_gap() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let scene = Scene::new();
    scene.agent.configure("http_listen", json!(address));
    let _sidecar = scene.start();
    wait_for_answers(address);
    // A connection that is open across the restart.
    let _idle = TcpStream::connect(address).unwrap();
    assert_eq!(scene.agent.operate(&["restart", "--wait"]).0, 0);
    wait_for_answers(address);
    assert!(figure(address, "agentcom_sidecar_last_restart_gap_seconds", None) > 0.0);
    assert_eq!(figure(address, "agentcom_sidecar_recent_restarts", Some(("forced", "false"))), 1.0);
}

/// What the machine is and holds, without what passes with time.
fn standing(status: &Value) -> Value {
    let task = json!([status["task"]["task_id"], status["task"]["generation"], status["task"]["stage"]]);
    let hub = json!([status["hub"]["link"], status["hub"]["reconnects"]]);
    json!([
        status["phase"],
        status["draining"],
        task,
        hub,
        status["leaving"],
        status["counts"],
        status["process"]["boot_id"]
    ])
}

#[test]
fn a_reload_changes_figures_and_never_where_it_stands() {
    let scene = Scene::new();
    scene.agent.configure("log_level", json!("info"));
    let _sidecar = scene.start();
    let task = scene.hub.submit("run=hold");
    scene.agent.wait_run(&task, "started");
    let running = || Some(scene.agent.status()).filter(|status| status["task"]["stage"] == "running");
    let before = wait::until("the task to run", running);
    let moves = || scene.agent.log_lines().iter().filter(|line| line["message"] == "moved").count();
    let moved = moves();
    scene.agent.configure("ping_interval_ms", json!(150));
    scene.agent.configure("restart_deadline_ms", json!(700));
    scene.agent.configure("token", json!("another-token"));
    let (code, text) = scene.agent.operate(&["reload"]);
    let said = "reloaded: restart_deadline_ms, ping_interval_ms; only a restart changes: token\n";
    assert_eq!((code, text.as_str()), (0, said));
    assert_eq!(standing(&scene.agent.status()), standing(&before));
    assert_eq!(moves(), moved);
    // The new deadline counts for what begins from now on.
    assert_eq!(scene.agent.operate(&["restart"]).0, 0);
    let left = scene.agent.status()["leaving"]["deadline_in_ms"].as_u64();
    assert!(left.is_none_or(|ms| ms <= 700), "{left:?}");
    scene.hub.wait("the end of the run", |log| log.iter().find_map(|entry| entry.said("agent_restarting").map(|_| ())));
}

#[test]
fn a_sighup_reads_the_configuration_again() {
    let scene = Scene::new();
    scene.agent.configure("log_level", json!("info"));
    let sidecar = scene.start();
    scene.agent.configure("log_level", json!("debug"));
    sidecar.signal(Signal::HUP);
    scene.agent.wait_log("the reload", |line| {
        (line["message"] == "the configuration was reloaded" && line["changed"] == "log_level").then_some(())
    });
    let task = scene.hub.submit("");
    scene.done_once(&task);
    scene.agent.wait_log("a line at debug", |line| (line["level"] == "DEBUG").then_some(()));
}

/// One more value of each key than the stage has.
fn another_value(key: &str) -> Value {
    // The others' least is more than the stage's most.
    if key == "reconnect_min_ms" {
        return json!(21);
    }
    if let Some(number) = NUMBERS.iter().find(|number| number.key == key) {
        return json!(number.default + 1);
    }
    match key {
        "hub_url" => json!("ws://127.0.0.1:1/ws"),
        "hub_api_url" => json!("http://127.0.0.1:1"),
        "log_level" => json!("trace"),
        "log_format" => json!("text"),
        "http_listen" => json!("127.0.0.1:0"),
        "http_allow_remote" => json!(true),
        "capabilities" => json!(["cooking"]),
        "labels" => json!({"pool": "another"}),
        "wake_retry_delays_ms" => json!([1, 2, 3, 4]),
        "restart_intensity" => json!({"max": 777}),
        "executors" => json!({"x": {"command": "true"}}),
        "shell_commands" => json!({"enabled": true}),
        "hooks" => json!({"on_task_result": "true"}),
        "resource_report_interval_ms" | "task_timeout_ms" => json!(1_500),
        // The texts.
        _ => json!("another"),
    }
}

/// At the socket that was there at the start, whatever `queue_file` says by now.
fn reload(socket: &std::path::Path) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(wait::BOUND)).unwrap();
    stream.write_all(b"{\"op\":\"reload\"}\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["answer"]["ok"], json!(true), "{answer}");
    answer["answer"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_reload_names_every_key_that_was_changed() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    let socket = scene.agent.socket();
    let before = std::fs::read(scene.agent.config_file()).unwrap();
    for key in KEYS {
        match *key {
            // The two exclude each other, and so does one half of a client certificate the configuration.
            "token_file" => {
                std::fs::write(scene.agent.path("another"), "another").unwrap();
                scene.agent.configure("token", Value::Null);
            }
            "client_cert_file" => scene.agent.configure("client_key_file", another_value(key)),
            "client_key_file" => scene.agent.configure("client_cert_file", another_value(key)),
            _ => {}
        }
        scene.agent.configure(key, another_value(key));
        let (first, again) = (reload(&socket), reload(&socket));
        let parts = |text: &str| {
            let text = text.lines().next().unwrap().strip_prefix("reloaded: ").unwrap().to_owned();
            let (changed, kept) = text.split_once("; only a restart changes: ").unwrap_or((&text, ""));
            [changed, kept].map(|keys| keys.split(", ").map(str::to_owned).collect::<Vec<_>>())
        };
        let named = |text: &str| parts(text).map(|keys| keys.contains(&(*key).to_owned()));
        // In force at once, and no change any more; or kept for a restart, and named as often as one asks.
        match named(&first) {
            [true, false] => assert_eq!(named(&again), [false, false], "{key}: {again}"),
            [false, true] => assert_eq!(named(&again), [false, true], "{key}: {again}"),
            other => panic!("{key} is not named once: {other:?} in {first}"),
        }
        std::fs::write(scene.agent.config_file(), &before).unwrap();
        reload(&socket);
    }
    scene.agent.wait_log("the log names it too", |line| {
        (line["message"] == "the configuration was reloaded" && line["need_restart"] == "http_allow_remote")
            .then_some(())
    });
}

#[test]
fn a_configuration_with_an_error_changes_nothing_and_says_which() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    scene.agent.configure("ping_interval_ms", json!(1));
    scene.agent.configure("log_level", json!("loud"));
    let before = scene.agent.operate(&["resume"]);
    // The command line reads the same file, and stops at it; whoever asks by signal or socket hears it from the sidecar.
    assert_eq!(before.0, 78);
    let mut stream = std::os::unix::net::UnixStream::connect(scene.agent.socket()).unwrap();
    stream.write_all(b"{\"op\":\"reload\"}\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let message = answer["answer"]["message"].as_str().unwrap();
    assert_eq!(answer["answer"]["ok"], json!(false));
    assert!(message.starts_with("nothing has changed: 2 wrong values") && message.contains("`log_level`"), "{message}");
    assert!(message.contains("`ping_interval_ms`: found the number 1; allowed: a whole number from 100"), "{message}");
    let task = scene.hub.submit("");
    scene.done_once(&task);
}

#[test]
fn what_a_flag_says_stays_whatever_the_file_says() {
    let scene = Scene::new();
    scene.agent.configure("log_format", json!("json"));
    let sidecar = scene.start_with_args(&["--log-format", "text"]);
    scene.agent.configure("log_format", json!("auto"));
    let (code, text) = scene.agent.operate(&["reload"]);
    assert_eq!((code, text.as_str()), (0, "reloaded: nothing that can change at run time differs\n"));
    let first = sidecar.stdout().lines().next().unwrap().to_owned();
    assert!(
        first.ends_with("Z INFO  the sidecar starts") || first.contains("Z INFO  the sidecar starts  version="),
        "{first}"
    );
    // The file is for programs, whatever stdout is.
    assert!(scene.agent.log_lines().iter().any(|line| line["message"] == "the sidecar starts"));
}

/// Runs it in a terminal of its own; answers what the terminal showed.
fn in_a_terminal(scene: &Scene, no_color: bool) -> String {
    let run = format!(
        "{}exec {} run --config {}",
        if no_color { "NO_COLOR=1 " } else { "" },
        crate::support::sidecar::SIDECAR,
        scene.agent.config_file().display()
    );
    let mut command = std::process::Command::new("script");
    command
        .args(["-qefc", &run, "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .env_remove("AGENTCOM_CONFIG");
    let name = if no_color { "plain" } else { "colour" };
    let terminal = Running::start(command, scene.agent.folder(), name);
    wait::until_or(
        "a line of text",
        wait::BOUND,
        || terminal.stdout().contains("the sidecar starts").then_some(()),
        || terminal.output(),
    );
    terminal.stdout()
}

#[test]
fn in_a_terminal_the_log_is_text_in_colour_unless_that_is_not_wanted() {
    let scene = Scene::new();
    assert!(in_a_terminal(&scene, false).contains("\u{1b}[32mINFO\u{1b}[0m  the sidecar starts"));
    let scene = Scene::new();
    let plain = in_a_terminal(&scene, true);
    assert!(!plain.contains('\u{1b}') && plain.contains("Z INFO  the sidecar starts"), "{plain}");
}
