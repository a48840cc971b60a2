//! The event loop's inbox. The reports of one adapter keep their order. Of the reports that are ready at the same time,
//! those of this machine come before the hub's, so that a hub that sends without end cannot delay a signal.

use tokio::sync::mpsc;

use crate::machine::Event;
use crate::protocol::JsonFields;
use crate::sidecar::admin::commands::AdminRequest;
use crate::sidecar::admin::reload::Settings;
use crate::sidecar::agent::results::ResultsEvent;
use crate::sidecar::agent::supervised::OutputBatch;
use crate::sidecar::agent::wake::WakeEvent;
use crate::sidecar::hub_connection::ConnectionEvent;

/// The capacity of each channel to the event loop; adapters wait when it is full.
const CAPACITY: usize = 64;

/// The sending ends of the adapters' channels, but for the settings'.
pub(crate) struct Senders {
    pub(crate) requests: mpsc::Sender<AdminRequest>,
    pub(crate) answers: mpsc::Sender<Event>,
    pub(crate) wakes: mpsc::Sender<WakeEvent>,
    pub(crate) results: mpsc::Sender<ResultsEvent>,
    pub(crate) connection: mpsc::Sender<ConnectionEvent>,
    pub(crate) output: mpsc::Sender<OutputBatch>,
    pub(crate) figures: mpsc::Sender<JsonFields>,
    pub(crate) journal_changed: mpsc::Sender<()>,
}

/// The receiving ends of the adapters' channels.
pub(crate) struct Inbox {
    pub(crate) requests: mpsc::Receiver<AdminRequest>,
    pub(crate) answers: mpsc::Receiver<Event>,
    pub(crate) wakes: mpsc::Receiver<WakeEvent>,
    pub(crate) results: mpsc::Receiver<ResultsEvent>,
    pub(crate) settings: mpsc::Receiver<Settings>,
    pub(crate) connection: mpsc::Receiver<ConnectionEvent>,
    pub(crate) output: mpsc::Receiver<OutputBatch>,
    pub(crate) figures: mpsc::Receiver<JsonFields>,
    pub(crate) journal_changed: mpsc::Receiver<()>,
}

/// A report of an adapter.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A signal or an operator command.
    AdminRequest(AdminRequest),
    /// The answer to an effect of the machine's.
    Answer(Event),
    /// A wake command ended.
    Wake(WakeEvent),
    /// The agent left a file in the results folder.
    Results(ResultsEvent),
    /// The configuration was read again.
    Settings(Settings),
    /// Something happened on the connection.
    Connection(ConnectionEvent),
    /// A run of a command wrote output.
    Output(OutputBatch),
    /// The machine's load was measured.
    Figures(JsonFields),
    /// The journal on the disk is not the one that was written.
    JournalChanged,
}

impl Inbox {
    /// Creates the inbox and the sending ends of its channels. `settings` comes with a channel of its own.
    pub(crate) fn new(settings: mpsc::Receiver<Settings>) -> (Senders, Self) {
        let (request_sender, requests) = mpsc::channel(CAPACITY);
        let (answer_sender, answers) = mpsc::channel(CAPACITY);
        let (wake_sender, wakes) = mpsc::channel(CAPACITY);
        let (result_sender, results) = mpsc::channel(CAPACITY);
        let (connection_sender, connection) = mpsc::channel(CAPACITY);
        let (output_sender, output) = mpsc::channel(CAPACITY);
        let (figure_sender, figures) = mpsc::channel(1);
        let (changed_sender, journal_changed) = mpsc::channel(1);
        let senders = Senders {
            requests: request_sender,
            answers: answer_sender,
            wakes: wake_sender,
            results: result_sender,
            connection: connection_sender,
            output: output_sender,
            figures: figure_sender,
            journal_changed: changed_sender,
        };
        (senders, Self { requests, answers, wakes, results, settings, connection, output, figures, journal_changed })
    }

    /// Waits for the next report. Cancel safe: nothing is lost if the future is dropped.
    pub(crate) async fn next(&mut self) -> Arrival {
        tokio::select! {
            biased;
            Some(request) = self.requests.recv() => Arrival::AdminRequest(request),
            Some(answer) = self.answers.recv() => Arrival::Answer(answer),
            Some(wake) = self.wakes.recv() => Arrival::Wake(wake),
            Some(report) = self.results.recv() => Arrival::Results(report),
            Some(settings) = self.settings.recv() => Arrival::Settings(settings),
            Some(event) = self.connection.recv() => Arrival::Connection(event),
            Some(batch) = self.output.recv() => Arrival::Output(batch),
            Some(figures) = self.figures.recv() => Arrival::Figures(figures),
            Some(()) = self.journal_changed.recv() => Arrival::JournalChanged,
            else => std::future::pending().await,
        }
    }
}
