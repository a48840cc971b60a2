//! The sidecars: each event through the shipped transition function, its effects in order, a write's outcome as the next
//! event. It is the shell's loop and no more; it dies between any two effects.

use std::sync::LazyLock;

use agentcom::codec::{Identity, encode_frame};
use agentcom::common::secret::Secret;
use agentcom::hub::scheduler::agents::SILENCE_BOUND_MS;
use agentcom::machine::invariants::{History, StepRecord, check_step};
use agentcom::machine::{
    Cause, Effect, Event, EventName, Journal, Machine, RestartMethod, State, Timestamp, ToHub, ToHubName, Wait,
    transition,
};
use agentcom::protocol::schema::{Incoming, read_frame};
use agentcom::protocol::{JsonText, Pm2Info, SidecarFrame};

use super::log::What;
use super::{Checked, Day, Ev, Options, Violation, broken, of_agent};
use crate::rng::Rng;

/// The state of a sidecar that is no process at the moment, and what surrounds it.
pub struct Sidecar {
    /// The process; `None` while there is none.
    pub machine: Option<Machine>,
    /// What its disk holds.
    disk: Journal,
    /// What happened to it, of those whose steps are checked.
    history: Option<Box<History>>,
    pub rng: Rng,
    token: String,
    /// Its connection, from the dial on.
    pub conn: Option<u32>,
    /// The number of its process.
    pub run: u32,
    /// How often its host was rebooted.
    host_boot: usize,
    /// The version that its process runs.
    pub version: u8,
    /// The time at which it is woken for its next deadline.
    wakes_at: u64,
    /// The number of effects after which its process dies.
    dies_after: Option<u64>,
    /// Until when its link is down, and until when it holds everything back.
    pub down_until: u64,
    pub held_until: u64,
    /// The task whose files it waits for.
    pub watching: Option<u32>,
    /// The sessions with files in its results folder.
    pub sessions: Vec<u32>,
}

/// What is the same for all of them.
static IDENTITY: LazyLock<Identity> = LazyLock::new(|| Identity {
    agent_id: String::new(),
    token: Secret::new(""),
    capabilities: Vec::new(),
    labels: std::collections::BTreeMap::new(),
    ollama_url: None,
    boot_id: String::new(),
    previous: None,
    expected_back_ms: 1_000,
    silence_bound_ms: SILENCE_BOUND_MS,
});

/// Returns an agent's name.
pub fn name(agent: u32) -> String {
    format!("agent-{agent:06}")
}

/// Returns the number of the agent with this name.
pub fn number(name: &str) -> u32 {
    name.strip_prefix("agent-").and_then(|number| number.parse().ok()).expect("an agent's name")
}

/// Whether an agent can do what only some can.
pub fn has_gpu(agent: u32) -> bool {
    agent % 10 == 1
}

impl Sidecar {
    pub fn new(agent: u32, token: String, rng: Rng, options: &Options) -> Self {
        Self {
            machine: None,
            disk: Journal::default(),
            history: agent.is_multiple_of(options.checked_one_in).then(Box::default),
            rng,
            token,
            conn: None,
            run: 0,
            host_boot: 0,
            version: 1,
            wakes_at: u64::MAX,
            dies_after: None,
            down_until: 0,
            held_until: 0,
            watching: None,
            sessions: Vec::new(),
        }
    }
}

impl Day {
    fn timestamp(&self) -> Timestamp {
        Timestamp::from_millis(self.now())
    }

    /// An event happens to the process, if there is one.
    pub(super) fn step(&mut self, agent: u32, event: Event) -> Checked {
        self.steps(agent, vec![event])
    }

    fn steps(&mut self, agent: u32, mut events: Vec<Event>) -> Checked {
        while !events.is_empty() {
            let event = events.remove(0);
            let now = self.timestamp();
            let sidecar = &mut self.fleet[agent as usize];
            let Some(machine) = sidecar.machine.take() else { return Ok(()) };
            let policy = &self.policies[sidecar.host_boot];
            self.figures.steps += 1;
            self.log.note(Some(agent), None, What::Happens(EventName::from(&event)));
            if self.log.tells_of(agent) {
                eprintln!("    {event:?}");
            }
            let (after, effects) = match &mut sidecar.history {
                None => transition(machine, event, now, policy),
                Some(history) => {
                    self.figures.checked += 1;
                    let before = machine.clone();
                    let (after, effects) = transition(machine, event.clone(), now, policy);
                    let step =
                        StepRecord { before: &before, event: &event, now, policy, after: &after, effects: &effects };
                    check_step(&step).and_then(|()| history.observe(&step)).map_err(|why| broken(agent, &why))?;
                    (after, effects)
                }
            };
            sidecar.machine = Some(after);
            if !self.perform(agent, effects, &mut events)? {
                return Ok(());
            }
        }
        self.arm(agent);
        self.watch(agent);
        Ok(())
    }

