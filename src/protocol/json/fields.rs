//! A JSON object, split into its fields, each of them as its text.

use std::fmt;

use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::protocol::json::text::{JsonText, JsonType};

/// The fields of a JSON object, by name. Of several fields with one name only the last counts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct JsonFields(Vec<(Box<str>, JsonText)>);

impl JsonFields {
    /// Reads the fields of an object for which `wanted` returns true. The others are not kept.
    pub(super) fn read_wanted(text: &str, wanted: impl Fn(&str) -> bool) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let fields = deserializer.deserialize_map(Fields(wanted))?;
        deserializer.end().map(|()| fields)
    }

    /// Returns the fields, for whose names `wanted` returns true, of a text that may be no object: then there are none.
    pub fn of_unchecked(text: &str, wanted: impl Fn(&str) -> bool) -> Self {
        Self::read_wanted(text, wanted).unwrap_or_default()
    }

    /// Returns the field's value.
    pub fn get(&self, name: &str) -> Option<&JsonText> {
        self.place(name).ok().and_then(|at| self.0.get(at)).map(|(_, value)| value)
    }

    /// Returns the field's value as a string, if it is one.
    pub fn string(&self, name: &str) -> Option<String> {
        self.get(name)?.string()
    }

    /// Returns the field's value as a `T`; `None` if it is absent, `null`, or not a `T`.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.get(name).and_then(|value| value.read::<Option<T>>().ok()).flatten()
    }

    /// Sets the field.
    pub fn insert(&mut self, name: &str, value: JsonText) {
        match self.place(name) {
            Ok(at) => {
                if let Some((_, present)) = self.0.get_mut(at) {
                    *present = value;
                }
            }
            Err(at) => self.0.insert(at, (name.into(), value)),
        }
    }

    /// Sets the field to the JSON of `value`.
    pub fn set(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.insert(name, JsonText::of(value));
    }

    /// Removes the field and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<JsonText> {
        self.place(name).ok().map(|at| self.0.remove(at).1)
    }

    /// Keeps the fields for which `keep` returns true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &JsonText) -> bool) {
        self.0.retain(|(name, value)| keep(name, value));
        self.0.shrink_to_fit();
    }

    /// Sets all fields of `other`.
    pub fn extend(&mut self, other: Self) {
        other.0.into_iter().for_each(|(name, value)| self.insert(&name, value));
    }

    /// Returns whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the fields in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &JsonText)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// Returns the object's text.
    pub fn to_text(&self) -> JsonText {
        JsonText::of(self)
    }

    /// Removes and reads a field, which may be absent or `null`.
    ///
    /// # Errors
    /// The value is invalid; the text names the field.
    pub fn take_optional<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, String> {
        self.remove(name).map_or(Ok(None), |value| read_field(name, &value))
    }

    /// Removes and reads a field.
    ///
    /// # Errors
    /// The field is missing, or the value is invalid; the text names the field.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, String> {
        self.remove(name).ok_or_else(|| format!("missing field `{name}`")).and_then(|value| read_field(name, &value))
    }

    /// Removes a field that must be an object, and returns its value.
    ///
    /// # Errors
    /// The field is missing, or not an object; the text names the field.
    pub fn take_object(&mut self, name: &str) -> Result<JsonText, String> {
        self.remove(name).ok_or_else(|| format!("missing field `{name}`")).and_then(|value| {
            let found = value.json_type();
            if found == JsonType::Object {
                Ok(value)
            } else {
                Err(format!("field {name}: {found:?}, expected an object"))
            }
        })
    }

    /// Reads the object as a `T`.
    ///
    /// # Errors
    /// A field is missing or invalid; the text names it.
    pub fn read_as<T: DeserializeOwned>(&self) -> Result<T, String> {
        let fields = MapDeserializer::<_, serde_json::Error>::new(self.iter().map(|(name, value)| (name, value.raw())));
        serde_path_to_error::deserialize(fields).map_err(|error| {
            let path = error.path().to_string();
            let inner = error.into_inner();
            if path == "." { inner.to_string() } else { format!("field {path}: {inner}") }
        })
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(present, _)| (**present).cmp(name))
    }
}

