//! The sidecar under `pm2-runtime`, the command of a container: brought back after a commanded restart and a crash, and
//! stopped with its goodbye when the container is.
#![cfg(target_os = "linux")]

use crate::support::legacy_hub::{Entry, What};
use crate::support::pm2::Pm2;
use crate::support::process::{self, Signal};
use crate::support::scene::{ALICE, Scene};
use crate::support::wait;

#[test]
fn pm2_runtime_brings_it_back_and_stops_it_with_its_goodbye() {
    let (scene, pm2) = (Scene::new(), Pm2::start());
    let mut runtime = pm2.runtime(&scene.agent.app());
    scene.wait_online(1);
    assert!(scene.hub.restart(ALICE, "news"), "the hub knows it");
    assert_eq!(scene.goodbye(1), "news");
    scene.wait_online(2);
    wait::until_true("pm2 to count it", || pm2.restarts_of(ALICE) == 1);
    let pid = pm2.wait_online(ALICE);
    process::kill9(pid);
    scene.wait_online(3);
    let task = scene.hub.submit("do it");
    scene.done_once(&task);
    scene.wait_quiet();
    runtime.signal(Signal::TERM);
    runtime.wait_exit();
    let stopped = || {
        let ended = |entry: &Entry| {
            let What::SidecarClosed(Some((code, _))) = &entry.what else { return None };
            Some(*code)
        };
        scene.on_connection(3).iter().find_map(ended)
    };
    assert_eq!(wait::until("the end of the connection", stopped), 1001, "it stops");
}
