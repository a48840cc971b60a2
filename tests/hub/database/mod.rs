//! The store in PostgreSQL, beside the store in a file: the same suite for both, and what only several hubs on one database can
//! do to each other.

mod commits;
mod copies;
mod faults;
mod nodes;

use agentcom::hub::cluster::leadership::lead;
use agentcom::hub::scheduler::Changes;
use agentcom::hub::state::audit::{Action, Author, Entry, Filter};
use agentcom::hub::state::store::postgres::{Candidate, Database};
use agentcom::hub::state::store::{DatabaseError, StateChanges, Store, StoreError};

/// What another process would be told of this one.
fn candidate(name: &str) -> Candidate {
    Candidate {
        node: name.to_owned(),
        url: format!("http://{name}"),
        secret: "s".to_owned(),
        term: format!("term of {name}"),
    }
}

/// The store of a process that leads.
async fn leader(url: &str, name: &str) -> Store {
    Store::Postgres(lead(&Database::parse(url).unwrap(), candidate(name)).await.unwrap())
}

/// A setting, and its entry in the audit.
fn setting(value: &str) -> StateChanges {
    let audit = vec![Entry::new(&Author::stranger(), Action::SettingChanged, value, 1)];
    StateChanges { settings: vec![("k".to_owned(), value.to_owned())], audit, speaks: true, ..StateChanges::default() }
}

fn commit(store: &Store, aside: &StateChanges) -> Result<bool, DatabaseError> {
    store.commit(&Changes::default(), aside).map_err(|error| {
        let StoreError::Database(error) = error else { panic!("{error}") };
        error
    })
}

/// The setting, and the targets of the audit's entries, the newest first.
fn held(store: &Store) -> (Option<String>, Vec<String>) {
    let page = store.audit().page(&Filter::default(), None, 1_000, usize::MAX).unwrap();
    let settings = store.load().unwrap().settings;
    (settings.into_iter().next().map(|(_, value)| value), page.items.into_iter().map(|it| it.entry.target).collect())
}

/// Lets somebody else take over at once.
const END_LEASE: &str = "update agentcom.leader set until = '-infinity'";
