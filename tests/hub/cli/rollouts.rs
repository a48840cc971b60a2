//! `rollout`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{command, json_of, printed, run, said};
use crate::support::{Hub, Peer, folder, hub_command, run as boot};

/// A hub with the agents `a` and `b`.
async fn fleet(dir: &TempDir, flags: &[&str]) -> (Hub, [Peer; 2], [String; 2]) {
    let hub = Hub::start(dir, flags);
    let tokens = [hub.register("a").await, hub.register("b").await];
    let a = Peer::join(&hub, "a", &tokens[0], boot("boot-1")).await;
    let b = Peer::join(&hub, "b", &tokens[1], boot("boot-1")).await;
    (hub, [a, b], tokens)
}

/// The agent restarts as it is told.
async fn comply(hub: &Hub, mut peer: Peer, name: &str, token: &str, next_boot: &str) -> Peer {
    let command = peer.expect("restart_sidecar").await;
    peer.say(json!({
        "type": "agent_restarting", "reason": command["reason"], "command_id": command["command_id"],
        "forced": false, "expected_back_ms": 50, "protocol_version": 1,
    }))
    .await;
    peer.close().await;
    hub.restart_until(name, "exiting").await;
    Peer::join(hub, name, token, boot(next_boot)).await
}

/// The agent does not restart as it is told.
async fn refuse(peer: &mut Peer) {
    let command = peer.expect("restart_sidecar").await;
    let detail = "pm2 would not bring it back";
    peer.say(
        json!({"type": "restart_ack", "command_id": command["command_id"], "outcome": "refused", "detail": detail}),
    )
    .await;
}

/// Starts a rollout over all agents and returns its id.
fn start(dir: &TempDir, options: &[&str]) -> String {
    let args = [&["rollout", "start", "all", "--soak", "0s", "--json"][..], options].concat();
    json_of(dir, &args)["rollout"]["rollout_id"].as_str().unwrap().to_owned()
}

/// A watch whose lines are read one by one.
struct Watch {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(dir: &TempDir, args: &[&str]) -> Self {
        Self::of(dir, &[&["rollout", "watch"][..], args].concat())
    }

