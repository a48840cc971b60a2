//! Everything that reaches the loop, in one place. What one adapter reports keeps its order; of what is ready at the same
//! moment, this machine's own comes before the hub's, so that a hub that talks without end delays no signal.

use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::machine::Event;
use crate::sidecar::admin::commands::AdminRequest;
use crate::sidecar::admin::reload::Settings;
use crate::sidecar::agent::results::ResultsEvent;
use crate::sidecar::agent::supervised::OutputBatch;
use crate::sidecar::agent::wake::WakeEvent;
use crate::sidecar::hub_connection::ConnectionEvent;

/// The adapters' ends.
pub(crate) struct Inbox {
    pub(crate) requests: mpsc::Receiver<AdminRequest>,
    pub(crate) answers: mpsc::Receiver<Event>,
    pub(crate) wakes: mpsc::Receiver<WakeEvent>,
    pub(crate) results: mpsc::Receiver<ResultsEvent>,
    pub(crate) settings: mpsc::Receiver<Settings>,
    pub(crate) link: mpsc::Receiver<ConnectionEvent>,
    pub(crate) output: mpsc::Receiver<OutputBatch>,
    pub(crate) figures: mpsc::Receiver<Map<String, Value>>,
}

/// What arrived.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A signal, or something that an operator asks.
    AdminRequest(AdminRequest),
    /// The answer to a question of the machine's.
    Answer(Event),
    /// A wake command ended.
    Wake(WakeEvent),
    /// The agent left something.
    Results(ResultsEvent),
    /// The configuration was read again.
    Settings(Settings),
    /// Something happened on the connection.
    Connection(ConnectionEvent),
    /// A run wrote something.
    Output(OutputBatch),
    /// The machine's load was measured.
    Figures(Map<String, Value>),
}

impl Inbox {
    /// Waits for what comes next. Dropped in the middle, nothing is lost.
    pub(crate) async fn next(&mut self) -> Arrival {
        tokio::select! {
            biased;
            Some(request) = self.requests.recv() => Arrival::AdminRequest(request),
            Some(answer) = self.answers.recv() => Arrival::Answer(answer),
            Some(wake) = self.wakes.recv() => Arrival::Wake(wake),
            Some(found) = self.results.recv() => Arrival::Results(found),
            Some(settings) = self.settings.recv() => Arrival::Settings(settings),
            Some(event) = self.link.recv() => Arrival::Connection(event),
            Some(batch) = self.output.recv() => Arrival::Output(batch),
            Some(figures) = self.figures.recv() => Arrival::Figures(figures),
            else => std::future::pending().await,
        }
    }
}
