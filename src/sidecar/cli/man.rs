//! `man` and `completions`, and the texts that the help and the manual share: exit codes, environment, files.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::common::cli::completions::script;
use crate::common::cli::man::{NoPage, Section, page};
use crate::sidecar::cli::Cli;
use crate::sidecar::cli::out::{print, print_error};
use crate::sidecar::exit_code::ExitCode;

/// The environment variables that the sidecar reads, with their meanings.
const ENVIRONMENT: [(&str, &str); 13] = [
    ("AGENTCOM_CONFIG", "the configuration file, where --config does not name one"),
    (
        "AGENTCOM_TOKEN",
        "the agent's token, in place of the file's; sessions do not see it. Not under pm2, which would store it",
    ),
    (
        "AGENTCOM_ADMIN_TOKEN",
        "`onboard`: an admin's token, where the hub asks for one and no --admin-token-file is given",
    ),
    (
        "AGENTCOM_INVITATION",
        "`onboard`: the code of an invitation, where neither --invitation nor --invitation-file is given",
    ),
    ("AGENTCOM_HTTP_LISTEN", "`http_listen`, in place of the file's"),
    ("TASK_SESSION_FILE", "`session`: set by the sidecar for a wake command: the file that says which task it is for"),
    ("NO_COLOR", "set to anything: no colours in a terminal"),
    ("PM2_PROCESS_NAME", "the app's name in pm2, where `name` in the environment is something else"),
    ("PM2_HOME", "pm2's folder, where it is not ~/.pm2"),
    ("PATH", "where `pm2` and what the wake command names are looked for"),
    (
        "SSL_CERT_FILE",
        "the authorities that a wss:// hub's certificate is checked against, where not `ca_file` or the machine's",
    ),
    (
        "HTTPS_PROXY",
        "the proxy to a wss:// or https:// hub; HTTP_PROXY: to another; ALL_PROXY: to both; also in lower case",
    ),
    ("NO_PROXY", "hosts that are reached without a proxy: *, names, addresses, networks; this machine always is"),
];

/// The sidecar's files, by default in the configuration's folder, with their meanings.
const FILES: [(&str, &str); 7] = [
    ("config.json", "the configuration; holds the token, so mode 0600"),
    ("queue.json", "the journal: the task in hand, verdicts without an answer, restarts"),
    ("queue.json.history", "what this sidecar did, for `history`; .1 is the older part"),
    ("queue.json.lock", "held by the copy that serves this agent"),
    ("queue.json.sock", "the running sidecar's local socket: status, restart, drain and the like; its user's alone"),
    ("results/", "where the agent's session shows itself and leaves its results"),
    ("sidecar.log", "the log, beside stdout; .1 to .4 are its predecessors"),
];

/// Returns the list of exit codes with their meanings.
pub(super) fn exit_codes() -> String {
    let entries = ExitCode::all().map(|code| (format!("{:>2} ", code as u8), code.meaning().to_owned())).collect();
    Section { title: "EXIT STATUS", entries }.to_help("Exit codes", 0)
}

/// Returns the text at the end of the long help: exit codes, environment and files.
pub(super) fn after_help() -> String {
    let (environment, files) = (Section::of("ENVIRONMENT", &ENVIRONMENT), Section::of("FILES", &FILES));
    [
        exit_codes(),
        environment.to_help("Environment", 20),
        files.to_help("Files", 20),
        "Documentation: docs/README.md lists the pages; begin with docs/quickstart.md".to_owned(),
    ]
    .join("\n\n")
}

/// Prints the manual page, or only the page of `command` if one is named.
pub fn man(command: Option<&str>) -> ExitCode {
    let words: Vec<String> = command.map(str::to_owned).into_iter().collect();
    let codes = ExitCode::all().map(|code| ((code as u8).to_string(), code.meaning().to_owned())).collect();
    let sections = [
        Section { title: "EXIT STATUS", entries: codes },
        Section::of("ENVIRONMENT", &ENVIRONMENT),
        Section::of("FILES", &FILES),
    ];
    match page(Cli::command(), &words, &sections) {
        Ok(page) => print(&page),
        Err(error @ NoPage::Unknown { .. }) => print_error(&error, ExitCode::Usage),
        // Writing to a `Vec` does not fail.
        Err(error @ NoPage::Write(_)) => print_error(&error, ExitCode::Internal),
    }
}

/// Prints the completion script of `shell`.
pub fn completions(shell: Shell) -> ExitCode {
    print(&script(shell, Cli::command()))
}
