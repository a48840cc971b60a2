//! Reads values of the file by their kind (a text, a path, a number) and collects what is wrong with them. What a key
//! is for is the caller's concern.

use std::path::{Path, PathBuf};

use crate::common::secret::REDACTED;
use crate::common::text::on_one_line;
use crate::sidecar::config::bounds::{self, NumberKey, did_you_mean};
use crate::sidecar::config::check::wake_command;
use crate::sidecar::config::error::{Place, Problem, Warning, WarningKind};
use crate::sidecar::config::json_ast::{self, Member, Node, Value};

/// The most that is quoted of a wrong value, characters.
const QUOTE_CHARS: usize = 80;
/// The length of the shortest token that is redacted, bytes. Shorter ones would redact ordinary words; no hub gives
/// such.
const MIN_SECRET_BYTES: usize = 4;

/// A reader of one file, with the problems and warnings that it has found.
pub(in crate::sidecar::config) struct Reader<'a> {
    pub(in crate::sidecar::config) path: &'a Path,
    pub(super) text: &'a str,
    pub(super) root: &'a Node<'a>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
    /// The texts to redact in every message, since the token may be pasted in any value.
    secrets: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str, root: &'a Node<'a>) -> Self {
        Self { path, text, root, problems: Vec::new(), warnings: Vec::new(), secrets: Vec::new() }
    }

    /// Warns of unknown and repeated keys, and reports a root that is not an object.
    pub(super) fn check_keys(&mut self, known: &'static [&'static str]) {
        let Value::Object(members) = &self.root.value else {
            return self.wrong(Some(self.root), "(the whole file)", "one JSON object: {\"agent_id\": ...}");
        };
        self.warn_repeated("", members);
        self.warn_unknown("", members, known);
        if let Some(Value::Object(inner)) = self.find("restart_intensity").map(|node| &node.value) {
            self.warn_repeated("restart_intensity.", inner);
            self.warn_unknown("restart_intensity.", inner, bounds::INTENSITY_KEYS);
        }
        self.check_inner_keys();
        self.warnings.sort_by_key(|warning| warning.place.as_ref().map(|place| (place.line, place.column)));
    }

    /// Warns of repeated keys in an object.
    pub(super) fn warn_repeated(&mut self, prefix: &str, members: &[Member<'_>]) {
        for (index, member) in members.iter().enumerate() {
            if let Some(first) = members[..index].iter().find(|earlier| earlier.key == member.key) {
                let first_line = json_ast::line_column(self.text, first.key_at).0;
                let key = self.redacted(&format!("{prefix}{}", member.key));
                self.warn(Some(member.key_at), WarningKind::DuplicateKey { key, first_line });
            }
        }
    }

    /// Warns of keys in an object that are not `known`.
    pub(super) fn warn_unknown(&mut self, prefix: &str, members: &[Member<'_>], known: &'static [&'static str]) {
        for member in members.iter().filter(|member| !known.contains(&member.key.as_str())) {
            let kind = WarningKind::UnknownKey {
                key: self.redacted(&format!("{prefix}{}", member.key)),
                did_you_mean: did_you_mean(&member.key, known),
            };
            self.warn(Some(member.key_at), kind);
        }
    }

    /// Reads a text that must be there.
    pub(super) fn required_text(&mut self, key: &'static str, allowed: &str) -> Option<(&'a Node<'a>, String)> {
        let Some(node) = self.present_legacy(key) else {
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

    /// Reads a text that may be absent.
    pub(in crate::sidecar::config) fn optional_text(&mut self, key: &'static str) -> Option<String> {
        let node = self.present_legacy(key)?;
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Object(_) => {
                self.wrong(Some(node), key, "a text, or nothing");
                None
            }
        }
    }

    /// Reads a path that may be absent.
    pub(in crate::sidecar::config) fn folder(&mut self, key: &'static str) -> Option<PathBuf> {
        let written = self.optional_text(key)?;
        let at = self.find(key).map(|node| node.at);
        if written == "~" || written.starts_with("~/") {
            self.warn(at, WarningKind::Tilde { key });
        }
        if written.contains('\0') {
            self.wrong(self.find(key), key, "a path without NUL characters");
        }
        Some(self.relative_to_config(&written))
    }

    /// Reads a path, by default `default`.
    pub(in crate::sidecar::config) fn path_or(&mut self, key: &'static str, default: &str) -> PathBuf {
        self.folder(key).unwrap_or_else(|| self.relative_to_config(default))
    }

    /// Returns the path relative to the configuration file's folder.
    pub(super) fn relative_to_config(&self, written: &str) -> PathBuf {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        folder.join(written.strip_prefix("./").unwrap_or(written))
    }

    /// Reads a whole number.
    pub(in crate::sidecar::config) fn number(&mut self, spec: NumberKey) -> u64 {
        self.present(spec.key).map_or(spec.default, |node| self.whole_number(node, spec))
    }

    /// Reads a number of the legacy sidecar's, where 0, "" and false mean the default.
    pub(in crate::sidecar::config) fn legacy_number(&mut self, spec: NumberKey) -> u64 {
        self.present_legacy(spec.key).map_or(spec.default, |node| self.whole_number(node, spec))
    }

    pub(super) fn whole_number(&mut self, node: &Node<'_>, spec: NumberKey) -> u64 {
        self.whole_number_named(node, spec.key, spec)
    }

    pub(super) fn whole_number_named(&mut self, node: &Node<'_>, key: &str, spec: NumberKey) -> u64 {
        within_bounds(node, spec).unwrap_or_else(|| {
            self.wrong(Some(node), key, &format!("a whole number from {} to {}", spec.min, spec.max));
            spec.default
        })
    }

    /// Reads true or false, by default false.
    pub(super) fn boolean(&mut self, key: &'static str) -> bool {
        self.present(key).is_some_and(|node| self.true_or_false(node, key))
    }

    pub(super) fn true_or_false(&mut self, node: &Node<'_>, key: &str) -> bool {
        match node.value {
            Value::Bool(yes) => yes,
            Value::Null | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Object(_) => {
                self.wrong(Some(node), key, "true or false");
                false
            }
        }
    }

    /// Returns the value of a key of the legacy sidecar's, in which `null`, `""`, `0` and `false` count as absent.
    pub(super) fn present_legacy(&self, key: &str) -> Option<&'a Node<'a>> {
        self.find(key).filter(|node| match &node.value {
            Value::Null | Value::Bool(false) => false,
            Value::Bool(true) | Value::List(_) | Value::Object(_) => true,
            Value::Text(text) => !text.is_empty(),
            Value::Number(raw) => raw.parse::<f64>() != Ok(0.0),
        })
    }

    /// Returns the value of a key that the legacy sidecar does not have, in which only `null` counts as absent.
    pub(super) fn present(&self, key: &str) -> Option<&'a Node<'a>> {
        self.find(key).filter(|node| !matches!(node.value, Value::Null))
    }

    pub(super) fn find(&self, key: &str) -> Option<&'a Node<'a>> {
        match &self.root.value {
            Value::Object(members) => last(members, key),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => None,
        }
    }

    /// Reads an object's members. Any other kind of value is reported.
    pub(super) fn object(&mut self, key: &str, allowed: &str) -> Option<&'a [Member<'a>]> {
        let node = self.present(key)?;
        match &node.value {
            Value::Object(members) => Some(members),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                self.wrong(Some(node), key, allowed);
                None
            }
        }
    }

    /// Reports a wrong value.
    pub(super) fn wrong(&mut self, node: Option<&Node<'_>>, key: &str, allowed: &str) {
        let found = node.map_or_else(|| "nothing".to_owned(), |node| describe(node, key));
        self.report(node.map(|node| node.at), key, found, allowed);
    }

    /// Reports a problem with `key` at the byte offset `at`.
    pub(super) fn report(&mut self, at: Option<usize>, key: &str, found: String, allowed: &str) {
        let found = self.redacted(&found);
        let place = at.map(|at| self.place(at));
        self.problems.push(Problem { place, key: key.to_owned(), found, allowed: allowed.to_owned() });
    }

    pub(super) fn warn(&mut self, at: Option<usize>, kind: WarningKind) {
        let place = at.map(|at| self.place(at));
        self.warnings.push(Warning { place, kind });
    }

    /// Warns of the placeholders in a shell line that are in single quotes.
    pub(super) fn warn_single_quoted(&mut self, at: Option<usize>, key: &str, command: &str) {
        for variable in wake_command::single_quoted(command) {
            self.warn(at, WarningKind::SingleQuoted { key: key.to_owned(), variable });
        }
    }

    pub(super) fn place(&self, at: usize) -> Place {
        let (line, column) = json_ast::line_column(self.text, at);
        Place { file: self.path.to_owned(), line, column }
    }

    /// Redacts `secret` in all later messages.
    pub(super) fn redact(&mut self, secret: &str) {
        if secret.len() >= MIN_SECRET_BYTES {
            self.secrets.push(secret.to_owned());
        }
    }

    /// Returns `text` on one line, redacted, and shortened only then: a shortened token would not be recognised.
    pub(super) fn redacted(&self, text: &str) -> String {
        let line = on_one_line(text);
        let clean = self.secrets.iter().fold(line, |line, secret| line.replace(secret, REDACTED));
        match clean.char_indices().nth(QUOTE_CHARS) {
            Some((end, _)) => format!("{}…", &clean[..end]),
            None => clean,
        }
    }
}

/// Returns the node's whole number if it is within the bounds.
pub(super) fn within_bounds(node: &Node<'_>, spec: NumberKey) -> Option<u64> {
    let Value::Number(raw) = node.value else { return None };
    raw.parse().ok().filter(|number| (spec.min..=spec.max).contains(number))
}

/// Returns the last value of a key, unless it is `null`.
pub(super) fn not_null<'a>(members: &'a [Member<'a>], key: &str) -> Option<&'a Node<'a>> {
    last(members, key).filter(|node| !matches!(node.value, Value::Null))
}

/// Returns the last value of a key, which is the one that counts, as in Node.
fn last<'a>(members: &'a [Member<'a>], key: &str) -> Option<&'a Node<'a>> {
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
    // A whole file or object may hold the token, even with a misspelt key.
    match &node.value {
        Value::Object(_) => "an object".to_owned(),
        Value::List(_) if key.starts_with('(') => "a list".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
            format!("{kind}{}", node.raw)
        }
    }
}
