//! A property that does not hold, by its name: the one of `invariants` for what the sidecar alone can break, one of this
//! model's own for what only both ends together show.

use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Violation {
    pub property: &'static str,
    pub detail: Arc<str>,
}

pub fn violated(property: &'static str, detail: String) -> Violation {
    Violation { property, detail: detail.into() }
}

impl From<agentcom::machine::invariants::Violation> for Violation {
    fn from(violation: agentcom::machine::invariants::Violation) -> Self {
        violated(violation.property.into(), violation.detail)
    }
}
