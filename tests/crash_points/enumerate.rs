//! Counts the places of each story in a run without a crash, then tries them, several runs at a time. A crash can make
//! a story longer: after the last place that was counted the next one is tried, until a run does not reach it.

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::stage::{Bad, Stage};
use super::stories::Story;
use crate::support::hub::Hub;

/// How often a long search says how far it is.
const NEWS_EVERY: Duration = Duration::from_secs(60);

/// One in this many places is tried where nothing else is asked for; which ones differs between stories, because they begin
/// alike.
const TRY_EVERY: u64 = 8;

/// How often a place that timing kept a run from is tried before it is given up, and said so.
const TRIES: u32 = 3;

/// What is to be tried.
#[derive(Clone)]
struct Try {
    story: usize,
    at: u64,
    /// The second crash of a pair.
    then: Option<u64>,
    times: u32,
}

#[derive(Clone, Default)]
struct Line {
    name: &'static str,
    counted: Vec<String>,
    highest: u64,
    tried: u32,
    pairs: u32,
    /// Numbers that were there in the counting run and in none of the tries: timing took a shorter way, as when a hub that
    /// is away is dialled once less. Those runs were whole stories, all of whose places have lower numbers.
    unreached: Vec<String>,
    /// The same of pairs, of which there are thousands.
    unreached_pairs: u32,
    lost: u32,
    doubled: u32,
}

/// What all runs came to.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
    failures: Vec<String>,
    took: Duration,
}

impl Report {
    pub(crate) fn is_clean(&self) -> bool {
        // A few at the end of a story that had more to say when it was counted; many would mean that nothing is tried.
        let all_but_a_few = |line: &Line| {
            let few_places = line.unreached.len() as u64 * 4 * every() < line.counted.len() as u64;
            line.tried > 0 && few_places && line.unreached_pairs <= line.pairs / 50
        };
        self.failures.is_empty() && self.lines.iter().all(all_but_a_few)
    }

    /// How many places the stories have.
    pub(crate) fn places(&self) -> u64 {
        self.lines.iter().map(|line| line.highest).sum()
    }

    /// The first few, in full.
    pub(crate) fn failures(&self) -> String {
        format!("{} failures\n{}", self.failures.len(), self.failures[..self.failures.len().min(3)].join("\n\n"))
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<34} {:>7} {:>6} {:>9} {:>5} {:>8}",
            "crash points", "tried", "pairs", "unreached", "lost", "doubled"
        )?;
        let mut all = Line { name: "all", ..Line::default() };
        for line in &self.lines {
            all.tried += line.tried;
            all.pairs += line.pairs;
            all.unreached.extend(line.unreached.iter().map(|place| format!("{}: {place}", line.name)));
            all.lost += line.lost;
            all.doubled += line.doubled;
            all.unreached_pairs += line.unreached_pairs;
        }
        for Line { name, tried, pairs, unreached, lost, doubled, .. } in self.lines.iter().chain([&all]) {
            writeln!(f, "{name:<34} {tried:>7} {pairs:>6} {:>9} {lost:>5} {doubled:>8}", unreached.len())?;
        }
        for place in &all.unreached {
            writeln!(f, "unreached: {place}")?;
        }
        writeln!(f, "unreached pairs: {}", all.unreached_pairs)?;
        writeln!(f, "in {:.1} s", self.took.as_secs_f64())
    }
}

struct Work {
    queue: VecDeque<Try>,
    /// Runs that may still lead to more.
    busy: usize,
    report: Report,
    told: Instant,
}

impl Work {
    fn tell(&mut self) {
        if self.told.elapsed() >= NEWS_EVERY {
            self.told = Instant::now();
            let tried: u32 = self.report.lines.iter().map(|line| line.tried + line.pairs).sum();
            eprintln!("{tried} tried, {} failures, at least {} to go", self.report.failures.len(), self.queue.len());
        }
    }
}

