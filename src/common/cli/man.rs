//! A program's manual: a page for the program and one for each command, as troff source and as plain text. `clap_mangen` writes
//! the sections on options from the clap tree; the program's [`Reference`] adds exit codes, environment and files.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use clap_mangen::Man;
use roff::{Roff, bold, roman};

use crate::common::cli::finding::Code;
use crate::common::cli::reference::{Reference, Section};
use crate::common::cli::{pager, terminal};
use crate::common::text::count_of;

/// The arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Only this command's page
    command: Vec<String>,
    /// Write all pages into this folder, which is made if it is not there: the program's, and one for each command
    #[arg(short, long, value_name = "DIR", conflicts_with = "command")]
    out: Option<PathBuf>,
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
    /// It cannot be made.
    #[error("the manual cannot be written: {0}")]
    Write(#[from] io::Error),
    /// The pages cannot be written into the folder.
    #[error("cannot write {}: {error}; name a folder that you may write to with --out", .path.display())]
    Out {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
}

/// Does what `man` does with these arguments, and returns what is to be printed. In a terminal the page is shown by another
/// program, which takes this process's place; then this does not return.
///
/// # Errors
/// Returns [`NoPage`].
pub fn run<C: Code>(program: clap::Command, reference: &Reference<C>, args: &ManArgs) -> Result<Vec<u8>, NoPage> {
    if let Some(folder) = &args.out {
        return write_all(program, reference, folder);
    }
    let page = page(program.clone(), &args.command, reference)?;
    if !terminal::is_terminal() {
        return Ok(page);
    }
    let text = text(reference.document(program), &args.command)?;
    pager::show(&page, &text);
    Ok(text.into_bytes())
}

/// Returns the page of a program as troff source, or only that of one of its commands, which is named by its words.
fn page<C: Code>(mut program: clap::Command, words: &[String], reference: &Reference<C>) -> Result<Vec<u8>, NoPage> {
    // `build` gives the subcommands the global options.
    program.build();
    let command = find(&program, words)?;
    let source = source(&program);
    Ok(match words {
        [] => full_page(&program, source, &reference.sections())?,
        words => command_page(command, source, program.get_name(), &reference.sections_of(&words.join(" ")))?,
    })
}

/// Returns the same as plain text: the long help, for the whole manual that of every command.
fn text(mut program: clap::Command, words: &[String]) -> Result<String, NoPage> {
    program.build();
    let command = find(&program, words)?;
    let mut text = command.clone().render_long_help().to_string();
    if words.is_empty() {
        each_below(command, &mut |command| {
            let name = command.get_bin_name().unwrap_or_default().to_uppercase();
            text.push_str(&format!("\n\n{name}\n\n{}", command.clone().render_long_help()));
        });
    }
    Ok(text)
}

/// Writes every page into a folder. Returns what is to be said of it.
fn write_all<C: Code>(program: clap::Command, reference: &Reference<C>, folder: &Path) -> Result<Vec<u8>, NoPage> {
    let out = |path: &Path| {
        let path = path.to_owned();
        move |error| NoPage::Out { path, error }
    };
    std::fs::create_dir_all(folder).map_err(out(folder))?;
    let mut built = program.clone();
    built.build();
    let mut commands = vec![Vec::new()];
    each_below(&built, &mut |command| {
        let words = command.get_bin_name().unwrap_or_default().split(' ').skip(1);
        commands.push(words.map(str::to_owned).collect());
    });
    for words in &commands {
        let name = [&[program.get_name().to_owned()], words.as_slice()].concat().join("-");
        let path = folder.join(format!("{name}.1"));
        std::fs::write(&path, page(program.clone(), words, reference)?).map_err(out(&path))?;
    }
    Ok(format!("{} written to {}\n", count_of(commands.len() as u64, "page"), folder.display()).into_bytes())
}

/// Returns the command with these words.
fn find<'a>(program: &'a clap::Command, words: &[String]) -> Result<&'a clap::Command, NoPage> {
    words.iter().try_fold(program, |found, name| {
        found.find_subcommand(name).ok_or_else(|| {
            let known: Vec<_> = below(found).map(clap::Command::get_name).collect();
            NoPage::Unknown { name: name.clone(), known: known.join(", ") }
        })
    })
}

/// Returns the commands directly below one, without clap's own `help`.
fn below(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command.get_subcommands().filter(|command| command.get_name() != "help")
}

/// Calls `act` with each command below one, and then with those below it.
fn each_below(command: &clap::Command, act: &mut impl FnMut(&clap::Command)) {
    for command in below(command) {
        act(command);
        each_below(command, act);
    }
}

fn source(program: &clap::Command) -> String {
    format!("{} {}", program.get_name(), env!("CARGO_PKG_VERSION"))
}

/// Returns a page with a blank date: `clap_mangen` leaves an empty one out, which puts the program's name in its place.
fn new_page(command: clap::Command, source: String) -> Man {
    Man::new(command).date(" ").source(source)
}

fn command_page(command: &clap::Command, source: String, program: &str, sections: &[Section]) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = new_page(command.clone(), source);
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        heading(&mut page, "COMMANDS")?;
        subcommands(&mut page, command)?;
    }
    if let Some(after) = command.get_after_long_help().map(ToString::to_string) {
        heading(&mut page, "EXAMPLES")?;
        let mut roff = Roff::new();
        verbatim(&mut roff, after.trim_start_matches("Examples:\n"));
        roff.to_writer(&mut page)?;
    }
    for section in sections {
        list(&mut page, section)?;
    }
    heading(&mut page, "SEE ALSO")?;
    let mut roff = Roff::new();
    roff.text([bold(program), roman("(1)")]);
    roff.to_writer(&mut page)?;
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

/// Writes each command below one.
fn subcommands(page: &mut dyn Write, parent: &clap::Command) -> io::Result<()> {
    let mut written = Ok(());
    each_below(parent, &mut |command| {
        if written.is_ok() {
            written = subcommand(page, command);
        }
    });
    written
}

/// Writes lines as they are.
fn verbatim(roff: &mut Roff, lines: &str) {
    roff.control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
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
        verbatim(&mut roff, &examples);
    }
    roff.to_writer(page)
}