    /// Carries the effects out. Returns whether the process lives on.
    fn perform(&mut self, agent: u32, effects: Vec<Effect>, events: &mut Vec<Event>) -> Result<bool, Violation> {
        for effect in effects {
            if let Some(left) = &mut self.fleet[agent as usize].dies_after {
                if *left == 0 {
                    self.dies(agent, false)?;
                    return Ok(false);
                }
                *left -= 1;
            }
            if self.log.tells_of(agent) {
                eprintln!("      -> {effect:?}");
            }
            match effect {
                Effect::Persist(journal) => {
                    self.figures.journals += 1;
                    self.fleet[agent as usize].disk = *journal;
                    events.push(Event::Persisted);
                }
                Effect::KeepRefused { task_id, generation, result: _ } => {
                    let path = Some("rejected".to_owned());
                    events.push(Event::RefusedResultWritten { task_id, generation, path });
                }
                Effect::Exit { cause, ending: _ } => {
                    self.exits(agent, &cause)?;
                    return Ok(false);
                }
                Effect::Send(said) => self.say(agent, said)?,
                Effect::Dial => self.dial(agent),
                Effect::CloseLink(code) => self.close_up(agent, code),
                Effect::Wake { task, attempt } => self.wake(agent, &task, attempt)?,
                Effect::CleanUp { task_id, result } => self.clean_up(agent, &task_id, result),
                Effect::DropSign { task_id } => self.drop_sign(agent, &task_id),
                Effect::LookForResults { number } => {
                    let run = self.fleet[agent as usize].run;
                    self.agenda.plan(self.agenda.now() + 5, Ev::LastLook(agent, run, number));
                }
                Effect::CheckNextRun { number, leaving: _ } => {
                    let sidecar = &mut self.fleet[agent as usize];
                    let at = self.agenda.now() + sidecar.rng.between(50, 300);
                    self.agenda.plan(at, Ev::NextRun(agent, sidecar.run, number));
                }
                Effect::RunResultHook { .. } => return Err(of_agent(agent, "there is no result hook".to_owned())),
                Effect::WithdrawWake { .. } | Effect::PassOn(_) | Effect::Reply { .. } | Effect::Notify(_) => {}
            }
        }
        Ok(true)
    }

    fn say(&mut self, agent: u32, said: ToHub) -> Checked {
        self.note(agent, What::Says(ToHubName::from(&said)));
        if let ToHub::Ping = said {
            self.ping(agent);
            return Ok(());
        }
        if let ToHub::AgentRestarting { restart, .. } = &said
            && let Some(command_id) = &restart.command_id
        {
            self.books.announced(agent, command_id)?;
        }
        let mut frame = encode_frame(said, &IDENTITY, Pm2Info::default);
        if let SidecarFrame::Identify(identify) = &mut frame {
            let (name, sidecar) = (name(agent), &self.fleet[agent as usize]);
            identify.boot_id = Some(format!("{name}-{}", sidecar.run));
            identify.token.clone_from(&sidecar.token);
            identify.version = Some(version(sidecar.version));
            identify.capabilities = capabilities(agent);
            (identify.name, identify.agent_id) = (Some(name.clone()), name);
        }
        self.send_up(agent, frame);
        Ok(())
    }

    /// The frame as the hub reads it: through its text, for those that are checked.
    pub(super) fn over_the_wire(&self, agent: u32, frame: SidecarFrame) -> Result<SidecarFrame, Violation> {
        if self.fleet[agent as usize].history.is_none() {
            return Ok(frame);
        }
        let text = frame.to_text();
        match read_frame(&text).0 {
            Incoming::Frame(frame) => Ok(frame),
            refused @ (Incoming::Ignored | Incoming::NotJson | Incoming::Invalid { .. }) => {
                Err(of_agent(agent, format!("the hub does not take {text}: {refused:?}")))
            }
        }
    }

