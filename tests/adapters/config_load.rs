//! `config.json` as people write it: what is read, what is refused and how it is said.
#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::fs;
use std::path::PathBuf;

use agentcom::common::logging::{LogFormat, LogLevel};
use agentcom::sidecar::config;
use agentcom::sidecar::config::{
    Config, ConfigError, ExecutorMode, KEYS, Loaded, NUMBERS, Override, Overrides, RestartIntensity, WarningKind,
};

const TOKEN: &str = "0123456789abcdef-the-token";

/// What the original's onboarding writes.
const EXISTING: &str = r#"{
  "agent_id": "gcu-sleeper-service",
  "token": "0123456789abcdef-the-token",
  "hub_url": "ws://localhost:4000/ws",
  "hub_api_url": "http://localhost:4000",
  "repo_dir": "/srv/agent/repo",
  "reviewer": "",
  "wake_command": "openclaw agent --message \"Task: ${TASK_JSON}\" --session-id ${TASK_ID}",
  "capabilities": [
    "code"
  ],
  "confirmation_timeout_ms": 30000,
  "results_dir": "./results",
  "log_file": "./sidecar.log"
}"#;

struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(file.path(), text).unwrap();
        file.set_mode(0o600);
        file
    }

    fn set_mode(&self, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(self.path(), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("config.json")
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        Config::load(&self.path())
    }
}

/// A good configuration with `more` lines in it, from line 3 on.
fn with(more: &str) -> String {
    format!(
        "{{\"agent_id\": \"a\", \"token\": \"{TOKEN}\", \"hub_url\": \"ws://h/ws\", \"wake_command\": \"true\"\n,\n{more}\n}}"
    )
}

fn loaded(text: &str) -> Loaded {
    File::new(text).load().unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn warnings(text: &str) -> Vec<WarningKind> {
    loaded(text).warnings.into_iter().map(|warning| warning.kind).collect()
}

/// The error, without the folder, which is another one each time.
fn said(text: &str) -> String {
    let file = File::new(text);
    let error = file.load().unwrap_err().to_string();
    assert!(!error.contains(TOKEN), "{error}");
    error.replace(&file.path().display().to_string(), "config.json")
}

#[test]
fn an_existing_configuration_is_read_unchanged() {
    let file = File::new(EXISTING);
    let Loaded { config, warnings } = file.load().unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.agent_id, "gcu-sleeper-service");
    assert_eq!(config.token.expose(), TOKEN);
    assert_eq!((config.reviewer, config.repo_dir), (None, Some(PathBuf::from("/srv/agent/repo"))));
    assert_eq!(config.capabilities, ["code"]);
    assert_eq!(config.results_dir, file.folder.path().join("results"));
    assert_eq!(config.log_file, file.folder.path().join("sidecar.log"));
    assert_eq!(config.queue_file, file.folder.path().join("queue.json"));
}

#[test]
fn what_is_absent_has_its_documented_default() {
    let config = loaded(&with("\"reviewer\": null")).config;
    assert_eq!(config.restart_intensity, RestartIntensity { max: 3, window_ms: 60_000 });
    assert_eq!(config.wake_retry_delays_ms, [5_000, 15_000, 30_000]);
    assert_eq!((config.restart_deadline_ms, config.drain_deadline_ms), (120_000, 5_000));
    assert_eq!((config.progress_interval_ms, config.max_frame_bytes), (45_000, 4 << 20));
    assert_eq!(config.log_level, LogLevel::Info);
}

#[test]
fn what_the_original_takes_for_absent_is_absent() {
    let text = with(
        "\"repo_dir\": \"\", \"hub_api_url\": null, \"ollama_url\": false, \"results_dir\": \"\", \"log_file\": null, \
         \"confirmation_timeout_ms\": 0, \"capabilities\": null, \"log_level\": \"\"",
    );
    let config = loaded(&text).config;
    assert_eq!((config.repo_dir, config.hub_api_url, config.ollama_url), (None, None, None));
    assert_eq!(config.confirmation_timeout_ms, 30_000);
    assert!(config.results_dir.ends_with("results") && config.capabilities.is_empty());
}

