//! The hub's commands as clients of its API: over the hub's own socket, or over HTTP with a token. A request that was
//! carried out is never carried out again: each act has an `Idempotency-Key`, which makes a repeat safe.

mod args;
mod door;
mod events;
mod failure;
mod list;
mod run;
mod selector;

use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::{Method, Response, StatusCode};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::{sleep, timeout};

use crate::common::http_client::tls_advice::speaks_of_tls;
use crate::common::http_client::{AskError, HttpRequest, exchange};
use crate::common::secret::{REDACTED, Secret};
pub(super) use crate::hub::cli::client::args::{
    CA_FILE_VARIABLE, DATA_VARIABLE, DEFAULT_DATA, HubArgs, Place, TOKEN_FILE_VARIABLE, URL_VARIABLE,
};
use crate::hub::cli::client::door::Door;
pub(super) use crate::hub::cli::client::door::Folder;
pub(super) use crate::hub::cli::client::door::PAUSE;
pub(super) use crate::hub::cli::client::events::{Event, Events};
pub(super) use crate::hub::cli::client::failure::{Failure, of_database};
pub(super) use crate::hub::cli::client::list::Items;
pub(super) use crate::hub::cli::client::run::{finish, run};
pub(super) use crate::hub::cli::client::selector::selector;
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::random;
use crate::hub::state::store::Store;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the answer may take whose body may have any size.
const FETCH_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a request is repeated while the hub ends and another one begins.
const REPEAT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause between two tries.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a hub that is followed may be away.
pub(super) const AWAY_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause before a stream of events that has ended is opened again.
const STREAM_PAUSE: Duration = Duration::from_millis(100);
/// The largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// A client of one hub.
pub(super) struct Client {
    door: Door,
}

/// One request.
struct Asked<'a> {
    method: Method,
    path: &'a str,
    key: Option<String>,
    body: Option<String>,
}

impl Client {
    /// Returns where the hub is.
    pub(super) fn place(&self) -> &Place {
        self.door.place()
    }

    /// Returns how the hub is named in messages.
    pub(super) fn shown(&self) -> String {
        self.door.shown()
    }

    /// Returns how the hub's store is named in messages: its file, or the hub's address.
    pub(super) fn store(&self) -> String {
        match self.place() {
            Place::Remote { base, .. } => base.clone(),
            Place::Folder(data) => Store::path_in(data).display().to_string(),
        }
    }

    /// Checks that there is a hub's data folder, or makes one, where that is what is meant.
    ///
    /// # Errors
    /// There is none, or it cannot be made.
    pub(super) fn check_folder(&self) -> Result<(), Failure> {
        self.door.check_folder()
    }

    /// Closes the store if this command opened it, until the next request.
    ///
    /// # Errors
    /// The disk failed: what was asked for was not done.
    pub(super) async fn pause(&mut self) -> Result<(), Failure> {
        self.door.close().await
    }

    /// Returns what is at a path.
    ///
    /// # Errors
    /// The hub cannot be asked, or refuses.
    pub(super) async fn get(&mut self, path: &str) -> Result<Box<RawValue>, Failure> {
        let answer = self.ask(&Asked { method: Method::GET, path, key: None, body: None }).await?;
        self.read(&answer)
    }

    /// Returns the status and the JSON that are at a path, also of an error; `Null` if it is not JSON.
    ///
    /// # Errors
    /// The hub cannot be asked.
    pub(super) async fn look(&mut self, path: &str) -> Result<(u16, Value), Failure> {
        let asked = Asked { method: Method::GET, path, key: None, body: None };
        let looked = async {
            let answer = self.send(&asked, &[]).await?;
            let status = answer.status().as_u16();
            let body = self.collect(answer.into_body()).await?;
            Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
        };
        timeout(ANSWER_TIMEOUT, looked).await.unwrap_or_else(|_| Err(self.late()))
    }

    /// Returns the answer at a path with a body of any size, which may take its time to begin.
    ///
    /// # Errors
    /// The hub cannot be asked, or refuses.
    pub(super) async fn fetch(&mut self, path: &str) -> Result<Response<Incoming>, Failure> {
        let asked = Asked { method: Method::GET, path, key: None, body: None };
        let answer = timeout(FETCH_TIMEOUT, self.send(&asked, &[])).await.map_err(|_| self.late())??;
        let (head, body) = answer.into_parts();
        let body = self.accept(Response::from_parts(head.clone(), body)).await?;
        Ok(Response::from_parts(head, body))
    }

    /// Acts: once, however often the connection breaks. A key of the caller's own makes the same of two runs of a command.
    ///
    /// # Errors
    /// The hub cannot be asked, or refuses; where it was asked and did not answer, it may do it yet.
    pub(super) async fn act(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Value>,
        key: Option<String>,
    ) -> Result<Box<RawValue>, Failure> {
        let made = || random::id().map_err(|error| Failure::new(ExitCode::Internal, error.to_string()));
        let key = Some(key.map_or_else(made, Ok)?);
        let answer = self.ask(&Asked { method, path, key, body: body.as_ref().map(Value::to_string) }).await?;
        self.read(&answer)
    }

    /// Follows the events after the one with this id, or from now on. From then on, no store is opened: what is waited for
    /// only a running hub does. One that was there may be away for as long as a restart takes.
    ///
    /// # Errors
    /// No hub runs, or it refuses.
    pub(super) async fn follow(&mut self, last: Option<&str>) -> Result<Events, Failure> {
        let (begun, mut pause) = (Instant::now(), PAUSE);
        loop {
            match self.open_events(last).await {
                Err(failure) if self.door.met_hub() && failure.is_away() && begun.elapsed() < AWAY_TIMEOUT => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                other => return other,
            }
        }
    }