    /// Plans the next deadline. A heartbeat that changes nothing is left out.
    pub(super) fn arm(&mut self, agent: u32) {
        let now = self.now();
        let sidecar = &self.fleet[agent as usize];
        let Some(machine) = &sidecar.machine else { return };
        let policy = &self.policies[sidecar.host_boot];
        let Some((at, wait)) = machine.deadline(policy) else { return };
        let mut at = at.as_millis();
        if wait == Wait::Ping {
            let may_wait = !self.options.all_heartbeats && matches!(machine.state, State::Idle);
            if may_wait && self.is_well(agent) {
                return;
            }
            // Those before now were left out.
            let every = policy.ping_interval_ms + self.round_trip_ms(agent);
            at += now.saturating_sub(at).div_ceil(every) * every;
        }
        let sidecar = &mut self.fleet[agent as usize];
        if at < sidecar.wakes_at {
            sidecar.wakes_at = at.max(now);
            self.agenda.plan(at, Ev::Deadline(agent));
        }
    }

    pub(super) fn deadline(&mut self, agent: u32) -> Checked {
        let now = self.timestamp();
        let sidecar = &mut self.fleet[agent as usize];
        if sidecar.wakes_at != now.as_millis() {
            return Ok(());
        }
        sidecar.wakes_at = u64::MAX;
        let policy = &self.policies[sidecar.host_boot];
        let Some(machine) = &sidecar.machine else { return Ok(()) };
        match machine.deadline(policy).is_some_and(|(at, _)| at <= now) {
            true => self.step(agent, Event::DeadlineReached),
            false => {
                self.arm(agent);
                Ok(())
            }
        }
    }

    pub(super) fn next_run(&mut self, agent: u32, run: u32, number: u32) -> Checked {
        if self.fleet[agent as usize].run != run {
            return Ok(());
        }
        let restart_method = RestartMethod::Supervisor;
        self.step(agent, Event::NextRunChecked { number, restart_method, cannot_start: None })
    }

    fn exits(&mut self, agent: u32, cause: &Cause) -> Checked {
        if let Cause::Restart { order, .. } = cause
            && let Some(command_id) = &order.command_id
        {
            self.books.left_for(agent, command_id)?;
        }
        self.ends(agent, false)
    }

    /// The process is killed; with its host, every session of the agent, too.
    pub(super) fn dies(&mut self, agent: u32, with_its_host: bool) -> Checked {
        if self.fleet[agent as usize].machine.is_none() {
            return Ok(());
        }
        self.note(agent, What::Dies);
        self.figures.deaths += 1;
        self.ends(agent, with_its_host)
    }

    /// Lets the process die after so many of its effects.
    pub(super) fn dies_after(&mut self, agent: u32, effects: u64) {
        self.fleet[agent as usize].dies_after = Some(effects);
    }

    fn ends(&mut self, agent: u32, with_its_host: bool) -> Checked {
        self.process_left(agent, with_its_host);
        let now = self.now();
        let sidecar = &mut self.fleet[agent as usize];
        (sidecar.machine, sidecar.dies_after, sidecar.watching) = (None, None, None);
        let ms = match with_its_host {
            true => sidecar.rng.between(20_000, 120_000),
            false => sidecar.rng.between(100, 1_500),
        };
        if let Some(history) = &mut sidecar.history {
            history.crashed(&sidecar.disk, with_its_host).map_err(|why| broken(agent, &why))?;
        }
        self.agenda.plan(now + ms, Ev::Start(agent, sidecar.run));
        if with_its_host {
            sidecar.host_boot += 1;
            if sidecar.host_boot == self.policies.len() {
                let machine_boot = format!("boot-{}", sidecar.host_boot);
                self.policies.push(agentcom::machine::Policy { machine_boot, ..self.policies[0].clone() });
            }
            self.host_left(agent);
        }
        Ok(())
    }

    /// The supervisor starts the run after this one.
    pub(super) fn start(&mut self, agent: u32, run: u32) -> Checked {
        let now = self.timestamp();
        let newest = self.books.version;
        let sidecar = &mut self.fleet[agent as usize];
        if sidecar.machine.is_some() || sidecar.run != run {
            return Ok(());
        }
        (sidecar.run, sidecar.wakes_at, sidecar.version) = (run + 1, u64::MAX, newest);
        let (machine, effects) = Machine::recover(sidecar.disk.clone(), now, &self.policies[sidecar.host_boot]);
        sidecar.machine = Some(machine);
        self.note(agent, What::Starts(run + 1));
        self.forget_reports(agent);
        let mut events = Vec::new();
        match self.perform(agent, effects, &mut events)? {
            true => {
                self.arm(agent);
                self.steps(agent, events)
            }
            false => Ok(()),
        }
    }
}

/// Returns the name of a version.
pub fn version(number: u8) -> String {
    format!("{number}.0.0")
}

fn capabilities(agent: u32) -> Vec<JsonText> {
    let names: &[&str] = if has_gpu(agent) { &["code", "gpu"] } else { &["code"] };
    names.iter().map(JsonText::of).collect()
}
