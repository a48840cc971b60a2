//! The phases of a run, one after the other, on one hub.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Outcome;
use crate::agent::Agent;
use crate::args::{Args, Phase};
use crate::fleet::Fleet;
use crate::hub_process::Hub;
use crate::proc_files::{Memory, TcpCounters, memory};
use crate::questions::Asker;
use crate::report::Report;
use crate::stats::{Spread, per_second};
use crate::watch::{Seen, Watch, Watcher};
use crate::{restart, tasks};

/// The number of agents whose latencies are measured, beside the others.
const WATCHED: usize = 50;
/// The number of connections that make tokens and command restarts.
pub const CONNECTIONS: usize = 64;
/// The number of agents that dial at a time where not all do.
const AT_A_TIME: usize = 100;
/// The longest wait for the hub to notice that all agents are gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two looks at that.
const POLL: Duration = Duration::from_millis(10);
/// How long strangers have been idle before a herd comes. The hub lets none make room sooner than after 2 s.
const STRANGERS_WAIT: Duration = Duration::from_millis(2_500);

/// A run: the hub, its agents, and what was measured so far.
struct Run<'a> {
    args: &'a Args,
    hub: &'a Hub,
    watcher: &'a Watcher,
    report: &'a mut Report,
    agents: Vec<Arc<Agent>>,
    watched: Vec<Arc<Agent>>,
    /// The hub's memory before it had an agent.
    before: Option<Memory>,
}

/// Runs all phases that the arguments ask for.
pub async fn run(args: &Args, hub: &Hub, watcher: &Watcher, report: &mut Report) -> Outcome<()> {
    let fresh = hub.pid().map(memory).transpose()?;
    let began = Instant::now();
    let agents = make_agents(hub, "agent", args.agents(), "code").await?;
    let rate = per_second(agents.len(), began.elapsed());
    report.plain("tokens_per_second", "tokens made", format!("{rate:.0} a second"), rate);
    let watched = make_agents(hub, "watched", WATCHED, "watched").await?;
    let before = hub.pid().map(memory).transpose()?;
    if let (Some(fresh), Some(now)) = (fresh, before) {
        report.memory("memory_tokens", "memory: tokens", args.agents() + WATCHED, fresh, now, false);
    }
    let mut run = Run { args, hub, watcher, report, agents, watched, before };
    if args.runs(Phase::Joins) {
        run.joins().await?;
    }
    if args.runs(Phase::Herd) {
        for number in 1..=args.herds {
            run.herd(number).await?;
        }
    }
    run.with_all_connected().await?;
    if args.runs(Phase::Tasks) {
        let few: Vec<_> = run.agents.iter().take(args.few).cloned().collect();
        let fleet = Fleet::new(hub.address);
        fleet.join(&few, Some(AT_A_TIME)).await?;
        run.report.tasks(&tasks::run(hub, &fleet, few.len(), args.tasks).await?);
        run.leave(&fleet).await?;
    }
    tasks::check_none_left(hub).await
}