#[test]
fn every_new_key_is_read() {
    let text = with(
        "\"queue_file\": \"state/q.json\", \"restart_deadline_ms\": 1001, \"drain_deadline_ms\": 1002, \
         \"restart_intensity\": {\"max\": 0, \"window_ms\": 1003}, \"wake_retry_delays_ms\": [0, 7], \
         \"wake_timeout_ms\": 1004, \"progress_interval_ms\": 1005, \"ping_interval_ms\": 1006, \
         \"pong_timeout_ms\": 1007, \"reconnect_min_ms\": 1008, \"reconnect_max_ms\": 1009, \
         \"connect_timeout_ms\": 1010, \"identify_timeout_ms\": 1011, \"answer_timeout_ms\": 1012, \
         \"results_scan_ms\": 1013, \"max_frame_bytes\": 70000, \"log_level\": \"notice\", \"log_format\": \"text\", \
         \"http_listen\": \"localhost:1014\", \"resource_report_interval_ms\": 1015",
    );
    let file = File::new(text);
    let config = file.load().unwrap().config;
    assert_eq!(config.queue_file, file.folder.path().join("state/q.json"));
    assert_eq!((config.restart_deadline_ms, config.drain_deadline_ms), (1_001, 1_002));
    assert_eq!(config.restart_intensity, RestartIntensity { max: 0, window_ms: 1_003 });
    assert_eq!((config.wake_retry_delays_ms, config.wake_timeout_ms), (vec![0, 7], 1_004));
    assert_eq!((config.progress_interval_ms, config.ping_interval_ms, config.pong_timeout_ms), (1_005, 1_006, 1_007));
    assert_eq!((config.reconnect_min_ms, config.reconnect_max_ms), (1_008, 1_009));
    assert_eq!(
        (config.connect_timeout_ms, config.identify_timeout_ms, config.answer_timeout_ms),
        (1_010, 1_011, 1_012)
    );
    assert_eq!((config.results_scan_ms, config.max_frame_bytes), (1_013, 70_000));
    assert_eq!((config.log_level, config.log_format), (LogLevel::Notice, LogFormat::Text));
    assert_eq!(config.resource_report_interval_ms, 1_015);
    assert_eq!(config.http_listen, Some("127.0.0.1:1014".parse().unwrap()));
}

#[test]
fn only_this_machine_reads_over_http_unless_more_is_asked_for() {
    assert_eq!(loaded(&with("\"reviewer\": null")).config.http_listen, None);
    let error = said(&with("\"http_listen\": \"0.0.0.0:9464\""));
    assert!(error.contains("found \"0.0.0.0:9464\"; allowed: a loopback address"), "{error}");
    let allowed = loaded(&with("\"http_listen\": \"0.0.0.0:9464\", \"http_allow_remote\": true"));
    assert_eq!(allowed.config.http_listen, Some("0.0.0.0:9464".parse().unwrap()));
    let error = said(&with("\"http_listen\": \"9464\""));
    assert!(error.contains("allowed: an IP address and a port"), "{error}");
    let error = said(&with("\"http_allow_remote\": 1"));
    assert!(error.contains("allowed: true or false"), "{error}");
}

#[test]
fn a_wrong_value_is_named_with_file_line_column_key_found_and_allowed() {
    assert_eq!(
        said(&with("  \"drain_deadline_ms\": \"5 s\"")),
        "1 wrong value in config.json:\n  config.json:3:24: `drain_deadline_ms`: found the text \"5 s\"; \
         allowed: a whole number from 100 to 60000"
    );
}

