//! What the hub's commands read and write beside their options, and which command uses what: the end of every command's help,
//! and sections of its manual page.

use crate::common::cli::reference::{Names, Reference, Uses};
use crate::hub::cli::client::{CA_FILE_VARIABLE, DATA_VARIABLE, TOKEN_FILE_VARIABLE, URL_VARIABLE};
#[cfg(feature = "postgres")]
use crate::hub::cli::database::VARIABLE as STORE_VARIABLE;
use crate::hub::cli::exit_code::ExitCode;

/// The environment variables, files and exit codes of the program and of each command.
pub(super) const REFERENCE: Reference<ExitCode> =
    Reference { environment: ENVIRONMENT, files: FILES, uses: USES, documentation: "docs/README.md" };

/// The environment variables that the commands read, with their meanings.
const ENVIRONMENT: Names = &[
    ("AGENTCOM_HUB_...", "`serve`: each option's variable stands with it, as [env: NAME]"),
    (DATA_VARIABLE, "the folder of the hub's store, if neither --data nor --hub is given"),
    (URL_VARIABLE, "the hub's address, if neither --data nor --hub is given"),
    (TOKEN_FILE_VARIABLE, "the file with the token for it, if --token-file is not given"),
    (CA_FILE_VARIABLE, "the file with the certificate authorities for it, if --ca-file is not given"),
    #[cfg(feature = "postgres")]
    (STORE_VARIABLE, "the database of the store, if --store is not given"),
    ("COLUMNS", "the width of tables, in place of the terminal's; without either, nothing is cut"),
    ("NO_COLOR", "set to anything: no colours in a terminal"),
    ("PAGER", "`man`: the program that shows the text in a terminal, where `man` itself is not installed"),
    ("SSL_CERT_FILE", "the authorities for an https:// hub's certificate, in place of the machine's"),
    (
        "HTTPS_PROXY",
        "the proxy to a hub at https://; HTTP_PROXY: to one at http://; ALL_PROXY: to both; lower case works too",
    ),
    ("NO_PROXY", "hosts that are reached without a proxy: *, names, addresses, networks; this machine always is"),
];

/// The hub's files, in its data folder, with their meanings.
const FILES: Names = &[
    ("hub.redb", "the store: tasks, agents, restarts, tokens' hashes, the audit; mode 0600"),
    ("hub.redb.made", "marks that there was a store: if hub.redb is gone, the hub does not start with an empty one"),
    #[cfg(feature = "postgres")]
    ("hub.postgres", "marks that the store is in a PostgreSQL database, and names it; a running hub holds its lock"),
    ("hub.sock", "the running hub's socket for commands: whoever may open it (mode 0600) is an admin"),
];

/// What names a hub, and what reaches it.
const HUB: &[&str] =
    &[DATA_VARIABLE, URL_VARIABLE, TOKEN_FILE_VARIABLE, CA_FILE_VARIABLE, "SSL_CERT_FILE", "HTTPS_PROXY", "NO_PROXY"];
const TABLE: &[&str] = &["COLUMNS"];
const STORE: &[&str] = &["hub.redb", "hub.redb.made", "hub.sock"];
/// What names a database, for those commands that may use one.
#[cfg(feature = "postgres")]
const DATABASE: &[&str] = &[STORE_VARIABLE];
#[cfg(not(feature = "postgres"))]
const DATABASE: &[&str] = &[];
/// What a node of a cluster leaves in its folder.
#[cfg(feature = "postgres")]
const NODE: &[&str] = &["hub.postgres"];
#[cfg(not(feature = "postgres"))]
const NODE: &[&str] = &[];

type Codes = &'static [(ExitCode, &'static str)];

/// Those of a client of a hub.
const CLIENT: Codes = &[
    (ExitCode::Usage, "the command line is wrong, also by the hub's judgement (a selector, a value)"),
    (ExitCode::Unavailable, "no hub is reached there"),
    (ExitCode::Internal, "a bug, or the hub is of a version that does not know what was asked"),
    (ExitCode::NoResources, "no threads or files are left"),
    (ExitCode::Disk, "the disk failed, or stdout cannot be written"),
    (ExitCode::Busy, "the data folder is in use, or the hub does not answer, is stopping or full: try again"),
    (ExitCode::NotAllowed, "the token is not known, has expired, or its role does not allow it"),
    (ExitCode::Unusable, "the data folder (or its store), the token file or another file cannot be used"),
    (ExitCode::Interrupted, "SIGINT (Ctrl-C); what the hub was asked for goes on"),
    (ExitCode::Terminated, "SIGTERM; what the hub was asked for goes on"),
];
/// Those of a command that prints a text of its own.
const PRINTS: Codes = &[
    (ExitCode::Done, "done"),
    (ExitCode::Usage, "the command line is wrong"),
    (ExitCode::Disk, "stdout cannot be written"),
];
const DONE: Codes = &[(ExitCode::Done, "done")];
const TIMED_OUT: Codes = &[(ExitCode::TimedOut, "the time of --timeout passed; what was asked for goes on")];
const ENDED_WELL: Codes = &[
    (ExitCode::Done, "done; --follow: the task is completed"),
    (ExitCode::No, "there is no such task, or the key was another task's; --follow: it did not end well"),
];
const SELECTED: Codes = &[
    (ExitCode::Done, "done, for each agent that was meant"),
    (ExitCode::No, "no agent was meant, one was skipped, or (--wait) it did not end well for one"),
];
const ROLLED_OUT: Codes = &[
    (ExitCode::Done, "done; where it is watched: each target has restarted"),
    (ExitCode::No, "there is no such rollout, it is not possible in its state, did not end well, or needs somebody"),
];

