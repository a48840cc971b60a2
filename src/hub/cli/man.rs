//! `man` and `completions`, and the texts that the help and the manual share: exit codes, environment, files.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::common::cli::completions::script;
use crate::common::cli::man::{NoPage, Section, page};
use crate::hub::cli::Cli;
use crate::hub::cli::client::{CA_FILE_VARIABLE, DATA_VARIABLE, TOKEN_FILE_VARIABLE, URL_VARIABLE};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::output::{fail, print};

/// The environment variables that the commands read, with their meanings. Those of `serve` stand with its options.
const ENVIRONMENT: [(&str, &str); 8] = [
    (DATA_VARIABLE, "the folder of the hub's store, if neither --data nor --hub is given"),
    (URL_VARIABLE, "the hub's address, if neither --data nor --hub is given"),
    (TOKEN_FILE_VARIABLE, "the file with the token for it, if --token-file is not given"),
    (CA_FILE_VARIABLE, "the file with the certificate authorities for it, if --ca-file is not given"),
    ("COLUMNS", "the width of tables, in place of the terminal's; without either, nothing is cut"),
    ("SSL_CERT_FILE", "the authorities for an https:// hub's certificate, in place of the machine's"),
    (
        "HTTPS_PROXY",
        "the proxy to a hub at https://; HTTP_PROXY: to one at http://; ALL_PROXY: to both; lower case works too",
    ),
    ("NO_PROXY", "hosts that are reached without a proxy: *, names, addresses, networks; this machine always is"),
];

/// The hub's files, in its data folder, with their meanings.
const FILES: [(&str, &str); 3] = [
    ("hub.redb", "the store: tasks, agents, restarts, tokens' hashes, the audit; mode 0600"),
    ("hub.redb.made", "marks that there was a store: if hub.redb is gone, the hub does not start with an empty one"),
    ("hub.sock", "the running hub's socket for commands: whoever may open it (mode 0600) is an admin"),
];

/// Returns the list of exit codes with their meanings.
pub(super) fn exit_codes() -> String {
    let entries = ExitCode::all().map(|code| (format!("{:>3} ", code as u8), code.meaning().to_owned())).collect();
    Section { title: "EXIT STATUS", entries }.to_help("Exit codes", 0)
}

/// Returns the text at the end of the long help: exit codes, environment and files.
pub(super) fn after_help() -> String {
    let (environment, files) = (Section::of("ENVIRONMENT", &ENVIRONMENT), Section::of("FILES", &FILES));
    [
        exit_codes(),
        environment.to_help("Environment", 24),
        files.to_help("Files", 24),
        "Documentation: docs/README.md".to_owned(),
    ]
    .join("\n\n")
}

/// Prints the manual page, or only the page of the command that is named.
pub(super) fn man(command: &[String]) -> ExitCode {
    let codes = ExitCode::all().map(|code| ((code as u8).to_string(), code.meaning().to_owned())).collect();
    let sections = [
        Section { title: "EXIT STATUS", entries: codes },
        Section::of("ENVIRONMENT", &ENVIRONMENT),
        Section::of("FILES", &FILES),
    ];
    match page(Cli::command(), command, &sections) {
        Ok(page) => print(&page).map_or_else(|code| code, |()| ExitCode::Done),
        Err(error @ NoPage::Unknown { .. }) => fail(ExitCode::Usage, error),
        // Writing to a `Vec` does not fail.
        Err(error @ NoPage::Write(_)) => fail(ExitCode::Internal, error),
    }
}

/// Prints the completion script of `shell`.
pub(super) fn completions(shell: Shell) -> ExitCode {
    print(&script(shell, Cli::command())).map_or_else(|code| code, |()| ExitCode::Done)
}