#[test]
fn all_wrong_values_are_named_at_once_in_the_order_of_the_file() {
    let said = said(
        "{\n\"hub_url\": \"https://h/ws\",\n\"agent_id\": 7,\n\"restart_intensity\": {\n\"max\": -1},\n\
         \"wake_retry_delays_ms\": [1,\n2.5]}",
    );
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 6, "{said}");
    assert!(lines[1].starts_with("  `token`: found no such key"), "{said}");
    assert!(lines[2].contains("config.json:2:12: `hub_url`") && lines[2].contains("wss:// instead of https://"));
    assert!(lines[3].starts_with("  config.json:3:13: `agent_id`: found the number 7"), "{said}");
    assert!(lines[4].starts_with("  config.json:5:8: `restart_intensity.max`: found the number -1"), "{said}");
    assert!(lines[5].starts_with("  config.json:7:1: `wake_retry_delays_ms[1]`: found the number 2.5"), "{said}");
}

#[test]
fn bounds_are_kept_on_both_sides_of_every_number() {
    for number in NUMBERS {
        let write = |value: u64| match number.key.split_once('.') {
            Some((outer, inner)) => with(&format!("\"{outer}\": {{\"{inner}\": {value}}}")),
            // Whatever the first wait, the longest must not be below it.
            None if number.key == "reconnect_max_ms" => {
                with(&format!("\"reconnect_min_ms\": 10, \"reconnect_max_ms\": {value}"))
            }
            None if number.key == "reconnect_min_ms" => {
                with(&format!("\"reconnect_max_ms\": 3600000, \"reconnect_min_ms\": {value}"))
            }
            None => with(&format!("\"{}\": {value}", number.key)),
        };
        loaded(&write(number.min));
        loaded(&write(number.max));
        assert!(said(&write(number.max + 1)).contains(number.key));
        if number.min > 0 {
            assert!(said(&write(number.min - 1)).contains(number.key));
        }
    }
}

#[test]
fn the_first_wait_is_not_above_the_longest() {
    let said = said(&with("\"reconnect_min_ms\": 5000, \"reconnect_max_ms\": 1000"));
    assert!(
        said.contains("`reconnect_min_ms`: found 5000; allowed: at most reconnect_max_ms, which is 1000"),
        "{said}"
    );
}

#[test]
fn required_values_that_are_empty_are_missing() {
    let said = said("{\"agent_id\": \"\", \"token\": null, \"hub_url\": \" \"}");
    assert!(said.contains("3 wrong values"), "{said}");
}

#[test]
fn an_agent_id_has_at_most_128_characters() {
    let text = |length| with(&format!("\"agent_id\": \"{}\"", "ä".repeat(length)));
    loaded(&text(128));
    assert!(said(&text(129)).contains("1 to 128 characters"));
}

#[test]
fn a_wrong_token_is_never_quoted() {
    for token in ["[\"s3cret-token\"]", "{\"s3cret-token\": 1}", "\"s3cret-token\\n\"", "\" s3cret-token\"", "12345678"]
    {
        let said = said(&format!("{{\"agent_id\": \"a\", \"hub_url\": \"ws://h\", \"token\": {token}}}"));
        assert!(said.contains("`token`") && !said.contains("s3cret") && !said.contains("12345678"), "{said}");
    }
}

#[test]
fn a_token_pasted_elsewhere_is_not_quoted_either() {
    let long = "x".repeat(70);
    let text =
        with(&format!("\"hub_url\": \"{long}{TOKEN}\", \"log_level\": \"{TOKEN}\", \"capabilities\": [[\"{TOKEN}\"]]"));
    let said = said(&text);
    assert!(said.contains("3 wrong values"), "{said}");
    assert!(!said.contains(&TOKEN[..8]), "{said}");
}

#[test]
fn an_escaped_token_is_not_quoted_either() {
    let said = said(
        "{\"agent_id\": \"a\", \"token\": \"to\\\"ken-1\", \"hub_url\": \"to\\\"ken-1\", \"log_level\": \"to\\\"ken-1\"}",
    );
    assert!(said.contains("2 wrong values") && !said.contains("ken-1"), "{said}");
}

