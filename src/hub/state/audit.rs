//! The audit: one entry for each act that changed something on behalf of somebody, stored in the same commit as the act.
//! It holds no secrets: tokens and invitations appear by their ids.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::common::text::first_chars;
use crate::hub::scheduler::selector::Selector;
use crate::hub::state::bucket::{Bucket, Rate};
use crate::hub::state::roles::Role;

/// The largest number of characters of a text in an entry; a longer one is cut.
const MAX_CHARS: usize = 256;

/// The name under which a client without a token is recorded.
pub const STRANGER: &str = "unauthenticated";

/// The way in which an act reached the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Via {
    /// Over HTTP.
    Http,
    /// By a command on the hub's machine, through the hub's socket.
    Socket,
    /// By a command on the hub's machine while no hub ran.
    Offline,
    /// By the hub itself, as one of its healing rules says.
    Rule,
}

/// What was done.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Action {
    /// A token was made.
    TokenIssued,
    /// A token was made in place of others.
    TokenReplaced,
    /// Tokens were revoked.
    TokenRevoked,
    /// An agent registered, and got the first token of its name.
    AgentRegistered,
    /// An invitation was made.
    InvitationMade,
    /// An invitation was used to register.
    InvitationRedeemed,
    /// An invitation was withdrawn.
    InvitationRevoked,
    /// A restart was commanded, or an open command was forced.
    RestartCommanded,
    /// A rollout was started.
    RolloutStarted,
    /// A rollout was promoted: its canary is believed.
    RolloutPromoted,
    /// A rollout was paused.
    RolloutPaused,
    /// A rollout was resumed.
    RolloutResumed,
    /// A rollout was cancelled.
    RolloutCancelled,
    /// The commands of a rollout that had not reached their agents were withdrawn.
    RolloutRecalled,
    /// The failed targets of a rollout are tried again.
    RolloutRetried,
    /// An agent was drained, or its drain was changed.
    AgentDrained,
    /// The drain of an agent was ended.
    AgentResumed,
    /// The labels of an agent were changed.
    LabelsChanged,
    /// A task was cancelled.
    TaskCancelled,
    /// A dead letter was queued again.
    TaskRetried,
    /// A setting was changed.
    SettingChanged,
    /// A copy of the store was made and handed over.
    BackupMade,
}

/// Who acts, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Author {
    /// The name of the agent or operator; `uid:N` for a command on the hub's machine, `invitation:ID` for who has one,
    /// `rule:NAME` for a healing rule, and
    /// [`STRANGER`] for any other client without a token.
    pub who: String,
    /// The role of its token; `None` without a token.
    pub role: Option<Role>,
    /// The id of its token; `None` without a token.
    pub token: Option<String>,
    /// The way.
    pub via: Via,
    /// Whether it is an agent that registered openly: nobody vouched for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub registered_openly: bool,
}

impl Author {
    /// Returns the author of a command on the hub's machine: who may open the data folder may do everything.
    pub fn on_this_machine(uid: u32, via: Via) -> Self {
        Self { who: format!("uid:{uid}"), role: Some(Role::Admin), token: None, via, registered_openly: false }
    }

    /// Returns the author of a request without a token.
    pub fn stranger() -> Self {
        Self { who: STRANGER.to_owned(), role: None, token: None, via: Via::Http, registered_openly: false }
    }

    /// Returns the author of what a healing rule does, of this name.
    pub fn rule(who: &str) -> Self {
        Self { who: who.to_owned(), via: Via::Rule, ..Self::stranger() }
    }

    /// Returns the author of a registration by invitation.
    pub fn invited(invitation_id: &str) -> Self {
        Self { who: format!("invitation:{invitation_id}"), ..Self::stranger() }
    }

    /// Returns whether nobody vouched for it.
    fn is_a_stranger(&self) -> bool {
        self.registered_openly || self.who == STRANGER
    }
}

/// One act. Its number in the audit is given when it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Entry {
    /// The time, in ms since the epoch.
    pub at_ms: u64,
    /// Who did it.
    #[serde(flatten)]
    pub author: Author,
    /// What was done.
    pub action: Action,
    /// What it was done to: the name of an agent or operator, or the id of a task, a rollout or an invitation, or a
    /// setting's name, or `store`.
    pub target: String,
    /// The reason that was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The selector, as text, by which the agent was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// How many it concerned, where that is not one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// What was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

impl Entry {
    /// Creates the entry of an act with nothing more to say of it.
    pub fn new(author: &Author, action: Action, target: &str, at_ms: u64) -> Self {
        Self {
            at_ms,
            author: author.clone(),
            action,
            target: cut(target),
            reason: None,
            selector: None,
            count: None,
            old: None,
            new: None,
        }
    }

    /// Adds the reason.
    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        self.reason = Some(cut(reason));
        self
    }

    /// Adds the selector by which the agent was found, if there was one.
    #[must_use]
    pub fn selected_by(mut self, selector: Option<&Selector>) -> Self {
        self.selector = selector.map(|selector| cut(&selector.to_string()));
        self
    }

    /// Adds the number of what it concerned.
    #[must_use]
    pub fn count(mut self, count: usize) -> Self {
        self.count = Some(u64::try_from(count).unwrap_or(u64::MAX));
        self
    }

    /// Adds what was before and what is now.
    #[must_use]
    pub fn change(mut self, old: Option<String>, new: Option<String>) -> Self {
        (self.old, self.new) = (old.as_deref().map(cut), new.as_deref().map(cut));
        self
    }
}

fn cut(text: &str) -> String {
    first_chars(text, MAX_CHARS).to_owned()
}