    /// Returns whether a hub was there. (Where none runs, the command itself serves the store.)
    pub(super) fn met_hub(&self) -> bool {
        self.door.met_hub()
    }

    /// The same as [`Self::follow`], without any waiting for a hub that is away.
    ///
    /// # Errors
    /// No hub runs, or it refuses.
    pub(super) async fn open_events(&mut self, last: Option<&str>) -> Result<Events, Failure> {
        self.door.wait_for_hub().await?;
        let headers: Vec<(&str, &str)> = last.map(|last| ("last-event-id", last)).into_iter().collect();
        let asked = Asked { method: Method::GET, path: "/api/v1/events", key: None, body: None };
        let answer = timeout(ANSWER_TIMEOUT, self.send(&asked, &headers)).await.map_err(|_| self.late())??;
        Ok(Events::new(self.accept(answer).await?, last))
    }

    /// Returns the next event. Where the connection breaks, it goes on after the last one, or says that events are missed.
    ///
    /// # Errors
    /// The hub is not there any more, or refuses.
    pub(super) async fn next_event(&mut self, events: &mut Events) -> Result<Event, Failure> {
        loop {
            if let Some(event) = events.next().await? {
                return Ok(event);
            }
            // One that ends each stream at once must not be asked without a pause.
            sleep(STREAM_PAUSE).await;
            let last = events.last().map(str::to_owned);
            *events = self.follow(last.as_deref()).await?;
            if last.is_none() {
                // Without an event to go on after, what happened meanwhile is not sent.
                return Ok(Event::missed());
            }
        }
    }

    fn read(&self, answer: &[u8]) -> Result<Box<RawValue>, Failure> {
        serde_json::from_slice(answer).map_err(|error| self.unknown_answer(&error))
    }

    /// Returns the failure for an answer that is not what the API says.
    pub(super) fn unknown_answer(&self, why: &dyn std::fmt::Display) -> Failure {
        let message = format!("the answer of {} is not one of the API: {why}; is it of another version?", self.shown());
        Failure::new(ExitCode::Internal, message)
    }

    fn late(&self) -> Failure {
        let within = ANSWER_TIMEOUT.as_secs();
        AskError::TimedOut(format!("{} did not answer within {within} s", self.shown())).into()
    }

    /// Asks, again and again where that is safe and the hub seems to be restarting.
    async fn ask(&mut self, asked: &Asked<'_>) -> Result<Vec<u8>, Failure> {
        let may_repeat = asked.method == Method::GET || asked.key.is_some();
        let (begun, mut pause) = (Instant::now(), PAUSE);
        loop {
            let answered = timeout(ANSWER_TIMEOUT, self.ask_once(asked)).await.unwrap_or_else(|_| Err(self.late()));
            match answered {
                Err(failure) if failure.passes && may_repeat && begun.elapsed() < REPEAT_TIMEOUT => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(failure) if failure.unanswered && asked.method != Method::GET => {
                    let message =
                        format!("the hub was told and did not answer ({}): it may do it yet", failure.message);
                    return Err(Failure { message, ..failure });
                }
                other => return other,
            }
        }
    }

    async fn ask_once(&mut self, asked: &Asked<'_>) -> Result<Vec<u8>, Failure> {
        let headers: Vec<(&str, &str)> = asked.key.iter().map(|key| ("idempotency-key", key.as_str())).collect();
        let answer = self.send(asked, &headers).await?;
        let body = self.accept(answer).await?;
        self.collect(body).await
    }

    async fn collect(&self, body: Incoming) -> Result<Vec<u8>, Failure> {
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        let body =
            body.map_err(|error| AskError::Closed(format!("the answer of {} broke off: {error}", self.shown())))?;
        Ok(body.to_bytes().into())
    }

    async fn send(&mut self, asked: &Asked<'_>, headers: &[(&str, &str)]) -> Result<Response<Incoming>, Failure> {
        let stream = self.door.connect().await?;
        let Asked { method, path, body, key: _ } = asked;
        let (method, base, token, body) = (method.clone(), self.door.base(), self.token(), body.clone());
        let sent = exchange::send(stream, &HttpRequest { method, base, path, token, headers, body }).await;
        sent.map_err(|error| match (&error, self.place()) {
            (AskError::Http(_), Place::Folder(_)) => {
                let at = self.shown();
                let message = format!(
                    "what listens at {at} does not speak HTTP: it is a hub of an older version; restart the hub"
                );
                Failure::new(ExitCode::Internal, message)
            }
            (AskError::Http(_), Place::Remote { .. })
            | (
                AskError::Name(_) | AskError::Tcp(_) | AskError::Tls(_) | AskError::Closed(_) | AskError::TimedOut(_),
                Place::Remote { .. } | Place::Folder(_),
            ) => error.into(),
        })
    }

    /// Returns the body of an answer that is no error.
    async fn accept(&self, answer: Response<Incoming>) -> Result<Incoming, Failure> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer.into_body());
        }
        let body = self.collect(answer.into_body()).await?;
        if status == StatusCode::BAD_REQUEST && speaks_of_tls(&String::from_utf8_lossy(&body)) {
            let message = format!("the port of {} speaks TLS: write https:// into the hub's address", self.shown());
            return Err(Failure::new(ExitCode::Unavailable, message));
        }
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let mut failure = Failure::refused(&self.shown(), status.as_u16(), &body, self.token().is_some());
        if let Some(token) = self.token() {
            failure.message = failure.message.replace(token.expose(), REDACTED);
        }
        Err(failure)
    }

    fn token(&self) -> Option<&Secret> {
        match self.place() {
            Place::Remote { token, .. } => token.as_ref(),
            Place::Folder(_) => None,
        }
    }
}

/// Reads JSON that was checked to be JSON.
pub(super) fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or(Value::Null)
}
