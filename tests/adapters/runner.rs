//! The wake runner with real shells, real sessions and real signals.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use agentcom::common::secret::Secret;
use agentcom::sidecar::agent::wake::{RunnerConfig, WakeEvent, WakeOrder, WakeOutcome, WakeRunner, What};
use tokio::sync::mpsc;
use tokio::time::timeout;

const BOUND: Duration = Duration::from_secs(30);

struct Fixture {
    root: tempfile::TempDir,
    runner: WakeRunner,
    events: mpsc::Receiver<WakeEvent>,
}

fn fixture() -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let (tx, events) = mpsc::channel(16);
    Fixture { runner: WakeRunner::new(config(root.path().join("scratch")), tx), events, root }
}

fn config(scratch_dir: PathBuf) -> RunnerConfig {
    RunnerConfig {
        scratch_dir,
        scrub: |command| {
            command.env_remove("CARGO_PKG_NAME").env("SCRUBBED", "yes").env("TASK_ID", "from scrub");
        },
        secrets: vec![Secret::new("s3cret-token")],
    }
}

impl Fixture {
    fn order(&self, command: &str) -> WakeOrder {
        WakeOrder {
            task_id: "t1".into(),
            generation: 7,
            attempt: 2,
            what: What::Shell(command.into()),
            env: vec![("TASK_ID".into(), "t1".into())],
            session: None,
            timeout_ms: 30_000,
            cwd: self.root.path().to_owned(),
        }
    }

    async fn next(&mut self) -> WakeOutcome {
        let event = timeout(BOUND, self.events.recv()).await.expect("no event in time").expect("the runner ended");
        assert_eq!((event.task_id.as_str(), event.generation, event.attempt), ("t1", 7, 2));
        event.outcome
    }

    async fn outcome(&mut self, command: &str) -> WakeOutcome {
        self.runner.start(self.order(command));
        self.next().await
    }

    async fn failure(&mut self, command: &str) -> String {
        self.runner.start(self.order(command));
        self.next_failure().await
    }

    async fn next_failure(&mut self) -> String {
        let outcome = self.next().await;
        let WakeOutcome::Failed { error } = outcome else { panic!("expected a failure, got {outcome:?}") };
        error
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root.path().join(name)).unwrap()
    }

    async fn written(&self, name: &str) -> String {
        let path = self.root.path().join(name);
        eventually(name, || fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'))).await;
        self.read(name).trim().to_owned()
    }

    fn outputs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.path().join("scratch")).unwrap();
        entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "output")).collect()
    }
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !condition() {
        assert!(Instant::now() < end, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether the process runs; a zombie does not.
fn is_running(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// How many bytes the process has written.
fn written_by(pid: &str) -> u64 {
    let figures = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    figures.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok()).unwrap_or(0)
}

fn is_there(pid: &str) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

fn stop_process(pid: &str) {
    std::process::Command::new("kill").args(["-9", pid]).status().unwrap();
}

#[tokio::test]
async fn a_command_that_exits_zero_succeeded() {
    let mut f = fixture();
    assert_eq!(f.outcome("true").await, WakeOutcome::Succeeded);
}

#[tokio::test]
async fn an_exit_code_is_told_with_what_was_printed() {
    let mut f = fixture();
    let error = f.failure("echo to stdout; echo no such model >&2; exit 3").await;
    assert_eq!(error, "wake command exited with code 3: to stdout\nno such model");
}

#[tokio::test]
async fn a_missing_command_is_told_as_such() {
    let mut f = fixture();
    let error = f.failure("no-such-command-anywhere").await;
    assert!(error.contains("127 (command not found)") && error.contains("no-such-command-anywhere"), "{error}");
}

#[tokio::test]
async fn a_command_killed_by_a_signal_is_told_as_such() {
    let mut f = fixture();
    assert!(f.failure("kill -9 $$").await.contains("killed by signal 9"));
}

#[tokio::test]
async fn the_beginning_and_the_end_of_long_output_are_quoted() {
    let mut f = fixture();
    let error = f.failure("echo the start; yes 'ä line' | head -c 500000; echo the end; exit 1").await;
    assert!(error.contains(": the start\nä line\n") && error.ends_with("the end"), "{error}");
    assert!(error.contains("\n[... of 500018 bytes ...]\n"), "{error}");
    let characters = error.chars().count();
    assert!((1_900..=2_000).contains(&characters), "{characters}");
}

/// Watches the space that the output files in a folder take until told to stop, and returns the greatest, bytes.
fn greatest_size(scratch: PathBuf, stop: std::sync::mpsc::Receiver<()>) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut most = 0;
        while stop.recv_timeout(Duration::from_millis(1)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let files = fs::read_dir(&scratch).into_iter().flatten().flatten();
            most = most.max(files.filter_map(|file| file.metadata().ok()).map(|found| found.blocks() * 512).sum());
        }
        most
    })
}

