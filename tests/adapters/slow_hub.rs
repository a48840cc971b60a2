//! The daemon's loop before a hub that stops reading: what it has to say does not put off the end that it has promised.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use futures_util::future::BoxFuture;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use agentcom::sidecar::config::Config;
use agentcom::sidecar::hub_connection::transport::Stream;
use agentcom::sidecar::shell::environment::Environment;
use agentcom::sidecar::shell::start_in;
use agentcom::sidecar::supervisor::pm2::Pm2;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

/// Less than a frame: whoever does not read stops the writer at once.
const PIPE_BYTES: usize = 64;

/// Longer than the drain deadline below, shorter than the link's own patience with a frame (10 s).
const IN_TIME: Duration = Duration::from_secs(7);

fn config(folder: &std::path::Path) -> Config {
    let path = folder.join("config.json");
    let text = json!({
        "agent_id": "alice", "token": "t", "hub_url": "ws://hub/ws", "wake_command": "true",
        "drain_deadline_ms": 500, "resource_report_interval_ms": 0,
    });
    std::fs::write(&path, text.to_string()).unwrap();
    Config::load(&path).unwrap().config
}

/// A world whose only way to the hub are the pipes whose other ends come out of the receiver.
fn world() -> (Environment, mpsc::UnboundedReceiver<DuplexStream>) {
    let (ends, hubs) = mpsc::unbounded_channel();
    let connector = move || -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let _ = ends.send(theirs);
        Box::pin(async { Ok(Box::new(ours) as Box<dyn Stream>) })
    };
    (Environment { connector: Some(Arc::new(connector)), on_a_machine: false, ..Environment::real() }, hubs)
}

#[tokio::test]
async fn a_hub_that_stops_reading_puts_no_restart_off() {
    let folder = tempfile::tempdir().unwrap();
    let (environment, mut hubs) = world();
    let started = start_in(config(folder.path()), Pm2::from_env(|_| None), environment).unwrap();
    let hub = async {
        let mut hub = tokio_tungstenite::accept_async(hubs.recv().await.unwrap()).await.unwrap();
        let identify = hub.next().await.unwrap().unwrap().into_text().unwrap();
        assert!(identify.contains("identify"), "{identify}");
        for frame in [
            json!({"type": "identified", "agent_id": "alice", "features": ["restart.v2"]}),
            json!({"type": "restart_sidecar", "reason": "r", "command_id": "c1"}),
        ] {
            hub.send(Message::text(frame.to_string())).await.unwrap();
        }
        // It stays, and reads nothing more.
        hub
    };
    let (sidecar, _hub) = tokio::join!(timeout(IN_TIME, started.run()), hub);
    sidecar.expect("the frames that nobody reads put the end off");
}
