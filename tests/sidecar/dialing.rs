//! The way to the hub of the real sidecar: what `status` says while it dials, proxies, and what is read again for each dial.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::scene::{ALICE, Scene};
use crate::support::sidecar::Agent;
use crate::support::wait;

/// A name that no resolver knows: only a proxy can lead to it.
const NOWHERE: &str = "hub.invalid";

/// An HTTP proxy that leads every tunnel to one place, if `answer` says 200. It keeps the heads of its requests.
struct HttpProxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl HttpProxy {
    fn to(place: SocketAddr, answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || carry(caller, place, answer, &kept));
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Serves one caller to its end; what fails ends it.
fn carry(caller: TcpStream, place: SocketAddr, answer: &str, kept: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(caller.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    kept.lock().ok()?.push(head);
    let mut caller = caller;
    caller.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).ok()?;
    let mut hub = TcpStream::connect(place).ok().filter(|_| answer.starts_with("200"))?;
    let (mut from_hub, mut to_caller) = (hub.try_clone().ok()?, caller.try_clone().ok()?);
    std::thread::spawn(move || std::io::copy(&mut from_hub, &mut to_caller));
    std::io::copy(&mut reader, &mut hub).ok()?;
    Some(())
}

/// An agent of the scene whose hub is only to be found through a proxy.
fn agent_behind_a_proxy(scene: &Scene) -> &Agent {
    scene.agent.configure("hub_url", json!(format!("ws://{NOWHERE}:4000/ws")));
    &scene.agent
}

/// Waits until the page of `status` holds all the words.
fn wait_page(agent: &Agent, words: &[&str]) -> String {
    let mut last = String::new();
    let probe = || {
        last = agent.operate(&["status"]).1;
        words.iter().all(|word| last.contains(word)).then(|| last.clone())
    };
    wait::until_or(&format!("{words:?} in the status"), wait::BOUND, probe, || agent.story())
}

fn hub_address(scene: &Scene) -> SocketAddr {
    scene.hub.url().trim_start_matches("ws://").trim_end_matches("/ws").parse().unwrap()
}

#[test]
fn a_hub_behind_a_proxy_is_reached_and_the_password_is_told_nobody() {
    let scene = Scene::new();
    let proxy = HttpProxy::to(hub_address(&scene), "200 Connection established");
    let agent = agent_behind_a_proxy(&scene);
    let variable = format!("http://me:hunter2%40home@{}", proxy.address);
    let _sidecar = agent.start_with(&[("http_proxy", &variable)]);
    scene.wait_online(1);
    let head = &proxy.heads()[0];
    assert!(head.starts_with("CONNECT hub.invalid:4000 HTTP/1.1\r\nHost: hub.invalid:4000\r\n"), "{head}");
    // `me:hunter2@home` in base64.
    assert!(head.contains("Proxy-Authorization: Basic bWU6aHVudGVyMkBob21l\r\n"), "{head}");
    let page = wait_page(agent, &["online", &format!("through the proxy http://{} (http_proxy)", proxy.address)]);
    let told = [page, agent.status().to_string(), std::fs::read_to_string(agent.path("sidecar.log")).unwrap()];
    assert!(told.iter().all(|text| !text.contains("hunter2") && !text.contains("bWU6aHVudGVyMk")), "{told:?}");
}

#[test]
fn a_proxy_that_refuses_is_told_with_its_status_and_what_to_do() {
    let scene = Scene::new();
    for (answer, expected) in [
        ("407 Proxy Authentication Required", "it wants credentials: write them into HTTP_PROXY"),
        ("403 Forbidden", "add hub.invalid to NO_PROXY"),
        ("502 Bad Gateway", "it cannot reach the hub"),
    ] {
        let proxy = HttpProxy::to(hub_address(&scene), answer);
        let agent = agent_behind_a_proxy(&scene);
        let mut sidecar = agent.start_with(&[("HTTP_PROXY", &proxy.address.to_string())]);
        wait_page(agent, &["the hub is away", &format!("with HTTP {answer}"), expected, "(HTTP_PROXY)"]);
        sidecar.kill9();
    }
}

#[test]
fn no_proxy_leaves_the_proxy_out() {
    let scene = Scene::new();
    let proxy = HttpProxy::to(hub_address(&scene), "200 OK");
    let agent = agent_behind_a_proxy(&scene);
    let address = proxy.address.to_string();
    let _sidecar = agent.start_with(&[("ALL_PROXY", &address), ("NO_PROXY", "10.0.0.0/8,.invalid")]);
    wait_page(agent, &["the hub is away", "hub.invalid cannot be looked up"]);
    assert!(proxy.heads().is_empty());
}

#[test]
fn a_token_file_is_read_again_for_each_dial() {
    let scene = Scene::new();
    let config: Value = serde_json::from_slice(&std::fs::read(scene.agent.config_file()).unwrap()).unwrap();
    let token = config["token"].as_str().unwrap().to_owned();
    let agent = &scene.agent;
    agent.configure("token", Value::Null);
    agent.configure("token_file", json!("./agent.token"));
    let mut sidecar = agent.start();
    wait_page(agent, &["the hub is away", "`token_file` is ", "without a token the hub knows nobody"]);
    std::fs::write(agent.path("agent.token"), "a-token-of-last-year\n").unwrap();
    wait_page(agent, &["the hub does not let us in", "agent.token", "it is read again for each dial"]);
    std::fs::remove_file(agent.path("agent.token")).unwrap();
    wait_page(agent, &["`token_file` is ", "the token read before is used"]);
    std::fs::write(agent.path("agent.token"), format!("{token}\n")).unwrap();
    scene.wait_online(1);
    assert_eq!(sidecar.ended(), None, "without a restart");
    // What is learned later is no less a secret.
    scene.hub.restart(ALICE, &format!("because of {token}"));
    agent.wait_log("a reason", |line| line.to_string().contains("because of <redacted>").then_some(()));
    assert!(!std::fs::read_to_string(agent.path("sidecar.log")).unwrap().contains(&token));
}

#[test]
fn a_token_of_the_environment_that_the_hub_refuses_is_named() {
    let scene = Scene::new();
    let _sidecar = scene.agent.start_with(&[("AGENTCOM_TOKEN", "a-token-of-last-year")]);
    wait_page(
        &scene.agent,
        &[
            "the hub does not let us in (invalid_token)",
            "the environment variable AGENTCOM_TOKEN overrides `token` in ",
            "start the sidecar without AGENTCOM_TOKEN",
            "overridden   `token` by AGENTCOM_TOKEN",
        ],
    );
    assert_eq!(scene.agent.status()["hub"]["overridden"], json!([{"key": "token", "by": "AGENTCOM_TOKEN"}]));
    // In the environment of the sidecar, not of this command.
    let (_, found) = scene.agent.operate(&["check"]);
    let told = "warning  config       in the running sidecar the environment variable AGENTCOM_TOKEN overrides `token`";
    assert!(found.contains(told), "{found}");
}

#[test]
fn while_it_dials_status_says_where_and_why_the_last_attempt_failed() {
    // Refuses the first upgrade, and takes every further caller without a word.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ready = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for (number, mut caller) in listener.incoming().flatten().enumerate() {
            if number == 0 {
                let _ = caller.read(&mut [0; 1024]);
                let _ = caller.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
            } else {
                held.push(caller);
            }
        }
    });
    let agent = Agent::new(ALICE, &format!("ws://{address}/ws"), "a-token");
    agent.configure("reconnect_min_ms", json!(20));
    agent.configure("http_listen", json!(ready.to_string()));
    let _sidecar = agent.start();
    let at = format!("opening the WebSocket at {address}");
    let page = wait_page(&agent, &[&at, "refused the WebSocket upgrade with HTTP 503", "1 attempt failed before"]);
    assert!(page.contains(&format!("  hub          {at} for ")) && page.contains("the last "), "{page}");
    let hub = &agent.status()["hub"];
    assert_eq!((&hub["link"], &hub["dialing"]["address"]), (&json!("dialing"), &json!(address.to_string())), "{hub}");
    assert!(hub["trouble"].as_str().unwrap().contains("HTTP 503") && hub["trouble_age_ms"].is_u64(), "{hub}");
    let mut answer = String::new();
    let mut caller = TcpStream::connect(ready).unwrap();
    caller.write_all(format!("GET /ready HTTP/1.1\r\nHost: {ready}\r\n\r\n").as_bytes()).unwrap();
    caller.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains(&at) && answer.contains("with HTTP 503"), "{answer}");
}

#[test]
fn a_hub_that_says_nothing_is_told_as_such_once_the_time_is_over() {
    // Never accepted: the kernel takes the caller, and nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let agent = Agent::new(ALICE, &format!("ws://{}/ws", listener.local_addr().unwrap()), "a-token");
    agent.configure("connect_timeout_ms", json!(300));
    let _sidecar = agent.start();
    wait_page(&agent, &["the hub is away", "did not finish the WebSocket upgrade within 300 ms"]);
}
