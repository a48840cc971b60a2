//! One JSON value as its text. A tree of values takes up to a hundred times the memory of its text, and most values are
//! only passed on.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Number;
use serde_json::value::{RawValue, to_raw_value};

/// The type of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonType {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl JsonType {
    /// Returns the type of the value with this text.
    pub fn of(text: &str) -> Self {
        match text.as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'n') => Self::Null,
            Some(_) | None => Self::Number,
        }
    }
}

/// A JSON value as its text, without whitespace between its parts and without needless escapes. A copy shares the text.
///
/// It can be read only from JSON text: not inside a type that serde reads from a buffer (`flatten`, `untagged`, `tag`).
#[derive(Clone)]
pub struct JsonText(Arc<RawValue>);

impl JsonText {
    /// Returns the value's text, whose syntax has been checked.
    pub(super) fn from_raw(raw: &RawValue) -> Self {
        let text = match normalize(raw.get()) {
            // Another text of the same value, so it is JSON too.
            Cow::Owned(normalized) => RawValue::from_string(normalized).unwrap_or_else(|_| raw.to_owned()),
            Cow::Borrowed(_) => raw.to_owned(),
        };
        Self(text.into())
    }

    /// Returns the text of `value`; `null` if it has none (a map with keys that are no strings, for example).
    pub fn of(value: &(impl Serialize + ?Sized)) -> Self {
        to_raw_value(value).map_or_else(|_| Self::null(), |raw| Self(raw.into()))
    }

    /// Returns `null`.
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned().into())
    }

    /// Returns `{}`.
    pub fn empty_object() -> Self {
        Self::of(&serde_json::Map::new())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    pub(super) fn raw(&self) -> &RawValue {
        &self.0
    }

    /// Returns the value's type.
    pub fn json_type(&self) -> JsonType {
        JsonType::of(self.as_str())
    }

    /// Returns whether the value is `null`.
    pub fn is_null(&self) -> bool {
        self.json_type() == JsonType::Null
    }

    /// Reads the value as a `T`.
    ///
    /// # Errors
    /// The value is not a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }

    /// Returns the string that the value is.
    pub fn string(&self) -> Option<String> {
        (self.json_type() == JsonType::String).then(|| self.read().ok())?
    }

    /// Returns the number that the value is.
    pub fn number(&self) -> Option<Number> {
        (self.json_type() == JsonType::Number).then(|| self.read().ok())?
    }

    /// Calls `visit` for each item of the array that the value is, with its index and text, until it returns a result.
    pub fn find_item<T>(&self, visit: impl FnMut(usize, &str) -> Option<T>) -> Option<T> {
        struct Items<F>(F);
        impl<'de, T, F: FnMut(usize, &str) -> Option<T>> Visitor<'de> for Items<F> {
            type Value = Option<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut index = 0;
                let mut found = None;
                while let Some(item) = items.next_element::<&RawValue>()? {
                    found = (self.0)(index, item.get());
                    if found.is_some() {
                        break;
                    }
                    index += 1;
                }
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(found)
            }
        }
        serde_json::Deserializer::from_str(self.as_str()).deserialize_seq(Items(visit)).ok().flatten()
    }
}

impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the texts are equal.
impl PartialEq for JsonText {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for JsonText {}

impl Default for JsonText {
    fn default() -> Self {
        Self::null()
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| match normalize(raw.get()) {
            Cow::Owned(_) => Self::from_raw(&raw),
            Cow::Borrowed(_) => Self(raw.into()),
        })
    }
}

/// Returns the text of a JSON value without the whitespace between its parts, and with the characters of its strings as
/// they are, unless JSON needs them escaped: so a search for a text finds it.
fn normalize(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut normalized: Option<String> = None;
    let (mut in_string, mut at, mut kept_from) = (false, 0, 0);
    while let Some(byte) = bytes.get(at) {
        let (length, replacement) = match byte {
            b'"' => {
                in_string = !in_string;
                (1, None)
            }
            b'\\' => unescape(text.get(at..).unwrap_or_default()),
            byte if !in_string && byte.is_ascii_whitespace() => (1, Some(Replacement::Nothing)),
            _ => (1, None),
        };
        if let Some(replacement) = replacement {
            let normalized = normalized.get_or_insert_with(|| String::with_capacity(text.len()));
            normalized.push_str(text.get(kept_from..at).unwrap_or_default());
            match replacement {
                Replacement::Nothing => {}
                Replacement::Character(character) => normalized.push(character),
                Replacement::Escaped(character) => normalized.extend(['\\', character]),
            }
            kept_from = at + length;
        }
        at += length;
    }
    match normalized {
        None => Cow::Borrowed(text),
        Some(mut normalized) => {
            normalized.push_str(text.get(kept_from..).unwrap_or_default());
            normalized.shrink_to_fit();
            Cow::Owned(normalized)
        }
    }
}

