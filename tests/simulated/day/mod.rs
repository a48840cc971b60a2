//! A day of a fleet: the shipped hub's decisions with a store in memory, and the shipped sidecar's machine a hundred
//! thousand times, as events in virtual time. No sockets, no threads, no clock: one seed is one day.
//!
//! What is real: `HubState` and its scheduler, fed and committed as the actor does it, loaded as a starting hub does it;
//! `transition` and the frames of both sides. What is made up: links, processes, disks that work, agents, operators.
//!
//! A sidecar that is idle on a link that is well is not woken for its heartbeats. When the link stops being well, it is woken
//! at the heartbeat that would have come next, to within a round trip.

pub mod agenda;
mod books;
mod disk;
mod end;
mod figures;
mod hub;
mod link;
mod log;
mod plan;
mod rollout;
mod sessions;
mod sidecar;

use agentcom::machine::Policy;
use agentcom::machine::invariants::Violation as Broken;

use crate::rng::Rng;
use agenda::Agenda;
use books::Books;
pub use figures::Figures;
use hub::Hub;
use link::{Conn, HowClosed, Parcels};
use log::{Log, What};
use sessions::Session;
use sidecar::Sidecar;

/// Where virtual time begins, in ms since the epoch.
pub const EPOCH_MS: u64 = 1_800_000_000_000;
/// The time after the last task and the last fault in which everything has to end, in ms.
const CALM_MS: u64 = 24 * 3_600_000;

/// What is played.
#[derive(Debug, Clone)]
pub struct Options {
    pub seed: u64,
    pub agents: u32,
    /// How long tasks and faults come, in ms.
    pub length_ms: u64,
    /// The number of tasks, about.
    pub tasks: u64,
    /// The work of a task is divided by this: in an hour there is no room for tasks of hours.
    pub haste: u64,
    /// The steps of one of so many sidecars are checked against all properties of the machine.
    pub checked_one_in: u32,
    /// Whether a sidecar is woken for each heartbeat, also where it changes nothing.
    pub all_heartbeats: bool,
    /// What is told as it happens: everything about this agent or task.
    pub tell: Option<About>,
}

/// Whom something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    Agent(u32),
    Task(u32),
    All,
}

impl Options {
    /// A day: ten tasks an agent.
    pub fn day(agents: u32, seed: u64) -> Self {
        let (length_ms, tasks) = (24 * 3_600_000, 10 * u64::from(agents));
        Self { seed, agents, length_ms, tasks, haste: 1, checked_one_in: 64, all_heartbeats: false, tell: None }
    }

    /// An hour, with as many faults as a day has.
    pub fn hour(agents: u32, seed: u64) -> Self {
        let (length_ms, tasks) = (3_600_000, 8 * u64::from(agents));
        Self { length_ms, tasks, haste: 4, checked_one_in: 4, ..Self::day(agents, seed) }
    }
}

impl Options {
    fn is_an_hour(&self) -> bool {
        self.haste > 1
    }
}

/// Something that does not hold.
#[derive(Debug, Clone)]
pub struct Violation {
    pub what: String,
    pub about: About,
}

pub type Checked = Result<(), Violation>;

/// Something that does not hold of an agent.
fn of_agent(agent: u32, what: String) -> Violation {
    Violation { what, about: About::Agent(agent) }
}

/// Something that does not hold of a task.
fn of_task(task: u32, what: String) -> Violation {
    Violation { what, about: About::Task(task) }
}

/// A property of the machine that does not hold.
fn broken(agent: u32, broken: &Broken) -> Violation {
    of_agent(agent, broken.to_string())
}

/// What happens. Agents, connections, tasks and sessions are numbers.
#[derive(Debug, Clone, Copy)]
enum Ev {
    /// A sidecar's deadline.
    Deadline(u32),
    Opened(u32),
    NotOpened(u32),
    /// A frame reaches the hub.
    Up(u32, u32),
    /// The end of a connection reaches the hub.
    UpEnd(u32, HowClosed),
    /// The hub has heard nothing for too long.
    Silent(u32),
    /// A frame reaches the sidecar.
    Down(u32, u32),
    DownEnd(u32),
    /// The sidecar waits no longer for the hub's close frame.
    GivenUp(u32),
    Pong(u32),
    /// A wake command ends.
    Woken(u32),
    Shown(u32),
    Done(u32),
    /// The sidecar reads the results folder.
    Look(u32),
    /// The same once more, as the answer to a question of this run, with the question's number.
    LastLook(u32, u32, u32),
    /// The supervisor's answer about the next run, to a question of this run.
    NextRun(u32, u32, u32),
    /// The supervisor starts the sidecar's run after this one.
    Start(u32, u32),
    /// The actor's next round.
    Round,
    /// The hub's commit, of the hub process with this number.
    Committed(u32),
    HubStarts,
    HubDies(bool),
    Storm(u32),
    Second,
    Submit(u32),
    Cancel(u32),
    /// A task waited a moment ago beside an idle agent that could do it.
    WaitsStill(u32, u32),
    Minute,
}

