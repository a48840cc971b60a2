//! Links and connections: each frame takes its connection's latency, in order; a link breaks, goes silent, or holds
//! everything back for a while.

use agentcom::codec::decode_frame;
use agentcom::hub::scheduler::inventory::close::Closing;
use agentcom::machine::{CloseCode, Event, FromHub, FromHubName, Jitter};
use agentcom::protocol::SidecarFrame;
use agentcom::sidecar::hub_connection::cooldown_ms;

use super::hub::Message;
use super::log::What;
use super::sidecar::name;
use super::{Checked, Day, Ev};

/// The time after which the hub closes a silent connection, in ms.
const SILENCE_MS: u64 = 60_000;
/// How long a sidecar waits for the hub's close frame, in ms.
const CLOSE_MS: u64 = 2_000;

/// One connection.
#[derive(Debug)]
pub struct Conn {
    pub agent: u32,
    latency_ms: u64,
    side_open: bool,
    pub hub_open: bool,
    /// The hub's process that it was opened to.
    boot: u32,
    /// Nothing arrives any more, in either direction, and neither end knows.
    cut: bool,
    /// When the last frame arrives, so that none overtakes another.
    up_at: u64,
    down_at: u64,
}

/// How a connection ends, as the hub sees it.
#[derive(Debug, Clone, Copy)]
pub enum HowClosed {
    Broken,
    ByAgent(CloseCode),
}

/// What is on its way.
pub enum Parcel {
    Up(SidecarFrame),
    Down(String),
    /// A close frame, by its reason.
    Close(String),
}

/// All that is on its way.
#[derive(Default)]
pub struct Parcels {
    all: Vec<Option<Parcel>>,
    free: Vec<u32>,
}

impl Parcels {
    pub fn put(&mut self, parcel: Parcel) -> u32 {
        match self.free.pop() {
            Some(place) => {
                self.all[place as usize] = Some(parcel);
                place
            }
            None => {
                self.all.push(Some(parcel));
                u32::try_from(self.all.len() - 1).expect("fewer than four billion")
            }
        }
    }

    fn take(&mut self, place: u32) -> Parcel {
        self.free.push(place);
        self.all[place as usize].take().expect("it arrives once")
    }

    pub fn on_their_way(&self) -> usize {
        self.all.len() - self.free.len()
    }
}

/// How a link fails.
#[derive(Debug, Clone, Copy)]
pub enum LinkFault {
    /// Both ends see it at once.
    Break,
    /// Neither end sees it.
    Silence,
    /// What is said arrives when it is over.
    Hold,
}

impl Day {
    /// The sidecar dials.
    pub(super) fn dial(&mut self, agent: u32) {
        let now = self.now();
        let id = u32::try_from(self.conns.len()).expect("fewer than four billion");
        let sidecar = &mut self.fleet[agent as usize];
        let latency_ms = sidecar.rng.between(1, 60);
        let is_up = sidecar.down_until <= now && self.hub.state.is_some();
        // Some addresses do not answer at all: the machine's own limit ends that.
        let answers = is_up || !sidecar.rng.one_in(3);
        sidecar.conn = Some(id);
        let boot = self.hub.boot;
        let (up_at, down_at) = (now, now);
        self.conns.push(Conn {
            agent,
            latency_ms,
            side_open: false,
            hub_open: false,
            boot,
            cut: false,
            up_at,
            down_at,
        });
        self.log.note(Some(agent), None, What::Dials(id));
        if answers {
            let at = now + 2 * latency_ms;
            self.agenda.plan(at, if is_up { Ev::Opened(id) } else { Ev::NotOpened(id) });
        }
    }

    pub(super) fn opened(&mut self, id: u32) -> Checked {
        let now = self.now();
        let conn = &mut self.conns[id as usize];
        let agent = conn.agent;
        let sidecar = &self.fleet[agent as usize];
        if sidecar.conn != Some(id) {
            return Ok(());
        }
        if sidecar.down_until > now || self.hub.state.is_none() || conn.boot != self.hub.boot {
            return self.side_closed(id, None);
        }
        (conn.side_open, conn.hub_open) = (true, true);
        self.figures.connections += 1;
        self.step(agent, Event::HubOpened)
    }

    /// Whether a heartbeat of this agent would be answered as ever.
    pub(super) fn is_well(&self, agent: u32) -> bool {
        let sidecar = &self.fleet[agent as usize];
        let conn = sidecar.conn.map(|id| &self.conns[id as usize]);
        sidecar.held_until <= self.now() && conn.is_some_and(|conn| conn.side_open && conn.hub_open && !conn.cut)
    }

    /// The time between two heartbeats, beyond their interval: until the answer is there.
    pub(super) fn round_trip_ms(&self, agent: u32) -> u64 {
        self.fleet[agent as usize].conn.map_or(0, |id| 2 * self.conns[id as usize].latency_ms)
    }