/// An entry as it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Numbered {
    /// Its number: each is larger than those of the entries before it.
    pub seq: u64,
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
}

/// What is asked of the audit; what is absent does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Only acts of this author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// Only acts of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Only acts on this target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Only acts since this time, in ms since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

impl Filter {
    /// Returns whether the entry is asked for.
    pub fn matches(&self, entry: &Entry) -> bool {
        self.who.as_ref().is_none_or(|who| *who == entry.author.who)
            && self.action.is_none_or(|action| action == entry.action)
            && self.target.as_ref().is_none_or(|target| *target == entry.target)
            && self.since.is_none_or(|since| since <= entry.at_ms)
    }
}

/// One page of the audit, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Page {
    /// The entries.
    pub items: Vec<Numbered>,
    /// The number before which the next page begins; `None` if nothing follows.
    pub next_cursor: Option<u64>,
}

/// How often what strangers do gets an entry of its own: they must not push the acts of others out of the audit.
const BY_STRANGERS: Rate = Rate { at_once: 60, pause_ms: 60_000 };

/// Entries that are not stored yet.
#[derive(Debug, Default)]
pub struct Audit {
    dirty: Vec<Entry>,
    /// What is left for strangers, from their first act on.
    strangers: Option<Bucket>,
    /// The number of their acts of each kind that got no entry, since the last one that did.
    folded: BTreeMap<Action, u64>,
}

impl Audit {
    /// Adds an entry. Of what strangers do beyond [`BY_STRANGERS`] it counts how often: the next entry of the kind that is
    /// added says for how many it stands.
    pub fn record(&mut self, mut entry: Entry) {
        if entry.author.is_a_stranger() {
            let bucket = self.strangers.get_or_insert(Bucket::new(BY_STRANGERS, entry.at_ms));
            if bucket.take(entry.at_ms).is_err() {
                *self.folded.entry(entry.action).or_default() += 1;
                return;
            }
            if let Some(folded) = self.folded.remove(&entry.action) {
                entry.count = Some(entry.count.unwrap_or(1) + folded);
            }
        }
        self.dirty.push(entry);
    }

    /// Returns the entries to store since the last call.
    pub fn take_dirty(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.dirty)
    }
}

/// Returns an address without the name and password in it, which are a secret.
pub fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}{path}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let author =
            Author { role: Some(Role::Operator), token: Some("12ab".into()), who: "ops".into(), ..Author::stranger() };
        Entry::new(&author, Action::RestartCommanded, "a", 7)
    }

    #[test]
    fn an_entry_is_one_flat_object_and_is_read_back() {
        let numbered = Numbered { seq: 3, entry: entry().because("disk") };
        let text = serde_json::to_string(&numbered).unwrap();
        let expected = r#"{"seq":3,"at_ms":7,"who":"ops","role":"operator","token":"12ab","via":"http","action":"restart_commanded","target":"a","reason":"disk"}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Numbered>(&text).unwrap(), numbered);
    }

    #[test]
    fn what_somebody_writes_at_length_is_cut() {
        let long = "ä".repeat(1000);
        let entry = Entry::new(&Author::stranger(), Action::TaskCancelled, &long, 1).because(&long);
        let entry = entry.change(Some(long.clone()), Some(long));
        assert!(serde_json::to_vec(&entry).unwrap().len() < 4 * 2 * MAX_CHARS + 256);
    }

    #[test]
    fn a_flood_of_open_registrations_leaves_a_few_entries_that_stand_for_all() {
        let mut audit = Audit::default();
        let registered = |at_ms| Entry::new(&Author::stranger(), Action::AgentRegistered, "a", at_ms);
        for n in 0..5_000 {
            audit.record(registered(n));
        }
        // What others do is there whatever strangers do, and what one does to itself in a loop counts as well.
        audit.record(entry());
        let author = Author { registered_openly: true, ..entry().author };
        audit.record(Entry::new(&author, Action::TaskCancelled, "t", 5_000));
        audit.record(registered(60_000));
        audit.record(registered(180_000));
        assert_eq!(audit.folded, [(Action::TaskCancelled, 1)].into());
        let entries = audit.take_dirty();
        assert_eq!(entries.iter().filter(|it| it.action == Action::RestartCommanded).count(), 1);
        audit.dirty = entries.into_iter().filter(|it| it.action == Action::AgentRegistered).collect();
        let counts: Vec<Option<u64>> = audit.take_dirty().into_iter().map(|entry| entry.count).collect();
        assert_eq!((counts.len(), &counts[60..]), (62, &[Some(4_941), None][..]));
        assert!(counts[..60].iter().all(Option::is_none));
    }

    #[test]
    fn a_filter_asks_for_what_it_names_and_nothing_else() {
        let all = Filter::default();
        let wanted = Filter {
            who: Some("ops".into()),
            action: Some(Action::RestartCommanded),
            target: Some("a".into()),
            since: Some(7),
        };
        assert!(all.matches(&entry()) && wanted.matches(&entry()));
        for other in [
            Filter { who: Some("op".into()), ..all.clone() },
            Filter { action: Some(Action::TaskCancelled), ..all.clone() },
            Filter { target: Some("b".into()), ..all.clone() },
            Filter { since: Some(8), ..all },
        ] {
            assert!(!other.matches(&entry()), "{other:?}");
        }
    }

    #[test]
    fn an_address_is_kept_without_its_password() {
        for (url, shown) in [
            ("https://user:pass@host/x.git", "https://***@host/x.git"),
            ("https://t@host", "https://***@host"),
            ("https://p@ss@host:1/a@b", "https://***@host:1/a@b"),
            ("https://host/a@b", "https://host/a@b"),
            ("git@host:x.git", "git@host:x.git"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }
}
