//! Signals that end a program by default and must not end a sidecar: at every moment, also while it replaces itself, and
//! none of it reaches the commands that it starts.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::process::{self, Signal};
use crate::support::scene::{ALICE, Scene};
use crate::support::wait;
use serde_json::json;

/// The restarts under a storm of signals.
const RESTARTS: usize = 40;

/// The bits of SIGHUP, SIGUSR1 and SIGUSR2 in the masks of `/proc/PID/status`.
const HARMLESS: u64 = 1 | 1 << 9 | 1 << 11;

/// Sends the three signals, one after the other, until it is dropped.
struct Storm {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Storm {
    fn over(pid: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                for signal in [Signal::HUP, Signal::USR1, Signal::USR2] {
                    process::send(pid, signal);
                }
                // The pace of the storm: it leaves the processor to the sidecar.
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// The masks of blocked and of ignored signals in the text of `/proc/PID/status`, as far as these three are concerned.
fn masks(status: &str) -> [u64; 2] {
    ["SigBlk:", "SigIgn:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap() & HARMLESS
    })
}

#[test]
fn restarts_in_place_survive_a_storm_of_them() {
    let scene = Scene::new();
    scene.agent.configure("restart_intensity", json!({"max": 1_000, "window_ms": 60_000}));
    scene.agent.configure("log_level", json!("info"));
    let mut sidecar = scene.agent.start();
    scene.wait_online(1);
    let storm = Storm::over(sidecar.pid());
    for number in 1..=RESTARTS {
        assert!(scene.hub.restart(ALICE, "again"));
        scene.hub.wait("the next run", |log| {
            assert_eq!(sidecar.ended(), None, "restart {number}\n{}", sidecar.output());
            (log.iter().filter(|entry| entry.heard("identified").is_some()).count() > number).then_some(())
        });
    }
    drop(storm);
    // It reads its configuration again at a SIGHUP, as ever.
    let reloads = || {
        let lines = scene.agent.log_lines();
        lines.iter().filter(|line| line["message"] == "the configuration was reloaded").count()
    };
    let before = reloads();
    sidecar.signal(Signal::HUP);
    wait::until_true("the reload", || reloads() > before);
    assert_eq!(sidecar.ended(), None);
}

#[test]
fn what_it_starts_gets_them_as_by_default() {
    let scene = Scene::new();
    scene.agent.configure("wake_command", json!("cat /proc/self/status > woken; mv woken masks"));
    let sidecar = scene.start();
    assert!(scene.hub.restart(ALICE, "once in place"));
    scene.wait_online(2);
    let told = || fs::read_to_string(format!("/proc/{}/status", sidecar.pid())).unwrap();
    wait::until_true("the sidecar to handle them", || masks(&told()) == [0, 0]);
    scene.hub.submit("look");
    let text = wait::until("the wake", || fs::read_to_string(scene.agent.path("masks")).ok());
    assert_eq!(masks(&text), [0, 0], "{text}");
}
