//! A program's manual page. `clap_mangen` writes the sections on options from the clap tree; the program adds what its help
//! and its manual share: exit codes, environment, files.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap_mangen::Man;
use roff::{Roff, bold, roman};

/// A section of names with their meanings.
#[derive(Debug)]
pub struct Section {
    /// The title in the manual, in capitals.
    pub title: &'static str,
    /// The names and their meanings.
    pub entries: Vec<(String, String)>,
}

impl Section {
    /// Creates a section of texts that are known beforehand.
    pub fn of(title: &'static str, entries: &[(&str, &str)]) -> Self {
        let entries = entries.iter().map(|(name, what)| ((*name).to_owned(), (*what).to_owned())).collect();
        Self { title, entries }
    }

    /// Returns the section as the help shows it, below this heading; the names take at least `width` columns.
    pub fn to_help(&self, heading: &str, width: usize) -> String {
        let mut text = format!("{heading}:");
        for (name, what) in &self.entries {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n  {name:<width$} {what}");
        }
        text
    }
}

/// The reason why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum NoPage {
    /// There is no such command.
    #[error("no command is called {name:?}; the commands are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The names of all commands.
        known: String,
    },
    /// It cannot be written.
    #[error("the manual cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// Returns the manual page of a program, or only the page of one of its commands, which is named by its words.
///
/// # Errors
/// Returns [`NoPage`].
pub fn page(mut program: clap::Command, command: &[String], sections: &[Section]) -> Result<Vec<u8>, NoPage> {
    // `build` gives the subcommands the global options.
    program.build();
    let mut found = &program;
    for name in command {
        found = found.find_subcommand(name).ok_or_else(|| {
            let known: Vec<_> = found.get_subcommands().map(clap::Command::get_name).collect();
            NoPage::Unknown { name: name.clone(), known: known.join(", ") }
        })?;
    }
    let source = source(&program);
    let page = if command.is_empty() { full_page(&program, source, sections) } else { command_page(found, source) };
    Ok(page?)
}

fn source(program: &clap::Command) -> String {
    format!("{} {}", program.get_name(), env!("CARGO_PKG_VERSION"))
}

/// Returns a page with a blank date: `clap_mangen` leaves an empty one out, which puts the program's name in its place.
fn new_page(command: clap::Command, source: String) -> Man {
    Man::new(command).date(" ").source(source)
}

fn command_page(command: &clap::Command, source: String) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    new_page(command.clone(), source).render(&mut page)?;
    Ok(page)
}

fn full_page(tree: &clap::Command, source: String, sections: &[Section]) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    // The shared texts have sections of their own in the manual.
    let man = new_page(tree.clone().after_help(None).after_long_help(None), source);
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    heading(&mut page, "COMMANDS")?;
    subcommands(&mut page, tree)?;
    for section in sections {
        list(&mut page, section)?;
    }
    man.render_version_section(&mut page)?;
    Ok(page)
}

fn heading(page: &mut dyn Write, title: &str) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    roff.to_writer(page)
}

fn list(page: &mut dyn Write, section: &Section) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [section.title]);
    for (name, what) in &section.entries {
        roff.control("TP", []);
        roff.text([bold(name.as_str())]);
        roff.text([roman(what.as_str())]);
    }
    roff.to_writer(page)
}

/// Writes each command, and then those below it.
fn subcommands(page: &mut dyn Write, parent: &clap::Command) -> io::Result<()> {
    for command in parent.get_subcommands().filter(|command| command.get_name() != "help") {
        subcommand(page, command)?;
        subcommands(page, command)?;
    }
    Ok(())
}

/// Writes a command's usage, description, own options and examples.
fn subcommand(page: &mut dyn Write, command: &clap::Command) -> io::Result<()> {
    let text = |styled: Option<&clap::builder::StyledStr>| styled.map(ToString::to_string).unwrap_or_default();
    let mut roff = Roff::new();
    let usage = command.clone().render_usage().to_string();
    // The forms with a command of its own stand with that command.
    let usage = usage.trim_start_matches("Usage: ").lines().next().unwrap_or_default();
    roff.control("SS", [usage]);
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