    pub(super) fn ping(&mut self, agent: u32) {
        let now = self.now();
        let sidecar = &self.fleet[agent as usize];
        let Some(id) = sidecar.conn else { return };
        let conn = &self.conns[id as usize];
        if !conn.cut {
            let at = now.max(sidecar.held_until) + 2 * conn.latency_ms;
            self.agenda.plan(at, Ev::Pong(id));
        }
    }

    pub(super) fn pong(&mut self, id: u32) -> Checked {
        let conn = &self.conns[id as usize];
        let (agent, arrives) = (conn.agent, conn.hub_open && !conn.cut);
        match arrives && self.fleet[agent as usize].conn == Some(id) {
            true => self.step(agent, Event::HubSaid(FromHub::SignOfLife)),
            false => Ok(()),
        }
    }

    /// The sidecar sends a frame.
    pub(super) fn send_up(&mut self, agent: u32, frame: SidecarFrame) {
        if let Some((id, at)) = self.arrival_up(agent) {
            let parcel = self.parcels.put(Parcel::Up(frame));
            self.agenda.plan(at, Ev::Up(id, parcel));
        }
    }

    /// Returns the agent's connection, and when what it sends now arrives.
    fn arrival_up(&mut self, agent: u32) -> Option<(u32, u64)> {
        let (now, sidecar) = (self.now(), &self.fleet[agent as usize]);
        let id = sidecar.conn?;
        let conn = &mut self.conns[id as usize];
        if conn.cut || !conn.side_open {
            return None;
        }
        conn.up_at = conn.up_at.max(now.max(sidecar.held_until) + conn.latency_ms);
        Some((id, conn.up_at))
    }

    pub(super) fn up(&mut self, id: u32, parcel: u32) -> Checked {
        let parcel = self.parcels.take(parcel);
        let conn = &self.conns[id as usize];
        if let (Parcel::Up(frame), true, false) = (parcel, conn.hub_open, conn.cut) {
            let frame = self.over_the_wire(conn.agent, frame)?;
            self.figures.frames_up += 1;
            self.tell_hub(Message::Frame(id, frame));
        }
        Ok(())
    }

    pub(super) fn up_end(&mut self, id: u32, how: HowClosed) {
        let now = self.now();
        let conn = &mut self.conns[id as usize];
        if !conn.hub_open || conn.cut {
            return;
        }
        let closing = match how {
            HowClosed::Broken => Closing::broken(),
            HowClosed::ByAgent(code) => {
                conn.down_at = conn.down_at.max(now + conn.latency_ms);
                self.agenda.plan(conn.down_at, Ev::DownEnd(id));
                Closing::by_agent(Some(code.code()), code.reason())
            }
        };
        self.hub_closed(id, closing);
    }

    pub(super) fn silent(&mut self, id: u32) {
        let conn = &self.conns[id as usize];
        let is_held = self.fleet[conn.agent as usize].held_until > self.now();
        if conn.hub_open && (conn.cut || is_held) {
            self.hub_closed(id, Closing::silent(1002, "no frame for 60 s"));
        }
    }

    /// The hub's end is closed.
    fn hub_closed(&mut self, id: u32, closing: Closing) {
        self.conns[id as usize].hub_open = false;
        self.tell_hub(Message::Gone(id, closing));
    }

    /// The hub writes a frame to a socket. Returns whether the socket is there.
    pub(super) fn send_down(&mut self, id: u32, text: String) -> bool {
        let now = self.now();
        let conn = &mut self.conns[id as usize];
        if !conn.hub_open {
            return false;
        }
        self.figures.frames_down += 1;
        if !conn.cut {
            let held_until = self.fleet[conn.agent as usize].held_until;
            conn.down_at = conn.down_at.max(now.max(held_until) + conn.latency_ms);
            let parcel = self.parcels.put(Parcel::Down(text));
            self.agenda.plan(conn.down_at, Ev::Down(id, parcel));
        }
        true
    }

    /// The hub closes a socket.
    pub(super) fn close_down(&mut self, id: u32, code: u16, reason: String) {
        let now = self.now();
        let conn = &mut self.conns[id as usize];
        if !conn.hub_open {
            return;
        }
        if !conn.cut {
            let held_until = self.fleet[conn.agent as usize].held_until;
            conn.down_at = conn.down_at.max(now.max(held_until) + conn.latency_ms);
            let parcel = self.parcels.put(Parcel::Close(reason.clone()));
            self.agenda.plan(conn.down_at, Ev::Down(id, parcel));
        }
        self.hub_closed(id, Closing::by_hub(code, &reason));
    }

