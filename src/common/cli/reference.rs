//! What a program's help and manual say beside its options: environment variables, files and exit codes, of the program as a
//! whole and of each command. The program keeps the table.

use std::fmt::Write as _;

use crate::common::cli::finding::Code;

/// Names with their meanings.
pub type Names = &'static [(&'static str, &'static str)];

/// What a program documents, and which of it each command uses.
#[derive(Debug)]
pub struct Reference<C: 'static> {
    /// The environment variables that the program reads.
    pub environment: Names,
    /// The files that it reads and writes.
    pub files: Names,
    /// What each command uses.
    pub uses: &'static [Uses<C>],
    /// The pages of the documentation, for the end of the help.
    pub documentation: &'static str,
}

/// What some commands use. Each list is made of parts, which entries share.
#[derive(Debug)]
pub struct Uses<C: 'static> {
    /// The commands, by their words, such as `token list`.
    pub commands: &'static [&'static str],
    /// Names of [`Reference::environment`].
    pub environment: &'static [&'static [&'static str]],
    /// Names of [`Reference::files`].
    pub files: &'static [&'static [&'static str]],
    /// The exit codes, with what each means for these commands.
    pub codes: &'static [&'static [(C, &'static str)]],
}

/// A section of names with their meanings.
#[derive(Debug)]
pub struct Section {
    /// The title in the manual, in capitals.
    pub title: &'static str,
    /// The heading in the help.
    heading: &'static str,
    /// The names and their meanings.
    pub entries: Vec<(String, String)>,
}

impl Section {
    fn new<'a>(title: &'static str, heading: &'static str, entries: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        Self { title, heading, entries: entries.map(|(name, what)| (name.to_owned(), what.to_owned())).collect() }
    }

    fn of_environment<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        Self::new("ENVIRONMENT", "Environment", entries)
    }

    fn of_files<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        Self::new("FILES", "Files", entries)
    }

    fn of_codes<C: Code>(codes: impl Iterator<Item = (C, &'static str)>) -> Self {
        let mut codes: Vec<_> = codes.map(|(code, what)| (code.number(), what)).collect();
        codes.sort_unstable();
        let entries = codes.into_iter().map(|(code, what)| (code.to_string(), what.to_owned())).collect();
        Self { title: "EXIT STATUS", heading: "Exit codes", entries }
    }

    /// Returns the section as the help shows it, below its heading.
    fn to_help(&self) -> String {
        let mut text = format!("{}:", self.heading);
        let width = self.entries.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, what) in &self.entries {
            // Writing to a String cannot fail.
            let _ = match name.starts_with(|c: char| c.is_ascii_digit()) {
                true => write!(text, "\n  {name:>width$}  {what}"),
                false => write!(text, "\n  {name:<width$}  {what}"),
            };
        }
        text
    }
}

impl<C: Code> Reference<C> {
    /// Returns the list of all exit codes with their meanings, for the end of the short help.
    pub fn exit_codes(&self) -> String {
        Self::all_codes().to_help()
    }

    /// Returns the end of the program's long help.
    pub fn after_help(&self) -> String {
        let mut parts: Vec<String> = self.sections().iter().map(Section::to_help).collect();
        parts.push(format!("Documentation: {}", self.documentation));
        parts.join("\n\n")
    }

    fn all_codes() -> Section {
        Section::of_codes(C::all().into_iter().map(|code| (code, code.meaning())))
    }

    /// Returns the sections of the whole program.
    pub fn sections(&self) -> [Section; 3] {
        let (environment, files) = (self.environment.iter().copied(), self.files.iter().copied());
        [Self::all_codes(), Section::of_environment(environment), Section::of_files(files)]
    }

