use proptest::prelude::*;

use super::*;
use crate::sidecar::supervisor::pm2::identity::NameSource;

const TWO: &str = r#"[{"pid":9343,"name":"probe one","pm2_env":{"name":"probe one","args":["-c","echo [{"],"env":{"TOKEN":"s3cret"},
"axm_actions":[],"stop_exit_codes":[5,0],"kill_timeout":5000,"autorestart":true,"status":"online","pm_uptime":1795499879392,
"restart_time":2,"version":"N/A"},"pm_id":0,"monit":{"memory":1671168,"cpu":0.5}},
{"pid":0,"name":"p2","pm2_env":{"autorestart":false,"stop_exit_codes":0,"status":"waiting restart","created_at":null,
"pm_id":1},"pm_id":1,"monit":{"memory":0,"cpu":0}}]"#;

const BANNERS: [&str; 6] = [
    "",
    "[PM2] Spawning PM2 daemon with pm2_home=/srv/.pm2\n[PM2] PM2 Successfully daemonized\n",
    "\n>>>> In-memory PM2 is out-of-date, do:\n>>>> $ pm2 update\nIn memory PM2 version: 6.0.14\n[[1mPM2[22m] {x} []\n",
    "[{\"level\":\"warn\"}] {\"a\":[{\"b\":1}]}\n",
    "( [ { ( [ { \"[{\n",
    "\u{feff}[] args: []\u{0}",
];

fn us(pm_id: Option<u32>, pid: u32, name: Option<&str>) -> ProcessIdentity {
    ProcessIdentity { name: name.map(str::to_owned), source: NameSource::Unknown, pm_id, pid }
}

fn named(list: &[Pm2Process]) -> Vec<&str> {
    list.iter().map(|app| app.name.as_deref().unwrap()).collect()
}

#[test]
fn keeps_what_is_needed() {
    let list = parse_jlist(TWO.as_bytes()).unwrap();
    assert_eq!(
        list[0],
        Pm2Process {
            pid: Some(9_343),
            pm_id: Some(0),
            name: Some("probe one".into()),
            status: ProcessStatus::Online,
            started_at_ms: Some(1_795_499_879_392),
            restart_time: Some(2),
            memory_bytes: Some(1_671_168),
            cpu_percent: Some(0.5),
            version: None,
            autorestart: Some(true),
            stop_exit_codes: Some(vec![5, 0]),
            kill_timeout_ms: Some(5_000),
            launch: Launch::default(),
            environment: vec![("TOKEN".into(), Secret::new("s3cret"))],
        }
    );
    assert_eq!((list[1].pid, &list[1].status), (None, &ProcessStatus::WaitingRestart));
    assert_eq!((list[1].autorestart, &list[1].stop_exit_codes), (Some(false), &Some(vec![0])));
}

