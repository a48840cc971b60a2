//! Reads JSON such that every later reader can read again what one accepted: received documents stay far below the
//! depth at which serde_json stops, and the program's own files are read beyond it. It knows no frames and no records.
//!
//! Source: serde_json reads 127 levels of arrays and objects and writes any number; with its feature `raw_value`, which
//! axum switches on, it takes an object that begins with [`RESERVED_KEY`] for JSON in a text.

use core::ops::Range;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};

use crate::common::text::first_chars;

/// The maximum number of levels of arrays and objects in a received document: a request's body, a frame, a hook's
/// answer.
///
/// Received documents are wrapped when they are stored: a task by the hub's record (3 levels) or the journal's parked
/// work (4). So the limit is half of what serde_json reads, which is also what the strictest common JSON readers
/// accept.
pub const MAX_JSON_DEPTH: usize = 64;

/// The maximum number of levels in an agent's result, which is sent as a field of a frame.
pub const MAX_RESULT_DEPTH: usize = MAX_JSON_DEPTH - 1;

/// The maximum number of levels in the program's own files and records. Version 0.1.0 accepted 127 and wrapped them in
/// up to 4.
pub const MAX_STORED_DEPTH: usize = 160;

/// The key that no document may have: serde_json would read a different document than was written, or fail.
pub const RESERVED_KEY: &str = "$serde_json::private::RawValue";

/// The maximum number of characters of a field's name in a refusal.
const FIELD_CHARS: usize = 50;

/// The reason why a text could not be read as an object.
#[derive(Debug)]
pub enum JsonError {
    /// The text is not JSON.
    NotJson(serde_json::Error),
    /// The text is JSON, but not an object.
    NotAnObject,
    /// The text is JSON that is refused.
    Refused(Refusal),
}

/// The reason why JSON is refused.
#[derive(Debug, Clone, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Refusal {
    /// Arrays and objects are nested too deep.
    TooDeep {
        /// The name of the object's field, cut to 50 characters.
        field: String,
        /// The number of levels of the document.
        found: usize,
        /// The maximum number of levels.
        max: usize,
    },
    /// [`RESERVED_KEY`] is among the keys.
    ReservedKey,
}

impl Refusal {
    /// Returns the reason's name for programs.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// Returns the name of the refused field, if there is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::TooDeep { field, .. } => Some(field),
            Self::ReservedKey => None,
        }
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooDeep { field: _, found, max } => {
                write!(
                    f,
                    "nested {found} levels deep, at most {max} are taken: flatten it, or pass the inner part on as a text"
                )
            }
            Self::ReservedKey => write!(f, "the key {RESERVED_KEY:?} is not taken: rename it"),
        }
    }
}

/// Reads one object that is nested at most `max_depth` levels deep, itself included.
///
/// # Errors
/// [`JsonError`]. A text that is not JSON is reported as such, however deep it is nested.
pub fn read_object(text: &[u8], max_depth: usize) -> Result<Map<String, Value>, JsonError> {
    let Shape { depth, deepest_field, reserved_key } = Shape::of(text);
    if depth > max_depth || reserved_key {
        // `IgnoredAny` is read without recursion, and so without a depth limit.
        serde_json::from_slice::<IgnoredAny>(text).map_err(JsonError::NotJson)?;
        if text.trim_ascii_start().first() != Some(&b'{') {
            return Err(JsonError::NotAnObject);
        }
        return Err(JsonError::Refused(if reserved_key {
            Refusal::ReservedKey
        } else {
            let field =
                serde_json::from_slice::<String>(text.get(deepest_field).unwrap_or_default()).unwrap_or_default();
            Refusal::TooDeep { field: first_chars(&field, FIELD_CHARS).to_owned(), found: depth, max: max_depth }
        }));
    }
    match serde_json::from_slice(text).map_err(JsonError::NotJson)? {
        Value::Object(object) => Ok(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(JsonError::NotAnObject)
        }
    }
}

