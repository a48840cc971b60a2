//! README's "Run it for real" and `docs/quickstart.md`, typed into a shell as they stand: a stranger who does only that has a
//! hub and agents under pm2, restarts them while they work, upgrades, and reads why. What is left out is what reaches beyond
//! the test: the compiler, npm, and the machine's boot.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::pm2::Pm2;
use crate::support::sidecar::SIDECAR;
use crate::support::{process, wait};

const LEFT_OUT: [&str; 3] = ["cargo build --release", "npm install -g pm2", "pm2 save && pm2 startup"];

/// The shell blocks of a text, in order.
fn blocks(text: &str) -> Vec<String> {
    text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// A home, and a copy of what the stranger has built, which the upgrade may replace.
struct Stranger {
    pm2: Pm2,
    home: tempfile::TempDir,
    hub: String,
}

impl Stranger {
    fn new() -> Self {
        let home = tempfile::Builder::new().prefix("a stranger-").tempdir().unwrap();
        let bin = home.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for program in [SIDECAR, env!("CARGO_BIN_EXE_agentcom-hub")] {
            process::install(Path::new(program), &bin.join(Path::new(program).file_name().unwrap()));
        }
        // What another user's `ps` sees of it.
        let curl = "#!/bin/sh\ntr '\\0' ' ' < /proc/$$/cmdline >> \"$HOME/arguments\"\nexec /usr/bin/curl \"$@\"\n";
        fs::write(bin.join("curl.written"), curl).unwrap();
        process::install(&bin.join("curl.written"), &bin.join("curl"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { pm2: Pm2::start(), home, hub: listener.local_addr().unwrap().to_string() }
    }

    /// One shell, as the stranger's, from the checkout's folder; its variables go on to the next.
    fn types(&self, block: &str) -> String {
        let (home, bin) = (self.home.path().display().to_string(), self.home.path().join("bin").display().to_string());
        let lines: Vec<_> = block.lines().filter(|line| !LEFT_OUT.iter().any(|left| line.starts_with(left))).collect();
        // Beside a shorter session: the environment of what the wake command starts, where the search for the token finds it.
        let text =
            lines.join("\n").replace("127.0.0.1:4000", &self.hub).replace("sleep 30", "env > environment; sleep 3");
        let text = text.replace("target/release/", "\"$AGENTCOM_BIN_DIR\"/");
        let repository = env!("CARGO_MANIFEST_DIR");
        self.pm2.typed(&format!(
            "set -e; cd '{repository}'; export HOME='{home}' AGENTCOM_BIN_DIR='{bin}' AGENTCOM_LOG_DIR='{home}/logs'\n\
             test ! -e \"$HOME/variables\" || . \"$HOME/variables\"; PATH=\"$AGENTCOM_BIN_DIR:$PATH\"\n\
             {text}\n\
             export -p > \"$HOME/variables\""
        ))
    }

    fn status(&self) -> String {
        // While it restarts nobody answers.
        self.types("agentcom-sidecar status --json || true")
    }

    /// Panics where the admin's token is anywhere but in its own file.
    fn expect_no_leak(&self) {
        let file = self.home.path().join("agentcom-hub/admin-token");
        let token = fs::read_to_string(&file).unwrap().trim().to_owned();
        assert_eq!((token.len(), fs::metadata(&file).unwrap().permissions().mode() & 0o777), (64, 0o600));
        assert!(
            fs::read_to_string(self.home.path().join("arguments")).unwrap().contains("/api/tasks"),
            "no call is seen"
        );
        let holds = |path: &Path| {
            let bytes = fs::read(path).unwrap_or_default();
            bytes.windows(token.len()).any(|window| window == token.as_bytes())
        };
        assert!(holds(&file) && self.home.path().join("my-agent/environment").exists(), "too little is looked at");
        let mut folders = vec![self.pm2.home().to_owned(), self.home.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let (path, kind) = (entry.path(), entry.file_type().unwrap());
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() && path != file {
                    assert!(!holds(&path), "{} holds the admin's token", path.display());
                }
            }
        }
        for process in fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path()) {
            for part in ["environ", "cmdline"] {
                assert!(!holds(&process.join(part)), "{}/{part} holds the admin's token", process.display());
            }
        }
    }

    fn wait_status(&self, what: &str, word: &str) {
        wait::until_or(what, wait::BOUND, || self.status().contains(word).then_some(()), || self.pm2.story());
    }
}

#[test]
fn a_stranger_gets_from_readme_to_an_upgraded_agent() {
    let readme = include_str!("../../README.md");
    let part = readme.split("## Run it for real").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let blocks = blocks(part);
    for left in LEFT_OUT {
        assert!(blocks.iter().any(|block| block.lines().any(|line| line.starts_with(left))), "{left} is not there");
    }
    let [build, hub, onboard, start, restart, operate, upgrade] = blocks.as_slice() else {
        panic!("there are {} blocks now: which are they?", blocks.len())
    };
    let stranger = Stranger::new();
    stranger.types(build);
    stranger.types(hub);
    stranger.pm2.wait_online("agentcom-hub");
    // The hub that has just been started may not listen yet; a stranger's fingers are slower.
    let health = format!("until curl -sf http://{}/health; do sleep 0.1; done", stranger.hub);
    stranger.types(&health);
    stranger.types(onboard);
    let said = stranger.types(start);
    assert!(said.contains("takes it as \"my-agent\"'s"), "{said}");
    stranger.pm2.wait_online("my-agent");
    stranger.wait_status("the agent is known to the hub", "\"link\":\"online\"");

    let said = stranger.types(restart);
    assert!(said.contains("\"status\":\"restart_commanded\"") && said.contains("moving disks"), "{said}");
    stranger.pm2.command(&["save"]);
    stranger.expect_no_leak();
    stranger.pm2.wait_restarts("my-agent", 1);
    stranger.wait_status("the next run is known to the hub", "\"link\":\"online\"");

    let said = stranger.types(operate);
    assert!(said.contains("\"moving disks\": ") && said.contains("back: process"), "{said}");
    let said = stranger.types(upgrade);
    assert!(said.contains("back: process"), "{said}");
    let told = stranger.types("agentcom-sidecar status");
    assert!(told.contains("\"upgrade\": back after") && told.contains("pm2 my-agent"), "{told}");
    assert!(stranger.types("agentcom-sidecar check").contains("we are \"my-agent\""), "pm2 does not know it");
    assert_eq!(stranger.pm2.restarts_of("my-agent"), 3);
    // A restart by the file hands over this shell's environment anew.
    stranger.types("pm2 start ecosystem.config.js --only my-agent; pm2 save");
    stranger.expect_no_leak();
}

/// With three agents in place of thirty, six tasks in place of sixty, and shorter sessions.
#[test]
fn a_stranger_gets_from_the_quickstart_to_many_agents() {
    let page = include_str!("../../docs/quickstart.md");
    let fewer = page.replace("seq -w 1 30", "seq -w 1 3").replace("seq 60", "seq 6");
    let fewer = fewer.replace("sleep 20", "sleep 2").replace("sleep 5;", "sleep 1;");
    let fewer = fewer.replace("curl -s $HUB/health", "until curl -sf $HUB/health; do sleep 0.1; done");
    let blocks = blocks(&fewer);
    let [build, hub, agent, task, look, onboard_many, start_many, restart_many, take_down] = blocks.as_slice() else {
        panic!("there are {} blocks now: which are they?", blocks.len())
    };
    let stranger = Stranger::new();
    stranger.types(build);
    assert!(stranger.types(hub).contains("\"implementation\":\"agentcom-hub\""));
    let said = stranger.types(agent);
    assert!(said.contains("my-agent is registered") && said.contains("no problems"), "{said}");
    stranger.wait_status("the agent is known to the hub", "\"link\":\"online\"");
    let said = stranger.types(task);
    assert!(said.starts_with("task-") && said.contains("my-agent: back after"), "{said}");
    let said = stranger.types(look);
    assert!(said.contains("say hello") && said.contains("moving disks"), "{said}");
    stranger.types(onboard_many);
    stranger.types(start_many);
    let known = || (stranger.types("agentcom-hub agents").matches("healthy").count() == 4).then_some(());
    wait::until_or("the hub to know all four", wait::BOUND, known, || stranger.pm2.story());
    let said = stranger.types(restart_many);
    assert!(said.contains("succeeded: each target has restarted"), "{said}");
    stranger.types(take_down);
    assert!(!stranger.home.path().join("agents").exists());
}