const USES: &[Uses<ExitCode>] = &[
    Uses {
        commands: &["serve"],
        environment: &[&["AGENTCOM_HUB_...", "NO_COLOR"]],
        files: &[STORE, NODE],
        codes: &[&[
            (ExitCode::Done, "stopped as told"),
            (ExitCode::Usage, "the command line is wrong"),
            (ExitCode::Unavailable, "the address is taken"),
            (ExitCode::Internal, "a bug"),
            (ExitCode::NoResources, "no threads or files are left"),
            (ExitCode::Disk, "the disk failed while running, or the store was taken away"),
            (ExitCode::Busy, "the data folder is in use"),
            (ExitCode::Deposed, "--store: another hub leads, or may lead; started again, this one stands by"),
            (
                ExitCode::Unusable,
                "the data folder or its store, the address, the certificate or its key cannot be used",
            ),
        ]],
    },
    Uses {
        commands: &["agents", "tasks", "restarts", "healing", "healing status"],
        environment: &[HUB, TABLE],
        files: &[STORE],
        codes: &[DONE, CLIENT],
    },
    Uses {
        commands: &["audit", "token list", "invite", "invite list"],
        environment: &[HUB],
        files: &[STORE],
        codes: &[DONE, CLIENT],
    },
    Uses { commands: &["events"], environment: &[HUB], files: &[STORE], codes: &[DONE, CLIENT, TIMED_OUT] },
    Uses {
        commands: &["agent", "cancel", "retry", "token", "token revoke", "invite revoke"],
        environment: &[HUB],
        files: &[STORE],
        codes: &[
            DONE,
            CLIENT,
            &[(ExitCode::No, "there is no such agent, task, token or invitation, or its state does not allow it")],
        ],
    },
    Uses {
        commands: &["task", "submit"],
        environment: &[HUB],
        files: &[STORE],
        codes: &[ENDED_WELL, CLIENT, TIMED_OUT],
    },
    Uses { commands: &["restart"], environment: &[HUB, TABLE], files: &[STORE], codes: &[SELECTED, CLIENT, TIMED_OUT] },
    Uses { commands: &["drain"], environment: &[HUB], files: &[STORE], codes: &[SELECTED, CLIENT, TIMED_OUT] },
    Uses { commands: &["resume", "label"], environment: &[HUB], files: &[STORE], codes: &[SELECTED, CLIENT] },
    Uses {
        commands: &["rollout start", "rollout watch"],
        environment: &[HUB, TABLE],
        files: &[STORE],
        codes: &[ROLLED_OUT, CLIENT, TIMED_OUT],
    },
    Uses { commands: &["rollout status"], environment: &[HUB, TABLE], files: &[STORE], codes: &[ROLLED_OUT, CLIENT] },
    Uses {
        commands: &[
            "rollout pause",
            "rollout resume",
            "rollout promote",
            "rollout cancel",
            "rollout recall",
            "rollout retry-failed",
        ],
        environment: &[HUB],
        files: &[STORE],
        codes: &[ROLLED_OUT, CLIENT],
    },
    Uses {
        commands: &["healing check"],
        environment: &[],
        files: &[],
        codes: &[PRINTS, &[(ExitCode::Unusable, "the file cannot be read, or a rule in it is wrong")]],
    },
    Uses {
        commands: &["store check"],
        environment: &[HUB],
        files: &[STORE],
        codes: &[
            &[
                (ExitCode::Done, "every record can be read"),
                (ExitCode::Unread, "there are records that cannot be read"),
            ],
            CLIENT,
        ],
    },
    Uses { commands: &["backup"], environment: &[HUB, DATABASE], files: &[STORE], codes: &[DONE, CLIENT] },
    Uses {
        commands: &["restore"],
        environment: &[&[DATA_VARIABLE], DATABASE],
        files: &[STORE],
        codes: &[&[
            (ExitCode::Done, "done"),
            (ExitCode::Usage, "the command line is wrong"),
            (ExitCode::Unread, "the file holds no store"),
            (ExitCode::Disk, "the disk failed, or stdout cannot be written"),
            (ExitCode::Busy, "a hub uses the data folder"),
            (ExitCode::Deposed, "--store: a hub leads on the database"),
            (ExitCode::Unusable, "the file or the data folder cannot be used"),
        ]],
    },
    Uses {
        commands: &["check"],
        environment: &[HUB, DATABASE],
        files: &[STORE],
        codes: &[&[(ExitCode::Done, "no problem was found (warnings are none)")], CLIENT],
    },
    Uses { commands: &["completions"], environment: &[], files: &[], codes: &[PRINTS] },
    Uses {
        commands: &["man"],
        environment: &[&["PAGER"]],
        files: &[],
        codes: &[
            PRINTS,
            &[(ExitCode::Internal, "a bug"), (ExitCode::Unusable, "the folder of --out cannot be written")],
        ],
    },
];

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::hub::cli::Cli;

    #[test]
    fn every_command_says_what_it_uses() {
        let faults = REFERENCE.faults(&Cli::command());
        assert!(faults.is_empty(), "USES in src/hub/cli/uses.rs:\n{}", faults.join("\n"));
    }
}
