//! A received JSON object: made readable, and checked before anything is read of it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::common::text::first_chars;
use crate::protocol::json::fields::JsonFields;
use crate::protocol::json::repair::{Repaired, repair};
use crate::protocol::json::shape::Shape;
use crate::protocol::json::text::JsonText;
use crate::protocol::json::{JsonError, Refusal};

/// The maximum number of characters of a field's name in a refusal.
const FIELD_CHARS: usize = 50;

/// The text of one JSON object, of which every part can be read.
#[derive(Debug)]
pub struct Document<'a> {
    text: Cow<'a, str>,
    replaced: usize,
}

impl<'a> Document<'a> {
    /// Checks that `bytes` hold one object that is nested at most `max_depth` levels deep, itself included. What is not
    /// Unicode in it is replaced first, see [`repair`].
    ///
    /// # Errors
    /// [`JsonError`]. A text that is not JSON is reported as such, however deep it is nested.
    pub fn check(bytes: &'a [u8], max_depth: usize) -> Result<Self, JsonError> {
        let Repaired { text, replaced } = repair(bytes);
        let Shape { depth, deepest_field, reserved_key } = Shape::of(text.as_bytes());
        if depth > max_depth || reserved_key {
            // `IgnoredAny` is read without recursion, and so without a depth limit.
            serde_json::from_str::<IgnoredAny>(&text).map_err(JsonError::NotJson)?;
        } else {
            let unread = serde_json::from_str::<Readable>(&text).err();
            if let Some(error) = unread {
                // What is JSON all the same has a number that no type can hold.
                return Err(match serde_json::from_str::<IgnoredAny>(&text) {
                    Ok(_) => JsonError::Refused(Refusal::NumberOutOfRange),
                    Err(_) => JsonError::NotJson(error),
                });
            }
        }
        if text.trim_ascii_start().as_bytes().first() != Some(&b'{') {
            return Err(JsonError::NotAnObject);
        }
        if reserved_key {
            return Err(JsonError::Refused(Refusal::ReservedKey));
        }
        if depth > max_depth {
            let field = text.as_bytes().get(deepest_field).unwrap_or_default();
            let field = serde_json::from_slice::<String>(field).unwrap_or_default();
            let field = first_chars(&field, FIELD_CHARS).to_owned();
            return Err(JsonError::Refused(Refusal::TooDeep { field, found: depth, max: max_depth }));
        }
        Ok(Self { text, replaced })
    }

    /// Returns the number of characters that were replaced by U+FFFD.
    pub fn replaced(&self) -> usize {
        self.replaced
    }

    /// Returns the object's fields.
    pub fn fields(&self) -> JsonFields {
        self.fields_that(|_| true)
    }

    /// Returns the fields for whose names `wanted` returns true.
    pub fn fields_that(&self, wanted: impl Fn(&str) -> bool) -> JsonFields {
        // It was checked that the text is an object.
        JsonFields::read_wanted(&self.text, wanted).unwrap_or_default()
    }

    /// Returns the object as one value.
    pub fn to_text(&self) -> JsonText {
        serde_json::from_str::<&RawValue>(&self.text).map_or_else(|_| JsonText::empty_object(), JsonText::from_raw)
    }
}

/// Any value of which every part can be read: `IgnoredAny` takes numbers that no type can hold.
struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, Self>()?.is_some() {}
        Ok(self)
    }
}
