//! Who may do what: the roles of tokens and the permissions of each, as one table. It knows no tokens and no routes.

use serde::{Deserialize, Serialize};

/// The role of a token.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantNames,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// Reads the fleet and changes nothing.
    Viewer,
    /// Acts on tasks and agents.
    Operator,
    /// Does everything.
    Admin,
    /// Is one agent: works on tasks and acts on what is its own.
    Agent,
}

impl Role {
    /// The names of all roles, for messages.
    pub const NAMES: &'static str = "viewer, operator, admin, agent";

    /// Returns whether a token of this role has the permission.
    pub const fn may(self, permission: Permission) -> bool {
        let (viewer, operator, admin, agent, _) = permission.holders();
        match self {
            Self::Viewer => viewer,
            Self::Operator => operator,
            Self::Admin => admin,
            Self::Agent => agent,
        }
    }
}

/// Something that a role may or may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::VariantArray)]
pub enum Permission {
    /// Read agents, tasks and their states.
    ReadFleet,
    /// Read the agent that it is, and the tasks that it submitted or holds.
    ReadItself,
    /// Read the metrics, where they are not for everybody.
    ReadMetrics,
    /// Read the restarts of every agent.
    ReadAnyRestarts,
    /// Read the restarts of the agent that it is.
    ReadOwnRestarts,
    /// Read the audit.
    ReadAudit,
    /// Submit tasks, and push one to an agent.
    SubmitTasks,
    /// Submit tasks for the agent that it is.
    SubmitToItself,
    /// Cancel and retry every task.
    ActOnAnyTask,
    /// Cancel and retry the tasks that were submitted under its name.
    ActOnOwnTasks,
    /// Restart every agent.
    RestartAnyAgent,
    /// Restart the agent that it is.
    RestartItself,
    /// Drain agents, and let them take tasks again.
    DrainAgents,
    /// Set the labels of agents.
    LabelAgents,
    /// Make, list and revoke tokens and invitations, and register agents where registration is closed.
    ManageTokens,
    /// Revoke the agents' tokens of its own name.
    RevokeOwnTokens,
    /// List the records of the store that cannot be read.
    InspectStore,
    /// Change the hub's settings.
    ChangeSettings,
    /// Get a copy of the whole store, with the hashes of all tokens and every result.
    BackUpStore,
    /// Connect as the agent of its name.
    Identify,
}

impl Permission {
    /// Returns whether viewers, operators, admins, agents, and agents that registered openly have it.
    #[rustfmt::skip]
    const fn holders(self) -> (bool, bool, bool, bool, bool) {
        match self {
            //                       viewer operator admin agent openly registered
            Self::ReadFleet       => (true,  true,  true, true,  false),
            Self::ReadItself      => (true,  true,  true, true,  true),
            Self::ReadMetrics     => (true,  true,  true, true,  false),
            Self::ReadAnyRestarts => (true,  true,  true, false, false),
            Self::ReadOwnRestarts => (true,  true,  true, true,  true),
            Self::ReadAudit       => (false, true,  true, false, false),
            Self::SubmitTasks     => (false, true,  true, true,  false),
            Self::SubmitToItself  => (false, true,  true, true,  true),
            Self::ActOnAnyTask    => (false, true,  true, false, false),
            Self::ActOnOwnTasks   => (false, true,  true, true,  true),
            Self::RestartAnyAgent => (false, true,  true, false, false),
            Self::RestartItself   => (false, true,  true, true,  true),
            Self::DrainAgents     => (false, true,  true, false, false),
            Self::LabelAgents     => (false, true,  true, false, false),
            Self::ManageTokens    => (false, false, true, false, false),
            Self::RevokeOwnTokens => (false, false, true, true,  true),
            Self::InspectStore    => (false, false, true, false, false),
            Self::ChangeSettings  => (false, false, true, false, false),
            Self::BackUpStore     => (false, false, true, false, false),
            Self::Identify        => (false, false, true, true,  true),
        }
    }

    /// Returns whether the token of an agent that registered without an admin or an invitation has it.
    pub const fn is_of_the_openly_registered(self) -> bool {
        let (.., openly) = self.holders();
        openly
    }

    /// Returns the role with the fewest rights that a person's token needs for it.
    pub const fn needed_role(self) -> Role {
        let (viewer, operator, ..) = self.holders();
        match (viewer, operator) {
            (true, _) => Role::Viewer,
            (false, true) => Role::Operator,
            (false, false) => Role::Admin,
        }
    }
}

#[cfg(test)]
mod tests {
    use strum::{VariantArray as _, VariantNames};

    use super::*;

    #[test]
    fn each_role_of_a_person_may_do_what_the_one_below_may_and_an_admin_everything() {
        for permission in Permission::VARIANTS {
            assert!(!Role::Viewer.may(*permission) || Role::Operator.may(*permission), "{permission:?}");
            assert!(Role::Admin.may(*permission), "{permission:?}");
            assert!(permission.needed_role().may(*permission), "{permission:?}");
        }
    }

    #[test]
    fn a_viewer_only_reads() {
        use Permission::{ReadAnyRestarts, ReadFleet, ReadItself, ReadMetrics, ReadOwnRestarts};
        let held: Vec<_> = Permission::VARIANTS.iter().filter(|permission| Role::Viewer.may(**permission)).collect();
        assert_eq!(held, [&ReadFleet, &ReadItself, &ReadMetrics, &ReadAnyRestarts, &ReadOwnRestarts]);
    }

    #[test]
    fn an_agent_acts_on_what_is_its_own() {
        use Permission::{
            ActOnOwnTasks, Identify, ReadFleet, ReadItself, ReadMetrics, ReadOwnRestarts, RestartItself,
            RevokeOwnTokens, SubmitTasks, SubmitToItself,
        };
        let held: Vec<_> = Permission::VARIANTS.iter().filter(|permission| Role::Agent.may(**permission)).collect();
        let its_own =
            [ReadItself, ReadOwnRestarts, SubmitToItself, ActOnOwnTasks, RestartItself, RevokeOwnTokens, Identify];
        let of_all: Vec<_> = held.iter().filter(|permission| !its_own.contains(permission)).collect();
        assert_eq!((held.len(), of_all), (10, vec![&&ReadFleet, &&ReadMetrics, &&SubmitTasks]));
        // Who registered openly has only what is its own.
        let openly: Vec<_> = Permission::VARIANTS.iter().filter(|it| it.is_of_the_openly_registered()).collect();
        assert_eq!(openly, its_own.iter().collect::<Vec<_>>());
    }

    #[test]
    fn names_are_those_of_the_api() {
        assert_eq!(Role::NAMES, <Role as VariantNames>::VARIANTS.join(", "));
        assert_eq!("operator".parse(), Ok(Role::Operator));
        assert_eq!(serde_json::to_string(&Role::Viewer).unwrap(), "\"viewer\"");
        assert_eq!(Role::Admin.to_string(), "admin");
        assert!("Admin".parse::<Role>().is_err());
    }
}