/// The world.
pub struct Day {
    options: Options,
    agenda: Agenda<Ev>,
    rng: Rng,
    fleet: Vec<Sidecar>,
    /// The figures that the machines decide by, by the number of the host's reboots.
    policies: Vec<Policy>,
    conns: Vec<Conn>,
    parcels: Parcels,
    sessions: Vec<Session>,
    hub: Hub,
    books: Books,
    figures: Figures,
    log: Log,
    /// What follows the day has come: no more tasks and faults.
    calm: bool,
}

/// What a day came to.
pub struct Outcome {
    pub figures: Figures,
    /// What did not hold, with what happened last to whom it is about.
    pub failure: Option<String>,
}

/// Plays a day.
pub fn play(options: Options) -> Outcome {
    let mut day = Day::new(options);
    let end = EPOCH_MS + day.options.length_ms;
    let played = day.play(end + CALM_MS);
    let failure = played.err().map(|violation| day.log.story(&violation, &day.options));
    day.figures.measure(&day.options, day.now() - EPOCH_MS);
    Outcome { figures: day.figures, failure }
}

impl Day {
    fn new(options: Options) -> Self {
        let mut rng = Rng(options.seed);
        let (hub, tokens) = Hub::new(&options, Rng(rng.next()));
        let fleet = tokens.into_iter().zip(0..).map(|(token, n)| Sidecar::new(n, token, Rng(rng.next()), &options));
        let mut day = Self {
            agenda: Agenda::new(EPOCH_MS),
            fleet: fleet.collect(),
            policies: vec![Policy { machine_boot: "boot-0".into(), ..Policy::default() }],
            conns: Vec::new(),
            parcels: Parcels::default(),
            sessions: Vec::new(),
            hub,
            books: Books::default(),
            figures: Figures::new(),
            log: Log::new(options.tell),
            calm: false,
            options,
            rng,
        };
        day.plan_day();
        day
    }

    fn now(&self) -> u64 {
        self.agenda.now()
    }

    fn play(&mut self, latest: u64) -> Checked {
        while let Some(event) = self.agenda.next() {
            self.figures.events += 1;
            self.log.now = self.agenda.now();
            if self.now() > latest {
                return Err(self.unfinished().unwrap_or_else(|| of_task(0, "the day does not end".to_owned())));
            }
            if self.happens(event)? {
                return self.judge_the_end();
            }
        }
        Err(of_task(0, "nothing is planned any more".to_owned()))
    }

    /// Returns whether the day is over.
    fn happens(&mut self, event: Ev) -> Result<bool, Violation> {
        match event {
            Ev::Deadline(agent) => self.deadline(agent)?,
            Ev::Opened(conn) => self.opened(conn)?,
            Ev::NotOpened(conn) | Ev::GivenUp(conn) => self.side_closed(conn, None)?,
            Ev::DownEnd(conn) => self.down_end(conn)?,
            Ev::Up(conn, parcel) => self.up(conn, parcel)?,
            Ev::UpEnd(conn, how) => self.up_end(conn, how),
            Ev::Silent(conn) => self.silent(conn),
            Ev::Down(conn, parcel) => self.down(conn, parcel)?,
            Ev::Pong(conn) => self.pong(conn)?,
            Ev::Woken(session) => self.woken(session)?,
            Ev::Shown(session) => self.shown(session)?,
            Ev::Done(session) => self.done(session)?,
            Ev::Look(agent) => self.look(agent)?,
            Ev::LastLook(agent, run, number) => self.last_look(agent, run, number)?,
            Ev::NextRun(agent, run, number) => self.next_run(agent, run, number)?,
            Ev::Start(agent, run) => self.start(agent, run)?,
            Ev::Round => self.round()?,
            Ev::Committed(boot) => self.committed(boot)?,
            Ev::HubStarts => self.hub_starts()?,
            Ev::HubDies(silently) => self.hub_dies(silently)?,
            Ev::Storm(number) => self.storm(number)?,
            Ev::Second => self.second()?,
            Ev::Submit(task) => self.submit(task),
            Ev::Cancel(task) => self.cancel(task),
            Ev::WaitsStill(task, agent) => self.waits_still(task, agent)?,
            Ev::Minute => return self.minute(),
        }
        Ok(false)
    }

    fn note(&mut self, agent: u32, what: What) {
        self.log.note(Some(agent), None, what);
    }
}
