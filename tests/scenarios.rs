//! Every story in `tests/scenarios` comes out as written. `UPDATE_SCENARIOS=1 cargo test --test scenarios` writes down
//! what came out instead; whether that is what the documents demand is for a person to judge.

mod scenario;

use std::collections::BTreeSet;
use std::path::Path;

use agentcom::machine::{EffectName, EventName, FromHubName, ToHubName, Wait};
use strum::IntoEnumIterator;

use scenario::story;

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[test]
fn every_story_comes_out_as_written() {
    let rewrite = std::env::var_os("UPDATE_SCENARIOS").is_some_and(|value| value == "1");
    let mut complaints = Vec::new();
    let files = story::files().unwrap();
    assert!(!files.is_empty(), "no stories found");
    for path in files {
        let played = story::play(&std::fs::read_to_string(&path).unwrap());
        if rewrite && played.trouble.is_none() {
            std::fs::write(&path, &played.came_out).unwrap();
        } else if let Some(complaint) = played.complaint() {
            complaints.push(format!("== {}\n{complaint}", name(&path)));
        }
    }
    assert!(complaints.is_empty(), "{} stories came out differently\n{}", complaints.len(), complaints.join("\n"));
}

/// The stories are the tour of the machine: what none of them shows is what nobody has judged.
#[test]
fn together_they_show_every_event_effect_and_frame() {
    let mut met = BTreeSet::new();
    for path in story::files().unwrap() {
        let seen = story::play(&std::fs::read_to_string(&path).unwrap()).seen;
        met.extend(seen.events.iter().map(|(_, name)| ("event", *name)));
        met.extend(seen.from_hub.iter().map(|name| ("heard", *name)));
        met.extend(seen.to_hub.iter().map(|name| ("said", *name)));
        met.extend(seen.effects.iter().map(|name| ("effect", *name)));
        met.extend(seen.waits.iter().map(|name| ("wait", *name)));
    }
    let all = (EventName::iter().map(|name| ("event", <&str>::from(name))))
        .chain(FromHubName::iter().map(|name| ("heard", name.into())))
        .chain(ToHubName::iter().map(|name| ("said", name.into())))
        .chain(EffectName::iter().map(|name| ("effect", name.into())))
        .chain(Wait::iter().map(|name| ("wait", name.into())));
    let missing: Vec<_> = all.filter(|name| !met.contains(name)).collect();
    assert!(missing.is_empty(), "no story shows {missing:?}");
}
