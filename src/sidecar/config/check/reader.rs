//! Reads single values out of the file and gathers what is wrong with them. It knows kinds of values (a text, a path, a
//! number), not what any key is for.

use std::path::{Path, PathBuf};

use crate::common::secret::REDACTED;
use crate::sidecar::config::error::{Place, Problem, Warning, WarningKind};
use crate::sidecar::config::json_ast::{self, Member, Node, Value};
use crate::sidecar::config::keys::{self, NumberKey, did_you_mean};

/// How much of a wrong value is quoted, characters.
const QUOTE_CHARS: usize = 80;
/// Shorter tokens would blot out ordinary words; no hub gives such.
const SHORTEST_SECRET: usize = 4;

/// Reads values out of one file and gathers what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
    pub(super) root: &'a Node<'a>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
    /// So that no message quotes the token, wherever it was pasted.
    secrets: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str, root: &'a Node<'a>) -> Self {
        Self { path, text, root, problems: Vec::new(), warnings: Vec::new(), secrets: Vec::new() }
    }

    /// Unknown and repeated keys; a root that is no object.
    pub(super) fn shape(&mut self) {
        let Value::Object(members) = &self.root.value else {
            return self.wrong(Some(self.root), "(the whole file)", "one JSON object: {\"agent_id\": ...}");
        };
        self.repeats("", members);
        self.unknown("", members, keys::KEYS);
        if let Some(Value::Object(inner)) = self.find("restart_intensity").map(|node| &node.value) {
            self.repeats("restart_intensity.", inner);
            self.unknown("restart_intensity.", inner, keys::INTENSITY_KEYS);
        }
        self.shape_of_work();
        self.warnings.sort_by_key(|warning| warning.place.as_ref().map(|place| (place.line, place.column)));
    }

    pub(super) fn repeats(&mut self, prefix: &str, members: &[Member<'_>]) {
        for (index, member) in members.iter().enumerate() {
            if let Some(first) = members[..index].iter().find(|earlier| earlier.key == member.key) {
                let first_line = json_ast::line_column(self.text, first.key_at).0;
                let key = self.shown(&format!("{prefix}{}", member.key));
                self.warn(Some(member.key_at), WarningKind::DuplicateKey { key, first_line });
            }
        }
    }

    pub(super) fn unknown(&mut self, prefix: &str, members: &[Member<'_>], known: &'static [&'static str]) {
        for member in members.iter().filter(|member| !known.contains(&member.key.as_str())) {
            let kind = WarningKind::UnknownKey {
                key: self.shown(&format!("{prefix}{}", member.key)),
                did_you_mean: did_you_mean(&member.key, known),
            };
            self.warn(Some(member.key_at), kind);
        }
    }

    pub(super) fn required(&mut self, key: &'static str, allowed: &str) -> Option<(&'a Node<'a>, String)> {
        let Some(node) = self.present(key) else {
            let (at, found) = match self.find(key) {
                Some(node) => (Some(node.at), format!("{} (nothing)", node.raw)),
                None => (None, "no such key".to_owned()),
            };
            self.report(at, key, found, allowed);
            return None;
        };
        match &node.value {
            Value::Text(text) => Some((node, text.clone())),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Object(_) => {
                self.wrong(Some(node), key, allowed);
                None
            }
        }
    }

    pub(super) fn optional_text(&mut self, key: &'static str) -> Option<String> {
        let node = self.present(key)?;
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Object(_) => {
                self.wrong(Some(node), key, "a text, or nothing");
                None
            }
        }
    }

    pub(super) fn folder(&mut self, key: &'static str) -> Option<PathBuf> {
        let written = self.optional_text(key)?;
        let at = self.find(key).map(|node| node.at);
        if written == "~" || written.starts_with("~/") {
            self.warn(at, WarningKind::Tilde { key });
        }
        if written.contains('\0') {
            self.wrong(self.find(key), key, "a path without NUL characters");
        }
        Some(self.beside(&written))
    }

    pub(super) fn path_or(&mut self, key: &'static str, default: &str) -> PathBuf {
        self.folder(key).unwrap_or_else(|| self.beside(default))
    }

    /// Relative paths are relative to the configuration file's folder.
    pub(super) fn beside(&self, written: &str) -> PathBuf {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        folder.join(written.strip_prefix("./").unwrap_or(written))
    }

    pub(super) fn number(&mut self, spec: NumberKey) -> u64 {
        self.present_new(spec.key).map_or(spec.default, |node| self.whole(node, spec))
    }

    /// A number of the original's, where 0, "" and false mean "the default".
    pub(super) fn former_number(&mut self, spec: NumberKey) -> u64 {
        self.present(spec.key).map_or(spec.default, |node| self.whole(node, spec))
    }

    pub(super) fn whole(&mut self, node: &Node<'_>, spec: NumberKey) -> u64 {
        self.whole_named(node, spec.key, spec)
    }

    pub(super) fn whole_named(&mut self, node: &Node<'_>, key: &str, spec: NumberKey) -> u64 {
        if let Value::Number(raw) = node.value
            && let Ok(number) = raw.parse::<u64>()
            && (spec.min..=spec.max).contains(&number)
        {
            return number;
        }
        self.wrong(Some(node), key, &format!("a whole number from {} to {}", spec.min, spec.max));
        spec.default
    }

    /// A key's value. As in the original, `null`, `""`, `0` and `false` count as absent.
    pub(super) fn present(&self, key: &str) -> Option<&'a Node<'a>> {
        self.find(key).filter(|node| match &node.value {
            Value::Null | Value::Bool(false) => false,
            Value::Bool(true) | Value::List(_) | Value::Object(_) => true,
            Value::Text(text) => !text.is_empty(),
            Value::Number(raw) => raw.parse::<f64>() != Ok(0.0),
        })
    }

    /// The same for the keys that are new here, where only `null` counts as absent.
    pub(super) fn present_new(&self, key: &str) -> Option<&'a Node<'a>> {
        self.find(key).filter(|node| !matches!(node.value, Value::Null))
    }

    pub(super) fn find(&self, key: &str) -> Option<&'a Node<'a>> {
        match &self.root.value {
            Value::Object(members) => last(members, key),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => None,
        }
    }

    /// The members of an object, if there is one; anything else is wrong.
    pub(super) fn object(&mut self, key: &str, allowed: &str) -> Option<&'a [Member<'a>]> {
        let node = self.present_new(key)?;
        match &node.value {
            Value::Object(members) => Some(members),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                self.wrong(Some(node), key, allowed);
                None
            }
        }
    }

    pub(super) fn wrong(&mut self, node: Option<&Node<'_>>, key: &str, allowed: &str) {
        let found = node.map_or_else(|| "nothing".to_owned(), |node| describe(node, key));
        self.report(node.map(|node| node.at), key, found, allowed);
    }

    pub(super) fn report(&mut self, at: Option<usize>, key: &str, found: String, allowed: &str) {
        let found = self.shown(&found);
        let place = at.map(|at| self.place(at));
        self.problems.push(Problem { place, key: key.to_owned(), found, allowed: allowed.to_owned() });
    }

    pub(super) fn warn(&mut self, at: Option<usize>, kind: WarningKind) {
        let place = at.map(|at| self.place(at));
        self.warnings.push(Warning { place, kind });
    }

    pub(super) fn place(&self, at: usize) -> Place {
        let (line, column) = json_ast::line_column(self.text, at);
        Place { file: self.path.to_owned(), line, column }
    }

    /// From now on `secret` appears in no message.
    pub(super) fn never_show(&mut self, secret: &str) {
        if secret.len() >= SHORTEST_SECRET {
            self.secrets.push(secret.to_owned());
        }
    }

    /// On one line, without the token, and only then cut: a cut token would not be recognised.
    pub(super) fn shown(&self, text: &str) -> String {
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let clean = self.secrets.iter().fold(line, |line, secret| line.replace(secret, REDACTED));
        match clean.char_indices().nth(QUOTE_CHARS) {
            Some((end, _)) => format!("{}…", &clean[..end]),
            None => clean,
        }
    }
}

/// The last value of a key counts, as in Node.
pub(super) fn last<'a>(members: &'a [Member<'a>], key: &str) -> Option<&'a Node<'a>> {
    members.iter().rev().find(|member| member.key == key).map(|member| &member.value)
}

fn describe(node: &Node<'_>, key: &str) -> String {
    let kind = match &node.value {
        Value::Null | Value::Bool(_) => "",
        Value::Number(_) => "the number ",
        Value::Text(_) => "the text ",
        Value::List(_) => "the list ",
        Value::Object(_) => "the object ",
    };
    if key == "token" {
        return if kind.is_empty() { "true or false".to_owned() } else { format!("{kind}{REDACTED}") };
    }
    // A whole file or object may hold the token, even under a misspelt key.
    match &node.value {
        Value::Object(_) => "an object".to_owned(),
        Value::List(_) if key.starts_with('(') => "a list".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
            format!("{kind}{}", node.raw)
        }
    }
}