/// Tries every place of every story.
pub(crate) fn enumerate(binary: &Path, stories: &[Story]) -> Report {
    let began = Instant::now();
    let lines = stories.iter().map(|story| Line { name: story.name, ..Line::default() }).collect();
    // The run at place 0 is the counting one: no place has that number.
    let queue = (0..stories.len()).map(|story| Try { story, at: 0, then: None, times: 1 }).collect();
    let report = Report { lines, ..Report::default() };
    let work = Mutex::new(Work { queue, busy: 0, report, told: began });
    let workers = number("AGENTCOM_CRASH_WORKERS").unwrap_or(10);
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let work = &work;
            scope.spawn(move || {
                let mut hub = Hub::start_with(&["--reconcile-ms", "100"]);
                let mut runs = 0;
                while let Some(next) = take(work) {
                    runs += 1;
                    let name = format!("agent-{worker}-{runs}");

                    let outcome = run(&mut hub, binary, &name, stories[next.story], &next);

                    account(&mut work.lock().unwrap(), &next, outcome);
                }
            });
        }
    });
    let mut report = work.into_inner().unwrap().report;
    report.took = began.elapsed();
    report
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// One in this many places is tried.
fn every() -> u64 {
    let pairs = number("AGENTCOM_CRASH_PAIRS").map(|_| 1);
    pairs.or_else(|| number("AGENTCOM_CRASH_EVERY")).unwrap_or(TRY_EVERY).max(1)
}

/// The next thing to try; waits while what is running may lead to more.
fn take(work: &Mutex<Work>) -> Option<Try> {
    loop {
        let mut held = work.lock().unwrap();
        held.tell();
        if let Some(next) = held.queue.pop_front() {
            held.busy += 1;
            return Some(next);
        }
        if held.busy == 0 {
            return None;
        }
        drop(held);
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Outcome {
    has_crashed: bool,
    points: Vec<String>,
    bad: Option<(Bad, String)>,
}

fn run(hub: &mut Hub, binary: &Path, name: &str, story: Story, attempt: &Try) -> Outcome {
    let at = [Some(attempt.at).filter(|at| *at > 0), attempt.then].into_iter().flatten().collect();
    let mut stage = Stage::new(hub, binary, name, at);
    let mut ended = (story.tell)(&mut stage).and_then(|()| stage.must_end_well());
    if ended.is_ok() && !stage.has_crashed() {
        ended = stage.linger().and_then(|crashed| if crashed { stage.must_end_well() } else { Ok(()) });
    }
    let bad = ended.err().map(|bad| (bad, stage.told()));
    Outcome { has_crashed: stage.has_crashed(), points: stage.points(), bad }
}

fn account(work: &mut Work, attempt: &Try, outcome: Outcome) {
    work.busy -= 1;
    let Work { queue, report, .. } = work;
    let line = &mut report.lines[attempt.story];
    if let Some((bad, told)) = outcome.bad {
        let what = match bad {
            Bad::Lost(what) => {
                line.lost += 1;
                format!("lost: {what}")
            }
            Bad::Doubled(what) => {
                line.doubled += 1;
                format!("doubled: {what}")
            }
        };
        report.failures.push(format!("{} at {} then {:?}: {what}\n{told}", line.name, attempt.at, attempt.then));
        return;
    }
    let story = attempt.story;
    if attempt.at == 0 {
        line.highest = outcome.points.len() as u64;
        line.counted = outcome.points;
        let chosen = |at: &u64| match number("AGENTCOM_CRASH_AT") {
            Some(only) => only == *at,
            None => (at + story as u64).is_multiple_of(every()),
        };
        let places = (1..=line.highest).filter(chosen);
        queue.extend(places.map(|at| Try { story, at, then: None, times: 1 }));
    } else if !outcome.has_crashed {
        // Timing took another way this time. Past what was counted that is the end; before, the place is tried again.
        let place = usize::try_from(attempt.at - 1).ok().and_then(|at| line.counted.get(at));
        match place {
            Some(_) if attempt.times < TRIES => queue.push_back(Try { times: attempt.times + 1, ..attempt.clone() }),
            Some(_) if attempt.then.is_some() => line.unreached_pairs += 1,
            Some(place) => line.unreached.push(place.clone()),
            None => {}
        }
    } else if attempt.then.is_some() {
        line.pairs += 1;
    } else {
        line.tried += 1;
        if attempt.at == line.highest && number("AGENTCOM_CRASH_AT").is_none() {
            line.highest += 1;
            queue.push_back(Try { story, at: line.highest, then: None, times: 1 });
        }
        if number("AGENTCOM_CRASH_PAIRS").is_some() {
            let second = attempt.at + 1..=outcome.points.len() as u64;
            queue.extend(second.map(|then| Try { then: Some(then), times: 1, ..attempt.clone() }));
        }
    }
}