/// The most that may be on the disk of a command that prints as fast as it can, bytes: what it writes between two looks.
const MOST_BYTES: u64 = 1 << 30;

#[tokio::test]
async fn output_without_end_does_not_fill_the_disk_while_the_command_runs() {
    let mut f = fixture();
    let (stop, stopped) = std::sync::mpsc::channel();
    let watcher = greatest_size(f.root.path().join("scratch"), stopped);
    let error = f.failure("echo the start; yes 'more of it' | head -c 2G; echo the end; exit 1").await;
    drop(stop);
    let most = watcher.join().unwrap();
    eprintln!("at most {} MiB of 2048 were on the disk", most >> 20);
    assert!(most < MOST_BYTES, "{most} bytes");
    assert!(error.contains(": the start\nmore of it\n") && error.ends_with("the end"), "{error}");
}

#[tokio::test]
async fn output_without_end_of_a_session_and_of_a_command_that_is_being_ended_does_not_fill_the_disk() {
    let mut f = fixture();
    let (stop, stopped) = std::sync::mpsc::channel();
    let watcher = greatest_size(f.root.path().join("scratch"), stopped);
    let mut order = f.order("trap '' TERM; setsid sh -c 'echo $$ > pid; exec yes' & yes");
    order.timeout_ms = 1_000;
    f.runner.start(order);
    // SIGTERM is ignored: two seconds more.
    assert_eq!(f.next().await, WakeOutcome::TimedOut { after_ms: 1_000 });
    let session = f.written("pid").await;
    eventually("the session has written much", || written_by(&session) > 512 << 20).await;
    let alive = is_running(&session);
    stop_process(&session);
    drop(stop);
    let most = watcher.join().unwrap();
    eprintln!("at most {} MiB were on the disk", most >> 20);
    assert!(alive && most < MOST_BYTES, "{most} bytes");
}

