//! Random kill -9 of the real sidecar at work, with commanded restarts in between; a loop in the test stands in for pm2.
//! In the end every task is done once, no assignment was started twice, and nothing is left anywhere.
//!
//! `AGENTCOM_KILLS` overrides how many kills there are, `AGENTCOM_SEED` the dice; the seed is printed.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]
#![allow(clippy::print_stderr, reason = "the seed, for a run that fails")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::hub::Hub;
use crate::support::legacy_hub::{LegacyHub, OnReturn, Options, Status};
use crate::support::process::Running;
use crate::support::sidecar::Agent;
use crate::support::wait;
use serde_json::{Value, json};

const ALICE: &str = "alice";

/// Long enough for what is left to do when the killing is over.
const AFTERWARDS: Duration = Duration::from_secs(30);

/// After so many kills one task is seen to its end: who is killed all the time gets nowhere.
const BREATHER: u64 = 12;

/// xorshift64*: the same seed, the same kills.
struct RandomBytes(u64);

impl RandomBytes {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let given = std::env::var("AGENTCOM_SEED").ok().map(|seed| seed.parse().expect("AGENTCOM_SEED is a number"));
        let seed = given.unwrap_or(u64::try_from(now % u128::from(u64::MAX)).unwrap()) | 1;
        eprintln!("AGENTCOM_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }

    /// Mostly short; one in twenty is long enough for most waits to end.
    fn pause(&mut self, bound_ms: u64) -> Duration {
        let bound_ms = if self.below(20) == 0 { 2_500 } else { bound_ms };
        Duration::from_millis(self.below(bound_ms))
    }
}

/// How many kills there are in each run at this project's hub.
const KILLS_AT_OUR_HUB: u64 = 120;
/// The same at a legacy hub.
const KILLS_AT_A_LEGACY_HUB: u64 = 40;

fn kills(default: u64) -> u64 {
    std::env::var("AGENTCOM_KILLS").map_or(default, |count| count.parse().expect("AGENTCOM_KILLS is a number"))
}

/// What a task asks of the agent: mostly quick, some slow enough to be killed in every stage, some to be woken again.
fn description(number: u64) -> &'static str {
    const KINDS: [&str; 8] = [
        "quick",
        "run=0.1",
        "start=0.1",
        "wake=0.1",
        "failtimes=1",
        "start=0.05 run=0.05",
        "wake=0.2 early run=0.1",
        "quick too",
    ];
    KINDS[usize::try_from(number).unwrap() % KINDS.len()]
}

fn short_times(agent: &Agent) {
    agent.configure("log_level", json!("info"));
    agent.configure("reconnect_min_ms", json!(10));
    agent.configure("reconnect_max_ms", json!(50));
    agent.configure("results_scan_ms", json!(20));
    agent.configure("answer_timeout_ms", json!(500));
    agent.configure("wake_retry_delays_ms", json!([10, 10, 10]));
    // A session that a slow machine starts late is still a session: short, not tight.
    agent.configure("confirmation_timeout_ms", json!(1_500));
    agent.configure("restart_deadline_ms", json!(400));
    agent.configure("restart_intensity", json!({"max": 1_000, "window_ms": 60_000}));
}

/// Stands in for pm2: whatever ends is started again, and an end that nobody wanted is a failure.
struct Supervisor<'a> {
    agent: &'a Agent,
    sidecar: Running,
    commanded_exits: u64,
}

impl<'a> Supervisor<'a> {
    fn new(agent: &'a Agent) -> Self {
        Self { agent, sidecar: agent.start_supervised(), commanded_exits: 0 }
    }

    fn look(&mut self) {
        if let Some(status) = self.sidecar.ended() {
            assert_eq!(status.code(), Some(0), "the sidecar died by itself\n{}", self.agent.story());
            self.commanded_exits += 1;
            self.sidecar = self.agent.start_supervised();
        }
    }

    fn kill(&mut self) {
        self.look();
        self.sidecar.kill9();
        self.sidecar = self.agent.start_supervised();
    }
}

/// Sidecars that are all supervised at once.
struct Fleet<'a>(Vec<Supervisor<'a>>);

impl<'a> Fleet<'a> {
    fn new(agents: &'a [Agent]) -> Self {
        Self(agents.iter().map(Supervisor::new).collect())
    }