/// Reads a file or record that this program, in any version, wrote.
///
/// # Errors
/// A text that says what is invalid, and where.
pub fn read_stored<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let depth = Shape::of(text).depth;
    if depth > MAX_STORED_DEPTH {
        return Err(format!("nested {depth} levels deep, at most {MAX_STORED_DEPTH} are read"));
    }
    let unlimited = || {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        deserializer.disable_recursion_limit();
        deserializer
    };
    let mut deserializer = unlimited();
    let read = T::deserialize(&mut deserializer);
    let ended = deserializer.end();
    match read {
        Ok(read) => ended.map(|()| read).map_err(|error| error.to_string()),
        // Read again to find where: tracking the path in the first pass would take twice the time.
        Err(_) => serde_path_to_error::deserialize(&mut unlimited()).map_err(|error| describe_error("", &error)),
    }
}

/// Reads the part called `name` of a file or record that this program wrote.
///
/// # Errors
/// As [`read_stored`].
pub fn read_part<T: DeserializeOwned>(name: &str, part: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(part).map_err(|error| describe_error(name, &error))
}

fn describe_error(name: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    match (name, error.path().to_string().as_str()) {
        // The error concerns the whole document, which has no name.
        ("", ".") => error.inner().to_string(),
        (name, ".") => format!("at {name}: {}", error.inner()),
        ("", path) => format!("at {path}: {}", error.inner()),
        (name, path) => format!("at {name}.{path}: {}", error.inner()),
    }
}

/// Returns the object with everything nested deeper than `max_depth` levels, itself included, replaced by its JSON
/// text. This way documents that version 0.1.0 accepted can be passed on to readers with a lower limit.
pub fn limit_depth(object: Map<String, Value>, max_depth: usize) -> Map<String, Value> {
    object.into_iter().map(|(key, value)| (key, limit_value_depth(value, max_depth.saturating_sub(1)))).collect()
}

fn limit_value_depth(value: Value, levels: usize) -> Value {
    match value {
        Value::Array(_) | Value::Object(_) if levels == 0 => Value::String(value.to_string()),
        Value::Array(items) => items.into_iter().map(|item| limit_value_depth(item, levels - 1)).collect(),
        Value::Object(object) => Value::Object(limit_depth(object, levels)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

/// The result of scanning the brackets and keys of a text. It is meaningless for a text that is not JSON.
#[derive(Debug, Default)]
struct Shape {
    /// The number of levels of arrays and objects.
    depth: usize,
    /// The position of the key of the object's most deeply nested field.
    deepest_field: Range<usize>,
    /// Whether [`RESERVED_KEY`] is a key.
    reserved_key: bool,
}

impl Shape {
    fn of(text: &[u8]) -> Self {
        let mut shape = Self::default();
        let (mut at, mut level, mut field) = (0, 0_usize, 0..0);
        while let Some(byte) = text.get(at) {
            let begin = at;
            at += 1;
            match byte {
                b'{' | b'[' => {
                    level += 1;
                    if level > shape.depth {
                        shape.depth = level;
                        shape.deepest_field.clone_from(&field);
                    }
                }
                b'}' | b']' => level = level.saturating_sub(1),
                b'"' => {
                    at = end_of_string(text, at);
                    let string = text.get(begin..at).unwrap_or_default();
                    if is_key(text, at) {
                        shape.reserved_key |= is_reserved(string);
                        if level == 1 {
                            field = begin..at;
                        }
                    }
                }
                _ => {}
            }
        }
        shape
    }
}

/// Returns the position after the closing quote of the string whose content begins at `at`.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    loop {
        match text.get(at) {
            None => return text.len(),
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

fn is_key(text: &[u8], after: usize) -> bool {
    text.get(after..).unwrap_or_default().iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
}

/// Returns whether the quoted `string` is [`RESERVED_KEY`]; each character may be an escape of six.
fn is_reserved(string: &[u8]) -> bool {
    string.len() <= 6 * RESERVED_KEY.len() + 2
        && serde_json::from_slice::<String>(string).is_ok_and(|string| string == RESERVED_KEY)
}

/// Returns the object that `text` holds, or an empty one for any other text. The machine's texts are always JSON
/// objects, at most as deep as a journal may be.
pub fn stored_object(text: &str) -> Map<String, Value> {
    read_stored(text.as_bytes()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
