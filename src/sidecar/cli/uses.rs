//! What the sidecar reads and writes beside its options, and which command uses what: the end of every command's help, and
//! sections of its manual page.

use crate::common::cli::reference::{Names, Reference, Uses};
use crate::sidecar::exit_code::ExitCode;

/// The environment variables, files and exit codes of the program and of each command.
pub(super) const REFERENCE: Reference<ExitCode> = Reference {
    environment: ENVIRONMENT,
    files: FILES,
    uses: USES,
    documentation: "docs/README.md lists the pages; begin with docs/quickstart.md",
};

/// The environment variables that the sidecar reads, with their meanings.
const ENVIRONMENT: Names = &[
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
    ("COLUMNS", "the width of tables, in place of the terminal's; without either, nothing is cut"),
    ("NO_COLOR", "set to anything: no colours in a terminal"),
    ("PAGER", "`man`: the program that shows the text in a terminal, where `man` itself is not installed"),
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
const FILES: Names = &[
    ("config.json", "the configuration; holds the token, so mode 0600"),
    ("queue.json", "the journal: the task in hand, verdicts without an answer, restarts"),
    ("queue.json.history", "what this sidecar did, for `history`; .1 is the older part"),
    ("queue.json.lock", "held by the copy that serves this agent"),
    ("queue.json.sock", "the running sidecar's local socket: status, restart, drain and the like; its user's alone"),
    ("results/", "where the agent's session shows itself and leaves its results"),
    ("sidecar.log", "the log, beside stdout; .1 to .4 are its predecessors"),
];

/// What reads the configuration.
const CONFIGURED: &[&str] = &["AGENTCOM_CONFIG", "AGENTCOM_TOKEN", "AGENTCOM_HTTP_LISTEN"];
/// What reaches a hub.
const NETWORK: &[&str] = &["SSL_CERT_FILE", "HTTPS_PROXY", "NO_PROXY"];
/// What finds pm2 and programs.
const PM2: &[&str] = &["PM2_PROCESS_NAME", "PM2_HOME", "PATH"];
/// What a command about the running sidecar reads.
const RUNNING: &[&str] = &["config.json", "queue.json.sock"];

type Codes = &'static [(ExitCode, &'static str)];

/// Those of every command.
const ANY: Codes = &[(ExitCode::Usage, "the command line is wrong")];
const DONE: Codes = &[(ExitCode::Done, "done")];
const PRINTS: Codes = &[(ExitCode::StateUnusable, "stdout cannot be written")];
const CONFIG: Codes = &[(ExitCode::Config, "the configuration is missing or wrong")];
/// Those of a request to the running sidecar.
const ASKS: Codes = &[
    (ExitCode::Done, "done, or in force and under way"),
    (ExitCode::Unavailable, "the sidecar does not run, or did not come back"),
    (ExitCode::StateUnusable, "its folder cannot be used, or stdout cannot be written"),
    (ExitCode::Refused, "the sidecar refused it, or is another user's"),
];
const NOT_ON_DISK: Codes =
    &[(ExitCode::NotOnDisk, "in force, but the journal cannot be written and a crash would forget it")];
const TIMED_OUT: Codes =
    &[(ExitCode::TimedOut, "the time of --timeout is over; what was asked for is in force all the same")];