/// What stands in the place of a part of a text.
enum Replacement {
    Nothing,
    Character(char),
    /// A character after a backslash.
    Escaped(char),
}

/// Returns the length of the escape that `text` begins with, and what can stand in its place.
fn unescape(text: &str) -> (usize, Option<Replacement>) {
    let unit = |at: usize| u16::from_str_radix(text.get(at..)?.strip_prefix("\\u")?.get(..4)?, 16).ok();
    let Some(first) = unit(0) else {
        return (2, text.starts_with("\\/").then_some(Replacement::Character('/')));
    };
    let units: Vec<u16> = [Some(first), unit(6)].into_iter().flatten().collect();
    let Some(Ok(character)) = char::decode_utf16(units).next() else { return (6, None) };
    let replacement = match character {
        '"' | '\\' => Some(Replacement::Escaped(character)),
        control if control.is_control() => None,
        other => Some(Replacement::Character(other)),
    };
    (if character.len_utf16() == 2 { 12 } else { 6 }, replacement)
}

/// Returns the size of the JSON of `record`, in bytes.
pub fn json_bytes(record: &impl Serialize) -> u64 {
    let mut counter = Counter(0);
    // Counting cannot fail, and neither can serializing a record: its JSON is what is stored or sent.
    let _ = serde_json::to_writer(&mut counter, record);
    counter.0
}

/// A writer that only counts the bytes.
struct Counter(u64);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(of: &str) -> JsonText {
        serde_json::from_str(of).unwrap()
    }

    #[test]
    fn whitespace_goes_between_the_parts_and_stays_in_strings() {
        let spaced = " { \"a b\" :\n[ 1 , \"\\\" {\\\\\" , { } ] ,\t\"c\" : 1e15 } ";
        assert_eq!(text(spaced).as_str(), r#"{"a b":[1,"\" {\\",{}],"c":1e15}"#);
        assert_eq!(text("[1,\" \"]").as_str(), "[1,\" \"]");
    }

    #[test]
    fn a_text_is_found_however_it_was_escaped() {
        let escaped = r#"{"\u0061":"\/a\\\/ \u0041\u007e \u0022 \u005c \u0019 \u007f \u00e9 \ud83e\udd16 \n"}"#;
        let plain = "{\"a\":\"/a\\\\/ A~ \\\" \\\\ \\u0019 \\u007f \u{e9} \u{1f916} \\n\"}";
        assert_eq!(text(escaped).as_str(), plain);
    }

    proptest::proptest! {
        #[test]
        fn another_text_of_a_value_is_the_same_value(of in crate::protocol::tests::any_text::value()) {
            let value: serde_json::Value = crate::protocol::read_stored(of.as_bytes()).unwrap_or_default();
            let normalized: JsonText = serde_json::from_str(&of).unwrap();
            proptest::prop_assert_eq!(
                crate::protocol::read_stored::<serde_json::Value>(normalized.as_str().as_bytes()).unwrap_or_default(),
                value
            );
        }
    }

    #[test]
    fn the_type_is_told_by_the_first_character() {
        let types = ["null", "true", "-1", "\"a\"", "[]", "{}"].map(|of| text(of).json_type());
        use JsonType::{Array, Boolean, Null, Number, Object, String};
        assert_eq!(types, [Null, Boolean, Number, String, Array, Object]);
        assert_eq!((text("\"\\u0061\"").string().as_deref(), text("7").string()), (Some("a"), None));
        assert_eq!((text("7").number(), text("\"7\"").number()), (Some(7.into()), None));
    }

    #[test]
    fn items_are_visited_in_order_until_one_is_found() {
        let find = |of: &str| text(of).find_item(|at, item| (item == "2").then_some(at));
        assert_eq!((find("[1,2,3]"), find("[1]"), find("{}")), (Some(1), None, None));
    }

    #[test]
    fn what_is_written_is_what_was_read() {
        let record = json!({"z": [1, {"a": null}], "b": "x"});
        assert_eq!(JsonText::of(&record).read::<serde_json::Value>().unwrap(), record);
        let digits = "{\"n\":12345678901234567890123456789.5}";
        assert_eq!(serde_json::to_string(&text(digits)).unwrap(), digits);
    }
}
