//! Follows a rollout until it has ended or needs somebody, and tells of what happens: also over a restart of the hub.

use std::collections::HashMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Interval, interval, sleep};

use crate::hub::cli::client::{AWAY_TIMEOUT, Client, Event, Events, Failure, LONGEST_PAUSE, PAUSE};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::rollouts::progress::Progress;
use crate::hub::cli::rollouts::records::{RolloutRecord, TargetRecord, not_done, path_of, read};
use crate::hub::cli::rollouts::words;
use crate::hub::cli::show::output::Output;
use crate::hub::scheduler::rollouts::rollout::RolloutPhase;
use crate::hub::scheduler::rollouts::target::{Counts, TargetPhase};

/// How often the bar is drawn anew.
const REDRAW: Duration = Duration::from_secs(1);

/// How a rollout is watched.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    /// Its id.
    pub(super) id: String,
    /// The options that name the hub, for commands to type.
    pub(super) hub: String,
    /// Whether lines of JSON are printed.
    pub(super) json: bool,
    /// Whether it has just been started: all that happened to its targets is told.
    pub(super) is_new: bool,
    /// The time after which this ends, in ms.
    pub(super) timeout_ms: Option<u64>,
}

/// What the hub tells of a rollout that went on.
#[derive(Debug, Deserialize)]
struct News {
    rollout_id: String,
    state: RolloutPhase,
    awaits_promote: bool,
    wave: u32,
    counts: Counts,
    /// The targets that moved; none where they are too many.
    #[serde(default)]
    targets: Option<Vec<Box<RawValue>>>,
}

/// Watches one rollout.
struct Watcher {
    watched: Watched,
    progress: Progress,
    rollout: Option<RolloutRecord>,
    /// The attempt, the time of the last move and the state of each target that was seen.
    seen: HashMap<u32, (u32, u64, TargetPhase)>,
    /// Since when the hub is away, which was told.
    away_since: Option<Instant>,
}

/// Follows a rollout until it has ended, is paused or has halted, or waits for promote.
///
/// # Errors
/// The time limit has passed, or the hub cannot be followed any more.
pub(super) async fn watch(client: &mut Client, watched: Watched) -> Result<Output, Failure> {
    let (timeout_ms, id) = (watched.timeout_ms, watched.id.clone());
    let progress = Progress::new(watched.json);
    let mut watcher = Watcher { watched, progress, rollout: None, seen: HashMap::new(), away_since: None };
    let followed = watcher.until_it_stops(client);
    match timeout_ms {
        None => followed.await,
        Some(ms) => {
            let in_time = tokio::time::timeout(Duration::from_millis(ms), followed).await;
            in_time.unwrap_or_else(|_| {
                let away = if watcher.away_since.is_some() { ", and the hub is away" } else { "; it goes on" };
                Err(Failure::new(ExitCode::TimedOut, format!("rollout {id} has not ended in this time{away}")))
            })
        }
    }
}