#[test]
fn a_checked_configuration_prints_without_its_token() {
    let loaded = loaded(EXISTING);
    assert!(!format!("{loaded:?}").contains(TOKEN));
}

#[test]
fn unknown_keys_are_warnings_that_guess_what_was_meant() {
    let text = with("\"wake_comand\": 1, \"restart-deadline-ms\": 2, \"openclaw_wake_command\": null, \"zebra\": {}");
    let guesses: Vec<_> = warnings(&text)
        .into_iter()
        .map(|kind| {
            let WarningKind::UnknownKey { did_you_mean, .. } = kind else { panic!("{kind:?}") };
            did_you_mean
        })
        .collect();
    assert_eq!(guesses, [Some("wake_command"), Some("restart_deadline_ms"), Some("wake_command"), None]);
}

#[test]
fn an_unknown_key_inside_is_a_warning_with_its_path() {
    let kinds = warnings(&with("\"restart_intensity\": {\"windows_ms\": 5}"));
    let key = "restart_intensity.windows_ms".to_owned();
    assert_eq!(kinds, [WarningKind::UnknownKey { key, did_you_mean: Some("window_ms") }]);
}

#[test]
fn of_repeated_keys_the_last_counts_and_a_warning_says_so() {
    let loaded = loaded(&with("\"wake_timeout_ms\": 1000,\n\"wake_timeout_ms\": 2000"));
    assert_eq!(loaded.config.wake_timeout_ms, 2_000);
    let warning = &loaded.warnings[0];
    assert_eq!(warning.place.as_ref().map(|place| place.line), Some(4));
    assert_eq!(warning.kind, WarningKind::DuplicateKey { key: "wake_timeout_ms".into(), first_line: 3 });
}

#[test]
fn a_wrong_value_among_repeated_keys_is_named_where_it_stands() {
    let said = said(&with("\"wake_timeout_ms\": 1000,\n\"wake_timeout_ms\": true"));
    assert!(said.contains("config.json:4:20: `wake_timeout_ms`: found true"), "{said}");
}

#[test]
fn a_file_that_others_can_read_is_warned_about_with_the_cure() {
    let file = File::new(with("\"reviewer\": \"\""));
    file.set_mode(0o644);
    let warning = file.load().unwrap().warnings.pop().unwrap().to_string();
    assert!(warning.contains("mode 644") && warning.contains("chmod 600"), "{warning}");
}

#[test]
fn a_missing_wake_command_is_a_warning() {
    let text = format!("{{\"agent_id\": \"a\", \"token\": \"{TOKEN}\", \"hub_url\": \"ws://h/ws\"}}");
    assert_eq!(warnings(&text), [WarningKind::NoWakeCommand]);
}

#[test]
fn placeholders_in_single_quotes_are_a_warning() {
    let kinds = warnings(&with("\"wake_command\": \"agent '${TASK_ID}' \\\"${TASK_JSON}\\\"\""));
    assert!(
        kinds.contains(&WarningKind::SingleQuoted { key: "wake_command".into(), variable: "TASK_ID" }),
        "{kinds:?}"
    );
    assert!(
        !kinds.contains(&WarningKind::SingleQuoted { key: "wake_command".into(), variable: "TASK_JSON" }),
        "{kinds:?}"
    );
}

#[test]
fn syntax_errors_have_a_place() {
    assert_eq!(said("{\n  \"agent_id\": \"a\"\n  \"token\"}"), "config.json:3:3: not valid JSON: expected `,` or `}`");
}

#[test]
fn a_byte_order_mark_is_no_obstacle() {
    loaded(&format!("\u{feff}{EXISTING}"));
}

#[test]
fn other_encodings_are_named_with_their_line() {
    let file = File::new(b"{\n\"agent_id\": \"\xe4\"}");
    assert!(file.load().unwrap_err().to_string().contains("config.json:2: not UTF-8"));
}

#[test]
fn something_else_than_an_object_is_said_to_be_none() {
    assert!(said("[1]").contains("one JSON object"));
    assert!(said("").contains("not valid JSON"));
}