impl Run<'_> {
    async fn joins(&mut self) -> Outcome<()> {
        let fleet = Fleet::new(self.hub.address);
        let took = fleet.join(&self.agents, Some(AT_A_TIME)).await?;
        self.report.joins(self.agents.len(), took, Spread::of(fleet.take_joins()));
        self.memory("memory_joined", "memory: joined", true)?;
        self.leave(&fleet).await
    }

    async fn herd(&mut self, number: usize) -> Outcome<()> {
        let strangers = connect_strangers(self.hub.address, self.args.strangers).await?;
        let watch = Watch::start(self.watcher, self.hub, &self.watched, false).await?;
        let (fleet, tcp) = (Fleet::new(self.hub.address), TcpCounters::read()?);
        watch.begin();
        let took = fleet.join(&self.agents, None).await;
        let seen = watch.finish().await?;
        let tcp = TcpCounters::read()?.since(&tcp);
        self.report.herd(number, (took?, fleet.redials()), Spread::of(fleet.take_joins()), tcp, &seen);
        if number == self.args.herds {
            self.memory("memory_herd", "memory: after herds", false)?;
        }
        drop(strangers);
        self.leave(&fleet).await
    }

    /// The phases for which all agents are connected.
    async fn with_all_connected(&mut self) -> Outcome<()> {
        let phases = [Phase::Quiet, Phase::Tasks, Phase::List, Phase::Questions, Phase::Restart];
        if !phases.into_iter().any(|phase| self.args.runs(phase)) {
            return Ok(());
        }
        let fleet = Fleet::new(self.hub.address);
        fleet.join(&self.agents, Some(AT_A_TIME)).await?;
        fleet.take_joins();
        if self.args.runs(Phase::Quiet) {
            let seen = self.watch(false).await?;
            self.report.watched("quiet", "quiet", &seen);
        }
        if self.args.runs(Phase::Tasks) {
            let measured = tasks::run(self.hub, &fleet, self.agents.len(), self.args.tasks).await?;
            self.report.tasks(&measured);
            self.memory("memory_tasks", "memory: after tasks", false)?;
        }
        if self.args.runs(Phase::List) {
            for (key, name, lists) in [("events", "events flow", false), ("list", "events flow, lists read", true)] {
                let stop = AtomicBool::new(false);
                let watched = async {
                    let seen = self.watch(lists).await;
                    stop.store(true, Ordering::Relaxed);
                    seen
                };
                let (seen, tasks) = tokio::join!(watched, tasks::trickle(self.hub, &fleet, &stop));
                self.report.watched(key, &format!("{name} ({} tasks)", tasks?), &seen?);
            }
        }
        if self.args.runs(Phase::Questions) {
            self.ask_who_is_away("few are", "question_few_away", 0)?;
            let binary = self.args.hub_binary()?;
            Asker::new(self.hub, &binary)?.what_of(&self.agents[0], self.report)?;
        }
        if self.args.runs(Phase::Restart) {
            restart::run(self.hub, &fleet, &self.agents, self.report).await?;
            self.memory("memory_restart", "memory: after the restart", false)?;
        }
        self.leave(&fleet).await?;
        if self.args.runs(Phase::Questions) {
            self.ask_who_is_away("all are", "question_all_away", self.agents.len())?;
        }
        Ok(())
    }

    /// Asks which agents are away: so many, and the watched ones, which are not connected between the phases.
    fn ask_who_is_away(&mut self, when: &str, key: &str, away: usize) -> Outcome<()> {
        let binary = self.args.hub_binary()?;
        let watched_came = [Phase::Herd, Phase::Quiet, Phase::List].into_iter().any(|phase| self.args.runs(phase));
        let away = away + if watched_came { self.watched.len() } else { 0 };
        // A hub that ran before may know others.
        let away = self.hub.pid().map(|_| away);
        Asker::new(self.hub, &binary)?.who_is_away(when, key, away, self.report)
    }

    /// Measures latencies for a while.
    async fn watch(&self, lists: bool) -> Outcome<Seen> {
        let watch = Watch::start(self.watcher, self.hub, &self.watched, lists).await?;
        watch.begin();
        tokio::time::sleep(Duration::from_millis(self.args.watch_ms)).await;
        watch.finish().await
    }

    fn memory(&mut self, key: &str, name: &str, is_judged: bool) -> Outcome<()> {
        if let (Some(pid), Some(before)) = (self.hub.pid(), self.before) {
            self.report.memory(key, name, self.agents.len(), before, memory(pid)?, is_judged);
        }
        Ok(())
    }

    /// Ends the agents and waits until the hub has noticed.
    async fn leave(&self, fleet: &Fleet) -> Outcome<()> {
        fleet.end().await?;
        let (mut client, began) = (self.hub.client(), Instant::now());
        loop {
            let health = client.json("GET", "/health", None, 200).await?;
            if health["agents_connected"] == 0 {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("the hub still has agents {PATIENCE:?} after all have left: {health}"));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Makes a token for each agent.
async fn make_agents(hub: &Hub, prefix: &str, count: usize, capability: &'static str) -> Outcome<Vec<Arc<Agent>>> {
    let mut makers = JoinSet::new();
    for maker in 0..CONNECTIONS.min(count) {
        let (mut client, prefix) = (hub.client(), prefix.to_owned());
        makers.spawn(async move {
            let mut made = Vec::new();
            for number in (maker..count).step_by(CONNECTIONS) {
                let id = format!("{prefix}-{number:05}");
                let body = serde_json::json!({"agent_id": id}).to_string();
                let answer = client.json("POST", "/admin/tokens", Some(&body), 201).await?;
                let token = answer["token"].as_str().ok_or_else(|| format!("no token: {answer}"))?;
                made.push(Arc::new(Agent::new(id, token.to_owned(), capability)));
            }
            Ok::<_, String>(made)
        });
    }
    let mut agents = Vec::with_capacity(count);
    while let Some(made) = makers.join_next().await {
        agents.extend(made.map_err(|error| format!("a maker of tokens ended: {error}"))??);
    }
    Ok(agents)
}

/// Opens connections that say nothing, and waits until they are no newcomers any more.
async fn connect_strangers(address: SocketAddr, count: usize) -> Outcome<Vec<TcpStream>> {
    let mut strangers = Vec::with_capacity(count);
    for _ in 0..count {
        let stranger = TcpStream::connect(address).await;
        strangers.push(stranger.map_err(|error| format!("a stranger cannot connect: {error}"))?);
    }
    if count > 0 {
        tokio::time::sleep(STRANGERS_WAIT).await;
    }
    Ok(strangers)
}
