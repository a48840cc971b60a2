//! wip
mod model;
use model::scope::*;
use model::system::System;
use stateright::{Checker, Model};

#[test]
fn try_it() {
    let n = |k: &str| std::env::var(k).ok().and_then(|v| v.parse().ok()).unwrap_or(0u8);
    let budget = Budget { crashes: n("CRASHES"), breaks: n("BREAKS"), delays: n("DELAYS"), commands: n("COMMANDS"), forced: n("FORCED"), cancels: n("CANCELS"), stops: n("STOPS"), reboots: n("REBOOTS"), disk_faults: n("DISK"), hub_crashes: n("HUBCRASH"), failed_wakes: n("FAILW"), no_shows: n("NOSHOW"), failed_sessions: n("FAILS"), given_up: n("GIVEUP"), submits: n("SUBMITS"), rate_limits: n("RATE") };
    let hub = if n("LEGACY") > 0 { HubKind::Legacy } else { HubKind::Ours };
    let mut scope = Scope::new("try", hub, budget);
    if n("GENS") > 0 { scope.generations = n("GENS").into(); }
    let began = std::time::Instant::now();
    let checker = System::new(scope).checker().threads(2).spawn_bfs().join();
    println!("{} unique, {} total, depth {}, {:?}", checker.unique_state_count(), checker.state_count(), checker.max_depth(), began.elapsed());
    println!("facts {:?}", checker.model().facts.seen());
    if let Some(path) = checker.discovery("every property holds") {
        let model = checker.model();
        let states = path.clone().into_states();
        let actions = path.into_actions();
        for (i, a) in actions.iter().enumerate() {
            let mut beats = Vec::new();
            model.after(&states[i], *a, Some(&mut beats));
            println!("{a:?}");
            for b in beats { println!("      {b:?}"); }
        }
        println!("VIOLATION {:?}", states.last().unwrap().violation);
        panic!("violated");
    }
}
