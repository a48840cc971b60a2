use super::*;
use crate::sidecar::admin::status::{DialingPart, OverriddenPart, example as idle};

#[test]
fn a_sidecar_without_trouble_takes_ten_lines() {
    let expected = "\
alice Idle: waits for a task
  task         none
  hub          online for 5.0 s, answers in 3 ms, 1 reconnect; ws://h/ws
  journal      written, no verdict waits; /q.json
  supervisor   pm2 alice (id 3), restarts by exit 0
  restarts     2 min 0 s ago, \"upgrade\": back after 36 ms
  since start  3 tasks taken, 2 completed, 1 failed, 0 refused
  process      pid 7, up 1 min 1 s, 5.3 MB, version 0.1.0
  config       /c.json
";
    assert_eq!(running(&idle(), 121_000), expected);
}

#[test]
fn what_is_wrong_comes_first_with_what_to_do() {
    let mut status = idle();
    status.journal.writable = false;
    status.hub.link = "down".into();
    status.draining = true;
    let text = running(&status, 0);
    let lines: Vec<_> = text.lines().skip(1).take(6).collect();
    assert!(lines[0].starts_with("  ! the journal") && lines[1].contains("/q.json"), "{text}");
    assert!(lines[2].starts_with("  ! the hub is away") && lines[3].contains("ws://h/ws"), "{text}");
    assert!(lines[4].starts_with("  ! draining") && lines[5].contains("resume"), "{text}");
}

#[test]
fn a_hub_that_refuses_us_is_not_said_to_be_away() {
    let mut status = idle();
    status.hub.link = "down".into();
    status.hub.trouble = Some("invalid_token".into());
    status.hub.refused = true;
    let text = running(&status, 0);
    assert!(text.contains("  ! the hub does not let us in (invalid_token)"), "{text}");
    assert!(text.contains("    -> put this agent's own token into /c.json"), "{text}");
}

#[test]
fn a_hub_that_is_away_is_told_with_what_the_last_attempt_met() {
    let mut status = idle();
    status.hub.link = "down".into();
    status.hub.trouble = Some("no such host; is it spelled right?".into());
    let text = running(&status, 0);
    assert!(text.contains("    -> no such host; is it spelled right?\n"), "{text}");
}

fn dialing(what: &str) -> Option<DialingPart> {
    Some(DialingPart { what: what.to_owned(), address: None, number: Some(2), of: Some(4), for_ms: 340 })
}

#[test]
fn while_it_dials_the_page_says_where_and_why_the_last_attempt_failed() {
    let mut status = idle();
    status.hub.link = "dialing".into();
    status.hub.dialing = dialing("dialing 192.0.2.3:443 (2 of 4)");
    status.hub.detail = "dialing 192.0.2.3:443 (2 of 4), for 340 ms; 3 attempts failed before".into();
    let first = running(&status, 0);
    assert!(
        first.contains("  hub          dialing 192.0.2.3:443 (2 of 4) for 340 ms, ") && !first.contains("  ! "),
        "{first}"
    );
    (status.hub.trouble, status.hub.trouble_age_ms) = (Some("its certificate expired".into()), Some(5_200));
    let text = running(&status, 0);
    let told = "  ! the hub is away: dialing 192.0.2.3:443 (2 of 4), for 340 ms; 3 attempts failed before, the last 5.2 s ago\n    -> its certificate expired\n";
    assert!(text.contains(told), "{text}");
    assert!(running_short(&status).contains("; hub dialing 192.0.2.3:443 (2 of 4)"), "{}", running_short(&status));
}

#[test]
fn what_overrides_the_configuration_is_named_with_how_to_take_it_out() {
    let mut status = idle();
    status.hub.link = "down".into();
    status.hub.trouble = Some("invalid_token".into());
    status.hub.refused = true;
    status.hub.overridden = [("token", "AGENTCOM_TOKEN"), ("hub_url", "--hub-url")]
        .map(|(key, by)| OverriddenPart { key: key.into(), by: by.into() })
        .to_vec();
    let text = running(&status, 0);
    assert!(text.contains("  overridden   `token` by AGENTCOM_TOKEN, `hub_url` by --hub-url\n"), "{text}");
    let told = "-> the environment variable AGENTCOM_TOKEN overrides `token` in /c.json: pm2 keeps it: pm2 delete alice, \
                and start it from a shell without it (env -u AGENTCOM_TOKEN pm2 start ...), pm2 save";
    assert!(text.contains(told), "{text}");
    status.hub.refused = false;
    let text = running(&status, 0);
    assert!(text.contains("; the flag --hub-url overrides `hub_url` in /c.json: pm2 keeps it: pm2 delete alice, and start it without --hub-url"), "{text}");
    (status.supervisor.kind, status.hub.refused) = ("none".into(), true);
    assert!(running(&status, 0).contains("start the sidecar without AGENTCOM_TOKEN"));
}

fn conflict(age_ms: u64, in_our_place: bool) -> Option<IdentityConflictPart> {
    let address = Some("10.0.0.14:4711".to_owned());
    Some(IdentityConflictPart { address, last_at_ms: 1_000, age_ms, times: 3, recent: age_ms < 600_000, in_our_place })
}

#[test]
fn another_sidecar_with_the_identity_is_told_in_place_of_a_hub_that_is_away() {
    let mut status = idle();
    status.hub.link = "down".into();
    status.hub.detail = "1 attempt failed; the next in 48 s".into();
    status.identity_conflict = conflict(12_000, true);
    let text = running(&status, 0);
    let told = "  ! another sidecar at 10.0.0.14:4711 uses this identity, last seen 12 s ago; the hub has it in our place: 1 attempt failed; the next in 48 s\n    -> stop one of the two";
    assert!(text.contains(told) && !text.contains("is away"), "{text}");
    status.identity_conflict = conflict(12_000, false);
    let text = running(&status, 0);
    assert!(text.contains("last seen 12 s ago\n") && text.contains("  ! the hub is away"), "{text}");
}

#[test]
fn another_sidecar_of_long_ago_is_no_problem_any_more() {
    let mut status = idle();
    status.identity_conflict = conflict(7_380_000, false);
    let text = running(&status, 0);
    let told = "  identity     another sidecar at 10.0.0.14:4711 used this identity, last seen 2 h 3 min ago\n";
    assert!(text.contains(told) && !text.contains("  ! "), "{text}");
}

#[test]
fn a_restart_s_reason_cannot_forge_a_line_above_the_rows_either() {
    let mut status = idle();
    status.why = "restarts once its task has ended: x\n  ! all is lost\u{1b}[2J".into();
    let text = running(&status, 0);
    assert!(!text.contains('\u{1b}') && !text.lines().any(|line| line.starts_with("  ! all")), "{text}");
}

#[test]
fn a_reason_cannot_steer_the_terminal_or_forge_a_line() {
    let mut status = idle();
    status.restarts[0].reason = "x\n  ! all is lost\u{1b}[2J".into();
    let text = running(&status, 0);
    assert!(!text.contains('\u{1b}') && !text.lines().any(|line| line.starts_with("  ! all")), "{text}");
}

#[test]
fn times_have_the_units_that_matter() {
    let shown = [5, 1_500, 12_000, 184_000, 7_380_000, 345_600_000].map(duration);
    assert_eq!(shown, ["5 ms", "1.5 s", "12 s", "3 min 4 s", "2 h 3 min", "4 d 0 h"]);
}