const USES: &[Uses<ExitCode>] = &[
    Uses {
        commands: &["run"],
        environment: &[CONFIGURED, &["NO_COLOR"], PM2, NETWORK],
        files: &[RUNNING, &["queue.json", "queue.json.history", "queue.json.lock", "results/", "sidecar.log"]],
        codes: &[
            ANY,
            CONFIG,
            &[
                (ExitCode::Done, "a commanded restart, after which pm2 starts the next run, or a stop"),
                (ExitCode::Internal, "a bug, or the program cannot be run again in place"),
                (
                    ExitCode::StateUnusable,
                    "a file or folder cannot be used (read-only, full, another user's, too few open files allowed)",
                ),
                (ExitCode::AlreadyRunning, "another copy serves this state folder"),
            ],
        ],
    },
    Uses {
        commands: &["status"],
        environment: &[CONFIGURED],
        files: &[RUNNING, &["queue.json", "queue.json.lock", "results/"]],
        codes: &[
            ANY,
            CONFIG,
            &[
                (ExitCode::Done, "the sidecar answers, whatever its state"),
                (ExitCode::Unavailable, "it does not run"),
                (ExitCode::StateUnusable, "its folder cannot be used, or stdout cannot be written"),
                (ExitCode::Refused, "it is another user's"),
                (ExitCode::TimedOut, "it has not answered within --timeout"),
            ],
        ],
    },
    Uses {
        commands: &["restart"],
        environment: &[CONFIGURED],
        files: &[RUNNING],
        codes: &[ANY, CONFIG, ASKS, TIMED_OUT],
    },
    Uses {
        commands: &["drain"],
        environment: &[CONFIGURED],
        files: &[RUNNING],
        codes: &[ANY, CONFIG, ASKS, NOT_ON_DISK, TIMED_OUT],
    },
    Uses {
        commands: &["cancel-restart", "resume"],
        environment: &[CONFIGURED],
        files: &[RUNNING],
        codes: &[ANY, CONFIG, ASKS, NOT_ON_DISK],
    },
    Uses { commands: &["reload"], environment: &[CONFIGURED], files: &[RUNNING], codes: &[ANY, CONFIG, ASKS] },
    Uses {
        commands: &["history"],
        environment: &[CONFIGURED, &["COLUMNS"]],
        files: &[&["config.json", "queue.json.history", "queue.json.lock"]],
        codes: &[ANY, DONE, CONFIG, &[(ExitCode::StateUnusable, "the history cannot be read, or stdout written")]],
    },
    Uses {
        commands: &["logs"],
        environment: &[CONFIGURED, &["NO_COLOR"]],
        files: &[&["config.json", "sidecar.log"]],
        codes: &[ANY, DONE, CONFIG, &[(ExitCode::StateUnusable, "there is no log, or it cannot be read")]],
    },
    Uses {
        commands: &["check"],
        environment: &[CONFIGURED, PM2, NETWORK],
        files: &[RUNNING, &["queue.json", "queue.json.lock", "results/", "sidecar.log"]],
        codes: &[
            ANY,
            CONFIG,
            &[
                (ExitCode::Done, "no problem was found (warnings are none)"),
                (ExitCode::Unavailable, "a problem was found with which `run` would start all the same"),
                (ExitCode::StateUnusable, "`run` could not use its files"),
            ],
        ],
    },
    Uses {
        commands: &["onboard"],
        environment: &[&["AGENTCOM_CONFIG", "AGENTCOM_ADMIN_TOKEN", "AGENTCOM_INVITATION"], NETWORK],
        files: &[&["config.json", "results/"]],
        codes: &[
            ANY,
            &[
                (ExitCode::Done, "the agent is registered and its folder written"),
                (ExitCode::Unavailable, "the hub is not there, or says no"),
                (ExitCode::StateUnusable, "the folder cannot be made or written"),
                (ExitCode::Config, "there is a configuration already, or what was written cannot be used"),
            ],
        ],
    },
    Uses {
        commands: &["session"],
        environment: &[&["TASK_SESSION_FILE", "AGENTCOM_TOKEN", "PATH"]],
        files: &[&["config.json", "results/"]],
        codes: &[
            ANY,
            &[
                (ExitCode::Done, "the command runs, in a session of its own"),
                (ExitCode::Unavailable, "no session was started"),
            ],
        ],
    },
    Uses { commands: &["machine", "completions"], environment: &[], files: &[], codes: &[ANY, DONE, PRINTS] },
    Uses {
        commands: &["man"],
        environment: &[&["PAGER"]],
        files: &[],
        codes: &[
            ANY,
            DONE,
            &[
                (ExitCode::Internal, "a bug"),
                (ExitCode::StateUnusable, "stdout, or the folder of --out, cannot be written"),
            ],
        ],
    },
];

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::sidecar::cli::Cli;

    #[test]
    fn every_command_says_what_it_uses() {
        let faults = REFERENCE.faults(&Cli::command());
        assert!(faults.is_empty(), "USES in src/sidecar/cli/uses.rs:\n{}", faults.join("\n"));
    }
}
