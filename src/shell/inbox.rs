//! Everything that reaches the loop, in one place. What one adapter reports keeps its order; of what is ready at the same
//! moment, this machine's own comes before the hub's, so that a hub that talks without end delays no signal.

use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::hub_link::LinkEvent;
use super::operator::Request;
use super::reload::Settings;
use super::results::ResultsEvent;
use super::runner::WakeEvent;
use super::runs::OutputBatch;
use crate::machine::Event;

/// The adapters' ends.
pub(super) struct Inbox {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) answers: mpsc::Receiver<Event>,
    pub(super) wakes: mpsc::Receiver<WakeEvent>,
    pub(super) results: mpsc::Receiver<ResultsEvent>,
    pub(super) settings: mpsc::Receiver<Settings>,
    pub(super) link: mpsc::Receiver<LinkEvent>,
    pub(super) output: mpsc::Receiver<OutputBatch>,
    pub(super) figures: mpsc::Receiver<Map<String, Value>>,
}

/// What arrived.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A signal, or something that an operator asks.
    Request(Request),
    /// The answer to a question of the machine's.
    Answer(Event),
    /// A wake command ended.
    Wake(WakeEvent),
    /// The agent left something.
    Results(ResultsEvent),
    /// The configuration was read again.
    Settings(Settings),
    /// Something happened on the connection.
    Link(LinkEvent),
    /// A run wrote something.
    Output(OutputBatch),
    /// The machine's load was measured.
    Figures(Map<String, Value>),
}

impl Inbox {
    /// Waits for what comes next. Dropped in the middle, nothing is lost.
    pub(super) async fn next(&mut self) -> Arrival {
        tokio::select! {
            biased;
            Some(request) = self.requests.recv() => Arrival::Request(request),
            Some(answer) = self.answers.recv() => Arrival::Answer(answer),
            Some(wake) = self.wakes.recv() => Arrival::Wake(wake),
            Some(found) = self.results.recv() => Arrival::Results(found),
            Some(settings) = self.settings.recv() => Arrival::Settings(settings),
            Some(event) = self.link.recv() => Arrival::Link(event),
            Some(batch) = self.output.recv() => Arrival::Output(batch),
            Some(figures) = self.figures.recv() => Arrival::Figures(figures),
            else => std::future::pending().await,
        }
    }
}