impl Watcher {
    async fn until_it_stops(&mut self, client: &mut Client) -> Result<Output, Failure> {
        // What has ended needs no hub that runs.
        if let Some(code) = self.look(client).await? {
            return Ok(self.end(code));
        }
        let mut pause = PAUSE;
        loop {
            match self.follow(client).await {
                Ok(code) => return Ok(self.end(code)),
                Err(failure) if failure.is_away() && client.met_hub() && !self.is_given_up() => {
                    if self.away_since.is_none() {
                        (self.away_since, pause) = (Some(Instant::now()), PAUSE);
                        self.progress.aside("the hub is away: this goes on once it is back")?;
                    }
                }
                Err(failure) => return Err(failure),
            }
            // One that ends each stream at once must not be asked without a pause.
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Returns whether the hub has been away for too long. A time limit is enough of a bound.
    fn is_given_up(&self) -> bool {
        self.watched.timeout_ms.is_none() && self.away_since.is_some_and(|since| since.elapsed() > AWAY_TIMEOUT)
    }

    /// Follows the events until the rollout stops.
    async fn follow(&mut self, client: &mut Client) -> Result<ExitCode, Failure> {
        // First the events, then a look at all: what happens between the two is seen twice, and told once.
        let mut events = client.open_events(None).await?;
        if let Some(code) = self.look(client).await? {
            return Ok(code);
        }
        if self.away_since.take().is_some() {
            self.progress.aside("the hub is back")?;
        }
        let mut redraw = interval(REDRAW);
        loop {
            let Some(event) = self.next_event(&mut events, &mut redraw).await? else {
                return Err(Failure::new(ExitCode::Unavailable, "the hub ended its events"));
            };
            if self.heard(client, &event)? {
                if let Some(code) = self.look(client).await? {
                    return Ok(code);
                }
            }
        }
    }

    /// Returns the next event, and draws the bar anew until it comes.
    async fn next_event(&mut self, events: &mut Events, redraw: &mut Interval) -> Result<Option<Event>, Failure> {
        let mut next = pin!(events.next());
        loop {
            tokio::select! {
                event = &mut next => return event,
                _ = redraw.tick() => self.draw()?,
            }
        }
    }

    /// Takes an event over, and returns whether the rollout has to be looked at.
    fn heard(&mut self, client: &Client, event: &Event) -> Result<bool, Failure> {
        match event.kind.as_str() {
            "missed" => return Ok(true),
            "rollout" => {}
            _ => return Ok(false),
        }
        let news: News = read(client, &event.data)?;
        let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.rollout_id == news.rollout_id) else {
            return Ok(false);
        };
        rollout.counts = news.counts;
        let is_as_it_was =
            (rollout.state, rollout.awaits_promote, rollout.wave) == (news.state, news.awaits_promote, news.wave);
        for target in news.targets.iter().flatten() {
            self.tell_target(client, target, false)?;
        }
        self.draw()?;
        // One that was cancelled ends in the same state.
        Ok(!is_as_it_was || news.counts.open() == 0 || news.targets.is_none())
    }

    /// Looks at the rollout and then at its targets, so that these are as new as it is, and tells what is new. Returns the
    /// exit code where it does not go on by itself.
    async fn look(&mut self, client: &mut Client) -> Result<Option<ExitCode>, Failure> {
        let path = path_of(&self.watched.id);
        let raw = client.get(&path).await.map_err(|failure| not_done(failure, &self.watched.id, &self.watched.hub))?;
        let targets = client.list(&format!("{path}/targets"), &[], None).await?;
        let rollout: RolloutRecord = read(client, raw.get())?;
        let outcome = rollout.outcome();
        let key = |it: &RolloutRecord| (it.state, it.awaits_promote, it.wave, it.ended_at.is_some());
        let is_news = self.rollout.as_ref().map(key) != Some(key(&rollout));
        let (said, wave, counts) = (rollout.said(), rollout.wave_name(), words::counts(&rollout.counts));
        let line = format!("{}: {said}; {wave}: {counts}", self.watched.id);
        let is_first = self.rollout.replace(rollout).is_none();
        if is_first {
            self.progress.tell(raw.get(), &line, outcome.is_none())?;
        }
        for target in &targets.raw {
            self.tell_target(client, target, true)?;
        }
        if is_news && !is_first {
            self.progress.tell(raw.get(), &line, outcome.is_none())?;
        }
        self.draw()?;
        Ok(outcome)
    }

    /// Tells of a target that has moved since it was seen last. `is_present` says whether it is so now: an event may tell of
    /// what a look has seen already.
    fn tell_target(&mut self, client: &Client, raw: &RawValue, is_present: bool) -> Result<(), Failure> {
        let target: TargetRecord = read(client, raw.get())?;
        let now = (target.attempt, target.since, target.state);
        let before = self.seen.get(&target.number).copied();
        let is_older = |before: (u32, u64, TargetPhase)| !is_present && (now.0, now.1) < (before.0, before.1);
        let is_old = before.is_some_and(|before| now == before || is_older(before));
        if is_old {
            return Ok(());
        }
        self.seen.insert(target.number, now);
        // What had happened before is told as far as it matters yet.
        let was_before = before.is_none() && !self.watched.is_new && target.ended_well();
        if was_before || (before.is_none() && target.state == TargetPhase::Pending) {
            return Ok(());
        }
        // A look finds the targets newer than the rollout.
        let rollout = self.rollout.as_ref().filter(|_| !is_present);
        let through = rollout.map(|it| format!(" ({} of {} are through)", it.through(), it.size));
        let line = format!("{}{}", target.line(), through.unwrap_or_default());
        self.progress.tell(raw.get(), &line, target.state != TargetPhase::Failed)
    }

    fn draw(&mut self) -> Result<(), Failure> {
        match &self.rollout {
            Some(rollout) => self.progress.draw(rollout),
            None => Ok(()),
        }
    }

    /// Returns what is said at the end: what to do next.
    fn end(&self, code: ExitCode) -> Output {
        let steps = self.rollout.as_ref().map(|rollout| rollout.next_steps(&self.watched.hub)).unwrap_or_default();
        Output::done(if self.watched.json { String::new() } else { steps }).ending(code)
    }
}