    pub(super) fn down(&mut self, id: u32, parcel: u32) -> Checked {
        let parcel = self.parcels.take(parcel);
        let conn = &self.conns[id as usize];
        let agent = conn.agent;
        if conn.cut || !conn.side_open || self.fleet[agent as usize].conn != Some(id) {
            return Ok(());
        }
        match parcel {
            Parcel::Up(_) => Ok(()),
            Parcel::Down(text) => {
                let heard = decode_frame(&text, &name(agent));
                self.note(agent, What::Hears(FromHubName::from(&heard)));
                self.step(agent, Event::HubSaid(heard))
            }
            Parcel::Close(reason) => self.side_closed(id, cooldown_ms(&reason)),
        }
    }

    /// The hub's close frame arrives.
    pub(super) fn down_end(&mut self, id: u32) -> Checked {
        match self.conns[id as usize].cut {
            true => Ok(()),
            false => self.side_closed(id, None),
        }
    }

    /// The sidecar's end is closed, or was never open.
    pub(super) fn side_closed(&mut self, id: u32, retry_after_ms: Option<u64>) -> Checked {
        let conn = &mut self.conns[id as usize];
        let agent = conn.agent;
        let sidecar = &mut self.fleet[agent as usize];
        if sidecar.conn != Some(id) {
            return Ok(());
        }
        conn.side_open = false;
        sidecar.conn = None;
        let [low, high, ..] = sidecar.rng.next().to_le_bytes();
        let jitter = Jitter(u16::from_le_bytes([low, high]));
        self.step(agent, Event::HubClosed { retry_after_ms, jitter, refusal: None })
    }

    /// The sidecar closes its connection by handshake.
    pub(super) fn close_up(&mut self, agent: u32, code: CloseCode) {
        let now = self.now();
        let Some(id) = self.fleet[agent as usize].conn else { return };
        if !self.conns[id as usize].side_open {
            // It was not open yet.
            return self.agenda.plan(now + 1, Ev::GivenUp(id));
        }
        if let Some((id, at)) = self.arrival_up(agent) {
            self.agenda.plan(at, Ev::UpEnd(id, HowClosed::ByAgent(code)));
        }
        self.agenda.plan(now + CLOSE_MS, Ev::GivenUp(id));
    }

    /// The process of the sidecar is gone: its system closes what it leaves open, unless that has lost its power too.
    pub(super) fn process_left(&mut self, agent: u32, with_its_host: bool) {
        if with_its_host {
            self.cut(agent);
        } else if let Some((id, at)) = self.arrival_up(agent) {
            self.agenda.plan(at, Ev::UpEnd(id, HowClosed::Broken));
        }
        if let Some(id) = self.fleet[agent as usize].conn.take() {
            self.conns[id as usize].side_open = false;
        }
    }

    /// Nothing arrives any more on the agent's connection.
    fn cut(&mut self, agent: u32) {
        let now = self.now();
        let sidecar = &mut self.fleet[agent as usize];
        let Some(id) = sidecar.conn else { return };
        let conn = &mut self.conns[id as usize];
        conn.cut = true;
        if conn.hub_open {
            let heard_ago = sidecar.rng.between(0, 30_000);
            self.agenda.plan(now + SILENCE_MS - heard_ago, Ev::Silent(id));
        }
    }

    /// A link fails until this time.
    pub(super) fn link_fails(&mut self, agent: u32, fault: LinkFault, until: u64) -> Checked {
        self.log.note(Some(agent), None, What::LinkBreaks);
        let sidecar = &mut self.fleet[agent as usize];
        match fault {
            LinkFault::Break => {
                sidecar.down_until = sidecar.down_until.max(until);
                let Some(id) = sidecar.conn else { return Ok(()) };
                let conn = &mut self.conns[id as usize];
                // What is on its way is lost.
                conn.cut = true;
                if conn.hub_open {
                    self.hub_closed(id, Closing::broken());
                }
                if self.conns[id as usize].side_open {
                    self.side_closed(id, None)?;
                }
            }
            LinkFault::Silence => {
                sidecar.down_until = sidecar.down_until.max(until);
                self.cut(agent);
                self.arm(agent);
            }
            LinkFault::Hold => {
                sidecar.held_until = sidecar.held_until.max(until);
                self.arm(agent);
            }
        }
        Ok(())
    }

    /// The hub's process is gone; with its host, nobody tells the other ends.
    pub(super) fn hub_left(&mut self, with_its_host: bool) {
        let now = self.now();
        for id in 0..self.conns.len() {
            let conn = &mut self.conns[id];
            if !std::mem::take(&mut conn.hub_open) {
                continue;
            }
            let agent = conn.agent;
            if with_its_host {
                conn.cut = true;
                self.arm(agent);
            } else if !conn.cut {
                let held_until = self.fleet[agent as usize].held_until;
                conn.down_at = conn.down_at.max(now.max(held_until) + conn.latency_ms);
                let id = u32::try_from(id).expect("counted as such");
                self.agenda.plan(conn.down_at, Ev::DownEnd(id));
            }
        }
    }
}
