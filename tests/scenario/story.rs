//! A file of blocks: event lines, `----`, what is expected; blank lines between blocks, `#` for remarks, `policy` for
//! figures. It plays the file and says whether it comes out as written; with `UPDATE_SCENARIOS=1` in the environment
//! the tests write down what came out instead, for a person to judge.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::player::{Player, Seen};
use super::words::{self, Figures};

const RULE: &str = "----";

/// One file, played.
pub struct Played {
    /// What the file says.
    pub written: String,
    /// What it would say if its expectations were what came out.
    pub came_out: String,
    /// A property that did not hold, or a line that could not be read, with its place.
    pub trouble: Option<String>,
    /// What was met.
    pub seen: Seen,
}

/// Every story, in order of their names.
///
/// # Errors
/// The folder cannot be read.
pub fn files() -> std::io::Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Plays a story to its end, or to its first trouble.
pub fn play(written: &str) -> Played {
    let mut figures = Figures::default();
    let mut trouble = None;
    for (number, line) in written.lines().enumerate() {
        if let Some(text) = line.strip_prefix("policy ")
            && let Err(why) = words::policy(text, &mut figures)
        {
            trouble.get_or_insert(format!("line {}: {why}", number + 1));
        }
    }
    let mut player = Player::new(figures);
    let mut came_out = String::new();
    let mut events = Vec::new();
    let mut in_expectation = false;
    for (index, line) in written.lines().enumerate() {
        if in_expectation {
            in_expectation = !line.is_empty();
        }
        if in_expectation {
            continue;
        }
        came_out.push_str(line);
        came_out.push('\n');
        let is_event = !line.is_empty() && !line.starts_with('#') && !line.starts_with("policy ");
        if trouble.is_some() || !is_event {
            continue;
        }
        if line != RULE {
            match words::line(line) {
                Ok(event) => events.push(event),
                Err(why) => trouble = Some(format!("line {}: {why}", index + 1)),
            }
            continue;
        }
        in_expectation = true;
        match player.play(&std::mem::take(&mut events)) {
            Ok(lines) => lines.iter().for_each(|line| {
                came_out.push_str(line);
                came_out.push('\n');
            }),
            Err(why) => trouble = Some(format!("the block that ends at line {}: {why}", index + 1)),
        }
    }
    if !events.is_empty() {
        trouble.get_or_insert_with(|| format!("the last block has no {RULE}"));
    }
    Played { written: written.to_owned(), came_out, trouble, seen: player.seen }
}

impl Played {
    /// What is wrong, for a person: the trouble, or the lines that differ.
    pub fn complaint(&self) -> Option<String> {
        if let Some(trouble) = &self.trouble {
            return Some(trouble.clone());
        }
        (self.written != self.came_out).then(|| diff(&self.written, &self.came_out))
    }
}

/// The lines that differ, with what stands before them: `-` is written, `+` came out.
fn diff(written: &str, came_out: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (written.lines().collect(), came_out.lines().collect());
    // The longest common subsequence; stories are short.
    let mut common = vec![vec![0usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] =
                if old[i] == new[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut shown, mut told) = (0, 0, 0, String::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        for context in old.iter().take(i).skip(shown.max(i.saturating_sub(3))) {
            let _ = writeln!(told, "  {context}");
        }
        let gone = i < old.len() && (j == new.len() || common[i + 1][j] >= common[i][j + 1]);
        if gone {
            let _ = writeln!(told, "- {}   (line {})", old[i], i + 1);
            i += 1;
        } else {
            let _ = writeln!(told, "+ {}", new[j]);
            j += 1;
        }
        shown = i;
    }
    told
}