#[test]
fn a_missing_file_says_how_to_name_another() {
    let folder = tempfile::tempdir().unwrap();
    let error = Config::load(&folder.path().join("none.json")).unwrap_err().to_string();
    assert!(error.contains("none.json") && error.contains("--config") && error.contains("AGENTCOM_CONFIG"), "{error}");
}

#[test]
fn a_huge_file_is_not_read() {
    let error = File::new(vec![b' '; 2 << 20]).load().unwrap_err();
    assert!(matches!(error, ConfigError::TooLarge { .. }), "{error}");
}

#[test]
fn flags_win_over_the_environment_and_both_over_the_file() {
    let file = File::new("{\"agent_id\": \"a\", \"hub_url\": \"ws://h/ws\", \"log_level\": \"error\"}");
    let environment = Overrides::from_env(|key| (key == "AGENTCOM_TOKEN").then(|| "from-the-environment".into()));
    let flags = Overrides { log_level: Some(Override::new("debug", "--log-level")), ..Overrides::default() };
    let config = Config::load_with(&file.path(), &flags.over(environment)).unwrap().config;
    assert_eq!((config.token.expose(), config.log_level), ("from-the-environment", LogLevel::Debug));
}

#[test]
fn a_wrong_flag_is_named_by_its_own_name() {
    let file = File::new(EXISTING);
    let flags = Overrides { log_level: Some(Override::new("loud", "--log-level")), ..Overrides::default() };
    let error = Config::load_with(&file.path(), &flags).unwrap_err().to_string();
    assert!(error.contains("`--log-level`: found \"loud\"; allowed: one of debug"), "{error}");
}

#[test]
fn the_path_is_the_flag_then_the_environment_then_the_working_folder() {
    let env = |key: &str| (key == "AGENTCOM_CONFIG").then(|| "env.json".into());
    assert_eq!(config::config_path(Some("flag.json".into()), env), PathBuf::from("flag.json"));
    assert_eq!(config::config_path(None, env), PathBuf::from("env.json"));
    assert_eq!(config::config_path(None, |_| None), PathBuf::from("config.json"));
}

#[test]
fn the_documentation_names_every_key_with_its_default_and_bounds() {
    let doc = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
    for key in KEYS.iter().filter(|key| **key != "restart_intensity") {
        assert!(doc.contains(&format!("| `{key}` |")), "docs/configuration.md has no row for `{key}`");
    }
    for number in NUMBERS {
        let row = format!("| `{}` | {} | {} to {} |", number.key, number.default, number.min, number.max);
        assert!(doc.contains(&row), "docs/configuration.md has no row\n{row}");
    }
}

#[test]
fn the_example_in_the_documentation_is_a_good_configuration() {
    let doc = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
    let example = doc.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(loaded(example).warnings, []);
}

