//! One or more statuses of agents, in JSON: a name, or a list of names.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, IntoDeserializer as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hub::scheduler::inventory::status::AgentStatus;

/// One or more statuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses(pub BTreeSet<AgentStatus>);

impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.0.first(), self.0.len()) {
            (Some(one), 1) => one.serialize(serializer),
            _ => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = BTreeSet<AgentStatus>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status, or a list of them")
            }

            fn visit_str<E: de::Error>(self, one: &str) -> Result<Self::Value, E> {
                AgentStatus::deserialize(one.into_deserializer()).map(|status| BTreeSet::from([status]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, more: A) -> Result<Self::Value, A::Error> {
                BTreeSet::deserialize(SeqAccessDeserializer::new(more))
            }
        }

        deserializer.deserialize_any(OneOrMore).map(Self)
    }
}