fn read_field<T: DeserializeOwned>(name: &str, value: &JsonText) -> Result<T, String> {
    serde_path_to_error::deserialize(value.raw()).map_err(|error| {
        let path = error.path().to_string();
        let (dot, path) = if path == "." { ("", "") } else { (".", path.as_str()) };
        format!("field {name}{dot}{path}: {}", error.inner())
    })
}

/// Collects the fields for which the function returns true.
struct Fields<F>(F);

impl<'de, F: Fn(&str) -> bool> Visitor<'de> for Fields<F> {
    type Value = JsonFields;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonFields, A::Error> {
        let mut fields: Vec<(Box<str>, JsonText)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if (self.0)(&name) {
                fields.push((name.into(), map.next_value()?));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        fields.reverse();
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        fields.dedup_by(|(later, _), (earlier, _)| later == earlier);
        fields.shrink_to_fit();
        Ok(JsonFields(fields))
    }
}

impl fmt::Debug for JsonFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl FromIterator<(&'static str, JsonText)> for JsonFields {
    fn from_iter<I: IntoIterator<Item = (&'static str, JsonText)>>(items: I) -> Self {
        let mut fields = Self::default();
        items.into_iter().for_each(|(name, value)| fields.insert(name, value));
        fields
    }
}

impl Serialize for JsonFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for JsonFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields(|_: &str| true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(of: &str) -> JsonFields {
        serde_json::from_str(of).unwrap()
    }

    #[test]
    fn the_last_of_equal_names_counts_and_names_are_sorted() {
        let read = fields(r#"{"b":1,"a":2,"b":{"c": 3}}"#);
        assert_eq!(read.to_text().as_str(), r#"{"a":2,"b":{"c":3}}"#);
        assert_eq!(read, fields(read.to_text().as_str()));
    }

    #[test]
    fn only_what_is_wanted_is_kept() {
        let read = JsonFields::read_wanted(r#"{"a":1,"b":[[]],"c":"x"}"#, |name| name != "b").unwrap();
        assert_eq!(read.to_text().as_str(), r#"{"a":1,"c":"x"}"#);
        assert!(JsonFields::read_wanted("{} {}", |_| true).is_err());
    }

    #[test]
    fn an_absent_field_and_a_null_one_are_none_where_they_may_be() {
        let mut read = fields(r#"{"a":null,"n":7}"#);
        assert_eq!((read.take_optional::<u64>("a"), read.take_optional::<u64>("z")), (Ok(None), Ok(None)));
        assert_eq!(read.take::<u64>("z"), Err("missing field `z`".into()));
        assert_eq!(read.take::<u64>("n"), Ok(7));
        assert!(read.is_empty());
    }

    #[test]
    fn an_invalid_field_is_named_with_its_place() {
        #[derive(Debug, Deserialize)]
        struct Inner {
            #[allow(dead_code)] // Only its errors matter.
            list: Vec<u8>,
        }
        let mut read = fields(r#"{"a":{"list":[1,"x"]}}"#);
        let error = read.take::<Inner>("a").unwrap_err();
        assert!(error.starts_with("field a.list[1]: invalid type: string"), "{error}");
        let error = fields(r#"{"list":[1,"x"]}"#).read_as::<Inner>().unwrap_err();
        assert!(error.starts_with("field list[1]: invalid type: string"), "{error}");
    }

    #[test]
    fn fields_are_set_and_removed() {
        let mut read = fields(r#"{"b":1}"#);
        read.set("a", &json!([1]));
        read.set("b", "x");
        read.extend(fields(r#"{"c":null,"a":2}"#));
        assert_eq!(read.to_text().as_str(), r#"{"a":2,"b":"x","c":null}"#);
        assert_eq!(
            (read.string("b").as_deref(), read.read::<u64>("a"), read.read::<u64>("b")),
            (Some("x"), Some(2), None)
        );
        read.retain(|name, _| name == "b");
        assert_eq!(read.remove("b").map(|value| value.to_string()).as_deref(), Some("\"x\""));
    }
}
