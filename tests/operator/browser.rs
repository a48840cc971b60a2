//! Web pages in a real Chromium, by `browser.js`: the hub's own get what they ask for, foreign and rebound ones nothing.
#![allow(clippy::print_stderr, reason = "a test that cannot be run says so")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::support::hub::Hub;
use crate::support::{npm, process, wait};

/// The name that the hub is told as its own, beside its address.
const OWN_NAME: &str = "hub.test";

/// Chromium's program: the one that `AGENTCOM_TEST_CHROMIUM` names (`.ci/run` does), else one in the PATH, if there is one.
fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("AGENTCOM_TEST_CHROMIUM") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name))).find(|program| program.is_file())
}

/// What the pages got, by their address.
fn told(chromium: &Path, port: u16) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operator/browser.js");
    let mut node = Command::new("node");
    node.arg(script).arg(chromium).arg(port.to_string()).arg(OWN_NAME).env("NODE_PATH", npm::packages());
    let (status, text) = process::run(node, 4 * wait::BOUND);
    let json = text.lines().find(|line| line.starts_with('{')).unwrap_or("{}");
    assert!(status.success(), "browser.js ended with {status}:\n{text}");
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What a page got, by what it tried.
fn got<'told>(told: &'told Value, page: &str) -> &'told Map<String, Value> {
    told[page]["got"].as_object().unwrap_or_else(|| panic!("no page at {page}: {told}"))
}

#[test]
fn a_rebound_page_and_a_foreign_one_get_nothing_and_the_hubs_own_does() {
    let Some(chromium) = chromium() else {
        eprintln!("SKIPPED: there is no chromium here (Debian: apt-get install chromium)");
        return;
    };
    let mut hub = Hub::start();
    let port = hub.address().port();
    hub.start_again_with(&["--public-url", &format!("http://{OWN_NAME}:{port}")]);
    let told = told(&chromium, port);

    // The browser knows what leads to this machine by itself, in whatever way it is written.
    for name in ["2130706433", "0x7f.1", "127.1", "localhost", "localhost.", "a.localhost", "[::ffff:127.0.0.1]"] {
        assert_eq!(told[format!("http://{name}:{port}/health")]["status"], 200, "{name}: {told}");
    }
    for name in ["localhost.evil.test", "127.0.0.1.evil.test"] {
        assert_eq!(told[format!("http://{name}:{port}/health")]["status"], 421, "{name}: {told}");
    }
    for name in ["127.0.0.1", OWN_NAME] {
        let got = got(&told, &format!("http://{name}:{port}/health"));
        let begins = |what: &str, with: &str| {
            assert!(got[what].as_str().is_some_and(|text| text.starts_with(with)), "{name}, {what}: {got:?}");
        };
        begins("GET /api/agents", "200 {\"agents\"");
        begins("GET /api/v1/openapi.json", "200 {\"openapi\"");
        begins("GET /api/v1/agents", "401 ");
        begins("POST a task", "401 ");
        begins("WebSocket", "open");
        begins("form", "4");
        // A page of no origin is nobody's, also inside the hub's own.
        begins("a frame of no origin", "refused");
    }

    let evil = format!("http://evil.test:{port}/health");
    assert_eq!(told[&evil]["origin"], format!("http://evil.test:{port}"), "the browser takes it for one page");
    for (what, outcome) in got(&told, &evil) {
        let outcome = outcome.as_str().unwrap_or_default();
        let refusal = outcome.starts_with("421 ") && outcome.contains("unknown_host");
        assert!(refusal || ["refused", "421"].contains(&outcome), "rebound, {what}: {outcome}");
    }
    for page in ["http://evil.test", "http://127.0.0.1", &format!("http://{OWN_NAME}")] {
        for (what, outcome) in got(&told, &format!("{page}:foreign/health")) {
            let outcome = outcome.as_str().unwrap_or_default();
            assert!(["TypeError", "opaque", "refused", "403"].contains(&outcome), "{page}, {what}: {outcome}");
        }
    }

    // And nothing was done for them.
    let names = |list: &str, field: &str| -> Vec<String> {
        let (_, body) = hub.get(list);
        let items = body["items"].as_array().unwrap_or_else(|| panic!("{list}: {body}"));
        items.iter().map(|item| item[field].as_str().unwrap_or_default().to_owned()).collect()
    };
    let mut tokens = names("/api/v1/tokens", "agent_id");
    tokens.sort();
    assert_eq!(tokens, ["own", "tester"]);
    assert_eq!(names("/api/v1/audit", "target"), ["own", "tester"]);
    assert_eq!(hub.get("/api/tasks").1["tasks"], json!([]));
    assert_eq!(hub.get("/health").1["agents_connected"], 0);
}
