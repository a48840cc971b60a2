//! Reads JSON such that every later reader can read again what one accepted: received documents stay far below the
//! depth at which serde_json stops, and the program's own files are read beyond it. Values that are only passed on stay
//! text. It knows no frames and no records.
//!
//! Source: serde_json reads 127 levels of arrays and objects and writes any number; with its feature `raw_value`, which
//! axum switches on, it takes an object that begins with [`RESERVED_KEY`] for JSON in a text.

mod document;
mod fields;
mod repair;
mod shape;
mod text;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use document::Document;
pub use fields::JsonFields;
pub use repair::{Repaired, repair};
use shape::Shape;
pub use text::{JsonText, JsonType, json_bytes};

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
    /// A number is larger than any that readers can hold.
    NumberOutOfRange,
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
            Self::ReservedKey | Self::NumberOutOfRange => None,
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
            Self::NumberOutOfRange => f.write_str("number out of range: make it smaller, or write it as a text"),
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
    let mut deserializer = unlimited(text);
    let read = T::deserialize(&mut deserializer);
    let ended = deserializer.end();
    match read {
        Ok(read) => ended.map(|()| read).map_err(|error| error.to_string()),
        // Read again to find where: tracking the path in the first pass would take twice the time.
        Err(_) => serde_path_to_error::deserialize(&mut unlimited(text)).map_err(|error| describe_error("", &error)),
    }
}

/// Returns a reader without a limit on depth, for a text whose depth has been looked at.
fn unlimited(text: &[u8]) -> serde_json::Deserializer<serde_json::de::SliceRead<'_>> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    deserializer.disable_recursion_limit();
    deserializer
}

/// Reads the part called `name` of a file or record that this program wrote.
///
/// # Errors
/// As [`read_stored`].
pub fn read_part<T: DeserializeOwned>(name: &str, part: &JsonText) -> Result<T, String> {
    let mut deserializer = unlimited(part.as_str().as_bytes());
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| describe_error(name, &error))
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

/// Returns the value with everything nested deeper than `max_depth` levels, itself included, replaced by its JSON text.
/// This way documents that version 0.1.0 accepted can be passed on to readers with a lower limit.
pub fn limit_depth(value: JsonText, max_depth: usize) -> JsonText {
    if Shape::of(value.as_str().as_bytes()).depth <= max_depth {
        return value;
    }
    let tree: Value = read_stored(value.as_str().as_bytes()).unwrap_or_default();
    JsonText::of(&limit_tree_depth(tree, max_depth))
}

fn limit_tree_depth(value: Value, levels: usize) -> Value {
    match value {
        Value::Array(_) | Value::Object(_) if levels == 0 => Value::String(value.to_string()),
        Value::Array(items) => items.into_iter().map(|item| limit_tree_depth(item, levels - 1)).collect(),
        Value::Object(object) => {
            object.into_iter().map(|(key, value)| (key, limit_tree_depth(value, levels - 1))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

/// Returns the fields of the object that `text` holds, or none for any other text. The machine's texts are always JSON
/// objects, at most as deep as a journal may be.
pub fn stored_fields(text: &str) -> JsonFields {
    serde_json::from_str(text).unwrap_or_default()
}

/// Returns the JSON value that `text` holds, or an empty object for a text that is not JSON, which the machine's texts
/// always are.
pub fn stored_value(text: &str) -> JsonText {
    serde_json::from_str(text).unwrap_or_else(|_| JsonText::empty_object())
}

#[cfg(test)]
mod tests;