    /// Returns the sections of a command, which is named by its words; none if the table does not have it.
    pub fn sections_of(&self, command: &str) -> Vec<Section> {
        let Some(uses) = self.uses.iter().find(|uses| uses.commands.contains(&command)) else { return Vec::new() };
        // In the order of the program's own lists.
        let used = |names: Names, used: &'static [&'static [&'static str]]| {
            names.iter().copied().filter(move |(name, _)| used.iter().any(|part| part.contains(name)))
        };
        let sections = [
            Section::of_environment(used(self.environment, uses.environment)),
            Section::of_files(used(self.files, uses.files)),
            Section::of_codes(uses.codes.iter().flat_map(|part| part.iter().copied())),
        ];
        sections.into_iter().filter(|section| !section.entries.is_empty()).collect()
    }

    /// Returns the program whose commands' long help ends with what each uses.
    pub fn document(&self, program: clap::Command) -> clap::Command {
        self.documented(program, "")
    }

    fn documented(&self, command: clap::Command, words: &str) -> clap::Command {
        let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
        let command = names.iter().fold(command, |command, name| {
            command.mut_subcommand(name, |below| self.documented(below, format!("{words} {name}").trim_start()))
        });
        let sections = self.sections_of(words);
        if sections.is_empty() {
            return command;
        }
        let examples = command.get_after_long_help().map(ToString::to_string);
        let parts: Vec<String> = examples.into_iter().chain(sections.iter().map(Section::to_help)).collect();
        command.after_long_help(parts.join("\n\n"))
    }

    /// Returns what is wrong with the table: commands that can be run and that it lacks, and names that are not the
    /// program's or that no command uses.
    #[cfg(test)]
    pub(crate) fn faults(&self, program: &clap::Command) -> Vec<String> {
        let mut runnable = Vec::new();
        collect_runnable(program, "", &mut runnable);
        let listed: Vec<&str> = self.uses.iter().flat_map(|uses| uses.commands.iter().copied()).collect();
        let missing = runnable.iter().filter(|command| !listed.contains(&command.as_str()));
        let mut faults: Vec<String> = missing.map(|command| format!("{command:?} has no entry")).collect();
        let twice = |command: &&&str| listed.iter().filter(|other| other == command).count() != 1;
        faults.extend(listed.iter().filter(twice).map(|command| format!("{command:?} has two entries")));
        let unknown = listed.iter().filter(|command| !runnable.iter().any(|known| known == **command));
        faults.extend(unknown.map(|command| format!("{command:?} is no command")));
        let mut compare = |names: Names, used: Vec<&str>| {
            let unused = names.iter().filter(|(name, _)| !used.contains(name));
            faults.extend(unused.map(|(name, _)| format!("no command uses {name}")));
            let unknown = used.iter().filter(|name| !names.iter().any(|(known, _)| known == *name));
            faults.extend(unknown.map(|name| format!("{name} is not documented")));
        };
        compare(self.environment, self.uses.iter().flat_map(|uses| uses.environment.concat()).collect());
        compare(self.files, self.uses.iter().flat_map(|uses| uses.files.concat()).collect());
        for uses in self.uses {
            let mut codes: Vec<u8> = uses.codes.concat().iter().map(|(code, _)| code.number()).collect();
            codes.sort_unstable();
            if codes.windows(2).any(|pair| pair[0] == pair[1]) || !codes.contains(&0) || !codes.contains(&2) {
                faults.push(format!("{:?} has the exit codes {codes:?}", uses.commands));
            }
        }
        let used = |code: &C| self.uses.iter().any(|uses| uses.codes.concat().iter().any(|(used, _)| used == code));
        let unused = C::all().into_iter().filter(|code| !used(code));
        faults.extend(unused.map(|code| format!("no command exits with {}", code.number())));
        faults
    }
}

/// Collects the words of each command that does something itself.
#[cfg(test)]
fn collect_runnable(parent: &clap::Command, words: &str, found: &mut Vec<String>) {
    for command in parent.get_subcommands() {
        let words = format!("{words} {}", command.get_name()).trim_start().to_owned();
        collect_runnable(command, &words, found);
        if !command.is_subcommand_required_set() {
            found.push(words);
        }
    }
}