    fn look(&mut self) {
        self.0.iter_mut().for_each(Supervisor::look);
    }

    /// Lets them work for so long.
    fn let_work(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.look();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn until(&mut self, what: &str, mut done: impl FnMut() -> bool, more: impl FnOnce() -> String) {
        let agents: Vec<&Agent> = self.0.iter().map(|one| one.agent).collect();
        let probe = || {
            self.look();
            done().then_some(())
        };
        let stories = || agents.iter().map(|agent| agent.story()).collect::<Vec<_>>().join("\n");
        wait::until_or(what, AFTERWARDS, probe, || stories() + "\n" + &more());
    }
}

/// No assignment was started twice, and none was woken again but after a wake that said it failed.
fn assert_started_once(agent: &Agent, wakes_that_may_fail: impl Fn(&str) -> bool) {
    let mut steps: BTreeMap<(String, u64, String), u32> = BTreeMap::new();
    for run in agent.runs() {
        *steps.entry((run.task, run.generation, run.step)).or_default() += 1;
    }
    for ((task, generation, step), times) in &steps {
        let allowed = if step == "woken" && wakes_that_may_fail(task) { 2 } else { 1 };
        assert!(*times <= allowed, "{task} generation {generation}: {step} {times} times\n{}", agent.story());
    }
}

/// The journal at rest.
fn is_quiet(agent: &Agent) -> bool {
    agent.queue().is_some_and(|queue| queue["active"].is_null() && queue["outbox"] == json!([]))
}

/// How many of our hub's tasks stand so.
fn listed(hub: &Hub, status: &str) -> usize {
    hub.get(&format!("/api/tasks?status={status}")).1["tasks"].as_array().unwrap().len()
}

/// Nobody was woken for a task that somebody else had, or had had: one wake, and one more for each try that failed.
fn assert_woken_once(agents: &[Agent], task: &Value, kind: &str) {
    let id = task["id"].as_str().unwrap();
    let history = task["history"].as_array().unwrap();
    let count = |event: &str| history.iter().filter(|entry| entry["event"] == event).count();
    assert_eq!(count("completed"), 1, "{kind}: {task}");
    // Every holder was back in time. But one that is killed again and again before it accepts has nothing to go on with.
    for entry in history.iter().filter(|entry| entry["event"] == "reclaimed") {
        assert_eq!(entry["details"]["reason"], "process_replaced", "{kind}: {task}");
    }
    for entry in history.iter().filter(|entry| entry["event"] == "retry") {
        assert_eq!(entry["details"], "confirmation_timeout", "{kind}: {task}");
    }
    let wakes: usize = agents.iter().map(|agent| agent.count(id, "woken")).sum();
    let failed_wakes = usize::from(kind.contains("failtimes"));
    let stories = || agents.iter().map(Agent::story).collect::<Vec<_>>().join("\n");
    assert!(wakes <= 1 + count("retry") + failed_wakes, "{id}: woken {wakes} times\n{task}\n{}", stories());
}

/// Each task is for whoever is idle, and two of them always are.
#[test]
fn kills_at_our_hub() {
    const NAMES: [&str; 4] = [ALICE, "bob", "carol", "dave"];
    let mut dice = RandomBytes::new();
    let kills = kills(KILLS_AT_OUR_HUB);
    // No task of these ends its agent, however often it is there when that is killed.
    let hub = Hub::start_with(&["--max-losses", "1000000"]);
    let agents = NAMES.map(|name| Agent::new(name, &hub.url(), &hub.register(name)));
    agents.iter().for_each(short_times);
    let mut tasks = Vec::new();
    let mut fleet = Fleet::new(&agents);
    let open = || listed(&hub, "queued") + listed(&hub, "assigned");
    for number in 0..kills {
        while open() < 2 {
            let kind = description(tasks.len() as u64);
            tasks.push((hub.submit_with(json!({"description": kind, "max_retries": 1_000})), kind));
        }
        if number % BREATHER == BREATHER - 1 {
            let before = open();
            fleet.until("one more task to be done", || open() < before.max(1), || hub.get("/api/tasks").1.to_string());
        }
        fleet.let_work(dice.pause(150));
        // Mostly one that works.
        let holders: Vec<usize> = (0..NAMES.len()).filter(|n| agents[*n].works()).collect();
        let any = usize::try_from(dice.below(NAMES.len() as u64)).unwrap();
        let victim = holders.get(usize::try_from(dice.below(3)).unwrap()).copied().unwrap_or(any);
        if number % 5 == 3 {
            // A 404 when it is not back from the last kill yet.
            let (status, body) = hub.restart(NAMES[victim], json!({"reason": format!("restart {number}")}));
            assert!(status == 200 || status == 404, "{status} {body}");
            fleet.let_work(dice.pause(100));
        }
        fleet.0[victim].kill();
    }
    for (task, _) in &tasks {
        let done = || hub.task(task)["status"] == "completed";
        fleet.until(&format!("{task} to be done"), done, || hub.task(task).to_string());
    }
    fleet.until("the journals to be empty", || agents.iter().all(is_quiet), String::new);
    let over = |restart: &Value| restart["state"] == "back" || restart["state"] == "refused";
    let restarts = || NAMES.iter().flat_map(|name| hub.restarts(name)).collect::<Vec<Value>>();
    fleet.until("every restart to be over", || restarts().iter().all(over), || format!("{:?}", restarts()));
    let may_fail = |id: &str| tasks.iter().any(|(task, kind)| task == id && kind.contains("failtimes"));
    agents.iter().for_each(|agent| assert_started_once(agent, may_fail));
    tasks.iter().for_each(|(task, kind)| assert_woken_once(&agents, &hub.task(task), kind));
    assert!(!restarts().is_empty());
    let exits: u64 = fleet.0.iter().map(|one| one.commanded_exits).sum();
    eprintln!("{kills} kills, {} tasks, {} restarts, {exits} of them by exit 0", tasks.len(), restarts().len());
}

#[test]
fn kills_at_an_existing_hub() {
    let mut dice = RandomBytes::new();
    let kills = kills(KILLS_AT_A_LEGACY_HUB);
    let hub = LegacyHub::start_with(Options { rate_limits: false, hold_ms: 100, ..Options::default() });
    let agents = [Agent::new(ALICE, &hub.url(), &hub.register(ALICE))];
    let agent = &agents[0];
    short_times(agent);
    let mut tasks = Vec::new();
    let mut supervisor = Fleet::new(&agents);
    for number in 0..kills {
        let open = |task: &String| hub.task(task).is_some_and(|task| task.status != Status::Completed);
        while tasks.iter().filter(|(task, _)| open(task)).count() < 3 {
            let kind = description(tasks.len() as u64);
            let id = format!("task-{}", tasks.len());
            let task = crate::support::legacy_hub::Task::new(&id, kind).max_retries(1_000);
            tasks.push((hub.submit_task(task), kind));
        }
        let on_return = [OnReturn::AtOnce, OnReturn::AfterContinue, OnReturn::AfterReassign];
        hub.set(|options| options.on_return = on_return[usize::try_from(dice.below(3)).unwrap()]);
        if number % BREATHER == BREATHER - 1 {
            let open = || tasks.iter().filter(|(task, _)| open(task)).count();
            let before = open();
            supervisor.until("one more task to be done", || open() < before.max(1), || hub.story());
        }
        supervisor.let_work(dice.pause(200));
        if number % 5 == 3 {
            hub.restart(ALICE, &format!("restart {number}"));
            supervisor.let_work(dice.pause(100));
        }
        supervisor.0[0].kill();
    }
    let done = |task: &str| hub.task(task).unwrap().status == Status::Completed;
    for (task, _) in &tasks {
        let story = || {
            hub.story()
                .lines()
                .filter(|line| line.contains(task) || line.contains("identified"))
                .collect::<Vec<_>>()
                .join("\n")
        };
        supervisor.until(&format!("{task} to be done"), || done(task), story);
    }
    supervisor.until("the journal to be empty", || is_quiet(agent), String::new);
    assert_started_once(agent, |id| tasks.iter().any(|(task, kind)| task == id && kind.contains("failtimes")));
    for (task, kind) in &tasks {
        let history = hub.task(task).unwrap().history;
        assert_eq!(history.iter().filter(|(_, what, _)| *what == "completed").count(), 1, "{kind}: {history:?}");
    }
    eprintln!("{kills} kills, {} tasks, {} of the ends by exit 0", tasks.len(), supervisor.0[0].commanded_exits);
}
