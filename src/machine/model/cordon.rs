//! Whether new tasks are taken.

/// Whether new tasks are taken. The journal keeps whether it is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Cordon {
    /// They are.
    #[default]
    Off,
    /// None are.
    On,
    /// None are, and the hub's end of the link is left alone: it knows no refusal, and would hand out a task a minute.
    Away,
}

impl Cordon {
    /// Whether new tasks are refused.
    pub const fn is_on(self) -> bool {
        match self {
            Self::Off => false,
            Self::On | Self::Away => true,
        }
    }
}
