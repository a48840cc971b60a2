//! The fields of frames and bodies, and the types of their values.

use crate::protocol::JsonType;

/// The type of a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any string.
    Text,
    /// A whole number.
    Integer,
    /// A whole number, 0 or more.
    Count,
    /// Any number.
    Number,
    /// `true` or `false`.
    Flag,
    /// An object.
    Object,
    /// An array of strings.
    Texts,
    /// An array of objects.
    Objects,
    /// An array of anything.
    List,
    /// Anything: what makes no sense in it is left out later, and refuses nothing.
    Any,
}

impl Kind {
    /// Returns the type's name in errors.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Integer => "integer",
            Self::Count => "integer of 0 or more",
            Self::Number => "number",
            Self::Flag => "boolean",
            Self::Object => "object",
            Self::Texts | Self::Objects | Self::List => "array",
            Self::Any => "anything",
        }
    }

    /// Returns whether the value with this JSON text has this type. The items of an array are not checked.
    pub(super) fn fits(self, text: &str) -> bool {
        let found = JsonType::of(text);
        match self {
            Self::Text => found == JsonType::String,
            Self::Integer => text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok(),
            Self::Count => found == JsonType::Number && text.parse::<u64>().is_ok(),
            Self::Number => found == JsonType::Number,
            Self::Flag => found == JsonType::Boolean,
            Self::Object => found == JsonType::Object,
            Self::Texts | Self::Objects | Self::List => found == JsonType::Array,
            Self::Any => true,
        }
    }

    /// Returns the type of every item of an array, if it has one.
    pub(super) const fn item(self) -> Option<Self> {
        match self {
            Self::Texts => Some(Self::Text),
            Self::Objects => Some(Self::Object),
            Self::Text
            | Self::Integer
            | Self::Count
            | Self::Number
            | Self::Flag
            | Self::Object
            | Self::List
            | Self::Any => None,
        }
    }
}

/// One field of a message or a body.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
}

impl Field {
    /// Returns the field's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns whether the field has this name.
    pub fn is(&self, name: &str) -> bool {
        self.name == name
    }
}

/// Creates a required field.
pub const fn must(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: true }
}

/// Creates an optional field. `null` counts as absent.
pub const fn may(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: false }
}
