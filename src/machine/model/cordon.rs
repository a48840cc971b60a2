//! The cordon: whether new tasks are taken.

/// Whether new tasks are taken. The journal holds whether the cordon is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Cordon {
    /// New tasks are taken.
    #[default]
    Off,
    /// No new tasks are taken.
    On,
    /// No new tasks are taken, and there is no connection: the hub does not know `task_rejected` and would assign a
    /// task every minute.
    Away,
}

impl Cordon {
    /// Returns whether new tasks are refused.
    pub const fn is_on(self) -> bool {
        match self {
            Self::Off => false,
            Self::On | Self::Away => true,
        }
    }
}
