//! Command lines that make no sense, and onboardings that cannot be.

use super::row::{GOOD, RUN, Row, TOKEN, judge};

#[test]
fn wrong_command_lines() {
    judge(&[
        line!("runn", 2, ["unrecognized subcommand 'runn'", "similar subcommand", "'run'"]),
        line!("run --confg x", 2, ["unexpected argument '--confg'", "--config", "Usage: agentcom-sidecar run"]),
        line!("run --config", 2, ["a value is required for '--config <FILE>'", "--config", "--help"]),
        line!("run --log-level loud", 78, ["found \"loud\"", "`--log-level`", "one of debug, info"]),
        line!("--hub-url http://h/ws", 78, ["found \"http://h/ws\"", "`--hub-url`", "write ws:// instead of http://"]),
        Row {
            args: RUN,
            files: &[("config.json", GOOD)],
            env: &[("AGENTCOM_TOKEN", " t0ken-that-nobody-may-see")],
            code: 78,
            says: ["white space", "`AGENTCOM_TOKEN`", "allowed: the text"],
        },
        line!("machine --format xml", 2, ["invalid value 'xml'", "--format <FORMAT>", "table, mermaid, json"]),
        line!("completions tcsh", 2, ["invalid value 'tcsh'", "<SHELL>", "bash, elvish, fish, powershell, zsh"]),
        line!("completions", 2, ["required arguments were not provided", "<SHELL>", "--help"]),
        line!(
            "man nothing",
            2,
            ["no command is called \"nothing\"", "agentcom-sidecar", "the commands are: run, status"]
        ),
        line!("check --json --preflight", 2, ["cannot be used with", "--preflight", "Usage: agentcom-sidecar check"]),
        line!("onboard --name a", 2, ["required arguments were not provided", "--hub <URL>", "--help"]),
        line!("onboard --hub http://h", 2, ["required arguments were not provided", "--name <NAME>", "--help"]),
        line!(
            "onboard --hub http://h --name a --token-file x --admin-token-file y",
            2,
            ["cannot be used with", "--admin-token-file", "Usage"]
        ),
    ]);
}

/// An `onboard` in an empty folder.
macro_rules! onboard {
    ($args:expr, $files:expr, $code:expr, $says:expr) => {
        Row {
            args: concat!("onboard --config {dir}/config.json ", $args),
            files: $files,
            env: &[],
            code: $code,
            says: $says,
        }
    };
}

#[test]
fn onboardings_that_cannot_be() {
    judge(&[
        onboard!("--hub hub:4000 --name a", &[], 2, ["found \"hub:4000\"", "`--hub`", "http://localhost:4000"]),
        onboard!("--hub ftp://h --name a", &[], 2, ["found \"ftp://h\"", "`--hub`", "https://hub.example"]),
        onboard!(
            "--hub http://me:hunter2@h --name a",
            &[],
            2,
            ["credentials in it", "`--hub`", "allowed: an address such as"]
        ),
        onboard!("--hub http://h?x=1 --name a", &[], 2, ["has a `?` in it", "`--hub`", "allowed: an address such as"]),
        onboard!(
            "--hub http://h --name %00",
            &[],
            2,
            ["found a text without a visible character", "`--name`", "1 to 128 characters"]
        ),
        onboard!(
            "--hub http://h --name a\u{200b}",
            &[],
            2,
            ["not seen: \"a\\u{200b}\"", "`--name`", "1 to 128 characters"]
        ),
        onboard!("--hub http://h --name a%20", &[], 2, ["white space around it", "`--name`", "1 to 128 characters"]),
        onboard!(
            "--hub http://h --name aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            &[],
            2,
            ["a text of 129 characters", "`--name`", "1 to 128 characters"]
        ),
        onboard!(
            "--hub http://h --name a --token-file {dir}/none",
            &[],
            2,
            ["no token in", "{dir}/none", "the last word of that file"]
        ),
        onboard!(
            "--hub http://h --name a --token-file {dir}/empty",
            &[("empty", " \n")],
            2,
            ["there is no word in it", "{dir}/empty", "the last word of that file"]
        ),
        onboard!(
            "--hub http://{gone} --name a",
            &[],
            69,
            ["cannot connect to http://{gone}", "nothing listens there", "is the hub running, and is the port right?"]
        ),
        onboard!(
            "--hub http://no-such-hub.invalid --name a",
            &[],
            69,
            ["cannot be looked up", "no-such-hub.invalid", "is it spelled right"]
        ),
        onboard!(
            "--hub {web}/shop --name a",
            &[],
            69,
            ["is no AgentCom hub", "{web}/shop/health", "check the port and path of --hub"]
        ),
        onboard!(
            "--hub {web}/moved --name a",
            &[],
            69,
            ["answered HTTP 301", "{web}/moved/health", "check the port and path of --hub"]
        ),
        onboard!(
            "--hub {web}/ssh --name a",
            &[],
            69,
            ["did not answer as a web server", "{web}/ssh", "nothing was written"]
        ),
        onboard!(
            "--hub {web}/guarded --name a",
            &[],
            69,
            ["an admin registers agents here", "{web}/guarded", "--admin-token-file"]
        ),
        Row {
            args: "onboard --config {dir}/config.json --hub {web}/guarded --name a",
            files: &[],
            env: &[("AGENTCOM_ADMIN_TOKEN", TOKEN)],
            code: 69,
            says: ["the admin token that was given", "{web}/guarded", "use another"],
        },
        onboard!("--hub {web}/tls --name a", &[], 69, ["the port of {web}/tls speaks TLS", "https://", "--hub"]),
        onboard!(
            "--hub {web}/unknown-host --name a",
            &[],
            69,
            ["HTTP 421, unknown_host: the host is `web`", "{web}/unknown-host", "run this again"]
        ),
        onboard!(
            "--hub {web}/unknown-host --name a --token-file {dir}/t",
            &[("t", TOKEN)],
            69,
            ["it is another agent's, not a's", "{web}/unknown-host", "--token-file"]
        ),
        onboard!(
            "--hub {web}/odd-name --name a-b",
            &[],
            69,
            ["no hyphens, please", "{web}/odd-name", "mend that and run this again"]
        ),
        onboard!(
            "--hub {web}/broken --name a",
            &[],
            69,
            ["HTTP 500, the disk is full", "{web}/broken", "run this again"]
        ),
        onboard!("--hub {web}/mute --name a", &[], 69, ["gave no token", "{web}/mute", "is it an AgentCom hub?"]),
        onboard!(
            "--hub {web}/mute --name a --token-file {dir}/t",
            &[("t", TOKEN)],
            69,
            ["does not take the token that was given", "{web}/mute", "--token-file"]
        ),
        onboard!(
            "--hub {web}/mute --name a",
            &[("config.json", "{}")],
            78,
            ["is there already", "{dir}/config.json", "--force"]
        ),
        onboard!(
            "--hub {web}/mute --name a",
            &[("config.json", GOOD)],
            78,
            ["It is a's at ws://{gone}/ws", "{dir}/config.json", "--force"]
        ),
        onboard!(
            "--hub {web}/mute --name a",
            &[("results", "")],
            74,
            ["cannot make", "{dir}/results", "name a configuration elsewhere"]
        ),
        Row {
            args: "onboard --config {dir}/file/config.json --hub {web}/mute --name a",
            files: &[("file", "")],
            env: &[],
            code: 74,
            says: ["cannot make", "{dir}/file", "Nothing was registered"],
        },
    ]);
}