#[tokio::test]
async fn values_reach_the_command_without_being_run() {
    let mut f = fixture();
    let nasty = r#"$(touch pwned) `touch pwned`; touch pwned "quoted' \"#;
    let mut order = f.order(r#"printf '%s\n' "${TASK_DESCRIPTION}" "$TASK_JSON" > out"#);
    order.env.push(("TASK_DESCRIPTION".into(), nasty.into()));
    order.env.push(("TASK_JSON".into(), r#"{"a":"b"}"#.into()));
    f.runner.start(order);
    assert_eq!(f.next().await, WakeOutcome::Succeeded);
    assert_eq!(f.read("out"), format!("{nasty}\n{{\"a\":\"b\"}}\n"));
    assert!(!f.root.path().join("pwned").exists());
}

#[tokio::test]
async fn nul_bytes_are_taken_out_of_values() {
    let mut f = fixture();
    let mut order = f.order("printf %s \"$TASK_DESCRIPTION\" > out");
    order.env.push(("TASK_DESCRIPTION".into(), "a\0b".into()));
    f.runner.start(order);
    assert_eq!(f.next().await, WakeOutcome::Succeeded);
    assert_eq!(f.read("out"), "ab");
}

#[tokio::test]
async fn a_value_too_long_for_the_kernel_comes_in_a_private_file() {
    let mut f = fixture();
    let long = "x".repeat(300_000);
    let mut order =
        f.order("test -z \"$TASK_JSON\" && printf %s \"$TASK_JSON_FILE\" > path && cp \"$TASK_JSON_FILE\" copy");
    order.env.push(("TASK_JSON".into(), long.clone()));
    f.runner.start(order);
    assert_eq!(f.next().await, WakeOutcome::Succeeded);
    assert_eq!(f.read("copy"), long);
    let file = PathBuf::from(f.read("path"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    f.runner.clean_up("t");
    assert!(file.exists(), "another task's clean-up took it");
    f.runner.clean_up("t1");
    assert!(!file.exists());
}

#[tokio::test]
async fn the_longest_value_that_fits_is_still_a_variable() {
    let mut f = fixture();
    // 128 KiB with the name, "=" and the closing NUL.
    let longest = 128 * 1024 - "TASK_JSON".len() - 2;
    let mut order = f.order("printf %s \"$TASK_JSON\" | wc -c > out; test -z \"$TASK_JSON_FILE\"");
    order.env.push(("TASK_JSON".into(), "x".repeat(longest)));
    f.runner.start(order);
    assert_eq!(f.next().await, WakeOutcome::Succeeded);
    assert_eq!(f.read("out").trim(), longest.to_string());
}

#[tokio::test]
async fn the_environment_is_scrubbed_before_our_values_are_set() {
    let mut f = fixture();
    let command = "echo \"$SCRUBBED ${CARGO_PKG_NAME:-gone} $TASK_ID\" > out";
    assert_eq!(f.outcome(command).await, WakeOutcome::Succeeded);
    assert_eq!(f.read("out"), "yes gone t1\n");
}

#[tokio::test]
async fn stdin_is_empty() {
    let mut f = fixture();
    assert_eq!(f.outcome("test -z \"$(cat)\"").await, WakeOutcome::Succeeded);
}

#[tokio::test]
async fn no_file_of_ours_leaks_into_the_command() {
    let mut f = fixture();
    let _ours = fs::File::create(f.root.path().join("secret")).unwrap();
    let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(f.outcome("ls -l /proc/$$/fd > fds; true").await, WakeOutcome::Succeeded);
    let fds = f.read("fds");
    assert!(!fds.contains("secret"), "{fds}");
    // What stands open is what this test process itself was started with, and our one output file on 1 and 2.
    assert_eq!(fds.matches(".output").count(), 2, "{fds}");
}

#[tokio::test]
async fn a_missing_folder_to_run_in_is_named() {
    let mut f = fixture();
    let mut order = f.order("true");
    order.cwd = f.root.path().join("nowhere");
    f.runner.start(order);
    let error = f.next_failure().await;
    assert!(error.contains("nowhere") && error.contains("create it"), "{error}");
}

#[tokio::test]
async fn a_command_too_long_for_the_kernel_fails_with_its_reason() {
    let mut f = fixture();
    let error = f.failure(&format!("true {}", "x".repeat(200_000))).await;
    assert!(error.contains("did not start"), "{error}");
    eventually("its output file is removed", || f.outputs().is_empty()).await;
}

#[tokio::test]
async fn without_a_scratch_folder_the_command_still_runs() {
    let mut f = fixture();
    fs::write(f.root.path().join("scratch"), "in the way").unwrap();
    assert_eq!(f.outcome("echo hello && echo ran > out").await, WakeOutcome::Succeeded);
    assert_eq!(f.read("out"), "ran\n");
}

#[tokio::test]
async fn a_detached_session_neither_delays_the_outcome_nor_ends_with_the_command() {
    let mut f = fixture();
    // Its output is the command's: a pipe would keep us waiting, and break when we close it.
    let command =
        "setsid sh -c 'echo $$ > pid; while ! test -e go; do sleep 0.05; done; echo alive; echo wrote > out' &";
    assert_eq!(f.outcome(command).await, WakeOutcome::Succeeded);
    let pid = f.written("pid").await;
    assert!(is_running(&pid));
    fs::write(f.root.path().join("go"), "").unwrap();
    assert_eq!(f.written("out").await, "wrote");
}

#[tokio::test]
async fn a_session_outlives_the_sidecar_and_its_output_is_taken_over() {
    let mut f = fixture();
    let command = "setsid sh -c 'echo $$ > pid; echo first; while ! test -e go; do sleep 0.05; done; echo second' &";
    assert_eq!(f.outcome(command).await, WakeOutcome::Succeeded);
    let pid = f.written("pid").await;
    let output = f.outputs().pop().expect("the session's output has a name");
    // The next sidecar: a new runner on the same folder, beside a file that nobody writes to.
    let abandoned = f.root.path().join("scratch/t0.1.1.output");
    fs::write(&abandoned, "old").unwrap();
    let (tx, _events) = mpsc::channel(1);
    let _next = WakeRunner::new(config(f.root.path().join("scratch")), tx);
    eventually("the abandoned file is removed", || !abandoned.exists()).await;
    assert!(output.exists(), "the file of a living session was removed");
    // Opened now: once the session is gone, the file goes too.
    let output = fs::File::open(output).unwrap();
    fs::write(f.root.path().join("go"), "").unwrap();
    eventually("the session ends", || !is_running(&pid)).await;
    assert_eq!(std::io::read_to_string(output).unwrap(), "first\nsecond\n");
}

#[tokio::test]
async fn the_output_file_of_a_finished_command_is_removed() {
    let mut f = fixture();
    assert_eq!(f.outcome("echo hello").await, WakeOutcome::Succeeded);
    eventually("the file is removed", || f.outputs().is_empty()).await;
}

#[tokio::test]
async fn a_timeout_ends_the_whole_group_and_reaps_it() {
    let mut f = fixture();
    let mut order = f.order("echo $$ > leader; sleep 1000 & echo $! > member; wait");
    order.timeout_ms = 3_000;
    f.runner.start(order);
    let (leader, member) = (f.written("leader").await, f.written("member").await);
    assert_eq!(f.next().await, WakeOutcome::TimedOut { after_ms: 3_000 });
    assert!(!is_there(&leader), "the command is a zombie");
    // The member is reaped by whoever adopts it.
    assert!(!is_running(&member));
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_is_killed() {
    let mut f = fixture();
    let mut order = f.order("trap '' TERM; echo $$ > leader; while :; do sleep 0.1; done");
    order.timeout_ms = 3_000;
    f.runner.start(order);
    let leader = f.written("leader").await;
    assert_eq!(f.next().await, WakeOutcome::TimedOut { after_ms: 3_000 });
    assert!(!is_there(&leader));
}

#[tokio::test]
async fn a_group_member_may_clean_up_after_sigterm() {
    let mut f = fixture();
    // The leader dies of SIGTERM at once; the member takes a little longer.
    let command =
        "sh -c 'trap \"sleep 0.2; echo cleaned > out; exit\" TERM; echo > up; while :; do sleep 0.05; done' & wait";
    let mut order = f.order(command);
    order.timeout_ms = 3_000;
    f.runner.start(order);
    f.written("up").await;
    assert_eq!(f.next().await, WakeOutcome::TimedOut { after_ms: 3_000 });
    assert_eq!(f.read("out"), "cleaned\n");
}

#[tokio::test]
async fn a_timeout_spares_a_detached_session() {
    let mut f = fixture();
    let mut order = f.order("setsid sh -c 'echo $$ > session; exec sleep 1000' & sleep 1000");
    order.timeout_ms = 3_000;
    f.runner.start(order);
    let session = f.written("session").await;
    assert_eq!(f.next().await, WakeOutcome::TimedOut { after_ms: 3_000 });
    let alive = is_running(&session);
    stop_process(&session);
    assert!(alive);
}

#[tokio::test]
async fn dropping_the_runner_leaves_a_command_alone() {
    let f = fixture();
    f.runner.start(f.order("echo $$ > pid; sleep 0.3; echo done > out"));
    f.written("pid").await;
    let Fixture { root, runner, events } = f;
    drop((runner, events));
    let out = root.path().join("out");
    eventually("the command finishes", || out.exists()).await;
}

#[tokio::test]
async fn each_order_ends_in_one_event() {
    let mut f = fixture();
    for _ in 0..10 {
        f.runner.start(f.order("true"));
    }
    for _ in 0..10 {
        assert_eq!(f.next().await, WakeOutcome::Succeeded);
    }
    let Fixture { runner, mut events, .. } = f;
    drop(runner);
    assert_eq!(timeout(BOUND, events.recv()).await.unwrap(), None);
}

#[tokio::test]
async fn an_outcome_never_quotes_a_secret() {
    let mut f = fixture();
    let error = f.failure("echo token s3cret-token; exit 1").await;
    assert!(error.ends_with("token <redacted>"), "{error}");
}
