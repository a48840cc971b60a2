//! Reads JSON, so that what one reader takes every later one reads again: what enters stays far below the depth at which
//! serde_json stops, and what is our own is read beyond it. It knows no frames and no records.
//!
//! Source: serde_json reads 127 levels of arrays and objects and writes any number; with its feature `raw_value`, which axum
//! switches on, it takes an object that begins with [`RESERVED_KEY`] for JSON in a text.

use core::ops::Range;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};

/// The most levels of arrays and objects in a document that enters: a request's body, a frame, a hook's answer.
///
/// Whatever enters is wrapped on its way: a task by the hub's record (3 levels) or the journal's shelf (4). So it stays at half of what
/// serde_json reads, which is also what the strictest common readers of JSON take.
pub const MAX_JSON_DEPTH: usize = 64;

/// The most levels in an agent's result: it travels as a field of a frame.
pub const MAX_RESULT_DEPTH: usize = MAX_JSON_DEPTH - 1;

/// The most levels in a file or record of our own. Version 0.1.0 took 127 and wrapped them in up to 4.
pub const MAX_STORED_DEPTH: usize = 160;

/// The key that no document may have: serde_json would read another one than was written, or fail.
pub const RESERVED_KEY: &str = "$serde_json::private::RawValue";

/// How much of a field's name a refusal carries, characters.
const FIELD_CHARS: usize = 50;

/// Why a text gave no object.
#[derive(Debug)]
pub enum JsonError {
    /// It is no JSON.
    NotJson(serde_json::Error),
    /// It is JSON, but no object.
    NotAnObject,
    /// It is JSON that is not taken.
    Refused(Refusal),
}

/// What JSON is not taken for.
#[derive(Debug, Clone, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Refusal {
    /// Arrays and objects in arrays and objects, too many times.
    TooDeep {
        /// The object's field, at most 50 characters of its name.
        field: String,
        /// The levels of the document.
        found: usize,
        /// The levels that are taken.
        max: usize,
    },
    /// [`RESERVED_KEY`] is among its keys.
    ReservedKey,
}

impl Refusal {
    /// The name for programs.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// The object's field that is not taken, where one can be named.
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
/// [`JsonError`]. What is no JSON is told as that, however deep.
pub fn read_object(text: &[u8], max_depth: usize) -> Result<Map<String, Value>, JsonError> {
    let Shape { depth, deepest_field, reserved_key } = Shape::of(text);
    if depth > max_depth || reserved_key {
        // Read without recursion, and so without a limit.
        serde_json::from_slice::<IgnoredAny>(text).map_err(JsonError::NotJson)?;
        if text.trim_ascii_start().first() != Some(&b'{') {
            return Err(JsonError::NotAnObject);
        }
        return Err(JsonError::Refused(if reserved_key {
            Refusal::ReservedKey
        } else {
            let field =
                serde_json::from_slice::<String>(text.get(deepest_field).unwrap_or_default()).unwrap_or_default();
            Refusal::TooDeep { field: field.chars().take(FIELD_CHARS).collect(), found: depth, max: max_depth }
        }));
    }
    match serde_json::from_slice(text).map_err(JsonError::NotJson)? {
        Value::Object(object) => Ok(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(JsonError::NotAnObject)
        }
    }
}

/// Reads a file or record of our own, of any version.
///
/// # Errors
/// What makes no sense, and where.
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
        // Once more, to tell where: noting the way at every step would take twice the time.
        Err(_) => serde_path_to_error::deserialize(&mut unlimited()).map_err(|error| told("", &error)),
    }
}

/// Reads what of a file or record of our own is called `name`.
///
/// # Errors
/// As [`read_stored`].
pub fn read_part<T: DeserializeOwned>(name: &str, part: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(part).map_err(|error| told(name, &error))
}

fn told(name: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    match (name, error.path().to_string().as_str()) {
        // Of the whole, which has no name.
        ("", ".") => error.inner().to_string(),
        (name, ".") => format!("at {name}: {}", error.inner()),
        ("", path) => format!("at {path}: {}", error.inner()),
        (name, path) => format!("at {name}.{path}: {}", error.inner()),
    }
}

/// The object with what lies deeper than `max_depth` levels, itself included, as the text that it is: what version 0.1.0
/// took can so be passed on to those who take less.
pub fn within(object: Map<String, Value>, max_depth: usize) -> Map<String, Value> {
    object.into_iter().map(|(key, value)| (key, value_within(value, max_depth.saturating_sub(1)))).collect()
}

fn value_within(value: Value, levels: usize) -> Value {
    match value {
        Value::Array(_) | Value::Object(_) if levels == 0 => Value::String(value.to_string()),
        Value::Array(items) => items.into_iter().map(|item| value_within(item, levels - 1)).collect(),
        Value::Object(object) => Value::Object(within(object, levels)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

/// What a look at the brackets and keys of a text shows. Of a text that is no JSON it means nothing.
#[derive(Debug, Default)]
struct Shape {
    /// The levels of arrays and objects.
    depth: usize,
    /// Where the key of the object's field stands that is nested deepest.
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

/// Behind the quote that ends the string whose inside begins at `at`.
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

/// `string` is quoted, and may write each character as an escape of six.
fn is_reserved(string: &[u8]) -> bool {
    string.len() <= 6 * RESERVED_KEY.len() + 2
        && serde_json::from_slice::<String>(string).is_ok_and(|string| string == RESERVED_KEY)
}

/// The object that `text` is. The machine's texts come from JSON objects only, as deep as a journal may be; anything else is
/// an empty one.
pub fn stored_object(text: &str) -> Map<String, Value> {
    read_stored(text.as_bytes()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