#[test]
fn labels_are_read_and_only_so_many() {
    let read = loaded(&with(r#""labels": {"pool": "gpu", "site/rack": "Größe 7", "none": null}"#)).config.labels;
    let read: Vec<_> = read.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(read, [("pool", "gpu"), ("site/rack", "Größe 7")]);
    let many: Vec<String> = (0..17).map(|n| format!("\"k{n}\": \"v\"")).collect();
    let error = said(&with(&format!("\"labels\": {{{}}}", many.join(", "))));
    assert!(error.contains("`labels`: found 17 labels; allowed: at most 16 of them"), "{error}");
}

#[test]
fn executors_are_read_with_their_defaults() {
    let text = with(
        "\"wake_timeout_ms\": 4000, \"executors\": {\"claude\": {\"command\": \"c\", \"mode\": \"run\", \
         \"env\": {\"K\": \"v\"}}, \"ollama\": {\"command\": \"o\"}, \"x\": {\"command\": \"y\", \"timeout_ms\": 100}}",
    );
    let executors = loaded(&text).config.executors;
    let read: Vec<_> =
        executors.iter().map(|e| (e.target.as_str(), e.command.as_str(), e.mode, e.timeout_ms)).collect();
    let expected = [
        ("claude", "c", ExecutorMode::Run, 3_600_000),
        ("ollama", "o", ExecutorMode::Wake, 4_000),
        ("x", "y", ExecutorMode::Wake, 100),
    ];
    assert_eq!(read, expected);
    assert_eq!(executors[0].env, [("K".to_owned(), "v".to_owned())]);
}

#[test]
fn a_wrong_executor_is_named_with_its_path() {
    let wrong = |inner: &str| said(&with(&format!("\"executors\": {inner}")));
    assert!(wrong("[]").contains("`executors`: found the list []"));
    assert!(wrong("{\"a\": \"sh\"}").contains("`executors.a`: found the text \"sh\""));
    assert!(wrong("{\"a\": {}}").contains("`executors.a.command`: found no such key"));
    assert!(wrong("{\"a\": {\"command\": \" \"}}").contains("`executors.a.command`"));
    assert!(wrong("{\"a\": {\"command\": \"x\", \"mode\": \"walk\"}}").contains("allowed: \"wake\" or \"run\""));
    assert!(wrong("{\"a\": {\"command\": \"x\", \"timeout_ms\": 99}}").contains("`executors.a.timeout_ms`"));
    assert!(wrong("{\"a\": {\"command\": \"x\", \"env\": {\"K\": 1}}}").contains("`executors.a.env.K`"));
    assert!(wrong("{\"a\": {\"command\": \"x\", \"env\": {\"K=\": \"v\"}}}").contains("`executors.a.env.K=`"));
}

#[test]
fn misspelt_keys_inside_are_warnings_with_what_was_meant() {
    let kinds = warnings(&with(
        "\"executors\": {\"a\": {\"command\": \"x\", \"timeout\": 100}}, \"shell_commands\": {\"enable\": true}, \
         \"hooks\": {\"on_task_end\": \"x\"}",
    ));
    let unknown = |key: &str, meant| WarningKind::UnknownKey { key: key.into(), did_you_mean: meant };
    assert!(kinds.contains(&unknown("executors.a.timeout", Some("timeout_ms"))), "{kinds:?}");
    assert!(kinds.contains(&unknown("shell_commands.enable", Some("enabled"))), "{kinds:?}");
    assert!(kinds.iter().any(|kind| matches!(kind, WarningKind::UnknownKey { key, .. } if key == "hooks.on_task_end")));
}

#[test]
fn shell_commands_are_off_unless_switched_on() {
    let enabled = |inner: &str| loaded(&with(inner)).config.shell_commands.enabled;
    assert!(!enabled("\"hooks\": {}"));
    assert!(!enabled("\"shell_commands\": {}"));
    assert!(enabled("\"shell_commands\": {\"enabled\": true}"));
    assert!(said(&with("\"shell_commands\": {\"enabled\": 1}")).contains("`shell_commands.enabled`"));
}

#[test]
fn hooks_are_shell_lines() {
    let hooks = loaded(&with("\"hooks\": {\"on_task_start\": \"a\", \"on_task_result\": null, \"timeout_ms\": 100}"));
    let hooks = hooks.config.hooks;
    assert_eq!((hooks.on_task_start.as_deref(), hooks.on_task_result, hooks.timeout_ms), (Some("a"), None, 100));
    assert!(said(&with("\"hooks\": {\"on_task_start\": 1}")).contains("`hooks.on_task_start`"));
}

#[test]
fn the_resource_report_is_off_by_0() {
    let read = |value: u64| with(&format!("\"resource_report_interval_ms\": {value}"));
    assert_eq!(loaded(&read(0)).config.resource_report_interval_ms, 0);
    assert_eq!(loaded(&read(1_000)).config.resource_report_interval_ms, 1_000);
    assert!(said(&read(999)).contains("allowed: 0 (off), or a whole number from 1000 to 3600000"));
    assert!(said(&read(3_600_001)).contains("`resource_report_interval_ms`"));
}
