//! `man`, and the texts that the help and the manual share: exit codes, environment, files. `clap_mangen` writes the
//! manual's sections on options from the clap tree.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::CommandFactory as _;
use clap_mangen::Man;
use roff::{Roff, bold, roman};

use crate::sidecar::cli::Cli;
use crate::sidecar::cli::out::{print, print_error};
use crate::sidecar::exit_code::ExitCode;

/// The environment variables that the sidecar reads, with their meanings.
const ENVIRONMENT: [(&str, &str); 10] = [
    ("AGENTCOM_CONFIG", "the configuration file, where --config does not name one"),
    (
        "AGENTCOM_TOKEN",
        "the agent's token, in place of the file's; the agent does not see it. Not under pm2, which stores it",
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
    ("NO_COLOR", "set to anything: no colours in a terminal"),
    ("PM2_PROCESS_NAME", "what pm2 calls this process, where it should not be pm2's own `name`"),
    ("PM2_HOME", "pm2's folder, where it is not ~/.pm2"),
    ("PATH", "where `pm2` and what the wake command names are looked for"),
    ("SSL_CERT_FILE", "the authorities that a wss:// hub's certificate is checked against, where not the machine's"),
];

/// The sidecar's files, by default in the configuration's folder, with their meanings.
const FILES: [(&str, &str); 7] = [
    ("config.json", "the configuration; holds the token, so mode 0600"),
    ("queue.json", "the journal: the task in hand, verdicts without an answer, restarts"),
    ("queue.json.history", "what this sidecar did, for `history`; .1 is its predecessor"),
    ("queue.json.lock", "held by the copy that serves this agent"),
    ("queue.json.sock", "the running sidecar's local socket: status, restart, drain and the like; its user's alone"),
    ("results/", "where the agent's session shows itself and leaves its results"),
    ("sidecar.log", "the log, beside stdout; .1 to .4 are its predecessors"),
];

/// Returns the list of exit codes with their meanings.
pub(super) fn exit_codes() -> String {
    let mut text = "Exit codes:".to_owned();
    for code in ExitCode::all() {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {:>2}  {}", code as u8, code.meaning());
    }
    text
}

/// Returns the text at the end of the long help: exit codes, environment and files.
pub(super) fn after_help() -> String {
    let mut text = exit_codes();
    for (heading, entries) in [("Environment", &ENVIRONMENT[..]), ("Files", &FILES[..])] {
        let _ = write!(text, "\n\n{heading}:");
        for (name, what) in entries {
            let _ = write!(text, "\n  {name:<20} {what}");
        }
    }
    text + "\n\nDocumentation: docs/configuration.md, docs/operating.md, docs/states.md"
}

/// Prints the manual page, or only the page of `command` if one is named.
pub fn man(command: Option<&str>) -> ExitCode {
    // `build` gives the subcommands the global options.
    let mut tree = Cli::command();
    tree.build();
    let page = match command {
        None => full_page(&tree),
        Some(name) => match tree.find_subcommand(name) {
            Some(found) => command_page(found),
            None => {
                let known: Vec<_> = tree.get_subcommands().map(clap::Command::get_name).collect();
                let known = known.join(", ");
                return print_error(
                    &format!("no command is called {name:?}; the commands are: {known}"),
                    ExitCode::Usage,
                );
            }
        },
    };
    match page {
        Ok(page) => print(&page),
        // Writing to a `Vec` does not fail.
        Err(error) => print_error(&format!("the manual cannot be written: {error}"), ExitCode::Internal),
    }
}

/// Returns a page with a blank date: `clap_mangen` leaves an empty one out, which puts the program's name in its place.
fn new_page(command: clap::Command) -> Man {
    Man::new(command).date(" ").source(concat!("agentcom-sidecar ", env!("CARGO_PKG_VERSION")))
}

fn command_page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    new_page(command.clone()).render(&mut page)?;
    Ok(page)
}

fn full_page(tree: &clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    // The shared texts have sections of their own in the manual.
    let man = new_page(tree.clone().after_help(None).after_long_help(None));
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    section(&mut page, "COMMANDS")?;
    for command in tree.get_subcommands().filter(|command| command.get_name() != "help") {
        subcommand(&mut page, command)?;
    }
    list(&mut page, "EXIT STATUS", ExitCode::all().map(|code| ((code as u8).to_string(), code.meaning())))?;
    list(&mut page, "ENVIRONMENT", ENVIRONMENT.into_iter().map(|(name, what)| (name.to_owned(), what)))?;
    list(&mut page, "FILES", FILES.into_iter().map(|(name, what)| (name.to_owned(), what)))?;
    man.render_version_section(&mut page)?;
    Ok(page)
}

fn section(page: &mut dyn Write, title: &str) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    roff.to_writer(page)
}

fn list(page: &mut dyn Write, title: &str, entries: impl Iterator<Item = (String, &'static str)>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (name, what) in entries {
        roff.control("TP", []);
        roff.text([bold(name)]);
        roff.text([roman(what)]);
    }
    roff.to_writer(page)
}

/// Writes a command's usage, description, own options and examples.
fn subcommand(page: &mut dyn Write, command: &clap::Command) -> io::Result<()> {
    let text = |styled: Option<&clap::builder::StyledStr>| styled.map(ToString::to_string).unwrap_or_default();
    let mut roff = Roff::new();
    let usage = command.clone().render_usage().to_string();
    roff.control("SS", [usage.trim_start_matches("Usage: ")]);
    roff.text([roman(text(command.get_long_about().or(command.get_about())))]);
    for argument in command.get_arguments().filter(|argument| !argument.is_global_set() && !argument.is_hide_set()) {
        if matches!(argument.get_id().as_str(), "help" | "version") {
            continue;
        }
        roff.control("TP", []);
        roff.text([bold(argument.to_string())]);
        let values: Vec<_> = argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        let values = if values.is_empty() { String::new() } else { format!(" [{}]", values.join(", ")) };
        roff.text([roman(text(argument.get_long_help().or(argument.get_help())) + &values)]);
    }
    let examples = text(command.get_after_long_help());
    if !examples.is_empty() {
        roff.control("PP", []);
        roff.control("nf", []);
        for line in examples.lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    roff.to_writer(page)
}