    fn of(dir: &TempDir, args: &[&str]) -> Self {
        let mut child = command(dir, args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads up to a line with this text in it.
    fn until(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        for line in self.lines.by_ref().map_while(Result::ok) {
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
        panic!("no {text:?} in {seen:#?}");
    }

    /// Returns the exit code and the lines up to the end.
    fn ended(mut self) -> (Option<i32>, Vec<String>) {
        let lines = self.lines.by_ref().map(Result::unwrap).collect();
        (self.child.wait().unwrap().code(), lines)
    }

    fn code(self) -> Option<i32> {
        self.ended().0
    }
}

#[tokio::test]
async fn a_dry_run_tells_in_words_who_would_be_restarted_when_and_who_not() {
    let dir = folder();
    let (hub, _peers, tokens) = fleet(&dir, &[]).await;
    hub.register("c").await;
    let token = hub.register("d").await;
    Peer::join(&hub, "d", &token, boot("boot-1")).await.close().await;
    drop(tokens);
    let args = ["rollout", "start", "all,nobody", "--canary", "50%", "--offline", "wait", "--dry-run"];
    let plan = run(&dir, &args);
    let told = said(&plan);
    assert_eq!(plan.status.code(), Some(2), "all and a name: {told}");
    let names = ["rollout", "start", "a,b,c,d,nobody", "--canary", "25%", "--offline", "wait", "--dry-run"];
    let told = printed(&dir, &names);
    for line in [
        "nobody: skipped, no agent of this name is known",
        "would restart 2 of 4 agents, 1 at once at most; the first failure halts it\n",
        "canary: a (1)\nwave 2 of 2: b (1)\n",
        "c: would be skipped: it is not connected\n",
        "d: would be waited for: it is not connected\n",
        "nothing was done",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert_eq!(json_of(&dir, &["rollout", "status", "--json"]), json!([]));
    assert_eq!(json_of(&dir, &["rollout", "start", "a", "--dry-run", "--json"])["would"]["waves"], json!([["a"]]));
    let one = printed(&dir, &["rollout", "start", "a", "--max-failures", "1", "--dry-run"]);
    assert!(one.starts_with("would restart 1 of 1 agent, 1 at once at most; the second failure halts it\n"), "{one}");
    let given = [
        "rollout",
        "start",
        "a",
        "--max-unavailable",
        "5%",
        "--canary",
        "1",
        "--canary-deadline",
        "5m",
        "--auto-promote",
        "--step",
        "1,5%",
        "--step",
        "25%",
        "--soak",
        "2s",
        "--max-failures",
        "10%",
        "--progress-deadline",
        "1h",
        "--wait-for",
        "2h",
        "--offline",
        "wait",
        "--expect-version",
        "0.1.0",
        "--deadline",
        "1m",
        "--force",
        "--json",
        "--reason",
        "new driver",
        "--idempotency-key",
        "once",
    ];
    let once = json_of(&dir, &given);
    assert_eq!(json_of(&dir, &given)["rollout"]["rollout_id"], once["rollout"]["rollout_id"]);
    let expected = json!({
        "max_unavailable": "5%", "canary": 1, "canary_deadline_ms": 300_000, "auto_promote": true,
        "steps": [1, "5%", "25%"], "soak_ms": 2_000, "max_failures": "10%", "progress_deadline_ms": 3_600_000,
        "offline": "wait", "wait_for_ms": 7_200_000, "expect_version": "0.1.0", "deadline_ms": 60_000, "force": true,
    });
    assert_eq!((&once["rollout"]["plan"], &once["rollout"]["reason"]), (&expected, &json!("new driver")));
    let shared = run(&dir, &["rollout", "start", "a"]);
    let told = said(&shared);
    assert_eq!(shared.status.code(), Some(1), "{told}");
    assert!(told.contains("wait for its end, cancel it") && told.contains("rollout status --data"), "{told}");
}

#[tokio::test]
async fn a_rollout_is_started_and_watched_until_each_target_has_restarted() {
    let dir = folder();
    let (hub, [a, b], tokens) = fleet(&dir, &[]).await;
    let start = ["rollout", "start", "all", "--reason", "new disks", "--soak", "0s", "--watch"];
    let mut watch = Watch::of(&dir, &start);
    assert!(watch.until("started").ends_with(": started; targets: 2; wave 1 of 1"));
    watch.until("a: is told to restart");
    let _a = comply(&hub, a, "a", &tokens[0], "boot-2").await;
    let _b = comply(&hub, b, "b", &tokens[1], "boot-2").await;
    let (code, lines) = watch.ended();
    let told = lines.join("\n");
    assert_eq!(code, Some(0), "{told}");
    for line in [
        "a: restarted, away for ",
        "b: restarted, away for ",
        ": succeeded: each target has restarted; wave 1 of 1: 2 succeeded, 0 in flight, 0 failed, 0 skipped",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(!told.contains("what to do next"), "{told}");
    let list = printed(&dir, &["rollout", "status", "--state", "succeeded"]);
    assert!(list.contains("2 of 2") && list.contains("new disks") && list.contains("succeeded:"), "{list}");
    let id = list.lines().nth(1).unwrap().split(' ').next().unwrap();
    assert!(printed(&dir, &["rollout", "watch", id]).contains("succeeded: each target has restarted"));
    let unknown = run(&dir, &["rollout", "start", "a,nobody", "--watch", "--timeout", "1s"]);
    assert_eq!(unknown.status.code(), Some(124), "{unknown:?}");
    assert!(said(&unknown).contains("has not ended in this time; it goes on"), "{unknown:?}");
}

#[tokio::test]
async fn why_it_halted_is_told_in_words_and_the_failed_ones_get_another_try() {
    let dir = folder();
    let (hub, [mut a, b], tokens) = fleet(&dir, &[]).await;
    let id = start(&dir, &[]);
    let mut watch = Watch::start(&dir, &[&id]);
    watch.until("a: is told to restart");
    refuse(&mut a).await;
    watch.until("a: failed: it refused to restart (pm2 would not bring it back)");
    watch
        .until("halted: more targets failed than max_failures allows; wave 1 of 1: 0 succeeded, 0 in flight, 1 failed");
    let retry = watch.until("let those that failed have another try");
    assert_eq!(watch.code(), Some(1));
    let page = printed(&dir, &["rollout", "status", &id]);
    for text in
        ["halted: more targets failed", "asked for", "a      failed", "it refused to restart (pm2", "rollout resume"]
    {
        assert!(page.contains(text), "{text}: {page}");
    }
    let failed = printed(&dir, &["rollout", "status", &id, "--state", "failed"]);
    assert!(failed.contains("it refused to restart") && failed.lines().count() == 2, "{failed}");
    // What is told can be typed as it stands.
    let typed = retry.split("let those").next().unwrap().trim().to_owned();
    let program = env!("CARGO_BIN_EXE_agentcom-hub");
    let retried = hub_command_of(&["sh", "-c", &typed.replacen("agentcom-hub", program, 1)]).output().unwrap();
    assert!(retried.status.success() && said(&retried).contains("rollout resume"), "{typed}: {retried:?}");
    let mut watch = Watch::start(&dir, &[&id, "--json"]);
    assert!(watch.until("\"state\":\"halted\"").contains(&id));
    assert_eq!(watch.code(), Some(1));
    printed(&dir, &["rollout", "resume", &id]);
    let mut watch = Watch::start(&dir, &[&id, "--json"]);
    let first = watch.until("\"state\":\"running\"");
    let _a = comply(&hub, a, "a", &tokens[0], "boot-2").await;
    let _b = comply(&hub, b, "b", &tokens[1], "boot-2").await;
    let (code, rest) = watch.ended();
    let lines: Vec<Value> = [first].iter().chain(&rest).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, &lines.last().unwrap()["state"]), (Some(0), &json!("succeeded")), "{lines:?}");
    let done = lines.iter().filter(|line| line["agent_id"].is_string() && line["state"] == "succeeded");
    assert_eq!(done.map(|line| &line["agent_id"]).collect::<Vec<_>>(), ["a", "b"], "{lines:?}");
}

/// A command that runs this program through another one.
fn hub_command_of(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    for (name, value) in hub_command().get_envs() {
        assert!(value.is_none());
        command.env_remove(name);
    }
    command.args(&words[1..]);
    command
}

#[tokio::test]
async fn it_is_promoted_paused_resumed_recalled_and_cancelled() {
    let dir = folder();
    let (hub, [a, b], tokens) = fleet(&dir, &[]).await;
    let id = start(&dir, &["--canary", "1"]);
    let mut watch = Watch::start(&dir, &[&id]);
    watch.until("canary: 0 succeeded");
    let early = run(&dir, &["rollout", "promote", &id]);
    assert_eq!(early.status.code(), Some(1), "{early:?}");
    assert!(said(&early).contains("is canary: only a rollout whose canary is through"), "{early:?}");
    assert!(said(&early).contains(&format!("how it is: agentcom-hub rollout status {id} --data")), "{early:?}");
    let _a = comply(&hub, a, "a", &tokens[0], "boot-2").await;
    watch.until("the canary is through, and it waits for promote");
    watch.until(&format!("agentcom-hub rollout promote {id}"));
    assert_eq!(watch.code(), Some(1));
    let promoted = printed(&dir, &["rollout", "promote", &id, "--reason", "it is well"]);
    assert!(promoted.contains(&format!("{id}: running; wave 2 of 2: 1 succeeded, 1 in flight")), "{promoted}");
    let mut watch = Watch::start(&dir, &[&id]);
    watch.until("b: is told to restart");
    let paused = printed(&dir, &["rollout", "pause", &id]);
    assert!(paused.contains(": paused;") && paused.contains("rollout resume") && paused.contains("rollout recall"));
    watch.until(": paused; wave 2 of 2");
    assert_eq!(watch.code(), Some(1));
    assert_eq!(json_of(&dir, &["rollout", "recall", &id, "--json"])["state"], json!("paused"));
    assert!(printed(&dir, &["rollout", "resume", &id]).contains(": running;"));
    let cancelled = printed(&dir, &["rollout", "cancel", &id, "--reason", "enough"]);
    assert!(cancelled.contains(": cancelled; wave 2 of 2: 1 succeeded, 1 in flight"), "{cancelled}");
    let retry = run(&dir, &["rollout", "retry-failed", &id]);
    assert_eq!((retry.status.code(), said(&retry).contains("is cancelled")), (Some(1), true), "{retry:?}");
    let audit = printed(&dir, &["audit", "--target", &id]);
    assert!(audit.contains("rollout_promoted") && audit.contains("because enough"), "{audit}");
    // Its last target is followed to its end.
    let mut watch = Watch::start(&dir, &[&id]);
    watch.until("cancelled; wave 2 of 2: 1 succeeded, 1 in flight");
    let _b = comply(&hub, b, "b", &tokens[1], "boot-2").await;
    watch.until("cancelled; wave 2 of 2: 2 succeeded, 0 in flight");
    assert_eq!(watch.code(), Some(1));
}

#[tokio::test]
async fn where_no_hub_runs_the_store_tells_of_rollouts_and_takes_acts() {
    let dir = folder();
    let (hub, _peers, _tokens) = fleet(&dir, &[]).await;
    let id = start(&dir, &[]);
    drop(hub);
    let page = printed(&dir, &["rollout", "status", &id]);
    assert!(page.contains("running (since") && page.contains("a      restarting"), "{page}");
    let watch = run(&dir, &["rollout", "watch", &id]);
    assert_eq!((watch.status.code(), said(&watch).contains("no hub runs")), (Some(69), true), "{watch:?}");
    assert!(printed(&dir, &["rollout", "pause", &id]).contains(": paused; wave 1 of 1"));
    let stopped = run(&dir, &["rollout", "watch", &id]);
    assert_eq!((stopped.status.code(), said(&stopped).contains("rollout resume")), (Some(1), true), "{stopped:?}");
}

#[tokio::test]
async fn a_hub_that_is_killed_and_restarted_does_not_end_the_watch() {
    let dir = folder();
    let flags = ["--accept-timeout-ms", "200"];
    let (hub, [a, b], tokens) = fleet(&dir, &flags).await;
    let id = start(&dir, &[]);
    let mut watch = Watch::start(&dir, &[&id, "--timeout", "1m"]);
    watch.until("a: is told to restart");
    hub.kill_9();
    watch.until("the hub is away");
    drop((a, b));
    let hub = Hub::start(&dir, &flags);
    watch.until("the hub is back");
    // Once `a` is back it is the turn of `b`, which would be skipped if it were away.
    let b = Peer::join(&hub, "b", &tokens[1], boot("boot-1")).await;
    let _a = Peer::join(&hub, "a", &tokens[0], boot("boot-2")).await;
    watch.until("a: restarted");
    let _b = comply(&hub, b, "b", &tokens[1], "boot-2").await;
    watch.until("b: restarted");
    watch.until("succeeded: each target has restarted");
    assert_eq!(watch.code(), Some(0));
}

#[tokio::test]
async fn on_a_terminal_one_line_is_drawn_anew() {
    let dir = folder();
    let (hub, [mut a, b], tokens) = fleet(&dir, &[]).await;
    let id = start(&dir, &["--max-failures", "1"]);
    let watch = format!(
        "stty cols 150; exec {} rollout watch {id} --data {}",
        env!("CARGO_BIN_EXE_agentcom-hub"),
        dir.path().display()
    );
    let mut terminal = hub_command_of(&["script", "-qefc", &watch, "/dev/null"]);
    let mut terminal = terminal.env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = terminal.stdout.take().unwrap();
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains("0/2: 0 succeeded, 1 in flight") {
        let mut part = [0; 1_024];
        let length = stdout.read(&mut part).unwrap();
        assert!(length > 0, "it ended: {}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&part[..length]);
    }
    refuse(&mut a).await;
    let _b = comply(&hub, b, "b", &tokens[1], "boot-2").await;
    stdout.read_to_end(&mut shown).unwrap();
    assert_eq!(terminal.wait().unwrap().code(), Some(1));
    let shown = String::from_utf8_lossy(&shown);
    let line =
        "\r\u{1b}[Kwave 1 of 1 [####################] 2/2: 1 succeeded, 0 in flight, 1 failed, 0 skipped, 0:00:0";
    assert!(shown.contains(line), "{shown:?}");
    assert!(shown.contains("\r\u{1b}[Ka: failed: it refused to restart"), "{shown:?}");
    assert!(
        shown.contains("partial: it has ended, and not each target has restarted") && shown.contains("retry-failed"),
        "{shown:?}"
    );
    assert!(!shown.contains("b: restarted"), "a bar tells of it: {shown:?}");
}

#[tokio::test]
async fn what_is_not_understood_is_refused_by_name() {
    let dir = folder();
    let (_hub, _peers, _tokens) = fleet(&dir, &[]).await;
    for (args, code, word) in [
        (&["rollout", "start"][..], 2, "<SELECTOR>"),
        (&["rollout", "start", "all", "--canary", "many"], 2, "a share of them"),
        (&["rollout", "start", "all", "--max-unavailable", "0"], 2, "max_unavailable"),
        (&["rollout", "start", "all", "--step", "5%,1%"], 2, "counts from the beginning"),
        (&["rollout", "start", "all", "--soak", "soon"], 2, "24h"),
        (&["rollout", "start", "all", "--offline", "perhaps"], 2, "wait"),
        (&["rollout", "start", "all", "--auto-promote"], 2, "--canary"),
        (&["rollout", "start", "all", "--watch", "--dry-run"], 2, "--dry-run"),
        (&["rollout", "start", "nobody"], 2, "means no agent"),
        (&["rollout", "status", "none"], 1, "agentcom-hub rollout status --data"),
        (&["rollout", "status", "--state", "odd"], 2, "halted"),
        (&["rollout", "status", "none", "--state", "failed"], 1, "no rollout"),
        (&["rollout", "watch", "none"], 1, "no rollout \"none\" is known"),
        (&["rollout", "pause", "none"], 1, "no rollout \"none\" is known"),
        (&["rollout", "explode", "none"], 2, "explode"),
    ] {
        let output = run(&dir, args);
        let told = said(&output);
        assert_eq!((output.status.code(), told.contains(word)), (Some(code), true), "{args:?}: {told}");
    }
}
