//! One connection: two ordered queues, either of which may end at any moment with frames in flight. It carries what the
//! two ends say to each other as the shells' translators would leave it; it knows nothing of what the words mean.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use agentcom::hub::scheduler::agents::ConnId;
use agentcom::machine::{FromHub, ToHub};

/// What the sidecar puts on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Up {
    Frame(ToHub),
    /// The close frame.
    Close,
}

/// One end's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// Dialled, not standing (the sidecar's end); not seen yet (the hub's end).
    Opening,
    Open,
    Closed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conn {
    /// Counted from 1 as they are dialled. States are told apart by its place among the living ones.
    pub id: ConnId,
    /// The run of the process that dialled.
    pub run: u8,
    pub side: End,
    pub hub: End,
    /// The hub answered the close frame, so what it said before arrives before the end.
    pub graceful: bool,
    pub up: VecDeque<Up>,
    pub down: VecDeque<FromHub>,
}

impl Hash for Conn {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Self { id: _, run, side, hub, graceful, up, down } = self;
        (run, side, hub, graceful, up, down).hash(hasher);
    }
}

impl Conn {
    pub fn dialled(id: ConnId, run: u8) -> Self {
        Self {
            id,
            run,
            side: End::Opening,
            hub: End::Opening,
            graceful: false,
            up: VecDeque::new(),
            down: VecDeque::new(),
        }
    }

    pub fn side_closes(&mut self) {
        self.side = End::Closed;
        self.down.clear();
    }

    pub fn hub_closes(&mut self) {
        self.hub = End::Closed;
        self.up.clear();
    }

    /// Whether both ends stand and nothing is on its way.
    pub fn is_quiet(&self) -> bool {
        self.up.is_empty() && self.down.is_empty() && (self.side, self.hub) == (End::Open, End::Open)
    }

    pub fn is_over(&self) -> bool {
        self.side == End::Closed && self.hub == End::Closed
    }
}