#[test]
fn of_arguments_and_environment_the_configuration_s_path_is_kept() {
    let config = |env: &str| {
        let app = format!(r#"[{{"pm_id":0,"name":"a","pm2_env":{env}}}]"#);
        parse_jlist(app.as_bytes()).unwrap()[0].launch.config.clone()
    };
    let path = |text: &str| Some(PathBuf::from(text));
    assert_eq!(config(r#"{"args":["run","--config","/a b/c.json","--x"]}"#), path("/a b/c.json"));
    assert_eq!(config(r#"{"args":"run --config=c.json"}"#), path("c.json"));
    assert_eq!(config(r#"{"args":["run","--configure"],"AGENTCOM_CONFIG":"/c.json"}"#), path("/c.json"));
    assert_eq!(config(r#"{"args":["--config"]}"#), None);
}

#[test]
fn an_environment_is_never_shown() {
    assert!(!format!("{:?}", parse_jlist(TWO.as_bytes()).unwrap()).contains("s3cret"));
}

#[test]
fn finds_the_list_among_banners_before_and_after() {
    for before in BANNERS {
        for after in BANNERS {
            for end in ["\n", ""] {
                let output = format!("{before}{TWO}{end}{after}");
                let list = parse_jlist(output.as_bytes()).unwrap_or_else(|e| panic!("{before:?} {after:?}: {e}"));
                assert_eq!(named(&list), ["probe one", "p2"]);
            }
        }
    }
}

#[test]
fn an_empty_list_on_its_own_line_means_no_apps() {
    assert_eq!(parse_jlist(b"[PM2] Spawning\n[]\n"), Ok(Vec::new()));
}

#[test]
fn an_empty_list_inside_a_broken_one_means_nothing() {
    let half = &TWO[..TWO.find("\"stop_exit").unwrap()];
    assert!(matches!(parse_jlist(half.replace(":[],", ":\n[]\n,").as_bytes()), Err(ListError::Broken { .. })));
}

#[test]
fn output_without_a_list_says_so_without_quoting_it() {
    let error = parse_jlist(b"[PM2][ERROR] TOKEN=s3cret").unwrap_err();
    assert_eq!(error, ListError::Absent { bytes: 25 });
    assert!(!error.to_string().contains("s3cret"));
}

#[test]
fn a_dump_holds_apps_without_their_frames() {
    let json =
        br#"[{"name":"a","pm_exec_path":"/bin/agentcom-sidecar","env":{"ADMIN":"s3cret","PORT":1}},{"env":null}]"#;
    let list = parse_dump(json).unwrap();
    assert_eq!(
        (list[0].name.as_deref(), list[0].launch.program.as_deref()),
        (Some("a"), Some("/bin/agentcom-sidecar".as_ref()))
    );
    assert_eq!(list[0].environment, [("ADMIN".into(), Secret::new("s3cret"))]);
    assert_eq!(list[1], Pm2Process::default());
    assert_eq!(parse_dump(b"{}"), Err(ListError::Absent { bytes: 2 }));
}

#[test]
fn a_hostile_nest_of_lists_takes_no_time() {
    let begun = std::time::Instant::now();
    assert!(parse_jlist("[{\"a\":".repeat(200_000).as_bytes()).is_err());
    assert!(parse_jlist("[{} ".repeat(200_000).as_bytes()).is_err());
    assert!(begun.elapsed().as_secs() < 30);
}

#[test]
fn of_two_instances_the_number_decides() {
    let list = parse_jlist(TWO.replace("\"p2\"", "\"probe one\"").as_bytes()).unwrap();
    assert_eq!(find_us(&list, &us(Some(1), 9_343, Some("probe one"))).unwrap().pm_id, Some(1));
}

#[test]
fn without_a_number_the_process_decides() {
    let list = parse_jlist(TWO.as_bytes()).unwrap();
    assert_eq!(find_us(&list, &us(None, 9_343, None)).unwrap().name.as_deref(), Some("probe one"));
}

#[test]
fn a_name_decides_only_when_it_is_unique() {
    let list = parse_jlist(TWO.as_bytes()).unwrap();
    assert_eq!(find_us(&list, &us(None, 1, Some("p2"))).unwrap().pm_id, Some(1));
    let twins = parse_jlist(TWO.replace("\"p2\"", "\"probe one\"").as_bytes()).unwrap();
    assert_eq!(find_us(&twins, &us(None, 1, Some("probe one"))), None);
}

#[test]
fn a_nameless_stranger_is_not_found() {
    let list = parse_jlist(TWO.as_bytes()).unwrap();
    assert_eq!(find_us(&list, &us(None, 1, None)), None);
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse_jlist(&bytes);
    }

    #[test]
    fn anything_that_looks_like_json_has_an_answer(text in "[\\[\\]{}\":, a1\\\\\n]{0,200}") {
        let _ = parse_jlist(text.as_bytes());
    }

    #[test]
    fn noise_without_a_list_never_hides_the_list(
        before in "[\\[\\]}\":, a1\\\\\n]{0,60}",
        after in "[\\[\\]{}\":, a1\\\\\n]{0,60}",
    ) {
        let output = format!("{before}{TWO}{after}");
        let list = parse_jlist(output.as_bytes()).unwrap();
        prop_assert_eq!(named(&list), ["probe one", "p2"]);
    }

    #[test]
    fn a_list_cut_anywhere_is_never_taken_for_a_whole_one(cut in 0..TWO.len()) {
        prop_assert!(parse_jlist(&TWO.as_bytes()[..cut]).is_err());
    }
}
